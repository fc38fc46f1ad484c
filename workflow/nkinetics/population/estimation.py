"""One model, all patients: population and individual parameters with intervals, as tables.

SAEM or full Bayes, by the number of patients (see `nkinetics.settings.Population`); a fit that is not to be trusted is
a row that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from nkinetics.columns import (
    INDIVIDUALS,
    POPULATION,
    POPULATION_DRAWS,
    POPULATION_POINTS,
    POPULATION_PREDICTIONS,
    POPULATION_TRACES,
    POPULATION_VPC,
)
from nkinetics.fitting import Profile, assay_profiles
from nkinetics.fitting.profiles import reference_dose_of
from nkinetics.models._algebra import to_natural
from nkinetics.plugins import KineticModel, Parameter, discover
from nkinetics.population.bayes import ESS_MIN, OFFSET_SD, RHAT_MAX, SIGMA_SCALE, Posterior, bayes
from nkinetics.population.information import (
    Conditional,
    Coordinate,
    Evidence,
    conditional,
    coordinates,
    importance_sampling,
    moved,
    refined,
    vector,
)
from nkinetics.population.loo import Loo, psis_loo
from nkinetics.population.mixed import Study, Values
from nkinetics.population.predictive import npde
from nkinetics.population.saem import OMEGA_MIN, Saem, saem
from nkinetics.population.study import THETA_DOSE, Prepared, nobody, prepare
from nkinetics.population.vpc import RULE, samples_of, vpc
from nkinetics.settings import Blq, Models, Population
from nkinetics.store import complete

KEPT = 400
"""Joint draws of the population parameters that are kept for predictions."""
INDIVIDUAL_DRAWS = 200
"""Draws of each patient at most, fewer in large studies."""
GAIN_MAX = 0.5
"""A maximum from which a Newton step would still gain more ln L is none."""
APART = 2.0
"""Difference in ln L by which a run is clearly likelier."""
LOST = 0.05
"""SD between patients that counts as lost when runs are compared."""
FLAT = 1e-3
"""Eigenvalue of the information, scaled to a unit diagonal, below which a direction is not determined."""
STARTS = (1.0, 2.0, 0.6)
"""Factors on the SDs between patients at the start of the runs: a small SD holds on to itself."""
OMEGA_BOUND = 0.02
"""SD between patients that counts as 0."""
LOO_DRAWS = 1200
"""Posterior draws that the leave-one-out estimate uses."""
TRACE_POINTS = 100
"""Points of each trace that are kept."""


@dataclass(frozen=True, eq=False)
class Estimated:
    """Tables of `nkinetics.population.analyse`, by the canonical tables of the same names, and what goes to the JSON.

    Parameters
    ----------
    population, individuals, predictions, points, traces, draws, vpc : DataFrame
        Canonical tables.
    fit : mapping
        Settings, seeds, likelihood, convergence of each fit.
    left_out : mapping of str to array (rows,)
        By method: expected ln predictive density of each row left out (Bayes).
    """

    population: pd.DataFrame
    individuals: pd.DataFrame
    predictions: pd.DataFrame
    points: pd.DataFrame
    traces: pd.DataFrame
    draws: pd.DataFrame
    vpc: pd.DataFrame
    fit: dict[str, Any]
    left_out: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Result:
    """One method's estimates of one study, the same for both methods.

    Parameters
    ----------
    method : {"saem", "bayes"}
        How it was estimated.
    places : list of Coordinate
        Free population parameters.
    centre : array (coordinates,)
        Estimates, scale of estimation.
    lower, upper : arrays (coordinates,)
        Ends of the intervals.
    error : array (coordinates,)
        Standard errors; nan where there is none.
    draws : array (draws, coordinates)
        Joint draws.
    values : Values
        At `centre`.
    phi : array (draws, patients, p)
        Draws of the patients.
    evidence : Evidence
        Ln likelihood at `centre`.
    reasons : tuple of str
        Why the fit is not to be trusted; empty when it is.
    traces : tuple of arrays (iterations, coordinates)
        One for each chain or run.
    numbers : mapping
        For the JSON file.
    rhat, ess, spread : arrays (coordinates,)
        nan where they do not apply.
    """

    method: str
    places: list[Coordinate]
    centre: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    error: np.ndarray
    draws: np.ndarray
    values: Values
    phi: np.ndarray
    evidence: Evidence
    reasons: tuple[str, ...]
    traces: tuple[np.ndarray, ...]
    numbers: Mapping[str, Any]
    rhat: np.ndarray
    ess: np.ndarray
    spread: np.ndarray
    first_iteration: int = 0
    thinned: int = 1
    notes: Mapping[int, str] = field(default_factory=dict)
    left_out: np.ndarray | None = None


def generator(*text: object) -> np.random.Generator:
    """Random numbers that depend on the study alone: seeded by a hash of its names.

    Examples
    --------
    >>> bool(generator("qpcr", 1).integers(1000) == generator("qpcr", 1).integers(1000))
    True
    """
    digest = hashlib.sha256("|".join(map(str, text)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def chosen_method(settings: Population, n: int) -> str:
    """Saem or bayes, by the number of patients with data."""
    if settings.method != "auto":
        return settings.method
    return "bayes" if n < settings.bayes_below else "saem"


def chosen_assay(known: Sequence[str], asked: str | None, order: Sequence[str]) -> str:
    """The assay or specimen asked for, else the first of an order that is there, else the first.

    Examples
    --------
    >>> chosen_assay(["flow", "qpcr"], None, ("qpcr", "ddpcr", "flow"))
    'qpcr'
    """
    return asked or next((name for name in order if name in known), sorted(known)[0] if known else order[0])


def analyse(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    patients: pd.DataFrame | None = None,
    settings: Population | None = None,
    models: Models | None = None,
    blq: Blq | None = None,
    model: str | None = None,
    methods: Sequence[str] | None = None,
    reference_dose: float | None = None,
) -> Estimated:
    """Population estimates of one model on one assay.

    Parameters
    ----------
    observations, infusions, cytokines, patients, blq, reference_dose
        As for `nkinetics.fitting.analyse`.
    settings : Population, optional
        Model, assay, method, covariates, priors.
    models : Models, optional
        Constants of the models.
    model : str, optional
        In place of the model of the settings.
    methods : sequence of {"saem", "bayes"}, optional
        Methods to run beside the one that the rule chooses.

    Returns
    -------
    Estimated
        A fit that failed, or that is not to be trusted, has its rows with the reason.

    Raises
    ------
    InputError
        When the settings name what does not exist, or a row lacks the limit that its status needs.
    """
    settings, models = settings or Population(), models or Models()
    name = model or settings.model or models.default
    found = assay_profiles(observations, infusions, cytokines, blq, patients, reference_dose)
    assay = chosen_assay(sorted({p.assay for p in found}), settings.assay, ("qpcr", "ddpcr", "flow"))
    specimens = sorted({p.specimen for p in found if p.assay == assay})
    specimen = chosen_assay(specimens, settings.specimen, ("blood",))
    names = (assay, *(a for a in settings.same_curve if a != assay))
    by = {(p.patient_id, p.assay, p.specimen): p for p in found}
    everyone = sorted({p.patient_id for p in found})
    chosen = [[by.get((i, a, specimen)) or _nobody(by, i, a, specimen) for i in everyone] for a in names]
    label = "+".join(names)
    done: list[_Tables] = []
    fits: list[dict[str, Any]] = []
    left_out: dict[str, np.ndarray] = {}
    # How many patients have data decides the method, and the method the priors.
    probe = prepare(chosen, name, settings, models, patients, weak=False)
    primary = chosen_method(settings, 0 if isinstance(probe, str) else probe.study.n)
    for method in dict.fromkeys([primary, *(methods or ())]):
        prepared = prepare(chosen, name, settings, models, patients, weak=method == "bayes")
        made = _Tables(label, specimen, name, method, method == primary)
        if isinstance(prepared, str):
            made.absent(chosen[0], discover("models")[name], prepared)
            fits.append(made.header | {"converged": False, "reason": prepared})
        else:
            try:
                result = _estimate(prepared, method, settings, (label, specimen, name))
                made.fill(prepared, result, models, settings, names)
                # Another rule puts numbers in place of levels below the LLOQ, or drops them: no simulated row is alike.
                if (blq or Blq()).models == RULE:
                    made.check(prepared, result, samples_of(observations), names)
            except np.linalg.LinAlgError as error:
                # A study on which the arithmetic breaks down is a row that says so; the workflow goes on.
                reason = f"the estimation broke down: {error}"
                made = _Tables(label, specimen, name, method, method == primary)
                made.absent(chosen[0], discover("models")[name], reason)
                fits.append(made.header | {"converged": False, "reason": reason})
            else:
                rows = {"n_patients": prepared.study.n, "n_obs": prepared.study.series.rows}
                fits.append(made.header | rows | dict(result.numbers))
                if result.left_out is not None:
                    left_out[method] = result.left_out
        done.append(made)
    frames = {
        schema.name: complete(
            pd.DataFrame([row for made in done for row in made.rows[schema.name]], columns=list(schema.names)), schema
        )
        for schema in (
            POPULATION,
            INDIVIDUALS,
            POPULATION_PREDICTIONS,
            POPULATION_POINTS,
            POPULATION_TRACES,
            POPULATION_DRAWS,
            POPULATION_VPC,
        )
    }
    told = {
        "settings": settings.model_dump(mode="json"),
        "constants": models.constants(name).model_dump(mode="json"),
        "blq": (blq or Blq()).model_dump(mode="json"),
        "reference_dose": reference_dose_of(infusions) if reference_dose is None else float(reference_dose),
    }
    return Estimated(
        frames["population"],
        frames["individuals"],
        frames["population_predictions"],
        frames["population_points"],
        frames["population_traces"],
        frames["population_draws"],
        frames["population_vpc"],
        told | {"primary": primary, "fits": fits},
        left_out,
    )


def _nobody(by: Mapping[tuple[str, str, str], Profile], patient: str, assay: str, specimen: str) -> Profile:
    """A patient without this assay: empty, with his dose level."""
    level = next((p.dose_level for key, p in by.items() if key[0] == patient and p.dose_level), "")
    return nobody(patient, level, assay, specimen)


# ----------------------------------------------------------------------------------------------------------- methods


def _estimate(prepared: Prepared, method: str, settings: Population, names: Sequence[str]) -> Result:
    """Estimates by one method; what fails numerically is a result that says so."""
    seed = [*names, method, *prepared.patients]
    return _by_bayes(prepared, seed) if method == "bayes" else _by_saem(prepared, settings, seed)


def _by_saem(prepared: Prepared, settings: Population, seed: Sequence[str]) -> Result:
    study = prepared.study
    runs: list[tuple[Saem, Conditional, Evidence]] = []
    kept = _kept(study.n)
    for k in range(settings.seeds):
        random = generator(*seed, k)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            wider = replace(study.effects, omega_start=STARTS[k % len(STARTS)] * study.effects.omega_start)
            run = saem(replace(study, effects=wider), random, scatter=0.0 if k == 0 else 0.5)
            run.walk.study = study
            around = conditional(study, run.values, run.walk, kept=kept)
            values, around = refined(study, run.values, run.walk, around, kept=kept)
            evidence = importance_sampling(study, values, around.mean, around.covariance, random)
            runs.append((replace(run, values=values), around, evidence))
    best = _best(runs)
    run, around, evidence = runs[best]
    places = coordinates(study)
    centre = vector(run.values, places)
    covariance, determined = _covariance(around.information, places)
    error = np.sqrt(np.where(determined, np.diag(covariance), np.nan))
    near = [r for r in runs if r[2].log_likelihood > evidence.log_likelihood - 1.0]
    apart = np.stack([vector(r[0].values, places) for r in near])
    spread = np.ptp(apart, axis=0) / error if len(near) > 1 else np.full(len(places), np.nan)
    reasons = []
    if not around.gain <= GAIN_MAX:
        reasons.append(f"not settled: ln L would still gain {around.gain:.2g}")
    spread_only = np.array([place.kind in ("sd", "correlation") for place in places])
    if not determined[~spread_only].all():
        reasons.append("the data do not determine every parameter")
    others = [r[2].log_likelihood - evidence.log_likelihood for k, r in enumerate(runs) if k != best]
    for word, away in (("lower", [-x for x in others if x < -1.0]), ("higher", [x for x in others if x > APART])):
        if away:
            told = "" if word == "lower" else ", with less variability between patients or not settled"
            reasons.append(f"{len(away)} of {len(runs)} runs ended {word} by up to {max(away):.1f} in ln L{told}")
    notes = {}
    for k, place in enumerate(places):
        if place.kind == "sd" and np.exp(centre[k]) <= max(OMEGA_BOUND, 1.5 * OMEGA_MIN):
            notes[k] = "at the boundary: no variability between patients is seen"
            error[k] = np.nan
        elif spread[k] > 1.0:
            notes[k] = f"runs from other starts differ by {spread[k]:.1f} standard errors at the same likelihood"
    quantile = np.array([_quantile(place, study) for place in places])
    random = generator(*seed, "draws")
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(places)))
    draws = centre + random.standard_normal((KEPT, len(places))) @ root.T
    nothing = np.full(len(places), np.nan)
    numbers = {
        "converged": not reasons,
        "reason": "; ".join(reasons),
        "runs": [
            {"log_likelihood": r[2].log_likelihood, "log_likelihood_error": r[2].error, "gain": r[1].gain} for r in runs
        ],
    }
    return Result(
        "saem",
        places,
        centre,
        centre - quantile * error,
        centre + quantile * error,
        error,
        draws,
        run.values,
        around.draws,
        evidence,
        tuple(reasons),
        tuple(_trace(study, r[0].trace) for r in runs),
        numbers | _criteria(study, evidence, len(places)),
        nothing,
        nothing,
        spread,
        notes=notes,
    )


def _best(runs: Sequence[tuple[Saem, Conditional, Evidence]]) -> int:
    """The first run, or one that is clearly likelier, settled, and has not lost more SDs between patients.

    At small n the likelihood may rise where an SD is 0 and the residual takes its share; a start away from 0 that holds
    is the better description. What the other runs found is said.
    """

    def lost(run: tuple[Saem, Conditional, Evidence]) -> int:
        sd = np.sqrt(np.diag(run[0].values.omega))
        return int((sd[run[0].walk.study.effects.varies] < LOST).sum())

    best = 0
    for k in range(1, len(runs)):
        one, other = runs[best], runs[k]
        likelier = other[2].log_likelihood - one[2].log_likelihood > APART
        if likelier and other[1].gain <= GAIN_MAX and lost(other) <= lost(one):
            best = k
    return best


def _quantile(place: Coordinate, study: Study) -> float:
    """Of the t distribution for what rests on the number of patients, else normal."""
    if place.kind in ("theta", "sd", "correlation") and study.n > 2:
        return float(stdtrit(study.n - 1, 0.975))
    return float(ndtri(0.975))


def _trace(study: Study, trace: np.ndarray) -> np.ndarray:
    """Columns of a SAEM trace in the order of `coordinates`, correlations as nan."""
    effects = study.effects
    k, r, g = len(effects.start), len(effects.moving), study.series.assays
    theta, sds, sigma, offset = np.split(trace, np.cumsum([k, r, g])[:3], axis=1)
    found = []
    for place in coordinates(study):
        i = place.index[0]
        if place.kind == "theta":
            found.append(theta[:, i])
        elif place.kind == "sd":
            found.append(sds[:, effects.moving.tolist().index(i)])
        elif place.kind == "sigma":
            found.append(sigma[:, i])
        elif place.kind == "offset":
            found.append(offset[:, i - 1])
        else:
            found.append(np.full(len(trace), np.nan))
    return np.stack(found, axis=-1)


def _covariance(information: np.ndarray, places: list[Coordinate]) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of the information, and which parameters have a standard error.

    An SD between patients near 0 has no information of its own and would take that of its typical value with it: such
    SDs are set aside, worst first, as if they were fixed.
    """
    size = np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-12))
    scaled = information / np.outer(size, size)
    kept = np.ones(len(places), dtype=bool)
    spread = np.array([place.kind in ("sd", "correlation") for place in places])
    while True:
        own = np.flatnonzero(kept)
        values, vectors = np.linalg.eigh(scaled[np.ix_(own, own)])
        weight = np.where(spread[own], np.abs(vectors[:, 0]), 0.0)
        if values[0] > FLAT or not (weight > 0.1).any():
            break
        kept[own[np.argmax(weight)]] = False
    known = values > FLAT
    inverse = (vectors[:, known] / values[known]) @ vectors[:, known].T
    inverse += (vectors[:, ~known] / 1e-2) @ vectors[:, ~known].T
    whole = np.diag(np.full(len(places), 1e-12))
    whole[np.ix_(own, own)] = inverse
    lost = ~kept
    lost[own] = (vectors[:, ~known] ** 2).sum(axis=-1) > 1e-2
    return whole / np.outer(size, size), ~lost


def _criteria(study: Study, evidence: Evidence, k: int) -> dict[str, Any]:
    """Likelihood and criteria; BIC counts patients."""
    value = evidence.log_likelihood
    return {
        "log_likelihood": value,
        "log_likelihood_error": evidence.error,
        "n_parameters": k,
        "aic": -2.0 * value + 2.0 * k,
        "bic": -2.0 * value + k * float(np.log(study.n)),
    }


def _by_bayes(prepared: Prepared, seed: Sequence[str]) -> Result:
    study = prepared.study
    random = generator(*seed)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        posterior: Posterior = bayes(study, random)
    places = posterior.places
    flat = posterior.draws.reshape(-1, len(places))
    centre = np.median(flat, axis=0)
    lower, upper = np.quantile(flat, [0.025, 0.975], axis=0)
    start = Values(study.effects.start, np.diag(np.where(study.effects.varies, 1.0, 0.0)), *_empty(study))
    values = moved(start, places, centre)
    phi = posterior.phi.reshape(-1, *posterior.phi.shape[2:])
    mean = phi.mean(axis=0)
    covariance = np.einsum("dnp,dnq->npq", phi - mean, phi - mean) / len(phi)
    evidence = importance_sampling(study, values, mean, covariance, generator(*seed, "likelihood"))
    reasons = []
    if not posterior.settled:
        reasons.append(
            f"chains not settled: Rhat up to {posterior.rhat.max():.3f} (limit {RHAT_MAX:g}), "
            f"effective draws from {posterior.ess.min():.0f} (limit {ESS_MIN:.0f})"
        )
    pick = np.unique(np.linspace(0, len(flat) - 1, KEPT).round().astype(int))
    some = np.unique(np.linspace(0, len(phi) - 1, _kept(study.n)).round().astype(int))
    loo = _left_out(study, posterior)
    numbers = {
        "elpd_loo": loo.elpd,
        "elpd_loo_error": loo.error,
        "elpd_loo_doubtful_rows": loo.doubtful,
        "converged": posterior.settled,
        "reason": "; ".join(reasons),
        "rhat_max": float(posterior.rhat.max()),
        "ess_min": float(posterior.ess.min()),
        "draws": len(flat),
    }
    return Result(
        "bayes",
        places,
        centre,
        lower,
        upper,
        flat.std(axis=0),
        flat[pick],
        values,
        phi[some],
        evidence,
        tuple(reasons),
        tuple(posterior.draws),
        numbers | _criteria(study, evidence, len(places)),
        posterior.rhat,
        posterior.ess,
        np.full(len(places), np.nan),
        left_out=loo.each,
    )


def _left_out(study: Study, posterior: Posterior) -> Loo:
    """Expected predictive density of each row, from every so many draws."""
    c, kept = posterior.theta.shape[:2]
    some = np.unique(np.linspace(0, kept - 1, max(1, LOO_DRAWS // c)).round().astype(int))

    def flat(values: np.ndarray) -> np.ndarray:
        return values[:, some].reshape(-1, *values.shape[2:])

    found = study.of_rows(flat(posterior.phi), flat(posterior.sigma), flat(posterior.offset))
    return psis_loo(found[:, study.series.weight > 0])


def _empty(study: Study) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(study.series.assays), np.zeros(study.series.assays)


def _kept(n: int) -> int:
    """Draws of each patient that are kept: fewer of many."""
    return int(min(INDIVIDUAL_DRAWS, max(20, 40_000 // max(n, 1))))


# ------------------------------------------------------------------------------------------------------------ tables


class _Tables:
    """Rows of one method's result."""

    def __init__(self, assay: str, specimen: str, model: str, method: str, primary: bool) -> None:
        self.header = {"assay": assay, "specimen": specimen, "model": model, "method": method}
        self.primary = primary
        self.rows: dict[str, list[dict[str, Any]]] = {
            s.name: []
            for s in (
                POPULATION,
                INDIVIDUALS,
                POPULATION_PREDICTIONS,
                POPULATION_POINTS,
                POPULATION_TRACES,
                POPULATION_DRAWS,
                POPULATION_VPC,
            )
        }

    def absent(self, everyone: Sequence[Profile], model: KineticModel, reason: str) -> None:
        """Nothing could be estimated: every parameter and every patient has a row that says why."""
        for parameter in model.parameters:
            for kind in ("typical", "omega"):
                self._population(kind, parameter.name, reason=reason)
        self._population("sigma", "sigma", reason=reason)
        for profile in everyone:
            self._nothing(profile.patient_id, model, reason)

    def fill(
        self, prepared: Prepared, result: Result, models: Models, settings: Population, assays: Sequence[str]
    ) -> None:
        """All rows of a result."""
        unit = next((p.level_unit for p in prepared.profiles if p.level_unit), "")
        self._parameters(prepared, result, settings, unit, assays)
        self._individuals(prepared, result, unit)
        for profile, why in prepared.absent:
            self._nothing(profile.patient_id, prepared.model, f"no data: {why}")
        self._curves(prepared, result, models.band_points)
        self._points(prepared, result)
        for c, trace in enumerate(result.traces):
            every = np.unique(np.linspace(0, len(trace) - 1, TRACE_POINTS).round().astype(int))
            for k, place in enumerate(result.places):
                kind, name, _ = label(place, prepared, assays)
                self.rows["population_traces"] += [
                    self.header | {"kind": kind, "parameter": name, "chain": c + 1, "iteration": i, "value": v}
                    for i, v in zip(every.tolist(), trace[every, k].tolist(), strict=True)
                ]
        for k, place in enumerate(result.places):
            kind, name, _ = label(place, prepared, assays)
            self.rows["population_draws"] += [
                self.header | {"kind": kind, "parameter": name, "draw": i + 1, "value": v}
                for i, v in enumerate(result.draws[:, k].tolist())
            ]

    def check(self, prepared: Prepared, result: Result, samples: pd.DataFrame, assays: Sequence[str]) -> None:
        """Rows of the visual predictive check."""
        random = generator(*self.header.values(), *prepared.patients, "vpc")
        rows = vpc(prepared, result.values, samples, assays, random)
        self.rows["population_vpc"] += [self.header | row for row in rows]

    def _population(self, kind: str, parameter: str, **more: Any) -> None:
        self.rows["population"].append(
            self.header | {"kind": kind, "parameter": parameter, "primary": self.primary, **more}
        )

    def _nothing(self, patient: str, model: KineticModel, reason: str) -> None:
        for parameter in model.parameters:
            self.rows["individuals"].append(
                self.header | {"patient_id": patient, "kind": "fitted", "parameter": parameter.name, "reason": reason}
            )

    def _parameters(
        self, prepared: Prepared, result: Result, settings: Population, unit: str, assays: Sequence[str]
    ) -> None:
        study, rows = prepared.study, prepared.study.series
        q = rows.n_quantified
        counts = {
            "n_patients": study.n,
            "n_obs": rows.rows,
            "n_blq": int(rows.weight[:, q:].sum()),
        }
        whole = "; ".join([*result.reasons, *prepared.notes])
        shrinkage = _shrinkage(study, result)
        for k, place in enumerate(result.places):
            kind, name, parameter = label(place, prepared, assays)
            turn = _turn(place, parameter)
            value, low, high = (turn(np.array([x]))[0] for x in (result.centre[k], result.lower[k], result.upper[k]))
            error = _natural_error(place, parameter, result.error[k], value, result, k)
            no_error = "" if np.isfinite(result.error[k]) else "no standard error: the data do not determine it"
            own = "; ".join(filter(None, [result.notes.get(k, "") or no_error, whole]))
            self._population(
                kind,
                name,
                estimate=value,
                std_error=error,
                rse_pct=100.0 * error / abs(value) if value else np.nan,
                ci_lower=low,
                ci_upper=high,
                shrinkage_pct=shrinkage.get(name, np.nan) if kind == "omega" else np.nan,
                reason=own,
                unit=parameter.unit.replace("level_unit", unit) if parameter and kind == "typical" else "",
                **(_prior(place, prepared, parameter) if result.method == "bayes" else {}),
                rhat=result.rhat[k],
                ess=result.ess[k],
                seed_spread=result.spread[k],
                **counts,
            )
        effects = study.effects
        for j, name in enumerate(effects.names):
            if not effects.free[j]:
                value = to_natural(prepared.model, effects.start[: len(effects.names)])[j]
                told = "; ".join(["fixed by the configuration", *prepared.notes])
                self._population("typical", name, estimate=value, reason=told, **counts)
            if not effects.varies[j]:
                told = "the same in every patient by the configuration"
                self._population("omega", name, estimate=0.0, reason=told, **counts)
        for name, why in prepared.left_out.items():
            value = 1.0 if name == THETA_DOSE else np.nan
            self._population("covariate", name, estimate=value, reason=why, **counts)
        self._derived(prepared, result, unit, counts)

    def _derived(self, prepared: Prepared, result: Result, unit: str, counts: Mapping[str, int]) -> None:
        """Rates as half-lives and doubling times, of a typical patient, from the joint draws."""
        model = prepared.model
        start = Values(
            prepared.study.effects.start,
            np.diag(np.where(prepared.study.effects.varies, 1.0, 0.0)),
            *_empty(prepared.study),
        )
        p = len(model.names)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            theta = np.stack([moved(start, result.places, d).theta[:p] for d in (result.centre, *result.draws)])
            found = model.derived(to_natural(model, theta), prepared.calendars[0], prepared.constants, float("nan"))
        for quantity in found:
            if quantity.name.startswith(("half_life", "doubling_time")):
                centre, others = float(quantity.value[0]), quantity.value[1:][np.isfinite(quantity.value[1:])]
                told = quantity.reason if not np.isfinite(centre) else ""
                low, high = np.quantile(others, [0.025, 0.975]) if len(others) > KEPT // 2 else (np.nan, np.nan)
                self._population(
                    "derived",
                    quantity.name,
                    estimate=centre,
                    ci_lower=low,
                    ci_upper=high,
                    unit=quantity.unit.replace("level_unit", unit),
                    reason="; ".join(
                        filter(
                            None,
                            [
                                told or ("" if len(others) > KEPT // 2 else "does not exist for most draws"),
                                *prepared.notes,
                            ],
                        )
                    ),
                    **counts,
                )

    def _individuals(self, prepared: Prepared, result: Result, unit: str) -> None:
        model = prepared.model
        mean = to_natural(model, result.phi.mean(axis=0))
        draws = to_natural(model, result.phi)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        whole = "; ".join(result.reasons)
        for i, profile in enumerate(prepared.profiles):
            # The first parameter, on which the amount acts, is that of one reference dose, as in a fit of one patient.
            shift = _per_reference_dose(prepared, i)
            for j, parameter in enumerate(model.parameters):
                factor = shift if j == 0 else 1.0
                self.rows["individuals"].append(
                    self.header
                    | {
                        "patient_id": profile.patient_id,
                        "kind": "fitted",
                        "parameter": parameter.name,
                        "estimate": mean[i, j] * factor,
                        "ci_lower": low[i, j] * factor,
                        "ci_upper": high[i, j] * factor,
                        "unit": parameter.unit.replace("level_unit", unit),
                        "reason": "; ".join(filter(None, [_uninformed(profile), whole])),
                    }
                )
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found = model.derived(draws[:, i], prepared.calendars[i], prepared.constants, profile.lloq)
            for quantity in found:
                known = quantity.value[np.isfinite(quantity.value)]
                exists = len(known) >= 0.5 * len(quantity.value)
                ends = np.quantile(known, [0.025, 0.5, 0.975]) if exists else np.full(3, np.nan)
                self.rows["individuals"].append(
                    self.header
                    | {
                        "patient_id": profile.patient_id,
                        "kind": "derived",
                        "parameter": quantity.name,
                        "estimate": ends[1],
                        "ci_lower": ends[0],
                        "ci_upper": ends[2],
                        "unit": quantity.unit.replace("level_unit", unit),
                        "reason": "" if exists else quantity.reason or "does not exist for most draws",
                    }
                )

    def _curves(self, prepared: Prepared, result: Result, points: int) -> None:
        model, effects = prepared.model, prepared.study.effects
        typical = to_natural(model, effects.location(result.values.theta))
        draws = to_natural(model, result.phi)
        mean = to_natural(model, result.phi.mean(axis=0))
        for i, (profile, calendar) in enumerate(zip(prepared.profiles, prepared.calendars, strict=True)):
            grid = np.linspace(0.0, calendar.end, points)
            starts = calendar.infusion_time[(calendar.infusion_time > 0) & (calendar.infusion_time < calendar.end)]
            time = np.unique(np.concatenate([grid, starts, starts - 1e-6]).round(9))
            time = time[time >= calendar.infusion_time[0]]
            with np.errstate(over="ignore", invalid="ignore"):
                own = np.exp(model.log_level(time, mean[i], calendar, prepared.constants))
                other = np.exp(model.log_level(time, typical[i], calendar, prepared.constants))
                cloud = np.exp(model.log_level(time, draws[:, i], calendar, prepared.constants))
                low, high = np.quantile(cloud, [0.025, 0.975], axis=0)
            self.rows["population_predictions"] += [
                self.header
                | {"patient_id": profile.patient_id, "time": t, "population": c, "level": v, "lower": a, "upper": b}
                for t, c, v, a, b in zip(
                    time.tolist(), other.tolist(), own.tolist(), low.tolist(), high.tolist(), strict=True
                )
            ]

    def _points(self, prepared: Prepared, result: Result) -> None:
        study, rows = prepared.study, prepared.study.series
        offset = result.values.offset[None]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            own = study.mean(result.phi.mean(axis=0)[None], offset)[0]
            typical = study.mean(study.effects.location(result.values.theta)[None], offset)[0]
            sd = np.broadcast_to(np.sqrt(study.spread(result.values.sigma[None])), (1, *own.shape))[0]
            random = generator(*self.header.values(), *prepared.patients, "npde")
            errors = npde(study, result.values, result.phi[-1], random)
            levels = np.exp(np.stack([own, typical]))
        q = rows.n_quantified
        for i, profile in enumerate(prepared.profiles):
            for k in np.flatnonzero(rows.weight[i]):
                seen = k < q
                self.rows["population_points"].append(
                    self.header
                    | {
                        "patient_id": profile.patient_id,
                        "observation_id": prepared.ids[i][rows.place[i, k]],
                        "time": rows.time[i, k],
                        "level": np.exp(rows.log_level[i, k]) if seen else np.nan,
                        "lower": np.nan if seen else np.exp(rows.log_lower[i, k - q]),
                        "upper": np.nan if seen else _finite(np.exp(rows.log_upper[i, k - q])),
                        "population": levels[1, i, k],
                        "individual": levels[0, i, k],
                        "residual": (rows.log_level[i, k] - own[i, k]) / sd[i, k] if seen else np.nan,
                        "npde": errors[i, k],
                    }
                )


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else float("nan")


def _per_reference_dose(prepared: Prepared, i: int) -> float:
    """Phi holds the level after the patient's own mean amount; divided by the amount it is that of one reference dose.

    In a fit of one patient an infusion of D reference doses adds S D. Here it adds exp(phi): S = exp(phi)/D.
    """
    effects = prepared.study.effects
    if THETA_DOSE not in effects.coefficients:
        return 1.0
    return float(np.exp(-effects.design[i, 0, effects.coefficients.index(THETA_DOSE)]))


def _uninformed(profile: Profile) -> str:
    if profile.points.n_quantified == 0:
        return f"none of {profile.points.n} samples is quantified: mostly the population speaks"
    return ""


def _shrinkage(study: Study, result: Result) -> dict[str, float]:
    """1 - SD of the individual deviations / SD between patients [%], by parameter."""
    eta = result.phi.mean(axis=0) - study.effects.location(result.values.theta)
    found = {}
    for j in study.effects.moving:
        sd = float(np.sqrt(result.values.omega[j, j]))
        if len(eta) > 1 and sd > 0:
            found[study.effects.names[j]] = 100.0 * (1.0 - float(eta[:, j].std(ddof=1)) / sd)
    return found


def label(place: Coordinate, prepared: Prepared, assays: Sequence[str]) -> tuple[str, str, Parameter | None]:
    """Kind and name of a population parameter in the tables, and the curve's parameter behind it."""
    effects, parameters = prepared.study.effects, prepared.model.parameters
    i = place.index
    if place.kind == "theta":
        name = effects.coefficients[i[0]]
        return ("typical", name, parameters[i[0]]) if i[0] < len(parameters) else ("covariate", name, None)
    if place.kind == "sd":
        return "omega", effects.names[i[0]], parameters[i[0]]
    if place.kind == "correlation":
        return "omega", f"corr_{effects.names[i[0]]}_{effects.names[i[1]]}", None
    more = f"_{assays[i[0]]}" if i[0] > 0 else ""
    return ("sigma", f"sigma{more}", None) if place.kind == "sigma" else ("covariate", f"ratio{more}", None)


def _turn(place: Coordinate, parameter: Parameter | None) -> Any:
    """From the scale of estimation to that of the table."""
    if place.kind == "theta":
        if parameter is None or parameter.scale == "identity":
            return lambda x: x
        return (lambda x: 1.0 / (1.0 + np.exp(-x))) if parameter.scale == "logit" else np.exp
    return np.tanh if place.kind == "correlation" else np.exp


def _natural_error(
    place: Coordinate, parameter: Parameter | None, error: float, value: float, result: Result, k: int
) -> float:
    """Standard error on the scale of the table: posterior SD, or by the delta method."""
    if result.method == "bayes":
        with np.errstate(over="ignore"):
            found = float(_turn(place, parameter)(result.draws[:, k]).std())
        return found if np.isfinite(found) else float("nan")
    if place.kind == "theta":
        if parameter is None or parameter.scale == "identity":
            return float(error)
        return float(error * (value * (1.0 - value) if parameter.scale == "logit" else value))
    return float(error * (1.0 - value * value if place.kind == "correlation" else value))


def _prior(place: Coordinate, prepared: Prepared, parameter: Parameter | None) -> dict[str, Any]:
    """The prior in words and as numbers on the scale of estimation."""
    effects = prepared.study.effects
    i = place.index[0]
    if place.kind == "theta":
        mean, sd = float(effects.prior_mean[i]), float(effects.prior_sd[i])
        if not np.isfinite(sd):
            return {"prior": "flat on the ln scale"}
        if parameter is None:
            return {"prior": f"normal({mean:g}, {sd:g})", "prior_mean": mean, "prior_sd": sd}
        natural = to_natural(prepared.model, effects.prior_mean[: len(effects.names)])[i]
        word = f"{'logit' if parameter.scale == 'logit' else 'ln'} normal, median {natural:.3g}, SD {sd:g}"
        return {"prior": word, "prior_mean": mean, "prior_sd": sd}
    if place.kind == "correlation":
        return {"prior": "uniform over correlation matrices"}
    if place.kind == "offset":
        return {"prior": f"normal(0, {OFFSET_SD:g}) of ln", "prior_mean": 0.0, "prior_sd": OFFSET_SD}
    scale = effects.omega_scale if place.kind == "sd" else SIGMA_SCALE
    return {"prior": f"half-normal({scale:g})", "prior_mean": 0.0, "prior_sd": float(scale)}
