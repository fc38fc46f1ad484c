"""One assay profile under one model: -ln L, its gradient and curvature, over (problems, parameters)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nkinetics.fitting.likelihood import Points, terms
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

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Search limits (parameters,) on the scale of estimation."""
        lower = to_estimation(self.model, np.array([p.lower for p in self.model.parameters]))
        upper = to_estimation(self.model, np.array([p.upper for p in self.model.parameters]))
        return np.append(lower, np.log(SIGMA_LOWER)), np.append(upper, np.log(SIGMA_UPPER))

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
        mu, slopes = self.curve(self.points.time, vector)
        part = terms(mu, vector[..., -1], self.points)
        n, p = vector.shape
        gradient, curvature = np.empty((n, p)), np.empty((n, p, p))
        turned = slopes.transpose(0, 2, 1)
        gradient[:, :-1] = -(turned @ part.mean[..., None])[..., 0]
        gradient[:, -1] = -part.sigma.sum(axis=-1)
        curvature[:, :-1, :-1] = turned @ (part.mean2[..., None] * slopes)
        cross = (turned @ part.cross[..., None])[..., 0]
        curvature[:, :-1, -1] = curvature[:, -1, :-1] = cross
        curvature[:, -1, -1] = part.sigma2.sum(axis=-1)
        return -part.value.sum(axis=-1), gradient, curvature

    def information(self, vectors: np.ndarray) -> np.ndarray:
        """Observed information (problems, p, p): central differences of the analytic gradient, all in one call."""
        n, p = vectors.shape
        step = 1e-4 * np.concatenate([np.eye(p), -np.eye(p)])
        gradient = self.objective((vectors[:, None, :] + step).reshape(-1, p))[1].reshape(n, 2 * p, p)
        matrix = (gradient[:, :p] - gradient[:, p:]) / 2e-4
        return (matrix + matrix.transpose(0, 2, 1)) / 2.0
