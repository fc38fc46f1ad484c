"""F-CK-03: median and geometric mean of the level by nominal time and dose level, with n under the axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
    BELOW,
    MARKERS,
    MUTED,
    WIDTH,
    canvas,
    day_axis,
    display,
    dose_look,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    panels,
    reportable,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    days,
    dose_levels,
    dose_names,
    profile_name,
    profiles,
    significant,
    source_footnote,
    unit_name,
)

NEEDS = ("observations", "patients", "infusions")
NEAR = 0.3
"""Nominal times so near each other share a number under the axis [d]."""
PANEL, GAP, ROW, TITLE = 2.15, 0.3, 0.15, 0.34
"""Heights [inches]: of a panel, of the gap to the numbers under it, of a row of these, of the title."""
SHIFT = 0.005
"""Dose levels stand so far apart at one time, as a share of the axis."""


@dataclass(frozen=True)
class Middle:
    """The results of a dose level at one nominal time.

    Parameters
    ----------
    time : float
        Nominal time [d].
    n, n_below : int
        Results, and those of them below their LLOQ or not detected.
    median : float
        Median with results below their LLOQ counted lowest; nan where it lies among them.
    geo_mean : float
        Geometric mean; nan unless every result is quantified.
    low, high : float
        Lowest and highest level; nan where the lowest, or all, lie below the LLOQ.
    lloq : float
        Highest LLOQ of the results: below it lies a middle that is not quantified.
    """

    time: float
    n: int
    n_below: int
    median: float
    geo_mean: float
    low: float
    high: float
    lloq: float


def middles(rows: pd.DataFrame) -> list[Middle]:
    """Middle of the results at each nominal time; a result above the ULOQ counts highest, and has no number.

    Examples
    --------
    >>> rows = pd.DataFrame({"time_nominal": 1.0, "level": [4.0, 16.0, np.nan], "lloq": 2.0,
    ...                      "status": ["quantified", "quantified", "blq"]})
    >>> [(m.n, m.n_below, m.median, m.geo_mean) for m in middles(rows)]
    [(3, 1, 4.0, nan)]
    """
    found = []
    for time, own in rows[rows["time_nominal"].notna()].groupby("time_nominal"):
        status = own["status"].to_numpy()
        below, above = np.isin(status, BELOW), status == "above_uloq"
        level = np.where(below, -np.inf, np.where(above, np.inf, own["level"].to_numpy(dtype=float)))
        level = np.sort(level[below | above | (status == "quantified")])
        if not level.size:
            continue
        centre = float(level[[(level.size - 1) // 2, level.size // 2]].mean()) if not below.all() else -np.inf
        quantified = level[np.isfinite(level)]
        whole = quantified.size == level.size
        found.append(
            Middle(
                float(str(time)),
                level.size,
                int(below.sum()),
                centre if np.isfinite(centre) else np.nan,
                float(np.exp(np.log(quantified).mean())) if whole else np.nan,
                float(level[0]) if np.isfinite(level[0]) else np.nan,
                float(level[-1]) if np.isfinite(level[-1]) else np.nan,
                float(own["lloq"].max()),
            )
        )
    return found


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per assay over the width of the page, dose levels in it, n of each under it."""
    words, kinds, levels = words_of(context), profiles(results), dose_levels(results)
    # As in the table: of fewer results no middle is reported.
    least = context.settings.statistics.summary_n_min
    found = {
        (str(k.assay), str(k.specimen)): {
            d: [m for m in middles(rows[rows["dose_level"] == d]) if m.n >= least] for d in levels
        }
        for k in kinds.itertuples()
        for rows in [reportable(results, str(k.assay), str(k.specimen))]
    }
    if not any(m for of in found.values() for m in of.values()):
        none = words.say(
            f"No nominal time has {least} results of one dose level in an assay: the individual profiles stand alone.",
            f"无任一计划时间点在同一检测与剂量水平有 {least} 个结果：仅有个体曲线。",
        )
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    looks, names = dose_look(results), dose_names(results, context)
    last = max(m.time for of in found.values() for rows in of.values() for m in rows)
    shown = {kind: [d for d in levels if of[d]] for kind, of in found.items()}
    heights = {kind: TITLE + PANEL + GAP + _height(of) + 0.16 for kind, of in shown.items()}
    figure = canvas(0.42 + sum(heights.values()) + 0.1)
    legend(figure, _keys(words, looks, names), 0.08, columns=6, x=0.1)
    top = 0.42 + TITLE
    for kind in kinds.itertuples():
        of, own = found[str(kind.assay), str(kind.specimen)], shown[str(kind.assay), str(kind.specimen)]
        axes = panels(figure, 1, 1, (0.95, top, WIDTH - 0.15, top + PANEL), (0, 0))[0, 0]
        start = top + PANEL + GAP
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        axes.set_title(name, fontsize=9)
        _panel(axes, of, looks, levels, last, words, least)
        axes.set_ylabel(level_label(words, str(kind.level_unit)))
        if own:
            box = (0.95, start, WIDTH - 0.15, start + _height(own))
            _numbers(panels(figure, 1, 1, box, (0, 0))[0, 0], of, looks, own, last, words)
        top += heights[str(kind.assay), str(kind.specimen)]
    label = words.say("Study day, nominal (first infusion = day 1)", "计划研究日（首次输注 = 第 1 天）")
    figure.text(0.5, 0.05 / figure.get_figheight(), label, ha="center", fontsize=8)
    n = len(results.patients)
    subtitle = words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")
    return FigureBody(figure, _notes(results, context, found, words), _alt(found, kinds, context, words), subtitle)


def _height(levels: list[str]) -> float:
    """Height of the numbers under a panel [inches]."""
    return ROW * 2 * len(levels)


def _keys(words: Words, looks: dict[str, tuple[str, Any]], names: dict[str, str]) -> list[Any]:
    keys = [
        key(
            words.say(f"{names[d]}, median", f"{names[d]}，中位数"),
            color=colour,
            linestyle=line,
            marker=MARKERS[i % len(MARKERS)],
        )
        for i, (d, (colour, line)) in enumerate(looks.items())
    ]
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": MUTED, "markeredgewidth": 0.9}
    return [
        *keys,
        key(words.say("geometric mean", "几何均值"), marker="d", markersize=5, **hollow),
        key(words.say("median below LLOQ (at the LLOQ)", "中位数低于定量下限（标于该下限）"), marker="v", **hollow),
        key(words.say("lowest to highest", "最低至最高"), linestyle="-", linewidth=0.8, color=MUTED),
    ]


def _panel(
    axes: Axes,
    of: dict[str, list[Middle]],
    looks: dict[str, tuple[str, Any]],
    levels: list[str],
    last: float,
    words: Words,
    least: int,
) -> None:
    day_axis(axes, 0.0, last, most=9)
    every = [m for rows in of.values() for m in rows]
    if not every:
        say_in(axes, words.say(f"no time with {least} results", f"无任一时间点有 {least} 个结果"), 60)
        return
    log_axis(axes, *log_limits([m.high for m in every], [m.low for m in every], [m.lloq for m in every]), most=5)
    width = np.diff(axes.get_xlim())[0]
    for i, dose_level in enumerate(levels):
        rows, (colour, line) = of[dose_level], looks[dose_level]
        if not rows:
            continue
        # Side by side, or the ranges of two dose levels would hide each other.
        aside = SHIFT * (i - (len(levels) - 1) / 2) * width
        x = display([m.time for m in rows]) + aside
        median = np.array([m.median for m in rows])
        lloq = np.array([m.lloq for m in rows])
        low = np.array([m.low if np.isfinite(m.low) else m.lloq for m in rows])
        high = np.array([m.high for m in rows])
        seen = np.isfinite(high) & (high > low)
        axes.vlines(x[seen], low[seen], high[seen], color=colour, linewidth=0.8, alpha=0.55, zorder=2)
        axes.plot(x, median, color=colour, linestyle=line, zorder=3)
        # Dots apart from the line, which a median below the LLOQ interrupts.
        marker = MARKERS[i % len(MARKERS)]
        axes.plot(x, median, marker=marker, color=colour, linestyle="none", markersize=3.6, zorder=5)
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.9, "linestyle": "none"}
        geometric = np.array([m.geo_mean for m in rows])
        axes.plot(x, geometric, marker="d", markersize=4.6, markeredgecolor=colour, zorder=4, **hollow)
        under = ~np.isfinite(median)
        axes.plot(x[under], lloq[under], marker="v", markersize=4.2, markeredgecolor=colour, zorder=4, **hollow)


def _numbers(
    axes: Axes,
    of: dict[str, list[Middle]],
    looks: dict[str, tuple[str, Any]],
    levels: list[str],
    last: float,
    words: Words,
) -> None:
    """Results and those of them below the LLOQ, by dose level, under their times as far as there is room."""
    day_axis(axes, 0.0, last, most=9)
    lines = 2 * len(levels)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=5)
    labels = [t for d in levels for t in (f"{d} n", words.say("below LLOQ", "低于下限"))]
    axes.set_yticks(range(lines), labels, fontsize=6.9)
    for i, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(looks[levels[i // 2]][0] if i % 2 == 0 else MUTED)
    inches = axes.get_position().width * WIDTH / np.diff(axes.get_xlim())[0]
    for i, dose_level in enumerate(levels):
        free = -np.inf
        for group in together(of[dose_level]):
            n, below = _span([m.n for m in group]), _span([m.n_below for m in group])
            at, room = float(np.mean([display(m.time) for m in group])), 0.062 * max(len(n), len(below)) + 0.03
            if at * inches - room / 2 < free:
                continue
            free = at * inches + room / 2
            for line, text in ((2 * i, n), (2 * i + 1, below)):
                axes.text(at, line, text, fontsize=6.9, ha="center", va="center", color=MUTED if line % 2 else "black")


def together(rows: list[Middle]) -> list[list[Middle]]:
    """Times so near each other that one number stands for them."""
    groups: list[list[Middle]] = []
    for row in rows:
        if groups and row.time - groups[-1][-1].time <= NEAR:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def _notes(
    results: Results, context: Context, found: dict[tuple[str, str], dict[str, list[Middle]]], words: Words
) -> tuple[str, ...]:
    least = context.settings.statistics.summary_n_min
    notes = [
        words.say(
            f"Nominal times with at least {least} results of the dose level. Median with results below their LLOQ or "
            "not detected counted lowest; where it lies among them, an open down-triangle at the highest LLOQ of that "
            "time. Geometric mean (open diamond) only where every result is quantified. Upright line: lowest to "
            "highest level, from the LLOQ where the lowest is below it. Dose levels are set side by side.",
            f"至少有 {least} 个该剂量水平结果的计划时间点。中位数：低于定量下限或未检出者计为最低；若落于其中，"
            "以空心下三角标于该时间的最高定量下限。几何均值（空心菱形）仅在全部可定量时给出。"
            "竖线：最低至最高水平，最低者低于定量下限时自该下限起。各剂量水平并排错开。",
        ),
        words.say(
            f"Under the axis: n results, and those of them below the LLOQ or not detected; one number, or a span, for "
            f"times within {NEAR:g} d of each other, none where there is no room. All numbers stand in the table of "
            "levels by nominal time. Fewer patients later: the middle of those still sampled, not of the same ones.",
            f"轴下：结果数 n 及其中低于定量下限或未检出者；相距 {NEAR:g} 天内的时间点共用一个数或范围，空间不足时省略。"
            "全部数字见按计划时间的水平表。后期患者减少：为仍有采样者的中位数，并非同一批患者。",
        ),
    ]
    few = []
    for dose_level in dose_levels(results):
        if not any(of[dose_level] for of in found.values()):
            few.append(dose_level)
    if few:
        notes.append(
            words.say(
                f"No time with {least} results: {words.join(few)}.",
                f"无任一时间点有 {least} 个结果：{words.join(few)}。",
            )
        )
    return (*notes, source_footnote(results, context, NEEDS))


def _alt(
    found: dict[tuple[str, str], dict[str, list[Middle]]], kinds: pd.DataFrame, context: Context, words: Words
) -> str:
    parts = []
    for kind in kinds.itertuples():
        told = []
        for dose_level, rows in found[str(kind.assay), str(kind.specimen)].items():
            known = [m for m in rows if np.isfinite(m.median)]
            if not known:
                none = words.say(f"{dose_level} no median above the LLOQ", f"{dose_level} 无高于定量下限的中位数")
                told.append(none)
                continue
            top = max(known, key=lambda m: m.median)
            value, unit = significant(top.median), unit_name(str(kind.level_unit))
            told.append(
                words.say(
                    f"{dose_level} highest median {value} {unit} at {days(top.time)} d (n = {top.n})",
                    f"{dose_level} 最高中位数 {value} {unit}，{days(top.time)} 天（n = {top.n}）",
                )
            )
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        parts.append(words.colon(name, words.join(told)))
    return ". ".join(parts)


FIGURE = Figure(
    name="typical_level",
    id="F-CK-03",
    number="3",
    title={"en": "Median and geometric mean level by nominal time", "zh": "按计划时间的中位与几何平均水平"},
    needs=NEEDS,
    draw=draw,
)
