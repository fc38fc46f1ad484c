"""Terminal slope: the straight line through ln(level) over the last points, chosen by adjusted R2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nkinetics.settings import LambdaZ

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Terminal:
    """The terminal fit of each profile; NaN where there is none.

    Parameters
    ----------
    lambda_z : array [profiles; 1/time]
        Minus the slope of ln(level).
    intercept : array [profiles; ln level]
        ln of the fitted level at the last point (not at time 0, which may be far away).
    n_points : array of int [profiles]
        Points used; 0 where there is no fit.
    start, end : arrays [profiles; time]
        First and last point used.
    r_squared, r_squared_adj, correlation : arrays [profiles]
        Of the fit; the correlation is negative.
    n_available : array of int [profiles]
        Quantified points that could have been used.
    used : array of bool [profiles, samples]
        The points of the fit.
    """

    lambda_z: Floats
    intercept: Floats
    n_points: Ints
    start: Floats
    end: Floats
    r_squared: Floats
    r_squared_adj: Floats
    correlation: Floats
    n_available: Ints
    used: Bools


def terminal(time: Floats, level: Floats, after: Bools, settings: LambdaZ) -> Terminal:
    """Best straight line through the last points of each profile on the log scale.

    Parameters
    ----------
    time : array [profiles, samples; time]
        Increasing along a profile.
    level : array [profiles, samples; level]
        Positive wherever `after` holds.
    after : array of bool [profiles, samples]
        Quantified points that may be used (after Tmax; with it for a bolus-like profile).
    settings : LambdaZ
        ``points_min``, ``tolerance``.

    Returns
    -------
    Terminal
        Among the windows that end at the last point and fall, the longest whose adjusted R2 lies within the tolerance
        of the best. Windows with a slope of zero or more are dropped before comparing.

    Notes
    -----
    All windows of all profiles come from cumulative sums, run backwards from the last point. Time and ln(level) are
    counted from that last point, which is in every window: the sum of squares about the mean is then at least 1/n of
    the raw sum, and the subtraction costs at most a factor n of precision.

    Examples
    --------
    >>> time, level = np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([[1.0, 8.0, 4.0, 2.0]])
    >>> fit = terminal(time, level, np.array([[False, True, True, True]]), LambdaZ())
    >>> float(fit.lambda_z[0].round(6)), int(fit.n_points[0])
    (0.693147, 3)
    """
    rows, columns = time.shape
    last = columns - 1 - np.argmax(after[:, ::-1], axis=1)
    pick = np.arange(rows)
    t_last = time[pick, last]
    c_last = np.where(after.any(axis=1), level[pick, last], 1.0)
    x = np.where(after, time - t_last[:, None], 0.0)
    # Through log1p of the relative difference: equal levels give exactly 0, neighbours keep their digits.
    ratio = np.where(after, level, c_last[:, None]) / c_last[:, None]
    near = np.abs(ratio - 1) < 0.5
    relative = np.where(after, level - c_last[:, None], 0.0) / c_last[:, None]
    y = np.where(near, np.log1p(np.where(near, relative, 0.0)), np.log(ratio))

    def from_the_end(values: Floats) -> Floats:
        return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]

    n = from_the_end(after.astype(float))
    safe = np.maximum(n, 1.0)
    sum_x, sum_y = from_the_end(x), from_the_end(y)
    sxx = from_the_end(x * x) - sum_x * sum_x / safe
    syy = from_the_end(y * y) - sum_y * sum_y / safe
    sxy = from_the_end(x * y) - sum_x * sum_y / safe
    window = after & (n >= settings.points_min) & (sxx > 0) & (syy > 0)
    slope = np.divide(sxy, sxx, out=np.zeros_like(sxy), where=window)
    window &= slope < 0
    r_squared = np.divide(sxy * sxy, sxx * syy, out=np.zeros_like(sxy), where=window)
    r_squared = np.minimum(r_squared, 1.0)
    adjusted = np.where(window, 1 - (1 - r_squared) * (n - 1) / np.maximum(n - 2, 1), -np.inf)
    best = adjusted.max(axis=1, keepdims=True)
    chosen = window & (adjusted >= best - settings.tolerance)
    column = np.argmax(chosen, axis=1)
    found = chosen.any(axis=1)

    def at(values: Floats) -> Floats:
        return np.where(found, values[pick, column], np.nan)

    slopes = at(slope)
    mean_x, mean_y = at(sum_x / safe), at(sum_y / safe)
    r2 = at(r_squared)
    return Terminal(
        lambda_z=-slopes,
        intercept=mean_y - slopes * mean_x + np.log(c_last),
        n_points=np.where(found, n[pick, column], 0.0).astype(np.int64),
        start=at(time),
        end=np.where(found, t_last, np.nan),
        r_squared=r2,
        r_squared_adj=at(adjusted),
        correlation=-np.sqrt(r2),
        n_available=after.sum(axis=1).astype(np.int64),
        used=after & found[:, None] & (np.arange(columns) >= column[:, None]),
    )
