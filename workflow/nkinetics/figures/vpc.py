"""F-CK-06: visual predictive check by dose level: percentiles of the level, and the share below the LLOQ."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from nkinetics.figures._style import (
    FAINT,
    INK,
    MUTED,
    WIDTH,
    bare,
    canvas,
    day_axis,
    day_label,
    display,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    over,
    palette,
    panels,
    words_of,
)
from nkinetics.leading import Shown, none_fitted, shown, subtitle_of
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, dose_names, profile_name, source_footnote

NEEDS = ("population_vpc", "population_points", "population", "population_comparison", "observations", "patients")
LINES = {"p95": (0, (4, 1.6)), "p50": "-", "p05": (0, (1, 1.4))}
"""Line of each percentile as observed."""
MOST = 4
"""Dose levels beside each other; more go to further rows."""
LEVEL, SHARE = 2.5, 1.0
"""Heights of the two panels of a dose level, inches."""


def draw(results: Results, context: Context) -> FigureBody:
    """A column per dose level: percentiles of the level above, the share below the LLOQ under them."""
    words, fit = words_of(context), shown(results)
    why = none_fitted(results, context, fit)
    table = results.table("population_vpc")
    table = table.iloc[:0] if fit is None else fit.of(table)
    if fit is None or why or not len(table):
        rule = context.settings.blq.models
        why = why or words.say(
            f"No visual predictive check: it needs levels below the LLOQ as intervals (blq.models: M3), and {rule} "
            "drops them or puts numbers in their place.",
            f"无可视化预测检验：需将低于定量下限的结果作为区间（blq.models: M3），而 {rule} 将其剔除或以数值代替。",
        )
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))
    kinds = list(dict.fromkeys(zip(table["measured_by"], table["dose_level"], strict=True)))
    columns = min(len(kinds), MOST)
    blocks = int(np.ceil(len(kinds) / columns))
    block = LEVEL + SHARE + 1.0
    figure = canvas(0.5 + blocks * block)
    legend(figure, _keys(words), 0.08, columns=4, x=0.1)
    points = fit.of(results.table("population_points")).merge(
        results.patients[["patient_id", "dose_level"]], on="patient_id", how="left"
    )
    several = table["measured_by"].nunique() > 1
    if several:
        ids = results.table("observations")[["observation_id", "assay"]].drop_duplicates("observation_id")
        points = points.merge(ids.rename(columns={"assay": "measured_by"}), on="observation_id", how="left")
    limits = _limits(table, points)
    last = float(table["time_to"].max())
    names = dose_names(results, context)
    for b in range(blocks):
        top = 0.5 + b * block
        right = WIDTH - 0.15
        upper = panels(figure, 1, columns, (0.75, top + 0.3, right, top + 0.3 + LEVEL), (0.3, 0))[0]
        under = top + 0.3 + LEVEL + 0.15
        lower = panels(figure, 1, columns, (0.75, under, right, under + SHARE), (0.3, 0))[0]
        for j in range(columns):
            k = b * columns + j
            if k >= len(kinds):
                upper[j].remove()
                lower[j].remove()
                continue
            assay, dose_level = kinds[k]
            own = table[(table["measured_by"] == assay) & (table["dose_level"] == dose_level)]
            raw = points[points["dose_level"] == dose_level]
            raw = raw[raw["measured_by"] == assay] if several else raw
            n = raw["patient_id"].nunique()
            title = names.get(str(dose_level), str(dose_level)) or words.say("all patients", "全部患者")
            title = f"{title}, n = {n}"
            upper[j].set_title(f"{words.assay(str(assay))}, {title}" if several else title)
            _levels(upper[j], own, raw, limits)
            _shares(lower[j], own)
            for axes in (upper[j], lower[j]):
                day_axis(axes, 0.0, last, most=8 if columns < 3 else 5)
            lower[j].set_xlabel(day_label(words) if columns < 3 else words.say("Study day", "研究日"))
            bare(upper[j], x=True, y=j > 0)
            over(upper[j])
            bare(lower[j], y=j > 0)
        upper[0].set_ylabel(level_label(words, _unit(results, kinds[b * columns][0], fit)))
        lower[0].set_ylabel(words.say("Below LLOQ", "低于定量下限"))
    inside = _inside(table)
    return FigureBody(
        figure,
        (*_notes(words, context, fit, inside), source_footnote(results, context, NEEDS)),
        _alt(words, context, table, fit, inside),
        subtitle_of(results, context, fit),
    )


def _unit(results: Results, assay: str, fit: Shown) -> str:
    rows = results.profiles
    own = rows[(rows["assay"] == assay) & (rows["specimen"] == fit.specimen)]
    return str(own["level_unit"].iloc[0]) if len(own) else ""


def _keys(words: Words) -> list:
    blue, grey = palette()[0], palette()[7]
    return [
        key(words.say("observed 95th percentile", "实测第 95 百分位"), linestyle=LINES["p95"], color=INK),
        key(words.say("observed median", "实测中位数"), linestyle="-", color=INK),
        key(words.say("observed 5th percentile", "实测第 5 百分位"), linestyle=LINES["p05"], color=INK),
        key(words.say("observed share below LLOQ", "实测低于定量下限比例"), marker="o", color=INK),
        Patch(facecolor=blue, alpha=0.4, label=words.say("simulated median, 90 % interval", "模拟中位数，90 % 区间")),
        Patch(
            facecolor=grey,
            alpha=0.28,
            label=words.say("simulated 5th, 95th percentile or share", "模拟第 5、95 百分位或比例"),
        ),
        key(words.say("result", "结果"), marker="o", markersize=2.6, color=FAINT),
        key(
            words.say("below LLOQ (at its LLOQ)", "低于定量下限（标于该下限）"),
            marker="v",
            markersize=3.4,
            markerfacecolor="white",
            markeredgecolor=FAINT,
        ),
    ]


def _limits(table: pd.DataFrame, points: pd.DataFrame) -> tuple[float, float]:
    levels = table[table["quantity"] != "blq"]
    low = points["upper"].where(points["level"].isna()).dropna()
    return log_limits(levels["observed"], levels["upper"], points["level"].dropna(), low)


def _edges(own: pd.DataFrame, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval as drawn: an end below the LLOQ at the foot of the panel, one above the ULOQ at its top."""
    low, high = own["lower"].to_numpy(dtype=float), own["upper"].to_numpy(dtype=float)
    above = own["reason"].str.contains("above the ULOQ", regex=False).to_numpy()
    low = np.where(np.isfinite(low), low, limits[0] / 1e3)
    high = np.where(np.isfinite(high), high, np.where(above, limits[1] * 1e3, limits[0] / 1e3))
    return low, high


def _levels(axes: Axes, own: pd.DataFrame, raw: pd.DataFrame, limits: tuple[float, float]) -> None:
    log_axis(axes, *limits)
    colours = {"p05": (palette()[7], 0.28), "p50": (palette()[0], 0.4), "p95": (palette()[7], 0.28)}
    for quantity, line in LINES.items():
        rows = own[own["quantity"] == quantity].sort_values("bin")
        x = display(rows["time"])
        low, high = _edges(rows, limits)
        colour, alpha = colours[quantity]
        if len(rows) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0, zorder=1)
        else:
            axes.vlines(x, low, high, color=colour, alpha=alpha, linewidth=6, zorder=1)
        axes.plot(
            x,
            rows["observed"],
            color=INK,
            linestyle=line,
            linewidth=1.2,
            marker="o" if len(rows) == 1 else "",
            markersize=3,
            zorder=4,
        )
    seen = raw[raw["level"].notna()]
    axes.plot(display(seen["time"]), seen["level"], marker="o", markersize=2.2, color=FAINT, linestyle="none", zorder=2)
    below = raw[raw["level"].isna() & raw["upper"].notna()]
    axes.plot(
        display(below["time"]),
        below["upper"],
        marker="v",
        markersize=3.2,
        markerfacecolor="white",
        markeredgecolor=FAINT,
        linestyle="none",
        zorder=2,
    )


def _shares(axes: Axes, own: pd.DataFrame) -> None:
    rows = own[own["quantity"] == "blq"].sort_values("bin")
    x = display(rows["time"])
    low, high = rows["lower"].to_numpy(dtype=float), rows["upper"].to_numpy(dtype=float)
    if len(rows) > 1:
        axes.fill_between(x, low, high, color=palette()[7], alpha=0.28, linewidth=0, zorder=1)
    else:
        axes.vlines(x, low, high, color=palette()[7], alpha=0.4, linewidth=6, zorder=1)
    axes.plot(x, rows["observed"], color=INK, marker="o", markersize=3, linewidth=1.0, zorder=3)
    axes.set_ylim(-0.06, 1.06)
    axes.yaxis.set_major_locator(FixedLocator([0.0, 0.5, 1.0]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
    axes.grid(axis="y")
    axes.tick_params(axis="y", colors=MUTED)


def _inside(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """By quantity: cells in which the observed value lies within the simulated interval, of those compared.

    What lies below the LLOQ counts as the lowest value on both sides.
    """
    found = {}
    for quantity, rows in table.groupby("quantity", sort=True):
        ends = rows[["observed", "lower", "upper"]].astype(float)
        if quantity != "blq":
            for column in ends:
                up = rows["reason"].str.contains(rf"{column}[^;]* above the ULOQ")
                ends[column] = ends[column].where(ends[column].notna(), np.where(up, np.inf, 0.0))
        within = (ends["observed"] >= ends["lower"] - 1e-12) & (ends["observed"] <= ends["upper"] + 1e-12)
        found[str(quantity)] = int(within.sum()), len(rows)
    return found


def _told(words: Words, inside: dict[str, tuple[int, int]]) -> str:
    names = {
        "p05": words.say("5th percentile", "第 5 百分位"),
        "p50": words.say("median", "中位数"),
        "p95": words.say("95th percentile", "第 95 百分位"),
        "blq": words.say("share below the LLOQ", "低于定量下限比例"),
    }
    return words.join(
        words.say(f"{names[q]} {inside[q][0]} of {inside[q][1]}", f"{names[q]} {inside[q][1]} 之 {inside[q][0]}")
        for q in names
        if q in inside
    )


def _notes(words: Words, context: Context, fit: Shown, inside: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    return (
        words.say(
            "Simulated: up to 1,000 studies of new patients with the calendars, sampling times and limits of the "
            "observed ones, at the estimated population parameters (their uncertainty is not in the bands). A level "
            "below the LLOQ of its sample counts as the lowest in every percentile, observed and simulated alike; a "
            "percentile that lies there is not drawn, and a band that reaches there goes to the foot of the panel "
            "(Bergstrand & Karlsson 2009).",
            "模拟：以估计的群体参数，按实测患者的给药、采样时间与定量限模拟至多 1,000 个研究"
            "（色带不含参数的不确定性）。"
            "低于该样本定量下限者在实测与模拟的百分位中均计为最低；落于其下的百分位不绘出，触及其下的色带延至图底"
            "（Bergstrand & Karlsson 2009）。",
        ),
        words.say(
            f"Within the 90 % interval, time bins by dose level: {_told(words, inside)}. With few patients in a bin "
            "the 5th and 95th percentiles are near the lowest and the highest one. Bins: planned times, joined where "
            "there are many, drawn at the median actual time.",
            f"位于 90 % 区间内的（剂量水平 × 时间组）：{_told(words, inside)}。"
            "组内患者少时，第 5 与第 95 百分位接近最低与最高值。"
            "时间组：计划时间，过多时合并，绘于实际时间中位数处。",
        ),
    )


def _alt(words: Words, context: Context, table: pd.DataFrame, fit: Shown, inside: dict[str, tuple[int, int]]) -> str:
    name = words.join(profile_name(context, str(a), fit.specimen) for a in dict.fromkeys(table["measured_by"]))
    levels = words.join(str(d) for d in dict.fromkeys(table["dose_level"]))
    return words.say(
        f"Visual predictive check of {name}, dose levels {levels}: observed within the simulated 90 % interval: "
        f"{_told(words, inside)}",
        f"{name} 的可视化预测检验，剂量水平 {levels}：实测位于模拟 90 % 区间内：{_told(words, inside)}",
    )


FIGURE = Figure(
    name="vpc",
    id="F-CK-06",
    number="6",
    title={"en": "Visual predictive check by dose level", "zh": "按剂量水平的可视化预测检验"},
    needs=NEEDS,
    draw=draw,
)
