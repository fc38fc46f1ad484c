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
    log_drop,
    piece_areas,
    piece_moments,
    segments,
)
from nkinetics.nca.lambda_z import Terminal, terminal
from nkinetics.nca.persistence import Loss, loss
from nkinetics.nca.profiles import ABOVE, BLQ, DETECTED, NAMED, NONE, QUANTIFIED, UNDETECTED, UNKNOWN, Batch
from nkinetics.nca.reasons import Why, flagged
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
    """

    level: Floats
    flags: Ints


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
    def begun(self) -> Start:
        """Level at time 0 where no sample stands there, by the rule of the configuration."""
        b, curve = self.batch, self._levels
        kept = ~np.isnan(curve)
        open_start = kept.any(axis=1) & ~(kept & (b.time == 0)).any(axis=1)
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
        return Start(level, flags)

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
        missing = self.no_level + flagged(self.has_level & self.above, Why.ABOVE_ULOQ)
        return np.where(
            missing > 0, missing, np.where(self.has_level & (unbegun > 0), unbegun, flagged(flat, Why.ONE_POINT))
        )

    @cached_property
    def area_notes(self) -> Ints:
        """What to say about an area that was computed."""
        causes = int(Why.NO_START | Why.NO_PREDOSE)
        return self.begun.flags & ~causes

    def _from_start(self, whole: Floats, until: Floats, moments: bool = False) -> Floats:
        measure = piece_moments if moments else piece_areas
        total = integral_to(self.pieces, whole, until, measure)
        late = np.flatnonzero(self.batch.start > 0)
        if len(late):
            total[late] = integral_between(self.pieces.of(late), self.batch.start[late], until[late], measure)
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
        after = (kind == QUANTIFIED) & ((time >= begins) if self.settings.lambda_z.include_tmax else (time > begins))
        fit = terminal(time, b.level[own], after, self.settings.lambda_z)
        mine = place[b.parent]
        return Terminal(**{name: values[mine] for name, values in vars(fit).items()})

    @cached_property
    def clast_predicted(self) -> Floats:
        """Level of the terminal line at its last point, which is Tlast."""
        return np.exp(self.terminal.intercept)

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
        why = np.where(few, int(Why.TOO_FEW), int(Why.NOT_FALLING))
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
    def outside(self) -> Ints:
        """Acceptance criteria that the terminal fit of the whole profile does not meet."""
        return self._outside_own[self.batch.parent]

    # ---------------------------------------------------------------------------------------------------- window area

    @cached_property
    def window_area(self) -> tuple[Floats, Ints, Floats]:
        """Area from start to end of the window, its flags, and the share beyond Tlast that was extrapolated [%]."""
        b = self.batch
        open_end = ~np.isfinite(b.end)
        end = np.where(open_end, np.nan, b.end)
        level = b.kind == QUANTIFIED
        has = level.any(axis=1)
        last = level.shape[1] - 1 - np.argmax(level[:, ::-1], axis=1)
        tlast = np.where(has, b.time[self.rows, last], np.nan)
        clast = np.where(has, b.level[self.rows, last], np.nan)
        blq_later = ((b.kind == BLQ) & (b.time > tlast[:, None])).any(axis=1)
        over = ((b.kind == ABOVE) & ((b.time <= end[:, None]) | (b.time > tlast[:, None]))).any(axis=1)
        beyond = has & (end > tlast)
        lost = beyond & blq_later
        held = beyond & ~blq_later & (b.trough == last)
        ended = beyond & ~blq_later & ~held
        fit = self.terminal
        accepted = (fit.n_points > 0) & (self.outside == 0)
        inside = self._from_start(self.areas, end)
        distance = np.where(beyond, end - tlast, 0.0)
        extra = np.zeros(len(end))
        extra[held] = (clast * distance)[held]
        use = ended & accepted
        extra[use] = (clast / fit.lambda_z * -np.expm1(-fit.lambda_z * distance))[use]
        value = inside + extra
        # A named window before the first level or beyond the last one has no level of its own, but an area.
        missing = np.where(has, 0, self.no_level)
        missing = np.where((missing == 0) & over, int(Why.ABOVE_ULOQ), missing)
        unbegun = self.begun.flags & int(Why.NO_START | Why.NO_PREDOSE)
        missing = np.where((missing == 0) & (unbegun > 0), unbegun, missing)
        single = has & ~((~np.isnan(self.curve)).sum(axis=1) > 1) & ~use
        missing = np.where((missing == 0) & single, int(Why.ONE_POINT), missing)
        missing = np.where((missing == 0) & ended & ~accepted, int(Why.FOLLOW_UP_ENDED), missing)
        missing = np.where((missing == 0) & open_end, int(Why.OPEN_WINDOW), missing)
        notes = (
            self.area_notes
            + flagged(lost, Why.LOST_IN_WINDOW)
            + flagged(held & (distance > 0), Why.HELD)
            + flagged(use, Why.EXTRAPOLATED)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(use, 100 * extra / value, 0.0)
        absent = missing > 0
        return np.where(absent, np.nan, value), np.where(absent, missing, notes), np.where(absent, np.nan, share)

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
