"""Many small maximum-likelihood problems at once: Levenberg-Marquardt with bounds over a leading axis.

Starts of one profile, points of its profile likelihoods, bootstrap samples, a thousand patients: NumPy's cost per call
would rule if they were fitted one by one. Every problem has its own bounds, fixed parameters and tolerance, and none of
them knows what else is in the batch: a problem ends at the same bits alone and among others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Objective = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Parameters (problems, parameters), and which problems these are -> value (problems,), gradient (problems,
parameters), curvature (problems, parameters, parameters)."""

STEP_MAX = 2.0
"""Longest step in one parameter, on the scale of estimation: a factor e^2 in a rate."""

PATIENCE = 8
"""Iterations that every problem gets before a value that is good enough ends it."""


@dataclass(frozen=True, eq=False)
class Optima:
    """Where the problems ended.

    Parameters
    ----------
    parameters : array (problems, parameters)
        On the scale of estimation.
    value : array (problems,)
        The objective there.
    converged : array of bool (problems,)
        The undamped step promises less than the tolerance.
    """

    parameters: np.ndarray
    value: np.ndarray
    converged: np.ndarray


def free_of(
    parameters: np.ndarray, gradient: np.ndarray, lower: np.ndarray, upper: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """Which parameters may move: not fixed, and not held at a bound by the slope of the objective."""
    held = ((parameters <= lower) & (gradient > 0)) | ((parameters >= upper) & (gradient < 0))
    return ~(held | fixed)


def _step(gradient: np.ndarray, curvature: np.ndarray, free: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Damped Newton step of the free parameters; 0 for the others."""
    n = gradient.shape[-1]
    eye = np.eye(n)
    both = free[:, :, None] & free[:, None, :]
    matrix = np.where(both, curvature, 0.0)
    size = np.abs(np.einsum("bii->bi", matrix))
    size = np.maximum(size, 1e-9 * np.maximum(size.max(axis=-1, keepdims=True), 1e-9))
    diagonal = np.where(free, damping[:, None] * size + 1e-14, 1.0)
    right = np.where(free, -gradient, 0.0)[..., None]
    damped = matrix + diagonal[:, :, None] * eye
    try:
        return np.linalg.solve(damped, right)[..., 0]
    except np.linalg.LinAlgError:
        # One singular member refuses the whole batch: that member, and no other, goes down the gradient.
        singular = np.linalg.matrix_rank(damped) < n
        step = np.zeros_like(gradient)
        step[~singular] = np.linalg.solve(damped[~singular], right[~singular])[..., 0]
        more = diagonal + np.where(free, 1e-6 * size, 0.0)
        step[singular] = np.where(free, -gradient / more, 0.0)[singular]
        return step


def _bounded_step(
    gradient: np.ndarray,
    curvature: np.ndarray,
    free: np.ndarray,
    damping: np.ndarray,
    least: np.ndarray,
    largest: np.ndarray,
) -> np.ndarray:
    """Damped Newton step within limits; where one cuts it short, the other parameters take the step that then is best.

    The step of a parameter that the data hardly know may be a hundred times too long, and those of the others only make
    sense beside it.
    """
    step = np.zeros_like(gradient)
    open_ = free
    for _ in range(2):
        step = np.where(open_, _step(_slope(gradient, curvature, step, open_), curvature, open_, damping), step)
        cut = open_ & ((step < least) | (step > largest))
        step = np.clip(step, least, largest)
        if not cut.any():
            break
        open_ = open_ & ~cut
    return step


def _slope(gradient: np.ndarray, curvature: np.ndarray, step: np.ndarray, open_: np.ndarray) -> np.ndarray:
    """Gradient after the steps of the parameters that are settled, by the quadratic approximation."""
    settled = np.where(open_, 0.0, step)
    return gradient + np.einsum("bij,bj->bi", curvature, settled) if settled.any() else gradient


def minimise(
    objective: Objective,
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    fixed: np.ndarray | None = None,
    tolerance: float | np.ndarray = 1e-10,
    iterations: int | np.ndarray = 200,
    enough: float | np.ndarray = -np.inf,
) -> Optima:
    """Minimise an objective from every start, each within its bounds.

    Parameters
    ----------
    objective : callable
        Value, gradient and (approximate, positive) curvature of a batch.
    start : array (problems, parameters)
        Moved into the bounds.
    lower, upper : arrays (problems, parameters) or (parameters,)
        Bounds.
    fixed : array of bool (problems, parameters), optional
        Parameters that stay where they start.
    tolerance : float or array (problems,)
        A problem is done when its next Newton step would gain less than this.
    iterations : int or array (problems,)
        At most so many.
    enough : float or array (problems,)
        After `PATIENCE` iterations a problem below this value is left where it is.

    Returns
    -------
    Optima
        In the order of the starts; a problem that ran out of iterations is there, not converged.
    """
    lower, upper = np.broadcast_to(lower, start.shape), np.broadcast_to(upper, start.shape)
    held = np.zeros(start.shape, dtype=bool) if fixed is None else np.broadcast_to(fixed, start.shape)
    slack, most, good = (np.broadcast_to(v, len(start)) for v in (tolerance, iterations, enough))
    x = np.clip(start, lower, upper)
    value, gradient, curvature = objective(x, np.arange(len(x)))
    value = np.where(np.isfinite(value), value, np.inf)
    damping = np.full(len(x), 1e-3)
    converged = np.zeros(len(x), dtype=bool)
    active = np.arange(len(x))[np.isfinite(value)]
    for iteration in range(int(most.max()) if len(x) else 0):
        active = active[iteration < most[active]]
        if iteration >= PATIENCE:
            active = active[value[active] > good[active]]
        if len(active) == 0:
            break
        xa, ga = x[active], gradient[active]
        free = free_of(xa, ga, lower[active], upper[active], held[active])
        least = np.maximum(lower[active] - xa, -STEP_MAX)
        largest = np.minimum(upper[active] - xa, STEP_MAX)
        trial = xa + _bounded_step(ga, curvature[active], free, damping[active], least, largest)
        trial = np.clip(trial, lower[active], upper[active])
        gain = -((trial - xa) * ga).sum(axis=-1)
        done = (np.abs(gain) < slack[active]) & (damping[active] < 1e-2)
        stuck = damping[active] > 1e10
        converged[active[done]] = True
        going = ~(done | stuck)
        active, trial, gain = active[going], trial[going], gain[going]
        if len(active) == 0:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            new_value, new_gradient, new_curvature = objective(trial, active)
        better = np.isfinite(new_value) & (new_value <= value[active])
        damping[active] = np.where(
            better,
            np.where(np.abs(gain) < slack[active], 1e-9, np.maximum(damping[active] * 0.1, 1e-9)),
            np.maximum(damping[active], 1e-4) * 8.0,
        )
        took = active[better]
        x[took], value[took] = trial[better], new_value[better]
        gradient[took], curvature[took] = new_gradient[better], new_curvature[better]
    return Optima(x, value, converged)
