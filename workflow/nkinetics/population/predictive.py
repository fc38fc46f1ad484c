"""What the fitted population would show: simulated rows, and where the observed ones lie among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nkinetics.population.mixed import Study, Values, cholesky
from nkinetics.population.saem import truncated_normal

REPLICATES = 1000
"""Simulated studies for prediction distribution errors."""
AT_ONCE = 40_000
"""Curves computed at once: bounds the memory."""
PERCENTILES = (5.0, 50.0, 95.0)
"""Percentiles of the level that a visual predictive check compares."""
BINS = 14
"""Time bins of a visual predictive check at most."""


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
    made = np.empty((replicates, *study.series.weight.shape))
    begin = 0
    for part in _in_parts(study, values, random, replicates):
        made[begin : begin + len(part)] = part
        begin += len(part)
    return made


def _in_parts(study: Study, values: Values, random: np.random.Generator, replicates: int) -> Iterator[np.ndarray]:
    """The same, some replicates at a time."""
    location = study.effects.location(values.theta)
    root = cholesky(values.omega)
    sd = np.sqrt(study.spread(values.sigma[None]))
    at_once = max(1, AT_ONCE // max(study.n, 1))
    for begin in range(0, replicates, at_once):
        m = min(at_once, replicates - begin)
        phi = location + random.standard_normal((m, *location.shape)) @ root.T
        mu = study.mean(phi, values.offset[None])
        yield mu + sd * random.standard_normal(mu.shape)


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
        # In units of their SDs, however wide they are; two samples of one time are almost one.
        mean, sd = sims.mean(axis=0), sims.std(axis=0)
        y, sims = (y - mean) / sd, (sims - mean) / sd
        root = np.linalg.cholesky(np.atleast_2d(np.cov(sims.T)) + 1e-6 * np.eye(use.sum()))
        own = np.linalg.solve(root, y)
        others = np.linalg.solve(root, sims.T)
        share = ((others < own[:, None]).sum(axis=1) + 0.5) / (replicates + 1.0)
        found[i, use] = ndtri(share)
    return found


# ------------------------------------------------------------------------------------------- visual predictive check


@dataclass(frozen=True)
class Checked:
    """One number of a visual predictive check: a percentile of ln level in a cell, or the share of rows below the LLOQ.

    Parameters
    ----------
    cell : int
        Cell of the rows: a dose level in a time bin.
    percentile : float or None
        None for the share below the LLOQ.
    observed, lower, median, upper : float
        Observed, and the 5, 50 and 95 % quantile over simulated studies. A percentile below the LLOQ is -inf, one
        above the ULOQ inf.
    n, n_blq : int
        Observed rows of the cell, and those below their LLOQ among them.
    """

    cell: int
    percentile: float | None
    observed: float
    lower: float
    median: float
    upper: float
    n: int
    n_blq: int


def time_bins(time: np.ndarray, most: int = BINS) -> np.ndarray:
    """Bin of each time, numbered in order: distinct times, the nearest neighbours joined until few enough are left.

    Ward's criterion on ln(1 + t): what few samples share is joined first, and late days before early ones.

    Examples
    --------
    >>> time_bins(np.array([0.0, 1.0, 7.0, 7.1, 28.0, 27.0, 7.0]), most=4).tolist()
    [0, 1, 2, 2, 3, 3, 2]
    """
    distinct, place, count = np.unique(np.round(time, 6), return_inverse=True, return_counts=True)
    centre, size = np.log1p(np.maximum(distinct, 0.0)), count.astype(float)
    joined = np.arange(len(distinct))
    while len(centre) > most:
        cost = size[1:] * size[:-1] / (size[1:] + size[:-1]) * np.diff(centre) ** 2
        k = int(np.argmin(cost))
        total = size[k] + size[k + 1]
        centre[k], size[k] = (size[k] * centre[k] + size[k + 1] * centre[k + 1]) / total, total
        centre, size = np.delete(centre, k + 1), np.delete(size, k + 1)
        joined[joined > k] -= 1
    return joined[place.ravel()]


def percentiles(log_level: np.ndarray, at: tuple[float, ...] = PERCENTILES) -> np.ndarray:
    """Percentiles (..., len(at)) of ln level (..., rows) in which -inf stands for "below its LLOQ", the lowest of all.

    Linear between order statistics (Hyndman & Fan 1996, type 7); a percentile that leans on a row below its LLOQ is
    itself below.

    Examples
    --------
    >>> percentiles(np.array([-np.inf, 1.0, 3.0]), (0.0, 25.0, 50.0, 75.0)).tolist()
    [-inf, -inf, 1.0, 2.0]
    """
    ordered = np.sort(log_level, axis=-1)
    n = ordered.shape[-1]
    place = np.array(at) / 100.0 * (n - 1)
    low = np.floor(place).astype(int)
    share = place - low
    below, above = ordered[..., low], ordered[..., np.minimum(low + 1, n - 1)]
    with np.errstate(invalid="ignore"):
        between = below + share * (above - below)
    # inf - inf and 0 * inf are no numbers: the lower neighbour decides below, the upper one above.
    found = np.where(share == 0, below, np.where(np.isneginf(below), -np.inf, between))
    return np.where((share > 0) & np.isposinf(above) & ~np.isneginf(below), np.inf, found)


def visual_check(
    study: Study,
    values: Values,
    cell: np.ndarray,
    log_lloq: np.ndarray,
    log_uloq: np.ndarray,
    random: np.random.Generator,
    replicates: int = REPLICATES,
) -> list[Checked]:
    """Visual predictive check: percentiles of the level and the share below the LLOQ, observed against simulated.

    New patients get the observed ones' calendars, sampling times and limits (Bergstrand & Karlsson 2009, AAPS J 11:371,
    doi:10.1208/s12248-009-9112-5): a simulated level below the LLOQ of its row is below, as a measured one would be.

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        Without leading axis: the intervals hold the variability, not the uncertainty of the population parameters.
    cell : array of int (patients, rows)
        Which rows are looked at together.
    log_lloq, log_uloq : arrays (patients, rows)
        Ln of each row's own limits; -inf and inf where there is none.
    random : Generator
        Source of the draws.
    replicates : int
        Simulated studies; fewer for many patients.

    Returns
    -------
    list of Checked
        In order of the cells; for each the percentiles, then the share below the LLOQ.
    """
    rows, q = study.series, study.series.n_quantified
    replicates = max(200, min(replicates, 10_000_000 // max(rows.weight.size, 1)))
    use = rows.weight > 0
    seen = np.empty(rows.weight.shape)
    seen[:, :q] = rows.log_level
    seen[:, q:] = np.where(np.isposinf(rows.log_upper), np.inf, -np.inf)
    seen, own, low, high = seen[use], cell[use], log_lloq[use], log_uloq[use]
    cells = [(int(c), np.flatnonzero(own == c)) for c in np.unique(own)]
    found: dict[int, list[np.ndarray]] = {c: [] for c, _ in cells}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for part in _in_parts(study, values, random, replicates):
            drawn = part[:, use]
            # What cannot be computed fell below any number.
            drawn = np.where(np.isnan(drawn) | (drawn < low), -np.inf, np.where(drawn > high, np.inf, drawn))
            for c, at in cells:
                share = np.isneginf(drawn[:, at]).mean(axis=1)
                found[c].append(np.column_stack([percentiles(drawn[:, at]), share]))
    checked = []
    for c, at in cells:
        # Over simulated studies too: a quantile that leans on a study whose percentile lies below the LLOQ is below.
        ends = percentiles(np.concatenate(found[c]).T)
        blq = np.isneginf(seen[at])
        observed = [*percentiles(seen[at]).tolist(), float(blq.mean())]
        for k, percentile in enumerate((*PERCENTILES, None)):
            lower, median, upper = ends[k].tolist()
            checked.append(Checked(c, percentile, observed[k], lower, median, upper, len(at), int(blq.sum())))
    return checked
