"""What was given, and what a level is held against: amounts of the infusions, their unit, the limit of `time_above`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.errors import InputError, Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNKNOWN_AMOUNT = 1.0
"""How `nkinetics.inputs.assumed_infusions` writes an amount that nobody gave: no infusion has one cell."""


def amounts(table: pd.DataFrame, infusions: pd.DataFrame | None, numbers: Ints, starts: Floats) -> Floats:
    """Amount of each infusion of each profile.

    Parameters
    ----------
    table : DataFrame
        Profiles, by patient_id.
    infusions : DataFrame or None
        As `nkinetics.columns.INFUSIONS`; ``given``, where empty ``planned``.
    numbers : array of int [profiles, infusions]
        Number of each infusion in that table.
    starts : array [profiles, infusions; d]
        Infinity where there is none.

    Returns
    -------
    array [profiles, infusions; dose unit]
        NaN where unknown, and where there is no infusion.

    Examples
    --------
    >>> given = pd.DataFrame({"patient_id": "01", "infusion": [1, 2], "planned": 2e9, "given": [1.9e9, np.nan]})
    >>> amounts(given[["patient_id"]][:1], given, np.array([[1, 2, 0]]), np.array([[0, 3, np.inf]])).tolist()
    [[1900000000.0, 2000000000.0, nan]]
    """
    out = np.full(numbers.shape, np.nan)
    if infusions is None or not len(infusions) or not {"given", "planned"} & set(infusions.columns):
        return out
    columns = [infusions[c].to_numpy(dtype=float, na_value=np.nan) for c in ("given", "planned") if c in infusions]
    amount = np.where(np.isnan(columns[0]), columns[-1], columns[0])
    amount[amount == UNKNOWN_AMOUNT] = np.nan
    number = infusions["infusion"].to_numpy(dtype=np.int64)
    width = int(max(number.max(), numbers.max(initial=0))) + 1
    owner, people = pd.factorize(infusions["patient_id"])
    key = owner * width + number
    order = np.argsort(key, kind="stable")
    wanted = pd.Index(people).get_indexer(table["patient_id"])[:, None] * width + numbers
    place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
    found = (key[order][place] == wanted) & np.isfinite(starts)
    return np.where(found, amount[order][place], out)


def dose_unit(infusions: pd.DataFrame | None) -> str:
    """Unit of the amounts; cells where none is said.

    Raises
    ------
    InputError
        For several units: values divided by the amount could not be compared.
    """
    said = [] if infusions is None or "unit" not in infusions else [u for u in pd.unique(infusions["unit"]) if u]
    if len(said) > 1:
        found = f"amounts in {' and '.join(sorted(map(str, said)))}"
        raise InputError(Problem("infusions", None, "unit", found, "one unit in a study", "convert the amounts"))
    return str(said[0]) if said else "cells"


def above_limits(table: pd.DataFrame, limit: float | Mapping[Any, float] | None) -> Floats:
    """The limit of `time_above` of each profile, by the unit of its levels; NaN where none is configured.

    Raises
    ------
    InputError
        For one number in a study with several units.

    Examples
    --------
    >>> above_limits(pd.DataFrame({"level_unit": ["copies/ug", "cells/uL"]}), {"copies/ug": 1000.0}).tolist()
    [1000.0, nan]
    """
    if limit is None:
        return np.full(len(table), np.nan)
    if isinstance(limit, Mapping):
        return table["level_unit"].map(dict(limit)).to_numpy(dtype=float, na_value=np.nan)
    units = [str(u) for u in pd.unique(table["level_unit"]) if u]
    if len(units) > 1:
        found = f"one limit, {limit:g}, for levels in {', '.join(sorted(units))}"
        mend = "write nca.above_limit by unit, as {copies/ug: 1000}"
        raise InputError(Problem("config.yaml", None, "nca.above_limit", found, "a limit by unit", mend))
    return np.full(len(table), float(limit))
