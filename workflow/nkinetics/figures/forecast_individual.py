"""F-CK-18: each patient's samples so far, and what they let expect."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from nkinetics.figures._style import (
    INK,
    MUTED,
    WIDTH,
    bare,
    below_key,
    canvas,
    day_axis,
    day_label,
    display,
    dose_look,
    draw_below,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    note_in,
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, days, everyone, missing, profile_name, source_footnote

NEEDS = ("individual_forecast", "individual_forecast_curves", "observations", "patients")


def draw(results: Results, context: Context) -> FigureBody:
    """One semi-logarithmic panel per patient, one y range."""
    words, rows = words_of(context), results.table("individual_forecast")
    curves = results.table("individual_forecast_curves")
    if not len(curves):
        told = "; ".join(sorted({str(r) for r in rows["reason"] if r}))
        none = words.say("No forecast of patients.", "无患者个体预测。")
        note = words.colon(none.rstrip(".。"), told) if told else none
        return FigureBody(None, note=note, footnotes=(source_footnote(results, context, NEEDS),))
    people = results.patients
    n = len(people)
    columns = min(n, 3 if n <= 6 else 5)
    lines = math.ceil(n / columns)
    panel = 1.45 if n <= 24 else 1.1
    figure = canvas(0.62 + lines * (panel + 0.45) + 0.35)
    level = f"{100 * context.settings.prediction.confidence:g} %"
    legend(figure, _keys(words, level), 0.08, columns=6, x=0.1)
    bottom = 0.85 + lines * panel + (lines - 1) * 0.45
    grid = panels(figure, lines, columns, (0.75, 0.85, WIDTH - 0.15, bottom), (0.2, 0.45))
    assay, specimen = str(curves["assay"].iloc[0]).split("+")[0], str(curves["specimen"].iloc[0])
    observed, looks = reportable(results, assay, specimen), dose_look(results)
    observed = observed[observed["time_actual"] > 0]
    lloq = float(observed["lloq"].median()) if observed["lloq"].notna().any() else 0.0
    floor = lloq / 100
    ends = [curves[c].clip(lower=floor) for c in ("lower", "upper")]
    limits = log_limits(*ends, quantified(observed)["level"])
    units = [str(u) for u in rows.loc[rows["quantity"] == "curve_cmax", "unit"] if u]
    last = max(float(curves["time"].max()), float(observed["time_actual"].max()))
    for k, patient in enumerate(people.itertuples()):
        axes = grid[k // columns, k % columns]
        name = str(patient.patient_id)
        axes.set_title(f"{name} · {patient.dose_level}", fontsize=8)
        colour = looks[str(patient.dose_level)][0]
        own = curves[curves["patient_id"] == name].sort_values("time")
        mine = rows[rows["patient_id"] == name]
        _panel(axes, own, observed[observed["patient_id"] == name], mine, colour, words)
        if lloq > 0:
            axes.axhline(lloq, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
        if len(own) and float(own["upper"].iloc[0]) < floor:
            note_in(axes, words.say("expected below LLOQ/100", "预期低于 LLOQ/100"))
        day_axis(axes, 0.0, last, most=5)
        log_axis(axes, *limits, most=4)
        bare(axes, x=k + columns < n, y=k % columns > 0)
        if k % columns == 0:
            axes.set_ylabel(level_label(words, units[0] if units else ""), fontsize=7.2)
    for k in range(n, lines * columns):
        grid[k // columns, k % columns].remove()
    figure.text(0.5, 0.06 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    notes = [
        words.say(
            f"From the last sample on (vertical line): median and {level} interval of the patient's curve given the "
            f"samples so far and the population; outer band: {level} of measured levels, without the counting noise of "
            "few molecules. Dotted: LLOQ; the axis ends at a hundredth of it. A patient who died has no forecast.",
            f"自末次采样（竖线）起：依据已有样本及群体的患者曲线中位数与 {level} 区间；外带：{level} 的实测水平，"
            "不含少量分子的计数噪声。点线：定量下限；纵轴止于其百分之一。死亡患者无预测。",
        )
    ]
    return FigureBody(
        figure,
        (*notes, source_footnote(results, context, NEEDS)),
        _alt(results, rows, words, level),
        f"{everyone(results, words)} · " + profile_name(context, assay, specimen, units[0] if units else ""),
    )


def _keys(words: Words, level: str) -> list[Artist]:
    return [
        key(words.say("observed", "实测"), marker="o", markersize=3.6, markerfacecolor="white", markeredgecolor=INK),
        below_key(words),
        key(words.say("expected (median)", "预期（中位数）"), linestyle=(0, (3, 1.6)), linewidth=1.3),
        Patch(facecolor="#a9b3bd", label=words.say(f"{level} of the curve", f"{level} 曲线")),
        Patch(facecolor="#dfe3e8", label=words.say(f"{level} of measured levels", f"{level} 实测水平")),
    ]


def _panel(axes: Axes, own: pd.DataFrame, seen: pd.DataFrame, mine: pd.DataFrame, colour: str, words: Words) -> None:
    line = quantified(seen)
    axes.plot(
        display(line["time_actual"]),
        line["level"],
        marker="o",
        markersize=2.6,
        linewidth=0.7,
        color=colour,
        markerfacecolor="white",
        zorder=4,
    )
    draw_below(axes, seen, MUTED, 2.8)
    if not len(own):
        told = next((str(r) for r in mine["reason"] if r), "") if len(mine) else ""
        why = told or words.say("no forecast: samples reach the end of the period", "无预测：采样已至期末")
        if len(seen):
            axes.text(0.97, 0.95, why, transform=axes.transAxes, ha="right", va="top", fontsize=6.9, color=MUTED)
        else:
            say_in(axes, why)
        return
    time = display(own["time"])
    axes.fill_between(time, own["measured_lower"], own["measured_upper"], color=colour, alpha=0.13, linewidth=0)
    axes.fill_between(time, own["lower"], own["upper"], color=colour, alpha=0.3, linewidth=0)
    axes.plot(time, own["median"], color=colour, linestyle=(0, (3, 1.6)), linewidth=1.3, zorder=3)
    axes.axvline(float(np.min(time)), color=MUTED, linewidth=0.7, zorder=1)


def _alt(results: Results, rows: pd.DataFrame, words: Words, level: str) -> str:
    parts = []
    loss = rows[rows["quantity"] == "t_below_lloq"].set_index("patient_id")
    for patient in results.patients["patient_id"]:
        if patient not in loss.index or missing(loss.loc[patient, "median"]):
            why = str(loss.loc[patient, "reason"]) if patient in loss.index else words.say("no forecast", "无预测")
            parts.append(words.colon(str(patient), why))
            continue
        row = loss.loc[patient]
        ends = [
            words.say("open", "开放") if missing(row[c]) else days(float(row[c])) for c in ("median", "lower", "upper")
        ]
        said = words.say(
            f"below LLOQ from day {ends[0]} elapsed ({level}: {ends[1]} to {ends[2]})",
            f"自第 {ends[0]} 天（已过天数）起低于定量下限（{level}：{ends[1]} 至 {ends[2]}）",
        )
        parts.append(words.colon(str(patient), said))
    return words.say("; ", "；").join(parts)


FIGURE = Figure(
    name="forecast_individual",
    id="F-CK-18",
    number="18",
    title={"en": "Forecast of each patient from the samples so far", "zh": "依据已有样本的各患者预测"},
    needs=NEEDS,
    draw=draw,
    by_patient=True,
)
