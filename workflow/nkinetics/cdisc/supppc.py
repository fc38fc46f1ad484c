"""SDTM Supplemental Qualifiers of PC: what it has no variable for - run, LOD, detection, count, why not analysed."""

from __future__ import annotations

import pandas as pd

from nkinetics.cdisc import _supp
from nkinetics.cdisc._model import Dataset, Source, number_text

QUALIFIERS = {
    "PCRUNID": ("Assay Run", "COLLECTED"),
    "PCLOD": ("Limit of Detection", "COLLECTED"),
    "PCDETECT": ("Analyte Detected", "DERIVED"),
    "PCNMOL": ("Molecules, Partitions or Events Counted", "COLLECTED"),
    "PCNREP": ("Replicates Used", "DERIVED"),
    "PCCVPCT": ("Coefficient of Variation of Replicates", "DERIVED"),
    "PCXFL": ("Excluded from Analysis Flag", "DERIVED"),
    "PCXRS": ("Reason for Exclusion from Analysis", "DERIVED"),
}
"""QLABEL and QORIG of each QNAM."""


def build(source: Source) -> pd.DataFrame:
    """One record per qualifier that has a value."""
    pc = source.dataset("pc")
    sequence = dict(zip(pc["PCSPID"], zip(pc["USUBJID"], pc["PCSEQ"], pc["PCSTAT"], strict=True), strict=True))
    rows = source.results.table("observations")
    made = []
    for row in rows[rows["observation_id"].isin(list(sequence))].to_dict("records"):
        who, number, state = sequence[row["observation_id"]]
        seen = row["detected"]
        if pd.isna(seen):
            seen = {"quantified": True, "above_uloq": True, "not_detected": False}.get(str(row["status"]))
        excluded = not state and not bool(row["reportable"])
        values = {
            "PCRUNID": str(row["run_id"]),
            "PCLOD": number_text(row["lod"]),
            "PCDETECT": "" if seen is None or state else "Y" if seen else "N",
            "PCNMOL": number_text(row["n_molecules"]),
            "PCNREP": "" if pd.isna(row["n_replicates"]) else str(int(row["n_replicates"])),
            "PCCVPCT": number_text(row["cv_pct"]),
            "PCXFL": "Y" if excluded else "",
            "PCXRS": str(row["exclusion_reason"]) if excluded else "",
        }
        made += _supp.records(source, "PC", who, number, QUALIFIERS, values)
    return pd.DataFrame(made, columns=[v.name for v in _supp.VARIABLES])


DATASET = Dataset(
    name="SUPPPC",
    label="Supplemental Qualifiers for PC",
    standard="sdtm",
    category="RELATIONSHIP",
    structure="One record per qualifier per PC record",
    keys=_supp.KEYS,
    variables=_supp.VARIABLES,
    build=build,
    value_level={"QVAL": "QNAM"},
)
