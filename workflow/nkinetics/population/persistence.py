"""Persistence of the cells: each patient's loss with its censoring, Kaplan-Meier and Turnbull by dose level.

At the LLOQ and at the LOD, apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import PERSISTENCE, PERSISTENCE_PATIENTS, PERSISTENCE_TURNBULL, Schema
from nkinetics.population.turnbull import turnbull
from nkinetics.settings import Statistics
from nkinetics.store import complete

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALL = "all"
LIMITS: Mapping[str, tuple[str, str]] = {"lloq": ("tlast", "t_blq"), "lod": ("tlast_detected", "t_not_detected")}
"""For each limit the parameters that hold the last presence and the loss."""

CENSORED_AT_END = ("death", "withdrawal")
"""Ends of follow-up that censor at their own date; otherwise the last sample with cells does."""

STILL = "still "
"""Beginning of the reason in nca.csv of a loss that is not over: cells in the last sample."""

UNKNOWN_DETECTION = "a level below LLOQ without LOD"
"""Words of the reason in nca.csv by which a profile's detection is not known."""


@dataclass(frozen=True)
class Curve:
    """Kaplan-Meier estimate of one group.

    Parameters
    ----------
    time : array [steps; d]
        0 and every distinct time of a loss or a censoring.
    n_at_risk, n_events, n_censored : arrays of int [steps]
        Just before, and at, each time.
    survival, lower, upper : arrays [steps]
        Share still persisting after each time and its pointwise log-log interval. Where the share is 0 the upper end
        does not exist (NaN).
    median, median_lower, median_upper : float [d]
        First time at which the share, or an end of its interval, is one half or less; NaN where it never is.
    """

    time: Floats
    n_at_risk: NDArray[np.int64]
    n_events: NDArray[np.int64]
    n_censored: NDArray[np.int64]
    survival: Floats
    lower: Floats
    upper: Floats
    median: float
    median_lower: float
    median_upper: float


def kaplan_meier_curve(time: Floats, lost: Bools, confidence: float = 0.95) -> Curve:
    """Kaplan-Meier estimate with pointwise log-log intervals and the median by inverting them.

    Parameters
    ----------
    time : array [patients; d]
        Time to loss, or of right-censoring.
    lost : array of bool [patients]
        Loss rather than censoring.
    confidence : float
        Confidence of the intervals.

    Notes
    -----
    The product of 1 - events/at risk with Greenwood's standard error. A patient censored at the time of a loss is at
    risk for it. Interval of the median: Brookmeyer R, Crowley J (1982) Biometrics 38:29-41, doi:10.2307/2530286.

    Examples
    --------
    >>> one = kaplan_meier_curve(np.array([7.0, 14.0, 28.0, 28.0]), np.array([True, True, False, False]))
    >>> one.time.tolist(), one.survival.round(9).tolist(), one.median
    ([0.0, 7.0, 14.0, 28.0], [1.0, 0.75, 0.5, 0.5], 14.0)
    """
    steps = np.unique(np.append(time, 0.0))
    at = np.searchsorted(steps, time)
    n_events, n_censored = (np.bincount(at[who], minlength=len(steps)) for who in (lost, ~lost))
    n_at_risk = len(time) - np.searchsorted(np.sort(time), steps)
    survival: Floats = np.cumprod(1.0 - n_events / n_at_risk, dtype=np.float64)
    # Where everyone is lost Greenwood's sum divides by 0; that step has no interval below.
    with np.errstate(all="ignore"):
        error = survival * np.sqrt(np.cumsum(n_events / (n_at_risk * (n_at_risk - n_events))))
    lower, upper = _log_log_interval(survival, error, confidence)
    return Curve(
        time=steps,
        n_at_risk=n_at_risk,
        n_events=n_events,
        n_censored=n_censored,
        survival=survival,
        lower=lower,
        upper=upper,
        median=_first_half(steps, survival),
        median_lower=_first_half(steps, lower),
        median_upper=_first_half(steps, upper),
    )


def _log_log_interval(survival: Floats, error: Floats, confidence: float) -> tuple[Floats, Floats]:
    """S^exp(+-z se/(S ln S)); 1 before the first loss; at 0 the lower end is 0 and there is no upper one."""
    inner = (survival > 0) & (survival < 1)
    s = np.where(inner, survival, 0.5)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * np.where(inner, error, 0.0) / (s * np.log(s))
    lower = np.where(inner, s ** np.exp(-reach), np.where(survival > 0, 1.0, 0.0))
    upper = np.where(inner, s ** np.exp(reach), np.where(survival > 0, 1.0, np.nan))
    return lower, upper


def _first_half(time: Floats, share: Floats) -> float:
    # A share of 3/6 comes out of a product of fractions.
    reached = np.flatnonzero(share <= 0.5 + 1e-12)
    return float(time[reached[0]]) if len(reached) else float("nan")


def individual(nca: pd.DataFrame, patients: pd.DataFrame | None = None) -> pd.DataFrame:
    """Each patient's last presence and loss, at the LLOQ and at the LOD, and how the loss is censored.

    Parameters
    ----------
    nca : DataFrame
        As `nkinetics.columns.NCA`: tlast, t_blq, tlast_detected and t_not_detected of the window overall.
    patients : DataFrame, optional
        As `nkinetics.columns.PATIENTS`; `status_end` is the reason of a right-censored loss.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.PERSISTENCE_PATIENTS`. ``interval``: lost between `last_present` and `lost`. ``left``:
        never above the limit, lost before the first sample without cells after the infusion. ``right``: not lost as
        far as was seen, `censored_by` says why nothing more was seen. ``none``: nothing is known, `reason` says why.
        `time` is where Kaplan-Meier counts the patient: the loss, or for a right-censored one the last sample with
        cells; death and withdrawal with cells in the last sample censor at their own date.
    """
    people = _people(nca, patients)
    overall = nca[nca["window"] == "overall"]
    parts = []
    for assay, specimen in sorted(set(zip(overall["assay"], overall["specimen"], strict=True))):
        mine = overall[(overall["assay"] == assay) & (overall["specimen"] == specimen)]
        for limit, (last, loss) in LIMITS.items():
            parts.append(_losses(people, mine, last, loss).assign(assay=assay, specimen=specimen, limit=limit))
    if not parts:
        return complete(pd.DataFrame(), PERSISTENCE_PATIENTS)
    return complete(pd.concat(parts, ignore_index=True)[PERSISTENCE_PATIENTS.names], PERSISTENCE_PATIENTS)


def kaplan_meier(
    nca: pd.DataFrame, patients: pd.DataFrame | None = None, settings: Statistics | None = None
) -> pd.DataFrame:
    """Kaplan-Meier persistence by assay, specimen, limit and dose level, and over all patients.

    Parameters
    ----------
    nca, patients : DataFrame
        As for `individual`.
    settings : Statistics, optional
        ``confidence`` and ``summary_n_min``.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.PERSISTENCE`. Loss happens at the first of the consecutive samples below the limit
        (nca.md). A patient who was never above the limit counts as lost at the first sample after the infusion, and
        `reason` says how many do; so it does for patients without any information, who are not counted.
    """
    settings = settings or Statistics()
    return _by_group(individual(nca, patients), PERSISTENCE, lambda own, limit: _rows(own, limit, settings))


def turnbull_by_dose_level(
    nca: pd.DataFrame, patients: pd.DataFrame | None = None, settings: Statistics | None = None
) -> pd.DataFrame:
    """The sensitivity analysis of `kaplan_meier`: losses stay where they are known to lie, between two samples.

    Parameters
    ----------
    nca, patients, settings
        As for `kaplan_meier`.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.PERSISTENCE_TURNBULL`: one row per interval that holds a share of the losses. Whoever
        died or withdrew with cells in the last sample is known to be persisting until that sample only.
    """
    settings = settings or Statistics()
    least = settings.summary_n_min
    return _by_group(individual(nca, patients), PERSISTENCE_TURNBULL, lambda own, limit: _intervals(own, limit, least))


def _by_group(losses: pd.DataFrame, schema: Schema, rows: Callable[[pd.DataFrame, str], pd.DataFrame]) -> pd.DataFrame:
    """Rows of every assay, specimen, limit and dose level; "all" is a group of its own, also beside a single level."""
    parts = []
    for (assay, specimen, limit), frame in losses.groupby(["assay", "specimen", "limit"], sort=True):
        # A listing without dose levels has "all" for its only one.
        for dose_level in dict.fromkeys([*sorted(set(frame["dose_level"])), ALL]):
            own = frame if dose_level == ALL else frame[frame["dose_level"] == dose_level]
            parts.append(
                rows(own, str(limit)).assign(assay=assay, specimen=specimen, limit=limit, dose_level=dose_level)
            )
    return complete(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), schema)


def _people(nca: pd.DataFrame, patients: pd.DataFrame | None) -> pd.DataFrame:
    """Every patient with dose level and end of follow-up."""
    known = nca[["patient_id", "dose_level"]].drop_duplicates("patient_id")
    if patients is None:
        return known.assign(status_end="", time_end=np.nan)
    columns = ["patient_id", "dose_level", "status_end", "time_end"]
    listed = patients.reindex(columns=columns).drop_duplicates("patient_id")
    listed = listed.assign(status_end=listed["status_end"].fillna("").astype("str"))
    others = known[~known["patient_id"].isin(listed["patient_id"])].assign(status_end="", time_end=np.nan)
    return pd.concat([listed, others], ignore_index=True) if len(others) else listed


def _losses(people: pd.DataFrame, rows: pd.DataFrame, last: str, loss: str) -> pd.DataFrame:
    """Last presence, loss, censoring and what to say, for each patient of one assay, specimen and limit."""
    last_rows = rows.loc[rows["parameter"] == last, ["patient_id", "value"]].rename(columns={"value": "last_present"})
    loss_rows = rows.loc[rows["parameter"] == loss, ["patient_id", "value", "reason"]].rename(columns={"value": "lost"})
    frame = people.merge(last_rows, on="patient_id", how="left").merge(loss_rows, on="patient_id", how="left")
    reason = frame["reason"].fillna("no row in nca.csv").astype("str")
    lost, present = frame["lost"].notna(), frame["last_present"].notna()
    # A level that fell below the limit without being confirmed leaves the patient censored where cells were last seen.
    still = ~lost & present & reason.str.startswith(STILL)
    ends = frame["status_end"].where(frame["status_end"] != "", "ongoing")
    at_end = still & ends.isin(CENSORED_AT_END)
    # Whoever died or withdrew with cells in the last sample was followed until then.
    censored = np.fmax(frame["last_present"], frame["time_end"].where(at_end))
    right = ~lost & present
    kind = np.select([lost & present, lost, right], ["interval", "left", "right"], "none")
    return frame.assign(
        censoring=kind,
        censored_by=np.select([still, right], [ends, "unconfirmed"], ""),
        time=np.where(lost, frame["lost"], censored),
        reason=reason,
    )


def _no_curve(reasons: list[str]) -> pd.DataFrame:
    one = {"time": [0.0], "n_at_risk": [0], "n_events": [0], "n_censored": [0]}
    return pd.DataFrame(one).assign(reason="; ".join(reasons))


def _unknown(frame: pd.DataFrame) -> str:
    """Why a group has no estimate although it has patients; empty where it has one.

    Without the patients whose detection is not known the others would be a chosen few: those who never fell below the
    LLOQ, or fell from above it to below detection at once.
    """
    unknown = int(frame["reason"].str.contains(UNKNOWN_DETECTION, regex=False).sum())
    return f"no estimate: {unknown} of {len(frame)} patients with {UNKNOWN_DETECTION}" if unknown else ""


def _remarks(frame: pd.DataFrame, limit: str, least: int) -> list[str]:
    """What to say about the patients of a group: few of them, never above the limit, not counted."""
    counted = frame[frame["censoring"] != "none"]
    reasons = []
    if len(counted) < least:
        reasons.append(f"n = {len(counted)}: fewer than {least} patients")
    never = int((counted["censoring"] == "left").sum())
    if never:
        verb = "quantified" if limit == "lloq" else "detected"
        reasons.append(f"{never} of {len(counted)} never {verb}: lost at the first sample after the infusion")
    out = frame[frame["censoring"] == "none"]
    if len(out):
        reasons.append(f"{len(out)} of {len(frame)} not counted ({', '.join(sorted(set(out['reason'])))})")
    return reasons


def _rows(frame: pd.DataFrame, limit: str, settings: Statistics) -> pd.DataFrame:
    if _unknown(frame):
        return _no_curve([_unknown(frame)])
    reasons = _remarks(frame, limit, settings.summary_n_min)
    counted = frame[frame["censoring"] != "none"]
    if not len(counted):
        return _no_curve(reasons)
    lost = counted["lost"].notna().to_numpy(dtype=bool)
    curve = kaplan_meier_curve(counted["time"].to_numpy(dtype=float), lost, settings.confidence)
    if np.isnan(curve.median):
        reasons.append("median not reached")
    elif np.isnan(curve.median_upper):
        reasons.append("upper end of the median open")
    return pd.DataFrame(
        {
            "time": curve.time,
            "n_at_risk": curve.n_at_risk,
            "n_events": curve.n_events,
            "n_censored": curve.n_censored,
            "survival": curve.survival,
            "ci_lower": curve.lower,
            "ci_upper": curve.upper,
            "median": curve.median,
            "median_ci_lower": curve.median_lower,
            "median_ci_upper": curve.median_upper,
            "reason": "; ".join(reasons),
        }
    )


def _intervals(frame: pd.DataFrame, limit: str, least: int) -> pd.DataFrame:
    counted = frame[frame["censoring"] != "none"]
    reasons = [_unknown(frame)] if _unknown(frame) else _remarks(frame, limit, least)
    if _unknown(frame) or not len(counted):
        return pd.DataFrame({"interval_start": [0.0], "n": [0], "reason": ["; ".join(reasons)]})
    # Cells are there at the infusion: whoever never had any in a sample lost them between 0 and the first one.
    lower = counted["last_present"].fillna(0.0).to_numpy(dtype=float)
    found = turnbull(lower, counted["lost"].fillna(np.inf).to_numpy(dtype=float))
    # Beyond the eighth decimal a mass is what the search left over.
    mass = np.round(found.mass, 8)
    kept = mass > 0
    low, high = found.median
    return pd.DataFrame(
        {
            "interval_start": found.start[kept],
            "interval_end": np.where(np.isfinite(found.end), found.end, np.nan)[kept],
            "mass": mass[kept],
            "survival": np.abs(np.round(1.0 - np.cumsum(mass), 7))[kept],
            "median_lower": low,
            "median_upper": high if np.isfinite(high) else np.nan,
            "n": len(counted),
            "reason": "; ".join(reasons),
        }
    )
