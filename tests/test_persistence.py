"""Kaplan-Meier persistence: small examples by hand, and what is said about patients who cannot be counted."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.columns import DETECTABILITY, OBSERVATIONS, PERSISTENCE, PERSISTENCE_PATIENTS, PERSISTENCE_TURNBULL
from nkinetics.population.detectability import detectability
from nkinetics.population.persistence import (
    individual,
    kaplan_meier,
    kaplan_meier_curve,
    turnbull_by_dose_level,
)
from nkinetics.settings import Nca, Statistics
from nkinetics.store import complete
from statsmodels.duration.survfunc import SurvfuncRight

Z = 1.959963984540054


def plain_kaplan_meier(time: list[float], lost: list[bool]) -> dict[float, tuple[int, int, int, float, float, float]]:
    """Product-limit estimate and log-log interval, one step after the other."""
    out, survival, variance = {}, 1.0, 0.0
    for t in sorted({0.0, *time}):
        at_risk = sum(x >= t for x in time)
        events = sum(x == t and e for x, e in zip(time, lost, strict=True))
        censored = sum(x == t and not e for x, e in zip(time, lost, strict=True))
        if events:
            survival *= 1 - events / at_risk
            variance += events / (at_risk * (at_risk - events)) if at_risk > events else math.inf
        lower, upper = survival, survival
        if 0 < survival < 1:
            reach = Z * math.sqrt(variance) / math.log(survival)
            lower, upper = survival ** math.exp(-reach), survival ** math.exp(reach)
        out[t] = (at_risk, events, censored, survival, lower, upper)
    return out


def test_a_small_example_comes_out_as_by_hand() -> None:
    # 6 patients: lost at 10, 20, 20, 40; censored at 20 and 56.
    curve = kaplan_meier_curve(np.array([10, 20, 20, 20, 40, 56.0]), np.array([1, 1, 1, 0, 1, 0], dtype=bool))
    assert curve.time.tolist() == [0, 10, 20, 40, 56]
    assert curve.n_at_risk.tolist() == [6, 6, 5, 2, 1]
    assert curve.n_events.tolist() == [0, 1, 2, 1, 0]
    assert curve.n_censored.tolist() == [0, 0, 1, 0, 1]
    assert curve.survival.tolist() == pytest.approx([1, 5 / 6, 1 / 2, 1 / 4, 1 / 4], rel=1e-12)
    assert curve.median == 20
    # Greenwood at 20: 0.25 (1/30 + 2/15) = 1/24; reach 1.96 sqrt(1/6)/ln 0.5 on the log-log scale.
    reach = Z * math.sqrt(1 / 6) / math.log(0.5)
    assert curve.lower[2] == pytest.approx(0.5 ** math.exp(-reach), rel=1e-9)
    assert curve.upper[2] == pytest.approx(0.5 ** math.exp(reach), rel=1e-9)


def test_random_curves_agree_with_the_plain_product_limit() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        n = int(rng.integers(1, 15))
        time = rng.choice([1.0, 7, 10, 14, 21, 28, 55], n)
        lost = rng.random(n) < 0.6
        curve = kaplan_meier_curve(time, lost)
        wanted = plain_kaplan_meier(time.tolist(), lost.tolist())
        assert curve.time.tolist() == list(wanted)
        for i, row in enumerate(wanted.values()):
            got = (curve.n_at_risk[i], curve.n_events[i], curve.n_censored[i])
            assert got == row[:3]
            assert curve.survival[i] == pytest.approx(row[3], abs=1e-12)
            if row[3] > 0:
                assert (curve.lower[i], curve.upper[i]) == pytest.approx(row[4:], rel=1e-9)
            else:
                assert curve.lower[i] == 0 and math.isnan(curve.upper[i])


def test_the_median_is_the_first_time_at_half_and_missing_when_never_reached() -> None:
    assert kaplan_meier_curve(np.array([7.0, 14, 28, 28]), np.array([True, True, False, False])).median == 14.0
    assert math.isnan(kaplan_meier_curve(np.array([7.0, 28, 28]), np.array([True, False, False])).median)
    none = kaplan_meier_curve(np.array([28.0, 28]), np.array([False, False]))
    assert none.survival.tolist() == [1.0, 1.0] and none.lower.tolist() == [1.0, 1.0]


def study() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Nine patients: losses, one who dies with cells, one who is never quantified, one without a sample."""
    level = {
        "01": [500, 90, 40, None, None],
        "02": [500, 90, None, None, None],
        "03": [900, 400, 200, 80, 30],
        "04": [700, None, None, None, None],
        "05": [None, None, None, None, None],
        "06": [300, 200, 100, None, 60],
        "07": [800, 90, 30, 20, None],
    }
    times = [1.0, 7.0, 14.0, 28.0, 55.0]
    rows = [
        {
            "patient_id": patient,
            "sample_id": f"{patient}-{i}",
            "time_actual": t,
            "level": math.nan if c is None else float(c),
            "status": "not_detected" if c is None else "quantified",
            "lloq": 15.0,
            "lod": 5.0,
        }
        for patient, values in level.items()
        for i, (t, c) in enumerate(zip(times, values, strict=True))
    ]
    patients = pd.DataFrame(
        {
            "patient_id": [*level, "08"],
            "dose_level": ["DL1", "DL1", "DL1", "DL2", "DL2", "DL2", "DL2", "DL2"],
            "status_end": ["ongoing", "ongoing", "death", "ongoing", "ongoing", "data_cut", "ongoing", "ongoing"],
            "time_end": [math.nan, math.nan, 60.0, math.nan, math.nan, 70.0, math.nan, math.nan],
        }
    )
    return nca.analyse(pd.DataFrame(rows), patients=patients), patients


def test_dose_levels_and_all_patients_have_curves_from_the_nca() -> None:
    table, patients = study()
    found = kaplan_meier(table, patients)
    pd.testing.assert_frame_equal(found, complete(found, PERSISTENCE))
    lloq = found[found["limit"] == "lloq"]
    assert list(dict.fromkeys(lloq["dose_level"])) == ["DL1", "DL2", "all"]
    # DL1: lost at 28 and 14; the third dies at 60 with cells in the last sample: censored there, not at 55.
    one = lloq[lloq["dose_level"] == "DL1"]
    assert one["time"].tolist() == [0, 14, 28, 60]
    assert one["n_at_risk"].tolist() == [3, 3, 2, 1]
    assert one["n_censored"].tolist() == [0, 0, 0, 1]
    assert one["survival"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    assert set(one["median"]) == {28.0}
    # DL2: lost at 7; never quantified, at the first sample (1); 06 is back at 55: censored at its last sample, since a
    # data cut censors there; 07 lost at 55.
    two = lloq[lloq["dose_level"] == "DL2"]
    assert two["time"].tolist() == [0, 1, 7, 55]
    assert two["n_events"].tolist() == [0, 1, 1, 1] and two["n_censored"].tolist() == [0, 0, 0, 1]
    assert set(two["reason"]) == {
        "1 of 4 never quantified: lost at the first sample after the infusion; "
        "1 of 5 not counted (no sample of this patient); upper end of the median open"
    }
    everyone = lloq[lloq["dose_level"] == "all"]
    assert int(everyone["n_at_risk"].iloc[0]) == 7


def test_loss_below_the_lod_is_its_own_analysis() -> None:
    table, patients = study()
    one = kaplan_meier(table, patients)
    lod = one[(one["limit"] == "lod") & (one["dose_level"] == "all")]
    assert int(lod["n_at_risk"].iloc[0]) == 7
    assert "never detected" in lod["reason"].iloc[0]


def test_without_lod_the_analysis_at_the_lod_counts_no_one_and_says_why() -> None:
    frame = pd.DataFrame(
        {
            "patient_id": ["01", "01", "02", "02"],
            "dose_level": "DL1",
            "time_actual": [1.0, 7.0, 1.0, 7.0],
            "level": [500.0, math.nan, 80.0, math.nan],
            "status": ["quantified", "blq"] * 2,
            "lloq": 15.0,
        }
    )
    found = kaplan_meier(nca.analyse(frame))
    lod = found[(found["limit"] == "lod") & (found["dose_level"] == "DL1")]
    assert len(lod) == 1 and int(lod["n_at_risk"].iloc[0]) == 0 and math.isnan(lod["survival"].iloc[0])
    assert lod["reason"].iloc[0] == "no estimate: 2 of 2 patients with a level below LLOQ without LOD"
    lloq = found[(found["limit"] == "lloq") & (found["dose_level"] == "DL1")]
    assert lloq["reason"].iloc[0].startswith("n = 2: fewer than 3 patients")
    assert lloq["survival"].tolist() == [1.0, 0.0]


def test_one_patient_whose_detection_is_unknown_leaves_no_curve_of_the_others() -> None:
    # Counting the others alone would count those who never passed between LLOQ and LOD.
    table, patients = study()
    hit = (table["patient_id"] == "01") & table["parameter"].isin(["tlast_detected", "t_not_detected"])
    reason = "a level below LLOQ without LOD: not known whether it was detected"
    found = kaplan_meier(
        table.assign(value=table["value"].mask(hit), reason=table["reason"].mask(hit, reason)), patients
    )
    n = found[(found["limit"] == "lod") & (found["time"] == 0)].set_index("dose_level")["n_at_risk"].to_dict()
    assert n == {"DL1": 0, "DL2": 4, "all": 0}


def test_the_confidence_of_the_configuration_is_used() -> None:
    table, patients = study()
    wide, narrow = (kaplan_meier(table, patients, Statistics(confidence=c)) for c in (0.95, 0.5))
    inner = (wide["survival"] > 0) & (wide["survival"] < 1)
    assert (wide["ci_lower"][inner] < narrow["ci_lower"][inner]).all()
    assert (wide["ci_upper"][inner] > narrow["ci_upper"][inner]).all()


def test_no_result_at_all_gives_an_empty_table_with_its_columns() -> None:
    empty = nca.analyse(pd.DataFrame({"patient_id": [], "time_actual": [], "level": [], "status": [], "lloq": []}))
    assert list(kaplan_meier(empty).columns) == PERSISTENCE.names


def losses(limit: str = "lloq") -> pd.DataFrame:
    found = individual(*study())
    return found[found["limit"] == limit].set_index("patient_id")


def test_every_patient_has_last_presence_and_loss_at_both_limits_with_the_censoring() -> None:
    table, patients = study()
    found = individual(table, patients)
    pd.testing.assert_frame_equal(found, complete(found, PERSISTENCE_PATIENTS))
    assert list(found.columns) == PERSISTENCE_PATIENTS.names
    assert len(found) == 2 * len(patients)
    lloq = losses()
    assert lloq["censoring"].to_dict() == {
        "01": "interval",
        "02": "interval",
        "03": "right",
        "04": "interval",
        "05": "left",
        "06": "right",
        "07": "interval",
        "08": "none",
    }
    assert (lloq.loc["01", "last_present"], lloq.loc["01", "lost"]) == (14, 28)
    assert (lloq.loc["03", "censored_by"], lloq.loc["03", "time"]) == ("death", 60), "not at his last sample, day 55"
    assert (lloq.loc["06", "censored_by"], lloq.loc["06", "time"]) == ("data_cut", 55)
    assert lloq.loc["05", "lost"] == 1 and math.isnan(lloq.loc["05", "last_present"])
    assert math.isnan(lloq.loc["08", "time"]) and lloq.loc["08", "reason"] == "no sample of this patient"


def test_a_loss_that_is_not_confirmed_censors_at_the_last_presence_even_after_death() -> None:
    # Two in a row make a loss; the one sample below the limit is the last before death, so nobody saw cells until then.
    frame = pd.DataFrame(
        {
            "patient_id": "01",
            "time_actual": [1.0, 7.0, 14.0],
            "level": [500.0, 90.0, math.nan],
            "status": ["quantified", "quantified", "not_detected"],
            "lloq": 15.0,
            "lod": 5.0,
        }
    )
    patients = pd.DataFrame({"patient_id": ["01"], "dose_level": "DL1", "status_end": "death", "time_end": 40.0})
    found = individual(nca.analyse(frame, settings=Nca(consecutive_blq=2), patients=patients), patients)
    assert set(found["censored_by"]) == {"unconfirmed"} and set(found["time"]) == {7.0}


def test_turnbull_by_dose_level_keeps_each_loss_between_its_samples() -> None:
    table, patients = study()
    found = turnbull_by_dose_level(table, patients)
    pd.testing.assert_frame_equal(found, complete(found, PERSISTENCE_TURNBULL))
    one = found[(found["limit"] == "lloq") & (found["dose_level"] == "DL1")]
    # (14, 28], (7, 14], and cells on day 55: three intervals that do not overlap.
    assert one["interval_start"].tolist() == [7, 14, 55] and one["interval_end"].fillna(0).tolist() == [14, 28, 0]
    assert one["mass"].tolist() == pytest.approx([1 / 3] * 3, abs=1e-7)
    assert set(zip(one["median_lower"], one["median_upper"], strict=True)) == {(14, 28)}
    two = found[(found["limit"] == "lloq") & (found["dose_level"] == "DL2")]
    assert two["interval_start"].iloc[0] == 0 and two["interval_end"].iloc[0] == 1, (
        "never quantified: lost before day 1"
    )
    assert set(two["n"]) == {4} and "1 of 5 not counted" in two["reason"].iloc[0]


def test_kaplan_meier_lies_where_turnbull_ends_its_intervals_when_they_do_not_overlap() -> None:
    table, patients = study()
    steps = kaplan_meier(table, patients)
    intervals = turnbull_by_dose_level(table, patients)
    mine = [f[(f["limit"] == "lloq") & (f["dose_level"] == "DL1")] for f in (steps, intervals)]
    share = mine[0].set_index("time")["survival"]
    closed = mine[1][mine[1]["interval_end"].notna()]
    assert closed["survival"].tolist() == pytest.approx([share[t] for t in closed["interval_end"]], abs=1e-6)


def test_a_listing_whose_only_dose_level_is_called_all_has_each_row_once() -> None:
    numbers, patients = study()
    numbers, patients = numbers.assign(dose_level="all"), patients.assign(dose_level="all")
    rows = [{"patient_id": p, "time_actual": t, "level": 90.0, "lloq": 15.0} for p in ("01", "02") for t in (1.0, 7.0)]
    more = {"status": "quantified", "assay": "qpcr", "specimen": "blood", "dose_level": "all", "reportable": True}
    observations = complete(pd.DataFrame(rows).assign(**more), OBSERVATIONS)
    for table, schema in (
        (kaplan_meier(numbers, patients), PERSISTENCE),
        (turnbull_by_dose_level(numbers, patients), PERSISTENCE_TURNBULL),
        (detectability(observations, patients), DETECTABILITY),
    ):
        assert len(table) and set(table["dose_level"]) == {"all"}
        assert not table.duplicated(list(schema.key)).any(), schema.name


@pytest.mark.parametrize("seed", range(8))
def test_curve_and_greenwoods_error_are_those_of_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 200))
    time, lost = rng.integers(1, 15, n).astype(float), rng.random(n) < 0.6
    curve = kaplan_meier_curve(time, lost, 0.9)
    with np.errstate(all="ignore"):
        other = SurvfuncRight(time, lost.astype(int))
    for t, share, error in zip(other.surv_times, other.surv_prob, other.surv_prob_se, strict=True):
        at = int(np.flatnonzero(curve.time == t).item())
        assert curve.survival[at] == pytest.approx(share, abs=1e-12)
        if 0 < share < 1:
            reach = NormalDist().inv_cdf(0.95) * error / (share * np.log(share))
            ends = share ** np.exp(-reach), share ** np.exp(reach)
            assert (curve.lower[at], curve.upper[at]) == pytest.approx(ends, rel=1e-9)
    assert curve.n_events.sum() + curve.n_censored.sum() == n == curve.n_at_risk[0]
    assert curve.n_at_risk.tolist() == [int((time >= t).sum()) for t in curve.time]
