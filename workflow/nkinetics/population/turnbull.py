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
Ints = NDArray[np.int64]

STEPS = 500
"""Most Newton steps; a handful is usual."""
DENSE = 100
"""Most intervals of which every one takes part in every step."""


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


def held(lower: Floats, upper: Floats, start: Floats, end: Floats) -> tuple[Ints, Ints]:
    """Which innermost intervals lie within the interval of each patient: from the first up to before the other.

    Parameters
    ----------
    lower, upper : arrays [patients; d]
    start, end : arrays [intervals; d]
        As `innermost` gives them.

    Returns
    -------
    first, stop : arrays of int [patients]

    Examples
    --------
    (5, 9] does not hold the exact loss at 5:

    >>> first, stop = held(*np.array([[5.0, 5.0], [5.0, 9.0]]), *np.array([[5.0, 5.0], [5.0, 9.0]]))
    >>> first.tolist(), stop.tolist()
    ([0, 1], [1, 2])
    """
    first = np.searchsorted(start, lower, side="left")
    at = np.minimum(first, len(start) - 1)
    exact = (start[at] == end[at]) & (start[at] == lower) & (upper > end[at])
    return first + exact, np.searchsorted(end, upper, side="right")


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

    Of thousands of intervals few hold mass. Above `DENSE` of them the steps are over those that do and, between each
    two of these, the one with the largest d_j above n (Wang 2008); as what a patient holds is one run of intervals,
    A p and d are differences of cumulative sums, and patients with the same interval are one row.

    References: Turnbull BW (1976) J R Stat Soc B 38:290-295, doi:10.1111/j.2517-6161.1976.tb01597.x. Wang Y (2008)
    Comput Stat Data Anal 52:2388-2402, doi:10.1016/j.csda.2007.10.018.

    Examples
    --------
    >>> one = turnbull(np.array([0.0, 5.0, 10.0]), np.array([7.0, 10.0, np.inf]))
    >>> one.start.tolist(), one.end.tolist(), one.mass.round(9).tolist()
    ([5.0, 10.0], [7.0, inf], [0.666666667, 0.333333333])
    """
    lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    n = len(lower)
    start, end = innermost(lower, upper)
    if not n:
        return Turnbull(start, end, np.empty(0), 0.0)
    # Sorted: the order of the patients must not show in the last digit.
    distinct, patients = np.unique(np.column_stack([lower, upper]), axis=0, return_counts=True)
    first, stop = held(distinct[:, 0], distinct[:, 1], start, end)
    support = np.arange(len(start)) if len(start) <= DENSE else _hitting(first, stop)
    p = np.zeros(len(start))
    p[support] = 1.0 / len(support)
    gap = np.inf
    for _ in range(STEPS):
        reached = np.append(0.0, np.cumsum(p))
        slope = _within(first, stop, patients / (reached[stop] - reached[first]), len(start))
        gap = float(slope.max() - n)
        if gap <= tolerance * n:
            break
        if len(start) > DENSE:
            support = _grown(np.flatnonzero(p > 0), slope, n)
        p[support] = _step((first[:, None] <= support) & (support < stop[:, None]), p[support], patients.astype(float))
    return Turnbull(start, end, p, max(gap, 0.0))


def _within(first: Ints, stop: Ints, each: Floats, intervals: int) -> Floats:
    """Sum over the patients who hold each interval."""
    change = np.bincount(first, each, intervals + 1) - np.bincount(stop, each, intervals + 1)
    return np.cumsum(change)[:-1]


def _hitting(first: Ints, stop: Ints) -> Ints:
    """Fewest intervals of which every patient holds one."""
    chosen: list[int] = []
    for i in np.argsort(stop, kind="stable"):
        if not chosen or first[i] > chosen[-1]:
            chosen.append(int(stop[i]) - 1)
    return np.array(chosen)


def _grown(support: Ints, slope: Floats, n: int) -> Ints:
    """The support and, before, between and after its intervals, the one with the largest slope above n."""
    parts = np.split(np.arange(len(slope)), support)
    best = [int(part[np.argmax(slope[part])]) for part in parts if len(part)]
    return np.union1d(support, [j for j in best if slope[j] > n])


def _step(a: Bools, p: Floats, patients: Floats) -> Floats:
    """Masses after one step; `a` says who holds what [distinct intervals, support], `patients` how many they are."""
    from scipy.optimize import nnls

    a = a.astype(float)
    fitted = a @ p
    root = np.sqrt(patients)
    slope = a / fitted[:, None]
    # min |S q - 2|^2, q >= 0, sum q = 1; the sum as one more equation, after which q is scaled to it (Dax 1990).
    system = np.column_stack([np.vstack([(slope - 2.0) * root[:, None], np.ones(len(p))]), np.zeros(len(a) + 1)])
    system[-1, -1] = 1.0
    if len(a) > len(p):
        system = np.asarray(np.linalg.qr(system, mode="r"))
    q = nnls(system[:, :-1], system[:, -1])[0]
    q /= q.sum()
    move, step = np.maximum(slope @ (q - p), -1.0), 1.0
    rise = float(patients @ move)
    # The very last step promises less than what ln L rounds off: nothing to compare.
    with np.errstate(divide="ignore"):
        while rise > 1e-9 and step > 1e-12 and patients @ np.log1p(step * move) < step * rise / 3:
            step /= 2
    moved: Floats = p + step * (q - p)
    return moved
