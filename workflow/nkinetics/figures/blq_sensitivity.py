"""F-CK-15: sensitivity of parameters to the rule for levels below the LLOQ, patient by patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from nkinetics.figures._style import MUTED, RULE, WIDTH, canvas, heading, key, legend, palette, panels, say_in, words_of
from nkinetics.leading import led
from nkinetics.nca.blq_sensitivity import MODEL, with_model
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, profile_name, profiles, source_footnote

NEEDS = ("blq_sensitivity", "estimates", "observations", "patients", "fits", "population_comparison")
SHOWN = {
    "auc_last": {"en": "AUClast", "zh": "AUClast"},
    "auc_int": {"en": "AUC {window}", "zh": "AUC {window}"},
    "half_life": {"en": "Half-life", "zh": "半衰期"},
    "tlast": {"en": "Tlast", "zh": "Tlast"},
}
LOOKS = {"zero": ("o", 4), "half_lloq": ("s", 1), "drop": ("v", 2), MODEL: ("D", 0)}
"""Marker and place in the palette of each rule."""
NAMED_UP_TO, ROW, MOST = 25, 0.17, 4.2
"""Patients up to whom rows carry names; height of a row and most height of a panel, inches."""
MOST_TICKS = 5
TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


def draw(results: Results, context: Context) -> FigureBody:
    """Rows of panels are assays, columns parameters; a mark is the ratio to the value as analysed."""
    words, table, kinds = words_of(context), results.table("blq_sensitivity"), profiles(results)
    context = led(results, context)
    if not len(table) or not len(kinds):
        none = words.say("No non-compartmental result.", "无非房室分析结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    compared = with_model(table, results.table("estimates"), context.settings.models.default)
    patients = list(results.patients["patient_id"])
    height = min(MOST, ROW * len(patients) + 0.25)
    block = height + 1.05
    figure = canvas(0.42 + block * len(kinds))
    legend(figure, _keys(words, context), 0.08, columns=4, x=0.1)
    for i, kind in enumerate(kinds.itertuples()):
        top = 0.42 + i * block + 0.52
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        heading(figure, 0.1, top - 0.36, name)
        row = panels(figure, 1, len(SHOWN), (0.85, top, WIDTH - 0.15, top + height), (0.25, 0))[0]
        own = compared[(compared["assay"] == kind.assay) & (compared["specimen"] == kind.specimen)]
        for j, (parameter, title) in enumerate(SHOWN.items()):
            _panel(row[j], own[own["parameter"] == parameter], patients, words, names=j == 0)
            row[j].set_title(_title(words, title, own[own["parameter"] == parameter]), fontsize=8)
    label = words.say("Ratio to the value as analysed", "与实际分析值之比")
    figure.text(0.5, 0.06 / figure.get_figheight(), label, ha="center", fontsize=8)
    subtitle = words.say(f"All patients (n = {len(patients)})", f"全部患者（n = {len(patients)}）")
    notes = (*_notes(words, context), source_footnote(results, context, NEEDS))
    return FigureBody(figure, notes, _alt(compared, kinds, words, context), subtitle)


def _title(words: Words, title: Mapping[str, str], rows: pd.DataFrame) -> str:
    return words.pick(title).format(window=str(rows["window"].iloc[0]).replace("-", "–") if len(rows) else "")


def _keys(words: Words, context: Context) -> list:
    names = {
        "zero": words.say("all 0", "均为 0"),
        "half_lloq": words.say("all LLOQ/2", "均为 LLOQ/2"),
        "drop": words.say("all dropped", "均剔除"),
        MODEL: words.say(f"model ({context.settings.blq.models})", f"模型（{context.settings.blq.models}）"),
    }
    return [key(names[r], **_look(r)) for r in LOOKS]


def _look(rule: str) -> dict[str, Any]:
    marker, place = LOOKS[rule]
    # Open marks: equal ratios lie upon each other and must all be seen.
    edge = palette()[place]
    return {
        "marker": marker,
        "markersize": 4.6,
        "markerfacecolor": "none",
        "markeredgecolor": edge,
        "linestyle": "none",
    }


def ratios(rows: pd.DataFrame, rule: str) -> pd.Series:
    """Ratio of a rule's value to the one as analysed, by patient, where both exist; of the model where identifiable."""
    value = rows[rule]
    if rule == MODEL:
        value = value.where(rows["identifiable"].fillna(False).astype(bool))
    ratio = value / rows["configured"]
    return pd.Series(ratio.to_numpy(), index=rows["patient_id"]).replace([np.inf, 0.0], np.nan).dropna()


def _panel(axes: Axes, rows: pd.DataFrame, patients: list[str], words: Words, names: bool) -> None:
    at = {patient: k for k, patient in enumerate(patients)}
    axes.set_ylim(len(patients) - 0.4, -0.6)
    labelled = names and len(patients) <= NAMED_UP_TO
    # Ticks of hundreds of patients would take longer than all that is drawn, and nobody would see them.
    few = len(patients) <= NAMED_UP_TO
    axes.set_yticks(
        range(len(patients)) if few else [], (patients if labelled else [""] * len(patients)) if few else []
    )
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color=MUTED, linewidth=0.8, zorder=1)
    drawn = [1.0]
    for rule in LOOKS:
        found = ratios(rows, rule)
        axes.plot(found.to_numpy(), [at[p] for p in found.index], zorder=3, **_look(rule))
        drawn += found.to_list()
    for k in range(len(patients)) if few else ():
        axes.axhline(k, color=RULE, linewidth=0.5, zorder=0)
    if len(drawn) == 1:
        axes.set_xticks([])
        say_in(axes, words.say("no value to compare", "无可比较的数值"))
        return
    low, high = min(*drawn, 1 / 1.3) / 1.15, max(*drawn, 1.3) * 1.15
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    valued = set(rows.loc[rows["configured"].notna(), "patient_id"])
    none = [k for patient, k in at.items() if patient not in valued]
    if few:
        said = words.say("no value as analysed", "实际分析无值")
        look: dict[str, Any] = {"fontsize": 6.9, "color": MUTED, "va": "center", "zorder": 2}
        look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        for k in none:
            axes.text(0.03, k, said, transform=axes.get_yaxis_transform(), **look)
    elif none:
        n, total = len(none), len(patients)
        said = words.say(f"no value as analysed: {n} of {total}", f"实际分析无值：{total} 例中 {n} 例")
        # Above the panel: in it there is no place without a mark.
        axes.text(1, 1.01, said, transform=axes.transAxes, fontsize=6.9, color=MUTED, ha="right", va="bottom")


def ticks(low: float, high: float) -> list[float]:
    """Ratios for the axis, always with 1: few enough to be read beside each other.

    Examples
    --------
    >>> ticks(0.7, 1.4), ticks(0.4, 6.0), ticks(0.015, 160.0)
    ([0.8, 1.0, 1.25], [0.5, 1.0, 2.0, 5.0], [0.1, 1.0, 10.0, 100.0])
    """
    inside = [t for t in TICKS if low <= t <= high]
    if len(inside) < 2:
        return [0.8, 1.0, 1.25]
    return inside if len(inside) <= MOST_TICKS else [t for t in inside if np.log10(t) == round(np.log10(t))]


def _notes(words: Words, context: Context) -> tuple[str, ...]:
    return (
        words.say(
            "Each mark: a patient's parameter when every level below its LLOQ is replaced before the analysis (0: a "
            "point of the curve and no level; LLOQ/2: a measured level; dropped: as if never sampled), or by the "
            f"kinetic model {context.settings.models.default} (fitted AUC, half-life, time below the LLOQ), divided by "
            "the value as analysed by position. On the line: no difference. No mark: no value under that rule, or not "
            "identifiable in the model. No rule changes the Cmax of a patient who has a quantified level.",
            "每个标记：将所有低于定量下限的结果在分析前替换（0：曲线上的点而非水平；LLOQ/2：视为实测；剔除：视为未采样），"
            f"或由动力学模型 {context.settings.models.default}"
            "（拟合 AUC、半衰期、降至定量下限的时间）得到的参数，除以按位置实际分析的值。位于竖线上：无差异。"
            "无标记：该规则下无值，或模型中不可识别。对有可定量水平的患者，任何规则均不改变 Cmax。",
        ),
        words.say(
            "AUC: area under the curve; LLOQ: lower limit of quantification; Tlast: time of the last quantified level.",
            "AUC：曲线下面积；LLOQ：定量下限；Tlast：末个可定量水平的时间。",
        ),
    )


def _alt(compared: pd.DataFrame, kinds: pd.DataFrame, words: Words, context: Context) -> str:
    parts = []
    for kind in kinds.itertuples():
        own = compared[(compared["assay"] == kind.assay) & (compared["specimen"] == kind.specimen)]
        for parameter, title in SHOWN.items():
            change = own.loc[own["parameter"] == parameter, "change_pct"].dropna()
            largest = f"{change.max():.0f} %" if len(change) else words.say("none", "无")
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            shown = _title(words, title, own[own["parameter"] == parameter])
            parts.append(
                words.say(
                    f"{name}, {shown}: largest change {largest}",
                    f"{name}，{shown}：最大变化 {largest}",
                )
            )
    return "; ".join(parts)


FIGURE = Figure(
    name="blq_sensitivity",
    id="F-CK-15",
    number="15",
    title={
        "en": "Sensitivity of parameters to the rule for levels below the LLOQ",
        "zh": "参数对低于定量下限处理规则的敏感性",
    },
    needs=NEEDS,
    draw=draw,
)
