"""QIAGEN QIAcuity results: csv, one row per well and target, in three dialects of the software suite.

The dialects differ in the names and the order of the columns; the oldest has no header over the wells, the newest gives
the plate on the first row of each plate only. The volume of a partition is a property of the well, which the file does
not print, so the printed concentration is kept to be used: it is the software's count divided by that volume. What
volumes the printed concentrations imply is said in the note about the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import (
    check_end,
    check_names,
    check_repeated,
    check_shape,
    file_name,
    joined,
    named_ntc,
    partitions,
    repeated,
    well_name,
)
from nkinetics.settings import Settings

_MARKS: Mapping[str, tuple[str, ...]] = {
    "Sample/NTC/Control": ("samplentccontrol",),
    "Target": ("targetname", "target"),
    "Conc. [copies/µL]": (
        *(f"{conc}copies{unit}" for conc in ("concentration", "conc") for unit in ("ul", "l")),
        *(f"conccp{unit}dpcrreaction" for unit in ("ul", "l")),
        *(f"conccopies{unit}dpcrreaction" for unit in ("ul", "l")),
    ),
    "Partitions (valid)": ("partitionsvalid",),
    "Partitions (positive)": ("partitionspositive",),
    "Partitions (negative)": ("partitionsnegative",),
}
_OCCUPANCY = ("hyperwell", "categories", "group", "count", "total")
_ROLES = {
    "": "unknown",
    "sample": "unknown",
    "ntc": "ntc",
    "nontemplatecontrol": "ntc",
    "notemplatecontrol": "ntc",
    "control": "control",
    "positivecontrol": "control",
    "negativecontrol": "control",
}
_PRINTED_ENOUGH = 300
"""Positive partitions from which the digits of a printed concentration show the volume of a partition."""


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
        for i, row in enumerate(sheet.top[:20]):
            at = _places(row)
            if at and (best is None or len(at) > len(best[2])):
                best = sheet, i, at
    return best


def _is_occupancy(export: Export) -> bool:
    return export.kind == "text" and any(
        all(name in columns(row.cells) for name in _OCCUPANCY) for row in export.sheets[0].top[:3]
    )


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has every column of a QIAcuity results table, or is the software's occupancy table."""
    if _is_occupancy(export):
        return Claim(True, ("the occupancy table of QIAcuity",), ("partitions and concentrations",))
    head = _header(export)
    found = tuple(head[2]) if head else ()
    return Claim(len(found) == len(_MARKS), found, tuple(m for m in _MARKS if m not in found))


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target.

    Raises
    ------
    InputError
        With every cell that is wrong; positives and negatives that do not add up to the valid partitions are. For an
        occupancy table, which has no concentrations.
    """
    if _is_occupancy(export):
        raise export.refuse(
            "an occupancy table of QIAcuity (which partitions are positive for what), without concentrations",
            "the results table with partitions and concentrations",
            "export the results of the analysis (List tab), or take the file out of inputs.exports",
        )
    head = _header(export)
    assert head is not None
    sheet, first, at = head
    header = sheet.rows[first]
    more = columns(header.cells)
    # The oldest dialect leaves the header over the wells empty.
    well = more.get("well", more.get("wellname", 0))
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    counts = ("Partitions (valid)", "Partitions (positive)", "Partitions (negative)")
    numeric: list[tuple[int, Kind]] = [(at[name], "count") for name in counts]
    numeric += [(at["Conc. [copies/µL]"], "amount")]
    numeric += [(i, "number") for n, i in more.items() if n in ("threshold", "sd") or n.startswith("meanconc")]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    if not body:
        cells.problem(header.number, sheet.name, "a header without wells", "results", "export again")
    check_shape(export, sheet, header, body, [well, *at.values()], cells)
    check_names(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    twice = repeated(header.cells, (*(normalised(header.cells[i]) for i in at.values()), "type", "platename"))
    rows = []
    plate = ""
    for row in body:
        check_repeated(row, header.cells, twice, cells)
        # The plate stands on its first row; the rows below it are of the same plate.
        plate = file_name(row.cell(more.get("platename"))) or plate
        run_id = plate or export.stem
        raw = _well(row, well, at, more, header.cells, cells)
        cells.once(row.number, "Well", (raw["well"], raw["target"], run_id))
        rows.append({"run_id": run_id, **raw})
    cells.done()
    return Reading(rows, joined(export.note, _implied(rows)))


def _well(
    row: Row, well: int, at: Mapping[str, int], more: Mapping[str, int], header: Sequence[str], cells: Checked
) -> dict[str, Any]:
    """One row of the table as a raw row."""
    text = {mark: row.cell(i) for mark, i in at.items()}
    name = well_name(row.cell(well))
    if not name:
        found = repr(str(row.cell(well))) if row.cell(well) else "an empty cell"
        cells.problem(row.number, header[well] or "Well", found, "a well, as A1", "export the file again")
    sample = "" if text["Sample/NTC/Control"] == "-" else text["Sample/NTC/Control"]
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": name,
        "sample_id": sample,
        "target": text["Target"],
        "measure": "partitions",
        "value_raw": text["Conc. [copies/µL]"],
    }
    counts = ("Partitions (valid)", "Partitions (positive)", "Partitions (negative)")
    valid, positive, negative = ((header[at[name]], text[name]) for name in counts)
    if not (sample or text["Target"] or raw["value_raw"] or valid[1]):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    concentration = (header[at["Conc. [copies/µL]"]], raw["value_raw"])
    result = partitions(row, valid, positive, concentration, cells)
    if "n_partitions" in result:
        rest = cells.number(row.number, negative[0], negative[1], "count")
        total, k = result["n_partitions"], result["n_positive"]
        if rest is not None and k + rest != total:
            found = f"{k} positive and {rest:.0f} negative of {total} valid partitions"
            cells.problem(row.number, valid[0], found, "counts that add up", "export the file again")
    role, remark = _role(row, more, sample, cells)
    raw["role"] = role
    if role == "unknown":
        cells.sample_name(row.number, "Sample/NTC/Control", sample)
        if not sample:
            result["note"] = joined("no sample name", result.get("note", ""))
    control = row.cell(more.get("ic")) or row.cell(more.get("targetic"))
    if control not in ("", "-"):
        remark = joined(remark, f"internal control: {control}")
    return {**raw, **result, "remark": joined(result.get("remark", ""), remark)}


def _role(row: Row, more: Mapping[str, int], sample: str, cells: Checked) -> tuple[str, str]:
    """Role of a well, and how it is known where the dialect has no column for it."""
    if "type" not in more:
        # The column is called Sample/NTC/Control: where no type stands beside it, its text is the only word there is.
        if named_ntc(sample):
            return "ntc", "no-template control by its name"
        return "unknown", ""
    kind = row.cell(more["type"])
    role = _ROLES.get(normalised(kind))
    if role is None:
        wanted = "Sample, Control or Non Template Control"
        cells.problem(row.number, "Type", repr(str(kind)), wanted, "correct the type")
    return role or "unknown", ""


def _implied(rows: Sequence[Mapping[str, Any]]) -> str:
    """What partition volumes the printed concentrations imply."""
    volumes = sorted(
        -math.log1p(-row["n_positive"] / row["n_partitions"]) / row["value"] * 1000
        for row in rows
        if row.get("value") and row["n_positive"] >= _PRINTED_ENOUGH
    )
    if not volumes:
        return ""
    middle = volumes[len(volumes) // 2]
    spread = f"{volumes[0]:.3g} to {volumes[-1]:.3g} nL in {len(volumes)} wells and targets"
    return f"printed concentrations imply a partition volume of {middle:.3g} nL ({spread}); they are used as printed"


READER = Reader("qiacuity", "QIAcuity results", claim, read)
