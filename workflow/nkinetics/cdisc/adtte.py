"""ADaM time to event: persistence of the cells, at the LLOQ and at the LOD, per assay."""

from __future__ import annotations

import math

import pandas as pd

from nkinetics.cdisc import _terms, adsl
from nkinetics.cdisc._model import Dataset, Source, Variable, identifiers, limited, sas_date, shifted
from nkinetics.nca.parameters import BY_NAME
from nkinetics.population.persistence import LIMITS

EVENTS = {"lloq": "Below LLOQ", "lod": "Not detected"}
_CENSORED = {
    "death": "Death",
    "withdrawal": "Withdrawal",
    "data_cut": "Data cut",
    "ongoing": "Last sample, follow-up ongoing",
    "unconfirmed": "Loss not confirmed by a further sample",
}


def build(source: Source) -> pd.DataFrame:
    """One record per patient, assay, specimen and limit; a patient without any result has one that says so."""
    rows = source.results.table("persistence_patients")
    if not len(rows):
        return rows
    people = source.dataset("adsl").set_index("USUBJID")
    parents = source.dataset("pp")
    parents = parents[parents["PPSCAT"] == "OVERALL"]
    number = {
        (r["USUBJID"], r["PPCAT"], r["PPSPEC"], r["PPTESTCD"]): (r["PPSEQ"], r["PPSTAT"])
        for r in parents.to_dict("records")
    }
    observed = source.results.table("observations")
    named = observed[observed["analyte"] != ""].drop_duplicates(["assay", "specimen"])
    analyte = {(r["assay"], r["specimen"]): str(r["analyte"]) for r in named.to_dict("records")}
    made = []
    for row in rows.to_dict("records"):
        subject, limit = source.subject(str(row["patient_id"])), str(row["limit"])
        category = _terms.assay_category(analyte.get((row["assay"], row["specimen"]), ""), str(row["assay"]))
        specimen = _terms.specimen_term(str(row["specimen"]))
        lost = row["censoring"] in ("interval", "left")
        unknown = pd.isna(row["time"])
        codes = [BY_NAME[name].code for name in reversed(LIMITS[limit])]
        key = (subject, category, specimen)
        # The loss itself where it was seen, else the last presence, which the censoring rests on.
        code = codes[0] if lost else codes[1]
        sequence = number.get((*key, code), (math.nan, ""))[0]
        start = source.first_infusion(str(row["patient_id"]))
        made.append(
            {
                **{v.name: people.at[subject, v.name] for v in (*adsl.TREATMENT, *adsl.FLAGS)},
                "STUDYID": source.study_id,
                "USUBJID": subject,
                "PARAMCD": codes[0],
                "PARAM": f"{_terms.parameter_name(codes[0])} (d)",
                "PARCAT1": category,
                "PPSPEC": specimen,
                "AVAL": row["time"],
                "AVALU": "" if unknown else "d",
                "CNSR": 2 if unknown else 0 if lost else 1,
                "EVNTDESC": "" if unknown else EVENTS[limit] if lost else _censored(str(row["censored_by"])),
                "CNSDTDSC": "" if lost else limited(str(row["reason"])),
                "STARTDT": sas_date(start),
                "ADT": sas_date(shifted(start, float(row["time"]))) if not unknown else math.nan,
                "LASTPRES": row["last_present"],
                "FRSTLOST": row["lost"],
                "CNSTYPE": str(row["censoring"]).upper(),
                "SRCDOM": "" if math.isnan(sequence) else "PP",
                "SRCVAR": "" if math.isnan(sequence) else "PPSTRESN",
                "SRCSEQ": sequence,
            }
        )
    frame = pd.DataFrame(made).sort_values(["USUBJID", "PARCAT1", "PPSPEC", "PARAMCD"], kind="stable")
    return frame.assign(ASEQ=frame.groupby("USUBJID").cumcount() + 1).reset_index(drop=True)


def _censored(by: str) -> str:
    return _CENSORED.get(by, "Last sample")


DATASET = Dataset(
    name="ADTTE",
    label="Persistence, Time to Event Analysis",
    standard="adam",
    category="BASIC DATA STRUCTURE",
    structure="One record per limit and assay per subject",
    keys=("STUDYID", "USUBJID", "PARCAT1", "PPSPEC", "PARAMCD"),
    variables=(
        *identifiers(),
        Variable("ASEQ", "Analysis Sequence Number", "integer", 8, required=True, method="Order within the subject"),
        *adsl.TREATMENT,
        *adsl.FLAGS,
        Variable("PARAMCD", "Parameter Code", length=8, codelist="PKPARMCD", origin="Assigned", required=True),
        Variable("PARAM", "Parameter", length=120, origin="Assigned", required=True),
        Variable("PARCAT1", "Parameter Category 1", length=80, origin="Assigned", method="Analyte and assay"),
        Variable("PPSPEC", "Specimen Material Type", length=60, codelist="SPECTYPE", origin="Collected"),
        Variable("AVAL", "Analysis Value", "float", 8, method="time of persistence_patients.csv"),
        Variable("AVALU", "Analysis Value Unit", length=4, origin="Assigned"),
        Variable("CNSR", "Censor", "integer", 8, codelist="CNSR", required=True, method="From censoring and time"),
        Variable("EVNTDESC", "Event or Censoring Description", length=60, method="From the limit or censored_by"),
        Variable("CNSDTDSC", "Censor Date Description", method="reason of persistence_patients.csv"),
        Variable("STARTDT", "Time to Event Origin Date for Subject", "sas_date", 8, method="First infusion of cells"),
        Variable("ADT", "Analysis Date", "sas_date", 8, method="STARTDT plus AVAL"),
        Variable("LASTPRES", "Last Presence (d)", "float", 8, method="last_present of persistence_patients.csv"),
        Variable("FRSTLOST", "First Sample of the Loss (d)", "float", 8, method="lost of persistence_patients.csv"),
        Variable("CNSTYPE", "Kind of Censoring", length=10, method="INTERVAL, LEFT, RIGHT or NONE"),
        Variable("SRCDOM", "Source Data", length=8, origin="Assigned"),
        Variable("SRCVAR", "Source Variable", length=8, origin="Assigned"),
        Variable("SRCSEQ", "Source Sequence Number", "integer", 8, origin="Predecessor", method="PP.PPSEQ"),
    ),
    build=build,
    subclass="TIME-TO-EVENT",
)
