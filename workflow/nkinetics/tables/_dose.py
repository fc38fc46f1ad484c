"""What the tables and figures of dose levels share: windows, verdicts and numbers in words."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nkinetics.population.exposure import INFUSION, OVERALL
from nkinetics.results import Results
from nkinetics.wording import Words, missing, significant

VERDICTS: Mapping[str, str] = {
    "dose proportional": "与剂量成比例",
    "not dose proportional": "不与剂量成比例",
    "inconclusive (CI wider than the criterion)": "无法判定（CI 宽于判定标准）",
    "inconclusive (CI crosses a limit of the criterion)": "无法判定（CI 跨越判定界限）",
}
TITLES: Mapping[str, str] = {"cmax": "Cmax", "auc_last": "AUClast", "auc_int": "AUC"}


def exposure_title(words: Words, window: str, parameter: str) -> str:
    """A parameter with its window, as AUC D0–28."""
    title = TITLES.get(parameter, parameter)
    if window == OVERALL:
        return title
    if window == "infusions":
        return words.say(f"{title} of all infusion intervals", f"各输注间期的 {title}")
    number = INFUSION.fullmatch(window)
    if number:
        return words.say(f"{title} after infusion {number[1]}", f"第 {number[1]} 次输注后的 {title}")
    return f"{title} {window.replace('-', '–')}"


def said(words: Words, verdict: str) -> str:
    """A verdict in the language."""
    return words.say(verdict, VERDICTS.get(verdict, verdict))


def number(value: float, digits: int = 3) -> str:
    """A number with the sign as printers set it: a cell that begins with a hyphen would be taken for a formula.

    Examples
    --------
    >>> number(-1.694), number(0.25)
    ('−1.69', '0.250')
    """
    return significant(value, digits).replace("-", "−", 1) if value < 0 else significant(value, digits)


def ends(words: Words, lower: float, upper: float, digits: int = 3) -> str:
    """An interval, in words where an end is open."""
    if missing(lower) and missing(upper):
        return "NC"
    low = words.say("open", "开放") if missing(lower) else number(float(lower), digits)
    high = words.say("open", "开放") if missing(upper) else number(float(upper), digits)
    return words.say(f"{low} to {high}", f"{low} 至 {high}")


def model_based_theta(results: Results) -> pd.DataFrame:
    """Rows of theta_dose in population.csv; none where no population model was fitted."""
    from nkinetics.columns import STAGE_TABLES

    if "population" not in STAGE_TABLES or not results.path("population").exists():
        return pd.DataFrame()
    rows = results.table("population")
    return rows[rows["parameter"] == "theta_dose"]
