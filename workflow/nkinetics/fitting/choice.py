"""Which model describes one profile best: AICc and its weights. Reported, never trusted alone.

What all candidates can say, as the peak of the curve, is averaged over them by their weights, with a standard error
that also holds the doubt about the model (Burnham & Anderson, Sociol Methods Res 2004;33:261,
doi:10.1177/0049124104268644).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from nkinetics.akaike import weight_text
from nkinetics.columns import MODEL_AVERAGES
from nkinetics.fitting.intervals import counted, wald_quantile
from nkinetics.plugins import discover
from nkinetics.settings import Models
from nkinetics.store import complete

SHARED = ("curve_cmax", "curve_tmax", "curve_auc_D0-28", "t_below_lloq")
"""Derived quantities that every curve has, whatever the model."""
HALF_LIVES = ("half_life_delta", "half_life_alpha", "half_life_beta")
"""Averaged where every candidate has it for its cells as a whole: else it means different things."""
WEIGHT_MIN = 0.95
"""Models without a value, or without its standard error, may carry no more than the rest of the weight."""


# ------------------------------------------------------------------------------------------------------- averages


def averaged(
    estimate: np.ndarray, std_error: np.ndarray, weight: np.ndarray, quantile: np.ndarray, confidence: float
) -> tuple[float, float, float, float]:
    """Weighted mean over models, its unconditional standard error and interval.

    On the ln scale where all estimates are positive: var = sum w (var_i + (ln theta_i - mean)^2).

    Parameters
    ----------
    estimate, std_error : arrays (models,)
        Natural scale; a standard error that is nan leaves only the estimate.
    weight : array (models,)
        Adding to 1.
    quantile : array (models,)
        Half-width of each model's own interval in standard errors: the interval of the average widens the models' own
        variances by it, and with one model is that model's.
    confidence : float
        As 0.95.

    Returns
    -------
    estimate, std_error, lower, upper
        Natural scale.

    Examples
    --------
    >>> z = np.full(2, 1.959964)
    >>> found = averaged(np.array([100.0, 400.0]), np.array([10.0, 40.0]), np.array([0.5, 0.5]), z, 0.95)
    >>> [round(v, 1) for v in found]
    [200.0, 140.1, 50.7, 789.1]
    """
    normal = float(ndtri(0.5 + confidence / 2.0))
    positive = bool((estimate > 0).all())
    value = np.log(estimate) if positive else estimate
    error = std_error / estimate if positive else std_error
    mean = float(weight @ value)
    between = (value - mean) ** 2
    spread = float(np.sqrt(weight @ (error**2 + between)))
    half = normal * float(np.sqrt(weight @ ((quantile / normal * error) ** 2 + between)))
    if not positive:
        return mean, spread, mean - half, mean + half
    with np.errstate(over="ignore"):
        lower, upper = np.exp(mean - half), np.exp(mean + half)
    centre = float(np.exp(mean))
    return centre, centre * spread, float(lower), float(upper) if np.isfinite(upper) else float("nan")


def averages(fits: pd.DataFrame, estimates: pd.DataFrame, settings: Models) -> pd.DataFrame:
    """Derived quantities of every profile, averaged over its converged models by their Akaike weights.

    Parameters
    ----------
    fits, estimates : DataFrame
        As `nkinetics.columns.FITS` and `ESTIMATES`.
    settings : Models
        Confidence and cut-off of the intervals.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.MODEL_AVERAGES`; a profile without any model keeps its rows, with the reason.
    """
    derived = estimates[estimates["kind"] == "derived"]
    names = [*SHARED, *_common_half_lives(sorted(set(fits["model"])), settings)]
    columns = ["patient_id", "assay", "specimen", "model", "parameter", "estimate", "std_error"]
    known = {tuple(row[:5]): (row[5], row[6]) for row in zip(*(derived[c].tolist() for c in columns), strict=True)}
    units: dict[tuple[str, ...], str] = {}
    for patient, assay, specimen, parameter, unit in zip(
        *(derived[c].tolist() for c in ("patient_id", "assay", "specimen", "parameter", "unit")), strict=True
    ):
        units.setdefault((patient, assay, specimen, parameter), unit)
    by_profile: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for fit in fits.to_dict("records"):
        by_profile.setdefault((fit["patient_id"], fit["assay"], fit["specimen"]), []).append(fit)
    rows = []
    for profile, own in sorted(by_profile.items()):
        for row in _of_profile(profile, own, known, names, settings):
            unit = units.get((*profile, row["parameter"]), "")
            rows.append(dict(zip(("patient_id", "assay", "specimen"), profile, strict=True)) | row | {"unit": unit})
    return complete(pd.DataFrame(rows, columns=MODEL_AVERAGES.names), MODEL_AVERAGES)


def _common_half_lives(models: Sequence[str], settings: Models) -> list[str]:
    """Half-lives that all models have; a batch of patients knows no more than the models themselves."""
    having = []
    for name in models:
        model = discover("models")[name]
        parameters = np.array(model.example.parameters)[None]
        quantities = model.derived(parameters, model.example.calendar, settings.constants(name), float("nan"))
        having.append({q.name for q in quantities if not q.note})
    return [h for h in HALF_LIVES if having and all(h in names for names in having)]


def _of_profile(
    profile: tuple[str, str, str],
    fits: list[dict[str, Any]],
    known: Mapping[tuple[str, ...], tuple[float, float]],
    names: list[str],
    settings: Models,
) -> Iterator[dict[str, Any]]:
    weighted = [fit for fit in fits if not pd.isna(fit["aicc_weight"])]
    weighted.sort(key=lambda fit: (-fit["aicc_weight"], fit["model"]))
    out = _why_out([fit for fit in fits if pd.isna(fit["aicc_weight"])])
    for name in names:
        row: dict[str, Any] = {"parameter": name, "estimate": np.nan, "n_models": 0, "models": ""}
        if weighted:
            found = [known.get((*profile, fit["model"], name), (np.nan, np.nan)) for fit in weighted]
            yield row | _one(weighted, np.array(found, dtype=float), out, settings)
        else:
            yield row | {"reason": "no model to average: " + "; ".join(out)}


def _why_out(fits: list[dict[str, Any]]) -> list[str]:
    """Models without a weight, those that share a reason together: ``decay, logistic: not fitted: ...``."""
    reasons: dict[str, list[str]] = {}
    for fit in fits:
        why = "AICc not defined" if bool(fit["converged"]) else str(fit["reason"]) or "not converged"
        reasons.setdefault(why, []).append(str(fit["model"]))
    return [f"{', '.join(models)}: {why}" for why, models in reasons.items()]


def _one(weighted: list[dict[str, Any]], found: np.ndarray, out: list[str], settings: Models) -> dict[str, Any]:
    """The average of one quantity; `found` (models, 2) holds estimate and standard error under each model."""
    value, error = found[:, 0], found[:, 1]
    weight = np.array([fit["aicc_weight"] for fit in weighted], dtype=float)
    models = np.array([fit["model"] for fit in weighted], dtype=object)
    said = ["left out: " + "; ".join(out)] if out else []
    has, knows = np.isfinite(value), np.isfinite(value) & np.isfinite(error)
    if weight[has].sum() < WEIGHT_MIN:
        return {"reason": "; ".join([_lacking("no value", models, weight, ~has), *said])}
    # An average over fewer models is better than none, where the others hardly count.
    used = knows if weight[knows].sum() >= WEIGHT_MIN else has
    if not used.all():
        lacking = "no value" if not has[~used].any() else "no standard error"
        said.insert(0, "left out: " + _lacking(lacking, models, weight, ~used))
    if not knows[used].all():
        said.insert(0, "no standard error: " + _lacking("none", models, weight, used & ~knows))
    share = weight[used] / weight[used].sum()
    known = discover("models")

    def of_model(fit: Mapping[str, Any]) -> float:
        p = len(known[fit["model"]].parameters)
        n = counted(int(fit["n_obs"]) - int(fit["n_blq"]), p)
        return wald_quantile(n, p, settings.confidence, settings.interval_cutoff)

    quantile = np.array([of_model(fit) for fit, enters in zip(weighted, used, strict=True) if enters])
    estimate, spread, lower, upper = averaged(value[used], error[used], share, quantile, settings.confidence)
    return {
        "estimate": estimate,
        "std_error": spread,
        "ci_lower": lower,
        "ci_upper": upper,
        "n_models": int(used.sum()),
        "models": " ".join(models[used]),
        "weight_of_best": float(share[0]),
        "reason": "; ".join(said),
    }


def _lacking(what: str, models: np.ndarray, weight: np.ndarray, which: np.ndarray) -> str:
    """As ``no value under decay (weight 0.12)``."""
    named = ", ".join(f"{m} (weight {weight_text(w)})" for m, w in zip(models[which], weight[which], strict=True))
    return f"{what} under {named}"
