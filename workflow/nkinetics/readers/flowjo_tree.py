"""FlowJo workspace exported as a table, tree form: one row per sample and one per gate below it.

Columns Depth, Name, Statistic, #Cells (Depth may be missing). A gate's name is its path (``P01.fcs/Lymphocytes/NK``),
or its own name alone, indented by ``>`` marks in Depth or before the name. #Cells holds the events; Statistic holds the
percentage of the parent, which is used to check that a row stands under the right one. Rows of other statistics
(intensities) and Mean and SD rows are accounted for and not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, columns, detection, is_summary, notation, without_percent
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._gates import ALL_EVENTS, NOT_COMPUTED, check_nested, sample_name
from nkinetics.readers._plate import check_end, check_header, check_repeated, joined, repeated
from nkinetics.settings import Settings

_MARKS = {"Name": "name", "Statistic": "statistic", "#Cells": "cells"}
_INDENT = re.compile(r"((?:>\s*)*)(.*)", re.DOTALL)
_SAMPLE = re.compile(r"(?i)(.+?\.(?:fcs|lmd))(?:/(.+))?")
_PARAMETER_STATISTIC = r"geom(?:etric|\.)?\s*mean|mean|median|mode|(?:robust\s*)?(?:cv|sd)|mad|percentile"
_STATISTIC = re.compile(rf"(?i)({_PARAMETER_STATISTIC}|freq(?:uency|\.)?\s*of|count)\b.*")
_OF_PARAMETER = re.compile(rf"(?i)(?:{_PARAMETER_STATISTIC})\s*[:(].*")
"""A statistic of a parameter, as ``Median : APC-A``, which may repeat the events of its gate."""
_ROUNDING = 0.006
"""Relative: FlowJo prints three digits."""


@dataclass
class _Tree:
    """Where the walk down the table stands."""

    sample: str = ""
    file: str = ""
    """The sample as the table writes it, with its ending."""
    paths: list[tuple[str, int]] = field(default_factory=list)
    """Path of the gate at each depth, the sample's own (empty) first, and its row."""


def _header(export: Export) -> tuple[Sheet, int, Mapping[str, int]] | None:
    for sheet in export.tables:
        for i, row in enumerate(sheet.top[:20]):
            names = columns(row.cells)
            # Stains and keywords may be columns too; without FlowJo's own spelling a wide table is another's.
            own = any(c.replace(" ", "") == "#Cells" for c in row.cells)
            if all(key in names for key in _MARKS.values()) and (own or len(names) <= 8):
                return sheet, i, names
    return None


def claim(export: Export, settings: Settings) -> Claim:
    """Whether a header row has the columns of FlowJo's tree of samples."""
    if _header(export) is not None:
        return Claim(True, tuple(f"a column {name}" for name in _MARKS))
    present: set[str] = set()
    for sheet in export.tables:
        for row in sheet.top[:20]:
            names = columns(row.cells)
            present = max(present, {m for m, key in _MARKS.items() if key in names}, key=len)
    return Claim(False, tuple(m for m in _MARKS if m in present), tuple(m for m in _MARKS if m not in present))


def read(export: Export, settings: Settings) -> Reading:
    """One row per sample total and gate, and the rows that are set aside: other statistics, Mean and SD.

    Raises
    ------
    InputError
        With every count that is no number, every gate that belongs to no sample or to no gate above it, and every
        percentage that contradicts its counts where the others fit.
    """
    head = _header(export)
    assert head is not None
    sheet, first, at = head
    header = sheet.rows[first]
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    if not body:
        cells.problem(header.number, sheet.name, "a header without samples", "samples", "export again")
    cells.shape(len(header.cells), [row.length for row in body])
    check_header(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    name, statistic, events = (at[key] for key in _MARKS.values())
    numbers = [(row.cell(events), "count") for row in body] + [
        (without_percent(row.cell(statistic)), "number") for row in body
    ]
    cells.notation = notation(export.label, numbers, settings.inputs.decimal)  # type: ignore[arg-type]
    tree = _Tree()
    parents: dict[int, int] = {}
    rows = []
    twice = repeated(header.cells, [*_MARKS.values(), "depth"])
    depth = at.get("depth")
    # Where some names are indented, one without a mark is a sample.
    indented = depth is not None or any(row.cell(name).startswith(">") for row in body)
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        marks, own = _INDENT.fullmatch(row.cell(name)).groups()  # type: ignore[union-attr]
        depth_of = _depth(row.cell(depth), marks, row.number, cells) if indented else None
        raw = _row(row, own.strip(), depth_of, row.cell(statistic), row.cell(events), tree, parents, cells)
        remark = joined(raw.get("remark", ""), export.unfinished(sheet, row, [events]))
        rows.append({"run_id": export.stem, "measure": "events", **raw, "remark": remark})
    _check_percentages(rows, parents, {row.number: row.cell(statistic) for row in body}, cells)
    check_nested(rows, parents)
    cells.done()
    used = {name, statistic, events, at.get("depth")}
    unread = [c for i, c in enumerate(header.cells) if i not in used and c]
    return Reading(rows, f"columns not read: {', '.join(unread)}" if unread else "")


def _depth(text: str, marks: str, number: int, cells: Checked) -> int:
    """How deep a row lies: ``>`` marks in its own column or before the name, or a number."""
    if text.isascii() and text.isdigit() and not marks:
        return int(text)
    if text.replace(">", "").strip():
        cells.problem(number, "Depth", repr(str(text)), "marks > or a number", "export the file again")
    return text.count(">") or marks.count(">")


def _row(
    row: Row,
    name: str,
    depth: int | None,
    statistic: str,
    events: str,
    tree: _Tree,
    parents: dict[int, int],
    cells: Checked,
) -> dict[str, Any]:
    raw: dict[str, Any] = {"source_row": row.number, "sample_id": tree.sample, "role": "unknown", "value_raw": events}
    if is_summary(name):
        return raw | {"sample_id": name, "role": "summary", "target": ALL_EVENTS, "note": f"summary row {name}"}
    if not name:
        cells.problem(row.number, "Name", "an empty cell", "a sample or a gate", "export the file again")
        return raw
    leaf = name.rsplit("/", 1)[-1]
    if (not events and statistic and _STATISTIC.fullmatch(leaf)) or _OF_PARAMETER.fullmatch(leaf):
        match = _SAMPLE.fullmatch(name)
        if not tree.sample or (match and match.group(2) and not name.startswith(tree.file + "/")):
            expected = f"a statistic of {tree.file or 'a sample'}, the sample above"
            cells.problem(row.number, "Name", repr(name), expected, "export the file again")
        note = "a statistic other than the events of a gate; the event counts are used"
        return raw | {"role": "summary", "target": name, "value_raw": statistic, "note": note}
    path = _path(row.number, name, depth, tree, parents, cells)
    raw |= {"sample_id": tree.sample, "target": path or ALL_EVENTS}
    cells.once(row.number, "Name", (tree.sample, raw["target"]))
    value = cells.notation.number(events, "count")
    if value is not None:
        return raw | {"value": value, "detection": "quantified"}
    if events.replace(" ", "") == "-1":
        return raw | {"detection": "not_done", "remark": NOT_COMPUTED}
    word = detection(events)
    if word is not None and word.detection in ("not_done", "failed"):
        return raw | {"detection": word.detection, "remark": word.reason if events else "no count in the export"}
    cells.number(row.number, "#Cells", events, "count")
    return raw | {"detection": "failed"}


def _path(number: int, name: str, depth: int | None, tree: _Tree, parents: dict[int, int], cells: Checked) -> str:
    """Path of the gate below its sample, empty for the sample itself; moves the tree to this row."""
    match = _SAMPLE.fullmatch(name)
    if depth == 0 or (depth is None and match and not match.group(2)):
        if match and match.group(2):
            cells.problem(number, "Depth", f"0 for {name!r}", "the depth of a gate", "export the file again")
        tree.file, tree.sample = name, cells.sample_name(number, "Name", sample_name(name))
        tree.paths = [("", number)]
        return ""
    if not tree.sample:
        cells.problem(number, "Name", repr(name), "a sample above its gates", "export the file again")
        return name
    file = tree.file
    if name.startswith(file + "/"):
        path = name[len(file) + 1 :]
    elif match and match.group(2):
        cells.problem(number, "Name", repr(name), f"a gate of {file}, the sample above", "export the file again")
        return name
    elif depth is None:
        cells.problem(number, "Name", repr(name), f"the whole path of a gate of {file}", "export with Depth")
        return name
    else:
        path = ""
    if depth is None:
        depth = path.count("/") + 1
        # Without depth the path alone says where a gate belongs; gates above it that were not exported are no loss.
        while len(tree.paths) > 1 and not path.startswith(tree.paths[-1][0] + "/"):
            tree.paths.pop()
    else:
        if depth > len(tree.paths):
            found = f"a depth of {depth} below one of {len(tree.paths) - 1}"
            cells.problem(number, "Depth", found, "every gate below the one that it divides", "export the file again")
            depth = len(tree.paths)
        del tree.paths[depth:]
        above = tree.paths[-1][0]
        path = path or (f"{above}/{name}" if above else name)
        if above and not path.startswith(above + "/"):
            cells.problem(number, "Name", repr(name), f"a gate below {above}", "export the file again")
    parents[number] = tree.paths[-1][1]
    tree.paths.append((path, number))
    return path


def _check_percentages(
    rows: Sequence[dict[str, Any]], parents: dict[int, int], texts: dict[int, str], cells: Checked
) -> None:
    """Hold each percentage, of the parent or of the total, against its counts; where many fit, the others are wrong."""
    counts = {row["source_row"]: row["value"] for row in rows if row.get("detection") == "quantified"}
    totals = {number: _outermost(number, parents) for number in parents}
    best: tuple[int, list[tuple[int, int]]] = (0, [])
    for around in (parents, totals):
        fitting, wrong = 0, []
        for number, outer in around.items():
            text = without_percent(texts[number])
            printed = cells.notation.number(text, "number")
            if printed is None or number not in counts or not counts.get(outer):
                continue
            share = 100 * counts[number] / counts[outer]
            digits = re.search(r"[.,](\d+)$", text)
            last = 0.51 * 10.0 ** -(len(digits.group(1)) if digits else 0)
            if abs(share - printed) <= max(last, _ROUNDING * share):
                fitting += 1
            else:
                wrong.append((number, outer))
        best = max(best, (fitting, wrong), key=lambda found: found[0])
    fitting, wrong = best
    # Where a statistic of another kind stands in the column, hardly any number fits by chance.
    if 2 * fitting < len(wrong):
        return
    for number, outer in wrong:
        share = 100 * counts[number] / counts[outer]
        found = f"{texts[number]} beside {counts[number]:.0f} of {counts[outer]:.0f} events, which are {share:.3g} %"
        cells.problem(number, "Statistic", found, "the percentage that its events are, as in the other rows")


def _outermost(number: int, parents: dict[int, int]) -> int:
    while number in parents:
        number = parents[number]
    return number


READER = Reader("flowjo_tree", "FlowJo tree table", claim, read)
