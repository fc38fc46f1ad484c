"""What the user writes: patients, samples, infusions, cytokine doses, events; read, checked, times made elapsed.

Every problem of every table goes into one `InputError`. Times leave here in days from the start of the patient's first
infusion, whatever zone or clock change lay between.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from nkinetics.columns import CYTOKINES, EVENTS, EXAMPLE, INFUSIONS, PATIENTS, SAMPLES, Column, Schema, schema_problems
from nkinetics.errors import InputError, Problem, bare, nearest, raise_any
from nkinetics.settings import Settings, located
from nkinetics.store import complete, empty, read_text_frame, text_to_typed

NOMINAL_USED = "nominal time used"
"""`time_flag` of a sample whose actual time is not known."""

SAME_TIME = 0.01
"""Days by which a time given twice (absolute and elapsed) may differ: elapsed times are written rounded."""

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_LOCAL = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[T ]+(\d{1,2})(:\d{2}(?::\d{2})?))?", re.ASCII)
_DAY = 86400.0
_AMOUNT = 1e4
_NG_INPUT = (1.0, 5000.0)
_GIVEN = (0.1, 2.0)
_WORKBOOK_BYTES = 500_000_000

# Header words that say a column identifies a person. Kinetics needs none of them, and every file we write would carry
# them on.
_PERSONAL = re.compile(
    r"^(name|names)$|(^|_)(patient|first|last|family|given|full|maiden|sur|middle|subject)_?names?$|(^|_)(surname|forename)s?$"
    r"|(^|_)(initials|birth|birthday|birthdate|dob|mrn|ssn|passport|phone|telephone|mobile|email|e_mail|address|postcode)(_|$)"
    r"|(medical|hospital|patient|health)_?(record|file|chart)|record_?(number|no|id)$|id_?card|social_?security|insurance_?(number|no|id)"
    r"|姓名|名字|出生|生日|电话|手机|身份证|病历|住院号|门诊号|地址|邮箱"
)


@dataclass(frozen=True)
class Study:
    """The user's tables, checked, with elapsed times and defaults filled in.

    Parameters
    ----------
    patients, samples, infusions, cytokines, events : DataFrame
        Columns of the schema of the same name; further columns of the user follow. `samples` also has `time_flag`.
    warnings : tuple of str
        What was assumed, a sentence each.
    sample_rows : mapping of str to int
        Row of each sample in the manifest, for messages.
    data_cut : mapping of str to float
        End of the day of the data cut, in days from each patient's first infusion; only patients whose first infusion
        has an absolute time.
    sample_header : tuple of str
        Columns of the manifest as the user wrote them; empty without one.
    """

    patients: pd.DataFrame
    samples: pd.DataFrame
    infusions: pd.DataFrame
    cytokines: pd.DataFrame
    events: pd.DataFrame
    warnings: tuple[str, ...] = ()
    sample_rows: Mapping[str, int] = field(default_factory=dict)
    data_cut: Mapping[str, float] = field(default_factory=dict)
    sample_header: tuple[str, ...] = ()


@dataclass
class _Table:
    """A user table on its way in: typed as far as its cells allow, with the row of the file for each row."""

    schema: Schema
    file: str
    frame: pd.DataFrame
    rows: pd.Series
    problems: list[Problem] = field(default_factory=list)
    header: tuple[str, ...] = ()

    def problem(self, index: int, column: str, found: str, expected: str, mend: str) -> None:
        self.problems.append(Problem(self.file, int(self.rows.loc[index]), column, found, expected, mend))


# ------------------------------------------------------------------------------------------------------------- reading


def read_user_frame(path: Path, file: str | None = None) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """A table written by a person, as texts: CSV, or the first visible sheet of a workbook.

    Parameters
    ----------
    path : Path
        CSV (UTF-8) or xlsx, told apart by content.
    file : str, optional
        Name for messages.

    Returns
    -------
    frame : DataFrame of str
        Cells as they stand; a whole number of a workbook has no ``.0``.
    rows : Series of int
        Row of the file for each row.
    numeric : list of str
        Columns of a workbook in which a cell is stored as a number (leading zeros of an identifier would be gone).

    Raises
    ------
    InputError
        When the file cannot be read as a table.
    """
    file = file or path.as_posix()
    try:
        with path.open("rb") as handle:
            head = handle.read(4)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            Problem(file, found="no such file", expected="a table", mend="check the path in the configuration")
        ) from None
    if head != b"PK\x03\x04":
        frame, rows = read_text_frame(path, file)
        return frame, rows, []
    return _read_workbook(path, file)


def _read_workbook(path: Path, file: str) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    import python_calamine

    broken = Problem(file, found="a workbook that cannot be opened", expected="a whole xlsx file", mend="save it again")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _WORKBOOK_BYTES:
                raise InputError(
                    Problem(file, found="a workbook of more than 500 MB", expected="a table", mend="save it as CSV")
                )
        book = python_calamine.load_workbook(str(path))
        visible = [s.name for s in book.sheets_metadata if s.visible == python_calamine.SheetVisibleEnum.Visible]
        lines = book.get_sheet_by_name(visible[0]).to_python(skip_empty_area=False)
    except (zipfile.BadZipFile, python_calamine.CalamineError, IndexError):
        raise InputError(broken) from None
    texts = [[_cell_text(cell) for cell in line] for line in lines]
    filled = [i for i, line in enumerate(texts) if any(line)]
    if not filled:
        raise InputError(Problem(file, found="an empty sheet", expected="a header and rows", mend="write the rows"))
    first = filled[0]
    header = [cell.strip() for cell in texts[first]]
    width = max((i + 1 for i, name in enumerate(header) if name), default=0)
    header = header[:width]
    problems = [
        Problem(file, first + 1, name, "the column twice", "each column once", "rename or remove one")
        for name in sorted({n for n in header if n and header.count(n) > 1})
    ]
    raise_any(problems)
    body = [i for i in filled[1:] if any(texts[i][:width])]
    frame = pd.DataFrame([texts[i][:width] for i in body], columns=header, dtype="str")
    named = [c for c in header if c]
    numeric = [
        name
        for j, name in enumerate(header)
        if name and any(isinstance(lines[i][j], int | float) and not isinstance(lines[i][j], bool) for i in body)
    ]
    return frame[named], pd.Series([i + 1 for i in body], index=frame.index, dtype="int64"), numeric


def _cell_text(cell: object) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell == round(cell) and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return "" if cell is None else str(cell)


_PERSONAL_CELL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w"
    r"|(?<![\d.])(\+|00)\d{1,3}[ -]?\(?\d{1,4}\)?([ -]?\d{2,4}){2,4}(?![\d.])"
    r"|(?<![\w.])1[3-9]\d([ -]?\d{4}){2}(?![\w.])"
    r"|(?<![\w.])\d{17}[\dXx](?![\w.])"
)
"""E-mail, telephone number with its country, Chinese mobile number, Chinese identity number."""


_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Characters that nobody sees and that make a text read as another one, or do something to a terminal."""


def _unseen(text: pd.DataFrame, rows: pd.Series, file: str) -> list[Problem]:
    found = []
    for name in text.columns:
        for row, cell in zip(rows, text[name], strict=True):
            if _UNSEEN.search(cell):
                wrong = f"{cell[:60]!r}, with characters that nobody sees"
                found.append(Problem(file, int(row), str(name), wrong, "visible text", "type the cell anew"))
    return found


def _personal_cells(table: _Table) -> list[Problem]:
    """Texts that go into results and look like an address, a telephone or an identity number of a person."""
    found = []
    for column in table.schema.columns:
        if column.name == "comment" or column.kind != "text" or column.name not in table.header:
            continue
        for row, text in zip(table.rows, table.frame[column.name].fillna("").astype("str"), strict=True):
            if _PERSONAL_CELL.search(text):
                wrong = "a telephone, identity or e-mail number of a person, as it seems"
                found.append(Problem(table.file, int(row), column.name, wrong, "study data only", "remove it"))
    return found


def _is_personal(header: str) -> bool:
    """Whether a column's header says that it identifies a person.

    Examples
    --------
    >>> [h for h in ("Patient Name", "DOB", "phone-number", "sample_name", "姓名") if _is_personal(h)]
    ['Patient Name', 'DOB', 'phone-number', '姓名']
    """
    return bool(_PERSONAL.search(re.sub(r"[^0-9a-z一-鿿]+", "_", header.strip().lower()).strip("_")))


def _read(path: Path, schema: Schema, file: str, warnings: list[str]) -> tuple[_Table | None, list[Problem]]:
    """A user table, typed as far as its cells allow, and the problems of its cells so far."""
    try:
        text, rows, numeric = read_user_frame(path, file)
    except InputError as error:
        return None, error.problems
    if len(text.columns) == 1 and any(mark in text.columns[0] for mark in ";\t"):
        mend = "save it as CSV with commas"
        return None, [Problem(file, 1, "", f"the header {text.columns[0]!r}", "columns separated by commas", mend)]
    personal = [c for c in text.columns if c not in schema.by_name and _is_personal(c)]
    problems = [
        Problem(file, 1, c, "a column that seems to identify a person", "study identifiers only", "remove the column")
        for c in personal
    ]
    absent = (
        schema_problems(text[[c for c in schema.required if c in text.columns]], schema, file)
        if (set(schema.required) - set(text.columns))
        else []
    )
    for p in absent:
        near = nearest(p.column, [c for c in text.columns if c not in schema.by_name], 0.75)
        found = f"no such column among {', '.join(text.columns)}"
        mend = f"add the column, or rename {near}" if near else p.mend
        problems.append(Problem(p.file, p.row, p.column, found, p.expected, mend))
    if absent:
        return None, problems
    problems += _unseen(text, rows, file)
    unused = [c for c in schema.names if c not in text.columns]
    for name in text.columns:
        near = "" if name in schema.by_name or name in personal else nearest(name, unused, 0.8)
        if near:
            mend = f"did you mean {near}? Otherwise give the column another name"
            problems.append(Problem(file, 1, name, f"the unknown column {name}", f"a column of {schema.name}", mend))
    for name in numeric:
        if name in ("sample_id", "patient_id"):
            warnings.append(
                f"{file}: {name} is stored as numbers in the workbook; leading zeros, if there were any, are gone."
            )
    text = text.assign(**{c: text[c].str.strip() for c in text.columns})
    examples = text["patient_id"] == EXAMPLE
    mend = "replace or delete it"
    for row in rows[examples]:
        found, wanted = "the example row of nkinetics init", "rows of the study"
        problems.append(Problem(file, int(row), "patient_id", found, wanted, mend))
    # What else is wrong with them is of no interest.
    text, rows = text[~examples].reset_index(drop=True), rows[~examples].reset_index(drop=True)
    try:
        frame = text_to_typed(text, schema, file, rows)
    except InputError as error:
        # Blank what cannot be typed, so that the other checks of the same file still run and report.
        problems += error.problems
        position = {int(row): i for i, row in enumerate(rows)}
        mended = text.copy()
        for p in error.problems:
            mended.loc[position[p.row or 0], p.column] = ""
        frame = text_to_typed(mended, schema, file, rows)
    blank = {c.name: _blank(c, frame.index) for c in schema.columns if c.name not in frame.columns}
    return _Table(schema, file, frame.assign(**blank), rows, problems, tuple(text.columns)), []


def _blank(column: Column, index: pd.Index) -> pd.Series:
    value: object = {"text": "", "float": np.nan}.get(column.kind, pd.NA)
    dtype = {"text": "str", "float": "float64", "int": "Int64", "bool": "boolean"}[column.kind]
    return pd.Series(value, index=index, dtype=dtype)


def _checked(table: _Table) -> list[Problem]:
    """The table's problems, those of its schema included, one per cell."""
    seen = {(p.row, p.column) for p in table.problems}
    found = schema_problems(table.frame, table.schema, table.file, table.rows)
    return table.problems + [p for p in found if (p.row, p.column) not in seen]


# ---------------------------------------------------------------------------------------------------------------- time


def iso_date(text: str, order: str | None) -> str:
    """A date such as 05/06/2026 10:30 in ISO form by the order of day and month; any other text as it stands.

    Parameters
    ----------
    text : str
        Day, month and a year of four digits between two of the same ``/``, ``.`` or ``-``, with or without a time.
    order : {"dmy", "mdy"} or None
        None leaves the text: 05/06/2026 may be 5 June or 6 May, and only the one who wrote it knows.

    Raises
    ------
    ValueError
        With words for the user, when there is no such day in this order.

    Examples
    --------
    >>> iso_date("05/06/2026 9:30", "dmy"), iso_date("05/06/2026 9:30", "mdy"), iso_date("2026-06-05T09:30", "dmy")
    ('2026-06-05T09:30', '2026-05-06T09:30', '2026-06-05T09:30')
    """
    match = _LOCAL.fullmatch(text)
    if match is None or order is None:
        return text
    day, month = (match[1], match[3]) if order == "dmy" else (match[3], match[1])
    try:
        made = date(int(match[4]), int(month), int(day)).isoformat()
    except ValueError:
        raise ValueError(f"a day that exists in the order {order} (study.date_order)") from None
    return made + (f"T{int(match[5]):02d}{match[6]}" if match[5] else "")


def _with_iso_dates(table: _Table, order: str | None) -> None:
    """Write the absolute times of a table in ISO form where the configuration says how to read them."""
    for column in ("started_at", "collected_at"):
        if order is None or column not in table.frame.columns:
            continue
        texts = []
        for index, text in enumerate(table.frame[column]):
            try:
                texts.append(iso_date(text, order))
            except ValueError as error:
                table.problem(index, column, repr(text), str(error), "correct the date, or study.date_order")
                texts.append(text)
        table.frame = table.frame.assign(**{column: pd.Series(texts, index=table.frame.index, dtype="str")})


def instant(text: str, zone: str, *, dates: bool = False) -> tuple[datetime, bool]:
    """An ISO date and time as an instant in UTC.

    Parameters
    ----------
    text : str
        As ``2026-01-05T09:30``, with or without seconds and offset.
    zone : str
        IANA zone of a time without offset.
    dates : bool
        A date alone is allowed and means its first minute.

    Returns
    -------
    instant : datetime
        In UTC, so that differences are elapsed time whatever the clocks did.
    ambiguous : bool
        The local time occurs twice (clocks set back); the first is taken.

    Raises
    ------
    ValueError
        With words for the user, when the text is no such time or the local time does not exist.

    Examples
    --------
    >>> a, _ = instant("2026-03-28T12:00", "Europe/Berlin")
    >>> b, _ = instant("2026-03-29T12:00", "Europe/Berlin")
    >>> (b - a).total_seconds() / 3600
    23.0
    """
    wanted = "an ISO date and time, as 2026-01-05T09:30"
    if dates and _DATE.fullmatch(text):
        text += "T00:00"
    if _DATE.fullmatch(text):
        raise ValueError(wanted + " (the time of day is missing)")
    if match := _LOCAL.fullmatch(text):
        raise ValueError(
            f"{wanted} ({match[1]}{match[2]}{match[3]} can be read as day and month or as month and day; "
            "study.date_order says which)"
        )
    if not _ISO.fullmatch(text):
        raise ValueError(wanted)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(wanted) from None
    if moment.tzinfo is not None:
        return moment.astimezone(UTC), False
    local = moment.replace(tzinfo=ZoneInfo(zone))
    utc = local.astimezone(UTC)
    if utc.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != moment:
        raise ValueError(f"a time that exists in {zone} (the clocks were set forward over it)")
    return utc, local.utcoffset() != local.replace(fold=1).utcoffset()


def _instants(
    table: _Table, column: str, zone: str, warnings: list[str], *, dates: bool = False
) -> dict[int, datetime]:
    """Instant of every row that has an absolute time; wrong ones become problems."""
    found: dict[int, datetime] = {}
    reported = {p.row for p in table.problems if p.column == column}
    for index, text in enumerate(table.frame[column]):
        if not text or int(table.rows.iloc[index]) in reported:
            continue
        try:
            found[index], ambiguous = instant(text, zone, dates=dates)
        except ValueError as error:
            table.problem(index, column, repr(text), str(error), "write the date and time so")
            continue
        if ambiguous:
            # Without the row, so that the order of rows never shows in the results.
            warnings.append(f"{table.file}: {text} occurs twice in {zone}; the first is taken.")
    return found


def _with_elapsed(
    table: _Table,
    absolute: str,
    elapsed: str,
    anchors: Mapping[str, datetime],
    zone: str,
    warnings: list[str],
    *,
    needed: bool,
    dates: bool = False,
    reported: Collection[str] = (),
    compare: bool = True,
) -> None:
    """Fill the column of elapsed times [d] from the absolute ones; add the problems to the table.

    Patients in `reported` have a problem of their own that explains why they lack a first infusion. Without `compare`
    an elapsed time stands whatever the absolute one beside it says: a stage does not know the study's time zone.
    """
    instants = _instants(table, absolute, zone, warnings, dates=dates)
    filled: list[float] = table.frame[elapsed].tolist()
    texts: list[str] = table.frame[absolute].tolist()
    for index, (patient, given) in enumerate(zip(table.frame["patient_id"], list(filled), strict=True)):
        if index in instants:
            if patient not in anchors:
                # Without an absolute first infusion the zero of time is unknown.
                if math.isnan(given) and patient not in reported:
                    table.problem(
                        index,
                        absolute,
                        repr(texts[index]),
                        f"an absolute start of infusion 1 of patient {patient}",
                        f"write started_at of infusion 1, or give {elapsed} in place of {absolute}",
                    )
                continue
            days = (instants[index] - anchors[patient]).total_seconds() / _DAY
            if compare and not math.isnan(given) and abs(given - days) > SAME_TIME:
                table.problem(
                    index,
                    elapsed,
                    f"{given:g} d",
                    f"{days:.4f} d, as {absolute} says",
                    f"remove one of {absolute} and {elapsed}, or correct it",
                )
            elif math.isnan(given):
                filled[index] = days
        elif needed and math.isnan(given) and not texts[index]:
            table.problem(index, absolute, "no time", f"{absolute} or {elapsed}", "write when it was")
    table.frame = table.frame.assign(**{elapsed: pd.Series(filled, index=table.frame.index, dtype="float64")})


# ------------------------------------------------------------------------------------------------------------ infusions


def _anchors(table: _Table, zone: str) -> dict[str, datetime]:
    """Absolute start of each patient's first infusion, where known."""
    found: dict[str, datetime] = {}
    first = table.frame[table.frame["infusion"].eq(1).fillna(False) & (table.frame["started_at"] != "")]
    for patient, text in zip(first["patient_id"], first["started_at"], strict=True):
        try:
            found.setdefault(patient, instant(text, zone)[0])
        except ValueError:
            continue
    return found


def _without_first(table: _Table) -> set[str]:
    """Patients with infusions and no infusion 1."""
    first = set(table.frame["patient_id"][table.frame["infusion"].eq(1).fillna(False)])
    return set(table.frame["patient_id"]) - first


def _check_infusions(table: _Table, unit: str, warnings: list[str]) -> None:
    """Order in time, the first infusion, units and amounts; fills in `given` and `unit`."""
    frame = table.frame
    for patient, rows in frame[frame["infusion"].notna()].sort_values("infusion", kind="stable").groupby("patient_id"):
        numbers = [int(n) for n in rows["infusion"]]
        if 1 not in numbers:
            listed = ", ".join(map(str, numbers))
            table.problem(
                rows.index[0],
                "infusion",
                f"infusion {listed} of patient {patient} and no infusion 1",
                "infusions numbered from 1",
                "add infusion 1, or number the infusions from 1",
            )
        elif numbers != list(range(1, len(numbers) + 1)) and len(set(numbers)) == len(numbers):
            gap = ", ".join(str(n) for n in range(1, max(numbers)) if n not in numbers)
            warnings.append(f"{table.file}: patient {patient} has no infusion {gap}.")
        for index, number, days in zip(rows.index, numbers, rows["time"], strict=True):
            if number == 1 and abs(days) > 1e-9:
                table.problem(index, "time", f"{days:g} d", "0 for infusion 1", "count time from infusion 1")
        for before, index in zip(rows.index[:-1], rows.index[1:], strict=True):
            if frame.loc[index, "infusion"] > frame.loc[before, "infusion"] and not (
                frame.loc[index, "time"] > frame.loc[before, "time"]
            ):
                if math.isnan(frame.loc[index, "time"]) or math.isnan(frame.loc[before, "time"]):
                    continue
                table.problem(
                    index,
                    "started_at" if frame.loc[index, "started_at"] else "time",
                    f"infusion {frame.loc[index, 'infusion']} of patient {patient} at {frame.loc[index, 'time']:.4g} d",
                    f"a start after infusion {frame.loc[before, 'infusion']} at {frame.loc[before, 'time']:.4g} d",
                    "correct the time or the number of the infusion",
                )
    other = frame.index[(frame["unit"] != "") & (frame["unit"] != unit) & frame["unit"].isin(("cells", "cells/kg"))]
    for index in other:
        table.problem(
            index, "unit", repr(frame.loc[index, "unit"]), f"{unit}, as study.dose_unit says", "use one unit in a study"
        )
    not_given = frame.index[frame["given"].isna() & frame["planned"].notna()]
    for index in not_given:
        warnings.append(
            f"{table.file}: given is empty for infusion {frame.loc[index, 'infusion']} of patient "
            f"{frame.loc[index, 'patient_id']}; the planned amount is used."
        )
    table.frame = frame.assign(
        given=frame["given"].where(frame["given"].notna(), frame["planned"]),
        unit=frame["unit"].where(frame["unit"] != "", unit),
    )


def assumed_infusions(patients: Iterable[str], reference_dose: float | None, unit: str) -> pd.DataFrame:
    """One infusion of the reference dose at 0 for every patient, where no table of infusions is given.

    Parameters
    ----------
    patients : iterable of str
        Patient ids.
    reference_dose : float or None
        Amount; None stands for an unknown amount, written as 1 without unit.
    unit : str
        Unit of the amount.
    """
    ids = sorted(set(patients))
    amount = 1.0 if reference_dose is None else float(reference_dose)
    return complete(
        pd.DataFrame(
            {
                "patient_id": pd.Series(ids, dtype="str"),
                "infusion": 1,
                "time": 0.0,
                "planned": amount,
                "given": amount,
                "unit": "" if reference_dose is None else unit,
            }
        ),
        INFUSIONS,
    )


def with_reference(study: Study, settings: Settings) -> pd.DataFrame:
    """The infusions with the study's reference dose on every row, so that a batch of patients knows it too."""
    reference = settings.study.reference_dose
    if reference is None and len(study.infusions):
        reference = float(study.infusions["planned"].min())
    return study.infusions.assign(reference_dose=pd.Series(reference, index=study.infusions.index, dtype="float64"))


def assumed_words(n: int, reference_dose: float | None, unit: str) -> str:
    """The sentence that says what `assumed_infusions` assumed."""
    what = "unknown amount (written as 1)" if reference_dose is None else f"{reference_dose:g} {unit}"
    return (
        f"No infusions are given for {n} patient{'s' if n != 1 else ''}: one infusion of {what} at time 0 is assumed."
    )


# -------------------------------------------------------------------------------------------------------------- study


def _unknown_patients(table: _Table, known: set[str], patients_file: str) -> None:
    for index, patient in enumerate(table.frame["patient_id"]):
        if patient and patient not in known:
            near = nearest(patient, known)
            mend = (
                f"did you mean {near}? Otherwise add the patient to {patients_file}"
                if near
                else (f"add the patient to {patients_file}")
            )
            table.problem(index, "patient_id", repr(patient), f"a patient of {patients_file}", mend)


def _unknown_choices(settings: Settings, known: set[str]) -> list[Problem]:
    """Points chosen by hand for a patient whom nobody knows: a batch would take them for another batch's."""
    found = []
    for i, choice in enumerate(settings.nca.lambda_z.manual):
        if choice.patient_id not in known:
            near = nearest(choice.patient_id, known)
            mend = f"did you mean {near}?" if near else "correct the patient, or remove the entry"
            column = f"nca.lambda_z.manual.{i}.patient_id"
            expected = f"a patient of {settings.inputs.patients}"
            found.append(Problem("config.yaml", None, column, repr(choice.patient_id), expected, mend))
    return found


def _sample_times(table: _Table, warnings: list[str]) -> None:
    """Nominal times where the actual ones are missing, flagged."""
    frame = table.frame
    absent = frame["time_actual"].isna() & (frame["collected_at"] == "")
    # A sample that was not taken has no actual time, whatever was planned.
    nominal = absent & frame["time_nominal"].notna() & (frame["state"] != "not_done")
    expected = frame["state"] == ""
    for index in frame.index[absent & ~nominal & expected]:
        table.problem(
            index,
            "collected_at",
            f"no time for sample {frame.loc[index, 'sample_id']}",
            "collected_at, time_actual or time_nominal",
            "write when the sample was taken",
        )
    n = int((nominal & expected).sum())
    if n:
        warnings.append(
            f"{table.file}: {n} sample{'s have' if n > 1 else ' has'} no actual time; the nominal time is used."
        )
    table.frame = frame.assign(
        time_actual=frame["time_actual"].where(~nominal, frame["time_nominal"]),
        time_flag=pd.Series(np.where(nominal & expected, NOMINAL_USED, ""), index=frame.index, dtype="str"),
        specimen=frame["specimen"].where(frame["specimen"] != "", "blood"),
    )


def _with_deaths(patients: pd.DataFrame, events: pd.DataFrame, warnings: list[str]) -> pd.DataFrame:
    """Death of events.csv as the end of follow-up where patients.csv leaves it open."""
    deaths = events[(events["event"] == "death") & events["time"].notna()].groupby("patient_id")["time"].min()
    patients = patients.copy()
    for index, row in patients.iterrows():
        if row["patient_id"] not in deaths.index:
            continue
        if row["status_end"] in ("", "ongoing", "death"):
            patients.loc[index, "status_end"] = "death"
            if math.isnan(row["time_end"]):
                patients.loc[index, "time_end"] = deaths[row["patient_id"]]
        else:
            warnings.append(
                f"Patient {row['patient_id']}: status_end is {row['status_end']} although the events record a death."
            )
    return patients


def _check_events(table: _Table) -> None:
    """An event cannot end before it starts."""
    frame = table.frame
    for index in frame.index[frame["time_end"] < frame["time"] - SAME_TIME]:
        table.problem(
            index,
            "time_end",
            f"an end at {frame.loc[index, 'time_end']:.4g} d of an event from {frame.loc[index, 'time']:.4g} d on",
            "an end not before the start",
            "correct one of the two times (days from the start of the first infusion)",
        )


def _implausible(frames: Mapping[str, pd.DataFrame], settings: Settings) -> list[str]:
    """What can be right and is more often a slip of the pen, a sentence each; never the row, which may be moved."""
    said = []
    for patient, level in zip(frames["patients"]["patient_id"], frames["patients"]["dose_level"], strict=True):
        number = re.match(r"\d+(\.\d+)?([eE]\+?\d+)?", level)
        if number and float(number[0]) >= _AMOUNT:
            said.append(
                f"Patient {patient}: the dose level {level} looks like an amount; a dose level is a name, as DL1."
            )
    samples = frames["samples"]
    for sample, patient, ng in zip(samples["sample_id"], samples["patient_id"], samples["ng_input"], strict=True):
        if ng > _NG_INPUT[1] or 0 < ng < _NG_INPUT[0]:
            said.append(
                f"Sample {sample} of patient {patient}: ng_input is {ng:g} ng, outside {_NG_INPUT[0]:g} to "
                f"{_NG_INPUT[1]:g} ng per reaction; is it the unit?"
            )
    doses = frames["infusions"]
    for patient, k, planned, given in zip(
        doses["patient_id"], doses["infusion"], doses["planned"], doses["given"], strict=True
    ):
        if planned > 0 and not _GIVEN[0] <= given / planned <= _GIVEN[1] and not math.isnan(given):
            said.append(
                f"Infusion {k} of patient {patient}: given is {given:.4g}, {given / planned:.3g} of the planned "
                f"{planned:.4g}; is an exponent mistyped?"
            )
    return said + _agents_unknown(frames["cytokines"], settings)


def _agents_unknown(cytokines: pd.DataFrame, settings: Settings) -> list[str]:
    """Agents of the models that occur nowhere in the doses; spelling as in il2 for IL-2 is one agent."""
    given = sorted(set(cytokines["agent"]) - {""})
    if not given:
        return []
    said = []
    for name in dict.fromkeys((settings.models.default, *settings.models.candidates)):
        for agent in getattr(settings.models.constants(name), "agents", ()):
            if bare(agent) in {bare(g) for g in given}:
                continue
            near = nearest(agent, given)
            hint = f"did you mean {near}?" if near else f"the doses are of {', '.join(given)}."
            said.append(f"models.{name}.agents names {agent}, of which {settings.inputs.cytokines} has no dose; {hint}")
    return said


def read_study(settings: Settings, root: Path, found: list[Problem] | None = None) -> Study:
    """Read and check the user's tables.

    Parameters
    ----------
    settings : Settings
        Its `inputs` name the files, its `study` the time zone, the dose unit and the data cut.
    root : Path
        Folder to which the paths are relative.
    found : list of Problem, optional
        Takes the problems in place of an `InputError`; the study then holds what could be read, without the cells that
        could not, and is good for finding further problems only.

    Returns
    -------
    Study
        Elapsed times in days from the start of each patient's first infusion. Without a table of patients the frame
        of patients is empty; without infusions each patient has one infusion of the reference dose at 0.

    Raises
    ------
    InputError
        With every problem of every table.
    """
    settings = located(settings, root)
    names = settings.inputs
    zone, unit = settings.study.time_zone, settings.study.dose_unit
    warnings: list[str] = []
    problems: list[Problem] = []
    tables: dict[str, _Table | None] = {}
    for schema in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS):
        file = getattr(names, schema.name)
        tables[schema.name] = None
        if file is not None:
            table, own = _read(root / file, schema, file, warnings)
            tables[schema.name] = table
            problems += own
            if table is not None:
                _with_iso_dates(table, settings.study.date_order)
    patients, samples, infusions = tables["patients"], tables["samples"], tables["infusions"]
    cytokines, events = tables["cytokines"], tables["events"]

    anchors: dict[str, datetime] = {}
    if infusions is not None:
        anchors = _anchors(infusions, zone)
        late = _without_first(infusions)
        _with_elapsed(infusions, "started_at", "time", anchors, zone, warnings, needed=True, reported=late)
        _check_infusions(infusions, unit, warnings)
    # A broken table of infusions would make every absolute time a problem of its own.
    anchored = infusions is not None and not infusions.problems
    strangers: set[str] = set()
    if patients is not None:
        named = [t.frame["patient_id"] for t in (samples, cytokines, events) if t is not None]
        known = set(patients.frame["patient_id"])
        # Whoever is in no table of patients, or has no infusion at all, is reported once and for all times.
        expected = known if infusions is None else known & set(infusions.frame["patient_id"])
        strangers = {p for ids in named for p in ids} - expected
    if samples is not None and (anchored or names.infusions is None):
        _with_elapsed(samples, "collected_at", "time_actual", anchors, zone, warnings, needed=False, reported=strangers)
    if samples is not None:
        _sample_times(samples, warnings)
    for table in (cytokines, events):
        if table is not None and (anchored or names.infusions is None):
            dates = table is events
            _with_elapsed(
                table, "started_at", "time", anchors, zone, warnings, needed=True, dates=dates, reported=strangers
            )

    if events is not None:
        _check_events(events)

    if patients is not None and names.patients is not None:
        known = set(patients.frame["patient_id"])
        problems += _unknown_choices(settings, known)
        for table in (samples, infusions, cytokines, events):
            if table is not None:
                _unknown_patients(table, known, names.patients)
        if infusions is not None:
            treated = set(infusions.frame["patient_id"])
            for patient in sorted(known - treated):
                if samples is not None and (samples.frame["patient_id"] == patient).any():
                    index = samples.frame.index[samples.frame["patient_id"] == patient][0]
                    near = f"add infusion 1 of {patient} to {names.infusions}"
                    samples.problem(
                        index, "patient_id", f"a sample of {patient}, who has no infusion", "infusion 1", near
                    )
                elif patient:
                    warnings.append(f"Patient {patient} has no infusion and no sample.")
    for present in tables.values():
        if present is not None:
            problems += [*_checked(present), *_personal_cells(present)]

    frames = {
        schema.name: complete(present.frame, schema) if (present := tables[schema.name]) is not None else empty(schema)
        for schema in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS)
    }
    if samples is None:
        frames["samples"] = frames["samples"].assign(time_flag=pd.Series(dtype="str"))
    if infusions is None and len(frames["patients"]):
        frames["infusions"] = assumed_infusions(frames["patients"]["patient_id"], settings.study.reference_dose, unit)
        warnings.append(assumed_words(len(frames["patients"]), settings.study.reference_dose, unit))
    frames["patients"] = _with_deaths(frames["patients"], frames["events"], warnings)
    warnings += _implausible(frames, settings)
    if found is None:
        raise_any(problems, warnings)
    else:
        found += problems
    rows = {} if samples is None else dict(zip(samples.frame["sample_id"], map(int, samples.rows), strict=True))
    return Study(
        **frames,
        warnings=tuple(sorted(set(warnings))),
        sample_rows=rows,
        data_cut=_cuts(settings, anchors),
        sample_header=() if samples is None else samples.header,
    )


def _cuts(settings: Settings, anchors: Mapping[str, datetime]) -> dict[str, float]:
    if settings.study.data_cut is None:
        return {}
    after = date.fromisoformat(settings.study.data_cut) + timedelta(days=1)
    end, _ = instant(after.isoformat(), settings.study.time_zone, dates=True)
    return {patient: (end - start).total_seconds() / _DAY for patient, start in sorted(anchors.items())}


# ------------------------------------------------------------------------------------------ single tables, for stages


def load_patients(path: Path) -> pd.DataFrame:
    """A table of patients, checked.

    Raises
    ------
    InputError
        With every problem found.
    """
    return _loaded(path, PATIENTS)[0]


def load_samples(path: Path) -> pd.DataFrame:
    """A table of samples, checked; times of collection stay as they are written.

    Raises
    ------
    InputError
        With every problem found.
    """
    return _loaded(path, SAMPLES)[0]


def load_infusions(path: Path, zone: str = "UTC", unit: str | None = None) -> pd.DataFrame:
    """A table of infusions with elapsed times and `given` filled in; the user's own or that of `ingest`.

    Parameters
    ----------
    path : Path
        CSV or xlsx.
    zone : str
        Zone of absolute times without offset.
    unit : str, optional
        Unit that amounts must have; by default that of the first row.

    Raises
    ------
    InputError
        With every problem found, times that do not increase with the infusion among them.
    """
    table, warnings = _opened(path, INFUSIONS)
    given = [u for u in table.frame["unit"] if u]
    _with_elapsed(table, "started_at", "time", _anchors(table, zone), zone, warnings, needed=True, compare=False)
    _check_infusions(table, unit or (given[0] if given else "cells"), warnings)
    raise_any(_checked(table))
    return complete(table.frame, INFUSIONS)


def load_cytokines(path: Path, infusions: pd.DataFrame | None = None, zone: str = "UTC") -> pd.DataFrame:
    """A table of cytokine doses with elapsed times; absolute ones need the absolute first infusion in `infusions`.

    Raises
    ------
    InputError
        With every problem found.
    """
    return _load_timed(path, CYTOKINES, infusions, zone)


def load_events(path: Path, infusions: pd.DataFrame | None = None, zone: str = "UTC") -> pd.DataFrame:
    """A table of clinical events with elapsed times, as `load_cytokines`; an event may be known by its date only.

    Raises
    ------
    InputError
        With every problem found.
    """
    return _load_timed(path, EVENTS, infusions, zone)


def _load_timed(path: Path, schema: Schema, infusions: pd.DataFrame | None, zone: str) -> pd.DataFrame:
    table, warnings = _opened(path, schema)
    anchors = {}
    if infusions is not None:
        anchors = _anchors(_Table(INFUSIONS, "", infusions, pd.Series(dtype="int64")), zone)
    dates = schema is EVENTS
    _with_elapsed(table, "started_at", "time", anchors, zone, warnings, needed=True, dates=dates, compare=False)
    raise_any(_checked(table))
    return complete(table.frame, schema)


def _opened(path: Path, schema: Schema) -> tuple[_Table, list[str]]:
    warnings: list[str] = []
    table, problems = _read(path, schema, path.as_posix(), warnings)
    if table is None:
        raise InputError(problems)
    return table, warnings


def _loaded(path: Path, schema: Schema) -> tuple[pd.DataFrame, list[str]]:
    table, warnings = _opened(path, schema)
    raise_any(_checked(table))
    return complete(table.frame, schema), warnings
