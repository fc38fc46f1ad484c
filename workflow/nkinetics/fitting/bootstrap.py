"""Bootstrap estimates themselves, for whatever an interval alone does not answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import fitted
from nkinetics.fitting.profiles import BLOCK, Profile, assay_profiles, unfittable
from nkinetics.fitting.resampling import Resampled, derived_values, resampled, seed_of
from nkinetics.fitting.together import Steps, together
from nkinetics.plugins import discover
from nkinetics.settings import Blq, Models

COLUMNS = ("patient_id", "assay", "specimen", "model", "sample", "parameter", "value")


def bootstrap(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    settings: Models | None = None,
    blq: Blq | None = None,
    *,
    models: tuple[str, ...] | None = None,
    reference_dose: float | None = None,
) -> pd.DataFrame:
    """Parameters and derived quantities of every profile and model, refitted to data simulated from its fit.

    Parameters
    ----------
    observations, infusions, cytokines, settings, blq, models, reference_dose
        As for `nkinetics.fitting.analyse`; `bootstrap_samples` and `bootstrap_starts` of the settings count, whatever
        its `interval`.

    Returns
    -------
    DataFrame
        patient_id, assay, specimen, model, sample (from 0), parameter, value [unit of the parameter as in estimates].
        Samples that could not be fitted and models that cannot be fitted to a profile have no rows; the value of a
        derived quantity that does not exist in a sample is empty.

    Notes
    -----
    Percentiles of a parameter over the samples are its interval under ``models.interval: bootstrap``, as long as they
    enclose the estimate. That of sigma is not: see `nkinetics.fitting.resampling`.

    Examples
    --------
    >>> rows = pd.DataFrame(
    ...     {"patient_id": "01", "time_actual": [1.0, 2, 3, 5, 8], "level": [810.0, 640, 540, 350, 190],
    ...      "status": "quantified", "lloq": 50.0}
    ... )
    >>> found = bootstrap(rows, settings=Models(bootstrap_samples=100), models=("decay",))
    >>> delta = found.loc[found["parameter"] == "delta", "value"]
    >>> len(delta), bool(delta.quantile(0.025) < 0.206 < delta.quantile(0.975))
    (100, True)
    """
    settings, blq = settings or Models(), blq or Blq()
    known = [(discover("models")[name], settings.constants(name)) for name in models or settings.candidates]
    whole = assay_profiles(observations, infusions, cytokines, blq, None, reference_dose)
    frames = []
    for begin in range(0, len(whole), BLOCK):
        pairs = [
            (profile, Case(model, constants, profile.calendar, profile.points))
            for profile in whole[begin : begin + BLOCK]
            for model, constants in known
            if profile.calendar is not None and not unfittable(profile, model, constants)
        ]
        frames += together([_one(profile, case, settings) for profile, case in pairs])
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=float if name == "value" else object) for name in COLUMNS})
    return pd.concat(frames, ignore_index=True)


def _one(profile: Profile, case: Case, settings: Models) -> Steps[pd.DataFrame]:
    optimum = yield from fitted(case)
    random = seed_of(*profile.key.values(), case.model.name)
    again = resampled(case, optimum, profile.design, settings.bootstrap_samples, settings.bootstrap_starts, random)
    return _long(profile, case, again)


def _long(profile: Profile, case: Case, again: Resampled) -> pd.DataFrame:
    """One row for each sample and parameter."""
    natural = case.natural(again.vectors)
    columns = dict(zip(case.names, natural.T, strict=True))
    for name, value in derived_values(case, again, profile.lloq).items():
        columns[name] = np.where(np.isfinite(value), value, np.nan)
    return pd.DataFrame(
        {
            **profile.key,
            "model": case.model.name,
            "sample": np.repeat(again.sample, len(columns)),
            "parameter": np.tile(np.array(list(columns), dtype=object), len(natural)),
            "value": np.stack(list(columns.values()), axis=-1).ravel(),
        },
        columns=COLUMNS,
    )
