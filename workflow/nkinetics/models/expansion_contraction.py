"""Lag, exponential growth to Tmax, then loss in two phases (Stein 2019, CPT:PSP 8:285; Ogasawara 2021).

R(t) = rho (min(t, Tmax) - Tlag) up to Tmax and then, with x = t - Tmax,
R(t) = rho (Tmax - Tlag) + ln[(1 - FB) exp(-alpha x) + FB exp(-beta x)]. Written by its peak: Cmax is the level at
Tmax of one reference dose given at time 0, so that R0 = Cmax exp(-rho (Tmax - Tlag)) is derived. The gate is hard: the
curve is continuous, its derivative by Tmax is not where Tmax meets a sample or an infusion.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nkinetics.models._algebra import (
    LN2,
    Segments,
    curve_quantities,
    log_sum_exp,
    segments,
    slope,
    started,
    superposed,
    with_scale,
)
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

CMAX = Parameter(
    "cmax",
    "level_unit",
    "log",
    1e-12,
    1e18,
    1e4,
    {"en": "peak level of one reference dose given at time 0", "zh": "零时给予一个参考剂量的峰水平"},
)
RHO = Parameter("rho", "1/d", "log", 1e-3, 10.0, 0.9, {"en": "growth rate up to the peak", "zh": "达峰前增殖速率"})
TMAX = Parameter("tmax", "d", "log", 0.05, 1000.0, 9.3, {"en": "end of growth", "zh": "增殖结束时间"})
ALPHA = Parameter("alpha", "1/d", "log", 1e-4, 10.0, 0.16, {"en": "loss rate of the fast phase", "zh": "快相消除速率"})
FRACTION_SLOW = Parameter(
    "fraction_slow",
    "",
    "logit",
    1e-6,
    1 - 1e-6,
    0.05,
    {"en": "share of the slow phase at the peak", "zh": "峰时慢相所占份额"},
    0.0,
    1.0,
)
BETA = Parameter("beta", "1/d", "log", 1e-6, 3.0, 0.01, {"en": "loss rate of the slow phase", "zh": "慢相消除速率"})


class Constants(BaseModel):
    """The lag and the clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    t_lag: float = Field(0.0, ge=0, le=30, description="Time before growth begins, days (fixed).")
    clock: Literal["study", "infusion"] = Field(
        "study",
        description="study: later infusions join the current phase; infusion: each runs its own response.",
    )


def _unit(time: np.ndarray, parameters: np.ndarray, t_lag: float) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """R(t) (..., times), R(0) = 0, and its derivatives by ln rho, ln Tmax, ln alpha, logit FB and ln beta."""
    rho, tmax, alpha, slow, beta = (parameters[..., i, None] for i in range(1, 6))
    growing = np.minimum(np.maximum(time, t_lag), np.maximum(tmax, t_lag)) - t_lag
    x = np.maximum(time - tmax, 0.0)
    log_fast, log_slow = np.log1p(-slow) - alpha * x, np.log(slow) - beta * x
    phases = np.logaddexp(log_fast, log_slow)
    late = np.exp(log_slow - phases)
    fast = 1.0 - late
    grown = np.where(tmax > t_lag, rho, 0.0)
    risen = rho * growing
    by_alpha, by_beta = alpha * fast, beta * late
    return risen + phases, (
        risen,
        tmax * (time > tmax) * (grown + by_alpha + by_beta),
        -x * by_alpha,
        late - slow,
        -x * by_beta,
    )


def _base(parameters: np.ndarray, t_lag: float) -> np.ndarray:
    """R(Tmax) (..., 1): what the level has grown by at the peak, in ln."""
    return parameters[..., 1, None] * np.maximum(parameters[..., 2, None] - t_lag, 0.0)


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times).

    Examples
    --------
    Stein 2019, typical values: the peak 24000 stands at day 9.3 and grew from 6.15.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> stein = np.array([24000.0, np.log(3900) / 9.3, 9.3, 0.16, 0.0079, 0.0032])
    >>> np.exp(log_level(np.array([0.0, 9.3]), stein, once, Constants())).round(2).tolist()
    [6.15, 24000.0]
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives by ln Cmax, ln rho, ln Tmax, ln alpha, logit FB and ln beta."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    if constants.clock == "study":
        # One call for samples and infusions together: in a fit the number of calls is what costs.
        n = time.shape[-1]
        leading = np.broadcast_shapes(time.shape[:-1], tau.shape[:-1])
        both = np.concatenate([np.broadcast_to(x, (*leading, x.shape[-1])) for x in (time, tau)], axis=-1)
        exponent, slopes = _unit(both, parameters, constants.t_lag)
        value, share = superposed(time, calendar, exponent[..., :n], exponent[..., n:])
        moved = [s[..., :n] - (share * s[..., None, n:]).sum(axis=-1) for s in slopes]
    else:
        age = time[..., :, None] - tau[..., None, :]
        shape = age.shape
        flat = np.maximum(age, 0.0).reshape(*shape[:-2], -1)
        exponent, slopes = _unit(flat, parameters, constants.t_lag)

        def by_infusion(values: np.ndarray) -> np.ndarray:
            return values.reshape(*values.shape[:-1], *shape[-2:])

        with np.errstate(divide="ignore"):
            amount = np.log(np.asarray(calendar.infusion_amount, dtype=float))[..., None, :]
        terms = np.where(started(time, calendar), by_infusion(exponent) + amount, -np.inf)
        value, share = log_sum_exp(terms)
        moved = [(share * by_infusion(s)).sum(axis=-1) for s in slopes]
    base = _base(parameters, constants.t_lag)
    grown = np.where(parameters[..., 2, None] > constants.t_lag, parameters[..., 1, None], 0.0)
    moved[0] = moved[0] - base
    moved[1] = moved[1] - parameters[..., 2, None] * grown
    value = np.log(parameters[..., 0, None]) - base + value
    derivatives = np.empty((*value.shape, 6))
    derivatives[..., 0] = 1.0
    for i, column in enumerate(moved, start=1):
        derivatives[..., i] = column
    return value, derivatives


def knots(time: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Values of Tmax [d] at which the curve, seen at the samples, has a kink."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    if constants.clock == "study":
        found = np.concatenate([time, tau, [constants.t_lag]])
    else:
        found = np.concatenate([(time[:, None] - tau).ravel(), [constants.t_lag]])
    return np.unique(found[found > TMAX.lower])


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: one peak between each pair of samples; slopes of the points before and after it give the rates."""
    seen = np.unique(time[time > 0])
    edges = np.concatenate([[constants.t_lag], seen[seen > constants.t_lag], [max(TMAX.start, constants.t_lag + 1.0)]])
    earliest = max(TMAX.lower * 2, constants.t_lag + 0.02)
    starts = []
    for left, right in pairwise(np.unique(np.clip(edges, earliest, 300.0))):
        early, middle, late = (left + share * (right - left) for share in (0.25, 0.5, 0.75))
        rise = slope(time[time <= middle], log_level_seen[time <= middle])
        fall = -slope(time[time >= middle], log_level_seen[time >= middle])
        rho = float(np.clip(rise, 0.02, 5.0)) if np.isfinite(rise) else RHO.start
        alpha = float(np.clip(fall, 0.02, 2.0)) if np.isfinite(fall) else ALPHA.start
        starts += [
            [1.0, rho, early, 1.5 * alpha, 0.05, alpha / 5.0],
            [1.0, rho, late, 3.0 * alpha, 0.3, alpha / 2.0],
            [1.0, rho / 5.0, middle, alpha, 0.001, alpha / 10.0],
            [1.0, rho / 5.0, late, 3.0 * alpha, 0.7, 0.8 * alpha],
            [1.0, rho, early, 5.0, 0.3, alpha],
            [1.0, 1.5 * rho, middle, alpha, 0.005, alpha / 50.0],
        ]
    return with_scale(log_level, np.array(starts), time, log_level_seen, calendar, constants, CMAX.start)


def ordered(parameters: np.ndarray) -> np.ndarray:
    """The same curve with the faster phase named alpha: exchanged phases cannot be told apart."""
    exchanged = parameters[..., [0, 1, 2, 5, 4, 3]].copy()
    exchanged[..., 4] = 1.0 - exchanged[..., 4]
    within = (exchanged[..., 5] >= BETA.lower) & (exchanged[..., 5] <= BETA.upper) & (exchanged[..., 3] >= ALPHA.lower)
    swap = (parameters[..., 3] < parameters[..., 5]) & within
    return np.where(swap[..., None], exchanged, parameters)


def curve(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> Segments:
    """The curve by segments between infusions, lag and peak."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    leading = parameters.shape[:-1]
    rho, tmax, alpha, slow, beta = (parameters[..., i, None] for i in range(1, 6))
    starts = np.zeros(1) if constants.clock == "study" else tau
    cuts = [
        np.broadcast_to(tau, (*leading, len(tau))),
        np.broadcast_to(starts + constants.t_lag, (*leading, len(starts))),
        starts + np.maximum(tmax, constants.t_lag),
    ]

    def phases(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Components of one unit response at its ages: fast and slow after the peak, one growing before it."""
        x = left - np.maximum(tmax, constants.t_lag)
        after = middle > np.maximum(tmax, constants.t_lag)
        base = _base(parameters, constants.t_lag)
        before = rho * np.maximum(left - constants.t_lag, 0.0)
        lagging = middle < constants.t_lag
        log_fast = np.where(after, base + np.log1p(-slow) - alpha * x, before)
        log_slow = np.where(after, base + np.log(slow) - beta * x, -np.inf)
        rate_fast = np.where(after, -alpha, np.where(lagging, 0.0, rho))
        rate_slow = np.where(after, -beta, 0.0)
        return np.stack([log_fast, log_slow], axis=-1), np.stack([rate_fast, rate_slow], axis=-1)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outer = (np.log(parameters[..., 0, None]) - _base(parameters, constants.t_lag))[..., None]
        if constants.clock == "study":
            parts, rates = phases(left, middle)
            exponent_tau = _unit(tau, parameters, constants.t_lag)[0]
            joined = superposed(left, calendar, np.zeros(left.shape), exponent_tau)[0]
            return outer + joined[..., None] + parts, rates
        log_parts, rate_parts = [], []
        for start, amount in zip(tau, np.asarray(calendar.infusion_amount, dtype=float), strict=True):
            parts, rates = phases(left - start, middle - start)
            there = (left >= start)[..., None] & (amount > 0)
            log_parts.append(np.where(there, outer + parts + np.log(amount if amount > 0 else 1.0), -np.inf))
            rate_parts.append(np.where(there, rates, 0.0))
        return np.concatenate(log_parts, axis=-1), np.concatenate(rate_parts, axis=-1)

    return segments(cuts, first, last, pieces)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, R0, doubling time, expansion, half-lives, time below the LLOQ."""
    fold = np.exp(_base(parameters, constants.t_lag)[..., 0])
    return (
        *curve_quantities(lambda a, b: curve(parameters, calendar, constants, a, b), calendar, limit),
        Quantity("r0", "level_unit", parameters[..., 0] / fold),
        Quantity("doubling_time", "d", LN2 / parameters[..., 1], rate="rho"),
        Quantity("fold_expansion", "", fold),
        Quantity("half_life_alpha", "d", LN2 / parameters[..., 3], rate="alpha"),
        Quantity("half_life_beta", "d", LN2 / parameters[..., 5], rate="beta"),
    )


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """No change in the lag, rho N up to Tmax, then -alpha N and -beta N weighted by the phases that remain."""
    _, rho, tmax, alpha, slow, beta = (float(p) for p in parameters)
    age = time if constants.clock == "study" else time - tau
    if age < max(tmax, constants.t_lag):
        return (0.0 if age < constants.t_lag else rho) * cells
    x = age - max(tmax, constants.t_lag)
    fast, late = (1.0 - slow) * np.exp(-alpha * x), slow * np.exp(-beta * x)
    return -(alpha * fast + beta * late) / (fast + late) * cells


MODEL = KineticModel(
    name="expansion_contraction",
    title={"en": "Growth to a peak, then loss in two phases", "zh": "扩增至峰后双相收缩"},
    formula=(
        "C(t) = Cmax exp(-rho (Tmax - t)) up to Tmax, then "
        "Cmax [(1 - FB) exp(-alpha (t - Tmax)) + FB exp(-beta (t - Tmax))]"
    ),
    parameters=(CMAX, RHO, TMAX, ALPHA, FRACTION_SLOW, BETA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    breakpoint="tmax",
    knots=knots,
    growth="rho",
    ordered=ordered,
    fixed=lambda constants: {"t_lag": (constants.t_lag, "d")},
    example=Example(
        (24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032),
        Calendar(np.array([0.0]), np.array([1.0]), {}, 540.0),
        np.array([1.0, 3, 5, 7, 8, 10, 12, 14, 17, 21, 28, 42, 60, 90, 180, 270, 360, 540]),
    ),
)
