"""Terminal slope: the straight line through ln(level) over the last points, chosen by adjusted R2 or by hand.

The line is that of least squares, or the censored one (`tobit`) that also knows the samples below their LLOQ after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        The points of the fit, censored ones among them.
    n_censored : array of int [profiles]
        Samples below their LLOQ that the line knows; 0 for least squares.
    failed : array of bool [profiles]
        The censored fit found no falling line where least squares found one.
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
    n_censored: Ints
    failed: Bools


def terminal(time: Floats, level: Floats, after: Bools, settings: LambdaZ, fixed: Bools | None = None) -> Terminal:
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
    fixed : array of bool [profiles], optional
        Profiles whose points were chosen by hand: all of `after`, three or more, make the fit.

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
    if fixed is not None:
        whole = after & (np.cumsum(after, axis=1) == 1) & (n >= 3) & (sxx > 0) & (syy > 0)
        window = np.where(fixed[:, None], whole, window)
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
        n_censored=np.zeros(rows, dtype=np.int64),
        failed=np.zeros(rows, dtype=bool),
    )


# ------------------------------------------------------------------------------------------------------ censored line


def tobit(fit: Terminal, time: Floats, level: Floats, lloq: Floats, below: Bools) -> Terminal:
    """The terminal fits with the samples below their LLOQ after the last level as censored observations.

    ln(level) at t is normal about the line with one standard deviation; a level contributes its density, a sample below
    its LLOQ the probability of lying there. Slope and intercept are those of largest likelihood. What describes the
    points that were quantified (their number, first and last, R2) stays as it was.

    Parameters
    ----------
    fit : Terminal
        Least squares, whose points are kept.
    time, level, lloq : arrays [profiles, samples]
        As given to `terminal`; LLOQ of each sample.
    below : array of bool [profiles, samples]
        Samples below their LLOQ after the last level.

    Returns
    -------
    Terminal
        Without a censored sample the fit as it was: its slope is that of largest likelihood.

    Notes
    -----
    Least squares through the levels alone takes the tail for flatter than it is, because low levels are missing from
    it. A BLQ sample long after the line has fallen below its LLOQ adds nothing.

    Reference: Tobin J (1958) Estimation of relationships for limited dependent variables. Econometrica 26:24-36,
    doi:10.2307/1907382.

    Examples
    --------
    >>> time, level = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]]), np.array([[8.0, 3.0, 3.0, 1.5, np.nan]])
    >>> fit = terminal(time, level, ~np.isnan(level), LambdaZ(points_min=4))
    >>> float(fit.lambda_z[0].round(3))
    0.502
    >>> censored = tobit(fit, time, level, np.full((1, 5), 1.0), np.isnan(level))
    >>> float(censored.lambda_z[0].round(3)), int(censored.n_censored[0])
    (0.534, 1)
    """
    below = below & (lloq > 0) & (fit.n_points > 0)[:, None]
    rows = np.flatnonzero(below.any(axis=1))
    if not len(rows):
        return fit
    used, cut = fit.used[rows], below[rows]
    x = np.where(used | cut, time[rows] - fit.end[rows, None], 0.0)
    # Residuals about the line of least squares: what Newton's method works on is then of order one.
    y = np.log(np.where(used, level[rows], np.where(cut, lloq[rows], 1.0)))
    y = np.where(used | cut, y - (fit.intercept[rows, None] - fit.lambda_z[rows, None] * x), 0.0)
    scale = np.abs(x).max(axis=1)
    slope, shift, converged = censored_line(x / scale[:, None], y, used, cut)
    rate = fit.lambda_z[rows] - slope / scale
    good = converged & (rate > 0)
    lambda_z, intercept = fit.lambda_z.copy(), fit.intercept.copy()
    lambda_z[rows] = np.where(good, rate, np.nan)
    intercept[rows] = np.where(good, fit.intercept[rows] + shift, np.nan)
    n_points, n_censored, failed = fit.n_points.copy(), fit.n_censored.copy(), fit.failed.copy()
    n_points[rows[~good]] = 0
    n_censored[rows] = np.where(good, cut.sum(axis=1), 0)
    failed[rows] = ~good
    return replace(
        fit,
        lambda_z=lambda_z,
        intercept=intercept,
        n_points=n_points,
        used=(fit.used | below) & (n_points > 0)[:, None],
        n_censored=n_censored,
        failed=failed,
    )


def censored_line(x: Floats, y: Floats, used: Bools, below: Bools) -> tuple[Floats, Floats, Bools]:
    """Straight line of largest likelihood through points and left-censored points.

    Parameters
    ----------
    x, y : arrays [rows, samples]
        `y` is the value where `used` holds and the limit where `below` does.
    used, below : arrays of bool [rows, samples]
        Three or more points of each row are used.

    Returns
    -------
    slope, intercept : arrays [rows]
        Of the line; the intercept at x = 0.
    converged : array of bool [rows]
        Newton's method came to rest.

    Notes
    -----
    In (intercept/sigma, slope/sigma, 1/sigma) the log-likelihood is concave, so that a damped Newton step always leads
    to its only maximum. Points on one straight line below whose continuation all limits lie have an unbounded
    likelihood, at that line: it is returned as it is.

    Reference: Olsen RJ (1978) Note on the uniqueness of the maximum likelihood estimator for the Tobit model.
    Econometrica 46:1211-1215, doi:10.2307/1911445.

    Examples
    --------
    >>> x, y = np.array([[-2.0, -1.0, 0.0, 1.0]]), np.array([[2.0, 1.5, 0.0, 9.0]])
    >>> used = np.array([[True, True, True, False]])
    >>> slope, intercept, _ = censored_line(x, y, used, np.zeros((1, 4), dtype=bool))
    >>> float(slope[0].round(9)), float(intercept[0].round(9))
    (-1.0, 0.166666667)
    """
    from scipy.special import log_ndtr

    rows = len(x)
    n = used.sum(axis=1).astype(float)
    mean_x, mean_y = (np.where(used, v, 0.0).sum(axis=1) / n for v in (x, y))
    dx, dy = np.where(used, x - mean_x[:, None], 0.0), np.where(used, y - mean_y[:, None], 0.0)
    first_slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
    first = mean_y - first_slope * mean_x
    away = y - (first[:, None] + first_slope[:, None] * x)
    spread = np.sqrt(np.where(used, away * away, 0.0).sum(axis=1) / n)
    straight = spread < 1e-9
    inside = ~np.where(below, away < -1e-9, False).any(axis=1)
    unit = np.where(straight, 1e-3, spread)
    away = np.where(used | below, away / unit[:, None], 0.0)
    # w theta is the residual over sigma, theta = (intercept, slope, 1)/sigma.
    w = np.stack([-np.ones_like(x), -x, away], axis=2)
    theta = np.tile([0.0, 0.0, 1.0], (rows, 1))

    def log_likelihood(theta: Floats, rows: Ints) -> Floats:
        z = np.einsum("rsk,rk->rs", w[rows], theta)
        with np.errstate(invalid="ignore", divide="ignore"):
            size = n[rows] * np.log(theta[:, 2])
        return size + np.where(used[rows], -z * z / 2, np.where(below[rows], log_ndtr(z), 0.0)).sum(axis=1)

    converged = straight & inside
    active = np.flatnonzero(~converged)
    value = log_likelihood(theta, np.arange(rows))
    for _ in range(60):
        if not len(active):
            break
        here = w[active]
        z = np.einsum("rsk,rk->rs", here, theta[active])
        # phi/Phi, and minus its derivative; both finite far out in the tail.
        hazard = np.exp(-z * z / 2 - np.log(2 * np.pi) / 2 - log_ndtr(z))
        of_score = np.where(used[active], -z, np.where(below[active], hazard, 0.0))
        curvature = np.clip(hazard * (z + hazard), 0.0, 1.0)
        of_information = np.where(used[active], 1.0, np.where(below[active], curvature, 0.0))
        score = np.einsum("rs,rsk->rk", of_score, here)
        score[:, 2] += n[active] / theta[active, 2]
        information = np.einsum("rs,rsk,rsl->rkl", of_information, here, here)
        information[:, 2, 2] += n[active] / theta[active, 2] ** 2
        step = np.linalg.solve(information, score[:, :, None])[:, :, 0]
        gain = (step * score).sum(axis=1)
        length = np.ones(len(active))
        proposal = theta[active] + step
        for _ in range(50):
            new = log_likelihood(proposal, active)
            short = ~((proposal[:, 2] > 0) & (new >= value[active] - 1e-12 * (1 + np.abs(value[active]))))
            if not short.any():
                break
            length = np.where(short, length / 2, length)
            proposal = theta[active] + length[:, None] * step
        theta[active], value[active] = proposal, new
        # The gain of a Newton step is the square of its length in standard errors.
        resting = gain < 1e-16
        converged[active[resting]] = True
        active = active[~resting]
    size = unit / theta[:, 2]
    return first_slope + size * theta[:, 1], first + size * theta[:, 0], converged
