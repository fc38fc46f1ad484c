"""Profile-likelihood intervals, all parameters and both sides at once.

The interval of theta holds every value at which 2 (ln L_max - ln L(theta)) stays below a cut-off, ln L(theta) being
maximised over all other parameters, sigma among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, fdtri

from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import Optimum
from nkinetics.fitting.together import Look, Search, Steps

ROOT_TOLERANCE = 1e-4
"""An end is found when the root of the deviance is this near to the root of the cut-off (in standard errors)."""
BETTER = 1e-5
"""A point whose ln L is higher than the optimum's by more than this sends the fit back."""
BRACKET = 1e-4
"""Or when it is known this well on the scale of estimation: 0.01 % of a rate."""
JUMP = 0.3
"""A root this far outside is searched again from the last point inside: a profile likelihood has no jumps."""
JUMP, HOP = 0.3, 0.05
"""A profile likelihood has no jumps: a root this far outside is searched once more, from the last point inside; where
that leaves a jump the search ended in another valley, and the walk goes on from inside with a step of `HOP`."""
STEP_MAX = 3.0
"""Longest step outwards, on the scale of estimation, where the standard error is unknown or huge."""


def cutoff(n: int, p: int, confidence: float = 0.95, kind: str = "f") -> float:
    """Largest deviance inside the interval.

    Parameters
    ----------
    n : int
        Rows that tell sigma, from `counted`.
    p : int
        Parameters of the curve (sigma not counted).
    confidence : float
        As 0.95.
    kind : {"f", "chi_square"}
        n ln(1 + F(1, n - p)/(n - p)), exact for a linear curve with unknown sigma, or the chi-square quantile.

    Examples
    --------
    >>> round(cutoff(17, 3), 3), round(cutoff(17, 3, kind="chi_square"), 3)
    (4.83, 3.841)
    """
    if kind == "chi_square":
        return float(chdtri(1, 1.0 - confidence))
    return float(n * np.log1p(fdtri(1, n - p, confidence) / (n - p)))


def sigma_cutoffs(n: int, p: int, confidence: float = 0.95, kind: str = "f") -> tuple[float, float]:
    """Largest deviance inside the interval of the residual SD, on its lower and on its upper side.

    Notes
    -----
    On a line n sigma_ML^2/sigma^2 is chi-square with n - p degrees of freedom and the deviance a function of it alone:
    at these two values of it the interval is the exact one with equal tails. One cut-off for both sides would leave the
    downward bias of the maximum-likelihood sigma in the interval. Where so few degrees of freedom remain that the exact
    lower end lies above the estimate, it is put there.

    Examples
    --------
    >>> [round(c, 3) for c in sigma_cutoffs(17, 3)]
    [1.818, 7.419]
    """
    if kind == "chi_square":
        cut = cutoff(n, p, confidence, kind)
        return cut, cut
    tail = (1.0 - confidence) / 2.0
    ratio = chdtri(n - p, np.array([tail, 1.0 - tail])) / n
    deviance = n * (ratio - 1.0 - np.log(ratio))
    return float(deviance[0]) if ratio[0] > 1.0 else 0.0, float(deviance[1])


def counted(n_quantified: int, p: int) -> int:
    """Rows that tell sigma: those with a density, one more than parameters at least.

    A row below its LLOQ may say much of a rate and next to nothing of the scatter around the curve: counted as a degree
    of freedom it makes intervals too short (7 samples, 30 % of them below: 91 % coverage where 95 % was meant).
    """
    return max(n_quantified, p + 1)


def cutoffs(n: int, p: int, confidence: float = 0.95, kind: str = "f") -> np.ndarray:
    """Cut-offs (p + 1, 2) of all parameters of the curve and sigma, for both sides of each."""
    found = np.full((p + 1, 2), cutoff(n, p, confidence, kind))
    found[-1] = sigma_cutoffs(n, p, confidence, kind)
    return found


def wald_quantile(n: int, p: int, confidence: float = 0.95, kind: str = "f") -> float:
    """Half-width of a delta interval in standard errors of maximum likelihood: t(n - p) sqrt(n/(n - p)), or the normal.

    The factor undoes the downward bias of the maximum-likelihood sigma, so that both kinds of interval agree on a line.
    """
    if kind == "chi_square":
        return float(np.sqrt(chdtri(1, 1.0 - confidence)))
    return float(np.sqrt(fdtri(1, n - p, confidence) * n / (n - p)))


@dataclass(frozen=True, eq=False)
class Ends:
    """Ends of the profile intervals on the scale of estimation.

    Parameters
    ----------
    lower, upper : arrays (parameters,)
        At the search limit where open.
    open_lower, open_upper : arrays of bool (parameters,)
        The deviance never reaches the cut-off on this side.
    better : array (points, parameters) or None
        Points of higher likelihood than the optimum, when the search passed some: it stopped there.
    """

    lower: np.ndarray
    upper: np.ndarray
    open_lower: np.ndarray
    open_upper: np.ndarray
    better: np.ndarray | None


@dataclass(eq=False)
class _Walk:
    """Searches for ends, one per regime, parameter and side; arrays have one row per search."""

    index: np.ndarray  # parameter
    sign: np.ndarray  # -1 lower, 1 upper
    regime: np.ndarray
    limit: np.ndarray  # search limit of the parameter on this side
    cut: np.ndarray  # largest deviance inside
    inside: np.ndarray  # farthest value inside so far
    root_inside: np.ndarray  # sqrt(deviance) - sqrt(cut-off) there, negative
    point_inside: np.ndarray  # whole vector there
    outside: np.ndarray  # nearest value outside so far, nan = none
    root_outside: np.ndarray
    point_outside: np.ndarray
    direction: np.ndarray  # how the others move with the parameter
    trial: np.ndarray
    end: np.ndarray
    open: np.ndarray
    done: np.ndarray
    side: np.ndarray  # results in a row on the same side of the end, to halve a bracket that a secant cannot shrink


def _begin(case: Case, optimum: Optimum, cut: np.ndarray, chosen: list[int]) -> Steps[_Walk]:
    """Every search stands at the optimum of its regime, with a first step of sqrt(cut-off) standard errors."""
    p = case.size
    g = np.repeat(np.arange(len(chosen)), 2 * p)
    index = np.tile(np.repeat(np.arange(p), 2), len(chosen))
    sign = np.tile([-1.0, 1.0], p * len(chosen))
    pieces = [optimum.regimes[i] for i in chosen]
    points = np.stack([r.vector for r in pieces])[g]
    limits = np.where(
        sign < 0, np.stack([r.lower for r in pieces])[g, index], np.stack([r.upper for r in pieces])[g, index]
    )
    deviance = np.maximum(2.0 * (np.array([r.value for r in pieces]) + optimum.log_likelihood), 0.0)[g]
    cuts = cut[index, (sign > 0).astype(int)]
    _, _, curvature = yield Look(case, np.stack([r.vector for r in pieces]))
    spread = np.stack([np.linalg.pinv(c, rcond=1e-10, hermitian=True) for c in curvature])[g]
    rows = np.arange(len(index))
    variance = spread[rows, index, index]
    known = variance > 1e-12
    direction = np.where(known[:, None], spread[rows, index] / np.where(known, variance, 1.0)[:, None], 0.0)
    step = np.sqrt(np.where(known, variance, STEP_MAX**2) * np.maximum(cuts - deviance, 0.05 * cuts))
    value = points[rows, index]
    trial = value + sign * np.clip(step, 1e-3, STEP_MAX)
    nothing = np.full(len(index), np.nan)
    walk = _Walk(
        index,
        sign,
        np.array(chosen)[g],
        limits,
        cuts,
        value.copy(),
        np.sqrt(deviance) - np.sqrt(cuts),
        points.copy(),
        nothing.copy(),
        nothing.copy(),
        points.copy(),
        direction,
        np.where(sign < 0, np.maximum(trial, limits), np.minimum(trial, limits)),
        value.copy(),
        np.zeros(len(index), dtype=bool),
        np.zeros(len(index), dtype=bool),
        np.zeros(len(index), dtype=int),
    )
    # A regime whose own optimum lies outside adds nothing to this interval.
    outside = deviance >= cuts
    walk.end[outside], walk.done[outside] = optimum.vector[index[outside]], True
    at_limit = ~outside & (np.abs(value - limits) < 1e-9)
    walk.end[at_limit], walk.open[at_limit], walk.done[at_limit] = limits[at_limit], True, True
    return walk


def _starting_points(walk: _Walk, rows: np.ndarray) -> np.ndarray:
    """Where the other parameters begin: on the line through the last points of the profile."""
    trial, inside, outside = walk.trial[rows], walk.inside[rows], walk.outside[rows]
    forward = walk.point_inside[rows] + walk.direction[rows] * (trial - inside)[:, None]
    bracketed = ~np.isnan(outside)
    width = np.where(bracketed, outside - inside, 1.0)
    share = np.where(bracketed, (trial - inside) / np.where(width == 0, 1.0, width), 0.0)[:, None]
    between = (1.0 - share) * walk.point_inside[rows] + share * walk.point_outside[rows]
    points = np.where(bracketed[:, None], between, forward)
    points[np.arange(len(rows)), walk.index[rows]] = trial
    return points


def _advance(walk: _Walk, row: int, root: float, point: np.ndarray) -> None:
    """Take one result of the profile into the bracket of a search and choose its next value."""
    trial, sign, limit = walk.trial[row], walk.sign[row], walk.limit[row]
    if abs(root) < ROOT_TOLERANCE:
        walk.end[row], walk.done[row] = trial, True
        return
    if root < 0:
        if trial == limit:
            walk.end[row], walk.open[row], walk.done[row] = limit, True, True
            return
        before, root_before = walk.inside[row], walk.root_inside[row]
        if trial != before:
            walk.direction[row] = (point - walk.point_inside[row]) / (trial - before)
        walk.inside[row], walk.root_inside[row], walk.point_inside[row] = trial, root, point
        if np.isnan(walk.outside[row]):
            gained = root - root_before
            step = abs(trial - before)
            ahead = -root / gained * step if gained > 1e-12 else np.inf
            ahead = min(max(1.05 * ahead, 0.05 * step), 3.0 * step, STEP_MAX)
            walk.trial[row] = max(trial - ahead, limit) if sign < 0 else min(trial + ahead, limit)
            return
    else:
        walk.outside[row], walk.root_outside[row], walk.point_outside[row] = trial, root, point
    inside, outside = walk.inside[row], walk.outside[row]
    if abs(outside - inside) < JUMP * HOP and walk.root_outside[row] - walk.root_inside[row] > JUMP:
        ahead = inside + sign * HOP
        walk.outside[row], walk.side[row] = np.nan, 0
        walk.trial[row] = max(ahead, limit) if sign < 0 else min(ahead, limit)
        return
    if abs(outside - inside) < BRACKET:
        walk.end[row], walk.done[row] = (inside + outside) / 2.0, True
        return
    same = walk.side[row] * root > 0
    walk.side[row] = (walk.side[row] if same else 0) + (1 if root > 0 else -1)
    share = -walk.root_inside[row] / (walk.root_outside[row] - walk.root_inside[row])
    if abs(walk.side[row]) >= 2:
        share = 0.5
    walk.trial[row] = inside + min(max(share, 0.03), 0.97) * (outside - inside)


def _profiled(
    case: Case, optimum: Optimum, walk: _Walk, rows: np.ndarray, start: np.ndarray
) -> Steps[tuple[np.ndarray, np.ndarray]]:
    """Best points (rows, parameters) with the walks' parameters held at their trials, and -ln L there."""
    fixed = np.zeros((len(rows), case.size), dtype=bool)
    fixed[np.arange(len(rows)), walk.index[rows]] = True
    found = yield Search(
        case,
        start,
        np.stack([r.lower for r in optimum.regimes])[walk.regime[rows]],
        np.stack([r.upper for r in optimum.regimes])[walk.regime[rows]],
        fixed,
        tolerance=1e-5,
        iterations=40,
        # Clearly inside: the search moves on whatever the last digits are.
        enough=-optimum.log_likelihood + 0.5 * np.maximum(np.sqrt(walk.cut[rows]) - 0.1, 0.0) ** 2,
    )
    return found.parameters.copy(), found.value.copy()


def _roots(optimum: Optimum, walk: _Walk, rows: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Root of the deviance less the root of the cut-off: negative inside."""
    return np.sqrt(np.maximum(2.0 * (value + optimum.log_likelihood), 0.0)) - np.sqrt(walk.cut[rows])


def profile_ends(case: Case, optimum: Optimum, cut: float | np.ndarray, rounds: int = 30) -> Steps[Ends]:
    """Ends of the profile intervals of all parameters of a case, ln sigma last.

    Parameters
    ----------
    case : Case
        As fitted.
    optimum : Optimum
        Its fit.
    cut : float or array (parameters, 2)
        From `cutoff`, or one for each side of each parameter from `cutoffs`.
    rounds : int
        At most so many steps of a search.

    Notes
    -----
    A regime whose own optimum lies above the cut-off cannot hold a point of any interval. On each of the others the
    likelihood is smooth; the interval is the hull of the union over the regimes.
    """
    low, high = case.bounds
    cuts = np.broadcast_to(cut, (case.size, 2))
    highest = cuts.max() - ROOT_TOLERANCE
    chosen = [i for i, r in enumerate(optimum.regimes) if 2.0 * (r.value + optimum.log_likelihood) < highest]
    walk = yield from _begin(case, optimum, cuts, chosen)
    better = None
    for _ in range(rounds):
        rows = np.flatnonzero(~walk.done)
        if len(rows) == 0:
            break
        points, value = yield from _profiled(case, optimum, walk, rows, _starting_points(walk, rows))
        far = np.flatnonzero(_roots(optimum, walk, rows, value) > JUMP)
        if len(far):
            near = walk.point_inside[rows[far]].copy()
            near[np.arange(len(far)), walk.index[rows[far]]] = walk.trial[rows[far]]
            again, lower = yield from _profiled(case, optimum, walk, rows[far], near)
            won = lower < value[far]
            points[far[won]], value[far[won]] = again[won], lower[won]
        passed = value < -optimum.log_likelihood - BETTER
        if passed.any():
            better = points[passed]
            break
        roots = _roots(optimum, walk, rows, value)
        for i, row in enumerate(rows.tolist()):
            _advance(walk, row, float(roots[i]), points[i])
    walk.end[~walk.done] = walk.inside[~walk.done]
    ends = np.stack([optimum.vector, optimum.vector])
    opened = np.zeros((2, case.size), dtype=bool)
    for row in range(len(walk.index)):
        j = walk.index[row]
        side = 0 if walk.sign[row] < 0 else 1
        if (walk.end[row] - ends[side, j]) * walk.sign[row] >= 0:
            ends[side, j] = walk.end[row]
    # An edge between two regimes is not open: the next regime goes on there.
    opened[0] = ends[0] <= low + 1e-9
    opened[1] = ends[1] >= high - 1e-9
    return Ends(ends[0], ends[1], opened[0], opened[1], better)
