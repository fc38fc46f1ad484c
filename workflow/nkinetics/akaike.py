"""Akaike's criterion for small samples, the weights of candidate models, and how a weight is printed.

For those who estimate and for those who only show what was estimated: nothing here takes an optimiser to load.
Burnham & Anderson, Sociol Methods Res 2004;33:261, doi:10.1177/0049124104268644.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def aicc(log_likelihood: float, n: int, k: int) -> float:
    """Small-sample Akaike criterion, -2 ln L + 2k + 2k(k + 1)/(n - k - 1).

    Parameters
    ----------
    log_likelihood : float
        Maximum of ln L.
    n : int
        Rows of the likelihood, censored rows among them.
    k : int
        Parameters estimated, the residual SD among them.

    Returns
    -------
    float
        nan when n <= k + 1: it is not defined there.

    Examples
    --------
    >>> aicc(-10.0, 12, 3), aicc(-10.0, 4, 3)
    (29.0, nan)
    """
    if n <= k + 1:
        return float("nan")
    return -2.0 * log_likelihood + 2.0 * k + 2.0 * k * (k + 1) / (n - k - 1)


def weights(criteria: Sequence[float]) -> np.ndarray:
    """Akaike weights of the models whose criterion is defined; nan for the others.

    Examples
    --------
    >>> weights([10.0, 10.0, float("nan")]).tolist()
    [0.5, 0.5, nan]
    """
    values = np.asarray(criteria, dtype=float)
    if np.isnan(values).all():
        return values
    with np.errstate(over="ignore"):
        share = np.exp(-0.5 * (values - np.nanmin(values)))
    return share / np.nansum(share)


def weight_text(weight: float) -> str:
    """An Akaike weight as printed.

    Examples
    --------
    >>> weight_text(0.873), weight_text(1e-6)
    ('0.87', '<0.01')
    """
    return "<0.01" if weight < 0.005 else f"{weight:.2f}"
