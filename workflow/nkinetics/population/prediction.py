"""What the population lets expect: new patients under any schedule, and each patient from what was seen of him so far.

A new patient has parameters B theta + eta with (theta, Omega) a joint draw of the population parameters and eta drawn
from Omega: the interval holds what is not known of the population and what differs between patients. The virtual
patients are the same under every scenario, so that scenarios differ by the dosing alone.

A patient of the study is drawn given his own samples, one Metropolis chain at each draw of the population parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import (
    INDIVIDUAL_FORECAST,
    INDIVIDUAL_FORECAST_CURVES,
    POPULATION_FORECAST,
    POPULATION_FORECAST_CURVES,
)
from nkinetics.errors import InputError, Problem
from nkinetics.fitting import Profile, assay_profiles
from nkinetics.models._algebra import integral, pulses_of, to_natural
from nkinetics.plugins import Calendar, KineticModel
from nkinetics.population.comparison import without_strangers
from nkinetics.population.estimation import INDIVIDUAL_DRAWS, generator, label
from nkinetics.population.information import coordinates, moved
from nkinetics.population.mixed import Study, Values, cholesky
from nkinetics.population.study import THETA_DOSE, Prepared, mean_amount, nobody, prepare
from nkinetics.population.walks import Walk
from nkinetics.settings import Blq, Models, Population, Prediction, Scenario
from nkinetics.store import complete
from nkinetics.wording import amount as cells

NEW = 24
"""New patients at each draw of the population parameters."""
SWEEPS = 200
"""Sweeps of a patient's chain, half of them to adapt."""
AT_ONCE = 4000
"""Curves computed at once: bounds the memory."""
CURVE_POINTS = 121
"""Times of a predicted course, infusions apart."""
PATIENT_POINTS = 61
"""The same for a patient's course; fewer in large studies."""
LONGEST = 1.0
"""Pieces of the Gauss rule [d] for areas that a model does not give in closed form; 12 nodes on each."""
SAME = 1.01
"""Amounts within this ratio are the same."""
NEAR_A_DAY = 0.2
"""Actual times this near a whole day [d] were planned on it."""
HALF = 0.5


@dataclass(frozen=True, eq=False)
class Forecast:
    """Canonical tables of the same names.

    Parameters
    ----------
    population_forecast, population_forecast_curves : DataFrame
        New patients under each scenario.
    individual_forecast, individual_forecast_curves : DataFrame
        Patients of the study.
    """

    population_forecast: pd.DataFrame
    population_forecast_curves: pd.DataFrame
    individual_forecast: pd.DataFrame
    individual_forecast_curves: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Dosing:
    """One scenario on the calendar of the models.

    Parameters
    ----------
    scenario : Scenario
        As asked.
    calendar : Calendar
        Amounts relative to their mean, up to the horizon.
    ratio : float
        Mean amount in reference doses.
    schedule : str
        In words.
    beyond : tuple of str
        What of it was not given in the study; empty = nothing.
    notes : tuple of str
        What of it has no effect in the model, and what no sample speaks of.
    """

    scenario: Scenario
    calendar: Calendar
    ratio: float
    schedule: str
    beyond: tuple[str, ...]
    notes: tuple[str, ...] = ()


def forecast(
    fit: Mapping[str, Any],
    population: pd.DataFrame,
    draws: pd.DataFrame,
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    patients: pd.DataFrame | None = None,
    settings: Prediction | None = None,
    model: str | None = None,
    method: str | None = None,
) -> Forecast:
    """Predictions of a fitted population model.

    Parameters
    ----------
    fit : mapping
        What `nkinetics population` wrote to population_fit.json.
    population, draws : DataFrame
        Canonical tables population and population_draws of the same fit.
    observations, infusions, cytokines, patients : DataFrame
        The tables that were fitted.
    settings : Prediction, optional
        Scenarios, windows, days, limits, size of a cohort, confidence.
    model, method : str, optional
        In place of the chosen model, and of the method that the rule of the fit chose.

    Returns
    -------
    Forecast
        A fit that is not to be trusted has its rows with the reason and no number.

    Raises
    ------
    InputError
        When there is no such fit, or the draws do not belong to these tables.
    """
    settings = settings or Prediction()
    header, told = _which(fit, population, model, method)
    name = header["model"]
    constants = fit["constants"].get(name, fit["constants"])
    models = Models(**{name: constants})
    choices = without_strangers(Population(**fit["settings"]), name, models)
    reference = float(fit["reference_dose"])
    found = assay_profiles(observations, infusions, cytokines, Blq(**fit["blq"]), patients, reference)
    assays = header["assay"].split("+")
    by = {(p.patient_id, p.assay): p for p in found if p.specimen == header["specimen"]}
    everyone = sorted({p.patient_id for p in found})
    chosen = [[by.get((i, a)) or _absent(i, a, header["specimen"], found) for i in everyone] for a in assays]
    prepared = prepare(chosen, name, choices, models, patients, weak=header["method"] == "bayes")
    rows = _Rows(header, settings)
    scenarios = settings.scenarios or planned(infusions, cytokines, patients, settings.next_factor)
    if isinstance(prepared, str):
        told = told or prepared
    if told or isinstance(prepared, str):
        for scenario in scenarios:
            rows.no_scenario(scenario, "", told)
        for profile in chosen[0]:
            rows.no_patient(profile, told)
        return rows.frames()
    own = {k: draws[k] == v for k, v in header.items()}
    mine = draws[np.logical_and.reduce(list(own.values()))]
    values, notes = population_values(prepared, mine, _of(population, header), assays)
    random = generator(*header.values(), *prepared.patients, "patients")
    phi, at = individual_draws(prepared.study, values, random)
    unit = next((p.level_unit for p in prepared.profiles if p.level_unit), "")
    lloqs = [p.lloq for p in prepared.profiles if np.isfinite(p.lloq)]
    lloq = float(np.median(lloqs)) if lloqs else float("nan")
    highest = _highest(prepared, phi, settings)
    seen = _Given(prepared, infusions, everyone)
    dosings = [seen.dosing(s, reference, settings, prepared) for s in scenarios]
    for dosing in dosings:
        if isinstance(dosing, str):
            continue
        rows.scenario(prepared, values, dosing, lloq, unit, highest, notes)
    for scenario, dosing in zip(scenarios, dosings, strict=True):
        if isinstance(dosing, str):
            rows.no_scenario(scenario, "", dosing)
    ended = _ended(patients)
    by_level = {s.name: s for s in planned(infusions, cytokines, patients, None)}
    for i, profile in enumerate(prepared.profiles):
        if profile.patient_id in ended:
            rows.no_patient(profile, ended[profile.patient_id])
            continue
        more = by_level.get(profile.dose_level) if settings.remaining else None
        rows.patient(prepared, i, phi[:, i], at, more, reference, unit, seen.unit)
    for profile, why in prepared.absent:
        rows.no_patient(profile, f"no data: {why}")
    return rows.frames()


def _absent(patient: str, assay: str, specimen: str, found: Sequence[Profile]) -> Profile:
    """A patient without this assay: empty, with his dose level."""
    level = next((p.dose_level for p in found if p.patient_id == patient and p.dose_level), "")
    return nobody(patient, level, assay, specimen)


def _of(population: pd.DataFrame, header: Mapping[str, str]) -> pd.DataFrame:
    return population[np.logical_and.reduce([population[k] == v for k, v in header.items()])]


def _which(
    fit: Mapping[str, Any], population: pd.DataFrame, model: str | None, method: str | None
) -> tuple[dict[str, str], str]:
    """Key columns of the fit to predict from, and why it is not to be trusted; empty when it is."""
    fits = list(fit["fits"])
    models = list(dict.fromkeys(f["model"] for f in fits))
    name = model or fit.get("chosen") or models[0]
    wanted = method or fit["primary"]
    own = [f for f in fits if f["model"] == name and f["method"] == wanted]
    if not own:
        known = ", ".join(f"{f['model']} by {f['method']}" for f in fits)
        raise InputError(
            Problem(
                "population_fit.json",
                found=f"no fit of {name} by {wanted}",
                expected=f"one of {known}",
                mend="name one of them with --model and --method, or run nkinetics population for it",
            )
        )
    header = {k: str(own[0][k]) for k in ("assay", "specimen", "model", "method")}
    if own[0]["converged"] and not len(_of(population, header)):
        raise InputError(
            Problem(
                "population.csv",
                found=f"no row of {name} by {wanted}",
                expected="the tables of one run of nkinetics population",
                mend="run it again",
            )
        )
    why = str(own[0].get("reason") or "")
    return header, "" if own[0]["converged"] else f"no prediction: the fit is not to be trusted ({why})"


# -------------------------------------------------------------------------------------------------------- scenarios


def planned(
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    patients: pd.DataFrame | None,
    next_factor: float | None,
) -> tuple[Scenario, ...]:
    """The schedule of each dose level as planned, and that of the highest with so many times its amount.

    Parameters
    ----------
    infusions, cytokines, patients : DataFrame
        Of the study; of each dose level the planned amounts and the most infusions and cytokine doses of any patient,
        on their median days.
    next_factor : float, optional
        Multiple of the highest amount; without it no next dose level.

    Examples
    --------
    >>> given = pd.DataFrame({"patient_id": "01", "infusion": [1, 2], "time": [0.0, 3.04], "planned": 2e9})
    >>> [(s.name, s.amounts, s.infusions) for s in planned(given, None, None, 2.0)]
    [('all', (2000000000.0, 2000000000.0), (0.0, 3.0)), ('next', (4000000000.0, 4000000000.0), (0.0, 3.0))]
    """
    if infusions is None or not len(infusions):
        return ()
    level = (
        {} if patients is None else dict(zip(patients["patient_id"].astype(str), patients["dose_level"], strict=True))
    )
    # The time of an infusion that was not given is not known: its day is that of the patients who had it.
    own = infusions[infusions["time"].notna() & (infusions["planned"] > 0)]
    own = own.assign(dose_level=[level.get(str(i), "") or "all" for i in own["patient_id"]])
    found = []
    for name, rows in own.groupby("dose_level", sort=True):
        by = rows.groupby("infusion", sort=True)
        times = _whole(by["time"].median())
        # Infusions that the numbers put in one order and the times in another are no schedule.
        rising = [k for k, d in enumerate(times) if d > max(times[:k], default=-np.inf)]
        days = [times[k] - times[0] for k in rising]
        amounts = by["planned"].median().to_numpy()[rising].tolist()
        agent, pulses = _pulses(cytokines, set(rows["patient_id"]))
        found.append(
            Scenario(name=str(name), dose=tuple(amounts), infusions=tuple(days), cytokines=pulses, agent=agent)
        )
    if next_factor is None or not found:
        return tuple(found)
    top = max(found, key=lambda s: (float(np.mean(s.amounts)), s.name))
    name = "next" if "next" not in {s.name for s in found} else "next_dose"
    more = tuple(a * next_factor for a in top.amounts)
    return (*found, top.model_copy(update={"name": name, "dose": more}))


def _whole(values: pd.Series) -> list[float]:
    """Days; whole ones where they are near."""
    return [float(round(v)) if abs(v - round(v)) <= NEAR_A_DAY else round(float(v), 2) for v in values]


def _pulses(cytokines: pd.DataFrame | None, patients: set[str]) -> tuple[str, tuple[float, ...]]:
    """The agent that these patients had most often, and the days of its doses."""
    if cytokines is None:
        return "IL-2", ()
    rows = cytokines[cytokines["patient_id"].isin(patients) & cytokines["time"].notna()]
    if not len(rows):
        return "IL-2", ()
    agent = sorted(rows["agent"].value_counts().items(), key=lambda item: (-item[1], str(item[0])))[0][0]
    rows = rows[rows["agent"] == agent].sort_values(["patient_id", "time"])
    place = rows.groupby("patient_id").cumcount()
    days = _whole(rows["time"].groupby(place).median())
    return str(agent), tuple(sorted(set(days)))


def spelled(amounts: Sequence[float], days: Sequence[float], agent: str, pulses: Sequence[float], unit: str) -> str:
    """A schedule in words.

    Examples
    --------
    >>> spelled([6e9, 6e9], [0, 3], "IL-2", [0, 3], "cells")
    '2 infusions of 6×10⁹ cells on days 0, 3; IL-2 on days 0, 3'
    """
    same = max(amounts) <= min(amounts) * SAME
    each = cells(float(amounts[0])) if same else ", ".join(cells(float(a)) for a in amounts)
    many = f"{len(days)} infusions" if len(days) > 1 else "1 infusion"
    text = f"{many} of {each} {unit} on day{'s' * (len(days) > 1)} {_days(days)}"
    return text + (f"; {agent} on day{'s' * (len(pulses) > 1)} {_days(pulses)}" if len(pulses) else "")


def _days(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)


class _Given:
    """What was given in the study, to tell what lies beyond it."""

    def __init__(self, prepared: Prepared, infusions: pd.DataFrame | None, everyone: Sequence[str]) -> None:
        known = [p.calendar for p in prepared.profiles if p.calendar is not None]
        self.ratios = [mean_amount(c) for c in known]
        self.most = max(len(c.infusion_time) for c in known)
        self.last = max(float(c.infusion_time[-1]) for c in known)
        gaps = [float(np.diff(c.infusion_time).min()) for c in known if len(c.infusion_time) > 1]
        self.closest = min(gaps, default=float("inf"))
        self.calendars = known
        self.seen = max(float(p.points.time.max()) for p in prepared.profiles)
        self.unit = "cells"
        if infusions is not None and "unit" in infusions and (infusions["unit"].fillna("") != "").any():
            self.unit = str(infusions["unit"].replace("", np.nan).dropna().iloc[0])
        self.assumed = all("infusions not given" in p.note for p in prepared.profiles)

    def dosing(self, scenario: Scenario, reference: float, settings: Prediction, prepared: Prepared) -> Dosing | str:
        """The scenario on the models' calendar, or why it cannot be predicted."""
        if self.assumed:
            return "no prediction: the amounts given are not known (no table of infusions)"
        amounts, days = np.array(scenario.amounts), np.array(scenario.infusions)
        pulses = np.array(scenario.cytokines)
        ratio = float(amounts.mean() / reference)
        end = max(settings.horizon, float(days[-1]))
        calendar = Calendar(days, amounts / amounts.mean(), {scenario.agent: pulses} if len(pulses) else {}, end)
        schedule = spelled(scenario.amounts, scenario.infusions, scenario.agent, scenario.cytokines, self.unit)
        beyond = self._beyond(calendar, ratio, reference)
        agents = getattr(prepared.constants, "agents", None)
        if agents is not None:
            beyond += self._beyond_pulses(calendar, agents)
        notes = []
        if settings.scenarios and len(pulses) and not len(pulses_of(calendar, agents or ())):
            notes.append(f"the model {prepared.model.name} has no effect of {scenario.agent}")
        if end > self.seen * SAME:
            notes.append(f"no sample of the study later than day {self.seen:.4g}")
        return Dosing(scenario, calendar, ratio, schedule, tuple(beyond), tuple(notes))

    def _beyond(self, calendar: Calendar, ratio: float, reference: float) -> list[str]:
        found = []
        days = calendar.infusion_time
        low, high = (cells(float(f"{r * reference:.3g}")) for r in (min(self.ratios), max(self.ratios)))
        if ratio > max(self.ratios) * SAME:
            found.append(f"above the highest mean amount of an infusion given ({high})")
        if ratio * SAME < min(self.ratios):
            found.append(f"below the lowest mean amount of an infusion given ({low})")
        if len(days) > self.most:
            found.append(f"more infusions than given ({self.most})")
        if days[-1] > self.last + 1.0:
            found.append(f"infusions later than any given (day {self.last:.3g})")
        if len(days) > 1 and np.diff(days).min() < 0.8 * self.closest and np.isfinite(self.closest):
            found.append(f"infusions closer than any given ({self.closest:.3g} d)")
        return found

    def _beyond_pulses(self, calendar: Calendar, agents: Sequence[str]) -> list[str]:
        asked = pulses_of(calendar, agents)
        had = [pulses_of(c, agents) for c in self.calendars]
        most = max(len(p) for p in had)
        last = max((float(p[-1]) for p in had if len(p)), default=float("-inf"))
        name = " or ".join(agents)
        if len(asked) > most:
            return [f"more doses of {name} than given ({most})"]
        if len(asked) and asked[-1] > last + 1.0:
            return [f"{name} later than given (day {last:.3g})"]
        if len(asked) < min(len(p) for p in had):
            return [f"fewer doses of {name} than given ({min(len(p) for p in had)})"]
        return []


# ------------------------------------------------------------------------------------------------------------- draws


def population_values(
    prepared: Prepared, draws: pd.DataFrame, estimates: pd.DataFrame, assays: Sequence[str]
) -> tuple[Values, list[str]]:
    """Joint draws of the population parameters with a leading axis of draws, and what to say about them.

    Parameters
    ----------
    prepared : Prepared
        The study that was fitted.
    draws, estimates : DataFrame
        Rows of population_draws and population of this fit.
    assays : sequence of str
        Assays that share the curve.

    Raises
    ------
    InputError
        When the draws are of other parameters than the study has.
    """
    study = prepared.study
    places = coordinates(study)
    names = [label(place, prepared, assays)[:2] for place in places]
    wide = draws.pivot(index="draw", columns=["kind", "parameter"], values="value").sort_index()
    if set(wide.columns) != set(names):
        raise InputError(
            Problem(
                "population_draws.csv",
                found=", ".join(sorted(p for _, p in wide.columns)) or "no draw",
                expected=f"draws of {', '.join(sorted(p for _, p in names))}",
                mend="use the tables of the run of nkinetics population that the draws come from",
            )
        )
    matrix = wide[names].to_numpy(dtype=float, copy=True)
    notes = []
    known = estimates.set_index(["kind", "parameter"])
    for k, (kind, name) in enumerate(names):
        # An SD on the boundary has no spread that the information could tell: its draws would be anything.
        if places[k].kind == "sd" and not np.isfinite(known.loc[(kind, name), "std_error"]):
            matrix[:, k] = np.log(max(float(known.loc[(kind, name), "estimate"]), 1e-6))
            notes.append(f"SD of {name} between patients taken as estimated: the data do not tell its error")
    g = study.series.assays
    start = Values(study.effects.start, np.diag(np.where(study.effects.varies, 1.0, 0.0)), np.ones(g), np.zeros(g))
    each = [moved(start, places, row) for row in matrix]
    if THETA_DOSE in prepared.left_out:
        notes.append("proportional to the amount by assumption: one dose level, or amounts that do not differ enough")
    elif ("covariate", THETA_DOSE) in known.index:
        row = known.loc[("covariate", THETA_DOSE)]
        notes.append(
            f"level in proportion to the amount to the power {row['estimate']:.3g} "
            f"({row['ci_lower']:.3g} to {row['ci_upper']:.3g})"
        )
    stacked = Values(*(np.stack([getattr(v, f) for v in each]) for f in ("theta", "omega", "sigma", "offset")))
    return stacked, notes


def new_patients(
    prepared: Prepared, values: Values, ratio: float, n: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters of new patients (draws, n, p) and of the typical one (draws, p), scale of estimation.

    Parameters
    ----------
    prepared : Prepared
        The study; a new patient has the covariates of one of its patients, drawn at random.
    values : Values
        With a leading axis of draws.
    ratio : float
        Mean amount of the infusions in reference doses.
    n : int
        New patients at each draw.
    random : Generator
        Source of the draws; the same one gives the same patients at any dose.
    """
    effects = prepared.study.effects
    design = effects.design.copy()
    if THETA_DOSE in effects.coefficients:
        k = effects.coefficients.index(THETA_DOSE)
        design[:, 0, k] = np.log(ratio)
    d, p = len(values.theta), design.shape[1]
    pick = random.integers(len(design), size=(d, n))
    z = random.standard_normal((d, n, p))
    location = np.einsum("dnpk,dk->dnp", design[pick], values.theta)
    eta = np.einsum("dnq,dpq->dnp", z, cholesky(values.omega))
    return location + eta, values.theta @ design.mean(axis=0).T


def individual_draws(
    study: Study, values: Values, random: np.random.Generator, sweeps: int = SWEEPS
) -> tuple[np.ndarray, Values]:
    """One draw of every patient given his samples at each draw of the population: phi (draws, patients, p).

    Parameters
    ----------
    study : Study
        Patients and model.
    values : Values
        With a leading axis of draws; in large studies fewer of them are used.
    random : Generator
        Source of the draws.
    sweeps : int
        Length of each chain.

    Returns
    -------
    phi : array (draws, patients, p)
        Scale of estimation.
    values : Values
        The draws of the population that belong to them.
    """
    size = len(values.theta)
    kept = int(min(size, INDIVIDUAL_DRAWS, max(20, 40_000 // max(study.n, 1))))
    pick = np.unique(np.linspace(0, size - 1, kept).round().astype(int))
    own = Values(values.theta[pick], values.omega[pick], values.sigma[pick], values.offset[pick])
    location = study.effects.location(own.theta)
    z = random.standard_normal(location.shape)
    phi = location + HALF * np.einsum("cnq,cpq->cnp", z, cholesky(own.omega))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        walk = Walk(study, phi, random)
        walk.refresh(own)
        for k in range(sweeps):
            walk.adapting = k < sweeps // 2
            walk.sweep(own, draws=1 if k < sweeps // 2 else 0, ones=1, alls=2)
    return walk.phi, own


# -------------------------------------------------------------------------------------------------------- quantities


def quantities(
    model: KineticModel,
    phi: np.ndarray,
    calendar: Calendar,
    constants: Any,
    lloq: float,
    settings: Prediction,
) -> dict[str, tuple[str, np.ndarray]]:
    """Unit and values (vectors,) of every predicted quantity, of the curve without measurement error.

    Parameters
    ----------
    model, constants
        The curve.
    phi : array (vectors, p)
        Scale of estimation.
    calendar : Calendar
        Of one patient.
    lloq : float
        nan when unknown.
    settings : Prediction
        Windows and days.
    """
    parts: list[dict[str, tuple[str, np.ndarray]]] = []
    for begin in range(0, len(phi), AT_ONCE):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            natural = to_natural(model, phi[begin : begin + AT_ONCE])
            parts.append(_quantities(model, natural, calendar, constants, lloq, settings))
    return {name: (unit, np.concatenate([part[name][1] for part in parts])) for name, (unit, _) in parts[0].items()}


def _quantities(
    model: KineticModel, natural: np.ndarray, calendar: Calendar, constants: Any, lloq: float, settings: Prediction
) -> dict[str, tuple[str, np.ndarray]]:
    derived = {q.name: q for q in model.derived(natural, calendar, constants, lloq)}
    many = len(calendar.infusion_time) > 1
    found = {}
    names = ["curve_cmax", "curve_tmax"]
    names += [f"curve_cmax_infusion_{k + 1}" for k in range(len(calendar.infusion_time))] if many else []
    for name in names:
        found[name] = (derived[name].unit, derived[name].value)

    def at(time: np.ndarray) -> np.ndarray:
        # Gauss nodes may have an axis of vectors.
        return model.log_level(time, natural, calendar, constants)

    for start, end in settings.windows:
        name = f"curve_auc_D{start:g}-{end:g}"
        if name in derived:
            found[name] = (derived[name].unit, derived[name].value)
            continue
        width = getattr(constants, "width", 0.0)
        pulses = np.concatenate([np.asarray(p, dtype=float) for p in (*calendar.pulses.values(), np.zeros(0))])
        knots = np.concatenate([calendar.infusion_time, pulses, pulses + width])
        area = integral([knots[np.isfinite(knots)]], start, end, LONGEST, at)
        found[name] = ("d*level_unit", np.broadcast_to(area, natural.shape[:-1]))
    for k, tau in enumerate(calendar.infusion_time[1:]):
        before = np.array([np.nextafter(float(tau), -np.inf)])
        found[f"level_before_infusion_{k + 2}"] = ("level_unit", np.exp(at(before))[..., 0])
    if np.isfinite(lloq) and lloq > 0:
        time = derived["t_below_lloq"].value
        # No crossing: never above, gone from the start; or above for ever.
        never = ~np.isfinite(time) & (found["curve_cmax"][1] < lloq)
        found["t_below_lloq"] = ("d", np.where(never, 0.0, np.where(np.isfinite(time), time, np.inf)))
        level = np.exp(at(np.array(list(settings.days.values()), dtype=float)))
        for k, day in enumerate(settings.days):
            found[f"above_lloq_{day}"] = ("", (level[..., k] >= lloq).astype(float))
    return found


def _highest(prepared: Prepared, phi: np.ndarray, settings: Prediction) -> dict[str, float]:
    """Of each limit observed_max: the highest median over the study's patients, of their curves."""
    wanted = [name for name, value in settings.limits.items() if value == "observed_max"]
    if not wanted:
        return {}
    best = dict.fromkeys(wanted, float("nan"))
    for i, profile in enumerate(prepared.profiles):
        own = quantities(prepared.model, phi[:, i], prepared.calendars[i], prepared.constants, profile.lloq, settings)
        for name in wanted:
            if name in own:
                best[name] = float(np.fmax(best[name], _ends(own[name][1], HALF)[1]))
    return best


def _ends(values: np.ndarray, confidence: float) -> np.ndarray:
    """Lower end, median and upper end of draws, each one of them; nan where a draw is beyond numbers."""
    tail = (1.0 - confidence) / 2.0
    ordered = np.where(np.isnan(values), np.inf, values)
    ends: np.ndarray = np.quantile(ordered, [tail, HALF, 1.0 - tail], axis=0, method="closest_observation")
    return np.where(np.isfinite(ends), ends, np.nan)


def levels(
    prepared: Prepared,
    phi: np.ndarray,
    values: Values,
    calendar: Calendar,
    time: np.ndarray,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Ln level of the curves, and of measured levels, at some times: arrays (draws, patients, times).

    Parameters
    ----------
    prepared : Prepared
        Model and constants.
    phi : array (draws, patients, p)
        Scale of estimation; each draw goes with one of the population.
    values : Values
        With a leading axis of draws: the residual SD of the first assay.
    calendar : Calendar
        Of all these patients.
    time : array (times,)
        [d].
    random : Generator
        Of the measurement errors; the counting noise of few molecules is not in them.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mu = prepared.model.log_level(time, to_natural(prepared.model, phi), calendar, prepared.constants)
    mu = np.where(np.isnan(mu), -np.inf, mu)
    return mu, mu + values.sigma[:, None, :1] * random.standard_normal(mu.shape)


def _grid(first: float, last: float, infusions: np.ndarray, points: int = CURVE_POINTS) -> np.ndarray:
    """Times of a course, with both sides of each infusion."""
    starts = infusions[(infusions > first) & (infusions < last)]
    time = np.unique(np.concatenate([np.linspace(first, last, points), starts, starts - 1e-6]).round(9))
    return time[(time >= infusions[0]) & (time >= first)]


# -------------------------------------------------------------------------------------------------------------- rows


def _ended(patients: pd.DataFrame | None) -> dict[str, str]:
    """Patients of whom nothing is to be expected, with the reason."""
    if patients is None or "status_end" not in patients:
        return {}
    dead = patients[patients["status_end"] == "death"]
    times = dead["time_end"] if "time_end" in dead else pd.Series(np.nan, index=dead.index)
    return {
        str(p): "died" + (f" on day {t:.4g}" if np.isfinite(t) else "")
        for p, t in zip(dead["patient_id"], times.astype(float), strict=True)
    }


class _Rows:
    """Rows of the four tables."""

    def __init__(self, header: Mapping[str, str], settings: Prediction) -> None:
        self.header, self.settings = dict(header), settings
        self.rows: dict[str, list[dict[str, Any]]] = {
            s.name: []
            for s in (
                POPULATION_FORECAST,
                POPULATION_FORECAST_CURVES,
                INDIVIDUAL_FORECAST,
                INDIVIDUAL_FORECAST_CURVES,
            )
        }

    def frames(self) -> Forecast:
        """The canonical tables."""
        return Forecast(
            *(
                complete(pd.DataFrame(self.rows[s.name], columns=list(s.names)), s)
                for s in (
                    POPULATION_FORECAST,
                    POPULATION_FORECAST_CURVES,
                    INDIVIDUAL_FORECAST,
                    INDIVIDUAL_FORECAST_CURVES,
                )
            )
        )

    def _main(self) -> list[str]:
        return ["curve_cmax", *(f"curve_auc_D{a:g}-{b:g}" for a, b in self.settings.windows), "t_below_lloq"]

    def no_scenario(self, scenario: Scenario, schedule: str, why: str) -> None:
        """A scenario without a number."""
        self.rows["population_forecast"] += [
            self.header
            | {"scenario": scenario.name, "quantity": name, "schedule": schedule, "reason": why}
            | {"dose": float(np.mean(scenario.amounts)), "infusions": len(scenario.infusions)}
            for name in self._main()
        ]

    def no_patient(self, profile: Profile, why: str) -> None:
        """A patient without a number."""
        own = {"patient_id": profile.patient_id, "dose_level": profile.dose_level, "samples": profile.points.n}
        self.rows["individual_forecast"] += [
            self.header | own | {"quantity": name, "reason": why} for name in self._main()
        ]

    def scenario(
        self,
        prepared: Prepared,
        values: Values,
        dosing: Dosing,
        lloq: float,
        unit: str,
        highest: Mapping[str, float],
        notes: Sequence[str],
    ) -> None:
        """All rows of one scenario."""
        settings, scenario = self.settings, dosing.scenario
        cohort = scenario.patients or settings.patients
        n = max(NEW, cohort)
        # Seeded without the scenario: the same new patients, whatever they are given.
        random = generator(*self.header.values(), *prepared.patients, "new patients", n)
        phi, typical = new_patients(prepared, values, dosing.ratio, n, random)
        flat = phi.reshape(-1, phi.shape[-1])
        args = (dosing.calendar, prepared.constants, lloq, settings)
        found = quantities(prepared.model, flat, *args)
        middle = quantities(prepared.model, typical, *args)
        told = [f"extrapolated: {'; '.join(dosing.beyond)}"] if dosing.beyond else []
        common = self.header | {
            "scenario": scenario.name,
            "dose": float(np.mean(scenario.amounts)),
            "infusions": len(scenario.infusions),
            "schedule": dosing.schedule,
            "cohort": cohort,
            "extrapolation": bool(dosing.beyond),
        }
        for name, (kind, each) in found.items():
            groups = each.reshape(phi.shape[:2])[:, : n // cohort * cohort].reshape(len(phi), -1, cohort)
            share = name.startswith("above_lloq")
            with np.errstate(invalid="ignore"):
                of_cohort = (groups.mean(axis=-1) if share else np.median(groups, axis=-1)).ravel()
            ends = _ends(of_cohort, settings.confidence)
            row = {"quantity": name, "unit": kind.replace("level_unit", unit), "cohort_lower": ends[0]}
            row |= {"cohort_median": float(of_cohort.mean()) if share else ends[1], "cohort_upper": ends[2]}
            mine = [*told, *dosing.notes, *notes]
            if share:
                row |= {"probability": float(each.mean()), "limit": lloq}
            else:
                low, centre, high = _ends(each, settings.confidence)
                least, normal, most = _ends(middle[name][1], settings.confidence)
                row |= {"median": centre, "lower": low, "upper": high}
                row |= {"typical": normal, "typical_lower": least, "typical_upper": most}
                limit = settings.limits.get(name)
                bound = highest.get(name, float("nan")) if limit == "observed_max" else limit
                if bound is not None and np.isfinite(float(bound)):
                    row |= {"limit": float(bound), "probability": float((each > float(bound)).mean())}
                mine += _open(each, name)
            self.rows["population_forecast"].append(common | row | {"reason": "; ".join(mine)})
        if "t_below_lloq" not in found:
            self.rows["population_forecast"].append(
                common | {"quantity": "t_below_lloq", "unit": "d", "reason": "no LLOQ known"}
            )
        time = _grid(0.0, dosing.calendar.end, dosing.calendar.infusion_time)
        noise = generator(*self.header.values(), *prepared.patients, "measured", n)
        curve, measured = levels(prepared, phi, values, dosing.calendar, time, noise)
        bands = self._bands(time, curve.reshape(len(flat), -1), measured.reshape(len(flat), -1))
        more = self.header | {"scenario": scenario.name, "extrapolation": bool(dosing.beyond)}
        self.rows["population_forecast_curves"] += [more | band for band in bands]

    def patient(
        self,
        prepared: Prepared,
        i: int,
        phi: np.ndarray,
        values: Values,
        scenario: Scenario | None,
        reference: float,
        unit: str,
        dose_unit: str,
    ) -> None:
        """All rows of one patient."""
        settings, profile = self.settings, prepared.profiles[i]
        given = profile.calendar
        assert given is not None
        last = float(profile.points.time.max())
        calendar, told = with_remaining(given, scenario, reference, last)
        # The level parameter belongs to the mean of what he had; what is still to come is in proportion to it.
        own = mean_amount(given)
        end = max(settings.follow_up, last)
        scaled = Calendar(calendar.infusion_time, calendar.infusion_amount / own, calendar.pulses, end)
        agent = next(iter(sorted(calendar.pulses)), "")
        words = spelled(
            (calendar.infusion_amount * reference).tolist(),
            calendar.infusion_time.tolist(),
            agent,
            calendar.pulses.get(agent, np.zeros(0)).tolist(),
            dose_unit,
        )
        found = quantities(prepared.model, phi, scaled, prepared.constants, profile.lloq, settings)
        common = self.header | {
            "patient_id": profile.patient_id,
            "dose_level": profile.dose_level,
            "last_sample": last,
            "samples": profile.points.n,
            "schedule": words,
        }
        notes = [told] if told else []
        if profile.points.n_quantified == 0:
            notes.append(f"none of {profile.points.n} samples is quantified: mostly the population speaks")
        wanted = [*self._main(), *(f"above_lloq_{day}" for day, t in settings.days.items() if t > last)]
        for name in [n for n in wanted if n in found]:
            kind, each = found[name]
            row: dict[str, Any] = {"quantity": name, "unit": kind.replace("level_unit", unit)}
            if name.startswith("above_lloq"):
                row |= {"probability": float(each.mean()), "limit": profile.lloq, "reason": "; ".join(notes)}
            else:
                low, centre, high = _ends(each, settings.confidence)
                row |= {"median": centre, "lower": low, "upper": high}
                row["reason"] = "; ".join([*notes, *_open(each, name)])
            self.rows["individual_forecast"].append(common | row)
        if "t_below_lloq" not in found:
            self.rows["individual_forecast"].append(
                common | {"quantity": "t_below_lloq", "unit": "d", "reason": "no LLOQ known"}
            )
        if end <= last:
            return
        time = _grid(last, end, scaled.infusion_time, int(np.clip(60_000 // prepared.study.n, 15, PATIENT_POINTS)))
        noise = generator(*self.header.values(), profile.patient_id, "measured")
        curve, measured = levels(prepared, phi[:, None], values, scaled, time, noise)
        more = self.header | {"patient_id": profile.patient_id}
        bands = self._bands(time, curve[:, 0], measured[:, 0])
        self.rows["individual_forecast_curves"] += [more | band for band in bands]

    def _bands(self, time: np.ndarray, curve: np.ndarray, measured: np.ndarray) -> list[dict[str, float]]:
        """Rows of a predicted course from ln levels (vectors, times)."""
        with np.errstate(over="ignore"):
            whole = np.exp(_log_ends(curve, self.settings.confidence))
            half = np.exp(_log_ends(curve, HALF))
            seen = np.exp(_log_ends(measured, self.settings.confidence))
        names = ("time", "median", "lower_50", "upper_50", "lower", "upper", "measured_lower", "measured_upper")
        columns = (time, whole[1], half[0], half[2], whole[0], whole[2], seen[0], seen[2])
        finite = [np.where(np.isfinite(c), c, np.nan).tolist() for c in columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*finite, strict=True)]


def _log_ends(values: np.ndarray, confidence: float) -> np.ndarray:
    tail = (1.0 - confidence) / 2.0
    found: np.ndarray = np.quantile(values, [tail, HALF, 1.0 - tail], axis=0, method="closest_observation")
    return found


def _open(each: np.ndarray, name: str) -> list[str]:
    """What to say where some draws have no number."""
    share = float((~np.isfinite(each)).mean())
    if not share:
        return []
    what = "stay above the LLOQ for ever" if name == "t_below_lloq" else "are beyond numbers"
    return [f"{100 * share:.3g} % of the draws {what}"]


def with_remaining(given: Calendar, scenario: Scenario | None, reference: float, last: float) -> tuple[Calendar, str]:
    """A patient's calendar with the infusions and cytokine doses of his dose level that are still to come.

    Parameters
    ----------
    given : Calendar
        So far; amounts in reference doses.
    scenario : Scenario, optional
        The schedule of his dose level; without it nothing is still to come.
    reference : float
        Reference dose.
    last : float
        His last sample [d]: what was planned before it and not given will not be given.

    Examples
    --------
    >>> plan = Scenario(name="DL1", dose=2e9, infusions=(0, 3, 6))
    >>> once = Calendar(np.array([0.0]), np.array([1.0]))
    >>> with_remaining(once, plan, 2e9, 2.0)[0].infusion_time.tolist()
    [0.0, 3.0, 6.0]
    """
    if scenario is None:
        return given, ""
    after = max(last, float(given.infusion_time[-1]))
    days, amounts = np.array(scenario.infusions), np.array(scenario.amounts) / reference
    number = np.arange(len(days))
    coming = (number >= len(given.infusion_time)) & (days > after)
    pulses = {agent: np.asarray(times, dtype=float) for agent, times in given.pulses.items()}
    had = pulses.get(scenario.agent, np.zeros(0))
    doses = np.array(scenario.cytokines)
    later = doses[(np.arange(len(doses)) >= len(had)) & (doses > after)]
    if not coming.any() and not len(later):
        return given, ""
    if len(later):
        pulses[scenario.agent] = np.concatenate([had, later])
    told = f"counts on {int(coming.sum())} more infusion{'s' * (int(coming.sum()) != 1)}"
    told += f" and {len(later)} more dose{'s' * (len(later) != 1)} of {scenario.agent}" if len(later) else ""
    return (
        Calendar(
            np.concatenate([given.infusion_time, days[coming]]),
            np.concatenate([given.infusion_amount, amounts[coming]]),
            pulses,
            given.end,
        ),
        f"{told}, as planned",
    )


def asked(texts: Mapping[str, str | None]) -> Scenario:
    """A scenario from option texts.

    Parameters
    ----------
    texts : mapping of str to str
        dose, infusions, cytokines, agent, patients, name; dose and days as numbers between commas.

    Raises
    ------
    InputError
        With every text that cannot be read.

    Examples
    --------
    >>> asked({"dose": "6e9", "infusions": "0,3,6", "cytokines": "0,3"}).amounts
    (6000000000.0, 6000000000.0, 6000000000.0)
    """
    problems: list[Problem] = []

    def numbers(option: str, expected: str, default: str = "", *, positive: bool = False) -> tuple[float, ...]:
        found = []
        for word in (texts.get(option) or default).split(",") if (texts.get(option) or default) else []:
            try:
                value = float(word)
                if not np.isfinite(value) or (positive and value <= 0):
                    raise ValueError
                found.append(value)
            except ValueError:
                problems.append(Problem(f"--{option}", found=repr(word), expected=expected, mend="correct it"))
        return tuple(found)

    doses = numbers("dose", "an amount above 0, as 6e9, or one for each infusion, as 6e9,6e9,3e9", positive=True)
    days = numbers("infusions", "days that begin with 0, as 0,3,6", "0")
    pulses = numbers("cytokines", "days as 0,3,6,9")
    many = numbers("patients", "a whole number from 1 to 200", positive=True)
    if not doses and not texts.get("dose"):
        problems.append(Problem("--dose", found="nothing", expected="an amount, as 6e9", mend="give one"))
    if many and (len(many) > 1 or many[0] != int(many[0]) or many[0] > 200):
        problems.append(
            Problem(
                "--patients", found=repr(texts["patients"]), expected="a whole number from 1 to 200", mend="correct it"
            )
        )
    if not problems:
        from pydantic import ValidationError

        try:
            return Scenario(
                name=texts.get("name") or "asked",
                dose=doses[0] if len(doses) == 1 else doses,
                infusions=days,
                cytokines=pulses,
                agent=texts.get("agent") or "IL-2",
                patients=int(many[0]) if many else None,
            )
        except ValidationError as error:
            problems += [
                Problem(
                    f"--{case['loc'][0]}" if case["loc"] else "the scenario",
                    found=str(case["msg"]).removeprefix("Value error, "),
                    expected="a scenario as --dose 6e9 --infusions 0,3,6 --cytokines 0,3,6,9",
                    mend="correct it",
                )
                for case in error.errors()
            ]
    raise InputError(problems)
