"""Named conversions of a text cell, each with its own error: numbers, detection words, identifiers, headers.

The decimal mark belongs to a FILE, never to a cell: `Notation` is inferred once from every number that a reader names
and then convicts each cell that contradicts it. A Ct of ``16,484`` in a file that writes points is an error with its
row and column; it is neither 16484 nor 16.484.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from nkinetics.columns import IDENTIFIER
from nkinetics.errors import InputError, Problem, raise_any

CT_MAX = 60.0
"""No instrument runs more cycles; a Ct beyond is a misread mark."""

Kind = Literal["ct", "count", "amount", "number"]
"""ct: 0 < x <= 60; count: whole, 0 or more; amount: 0 or more; number: any."""

_WANTED = {
    "ct": f"a Ct above 0 and at most {CT_MAX:g}",
    "count": "a whole number, 0 or more",
    "amount": "a number, 0 or more",
    "number": "a number",
}


class NumberText(str):
    """Text of a workbook cell that held a number, not text: its decimal mark is a point whatever the file's is."""

    __slots__ = ()


# ------------------------------------------------------------------------------------------------------------- headers

_REPLACED = {
    "\u00c2\u00b5": "u",  # the micro sign as UTF-8 read as cp1252
    "\u00ce\u00bc": "u",  # the Greek mu, likewise
    "\u00b5": "u",
    "\u03bc": "u",
    "\u0442": "t",  # Cyrillic te, which StepOne and QuantStudio write in Ct
    "\u0422": "t",
    "superscript 2": "2",
}


@lru_cache(maxsize=4096)
def normalised(header: str) -> str:
    r"""A header reduced to what it says: lower case, letters and digits, variants of the micro sign and of Ct united.

    A lost or replaced micro sign leaves nothing, so ``Conc(copies/?L)`` gives ``conccopiesl``: a reader lists both.

    Examples
    --------
    >>> normalised("Conc(copies/µL)"), normalised("Conc(copies/\u03bcL)"), normalised("Conc(copies/\ufffdL)")
    ('conccopiesul', 'conccopiesul', 'conccopiesl')
    >>> normalised("C\u0442"), normalised("R(superscript 2)"), normalised("R²"), normalised("ΔCт")
    ('ct', 'r2', 'r2', 'δct')
    """
    if header.isascii() and "superscript" not in header:
        # Nearly all cells, and every reader asks for those at the top of every file.
        return "".join(filter(str.isalnum, header.lower()))
    text = header
    for old, new in _REPLACED.items():
        text = text.replace(old, new)
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def columns(header: Sequence[str]) -> Mapping[str, int]:
    """Position of each header by its normalised name; the first of a name that stands twice.

    Examples
    --------
    >>> dict(columns(["Well", "Target Name", "target name", ""]))
    {'well': 0, 'targetname': 1}
    """
    return _columns(tuple(header))


@lru_cache(maxsize=1024)
def _columns(header: tuple[str, ...]) -> Mapping[str, int]:
    # Every reader asks it of the first rows of every file.
    places: dict[str, int] = {}
    for i, name in enumerate(header):
        key = normalised(name)
        if key:
            places.setdefault(key, i)
    return MappingProxyType(places)


# ------------------------------------------------------------------------------------------------------------- numbers

_SPACES = " \u00a0\u2009\u202f'\u2019"
_SPACED = re.compile(rf"[+-]?\d{{1,3}}([{_SPACES}])\d{{3}}(?:\1\d{{3}})*(?:[.,]\d*)?", re.ASCII)
_FRACTION = re.compile(r"[+-]?\d+([.,])(?:\d{1,2}|\d{4,})", re.ASCII)
_NUMBERISH = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?", re.ASCII)
_PLAIN = {m: re.compile(rf"[+-]?(?:\d+(?:[{m}]\d*)?|[{m}]\d+)(?:[eE][+-]?\d+)?", re.ASCII) for m in ".,"}
_GROUPED = {m: re.compile(rf"[+-]?\d{{1,3}}(?:[{t}]\d{{3}})+(?:[{m}]\d*)?", re.ASCII) for m, t in (".,", ",.")}


def _unspaced(text: str) -> str:
    """A number without blanks or apostrophes between its thousands; any other blank is no part of a number."""
    return text.replace(match.group(1), "") if (match := _SPACED.fullmatch(text)) else text


def _decimal_shown(text: str, kind: Kind) -> str:
    """The decimal mark that a number's own text proves, ``?`` where it could be either, empty where it has no mark."""
    point, comma = text.count("."), text.count(",")
    if not point and not comma:
        return ""
    if point and comma:
        return "." if text.rfind(".") > text.rfind(",") else ","
    mark, other = (".", ",") if point else (",", ".")
    if point + comma > 1:
        return other
    whole, _, fraction = text.lstrip("+-").partition(mark)
    if len(fraction) != 3 or not 1 <= len(whole) <= 3 or whole.startswith("0"):
        return mark
    # Three digits behind the only mark: thousands, unless the quantity cannot be that large or cannot have a fraction.
    return mark if kind == "ct" else other if kind == "count" else "?"


def _inside(value: float, kind: Kind) -> bool:
    """Whether a value keeps the bounds of its kind; no kind allows infinity."""
    if kind == "ct":
        return 0 < value <= CT_MAX
    if kind == "count":
        return 0 <= value < 1e15 and value.is_integer()
    return math.isfinite(value) and (kind == "number" or value >= 0)


@dataclass(frozen=True)
class Notation:
    """How one file writes numbers.

    Parameters
    ----------
    decimal : {".", ","}
        Decimal mark of the file.
    groups_whole : bool
        The file writes whole numbers with a thousands mark (``100,000,000``) beyond doubt, so ``16,484`` may be one.
    """

    decimal: str = "."
    groups_whole: bool = False

    def number(self, text: str, kind: Kind = "number") -> float | None:
        """The value of a cell, or None where the text is no number in this notation or breaks the bounds of its kind.

        Examples
        --------
        >>> Notation(".").number("100,000,000.000"), Notation(".").number("16,484", "ct")
        (100000000.0, None)
        >>> Notation(",").number("16,484", "ct")
        16.484
        """
        if isinstance(text, NumberText):
            value = float(text)
        else:
            plain = _unspaced(text)
            if _PLAIN[self.decimal].fullmatch(plain):
                value = float(plain.replace(",", "."))
            elif kind != "ct" and _GROUPED[self.decimal].fullmatch(plain):
                # One mark and no fraction could as well be a mistyped decimal mark.
                thousands = "," if self.decimal == "." else "."
                sure = plain.count(thousands) > 1 or self.decimal in plain or kind == "count" or self.groups_whole
                if not sure:
                    return None
                value = float(plain.replace(thousands, "").replace(",", "."))
            else:
                return None
        return value if _inside(value, kind) else None


def notation(file: str, cells: Iterable[tuple[str, Kind]], configured: str = "auto") -> Notation:
    """The notation of a file, from all its numbers together.

    Parameters
    ----------
    file : str
        Name for the message.
    cells : iterable of (text, kind)
        Every number that the reader names; texts that are no numbers are passed over.
    configured : {"auto", ".", ","}
        ``inputs.decimal``; a mark other than auto is taken as it stands.

    Raises
    ------
    InputError
        When the mark shows in no number, or in as many as the other mark.

    Examples
    --------
    >>> notation("a.csv", [("27,102", "ct"), ("0,074", "number")]).decimal
    ','
    >>> notation("a.csv", [("1.234", "number")])
    Traceback (most recent call last):
    ...
    nkinetics.errors.InputError: 1 problem in the input:
      a.csv: found numbers as 1.234, which may be 1.234 or 1234; expected numbers that show the decimal mark. \
To mend: set inputs.decimal to '.' or ','.
    """
    votes = {".": 0, ",": 0}
    examples = {".": "", ",": ""}
    unsure = ""
    groups_whole = False
    for raw, kind in cells:
        if "." not in raw and "," not in raw:
            continue
        if plain := _FRACTION.fullmatch(raw):
            # The usual case, before all the others: a fraction that cannot be thousands.
            mark = "." if isinstance(raw, NumberText) else plain.group(1)
            votes[mark] += 1
            examples[mark] = examples[mark] or raw
            continue
        text = _unspaced(raw)
        if not _NUMBERISH.fullmatch(text):
            continue
        mark = "." if isinstance(raw, NumberText) else _decimal_shown(text, kind)
        if mark == "?":
            unsure = unsure or raw
        elif mark:
            votes[mark] += 1
            examples[mark] = examples[mark] or raw
            groups_whole |= mark not in text and not isinstance(raw, NumberText)
    if configured != "auto":
        return Notation(configured, groups_whole)
    mend = "set inputs.decimal to '.' or ','"
    if votes["."] == votes[","]:
        if votes["."]:
            found = f"a decimal point as in {examples['.']} and a decimal comma as in {examples[',']}"
            raise InputError(Problem(file, found=found, expected="one decimal mark in the whole file", mend=mend))
        if unsure:
            whole, small = re.sub("[.,]", "", unsure), re.sub(",", ".", unsure)
            found = f"numbers as {unsure}, which may be {small} or {whole}"
            raise InputError(Problem(file, found=found, expected="numbers that show the decimal mark", mend=mend))
        return Notation(".", groups_whole)
    return Notation("." if votes["."] > votes[","] else ",", groups_whole)


_PERCENT = re.compile(r"\s*(.*?)\s*%\s*")


def without_percent(text: str) -> str:
    """A percent text without its sign.

    Examples
    --------
    >>> without_percent("83.4 %"), without_percent("12")
    ('83.4', '12')
    """
    match = _PERCENT.fullmatch(text)
    return match.group(1) if match else text


@dataclass
class Checked:
    """Conversions of one file's cells that collect a problem for each cell that is not what it should be.

    Parameters
    ----------
    file : str
        Name for the messages.
    notation : Notation
        How the file writes numbers.
    """

    file: str
    notation: Notation = field(default_factory=Notation)
    problems: list[Problem] = field(default_factory=list)
    _rows: dict[tuple[str, ...], int] = field(default_factory=dict)

    def problem(
        self, row: int | None, column: str, found: str, expected: str, mend: str = "export the file again"
    ) -> None:
        """Note a problem and go on, so that all of them are reported together."""
        self.problems.append(Problem(self.file, row, column, found, expected, mend))

    def number(self, row: int | None, column: str, text: str, kind: Kind = "number") -> float | None:
        """The value of a cell that must hold a number; None with a problem noted where it does not."""
        value = self.notation.number(text, kind)
        if value is None:
            self.problem(row, column, *self._misfit(text, kind))
        return value

    def plain_number(self, column: str, text: str, kind: Kind = "number") -> float | None:
        """The value of a number that software wrote for software: a mark between thousands there is damage."""
        if text and not _PLAIN["."].fullmatch(text):
            self.problem(None, column, repr(str(text)), _WANTED[kind], "save or export the file again")
            return None
        return self.number(None, column, text, kind)

    def _misfit(self, text: str, kind: Kind) -> tuple[str, str, str]:
        expected, mend = _WANTED[kind], "correct the cell, or export the file again"
        other = "," if self.notation.decimal == "." else "."
        if not text:
            return "an empty cell", expected, mend
        if other in text and _NUMBERISH.fullmatch(_unspaced(text)):
            expected += f" with the decimal mark '{self.notation.decimal}' of the file's other numbers"
            mend += "; where the whole file uses the other mark, set inputs.decimal"
        elif text.lstrip().startswith("-"):
            found = "a negative value"
            return f"{text!r}, {found}", expected, mend
        return repr(str(text)), expected, mend

    def identifier(self, row: int, column: str, text: str) -> str:
        """An identifier that becomes a key of ours: letters, digits, ``. _ -`` only; a problem otherwise."""
        if not IDENTIFIER.fullmatch(text):
            expected = "1 to 40 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            found = repr(str(text)) if text else "an empty cell"
            self.problem(row, column, found, expected, "rename it in the source and export again")
        return text

    def sample_name(self, row: int | None, column: str, text: str) -> str:
        """A sample's name on an instrument, free text: only what a spreadsheet would run or a path is refused.

        Laboratories write ``Standard 1 (1e8)`` or ``SMN2 Control 2 copies``; such a name cannot be a sample id of the
        manifest, and the joining reports it as unmatched.
        """
        if text and (reason := danger(text)):
            expected = "a sample name that is neither a formula nor a path"
            self.problem(row, column, f"{text!r}, {reason}", expected, "rename the sample and export again")
        return text

    def once(self, row: int, column: str, key: tuple[str, ...]) -> None:
        """Note a second row for what a format measures once, as a well and its target."""
        first = self._rows.setdefault(key, row)
        if first != row:
            found = f"a second row for {', '.join(k for k in key if k)}, after row {first}"
            self.problem(row, column, found, "one row for each", "remove one of the two, or export the file again")

    def shape(self, width: int, lengths: Sequence[tuple[int, int, int]]) -> None:
        """Note every row that a lost or an additional separator has shifted, so that cells would change columns.

        Parameters
        ----------
        width : int
            Cells of the header.
        lengths : sequence of (row, cells, filled)
            For each row its number, how many cells it has and up to which it is filled. Rows that may be cut short,
            as empty wells, are left out.
        """
        counts = Counter(cells for _, cells, _ in lengths)
        # Some software drops the empty cells at the end of every row, or of blocks of rows; a lone odd row is damage.
        usual = {n for n, rows in counts.items() if rows >= 3 or rows * 2 >= len(lengths)}
        for row, cells, filled in lengths:
            if filled > width or cells not in usual:
                expected = f"{' or '.join(map(str, sorted(usual)))}, as in the other rows" if usual else "one length"
                if filled > width:
                    expected = f"at most {width}, as in the header"
                mend = "quote texts that hold a separator, or export the file again"
                self.problem(row, "", f"{cells} cells", expected, mend)

    def done(self) -> None:
        """Raise one `InputError` with every problem noted, or return when there is none."""
        raise_any(self.problems)


_FORMULA = re.compile(r"[=@]|[+-].*[|!(=]")
_PATH = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\~]|\\|^[A-Za-z]:[/\\]")


def danger(text: str) -> str:
    """Why a free text must not travel into tables and file names; empty when it may.

    Examples
    --------
    >>> danger("=cmd|x"), danger("../x"), danger("-RT"), danger("Standard 1 (1e8)")
    ('which a spreadsheet would run as a formula', 'which is a path', '', '')
    """
    if _FORMULA.match(text):
        return "which a spreadsheet would run as a formula"
    if _PATH.search(text):
        return "which is a path"
    if not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cf") for c in text):
        return "which holds control characters"
    return "longer than 200 characters" if len(text) > 200 else ""


# ----------------------------------------------------------------------------------------------------- detection words


@dataclass(frozen=True)
class Detection:
    """What a text in place of a number says about the measurement.

    Parameters
    ----------
    detection : str
        not_detected, below, above, not_done or failed.
    reason : str
        In words, with the text itself.
    bound : str
        Number behind ``<`` or ``>``, as text; empty when there is none.
    """

    detection: str
    reason: str
    bound: str = ""


_MEANINGS = {
    "not_detected": (
        "not detected",
        "undetermined undet undetected notdetected notdetectable nd neg negative tnd targetnotdetected noct nocq nocrt "
        "noamp noamplification nosignal <lod <llod belowlod bdl",
    ),
    "below": (
        "below the lower limit of quantification",
        "blq bql bloq blloq <lloq <loq <blq belowlloq belowloq belowlimitofquantification belowquantificationlimit",
    ),
    "above": (
        "above the upper limit of quantification",
        "alq aql aloq auloq >uloq >alq aboveuloq abovelimitofquantification",
    ),
    "not_done": (
        "not done",
        "qns quantitynotsufficient insufficient notdone notcollected notsampled nottested notreported missing ns nr "
        "pending nan na #na null none",
    ),
    "failed": ("failed", "failed fail error invalid nocall noresult unreliable #value! #div0! #ref! #num! #name?"),
}
_WORDS = {word: (key, said) for key, (said, words) in _MEANINGS.items() for word in words.split()}
_BOUND = re.compile(r"([<≤>≥])=?\s*([\d.,\s\u00a0]*\d(?:[.,]\d*)?(?:[eE][+-]?\d+)?)", re.ASCII)
_DROPPED = str.maketrans("", "", " .,_-/\u00a0")
NO_AMPLIFICATION = {"nan": "not_detected", "na": "not_detected"}
"""In a Ct column an instrument writes NaN or N/A for a well that never crossed the threshold."""


def detection(text: str, overrides: dict[str, str] | None = None, blank: str = "not_done") -> Detection | None:
    """What a non-numeric text says, or None for a text that no table knows (the caller makes it a problem).

    Parameters
    ----------
    text : str
        The cell.
    overrides : dict, optional
        Other meanings that a format gives to a word, as `NO_AMPLIFICATION`.
    blank : str
        Meaning of an empty cell.

    Examples
    --------
    >>> detection("Undetermined").detection, detection("BLQ").detection, detection("<50").bound, detection("QNS").reason
    ('not_detected', 'below', '50', 'QNS: not done')
    >>> detection("maybe") is None
    True
    """
    stripped = text.strip()
    if stripped in ("", ".", "-", "--"):
        said = "empty cell" if not stripped else f"{stripped!r} in place of a value"
        return Detection(blank, said)
    bound = _BOUND.fullmatch(stripped)
    if bound:
        below = bound.group(1) in "<≤"
        return Detection(
            "below" if below else "above", f"{stripped}: {_MEANINGS['below' if below else 'above'][0]}", bound.group(2)
        )
    word = stripped.lower().translate(_DROPPED)
    if word not in _WORDS:
        return None
    kind, said = _WORDS[word]
    kind = (overrides or {}).get(word, kind)
    return Detection(kind, f"{stripped}: {_MEANINGS[kind][0] if overrides and word in overrides else said}")


SUMMARY_WORDS = frozenset(
    "mean average avg sd stddev stdev standarddeviation sem median min max minimum maximum sum total cv cvpct geomean "
    "geometricmean n".split()
)
"""Names of summary rows, normalised; such a row repeats others and is never a sample."""


def is_summary(name: str) -> bool:
    """Whether a row's name is that of a summary row.

    Examples
    --------
    >>> is_summary("Mean"), is_summary("Std. Dev."), is_summary("S-014.fcs")
    (True, True, False)
    """
    return normalised(name) in SUMMARY_WORDS
