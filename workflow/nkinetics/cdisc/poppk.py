"""One table of doses and levels for NONMEM, Monolix and nlmixr2, with every level in the likelihood of the report.

Conventions that the three share: CENS 1 = the level lies below DV and not below LIMIT (0 where LIMIT is a point),
CENS -1 = it lies above DV. A level below its LLOQ has DV = LLOQ and LIMIT = LOD (0 without one); one not detected
DV = LOD, LIMIT = 0. A sample before the first infusion has MDV 1: a model has no cells there. Doses: CMT 1 cells,
CMT 2, 3 ... cytokines. NMOL is the count behind a level: the report's likelihood adds its variance 1/NMOL to that of
ln(level). Times in days from the first infusion; a missing number is a point.
"""

from __future__ import annotations

import math

import pandas as pd

from nkinetics.cdisc._model import Dataset, Source, Variable
from nkinetics.cdisc.pc import MEASURED


def numbers(source: Source) -> dict[str, dict[str, int]]:
    """Numbers that stand for texts: id (patient), dvid (assay, specimen, unit), cmt (cytokine), dose_level."""
    rows = reportable(source)
    kinds = sorted({f"{r.assay}, {r.specimen}, {r.level_unit}" for r in rows.itertuples()})
    agents = sorted(set(source.results.table("cytokines")["agent"]))
    patients = source.results.patients
    return {
        "ID": {str(p): i + 1 for i, p in enumerate(sorted(patients["patient_id"]))},
        "DVID": {kind: i + 1 for i, kind in enumerate(kinds)},
        "CMT": {"cells": 1} | {str(a): i + 2 for i, a in enumerate(agents)},
        "DOSELVL": {str(d): i + 1 for i, d in enumerate(sorted(set(patients["dose_level"])))},
    }


def reportable(source: Source) -> pd.DataFrame:
    """Observations that are analysed."""
    rows = source.results.table("observations")
    kept = rows["reportable"].fillna(False).astype(bool) & rows["status"].isin(MEASURED) & rows["time_actual"].notna()
    return rows[kept]


def censored(row: dict[str, object]) -> tuple[float, int, float]:
    """DV, CENS and LIMIT of an observation.

    Examples
    --------
    >>> censored({"status": "quantified", "level": 7.5, "lod": 1.0, "lloq": 5.0, "uloq": 100.0})
    (7.5, 0, nan)
    >>> censored({"status": "blq", "level": float("nan"), "lod": 1.0, "lloq": 5.0, "uloq": 100.0})
    (5.0, 1, 1.0)
    >>> censored({"status": "not_detected", "level": float("nan"), "lod": 1.0, "lloq": 5.0, "uloq": 100.0})
    (1.0, 1, 0.0)
    >>> censored({"status": "above_uloq", "level": float("nan"), "lod": 1.0, "lloq": 5.0, "uloq": 100.0})
    (100.0, -1, nan)
    """
    level, lod, lloq, uloq = (float(str(row[name])) for name in ("level", "lod", "lloq", "uloq"))
    known = not math.isnan(lod)
    if row["status"] == "blq":
        return lloq, 1, lod if known else 0.0
    if row["status"] == "not_detected":
        return (lod if known else lloq), 1, 0.0
    if row["status"] == "above_uloq":
        return uloq, -1, math.nan
    return level, 0, math.nan


def build(source: Source) -> pd.DataFrame:
    """One record per dose and analysed level, sorted by patient and time, a dose after a sample of the same time."""
    look = numbers(source)
    patients = source.results.patients.set_index("patient_id")
    made = []
    for dose in source.starts.to_dict("records"):
        given = dose["given"] if not pd.isna(dose["given"]) else dose["planned"]
        made.append(_dose(look, str(dose["patient_id"]), float(dose["time"]), float(given), 1))
    for dose in source.results.table("cytokines").to_dict("records"):
        compartment = look["CMT"][str(dose["agent"])]
        made.append(_dose(look, str(dose["patient_id"]), float(dose["time"]), float(dose["dose"]), compartment))
    for row in reportable(source).to_dict("records"):
        dv, cens, limit = censored(row)
        begun = row["infusion"]
        made.append(
            {
                "ID": look["ID"][str(row["patient_id"])],
                "TIME": row["time_actual"],
                "DV": dv,
                "AMT": math.nan,
                "EVID": 0,
                "MDV": 1 if not pd.isna(begun) and int(begun) == 0 else 0,
                "CMT": 1,
                "DVID": look["DVID"][f"{row['assay']}, {row['specimen']}, {row['level_unit']}"],
                "CENS": cens,
                "LIMIT": limit,
                "LLOQ": row["lloq"],
                "LOD": row["lod"],
                "NMOL": row["n_molecules"],
                "OCC": begun,
                "patient": str(row["patient_id"]),
            }
        )
    frame = pd.DataFrame(made)
    if not len(frame):
        return frame
    who = frame["patient"]
    frame = frame.assign(
        DOSELVL=[look["DOSELVL"][str(patients.at[p, "dose_level"])] for p in who],
        WT=[patients.at[p, "weight_kg"] for p in who],
        OBSNUM=0,
    )
    frame = frame.sort_values(["ID", "TIME", "EVID", "CMT", "DVID", "DV"], kind="stable", ignore_index=True)
    return frame.assign(OBSNUM=range(1, len(frame) + 1))


def _dose(
    look: dict[str, dict[str, int]], patient: str, time: float, amount: float, compartment: int
) -> dict[str, object]:
    return {
        "ID": look["ID"][patient],
        "TIME": time,
        "AMT": amount,
        "EVID": 1,
        "MDV": 1,
        "CMT": compartment,
        "CENS": 0,
        "patient": patient,
    }


DATASET = Dataset(
    name="POPPK",
    label="Doses and Levels for Population Models",
    standard="pharmacometrics",
    category="MODELLING",
    structure="One record per dose or analysed level",
    keys=("OBSNUM",),
    variables=(
        Variable("ID", "Number of the Patient (see POPIDS)", "integer", 8, required=True),
        Variable("TIME", "Time from the First Infusion (d)", "float", 8, required=True),
        Variable("AMT", "Amount Given", "float", 8),
        Variable("EVID", "Event Identifier", "integer", 8, codelist="EVID", required=True),
        Variable("MDV", "Missing Dependent Variable", "integer", 8, required=True),
        Variable("CMT", "Compartment of the Dose (see POPIDS)", "integer", 8, required=True),
        Variable("DVID", "Assay of the Level (see POPIDS)", "integer", 8),
        Variable("DV", "Level, or the Limit it Lies Beyond", "float", 8),
        Variable("CENS", "Censoring of the Level", "integer", 8, codelist="CENS", required=True),
        Variable("LIMIT", "Lower End of a Censored Level", "float", 8),
        Variable("LLOQ", "Lower Limit of Quantification", "float", 8),
        Variable("LOD", "Limit of Detection", "float", 8),
        Variable("NMOL", "Molecules, Partitions or Events Counted", "float", 8),
        Variable("OCC", "Infusions Begun", "integer", 8),
        Variable("DOSELVL", "Number of the Dose Level (see POPIDS)", "integer", 8),
        Variable("WT", "Body Weight (kg)", "float", 8),
        Variable("OBSNUM", "Number of the Record", "integer", 8, required=True),
    ),
    build=build,
)
