"""SDTM Demographics, from what the study gives: who was treated, when, at which dose level."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from nkinetics.cdisc._model import Dataset, Source, Variable, identifiers, iso_minutes, plain, shifted
from nkinetics.cdisc.ex import CELLS

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN_SEX = "U"
"""SEX where patients.csv has no column sex."""

_FURTHER: Mapping[str, str] = {
    "AGE": "age",
    "RACE": "race",
    "ETHNIC": "ethnic",
    "SITEID": "site",
    "COUNTRY": "country",
}
"""Columns that patients.csv may have beside its own, by variable."""


def exposure_of(source: Source, patient_id: str) -> pd.DataFrame:
    """Doses of one patient in EX, in order of time."""
    rows = source.dataset("ex")
    return rows[(rows["USUBJID"] == source.subject(patient_id)) & (rows["EXDOSE"] > 0)]


def build(source: Source) -> pd.DataFrame:
    """One record per patient of the study, treated or not."""
    events = source.results.table("events")
    rows = []
    for patient in source.results.patients.to_dict("records"):
        own = str(patient["patient_id"])
        given = exposure_of(source, own)
        cells = given[given["EXCAT"] == CELLS]
        times = sorted(t for t in given["EXSTDTC"] if t)
        first, start = source.first_infusion(own) if len(cells) else "", times[0] if times else ""
        died = events[(events["patient_id"] == own) & (events["event"] == "death")]
        dead = patient["status_end"] == "death" or len(died) > 0
        on = iso_minutes(died["started_at"].iloc[0]) if len(died) else ""
        if dead and not on:
            on = shifted(first, float(patient["time_end"]))
        left = shifted(first, float(patient["time_end"])) if patient["status_end"] in ("death", "withdrawal") else ""
        further = {name: plain(patient.get(column)) for name, column in _FURTHER.items()}
        age = pd.to_numeric(pd.Series([further.pop("AGE")]), errors="coerce").iloc[0]
        sex = plain(patient.get("sex")).upper()[:1]
        treated = len(cells) > 0
        rows.append(
            {
                "STUDYID": source.study_id,
                "DOMAIN": "DM",
                "USUBJID": source.subject(own),
                "SUBJID": own,
                "RFSTDTC": first,
                "RFENDTC": times[-1] if times else "",
                "RFXSTDTC": start,
                "RFXENDTC": times[-1] if times else "",
                "RFPENDTC": left,
                "DTHDTC": on,
                "DTHFL": "Y" if dead else "",
                "AGE": age,
                "AGEU": "" if math.isnan(age) else "YEARS",
                "SEX": sex or UNKNOWN_SEX,
                "RACE": further["RACE"].upper(),
                "ETHNIC": further["ETHNIC"].upper(),
                "SITEID": further["SITEID"] or source.choices.site,
                "ARMCD": patient["dose_level"],
                "ARM": f"Dose level {patient['dose_level']}",
                "ACTARMCD": patient["dose_level"] if treated else "",
                "ACTARM": f"Dose level {patient['dose_level']}" if treated else "",
                "ARMNRS": "" if treated else "ASSIGNED, NOT TREATED",
                "COUNTRY": (further["COUNTRY"] or source.choices.country).upper(),
            }
        )
    return pd.DataFrame(rows)


_LAST = "Date and time of the last dose in EX"

DATASET = Dataset(
    name="DM",
    label="Demographics",
    standard="sdtm",
    category="SPECIAL PURPOSE",
    structure="One record per subject",
    keys=("STUDYID", "USUBJID"),
    variables=(
        *identifiers("DM"),
        Variable("SUBJID", "Subject Identifier for the Study", length=40, origin="Collected", required=True),
        Variable(
            "RFSTDTC",
            "Subject Reference Start Date/Time",
            "datetime",
            20,
            method="Start of the first infusion of cells in EX",
        ),
        Variable("RFENDTC", "Subject Reference End Date/Time", "datetime", 20, method=_LAST),
        Variable(
            "RFXSTDTC",
            "Date/Time of First Study Treatment",
            "datetime",
            20,
            method="Date and time of the first dose in EX",
        ),
        Variable("RFXENDTC", "Date/Time of Last Study Treatment", "datetime", 20, method=_LAST),
        Variable(
            "RFPENDTC",
            "Date/Time of End of Participation",
            "datetime",
            20,
            method="First infusion plus time_end of patients.csv, where follow-up ended by death or withdrawal",
        ),
        Variable("DTHDTC", "Date/Time of Death", "datetime", 20, origin="Collected"),
        Variable("DTHFL", "Subject Death Flag", length=1, codelist="NY", method="Y where the patient died"),
        Variable("SITEID", "Study Site Identifier", length=20, origin="Assigned", required=True),
        Variable("AGE", "Age", "integer", 8, origin="Collected"),
        Variable("AGEU", "Age Units", length=10, codelist="AGEU", origin="Assigned"),
        Variable("SEX", "Sex", length=20, codelist="SEX", origin="Collected", required=True),
        Variable("RACE", "Race", length=60, origin="Collected"),
        Variable("ETHNIC", "Ethnicity", length=60, origin="Collected"),
        Variable("ARMCD", "Planned Arm Code", length=20, origin="Assigned"),
        Variable("ARM", "Description of Planned Arm", length=60, origin="Assigned"),
        Variable("ACTARMCD", "Actual Arm Code", length=20, origin="Assigned"),
        Variable("ACTARM", "Description of Actual Arm", length=60, origin="Assigned"),
        Variable("ARMNRS", "Reason Arm and/or Actual Arm is Null", length=60, codelist="ARMNULRS", origin="Assigned"),
        Variable("COUNTRY", "Country", length=3, origin="Assigned"),
    ),
    build=build,
)
