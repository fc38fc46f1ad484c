"""FlowJo table-editor exports, wide form: one row per sample, one column per gate and statistic.

A column is headed ``gate/path | Count`` or ``gate/path | Freq. of Parent`` (FlowJo 8 and 9: a comma before the
statistic), the samples' totals ``Count`` alone; where its user has named the column, ``gate Count``. Each sample and
count column gives one raw row of events. Percentages are accounted for but not used: the events behind them decide what
can be quantified. Mean and SD rows repeat the samples. Other statistics (intensities, keywords) are not read, and the
file's report says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, detection, is_summary, normalised, notation, without_percent
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._gates import ALL_EVENTS, check_nested
from nkinetics.readers._plate import check_end, check_header, joined
from nkinetics.settings import Settings

_HEAD = re.compile(r"(.*\S)\s*\|\s*(\S.*)")
_OLD_HEAD = re.compile(r"(.*\S),\s*(Count|Freq\. of \S.*)")
_NAMED_HEAD = re.compile(r"(?i)(?!.*(?:abs|conc|ratio|norm|per\b|[/|]))(?!(?:event|cell|total)s?\s)(.*\S)\s+count")
_NAMED = "a column named by its user, taken as a count of events"
_FIRST = ("", "name", "sample", "samplename", "filename", "file", "fil", "tubename", "unnamed0")
_ROUNDED = re.compile(r"[eE]\+?\d+$")
"""FlowJo prints counts from some 400,000 on with three digits, as 4.43E+05."""
_PERCENT_OF = ("freqof", "frequencyof", "percentof", "of")


@dataclass(frozen=True)
class _Statistic:
    """One column: its place, its gate's path, what it holds."""

    place: int
    header: str
    gate: str
    measure: str
    named: bool = False

    @property
    def kind(self) -> Kind:
        return "count" if self.measure == "events" else "amount"


def _statistics(header: Row, samples: bool) -> list[_Statistic]:
    """Count and percent columns of a header row; those of a user's own name only above samples of FCS files."""
    found = []
    for i, text in enumerate(header.cells[1:], start=1):
        match = _HEAD.fullmatch(text) or _OLD_HEAD.fullmatch(text)
        if not match:
            if samples and (named := _NAMED_HEAD.fullmatch(text)):
                found.append(_Statistic(i, text, named.group(1), "events", named=True))
            continue
        name = normalised(match.group(2))
        if name == "count":
            found.append(_Statistic(i, text, match.group(1), "events"))
        elif name.startswith(_PERCENT_OF):
            found.append(_Statistic(i, text, match.group(1), "level"))
    # A column Count alone could be anyone's; beside gates it is the total of each sample.
    total = next((i for i, text in enumerate(header.cells[1:], start=1) if normalised(text) == "count"), None)
    if found and total is not None:
        found.insert(0, _Statistic(total, header.cells[total], ALL_EVENTS, "events"))
    return found


def _header(export: Export) -> tuple[Sheet, int, list[_Statistic]] | None:
    """The first row with gates: its first cell names the samples or is empty."""
    for sheet in export.tables:
        for i, row in enumerate(sheet.top[:20]):
            below = next((r.cell(0) for r in sheet.top[i + 1 :] if not r.blank), "")
            samples = below.lower().endswith(".fcs")
            statistics = _statistics(row, samples)
            if statistics and (normalised(row.cell(0)) in _FIRST or samples):
                return sheet, i, statistics
    return None


def claim(export: Export, settings: Settings) -> Claim:
    """Whether a header row names gates and their counts."""
    marks = {"events": "a column '<gate> | Count'", "level": "a column '<gate> | Freq. of ...'"}
    head = _header(export)
    if head is None:
        fcs = any(row.cell(0).lower().endswith(".fcs") for sheet in export.tables for row in sheet.top[:50])
        return Claim(False, ("sample names that end in .fcs",) if fcs else (), (marks["events"],))
    return Claim(True, tuple(marks[m] for m in sorted({s.measure for s in head[2]})))


def read(export: Export, settings: Settings) -> Reading:
    """One row per sample and count column, and the rows that are set aside: percentages, Mean and SD.

    Raises
    ------
    InputError
        When there is no count column, or with every cell that is wrong.
    """
    head = _header(export)
    assert head is not None
    sheet, first, statistics = head
    header = sheet.rows[first]
    if not any(s.measure == "events" for s in statistics):
        found = "percentages and no column '<gate> | Count'"
        mend = "add the statistic Count of both gates to the table in FlowJo"
        raise export.refuse(found, "event counts", mend, header.number, sheet.name)
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    cells.notation = notation(
        export.label,
        (
            (without_percent(row.cell(s.place)), s.kind)
            for row in body
            if not is_summary(row.cell(0))
            for s in statistics
        ),
        settings.inputs.decimal,
    )
    _check_table(header, body, statistics, sheet, cells)
    check_header(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    rows = []
    for row in body:
        own = _nested([_row(row, s, export.stem, cells) for s in statistics])
        for raw, s in zip(own, statistics, strict=True):
            remark = joined(raw.get("remark", ""), export.unfinished(sheet, row, [s.place]))
            rows.append({**raw, "remark": remark})
    cells.done()
    used = {0, *(s.place for s in statistics)}
    filled = {i for row in body for i, c in enumerate(row.cells) if c}
    unread = [
        c or f"column {i + 1} (without a header)"
        for i, c in enumerate(header.cells)
        if i not in used and (c or i in filled)
    ]
    note = f"columns not read: {', '.join(unread)}" if unread else ""
    return Reading(rows, note)


def _check_table(
    header: Row, body: Sequence[Row], statistics: Sequence[_Statistic], sheet: Sheet, cells: Checked
) -> None:
    seen: set[str] = set()
    for s in statistics:
        if s.header in seen:
            cells.problem(header.number, s.header, "the column twice", "each gate once", "remove one from the table")
        seen.add(s.header)
    if not body:
        cells.problem(header.number, sheet.name, "a header without samples", "samples", "export again")
    cells.shape(len(header.cells), [row.length for row in body])
    last = max(s.place for s in statistics)
    for row in body:
        cells.once(row.number, "sample", (row.cell(0),))
        if len(row.cells) <= last and not is_summary(row.cell(0)):
            expected = f"{len(header.cells)} cells, as in the header"
            cells.problem(row.number, "", f"a row of {len(row.cells)}", expected, "export the file again")


def _nested(own: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The raw rows of one sample, each gate held against the nearest gate around it by its path.

    Counts that are printed rounded prove nothing against others.
    """
    exact = [i for i, raw in enumerate(own) if raw["measure"] == "events" and not _ROUNDED.search(raw["value_raw"])]
    by_path = {own[i]["target"]: i for i in exact}
    parents: dict[int, int] = {}
    for i in exact:
        path = own[i]["target"]
        around = [p for p in by_path if path.startswith(p + "/")]
        outer = max(around, key=len) if around else ALL_EVENTS
        if path != ALL_EVENTS and outer in by_path:
            parents[i] = by_path[outer]
    # Several raw rows share a row of the table, so they are told apart by their place.
    numbered = [{**raw, "source_row": i} for i, raw in enumerate(own)]
    check_nested(numbered, parents)
    return [{**raw, "source_row": first["source_row"]} for raw, first in zip(numbered, own, strict=True)]


def _row(row: Row, column: _Statistic, run_id: str, cells: Checked) -> dict[str, Any]:
    """One cell of the table as a raw row."""
    name, text = row.cell(0), row.cell(column.place)
    events = column.measure == "events"
    raw: dict[str, Any] = {
        "source_row": row.number,
        "run_id": run_id,
        "sample_id": re.sub(r"(?i)\.fcs$", "", name),
        "role": "unknown",
        # A percentage shares the gate with its count; the statistic in its target keeps the two apart.
        "target": column.gate if events else column.header,
        "measure": column.measure,
        "value_raw": text,
        "level_unit": "" if events else "%",
    }
    if is_summary(name):
        return {**raw, "role": "summary", "note": f"summary row {name}"}
    if not name:
        cells.problem(row.number, "sample", "an empty cell", "the name of a sample", "export the file again")
    cells.sample_name(row.number, "sample", name)
    raw.update(_value(row, column, text, cells))
    if not events:
        raw.update(role="summary", note="a percentage; the event counts are used")
    return raw


def _value(row: Row, column: _Statistic, text: str, cells: Checked) -> dict[str, Any]:
    plain = without_percent(text)
    value = cells.notation.number(plain, column.kind)
    if value is None:
        word = detection(plain)
        if word is not None and word.detection in ("not_done", "failed"):
            return {"detection": word.detection, "remark": word.reason if text else "no count in the export"}
        cells.number(row.number, column.header, plain, column.kind)
        return {"detection": "failed"}
    rounded = column.measure == "events" and _ROUNDED.search(plain)
    remark = f"printed with few digits ({plain}): the count is rounded" if rounded else ""
    return {"value": value, "detection": "quantified", "remark": joined(remark, _NAMED if column.named else "")}


READER = Reader("flowjo_table", "FlowJo table", claim, read)
