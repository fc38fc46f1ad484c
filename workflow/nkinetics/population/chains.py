"""Whether chains agree, and what their draws are worth.

Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021 (Bayesian Analysis 16:667, doi:10.1214/20-BA1221): ranks of the
draws in place of the draws, chains split in two.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def _normal_scores(draws: np.ndarray) -> np.ndarray:
    """Ranks over all draws as normal scores; every chain split in two (2 chains, half)."""
    half = draws.shape[1] // 2
    split = np.concatenate([draws[:, :half], draws[:, -half:]])
    # Draws are continuous: ties are repeats of one draw, and their order does not matter.
    order = np.argsort(split, axis=None, kind="stable")
    ranks = np.empty(split.size)
    ranks[order] = np.arange(1, split.size + 1)
    return np.asarray(ndtri((ranks.reshape(split.shape) - 0.375) / (split.size + 0.25)))


def _ratio(z: np.ndarray) -> float:
    n = z.shape[1]
    within = z.var(axis=1, ddof=1).mean()
    between = n * z.mean(axis=1).var(ddof=1)
    if not within > 0:
        return 1.0
    return float(np.sqrt(((n - 1) / n * within + between / n) / within))


def split_rhat(draws: np.ndarray) -> float:
    """Potential scale reduction of draws (chains, draws): 1 where all chains are at the same place, of equal width.

    Examples
    --------
    >>> same = np.random.default_rng(1).standard_normal((4, 1000))
    >>> split_rhat(same) < 1.01 < split_rhat(same + np.arange(4)[:, None])
    True
    """
    folded = np.abs(draws - np.median(draws))
    return max(_ratio(_normal_scores(draws)), _ratio(_normal_scores(folded)))


def effective_size(draws: np.ndarray) -> float:
    """Independent draws to which draws (chains, draws) are equivalent, by their autocorrelation.

    Examples
    --------
    >>> found = effective_size(np.random.default_rng(1).standard_normal((4, 1000)))
    >>> 3000 < found < 5000
    True
    """
    z = _normal_scores(draws)
    m, n = z.shape
    centred = z - z.mean(axis=1, keepdims=True)
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.fft.rfft(centred, size, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    total = (n - 1) / n * within + z.mean(axis=1).var(ddof=1)
    if not total > 0:
        return float(m * n)
    rho = 1.0 - (within - covariance.mean(axis=0)) / total
    # Geyer: sums of neighbours are positive and fall.
    pairs = rho[0 : n - n % 2 : 2] + rho[1 : n - n % 2 : 2]
    stop = np.argmax(pairs < 0) if (pairs < 0).any() else len(pairs)
    falling = np.minimum.accumulate(pairs[:stop]) if stop else np.array([1.0])
    time = max(-1.0 + 2.0 * falling.sum(), 1.0 / np.log10(max(m * n, 10)))
    return float(m * n / time)
