"""Maximum likelihood by stochastic approximation EM, with the exact likelihood of censored rows.

Kuhn & Lavielle 2005 (Computational Statistics & Data Analysis 49:1020, doi:10.1016/j.csda.2004.07.002); censored values
are drawn from their conditional distribution before the residual SD is estimated (Samson, Lavielle & Mentre 2006,
Computational Statistics & Data Analysis 51:1562, doi:10.1016/j.csda.2006.05.007). Standard errors by the formula of
Louis 1982 (J R Stat Soc B 44:226, doi:10.1111/j.2517-6161.1982.tb01203.x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from nkinetics.population.mixed import Effects, Study, Values, cholesky
from nkinetics.population.walks import Walk

EXPLORING, SMOOTHING = 300, 200
"""Iterations at step 1, and then at steps 1/k."""
ANNEALED, COOLING = 150, 0.95
"""For so many iterations no variance falls faster than by this factor."""
CHAINS_FOR = 60
"""Chains are added until patients times chains reach this."""
FAR = 50
"""Iterations with two draws from the population, then one."""
SIGMA_MIN = 1e-3
"""Smallest residual SD."""
OMEGA_MIN = 1e-3
"""SD between patients below which it is none."""


@dataclass(frozen=True, eq=False)
class Saem:
    """Result of one run.

    Parameters
    ----------
    values : Values
        At the end, without a leading axis.
    walk : Walk
        The chains there.
    trace : array (iterations, values)
        theta, ln SDs between patients, ln sigma at each iteration.
    """

    values: Values
    walk: Walk
    trace: np.ndarray


def truncated_normal(
    mean: np.ndarray, sd: np.ndarray, lower: np.ndarray, upper: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Normal values within (lower, upper) by the inverse distribution function, in logs.

    Parameters
    ----------
    mean, sd, lower, upper : arrays (...)
        Of the normal, and the ends of the interval; -inf and inf where open.
    uniform : array (...)
        In (0, 1).

    Examples
    --------
    >>> float(truncated_normal(np.zeros(1), np.ones(1), np.array([-np.inf]), np.array([0.0]), np.array([0.5]))[0])
    -0.6744897501960817
    """
    a, b = (lower - mean) / sd, (upper - mean) / sd
    # In the upper tail Phi is 1 to the last digit: mirror it into the lower one.
    flip = np.isfinite(a) & (a + b > 0)
    low, high = np.where(flip, -b, a), np.where(flip, -a, b)
    log_low, log_high = log_ndtr(low), log_ndtr(high)
    with np.errstate(divide="ignore"):
        share = np.log(uniform) + np.log1p(-np.exp(np.minimum(log_low - log_high, 0.0)))
    z = ndtri_exp(np.minimum(np.logaddexp(log_low, log_high + share), 0.0))
    z = np.clip(z, low, high)
    return mean + sd * np.where(flip, -z, z)


def complete_residuals(
    study: Study, mu: np.ndarray, values: Values, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of ln level (chains, patients, rows) with the censored ones drawn, and their part that sigma explains.

    A residual is e1 + e2 with e1 ~ N(0, sigma^2) and e2 the counting noise: given the sum, e1 is drawn.
    """
    rows, q = study.series, study.series.n_quantified
    sigma2 = np.broadcast_to(
        (values.sigma[:, None, :1] if rows.assays == 1 else values.sigma[:, rows.assay]) ** 2, mu.shape
    )
    total = sigma2 + rows.counting_variance
    residual = np.empty(mu.shape)
    residual[..., :q] = rows.log_level - mu[..., :q]
    if mu.shape[-1] > q:
        u = random.random(mu[..., q:].shape)
        drawn = truncated_normal(mu[..., q:], np.sqrt(total[..., q:]), rows.log_lower, rows.log_upper, u)
        residual[..., q:] = drawn - mu[..., q:]
    own = residual
    if rows.counting_variance.any():
        share = sigma2 / total
        own = residual * share + np.sqrt(share * rows.counting_variance) * random.standard_normal(mu.shape)
    return residual, own


def saem(
    study: Study,
    random: np.random.Generator,
    exploring: int = EXPLORING,
    smoothing: int = SMOOTHING,
    scatter: float = 0.0,
) -> Saem:
    """Maximum likelihood estimates of a study.

    Parameters
    ----------
    study : Study
        Patients and model.
    random : Generator
        Source of all draws.
    exploring, smoothing : int
        Iterations at step 1 and at steps 1/k.
    scatter : float
        The start is moved by so many SDs between patients.

    Returns
    -------
    Saem
        Also where it did not settle: the caller judges by the gradient.
    """
    effects, rows = study.effects, study.series
    chains = max(1, -(-CHAINS_FOR // study.n))
    moving = effects.moving
    theta = effects.start.copy()
    if scatter:
        theta = theta + np.where(effects.free, scatter * effects.reach * random.standard_normal(len(theta)), 0.0)
    omega = np.diag(np.where(effects.varies, effects.omega_start, 0.0) ** 2)
    sigma, offset = effects.sigma_start.copy(), np.zeros(rows.assays)
    location = effects.location(theta)
    phi = location + random.standard_normal((chains, *location.shape)) @ cholesky(omega).T * 0.5
    walk = Walk(study, phi, random)
    first, second = np.zeros(location.shape), np.zeros(omega.shape)
    squares = np.zeros(rows.assays)
    of_assay = np.stack([rows.weight * (rows.assay == g) for g in range(rows.assays)])
    counts = np.maximum(of_assay.sum(axis=(1, 2)), 1.0)
    penalty = np.where(np.isfinite(effects.prior_sd), 1.0 / effects.prior_sd**2, 0.0)
    trace = []
    for k in range(exploring + smoothing):
        values = Values(theta[None], omega[None], sigma[None], offset[None])
        walk.refresh(values)
        walk.sweep(values, draws=2 if k < FAR else 1)
        step = 1.0 if k < exploring else 1.0 / (k - exploring + 1.0)
        mu = study.mean(walk.phi, offset[None])
        residual, own = complete_residuals(study, mu, values, random)
        first += step * (walk.phi.mean(axis=0) - first)
        second += step * (np.einsum("cnp,cnq->pq", walk.phi, walk.phi) / chains - second)
        squares += step * (np.einsum("cnt,gnt->g", own * own, of_assay) / chains - squares)
        # The curve is that of the first assay; the others lie an offset above it.
        shift = np.einsum("cnt,gnt->g", residual, of_assay) / chains / counts
        offset[1:] += step * shift[1:]
        if effects.shared.any():
            theta = _shared(study, walk.phi, residual, values, theta, step)
        theta = _regression(effects, first, omega, theta, penalty)
        wider, sigma_new = _covariance(effects, first, second, theta, study.n), np.sqrt(squares / counts)
        if k < ANNEALED:
            old, new = np.sqrt(np.diag(omega)), np.sqrt(np.diag(wider))
            held = np.maximum(new, np.sqrt(COOLING) * old)
            scale = np.divide(held, new, out=np.ones(len(new)), where=new > 0)
            wider = wider * np.outer(scale, scale)
            sigma_new = np.maximum(sigma_new, np.sqrt(COOLING) * sigma)
        omega, sigma = wider, np.maximum(sigma_new, SIGMA_MIN)
        trace.append(np.concatenate([theta, 0.5 * np.log(np.diag(omega)[moving]), np.log(sigma), offset[1:]]))
    return Saem(Values(theta, omega, sigma, offset), walk, np.array(trace))


def _shared(
    study: Study, phi: np.ndarray, residual: np.ndarray, values: Values, theta: np.ndarray, step: float
) -> np.ndarray:
    """Theta after a Gauss-Newton step of the coefficients of parameters that do not vary, at the completed data."""
    effects = study.effects
    if study.slopes is None:
        raise ValueError("parameters without variability need the derivatives of the curve")
    shared = np.flatnonzero(effects.shared)
    _, slopes = study.slopes(phi, len(phi))
    by = np.einsum("cntp,npk->cntk", slopes, effects.design[..., shared])
    precision = study.series.weight / study.spread(values.sigma)
    matrix = np.einsum("cntk,cnt,cntl->kl", by, np.broadcast_to(precision, residual.shape), by)
    right = np.einsum("cntk,cnt->k", by, residual * precision)
    prior = np.where(np.isfinite(effects.prior_sd), 1.0 / effects.prior_sd**2, 0.0)[shared] * len(phi)
    mean = np.where(prior > 0, effects.prior_mean[shared] - theta[shared], 0.0)
    move = np.linalg.lstsq(matrix + np.diag(prior), right + prior * mean, rcond=1e-10)[0]
    found = theta.copy()
    found[shared] += step * np.clip(move, -0.5, 0.5)
    # The patients stand where the coefficients put them.
    still = ~effects.varies
    phi[..., still] = effects.location(found)[:, still]
    return found


def _regression(
    effects: Effects, first: np.ndarray, omega: np.ndarray, theta: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """Theta that fits the conditional means best: generalised least squares, with the prior where there is one."""
    moving, drawn = effects.moving, effects.drawn
    if not drawn.any():
        return theta
    precision = np.linalg.inv(omega[np.ix_(moving, moving)])
    design = effects.design[:, moving]
    free = np.flatnonzero(drawn)
    fixed = np.where(drawn, 0.0, theta)
    target = first[:, moving] - design @ fixed
    weighted = np.einsum("npk,pq->nqk", design[..., free], precision)
    matrix = np.einsum("nqk,nql->kl", weighted, design[..., free]) + np.diag(penalty[free])
    right = np.einsum("nqk,nq->k", weighted, target)
    right = right + penalty[free] * np.where(penalty[free] > 0, effects.prior_mean[free], 0.0)
    found = theta.copy()
    found[free] = np.linalg.solve(matrix, right)
    return found


def _covariance(effects: Effects, first: np.ndarray, second: np.ndarray, theta: np.ndarray, n: int) -> np.ndarray:
    """Omega from the conditional moments about B_i theta."""
    location = effects.location(theta)
    cross = first.T @ location
    whole = (second - cross - cross.T + location.T @ location) / n
    whole = np.where(effects.together, (whole + whole.T) / 2.0, 0.0)
    sd = np.sqrt(np.maximum(np.diag(whole), 0.0))
    low = np.where(effects.varies, np.maximum(sd, OMEGA_MIN), 0.0)
    scale = np.where(sd > 0, low / np.where(sd > 0, sd, 1.0), 0.0)
    kept = whole * np.outer(scale, scale)
    np.fill_diagonal(kept, low * low)
    moving = effects.moving
    block = kept[np.ix_(moving, moving)]
    if len(moving) and np.linalg.eigvalsh(block)[0] <= 1e-12:
        kept = np.diag(low * low)
    return kept
