"""Bio-Rad QuantaSoft (QX100, QX200) well tables: csv and xlsx, one row per well and channel.

Versions differ in two headers (Target and TargetType were Assay and TypeAssay) and in the end of a row, which may hold
a cell more than the header, or one less. Droplets, `No Call` and merged wells: see `nkinetics.readers._droplets`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, normalised, notation
from nkinetics.readers._droplets import Counted, merged, result, well_of
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import check_end, check_repeated, check_shape, joined, named_ntc, repeated
from nkinetics.settings import Settings

_MARKS: Mapping[str, tuple[str, ...]] = {
    "Well": ("well",),
    "Sample": ("sample",),
    "TargetType": ("targettype", "typeassay"),
    "Target": ("target", "assay"),
    "Concentration": ("concentration",),
    "AcceptedDroplets": ("accepteddroplets",),
    "Positives": ("positives",),
    "Negatives": ("negatives",),
}
_COUNTED = Counted("Concentration", "AcceptedDroplets", "Positives", "Negatives")
_ROLES = {
    "unknown": "unknown",
    "reference": "unknown",
    "ntc": "ntc",
    "blank": "ntc",
    "positive": "control",
    "negative": "control",
    "positivecontrol": "control",
    "negativecontrol": "control",
}
"""Role of each type of a target. A reference is a target measured in a sample, not a control well."""

_TYPE = re.compile(r"(ch\d)?([a-z]+)", re.ASCII)


def _places(row: Row) -> dict[str, int]:
    """Position of each mark in a header row."""
    at = columns(row.cells)
    return {
        mark: next(at[n] for n in names if n in at) for mark, names in _MARKS.items() if any(n in at for n in names)
    }


def _header(export: Export) -> tuple[Sheet, int, dict[str, int]] | None:
    """The row with most marks among the first of each sheet."""
    best: tuple[Sheet, int, dict[str, int]] | None = None
    for sheet in export.tables:
        for i, row in enumerate(sheet.top[:50]):
            places = _places(row)
            if places and (best is None or len(places) > len(best[2])):
                best = sheet, i, places
    return best


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has every column of a QuantaSoft well table."""
    head = _header(export)
    found = tuple(head[2]) if head else ()
    return Claim(len(found) == len(_MARKS), found, tuple(m for m in _MARKS if m not in found))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and channel, merged wells among them.

    Raises
    ------
    InputError
        When no well has droplets (a plate that was set up and not read), or with every cell that is wrong.
    """
    head = _header(export)
    assert head is not None
    sheet, first, at = head
    header = sheet.rows[first]
    more = columns(header.cells)
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    if not any(row.cell(at[name]) for row in body for name in _COUNTED):
        found = "wells without droplets, as of a plate that was set up and not read" if body else "no wells"
        raise export.refuse(found, "droplet counts", "read the plate and export its results", header.number)
    numeric: list[tuple[int, Kind]] = [(at[name], "count") for name in _COUNTED[1:]]
    numeric += [(at["Concentration"], "number")]
    numeric += [(i, "number") for n, i in more.items() if n.startswith(("poissonconf", "copiesper", "meanamplitude"))]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    check_shape(export, sheet, header, body, list(at.values()), cells)
    check_end(export, sheet, header, body, cells)
    twice = repeated(header.cells, [n for names in _MARKS.values() for n in names])
    for row in body:
        check_repeated(row, header.cells, twice, cells)
    raw_rows = [_well(row, at, more, cells) for row in body]
    rows = []
    for row, raw in zip(body, raw_rows, strict=True):
        cells.once(row.number, "Well", (raw["well"], raw["target"]))
        further = merged(row.cell(more.get("mergedwells")), raw, raw_rows, cells)
        rows.append({"run_id": export.stem, **raw, **further})
    cells.done()
    return Reading(rows, export.note)


def _kind(row: Row, at: Mapping[str, int], cells: Checked) -> tuple[str, str]:
    """Channel, as Ch1, and role of a row."""
    text = row.cell(at["TargetType"])
    match = _TYPE.fullmatch(normalised(text))
    channel, role = (match.group(1) or "", _ROLES.get(match.group(2))) if match else ("", None)
    if text and role is None:
        wanted = "Ch1 or Ch2 with Unknown, Reference, NTC, Blank, Positive or Negative"
        cells.problem(row.number, "TargetType", repr(str(text)), wanted, "correct the type of the target")
    return channel.capitalize(), role or "unknown"


def _well(row: Row, at: Mapping[str, int], more: Mapping[str, int], cells: Checked) -> dict[str, Any]:
    """One row of the table as a raw row."""
    sample, named = row.cell(at["Sample"]), row.cell(at["Target"])
    texts = Counted(*(row.cell(at[name]) for name in _COUNTED))
    channel, role = _kind(row, at, cells)
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_of(row.cell(at["Well"]), row.number, cells),
        "sample_id": sample,
        "role": role,
        "target": named or channel,
        "measure": "partitions",
        "value_raw": texts.concentration,
    }
    if not (sample or named or any(texts)):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    remarks = ["" if named or not channel else f"the target has no name and is called by its channel {channel}"]
    # Unknown is the software's default and stays on most plates; the name is what the operator typed.
    if role == "unknown" and named_ntc(sample):
        raw["role"] = "ntc"
        remarks.append(f"a no-template control by its name {sample}")
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample", sample)
        raw["note"] = "" if sample else "no sample name"
    said = result(row.number, _COUNTED, texts, cells)
    status = row.cell(more.get("status"))
    remarks += [said.get("remark", ""), "" if status.upper() in ("", "OK", "MANUAL") else f"status {status}"]
    return {**raw, **said, "remark": joined(*remarks)}


READER = Reader("quantasoft", "QuantaSoft well table", claim, read)
