"""Bio-Rad QX Manager well tables: csv and xlsx, one row per well and target.

The well is what was counted: droplets accepted, positive and negative. A printed concentration is kept beside them, to
be checked against them, never averaged. `No Call` has two meanings that only the droplets tell apart: none accepted,
the well failed; thousands accepted and none positive, a true negative. A merged well (M01, M02, ...) repeats the
droplets of single wells and is set aside, unless its single wells are not in the export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, detection, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.settings import Settings

SATURATED = 1_000_000.0
"""Printed in place of a concentration where no droplet is negative."""

_MARKS: Mapping[str, tuple[str, ...]] = {
    "Well": ("well",),
    "Sample description 1": ("sampledescription1",),
    "Target": ("target",),
    "Conc(copies/µL)": ("conccopiesul", "conccopiesl"),
    "Accepted Droplets": ("accepteddroplets",),
    "Positives": ("positives",),
    "Negatives": ("negatives",),
}
_ROLES = {
    "": "unknown",
    "unknown": "unknown",
    "unk": "unknown",
    "ntc": "ntc",
    "notemplatecontrol": "ntc",
    "blank": "ntc",
    "posctrl": "control",
    "poscontrol": "control",
    "positivecontrol": "control",
    "negctrl": "control",
    "negcontrol": "control",
    "negativecontrol": "control",
    "standard": "control",
    "reference": "unknown",
}
_SINGLE = re.compile(r"([A-Ha-h])(0?[1-9]|1[0-2])")
_MERGED = re.compile(r"[Mm]\d{1,3}", re.ASCII)
_MEMBER = re.compile(r"[A-Ha-h](?:0?[1-9]|1[0-2])(?!\d)")


def _places(row: Row) -> dict[str, int]:
    """Position of each mark in a header row."""
    at = columns(row.cells)
    return {
        mark: next(at[n] for n in names if n in at) for mark, names in _MARKS.items() if any(n in at for n in names)
    }


def _header(export: Export) -> tuple[Sheet, int, dict[str, int]] | None:
    """The row with most marks among the first of each sheet."""
    best: tuple[Sheet, int, dict[str, int]] | None = None
    for sheet in export.sheets:
        for i, row in enumerate(sheet.top[:50]):
            places = _places(row)
            if places and (best is None or len(places) > len(best[2])):
                best = sheet, i, places
    return best


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export has every column of a QX Manager well table."""
    head = _header(export)
    found = tuple(head[2]) if head else ()
    return Claim(len(found) == len(_MARKS), found, tuple(m for m in _MARKS if m not in found))


def _single(text: str) -> str:
    """A single well as A1, empty where the text is none (as M01)."""
    match = _SINGLE.fullmatch(text)
    return f"{match.group(1).upper()}{int(match.group(2))}" if match else ""


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and target, merged wells among them.

    Raises
    ------
    InputError
        With every cell that is wrong; positives and negatives that do not add up to the accepted droplets are.
    """
    head = _header(export)
    assert head is not None
    sheet, first, at = head
    header = sheet.rows[first]
    more = columns(header.cells)
    cells = Checked(export.label)
    body = [row for row in sheet.rows[first + 1 :] if not row.blank]
    kinds: dict[str, Kind] = {"Accepted Droplets": "count", "Positives": "count", "Negatives": "count"}
    numeric = [(at[m], kinds.get(m, "number")) for m in (*kinds, "Conc(copies/µL)")]
    numeric += [(i, "number") for n, i in more.items() if n.startswith(("poissonconf", "copies20", "meanamplitude"))]
    cells.notation = notation(
        export.label, ((row.cell(i), kind) for row in body for i, kind in numeric), settings.inputs.decimal
    )
    if not body:
        cells.problem(header.number, sheet.name, "a header without wells", "results", "export again")
    measured = {(_single(r.cell(at["Well"])), r.cell(at["Target"])) for r in body}
    cells.shape(len(header.cells), [row.length for row in body])
    rows = []
    for row in body:
        raw = _well(row, at, more, cells)
        cells.once(row.number, "Well", (raw["well"], raw["target"]))
        rows.append({"run_id": export.stem, **raw, **_merged(row, raw, at, more, measured, cells)})
    cells.done()
    return Reading(rows, export.note)


def _well(row: Row, at: Mapping[str, int], more: Mapping[str, int], cells: Checked) -> dict[str, Any]:
    """One row of the table as a raw row."""
    well, sample = row.cell(at["Well"]), row.cell(at["Sample description 1"])
    if not (_single(well) or _MERGED.fullmatch(well)):
        cells.problem(
            row.number, "Well", repr(well) if well else "an empty cell", "a well, as A01, or M01", "export again"
        )
    kind = row.cell(more.get("sampletype"))
    role = _ROLES.get(normalised(kind))
    if role is None:
        wanted = "Unknown, NTC, PosCtrl or NegCtrl"
        cells.problem(row.number, "SampleType", repr(kind), wanted, "correct the sample type")
    raw: dict[str, Any] = {
        "source_row": row.number,
        "well": _single(well) or well.upper(),
        "sample_id": sample,
        "role": role or "unknown",
        "target": row.cell(at["Target"]),
        "measure": "partitions",
        "value_raw": row.cell(at["Conc(copies/µL)"]),
    }
    counts = [row.cell(at[name]) for name in ("Accepted Droplets", "Positives", "Negatives")]
    if not (sample or raw["target"] or raw["value_raw"] or any(counts)):
        return {**raw, "role": "empty", "detection": "not_done", "note": "empty well"}
    if raw["role"] == "unknown":
        cells.sample_name(row.number, "Sample description 1", sample)
    result = _result(row, at, raw["value_raw"], cells)
    status, why = row.cell(more.get("status")), row.cell(more.get("statusreason"))
    remarks = [result.get("remark", "")]
    if status and status.upper() not in ("OK", "MANUAL"):
        remarks.append(f"status {status}" + (f" ({why})" if why else ""))
    if raw["role"] == "unknown" and not sample:
        raw["note"] = "no sample name"
    return {**raw, **result, "remark": "; ".join(filter(None, remarks))}


def _result(row: Row, at: Mapping[str, int], conc: str, cells: Checked) -> dict[str, Any]:
    """Droplets, printed concentration and what they say."""
    names = ("Accepted Droplets", "Positives", "Negatives")
    texts = [row.cell(at[name]) for name in names]
    if not any(texts):
        if cells.notation.number(conc) is not None:
            cells.problem(
                row.number, names[0], "an empty cell", "the droplets behind the concentration", "export again"
            )
        return {"detection": "failed", "remark": "no droplets in the export"}
    accepted, positives, negatives = (
        cells.number(row.number, name, text, "count") for name, text in zip(names, texts, strict=True)
    )
    if accepted is None or positives is None or negatives is None:
        return {}
    if positives + negatives != accepted:
        found = f"{positives:.0f} positives and {negatives:.0f} negatives of {accepted:.0f} accepted droplets"
        cells.problem(row.number, "Accepted Droplets", found, "counts that add up", "export the file again")
    counted = {"n_partitions": int(accepted), "n_positive": int(positives)}
    return {**counted, **_detected(row, conc, accepted, positives, negatives, cells)}


def _detected(
    row: Row, conc: str, accepted: float, positives: float, negatives: float, cells: Checked
) -> dict[str, Any]:
    """The printed concentration in the light of the droplets."""
    value = cells.notation.number(conc, "amount")
    if value is None:
        word = detection(conc, {"nan": "failed", "na": "failed"}, "failed")
        if word is None or word.bound:
            cells.number(row.number, "Conc(copies/µL)", conc, "amount")
            return {}
    if accepted == 0:
        return {"detection": "failed", "remark": "no droplets accepted"}
    if positives == 0:
        return {"detection": "not_detected", "remark": f"no positive among {accepted:.0f} droplets"}
    if negatives == 0 or value == SATURATED:
        return {"detection": "above", "remark": "saturated: no negative droplet" if negatives == 0 else "saturated"}
    if value is None:
        return {"detection": "failed", "remark": f"{conc or 'no concentration'} in spite of {positives:.0f} positives"}
    return {"value": value, "detection": "quantified"}


def _merged(
    row: Row,
    raw: Mapping[str, Any],
    at: Mapping[str, int],
    more: Mapping[str, int],
    measured: set[tuple[str, str]],
    cells: Checked,
) -> dict[str, Any]:
    """What a merged well is: a summary of wells that are in the export, or the only record of those that are not."""
    well = row.cell(at["Well"])
    if not _MERGED.fullmatch(well):
        return {}
    listed: Sequence[str] = [_single(w) for w in _MEMBER.findall(row.cell(more.get("mergedwells")))]
    if not listed:
        if any(target == raw["target"] and single for single, target in measured):
            return {"role": "summary", "note": f"merged well {well}: its droplets are those of single wells"}
        return {"remark": "; ".join(filter(None, [raw.get("remark"), f"merged well {well}"]))}
    present = [w for w in listed if (w, raw["target"]) in measured]
    names = ", ".join(listed)
    if len(present) == len(listed):
        return {"role": "summary", "note": f"merged well of {names}: its droplets are those of single wells"}
    if present:
        expected = "all of its single wells in the export, or none"
        cells.problem(row.number, "MergedWells", f"{names}, of which only {', '.join(present)} stand alone", expected)
    return {"remark": "; ".join(filter(None, [raw.get("remark"), f"merged well of {names}"]))}


READER = Reader("qx_manager", "QX Manager well table", claim, read)
