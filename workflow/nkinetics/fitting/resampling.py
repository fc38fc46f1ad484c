"""Parametric bootstrap of one fit: data sets simulated from it, censored as the assay would have, and fitted again.

All data sets of a profile stand on the same rows, so they are fitted side by side without padding; a profile is
simulated and fitted by itself, with a seed from its own name, so that nothing else under way can change a bit of it.

The interval is the percentile interval, with the residual SD of each data set drawn around its estimate, sigma^2
n/chi^2 with n - p degrees of freedom: on a straight line that is Student's interval. That of sigma itself comes from
the ratio of its estimate to what was simulated. Measured coverage of 95 % intervals: simulated patients, log-normal
error of SD 0.4 (0.5 in the second line), M3. "Plain" simulates with the estimate of sigma. The range is over the
parameters of the curve, its peak, AUC and time below the LLOQ; for the profile over the parameters.

    model            samples  patients  below LLOQ  this         plain        profile      sigma: this, profile
    cytokine_window       14       400        16 %  .930 - .968  .868 - .905  .945 - .965  .943, .907
    cytokine_window       17       200        16 %  .900 - .930  .835 - .900  .925 - .940  .965, .930
    decay                  7       300        23 %  .903 - .920  .803 - .826  .910 - .936  .973, .923
    decay                 10       400        23 %  .932 - .950  .873 - .892  .948 - .950  .953, .927
    biexponential         17       150         9 %  .907 - .973  .853 - .933  .900 - .953  .960, .860

Inflating sigma by sqrt(n/(n - p)) instead gave .91 - .94 (cytokine_window, 150 patients), bias-corrected intervals the
same as percentiles to within the simulation error, basic intervals on the scale of estimation .89 - .95.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from nkinetics.blq import DENSITY, INTERVAL, NO_TERM, likelihood_rows
from nkinetics.fitting.engine import minimise
from nkinetics.fitting.intervals import Ends
from nkinetics.fitting.likelihood import censored_terms, log_interval
from nkinetics.fitting.objective import SIGMA_UPPER, Case
from nkinetics.fitting.optimise import AGREE, BOUND, Optimum
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
        """Which sets (sets,) can be fitted: quantified rows at two times at least, and more rows than parameters."""
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
        value = np.where(kind == DENSITY, -0.5 * (np.log(2.0 * np.pi * variance) + (lower - mu) ** 2 / variance), 0.0)
        row, column = np.nonzero(kind == INTERVAL)
        sigma = np.sqrt(sigma2)
        value[row, column] = log_interval(
            (lower[row, column] - mu[column]) / sigma, (upper[row, column] - mu[column]) / sigma
        )
        return -value.sum(axis=-1)


def simulated(case: Case, design: Design, vector: np.ndarray, sigma: np.ndarray, random: np.random.Generator) -> Sets:
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
    flat_lod, flat_lloq, flat_uloq = (np.broadcast_to(x, shape).ravel() for x in (lod, design.lloq, design.uloq))
    # Rounding must not leave a level of 0.
    level = np.maximum(level, np.finfo(float).tiny)
    rows = likelihood_rows(words.ravel(), level.ravel(), flat_lod, flat_lloq, flat_uloq, design.method, number.ravel())
    kind = rows.kind.reshape(shape)
    with np.errstate(divide="ignore"):
        lower, upper = np.log(rows.lower).reshape(shape), np.log(rows.upper).reshape(shape)
    return Sets(case, design.time, kind, lower, upper, np.where(kind == DENSITY, design.counting_variance, 0.0))


# ------------------------------------------------------------------------------------------------------- the fits

PILOT, PILOT_LEADING = 40, 12
"""So many data sets are fitted from every start of the model, as many leading starts to the end: where they end, the
other data sets may begin."""
FIRST_STEPS, LEADING, LAST_STEPS = 3, 2, 60
"""Steps after which only the leading starts of a data set go on, how many, and how far."""
ONLY_STEPS = 25
"""How far where the estimate is the only start: asked for where time counts."""
TOLERANCE = 1e-4
"""A fit ends when its next step would gain less than this in ln L: 0.014 standard errors."""
ALIKE = 100
"""Data sets whose derived quantities are computed at once."""
WIDE = 2.0
"""Estimates of a parameter within this on the scale of estimation, a factor of 7, are not on their way to a limit."""


@dataclass(frozen=True, eq=False)
class Begin:
    """Where searches begin, and the smooth piece of each: all (searches, parameters) on the scale of estimation."""

    vector: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def of(self, which: np.ndarray) -> Begin:
        """Some of them, in that order."""
        return Begin(self.vector[which], self.lower[which], self.upper[which])

    def at(self, vector: np.ndarray) -> Begin:
        """Other vectors in the same pieces."""
        return Begin(vector, self.lower, self.upper)

    def and_(self, other: Begin) -> Begin:
        """These and others."""
        pairs = ((self.vector, other.vector), (self.lower, other.lower), (self.upper, other.upper))
        return Begin(*(np.concatenate(pair) for pair in pairs))


def everywhere(case: Case, optimum: Optimum) -> Begin:
    """The estimate first, then the optimum of each piece, then every start that the model would try."""
    best = optimum.regimes[0]
    kinds = [(r.vector[None], r.lower, r.upper) for r in optimum.regimes if np.isfinite(r.value)]
    kinds += regimes(case)
    # At a search limit the likelihood is flat: begin inside too.
    low, high = case.bounds
    on = (best.vector <= low + BOUND) | (best.vector >= high - BOUND)
    typical = np.append(to_estimation(case.model, np.array([p.start for p in case.model.parameters])), best.vector[-1])
    inside = np.clip(np.where(on, typical, best.vector), best.lower, best.upper)
    kinds.append((inside[None], best.lower, best.upper))
    return Begin(
        np.concatenate([v for v, _, _ in kinds]),
        np.concatenate([np.broadcast_to(low, v.shape) for v, low, _ in kinds]),
        np.concatenate([np.broadcast_to(high, v.shape) for v, _, high in kinds]),
    )


def refitted(sets: Sets, optimum: Optimum, starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood fit of each data set.

    Parameters
    ----------
    sets : Sets
        As simulated.
    optimum : Optimum
        The fit that they were simulated from.
    starts : int
        Searches of each data set: one from that fit, the others from the curves that are the likeliest for it among
        those at which the data sets of a pilot ended, searched from every start of the model.

    Returns
    -------
    vectors : array (sets, parameters)
        On the scale of estimation; nan where a data set cannot be fitted.
    values : array (sets,)
        -ln L; inf there.
    """
    n = len(sets.kind)
    vectors, values = np.full((n, sets.case.size), np.nan), np.full(n, np.inf)
    usable = np.flatnonzero(sets.usable)
    if len(usable) == 0:
        return vectors, values
    all_starts = everywhere(sets.case, optimum)
    begin = all_starts.of(np.zeros(len(usable), dtype=np.intp))
    if starts > 1:
        pilot = usable[:PILOT]
        every = np.repeat(np.arange(len(all_starts.vector)), len(pilot))
        library, _ = _ended(sets, pilot, all_starts.of(every), PILOT_LEADING, LAST_STEPS)
        height = np.stack([sets.value(vector, usable) for vector in library.vector])
        nearest = np.argsort(height, axis=0, kind="stable")[: starts - 1]
        begin = begin.and_(library.of(nearest.ravel()))
    found, value = _ended(sets, usable, begin, LEADING, LAST_STEPS if starts > 1 else ONLY_STEPS)
    fitted = np.isfinite(value)
    vectors[usable[fitted]], values[usable[fitted]] = found.vector[fitted], value[fitted]
    return vectors, values


def _ended(sets: Sets, which: np.ndarray, begin: Begin, leading: int, steps: int) -> tuple[Begin, np.ndarray]:
    """The best end of each data set (sets,) over its starts: the first start of every set, then the second, ..."""
    n, starts = len(which), len(begin.vector) // len(which)
    chosen = np.arange(len(begin.vector))
    if starts > leading:
        vector, value = _minimised(sets, np.resize(which, len(chosen)), begin, FIRST_STEPS)
        order = np.argsort(value.reshape(starts, n), axis=0, kind="stable")[:leading]
        chosen = (order * n + np.arange(n)).ravel()
        begin = begin.at(vector).of(chosen)
    vector, value = _minimised(sets, np.resize(which, len(chosen)), begin, steps)
    best = value.reshape(-1, n).argmin(axis=0) * n + np.arange(n)
    return begin.at(vector).of(best), value[best]


def _minimised(sets: Sets, which: np.ndarray, begin: Begin, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the search for each problem ends: vector (problems, parameters) and -ln L (problems,)."""
    vectors, values = [], []
    for first in range(0, len(which), PIECE):
        piece = slice(first, first + PIECE)
        own = begin.of(np.arange(len(which))[piece])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = minimise(
                lambda x, active, of=which[piece]: sets.objective(x, of[active]),  # type: ignore[misc]
                own.vector,
                own.lower,
                own.upper,
                tolerance=TOLERANCE,
                iterations=iterations,
            )
        vectors.append(found.parameters)
        values.append(np.where(np.isnan(found.value), np.inf, found.value))
    return np.concatenate(vectors), np.concatenate(values)


# ------------------------------------------------------------------------------------------------- their distribution

FEWEST = 0.5
"""Share of the data sets that must have been fitted for their quantiles to mean anything."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """Bootstrap estimates of one fit.

    Parameters
    ----------
    vectors : array (fitted, parameters)
        On the scale of estimation, ln sigma last; phases named as the model names them.
    log_sigma : array (fitted,)
        ln of the residual SD that each data set was simulated with.
    sample : array of int (fitted,)
        Number of each data set among those simulated, from 0.
    n : int
        Data sets simulated.
    """

    vectors: np.ndarray
    log_sigma: np.ndarray
    sample: np.ndarray
    n: int

    @property
    def failed(self) -> int:
        """Data sets that could not be fitted."""
        return self.n - len(self.vectors)

    @property
    def enough(self) -> bool:
        """Whether quantiles of those that could be fitted mean anything."""
        return len(self.vectors) >= FEWEST * self.n


def resampled(
    case: Case, optimum: Optimum, design: Design, samples: int, starts: int, random: np.random.Generator
) -> Resampled:
    """Simulate data sets from a fit and fit them again.

    Parameters
    ----------
    case, optimum
        The fit.
    design : Design
        Its rows as measured.
    samples : int
        Data sets.
    starts : int
        Searches of each; see `refitted`.
    random : numpy Generator
        See `seed_of`.
    """
    n, free = case.points.n, case.points.n - len(case.model.parameters)
    # The residual SD is not known: it varies as it would around this estimate of it, which makes the intervals of a
    # straight line those of Student's t.
    log_sigma = optimum.vector[-1] + 0.5 * np.log(n / random.chisquare(free, samples))
    log_sigma = np.minimum(log_sigma, np.log(SIGMA_UPPER))
    sets = simulated(case, design, optimum.vector, np.exp(log_sigma), random)
    vectors, values = refitted(sets, optimum, starts)
    fitted = np.flatnonzero(np.isfinite(values))
    vectors = _to_limits(sets, fitted, vectors[fitted], values[fitted])
    natural = case.natural(vectors)
    natural[:, :-1] = case.model.ordered(natural[:, :-1])
    vectors = np.clip(case.estimation(natural), *case.bounds)
    return Resampled(vectors, log_sigma[fitted], fitted, samples)


def derived_values(case: Case, again: Resampled, lloq: float) -> dict[str, np.ndarray]:
    """Values (fitted,) of each derived quantity; nan or infinite where it does not exist."""
    if len(again.vectors) == 0:
        return {}
    natural = to_natural(case.model, again.vectors[:, :-1])
    # An area by quadrature is as costly for all as for the fastest curve: fast and slow ones apart.
    rates = [i for i, p in enumerate(case.model.parameters) if p.unit == "1/d"]
    order = np.argsort(natural[:, rates].sum(axis=-1), kind="stable")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        parts = [
            case.model.derived(natural[order[i : i + ALIKE]], case.calendar, case.constants, lloq)
            for i in range(0, len(order), ALIKE)
        ]
    back = np.argsort(order, kind="stable")
    names = [quantity.name for quantity in parts[0]]
    return {name: np.concatenate([part[j].value for part in parts])[back] for j, name in enumerate(names)}


def _to_limits(sets: Sets, which: np.ndarray, vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The estimates, each moved to a search limit of a parameter where that costs no likelihood.

    Towards a limit the likelihood may be flat, and a search ends anywhere on the way; that data set does not bound the
    parameter on this side. Parameters of which no estimate is far out are left alone.
    """
    moved = vectors.copy()
    for j in range(sets.case.size - 1):
        if len(moved) == 0 or np.ptp(moved[:, j]) < WIDE:
            continue
        for limit in (b[j] for b in sets.case.bounds):
            trial = moved.copy()
            trial[:, j] = limit
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                value = np.concatenate(
                    [sets.objective(trial[i : i + PIECE], which[i : i + PIECE])[0] for i in range(0, len(trial), PIECE)]
                )
            moved = np.where((value <= values + AGREE)[:, None], trial, moved)
    return moved


# ------------------------------------------------------------------------------------------------------- intervals


def limits(values: np.ndarray, estimate: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of bootstrap values (samples, ...), each end the next value outwards; it holds the estimate.

    Examples
    --------
    >>> low, high = limits(np.arange(1.0, 1000.0), np.array(500.0), 0.95)
    >>> float(low), float(high)
    (25.0, 975.0)
    """
    n = len(values)
    tail = (1.0 - confidence) / 2.0
    ranked = np.sort(values, axis=0)
    first = max(int(np.floor((n + 1) * tail + 1e-9)), 1)
    return np.minimum(ranked[first - 1], estimate), np.maximum(ranked[n - first], estimate)


def bootstrap_ends(case: Case, optimum: Optimum, again: Resampled, confidence: float) -> Ends:
    """Ends of the intervals of all parameters on the scale of estimation, ln sigma last; both open without fits."""
    low, high = case.bounds
    if not again.enough:
        opened = np.ones(case.size, dtype=bool)
        return Ends(low, high, opened, opened, None)
    lower, upper = limits(again.vectors, optimum.vector, confidence)
    # sigma is a scale: the ratio of its estimate to the truth hardly depends on either.
    ratio = again.vectors[:, -1] - again.log_sigma
    least, most = limits(ratio, np.zeros(()), confidence)
    lower[-1], upper[-1] = optimum.vector[-1] - most, optimum.vector[-1] - least
    lower, upper = np.clip(lower, low, high), np.clip(upper, low, high)
    return Ends(lower, upper, lower <= low + BOUND, upper >= high - BOUND, None)


def band(
    case: Case, again: Resampled, time: np.ndarray, log_level: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of ln level (times,) at each time [d]; nan without fits."""
    if not again.enough:
        return np.full(time.shape, np.nan), np.full(time.shape, np.nan)
    pieces = range(0, len(again.vectors), PIECE)
    levels = np.concatenate([case.curve(time, again.vectors[i : i + PIECE])[0] for i in pieces])
    return limits(levels, log_level, confidence)
