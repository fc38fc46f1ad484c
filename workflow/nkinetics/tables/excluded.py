"""L-16.2.5.5: what was not analysed, and why: samples, then rows of exports that belong to no sample."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import analysis_set, body, ranges
from nkinetics.wording import STATUS_CODES, Words, days, level, missing, profile_name, unit_name

NEEDS = ("observations", "observation_sources", "patients")
EMPTY = "–"


def build(results: Results, context: Context) -> TableBody:
    """One row per observation that is not analysed; patients without one stand in a footnote."""
    words = Words(context.language)
    observed = results.table("observations")
    left_out = observed[~observed["reportable"].fillna(False).astype(bool)]
    rows, patients = [], []
    origins = sources_of(results)
    for patient in results.patients.itertuples():
        own = left_out[left_out["patient_id"] == patient.patient_id].sort_values(["time_actual", "assay", "sample_id"])
        for record in own.to_dict("records"):
            rows.append(_row(context, record, str(patient.dose_level), origins))
            patients.append(str(patient.patient_id))
    complete = [p for p in results.patients["patient_id"] if p not in set(patients)]
    notes = [
        words.say(
            "The level is the one measured where there is one: it is shown and "
            "not analysed. Row numbers count the header.",
            "如有测得水平则列出，但不纳入分析。行号包含表头。",
        )
    ]
    if complete:
        notes.append(
            words.say(
                f"Patients without an excluded sample: {words.join(complete)}.",
                f"无排除样本的患者：{words.join(complete)}。",
            )
        )
    return body(
        results,
        context,
        rows,
        _columns(words),
        sources=NEEDS,
        footnotes=notes,
        subtitle=f"{analysis_set(results, context)} · {len(rows)} "
        + words.say("of", "/")
        + f" {len(observed)} "
        + words.say("results", "个结果"),
        row_header=2,
        patients=patients,
    )


def _columns(words: Words) -> list[str]:
    return [
        words.say("Dose level", "剂量水平"),
        words.say("Patient", "患者"),
        words.say("Assay", "检测方法"),
        words.say("Sample", "样本"),
        words.say("Visit", "访视"),
        words.say("Time (d)", "时间 (d)"),
        words.say("Result", "结果"),
        words.say("Reason", "原因"),
        words.say("Source rows", "来源行"),
    ]


def _row(context: Context, record: dict[str, object], dose_level: str, origins: dict[str, str]) -> dict[str, str]:
    words = Words(context.language)
    time = record["time_actual"]
    measured = not missing(record["level"]) or record["status"] not in STATUS_CODES
    shown = f"{level(record)} {unit_name(str(record['level_unit']))}" if measured else level(record)
    cells = [
        dose_level,
        str(record["patient_id"]),
        profile_name(context, str(record["assay"]), str(record["specimen"])),
        str(record["sample_id"]) or EMPTY,
        str(record["visit"]) or EMPTY,
        EMPTY if missing(time) else days(float(str(time))),
        shown,
        str(record["exclusion_reason"]) or words.say("no reason recorded", "未记录原因"),
        origins.get(str(record["observation_id"]), EMPTY),
    ]
    return dict(zip(_columns(words), cells, strict=True))


def sources_of(results: Results) -> dict[str, str]:
    """For each observation the export and rows behind it, as ``plate1.txt: 12–14``; standards are not listed."""
    frame = results.table("observation_sources")
    frame = frame[frame["role"].isin(("replicate", "reference")) & frame["source_row"].notna()]
    found: dict[str, list[str]] = {}
    for key, rows in frame.groupby(["observation_id", "source_file"], sort=True):
        observation, file = (str(k) for k in pd.Series(key))
        found.setdefault(observation, []).append(f"{file}: {ranges(int(r) for r in rows['source_row'])}")
    return {observation: "; ".join(files) for observation, files in found.items()}


TABLE = Table(
    name="excluded",
    id="L-16.2.5.5",
    number="5",
    title={"en": "Samples not analysed, with reasons", "zh": "未纳入分析的样本及原因"},
    needs=NEEDS,
    build=build,
)
