"""Lag, exponential growth to Tmax, then loss in two phases (Stein 2019, CPT:PSP 8:285; Ogasawara 2021).

R(t) = rho (min(t, Tmax) - Tlag) up to Tmax and then, with x = t - Tmax,
R(t) = rho (Tmax - Tlag) + ln[(1 - FB) exp(-alpha x) + FB exp(-beta x)]. Written by its peak: Cmax is the level at
Tmax of one reference dose given at time 0, so that R0 = Cmax exp(-rho (Tmax - Tlag)) is derived. This gate is hard: the
curve is continuous, its derivative by Tmax is not where Tmax meets a sample or an infusion.

The smooth gate, of a width h that the configuration sets, has in place of max(0, t - Tmax) and min(t, Tmax)

    X(t) = h ln(1 + e^((t - Tmax)/h)) - h ln(1 + e^(-Tmax/h)),    G(t) = t - X(t),
    R(t) = rho G(t) + ln[(1 - FB) exp(-alpha X(t)) + FB exp(-beta X(t))],

(t and Tmax counted from Tlag): growth fades as 1/(1 + e^((t - Tmax)/h)) while the two-phase loss sets in as its
complement. For a loss in one phase this is the net rate g/(1 + e^((t - Tmax)/h)) - alpha with g = rho + alpha, and for
h to 0 the hard gate. Cmax is then where the lines of growth and loss would meet, R0 = Cmax exp(-rho G(inf)); the peak
of the curve itself lies below and is derived.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nkinetics.models._algebra import (
    LN2,
    Segments,
    arc_quantities,
    curve_quantities,
    integral,
    log_sum_exp,
    segments,
    slope,
    started,
    superposed,
    superposition,
    with_scale,
)
from nkinetics.models._constants import Range
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
    t_lag_range: Range = Field((0.0, 6.0), description="Lags over which the sensitivity to it is shown, days.")
    clock: Literal["study", "infusion"] = Field(
        "study",
        description="study: later infusions join the current phase; infusion: each runs its own response.",
    )
    gate: Literal["hard", "smooth"] = Field(
        "hard", description="How growth turns into loss at Tmax: at once, or over gate_width (clock study only)."
    )
    gate_width: float = Field(0.5, ge=0.05, le=10, description="Width h of the smooth gate, days (fixed).")
    gate_width_range: Range = Field((0.25, 2.0), description="Widths over which the sensitivity to it is shown, days.")

    @model_validator(mode="after")
    def _one_clock(self) -> Constants:
        if self.gate == "smooth" and self.clock == "infusion":
            raise ValueError("gate smooth needs clock study")
        return self


def _gate(
    time: np.ndarray, tmax: np.ndarray, constants: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | float, np.ndarray]:
    """Days of growth and of loss up to t (..., times), and how much of them a later Tmax [per d] exchanges.

    Returns
    -------
    growing, losing : arrays (..., times)
        G(t) and X(t).
    turned, gained : arrays (..., times)
        -dX/dTmax and dG/dTmax.
    """
    lag = constants.t_lag
    if constants.gate == "hard":
        growing = np.minimum(np.maximum(time, lag), np.maximum(tmax, lag)) - lag
        turned = time > tmax
        return growing, np.maximum(time - tmax, 0.0), turned, turned & (tmax > lag)
    h = constants.gate_width
    now, begin = (np.maximum(time, lag) - tmax) / h, (lag - tmax) / h
    losing = h * (np.logaddexp(0.0, now) - np.logaddexp(0.0, begin))
    # Here, because the settings ask every model for its constants: the workflow would load SciPy at every start.
    from scipy.special import expit

    turned = expit(now) - expit(begin)
    return np.maximum(time, lag) - lag - losing, losing, turned, turned


def _unit(time: np.ndarray, parameters: np.ndarray, constants: Any) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """R(t) (..., times), R(0) = 0, and its derivatives by ln rho, ln Tmax, ln alpha, logit FB and ln beta."""
    rho, tmax, alpha, slow, beta = (parameters[..., i, None] for i in range(1, 6))
    growing, x, turned, gained = _gate(time, tmax, constants)
    log_fast, log_slow = np.log1p(-slow) - alpha * x, np.log(slow) - beta * x
    phases = np.logaddexp(log_fast, log_slow)
    late = np.exp(log_slow - phases)
    fast = 1.0 - late
    risen = rho * growing
    by_alpha, by_beta = alpha * fast, beta * late
    return risen + phases, (
        risen,
        tmax * (rho * gained + turned * (by_alpha + by_beta)),
        -x * by_alpha,
        late - slow,
        -x * by_beta,
    )


def _base(parameters: np.ndarray, constants: Any) -> tuple[np.ndarray, np.ndarray]:
    """All growth rho G(inf) (..., 1), in ln, and its derivative by ln Tmax; by ln rho it is itself."""
    rho, tmax = parameters[..., 1, None], parameters[..., 2, None]
    if constants.gate == "hard":
        return rho * np.maximum(tmax - constants.t_lag, 0.0), tmax * np.where(tmax > constants.t_lag, rho, 0.0)
    h = constants.gate_width
    u = (tmax - constants.t_lag) / h
    from scipy.special import expit

    return rho * h * np.logaddexp(0.0, u), tmax * rho * expit(u)


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
        exponent, slopes = _unit(both, parameters, constants)
        value, share = superposed(time, calendar, exponent[..., :n], exponent[..., n:])
        moved = [s[..., :n] - (share * s[..., None, n:]).sum(axis=-1) for s in slopes]
    else:
        age = time[..., :, None] - tau[..., None, :]
        shape = age.shape
        flat = np.maximum(age, 0.0).reshape(*shape[:-2], -1)
        exponent, slopes = _unit(flat, parameters, constants)

        def by_infusion(values: np.ndarray) -> np.ndarray:
            return values.reshape(*values.shape[:-1], *shape[-2:])

        with np.errstate(divide="ignore"):
            amount = np.log(np.asarray(calendar.infusion_amount, dtype=float))[..., None, :]
        terms = np.where(started(time, calendar), by_infusion(exponent) + amount, -np.inf)
        value, share = log_sum_exp(terms)
        moved = [(share * by_infusion(s)).sum(axis=-1) for s in slopes]
    base, by_tmax = _base(parameters, constants)
    moved[0] = moved[0] - base
    moved[1] = moved[1] - by_tmax
    value = np.log(parameters[..., 0, None]) - base + value
    derivatives = np.empty((*value.shape, 6))
    derivatives[..., 0] = 1.0
    for i, column in enumerate(moved, start=1):
        derivatives[..., i] = column
    return value, derivatives


def knots(time: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Values of Tmax [d] at which the curve, seen at the samples, has a kink; none with the smooth gate."""
    if constants.gate == "smooth":
        return np.zeros(0)
    tau = np.asarray(calendar.infusion_time, dtype=float)
    if constants.clock == "study":
        found = np.concatenate([time, tau, [constants.t_lag]])
    else:
        found = np.concatenate([(time[:, None] - tau).ravel(), [constants.t_lag]])
    return np.unique(found[found > TMAX.lower])


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    if constants.clock == "infusion":
        return lambda parameters: log_level(time, parameters, calendar, constants)
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)
    lag, h, hard = constants.t_lag, constants.gate_width, constants.gate == "hard"

    def at(parameters: np.ndarray) -> np.ndarray:
        cmax, rho, tmax, alpha, slow, beta = (parameters[..., i, None] for i in range(6))
        log_fast, log_slow = np.log1p(-slow), np.log(slow)
        top = np.maximum(tmax, lag)

        def exponent(t: np.ndarray) -> np.ndarray:
            if hard:
                x = np.maximum(t - tmax, 0.0)
                growing = np.minimum(np.maximum(t, lag), top) - lag
            else:
                late = np.maximum(t, lag)
                x = h * (np.logaddexp(0.0, (late - tmax) / h) - np.logaddexp(0.0, (lag - tmax) / h))
                growing = late - lag - x
            return rho * growing + np.logaddexp(log_fast - alpha * x, log_slow - beta * x)

        base = rho * (top - lag) if hard else rho * h * np.logaddexp(0.0, (tmax - lag) / h)
        return np.log(cmax) - base + total(exponent(time), exponent(tau))

    return at


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
    """The curve with the hard gate by segments between infusions, lag and peak."""
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
        base = _base(parameters, constants)[0]
        before = rho * np.maximum(left - constants.t_lag, 0.0)
        lagging = middle < constants.t_lag
        log_fast = np.where(after, base + np.log1p(-slow) - alpha * x, before)
        log_slow = np.where(after, base + np.log(slow) - beta * x, -np.inf)
        rate_fast = np.where(after, -alpha, np.where(lagging, 0.0, rho))
        rate_slow = np.where(after, -beta, 0.0)
        return np.stack([log_fast, log_slow], axis=-1), np.stack([rate_fast, rate_slow], axis=-1)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outer = (np.log(parameters[..., 0, None]) - _base(parameters, constants)[0])[..., None]
        if constants.clock == "study":
            parts, rates = phases(left, middle)
            exponent_tau = _unit(tau, parameters, constants)[0]
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


def _turns(parameters: np.ndarray, constants: Any) -> np.ndarray:
    """First and last day (..., 2) on which the smooth curve turns from rise to fall; -inf where it does not.

    There rho = e^u l(X), u = (t - Tmax)/h, l the loss rate of the phases that remain, between beta and alpha: u lies
    between ln(rho/alpha) and ln(rho/beta). One turn where h (sqrt(alpha) - sqrt(beta))^2 < 1.
    """
    rho, tmax, alpha, slow, beta = (parameters[..., i, None] for i in range(1, 6))
    h, begin = constants.gate_width, (constants.t_lag - tmax) / constants.gate_width

    def excess(u: np.ndarray) -> np.ndarray:
        x = h * (np.logaddexp(0.0, u) - np.logaddexp(0.0, begin))
        log_fast, log_slow = np.log1p(-slow) - alpha * x, np.log(slow) - beta * x
        phases = np.logaddexp(log_fast, log_slow)
        return np.log(rho) - u - np.logaddexp(log_fast + np.log(alpha), log_slow + np.log(beta)) + phases

    low = np.maximum(np.log(rho / np.maximum(alpha, beta)) - 0.01, begin)
    high = np.maximum(np.log(rho / np.minimum(alpha, beta)) + 0.01, begin)
    grid = low + (high - low) * np.linspace(0.0, 1.0, 129)
    rising = excess(grid) > 0
    turning = rising[..., :-1] & ~rising[..., 1:]
    n = turning.shape[-1]
    at = np.stack([turning.argmax(axis=-1), n - 1 - turning[..., ::-1].argmax(axis=-1)], axis=-1)
    left, right = (np.take_along_axis(grid, at + step, axis=-1) for step in (0, 1))
    for _ in range(60):
        middle = (left + right) / 2.0
        up = excess(middle) > 0
        left, right = np.where(up, middle, left), np.where(up, right, middle)
    return np.where(turning.any(axis=-1, keepdims=True), tmax + h * left, -np.inf)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, R0, doubling time, expansion, half-lives, time below the LLOQ.

    The AUC under the smooth gate is exact to rounding, by quadrature.
    """
    base = _base(parameters, constants)[0][..., 0]
    grown, risen = "rho * gate_width * ln(1 + exp((tmax - t_lag) / gate_width))", ""
    if constants.gate == "hard":
        fold = np.exp(base)
        grown = "rho * max(tmax - t_lag, 0)"
        risen = f"exp({grown})"
        own = curve_quantities(lambda a, b: curve(parameters, calendar, constants, a, b), calendar, limit)
    else:
        tau, turns = np.asarray(calendar.infusion_time, dtype=float), _turns(parameters, constants)
        rises = _unit(np.maximum(turns, 0.0), parameters, constants)[0]
        fold = np.exp(np.where(np.isfinite(turns), rises, 0.0).max(axis=-1))
        steepest = float(np.max(parameters[..., 1] + parameters[..., 3] + parameters[..., 5]))

        def at(time: np.ndarray) -> np.ndarray:
            return log_level(time, parameters, calendar, constants)

        def area(first: float, last: float) -> np.ndarray:
            # No wider than half the gate: its nearest poles are pi times its width away.
            longest = min(constants.gate_width / 2.0, 2.0 / steepest)
            fixed = np.append(tau, constants.t_lag)
            return integral([np.broadcast_to(fixed, (*base.shape, len(fixed)))], first, last, longest, at)

        own = arc_quantities([np.append(tau, constants.t_lag), turns], at, area, calendar, limit)
    return (
        *own,
        Quantity("r0", "level_unit", parameters[..., 0] / np.exp(base), formula=f"cmax / exp({grown})"),
        Quantity("doubling_time", "d", LN2 / parameters[..., 1], rate="rho"),
        Quantity("fold_expansion", "", fold, formula=risen),
        Quantity("half_life_alpha", "d", LN2 / parameters[..., 3], rate="alpha"),
        Quantity("half_life_beta", "d", LN2 / parameters[..., 5], rate="beta"),
    )


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Growth at rho, loss at alpha and beta weighted by the phases that remain; the gate is the share of the growth."""
    _, rho, tmax, alpha, slow, beta = (float(p) for p in parameters)
    age = time if constants.clock == "study" else time - tau
    lag = constants.t_lag
    if age < lag:
        return 0.0 * cells
    if constants.gate == "hard":
        share, x = float(age < max(tmax, lag)), max(age - max(tmax, lag), 0.0)
    else:
        h = constants.gate_width
        share = 1.0 / (1.0 + np.exp((age - tmax) / h))
        x = h * (np.logaddexp(0.0, (age - tmax) / h) - np.logaddexp(0.0, (lag - tmax) / h))
    fast, late = (1.0 - slow) * np.exp(-alpha * x), slow * np.exp(-beta * x)
    return (rho * share - (1.0 - share) * (alpha * fast + beta * late) / (fast + late)) * cells


def _formula(constants: Any) -> str:
    lag = f", no growth before day {constants.t_lag:g}" if constants.t_lag else ""
    if constants.gate == "smooth":
        return (
            "C(t) = R0 exp(rho G(t)) [(1 - FB) exp(-alpha X(t)) + FB exp(-beta X(t))], G(t) = t - X(t), "
            f"X(t) = h ln(1 + e^((t - Tmax)/h)) - h ln(1 + e^(-Tmax/h)), h = {constants.gate_width:g} d{lag}"
        )
    return (
        "C(t) = Cmax exp(-rho (Tmax - t)) up to Tmax, then "
        f"Cmax [(1 - FB) exp(-alpha (t - Tmax)) + FB exp(-beta (t - Tmax))]{lag}"
    )


MODEL = KineticModel(
    name="expansion_contraction",
    title={"en": "Growth to a peak, then loss in two phases", "zh": "扩增至峰后双相收缩"},
    formula=_formula,
    parameters=(CMAX, RHO, TMAX, ALPHA, FRACTION_SLOW, BETA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    breakpoint="tmax",
    knots=knots,
    growth="rho",
    ordered=ordered,
    fixed=lambda constants: {
        "t_lag": (constants.t_lag, "d"),
        **({"gate_width": (constants.gate_width, "d")} if constants.gate == "smooth" else {}),
    },
    example=Example(
        (24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032),
        Calendar(np.array([0.0]), np.array([1.0]), {}, 540.0),
        np.array([1.0, 3, 5, 7, 8, 10, 12, 14, 17, 21, 28, 42, 60, 90, 180, 270, 360, 540]),
    ),
)
