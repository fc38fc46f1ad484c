"""A control: something done, what came of it, and whether that is what had to come of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from nkinetics.columns import VALIDATION
from nkinetics.store import typed

TEXT_MAX = 300
"""Characters of a message that a control keeps."""


@dataclass(frozen=True)
class Outcome:
    """What a control found.

    Parameters
    ----------
    met : bool
        The criterion holds.
    found, expected : str
        In words or numbers, as they are printed.
    """

    met: bool
    found: str
    expected: str


@dataclass(frozen=True)
class Control:
    """One control of a qualification.

    Parameters
    ----------
    id : str
        Stable, as OQ-NCA-01.
    requirement : str
        Requirement that it supports, as NCA-1.
    title : str
        What is done.
    source : str
        Where the expected answer comes from.
    measure : callable
        Does it.
    must : {"pass", "fail"}
        "fail": a defect is planted, and the criterion must NOT hold.
    """

    id: str
    requirement: str
    title: str
    source: str
    measure: Callable[[], Outcome]
    must: Literal["pass", "fail"] = "pass"


def number(value: float) -> str:
    """Ten digits, as results are written."""
    return f"{value:.10g}"


def close(found: float, expected: float, tolerance: float = 1e-9) -> Outcome:
    """Whether a number agrees with the expected one.

    Parameters
    ----------
    found, expected : float
        Both in the same unit; a missing number agrees with nothing.
    tolerance : float
        Largest relative difference, or absolute one where 0 is expected.

    Examples
    --------
    >>> close(13.5, 13.5).met, close(13.6, 13.5).met, close(float("nan"), 13.5).met
    (True, False, False)
    """
    scale = abs(expected) or 1.0
    met = math.isfinite(found) and abs(found - expected) <= tolerance * scale
    within = f"within {tolerance:g}{' (relative)' if expected else ''} of {number(expected)}"
    return Outcome(met, number(found), within)


def all_close(pairs: Iterable[tuple[str, float, float]], tolerance: float) -> Outcome:
    """Many numbers at once: how many agree, and the largest relative difference.

    Examples
    --------
    >>> all_close([("cmax", 1.0, 1.0), ("tmax", 2.0, 2.5)], 1e-6).found
    '1 of 2 numbers agree; largest relative difference 0.2 (tmax)'
    """
    rows = [(name, abs(a - b) / (abs(b) or 1.0) if math.isfinite(a) else math.inf) for name, a, b in pairs]
    good = sum(off <= tolerance for _, off in rows)
    name, worst = max(rows, key=lambda r: r[1], default=("none", math.inf))
    # Below the tolerance the last digits are those of a processor; the order of magnitude is enough.
    told = f"{worst:.3g} ({name})" if worst > tolerance else f"at most {tolerance:g}"
    return Outcome(
        bool(rows) and good == len(rows),
        f"{good} of {len(rows)} numbers agree; largest relative difference {told}",
        f"all within {tolerance:g}",
    )


def carried_out(controls: Iterable[Control]) -> list[tuple[Control, Outcome]]:
    """Every control with its outcome; an error of the program is an outcome that is not met."""
    done = []
    for control in controls:
        try:
            outcome = control.measure()
        except Exception as error:
            outcome = Outcome(False, f"{type(error).__name__}: {error}"[:TEXT_MAX], "no error of the program")
            if control.must == "fail":
                # A crash is no refusal: this must not count as the failure that was asked for.
                outcome = Outcome(True, outcome.found, outcome.expected)
        done.append((control, outcome))
    return done


def as_required(control: Control, outcome: Outcome) -> bool:
    """Whether the outcome is the one that had to come."""
    return outcome.met == (control.must == "pass")


def table(done: Iterable[tuple[Control, Outcome]]) -> pd.DataFrame:
    """Controls with their outcomes as validation.csv, one row each."""
    rows = [
        {
            "control": control.id,
            "requirement": control.requirement,
            "title": control.title,
            "must": control.must,
            "criterion_met": outcome.met,
            "as_required": as_required(control, outcome),
            "found": outcome.found,
            "expected": outcome.expected,
            "source": control.source,
        }
        for control, outcome in done
    ]
    return typed(pd.DataFrame(rows, columns=VALIDATION.names), VALIDATION)
