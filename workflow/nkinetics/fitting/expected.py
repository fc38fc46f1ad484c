"""What a sample that is not yet taken will tell: the expected Fisher information of a log-normal, censored level.

With z = (y - mu)/s standard normal, s^2 = sigma^2 + v, the level is quantified above the LLOQ, and below it known to
lie in an interval (below the LOD, between LOD and LLOQ). With phi and Phi the normal density and distribution, a piece
from a to b of probability P, and the differences

    D0 = phi(a) - phi(b),    D1 = a phi(a) - b phi(b),    D3 = a^3 phi(a) - b^3 phi(b),

the scores for mu and s, averaged in squares over the piece, give s^2 times the information:

    quantified   mu mu: D1 + P        mu s: D0 + a^2 phi(a) - b^2 phi(b)        s s: D3 + D1 + 2 P
    interval     mu mu: D0^2/P        mu s: D0 D1/P                             s s: D1^2/P

For one limit, at l = (ln LLOQ - mu)/s, mu mu is l phi(l) + Phi(-l) + phi(l)^2/Phi(l): 1 far above the LLOQ, 0 far
below. The information for ln sigma follows by ds/d ln sigma = sigma^2/s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from nkinetics.fitting.likelihood import HALF_LN_2PI, log_interval


@dataclass(frozen=True, eq=False)
class Expected:
    """Expected information of samples (..., samples) for mu = ln C and t = ln sigma, and the chance of being below.

    Parameters
    ----------
    mean, cross, sigma : arrays (..., samples)
        Of mu and mu, of mu and ln sigma, of ln sigma and ln sigma.
    below : array (..., samples)
        Probability of a level below the LLOQ.
    """

    mean: np.ndarray
    cross: np.ndarray
    sigma: np.ndarray
    below: np.ndarray


def expected(
    mu: np.ndarray,
    sigma: float | np.ndarray,
    log_lloq: np.ndarray,
    log_lod: np.ndarray | float = -np.inf,
    counting_variance: np.ndarray | float = 0.0,
) -> Expected:
    """Expected information of samples.

    Parameters
    ----------
    mu : array (..., samples)
        ln of the level.
    sigma : float or array (..., samples)
        Residual SD of ln.
    log_lloq : array (..., samples)
        ln LLOQ; -inf for none.
    log_lod : array (..., samples), optional
        ln LOD: a level below it is told apart from one between LOD and LLOQ. -inf, or not below the LLOQ, for none.
    counting_variance : array (..., samples), optional
        1/n of the molecules or events that will be counted.

    Examples
    --------
    Half of the samples at the LLOQ itself are quantified; the other half tell that they are below.

    >>> at = expected(np.log([50.0, 5e6]), 0.5, np.log(50.0))
    >>> at.below.round(6).tolist(), (0.25 * at.mean).round(4).tolist(), at.sigma.round(4).tolist()
    ([0.5, 0.0], [0.8183, 1.0], [1.0, 2.0])
    """
    mu = np.asarray(mu, dtype=float)
    variance = sigma**2 + counting_variance
    s = np.sqrt(variance)
    upper = np.broadcast_to((log_lloq - mu) / s, np.broadcast_shapes(mu.shape, np.shape(s), np.shape(log_lloq)))
    lower = np.broadcast_to((log_lod - mu) / s, upper.shape)
    lower = np.where(lower < upper, lower, -np.inf)
    parts = _quantified(upper)
    for part in (_interval(lower, upper), _interval(np.full(upper.shape, -np.inf), lower)):
        parts = tuple(x + y for x, y in zip(parts, part, strict=True))
    by = sigma**2 / s
    return Expected(parts[0] / variance, parts[1] * by / variance, parts[2] * by * by / variance, ndtr(upper))


def _powers(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Phi(z) z^k, the density, for k of 0 to 3; 0 at an infinite z."""
    z = np.clip(z, -40.0, 40.0)
    density = np.exp(-0.5 * z * z - HALF_LN_2PI)
    return density, z * density, z * z * density, z**3 * density


def _quantified(a: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the levels above a tell (mu mu, mu s, s s), s^2 times."""
    d0, d1, d2, d3 = _powers(a)
    p = ndtr(-a)
    return d1 + p, d0 + d2, d3 + d1 + 2.0 * p


def _interval(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """What levels known to lie between a and b tell (mu mu, mu s, s s), s^2 times; nothing where b is not above a."""
    real = (b > a) & (b > -np.inf)
    a, b = np.where(real, a, -1.0), np.where(real, b, 0.0)
    log_p = np.where(np.isinf(a), log_ndtr(b), log_interval(a, b))

    # Density over probability, in logs: both may vanish far from the limit, their ratio is about the distance to it.
    def weighted(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        open_end = np.isinf(z)
        z = np.where(open_end, 0.0, z)
        w = np.where(open_end, 0.0, np.exp(np.minimum(-0.5 * z * z - HALF_LN_2PI - log_p, 300.0)))
        return w, z * w

    (a0, a1), (b0, b1) = weighted(a), weighted(b)
    d0, d1, p = a0 - b0, a1 - b1, np.where(real, np.exp(log_p), 0.0)
    return d0 * d0 * p, d0 * d1 * p, d1 * d1 * p
