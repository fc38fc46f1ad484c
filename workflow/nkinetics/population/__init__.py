"""Dose levels and the study."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """`analyse` and `Estimated`, loaded when asked for: the statistics beside them need none of it."""
    if name in ("analyse", "Estimated"):
        return getattr(import_module("nkinetics.population.estimation"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
