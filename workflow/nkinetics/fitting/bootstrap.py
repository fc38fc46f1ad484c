"""Parametric bootstrap of one fit: data sets simulated from it, censored as the assay would have, and fitted again.

All data sets of a profile stand on the same rows, so they are fitted side by side without padding; a profile is
simulated and fitted by itself, with a seed from its own name, so that nothing else under way can change a bit of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from nkinetics.blq import DENSITY, INTERVAL, NO_TERM, likelihood_rows
from nkinetics.fitting.engine import minimise
from nkinetics.fitting.likelihood import censored_terms, log_interval
from nkinetics.fitting.objective import SIGMA_UPPER, Case
from nkinetics.fitting.optimise import BOUND, Optimum
from nkinetics.fitting.starts import regimes
from nkinetics.models._algebra import to_estimation, to_natural

PIECE = 2_000
"""Data sets computed at once: bounds the memory."""


@dataclass(frozen=True, eq=False)
class Design:
    """What was measured of one profile, in order of time: what a new measurement at the same times would be.

    Parameters
    ----------
    time : array (rows,)
        [d]; every row that counts, those that the BLQ method leaves out of the likelihood among them.
    lod, lloq, uloq : arrays (rows,)
        Limits of the sample, nan where unknown [level unit].
    counting_variance : array (rows,)
        1/n of the molecules counted, 0 where no count is known.
    method : str
        What the likelihood makes of a row below its LLOQ, as "M3".
    """

    time: np.ndarray
    lod: np.ndarray
    lloq: np.ndarray
    uloq: np.ndarray
    counting_variance: np.ndarray
    method: str


def seed_of(*names: str) -> np.random.Generator:
    """Random numbers that depend on names alone."""
    digest = hashlib.sha256("\x1f".join(("bootstrap", *names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32).tolist())


@dataclass(frozen=True, eq=False)
class Sets:
    """Simulated data sets (sets, rows) of one case, all on its rows.

    Parameters
    ----------
    case : Case
        Model, constants and calendar.
    time : array (rows,)
        [d].
    kind : array of int8 (sets, rows)
        Density, interval or nothing (`nkinetics.blq`).
    log_lower, log_upper : arrays (sets, rows)
        Ends of the interval, ln; both the level for a density.
    counting_variance : array (sets, rows)
        Of quantified rows; 0 elsewhere.
    """

    case: Case
    time: np.ndarray
    kind: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    counting_variance: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Which sets (sets,) can be fitted: two quantified rows at least, at two times, and more rows than parameters."""
        quantified = self.kind == DENSITY
        first = np.where(quantified, self.time, np.inf).min(axis=-1)
        last = np.where(quantified, self.time, -np.inf).max(axis=-1)
        return (first < last) & ((self.kind != NO_TERM).sum(axis=-1) > self.case.size - 1)

    def objective(self, vector: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-ln L (problems,), gradient (problems, p) and curvature (problems, p, p); `which` set each problem is of."""
        parameters = to_natural(self.case.model, vector[:, :-1])
        mu, slopes = self.case.model.jacobian(self.time, parameters, self.case.calendar, self.case.constants)
        kind = self.kind[which]
        sigma2 = np.exp(2.0 * vector[:, -1:])
        density = kind == DENSITY
        variance = sigma2 + self.counting_variance[which]
        residual = np.where(density, self.log_lower[which] - mu, 0.0)
        scaled = residual / variance
        z2 = residual * scaled
        ratio = sigma2 / variance
        value = np.where(density, -0.5 * (np.log(2.0 * np.pi * variance) + z2), 0.0)
        by_sigma = np.where(density, (z2 - 1.0) * ratio, 0.0)
        mean2 = np.where(density, 1.0 / variance, 0.0)
        sigma2_2 = np.where(density, 2.0 * ratio * ratio, 0.0)
        cross = np.zeros(mu.shape)
        row, column = np.nonzero(kind == INTERVAL)
        if len(row):
            own = which[row]
            part = censored_terms(
                mu[row, column], sigma2[row, 0], self.log_lower[own, column], self.log_upper[own, column], 0.0
            )
            value[row, column], scaled[row, column], by_sigma[row, column] = part[:3]
            mean2[row, column], cross[row, column], sigma2_2[row, column] = part[3:]
        n, p = vector.shape
        gradient, curvature = np.empty((n, p)), np.empty((n, p, p))
        across = slopes.transpose(0, 2, 1)
        gradient[:, :-1] = -(across @ scaled[..., None])[..., 0]
        gradient[:, -1] = -by_sigma.sum(axis=-1)
        curvature[:, :-1, :-1] = across @ (mean2[..., None] * slopes)
        curvature[:, :-1, -1] = curvature[:, -1, :-1] = (across @ cross[..., None])[..., 0]
        curvature[:, -1, -1] = sigma2_2.sum(axis=-1)
        return -value.sum(axis=-1), gradient, curvature

    def value(self, vector: np.ndarray, which: np.ndarray) -> np.ndarray:
        """-ln L (sets,) of one curve for some data sets."""
        mu = self.case.curve(self.time, vector)[0]
        kind = self.kind[which]
        sigma2 = np.exp(2.0 * vector[-1])
        variance = sigma2 + self.counting_variance[which]
        lower, upper = self.log_lower[which], self.log_upper[which]
        value = np.where(
            kind == DENSITY, -0.5 * (np.log(2.0 * np.pi * variance) + (lower - mu) ** 2 / variance), 0.0
        )
        row, column = np.nonzero(kind == INTERVAL)
        sigma = np.sqrt(sigma2)
        value[row, column] = log_interval((lower[row, column] - mu[column]) / sigma, (upper[row, column] - mu[column]) / sigma)
        return -value.sum(axis=-1)


def simulated(
    case: Case, design: Design, vector: np.ndarray, sigma: np.ndarray, random: np.random.Generator
) -> Sets:
    """Data sets from the curve at `vector` with these residual SDs (sets,), each row censored by its own limits."""
    mu = case.curve(design.time, vector)[0]
    spread = np.sqrt(sigma[:, None] ** 2 + design.counting_variance)
    with np.errstate(over="ignore"):
        level = np.exp(mu + spread * random.standard_normal(spread.shape))
    # A row without LLOQ has nothing that a method could put in its place.
    lod = np.where(np.isnan(design.lloq), np.nan, design.lod) if design.method in ("M5", "M6") else design.lod
    status = np.where(level < lod, 2, np.where(level < design.lloq, 1, np.where(level > design.uloq, 3, 0)))
    words = np.array(["quantified", "blq", "not_detected", "above_uloq"], dtype=object)[status]
    number = np.broadcast_to(np.arange(len(level))[:, None], level.shape)
    shape = level.shape
    limits = (np.broadcast_to(x, shape).ravel() for x in (lod, design.lloq, design.uloq))
    # Rounding must not leave a level of 0.
    level = np.maximum(level, np.finfo(float).tiny)
    rows = likelihood_rows(words.ravel(), level.ravel(), *limits, method=design.method, profile=number.ravel())
    kind = rows.kind.reshape(shape)
    with np.errstate(divide="ignore"):
        lower, upper = np.log(rows.lower).reshape(shape), np.log(rows.upper).reshape(shape)
    return Sets(case, design.time, kind, lower, upper, np.where(kind == DENSITY, design.counting_variance, 0.0))


# ------------------------------------------------------------------------------------------------------- the fits

PILOT = 40
"""Data sets that are fitted from every start of the model: where they end, the others begin."""
FIRST_STEPS = 3
"""Steps after which only the leading starts of a data set go on."""
LEADING = 2
"""So many of them."""
TOLERANCE = 1e-4
"""A fit ends when its next step would gain less than this in ln L: 0.014 standard errors."""


@dataclass(frozen=True, eq=False)
class Begin:
    """Starts with the limits of the smooth piece of each, all (starts, parameters) on the scale of estimation."""

    vector: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def of(self, which: np.ndarray) -> Begin:
        """Some of them, in that order."""
        return Begin(self.vector[which], self.lower[which], self.upper[which])


def _minimised(sets: Sets, which: np.ndarray, begin: Begin, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the search for each problem ends: vector (problems, parameters) and -ln L (problems,)."""
    parts = []
    for first in range(0, len(which), PIECE):
        own = slice(first, first + PIECE)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = minimise(
                lambda x, active, own=own: sets.objective(x, which[own][active]),  # type: ignore[misc]
                begin.vector[own],
                begin.lower[own],
                begin.upper[own],
                tolerance=TOLERANCE,
                iterations=iterations,
            )
        parts.append((found.parameters, np.where(np.isnan(found.value), np.inf, found.value)))
    return np.concatenate([x for x, _ in parts]), np.concatenate([v for _, v in parts])


def everywhere(case: Case, optimum: Optimum) -> Begin:
    """The estimate first, then the optimum of each piece, then every start that the model would try."""
    best = optimum.regimes[0]
    kinds = [(r.vector[None], r.lower, r.upper) for r in optimum.regimes if np.isfinite(r.value)]
    kinds += regimes(case)
    # At a search limit the likelihood is flat: begin inside too.
    low, high = case.bounds
    on = (best.vector <= low + BOUND) | (best.vector >= high - BOUND)
    typical = np.append(to_estimation(case.model, np.array([p.start for p in case.model.parameters])), best.vector[-1])
    if on.any():
        kinds.append((np.clip(np.where(on, typical, best.vector), best.lower, best.upper)[None], best.lower, best.upper))
    return Begin(
        np.concatenate([v for v, _, _ in kinds]),
        np.concatenate([np.broadcast_to(low, v.shape) for v, low, _ in kinds]),
        np.concatenate([np.broadcast_to(high, v.shape) for v, _, high in kinds]),
    )


def _library(sets: Sets, optimum: Optimum, pilot: np.ndarray) -> Begin:
    """The estimate, and where each data set of the pilot ended from the best of all starts."""
    begin = everywhere(sets.case, optimum)
    k = len(begin.vector)
    of, which = np.repeat(np.arange(k), len(pilot)), np.tile(pilot, k)
    vector, value = _minimised(sets, which, begin.of(of), 30)
    best = value.reshape(k, len(pilot)).argmin(axis=0)
    ends = vector.reshape(k, len(pilot), -1)[best, np.arange(len(pilot))]
    found = Begin(ends, begin.lower[best], begin.upper[best])
    return Begin(*(np.concatenate([a[:1], b]) for a, b in ((begin.vector, found.vector), (begin.lower, found.lower), (begin.upper, found.upper))))


def refitted(sets: Sets, optimum: Optimum, starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimates (sets, parameters) on the scale of estimation and -ln L (sets,) of each data set; inf where no fit."""
    n = len(sets.kind)
    vectors, values = np.full((n, sets.case.size), np.nan), np.full(n, np.inf)
    usable = np.flatnonzero(sets.usable)
    if len(usable) == 0:
        return vectors, values
    best = optimum.regimes[0]
    if starts == 1:
        one = Begin(best.vector[None], best.lower[None], best.upper[None])
        vectors[usable], values[usable] = _minimised(sets, usable, one.of(np.zeros(len(usable), dtype=np.intp)), 60)
        return vectors, values
    library = _library(sets, optimum, usable[:PILOT])
    own, nearest = _nearest(sets, usable, library, starts)
    x, value = _minimised(sets, own.ravel(), library.of(nearest.ravel()), FIRST_STEPS)
    order = np.argsort(value.reshape(own.shape), axis=0, kind="stable")[:LEADING]
    column = np.arange(len(usable))
    x = x.reshape(*own.shape, -1)[order, column].reshape(-1, sets.case.size)
    of = nearest[order, column].ravel()
    go = library.of(of)
    x, value = _minimised(sets, own[: len(order)].ravel(), Begin(x, go.lower, go.upper), 60)
    x, value = x.reshape(len(order), len(usable), -1), value.reshape(len(order), -1)
    lead = value.argmin(axis=0)
    vectors[usable], values[usable] = x[lead, column], value[lead, column]
    return vectors, values


def _nearest(sets: Sets, usable: np.ndarray, library: Begin, starts: int) -> tuple[np.ndarray, np.ndarray]:
    """The data set and the curve of the library (starts, sets) for each search: the estimate, and the likeliest."""
    k = len(library.vector)
    height = np.empty((k, len(usable)))
    for i in range(k):
        for first in range(0, len(usable), PIECE):
            own = usable[first : first + PIECE]
            height[i, first : first + PIECE] = sets.value(library.vector[i], own)
    order = np.argsort(height[1:], axis=0, kind="stable")[: starts - 1] + 1
    nearest = np.concatenate([np.zeros((1, len(usable)), dtype=np.intp), order])
    return np.broadcast_to(usable, nearest.shape), nearest
