"""L-16.2.5.5: what was not analysed, and why: samples, then rows of exports that belong to no sample."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.store import row_ranges
from nkinetics.tables._format import analysis_set, body
from nkinetics.wording import STATUS_CODES, Words, days, level, missing, profile_name, unit_name

NEEDS = ("observations", "observation_sources", "runs", "patients")
EMPTY = "–"
FATES = ("replaced", "pending", "lost", "by_rule")
"""What became of a result that is not analysed, in the order of display."""


def fates(results: Results) -> pd.Series:
    """What became of every result, by the index of the observations.

    Returns
    -------
    Series of str
        ``analysed``; ``replaced`` by another result of the same sample and assay, which is analysed; ``pending`` or not
        done; ``lost`` (failed, not replaced); ``by_rule`` (measured, and left out by a rule of the study). A patient
        without any sample has no result: the row that stands for him is not here.
    """
    observed = results.table("observations")
    observed = observed[~((observed["status"] == "not_done") & (observed["sample_id"] == ""))]
    analysed = observed["reportable"].fillna(False).astype(bool)
    same = pd.MultiIndex.from_frame(observed[["patient_id", "assay", "specimen", "sample_id"]])
    replaced = same.isin(same[analysed.to_numpy()]) & (observed["sample_id"] != "")
    found = pd.Series("by_rule", index=observed.index, dtype="str")
    found = found.mask(observed["status"] == "failed", "lost").mask(observed["status"] == "not_done", "pending")
    return found.mask(replaced, "replaced").mask(analysed, "analysed")


def fate_words(results: Results, words: Words) -> tuple[int, int, str]:
    """How many results there are, how many are not analysed, and what became of those."""
    counts = fates(results).value_counts()
    names = {
        "replaced": words.say("replaced by another result that is analysed", "已由纳入分析的另一结果取代"),
        "pending": words.say("not done or pending", "未检测或待检测"),
        "lost": words.say("lost (failed, not replaced)", "丢失（失败且未取代）"),
        "by_rule": words.say("measured, left out by a rule", "已测得，按规则排除"),
    }
    shown = words.join(f"{counts[fate]} {names[fate]}" for fate in FATES if fate in counts)
    total = int(counts.sum())
    return total, total - int(counts.get("analysed", 0)), shown


def with_curve(results: Results) -> set[str]:
    """Runs that have a standard curve, accepted or not."""
    runs = results.table("runs")
    return set(runs.loc[runs["slope"].notna(), "run_id"])


def measured(record: Mapping[str, object], context: Context, curves: set[str]) -> str:
    """What the assay gave for a result that failed a rule: level with unit, BLQ, ND or ALQ; MISS where it gave nothing.

    observations.csv keeps no level of a failed result, but keeps what it counted: copies or events. They become a
    level by the factor that makes the row's LLOQ of the LLOQ per reaction or per gate.

    Parameters
    ----------
    record : mapping
        A row of observations.csv.
    context : Context
        For the LLOQ per reaction or per gate.
    curves : set of str
        Runs that have a standard curve; without one a reaction tells no copies.
    """
    if record["status"] != "failed":
        return level(record)
    assays, assay = context.settings.assays, str(record["assay"])
    count, n = record["n_molecules"], record["n_replicates"]
    limit = None
    if assay == "qpcr" and assays.qpcr is not None and str(record["run_id"]) in curves and not missing(n):
        limit, reactions = assays.qpcr.lloq_copies, float(str(n))
    elif assay == "flow" and assays.flow is not None:
        limit, reactions = assays.flow.lloq_events, 1.0
    if limit is None or reactions == 0 or missing(count) or missing(record["lloq"]):
        return level(record)
    value = float(str(count)) / reactions * float(str(record["lloq"])) / limit
    below = value < float(str(record["lloq"]))
    above = not missing(record["uloq"]) and value > float(str(record["uloq"]))
    status = "not_detected" if value == 0 else "blq" if below else "above_uloq" if above else "quantified"
    return level({"status": status, "level": value})


def build(results: Results, context: Context) -> TableBody:
    """One row per observation that is not analysed; patients without one stand in a footnote."""
    words = Words(context.language)
    observed = results.table("observations")
    left_out = observed[~observed["reportable"].fillna(False).astype(bool)]
    rows, patients = [], []
    origins = sources_of(results)
    curves = with_curve(results)
    left_out_of = by_patient(left_out)
    for patient in results.patients.itertuples():
        own = left_out_of(str(patient.patient_id)).sort_values(["time_actual", "assay", "sample_id"])
        for record in own.to_dict("records"):
            rows.append(_row(context, record, str(patient.dose_level), origins, curves))
            patients.append(str(patient.patient_id))
    concerned = set(patients)
    complete = [p for p in results.patients["patient_id"] if p not in concerned]
    notes = [
        words.say(
            "The result is the one measured where there is one, on the curve of its own run even where that run is "
            "refused: it is shown and not analysed. Row numbers count the header.",
            "如有测得结果则列出（即使该批次被拒，仍按该批次曲线计算），但不纳入分析。行号包含表头。",
        )
    ]
    total, n_out, became = fate_words(results, words)
    if became:
        notes.append(words.colon(words.say("Not analysed", "未纳入分析"), became) + words.say(".", "。"))
    unsampled = len(rows) - n_out
    if unsampled:
        notes.append(
            words.say(
                f"{unsampled} more row{'s stand' if unsampled > 1 else ' stands'} for patients without any sample in "
                "an assay: no result, and not counted as one.",
                f"另有 {unsampled} 行代表某检测中无任何样本的患者：无结果，不计入结果数。",
            )
        )
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
        subtitle=f"{analysis_set(results, context)} · "
        + words.say(f"{n_out} of {total} results", f"{total} 个结果中 {n_out} 个"),
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


def _row(
    context: Context, record: dict[str, object], dose_level: str, origins: dict[str, str], curves: set[str]
) -> dict[str, str]:
    words = Words(context.language)
    time = record["time_actual"]
    shown = measured(record, context, curves)
    if shown not in STATUS_CODES.values():
        shown = f"{shown} {unit_name(str(record['level_unit']))}"
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
    rows: dict[tuple[str, str], list[int]] = {}
    for observation, file, row in zip(frame["observation_id"], frame["source_file"], frame["source_row"], strict=True):
        rows.setdefault((str(observation), str(file)), []).append(int(row))
    for observation, file in sorted(rows):
        found.setdefault(observation, []).append(f"{file}: {row_ranges(rows[observation, file])}")
    return {observation: "; ".join(files) for observation, files in found.items()}


TABLE = Table(
    name="excluded",
    id="L-16.2.5.5",
    number="5",
    title={"en": "Samples not analysed, with reasons", "zh": "未纳入分析的样本及原因"},
    needs=NEEDS,
    build=build,
)
