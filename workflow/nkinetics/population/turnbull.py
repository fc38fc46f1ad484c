"""Persistence from interval-censored losses: Turnbull's maximum-likelihood estimate without a shape.

A loss is known to lie between two samples, (last with cells, first without]. Kaplan-Meier puts it at the later one;
this estimate does not, and serves as its sensitivity analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STEPS = 500
"""Most Newton steps; a handful is usual."""


@dataclass(frozen=True)
class Turnbull:
    """Where the losses lie, and how many of them.

    Parameters
    ----------
    start, end : arrays [intervals; d]
        The innermost intervals (start, end], in order; start = end where a loss is known exactly. Infinity where
        nothing is known after the last sample with cells. Within an interval the data do not say where the mass lies.
    mass : array [intervals]
        Share of the losses in each; they add up to 1.
    gap : float
        Bound on what is missing to the maximum of ln L.
    """

    start: Floats
    end: Floats
    mass: Floats
    gap: float

    @property
    def survival(self) -> Floats:
        """Share still persisting at the end of each interval."""
        return 1.0 - np.cumsum(self.mass)

    @property
    def median(self) -> tuple[float, float]:
        """The interval in which the share falls to one half; the second number is infinite where it never does."""
        if not len(self.mass):
            return float("nan"), float("nan")
        at = int(np.argmax(self.survival <= 0.5 + 1e-9))
        return float(self.start[at]), float(self.end[at])


def innermost(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The only places where the estimate can have mass: a left end followed at once by a right end.

    Parameters
    ----------
    lower, upper : arrays [patients; d]
        (lower, upper] holds the loss; equal where it is exact, `upper` infinite where right-censored.

    Examples
    --------
    >>> start, end = innermost(np.array([0.0, 5.0, 3.0]), np.array([7.0, 10.0, 6.0]))
    >>> start.tolist(), end.tolist()
    ([5.0], [6.0])
    """
    exact = lower == upper
    # At one time: an exact loss begins, then intervals end (they hold the time), then intervals begin (they do not).
    ends = [(float(t), 0 if e else 2, True) for t, e in zip(lower, exact, strict=True)]
    ends += [(float(t), 1, False) for t in upper]
    ends.sort(key=lambda end: end[:2])
    found = [(a[0], b[0]) for a, b in pairwise(ends) if a[2] and not b[2]]
    return np.array([a for a, _ in found]), np.array([b for _, b in found])


def holds(lower: Floats, upper: Floats, start: Floats, end: Floats) -> Bools:
    """Which innermost intervals lie within the interval of each patient [patients, intervals]."""
    inside = (lower[:, None] <= start) & (end <= upper[:, None])
    # (5, 9] does not hold the exact loss at 5.
    return inside & ~((start == end) & (lower[:, None] == start) & (upper[:, None] > end))


def turnbull(lower: Floats, upper: Floats, tolerance: float = 1e-10) -> Turnbull:
    """Maximum of the likelihood of interval-censored times over all distributions.

    Parameters
    ----------
    lower, upper : arrays [patients; d]
        (lower, upper] holds the loss; equal where it is exact, `upper` infinite where right-censored.
    tolerance : float
        Largest `gap` for each patient.

    Returns
    -------
    Turnbull
        Empty without patients.

    Notes
    -----
    With mass p_j in the innermost interval j and A_ij = 1 where it lies within the interval of patient i,

        ln L(p) = sum_i ln (A p)_i,    d_j = d ln L/d p_j = sum_i A_ij/(A p)_i.

    At the maximum d_j = n wherever p_j > 0 and d_j <= n elsewhere, which is Turnbull's self-consistency
    p_j = p_j d_j/n; and ln L lies within max d_j - n of its maximum for any p. Turnbull's own iteration
    p_j <- p_j d_j/n needs thousands of steps where a mass goes to 0 slowly; here each step solves the quadratic
    approximation of ln L on the simplex (a least-squares problem with p >= 0) and goes back along it until ln L grows.
    For exact and right-censored times this is the Kaplan-Meier estimate.

    Reference: Turnbull BW (1976) J R Stat Soc B 38:290-295, doi:10.1111/j.2517-6161.1976.tb01597.x.

    Examples
    --------
    >>> one = turnbull(np.array([0.0, 5.0, 10.0]), np.array([7.0, 10.0, np.inf]))
    >>> one.start.tolist(), one.end.tolist(), one.mass.round(9).tolist()
    ([5.0, 10.0], [7.0, inf], [0.666666667, 0.333333333])
    """
    lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    # Order of the patients must not show in the last digit.
    order = np.lexsort((upper, lower))
    lower, upper = lower[order], upper[order]
    n = len(lower)
    start, end = innermost(lower, upper)
    if not n:
        return Turnbull(start, end, np.empty(0), 0.0)
    from scipy.optimize import nnls

    a = holds(lower, upper, start, end).astype(float)
    p = np.full(len(start), 1.0 / len(start))
    gap = np.inf
    for _ in range(STEPS):
        fitted = a @ p
        slope = a / fitted[:, None]
        gap = float(slope.sum(axis=0).max() - n)
        if gap <= tolerance * n:
            break
        # min |S q - 2|^2, q >= 0, sum q = 1; the sum as one more equation, after which q is scaled to it (Dax 1990).
        q = nnls(np.vstack([slope - 2.0, np.ones(len(p))]), np.append(np.zeros(n), 1.0))[0]
        q /= q.sum()
        step, now, rise = 1.0, np.log(fitted).sum(), float((slope @ (q - p)).sum())
        while step > 1e-12:
            with np.errstate(divide="ignore"):
                ahead = np.log(a @ (p + step * (q - p))).sum()
            if ahead >= now + step * rise / 3:
                break
            step /= 2
        p = p + step * (q - p)
    return Turnbull(start, end, p, max(gap, 0.0))
