"""One patient: likelihood, starts, intervals, identifiability."""
