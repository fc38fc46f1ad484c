"""Every assay profile of every patient under every candidate model: fits, estimates and predicted curves as rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.akaike import aicc, weights
from nkinetics.blq import DENSITY, INTERVAL, likelihood_rows
from nkinetics.columns import (
    CYTOKINES,
    ESTIMATES,
    FITS,
    INFUSIONS,
    LIKELIHOOD_PROFILES,
    OBSERVATIONS,
    PREDICTIONS,
    Schema,
)
from nkinetics.fitting.choice import averages
from nkinetics.fitting.identifiability import reasons, standard_errors
from nkinetics.fitting.intervals import Ends, counted, cutoffs, profile_ends, wald_quantile
from nkinetics.fitting.likelihood import Points
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import Optimum, fitted, improved, residual_on_floor
from nkinetics.fitting.profile_curve import profile_curve
from nkinetics.fitting.resampling import (
    Design,
    Resampled,
    band,
    bootstrap_ends,
    derived_values,
    limits,
    resampled,
    seed_of,
)
from nkinetics.fitting.together import Steps, together
from nkinetics.models._algebra import to_natural
from nkinetics.plugins import Calendar, KineticModel, Parameter, Quantity, discover
from nkinetics.settings import Blq, Models
from nkinetics.store import complete

MINIMUM_QUANTIFIED = 2
"""Quantified rows without which there is neither a level nor a residual."""
BLOCK = 256
"""Profiles under way at once: enough that NumPy's cost per call no longer shows, few enough for the memory."""
MENDED = 6
"""How often a profile likelihood may send the fit back to a better point."""


@dataclass(frozen=True)
class Fitted:
    """What the models say about each assay profile; frames by the canonical tables of the same names."""

    fits: pd.DataFrame
    estimates: pd.DataFrame
    predictions: pd.DataFrame
    averages: pd.DataFrame
    likelihood_profiles: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Profile:
    """One patient, assay and specimen: the rows of the likelihood and what goes with them.

    `note` is said with every fit; `empty` is why there is nothing to fit; `design` is what a bootstrap measures anew;
    `observation_ids` name the rows of `points`.
    """

    patient_id: str
    dose_level: str
    assay: str
    specimen: str
    level_unit: str
    points: Points
    lloq: float
    calendar: Calendar | None
    note: str
    empty: str
    design: Design
    observation_ids: tuple[str, ...] = ()

    @property
    def key(self) -> dict[str, str]:
        """Key columns of a row."""
        return {"patient_id": self.patient_id, "assay": self.assay, "specimen": self.specimen}


def reference_dose_of(infusions: pd.DataFrame | None) -> float:
    """One reference infusion: the column reference_dose, else the lowest planned amount; 1 when none is known.

    A batch of patients does not see the whole study; `ingest` therefore writes the study's reference dose beside each
    infusion.
    """
    if infusions is None or infusions.empty:
        return 1.0
    if "reference_dose" in infusions and infusions["reference_dose"].notna().any():
        return float(infusions["reference_dose"].dropna().iloc[0])
    amounts = infusions["planned"].to_numpy(dtype=float)
    amounts = amounts[np.isfinite(amounts) & (amounts > 0)]
    return float(amounts.min()) if len(amounts) else 1.0


def analyse(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    settings: Models | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
    reference_dose: float | None = None,
    models: tuple[str, ...] | None = None,
) -> Fitted:
    """Kinetic models of every patient, assay and specimen.

    Parameters
    ----------
    observations : DataFrame
        Canonical observations; of a user's own only patient_id, time_actual [d], level, status and lloq are needed.
        Only rows with `reportable` true count; samples before the first infusion and pre-dose samples of it do not.
    infusions : DataFrame, optional
        `time` [d] and `planned`, `given`; the amount actually given acts. Without any: one infusion of the reference
        dose at time 0, and the fit says so.
    cytokines : DataFrame, optional
        `agent` and `time` [d].
    settings : Models, optional
        Candidates, their constants, interval and confidence, points of the profile likelihoods.
    blq : Blq, optional
        How rows below the LLOQ enter the likelihood.
    patients : DataFrame, optional
        Every patient of the study, so that one without any sample has his row.
    reference_dose : float, optional
        Amount of one reference infusion; by default the lowest planned amount in `infusions`.
    models : tuple of str, optional
        In place of the candidates of the settings.

    Returns
    -------
    Fitted
        A model that cannot be fitted to a profile has its row in `fits`, with the reason, and none in `estimates` and
        `predictions`. A parameter that the data do not determine keeps its estimate, with `identifiable` false.

    Raises
    ------
    InputError
        When a row lacks the limit of quantification that its status needs.

    Examples
    --------
    >>> rows = pd.DataFrame(
    ...     {"patient_id": "01", "time_actual": [1.0, 2, 3, 5, 8], "level": [810.0, 640, 540, 350, 190],
    ...      "status": "quantified", "lloq": 50.0}
    ... )
    >>> estimates = analyse(rows, models=("decay",)).estimates.set_index("parameter")["estimate"]
    >>> estimates[["delta", "half_life_delta"]].round(3).tolist()
    [0.206, 3.363]
    """
    settings, blq = settings or Models(), blq or Blq()
    names = models or settings.candidates
    fits: list[dict[str, Any]] = []
    estimates: list[dict[str, Any]] = []
    predictions: list[pd.DataFrame] = []
    likelihoods: list[pd.DataFrame] = []
    known = [(discover("models")[name], settings.constants(name)) for name in names]
    whole = assay_profiles(observations, infusions, cytokines, blq, patients, reference_dose)
    for begin in _progress(len(whole), BLOCK):
        block = whole[begin : begin + BLOCK]
        one_by_one = [_one_model(p, model, constants, settings) for p in block for model, constants in known]
        done = together(one_by_one)
        for i in range(len(block)):
            own = done[i * len(known) : (i + 1) * len(known)]
            _choose([fit for fit, _, _, _ in own])
            for fit, found, curve, likelihood in own:
                fits.append(fit)
                estimates += found
                if curve is not None:
                    predictions.append(curve)
                if likelihood is not None:
                    likelihoods.append(likelihood)
    all_fits = complete(pd.DataFrame(fits, columns=[c for c in FITS.names]), FITS)
    all_estimates = complete(pd.DataFrame(estimates, columns=[c for c in ESTIMATES.names]), ESTIMATES)
    return Fitted(
        all_fits,
        all_estimates,
        _joined(predictions, PREDICTIONS),
        averages(all_fits, all_estimates, settings),
        _joined(likelihoods, LIKELIHOOD_PROFILES),
    )


def under(
    whole: Sequence[Profile], asked: Sequence[tuple[KineticModel, Any, Models]]
) -> list[list[tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Every profile under some models with their constants and settings, side by side.

    Parameters
    ----------
    whole : sequence of Profile
        As `assay_profiles` gives them.
    asked : sequence of tuple
        Model, its constants, settings.

    Returns
    -------
    list of list of tuple
        For each of `asked` a row of `fits` and rows of `estimates` of every profile; no model is chosen among them.
    """
    found: list[list[tuple[dict[str, Any], list[dict[str, Any]]]]] = [[] for _ in asked]
    size = max(1, BLOCK // max(1, len(asked)))
    for begin in _progress(len(whole), size):
        block = whole[begin : begin + size]
        done = together([_one_model(p, *each) for each in asked for p in block])
        for i, own in enumerate(found):
            own += [(fit, estimates) for fit, estimates, _, _ in done[i * len(block) : (i + 1) * len(block)]]
    return found


def _joined(frames: list[pd.DataFrame], schema: Schema) -> pd.DataFrame:
    return complete(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=schema.names), schema)


# -------------------------------------------------------------------------------------------------------- profiles


def _with_defaults(observations: pd.DataFrame) -> pd.DataFrame:
    """Documented defaults of columns that a user's own table lacks."""
    defaults: dict[str, Any] = {
        "assay": "qpcr",
        "specimen": "blood",
        "level_unit": "copies/ug",
        "reportable": True,
    }
    lacking = {k: v for k, v in defaults.items() if k not in observations.columns}
    frame = observations.assign(**lacking)
    if "predose" not in frame.columns:
        frame = frame.assign(predose=frame["time_actual"].astype(float) <= 0)
    return frame


def assay_profiles(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
    reference_dose: float | None = None,
) -> list[Profile]:
    """Every patient, assay and specimen as the models see them, sorted; the arguments are those of `analyse`."""
    dose = reference_dose_of(infusions) if reference_dose is None else reference_dose
    rows = complete(_with_defaults(observations), OBSERVATIONS)
    return _profiles(rows, infusions, cytokines, blq or Blq(), patients, dose)


def _profiles(
    rows: pd.DataFrame,
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    blq: Blq,
    patients: pd.DataFrame | None,
    reference_dose: float,
) -> list[Profile]:
    dose_levels = {} if patients is None else dict(zip(patients["patient_id"], patients["dose_level"], strict=True))
    kinds = list(dict.fromkeys(zip(rows["assay"], rows["specimen"], strict=True))) or [("qpcr", "blood")]
    known = sorted({*rows["patient_id"], *dose_levels})
    rows = marked(rows, blq)
    # Infusions without a time or an amount cannot be placed on a calendar.
    given = None if infusions is None or infusions.empty else complete(infusions, INFUSIONS)
    pulses = None if cytokines is None else complete(cytokines, CYTOKINES)
    # Looked for patient by patient, the rows would cost the square of their number.
    of_rows, of_given, of_pulses = (_places(frame) for frame in (rows, given, pulses))
    found = []
    for patient in known:
        own = rows.iloc[of_rows.get(patient, [])]
        mine_given = None if given is None else given.iloc[of_given.get(patient, [])]
        mine_pulses = None if pulses is None else pulses.iloc[of_pulses.get(patient, [])]
        level = next((d for d in own["dose_level"] if d), str(dose_levels.get(patient, "") or ""))
        present = sorted(set(zip(own["assay"], own["specimen"], strict=True))) or sorted(kinds)
        for assay, specimen in present:
            mine = own[(own["assay"] == assay) & (own["specimen"] == specimen)]
            found.append(
                _profile(patient, level, assay, specimen, mine, mine_given, mine_pulses, reference_dose, blq.models)
            )
    return found


def marked(rows: pd.DataFrame, blq: Blq) -> pd.DataFrame:
    """Observations with what each is to the likelihood: its term, the ends of its interval, why a row is set aside."""
    entering, aside = _entering(rows)
    terms = likelihood_rows(
        np.where(entering, rows["status"].to_numpy(dtype=object), "not_done"),
        rows["level"].to_numpy(dtype=float),
        rows["lod"].to_numpy(dtype=float),
        rows["lloq"].to_numpy(dtype=float),
        rows["uloq"].to_numpy(dtype=float),
        blq.models,
        (rows["patient_id"] + "|" + rows["assay"] + "|" + rows["specimen"]).to_numpy(dtype=object),
    )
    return rows.assign(_kind=terms.kind, _lower=terms.lower, _upper=terms.upper, _entering=entering, _aside=aside)


def _places(frame: pd.DataFrame | None) -> dict[Any, Any]:
    """Where each patient's rows stand."""
    return {} if frame is None else frame.groupby("patient_id", sort=False).indices


def _entering(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows that may enter a likelihood, and why a measured reportable row does not."""
    time = rows["time_actual"].to_numpy(dtype=float)
    reportable = rows["reportable"].fillna(False).to_numpy(dtype=bool)
    measured = ~rows["status"].isin(["not_done", "failed", ""]).to_numpy()
    # A pre-dose sample of the first infusion, and whatever was taken before it, holds no cells.
    first = (rows["infusion"] == 0).fillna(False).to_numpy(dtype=bool)
    early = ~(time > 0) | (first & rows["predose"].fillna(False).to_numpy(dtype=bool))
    endless = (rows["status"] == "above_uloq").to_numpy() & rows["uloq"].isna().to_numpy()
    aside = np.where(reportable & measured & endless, "above the ULOQ, which is not known", "")
    return reportable & measured & ~early & ~endless, aside


def _profile(
    patient: str,
    dose_level: str,
    assay: str,
    specimen: str,
    rows: pd.DataFrame,
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    reference_dose: float,
    method: str,
) -> Profile:
    entering = rows[rows["_entering"]]
    calendar, notes, empty = _calendar(entering, infusions, cytokines, reference_dose)
    lost = int((rows["_aside"] != "").sum())
    if lost:
        notes.append(f"{lost} row{'s' if lost > 1 else ''} above an unknown ULOQ left out")
    units = sorted({u for u in entering["level_unit"] if u}) or sorted({u for u in rows["level_unit"] if u})
    if len(units) > 1:
        empty = empty or "levels in more than one unit: " + ", ".join(units)
    points, design, lloq, ids = _points(entering, calendar, method)
    if not empty and points.n == 0:
        told = sorted({r for r in rows["exclusion_reason"] if r})
        empty = "no sample after the first infusion enters" + (f" ({'; '.join(told)})" if told else "")
    elif not empty and points.n_quantified == 0:
        empty = f"none of {points.n} samples is quantified"
    unit, note = units[0] if units else "", "; ".join(notes)
    return Profile(patient, dose_level, assay, specimen, unit, points, lloq, calendar, note, empty, design, ids)


def _calendar(
    entering: pd.DataFrame,
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    reference_dose: float,
) -> tuple[Calendar | None, list[str], str]:
    """Calendar of a patient from his own rows, what to say about it, and why there is none."""
    end = float(entering["time_actual"].max()) if len(entering) else 0.0
    pulses: dict[str, np.ndarray] = {}
    if cytokines is not None:
        timed = cytokines[cytokines["time"].notna()]
        pulses = {str(a): np.sort(g["time"].to_numpy(dtype=float)) for a, g in timed.groupby("agent", sort=True)}
    if infusions is None:
        once = Calendar(np.array([0.0]), np.array([1.0]), pulses, end)
        return once, ["infusions not given: one infusion of the reference dose at day 0 assumed"], ""
    amount = infusions["given"].fillna(infusions["planned"]).to_numpy(dtype=float)
    time = infusions["time"].to_numpy(dtype=float)
    usable = np.isfinite(time) & np.isfinite(amount) & (amount > 0)
    if not usable.any():
        return None, [], "no infusion of this patient with a time and an amount"
    notes = []
    if (~usable).any():
        notes.append(f"{int((~usable).sum())} infusion without a time or a positive amount left out")
    order = np.argsort(time[usable], kind="stable")
    return Calendar(time[usable][order], amount[usable][order] / reference_dose, pulses, end), notes, ""


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the likelihood of a profile in the order of `Points`: quantified ones first, each kind by time."""
    used = rows[rows["_kind"].isin([DENSITY, INTERVAL])]
    # DENSITY is the smaller number.
    return used.sort_values(["_kind", "time_actual", "sample_id", "observation_id"], kind="stable")


def _points(
    rows: pd.DataFrame, calendar: Calendar | None, method: str
) -> tuple[Points, Design, float, tuple[str, ...]]:
    """Rows of the likelihood, what was measured, median LLOQ [level unit] (nan when unknown), ids of the rows."""
    rows = rows.sort_values(["time_actual", "sample_id", "observation_id"], kind="stable")
    time = rows["time_actual"].to_numpy(dtype=float).copy()
    if calendar is not None:
        # A pre-dose sample recorded at the very start of an infusion belongs before it.
        predose = rows["predose"].fillna(False).to_numpy(dtype=bool)
        same = predose & np.isin(time, calendar.infusion_time)
        time[same] = np.nextafter(time[same], -np.inf)
    density, interval = (rows["_kind"].to_numpy() == kind for kind in (DENSITY, INTERVAL))
    count = rows["n_molecules"].to_numpy(dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(density & (count > 0), 1.0 / count, 0.0)
        lower = np.log(rows["_lower"].to_numpy(dtype=float))
        upper = np.log(rows["_upper"].to_numpy(dtype=float))
    order = np.concatenate([np.flatnonzero(density), np.flatnonzero(interval)])
    points = Points(time[order], lower[density], lower[interval], upper[interval], variance[order])
    lod, lloq, uloq = (rows[name].to_numpy(dtype=float) for name in ("lod", "lloq", "uloq"))
    known = lloq[np.isfinite(lloq) & (lloq > 0)]
    median = float(np.median(known)) if len(known) else float("nan")
    ids = tuple(rows["observation_id"].fillna("").astype(str).to_numpy()[order].tolist())
    return points, Design(time, lod, lloq, uloq, variance, method), median, ids


# ------------------------------------------------------------------------------------------------------- one model


def unfittable(profile: Profile, model: KineticModel, constants: Any) -> str:
    """Why a model cannot be fitted to a profile; empty when it can."""
    if profile.empty or profile.calendar is None:
        return profile.empty
    missing = model.missing(profile.calendar, constants)
    if missing:
        return missing
    points, p = profile.points, len(model.parameters)
    if points.n_quantified < MINIMUM_QUANTIFIED:
        return f"only {points.n_quantified} quantified sample"
    if len(np.unique(points.time)) < 2:
        return "all samples at one time"
    if points.n <= p:
        return f"{points.n} samples are too few for {p} parameters and a residual"
    return ""


def _one_model(
    profile: Profile, model: KineticModel, constants: Any, settings: Models
) -> Steps[tuple[dict[str, Any], list[dict[str, Any]], pd.DataFrame | None, pd.DataFrame | None]]:
    """Row of fits, rows of estimates, curve, and profile likelihood of the default, of one profile under one model."""
    points = profile.points
    n_blq = points.n - points.n_quantified
    fit: dict[str, Any] = {
        **profile.key,
        "dose_level": profile.dose_level,
        "model": model.name,
        "converged": False,
        "n_obs": points.n,
        "n_blq": n_blq,
        "at_bound": "",
        "identifiable": False,
        "selected": False,
        "default": model.name == settings.default,
        "level_unit": profile.level_unit,
        "aicc_weight": np.nan,
        "log_likelihood": np.nan,
        "aicc": np.nan,
    }
    why_not = unfittable(profile, model, constants)
    if why_not or profile.calendar is None:
        fit["reason"] = "; ".join(filter(None, ["not fitted: " + why_not, profile.note]))
        return fit, [], None, None
    case = Case(model, constants, profile.calendar, points)
    optimum, ends, again = yield from _fitted(case, settings, profile)
    errors = standard_errors(case, optimum)
    why = reasons(case, optimum, ends, errors, settings.rse_limit_pct)
    p = len(model.parameters)
    criterion = aicc(optimum.log_likelihood, points.n, p + 1)
    words = [optimum.reason and "not converged: " + optimum.reason]
    if np.isnan(criterion):
        words.append(f"AICc not defined: {points.n} samples for {p + 1} parameters")
    if model.growth and ends.open_lower[case.names.index(model.growth)]:
        words.append("no expansion phase identifiable")
    if residual_on_floor(optimum):
        words.append("the curve passes through the points: the residual SD means nothing, the intervals are too short")
    if again and again.failed:
        words.append(f"{again.failed} of {again.n} bootstrap samples could not be fitted")
    fit |= {
        "converged": optimum.converged,
        "log_likelihood": optimum.log_likelihood,
        "aicc": criterion,
        "at_bound": " ".join(optimum.at_bound),
        "identifiable": not any(why),
        "n_restarts_agree": optimum.n_agree,
        "n_starts": optimum.n_starts,
        "reason": "; ".join(filter(None, [*words, profile.note])),
    }
    quantile = wald_quantile(counted(points.n_quantified, p), p, settings.confidence, settings.interval_cutoff)
    found = _parameter_rows(profile, case, optimum, ends, errors, why, settings)
    found += _derived_rows(profile, case, optimum, found, quantile, settings, again)
    likelihood = None
    if model.name == settings.default and settings.profile_points:
        n = counted(points.n_quantified, p)
        cut = cutoffs(n, p, settings.confidence, settings.interval_cutoff)
        held = yield from profile_curve(case, optimum, ends, cut, settings.profile_points)
        likelihood = held.assign(**profile.key, model=model.name)
    return fit, found, _prediction(profile, case, optimum, quantile, settings, again), likelihood


def _fitted(case: Case, settings: Models, profile: Profile) -> Steps[tuple[Optimum, Ends, Resampled | None]]:
    """The optimum, its intervals, and the bootstrap where they come from one.

    A profile that passes a better point sends the fit back there.
    """
    p = len(case.model.parameters)
    n = counted(case.points.n_quantified, p)
    optimum = yield from fitted(case)
    if settings.interval == "delta":
        quantile = wald_quantile(n, p, settings.confidence, settings.interval_cutoff)
        return optimum, _delta_ends(case, optimum, quantile), None
    if settings.interval == "bootstrap":
        random = seed_of(*profile.key.values(), case.model.name)
        samples, searches = settings.bootstrap_samples, settings.bootstrap_starts
        again = resampled(case, optimum, profile.design, samples, searches, random)
        return optimum, bootstrap_ends(case, optimum, again, settings.confidence), again
    cut = cutoffs(n, p, settings.confidence, settings.interval_cutoff)
    ends = yield from profile_ends(case, optimum, cut)
    for _ in range(MENDED):
        if ends.better is None:
            break
        optimum = yield from improved(case, optimum, ends.better)
        ends = yield from profile_ends(case, optimum, cut)
    return optimum, ends, None


def _delta_ends(case: Case, optimum: Optimum, quantile: float) -> Ends:
    low, high = case.bounds
    error = np.sqrt(np.diag(optimum.covariance))
    known = np.isfinite(error)
    lower = np.where(known, optimum.vector - quantile * error, low)
    upper = np.where(known, optimum.vector + quantile * error, high)
    return Ends(np.maximum(lower, low), np.minimum(upper, high), lower <= low, upper >= high, None)


def _open(lower: bool, upper: bool) -> str:
    return {(False, False): "none", (True, False): "lower", (False, True): "upper", (True, True): "both"}[lower, upper]


SIGMA = Parameter("sigma", "", "log", 0.01, 10.0, 0.5, {"en": "residual SD of ln level", "zh": "对数水平的残差标准差"})


def _unit(pattern: str, level_unit: str) -> str:
    return pattern.replace("level_unit", level_unit)


def _parameter_rows(
    profile: Profile,
    case: Case,
    optimum: Optimum,
    ends: Ends,
    errors: np.ndarray,
    why: list[str],
    settings: Models,
) -> list[dict[str, Any]]:
    value, lower, upper, start, least, largest = (
        case.natural(v) for v in (optimum.vector, ends.lower, ends.upper, optimum.regimes[0].start, *case.bounds)
    )
    found = []
    for i, parameter in enumerate((*case.model.parameters, SIGMA)):
        low, high = lower[i], upper[i]
        if ends.open_lower[i]:
            low = np.nan if parameter.natural_lower is None else parameter.natural_lower
        if ends.open_upper[i]:
            high = np.nan if parameter.natural_upper is None else parameter.natural_upper
        reason = why[i]
        if np.isnan(errors[i]):
            told = (
                "at a kink of the likelihood"
                if optimum.kink and parameter.name == case.model.breakpoint
                else "at a search limit"
                if parameter.name in optimum.at_bound
                else "the data do not determine it"
                if why[i]
                else "the data do not determine another parameter of the model"
            )
            reason = "; ".join(filter(None, [reason, f"no standard error: {told}"]))
        found.append(
            {
                **profile.key,
                "model": case.model.name,
                "parameter": parameter.name,
                "kind": "fitted",
                "estimate": value[i],
                "std_error": errors[i],
                "ci_lower": low,
                "ci_upper": high,
                "ci_method": settings.interval,
                "ci_open": _open(bool(ends.open_lower[i]), bool(ends.open_upper[i])),
                "unit": _unit(parameter.unit, profile.level_unit),
                "identifiable": not why[i],
                "reason": reason,
                "start": start[i],
                "lower_limit": least[i],
                "upper_limit": largest[i],
            }
        )
    for name, (number, unit) in case.model.fixed(case.constants).items():
        found.append(
            {
                **profile.key,
                "model": case.model.name,
                "parameter": name,
                "kind": "fixed",
                "estimate": number,
                "ci_method": "none",
                "ci_open": "none",
                "unit": unit,
                "identifiable": True,
                "reason": "fixed by the configuration",
            }
        )
    return found


def _around(case: Case, optimum: Optimum) -> tuple[np.ndarray, float]:
    """The estimate and small steps to both sides of each parameter (1 + 2 parameters, parameters): natural scale."""
    step = 1e-5
    moves = step * np.eye(case.size - 1)
    centre = optimum.vector[:-1]
    return to_natural(case.model, np.concatenate([centre[None], centre + moves, centre - moves])), step


def _derived_rows(
    profile: Profile,
    case: Case,
    optimum: Optimum,
    fitted: list[dict[str, Any]],
    quantile: float,
    settings: Models,
    again: Resampled | None,
) -> list[dict[str, Any]]:
    """Quantities that follow from the parameters.

    Their intervals: of ln 2/x from that of x; else by the bootstrap where there is one, or the delta method.
    """
    around, step = _around(case, optimum)
    repeated: dict[str, np.ndarray] = {}
    own = {row["parameter"]: row for row in fitted}
    found = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        quantities = case.model.derived(around, case.calendar, case.constants, profile.lloq)
    if again and again.enough:
        repeated = derived_values(case, again, profile.lloq)
    for quantity in quantities:
        exists = bool(np.isfinite(quantity.value[0]))
        # Parameters far out on a flat ridge may give a number that no computer writes.
        absent = "beyond the range of numbers" if np.isinf(quantity.value[0]) else quantity.reason
        row: dict[str, Any] = {
            **profile.key,
            "model": case.model.name,
            "parameter": quantity.name,
            "kind": "derived",
            "estimate": quantity.value[0] if exists else np.nan,
            "std_error": np.nan,
            "ci_method": "none",
            "ci_open": "both",
            "unit": _unit(quantity.unit, profile.level_unit),
            "identifiable": False,
            "reason": absent or "does not exist for these parameters",
        }
        if exists:
            row["reason"] = ""
            if quantity.rate:
                row |= _by_rate(quantity, own[quantity.rate])
            else:
                row |= _by_delta(case, optimum, quantity, step, quantile, settings.rse_limit_pct)
                if again:
                    row |= _by_bootstrap(row, repeated.get(quantity.name), settings)
            row["reason"] = "; ".join(filter(None, [row["reason"], quantity.note]))
        found.append(row)
    return found


def _by_rate(quantity: Quantity, rate: Mapping[str, Any]) -> dict[str, Any]:
    """Interval of ln 2/x from that of the rate x: the ends exchanged, an end at rate 0 is open."""
    with np.errstate(divide="ignore"):
        low, high = (np.log(2.0) / np.float64(rate[k]) for k in ("ci_upper", "ci_lower"))
    swapped = {"none": "none", "lower": "upper", "upper": "lower", "both": "both"}[rate["ci_open"]]
    return {
        "std_error": rate["std_error"] * quantity.value[0] / rate["estimate"],
        "ci_lower": 0.0 if swapped in ("lower", "both") else low,
        "ci_upper": np.nan if swapped in ("upper", "both") else high,
        "ci_method": rate["ci_method"],
        "ci_open": swapped,
        "identifiable": rate["identifiable"],
        "reason": rate["reason"],
    }


def _by_delta(
    case: Case, optimum: Optimum, quantity: Quantity, step: float, quantile: float, rse_limit_pct: float
) -> dict[str, Any]:
    """Interval by the delta method on the ln scale."""
    p = case.size - 1
    value = float(quantity.value[0])
    up, down = quantity.value[1 : p + 1], quantity.value[p + 1 :]
    # d ln q = dq / q; a peak at day 0 has no ln, and does not move.
    slope = (up - down) / (2.0 * step * (value if value > 0 else 1.0))
    moving = ~(np.abs(slope) <= 1e-9)
    if not moving.any():
        fixed = {"std_error": 0.0, "ci_lower": value, "ci_upper": value, "ci_open": "none", "identifiable": True}
        return fixed | {"reason": "the same for all parameters near the estimate: set by the calendar"}
    # A parameter without a variance gives none to a quantity that moves with it.
    block = optimum.covariance[:p, :p][np.ix_(moving, moving)]
    if not (np.isfinite(block).all() and np.isfinite(slope).all()):
        return {"reason": "not identifiable: it moves with a parameter that has no standard error"}
    error = float(np.sqrt(slope[moving] @ block @ slope[moving]))
    with np.errstate(over="ignore"):
        factor = float(np.exp(quantile * error))
    poor = 100.0 * error > rse_limit_pct
    return {
        "std_error": value * error,
        "ci_lower": value / factor,
        "ci_upper": value * factor if np.isfinite(value * factor) else np.nan,
        "ci_method": "delta",
        "ci_open": "none" if np.isfinite(value * factor) else "upper",
        "identifiable": not poor,
        "reason": f"not identifiable: relative standard error {100 * error:.0f} % above {rse_limit_pct:g} %"
        if poor
        else "",
    }


def _by_bootstrap(row: Mapping[str, Any], values: np.ndarray | None, settings: Models) -> dict[str, Any]:
    """Interval of a derived quantity from its values in the bootstrap samples; `row` has it by the delta method."""
    if values is None:
        nothing = {"ci_lower": np.nan, "ci_upper": np.nan, "ci_method": "bootstrap", "ci_open": "both"}
        return nothing | {
            "identifiable": False,
            "reason": "not identifiable: too few bootstrap samples could be fitted",
        }
    # Of every quantity that may not exist the absent value lies beyond the upper end: a level that never falls below
    # the LLOQ, a doubling time without growth.
    absent = ~np.isfinite(values)
    low, high = limits(np.where(absent, np.inf, values), np.array(row["estimate"]), settings.confidence)
    opened = not np.isfinite(high)
    # As for parameters: the half-width in standard normal units is what the relative standard error would be.
    factor = float(high / low) if low > 0 and not opened else 1.0
    words = []
    if opened:
        words.append("not identifiable: interval open above")
    elif 100.0 * np.log(factor) / (2 * 1.96) > settings.rse_limit_pct:
        words.append(f"not identifiable: interval over a factor of {factor:.3g}")
    identifiable = not words
    if absent.any():
        words.append(f"does not exist in {int(absent.sum())} of {len(values)} bootstrap samples")
    if np.isnan(row["std_error"]):
        words.append("no standard error: it moves with a parameter that has none")
    return {
        "ci_lower": float(low),
        "ci_upper": np.nan if opened else float(high),
        "ci_method": "bootstrap",
        "ci_open": _open(False, opened),
        "identifiable": identifiable,
        "reason": "; ".join(words),
    }


def _prediction(
    profile: Profile, case: Case, optimum: Optimum, quantile: float, settings: Models, again: Resampled | None
) -> pd.DataFrame:
    """The fitted curve over follow-up with its band; right before and at each infusion, so that jumps are upright."""
    calendar = case.calendar
    grid = np.linspace(0.0, calendar.end, settings.band_points)
    starts = calendar.infusion_time[(calendar.infusion_time > 0) & (calendar.infusion_time < calendar.end)]
    time = np.unique(np.concatenate([grid, starts, starts - 1e-6]).round(9))
    time = time[time >= calendar.infusion_time[0]]
    log_level, slopes = case.curve(time, optimum.vector)
    if again:
        log_lower, log_upper = band(case, again, time, log_level, settings.confidence)
    else:
        # A parameter without a standard error does not move the band: it stands for the others.
        known = np.isfinite(np.diag(optimum.covariance)[:-1])
        block = optimum.covariance[:-1, :-1][np.ix_(known, known)]
        half = quantile * np.sqrt(np.einsum("ti,ij,tj->t", slopes[:, known], block, slopes[:, known]))
        log_lower, log_upper = log_level - half, log_level + half
    with np.errstate(over="ignore"):
        level, lower, upper = np.exp(log_level), np.exp(log_lower), np.exp(log_upper)
    return pd.DataFrame(
        {
            **profile.key,
            "model": case.model.name,
            "time": time,
            "level": level,
            "lower": lower,
            "upper": np.where(np.isfinite(upper), upper, np.nan),
        }
    )


def _choose(fits: list[dict[str, Any]]) -> None:
    """Set weights and the selected model among the converged fits of one profile."""
    share = weights([fit["aicc"] if fit["converged"] else np.nan for fit in fits])
    for fit, weight in zip(fits, share, strict=True):
        fit["aicc_weight"] = weight
    if np.isfinite(share).any():
        fits[int(np.nanargmax(share))]["selected"] = True


def _progress(n: int, size: int) -> Iterator[int]:
    """Where each block of profiles begins, with a bar on a terminal and nothing elsewhere."""
    shown = sys.stderr.isatty()
    for i in range(0, n, size):
        if shown:
            done = 30 * i // n
            print(f"\r[{'#' * done}{'.' * (30 - done)}] {i}/{n} profiles", end="", file=sys.stderr, flush=True)
        yield i
    if shown:
        print(f"\r[{'#' * 30}] {n}/{n} profiles", file=sys.stderr)
