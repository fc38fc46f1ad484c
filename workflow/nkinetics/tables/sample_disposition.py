"""T-CK-01: what became of the planned samples, by assay, nominal time and dose level."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._visits import outcomes, planned, visit_names, without_samples
from nkinetics.wording import Words, codes_footnote, days, dose_levels, grouped, profile_name, profiles

NEEDS = ("samples", "observations", "patients", "infusions")
ANALYSED = {"quantified": "", "blq": "BLQ", "not_detected": "ND", "above_uloq": "ALQ"}
EMPTY = "–"


def _columns(words: Words) -> dict[str, str]:
    return {
        "assay": words.say("Assay", "检测方法"),
        "time": words.say("Nominal time (d)", "计划时间 (d)"),
        "visit": words.say("Visit", "访视"),
        "dose_level": words.say("Dose level", "剂量水平"),
        "planned": words.say("Planned", "计划"),
        "collected": words.say("Collected", "已采集"),
        "analysed": words.say("Analysed", "纳入分析"),
        "quantified": words.say("Quantified", "可定量"),
        "blq": "BLQ",
        "not_detected": "ND",
        "above_uloq": "ALQ",
        "missing": "MISS",
        "excluded": "NR",
        "not_sent": words.say("Not sent", "未送检"),
        "reasons": words.say("Reasons", "原因"),
    }


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, nominal time and dose level; unscheduled samples, and the sum over all times, at the end."""
    words, kinds, samples = Words(context.language), profiles(results), planned(results)
    if not len(samples) or not len(kinds):
        why = (
            words.say("No planned sample of any patient.", "无任何患者的计划样本。")
            if not len(samples)
            else words.say(
                f"{len(samples)} samples planned; no assay has a result.",
                f"计划样本 {len(samples)} 份；无检测结果。",
            )
        )
        return absent(results, context, why, NEEDS)
    columns = _columns(words)
    rows = []
    for kind in kinds.itertuples():
        own = outcomes(results, str(kind.assay), str(kind.specimen))
        label = profile_name(context, str(kind.assay), str(kind.specimen))
        rows += [{columns[k]: v for k, v in row.items()} for row in _rows(own, label, results, words)]
    unsampled = without_samples(results)
    dose_of = dict(zip(results.patients["patient_id"], results.patients["dose_level"], strict=True))
    for dose_level in dose_levels(results):
        mine = [p for p in unsampled if dose_of[p] == dose_level]
        if mine:
            cells = dict.fromkeys(columns, "0") | {
                "assay": words.say("all assays", "全部检测"),
                "time": EMPTY,
                "visit": words.say("no sample planned", "无计划样本"),
                "dose_level": dose_level,
                "reasons": f"MISS: {words.say('no row in samples.csv', 'samples.csv 中无记录')} ({words.join(mine)})",
            }
            rows.append({columns[k]: v for k, v in cells.items()})
    return body(
        results,
        context,
        rows,
        list(columns.values()),
        sources=NEEDS,
        footnotes=_footnotes(context, rows),
        subtitle=analysis_set(results, context),
        row_header=4,
    )


def _rows(own: pd.DataFrame, label: str, results: Results, words: Words) -> list[dict[str, str]]:
    names, levels, rows = visit_names(own), dose_levels(results), []
    visits = set(own.loc[own["assayed"], "time_nominal"].dropna())
    for time in sorted(visits):
        at_time = own[own["time_nominal"] == time]
        for dose_level in levels:
            head = {"assay": label, "time": days(time), "visit": names[time], "dose_level": dose_level}
            rows.append(head | _counts(at_time[at_time["dose_level"] == dose_level], words))
    unplanned = own[own["time_nominal"].isna() & own["assayed"]]
    unscheduled = {"assay": label, "time": EMPTY, "visit": words.say("Unscheduled", "计划外")}
    # The whole of the assay's plan: visits of which it has no sample are none of its own.
    whole = own[own.index.isin(unplanned.index) | own["time_nominal"].isin(visits)]
    everything = {"assay": label, "time": words.say("all", "全部"), "visit": words.say("all visits", "全部访视")}
    for dose_level in levels:
        mine = unplanned[unplanned["dose_level"] == dose_level]
        if len(mine):
            rows.append(unscheduled | {"dose_level": dose_level} | _counts(mine, words))
    for dose_level in levels:
        counted = _counts(whole[whole["dose_level"] == dose_level], words)
        rows.append(everything | {"dose_level": dose_level} | counted | {"reasons": ""})
    return rows


def _counts(rows: pd.DataFrame, words: Words) -> dict[str, str]:
    n = rows["outcome"].value_counts()
    counts = {
        "planned": len(rows),
        "collected": int(rows["collected"].sum()),
        "analysed": int(rows["outcome"].isin(list(ANALYSED)).sum()),
        **{o: int(n.get(o, 0)) for o in (*ANALYSED, "missing", "excluded", "not_sent")},
    }
    told = []
    for outcome, code in (("missing", "MISS"), ("excluded", "NR")):
        own = rows[rows["outcome"] == outcome]
        if len(own):
            reasons = grouped(dict(zip(own["patient_id"], own["why"], strict=True)), words)
            told.append(words.colon(code, reasons))
    return {k: str(v) for k, v in counts.items()} | {"reasons": "; ".join(told)}


def _footnotes(context: Context, rows: list[dict[str, str]]) -> list[str]:
    words = Words(context.language)
    notes = [
        words.say(
            "Planned: rows of samples.csv at the visits of which the assay has at least one sample, each counted once "
            "however often it was assayed. Collected: with an actual time. Planned = analysed + MISS + NR + not sent; "
            "analysed = quantified + BLQ + ND + ALQ. Not sent: collected, and in no export of this assay. NR: "
            "measured, and left out by a rule of the study.",
            "计划：该检测至少有一份样本的访视在 samples.csv 中的记录，无论检测几次均计一次。已采集：有实际时间。"
            "计划 = 纳入分析 + MISS + NR + 未送检；纳入分析 = 可定量 + BLQ + ND + ALQ。"
            "未送检：已采集但不在该检测的任何导出文件中。NR：已测得，按研究规则排除。",
        ),
        words.say(
            "Nominal times in days from the start of the first infusion; dose levels as planned for the patient.",
            "计划时间以首次输注开始起计的天数表示；剂量水平为患者的计划剂量水平。",
        ),
    ]
    # Codes in the cells are explained with them; those of the heads alone, here.
    cells = " ".join(cell for row in rows for cell in row.values())
    return [*notes, *codes_footnote(context, [c for c in ("BLQ", "ND", "ALQ", "MISS", "NR") if c not in cells])]


TABLE = Table(
    name="sample_disposition",
    id="T-CK-01",
    number="1",
    title={"en": "Sample disposition by nominal time and dose level", "zh": "按计划时间与剂量水平的样本处置"},
    needs=NEEDS,
    build=build,
)
