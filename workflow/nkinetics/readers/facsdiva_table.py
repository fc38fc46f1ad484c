"""BD FACSDiva statistics (csv) of a batch analysis: one row per tube or well, one column per gate and statistic.

A column is headed ``gate #Events``, ``gate %Parent`` or ``gate APC-A Mean``, without the gates around it. Each tube and
column of events gives one raw row; percentages are accounted for and not used, since the events behind them decide what
can be quantified. Other statistics and keywords are not read, and the file's report says so. A sample is called as
FACSDiva names its FCS file: ``<specimen>_<tube>``. A tube without any event was not recorded, which is no result of 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, detection, notation, without_percent
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._gates import ALL_EVENTS, check_nested
from nkinetics.readers._plate import check_end, check_header, check_names, check_repeated, joined, repeated
from nkinetics.settings import Settings

_STATISTIC = re.compile(r"(?i)(\S.*?)\s+(#Events|%Parent|%Total|%Grandparent)")
_TUBES = ("tubename", "wellname", "tube", "well")
_SPECIMENS = ("specimenname", "specimen")
_COUNT = re.compile(r"[\d.,\s'\u2019]+")
_WANTED = {"events": "a number of events", "level": "a percentage"}
_NOT_RECORDED = "no events at all: the tube was not recorded, or not loaded when the statistics were written"


class _Statistic(NamedTuple):
    """One column: its place, its header, its gate, what it holds."""

    place: int
    header: str
    gate: str
    measure: str

    @property
    def kind(self) -> Kind:
        return "count" if self.measure == "events" else "amount"


class _Table(NamedTuple):
    """The table of an export, found but not yet read."""

    sheet: Sheet
    head: int
    tube: int
    specimen: int
    statistics: Sequence[_Statistic]


def _statistics(header: Row) -> list[_Statistic]:
    found = []
    for i, text in enumerate(header.cells):
        if match := _STATISTIC.fullmatch(text):
            events = match.group(2).lower() == "#events"
            # A percentage shares the gate with its count; the statistic in its target keeps the two apart.
            found.append(_Statistic(i, text, match.group(1) if events else text, "events" if events else "level"))
    return found


def _first(at: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((at[name] for name in names if name in at), None)


def _table(export: Export) -> _Table | None:
    """The first row with a tube and the events of a gate."""
    for sheet in export.tables:
        for i, row in enumerate(sheet.top[:20]):
            at, statistics = columns(row.cells), _statistics(row)
            tube, specimen = _first(at, _TUBES), _first(at, _SPECIMENS)
            if tube is not None and specimen is not None and any(s.measure == "events" for s in statistics):
                return _Table(sheet, i, tube, specimen, statistics)
    return None


def claim(export: Export, settings: Settings) -> Claim:
    """Whether a header row names specimens, tubes and the events of their gates."""
    marks = ("Specimen Name", "Tube Name", "a column '<gate> #Events'")
    if _table(export) is not None:
        return Claim(True, marks)
    found: tuple[str, ...] = ()
    for sheet in export.tables:
        for row in sheet.top[:20]:
            at = columns(row.cells)
            events = any(s.measure == "events" for s in _statistics(row))
            there = (_first(at, _SPECIMENS) is not None, events and _first(at, _TUBES) is not None, events)
            found = max(found, tuple(m for m, t in zip(marks, there, strict=True) if t), key=len)
    return Claim(False, found, tuple(m for m in marks if m not in found))


def read(export: Export, settings: Settings) -> Reading:
    """One row per tube and column of events, and the percentages, which are set aside.

    Raises
    ------
    InputError
        With every cell that is wrong, and every tube that stands twice.
    """
    table = _table(export)
    assert table is not None
    sheet, statistics = table.sheet, table.statistics
    header = sheet.rows[table.head]
    cells = Checked(export.label)
    body = [row for row in sheet.rows[table.head + 1 :] if not row.blank]
    if not body:
        cells.problem(header.number, sheet.name, "a header without tubes", "tubes", "export again")
    cells.notation = notation(
        export.label,
        ((without_percent(row.cell(s.place)), s.kind) for row in body for s in statistics),
        settings.inputs.decimal,
    )
    cells.shape(len(header.cells), [row.length for row in body])
    check_header(export, header, body, cells)
    check_names(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    twice = repeated(header.cells, [*_TUBES, *_SPECIMENS])
    for name in {s.header for s in statistics if sum(t.header == s.header for t in statistics) > 1}:
        cells.problem(header.number, name, "the column twice", "each gate once", "rename one of the two gates")
    rows: list[dict[str, Any]] = []
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        own = _tube(row, table, export.stem, cells)
        for raw, s in zip(own, statistics, strict=True):
            raw["remark"] = joined(raw.get("remark", ""), export.unfinished(sheet, row, [s.place]))
        rows += own
    cells.done()
    used = {table.tube, table.specimen, *(s.place for s in statistics)}
    filled = {i for row in body for i, c in enumerate(row.cells) if c}
    unread = [
        c or f"column {i + 1} (without a header)"
        for i, c in enumerate(header.cells)
        if i not in used and (c or i in filled)
    ]
    return Reading(rows, f"columns not read: {', '.join(unread)}" if unread else "")


def _tube(row: Row, table: _Table, run_id: str, cells: Checked) -> list[dict[str, Any]]:
    """The raw rows of one tube."""
    tube = row.cell(table.tube)
    if not tube:
        cells.problem(row.number, "Tube Name", "an empty cell", "the name of a tube", "export again")
    name = cells.sample_name(row.number, "Tube Name", "_".join(filter(None, (row.cell(table.specimen), tube))))
    cells.once(row.number, "Tube Name", (name,))
    own = [_cell(row, s, cells) for s in table.statistics]
    total = next((i for i, s in enumerate(table.statistics) if s.gate == ALL_EVENTS), None)
    events = [i for i, s in enumerate(table.statistics) if s.measure == "events"]
    if total is not None and all(own[i].get("value") == 0 for i in events):
        for i in events:
            del own[i]["value"]
            own[i] |= {"detection": "not_done", "remark": _NOT_RECORDED}
    # Several raw rows share a row of the table, so they are told apart by their place.
    numbered = [{**raw, "source_row": i} for i, raw in enumerate(own)]
    if total is not None:
        check_nested([numbered[i] for i in events], {i: total for i in events if i != total})
    about = {"source_row": row.number, "run_id": run_id, "sample_id": name}
    return [{**raw, **about} for raw in numbered]


def _cell(row: Row, s: _Statistic, cells: Checked) -> dict[str, Any]:
    """One cell of the table as columns of a raw row."""
    text = row.cell(s.place)
    raw: dict[str, Any] = {"role": "unknown", "target": s.gate, "measure": s.measure, "value_raw": text}
    if s.measure != "events":
        raw |= {"role": "summary", "level_unit": "%", "note": "a percentage; the event counts are used"}
    plain = without_percent(text)
    value = cells.notation.number(plain, s.kind)
    # FACSDiva prints a count in full, with marks between thousands; 2.0 or 4E+1 is of another column.
    if value is not None and (s.measure != "events" or _COUNT.fullmatch(plain.replace(cells.notation.decimal, "x"))):
        return raw | {"value": value, "detection": "quantified"}
    word = detection(plain)
    # FACSDiva fills a cell with #### where it has nothing to divide by.
    if set(plain) == {"#"} or (word is not None and word.detection in ("not_done", "failed")):
        reason = word.reason if word is not None and text else "no count in the export"
        return raw | {"detection": "not_done" if word is None else word.detection, "remark": reason}
    cells.problem(row.number, s.header, repr(plain) if plain else "an empty cell", _WANTED[s.measure])
    return raw | {"detection": "failed"}


READER = Reader("facsdiva_table", "FACSDiva statistics", claim, read)
