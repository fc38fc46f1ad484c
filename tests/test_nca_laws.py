"""Laws that the parameters obey for every profile, whatever the numbers."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.errors import InputError
from nkinetics.nca.auc import LINEAR_UP_LOG_DOWN, log_drop, piece_areas, piece_moments, segments
from nkinetics.settings import LambdaZ, ManualPoints, Nca
from scipy.integrate import quad

NAN = math.nan
WIDE = {"r_squared_adj_min": 0.0, "span_ratio_min": 1e-9, "extrapolation_pct_max": 1e9}
POWERS = {  # parameter: (power of the level scale, power of the time scale)
    "cmax": (1, 0), "clast": (1, 0), "clast_pred": (1, 0), "tmax": (0, 1), "tlast": (0, 1), "tfirst": (0, 1),
    "tlag": (0, 1), "t_blq": (0, 1), "auc_last": (1, 1), "auc_all": (1, 1), "auc_int": (1, 1), "auc_inf_obs": (1, 1),
    "auc_inf_pred": (1, 1), "auc_extrap_pct": (0, 0), "auc_int_extrap_pct": (0, 0), "aumc_last": (1, 2),
    "aumc_inf_obs": (1, 2), "mrt_last": (0, 1), "mrt_inf_obs": (0, 1), "lambda_z": (0, -1), "half_life": (0, 1),
    "lambda_z_n_points": (0, 0), "lambda_z_start": (0, 1), "lambda_z_end": (0, 1), "r_squared": (0, 0),
    "r_squared_adj": (0, 0), "corr_xy": (0, 0), "span_ratio": (0, 0), "c0": (1, 0), "time_above": (0, 1),
    "cmax_dose_norm": (1, 0), "auc_last_dose_norm": (1, 1), "auc_int_dose_norm": (1, 1), "accumulation_cmax": (0, 0),
    "accumulation_auc": (0, 0), "recovery_ratio": (0, 0), "trough": (1, 0), "tlast_detected": (0, 1),
    "t_not_detected": (0, 1),
}  # fmt: skip
RULES = ["linear_up_log_down", "linear", "linear_log"]


def random_profile(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, levels and LLOQs of an expansion and contraction with noise; some levels lie below their LLOQ."""
    n = int(rng.integers(4, 14))
    time = np.sort(rng.choice(np.arange(0, 60, 0.5), n, replace=False))
    peak = rng.uniform(4, 15)
    mean = 2000 * np.exp(np.where(time < peak, 0.5 * (time - peak), -rng.uniform(0.03, 0.4) * (time - peak)))
    level = mean * np.exp(rng.normal(0, 0.4, n))
    return time, level, np.exp(rng.normal(3, 0.7, n))


def profiles(seed: int, n: int = 60) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [random_profile(rng) for _ in range(n)]


def assert_same(one: float, other: float, where: Any) -> None:
    assert math.isnan(one) == math.isnan(other), where
    if not math.isnan(one):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12), where


@pytest.mark.parametrize("rule", RULES)
def test_levels_and_times_scale_with_their_units(rule: str) -> None:
    for time, level, lloq in profiles(1):
        a, b = 1000.0, 24.0
        some = {"auc_rule": rule, "amount": 5.0, **WIDE}
        one = nca.profile(time, level, lloq=lloq, windows=[[0, 28]], above_limit=90.0, **some)
        # Hours in place of days, another unit of the level.
        other = nca.profile(time * b, level * a, lloq=lloq * a, windows=[[0, 28 * b]], above_limit=90.0 * a, **some)
        for name, (of_level, of_time) in POWERS.items():
            assert_same(other[name], one[name] * a**of_level * b**of_time, (name, time, level, lloq))


def three_infusions(seed: int, n: int) -> pd.DataFrame:
    """Profiles around infusions at 0, 4 and 8, with a pre-dose sample before each; some levels below their LLOQ."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        time = np.concatenate([[-0.125, 3.875, 7.875], np.sort(rng.choice(np.arange(0.25, 60, 0.25), 12, False))])
        peak = rng.uniform(6, 14)
        mean = 1500 * np.exp(np.where(time < peak, 0.4 * (time - peak), -rng.uniform(0.03, 0.4) * (time - peak)))
        level, lloq = mean * np.exp(rng.normal(0, 0.5, len(time))), np.exp(rng.normal(3, 0.7, len(time)))
        rows += [
            {"patient_id": f"{i:03d}", "sample_id": f"{j}", "time_actual": t, "level": c, "lloq": q, "lod": q / 3,
             "status": "quantified", "predose": t in (-0.125, 3.875, 7.875)}
            for j, (t, c, q) in enumerate(zip(time, level, lloq, strict=True))
        ]  # fmt: skip
    return pd.DataFrame(rows).drop_duplicates(["patient_id", "time_actual"])


def given_at(frame: pd.DataFrame, *starts: float, amounts: tuple[float, ...] = (1e9, 2e9, 4e9)) -> pd.DataFrame:
    patients = frame["patient_id"].unique()
    return pd.DataFrame(
        {
            "patient_id": np.repeat(patients, len(starts)),
            "infusion": list(range(1, len(starts) + 1)) * len(patients),
            "time": list(starts) * len(patients),
            "planned": list(amounts) * len(patients),
            "given": list(amounts) * len(patients),
            "unit": "cells",
        }
    )


@pytest.mark.parametrize("method", ["regression", "tobit"])
def test_every_parameter_of_every_window_scales_with_the_units_of_level_and_time(method: str) -> None:
    frame = three_infusions(10, 60)
    a, b = 1e-3, 24.0
    slope = LambdaZ(**WIDE, method=method)
    one = nca.analyse(
        frame, given_at(frame, 0, 4, 8), Nca(windows=((0.0, 28.0),), above_limit=100.0, lambda_z=slope)
    ).set_index(["patient_id", "window", "parameter"])["value"]
    other = nca.analyse(
        frame.assign(
            time_actual=frame["time_actual"] * b, level=frame["level"] * a, lloq=frame["lloq"] * a, lod=frame["lod"] * a
        ),
        given_at(frame, 0, 4 * b, 8 * b),
        Nca(windows=((0.0, 28.0 * b),), above_limit=100.0 * a, lambda_z=slope),
    ).set_index(["patient_id", "window", "parameter"])["value"]
    assert set(POWERS) == set(nca.BY_NAME)
    seen = set()
    for (patient, window, name), value in one.items():
        where = (patient, window.replace("D0-28", "D0-672"), name)
        of_level, of_time = POWERS[name]
        assert_same(other[where], value * a**of_level * b**of_time, where)
        seen |= {name} if not math.isnan(value) else set()
    assert seen == set(nca.BY_NAME)


def test_values_by_amount_fall_as_the_amount_rises_and_nothing_else_changes() -> None:
    frame = three_infusions(11, 30)
    key = ["patient_id", "window", "parameter"]
    one, other = (
        nca.analyse(frame, given_at(frame, 0, 4, 8, amounts=amounts)).set_index(key)["value"]
        for amounts in ((1e9, 2e9, 4e9), (4e9, 8e9, 16e9))
    )
    by_amount = one.index.get_level_values("parameter").str.endswith("_dose_norm")
    pd.testing.assert_series_equal(other[~by_amount], one[~by_amount])
    np.testing.assert_allclose(other[by_amount], one[by_amount] / 4, rtol=1e-13)
    assert one[by_amount].notna().sum() > 100


def test_the_unit_of_the_level_leaves_no_trace_in_ratios_between_infusions() -> None:
    frame = three_infusions(12, 30)
    table = nca.analyse(frame, given_at(frame, 0, 4, 8)).set_index(["parameter", "patient_id", "window"])["value"]
    for k in (2, 3):
        cmax, first = (table["cmax"].xs(f"infusion_{i}", level="window") for i in (k, 1))
        ratio = table["accumulation_cmax"].xs(f"infusion_{k}", level="window")
        np.testing.assert_allclose(ratio, cmax / first, rtol=1e-14)
    # Windows of the first two infusions are equally long: their areas are the window areas.
    area, first = (table["auc_int"].xs(f"infusion_{i}", level="window") for i in (2, 1))
    ratio = table["accumulation_auc"].xs("infusion_2", level="window")
    both = ratio.notna()
    assert both.sum() > 10
    np.testing.assert_allclose(ratio[both], (area / first)[both], rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_time_above_adds_up_over_windows_falls_with_the_limit_and_fills_the_window_below_every_level(rule: str) -> None:
    for time, level, lloq in profiles(13):
        one = {"lloq": lloq, "auc_rule": rule, "start": "first", "first": "drop", **WIDE}
        cut = float(time[len(time) // 2])
        limits = [1e-6, 5.0, 80.0, 400.0, 1e5]
        found = []
        for limit in limits:
            done = nca.profile(time, level, **one, above_limit=limit, windows=[[0, 60], [0, cut], [cut, 60]])
            if math.isnan(done["time_above"]):
                continue
            whole, *parts = (w["time_above"] for w in done["windows"].values())
            assert whole == pytest.approx(done["time_above"], rel=1e-12, abs=1e-12)
            if not any(map(math.isnan, parts)):
                assert whole == pytest.approx(sum(parts), rel=1e-12, abs=1e-12)
            found.append(whole)
        assert found == sorted(found, reverse=True)
        if found:
            assert found[0] == pytest.approx(done["tlast"], rel=1e-12) and found[-1] == 0.0


def test_a_limit_next_to_a_level_is_told_apart_from_it() -> None:
    # Level 100 from 0 to 4, then down: touching is not above, the next number below is.
    for limit, wanted in ((100.0, 0.0), (np.nextafter(100.0, 0), 4.0), (np.nextafter(100.0, 200), 0.0)):
        one = nca.profile([0, 4, 8], [100.0, 100.0, 50.0], above_limit=float(limit))
        assert one["time_above"] == pytest.approx(wanted, abs=1e-12)
    # Neighbouring levels around a limit: the piece is straight enough for either rule, and nothing overflows.
    low, high = 100.0, float(np.nextafter(100.0, 200))
    one = nca.profile([0, 1, 2], [high, low, high], above_limit=low)
    assert one["time_above"] == pytest.approx(2.0, rel=1e-12)
    assert one["c0"] == high


def test_a_tail_of_neighbouring_numbers_is_a_slope_or_none_but_never_infinite() -> None:
    c = 70.0
    down = [c, float(np.nextafter(c, 0)), float(np.nextafter(np.nextafter(c, 0), 0))]
    for tail in (down, down[::-1], [down[0], down[0], down[1]]):
        one = nca.profile([0, 1, 2, 3, 4], [0, 900, *tail], **WIDE)
        for name in nca.BY_NAME:
            assert math.isfinite(one[name]) or one["reasons"][name], name
    one = nca.profile([0, 1, 2, 3, 4], [0, 900, *down], points_min=3, tolerance=1e-12, **WIDE)
    assert one["lambda_z"] > 0


def test_an_area_is_additive_at_an_observed_time() -> None:
    for time, level, lloq in profiles(14):
        one = nca.profile(time, level, lloq=lloq, windows=[[0, 60]], **WIDE)
        quantified = time[level >= lloq]
        for cut in quantified[quantified > 0]:
            windows = [[0, 60], [0, float(cut)], [float(cut), 60]]
            whole, *parts = (
                w["auc_int"] for w in nca.profile(time, level, lloq=lloq, windows=windows, **WIDE)["windows"].values()
            )
            if not math.isnan(whole):
                assert whole == pytest.approx(one["auc_int"], rel=1e-14)
                assert whole == pytest.approx(sum(parts), rel=1e-12)


def test_a_shift_of_time_zero_moves_the_windows_of_an_infusion_with_it() -> None:
    rows, given = [], []
    for i, (time, level, lloq) in enumerate(profiles(2)):
        for patient, shift in ((f"A{i:02d}", 0.0), (f"B{i:02d}", 8192.0)):
            given.append({"patient_id": patient, "infusion": 1, "time": shift})
            rows += [
                {"patient_id": patient, "sample_id": f"{j}", "time_actual": t + shift, "level": c, "lloq": q,
                 "status": "quantified"}
                for j, (t, c, q) in enumerate(zip(time, level, lloq, strict=True))
            ]  # fmt: skip
    settings = Nca(above_limit=60.0, lambda_z=LambdaZ(method="tobit"))
    table = nca.analyse(pd.DataFrame(rows), pd.DataFrame(given).assign(planned=2e9, given=1.5e9), settings)
    table = table[table["window"] == "infusion_1"].set_index(["patient_id", "parameter"])["value"]
    for (patient, parameter), value in table.items():
        if patient.startswith("A"):
            assert_same(table[("B" + patient[1:], parameter)], value, (patient, parameter))


@pytest.mark.parametrize("rule", RULES)
def test_areas_of_neighbouring_windows_add_up(rule: str) -> None:
    for time, level, lloq in profiles(3):
        cuts = [0.0, float(time[1]) + 0.25, float(time[len(time) // 2]), float(time[-1]) + 5]
        if not cuts[0] < cuts[1] < cuts[2] < cuts[3]:
            continue
        windows = [[a, b] for a, b in itertools.pairwise(cuts)]
        one = nca.profile(time, level, lloq=lloq, auc_rule=rule, windows=[[0, cuts[-1]], *windows], **WIDE)
        parts = [w["auc_int"] for name, w in one["windows"].items()]
        if not math.isnan(parts[0]) and not any(map(math.isnan, parts[1:])):
            assert parts[0] == pytest.approx(sum(parts[1:]), rel=1e-12)


def test_the_order_of_samples_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    for time, level, lloq in profiles(4):
        order = rng.permutation(len(time))
        one, other = nca.profile(time, level, lloq=lloq), nca.profile(time[order], level[order], lloq=lloq[order])
        assert repr(one) == repr(other)


def test_a_study_gives_the_same_numbers_whole_shuffled_and_patient_by_patient() -> None:
    rows = [
        {"patient_id": f"{i:03d}", "sample_id": f"{j}", "observation_id": f"{i}-{j}", "time_actual": t, "level": c,
         "lloq": q, "status": "quantified"}
        for i, (time, level, lloq) in enumerate(profiles(5, 20))
        for j, (t, c, q) in enumerate(zip(time, level, lloq, strict=True))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    whole, points = nca.analyse_with_points(frame)
    shuffled, shuffled_points = nca.analyse_with_points(frame.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(whole, shuffled)
    pd.testing.assert_frame_equal(points, shuffled_points)
    one_by_one = pd.concat([nca.analyse(own) for _, own in frame.groupby("patient_id")], ignore_index=True)
    pd.testing.assert_frame_equal(whole, one_by_one)


def test_a_study_of_several_infusions_gives_the_same_numbers_whole_shuffled_and_patient_by_patient() -> None:
    frame = three_infusions(15, 20)
    given = given_at(frame, 0, 4, 8)
    by_hand = tuple(
        ManualPoints(patient_id=str(p), assay="qpcr", exclude=(float(own["time_actual"].max()),), reason="a test")
        for p, own in frame[frame["level"] >= frame["lloq"]].groupby("patient_id")
        if str(p) < "010"
    )
    settings = Nca(above_limit=80.0, lambda_z=LambdaZ(method="tobit", manual=by_hand))
    whole = nca.analyse(frame, given, settings)
    assert whole["reason"].str.contains("left out by hand").any() and whole["reason"].str.contains("censored").any()
    mixed = nca.analyse(frame.sample(frac=1, random_state=2), given.sample(frac=1, random_state=3), settings)
    pd.testing.assert_frame_equal(whole, mixed)
    one_by_one = pd.concat(
        [nca.analyse(own, given[given["patient_id"] == p], settings) for p, own in frame.groupby("patient_id")],
        ignore_index=True,
    )
    pd.testing.assert_frame_equal(whole, one_by_one, rtol=1e-12)


@pytest.mark.parametrize("rule", ["zero", "drop", "lloq", "half_lloq"])
def test_the_number_of_a_level_below_its_lloq_does_not_matter(rule: str) -> None:
    for time, level, lloq in profiles(6):
        below = level < lloq
        other = np.where(below, lloq * np.random.default_rng(1).uniform(0, 0.999, len(level)), level)
        assert repr(nca.profile(time, level, lloq=lloq, blq=rule)) == repr(
            nca.profile(time, other, lloq=lloq, blq=rule)
        )


@pytest.mark.parametrize("k", [1, 2])
def test_persistence_never_gets_shorter_when_the_assay_gets_better(k: int) -> None:
    for time, level, lloq in profiles(7):
        last, lost = -math.inf, -math.inf
        for better in (8.0, 4.0, 2.0, 1.0, 0.5, 0.1):
            one = nca.profile(time, level, lloq=lloq * better, consecutive_blq=k)
            if not math.isnan(one["tlast"]):
                assert one["tlast"] >= last
                last = one["tlast"]
            # Still quantified at the last sample is longer than any loss.
            gone = one["t_blq"] if not math.isnan(one["t_blq"]) else math.inf
            if one["reasons"].get("t_blq", "").startswith("no quantified level"):
                continue
            assert gone >= lost
            lost = gone


@pytest.mark.parametrize("tmax", [2.0, 7.0])
def test_linear_up_log_down_is_exact_on_a_linear_rise_and_one_exponential(tmax: float) -> None:
    peak, rate, last = 900.0, 0.23, 40.0
    rng = np.random.default_rng(8)
    for _ in range(20):
        before = np.sort(rng.uniform(0, tmax, 3))
        after = np.append(np.sort(rng.uniform(tmax, last, 5)), last)
        time = np.concatenate([[0], before, [tmax], after])
        level = np.where(time <= tmax, peak * time / tmax, peak * np.exp(-rate * (time - tmax)))
        one = nca.profile(time, level, windows=[[0, 25]], **WIDE)
        area = peak * tmax / 2 + peak / rate * -math.expm1(-rate * (last - tmax))
        assert one["auc_last"] == pytest.approx(area, rel=1e-12)
        assert one["auc_int"] == pytest.approx(
            peak * tmax / 2 + peak / rate * -math.expm1(-rate * (25 - tmax)), rel=1e-12
        )
        assert one["lambda_z"] == pytest.approx(rate, rel=1e-11)
        assert one["auc_inf_obs"] == pytest.approx(peak * tmax / 2 + peak / rate, rel=1e-11)
        assert one["clast_pred"] == pytest.approx(one["clast"], rel=1e-11)


def test_a_window_past_the_end_of_follow_up_gives_the_area_of_the_exponential_itself() -> None:
    time = np.array([0.0, 1, 3, 6, 10])
    level = 700 * np.exp(-0.4 * time)
    one = nca.profile(time, level, windows=[[0, 28]], include_tmax=True, r_squared_adj_min=0.8)
    assert one["auc_int"] == pytest.approx(700 / 0.4 * -math.expm1(-0.4 * 28), rel=1e-12)
    tail = level[-1] / 0.4 * -math.expm1(-0.4 * 18)
    assert one["auc_int_extrap_pct"] == pytest.approx(100 * tail / one["auc_int"], rel=1e-9)
    assert "extrapolated from d 10 with lambda_z" in one["reasons"]["auc_int"]


def test_the_log_rule_keeps_its_digits_on_neighbours_that_are_nearly_equal() -> None:
    # A plain ratio of logarithms gave 1024 for 2000 here.
    for c in (1000.0, 3.7e-5, 8.1e11):
        level = np.array([[c, np.nextafter(c, 0), np.nextafter(np.nextafter(c, 0), 0)]])
        pieces = segments(np.array([[0.0, 1.0, 2.0]]), level, LINEAR_UP_LOG_DOWN, np.zeros(1))
        assert piece_areas(pieces).sum() == pytest.approx(2 * c, rel=1e-15)
        assert piece_moments(pieces).sum() == pytest.approx(2 * c, rel=1e-14)
    assert log_drop(np.array([5.0]), np.array([5.0]))[0] == 0.0


@pytest.mark.parametrize("drop", [1e-9, 1e-4, 0.19, 0.21, 1.0, 9.0, -0.3])
def test_area_and_moment_of_a_log_piece_are_the_integrals_of_the_exponential(drop: float) -> None:
    t1, t2, c = 3.0, 8.0, 40.0
    rate = drop / (t2 - t1)
    level = np.array([[c, c * math.exp(-drop)]])
    pieces = segments(np.array([[t1, t2]]), level, "linear_log", np.array([0.0]))
    area, _ = quad(lambda t: c * math.exp(-rate * (t - t1)), t1, t2, epsabs=0, epsrel=1e-13)
    moment, _ = quad(lambda t: t * c * math.exp(-rate * (t - t1)), t1, t2, epsabs=0, epsrel=1e-13)
    assert piece_areas(pieces).sum() == pytest.approx(area, rel=1e-12)
    assert piece_moments(pieces).sum() == pytest.approx(moment, rel=1e-12)


def test_an_imputed_start_changes_neither_the_peak_nor_its_time() -> None:
    time, level = [1.0, 2.0, 4.0, 6.0], [50.0, 20.0, 9.0, 3.0]
    found = {s: nca.profile(time, level, start=s) for s in ("zero", "first", "back_extrapolate", "missing")}
    assert {(one["cmax"], one["tmax"], one["tfirst"]) for one in found.values()} == {(50.0, 1.0, 1.0)}
    areas = {s: one["auc_last"] for s, one in found.items()}
    # 50/2 beneath a rise from nothing; 50 beneath the first level; the exponential through 50 and 20 backwards gives
    # 125 at time 0 and (125 - 50)/ln 2.5 beneath it.
    assert areas["first"] - areas["zero"] == pytest.approx(25.0, rel=1e-12)
    assert areas["back_extrapolate"] - areas["zero"] == pytest.approx(75 / math.log(2.5) - 25, rel=1e-12)
    assert math.isnan(areas["missing"])
    assert "nca.start is missing" in found["missing"]["reasons"]["auc_last"]
    assert found["zero"]["reasons"]["auc_last"] == "level 0 assumed at the start, first sample at d 1"


def test_blocks_of_profiles_give_what_one_block_gives() -> None:
    from nkinetics.nca.profiles import batches
    from nkinetics.nca.profiles import profiles as laid_out

    rows = [
        {"patient_id": f"{i:03d}", "sample_id": f"{j}", "time_actual": t, "level": c, "lloq": q, "status": "quantified"}
        for i, (time, level, lloq) in enumerate(profiles(9, 30))
        for j, (t, c, q) in enumerate(zip(time, level, lloq, strict=True))
    ]
    whole = laid_out(pd.DataFrame(rows), None, None, Nca())
    from nkinetics.nca import computed
    from nkinetics.nca.curves import Curves
    from nkinetics.settings import Blq

    def numbers(block: int) -> dict[tuple[int, str], list[float]]:
        out = {}
        for batch in batches(whole, Nca(), block):
            done = computed(Curves(batch, Nca(), Blq()))
            for i in range(len(batch.profile)):
                out[(int(batch.profile[i]), str(batch.window[i]))] = [v.value[i] for v in done.values()]
        return out

    one, other = numbers(1000), numbers(7)
    assert one.keys() == other.keys()
    for key, values in one.items():
        np.testing.assert_array_equal(values, other[key])


def table_of(seed: int, n: int) -> pd.DataFrame:
    """Observations of random profiles, some patients with two assays, in no order."""
    rows = [
        {"patient_id": f"{i // 2:03d}", "assay": ("qpcr", "flow")[i % 2], "sample_id": f"{j}", "time_actual": t,
         "level": c, "lloq": q, "status": "quantified", "observation_id": f"{i}-{j}",
         "level_unit": ("copies/ug", "cells/uL")[i % 2]}
        for i, (time, level, lloq) in enumerate(profiles(seed, n))
        for j, (t, c, q) in enumerate(zip(time, level, lloq, strict=True))
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=seed)


@pytest.mark.parametrize("most", [1, 4, 1000])
def test_a_study_in_pieces_gives_the_tables_of_the_whole(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table_of(12, 31)
    patients = pd.DataFrame({"patient_id": ["010", "000", "zzz"], "dose_level": ["DL2", "DL1", "DL1"]})
    whole, points = nca.analyse_with_points(frame, patients=patients)
    monkeypatch.setattr(nca, "PATIENTS", most)
    # The function of that name hides the module.
    monkeypatch.setattr(sys.modules["nkinetics.nca.profiles"], "ROWS", 13)
    pieces = list(nca.in_blocks(frame, patients=patients))
    assert len(pieces) > 1 or most == 1000
    pd.testing.assert_frame_equal(pd.concat([p for p, _ in pieces], ignore_index=True), whole)
    pd.testing.assert_frame_equal(pd.concat([p for _, p in pieces], ignore_index=True), points)
    assert set(whole.loc[whole["patient_id"] == "zzz", "reason"]) > {"no sample of this patient"}


def test_arrays_give_the_numbers_of_the_table() -> None:
    drawn = profiles(13, 40)
    owner = np.repeat(np.arange(40), [len(t) for t, _, _ in drawn])
    time, level, lloq = (np.concatenate(column) for column in zip(*drawn, strict=True))
    order = np.random.default_rng(1).permutation(len(owner))
    settings = Nca(windows=((0, 28), (3, 9)))
    windows, values = nca.evaluate(owner[order], time[order], level[order], lloq[order], settings=settings)
    assert windows == ["overall", "infusion_1", "D0-28", "D3-9"]
    names = [f"{i:02d}" for i in owner]
    frame = pd.DataFrame({"patient_id": names, "time_actual": time, "level": level, "lloq": lloq})
    table = nca.analyse(frame.assign(status="quantified"), settings=settings)
    for (window, parameter), own in table.groupby(["window", "parameter"]):
        found = values[str(parameter)][:, windows.index(str(window))]
        # A named window stands in the table once follow-up reaches it.
        rows = own["patient_id"].astype(int).to_numpy()
        np.testing.assert_array_equal(found[rows], own["value"].to_numpy(), err_msg=f"{window} {parameter}")


def test_arrays_with_two_samples_at_one_time_are_refused() -> None:
    with pytest.raises(InputError, match="two samples of profile 1 at 2"):
        nca.evaluate([0, 1, 1, 1], [2, 1, 2, 2], [1.0, 2, 3, 4])


def test_arrays_with_amounts_give_values_by_the_dose() -> None:
    drawn = profiles(14, 6)
    owner = np.repeat(np.arange(6), [len(t) for t, _, _ in drawn])
    time, level, lloq = (np.concatenate(column) for column in zip(*drawn, strict=True))
    given = np.array([1.0, 2.0, 4.0, 0.5, 8.0, 2.0])
    _, values = nca.evaluate(owner, time, level, lloq, amount=given)
    _, without = nca.evaluate(owner, time, level, lloq)
    assert np.isfinite(values["cmax"][:, 0]).any() and np.isnan(without["cmax_dose_norm"]).all()
    np.testing.assert_allclose(values["cmax_dose_norm"][:, 0], values["cmax"][:, 0] / given, rtol=1e-14)
