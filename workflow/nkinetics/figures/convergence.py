"""F-CK-20: traces of the population parameters: whether the chains, or the runs, agree."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import INK, MUTED, WIDTH, canvas, key, legend, palette, panels, words_of
from nkinetics.leading import (
    METHOD_NAMES,
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
from nkinetics.wording import Words, missing, source_footnote

NEEDS = ("population_traces", "population", "population_comparison", "patients")
COLUMNS, PANEL = 3, 1.15
"""Panels beside each other; height of one, inches."""


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per parameter, one line per chain (Bayes) or run (SAEM)."""
    words, fit = words_of(context), shown(results)
    why = none_fitted(results, context, fit)
    traces = results.table("population_traces")
    traces = traces.iloc[:0] if fit is None else fit.of(traces)
    if fit is None or why or not len(traces):
        why = why or words.say("No trace of the estimation was kept.", "未保存估计轨迹。")
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))
    table = fit.of(results.table("population"))
    numbers = table.set_index(["kind", "parameter"])
    present = ordered(traces[["kind", "parameter"]].drop_duplicates(), fit.model)
    rows = math.ceil(len(present) / COLUMNS)
    figure = canvas(0.5 + rows * (PANEL + 0.5) + 0.2)
    chains = sorted(traces["chain"].unique())
    legend(figure, _keys(words, fit, len(chains)), 0.08, columns=2, x=0.1)
    grid = panels(figure, rows, COLUMNS, (0.65, 0.75, WIDTH - 0.15, 0.75 + rows * (PANEL + 0.5) - 0.5), (0.6, 0.5))
    for position, (kind, name) in enumerate(zip(present["kind"], present["parameter"], strict=True)):
        axes = grid[position // COLUMNS, position % COLUMNS]
        own = traces[(traces["kind"] == kind) & (traces["parameter"] == name)]
        _panel(axes, own, chains)
        row = numbers.loc[(kind, name)] if (kind, name) in numbers.index else None
        head = parameter_name(words, str(kind), str(name))
        axes.set_title(f"{head} · {_agreement(words, fit, row)}", fontsize=7.8)
        axes.set_ylabel(_scale(words, str(kind), str(name), fit.model), fontsize=7)
        axes.tick_params(labelbottom=position + COLUMNS >= len(present))
    for position in range(len(present), rows * COLUMNS):
        grid[position // COLUMNS, position % COLUMNS].remove()
    label = words.say("Iteration", "迭代") if fit.method == "saem" else words.say("Draw", "抽样")
    figure.text(0.5, 0.08 / figure.get_figheight(), label, ha="center", fontsize=8)
    return FigureBody(
        figure,
        (*_notes(words, fit, table), source_footnote(results, context, NEEDS)),
        _alt(words, fit, table),
        subtitle_of(results, context, fit),
    )


def _keys(words: Words, fit: Shown, n: int) -> list:
    name = (
        words.say("chains", "条链")
        if fit.method == "bayes"
        else words.say("runs from other starts", "次不同起点的运行")
    )
    return [
        key(words.say(f"{n} {name}, each its own line", f"{n} {name}，各为一线"), linestyle="-", color=palette()[0]),
        key(words.say("mean of their second halves", "后半段均值"), linestyle=(0, (4, 2)), color=INK),
    ]


def _panel(axes: Axes, own: pd.DataFrame, chains: list) -> None:
    colours = palette()
    for c, chain in enumerate(chains):
        line = own[own["chain"] == chain].sort_values("iteration")
        axes.plot(line["iteration"], line["value"], color=colours[c % len(colours)], linewidth=0.6, alpha=0.8, zorder=2)
    late = own[own["iteration"] >= 0.5 * own["iteration"].max()]["value"].dropna()
    if len(late):
        axes.axhline(float(late.mean()), color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=3)
    axes.grid(axis="y")
    axes.tick_params(labelsize=6.9, colors=MUTED)


def _scale(words: Words, kind: str, name: str, model: str) -> str:
    """Scale on which a parameter is estimated."""
    if kind in ("omega", "sigma"):
        return words.say("atanh", "atanh") if name.startswith("corr_") else "ln"
    parameter = parameter_of(model, name)
    if kind == "typical" and parameter is not None and parameter.scale != "identity":
        return {"log": "ln", "logit": "logit"}[parameter.scale]
    return words.say("as it is", "原尺度")


def _agreement(words: Words, fit: Shown, row: pd.Series | None) -> str:
    if row is None:
        return ""
    if fit.method == "bayes":
        if missing(row["rhat"]):
            return words.say("no Rhat", "无 Rhat")
        return f"Rhat {float(row['rhat']):.3f}, ESS {float(row['ess']):.0f}"
    if missing(row["seed_spread"]):
        return words.say("one run, or no SE", "单次运行或无 SE")
    return words.say(f"runs within {row['seed_spread']:.2f} SE", f"各次相差 {row['seed_spread']:.2f} SE")


def _worst(words: Words, fit: Shown, table: pd.DataFrame) -> str:
    if fit.method == "bayes" and table["rhat"].notna().any():
        return words.say(
            f"Rhat up to {table['rhat'].max():.3f} (1.02 at most), effective draws from {table['ess'].min():.0f} "
            "(400 at least)",
            f"Rhat 最大 {table['rhat'].max():.3f}（至多 1.02），有效抽样最少 {table['ess'].min():.0f}（至少 400）",
        )
    if fit.method == "saem" and table["seed_spread"].notna().any():
        return words.say(
            f"runs of equal likelihood differ by up to {table['seed_spread'].max():.2f} standard errors",
            f"似然相当的运行相差至多 {table['seed_spread'].max():.2f} 个标准误",
        )
    return words.say("agreement not known", "一致性未知")


def _notes(words: Words, fit: Shown, table: pd.DataFrame) -> tuple[str, ...]:
    method = METHOD_NAMES.get(fit.method, fit.method)
    how = (
        words.say(
            "Draws after the warm-up, thinned. Rhat compares the chains (Vehtari et al. 2021); ESS: independent draws "
            "to which they are equivalent.",
            "预热后的抽样，已抽稀。Rhat 比较各链（Vehtari 等 2021）；ESS：等价的独立抽样数。",
        )
        if fit.method == "bayes"
        else words.say(
            "Iterations of every run, thinned; steps of full size first, then falling ones.",
            "各次运行的迭代，已抽稀；先为全步长，后逐步减小。",
        )
    )
    return (
        words.say(
            f"{method}: {_worst(words, fit, table)}. {how} Values on the scale of estimation, as the axis says.",
            f"{method}：{_worst(words, fit, table)}。{how}数值为估计尺度，见坐标轴。",
        ),
    )


def _alt(words: Words, fit: Shown, table: pd.DataFrame) -> str:
    return words.say(
        f"Traces of the population parameters: {_worst(words, fit, table)}",
        f"群体参数的轨迹：{_worst(words, fit, table)}",
    )


FIGURE = Figure(
    name="convergence",
    id="F-CK-20",
    number="20",
    title={"en": "Convergence of the population estimation", "zh": "群体估计的收敛"},
    needs=NEEDS,
    draw=draw,
)
