"""How much a fit owes to a constant that the configuration fixes: the model refitted over a range of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from nkinetics.columns import CONSTANT_SENSITIVITY
from nkinetics.errors import InputError, Problem
from nkinetics.fitting.profiles import assay_profiles, under
from nkinetics.plugins import discover
from nkinetics.settings import Models
from nkinetics.store import complete

KEY = ("patient_id", "assay", "specimen", "model")
POINTS = 6
"""Values over a configured range; the fixed value itself is always among them."""


def ranges(constants: Any) -> dict[str, tuple[float, float]]:
    """Constants of a model that have a configured range, with it.

    Parameters
    ----------
    constants : pydantic model
        The model's own settings: ``width_range`` is the range of ``width``.

    Examples
    --------
    >>> ranges(Models().constants("rejection"))
    {'width': (0.5, 3.0), 't_rejection': (10.0, 21.0)}
    """
    fields = type(constants).model_fields
    return {name: getattr(constants, f"{name}_range") for name in fields if f"{name}_range" in fields}


def sensitivity(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    settings: Models | None = None,
    *,
    model: str,
    constant: str,
    values: Sequence[float] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Fits of one model to every profile with one of its constants at several values.

    Parameters
    ----------
    observations, infusions, cytokines, settings
        As for `nkinetics.fitting.analyse`.
    model : str
        As cytokine_window.
    constant : str
        As width.
    values : sequence of float, optional
        Values of the constant; by default `POINTS` of them, evenly over its configured range, and the fixed value.
    **options
        `blq`, `patients` and `reference_dose` of `nkinetics.fitting.analyse`.

    Returns
    -------
    DataFrame
        One row for each profile and value: patient_id, assay, specimen, model, constant, value, fixed (whether this is
        the value of the configuration), converged, log_likelihood, aicc, an estimate of each parameter of the curve and
        sigma [unit of the parameter], level_unit, reason. AICc does not count the constant as a parameter. Where the
        model could not be fitted the numbers are empty and the reason says why.

    Raises
    ------
    InputError
        When the model has no such constant with a range, or a value is outside what the configuration allows.

    Examples
    --------
    >>> rows = pd.DataFrame(
    ...     {"patient_id": "01", "time_actual": [1.0, 2, 3, 5, 8, 11], "level": [810.0, 640, 940, 350, 190, 90],
    ...      "status": "quantified", "lloq": 50.0}
    ... )
    >>> pulses = pd.DataFrame({"patient_id": ["01"], "agent": ["IL-2"], "time": [2.0]})
    >>> found = sensitivity(rows, None, pulses, model="cytokine_window", constant="width", values=[1.0, 2.0])
    >>> found[["value", "fixed"]].to_numpy().tolist()
    [[1.0, False], [2.0, False]]
    """
    settings = settings or Models()
    own = _constants(settings, model, constant)
    grid = np.append(np.linspace(*ranges(own)[constant], POINTS), getattr(own, constant))
    values = np.unique(np.asarray(grid if values is None else values, dtype=float)).tolist()
    (frame,) = _refitted([(model, constant, values)], observations, infusions, cytokines, settings, options)
    return frame


def over_ranges(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    cytokines: pd.DataFrame | None = None,
    settings: Models | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Every candidate with a fixed constant that has a range, refitted over it: the table constant_sensitivity.

    Parameters
    ----------
    observations, infusions, cytokines, settings
        As for `nkinetics.fitting.analyse`; `settings.sensitivity_points` values over each range, none where 0.
    **options
        `blq`, `patients` and `reference_dose` of `nkinetics.fitting.analyse`.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.CONSTANT_SENSITIVITY`. A profile that a model cannot be fitted to keeps its rows, with the
        reason; without a candidate that has such a constant there is no row.

    Examples
    --------
    >>> rows = pd.DataFrame(
    ...     {"patient_id": "01", "time_actual": [1.0, 2, 3, 5, 8], "level": [810.0, 640, 540, 350, 190],
    ...      "status": "quantified", "lloq": 50.0}
    ... )
    >>> len(over_ranges(rows, settings=Models(candidates=("decay",))))
    0
    """
    settings = settings or Models()
    asked = []
    for model in dict.fromkeys(settings.candidates):
        own = settings.constants(model)
        acting = discover("models")[model].fixed(own)
        for constant, (low, high) in ranges(own).items() if settings.sensitivity_points else ():
            # A constant without effect under these settings, or an option left off (a lag of 0), is no assumption.
            if acting.get(constant, (0.0, ""))[0]:
                values = [*np.linspace(low, high, settings.sensitivity_points), getattr(own, constant)]
                asked.append((model, constant, np.unique(np.asarray(values, dtype=float)).tolist()))
    frames = [_long(found) for found in _refitted(asked, observations, infusions, cytokines, settings, options)]
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CONSTANT_SENSITIVITY.names)
    return complete(whole, CONSTANT_SENSITIVITY)


def _long(found: pd.DataFrame) -> pd.DataFrame:
    """One row per parameter, with the AICc against that under the value of the configuration."""
    model = discover("models")[str(found["model"].iloc[0])] if len(found) else None
    units = {p.name: p.unit for p in model.parameters} | {"sigma": ""} if model else {}
    key = list(KEY)
    at_fixed = found[found["fixed"]].set_index(key)["aicc"]
    found = found.assign(
        delta_aicc=found["aicc"].to_numpy() - at_fixed.reindex(pd.MultiIndex.from_frame(found[key])).to_numpy()
    )
    kept = [*key, "constant", "value", "fixed", "converged", "log_likelihood", "delta_aicc", "reason", "level_unit"]
    long = found.melt(id_vars=kept, value_vars=list(units), var_name="parameter", value_name="estimate")
    unit = long["parameter"].map(units)
    return long.assign(unit=unit.where(unit != "level_unit", long["level_unit"])).drop(columns="level_unit")


def _constants(settings: Models, model: str, constant: str) -> Any:
    """The constants of a model, if it has this one as a number with a range."""
    known = discover("models")
    if model not in known:
        raise InputError(
            Problem("sensitivity", found=f"no model {model}", expected=f"one of {', '.join(known)}", mend="correct it")
        )
    own = settings.constants(model)
    if constant not in ranges(own):
        offered = ", ".join(ranges(own)) or "none"
        raise InputError(
            Problem(
                "sensitivity",
                found=f"no constant {constant} of the model {model} that has a range",
                expected=f"one of: {offered}",
                mend="correct it",
            )
        )
    return own


def _with(settings: Models, own: Any, model: str, constant: str, value: float) -> Models:
    """The same settings with one constant of one model at another value; intervals by the cheap method."""
    changed: Mapping[str, Any] = {**own.model_dump(), constant: value}
    try:
        return Models(**{**settings.model_dump(), "interval": "delta", "profile_points": 0, model: changed})
    except ValidationError as error:
        raise InputError(
            Problem(
                "sensitivity",
                found=f"{constant} of the model {model} at {value:g}",
                expected="a value that the configuration allows",
                mend=str(error.errors()[0]["msg"]),
            )
        ) from None


def _refitted(
    asked: Sequence[tuple[str, str, Sequence[float]]],
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None,
    cytokines: pd.DataFrame | None,
    settings: Models,
    options: Mapping[str, Any],
) -> list[pd.DataFrame]:
    """Rows of each model and constant asked for, over their values; all values are fitted side by side."""
    changed = [
        (model, constant, value, _with(settings, settings.constants(model), model, constant, value))
        for model, constant, values in asked
        for value in values
    ]
    if not changed:
        return []
    profiles = assay_profiles(observations, infusions, cytokines, **options)
    cases = [(discover("models")[model], chosen.constants(model), chosen) for model, _, _, chosen in changed]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (model, constant, value, _), fitted in zip(changed, under(profiles, cases), strict=True):
        fixed = value == getattr(settings.constants(model), constant)
        own = rows.setdefault((model, constant), [])
        for fit, estimates in fitted:
            found = {e["parameter"]: e["estimate"] for e in estimates if e["kind"] == "fitted"}
            own.append({**fit, **found, "constant": constant, "value": value, "fixed": fixed})
    frames = []
    for (model, _), own in rows.items():
        names = [*discover("models")[model].names, "sigma"]
        order = [*KEY, "constant", "value", "fixed", "converged", "log_likelihood", "aicc", *names, "level_unit"]
        frame = pd.DataFrame(own, columns=[*order, "reason"])
        frames.append(frame.sort_values([*KEY, "value"], kind="stable", ignore_index=True))
    return frames
