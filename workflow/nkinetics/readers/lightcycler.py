"""Roche LightCycler 480 results: text separated by tabs, one row per well, one file per filter.

The first line names the experiment and the filter, which is the only name that the target has. A well that never
crossed has no Cp and is drawn in green (color 65280), which tells it from a well that was not analysed. The column
Standard holds the concentration of a standard and 0 elsewhere; nothing tells a control but its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, notation
from nkinetics.readers._export import Export, Row
from nkinetics.readers._plate import (
    check_end,
    check_names,
    check_repeated,
    check_shape,
    ct_of,
    file_name,
    joined,
    named_ntc,
    omitted,
    repeated,
    well_name,
    wells,
)
from nkinetics.settings import Settings

_TITLE = re.compile(
    r"Experiment:\s*(?P<name>.*?)\s*(?:\s(?:Selected|Active)?\s*Filters?:\s*(?P<filter>.*))?", re.IGNORECASE
)
_MARKS: Mapping[str, tuple[str, ...]] = {
    "Include": ("include", "inc"),
    "Pos": ("pos",),
    "Name": ("name",),
    "Cp": ("cp",),
    "Concentration": ("concentration", "conc"),
    "Standard": ("standard",),
}
_NEGATIVE = "65280"
"""Green: the software's color of a negative well."""


def _places(row: Row) -> dict[str, int]:
    at = columns(row.cells)
    return {m: next(at[n] for n in names if n in at) for m, names in _MARKS.items() if any(n in at for n in names)}


def _head(export: Export) -> tuple[int, dict[str, int]]:
    """The row with most marks among the first, and where they stand."""
    best: tuple[int, dict[str, int]] = (0, {})
    if export.kind == "text":
        for i, row in enumerate(export.sheets[0].top[:20]):
            at = _places(row)
            if len(at) > len(best[1]):
                best = i, at
    return best


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the text has every column of this software's results."""
    _, at = _head(export)
    return Claim(len(at) == len(_MARKS), tuple(at), tuple(m for m in _MARKS if m not in at))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well.

    Raises
    ------
    InputError
        With every cell that is wrong.
    """
    sheet = export.sheets[0]
    first, at = _head(export)
    header = sheet.rows[first]
    more = columns(header.cells)
    cells = Checked(export.label)
    body = list(wells(sheet.rows[first + 1 :], at["Pos"], "Pos", cells))
    if not body:
        cells.problem(header.number, "", "a header without wells", "results", "export again")
    kinds: dict[str, Kind] = {"Cp": "ct", "Concentration": "amount", "Standard": "amount"}
    cells.notation = notation(
        export.label, ((r.cell(at[n]), kind) for r in body for n, kind in kinds.items()), settings.inputs.decimal
    )
    check_shape(export, sheet, header, body, list(at.values()), cells)
    check_names(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    name, filter_name = _title(sheet.rows[:first])
    run_id = name or export.stem
    rows = []
    twice = repeated(header.cells, [n for names in _MARKS.values() for n in names])
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        raw = _well(row, at, more, filter_name, cells)
        cells.once(row.number, "Pos", (raw["well"],))
        rows.append({"run_id": run_id, **raw})
    cells.done()
    return Reading(rows, export.note)


def _title(rows: list[Row]) -> tuple[str, str]:
    """Experiment and filter of the first line."""
    for row in rows:
        match = _TITLE.fullmatch(" ".join(c for c in row.cells if c))
        if match:
            return file_name(match["name"]), (match["filter"] or "").strip()
    return "", ""


def _well(row: Row, at: Mapping[str, int], more: Mapping[str, int], target: str, cells: Checked) -> dict[str, Any]:
    """One row of the results as a raw row."""
    sample, cp, standard = row.cell(at["Name"]), row.cell(at["Cp"]), row.cell(at["Standard"])
    # The column says whether the well is included, the opposite of an omission.
    include = row.cell(at["Include"])
    left_out = bool(include) and not omitted(row, "Include", include, cells)
    quantity = cells.number(row.number, "Standard", standard, "amount") if standard else None
    role, remark = ("standard", "") if quantity else _role(sample)
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": well_name(row.cell(at["Pos"])),
        "sample_id": sample,
        "role": role,
        "target": target,
        "measure": "ct",
        "value_raw": cp,
        "omitted": left_out,
        "quantity": quantity or None,
    }
    notes = [] if target else ["no target: the first line of the export names no filter"]
    if role == "unknown":
        cells.sample_name(row.number, "Name", sample)
        notes += [] if sample else ["no sample name"]
    raw["note"] = joined(*notes)
    status = row.cell(more.get("status"))
    if not cp and not left_out and row.cell(more.get("color")) == _NEGATIVE:
        result: dict[str, Any] = {"detection": "not_detected", "remark": "no crossing point; negative in the software"}
    else:
        result = ct_of(row, "Cp", cp, left_out, cells)
    said = f"status {status}" if status else ""
    return {**raw, **result, "remark": joined(result.get("remark", ""), remark, said)}


def _role(sample: str) -> tuple[str, str]:
    if named_ntc(sample):
        return "ntc", "no-template control by its name"
    return "unknown", ""


READER = Reader("lightcycler", "LightCycler 480 results", claim, read)
