"""Persistence of the cells by dose level: Kaplan-Meier at the LLOQ and at the LOD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import PERSISTENCE
from nkinetics.settings import Statistics
from nkinetics.store import complete

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALL = "all"
LIMITS: Mapping[str, tuple[str, str]] = {"lloq": ("tlast", "t_blq"), "lod": ("tlast_detected", "t_not_detected")}
"""For each limit the parameters that hold the last presence and the loss."""

CENSORED_AT_END = ("death", "withdrawal")
"""Ends of follow-up that censor at their own date; otherwise the last sample with cells does."""


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
    The estimate and Greenwood's standard error come from statsmodels. A patient censored at the time of a loss is at
    risk for it. Interval of the median: Brookmeyer R, Crowley J (1982) Biometrics 38:29-41, doi:10.2307/2530286.

    Examples
    --------
    >>> one = kaplan_meier_curve(np.array([7.0, 14.0, 28.0, 28.0]), np.array([True, True, False, False]))
    >>> one.time.tolist(), one.survival.round(9).tolist(), one.median
    ([0.0, 7.0, 14.0, 28.0], [1.0, 0.75, 0.5, 0.5], 14.0)
    """
    steps = np.unique(np.append(time, 0.0))
    n_events = np.array([int((lost & (time == t)).sum()) for t in steps])
    n_censored = np.array([int((~lost & (time == t)).sum()) for t in steps])
    n_at_risk = np.array([int((time >= t).sum()) for t in steps])
    survival, error = np.ones(len(steps)), np.zeros(len(steps))
    if lost.any():
        from statsmodels.duration.survfunc import SurvfuncRight

        # Where everyone is lost the standard error divides 0 by 0; that step has no interval below.
        with np.errstate(all="ignore"):
            estimate = SurvfuncRight(time, lost.astype(int))
        before = np.searchsorted(estimate.surv_times, steps, side="right") - 1
        since = before >= 0
        survival[since] = np.asarray(estimate.surv_prob)[before[since]]
        error[since] = np.asarray(estimate.surv_prob_se)[before[since]]
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


def kaplan_meier(
    nca: pd.DataFrame, patients: pd.DataFrame | None = None, settings: Statistics | None = None
) -> pd.DataFrame:
    """Kaplan-Meier persistence by assay, specimen, limit and dose level, and over all patients.

    Parameters
    ----------
    nca : DataFrame
        As `nkinetics.columns.NCA`: tlast, t_blq, tlast_detected and t_not_detected of the window overall.
    patients : DataFrame, optional
        As `nkinetics.columns.PATIENTS`. Death and withdrawal censor at their date (`time_end`); a patient whose
        follow-up goes on, or was cut, is censored at the last sample with cells.
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
    people = _people(nca, patients)
    overall = nca[nca["window"] == "overall"]
    parts = []
    for assay, specimen in sorted(set(zip(overall["assay"], overall["specimen"], strict=True))):
        mine = overall[(overall["assay"] == assay) & (overall["specimen"] == specimen)]
        for limit, (last, loss) in LIMITS.items():
            frame = _times(people, mine, last, loss)
            # "all" is a group of its own; a study with one dose level shows both.
            for dose_level in [*sorted(set(frame["dose_level"])), ALL]:
                own = frame if dose_level == ALL else frame[frame["dose_level"] == dose_level]
                parts.append(
                    _rows(own, limit, settings).assign(
                        assay=assay, specimen=specimen, limit=limit, dose_level=dose_level
                    )
                )
    return complete(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), PERSISTENCE)


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


def _times(people: pd.DataFrame, rows: pd.DataFrame, last: str, loss: str) -> pd.DataFrame:
    """Time, loss or censoring, and what to say, for each patient; `time` is NaN for one who is not counted."""
    last_rows = rows.loc[rows["parameter"] == last, ["patient_id", "value"]].rename(columns={"value": "last"})
    loss_rows = rows.loc[rows["parameter"] == loss, ["patient_id", "value", "reason"]].rename(columns={"value": "loss"})
    frame = people.merge(last_rows, on="patient_id", how="left").merge(loss_rows, on="patient_id", how="left")
    lost = frame["loss"].notna()
    ends = frame["status_end"].isin(CENSORED_AT_END)
    # Whoever died or withdrew with cells in the last sample was followed until then.
    censored = np.fmax(frame["last"], frame["time_end"].where(ends & frame["last"].notna()))
    reason = frame["reason"].fillna("no row in nca.csv").astype("str")
    return frame.assign(
        lost=lost,
        time=np.where(lost, frame["loss"], censored),
        reason=reason,
        never=lost & frame["last"].isna(),
    )


def _no_curve(reasons: list[str]) -> pd.DataFrame:
    one = {"time": [0.0], "n_at_risk": [0], "n_events": [0], "n_censored": [0]}
    return pd.DataFrame(one).assign(reason="; ".join(reasons))


def _rows(frame: pd.DataFrame, limit: str, settings: Statistics) -> pd.DataFrame:
    unknown = int(frame["reason"].str.contains(UNKNOWN_DETECTION, regex=False).sum())
    if unknown:
        # Without these patients the others would be a chosen few: those who never fell below the LLOQ, or fell from
        # above it to below detection at once.
        return _no_curve([f"no estimate: {unknown} of {len(frame)} patients with {UNKNOWN_DETECTION}"])
    counted = frame[frame["time"].notna()]
    reasons = []
    if len(counted) < settings.summary_n_min:
        reasons.append(f"n = {len(counted)}: fewer than {settings.summary_n_min} patients")
    never = int(counted["never"].sum())
    if never:
        verb = "quantified" if limit == "lloq" else "detected"
        reasons.append(f"{never} of {len(counted)} never {verb}: lost at the first sample after the infusion")
    out = frame[frame["time"].isna()]
    if len(out):
        reasons.append(f"{len(out)} of {len(frame)} not counted ({', '.join(sorted(set(out['reason'])))})")
    if not len(counted):
        return _no_curve(reasons)
    curve = kaplan_meier_curve(
        counted["time"].to_numpy(dtype=float), counted["lost"].to_numpy(dtype=bool), settings.confidence
    )
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
