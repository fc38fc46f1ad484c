"""What the parameters share: curve and start, areas, terminal fit, presence and loss; each made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nkinetics.blq import SUBSTITUTES, substituted
from nkinetics.nca.auc import (
    LINEAR,
    LINEAR_UP_LOG_DOWN,
    Segments,
    integral_between,
    integral_to,
    level_between,
    log_drop,
    piece_areas,
    piece_moments,
    piece_times_above,
    segments,
)
from nkinetics.nca.lambda_z import Terminal, terminal, tobit
from nkinetics.nca.persistence import Loss, loss
from nkinetics.nca.profiles import ABOVE, BLQ, DETECTED, INFUSION, NAMED, NONE, QUANTIFIED, UNDETECTED, UNKNOWN, Batch
from nkinetics.nca.reasons import CAUSES, Why, flagged
from nkinetics.settings import Blq, Nca

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Start:
    """Level at time 0 of each row, where no sample stands there.

    Parameters
    ----------
    level : array [rows; level unit]
        NaN where a sample stands there, or where the rule gives none.
    flags : array of int [rows]
        `Why` of the rule that was used, or of its failure.
    column : array of int [rows]
        The point that stands at time 0: a sample, or column 0 for an imputed level; -1 where there is none.
    """

    level: Floats
    flags: Ints
    column: Ints


@dataclass(frozen=True)
class Curves:
    """A batch with everything that several parameters need; nothing is computed before it is asked for.

    Parameters
    ----------
    batch : Batch
        Profiles and windows.
    settings : Nca
        Choices of the analysis.
    blq : Blq
        Position rules.
    """

    batch: Batch
    settings: Nca
    blq: Blq

    @cached_property
    def rows(self) -> Ints:
        """Row numbers."""
        return np.arange(len(self.batch.profile))

    @cached_property
    def quantified(self) -> Bools:
        """Samples of the window with a level."""
        return (self.batch.kind == QUANTIFIED) & self.batch.inside

    @cached_property
    def has_level(self) -> Bools:
        """Rows with a quantified level in the window."""
        return np.logical_or.reduce(self.quantified, axis=1)

    @cached_property
    def n_quantified(self) -> Ints:
        """Quantified samples in the window."""
        return self.quantified.sum(axis=1).astype(np.int64)

    @cached_property
    def above(self) -> Bools:
        """Rows whose window holds a level above the ULOQ."""
        return np.logical_or.reduce((self.batch.kind == ABOVE) & self.batch.inside, axis=1)

    @cached_property
    def peak(self) -> Ints:
        """Column of the largest quantified level, the first of equal ones."""
        return np.argmax(np.where(self.quantified, self.batch.level, -np.inf), axis=1)

    @cached_property
    def first(self) -> Ints:
        """Column of the first quantified level."""
        return np.argmax(self.quantified, axis=1)

    @cached_property
    def last(self) -> Ints:
        """Column of the last quantified level."""
        return self.quantified.shape[1] - 1 - np.argmax(self.quantified[:, ::-1], axis=1)

    def at(self, values: Floats, column: Ints) -> Floats:
        """A value of each row at a column; NaN where the window has no quantified level."""
        return np.where(self.has_level, values[self.rows, column], np.nan)

    @cached_property
    def tlast(self) -> Floats:
        """Time of the last quantified level."""
        return self.at(self.batch.time, self.last)

    @cached_property
    def clast(self) -> Floats:
        """Last quantified level."""
        return self.at(self.batch.level, self.last)

    @cached_property
    def no_level(self) -> Ints:
        """Why a row has no level at all: no sample of the patient, none in the window, none quantified."""
        any_sample = (self.batch.kind != NONE).any(axis=1)
        in_window = ((self.batch.kind != NONE) & self.batch.inside).any(axis=1)
        return (
            flagged(~any_sample & (self.batch.window_kind != 1), Why.NO_DATA)
            + flagged(any_sample & ~in_window, Why.NO_SAMPLE)
            + flagged(~any_sample & (self.batch.window_kind == 1), Why.NO_SAMPLE)
            + flagged(in_window & ~self.has_level & ~self.above, Why.NO_QUANTIFIED)
            + flagged(in_window & ~self.has_level & self.above, Why.ABOVE_ULOQ)
        )

    # -------------------------------------------------------------------------------------------------- the curve

    @cached_property
    def _levels(self) -> Floats:
        """Points of each curve before its start is settled: the window's samples and those that bracket it."""
        b = self.batch
        level = (b.kind == QUANTIFIED) | (b.kind == ABOVE)
        return substituted(b.level, level, b.kind == BLQ, b.lloq, self.blq)

    @cached_property
    def has_curve(self) -> Bools:
        """Rows whose profile has a quantified level, in the window or beside it."""
        return np.logical_or.reduce(self.batch.kind == QUANTIFIED, axis=1)

    @cached_property
    def begun(self) -> Start:
        """Level at time 0 where no sample stands there, by the rule of the configuration."""
        b, curve = self.batch, self._levels
        kept = ~np.isnan(curve)
        stands = kept & (b.time == 0)
        stood = np.logical_or.reduce(stands, axis=1)
        open_start = kept.any(axis=1) & ~stood
        first = np.argmax(kept, axis=1)
        c1, t1 = curve[self.rows, first], b.time[self.rows, first]
        rest = kept.copy()
        rest[self.rows, first] = False
        second = np.argmax(rest, axis=1)
        c2, t2 = curve[self.rows, second], b.time[self.rows, second]
        rule = b.start_rule
        falling = rest.any(axis=1) & (c1 > c2) & (c2 > 0)
        back = open_start & (rule == "back_extrapolate") & falling
        as_first = open_start & ((rule == "first") | ((rule == "back_extrapolate") & ~falling))
        zero = open_start & (rule == "zero")
        slope = np.divide(log_drop(c1, c2), t2 - t1, out=np.zeros_like(c1), where=back)
        level = np.full(len(c1), np.nan)
        level[zero] = 0.0
        level[as_first] = c1[as_first]
        level[back] = (c1 * np.exp(slope * t1))[back]
        flags = (
            flagged(zero, Why.START_ZERO)
            + flagged(as_first, Why.START_FIRST)
            + flagged(back, Why.START_BACK)
            + flagged(open_start & (rule == "missing"), Why.NO_START)
            + flagged(open_start & (rule == "predose"), Why.NO_PREDOSE)
            + flagged((b.lead > 0) & (rule == "predose"), Why.START_PREDOSE)
        )
        column = np.where(stood, np.argmax(stands, axis=1), np.where(np.isnan(level), -1, 0))
        return Start(level, flags, column)

    @cached_property
    def curve(self) -> Floats:
        """Level at each point of the curve; NaN where a sample is none. Column 0 also holds an imputed start."""
        curve = self._levels.copy()
        imputed = ~np.isnan(self.begun.level)
        curve[imputed, 0] = self.begun.level[imputed]
        return curve

    @cached_property
    def curve_peak(self) -> Floats:
        """First time of the largest level of the whole curve, after which the rule linear_log is logarithmic."""
        b = self.batch
        return b.time[self.rows, np.argmax(np.where(b.kind == QUANTIFIED, b.level, -np.inf), axis=1)]

    @cached_property
    def pieces(self) -> Segments:
        """The curve between its points."""
        return segments(self.batch.time, self.curve, self.settings.auc_rule, self.curve_peak)

    @cached_property
    def areas(self) -> Floats:
        """Area of each piece."""
        return piece_areas(self.pieces)

    @cached_property
    def no_area(self) -> Ints:
        """Why a row has no area from its start to Tlast."""
        unbegun = self.begun.flags & int(Why.NO_START | Why.NO_PREDOSE)
        flat = self.has_level & ~(self.tlast > self.batch.start)
        over = self.above | self._hidden(self.tlast)
        missing = self.no_level + flagged(self.has_level & over, Why.ABOVE_ULOQ)
        return np.where(
            missing > 0, missing, np.where(self.has_level & (unbegun > 0), unbegun, flagged(flat, Why.ONE_POINT))
        )

    @cached_property
    def area_notes(self) -> Ints:
        """What to say about an area that was computed."""
        causes = int(Why.NO_START | Why.NO_PREDOSE)
        return self.begun.flags & ~causes

    @cached_property
    def start_level(self) -> tuple[Floats, Ints]:
        """Level of the curve at the start of the window, and its flags."""
        b, curve = self.batch, self.curve
        at = self.begun.column
        value = np.where(at >= 0, curve[self.rows, at], np.nan)
        observed = np.isnan(self.begun.level) & ~np.isnan(value)
        unbegun = self.begun.flags & int(Why.NO_START | Why.NO_PREDOSE)
        notes = self.area_notes + flagged(observed & (b.kind[self.rows, at] == BLQ), Why.START_BLQ)
        causes = np.where(self._hidden(b.start) | self._guessed_over, int(Why.ABOVE_ULOQ), unbegun)
        late = np.flatnonzero(b.start > 0)
        if len(late):
            # A named window that begins later: the curve at that time.
            begin, p = b.start[late], self.pieces.of(late)
            holds = (p.start <= begin[:, None]) & (begin[:, None] <= p.end)
            found, pick = np.logical_or.reduce(holds, axis=1), (np.arange(len(late)), np.argmax(holds, axis=1))
            share = (begin - p.start[pick]) / (p.end[pick] - p.start[pick])
            value[late] = np.where(found, level_between(p.first[pick], p.last[pick], p.drop[pick], share), np.nan)
            causes[late] = np.where(found, causes[late] & int(Why.ABOVE_ULOQ), int(Why.NOT_BRACKETED))
            # How the curve began matters on its first piece alone.
            notes[late] = np.where((p.start[pick] == 0) & (begin < p.end[pick]), self.area_notes[late], 0)
        causes = np.where(self.has_curve, causes, self.no_level)
        absent = causes > 0
        return np.where(absent, np.nan, value), np.where(absent, causes, notes)

    def _hidden(self, end: Floats, rows: Ints | slice = slice(None)) -> Bools:
        """Rows in which a level above the ULOQ stands on the curve between the start of the window and a time.

        The curve passes over such a sample; a piece that does is not known where it is cut.
        """
        b = self.batch
        if not self._any_above:
            return np.zeros(len(end), dtype=bool)
        time, over = b.time[rows], b.kind[rows] == ABOVE
        points = np.where(np.isnan(self.curve[rows]), np.nan, time)
        before = np.where(points <= b.start[rows][:, None], points, -np.inf).max(axis=1, initial=-np.inf)
        after = np.where(points >= end[:, None], points, np.inf).min(axis=1, initial=np.inf)
        over &= (time >= before[:, None]) & (time <= after[:, None])
        return np.asarray(np.logical_or.reduce(over, axis=1))

    @cached_property
    def _any_above(self) -> bool:
        """Whether any level lies above the ULOQ, which few studies have."""
        return bool((self.batch.kind == ABOVE).any())

    @cached_property
    def _guessed_over(self) -> Bools:
        """Rows whose start level comes from their first two points although a level above the ULOQ is among them."""
        b = self.batch
        guessed = (self.begun.flags & int(Why.START_FIRST | Why.START_BACK)) > 0
        if not self._any_above:
            return np.zeros(len(guessed), dtype=bool)
        over = (b.kind == ABOVE) & guessed[:, None]
        kept = ~np.isnan(self._levels)
        second = np.where(kept & (np.cumsum(kept, axis=1) == 2), b.time, np.inf).min(axis=1, initial=np.inf)
        return np.asarray(np.logical_or.reduce(over & (b.time <= second[:, None]), axis=1))

    @cached_property
    def time_above(self) -> tuple[Floats, Ints]:
        """Time that each curve spends above the configured limit within the window, and its flags."""
        b = self.batch
        value, flags = np.full(len(self.rows), np.nan), flagged(np.isnan(b.above_limit), Why.NO_LIMIT)
        rows = np.flatnonzero(flags == 0)
        if len(rows):
            limit, pieces, end = b.above_limit[rows], self.pieces.of(rows), b.end[rows]

            def measure(cut: Segments) -> Floats:
                return piece_times_above(cut, limit[:, None])

            value[rows] = integral_between(pieces, b.start[rows], end, measure)
            unbegun = self.begun.flags & int(Why.NO_START | Why.NO_PREDOSE)
            single = self.has_curve & ((~np.isnan(self.curve)).sum(axis=1) < 2)
            hidden = flagged(self._hidden(b.end), Why.ABOVE_ULOQ)
            missing = np.where(self.has_curve, hidden, self.no_level)
            missing = np.where(missing > 0, missing, np.where(unbegun > 0, unbegun, flagged(single, Why.ONE_POINT)))
            below = (b.kind == BLQ) & b.inside & (b.lloq > b.above_limit[:, None])
            # Where the curve ends inside the window above the limit, the time that follows is not known.
            finish, last = self._finish
            open_end = (finish < b.end) & (last > b.above_limit)
            notes = (
                self.area_notes
                + flagged(below.any(axis=1), Why.LIMIT_BELOW_LLOQ)
                + flagged(open_end & self.has_curve, Why.ABOVE_AT_LAST)
            )
            flags[rows] = np.where(missing > 0, missing, notes)[rows]
        return np.where(flags & CAUSES, np.nan, value), flags

    @cached_property
    def _finish(self) -> tuple[Floats, Floats]:
        """Time and level of the last point of each curve."""
        kept = ~np.isnan(self.curve)
        column = kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)
        return self.batch.time[self.rows, column], self.curve[self.rows, column]

    def _from_start(
        self, whole: Floats, until: Floats, moments: bool = False, rows: Ints | slice = slice(None)
    ) -> Floats:
        measure = piece_moments if moments else piece_areas
        pieces, start = self.pieces.of(rows), self.batch.start[rows]
        total = integral_to(pieces, whole[rows], until, measure)
        late = np.flatnonzero(start > 0)
        if len(late):
            total[late] = integral_between(pieces.of(late), start[late], until[late], measure)
        return total

    @cached_property
    def area_last(self) -> Floats:
        """Area from the start of the window to Tlast."""
        return np.where(self.no_area == 0, self._from_start(self.areas, self.tlast), np.nan)

    @cached_property
    def moment_last(self) -> Floats:
        """Area under time x level from the start of the window to Tlast."""
        moments = self._from_start(piece_moments(self.pieces), self.tlast, moments=True)
        return np.where(self.no_area == 0, moments, np.nan)

    @cached_property
    def points(self) -> Bools:
        """Samples that make the area to Tlast: points of the curve in the window, an imputed start not among them."""
        b = self.batch
        kept = ~np.isnan(self.curve) & (b.sample >= 0) & b.inside & (b.time <= self.tlast[:, None])
        imputed = ~np.isnan(self.begun.level)
        kept[imputed, 0] = False
        return kept & (self.no_area == 0)[:, None]

    @cached_property
    def n_area(self) -> Ints:
        """Number of samples that make the area."""
        return self.points.sum(axis=1).astype(np.int64)

    # ---------------------------------------------------------------------------------------------- after the last

    @cached_property
    def first_blq_after(self) -> tuple[Bools, Ints]:
        """Whether a BLQ sample follows Tlast in the window, and its column."""
        b = self.batch
        after = (b.kind == BLQ) & b.inside & (b.time > self.tlast[:, None])
        return after.any(axis=1), np.argmax(after, axis=1)

    @cached_property
    def triangle(self) -> Floats:
        """Area between Tlast and the first BLQ sample after it, whose level is what the rule `last` makes of it."""
        exists, column = self.first_blq_after
        b = self.batch
        if self.blq.last == "drop":
            return np.zeros(len(exists))
        level = SUBSTITUTES[self.blq.last](np.where(exists, b.lloq[self.rows, column], np.nan))
        clast = np.where(exists, self.clast, np.nan)
        logarithmic = self.settings.auc_rule != LINEAR
        if self.settings.auc_rule == LINEAR_UP_LOG_DOWN:
            falls = level < clast
        else:
            falls = self.tlast >= self.curve_peak
        drop = np.where(falls & logarithmic, log_drop(clast, level), 0.0)
        piece = Segments(self.tlast, b.time[self.rows, column], clast, level, drop)
        return np.where(exists, piece_areas(piece), 0.0)

    # ----------------------------------------------------------------------------------------------- terminal slope

    @cached_property
    def terminal(self) -> Terminal:
        """Terminal fit of the whole profile of each row: never refitted inside a named window."""
        b = self.batch
        own = np.flatnonzero(b.window_kind != NAMED)
        place = np.full(len(self.rows), -1, dtype=np.int64)
        place[own] = np.arange(len(own))
        kind, time = b.kind[own], b.time[own]
        level = np.where(kind == QUANTIFIED, b.level[own], -np.inf)
        tmax = time[np.arange(len(own)), np.argmax(level, axis=1)]
        # The true peak may be the sample above the ULOQ; what lies before it is no terminal phase.
        over = np.where((kind == ABOVE), time, -np.inf).max(axis=1, initial=-np.inf)
        begins = np.maximum(tmax, over)[:, None]
        limits = self.settings.lambda_z
        after = (kind == QUANTIFIED) & ((time >= begins) if limits.include_tmax else (time > begins))
        fixed = None
        if b.manual is not None:
            fixed = b.manual.fixed[own]
            after = np.where(fixed[:, None], b.manual.include[own], after & ~b.manual.exclude[own])
        fit = terminal(time, b.level[own], after, limits, fixed)
        if limits.method == "tobit":
            tlast = np.where(kind == QUANTIFIED, time, -np.inf).max(axis=1, initial=-np.inf)
            below = (kind == BLQ) & (time > tlast[:, None])
            fit = tobit(fit, time, b.level[own], b.lloq[own], below)
        mine = place[b.parent]
        return Terminal(**{name: values[mine] for name, values in vars(fit).items()})

    @cached_property
    def clast_predicted(self) -> Floats:
        """Level of the terminal line at Tlast, which is its last point unless that one was left out by hand."""
        fit = self.terminal
        return np.exp(fit.intercept - fit.lambda_z * (self.tlast - fit.end))

    @cached_property
    def tail(self) -> Floats:
        """Area beyond Tlast to infinity: Clast/lambda_z."""
        return self.clast / self.terminal.lambda_z

    @cached_property
    def span_ratio(self) -> Floats:
        """Length of the terminal fit in half-lives."""
        fit = self.terminal
        return (fit.end - fit.start) * fit.lambda_z / np.log(2)

    @cached_property
    def extrapolated_pct(self) -> Floats:
        """Share of the area to infinity that lies beyond Tlast [%]."""
        return 100 * self.tail / (self.area_last + self.tail)

    @cached_property
    def no_terminal(self) -> Ints:
        """Why a row has no terminal fit."""
        fitted = self.terminal.n_points > 0
        few = self.terminal.n_available < self.settings.lambda_z.points_min
        if self.batch.manual is not None:
            few &= ~self.batch.manual.fixed[self.batch.parent]
        why = np.where(few, int(Why.TOO_FEW), int(Why.NOT_FALLING))
        why = np.where(self.terminal.failed, int(Why.TOBIT_FAILED), why)
        return np.where(self.no_level > 0, self.no_level, np.where(fitted, 0, why))

    @cached_property
    def _outside_own(self) -> Ints:
        limits, fit = self.settings.lambda_z, self.terminal
        fitted = fit.n_points > 0
        share = self.extrapolated_pct
        return (
            flagged(fitted & (fit.r_squared_adj < limits.r_squared_adj_min), Why.LOW_R2)
            + flagged(fitted & (self.span_ratio < limits.span_ratio_min), Why.SHORT_SPAN)
            + flagged(fitted & (share > limits.extrapolation_pct_max), Why.LONG_TAIL)
            + flagged(fitted & np.isnan(share), Why.TAIL_UNKNOWN)
        )

    @cached_property
    def fit_notes(self) -> Ints:
        """What to say beside every value of a terminal fit: points chosen by hand, censored points."""
        notes = flagged(self.terminal.n_censored > 0, Why.CENSORED_FIT)
        if self.batch.manual is not None:
            fixed = self.batch.manual.fixed[self.batch.parent]
            fewer = np.logical_or.reduce(self.batch.manual.exclude, axis=1)[self.batch.parent]
            notes = notes + flagged(fixed, Why.CHOSEN_BY_HAND) + flagged(fewer, Why.LEFT_OUT_BY_HAND)
        return notes

    @cached_property
    def outside(self) -> Ints:
        """Acceptance criteria that the terminal fit of the whole profile does not meet."""
        return self._outside_own[self.batch.parent]

    # ---------------------------------------------------------------------------------------------------- window area

    @cached_property
    def _ending(self) -> tuple[Ints, Floats, Floats, Bools]:
        """Column, time and level of the last quantified level of the whole profile, and whether BLQ samples follow."""
        b = self.batch
        level = b.kind == QUANTIFIED
        last = level.shape[1] - 1 - np.argmax(level[:, ::-1], axis=1)
        tlast = np.where(self.has_curve, b.time[self.rows, last], np.nan)
        clast = np.where(self.has_curve, b.level[self.rows, last], np.nan)
        return last, tlast, clast, ((b.kind == BLQ) & (b.time > tlast[:, None])).any(axis=1)

    def area_to(self, end: Floats, rows: Ints | slice = slice(None)) -> tuple[Floats, Ints, Floats]:
        """Area from the start of each window to a time, its flags, and the share that was extrapolated [%].

        Parameters
        ----------
        end : array [chosen rows; time]
            On the clock of each row; infinity or NaN has no area.
        rows : array of int or slice
            Rows, by default all; a row may come several times.
        """
        b = self.batch
        last, tlast, clast, blq_later = self._ending
        last, tlast, clast, blq_later = last[rows], tlast[rows], clast[rows], blq_later[rows]
        has = self.has_curve[rows]
        open_end = ~np.isfinite(end)
        end = np.where(open_end, np.nan, end)
        over = self._hidden(end, rows) & ~open_end
        beyond = has & (end > tlast)
        lost = beyond & blq_later
        held = beyond & ~blq_later & (b.trough[rows] == last)
        ended = beyond & ~blq_later & ~held
        rate = self.terminal.lambda_z[rows]
        accepted = (self.terminal.n_points[rows] > 0) & (self.outside[rows] == 0)
        inside = self._from_start(self.areas, end, rows=rows)
        distance = np.where(beyond, end - tlast, 0.0)
        extra = np.zeros(len(end))
        extra[held] = (clast * distance)[held]
        use = ended & accepted
        extra[use] = (clast / rate * -np.expm1(-rate * distance))[use]
        value = inside + extra
        # A named window before the first level or beyond the last one has no level of its own, but an area.
        missing = np.where(has, 0, self.no_level[rows])
        missing = np.where((missing == 0) & over, int(Why.ABOVE_ULOQ), missing)
        unbegun = self.begun.flags[rows] & int(Why.NO_START | Why.NO_PREDOSE)
        missing = np.where((missing == 0) & (unbegun > 0), unbegun, missing)
        single = has & ~((~np.isnan(self.curve[rows])).sum(axis=1) > 1) & ~use
        missing = np.where((missing == 0) & single, int(Why.ONE_POINT), missing)
        missing = np.where((missing == 0) & ended & ~accepted, int(Why.FOLLOW_UP_ENDED), missing)
        missing = np.where((missing == 0) & open_end, int(Why.OPEN_WINDOW), missing)
        notes = (
            self.area_notes[rows]
            + flagged(lost, Why.LOST_IN_WINDOW)
            + flagged(held & (distance > 0), Why.HELD)
            + flagged(use, Why.EXTRAPOLATED)
            + np.where(use, self.fit_notes[rows], 0)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(use, 100 * extra / value, 0.0)
        absent = missing > 0
        return np.where(absent, np.nan, value), np.where(absent, missing, notes), np.where(absent, np.nan, share)

    @cached_property
    def window_area(self) -> tuple[Floats, Ints, Floats]:
        """Area from start to end of the window, its flags, and the share beyond Tlast that was extrapolated [%]."""
        return self.area_to(self.batch.end)

    # ------------------------------------------------------------------------------------------------------ infusions

    @cached_property
    def first_infusion(self) -> Ints:
        """Row of the first infusion's window of the same profile; -1 for windows that are no infusion's."""
        b = self.batch
        own = np.flatnonzero(b.window_kind == INFUSION)
        # Windows of the first infusion stand before those of the second.
        profiles, first = np.unique(b.profile[own], return_index=True)
        out = np.full(len(self.rows), -1, dtype=np.int64)
        out[own] = own[first[np.searchsorted(profiles, b.profile[own])]]
        return out

    @cached_property
    def not_later_infusion(self) -> Ints:
        """Why a row is not the window of a second or later infusion."""
        infusion = self.batch.window_kind == INFUSION
        return np.where(
            infusion, flagged(self.first_infusion == self.rows, Why.FIRST_INFUSION), int(Why.PER_INFUSION_ONLY)
        )

    @cached_property
    def accumulated_area(self) -> tuple[Floats, Ints, Floats]:
        """Area after a later infusion over that after the first, flags, and the length of both intervals [time]."""
        value, flags = np.full(len(self.rows), np.nan), self.not_later_infusion.copy()
        common = np.full(len(self.rows), np.nan)
        rows = np.flatnonzero(flags == 0)
        if len(rows):
            first = self.first_infusion[rows]
            common[rows] = np.minimum(self.batch.end[rows], self.batch.end[first])
            mine, own, _ = self.area_to(common[rows], rows)
            reference, its, _ = self.area_to(common[rows], first)
            value[rows] = mine / reference
            absent = ((its & CAUSES) > 0) | ~(reference > 0)
            cause = np.where((own & CAUSES) > 0, own & CAUSES, flagged(absent, Why.NO_REFERENCE))
            notes = (own & int(Why.START_PREDOSE)) | int(Why.COMMON_INTERVAL)
            flags[rows] = np.where(cause > 0, cause, notes)
        return np.where(flags & CAUSES, np.nan, value), flags, common

    # ---------------------------------------------------------------------------------------------------- persistence

    @cached_property
    def quantifiable(self) -> Loss:
        """Presence and loss at the LLOQ."""
        b = self.batch
        present = ((b.kind == QUANTIFIED) | (b.kind == ABOVE)) & b.inside
        return loss(b.time, present, (b.kind == BLQ) & b.inside, self.settings.consecutive_blq)

    @cached_property
    def detectable(self) -> Loss:
        """Presence and loss at the LOD."""
        b = self.batch
        sampled = (b.kind != NONE) & b.inside
        present = sampled & (b.detection == DETECTED)
        return loss(b.time, present, sampled & (b.detection == UNDETECTED), self.settings.consecutive_blq)

    @cached_property
    def detection_unknown(self) -> Bools:
        """Rows with a BLQ sample without LOD where it matters: after the last sample that is known to be detected."""
        b = self.batch
        unknown = (b.kind == BLQ) & (b.detection == UNKNOWN) & b.inside & (b.time > 0)
        found = self.detectable
        since = np.where(found.ever, found.last_present, -np.inf)[:, None]
        return (unknown & (b.time > since)).any(axis=1)

    @cached_property
    def last_sample(self) -> Floats:
        """Time of the last sample of the window, with a level or not."""
        b = self.batch
        sampled = (b.kind != NONE) & b.inside
        return np.where(sampled, b.time, -np.inf).max(axis=1)
