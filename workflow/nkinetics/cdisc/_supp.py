"""What every data set of supplemental qualifiers has in common."""

from __future__ import annotations

from collections.abc import Mapping

from nkinetics.cdisc._model import Source, Variable, limited

KEYS = ("STUDYID", "RDOMAIN", "USUBJID", "IDVAR", "IDVARVAL", "QNAM")

VARIABLES = (
    Variable("STUDYID", "Study Identifier", length=40, origin="Protocol", required=True),
    Variable("RDOMAIN", "Related Domain Abbreviation", length=2, origin="Assigned", required=True),
    Variable("USUBJID", "Unique Subject Identifier", length=81, required=True),
    Variable("IDVAR", "Identifying Variable", length=8, origin="Assigned"),
    Variable("IDVARVAL", "Identifying Variable Value", length=40, origin="Assigned"),
    Variable("QNAM", "Qualifier Variable Name", length=8, origin="Assigned", required=True),
    Variable("QLABEL", "Qualifier Variable Label", length=40, origin="Assigned", required=True),
    Variable("QVAL", "Data Value", required=True),
    Variable("QORIG", "Origin", length=20, codelist="QORIG", origin="Assigned", required=True),
    Variable("QEVAL", "Evaluator", length=40, origin="Assigned"),
)


def records(
    source: Source,
    domain: str,
    subject: str,
    number: float,
    qualifiers: Mapping[str, tuple[str, str]],
    values: Mapping[str, str],
) -> list[dict[str, str]]:
    """Records of one parent: a qualifier without a value has none."""
    return [
        {
            "STUDYID": source.study_id,
            "RDOMAIN": domain,
            "USUBJID": subject,
            "IDVAR": f"{domain}SEQ",
            "IDVARVAL": str(int(number)),
            "QNAM": name,
            "QLABEL": qualifiers[name][0],
            "QVAL": limited(value),
            "QORIG": qualifiers[name][1],
            "QEVAL": "",
        }
        for name, value in values.items()
        if value
    ]
