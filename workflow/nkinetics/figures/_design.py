"""A sampling schedule drawn: the expected course, what moves it when, and what one more sample would gain.

Not a figure of a study, therefore no plug-in: `nkinetics design --figure` draws it from a request and its answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nkinetics.figures._style import (
    INK,
    LINE_STYLES,
    MUTED,
    bare,
    canvas,
    day_axis,
    day_label,
    display,
    drawable,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    palette,
    panels,
    png_bytes,
    style,
    svg_text,
    words_of,
)
from nkinetics.fitting.design import HIGH, LOW, acting, entering, told
from nkinetics.fitting.plan import Answer, Asked
from nkinetics.results import Context
from nkinetics.wording import Words, significant

POINTS = 400
"""Points of the curve."""
BAND = "#c9d1d9"
PARAMETER_COLOURS = (0, 3, 2, 4, 5, 7, 9)


def files(request: Asked, answer: Answer, context: Context) -> tuple[str, bytes]:
    """The drawing as SVG text and as PNG."""
    context = drawable(context)
    with style(context):
        figure = draw(request, answer, words_of(context))
        title = words_of(context).say("Sampling design", "采样设计")
        svg = svg_text(figure, "design-", title, alt(request, answer, words_of(context)))
        return '<?xml version="1.0" encoding="utf-8"?>\n' + svg, png_bytes(figure)


def draw(request: Asked, answer: Answer, words: Words) -> Figure:
    """Three panels over study days: level with the planned samples, sensitivities, gain of one more sample."""
    figure = canvas(6.6)
    axes = panels(figure, 3, 1, (0.75, 0.62, 10.2, 6.1), (0.0, 0.42))[:, 0]
    legend(figure, _keys(request, words), 0.1, columns=7, x=0.1)
    for each in axes:
        end = request.plan.calendar.end
        day_axis(each, 0.0, end, day_label(words) if each is axes[-1] else "", most=16)
        bare(each, x=each is not axes[-1])
    _course(axes[0], request, words)
    _sensitivities(axes[1], request, words)
    _gain(axes[2], request, answer, words)
    return figure


def alt(request: Asked, answer: Answer, words: Words) -> str:
    """What the figure shows, with its main numbers."""
    rows = answer.design[answer.design["kind"] == "fitted"]
    errors = words.join(
        f"{n} {'-' if np.isnan(e) else significant(e, 2)} %"
        for n, e in zip(rows["parameter"], rows["rse_pct"], strict=True)
    )
    best = answer.candidates.loc[answer.candidates["action"] == "add", "timing"].head(3)
    return words.say(
        f"{request.plan.model.name}: expected course with the planned samples. Expected relative standard errors: "
        f"{errors}. One more sample gains most on {'; '.join(best)}.",
        f"{request.plan.model.name}：预期时程与计划样本。预期相对标准误：{errors}。"
        f"增加一个样本收益最大的时间：{'；'.join(best)}。",
    )


def _keys(request: Asked, words: Words) -> list[Artist]:
    found: list[Artist] = [
        key(words.say("planned sample", "计划样本"), marker="o"),
        key(
            words.say("more likely below the LLOQ", "更可能低于定量下限"),
            marker="v",
            markerfacecolor="white",
            markeredgecolor=MUTED,
        ),
        key(words.say("LLOQ", "定量下限"), linestyle=(0, (1, 1.5)), color=MUTED),
        key(words.say("infusion", "输注"), marker="v", markersize=5),
    ]
    if len(request.plan.truths) > 1:
        said = words.say(
            f"{100 * LOW:.0f} to {100 * HIGH:.0f} % of patients", f"{100 * LOW:.0f}-{100 * HIGH:.0f} % 患者"
        )
        found.append(Patch(facecolor=BAND, label=said))
    if request.plan.calendar.pulses:
        agents = words.join(sorted(request.plan.calendar.pulses))
        found.append(key(agents, marker="|", markersize=6, markeredgewidth=1.1, color=palette()[3]))
    return found


def _grid(request: Asked) -> np.ndarray:
    """Times of the curve [d]: right before and at each infusion, so that jumps are upright."""
    calendar = request.plan.calendar
    tau = np.asarray(calendar.infusion_time, dtype=float)
    return np.unique(np.concatenate([np.linspace(tau[0], calendar.end, POINTS), tau, tau[1:] - 1e-6]))


def _course(axes: Axes, request: Asked, words: Words) -> None:
    plan, samples = request.plan, request.samples
    grid = _grid(request)
    curves = np.exp(plan.model.log_level(grid, plan.truths, plan.calendar, plan.constants))
    top = curves[0]
    if len(plan.truths) > 1:
        low, top = np.quantile(curves[1:], [LOW, HIGH], axis=0)
        axes.fill_between(display(grid), low, top, color=BAND, linewidth=0, zorder=1)
    axes.plot(display(grid), curves[0], color=INK, zorder=2)
    there = entering(samples.time, plan.calendar)
    time, lloq, of = samples.time[there], samples.lloq[there], told(plan, samples)
    level, below = np.exp(of.log_level[0, there]), of.below[0, there] > 0.5
    axes.plot(display(time[~below]), level[~below], "o", color=INK, zorder=3)
    look: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": MUTED, "linestyle": "none"}
    axes.plot(display(time[below]), lloq[below], marker="v", zorder=3, **look)
    axes.axhline(plan.lloq, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=0.9, zorder=1)
    log_axis(axes, *log_limits(np.maximum(curves[0], plan.lloq / 5.0), lloq, level[~below], top))
    axes.set_ylabel(level_label(words, plan.level_unit))
    across = axes.get_xaxis_transform()
    tau = plan.calendar.infusion_time
    above: dict[str, Any] = {"transform": across, "linestyle": "none", "clip_on": False}
    axes.plot(display(tau), np.full(len(tau), 1.01), marker=7, markersize=4.5, color=INK, **above)
    for starts in plan.calendar.pulses.values():
        shown = starts[starts <= plan.calendar.end]
        axes.plot(display(shown), np.full(len(shown), 0.955), marker="|", color=palette()[3], **above)


def _sensitivities(axes: Axes, request: Asked, words: Words) -> None:
    plan = request.plan
    grid = _grid(request)
    _, slopes = plan.model.jacobian(grid, plan.truths[0], plan.calendar, plan.constants)
    for i, name in enumerate(plan.model.names):
        colour = palette()[PARAMETER_COLOURS[i % len(PARAMETER_COLOURS)]]
        line = LINE_STYLES[i % len(LINE_STYLES)]
        axes.plot(display(grid), slopes[:, i], color=colour, linestyle=line, label=name)
    axes.axhline(0.0, color=MUTED, linewidth=0.6)
    axes.grid(axis="y")
    axes.set_ylabel(words.say("d ln level / d parameter\n(scale of estimation)", "ln 水平对参数的导数\n（估计尺度）"))
    axes.legend(loc="lower left", ncols=len(plan.model.names))


def _gain(axes: Axes, request: Asked, answer: Answer, words: Words) -> None:
    target = request.target
    column = f"rse_pct_{target}" if target else "log_det_change"
    rows = answer.candidates[answer.candidates["action"] == "add"].sort_values("time", kind="stable")
    tau = np.asarray(request.plan.calendar.infusion_time, dtype=float)
    # A line across an infusion would join what happens before it with what happens after.
    interval = np.searchsorted(tau, acting(rows["time"].to_numpy(dtype=float), request.plan.calendar), side="right")
    for k in np.unique(interval):
        own = rows[interval == k]
        axes.plot(display(own["time"]), own[column], marker="o", markersize=2.8, linewidth=0.8, color=palette()[0])
    chosen = answer.candidates[answer.candidates["action"] == "greedy"].sort_values("rank")
    at = rows.set_index("time")[column]
    for step, time in enumerate(chosen["time"], start=1):
        axes.plot(display(time), at[time], "o", color=palette()[3], zorder=4)
        axes.annotate(str(step), (float(display(time)), at[time]), (3, 4), textcoords="offset points", fontsize=7)
    if target:
        now = answer.design.set_index("parameter")["rse_pct"].get(target, np.nan)
        if np.isfinite(now):
            axes.axhline(now, color=MUTED, linestyle="--", linewidth=0.8)
        said = words.say(
            f"RSE of {target} (%) with\none more sample on the day", f"增加一个样本后\n{target} 的 RSE（%）"
        )
    else:
        said = words.say("gain in ln det by one\nmore sample on the day", "增加一个样本的\nln det 增益")
    axes.set_ylabel(said)
    axes.grid(axis="y")
