"""Bio-Rad QX Manager and QuantaSoft Analysis Pro well tables: csv and xlsx, one row per well and target.

Droplets, `No Call` and merged wells: see `nkinetics.readers._droplets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, normalised, notation
from nkinetics.readers._droplets import Counted, merged, result, well_of
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import check_end, check_repeated, check_shape, named_ntc, repeated
from nkinetics.settings import Settings

_MARKS: Mapping[str, tuple[str, ...]] = {
    "Well": ("well",),
    "Sample description 1": ("sampledescription1", "sample"),  # QuantaSoft Analysis Pro has one name only
    "Target": ("target",),
    "Conc(copies/µL)": ("conccopiesul", "conccopiesl"),
    "Accepted Droplets": ("accepteddroplets",),
    "Positives": ("positives",),
    "Negatives": ("negatives",),
    "SampleType": ("sampletype",),
}
_COUNTED = Counted("Conc(copies/µL)", "Accepted Droplets", "Positives", "Negatives")
_ROLES = {
    "": "unknown",
    "unknown": "unknown",
    "unk": "unknown",
    "ntc": "ntc",
    "notemplatecontrol": "ntc",
    "blank": "ntc",
    "posctrl": "control",
    "poscontrol": "control",
    "positivecontrol": "control",
    "negctrl": "control",
    "negcontrol": "control",
    "negativecontrol": "control",
    "standard": "control",
    "reference": "unknown",
}


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
    """Whether the export has every column of a QX Manager well table."""
    head = _header(export)
    found = tuple(head[2]) if head else ()
    return Claim(len(found) == len(_MARKS), found, tuple(m for m in _MARKS if m not in found))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target, merged wells among them.

    Raises
    ------
    InputError
        With every cell that is wrong; positives and negatives that do not add up to the accepted droplets are.
    """
    head = _header(export)
    assert head is not None
    sheet, first, at = head
    header = sheet.rows[first]
    more = columns(header.cells)
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    numeric: list[tuple[int, Kind]] = [(at[m], "count") for m in _COUNTED[1:]]
    numeric += [(at[_COUNTED.concentration], "number")]
    numeric += [(i, "number") for n, i in more.items() if n.startswith(("poissonconf", "copies20", "meanamplitude"))]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    if not body:
        cells.problem(header.number, sheet.name, "a header without wells", "results", "export again")
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


def _well(row: Row, at: Mapping[str, int], more: Mapping[str, int], cells: Checked) -> dict[str, Any]:
    """One row of the table as a raw row."""
    sample = row.cell(at["Sample description 1"])
    named, dye = row.cell(at["Target"]), row.cell(more.get("dyenames"))
    kind = row.cell(at["SampleType"])
    role = _ROLES.get(normalised(kind))
    if role is None:
        wanted = "Unknown, NTC, PosCtrl or NegCtrl"
        cells.problem(row.number, "SampleType", repr(kind), wanted, "correct the sample type")
    texts = Counted(*(row.cell(at[name]) for name in _COUNTED))
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_of(row.cell(at["Well"]), row.number, cells),
        "sample_id": sample,
        "role": role or "unknown",
        "target": named or dye,
        "measure": "partitions",
        "value_raw": texts.concentration,
    }
    if not (sample or named or any(texts)):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    remarks = ["" if named or not dye else f"the target has no name and is called by its dye {dye}"]
    # Unknown is the software's default and stays on most plates; the name is what the operator typed.
    if raw["role"] == "unknown" and named_ntc(sample):
        raw["role"] = "ntc"
        remarks.append(f"a no-template control by its name {sample}")
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample description 1", sample)
    said = result(row.number, _COUNTED, texts, cells)
    status, why = row.cell(more.get("status")), row.cell(more.get("statusreason"))
    remarks.append(said.get("remark", ""))
    if status and status.upper() not in ("OK", "MANUAL"):
        remarks.append(f"status {status}" + (f" ({why})" if why else ""))
    if raw["role"] == "unknown" and not sample:
        raw["note"] = "no sample name"
    return {**raw, **said, "remark": "; ".join(filter(None, remarks))}


READER = Reader("qx_manager", "QX Manager well table", claim, read)
