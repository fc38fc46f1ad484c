"""What a data set of the package is: variables with label, type, length, codelist, origin; and what it is made of."""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from nkinetics.plugins import discover
from nkinetics.results import Context, Results
from nkinetics.settings import Cdisc

Kind = Literal["text", "integer", "float", "datetime", "sas_date", "sas_datetime"]
Standard = Literal["sdtm", "adam", "pharmacometrics"]
TEXTS = ("text", "datetime")
"""Kinds that are stored as characters; the others are numbers."""

NAME_LENGTH, LABEL_LENGTH, TEXT_LENGTH = 8, 40, 200
"""Limits of SAS transport version 5."""

SAS_EPOCH = datetime.datetime(1960, 1, 1)


@dataclass(frozen=True)
class Variable:
    """One variable of a data set.

    Parameters
    ----------
    name : str
        As in the file, 8 characters at most.
    label : str
        40 characters at most.
    kind : str
        text, integer, float, datetime (ISO 8601 text), sas_date or sas_datetime (numbers since 1960 with a format).
    length : int
        Largest number of characters; files and define.xml carry the longest value met, as reviewers want it.
    codelist : str
        Name of a list of `nkinetics.cdisc._terms.CODELISTS`; empty for none.
    origin : str
        Collected, Derived, Assigned, Protocol or Predecessor, as define.xml has it.
    required : bool
        No value may be missing.
    method : str
        How it is made, in a sentence; for a predecessor its name, as DM.SEX.
    """

    name: str
    label: str
    kind: Kind = "text"
    length: int = TEXT_LENGTH
    codelist: str = ""
    origin: str = "Derived"
    required: bool = False
    method: str = ""

    @property
    def is_text(self) -> bool:
        """Stored as characters."""
        return self.kind in TEXTS


@dataclass(frozen=True)
class Dataset:
    """One data set of the package; a module of `nkinetics.cdisc` exports one as DATASET.

    Parameters
    ----------
    name : str
        As PC; the file is its lower case.
    label : str
        40 characters at most.
    standard : str
        sdtm, adam or pharmacometrics: the sub-folder, and which define.xml describes it.
    category : str
        Class of the standard, as FINDINGS or BASIC DATA STRUCTURE.
    structure : str
        One record per what.
    keys : tuple of str
        Variables that identify a record, in the order of sorting.
    variables : tuple of Variable
        In the order of the file.
    build : callable
        ``build(source) -> DataFrame`` with these variables; texts never missing but empty, numbers NaN.
    value_level : mapping
        For a variable whose meaning depends on another: variable to the one that decides, as PPSTRESN to PPTESTCD.
    subclass : str
        Sub-class of the standard, as TIME-TO-EVENT.
    """

    name: str
    label: str
    standard: Standard
    category: str
    structure: str
    keys: tuple[str, ...]
    variables: tuple[Variable, ...]
    build: Callable[[Source], pd.DataFrame]
    value_level: Mapping[str, str] = field(default_factory=dict)
    subclass: str = ""

    @property
    def file(self) -> str:
        """File name without ending."""
        return self.name.lower()


@dataclass(frozen=True)
class Source:
    """The results of a study as the data sets are made of them; a data set may ask for another.

    Parameters
    ----------
    results : Results
        Folder of results.
    context : Context
        Settings and version.
    """

    results: Results
    context: Context
    _made: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    counts: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def study_id(self) -> str:
        """STUDYID."""
        return self.context.settings.study.id

    @property
    def choices(self) -> Cdisc:
        """The section cdisc of the configuration."""
        return self.context.settings.cdisc

    @cached_property
    def starts(self) -> pd.DataFrame:
        """Infusions of cells: patient_id, infusion, time [d], started_at (empty where only elapsed times are known)."""
        rows = self.results.table("infusions").sort_values(["patient_id", "infusion"], ignore_index=True)
        return rows.assign(started_at=[iso_minutes(t) for t in rows["started_at"]])

    def subject(self, patient_id: str) -> str:
        """USUBJID.

        The study's identifier stands in it, so that a patient is unique over the studies of a product.
        """
        return f"{self.study_id}-{patient_id}"

    def first_infusion(self, patient_id: str) -> str:
        """Date and time of the first infusion of cells, ISO 8601; empty where the study gives elapsed times only."""
        own = self.starts[self.starts["patient_id"] == patient_id]
        return str(own["started_at"].iloc[0]) if len(own) else ""

    def dataset(self, name: str) -> pd.DataFrame:
        """A data set of the package by its module's name, made once."""
        if name not in self._made:
            item: Dataset = discover("cdisc")[name]
            self._made[name] = shaped(item, item.build(self))
        return self._made[name]


def shaped(item: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with exactly the variables of the data set, typed, sorted by its keys."""
    columns: dict[str, Any] = {}
    for variable in item.variables:
        values = frame[variable.name] if variable.name in frame.columns else pd.Series(index=frame.index, dtype=object)
        if variable.is_text:
            columns[variable.name] = [plain(v) for v in values]
        else:
            columns[variable.name] = pd.to_numeric(values).astype("float64").to_numpy() + 0.0
    made = pd.DataFrame(columns, columns=[v.name for v in item.variables])
    made = made.astype({v.name: "str" for v in item.variables if v.is_text})
    keys = list(item.keys)
    return made.sort_values(keys, kind="stable", ignore_index=True) if len(made) else made


# --------------------------------------------------------------------------------------------------------- small words

_ASCII = {"±": "+/-", "×": "x", "–": "-", "—": "-", "−": "-", "µ": "u", "μ": "u", "≥": ">=", "≤": "<=", "²": "2"}
_ASCII |= {"³": "3", "’": "'", "“": '"', "”": '"', "°": " deg", "…": "...", "·": ".", "→": "->"}


def plain(value: object) -> str:
    """Text for SAS transport: signs that have an ASCII spelling get it, blanks at the ends go; missing is empty.

    A character without such a spelling (as Chinese) stays, and the check of ASCII texts names it.

    Examples
    --------
    >>> plain("5 ± 1 µg"), plain(None), plain(float("nan")), plain("é")
    ('5 +/- 1 ug', '', '', 'e')
    """
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = "".join(_ASCII.get(c, c) for c in str(value))
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        bare = "".join(c for c in parts if not unicodedata.combining(c))
        text = bare if bare.isascii() else text
    return " ".join(text.split())


def limited(text: str, length: int = TEXT_LENGTH) -> str:
    """Text of at most so many characters, three dots at the end where it was cut.

    Examples
    --------
    >>> limited("abcdefgh", 6), limited("abc", 6)
    ('abc...', 'abc')
    """
    text = plain(text)
    return text if len(text.encode()) <= length else text.encode()[: length - 3].decode(errors="ignore") + "..."


def number_text(value: float) -> str:
    """A number as text, ten digits as in the results; empty where missing.

    Examples
    --------
    >>> number_text(0.1), number_text(2e9), number_text(float("nan"))
    ('0.1', '2000000000', '')
    """
    return "" if pd.isna(value) else f"{value + 0.0:.10g}"


def iso_minutes(text: object) -> str:
    """A date or date and time of the study as ISO 8601 to the minute, as the study has it; empty where there is none.

    Examples
    --------
    >>> iso_minutes("2026-04-14 10:02:30"), iso_minutes("2026-04-14"), iso_minutes("")
    ('2026-04-14T10:02', '2026-04-14', '')
    """
    found = re.match(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}))?", plain(text))
    return "" if not found else found[1] + (f"T{found[2]}" if found[2] else "")


def study_day(date: str, reference: str) -> float:
    """Study day of a date: the day of the reference is 1, the day before it -1; there is no day 0.

    Examples
    --------
    >>> study_day("2026-04-14T23:59", "2026-04-14T10:02"), study_day("2026-04-13", "2026-04-14"), study_day("", "")
    (1.0, -1.0, nan)
    """
    if not (date and reference):
        return math.nan
    days = (datetime.date.fromisoformat(date[:10]) - datetime.date.fromisoformat(reference[:10])).days
    return float(days + 1 if days >= 0 else days)


def duration(days: float) -> str:
    """Elapsed days as an ISO 8601 duration to the minute; empty where missing.

    Examples
    --------
    >>> duration(28), duration(0.0625), duration(3.0625), duration(-0.0125), duration(0)
    ('P28D', 'PT1H30M', 'P3DT1H30M', '-PT18M', 'PT0H')
    """
    if pd.isna(days):
        return ""
    minutes = round(abs(days) * 1440)
    whole, rest = divmod(minutes, 1440)
    hours, rest = divmod(rest, 60)
    date, time = (f"{whole}D" if whole else ""), (f"{hours}H" if hours else "") + (f"{rest}M" if rest else "")
    if not minutes:
        return "PT0H"
    return ("-" if days < 0 else "") + "P" + date + (f"T{time}" if time else "")


def shifted(start: str, days: float) -> str:
    """The ISO date and time so many days after a start; empty where either is missing.

    Examples
    --------
    >>> shifted("2026-04-14T10:02", 34.2), shifted("", 1)
    ('2026-05-18T14:50', '')
    """
    if not start or pd.isna(days):
        return ""
    moment = datetime.datetime.fromisoformat(start) + datetime.timedelta(minutes=round(days * 1440))
    return moment.isoformat(timespec="minutes")


def sas_datetime(text: str) -> float:
    """ISO date and time as SAS seconds since 1960; NaN where missing or without a time.

    Examples
    --------
    >>> sas_datetime("1960-01-02T00:01"), sas_datetime("1960-01-02")
    (86460.0, nan)
    """
    return (datetime.datetime.fromisoformat(text) - SAS_EPOCH).total_seconds() if "T" in text else math.nan


def sas_date(text: str) -> float:
    """ISO date as SAS days since 1960; NaN where missing.

    Examples
    --------
    >>> sas_date("1960-01-02T10:00"), sas_date("")
    (1.0, nan)
    """
    if not text:
        return math.nan
    return float((datetime.datetime.fromisoformat(text[:10]) - SAS_EPOCH).days)


def identifiers(domain: str = "", *, subject: bool = True) -> tuple[Variable, ...]:
    """STUDYID, DOMAIN and USUBJID, with which every data set begins."""
    study = Variable("STUDYID", "Study Identifier", length=40, origin="Protocol", required=True)
    two = Variable("DOMAIN", "Domain Abbreviation", length=2, origin="Assigned", required=True)
    who = Variable(
        "USUBJID",
        "Unique Subject Identifier",
        length=81,
        required=True,
        method="Identifier of the study, a hyphen, identifier of the patient",
    )
    return (study, *((two,) if domain else ()), *((who,) if subject else ()))
