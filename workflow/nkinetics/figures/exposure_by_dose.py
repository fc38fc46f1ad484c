"""F-CK-07: Cmax and AUC by dose level, every point; target expression as the marker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
    FAINT,
    MUTED,
    WIDTH,
    canvas,
    dose_look,
    key,
    legend,
    log_axis,
    log_limits,
    panels,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.population.exposure import BELOW, VALUE, exposed, exposures
from nkinetics.population.exposure_response import wanted
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    blq_footnote,
    dose_levels,
    dose_names,
    exposure_title,
    grouped,
    missing,
    profile_name,
    profiles,
    significant,
    source_footnote,
    unit_name,
)

NEEDS = ("nca", "observations", "patients", "infusions")
LABELLED_UP_TO = 15
"""With more patients in a panel the points are not named."""
PANEL, GAP = 2.35, 0.78


def draw(results: Results, context: Context) -> FigureBody:
    """Rows are assays, columns Cmax and AUC; a patient below the LLOQ at the bound, one without a value in a note."""
    words, kinds, nca = words_of(context), profiles(results), exposed(results)
    if not len(kinds) or not len(nca):
        none = words.say("No non-compartmental result.", "无非房室分析结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    measures, patients = wanted(nca), results.table("patients")
    found = exposures(nca, results.table("observations"), measures, patients, results.table("infusions"))
    found = found.merge(patients[["patient_id", "dll3_high"]], on="patient_id", how="left")
    # An assay in which nobody has a value or a bound would be a row of empty panels.
    shown = [k for k in kinds.itertuples() if found[_of(found, k)]["state"].isin((VALUE, BELOW)).any()]
    if not shown:
        reasons = dict(zip(found["patient_id"], found["reason"], strict=True))
        none = words.colon(words.say("No exposure of any patient", "无任何患者的暴露量"), grouped(reasons, words))
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    levels, looks, names = dose_levels(results), dose_look(results), dose_names(results, context)
    bottom = 0.72 + len(shown) * (PANEL + GAP) - GAP
    figure = canvas(bottom + 0.5)
    legend(figure, _keys(words, found), 0.08, columns=6, x=0.1)
    grid = panels(figure, len(shown), len(measures), (0.85, 0.72, WIDTH - 0.15, bottom), (0.95, GAP))
    alts = []
    for i, kind in enumerate(shown):
        own = found[_of(found, kind)]
        for j, (window, parameter) in enumerate(measures):
            axes = grid[i, j]
            title = exposure_title(words, window, parameter)
            unit = str(kind.level_unit) if parameter == "cmax" else f"d*{kind.level_unit}"
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            axes.set_title(f"{title}, {name}", fontsize=8.8)
            axes.set_ylabel(f"{title} ({unit_name(unit)})")
            here = own[(own["window"] == window) & (own["parameter"] == parameter)]
            told = _panel(axes, here, levels, looks, names, context.settings.statistics.summary_n_min, words)
            alts.append(words.colon(f"{title}, {name}", told))
    n = len(results.patients)
    subtitle = words.say(f"All treated patients, of n = {n}", f"全部给药患者，共 n = {n}")
    return FigureBody(figure, _notes(results, context, found, kinds, words), ". ".join(alts), subtitle)


def _of(found: pd.DataFrame, kind: Any) -> pd.Series:
    return (found["assay"] == kind.assay) & (found["specimen"] == kind.specimen)


def _keys(words: Words, found: pd.DataFrame) -> list[Any]:
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": MUTED, "markeredgewidth": 1.0}
    drawn = found[found["state"].isin((VALUE, BELOW))]
    keys = [
        key(words.say("DLL3 high (at least 50 % of cells)", "DLL3 高（≥ 50 % 细胞）"), marker="o", color=MUTED),
        key(words.say("DLL3 low", "DLL3 低"), marker="o", **hollow),
    ]
    if drawn["dll3_high"].isna().any():
        keys.append(key(words.say("DLL3 not known", "DLL3 未知"), marker="s", **hollow))
    if (drawn["state"] == BELOW).any():
        label = words.say("never quantified (at its bound)", "从未定量（标于上界）")
        keys.append(key(label, marker="v", **hollow))
    keys.append(key(words.say("median", "中位数"), linestyle="-", linewidth=2.4, color=FAINT))
    return keys


def _panel(
    axes: Axes,
    rows: pd.DataFrame,
    levels: list[str],
    looks: dict[str, tuple[str, Any]],
    names: dict[str, str],
    least: int,
    words: Words,
) -> str:
    known = rows[rows["state"].isin((VALUE, BELOW))]
    if not len(known):
        say_in(axes, "; ".join(dict.fromkeys(r for r in rows["reason"] if r)) or words.say("no value", "无数值"), 40)
        axes.set_xticks([])
        axes.set_yticks([])
        return words.say("no value", "无数值")
    low, high = log_limits(known["value"].dropna(), known["bound"].dropna())
    # Two powers of ten on the axis, or the scale of a few points could not be read.
    while np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        low, high = low / 1.3, high * 1.3
    log_axis(axes, low / 1.15, high * 1.2, most=5)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    labels, told = [], []
    for i, dose_level in enumerate(levels):
        own = known[known["dose_level"] == dose_level].sort_values("patient_id")
        treated = int((rows["dose_level"] == dose_level).sum())
        labels.append(f"{names[dose_level]}\nn = {len(own)}/{treated}")
        told.append(f"{dose_level} n = {len(own)}, {_middle(axes, own, i, least, words)}")
        wide = min(0.36, 0.07 * (len(own) - 1))
        across = i + (np.linspace(-wide, wide, len(own)) if len(own) > 1 else np.zeros(len(own)))
        _points(axes, across, own, looks[dose_level][0], len(known))
    axes.set_xticks(range(len(levels)), labels, fontsize=7.5)
    axes.tick_params(axis="x", length=0)
    return words.join(told)


def _points(axes: Axes, across: np.ndarray, own: pd.DataFrame, colour: str, many: int) -> None:
    """The patients of a dose level, those of one look in one go."""
    size = 5.4 if many <= LABELLED_UP_TO else 4.0
    looks: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for x, row in zip(across, own.to_dict("records"), strict=True):
        seen, high = row["state"] == VALUE, not missing(row["dll3_high"]) and bool(row["dll3_high"])
        y = float(row["value"] if seen else row["bound"])
        marker = "v" if not seen else "s" if missing(row["dll3_high"]) else "o"
        looks.setdefault((marker, colour if seen and high else "white"), []).append((float(x), y))
        if many <= LABELLED_UP_TO:
            look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.9, "ha": "center", "zorder": 6}
            axes.annotate(str(row["patient_id"]), (x, y), (0, 6), fontweight="bold" if high else "normal", **look)
    for (marker, face), places in looks.items():
        place = np.array(places)
        edge: dict[str, Any] = {"markeredgecolor": colour, "markeredgewidth": 1.0, "linestyle": "none", "zorder": 4}
        axes.plot(place[:, 0], place[:, 1], marker=marker, markersize=size, markerfacecolor=face, **edge)


def _middle(axes: Axes, own: pd.DataFrame, place: int, least: int, words: Words) -> str:
    """The median as a line, patients below the LLOQ counted lowest; or why there is none."""
    if not len(own):
        return words.say("no value", "无数值")
    values = np.sort(np.where(own["state"] == BELOW, -np.inf, own["value"].to_numpy(dtype=float)))
    if len(values) < least:
        return words.join("BLQ" if v < 0 else significant(float(v)) for v in values)
    middle = float(values[[(len(values) - 1) // 2, len(values) // 2]].mean())
    if not np.isfinite(middle):
        return words.say("median below the LLOQ", "中位数低于定量下限")
    axes.plot([place - 0.42, place + 0.42], [middle, middle], color=FAINT, linewidth=2.4, zorder=2)
    return words.say(f"median {significant(middle)}", f"中位数 {significant(middle)}")


def _notes(
    results: Results, context: Context, found: pd.DataFrame, kinds: pd.DataFrame, words: Words
) -> tuple[str, ...]:
    least = context.settings.statistics.summary_n_min
    patients = results.patients
    high = patients["dll3_high"].fillna(False).astype(bool)
    by_level = words.say("; ", "；").join(
        words.colon(d, words.first(list(patients.loc[high & (patients["dose_level"] == d), "patient_id"])) or "–")
        for d in dose_levels(results)
    )
    notes = [
        words.say(
            f"Every treated patient is a point; the line is the median of {least} patients or more, those never "
            "quantified counted lowest. n: patients with a value or a bound, of those treated. Never quantified: "
            "sampled and all below their LLOQ, drawn at the lowest LLOQ (AUC: times the length of the window). "
            f"DLL3 high ({by_level}): also in bold where points are named.",
            f"每例给药患者为一点；横线为不少于 {least} 例时的中位数，从未定量者计为最低。n：有数值或上界者 / 给药人数。"
            "从未定量：已采样且全部低于定量下限，标于最低定量下限（AUC 乘以窗口长度）。"
            f"DLL3 高（{by_level}）：点有标注时以粗体表示。",
        )
    ]
    notes.append(blq_footnote(context))
    measures = len(found[["window", "parameter"]].drop_duplicates())
    for kind in kinds.itertuples():
        none = found[_of(found, kind) & ~found["state"].isin((VALUE, BELOW))]
        lacking = none["patient_id"].nunique()
        reasons: dict[str, str] = {}
        for (patient, why), rows in none.groupby(["patient_id", "reason"]) if lacking <= LABELLED_UP_TO else ():
            titles = [exposure_title(words, str(r.window), str(r.parameter)) for r in rows.itertuples()]
            reasons[str(patient) if len(titles) == measures else f"{patient} {words.join(titles)}"] = str(why)
        if lacking:
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            shown = grouped(reasons, words) if 0 < len(reasons) <= LABELLED_UP_TO else str(lacking)
            notes.append(words.say(f"Without a value, {name}: {shown}.", f"无数值，{name}：{shown}。"))
    return (*notes, source_footnote(results, context, NEEDS))


FIGURE = Figure(
    name="exposure_by_dose",
    id="F-CK-07",
    number="7",
    title={"en": "Cmax and AUC by dose level", "zh": "按剂量水平的 Cmax 与 AUC"},
    needs=NEEDS,
    draw=draw,
)
