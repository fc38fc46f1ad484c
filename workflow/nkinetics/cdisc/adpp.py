"""ADaM PK parameters: the records of PP, and the values by the amount given, which PP cannot hold."""

from __future__ import annotations

import math

import pandas as pd

from nkinetics.cdisc import _terms, adsl, pp, supppp
from nkinetics.cdisc._model import Dataset, Source, Variable, duration, identifiers, limited, number_text
from nkinetics.cdisc.ex import reference_name
from nkinetics.nca.parameters import BY_NAME
from nkinetics.tables._nca import OUTSIDE


def build(source: Source) -> pd.DataFrame:
    """One record per record of PP, and one per value by the amount given."""
    rows = pp.applicable(source)
    if not len(rows):
        return rows
    people = source.dataset("adsl").set_index("USUBJID")
    parents = source.dataset("pp")
    number = {
        (r["USUBJID"], r["PPGRPID"], r["PPTESTCD"]): r["PPSEQ"]
        for r in parents[["USUBJID", "PPGRPID", "PPTESTCD", "PPSEQ"]].to_dict("records")
    }
    order = {name: i for i, name in enumerate(BY_NAME)}
    made = []
    for row in rows.to_dict("records"):
        subject, code, window = source.subject(str(row["patient_id"])), str(row["pptestcd"]), str(row["window"])
        sequence = number.get((subject, pp.group_name(row), code), math.nan)
        own, missing, reason = not math.isnan(sequence), pd.isna(row["value"]), str(row["reason"])
        flagged = not missing and supppp.outside(reason)
        infusion = pp.infusion_of(window)
        unit = f" ({row['term']})" if row["term"] else ""
        made.append(
            {
                **{v.name: people.at[subject, v.name] for v in (*adsl.TREATMENT, *adsl.FLAGS)},
                "STUDYID": source.study_id,
                "USUBJID": subject,
                "PARAMCD": code,
                "PARAM": limited(f"{_terms.parameter_name(code)}{unit}"),
                "PARCAT1": _terms.assay_category(str(row["analyte"]), str(row["assay"])),
                "PARCAT2": pp.window_name(window),
                "PPSPEC": _terms.specimen_term(str(row["specimen"])),
                "AVAL": math.nan if missing else float(number_text(float(row["converted"]))),
                "AVALC": "" if missing else number_text(float(row["converted"])),
                "AVALU": "" if missing else row["term"],
                "ATPTREF": reference_name(infusion),
                "AWINDOW": window.upper(),
                "AWLO": duration(float(row["window_start"])),
                "AWHI": duration(float(row["window_end"])),
                "NPOINTS": row["n_points"] if not missing else math.nan,
                "ANL01FL": "" if missing or flagged else "Y",
                "PKSUMXFL": "Y" if flagged else "",
                "PKSUMXRS": limited(reason[reason.index(OUTSIDE) :]) if flagged else "",
                "AREASND": limited(reason) if missing else "",
                "SRCDOM": "PP" if own else "",
                "SRCVAR": "PPSTRESN" if own else "",
                "SRCSEQ": sequence,
                "_order": order[str(row["parameter"])],
            }
        )
    frame = pd.DataFrame(made).sort_values(
        ["USUBJID", "PARCAT1", "PPSPEC", "PARCAT2", "AWINDOW", "_order"], kind="stable"
    )
    return frame.assign(ASEQ=frame.groupby("USUBJID").cumcount() + 1).reset_index(drop=True)


DATASET = Dataset(
    name="ADPP",
    label="PK Parameter Analysis Dataset",
    standard="adam",
    category="BASIC DATA STRUCTURE",
    structure="One record per parameter, window and assay per subject",
    keys=("STUDYID", "USUBJID", "ASEQ"),
    variables=(
        *identifiers(),
        Variable("ASEQ", "Analysis Sequence Number", "integer", 8, required=True, method="Order within the subject"),
        *adsl.TREATMENT,
        *adsl.FLAGS,
        Variable("PARAMCD", "Parameter Code", length=8, codelist="PKPARMCD", origin="Assigned", required=True),
        Variable("PARAM", "Parameter", length=120, required=True, method="PPTEST with the unit"),
        Variable("PARCAT1", "Parameter Category 1", length=80, origin="Assigned", method="As PPCAT"),
        Variable("PARCAT2", "Parameter Category 2", length=40, origin="Assigned", method="As PPSCAT"),
        Variable("PPSPEC", "Specimen Material Type", length=60, codelist="SPECTYPE", origin="Collected"),
        Variable("AVAL", "Analysis Value", "float", 8, method="PP.PPSTRESN; by the amount given: value of nca.csv"),
        Variable("AVALC", "Analysis Value (C)", length=40, method="As AVAL"),
        Variable("AVALU", "Analysis Value Unit", length=60, codelist="PKUNIT", origin="Assigned"),
        Variable("ATPTREF", "Analysis Timepoint Reference", length=40, method="As PPTPTREF"),
        Variable("AWINDOW", "Analysis Window", length=20, method="Window of nca.csv"),
        Variable(
            "AWLO", "Analysis Window Beginning Timepoint", length=20, method="Start from the first infusion, ISO 8601"
        ),
        Variable("AWHI", "Analysis Window Ending Timepoint", length=20, method="End from the first infusion, ISO 8601"),
        Variable("NPOINTS", "Samples that Made the Value", "integer", 8, method="n_points of nca.csv"),
        Variable("ANL01FL", "Analysis Flag 01", length=1, codelist="NY", method="Y where the value enters summaries"),
        Variable("PKSUMXFL", "Exclude from PK Summaries Flag", length=1, codelist="NY", method="Outside acceptance"),
        Variable("PKSUMXRS", "Reason for Exclusion from PK Summaries", method="From the reason of nca.csv"),
        Variable("AREASND", "Reason Value is Missing", method="Reason of nca.csv"),
        Variable("SRCDOM", "Source Data", length=8, origin="Assigned", method="Empty by the amount given: not in PP"),
        Variable("SRCVAR", "Source Variable", length=8, origin="Assigned"),
        Variable("SRCSEQ", "Source Sequence Number", "integer", 8, origin="Predecessor", method="PP.PPSEQ"),
    ),
    build=build,
    value_level={"AVAL": "PARAMCD"},
)
