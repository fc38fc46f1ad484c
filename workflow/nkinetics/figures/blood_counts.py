"""F-CK-13: level and blood counts of every patient on one time axis: what lymphodepletion does to copies per ug."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure

from nkinetics.figures._style import (
    HEARD_UP_TO,
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
    given_keys,
    key,
    legend,
    level_label,
    log_axis,
    log_limits,
    marks_footnote,
    over,
    palette,
    panels,
    quantified,
    reportable,
    say_in,
    words_of,
)
from nkinetics.plugins import Figure, FigureBody
from nkinetics.results import Context, Results, rows_by
from nkinetics.wording import (
    Words,
    dose_names,
    everyone,
    grouped,
    profile_name,
    profiles,
    significant,
    source_footnote,
    without_quantified,
)

NEEDS = ("observations", "samples", "patients", "infusions", "cytokines", "events")
COUNTS: Mapping[str, tuple[str, int, Any]] = {"wbc_1e9_l": ("WBC", 7, "-"), "alc_1e9_l": ("ALC", 5, (0, (4, 1.6)))}
"""Blood counts of samples.csv: name, colour of the palette, line."""
UPPER, LOWER, BETWEEN, GAP, LAST = 1.25, 0.85, 0.07, 0.42, 0.45
FEW, MOST = 24, 60
"""With more patients the panels are smaller; with more than MOST each dose level has one pair of panels."""


def draw(results: Results, context: Context) -> FigureBody:
    """Two panels per patient, the level above and the counts below, one scale for each across all patients.

    With many patients two panels per dose level, with a thin line for each patient.
    """
    words, kinds, counts = words_of(context), profiles(results), _counts(results)
    if not len(kinds):
        none = words.say("No assay has a result.", "无检测结果。")
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    if not len(counts):
        none = words.say(
            "No white blood cell or lymphocyte count stands with any sample (wbc_1e9_l, alc_1e9_l of samples.csv): how "
            "far copies per µg of DNA are too high after lymphodepletion cannot be seen.",
            "样本未附白细胞或淋巴细胞计数（samples.csv 的 wbc_1e9_l、alc_1e9_l）："
            "无法看出清淋后每 µg DNA 拷贝数的偏高程度。",
        )
        return FigureBody(None, note=none, footnotes=(source_footnote(results, context, NEEDS),))
    kind, shown = kinds.iloc[0], _shown(results, context)
    n = len(shown)
    columns = min(n, 3 if n <= FEW else 6)
    rows, scale = math.ceil(n / columns), 1.0 if n <= FEW else 0.75
    upper, lower = scale * UPPER, scale * LOWER
    block = upper + BETWEEN + lower + GAP
    top = 0.8
    figure = canvas(top + rows * block - GAP + LAST + 0.12)
    legend(figure, _keys(results, words, str(kind["assay"]), counts), 0.08, columns=8, x=0.1)
    seen = reportable(results, str(kind["assay"]), str(kind["specimen"]))
    limits = log_limits(quantified(seen)["level"], below(seen)["lloq"])
    low, high = log_limits(*(counts[c].dropna() for c in COUNTS))
    reasons = without_quantified(results, context, str(kind["assay"]), str(kind["specimen"]))
    first, last = _span(seen, counts)
    for position, (title, ids) in enumerate(shown):
        row, column = divmod(position, columns)
        levels, below_it = _pair(figure, columns, column, top + row * block, upper, lower)
        levels.set_title(title, fontsize=8)
        for axes in (levels, below_it):
            day_axis(axes, first, last, most=6 if n <= FEW else 4)
        log_axis(levels, *limits, most=4)
        log_axis(below_it, low, high, most=4)
        _levels(levels, results, seen[seen["patient_id"].isin(ids)], ids, str(kind["assay"]), reasons, words)
        _blood(below_it, counts[counts["patient_id"].isin(ids)], words)
        bare(levels, x=True, y=column > 0)
        over(levels)
        bare(below_it, x=position + columns < n, y=column > 0)
        if column == 0:
            levels.set_ylabel(level_label(words, str(kind["level_unit"])), fontsize=7.2)
            below_it.set_ylabel(words.say("Cells (10⁹/L)", "细胞 (10⁹/L)"), fontsize=7.2)
            for axes in (levels, below_it):
                axes.yaxis.set_label_coords(-0.42 * 0.8 / axes.get_position().width / WIDTH * 1.35, 0.5)
    figure.text(0.5, 0.06 / figure.get_figheight(), day_label(words), ha="center", fontsize=8)
    name = profile_name(context, str(kind["assay"]), str(kind["specimen"]), str(kind["level_unit"]))
    subtitle = f"{everyone(results, words)} · {name}"
    return FigureBody(figure, _notes(results, context, counts, words), _alt(results, counts, words), subtitle)


def _shown(results: Results, context: Context) -> list[tuple[str, list[str]]]:
    """Title and patients of each pair of panels."""
    patients = results.patients
    if len(patients) <= MOST:
        return [(f"{p.patient_id} · {p.dose_level}", [str(p.patient_id)]) for p in patients.itertuples()]
    names = dose_names(results, context)
    by_level = patients.groupby("dose_level", sort=True)["patient_id"]
    return [(f"{names[str(d)]}, n = {len(ids)}", [str(i) for i in ids]) for d, ids in by_level]


def _broken(rows: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Study days and values of several patients as one line, broken between them."""
    of_patient = [
        (np.append(display(own["time_actual"]), np.nan), np.append(own[column].to_numpy(dtype=float), np.nan))
        for _, own in rows.groupby("patient_id", sort=True)
    ]
    if not of_patient:
        return np.array([]), np.array([])
    return np.concatenate([x for x, _ in of_patient])[:-1], np.concatenate([y for _, y in of_patient])[:-1]


def _counts(results: Results) -> pd.DataFrame:
    """Samples with an actual time and at least one count, in order."""
    rows = results.table("samples")
    rows = rows[rows["time_actual"].notna() & rows[list(COUNTS)].notna().any(axis=1)]
    return rows.sort_values(["patient_id", "time_actual", "sample_id"], ignore_index=True)


def _span(seen: pd.DataFrame, counts: pd.DataFrame) -> tuple[float, float]:
    times = pd.concat([seen["time_actual"], counts["time_actual"]]).dropna()
    return min(0.0, float(times.min())), max(1.0, float(times.max()))


def _pair(
    figure: MatplotlibFigure, columns: int, column: int, top: float, upper: float, lower: float
) -> tuple[Axes, Axes]:
    """Two panels of a patient, one above the other, as wide as each other."""
    left, right, across = 0.85, WIDTH - 0.15, 0.2
    width = (right - left - across * (columns - 1)) / columns
    start = left + column * (width + across)
    above = panels(figure, 1, 1, (start, top, start + width, top + upper), (0, 0))[0, 0]
    begin = top + upper + BETWEEN
    return above, panels(figure, 1, 1, (start, begin, start + width, begin + lower), (0, 0))[0, 0]


def _levels(
    axes: Axes, results: Results, own: pd.DataFrame, ids: list[str], assay: str, reasons: dict[str, str], words: Words
) -> None:
    if not len(own):
        say_in(axes, reasons.get(ids[0], words.say("no reportable result", "无可报告结果")))
        return
    colour, marker = assay_look(assay)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 2.8, "linewidth": 1.0, "zorder": 3}
    if len(ids) > 1:
        look |= {"marker": "", "linewidth": 0.5, "alpha": 0.6}
    axes.plot(*_broken(quantified(own), "level"), **look)
    draw_below(axes, own, colour, 3.4)
    if len(ids) == 1:
        draw_given(axes, results, ids[0], letters=len(results.patients) <= FEW)


def _blood(axes: Axes, own: pd.DataFrame, words: Words) -> None:
    if not len(own):
        say_in(axes, words.say("no blood count recorded", "无血细胞计数记录"))
        return
    for column, (_, index, line) in COUNTS.items():
        rows = own[own[column] > 0]
        several = rows["patient_id"].nunique() > 1
        look: dict[str, Any] = {"color": palette()[index], "linestyle": line, "linewidth": 0.5 if several else 1.1}
        # A single count has no line.
        axes.plot(*_broken(rows, column), marker="o" if len(rows) == 1 else "", markersize=3, **look)


def _keys(results: Results, words: Words, assay: str, counts: pd.DataFrame) -> list[Any]:
    colour, marker = assay_look(assay)
    names = {
        "wbc_1e9_l": words.say("white blood cells (WBC)", "白细胞（WBC）"),
        "alc_1e9_l": words.say("lymphocytes (ALC)", "淋巴细胞（ALC）"),
    }
    return [
        key(words.assay(assay), color=colour, marker=marker, linestyle="-", markersize=3),
        below_key(words),
        *(
            key(names[c], color=palette()[i], linestyle=line)
            for c, (_, i, line) in COUNTS.items()
            if counts[c].notna().any()
        ),
        *(given_keys(results, words) if len(results.patients) <= MOST else []),
    ]


def _notes(results: Results, context: Context, counts: pd.DataFrame, words: Words) -> tuple[str, ...]:
    notes = [
        marks_footnote(words),
        words.say(
            "Copies per µg of DNA are a share of all nucleated cells: after lymphodepletion, while white blood cells "
            "are few, they lie too high compared with cells per volume, and they fall as white blood cells "
            "return, without any loss of CAR-NK cells. One scale for all patients in each row of panels. WBC: white "
            "blood cells; ALC: absolute lymphocyte count, as recorded with the sample.",
            "每 µg DNA 的拷贝数是占全部有核细胞的比例：清淋后白细胞稀少时与单位体积细胞数相比偏高，"
            "白细胞恢复时即使 CAR-NK 细胞未减少也会下降。同类图所有患者采用同一尺度。"
            "WBC：白细胞；ALC：淋巴细胞绝对计数，按样本记录。",
        ),
    ]
    kind = profiles(results).iloc[0]
    reasons = without_quantified(results, context, str(kind["assay"]), str(kind["specimen"]))
    if reasons:
        shown = grouped(reasons, words)
        notes.append(words.say(f"Without a quantified level: {shown}.", f"无可定量水平：{shown}。"))
    if len(results.patients) > MOST:
        notes.append(
            words.say(
                f"With more than {MOST} patients one thin line for each, by dose level; doses are not marked.",
                f"患者超过 {MOST} 例时按剂量水平绘图，每例一条细线，不标记给药。",
            )
        )
    counted = set(counts["patient_id"])
    without = [str(p) for p in results.patients["patient_id"] if p not in counted]
    if without:
        notes.append(
            words.say(
                f"No blood count recorded with any sample of: {words.join(without)}.",
                f"样本无血细胞计数记录的患者：{words.join(without)}。",
            )
        )
    zero = int((counts[list(COUNTS)] == 0).any(axis=1).sum())
    if zero:
        notes.append(
            words.say(
                f"Counts of 0, which a logarithmic axis cannot show: {zero}.", f"对数轴无法显示的 0 计数：{zero} 个。"
            )
        )
    return (*notes, source_footnote(results, context, NEEDS))


def _alt(results: Results, counts: pd.DataFrame, words: Words) -> str:
    parts, people = [], results.patients
    groups = {str(patient): [str(patient)] for patient in people["patient_id"]}
    if len(people) > HEARD_UP_TO:
        groups = {str(level): list(own["patient_id"]) for level, own in people.groupby("dose_level", sort=False)}
    group_of = {patient: group for group, own in groups.items() for patient in own}
    of_group = rows_by(counts.assign(_group=counts["patient_id"].map(group_of)), "_group")
    for group in groups:
        own = of_group(group)
        told = [
            words.say(
                f"{name} {significant(float(own[c].min()), 2)} to {significant(float(own[c].max()), 2)}",
                f"{name} {significant(float(own[c].min()), 2)} 至 {significant(float(own[c].max()), 2)}",
            )
            for c, (name, _, _) in COUNTS.items()
            if own[c].notna().any()
        ]
        parts.append(f"{group}: {words.join(told) or words.say('no blood count', '无血细胞计数')}")
    return words.say("Range of blood counts, 10⁹/L: ", "血细胞计数范围，10⁹/L：") + "; ".join(parts)


FIGURE = Figure(
    name="blood_counts",
    id="F-CK-13",
    number="13",
    title={"en": "Level beside white blood cells and lymphocytes", "zh": "水平与白细胞及淋巴细胞"},
    needs=NEEDS,
    draw=draw,
)
