"""Likelihood of one assay profile: log-normal error, counting noise, censoring by interval.

ln y ~ Normal(ln C, s_i^2) with s_i^2 = sigma^2 + 1/n_i, n_i the molecules or events counted (1/n_i = 0 where unknown).
A quantified row contributes its density, on the ln scale; a censored row the probability of its interval (Beal's M3
when that is (0, LLOQ)). The density of ln y and not of y: a change of unit then leaves the likelihood as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

HALF_LN_2PI = 0.5 * float(np.log(2.0 * np.pi))
NARROW = 1e-5
"""Interval, in units of the SD, below which its probability is taken as density times width."""


@dataclass(frozen=True, eq=False)
class Points:
    """Rows of one assay profile as the likelihood sees them, quantified rows first.

    Parameters
    ----------
    time : array (rows,)
        [d].
    log_level : array (quantified,)
        ln level of the quantified rows, which are the first.
    log_lower, log_upper : arrays (rows - quantified,)
        Ends of the intervals of the other rows, ln; -inf and inf where open.
    counting_variance : array (rows,)
        1/n_i, 0 where no count is known.
    """

    time: np.ndarray
    log_level: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    counting_variance: np.ndarray

    @property
    def n(self) -> int:
        """Rows in the likelihood."""
        return len(self.time)

    @property
    def n_quantified(self) -> int:
        """Rows with a density."""
        return len(self.log_level)


@dataclass(frozen=True, eq=False)
class Terms:
    """ln L of each row (..., rows), and its derivatives by mu = ln C and t = ln sigma.

    `mean2`, `cross` and `sigma2` are negative second derivatives: expected ones for quantified rows (Fisher scoring),
    observed ones for censored rows.
    """

    value: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    mean2: np.ndarray
    cross: np.ndarray
    sigma2: np.ndarray


def log_interval(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Ln of Phi(upper) - Phi(lower), lower < upper, without cancellation in either tail or for a narrow interval.

    Examples
    --------
    >>> round(float(np.exp(log_interval(np.array(-1.96), np.array(1.96)))), 4)
    0.95
    >>> round(float(log_interval(np.array(40.0), np.array(41.0))), 3) == round(float(log_ndtr(-40.0)), 3)
    True
    """
    # In the upper tail Phi is 1 to the last digit: mirror it into the lower one.
    flip = lower + upper > 0
    a, b = np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    log_b = log_ndtr(b)
    x = log_ndtr(a) - log_b
    narrow = b - a < NARROW
    x = np.where(narrow, -1.0, x)
    small = x > -np.log(2.0)
    log_share = np.where(
        small, np.log(-np.expm1(np.where(small, x, -1.0))), np.log1p(-np.exp(np.where(small, -1.0, x)))
    )
    middle = np.where(narrow, (a + b) / 2.0, 0.0)
    with np.errstate(divide="ignore"):
        wide = np.log(np.where(narrow, b - a, 1.0))
    return np.where(narrow, wide - middle * middle / 2.0 - HALF_LN_2PI, log_b + log_share)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of several profiles side by side (profiles, rows): the quantified ones of each, the others, then padding.

    Parameters
    ----------
    time, counting_variance : arrays (profiles, rows)
        As in `Points`; a padding row repeats a time of its profile.
    log_level : array (profiles, quantified)
        As in `Points`, as wide as the profile with most of them; 0 where a profile has fewer.
    censored : array of bool (profiles, rows)
        Of which rows only an interval is known.
    log_lower, log_upper : arrays (profiles, rows)
        As in `Points`, where `censored`.
    weight : array (profiles, rows)
        1, and 0 for padding.
    """

    time: np.ndarray
    log_level: np.ndarray
    censored: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    counting_variance: np.ndarray
    weight: np.ndarray

    @property
    def n_quantified(self) -> int:
        """Columns that hold a row with a density."""
        return self.log_level.shape[-1]

    def of(self, which: np.ndarray) -> Rows:
        """The rows of some profiles, in that order."""
        return Rows(
            self.time[which],
            self.log_level[which],
            self.censored[which],
            self.log_lower[which],
            self.log_upper[which],
            self.counting_variance[which],
            self.weight[which],
        )


def side_by_side(profiles: Sequence[Points]) -> Rows:
    """Several profiles as one `Rows`.

    Examples
    --------
    >>> one = Points(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.zeros(0), np.zeros(0), np.zeros(2))
    >>> two = Points(np.array([5.0, 6.0]), np.array([3.0]), np.array([-np.inf]), np.array([1.0]), np.zeros(2))
    >>> rows = side_by_side([one, two])
    >>> rows.time.tolist(), rows.censored.tolist()
    ([[1.0, 2.0], [5.0, 6.0]], [[False, False], [False, True]])
    """
    n, most = len(profiles), max(p.n for p in profiles)
    time = np.repeat([[p.time[0] if p.n else 0.0] for p in profiles], most, axis=1)
    level = np.zeros((n, max(p.n_quantified for p in profiles)))
    lower, upper = np.full((n, most), -np.inf), np.zeros((n, most))
    variance, weight, censored = np.zeros((n, most)), np.zeros((n, most)), np.zeros((n, most), dtype=bool)
    for i, p in enumerate(profiles):
        q = p.n_quantified
        time[i, : p.n], variance[i, : p.n], weight[i, : p.n] = p.time, p.counting_variance, 1.0
        level[i, :q], lower[i, q : p.n], upper[i, q : p.n], censored[i, q : p.n] = (
            p.log_level,
            p.log_lower,
            p.log_upper,
            True,
        )
    return Rows(time, level, censored, lower, upper, variance, weight)


def _quantified(mu: np.ndarray, sigma2: np.ndarray, points: Points | Rows) -> list[np.ndarray]:
    q = points.n_quantified
    variance = sigma2 + points.counting_variance[..., :q]
    ratio = np.broadcast_to(sigma2 / variance, mu.shape)  # ds/dt = s * ratio
    residual = points.log_level - mu
    scaled = residual / variance
    z2 = residual * scaled
    value = -0.5 * np.log(variance) - HALF_LN_2PI - 0.5 * z2
    precision = np.broadcast_to(1.0 / variance, mu.shape)
    return [value, scaled, (z2 - 1.0) * ratio, precision, np.zeros(mu.shape), 2.0 * ratio * ratio]


def censored_terms(
    mu: np.ndarray,
    sigma2: np.ndarray,
    log_lower: np.ndarray,
    log_upper: np.ndarray,
    counting_variance: np.ndarray | float,
) -> list[np.ndarray]:
    """The parts of `Terms`, in their order, of rows of which only an interval is known."""
    variance = sigma2 + counting_variance
    s = np.sqrt(variance)
    a, b = (log_lower - mu) / s, (log_upper - mu) / s
    value = log_interval(a, b)

    # x^k phi(x) / P for both ends; 0 at an end that is open.
    def weighted(x: np.ndarray) -> tuple[np.ndarray, ...]:
        open_end = ~np.isfinite(x)
        x = np.where(open_end, 0.0, x)
        w = np.where(open_end, 0.0, np.exp(np.minimum(-0.5 * x * x - HALF_LN_2PI - value, 600.0)))
        return w, x * w, x * x * w, x * x * x * w

    (a0, a1, a2, a3), (b0, b1, b2, b3) = weighted(a), weighted(b)
    d0, d1, d2, d3 = a0 - b0, a1 - b1, a2 - b2, a3 - b3
    # A narrow interval behaves as a density at its middle m; the differences above would cancel.
    narrow = b - a < NARROW
    if narrow.any():
        m = np.where(narrow, (a + b) / 2.0, 0.0)
        d0, d1 = np.where(narrow, m, d0), np.where(narrow, m * m - 1.0, d1)
        d2, d3 = np.where(narrow, m**3 - 2.0 * m, d2), np.where(narrow, m**4 - 3.0 * m * m, d3)
    by_mean, by_s = d0 / s, d1 / s
    mean2 = (d0 * d0 - d1) / variance
    cross = -((d2 / s - d0 * by_s) / s - d0 / variance)
    s2 = -((-d1 / s + d3 / s - d1 * by_s) / s - d1 / variance)
    k = sigma2 / s
    return [value, by_mean, by_s * k, mean2, cross * k, s2 * k * k - by_s * (2.0 * k - k * k / s)]


def terms(mu: np.ndarray, log_sigma: np.ndarray, points: Points) -> Terms:
    """Each row's ln L and its derivatives.

    Parameters
    ----------
    mu : array (..., rows)
        ln of the curve at the rows.
    log_sigma : array (...) or (..., rows)
        ln of the residual SD, one for all rows or one for each.
    points : Points
        The rows.
    """
    sigma2 = np.exp(2.0 * log_sigma)
    q = points.n_quantified
    own = log_sigma.ndim == mu.ndim and mu.ndim > 0
    first, last = (sigma2[..., :q], sigma2[..., q:]) if own else (sigma2[..., None], sigma2[..., None])
    parts = _quantified(mu[..., :q], first, points)
    if q < mu.shape[-1]:
        censored = censored_terms(
            mu[..., q:], last, points.log_lower, points.log_upper, points.counting_variance[..., q:]
        )
        parts = [np.concatenate([x, y], axis=-1) for x, y in zip(parts, censored, strict=True)]
    return Terms(*parts)


def terms_side_by_side(mu: np.ndarray, log_sigma: np.ndarray, rows: Rows) -> Terms:
    """`terms` of several profiles: mu (profiles, rows), log_sigma (profiles,). Padding gets numbers of no meaning."""
    sigma2 = np.exp(2.0 * log_sigma)
    q = rows.n_quantified
    parts = [np.zeros(mu.shape) for _ in range(6)]
    for part, known in zip(parts, _quantified(mu[:, :q], sigma2[:, None], rows), strict=True):
        part[:, :q] = known
    at = np.nonzero(rows.censored)
    if len(at[0]):
        ends = rows.log_lower[at], rows.log_upper[at]
        censored = censored_terms(mu[at], sigma2[at[0]], *ends, rows.counting_variance[at])
        for part, known in zip(parts, censored, strict=True):
            part[at] = known
    return Terms(*parts)


def log_likelihood(mu: np.ndarray, log_sigma: np.ndarray, points: Points) -> np.ndarray:
    """Ln L (...) of a profile; see `terms`.

    Examples
    --------
    >>> one = Points(np.array([1.0]), np.array([0.0]), np.zeros(0), np.zeros(0), np.zeros(1))
    >>> round(float(log_likelihood(np.array([0.0]), np.array(0.0), one)), 6)
    -0.918939
    """
    return terms(mu, log_sigma, points).value.sum(axis=-1)
