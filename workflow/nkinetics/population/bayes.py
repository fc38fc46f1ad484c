"""Full Bayes for few patients: Metropolis within Gibbs over patients and population together.

Weak priors: half-normal on the SDs between patients and on the residual SD, normal on typical values. Typical values
are drawn from their conditional normal; SDs by random walks. Between few patients a small SD mixes badly when only its
own conditional is drawn from: steps that move an SD or a typical value with the patients' deviations held fixed
(interweaving; Yu & Meng 2011, J Comput Graph Stat 20:531, doi:10.1198/jcgs.2011.203main) go with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nkinetics.population.chains import effective_size, split_rhat
from nkinetics.population.information import Coordinate, coordinates, vector
from nkinetics.population.mixed import Study, Values
from nkinetics.population.walks import Walk

CHAINS = 8
WARM_UP, SWEEPS, ROUNDS = 1000, 3000, 4
"""Sweeps in which steps adapt, sweeps that count, and how often these are extended until the gate is met."""
RHAT_MAX, ESS_MIN = 1.02, 400.0
"""Gate: chains agree, and the draws are worth so many independent ones."""
THIN = 5
"""Every so many sweeps a draw is kept."""
SIGMA_SCALE = 1.0
"""Scale of the half-normal prior of the residual SD of ln level."""
OFFSET_SD = 10.0
"""SD of the normal prior of ln of the ratio of a further assay."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a study's parameters.

    Parameters
    ----------
    places : list of Coordinate
        What the columns of `draws` are, scale of estimation.
    draws : array (chains, kept, coordinates)
        Of the population.
    theta, omega, sigma, offset : arrays (chains, kept, ...)
        The same as values.
    phi : array (chains, kept, patients, p)
        Of the patients.
    rhat, ess : arrays (coordinates,)
        Of each column of `draws`.
    """

    places: list[Coordinate]
    draws: np.ndarray
    theta: np.ndarray
    omega: np.ndarray
    sigma: np.ndarray
    offset: np.ndarray
    phi: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray

    @property
    def settled(self) -> bool:
        """Whether the gate is met."""
        return bool((self.rhat <= RHAT_MAX).all() and (self.ess >= ESS_MIN).all())


class _Chains:
    """Population parameters of all chains, and their moves."""

    def __init__(self, study: Study, random: np.random.Generator, chains: int) -> None:
        effects = study.effects
        self.study, self.random, self.effects = study, random, effects
        c, p = chains, len(effects.names)
        wide = np.minimum(effects.reach, np.where(np.isfinite(effects.prior_sd), effects.prior_sd, np.inf))
        self.theta = effects.start + np.where(effects.free, wide, 0.0) * random.standard_normal((c, len(wide))) * 0.5
        start = np.where(effects.varies, effects.omega_start, 0.0)
        self.sd = start * np.exp(0.3 * random.standard_normal((c, p)))
        self.correlation = np.tile(np.eye(p), (c, 1, 1))
        g = study.series.assays
        self.sigma = effects.sigma_start * np.exp(0.2 * random.standard_normal((c, g)))
        self.offset = np.zeros((c, g))
        location = effects.location(self.theta)
        phi = location + self.sd[:, None, :] * 0.5 * random.standard_normal(location.shape)
        self.walk = Walk(study, phi, random)
        self.adapting = True
        self.turn = 0
        self.steps: dict[str, np.ndarray] = {}
        self.pairs = [(i, j) for i in effects.moving for j in effects.moving if i < j and bool(effects.together[i, j])]
        self.precision_of_prior = np.where(np.isfinite(effects.prior_sd), 1.0 / effects.prior_sd**2, 0.0)
        self.theta_scale = np.where(effects.free, np.maximum(wide, 0.05), 0.0)
        own = self.theta_scale[effects.free]
        self.theta_precision, self.theta_root = np.zeros((len(own), len(own))), np.diag(own)

    def omega(self) -> np.ndarray:
        """(chains, p, p)."""
        return self.correlation * self.sd[:, :, None] * self.sd[:, None, :]

    def values(self) -> Values:
        """With the leading axis of chains."""
        return Values(self.theta, self.omega(), self.sigma, self.offset)

    def sweep(self) -> None:
        """Everything once."""
        moving, free = self.effects.moving, np.flatnonzero(self.effects.free)
        self.walk.sweep(self.values(), draws=1 if self.adapting else 0, ones=1, alls=1)
        if len(moving) and not self.pairs:
            for turn in range(min(2, len(moving))):
                self.walk.renew(self.values(), int(moving[(2 * self.turn + turn) % len(moving)]))
        self._draw_theta()
        self._walk_omega()
        for k in range(min(2, len(moving))):
            self._stretch(int(moving[(2 * self.turn + k) % len(moving)]))
        for k in np.flatnonzero(self.effects.shared).tolist():
            self._shift(int(k))
        if len(free) > 1:
            self._shift_all(free)
        elif len(free):
            self._shift(int(free[0]))
        if self.adapting:
            self._learn(free)
        self._residual()
        self.turn += 1

    # ------------------------------------------------------------------------------------------------------- steps

    def _size(self, name: str) -> np.ndarray:
        return self.steps.setdefault(name, np.full(len(self.theta), 0.3))

    def _decide(self, name: str, ratio: np.ndarray, aim: float = 0.35) -> np.ndarray:
        """Which chains take a step; the size of the next one learns from it."""
        with np.errstate(invalid="ignore"):
            taken: np.ndarray = np.log(self.random.random(ratio.shape)) < ratio
        if self.adapting:
            gain = 0.1 + 0.5 / np.sqrt(1.0 + self.turn)
            self.steps[name] = self._size(name) * np.exp(gain * (taken.mean() - aim))
        return taken

    def _draw_theta(self) -> None:
        """Typical values and covariates given phi: a normal."""
        effects, moving = self.effects, self.effects.moving
        free = np.flatnonzero(effects.drawn)
        if not len(free):
            return
        precision = np.linalg.inv(self.omega()[:, moving[:, None], moving])
        design = effects.design[:, moving]
        fixed = np.where(effects.drawn, 0.0, self.theta)
        target = self.walk.phi[..., moving] - np.einsum("npk,ck->cnp", design, fixed)
        own = design[..., free]
        weighted = np.einsum("npk,cpq->cnqk", own, precision)
        prior = self.precision_of_prior[free]
        matrix = np.einsum("cnqk,nql->ckl", weighted, own) + np.diag(prior)
        right = np.einsum("cnqk,cnq->ck", weighted, target) + prior * np.where(prior > 0, effects.prior_mean[free], 0.0)
        root = np.linalg.cholesky(matrix)
        mean = np.linalg.solve(matrix, right[..., None])[..., 0]
        z = self.random.standard_normal(mean.shape)
        self.theta[:, free] = mean + np.linalg.solve(np.swapaxes(root, -1, -2), z[..., None])[..., 0]

    def _gaussian(self, sd: np.ndarray, correlation: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Ln density (chains,) of all eta, and the prior of the SDs on the ln scale."""
        moving = self.effects.moving
        own = sd[:, moving]
        inner = correlation[:, moving[:, None], moving]
        n = self.study.n
        prior = (-0.5 * (own / self.effects.omega_scale) ** 2 + np.log(own)).sum(axis=-1)
        low = np.linalg.eigvalsh(inner)[:, 0]
        valid = low > 1e-6
        safe = np.where(valid[:, None, None], inner, np.eye(len(moving)))
        scaled = squares / (own[:, :, None] * own[:, None, :])
        _, log_det = np.linalg.slogdet(safe)
        value = -n * (np.log(own).sum(axis=-1) + 0.5 * log_det)
        value = value - 0.5 * np.einsum("cpq,cqp->c", np.linalg.inv(safe), scaled)
        return np.where(valid, value + prior, -np.inf)

    def _walk_omega(self) -> None:
        """SDs, and correlations of a block (uniform prior), given eta; no curve is needed."""
        moving = self.effects.moving
        if not len(moving):
            return
        eta = (self.walk.phi - self.effects.location(self.theta))[..., moving]
        squares = np.einsum("cnp,cnq->cpq", eta, eta)
        if not self.pairs:
            self._walk_sds(np.diagonal(squares, axis1=-2, axis2=-1))
            return
        current = self._gaussian(self.sd, self.correlation, squares)
        for j in moving:
            name = f"sd{j}"
            trial = self.sd.copy()
            trial[:, j] *= np.exp(self._size(name) * self.random.standard_normal(len(trial)))
            value = self._gaussian(trial, self.correlation, squares)
            taken = self._decide(name, value - current)
            self.sd = np.where(taken[:, None], trial, self.sd)
            current = np.where(taken, value, current)
        for i, j in self.pairs:
            name = f"correlation{i},{j}"
            trial = self.correlation.copy()
            z = np.arctanh(trial[:, i, j])
            new = np.tanh(z + self._size(name) * self.random.standard_normal(len(z)))
            trial[:, i, j] = trial[:, j, i] = np.clip(new, -0.999, 0.999)
            value = self._gaussian(self.sd, trial, squares)
            jacobian = np.log1p(-(trial[:, i, j] ** 2)) - np.log1p(-(self.correlation[:, i, j] ** 2))
            taken = self._decide(name, value - current + jacobian)
            self.correlation = np.where(taken[:, None, None], trial, self.correlation)
            current = np.where(taken, value, current)

    def _walk_sds(self, square: np.ndarray) -> None:
        """Without correlations each SD stands alone: all of them take a step at once."""
        moving, n = self.effects.moving, self.study.n
        size = self.steps.setdefault("sds", np.full(len(moving), 0.3))

        def value(ln_sd: np.ndarray) -> np.ndarray:
            variance = np.exp(2.0 * ln_sd)
            return (1.0 - n) * ln_sd - 0.5 * square / variance - 0.5 * variance / self.effects.omega_scale**2

        current = np.log(self.sd[:, moving])
        for _ in range(3):
            trial = current + size * self.random.standard_normal(current.shape)
            taken = np.log(self.random.random(current.shape)) < value(trial) - value(current)
            current = np.where(taken, trial, current)
            if self.adapting:
                size = size * np.exp((0.1 + 0.5 / np.sqrt(1.0 + self.turn)) * (taken.mean(axis=0) - 0.4))
        self.steps["sds"] = size
        self.sd[:, moving] = np.exp(current)

    def _take(self, taken: np.ndarray, phi: np.ndarray, value: np.ndarray) -> None:
        self.walk.phi = np.where(taken[:, None, None], phi, self.walk.phi)
        self.walk.value = np.where(taken[:, None], value, self.walk.value)

    def _stretch(self, j: int) -> None:
        """An SD with the standardised deviations held: they stretch with it."""
        name = f"stretch{j}"
        location = self.effects.location(self.theta)[..., j]
        factor = np.exp(self._size(name) * self.random.standard_normal(len(self.sd)))
        phi = self.walk.phi.copy()
        phi[..., j] = location + factor[:, None] * (phi[..., j] - location)
        value = self.study.log_likelihood(phi, self.sigma, self.offset)
        old, new = self.sd[:, j], self.sd[:, j] * factor
        prior = -0.5 * (new**2 - old**2) / self.effects.omega_scale**2 + np.log(factor)
        taken = self._decide(name, (value - self.walk.value).sum(axis=-1) + prior)
        self.sd[:, j] = np.where(taken, new, old)
        self._take(taken, phi, value)

    def _shift(self, k: int) -> None:
        """A typical value or covariate with the deviations held: the patients move with it."""
        name = f"shift{k}"
        move = self._size(name) * self.theta_scale[k] * self.random.standard_normal(len(self.theta))
        phi = self.walk.phi + move[:, None, None] * self.effects.design[None, :, :, k]
        value = self.study.log_likelihood(phi, self.sigma, self.offset)
        old, new = self.theta[:, k], self.theta[:, k] + move
        prior = (
            -0.5
            * self.precision_of_prior[k]
            * ((new - self.effects.prior_mean[k]) ** 2 - (old - self.effects.prior_mean[k]) ** 2)
        )
        taken = self._decide(name, (value - self.walk.value).sum(axis=-1) + prior)
        self.theta[:, k] = np.where(taken, new, old)
        self._take(taken, phi, value)

    def _learn(self, free: np.ndarray) -> None:
        """How precisely the rows determine the coefficients while the deviations are held: the shape of the steps."""
        if self.turn % 10 or self.study.slopes is None:
            return
        _, slopes = self.study.slopes(self.walk.phi, len(self.walk.phi))
        by = np.einsum("cntp,npk->cntk", slopes, self.effects.design[..., free])
        precision = np.broadcast_to(self.study.series.weight / self.study.spread(self.sigma), by.shape[:-1])
        own = np.einsum("cntk,cnt,cntl->kl", by, precision, by) / len(by)
        if not np.isfinite(own).all():
            return
        rate = 1.0 / min(self.turn // 10 + 1.0, 30.0)
        self.theta_precision += rate * (own - self.theta_precision)
        # Never wider than a patient from the next: beyond that the rows say nothing.
        least = np.diag(1.0 / np.maximum(self.theta_scale[free], 0.05) ** 2)
        self.theta_root = np.linalg.cholesky(np.linalg.inv(self.theta_precision + least))

    def _shift_all(self, free: np.ndarray) -> None:
        """All typical values and covariates along their joint spread, with the deviations held."""
        size = self._size("shift all") * 2.38 / np.sqrt(len(free)) / 0.3
        move = np.zeros(self.theta.shape)
        move[:, free] = size[:, None] * (self.random.standard_normal((len(move), len(free))) @ self.theta_root.T)
        phi = self.walk.phi + np.einsum("npk,ck->cnp", self.effects.design, move)
        value = self.study.log_likelihood(phi, self.sigma, self.offset)
        new, mean = self.theta + move, self.effects.prior_mean
        prior = -0.5 * (self.precision_of_prior * ((new - mean) ** 2 - (self.theta - mean) ** 2))[:, free].sum(axis=-1)
        taken = self._decide("shift all", (value - self.walk.value).sum(axis=-1) + prior, 0.25)
        self.theta = np.where(taken[:, None], new, self.theta)
        self._take(taken, phi, value)

    def _residual(self) -> None:
        """Residual SDs, and offsets of further assays, given the curves."""
        study = self.study
        curve = study.curves(self.walk.phi, len(self.walk.phi))
        several = study.series.assays > 1
        for g in range(study.series.assays):
            if g > 0:
                name = f"offset{g}"
                trial = self.offset.copy()
                trial[:, g] += self._size(name) * self.random.standard_normal(len(trial))
                value = study.log_likelihood_at(curve + trial[:, study.series.assay], study.errors(self.sigma))
                prior = -0.5 * (trial[:, g] ** 2 - self.offset[:, g] ** 2) / OFFSET_SD**2
                taken = self._decide(name, (value - self.walk.value).sum(axis=-1) + prior)
                self.offset = np.where(taken[:, None], trial, self.offset)
                self.walk.value = np.where(taken[:, None], value, self.walk.value)
            name = f"sigma{g}"
            mu = curve + self.offset[:, study.series.assay] if several else curve
            trial = self.sigma.copy()
            trial[:, g] *= np.exp(self._size(name) * self.random.standard_normal(len(trial)))
            value = study.log_likelihood_at(mu, study.errors(trial))
            prior = -0.5 * (trial[:, g] ** 2 - self.sigma[:, g] ** 2) / SIGMA_SCALE**2
            prior = prior + np.log(trial[:, g] / self.sigma[:, g])
            taken = self._decide(name, (value - self.walk.value).sum(axis=-1) + prior)
            self.sigma = np.where(taken[:, None], trial, self.sigma)
            self.walk.value = np.where(taken[:, None], value, self.walk.value)


def bayes(
    study: Study,
    random: np.random.Generator,
    chains: int = CHAINS,
    warm_up: int = WARM_UP,
    sweeps: int = SWEEPS,
    rounds: int = ROUNDS,
) -> Posterior:
    """Posterior of a study.

    Parameters
    ----------
    study : Study
        Patients and model, with priors.
    random : Generator
        Source of all draws.
    chains, warm_up, sweeps, rounds : int
        Chains side by side, sweeps that only adapt, sweeps that count, and how often these may be repeated until
        chains agree and enough draws are independent.

    Returns
    -------
    Posterior
        Also where the gate is not met: `settled` says so.
    """
    state = _Chains(study, random, chains)
    state.walk.refresh(state.values())
    for _ in range(warm_up):
        state.sweep()
    state.adapting = state.walk.adapting = False
    places = coordinates(study)
    kept: list[tuple[np.ndarray, ...]] = []
    for _ in range(rounds):
        for k in range(sweeps):
            state.sweep()
            if k % THIN == 0:
                kept.append(
                    (state.theta.copy(), state.omega(), state.sigma.copy(), state.offset.copy(), state.walk.phi.copy())
                )
        theta, omega, sigma, offset, phi = (np.stack(part, axis=1) for part in zip(*kept, strict=True))
        draws = vector(Values(theta, omega, sigma, offset), places)
        rhat = np.array([split_rhat(draws[..., k]) for k in range(len(places))])
        ess = np.array([effective_size(draws[..., k]) for k in range(len(places))])
        posterior = Posterior(places, draws, theta, omega, sigma, offset, phi, rhat, ess)
        if posterior.settled:
            break
    return posterior
