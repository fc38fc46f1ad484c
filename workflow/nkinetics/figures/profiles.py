"""F-CK-01: the profile of every patient, linear and semi-logarithmic, one y range across panels."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure

from nkinetics.figures._style import (
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
    linear_axis,
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
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results
from nkinetics.wording import Words, everyone, profile_name, profiles, source_footnote, unit_name, without_quantified

NEEDS = ("observations", "patients", "infusions", "cytokines", "events")
BOTH_SCALES_UP_TO = 24
"""With more patients only the semi-logarithmic panels are drawn."""


def draw(results: Results, context: Context) -> FigureBody:
    """One block of panels per unit, assays of the same unit and specimen in the same panels."""
    words, kinds = words_of(context), profiles(results)
    if not len(kinds):
        return FigureBody(
            None,
            note=words.say("No assay has a result.", "无检测结果。"),
            footnotes=(source_footnote(results, context, NEEDS),),
        )
    blocks = [own for _, own in kinds.groupby(["specimen", "level_unit"], sort=False)]
    n = len(results.patients)
    both = n <= BOTH_SCALES_UP_TO
    columns = min(n, 3 if both else 6 if n <= 60 else 9)
    rows = math.ceil(n / columns)
    panel = 1.15 if both else 0.95
    block_height = 0.62 + rows * (panel + 0.30) + 0.30
    figure = canvas(0.45 + len(blocks) * block_height)
    keys = [
        *(
            key(words.assay(a), marker=assay_look(a)[1], linestyle="-", color=assay_look(a)[0])
            for a in dict.fromkeys(kinds["assay"])
        ),
        below_key(words),
        *given_keys(results, words),
    ]
    legend(figure, keys, 0.08, columns=len(keys), x=0.1)
    for index, block in enumerate(blocks):
        top = 0.45 + index * block_height
        _block(figure, results, context, block, top, rows, columns, panel, both)
    notes = [marks_footnote(words)]
    if not both:
        notes.append(
            words.say(
                f"With more than {BOTH_SCALES_UP_TO} patients only the semi-logarithmic panels are drawn.",
                f"患者超过 {BOTH_SCALES_UP_TO} 例时仅绘半对数图。",
            )
        )
    notes.append(source_footnote(results, context, NEEDS))
    subtitle = (
        everyone(results, words)
        + " · "
        + words.join(profile_name(context, k.assay, k.specimen, k.level_unit) for k in kinds.itertuples())
    )
    return FigureBody(figure, tuple(notes), _alt(results, context, kinds, words), subtitle)


def _block(
    figure: MatplotlibFigure,
    results: Results,
    context: Context,
    block: pd.DataFrame,
    top: float,
    rows: int,
    columns: int,
    panel: float,
    both: bool,
) -> None:
    words = words_of(context)
    unit, specimen = str(block["level_unit"].iloc[0]), str(block["specimen"].iloc[0])
    names = words.say(" and ", "与").join(words.assay(a) for a in block["assay"])
    heading(figure, 0.1, top + 0.16, f"{names}, {words.specimen(specimen)} ({unit_name(unit)})", 10)
    data = {a: reportable(results, a, specimen) for a in block["assay"]}
    everything = pd.concat(list(data.values()))
    values = quantified(everything)["level"]
    limits = log_limits(values, below(everything)["lloq"])
    reasons = without_quantified(results, context, str(block["assay"].iloc[0]), specimen)
    scales = ["linear", "log"] if both else ["log"]
    middle = 0.35 + WIDTH / 2
    boxes = (
        {"linear": (0.75, middle - 0.35), "log": (middle + 0.35, WIDTH - 0.15)}
        if both
        else {"log": (0.75, WIDTH - 0.15)}
    )
    bottom = top + 0.52 + rows * (panel + 0.30) - 0.30
    for scale in scales:
        left, right = boxes[scale]
        if both:
            text = words.say("linear", "线性坐标") if scale == "linear" else words.say("semi-logarithmic", "半对数坐标")
            figure.text(
                right / WIDTH, 1 - (top + 0.16) / figure.get_figheight(), text, fontsize=8, color="#5c6773", ha="right"
            )
        grid = panels(figure, rows, columns, (left, top + 0.52, right, bottom), (0.16, 0.30))
        for position, patient in enumerate(results.patients.itertuples()):
            axes = grid[position // columns, position % columns]
            _panel(
                axes,
                results,
                context,
                str(patient.patient_id),
                str(patient.dose_level),
                data,
                scale,
                limits,
                float(values.max()) if len(values) else 1.0,
                reasons,
            )
            bare(axes, x=position + columns < len(results.patients), y=bool(position % columns))
            if position % columns == 0 and position // columns == rows // 2:
                axes.set_ylabel(level_label(words, unit))
        for position in range(len(results.patients), rows * columns):
            grid[position // columns, position % columns].remove()
        figure.text(
            (left + right) / 2 / WIDTH,
            1 - (bottom + 0.36) / figure.get_figheight(),
            day_label(words),
            ha="center",
            fontsize=8,
        )


def _panel(
    axes: Axes,
    results: Results,
    context: Context,
    patient: str,
    dose_level: str,
    data: dict[str, pd.DataFrame],
    scale: str,
    limits: tuple[float, float],
    highest: float,
    reasons: dict[str, str],
) -> None:
    axes.set_title(f"{patient} · {dose_level}", fontsize=8)
    crowded = len(results.patients) > BOTH_SCALES_UP_TO
    day_axis(axes, first_time(results), last_time(results), most=4 if crowded else 6)
    if scale == "log":
        log_axis(axes, *limits, most=5)
    else:
        linear_axis(axes, highest)
    own = {a: rows[rows["patient_id"] == patient] for a, rows in data.items()}
    if not any(len(rows) for rows in own.values()):
        say_in(axes, reasons.get(patient, words_of(context).say("no reportable result", "无可报告结果")))
        return
    for assay, rows in own.items():
        colour, marker = assay_look(assay)
        seen = quantified(rows)
        axes.plot(
            display(seen["time_actual"]),
            seen["level"],
            marker=marker,
            color=colour,
            markersize=3.2,
            linewidth=1.1,
            zorder=2,
        )
        draw_below(axes, rows, colour, 3.6)
    if not any(len(quantified(rows)) for rows in own.values()):
        words = words_of(context)
        note_in(axes, words.say("no quantified level", "无可定量水平"))
    draw_given(axes, results, patient, letters=scale == "log")


def _alt(results: Results, context: Context, kinds: pd.DataFrame, words: Words) -> str:
    """Highest level of every patient in words."""
    parts = []
    for kind in kinds.itertuples():
        rows = quantified(reportable(results, str(kind.assay), str(kind.specimen)))
        highest = rows.groupby("patient_id")["level"].max()
        shown = [
            f"{p} {highest[p]:.3g}" if p in highest.index else f"{p} {words.say('none quantified', '无可定量')}"
            for p in results.patients["patient_id"]
        ]
        parts.append(
            words.colon(
                words.say(
                    f"Highest level, {profile_name(context, kind.assay, kind.specimen, kind.level_unit)}",
                    f"最高水平，{profile_name(context, kind.assay, kind.specimen, kind.level_unit)}",
                ),
                words.join(shown),
            )
        )
    return ". ".join(parts)


FIGURE = Figure(
    name="profiles",
    id="F-CK-01",
    number="1",
    title={"en": "Individual profiles, linear and semi-logarithmic", "zh": "个体动力学曲线（线性与半对数）"},
    needs=NEEDS,
    draw=draw,
    by_patient=True,
)
