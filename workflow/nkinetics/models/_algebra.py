"""One algebra for every calendar of infusions: superposition in logs, cytokine windows, and curves by segments.

Cells that do not interact obey dN/dt = r(t) N + sum_k S D_k delta(t - tau_k). With R(t) the integral of r,

    N(t) = sum over tau_k <= t of  S D_k exp(R(t) - R(tau_k))

exactly, for any calendar and any r. A model of this kind is a choice of R. Where cells of each infusion run their own
clock the curve is the sum of unit responses u(t - tau_k). Both are computed in logs.

Arrays broadcast over leading axes (starts, bootstrap samples, patients of a padded batch).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from nkinetics.plugins import Calendar, KineticModel, Quantity

LN2 = float(np.log(2.0))

# --------------------------------------------------------------------------------------------------- scales


def to_estimation(model: KineticModel, natural: np.ndarray) -> np.ndarray:
    """Parameters (..., parameters) from the natural scale to the scale of estimation: ln, logit or unchanged."""
    natural = np.asarray(natural, dtype=float)
    columns = []
    for i, parameter in enumerate(model.parameters):
        x = natural[..., i]
        if parameter.scale == "log":
            x = np.log(x)
        elif parameter.scale == "logit":
            x = np.log(x) - np.log1p(-x)
        columns.append(x)
    return np.stack(columns, axis=-1)


def to_natural(model: KineticModel, estimation: np.ndarray) -> np.ndarray:
    """Parameters (..., parameters) from the scale of estimation back to the natural scale."""
    columns = []
    for i, parameter in enumerate(model.parameters):
        x = estimation[..., i]
        if parameter.scale == "log":
            x = np.exp(x)
        elif parameter.scale == "logit":
            x = 1.0 / (1.0 + np.exp(-x))
        columns.append(x)
    return np.stack(columns, axis=-1)


# ---------------------------------------------------------------------------------------------- cytokine windows


@cache
def _agent(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "", text.casefold())


def pulses_of(calendar: Calendar, agents: Iterable[str]) -> np.ndarray:
    """Rising start times of the doses of some agents (..., pulses) [d]; ``il2`` is the same agent as ``IL-2``."""
    wanted = {_agent(a) for a in agents}
    found = [np.asarray(v, dtype=float) for k, v in calendar.pulses.items() if _agent(k) in wanted]
    if not found:
        return np.zeros((*calendar.infusion_time.shape[:-1], 0))
    return np.sort(np.concatenate(found, axis=-1), axis=-1)


def windows(pulses: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths (..., pulses) [d] of disjoint pieces of the union of ``[s_j, s_j + width]``.

    A window that the next pulse cuts into is ended there: the pieces never overlap and their union is the same.

    Examples
    --------
    >>> windows(np.array([0.0, 1.0, 5.0]), 1.5)[1].tolist()
    [1.0, 1.5, 1.5]
    """
    finite = np.isfinite(pulses)
    start = np.where(finite, pulses, 0.0)
    following = np.concatenate([pulses[..., 1:], np.full((*pulses.shape[:-1], 1), np.inf)], axis=-1)
    with np.errstate(invalid="ignore"):
        length = np.minimum(width, following - start)
    return start, np.where(finite, length, 0.0)


def covered(time: np.ndarray, pulses: np.ndarray, width: float) -> np.ndarray:
    """L(t): length [d] of the time up to t inside the union of ``[s_j, s_j + width]``.

    Counted from the first pulse, be it before day 0: only differences of L enter a curve.

    Examples
    --------
    >>> covered(np.array([0.5, 2.0, 9.0]), np.array([0.0, 1.0, 5.0]), 1.5).tolist()
    [0.5, 2.0, 4.0]
    """
    start, length = windows(pulses, width)
    ndim = max(time.ndim, start.ndim)
    inside = np.clip(time - _first(start, ndim)[..., None], 0.0, _first(length, ndim)[..., None])
    return inside.sum(axis=0)


# ------------------------------------------------------------------------------------------------- superposition


def log_sum_exp(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ln sum exp over the last axis, and the share of each term; -inf and shares 0 where every term is -inf."""
    top = terms.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    share = np.exp(terms - top)
    total = share.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        value = np.log(total[..., 0]) + top[..., 0]
    return value, share / np.where(total > 0, total, 1.0)


def _log_amount(calendar: Calendar) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(calendar.infusion_amount, dtype=float))


def started(time: np.ndarray, calendar: Calendar) -> np.ndarray:
    """Which infusions had started at each time (..., times, infusions); a start exactly at the time counts."""
    tau = np.asarray(calendar.infusion_time)
    return _last(_first(tau, max(time.ndim, tau.ndim))[..., None] <= time)


def _first(values: np.ndarray, ndim: int) -> np.ndarray:
    """The last axis put first, with axes of length 1 behind it up to `ndim` in all.

    Sums over a few infusions or pulses then go over long rows of memory.
    """
    # np.moveaxis says the same and takes ten times as long: in a fit the number of calls is what costs.
    moved = values.transpose(-1, *range(values.ndim - 1))
    return moved.reshape(len(moved), *(1,) * (ndim - moved.ndim), *moved.shape[1:])


def _last(values: np.ndarray) -> np.ndarray:
    """The first axis put last again; the order in memory stays."""
    return values.transpose(*range(1, values.ndim), 0)


def superposed(
    time: np.ndarray, calendar: Calendar, exponent_time: np.ndarray, exponent_infusion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ln of sum_k D_k exp(R(t) - R(tau_k)), and the share of each infusion in it.

    Parameters
    ----------
    time : array (..., times)
        [d].
    calendar : Calendar
        Infusions with tau_k <= t count.
    exponent_time : array (..., times)
        R(t).
    exponent_infusion : array (..., infusions)
        R(tau_k).

    Returns
    -------
    log_sum : array (..., times)
        -inf before the first infusion.
    share : array (..., times, infusions)
        Of each infusion in the level; the derivative of the sum is dR(t) - sum_k share_k dR(tau_k).
    """
    there, given = started(time, calendar), _log_amount(calendar) - exponent_infusion
    ndim = max(there.ndim - 1, given.ndim)
    terms = np.where(_first(there, ndim + 1), _first(given, ndim)[..., None], -np.inf)
    value, share = log_sum_exp(_last(terms))
    return exponent_time + value, share


def superposition(time: np.ndarray, calendar: Calendar) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What `superposed` gives as ln of the sum, for times and calendars that are settled.

    Parameters
    ----------
    time : array (patients, times)
        [d].
    calendar : Calendar
        With the axis of patients.

    Returns
    -------
    callable
        ``(R(t) (..., patients, times), R(tau) (..., patients, infusions)) -> array (..., patients, times)``.

    Examples
    --------
    >>> twice = Calendar(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]))
    >>> total = superposition(np.array([[0.5, 1.0]]), twice)
    >>> np.exp(total(np.zeros((1, 2)), np.zeros((1, 2)))).round(9).tolist()
    [[1.0, 2.0]]
    """
    last = started(time, calendar).sum(axis=-1) - 1
    amount = _log_amount(calendar)
    n, k = amount.shape
    flat = np.arange(n)[:, None] * k + np.maximum(last, 0)
    outside = np.where(last < 0, -np.inf, 0.0) if (last < 0).any() else None

    def total(exponent_time: np.ndarray, exponent_infusion: np.ndarray) -> np.ndarray:
        given = amount - exponent_infusion
        if k > 1:
            # Infusions stand in order of time: up to each one there is one sum, whatever the sample.
            given = np.logaddexp.accumulate(given, axis=-1)
            given = given.reshape(*given.shape[:-2], -1)[..., flat]
        value = exponent_time + given
        return value if outside is None else value + outside

    return total


# ------------------------------------------------------------------------------- means and differences of exponentials


def log_mean_growth(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ln phi(y), phi(y) = (e^y - 1)/y, and its derivative: ln of the mean of exp from 0 to y.

    Two pools of which one feeds the other hold x e^(-b x) phi((a + b) x): finite where the rates a and -b meet.

    Examples
    --------
    >>> [float(v) for v in log_mean_growth(np.array(0.0))]
    [0.0, 0.5]
    """
    size = np.abs(y)
    safe = np.where(size > 0, size, 1.0)
    value = np.maximum(y, 0.0) + np.log(np.where(size > 0, -np.expm1(-safe) / safe, 1.0))
    large = np.where(size > 0.05, size, 1.0)
    slope_at = np.where(
        size > 0.05, -1.0 / np.expm1(-large) - 1.0 / large, 0.5 + size / 12.0 - size**3 / 720.0 + size**5 / 30240.0
    )
    return value, np.where(y >= 0, slope_at, 1.0 - slope_at)


def second_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divided difference exp[0, a, b]: the integral of u e^(u b) phi(u (a - b)) over u from 0 to 1.

    Times k E d^2 it is the area over a time d below a pool that is fed at k E e^(a t/d) and falls as e^(b t/d).

    Examples
    --------
    >>> float(second_difference(np.array(0.0), np.array(0.0)))
    0.5
    >>> round(float(second_difference(np.array(1.0), np.array(2.0))), 12) == round((np.e - 1) ** 2 / 2, 12)
    True
    """
    low, middle, high = np.sort(np.stack(np.broadcast_arrays(np.zeros(()), a, b)), axis=0)
    spread = high - low
    wide = spread > 0.5
    upper = np.exp(middle + log_mean_growth(high - middle)[0])
    lower = np.exp(low + log_mean_growth(middle - low)[0])
    # Close together the difference loses digits: the series in complete homogeneous polynomials instead.
    up, down = np.where(wide, 0.0, high - middle), np.where(wide, 0.0, low - middle)
    homogeneous, power, factor = np.ones_like(up), np.ones_like(up), 0.5
    series = 0.5 * homogeneous
    for j in range(1, 14):
        power = power * down
        homogeneous = up * homogeneous + power
        factor /= j + 2
        series = series + factor * homogeneous
    return np.where(wide, (upper - lower) / np.where(wide, spread, 1.0), np.exp(middle) * series)


# ------------------------------------------------------------------------------------------------------ segments


@dataclass(frozen=True, eq=False)
class Segments:
    """A curve as segments on which it is a sum of exponentials.

    A sum of exponentials is convex, so that its largest value on a segment stands at an end of it.

    Parameters
    ----------
    start : array (..., segments + 1)
        Ends of the segments [d], rising; segments of length 0 are harmless.
    log_start : array (..., segments, components)
        ln of each component right after the start of the segment.
    rate : array (..., segments, components)
        Net rate of each component on the segment [1/d].
    """

    start: np.ndarray
    log_start: np.ndarray
    rate: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Lengths of the segments (..., segments) [d]."""
        return np.diff(self.start, axis=-1)

    @property
    def log_left(self) -> np.ndarray:
        """Ln level right after the start of each segment (..., segments)."""
        return log_sum_exp(self.log_start)[0]

    @property
    def log_right(self) -> np.ndarray:
        """Ln level right before the end of each segment (..., segments)."""
        return log_sum_exp(self.log_start + self.rate * self.length[..., None])[0]


Pieces = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(start, middle) of segments (..., segments) -> ln components right after the start, and their rates."""


def _cut(knots: Sequence[np.ndarray], first: float, last: float) -> np.ndarray:
    """Rising ends of pieces (..., pieces + 1) between two days, cut at every knot (..., knots)."""
    shape = np.broadcast_shapes(*(k.shape[:-1] for k in knots))
    parts = [np.broadcast_to(k, (*shape, k.shape[-1])) for k in (*knots, np.array([first, last]))]
    return np.sort(np.clip(np.concatenate(parts, axis=-1), first, last), axis=-1)


def segments(knots: Sequence[np.ndarray], first: float, last: float, pieces: Pieces) -> Segments:
    """The curve between two days, cut at every knot (..., knots) where a rate or the number of cells changes."""
    start = _cut(knots, first, last)
    left, right = start[..., :-1], start[..., 1:]
    log_start, rate = pieces(left, (left + right) / 2.0)
    return Segments(start, log_start, rate)


def auc(curve: Segments) -> np.ndarray:
    """Area under the curve (...) [d * level]: C_i (e^(r d) - 1)/r on each segment, with its limit C_i d.

    Examples
    --------
    >>> one = Segments(np.array([0.0, 2.0]), np.log([[3.0]]), np.array([[0.0]]))
    >>> round(float(auc(one)), 12)
    6.0
    """
    length = curve.length[..., None]
    x = curve.rate * length
    # expm1(x)/x is 1 + x/2 near 0, to within the rounding error.
    small = np.abs(x) < 1e-8
    mean = np.where(small, 1.0 + x / 2.0, np.expm1(x) / np.where(small, 1.0, x))
    return (np.exp(curve.log_start) * mean * length).sum(axis=(-1, -2))


def peak(curve: Segments | Arcs) -> tuple[np.ndarray, np.ndarray]:
    """Largest ln level on the segments (...) and the first time at which it stands (...) [d].

    The end of the last segment does not count as after an infusion that starts there.
    """
    # A segment of length 0 at the end would see the infusion that starts there.
    empty = (curve.length <= 0) & (curve.start[..., -1:] > curve.start[..., :1])
    values = np.concatenate([np.where(empty, -np.inf, v) for v in (curve.log_left, curve.log_right)], axis=-1)
    times = np.concatenate([curve.start[..., :-1], curve.start[..., 1:]], axis=-1)
    top = values.max(axis=-1)
    at = np.where(values >= top[..., None] - 1e-12, times, np.inf).min(axis=-1)
    return top, at


def last_time_above(curve: Segments, log_limit: float) -> np.ndarray:
    """Time (...) [d] after which the curve stays below a limit; nan when it never reaches it or never leaves it.

    The last segment may go on for ever. Newton's steps from the left rise monotonically to the root, because the ln of
    a sum of exponentials is convex.
    """
    there = np.isfinite(curve.log_start)
    with np.errstate(invalid="ignore"):
        right = log_sum_exp(np.where(there, curve.log_start + curve.rate * curve.length[..., None], -np.inf))[0]
    above = curve.log_left >= log_limit
    n = above.shape[-1]
    last = n - 1 - np.argmax(above[..., ::-1], axis=-1)
    pick = last[..., None]
    start = np.take_along_axis(curve.start[..., :-1], pick, axis=-1)[..., 0]
    log_start = np.take_along_axis(curve.log_start, pick[..., None], axis=-2)[..., 0, :]
    rate = np.take_along_axis(curve.rate, pick[..., None], axis=-2)[..., 0, :]
    exists = above.any(axis=-1) & (np.take_along_axis(right, pick, axis=-1)[..., 0] < log_limit)
    t = np.zeros(start.shape)
    for _ in range(200):
        value, share = log_sum_exp(log_start + rate * t[..., None])
        slope = (share * rate).sum(axis=-1)
        step = np.where(exists & (slope < 0), (value - log_limit) / np.where(slope < 0, -slope, 1.0), 0.0)
        t = t + step
        if np.all(np.abs(step) <= 1e-12 * (1.0 + np.abs(t))):
            break
    return np.where(exists, start + t, np.nan)


@dataclass(frozen=True, eq=False)
class Arcs:
    """A curve as pieces on each of which it only rises or only falls, whatever its form.

    Parameters
    ----------
    start : array (..., pieces + 1)
        Ends of the pieces [d], rising; pieces of length 0 are harmless.
    log_left, log_right : arrays (..., pieces)
        Ln level right after the start and right before the end of each piece; -inf at an end at infinity.
    """

    start: np.ndarray
    log_left: np.ndarray
    log_right: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Lengths of the pieces (..., pieces) [d]."""
        return np.diff(self.start, axis=-1)


LogLevelAt = Callable[[np.ndarray], np.ndarray]
"""Time (..., times) [d] -> ln level (..., times), for parameters that are settled."""


def arcs(knots: Sequence[np.ndarray], first: float, last: float, log_level: LogLevelAt) -> Arcs:
    """The curve between two days, cut at infusions and wherever it may turn; a knot that does not exist is -inf.

    After the last knot the curve must fall to 0.
    """
    start = _cut(knots, first, last)
    right = start[..., 1:]
    endless = np.isinf(right)
    before = log_level(np.nextafter(np.where(endless, start[..., :-1], right), -np.inf))
    return Arcs(start, log_level(start[..., :-1]), np.where(endless, -np.inf, before))


def last_crossing(curve: Arcs, log_level: LogLevelAt, log_limit: float) -> np.ndarray:
    """Time (...) [d] after which the curve stays below a limit; nan when it never reaches it.

    The last piece goes on for ever. The root is bracketed and found by the secant (Illinois) rule on ln level.
    """
    above = curve.log_left >= log_limit
    n = above.shape[-1]
    pick = n - 1 - np.argmax(above[..., ::-1], axis=-1)[..., None]
    exists = above.any(axis=-1, keepdims=True)
    low, high = (np.take_along_axis(s, pick, axis=-1) for s in (curve.start[..., :-1], curve.start[..., 1:]))
    reach = 1.0
    endless = np.isinf(high)
    high = np.where(endless, low + reach, np.nextafter(high, -np.inf))

    def off(t: np.ndarray) -> np.ndarray:
        return np.where(exists, log_level(t) - log_limit, 0.0)

    f_low, f_high = off(low), off(high)
    while (endless & (f_high > 0)).any() and reach < 1e9:
        reach *= 2.0
        low, f_low = np.where(f_high > 0, high, low), np.where(f_high > 0, f_high, f_low)
        high = np.where(endless & (f_high > 0), low + reach, high)
        f_high = off(high)
    for _ in range(200):
        width = f_low - f_high
        t = np.where(width > 0, low + (high - low) * f_low / np.where(width > 0, width, 1.0), (low + high) / 2.0)
        f = off(t)
        if np.all((np.abs(f) < 1e-13) | (high - low < 1e-14 * (1.0 + np.abs(t)))):
            break
        side = f > 0
        # The end that stays counts half: the secant alone would creep along a bent curve.
        f_low, f_high = np.where(side, f, f_low / 2.0), np.where(side, f_high / 2.0, f)
        low, high = np.where(side, t, low), np.where(side, high, t)
    return np.where(exists, t, np.nan)[..., 0]


NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


def integral(
    knots: Sequence[np.ndarray], first: float, last: float, longest: float, log_level: LogLevelAt
) -> np.ndarray:
    """Area under the curve (...) [d * level] by Gauss's rule with 12 nodes on pieces between the knots.

    Parameters
    ----------
    knots : sequence of arrays (..., knots)
        Days at which the curve or a derivative of it jumps.
    first, last : float
        [d].
    longest : float
        No piece is longer [d]: the caller chooses it so that the rule is exact to rounding, and says why it is.
    log_level : callable
        Ln level at any time.
    """
    n = max(int(np.ceil((last - first) / longest)), 1)
    start = _cut([*knots, np.linspace(first, last, n + 1)], first, last)
    half = np.diff(start, axis=-1)[..., None] / 2.0
    time = start[..., :-1, None] + half * (1.0 + NODES)
    level = np.exp(log_level(time.reshape(*time.shape[:-2], -1)))
    return (level.reshape(*level.shape[:-1], *time.shape[-2:]) * WEIGHTS * half).sum(axis=(-1, -2))


def largest_rise(exponent: np.ndarray) -> np.ndarray:
    """Largest rise (...) of R between two of its turning points in order of time (..., points): ln of the expansion.

    Examples
    --------
    >>> float(largest_rise(np.array([0.0, 1.0, -1.0, 1.5])))
    2.5
    """
    return (exponent - np.minimum.accumulate(exponent, axis=-1)).max(axis=-1)


def arc_quantities(
    knots: Sequence[np.ndarray],
    log_level: LogLevelAt,
    area: Callable[[float, float], np.ndarray],
    calendar: Calendar,
    limit: float,
) -> tuple[Quantity, ...]:
    """`curve_quantities` of a curve of any form from where it may turn, its ln level and its area between two days."""

    def make(first: float, last: float) -> Arcs:
        return arcs(knots, first, last, log_level)

    return curve_quantities(make, calendar, limit, area, lambda curve, low: last_crossing(curve, log_level, low))


def curve_quantities(
    make: Callable[[float, float], Any],
    calendar: Calendar,
    limit: float,
    area: Callable[[float, float], np.ndarray] | None = None,
    crossing: Callable[[Any, float], np.ndarray] = last_time_above,
) -> tuple[Quantity, ...]:
    """What every curve has: its peak (whole, and by infusion interval), its AUC D0-28, its time below the LLOQ.

    Parameters
    ----------
    make : callable
        ``make(first, last)`` gives the segments between two days.
    calendar : Calendar
        Of one patient (no leading axes).
    limit : float
        LLOQ in the unit of the level; nan when unknown.
    area : callable, optional
        ``area(first, last)`` gives the area between two days; by default that of the segments.
    crossing : callable
        ``crossing(make(first, inf), log_limit)`` gives the time after which the curve stays below a limit.
    """
    taus = np.asarray(calendar.infusion_time, dtype=float)
    end = max(float(calendar.end), float(taus[-1]))
    log_cmax, tmax = peak(make(float(taus[0]), end))
    note = "" if end >= 28 - 1e-9 else f"follow-up ends on day {end:.4g}: extrapolated from there"
    found = [
        Quantity("curve_cmax", "level_unit", np.exp(log_cmax)),
        Quantity("curve_tmax", "d", tmax),
        Quantity("curve_auc_D0-28", "d*level_unit", area(0.0, 28.0) if area else auc(make(0.0, 28.0)), note=note),
    ]
    for k, tau in enumerate(taus):
        until = float(taus[k + 1]) if k + 1 < len(taus) else end
        value = peak(make(float(tau), until))[0]
        found.append(Quantity(f"curve_cmax_infusion_{k + 1}", "level_unit", np.exp(value)))
    if np.isfinite(limit) and limit > 0:
        t = crossing(make(float(taus[0]), np.inf), float(np.log(limit)))
        late = bool(np.all(t > end))
        found.append(
            Quantity(
                "t_below_lloq",
                "d",
                t,
                reason=f"the curve does not cross the LLOQ {limit:.4g}",
                note=f"beyond the end of follow-up on day {end:.4g}: extrapolated" if late else "",
            )
        )
    return tuple(found)


# -------------------------------------------------------------------------------------------------------- starts


def slope(time: np.ndarray, log_level: np.ndarray) -> float:
    """Slope [1/d] of the straight line through ln level by least squares; nan with fewer than two distinct times."""
    if len(time) < 2 or np.ptp(time) <= 0:
        return float("nan")
    t = time - time.mean()
    return float((t * (log_level - log_level.mean())).sum() / (t * t).sum())


def with_scale(
    model_log_level: Callable[..., np.ndarray],
    starts: np.ndarray,
    time: np.ndarray,
    log_level: np.ndarray,
    calendar: Calendar,
    constants: object,
    fallback: float,
    levels: Sequence[int] = (0,),
) -> np.ndarray:
    """Starts (starts, parameters) whose levels, in proportion to the first parameter as 1, are moved to the points."""
    starts = np.array(starts, dtype=float)
    if len(time) == 0:
        factor = np.full(len(starts), fallback)
    else:
        unit = model_log_level(time, starts, calendar, constants)
        factor = np.exp(np.clip((log_level - unit).mean(axis=-1), -60.0, 60.0))
    starts[:, list(levels)] *= factor[:, None]
    return starts


def stacked(calendars: Sequence[Calendar]) -> Calendar:
    """One calendar with a leading axis of patients: padded by infusions of amount 0 and pulses at infinity."""
    k = max(len(c.infusion_time) for c in calendars)

    def padded(values: np.ndarray, n: int, fill: float) -> np.ndarray:
        return np.concatenate([np.asarray(values, dtype=float), np.full(n - len(values), fill)])

    agents = sorted({a for c in calendars for a in c.pulses})
    none = np.zeros(0)
    width = {a: max(len(c.pulses.get(a, none)) for c in calendars) for a in agents}
    return Calendar(
        np.stack([padded(c.infusion_time, k, float(c.infusion_time[-1])) for c in calendars]),
        np.stack([padded(c.infusion_amount, k, 0.0) for c in calendars]),
        {a: np.stack([padded(c.pulses.get(a, none), width[a], np.inf) for c in calendars]) for a in agents},
        max(c.end for c in calendars),
    )
