"""The input is wrong: say where, what was found, what was expected and how to mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

DONE, BUG, BAD_INPUT, GATE = 0, 1, 2, 3
"""Exit statuses of the command."""


@dataclass(frozen=True, order=True)
class Problem:
    """One defect of the input, with all that its owner needs to mend it.

    Parameters
    ----------
    file : str
        The file as the user named it.
    row : int or None
        Row in that file as a text editor or a spreadsheet counts it (the header is row 1); None for the whole file.
    column : str
        Column, configuration key or sheet; empty where it does not apply.
    found, expected, mend : str
        What stands there, what should, and what to do about it.

    Examples
    --------
    >>> print(Problem("samples.csv", 3, "patient_id", "'7'", "a patient of patients.csv", "add the patient"))
    samples.csv, row 3, column patient_id: found '7'; expected a patient of patients.csv. To mend: add the patient.
    """

    file: str
    row: int | None = None
    column: str = ""
    found: str = ""
    expected: str = ""
    mend: str = ""

    def __str__(self) -> str:
        where = self.file
        if self.row is not None:
            where += f", row {self.row}"
        if self.column:
            where += f", column {self.column}"
        text = f"{where}: found {_cut(self.found)}"
        if self.expected:
            text += f"; expected {_cut(self.expected)}"
        text = text.rstrip(".") + "."
        if self.mend:
            text += f" To mend: {self.mend}" + ("" if self.mend.endswith(("?", ".")) else ".")
        return printable(text)


def _cut(text: str) -> str:
    """A text that a person can take in: of one longer than a paragraph its beginning and its length."""
    return text if len(text) <= 600 else f"{text[:200]}... ({len(text)} characters)"


def printable(text: str) -> str:
    r"""A text for a terminal or a log: what would move its cursor or turn its direction is written out.

    Examples
    --------
    >>> print(printable("P1" + chr(27) + "[2J"), printable("患者 é"))
    P1\x1b[2J 患者 é
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


class InputError(Exception):
    """The user's input cannot be used; carries every problem found, never only the first.

    Parameters
    ----------
    problems : Problem or iterable of Problem
        At least one.
    warnings : iterable of str
        What else was seen, for the same round of corrections.

    Examples
    --------
    >>> error = InputError([Problem("b.csv", found="an empty file"), Problem("a.csv", found="an empty file")])
    >>> print(error)
    2 problems in the input:
      a.csv: found an empty file.
      b.csv: found an empty file.
    """

    def __init__(self, problems: Problem | Iterable[Problem], warnings: Iterable[str] = ()) -> None:
        listed = [problems] if isinstance(problems, Problem) else list(problems)
        # Insertion order decides among equals: row None sorts first, numbers by value.
        self.problems = sorted(set(listed), key=lambda p: (p.file, p.row or 0, p.column, p.found))
        n = len(self.problems)
        head = f"{n} problem{'s' if n != 1 else ''} in the input:"
        self.warnings = tuple(sorted(set(warnings)))
        also = ["Warnings:", *(f"  {_cut(printable(w))}" for w in self.warnings)] if self.warnings else []
        super().__init__("\n".join([head, *(f"  {p}" for p in self.problems), *also]))


class GateError(Exception):
    """A quality gate that the configuration made binding was not met (exit status 3)."""


def raise_any(problems: Iterable[Problem], warnings: Iterable[str] = ()) -> None:
    """Raise one `InputError` with all problems (and the warnings beside them), or return when there are none."""
    listed = list(problems)
    if listed:
        raise InputError(listed, warnings)


def bare(word: str) -> str:
    """A word without case, punctuation and leading zeros of its numbers: what people vary without meaning to.

    Examples
    --------
    >>> bare("IL-2") == bare("il2"), bare("P-007") == bare("p7"), bare("P-10") == bare("P-1")
    (True, True, False)
    """
    return "".join(
        part.lstrip("0") or "0" if part.isdigit() else re.sub(r"[\W_]+", "", part)
        for part in re.split(r"(\d+)", word.casefold())
        if part
    )


def nearest(word: str, words: Iterable[str], cutoff: float = 0.5) -> str:
    """The most similar word, all of them with "or" when several are equally near; empty text when none is similar.

    Parameters
    ----------
    word : str
        What was written.
    words : iterable of str
        What could have been meant.
    cutoff : float
        Least similarity, between 0 and 1.

    Examples
    --------
    >>> nearest("P-01", ["P-001", "P-002"]), nearest("P-D10", ["P1-D10", "P2-D10", "P1-D1"]), nearest("x", ["y"])
    ('P-001', 'P1-D10 or P2-D10', '')
    """
    listed = sorted(set(words) - {""})
    same = [w for w in listed if bare(w) == bare(word)]
    if not same:
        matcher = difflib.SequenceMatcher()
        matcher.set_seq2(word)
        ratios = []
        for other in listed:
            matcher.set_seq1(other)
            near = matcher.real_quick_ratio() >= cutoff and matcher.quick_ratio() >= cutoff
            ratios.append(matcher.ratio() if near else 0.0)
        best = max(ratios, default=0.0)
        same = [w for w, r in zip(listed, ratios, strict=True) if r >= cutoff and r > best - 1e-9]
    if len(same) > 5:
        return ", ".join(same[:5]) + f" or one of {len(same) - 5} more that are as near"
    return " or ".join([", ".join(same[:-1]), same[-1]] if len(same) > 1 else same)
