"""F-CK-16: standard curves of the quantitative PCR runs, read back, with their controls, replicates and verdict."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from nkinetics.figures._style import (
    FAINT,
    INK,
    MUTED,
    RULE,
    WIDTH,
    canvas,
    key,
    legend,
    over,
    palette,
    panels,
    say_in,
    words_of,
)
from nkinetics.observations import natural
from nkinetics.plugins import Figure, FigureBody
from nkinetics.quantify.qpcr import NEAR_LLOQ
from nkinetics.results import Context, Results, rows_by
from nkinetics.settings import Qpcr
from nkinetics.wording import Words, missing, power_of_ten, source_footnote

NEEDS = ("runs", "calibrators", "observations")
PANELS_UP_TO = 24
"""With more curves the refused ones are drawn, and of the others those that read back worst."""
TITLE, CURVE, DEVIATION, SPREAD = 0.58, 1.72, 0.72, 0.62
"""Inches of the heading and of the three strips of a run."""
GAP, UNDER = 0.12, 0.62
"""Inches between the strips, and under the last one."""
OUTSIDE: dict[str, Any] = {
    "marker": "X",
    "markersize": 6,
    "color": palette()[3],
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
}
LANE = 0.9
"""Width of the lane of the no-template controls, in powers of ten."""


@dataclass(frozen=True)
class _Run:
    """One curve: its row of runs.csv, its wells and its samples."""

    row: dict[str, Any]
    wells: pd.DataFrame
    samples: pd.DataFrame

    @property
    def accepted(self) -> bool:
        return not missing(self.row["accepted"]) and bool(self.row["accepted"])

    @property
    def name(self) -> str:
        return f"{self.row['run_id']} · {self.row['target']}"

    @property
    def judged(self) -> bool:
        """Whether the rule on replicates applies: it judges the transgene, not the reference gene."""
        return not missing(self.row["n_cv"])


def draw(results: Results, context: Context) -> FigureBody:
    """One block per run and target: curve with controls, deviation of the calibrators, CV of the replicates."""
    words, rule = words_of(context), context.settings.assays.qpcr or Qpcr()
    runs = _runs(results, context)
    if not runs:
        none = words.say("No quantitative PCR run with calibrators.", "无含校准品的定量 PCR 批次。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    shown = _shown(runs)
    # A transgene and its reference gene stand side by side.
    most = 4 if shown[0].row["n_curves"] == 2 and len(shown) > 2 else 3
    columns = min(most, len(shown))
    rows = math.ceil(len(shown) / columns)
    block = TITLE + CURVE + GAP + DEVIATION + GAP + SPREAD + UNDER
    head = 0.62
    figure = canvas(head + rows * block)
    legend(figure, _keys(words), 0.06, columns=5, x=0.1)
    left, right, across = 0.62, WIDTH - 0.12, 0.46
    width = (right - left - across * (most - 1)) / most
    limits = _limits(shown, rule)
    right = left + columns * width + (columns - 1) * across
    for i in range(rows):
        top = head + i * block + TITLE
        heights = (CURVE, DEVIATION, SPREAD)
        tops = (top, top + CURVE + GAP, top + CURVE + GAP + DEVIATION + GAP)
        strips = [
            panels(figure, 1, columns, (left, t, right, t + h), (across, 0))[0]
            for t, h in zip(tops, heights, strict=True)
        ]
        for j in range(columns):
            position = i * columns + j
            axes = [strip[j] for strip in strips]
            if position >= len(shown):
                for one in axes:
                    one.remove()
                continue
            corner = (left + j * (width + across), top)
            _block(figure, axes, shown[position], rule, words, corner, limits, first=j == 0)
    return FigureBody(
        figure, _notes(results, context, rule, runs, shown, words), _alt(shown, words), _said(runs, words)
    )


def _runs(results: Results, context: Context) -> list[_Run]:
    """Curves in the order of their runs, the transgene before the reference gene."""
    frame, wells, observed = results.table("runs"), results.table("calibrators"), results.table("observations")
    rule = context.settings.assays.qpcr or Qpcr()
    with_samples = observed[(observed["assay"] == "qpcr") & observed["cv_pct"].notna()]
    # Below the LLOQ no rule on replicates applies.
    with_samples = with_samples[_copies(with_samples) >= rule.lloq_copies]
    curves = frame[frame["assay"] == "qpcr"].groupby("run_id")["target"].count()
    wells_of, samples_of = rows_by(wells, "run_id", "target"), rows_by(with_samples, "run_id")
    runs = []
    for row in frame[frame["assay"] == "qpcr"].to_dict("records"):
        own, samples = wells_of(row["run_id"], row["target"]), samples_of(row["run_id"])
        if len(own):
            facts = {**{str(k): v for k, v in row.items()}, "n_curves": int(curves[row["run_id"]])}
            runs.append(_Run(facts, own, samples[:0] if missing(row["n_cv"]) else samples))
    return sorted(runs, key=lambda run: (natural(str(run.row["run_id"])), not run.judged, str(run.row["target"])))


def _shown(runs: list[_Run]) -> list[_Run]:
    """The curves that are drawn, in order."""

    def rank(i: int) -> tuple[bool, float, int]:
        worst = runs[i].row["worst_deviation_pct"]
        return runs[i].accepted, -(math.inf if missing(worst) else abs(float(worst))), i

    chosen = set(sorted(range(len(runs)), key=rank)[:PANELS_UP_TO])
    return [run for i, run in enumerate(runs) if i in chosen]


# --------------------------------------------------------------------------------------------------------------- block


def _block(
    figure: MatplotlibFigure,
    axes: list[Axes],
    run: _Run,
    rule: Qpcr,
    words: Words,
    corner: tuple[float, float],
    limits: tuple[float, float],
    *,
    first: bool,
) -> None:
    curve, deviation, spread = axes
    _title(figure, run, corner, _inches(curve), words)
    used = run.wells[run.wells["used"].fillna(False).astype(bool)]
    standards = used[(used["role"] == "standard") & used["ct"].notna()]
    _curve(curve, run, standards, rule, words, limits)
    _deviation(deviation, run, standards, words)
    _spread(spread, run, rule, words)
    over(curve, deviation)
    for one in axes:
        _copies_axis(one, limits)
        one.tick_params(labelbottom=one is spread)
        if not run.accepted:
            one.set_facecolor("#fdf3ec")
            for spine in one.spines.values():
                spine.set(visible=True, edgecolor=palette()[3], linewidth=1.1)
    spread.set_xlabel(words.say("Copies per reaction", "每反应拷贝数"), labelpad=2)
    if first:
        for one, text in zip(axes, ("Ct", words.say("Deviation %", "偏差 %"), "CV %"), strict=True):
            one.set_ylabel(text)
            one.yaxis.set_label_coords(-0.42 / _inches(one), 0.5)


def _inches(axes: Axes) -> float:
    figure = axes.get_figure()
    assert figure is not None
    return float(axes.get_position().width * WIDTH)


def _title(figure: MatplotlibFigure, run: _Run, corner: tuple[float, float], width: float, words: Words) -> None:
    """Run, target, and the verdict in words, with what a refused run failed and how well an accepted one reads back."""
    x, top, height = corner[0] / WIDTH, corner[1], figure.get_figheight()
    figure.text(
        x,
        1 - (top - 0.45) / height,
        _shortened(run.name, int(15.5 * width)),
        fontsize=8.3,
        fontweight="bold",
        va="baseline",
    )
    row, said = run.row, words.told(str(run.row["reason"]))
    if run.accepted:
        verdict, colour = words.say("✓ accepted", "✓ 接受"), INK
        within = f"{row['n_levels_within']}/{row['n_levels']}"
        said = (
            words.say(
                f"{within} levels within, worst {row['worst_deviation_pct']:+.1f} %",
                f"{within} 个浓度在限内，最差 {row['worst_deviation_pct']:+.1f} %",
            )
            if not missing(row["worst_deviation_pct"])
            else ""
        )
    else:
        verdict, colour = words.say("✕ REFUSED", "✕ 拒绝"), palette()[3]
    dated = "" if missing(row["run_date"]) else f" · {str(row['run_date'])[:10]}"
    weight = "normal" if run.accepted else "bold"
    figure.text(x, 1 - (top - 0.3) / height, verdict + dated, fontsize=7.6, color=colour, fontweight=weight)
    most = int((12 if words.language == "zh" else 21) * width)
    for i, line in enumerate(textwrap.wrap(_minus(said), most, max_lines=2, placeholder=" …")):
        figure.text(x, 1 - (top - 0.18 + 0.12 * i) / height, line, fontsize=6.9, color=INK)


def _minus(text: str) -> str:
    """Negative numbers with a real minus sign."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def _limits(runs: list[_Run], rule: Qpcr) -> tuple[float, float]:
    """Whole powers of ten around the LLOQ and every calibrator of every run: all panels share them."""
    copies = pd.concat([run.wells["quantity"] for run in runs]).dropna()
    copies = copies[copies > 0]
    low, high = min([rule.lloq_copies, *copies]), max([10 * rule.lloq_copies, *copies])
    # A little air beyond a power of ten counts as that power.
    return 10.0 ** math.floor(math.log10(low) + 0.05), 10.0 ** math.ceil(math.log10(high) - 0.05)


def _copies(samples: pd.DataFrame) -> np.ndarray:
    """Mean copies per reaction of each sample, over the replicates that were averaged."""
    return (samples["n_molecules"] / samples["n_replicates"].astype("float64")).to_numpy(dtype=float)


def _copies_axis(axes: Axes, limits: tuple[float, float]) -> None:
    low, high = math.log10(limits[0]), math.log10(limits[1])
    axes.set_xlim(low - LANE - 0.55, high + 0.35)
    step = max(1, math.ceil((high - low) / 7))
    ticks = [float(t) for t in np.arange(low, high + 1e-9, step)]
    axes.xaxis.set_major_locator(FixedLocator([low - LANE, *ticks]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "NTC" if x < low - 0.5 * LANE else power_of_ten(round(x)))
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(low - 0.5 * LANE, color=FAINT, linewidth=0.6, zorder=1)


# -------------------------------------------------------------------------------------------------------------- strips


def _curve(
    axes: Axes, run: _Run, standards: pd.DataFrame, rule: Qpcr, words: Words, limits: tuple[float, float]
) -> None:
    """Ct over log10 copies, the line, the slopes that are accepted, controls in their lane, what was left out."""
    colour = palette()[0]
    floor = 5 * math.floor((standards["ct"].min() - 2) / 5) if len(standards) else 10
    undetermined = rule.ct_max + 3.4
    axes.set_ylim(floor, rule.ct_max + 6)
    axes.yaxis.set_major_locator(
        FixedLocator([*np.arange(10 * math.ceil(floor / 10), rule.ct_max + 0.1, 10), undetermined])
    )
    none = words.say("none", "无")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: none if y > rule.ct_max + 1 else f"{y:g}"))
    axes.axhline(rule.ct_max + 1, color=FAINT, linewidth=0.6, zorder=1)
    axes.grid(axis="y")
    x = np.log10(standards["quantity"].to_numpy(dtype=float))
    if not missing(run.row["slope"]):
        slope, intercept = float(run.row["slope"]), float(run.row["intercept"])
        ends = np.array([math.log10(limits[0]) - 0.2, math.log10(limits[1]) + 0.2])
        centre, middle = float(x.mean()), intercept + slope * float(x.mean())
        allowed = [middle + s * (ends - centre) for s in (rule.acceptance.slope_min, rule.acceptance.slope_max)]
        axes.fill_between(ends, *np.sort(allowed, axis=0), color=RULE, linewidth=0, zorder=1.5)
        dashes: Any = "-" if run.accepted else (0, (4, 1.6))
        axes.plot(ends, intercept + slope * ends, color=colour, linewidth=1.2, linestyle=dashes, zorder=3)
    axes.plot(x, standards["ct"], marker="o", markersize=3, color=colour, linestyle="none", alpha=0.85, zorder=4)
    _left_out(axes, run, undetermined)
    _controls(axes, run, math.log10(limits[0]) - LANE, undetermined)
    axes.text(
        0.985,
        (rule.ct_max - floor) / (rule.ct_max + 6 - floor),
        _facts(run, words),
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=6.9,
        linespacing=1.35,
        zorder=5,
    )


def _facts(run: _Run, words: Words) -> str:
    row = run.row
    if missing(row["slope"]):
        return words.say("no standard curve", "无标准曲线")
    lines = [
        words.say(f"slope {row['slope']:.3f}", f"斜率 {row['slope']:.3f}"),
        f"R² {row['r_squared']:.4f}",
        words.say(f"efficiency {row['efficiency']:.1f} %", f"效率 {row['efficiency']:.1f} %"),
    ]
    return _minus("\n".join(lines))


def _controls(axes: Axes, run: _Run, lane: float, undetermined: float) -> None:
    """No-template controls side by side: open squares without a Ct, filled ones with."""
    ntc = run.wells[(run.wells["role"] == "ntc") & run.wells["used"].fillna(False).astype(bool)]
    if not len(ntc):
        axes.text(lane, undetermined, "–", ha="center", va="center", color=MUTED, fontsize=8)
        return
    ct = ntc["ct"].sort_values(na_position="first", ignore_index=True)
    place = lane + (np.linspace(-0.22, 0.22, len(ct)) if len(ct) > 1 else np.zeros(1))
    bad = not missing(run.row["ntc_ok"]) and not bool(run.row["ntc_ok"])
    clean = ct.isna().to_numpy()
    look: dict[str, Any] = {"marker": "s", "markersize": 3.6, "linestyle": "none", "zorder": 5}
    axes.plot(
        place[clean], np.full(clean.sum(), undetermined), markerfacecolor="white", markeredgecolor=INK,
        markeredgewidth=0.8, **look,
    )  # fmt: skip
    found = palette()[3] if bad else INK
    axes.plot(place[~clean], ct[~clean], color=found, **look)


def _left_out(axes: Axes, run: _Run, undetermined: float) -> None:
    """Standards that are not on the curve: omitted, or without a Ct."""
    rows = run.wells[(run.wells["role"] == "standard") & ~run.wells["used"].fillna(False).astype(bool)]
    rows = rows[rows["quantity"] > 0]
    if len(rows):
        axes.plot(
            np.log10(rows["quantity"]),
            rows["ct"].fillna(undetermined),
            marker="x",
            markersize=4.2,
            markeredgewidth=1.0,
            color=MUTED,
            linestyle="none",
            zorder=5,
        )


def _deviation(axes: Axes, run: _Run, standards: pd.DataFrame, words: Words) -> None:
    """Deviation of what reads back from nominal: wells small, levels large, the limit of each level as a band."""
    axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1.5)
    levels = standards.dropna(subset=["level_deviation_pct"]).drop_duplicates("quantity").sort_values("quantity")
    if not len(levels):
        axes.set_ylim(-40, 40)
        say_in(axes, words.say("nothing to read back", "无可回算"), 30)
        return
    colour, limit = palette()[0], levels["limit_pct"].to_numpy(dtype=float)
    x, deviation = (
        np.log10(levels["quantity"].to_numpy(dtype=float)),
        levels["level_deviation_pct"].to_numpy(dtype=float),
    )
    top = min(100.0, 10 * math.ceil(max(40.0, 1.15 * float(np.abs(deviation).max()), 1.15 * float(limit.max())) / 10))
    axes.set_ylim(-top, top)
    axes.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:+.0f}".replace("-", "\N{MINUS SIGN}") if y else "0"))
    edges = np.concatenate([[x[0] - 0.3], (x[1:] + x[:-1]) / 2, [x[-1] + 0.3]])
    steps = np.append(limit, limit[-1])
    axes.fill_between(edges, -steps, steps, step="post", color=RULE, linewidth=0, zorder=1)
    wells = standards.dropna(subset=["deviation_pct"])
    inside = wells["deviation_pct"].abs().to_numpy() <= top
    at = np.log10(wells["quantity"].to_numpy(dtype=float))
    small: dict[str, Any] = {"linestyle": "none", "color": colour, "alpha": 0.55, "zorder": 3}
    axes.plot(at[inside], wells["deviation_pct"].to_numpy()[inside], marker=".", markersize=3, **small)
    for sign, marker in ((1, "^"), (-1, "v")):
        beyond = ~inside & (np.sign(wells["deviation_pct"].to_numpy()) == sign)
        axes.plot(at[beyond], np.full(beyond.sum(), sign * 0.93 * top), marker=marker, markersize=3, **small)
    within = np.abs(deviation) <= limit
    axes.plot(
        x[within],
        deviation[within],
        marker="D",
        markersize=3.6,
        color=colour,
        linestyle="none",
        clip_on=False,
        zorder=4,
    )
    _outside(axes, x[~within], np.clip(deviation[~within], -0.93 * top, 0.93 * top))


def _outside(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """What lies outside its limit, by shape and colour."""
    axes.plot(x, y, **OUTSIDE, linestyle="none", zorder=5, clip_on=False)


def _spread(axes: Axes, run: _Run, rule: Qpcr, words: Words) -> None:
    """CV of the replicates of each sample over its copies, with the limit that holds there."""
    accept = rule.acceptance
    if not run.judged or not len(run.samples):
        axes.set_ylim(0, 60)
        axes.yaxis.set_major_locator(NullLocator())
        say_in(
            axes,
            words.say("no sample with replicates", "无含复孔的样本")
            if run.judged
            else words.say("reference gene: no rule on replicates", "内参基因：无复孔规则"),
            44,
        )
        return
    copies, cv = _copies(run.samples), run.samples["cv_pct"].to_numpy(dtype=float)
    top = 60.0
    x, near = np.log10(copies), math.log10(NEAR_LLOQ * rule.lloq_copies)
    limit = np.where(x <= near, accept.replicate_cv_lloq_pct, accept.replicate_cv_pct)
    above = cv > limit
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(FixedLocator([0, 25, 50]))
    low, high = math.log10(rule.lloq_copies), max(float(x.max()), near) + 0.3
    axes.fill_between(
        [low, near, near, max(high, near)],
        [accept.replicate_cv_lloq_pct] * 2 + [accept.replicate_cv_pct] * 2,
        color=RULE,
        linewidth=0,
        zorder=1,
    )
    shown = np.minimum(cv, 0.93 * top)
    plain: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.6, "zorder": 3, "clip_on": False}
    axes.plot(x[~above], shown[~above], color=INK, alpha=0.6, markeredgewidth=0, **plain)
    _outside(axes, x[above], shown[above])


# --------------------------------------------------------------------------------------------------------------- words


def _keys(words: Words) -> list[Line2D | Patch]:
    colour = palette()[0]
    return [
        key(words.say("standard well", "标准品孔"), marker="o", markersize=3.4, color=colour),
        key(words.say("curve, accepted", "曲线，接受"), linestyle="-", color=colour, linewidth=1.2),
        key(words.say("curve, REFUSED", "曲线，拒绝"), linestyle=(0, (4, 1.6)), color=colour, linewidth=1.2),
        key(words.say("calibrator level within its limit", "限内校准浓度"), marker="D", markersize=4, color=colour),
        key(words.say("outside its limit", "超出限度"), **OUTSIDE),
        key(
            words.say("no-template control without Ct", "阴性对照，无 Ct"),
            marker="s",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=0.8,
        ),
        key(words.say("no-template control with Ct", "阴性对照，有 Ct"), marker="s", markersize=4),
        key(words.say("left out of the curve", "未纳入曲线"), marker="x", markersize=4.4, color=MUTED),
        key(words.say("sample (CV of replicates)", "样本（复孔 CV）"), marker="o", markersize=3.4, alpha=0.6),
        Patch(facecolor=RULE, edgecolor="none", label=words.say("what is accepted", "接受范围")),
    ]


def _said(runs: list[_Run], words: Words) -> str:
    refused = sum(not run.accepted for run in runs)
    return words.say(
        f"Quantitative PCR: {len(runs)} curves, {refused} refused",
        f"定量 PCR：{len(runs)} 条曲线，{refused} 条被拒",
    )


def _notes(
    results: Results, context: Context, rule: Qpcr, runs: list[_Run], shown: list[_Run], words: Words
) -> tuple[str, ...]:
    a = rule.acceptance
    notes = [
        words.say(
            f"Top: Ct over copies per reaction; grey, the accepted slopes ({a.slope_min:g} to {a.slope_max:g}) through "
            "the centre of the curve; “none”, no Ct. Middle: copies read back from the curve against nominal; small, "
            f"each well, large, the level, which must lie within {a.back_calculation_pct:g} % "
            f"({a.back_calculation_lloq_pct:g} % at the lowest) in {100 * a.back_calculation_share:g} % of the levels; "
            "small triangles, wells beyond the axis. Bottom: CV of copies among the replicates of each sample, at most "
            f"{a.replicate_cv_pct:g} % ({a.replicate_cv_lloq_pct:g} % up to {NEAR_LLOQ:g} times the LLOQ of "
            f"{rule.lloq_copies:g} copies); samples below the LLOQ, to which the rule does not apply, are not drawn.",
            f"上：Ct 对每反应拷贝数；灰色为通过曲线中心的可接受斜率"
            f"（{a.slope_min:g} 至 {a.slope_max:g}）；“无”表示无 Ct。"
            f"中：由曲线回算的拷贝数与标称值之差；小点为单孔，大点为浓度水平，"
            f"{100 * a.back_calculation_share:g} % 的水平应在 "
            f"{a.back_calculation_pct:g} %（最低水平 {a.back_calculation_lloq_pct:g} %）以内；小三角为超出坐标轴的孔。"
            f"下：每个样本复孔拷贝数的 CV，不超过 {a.replicate_cv_pct:g} %（定量下限 {rule.lloq_copies:g} 拷贝的 "
            f"{NEAR_LLOQ:g} 倍以内为 {a.replicate_cv_lloq_pct:g} %）；低于定量下限者不适用该规则，未绘出。",
        )
    ]
    if len(shown) < len(runs):
        notes.append(
            words.say(
                f"{len(shown)} of {len(runs)} curves are drawn: the refused ones, and of the others those that read "
                "back worst. The table of assay runs has all.",
                f"共 {len(runs)} 条曲线，绘出 {len(shown)} 条：被拒者及其余中回算偏差最大者。检测批次表列出全部。",
            )
        )
    return (*notes, source_footnote(results, context, NEEDS))


def _alt(runs: list[_Run], words: Words) -> str:
    parts = []
    for run in runs:
        verdict = (
            words.say("accepted", "接受") if run.accepted else f"{words.say('REFUSED', '拒绝')}: {run.row['reason']}"
        )
        facts = _facts(run, words).replace("\n", ", ")
        parts.append(f"{run.name}: {facts}; {verdict}")
    return "; ".join(parts)


FIGURE = Figure(
    name="run_curves",
    id="F-CK-16",
    number="16",
    title={"en": "Standard curves and acceptance of the qPCR runs", "zh": "定量 PCR 批次的标准曲线与接受情况"},
    needs=NEEDS,
    draw=draw,
)
