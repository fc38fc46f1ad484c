"""Summaries over patients, decided once (nca.md, "Summaries by dose level")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """Statistics of one quantity over patients; what cannot be had is NaN.

    Parameters
    ----------
    n : int
        Values summarised.
    geo_mean, geo_cv_pct : float
        Geometric mean, and its coefficient of variation in percent, 100 sqrt(exp(s^2) - 1) with s the SD of the
        logarithms.
    ci_lower, ci_upper : float
        Confidence interval of the geometric mean, from Student's t on the logarithms.
    median, minimum, maximum, mean, sd, cv_pct : float
        As named; SD with n - 1, CV in percent.
    """

    n: int
    geo_mean: float = NAN
    geo_cv_pct: float = NAN
    ci_lower: float = NAN
    ci_upper: float = NAN
    median: float = NAN
    minimum: float = NAN
    maximum: float = NAN
    mean: float = NAN
    sd: float = NAN
    cv_pct: float = NAN


def summary(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """All statistics of the values.

    Parameters
    ----------
    values : sequence of float
        One value per patient, no missing ones. Geometric statistics are NaN when one is not positive.
    confidence : float
        Of the interval of the geometric mean.

    Examples
    --------
    >>> s = summary([100.0, 1000.0, 10000.0])
    >>> round(s.geo_mean), round(s.geo_cv_pct, 1), s.median, s.mean
    (1000, 1413.2, 1000.0, 3700.0)
    """
    x = np.asarray(values, dtype=float)
    if not x.size:
        return Summary(0)
    several = x.size > 1
    mean, sd = float(x.mean()), float(x.std(ddof=1)) if several else NAN
    geometric: dict[str, float] = {}
    if (x > 0).all():
        logs = np.log(x)
        geometric["geo_mean"] = math.exp(logs.mean())
        if several:
            s = float(logs.std(ddof=1))
            geometric["geo_cv_pct"] = 100 * math.sqrt(math.expm1(s * s))
            half = _t_quantile(0.5 + confidence / 2, x.size - 1) * s / math.sqrt(x.size)
            geometric["ci_lower"] = math.exp(logs.mean() - half)
            geometric["ci_upper"] = math.exp(logs.mean() + half)
    return Summary(
        n=int(x.size),
        median=float(np.median(x)),
        minimum=float(x.min()),
        maximum=float(x.max()),
        mean=mean,
        sd=sd,
        cv_pct=100 * sd / mean if several and mean else NAN,
        **geometric,
    )


def _t_quantile(share: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))


def censored_geo_mean(values: Sequence[float], bounds: Sequence[float]) -> float:
    """Geometric mean when some patients are known only to lie below a bound.

    Maximum likelihood of a log-normal distribution: each value contributes its density, each bound the probability of
    lying below it (Tobin 1958, doi:10.2307/1907382).

    Parameters
    ----------
    values : sequence of float
        Quantified patients.
    bounds : sequence of float
        Upper bound of each patient without a quantified level.

    Returns
    -------
    float
        NaN where fewer than two different values are quantified (the spread is then not determined), or where a value
        or bound is not positive.

    Examples
    --------
    Without bounds it is the plain geometric mean, and bounds pull it down:

    >>> round(censored_geo_mean([100.0, 1000.0, 10000.0], []), 3)
    1000.0
    >>> censored_geo_mean([100.0, 1000.0, 10000.0], [50.0]) < 1000
    True
    """
    if any(v <= 0 for v in (*values, *bounds)):
        return NAN
    y, limit = np.log(np.asarray(values, dtype=float)), np.log(np.asarray(bounds, dtype=float))
    if y.size < 2 or y.std() == 0:
        return NAN
    if not limit.size:
        return math.exp(y.mean())
    everyone = np.concatenate([y, limit])
    centre, spread = everyone.mean(), everyone.std()
    return math.exp(centre + spread * _censored_mean((y - centre) / spread, (limit - centre) / spread))


def _censored_mean(y: np.ndarray, limit: np.ndarray) -> float:
    """Mean of the normal distribution that is likeliest for values and upper bounds.

    By Newton's method in a = mean/SD and b = 1/SD, where the logarithm of the likelihood is concave (Olsen 1978,
    doi:10.2307/1913090); a step that does not gain is halved.
    """
    from scipy.special import log_ndtr

    def terms(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        a, b = theta
        residual, z = b * y - a, b * limit - a
        log_below = log_ndtr(z)
        hazard = np.exp(-0.5 * z * z - log_below) / math.sqrt(2 * math.pi)
        curvature = hazard * (z + hazard)
        value = y.size * math.log(b) - 0.5 * residual @ residual + log_below.sum()
        slope = np.array([residual.sum() - hazard.sum(), y.size / b - y @ residual + limit @ hazard])
        mixed = y.sum() + limit @ curvature
        information = np.array(
            [
                [y.size + curvature.sum(), -mixed],
                [-mixed, y.size / b**2 + y @ y + (limit * limit) @ curvature],
            ]
        )
        return float(value), slope, information

    theta = np.array([0.0, 1.0])
    value, slope, information = terms(theta)
    for _ in range(200):
        step = np.linalg.solve(information, slope)
        gain = float(slope @ step)
        if gain < 1e-18:
            break
        share = 1.0
        while share > 1e-9:
            ahead = theta + share * step
            if ahead[1] > 0:
                there = terms(ahead)
                if there[0] >= value:
                    break
            share /= 2
        else:
            break  # as near as the arithmetic can tell
        theta, (value, slope, information) = ahead, there
    return float(theta[0] / theta[1])
