"""F-CK-08: exposure against the amount given, both logarithmic, with the power model and its band."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from nkinetics.figures._style import (
    FAINT,
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
from nkinetics.population.dose_proportionality import t_quantile
from nkinetics.population.exposure import BELOW, VALUE, exposed, exposures
from nkinetics.population.exposure_response import wanted
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    amount,
    dose_names,
    exposure_title,
    missing,
    profile_name,
    profiles,
    signed,
    source_footnote,
    unit_name,
    verdict_words,
)

NEEDS = ("dose_proportionality", "nca", "observations", "patients", "infusions")


def draw(results: Results, context: Context) -> FigureBody:
    """Rows are Cmax and the window AUC, columns the assays."""
    words, kinds, table = words_of(context), profiles(results), results.table("dose_proportionality")
    nca = exposed(results)
    measures = wanted(nca)
    if not len(table) or not len(kinds) or not measures:
        none = words.say("No estimate of dose proportionality.", "无剂量比例性估计。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    found = exposures(
        nca,
        results.table("observations"),
        measures,
        results.table("patients"),
        results.table("infusions"),
    )
    looks, names = dose_look(results), dose_names(results, context)
    figure = canvas(0.55 + 2.55 * len(measures) + 0.35)
    keys = [key(names[d], color=looks[d][0], marker=_marker(i), markersize=5) for i, d in enumerate(looks)]
    keys += [
        key(words.say("power model, with band", "幂模型及其带"), linestyle="-", linewidth=1.4),
        key(words.say("proportional (slope 1)", "成比例（斜率 1）"), linestyle=(0, (4, 2)), color=MUTED),
        key(
            words.say("below LLOQ (at its bound)", "低于定量下限（标于上界）"),
            marker="v",
            markerfacecolor="none",
            markeredgecolor=MUTED,
        ),
    ]
    legend(figure, keys, 0.08, columns=5, x=0.1)
    box = (0.75, 0.75, WIDTH - 0.2, 0.55 + 2.55 * len(measures) - 0.2)
    grid = panels(figure, len(measures), len(kinds), box, (0.75, 0.75))
    alts = []
    for j, kind in enumerate(kinds.itertuples()):
        for i, (window, parameter) in enumerate(measures):
            own = found[
                (found["assay"] == kind.assay)
                & (found["specimen"] == kind.specimen)
                & (found["window"] == window)
                & (found["parameter"] == parameter)
            ]
            estimate = _slope(table, str(kind.assay), str(kind.specimen), window, parameter)
            title = exposure_title(words, window, parameter)
            _panel(grid[i, j], own, estimate, looks, context, words)
            grid[i, j].set_title(f"{title}, {profile_name(context, str(kind.assay), str(kind.specimen))}", fontsize=8.5)
            unit = str(kind.level_unit) if parameter == "cmax" else f"d*{kind.level_unit}"
            grid[i, j].set_ylabel(f"{title} ({unit_name(unit)})")
            alts.append(f"{words.assay(str(kind.assay))} {title}: {_told(words, estimate)}")
    dose_unit = {"cells": words.say("cells", "个细胞"), "cells/kg": words.say("cells/kg", "个细胞/kg")}[
        context.settings.study.dose_unit
    ]
    label = words.say(f"Amount given in the window ({dose_unit})", f"窗口内实际给药量（{dose_unit}）")
    figure.text(0.5, 0.06 / figure.get_figheight(), label, ha="center", fontsize=8)
    n = len(results.patients)
    subtitle = words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")
    return FigureBody(figure, _notes(results, context, found, words), ". ".join(alts), subtitle)


def _marker(index: int) -> str:
    return ("o", "s", "D", "P", "X", "h")[index % 6]


def _slope(table: pd.DataFrame, assay: str, specimen: str, window: str, parameter: str) -> dict[str, Any]:
    rows = table[
        (table["assay"] == assay)
        & (table["specimen"] == specimen)
        & (table["window"] == window)
        & (table["parameter"] == parameter)
        & table["primary"].fillna(False).astype(bool)
    ]
    return {} if rows.empty else {str(k): v for k, v in rows.iloc[0].items()}


def _panel(
    axes: Axes,
    own: pd.DataFrame,
    estimate: dict[str, Any],
    looks: dict[str, tuple[str, Any]],
    context: Context,
    words: Words,
) -> None:
    known = own[own["amount"].notna() & own["state"].isin((VALUE, BELOW))]
    if not len(known):
        say_in(axes, str(estimate.get("reason") or words.say("no value", "无数值")), 34)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    low, high = float(known["amount"].min()) / 1.25, float(known["amount"].max()) * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    for i, (dose_level, (colour, _)) in enumerate(looks.items()):
        mine = known[known["dose_level"] == dose_level]
        seen, under = mine[mine["state"] == VALUE], mine[mine["state"] == BELOW]
        look: dict[str, Any] = {"linestyle": "none", "zorder": 4}
        crowded = len(known) > 60
        axes.plot(
            seen["amount"],
            seen["value"],
            marker=_marker(i),
            markersize=3.2 if crowded else 5,
            color=colour,
            alpha=0.6 if crowded else 0.9,
            markeredgewidth=0,
            **look,
        )
        axes.plot(
            under["amount"], under["bound"], marker="v", markersize=5, color="none", markeredgecolor=colour, **look
        )
    ends = _line(axes, estimate, low, high, context) if not missing(estimate.get("estimate")) else []
    bottom, top = log_limits(known["value"].dropna(), known["bound"].dropna(), np.array(ends))
    # Room above the points for what is said of them.
    log_axis(axes, bottom, top * (top / bottom) ** 0.25, most=5)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: amount(float(f"{x:.3g}"))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    said = "\n".join(_told(words, estimate).split("; ", 1))
    axes.text(0.02, 1.0, said, transform=axes.transAxes, fontsize=6.9, color=INK, va="top", zorder=6, bbox=_LABEL)


_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


def _line(axes: Axes, estimate: dict[str, Any], low: float, high: float, context: Context) -> list[float]:
    """The power model with the band of its mean, and through its middle the line of slope 1."""
    x = np.geomspace(low, high, 60)
    middle, theta = float(estimate["intercept"]), float(estimate["estimate"])
    apart = np.log(x / float(estimate["reference_amount"]))
    axes.plot(x, np.exp(middle + apart), color=MUTED, linestyle=(0, (4, 2)), linewidth=1.0, zorder=2)
    axes.plot(x, np.exp(middle + theta * apart), color=INK, linewidth=1.4, zorder=3)
    if missing(estimate["std_error"]):
        return []
    level = context.settings.statistics.dose_proportionality.confidence
    error = np.sqrt(float(estimate["intercept_error"]) ** 2 + (apart * float(estimate["std_error"])) ** 2)
    reach = t_quantile(level, float(estimate["degrees"])) * error
    # A band over many powers of ten would hide the points; the axis stays with them.
    axes.fill_between(
        x, np.exp(middle + theta * apart - reach), np.exp(middle + theta * apart + reach), color=FAINT, alpha=0.4, lw=0
    )
    return [float(v) for v in np.exp(middle + theta * apart[[0, -1]])]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten, or powers of ten alone over a wide range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 3, 4, 6, 8) if high / low < 12 else (1,)
    ticks = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
    return ticks[:: max(1, math.ceil(len(ticks) / 5))]


def _told(words: Words, estimate: dict[str, Any]) -> str:
    """Slope, interval and verdict, or why there is none."""
    if not estimate or missing(estimate["estimate"]):
        return words.say("no slope: ", "无斜率：") + str(estimate.get("reason", ""))
    theta = signed(float(estimate["estimate"]))
    if missing(estimate["ci_lower"]):
        return f"θ = {theta}; {estimate['reason']}"
    span = f"{signed(float(estimate['ci_lower']))}, {signed(float(estimate['ci_upper']))}"
    level = f"{100 * float(estimate['confidence']):g} % CI"
    below = estimate["analysis"] == "power_model_censored"
    how = words.say(", below LLOQ censored", "，低于定量下限者删失") if below else ""
    return f"θ = {theta} ({level} {span}{how}); {verdict_words(words, str(estimate['verdict']))}"


def _notes(results: Results, context: Context, found: pd.DataFrame, words: Words) -> tuple[str, ...]:
    level = f"{100 * context.settings.statistics.dose_proportionality.confidence:g} %"
    shown = found[found["state"].isin((VALUE, BELOW)) & found["amount"].notna()]
    out = sorted(set(found["patient_id"]) - set(shown["patient_id"]))
    notes = [
        words.say(
            f"θ: slope of the power model with its {level} CI, by least squares, shaded the {level} band of the mean; "
            "where a patient is below the LLOQ by maximum likelihood with this patient censored, its CI by the profile "
            "of the likelihood, no band. Dashed: slope 1 through the middle of the line. Open down-triangle: sampled "
            "in the window and never quantified, at the bound (lowest LLOQ; for AUC times the length of the window). "
            "Amount: sum of the infusions that started before the end of the window.",
            f"θ：幂模型斜率及 {level} CI，最小二乘，阴影为均值的 {level} 带；有低于定量下限者时，按删失作极大似然，"
            "CI 由似然剖面得到，无带。虚线：经线中点、斜率为 1。空心下三角：窗口内已采样但从未定量，绘于其上界"
            "（最低定量下限；AUC 乘以窗口长度）。给药量：窗口结束前开始的各次输注之和。",
        )
    ]
    if out:
        few = words.join(out) if len(out) <= 8 else str(len(out))
        notes.append(words.say(f"Without a result or a known amount: {few}.", f"无结果或给药量未知：{few}。"))
    return (*notes, source_footnote(results, context, NEEDS))


FIGURE = Figure(
    name="dose_proportionality",
    id="F-CK-08",
    number="8",
    title={"en": "Exposure against the amount given", "zh": "暴露量与实际给药量"},
    needs=NEEDS,
    draw=draw,
)
