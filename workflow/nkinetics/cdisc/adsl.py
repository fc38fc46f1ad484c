"""ADaM Subject Level, minimal: what the analyses of levels need of a patient."""

from __future__ import annotations

import pandas as pd

from nkinetics.cdisc._model import Dataset, Source, Variable, identifiers, limited, plain, sas_date, sas_datetime
from nkinetics.cdisc.ex import CELLS
from nkinetics.wording import dose_levels

KEPT = ("STUDYID", "USUBJID", "SUBJID", "SITEID", "AGE", "AGEU", "SEX", "RACE", "ETHNIC", "COUNTRY", "ARM", "ACTARM")
"""Variables that come from DM as they are."""

_ENDS = {"death": "DISCONTINUED", "withdrawal": "DISCONTINUED", "ongoing": "ONGOING", "data_cut": "ONGOING"}


def build(source: Source) -> pd.DataFrame:
    """One record per subject of DM."""
    dm, doses, pc = source.dataset("dm"), source.dataset("ex"), source.dataset("pc")
    patients = source.results.patients.assign(
        USUBJID=[source.subject(p) for p in source.results.patients["patient_id"]]
    )
    rows = dm.merge(patients, on="USUBJID", how="left", validate="one_to_one")
    levels = {level: i + 1 for i, level in enumerate(dose_levels(source.results))}
    cells = doses[(doses["EXCAT"] == CELLS) & (doses["EXDOSE"] > 0)].groupby("USUBJID")
    first, last = cells["EXSTDTC"].first(), cells["EXSTDTC"].last()
    n, total = cells.size(), cells["EXDOSE"].sum()
    measured = set(pc.loc[pc["PCSTAT"] == "", "USUBJID"])
    who = rows["USUBJID"]
    start, end = who.map(first).fillna(""), who.map(last).fillna("")
    target = rows["dll3_high"].map({True: "Y", False: "N"}).fillna("")
    return rows[list(KEPT)].assign(
        TRT01P=rows["dose_level"],
        TRT01PN=[float(levels[x]) for x in rows["dose_level"]],
        TRT01A=rows["ACTARMCD"],
        TRT01AN=[float(levels[x]) if x else float("nan") for x in rows["ACTARMCD"]],
        TRTSDT=[sas_date(t) for t in start],
        TRTSDTM=[sas_datetime(t) for t in start],
        TRTEDT=[sas_date(t) for t in end],
        NINF=who.map(n).fillna(0),
        CUMDOSE=who.map(total).fillna(0),
        SAFFL=["Y" if x in n.index else "N" for x in who],
        PKFL=["Y" if x in n.index and x in measured else "N" for x in who],
        COHORT=[limited(plain(x), 40) for x in rows["cohort"]],
        TARGETFL=target,
        INDIC=[limited(plain(x), 80) for x in rows["indication"]],
        BESTRESP=[limited(plain(x), 40) for x in rows["best_response"]],
        WEIGHTBL=rows["weight_kg"],
        EOSSTT=[_ENDS.get(plain(x), "") for x in rows["status_end"]],
        DCSREAS=[
            {"death": "DEATH", "withdrawal": "WITHDRAWAL BY SUBJECT"}.get(plain(x), "") for x in rows["status_end"]
        ],
        DTHFL=rows["DTHFL"],
        DTHDT=[sas_date(t) for t in rows["DTHDTC"]],
    )


def _from_dm(name: str, label: str, kind: str = "text", length: int = 60, codelist: str = "") -> Variable:
    return Variable(name, label, kind, length, codelist, "Predecessor", method=f"DM.{name}")  # type: ignore[arg-type]


TREATMENT = (
    Variable("TRT01P", "Planned Treatment for Period 01", length=40, origin="Predecessor", method="DM.ARMCD"),
    Variable("TRT01PN", "Planned Treatment for Period 01 (N)", "integer", 8, method="Order of the dose levels"),
    Variable("TRT01A", "Actual Treatment for Period 01", length=40, origin="Predecessor", method="DM.ACTARMCD"),
    Variable("TRT01AN", "Actual Treatment for Period 01 (N)", "integer", 8, method="Order of the dose levels"),
)
FLAGS = (
    Variable(
        "SAFFL", "Safety Population Flag", length=1, codelist="NY", method="Y where an infusion of cells was given"
    ),
    Variable(
        "PKFL", "PK Population Flag", length=1, codelist="NY", method="Y where SAFFL is Y and a level was measured"
    ),
)

DATASET = Dataset(
    name="ADSL",
    label="Subject-Level Analysis Dataset",
    standard="adam",
    category="SUBJECT LEVEL ANALYSIS DATASET",
    structure="One record per subject",
    keys=("STUDYID", "USUBJID"),
    variables=(
        *identifiers(),
        _from_dm("SUBJID", "Subject Identifier for the Study", length=40),
        _from_dm("SITEID", "Study Site Identifier", length=20),
        _from_dm("AGE", "Age", "integer", 8),
        _from_dm("AGEU", "Age Units", length=10, codelist="AGEU"),
        _from_dm("SEX", "Sex", length=20, codelist="SEX"),
        _from_dm("RACE", "Race"),
        _from_dm("ETHNIC", "Ethnicity"),
        _from_dm("COUNTRY", "Country", length=3),
        _from_dm("ARM", "Description of Planned Arm"),
        _from_dm("ACTARM", "Description of Actual Arm"),
        *TREATMENT,
        Variable(
            "TRTSDT", "Date of First Exposure to Treatment", "sas_date", 8, method="First infusion of cells in EX"
        ),
        Variable("TRTSDTM", "Datetime of First Exposure to Treatment", "sas_datetime", 8, method="As TRTSDT"),
        Variable("TRTEDT", "Date of Last Exposure to Treatment", "sas_date", 8, method="Last infusion of cells in EX"),
        Variable("NINF", "Number of Infusions of Cells", "integer", 8, method="Records of EX with EXCAT CELL INFUSION"),
        Variable("CUMDOSE", "Cumulative Amount of Cells Given", "float", 8, method="Sum of EXDOSE over these records"),
        *FLAGS,
        Variable("COHORT", "Cohort", length=40, origin="Collected"),
        Variable("TARGETFL", "Target High Flag", length=1, codelist="NY", origin="Collected", method="dll3_high"),
        Variable("INDIC", "Indication", length=80, origin="Collected"),
        Variable("BESTRESP", "Best Overall Response", length=40, origin="Collected"),
        Variable("WEIGHTBL", "Baseline Weight (kg)", "float", 8, origin="Collected"),
        Variable("EOSSTT", "End of Study Status", length=20, method="From status_end of patients.csv"),
        Variable("DCSREAS", "Reason for Discontinuation from Study", length=40, method="From status_end"),
        _from_dm("DTHFL", "Death Flag", length=1, codelist="NY"),
        Variable("DTHDT", "Date of Death", "sas_date", 8, method="Date of DM.DTHDTC"),
    ),
    build=build,
)
