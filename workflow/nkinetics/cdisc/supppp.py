"""SDTM Supplemental Qualifiers of PP: points used, what to mind beside a value, exclusion from summaries."""

from __future__ import annotations

import pandas as pd

from nkinetics.cdisc import _supp, pp
from nkinetics.cdisc._model import Dataset, Source
from nkinetics.tables._nca import OUTSIDE

QUALIFIERS = {
    "PPNPT": ("Samples that Made the Value", "DERIVED"),
    "PPNOTE": ("What to Mind Beside the Value", "DERIVED"),
    "PPSUMXFL": ("Excluded from Summaries Flag", "DERIVED"),
    "PPSUMXRS": ("Reason for Exclusion from Summaries", "DERIVED"),
}
"""QLABEL and QORIG of each QNAM."""


def keyed(source: Source) -> pd.DataFrame:
    """Rows of nca.csv that stand in PP, with USUBJID and PPSEQ."""
    rows = pp.applicable(source)
    rows = rows[~pp.by_amount(rows)]
    rows = rows.assign(
        USUBJID=[source.subject(p) for p in rows["patient_id"]],
        PPGRPID=[pp.group_name(r) for r in rows[["assay", "specimen", "window", "parameter"]].to_dict("records")],
        PPTESTCD=rows["pptestcd"],
    )
    return rows.merge(
        source.dataset("pp")[["USUBJID", "PPGRPID", "PPTESTCD", "PPSEQ"]],
        on=["USUBJID", "PPGRPID", "PPTESTCD"],
        how="left",
        validate="one_to_one",
    )


def outside(reason: str) -> bool:
    """The value lies outside the acceptance of the terminal slope and is left out of summaries."""
    return OUTSIDE in reason


def build(source: Source) -> pd.DataFrame:
    """One record per qualifier that has a value."""
    made = []
    for row in keyed(source).to_dict("records"):
        reason, value = str(row["reason"]), not pd.isna(row["value"])
        flagged = value and outside(reason)
        values = {
            "PPNPT": str(int(row["n_points"])) if value and not pd.isna(row["n_points"]) else "",
            "PPNOTE": reason if value else "",
            "PPSUMXFL": "Y" if flagged else "",
            "PPSUMXRS": reason[reason.index(OUTSIDE) :] if flagged else "",
        }
        made += _supp.records(source, "PP", str(row["USUBJID"]), float(row["PPSEQ"]), QUALIFIERS, values)
    return pd.DataFrame(made, columns=[v.name for v in _supp.VARIABLES])


DATASET = Dataset(
    name="SUPPPP",
    label="Supplemental Qualifiers for PP",
    standard="sdtm",
    category="RELATIONSHIP",
    structure="One record per qualifier per PP record",
    keys=_supp.KEYS,
    variables=_supp.VARIABLES,
    build=build,
    value_level={"QVAL": "QNAM"},
)
