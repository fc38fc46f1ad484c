"""Which structure describes the study: candidates estimated on the same rows, compared by what the method allows.

By the posterior where Bayes is primary (leave-one-out, with the error of the difference), else by BIC with the
Monte-Carlo error of the likelihood. Where candidates cannot be told apart the one with fewer parameters is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import (
    INDIVIDUALS,
    POPULATION,
    POPULATION_COMPARISON,
    POPULATION_DRAWS,
    POPULATION_POINTS,
    POPULATION_PREDICTIONS,
    POPULATION_TRACES,
    POPULATION_VPC,
    Schema,
)
from nkinetics.plugins import discover
from nkinetics.population.estimation import Estimated, analyse
from nkinetics.population.study import check_names
from nkinetics.settings import Blq, Models, Population
from nkinetics.store import complete

BIC_APART = 2.0
"""BIC differences below this tell nothing."""
ELPD_ERRORS = 2.0
"""A candidate so many standard errors below the best is worse."""
ELPD_APART = 2.0
"""Differences of the predictive density below this tell nothing."""


@dataclass(frozen=True, eq=False)
class Compared:
    """All candidates.

    Parameters
    ----------
    comparison : DataFrame
        Canonical table population_comparison.
    estimated : Estimated
        Tables of all candidates, one below the other.
    chosen : str
        Model; empty where none could be fitted.
    """

    comparison: pd.DataFrame
    estimated: Estimated
    chosen: str


def compare(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    patients: pd.DataFrame | None = None,
    settings: Population | None = None,
    models: Models | None = None,
    blq: Blq | None = None,
    methods: Sequence[str] | None = None,
    reference_dose: float | None = None,
) -> Compared:
    """Estimate every candidate and choose; arguments as for `nkinetics.population.analyse`."""
    settings, models = settings or Population(), models or Models()
    names = settings.candidates or models.candidates
    # The configuration's own structure stands in the comparison.
    names = tuple(dict.fromkeys([settings.model or models.default, *names]))
    # A name that some candidate has is left out of the others; one that none has is a mistake.
    check_names([discover("models")[name] for name in names], settings, patients)
    done = {
        name: analyse(
            observations,
            infusions,
            cytokines,
            patients,
            settings=without_strangers(settings, name, models),
            models=models,
            blq=blq,
            model=name,
            methods=methods,
            reference_dose=reference_dose,
        )
        for name in names
    }
    rows, chosen = _rows(done)
    frame = pd.DataFrame(rows, columns=list(POPULATION_COMPARISON.names))
    return Compared(complete(frame, POPULATION_COMPARISON), _joined(list(done.values())), chosen)


def without_strangers(settings: Population, model: str, models: Models) -> Population:
    """The settings without what names parameters that this candidate does not have."""
    own = {*discover("models")[model].names, "theta_dose"}
    return settings.model_copy(
        update={
            "fixed": {k: v for k, v in settings.fixed.items() if k in own},
            "priors": {k: v for k, v in settings.priors.items() if k in own},
            "no_variability": tuple(k for k in settings.no_variability if k in own),
            "correlated": tuple(b for b in settings.correlated if set(b) <= own),
            "covariates": tuple(
                c for c in settings.covariates if " on " not in c or c.partition(" on ")[2].strip() in own
            ),
        }
    )


def _rows(done: dict[str, Estimated]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the comparison, and the model that the primary method chooses."""
    rows: list[dict[str, Any]] = []
    for name, made in done.items():
        for fit in made.fit["fits"]:
            rows.append(
                {
                    **{k: fit.get(k) for k in ("assay", "specimen", "method", "n_patients", "n_obs")},
                    **{k: fit.get(k, np.nan) for k in ("log_likelihood", "log_likelihood_error", "aic", "bic")},
                    "model": name,
                    "converged": bool(fit["converged"]),
                    "n_parameters": fit.get("n_parameters"),
                    "elpd_loo": fit.get("elpd_loo", np.nan),
                    "doubtful_rows": fit.get("elpd_loo_doubtful_rows"),
                    "chosen": False,
                    "reason": fit["reason"],
                    "primary": fit["method"] == made.fit["primary"],
                }
            )
    chosen = ""
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        best = _choose(own, {n: m.left_out.get(method) for n, m in done.items()})
        if best is not None:
            best["chosen"] = True
            if best["primary"]:
                chosen = str(best["model"])
    return rows, chosen


def _choose(rows: list[dict[str, Any]], left_out: dict[str, np.ndarray | None]) -> dict[str, Any] | None:
    """Differences among the candidates of one method, and the one to take."""
    usable = [r for r in rows if np.isfinite(r["bic"])]
    if not usable:
        return None
    most = max(r["n_obs"] for r in usable)
    for r in usable:
        if r["n_obs"] != most:
            r["reason"] = "; ".join(filter(None, [r["reason"], "not compared: not the same rows as the others"]))
    usable = [r for r in usable if r["n_obs"] == most]
    least = min(r["bic"] for r in usable)
    for r in usable:
        r["delta_bic"] = r["bic"] - least
    trusted = [r for r in usable if r["converged"]] or usable
    each = {r["model"]: left_out.get(r["model"]) for r in trusted}
    if all(v is not None for v in each.values()):
        top = max(trusted, key=lambda r: r["elpd_loo"])
        for r in usable:
            mine, best = left_out[r["model"]], each[top["model"]]
            assert mine is not None and best is not None
            r["delta_elpd"] = float((mine - best).sum())
            r["delta_elpd_error"] = float(np.sqrt(len(mine) * (mine - best).var()))
        equal = [r for r in trusted if -r["delta_elpd"] <= max(ELPD_APART, ELPD_ERRORS * r["delta_elpd_error"])]
        word = "leave-one-out"
    else:
        low = min(trusted, key=lambda r: r["bic"])
        equal = [
            r
            for r in trusted
            if r["bic"] - low["bic"]
            <= BIC_APART + 2.0 * 2.0 * float(np.hypot(r["log_likelihood_error"], low["log_likelihood_error"]))
        ]
        word = "BIC"
    best_row = min(equal, key=lambda r: (r["n_parameters"], r["bic"]))
    if len(rows) == 1:
        told = "the only model estimated"
    elif len(equal) > 1:
        others = ", ".join(sorted(r["model"] for r in equal if r is not best_row))
        told = f"chosen by {word}: not to be told apart from {others}, fewest parameters"
    else:
        told = f"chosen by {word}"
    best_row["reason"] = "; ".join(filter(None, [best_row["reason"], told]))
    return best_row


_TABLES: dict[str, Schema] = {
    "population": POPULATION,
    "individuals": INDIVIDUALS,
    "predictions": POPULATION_PREDICTIONS,
    "points": POPULATION_POINTS,
    "traces": POPULATION_TRACES,
    "draws": POPULATION_DRAWS,
    "vpc": POPULATION_VPC,
}


def _joined(parts: list[Estimated]) -> Estimated:
    """Tables one below the other, sorted."""
    frames = {
        f.name: complete(pd.concat([getattr(p, f.name) for p in parts], ignore_index=True), _TABLES[f.name])
        for f in fields(Estimated)
        if f.name in _TABLES
    }
    first = parts[0].fit
    fits = [fit for p in parts for fit in p.fit["fits"]]
    constants = {p.fit["fits"][0]["model"]: p.fit["constants"] for p in parts}
    return replace(parts[0], **frames, fit={**first, "constants": constants, "fits": fits}, left_out={})
