"""Which model describes one profile best: AICc and its weights. Reported, never trusted alone."""

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
