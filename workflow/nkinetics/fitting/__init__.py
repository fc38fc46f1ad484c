"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.profiles import Fitted, analyse

__all__ = ["Fitted", "analyse"]
