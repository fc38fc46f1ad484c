"""F-CK-12: exposure against the worst grade of CRS; exploratory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nkinetics.figures._style import (
    FAINT,
    INK,
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
from nkinetics.findings import crs_note
from nkinetics.plugins import Figure, FigureBody
from nkinetics.population.exposure import BELOW, VALUE, exposed, exposures, people
from nkinetics.population.exposure_response import UNKNOWN, groups, wanted
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    dose_names,
    everyone,
    exposure_title,
    missing,
    profile_name,
    profiles,
    significant,
    source_footnote,
    unit_name,
)

NEEDS = ("exposure_response", "nca", "observations", "patients", "infusions", "events")
LABELLED_UP_TO = 15
"""With more patients the points are not named."""


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per exposure in the first assay of the study."""
    words, kinds, nca = words_of(context), profiles(results), exposed(results)
    measures = wanted(nca)

    def none(why: str) -> FigureBody:
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))

    if not len(kinds) or not len(nca) or not len(results.table("exposure_response")):
        return none(words.say("No exposure beside events.", "无暴露量与事件的分析。"))
    kind, patients, infusions = kinds.iloc[0], results.table("patients"), results.table("infusions")
    found = exposures(nca, results.table("observations"), measures, patients, infusions)
    found = found[(found["assay"] == kind["assay"]) & (found["specimen"] == kind["specimen"])]
    belongs = groups(people(nca, patients, infusions), patients, results.table("events"))
    shown = found.merge(belongs[belongs["factor"] == "crs"], on="patient_id")
    shown = shown[shown["state"].isin((VALUE, BELOW))]
    if (shown["group"] == UNKNOWN).all():
        return none(words.say("No clinical event recorded in the study.", "研究中未记录临床事件。"))
    n = shown["patient_id"].nunique()
    least = context.settings.statistics.tested_n_min
    if n < least:
        listed = "; ".join(
            f"{r.patient_id}: {_value(r)}, CRS {r.group}" for r in shown[shown["parameter"] == "cmax"].itertuples()
        )
        return none(
            words.say(
                f"{n} patients with a result, {least} needed for a plot. Cmax: {listed}.",
                f"有结果者 {n} 例，绘图需 {least} 例。Cmax：{listed}。",
            )
        )
    looks, names = dose_look(results), dose_names(results, context)
    toci = _with_tocilizumab(results)
    figure = canvas(4.1)
    keys = [key(names[d], color=looks[d][0], marker=_marker(i), markersize=5.5) for i, d in enumerate(looks)]
    keys += [
        key(
            words.say("below LLOQ (at its bound)", "低于定量下限（标于上界）"),
            marker="v",
            markerfacecolor="none",
            markeredgecolor=MUTED,
        ),
        key(words.say("median of the grade", "该级别中位数"), linestyle="-", linewidth=2.4, color=FAINT),
    ]
    if toci & set(shown["patient_id"]):
        keys.append(
            key(
                words.say("tocilizumab given", "已用托珠单抗"),
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=INK,
                markeredgewidth=0.7,
            )
        )
    legend(figure, keys, 0.08, columns=6, x=0.1)
    grid = panels(figure, 1, len(measures), (0.8, 0.75, WIDTH - 0.3, 3.6), (1.0, 0))[0]
    alts = []
    for axes, (window, parameter) in zip(grid, measures, strict=True):
        own = shown[(shown["window"] == window) & (shown["parameter"] == parameter)]
        title = exposure_title(words, window, parameter)
        unit = str(kind["level_unit"]) if parameter == "cmax" else f"d*{kind['level_unit']}"
        axes.set_ylabel(f"{title} ({unit_name(unit)})")
        axes.set_xlabel(words.say("CRS, worst grade", "CRS 最高级别"))
        axes.set_title(words.say(f"{title} (exploratory)", f"{title}（探索性）"), fontsize=9)
        alts.append(f"{title}: {_panel(axes, own, results, context, toci, words)}")
    name = profile_name(context, kind["assay"], kind["specimen"], kind["level_unit"])
    return FigureBody(
        figure, _notes(results, context, found, shown, words), ". ".join(alts), f"{everyone(results, words)} · {name}"
    )


def _marker(index: int) -> str:
    return ("o", "s", "D", "P", "X", "h")[index % 6]


def _with_tocilizumab(results: Results) -> set[str]:
    events = results.table("events")
    return set(events.loc[events["event"] == "tocilizumab", "patient_id"])


def _value(row: Any) -> str:
    return significant(float(row.value)) if row.state == VALUE else "BLQ"


def _across(graded: pd.DataFrame) -> dict[str, float]:
    """Where each patient stands across: about the grade, side by side in order of the id."""
    places: dict[str, float] = {}
    for rank, mine in graded.groupby("rank"):
        ids = sorted(mine["patient_id"].astype(str))
        wide = min(0.36, 0.09 * (len(ids) - 1))
        shifts = np.linspace(-wide, wide, len(ids)) if len(ids) > 1 else np.zeros(1)
        places |= {i: float(str(rank)) + float(shift) for i, shift in zip(ids, shifts, strict=True)}
    return places


def _panel(axes: Axes, own: pd.DataFrame, results: Results, context: Context, toci: set[str], words: Words) -> str:
    graded = own[own["rank"].notna()]
    if not len(graded):
        say_in(axes, words.say("no graded patient with a result", "无有结果的已分级患者"))
        return words.say("no patient", "无患者")
    looks = dose_look(results)
    last = max(2, int(graded["rank"].max()))
    axes.set_xlim(-0.55, last + 0.55)
    axes.set_xticks(range(last + 1))
    low, high = log_limits(graded["value"].dropna(), graded["bound"].dropna())
    log_axis(axes, low, high * 1.3)
    across = _across(graded)
    for i, (dose_level, (colour, _)) in enumerate(looks.items()):
        mine = graded[graded["dose_level"] == dose_level]
        x, seen = np.array([across[str(p)] for p in mine["patient_id"]]), (mine["state"] == VALUE).to_numpy()
        y = np.where(seen, mine["value"], mine["bound"]).astype(float)
        given = mine["patient_id"].isin(toci).to_numpy()
        look: dict[str, Any] = {"linestyle": "none", "zorder": 4, "color": colour, "markersize": 5.5}
        axes.plot(x[seen], y[seen], marker=_marker(i), markeredgewidth=0, **look)
        axes.plot(x[~seen], y[~seen], marker="v", markerfacecolor="none", **look)
        round_it: dict[str, Any] = {"color": "none", "markeredgecolor": INK, "markeredgewidth": 0.7, "zorder": 5}
        axes.plot(x[given], y[given], marker="o", markersize=10, linestyle="none", **round_it)
        for patient, *at in zip(mine["patient_id"], x, y, strict=True) if len(graded) <= LABELLED_UP_TO else ():
            axes.annotate(
                str(patient), tuple(at), (0, 7), textcoords="offset points", fontsize=6.9, ha="center", zorder=6
            )
    told = []
    for rank, mine in graded.groupby("rank"):
        values = np.sort(np.where(mine["state"] == BELOW, -np.inf, mine["value"].to_numpy(dtype=float)))
        middle = float(values[[(len(values) - 1) // 2, len(values) // 2]].mean())
        place = float(str(rank))
        if len(mine) >= context.settings.statistics.summary_n_min and np.isfinite(middle):
            axes.plot([place - 0.42, place + 0.42], [middle, middle], color=FAINT, linewidth=2.4, zorder=2)
            what = words.say(f"median {middle:.3g}", f"中位数 {middle:.3g}")
        else:
            what = words.join("BLQ" if v < 0 else f"{v:.3g}" for v in values[:5])
        told.append(words.say(f"grade {place:g} n = {len(mine)}, {what}", f"{place:g} 级 n = {len(mine)}，{what}"))
    return "; ".join(told)


def _notes(
    results: Results, context: Context, found: pd.DataFrame, shown: pd.DataFrame, words: Words
) -> tuple[str, ...]:
    notes = [
        words.say(
            "Exploratory: association, not cause. Exposure of the whole window, which may lie after the event. Grade "
            "0: none recorded. Open down-triangle: sampled in the window and never quantified, at its bound. Median "
            f"with {context.settings.statistics.summary_n_min} patients or more, those below the LLOQ counted lowest. "
            "Tocilizumab is as a rule given BECAUSE of expansion and its toxicity: the ring tells who received "
            "it, and is no factor.",
            "探索性：关联而非因果。暴露量为整个窗口，可能晚于事件。0 级：无记录。"
            "空心下三角：窗口内已采样但从未定量，标于上界。"
            f"不少于 {context.settings.statistics.summary_n_min} 例时给出中位数，低于定量下限者计为最低。"
            "托珠单抗通常因扩增及其毒性而使用：圆环仅表示使用者，不作为因素。",
        )
    ]
    notes += filter(None, [crs_note(results, context)])
    out = sorted(set(found["patient_id"]) - set(shown.loc[shown["rank"].notna(), "patient_id"]))
    if out:
        few = words.join(out) if len(out) <= 8 else str(len(out))
        notes.append(words.say(f"Without a result or a grade: {few}.", f"无结果或未分级：{few}。"))
    tests = results.table("exposure_response")
    kind = profiles(results).iloc[0]
    tests = tests[
        (tests["factor"] == "crs")
        & (tests["analysis"] == "test")
        & (tests["assay"] == kind["assay"])
        & (tests["specimen"] == kind["specimen"])
    ]
    for row in tests.itertuples():
        title = exposure_title(words, str(row.window), str(row.parameter))
        told = str(row.reason) if missing(row.p_value) else f"p = {float(str(row.p_value)):.3f} ({row.test})"
        notes.append(words.colon(words.say(f"{title}, rank test", f"{title} 秩检验"), told) + words.say(".", "。"))
    return (*notes, source_footnote(results, context, NEEDS))


FIGURE = Figure(
    name="crs_grade",
    id="F-CK-12",
    number="12",
    title={"en": "Exposure against the worst grade of CRS (exploratory)", "zh": "暴露量与 CRS 最高级别（探索性）"},
    needs=NEEDS,
    draw=draw,
)
