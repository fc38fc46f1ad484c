"""F-CK-19: predicted Cmax and AUC by dose level with the observed ones, and the predicted course at each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter

from nkinetics.figures._style import (
    FAINT,
    INK,
    MUTED,
    WIDTH,
    bare,
    below,
    below_key,
    canvas,
    day_axis,
    day_label,
    display,
    dose_look,
    draw_below,
    heading,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    note_in,
    palette,
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.findings import USEFUL_FACTOR, limit_note, useful, usefulness_note
from nkinetics.plugins import Figure, FigureBody
from nkinetics.population.exposure import exposed
from nkinetics.results import Context, Results
from nkinetics.wording import Words, amount, everyone, missing, profile_name, significant, source_footnote, unit_name

NEEDS = ("population_forecast", "population_forecast_curves", "nca", "observations", "patients")
COLUMNS, MOST = 4, 8
"""Courses side by side, and at most."""
HATCH = "////"
"""Of what is extrapolated."""


def draw(results: Results, context: Context) -> FigureBody:
    """Exposure by scenario above, courses below."""
    words, rows = words_of(context), results.table("population_forecast")
    numbers = rows[rows["median"].notna()]
    if not len(numbers):
        told = "; ".join(sorted({str(r) for r in rows["reason"] if r}))
        none = words.say("No population forecast.", "无群体预测。")
        note = words.colon(none.rstrip(".。"), told) if told else none
        return FigureBody(None, note=note, footnotes=(source_footnote(results, context, NEEDS),))
    order = numbers[["scenario", "dose", "extrapolation"]].drop_duplicates("scenario")
    order = order.sort_values(["dose", "scenario"], ignore_index=True)
    names = [str(s) for s in order["scenario"]]
    beyond = {str(s) for s, e in zip(order["scenario"], order["extrapolation"], strict=True) if bool(e)}
    looks = _looks(results, names)
    assay, specimen = str(numbers["assay"].iloc[0]).split("+")[0], str(numbers["specimen"].iloc[0])
    areas = sorted({str(q) for q in numbers["quantity"] if str(q).startswith("curve_auc_")}, key=_window)
    shown = names[:MOST]
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = canvas(4.25 + lines * 2.75)
    level = f"{100 * context.settings.prediction.confidence:g} %"
    legend(figure, _keys(words, level, bool(beyond)), 0.08, columns=4, x=0.1)
    top = panels(figure, 1, 2, (0.85, 0.95, WIDTH - 0.15, 3.35), (0.95, 0))[0]
    quantities = ["curve_cmax", *areas[:1]]
    for axes, quantity in zip(top, quantities, strict=False):
        _exposure(axes, results, numbers, quantity, names, looks, (assay, specimen), words)
    for axes in top[len(quantities) :]:
        say_in(axes, words.say("no area was predicted", "未预测面积"))
    courses = results.table("population_forecast_curves")
    heading(figure, 0.1, 4.08, words.say("Course of a new patient at each dosing", "各给药方案下新患者的水平变化"), 9)
    grid = panels(figure, lines, columns, (0.85, 4.45, WIDTH - 0.15, 4.45 + lines * 2.75 - 0.65), (0.2, 0.75))
    observed = reportable(results, assay, specimen)
    lloq = _lloq(rows)
    # Far below the LLOQ nobody can look: the axis goes to a hundredth of it.
    limits = log_limits(*(courses[c].clip(lower=lloq / 100) for c in ("lower", "upper")), quantified(observed)["level"])
    reference = _reference(names, beyond)
    for k, name in enumerate(shown):
        axes = grid[k // columns, k % columns]
        own = courses[courses["scenario"] == name].sort_values("time")
        other = courses[courses["scenario"] == reference].sort_values("time") if name in beyond else own.iloc[:0]
        _course(axes, own, other, observed[observed["dose_level"] == name], looks[name], name in beyond, words)
        if lloq > 0:
            axes.axhline(lloq, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=3)
        dose = float(order.loc[order["scenario"] == name, "dose"].iloc[0])
        axes.set_title(_title(name, dose), fontsize=8.5)
        log_axis(axes, *limits)
        bare(axes, y=k % columns > 0)
        if k % columns == 0:
            axes.set_ylabel(level_label(words, _unit(numbers)))
    for k in range(len(shown), lines * columns):
        grid[k // columns, k % columns].remove()
    figure.text(0.5, 0.06 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    notes = (
        *_notes(words, results, numbers, names, beyond, reference, level),
        *filter(None, [usefulness_note(results, context), limit_note(results, context)]),
        source_footnote(results, context, NEEDS),
    )
    subtitle = f"{everyone(results, words)} · " + profile_name(context, assay, specimen, _unit(numbers))
    return FigureBody(figure, notes, _alt(words, numbers, names, beyond, level), subtitle)


def _lloq(rows: pd.DataFrame) -> float:
    """LLOQ of the shares; 0 where it is not known."""
    known = rows.loc[rows["quantity"].str.startswith("above_lloq"), "limit"].dropna()
    return float(known.iloc[0]) if len(known) else 0.0


def _unit(numbers: pd.DataFrame) -> str:
    return str(numbers.loc[numbers["quantity"] == "curve_cmax", "unit"].iloc[0])


def _window(quantity: str) -> tuple[float, ...]:
    return tuple(float(t) for t in quantity.removeprefix("curve_auc_D").split("-"))


def _title(name: str, dose: float) -> str:
    return f"{name} · {_rounded(dose)}"


def _rounded(dose: float) -> str:
    return amount(float(f"{dose:.3g}"))


def _looks(results: Results, names: list[str]) -> dict[str, str]:
    """Colour of each scenario; a dose level of the study keeps its own."""
    known = {d: look[0] for d, look in dose_look(results).items()}
    others = [c for c in palette() if c not in known.values()]
    strangers = [n for n in names if n not in known]
    return {**known, **{n: others[i % len(others)] for i, n in enumerate(strangers)}}


def _reference(names: list[str], beyond: set[str]) -> str:
    """The highest dosing that was given: what an extrapolated one is compared with; empty where there is none."""
    given = [n for n in names if n not in beyond]
    return given[-1] if given else ""


def _keys(words: Words, level: str, extrapolated: bool) -> list[Any]:
    keys = [
        key(words.say("observed", "实测"), marker="o", markersize=4, markerfacecolor="white", markeredgecolor=INK),
        below_key(words),
        key(words.say("median of a new patient", "新患者中位数"), marker="D", markersize=4.5, color=INK),
        key(words.say(f"{level} of new patients", f"{level} 新患者"), linestyle="-", linewidth=1.2),
        key(words.say(f"{level} of cohort medians", f"{level} 队列中位数"), linestyle="-", linewidth=4.5, color=FAINT),
    ]
    if extrapolated:
        keys.append(
            key(words.say("dashed, hatched: extrapolated", "虚线、斜线：外推"), linestyle=(0, (3, 1.6)), linewidth=1.3)
        )
    return keys


def _observed(results: Results, quantity: str, assay: str, specimen: str) -> pd.DataFrame:
    """Measured Cmax or AUC of each patient: patient_id, dose_level, value."""
    of_cmax = quantity == "curve_cmax"
    window = "overall" if of_cmax else quantity.removeprefix("curve_auc_")
    parameter = "cmax" if of_cmax else "auc_int"
    frame = exposed(results)
    frame = frame[(frame["assay"] == assay) & (frame["specimen"] == specimen) & frame["value"].notna()]
    return frame[(frame["parameter"] == parameter) & (frame["window"] == window)]


def _exposure(
    axes: Axes,
    results: Results,
    numbers: pd.DataFrame,
    quantity: str,
    names: list[str],
    looks: dict[str, str],
    kind: tuple[str, str],
    words: Words,
) -> None:
    own = numbers[numbers["quantity"] == quantity].set_index("scenario")
    seen = _observed(results, quantity, *kind)
    seen = seen[seen["dose_level"].isin(names) & (seen["value"] > 0)]
    ends = own[["lower", "upper", "median"]].to_numpy(dtype=float).ravel()
    log_axis(axes, *log_limits(ends, seen["value"]))
    low, high = axes.get_ylim()
    for k, name in enumerate(names):
        if name not in own.index:
            continue
        row, colour = own.loc[name], looks[name]
        extrapolated = bool(row["extrapolation"])
        bottom, top = (
            (low if missing(row["lower"]) else row["lower"]),
            (high if missing(row["upper"]) else row["upper"]),
        )
        if extrapolated:
            axes.axvspan(k - 0.5, k + 0.5, facecolor="none", edgecolor=FAINT, hatch=HATCH, linewidth=0, zorder=0)
        axes.plot([k, k], [bottom, top], color=colour, linewidth=1.2, linestyle=_dashes(extrapolated), zorder=3)
        axes.plot(
            [k, k],
            [row["cohort_lower"], row["cohort_upper"]],
            color=colour,
            linewidth=5.5,
            alpha=0.35,
            solid_capstyle="butt",
            zorder=2,
        )
        # Where the table says "no useful forecast", the figure draws no middle either.
        if useful(row["lower"], row["upper"]):
            axes.plot(
                [k],
                [row["median"]],
                marker="D",
                markersize=5,
                color=colour,
                markerfacecolor="white" if extrapolated else colour,
                zorder=4,
            )
        values = np.sort(seen.loc[seen["dose_level"] == name, "value"].to_numpy(dtype=float))
        if len(values):
            # Side by side in a fixed order: points never lie on one another, and never move.
            x = k + 0.16 + 0.2 * (np.arange(len(values)) % 4) / 4.0
            axes.plot(x, values, "o", markersize=4, markerfacecolor="white", markeredgecolor=colour, zorder=5)
        never = _never(results, name, kind) if quantity == "curve_cmax" else []
        if never:
            x = k + 0.16 + 0.2 * (np.arange(len(never)) % 4) / 4.0
            axes.plot(x, never, "v", markersize=4, markerfacecolor="white", markeredgecolor=colour, zorder=5)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.xaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    axes.set_xticklabels([_label(words, n, own) for n in names], fontsize=7.5)
    axes.xaxis.set_minor_formatter(NullFormatter())
    area = quantity.removeprefix("curve_auc_").replace("-", "–")
    unit = unit_name(str(own["unit"].iloc[0]))
    axes.set_title("Cmax" if quantity == "curve_cmax" else f"AUC {area}", fontsize=9)
    axes.set_ylabel(f"{'Cmax' if quantity == 'curve_cmax' else 'AUC'} ({unit})")


def _never(results: Results, dose_level: str, kind: tuple[str, str]) -> list[float]:
    """Lowest LLOQ of each patient of a dose level in whom nothing was quantified: the bound of his Cmax everywhere."""
    rows = reportable(results, *kind)
    rows = rows[(rows["dose_level"] == dose_level) & (rows["time_actual"] > 0)]
    own = rows[~rows["patient_id"].isin(quantified(rows)["patient_id"])]
    return sorted(below(own).groupby("patient_id")["lloq"].min().tolist())


def _label(words: Words, name: str, own: pd.DataFrame) -> str:
    if name not in own.index:
        return name
    row = own.loc[name]
    text = f"{name}\n{_rounded(float(row['dose']))}"
    return text + (words.say("\nextrapolated", "\n外推") if bool(row["extrapolation"]) else "")


def _dashes(extrapolated: bool) -> Any:
    return (0, (3, 1.6)) if extrapolated else "-"


def _course(
    axes: Axes,
    own: pd.DataFrame,
    other: pd.DataFrame,
    observed: pd.DataFrame,
    colour: str,
    extrapolated: bool,
    words: Words,
) -> None:
    time = display(own["time"])
    hatch = HATCH if extrapolated else None
    low, high = own["lower"].to_numpy(dtype=float), own["upper"].to_numpy(dtype=float)
    axes.fill_between(time, low, high, facecolor=colour, alpha=0.14, linewidth=0, zorder=1)
    if extrapolated:
        axes.fill_between(time, low, high, facecolor="none", edgecolor=FAINT, hatch=hatch, linewidth=0, zorder=1)
    axes.fill_between(time, own["lower_50"], own["upper_50"], facecolor=colour, alpha=0.28, linewidth=0, zorder=2)
    axes.plot(time, own["median"], color=colour, linestyle=_dashes(extrapolated), linewidth=1.6, zorder=4)
    if len(other):
        axes.plot(display(other["time"]), other["median"], color=MUTED, linewidth=1.0, zorder=3)
    last = float(own["time"].max())
    day_axis(axes, 0.0, last, most=6)
    seen = observed[observed["time_actual"] <= last]
    if len(seen):
        line = quantified(seen)
        axes.plot(
            display(line["time_actual"]),
            line["level"],
            "o",
            markersize=2.6,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=0.8,
            zorder=5,
        )
        draw_below(axes, seen, MUTED, 3.0)
    if extrapolated:
        note_in(axes, words.say("extrapolated", "外推"))


def _notes(
    words: Words,
    results: Results,
    numbers: pd.DataFrame,
    names: list[str],
    beyond: set[str],
    reference: str,
    level: str,
) -> list[str]:
    n = int(numbers["cohort"].dropna().iloc[0])
    notes = [
        words.say(
            f"Thin line: {level} prediction interval of a new patient (what is not known of the population, and "
            f"differences between patients); thick line: {level} of the medians of cohorts of {n}; diamond: "
            f"median, drawn where the interval spans no more than a factor of {USEFUL_FACTOR:g}. "
            f"Courses: median, bands of 50 % and {level} of new patients, without measurement error.",
            f"细线：新患者的 {level} 预测区间（含群体参数不确定性与患者间差异）；"
            f"粗线：每组 {n} 例队列中位数的 {level}；菱形：中位数，仅在区间跨度不超过 {USEFUL_FACTOR:g} 倍时绘出。"
            f"曲线：新患者的中位数、50 % 及 {level} 区带，不含测量误差。",
        ),
        words.say(
            "Circles: observed Cmax and AUC of the non-compartmental analysis, and observed levels of the dose level. "
            "A patient without a quantified level has no AUC, and his Cmax lies below his lowest LLOQ (triangle). "
            "Dotted: LLOQ. An observed Cmax holds measurement error, and the peak "
            "may lie between samples: it is not the same quantity as the peak of a curve.",
            "圆圈：非房室分析的实测 Cmax 与 AUC，及该剂量水平的实测水平。"
            "无可定量水平者无 AUC，其 Cmax 低于其最低定量下限（三角）。点线：定量下限。"
            "实测 Cmax 含测量误差，且峰可能位于两次采样之间，与曲线的峰并非同一量。",
        ),
    ]
    for name in [x for x in names if x in beyond]:
        told = [r for r in numbers.loc[numbers["scenario"] == name, "reason"] if r]
        why = str(told[0]).split("; level in proportion")[0] if told else ""
        line = words.say(f"; grey line: median at {reference}", f"；灰线：{reference} 的中位数") if reference else ""
        notes.append(words.colon(name, f"{why}{line}") + words.say(".", "。"))
    said = {part for r in numbers["reason"] for part in str(r).split("; ") if "proportion" in part}
    if said:
        text = "; ".join(sorted(said))
        notes.append(words.colon(words.say("Dose", "剂量"), text) + words.say(".", "。"))
    if len(names) > MOST:
        left = words.join(names[MOST:])
        notes.append(words.say(f"Courses not drawn for want of room: {left}.", f"因版面未绘曲线：{left}。"))
    return notes


def _alt(words: Words, numbers: pd.DataFrame, names: list[str], beyond: set[str], level: str) -> str:
    own = numbers[numbers["quantity"] == "curve_cmax"].set_index("scenario")
    parts = []
    for name in [n for n in names if n in own.index]:
        row = own.loc[name]
        ends = [significant(float(row[c])) if not missing(row[c]) else "?" for c in ("median", "lower", "upper")]
        said = words.say(
            f"predicted Cmax {ends[0]} ({level}: {ends[1]} to {ends[2]})",
            f"预测 Cmax {ends[0]}（{level}：{ends[1]} 至 {ends[2]}）",
        )
        parts.append(f"{name} {said}" + (words.say(", extrapolated", "，外推") if name in beyond else ""))
    return words.join(parts)


FIGURE = Figure(
    name="forecast",
    id="F-CK-19",
    number="19",
    title={"en": "Predicted exposure and course by dose level", "zh": "按剂量水平预测的暴露与变化"},
    needs=NEEDS,
    draw=draw,
)
