"""A sampling schedule judged before the first patient: expected standard errors, and which samples earn their place.

The information of one patient is the sum over his samples of J_i' W_i J_i, with J_i the derivatives of ln C(t_i) and
W_i the expected information of a censored sample (`nkinetics.fitting.expected`). Its inverse bounds the variance of any
unbiased estimate (Cramer and Rao); with few samples real errors are larger. Everything else follows: adding a sample
adds its term, dropping one removes it.

Several truths stand side by side on the leading axis: the first is the typical patient, the others, if any, are drawn
around it, so that a schedule may be judged over patients and not at one guess of the parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import DESIGN, DESIGN_CANDIDATES
from nkinetics.fitting.expected import expected
from nkinetics.fitting.identifiability import CORRELATION_MAX
from nkinetics.fitting.optimise import FLAT, INFORMATION_MIN
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, KineticModel
from nkinetics.store import complete

APART = 0.25
"""A candidate stands so many days from every other sample between the same infusions [d] (assumed): two samples of one
hour share their error, which the model does not know."""
SAME = 1e-3
"""Times closer than this are one time [d]: a sample at the very start of an infusion is drawn before it."""
AFTER_INFUSION = 2.0 / 24.0
"""When the candidate after an infusion is drawn [d]: cells have distributed."""
STEP = 1e-5
"""Step of the derivatives of derived quantities, scale of estimation."""
LOW, HIGH = 0.1, 0.9
"""Quantiles over patients that are reported."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Planned samples, by time.

    Parameters
    ----------
    time : array (samples,)
        Since the start of the first infusion [d]; one at the start of an infusion is drawn before it.
    lloq, lod : arrays (samples,)
        Limits of each sample, unit of the level; lod nan where there is none.
    """

    time: np.ndarray
    lloq: np.ndarray
    lod: np.ndarray


@dataclass(frozen=True, eq=False)
class Plan:
    """What is assumed of a patient before he is treated.

    Parameters
    ----------
    model, constants
        The curve.
    calendar : Calendar
        Infusions and cytokines; `end` is the end of follow-up.
    truths : array (truths, parameters)
        Natural scale; the first is the typical patient.
    sigma : float
        Residual SD of ln.
    lloq, lod : float
        Of further samples, unit of the level; lod nan for none.
    counted : float
        Molecules or events counted per unit of the level (0: counting noise left out). The count is taken as that of
        the expected level, and of the LLOQ below it.
    level_unit : str
        Unit of the level.
    rse_limit_pct : float
        A larger relative standard error means not identifiable.
    """

    model: KineticModel
    constants: Any
    calendar: Calendar
    truths: np.ndarray
    sigma: float = 0.5
    lloq: float = 50.0
    lod: float = float("nan")
    counted: float = 0.0
    level_unit: str = "copies/ug"
    rse_limit_pct: float = 100.0

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of the curve, and sigma."""
        return (*self.model.names, "sigma")

    @cached_property
    def targets(self) -> Targets:
        """What is to be known."""
        return targets(self)

    def samples(self, time: np.ndarray) -> Samples:
        """Samples at some times, all with the plan's limits."""
        time = np.asarray(time, dtype=float)
        return Samples(time, np.full(time.shape, self.lloq), np.full(time.shape, self.lod))


@dataclass(frozen=True, eq=False)
class Told:
    """What each sample is expected to tell, under each truth.

    Parameters
    ----------
    log_level : array (truths, samples)
        ln C.
    below : array (truths, samples)
        Probability of a level below the LLOQ.
    matrix : array (truths, samples, parameters + 1, parameters + 1)
        Expected information, scale of estimation, ln sigma last; 0 before the first infusion.
    """

    log_level: np.ndarray
    below: np.ndarray
    matrix: np.ndarray


def truths_around(
    model: KineticModel, truth: Sequence[float], omega: Mapping[str, float] | None = None, n: int = 200
) -> np.ndarray:
    """The typical patient and, where parameters vary between patients, n more (1 + n, parameters).

    Parameters
    ----------
    model : KineticModel
        Whose parameters these are.
    truth : sequence of float
        Natural scale, in the model's order.
    omega : mapping of str to float, optional
        SD between patients by parameter, scale of estimation.
    n : int
        Patients drawn; the draw is seeded by the model and its parameters.

    Examples
    --------
    >>> from nkinetics.models.decay import MODEL
    >>> truths_around(MODEL, [1000.0, 0.4]).tolist(), truths_around(MODEL, [1000.0, 0.4], {"delta": 0.3}, 9).shape
    ([[1000.0, 0.4]], (10, 2))
    """
    typical = np.asarray(truth, dtype=float)[None]
    spread = np.array([(omega or {}).get(name, 0.0) for name in model.names])
    if not (spread > 0).any():
        return typical
    text = "|".join(["design", model.name, *(f"{x:.12g}" for x in (*typical[0], *spread))])
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
    moved = to_estimation(model, typical) + spread * random.standard_normal((n, len(spread)))
    return np.concatenate([typical, np.where(spread > 0, to_natural(model, moved), typical)])


def acting(time: np.ndarray, calendar: Calendar) -> np.ndarray:
    """Times as the curve sees them [d]: a sample at the start of an infusion comes before its cells."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    nearest = tau[np.abs(np.asarray(time)[..., None] - tau).argmin(axis=-1)]
    return np.where(np.abs(time - nearest) <= SAME, np.nextafter(nearest, -np.inf), time)


def entering(time: np.ndarray, calendar: Calendar) -> np.ndarray:
    """Which samples are drawn after the first cells: the others say nothing about the curve."""
    return acting(time, calendar) > calendar.infusion_time[0]


def told(plan: Plan, samples: Samples) -> Told:
    """Expected information of each sample under each truth.

    Examples
    --------
    >>> from nkinetics.models.decay import MODEL
    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> plan = Plan(MODEL, MODEL.settings(), once, np.array([[1e6, 0.4]]), sigma=0.5)
    >>> told(plan, plan.samples([1.0, 2.0])).matrix.sum(axis=1)[0, :2, :2].round(3).tolist()
    [[8.0, -4.8], [-4.8, 3.2]]
    """
    n, p = len(samples.time), len(plan.model.parameters)
    level = np.full((len(plan.truths), n), -np.inf)
    slopes = np.zeros((len(plan.truths), n, p))
    there = entering(samples.time, plan.calendar)
    if there.any():
        time = acting(samples.time, plan.calendar)[there]
        level[:, there], slopes[:, there] = plan.model.jacobian(time, plan.truths, plan.calendar, plan.constants)
    with np.errstate(divide="ignore"):
        log_lloq, log_lod = np.log(samples.lloq), np.log(np.where(np.isnan(samples.lod), 0.0, samples.lod))
    mu = np.where(there, level, 0.0)
    count = plan.counted * np.exp(np.maximum(mu, log_lloq))
    noise = np.where(count > 0, 1.0 / np.where(count > 0, count, 1.0), 0.0)
    of = expected(mu, plan.sigma, log_lloq, log_lod, noise)
    matrix = np.zeros((*mu.shape, p + 1, p + 1))
    matrix[..., :p, :p] = of.mean[..., None, None] * slopes[..., :, None] * slopes[..., None, :]
    matrix[..., :p, p] = matrix[..., p, :p] = of.cross[..., None] * slopes
    matrix[..., p, p] = of.sigma
    return Told(level, np.where(there, of.below, 1.0), np.where(there[:, None, None], matrix, 0.0))


# ------------------------------------------------------------------------------------------------------- precision


def covariance(matrix: np.ndarray) -> np.ndarray:
    """Inverse of information matrices (..., q, q); nan for a parameter that takes part in a direction left open."""
    size = np.sqrt(np.maximum(np.einsum("...ii->...i", matrix), INFORMATION_MIN))
    both = size[..., :, None] * size[..., None, :]
    values, vectors = np.linalg.eigh(matrix / both)
    known = values > FLAT
    inverse = np.where(known, 1.0 / np.where(known, values, 1.0), 0.0)
    found = np.einsum("...ik,...k,...jk->...ij", vectors, inverse, vectors) / both
    lost = (vectors**2 * ~known[..., None, :]).sum(axis=-1) > 1e-6
    return np.where(lost[..., :, None] | lost[..., None, :], np.nan, found)


def condition_number(matrix: np.ndarray) -> np.ndarray:
    """Condition number (...) of information matrices scaled to a unit diagonal; inf where one is singular."""
    size = np.sqrt(np.maximum(np.einsum("...ii->...i", matrix), INFORMATION_MIN))
    values = np.linalg.eigvalsh(matrix / (size[..., :, None] * size[..., None, :]))
    low = values[..., 0]
    return np.where(low > FLAT, values[..., -1] / np.where(low > FLAT, low, 1.0), np.inf)


def relative_errors(spread: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Relative standard errors (..., targets) of quantities with these relative gradients (..., targets, q).

    A parameter without a variance takes it from the quantities that move with it, and from no other.
    """
    weight = gradient[..., :, None] * gradient[..., None, :]
    terms = np.where(weight == 0.0, 0.0, weight * spread[..., None, :, :])
    return np.sqrt(np.maximum(terms.sum(axis=(-1, -2)), 0.0))


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be known: parameters, sigma and derived quantities.

    Parameters
    ----------
    names, kinds, units, reasons : tuples of str
        Identifier; fitted or derived; unit; why it does not exist or what is to be kept in mind.
    value : array (truths, targets)
        Natural scale; nan where it does not exist.
    gradient : array (truths, targets, parameters + 1)
        Of the quantity, relative to itself, by the parameters on their scale of estimation.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    reasons: tuple[str, ...]
    value: np.ndarray
    gradient: np.ndarray


def targets(plan: Plan) -> Targets:
    """Parameters and everything that follows from them, with their gradients."""
    model, p = plan.model, len(plan.model.parameters)
    natural = np.concatenate([plan.truths, np.full((len(plan.truths), 1), plan.sigma)], axis=-1)
    own = np.zeros((*natural.shape, p + 1))
    for i in range(p + 1):
        scale = model.parameters[i].scale if i < p else "log"
        x = natural[:, i]
        own[:, i, i] = 1.0 if scale == "log" else 1.0 - x if scale == "logit" else 1.0 / np.abs(x)
    value, gradient = [natural], [own]
    names, kinds = list(plan.names), ["fitted"] * (p + 1)
    units, reasons = [*(q.unit for q in model.parameters), ""], [""] * (p + 1)
    centre = to_estimation(model, plan.truths)
    moves = STEP * np.eye(p)[:, None, :]
    around = to_natural(model, np.concatenate([centre[None], centre + moves, centre - moves]))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        quantities = model.derived(around, plan.calendar, plan.constants, plan.lloq)
    for quantity in quantities:
        at = np.broadcast_to(quantity.value, around.shape[:-1])
        exists = np.isfinite(at[0])
        # A peak at day 0 has no ln, and does not move.
        size = np.where(exists & (at[0] > 0), at[0], 1.0)
        with np.errstate(invalid="ignore"):
            slope = ((at[1 : p + 1] - at[p + 1 :]) / (2.0 * STEP * size)).T
        slope = np.where(np.abs(slope) <= 1e-9, 0.0, slope)
        value.append(np.where(exists, at[0], np.nan)[:, None])
        gradient.append(np.concatenate([slope, np.zeros((len(slope), 1))], axis=-1)[:, None, :])
        names.append(quantity.name)
        kinds.append("derived")
        units.append(quantity.unit)
        missing = quantity.reason or "does not exist for these parameters"
        fixed = "set by the calendar" if exists[0] and not slope[0].any() else ""
        reasons.append("; ".join(filter(None, [fixed, quantity.note])) if exists[0] else missing)
    units = [u.replace("level_unit", plan.level_unit) for u in units]
    return Targets(
        tuple(names),
        tuple(kinds),
        tuple(units),
        tuple(reasons),
        np.concatenate(value, axis=1),
        np.concatenate(gradient, axis=1),
    )


def precision(plan: Plan, samples: Samples) -> pd.DataFrame:
    """What a schedule is expected to determine: rows of design.csv.

    Parameters
    ----------
    plan : Plan
        The patient as assumed.
    samples : Samples
        The schedule.

    Returns
    -------
    DataFrame
        One row per parameter, derived quantity and number about the schedule. `rse_pct` of the typical patient, its
        10 % and 90 % quantiles over the truths where there are several.

    Examples
    --------
    >>> from nkinetics.models.decay import MODEL
    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> plan = Plan(MODEL, MODEL.settings(), once, np.array([[1e6, 0.4]]), sigma=0.5)
    >>> rows = precision(plan, plan.samples(np.arange(1.0, 11.0))).set_index("parameter")
    >>> round(float(rows.loc["delta", "rse_pct"]), 3), round(100 * 0.5 / 0.4 / np.sqrt(82.5).item(), 3)
    (13.762, 13.762)
    """
    what, sample = plan.targets, told(plan, samples)
    matrix = sample.matrix.sum(axis=1)
    spread = covariance(matrix)
    rse = 100.0 * np.where(np.isfinite(what.value), relative_errors(spread, what.gradient), np.nan)
    correlation = _correlations(spread[0])
    rows = []
    for i, (name, kind) in enumerate(zip(what.names, what.kinds, strict=True)):
        row: dict[str, Any] = {
            "parameter": name,
            "kind": kind,
            "value": what.value[0, i],
            "unit": what.units[i],
            "rse_pct": rse[0, i],
            "identifiable": bool(rse[0, i] <= plan.rse_limit_pct),
        }
        twin = ""
        if kind == "fitted" and np.isfinite(correlation[i]).any():
            j = int(np.nanargmax(np.abs(correlation[i])))
            row |= {"correlated_with": plan.names[j], "correlation": correlation[i, j]}
            if abs(correlation[i, j]) > CORRELATION_MAX:
                twin = f"not to be told apart from {plan.names[j]} (correlation above {CORRELATION_MAX:g})"
                row["identifiable"] = False
        row["reason"] = _reason(what.value[0, i], rse[0, i], what.reasons[i], twin, plan.rse_limit_pct)
        if len(plan.truths) > 1:
            over = np.where(np.isnan(rse[1:, i]), np.inf, rse[1:, i])
            low, high = np.quantile(over, [LOW, HIGH], method="inverted_cdf")
            row |= {"rse_pct_low": low, "rse_pct_high": high}
            row["share_identifiable"] = float((over <= plan.rse_limit_pct).mean())
        rows.append(row)
    counts = {
        "n_samples": float(entering(samples.time, plan.calendar).sum()),
        "n_below_lloq": float(sample.below[0][entering(samples.time, plan.calendar)].sum()),
        "log_det": float(_log_det(matrix)[0]),
        "condition_number": float(condition_number(matrix)[0]),
    }
    for name, value in counts.items():
        reason = "" if np.isfinite(value) else "the schedule leaves a direction open"
        rows.append({"parameter": name, "kind": "schedule", "value": value, "reason": reason})
    return _frame(rows, plan, DESIGN)


def _correlations(spread: np.ndarray) -> np.ndarray:
    """Correlations (q, q) of the estimates, nan on the diagonal and where there is none."""
    error = np.sqrt(np.diag(spread))
    found = spread / np.outer(error, error)
    np.fill_diagonal(found, np.nan)
    return found


def _reason(value: float, rse: float, known: str, twin: str, limit: float) -> str:
    """Why a quantity is not identifiable, or what is to be kept in mind."""
    if np.isnan(value):
        return known
    words = []
    if np.isnan(rse):
        words.append("not identifiable: the schedule does not determine it")
    elif rse > limit:
        words.append(f"not identifiable: expected relative standard error {rse:.0f} % above {limit:g} %")
    return "; ".join(filter(None, [*words, twin, known]))


def _frame(rows: Sequence[Mapping[str, Any]], plan: Plan, schema: Any) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    numbers = frame.select_dtypes("number")
    frame[numbers.columns] = numbers.replace([np.inf, -np.inf], np.nan)
    return complete(frame.assign(model=plan.model.name), schema)


# --------------------------------------------------------------------------------------------------------- ranking


def candidate_times(calendar: Calendar, last: float) -> np.ndarray:
    """Times at which one more sample could be drawn [d]: every half day, before and 2 h after each infusion.

    Examples
    --------
    >>> candidate_times(Calendar(np.array([0.0, 1.0]), np.ones(2)), 2.0).round(3).tolist()
    [0.083, 0.5, 1.0, 1.083, 1.5, 2.0]
    """
    tau = np.asarray(calendar.infusion_time, dtype=float)
    grid = np.concatenate([np.arange(0.0, last + 1e-9, 0.5), tau, tau + AFTER_INFUSION])
    grid = np.unique(grid[grid <= last + 1e-9].round(9))
    return grid[entering(grid, calendar)]


def free_of(candidates: np.ndarray, taken: np.ndarray, calendar: Calendar, apart: float = APART) -> np.ndarray:
    """Which candidates stand far enough from every sample between the same infusions."""
    if len(taken) == 0:
        return np.ones(len(candidates), dtype=bool)
    tau = np.asarray(calendar.infusion_time, dtype=float)
    own, other = acting(candidates, calendar), acting(taken, calendar)
    same = np.searchsorted(tau, own, side="right")[:, None] == np.searchsorted(tau, other, side="right")
    return ~(same & (np.abs(own[:, None] - other) < apart - 1e-9)).any(axis=1)


def _weakly_known(matrix: np.ndarray) -> np.ndarray:
    """Information with a prior SD of about 30 on the scale of estimation, so that an open direction can be ranked."""
    return matrix + INFORMATION_MIN * np.eye(matrix.shape[-1])


def _log_det(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(_weakly_known(matrix))[1]


def _worth(matrix: np.ndarray, gradient: np.ndarray | None) -> np.ndarray:
    """Worth of information matrices (truths, ..., q, q), averaged over the truths: more is better.

    ln det (D-optimality), or minus ln variance of one quantity with this relative gradient (truths, q)
    (c-optimality).
    """
    if gradient is None:
        return _log_det(matrix).mean(axis=0)
    c = gradient.reshape(len(gradient), *(1,) * (matrix.ndim - 3), -1, 1)
    solved = np.linalg.solve(_weakly_known(matrix), np.broadcast_to(c, (*matrix.shape[:-1], 1)))
    return -np.log((c * solved).sum(axis=(-1, -2))).mean(axis=0)


def ranking(
    plan: Plan,
    samples: Samples,
    candidates: np.ndarray | None = None,
    add: int = 3,
    target: str = "",
    apart: float = APART,
) -> pd.DataFrame:
    """Which further sample gains most, which to add together, and which planned one is missed least.

    Parameters
    ----------
    plan, samples
        The patient as assumed and the schedule.
    candidates : array, optional
        Times [d]; by default `candidate_times` up to the end of follow-up.
    add : int
        Samples to add one after the other, each the best beside those before it.
    target : str
        Parameter or derived quantity whose variance counts; empty for all parameters together (ln det).
    apart : float
        Least distance to another sample between the same infusions [d].

    Returns
    -------
    DataFrame
        Rows of design_candidates.csv with one column ``rse_pct_<parameter>`` for each parameter, and for the target:
        action add (each candidate alone), greedy (step by step), drop (each planned sample; least missed first).
    """
    what = plan.targets
    gradient = what.gradient[:, what.names.index(target)] if target else None
    if gradient is not None:
        # A quantity that some patients do not have, as a doubling time, is judged over the others.
        exists = np.isfinite(gradient).all(axis=-1) & gradient.any(axis=-1)
        plan, gradient = replace(plan, truths=plan.truths[exists]), gradient[exists]
    shown = [i for i, k in enumerate(what.kinds) if k == "fitted" or what.names[i] == target]
    planned = told(plan, samples)
    base = planned.matrix.sum(axis=1)
    offered = candidate_times(plan.calendar, plan.calendar.end) if candidates is None else np.unique(candidates)
    offered = offered[entering(offered, plan.calendar) & free_of(offered, samples.time, plan.calendar, apart)]
    new = told(plan, plan.samples(offered))

    def rows(action: str, time: np.ndarray, of: Told, after: np.ndarray, gain: np.ndarray) -> list[dict[str, Any]]:
        error = 100.0 * relative_errors(covariance(after[0]), what.gradient[0][shown])
        change = (_log_det(after) - _log_det(base).reshape(-1, *(1,) * (after.ndim - 3))).mean(axis=0)
        order = np.arange(len(time)) if action == "greedy" else np.lexsort((time, -gain.round(9)))
        return [
            {
                "action": action,
                "rank": rank,
                "time": time[i],
                "timing": moment(float(time[i]), plan.calendar),
                "level": np.exp(of.log_level[0, i]),
                "blq_share": of.below[0, i],
                "log_det_change": change[i],
                **{f"rse_pct_{what.names[k]}": error[i, j] for j, k in enumerate(shown)},
            }
            for rank, i in enumerate(order, start=1)
        ]

    before = _worth(base, gradient)
    alone = base[:, None] + new.matrix
    found = rows("add", offered, new, alone, _worth(alone, gradient) - before)
    chosen: list[int] = []
    path, current = [], base
    while len(chosen) < add:
        open_ = np.flatnonzero(free_of(offered, offered[chosen], plan.calendar, apart))
        open_ = np.setdiff1d(open_, chosen)
        if len(open_) == 0:
            break
        worth = _worth(current[:, None] + new.matrix[:, open_], gradient)
        chosen.append(int(open_[np.lexsort((offered[open_], -worth.round(9)))[0]]))
        current = current + new.matrix[:, chosen[-1]]
        path.append(current)
    if chosen:
        part = Told(new.log_level[:, chosen], new.below[:, chosen], new.matrix[:, chosen])
        found += rows("greedy", offered[chosen], part, np.stack(path, axis=1), np.zeros(len(chosen)))
    own = np.flatnonzero(entering(samples.time, plan.calendar))
    keep = 1.0 - np.eye(len(own))
    without = np.einsum("kj,tjab->tkab", keep, planned.matrix[:, own])
    part = Told(planned.log_level[:, own], planned.below[:, own], planned.matrix[:, own])
    found += rows("drop", samples.time[own], part, without, _worth(without, gradient) - before)
    return _frame(found, plan, DESIGN_CANDIDATES)


# ------------------------------------------------------------------------------------------------------ population


def population_errors(
    plan: Plan, samples: Samples, omega: Mapping[str, float], patients: Sequence[int], doses: Sequence[float]
) -> pd.DataFrame:
    """Expected standard errors of the typical values and of the exponent of the dose over several patients.

    With I the information of one patient and W the variance between patients, each tells I (1 + W I)^-1 about his
    typical values: to first order in the variation between patients, and exact where the curve is linear in normal
    parameters. omega and sigma are taken as known. The exponent theta_dose (1 is proportionality) acts on the first
    parameter, ln S + (theta - 1) ln(dose).

    Parameters
    ----------
    plan, samples
        As for one patient who gets the reference dose.
    omega : mapping of str to float
        SD between patients by parameter, scale of estimation.
    patients : sequence of int
        Patients at each dose level.
    doses : sequence of float
        Dose levels as multiples of the calendar's amounts.

    Returns
    -------
    DataFrame
        Rows of design.csv of kind population; `theta_dose` with two dose levels or more.
    """
    p = len(plan.model.parameters)
    between = np.diag([omega.get(name, 0.0) ** 2 for name in plan.model.names])
    many = len(set(doses)) > 1
    total = np.zeros((p + many, p + many))
    for n, dose in zip(patients, doses, strict=True):
        given = replace(plan.calendar, infusion_amount=np.asarray(plan.calendar.infusion_amount) * dose)
        one = told(replace(plan, calendar=given, truths=plan.truths[:1]), samples).matrix.sum(axis=1)[0, :p, :p]
        share = one @ np.linalg.inv(np.eye(p) + between @ one)
        by = np.eye(p, p + many)
        if many:
            by[0, p] = np.log(dose)
        total += n * by.T @ share @ by
    error = np.sqrt(np.diag(covariance(total)))
    own = plan.targets
    rows = []
    for i, name in enumerate((*plan.model.names, *(["theta_dose"] if many else []))):
        fitted = i < p
        rse = 100.0 * error[i] * (own.gradient[0, i, i] if fitted else 1.0)
        rows.append(
            {
                "parameter": name,
                "kind": "population",
                "value": own.value[0, i] if fitted else 1.0,
                "unit": own.units[i] if fitted else "",
                "rse_pct": rse,
                "identifiable": bool(rse <= plan.rse_limit_pct),
                "reason": _reason(1.0, rse, "", "", plan.rse_limit_pct),
            }
        )
    return _frame(rows, plan, DESIGN)


# ----------------------------------------------------------------------------------------------------------- words


def moment(time: float, calendar: Calendar) -> str:
    """When a sample is drawn, by study day (day 1 is that of the first infusion) and what is given then.

    Examples
    --------
    >>> calendar = Calendar(np.array([0.0, 3.0]), np.ones(2), {"IL-2": np.array([3.0, 9.0])})
    >>> [moment(t, calendar) for t in (3.0, 3.0833, 9.0, 10.5)]
    ['day 4, before infusion 2', 'day 4, 2 h after infusion 2', 'day 10, before IL-2', 'day 11 + 12 h']
    """
    whole = int(np.floor(time + SAME))
    day, hours = f"day {whole + 1}", 24.0 * (time - whole)
    for number, tau in enumerate(calendar.infusion_time, start=1):
        if abs(time - tau) <= SAME:
            return f"{day}, before infusion {number}"
        if 0 < time - tau < 0.5:
            return f"{day}, {24.0 * (time - tau):.2g} h after infusion {number}"
    if hours > 24.0 * SAME:
        return f"{day} + {hours:.2g} h"
    given = sorted(agent for agent, starts in calendar.pulses.items() if (np.abs(starts - time) <= SAME).any())
    return f"{day}, before {' and '.join(given)}" if given else day
