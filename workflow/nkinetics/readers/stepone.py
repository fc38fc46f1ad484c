"""StepOne and 7500 results (xls, csv, txt), and the older SDS software of 7300, 7500 and 7900 (csv, txt).

StepOne and 7500 software 2 write keys, a blank line and a table (each component on its own sheet, or in a text under
its ``[Section]``); its Ct header holds a Cyrillic letter, which an ANSI text loses. SDS 1 writes ``Key: value`` lines,
calls a target Detector and a quantity Qty; SDS 2 separates by tabs and counts the wells of a 384-well plate. Of the
keys only the name of the experiment or document is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, notation
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

_SAMPLE = ("samplename",)
_TARGET = ("targetname", "detectorname", "detector")
_CT = ("ct", "cñ", "c")
"""The Cyrillic letter of the header, decoded twice, leaves ``cñ``; replaced by a question mark it leaves ``c``."""
_QUANTITY = ("quantity", "qty")
_INSTRUMENTS = ("stepone", "sds7500", "sds7300", "sds7900", "7500", "7300", "7900")
_NAMES = ("experimentname", "documentname", "experimentfilename", "filename")
_NUMBERS: Mapping[str, Kind] = {
    **dict.fromkeys((*_CT, "ctmean", "cñmean", "cmean"), "ct"),
    **dict.fromkeys((*_QUANTITY, "quantitymean", "meanqty", "qtymean"), "amount"),
    **dict.fromkeys(("ctsd", "stddevct", "ctstddev", "ctthreshold", "threshold", "tm1", "tm", "rq", "δct"), "number"),
}


@dataclass(frozen=True)
class _Table:
    """The results table of an export, found but not yet read."""

    sheet: Sheet
    head: int
    end: int
    at: Mapping[str, int]
    keys: Mapping[str, str]

    @property
    def header(self) -> Row:
        return self.sheet.rows[self.head]

    @property
    def detectors(self) -> bool:
        """The software is SDS, which calls a target a detector, and of which version 2 counts the wells."""
        return any(name in self.at for name in _TARGET[1:])

    def column(self, names: Sequence[str]) -> int | None:
        """Position of the first of the names that the header has."""
        return next((self.at[n] for n in names if n in self.at), None)


def _ct_name(names: Mapping[str, int]) -> str:
    """The Ct column's name; a lone ``C?`` counts only beside its mean, as letters are lost in all of them alike."""
    if "c" in names and not ("cmean" in names or "csd" in names):
        return next((n for n in _CT[:2] if n in names), "")
    return next((n for n in _CT if n in names), "")


def _is_table(names: Mapping[str, int]) -> bool:
    """Whether a row is the header of a table of wells of this software, with or without a Ct."""
    target = any(n in names for n in _TARGET)
    return "well" in names and "wellposition" not in names and "samplename" in names and target and "task" in names


def _section(row: Row) -> str:
    first = row.cell(0)
    return first[1:-1] if first.startswith("[") and first.endswith("]") and not any(row.cells[1:]) else ""


def _find(export: Export) -> _Table | None:
    """The table with a Ct for each well; None where the export has none."""
    if export.kind == "workbook":
        sheet = export.sheet("Results")
    else:
        sheet = export.sheets[0] if export.kind == "text" else None
    if sheet is None:
        return None
    # A text may hold the plate's setup above its results, some hundred rows.
    rows = sheet.rows
    for i, row in enumerate(rows[:1000]):
        if len(row.cells) > 4 and _is_table(names := columns(row.cells)) and _ct_name(names):
            end = next((k for k in range(i + 1, len(rows)) if _section(rows[k])), len(rows))
            keys = key_block(r for r in rows[:i] if not any(r.cells[3:]))
            table = _Table(sheet, i, end, names, keys)
            return table
    return None


def _names_wells(table: _Table) -> bool:
    """Whether wells are called A1 in the table; QuantStudio counts them there and names them in another column."""
    first = next((row for row in table.sheet.rows[table.head + 1 : table.end] if not row.blank), None)
    if first is None or table.detectors:
        return True
    return not first.cell(table.at["well"]).isdigit()


def _keys(export: Export) -> dict[str, str]:
    """Keys at the top, to know the software by where it wrote no Ct."""
    if export.kind not in ("text", "workbook"):
        return {}
    sheet = export.sheet("Results") or export.sheet("Sample Setup") or export.sheets[0]
    return key_block(r for r in sheet.top[:20] if not any(r.cells[2:]))


def _marks(names: Mapping[str, int]) -> dict[str, bool]:
    return {
        "Well": "well" in names and "wellposition" not in names,
        "Sample Name": "samplename" in names,
        "Target Name": any(n in names for n in _TARGET),
        "Task": "task" in names,
        "Ct": bool(_ct_name(names)),
    }


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has the results table of this software, or its block of keys without one."""
    table = _find(export)
    if table is not None and not _names_wells(table):
        return Claim(False, (), ("wells called A1",))
    if table is not None:
        return Claim(True, ("a results table with Sample Name, Task and Ct",))
    keys = _keys(export)
    made_by = keys.get("instrumenttype", "").lower().replace(" ", "")
    if "blocktype" in keys and made_by.startswith(_INSTRUMENTS):
        return Claim(True, ("the block of keys of StepOne or 7500",), ("a Ct for each well",))
    best: dict[str, bool] = _marks({})
    for sheet in [s for s in [export.sheet("Results") or next(iter(export.sheets), None)] if s is not None]:
        for row in sheet.top[:100]:
            best = max(best, _marks(columns(row.cells)), key=lambda m: sum(m.values()))
    return Claim(
        False, tuple(m for m, there in best.items() if there), tuple(m for m, there in best.items() if not there)
    )


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target, empty wells among them.

    Raises
    ------
    InputError
        When there is no Ct (genotyping, presence/absence calls, a plate's setup), or with every cell that is wrong.
    """
    table = _find(export)
    if table is None:
        kind = _keys(export).get("experimenttype", "") or _keys(export).get("analysistype", "")
        raise export.refuse(
            f"{kind or 'an export of StepOne or 7500'} without a Ct for each well",
            "a Results table with Well, Sample Name, Target Name, Task and Cт",
            "export again with Results ticked, or take the file out of inputs.exports",
        )
    return Reading(_rows(export, table, settings), export.note)


def _rows(export: Export, table: _Table, settings: Settings) -> list[dict[str, Any]]:
    header, at = table.header, table.at
    cells = Checked(export.label)
    ct, target = _ct_name(at), next(n for n in _TARGET if n in at)
    # SDS 2 numbers the wells of its plate; where it gives their position too, that is the well.
    well = at.get("position", at["well"])
    body = list(wells(table.sheet.rows[table.head + 1 : table.end], well, "Well", cells, table.detectors))
    if not body:
        cells.problem(header.number, table.sheet.name, "a header without wells", "results", "export again")
    numeric = [(i, _NUMBERS[name]) for name, i in at.items() if name in _NUMBERS]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    # An empty well may end early: it has no cell behind its name.
    full = [row for row in body if len(row.cells) > at[ct] or any(row.cell(i) for i in places(at, (target, "task")))]
    check_shape(export, table.sheet, header, full, [well, at[ct]], cells)
    check_names(export, header, body, cells)
    check_end(export, table.sheet, header, body, cells)
    twice = repeated(header.cells, ("well", "samplename", target, "task", ct, *_QUANTITY))
    run_id = next((n for k in _NAMES if (n := file_name(table.keys.get(k, ""), (".eds", ".sds")))), export.stem)
    date = instant(table.keys.get("experimentrunendtime", ""))
    rows = []
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        raw = _well(row, table, well, ct, cells)
        cells.once(row.number, "Well", (raw["well"], raw["target"]))
        rows.append({"run_id": run_id, "run_date": date, **raw})
    cells.done()
    return rows


def _well(row: Row, table: _Table, well: int, ct: str, cells: Checked) -> dict[str, Any]:
    """One row of the results as a raw row."""
    at = table.at
    sample, target = row.cell(table.column(_SAMPLE)), row.cell(table.column(_TARGET))
    task, value_raw = row.cell(at["task"]), row.cell(at[ct])
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_name(row.cell(well)) or row.cell(well),
        "sample_id": sample,
        "target": target,
        "measure": "ct",
        "value_raw": value_raw,
        "omitted": omitted(row, "Omit", row.cell(at.get("omit")), cells),
    }
    if not (target or task or value_raw):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    raw["role"] = role_of(row, "Task", task, cells)
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample Name", sample)
        raw["note"] = "" if sample else "no sample name"
    raw.update(ct_of(row, "Ct", value_raw, raw["omitted"], cells))
    remarks = [raw.get("remark", "")]
    if raw["role"] == "standard" and not raw["omitted"]:
        quantity = row.cell(table.column(_QUANTITY))
        if table.column(_QUANTITY) is None:
            remarks.append("standard without a quantity: the export has no column Quantity")
        else:
            raw["quantity"] = cells.number(row.number, "Quantity", quantity, "amount")
    if not task:
        remarks.append("no task in the export, taken as a sample")
    return {**raw, "remark": joined(*remarks)}


READER = Reader("stepone", "StepOne, 7500 and SDS results", claim, read)
