"""Units of the package, from one place: the controlled terminology knows no day unit for an area, so hours stand there.

Every value of the results is in days; `standard` gives the term and the factor for each unit of nca.csv.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HOURS_PER_DAY = 24.0
"""The one factor between results (days) and package (hours): times x 24, rates / 24, areas x 24, AUMC x 24^2."""

LEVELS: Mapping[str, str] = {
    "copies/ug": "DNA copies/ug",
    "copies/mL": "DNA copies/mL",
    "copies/uL": "copies/uL",
    "copies/cell": "DNA copies/cell",
    "cells/uL": "cells/uL",
    "%": "%",
}
"""Term of each unit of a level."""

PER_AMOUNT: Mapping[str, tuple[str, float]] = {"cells": ("10^9 cells", 1e9), "(cells/kg)": ("10^6 cells/kg", 1e6)}
"""Amount of cells by which a value is normalised, and the number of cells in it; no controlled term exists."""


def standard(unit: str) -> tuple[str, float]:
    """Term of the package for a unit of the results, and the factor of its values.

    Parameters
    ----------
    unit : str
        As in nca.csv: d, 1/d, copies/ug, d*copies/ug, d^2*copies/ug, d*copies/ug/cells, %, or empty.

    Returns
    -------
    term : str
        Unit of the package; empty for a plain number.
    factor : float
        Value in that unit divided by the value in `unit`.

    Raises
    ------
    KeyError
        For a unit that the results never have.

    Examples
    --------
    >>> standard("d*copies/ug"), standard("1/d")[0], standard("copies/ug/cells"), standard("")
    (('h*DNA copies/ug', 24.0), '/h', ('DNA copies/ug/10^9 cells', 1000000000.0), ('', 1.0))
    """
    if unit in ("", "%"):
        return unit, 1.0
    if unit == "d":
        return "h", HOURS_PER_DAY
    if unit == "1/d":
        return "/h", 1 / HOURS_PER_DAY
    found = re.fullmatch(r"(d\*|d\^2\*)?(.+?)(?:/(cells|\(cells/kg\)))?", unit)
    if not found:
        raise KeyError(unit)
    prefix, power = {None: ("", 0), "d*": ("h*", 1), "d^2*": ("h2*", 2)}[found[1]]
    term, factor = prefix + LEVELS[found[2]], HOURS_PER_DAY**power
    if found[3]:
        by, cells = PER_AMOUNT[found[3]]
        return f"{term}/{by}", factor * cells
    return term, factor
