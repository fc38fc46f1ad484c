"""SDTM Exposure: every infusion of cells and every dose of a cytokine, as given."""

from __future__ import annotations

import math

import pandas as pd

from nkinetics.cdisc._model import Dataset, Source, Variable, identifiers, iso_minutes, plain, shifted, study_day

CELLS, CYTOKINE = "CELL INFUSION", "CYTOKINE"
"""EXCAT of the two kinds of dose."""


def reference_name(infusion: int) -> str:
    """How an infusion is called in PCTPTREF, PPTPTREF, ATPTREF and EXSPID.

    Examples
    --------
    >>> reference_name(2)
    'INFUSION 2'
    """
    return f"INFUSION {infusion}"


def build(source: Source) -> pd.DataFrame:
    """One record per dose; times from the study's clock, or elapsed days added to the first infusion."""
    rows = []
    product = plain(source.context.settings.study.product) or "CELL PRODUCT"
    for dose in source.starts.to_dict("records"):
        amount = dose["given"] if not pd.isna(dose["given"]) else dose["planned"]
        rows.append(
            {
                "patient": str(dose["patient_id"]),
                "time": float(dose["time"]),
                "EXSPID": reference_name(int(dose["infusion"])),
                "EXTRT": product.upper(),
                "EXCAT": CELLS,
                "EXDOSE": float(amount),
                "EXDOSU": str(dose["unit"]) or source.context.settings.study.dose_unit,
                "EXDOSFRM": source.choices.dose_form,
                "EXROUTE": source.choices.route,
                "EXSTDTC": dose["started_at"],
                "EXADJ": _adjusted(amount, dose["planned"]),
            }
        )
    for dose in source.results.table("cytokines").to_dict("records"):
        rows.append(
            {
                "patient": str(dose["patient_id"]),
                "time": float(dose["time"]),
                "EXSPID": "",
                "EXTRT": str(dose["agent"]).upper(),
                "EXCAT": CYTOKINE,
                "EXDOSE": float(dose["dose"]),
                "EXDOSU": str(dose["unit"]) if not pd.isna(dose["dose"]) else "",
                "EXDOSFRM": source.choices.cytokine_form,
                "EXROUTE": source.choices.cytokine_route,
                "EXSTDTC": iso_minutes(dose["started_at"]),
                "EXADJ": "",
            }
        )
    frame = pd.DataFrame(rows)
    if not len(frame):
        return frame
    frame = frame.sort_values(["patient", "time", "EXCAT", "EXTRT"], kind="stable", ignore_index=True)
    firsts = {p: source.first_infusion(p) for p in frame["patient"].unique()}
    starts = [
        own or shifted(firsts[p], t)
        for own, p, t in zip(frame["EXSTDTC"], frame["patient"], frame["time"], strict=True)
    ]
    days = [study_day(d, firsts[p]) for d, p in zip(starts, frame["patient"], strict=True)]
    return frame.assign(
        STUDYID=source.study_id,
        DOMAIN="EX",
        USUBJID=[source.subject(p) for p in frame["patient"]],
        EXSEQ=frame.groupby("patient").cumcount() + 1,
        EXSTDTC=starts,
        # A dose of minutes: no end is recorded, and SDTM wants the start repeated.
        EXENDTC=starts,
        EXSTDY=days,
        EXENDY=days,
    )


def _adjusted(given: float, planned: float) -> str:
    """Why the dose differs from the plan, as far as the study says it; within 10 % is handling."""
    if pd.isna(given) or pd.isna(planned) or math.isclose(given, planned, rel_tol=0.1):
        return ""
    return f"GIVEN {100 * given / planned:.0f} % OF PLANNED"


DATASET = Dataset(
    name="EX",
    label="Exposure",
    standard="sdtm",
    category="INTERVENTIONS",
    structure="One record per dose per subject",
    keys=("STUDYID", "USUBJID", "EXSEQ"),
    variables=(
        *identifiers("EX"),
        Variable("EXSEQ", "Sequence Number", "integer", 8, required=True, method="Order of time within the subject"),
        Variable(
            "EXSPID",
            "Sponsor-Defined Identifier",
            length=40,
            origin="Assigned",
            method="Number of the infusion of cells",
        ),
        Variable("EXTRT", "Name of Treatment", length=80, origin="Collected", required=True),
        Variable("EXCAT", "Category of Treatment", length=20, origin="Assigned"),
        Variable("EXDOSE", "Dose", "float", 8, origin="Collected"),
        Variable("EXDOSU", "Dose Units", length=20, codelist="UNIT", origin="Collected"),
        Variable("EXDOSFRM", "Dose Form", length=40, codelist="FRM", origin="Assigned"),
        Variable("EXROUTE", "Route of Administration", length=40, codelist="ROUTE", origin="Assigned"),
        Variable("EXADJ", "Reason for Dose Adjustment", length=80, method="Given in percent of planned, beyond 10 %"),
        Variable("EXSTDTC", "Start Date/Time of Treatment", "datetime", 20, origin="Collected"),
        Variable("EXENDTC", "End Date/Time of Treatment", "datetime", 20, origin="Assigned", method="As EXSTDTC"),
        Variable("EXSTDY", "Study Day of Start of Treatment", "integer", 8, method="Day of RFSTDTC is 1, no day 0"),
        Variable("EXENDY", "Study Day of End of Treatment", "integer", 8, method="Day of RFSTDTC is 1, no day 0"),
    ),
    build=build,
)
