"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.profiles import Fitted, Profile, analyse, profiles
from nkinetics.fitting.sensitivity import over_ranges, sensitivity

__all__ = ["Fitted", "Profile", "analyse", "over_ranges", "profiles", "sensitivity"]
