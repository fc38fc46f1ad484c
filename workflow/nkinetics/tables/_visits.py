"""Planned samples and what became of them in each assay, for the tables of samples, levels and deviations."""

from __future__ import annotations

import pandas as pd

from nkinetics.results import Results
from nkinetics.wording import missing

RESULTS = ("quantified", "blq", "not_detected", "above_uloq")
"""Statuses that are a result."""


def planned(results: Results) -> pd.DataFrame:
    """Rows of samples.csv of the patients of the study, with the dose level, in order of the planned time.

    Returns
    -------
    DataFrame
        As samples.csv, with dose_level and `collected`: the sample was drawn (it has an actual time, and nobody wrote
        that it was not taken or is still to come).
    """
    rows = results.table("samples").drop(columns="dose_level", errors="ignore")
    rows = results.patients[["patient_id", "dose_level"]].merge(rows, on="patient_id", how="inner")
    specimen = rows["specimen"].where(rows["specimen"].fillna("") != "", "blood")
    collected = rows["time_actual"].notna() & (rows["state"].fillna("") == "")
    rows = rows.assign(specimen=specimen.astype("str"), collected=collected)
    return rows.sort_values(["time_nominal", "dose_level", "patient_id", "sample_id"], ignore_index=True)


def when_taken(results: Results, observed: pd.DataFrame) -> pd.DataFrame:
    """The observations, without the actual time of samples that were not taken or are still to come.

    There the plan stands in it, so that a data cut can be applied.
    """
    absent = results.once("samples not taken", _not_taken)
    out = (observed["status"] == "not_done") & observed["sample_id"].isin(absent)
    return observed.assign(**{c: observed[c].mask(out) for c in ("time_actual", "time_after_dose")})


def _not_taken(results: Results) -> set[str]:
    samples = planned(results)
    return set(samples.loc[~samples["collected"] & (samples["state"].fillna("") != ""), "sample_id"])


def outcomes(results: Results, assay: str, specimen: str) -> pd.DataFrame:
    """What an assay made of every planned sample of a specimen.

    Returns
    -------
    DataFrame
        Rows of `planned`, with `assayed` (an export of this assay has the sample), `outcome` and `why`: quantified,
        blq, not_detected or above_uloq (analysed); ``missing`` (not done, or failed and not replaced); ``excluded``
        (measured, and left out by a rule); ``not_sent`` (collected, and no export of this assay has the sample).
    """
    samples = planned(results)
    samples = samples[samples["specimen"] == specimen]
    observed = results.table("observations")
    observed = observed[(observed["assay"] == assay) & (observed["specimen"] == specimen)]
    keys = list(zip(observed["patient_id"], observed["sample_id"], strict=True))
    known, measured = set(keys), set()
    standing: dict[tuple[str, str], str] = {}
    reasons: dict[tuple[str, str], list[str]] = {}
    # Of a study of thousands of samples: plain dictionaries, not a frame for each.
    for key, status, analysed, reason in zip(
        keys,
        observed["status"],
        observed["reportable"].fillna(False).astype(bool),
        observed["exclusion_reason"],
        strict=True,
    ):
        if analysed:
            standing.setdefault(key, str(status))
        if status in RESULTS:
            measured.add(key)
        if not missing(reason):
            reasons.setdefault(key, []).append(str(reason))
    found = []
    for patient, sample, collected, state in zip(
        samples["patient_id"], samples["sample_id"], samples["collected"], samples["state"], strict=True
    ):
        key = (patient, sample)
        why = "; ".join(dict.fromkeys(reasons.get(key, []))) or "no reason recorded"
        if key in standing:
            status = standing[key]
            found.append((status, "") if status in RESULTS else ("missing", status))
        elif key in known:
            found.append(("excluded" if key in measured else "missing", why))
        elif collected:
            found.append(("not_sent", ""))
        else:
            found.append(("missing", "not done" if missing(state) else str(state).replace("_", " ")))
    tested = set(observed.loc[observed["status"] != "not_done", "sample_id"])
    return samples.assign(
        assayed=samples["sample_id"].isin(tested),
        outcome=pd.Series([f[0] for f in found], index=samples.index, dtype="str"),
        why=pd.Series([f[1] for f in found], index=samples.index, dtype="str"),
    )


def without_samples(results: Results) -> list[str]:
    """Patients of whom samples.csv has no row."""
    known = set(results.table("samples")["patient_id"])
    return [str(p) for p in results.patients["patient_id"] if p not in known]


def visit_names(samples: pd.DataFrame) -> dict[float, str]:
    """Name of the visit at each planned time: the most frequent one.

    Examples
    --------
    >>> visit_names(pd.DataFrame({"time_nominal": [1.0, 1.0, 1.0], "visit": ["Day 2", "D2", "Day 2"]}))
    {1.0: 'Day 2'}
    """
    names = {}
    for time, rows in samples[samples["time_nominal"].notna()].groupby("time_nominal"):
        counts = rows["visit"].fillna("").astype(str).value_counts()
        names[float(str(time))] = str(sorted(counts.index, key=lambda v: (-counts[v], v))[0])
    return names
