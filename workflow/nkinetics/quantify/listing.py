"""Finished levels of a listing: each row already is a level, or says why it is none."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from nkinetics.columns import LEVEL_UNITS
from nkinetics.errors import Problem
from nkinetics.quantify.levels import Behind, Quantified, outcome, unusable
from nkinetics.quantify.wells import Wells
from nkinetics.store import records

STATUS_OF: Mapping[str, str] = {
    "quantified": "quantified",
    "below": "blq",
    "not_detected": "not_detected",
    "above": "above_uloq",
    "not_done": "not_done",
    "failed": "failed",
}
"""Status by what the reader made of the cell's text."""


def quantify(raw: pd.DataFrame, analytes: Mapping[str, str]) -> tuple[Quantified, list[Problem]]:
    """Levels of a listing, one per row.

    Parameters
    ----------
    raw : DataFrame
        `nkinetics.columns.RAW` rows with measure level; `sample_id`, `assay` and `level_unit` are filled.
    analytes : mapping of str to str
        Analyte by assay.

    Returns
    -------
    quantified : Quantified
        A level below its LLOQ is blq whatever number it carries. A censored row without an LLOQ of its own has it in
        the level's place, as Monolix writes it.
    problems : list of Problem
        Negative levels, rows below an LLOQ that nobody gives, unknown units.
    """
    set_aside = unusable(raw)
    problems: list[Problem] = []
    levels: list[dict[str, object]] = []
    sources: list[Behind] = []
    wells = Wells.of(raw)
    for place, (label, row) in enumerate(zip(raw.index, records(raw), strict=True)):
        if label in set_aside:
            continue
        status, value, limits, reason, wrong = _read(row)
        lod, lloq, uloq = limits
        if wrong is not None:
            problems.append(wrong)
            continue
        key = {"assay": row["assay"], "run_id": row["run_id"], "sample_id": row["sample_id"]}
        levels.append(
            {
                **key,
                "analyte": row.get("analyte") or analytes.get(row["assay"], ""),
                "level": value if status == "quantified" else math.nan,
                "level_unit": row["level_unit"],
                "lod": lod,
                "lloq": lloq,
                "uloq": uloq,
                "status": status,
                "exclusion_reason": reason,
                "source_sha256": row["source_sha256"],
                "source_rows": str(row["source_row"]),
            }
        )
        sources.append(Behind(row["assay"], row["run_id"], row["sample_id"], "replicate", wells.row(place)))
    return outcome(levels, [], sources, set_aside), problems


def _read(
    row: Mapping[str, object],
) -> tuple[str, float, tuple[float, float, float], str, Problem | None]:
    """Status, level, limits (LOD, LLOQ, ULOQ) and reason of one row, or what is wrong with it."""
    value, lod, lloq, uloq = (_number(row[c]) for c in ("value", "lod", "lloq", "uloq"))
    where = (str(row["source_file"]), int(str(row["source_row"])))
    text = repr(str(row["value_raw"]))
    status = STATUS_OF.get(str(row["detection"]), "quantified" if not math.isnan(value) else "failed")
    wrong = None
    if status == "blq" and math.isnan(lloq):
        lloq = value
    if status == "quantified" and value < lloq:
        status = "blq"
    if row["level_unit"] not in LEVEL_UNITS:
        wrong = Problem(
            *where, "level_unit", repr(str(row["level_unit"])), f"one of {', '.join(LEVEL_UNITS)}", "give the unit"
        )
    elif value < 0:
        wrong = Problem(*where, "level", text, "a level of 0 or more", "correct the level, or give its status")
    elif (
        (status == "blq" and not lloq > 0)
        or (status == "not_detected" and not (lloq > 0 or lod > 0))
        or (status == "quantified" and value == 0)
    ):
        wrong = Problem(
            *where,
            "lloq",
            f"no LLOQ for the level {text}",
            "the LLOQ of a row that is not quantified",
            "map a column lloq, or give lloq in the generic section of the configuration",
        )
    reason = ""
    if status == "above_uloq" and math.isnan(uloq):
        status, reason = "failed", f"above the ULOQ ({row['value_raw']}), which the listing does not give"
    elif status in ("failed", "not_done"):
        reason = str(row["remark"]) or (f"the listing says {text}" if row["value_raw"] else "the listing has no value")
    return status, value, (lod, lloq, uloq), reason, wrong


def _number(value: object) -> float:
    return math.nan if value is None or value is pd.NA else float(value)  # type: ignore[arg-type]
