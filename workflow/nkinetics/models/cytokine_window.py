"""Loss, and growth while a cytokine lasts: R(t) = -delta t + rho L(t).

L(t) is the length of [0, t] inside the union of [s_j, s_j + w], s_j the doses of the agent (IL-2). The mechanistic
candidate for NK cells that are supported by pulses of IL-2. The width w is fixed by the configuration: free, it takes
the information on rho away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nkinetics.models._algebra import (
    LN2,
    Segments,
    covered,
    curve_quantities,
    largest_rise,
    pulses_of,
    segments,
    slope,
    superposed,
    superposition,
    windows,
    with_scale,
)
from nkinetics.models._constants import Range
from nkinetics.models.decay import DELTA, SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

RHO = Parameter(
    "rho",
    "1/d",
    "log",
    1e-3,
    5.0,
    0.6,
    {"en": "growth rate while the cytokine lasts", "zh": "细胞因子支持期内的增殖速率"},
)


class Constants(BaseModel):
    """What counts as support by a cytokine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = Field(("IL-2",), min_length=1, description="Agents of cytokines.csv that support growth.")
    width: float = Field(1.5, gt=0, le=30, description="How long one dose supports growth, days (fixed).")
    width_range: Range = Field((0.5, 3.0), description="Widths over which the sensitivity to it is shown, days.")


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times): ln S + ln sum_k D_k exp(R(t) - R(tau_k)).

    Examples
    --------
    >>> once = Calendar(np.array([0.0]), np.array([1.0]), {"IL-2": np.array([1.0])})
    >>> value = log_level(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.5, 0.9]), once, Constants(width=1.0))
    >>> value.round(9).tolist()
    [-0.5, -0.1, -1.1]
    """
    scale, delta, rho = (parameters[..., i, None] for i in range(3))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    cover, cover_tau = covered(time, pulses, constants.width), covered(tau, pulses, constants.width)
    return np.log(scale) + superposed(time, calendar, rho * cover - delta * time, rho * cover_tau - delta * tau)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln delta and ln rho."""
    scale, delta, rho = (parameters[..., i, None] for i in range(3))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    cover, cover_tau = covered(time, pulses, constants.width), covered(tau, pulses, constants.width)
    value, share = superposed(time, calendar, rho * cover - delta * time, rho * cover_tau - delta * tau)
    age = time - (share * tau[..., None, :]).sum(axis=-1)
    supported = cover - (share * cover_tau[..., None, :]).sum(axis=-1)
    ones = np.ones(np.broadcast_shapes(value.shape, age.shape))
    return np.log(scale) + value, np.stack([ones, -delta * age, rho * supported], axis=-1)


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    cover, cover_tau = covered(time, pulses, constants.width), covered(tau, pulses, constants.width)

    def at(parameters: np.ndarray) -> np.ndarray:
        scale, delta, rho = (parameters[..., i, None] for i in range(3))
        return np.log(scale) + total(rho * cover - delta * time, rho * cover_tau - delta * tau)

    return at


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: loss from the slope after the last window, crossed with growth from slow to fast."""
    pulses = pulses_of(calendar, constants.agents)
    quiet = max([float(np.max(calendar.infusion_time)), *(p + constants.width for p in pulses[np.isfinite(pulses)])])
    late = time >= quiet
    free = -slope(time[late], log_level_seen[late])
    rates = [float(np.clip(free, 0.01, 3.0))] if np.isfinite(free) and free > 0 else []
    rates += [DELTA.start, *(r * f for r in rates for f in (0.5, 2.0))]
    starts = np.array([[1.0, rate, rho] for rate in rates for rho in (0.05, 0.5 * rate, 1.2 * rate, RHO.start)])
    return with_scale(log_level, starts, time, log_level_seen, calendar, constants, SCALE.start)


def _knots(calendar: Calendar, constants: Any) -> np.ndarray:
    start, length = windows(pulses_of(calendar, constants.agents), constants.width)
    return np.concatenate([np.asarray(calendar.infusion_time, dtype=float), start, start + length], axis=-1)


def curve(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> Segments:
    """The curve by segments between infusions and ends of windows."""
    knots = _knots(calendar, constants)
    start, length = windows(pulses_of(calendar, constants.agents), constants.width)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = log_level(left, parameters, calendar, constants)
        inside = ((middle[..., None] > start) & (middle[..., None] < start + length)).any(axis=-1)
        rate = inside * parameters[..., 2, None] - parameters[..., 1, None]
        return value[..., None], rate[..., None]

    return segments([np.broadcast_to(knots, (*parameters.shape[:-1], len(knots)))], first, last, pieces)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, doubling time and expansion under the cytokine, half-life, time below the LLOQ."""
    delta, rho = parameters[..., 1], parameters[..., 2]
    net = rho - delta
    tau = np.asarray(calendar.infusion_time, dtype=float)
    knots = np.sort(_knots(calendar, constants))
    # A window that was open before the first cells came let nothing grow then.
    knots = knots[(knots >= tau[0]) & (knots <= max(calendar.end, float(tau[-1])))]
    exponent = (
        rho[..., None] * covered(knots, pulses_of(calendar, constants.agents), constants.width)
        - delta[..., None] * knots
    )
    return (
        *curve_quantities(lambda a, b: curve(parameters, calendar, constants, a, b), calendar, limit),
        Quantity(
            "doubling_time",
            "d",
            np.where(net > 0, LN2 / np.where(net > 0, net, 1.0), np.nan),
            reason="no net growth: rho does not exceed delta",
            formula="ln(2) / (rho - delta)",
        ),
        Quantity("fold_expansion", "", np.exp(largest_rise(exponent))),
        Quantity("half_life_delta", "d", LN2 / delta, rate="delta"),
    )


def missing(calendar: Calendar, constants: Any) -> str:
    """Without a dose of the agent before the end of follow-up the model is `decay`."""
    pulses = pulses_of(calendar, constants.agents)
    start, length = windows(pulses, constants.width)
    if not ((start < calendar.end) & (start + length > 0) & (length > 0)).any():
        return f"no dose of {' or '.join(constants.agents)} during follow-up: the model would be decay"
    return ""


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Loss and growth: dN/dt = (rho - delta) N while any window is open, else -delta N."""
    pulses = pulses_of(calendar, constants.agents)
    supported = ((pulses <= time) & (time < pulses + constants.width)).any()
    return (parameters[2] * supported - parameters[1]) * cells


MODEL = KineticModel(
    name="cytokine_window",
    title={"en": "Loss, with growth while a cytokine lasts", "zh": "消除伴细胞因子支持期内增殖"},
    formula=lambda constants: (
        "C(t) = S sum_k D_k exp(R(t) - R(tau_k)), R(t) = -delta t + rho L(t), "
        f"L(t) = time within {constants.width:g} d after a dose of {' or '.join(constants.agents)}"
    ),
    parameters=(SCALE, DELTA, RHO),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    missing=missing,
    growth="rho",
    fixed=lambda constants: {"width": (constants.width, "d")},
    example=Example(
        (2500.0, 0.4, 0.6),
        Calendar(np.array([0.0, 3.0, 6.0]), np.array([1.0, 1.0, 0.5]), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 27.0),
        np.array([0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 20.0, 27.0]),
    ),
)
