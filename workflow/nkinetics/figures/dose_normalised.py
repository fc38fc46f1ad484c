"""F-CK-09: levels divided by the amount given so far, dose levels over each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
    MUTED,
    WIDTH,
    below,
    below_key,
    canvas,
    day_axis,
    day_label,
    display,
    dose_look,
    draw_each,
    first_time,
    key,
    last_time,
    legend,
    lines_of,
    log_axis,
    log_limits,
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, dose_names, profile_name, profiles, source_footnote, unit_name

NEEDS = ("observations", "patients", "infusions")
PER = {"cells": (1e9, "10⁹"), "cells/kg": (1e6, "10⁶")}
"""Cells that make the unit of the amount."""
MIDDLE_FROM = 2
"""Patients with a result at a nominal time from which their median is drawn."""


def draw(results: Results, context: Context) -> FigureBody:
    """One semi-logarithmic panel per assay: thin lines are patients, thick ones the medians of the dose levels."""
    words, kinds = words_of(context), profiles(results)
    given = results.table("infusions")
    if not len(kinds) or not len(given):
        none = words.say("No level, or no amount given.", "无水平或无给药量。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    looks, names = dose_look(results), dose_names(results, context)
    columns = min(2, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure = canvas(0.5 + rows * 3.3)
    keys = [
        key(words.say(f"{names[d]}, median", f"{names[d]}，中位数"), color=c, linestyle=s, linewidth=2.4)
        for d, (c, s) in looks.items()
    ]
    keys += [key(words.say("one patient", "单例"), color=MUTED, linestyle="-", linewidth=0.8), below_key(words)]
    legend(figure, keys, 0.08, columns=5, x=0.1)
    grid = panels(figure, rows, columns, (0.8, 0.62, WIDTH - 0.3, 0.5 + rows * 3.3 - 0.5), (0.85, 0.95))
    alts, per = [], PER[context.settings.study.dose_unit]
    for position, kind in enumerate(kinds.itertuples()):
        axes = grid[position // columns, position % columns]
        levels = normalised(results, str(kind.assay), str(kind.specimen), per[0])
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        axes.set_title(name, fontsize=9)
        alts.append(f"{name}: {_panel(axes, results, levels, looks, words)}")
        unit = f"{unit_name(str(kind.level_unit))} / {per[1]} {context.settings.study.dose_unit}"
        axes.set_ylabel(words.say(f"Level by amount given ({unit})", f"剂量归一化水平（{unit}）"))
        axes.set_xlabel(day_label(words))
    for position in range(len(kinds), rows * columns):
        grid[position // columns, position % columns].remove()
    n = len(results.patients)
    subtitle = words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")
    return FigureBody(figure, _notes(results, context, words), ". ".join(alts), subtitle)


def normalised(results: Results, assay: str, specimen: str, per: float) -> pd.DataFrame:
    """Reportable results with level and LLOQ per unit of the amount given before each sample; none before the first."""
    rows = reportable(results, assay, specimen)
    given = results.table("infusions")
    given = given.assign(amount=given["given"].fillna(given["planned"]).astype("float64"))
    given = given[given["time"].notna() & (given["amount"] > 1)].sort_values(["patient_id", "time"])
    so_far = {
        str(patient): (own["time"].to_numpy(dtype=float), own["amount"].cumsum().to_numpy(dtype=float))
        for patient, own in given.groupby("patient_id")
    }
    amounts = []
    for patient, time, predose in zip(rows["patient_id"], rows["time_actual"], rows["predose"], strict=True):
        times, sums = so_far.get(str(patient), (np.zeros(0), np.zeros(0)))
        # A sample taken just before an infusion does not hold its cells, whatever the clock says.
        before = times < float(time) if predose is True else times <= float(time)
        place = int(before.sum()) - 1
        amounts.append(sums[place] if place >= 0 else np.nan)
    rows = rows.assign(amount=amounts)
    rows = rows[rows["amount"] > 0]
    return rows.assign(level=rows["level"] / rows["amount"] * per, lloq=rows["lloq"] / rows["amount"] * per)


def _panel(axes: Axes, results: Results, rows: pd.DataFrame, looks: dict[str, tuple[str, Any]], words: Words) -> str:
    seen = quantified(rows)
    if not len(rows):
        say_in(axes, words.say("no result after an infusion of a known amount", "无已知给药量之后的结果"))
        return words.say("no result", "无结果")
    day_axis(axes, first_time(results), last_time(results), most=6)
    log_axis(axes, *log_limits(seen["level"], below(rows)["lloq"]))
    told = []
    for dose_level, (colour, dashes) in looks.items():
        mine = rows[rows["dose_level"] == dose_level]
        under = below(mine)
        axes.plot(
            display(under["time_actual"]),
            under["lloq"],
            marker="v",
            markersize=3,
            color="none",
            markeredgecolor=colour,
            markeredgewidth=0.6,
            linestyle="none",
            alpha=0.55,
            zorder=2,
        )
        draw_each(
            axes, list(lines_of(mine).values()), color=colour, linestyle=dashes, linewidth=0.7, alpha=0.45, zorder=2
        )
        middle = _medians(mine)
        axes.plot(display(middle["time"]), middle["level"], color=colour, linestyle=dashes, linewidth=2.4, zorder=5)
        top = middle["level"].max()
        n = mine["patient_id"].nunique()
        what = f"{top:.3g}" if pd.notna(top) else words.say("below LLOQ or too few", "低于定量下限或过少")
        told.append(
            words.say(f"{dose_level} (n = {n}) highest median {what}", f"{dose_level}（n = {n}）最高中位数 {what}")
        )
    return "; ".join(told)


def _medians(rows: pd.DataFrame) -> pd.DataFrame:
    """Median at each nominal time with two patients or more, results below their LLOQ lowest; NaN where it is one."""
    timed = rows[rows["time_nominal"].notna() & (rows["status"] != "above_uloq")].copy()
    timed["rank"] = timed["level"].where((timed["status"] == "quantified") & (timed["level"] > 0), -np.inf)
    out = []
    for time, own in timed.groupby("time_nominal"):
        if own["patient_id"].nunique() >= MIDDLE_FROM:
            values = np.sort(own["rank"].to_numpy(dtype=float))
            pair = values[[(len(values) - 1) // 2, len(values) // 2]]
            out.append((float(str(time)), float(np.sqrt(pair[0] * pair[1])) if (pair > 0).all() else np.nan))
    return pd.DataFrame(out, columns=["time", "level"])


def _notes(results: Results, context: Context, words: Words) -> tuple[str, ...]:
    count, unit = PER[context.settings.study.dose_unit][1], context.settings.study.dose_unit
    return (
        words.say(
            f"Level divided by the amount that the patient had been given before the sample, in {count} {unit}; lines "
            "over each other would be dose proportional. Thin: patients, actual times. Thick: median of the dose level "
            f"at nominal times with {MIDDLE_FROM} patients or more, on the logarithmic scale, results below the LLOQ "
            "counted lowest; it breaks where the median is below the LLOQ. Open down-triangle: below the LLOQ, at that "
            "LLOQ by the same amount. Study day = days elapsed from the start of the first infusion + 1.",
            f"水平除以该样本之前的实际给药总量（{count} {unit}）；曲线重合即与剂量成比例。细线：单例，实际时间。"
            f"粗线：名义时间点上不少于 {MIDDLE_FROM} 例时该剂量水平的中位数（对数尺度），低于定量下限者计为最低；"
            "中位数低于定量下限处断开。空心下三角：低于定量下限，标于同法归一化的定量下限。"
            "研究日 = 首次输注开始后的天数 + 1。",
        ),
        source_footnote(results, context, NEEDS),
    )


FIGURE = Figure(
    name="dose_normalised",
    id="F-CK-09",
    number="9",
    title={"en": "Levels by the amount given, dose levels over each other", "zh": "剂量归一化水平的叠加"},
    needs=NEEDS,
    draw=draw,
)
