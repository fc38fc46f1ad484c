"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.bootstrap import bootstrap
from nkinetics.fitting.profiles import Fitted, Profile, analyse, assay_profiles
from nkinetics.fitting.sensitivity import over_ranges, sensitivity

__all__ = ["Fitted", "Profile", "analyse", "assay_profiles", "bootstrap", "over_ranges", "sensitivity"]
