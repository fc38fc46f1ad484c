"""Detectable of sampled on set days: windows, who counts, exact intervals."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import pytest
from nkinetics.columns import DETECTABILITY, OBSERVATIONS
from nkinetics.errors import InputError
from nkinetics.population.detectability import detectability, exact_interval
from nkinetics.settings import Statistics, section
from nkinetics.store import complete


def observed(rows: list[tuple]) -> pd.DataFrame:
    """Observations from patient, time, status; LLOQ 10, LOD 3."""
    frame = pd.DataFrame(rows, columns=["patient_id", "time_actual", "status"])
    level = frame["status"].map({"quantified": 50.0})
    frame = frame.assign(dose_level="DL1", assay="qpcr", specimen="blood", lloq=10.0, lod=3.0, level=level)
    return complete(frame.assign(observation_id=[f"o{i:02d}" for i in range(len(frame))]), OBSERVATIONS)


def share(table: pd.DataFrame, day: str, limit: str = "lloq", group: str = "DL1") -> pd.Series:
    found = table[(table["day"] == day) & (table["limit"] == limit) & (table["dose_level"] == group)]
    assert len(found) == 1
    return found.iloc[0]


def binomial_tail(k: int, n: int, p: float) -> float:
    """Probability of k or more of n."""
    return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))


@pytest.mark.parametrize("n", [1, 3, 6, 9, 20])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_ends_of_the_exact_interval_have_the_tail_they_should(n: int, confidence: float) -> None:
    tail = (1 - confidence) / 2
    for k in range(n + 1):
        low, high = exact_interval(k, n, confidence)
        assert (low == 0) == (k == 0) and (high == 1) == (k == n)
        if k:
            assert binomial_tail(k, n, low) == pytest.approx(tail, rel=1e-9)
        if k < n:
            assert 1 - binomial_tail(k + 1, n, high) == pytest.approx(tail, rel=1e-9)
        mirrored = exact_interval(n - k, n, confidence)
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


def test_none_of_nine_leaves_an_upper_end_of_a_third() -> None:
    # 1 - 0.025^(1/9), as for 0 of 9 events.
    assert exact_interval(0, 9) == pytest.approx((0.0, 1 - 0.025 ** (1 / 9)))


def test_of_the_samples_in_a_window_the_nearest_to_the_day_counts() -> None:
    table = detectability(
        observed([("01", 24.5, "quantified"), ("01", 26.0, "not_detected"), ("01", 31.0, "quantified")])
    )
    assert (share(table, "D28")["n_sampled"], share(table, "D28")["n_detected"]) == (1, 0)
    near = detectability(observed([("01", 26.0, "not_detected"), ("01", 28.0, "quantified")]))
    assert share(near, "D28")["n_detected"] == 0, "of two equally near samples the earlier"


def test_patients_without_a_sample_in_the_window_are_not_in_the_denominator() -> None:
    table = detectability(
        observed([("01", 6.0, "quantified"), ("02", 6.2, "blq"), ("03", 7.6, "quantified"), ("04", 6.1, "failed")])
    )
    row = share(table, "D7")
    assert (row["n_treated"], row["n_sampled"], row["n_detected"]) == (4, 2, 1)
    assert (row["ci_lower"], row["ci_upper"]) == pytest.approx(exact_interval(1, 2))
    none = share(table, "M3")
    assert none["n_sampled"] == 0 and math.isnan(none["share"]) and none["reason"] == "no sample in the window"


def test_a_level_between_lod_and_lloq_is_detected_and_not_quantified() -> None:
    table = detectability(observed([("01", 6.0, "quantified"), ("02", 6.2, "blq"), ("03", 6.2, "not_detected")]))
    assert [int(share(table, "D7", limit)["n_detected"]) for limit in ("lloq", "lod")] == [1, 2]


def test_a_level_below_lloq_without_lod_leaves_no_share_of_the_others() -> None:
    frame = observed([("01", 6.0, "quantified"), ("02", 6.2, "blq"), ("03", 13.0, "quantified")])
    table = detectability(frame.assign(lod=math.nan))
    row = share(table, "D7", "lod")
    assert row["n_sampled"] == 2 and pd.isna(row["n_detected"]) and math.isnan(row["share"])
    assert row["reason"] == "no share: 1 of 2 patients with a level below LLOQ without LOD"
    assert share(table, "D7", "lloq")["share"] == 0.5 and share(table, "D14", "lod")["share"] == 1.0


def test_results_that_are_not_reportable_and_patients_without_infusion_do_not_count() -> None:
    frame = observed([("01", 6.0, "quantified"), ("02", 6.2, "quantified"), ("03", 6.2, "not_detected")])
    frame.loc[frame["patient_id"] == "03", "reportable"] = False
    given = pd.DataFrame({"patient_id": ["01", "02", "03"], "planned": 2e9, "given": [2e9, 0.0, math.nan]})
    row = share(detectability(frame, infusions=given), "D7")
    assert (row["n_treated"], row["n_sampled"], row["n_detected"]) == (2, 1, 1)


def test_the_days_are_those_of_the_configuration_in_any_order() -> None:
    choice = section("statistics", '{"detectable_at": {"W2": [14, 13, 15], "W1": [7, 6, 8]}, "confidence": 0.8}')
    table = detectability(observed([("01", 7.0, "quantified")]), settings=choice)
    assert list(dict.fromkeys(table["day"])) == ["W1", "W2"]
    assert share(table, "W1")["ci_lower"] == pytest.approx(0.1)
    pd.testing.assert_frame_equal(table, complete(table, DETECTABILITY))


@pytest.mark.parametrize("window", ["[7, 8, 9]", "[7, 6, 6.5]", "[7, 0, 8]"])
def test_a_window_that_does_not_hold_its_day_is_refused(window: str) -> None:
    with pytest.raises(InputError, match="earliest <= day <= latest"):
        section("statistics", f'{{"detectable_at": {{"W1": {window}}}}}')


def test_windows_of_the_default_do_not_share_a_sample() -> None:
    windows = sorted(Statistics().detectable_at.values())
    assert all(a[2] < b[1] for a, b in pairwise(windows))
    assert [w[0] for w in windows] == [6, 9, 13, 20, 27, 60, 90], "study days 7, 10, 14, 21, 28, and two, three months"
