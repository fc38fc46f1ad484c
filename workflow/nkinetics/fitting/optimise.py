"""The best fit of one profile: many starts, the last digits, a diagnosis; what that cannot settle goes to lmfit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nkinetics.fitting.objective import SIGMA_LOWER, Case
from nkinetics.fitting.starts import Regime, regimes
from nkinetics.fitting.together import Look, Search, Steps, alone, information

if TYPE_CHECKING:
    from lmfit import Parameters

AGREE = 0.01
"""Starts that end within this of the best ln L found the same optimum."""
STARTS_MAX, FIRST_STEPS = 150, 6
"""So many starts are searched to the end; of more, those that lead after so many steps, and the best of each piece."""
LEADING = 4
"""Starts of each piece that are searched to the last digits."""
WORTH = 8.0
"""Pieces of the parameter space whose optimum is farther than this below the best are not refined."""
GRADIENT_MAX = 1e-5
"""At an optimum the next Newton step gains less than this in ln L."""
FLAT = 1e-6
"""Eigenvalues of the scaled information below this mean a direction that the data do not determine."""
UPWARDS = 1e-3
"""Eigenvalues below minus this mean a saddle and not rounding."""
INFORMATION_MIN = 1e-3
"""Information of one parameter (1/SE^2, scale of estimation) below which it counts as this much: SE about 30."""
BOUND = 1e-6
"""Distance to a search limit, on the scale of estimation, at which a parameter is on it."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """The maximum of the likelihood of one case, and whether it is one.

    Vectors are on the scale of estimation, ln sigma last.

    Parameters
    ----------
    vector : array (parameters,)
        The estimate.
    log_likelihood : float
        ln L there.
    regimes : tuple of Regime
        For each smooth piece of the parameter space its own optimum, best first; one piece for a smooth model.
    ends : array (starts,)
        -ln L at which each start ended.
    n_agree : int
        Starts, and restarts around the optimum, that ended within `AGREE` of the best.
    n_starts : int
        Starts tried.
    at_bound : tuple of str
        Parameters on a search limit.
    kink : bool
        The best breakpoint stands exactly at a sample or an infusion, where the likelihood has a kink.
    covariance : array (parameters, parameters)
        Inverse of the observed information; nan for parameters on a limit or a kink, and for those that take part in a
        direction that the data do not determine.
    converged : bool
        Gradient, Hessian and restarts agree.
    reason : str
        Why not.
    """

    vector: np.ndarray
    log_likelihood: float
    regimes: tuple[Regime, ...]
    ends: np.ndarray
    n_agree: int
    n_starts: int
    at_bound: tuple[str, ...]
    kink: bool
    covariance: np.ndarray
    converged: bool
    reason: str


def _through_lmfit(case: Case, regime: Regime) -> Regime:
    """The optimum of a regime as lmfit finds it from there: its Parameters carry the limits, -2 ln L is the scalar."""
    import lmfit

    parameters = lmfit.Parameters()
    for name, value, low, high in zip(case.names, regime.vector, regime.lower, regime.upper, strict=True):
        # A parameter on its limit has no derivative in lmfit's transform and stays; one that cannot move is fixed.
        parameters.add(name, value=float(value), min=float(low), max=float(high), vary=bool(high - low > 1e-12))

    def vector(current: Parameters) -> np.ndarray:
        return np.array([[current[name].value for name in case.names]])

    def minus_two_log_likelihood(current: Parameters) -> float:
        return float(2.0 * case.objective(vector(current))[0][0])

    vary = np.array([parameters[name].vary for name in case.names])

    def slope(current: Parameters) -> np.ndarray:
        return 2.0 * case.objective(vector(current))[1][0][vary]

    minimiser = lmfit.Minimizer(minus_two_log_likelihood, parameters, calc_covar=False, nan_policy="propagate")
    result = minimiser.scalar_minimize("L-BFGS-B", jac=slope, options={"maxiter": 200, "ftol": 1e-13, "gtol": 1e-6})
    found = np.clip(vector(result.params)[0], regime.lower, regime.upper)
    value = float(case.objective(found[None])[0][0])
    return replace(regime, vector=found, value=value) if value < regime.value else regime


def _best_of_each(
    case: Case, pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Steps[tuple[list[Regime], np.ndarray]]:
    """Optimum of each regime over its starts, and the value at which each start ended."""
    begin = np.concatenate([s for s, _, _ in pieces])
    start = begin.copy()
    lower = np.concatenate([np.broadcast_to(low, s.shape) for s, low, _ in pieces])
    upper = np.concatenate([np.broadcast_to(high, s.shape) for s, _, high in pieces])
    owner = np.repeat(np.arange(len(pieces)), [len(s) for s, _, _ in pieces])
    going = np.arange(len(start))
    value = np.full(len(start), np.inf)
    if len(start) > STARTS_MAX:
        # A few steps show which starts of a long series are worth going on.
        first = yield Search(case, start, lower, upper, tolerance=1e-6, iterations=FIRST_STEPS)
        start, value = first.parameters.copy(), np.where(np.isnan(first.value), np.inf, first.value)
        leading = np.argsort(value, kind="stable")
        _, of_piece = np.unique(owner[leading], return_index=True)
        going = np.unique(np.concatenate([leading[:STARTS_MAX], leading[of_piece]]))
    rough = yield Search(case, start[going], lower[going], upper[going], tolerance=1e-6, iterations=40)
    start[going], value[going] = rough.parameters, np.where(np.isnan(rough.value), np.inf, rough.value)
    # The leading starts of each piece that can still matter get the last digits.
    ranked = [np.flatnonzero(owner == g)[np.argsort(value[owner == g], kind="stable")] for g in range(len(pieces))]
    leading = np.concatenate([own[:LEADING] for own in ranked])
    worth = leading[value[leading] <= value.min() + WORTH]
    fine = yield Search(case, start[worth], lower[worth], upper[worth], tolerance=1e-9)
    start[worth], value[worth] = fine.parameters, fine.value
    best = [own[np.argmin(value[own])] for own in ranked]
    found = [
        Regime(start[i], float(value[i]), low, high, begin[i]) for i, (_, low, high) in zip(best, pieces, strict=True)
    ]
    return found, value


def _along_limits(case: Case, found: list[Regime], rounds: int = 3) -> Steps[list[Regime]]:
    """The regimes, the best of them tried again from each of its limits as long as that finds a better point.

    Along a ridge that rises ever more slowly no step is worth taking, and the summit stands at its end.
    """
    each = np.arange(case.size)
    for _ in range(rounds):
        best = min(range(len(found)), key=lambda i: found[i].value)
        starts = np.repeat(found[best].vector[None], 2 * case.size, axis=0)
        starts[each, each] = found[best].lower
        starts[case.size + each, each] = found[best].upper
        found, moved, _ = yield from _tried(case, found, starts, [best] * len(starts))
        if not moved:
            break
    return found


def _next_door(case: Case, found: list[Regime], rounds: int = 3) -> Steps[tuple[list[Regime], np.ndarray]]:
    """The regimes, those that can still matter tried again from inside with what was found on the best; ends of these.

    The best point of a piece often stands on its edge, where a search from a poor guess ended and no slope leads away;
    the parameters that were found next door lead to the valley within.
    """
    if not case.model.breakpoint or len(found) == 1:
        return found, np.zeros(0)
    j = case.names.index(case.model.breakpoint)
    ends = []
    for _ in range(rounds):
        ranked = sorted(range(len(found)), key=lambda i: found[i].value)
        worth = [i for i in ranked if found[i].value <= found[ranked[0]].value + WORTH]
        starts, owners = [], []
        for i in worth:
            for other in dict.fromkeys((ranked[0], i)):
                for share in (0.2, 0.5, 0.8):
                    start = found[other].vector.copy()
                    start[j] = found[i].lower[j] + share * (found[i].upper[j] - found[i].lower[j])
                    starts.append(start)
                    owners.append(i)
        found, moved, ended = yield from _tried(case, found, np.stack(starts), owners)
        ends.append(ended)
        if not moved:
            break
    return found, np.concatenate(ends)


def _off_saddles(case: Case, found: list[Regime], rounds: int = 3) -> Steps[list[Regime]]:
    """Optima of the regimes, moved on where they are saddles.

    Fisher scoring sees no upward curvature. Where two phases have one rate the gradient is 0 whether they should part
    or not: from there the search goes on along the direction in which the likelihood curves upwards, to both sides.
    """
    for _ in range(rounds):
        best = min(r.value for r in found)
        starts, owners = [], []
        worth = [i for i, r in enumerate(found) if r.value <= best + WORTH]
        matrices = yield from information(case, np.stack([found[i].vector for i in worth]))
        for i, matrix in zip(worth, matrices, strict=True):
            free = _inner(found[i].vector, found[i].lower, found[i].upper)
            if not free.any() or not np.isfinite(matrix).all():
                continue
            values, vectors, size = _scaled(matrix[np.ix_(free, free)])
            if values[0] < -UPWARDS:
                move = np.zeros(case.size)
                move[free] = np.clip(vectors[:, 0] / size, -1.0, 1.0)
                longest = np.abs(move).max()
                starts += [found[i].vector + sign * move * min(0.5, longest) / longest for sign in (-1.0, 1.0)]
                owners += [i, i]
        if not starts:
            break
        found, moved, _ = yield from _tried(case, found, np.stack(starts), owners)
        if not moved:
            break
    return found


def _tried(
    case: Case, found: list[Regime], starts: np.ndarray, owners: list[int]
) -> Steps[tuple[list[Regime], bool, np.ndarray]]:
    """The regimes after further starts, whether an optimum rose by more than a trace, and where each start ended."""
    lower, upper = np.stack([found[i].lower for i in owners]), np.stack([found[i].upper for i in owners])
    ended = yield Search(case, starts, lower, upper, tolerance=1e-9)
    changed, moved = list(found), False
    for vector, value, i in zip(ended.parameters, ended.value, owners, strict=True):
        if value < changed[i].value - 1e-9:
            moved |= bool(value < changed[i].value - 1e-6)
            changed[i] = replace(changed[i], vector=vector, value=float(value))
    return changed, moved, np.where(np.isnan(ended.value), np.inf, ended.value)


def _canonical(case: Case, found: list[Regime]) -> Steps[list[Regime]]:
    """The regimes with their phases named as the model names them, where that leaves the likelihood."""
    vectors = []
    for regime in found:
        natural = case.natural(regime.vector)
        natural[:-1] = case.model.ordered(natural[:-1])
        vectors.append(np.clip(case.estimation(natural), regime.lower, regime.upper))
    values, _, _ = yield Look(case, np.stack(vectors))
    return [
        replace(regime, vector=vector, value=float(value)) if value <= regime.value + 1e-9 else regime
        for regime, vector, value in zip(found, vectors, values, strict=True)
    ]


def _inner(vector: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Which parameters are off both limits."""
    return (vector > lower + BOUND) & (vector < upper - BOUND)


def best_fit(case: Case, through_lmfit: bool = False) -> Optimum:
    """Maximum-likelihood fit of one case; see `fitted`."""
    return alone(fitted(case, through_lmfit))


def fitted(case: Case, through_lmfit: bool = False) -> Steps[Optimum]:
    """Maximum-likelihood fit of one case, as a search that goes on beside others.

    Parameters
    ----------
    case : Case
        Profile and model; at least one row more than parameters of the curve.
    through_lmfit : bool
        Every optimum goes through lmfit, which has to find nothing better; by default those that are not settled.

    Returns
    -------
    Optimum
        Also when it did not converge: then it says why.

    Notes
    -----
    Every start is fitted by `nkinetics.fitting.engine.minimise`, all together. A model with a breakpoint is fitted once
    on each interval between its kinks, where the likelihood is smooth: together that is the profile over the
    breakpoint.
    """
    found, ends = yield from _best_of_each(case, regimes(case))
    found, next_door = yield from _next_door(case, found)
    found = yield from _off_saddles(case, found)
    found = yield from _along_limits(case, found)
    return (yield from _finished(case, found, np.concatenate([ends, next_door]), through_lmfit))


def improved(case: Case, optimum: Optimum, points: np.ndarray, through_lmfit: bool = False) -> Steps[Optimum]:
    """The fit again, from points (points, parameters) of higher likelihood that a profile likelihood passed."""
    found = list(optimum.regimes)
    owners = [
        next(i for i, r in enumerate(found) if ((v >= r.lower - 1e-9) & (v <= r.upper + 1e-9)).all()) for v in points
    ]
    found, _, _ = yield from _tried(case, found, points, owners)
    found = yield from _off_saddles(case, found)
    return (yield from _finished(case, found, optimum.ends, through_lmfit))


def _finished(case: Case, found: list[Regime], ends: np.ndarray, through_lmfit: bool) -> Steps[Optimum]:
    """The best regime restarted around its optimum and diagnosed; through lmfit where that does not settle it."""
    found = sorted(found, key=lambda r: r.value)
    optimum = None
    if not through_lmfit:
        optimum = yield from _settled(case, found, ends)
    if optimum is None or not optimum.converged:
        best = found if optimum is None else list(optimum.regimes)
        optimum = yield from _settled(case, [_through_lmfit(case, best[0]), *best[1:]], ends)
    return optimum


def _settled(case: Case, found: list[Regime], ends: np.ndarray) -> Steps[Optimum]:
    polished = found[0]
    # Restarts from all around the optimum: an optimum to which nothing returns is none.
    p = case.size
    corners = np.where((np.arange(p) + np.arange(4)[:, None]) % 2 == 0, 0.4, -0.4) * np.array([1, 1, 0.5, 0.5])[:, None]
    around = np.concatenate([polished.vector[None], polished.vector + corners])
    ended = yield Search(case, around, polished.lower, polished.upper, tolerance=1e-9)
    for vector, value in zip(ended.parameters, ended.value, strict=True):
        if value < polished.value - 1e-12:
            polished = replace(polished, vector=vector, value=float(value))
    best = yield from _newton(case, polished)
    found = [best, *found[1:]]
    near = [r for r in found if r.value <= best.value + WORTH]
    near = yield from _canonical(case, near)
    found = sorted([*near, *(r for r in found if not r.value <= best.value + WORTH)], key=lambda r: r.value)
    return (yield from _diagnosed(case, tuple(found), ends, ended.value[1:]))


def _newton(case: Case, regime: Regime, rounds: int = 3) -> Steps[Regime]:
    """The last digits, by Newton steps with the observed information: Fisher scoring is slow along flat ridges."""
    for _ in range(rounds):
        free = _inner(regime.vector, regime.lower, regime.upper)
        matrices = yield from information(case, regime.vector[None])
        inside = matrices[0][np.ix_(free, free)]
        if not free.any() or not np.isfinite(inside).all():
            break
        eigen, vectors, size = _scaled(inside)
        known = eigen > FLAT
        _, slopes, _ = yield Look(case, regime.vector[None])
        gradient = slopes[0][free] / size
        step = np.zeros(case.size)
        step[free] = -(vectors[:, known] / eigen[known]) @ (vectors[:, known].T @ gradient) / size
        trial = np.clip(regime.vector + np.clip(step, -0.1, 0.1), regime.lower, regime.upper)
        values, _, _ = yield Look(case, trial[None])
        value = float(values[0])
        if not value < regime.value:
            break
        regime = replace(regime, vector=trial, value=value)
    return regime


def _diagnosed(case: Case, found: tuple[Regime, ...], ends: np.ndarray, around: np.ndarray) -> Steps[Optimum]:
    best = found[0]
    low, high = case.bounds
    on = ~_inner(best.vector, low, high)
    at_bound = tuple(name for name, there in zip(case.names, on, strict=True) if there)
    free = _inner(best.vector, best.lower, best.upper)
    _, slopes, _ = yield Look(case, best.vector[None])
    gradient = slopes[0]
    matrices = yield from information(case, best.vector[None])
    matrix = matrices[0]
    covariance, lowest = _inverse(matrix, free)
    reasons = []
    if not lowest > -UPWARDS:
        reasons.append("the likelihood curves upwards in some direction")
    gain = _gain(gradient[free], matrix[np.ix_(free, free)])
    if not gain <= GRADIENT_MAX:
        reasons.append(f"the gradient is not 0 (ln L would still gain {gain:.2g})")
    ended = np.concatenate([ends, around])
    n_agree = int((ended <= best.value + AGREE).sum())
    if n_agree < 2:
        reasons.append(f"only {n_agree} of {len(ended)} starts reached the best likelihood")
    return Optimum(
        vector=best.vector,
        log_likelihood=-best.value,
        regimes=found,
        ends=ends,
        n_agree=n_agree,
        n_starts=len(ended),
        at_bound=at_bound,
        kink=bool((~free & ~on).any()),
        covariance=covariance,
        converged=not reasons,
        reason="; ".join(reasons),
    )


def _scaled(information: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of an information matrix scaled to a unit diagonal, and the scale (1/SE)."""
    size = np.sqrt(np.maximum(np.abs(np.diag(information)), INFORMATION_MIN))
    values, vectors = np.linalg.eigh(information / np.outer(size, size))
    return values, vectors, size


def _inverse(information: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance of the parameters, and the smallest eigenvalue of the scaled information of the free ones.

    nan for a parameter that is not free and for one that takes part in a direction that the data do not determine.
    """
    full = np.full(information.shape, np.nan)
    inside = information[np.ix_(free, free)]
    if len(inside) == 0 or not np.isfinite(inside).all():
        return full, float("nan")
    values, vectors, size = _scaled(inside)
    known = values > FLAT
    covariance = (vectors[:, known] / values[known]) @ vectors[:, known].T / np.outer(size, size)
    lost = (vectors[:, ~known] ** 2).sum(axis=-1) > 1e-6
    covariance[lost] = np.nan
    covariance[:, lost] = np.nan
    full[np.ix_(free, free)] = covariance
    return full, float(values[0])


def _gain(gradient: np.ndarray, information: np.ndarray) -> float:
    """What the next Newton step would gain in ln L, directions that the data do not determine left aside."""
    if len(gradient) == 0:
        return 0.0
    if not np.isfinite(information).all():
        return float("nan")
    values, vectors, size = _scaled(information)
    along = vectors.T @ (gradient / size)
    return float(0.5 * (along[values > FLAT] ** 2 / values[values > FLAT]).sum())


def residual_on_floor(optimum: Optimum) -> bool:
    """Whether the curve passes through the points, so that sigma fell to its lower limit."""
    return bool(optimum.vector[-1] <= np.log(SIGMA_LOWER) + BOUND)
