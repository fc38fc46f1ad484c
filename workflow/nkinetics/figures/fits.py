"""F-CK-04: observed levels and the curve of the leading model, patient by patient."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
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
    heading,
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
from nkinetics.leading import leading_sentence, led
from nkinetics.plugins import Figure, FigureBody, discover
from nkinetics.results import Context, Results
from nkinetics.wording import Words, everyone, profile_name, profiles, source_footnote, without_quantified

NEEDS = ("observations", "predictions", "fits", "patients", "infusions", "cytokines", "events", "population_comparison")


def draw(results: Results, context: Context) -> FigureBody:
    """One block of semi-logarithmic panels per assay, one panel per patient, one y range per assay."""
    words, kinds, context = words_of(context), profiles(results), led(results, context)
    if not len(kinds) or not len(results.table("fits")):
        none = words.say("No model was fitted.", "未拟合任何模型。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    n = len(results.patients)
    columns = min(n, 3 if n <= 6 else 5 if n <= 24 else 6 if n <= 60 else 9)
    rows = math.ceil(n / columns)
    panel = 1.3 if n <= 24 else 0.95
    block_height = 0.52 + rows * (panel + 0.32) + 0.32
    figure = canvas(0.62 + len(kinds) * block_height)
    legend(figure, _keys(results, context, kinds, words), 0.08, columns=6, x=0.1)
    for index in range(len(kinds)):
        kind = kinds.iloc[index]
        _block(figure, results, context, kind, 0.62 + index * block_height, rows, columns, panel)
    settings = context.settings.models
    model = discover("models").get(settings.default)
    formula = model.formula(settings.constants(model.name)) if model else ""
    title = words.pick(model.title) if model else context.settings.models.default
    level = f"{100 * context.settings.models.confidence:g} %"
    notes = (
        words.say(
            f"Curve: {title}"
            + (f", {formula}" if formula else "")
            + f"; band: {level} interval of the curve. Results below the "
            f"LLOQ enter by {context.settings.blq.models} (Beal 2001). Dotted: LLOQ of each sample. "
            f"{leading_sentence(results, context)}",
            f"曲线：{title}"
            + (f"，{formula}" if formula else "")
            + f"；色带：曲线的 {level} 区间。低于定量下限的结果按 "
            f"{context.settings.blq.models} 处理 (Beal 2001)。点线：各样本的定量下限。"
            f"{leading_sentence(results, context)}",
        ),
        marks_footnote(words),
        source_footnote(results, context, NEEDS),
    )
    subtitle = f"{everyone(results, words)} · {title}"
    return FigureBody(figure, notes, _alt(results, context, kinds, words, title), subtitle)


def _keys(results: Results, context: Context, kinds: pd.DataFrame, words: Words) -> list[Artist]:
    level = f"{100 * context.settings.models.confidence:g} %"
    assays = list(dict.fromkeys(kinds["assay"]))
    return [
        *(
            key(
                words.colon(words.say("observed", "实测"), words.assay(a)),
                marker=assay_look(a)[1],
                color=assay_look(a)[0],
            )
            for a in assays
        ),
        key(words.say("fitted curve", "拟合曲线"), linestyle="-", color=INK),
        Patch(facecolor="#c9d1d9", label=words.say(f"{level} band", f"{level} 区间")),
        below_key(words),
        key(words.say("LLOQ", "定量下限"), linestyle=(0, (1, 1.5)), color=MUTED, linewidth=0.9),
        *given_keys(results, words),
    ]


def _block(
    figure: MatplotlibFigure,
    results: Results,
    context: Context,
    kind: pd.Series,
    top: float,
    rows: int,
    columns: int,
    panel: float,
) -> None:
    words = words_of(context)
    assay, specimen, unit = str(kind["assay"]), str(kind["specimen"]), str(kind["level_unit"])
    heading(figure, 0.1, top + 0.12, profile_name(context, assay, specimen, unit), 10)
    observed = reportable(results, assay, specimen)
    curves = results.table("predictions")
    curves = curves[
        (curves["assay"] == assay)
        & (curves["specimen"] == specimen)
        & (curves["model"] == context.settings.models.default)
    ]
    limits = log_limits(quantified(observed)["level"], below(observed)["lloq"])
    reasons = without_quantified(results, context, assay, specimen)
    bottom = top + 0.5 + rows * (panel + 0.32) - 0.32
    grid = panels(figure, rows, columns, (0.68, top + 0.5, WIDTH - 0.15, bottom), (0.17, 0.32))
    order = list(results.patients["patient_id"])
    for position, patient in enumerate(results.patients.itertuples()):
        axes, identifier = grid[position // columns, position % columns], str(patient.patient_id)
        axes.set_title(f"{identifier} · {patient.dose_level}", fontsize=8)
        day_axis(axes, first_time(results), last_time(results), most=6 if columns <= 5 else 4)
        log_axis(axes, *limits, most=5)
        bare(axes, x=position + columns < len(order), y=bool(position % columns))
        if position % columns == 0 and position // columns == rows // 2:
            axes.set_ylabel(level_label(words, unit))
        own = observed[observed["patient_id"] == identifier]
        if not len(own):
            say_in(axes, reasons.get(identifier, words.say("no reportable result", "无可报告结果")))
            continue
        curve = curves[(curves["patient_id"] == identifier) & curves["level"].notna()]
        _panel(axes, results, own, curve, assay, limits)
        draw_given(axes, results, identifier)
        if not len(curve):
            note_in(axes, "\n".join(_why_no_curve(results, context, kind, identifier)))
    for position in range(len(order), rows * columns):
        grid[position // columns, position % columns].remove()
    figure.text(0.5, 1 - (bottom + 0.37) / figure.get_figheight(), day_label(words), ha="center", fontsize=8)


def _panel(
    axes: Axes, results: Results, own: pd.DataFrame, curve: pd.DataFrame, assay: str, limits: tuple[float, float]
) -> None:
    colour, marker = assay_look(assay)
    if len(curve):
        x = display(curve["time"])
        # A curve may fall to 1e-300: outside the panel it needs no point, and the band no infinite polygon.
        lower, upper = (
            np.clip(curve[c].to_numpy(dtype=float), limits[0] / 1e3, limits[1] * 1e3) for c in ("lower", "upper")
        )
        band = np.isfinite(lower) & np.isfinite(upper)
        axes.fill_between(x[band], lower[band], upper[band], color="#c9d1d9", alpha=0.75, linewidth=0, zorder=1)
        level = np.clip(curve["level"].to_numpy(dtype=float), limits[0] / 1e3, limits[1] * 1e3)
        axes.plot(x, level, color=INK, linewidth=1.1, zorder=2)
    lloq = own[own["lloq"] > 0]
    if len(lloq):
        axes.step(
            display(lloq["time_actual"]),
            lloq["lloq"],
            where="mid",
            # A step needs two samples; the limit of a single one is a dash.
            marker="_" if len(lloq) == 1 else "",
            color=MUTED,
            linewidth=0.8,
            linestyle=(0, (1, 1.5)),
            zorder=2,
        )
    seen = quantified(own)
    axes.plot(
        display(seen["time_actual"]),
        seen["level"],
        marker=marker,
        color=colour,
        linestyle="none",
        markersize=3.8,
        zorder=4,
    )
    draw_below(axes, own, colour, 4)


def _why_no_curve(results: Results, context: Context, kind: pd.Series, patient: str) -> list[str]:
    import textwrap

    fits = results.table("fits")
    row = fits[
        (fits["patient_id"] == patient)
        & (fits["assay"] == kind["assay"])
        & (fits["specimen"] == kind["specimen"])
        & (fits["model"] == context.settings.models.default)
    ]
    words = words_of(context)
    why = str(row["reason"].iloc[0]) if len(row) and row["reason"].iloc[0] else words.say("not fitted", "未拟合")
    most = 18 if words.language == "zh" else 30
    return textwrap.wrap(
        words.colon(words.say("no curve", "无曲线"), words.told(why)), most, max_lines=4, placeholder=" …"
    )


def _alt(results: Results, context: Context, kinds: pd.DataFrame, words: Words, title: str) -> str:
    fits = results.table("fits")
    fits = fits[fits["model"] == context.settings.models.default]
    parts = []
    for kind in kinds.itertuples():
        own = fits[(fits["assay"] == kind.assay) & (fits["specimen"] == kind.specimen)]
        done = sorted(own.loc[own["converged"].fillna(False).astype(bool), "patient_id"])
        rest = [p for p in results.patients["patient_id"] if p not in done]
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        parts.append(
            words.say(
                f"{name}: {title} fitted to {', '.join(done) or 'nobody'}; no "
                f"fitted curve for {', '.join(rest) or 'nobody'}",
                f"{name}：{title}已拟合 {'、'.join(done) or '无'}；无拟合曲线 {'、'.join(rest) or '无'}",
            )
        )
    return ". ".join(parts)


FIGURE = Figure(
    name="fits",
    id="F-CK-04",
    number="4",
    title={"en": "Observed levels and fitted curves by patient", "zh": "各患者实测水平与拟合曲线"},
    needs=NEEDS,
    draw=draw,
    by_patient=True,
)
