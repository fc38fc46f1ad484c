"""What the fitted population would show: simulated rows, and where the observed ones lie among them."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from nkinetics.population.mixed import Study, Values, cholesky
from nkinetics.population.saem import truncated_normal

REPLICATES = 1000
"""Simulated studies for prediction distribution errors."""
AT_ONCE = 40_000
"""Curves computed at once: bounds the memory."""


def simulated(study: Study, values: Values, random: np.random.Generator, replicates: int) -> np.ndarray:
    """Ln levels (replicates, patients, rows) of new patients with the same calendars and sampling times, uncensored.

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        Without leading axis.
    random : Generator
        Source of the draws.
    replicates : int
        How many studies.
    """
    location = study.effects.location(values.theta)
    root = cholesky(values.omega)
    sd = np.sqrt(study.spread(values.sigma[None]))
    parts = []
    at_once = max(1, AT_ONCE // max(study.n, 1))
    for begin in range(0, replicates, at_once):
        m = min(at_once, replicates - begin)
        phi = location + random.standard_normal((m, *location.shape)) @ root.T
        mu = study.mean(phi, values.offset[None])
        parts.append(mu + sd * random.standard_normal(mu.shape))
    return np.concatenate(parts)


def npde(
    study: Study, values: Values, phi: np.ndarray, random: np.random.Generator, replicates: int = REPLICATES
) -> np.ndarray:
    """Normalised prediction distribution errors (patients, rows): standard normal where the model holds.

    The rank of each row among simulated ones, decorrelated within the patient (Brendel et al. 2006, Pharm Res 23:2036,
    doi:10.1007/s11095-006-9067-5). A censored row is drawn within its interval given the patient's other rows: with
    these draws the rows of a patient follow the model's joint distribution where the model holds, however many of them
    are censored. (Draws from the marginal distribution, as Nguyen, Comets & Mentre 2012, would need the simulated rows
    censored alike, and break the correlation within the patient.)

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        Without leading axis.
    phi : array (patients, p)
        One draw of each patient given his rows.
    random : Generator
        Source of the draws.
    replicates : int
        Simulated studies; fewer for many patients.
    """
    rows, q = study.series, study.series.n_quantified
    replicates = max(200, min(replicates, 10_000_000 // max(rows.weight.size, 1)))
    observed = np.empty(rows.weight.shape)
    observed[:, :q] = rows.log_level
    if rows.weight.shape[1] > q:
        mu = study.mean(phi[None], values.offset[None])[0, :, q:]
        sd = np.broadcast_to(np.sqrt(study.spread(values.sigma[None]))[0], rows.weight.shape)[:, q:]
        observed[:, q:] = truncated_normal(mu, sd, rows.log_lower, rows.log_upper, random.random(mu.shape))
    cloud = simulated(study, values, random, replicates)
    found = np.full(rows.weight.shape, np.nan)
    for i in range(study.n):
        use = rows.weight[i] > 0
        y, sims = observed[i, use], cloud[:, i, use]
        # Simulated rows of a patient without any infusion yet, or beyond numbers, tell nothing.
        if not use.any() or not np.isfinite(sims).all():
            continue
        mean = sims.mean(axis=0)
        root = np.linalg.cholesky(np.atleast_2d(np.cov(sims.T)) + 1e-10 * np.eye(use.sum()))
        own = np.linalg.solve(root, y - mean)
        others = np.linalg.solve(root, (sims - mean).T)
        share = ((others < own[:, None]).sum(axis=1) + 0.5) / (replicates + 1.0)
        found[i, use] = ndtri(share)
    return found
