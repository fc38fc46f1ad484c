"""Effector cells that follow `cytokine_window`, and memory cells that they turn into: E' = r(t) E, M' = k E - beta M.

The level is E + M. r(t) is -delta, and rho - delta while a cytokine lasts; delta is the whole loss of effector cells,
those that turn into memory cells among them, so that after one infusion without growth the level falls in two phases
with the slow share k/(delta - beta) (Stein 2019: k_EM = FB (alpha - beta)). For tails of persistence.

The rates are constant between infusions and ends of windows, and there, x days after a knot,

    E = E_i e^(r x),    M = M_i e^(-beta x) + k E_i x e^(-beta x) phi((r + beta) x),    phi(y) = (e^y - 1)/y,

exactly, also where r + beta is 0. With the growth of `host_recovery` in place of the windows M has no elementary form;
that support is therefore not offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nkinetics.models import cytokine_window
from nkinetics.models._algebra import (
    LN2,
    arc_quantities,
    covered,
    largest_rise,
    log_mean_growth,
    pulses_of,
    second_difference,
    slope,
    superposed,
    windows,
    with_scale,
)
from nkinetics.models._constants import Range
from nkinetics.models.cytokine_window import RHO
from nkinetics.models.decay import DELTA, SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

K_MEMORY = Parameter(
    "k_memory",
    "1/d",
    "log",
    1e-6,
    5.0,
    0.02,
    {"en": "rate at which effector cells turn into memory cells", "zh": "效应细胞转为记忆细胞的速率"},
)
BETA = Parameter("beta", "1/d", "log", 1e-5, 3.0, 0.05, {"en": "loss rate of memory cells", "zh": "记忆细胞消除速率"})


class Constants(BaseModel):
    """What counts as support by a cytokine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = Field(("IL-2",), min_length=1, description="Agents of cytokines.csv that support growth.")
    width: float = Field(1.5, gt=0, le=30, description="How long one dose supports growth, days (fixed).")
    width_range: Range = Field((0.5, 3.0), description="Widths over which the sensitivity to it is shown, days.")


@dataclass(frozen=True, eq=False)
class _Knots:
    """Both pools right after each knot: infusions and ends of windows, rising.

    Derivatives are by ln delta, ln rho, ln k, ln beta, along the last axis.

    Parameters
    ----------
    time : array (..., knots)
        [d].
    supported : array (..., knots)
        1 where a window is open after the knot.
    log_effector, log_memory : arrays (..., knots)
        Ln of the pools for S = 1.
    effector_slopes, memory_slopes : arrays (..., knots, 4)
        Derivatives of these.
    """

    time: np.ndarray
    supported: np.ndarray
    log_effector: np.ndarray
    log_memory: np.ndarray
    effector_slopes: np.ndarray
    memory_slopes: np.ndarray


def _fed(
    x: np.ndarray, rate: np.ndarray, supported: np.ndarray, parameters: tuple[np.ndarray, ...], log_effector: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Ln of the memory cells made within x days after a knot, and derivatives that the effectors at the knot lack."""
    delta, rho, k, beta = parameters
    mean, growing = log_mean_growth((rate + beta) * x)
    with np.errstate(divide="ignore"):
        made = np.log(k) + log_effector + np.log(x) - beta * x + mean
    moved = x * growing
    return made, [-delta * moved, rho * supported * moved, np.ones_like(moved), beta * (moved - x)]


def _at_knots(parameters: np.ndarray, calendar: Calendar, constants: Any) -> _Knots:
    delta, rho, k, beta = (parameters[..., i, None] for i in range(1, 5))
    tau = np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    start, length = windows(pulses, constants.width)
    knots = np.sort(np.concatenate([tau, start, start + length], axis=-1), axis=-1)
    to_next = np.concatenate([np.diff(knots, axis=-1), np.zeros((*knots.shape[:-1], 1))], axis=-1)
    # After the last knot no window is open.
    middle = np.concatenate([knots[..., :-1] + to_next[..., :-1] / 2.0, knots[..., -1:] + 1.0], axis=-1)[..., None]
    supported = ((middle > start[..., None, :]) & (middle < (start + length)[..., None, :])).any(axis=-1) * 1.0
    cover, cover_tau = covered(knots, pulses, constants.width), covered(tau, pulses, constants.width)
    effector, share = superposed(knots, calendar, rho * cover - delta * knots, rho * cover_tau - delta * tau)
    effector_slopes = np.zeros((*effector.shape, 4))
    effector_slopes[..., 0] = -delta * (knots - (share * tau[..., None, :]).sum(axis=-1))
    effector_slopes[..., 1] = rho * (cover - (share * cover_tau[..., None, :]).sum(axis=-1))
    made, moved = _fed(to_next, rho * supported - delta, supported, (delta, rho, k, beta), effector)
    slopes = effector_slopes.copy()
    for i, column in enumerate(moved):
        slopes[..., i] += column
    # Memory after knot i: what was there falls over the piece, what was made on the piece is added.
    memory, memory_slopes = np.full(effector.shape, -np.inf), np.zeros(slopes.shape)
    for i in range(1, effector.shape[-1]):
        lost = (beta * to_next)[..., i - 1]
        kept = memory[..., i - 1] - lost
        memory[..., i] = np.logaddexp(kept, made[..., i - 1])
        part = np.exp(kept - np.where(np.isfinite(memory[..., i]), memory[..., i], 0.0))[..., None]
        before = memory_slopes[..., i - 1, :].copy()
        before[..., 3] -= lost
        memory_slopes[..., i, :] = part * before + (1.0 - part) * slopes[..., i - 1, :]
    return _Knots(knots, supported, effector, memory, effector_slopes, memory_slopes)


def _pools(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ln E and ln M (..., times) for S = 1, and their derivatives (..., times, 4)."""
    delta, rho, k, beta = (parameters[..., i, None] for i in range(1, 5))
    at = _at_knots(parameters, calendar, constants)
    leading = np.broadcast_shapes(time.shape[:-1], at.log_effector.shape[:-1])
    index = np.maximum((at.time[..., None, :] <= time[..., :, None]).sum(axis=-1) - 1, 0)
    index = np.broadcast_to(index, (*leading, index.shape[-1]))

    def last(values: np.ndarray) -> np.ndarray:
        wide = np.broadcast_to(values, (*leading, values.shape[-1]))
        return np.take_along_axis(wide, index, axis=-1)

    def last_slopes(values: np.ndarray) -> np.ndarray:
        wide = np.broadcast_to(values, (*leading, *values.shape[-2:]))
        return np.take_along_axis(wide, index[..., None], axis=-2)

    x = np.maximum(time - last(at.time), 0.0)
    supported = last(at.supported)
    rate = rho * supported - delta
    effector = last(at.log_effector)
    effector_slopes = last_slopes(at.effector_slopes)
    made, moved = _fed(x, rate, supported, (delta, rho, k, beta), effector)
    kept = last(at.log_memory) - beta * x
    memory = np.logaddexp(kept, made)
    part = np.exp(kept - np.where(np.isfinite(memory), memory, 0.0))
    memory_slopes = (1.0 - part)[..., None] * effector_slopes + part[..., None] * last_slopes(at.memory_slopes)
    for i, column in enumerate(moved):
        memory_slopes[..., i] += (1.0 - part) * column
    memory_slopes[..., 3] -= part * beta * x
    effector_slopes = effector_slopes.copy()
    effector_slopes[..., 0] -= delta * x
    effector_slopes[..., 1] += rho * supported * x
    return effector + rate * x, memory, effector_slopes, memory_slopes


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times): ln S + ln (E + M).

    Examples
    --------
    Both pools at one rate: E = e^(-t/2) and M = k t e^(-t/2), on day 2 with k = 0.25 half as many.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> value = log_level(np.array([2.0]), np.array([1.0, 0.5, 0.6, 0.25, 0.5]), once, Constants())
    >>> round(float(np.exp(value[0] + 1.0)), 12)
    1.5
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln delta, ln rho, ln k and ln beta."""
    effector, memory, effector_slopes, memory_slopes = _pools(time, parameters, calendar, constants)
    value = np.logaddexp(effector, memory)
    late = np.exp(memory - np.where(np.isfinite(value), value, 0.0))[..., None]
    derivatives = np.empty((*value.shape, 5))
    derivatives[..., 0] = 1.0
    derivatives[..., 1:] = (1.0 - late) * effector_slopes + late * memory_slopes
    return np.log(parameters[..., 0, None]) + value, derivatives


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: those of `cytokine_window` from the earlier points, a tail from the last, few to many memory cells."""
    part = len(time) // 2
    plain = cytokine_window.guess(time[: part + 3], log_level_seen[: part + 3], calendar, constants)
    tail = -slope(time[-4:], log_level_seen[-4:])
    slow = [float(np.clip(tail, 1e-3, 1.0))] if np.isfinite(tail) and tail > 0 else []
    starts = [
        [1.0, delta, rho, k, beta]
        for delta, rho in np.unique(plain[:, 1:].round(12), axis=0)
        for k, beta in ((0.002, 0.01), *((0.03, b) for b in (*slow, BETA.start)), (0.2, BETA.start))
    ]
    # Fast growth against fast loss: another hill of the likelihood, to which no slope of the points leads.
    starts += [[1.0, 4.0, rho, 0.2, BETA.start] for rho in (3.0, 3.9)]
    return with_scale(log_level, np.array(starts), time, log_level_seen, calendar, constants, SCALE.start)


def _turns(parameters: np.ndarray, calendar: Calendar, constants: Any) -> tuple[np.ndarray, np.ndarray]:
    """Knots (..., knots), and the day (..., knots) after each at which E + M turns; -inf where it does not.

    It turns where M/E = (r + k)/beta; from q_i after the knot M/E = k/s + (q_i - k/s) e^(-s x), s = r + beta.
    """
    delta, rho, k, beta = (parameters[..., i, None] for i in range(1, 5))
    at = _at_knots(parameters, calendar, constants)
    rate = rho * at.supported - delta
    s, wanted = rate + beta, (rate + k) / beta
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = np.exp(at.log_memory - at.log_effector)
        straight = (ratio - wanted) / (wanted * s - k)
        z = straight * s
        x = straight * np.where(np.abs(z) < 1e-8, 1.0 - z / 2.0, np.log1p(z) / np.where(z == 0, 1.0, z))
        until = np.concatenate([np.diff(at.time, axis=-1), np.full((*at.time.shape[:-1], 1), np.inf)], axis=-1)
        inside = (x > 0) & (x < until)
    return at.time, np.where(inside, at.time + np.where(inside, x, 0.0), -np.inf)


def _area(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> np.ndarray:
    """Area below E + M between two days (...), in closed form."""
    scale, delta, rho, k, beta = (parameters[..., i, None] for i in range(5))
    at = _at_knots(parameters, calendar, constants)
    edges = np.sort(np.clip(np.concatenate([at.time, [first, last]]), first, last))
    left, d = edges[:-1], np.diff(edges)
    effector, memory, *_ = _pools(left, parameters, calendar, constants)
    pulses = pulses_of(calendar, constants.agents)
    start, length = windows(pulses, constants.width)
    middle = (left + d / 2.0)[:, None]
    rate = rho * ((middle > start) & (middle < start + length)).any(axis=-1) - delta
    effectors = d * np.exp(log_mean_growth(rate * d)[0]) + k * d**2 * second_difference(rate * d, -beta * d)
    memories = d * np.exp(log_mean_growth(-beta * d)[0])
    return (scale * (np.exp(effector) * effectors + np.exp(memory) * memories)).sum(axis=-1)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, doubling time and expansion of the effector cells, half-lives, time below the LLOQ."""
    delta, rho, beta = (parameters[..., i] for i in (1, 2, 4))
    net = rho - delta
    tau = np.asarray(calendar.infusion_time, dtype=float)
    knots, turns = _turns(parameters, calendar, constants)
    inside = knots[(knots >= tau[0]) & (knots <= max(float(calendar.end), float(tau[-1])))]
    cover = covered(inside, pulses_of(calendar, constants.agents), constants.width)
    return (
        *arc_quantities(
            [knots, turns],
            lambda time: log_level(time, parameters, calendar, constants),
            lambda first, last: _area(parameters, calendar, constants, first, last),
            calendar,
            limit,
        ),
        Quantity(
            "doubling_time",
            "d",
            np.where(net > 0, LN2 / np.where(net > 0, net, 1.0), np.nan),
            reason="no net growth: rho does not exceed delta",
            formula="ln(2) / (rho - delta)",
            note="of the effector cells",
        ),
        Quantity(
            "fold_expansion",
            "",
            np.exp(largest_rise(rho[..., None] * cover - delta[..., None] * inside)),
            note="of the effector cells",
        ),
        Quantity("half_life_delta", "d", LN2 / delta, rate="delta", note="of the effector cells"),
        Quantity("half_life_beta", "d", LN2 / beta, rate="beta", note="of the memory cells"),
    )


def missing(calendar: Calendar, constants: Any) -> str:
    """Growth needs a dose of the agent."""
    without = cytokine_window.missing(calendar, constants)
    return without and f"no dose of {' or '.join(constants.agents)} during follow-up: rho cannot be estimated"


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Change of both pools: E' = r E, M' = k E - beta M."""
    _, _, _, k, beta = parameters
    effector, memory = cells
    own = cytokine_window.change(time, tau, effector, parameters, calendar, constants)
    return np.array([own, k * effector - beta * memory])


MODEL = KineticModel(
    name="effector_memory",
    title={"en": "Effector cells supported by a cytokine, and memory cells", "zh": "细胞因子支持的效应细胞与记忆细胞"},
    formula=lambda constants: (
        "C(t) = E + M, E' = r(t) E, M' = k E - beta M, each infusion adds S D_k to E; "
        f"r = rho - delta within {constants.width:g} d after a dose of {' or '.join(constants.agents)}, else -delta"
    ),
    parameters=(SCALE, DELTA, RHO, K_MEMORY, BETA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    missing=missing,
    growth="rho",
    pools=2,
    fixed=lambda constants: {"width": (constants.width, "d")},
    example=Example(
        (2500.0, 0.5, 0.7, 0.03, 0.03),
        Calendar(np.array([0.0, 3.0, 6.0]), np.array([1.0, 1.0, 0.5]), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 55.0),
        np.array(
            [0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 20.0, 27.0, 34.0, 41.0, 55.0]
        ),
    ),
)
