"""Share of patients whose cells are still there on set days, of those who were sampled about that day."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nkinetics.columns import DETECTABILITY
from nkinetics.population.persistence import ALL, LIMITS
from nkinetics.settings import Statistics
from nkinetics.store import complete

RESULTS = ("quantified", "blq", "not_detected", "above_uloq")
"""Statuses that are a result."""


def exact_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share of k in n: no probability of a tail is above half of 1 - confidence.

    Reference: Clopper CJ, Pearson ES (1934) Biometrika 26:404-413, doi:10.1093/biomet/26.4.404.

    Examples
    --------
    With all of n found the lower end x solves x^n = 0.025:

    >>> low, high = exact_interval(3, 3)
    >>> round(low, 6), round(0.025 ** (1 / 3), 6), high
    (0.292402, 0.292402, 1.0)
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    lower = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    upper = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return lower, upper


def above(rows: pd.DataFrame, limit: str) -> pd.Series:
    """Whether each result lies above the limit; missing where there is no result, or detection is not known.

    A result below the LLOQ was detected when the assay says so, else when it has a LOD and was not reported as not
    detected.
    """
    found = rows["status"].isin(("quantified", "above_uloq")).astype("boolean")
    # A number below its own LLOQ is BLQ, and below its LOD not detected, whatever its status says.
    found &= ~(rows["level"] < rows["lloq"]).astype("boolean")
    if limit == "lod":
        reported = rows["status"].isin(("blq", "quantified")) & ~(rows["level"] < rows["lod"])
        by_status = reported.astype("boolean").where(rows["lod"].notna() | (rows["status"] == "not_detected"))
        found = found.where(found, rows["detected"].fillna(by_status))
    return found.where(rows["status"].isin(RESULTS))


def detectability(
    observations: pd.DataFrame,
    patients: pd.DataFrame | None = None,
    infusions: pd.DataFrame | None = None,
    settings: Statistics | None = None,
) -> pd.DataFrame:
    """Patients above the LLOQ, and above the LOD, of those sampled about each day, with exact intervals.

    Parameters
    ----------
    observations : DataFrame
        As `nkinetics.columns.OBSERVATIONS`; reportable results count.
    patients, infusions : DataFrame, optional
        As `nkinetics.columns.PATIENTS` and `INFUSIONS`; only who received an infusion is counted, everyone where no
        infusion is recorded.
    settings : Statistics, optional
        ``detectable_at`` and ``confidence``.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.DETECTABILITY`. A patient without a result in the window, also one who died before, is not
        in the denominator. Where a result below its LLOQ is not known to be detected or not, the day has no share at
        the LOD: without these patients the others would be a chosen few.
    """
    settings = settings or Statistics()
    listed = observations if patients is None else patients
    people = listed[["patient_id", "dose_level"]].drop_duplicates("patient_id")
    people = people[people["patient_id"].isin(_treated(people, infusions))]
    measured = observations["reportable"].fillna(True).astype(bool) & observations["status"].isin(RESULTS)
    results = observations[measured & observations["patient_id"].isin(people["patient_id"])]
    results = results.drop(columns="dose_level").merge(people, on="patient_id")
    results = results.assign(at=results["time_actual"].fillna(results["time_nominal"]))
    kinds = observations.loc[observations["assay"] != "", ["assay", "specimen"]].drop_duplicates()
    # A listing without dose levels has "all" for its only one.
    groups = list(dict.fromkeys([*sorted(set(people["dose_level"])), ALL]))
    rows = []
    for assay, specimen in kinds.sort_values(["assay", "specimen"]).itertuples(index=False):
        own = results[(results["assay"] == assay) & (results["specimen"] == specimen)]
        for day, (time, earliest, latest) in settings.detectable_at.items():
            nearest = _nearest(own, time, earliest, latest)
            for limit in LIMITS:
                seen = above(nearest, limit)
                for group in groups:
                    mine = slice(None) if group == ALL else (nearest["dose_level"] == group).to_numpy()
                    n_treated = len(people) if group == ALL else int((people["dose_level"] == group).sum())
                    head = {"assay": assay, "specimen": specimen, "limit": limit, "dose_level": group, "day": day}
                    window = {"time": time, "window_start": earliest, "window_end": latest, "n_treated": n_treated}
                    rows.append({**head, **window, **_share(seen[mine], settings.confidence)})
    return complete(pd.DataFrame(rows), DETECTABILITY)


def _treated(people: pd.DataFrame, infusions: pd.DataFrame | None) -> pd.Series:
    """Patients who received at least one infusion; everyone where none is recorded at all."""
    if infusions is None or not len(infusions):
        return people["patient_id"]
    given = infusions["given"].fillna(infusions["planned"])
    return infusions.loc[given > 0, "patient_id"]


def _nearest(rows: pd.DataFrame, time: float, earliest: float, latest: float) -> pd.DataFrame:
    """Of each patient the sample of the window nearest to the day; of two equally near ones the earlier."""
    inside = rows[(rows["at"] >= earliest) & (rows["at"] <= latest)]
    inside = inside.assign(distance=(inside["at"] - time).abs().round(9))
    inside = inside.sort_values(["patient_id", "distance", "at", "observation_id"], kind="stable")
    return inside.drop_duplicates("patient_id")


def _share(seen: pd.Series, confidence: float) -> dict[str, object]:
    n, unknown = len(seen), int(seen.isna().sum())
    if not n:
        return {"n_sampled": 0, "n_detected": 0, "reason": "no sample in the window"}
    if unknown:
        reason = f"no share: {unknown} of {n} patients with a level below LLOQ without LOD"
        return {"n_sampled": n, "n_detected": pd.NA, "reason": reason}
    k = int(seen.sum())
    lower, upper = exact_interval(k, n, confidence)
    return {
        "n_sampled": n,
        "n_detected": k,
        "share": np.float64(k / n),
        "ci_lower": lower,
        "ci_upper": upper,
        "reason": "",
    }
