"""Exposure of every treated patient beside the amount given: a value, or the bound below which it is known to lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nkinetics.nca.doses import UNKNOWN_AMOUNT
from nkinetics.population.detectability import RESULTS, above

if TYPE_CHECKING:
    from nkinetics.results import Results

VALUE, BELOW, ABSENT = "value", "below", "absent"
"""What is known of a patient's exposure: its value; that no sample was quantified; nothing."""

OVERALL = "overall"
INFUSION = re.compile(r"infusion_(\d+)")
NAMED = re.compile(r"D[\d.]+-[\d.]+")
AREAS = ("auc_last", "auc_int")
EXPOSURES = ("cmax", *AREAS)
"""Parameters of nca.csv of which everything here is made: their rows are all that is needed of that table."""


def exposed(results: Results) -> pd.DataFrame:
    """Rows of nca.csv of which exposures are made; read once, and from the file where the table is not held."""
    return results.once("rows of exposures", lambda own: own.rows("nca", hold=False, parameter=EXPOSURES))


def people(nca: pd.DataFrame, patients: pd.DataFrame | None, infusions: pd.DataFrame | None) -> pd.DataFrame:
    """Patients who received at least one infusion (everyone where none is recorded), by dose level and id.

    Returns
    -------
    DataFrame
        patient_id, dose_level.
    """
    known = nca[["patient_id", "dose_level"]].drop_duplicates("patient_id")
    if patients is not None:
        listed = patients[["patient_id", "dose_level"]].drop_duplicates("patient_id")
        known = pd.concat([listed, known[~known["patient_id"].isin(listed["patient_id"])]])
    if infusions is not None and len(infusions):
        known = known[known["patient_id"].isin(infusions.loc[_amount(infusions) > 0, "patient_id"])]
    return known.sort_values(["dose_level", "patient_id"], ignore_index=True)


def _amount(infusions: pd.DataFrame, column: str = "given") -> pd.Series:
    """Amount of each infusion; what was planned where nobody wrote what was given."""
    amount = infusions["planned"] if column == "planned" else infusions[column].fillna(infusions["planned"])
    return amount.where(amount != UNKNOWN_AMOUNT).astype("float64")


def planned_amounts(patients: pd.DataFrame, infusions: pd.DataFrame | None) -> dict[str, float]:
    """Median planned amount of one infusion of each dose level [dose unit]; NaN where nobody planned one.

    Examples
    --------
    >>> who = pd.DataFrame({"patient_id": ["01", "02"], "dose_level": ["DL1", "DL2"]})
    >>> given = pd.DataFrame({"patient_id": ["01", "01", "02"], "planned": [2e9, 2e9, 4e9]})
    >>> planned_amounts(who, given)
    {'DL1': 2000000000.0, 'DL2': 4000000000.0}
    """
    levels = sorted(set(patients["dose_level"]))
    if infusions is None or not len(infusions):
        return dict.fromkeys(levels, float("nan"))
    amounts = infusions.assign(amount=_amount(infusions, "planned"))[["patient_id", "amount"]]
    medians = patients.merge(amounts, on="patient_id").groupby("dose_level")["amount"].median()
    return {d: float(medians.get(d, np.nan)) for d in levels}


def exposures(
    nca: pd.DataFrame,
    observations: pd.DataFrame,
    wanted: Iterable[tuple[str, str]],
    patients: pd.DataFrame | None = None,
    infusions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One row per treated patient, assay, specimen and wanted exposure.

    Parameters
    ----------
    nca, observations : DataFrame
        As `nkinetics.columns.NCA` and `OBSERVATIONS`.
    wanted : iterable of (window, parameter)
        Exposures, as ("overall", "cmax").
    patients, infusions : DataFrame, optional
        As `nkinetics.columns.PATIENTS` and `INFUSIONS`.

    Returns
    -------
    DataFrame
        patient_id, dose_level, assay, specimen, window, parameter, value [unit], unit, reason, amount [dose unit],
        state, bound [unit]. `amount` is what was given in the window: of an infusion's window that infusion, else the
        sum of all infusions that started before the end of the window (as ``cmax_dose_norm``); NaN where unknown.
        `state` is "below" for a patient who was sampled in the window and never quantified: the exposure is then known
        to lie below `bound`, the lowest LLOQ of the samples, for areas times the length of the window (of follow-up
        where the window is open).
    """
    who = people(nca, patients, infusions)
    asked = pd.DataFrame(sorted(set(wanted)), columns=["window", "parameter"])
    kinds = nca.loc[nca["assay"] != "", ["assay", "specimen"]].drop_duplicates().sort_values(["assay", "specimen"])
    key = ["patient_id", "assay", "specimen", "window", "parameter"]
    frame = who.merge(kinds, how="cross").merge(asked, how="cross")
    kept = nca[nca["parameter"].isin(asked["parameter"]) & nca["window"].isin(asked["window"])]
    frame = frame.merge(kept[[*key, "value", "unit", "reason", "window_start", "window_end"]], on=key, how="left")
    frame["reason"] = frame["reason"].fillna("no row of this patient in nca.csv")
    units = kept[kept["unit"] != ""].drop_duplicates(["assay", "specimen", "parameter"])
    units = units.set_index(["assay", "specimen", "parameter"])["unit"]
    by_kind = pd.MultiIndex.from_frame(frame[["assay", "specimen", "parameter"]])
    frame["unit"] = pd.Series(units.reindex(by_kind).to_numpy(), index=frame.index).fillna("").astype("str")
    frame = _with_amounts(_with_windows(frame, kept), infusions)
    return _with_bounds(frame, observations).drop(columns=["window_start", "window_end"])


def _with_windows(frame: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Start and end of each window, also of a patient without a row in nca.csv; an open end is infinite."""
    fixed = kept[~kept["window"].str.match(INFUSION)].groupby("window")[["window_start", "window_end"]].max()
    for column in ("window_start", "window_end"):
        frame[column] = frame[column].fillna(frame["window"].map(fixed[column]))
    frame["window_end"] = frame["window_end"].where(~(frame["window"] == OVERALL), np.inf)
    return frame


def _with_amounts(frame: pd.DataFrame, infusions: pd.DataFrame | None) -> pd.DataFrame:
    if infusions is None or not len(infusions):
        return frame.assign(amount=np.nan)
    given = infusions.assign(amount=_amount(infusions))[["patient_id", "infusion", "time", "amount"]]
    windows = frame[["patient_id", "window", "window_end"]].drop_duplicates(["patient_id", "window"])
    number = pd.to_numeric(windows["window"].str.extract(INFUSION, expand=False)).astype("Float64")
    every = windows.assign(number=number).merge(given, on="patient_id", how="left")
    own = (every["number"] == every["infusion"].astype("Float64")).fillna(False).astype(bool)
    before = every["number"].isna() & (every["time"].fillna(0.0) < every["window_end"].fillna(np.inf))
    inside = every[(own | before) & every["infusion"].notna()]
    # One unknown amount makes the sum unknown: min_count alone would add up the others.
    sums = inside.groupby(["patient_id", "window"])["amount"].agg(lambda x: x.sum(skipna=False))
    at = pd.MultiIndex.from_frame(frame[["patient_id", "window"]])
    amount = sums.reindex(at).to_numpy(dtype=float)
    return frame.assign(amount=np.where(amount > 0, amount, np.nan))


def _with_bounds(frame: pd.DataFrame, observations: pd.DataFrame) -> pd.DataFrame:
    valued = frame["value"].notna() & (frame["value"] > 0)
    measured = observations["reportable"].fillna(True).astype(bool) & observations["status"].isin(RESULTS)
    rows = observations[measured]
    rows = rows.assign(
        at=rows["time_actual"].fillna(rows["time_nominal"]),
        over=above(rows, "lloq").fillna(True).astype(bool),
    )[["patient_id", "assay", "specimen", "at", "lloq", "over"]]
    lacking = frame.loc[~valued, ["patient_id", "assay", "specimen", "window_start", "window_end"]]
    lacking = lacking.reset_index(names="row").merge(rows, on=["patient_id", "assay", "specimen"])
    lacking = lacking[(lacking["at"] > lacking["window_start"]) & (lacking["at"] <= lacking["window_end"])]
    seen = lacking.groupby("row").agg(over=("over", "any"), lloq=("lloq", "min"), last=("at", "max"))
    seen = seen.reindex(frame.index)
    end = np.where(np.isfinite(frame["window_end"].to_numpy(dtype=float)), frame["window_end"], seen["last"])
    length = np.where(frame["parameter"].isin(AREAS), end - frame["window_start"].to_numpy(dtype=float), 1.0)
    below = ~valued & (seen["over"] == False) & (seen["lloq"] > 0)  # noqa: E712 - missing is neither
    bound = np.where(below, seen["lloq"].to_numpy(dtype=float) * length, np.nan)
    state = np.select([valued, below], [VALUE, BELOW], ABSENT)
    return frame.assign(value=frame["value"].where(valued), bound=bound, state=state)
