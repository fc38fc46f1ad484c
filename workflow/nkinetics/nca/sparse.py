"""Area under the mean curve where nobody has a whole profile: destructive, batch or pooled sampling, with its error.

Each time has a mean over the subjects sampled at it; the linear trapezoid joins the means. Subjects may be sampled once
(biopsies, animals), at some of the times (batches) or at all; of a pooled sample the pool is the subject.

References: Bailer AJ (1988) Testing for the equality of area under the curves when using destructive measurement
techniques. J Pharmacokinet Biopharm 16:303-309, doi:10.1007/BF01062139. Nedelman JR, Gibiansky E, Lau DTW (1995)
Applying Bailer's method for AUC confidence intervals to sparse sampling. Pharm Res 12:124-128,
doi:10.1023/A:1016255124336. Nedelman JR, Jia X (1998) An extension of Satterthwaite's approximation applied to
pharmacokinetics. J Biopharm Stat 8:317-328, doi:10.1080/10543409808835241. Holder DJ (2001) Comments on Nedelman and
Jia's extension of Satterthwaite's approximation applied to pharmacokinetics. J Biopharm Stat 11:75-79,
doi:10.1081/BIP-100104199.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nkinetics.blq import SUBSTITUTES
from nkinetics.errors import InputError, Problem
from nkinetics.settings import Statistics

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BlqRule = Literal["zero", "drop", "lloq", "half_lloq"]

MEASURED = ("quantified", "blq", "not_detected", "above_uloq")


def trapezoid_weights(time: Floats) -> Floats:
    """Weight of each level in the linear trapezoid: half the distance between its neighbours.

    Examples
    --------
    >>> trapezoid_weights(np.array([0.0, 1.0, 4.0])).tolist()
    [0.5, 2.0, 1.5]
    """
    width = np.diff(time)
    return np.concatenate([width, [0.0]]) / 2 + np.concatenate([[0.0], width]) / 2


def sparse_auc(
    time: ArrayLike,
    level: ArrayLike,
    subject: ArrayLike | None = None,
    lloq: ArrayLike | None = None,
    blq: BlqRule = "zero",
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Area under the mean curve from the first time to the last with a quantified level, and its standard error.

    Parameters
    ----------
    time : array [samples; time]
        Planned times: samples of one time have the same number.
    level : array [samples; level]
        NaN where not measured.
    subject : array [samples], optional
        Who was sampled; by default somebody else each time (destructive sampling).
    lloq : array [samples; level] or float, optional
        A level below its LLOQ is BLQ whatever number it carries; so is a level of 0.
    blq : {"zero", "drop", "lloq", "half_lloq"}
        What a BLQ sample counts as in the mean of its time, wherever it stands.
    confidence : float
        Of the interval of Student's t.

    Returns
    -------
    dict
        ``auc`` [level x time], ``se``, ``df``, ``ci_lower``, ``ci_upper``, ``n_times``, ``n_subjects``, ``n_samples``,
        ``n_blq``, ``tlast``, ``reason`` (why a value is NaN, or what to mind), and ``means``: a frame of time, n,
        n_blq, mean, sd.

    Raises
    ------
    InputError
        For two samples of one subject at one time, an unknown rule, or a rule that needs an LLOQ without one.

    Notes
    -----
    AUC = sum_i w_i mean_i; its variance sum_ij w_i w_j r_ij s_ij/(r_i r_j), r_ij subjects at both times, r_i at one.
    The covariance s_ij = sum_k (x_ik - mean_i)(x_jk - mean_j)/((r_ij - 1) + (1 - r_ij/r_i)(1 - r_ij/r_j)) is unbiased
    (Holder 2001, equation A3) and kept within sqrt(s_ii s_jj). With one sample of each subject this is Bailer's
    variance; with all samples of each subject it is that of the mean of the subjects' own areas.

    Degrees of freedom by Satterthwaite's approximation, tr(A S)^2/tr(A S A S), where the variance is the quadratic form
    x'A x and S the covariance of the samples: the classical (sum_i v_i)^2/sum_i v_i^2/(r_i - 1) for destructive
    sampling, the number of subjects less one for whole profiles. A time with a single subject has no variance: then
    there is no standard error, said in the reason.

    Examples
    --------
    Two at each of three times; means 0, 4 and 2, so 2 + 3 = 5; variances 0, 2 and 2, so
    sqrt(1^2 x 2/2 + 0.5^2 x 2/2).

    >>> one = sparse_auc([0, 0, 1, 1, 2, 2], [0, 0, 3, 5, 1, 3])
    >>> one["auc"], round(one["se"], 6), round(one["df"], 6)
    (5.0, 1.118034, 1.470588)
    """
    at = np.atleast_1d(np.asarray(time, dtype=float))
    value = np.broadcast_to(np.asarray(level, dtype=float), at.shape)
    limit = np.broadcast_to(np.asarray(np.nan if lloq is None else lloq, dtype=float), at.shape)
    who = np.arange(len(at)) if subject is None else pd.factorize(np.asarray(subject))[0]
    value, below, measured = _substituted(value, limit, blq)
    at, value, below, who = at[measured], value[measured], below[measured], who[measured]
    _once_each(at, who)
    times, column = np.unique(at, return_inverse=True)
    people, row = np.unique(who, return_inverse=True)
    levels = np.full((len(people), len(times)), np.nan)
    levels[row, column] = value
    n_blq = np.bincount(column, weights=below, minlength=len(times)).astype(int)
    means = _means(times, levels, n_blq)
    empty = {k: np.nan for k in ("auc", "se", "df", "ci_lower", "ci_upper", "tlast")}
    counts = {
        "n_times": len(times),
        "n_subjects": len(people),
        "n_samples": len(value),
        "n_blq": int(below.sum()),
        "means": means,
    }
    has_level = np.bincount(column, weights=~below, minlength=len(times)) > 0
    if not has_level.any():
        return {**empty, **counts, "reason": "no quantified level" if len(value) else "no sample"}
    kept = (np.arange(len(times)) <= np.flatnonzero(has_level)[-1]) & ~np.isnan(means["mean"].to_numpy())
    empty["tlast"] = float(times[kept][-1])
    if kept.sum() < 2:
        return {**empty, **counts, "reason": "an area needs two times"}
    weight, levels = trapezoid_weights(times[kept]), levels[:, kept]
    auc = float(weight @ np.nanmean(levels, axis=0))
    alone = (~np.isnan(levels)).sum(axis=0) < 2
    if alone.any():
        reason = f"no standard error: one subject at {', '.join(f'{t:g}' for t in times[kept][alone])}"
        return {**empty, **counts, "auc": auc, "reason": reason}
    variance, df = _variance(levels, weight)
    se = float(np.sqrt(variance))
    if se == 0:
        return {**empty, **counts, "auc": auc, "se": 0.0, "reason": "no interval: the levels of a time do not vary"}
    from scipy.stats import t as student

    half = float(student.ppf((1 + confidence) / 2, df)) * se
    return {
        **empty,
        **counts,
        "auc": auc,
        "se": se,
        "df": df,
        "ci_lower": auc - half,
        "ci_upper": auc + half,
        "reason": "",
    }


def _substituted(value: Floats, lloq: Floats, blq: str) -> tuple[Floats, Bools, Bools]:
    """Levels with BLQ samples replaced (NaN: dropped), which were BLQ, and which were measured at all."""
    if blq not in SUBSTITUTES:
        raise InputError(
            Problem("sparse_auc", None, "blq", repr(blq), f"one of {', '.join(SUBSTITUTES)}", "choose one")
        )
    measured = ~np.isnan(value)
    below = measured & ((value < lloq) | (value <= 0))
    if blq in ("lloq", "half_lloq") and np.isnan(lloq[below]).any():
        mend = "give lloq, or choose zero or drop"
        raise InputError(Problem("sparse_auc", None, "lloq", "a BLQ sample without LLOQ", "its LLOQ", mend))
    out = np.where(below, SUBSTITUTES[blq](lloq), value)
    return out, below, measured


def _once_each(time: Floats, who: NDArray[np.int64]) -> None:
    twice = pd.DataFrame({"time": time, "who": who}).duplicated()
    if twice.any():
        found = f"two samples of one subject at {time[np.argmax(twice)]:g}"
        raise InputError(Problem("sparse_auc", None, "time", found, "one", "take their mean first"))


def _means(times: Floats, levels: Floats, n_blq: NDArray[np.int64]) -> pd.DataFrame:
    n = (~np.isnan(levels)).sum(axis=0)
    total = np.nansum(levels, axis=0)
    mean = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    squares = np.nansum((levels - mean) ** 2, axis=0)
    sd = np.sqrt(np.divide(squares, n - 1, out=np.full(len(n), np.nan), where=n > 1))
    return pd.DataFrame({"time": times, "n": n, "n_blq": n_blq, "mean": mean, "sd": sd})


def _variance(levels: Floats, weight: Floats) -> tuple[float, float]:
    """Variance of the area and its degrees of freedom.

    Parameters
    ----------
    levels : array [subjects, times]
        NaN where a subject was not sampled; two or more subjects at each time.
    weight : array [times]
        Of the trapezoid.
    """
    sampled = ~np.isnan(levels)
    seen = sampled.astype(float)
    r = seen.sum(axis=0)
    both = seen.T @ seen
    away = np.where(sampled, levels - np.nanmean(levels, axis=0), 0.0)
    share = both / r[:, None]
    divisor = (both - 1) + (1 - share) * (1 - share.T)
    # Subjects in common may be too few to know a covariance: one in common, sampled nowhere else.
    known = (both > 0) & (divisor > 1e-12)
    covariance = np.divide(away.T @ away, divisor, out=np.zeros_like(both), where=known)
    bound = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    covariance = np.clip(covariance, -bound, bound)
    # Variance of the area: the weights with which the covariances of two means enter it.
    of_area = np.outer(weight, weight) * both / np.outer(r, r)
    variance = float((of_area * covariance).sum())
    if variance <= 0:
        return 0.0, np.nan
    # The same as a quadratic form x'A x in the samples, one after another.
    form = np.divide(of_area, divisor, out=np.zeros_like(both), where=known)
    person, time = np.nonzero(sampled)
    same_person = person[:, None] == person
    same_time = time[:, None] == time
    centre = np.eye(len(person)) - same_time / r[time]
    quadratic = centre @ (same_person * form[np.ix_(time, time)]) @ centre
    spread = same_person * covariance[np.ix_(time, time)]
    product = quadratic @ spread
    return variance, float(np.trace(product) ** 2 / np.sum(product * product.T))


def sparse_table(observations: pd.DataFrame, blq: BlqRule = "zero", settings: Statistics | None = None) -> pd.DataFrame:
    """Areas under the mean curves of the dose levels, by assay and specimen, over the planned times.

    Parameters
    ----------
    observations : DataFrame
        As `nkinetics.columns.OBSERVATIONS`; rows that are not reportable, or were not planned at a time, do not count.
        Without planned times the actual ones are used.
    blq : {"zero", "drop", "lloq", "half_lloq"}
        What a BLQ sample counts as.
    settings : Statistics, optional
        Confidence of the interval.

    Returns
    -------
    DataFrame
        One row per dose_level, assay and specimen: auc, se, df, ci_lower, ci_upper, n_patients, n_times, n_samples,
        n_blq, tlast, unit, reason. Several samples of a patient at one planned time count with their mean.

    Examples
    --------
    >>> own = pd.DataFrame({"patient_id": list("abcdef"), "dose_level": "DL1", "assay": "qpcr", "specimen": "marrow",
    ...     "time_nominal": [0.0, 0, 1, 1, 2, 2], "level": [np.nan, np.nan, 3, 5, 1, 3], "lloq": 0.5,
    ...     "status": ["blq", "blq", *["quantified"] * 4], "level_unit": "copies/ug", "reportable": True})
    >>> sparse_table(own)[["dose_level", "specimen", "auc", "n_patients", "unit"]].to_dict("records")
    [{'dose_level': 'DL1', 'specimen': 'marrow', 'auc': 5.0, 'n_patients': 6, 'unit': 'd*copies/ug'}]
    """
    settings = settings or Statistics()
    rows = observations
    if "reportable" in rows.columns:
        rows = rows[rows["reportable"].fillna(True).astype(bool)]
    if "time_nominal" in rows.columns and rows["time_nominal"].notna().any():
        rows = rows.assign(at=rows["time_nominal"])
    else:
        rows = rows.assign(at=rows["time_actual"])
    rows = rows[rows["status"].isin(MEASURED) & rows["at"].notna()]
    # BLQ rows carry no level; 0 lies below every LLOQ.
    level = rows["level"].where(rows["status"] == "quantified", 0.0).where(rows["status"] != "above_uloq", np.nan)
    rows = rows.assign(value=level)
    out = []
    for key, own in rows.groupby(["dose_level", "assay", "specimen"], sort=True):
        over = sorted(own.loc[own["status"] == "above_uloq", "at"].unique())
        kept = own[own["status"] != "above_uloq"]
        merged = _merged(kept, blq)
        one = sparse_auc(
            merged["at"],
            merged["value"],
            merged["patient_id"],
            merged["lloq"],
            blq,
            settings.confidence,
        )
        if over:
            # Leaving the highest levels out would make the mean too low.
            days = ", ".join(f"{t:g}" for t in over)
            one |= {k: np.nan for k in ("auc", "se", "df", "ci_lower", "ci_upper")}
            one["reason"] = f"a level above the ULOQ at d {days}"
        units = [u for u in pd.unique(own["level_unit"]) if u] if "level_unit" in own else []
        if len(units) > 1:
            found = f"more than one unit for {' '.join(map(str, key))}: {', '.join(sorted(units))}"
            raise InputError(Problem("observations", None, "level_unit", found, "one unit", "convert the levels"))
        out.append(
            {
                **dict(zip(("dose_level", "assay", "specimen"), key, strict=True)),
                **{k: one[k] for k in ("auc", "se", "df", "ci_lower", "ci_upper")},
                "n_patients": one["n_subjects"],
                **{k: one[k] for k in ("n_times", "n_samples", "n_blq", "tlast")},
                "unit": f"d*{units[0]}" if units else "d",
                "reason": one["reason"],
            }
        )
    columns = [
        *("dose_level", "assay", "specimen", "auc", "se", "df", "ci_lower", "ci_upper", "n_patients", "n_times"),
        *("n_samples", "n_blq", "tlast", "unit", "reason"),
    ]
    return pd.DataFrame(out, columns=columns)


def _merged(rows: pd.DataFrame, blq: str) -> pd.DataFrame:
    """One row per patient and time: the mean of several, BLQ only where all of them are."""
    again = rows.duplicated(["patient_id", "at"], keep=False)
    if not again.any():
        return rows
    several = rows[again]
    quantified = several["value"].where(~(several["value"] < several["lloq"]) & (several["value"] > 0))
    group = several.assign(value=quantified).groupby(["patient_id", "at"], sort=True)
    means = group.agg(value=("value", "mean"), lloq=("lloq", "max")).reset_index()
    # Only BLQ: 0, which is BLQ again; a mean lies above every LLOQ that it is held against.
    means["lloq"] = means["lloq"].where(means["value"].isna(), np.nan)
    means["value"] = means["value"].fillna(0.0)
    return pd.concat([rows.loc[~again, ["patient_id", "at", "value", "lloq"]], means], ignore_index=True)
