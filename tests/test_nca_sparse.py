"""Areas under mean curves from destructive, batch and complete sampling, and their standard errors."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.errors import InputError
from nkinetics.settings import Statistics
from scipy import stats

NAN = math.nan
TIMES = np.array([0.0, 1.0, 3.0, 7.0, 14.0])
WEIGHTS = np.array([0.5, 1.5, 3.0, 5.5, 3.5])


def correlated(rng: np.random.Generator, subjects: int) -> np.ndarray:
    """Levels of subjects whose height differs, so that samples of one subject go together."""
    mean = np.array([20.0, 100.0, 300.0, 120.0, 30.0])
    height = rng.normal(1, 0.25, (subjects, 1))
    return mean * height * (1 + rng.normal(0, 0.15, (subjects, len(TIMES))))


def as_samples(levels: np.ndarray, sampled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    who, at = np.nonzero(sampled)
    return TIMES[at], levels[who, at], who


# ------------------------------------------------------------------------------------------------------------ by hand


def test_destructive_sampling_has_the_variance_and_degrees_of_freedom_of_bailer_and_satterthwaite() -> None:
    # Means 2, 6, 10; weights 1/2, 3/2, 1. Variances 2, 8, 4 of 2, 2, 3 subjects.
    one = nca.sparse_auc([0, 0, 1, 1, 3, 3, 3], [1, 3, 4, 8, 8, 10, 12])
    assert one["auc"] == pytest.approx(0.5 * 2 + 1.5 * 6 + 10, rel=1e-14)
    parts = np.array([0.25 * 2 / 2, 2.25 * 8 / 2, 4 / 3])
    assert one["se"] == pytest.approx(math.sqrt(parts.sum()), rel=1e-14)
    assert one["df"] == pytest.approx(parts.sum() ** 2 / (parts**2 / [1, 1, 2]).sum(), rel=1e-12)
    half = stats.t.ppf(0.975, one["df"]) * one["se"]
    assert (one["ci_lower"], one["ci_upper"]) == pytest.approx((one["auc"] - half, one["auc"] + half), rel=1e-12)
    assert (one["n_times"], one["n_subjects"], one["n_samples"], one["reason"]) == (3, 7, 7, "")


def test_whole_profiles_have_the_standard_error_of_the_mean_of_their_own_areas() -> None:
    levels = correlated(np.random.default_rng(1), 9)
    one = nca.sparse_auc(*as_samples(levels, np.ones_like(levels, dtype=bool)))
    areas = levels @ WEIGHTS
    assert one["auc"] == pytest.approx(areas.mean(), rel=1e-13)
    assert one["se"] == pytest.approx(areas.std(ddof=1) / 3, rel=1e-12)
    assert one["df"] == pytest.approx(8.0, rel=1e-9)


def test_batches_that_share_no_time_add_the_variances_of_their_parts() -> None:
    levels = correlated(np.random.default_rng(2), 11)
    sampled = np.zeros_like(levels, dtype=bool)
    sampled[:5, [0, 2]] = sampled[5:, [1, 3, 4]] = True
    one = nca.sparse_auc(*as_samples(levels, sampled))
    parts = [levels[:5, [0, 2]] @ WEIGHTS[[0, 2]], levels[5:, [1, 3, 4]] @ WEIGHTS[[1, 3, 4]]]
    variances = np.array([p.var(ddof=1) / len(p) for p in parts])
    assert one["auc"] == pytest.approx(sum(p.mean() for p in parts), rel=1e-13)
    assert one["se"] == pytest.approx(math.sqrt(variances.sum()), rel=1e-12)
    assert one["df"] == pytest.approx(variances.sum() ** 2 / (variances**2 / [4, 5]).sum(), rel=1e-9)


def test_subjects_in_common_count_with_the_unbiased_covariance_of_holder() -> None:
    # A, B, C at 0 and B, C, D at 1: variances 7 and 7; (-1)(-2) + 3(-1) = -1 over 1 + 1/9; weights 1/2.
    one = nca.sparse_auc([0, 0, 0, 1, 1, 1], [1, 2, 6, 4, 5, 9], list("ABCBCD"))
    assert one["auc"] == 4.5
    assert one["se"] ** 2 == pytest.approx(2 * 0.25 * 7 / 3 + 2 * 0.25 * 2 / 9 * -0.9, rel=1e-13)
    # 10 over 10/9 would be a correlation of 9/7: it is taken for 1.
    other = nca.sparse_auc([0, 0, 0, 1, 1, 1], [1, 2, 6, 4, 8, 3], list("ABCBCD"))
    assert other["se"] ** 2 == pytest.approx(2 * 0.25 * 7 / 3 + 2 * 0.25 * 2 / 9 * 7, rel=1e-13)


# ------------------------------------------------------------------------------------------------------------ by law


def test_unit_and_order_change_nothing_but_the_unit() -> None:
    rng = np.random.default_rng(3)
    levels, sampled = correlated(rng, 12), rng.random((12, len(TIMES))) < 0.6
    time, level, who = as_samples(levels, sampled)
    one = nca.sparse_auc(time, level, who)
    order = rng.permutation(len(time))
    other = nca.sparse_auc(24 * time[order], 1000 * level[order], who[order])
    for name in ("auc", "se", "ci_lower", "ci_upper"):
        assert other[name] == pytest.approx(24_000 * one[name], rel=1e-12)
    assert other["df"] == pytest.approx(one["df"], rel=1e-9)


@pytest.mark.parametrize("design", ["destructive", "batches that overlap", "complete"])
def test_the_standard_error_is_that_of_repeated_trials(design: str) -> None:
    rng = np.random.default_rng(4)
    sampled = np.zeros((20, len(TIMES)), dtype=bool)
    if design == "destructive":
        sampled[np.arange(20), np.arange(20) % 5] = True
    elif design == "complete":
        sampled[:] = True
    else:
        sampled[:7, [0, 1, 3]] = sampled[7:14, [1, 2, 4]] = sampled[14:, [0, 2, 3, 4]] = True
    trials = [nca.sparse_auc(*as_samples(correlated(rng, 20), sampled)) for _ in range(1500)]
    areas, errors = (np.array([t[k] for t in trials]) for k in ("auc", "se"))
    truth = WEIGHTS @ np.array([20.0, 100.0, 300.0, 120.0, 30.0])
    # 1,500 trials know a standard deviation within 2 %; the mean variance is unbiased.
    assert math.sqrt((errors**2).mean()) == pytest.approx(areas.std(ddof=1), rel=0.05)
    assert areas.mean() == pytest.approx(truth, abs=3 * areas.std() / math.sqrt(1500))
    covered = np.mean([t["ci_lower"] <= truth <= t["ci_upper"] for t in trials])
    assert 0.93 <= covered <= 0.97, covered


def test_covariance_counts_where_subjects_come_again() -> None:
    levels = correlated(np.random.default_rng(5), 15)
    time, level, who = as_samples(levels, np.ones_like(levels, dtype=bool))
    assert nca.sparse_auc(time, level, who)["se"] > 1.5 * nca.sparse_auc(time, level)["se"]


# ------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(("rule", "first", "last"), [("zero", 0.0, 8.0), ("drop", None, 16.0), ("lloq", 4.0, 10.0),
                                                     ("half_lloq", 2.0, 9.0)])  # fmt: skip
def test_a_sample_below_its_lloq_counts_by_the_rule(rule: str, first: float | None, last: float) -> None:
    # At 0 only BLQ; at 1 levels 10 and 20; at 2 one level of 16 and one BLQ; at 3 only BLQ, after the last level.
    time, level = [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 10, 20, 16, 3.9, 0, 2]
    one = nca.sparse_auc(time, level, lloq=4.0, blq=rule)
    area = (15 + last) / 2 + (0 if first is None else (first + 15) / 2)
    assert one["auc"] == pytest.approx(area, rel=1e-14)
    assert (one["tlast"], one["n_blq"]) == (2.0, 5)
    assert one["means"]["n_blq"].tolist() == [2, 0, 1, 2]
    other = nca.sparse_auc(time, [0.5, 0, 10, 20, 16, 0, 3, 3], lloq=4.0, blq=rule)
    assert other["auc"] == one["auc"], "the number of a BLQ level does not matter"
    if rule == "drop":
        assert math.isnan(one["se"]) and one["reason"] == "no standard error: one subject at 2"
    else:
        assert one["se"] > 0


def test_what_cannot_be_computed_says_why() -> None:
    assert nca.sparse_auc([0, 1], [0, 0])["reason"] == "no quantified level"
    assert nca.sparse_auc([0, 1], [NAN, NAN])["reason"] == "no sample"
    assert nca.sparse_auc([], [])["reason"] == "no sample"
    assert nca.sparse_auc([1, 1], [3, 4])["reason"] == "an area needs two times"
    single = nca.sparse_auc([0, 0, 1], [1, 3, 4])
    assert single["auc"] == 3.0 and math.isnan(single["se"])
    assert single["reason"] == "no standard error: one subject at 1"
    flat = nca.sparse_auc([0, 0, 1, 1], [2, 2, 4, 4])
    assert (flat["auc"], flat["se"], flat["reason"]) == (3.0, 0.0, "no interval: the levels of a time do not vary")
    for one in (nca.sparse_auc([0, 1], [0, 0]), single, flat):
        assert one["reason"] or not any(math.isnan(one[k]) for k in ("auc", "se", "df", "ci_lower", "ci_upper"))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="two samples of one subject at 1"):
        nca.sparse_auc([0, 1, 1], [1, 2, 3], ["a", "a", "a"])
    with pytest.raises(InputError, match="a BLQ sample without LLOQ"):
        nca.sparse_auc([0, 1], [0, 3], blq="half_lloq")
    with pytest.raises(InputError, match="one of zero, drop, lloq, half_lloq"):
        nca.sparse_auc([0, 1], [0, 3], blq="keep")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- table


def marrow() -> pd.DataFrame:
    """Aspirates of two dose levels, one per patient, at three planned days."""
    rows = [("DL1", d, c) for d, c in [(7, 100.0), (7, 140.0), (14, 60.0), (14, 20.0), (28, None), (28, 10.0)]]
    rows += [("DL2", d, c) for d, c in [(7, None), (7, None), (28, None)]]
    return pd.DataFrame(
        {
            "patient_id": [f"{i:02d}" for i in range(len(rows))],
            "dose_level": [d for d, _, _ in rows],
            "assay": "qpcr",
            "specimen": "marrow",
            "time_nominal": [float(t) for _, t, _ in rows],
            "time_actual": [t + 0.3 for _, t, _ in rows],
            "level": [NAN if c is None else c for _, _, c in rows],
            "status": ["blq" if c is None else "quantified" for _, _, c in rows],
            "lloq": 5.0,
            "level_unit": "copies/ug",
            "reportable": True,
        }
    )


def test_the_table_has_every_dose_level_by_planned_time() -> None:
    table = nca.sparse_table(marrow(), settings=Statistics(confidence=0.9)).set_index("dose_level")
    assert table.index.tolist() == ["DL1", "DL2"]
    # Means 120, 40 and 5 (one BLQ counted as 0).
    assert table.loc["DL1", "auc"] == 7 * 80 + 14 * 22.5
    parts = 3.5**2 * 800 / 2 + 10.5**2 * 800 / 2 + 7**2 * 50 / 2
    assert table.loc["DL1", "se"] == pytest.approx(math.sqrt(parts), rel=1e-13)
    half = stats.t.ppf(0.95, table.loc["DL1", "df"]) * math.sqrt(parts)
    assert table.loc["DL1", "ci_upper"] == pytest.approx(table.loc["DL1", "auc"] + half, rel=1e-12)
    assert table.loc["DL1", ["n_patients", "n_samples", "n_blq", "unit"]].tolist() == [6, 6, 1, "d*copies/ug"]
    assert math.isnan(table.loc["DL2", "auc"]) and table.loc["DL2", "reason"] == "no quantified level"


def test_rows_that_do_not_count_and_samples_taken_twice_are_told_apart() -> None:
    frame = marrow()
    again = frame.iloc[[0]].assign(level=180.0)
    unused = frame.iloc[[1]].assign(level=9e9, reportable=False, patient_id="98")
    unplanned = frame.iloc[[1]].assign(level=9e9, time_nominal=NAN, patient_id="99")
    table = nca.sparse_table(pd.concat([frame, again, unused, unplanned])).set_index("dose_level")
    # The first patient counts with the mean of 100 and 180.
    assert table.loc["DL1", "auc"] == 7 * 90 + 14 * 22.5
    assert table.loc["DL1", "n_patients"] == 6


def test_a_level_above_the_uloq_leaves_no_mean_and_two_units_are_refused() -> None:
    frame = marrow()
    frame.loc[0, "status"] = "above_uloq"
    table = nca.sparse_table(frame).set_index("dose_level")
    assert math.isnan(table.loc["DL1", "auc"])
    assert table.loc["DL1", "reason"] == "a level above the ULOQ at d 7"
    frame = marrow()
    frame.loc[0, "level_unit"] = "copies/mL"
    with pytest.raises(InputError, match="more than one unit for DL1 qpcr marrow: copies/mL, copies/ug"):
        nca.sparse_table(frame)


def test_without_planned_times_the_actual_ones_are_used() -> None:
    table = nca.sparse_table(marrow().drop(columns="time_nominal")).set_index("dose_level")
    assert table.loc["DL1", "tlast"] == 28.3
