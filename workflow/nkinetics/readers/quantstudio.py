"""QuantStudio, ViiA 7 and 12K Flex results: text, csv, xls and xlsx.

The software writes a block of ``* key = value`` lines (in csv: key and value in two cells) and then tables: in text
each under its ``[Section]``, in a workbook each on its own sheet. Wells stand in the Results table, one row per well
and target. Of the key block only the experiment's name or barcode and the end of its run are used; user names and
folders are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import NO_AMPLIFICATION, Checked, Kind, columns, detection, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import check_header
from nkinetics.settings import Settings

_CT = ("ct", "crt", "cq")
_NUMBERS: Mapping[str, Kind] = {
    **{name: "ct" for ct in _CT for name in (ct, f"{ct}mean", f"eq{ct}", f"eq{ct}mean")},
    "quantity": "amount",
    "quantitymean": "amount",
    "quantitysd": "amount",
    **dict.fromkeys(("ctsd", "crtsd", "cqsd", "rq", "rqmin", "rqmax", "slope", "yintercept", "efficiency"), "number"),
    **dict.fromkeys(("r2", "ctthreshold", "crtthreshold", "ampscore", "cqconf", "deltact", "tm1"), "number"),
}
"""Columns whose numbers together show the decimal mark of the file."""

_ROLES = {
    "unknown": "unknown",
    "standard": "standard",
    "ntc": "ntc",
    "ipc": "control",
    "blockedipc": "control",
    "nac": "control",
    "nrt": "control",
    "rtneg": "control",
    "positivecontrol": "control",
    "negativecontrol": "control",
    "calibrator": "control",
    "endogenouscontrol": "unknown",
    "endo": "unknown",
    "targ": "unknown",
    "target": "unknown",
}
"""Role of each task. An endogenous control is a reference target measured in a sample, not a control well."""

_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9]\d{0,2})", re.ASCII)
_KEY = re.compile(r"\*?\s*([^=]+?)\s*=\s*(.*)")
_ENDED = re.compile(r"(\d{4}-\d{2}-\d{2}) (\d{2}):(\d{2}:\d{2})(?: ([AP]M))?(?: \S+)?", re.ASCII)
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class _Table:
    """The results table of an export, found but not yet read."""

    sheet: Sheet
    head: int
    end: int
    keys: Mapping[str, str]

    @property
    def header(self) -> Row:
        return self.sheet.rows[self.head]


def _section(row: Row) -> str:
    """Name in ``[...]`` where the row is a section's title."""
    first = row.cell(0)
    return first[1:-1] if first.startswith("[") and first.endswith("]") and not any(row.cells[1:]) else ""


def _keys(rows: Sequence[Row]) -> dict[str, str]:
    """The key block above the table, by normalised key."""
    keys: dict[str, str] = {}
    for row in rows:
        filled = [c for c in row.cells if c]
        match = _KEY.fullmatch(row.cell(0))
        if (match and row.cell(0).startswith("*")) or (match and len(filled) == 1):
            keys.setdefault(normalised(match.group(1)), match.group(2))
        elif row.cell(0) and len(filled) <= 2:
            keys.setdefault(normalised(row.cell(0)), row.cell(1))
    return keys


def _is_header(names: Mapping[str, int]) -> bool:
    """Whether a row has this software's columns: StepOne has no Well Position, Design & Analysis no Target Name."""
    return "wellposition" in names and ("targetname" in names or "snpassayname" in names)


def _grid(export: Export) -> Sheet | None:
    """The sheet with the results: called so, or the first that has their header."""
    if export.kind == "text" or export.sheet("Results"):
        return export.sheet("Results") or export.sheets[0]
    return next((s for s in export.sheets if any(_is_header(columns(r.cells)) for r in s.top[:100])), None)


def _sections(sheet: Sheet) -> list[tuple[int, str]]:
    return [(i, name) for i, row in enumerate(sheet.rows) if row.cells and (name := _section(row))]


def _find(export: Export) -> _Table | None:
    """The results table, or None where the export has none of this software."""
    if export.kind not in ("text", "workbook") or (sheet := _grid(export)) is None:
        return None
    rows = sheet.rows
    sections = _sections(sheet)
    start, end = 0, len(rows)
    if sections:
        at = next((k for k, (_, name) in enumerate(sections) if normalised(name) == "results"), None)
        if at is None:
            return None
        start = sections[at][0] + 1
        end = sections[at + 1][0] if at + 1 < len(sections) else end
    # The key block has at most some hundred lines; a table of another make is not searched to its end.
    for i in range(start, min(end, start + 300)):
        if len(rows[i].cells) > 2 and _is_header(columns(rows[i].cells)):
            return _Table(sheet, i, end, _keys(rows[: sections[0][0]] if sections else rows[:i]))
    return None


def _key_block(export: Export) -> dict[str, str]:
    """Keys at the top of a text without a results table, to know the software by."""
    if export.kind != "text":
        return {}
    return _keys([r for r in export.sheets[0].top[:100] if r.cell(0).startswith("*")])


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has the results table of this software, or its key block without one."""
    texts = {"Well Position": "wellposition", "Sample Name": "samplename", "Target Name": "targetname", "Task": "task"}
    marks = {**texts, "CT": _CT}
    table = _find(export)
    if table is not None:
        return Claim(True, ("a results table with Well Position and Target Name",))
    sections = [n for _, n in _sections(export.sheets[0])] if export.kind == "text" else []
    block = _key_block(export)
    made_by = normalised(block.get("instrumenttype", ""))
    if sections and "experimenttype" in block and ("quantstudio" in made_by or "viia" in made_by):
        return Claim(True, ("the key block of QuantStudio",), ("a [Results] section",))
    present: set[str] = set()
    for sheet in export.sheets if export.kind == "text" else [s for s in [export.sheet("Results")] if s]:
        for row in sheet.top:
            names = columns(row.cells)
            here = {m for m, k in marks.items() if any(n in names for n in ([k] if isinstance(k, str) else k))}
            present = max(present, here, key=len)
    return Claim(False, tuple(sorted(present)), tuple(m for m in marks if m not in present))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target, empty wells among them.

    Raises
    ------
    InputError
        When there is no Ct (genotyping, melt curves, presence/absence calls alone), or with every cell that is wrong.
    """
    table = _find(export)
    if table is None:
        names = ", ".join(n for _, n in _sections(export.sheets[0]))
        mend = "export again with the Results section ticked"
        raise export.refuse(f"the sections {names} and no [Results]", "a [Results] section with Ct values", mend)
    _refuse_without_ct(export, table)
    return Reading(list(_rows(export, table, settings)), export.note)


def _refuse_without_ct(export: Export, table: _Table) -> None:
    names = columns(table.header.cells)
    if any(ct in names for ct in _CT) and "targetname" in names:
        return
    kind = table.keys.get("experimenttype", "").strip()
    if "snpassayname" in names:
        kind = "Genotyping"
    what = f"{kind} results" if kind else "results"
    raise export.refuse(
        f"{what} without a Ct column",
        "quantitative results with a Ct for each well and target",
        "take the file out of inputs.exports, or export the quantitative results",
        table.header.number,
        table.sheet.name,
    )


def _run_id(export: Export, keys: Mapping[str, str]) -> str:
    """The experiment's name, else its barcode, else the file's name; never a folder."""
    for key in ("experimentname", "experimentbarcode", "barcode"):
        value = re.split(r"[/\\]", keys.get(key, "").strip())[-1].strip()
        if value and value.upper() not in ("NA", "N/A"):
            return value
    return export.stem


def run_end(text: str) -> str:
    """When the run ended, as an ISO date and time; empty where the text is no such time.

    The software writes the hours of the day from 0 to 23 and AM or PM after them, earlier versions from 1 to 12. The
    name of the zone is passed over: the letters say different things in different countries.

    Examples
    --------
    >>> run_end("2019-04-25 14:32:33 PM PDT"), run_end("2001-12-31 09:09:19 PM EST"), run_end("04/05/2019 10:00 AM")
    ('2019-04-25T14:32:33', '2001-12-31T21:09:19', '')
    """
    match = _ENDED.fullmatch(text.strip())
    if not match:
        return ""
    hour = int(match[2])
    if match[4] == "PM" and hour < 12:
        hour += 12
    elif match[4] == "AM" and hour == 12:
        hour = 0
    try:
        return datetime.fromisoformat(f"{match[1]}T{hour:02d}:{match[3]}").isoformat()
    except ValueError:
        return ""


def well_name(text: str) -> str:
    """A well as A1; empty where the text is no well.

    Examples
    --------
    >>> well_name("A01"), well_name("p24"), well_name("Reference Sample")
    ('A1', 'P24', '')
    """
    match = _WELL.fullmatch(text)
    return f"{match.group(1).upper()}{match.group(2)}" if match else ""


def _body(table: _Table, at: Mapping[str, int], cells: Checked) -> Iterator[Row]:
    """The rows that are wells; the lines on the analysis below them are passed over, anything else is a problem."""
    position = at["wellposition"]
    for row in table.sheet.rows[table.head + 1 : table.end]:
        if row.blank:
            continue
        if well_name(row.cell(position)):
            yield row
        elif len([c for c in row.cells if c]) > 2 or row.cell(0).isdigit():
            found = repr(row.cell(position)) if row.cell(position) else "an empty cell"
            cells.problem(row.number, "Well Position", found, "a well, as A1", "export the file again")


def _rows(export: Export, table: _Table, settings: Settings) -> Iterator[dict[str, Any]]:
    header = table.header.cells
    at = columns(header)
    ct = next(name for name in _CT if name in at)
    repeated = _repeated(header, ("wellposition", "omit", "samplename", "targetname", "task", ct, "quantity"))
    cells = Checked(export.label)
    body = list(_body(table, at, cells))
    numeric = [(i, _NUMBERS[name]) for name, i in at.items() if name in _NUMBERS]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    run_id, ended = _run_id(export, table.keys), run_end(table.keys.get("experimentrunendtime", ""))
    if not body:
        cells.problem(table.header.number, table.sheet.name, "a header without wells", "results", "export again")
    _check_shape(export, table, body, at, ct, cells)
    rows = []
    for row in body:
        for places in repeated.values():
            if len({row.cell(i) for i in places}) > 1:
                both = " and ".join(repr(row.cell(i)) for i in places)
                cells.problem(row.number, header[places[0]], both, f"the same in both columns {header[places[0]]}")
        raw = _well(row, at, ct, header, cells)
        cells.once(row.number, "Well Position", (raw["well"], raw["target"]))
        rows.append({"run_id": run_id, "run_date": ended, **raw})
    cells.done()
    yield from rows


def _repeated(header: Sequence[str], names: Sequence[str]) -> dict[str, list[int]]:
    """Columns that the reader uses and that stand more than once."""
    places: dict[str, list[int]] = {}
    for i, text in enumerate(header):
        places.setdefault(normalised(text), []).append(i)
    return {name: places[name] for name in names if len(places.get(name, ())) > 1}


def _check_shape(
    export: Export, table: _Table, body: Sequence[Row], at: Mapping[str, int], ct: str, cells: Checked
) -> None:
    """A row longer than the header has shifted; one that ends before its Ct, or with it at the file's end, was cut."""
    check_header(export, table.header, body, cells)
    wells = [row for row in body if len(row.cells) > at[ct]]
    cells.shape(len(table.header.cells), [row.length for row in wells])
    if not body or export.kind != "text":
        return
    last = body[-1]
    last_line = table.sheet.rows[-1].number == last.number and not export.ends_cleanly
    named = [last.cell(at[n]) for n in ("samplename", "targetname", "task") if n in at]
    if last_line and len(last.cells) not in {len(row.cells) for row in body[:-1]} | {len(table.header.cells)}:
        found = f"a last line of {len(last.cells)} cells"
        cells.problem(last.number, "", found, f"{len(table.header.cells)}, as in the header", "copy the file again")
        return
    for row in body:
        short = len(row.cells) <= at[ct]
        if short and any(row.cell(at[n]) for n in ("targetname", "task") if n in at):
            cells.problem(
                row.number, table.header.cells[at[ct]], "a row that ends before it", "a Ct", "export the file again"
            )
        elif row is last and last_line and len(row.cells) == at[ct] + 1 and any(named):
            cells.problem(row.number, "", "a last line that ends within its Ct", "a whole line", "copy the file again")


def _well(row: Row, at: Mapping[str, int], ct: str, header: Sequence[str], cells: Checked) -> dict[str, Any]:
    """One row of the results as a raw row."""

    def text(name: str) -> str:
        return row.cell(at.get(name))

    sample, target, task, value_raw = text("samplename"), text("targetname"), text("task"), text(ct)
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_name(text("wellposition")),
        "sample_id": sample,
        "target": target,
        "measure": "ct",
        "value_raw": value_raw,
    }
    omit = text("omit").lower()
    if omit not in _TRUE + _FALSE:
        cells.problem(row.number, "Omit", repr(omit), "true or false", "correct the cell")
    raw["omitted"] = omit in _TRUE
    if not (target or task or value_raw):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    role = _ROLES.get(normalised(task))
    if task and role is None:
        role = "control" if normalised(task).startswith("pc") else ""
    if role == "":
        cells.problem(row.number, "Task", repr(task), "UNKNOWN, STANDARD, NTC or IPC", "correct the task")
    raw["role"] = role or "unknown"
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample Name", sample)
        raw["note"] = "" if sample else "no sample name"
    raw.update(_ct(row, value_raw, header[at[ct]], raw["omitted"], cells))
    if raw["role"] == "standard" and not (raw["omitted"] and not text("quantity")):
        raw["quantity"] = cells.number(row.number, "Quantity", text("quantity"), "amount")
    if not task:
        raw["remark"] = "; ".join(filter(None, ["no task in the export, taken as a sample", raw.get("remark")]))
    return raw


def _ct(row: Row, text: str, column: str, omitted: bool, cells: Checked) -> dict[str, Any]:
    """Ct and what it says; a word becomes a detection, never a number."""
    value = cells.notation.number(text, "ct")
    if value is not None:
        return {"value": value, "detection": "quantified"}
    word = detection(text, NO_AMPLIFICATION, "not_done" if omitted else "failed")
    if word is None or word.bound:
        cells.number(row.number, column, text, "ct")
        return {"detection": "failed"}
    remark = word.reason if text else "" if omitted else "no Ct in the export"
    return {"detection": word.detection, "remark": remark}


READER = Reader("quantstudio", "QuantStudio results", claim, read)
