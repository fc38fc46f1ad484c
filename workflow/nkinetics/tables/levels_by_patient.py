"""T-CK-03: the level of every patient at every nominal time, per assay: what a summary of few patients cannot say."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._visits import RESULTS, outcomes
from nkinetics.wording import Words, days, level, profile_name, profiles

NEEDS = ("observations", "samples", "patients", "infusions")
EMPTY = "–"


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay and patient, columns by nominal time; also the patient without any sample."""
    words, kinds = Words(context.language), profiles(results)
    observed = results.table("observations")
    observed = observed[observed["time_nominal"].notna()]
    tested = observed[observed["status"] != "not_done"]
    times = sorted(set(tested["time_nominal"]))
    if not times or not len(kinds):
        why = words.say("No result at a planned time.", "计划时间点无结果。")
        return absent(results, context, why, NEEDS)
    heads = [words.say("Assay", "检测方法"), words.say("Dose level", "剂量水平"), words.say("Patient", "患者")]
    names = _names(times)
    rows, patients, several = [], [], False
    for kind in kinds.itertuples():
        own = tested[(tested["assay"] == kind.assay) & (tested["specimen"] == kind.specimen)]
        label = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        cells, twice = _cells(own, _planned(results, str(kind.assay), str(kind.specimen)))
        several = several or twice
        for patient in results.patients.itertuples():
            shown = [cells.get((str(patient.patient_id), time), EMPTY) for time in times]
            mine = [label, str(patient.dose_level), str(patient.patient_id), *shown]
            rows.append(dict(zip([*heads, *names], mine, strict=True)))
            patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        [*heads, *names],
        sources=NEEDS,
        footnotes=_footnotes(results, context, several),
        subtitle=analysis_set(results, context),
        row_header=3,
        patients=patients,
    )


def _names(times: list[float]) -> list[str]:
    """Column heads: two decimals only where a whole number would not tell the times apart or true.

    Examples
    --------
    >>> _names([0.0, 0.0625, 7.0])
    ['0', '0.06', '7']
    """
    return [f"{time:.0f}" if time == round(time) else days(time) for time in times]


def _planned(results: Results, assay: str, specimen: str) -> set[tuple[str, float]]:
    """Patients and nominal times at which a result of this assay was due: the visit is one that the assay measures."""
    own = outcomes(results, assay, specimen)
    visits = set(own.loc[own["assayed"], "time_nominal"])
    due = own[own["time_nominal"].isin(visits) & (own["outcome"] != "not_sent")]
    return {(str(p), float(t)) for p, t in zip(due["patient_id"], due["time_nominal"], strict=True)}


def _cells(own: pd.DataFrame, due: set[tuple[str, float]]) -> tuple[dict[tuple[str, float], str], bool]:
    """What stands for each patient and nominal time, and whether one holds several results."""
    found: dict[tuple[str, float], list[str]] = {}
    for row in own.sort_values(["time_actual", "sample_id"]).to_dict("records"):
        key = (str(row["patient_id"]), float(row["time_nominal"]))
        if bool(row["reportable"]) and row["status"] in RESULTS:
            found.setdefault(key, []).append(level(row))
    # Measured, and no result of the sample is analysed: a rule left it out.
    for row in own[own["status"].isin(RESULTS)].to_dict("records"):
        found.setdefault((str(row["patient_id"]), float(row["time_nominal"])), ["NR"])
    texts = dict.fromkeys(due, "MISS") | {key: " / ".join(values) for key, values in found.items()}
    return texts, any(len(values) > 1 for values in found.values())


def _footnotes(results: Results, context: Context, several: bool) -> list[str]:
    words = Words(context.language)
    notes = [
        words.say(
            "Columns: nominal time, days from the start of the first infusion. Levels as reported, to 4 significant "
            "figures, in the unit of the assay; samples taken off their time stand at the time for which they were "
            f"planned. {EMPTY}: no sample planned, or none sent to this assay. MISS: due and without a result; NR: "
            "measured and left out by a rule; the reasons stand in the table of sample disposition.",
            "列：计划时间，以首次输注开始起计的天数。水平按报告值，4 位有效数字，单位为检测单位；"
            f"偏离计划时间的样本列于其计划时间。{EMPTY}：无计划样本或未送该检测。MISS：应有而无结果；"
            "NR：已测得，按规则排除；原因见样本处置表。",
        )
    ]
    if several:
        notes.append(
            words.say(
                "Several samples of one nominal time are separated by a slash, in order of their actual times.",
                "同一计划时间的多份样本以斜线分隔，按实际时间排序。",
            )
        )
    observed = results.table("observations")
    unplanned = observed[observed["time_nominal"].isna() & observed["reportable"].fillna(False).astype(bool)]
    if len(unplanned):
        notes.append(
            words.say(
                f"Results without a planned time, not shown here: {len(unplanned)}; they stand in the listing of "
                "levels.",
                f"无计划时间、未在此列出的结果：{len(unplanned)} 个；见水平列表。",
            )
        )
    return notes


TABLE = Table(
    name="levels_by_patient",
    id="T-CK-03",
    number="3",
    title={"en": "Level of every patient by nominal time", "zh": "各患者按计划时间的水平"},
    needs=NEEDS,
    build=build,
)
