"""Statistics of dose levels: dose proportionality, agreement of assays, exposure beside events; laws and numbers."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli, nca
from nkinetics.columns import (
    ASSAY_AGREEMENT,
    DOSE_PROPORTIONALITY,
    EVENTS,
    EXPOSURE_RESPONSE,
    INFUSIONS,
    NCA,
    OBSERVATIONS,
    PATIENTS,
)
from nkinetics.population import assay_agreement as agreement
from nkinetics.population import dose_proportionality as dose
from nkinetics.population import exposure_response as response
from nkinetics.population.exposure import exposures
from nkinetics.settings import Agreement, DoseProportionality, Statistics
from nkinetics.store import complete, read_table
from pydantic import ValidationError
from scipy import optimize, stats

LEVELS = np.array([2e9] * 3 + [4e9] * 6)


def lognormal(seed: int, theta: float = 1.0, spread: float = 0.6, amount: np.ndarray = LEVELS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.exp(5 + theta * np.log(amount / 2e9) + spread * rng.standard_normal(len(amount)))


# ---------------------------------------------------------------------------------------------- dose proportionality


def test_the_criterion_is_that_of_smith_at_a_ratio_of_10_and_of_the_protocol_at_2():
    assert dose.slope_criterion(10) == pytest.approx((0.903, 1.097), abs=5e-4)
    assert dose.slope_criterion(2) == pytest.approx((0.678, 1.322), abs=5e-4)


def test_the_published_example_of_smith_is_not_dose_proportional():
    # Cmax of Smith et al. (2000), table 2: slope 0.7615, 90 % CI 0.679 to 0.844, doses of ratio 10; ratio of
    # dose-normalised means 0.577 (0.477 to 0.698).
    limits = dose.slope_criterion(10)
    assert dose.verdict(0.679, 0.844, *limits) == dose.NOT_PROPORTIONAL
    assert [10 ** (t - 1) for t in (0.7615, 0.679, 0.844)] == pytest.approx([0.577, 0.477, 0.698], abs=6e-4)


@pytest.mark.parametrize("low, high", [(0.7, 1.3), (0.678072, 1.0), (1.0, 1.0)])
def test_proportional_is_said_only_when_the_whole_interval_lies_inside(low, high):
    limits = dose.slope_criterion(2)
    assert (dose.verdict(low, high, *limits) == dose.PROPORTIONAL) == (limits[0] <= low and high <= limits[1])


def test_an_open_end_is_never_proportional_and_no_interval_says_nothing():
    limits = dose.slope_criterion(2)
    assert dose.verdict(0.9, math.nan, *limits) == dose.WIDE
    assert dose.verdict(1.5, math.nan, *limits) == dose.NOT_PROPORTIONAL
    assert dose.verdict(math.nan, math.nan, *limits) == ""


def test_the_power_model_is_the_textbook_regression():
    value = lognormal(1)
    made = dose.power_model(LEVELS, value, 0.90)
    line = stats.linregress(np.log(LEVELS), np.log(value))
    half = stats.t.ppf(0.95, 7) * line.stderr
    got = (made.value, made.std_error, made.lower, made.upper, made.degrees)
    assert got == pytest.approx((line.slope, line.stderr, line.slope - half, line.slope + half, 7), rel=1e-10)
    # Between two levels the slope is the difference of mean logarithms over ln 2.
    gap = np.log(value[3:]).mean() - np.log(value[:3]).mean()
    assert made.value == pytest.approx(gap / math.log(2), rel=1e-10)
    assert made.intercept == pytest.approx(np.log(value).mean(), rel=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 1e9])
def test_units_of_metric_and_amount_do_not_move_the_slope(factor):
    value = lognormal(2)
    first, second = dose.power_model(LEVELS, value), dose.power_model(LEVELS * factor, value * factor)
    assert (first.value, first.lower, first.upper) == pytest.approx((second.value, second.lower, second.upper))


def test_without_censored_patients_the_censored_model_is_the_power_model():
    value, none = lognormal(3), np.full(9, np.nan)
    plain, censored = dose.power_model(LEVELS, value), dose.power_model_censored(LEVELS, value, none)
    assert (censored.value, censored.lower, censored.upper) == pytest.approx(
        (plain.value, plain.lower, plain.upper), rel=1e-6
    )


def minus_log_likelihood(at: Sequence[float], x: np.ndarray, value: np.ndarray, bound: np.ndarray) -> float:
    """Written out anew, on the plain scale."""
    intercept, slope, log_sigma = at
    mean, sigma = intercept + slope * x, math.exp(log_sigma)
    seen = ~np.isnan(value)
    density = stats.norm.logpdf(np.log(value[seen]), mean[seen], sigma).sum()
    return -float(density + stats.norm.logcdf(np.log(bound[~seen]), mean[~seen], sigma).sum())


@pytest.mark.parametrize("below", [(0,), (8,), (0, 5, 6), (3, 4, 5)])
def test_the_censored_slope_and_its_ends_agree_with_a_search_on_the_plain_scale(below):
    value, bound = lognormal(4), np.full(9, np.nan)
    bound[list(below)] = 40.0
    value[list(below)] = np.nan
    made = dose.power_model_censored(LEVELS, value, bound, 0.90)
    x = np.log(LEVELS / 2e9)
    options = {"xatol": 1e-11, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000}

    def best(slope: float | None) -> float:
        if slope is None:
            found = optimize.minimize(
                minus_log_likelihood, [5, 1, 0.0], (x, value, bound), method="Nelder-Mead", options=options
            )
            assert found.x[1] == pytest.approx(made.value, abs=1e-4)
            return float(found.fun)
        return float(
            optimize.minimize(
                lambda at: minus_log_likelihood([at[0], slope, at[1]], x, value, bound),
                [5, 0.0],
                method="Nelder-Mead",
                options=options,
            ).fun
        )

    cut = 9 * math.log1p(stats.f.ppf(0.90, 1, 7) / 7)
    top = best(None)
    for end in (made.lower, made.upper):
        assert 2 * (best(end) - top) == pytest.approx(cut, abs=1e-5)


def test_a_bound_far_above_tells_nothing_of_the_slope():
    value, bound = lognormal(5), np.full(9, np.nan)
    value[4], bound[4] = np.nan, 1e30
    others = np.arange(9) != 4
    # The last digits of a sample variance change with n; the slope does not.
    made = dose.power_model_censored(LEVELS, value, bound)
    assert made.value == pytest.approx(dose.power_model(LEVELS[others], value[others]).value, abs=1e-9)


def test_balanced_repeated_values_give_the_regression_of_the_patients_means():
    rng = np.random.default_rng(6)
    who, infusion = np.repeat(np.arange(9).astype(str), 3), np.tile([1, 2, 3], 9)
    amount = np.repeat(LEVELS, 3)
    own = np.repeat(rng.standard_normal(9), 3)
    value = np.exp(np.log(amount / 2e9) + own + 0.4 * infusion + 0.3 * rng.standard_normal(27))
    made = dose.power_model_repeated(amount, value, who, infusion)
    means = dose.power_model(LEVELS, np.exp(np.log(value).reshape(9, 3).mean(axis=1)))
    assert made.method == "mixed" and made.degrees == 7
    got, expected = (made.value, made.std_error), (means.value, means.std_error)
    assert got == pytest.approx(expected, rel=1e-4)


def test_without_variance_between_patients_the_means_are_used_and_it_is_said():
    # Each patient is high once and low once: less alike within than between.
    who, infusion = np.repeat(np.arange(6).astype(str), 2), np.tile([1, 2], 6)
    amount = np.repeat([2e9, 2e9, 2e9, 4e9, 4e9, 4e9], 2)
    jump = np.where(np.arange(12) % 4 < 2, 1.0, -1.0) * np.where(infusion == 1, 1, -1)
    value = np.exp(3 + np.log(amount / 2e9) + jump + 0.02 * np.repeat([0, 1, 2, 1, 0, 2], 2))
    made = dose.power_model_repeated(amount, value, who, infusion)
    assert made.method == "ols_patient_means" and "means" in made.reason
    assert made.value == pytest.approx(1.0, abs=0.1)


def test_zero_true_variance_between_patients_never_raises_and_never_warns():
    methods = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        who, infusion = np.repeat(np.arange(9).astype(str), 3), np.tile([1, 2, 3], 9)
        value = np.exp(rng.standard_normal(27))
        made = dose.power_model_repeated(np.repeat(LEVELS, 3), value, who, infusion)
        assert math.isfinite(made.lower) and made.lower < made.value < made.upper
        methods.add(made.method)
    assert methods == {"mixed", "ols_patient_means"}


def test_the_ratio_is_welchs():
    value = lognormal(7) / LEVELS
    made = dose.dose_normalised_ratio(value[3:], value[:3], 0.90)
    plain = stats.ttest_ind(np.log(value[3:]), np.log(value[:3]), equal_var=False)
    ends = plain.confidence_interval(0.90)
    assert (made.lower, made.upper, made.degrees) == pytest.approx((ends.low, ends.high, plain.df), rel=1e-10)
    other = dose.dose_normalised_ratio(value[:3], value[3:], 0.90)
    assert (other.value, other.lower) == pytest.approx((-made.value, -made.upper), rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_patients_give_a_reason_and_no_number(n):
    made = dose.power_model(LEVELS[2 : 2 + n], lognormal(1)[2 : 2 + n])
    assert math.isnan(made.value) and f"n = {n}" in made.reason
    few = dose.dose_normalised_ratio(np.ones(min(n, 1)), np.array([1.0, 2.0]))
    assert math.isnan(few.value) and "dose level" in few.reason


def test_equal_values_have_a_slope_and_no_interval():
    made = dose.power_model(LEVELS, LEVELS * 3.0)
    assert made.value == pytest.approx(1) and math.isnan(made.lower) and "no spread" in made.reason


# ------------------------------------------------------------------------------------------- a small study of levels


def study(
    cmax: dict[str, float | None], levels: dict[str, str], amounts: dict[str, float] | None = None
) -> dict[str, pd.DataFrame]:
    """One sample and one infusion per patient; None: below an LLOQ of 10 in that sample."""
    patients = complete(pd.DataFrame({"patient_id": list(levels), "dose_level": list(levels.values())}), PATIENTS)
    planned = {"DL1": 2e9, "DL2": 4e9, "DL3": 8e9}
    amounts = amounts or {p: planned[d] for p, d in levels.items()}
    infusions = complete(
        pd.DataFrame(
            {
                "patient_id": list(levels),
                "infusion": 1,
                "time": 0.0,
                "planned": [planned[d] for d in levels.values()],
                "given": [amounts.get(p, np.nan) for p in levels],
                "unit": "cells",
            }
        ),
        INFUSIONS,
    )
    rows = [
        {
            "patient_id": p,
            "dose_level": levels[p],
            "assay": "qpcr",
            "specimen": "blood",
            "sample_id": f"{p}-{time}",
            "observation_id": f"{p}-{time}",
            "time_actual": float(time),
            "level": np.nan if v is None else v / time,
            "level_unit": "copies/ug",
            "lloq": 10.0,
            "lod": 3.0,
            "status": "blq" if v is None else "quantified",
            "reportable": True,
            "infusion": 1,
        }
        for p, v in cmax.items()
        for time in (1, 2, 4)
    ]
    observations = complete(pd.DataFrame(rows), OBSERVATIONS)
    return {
        "nca": nca.analyse(observations, infusions, patients=patients),
        "observations": observations,
        "patients": patients,
        "infusions": infusions,
    }


def row_of(made: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        made = made[made[column] == value]
    assert len(made) == 1
    return made.iloc[0]


NINE = {f"{i + 1:03d}": "DL1" if i < 3 else "DL2" for i in range(9)}


def nine(*below: str) -> dict[str, pd.DataFrame]:
    values = dict(zip(NINE, lognormal(8), strict=True))
    return study({p: None if p in below else v for p, v in values.items()}, NINE)


def test_a_patient_below_the_lloq_is_left_out_counted_named_and_censored():
    made = dose.dose_proportionality(**nine("007"))
    plain = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    assert (plain["n_patients"], plain["n_below"], plain["n_missing"]) == (8, 1, 0)
    assert plain["reason"] == f"left out: below LLOQ: 007; {dose.BIASED}" and not plain["primary"]
    assert plain["n_by_level"] == "DL1 3; DL2 5"
    censored = row_of(made, window="overall", parameter="cmax", analysis="power_model_censored")
    assert censored["primary"] and censored["n_patients"] == 9
    assert censored["estimate"] < plain["estimate"]
    value = lognormal(8)
    kept = np.arange(9) != 6
    assert plain["estimate"] == pytest.approx(dose.power_model(LEVELS[kept], value[kept]).value, rel=1e-8)
    bound = np.where(kept, np.nan, 10.0)
    hand = dose.power_model_censored(LEVELS, np.where(kept, value, np.nan), bound)
    assert (censored["ci_lower"], censored["ci_upper"]) == pytest.approx((hand.lower, hand.upper), rel=1e-8)


def test_with_three_against_six_the_verdict_is_inconclusive():
    made = dose.dose_proportionality(**nine())
    overall = made[(made["window"] == "overall") & made["verdict"].ne("")]
    assert len(overall) == 4 and set(overall["verdict"]) == {dose.WIDE}
    assert overall.loc[overall["primary"], "analysis"].tolist() == ["power_model", "power_model"]


def test_amounts_actually_given_are_the_dose_and_planned_ones_the_criterion():
    values, amounts = dict(zip(NINE, lognormal(8), strict=True)), dict(zip(NINE, LEVELS, strict=True))
    amounts["009"] = 1e9
    made = dose.dose_proportionality(**study(values, NINE, amounts))
    row = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    given = np.array(list(amounts.values()))
    assert row["estimate"] == pytest.approx(dose.power_model(given, lognormal(8)).value, rel=1e-8)
    assert row["dose_ratio"] == 2 and row["limit_lower"] == pytest.approx(0.678, abs=1e-3)


@pytest.mark.parametrize(
    "values, levels, why",
    [
        ({"1": 50.0, "2": 60.0, "3": 70.0}, dict.fromkeys("123", "DL1"), "one dose level (DL1)"),
        (
            {"1": None, "2": None, "3": 70.0, "4": 50.0, "5": 90.0},
            {"1": "DL1", "2": "DL1", "3": "DL2", "4": "DL2", "5": "DL2"},
            "one dose level with values (DL2); none in DL1",
        ),
        ({"1": 50.0, "2": 70.0}, {"1": "DL1", "2": "DL2"}, "n = 2"),
        ({"1": None, "2": None}, {"1": "DL1", "2": "DL2"}, "nobody has a value"),
    ],
)
def test_studies_that_carry_no_slope_say_why(values, levels, why):
    made = dose.dose_proportionality(**study(values, levels))
    row = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    assert math.isnan(row["estimate"]) and row["verdict"] == "" and why in row["reason"]
    assert row["n_below"] + row["n_missing"] + sum(v is not None for v in values.values()) == len(levels)


def test_without_amounts_there_is_no_slope_and_the_reason():
    tables = nine()
    made = dose.dose_proportionality(tables["nca"], tables["observations"], tables["patients"])
    assert made["estimate"].isna().all() and (made["reason"] != "").all()
    row = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    assert row["reason"].startswith("no amount given is known")


def test_each_level_has_its_ratio_over_the_lowest():
    levels = {"1": "DL1", "2": "DL1", "3": "DL2", "4": "DL2", "5": "DL3", "6": "DL3"}
    amount = {"DL1": 2e9, "DL2": 4e9, "DL3": 8e9}
    spread = {"1": 1.1, "2": 1 / 1.1, "3": 1.2, "4": 1 / 1.2, "5": 1.3, "6": 1 / 1.3}
    made = dose.dose_proportionality(
        **study({p: 1e-8 * amount[d] ** 1.0 * spread[p] * 1e3 for p, d in levels.items()}, levels)
    )
    ratios = made[(made["analysis"] == "ratio") & (made["window"] == "overall") & (made["parameter"] == "cmax")]
    assert ratios["dose_level"].tolist() == ["DL2", "DL3"] and set(ratios["reference_level"]) == {"DL1"}
    assert ratios["estimate"].tolist() == pytest.approx([1, 1], rel=1e-9)
    slope = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    assert slope["dose_ratio"] == 4 and slope["estimate"] == pytest.approx(1, abs=1e-9)


def test_the_exposure_by_amount_is_that_of_the_non_compartmental_analysis(results_small):
    tables = small_tables(results_small)
    whole = nca.analyse(tables["observations"], tables["infusions"], patients=tables["patients"])
    found = exposures(whole, tables["observations"], [("overall", "cmax")], tables["patients"], tables["infusions"])
    norm = whole[(whole["parameter"] == "cmax_dose_norm") & (whole["window"] == "overall")]
    both = found.merge(norm[["patient_id", "assay", "value"]], on=["patient_id", "assay"], suffixes=("", "_norm"))
    both = both[both["value"].notna()]
    assert len(both) == 6
    assert (both["value"] / both["amount"]).tolist() == pytest.approx(both["value_norm"].tolist(), rel=1e-12)


def small_tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {
        "nca": read_table(folder / "nca.csv", NCA),
        "observations": read_table(folder / "observations.csv", OBSERVATIONS),
        "patients": read_table(folder / "study/patients.csv", PATIENTS),
        "infusions": read_table(folder / "study/infusions.csv", INFUSIONS),
    }


def test_the_small_study_counts_every_treated_patient_in_each_row(results_small):
    made = dose.dose_proportionality(**small_tables(results_small))
    single = made[made["analysis"] == "power_model"]
    assert (single["n_patients"] + single["n_below"] + single["n_missing"] >= 0).all()
    row = row_of(made, assay="qpcr", window="overall", parameter="cmax", analysis="power_model")
    # 001 has 400 at 4e9; 003, 004, 005 have 100, 1000, 10000 at 8e9, 8e9, 7e9.
    x = np.log(np.array([4e9, 8e9, 8e9, 7e9]))
    expected = stats.linregress(x, np.log([400, 100, 1000, 10000])).slope
    assert row["estimate"] == pytest.approx(expected, rel=1e-9)
    assert row["reason"] == f"left out: below LLOQ: 006; no value: 002; {dose.BIASED}"


def test_statistics_do_not_depend_on_the_order_of_rows_and_leave_the_input_alone(results_small):
    tables = small_tables(results_small)
    events = read_table(results_small / "study/events.csv", EVENTS)
    shuffled = {k: v.sample(frac=1, random_state=3).reset_index(drop=True) for k, v in tables.items()}
    before = {k: v.copy() for k, v in tables.items()}
    for function, more in (
        (dose.dose_proportionality, {}),
        (response.exposure_response, {"events": events}),
    ):
        pd.testing.assert_frame_equal(function(**tables, **more), function(**shuffled, **more))
    pd.testing.assert_frame_equal(
        agreement.assay_agreement(tables["observations"]), agreement.assay_agreement(shuffled["observations"])
    )
    for name, frame in before.items():
        pd.testing.assert_frame_equal(tables[name], frame)


def test_limits_of_the_criterion_lie_about_one():
    with pytest.raises(ValidationError, match="both sides of 1"):
        DoseProportionality(limits=(1.1, 1.25))


def test_wider_limits_and_confidence_of_the_configuration_are_used():
    tables = nine()
    wide = Statistics(dose_proportionality=DoseProportionality(confidence=0.5, limits=(0.01, 100.0)))
    made = dose.dose_proportionality(**tables, settings=wide)
    row = row_of(made, window="overall", parameter="cmax", analysis="power_model")
    assert row["verdict"] == dose.PROPORTIONAL and row["confidence"] == 0.5
    narrow = row_of(dose.dose_proportionality(**tables), window="overall", parameter="cmax", analysis="power_model")
    assert row["ci_upper"] - row["ci_lower"] < narrow["ci_upper"] - narrow["ci_lower"]


# ------------------------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("ratio", [0.25, 1.0, 9.0])
def test_the_deming_line_minimises_the_weighted_distances(ratio):
    rng = np.random.default_rng(9)
    x = rng.standard_normal(30)
    y = 0.7 * x + 0.2 + 0.3 * rng.standard_normal(30)

    def distance(at: Sequence[float]) -> float:
        # Smallest (dx^2 + dy^2/ratio) of each point to the line.
        return float(((y - at[0] * x - at[1]) ** 2 / (ratio + at[0] ** 2)).sum())

    found = optimize.minimize(distance, [1, 0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).x
    assert agreement.deming(x, y, ratio) == pytest.approx(tuple(found), abs=1e-6)
    slope, _ = agreement.deming(x, y, ratio)
    assert agreement.deming(y, x, 1 / ratio)[0] == pytest.approx(1 / slope, rel=1e-9)


def test_deming_with_all_error_in_y_is_least_squares():
    rng = np.random.default_rng(10)
    x = rng.standard_normal(20)
    y = 2 * x + rng.standard_normal(20)
    assert agreement.deming(x, y, 1e9)[0] == pytest.approx(stats.linregress(x, y).slope, rel=1e-6)


def test_deming_needs_a_line():
    assert all(math.isnan(v) for v in agreement.deming(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert all(math.isnan(v) for v in agreement.deming(np.ones(4), np.arange(4.0)))


def test_spearman_is_scipys_with_ties():
    rng = np.random.default_rng(11)
    x, y = rng.integers(0, 6, 25).astype(float), rng.integers(0, 6, 25).astype(float)
    assert agreement.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)


def test_more_samples_of_the_same_patients_do_not_narrow_the_interval():
    rng = np.random.default_rng(12)
    values, who = rng.standard_normal(6), np.array(list("abcdef"))

    def interval(k: int) -> tuple[float, float]:
        v, w = np.repeat(values, k), np.repeat(who, k)
        return agreement.jackknife_interval(lambda kept: float(v[kept].mean()), w)[:2]

    assert interval(1) == pytest.approx(interval(20), rel=1e-12)
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    assert interval(20) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-12)


@pytest.mark.parametrize("n", [1010, 1100, 1399])
def test_of_many_patients_groups_are_left_out_and_the_interval_stays(n: int, monkeypatch: pytest.MonkeyPatch):
    """Sizes of groups of 5 and 6, of 5 and 6, and of 6 and 7."""
    rng = np.random.default_rng(n)
    each = rng.integers(1, 5, n)
    level = np.repeat(rng.normal(0, 1, n), each)
    x, y = level + rng.normal(0, 0.5, len(level)), level + rng.normal(0, 0.5, len(level))
    who = np.repeat(np.array([f"P{i:04}" for i in range(n)]), each)

    def interval(order: np.ndarray) -> np.ndarray:
        a, b = x[order], y[order]
        return np.array(
            agreement.jackknife_interval(lambda kept: float(np.corrcoef(a[kept], b[kept])[0, 1]), who[order])[:2]
        )

    calls = []
    agreement.jackknife_interval(lambda kept: calls.append(kept.sum()) or float(x[kept].mean()), who)
    assert len(calls) == 1 + agreement.GROUPS and sum(len(x) - c for c in calls) == len(x)
    grouped, shuffled = interval(np.arange(len(x))), interval(rng.permutation(len(x)))
    assert shuffled == pytest.approx(grouped, rel=1e-9)
    monkeypatch.setattr(agreement, "ONE_BY_ONE_MAX", n)
    single = interval(np.arange(len(x)))
    # The error of 200 pseudo-values is known to about 5 %.
    assert grouped.mean() == pytest.approx(single.mean(), abs=1e-3)
    assert np.ptp(grouped) == pytest.approx(np.ptp(single), rel=0.2)


def test_groups_of_equal_size_give_the_interval_of_their_means():
    """The pseudo-values of a mean are then the means of the groups: the textbook interval of 200 of them."""
    values, who = np.arange(1200.0) ** 1.5, np.array([f"{i:04}" for i in range(1200)])
    lower, upper, _ = agreement.jackknife_interval(lambda kept: float(values[kept].mean()), who)
    part = agreement._dealt(1200)
    means = np.array([values[part == j].mean() for j in range(agreement.GROUPS)])
    half = stats.t.ppf(0.975, 199) * means.std(ddof=1) / math.sqrt(200)
    assert (lower, upper) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


def results_of(rows: list[tuple[str, str, str, float, float | None, int]], units: dict[str, str]) -> pd.DataFrame:
    """Observations from (patient, assay, sample, time, level or None, infusion)."""
    frame = pd.DataFrame(rows, columns=["patient_id", "assay", "sample_id", "time_actual", "level", "infusion"])
    frame["level"] = frame["level"].astype("float64")
    return complete(
        frame.assign(
            dose_level="DL1",
            specimen="blood",
            observation_id=[str(i) for i in range(len(frame))],
            level_unit=frame["assay"].map(units),
            lloq=10.0,
            lod=5.0,
            status=np.where(frame["level"].isna(), "not_detected", "quantified"),
            reportable=True,
        ),
        OBSERVATIONS,
    )


UNITS = {"qpcr": "copies/ug", "ddpcr": "copies/ug", "flow": "cells/uL", "qpcr_cells": "cells/uL"}


def test_a_pair_is_the_same_sample_else_the_nearest_time_and_never_over_an_infusion():
    rows = [
        ("1", "qpcr", "A", 1.0, 100.0, 1),
        ("1", "qpcr", "B", 2.9, 200.0, 1),
        ("1", "qpcr", "C", 3.1, 300.0, 2),
        ("1", "flow", "A", 1.4, 11.0, 1),  # the same sample, whatever the clocks say
        ("1", "flow", "F", 3.0, 12.0, 2),  # nearer to B, but an infusion lies between them
        ("1", "flow", "G", 3.15, 13.0, 2),  # nearer to C
        ("2", "qpcr", "D", 5.0, 50.0, 1),
        ("2", "flow", "H", 5.5, 50.0, 1),  # too far apart
    ]
    made = agreement.pairs(results_of(rows, UNITS))
    assert list(zip(made["sample_x"], made["sample_y"], strict=True)) == [("A", "A"), ("C", "G")]
    far = agreement.pairs(results_of(rows, UNITS), Agreement(pair_within=0.5))
    assert ("D", "H") in list(zip(far["sample_x"], far["sample_y"], strict=True))


def grid_of_pairs(n_patients: int, n_samples: int, y: str = "flow", seed: int = 13) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, float, float | None, int]] = []
    for i in range(n_patients):
        for k in range(n_samples):
            x = 10 ** rng.uniform(1.2, 4)
            rows.append((str(i), "qpcr", f"{i}-{k}", float(k), x, 1))
            rows.append((str(i), y, f"{i}-{k}", float(k), x * 10 ** rng.normal(0, 0.2), 1))
    return results_of(rows, UNITS)


def test_different_units_have_no_ratio_and_one_unit_has():
    made = agreement.assay_agreement(grid_of_pairs(5, 4)).set_index("statistic")
    assert math.isnan(made.loc["ratio", "estimate"]) and "derived_cells" in made.loc["ratio", "reason"]
    assert made.loc["deming_slope", "ci_lower"] < 1 < made.loc["deming_slope", "ci_upper"]
    frame = grid_of_pairs(5, 4, "ddpcr")
    one = agreement.assay_agreement(frame).set_index("statistic")
    matched = agreement.pairs(frame)
    logs = np.log(matched["level_y"] / matched["level_x"])
    assert one.loc["ratio", "estimate"] == pytest.approx(math.exp(logs.mean()), rel=1e-9)
    assert one.loc["ratio_loa_upper", "estimate"] == pytest.approx(
        math.exp(logs.mean() + 1.96 * logs.std(ddof=1)), rel=1e-9
    )


def test_fewer_than_five_pairs_are_counted_and_nothing_is_estimated():
    made = agreement.assay_agreement(grid_of_pairs(2, 2)).set_index("statistic")
    assert made.loc["n_pairs", "estimate"] == 4 and made.loc["both_lloq", "estimate"] == 4
    for name in ("kappa_lloq", "agreement_lod", "spearman", "deming_slope", "ratio"):
        assert math.isnan(made.loc[name, "estimate"]) and made.loc[name, "reason"]


def test_two_patients_have_estimates_and_no_interval():
    made = agreement.assay_agreement(grid_of_pairs(2, 6)).set_index("statistic")
    assert math.isfinite(made.loc["deming_slope", "estimate"]) and math.isnan(made.loc["deming_slope", "ci_lower"])
    assert "2 patients" in made.loc["deming_slope", "reason"]


def test_full_agreement_has_no_interval_of_width_zero():
    made = agreement.assay_agreement(grid_of_pairs(4, 4)).set_index("statistic")
    assert made.loc["agreement_lloq", "estimate"] == 1 and math.isnan(made.loc["agreement_lloq", "ci_lower"])
    assert math.isnan(made.loc["kappa_lloq", "estimate"]) and made.loc["kappa_lloq", "reason"]


def test_an_assay_is_not_compared_with_what_was_derived_from_it():
    made = agreement.assay_agreement(grid_of_pairs(4, 4, "qpcr_cells"))
    assert not len(made)


# -------------------------------------------------------------------------------------------------- exposure, events


def test_none_of_nine_has_an_upper_bound_of_28_percent():
    assert response.incidence_interval(0, 9) == pytest.approx((0, 0.283), abs=5e-4)
    assert response.incidence_interval(2, 9) == pytest.approx(
        tuple(stats.binomtest(2, 9).proportion_ci(0.95, "exact")), rel=1e-9
    )


def test_the_exact_trend_test_goes_through_every_arrangement():
    values, rank = np.array([3.0, -np.inf, 5, 5, 8, 1, -np.inf]), np.array([0, 0, 1, 1, 2, 0, 1.0])

    def count(order: Sequence[float]) -> float:
        pairs = [(i, j) for i in range(7) for j in range(7) if rank[i] < rank[j]]
        return sum(1.0 if order[j] > order[i] else 0.5 if order[j] == order[i] else 0.0 for i, j in pairs)

    counts = np.array([count(p) for p in permutations(values)])
    mean = counts.mean()
    expected = float((np.abs(counts - mean) >= abs(count(values) - mean) - 1e-9).mean())
    made = response.trend_test(values, rank)
    assert made.p_value == pytest.approx(expected, abs=1e-12) and made.name == "Jonckheere-Terpstra, exact"


def test_two_groups_are_the_rank_sum_test():
    rng = np.random.default_rng(14)
    values, rank = rng.standard_normal(12), np.repeat([0.0, 1.0], [5, 7])
    exact = stats.mannwhitneyu(values[:5], values[5:], method="exact").pvalue
    assert response.trend_test(values, rank).p_value == pytest.approx(exact, abs=1e-12)
    many, groups = np.round(rng.standard_normal(200), 1), np.repeat([0.0, 1.0], 100)
    approximate = stats.mannwhitneyu(many[:100], many[100:], method="asymptotic", use_continuity=False).pvalue
    made = response.trend_test(many, groups)
    assert made.name == "rank sum, normal approximation" and made.p_value == pytest.approx(approximate, rel=1e-9)


def test_groups_are_the_worst_grade_the_best_response_and_unknown_where_nobody_said():
    people = pd.DataFrame({"patient_id": list("abc"), "dose_level": "DL1"})
    patients = complete(
        pd.DataFrame(
            {
                "patient_id": list("abc"),
                "dose_level": "DL1",
                "best_response": ["", "NE", ""],
                "dll3_high": [True, pd.NA, False],
            }
        ),
        PATIENTS,
    )
    events = complete(
        pd.DataFrame(
            [
                ("a", "crs", 1, 1.0, ""),
                ("a", "crs", 3, 2.0, ""),
                ("b", "crs", pd.NA, 2.0, ""),
                ("a", "response", pd.NA, 28.0, "PR"),
                ("a", "response", pd.NA, 56.0, "PD"),
            ],
            columns=["patient_id", "event", "grade", "time", "value"],
        ),
        EVENTS,
    )
    made = response.groups(people, patients, events).set_index(["factor", "patient_id"])["group"]
    assert made["crs"].to_dict() == {"a": "3", "b": "ungraded", "c": "0"}
    assert made["response"].to_dict() == {"a": "PR", "b": "NE", "c": "not known"}
    assert made["dll3_high"].to_dict() == {"a": "yes", "b": "not known", "c": "no"}
    assert set(response.groups(people, patients, None).set_index("factor").loc["crs", "group"]) == {"not known"}


def with_events(tables: dict[str, pd.DataFrame], rows: list[tuple[str, str, int | None]]) -> pd.DataFrame:
    events = pd.DataFrame(rows, columns=["patient_id", "event", "grade"]).assign(time=1.0)
    events["grade"] = events["grade"].astype("Int64")
    return response.exposure_response(**tables, events=complete(events, EVENTS))


def test_exposure_by_grade_has_medians_ranges_and_patients_below_the_lloq_lowest():
    tables = nine("007")
    made = with_events(tables, [("001", "crs", 1), ("004", "crs", 1), ("007", "crs", 1)])
    one = row_of(made, factor="crs", analysis="exposure", parameter="cmax", group="1")
    value = lognormal(8)
    assert (one["n_patients"], one["n_values"], one["n_below"]) == (3, 2, 1)
    assert one["median"] == pytest.approx(min(value[0], value[3]), rel=1e-8)
    assert one["maximum"] == pytest.approx(max(value[0], value[3]), rel=1e-8)
    test = row_of(made, factor="crs", analysis="test", parameter="cmax")
    assert test["test"] == "rank sum, exact" and 0 < test["p_value"] <= 1 and "exploratory" in test["reason"]
    everyone = row_of(made, factor="crs", analysis="incidence", dose_level="all")
    assert (everyone["n_events"], everyone["n_patients"]) == (3, 9)
    none = row_of(made, factor="icans", analysis="incidence", dose_level="all")
    assert none["ci_upper"] == pytest.approx(1 - 0.05 ** (1 / 9), rel=1e-9) and "one-sided" in none["reason"]


def test_tocilizumab_and_steroids_are_described_and_never_tested():
    rows = [(p, e, None) for p in ("001", "004", "005", "006") for e in ("tocilizumab", "steroid")]
    made = with_events(nine(), rows)
    tests = made[made["factor"].isin(("tocilizumab", "steroid")) & (made["analysis"] == "test")]
    assert len(tests) == 4 and tests["p_value"].isna().all() and tests["reason"].str.contains("because of").all()


def test_few_patients_are_not_tested_and_have_no_median():
    tables = study({"1": 50.0, "2": 90.0}, {"1": "DL1", "2": "DL2"})
    made = with_events(tables, [("1", "crs", 2)])
    assert made["p_value"].isna().all() and made["median"].isna().all()
    assert (made.loc[made["analysis"] == "test", "reason"] != "").all()


def test_a_group_below_the_lloq_has_no_median_and_says_so():
    made = with_events(nine("001", "002", "003"), [(p, "crs", 1) for p in ("001", "002", "003")])
    row = row_of(made, factor="crs", analysis="exposure", parameter="cmax", group="1")
    assert math.isnan(row["median"]) and row["reason"] == "median below the LLOQ" and row["n_below"] == 3


def test_a_study_without_any_event_says_that_nothing_is_known():
    made = response.exposure_response(**nine())
    incidence = made[made["analysis"] == "incidence"]
    assert incidence["n_events"].isna().all() and incidence["reason"].str.contains("not known").all()


# ------------------------------------------------------------------------------------------------- command, benchmark


def test_the_command_writes_the_three_files_as_their_schemas_say(results_small, tmp_path):
    given = [f"--{n}={results_small / p}" for n, p in (("nca", "nca.csv"), ("observations", "observations.csv"))]
    given += [f"--{n}={results_small / 'study' / n}.csv" for n in ("patients", "infusions", "events")]
    for run in ("one", "two"):
        assert cli.main(["statistics", *given, "--output-dir", str(tmp_path / run)]) == 0
    for schema in (DOSE_PROPORTIONALITY, ASSAY_AGREEMENT, EXPOSURE_RESPONSE):
        first, second = (tmp_path / run / f"{schema.name}.csv" for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        made = read_table(first, schema)
        assert len(made) and not made.duplicated(list(schema.key)).any()
        # The small study's files are these.
        assert first.read_bytes() == (results_small / f"{schema.name}.csv").read_bytes()
        if "estimate" in made:
            assert (made.loc[made["estimate"].isna(), "reason"] != "").all()


@pytest.fixture(scope="module")
def benchmark(root: Path):
    spec = importlib.util.spec_from_file_location("benchmark_dose", root / "benchmarks" / "dose_proportionality.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_statement_of_proportionality_is_rarely_wrong(benchmark):
    # At the limit of the criterion at most 5 % of trials may claim proportionality: 400 trials, three standard errors.
    trials = 400
    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    for design in ((3, 6), (20, 20)):
        at_limit = benchmark.rates(design, dose.slope_criterion(2)[0], 0.3, trials)
        assert at_limit.proportional <= most
        assert benchmark.rates(design, 0.5, 0.6, trials).proportional <= most
        # Nor may truly proportional exposure be called otherwise.
        assert benchmark.rates(design, 1.0, 0.6, trials).not_proportional <= most
    large = benchmark.rates((100, 100), 1.0, 0.3, 100)
    assert large.proportional > 0.95 and large.coverage > 0.8


def test_leaving_out_patients_below_the_lloq_biases_the_slope_and_censoring_does_not(benchmark):
    plain, censored = (benchmark.rates((20, 20), 1.5, 0.6, 150, 0.3, how) for how in ("ols", "censored"))
    assert plain.bias < -0.25 and abs(censored.bias) < 0.1
    assert plain.coverage < 0.8 < censored.coverage
