"""Loss at a constant rate: R(t) = -delta t. The default for CAR-NK cells.

The iPSC-derived CAR-NK FT596 peaked on day 1 and was seen up to day 15; nothing in such a profile needs more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from nkinetics.models._algebra import (
    LN2,
    Segments,
    curve_quantities,
    segments,
    slope,
    superposed,
    superposition,
    with_scale,
)
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

SCALE = Parameter(
    "scale",
    "level_unit",
    "log",
    1e-12,
    1e18,
    1e3,
    {
        "en": "level right after distribution of one reference dose",
        "zh": "一个参考剂量分布完成后的即刻水平",
    },
)
DELTA = Parameter(
    "delta",
    "1/d",
    "log",
    1e-4,
    10.0,
    0.4,
    {"en": "loss rate of the cells", "zh": "细胞消除速率"},
)


class Constants(BaseModel):
    """The model has no constants."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times): ln S + ln sum_k D_k exp(-delta (t - tau_k)).

    Examples
    --------
    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> np.exp(log_level(np.array([0.0, 1.0]), np.array([100.0, np.log(2)]), once, Constants())).round(9).tolist()
    [100.0, 50.0]
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S and ln delta."""
    scale, delta = (parameters[..., i, None] for i in range(2))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    value, share = superposed(time, calendar, -delta * time, -delta * tau)
    age = time - (share * tau[..., None, :]).sum(axis=-1)
    ones = np.ones(np.broadcast_shapes(value.shape, age.shape))
    return np.log(scale) + value, np.stack([ones, -delta * age], axis=-1)


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)

    def at(parameters: np.ndarray) -> np.ndarray:
        scale, delta = (parameters[..., i, None] for i in range(2))
        return np.log(scale) + total(-delta * time, -delta * tau)

    return at


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: the slope after the last infusion, of the whole profile, and a spread of rates around them."""
    last = float(np.max(calendar.infusion_time))
    late = time > last
    slopes = [-slope(time[late], log_level_seen[late]), -slope(time, log_level_seen), DELTA.start]
    rates = [float(np.clip(s, 0.003, 3.0)) for s in slopes if np.isfinite(s) and s > 0]
    rates += [rates[0] * 0.4, rates[0] * 2.5]
    starts = np.array([[1.0, rate] for rate in rates])
    return with_scale(log_level, starts, time, log_level_seen, calendar, constants, SCALE.start)


def curve(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> Segments:
    """The curve by segments between infusions."""
    tau = np.asarray(calendar.infusion_time, dtype=float)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = log_level(left, parameters, calendar, constants)
        return value[..., None], np.broadcast_to(-parameters[..., 1, None, None], (*value.shape, 1))

    return segments([np.broadcast_to(tau, (*parameters.shape[:-1], len(tau)))], first, last, pieces)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, half-life, time below the LLOQ, in closed form."""
    return (
        *curve_quantities(lambda a, b: curve(parameters, calendar, constants, a, b), calendar, limit),
        Quantity("half_life_delta", "d", LN2 / parameters[..., 1], rate="delta"),
    )


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Loss: dN/dt = -delta N."""
    return -parameters[1] * cells


MODEL = KineticModel(
    name="decay",
    title={"en": "Loss at a constant rate", "zh": "恒速消除"},
    formula=lambda constants: "C(t) = S sum_k D_k exp(-delta (t - tau_k))",
    parameters=(SCALE, DELTA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    example=Example(
        (2500.0, 0.38),
        Calendar(np.array([0.0, 3.0, 6.0]), np.array([1.0, 1.0, 0.5]), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 27.0),
        np.array([0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 10.0, 13.0, 20.0, 27.0]),
    ),
)
