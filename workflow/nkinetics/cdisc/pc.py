"""SDTM Pharmacokinetics Concentrations: the reported level of every sample and assay, with its time and limits.

A sample has one record per assay: its reportable result, or a record NOT DONE with the reason. Runs that a later run
replaced stand in the listing of excluded data of the report and are counted in the reviewer's guide.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from nkinetics.cdisc import _terms
from nkinetics.cdisc._model import (
    Dataset,
    Source,
    Variable,
    duration,
    identifiers,
    iso_minutes,
    limited,
    number_text,
    plain,
    shifted,
    study_day,
)
from nkinetics.cdisc._units import HOURS_PER_DAY, LEVELS
from nkinetics.cdisc.ex import reference_name
from nkinetics.columns import OBSERVATIONS
from nkinetics.observations import NO_SAMPLE, observation_id
from nkinetics.store import complete

MEASURED = ("quantified", "blq", "not_detected", "above_uloq")
_DAY = re.compile(r"(?i)^\s*(?:study\s+)?day\s*(-?\d+)\b[\s,:-]*(.*)$")


def reported(source: Source) -> pd.DataFrame:
    """One row of the observations per patient, assay, specimen and sample: the reportable one, else the last tried.

    A patient without any observation has a row not done for each kind of profile.
    """
    rows = source.results.table("observations")
    kinds = rows.drop_duplicates(["assay", "specimen"]).sort_values(["assay", "specimen"])
    others = [p for p in source.results.patients["patient_id"] if p not in set(rows["patient_id"])]
    none = [
        {
            **{name: kind[name] for name in ("assay", "specimen", "analyte", "level_unit")},
            "patient_id": patient,
            "status": "not_done",
            "exclusion_reason": NO_SAMPLE,
            "observation_id": observation_id(patient, str(kind["assay"]), str(kind["specimen"]), "", ""),
        }
        for patient in others
        for kind in kinds.to_dict("records")
    ]
    if none:
        rows = pd.concat([rows, complete(pd.DataFrame(none), OBSERVATIONS)], ignore_index=True)
    rows = rows.assign(reportable=rows["reportable"].fillna(False).astype(bool), measured=rows["status"].isin(MEASURED))
    rows = rows.sort_values(
        ["patient_id", "assay", "specimen", "time_actual", "sample_id", "reportable", "measured", "run_id"],
        kind="stable",
    )
    keys = ["patient_id", "assay", "specimen", "sample_id"]
    kept = rows.drop_duplicates(keys, keep="last").reset_index(drop=True)
    source.counts["results replaced by a later run"] = len(rows) - len(kept)
    return kept


def reference_infusion(row: dict[str, object]) -> int:
    """Infusion to which a sample belongs: the one that follows a pre-dose sample, else the last begun.

    Examples
    --------
    >>> reference_infusion({"infusion": 1, "predose": True}), reference_infusion({"infusion": 0, "predose": False})
    (2, 1)
    """
    begun = row["infusion"]
    if begun is None or pd.isna(begun):
        return 1
    return max(1, int(str(begun)) + (1 if row["predose"] is True else 0))


def nominal_starts(source: Source) -> dict[tuple[str, int], float]:
    """Planned start [d] of each infusion of a patient: of its pre-dose samples, else the whole day next to it."""
    found = {
        (str(r["patient_id"]), int(r["infusion"])): float(np.floor(float(r["time"]) + 0.5))
        for r in source.starts.to_dict("records")
    }
    rows = source.results.table("observations")
    before = rows[rows["predose"].fillna(False).astype(bool) & rows["time_nominal"].notna()]
    for row in before.sort_values("time_nominal").to_dict("records"):
        found[(str(row["patient_id"]), reference_infusion(row | {"predose": True}))] = float(row["time_nominal"])
    return found


def timed(source: Source) -> pd.DataFrame:
    """`reported` with reference infusion and times from it: reference, planned_after, actual_after [d]."""
    rows = reported(source)
    begin = {(str(r["patient_id"]), int(r["infusion"])): float(r["time"]) for r in source.starts.to_dict("records")}
    planned = nominal_starts(source)
    predose = rows["predose"].fillna(False).astype(bool)
    rows = rows.assign(predose=predose.astype(object))
    reference = [reference_infusion(row) for row in rows.to_dict("records")]
    keys = list(zip(rows["patient_id"], reference, strict=True))
    return rows.assign(
        reference=reference,
        planned_after=rows["time_nominal"] - [planned.get(k, math.nan) for k in keys],
        actual_after=rows["time_actual"] - [begin.get(k, math.nan) for k in keys],
    )


def results_texts(row: dict[str, object]) -> tuple[str, float]:
    """PCORRES and PCSTRESN of an observation: the level, or beyond which limit it lies; empty where there is none.

    Examples
    --------
    >>> results_texts({"status": "quantified", "level": 12.5, "lloq": 5.0, "uloq": float("nan")})
    ('12.5', 12.5)
    >>> results_texts({"status": "not_detected", "level": float("nan"), "lloq": 5.0, "uloq": float("nan")})
    ('<5', nan)
    """
    limits = {"blq": ("<", "lloq"), "not_detected": ("<", "lloq"), "above_uloq": (">", "uloq")}
    status = str(row["status"])
    if status == "quantified":
        level = float(str(row["level"]))
        return number_text(level), level
    if status in limits:
        sign, limit = limits[status]
        return f"{sign}{number_text(float(str(row[limit])))}", math.nan
    return "", math.nan


def visit_of(visit: str, planned: float, actual: float, predose: bool, after: float) -> tuple[str, float, str]:
    """VISIT, VISITNUM and PCTPT of a sample.

    The day of the visit's name numbers it, else the planned day; an unscheduled sample gets the day it was taken and
    a tenth.

    Examples
    --------
    >>> visit_of("Day 4 1-2 h post-dose", 3.0625, 3.05, False, 0.0625)
    ('DAY 4', 4.0, '1-2 H POST-DOSE')
    >>> visit_of("Day 8", 7.0, 7.01, False, 1.0), visit_of("Unscheduled", float("nan"), 20.3, False, float("nan"))
    (('DAY 8', 8.0, '24 H POST-DOSE'), ('UNSCHEDULED 21.1', 21.1, ''))
    """
    found = _DAY.match(visit)
    text = found[2].upper() if found else ""
    if math.isnan(planned) and not found:
        if math.isnan(actual):
            return visit.upper(), math.nan, ""
        number = math.floor(actual) + 1 + 0.1
        return f"{(visit or 'Unscheduled').upper()} {number:.1f}", number, ""
    day = float(found[1]) if found else float(math.floor(planned) + 1)
    hours = after * HOURS_PER_DAY
    point = "PRE-DOSE" if predose else text or ("" if math.isnan(hours) else f"{hours:g} H POST-DOSE")
    return (f"DAY {found[1]}" if found else (visit or f"Day {day:g}").upper()), day, point


def build(source: Source) -> pd.DataFrame:
    """One record per patient, assay, specimen and sample."""
    rows = timed(source)
    if not len(rows):
        return rows
    samples = source.results.table("samples").set_index("sample_id")
    taken = samples["collected_at"].to_dict() if len(samples) else {}
    begun = {(str(r["patient_id"]), int(r["infusion"])): r for r in source.starts.to_dict("records")}
    codes = _terms.assay_codes(sorted(set(zip(rows["analyte"], rows["assay"], strict=True))))
    made = []
    for row in rows.to_dict("records"):
        patient, reference = str(row["patient_id"]), int(row["reference"])
        first = source.first_infusion(patient)
        when = iso_minutes(taken.get(row["sample_id"], "")) or shifted(first, float(row["time_actual"]))
        result, number = results_texts(row)
        name = _terms.assay_category(str(row["analyte"]), str(row["assay"]))
        start = begun.get((patient, reference), {})
        unit = LEVELS.get(str(row["level_unit"]), str(row["level_unit"]))
        visit, visit_number, point = visit_of(
            plain(row["visit"]),
            float(row["time_nominal"]),
            float(row["time_actual"]),
            bool(row["predose"]),
            float(row["planned_after"]),
        )
        made.append(
            {
                "STUDYID": source.study_id,
                "DOMAIN": "PC",
                "USUBJID": source.subject(patient),
                "PCREFID": row["sample_id"],
                "PCSPID": row["observation_id"],
                "PCTESTCD": codes[(row["analyte"], row["assay"])],
                "PCTEST": name,
                "PCCAT": name,
                "PCORRES": result,
                "PCORRESU": unit if result else "",
                "PCSTRESC": result,
                "PCSTRESN": number,
                "PCSTRESU": unit if result else "",
                "PCSTAT": "" if result else "NOT DONE",
                "PCREASND": "" if result else limited(str(row["exclusion_reason"]) or str(row["status"])),
                "PCNAM": source.choices.laboratory,
                "PCSPEC": _terms.specimen_term(str(row["specimen"])),
                "PCLLOQ": row["lloq"],
                "PCULOQ": row["uloq"],
                "VISITNUM": visit_number,
                "VISIT": visit,
                "PCDTC": when,
                "PCDY": study_day(when, first),
                "PCTPT": point,
                "PCTPTNUM": round(float(row["planned_after"]) * HOURS_PER_DAY, 4) if point else math.nan,
                "PCELTM": duration(float(row["planned_after"])) if point else "",
                "PCTPTREF": reference_name(reference) if start and point else "",
                "PCRFTDTC": start.get("started_at", "") if point else "",
                # For the other data sets; left out of this one.
                "patient_id": patient,
                "assay": row["assay"],
                "specimen": row["specimen"],
                "time_actual": row["time_actual"],
            }
        )
    frame = pd.DataFrame(made)
    frame = frame.sort_values(["USUBJID", "PCCAT", "PCSPEC", "time_actual", "PCREFID", "PCSPID"], kind="stable")
    frame["PCSEQ"] = frame.groupby("USUBJID").cumcount() + 1
    return frame.reset_index(drop=True)


_TIME = "Planned time of the sample less planned start of the infusion it belongs to"

DATASET = Dataset(
    name="PC",
    label="Pharmacokinetics Concentrations",
    standard="sdtm",
    category="FINDINGS",
    structure="One record per sample and assay per subject",
    keys=("STUDYID", "USUBJID", "PCSEQ"),
    variables=(
        *identifiers("PC"),
        Variable("PCSEQ", "Sequence Number", "integer", 8, required=True, method="Order of assay and time"),
        Variable("PCREFID", "Reference ID", length=40, origin="Collected", method="Sample of samples.csv"),
        Variable(
            "PCSPID",
            "Sponsor-Defined Identifier",
            length=16,
            origin="Assigned",
            method="observation_id of observations.csv, which leads to the wells in observation_sources.csv",
        ),
        Variable("PCTESTCD", "Pharmacokinetic Test Short Name", length=8, origin="Assigned", required=True),
        Variable("PCTEST", "Pharmacokinetic Test Name", length=40, origin="Assigned", required=True),
        Variable("PCCAT", "Test Category", length=80, origin="Assigned", required=True, method="Analyte and assay"),
        Variable("PCORRES", "Result or Finding in Original Units", length=40, origin="Collected"),
        Variable("PCORRESU", "Original Units", length=40, codelist="PKUNIT", origin="Collected"),
        Variable(
            "PCSTRESC",
            "Character Result/Finding in Std Format",
            length=40,
            method="PCORRES; below the LLOQ of the sample '<' and that LLOQ",
        ),
        Variable("PCSTRESN", "Numeric Result/Finding in Standard Units", "float", 8, method="PCSTRESC where a number"),
        Variable("PCSTRESU", "Standard Units", length=40, codelist="PKUNIT", origin="Assigned"),
        Variable("PCSTAT", "Completion Status", length=8, codelist="ND", origin="Assigned"),
        Variable("PCREASND", "Reason Test Not Done", origin="Collected"),
        Variable("PCNAM", "Vendor Name", length=80, origin="Assigned"),
        Variable("PCSPEC", "Specimen Material Type", length=60, codelist="SPECTYPE", origin="Collected", required=True),
        Variable("PCLLOQ", "Lower Limit of Quantitation", "float", 8, origin="Collected"),
        Variable("PCULOQ", "Upper Limit of Quantitation", "float", 8, origin="Collected"),
        Variable(
            "VISITNUM", "Visit Number", "float", 8, method="Day in the visit's name; unscheduled: day taken + 0.1"
        ),
        Variable("VISIT", "Visit Name", length=80, origin="Protocol"),
        Variable("PCDTC", "Date/Time of Specimen Collection", "datetime", 20, origin="Collected"),
        Variable("PCDY", "Actual Study Day of Specimen Collection", "integer", 8, method="RFSTDTC is day 1, no day 0"),
        Variable("PCTPT", "Planned Time Point Name", length=40, origin="Protocol"),
        Variable("PCTPTNUM", "Planned Time Point Number", "float", 8, method=f"{_TIME}, h"),
        Variable("PCELTM", "Planned Elapsed Time from Time Point Ref", length=20, method=f"{_TIME}, ISO 8601"),
        Variable("PCTPTREF", "Time Point Reference", length=40, method="Infusion that the sample belongs to"),
        Variable("PCRFTDTC", "Date/Time of Reference Point", "datetime", 20, method="EXSTDTC of PCTPTREF"),
    ),
    build=build,
    value_level={"PCSTRESN": "PCCAT"},
)
