"""The mixed-effects model: whose series, which curve, which effects vary between patients.

For patient i the parameters on their scale of estimation are phi_i = B_i theta + eta_i with eta_i ~ N(0, Omega); B_i
holds the typical values and the covariates. Given phi_i every row contributes as for a single patient (see
`nkinetics.fitting.likelihood`): a density, or the probability of its interval.

All patients are computed side by side, and so are chains: arrays are (chains, patients, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr

from nkinetics.fitting.likelihood import HALF_LN_2PI, Points, log_interval

AT_ONCE = 40_000
"""Rows of which the likelihood is computed at once: what a step makes then stays in the processor's cache."""

Curves = Callable[[np.ndarray, int], np.ndarray]
"""(phi (chains, patients, parameters), chains) -> ln level (chains, patients, rows)."""


@dataclass(frozen=True, eq=False)
class Series:
    """Rows of all patients, padded to one width: the quantified ones first, the censored ones after them.

    Parameters
    ----------
    time : array (patients, rows)
        [d]; a padding row repeats a time of its patient.
    log_level : array (patients, quantified)
        Ln level of the quantified rows.
    log_lower, log_upper : arrays (patients, censored)
        Ends of the intervals of the censored rows.
    counting_variance : array (patients, rows)
        1/n_i, 0 where no count is known.
    weight : array (patients, rows)
        1, and 0 for padding.
    assay : array of int (patients, rows)
        Which residual SD, and which offset of ln level, a row has.
    place : array of int (patients, rows)
        Index of each row among the rows as they were given, -1 for padding.
    """

    time: np.ndarray
    log_level: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    counting_variance: np.ndarray
    weight: np.ndarray
    assay: np.ndarray
    place: np.ndarray

    @property
    def n(self) -> int:
        """Patients."""
        return len(self.time)

    @property
    def n_quantified(self) -> int:
        """Columns with a density."""
        return self.log_level.shape[-1]

    @property
    def assays(self) -> int:
        """How many residual SDs there are."""
        return int(self.assay.max()) + 1 if self.assay.size else 1

    @property
    def rows(self) -> int:
        """Rows that count."""
        return int(self.weight.sum())


def series(patients: Sequence[Sequence[Points]]) -> Series:
    """Rows of patients side by side.

    Parameters
    ----------
    patients : sequence of sequences of Points
        For each patient the rows of each assay; empty `Points` where he has none.

    Examples
    --------
    >>> one = Points(np.array([1.0, 2.0]), np.array([3.0]), np.array([-np.inf]), np.array([1.0]), np.zeros(2))
    >>> found = series([[one]])
    >>> found.rows, found.n_quantified, found.assays
    (2, 1, 1)
    """
    q = max(sum(p.n_quantified for p in own) for own in patients)
    c = max(sum(p.n - p.n_quantified for p in own) for own in patients)
    n = len(patients)
    time, variance, weight = (np.zeros((n, q + c)) for _ in range(3))
    assay, place = np.zeros((n, q + c), dtype=np.intp), np.full((n, q + c), -1, dtype=np.intp)
    level, lower, upper = np.zeros((n, q)), np.full((n, c), -np.inf), np.zeros((n, c))
    for i, own in enumerate(patients):
        # Padding stands at a time of the patient, where his curve is defined.
        known = np.concatenate([p.time for p in own])
        time[i] = known[0] if len(known) else 1.0
        at, after, before = 0, q, 0
        for g, p in enumerate(own):
            k = p.n_quantified
            columns = np.concatenate([at + np.arange(k), after + np.arange(p.n - k)])
            time[i, columns], variance[i, columns] = p.time, p.counting_variance
            weight[i, columns], assay[i, columns], place[i, columns] = 1.0, g, before + np.arange(p.n)
            level[i, at : at + k] = p.log_level
            lower[i, after - q : after - q + p.n - k] = p.log_lower
            upper[i, after - q : after - q + p.n - k] = p.log_upper
            at, after, before = at + k, after + p.n - k, before + p.n
    return Series(time, level, lower, upper, variance, weight, assay, place)


@dataclass(frozen=True, eq=False)
class Effects:
    """What the parameters of a patient are made of.

    Parameters
    ----------
    names : tuple of str
        Parameters of the curve.
    coefficients : tuple of str
        Names of the fixed effects theta.
    design : array (patients, parameters, coefficients)
        B_i.
    start : array (coefficients,)
        Where the search begins.
    free : array of bool (coefficients,)
        False where the value of `start` is fixed.
    varies : array of bool (parameters,)
        Which parameters vary between patients.
    together : array of bool (parameters, parameters)
        Which elements of Omega are free; the diagonal at least.
    prior_mean, prior_sd : arrays (coefficients,)
        Normal prior of theta; SD inf for none.
    omega_scale : float
        Scale of the half-normal prior of the SDs between patients (Bayes).
    omega_start : array (parameters,)
        SDs between patients at the start.
    sigma_start : array (assays,)
        Residual SDs at the start.
    """

    names: tuple[str, ...]
    coefficients: tuple[str, ...]
    design: np.ndarray
    start: np.ndarray
    free: np.ndarray
    varies: np.ndarray
    together: np.ndarray
    prior_mean: np.ndarray
    prior_sd: np.ndarray
    omega_scale: float
    omega_start: np.ndarray
    sigma_start: np.ndarray

    def location(self, theta: np.ndarray) -> np.ndarray:
        """B_i theta (..., patients, parameters) for theta (..., coefficients)."""
        return np.einsum("npk,...k->...np", self.design, theta)

    @property
    def moving(self) -> np.ndarray:
        """Indices of the parameters that vary between patients."""
        return np.flatnonzero(self.varies)

    @property
    def reach(self) -> np.ndarray:
        """SD between patients at the start (coefficients,) of the widest parameter that each coefficient acts on."""
        acts = np.abs(self.design).max(axis=0) > 0
        return np.where(acts, self.omega_start[:, None], 0.0).max(axis=0)

    @property
    def drawn(self) -> np.ndarray:
        """Free coefficients that act on parameters that vary, for which the M-step is a regression."""
        acts = (np.abs(self.design) > 0).any(axis=0)
        return self.free & acts[self.varies].any(axis=0)

    @property
    def shared(self) -> np.ndarray:
        """Free coefficients of parameters that do not vary between patients."""
        return self.free & ~self.drawn


@dataclass(frozen=True, eq=False)
class Errors:
    """What of the likelihood the curve does not touch: the variances of the rows at some residual SDs.

    Parameters
    ----------
    variance, log_variance : arrays (chains or 1, patients or 1, quantified or 1)
        Of the quantified rows, and its ln.
    sd : array (chains or 1, censored)
        Of the censored rows that count, in the order of `Study.censored`.
    """

    variance: np.ndarray
    log_variance: np.ndarray
    sd: np.ndarray

    def of(self, begin: int, end: int) -> Errors:
        """Those of some chains."""
        if len(self.variance) == 1:
            return self
        return Errors(self.variance[begin:end], self.log_variance[begin:end], self.sd[begin:end])


@dataclass(frozen=True, eq=False)
class Censored:
    """The censored rows that count, one after another: those that are open below first.

    Parameters
    ----------
    patient, column : arrays of int (censored,)
        Where each stands in `Series.log_lower` and `Series.log_upper`.
    place : array of int (censored,)
        Where it stands among all rows (patients * rows).
    log_upper : array (censored,)
        Upper ends.
    log_lower : array (closed,)
        Lower ends of those that have one: the last ones.
    """

    patient: np.ndarray
    column: np.ndarray
    place: np.ndarray
    log_upper: np.ndarray
    log_lower: np.ndarray

    @property
    def n_open(self) -> int:
        """How many are open below."""
        return len(self.log_upper) - len(self.log_lower)

    def log_probability(self, mu: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """Ln probability (chains, censored) of each interval, for ln levels and SDs (chains or 1, censored)."""
        k = self.n_open
        upper = (self.log_upper - mu) / sd
        closed = log_interval((self.log_lower - mu[:, k:]) / sd[:, k:], upper[:, k:])
        return np.concatenate([log_ndtr(upper[:, :k]), closed], axis=-1)


def censored(rows: Series) -> Censored:
    """The censored rows that count.

    Examples
    --------
    >>> ends = {"log_lower": np.array([0.0, -np.inf]), "log_upper": np.array([1.0, 2.0])}
    >>> found = censored(series([[Points(np.array([1.0, 3.0]), np.zeros(0), counting_variance=np.zeros(2), **ends)]]))
    >>> found.column.tolist(), found.log_upper.tolist(), found.n_open
    ([1, 0], [2.0, 1.0], 1)
    """
    q, open_below = rows.n_quantified, np.isneginf(rows.log_lower)
    counts = rows.weight[:, q:] > 0
    first, last = np.nonzero(counts & open_below), np.nonzero(counts & ~open_below)
    patient, column = (np.concatenate(both) for both in zip(first, last, strict=True))
    place = patient * rows.weight.shape[-1] + q + column
    return Censored(patient, column, place, rows.log_upper[patient, column], rows.log_lower[last])


@dataclass(frozen=True, eq=False)
class Study:
    """Patients, their rows and the model.

    Parameters
    ----------
    series : Series
        Rows of all patients.
    effects : Effects
        What their parameters are made of.
    curves : callable
        Ln level at the rows, before the offset of an assay; see `Curves`.
    slopes : callable, optional
        The same and its derivatives (chains, patients, rows, parameters); only parameters that do not vary need it.
    """

    series: Series
    effects: Effects
    curves: Curves
    slopes: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] | None = None
    censored: Censored = field(init=False)
    weight_q: np.ndarray = field(init=False)
    weight_c: np.ndarray = field(init=False)
    counted: np.ndarray = field(init=False)
    noisy: bool = field(init=False)
    even: bool = field(init=False)

    def __post_init__(self) -> None:
        """What does not change: the censored rows that count, weights, counts, whether a series has one variance."""
        rows, q = self.series, self.series.n_quantified
        noisy = bool(rows.counting_variance.any())
        for name, value in (
            ("censored", censored(rows)),
            ("weight_q", np.ascontiguousarray(rows.weight[:, :q])),
            ("weight_c", np.ascontiguousarray(rows.weight[:, q:])),
            ("counted", rows.weight[:, :q].sum(axis=-1)),
            ("noisy", noisy),
            ("even", rows.weight.shape[-1] == 1 or (rows.assays == 1 and not noisy)),
        ):
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """Patients."""
        return self.series.n

    def mean(self, phi: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Ln level (chains, patients, rows), the offset (chains or 1, assays) of its assay added."""
        mu = self.curves(phi, len(phi))
        if self.series.assays > 1:
            mu = mu + offset[:, self.series.assay]
        return mu

    def spread(self, sigma: np.ndarray) -> np.ndarray:
        """Variance (chains or 1, patients or 1, rows or 1) of each row for sigma (chains or 1, assays)."""
        own = sigma[:, None, :] if self.series.assays == 1 else sigma[:, self.series.assay]
        variance = own * own
        if self.noisy:
            variance = variance + self.series.counting_variance
        return variance

    def errors(self, sigma: np.ndarray) -> Errors:
        """What the likelihood needs of sigma (chains or 1, assays): kept where sigma stays and the curves move."""
        q, own = self.series.n_quantified, self.censored
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            variance = self.spread(sigma)
            of_quantified = variance if self.even else variance[..., :q]
            each = np.broadcast_to(variance, (len(variance), *self.series.weight.shape))
            return Errors(of_quantified, np.log(of_quantified), np.sqrt(each[:, own.patient, q + own.column]))

    def log_likelihood(self, phi: np.ndarray, sigma: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Ln p(rows of patient i | phi_i) (chains, patients); -inf where the curve cannot be computed."""
        return self.log_likelihood_given(phi, self.errors(sigma), offset)

    def log_likelihood_given(self, phi: np.ndarray, errors: Errors, offset: np.ndarray) -> np.ndarray:
        """The same for the errors of a sigma."""
        chains, found = len(phi), np.empty(phi.shape[:2])
        step = max(1, AT_ONCE // self.series.weight.size)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for begin in range(0, chains, step):
                end = min(begin + step, chains)
                mu = self.mean(phi[begin:end], offset if len(offset) == 1 else offset[begin:end])
                found[begin:end] = self.log_likelihood_at(mu, errors.of(begin, end))
        return found

    def log_likelihood_at(self, mu: np.ndarray, errors: Errors) -> np.ndarray:
        """Ln likelihood (chains, patients) for ln levels mu."""
        rows, q, variance = self.series, self.series.n_quantified, errors.variance
        residual = rows.log_level - mu[..., :q]
        if self.even:
            square = np.einsum("cnt,cnt,nt->cn", residual, residual, self.weight_q)
            value = -0.5 * square / variance[..., 0] - self.counted * (0.5 * errors.log_variance[..., 0] + HALF_LN_2PI)
        else:
            inside = residual * residual / variance + errors.log_variance
            value = -0.5 * np.einsum("cnt,nt->cn", inside, self.weight_q) - HALF_LN_2PI * self.counted
        if mu.shape[-1] > q:
            own = self.censored
            part = np.zeros((len(mu), *rows.log_upper.shape))
            part[:, own.patient, own.column] = own.log_probability(
                mu.reshape(len(mu), -1).take(own.place, axis=1), errors.sd
            )
            value = value + np.einsum("cnt,nt->cn", part, self.weight_c)
        return np.where(np.isnan(value), -np.inf, value)

    def of_rows(self, phi: np.ndarray, sigma: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Ln likelihood (chains, patients, rows) of each row given phi; 0 for padding."""
        rows, q = self.series, self.series.n_quantified
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mu = self.mean(phi, offset)
            variance = np.broadcast_to(self.spread(sigma), mu.shape)
            found = np.empty(mu.shape)
            found[..., :q] = -0.5 * (
                (rows.log_level - mu[..., :q]) ** 2 / variance[..., :q] + np.log(variance[..., :q])
            )
            found[..., :q] -= HALF_LN_2PI
            s = np.sqrt(variance[..., q:])
            found[..., q:] = log_interval((rows.log_lower - mu[..., q:]) / s, (rows.log_upper - mu[..., q:]) / s)
        return np.where(rows.weight > 0, found, 0.0)


@dataclass(frozen=True, eq=False)
class Values:
    """Population parameters: theta (..., coefficients), Omega (..., p, p), sigma and offset (..., assays)."""

    theta: np.ndarray
    omega: np.ndarray
    sigma: np.ndarray
    offset: np.ndarray


def cholesky(omega: np.ndarray) -> np.ndarray:
    """Lower factor of Omega (..., p, p); parameters without variability have zeros.

    Examples
    --------
    >>> cholesky(np.diag([4.0, 0.0])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    still = np.diagonal(omega, axis1=-2, axis2=-1) <= 0
    ones = np.where(still, 1.0, 0.0)[..., None] * np.eye(omega.shape[-1])
    return np.linalg.cholesky(omega + ones) - ones
