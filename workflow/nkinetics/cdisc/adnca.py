"""ADaM concentrations for non-compartmental analysis: every sample on the clock of each infusion it belongs to.

The pre-dose sample of a later infusion ends the interval before it and starts its own: its record in the interval that
it ends is a copy (DTYPE COPY). A record that the analysis did not use carries its flag and reason.
"""

from __future__ import annotations

import math

import pandas as pd

from nkinetics.cdisc import adsl, pc
from nkinetics.cdisc._model import Dataset, Source, Variable, identifiers, limited, sas_date, sas_datetime
from nkinetics.cdisc._units import HOURS_PER_DAY, LEVELS
from nkinetics.cdisc.ex import CELLS, reference_name


def build(source: Source) -> pd.DataFrame:
    """One record per record of PC, and a copy of each pre-dose sample in the interval before."""
    levels = source.dataset("pc")
    people = source.dataset("adsl").set_index("USUBJID")
    rows = pc.timed(source).set_index("observation_id")
    doses = source.dataset("ex")
    doses = doses[doses["EXCAT"] == CELLS]
    amount = {(r["USUBJID"], r["EXSPID"]): r for r in doses.to_dict("records")}
    begin = {
        (source.subject(str(r["patient_id"])), int(r["infusion"])): float(r["time"])
        for r in source.starts.to_dict("records")
    }
    planned = {(source.subject(p), k): t for (p, k), t in pc.nominal_starts(source).items()}
    points = source.results.table("nca_points")
    used = {use: set(points.loc[points["used_in"] == use, "observation_id"]) for use in ("auc", "lambda_z")}
    order = {category: i + 1 for i, category in enumerate(sorted(set(levels["PCCAT"])))}
    made = []
    for record in levels.to_dict("records"):
        row, subject = rows.loc[record["PCSPID"]], str(record["USUBJID"])
        own = int(row["reference"])
        copies = [own, own - 1] if bool(row["predose"]) and own > 1 else [own]
        reasons = excluded(record, row, used["auc"])
        for infusion in copies:
            dose = amount.get((subject, reference_name(infusion)), {})
            start, plan = begin.get((subject, infusion), math.nan), planned.get((subject, infusion), math.nan)
            actual, nominal = float(row["time_actual"]), float(row["time_nominal"])
            copy = infusion != own
            made.append(
                {
                    **{v.name: people.at[subject, v.name] for v in (*adsl.TREATMENT, *adsl.FLAGS)},
                    "STUDYID": source.study_id,
                    "USUBJID": subject,
                    "PARAMCD": record["PCTESTCD"],
                    "PARAM": limited(f"{record['PCTEST']} ({unit_of(row)})"),
                    "PARAMN": order[record["PCCAT"]],
                    "PARCAT1": record["PCCAT"],
                    "PCSPEC": record["PCSPEC"],
                    "AVAL": record["PCSTRESN"],
                    "AVALC": record["PCSTRESC"],
                    "AVALU": record["PCSTRESU"],
                    "ALLOQ": record["PCLLOQ"],
                    "DTYPE": "COPY" if copy else "",
                    "AVISIT": record["VISIT"],
                    "AVISITN": record["VISITNUM"],
                    "ATPT": record["PCTPT"] if not copy else "END OF INTERVAL",
                    "ATPTREF": reference_name(infusion) if dose else "",
                    "ADTM": sas_datetime(record["PCDTC"]),
                    "ADT": sas_date(record["PCDTC"]),
                    "ADY": record["PCDY"],
                    "PCRFTDTM": sas_datetime(str(dose.get("EXSTDTC", ""))),
                    "NFRLT": hours(nominal),
                    "AFRLT": hours(actual),
                    "NRRLT": hours(nominal - plan),
                    "ARRLT": hours(actual - start),
                    "RRLTU": "h",
                    "DOSEA": dose.get("EXDOSE", math.nan),
                    "DOSEU": dose.get("EXDOSU", ""),
                    "AUCFL": "Y" if record["PCSPID"] in used["auc"] else "N",
                    "LAMZFL": "Y" if record["PCSPID"] in used["lambda_z"] else "N",
                    "NCAXFL": "Y" if reasons else "N",
                    "NCA1XRS": reasons,
                    "SRCDOM": "PC",
                    "SRCVAR": "PCSTRESN",
                    "SRCSEQ": record["PCSEQ"],
                    "_infusion": infusion,
                    "_time": actual,
                }
            )
    frame = pd.DataFrame(made)
    if not len(frame):
        return frame
    frame = frame.sort_values(["USUBJID", "PARAMN", "PCSPEC", "_infusion", "_time", "SRCSEQ"], kind="stable")
    return frame.assign(ASEQ=frame.groupby("USUBJID").cumcount() + 1).reset_index(drop=True)


def hours(days: float) -> float:
    """Hours of elapsed days, to a hundredth of a second, so that 24 is not 24.000000001.

    Examples
    --------
    >>> hours(0.0625), hours(float("nan"))
    (1.5, nan)
    """
    return round(days * HOURS_PER_DAY, 6)


def unit_of(row: pd.Series) -> str:
    """Unit of an observation in words of the package."""
    return LEVELS.get(str(row["level_unit"]), str(row["level_unit"]))


def excluded(record: dict[str, object], row: pd.Series, used: set[str]) -> str:
    """Why the analysis did not use a sample; empty where it did."""
    if record["PCSTAT"]:
        return limited(f"Not done: {record['PCREASND']}")
    if not bool(row["reportable"]):
        return limited(f"Not analysed: {row['exclusion_reason']}")
    if record["PCSPID"] not in used:
        if str(row["status"]) in ("blq", "not_detected"):
            return "Below LLOQ: dropped by the rule for its position"
        return "Not in the area of any window"
    return ""


DATASET = Dataset(
    name="ADNCA",
    label="PK Concentration Analysis Dataset",
    standard="adam",
    category="BASIC DATA STRUCTURE",
    structure="One record per sample, assay and reference infusion per subject",
    keys=("STUDYID", "USUBJID", "ASEQ"),
    variables=(
        *identifiers(),
        Variable("ASEQ", "Analysis Sequence Number", "integer", 8, required=True, method="Order within the subject"),
        *adsl.TREATMENT,
        *adsl.FLAGS,
        Variable("PARAMCD", "Parameter Code", length=8, origin="Predecessor", required=True, method="PC.PCTESTCD"),
        Variable("PARAM", "Parameter", length=120, required=True, method="PCTEST with the unit"),
        Variable("PARAMN", "Parameter (N)", "integer", 8, method="Order of PARCAT1"),
        Variable("PARCAT1", "Parameter Category 1", length=80, origin="Predecessor", method="PC.PCCAT"),
        Variable(
            "PCSPEC", "Specimen Material Type", length=60, codelist="SPECTYPE", origin="Predecessor", method="PC.PCSPEC"
        ),
        Variable("AVAL", "Analysis Value", "float", 8, origin="Predecessor", method="PC.PCSTRESN"),
        Variable("AVALC", "Analysis Value (C)", length=40, origin="Predecessor", method="PC.PCSTRESC"),
        Variable("AVALU", "Analysis Value Unit", length=40, origin="Predecessor", method="PC.PCSTRESU"),
        Variable("ALLOQ", "Analysis Lower Limit of Quantitation", "float", 8, origin="Predecessor", method="PC.PCLLOQ"),
        Variable(
            "DTYPE", "Derivation Type", length=10, codelist="DTYPE", method="COPY: pre-dose sample ends an interval"
        ),
        Variable("AVISIT", "Analysis Visit", length=80, origin="Predecessor", method="PC.VISIT"),
        Variable("AVISITN", "Analysis Visit (N)", "float", 8, origin="Predecessor", method="PC.VISITNUM"),
        Variable("ATPT", "Analysis Timepoint", length=40, method="PC.PCTPT; END OF INTERVAL for a copy"),
        Variable("ATPTREF", "Analysis Timepoint Reference", length=40, method="Infusion on whose clock the record is"),
        Variable("ADTM", "Analysis Datetime", "sas_datetime", 8, method="PC.PCDTC"),
        Variable("ADT", "Analysis Date", "sas_date", 8, method="Date of PC.PCDTC"),
        Variable("ADY", "Analysis Relative Day", "integer", 8, origin="Predecessor", method="PC.PCDY"),
        Variable("PCRFTDTM", "Reference Datetime of Dose for Analyte", "sas_datetime", 8, method="EXSTDTC of ATPTREF"),
        Variable("NFRLT", "Nom. Rel. Time from Analyte First Dose", "float", 8, method="Planned time, h"),
        Variable("AFRLT", "Act. Rel. Time from Analyte First Dose", "float", 8, method="Actual time, h"),
        Variable("NRRLT", "Nominal Rel. Time from Ref. Dose", "float", 8, method="Planned time from ATPTREF, h"),
        Variable("ARRLT", "Actual Rel. Time from Ref. Dose", "float", 8, method="Actual time from ATPTREF, h"),
        Variable("RRLTU", "Relative Time Unit", length=4, origin="Assigned"),
        Variable("DOSEA", "Actual Treatment Dose", "float", 8, origin="Predecessor", method="EX.EXDOSE"),
        Variable("DOSEU", "Treatment Dose Units", length=20, origin="Predecessor", method="EX.EXDOSU"),
        Variable("AUCFL", "Used in an Area Flag", length=1, codelist="NY", method="In nca_points.csv used in auc"),
        Variable(
            "LAMZFL", "Used in a Terminal Fit Flag", length=1, codelist="NY", method="In nca_points.csv, lambda_z"
        ),
        Variable("NCAXFL", "PK NCA Exclusion Flag", length=1, codelist="NY", method="Y where NCA1XRS is filled"),
        Variable("NCA1XRS", "Reason 1 for PK NCA Exclusion", method="Why the analysis did not use the sample"),
        Variable("SRCDOM", "Source Data", length=8, origin="Assigned", required=True),
        Variable("SRCVAR", "Source Variable", length=8, origin="Assigned", required=True),
        Variable(
            "SRCSEQ", "Source Sequence Number", "integer", 8, origin="Predecessor", required=True, method="PC.PCSEQ"
        ),
    ),
    build=build,
    subclass="NON-COMPARTMENTAL ANALYSIS",
    value_level={"AVAL": "PARCAT1"},
)
