"""L-16.2.5.5: which results are not analysed, and why: those of refused runs under their run, then single ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nkinetics.compact import plain
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, having
from nkinetics.store import row_ranges
from nkinetics.tables._fates import counts, fate_of_run
from nkinetics.tables._format import analysis_set, body
from nkinetics.wording import STATUS_CODES, Words, days, level, missing, profile_name, unit_name

NEEDS = ("observations", "observation_sources", "runs", "ingest", "patients")
EMPTY = "–"
BEHIND = ("replicate", "reference")
"""Roles of the rows that were measured for a result, in observation_sources.csv."""


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
    """Results of refused runs under a row for each run, then the others; patients without one stand in a footnote."""
    words = Words(context.language)
    observed = results.table("observations")
    left_out = observed[~observed["reportable"].fillna(False).astype(bool)]
    order = {str(p): i for i, p in enumerate(results.patients["patient_id"])}
    left_out = left_out.assign(_place=left_out["patient_id"].map(order)).dropna(subset=["_place"])
    left_out = left_out.sort_values(["_place", "time_actual", "assay", "sample_id"], kind="stable")
    levels = dict(zip(results.patients["patient_id"], results.patients["dose_level"], strict=True))
    runs, curves = results.table("runs"), with_curve(results)
    behind = rows_behind(results, left_out["observation_id"], hold=False)
    origins = _told(behind)
    refused = runs[~runs["accepted"].fillna(False).astype(bool)].drop_duplicates(["assay", "run_id"])
    rows, patients, shown = [], [], pd.Series(False, index=left_out.index)
    for run in refused.sort_values(["assay", "run_id"]).itertuples():
        mine = (left_out["assay"] == run.assay) & (left_out["run_id"] == run.run_id)
        if not mine.any():
            continue
        group = words.say(f"Run {run.run_id}, not accepted", f"批次 {run.run_id}，未被接受")
        rows.append(_run_row(results, words, group, str(run.run_id), str(run.assay), left_out[mine], behind))
        patients.append("")
        said = runs.loc[(runs["assay"] == run.assay) & (runs["run_id"] == run.run_id), "reason"]
        for record in left_out[mine].to_dict("records"):
            # The run's own reason stands once, in the row of the run.
            reason = str(record["exclusion_reason"])
            for why in sorted({str(w) for w in said if not missing(w)}, key=len, reverse=True):
                reason = reason.removeprefix(f"run not accepted: {why}").removeprefix("; ")
            record["exclusion_reason"] = reason or words.say("no other result is analysed", "无其他结果纳入分析")
            rows.append(_row(context, record, group, str(levels[record["patient_id"]]), origins, curves))
            patients.append(str(record["patient_id"]))
        shown |= mine
    group = words.say("Single results", "单个结果")
    for record in left_out[~shown].to_dict("records"):
        rows.append(_row(context, record, group, str(levels[record["patient_id"]]), origins, curves))
        patients.append(str(record["patient_id"]))
    concerned = set(patients)
    complete = [p for p in results.patients["patient_id"] if p not in concerned]
    notes = [
        words.say(
            "The result is the one measured where there is one, on the curve of its own run even where that run is "
            "refused: it is shown and not analysed. Row numbers count the header.",
            "如有测得结果则列出（即使该批次被拒，仍按该批次曲线计算），但不纳入分析。行号包含表头。",
        )
    ]
    n = counts(results, words)
    if n.became:
        notes.append(words.colon(words.say("Not analysed", "未纳入分析"), n.became) + words.say(".", "。"))
        notes.append(bridge(results, words))
    unsampled = int((left_out["sample_id"].eq("") & left_out["status"].eq("not_done")).sum())
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
                f"Patients without an excluded result: {words.first(complete)}.",
                f"无排除结果的患者：{words.first(complete)}。",
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
        + words.say(
            f"{n.results_out} of {n.results} results, of {n.samples_out} of {n.samples} samples",
            f"{n.results} 个结果中 {n.results_out} 个（{n.samples} 份样本中 {n.samples_out} 份）",
        ),
        row_header=3,
        patients=patients,
    )


def bridge(results: Results, words: Words) -> str:
    """From rows of exports to results to samples, in one sentence: numbers that are easily taken for one another."""
    n, rows = counts(results, words), results.rows("ingest", ["used"], hold=False)
    used = int(rows["used"].fillna(False).astype(bool).sum())
    without = words.say(
        f"{n.without} sample{'s have' if n.without != 1 else ' has'} no analysed result in an assay",
        f"{n.without} 份样本在某检测中无可分析结果",
    )
    return words.say(
        f"How the counts hang together: {len(rows)} rows of exports were read, {len(rows) - used} set aside before any "
        f"result was made and {used} used; these and the samples still due make {n.results} results of {n.samples} "
        f"samples (a sample assayed by several assays, or twice, has several); {n.results_out} results, of "
        f"{n.samples_out} samples, are not analysed, so that {without}.",
        f"各计数的关系：读取导出文件 {len(rows)} 行，其中搁置 {len(rows) - used} 行（未成结果），使用 {used} 行；"
        f"连同尚待检测的样本，得 {n.samples} 份样本的 {n.results} 个结果（同一样本可由多种检测或多次检测）；"
        f"未纳入分析 {n.results_out} 个结果，涉及 {n.samples_out} 份样本，因此{without}。",
    )


def _run_row(
    results: Results, words: Words, group: str, run: str, assay: str, own: pd.DataFrame, behind: pd.DataFrame
) -> dict[str, str]:
    """The row that stands for a refused run: why, what became of its samples, and the rows of its export."""
    runs = results.table("runs")
    here = runs[(runs["run_id"] == run) & (runs["assay"] == assay)]
    why = "; ".join(dict.fromkeys(str(r) for r in here["reason"] if not missing(r)))
    fate = fate_of_run(results, words, run, assay)
    sources = behind[behind["observation_id"].isin(own["observation_id"])]
    rows = [
        f"{file}: {row_ranges(sorted({int(r) for r in mine['source_row']}))}"
        for file, mine in sources.groupby("source_file", sort=True)
    ]
    n = len(own)
    cells = [
        group,
        EMPTY,
        words.say("whole run", "整个批次"),
        words.assay(assay),
        words.say(f"{n} result{'s' * (n > 1)}", f"{n} 个结果"),
        EMPTY,
        EMPTY,
        words.say("not analysed", "未分析"),
        words.say(". ", "。").join(part for part in (why, fate) if part),
        "; ".join(rows) or EMPTY,
    ]
    return dict(zip(_columns(words), cells, strict=True))


def _columns(words: Words) -> list[str]:
    return [
        words.say("Group", "分组"),
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
    context: Context, record: dict[str, Any], group: str, dose_level: str, origins: dict[str, str], curves: set[str]
) -> dict[str, str]:
    words = Words(context.language)
    time = record["time_actual"]
    shown = measured(record, context, curves)
    if shown not in STATUS_CODES.values():
        shown = f"{shown} {unit_name(str(record['level_unit']))}"
    cells = [
        group,
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


def rows_behind(results: Results, observations: Iterable[str], hold: bool = True) -> pd.DataFrame:
    """Rows of exports that were measured for some results: neither standards nor what has no row.

    Columns observation_id, role, source_sha256, source_file and source_row.
    """
    columns, own = ["observation_id", "role", "source_sha256", "source_file", "source_row"], set(observations)
    if hold:
        held = results.part("observation_sources", columns, role=BEHIND)
        sources = plain(having(held, {"observation_id": own}))
    else:
        sources = results.rows("observation_sources", columns, hold=False, observation_id=own, role=BEHIND)
    return sources[sources["source_row"].notna()]


def sources_of(results: Results, observations: Iterable[str]) -> dict[str, str]:
    """For each of some results the export and rows behind it, as ``plate1.txt: 12–14``; standards are not listed."""
    return _told(rows_behind(results, observations))


def _told(behind: pd.DataFrame) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    rows: dict[tuple[str, str], list[int]] = {}
    columns = ("observation_id", "source_file", "source_row")
    for observation, file, row in zip(*(behind[c] for c in columns), strict=True):
        rows.setdefault((str(observation), str(file)), []).append(int(row))
    for observation, file in sorted(rows):
        found.setdefault(observation, []).append(f"{file}: {row_ranges(rows[observation, file])}")
    return {observation: "; ".join(files) for observation, files in found.items()}


TABLE = Table(
    name="excluded",
    id="L-16.2.5.5",
    number="5",
    title={"en": "Results not analysed, with reasons", "zh": "未纳入分析的结果及原因"},
    needs=NEEDS,
    build=build,
)
