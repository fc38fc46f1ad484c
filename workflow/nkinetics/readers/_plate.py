"""What the exports of plate instruments have in common: wells, tasks, Ct cells and the damage that a table can show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from nkinetics.readers._cells import NO_AMPLIFICATION, Checked, danger, detection, normalised
from nkinetics.readers._export import Export, Row, Sheet

_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9]\d{0,2})", re.ASCII)

ROLES: Mapping[str, str] = {
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
"""Role of each task of Applied Biosystems software. An endogenous control is a reference target of a sample."""

NTC_NAMES = frozenset({"ntc", "notemplatecontrol", "nontemplatecontrol"})
"""Sample names, normalised, that are no-template controls where a format has no column for the kind of a well."""


def named_ntc(sample: str) -> bool:
    """Whether a sample is a no-template control by its name, with or without a number.

    Examples
    --------
    >>> named_ntc("NTC"), named_ntc("ntc-2"), named_ntc("NTC 1"), named_ntc("NTC patient")
    (True, True, True, False)
    """
    return normalised(sample).rstrip("0123456789") in NTC_NAMES


TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def well_name(text: str) -> str:
    """A well as A1; empty where the text is no well.

    Examples
    --------
    >>> well_name("A01"), well_name("p24"), well_name("Reference Sample")
    ('A1', 'P24', '')
    """
    match = _WELL.fullmatch(text)
    return f"{match.group(1).upper()}{match.group(2)}" if match else ""


def file_name(text: str, endings: Sequence[str] = ()) -> str:
    r"""The last part of a path without one of the endings; empty where nothing usable as a name is left.

    Examples
    --------
    >>> file_name("C:\\Users\\someone\\Run 7.eds", (".eds",)), file_name("=1+1")
    ('Run 7', '')
    """
    name = re.split(r"[/\\]", text.strip())[-1].strip()
    for ending in endings:
        if name.lower().endswith(ending):
            name = name[: -len(ending)].strip()
    return "" if danger(name) or name.upper() in ("NA", "N/A", "-") else name


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?: ?([AP])M)?(?:[ +-].*)?", re.ASCII)


def instant(text: str) -> str:
    """An instrument's date and time in ISO form, its zone left out; empty where the order of day and month is not sure.

    Some software writes the hours of a day and PM behind them.

    Examples
    --------
    >>> instant("2024-02-12 04:03:59 PM EST"), instant("2021-03-15 16:25:32 PM EDT"), instant("5/19/2023")
    ('2024-02-12T16:03:59', '2021-03-15T16:25:32', '')
    """
    match = _INSTANT.fullmatch(text.strip())
    if not match:
        return ""
    day, hour, minute, second, half = match.groups()
    hours = int(hour)
    if half and hours <= 12:
        hours = hours % 12 + (12 if half == "P" else 0)
    found = f"{day}T{hours:02}:{minute}:{second}"
    try:
        datetime.fromisoformat(found)
    except ValueError:
        return ""
    return found


def key_block(rows: Iterable[Row]) -> dict[str, str]:
    """Keys and values above a table, by normalised key: in two cells, or in one as ``key: value``, ``key = value``."""
    keys: dict[str, str] = {}
    for row in rows:
        first = row.cell(0).lstrip("*# ")
        name, mark, value = first.partition("=") if "=" in first else first.partition(":")
        if row.cell(1) or not mark:
            # The value stands in the next cell; a colon within the first belongs to neither, as in "Run Start Date:".
            name, value = first, row.cell(1)
        if normalised(name):
            keys.setdefault(normalised(name), value.strip())
    return keys


def places(at: Mapping[str, int], names: Iterable[str]) -> list[int]:
    """Positions of those of the columns that a header has."""
    return [at[name] for name in names if name in at]


def repeated(header: Sequence[str], names: Iterable[str]) -> dict[str, list[int]]:
    """Columns that a reader uses and that stand more than once, with their positions."""
    found: dict[str, list[int]] = {}
    for i, text in enumerate(header):
        found.setdefault(normalised(text), []).append(i)
    return {name: found[name] for name in names if len(found.get(name, ())) > 1}


def check_repeated(row: Row, header: Sequence[str], columns: Mapping[str, Sequence[int]], cells: Checked) -> None:
    """Note a row whose cells differ under the same header: nobody can tell which of the two is meant."""
    for at in columns.values():
        if len({row.cell(i) for i in at}) > 1:
            both = " and ".join(repr(str(row.cell(i))) for i in at)
            cells.problem(row.number, header[at[0]], both, f"the same in both columns {header[at[0]]}")


def wells(rows: Iterable[Row], position: int, column: str, cells: Checked, number: bool = False) -> Iterator[Row]:
    """The rows that are wells; lines on the analysis below them are passed over, anything else is a problem.

    Parameters
    ----------
    rows : iterable of Row
        Below the header.
    position : int
        Of the well.
    column : str
        Its header, for messages.
    cells : Checked
        Takes the problems.
    number : bool
        Wells may be numbers, as SDS 2 counts them.
    """
    for row in rows:
        text = row.cell(position)
        if well_name(text) or (number and text.isdigit()):
            yield row
        elif len([c for c in row.cells if c]) > 2:
            found = repr(str(text)) if text else "an empty cell"
            cells.problem(row.number, column, found, "a well, as A1", "export the file again")


def check_shape(
    export: Export, sheet: Sheet, header: Row, body: Sequence[Row], needed: Sequence[int], cells: Checked
) -> None:
    """Note a row longer than the header, which has shifted, and one that ends before a column that is needed.

    Parameters
    ----------
    export, sheet, header, body
        The table.
    needed : sequence of int
        Positions of the columns without which a row says nothing.
    cells : Checked
        Takes the problems.
    """
    last = max(needed)
    width = len(header.cells)
    check_header(export, header, body, cells)
    long = [row for row in body if len(row.cells) > last]
    cells.shape(width, [row.length for row in long])
    for row in body:
        if len(row.cells) <= last:
            expected = f"a cell under {header.cells[last]}"
            cells.problem(row.number, header.cells[last], "a row that ends before it", expected, "export again")


def check_names(export: Export, header: Row, body: Sequence[Row], cells: Checked) -> None:
    """Note a header that lost a name, which shifts every row: rows are longer, even where their last cells are empty.

    Not for QuantaSoft, some of whose versions write one cell more than names.
    """
    width = len(header.cells)
    if export.kind == "text" and body and (shortest := min(len(row.cells) for row in body)) > width:
        found = f"{width} names above rows of {shortest} cells"
        cells.problem(header.number, "", found, "a name for each cell", "export the file again")


_VALUE = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?%?", re.ASCII)


def check_header(export: Export, header: Row, body: Sequence[Row], cells: Checked) -> None:
    """Note a header that has lost its line end: the first row then stands behind its names, and nowhere else."""
    longest = max((len(row.cells) for row in body), default=0)
    if export.kind != "text" or not longest or len(header.cells) < 2 * longest - 1:
        return
    values = [text for text in header.cells[longest - 1 :] if _VALUE.fullmatch(text)]
    if values:
        found = f"{len(header.cells)} cells above rows of {longest}, {values[0]} among them"
        cells.problem(header.number, "", found, "the names of the columns alone", "export or copy the file again")


def check_end(export: Export, sheet: Sheet, header: Row, body: Sequence[Row], cells: Checked) -> None:
    """Note a last line that has no line end and fewer cells than the other rows: the file was cut within it.

    A value that was cut itself, at the end of the last line, shows only where the line has cells behind it.
    """
    if not body or export.kind != "text" or export.ends_cleanly:
        return
    last, others = body[-1], body[:-1]
    usual = max((len(row.cells) for row in others), default=len(header.cells))
    if last.number == sheet.rows[-1].number and len(last.cells) < usual:
        found = f"a last line of {len(last.cells)} cells"
        cells.problem(last.number, "", found, f"{usual}, as in the other rows", "copy the file again")


def omitted(row: Row, column: str, text: str, cells: Checked) -> bool:
    """Whether the operator omitted the well."""
    word = text.lower()
    if word not in TRUE + FALSE:
        cells.problem(row.number, column, repr(str(text)), "true or false", "correct the cell")
    return word in TRUE


def role_of(row: Row, column: str, task: str, cells: Checked) -> str:
    """Role of a task; unknown where the cell is empty or holds what is no task, which is noted."""
    role = ROLES.get(normalised(task))
    if task and role is None:
        if not normalised(task).startswith(("pc", "ipc")):
            cells.problem(row.number, column, repr(str(task)), "UNKNOWN, STANDARD, NTC or IPC", "correct the task")
        return "control"
    return role or "unknown"


def ct_of(row: Row, column: str, text: str, left_out: bool, cells: Checked) -> dict[str, Any]:
    """Ct and what it says; a word becomes a detection, never a number."""
    value = cells.notation.number(text, "ct")
    if value is not None:
        return {"value": value, "detection": "quantified"}
    word = detection(text, NO_AMPLIFICATION, "not_done" if left_out else "failed")
    if word is None or word.bound:
        cells.number(row.number, column, text, "ct")
        return {"detection": "failed"}
    remark = word.reason if text else "" if left_out else "no Ct in the export"
    return {"detection": word.detection, "remark": remark}


def joined(*remarks: str) -> str:
    """Remarks as one text, empty ones left out.

    Examples
    --------
    >>> joined("a", "", "b")
    'a; b'
    """
    return "; ".join(r for r in remarks if r)


def partitions(
    row: Row, valid: tuple[str, str], positive: tuple[str, str], concentration: tuple[str, str], cells: Checked
) -> dict[str, Any]:
    """Partition counts and a printed concentration, and what they say together; each given as (header, cell).

    The counts decide. A well without a positive partition is not detected, whatever a concentration of 0 is printed
    as; one that prints a concentration all the same contradicts itself and is not usable.
    """
    printed = concentration[1]
    if not valid[1] and not positive[1]:
        if cells.notation.number(printed):
            cells.problem(row.number, valid[0], "an empty cell", "the partitions behind the concentration")
        return {"detection": "failed", "remark": "no partitions in the export"}
    n = cells.number(row.number, valid[0], valid[1], "count")
    k = cells.number(row.number, positive[0], positive[1], "count")
    if n is None or k is None:
        return {"detection": "failed"}
    if k > n:
        cells.problem(row.number, positive[0], f"{k:.0f} positive of {n:.0f} partitions", "no more than all of them")
    counted: dict[str, Any] = {"n_partitions": int(n), "n_positive": int(k)}
    value = cells.notation.number(printed, "amount")
    if value is None and ((word := detection(printed)) is None or word.bound):
        cells.number(row.number, concentration[0], printed, "amount")
        return {**counted, "detection": "failed"}
    if n == 0:
        return {**counted, "detection": "failed", "remark": "no valid partitions"}
    if k == 0:
        said = f"no positive among {n:.0f} partitions"
        note = f"{said}, but a printed concentration of {printed}" if value else ""
        return {**counted, "detection": "not_detected", "remark": said, "note": note}
    if k >= n:
        return {**counted, "detection": "above", "remark": "saturated: no negative partition"}
    if not value:
        return {
            **counted,
            "detection": "failed",
            "remark": f"{printed or 'no concentration'} in spite of {k:.0f} positives",
        }
    return {**counted, "value": value, "detection": "quantified"}
