"""Thermo Fisher Design & Analysis and Diomni results: xlsx (at times called .xls) and csv, one row per well and target.

The Ct stands on the sheet Results, the quantity of a standard on the sheet Standard Curve Result; no other sheet is
parsed when these are there, as the curves of a plate are a hundred times larger. Presence/absence analyses print a Cq
like any other: they are read where they do, and refused where only calls were exported. Of the block of keys above a
table only the name of the experiment's file is used, without its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import (
    check_end,
    check_names,
    check_repeated,
    check_shape,
    ct_of,
    file_name,
    instant,
    joined,
    key_block,
    omitted,
    places,
    repeated,
    role_of,
    well_name,
    wells,
)
from nkinetics.settings import Settings

_CT = ("cq", "ct", "crt")
_SHEETS = ("Results", "Result", "Standard Curve Result", "Target Call", "Well Call")
"""Sheets that may hold a Ct for each well, the one that is meant to first."""
_OTHER_SOFTWARE = ("targetname", "samplename", "snpassayname")
"""Columns of the QuantStudio and StepOne software, whose sheet has the same name."""
_KEYS = ("softwarenameandversion", "pluginnameandversion", "runstartdatetime")
_NUMBERS: Mapping[str, Kind] = {
    **dict.fromkeys((*_CT, "cqmean", "ctmean", "crtmean"), "ct"),
    **dict.fromkeys(("quantity", "quantitymean", "quantitysd"), "amount"),
    **dict.fromkeys(("cqsd", "cqconfidence", "ampscore", "threshold", "slope", "yintercept", "r2", "tm1"), "number"),
}
_AMPLIFIED = ("", "amp", "amplified")


@dataclass(frozen=True)
class _Table:
    """A table with a Ct for each well, found but not yet read."""

    sheet: Sheet
    head: int
    at: Mapping[str, int]
    keys: Mapping[str, str]

    @property
    def header(self) -> Row:
        return self.sheet.rows[self.head]

    @property
    def well(self) -> int:
        """Column of the well's name; beside a Well Position the column Well holds a number."""
        return self.at["wellposition"] if "wellposition" in self.at else self.at["well"]


def _is_header(names: Mapping[str, int]) -> bool:
    if any(name in names for name in _OTHER_SOFTWARE) or not any(ct in names for ct in _CT):
        return False
    # CFX, which has a Content, may have a Call too.
    called = "content" not in names and all(name in names for name in ("well", "sample", "target", "call"))
    return "wellposition" in names or called


def _in(sheet: Sheet) -> _Table | None:
    """The table of a sheet: its header stands below some twenty keys."""
    for i, row in enumerate(sheet.top[:60]):
        if len(row.cells) > 3 and _is_header(names := columns(row.cells)):
            return _Table(sheet, i, names, key_block(sheet.top[:i]))
    return None


def _find(export: Export) -> _Table | None:
    """The table with the Ct values, or None where the export has none of this software."""
    if export.kind == "text":
        return _in(export.sheets[0])
    candidates = [sheet for name in _SHEETS if (sheet := export.sheet(name))]
    return next((table for sheet in candidates if (table := _in(sheet))), None)


def _keys(export: Export) -> dict[str, str]:
    """Keys above the first small table, to know the software by."""
    for name in (*_SHEETS, *(s.name for s in export.sheets[:1])):
        sheet = export.sheet(name)
        if sheet is not None:
            rows = sheet.top[:40]
            end = next((i for i, row in enumerate(rows) if len([c for c in row.cells if c]) > 2), len(rows))
            return key_block(rows[:end])
    return {}


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has the results table of this software, or its block of keys without one."""
    marks = {"Well Position": "wellposition", "Sample": "sample", "Target": "target", "Task": "task", "Cq": "cq"}
    if export.kind not in ("text", "workbook"):
        return Claim(False, (), tuple(marks))
    if _find(export) is not None:
        return Claim(True, ("a results table with Well Position and Cq",))
    keys = _keys(export)
    software = f"{keys.get('softwarenameandversion', '')} {keys.get('pluginnameandversion', '')}".lower()
    if "design & analysis" in software or "diomni" in software or all(k in keys for k in ("filename", _KEYS[2])):
        return Claim(True, ("the block of keys of Design & Analysis",), ("a Cq for each well",))
    best: set[str] = set()
    for sheet in export.sheets[:1] if export.kind == "text" else [s for n in _SHEETS if (s := export.sheet(n))]:
        for row in sheet.top[:60]:
            names = columns(row.cells)
            if not any(name in names for name in _OTHER_SOFTWARE):
                best = max(best, {m for m, k in marks.items() if k in names}, key=len)
    return Claim(False, tuple(m for m in marks if m in best), tuple(m for m in marks if m not in best))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target.

    Raises
    ------
    InputError
        When no sheet holds a Ct (genotyping, melt curves, calls alone), or with every cell that is wrong.
    """
    table = _find(export)
    if table is None:
        sheets = ", ".join(s.name for s in export.sheets) or "one table"
        raise export.refuse(
            f"no Cq for each well (sheets: {sheets})" if export.kind == "workbook" else "no Cq for each well",
            "the sheet Results with Well Position and Cq, as of a standard curve or a primary analysis",
            "export again with the Results table ticked, or take the file out of inputs.exports",
        )
    curve = export.sheet("Standard Curve Result") if export.kind == "workbook" else None
    standards = _in(curve) if curve is not None and curve is not table.sheet else None
    return Reading(_rows(export, table, standards, settings), joined(export.note, _lacking(table)))


def _lacking(table: _Table) -> str:
    """Which columns the export lacks without which its wells cannot be used."""
    lacking = [name for name in ("Sample", "Target") if normalised(name) not in table.at]
    if not lacking:
        return ""
    names = " and ".join(lacking)
    return f"the export has no column {names}, so its wells belong to nobody: export again with {names} ticked"


def _rows(export: Export, table: _Table, standards: _Table | None, settings: Settings) -> list[dict[str, Any]]:
    header, at = table.header, table.at
    cells = Checked(export.label)
    ct = next(name for name in _CT if name in at)
    body = list(wells(_below(table), table.well, header.cells[table.well], cells))
    if not body:
        cells.problem(header.number, table.sheet.name, "a header without wells", "results", "export again")
    listed = list(wells(_below(standards), standards.well, "Well Position", cells)) if standards else []
    cells.notation = notation(export.label, _numbers(table, body, standards, listed), settings.inputs.decimal)
    check_shape(
        export, table.sheet, header, body, [table.well, at[ct], *places(at, ("sample", "target", "task"))], cells
    )
    check_names(export, header, body, cells)
    check_end(export, table.sheet, header, body, cells)
    quantities = _quantities(standards, listed, cells)
    twice = repeated(header.cells, ("wellposition", "sample", "target", "task", "omit", "quantity", ct))
    run_id = file_name(table.keys.get("filename", ""), (".eds", ".edt")) or export.stem
    # Version 2.7 writes "Run End Data/Time".
    date = instant(table.keys.get("runenddatetime", "") or table.keys.get("runenddatatime", ""))
    rows = []
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        raw = _well(row, table, ct, quantities, cells)
        cells.once(row.number, "Well Position", (raw["well"], raw["target"]))
        rows.append({"run_id": run_id, "run_date": date, **raw})
    cells.done()
    return rows


def _below(table: _Table) -> list[Row]:
    """Rows under the header."""
    return table.sheet.rows[table.head + 1 :]


def _numbers(
    table: _Table, body: Sequence[Row], standards: _Table | None, listed: Sequence[Row]
) -> Iterator[tuple[str, Kind]]:
    for of, rows in ((table, body), (standards, listed)):
        numeric = [(i, _NUMBERS[name]) for name, i in of.at.items() if name in _NUMBERS] if of else []
        for row in rows:
            for i, kind in numeric:
                yield row.cell(i), kind


def _quantities(
    standards: _Table | None, listed: Sequence[Row], cells: Checked
) -> dict[tuple[str, str], tuple[str, str]]:
    """Ct and quantity of each well and target, as texts, from the sheet of the standard curve."""
    if standards is None or "quantity" not in standards.at:
        return {}
    at = standards.at
    ct = next(name for name in _CT if name in at)
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for row in listed:
        place = (well_name(row.cell(standards.well)), row.cell(at.get("target")))
        cells.once(row.number, "Standard Curve Result", ("Standard Curve Result", *place))
        found[place] = (row.cell(at[ct]), row.cell(at["quantity"]))
    return found


def _well(
    row: Row, table: _Table, ct: str, quantities: Mapping[tuple[str, str], tuple[str, str]], cells: Checked
) -> dict[str, Any]:
    """One row of the results as a raw row."""
    at = table.at

    def text(name: str) -> str:
        return row.cell(at.get(name))

    sample, target, task, value_raw = text("sample"), text("target"), text("task"), text(ct)
    well = well_name(row.cell(table.well))
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well,
        "sample_id": sample,
        "target": target,
        "measure": "ct",
        "value_raw": value_raw,
        "omitted": omitted(row, "Omit", text("omit"), cells),
    }
    if not (sample or target or task or value_raw):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    raw["role"] = role_of(row, "Task", task, cells)
    notes = [] if target else ["no target name"]
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample", sample)
        if not sample:
            notes.append("no sample name")
    raw.update(_checked_ct(row, table, ct, value_raw, quantities.get((well, target)), raw["omitted"], cells))
    remarks = [raw.get("remark", "")]
    if raw["role"] == "standard":
        quantity = text("quantity") or quantities.get((well, target), ("", ""))[1]
        if quantity in ("", "-"):
            # A primary analysis knows its standards and not their quantities; the curve then says what it lacks.
            remarks.append("standard without a quantity: export the sheet Standard Curve Result too")
        else:
            raw["quantity"] = cells.number(row.number, "Quantity", quantity, "amount")
    if normalised(text("ampstatus")) not in _AMPLIFIED and raw.get("value") is not None:
        remarks.append(f"amplification status {text('ampstatus')}")
    if not task:
        remarks.append("no task in the export, taken as a sample")
    issues = text("resultqualityissues")
    if issues:
        remarks.append(f"quality issues: {issues}")
    return {**raw, "note": joined(*notes), "remark": joined(*remarks)}


def _checked_ct(
    row: Row,
    table: _Table,
    ct: str,
    text: str,
    elsewhere: tuple[str, str] | None,
    left_out: bool,
    cells: Checked,
) -> dict[str, Any]:
    """The Ct of a well, which the sheet of the standard curve must not contradict."""
    column = table.header.cells[table.at[ct]]
    result = ct_of(row, column, text, left_out, cells)
    if elsewhere is not None and not left_out:
        other = cells.notation.number(elsewhere[0], "ct")
        value = result.get("value")
        if value is not None and other is not None and abs(value - other) > 0.005 * value:
            expected = f"{elsewhere[0]}, as on the sheet Standard Curve Result"
            cells.problem(row.number, column, repr(str(text)), expected, "analyse the run and export it again")
    return result


READER = Reader("design_and_analysis", "Design & Analysis (Diomni) results", claim, read)
