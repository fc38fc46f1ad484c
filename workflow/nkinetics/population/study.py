"""From tables to a mixed-effects study: patients, calendars, dose levels, covariates, starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.errors import InputError, Problem, nearest
from nkinetics.fitting import Profile
from nkinetics.fitting.likelihood import Points
from nkinetics.fitting.objective import SIGMA_START, Case
from nkinetics.fitting.optimise import Optimum, fitted
from nkinetics.fitting.resampling import Design
from nkinetics.fitting.together import together
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, KineticModel, discover
from nkinetics.population.mixed import Curves, Effects, Study, series
from nkinetics.settings import Models, Population

PILOTS = 60
"""Patients fitted one by one for the starting values."""
OMEGA_START, OMEGA_START_MAX = 0.6, 1.0
"""SD between patients at the start where no patient tells it, and at most."""
DOSES_APART = 1.25
"""Ratio of the largest to the smallest amount from which theta_dose can be estimated."""
BASELINE_SD = 5.0
"""SD of the prior that keeps a typical value on which SAEM finds no information from drifting away."""
THETA_DOSE = "theta_dose"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study ready to be estimated, and what belongs to its rows.

    Parameters
    ----------
    study : Study
        Patients with at least one row.
    profiles : tuple of Profile
        Of these patients, in the same order; the first assay where several share the curve.
    absent : tuple of (Profile, str)
        Patients without a row, and why.
    model, constants
        The curve and its constants.
    calendars : tuple of Calendar
        Amounts relative to each patient's mean amount: theta_dose carries the rest.
    notes : tuple of str
        To be said with every result.
    left_out : mapping of str to str
        Coefficients that were asked for and cannot be estimated, with the reason.
    ids : tuple of tuple of str
        observation_id of each row of each patient, in the order of `Series.place`.
    """

    study: Study
    profiles: tuple[Profile, ...]
    absent: tuple[tuple[Profile, str], ...]
    model: KineticModel
    constants: Any
    calendars: tuple[Calendar, ...]
    notes: tuple[str, ...]
    left_out: dict[str, str]
    ids: tuple[tuple[str, ...], ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Identifiers, in the order of every array."""
        return tuple(p.patient_id for p in self.profiles)


def mean_amount(calendar: Calendar) -> float:
    """Mean amount of a patient's infusions, relative to the reference dose."""
    return float(np.mean(calendar.infusion_amount))


def usable(profile: Profile, model: KineticModel, constants: Any) -> str:
    """Why a patient's rows cannot enter; empty when they can. All rows BLQ do: they tell that the level is low."""
    if profile.calendar is None:
        return profile.empty
    if profile.points.n == 0:
        return profile.empty or "no sample after the first infusion enters"
    if profile.empty.startswith("levels in more than one unit"):
        return profile.empty
    # A patient without the cytokine grows as nobody does: that is information on the loss.
    return (
        ""
        if model.name in ("cytokine_window", "rejection", "effector_memory")
        else model.missing(profile.calendar, constants)
    )


def joined(calendars: Sequence[Calendar]) -> Calendar:
    """Calendars side by side: infusions of amount 0 and pulses at infinity fill the shorter ones."""
    k = max(len(c.infusion_time) for c in calendars)
    agents = sorted({a for c in calendars for a in c.pulses})

    def padded(values: np.ndarray, size: int, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full(size - len(values), fill)])

    pulses = {}
    for agent in agents:
        own = [np.asarray(c.pulses.get(agent, np.zeros(0)), dtype=float) for c in calendars]
        size = max(len(p) for p in own)
        pulses[agent] = np.stack([padded(p, size, np.inf) for p in own])
    return Calendar(
        np.stack([padded(c.infusion_time, k, float(c.infusion_time[-1])) for c in calendars]),
        np.stack([padded(c.infusion_amount, k, 0.0) for c in calendars]),
        pulses,
        max(c.end for c in calendars),
    )


def curves_of(model: KineticModel, constants: Any, time: np.ndarray, calendar: Calendar) -> Curves:
    """Ln level (chains, patients, rows) of a model at settled times (patients, rows)."""
    if model.prepared is not None:
        at = model.prepared(time, calendar, constants)
        return lambda phi, chains: at(to_natural(model, phi))
    return lambda phi, chains: model.log_level(time, to_natural(model, phi), calendar, constants)


def prepare(
    assays: Sequence[Sequence[Profile]],
    model_name: str,
    settings: Population,
    models: Models,
    patients: pd.DataFrame | None,
    weak: bool,
) -> Prepared | str:
    """A study of one assay, or of several that share the curve.

    Parameters
    ----------
    assays : sequence of sequences of Profile
        For each assay the profiles of all patients, the same patients in the same order.
    model_name : str
        Model of the curve.
    settings, models : Population, Models
        Effects, and the models' constants.
    patients : DataFrame, optional
        Covariates.
    weak : bool
        Weak priors on typical values (Bayes).

    Returns
    -------
    Prepared or str
        The reason where no patient has a quantified row.

    Raises
    ------
    InputError
        When the settings name a parameter or a patient column that does not exist.
    """
    model, constants = discover("models")[model_name], models.constants(model_name)
    check_names((model,), settings, patients)
    used, absent = [], []
    for own in zip(*assays, strict=True):
        why = [usable(p, model, constants) for p in own]
        if all(why):
            absent.append((own[0], why[0]))
        else:
            used.append(tuple(p if not w else None for p, w in zip(own, why, strict=True)))
    points = [[p.points if p is not None else EMPTY for p in own] for own in used]
    if not any(p.n_quantified for own in points for p in own):
        total = sum(p.n for own in points for p in own)
        return f"none of {total} samples is quantified" if total else "no patient has a sample that enters"
    first = [next(p for p in own if p is not None) for own in used]
    calendars = [p.calendar for p in first if p.calendar is not None]
    amounts = np.array([mean_amount(c) for c in calendars])
    scaled = [
        Calendar(c.infusion_time, c.infusion_amount / a, c.pulses, c.end)
        for c, a in zip(calendars, amounts, strict=True)
    ]
    rows = series(points)
    starts = _starts(model, constants, first)
    effects, left_out = _effects(model, settings, first, amounts, patients, starts, weak, rows.assays)
    calendar = joined(scaled)

    def slopes(phi: np.ndarray, chains: int) -> tuple[np.ndarray, np.ndarray]:
        return model.jacobian(rows.time, to_natural(model, phi), calendar, constants)

    study = Study(rows, effects, curves_of(model, constants, rows.time, calendar), slopes)
    told = sorted({p.note for p in first if p.note})
    ids = tuple(tuple(i for p in own if p is not None for i in p.observation_ids) for own in used)
    return Prepared(study, tuple(first), tuple(absent), model, constants, tuple(scaled), tuple(told), left_out, ids)


EMPTY = Points(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))


def nobody(patient: str, dose_level: str, assay: str, specimen: str) -> Profile:
    """A patient without this assay: no row, and why."""
    none = np.zeros(0)
    nothing = Design(none, none, none, none, none, "")
    why = f"no {assay} of {specimen}"
    return Profile(patient, dose_level, assay, specimen, "", EMPTY, float("nan"), None, "", why, nothing)


def check_names(models: Sequence[KineticModel], settings: Population, patients: pd.DataFrame | None) -> None:
    """Every parameter that the settings name must be one of these models', and every covariate a patient column.

    Raises
    ------
    InputError
        With all that are not.
    """
    problems = []
    known = list(dict.fromkeys(name for model in models for name in model.names))
    whose = f"the model {models[0].name}" if len(models) == 1 else f"the models {', '.join(m.name for m in models)}"
    named = [("fixed", n) for n in settings.fixed] + [("no_variability", n) for n in settings.no_variability]
    named += [("correlated", n) for block in settings.correlated for n in block]
    named += [("priors", n) for n in settings.priors if n != THETA_DOSE]
    named += [("covariates", _covariate(c)[1]) for c in settings.covariates if _covariate(c)[1]]
    for key, name in named:
        if name not in known:
            near = nearest(name, known, 0.6)
            problems.append(
                Problem(
                    "population",
                    column=key,
                    found=f"no parameter {name} of {whose}",
                    expected=f"one of {', '.join(known)}",
                    mend=f"did you mean {near}?" if near else "correct it",
                )
            )
    columns = [] if patients is None else list(patients.columns)
    for text in settings.covariates:
        if _covariate(text)[0] not in columns:
            problems.append(
                Problem(
                    "population",
                    column="covariates",
                    found=f"no column {_covariate(text)[0]} in the table of patients",
                    expected=f"one of {', '.join(columns)}" if columns else "a table of patients (--patients)",
                    mend="name a column of patients.csv",
                )
            )
    if problems:
        raise InputError(problems)


def _covariate(text: str) -> tuple[str, str]:
    """Column and parameter of `column` or `column on parameter`; the parameter is empty for the scale."""
    column, _, parameter = text.partition(" on ")
    return column.strip(), parameter.strip()


# --------------------------------------------------------------------------------------------------------- starts


@dataclass(frozen=True, eq=False)
class _Starts:
    """Typical values and SDs between patients (p,) on the scale of estimation, and the residual SD."""

    typical: np.ndarray
    spread: np.ndarray
    sigma: float


def _starts(model: KineticModel, constants: Any, profiles: Sequence[Profile]) -> _Starts:
    """From fits of some patients, one by one: medians over those whose parameter is off its search limits."""
    able = [
        p
        for p in profiles
        if p.calendar is not None
        and p.points.n > len(model.parameters)
        and p.points.n_quantified >= 3
        and not model.missing(p.calendar, constants)
        and len(np.unique(p.points.time)) > 1
    ]
    able = sorted(able, key=lambda p: (-p.points.n_quantified, p.patient_id))[:PILOTS]
    cases = [Case(model, constants, p.calendar, p.points) for p in able if p.calendar is not None]
    optima: list[Optimum] = together([fitted(case) for case in cases])
    fallback = to_estimation(model, np.array([p.start for p in model.parameters]))
    typical, spread = fallback.copy(), np.full(len(fallback), OMEGA_START)
    for j, name in enumerate(model.names):
        seen = np.array([o.vector[j] for o in optima if name not in o.at_bound])
        # Far from anything plausible is a flat ridge, not a patient.
        if model.parameters[j].unit != "level_unit":
            seen = seen[np.abs(seen - fallback[j]) < 4.0]
        if len(seen):
            typical[j] = np.median(seen)
        if len(seen) > 2:
            spread[j] = np.clip(1.4826 * np.median(np.abs(seen - typical[j])), 0.3, OMEGA_START_MAX)
    if not optima:
        typical = _scaled(model, constants, profiles, typical)
    sigma = np.array([np.exp(o.vector[-1]) for o in optima])
    return _Starts(typical, spread, float(np.clip(np.median(sigma), 0.15, 1.5)) if len(sigma) else SIGMA_START)


def _scaled(model: KineticModel, constants: Any, profiles: Sequence[Profile], typical: np.ndarray) -> np.ndarray:
    """The level parameters moved so that the typical curve runs through the middle of the quantified rows."""
    off = []
    for p in profiles:
        if p.calendar is not None and p.points.n_quantified:
            time = p.points.time[: p.points.n_quantified]
            curve = model.log_level(time, to_natural(model, typical), p.calendar, constants)
            off += (p.points.log_level - curve).tolist()
    found = typical.copy()
    for j, parameter in enumerate(model.parameters):
        if parameter.unit == "level_unit" and off:
            found[j] += float(np.median(off))
    return found


# -------------------------------------------------------------------------------------------------------- effects


def _effects(
    model: KineticModel,
    settings: Population,
    profiles: Sequence[Profile],
    amounts: np.ndarray,
    patients: pd.DataFrame | None,
    starts: _Starts,
    weak: bool,
    assays: int,
) -> tuple[Effects, dict[str, str]]:
    p, n = len(model.names), len(profiles)
    names = list(model.names)
    design = [np.tile(np.eye(p)[j], (n, 1)) for j in range(p)]
    start, free = list(starts.typical), [True] * p
    mean = [float(x) for x in to_estimation(model, np.array([q.start for q in model.parameters]))]
    # The scale has no natural size: nothing is assumed about it.
    loose = np.inf if weak else BASELINE_SD
    sd = [np.inf if q.unit == "level_unit" else (settings.weak_prior_sd if weak else loose) for q in model.parameters]
    left_out: dict[str, str] = {}
    for j, name in enumerate(model.names):
        if name in settings.fixed:
            start[j] = float(to_estimation(model, _with(model, j, settings.fixed[name]))[j])
            free[j] = False
    x = np.log(amounts)
    for name, column, target, value, known in _covariates(model, settings, profiles, x, patients, left_out):
        column_of = np.zeros((n, p))
        column_of[:, target] = column
        design.append(column_of)
        names.append(name)
        start.append(value)
        free.append(known)
        mean.append(1.0 if name == THETA_DOSE else 0.0)
        sd.append(settings.weak_prior_sd if weak else np.inf)
    for name, (middle, width) in settings.priors.items():
        if name in names:
            k = names.index(name)
            mean[k] = middle if k >= p else float(to_estimation(model, _with(model, k, middle))[k])
            sd[k] = width
    varies = np.array([q not in settings.no_variability for q in model.names])
    together = np.eye(p, dtype=bool)
    for block in settings.correlated:
        at = [model.names.index(q) for q in block]
        together[np.ix_(at, at)] = True
    together &= np.outer(varies, varies) | np.eye(p, dtype=bool)
    effects = Effects(
        names=model.names,
        coefficients=tuple(names),
        design=np.stack(design, axis=-1),
        start=np.array(start),
        free=np.array(free),
        varies=varies,
        together=together,
        prior_mean=np.array(mean),
        prior_sd=np.array(sd),
        omega_scale=settings.omega_prior,
        omega_start=starts.spread,
        sigma_start=np.full(assays, starts.sigma),
    )
    return effects, left_out


def _with(model: KineticModel, j: int, value: float) -> np.ndarray:
    natural = np.array([q.start for q in model.parameters])
    natural[j] = value
    return natural


def _covariates(
    model: KineticModel,
    settings: Population,
    profiles: Sequence[Profile],
    x: np.ndarray,
    patients: pd.DataFrame | None,
    left_out: dict[str, str],
) -> list[tuple[str, np.ndarray, int, float, bool]]:
    """Name, column (patients,), parameter, start, and whether it is estimated, of each effect."""
    found: list[tuple[str, np.ndarray, int, float, bool]] = []
    assumed = all("infusions not given" in p.note for p in profiles)
    levels = sorted({p.dose_level for p in profiles if p.dose_level})
    apart = len(levels) != 1 and len(x) > 1 and np.ptp(x) > np.log(DOSES_APART)
    if not assumed:
        found.append((THETA_DOSE, x, 0, 1.0, bool(apart)))
        if not apart:
            left_out[THETA_DOSE] = "fixed at 1: one dose level, or amounts that do not differ enough"
    elif len(levels) > 1:
        for level in levels[1:]:
            column = np.array([float(p.dose_level == level) for p in profiles])
            found.append((f"dose_level_{level}", column, 0, 0.0, True))
    known = [column for _, column, target, _, free in found if free and target == 0]
    for text in settings.covariates:
        name, parameter = _covariate(text)
        target = model.names.index(parameter) if parameter else 0
        assert patients is not None
        values = patients.drop_duplicates("patient_id").set_index("patient_id")[name]
        own = values.reindex([p.patient_id for p in profiles])
        for label, column in _columns(name, own):
            full = f"{label}_on_{parameter}" if parameter else label
            others = known if target == 0 else []
            basis = np.stack([np.ones(len(column)), *others], axis=-1)
            rest = column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0]
            if np.ptp(column) == 0:
                left_out[full] = "the same in all patients with data"
            elif np.abs(rest).max() < 1e-8:
                left_out[full] = "not to be told apart from the other effects in these patients"
            else:
                found.append((full, column, target, 0.0, True))
                known += [column] if target == 0 else []
    return found


def _columns(name: str, values: pd.Series) -> list[tuple[str, np.ndarray]]:
    """Columns of a covariate: 0 and 1 for a flag, centred numbers, one column for each further category."""
    text = values.astype(object)
    missing = text.isna() | (text.astype(str).str.strip() == "")
    flags = text.astype(str).str.lower()
    if flags[~missing].isin(["true", "false"]).all():
        column = (flags == "true").to_numpy(dtype=float)
        column[missing.to_numpy()] = column[~missing.to_numpy()].mean() if (~missing).any() else 0.0
        return [(name, column)]
    numbers = pd.to_numeric(text.where(~missing), errors="coerce").astype(float)
    if numbers[~missing].notna().all():
        middle = float(numbers.median()) if (~missing).any() else 0.0
        return [(name, (numbers.fillna(middle) - middle).to_numpy(dtype=float))]
    kinds = sorted(flags[~missing].unique())
    original = text.astype(str)
    return [(f"{name}_{original[flags == kind].iloc[0]}", (flags == kind).to_numpy(dtype=float)) for kind in kinds[1:]]
