"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.profiles import Fitted, analyse
from nkinetics.fitting.sensitivity import over_ranges, sensitivity

__all__ = ["Fitted", "analyse", "over_ranges", "sensitivity"]
