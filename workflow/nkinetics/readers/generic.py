"""A table of any make, read by a column mapping (section ``generic`` of the configuration).

A listing carries what a plate export leaves to the sample manifest: patient, time, limits. The user names the columns;
the reader guesses none. Dots stand for missing values, as in NONMEM and Monolix data sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import (
    Checked,
    Detection,
    Kind,
    detection,
    is_summary,
    normalised,
    notation,
    without_percent,
)
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import check_end, check_header, joined
from nkinetics.settings import Curve, Generic, Settings

DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}
"""Days in each unit of time; a month is a twelfth of a Julian year."""

_OUR_WORDS = {
    "quantified": "quantified",
    "blq": "below",
    "not_detected": "not_detected",
    "above_uloq": "above",
    "not_done": "not_done",
    "failed": "failed",
    "ok": "quantified",
}
_TEXTS = ("target", "assay", "specimen", "visit", "dose_level")


def _mappings(export: Export, settings: Settings) -> list[Generic]:
    return [g for g in settings.generic if fnmatchcase(export.label, g.match) or fnmatchcase(export.name, g.match)]


def claim(export: Export, settings: Settings) -> Claim:
    """Whether a mapping of the configuration names this file."""
    return Claim(bool(_mappings(export, settings)))


def level_of_ct(ct: float, curve: Curve) -> float:
    """The level on a standard curve, 10^((Ct - intercept) / slope).

    Examples
    --------
    >>> curve = Curve(slope=-3.5, intercept=40.0)
    >>> level_of_ct(40.0, curve), round(level_of_ct(33.0, curve))
    (1.0, 100)
    """
    return float(10 ** ((ct - curve.intercept) / curve.slope))


def read(export: Export, settings: Settings) -> Reading:
    """The rows of a table, levels and dosing records, times in days.

    Raises
    ------
    InputError
        When two mappings name the file, a mapped column is absent or stands twice, or with every cell that is wrong.
    """
    mappings = _mappings(export, settings)
    if len(mappings) > 1:
        patterns = " and ".join(repr(m.match) for m in mappings)
        raise export.refuse(f"two mappings for this file, {patterns}", "one", "narrow one match", column="generic")
    mapping = mappings[0]
    if export.kind not in ("text", "workbook"):
        raise export.refuse(export.what, "a table", "export it as csv or xlsx")
    if mapping.time_zero != "column" and mapping.columns.patient_id is None:
        found = f"time_zero {mapping.time_zero} without columns.patient_id"
        raise export.refuse(found, "the patient whose first row it is", "map patient_id", column="generic.time_zero")
    sheet = _sheet(export, mapping)
    header, at = _header(export, sheet, mapping)
    body = [row for row in sheet.rows if row.number > header.number and not row.blank]
    cells = Checked(export.label)
    if not body:
        cells.problem(header.number, sheet.name, "a header without rows", "rows", "export again")
    cells.shape(len(header.cells), [row.length for row in body])
    kinds: Mapping[str, Kind] = {
        **dict.fromkeys(("time_actual", "time_nominal"), "number"),
        "level": "ct" if mapping.quantity == "ct" else "number",
        **dict.fromkeys(("lloq", "lod", "dose"), "amount"),
    }
    numeric = [(at[name], kind) for name, kind in kinds.items() if name in at]
    cells.notation = notation(
        export.label,
        ((without_percent(row.cell(i)), kind) for row in body for i, kind in numeric),
        settings.inputs.decimal,
    )
    check_header(export, header, body, cells)
    check_end(export, sheet, header, body, cells)
    rows = []
    for row in body:
        raw = _Line(row, at, header, mapping, cells).raw()
        remark = joined(raw.get("remark", ""), export.unfinished(sheet, row, list(at.values())))
        rows.append({"run_id": export.stem, **raw, "remark": remark})
    _shift(rows, mapping, header.cells[at["time_actual"]] if "time_actual" in at else "", cells)
    cells.done()
    return Reading(rows, export.note)


def _sheet(export: Export, mapping: Generic) -> Sheet:
    if export.kind == "text" or mapping.sheet is None:
        return export.sheets[0]
    sheet = export.sheet(mapping.sheet)
    if sheet is None:
        names = ", ".join(s.name for s in export.sheets)
        raise export.refuse(
            f"no visible sheet {mapping.sheet} (sheets: {names})", "the sheet of the mapping", "correct it"
        )
    return sheet


def _header(export: Export, sheet: Sheet, mapping: Generic) -> tuple[Row, dict[str, int]]:
    """The first row that has every mapped column, and the place of each."""
    wanted = {name: text for name, text in mapping.columns if text is not None}
    if mapping.censored is not None and mapping.censored.column is not None:
        wanted["censored"] = mapping.censored.column
    best: tuple[Row, dict[str, int]] | None = None
    for row in sheet.top[:100]:
        at = {name: i for name, text in wanted.items() if (i := _place(row, text)) is not None}
        if len(at) == len(wanted):
            twice = [t for t in wanted.values() if row.cells.count(t) > 1]
            if twice:
                raise export.refuse("the column twice", "each mapped column once", "rename one", row.number, twice[0])
            return row, at
        if best is None or len(at) > len(best[1]):
            best = row, at
    assert best is not None
    absent = ", ".join(text for name, text in wanted.items() if name not in best[1])
    there = ", ".join(c for c in best[0].cells if c) or "nothing"
    mend = "correct the names in generic.columns, or take the file out of the mapping's match"
    raise export.refuse(f"the columns {there}", f"also {absent}, as generic.columns says", mend, best[0].number)


def _place(row: Row, name: str) -> int | None:
    """Where a column stands: by its exact name, else by its name without case, blanks and marks."""
    if name in row.cells:
        return row.cells.index(name)
    alike = [i for i, text in enumerate(row.cells) if text and normalised(text) == normalised(name)]
    return alike[0] if len(alike) == 1 else None


class _Line:
    """One row of the table on its way to a raw row: its cells by what the mapping calls them."""

    def __init__(self, row: Row, at: Mapping[str, int], header: Row, mapping: Generic, cells: Checked) -> None:
        self.row, self.at, self.header, self.mapping, self.cells = row, at, header, mapping, cells

    def text(self, name: str) -> str:
        return self.row.cell(self.at.get(name))

    def column(self, name: str) -> str:
        return self.header.cells[self.at[name]] if name in self.at else name

    def number(self, name: str, kind: Kind = "number") -> float | None:
        """The number in a cell; None where the table has no such column or the cell stands for a missing value."""
        text = self.text(name)
        word = detection(text)
        if name not in self.at or (word is not None and word.detection == "not_done"):
            return None
        return self.cells.number(self.row.number, self.column(name), text, kind)

    def problem(self, name: str, found: str, expected: str, mend: str) -> None:
        self.cells.problem(self.row.number, self.column(name), found, expected, mend)

    def raw(self) -> dict[str, Any]:
        mapping, row = self.mapping, self.row
        name = self.text("patient_id" if "patient_id" in self.at else "sample_id")
        raw: dict[str, Any] = {
            "source_row": row.number,
            "well": self.text("well"),
            "sample_id": self.text("sample_id"),
            "patient_id": self.text("patient_id"),
            "measure": "level",
            "value_raw": self.text("level"),
            "level_unit": mapping.level_unit,
            **{field: self.text(field) for field in _TEXTS},
        }
        raw["target"] = raw["target"] or mapping.analyte
        raw["assay"] = raw["assay"] or mapping.assay
        raw["specimen"] = raw["specimen"] or mapping.specimen
        raw["dose_level"] = raw["dose_level"] or mapping.dose_level
        if is_summary(name):
            return {**raw, "role": "summary", "detection": "", "note": f"summary row {name}"}
        for field in ("patient_id", "sample_id"):
            if field in self.at and (raw[field] or field == "patient_id" or "patient_id" not in self.at):
                self.cells.identifier(row.number, self.column(field), raw[field])
        days = DAYS[mapping.time_unit]
        for field, source in (("time", "time_actual"), ("time_nominal", "time_nominal")):
            time = self.number(source)
            raw[field] = None if time is None else time * days
        dose = self.number("dose", "amount")
        return self._dosing(raw, dose) if dose else self._measured(raw)

    def _dosing(self, raw: dict[str, Any], dose: float) -> dict[str, Any]:
        """A row with an amount. One that also has a level would lose it, as where a dose is repeated on every row."""
        level = self.cells.notation.number(self._level_text())
        if level:
            expected = "a dosing record or a level, each on its own row"
            mend = "leave the amount empty on rows with levels, or take dose out of generic.columns"
            self.problem(
                "dose", f"the amount {self.text('dose')} beside the level {self.text('level')}", expected, mend
            )
        if raw["time"] is None and raw["time_nominal"] is None:
            self.problem("time_actual", "an empty cell", "the time of the dose", "write it")
        return {**raw, "role": "dose", "dose": dose, "detection": ""}

    def _measured(self, raw: dict[str, Any]) -> dict[str, Any]:
        limits = self._limits()
        result = self._result(limits)
        raw = {**raw, "role": "unknown", **limits, **result}
        if raw["detection"] == "below" and raw["lloq"] is None:
            mend = "map a column of limits, or set generic.lloq"
            self.problem("lloq", "a level below the LLOQ and no LLOQ", "the LLOQ of every row that is below it", mend)
        timeless = raw["time"] is None and raw["time_nominal"] is None and not raw["sample_id"]
        if timeless and raw["detection"] not in ("not_done", "failed"):
            found = repr(str(self.text("time_actual"))) if self.text("time_actual") else "an empty cell"
            self.problem("time_actual", found, "the time of the sample", "write it, or the status not_done")
        return raw

    def _limits(self) -> dict[str, float | None]:
        """LLOQ and LOD of the row: its own, else those of the mapping, else the curve at the censoring Ct."""
        mapping = self.mapping
        lloq, lod = self.number("lloq", "amount"), self.number("lod", "amount")
        if lloq is None:
            lloq = mapping.lloq
        if lloq is None and mapping.censored is not None and mapping.censored.ct_at_least is not None and mapping.curve:
            lloq = level_of_ct(mapping.censored.ct_at_least, mapping.curve)
        return {"lloq": lloq, "lod": mapping.lod if lod is None else lod}

    def _level_text(self) -> str:
        text = self.text("level")
        return without_percent(text) if self.mapping.level_unit == "%" else text

    def _status(self) -> Detection | None:
        """What the status column says; None where it says nothing."""
        text = self.text("status")
        if not text or text == ".":
            return None
        own = _OUR_WORDS.get(text.strip().lower().replace(" ", "_"))
        word = Detection(own, f"status {text}") if own else detection(text)
        if word is None:
            wanted = "quantified, BLQ, ND, >ULOQ, not done or failed"
            self.problem("status", repr(str(text)), wanted, "correct the word")
            return Detection("failed", "")
        return word

    def _result(self, limits: Mapping[str, float | None]) -> dict[str, Any]:
        """Level or why there is none: the status column first, then the censoring mark, then the level's own cell."""
        mapping, text = self.mapping, self._level_text()
        ct = mapping.quantity == "ct"
        kind: Kind = "ct" if ct else "amount"
        value = self.cells.notation.number(text, kind)
        word = None if value is not None else detection(text)
        if value is None and (word is None or (word.bound and ct)):
            self.cells.number(self.row.number, self.column("level"), text, kind)
            return {"detection": "failed"}
        status = self._status()
        if status is not None and status.detection != "quantified":
            return self._from_word(status)
        censored = mapping.censored
        if (
            censored is not None
            and censored.column is not None
            and self._marked("" if censored.value is None else str(censored.value))
        ):
            # Monolix writes the limit itself into the level of a censored row.
            own = {"lloq": value} if limits["lloq"] is None and value and not ct else {}
            return {"detection": "below", "remark": f"{self.column('censored')} {self.text('censored')}", **own}
        if word is not None and status is not None:
            found = f"{status.reason} and {text!r}" if text else f"{status.reason} and no level"
            self.problem("level", found, "a level", "correct the status or write the level")
        if word is not None:
            return self._from_word(word)
        assert value is not None
        if ct:
            if censored is not None and censored.ct_at_least is not None and value >= censored.ct_at_least:
                return {"detection": "below", "remark": f"Ct {text} is at or above {censored.ct_at_least:g}"}
            assert mapping.curve is not None
            value = level_of_ct(value, mapping.curve)
        lloq = limits["lloq"]
        if lloq is not None and value < lloq:
            return {"detection": "below", "remark": f"{value:.6g} is below the LLOQ {lloq:.6g}"}
        if value == 0:
            self.problem(
                "level",
                "a level of 0 and no LLOQ",
                "a level above 0, or the LLOQ that it is below",
                "map or set the LLOQ",
            )
            return {"detection": "failed"}
        return {"value": value, "detection": "quantified"}

    def _marked(self, value: str) -> bool:
        """Whether the censoring column holds the configured value, numbers compared as numbers."""
        text = self.text("censored")
        number, wanted = self.cells.notation.number(text), self.cells.notation.number(value)
        if number is None and wanted is not None and text not in (value, "", "."):
            expected = f"{value} where a level is censored, another number where it is not"
            self.problem("censored", repr(str(text)), expected, "correct the cell")
        return text == value or (number is not None and number == wanted)

    def _from_word(self, word: Detection) -> dict[str, Any]:
        """A detection word; ``<50`` and ``>1000`` bring their limit along."""
        result: dict[str, Any] = {"detection": word.detection, "remark": word.reason}
        if word.bound:
            bound = self.cells.number(self.row.number, self.column("level"), word.bound, "amount")
            result["lloq" if word.detection == "below" else "uloq"] = bound
        return result


def _shift(rows: Sequence[dict[str, Any]], mapping: Generic, column: str, cells: Checked) -> None:
    """Move each patient's times so that zero stands where the mapping says.

    The first row is the earliest, whatever the order in the file, so that shuffled rows give the same times.
    """
    if mapping.time_zero == "column":
        return
    zeros: dict[str, float] = {}
    for row in rows:
        time = row.get("time")
        if time is not None and (mapping.time_zero == "first_row" or row["role"] == "dose"):
            zeros[row["patient_id"]] = min(time, zeros.get(row["patient_id"], math.inf))
    reported: set[str] = set()
    for row in rows:
        if row.get("time") is None:
            continue
        zero = zeros.get(row["patient_id"])
        if zero is None:
            if row["patient_id"] not in reported:
                found = f"no dosing row of patient {row['patient_id']}"
                mend = "map the column of amounts as generic.columns.dose, or set time_zero to column or first_row"
                cells.problem(row["source_row"], column, found, "a first infusion to count time from", mend)
            reported.add(row["patient_id"])
        else:
            row["time"] -= zero


READER = Reader("generic", "table by a column mapping", claim, read, by_mapping=True)
