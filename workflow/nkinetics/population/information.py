"""What the chains at the maximum tell: standard errors, individual parameters, the likelihood.

Standard errors: Louis 1982 (J R Stat Soc B 44:226, doi:10.1111/j.2517-6161.1982.tb01203.x), patient by patient. The
likelihood: importance sampling with a multivariate t around each patient's conditional distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from nkinetics.fitting.likelihood import terms
from nkinetics.population.mixed import Effects, Study, Values, cholesky
from nkinetics.population.walks import Walk

SWEEPS = 600
"""Sweeps for the information, at fixed population parameters."""
KEPT = 200
"""Draws of each patient that are kept."""
DRAWS, FREEDOM = 4000, 5.0
"""Draws of the importance sampling, and degrees of freedom of its t."""
GONE = 0.05
"""SD between patients that counts as vanishing."""
REFINED, GAIN_AIM = 3, 0.25
"""Newton steps after stochastic approximation, and the gain in ln L below which none is taken."""
AT_ONCE = 40_000
"""Curves computed at once: bounds the memory."""
PATIENTS_AT_ONCE = 500
"""Patients whose draws are weighed at once."""


@dataclass(frozen=True)
class Coordinate:
    """One population parameter that is estimated: its kind, name, and place in `Values`.

    Parameters
    ----------
    kind : {"theta", "sd", "correlation", "sigma", "offset"}
        On the scale of estimation: theta and offset as they are, ln of an SD, a correlation as atanh.
    index : tuple of int
        Place in theta, Omega, sigma or offset.
    """

    kind: str
    index: tuple[int, ...]


def coordinates(study: Study) -> list[Coordinate]:
    """The free population parameters, in order."""
    effects = study.effects
    found = [Coordinate("theta", (int(k),)) for k in np.flatnonzero(effects.free)]
    found += [Coordinate("sd", (int(j),)) for j in effects.moving]
    found += [
        Coordinate("correlation", (int(i), int(j)))
        for i in effects.moving
        for j in effects.moving
        if i < j and effects.together[i, j]
    ]
    found += [Coordinate("sigma", (g,)) for g in range(study.series.assays)]
    return found + [Coordinate("offset", (g,)) for g in range(1, study.series.assays)]


def vector(values: Values, places: list[Coordinate]) -> np.ndarray:
    """The free population parameters (..., coordinates) of `Values`."""
    sd = np.sqrt(np.maximum(np.diagonal(values.omega, axis1=-2, axis2=-1), 0.0))
    found = []
    for place in places:
        i = place.index
        if place.kind == "theta":
            found.append(values.theta[..., i[0]])
        elif place.kind == "sd":
            found.append(np.log(sd[..., i[0]]))
        elif place.kind == "correlation":
            found.append(np.arctanh(values.omega[..., i[0], i[1]] / (sd[..., i[0]] * sd[..., i[1]])))
        elif place.kind == "sigma":
            found.append(np.log(values.sigma[..., i[0]]))
        else:
            found.append(values.offset[..., i[0]])
    return np.stack(found, axis=-1)


def moved(values: Values, places: list[Coordinate], x: np.ndarray) -> Values:
    """`Values` with the free population parameters at x (coordinates,)."""
    theta, sigma, offset = values.theta.copy(), values.sigma.copy(), values.offset.copy()
    sd = np.sqrt(np.maximum(np.diag(values.omega), 0.0))
    safe = np.where(sd > 0, sd, 1.0)
    correlation = values.omega / np.outer(safe, safe)
    for place, value in zip(places, x, strict=True):
        i = place.index
        if place.kind == "theta":
            theta[i[0]] = value
        elif place.kind == "sd":
            sd[i[0]] = np.exp(value)
        elif place.kind == "correlation":
            correlation[i] = correlation[i[::-1]] = np.tanh(value)
        elif place.kind == "sigma":
            sigma[i[0]] = np.exp(value)
        else:
            offset[i[0]] = value
    return Values(theta, correlation * np.outer(sd, sd), sigma, offset)


@dataclass(frozen=True, eq=False)
class Conditional:
    """Each patient given his data, at fixed population parameters.

    Parameters
    ----------
    mean, covariance : arrays (patients, p), (patients, p, p)
        Of phi_i.
    draws : array (kept, patients, p)
        Some draws of phi_i.
    information : array (coordinates, coordinates)
        Observed information of the population parameters, scale of `coordinates`.
    score : array (coordinates,)
        Mean score: 0 at the maximum.
    """

    mean: np.ndarray
    covariance: np.ndarray
    draws: np.ndarray
    information: np.ndarray
    score: np.ndarray

    @property
    def gain(self) -> float:
        """What a Newton step would still gain in ln L."""
        step = np.linalg.lstsq(self.information, self.score, rcond=1e-10)[0]
        return float(0.5 * self.score @ step)


def conditional(study: Study, values: Values, walk: Walk, sweeps: int = SWEEPS, kept: int = KEPT) -> Conditional:
    """Run the chains on at fixed population parameters.

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        Without leading axis.
    walk : Walk
        Chains at or near their conditional distribution; they are moved on.
    sweeps, kept : int
        Sweeps, and draws of each patient to keep.
    """
    places = coordinates(study)
    lead = Values(values.theta[None], values.omega[None], values.sigma[None], values.offset[None])
    walk.refresh(lead)
    for _ in range(20):
        walk.sweep(lead, draws=1)
    walk.adapting = False
    n, p, size = study.n, walk.phi.shape[-1], len(places)
    mean, second = np.zeros((n, p)), np.zeros((n, p, p))
    scores, squares = np.zeros((n, size)), np.zeros((n, size, size))
    curvature = np.zeros((size, size))
    every = max(1, sweeps * len(walk.phi) // kept)
    taken: list[np.ndarray] = []
    left = 0
    for _ in range(sweeps):
        walk.sweep(lead, draws=0, ones=1, alls=2)
        mean += walk.phi.mean(axis=0) / sweeps
        second += np.einsum("cnp,cnq->npq", walk.phi, walk.phi) / (sweeps * len(walk.phi))
        score, bend = _complete(study, values, places, walk.phi)
        scores += score.mean(axis=0) / sweeps
        squares += np.einsum("cnk,cnl->nkl", score, score) / (sweeps * len(walk.phi))
        curvature += bend / sweeps
        for own in walk.phi:
            left += 1
            if left % every == 0 and len(taken) < kept:
                taken.append(own)
    walk.adapting = True
    missing = (squares - np.einsum("nk,nl->nkl", scores, scores)).sum(axis=0)
    whole = curvature + _gaussian_curvature(study.effects, values, places, mean, second) - missing
    covariance = second - np.einsum("np,nq->npq", mean, mean)
    return Conditional(mean, covariance, np.stack(taken), (whole + whole.T) / 2.0, scores.sum(axis=0))


def refined(
    study: Study, values: Values, walk: Walk, around: Conditional, rounds: int = REFINED, kept: int = KEPT
) -> tuple[Values, Conditional]:
    """The maximum, by Newton steps from where stochastic approximation left off.

    Along a flat ridge its last steps are too short. The mean score and the information that the chains give say where
    the maximum lies; a step is taken as long as it would gain something and the gain falls.

    Parameters
    ----------
    study, values, walk, around
        As for and from `conditional`.
    rounds : int
        At most so many steps.
    kept : int
        As for `conditional`.
    """
    places = coordinates(study)
    still = ~study.effects.varies
    for _ in range(rounds):
        size = np.sqrt(np.maximum(np.diag(around.information), 1e-12))
        eigen, vectors = np.linalg.eigh(around.information / np.outer(size, size))
        known = eigen > 1e-2
        step = (vectors[:, known] / eigen[known]) @ (vectors[:, known].T @ (around.score / size)) / size
        # Where an SD vanishes the likelihood is no parabola: it stays.
        now = vector(values, places)
        gone = np.array([place.kind == "sd" for place in places]) & (now < np.log(GONE))
        step = np.where(gone, 0.0, step)
        if not around.gain > GAIN_AIM or not np.isfinite(step).all():
            break
        trial = moved(values, places, now + np.clip(step, -0.5, 0.5))
        shift = study.effects.location(trial.theta) - study.effects.location(values.theta)
        walk.phi = walk.phi + shift * still
        found = conditional(study, trial, walk, kept=kept)
        if not found.gain < around.gain:
            walk.phi = walk.phi - shift * still
            break
        values, around = trial, found
    return values, around


def _complete(study: Study, values: Values, places: list[Coordinate], phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score of the complete data (chains, patients, coordinates), and the curvature that comes from the rows."""
    effects, rows = study.effects, study.series
    moving = effects.moving
    score = np.zeros((*phi.shape[:2], len(places)))
    curvature = np.zeros((len(places), len(places)))
    precision = np.zeros(values.omega.shape)
    precision[np.ix_(moving, moving)] = np.linalg.inv(values.omega[np.ix_(moving, moving)])
    eta = phi - effects.location(values.theta)
    pulled = eta @ precision
    for k, place in enumerate(places):
        if place.kind == "theta":
            score[..., k] = np.einsum("cnp,np->cn", pulled, effects.design[:, :, place.index[0]])
        elif place.kind in ("sd", "correlation"):
            by = _by_omega(values.omega, place)
            score[..., k] = 0.5 * np.einsum("cnp,pq,cnq->cn", pulled, by, pulled) - 0.5 * np.trace(precision @ by)
    slopes = None
    if effects.shared.any() and study.slopes is not None:
        mu, slopes = study.slopes(phi, len(phi))
        mu = mu + (values.offset[rows.assay] if rows.assays > 1 else 0.0)
    else:
        mu = study.mean(phi, values.offset[None])
    log_sigma = np.log(values.sigma)
    part = terms(mu, np.broadcast_to(log_sigma[rows.assay], mu.shape), rows)  # type: ignore[arg-type]
    # Derivatives of ln level and of ln sigma by the coordinates that act on the rows.
    by_mean: dict[int, np.ndarray] = {}
    by_sigma: dict[int, np.ndarray] = {}
    for k, place in enumerate(places):
        if place.kind == "sigma":
            by_sigma[k] = rows.weight * (rows.assay == place.index[0])
        elif place.kind == "offset":
            by_mean[k] = np.broadcast_to(rows.weight * (rows.assay == place.index[0]), mu.shape)
        elif place.kind == "theta" and slopes is not None and effects.shared[place.index[0]]:
            by_mean[k] = np.einsum("cntp,np->cnt", slopes, effects.design[:, :, place.index[0]]) * rows.weight
    for k, column in by_mean.items():
        score[..., k] += (part.mean * column).sum(axis=-1)
        for other, second in by_mean.items():
            curvature[k, other] += (part.mean2 * column * second).sum() / len(phi)
        for other, second in by_sigma.items():
            curvature[k, other] += (part.cross * column * second).sum() / len(phi)
            curvature[other, k] = curvature[k, other]
    for k, column in by_sigma.items():
        score[..., k] += (part.sigma * column).sum(axis=-1)
        curvature[k, k] += (part.sigma2 * column).sum() / len(phi)
    return score, curvature


def _by_omega(omega: np.ndarray, place: Coordinate) -> np.ndarray:
    """Derivative of Omega by ln of an SD or by atanh of a correlation."""
    found = np.zeros(omega.shape)
    if place.kind == "sd":
        j = place.index[0]
        found[j] += omega[j]
        found[:, j] += omega[:, j]
        return found
    i, j = place.index
    size = np.sqrt(omega[i, i] * omega[j, j])
    found[i, j] = found[j, i] = size * (1.0 - (omega[i, j] / size) ** 2)
    return found


def _gaussian_curvature(
    effects: Effects, values: Values, places: list[Coordinate], mean: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Negative second derivatives of the expected ln density of all phi_i, by central differences."""
    among = [k for k, place in enumerate(places) if place.kind in ("theta", "sd", "correlation")]
    moving = effects.moving

    def value(x: np.ndarray) -> float:
        at = moved(values, places, x)
        location = effects.location(at.theta)[:, moving]
        own = at.omega[np.ix_(moving, moving)]
        m = mean[:, moving]
        cross = np.einsum("np,nq->pq", m, location)
        whole = second[:, moving][:, :, moving].sum(axis=0) - cross - cross.T + location.T @ location
        _, log_det = np.linalg.slogdet(own)
        return float(-0.5 * len(mean) * log_det - 0.5 * np.trace(np.linalg.solve(own, whole)))

    centre, h = vector(values, places), 1e-3
    found = np.zeros((len(places), len(places)))
    if len(moving) == 0:
        return found
    unit = np.eye(len(places)) * h
    for a, i in enumerate(among):
        for j in among[: a + 1]:
            corners = [value(centre + s * unit[i] + t * unit[j]) * s * t for s in (1.0, -1.0) for t in (1.0, -1.0)]
            found[i, j] = found[j, i] = -sum(corners) / (4.0 * h * h)
    return found


@dataclass(frozen=True, eq=False)
class Evidence:
    """Ln likelihood of the study, its Monte-Carlo standard error, and both for each patient.

    Parameters
    ----------
    log_likelihood, error : float
        Sum over patients, and its standard error.
    each, each_error : arrays (patients,)
        Of each patient.
    """

    log_likelihood: float
    error: float
    each: np.ndarray
    each_error: np.ndarray


def importance_sampling(
    study: Study,
    values: Values,
    mean: np.ndarray,
    covariance: np.ndarray,
    random: np.random.Generator,
    draws: int = DRAWS,
) -> Evidence:
    """Ln likelihood of a study at some population parameters.

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        Without leading axis.
    mean, covariance : arrays (patients, p), (patients, p, p)
        About where phi_i lies given the data.
    random : Generator
        Source of the draws.
    draws : int
        Of each patient.
    """
    effects = study.effects
    moving = effects.moving
    n, r = study.n, len(moving)
    location = effects.location(values.theta)
    one = Values(values.theta[None], values.omega[None], values.sigma[None], values.offset[None])
    if r == 0:
        each = study.log_likelihood(location[None], one.sigma, one.offset)[0]
        return Evidence(float(each.sum()), 0.0, each, np.zeros(n))
    own = values.omega[np.ix_(moving, moving)]
    root, precision = np.linalg.cholesky(own), np.linalg.inv(own)
    # Never narrower than a share of the population: a chain that hardly moved would miss the rest.
    spread = covariance[:, moving][:, :, moving] + 0.02 * own
    factor = cholesky(spread)
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=-1)
    constant = gammaln((FREEDOM + r) / 2.0) - gammaln(FREEDOM / 2.0) - 0.5 * r * np.log(FREEDOM * np.pi)
    at_once = max(1, AT_ONCE // max(n, 1))
    weight = np.empty((draws, n))
    for begin in range(0, draws, at_once):
        m = min(at_once, draws - begin)
        z = random.standard_normal((m, n, r))
        scale = np.sqrt(FREEDOM / random.chisquare(FREEDOM, (m, n)))
        phi = np.broadcast_to(location, (m, *location.shape)).copy()
        phi[..., moving] = mean[:, moving] + np.einsum("nrs,mns->mnr", factor, z * scale[..., None])
        square = ((z * scale[..., None]) ** 2).sum(axis=-1)
        proposal = constant - log_det - 0.5 * (FREEDOM + r) * np.log1p(square / FREEDOM)
        eta = (phi - location)[..., moving]
        prior = (
            -0.5 * np.einsum("mnr,rs,mns->mn", eta, precision, eta)
            - 0.5 * r * np.log(2.0 * np.pi)
            - np.log(np.diag(root)).sum()
        )
        weight[begin : begin + m] = study.log_likelihood(phi, one.sigma, one.offset) + prior - proposal
    top = weight.max(axis=0)
    average, error = np.empty(n), np.empty(n)
    # Many patients in parts: what is worked out of their draws is as large as the draws.
    for own in np.array_split(np.arange(n), 1 + n // PATIENTS_AT_ONCE):
        share = np.exp(weight[:, own] - top[own])
        average[own] = share.mean(axis=0)
        error[own] = share.std(axis=0) / np.sqrt(draws) / average[own]
    each = top + np.log(average)
    return Evidence(float(each.sum()), float(np.sqrt((error**2).sum())), each, error)
