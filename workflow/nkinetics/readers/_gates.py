"""What flow cytometry exports have in common: gates in gates with their counts, and keywords of the cytometer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from nkinetics.readers._cells import Checked, Notation, danger, normalised

ALL_EVENTS = "All Events"
"""Target of a sample's total; FACSDiva calls it so, FlowJo gives it no name."""

NOT_COMPUTED = "the count was not computed when the file was saved: recalculate it there and save again"

_MAKES = (("attune", 1e-3, "nL"), ("accuri", 1e-3, "nL"), ("cytek", 1.0, "uL"), ("aurora", 1.0, "uL"))
"""Unit of $VOL: what $CYT holds, factor to uL. The standard says nL, and Cytek writes uL."""


def sample_name(text: str) -> str:
    r"""A sample's name without folders and the ending .fcs.

    Examples
    --------
    >>> sample_name("C:\\data\\P01 day 4.fcs"), sample_name("P01.d4")
    ('P01 day 4', 'P01.d4')
    """
    return re.sub(r"(?i)\.fcs$", "", re.split(r"[/\\]", text.strip())[-1]).strip()


def count(text: str, where: str, cells: Checked) -> dict[str, Any]:
    """A stored count: a number, or the reason why there is none (-1: not computed)."""
    if not text:
        return {"detection": "not_done", "remark": "no count in the export"}
    if text == "-1":
        return {"detection": "not_done", "remark": NOT_COMPUTED}
    value = cells.plain_number(where, text, "count")
    return {"detection": "failed"} if value is None else {"detection": "quantified", "value": value}


def check_nested(rows: Iterable[MutableMapping[str, Any]], parents: Mapping[int, int]) -> None:
    """Take the value from every gate that has more events than a gate around it: such counts are of two calculations.

    Parameters
    ----------
    rows : iterable of dict
        Raw rows with `source_row`, changed in place.
    parents : mapping of int to int
        `source_row` of the gate around each gate; a sample's total has none.
    """
    by_number = {row["source_row"]: row for row in rows}
    counts = {number: row["value"] for number, row in by_number.items() if row.get("detection") == "quantified"}
    for number, row in by_number.items():
        around = parents.get(number)
        while around is not None and around not in counts:
            around = parents.get(around)
        if number in counts and around is not None and counts[number] > counts[around]:
            outer = by_number[around]["target"]
            row.pop("value")
            row["detection"] = "failed"
            row["remark"] = (
                f"{counts[number]:.0f} events of {counts[around]:.0f} in {outer}: the counts do not belong together, "
                "recalculate them"
            )


def acquired(keywords: Mapping[str, str]) -> tuple[float | None, str]:
    """Volume acquired [uL] by the keywords of an FCS file, and how it was decided; None where they do not tell.

    Parameters
    ----------
    keywords : mapping
        By name without ``$``, lower case.

    Examples
    --------
    >>> acquired({"vol": "46000", "cyt": "4486521 Attune NxT Acoustic Focusing Cytometer"})
    (46.0, 'acquired 46 uL ($VOL 46000, in nL by $CYT Attune)')
    >>> acquired({"vol": "46000", "cyt": "FACSLyric"})
    (None, '$VOL 46000 is not used: its unit is not known for $CYT FACSLyric; give volume_ul in the sample manifest')
    >>> acquired({"cyt": "Cytek"})
    (None, '')
    """
    text, cytometer = keywords.get("vol", "").strip(), keywords.get("cyt", "").strip()
    if not text:
        return None, ""
    value = Notation(".").number(text, "amount")
    if value is None or not value > 0 or "," in text or " " in text:
        return None, "" if danger(text) else f"$VOL {text[:20]} is no volume"
    word = normalised(cytometer)
    for make, factor, unit in _MAKES:
        if make in word:
            return (
                value * factor,
                f"acquired {value * factor:g} uL ($VOL {text}, in {unit} by $CYT {make.capitalize()})",
            )
    shown = cytometer[:40] if cytometer and not danger(cytometer) else "of this file"
    return None, (
        f"$VOL {text} is not used: its unit is not known for $CYT {shown}; give volume_ul in the sample manifest"
    )
