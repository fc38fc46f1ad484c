"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.profiles import Fitted, Profile, analyse, profiles
from nkinetics.fitting.sensitivity import sensitivity

__all__ = ["Fitted", "Profile", "analyse", "profiles", "sensitivity"]
