"""F-CK-00: the committee's figure: dose levels side by side, and under the profiles what was given and happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._events import draw_event, event_keys, lanes_of
from nkinetics.figures._style import (
    FAINT,
    HEARD_UP_TO,
    INK,
    LINE_STYLES,
    MARKERS,
    MUTED,
    WIDTH,
    bare,
    below,
    below_key,
    canvas,
    day_axis,
    day_label,
    display,
    draw_below,
    draw_each,
    first_time,
    key,
    label_ends,
    last_time,
    legend,
    level_label,
    lines_of,
    log_axis,
    log_limits,
    marks_footnote,
    note_in,
    over,
    palette,
    panels,
    quantified,
    reportable,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.wording import (
    FOLLOW_UP_ENDS,
    Words,
    days,
    dose_levels,
    dose_names,
    everyone,
    follow_up_ends,
    grouped,
    profile_name,
    profiles,
    source_footnote,
    without_quantified,
)

NEEDS = ("observations", "patients", "infusions", "cytokines", "events")
USED = ["patient_id", "dose_level", "time_actual", "level", "lloq", "uloq", "status"]
LEFT: dict[str, dict[str, Any]] = {
    "death": {"marker": "X", "color": INK, "markersize": 5},
    "withdrawal": {"marker": "s", "markerfacecolor": "white", "markeredgecolor": INK, "markersize": 4},
}
"""Marks of those who left."""
STRIP_UP_TO = 14
"""With more patients in a dose level the strip of events would be unreadable and is left out."""


def draw(results: Results, context: Context) -> FigureBody:
    """One column per dose level (four at most a row), shared axes; first assay of the study."""
    words, kinds = words_of(context), profiles(results)
    if not len(kinds):
        none = words.say("No assay has a result.", "无检测结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    kind, levels, names = kinds.iloc[0], dose_levels(results)[:4], dose_names(results, context)
    most = max(int((results.patients["dose_level"] == d).sum()) for d in levels)
    strip = most <= STRIP_UP_TO
    lanes = lanes_of(results) if strip else {}
    heights = [sum(_row(lanes[p]) for p in _patients(results, d)) for d in levels] if strip else [0.0]
    profile_height, strip_height, top = 2.75, max(heights), 0.9
    figure = canvas(top + profile_height + (0.18 if strip else 0.0) + strip_height + 0.55)
    legend(figure, _keys(results, words, strip), 0.06, columns=5, x=0.1)
    upper = panels(figure, 1, len(levels), (0.68, top, WIDTH - 0.35, top + profile_height), (0.55, 0))[0]
    rows = reportable(results, kind["assay"], kind["specimen"])[USED]  # narrow: each patient's are taken out
    limits = log_limits(quantified(rows)["level"], below(rows)["lloq"])
    for position, (axes, dose_level) in enumerate(zip(upper, levels, strict=True)):
        axes.set_title(f"{names[dose_level]}, n = {len(_patients(results, dose_level))}", fontsize=9.5)
        day_axis(axes, first_time(results), last_time(results), most=7)
        log_axis(axes, *limits)
        _profiles(axes, results, rows, dose_level, words)
        bare(axes, x=strip, y=position > 0)
        if strip:
            over(axes)
        if position == 0:
            axes.set_ylabel(level_label(words, kind["level_unit"]))
    if strip:
        start = top + profile_height + 0.18
        lower = panels(figure, 1, len(levels), (0.68, start, WIDTH - 0.35, start + strip_height), (0.55, 0))[0]
        for axes, dose_level in zip(lower, levels, strict=True):
            _strip(axes, results, _patients(results, dose_level), lanes, strip_height, words)
    figure.text(0.5, 0.1 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    name = profile_name(context, kind["assay"], kind["specimen"], kind["level_unit"], kind["analyte"])
    return FigureBody(
        figure,
        _notes(results, context, kind, words, strip),
        _alt(results, rows, words),
        f"{everyone(results, words)} · {name}",
    )


def _keys(results: Results, words: Words, strip: bool) -> list[Any]:
    keys: list[Any] = [below_key(words)]
    if len(dose_levels(results)) > 1:
        keys.append(key(words.say("other dose level", "其他剂量水平"), color=FAINT, linestyle="-"))
    if not strip:
        return keys
    keys.append(key(words.say("infusion", "输注"), marker="v", markersize=4.5))
    cytokines = results.table("cytokines")
    if len(cytokines):
        keys.append(
            key(words.join(sorted(cytokines["agent"].unique())), marker="|", color=palette()[3], markeredgewidth=1.1)
        )
    left = {status for _, status in follow_up_ends(results).values()}
    keys += [key(words.pick(FOLLOW_UP_ENDS[status]), **look) for status, look in LEFT.items() if status in left]
    return [*keys, *event_keys(results, words)]


def _profiles(axes: Axes, results: Results, rows: Any, dose_level: str, words: Words) -> None:
    others = lines_of(rows[rows["dose_level"] != dose_level])
    draw_each(axes, list(others.values()), color=FAINT, linestyle="-", linewidth=0.7, zorder=1)
    ends: list[tuple[float, float, str, str]] = []
    line_of, colour_of = lines_of(rows), {}
    alike: dict[tuple[Any, ...], list[tuple[np.ndarray, np.ndarray]]] = {}
    for i, patient in enumerate(_patients(results, dose_level)):
        # Not the grey of the palette: the lines of the other dose level are grey.
        colour = [*(palette()[k] for k in (0, 3, 2, 4, 5)), INK, *(palette()[k] for k in (9, 1))][i % 8]
        colour_of[patient] = colour
        if patient in line_of:
            x, y = line_of[patient]
            alike.setdefault((colour, LINE_STYLES[i % len(LINE_STYLES)], MARKERS[i % len(MARKERS)]), []).append((x, y))
            ends.append((float(x[-1]), float(y[-1]), str(patient), colour))
    marked = rows[(rows["status"] != "quantified") & rows["patient_id"].isin(list(colour_of))]
    for colour, own in marked.groupby(marked["patient_id"].map(colour_of), sort=False):
        draw_below(axes, own, str(colour), 3.6)
    for (colour, dashes, marker), lines in alike.items():
        draw_each(axes, lines, marker, 3.4, len(ends), color=colour, linestyle=dashes, linewidth=1.3, zorder=4)
    if len(ends) <= STRIP_UP_TO:
        label_ends(axes, ends)
    drawn = {end[2] for end in ends}
    rest = [p for p in _patients(results, dose_level) if p not in drawn]
    if rest:
        shown = words.join(rest[:6]) + (" …" if len(rest) > 6 else "")
        note_in(axes, words.colon(words.say("no quantified level", "无可定量水平"), shown))


def _patients(results: Results, dose_level: str) -> list[str]:
    return list(results.patients.loc[results.patients["dose_level"] == dose_level, "patient_id"])


def _row(lanes: list[list[Any]]) -> float:
    """Height of a patient's row in the strip, inches: one lane for what was given, one for each layer of events."""
    return 0.2 + 0.13 * len(lanes)


def _strip(
    axes: Axes, results: Results, patients: list[str], lanes: dict[str, list[list[Any]]], height: float, words: Words
) -> None:
    """One row per patient, in inches from the top: follow-up, infusions, cytokines, events with their grade."""
    axes.set_ylim(height, 0)
    day_axis(axes, first_time(results), last_time(results), most=7)
    seen, infusions, cytokines = reportable(results), results.table("infusions"), results.table("cytokines")
    ends = follow_up_ends(results)
    middles, y = [], 0.0
    for patient in patients:
        given_at = y + 0.09
        middles.append(given_at)
        times = seen.loc[seen["patient_id"] == patient, "time_actual"]
        if len(times):
            axes.plot(
                display([min(0.0, times.min()), times.max()]), [given_at] * 2, color="#d5dae0", linewidth=0.9, zorder=1
            )
        else:
            text, right = words.say("no reportable sample", "无可报告样本"), float(display(last_time(results)))
            axes.text(right, given_at, text, fontsize=6.9, color=MUTED, style="italic", ha="right", va="center")
        end, status = ends[patient]
        if status in LEFT:
            start = times.max() if len(times) else 0.0
            axes.plot(display([start, end]), [given_at] * 2, color="#d5dae0", linewidth=0.9, zorder=1)
            axes.plot(display([end]), [given_at], linestyle="none", clip_on=False, zorder=5, **LEFT[status])
        look: dict[str, Any] = {"linestyle": "none", "zorder": 4}
        given = infusions.loc[infusions["patient_id"] == patient, "time"].dropna()
        axes.plot(display(given), np.full(len(given), given_at - 0.03), marker="v", color=INK, markersize=4.2, **look)
        pulses = display(cytokines.loc[cytokines["patient_id"] == patient, "time"].dropna())
        axes.plot(
            pulses,
            np.full(len(pulses), given_at + 0.05),
            marker="|",
            color=palette()[3],
            markersize=3.6,
            markeredgewidth=1.1,
            **look,
        )
        for layer, events in enumerate(lanes[patient]):
            for event in events:
                draw_event(axes, given_at + 0.14 + 0.13 * layer, event)
        y += _row(lanes[patient])
    axes.set_yticks(middles, patients, fontsize=7.2)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _notes(results: Results, context: Context, kind: Any, words: Words, strip: bool) -> tuple[str, ...]:
    notes = [marks_footnote(words)]
    reasons = without_quantified(results, context, kind["assay"], kind["specimen"])
    if reasons:
        shown = grouped(reasons, words)
        notes.append(words.say(f"Without a quantified level: {shown}.", f"无可定量水平：{shown}。"))
    if strip:
        notes.append(
            words.say(
                "Under the profiles: grey line = follow-up by samples; letters with grade: C "
                "CRS, N ICANS, I infection, T tocilizumab, S steroid.",
                "曲线下方：灰线为采样随访；字母及级别：C 为 CRS，N 为 ICANS，I 为感染，T 为托珠单抗，S 为激素。",
            )
        )
    else:
        notes.append(
            words.say(
                f"More than {STRIP_UP_TO} patients in a dose level: events stand in the table of dosing.",
                f"某剂量水平超过 {STRIP_UP_TO} 例：事件见给药表。",
            )
        )
    if len(dose_levels(results)) > 4:
        notes.append(
            words.say(
                "Only the first four dose levels are drawn here; all stand in the figure by dose level.",
                "此处仅绘前四个剂量水平；全部见按剂量水平的图。",
            )
        )
    return (*notes, source_footnote(results, context, NEEDS))


def _alt(results: Results, rows: pd.DataFrame, words: Words) -> str:
    seen, parts = quantified(rows), []
    if len(results.patients) > HEARD_UP_TO:
        peaks = seen.groupby("patient_id")["level"].max()
        for dose_level in dose_levels(results):
            own = peaks[peaks.index.isin(_patients(results, dose_level))]
            n = len(_patients(results, dose_level))
            told = words.say(f"{len(own)} of {n} patients quantified", f"{n} 例中 {len(own)} 例可定量")
            if len(own):
                low, middle, high = (f"{v:.3g}" for v in (own.min(), own.median(), own.max()))
                told += words.say(
                    f", peaks {low} to {high}, median {middle}", f"，峰值 {low} 至 {high}，中位数 {middle}"
                )
            parts.append(words.colon(dose_level, told))
        return words.say("; ", "；").join(parts)
    of_patient = by_patient(seen)
    for patient in results.patients.itertuples():
        line = of_patient(str(patient.patient_id))
        if not len(line):
            parts.append(
                words.say(
                    f"{patient.patient_id} ({patient.dose_level}) none quantified",
                    f"{patient.patient_id}（{patient.dose_level}）无可定量",
                )
            )
            continue
        peak = line.loc[line["level"].idxmax()]
        parts.append(
            words.say(
                f"{patient.patient_id} ({patient.dose_level}) peak "
                f"{peak['level']:.3g} at {days(peak['time_actual'])} d",
                f"{patient.patient_id}（{patient.dose_level}）峰值 {peak['level']:.3g}，{days(peak['time_actual'])} 天",
            )
        )
    return words.say("; ", "；").join(parts)


FIGURE = Figure(
    name="overview",
    id="F-CK-00",
    number="0",
    title={"en": "Individual profiles and events, dose levels side by side", "zh": "各剂量水平个体曲线与事件"},
    needs=NEEDS,
    draw=draw,
)
