"""F-CK-10: Kaplan-Meier persistence by dose level, with the risk table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from nkinetics.figures._style import (
    MUTED,
    WIDTH,
    bare,
    canvas,
    day_axis,
    day_label,
    day_ticks,
    display,
    dose_look,
    key,
    legend,
    panels,
    say_in,
    words_of,
)
from nkinetics.findings import persistence_note
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, days, dose_levels, dose_names, missing, profile_name, profiles, source_footnote

NEEDS = ("persistence", "persistence_turnbull", "patients", "observations", "infusions")


def draw(results: Results, context: Context) -> FigureBody:
    """Columns are assays, rows the limits: persistence above the LLOQ, and above the LOD."""
    words, kinds, estimates = words_of(context), profiles(results), results.table("persistence")
    if not len(estimates) or not len(kinds):
        none = words.say("No persistence estimate.", "无持续性估计。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    limits = [x for x in ("lloq", "lod") if x in set(estimates["limit"])]
    levels, columns = dose_levels(results), len(kinds)
    risk = 0.24 + 0.15 * len(levels)
    block = 0.5 + 2.0 + 0.42 + risk + 0.22
    figure = canvas(0.35 + len(limits) * block)
    names, looks = dose_names(results, context), dose_look(results)
    keys = [key(names[d], color=looks[d][0], linestyle=looks[d][1]) for d in levels]
    censored = key(words.say("censored", "删失"), marker="|", markersize=6, markeredgewidth=1.1)
    between = key(words.say("Turnbull", "Turnbull"), linestyle=(0, (1, 1.6)), linewidth=1.0)
    legend(figure, [*keys, censored, between], 0.08, columns=6, x=0.1)
    last = max(1.0, float(estimates["time"].max()))
    intervals = results.table("persistence_turnbull")
    for i, limit in enumerate(limits):
        top = 0.35 + i * block + 0.5
        upper = panels(figure, 1, columns, (0.85, top, WIDTH - 0.15, top + 2.0), (0.45, 0))[0]
        lower = panels(figure, 1, columns, (0.85, top + 2.42, WIDTH - 0.15, top + 2.42 + risk), (0.45, 0))[0]
        for j in range(columns):
            kind = kinds.iloc[j]
            rows = estimates[
                (estimates["assay"] == kind["assay"])
                & (estimates["specimen"] == kind["specimen"])
                & (estimates["limit"] == limit)
            ]
            least = context.settings.statistics.summary_n_min
            _curve(upper[j], rows, looks, levels, last, words, least)
            here = (intervals["assay"] == kind["assay"]) & (intervals["specimen"] == kind["specimen"])
            _between(upper[j], intervals[here & (intervals["limit"] == limit)], looks, levels, last, least)
            upper[j].set_title(f"{profile_name(context, kind['assay'], kind['specimen'])}, {limit.upper()}", fontsize=9)
            bare(upper[j], y=j > 0)
            _risk(lower[j], rows, levels, last, words, first=j == 0)
        what = (
            words.say("Share still quantified", "仍可定量比例")
            if limit == "lloq"
            else words.say("Share still detected", "仍可检出比例")
        )
        upper[0].set_ylabel(what)
    figure.text(0.5, 0.06 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    return FigureBody(
        figure,
        _notes(results, context, words),
        _alt(results, context, estimates, kinds, words),
        _subtitle(results, words),
    )


def _steps(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Times and shares of the step function, from 1 at the first infusion."""
    rows = rows.sort_values("time")
    time, share = rows["time"].to_numpy(dtype=float), rows["survival"].to_numpy(dtype=float)
    return np.concatenate([[0.0], time]), np.concatenate([[1.0], share])


def _curve(
    axes: Axes,
    rows: pd.DataFrame,
    looks: dict[str, tuple[str, Any]],
    levels: list[str],
    last: float,
    words: Words,
    least: int,
) -> None:
    """The curves of a panel; a dose level with fewer than `least` patients is named in words and not drawn."""
    day_axis(axes, 0, last, most=6)
    axes.set_ylim(-0.03, 1.05)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
    axes.grid(axis="y")
    few, drawn = [], False
    for dose_level in levels:
        own = rows[(rows["dose_level"] == dose_level) & rows["survival"].notna()]
        if not len(own) or missing(own["n_at_risk"].max()) or int(own["n_at_risk"].max()) == 0:
            continue
        n = int(own["n_at_risk"].max())
        if n < least:
            few.append(words.say(f"{dose_level}: n = {n}, not drawn", f"{dose_level}：n = {n}，未绘制"))
            continue
        drawn = True
        colour, dashes = looks[dose_level]
        time, share = _steps(own)
        axes.step(display(time), share, where="post", color=colour, linestyle=dashes, linewidth=1.5, zorder=3)
        band = own[own["ci_lower"].notna() & own["ci_upper"].notna()].sort_values("time")
        if len(band) > 1:
            axes.fill_between(
                display(band["time"]),
                band["ci_lower"],
                band["ci_upper"],
                step="post",
                color=colour,
                alpha=0.10,
                linewidth=0,
            )
        censored = own[own["n_censored"].fillna(0) > 0]
        axes.plot(
            display(censored["time"]),
            censored["survival"],
            marker="|",
            markersize=6,
            markeredgewidth=1.1,
            color=colour,
            linestyle="none",
            zorder=4,
        )
    if few:
        x, y = (0.98, 0.95) if drawn else (0.5, 0.5)
        across, up = ("right", "top") if drawn else ("center", "center")
        said = "\n".join(few)
        axes.text(x, y, said, transform=axes.transAxes, fontsize=7.2, color=MUTED, ha=across, va=up)
    elif not drawn:
        reasons = [r for r in dict.fromkeys(rows["reason"]) if r] if len(rows) else []
        say_in(axes, "; ".join(reasons) or words.say("no estimate: nobody at risk", "无估计：无在险者"), 34)


def _between(
    axes: Axes,
    intervals: pd.DataFrame,
    looks: dict[str, tuple[str, Any]],
    levels: list[str],
    last: float,
    least: int,
) -> None:
    """Turnbull's estimate: level between the intervals that hold losses, and a slant across each, where it is open."""
    for dose_level in levels:
        own = intervals[(intervals["dose_level"] == dose_level) & intervals["mass"].notna()].sort_values(
            "interval_start"
        )
        if not len(own) or int(own["n"].iloc[0]) < least:
            continue
        time, share = [0.0], [1.0]
        for row in own.itertuples():
            closed = not missing(row.interval_end)
            time += [float(row.interval_start), float(row.interval_end) if closed else last]
            share += [share[-1], float(row.survival) if closed else share[-1]]
        look: dict[str, Any] = {
            "color": looks[dose_level][0],
            "linestyle": (0, (1, 1.6)),
            "linewidth": 1.0,
            "zorder": 2,
        }
        axes.plot(display(np.array(time)), share, **look)


def _risk(axes: Axes, rows: pd.DataFrame, levels: list[str], last: float, words: Words, first: bool) -> None:
    """Patients at risk just before each tick, by dose level."""
    day_axis(axes, 0, last, most=6)
    axes.set_ylim(len(levels) - 0.4, -1.1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_yticks(range(len(levels)), levels if first else [""] * len(levels), fontsize=7.2)
    head = words.say("At risk (lost so far)", "在险人数（累计消失）")
    axes.text(0, 1, head, transform=axes.transAxes, fontsize=7.2, color=MUTED, va="top")
    for row, dose_level in enumerate(levels):
        own = rows[rows["dose_level"] == dose_level]
        for tick in day_ticks(float(display(last)), 6):
            counts = f"{_at_risk(own, tick - 1)} ({_lost(own, tick - 1)})"
            axes.text(tick, row, counts, fontsize=7.2, ha="center", va="center")


def _at_risk(rows: pd.DataFrame, time: float) -> int:
    """Patients neither lost nor censored before a time.

    At a step the table counts those at risk just before it; between steps those who are left after the one before.
    """
    rows = rows[rows["n_at_risk"].notna()].sort_values("time")
    following = rows[rows["time"] >= time - 1e-9]
    return int(following["n_at_risk"].iloc[0]) if len(following) else 0


def _lost(rows: pd.DataFrame, time: float) -> int:
    """Losses before a time, at which those at risk are counted."""
    return int(rows.loc[rows["time"] < time - 1e-9, "n_events"].fillna(0).sum())


def _subtitle(results: Results, words: Words) -> str:
    n = len(results.patients)
    return words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")


def _notes(results: Results, context: Context, words: Words) -> tuple[str, ...]:
    k, least = context.settings.nca.consecutive_blq, context.settings.statistics.summary_n_min
    level = f"{100 * context.settings.statistics.confidence:g} %"
    return (
        *filter(None, [persistence_note(results, context)]),
        words.say(
            f"Event: loss, the first {'sample' if k == 1 else 'of two consecutive samples'} "
            "below the limit after the last above it. Ticks: censored, still above the limit: patients who died or "
            "withdrew at the end of their follow-up, the others at the last sample. "
            f"Shaded: {level} "
            "confidence interval (log-log). At risk, and lost so far: just before "
            f"the study day. No curve is drawn for fewer than {least} patients. The "
            "loss lies between two samples; the curve puts it at the later one. Dotted: Turnbull's estimate, which "
            "knows each loss only to lie between its two samples; slanting where the data do not say when in between.",
            "事件：消失，"
            f"即末次高于界限之后{'首个' if k == 1 else '连续两个样本中首个'}低于界限的样本。"
            "竖线：删失（仍高于界限：死亡或退出者于随访结束时，其余于末次样本时）。"
            f"阴影：{level} 置信区间（log-log）。在险人数与累计消失：该研究日之前。"
            f"少于 {least} 例者不绘曲线。消失发生在两次采样之间，曲线取较晚的时间。"
            "点线：Turnbull 估计，仅知消失介于两次采样之间；斜线处数据未说明其间何时消失。",
        ),
        words.say("LLOQ: lower limit of quantification; LOD: limit of detection.", "LLOQ：定量下限；LOD：检测限。"),
        source_footnote(results, context, NEEDS),
    )


def _alt(results: Results, context: Context, estimates: pd.DataFrame, kinds: pd.DataFrame, words: Words) -> str:
    parts = []
    for kind in kinds.itertuples():
        own = estimates[(estimates["assay"] == kind.assay) & (estimates["specimen"] == kind.specimen)]
        by_level = own[own["dose_level"] != "all"]
        for key_, rows in (by_level if len(by_level) else own).groupby(["limit", "dose_level"]):
            limit, dose_level = (str(k) for k in pd.Series(key_))
            first = rows.iloc[0]
            median = words.say("not reached", "未达到") if missing(first["median"]) else f"{days(first['median'])} d"
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            parts.append(
                words.say(
                    f"{name}, {limit.upper()}, {dose_level}: median {median}",
                    f"{name}，{limit.upper()}，{dose_level}：中位数 {median}",
                )
            )
    return "; ".join(parts)


FIGURE = Figure(
    name="persistence",
    id="F-CK-10",
    number="10",
    title={"en": "Persistence by dose level (Kaplan-Meier)", "zh": "按剂量水平的持续性（Kaplan-Meier）"},
    needs=NEEDS,
    draw=draw,
)
