"""Dose proportionality from non-compartmental metrics: power model, ratio of dose-normalised means, and their verdict.

Power model: ln(metric) = a + theta ln(amount given); exposure is dose proportional where theta = 1. Held against the
criterion of Smith et al. (2000): between two dose levels whose planned amounts have the ratio r, the ratio of
dose-normalised geometric means is r^(theta - 1), so that limits (0.8, 1.25) of that ratio are limits of theta,
1 + ln(0.8)/ln(r) and 1 + ln(1.25)/ln(r): 0.68 to 1.32 at r = 2. Proportionality is stated when the whole interval
lies inside, the contrary when the whole interval lies outside, and nothing otherwise.

References
----------
Smith BP et al. (2000) Confidence interval criteria for assessment of dose proportionality. Pharm Res 17:1278-1283,
doi:10.1023/a:1026451721686.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import DOSE_PROPORTIONALITY
from nkinetics.population.exposure import ABSENT, BELOW, INFUSION, NAMED, OVERALL, VALUE, exposures, planned_amounts
from nkinetics.settings import DoseProportionality, Statistics
from nkinetics.store import complete

Floats = NDArray[np.float64]

ALL = "all"
INFUSIONS = "infusions"
"""The window that stands for all infusion intervals together."""
PROPORTIONAL = "dose proportional"
NOT_PROPORTIONAL = "not dose proportional"
WIDE = "inconclusive (CI wider than the criterion)"
CROSSING = "inconclusive (CI crosses a limit of the criterion)"
LEAST = 3
"""Fewest patients of a slope: two lie on a line whatever they say."""
BIASED = "biased by them: the censored slope counts"
NAN = float("nan")
NAMED_UP_TO = 6
"""So many patients are named in a reason; of more the number is given."""


@dataclass(frozen=True)
class Estimate:
    """A slope, or the logarithm of a ratio.

    Parameters
    ----------
    method : str
        How it was estimated.
    value, std_error, degrees : float
        Estimate, its standard error, degrees of freedom of Student's t; NaN where they do not exist.
    lower, upper : float
        Confidence interval; NaN where open or not estimable.
    intercept, intercept_error : float
        ln metric at the geometric mean of the amounts, and its standard error (uncorrelated with the slope).
    n : int
        Values in the estimate.
    reason : str
        Why it is missing, or is to be read with care.
    """

    method: str
    value: float = NAN
    std_error: float = NAN
    degrees: float = NAN
    lower: float = NAN
    upper: float = NAN
    intercept: float = NAN
    intercept_error: float = NAN
    n: int = 0
    reason: str = ""


def slope_criterion(ratio: float, limits: tuple[float, float] = (0.8, 1.25)) -> tuple[float, float]:
    """Limits of theta for dose levels whose planned amounts have this ratio.

    Examples
    --------
    >>> [round(x, 2) for x in slope_criterion(2)], [round(x, 3) for x in slope_criterion(10)]
    ([0.68, 1.32], [0.903, 1.097])
    """
    return 1 + math.log(limits[0]) / math.log(ratio), 1 + math.log(limits[1]) / math.log(ratio)


def verdict(lower: float, upper: float, limit_lower: float, limit_upper: float) -> str:
    """What an interval says of a criterion; empty where there is no interval at all.

    Parameters
    ----------
    lower, upper : float
        Interval; an open end is NaN and counts as infinitely far.

    Examples
    --------
    >>> verdict(0.8, 1.2, 0.68, 1.32), verdict(1.4, 2.0, 0.68, 1.32)
    ('dose proportional', 'not dose proportional')
    >>> verdict(0.1, 2.3, 0.68, 1.32), verdict(0.9, 1.4, 0.68, 1.32)
    ('inconclusive (CI wider than the criterion)', 'inconclusive (CI crosses a limit of the criterion)')
    """
    if math.isnan(lower) and math.isnan(upper):
        return ""
    low, high = (-math.inf if math.isnan(lower) else lower), (math.inf if math.isnan(upper) else upper)
    if limit_lower <= low and high <= limit_upper:
        return PROPORTIONAL
    if high < limit_lower or low > limit_upper:
        return NOT_PROPORTIONAL
    return WIDE if high - low > limit_upper - limit_lower else CROSSING


def t_quantile(confidence: float, degrees: float) -> float:
    """Quantile of Student's t at both ends."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))


# ----------------------------------------------------------------------------------------------------- power model


def power_model(amount: Floats, value: Floats, confidence: float = 0.90, method: str = "ols") -> Estimate:
    """Slope theta of ln value on ln amount by least squares, one value per patient.

    Parameters
    ----------
    amount : array [patients; dose unit]
        Given, positive; at least two different ones.
    value : array [patients; level or area unit]
        Positive.
    confidence : float
        Of the interval, by Student's t with n - 2 degrees of freedom.

    Examples
    --------
    >>> made = power_model(np.array([1.0, 1, 2, 2]), np.array([10.0, 12, 20, 24]))
    >>> round(made.value, 6), made.degrees, made.n
    (1.0, 2.0, 4)
    """
    # statsmodels.api would load all of statsmodels, plots and data sets among it.
    from statsmodels.regression.linear_model import OLS

    x, y = np.log(amount), np.log(value)
    if len(x) < LEAST:
        return Estimate(method, n=len(x), reason=f"n = {len(x)}: a slope needs {LEAST} patients")
    fit = OLS(y, np.column_stack([np.ones(len(x)), x - x.mean()])).fit()
    degrees = float(fit.df_resid)
    intercept, slope = (float(b) for b in fit.params)
    # Rounding leaves 1e-16 of a perfect fit: that is no spread between patients.
    if not fit.ssr > 1e-24 * max(1.0, float(y @ y)):
        reason = "no spread about the line: no interval"
        return Estimate(method, slope, degrees=degrees, intercept=intercept, n=len(x), reason=reason)
    intercept_error, error = (float(s) for s in fit.bse)
    half = t_quantile(confidence, degrees) * error
    return Estimate(
        method, slope, error, degrees, slope - half, slope + half, intercept, intercept_error, n=len(x), reason=""
    )


def power_model_censored(amount: Floats, value: Floats, bound: Floats, confidence: float = 0.90) -> Estimate:
    """The power model with patients of whom only a bound is known: normal regression of ln value, left-censored.

    Maximum likelihood in a/sigma, theta/sigma and 1/sigma, in which the log-likelihood is concave. The interval is the
    profile {theta: 2 (lnL_max - lnL) <= n ln(1 + F(1, n - 2)/(n - 2))}: without censored patients exactly that of
    `power_model`.

    Parameters
    ----------
    amount : array [patients; dose unit]
        Given.
    value : array [patients]
        NaN where censored.
    bound : array [patients]
        Upper bound where censored.
    confidence : float
        Of the interval.

    Returns
    -------
    Estimate
        An end that the likelihood leaves open is NaN, with the reason.

    Examples
    --------
    >>> amount, value = np.array([1.0, 1, 2, 2, 2]), np.array([10.0, 14, 20, 31, np.nan])
    >>> censored = power_model_censored(amount, value, np.array([np.nan] * 4 + [5.0]))
    >>> bool(censored.value < power_model(amount[:4], value[:4]).value)
    True
    """
    from scipy.special import fdtri

    x, seen = np.log(amount) - np.log(amount).mean(), ~np.isnan(value)
    y = np.log(np.where(seen, value, bound))
    n = len(x)
    if int(seen.sum()) < LEAST:
        return Estimate("censored", n=n, reason=f"{int(seen.sum())} quantified: a slope needs {LEAST}")
    design = np.column_stack([np.ones(n), x])
    found = _censored_normal(design, y, seen)
    if found is None:
        return Estimate("censored", n=n, reason="no maximum of the likelihood")
    best, (intercept, theta), sigma = found
    degrees = float(n - 2)
    cut = n * math.log1p(float(fdtri(1, degrees, confidence)) / degrees)

    def excess(slope: float) -> float:
        """How far 2 (lnL_max - lnL) lies above the cut with this slope."""
        at = _censored_normal(design[:, :1], y - slope * x, seen)
        return 2 * (best - at[0]) - cut if at is not None else math.inf

    step = sigma / math.sqrt(float(x @ x))
    lower, upper = (_profile_end(excess, theta, side * step) for side in (-1, 1))
    reason = "interval open: the patients below the LLOQ do not bound it" if math.isnan(lower + upper) else ""
    return Estimate("censored", theta, NAN, degrees, lower, upper, intercept, n=n, reason=reason)


def _profile_end(excess: Callable[[float], float], best: float, step: float) -> float:
    """Where the profile crosses its cut on one side of the best; NaN where it does not within 2^10 steps."""
    from scipy.optimize import brentq

    near, far = best, best + step
    for _ in range(11):
        if excess(far) > 0:
            return float(brentq(excess, near, far, xtol=1e-10, rtol=1e-12))
        near, step = far, 2 * step
        far = near + step
    return NAN


def _censored_normal(design: Floats, y: Floats, seen: NDArray[np.bool_]) -> tuple[float, Floats, float] | None:
    """Maximum of the left-censored normal log-likelihood: its value, the coefficients and sigma.

    Newton's method with halved steps in delta = beta/sigma and gamma = 1/sigma, where the function is concave. None
    where there is no maximum.
    """
    from scipy.special import log_ndtr

    columns = design.shape[1]

    def evaluated(at: Floats) -> tuple[float, Floats, Floats]:
        gamma = at[columns]
        z = np.where(seen, gamma * y - design @ at[:columns], 0.0)
        w = np.where(seen, 0.0, gamma * y - design @ at[:columns])
        log_share = log_ndtr(w)
        # phi/Phi, in logarithms as both vanish together.
        mills = np.exp(-0.5 * w * w - 0.5 * math.log(2 * math.pi) - log_share)
        log_density = -0.5 * z * z + math.log(gamma) - 0.5 * math.log(2 * math.pi)
        value = float(log_density[seen].sum() + log_share[~seen].sum())
        first = np.where(seen, -z, mills)
        second = np.where(seen, -1.0, -mills * (w + mills))
        inner = np.column_stack([-design, y])
        gradient = inner.T @ first
        gradient[columns] += seen.sum() / gamma
        hessian = inner.T @ (second[:, None] * inner)
        hessian[columns, columns] -= seen.sum() / gamma**2
        return value, gradient, hessian

    start, *_ = np.linalg.lstsq(design, y, rcond=None)
    spread = float(np.std(y - design @ start)) or 1.0
    at = np.append(start / spread, 1 / spread)
    value, gradient, hessian = evaluated(at)
    for _ in range(200):
        try:
            step = np.linalg.solve(hessian, -gradient)
        except np.linalg.LinAlgError:
            return None
        rise = float(gradient @ step)
        if rise < 1e-20:
            beta = at[:columns] / at[columns]
            return value, beta, 1 / float(at[columns])
        size = 1.0
        while size > 1e-12:
            tried = at + size * step
            if tried[columns] > 0:
                after = evaluated(tried)
                if after[0] >= value + 1e-4 * size * rise or (rise < 1e-10 and after[0] >= value - 1e-12 * abs(value)):
                    break
            size /= 2
        else:
            return (value, at[:columns] / at[columns], 1 / float(at[columns])) if rise < 1e-8 else None
        at, (value, gradient, hessian) = tried, after
    return None


def power_model_repeated(
    amount: Floats, value: Floats, patient: NDArray[Any], infusion: NDArray[Any], confidence: float = 0.90
) -> Estimate:
    """Slope theta over the infusion intervals of all patients: ln value = infusion + theta ln amount + patient + error.

    A random intercept for the patient (statsmodels MixedLM, REML) where the fit converged and the variance between
    patients is positive; else least squares on the patients' means, after the effects of the infusions, estimated
    within patients, were taken off: the number then says so in `method` and `reason`.

    Parameters
    ----------
    amount, value : array [values]
        Amount of the infusion, and the metric in its interval.
    patient, infusion : array [values]
        To whom and to which infusion each belongs. Infusions have an effect of their own: their intervals differ in
        length, and later ones begin with what the earlier ones left.
    confidence : float
        Of the interval, by Student's t with (patients - 2) degrees of freedom, since amounts differ between patients
        much more than within them.

    Examples
    --------
    >>> who, k = np.repeat(["1", "2", "3", "4"], 2), np.tile([1, 2], 4)
    >>> amount, value = np.repeat([1.0, 1, 2, 2], 2), np.array([10.0, 21, 12, 22, 20, 41, 25, 48])
    >>> made = power_model_repeated(amount, value, who, k)
    >>> made.method, made.degrees, round(made.value, 3)
    ('mixed', 2.0, 1.037)
    """
    names, who = np.unique(patient, return_inverse=True)
    if len(names) < LEAST:
        return Estimate("mixed", n=len(value), reason=f"n = {len(names)}: a slope needs {LEAST} patients")
    if int((np.bincount(who) > 1).sum()) < 2:
        return Estimate("mixed", n=len(value), reason="no repeated values: fewer than two patients have several")
    x, y = np.log(amount), np.log(value)
    effects = (np.unique(infusion)[None, :] == infusion[:, None]).astype(float)
    design = np.column_stack([effects, x - x.mean()])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return Estimate("mixed", n=len(value), reason="amount and infusion cannot be told apart")
    fitted, why = _mixed(design, y, who)
    degrees = float(len(names) - 2)
    if fitted is not None:
        slope, error = fitted
        half = t_quantile(confidence, degrees) * error
        return Estimate("mixed", slope, error, degrees, slope - half, slope + half, n=len(value))
    means = _patient_means(effects, x, y, who)
    made = power_model(np.exp(means[0]), np.exp(means[1]), confidence, "ols_patient_means")
    said = f"least squares on patients' means: {why}"
    return Estimate(
        made.method,
        made.value,
        made.std_error,
        made.degrees,
        made.lower,
        made.upper,
        n=len(value),
        reason="; ".join(r for r in (said, made.reason) if r),
    )


def _mixed(design: Floats, y: Floats, who: NDArray[np.int64]) -> tuple[tuple[float, float] | None, str]:
    """Slope and standard error of the mixed model, or why it is not used."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    # The fit warns on a boundary or a singular Hessian and may raise: each of it is a reason, none is news for a log.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            fit = MixedLM(y, design, groups=who).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError):
            return None, "the mixed model could not be fitted"
        if not fit.converged:
            return None, "the mixed model did not converge"
        between, error = float(np.asarray(fit.cov_re)[0, 0]), float(np.asarray(fit.bse_fe)[-1])
        if not between > 1e-6 * float(fit.scale):
            return None, "no variance between patients in the mixed model"
        if not (math.isfinite(error) and error > 0):
            return None, "the mixed model gave no standard error"
        return (float(np.asarray(fit.fe_params)[-1]), error), ""


def _patient_means(effects: Floats, x: Floats, y: Floats, who: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Means of x and y of each patient, y without the effects of the infusions."""
    n = np.bincount(who)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(who, weights=values) / n, dtype=float)

    within = effects - np.column_stack([mean(column) for column in effects.T])[who]
    shift, *_ = np.linalg.lstsq(within, y - mean(y)[who], rcond=None)
    return mean(x), mean(y - effects @ (shift - shift.mean()))


# ----------------------------------------------------------------------------------------------------------- ratio


def dose_normalised_ratio(upper: Floats, lower: Floats, confidence: float = 0.90) -> Estimate:
    """Ln of the ratio of geometric means of two dose levels, by Welch's t on the logarithms.

    Parameters
    ----------
    upper, lower : array [patients of a dose level]
        Metric divided by the amount given, of the higher and of the lower dose level.
    confidence : float
        Of the interval; degrees of freedom by Welch and Satterthwaite.

    Examples
    --------
    >>> made = dose_normalised_ratio(np.array([1.0, 4.0]), np.array([1.0, 1.0, 8.0]))
    >>> round(float(np.exp(made.value)), 6), made.n
    (1.0, 5)
    """
    few = [len(v) for v in (upper, lower) if len(v) < 2]
    n = len(upper) + len(lower)
    if few:
        return Estimate("welch", n=n, reason=f"n = {min(few)} in a dose level: a ratio needs 2 in each")
    high, low = np.log(upper), np.log(lower)
    parts = np.array([high.var(ddof=1) / len(high), low.var(ddof=1) / len(low)])
    difference = float(high.mean() - low.mean())
    if not parts.sum() > 1e-24:
        return Estimate("welch", difference, n=n, reason="no spread between patients: no interval")
    degrees = float(parts.sum() ** 2 / (parts[0] ** 2 / (len(high) - 1) + parts[1] ** 2 / (len(low) - 1)))
    error = math.sqrt(parts.sum())
    half = t_quantile(confidence, degrees) * error
    return Estimate("welch", difference, error, degrees, difference - half, difference + half, n=n)


# ------------------------------------------------------------------------------------------------------- the table


def dose_proportionality(
    nca: pd.DataFrame,
    observations: pd.DataFrame,
    patients: pd.DataFrame | None = None,
    infusions: pd.DataFrame | None = None,
    settings: Statistics | None = None,
) -> pd.DataFrame:
    """Every analysis of exposure against the amount given, by assay, specimen, window and parameter.

    Parameters
    ----------
    nca, observations : DataFrame
        As `nkinetics.columns.NCA` and `OBSERVATIONS`; observations tell who was sampled and never quantified.
    patients, infusions : DataFrame, optional
        As `nkinetics.columns.PATIENTS` and `INFUSIONS`. Without amounts there is no estimate, with the reason.
    settings : Statistics, optional
        ``dose_proportionality``.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.DOSE_PROPORTIONALITY`. Cmax and AUClast overall, the AUC of each named window, Cmax and
        AUC of each infusion's interval, and both over all intervals. The amount is that given in the window: of an
        interval its infusion, else the sum of the infusions. `primary` is the power model; where patients are below
        the LLOQ the one that censors them, since without the lowest the slope is biased.
    """
    choices = (settings or Statistics()).dose_proportionality
    wanted = _wanted(nca)
    if not wanted:
        return complete(pd.DataFrame(), DOSE_PROPORTIONALITY)
    frame = exposures(nca, observations, wanted, patients, infusions)
    if not len(frame):
        return complete(pd.DataFrame(), DOSE_PROPORTIONALITY)
    planned = planned_amounts(frame[["patient_id", "dose_level"]].drop_duplicates(), infusions)
    rows = []
    for key, own in frame.groupby(["assay", "specimen", "window", "parameter"], sort=True):
        head = dict(zip(("assay", "specimen", "window", "parameter"), key, strict=True))
        rows += [{**head, **row} for row in _analyses(own, planned, choices)]
    intervals = frame[frame["window"].str.match(INFUSION)]
    for (assay, specimen, parameter), own in intervals.groupby(["assay", "specimen", "parameter"], sort=True):
        head = {"assay": assay, "specimen": specimen, "window": INFUSIONS, "parameter": parameter}
        rows.append({**head, **_repeated(own, planned, choices)})
    return complete(pd.DataFrame(rows), DOSE_PROPORTIONALITY)


def _wanted(nca: pd.DataFrame) -> list[tuple[str, str]]:
    windows = sorted(set(nca["window"]))
    named = [(w, "auc_int") for w in windows if NAMED.fullmatch(w)]
    intervals = [(w, p) for w in windows if INFUSION.fullmatch(w) for p in ("cmax", "auc_int")]
    return [*((OVERALL, p) for p in ("cmax", "auc_last") if OVERALL in windows), *named, *intervals]


def _analyses(own: pd.DataFrame, planned: Mapping[str, float], choices: DoseProportionality) -> list[dict[str, Any]]:
    """Power model, with censoring where a patient is below the LLOQ, and the ratio of each level to the lowest."""
    valued = own[(own["state"] == VALUE) & own["amount"].notna()]
    common = {**_counts(own), "unit": _unit(own), "confidence": choices.confidence}
    why = _why_no_slope(own, valued, planned)
    left = _left_out(own)
    slope = Estimate("ols", reason=why) if why else power_model(*_columns(valued), confidence=choices.confidence)
    rows = [_slope_row("power_model", slope, valued, planned, choices, left) | common | {"primary": True}]
    reference, *higher = _levels(own, planned)
    ratios = [_ratio_row(valued, level, reference, planned, choices, left) | common for level in higher]
    below = own[(own["state"] == BELOW) & own["amount"].notna()]
    if len(below):
        both = pd.concat([valued, below]).sort_values(["dose_level", "patient_id"])
        if why:
            slope = Estimate("censored", reason=why)
        else:
            amount, value, bound = (both[c].to_numpy(dtype=float) for c in ("amount", "value", "bound"))
            slope = power_model_censored(amount, value, bound, choices.confidence)
        rows.append(_slope_row("power_model_censored", slope, both, planned, choices, "") | common)
        if not math.isnan(slope.value):
            # Who is left out are the lowest: measured in benchmarks/dose_proportionality.py.
            rows[0] |= {"primary": False, "reason": f"{rows[0]['reason']}; {BIASED}"}
            rows[1]["primary"] = True
            lowest = set(below["dose_level"])
            for row in ratios:
                if lowest & {row["dose_level"], row["reference_level"]} and not math.isnan(row["estimate"]):
                    row["reason"] = f"{row['reason']}; {BIASED}"
    return rows + ratios


def _levels(frame: pd.DataFrame, planned: Mapping[str, float]) -> list[str]:
    """Dose levels from the lowest planned amount to the highest."""
    return sorted(set(frame["dose_level"]), key=lambda d: (planned.get(d, NAN), d))


def _columns(valued: pd.DataFrame) -> tuple[Floats, Floats]:
    return valued["amount"].to_numpy(dtype=float), valued["value"].to_numpy(dtype=float)


def _unit(own: pd.DataFrame) -> str:
    return next((str(u) for u in own["unit"] if u), "")


def _why_no_slope(own: pd.DataFrame, valued: pd.DataFrame, planned: Mapping[str, float]) -> str:
    if not (own["state"] == VALUE).any():
        return "nobody has a value"
    if not len(valued):
        return "no amount given is known"
    levels = sorted(set(valued["dose_level"]))
    if len(levels) < 2:
        others = sorted(set(own["dose_level"]) - set(levels))
        if not others:
            return f"one dose level ({levels[0]})"
        return f"one dose level with values ({levels[0]}); none in {', '.join(others)}"
    if len(valued) < LEAST:
        return f"n = {len(valued)}: a slope needs {LEAST} patients"
    if not _dose_ratio(valued, planned) > 1:
        return "the dose levels do not differ in the amount planned"
    return ""


def _dose_ratio(valued: pd.DataFrame, planned: Mapping[str, float]) -> float:
    """Planned amount of one infusion, highest over lowest dose level with a value; NaN where unknown."""
    amounts = [planned.get(d, NAN) for d in set(valued["dose_level"])]
    known = [a for a in amounts if a > 0]
    return max(known) / min(known) if known and len(known) == len(amounts) else NAN


def _counts(own: pd.DataFrame) -> dict[str, int]:
    known = (own["state"] == VALUE) & own["amount"].notna()
    below = own["state"] == BELOW
    return {"n_below": int(below.sum()), "n_missing": int((~known & ~below).sum())}


def _left_out(own: pd.DataFrame) -> str:
    """Who is not in the estimate and why."""
    groups = {
        "below LLOQ": own[own["state"] == BELOW],
        "no value": own[own["state"] == ABSENT],
        "amount not known": own[(own["state"] == VALUE) & own["amount"].isna()],
    }
    parts = []
    for why, rows in groups.items():
        if len(rows):
            few = len(rows) <= NAMED_UP_TO
            parts.append(f"{why}: {', '.join(rows['patient_id']) if few else f'{len(rows)} patients'}")
    return f"left out: {'; '.join(parts)}" if parts else ""


def _by_level(frame: pd.DataFrame) -> str:
    counts = frame.drop_duplicates("patient_id").groupby("dose_level")["patient_id"].size()
    return "; ".join(f"{d} {n}" for d, n in counts.items())


def _slope_row(
    analysis: str,
    slope: Estimate,
    used: pd.DataFrame,
    planned: Mapping[str, float],
    choices: DoseProportionality,
    left: str,
) -> dict[str, Any]:
    made = not math.isnan(slope.value)
    ratio = _dose_ratio(used, planned) if made else NAN
    limits = slope_criterion(ratio, choices.limits) if ratio > 1 else (NAN, NAN)
    said = verdict(slope.lower, slope.upper, *limits) if ratio > 1 else ""
    return {
        "analysis": analysis,
        "dose_level": ALL,
        "reference_level": "",
        "method": slope.method,
        "estimate": slope.value,
        "std_error": slope.std_error,
        "degrees": slope.degrees,
        "ci_lower": slope.lower,
        "ci_upper": slope.upper,
        "intercept": slope.intercept,
        "intercept_error": slope.intercept_error,
        "reference_amount": float(np.exp(np.log(used["amount"]).mean())) if made else NAN,
        "dose_ratio": ratio,
        "limit_lower": limits[0],
        "limit_upper": limits[1],
        "verdict": said,
        "primary": False,
        "n_patients": used["patient_id"].nunique() if made else 0,
        "n_values": slope.n if made else 0,
        "n_by_level": _by_level(used),
        "reason": "; ".join(r for r in (slope.reason, left) if r),
    }


def _repeated(own: pd.DataFrame, planned: Mapping[str, float], choices: DoseProportionality) -> dict[str, Any]:
    """The power model over all infusion intervals."""
    valued = own[(own["state"] == VALUE) & own["amount"].notna()].sort_values(["patient_id", "window"])
    counted = own.sort_values(["state"], key=lambda s: s.map({VALUE: 0, BELOW: 1, ABSENT: 2}), kind="stable")
    counted = counted.drop_duplicates("patient_id").sort_values("patient_id")
    why = _why_no_slope(own, valued, planned)
    if why:
        slope = Estimate("mixed", reason=why)
    else:
        who, window = valued["patient_id"].to_numpy(dtype=object).astype(str), valued["window"].to_numpy(dtype=object)
        slope = power_model_repeated(*_columns(valued), who, window.astype(str), choices.confidence)
    common = {**_counts(counted), "unit": _unit(own), "confidence": choices.confidence}
    return _slope_row("power_model_repeated", slope, valued, planned, choices, _left_out(counted)) | common


def _ratio_row(
    valued: pd.DataFrame,
    level: str,
    reference: str,
    planned: Mapping[str, float],
    choices: DoseProportionality,
    left: str,
) -> dict[str, Any]:
    per_amount = valued["value"] / valued["amount"]
    high, low = (per_amount[valued["dose_level"] == d].to_numpy(dtype=float) for d in (level, reference))
    made = dose_normalised_ratio(high, low, choices.confidence)
    used = valued[valued["dose_level"].isin((level, reference))]
    estimate, lower, upper = (float(np.exp(v)) for v in (made.value, made.lower, made.upper))
    there = not math.isnan(estimate)
    return {
        "analysis": "ratio",
        "dose_level": level,
        "reference_level": reference,
        "method": made.method,
        "estimate": estimate,
        "std_error": made.std_error,
        "degrees": made.degrees,
        "ci_lower": lower,
        "ci_upper": upper,
        "dose_ratio": planned.get(level, NAN) / planned.get(reference, NAN),
        "limit_lower": choices.limits[0],
        "limit_upper": choices.limits[1],
        "verdict": verdict(lower, upper, *choices.limits),
        "primary": False,
        "n_patients": made.n if there else 0,
        "n_values": made.n if there else 0,
        "n_by_level": _by_level(used),
        "reason": "; ".join(r for r in (made.reason, left) if r),
    }
