"""What the data of one patient do not determine, in words."""

from __future__ import annotations

import numpy as np

from nkinetics.fitting.intervals import Ends
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import Optimum

CORRELATION_MAX = 0.995
"""Beyond this two parameters cannot be told apart."""


def standard_errors(case: Case, optimum: Optimum) -> np.ndarray:
    """Standard errors (parameters,) on the natural scale from the observed information; nan where it has none."""
    error = np.sqrt(np.diag(optimum.covariance))
    value = case.natural(optimum.vector)
    slope = value.copy()
    for i, parameter in enumerate(case.model.parameters):
        if parameter.scale == "logit":
            slope[i] = value[i] * (1.0 - value[i])
        elif parameter.scale == "identity":
            slope[i] = 1.0
    return error * slope


def correlations(optimum: Optimum) -> np.ndarray:
    """Correlation of the estimates (parameters, parameters), scale of estimation; nan where there is none."""
    error = np.sqrt(np.diag(optimum.covariance))
    return optimum.covariance / np.outer(error, error)


def reasons(case: Case, optimum: Optimum, ends: Ends, errors: np.ndarray, rse_limit_pct: float) -> list[str]:
    """Why each parameter is not identifiable; empty text where it is.

    Parameters
    ----------
    case, optimum, ends
        The fit and its intervals.
    errors : array (parameters,)
        From `standard_errors`.
    rse_limit_pct : float
        Largest relative standard error, in percent.
    """
    value = case.natural(optimum.vector)
    correlation = np.abs(correlations(optimum))
    scales = [*(p.scale for p in case.model.parameters), "log"]
    found = []
    for i, name in enumerate(case.names):
        words = []
        if name in optimum.at_bound:
            words.append(f"at the search limit {value[i]:.4g}")
        if ends.open_lower[i] or ends.open_upper[i]:
            both = ends.open_lower[i] and ends.open_upper[i]
            side = "on both sides" if both else "below" if ends.open_lower[i] else "above"
            words.append(f"interval open {side}")
        rse = 100.0 * errors[i] / abs(value[i])
        if rse > rse_limit_pct:
            words.append(f"relative standard error {rse:.0f} % above {rse_limit_pct:g} %")
        # Without a standard error a closed interval must do in its place: on a log scale its half-width in standard
        # normal units is what the relative standard error would be.
        wide = ends.upper[i] - ends.lower[i]
        if np.isnan(rse) and not words and scales[i] == "log" and 100.0 * wide / (2 * 1.96) > rse_limit_pct:
            words.append(f"interval over a factor of {np.exp(wide):.3g}")
        twin = [
            case.names[j]
            for j in range(case.size)
            if j != i and np.isfinite(correlation[i, j]) and correlation[i, j] > CORRELATION_MAX
        ]
        if twin:
            words.append(f"not to be told apart from {' and '.join(twin)} (correlation above {CORRELATION_MAX:g})")
        found.append("not identifiable: " + ", ".join(words) if words else "")
    return found
