"""One patient: likelihood, starts, intervals, identifiability."""

from nkinetics.fitting.bootstrap import bootstrap
from nkinetics.fitting.profiles import Fitted, analyse
from nkinetics.fitting.sensitivity import sensitivity

__all__ = ["Fitted", "analyse", "bootstrap", "sensitivity"]
