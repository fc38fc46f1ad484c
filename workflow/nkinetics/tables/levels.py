"""T-CK-04: level by nominal time and dose level, per assay."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import (
    NOT_REPORTED,
    absent,
    analysis_set,
    body,
    listed,
    percentage,
    reportable,
    statistic,
)
from nkinetics.tables._statistics import summary
from nkinetics.wording import Words, days, dose_levels, level, profile_name, profiles, treated

NEEDS = ("observations", "patients", "infusions")
RESULTS = ("quantified", "blq", "not_detected", "above_uloq")
"""Statuses that are a result; the others are missing."""


def _columns(words: Words) -> dict[str, str]:
    return {
        "assay": words.say("Assay", "检测方法"),
        "time": words.say("Nominal time (d)", "计划时间 (d)"),
        "dose_level": words.say("Dose level", "剂量水平"),
        "n": words.say("n of treated", "n / 给药人数"),
        "n_blq": words.say("n BLQ", "BLQ 数"),
        "mean": words.say("Mean (SD)", "均值 (SD)"),
        "cv": "CV %",
        "median": words.say("Median", "中位数"),
        "minimum": words.say("Min", "最小"),
        "maximum": words.say("Max", "最大"),
        "geo_mean": words.say("Geometric mean (n)", "几何均值 (n)"),
        "geo_cv": words.say("Geo. CV %", "几何 CV%"),
        "individual": words.say("Individual values", "个体值"),
    }


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, nominal time and dose level; unplanned samples are counted in a footnote."""
    words, kinds = Words(context.language), profiles(results)
    observed = reportable(results)
    observed = observed[observed["status"].isin(RESULTS)]
    planned = observed[observed["time_nominal"].notna()]
    if not len(planned):
        return absent(
            results, context, words.say("No reportable result at a planned time.", "计划时间点无可报告结果。"), NEEDS
        )
    columns = _columns(words)
    n_treated = treated(results).groupby("dose_level")["patient_id"].nunique()
    n_min = context.settings.statistics.summary_n_min
    rows = []
    for kind in kinds.itertuples():
        own = planned[(planned["assay"] == kind.assay) & (planned["specimen"] == kind.specimen)]
        label = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        for time, at_time in own.groupby("time_nominal"):
            for dose_level in dose_levels(results):
                cell = at_time[at_time["dose_level"] == dose_level]
                row = {
                    "assay": label,
                    "time": days(float(str(time))),
                    "dose_level": dose_level,
                    "n": f"{len(cell)}/{int(n_treated.get(dose_level, 0))}",
                    **_cells(cell, n_min),
                }
                rows.append({columns[k]: v for k, v in row.items()})
    return body(
        results,
        context,
        rows,
        list(columns.values()),
        sources=NEEDS,
        footnotes=(*_footnotes(context), *_left_out(results, context, observed)),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def _cells(rows: pd.DataFrame, n_min: int) -> dict[str, str]:
    quantified = [float(v) for v in rows.loc[rows["status"] == "quantified", "level"]]
    blq = rows["status"].isin(("blq", "not_detected"))
    above = bool((rows["status"] == "above_uloq").any())
    cells = dict.fromkeys(("mean", "cv", "median", "minimum", "maximum", "geo_mean", "geo_cv"), NOT_REPORTED)
    cells.update(n_blq=str(int(blq.sum())), individual="")
    if not len(rows):
        cells["individual"] = "MISS"
    elif len(rows) < n_min:
        cells["individual"] = listed({str(r["patient_id"]): level(r) for r in rows.to_dict("records")})
    if len(rows) < n_min:
        return cells
    # A level above the ULOQ has no number: arithmetic over the rest would be too low without saying so.
    if not above:
        counted = summary([*quantified, *([0.0] * int(blq.sum()))])
        mostly_blq = blq.sum() > len(rows) / 2
        cells["mean"] = "BLQ" if mostly_blq else f"{statistic(counted.mean)} ({statistic(counted.sd)})"
        cells["cv"] = NOT_REPORTED if mostly_blq else percentage(counted.cv_pct, counted.n)
        for name, value in (("median", counted.median), ("minimum", counted.minimum), ("maximum", counted.maximum)):
            cells[name] = statistic(value) if value > 0 else "BLQ"
    if len(quantified) >= n_min:
        geometric = summary(quantified)
        cells["geo_mean"] = f"{statistic(geometric.geo_mean)} ({len(quantified)})"
        cells["geo_cv"] = percentage(geometric.geo_cv_pct, geometric.n)
    else:
        cells["geo_mean"] = f"{NOT_REPORTED} ({len(quantified)})"
    return cells


def _footnotes(context: Context) -> tuple[str, ...]:
    words, n = Words(context.language), context.settings.statistics.summary_n_min
    return (
        words.say(
            "n of treated: reportable results, of patients who received at "
            "least one infusion. In mean, SD, CV, median, "
            "min and max a result below its LLOQ or not detected counts as 0; a "
            "median, min or max of 0 is printed BLQ, and the "
            "mean is printed BLQ when more than half of the results are. "
            "Geometric mean and CV over quantified results only, "
            f"with their own n. With fewer than {n} results individual values only "
            "(NR); NR also where a result is above the ULOQ.",
            "n / 给药人数：可报告结果数 / 至少接受一次输注的患者数。计算均值、SD、CV、中位数、"
            "最小与最大值时，低于定量下限或未检出的结果按 0 计；"
            "为 0 的中位数、最小或最大值记为 BLQ；超过半数为 BLQ 时均值记为 BLQ。"
            "几何均值与几何 CV 仅由可定量结果计算，并列出其 n。"
            f"少于 {n} 个结果时仅列个体值（NR）；存在高于定量上限的结果时亦为 NR。",
        ),
        words.say(
            "Nominal times in days from the start of the first infusion. CV: "
            "coefficient of variation; LLOQ, ULOQ: lower and "
            "upper limit of quantification; SD: standard deviation with n − 1.",
            "计划时间以首次输注开始起计的天数表示。CV：变异系数；LLOQ、ULOQ："
            "定量下限与上限；SD：标准差（分母 n − 1）。",
        ),
        words.say(
            "Copies per µg of DNA are a share of all nucleated cells: after "
            "lymphodepletion, while white blood cells are few, "
            "they lie too high compared with cells per volume.",
            "每 µg DNA 的拷贝数是占全部有核细胞的比例：清淋后白细胞稀少时，与单位体积细胞数相比偏高。",
        ),
    )


def _left_out(results: Results, context: Context, observed: pd.DataFrame) -> list[str]:
    """Unplanned samples, and patients without a result."""
    words, notes = Words(context.language), []
    unplanned = int(observed["time_nominal"].isna().sum())
    if unplanned:
        notes.append(
            words.say(
                f"Results without a planned time, not summarised here: {unplanned}.",
                f"无计划时间、未在此汇总的结果：{unplanned} 个。",
            )
        )
    present = set(observed["patient_id"])
    absent_patients = [p for p in results.patients["patient_id"] if p not in present]
    if absent_patients:
        listed_patients = words.join(absent_patients)
        notes.append(
            words.say(
                f"MISS at every time, as no reportable result exists: {listed_patients}.",
                f"所有时间点均为 MISS（无可报告结果）：{listed_patients}。",
            )
        )
    return notes


TABLE = Table(
    name="levels",
    id="T-CK-04",
    number="4",
    title={"en": "Level by nominal time and dose level", "zh": "按计划时间与剂量水平的水平汇总"},
    needs=NEEDS,
    build=build,
)
