"""Exposure beside what happened to the patients: toxicity, infection, co-medication, response, target. Exploratory.

Nothing here is a model of cause: Cmax may come after the event, and tocilizumab and steroids are given BECAUSE of
expansion and its toxicity, so that they are described and never tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import EXPOSURE_RESPONSE
from nkinetics.population.detectability import exact_interval
from nkinetics.population.exposure import BELOW, NAMED, OVERALL, VALUE, exposures, people
from nkinetics.settings import Statistics
from nkinetics.store import complete

Floats = NDArray[np.float64]

ALL = "all"
GRADED = ("crs", "icans")
ANY = ("infection",)
DESCRIBED = ("tocilizumab", "steroid")
"""Given because of expansion: exposure beside them is described, never tested."""
RESPONSES = ("PD", "SD", "PR", "CR")
"""Best response (RECIST 1.1), from the worst to the best; other words, as NE, are groups without a place in it."""
FACTORS = (*GRADED, *ANY, *DESCRIBED, "response", "dll3_high")
UNGRADED, UNKNOWN = "ungraded", "not known"
NO, YES = "no", "yes"
EXACT_UP_TO = 200_000
"""Arrangements of patients in groups up to which the p value is exact."""
NAN = float("nan")


@dataclass(frozen=True)
class RankTest:
    """A two-sided rank test over ordered groups: its name with the way of the p value, and the p value."""

    name: str
    p_value: float


def groups(people: pd.DataFrame, patients: pd.DataFrame | None, events: pd.DataFrame | None) -> pd.DataFrame:
    """To which group of each factor every patient belongs.

    Parameters
    ----------
    people : DataFrame
        patient_id, dose_level of the treated patients.
    patients : DataFrame, optional
        As `nkinetics.columns.PATIENTS`: best_response, dll3_high.
    events : DataFrame, optional
        As `nkinetics.columns.EVENTS`. None or without a row: the study has said nothing, and the factors that come from
        events are not known of anybody.

    Returns
    -------
    DataFrame
        patient_id, factor, group, rank. `group`: worst grade "0", "1" ... of CRS and ICANS ("ungraded" where the event
        has none), "no" and "yes" of the others, the best response; "not known". `rank` orders the groups, NaN for those
        without a place in the order.
    """
    ids = people["patient_id"].tolist()
    own = events[events["patient_id"].isin(ids)] if events is not None and len(events) else None
    made = [_graded(ids, own, factor) for factor in GRADED]
    made += [_any(ids, own, factor) for factor in (*ANY, *DESCRIBED)]
    made += [_responses(ids, patients, own), _target(ids, patients)]
    return pd.concat(made, ignore_index=True)


def _group_frame(ids: Sequence[str], factor: str, found: Mapping[str, tuple[str, float]]) -> pd.DataFrame:
    rows = [found.get(i, (UNKNOWN, NAN)) for i in ids]
    return pd.DataFrame(
        {"patient_id": list(ids), "factor": factor, "group": [g for g, _ in rows], "rank": [r for _, r in rows]}
    )


def _graded(ids: Sequence[str], events: pd.DataFrame | None, factor: str) -> pd.DataFrame:
    if events is None:
        return _group_frame(ids, factor, {})
    rows = events[events["event"] == factor]
    worst = rows.groupby("patient_id")["grade"].max()
    found: dict[str, tuple[str, float]] = {i: ("0", 0.0) for i in ids}
    for patient, grade in worst.items():
        found[str(patient)] = (UNGRADED, NAN) if pd.isna(grade) else (str(int(grade)), float(grade))
    return _group_frame(ids, factor, found)


def _any(ids: Sequence[str], events: pd.DataFrame | None, factor: str) -> pd.DataFrame:
    if events is None:
        return _group_frame(ids, factor, {})
    had = set(events.loc[events["event"] == factor, "patient_id"])
    return _group_frame(ids, factor, {i: (YES, 1.0) if i in had else (NO, 0.0) for i in ids})


def _responses(ids: Sequence[str], patients: pd.DataFrame | None, events: pd.DataFrame | None) -> pd.DataFrame:
    """Best response: the column of the patients, else the best of the response events."""
    found = {}
    stated: dict[str, str] = {}
    if events is not None:
        rows = events[events["event"] == "response"]
        order = {r: i for i, r in enumerate(RESPONSES)}
        for patient, own in rows.groupby("patient_id"):
            words = sorted({str(v).strip() for v in own["value"] if str(v).strip()}, key=lambda w: order.get(w, -1))
            if words:
                stated[str(patient)] = words[-1]
    if patients is not None and "best_response" in patients.columns:
        rows = patients[patients["best_response"].fillna("") != ""]
        stated |= dict(zip(rows["patient_id"].astype(str), rows["best_response"].astype(str).str.strip(), strict=True))
    for patient, word in stated.items():
        found[patient] = (word, float(RESPONSES.index(word)) if word in RESPONSES else NAN)
    return _group_frame(ids, "response", found)


def _target(ids: Sequence[str], patients: pd.DataFrame | None) -> pd.DataFrame:
    found = {}
    if patients is not None and "dll3_high" in patients.columns:
        known = patients[patients["dll3_high"].notna()]
        for patient, high in zip(known["patient_id"].astype(str), known["dll3_high"].astype(bool), strict=True):
            found[patient] = (YES, 1.0) if high else (NO, 0.0)
    return _group_frame(ids, "dll3_high", found)


# -------------------------------------------------------------------------------------------------------- numbers


def incidence_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share; where nobody had the event its one-sided upper bound at the same confidence.

    Examples
    --------
    None of nine: 1 - 0.05^(1/9).

    >>> low, high = incidence_interval(0, 9)
    >>> low, round(high, 3)
    (0.0, 0.283)
    """
    if k == 0:
        return 0.0, 1.0 - float((1 - confidence) ** (1 / n))
    return exact_interval(k, n, confidence)


def _pairs_in_order(values: Floats, rank: Floats) -> float:
    """Jonckheere and Terpstra's count: pairs of patients of different groups that lie in their order, ties half."""
    in_group = [np.sort(values[rank == r]) for r in np.unique(rank)]
    total = 0.0
    for lower, higher in combinations(in_group, 2):
        below = np.searchsorted(higher, lower, side="left")
        up_to = np.searchsorted(higher, lower, side="right")
        total += float((len(higher) - up_to).sum() + 0.5 * (up_to - below).sum())
    return total


def trend_test(values: Floats, rank: Floats) -> RankTest:
    """Jonckheere-Terpstra test of a trend of the values over ordered groups; with two groups the rank-sum test.

    Parameters
    ----------
    values : array [patients]
        Exposure; minus infinity for patients below the LLOQ, who are lower than all others and equal to each other.
    rank : array [patients]
        Order of each patient's group; at least two different ones.

    Returns
    -------
    RankTest
        Two-sided: share of the arrangements of the patients in the groups whose count lies as far from its mean or
        farther. All arrangements are gone through where they are few enough, else the normal approximation with the
        variance under ties.

    Examples
    --------
    Three against three, perfectly apart: 2 of 20 arrangements.

    >>> test = trend_test(np.array([1.0, 2, 3, 4, 5, 6]), np.array([0.0, 0, 0, 1, 1, 1]))
    >>> test.name, round(test.p_value, 6)
    ('rank sum, exact', 0.1)
    """
    order = np.argsort(rank, kind="stable")
    values, rank = values[order], rank[order]
    _, sizes = np.unique(rank, return_counts=True)
    name = "rank sum" if len(sizes) == 2 else "Jonckheere-Terpstra"
    found = _pairs_in_order(values, rank)
    n = len(values)
    mean = (n * n - float((sizes**2).sum())) / 4
    arrangements = math.factorial(n) / math.prod(math.factorial(int(s)) for s in sizes) if n <= 60 else math.inf
    if arrangements <= EXACT_UP_TO:
        counts = np.array(list(_all_counts(values, sizes)))
        far = np.abs(counts - mean) >= abs(found - mean) - 1e-9
        return RankTest(f"{name}, exact", float(far.mean()))
    spread = math.sqrt(_variance(values, sizes))
    if spread == 0:
        return RankTest(f"{name}, normal approximation", 1.0)
    return RankTest(f"{name}, normal approximation", math.erfc(abs(found - mean) / spread / math.sqrt(2)))


def _all_counts(values: Floats, sizes: NDArray[np.int64]) -> Iterator[float]:
    """The count of every arrangement of the patients in groups of these sizes.

    The count adds up over groups: patients of a group against all who stand in later groups.
    """
    equal = values[None, :] == values[:, None]
    higher = np.where(equal, 0.5, values[None, :] > values[:, None])

    def arranged(left: tuple[int, ...], group: int) -> Iterator[float]:
        if group == len(sizes) - 1:
            yield 0.0
            return
        for chosen in combinations(left, int(sizes[group])):
            rest = tuple(i for i in left if i not in chosen)
            here = float(higher[np.ix_(chosen, rest)].sum())
            for further in arranged(rest, group + 1):
                yield here + further

    yield from arranged(tuple(range(len(values))), 0)


def _variance(values: Floats, sizes: NDArray[np.int64]) -> float:
    """Variance of the count under exchangeability, with ties in the values."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)

    def first(x: NDArray[np.int64]) -> float:
        return float((x * (x - 1) * (2 * x + 5)).sum())

    def second(x: NDArray[np.int64]) -> float:
        return float((x * (x - 1) * (x - 2)).sum())

    def third(x: NDArray[np.int64]) -> float:
        return float((x * (x - 1)).sum())

    whole = float(n * (n - 1) * (2 * n + 5))
    variance = (whole - first(sizes) - first(ties)) / 72
    variance += second(sizes) * second(ties) / (36 * n * (n - 1) * (n - 2))
    return variance + third(sizes) * third(ties) / (8 * n * (n - 1))


# ------------------------------------------------------------------------------------------------------- the table


def wanted(nca: pd.DataFrame) -> list[tuple[str, str]]:
    """The exposures that are compared: Cmax overall, and the AUC of the first named window that follow-up reaches.

    D0-28 where it is there, else the longest of the others.
    """
    named = sorted({str(w) for w in nca["window"] if NAMED.fullmatch(str(w))}, key=lambda w: float(w.split("-")[1]))
    window = "D0-28" if "D0-28" in named else named[-1] if named else ""
    return [(OVERALL, "cmax"), *([(window, "auc_int")] if window else [])]


def exposure_response(
    nca: pd.DataFrame,
    observations: pd.DataFrame,
    patients: pd.DataFrame | None = None,
    infusions: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    settings: Statistics | None = None,
) -> pd.DataFrame:
    """Who had what, and the exposure of those who had it; every number exploratory.

    Parameters
    ----------
    nca, observations : DataFrame
        As `nkinetics.columns.NCA` and `OBSERVATIONS`.
    patients, infusions, events : DataFrame, optional
        As `nkinetics.columns.PATIENTS`, `INFUSIONS` and `EVENTS`; what is not given is not known.
    settings : Statistics, optional
        ``confidence``, ``summary_n_min``, ``tested_n_min``.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.EXPOSURE_RESPONSE`. `incidence`: patients with the event of those treated, by dose level
        and in all. `exposure`: median and range of Cmax and AUC in each group, patients below the LLOQ counted lowest;
        fewer than ``summary_n_min`` patients have no median. `test`: one per factor and exposure, only with
        ``tested_n_min`` patients and two groups of two or more; none for tocilizumab and steroids.
    """
    settings = settings or Statistics()
    treated = people(nca, patients, infusions)
    if not len(treated):
        return complete(pd.DataFrame(), EXPOSURE_RESPONSE)
    belongs = groups(treated, patients, events)
    rows = list(_incidences(treated, belongs, settings))
    frame = exposures(nca, observations, wanted(nca), patients, infusions)
    for (assay, specimen, window, parameter), own in frame.groupby(
        ["assay", "specimen", "window", "parameter"], sort=True
    ):
        head = {"assay": assay, "specimen": specimen, "window": window, "parameter": parameter}
        head["unit"] = next((str(u) for u in own["unit"] if u), "")
        for factor in FACTORS:
            mine = own.merge(belongs[belongs["factor"] == factor], on="patient_id")
            made = [*_by_group(mine, settings), _tested(factor, mine, settings)]
            rows += [{**head, "factor": factor, "dose_level": ALL, **row} for row in made]
    return complete(pd.DataFrame(rows), EXPOSURE_RESPONSE)


def _incidences(treated: pd.DataFrame, belongs: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Patients with each event, of those treated: by dose level and in all."""
    levels = list(dict.fromkeys([*sorted(set(treated["dose_level"])), ALL]))
    for factor in (*GRADED, *ANY, *DESCRIBED):
        mine = treated.merge(belongs[belongs["factor"] == factor], on="patient_id")
        for level in levels:
            own = mine if level == ALL else mine[mine["dose_level"] == level]
            head = {"factor": factor, "analysis": "incidence", "dose_level": level, "n_patients": len(own)}
            if (own["group"] == UNKNOWN).any():
                yield {**head, "reason": "no clinical event recorded in the study: not known"}
                continue
            k = int((~own["group"].isin(("0", NO))).sum())
            lower, upper = incidence_interval(k, len(own), settings.confidence)
            side = f"upper bound one-sided, {100 * settings.confidence:g} %" if k == 0 else ""
            yield {
                **head,
                "n_events": k,
                "share": k / len(own),
                "ci_lower": lower,
                "ci_upper": upper,
                "reason": side,
            }


def _ranked(own: pd.DataFrame) -> Floats:
    """Exposures for ranking: patients below the LLOQ are lower than all others."""
    return np.where(own["state"] == BELOW, -np.inf, own["value"].to_numpy(dtype=float))


def _by_group(mine: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    order = mine[["group", "rank"]].drop_duplicates("group").sort_values(["rank", "group"], na_position="last")
    for place, group in enumerate(order["group"]):
        own = mine[mine["group"] == group]
        known = own[own["state"].isin((VALUE, BELOW))]
        values, n_below = own.loc[own["state"] == VALUE, "value"], int((own["state"] == BELOW).sum())
        reasons, median = [], NAN
        if not len(known):
            reasons.append("nobody with a result")
        elif len(known) < settings.summary_n_min:
            reasons.append(f"n = {len(known)}: individual values only")
        else:
            median = float(np.sort(_ranked(known))[[(len(known) - 1) // 2, len(known) // 2]].mean())
            if not math.isfinite(median):
                median = NAN
                reasons.append("median below the LLOQ")
        if len(own) - len(known):
            reasons.append(f"{len(own) - len(known)} of {len(own)} without a result")
        yield {
            "analysis": "exposure",
            "group": group,
            "group_order": place,
            "n_patients": len(own),
            "n_values": len(values),
            "n_below": n_below,
            "median": median,
            "minimum": float(values.min()) if len(values) else NAN,
            "maximum": float(values.max()) if len(values) else NAN,
            "reason": "; ".join(reasons),
        }


def _tested(factor: str, mine: pd.DataFrame, settings: Statistics) -> dict[str, Any]:
    known = mine[mine["state"].isin((VALUE, BELOW)) & mine["rank"].notna()]
    row: dict[str, Any] = {
        "analysis": "test",
        "group": "",
        "group_order": 0,
        "n_patients": len(mine),
        "n_values": int((known["state"] == VALUE).sum()),
        "n_below": int((known["state"] == BELOW).sum()),
    }
    sizes = known["rank"].value_counts()
    if factor in DESCRIBED:
        return {**row, "reason": "not tested: given because of expansion and its toxicity"}
    if (mine["group"] == UNKNOWN).all():
        return {**row, "reason": "not tested: not known of anybody"}
    if len(known) < settings.tested_n_min:
        return {**row, "reason": f"not tested: {len(known)} patients, {settings.tested_n_min} needed"}
    if len(sizes) < 2:
        return {**row, "reason": "not tested: all patients in one group"}
    if int((sizes >= 2).sum()) < 2:
        return {**row, "reason": "not tested: fewer than two groups of two patients"}
    if len(np.unique(_ranked(known))) < 2:
        return {**row, "reason": "not tested: all exposures equal"}
    test = trend_test(_ranked(known), known["rank"].to_numpy(dtype=float))
    out = len(mine) - len(known)
    said = f"{out} of {len(mine)} without a result or a place in the order" if out else ""
    return {
        **row,
        "test": test.name,
        "p_value": test.p_value,
        "reason": "; ".join(r for r in ("exploratory", said) if r),
    }
