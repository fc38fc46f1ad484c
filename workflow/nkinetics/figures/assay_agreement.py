"""F-CK-14: one assay against another, both logarithmic, with the Deming line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from nkinetics.figures._style import (
    INK,
    MUTED,
    WIDTH,
    canvas,
    dose_look,
    key,
    legend,
    log_axis,
    log_limits,
    panels,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.population.assay_agreement import GROUPS, ONE_BY_ONE_MAX, in_order, pairs
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    dose_names,
    missing,
    power_of_ten,
    signed,
    source_footnote,
    unit_name,
)

NEEDS = ("assay_agreement", "observations", "patients", "infusions")


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per two assays of a specimen, three a row."""
    words, table = words_of(context), results.table("assay_agreement")
    settings = context.settings.statistics.agreement
    if not len(table):
        none = words.say("No two assays of one specimen.", "同一标本无两种检测方法。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    matched = pairs(results.table("observations"), settings)
    kinds = in_order(table.drop_duplicates(["assay_x", "assay_y", "specimen"]))
    looks, names = dose_look(results), dose_names(results, context)
    columns = min(3, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure = canvas(0.5 + rows * 3.75)
    keys = [key(names[d], color=looks[d][0], marker=_marker(i), markersize=4.5) for i, d in enumerate(looks)]
    keys += [
        key(words.say("below LLOQ in one assay", "一法低于定量下限"), marker="<", markerfacecolor="none", color=MUTED),
        key(words.say("Deming line", "Deming 线"), linestyle="-", linewidth=1.4),
        key(words.say("equal (one unit)", "相等（同单位）"), linestyle=(0, (4, 2)), color=MUTED),
    ]
    legend(figure, keys, 0.08, columns=6, x=0.1)
    width = min(WIDTH - 0.3, 0.8 + columns * 4.2)
    grid = panels(figure, rows, columns, (0.8, 0.7, width, 0.5 + rows * 3.75 - 0.55), (0.9, 1.0))
    alts = []
    for position, row in enumerate(kinds.to_dict("records")):
        axes = grid[position // columns, position % columns]
        mine = _of(matched, row)
        numbers = _of(table, row).set_index("statistic")
        alts.append(
            _panel(axes, mine, numbers, row, looks, settings.pairs_min, words, kinds["specimen"].nunique() == 1)
        )
    for position in range(len(kinds), rows * columns):
        grid[position // columns, position % columns].remove()
    n = len(results.patients)
    subtitle = words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")
    return FigureBody(figure, _notes(results, context, words), ". ".join(alts), subtitle)


def _of(frame: pd.DataFrame, row: dict[Any, Any]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=bool)
    for column in ("assay_x", "assay_y", "specimen"):
        keep &= (frame[column] == row[column]).to_numpy(dtype=bool)
    return frame[keep]


def _marker(index: int) -> str:
    return ("o", "s", "D", "P", "X", "h")[index % 6]


def _panel(
    axes: Axes,
    own: pd.DataFrame,
    numbers: pd.DataFrame,
    row: dict[Any, Any],
    looks: dict[str, tuple[str, Any]],
    least: int,
    words: Words,
    one_specimen: bool,
) -> str:
    x_name, y_name = (f"{words.assay(str(row[f'assay_{s}']))} ({unit_name(str(row[f'unit_{s}']))})" for s in "xy")
    title = words.say(
        f"{words.assay(str(row['assay_y']))} against {words.assay(str(row['assay_x']))}",
        f"{words.assay(str(row['assay_y']))} 与 {words.assay(str(row['assay_x']))}",
    )
    axes.set_title(title if one_specimen else f"{title}, {words.specimen(str(row['specimen']))}", fontsize=9)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    if len(own) < least:
        listed = "; ".join(f"{r.patient_id} ({_cell(r, 'x')}, {_cell(r, 'y')})" for r in own.itertuples())
        say_in(
            axes, words.say(f"{len(own)} pairs, {least} needed: {listed}", f"{len(own)} 对，需 {least} 对：{listed}")
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return f"{title}: {len(own)}"
    one_unit = row["unit_x"] == row["unit_y"]
    drawn = own[own["level_x"].notna() | own["level_y"].notna()]
    x_values, y_values = (drawn[f"level_{s}"].fillna(drawn[f"lloq_{s}"]).dropna() for s in "xy")
    limits = [log_limits(x_values, y_values)] * 2 if one_unit else [log_limits(x_values), log_limits(y_values)]
    _points(axes, own, looks)
    if one_unit:
        axes.plot(limits[0], limits[0], color=MUTED, linestyle=(0, (4, 2)), linewidth=1.0, zorder=2)
    said = _line(axes, own, numbers, words)
    bottom, top = limits[1]
    log_axis(axes, bottom, top * (top / bottom) ** 0.18, most=5)
    _log_x(axes, *limits[0])
    axes.text(
        0.02,
        1.0,
        said,
        transform=axes.transAxes,
        fontsize=6.9,
        color=INK,
        va="top",
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
    )
    return f"{title}: {said.replace(chr(10), '; ')}"


def _cell(row: Any, side: str) -> str:
    level = getattr(row, f"level_{side}")
    return "BLQ" if missing(level) else f"{float(level):.3g}"


def _points(axes: Axes, own: pd.DataFrame, looks: dict[str, tuple[str, Any]]) -> None:
    """Pairs quantified in both assays, and at the LLOQ those quantified in one."""
    both = own[own["level_x"].notna() & own["level_y"].notna()]
    x_below = own[own["level_x"].isna() & ~own["quantified_x"] & own["level_y"].notna()]
    y_below = own[own["level_y"].isna() & ~own["quantified_y"] & own["level_x"].notna()]
    size = 3 if len(own) > 150 else 4.5
    for i, (dose_level, (colour, _)) in enumerate(looks.items()):
        mine = both[both["dose_level"] == dose_level]
        axes.plot(
            mine["level_x"],
            mine["level_y"],
            marker=_marker(i),
            markersize=size,
            markeredgewidth=0,
            color=colour,
            alpha=0.65,
            linestyle="none",
            zorder=4,
        )
        for rows, x, y, mark in ((x_below, "lloq_x", "level_y", "<"), (y_below, "level_x", "lloq_y", "v")):
            part = rows[rows["dose_level"] == dose_level]
            axes.plot(
                part[x], part[y], marker=mark, markersize=size, color="none", markeredgecolor=colour, linestyle="none"
            )


def _line(axes: Axes, own: pd.DataFrame, numbers: pd.DataFrame, words: Words) -> str:
    """The Deming line over the range of the pairs, and what is said of it."""
    slope, intercept = (numbers.loc[f"deming_{k}", "estimate"] for k in ("slope", "intercept"))
    n, patients = int(numbers.loc["deming_slope", "n_pairs"]), int(numbers.loc["deming_slope", "n_patients"])
    counted = words.say(f"n = {n} pairs of {patients} patients", f"n = {n} 对，{patients} 例")
    if missing(slope):
        return f"{counted}\n{numbers.loc['deming_slope', 'reason']}"
    both = own[own["level_x"].notna() & own["level_y"].notna()]
    ends = np.log10(np.array([both["level_x"].min(), both["level_x"].max()], dtype=float))
    axes.plot(10**ends, 10 ** (float(intercept) + float(slope) * ends), color=INK, linewidth=1.4, zorder=5)
    low, high = numbers.loc["deming_slope", ["ci_lower", "ci_upper"]]
    span = "" if missing(low) else f" (CI {signed(float(low))}, {signed(float(high))})"
    rank = numbers.loc["spearman", "estimate"]
    ranked = "" if missing(rank) else f"; Spearman {signed(float(rank))}"
    return f"{words.say('slope', '斜率')} {signed(float(slope))}{span}\n{counted}{ranked}"


def _log_x(axes: Axes, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / 5))
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in range(first, last + 1, step)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: power_of_ten(round(np.log10(x)))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _notes(results: Results, context: Context, words: Words) -> tuple[str, ...]:
    s = context.settings.statistics
    level, a = f"{100 * s.confidence:g} %", s.agreement
    return (
        words.say(
            f"Pairs: same sample, else at most {a.pair_within:g} days apart and not parted by an infusion. Open "
            "triangle: below the LLOQ in one assay, at that LLOQ; such pairs, and those below it in both, are not in "
            f"the line. Deming regression of log10 levels, ratio of error variances y/x = {a.error_ratio:g} (assumed); "
            f"{level} CI by leaving out one patient at a time (of more than {ONE_BY_ONE_MAX} one of {GROUPS} random "
            "groups). Slope 1: the assays rise and fall together; whether they are equal can be said in one unit only.",
            f"配对：同一样本，否则相差不超过 {a.pair_within:g} 天且其间无输注。空心三角：一法低于定量下限，标于该下限；"
            "此类及两法均低于者不计入直线。log10 水平的 Deming 回归，"
            f"误差方差之比 y/x = {a.error_ratio:g}（设定）；{level} CI 由逐一剔除患者得到"
            f"（超过 {ONE_BY_ONE_MAX} 例时逐一剔除 {GROUPS} 个随机分组之一）。"
            "斜率 1：两法同升同降；仅单位相同时可判断是否相等。",
        ),
        source_footnote(results, context, NEEDS),
    )


FIGURE = Figure(
    name="assay_agreement",
    id="F-CK-14",
    number="14",
    title={"en": "Assays against each other (Deming regression)", "zh": "检测方法比较（Deming 回归）"},
    needs=NEEDS,
    draw=draw,
)
