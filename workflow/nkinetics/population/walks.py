"""One Metropolis kernel for all patients and chains at once: draws of phi_i given its data and the population.

Three kinds of step: a draw from the population (far, at the beginning), steps of one parameter, and steps of all
parameters together along the running conditional covariance of the patient. Their sizes adapt while `adapting`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nkinetics.population.mixed import Errors, Study, Values, cholesky

AIM_ONE, AIM_ALL = 0.4, 0.3
"""Acceptance aimed at by steps of one parameter and of all of them."""


@dataclass(eq=False)
class Walk:
    """State of the chains of all patients.

    Parameters
    ----------
    study : Study
        Patients and model.
    phi : array (chains, patients, parameters)
        Current parameters, scale of estimation.
    random : Generator
        Source of all draws.
    """

    study: Study
    phi: np.ndarray
    random: np.random.Generator
    adapting: bool = True
    value: np.ndarray = field(init=False)
    step: np.ndarray = field(init=False)
    stride: np.ndarray = field(init=False)
    centre: np.ndarray = field(init=False)
    cloud: np.ndarray = field(init=False)
    seen: int = field(init=False, default=0)
    factor: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Steps as wide as the population is assumed to be."""
        n = self.study.n
        wide = np.where(self.study.effects.varies, self.study.effects.omega_start, 0.0)
        self.value = np.full(self.phi.shape[:2], -np.inf)
        self.step = np.tile(wide, (n, 1))
        self.stride = np.full(n, 1.0)
        self.centre = self.phi.mean(axis=0)
        self.cloud = np.tile(np.diag(wide * wide), (n, 1, 1))
        self.factor = np.tile(np.diag(wide), (n, 1, 1))

    def refresh(self, values: Values) -> None:
        """The likelihood of the current parameters under other sigma and offset."""
        self.value = self.study.log_likelihood(self.phi, values.sigma, values.offset)

    def sweep(self, values: Values, draws: int = 1, ones: int = 2, alls: int = 2) -> None:
        """Some steps of each kind.

        Parameters
        ----------
        values : Values
            Population parameters, with a leading axis of chains or of 1.
        draws, ones, alls : int
            Draws from the population, steps of each parameter, steps of all together.
        """
        effects = self.study.effects
        moving = effects.moving
        if len(moving) == 0:
            return
        errors, offset = self.study.errors(values.sigma), values.offset
        location = effects.location(values.theta)
        own = values.omega[..., moving[:, None], moving]
        root = np.linalg.cholesky(own)
        precision = np.linalg.inv(own)
        shape = self.phi.shape[:2]
        for _ in range(draws):
            trial = np.broadcast_to(location, self.phi.shape).copy()
            z = self.random.standard_normal((*shape, len(moving)))
            trial[..., moving] += np.einsum("crs,cns->cnr", np.broadcast_to(root, (shape[0], *root.shape[1:])), z)
            self._accept(trial, np.zeros(shape), errors, offset)
        distance = (self.phi - location)[..., moving]
        spread = np.broadcast_to(precision, (shape[0], *precision.shape[1:]))
        for _ in range(ones):
            for r, j in enumerate(moving):
                move = self.step[:, j] * self.random.standard_normal(shape)
                # Change of -0.5 d'Pd by a step along one axis.
                along = np.einsum("cns,cs->cn", distance, spread[:, r])
                change = -move * along - 0.5 * move * move * spread[:, r, r, None]
                trial = self.phi.copy()
                trial[..., j] += move
                taken = self._accept(trial, change, errors, offset)
                distance[..., r] += np.where(taken, move, 0.0)
                if self.adapting:
                    self.step[:, j] *= np.exp(self._gain() * (taken.mean(axis=0) - AIM_ONE))
        for _ in range(alls):
            z = self.random.standard_normal((*shape, self.phi.shape[-1]))
            size = self.stride * 2.38 / np.sqrt(len(moving))
            move = size[:, None] * np.einsum("npq,cnq->cnp", self.factor, z)
            step = move[..., moving]
            change = -np.einsum("cnr,crs,cns->cn", step, spread, distance + 0.5 * step)
            taken = self._accept(self.phi + move, change, errors, offset)
            distance = distance + np.where(taken[..., None], step, 0.0)
            if self.adapting:
                self.stride *= np.exp(self._gain() * (taken.mean(axis=0) - AIM_ALL))
        if self.adapting:
            self._learn()

    def renew(self, values: Values, j: int) -> None:
        """The deviation of parameter j partly drawn anew from the population, by a share of its own for each.

        Where the SD between patients is small in one chain and large in another no single step fits both: this one is
        as wide as the SD. Only for Omega without correlations.
        """
        location = self.study.effects.location(values.theta)[..., j]
        shape = self.phi.shape[:2]
        share = self.random.random(shape)
        sd = np.sqrt(values.omega[:, j, j])[:, None]
        eta = self.phi[..., j] - location
        trial = self.phi.copy()
        trial[..., j] = location + np.sqrt(1.0 - share * share) * eta + share * sd * self.random.standard_normal(shape)
        # The step leaves the population's density as it is: only the rows decide.
        self._accept(trial, np.zeros(shape), self.study.errors(values.sigma), values.offset)

    def _gain(self) -> float:
        """How much one sweep changes the size of the steps."""
        return float(0.1 + 0.5 / np.sqrt(1.0 + self.seen))

    def _accept(self, trial: np.ndarray, change: np.ndarray, errors: Errors, offset: np.ndarray) -> np.ndarray:
        """Take the trial where it is likely enough; which chains and patients did."""
        value = self.study.log_likelihood_given(trial, errors, offset)
        with np.errstate(invalid="ignore"):
            ratio = value - self.value + change
        taken: np.ndarray = np.log(self.random.random(ratio.shape)) < ratio
        self.phi = np.where(taken[..., None], trial, self.phi)
        self.value = np.where(taken, value, self.value)
        return taken

    def _learn(self) -> None:
        """Running conditional mean and covariance of each patient; the factor of the latter now and then."""
        self.seen += 1
        # A window that grows: what was learnt far from the end is forgotten.
        rate = 1.0 / min(max(self.seen, 2), 100)
        # A parameter that does not vary moves with the population, never by itself.
        off = np.where(self.study.effects.varies, self.phi - self.centre, 0.0)
        self.centre = self.centre + rate * off.mean(axis=0)
        self.cloud = (1.0 - rate) * self.cloud + rate * np.einsum("cnp,cnq->npq", off, off) / len(self.phi)
        if self.seen % 10 == 0:
            floor = 1e-8 * np.diag(self.study.effects.varies * 1.0)
            self.factor = cholesky(self.cloud + floor)
