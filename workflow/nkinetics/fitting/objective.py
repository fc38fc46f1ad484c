"""Assay profiles under a model: -ln L, its gradient and curvature, over (problems, parameters)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nkinetics.fitting.likelihood import Points, Rows, side_by_side, terms_side_by_side
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, KineticModel

SIGMA_LOWER, SIGMA_UPPER, SIGMA_START = 0.01, 10.0, 0.5
"""Search limits of the residual SD of ln: below 1 % the curve passes through the points and sigma means nothing."""


@dataclass(frozen=True, eq=False)
class Case:
    """A profile and a model, ready to be fitted.

    Vectors on the scale of estimation hold the model's parameters in order and then ln sigma.

    Parameters
    ----------
    model : KineticModel
        The curve.
    constants : pydantic model
        The model's own settings.
    calendar : Calendar
        Of this patient.
    points : Points
        Rows of the likelihood.
    """

    model: KineticModel
    constants: Any
    calendar: Calendar
    points: Points

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of the curve, and sigma."""
        return (*self.model.names, "sigma")

    @property
    def size(self) -> int:
        """Number of parameters, sigma among them."""
        return len(self.model.parameters) + 1

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Search limits (parameters,) on the scale of estimation."""
        lower = to_estimation(self.model, np.array([p.lower for p in self.model.parameters]))
        upper = to_estimation(self.model, np.array([p.upper for p in self.model.parameters]))
        return np.append(lower, np.log(SIGMA_LOWER)), np.append(upper, np.log(SIGMA_UPPER))

    @cached_property
    def pool(self) -> Pool:
        """The case alone."""
        return Pool.of([self])

    @property
    def shape(self) -> Hashable:
        """Cases with the same shape are computed together.

        Rows are padded, and padding changes no bit of a sum that is taken row by row; infusions and pulses are summed
        in other ways, and are few. Series of very different length stay apart, because padding costs.
        """
        pulses = tuple((agent, len(starts)) for agent, starts in sorted(self.calendar.pulses.items()))
        return (self.model.name, repr(self.constants), len(self.calendar.infusion_time), pulses, self.points.n // 32)

    def natural(self, vector: np.ndarray) -> np.ndarray:
        """Parameters and sigma (..., parameters + 1) on the natural scale."""
        curve = to_natural(self.model, vector[..., :-1])
        return np.concatenate([curve, np.exp(vector[..., -1:])], axis=-1)

    def estimation(self, natural: np.ndarray) -> np.ndarray:
        """Parameters and sigma (..., parameters + 1) on the scale of estimation."""
        curve = to_estimation(self.model, natural[..., :-1])
        return np.concatenate([curve, np.log(natural[..., -1:])], axis=-1)

    def curve(self, time: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ln level (..., times), and its derivatives (..., times, parameters) on the scale of estimation."""
        parameters = to_natural(self.model, vector[..., :-1])
        return self.model.jacobian(time, parameters, self.calendar, self.constants)

    def objective(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-ln L (problems,), gradient (problems, p) and Fisher-scoring curvature (problems, p, p)."""
        return self.pool.objective(vector, np.zeros(len(vector), dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Pool:
    """Cases of one shape, side by side.

    Parameters
    ----------
    model, constants
        Of all of them.
    calendar : Calendar
        With a leading axis of cases.
    rows : Rows
        Rows of the likelihood of each case.
    """

    model: KineticModel
    constants: Any
    calendar: Calendar
    rows: Rows

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Pool:
        """Put cases of one shape side by side."""
        first = cases[0]
        calendars = [case.calendar for case in cases]
        calendar = Calendar(
            np.stack([c.infusion_time for c in calendars]),
            np.stack([c.infusion_amount for c in calendars]),
            {agent: np.stack([c.pulses[agent] for c in calendars]) for agent in first.calendar.pulses},
            max(c.end for c in calendars),
        )
        return cls(first.model, first.constants, calendar, side_by_side([case.points for case in cases]))

    def objective(self, vector: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-ln L (problems,), gradient (problems, p) and Fisher-scoring curvature (problems, p, p).

        Parameters
        ----------
        vector : array (problems, parameters)
            Scale of estimation, ln sigma last.
        which : array of int (problems,)
            The case of each problem.
        """
        rows = self.rows.of(which)
        calendar = Calendar(
            self.calendar.infusion_time[which],
            self.calendar.infusion_amount[which],
            {agent: starts[which] for agent, starts in self.calendar.pulses.items()},
            self.calendar.end,
        )
        parameters = to_natural(self.model, vector[..., :-1])
        mu, slopes = self.model.jacobian(rows.time, parameters, calendar, self.constants)
        part = terms_side_by_side(mu, vector[..., -1], rows)
        n, p = vector.shape
        gradient, curvature = np.empty((n, p)), np.empty((n, p, p))
        # These products add row after row: a row of weight 0 changes no bit, wherever it stands.
        whole = np.einsum("bnj,bn->bj", np.stack([part.value, part.sigma, part.sigma2], axis=-1), rows.weight)
        gradient[:, :-1] = -np.einsum("bnj,bn->bj", slopes, part.mean * rows.weight)
        gradient[:, -1] = -whole[:, 1]
        weighted = (part.mean2 * rows.weight)[..., None] * slopes
        curvature[:, :-1, :-1] = np.einsum("bnj,bnk->bjk", slopes, weighted)
        cross = np.einsum("bnj,bn->bj", slopes, part.cross * rows.weight)
        curvature[:, :-1, -1] = curvature[:, -1, :-1] = cross
        curvature[:, -1, -1] = whole[:, 2]
        return -whole[:, 0], gradient, curvature
