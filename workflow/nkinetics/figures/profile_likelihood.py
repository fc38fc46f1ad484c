"""F-CK-17: profile likelihood of each parameter of the default model, patient by patient: what the data determine."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from nkinetics.figures._style import (
    FAINT,
    INK,
    MUTED,
    WIDTH,
    canvas,
    heading,
    key,
    legend,
    palette,
    panels,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody, discover
from nkinetics.results import Context, Results, rows_by
from nkinetics.wording import (
    Words,
    grouped,
    missing,
    profile_name,
    profiles,
    significant,
    source_footnote,
    unit_name,
    without_quantified,
)

NEEDS = ("likelihood_profiles", "estimates", "fits", "observations", "patients")
MOST = 12
"""Patients shown of an assay: more would be too small to read."""
ACROSS = 8
"""Panels beside each other, about: a patient's parameters are never parted."""
PANEL, GAP, TOP = 0.72, 0.66, 2.2
"""Height of a panel and of the space over it, inches; the axis reaches to so many cut-offs."""


def draw(results: Results, context: Context) -> FigureBody:
    """One block per assay; a patient's parameters stand beside each other."""
    words, kinds = words_of(context), profiles(results)
    curves = results.rows("likelihood_profiles", model=context.settings.models.default)
    if not len(curves) or not len(kinds):
        none = words.say(
            "No profile likelihood: no model was fitted, or models.profile_points is 0.",
            "无剖面似然：未拟合任何模型，或 models.profile_points 为 0。",
        )
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    estimates = results.table("estimates")
    estimates = estimates[(estimates["model"] == context.settings.models.default) & (estimates["kind"] == "fitted")]
    names = _names(context, estimates)
    together = max(1, ACROSS // len(names))
    blocks = []
    for kind in kinds.itertuples():
        own = curves[(curves["assay"] == kind.assay) & (curves["specimen"] == kind.specimen)]
        mine = estimates[(estimates["assay"] == kind.assay) & (estimates["specimen"] == kind.specimen)]
        profiled = set(own["patient_id"])
        found = [p for p in results.patients["patient_id"] if p in profiled]
        blocks.append((kind, own, mine, found, shown(found, mine)))
    lines = [max(1, math.ceil(len(patients) / together)) for *_, patients in blocks]
    heights = [0.42 + n * (PANEL + GAP) for n in lines]
    figure = canvas(0.5 + sum(heights) + 0.1)
    legend(figure, _keys(words), 0.08, columns=6, x=0.1)
    top = 0.5
    for (kind, own, mine, found, patients), n, height in zip(blocks, lines, heights, strict=True):
        name = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        few = (
            ""
            if len(patients) == len(found)
            else words.say(f" – {len(patients)} of {len(found)} patients", f" – {len(found)} 例中的 {len(patients)} 例")
        )
        heading(figure, 0.1, top + 0.12, name + few, 10)
        if patients:
            _block(figure, words, own, mine, patients, names, (top + 0.42, n, together))
        else:
            heading(
                figure, 0.3, top + 0.6, words.say("no profile likelihood in this assay", "该检测无剖面似然"), 8, MUTED
            )
        top += height
    return FigureBody(
        figure,
        _notes(results, context, words, any(len(f) > len(p) for *_, f, p in blocks)),
        _alt(results, context, words, blocks),
        _subtitle(results, context, words),
    )


def shown(patients: list[str], estimates: pd.DataFrame, most: int = MOST) -> list[str]:
    """The patients whose panels are drawn, in their order.

    All up to `most`; of more, first those with a parameter that the data do not determine.

    Examples
    --------
    >>> few = pd.DataFrame({"patient_id": ["01", "02", "03"], "identifiable": [True, True, False]})
    >>> shown(["01", "02", "03"], few, 2)
    ['01', '03']
    """
    if len(patients) <= most:
        return patients
    loose = set(estimates.loc[~estimates["identifiable"].fillna(False).astype(bool), "patient_id"])
    first = [p for p in patients if p in loose] + [p for p in patients if p not in loose]
    chosen = set(first[:most])
    return [p for p in patients if p in chosen]


def _names(context: Context, estimates: pd.DataFrame) -> list[str]:
    known = discover("models").get(context.settings.models.default)
    present = list(dict.fromkeys(estimates["parameter"]))
    order = [*(known.names if known else ()), "sigma"]
    return sorted(present, key=lambda p: (order.index(p) if p in order else len(order), p))


def _block(
    figure: MatplotlibFigure,
    words: Words,
    curves: pd.DataFrame,
    estimates: pd.DataFrame,
    patients: list[str],
    names: list[str],
    place: tuple[float, int, int],
) -> None:
    top, lines, together = place
    count = len(names) * together
    box = (0.5, top + GAP - 0.3, WIDTH - 0.12, top + lines * (PANEL + GAP) - 0.3)
    grid = panels(figure, lines, count, box, (0.22, GAP))
    curve = rows_by(curves, "patient_id", "parameter")
    by_row = estimates.set_index(["patient_id", "parameter"])
    for position in range(lines * together):
        line, column = divmod(position, together)
        for j, name in enumerate(names):
            axes = grid[line, column * len(names) + j]
            own = curve(patients[position], name) if position < len(patients) else curves.iloc[:0]
            if not len(own):
                axes.remove()
                continue
            patient = patients[position]
            _panel(axes, words, own, by_row.loc[(patient, name)], name)
            if j == 0:
                axes.text(
                    0,
                    1.42,
                    patient,
                    transform=axes.transAxes,
                    fontsize=8,
                    fontweight="bold",
                    va="bottom",
                    clip_on=False,
                )
            axes.tick_params(left=j == 0, labelleft=j == 0)


def _panel(axes: Axes, words: Words, curve: pd.DataFrame, row: pd.Series, name: str) -> None:
    """Deviance in units of the cut-off against the parameter; estimate, ends of the interval or that a side is open."""
    curve = curve.sort_values("value", kind="stable")
    x, y, cut = (curve[c].to_numpy(dtype=float) for c in ("value", "deviance", "cutoff"))
    # Of sigma the two sides have cut-offs of their own: in units of it every panel has one.
    y, limit = y / cut, 1.0
    logs = bool((x > 0).all()) and x.max() > 3 * x.min()
    if logs:
        axes.set_xscale("log")
    inside = y <= limit * (1 + 1e-3)
    axes.axvspan(x[inside].min(), x[inside].max(), color="#dfe7ee", linewidth=0, zorder=0)
    axes.plot(x, np.minimum(y, TOP * limit * 1.05), color=INK, linewidth=1.2, zorder=3)
    axes.axhline(limit, color=palette()[3], linewidth=0.9, linestyle=(0, (4, 1.6)), zorder=2)
    axes.axvline(float(row["estimate"]), color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.4)), zorder=1)
    axes.set_ylim(0, TOP * limit)
    span = (x.min(), x.max()) if x.max() > x.min() else (x.min() * 0.9 - 1e-12, x.max() * 1.1 + 1e-12)
    axes.set_xlim(*span)
    opened = str(row["ci_open"])
    ends = [
        float(row[column])
        for column, sides in (("ci_lower", ("none", "upper")), ("ci_upper", ("none", "lower")))
        if opened in sides and not missing(row[column])
    ]
    within = [e for e in ends if span[0] <= e <= span[1]]
    axes.plot(within, [limit] * len(within), marker="|", markersize=7, markeredgewidth=1.3, color=INK, linestyle="none")
    ticks = within or [float(row["estimate"])]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([significant(t, 2) for t in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(FixedLocator([0.0, limit]))
    axes.yaxis.set_major_formatter(FixedFormatter(["0", "1"]))
    axes.tick_params(labelsize=6.9, length=2, pad=1.5)
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for label, side in zip(axes.get_xticklabels(), sides, strict=False):
        label.set_horizontalalignment("center" if len(ticks) < 2 else side)
    unit = unit_name(str(row["unit"])) if row["unit"] else ""
    axes.text(
        0, 1.2, f"{name} ({unit})" if unit else name, transform=axes.transAxes, fontsize=6.9, va="bottom", clip_on=False
    )
    said = _in_words(words, row)
    axes.text(
        0, 1.04, said, transform=axes.transAxes, fontsize=6.9, color=MUTED, va="bottom", style="italic", clip_on=False
    )
    for bound, where in (("lower", 0.0), ("upper", 1.0)):
        if opened in (bound, "both"):
            axes.plot(
                [where],
                [limit],
                transform=axes.get_yaxis_transform(),
                marker="<" if bound == "lower" else ">",
                markersize=4.5,
                color=palette()[3],
                clip_on=False,
                zorder=5,
            )


def _in_words(words: Words, row: pd.Series) -> str:
    """What the panel says: open sides first, else that the data determine the parameter, else why not."""
    sides = {
        "lower": words.say("open below", "下侧开放"),
        "upper": words.say("open above", "上侧开放"),
        "both": words.say("open on both sides", "两侧开放"),
    }
    if str(row["ci_open"]) in sides:
        return sides[str(row["ci_open"])]
    good = not missing(row["identifiable"]) and bool(row["identifiable"])
    return words.say("identifiable", "可识别") if good else words.say("not identifiable", "不可识别")


def _keys(words: Words) -> list[Artist]:
    return [
        key(words.say("profile likelihood", "剖面似然"), linestyle="-", color=INK),
        key(words.say("cut-off", "临界值"), linestyle=(0, (4, 1.6)), color=palette()[3], linewidth=0.9),
        key(words.say("estimate", "估计值"), linestyle=(0, (1, 1.4)), color=MUTED, linewidth=0.8),
        Patch(facecolor="#dfe7ee", edgecolor=FAINT, label=words.say("inside the interval", "区间内")),
        key(words.say("end of the interval", "区间端点"), marker="|", markersize=7, markeredgewidth=1.3),
        key(words.say("open side", "开放侧"), marker=">", markersize=4.5, color=palette()[3]),
    ]


def _subtitle(results: Results, context: Context, words: Words) -> str:
    known = discover("models").get(context.settings.models.default)
    title = words.pick(known.title) if known else context.settings.models.default
    n = len(results.patients)
    return f"{words.say(f'All patients (n = {n})', f'全部患者（n = {n}）')} · {title}"


def _notes(results: Results, context: Context, words: Words, limited: bool) -> tuple[str, ...]:
    models = context.settings.models
    rule = (
        words.say(
            f" Of an assay with more than {MOST} patients {MOST} are drawn: first those with a parameter that is not "
            "identifiable, in order of dose level and patient; likelihood_profiles.csv holds all.",
            f"患者多于 {MOST} 例的检测仅绘 {MOST} 例：先取有不可识别参数者，按剂量水平与患者排序；"
            "likelihood_profiles.csv 含全部。",
        )
        if limited
        else ""
    )
    cutoff = words.say(
        "n ln(1 + F(1, n - p)/(n - p)), n quantified rows and p parameters of the curve; for sigma one for each side, "
        "so that both tails are equal",
        "n ln(1 + F(1, n - p)/(n - p))，n 个定量行、曲线 p 个参数；sigma 两侧各有其值，使两尾相等",
    )
    if models.interval_cutoff == "chi_square":
        cutoff = words.say("the chi-square quantile", "卡方分位数")
    other = (
        ""
        if models.interval == "profile"
        else words.say(
            f" The ends marked are those of the configured method ({models.interval}) and need not lie on the cut-off.",
            f"所标端点来自配置的方法（{models.interval}），不必位于临界值上。",
        )
    )
    missing_ones = _without(results, context, words)
    return (
        words.say(
            "Each panel: 2 (ln L at the optimum - ln L), in units of the cut-off, with the parameter held at a value "
            f"and all others, sigma among them, fitted anew. The {100 * models.confidence:g} % interval holds the "
            f"values whose curve lies below the cut-off: {cutoff}. Where the curve never reaches it the interval is "
            f"open on that side (arrowhead): the data do not bound the parameter there.{other}{rule}",
            "各图：将参数固定于某值、其余参数（含 sigma）重新拟合时的 2 (最优 ln L - ln L)，以临界值为单位。"
            f"{100 * models.confidence:g} % 区间为曲线低于临界值的取值，临界值：{cutoff}。"
            f"曲线未达临界值的一侧区间开放（箭头）：数据在该侧不限定该参数。{other}{rule}",
        ),
        *missing_ones,
        source_footnote(results, context, NEEDS),
    )


def _without(results: Results, context: Context, words: Words) -> list[str]:
    """Patients without a profile likelihood, by assay, with the reason."""
    curves = results.rows("likelihood_profiles", ["patient_id", "assay", "specimen"])
    fits = results.table("fits")
    fits = fits[fits["model"] == context.settings.models.default]
    found = []
    for kind in profiles(results).itertuples():
        own = curves[(curves["assay"] == kind.assay) & (curves["specimen"] == kind.specimen)]
        mine = fits[(fits["assay"] == kind.assay) & (fits["specimen"] == kind.specimen)]
        drawn, told_of = set(own["patient_id"]), dict(zip(mine["patient_id"], mine["reason"], strict=True))
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        lost = {
            str(patient): str(told_of.get(patient, "")) or reasons.get(str(patient), words.say("not fitted", "未拟合"))
            for patient in results.patients["patient_id"]
            if patient not in drawn
        }
        if lost:
            told = grouped(lost, words)
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            found.append(words.say(f"No panel, {name}: {told}.", f"无图，{name}：{told}。"))
    return found


def _alt(results: Results, context: Context, words: Words, blocks: list[tuple]) -> str:
    parts = []
    for kind, _, estimates, found, _ in blocks:
        told = []
        for name in _names(context, estimates):
            own = estimates[(estimates["parameter"] == name) & estimates["patient_id"].isin(found)]
            n = int((own["ci_open"].isin(("lower", "upper", "both"))).sum())
            told.append(words.say(f"{name} open in {n} of {len(own)}", f"{name} 在 {len(own)} 例中 {n} 例开放"))
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        parts.append(words.colon(name, words.join(told) or words.say("nobody", "无")))
    return "; ".join(parts)


FIGURE = Figure(
    name="profile_likelihood",
    id="F-CK-17",
    number="17",
    title={"en": "Profile likelihood of each model parameter by patient", "zh": "各患者模型参数的剖面似然"},
    needs=NEEDS,
    draw=draw,
)
