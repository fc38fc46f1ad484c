"""SDTM Related Records: which samples made which parameters, from the points that the analysis used."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from nkinetics.cdisc import pp
from nkinetics.cdisc._model import Dataset, Source, Variable
from nkinetics.cdisc.pc import MEASURED, timed

USED: dict[str, str] = {"auc": "A", "lambda_z": "L"}
"""Last letter of PPGRPID by how nca_points.csv says a sample was used."""


def build(source: Source) -> pd.DataFrame:
    """For each group of parameters one record of PP and one per sample of PC that made them.

    A group without any sample (a patient without data) has no relation.
    """
    pc, groups = source.dataset("pc"), source.dataset("pp")
    known = set(zip(groups["USUBJID"], groups["PPGRPID"], strict=True))
    number = dict(zip(pc["PCSPID"], pc["PCSEQ"], strict=True))
    points = source.results.table("nca_points")
    used = [(pp.group(row, USED[row["used_in"]]), row) for row in points.to_dict("records")]
    made: dict[tuple[str, str], list[int]] = {}
    for group, row in [*used, *((pp.group(row, "S"), row) for row in _in_windows(source))]:
        key = (source.subject(str(row["patient_id"])), group)
        if key in known and row["observation_id"] in number:
            made.setdefault(key, []).append(int(number[row["observation_id"]]))
    records = []
    for subject, group in sorted(made):
        common = {"STUDYID": source.study_id, "USUBJID": subject, "RELTYPE": "", "RELID": group}
        records.append({**common, "RDOMAIN": "PP", "IDVAR": "PPGRPID", "IDVARVAL": group})
        for sequence in sorted(set(made[(subject, group)])):
            records.append({**common, "RDOMAIN": "PC", "IDVAR": "PCSEQ", "IDVARVAL": str(sequence)})
    return pd.DataFrame(records, columns=[v.name for v in DATASET.variables])


def _in_windows(source: Source) -> Iterator[dict[str, object]]:
    """Measured, analysed samples of each window; the pre-dose sample of an infusion lies in its window too."""
    rows = timed(source)
    rows = rows[rows["reportable"] & rows["status"].isin(MEASURED)]
    profile = ["patient_id", "assay", "specimen"]
    windows = source.results.table("nca").drop_duplicates([*profile, "window"])
    for row in windows[[*profile, "window", "window_start", "window_end"]].merge(rows, on=profile).to_dict("records"):
        window = str(row["window"])
        end = math.inf if pd.isna(row["window_end"]) else float(row["window_end"])
        first = row["predose"] is True and row["reference"] == pp.infusion_of(window)
        if first or float(row["window_start"]) <= float(row["time_actual"]) <= end:
            yield row


DATASET = Dataset(
    name="RELREC",
    label="Related Records",
    standard="sdtm",
    category="RELATIONSHIP",
    structure="One record per related record or group",
    keys=("STUDYID", "USUBJID", "RELID", "RDOMAIN", "IDVAR", "IDVARVAL"),
    variables=(
        Variable("STUDYID", "Study Identifier", length=40, origin="Protocol", required=True),
        Variable("RDOMAIN", "Related Domain Abbreviation", length=2, origin="Assigned", required=True),
        Variable("USUBJID", "Unique Subject Identifier", length=81, required=True),
        Variable("IDVAR", "Identifying Variable", length=8, origin="Assigned", required=True),
        Variable("IDVARVAL", "Identifying Variable Value", length=80, required=True),
        Variable("RELTYPE", "Relationship Type", length=4, origin="Assigned"),
        Variable("RELID", "Relationship Identifier", length=80, required=True),
    ),
    build=build,
)
