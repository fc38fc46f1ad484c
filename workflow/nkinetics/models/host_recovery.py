"""Growth that fades while the host recovers: R(t) = -delta t + (rho0/lambda) (1 - exp(-lambda t)).

Lymphodepletion leaves room and cytokines (IL-15); both go as the host's own lymphocytes return at the rate lambda, and
with them the growth rate rho0 exp(-lambda t). The small-C limit of Kimmel 2021 (Proc R Soc B 288:20210229), whose host
recovery is 0.17/d. Where rho0 > delta the cells of one infusion peak at ln(rho0/delta)/lambda. Time runs from the first
infusion: later infusions meet what is left of the growth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from nkinetics.models._algebra import LN2, arc_quantities, integral, slope, superposed, superposition, with_scale
from nkinetics.models.decay import DELTA, SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

RHO0 = Parameter("rho0", "1/d", "log", 1e-3, 10.0, 0.6, {"en": "growth rate on day 0", "zh": "第 0 天的增殖速率"})
LAMBDA = Parameter(
    "lambda_recovery",
    "1/d",
    "log",
    1e-3,
    10.0,
    0.17,
    {"en": "rate at which growth fades as the host recovers", "zh": "宿主恢复所致增殖衰退的速率"},
)


class Constants(BaseModel):
    """The model has no constants."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _exponent(time: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """R(t) (..., times), and its derivatives by ln delta, ln rho0 and ln lambda."""
    delta, rho0, fading = (parameters[..., i, None] for i in range(1, 4))
    faded = np.exp(-fading * time)
    grown = -rho0 / fading * np.expm1(-fading * time)
    lost = delta * time
    return grown - lost, (-lost, grown, rho0 * time * faded - grown)


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times): ln S + ln sum_k D_k exp(R(t) - R(tau_k)).

    Examples
    --------
    With rho0 = 2 delta the peak stands at ln 2/lambda.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> t = np.log(2) / 0.17 + np.array([-1e-4, 0.0, 1e-4])
    >>> int(np.argmax(log_level(t, np.array([1.0, 0.4, 0.8, 0.17]), once, Constants())))
    1
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln delta, ln rho0 and ln lambda."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    exponent, slopes = _exponent(time, parameters)
    exponent_tau, slopes_tau = _exponent(tau, parameters)
    value, share = superposed(time, calendar, exponent, exponent_tau)
    derivatives = np.empty((*value.shape, 4))
    derivatives[..., 0] = 1.0
    for i, (own, given) in enumerate(zip(slopes, slopes_tau, strict=True), start=1):
        derivatives[..., i] = own - (share * given[..., None, :]).sum(axis=-1)
    return np.log(parameters[..., 0, None]) + value, derivatives


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)

    def at(parameters: np.ndarray) -> np.ndarray:
        scale, delta, rho0, fading = (parameters[..., i, None] for i in range(4))
        grown = rho0 / fading

        def exponent(t: np.ndarray) -> np.ndarray:
            return -grown * np.expm1(-fading * t) - delta * t

        return np.log(scale) + total(exponent(time), exponent(tau))

    return at


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: loss from the last points, growth from slow to fast, fading at several rates."""
    late = time >= float(np.median(time)) if len(time) else np.zeros(0, dtype=bool)
    free = -slope(time[late], log_level_seen[late])
    rates = [float(np.clip(free, 0.02, 3.0))] if np.isfinite(free) and free > 0 else []
    rates += [DELTA.start, *(2.0 * r for r in rates)]
    starts = np.array(
        [
            [1.0, rate, share * rate, fading]
            for rate in rates
            for share in (0.3, 1.0, 2.0)
            for fading in (0.05, LAMBDA.start, 0.6)
        ]
    )
    return with_scale(log_level, starts, time, log_level_seen, calendar, constants, SCALE.start)


def _turn(parameters: np.ndarray) -> np.ndarray:
    """Day (...) on which growth falls to the loss, ln(rho0/delta)/lambda; -inf where it never exceeds the loss."""
    delta, rho0, fading = (parameters[..., i] for i in range(1, 4))
    return np.where(rho0 > delta, np.log(rho0 / delta) / fading, -np.inf)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, doubling time on day 0, expansion, half-life, time below the LLOQ.

    The area is that of an exponential of an exponential, an incomplete gamma function of order delta/lambda, which
    loses its digits where lambda is small. Gauss's rule on short pieces keeps them: exact to rounding, by quadrature.
    """
    delta, rho0, fading = (parameters[..., i] for i in range(1, 4))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    end = max(float(calendar.end), float(tau[-1]))
    turn = _turn(parameters)[..., None]

    def at(time: np.ndarray) -> np.ndarray:
        return log_level(time, parameters, calendar, constants)

    def area(first: float, last: float) -> np.ndarray:
        # On the ellipse around a piece of this length whose half axes sum to 8 half-lengths the level stays below
        # e^10.4 times its value in the middle, and on the piece above 1/e times it. Gauss's rule with n + 1 = 12 nodes
        # is then off by less than (32/15) e^11.4 8^(-2n)/(1 - 8^-2) of the area, 3e-15 (Trefethen, Approximation
        # Theory and Approximation Practice, theorem 19.3).
        longest = 2.0 / float(np.max(delta + rho0 + fading))
        return integral([np.broadcast_to(tau, (*delta.shape, len(tau)))], first, last, longest, at)

    net = rho0 - delta
    peak = np.clip(turn, tau[0], end)
    rise = (_exponent(peak, parameters)[0] - _exponent(tau[:1], parameters)[0])[..., 0]
    return (
        *arc_quantities([tau, turn], at, area, calendar, limit),
        Quantity(
            "doubling_time",
            "d",
            np.where(net > 0, LN2 / np.where(net > 0, net, 1.0), np.nan),
            reason="no net growth: rho0 does not exceed delta",
            formula="ln(2) / (rho0 - delta)",
        ),
        Quantity("fold_expansion", "", np.exp(rise)),
        Quantity("half_life_delta", "d", LN2 / delta, rate="delta"),
    )


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Loss, and growth that fades: dN/dt = (rho0 exp(-lambda t) - delta) N."""
    _, delta, rho0, fading = parameters
    return (rho0 * np.exp(-fading * time) - delta) * cells


MODEL = KineticModel(
    name="host_recovery",
    title={"en": "Loss, with growth that fades as the host recovers", "zh": "消除伴随宿主恢复而衰退的增殖"},
    formula=lambda constants: (
        "C(t) = S sum_k D_k exp(R(t) - R(tau_k)), R(t) = -delta t + (rho0/lambda) (1 - exp(-lambda t))"
    ),
    parameters=(SCALE, DELTA, RHO0, LAMBDA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    growth="rho0",
    example=Example(
        (300.0, 0.35, 1.2, 0.17),
        Calendar(np.array([0.0]), np.array([1.0]), {}, 41.0),
        np.array([0.08, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 10.0, 13.0, 16.0, 20.0, 27.0, 34.0, 41.0]),
    ),
)
