"""F-CK-05: goodness of fit of the population model, levels below the LLOQ in their own shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
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
    log_axis,
    log_limits,
    panels,
    say_in,
    words_of,
)
from nkinetics.figures._style import MARKERS as SHAPES
from nkinetics.leading import Shown, none_fitted, shown, subtitle_of
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, missing, power_of_ten, source_footnote, unit_name

NEEDS = ("population_points", "population", "population_comparison", "patients")
NORMAL_95 = 1.959964
"""Between these two values lie 95 % of a standard normal."""
PARTS = 8
"""Groups of points whose mean is drawn as a trend."""


def draw(results: Results, context: Context) -> FigureBody:
    """Observed against population and individual prediction; npde against time and against population prediction."""
    words, fit = words_of(context), shown(results)
    why, points = none_fitted(results, context, fit), _points(results, fit)
    if fit is None or why or not len(points):
        why = why or words.say("No row entered the population model.", "无数据进入群体模型。")
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))
    figure = canvas(7.6)
    looks = _looks(results)
    legend(figure, _keys(words, looks, points), 0.08, columns=5, x=0.1)
    grid = panels(figure, 2, 2, (0.85, 0.72, WIDTH - 0.15, 7.05), (0.85, 0.85))
    unit = _unit(results, fit)
    at = _at(points)
    # One range for both, so that the line of identity is the diagonal of both.
    limits = _limits(points, at)
    against = {
        "population": words.say("Population prediction", "群体预测"),
        "individual": words.say("Individual prediction", "个体预测"),
    }
    for axes, (column, name) in zip(grid[0], against.items(), strict=True):
        _observed(axes, points, at, column, limits, looks)
        axes.set_title(words.say(f"Observed against {name.lower()}", f"实测与{name}"))
        axes.set_xlabel(f"{name} ({unit_name(unit)})")
        axes.set_ylabel(f"{words.say('Observed level', '实测水平')} ({unit_name(unit)})")
    known = points["npde"].notna()
    high = max(3.0, float(points["npde"].abs().max(skipna=True)) * 1.08) if known.any() else 3.0
    for axes, column in zip(grid[1], ("time", "population"), strict=True):
        _errors(axes, points[known], column, (limits, high), looks, words)
        if column == "time":
            day_axis(axes, 0.0, float(points["time"].max()), day_label(words))
            axes.set_title(words.say("npde against time", "npde 与时间"))
        else:
            _log_x(axes, *limits)
            axes.set_xlabel(f"{against['population']} ({unit_name(unit)})")
            axes.set_title(words.say("npde against population prediction", "npde 与群体预测"))
        axes.set_ylabel("npde")
    numbers = _numbers(points)
    return FigureBody(
        figure,
        (*_notes(words, context, fit, numbers), source_footnote(results, context, NEEDS)),
        _alt(words, numbers),
        subtitle_of(results, context, fit),
    )


def _points(results: Results, fit: Shown | None) -> pd.DataFrame:
    rows = results.table("population_points")
    rows = rows.iloc[:0] if fit is None else fit.of(rows)
    return rows.merge(results.patients[["patient_id", "dose_level"]], on="patient_id", how="left")


def _unit(results: Results, fit: Shown) -> str:
    rows = fit.of(results.table("population"))
    parameters = rows[rows["kind"] == "typical"].sort_values("parameter")
    # The level parameter carries the unit of the level: neither a time, nor a rate, nor a plain number.
    units = [str(u) for u in parameters["unit"] if u and u not in ("d", "1/d")]
    return units[0] if units else ""


def _at(points: pd.DataFrame) -> np.ndarray:
    """Where a row is drawn: its level, or the limit that it is below or above."""
    level, low, high = (points[c].to_numpy(dtype=float) for c in ("level", "lower", "upper"))
    return np.where(np.isfinite(level), level, np.where(np.isfinite(high), high, low))


def _limits(points: pd.DataFrame, at: np.ndarray) -> tuple[float, float]:
    """Range of the levels, and of the predictions of quantified ones, with a tenth below it.

    The prediction of a row below its LLOQ may be 1e-30: it stands at the edge, or the others could not be told apart.
    """
    seen = points[points["level"].notna()]
    low, high = log_limits(at, seen["population"], seen["individual"])
    return max(low, float(np.nanmin(at)) / 100.0) / 3.0, high


def _looks(results: Results) -> dict[str, tuple[str, str]]:
    colours = dose_look(results)
    return {d: (colours[d][0], SHAPES[i % len(SHAPES)]) for i, d in enumerate(sorted(colours))}


def _keys(words: Words, looks: dict[str, tuple[str, str]], points: pd.DataFrame) -> list:
    entries = [key(d, marker=marker, color=colour) for d, (colour, marker) in looks.items()]
    if _below(points).any():
        entries.append(
            key(
                words.say("below LLOQ (colour: dose level)", "低于定量下限（颜色：剂量水平）"),
                marker="v",
                markerfacecolor="white",
                markeredgecolor=MUTED,
            )
        )
    entries.append(key(words.say("mean of neighbouring points", "邻近点均值"), linestyle="-", color=INK, linewidth=1.0))
    return entries


def _below(points: pd.DataFrame) -> np.ndarray:
    return (points["level"].isna() & points["upper"].notna()).to_numpy()


def _marked(axes: Axes, points: pd.DataFrame, x: np.ndarray, y: np.ndarray, looks: dict[str, tuple[str, str]]) -> None:
    """Points by dose level; a censored one is an open triangle on the side where its level lies."""
    censored, below = points["level"].isna().to_numpy(), _below(points)
    many = 3.8 if len(points) < 500 else 2.4
    for dose_level, (colour, marker) in looks.items():
        own = (points["dose_level"] == dose_level).to_numpy()
        look: dict[str, Any] = {"linestyle": "none", "markersize": many, "color": colour, "zorder": 3}
        axes.plot(x[own & ~censored], y[own & ~censored], marker=marker, alpha=0.75, **look)
        hollow = {**look, "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.9}
        axes.plot(x[own & below], y[own & below], marker="v", **hollow)
        axes.plot(x[own & censored & ~below], y[own & censored & ~below], marker="^", **hollow)


def _observed(
    axes: Axes,
    points: pd.DataFrame,
    at: np.ndarray,
    column: str,
    limits: tuple[float, float],
    looks: dict[str, tuple[str, str]],
) -> None:
    low, high = limits
    x = np.clip(points[column].to_numpy(dtype=float), low, high)
    log_axis(axes, low, high)
    _log_x(axes, low, high)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    _marked(axes, points, x, at, looks)


def _log_x(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis like the y axis of `log_axis`."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    step = max(1, int(np.ceil((last - first + 1) / 7)))
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in range(first, last + 1, step)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: power_of_ten(round(np.log10(x)))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _errors(
    axes: Axes,
    points: pd.DataFrame,
    column: str,
    ends: tuple[tuple[float, float], float],
    looks: dict[str, tuple[str, str]],
    words: Words,
) -> None:
    limits, high = ends
    axes.set_ylim(-high, high)
    axes.axhline(0.0, color=MUTED, linewidth=0.8, zorder=1)
    for edge in (-NORMAL_95, NORMAL_95):
        axes.axhline(edge, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    if not len(points):
        say_in(axes, words.say("no prediction error could be computed", "无法计算预测误差"))
        return
    x = points[column].to_numpy(dtype=float)
    x = display(x) if column == "time" else np.clip(x, *limits)
    y = points["npde"].to_numpy(dtype=float)
    _marked(axes, points, x, y, looks)
    order = np.argsort(x, kind="stable")
    parts = [p for p in np.array_split(order, min(PARTS, max(1, len(x) // 5))) if len(p)]
    if len(parts) > 1:
        middle = [float(np.median(x[p])) for p in parts]
        axes.plot(middle, [float(y[p].mean()) for p in parts], color=INK, linewidth=1.0, zorder=4)


def _numbers(points: pd.DataFrame) -> dict[str, float]:
    known = points["npde"].dropna().to_numpy(dtype=float)
    residual = points["residual"].dropna().to_numpy(dtype=float)
    return {
        "n": len(points),
        "blq": int(_below(points).sum()),
        "mean": float(known.mean()) if len(known) else float("nan"),
        "sd": float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
        "residuals": len(residual),
        "residual_mean": float(residual.mean()) if len(residual) else float("nan"),
        "residual_sd": float(residual.std(ddof=1)) if len(residual) > 1 else float("nan"),
        "outside": float((np.abs(known) > NORMAL_95).mean()) if len(known) else float("nan"),
    }


def _summary(words: Words, numbers: dict[str, float]) -> str:
    if missing(numbers["mean"]):
        return words.say("no npde", "无 npde")
    sd = "" if missing(numbers["sd"]) else words.say(f", SD {numbers['sd']:.2f}", f"，SD {numbers['sd']:.2f}")
    outside = 100 * numbers["outside"]
    return words.say(
        f"npde: mean {numbers['mean']:.2f}{sd}, {outside:.0f} % beyond ±1.96 (expected 0, 1 and 5 %)",
        f"npde：均值 {numbers['mean']:.2f}{sd}，{outside:.0f} % 超出 ±1.96（期望 0、1 与 5 %）",
    )


def _notes(words: Words, context: Context, fit: Shown, numbers: dict[str, float]) -> tuple[str, ...]:
    weighted = ""
    if not missing(numbers["residual_sd"]):
        n, mean, sd = numbers["residuals"], numbers["residual_mean"], numbers["residual_sd"]
        # Toward 0 as the data of a patient get few: no test of the model, and therefore no panel.
        weighted = words.say(
            f"Individual weighted residuals of the {n:.0f} quantified rows: mean {mean:.2f}, SD {sd:.2f}; they shrink "
            "where a patient has few samples.",
            f"{n:.0f} 行可定量数据的个体加权残差：均值 {mean:.2f}，SD {sd:.2f}；患者样本少时趋于收缩。",
        )
    return (
        words.say(
            f"{numbers['n']:.0f} rows, {numbers['blq']:.0f} below their LLOQ (open down-triangles, above drawn at the "
            "LLOQ). Population prediction: curve of a typical patient with the infusions of this one; individual "
            "prediction: the patient's own curve. Predictions far below the levels stand at the edge. Dashed above: "
            "identity.",
            f"共 {numbers['n']:.0f} 行，其中 {numbers['blq']:.0f} 行低于定量下限（空心下三角，上图绘于定量下限处）。"
            "群体预测：接受该患者输注的典型患者的曲线；个体预测：患者自身的曲线。远低于实测范围的预测标于边缘。上图虚线：等值线。",
        ),
        words.say(
            f"{_summary(words, numbers)}. npde: normalised prediction distribution error, standard normal where the "
            "model holds (Brendel et al. 2006); the error of a row below its LLOQ is drawn at random within what the "
            f"row leaves open, and says little about that row alone. Dashed below: where 95 % lie. {weighted}",
            f"{_summary(words, numbers)}。npde：标准化预测分布误差，模型成立时服从标准正态（Brendel 等 2006）；"
            f"低于定量下限的行在其区间内随机抽取，单独意义有限。下图虚线：95 % 所在范围。{weighted}",
        ),
    )


def _alt(words: Words, numbers: dict[str, float]) -> str:
    return words.say(
        f"Observed levels against population and individual predictions, and prediction errors of {numbers['n']:.0f} "
        f"rows, {numbers['blq']:.0f} below their LLOQ; {_summary(words, numbers)}",
        f"实测水平与群体及个体预测，以及 {numbers['n']:.0f} 行（{numbers['blq']:.0f} 行低于定量下限）的预测误差；"
        f"{_summary(words, numbers)}",
    )


FIGURE = Figure(
    name="goodness_of_fit",
    id="F-CK-05",
    number="5",
    title={"en": "Goodness of fit of the population model", "zh": "群体模型的拟合优度"},
    needs=NEEDS,
    draw=draw,
)
