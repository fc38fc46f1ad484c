"""Growth to a plateau, then loss: dN/dt = g N (1 - N/K), and from the end of growth on dN/dt = -delta N.

Each infusion adds S D to the cells that are there. Between infusions, x days after one that left N_0 cells,

    N = K/(1 + (K/N_0 - 1) e^(-g x)),    that is    1/N = (1/N_0) e^(-g x) + (1/K) (1 - e^(-g x)).

Growth ends `growth_days` after the last infusion or the last dose of a supporting agent, whichever is later; this is
fixed by the configuration. The cells limit one another: the curve of several infusions is not the sum of their curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nkinetics.models._algebra import (
    LN2,
    arc_quantities,
    arcs,
    largest_rise,
    log_mean_growth,
    pulses_of,
    slope,
    with_scale,
)
from nkinetics.models._constants import Range
from nkinetics.models.decay import DELTA, SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

GROWTH = Parameter(
    "growth", "1/d", "log", 1e-3, 10.0, 0.6, {"en": "growth rate far below the plateau", "zh": "远低于平台时的增殖速率"}
)
CAPACITY = Parameter(
    "capacity", "level_unit", "log", 1e-12, 1e18, 1e4, {"en": "plateau of the growth", "zh": "增殖的平台水平"}
)


class Constants(BaseModel):
    """When growth ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = Field(("IL-2",), description="Agents of cytokines.csv whose last dose prolongs growth.")
    growth_days: float = Field(
        7.0, ge=0, le=365, description="Days from the last infusion or dose of an agent to the end of growth (fixed)."
    )
    growth_days_range: Range = Field((3.0, 14.0), description="Days over which the sensitivity to it is shown.")


def _end_of_growth(calendar: Calendar, constants: Any) -> np.ndarray:
    """Day (...) on which growth ends."""
    pulses = pulses_of(calendar, constants.agents)
    last = np.max(np.asarray(calendar.infusion_time, dtype=float), axis=-1)
    return np.maximum(last, np.max(np.where(np.isfinite(pulses), pulses, -np.inf), axis=-1, initial=-np.inf)) + (
        constants.growth_days
    )


def _grown(
    before: np.ndarray, slopes: np.ndarray, x: np.ndarray, growth: np.ndarray, capacity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ln N after x days of growth from ln N_0, and its derivatives (..., 3) by ln S, ln g and ln K."""
    run = growth * x
    with np.errstate(divide="ignore"):
        from_start, from_plateau = -before - run, np.log(-np.expm1(-run)) - np.log(capacity)
    total = np.logaddexp(from_start, from_plateau)
    part = np.exp(from_start - total)
    moved = part[..., None] * slopes
    rising = np.where(run > 0, run, 1.0)
    moved[..., 1] += part * run - (1.0 - part) * rising * np.exp(-rising) / -np.expm1(-rising)
    moved[..., 2] += 1.0 - part
    return -total, moved


def _after_infusions(parameters: np.ndarray, calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    """Ln N right after each infusion (..., infusions), and its derivatives (..., infusions, 3)."""
    scale, growth, capacity = (parameters[..., i] for i in range(3))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    with np.errstate(divide="ignore"):
        added = np.log(scale)[..., None] + np.log(np.asarray(calendar.infusion_amount, dtype=float))
    value, slopes = added.copy(), np.zeros((*added.shape, 3))
    slopes[..., 0, 0] = 1.0
    for i in range(1, tau.shape[-1]):
        x = tau[..., i] - tau[..., i - 1]
        before, moved = _grown(value[..., i - 1], slopes[..., i - 1, :], x, growth, capacity)
        value[..., i] = np.logaddexp(before, added[..., i])
        new = np.exp(added[..., i] - value[..., i])
        slopes[..., i, :] = (1.0 - new)[..., None] * moved
        slopes[..., i, 0] += new
    return value, slopes


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times).

    Examples
    --------
    From 1 with g = ln 2 and K = 3: one day later 1/N = 1/2 + 1/6, N = 3/2.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> value = log_level(np.array([0.0, 1.0]), np.array([1.0, np.log(2), 3.0, 0.4]), once, Constants())
    >>> np.exp(value).round(9).tolist()
    [1.0, 1.5]
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln g, ln K and ln delta."""
    growth, capacity, delta = (parameters[..., i, None] for i in range(1, 4))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    after, after_slopes = _after_infusions(parameters, calendar)
    end = _end_of_growth(calendar, constants)[..., None]
    count = (tau[..., None, :] <= time[..., :, None]).sum(axis=-1)
    leading = np.broadcast_shapes(count.shape[:-1], after.shape[:-1])
    index = np.broadcast_to(np.maximum(count - 1, 0), (*leading, count.shape[-1]))

    def last(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(np.broadcast_to(values, (*leading, values.shape[-1])), index, axis=-1)

    wide = np.broadcast_to(after_slopes, (*leading, *after_slopes.shape[-2:]))
    x = np.maximum(np.minimum(time, end) - last(tau), 0.0)
    slopes = np.take_along_axis(wide, index[..., None], axis=-2)
    value, moved = _grown(last(after), slopes, x, growth, capacity)
    lost = delta * np.maximum(time - end, 0.0)
    derivatives = np.empty((*value.shape, 4))
    derivatives[..., :3] = moved
    derivatives[..., 3] = -lost
    return np.where(count > 0, value - lost, -np.inf), derivatives


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: growth from the points before its end, the plateau at and above the highest, loss from the last."""
    end = float(_end_of_growth(calendar, constants))
    growing = (time > float(np.max(calendar.infusion_time))) & (time <= end)
    rise = slope(time[growing], log_level_seen[growing])
    fall = -slope(time[time >= end], log_level_seen[time >= end])
    rates = [float(np.clip(rise, 0.02, 5.0))] if np.isfinite(rise) and rise > 0 else []
    rates += [0.2, GROWTH.start, 2.0]
    losses = [float(np.clip(fall, 0.003, 3.0))] if np.isfinite(fall) and fall > 0 else []
    losses.append(DELTA.start)
    above = float(np.exp(np.clip(np.ptp(log_level_seen), 0.0, 25.0))) if len(time) else 10.0
    starts = np.array(
        [
            [1.0, rate, room, loss]
            for rate in rates
            for room in (0.5, above, 3.0 * above, 100.0 * above)
            for loss in losses
        ]
    )
    return with_scale(log_level, starts, time, log_level_seen, calendar, constants, SCALE.start, levels=(0, 2))


def _area(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> np.ndarray:
    """Area below the curve between two days (...): (K/g) ln(1 + (N_0/K)(e^(g d) - 1)) while it grows."""
    growth, capacity, delta = (parameters[..., i, None] for i in range(1, 4))
    end = float(_end_of_growth(calendar, constants))
    edges = np.sort(np.clip(np.concatenate([calendar.infusion_time, [end, first, last]]), first, last))
    left, d = edges[:-1], np.diff(edges)
    level = log_level(left, parameters, calendar, constants)
    with np.errstate(divide="ignore"):
        risen = level - np.log(capacity) + growth * d + np.log(-np.expm1(-growth * d))
    growing = capacity / growth * np.logaddexp(0.0, risen)
    falling = np.exp(level) * d * np.exp(log_mean_growth(-delta * d)[0])
    return np.where(left + d / 2.0 < end, growing, falling).sum(axis=-1)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, doubling time far below the plateau, expansion, half-life, time below the LLOQ."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    last = max(float(calendar.end), float(tau[-1]))
    knots = [
        np.broadcast_to(np.append(tau, _end_of_growth(calendar, constants)), (*parameters.shape[:-1], len(tau) + 1))
    ]

    def at(time: np.ndarray) -> np.ndarray:
        return log_level(time, parameters, calendar, constants)

    whole = arcs(knots, float(tau[0]), last, at)
    risen = np.where(whole.length > 0, whole.log_right - whole.log_left, 0.0)
    expansion = np.concatenate([np.zeros((*risen.shape[:-1], 1)), np.cumsum(risen, axis=-1)], axis=-1)
    return (
        *arc_quantities(
            knots,
            at,
            lambda a, b: _area(parameters, calendar, constants, a, b),
            calendar,
            limit,
        ),
        Quantity(
            "doubling_time", "d", LN2 / parameters[..., 1], rate="growth", note="of the growth far below the plateau"
        ),
        Quantity("fold_expansion", "", np.exp(largest_rise(expansion))),
        Quantity("half_life_delta", "d", LN2 / parameters[..., 3], rate="delta"),
    )


def missing(calendar: Calendar, constants: Any) -> str:
    """The loss needs a follow-up beyond the end of growth."""
    end = float(_end_of_growth(calendar, constants))
    if calendar.end <= end:
        return f"follow-up ends on day {calendar.end:.4g}, before growth does on day {end:.4g}: the loss is not seen"
    return ""


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Logistic growth of all cells together, after its end loss."""
    _, growth, capacity, delta = parameters
    if time < _end_of_growth(calendar, constants):
        return growth * cells * (1.0 - cells / capacity)
    return -delta * cells


MODEL = KineticModel(
    name="logistic",
    title={"en": "Growth to a plateau, then loss", "zh": "增殖至平台后消除"},
    formula=lambda constants: (
        "C(t) = K/(1 + (K/C_k - 1) exp(-g (t - tau_k))) from C_k right after infusion k, which adds S D_k; loss "
        f"exp(-delta t) from {constants.growth_days:g} d after the last infusion"
        + (f" or dose of {' or '.join(constants.agents)}" if constants.agents else "")
    ),
    parameters=(SCALE, GROWTH, CAPACITY, DELTA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    missing=missing,
    growth="growth",
    superposes=False,
    fixed=lambda constants: {"growth_days": (constants.growth_days, "d")},
    example=Example(
        (300.0, 0.9, 9000.0, 0.3),
        Calendar(np.array([0.0, 3.0]), np.array([1.0, 1.0]), {"IL-2": np.array([0.0, 3.0, 6.0])}, 34.0),
        np.array([0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 9.0, 11.0, 12.0, 13.0, 16.0, 18.0, 20.0, 27.0, 34.0]),
    ),
)
