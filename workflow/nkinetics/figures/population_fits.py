"""F-CK-22: each patient's curve given the population, beside the curve of a typical patient with his infusions."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from nkinetics.figures._style import (
    INK,
    MUTED,
    WIDTH,
    assay_look,
    bare,
    below,
    below_key,
    canvas,
    day_axis,
    day_label,
    display,
    draw_below,
    draw_given,
    first_time,
    given_keys,
    key,
    last_time,
    legend,
    level_label,
    log_axis,
    log_limits,
    marks_footnote,
    note_in,
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.leading import Shown, assays_of, none_fitted, shown, subtitle_of
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, source_footnote, without_quantified

NEEDS = (
    "population_predictions",
    "population",
    "population_comparison",
    "individuals",
    "observations",
    "patients",
    "infusions",
    "cytokines",
    "events",
)


def draw(results: Results, context: Context) -> FigureBody:
    """One panel per patient, also for one who has no sample."""
    words, fit = words_of(context), shown(results)
    why = none_fitted(results, context, fit)
    if fit is None or why:
        return FigureBody(None, note=why, footnotes=(source_footnote(results, context, NEEDS),))
    curves = fit.of(results.table("population_predictions"))
    assays = assays_of(fit)
    observed = pd.concat([reportable(results, a, fit.specimen) for a in assays], ignore_index=True)
    n = len(results.patients)
    columns = min(n, 3 if n <= 6 else 5 if n <= 24 else 6 if n <= 60 else 9)
    rows, panel = math.ceil(n / columns), 1.3 if n <= 24 else 0.95
    top, bottom = 0.9, 0.9 + rows * (panel + 0.32) - 0.32
    figure = canvas(bottom + 0.55)
    legend(figure, _keys(results, words, assays), 0.08, columns=5, x=0.1)
    grid = panels(figure, rows, columns, (0.68, top, WIDTH - 0.15, bottom), (0.17, 0.32))
    limits = log_limits(quantified(observed)["level"], below(observed)["lloq"])
    reasons = _reasons(results, context, fit)
    for position, patient in enumerate(results.patients.itertuples()):
        axes, identifier = grid[position // columns, position % columns], str(patient.patient_id)
        axes.set_title(f"{identifier} · {patient.dose_level}", fontsize=8)
        day_axis(axes, first_time(results), last_time(results), most=6 if columns <= 5 else 4)
        log_axis(axes, *limits, most=5)
        bare(axes, x=position + columns < n, y=bool(position % columns))
        if position % columns == 0 and position // columns == rows // 2:
            axes.set_ylabel(level_label(words, _unit(results, fit)))
        own = observed[observed["patient_id"] == identifier]
        curve = curves[curves["patient_id"] == identifier].sort_values("time")
        if not len(own) and not len(curve):
            say_in(axes, reasons.get(identifier, words.say("no reportable result", "无可报告结果")))
            continue
        _curves(axes, curve, limits)
        for assay in assays:
            _measured(axes, own[own["assay"] == assay], assay)
        draw_given(axes, results, identifier)
        if identifier in reasons:
            said = textwrap.wrap(reasons[identifier], 30, max_lines=3, placeholder=" …")
            note_in(axes, "\n".join(said))
    for position in range(n, rows * columns):
        grid[position // columns, position % columns].remove()
    figure.text(0.5, 0.12 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    return FigureBody(
        figure,
        (
            words.say(
                "Solid: the patient's own curve given his samples and the population, with its 95 % band; dashed: the "
                "curve of a typical patient of this dose with the same infusions. A patient with few quantified "
                "samples is drawn to the typical curve; that is no evidence about him.",
                "实线：给定患者样本与群体的个体曲线及 95 % 区间；虚线：同剂量、同输注的典型患者曲线。"
                "可定量样本少的患者收缩至典型曲线，并非关于该患者的证据。",
            ),
            marks_footnote(words),
            source_footnote(results, context, NEEDS),
        ),
        _alt(results, words, curves, reasons),
        subtitle_of(results, context, fit),
    )


def _unit(results: Results, fit: Shown) -> str:
    rows = results.profiles
    own = rows[(rows["assay"] == assays_of(fit)[0]) & (rows["specimen"] == fit.specimen)]
    return str(own["level_unit"].iloc[0]) if len(own) else ""


def _keys(results: Results, words: Words, assays: list[str]) -> list[Artist]:
    return [
        *(
            key(
                words.colon(words.say("observed", "实测"), words.assay(a)),
                marker=assay_look(a)[1],
                color=assay_look(a)[0],
            )
            for a in assays
        ),
        key(words.say("patient", "患者"), linestyle="-", color=INK),
        key(words.say("typical patient", "典型患者"), linestyle=(0, (4, 1.6)), color=MUTED),
        Patch(facecolor="#c9d1d9", label=words.say("95 % band", "95 % 区间")),
        below_key(words),
        *given_keys(results, words),
    ]


def _reasons(results: Results, context: Context, fit: Shown) -> dict[str, str]:
    """Patients without a quantified level, and those left out of the estimation, with the reason."""
    missing_level = without_quantified(results, context, assays_of(fit)[0], fit.specimen)
    rows = fit.of(results.table("individuals"))
    lost = rows[rows["estimate"].isna() & (rows["kind"] == "fitted")].drop_duplicates("patient_id")
    own = {str(p): str(r) for p, r in zip(lost["patient_id"], lost["reason"], strict=True)}
    return {**own, **missing_level}


def _curves(axes: Axes, curve: pd.DataFrame, limits: tuple[float, float]) -> None:
    if not len(curve):
        return
    x = display(curve["time"])
    # A curve may fall to 1e-300: outside the panel it needs no point, and the band no infinite polygon.
    low, high, own, typical = (
        np.clip(curve[c].to_numpy(dtype=float), limits[0] / 1e3, limits[1] * 1e3)
        for c in ("lower", "upper", "level", "population")
    )
    band = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(x[band], low[band], high[band], color="#c9d1d9", alpha=0.75, linewidth=0, zorder=1)
    axes.plot(x, typical, color=MUTED, linewidth=1.0, linestyle=(0, (4, 1.6)), zorder=2)
    axes.plot(x, own, color=INK, linewidth=1.1, zorder=3)


def _measured(axes: Axes, own: pd.DataFrame, assay: str) -> None:
    colour, marker = assay_look(assay)
    seen = quantified(own)
    look: dict[str, Any] = {"linestyle": "none", "markersize": 3.8, "zorder": 4}
    axes.plot(display(seen["time_actual"]), seen["level"], marker=marker, color=colour, **look)
    draw_below(axes, own, colour, 4)


def _alt(results: Results, words: Words, curves: pd.DataFrame, reasons: dict[str, str]) -> str:
    curved = set(curves["patient_id"])
    drawn = [p for p in results.patients["patient_id"] if p in curved]
    rest = [p for p in results.patients["patient_id"] if p not in drawn]
    return words.say(
        f"Individual and typical curves of {', '.join(drawn) or 'nobody'}; no curve for {', '.join(rest) or 'nobody'}",
        f"{'、'.join(drawn) or '无'} 的个体与典型曲线；无曲线 {'、'.join(rest) or '无'}",
    )


FIGURE = Figure(
    name="population_fits",
    id="F-CK-22",
    number="22",
    title={"en": "Individual curves given the population", "zh": "群体模型下的个体曲线"},
    needs=NEEDS,
    draw=draw,
    by_patient=True,
)
