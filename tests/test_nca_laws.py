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
from nkinetics.settings import Nca
from scipy.integrate import quad

NAN = math.nan
WIDE = {"r_squared_adj_min": 0.0, "span_ratio_min": 1e-9, "extrapolation_pct_max": 1e9}
POWERS = {  # parameter: (power of the level scale, power of the time scale)
    "cmax": (1, 0), "clast": (1, 0), "clast_pred": (1, 0), "tmax": (0, 1), "tlast": (0, 1), "tfirst": (0, 1),
    "tlag": (0, 1), "t_blq": (0, 1), "auc_last": (1, 1), "auc_all": (1, 1), "auc_int": (1, 1), "auc_inf_obs": (1, 1),
    "auc_inf_pred": (1, 1), "auc_extrap_pct": (0, 0), "auc_int_extrap_pct": (0, 0), "aumc_last": (1, 2),
    "aumc_inf_obs": (1, 2), "mrt_last": (0, 1), "mrt_inf_obs": (0, 1), "lambda_z": (0, -1), "half_life": (0, 1),
    "lambda_z_n_points": (0, 0), "lambda_z_start": (0, 1), "lambda_z_end": (0, 1), "r_squared": (0, 0),
    "r_squared_adj": (0, 0), "corr_xy": (0, 0), "span_ratio": (0, 0),
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
        one = nca.profile(time, level, lloq=lloq, auc_rule=rule, windows=[[0, 28]], **WIDE)
        # Hours in place of days, another unit of the level.
        other = nca.profile(time * b, level * a, lloq=lloq * a, auc_rule=rule, windows=[[0, 28 * b]], **WIDE)
        for name, (of_level, of_time) in POWERS.items():
            assert_same(other[name], one[name] * a**of_level * b**of_time, (name, time, level, lloq))


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
    table = nca.analyse(pd.DataFrame(rows), pd.DataFrame(given))
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
