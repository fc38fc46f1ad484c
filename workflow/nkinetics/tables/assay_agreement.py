"""T-CK-13: agreement of two assays on the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.population.assay_agreement import GROUPS, ONE_BY_ONE_MAX, in_order, pairs
from nkinetics.results import Context, Results
from nkinetics.tables._dose import ends
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.wording import Words, days, missing, signed, significant, unit_name

NEEDS = ("assay_agreement", "observations", "patients")


def build(results: Results, context: Context) -> TableBody:
    """Rows by pair of assays and statistic; few pairs are listed one by one."""
    words, table = Words(context.language), results.table("assay_agreement")
    if not len(table):
        none = words.say("No two assays of one specimen.", "同一标本无两种检测方法。")
        return absent(results, context, none, NEEDS)
    matched = pairs(results.table("observations"), context.settings.statistics.agreement)
    rows: list[dict[str, str]] = []
    for (x, y, specimen), own in in_order(table).groupby(["assay_x", "assay_y", "specimen"], sort=False):
        name = _pair_name(context, own.iloc[0])
        by_name = {str(r["statistic"]): r for r in own.to_dict("records")}
        rows += [{words.say("Assays", "检测方法"): name, **row} for row in _statistics(words, by_name)]
        if int(by_name["n_pairs"]["estimate"]) < context.settings.statistics.agreement.pairs_min:
            mine = matched[(matched["assay_x"] == x) & (matched["assay_y"] == y) & (matched["specimen"] == specimen)]
            rows += [{words.say("Assays", "检测方法"): name, **row} for row in _listed(words, mine)]
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=2,
    )


def _pair_name(context: Context, row: pd.Series) -> str:
    words = Words(context.language)
    sides = [f"{words.assay(str(row[f'assay_{s}']))} ({unit_name(str(row[f'unit_{s}']))})" for s in "xy"]
    specimen = words.specimen(str(row["specimen"]))
    return words.say(f"x = {sides[0]}, y = {sides[1]}, {specimen}", f"x = {sides[0]}，y = {sides[1]}，{specimen}")


def _names(words: Words) -> dict[str, str]:
    return {
        "kappa_lloq": words.say("Kappa at the LLOQ", "定量下限处 kappa"),
        "kappa_lod": words.say("Kappa at the LOD", "检测限处 kappa"),
        "spearman": words.say("Spearman's rank correlation", "Spearman 秩相关"),
        "deming_slope": words.say("Deming slope, log10", "Deming 斜率（log10）"),
        "deming_intercept": words.say("Deming intercept, log10", "Deming 截距（log10）"),
        "ratio": words.say("Geometric mean of y/x", "y/x 几何均值"),
        "ratio_loa_lower": words.say("Lower limit of agreement of y/x", "y/x 一致性下限"),
        "ratio_loa_upper": words.say("Upper limit of agreement of y/x", "y/x 一致性上限"),
    }


def _statistics(words: Words, by_name: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    total = by_name["n_pairs"]
    yield _row(words, words.say("Pairs of results", "配对结果"), f"{total['n_pairs']}", "–", total, "")
    cut = words.say("both / x only / y only / neither", "均 / 仅 x / 仅 y / 均无")
    limits = {"lloq": words.say("Above the LLOQ", "高于定量下限"), "lod": words.say("Above the LOD", "高于检测限")}
    for limit, above in limits.items():
        title = words.colon(above, cut)
        cells = [by_name[f"{k}_{limit}"] for k in ("both", "x_only", "y_only", "neither")]
        counts = " / ".join(str(int(c["estimate"])) for c in cells)
        yield _row(words, title, counts, "–", cells[0], str(cells[0]["reason"]))
    for name, title in _names(words).items():
        row = by_name[name]
        if name.startswith("ratio_") and missing(row["estimate"]) and row["reason"] == by_name["ratio"]["reason"]:
            continue
        if missing(row["estimate"]):
            yield _row(words, title, NOT_CALCULABLE, "–", row, str(row["reason"]))
        else:
            span = "–" if missing(row["ci_lower"]) else ends(words, row["ci_lower"], row["ci_upper"])
            yield _row(words, title, signed(float(row["estimate"])), span, row, str(row["reason"]))


def _row(words: Words, title: str, value: str, span: str, row: Mapping[str, Any], reason: str) -> dict[str, str]:
    return {
        words.say("Statistic", "统计量"): title,
        words.say("Value", "数值"): value,
        words.say("CI", "CI"): span,
        words.say("Pairs (patients)", "配对数（患者数）"): f"{row['n_pairs']} ({row['n_patients']})",
        words.say("Remarks", "备注"): reason,
    }


def _listed(words: Words, own: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The pairs themselves, where they are too few for a number."""
    for row in own.to_dict("records"):
        day = NOT_CALCULABLE if missing(row["time_x"]) else days(float(row["time_x"]))
        title = words.say(f"{row['patient_id']}, day {day}", f"{row['patient_id']}，第 {day} 天")
        levels = [
            significant(float(row[f"level_{s}"])) if not missing(row[f"level_{s}"]) else _code(row, s) for s in "xy"
        ]
        yield _row(words, title, f"x {levels[0]}; y {levels[1]}", "–", {"n_pairs": 1, "n_patients": 1}, "")


def _code(row: Mapping[str, Any], side: str) -> str:
    return "ALQ" if bool(row[f"quantified_{side}"]) else "BLQ"


def _footnotes(context: Context) -> tuple[str, ...]:
    words, s = Words(context.language), context.settings.statistics
    level, a = f"{100 * s.confidence:g} %", s.agreement
    return (
        words.say(
            "Pairs: reportable results of a patient and specimen in both assays, the same sample, else samples at most "
            f"{a.pair_within:g} days apart and not parted by an infusion; each result in one pair. {level} CI by "
            "leaving out one PATIENT at a time (jackknife), since samples of a patient are not independent (of "
            f"more than {ONE_BY_ONE_MAX} patients one of {GROUPS} random groups); none for fewer than 3 patients. "
            f"With fewer than {a.pairs_min} pairs no number: the pairs are listed.",
            "配对：同一患者、同一标本在两种方法中的可报告结果，取同一样本，否则采样时间相差不超过 "
            f"{a.pair_within:g} 天且其间无输注；每个结果仅用一次。{level} CI 由逐一剔除患者的刀切法得到，"
            f"因同一患者的样本不独立（超过 {ONE_BY_ONE_MAX} 例时逐一剔除 {GROUPS} 个随机分组之一）；"
            f"少于 3 例无区间。少于 {a.pairs_min} 对时不计算，逐对列出。",
        ),
        words.say(
            "Kappa: agreement beyond chance. Spearman and Deming: levels quantified in both assays; Deming regression "
            f"of log10 y on log10 x with error in both, ratio of error variances y/x = {a.error_ratio:g} (assumed). "
            "y/x with limits of agreement (Bland-Altman on logarithms): only where both assays have one unit; cells/µL "
            "and copies/µg have none in common. Copies/µg are raised while the white blood count is low after "
            "lymphodepletion.",
            "Kappa：超出偶然的一致性。Spearman 与 Deming：两法均可定量的水平；Deming 回归为 log10 y 对 log10 x，"
            f"两者均有误差，误差方差之比 y/x = {a.error_ratio:g}（设定）。"
            "y/x 及一致性界限（对数 Bland-Altman）：仅在两法单位相同时；细胞/µL 与 copies/µg 无共同单位。"
            "清淋后白细胞低时 copies/µg 偏高。",
        ),
        words.say(
            "CI: confidence interval; LLOQ: lower limit of quantification; LOD: limit of detection.",
            "CI：置信区间；LLOQ：定量下限；LOD：检测限。",
        ),
    )


TABLE = Table(
    name="assay_agreement",
    id="T-CK-13",
    number="13",
    title={"en": "Agreement of the assays", "zh": "检测方法一致性"},
    needs=NEEDS,
    build=build,
)
