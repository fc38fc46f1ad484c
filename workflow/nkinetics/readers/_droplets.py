"""What Bio-Rad's digital PCR tables share: droplets that must add up, two meanings of `No Call`, merged wells.

The well is what was counted: droplets accepted, positive and negative. A printed concentration is kept beside them, to
be checked against them, never averaged. `No Call` has two meanings that only the droplets tell apart: none accepted,
the well failed; thousands accepted and none positive, a true negative. A merged well (M01, M02, ...) repeats the
droplets of single wells and is set aside, unless its single wells are not in the export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nkinetics.readers._cells import Checked, detection
from nkinetics.readers._plate import joined

SATURATED = 1_000_000.0
"""Printed in place of a concentration where no droplet is negative."""

_SINGLE = re.compile(r"([A-Ha-h])(0?[1-9]|1[0-2])")
_MERGED = re.compile(r"[Mm]\d{1,3}", re.ASCII)
_SEPARATOR = re.compile(r"[\s,;()]+")


class Counted(NamedTuple):
    """The cells that a well was counted into, or the columns that hold them."""

    concentration: str
    accepted: str
    positives: str
    negatives: str


def single(text: str) -> str:
    """A single well as A1, empty where the text is none (as M01).

    Examples
    --------
    >>> single("A01"), single("h12"), single("M01"), single("A13")
    ('A1', 'H12', '', '')
    """
    match = _SINGLE.fullmatch(text)
    return f"{match.group(1).upper()}{int(match.group(2))}" if match else ""


def well_of(text: str, number: int, cells: Checked) -> str:
    """A single well as A1 or a merged one as M01; a problem otherwise."""
    if not (single(text) or _MERGED.fullmatch(text)):
        found = repr(str(text)) if text else "an empty cell"
        cells.problem(number, "Well", found, "a well, as A01, or M01", "export again")
    return single(text) or text.upper()


def result(number: int, columns: Counted, texts: Counted, cells: Checked) -> dict[str, Any]:
    """Droplets and printed concentration of a row, and what they say, as columns of a raw row.

    Counts that do not add up, a concentration without counts, and a cell that is neither number nor word are problems.
    """
    counts = texts[1:]
    if not any(counts):
        if cells.notation.number(texts.concentration) is not None:
            expected = "the droplets behind the concentration"
            cells.problem(number, columns.accepted, "an empty cell", expected, "export again")
        return {"detection": "failed", "remark": "no droplets in the export"}
    accepted, positives, negatives = (
        cells.number(number, name, text, "count") for name, text in zip(columns[1:], counts, strict=True)
    )
    if accepted is None or positives is None or negatives is None:
        return {}
    if positives + negatives != accepted:
        found = f"{positives:.0f} positives and {negatives:.0f} negatives of {accepted:.0f} accepted droplets"
        cells.problem(number, columns.accepted, found, "counts that add up", "export the file again")
    said = _detected(number, columns.concentration, texts.concentration, accepted, positives, negatives, cells)
    return {"n_partitions": int(accepted), "n_positive": int(positives), **said}


def _detected(
    number: int, column: str, text: str, accepted: float, positives: float, negatives: float, cells: Checked
) -> dict[str, Any]:
    """The printed concentration in the light of the droplets."""
    value = cells.notation.number(text, "amount")
    if value is None:
        word = detection(text, {"nan": "failed", "na": "failed"}, "failed")
        if word is None or word.bound:
            cells.number(number, column, text, "amount")
            return {}
    if accepted == 0:
        return {"detection": "failed", "remark": "no droplets accepted"}
    if positives == 0:
        return {"detection": "not_detected", "remark": f"no positive among {accepted:.0f} droplets"}
    if negatives == 0 or value == SATURATED:
        return {"detection": "above", "remark": "saturated: no negative droplet" if negatives == 0 else "saturated"}
    if value is None:
        return {"detection": "failed", "remark": f"{text or 'no concentration'} in spite of {positives:.0f} positives"}
    return {"value": value, "detection": "quantified"}


def merged(
    members: str, raw: Mapping[str, Any], raw_rows: Sequence[Mapping[str, Any]], cells: Checked
) -> dict[str, Any]:
    """What a merged well is: a summary of wells that are in the export, or the only record of those that are not.

    Parameters
    ----------
    members : str
        The single wells that it merges, as the export lists them.
    raw : mapping
        The raw row of the well.
    raw_rows : sequence of mapping
        The raw rows of the export.
    cells : Checked
        Takes the problem of a merged well whose single wells are in the export in part.

    Returns
    -------
    dict
        Columns of the raw row that change; none for a single well.
    """
    well = str(raw["well"])
    if single(well):
        return {}
    of_target = [r for r in raw_rows if r["target"] == raw["target"] and single(r["well"])]
    listed = [single(w) for w in _SEPARATOR.split(members) if w]
    if listed and not all(listed):
        cells.problem(raw["source_row"], "MergedWells", repr(str(members)), "single wells, as (A01,B01)")
        return {}
    # Where the export does not list them, the wells of the same sample are those if they hold all its droplets.
    same = [r for r in of_target if (r["well"] in listed if listed else r["sample_id"] == raw["sample_id"])]
    present = {r["well"] for r in same}
    listed = listed or sorted(present)
    names = ", ".join(listed)
    if listed and len(present) == len(listed):
        total = sum(r.get("n_partitions", 0) for r in same)
        if total != raw.get("n_partitions", 0):
            found = f"{raw.get('n_partitions', 0)} droplets in {well}, and {total} in {names}"
            cells.problem(raw["source_row"], "MergedWells", found, "the droplets of the wells that were merged")
        return {"role": "summary", "note": f"merged well of {names}: its droplets are those of single wells"}
    if present:
        alone = ", ".join(w for w in listed if w in present)
        expected = "all of its single wells in the export, or none"
        cells.problem(raw["source_row"], "MergedWells", f"{names}, of which only {alone} stand alone", expected)
    return {"remark": joined(raw.get("remark", ""), f"merged well of {names}" if names else f"merged well {well}")}
