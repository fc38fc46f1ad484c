"""The profile likelihood of each parameter as a curve, to be looked at: `intervals` finds only where it crosses."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nkinetics.fitting.intervals import Ends
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import Optimum
from nkinetics.fitting.together import Look, Search, Steps

INSIDE = 0.7
"""Share of the points of a side that lie between the estimate and the end; the others show what comes after it."""
OPEN_WIDTHS, OPEN_LEAST = 2.0, 3.0
"""How far an open side is followed: so many widths of the closed one, at least a factor e^3, at most the limit."""
SWEEPS = 2
"""How often each point is tried again from what its inner neighbour found."""


def values_held(estimate: float, end: float, is_open: bool, other: float, limit: float, points: int) -> np.ndarray:
    """Values (points,) of one parameter on one side of its estimate, outwards, scale of estimation.

    Parameters
    ----------
    estimate, end, limit : float
        Estimate, end of the interval, limit of the search on this side.
    is_open : bool
        The interval does not end on this side.
    other : float
        Width of the other side, 0 when that is open too.
    points : int
        How many.

    Examples
    --------
    >>> values_held(0.0, 0.7, False, 1.0, 9.0, 10).round(1).tolist()
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    >>> values_held(0.0, 9.0, True, 1.0, 9.0, 3).tolist()
    [1.0, 2.0, 3.0]
    """
    if is_open:
        reach = min(max(OPEN_WIDTHS * other, OPEN_LEAST), abs(limit - estimate))
        found = estimate + np.sign(limit - estimate) * reach * np.arange(1, points + 1) / points
    else:
        # One of the points stands at the end itself: there the curve has to meet the cut-off.
        inner = max(1, round(INSIDE * points))
        found = estimate + (end - estimate) * np.arange(1, points + 1) / inner
    return np.clip(found, min(estimate, limit), max(estimate, limit))


def profile_curve(case: Case, optimum: Optimum, ends: Ends, cut: np.ndarray, points: int) -> Steps[pd.DataFrame]:
    """Deviance of a case with each parameter held at several values and the others fitted anew.

    Parameters
    ----------
    case, optimum, ends
        The fit and its intervals.
    cut : array (parameters, 2)
        From `nkinetics.fitting.intervals.cutoffs`: below and above the estimate.
    points : int
        For each parameter, half of them on each side of the estimate, which is one of them.

    Returns
    -------
    DataFrame
        parameter, value (natural scale), deviance, cutoff. Every regime is searched; the lowest deviance counts.
    """
    low, high = case.bounds
    each = max(1, (points - 1) // 2)
    index: list[int] = []
    value: list[float] = []
    beside: list[int] = []
    for j in range(case.size):
        width = [
            0.0 if is_open[j] else abs(float(end[j] - optimum.vector[j]))
            for is_open, end in ((ends.open_lower, ends.lower), (ends.open_upper, ends.upper))
        ]
        below = values_held(optimum.vector[j], ends.lower[j], bool(ends.open_lower[j]), width[1], low[j], each)
        above = values_held(optimum.vector[j], ends.upper[j], bool(ends.open_upper[j]), width[0], high[j], each)
        for side in (below, above):
            # The inner neighbour of the first value of a side is the estimate: none.
            beside += [-1 if k == 0 else len(value) + k - 1 for k in range(each)]
            index += [j] * each
            value += side.tolist()
    held, where, inner = np.array(index), np.array(value), np.array(beside)
    best = np.full(len(held), np.inf)
    for regime in optimum.regimes:
        if 2.0 * (regime.value + optimum.log_likelihood) > 4.0 * float(np.max(cut)):
            continue
        found = yield from _within(case, regime.vector, regime.lower, regime.upper, held, where, inner)
        best = np.minimum(best, found)
    deviance = np.maximum(2.0 * (best + optimum.log_likelihood), 0.0)
    held, where = np.append(held, np.arange(case.size)), np.append(where, optimum.vector)
    deviance = np.append(deviance, np.zeros(case.size))
    vectors = np.tile(optimum.vector, (len(held), 1))
    vectors[np.arange(len(held)), held] = where
    frame = pd.DataFrame(
        {
            "parameter": np.array(case.names)[held],
            "value": case.natural(vectors)[np.arange(len(held)), held],
            "deviance": deviance,
            "cutoff": cut[held, (where > optimum.vector[held]).astype(int)],
        }
    )
    # A parameter on its limit has the same value many times; the file has ten digits.
    frame = frame[np.isfinite(frame["deviance"])].assign(
        _same=[f"{v:.9g}" for v in frame["value"][np.isfinite(deviance)]]
    )
    frame = frame.sort_values(["parameter", "value", "deviance"], kind="stable", ignore_index=True)
    return frame.drop_duplicates(["parameter", "_same"], ignore_index=True).drop(columns="_same")


def _within(
    case: Case,
    vector: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    held: np.ndarray,
    where: np.ndarray,
    inner: np.ndarray,
) -> Steps[np.ndarray]:
    """-ln L (points,) in one regime; inf where the value lies outside it."""
    value = np.full(len(held), np.inf)
    rows = np.flatnonzero((where >= lower[held] - 1e-12) & (where <= upper[held] + 1e-12))
    if not len(rows):
        return value
    _, _, curvature = yield Look(case, vector[None])
    spread = np.linalg.pinv(curvature[0], rcond=1e-10, hermitian=True)
    variance = np.diag(spread)
    known = variance > 1e-12
    direction = np.where(known[:, None], spread / np.where(known, variance, 1.0)[:, None], 0.0)
    there = np.arange(len(rows))
    fixed = np.zeros((len(rows), case.size), dtype=bool)
    fixed[there, held[rows]] = True
    # Two starts: the others move along as the curvature says, or stay.
    along = vector + direction[held[rows]] * (where[rows] - vector[held[rows]])[:, None]
    points = np.full((len(held), case.size), np.nan)
    starts = [along, np.tile(vector, (len(rows), 1))]
    for sweep in range(SWEEPS + 1):
        for start in starts:
            start[there, held[rows]] = where[rows]
            found = yield Search(case, start, lower, upper, fixed, tolerance=1e-7, iterations=60)
            better = np.where(np.isfinite(found.value), found.value, np.inf) < value[rows]
            points[rows[better]] = found.parameters[better]
            value[rows[better]] = found.value[better]
        if sweep < SWEEPS:
            neighbour = np.where((inner[rows] >= 0)[:, None], points[inner[rows]], vector)
            starts = [np.where(np.isfinite(neighbour), neighbour, vector)]
    return value
