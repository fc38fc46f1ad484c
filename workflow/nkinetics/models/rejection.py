"""Growth while a cytokine lasts, and rejection by the host: R(t) = -delta t + rho L(t) - kappa max(0, t - T_r).

L(t) is that of `cytokine_window`. From day T_r on, counted from the first infusion, allogeneic cells are lost faster by
kappa. T_r and the width of the windows are fixed by the configuration. With the samples of one patient the model is
hardly ever identifiable: it is a model for the population.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nkinetics.models import cytokine_window
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
from nkinetics.models.cytokine_window import RHO
from nkinetics.models.decay import DELTA, SCALE
from nkinetics.plugins import Calendar, Example, KineticModel, Parameter, Quantity

KAPPA = Parameter(
    "kappa",
    "1/d",
    "log",
    1e-3,
    10.0,
    0.3,
    {"en": "additional loss rate once the host rejects the cells", "zh": "宿主排斥后增加的消除速率"},
)


class Constants(BaseModel):
    """What counts as support by a cytokine, and when rejection begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = Field(("IL-2",), min_length=1, description="Agents of cytokines.csv that support growth.")
    width: float = Field(1.5, gt=0, le=30, description="How long one dose supports growth, days (fixed).")
    width_range: Range = Field((0.5, 3.0), description="Widths over which the sensitivity to it is shown, days.")
    t_rejection: float = Field(
        14.0, gt=0, le=365, description="Day after the first infusion on which rejection begins (fixed)."
    )
    t_rejection_range: Range = Field((10.0, 21.0), description="Days over which the sensitivity to it is shown.")


def _exponent(
    time: np.ndarray, parameters: np.ndarray, pulses: np.ndarray, constants: Any
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """R(t) (..., times), and its derivatives by ln delta, ln rho and ln kappa."""
    delta, rho, kappa = (parameters[..., i, None] for i in range(1, 4))
    lost, grown = delta * time, rho * covered(time, pulses, constants.width)
    rejected = kappa * np.maximum(time - constants.t_rejection, 0.0)
    return grown - lost - rejected, (-lost, grown, -rejected)


def log_level(time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Ln level (..., times): ln S + ln sum_k D_k exp(R(t) - R(tau_k)).

    Examples
    --------
    Lost at 0.1/d, from day 14 on at 0.5/d; no cytokine.

    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> log_level(np.array([14.0, 15.0]), np.array([1.0, 0.1, 0.6, 0.4]), once, Constants()).round(9).tolist()
    [-1.4, -1.9]
    """
    return jacobian(time, parameters, calendar, constants)[0]


def jacobian(
    time: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level, and its derivatives with respect to ln S, ln delta, ln rho and ln kappa."""
    tau = np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    exponent, slopes = _exponent(time, parameters, pulses, constants)
    exponent_tau, slopes_tau = _exponent(tau, parameters, pulses, constants)
    value, share = superposed(time, calendar, exponent, exponent_tau)
    derivatives = np.empty((*value.shape, 4))
    derivatives[..., 0] = 1.0
    for i, (own, given) in enumerate(zip(slopes, slopes_tau, strict=True), start=1):
        derivatives[..., i] = own - (share * given[..., None, :]).sum(axis=-1)
    return np.log(parameters[..., 0, None]) + value, derivatives


def prepared(time: np.ndarray, calendar: Calendar, constants: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Ln level without derivatives, for times and calendars that are settled."""
    total, tau = superposition(time, calendar), np.asarray(calendar.infusion_time, dtype=float)
    pulses = pulses_of(calendar, constants.agents)
    cover, cover_tau = covered(time, pulses, constants.width), covered(tau, pulses, constants.width)
    late, late_tau = (np.maximum(t - constants.t_rejection, 0.0) for t in (time, tau))

    def at(parameters: np.ndarray) -> np.ndarray:
        scale, delta, rho, kappa = (parameters[..., i, None] for i in range(4))
        exponent = rho * cover - delta * time - kappa * late
        return np.log(scale) + total(exponent, rho * cover_tau - delta * tau - kappa * late_tau)

    return at


def guess(time: np.ndarray, log_level_seen: np.ndarray, calendar: Calendar, constants: Any) -> np.ndarray:
    """Starts: those of `cytokine_window` from the points before rejection, with slow to fast rejection."""
    early = time <= constants.t_rejection
    plain = cytokine_window.guess(time[early], log_level_seen[early], calendar, constants)
    after = -slope(time[~early], log_level_seen[~early])
    starts = []
    for delta, rho in np.unique(plain[:, 1:].round(12), axis=0):
        extra = after - delta
        more = [float(np.clip(extra, 0.01, 5.0))] if np.isfinite(extra) and extra > 0 else []
        starts += [[1.0, delta, rho, kappa] for kappa in (*more, 0.05, KAPPA.start)]
    # Hardly any loss before rejection: what falls later may all be kappa.
    starts += [[1.0, 0.01, rho, kappa] for rho in (0.05, 0.3) for kappa in (0.1, KAPPA.start, 0.8)]
    return with_scale(log_level, np.array(starts), time, log_level_seen, calendar, constants, SCALE.start)


def _knots(calendar: Calendar, constants: Any) -> np.ndarray:
    start, length = windows(pulses_of(calendar, constants.agents), constants.width)
    tau = np.asarray(calendar.infusion_time, dtype=float)
    return np.concatenate([tau, start, start + length, [constants.t_rejection]])


def curve(parameters: np.ndarray, calendar: Calendar, constants: Any, first: float, last: float) -> Segments:
    """The curve by segments between infusions, ends of windows and the start of rejection."""
    knots = _knots(calendar, constants)
    start, length = windows(pulses_of(calendar, constants.agents), constants.width)

    def pieces(left: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        delta, rho, kappa = (parameters[..., i, None] for i in range(1, 4))
        value = log_level(left, parameters, calendar, constants)
        inside = ((middle[..., None] > start) & (middle[..., None] < start + length)).any(axis=-1)
        return value[..., None], (inside * rho - delta - (middle > constants.t_rejection) * kappa)[..., None]

    return segments([np.broadcast_to(knots, (*parameters.shape[:-1], len(knots)))], first, last, pieces)


def derived(parameters: np.ndarray, calendar: Calendar, constants: Any, limit: float) -> tuple[Quantity, ...]:
    """Peak and AUC of the curve, doubling time and expansion under the cytokine, half-life, time below the LLOQ."""
    delta, rho = parameters[..., 1], parameters[..., 2]
    net = rho - delta
    tau = np.asarray(calendar.infusion_time, dtype=float)
    knots = np.sort(_knots(calendar, constants))
    knots = knots[(knots >= tau[0]) & (knots <= max(calendar.end, float(tau[-1])))]
    exponent = _exponent(knots, parameters, pulses_of(calendar, constants.agents), constants)[0]
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
        Quantity("half_life_delta", "d", LN2 / delta, rate="delta", note="before rejection"),
    )


def missing(calendar: Calendar, constants: Any) -> str:
    """Growth needs a dose of the agent, rejection a follow-up beyond its start."""
    if calendar.end <= constants.t_rejection:
        return f"follow-up ends on day {calendar.end:.4g}, before rejection begins on day {constants.t_rejection:g}"
    without = cytokine_window.missing(calendar, constants)
    return without and f"no dose of {' or '.join(constants.agents)} during follow-up: rho cannot be estimated"


def change(
    time: float, tau: float, cells: np.ndarray, parameters: np.ndarray, calendar: Calendar, constants: Any
) -> np.ndarray:
    """Change of `cytokine_window`, and from T_r on a further loss kappa N."""
    own = cytokine_window.change(time, tau, cells, parameters, calendar, constants)
    return own - (time >= constants.t_rejection) * parameters[3] * cells


MODEL = KineticModel(
    name="rejection",
    title={"en": "Growth while a cytokine lasts, then rejection", "zh": "细胞因子支持期内增殖，其后被排斥"},
    formula=lambda constants: (
        "C(t) = S sum_k D_k exp(R(t) - R(tau_k)), R(t) = -delta t + rho L(t) - kappa max(0, t - T_r), "
        f"L(t) = time within {constants.width:g} d after a dose of {' or '.join(constants.agents)}, "
        f"T_r = {constants.t_rejection:g} d"
    ),
    parameters=(SCALE, DELTA, RHO, KAPPA),
    settings=Constants,
    log_level=log_level,
    jacobian=jacobian,
    guess=guess,
    derived=derived,
    change=change,
    prepared=prepared,
    missing=missing,
    growth="rho",
    fixed=lambda constants: {"width": (constants.width, "d"), "t_rejection": (constants.t_rejection, "d")},
    example=Example(
        (2500.0, 0.15, 0.5, 0.3),
        Calendar(np.array([0.0, 3.0, 6.0]), np.array([1.0, 1.0, 0.5]), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 34.0),
        np.array([0.08, 1.0, 2.0, 2.9, 4.0, 5.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 18.0, 20.0, 27.0, 34.0]),
    ),
)
