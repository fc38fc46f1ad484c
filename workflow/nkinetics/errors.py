"""The input is wrong: say where, what was found, what was expected and how to mend it."""

from __future__ import annotations

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
        text = f"{where}: found {self.found}"
        if self.expected:
            text += f"; expected {self.expected}"
        text = text.rstrip(".") + "."
        return f"{text} To mend: {self.mend.rstrip('.')}." if self.mend else text


class InputError(Exception):
    """The user's input cannot be used; carries every problem found, never only the first.

    Parameters
    ----------
    problems : Problem or iterable of Problem
        At least one.

    Examples
    --------
    >>> error = InputError([Problem("b.csv", found="an empty file"), Problem("a.csv", found="an empty file")])
    >>> print(error)
    2 problems in the input:
      a.csv: found an empty file.
      b.csv: found an empty file.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        listed = [problems] if isinstance(problems, Problem) else list(problems)
        # Insertion order decides among equals: row None sorts first, numbers by value.
        self.problems = sorted(set(listed), key=lambda p: (p.file, p.row or 0, p.column, p.found))
        n = len(self.problems)
        head = f"{n} problem{'s' if n != 1 else ''} in the input:"
        super().__init__("\n".join([head, *(f"  {p}" for p in self.problems)]))


class GateError(Exception):
    """A quality gate that the configuration made binding was not met (exit status 3)."""


def raise_any(problems: Iterable[Problem]) -> None:
    """Raise one `InputError` with all problems, or return when there are none."""
    listed = list(problems)
    if listed:
        raise InputError(listed)
