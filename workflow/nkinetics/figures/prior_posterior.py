"""F-CK-21: prior against posterior of each population parameter: what the data add, and what the prior does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from nkinetics.figures._style import INK, MUTED, WIDTH, canvas, key, legend, note_in, palette, panels, words_of
from nkinetics.leading import (
    Shown,
    none_fitted,
    ordered,
    parameter_name,
    parameter_of,
    shown,
    subtitle_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, missing, significant, source_footnote, unit_name

NEEDS = ("population_draws", "population", "population_comparison", "patients")
COLUMNS, PANEL = 3, 1.25
"""Panels beside each other; height of one, inches."""
SPEAKS = 0.5
"""Ratio of the posterior's to the prior's SD above which the prior is said to carry much of the result."""


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per parameter with a prior."""
    words, fit = words_of(context), _bayes(results)
    why = none_fitted(results, context, fit)
    draws = results.table("population_draws")
    draws = draws.iloc[:0] if fit is None else fit.of(draws)
    if shown(results) is not None and fit is None:
        why = words.say(
            "No prior: the population was estimated by maximum likelihood (SAEM) alone.",
            "无先验：群体仅以最大似然（SAEM）估计。",
        )
    if fit is None or why or not len(draws):
        why = why or words.say("No draw of the posterior was kept.", "未保存后验抽样。")
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))
    table = fit.of(results.table("population")).set_index(["kind", "parameter"])
    present = ordered(draws[["kind", "parameter"]].drop_duplicates(), fit.model)
    rows = math.ceil(len(present) / COLUMNS)
    figure = canvas(0.5 + rows * (PANEL + 0.72) + 0.05)
    legend(figure, _keys(words), 0.08, columns=3, x=0.1)
    bottom = 0.75 + rows * (PANEL + 0.72) - 0.72
    grid = panels(figure, rows, COLUMNS, (0.2, 0.75, WIDTH - 0.15, bottom), (0.35, 0.72))
    ratios: dict[str, float] = {}
    for position, (kind, name) in enumerate(zip(present["kind"], present["parameter"], strict=True)):
        axes = grid[position // COLUMNS, position % COLUMNS]
        own = draws[(draws["kind"] == kind) & (draws["parameter"] == name)]["value"].to_numpy(dtype=float)
        row = table.loc[(kind, name)]
        head = parameter_name(words, str(kind), str(name))
        ratio = _panel(axes, words, own, str(kind), str(name), row, fit.model)
        if not math.isnan(ratio):
            ratios[head] = ratio
        unit = unit_name(str(row["unit"])) if row["unit"] else ""
        axes.set_title(f"{head} ({unit})" if unit else head, fontsize=8)
        axes.set_xlabel(str(row["prior"]), fontsize=6.9, color=MUTED)
    for position in range(len(present), rows * COLUMNS):
        grid[position // COLUMNS, position % COLUMNS].remove()
    return FigureBody(
        figure,
        (*_notes(words, ratios), source_footnote(results, context, NEEDS)),
        _alt(words, ratios),
        subtitle_of(results, context, fit),
    )


def _bayes(results: Results) -> Shown | None:
    """The Bayesian fit of the model shown; None where there is none."""
    fit = shown(results)
    if fit is None:
        return None
    own = Shown(fit.assay, fit.specimen, fit.model, "bayes")
    return own if len(own.of(results.table("population"))) else None


def _keys(words: Words) -> list:
    return [
        Patch(facecolor=palette()[0], alpha=0.35, label=words.say("posterior", "后验")),
        key(words.say("prior", "先验"), linestyle=(0, (4, 2)), color=INK),
        key(words.say("posterior median", "后验中位数"), linestyle="-", color=palette()[0]),
    ]


def density(draws: np.ndarray, x: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Kernel density of draws at x (Gaussian, Silverman's width); mass that would fall below a floor is turned back.

    Examples
    --------
    >>> x = np.linspace(0, 12, 601)
    >>> d = np.abs(np.random.default_rng(1).standard_normal(2000))
    >>> bool(abs(np.trapezoid(density(d, x, 0.0), x) - 1) < 0.01)
    True
    """
    spread = min(draws.std(ddof=1), float(np.subtract(*np.quantile(draws, [0.75, 0.25]))) / 1.349) or draws.std(ddof=1)
    width = 0.9 * max(spread, 1e-9) * len(draws) ** -0.2

    def kernel(at: np.ndarray) -> np.ndarray:
        z = (x[:, None] - at) / width
        return np.exp(-0.5 * z * z).mean(axis=1) / (width * np.sqrt(2 * np.pi))

    found = kernel(draws)
    if floor is not None:
        found = np.where(x >= floor, found + kernel(2 * floor - draws), 0.0)
    return found


def _panel(axes: Axes, words: Words, draws: np.ndarray, kind: str, name: str, row: pd.Series, model: str) -> float:
    """Draw one parameter; the ratio of the posterior's to the prior's SD, nan without a prior."""
    spread = kind in ("omega", "sigma") and not name.startswith("corr_")
    # An SD has its prior on itself, and its draws as ln.
    own = np.exp(draws) if spread else draws
    known = not missing(row["prior_sd"])
    low, high = (float(q) for q in np.quantile(own, [0.005, 0.995]))
    room = 0.35 * (high - low) or 0.5
    low, high = (0.0 if spread else low - room), high + room
    if known and not spread:
        # As far as the prior's middle, so that a prior beside the data is seen.
        low, high = min(low, row["prior_mean"] - row["prior_sd"]), max(high, row["prior_mean"] + row["prior_sd"])
    x = np.linspace(low, high, 241)
    curve = density(own, x, 0.0 if spread else None)
    axes.fill_between(x, 0.0, curve, color=palette()[0], alpha=0.35, linewidth=0, zorder=2)
    middle = float(np.median(own))
    axes.vlines(middle, 0.0, float(np.interp(middle, x, curve)), color=palette()[0], linewidth=1.2, zorder=3)
    ratio = float("nan")
    if known:
        z = (x - row["prior_mean"]) / row["prior_sd"]
        prior = np.exp(-0.5 * z * z) / (row["prior_sd"] * np.sqrt(2 * np.pi)) * (2.0 if spread else 1.0)
        axes.plot(x, prior, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=4)
        # SD of a half-normal of scale s: s sqrt(1 - 2/pi).
        width = float(row["prior_sd"]) * (math.sqrt(1 - 2 / math.pi) if spread else 1.0)
        ratio = float(own.std(ddof=1)) / width
        note_in(axes, words.say(f"SD {100 * ratio:.0f} % of prior's", f"SD 为先验的 {100 * ratio:.0f} %"))
    else:
        note_in(axes, words.say("flat prior", "平坦先验"))
    axes.set_xlim(low, high)
    axes.set_ylim(0.0, 1.25 * float(curve.max()))
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_printed(kind, name, model)))
    axes.tick_params(labelsize=6.9)
    return ratio


def _printed(kind: str, name: str, model: str) -> Callable[[float, object], str]:
    """Ticks on the natural scale, however the axis runs."""
    parameter = parameter_of(model, name) if kind == "typical" else None
    scale = "identity" if parameter is None else parameter.scale
    if scale == "log":
        return lambda x, _: significant(math.exp(min(x, 300.0)), 2)
    if scale == "logit":
        return lambda x, _: significant(1.0 / (1.0 + math.exp(-max(min(x, 300.0), -300.0))), 2)
    return lambda x, _: f"{x:g}"


def _loud(words: Words, ratios: dict[str, float]) -> str:
    found = words.join(f"{name} ({100 * r:.0f} %)" for name, r in ratios.items() if r > SPEAKS)
    return found or words.say("none", "无")


def _notes(words: Words, ratios: dict[str, float]) -> tuple[str, ...]:
    return (
        words.say(
            "Under each panel its prior; axes run on the scale of estimation and are labelled on the natural one. "
            f"Posterior SD above {100 * SPEAKS:.0f} % of the prior's, so that the prior carries much of the result: "
            f"{_loud(words, ratios)}. Other priors: population.priors, weak_prior_sd and omega_prior.",
            "各图下方为其先验；坐标按估计尺度、刻度按自然尺度标注。后验 SD 超过先验 SD 的 "
            f"{100 * SPEAKS:.0f} %，即结果在较大程度上由先验决定者：{_loud(words, ratios)}。"
            "其他先验：population.priors、weak_prior_sd 与 omega_prior。",
        ),
    )


def _alt(words: Words, ratios: dict[str, float]) -> str:
    return words.say(
        f"Prior and posterior density of each population parameter; mostly from the prior: {_loud(words, ratios)}",
        f"各群体参数的先验与后验密度；主要来自先验：{_loud(words, ratios)}",
    )


FIGURE = Figure(
    name="prior_posterior",
    id="F-CK-21",
    number="21",
    title={"en": "Prior against posterior of the population parameters", "zh": "群体参数的先验与后验"},
    needs=NEEDS,
    draw=draw,
)
