"""Area under a piecewise curve: linear, linear up/log down, linear to the peak and log after it.

Everything works on a batch: arrays [profiles, samples], NaN where the curve has no point. No loop runs over profiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LINEAR_UP_LOG_DOWN, LINEAR, LINEAR_LOG = "linear_up_log_down", "linear", "linear_log"


@dataclass(frozen=True)
class Segments:
    """Pieces of curves, each ending at the sample in its column.

    Parameters
    ----------
    start, end : arrays [profiles, samples; time]
        Ends of a piece; NaN where no piece ends at this sample.
    first, last : arrays [profiles, samples; level]
        Levels at the ends.
    drop : array [profiles, samples]
        ln(first/last) of a piece that follows the log rule, 0 of a straight one.
    """

    start: Floats
    end: Floats
    first: Floats
    last: Floats
    drop: Floats

    def of(self, rows: Ints | slice) -> Segments:
        """The pieces of some profiles."""
        return Segments(self.start[rows], self.end[rows], self.first[rows], self.last[rows], self.drop[rows])


def log_drop(first: Floats, last: Floats) -> Floats:
    """ln(first/last) through log1p of the relative change, exact for neighbours that are nearly equal.

    Where a level is 0 or both are equal the log rule does not exist and 0 is returned: such a piece is straight.

    Examples
    --------
    >>> log_drop(np.array([2.0, 2.0, 0.0]), np.array([1.0, 2.0, 1.0])).round(6).tolist()
    [0.693147, 0.0, 0.0]
    """
    usable = (first > 0) & (last > 0)
    change = np.divide(last - first, first, out=np.zeros_like(first), where=usable)
    # Above a change of -1/2 log1p keeps the digits that a ratio of neighbours loses; below it the ratio is exact.
    ratio = np.divide(last, first, out=np.ones_like(first), where=usable)
    drop = np.where(change < -0.5, -np.log(np.where(ratio > 0, ratio, 1.0)), -np.log1p(np.maximum(change, -0.5)))
    return drop + 0.0


def segments(time: Floats, curve: Floats, rule: str, peak: Floats) -> Segments:
    """Cut curves into the pieces between their points.

    Parameters
    ----------
    time : array [profiles, samples; time]
        Increasing along a profile.
    curve : array [profiles, samples; level]
        NaN where a sample is no point of the curve.
    rule : {"linear_up_log_down", "linear", "linear_log"}
        Log rule where the level falls; nowhere; or everywhere after `peak`.
    peak : array [profiles; time]
        First time of the highest level, for ``linear_log``.
    """
    kept = ~np.isnan(curve)
    column = np.where(kept, np.arange(time.shape[1]), -1)
    before = np.full_like(column, -1)
    np.maximum.accumulate(column[:, :-1], axis=1, out=before[:, 1:])
    piece = kept & (before >= 0)
    source = np.maximum(before, 0)
    nothing = np.nan
    start = np.where(piece, np.take_along_axis(time, source, axis=1), nothing)
    end = np.where(piece, time, nothing)
    first = np.where(piece, np.take_along_axis(curve, source, axis=1), nothing)
    last = np.where(piece, curve, nothing)
    if rule == LINEAR:
        drop = np.zeros_like(first)
    else:
        logarithmic = (last < first) if rule == LINEAR_UP_LOG_DOWN else (start >= peak[:, None])
        drop = np.where(logarithmic, log_drop(first, last), 0.0)
    return Segments(start, end, first, last, drop)


def _mean_level(first: Floats, last: Floats, drop: Floats) -> Floats:
    """Mean of a piece: the logarithmic mean (first - last)/ln(first/last), else the middle."""
    straight = drop == 0.0
    return np.where(straight, (first + last) / 2, (first - last) / np.where(straight, 1.0, drop))


def piece_areas(pieces: Segments) -> Floats:
    """Area of each whole piece [level x time]; 0 where there is none.

    Examples
    --------
    >>> one = segments(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 8.0, 4.0]]), LINEAR_UP_LOG_DOWN, np.array([1.0]))
    >>> piece_areas(one).round(6).tolist()  # 8/2, then (8 - 4)/ln 2
    [[0.0, 4.0, 5.77078]]
    """
    areas = (pieces.end - pieces.start) * _mean_level(pieces.first, pieces.last, pieces.drop)
    return np.where(np.isnan(areas), 0.0, areas)


def integral_to(pieces: Segments, whole: Floats, until: Floats, measure: Callable[[Segments], Floats]) -> Floats:
    """Integral of each curve from its first point to a time, by interpolation with the rule of the piece.

    Parameters
    ----------
    pieces : Segments
        As `segments` returns them.
    whole : array [profiles, samples]
        ``measure(pieces)``: areas or moments of the whole pieces.
    until : array [profiles; time]
        Beyond the last point the integral stops growing, before the first it is 0.
    measure : callable
        `piece_areas` or `piece_moments`.

    Returns
    -------
    array [profiles]
        Integrals over neighbouring windows add up to the integral over both.
    """
    stop = until[:, None]
    total = np.where(pieces.end <= stop, whole, 0.0).sum(axis=1)
    cut = (pieces.start < stop) & (stop < pieces.end)
    rows = np.flatnonzero(cut.any(axis=1))
    if len(rows):
        at = (rows, np.argmax(cut[rows], axis=1))
        first, drop, start = pieces.first[at], pieces.drop[at], pieces.start[at]
        share = (until[rows] - start) / (pieces.end[at] - start)
        level = level_between(first, pieces.last[at], drop, share)
        total[rows] += measure(Segments(start, until[rows], first, level, drop * share))
    return total


def integral_between(pieces: Segments, start: Floats, end: Floats, measure: Callable[[Segments], Floats]) -> Floats:
    """Integral of each curve between two times, pieces cut at both; for windows that begin after the curve.

    The moment of a cut piece is that of the part alone: trapezoids of t C do not add up over a cut.
    """
    low = np.maximum(pieces.start, start[:, None])
    high = np.minimum(pieces.end, end[:, None])
    width = pieces.end - pieces.start
    inside = low < high
    whole = (low == pieces.start) & (high == pieces.end)
    width = np.where(inside, width, 1.0)
    from_, to = (low - pieces.start) / width, (high - pieces.start) / width
    first = np.where(low == pieces.start, pieces.first, level_between(pieces.first, pieces.last, pieces.drop, from_))
    last = np.where(high == pieces.end, pieces.last, level_between(pieces.first, pieces.last, pieces.drop, to))
    drop = np.where(whole, pieces.drop, pieces.drop * (to - from_))
    cut = Segments(np.where(inside, low, np.nan), high, first, last, drop)
    return measure(cut).sum(axis=1)


def level_between(first: Floats, last: Floats, drop: Floats, share: Floats) -> Floats:
    """Level after a share of a piece: exponential where the log rule holds, else straight."""
    return np.where(drop == 0.0, first + (last - first) * share, first * np.exp(-drop * share))


def _ramp(drop: Floats) -> Floats:
    """Integral over s in [0, 1] of s exp(-drop s): (1 - (1 + x) e^-x)/x^2, by its series where that loses digits."""
    small = np.abs(drop) < 0.2
    x = np.where(small, 1.0, drop)
    closed = (-np.expm1(-x) - x * np.exp(-x)) / (x * x)
    y = np.where(small, drop, 0.0)
    series = np.zeros_like(y)
    # Sum of (-y)^n / (n! (n + 2)); 0.2^12 / (12! 14) is far below the last digit.
    term = np.ones_like(y)
    for n in range(12):
        series = series + term / (n + 2)
        term = term * -y / (n + 1)
    return np.where(small, series, closed)


def piece_moments(pieces: Segments) -> Floats:
    """Area under time x level of each whole piece [level x time^2]; 0 where there is none.

    On a straight piece the trapezoid of t C, as Phoenix WinNonlin and PKNCA have it (not the integral of t times the
    straight line, which is smaller); exact on a piece that follows the log rule.

    Reference: Gabrielsson J, Weiner D (2012) Non-compartmental analysis. Methods Mol Biol 929:377-389,
    doi:10.1007/978-1-62703-050-2_16.
    """
    width = pieces.end - pieces.start
    straight = width * (pieces.start * pieces.first + pieces.end * pieces.last) / 2
    curved = pieces.start * piece_areas(pieces) + width * width * pieces.first * _ramp(pieces.drop)
    moments = np.where(pieces.drop == 0.0, straight, curved)
    return np.where(np.isnan(moments), 0.0, moments)


def piece_times_above(pieces: Segments, limit: Floats) -> Floats:
    """Time that each whole piece spends above a level [time]; touching it is not above; 0 where there is none.

    Parameters
    ----------
    pieces : Segments
        As `segments` returns them.
    limit : array, broadcast against the pieces [level]
        Positive.

    Examples
    --------
    >>> one = segments(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 8.0, 2.0]]), LINEAR_UP_LOG_DOWN, np.array([1.0]))
    >>> piece_times_above(one, np.array([[4.0]])).tolist()  # from 1/2 to 1; then ln 2 of ln 4
    [[0.0, 0.5, 0.5]]
    """
    first, last, drop = pieces.first, pieces.last, pieces.drop
    crosses = (first > limit) != (last > limit)
    straight = drop == 0.0
    step = np.where(crosses & straight, last - first, 1.0)
    curved = crosses & ~straight
    # As `drop` itself by log1p: a ratio of neighbours would lie before or beyond the piece.
    part_of_drop = log_drop(np.where(curved, first, 1.0), np.where(curved, limit, 1.0))
    share = np.where(straight, (limit - first) / step, part_of_drop / np.where(straight, 1.0, drop))
    # Of a piece that crosses, the part before the crossing lies above where it falls, the part after it where it rises.
    part = np.where(first > last, share, 1 - share)
    part = np.where(crosses, part, np.where((first > limit) & (last > limit), 1.0, 0.0))
    time = (pieces.end - pieces.start) * part
    return np.where(np.isnan(time), 0.0, time)
