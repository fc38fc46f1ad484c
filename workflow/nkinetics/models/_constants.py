"""Types that the settings of several models share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] < value[1]:
        raise ValueError("a range is [low, high] with 0 <= low < high")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
"""Range of the constant of the same name without ``_range``, over which `nkinetics.fitting.sensitivity` refits."""
