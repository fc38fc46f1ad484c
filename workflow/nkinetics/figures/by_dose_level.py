"""F-CK-02: all profiles in one panel per assay, dose levels by colour AND line type."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
    MUTED,
    WIDTH,
    below,
    below_key,
    canvas,
    day_axis,
    day_label,
    dose_look,
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
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, dose_names, grouped, profile_name, profiles, source_footnote, without_quantified

NEEDS = ("observations", "patients", "infusions")
LABELLED_UP_TO = 15
"""With more patients the lines are not labelled."""
NAMED_UP_TO = 40
"""Characters of names under a panel: more would run into the words under its neighbour."""


def draw(results: Results, context: Context) -> FigureBody:
    """One semi-logarithmic panel per assay; patients without a quantified level are named under it."""
    words, kinds = words_of(context), profiles(results)
    if not len(kinds):
        none = words.say("No assay has a result.", "无检测结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    looks, names = dose_look(results), dose_names(results, context)
    columns = min(2, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure = canvas(0.5 + rows * 3.55)
    keys = [
        key(names[d], color=colour, linestyle=line, marker="o", markersize=3.5) for d, (colour, line) in looks.items()
    ]
    legend(figure, [*keys, below_key(words)], 0.08, columns=5, x=0.1)
    grid = panels(figure, rows, columns, (0.68, 0.62, WIDTH - 0.35, 0.5 + rows * 3.55 - 0.72), (0.85, 1.15))
    for position, kind in enumerate(kinds.itertuples()):
        axes = grid[position // columns, position % columns]
        axes.set_title(profile_name(context, str(kind.assay), str(kind.specimen)), fontsize=9)
        rows_of_kind = reportable(results, str(kind.assay), str(kind.specimen))
        _panel(axes, results, rows_of_kind, words)
        axes.set_ylabel(level_label(words, str(kind.level_unit)))
        axes.set_xlabel(day_label(words))
        none_quantified = list(without_quantified(results, context, str(kind.assay), str(kind.specimen)))
        if none_quantified:
            measured = set(rows_of_kind["patient_id"])
            _named_below(axes, words, [p for p in none_quantified if p in measured], len(none_quantified))
    for position in range(len(kinds), rows * columns):
        grid[position // columns, position % columns].remove()
    notes = (
        marks_footnote(words),
        *_reasons(results, context, kinds, words),
        source_footnote(results, context, NEEDS),
    )
    subtitle = words.say(f"All patients (n = {len(results.patients)})", f"全部患者（n = {len(results.patients)}）")
    return FigureBody(figure, notes, _alt(results, kinds, context, words), subtitle)


def _panel(axes: Axes, results: Results, rows: pd.DataFrame, words: Words) -> None:
    looks, seen = dose_look(results), quantified(rows)
    draw_below(axes, rows, "#a7b0ba", 3.4)
    lines, ends = lines_of(rows), []
    for dose_level, own in results.patients.groupby("dose_level", sort=False)["patient_id"]:
        colour, dashes = looks[str(dose_level)]
        drawn = [str(p) for p in own if str(p) in lines]
        look = {"color": colour, "linestyle": dashes, "linewidth": 0.95, "zorder": 4}
        draw_each(axes, [lines[p] for p in drawn], "o", **look)
        ends += [(float(lines[p][0][-1]), float(lines[p][1][-1]), p, colour) for p in drawn]
    if not len(rows):
        say_in(axes, words.say("no reportable result", "无可报告结果"))
        return
    day_axis(axes, first_time(results), last_time(results), most=6)
    log_axis(axes, *log_limits(seen["level"], below(rows)["lloq"]))
    if len(ends) <= LABELLED_UP_TO:
        label_ends(axes, ends)


def _named_below(axes: Axes, words: Words, patients: list[str], n: int) -> None:
    """Patients whom the assay measured and found nothing quantified in; how many it did not measure."""
    named = next((k for k in range(1, 9) if len(words.join(patients[: k + 1])) > NAMED_UP_TO), 8)
    shown = words.join(patients[:named]) + (words.say(" …", "……") if len(patients) > named else "")
    told = [words.colon(words.say("no quantified level", "无可定量水平"), shown)] if patients else []
    without = n - len(patients)
    if without:
        told.append(words.say(f"{without} without a result in this assay", f"{without} 例无该检测结果"))
    text = words.say("; ", "；").join(told)
    axes.text(0, -0.185, text, transform=axes.transAxes, fontsize=7.2, color=MUTED, style="italic", va="top")


def _reasons(results: Results, context: Context, kinds: pd.DataFrame, words: Words) -> list[str]:
    notes = []
    for kind in kinds.itertuples():
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        if reasons:
            shown = grouped(reasons, words)
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            notes.append(words.say(f"Without a quantified level, {name}: {shown}.", f"无可定量水平，{name}：{shown}。"))
    return notes


def _alt(results: Results, kinds: pd.DataFrame, context: Context, words: Words) -> str:
    parts = []
    for kind in kinds.itertuples():
        rows = quantified(reportable(results, str(kind.assay), str(kind.specimen)))
        name = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        ranges = [
            words.say(
                f"{d} {len(set(own['patient_id']))} patients quantified, highest level {own['level'].max():.3g}",
                f"{d} {len(set(own['patient_id']))} 例可定量，最高水平 {own['level'].max():.3g}",
            )
            for d, own in rows.groupby("dose_level")
        ]
        parts.append(words.colon(name, words.join(ranges) or words.say("nobody quantified", "无可定量者")))
    return ". ".join(parts)


FIGURE = Figure(
    name="by_dose_level",
    id="F-CK-02",
    number="2",
    title={"en": "Profiles of all patients by dose level", "zh": "按剂量水平的全部患者曲线"},
    needs=NEEDS,
    draw=draw,
)
