"""Leave-one-out predictive density from posterior draws.

Pareto-smoothed importance sampling: Vehtari, Gelman & Gabry 2017 (Stat Comput 27:1413, doi:10.1007/s11222-016-9696-4);
the generalised Pareto fit after Zhang & Stephens 2009 (Technometrics 51:316, doi:10.1198/tech.2009.08017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

K_MAX = 0.7
"""Pareto shape beyond which the estimate of a row is not to be trusted."""


@dataclass(frozen=True, eq=False)
class Loo:
    """Expected ln predictive density of rows left out.

    Parameters
    ----------
    elpd, error : float
        Sum over rows, and its standard error.
    each : array (rows,)
        Of each row.
    shape : array (rows,)
        Pareto shape k.
    """

    elpd: float
    error: float
    each: np.ndarray
    shape: np.ndarray

    @property
    def doubtful(self) -> int:
        """Rows whose estimate is not to be trusted."""
        return int((self.shape > K_MAX).sum())


def pareto_fit(excess: np.ndarray) -> tuple[float, float]:
    """Shape k and scale of a generalised Pareto distribution from sorted positive values.

    Examples
    --------
    >>> u = (np.arange(2000) + 0.5) / 2000
    >>> k, scale = pareto_fit(((1 - u) ** -0.5 - 1) / 0.5)
    >>> abs(k - 0.5) < 0.03, abs(scale - 1.0) < 0.03
    (True, True)
    """
    x = np.sort(excess)
    n = len(x)
    m = 30 + int(np.sqrt(n))
    grid = np.arange(1, m + 1)
    b = 1.0 - np.sqrt(m / (grid - 0.5))
    b = b / (3.0 * x[int(n / 4 + 0.5) - 1]) + 1.0 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    fit = n * (np.log(-b / k) - k - 1.0)
    weight = 1.0 / np.exp(np.minimum(fit - fit[:, None], 700.0)).sum(axis=1)
    centre = float((b * weight).sum() / weight.sum())
    shape = float(np.log1p(-centre * x).mean())
    scale = -shape / centre
    # A weak prior steadies k where the tail is short.
    return (n * shape + 5.0) / (n + 10.0), scale


def _smoothed(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Ln weights with their largest ones replaced by quantiles of the fitted tail, and its shape."""
    s = len(log_ratio)
    tail = int(min(0.2 * s, 3.0 * np.sqrt(s)))
    found = log_ratio - log_ratio.max()
    order = np.argsort(found, kind="stable")
    cut = found[order[s - tail - 1]]
    excess = np.exp(found[order[s - tail :]]) - np.exp(cut)
    if tail < 5 or not excess[-1] > 0 or not excess[int(tail / 4 + 0.5) - 1] > 0:
        return found, float("inf") if excess[-1] > 0 else 0.0
    shape, scale = pareto_fit(excess)
    u = (np.arange(tail) + 0.5) / tail
    smooth = scale * np.expm1(-shape * np.log1p(-u)) / shape if abs(shape) > 1e-12 else -scale * np.log1p(-u)
    found[order[s - tail :]] = np.minimum(np.log(smooth + np.exp(cut)), 0.0)
    return found, shape


def psis_loo(log_likelihood: np.ndarray) -> Loo:
    """Leave-one-out from ln likelihood (draws, rows) of each row at each draw.

    Examples
    --------
    A normal mean with a flat prior: the left-out density is normal with variance s^2 (1 + 1/(n - 1)).

    >>> random = np.random.default_rng(1)
    >>> y = random.standard_normal(20)
    >>> draws = y.mean() + random.standard_normal(4000) / np.sqrt(20)
    >>> found = psis_loo(-0.5 * np.log(2 * np.pi) - 0.5 * (y - draws[:, None]) ** 2)
    >>> others = (y.sum() - y) / 19
    >>> exact = -0.5 * np.log(2 * np.pi * (1 + 1 / 19)) - 0.5 * (y - others) ** 2 / (1 + 1 / 19)
    >>> bool(abs(found.elpd - exact.sum()) < 0.1)
    True
    """
    rows = log_likelihood.shape[1]
    each, shape = np.empty(rows), np.empty(rows)
    for i in range(rows):
        weight, shape[i] = _smoothed(-log_likelihood[:, i])
        value = weight + log_likelihood[:, i]
        each[i] = _log_sum(value) - _log_sum(weight)
    return Loo(float(each.sum()), float(np.sqrt(rows * each.var())), each, shape)


def _log_sum(x: np.ndarray) -> float:
    top = x.max()
    return float(top + np.log(np.exp(x - top).sum()))
