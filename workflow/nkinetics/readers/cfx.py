"""Bio-Rad CFX Manager and CFX Maestro results: "Quantification Cq Results", "Quantification Summary", custom exports.

One row per well and fluorophore, in csv or xlsx, behind an empty first column or not, below lines on the run (file,
user, protocol: none of them is used) or not. The kind of a well stands in Content, with the number of its replicate
group: ``Unkn-01``, ``Std-2``, ``NTC``. A no-template control has no sample name, and stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import CT_MAX, Checked, Kind, columns, detection, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import check_end, check_repeated, check_shape, ct_of, joined, repeated, well_name, wells
from nkinetics.settings import Settings

_MARKS: Mapping[str, tuple[str, ...]] = {
    "Well": ("well",),
    "Target": ("target",),
    "Content": ("content",),
    "Sample": ("sample",),
    "Cq": ("cq", "ct"),
}
"""Columns that make the format; CFX Manager 1 and 2 could call Cq ``C(t)``."""

_QUANTITY = ("startingquantitysq", "startingquantity", "sq")
_NUMBERS: Mapping[str, Kind] = {
    "cq": "ct",
    "ct": "ct",
    **dict.fromkeys(("cqmean", "ctmean", "cqstddev", "ctstddev", "setpoint", "meltingtemperature"), "number"),
    **dict.fromkeys((*_QUANTITY, "logstartingquantity", "sqmean", "sqstddev", "endrfu"), "number"),
}
"""Columns whose numbers together show the decimal mark of the file."""

_ROLES = {
    "unkn": "unknown",
    "unknown": "unknown",
    "std": "standard",
    "standard": "standard",
    "ntc": "ntc",
    "notemplatecontrol": "ntc",
    "nrt": "control",
    "noreversetranscriptase": "control",
    "posctrl": "control",
    "poscontrol": "control",
    "positivecontrol": "control",
    "negctrl": "control",
    "negcontrol": "control",
    "negativecontrol": "control",
}
_CONTENT = re.compile(r"([a-z]*)\d*", re.ASCII)
_TITLE = re.compile(r"[\s_-]*Quantification[\s_-]*(?:Cq[\s_-]*Results|Summary)(?:_\d+)?$", re.IGNORECASE)
_LOG_TOLERANCE = 0.01
_ROUNDING = 0.02
"""Of Cq and its mean, where an export prints two decimals."""


def _places(row: Row) -> dict[str, int]:
    """Position of each mark in a header row."""
    at = columns(row.cells)
    return {
        mark: next(at[n] for n in names if n in at) for mark, names in _MARKS.items() if any(n in at for n in names)
    }


def _headers(export: Export) -> list[tuple[Sheet, int, dict[str, int]]]:
    """For each sheet the row with most marks, where it has any."""
    best = []
    for sheet in export.tables:
        found = [(i, places) for i, row in enumerate(sheet.top[:100]) if (places := _places(row))]
        if found:
            best.append((sheet, *max(found, key=lambda f: len(f[1]))))
    return best


def claim(export: Export, settings: Settings) -> Claim:
    """Whether a sheet of the export has the columns Well, Target, Content, Sample and Cq."""
    places: dict[str, int] = max((head[2] for head in _headers(export)), key=len, default={})
    found = tuple(places)
    return Claim(len(found) == len(_MARKS), found, tuple(m for m in _MARKS if m not in found))


def _run_id(export: Export) -> str:
    """Name of the file without the title that the software appends; the name within the file holds the user's."""
    return _TITLE.sub("", export.stem) or export.stem


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and fluorophore, controls without a sample among them.

    Raises
    ------
    InputError
        When several sheets hold results, or with every cell that is wrong.
    """
    heads = [head for head in _headers(export) if len(head[2]) == len(_MARKS)]
    if len(heads) > 1:
        names = ", ".join(sheet.name for sheet, *_ in heads)
        raise export.refuse(
            f"results on the sheets {names}", "one sheet of results", "export one step of the run alone"
        )
    sheet, first, at = heads[0]
    header = sheet.rows[first]
    more = columns(header.cells)
    quantity = next((more[n] for n in _QUANTITY if n in more), None)
    cells = Checked(export.label)
    body = list(wells((r for r in sheet.rows[first + 1 :] if not r.blank), at["Well"], "Well", cells))
    numeric = [(more[name], kind) for name, kind in _NUMBERS.items() if name in more]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    if not body:
        cells.problem(header.number, sheet.name, "a header without wells", "results", "export again")
    else:
        check_shape(export, sheet, header, body, list(at.values()), cells)
        check_end(export, sheet, header, body, cells)
        _check_end(export, sheet, body[-1], (at["Cq"], quantity), at["Content"], cells)
    twice = repeated(header.cells, [n for names in _MARKS.values() for n in names] + ["fluor", *_QUANTITY])
    rows = []
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        raw = _well(row, at, more, quantity, header, cells)
        cells.once(row.number, "Well", (raw["well"], raw["target"]))
        rows.append({"run_id": _run_id(export), **raw})
    if quantity is None and any(raw["role"] == "standard" for raw in rows):
        expected = "a column Starting Quantity (SQ), without which its standards give no curve"
        cells.problem(header.number, "", "no quantities", expected, "export again with this column")
    cells.done()
    return Reading(rows, export.note)


def _check_end(
    export: Export, sheet: Sheet, last: Row, used: tuple[int | None, ...], content: int, cells: Checked
) -> None:
    """A text that ends within its last number may have lost digits of it, and the quantity of a standard altogether."""
    cut = export.unfinished(sheet, last, [i for i in used if i is not None])
    if cut and (last.cells[-1] or normalised(last.cell(content)).startswith("std")):
        mend = "copy the file again, or end its last line where it is complete"
        cells.problem(last.number, "", "a last line that ends within a number", "a line end behind it", mend)


def _role(row: Row, content: str, cells: Checked) -> str:
    match = _CONTENT.fullmatch(normalised(content))
    role = _ROLES.get(match.group(1)) if match else None
    if content and role is None:
        wanted = "Unkn, Std, NTC, NRT, Pos Ctrl or Neg Ctrl"
        cells.problem(row.number, "Content", repr(str(content)), wanted, "correct the content of the well")
    return role or "unknown"


def _well(
    row: Row, at: Mapping[str, int], more: Mapping[str, int], quantity: int | None, header: Row, cells: Checked
) -> dict[str, Any]:
    """One row of the results as a raw row."""
    content, sample, cq = row.cell(at["Content"]), row.cell(at["Sample"]), row.cell(at["Cq"])
    named, fluor = row.cell(at["Target"]), row.cell(more.get("fluor"))
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_name(row.cell(at["Well"])),
        "sample_id": sample,
        "target": named or fluor,
        "measure": "ct",
        "value_raw": cq,
    }
    if not (content or sample or named or cq):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    raw["role"] = _role(row, content, cells)
    if raw["role"] == "unknown":
        cells.sample_name(row.number, header.cells[at["Sample"]], sample)
        raw["note"] = "" if sample else "no sample name"
    raw |= ct_of(row, header.cells[at["Cq"]], cq, False, cells)
    _check_mean(row, raw.get("value"), more, header, cells)
    remarks = [
        "" if content else "no content in the export, taken as a sample",
        "" if named or not fluor else f"the target has no name and is called by its fluorophore {fluor}",
    ]
    if raw["role"] == "standard" and quantity is not None:
        raw["quantity"] = _quantity(row, quantity, more.get("logstartingquantity"), header, cells)
        remarks += ["" if raw["quantity"] is not None else "no starting quantity in the export"]
    return {**raw, "remark": joined(*remarks, raw.get("remark", ""))}


def _check_mean(row: Row, cq: float | None, more: Mapping[str, int], header: Row, cells: Checked) -> None:
    """A Cq must lie about the mean that is printed beside it: in a shifted row the two are of different columns.

    One of n replicates departs from their mean by at most sd (n - 1) / sqrt(n), which is below 10 sd for a plate of 96.
    """
    at = more.get("cqmean", more.get("ctmean"))
    mean = cells.notation.number(row.cell(at))
    if cq is None or not mean:  # 0 is printed where no replicate has a Cq
        return
    spread = cells.notation.number(row.cell(more.get("cqstddev", more.get("ctstddev"))))
    if mean > CT_MAX or (spread is not None and abs(cq - mean) > 10 * spread + _ROUNDING):
        found = f"{row.cell(at)} beside a Cq of {cq:g}"
        cells.problem(row.number, header.cells[at or 0], found, "the mean of replicates of this Cq")


def _quantity(row: Row, at: int, log_at: int | None, header: Row, cells: Checked) -> float | None:
    """Nominal quantity of a standard, which must be what its printed logarithm says; None for NaN, N/A and blank."""
    text = row.cell(at)
    word = detection(text)
    if cells.notation.number(text, "amount") is None and word is not None and not word.bound:
        return None
    value = cells.number(row.number, header.cells[at], text, "amount")
    log = cells.notation.number(row.cell(log_at))
    if value and log is not None and abs(math.log10(value) - log) > _LOG_TOLERANCE:
        found = f"{text}, whose logarithm is printed as {row.cell(log_at)}"
        cells.problem(row.number, header.cells[at], found, f"10 to the power of {row.cell(log_at)}")
    return value


READER = Reader("cfx", "Bio-Rad CFX results", claim, read)
