"""Parameters of the non-compartmental analysis as the tables and the brief show them: which, named how, worth what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, reportable
from nkinetics.wording import days, missing, significant, treated


@dataclass(frozen=True)
class Shown:
    """One parameter of a table.

    Parameters
    ----------
    parameter, window : str
        Key in nca.csv.
    title : mapping
        Name by language.
    is_time : bool
        A time, summarised by median and range, never by a geometric mean.
    bound : {"", "level", "area"}
        Whether a patient without a quantified level is known to lie below a bound, and of which kind.
    strict : bool
        A value that carries a reason (a half-life outside the acceptance limits) is left out of summaries.
    """

    parameter: str
    window: str
    title: Mapping[str, str]
    is_time: bool = False
    bound: str = ""
    strict: bool = False


OUTSIDE = "outside acceptance"
"""Words with which the analysis begins the reason of a value outside the acceptance limits."""

AUC_WINDOW = "D0-28"
PARAMETERS = (
    Shown("cmax", "overall", {"en": "Cmax", "zh": "Cmax"}, bound="level"),
    Shown("tmax", "overall", {"en": "Tmax", "zh": "Tmax"}, is_time=True),
    Shown("auc_last", "overall", {"en": "AUClast", "zh": "AUClast"}, bound="area"),
    Shown("auc_int", AUC_WINDOW, {"en": "AUC D0–28", "zh": "AUC D0–28"}, bound="area"),
    Shown("half_life", "overall", {"en": "Half-life (λz)", "zh": "半衰期（λz）"}, is_time=True, strict=True),
    Shown("clast", "overall", {"en": "Clast", "zh": "Clast"}),
    Shown("tlast", "overall", {"en": "Tlast", "zh": "Tlast"}, is_time=True),
    Shown("t_blq", "overall", {"en": "Time to loss (t_blq)", "zh": "降至定量限以下的时间（t_blq）"}, is_time=True),
)
BY_NAME = {p.parameter: p for p in PARAMETERS}


def values(results: Results, shown: Shown, assay: str, specimen: str) -> pd.DataFrame:
    """One row per patient of the study: value, unit and reason of a parameter.

    A patient whom nca.csv does not know has an empty value and a reason that says so.
    """
    rows = results.rows("nca", assay=assay, specimen=specimen, parameter=shown.parameter, window=shown.window)
    frame = results.patients[["patient_id", "dose_level"]].merge(
        rows[["patient_id", "value", "unit", "reason"]], on="patient_id", how="left", validate="one_to_one"
    )
    unknown = frame["reason"].isna()
    return frame.assign(
        reason=frame["reason"].where(~unknown, "no row of this patient in nca.csv"),
        unit=frame["unit"].where(~unknown, ""),
    )


def printed(shown: Shown, value: float) -> str:
    """A parameter's value as printed: times 2 decimals, others 3 significant figures, NC where empty."""
    if math.isnan(value):
        return NOT_CALCULABLE
    return days(value) if shown.is_time else significant(value)


def summarised(shown: Shown, frame: pd.DataFrame) -> pd.Series:
    """Which rows of `values` enter a summary."""
    filled = frame["value"].notna()
    return filled & ~frame["reason"].str.contains(OUTSIDE, regex=False) if shown.strict else filled


def bounds(results: Results, context: Context, shown: Shown, assay: str, specimen: str) -> dict[str, float]:
    """Upper bound of each patient who was sampled and never quantified: the lowest LLOQ, for areas times the window.

    Patients without any reportable sample are not among them: nothing is known about their level.
    """
    rows = reportable(results)
    rows = rows[(rows["assay"] == assay) & (rows["specimen"] == specimen)]
    # Whoever received no cells is no patient in whom they were too few to be quantified.
    rows = rows[rows["patient_id"].isin(treated(results)["patient_id"])]
    never = ~rows["patient_id"].isin(rows.loc[rows["status"] == "quantified", "patient_id"])
    post = rows[never & (rows["time_actual"] > 0)].groupby("patient_id")
    found = {}
    for patient, lowest, last in zip(post.groups, post["lloq"].min(), post["time_actual"].max(), strict=True):
        if missing(lowest):
            continue
        # A window that is configured has a length; to Tlast there is none, and follow-up takes its place.
        length = float(last) if shown.window == "overall" else _length(shown.window)
        found[str(patient)] = float(lowest) * (length if shown.bound == "area" else 1.0)
    return found


def _length(window: str) -> float:
    start, end = window.removeprefix("D").split("-")
    return float(end) - float(start)


def reason_words(shown: Shown, frame: pd.DataFrame) -> dict[str, str]:
    """Reasons of the patients whose value is missing or left out of the summary, not the notes beside a value."""
    left_out = frame[~summarised(shown, frame)]
    return {str(row.patient_id): str(row.reason) for row in left_out.itertuples() if not missing(row.reason)}
