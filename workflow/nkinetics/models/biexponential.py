"""Loss in two phases after each infusion: (1 - f) exp(-alpha u) + f exp(-beta u), u the time since the infusion.

For NK cells that first leave the blood and then persist, or that leave a late tail. The two phases are two pools that
each fall at a constant rate, so that any calendar of infusions is superposed pool by pool.
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
from nkinetics.models.decay import SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

# The same limits for both rates: an exchange of the phases stays within them.
SLOWEST, FASTEST = 1e-5, 200.0
ALPHA = Parameter(
    "alpha", "1/d", "log", SLOWEST, FASTEST, 0.7, {"en": "loss rate of the fast phase", "zh": "快相消除速率"}
)
FRACTION_SLOW = Parameter(
    "fraction_slow",
    "",
    "logit",
    1e-6,
    1 - 1e-6,
    0.05,
    {"en": "share of the slow phase right after the infusion", "zh": "输注后即刻慢相所占份额"},
    0.0,
    1.0,
)
BETA = Parameter(
    "beta", "1/d", "log", SLOWEST, FASTEST, 0.07, {"en": "loss rate of the slow phase", "zh": "慢相消除速率"}
)


class Constants(BaseModel):
    """The model has no constants."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times).

    Examples
    --------
    Half of 100 falls by half each day, the other half each 4 days.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> half = np.array([100.0, np.log(2), 0.5, np.log(2) / 4])
    >>> np.exp(log_level(np.array([0.0, 4.0]), half, once, Constants())).round(9).tolist()
    [100.0, 28.125]
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln alpha, logit f and ln beta."""
    scale, alpha, slow, beta = (parameters[..., i, None] for i in range(4))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    fast_sum, fast_share = superposed(time, calendar, -alpha * time, -alpha * tau)
    slow_sum, slow_share = superposed(time, calendar, -beta * time, -beta * tau)
    log_fast, log_slow = np.log1p(-slow) + fast_sum, np.log(slow) + slow_sum
    both = np.logaddexp(log_fast, log_slow)
    late = np.exp(log_slow - np.where(np.isfinite(both), both, 0.0))
    derivatives = np.empty((*both.shape, 4))
    derivatives[..., 0] = 1.0
    derivatives[..., 1] = -alpha * (1.0 - late) * (time - (fast_share * tau[..., None, :]).sum(axis=-1))
    derivatives[..., 2] = late - slow
    derivatives[..., 3] = -beta * late * (time - (slow_share * tau[..., None, :]).sum(axis=-1))
    return np.log(scale) + both, derivatives


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)

    def at(parameters: np.ndarray) -> np.ndarray:
        scale, alpha, slow, beta = (parameters[..., i, None] for i in range(4))
        fast = np.log1p(-slow) + total(-alpha * time, -alpha * tau)
        late = np.log(slow) + total(-beta * time, -beta * tau)
        return np.log(scale) + np.logaddexp(fast, late)

    return at


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: slopes of the early and the late points after the last infusion, parted at several places."""
    after = time > float(np.max(calendar.infusion_time))
    used = after if after.sum() >= 4 else np.ones(len(time), dtype=bool)
    t, y = time[used], log_level_seen[used]
    whole = -slope(t, y)
    pairs = []
    for share in (0.25, 0.5, 0.75):
        part = round(share * len(t))
        late, early = -slope(t[part:], y[part:]), -slope(t[: part + 1], y[: part + 1])
        beta = late if np.isfinite(late) and late > 0 else BETA.start
        pairs.append((max(early, 2.0 * beta) if np.isfinite(early) else ALPHA.start, beta))
    if np.isfinite(whole) and whole > 0:
        pairs += [(4.0 * whole, 0.8 * whole), (1.2 * whole, 0.1 * whole)]
    pairs.append((ALPHA.start, BETA.start))
    starts = np.array([[1.0, alpha, slow, beta] for alpha, beta in pairs for slow in (0.01, 0.1, 0.5)])
    starts[:, [1, 3]] = np.clip(starts[:, [1, 3]], 1e-3, 20.0)
    return with_scale(log_level, starts, time, log_level_seen, calendar, constants, SCALE.start)


def ordered(parameters: np.ndarray) -> np.ndarray:
    """The same curve with the faster phase named alpha: exchanged phases cannot be told apart."""
    exchanged = parameters[..., [0, 3, 2, 1]].copy()
    exchanged[..., 2] = 1.0 - exchanged[..., 2]
    return np.where((parameters[..., 1] < parameters[..., 3])[..., None], exchanged, parameters)


def curve(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> Segments:
    """The curve by segments between infusions, one component for each phase."""
    scale, alpha, slow, beta = (parameters[..., i, None] for i in range(4))
    tau = np.asarray(calendar.infusion_time, dtype=float)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fast = np.log1p(-slow) + superposed(left, calendar, -alpha * left, -alpha * tau)[0]
        late = np.log(slow) + superposed(left, calendar, -beta * left, -beta * tau)[0]
        rates = np.broadcast_to(np.stack([-alpha, -beta], axis=-1), (*fast.shape, 2))
        return np.log(scale)[..., None] + np.stack([fast, late], axis=-1), rates

    return segments([np.broadcast_to(tau, (*parameters.shape[:-1], len(tau)))], first, last, pieces)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, half-lives, time below the LLOQ."""
    return (
        *curve_quantities(lambda a, b: curve(parameters, calendar, constants, a, b), calendar, limit),
        Quantity("half_life_alpha", "d", LN2 / parameters[..., 1], rate="alpha"),
        Quantity("half_life_beta", "d", LN2 / parameters[..., 3], rate="beta"),
    )


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Loss at the mean of alpha and beta, weighted by the phases that remain of this infusion."""
    _, alpha, slow, beta = (float(p) for p in parameters)
    fast, late = (1.0 - slow) * np.exp(-alpha * (time - tau)), slow * np.exp(-beta * (time - tau))
    return -(alpha * fast + beta * late) / (fast + late) * cells


MODEL = KineticModel(
    name="biexponential",
    title={"en": "Loss in two phases", "zh": "双相消除"},
    formula=lambda constants: "C(t) = S sum_k D_k [(1 - f) exp(-alpha (t - tau_k)) + f exp(-beta (t - tau_k))]",
    parameters=(SCALE, ALPHA, FRACTION_SLOW, BETA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    ordered=ordered,
    example=Example(
        (2500.0, 0.8, 0.08, 0.07),
        Calendar(np.array([0.0, 3.0, 6.0]), np.array([1.0, 1.0, 0.5]), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 41.0),
        np.array([0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 10.0, 13.0, 16.0, 20.0, 27.0, 34.0, 41.0]),
    ),
)
