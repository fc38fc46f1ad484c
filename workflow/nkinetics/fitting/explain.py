"""How one number of estimates.csv was made: rows of the likelihood, calendar, search, estimate and interval in words.

A patient's models are fitted again, alone: that gives the same bits as among others. What is printed is therefore
computed and not copied, and `difference` says where estimates.csv holds something else.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.akaike import weight_text
from nkinetics.blq import DENSITY, INTERVAL
from nkinetics.columns import OBSERVATIONS
from nkinetics.errors import raise_any
from nkinetics.explaining import Step, n, step_line, unknown
from nkinetics.fitting.intervals import counted, cutoffs, wald_quantile
from nkinetics.fitting.likelihood import Points, terms
from nkinetics.fitting.objective import Case
from nkinetics.fitting.profiles import (
    Fitted,
    Profile,
    _profiles,
    _with_defaults,
    analyse,
    in_order,
    marked,
    reference_dose_of,
)
from nkinetics.plugins import Calendar, KineticModel, Quantity, discover
from nkinetics.settings import Blq, Models
from nkinetics.store import complete
from nkinetics.wording import ASSAY_ORDER, STATUS_CODES, significant

NAN = float("nan")
_INFUSION = re.compile(r"curve_cmax_infusion_\d+")
PIECES, GRID = 4000, 2001
"""Pieces of an area that is shown piecewise, and points of a search for a peak, between two infusions."""


@dataclass(frozen=True)
class FittedRow:
    """One result of the patient in the assay, and what it was to the likelihood.

    Parameters
    ----------
    observation_id, sample_id : str
        As in observations.csv.
    time : float [d]
        NaN where it is not known.
    shown : str
        The result as printed: a level, or BLQ, ND, ALQ, MISS.
    lloq : float
        NaN where there is none.
    entered : str
        ``density``, ``interval``, or empty where it was left out.
    why : str
        The interval, or why it was left out.
    fitted : float
        Level of the curve; NaN where the row was left out.
    residual : float
        (ln level - ln curve) in SD of the row; NaN for an interval.
    log_likelihood : float
        Its share of ln L.
    sources : tuple of str
        Rows and wells of the exports behind it.
    """

    observation_id: str
    sample_id: str
    time: float
    shown: str
    lloq: float
    entered: str
    why: str
    fitted: float = NAN
    residual: float = NAN
    log_likelihood: float = NAN
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitExplanation:
    """How one fitted, fixed or derived parameter was made.

    Parameters
    ----------
    patient_id, assay, specimen, model, parameter : str
        Key in estimates.csv.
    kind : str
        fitted, fixed or derived.
    estimate : float
        NaN where there is none.
    unit, reason : str
        As in estimates.csv.
    title, formula, meaning : str
        The model, its curve and what the parameter is.
    calendar : tuple of str
        What was given.
    rows : tuple of FittedRow
        All results of the patient in this assay, in order of time.
    likelihood, search, told, others : tuple of str
        ln L and its parts; where the search began and ended; the estimate with its interval and identifiability; the
        other models and the average over them.
    steps : tuple of Step
        For a derived parameter the arithmetic from the fitted ones.
    """

    patient_id: str
    assay: str
    specimen: str
    model: str
    parameter: str
    kind: str
    estimate: float
    unit: str
    reason: str
    title: str
    formula: str
    meaning: str
    calendar: tuple[str, ...]
    rows: tuple[FittedRow, ...]
    likelihood: tuple[str, ...]
    search: tuple[str, ...]
    told: tuple[str, ...]
    others: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def result(self) -> str:
        """The value as it stands in estimates.csv with its unit, or that there is none."""
        return "none" if math.isnan(self.estimate) else f"{self.estimate + 0.0:.10g} {self.unit}".strip()

    def lines(self, width: int = 100) -> list[str]:
        """Everything as text for a terminal."""
        out = [
            f"Patient {self.patient_id}, {self.assay}, {self.specimen}, model {self.model}: {self.title}",
            f"{self.parameter} ({self.kind}) = {self.result}",
            *([self.meaning] if self.meaning else []),
            self.formula,
            *([f"Reason: {self.reason}"] if self.reason else []),
        ]
        if self.calendar:
            out += ["", "Calendar (d: days from the start of the first infusion)", *(f"  {c}" for c in self.calendar)]
        if self.rows:
            out += ["", "Samples, and how each entered the likelihood", *_table(self.rows)]
        for title, lines in (
            ("Log-likelihood", self.likelihood),
            ("Search", self.search),
            ("Arithmetic", [step_line(s) for s in self.steps]),
            ("Estimate", self.told),
            ("Other models", self.others),
        ):
            if lines:
                out += ["", title]
                for line in lines:
                    out += textwrap.wrap(
                        line, width, initial_indent="  ", subsequent_indent="      ", break_long_words=False
                    )
        return out


def _table(rows: Sequence[FittedRow]) -> list[str]:
    head = f"{'d':>8}  {'result':>10}  {'LLOQ':>9}  {'curve':>9}  {'residual':>8}  {'ln L':>8}  entered as"
    lines = ["  " + head]
    for r in rows:
        time, lloq, fitted = (
            "" if math.isnan(v) else text
            for v, text in ((r.time, f"{r.time:.4g}"), (r.lloq, f"{r.lloq:.6g}"), (r.fitted, f"{r.fitted:.5g}"))
        )
        residual = "" if math.isnan(r.residual) else f"{r.residual:+.2f}"
        share = "" if math.isnan(r.log_likelihood) else f"{r.log_likelihood:.3f}"
        entered = f"{r.entered or 'left out'}{': ' if r.entered and r.why else ' - ' if r.why else ''}{r.why}"
        lines.append(f"  {time:>8}  {r.shown:>10}  {lloq:>9}  {fitted:>9}  {residual:>8}  {share:>8}  {entered}")
        lines += [f"{'':66}{source}" for source in r.sources]
    return lines


def names(settings: Models) -> dict[str, tuple[str, ...]]:
    """Every parameter that `explain` knows, with the models that have it, default and candidates first.

    Examples
    --------
    >>> names(Models(default="decay", candidates=("decay", "cytokine_window")))["rho"]
    ('cytokine_window', 'effector_memory', 'expansion_contraction', 'rejection')
    """
    found: dict[str, list[str]] = {}
    for name, model in discover("models").items():
        constants = settings.constants(name)
        values = np.array(model.example.parameters)[None]
        derived = [q.name for q in model.derived(values, model.example.calendar, constants, 1.0)]
        for parameter in (*model.names, "sigma", *model.fixed(constants), *derived):
            found.setdefault(parameter, []).append(name)
    first = [settings.default, *settings.candidates]
    return {
        p: tuple(sorted(models, key=lambda m: (first.index(m) if m in first else len(first), m)))
        for p, models in found.items()
    }


def is_known(parameter: str, settings: Models) -> bool:
    """Whether a word names a parameter of some model; a patient may have had more infusions than the example."""
    return parameter in names(settings) or _INFUSION.fullmatch(parameter) is not None


def explain(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    patients: pd.DataFrame | None,
    settings: Models,
    blq: Blq,
    patient: str,
    parameter: str,
    assay: str = "",
    specimen: str = "",
    model: str = "",
    sources: Mapping[str, tuple[str, ...]] | None = None,
) -> FitExplanation:
    """How one fitted, fixed or derived parameter of one patient was made.

    Parameters
    ----------
    observations, infusions, cytokines, patients, settings, blq
        As for `nkinetics.fitting.analyse`.
    patient, parameter : str
        As 001 and delta.
    assay, specimen, model : str
        The first there is where empty: quantitative PCR before the others; the default model before the other
        candidates that have the parameter.
    sources : mapping, optional
        Rows and wells behind each observation, as `nkinetics.explaining.wells` returns them.

    Returns
    -------
    FitExplanation
        Its estimate is that of `nkinetics.fitting.analyse`, to the last digit; none, with the reason, where the model
        could not be fitted.

    Raises
    ------
    InputError
        For an unknown patient, parameter, assay, specimen or model, with the nearest names.

    Examples
    --------
    >>> own = pd.DataFrame(
    ...     {"patient_id": "01", "time_actual": [1.0, 2, 3, 5, 8], "level": [810.0, 640, 540, 350, 190],
    ...      "status": "quantified", "lloq": 50.0}
    ... )
    >>> choices = Models(default="decay", candidates=("decay",))
    >>> told = explain(own, None, None, None, choices, Blq(), "01", "half_life_delta")
    >>> for step in told.steps:
    ...     print(step_line(step))
    delta: as fitted: 0.2061225011
    half_life_delta: ln(2) / delta: ln(2) / 0.2061225011 = 3.362792402
    """
    rows = complete(_with_defaults(observations), OBSERVATIONS)
    reference = reference_dose_of(infusions)
    everyone = {*rows["patient_id"], *(() if patients is None else patients["patient_id"])}
    raise_any(unknown("PATIENT", patient, everyone))
    own = rows[rows["patient_id"] == patient]
    assay, specimen = _kind(own if len(own) else rows, assay, specimen)
    own = own[(own["assay"] == assay) & (own["specimen"] == specimen)]
    known = names(settings)
    if model:
        raise_any(unknown("--model", model, discover("models")))
    possible = [p for p, having in known.items() if not model or model in having]
    if not _INFUSION.fullmatch(parameter):
        raise_any(unknown("PARAMETER", parameter, possible))
    having = known.get(parameter, (settings.default,))
    model = model or next((m for m in having if m == settings.default or m in settings.candidates), having[0])
    mine = None if patients is None else patients[patients["patient_id"] == patient]
    options = {"settings": settings, "blq": blq, "patients": mine, "reference_dose": reference}
    done = analyse(own, infusions, cytokines, models=settings.candidates, **options)  # type: ignore[arg-type]
    chosen = done if model in settings.candidates else analyse(own, infusions, cytokines, models=(model,), **options)  # type: ignore[arg-type]
    profile = next(
        p
        for p in _profiles(own, infusions, cytokines, blq, mine, reference)
        if (p.patient_id, p.assay, p.specimen) == (patient, assay, specimen) or not len(own)
    )
    return _told(
        profile, own, done, chosen, settings, blq, parameter, model, reference, (assay, specimen), sources or {}
    )


def _kind(rows: pd.DataFrame, assay: str, specimen: str) -> tuple[str, str]:
    """The assay and specimen that a user's words stand for; what is left open is the first there is."""
    kinds = sorted(set(zip(rows["assay"], rows["specimen"], strict=True))) or [("qpcr", "blood")]
    for place, flag, word in ((0, "--assay", assay), (1, "--specimen", specimen)):
        if word:
            raise_any(unknown(flag, word, [k[place] for k in kinds]))
            kinds = [k for k in kinds if k[place] == word]
    rank = {a: i for i, a in enumerate(ASSAY_ORDER)}
    return min(kinds, key=lambda k: (rank.get(k[0], len(rank)), k))


def _told(
    profile: Profile,
    own: pd.DataFrame,
    done: Fitted,
    chosen: Fitted,
    settings: Models,
    blq: Blq,
    parameter: str,
    name: str,
    reference: float,
    kind: tuple[str, str],
    sources: Mapping[str, tuple[str, ...]],
) -> FitExplanation:
    model, constants = discover("models")[name], settings.constants(name)
    fit = chosen.fits[chosen.fits["model"] == name].iloc[0]
    table = chosen.estimates[chosen.estimates["model"] == name].set_index("parameter")
    found = table.loc[parameter] if parameter in table.index else None
    fitted = [table.loc[p, "estimate"] for p in (*model.names, "sigma")] if len(table) else []
    case = Case(model, constants, profile.calendar, profile.points) if fitted and profile.calendar is not None else None
    natural = np.array(fitted, dtype=float)
    reason = str(fit["reason"]) if found is None else str(found["reason"])
    if found is None and case is not None:
        reason = f"the model has no {parameter} on this calendar, or the LLOQ is not known"
    quantities = {} if case is None else _quantities(case, natural, profile.lloq)
    steps = [] if case is None or found is None else _steps(case, natural, table, quantities, parameter, profile.lloq)
    return FitExplanation(
        patient_id=profile.patient_id,
        assay=kind[0],
        specimen=kind[1],
        model=name,
        parameter=parameter,
        kind="not made" if found is None else str(found["kind"]),
        estimate=NAN if found is None else float(found["estimate"]),
        unit="" if found is None else str(found["unit"]),
        reason=reason,
        title=model.title["en"],
        formula=model.formula(constants),
        meaning=_meaning(model, parameter),
        calendar=tuple(_calendar(profile, model, constants, reference)),
        rows=tuple(_rows(own, profile, case, natural, blq, sources)),
        likelihood=tuple(_likelihood(case, natural, fit)),
        search=tuple(_search(table, fit, parameter)) if case is not None else (),
        told=tuple(_estimate(case, found, settings, quantities.get(parameter), fit))
        if found is not None and case is not None
        else (),
        others=tuple(_others(done, parameter, name)),
        steps=tuple(steps),
    )


def difference(told: FitExplanation, table: pd.DataFrame) -> str:
    """What to say where estimates.csv holds another value; empty where it holds this one."""
    key = {k: getattr(told, k) for k in ("patient_id", "assay", "specimen", "model", "parameter")}
    here = np.logical_and.reduce([(table[k] == v).to_numpy() for k, v in key.items()])
    written = table.loc[here, "estimate"]
    if not len(written):
        return "" if told.kind == "not made" else "estimates.csv has no row of it: run the workflow again"
    absent = bool(pd.isna(written.iloc[0]))
    same = math.isnan(told.estimate) if absent else f"{told.estimate + 0.0:.10g}" == f"{written.iloc[0] + 0.0:.10g}"
    value = "no value" if absent else f"{written.iloc[0]:.10g}"
    return (
        "" if same else f"estimates.csv holds {value}: it was made from other data or settings, run the workflow again"
    )


# ------------------------------------------------------------------------------------------------------------ pieces


def _meaning(model: KineticModel, parameter: str) -> str:
    own = {p.name: p.meaning["en"] for p in model.parameters} | {"sigma": "residual SD of the ln level"}
    return own[parameter][:1].upper() + own[parameter][1:] + "." if parameter in own else ""


def _calendar(profile: Profile, model: KineticModel, constants: Any, reference: float) -> list[str]:
    calendar = profile.calendar
    if calendar is None:
        return []
    lines = []
    for k, (time, amount) in enumerate(zip(calendar.infusion_time, calendar.infusion_amount, strict=True), start=1):
        given = f" ({amount * reference:.4g} of {reference:.4g})" if reference != 1.0 else ""
        lines.append(f"infusion {k}: d {time:.4g}, {amount:.4g} of the reference dose{given}")
    agents = getattr(constants, "agents", ())
    width = getattr(constants, "width", None)
    for agent, starts in sorted(calendar.pulses.items()):
        days = ", ".join(f"{t:.4g}" for t in starts)
        if agent not in agents:
            lines.append(f"{agent}: d {days}; not in this model")
        elif width is None:
            lines.append(f"{agent}: d {days}")
        else:
            windows = ", ".join(f"{t:.4g} to {t + width:.4g}" for t in starts)
            lines.append(f"{agent}: d {days}; supports growth for {width:g} d after each dose: d {windows}")
    lines.append(f"end of follow-up: d {calendar.end:.4g}")
    if profile.note:
        lines.append(profile.note)
    return lines


def _parts(case: Case, natural: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ln of the curve, SD and ln L of each row of the likelihood, in the order of its points."""
    points = case.points
    mu = case.model.log_level(points.time, natural[:-1], case.calendar, case.constants)
    share = terms(mu, np.log(natural[-1]), points).value
    return mu, np.sqrt(natural[-1] ** 2 + points.counting_variance), share


def _rows(
    own: pd.DataFrame,
    profile: Profile,
    case: Case | None,
    natural: np.ndarray,
    blq: Blq,
    sources: Mapping[str, tuple[str, ...]],
) -> list[FittedRow]:
    rows = marked(own, blq)
    used = in_order(rows)
    place = {at: i for i, at in enumerate(used.index)}
    parts = None if case is None else _parts(case, natural)
    found = []
    for at, row in rows.iterrows():
        i = place.get(at)
        numbers: dict[str, float] = {}
        if parts is not None and i is not None:
            mu, sd, share = (float(part[i]) for part in parts)
            numbers = {"fitted": math.exp(mu), "log_likelihood": share}
            if row["_kind"] == DENSITY:
                numbers["residual"] = (math.log(float(row["_lower"])) - mu) / sd
        identifier = str(row["observation_id"])
        level, status = float(row["level"]), str(row["status"])
        below = status == "quantified" and level < float(row["lloq"])
        found.append(
            FittedRow(
                observation_id=identifier,
                sample_id=str(row["sample_id"]),
                time=float(row["time_actual"]),
                shown=f"{level:.6g}" if status == "quantified" and not below else STATUS_CODES.get(status, "BLQ"),
                lloq=float(row["lloq"]),
                entered={DENSITY: "density", INTERVAL: "interval"}.get(int(row["_kind"]), ""),
                why=_entered(row, profile.points, i, blq),
                sources=sources.get(identifier, ()),
                **numbers,
            )
        )
    return sorted(found, key=lambda r: (math.isnan(r.time), r.time, r.sample_id, r.observation_id))


def _entered(row: pd.Series, points: Points, i: int | None, blq: Blq) -> str:
    """The term of a row in words, or why it has none."""
    if row["_kind"] == DENSITY:
        if i is not None and points.counting_variance[i] > 0:
            return f"{1.0 / points.counting_variance[i]:.4g} counted"
        # M5 and M6 put a number in place of a level below its LLOQ.
        return "" if row["status"] == "quantified" else f"as {row['_lower']:.6g} ({blq.models})"
    if row["_kind"] == INTERVAL:
        upper = "infinity" if math.isinf(row["_upper"]) else f"{row['_upper']:.6g}"
        return f"{row['_lower']:.6g} to {upper} ({'above the ULOQ' if upper == 'infinity' else blq.models})"
    if row["_aside"]:
        return str(row["_aside"])
    if row["exclusion_reason"]:
        return str(row["exclusion_reason"])
    if row["status"] in ("not_done", "failed"):
        return str(row["status"]).replace("_", " ")
    if not pd.isna(row["reportable"]) and not bool(row["reportable"]):
        return "not reportable"
    if not row["_entering"]:
        return "no sampling time" if pd.isna(row["time_actual"]) else "before the first infusion: holds no cells yet"
    return f"below its LLOQ, dropped by {blq.models}"


def _likelihood(case: Case | None, natural: np.ndarray, fit: pd.Series) -> list[str]:
    if case is None:
        return []
    _, _, share = _parts(case, natural)
    q, size = case.points.n_quantified, case.points.n
    k = case.size
    lines = [
        f"ln L = {share.sum():.6g}: {share[:q].sum():.6g} from {q} densities of ln level, "
        f"{share[q:].sum():.6g} from {size - q} intervals; SD of a row sqrt(sigma^2 + 1/n counted), sigma = "
        f"{natural[-1]:.5g}"
    ]
    if pd.isna(fit["aicc"]):
        lines.append(f"AICc: not defined for {size} rows and {k} parameters")
    else:
        lines.append(
            f"AICc = -2 ln L + 2 k + 2 k (k + 1)/(n - k - 1) = {fit['aicc']:.6g} with k = {k} parameters (sigma among "
            f"them) and n = {size} rows"
        )
    return lines


def _search(table: pd.DataFrame, fit: pd.Series, parameter: str) -> list[str]:
    lines = []
    fitted = table[table["kind"] == "fitted"]
    for name, row in fitted.iterrows():
        if name == parameter or table.loc[parameter if parameter in table.index else name, "kind"] != "fitted":
            lines.append(
                f"{name}: began at {row['start']:.4g}, limits {row['lower_limit']:.4g} to {row['upper_limit']:.4g}, "
                f"ended at {row['estimate']:.6g}"
            )
    bound = str(fit["at_bound"])
    lines.append(f"on a limit: {bound}" if bound else "no parameter on a limit of its search")
    lines.append(
        f"{int(fit['n_restarts_agree'])} of {int(fit['n_starts'])} starts and restarts ended within 0.01 of the best "
        f"ln L; {'converged' if fit['converged'] else 'not converged'}"
        + (f" ({fit['reason']})" if fit["reason"] else "")
    )
    return lines


def _estimate(case: Case, row: pd.Series, settings: Models, quantity: Quantity | None, fit: pd.Series) -> list[str]:
    """Estimate, standard error, interval and identifiability in words."""
    if row["kind"] == "fixed":
        return [f"{row['estimate']:.6g} {row['unit']}: fixed by the configuration, not estimated".replace("  ", " ")]
    if pd.isna(row["estimate"]):
        return [f"no value: {row['reason']}"]
    unit = f" {row['unit']}" if row["unit"] else ""
    lines = [
        f"{row['estimate']:.6g}{unit}, the maximum of the likelihood"
        if row["kind"] == "fitted"
        else f"{row['estimate']:.6g}{unit}, from the fitted parameters"
    ]
    if not pd.isna(row["std_error"]):
        rse = f" ({100 * row['std_error'] / abs(row['estimate']):.1f} %)" if row["estimate"] else ""
        lines.append(f"standard error {row['std_error']:.4g}{rse}, from the observed information")
    lines += _interval(case, row, settings, quantity)
    good = not pd.isna(row["identifiable"]) and bool(row["identifiable"])
    reason = str(row["reason"])
    if good:
        lines.append("the data determine it" + (f"; {reason}" if reason else ""))
    else:
        lines.append(f"the data do not determine it: {reason.removeprefix('not identifiable: ')}")
    return lines


def _interval(case: Case, row: pd.Series, settings: Models, quantity: Quantity | None) -> list[str]:
    method = str(row["ci_method"])
    if method in ("", "none"):
        return ["no interval"]
    p = case.size - 1
    size = counted(case.points.n_quantified, p)
    level = f"{100 * settings.confidence:g} % interval"
    opened = str(row["ci_open"])
    ends = [
        "open" if side in opened or opened == "both" else significant(float(row[column]), 4)
        for column, side in (("ci_lower", "lower"), ("ci_upper", "upper"))
    ]
    cuts = cutoffs(size, p, settings.confidence, settings.interval_cutoff)
    name = str(row.name)
    own = cuts[case.names.index(name)] if name in case.names else cuts[0]
    low, high = (f"{c:.4g}" for c in own)
    cut = low if low == high else f"{low} below and {high} above"
    q = wald_quantile(size, p, settings.confidence, settings.interval_cutoff)
    if quantity is not None and quantity.rate:
        how = f"ln(2) over the ends of the interval of {quantity.rate} ({method}), exchanged"
    elif method == "profile":
        how = (
            f"profile likelihood: every value at which 2 (ln L at the maximum - ln L) is at most {cut}, all other "
            "parameters fitted anew at each"
        )
    elif method == "delta":
        how = f"delta method: {q:.4g} standard errors to both sides on the scale of estimation"
    else:
        how = method
    lines = [f"{level} {ends[0]} to {ends[1]}, by {how}"]
    if opened != "none":
        side = {"lower": "below", "upper": "above", "both": "on both sides"}[opened]
        lines.append(f"the interval is open {side}: no value there is contradicted by the data")
    return lines


def _others(done: Fitted, parameter: str, name: str) -> list[str]:
    lines = []
    table = done.estimates[done.estimates["parameter"] == parameter].set_index("model")
    for fit in done.fits.to_dict("records"):
        other = str(fit["model"])
        weight = "" if pd.isna(fit["aicc_weight"]) else f", weight {weight_text(float(fit['aicc_weight']))}"
        criterion = "no AICc" if pd.isna(fit["aicc"]) else f"AICc {fit['aicc']:.2f}"
        flags = [*(["lowest AICc"] if bool(fit["selected"]) else []), *(["explained here"] if other == name else [])]
        flag = f" [{', '.join(flags)}]" if flags else ""
        if other in table.index:
            row = table.loc[other]
            value = (
                "no value"
                if pd.isna(row["estimate"])
                else f"{parameter} = {row['estimate']:.5g} {row['unit']}".rstrip()
            )
            loose = "" if pd.isna(row["estimate"]) or bool(row["identifiable"]) else ", not identifiable"
        else:
            value, loose = (f"no {parameter}", "") if not pd.isna(fit["log_likelihood"]) else (str(fit["reason"]), "")
        lines.append(f"{other}: {value}{loose}; {criterion}{weight}{flag}")
    mean = done.averages[done.averages["parameter"] == parameter]
    if not len(mean):
        lines.append("not averaged over the models: not every candidate has it with the same meaning")
        return lines
    row = mean.iloc[0]
    said = f" ({row['reason']})" if row["reason"] else ""
    if pd.isna(row["estimate"]):
        lines.append(f"average over the models: none{said}")
    else:
        ends = ""
        if not pd.isna(row["std_error"]):
            upper = "open" if pd.isna(row["ci_upper"]) else significant(float(row["ci_upper"]), 4)
            lower = significant(float(row["ci_lower"]), 4)
            ends = f", standard error {row['std_error']:.4g} (unconditional), interval {lower} to {upper}"
        lines.append(f"average over {int(row['n_models'])} models: {row['estimate']:.6g} {row['unit']}{ends}{said}")
    return lines


# -------------------------------------------------------------------------------------------------------- arithmetic


def _quantities(case: Case, natural: np.ndarray, lloq: float) -> dict[str, Quantity]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = case.model.derived(natural[None, :-1], case.calendar, case.constants, lloq)
    return {q.name: q for q in found}


def _level(case: Case, natural: np.ndarray, time: np.ndarray | float, calendar: Calendar | None = None) -> np.ndarray:
    at = np.atleast_1d(np.asarray(time, dtype=float))
    with np.errstate(over="ignore", divide="ignore"):
        return np.exp(case.model.log_level(at, natural[:-1], calendar or case.calendar, case.constants))


def _steps(
    case: Case,
    natural: np.ndarray,
    table: pd.DataFrame,
    quantities: Mapping[str, Quantity],
    parameter: str,
    lloq: float,
) -> list[Step]:
    """The arithmetic of a derived parameter from the fitted ones."""
    quantity = quantities.get(parameter)
    if quantity is None or math.isnan(float(quantity.value[0])):
        return []
    value = float(quantity.value[0])
    formula = f"ln(2) / {quantity.rate}" if quantity.rate else quantity.formula
    numbers = {
        str(name): float(v)
        for name, v in table["estimate"].items()
        if name in (*case.model.names, *case.model.fixed(case.constants))
    }
    if formula:
        used = [name for name in numbers if re.search(rf"\b{name}\b", formula)]
        fixed = case.model.fixed(case.constants)
        steps = [Step("fixed" if u in fixed else "as fitted", u, n(numbers[u]), numbers[u]) for u in used]
        with_numbers = re.sub(
            r"\b(" + "|".join(map(re.escape, used)) + r")\b", lambda found: n(numbers[found[1]]), formula
        )
        return [*steps, Step(formula, parameter, with_numbers, value)]
    if parameter == "curve_cmax" or parameter.startswith("curve_cmax_infusion_"):
        return _peak(case, natural, parameter, value)
    if parameter == "curve_tmax":
        around = [t for t in (value - 0.1, value, value + 0.1) if t >= float(case.calendar.infusion_time[0])]
        levels = [f"d {t:.5g}: {_level(case, natural, t)[0]:.6g}" for t in around]
        return [
            Step("the curve at its highest and 0.1 d to each side: " + "; ".join(levels)),
            Step("day of the highest level of the curve up to the end of follow-up", "curve_tmax", n(value), value),
        ]
    if parameter == "curve_auc_D0-28":
        return _area(case, natural, value)
    if parameter == "t_below_lloq":
        level = float(_level(case, natural, value)[0])
        return [
            Step(f"level of the curve on d {value:.6g}, which equals the LLOQ {lloq:.6g}", "C", n(level), level),
            Step("day after which the curve stays below it", "t_below_lloq", n(value), value),
        ]
    return [Step("in closed form from the fitted parameters, by the calendar", parameter, n(value), value)]


def _only(calendar: Calendar, k: int) -> Calendar:
    """The calendar with the cells of one infusion alone: the others at amount 0, so that its clock stays."""
    amount = np.where(np.arange(len(calendar.infusion_amount)) == k, calendar.infusion_amount, 0.0)
    return Calendar(calendar.infusion_time, amount, calendar.pulses, calendar.end)


def _peak(case: Case, natural: np.ndarray, parameter: str, value: float) -> list[Step]:
    """The highest level between two days, as the sum over the infusions so far."""
    starts = case.calendar.infusion_time
    last = max(float(case.calendar.end), float(starts[-1]))
    if parameter == "curve_cmax":
        first, until = float(starts[0]), last
        before = last
    else:
        k = int(parameter.rsplit("_", 1)[1]) - 1
        first, until = float(starts[k]), float(starts[k + 1]) if k + 1 < len(starts) else last
        # The next infusion adds its cells at once: the peak may stand right before it.
        before = float(np.nextafter(until, -np.inf)) if k + 1 < len(starts) else until
    time = _highest(case, natural, first, before)
    steps = [Step(f"highest level of the curve between d {first:.4g} and d {until:.4g}: on d {time:.5g}")]
    given = [k for k, tau in enumerate(starts) if tau <= time]
    if case.model.superposes and len(given) > 1:
        parts = [float(_level(case, natural, time, _only(case.calendar, k))[0]) for k in given]
        steps += [
            Step(f"cells of infusion {k + 1} then", f"C{k + 1}", n(v), v) for k, v in zip(given, parts, strict=True)
        ]
        return [*steps, Step("sum", parameter, " + ".join(f"C{k + 1}" for k in given), value)]
    return [*steps, Step("level then", parameter, n(value), value)]


def _highest(case: Case, natural: np.ndarray, first: float, last: float) -> float:
    """Day of the highest level between two days: the best of a grid that is made finer around it."""
    low, high = first, last
    jumps = case.calendar.infusion_time
    best = first
    for _ in range(4):
        grid = np.unique(np.concatenate([np.linspace(low, high, GRID), jumps[(jumps >= low) & (jumps <= high)]]))
        best = float(grid[np.argmax(_level(case, natural, grid))])
        width = (high - low) / (GRID - 1)
        low, high = max(first, best - width), min(last, best + width)
    return best


def _area(case: Case, natural: np.ndarray, value: float) -> list[Step]:
    """Area day 0 to 28 by pieces between infusions, each by Gauss's rule on short pieces; the total in closed form."""
    inner = case.calendar.infusion_time
    edges = np.unique(np.concatenate([[0.0], inner[(inner > 0) & (inner < 28)], [28.0]]))
    node, weight = np.polynomial.legendre.leggauss(3)
    steps, total = [], 0.0
    for i, (left, right) in enumerate(pairwise(edges.tolist()), start=1):
        cuts = np.linspace(left, right, PIECES + 1)
        half, middle = np.diff(cuts) / 2.0, (cuts[1:] + cuts[:-1]) / 2.0
        time = middle[:, None] + half[:, None] * node
        area = float((_level(case, natural, time.ravel()).reshape(time.shape) @ weight) @ half)
        total += area
        steps.append(Step(f"under the curve from d {left:.4g} to d {right:.4g}", f"A{i}", n(area), area))
    named = " + ".join(s.symbol for s in steps)
    return [*steps, Step("sum (in closed form; the pieces by quadrature)", "curve_auc_D0_28", named, value)]
