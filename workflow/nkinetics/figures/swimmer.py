"""F-CK-11: every patient over time: infusions, cytokines, detectability, events with their grade, response, the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure

from nkinetics.figures._events import EVENT_MARKS, draw_event, event_keys, lanes_of
from nkinetics.figures._style import (
    BELOW,
    FAINT,
    INK,
    MUTED,
    WIDTH,
    canvas,
    day_axis,
    day_label,
    display,
    dose_look,
    key,
    legend,
    palette,
    panels,
    reportable,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import (
    FOLLOW_UP_ENDS,
    Words,
    days,
    dose_names,
    everyone,
    follow_up_ends,
    grouped,
    missing,
    profile_name,
    profiles,
    source_footnote,
    without_quantified,
)

NEEDS = ("observations", "patients", "infusions", "cytokines", "events")
SPLIT, LONG = 28.0, 60.0
"""A follow-up longer than LONG days has the days to SPLIT in a panel of their own, on a scale of their own."""
MARKED_UP_TO = 60
"""With more patients the samples have no mark of their own, and rows are lower."""
LETTERS = 0.24
"""Room of the letters of an event [inches]."""
END_MARKS: dict[str, dict[str, Any]] = {
    "death": {"marker": "X", "color": INK, "markersize": 6},
    "withdrawal": {"marker": "s", "markerfacecolor": "white", "markeredgecolor": INK, "markersize": 5},
    "data_cut": {"marker": "|", "color": INK, "markersize": 7, "markeredgewidth": 1.4},
    "ongoing": {"marker": ">", "color": INK, "markersize": 4.5},
}


@dataclass(frozen=True)
class Row:
    """A patient's place: height of the line from the top and of a layer of events [inches]; end of follow-up [d]."""

    y: float
    end: float
    status: str
    layers: list[list[Any]]
    layer: float


def draw(results: Results, context: Context) -> FigureBody:
    """One row per patient, dose levels one below the other; a patient without samples keeps the row."""
    words, kinds = words_of(context), profiles(results)
    if not len(kinds):
        none = words.say("No assay has a result.", "无检测结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    kind, ends = kinds.iloc[0], follow_up_ends(results)
    last = max([1.0, *(end for end, _ in ends.values())])
    parts = [(0.0, SPLIT, 0.6), (SPLIT, last, 0.4)] if last > LONG else [(0.0, last, 1.0)]
    left, right, across = 1.0, WIDTH - 0.2, 0.25
    inches = right - left - across * (len(parts) - 1)
    rows, height = _rows(results, ends, _room(parts, inches))
    top = 0.86
    figure = canvas(top + height + 0.5)
    legend(figure, _keys(results, words, ends), 0.06, columns=6, x=0.1)
    boxes, at = [], left
    for _, _, share in parts:
        boxes.append((at, top, at + inches * share, top + height))
        at += inches * share + across
    seen = reportable(results, str(kind["assay"]), str(kind["specimen"]))
    for index, ((start, end, _), box) in enumerate(zip(parts, boxes, strict=True)):
        axes = panels(figure, 1, 1, box, (0, 0))[0, 0]
        axes.set_ylim(height, 0)
        day_axis(axes, start, end, most=9 if index == 0 else 7)
        if index:
            # The second part begins where the first ends, not at day 1.
            air = 0.03 * (end - start)
            axes.set_xlim(display(start), display(end) + air)
        _patients(axes, results, rows, seen, index == 0, words)
    _levels(figure, results, context, rows, top)
    figure.text(0.5, 0.1 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    name = profile_name(context, str(kind["assay"]), str(kind["specimen"]), str(kind["level_unit"]))
    subtitle = f"{everyone(results, words)} · {name}"
    return FigureBody(figure, _notes(results, context, kind, parts, words), _alt(results, seen, ends, words), subtitle)


def _room(parts: list[tuple[float, float, float]], inches: float) -> Callable[[float], float]:
    """The time that the letters of an event take up, on the scale of the part in which it starts [d]."""

    def width(time: float) -> float:
        start, end, share = parts[0] if len(parts) == 1 or time < SPLIT else parts[1]
        return LETTERS * (end - start) / (inches * share)

    return width


def _rows(
    results: Results, ends: dict[str, tuple[float, str]], width: Callable[[float], float]
) -> tuple[dict[str, Row], float]:
    """Place of every patient, and the height of all [inches]."""
    lanes = lanes_of(results, width, ("response", "therapy"))
    line, layer = (0.22, 0.13) if len(results.patients) <= MARKED_UP_TO else (0.15, 0.1)
    found, y, before = {}, 0.08, ""
    for patient in results.patients.itertuples():
        if before and patient.dose_level != before:
            y += 0.14
        before = str(patient.dose_level)
        mine = lanes[str(patient.patient_id)]
        end, status = ends[str(patient.patient_id)]
        found[str(patient.patient_id)] = Row(y + 0.1, end, status, mine, layer)
        y += line + layer * len(mine) + 0.04
    return found, y + 0.05


def _patients(
    axes: Axes, results: Results, rows: dict[str, Row], seen: pd.DataFrame, first: bool, words: Words
) -> None:
    """The rows of all patients in one part of the time axis."""
    infusions, cytokines = results.table("infusions"), results.table("cytokines")
    colours = dose_look(results)
    dose_of = dict(zip(results.patients["patient_id"], results.patients["dose_level"], strict=True))
    low, high = axes.get_xlim()
    for patient, row in rows.items():
        colour = colours[str(dose_of[patient])][0]
        own = seen[seen["patient_id"] == patient]
        axes.plot(display([0.0, row.end]), [row.y] * 2, color=FAINT, linewidth=1.0, zorder=1)
        _detectability(axes, own, row.y, colour, len(rows) <= MARKED_UP_TO)
        look: dict[str, Any] = {"linestyle": "none", "zorder": 5}
        given = infusions[(infusions["patient_id"] == patient) & (infusions["given"].fillna(1.0) > 0)]["time"].dropna()
        _inside(axes, display(given), row.y - 0.085, {"marker": "v", "color": INK, "markersize": 4.2, **look})
        pulses = cytokines.loc[cytokines["patient_id"] == patient, "time"].dropna()
        tick = {"marker": "|", "color": palette()[3], "markersize": 3.8, "markeredgewidth": 1.2, **look}
        _inside(axes, display(pulses), row.y + 0.075, tick)
        _inside(axes, display([row.end]), row.y, {**END_MARKS[row.status], **look, "zorder": 6})
        for layer, events in enumerate(row.layers):
            for event in events:
                _event(axes, row.y + 0.03 + row.layer * (layer + 1), event, (low, high), first)
        if first and not len(own):
            axes.text(
                low + 0.99 * (high - low),
                row.y - 0.07,
                words.say("no reportable sample", "无可报告样本"),
                fontsize=6.9,
                color=MUTED,
                style="italic",
                ha="right",
                va="center",
            )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if first:
        axes.set_yticks([r.y for r in rows.values()], list(rows), fontsize=7.2 if len(rows) <= MARKED_UP_TO else 6.9)
    else:
        axes.set_yticks([])
        axes.axvline(low, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))


def _inside(axes: Axes, x: Any, y: float, look: dict[str, Any]) -> None:
    """Marks that lie in the part: outside they would be clipped in half at its edge."""
    low, high = axes.get_xlim()
    shown = [v for v in np.atleast_1d(np.asarray(x, dtype=float)) if low < v <= high or (low == v and low < 2)]
    if shown:
        axes.plot(shown, np.full(len(shown), y), clip_on=False, **look)


def _detectability(axes: Axes, own: pd.DataFrame, y: float, colour: str, marked: bool) -> None:
    """Thick between samples that are quantified one after the other; each sample with its mark."""
    rows = own[own["status"].isin(("quantified", "above_uloq", *BELOW))].sort_values("time_actual")
    x = display(rows["time_actual"])
    seen = ~rows["status"].isin(BELOW).to_numpy()
    if len(x) > 1:
        both = seen[1:] & seen[:-1]
        # One path with gaps, not a line for each pair.
        pieces = [(x[i], x[i + 1]) if both[i] else (np.nan, np.nan) for i in range(len(x) - 1)]
        flat = np.array(pieces, dtype=float).ravel()
        axes.plot(flat, np.full(flat.size, y), color=colour, linewidth=3.6, alpha=0.45, solid_capstyle="butt", zorder=2)
    if not marked:
        return
    look: dict[str, Any] = {"markersize": 2.7, "zorder": 4}
    _inside(axes, x[seen], y, {"marker": "o", "color": colour, "linestyle": "none", **look})
    hollow = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.8, "linestyle": "none"}
    for status, marker in (("blq", "v"), ("not_detected", "o")):
        _inside(axes, x[(rows["status"] == status).to_numpy()], y, {"marker": marker, **hollow, **look})


def _event(axes: Axes, y: float, event: Any, limits: tuple[float, float], first: bool) -> None:
    """An event in the part where it starts; its bar goes on into the next."""
    low, high = limits
    start = float(display(event.time))
    end = start if missing(event.time_end) else float(display(event.time_end))
    starts_here = (low <= start < high) if first else (low < start <= high)
    if str(event.event) in EVENT_MARKS:
        if starts_here:
            draw_event(axes, y, event)
        elif start <= low < end:
            colour = palette()[EVENT_MARKS[str(event.event)][1]]
            axes.plot([low, end], [y, y], color=colour, linewidth=6.5, solid_capstyle="butt", alpha=0.6, zorder=2)
        return
    if not starts_here:
        return
    text = "Rx" if event.event == "therapy" else str(event.value or "?")[:4]
    frame = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": MUTED, "linewidth": 0.6}
    ha = "left" if start < high - 0.05 * (high - low) else "right"
    axes.text(start, y, text, fontsize=6.9, fontweight="bold", ha=ha, va="center", color=INK, zorder=5, bbox=frame)


def _levels(figure: MatplotlibFigure, results: Results, context: Context, rows: dict[str, Row], top: float) -> None:
    """Names of the dose levels beside their rows."""
    names, looks = dose_names(results, context), dose_look(results)
    for dose_level, own in results.patients.groupby("dose_level", sort=True):
        places = [rows[str(p)].y for p in own["patient_id"]]
        middle = top + (min(places) + max(places)) / 2
        figure.text(
            0.14 / WIDTH,
            1 - middle / figure.get_figheight(),
            names[str(dose_level)] if len(places) > 2 else str(dose_level),
            fontsize=7.6,
            fontweight="bold",
            color=looks[str(dose_level)][0],
            rotation=90,
            ha="center",
            va="center",
        )


def _keys(results: Results, words: Words, ends: dict[str, tuple[float, str]]) -> list[Any]:
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": MUTED, "markeredgewidth": 0.8}
    keys = [
        key(words.say("quantified", "可定量"), marker="o", markersize=3.2, color=MUTED, linestyle="-", linewidth=3),
        key(words.say("below LLOQ", "低于定量下限"), marker="v", markersize=3.6, **hollow),
        key(words.say("not detected", "未检出"), marker="o", markersize=3.6, **hollow),
        key(words.say("infusion", "输注"), marker="v", markersize=4.5),
    ]
    cytokines = results.table("cytokines")
    if len(cytokines):
        agents = words.join(sorted(cytokines["agent"].unique()))
        keys.append(key(agents, marker="|", color=palette()[3], markeredgewidth=1.2))
    keys += event_keys(results, words)
    present = set(results.table("events")["event"])
    if "response" in present:
        said = words.say("PR, SD ...: response", "PR、SD 等：疗效")
        keys.append(key(said, marker="s", markersize=6, **hollow))
    if "therapy" in present:
        keys.append(key(words.say("Rx: subsequent therapy", "Rx：后续治疗"), marker="s", markersize=6, **hollow))
    used = {status for _, status in ends.values()}
    return [*keys, *(key(words.pick(FOLLOW_UP_ENDS[s]), **look) for s, look in END_MARKS.items() if s in used)]


def _notes(
    results: Results, context: Context, kind: Any, parts: list[tuple[float, float, float]], words: Words
) -> tuple[str, ...]:
    notes = [
        words.say(
            "Line: follow-up, to the end in patients.csv or the last sample. Thick between samples quantified one "
            "after the other; filled dot quantified, open triangle below its LLOQ, open dot not detected. "
            "Black triangles above: infusions given; ticks below: cytokine doses. Bars with letter and grade: C CRS, "
            "N ICANS, I infection, T tocilizumab, S steroid, from start to end. Boxes: response at its assessment"
            + ("" if "therapy" not in set(results.table("events")["event"]) else "; Rx subsequent therapy")
            + ".",
            "线：随访，至 patients.csv 所载终点或末次样本。相邻样本均可定量时加粗；实心圆点可定量，"
            "空心三角低于定量下限，空心圆点未检出。上方黑三角：实际输注；下方刻线：细胞因子给药。"
            "带字母与级别的条：C CRS，N ICANS，I 感染，T 托珠单抗，S 激素，自开始至结束。方框：评估时的疗效。",
        )
    ]
    if len(results.patients) > MARKED_UP_TO:
        notes.append(
            words.say(
                f"With more than {MARKED_UP_TO} patients single samples are not marked.",
                f"患者超过 {MARKED_UP_TO} 例时不标记单个样本。",
            )
        )
    if len(parts) > 1:
        day = days(SPLIT + 1).removesuffix(".00")
        notes.append(
            words.say(
                f"The days to {day} and those after stand on scales of their own.",
                f"第 {day} 天前后采用各自的时间尺度。",
            )
        )
    reasons = without_quantified(results, context, str(kind["assay"]), str(kind["specimen"]))
    if reasons:
        shown = grouped(reasons, words)
        notes.append(words.say(f"Without a quantified level: {shown}.", f"无可定量水平：{shown}。"))
    return (*notes, source_footnote(results, context, NEEDS))


def _alt(results: Results, seen: pd.DataFrame, ends: dict[str, tuple[float, str]], words: Words) -> str:
    events, parts = results.table("events"), []
    for patient in results.patients.itertuples():
        identifier = str(patient.patient_id)
        own = seen[(seen["patient_id"] == identifier) & (seen["status"] == "quantified")]
        last = words.say("never quantified", "从未定量")
        if len(own):
            at = days(float(own["time_actual"].max()))
            last = words.say(f"last quantified at {at} d", f"末次可定量 {at} 天")
        mine = events[(events["patient_id"] == identifier) & events["event"].isin(("crs", "icans"))]
        said = [f"{e.event.upper()} {'' if missing(e.grade) else e.grade}".strip() for e in mine.itertuples()]
        end, status = ends[identifier]
        close = f"{words.pick(FOLLOW_UP_ENDS[status])} {days(end)} d"
        parts.append(f"{identifier} ({patient.dose_level}): {words.join([last, *said, close])}")
    return words.say("; ", "；").join(parts)


FIGURE = Figure(
    name="swimmer",
    id="F-CK-11",
    number="11",
    title={
        "en": "Every patient over time: dosing, detectability, events, response",
        "zh": "各患者时程：给药、可检出性、事件与疗效",
    },
    needs=NEEDS,
    draw=draw,
    by_patient=True,
)
