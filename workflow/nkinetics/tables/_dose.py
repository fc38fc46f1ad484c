"""What the tables of dose levels share: intervals in words, and the slope of the population model."""

from __future__ import annotations

import pandas as pd

from nkinetics.results import Results
from nkinetics.wording import Words, missing, signed


def ends(words: Words, lower: float, upper: float, digits: int = 3) -> str:
    """An interval, in words where an end is open."""
    if missing(lower) and missing(upper):
        return "NC"
    low = words.say("open", "开放") if missing(lower) else signed(float(lower), digits)
    high = words.say("open", "开放") if missing(upper) else signed(float(upper), digits)
    return words.say(f"{low} to {high}", f"{low} 至 {high}")


def model_based_theta(results: Results) -> pd.DataFrame:
    """Rows of theta_dose in population.csv; none where no population model was fitted."""
    from nkinetics.columns import STAGE_TABLES

    if "population" not in STAGE_TABLES or not results.path("population").exists():
        return pd.DataFrame()
    rows = results.table("population")
    return rows[rows["parameter"] == "theta_dose"]
