"""Points of terminal fits that somebody chose by hand, with a reason, in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nkinetics.errors import Problem, nearest, raise_any
from nkinetics.settings import ManualPoints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SAME_DAY = 0.005
"""A time as the report prints it (2 decimals) names the sample."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Manual:
    """Choices by hand in a batch.

    Parameters
    ----------
    include, exclude : arrays of bool [rows, samples]
        Points that make the fit of a row, and points that it must not use.
    fixed : array of bool [rows]
        Rows whose fit is made of `include`.
    reason : mapping
        Why, by row.
    """

    include: Bools
    exclude: Bools
    fixed: Bools
    reason: Mapping[int, str]


def manual_points(rows: Mapping[Key, int], time: Floats, choices: Sequence[ManualPoints]) -> Manual:
    """Find the samples that the configuration names.

    Parameters
    ----------
    rows : mapping
        Row of each patient_id, assay, specimen and window that has a fit of its own.
    time : array [rows, samples; d]
        Study time of the quantified samples; NaN elsewhere.
    choices : sequence of ManualPoints
        Those of patients whom `rows` does not know belong to another batch.

    Raises
    ------
    InputError
        For an assay, specimen or window that the patient does not have, and for a time at which the profile has no
        quantified sample, or more than one; every problem at once, each with the profile.
    """
    include, exclude = np.zeros(time.shape, dtype=bool), np.zeros(time.shape, dtype=bool)
    fixed, reason = np.zeros(len(time), dtype=bool), {}
    patients = {key[0] for key in rows}
    problems = []
    for at, choice in enumerate(choices):
        key = (choice.patient_id, choice.assay, choice.specimen, choice.window)
        column = f"nca.lambda_z.manual.{at}"
        if key not in rows:
            if choice.patient_id in patients:
                mine = [" ".join(k) for k in rows if k[0] == choice.patient_id]
                near = nearest(choice.name, mine)
                mend = f"did you mean {near}?" if near else "correct assay, specimen and window"
                problems.append(
                    Problem("config.yaml", None, column, choice.name, f"one of {', '.join(sorted(mine))}", mend)
                )
            continue
        row = rows[key]
        mask = include if choice.include else exclude
        named: list[int] = []
        for t in choice.include or choice.exclude:
            columns = _samples_at(time[row], t)
            if len(columns) != 1:
                count = "no quantified sample" if not len(columns) else f"{len(columns)} quantified samples"
                known = ", ".join(f"{d:.6g}" for d in time[row] if d == d) or "none"
                problems.append(
                    Problem(
                        "config.yaml",
                        None,
                        column,
                        f"{count} of {choice.name} at d {t:g}",
                        f"the time of one of its quantified samples: {known}",
                        "correct the time",
                    )
                )
                break
            mask[row, columns] = True
            named += columns.tolist()
        fixed[row] = bool(choice.include)
        reason[row] = choice.reason
        if len(set(named)) < len(named):
            problems.append(
                Problem(
                    "config.yaml",
                    None,
                    column,
                    f"two times of one sample of {choice.name}",
                    "different samples",
                    "leave one of the times out",
                )
            )
    raise_any(problems)
    return Manual(include, exclude, fixed, reason)


def _samples_at(time: Floats, wanted: float) -> NDArray[np.int64]:
    """Columns of the samples at a time: exactly, else as printed."""
    away = np.abs(time - wanted)
    exact = np.flatnonzero(away <= 1e-9 * max(1.0, abs(wanted)))
    return exact if len(exact) else np.flatnonzero(away <= SAME_DAY)
