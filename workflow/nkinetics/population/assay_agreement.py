"""Agreement of two assays on the same samples: detection, rank, and the line between their levels.

Samples of one patient are not independent: every interval leaves out one patient at a time, never one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import ASSAY_AGREEMENT
from nkinetics.population.detectability import RESULTS, above
from nkinetics.settings import Agreement, Statistics
from nkinetics.store import complete

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Scale = tuple[Callable[[float], float], Callable[[float], float]]
"""To the scale of the pseudo-values and back."""

ORDER = ("qpcr", "ddpcr", "flow", "qpcr_cells")
"""The first assay of a pair is the earlier one here; others follow in alphabetical order."""
DERIVED = frozenset({("qpcr", "qpcr_cells")})
"""Assays of which one is computed from the other: they agree by construction."""
PATIENTS_MIN = 3
"""Fewest patients of an interval that leaves out one at a time."""
ONE_BY_ONE_MAX = 1000
"""Most patients who are left out one at a time; of more, one of `GROUPS` groups at a time."""
GROUPS = 200
NAN = float("nan")


def pairs(observations: pd.DataFrame, settings: Agreement | None = None) -> pd.DataFrame:
    """Results of two assays that belong together, for every two assays of a specimen.

    Parameters
    ----------
    observations : DataFrame
        As `nkinetics.columns.OBSERVATIONS`; reportable results count.
    settings : Agreement, optional
        ``pair_within`` [d].

    Returns
    -------
    DataFrame
        One row per pair: assay_x, assay_y, specimen, patient_id, dose_level, sample_x, sample_y, time_x, time_y [d],
        level_x, level_y (NaN unless quantified), unit_x, unit_y, lloq_x, lloq_y, quantified_x, quantified_y,
        detected_x, detected_y (missing where the LOD is not known). A result is in one pair at most: the same sample
        first, then the nearest time; never over an infusion.
    """
    settings = settings or Agreement()
    results = _results(observations)
    found = [_matched(results, *kinds, within=settings.pair_within) for kinds in _kinds(results)]
    columns = ["assay_x", "assay_y", "specimen", "patient_id", "time_x", "sample_x", "sample_y"]
    if not found:
        return pd.DataFrame(columns=[*columns, "dose_level", "level_x", "level_y", "unit_x", "unit_y"])
    return pd.concat(found, ignore_index=True).sort_values(columns, ignore_index=True)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of pairs of assays, the assays in the order of display."""
    rank = {a: i for i, a in enumerate(ORDER)}
    keyed = frame.assign(
        _x=frame["assay_x"].map(rank).fillna(len(rank)), _y=frame["assay_y"].map(rank).fillna(len(rank))
    )
    return keyed.sort_values(["_x", "_y", "specimen"], kind="stable").drop(columns=["_x", "_y"])


def _kinds(results: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Every two assays of a specimen, and the specimen."""
    for specimen, own in results.groupby("specimen", sort=True):
        assays = sorted(set(own["assay"]), key=lambda a: (ORDER.index(a) if a in ORDER else len(ORDER), a))
        for x, y in combinations(assays, 2):
            if (x, y) not in DERIVED:
                yield x, y, str(specimen)


def _results(observations: pd.DataFrame) -> pd.DataFrame:
    measured = observations["reportable"].fillna(True).astype(bool) & observations["status"].isin(RESULTS)
    # Sorted first: of two results equally near, which one makes the pair must not depend on the order of the rows.
    rows = observations[measured].sort_values(["patient_id", "assay", "sample_id", "observation_id", "level"])
    time = rows["time_actual"].fillna(rows["time_nominal"])
    over = above(rows, "lloq").fillna(False).astype(bool)
    # Above the ULOQ a result is detected, and its level is not known.
    level = rows["level"].where(over & (rows["status"] == "quantified") & (rows["level"] > 0))
    infusion = rows["infusion"].astype("Int64").fillna(-1)
    made = rows.assign(
        number=np.arange(len(rows)),
        time=time,
        level=level,
        quantified=over,
        is_detected=above(rows, "lod"),
        infusion=infusion,
        unit=rows["level_unit"],
    )
    columns = ["assay", "specimen", "patient_id", "dose_level", "sample_id", "number", "infusion", "time"]
    made = made[[*columns, "level", "unit", "lloq", "quantified", "is_detected"]]
    return made.rename(columns={"sample_id": "sample", "is_detected": "detected"})


def _matched(results: pd.DataFrame, x: str, y: str, specimen: str, within: float) -> pd.DataFrame:
    own = results[results["specimen"] == specimen]
    shared = ["patient_id", "dose_level", "infusion", "specimen"]
    left, right = (own[own["assay"] == a].drop(columns="assay") for a in (x, y))
    both = left.merge(right, on=shared, suffixes=("_x", "_y"))
    same = (both["sample_x"] == both["sample_y"]) & (both["sample_x"] != "")
    apart = (both["time_x"] - both["time_y"]).abs().round(9)
    near = both.assign(other=(~same).astype(int), apart=apart.where(~same, apart.fillna(0.0)))
    near = near[same | (apart <= within)]
    order = ["patient_id", "other", "apart", "time_x", "number_x", "number_y"]
    near = near.sort_values(order, kind="stable", ignore_index=True)
    taken_x: set[int] = set()
    taken_y: set[int] = set()
    kept = []
    for row, (of_x, of_y) in enumerate(zip(near["number_x"], near["number_y"], strict=True)):
        if of_x not in taken_x and of_y not in taken_y:
            taken_x.add(of_x)
            taken_y.add(of_y)
            kept.append(row)
    made = near.loc[kept].drop(columns=["other", "apart", "number_x", "number_y"])
    return made.assign(assay_x=x, assay_y=y)


# ------------------------------------------------------------------------------------------------------ statistics


def deming(x: Floats, y: Floats, error_ratio: float = 1.0) -> tuple[float, float]:
    """Slope and intercept of the line through points with errors in both coordinates (Deming regression).

    Parameters
    ----------
    x, y : array [points]
        Coordinates, as log10 levels.
    error_ratio : float
        Error variance of y over that of x.

    Returns
    -------
    slope, intercept : float
        NaN where the points do not determine a line: fewer than three, no spread, or no correlation.

    Notes
    -----
    With s the sums of squares and products about the means and d the error ratio, the slope is
    (s_yy - d s_xx + sqrt((s_yy - d s_xx)^2 + 4 d s_xy^2)) / (2 s_xy).

    Examples
    --------
    >>> deming(np.array([0.0, 1, 2, 3]), np.array([1.0, 3, 5, 7]))
    (2.0, 1.0)
    """
    if len(x) < 3:
        return NAN, NAN
    sxx, syy = float(((x - x.mean()) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    sxy = float(((x - x.mean()) * (y - y.mean())).sum())
    if not abs(sxy) > 1e-12 * math.sqrt(sxx * syy) or sxy == 0:
        return NAN, NAN
    gap = syy - error_ratio * sxx
    slope = (gap + math.sqrt(gap * gap + 4 * error_ratio * sxy * sxy)) / (2 * sxy)
    return slope, float(y.mean() - slope * x.mean())


def kappa(a: Bools, b: Bools) -> float:
    """Cohen's kappa of two detections: agreement beyond chance; NaN where chance alone gives full agreement.

    Examples
    --------
    >>> round(kappa(np.repeat([True, True, False, False], [20, 5, 10, 15]),
    ...             np.repeat([True, False, True, False], [20, 5, 10, 15])), 9)
    0.4
    """
    if not len(a):
        return NAN
    observed = float((a == b).mean())
    expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return (observed - expected) / (1 - expected) if expected < 1 else NAN


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where a coordinate does not vary.

    Examples
    --------
    >>> round(spearman(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 50])), 9)
    0.8
    """
    a, b = (pd.Series(v).rank().to_numpy() for v in (x, y))
    if len(x) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NAN
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def jackknife_interval(
    statistic: Callable[[Bools], float],
    patient: NDArray[np.str_],
    confidence: float = 0.95,
    scale: Scale | None = None,
) -> tuple[float, float, str]:
    """Interval of a statistic over pairs that leaves out one patient at a time, of very many patients one group.

    Parameters
    ----------
    statistic : callable
        ``statistic(kept) -> float`` of the pairs that are kept.
    patient : array [pairs]
        Whose each pair is.
    confidence : float
        Of the interval, by Student's t of the pseudo-values with (patients - 1) degrees of freedom, or (groups - 1).
    scale : pair of callables, optional
        To the scale of the pseudo-values and back, as arctanh and tanh of a correlation.

    Returns
    -------
    lower, upper, reason
        NaN with the reason for fewer than three patients, or where the statistic cannot be had without one of them.

    Notes
    -----
    Above `ONE_BY_ONE_MAX` patients the cost would grow with their square: then they are dealt at random, the same way
    whenever the patients are the same, into `GROUPS` groups whose sizes m_j differ by one at most. With h_j = n/m_j
    the pseudo-values are h_j S - (h_j - 1) S_(j), and the variance of S is the mean of (pseudo-value - their mean)^2/
    (h_j - 1), which is the usual one where every m_j is 1. Reference: Busing FMTA, Meijer E, van der Leeden R (1999)
    Stat Comput 9:3-8, doi:10.1023/A:1008800423698.

    Examples
    --------
    The interval of a mean over patients with one value each is the textbook one:

    >>> values, who = np.array([1.0, 2.0, 3.0]), np.array(["a", "b", "c"])
    >>> lower, upper, _ = jackknife_interval(lambda kept: float(values[kept].mean()), who)
    >>> round(lower, 4), round(upper, 4)  # 2 -+ 4.3027 / sqrt(3)
    (-0.4841, 4.4841)
    """
    from scipy.special import stdtrit

    there, back = scale or (float, float)
    names, whose = np.unique(patient, return_inverse=True)
    n = len(names)
    if n < PATIENTS_MIN:
        return NAN, NAN, f"no interval: {n} patient{'s' * (n != 1)}, {PATIENTS_MIN} needed"
    part = _dealt(n)
    left_out = part[whose]
    everyone = statistic(np.ones(len(patient), dtype=bool))
    without = np.array([statistic(left_out != j) for j in range(part.max() + 1)])
    whole, parts = there(everyone), np.array([there(v) for v in without])
    if not (math.isfinite(whole) and np.isfinite(parts).all()):
        return NAN, NAN, "no interval: not defined without one of the patients"
    if np.ptp(parts) == 0:
        return NAN, NAN, "no interval: the same whoever is left out"
    k = len(parts)
    if k == n:
        spread = float((n * whole - (n - 1) * parts).std(ddof=1))
    else:
        h = n / np.bincount(part)
        pseudo = h * whole - (h - 1) * parts
        spread = math.sqrt(float(((pseudo - (pseudo / h).sum()) ** 2 / (h - 1)).sum()))
    half = float(stdtrit(k - 1, 0.5 + confidence / 2)) * spread / math.sqrt(k)
    return back(whole - half), back(whole + half), ""


def _dealt(n: int) -> NDArray[np.int64]:
    """The group in which each of n patients is left out."""
    if n <= ONE_BY_ONE_MAX:
        return np.arange(n)
    return np.random.default_rng(n).permutation(n) % GROUPS


def _fisher(r: float) -> float:
    return math.atanh(r) if abs(r) < 1 else NAN


# ------------------------------------------------------------------------------------------------------- the table


def assay_agreement(observations: pd.DataFrame, settings: Statistics | None = None) -> pd.DataFrame:
    """Agreement of every two assays of a specimen.

    Parameters
    ----------
    observations : DataFrame
        As `nkinetics.columns.OBSERVATIONS`.
    settings : Statistics, optional
        ``agreement`` and ``confidence``.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.ASSAY_AGREEMENT`, long: n_pairs; at the LLOQ and at the LOD both, x_only, y_only, neither,
        agreement and kappa; spearman, deming_slope and deming_intercept of the log10 levels quantified in both; and
        only where both assays have one unit the geometric mean of the ratio y/x with its limits of agreement (Bland and
        Altman on the log scale). With fewer than ``pairs_min`` pairs no number but the counts.
    """
    settings = settings or Statistics()
    matched, results = pairs(observations, settings.agreement), _results(observations)
    rows = []
    for x, y, specimen in _kinds(results):
        own = matched[(matched["assay_x"] == x) & (matched["assay_y"] == y) & (matched["specimen"] == specimen)]
        units = [_unit(results, a, specimen) for a in (x, y)]
        head = {"assay_x": x, "assay_y": y, "specimen": specimen, "unit_x": units[0], "unit_y": units[1]}
        made = [_counted("n_pairs", float(len(own)), own), *_detection(own, settings), *_levels(own, units, settings)]
        rows += [{**head, **row} for row in made]
    return complete(pd.DataFrame(rows), ASSAY_AGREEMENT)


def _unit(results: pd.DataFrame, assay: str, specimen: str) -> str:
    units = results.loc[(results["assay"] == assay) & (results["specimen"] == specimen), "unit"]
    return next((str(u) for u in sorted(set(units)) if u), "")


def _counted(name: str, value: float, own: pd.DataFrame, reason: str = "") -> dict[str, Any]:
    return {
        "statistic": name,
        "estimate": value,
        "n_pairs": len(own),
        "n_patients": own["patient_id"].nunique(),
        "reason": reason,
    }


def _few(n: int, settings: Statistics, what: str) -> str:
    least = settings.agreement.pairs_min
    return f"{n} {what}, {least} needed: see the list of pairs" if n < least else ""


def _detection(own: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """The fourfold table, agreement and kappa at each limit."""
    for limit, column in (("lloq", "quantified"), ("lod", "detected")):
        known = own[own[f"{column}_x"].notna() & own[f"{column}_y"].notna()] if len(own) else own
        a, b = (known[f"{column}_{side}"].to_numpy(dtype=bool) if len(own) else np.zeros(0, bool) for side in "xy")
        unknown = len(own) - len(known)
        why = f"{unknown} of {len(own)} pairs with a level below LLOQ without LOD" if unknown else ""
        counts = {"both": a & b, "x_only": a & ~b, "y_only": ~a & b, "neither": ~a & ~b}
        for name, where in counts.items():
            yield _counted(f"{name}_{limit}", float(where.sum()), known, why)
        who = known["patient_id"].to_numpy(dtype=object).astype(str)
        few = _few(len(known), settings, "pairs")
        yield _agreed(f"agreement_{limit}", _over(_share_equal, a, b), known, who, few, settings)
        yield _agreed(f"kappa_{limit}", _over(kappa, a, b), known, who, few, settings, (-1.0, 1.0))


def _over(function: Callable[..., float], *arrays: NDArray[Any]) -> Callable[[Bools], float]:
    """The function of the pairs that are kept."""
    return lambda kept: function(*(array[kept] for array in arrays))


def _share_equal(a: Bools, b: Bools) -> float:
    return float((a == b).mean())


def _agreed(
    name: str,
    statistic: Callable[[Bools], float],
    known: pd.DataFrame,
    who: NDArray[np.str_],
    few: str,
    settings: Statistics,
    within: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    """A share or kappa with its interval, cut where the statistic ends."""
    if few:
        return _counted(name, NAN, known, few)
    value = statistic(np.ones(len(known), dtype=bool))
    if math.isnan(value):
        return _counted(name, NAN, known, "not defined: an assay gave one answer in all pairs, and the other the same")
    lower, upper, why = jackknife_interval(statistic, who, settings.confidence)
    ends = {"ci_lower": max(lower, within[0]), "ci_upper": min(upper, within[1])} if not why else {}
    return _counted(name, value, known, why) | ends


def _levels(own: pd.DataFrame, units: list[str], settings: Statistics) -> Iterator[dict[str, Any]]:
    """Rank correlation, Deming line and, in one unit, the ratio."""
    both = own[own["level_x"].notna() & own["level_y"].notna()]
    x, y = (np.log10(both[c].to_numpy(dtype=float)) for c in ("level_x", "level_y"))
    who = both["patient_id"].to_numpy(dtype=object).astype(str)
    few = _few(len(both), settings, "pairs quantified in both assays")
    d = settings.agreement.error_ratio
    yield _estimated("spearman", _over(spearman, x, y), both, who, few, settings, (_fisher, math.tanh))
    for i, name in enumerate(("deming_slope", "deming_intercept")):
        line = _over(lambda a, b, i=i: deming(a, b, d)[i], x, y)
        yield _estimated(name, line, both, who, few, settings)
    other = ""
    if units[0] != units[1] or not units[0]:
        other = f"no ratio of different units ({units[0] or 'none'}, {units[1] or 'none'})"
        if units[1] == "cells/uL" and units[0].startswith("copies"):
            other += ": convert with the white blood count and copies per cell (assays.qpcr.derived_cells)"
    for name, side in (("ratio", 0.0), ("ratio_loa_lower", -1.0), ("ratio_loa_upper", 1.0)):
        limit = _over(lambda gap, side=side: _limit(gap, side), y - x)
        row = _estimated(name, limit, both, who, other or few, settings)
        logs = {c: row[c] for c in ("estimate", "ci_lower", "ci_upper") if c in row}
        yield row | {c: 10 ** float(v) for c, v in logs.items()}


def _limit(difference: Floats, side: float) -> float:
    """Mean difference, moved by 1.96 standard deviations to one side."""
    if side == 0:
        return float(difference.mean())
    return float(difference.mean() + side * 1.96 * difference.std(ddof=1)) if len(difference) > 1 else NAN


def _estimated(
    name: str,
    statistic: Callable[[Bools], float],
    both: pd.DataFrame,
    who: NDArray[np.str_],
    few: str,
    settings: Statistics,
    scale: Scale | None = None,
) -> dict[str, Any]:
    if few:
        return _counted(name, NAN, both, few)
    value = statistic(np.ones(len(both), dtype=bool))
    if math.isnan(value):
        return _counted(name, NAN, both, "not defined: the levels do not vary, or do not vary together")
    lower, upper, why = jackknife_interval(statistic, who, settings.confidence, scale)
    return _counted(name, value, both, why) | {"ci_lower": lower, "ci_upper": upper}
