"""Windows, starts, reasons and the shape of the tables; profiles that nobody would wish for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.columns import NCA, NCA_POINTS
from nkinetics.errors import InputError
from nkinetics.settings import Blq, LambdaZ, Nca
from nkinetics.store import complete

NAN = math.nan


def observed(rows: list[tuple[str, float, float | None]], lloq: float = 10.0, **more: object) -> pd.DataFrame:
    """Observations from (patient, time, level); a level of None is BLQ."""
    frame = pd.DataFrame(
        {
            "patient_id": [p for p, _, _ in rows],
            "dose_level": "DL1",
            "assay": "qpcr",
            "specimen": "blood",
            "sample_id": [f"{p}-{i}" for i, (p, _, _) in enumerate(rows)],
            "observation_id": [f"o{i}" for i in range(len(rows))],
            "time_actual": [t for _, t, _ in rows],
            "level": [NAN if c is None else c for _, _, c in rows],
            "level_unit": "copies/ug",
            "status": ["blq" if c is None else "quantified" for _, _, c in rows],
            "lloq": lloq,
        }
    )
    return frame.assign(**more)


def infused(*starts: float, patient: str = "01", given: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": patient,
            "infusion": range(1, len(starts) + 1),
            "time": list(starts),
            "planned": 2e9,
            "given": given or [2e9] * len(starts),
        }
    )


def value(table: pd.DataFrame, window: str, parameter: str, column: str = "value", patient: str = "01") -> object:
    rows = table[(table["patient_id"] == patient) & (table["window"] == window) & (table["parameter"] == parameter)]
    assert len(rows) == 1, (window, parameter, len(rows))
    return rows[column].iloc[0]


# ----------------------------------------------------------------------------------------------------------- windows

THREE = [("01", -0.1, None), ("01", 0.05, 100.0), ("01", 1, 80.0), ("01", 2, 40.0), ("01", 2.9, 20.0),
         ("01", 3.05, 300.0), ("01", 4, 200.0), ("01", 5.95, None), ("01", 6.1, 900.0), ("01", 9, 300.0),
         ("01", 13, 50.0), ("01", 20, None), ("01", 27, None)]  # fmt: skip


def test_each_infusion_has_its_window_and_its_clock() -> None:
    table = nca.analyse(observed(THREE), infused(0, 3, 6))
    assert set(table["window"]) == {"overall", "infusion_1", "infusion_2", "infusion_3", "D0-28", "D0-7"}
    assert [value(table, f"infusion_{k}", "cmax") for k in (1, 2, 3)] == [100.0, 300.0, 900.0]
    assert value(table, "infusion_2", "tmax") == pytest.approx(0.05)
    assert value(table, "overall", "tmax") == pytest.approx(6.1)
    bounds = {w: (value(table, w, "cmax", "window_start"), value(table, w, "cmax", "window_end")) for w in
              ("infusion_1", "infusion_2", "infusion_3")}  # fmt: skip
    assert bounds == {"infusion_1": (0.0, 3.0), "infusion_2": (3.0, 6.0), "infusion_3": (6.0, 27.0)}
    assert math.isnan(float(str(value(table, "overall", "cmax", "window_end"))))


def test_a_pre_dose_sample_ends_its_window_and_starts_the_next() -> None:
    table, points = nca.analyse_with_points(observed(THREE), infused(0, 3, 6))
    # Window 1: 0 at 0 (pre-dose, below LLOQ), 100, 80, 40, and 20 at 2.9, held to 3.
    log = [(0.95, 100.0, 80.0), (1.0, 80.0, 40.0), (0.9, 40.0, 20.0)]
    area = 0.05 * 50 + sum(d * (a - b) / math.log(a / b) for d, a, b in log)
    assert value(table, "infusion_1", "auc_last") == pytest.approx(area, rel=1e-12)
    assert value(table, "infusion_1", "auc_int") == pytest.approx(area + 0.1 * 20, rel=1e-12)
    assert value(table, "infusion_1", "auc_int", "reason") == "pre-dose level of d 2.9 held to the next infusion"
    assert value(table, "infusion_1", "trough") == 20.0
    # Window 2 begins with the same sample as a copy at its time 0.
    area = 0.05 * (20 + 300) / 2 + 0.95 * 100 / math.log(1.5)
    assert value(table, "infusion_2", "auc_last") == pytest.approx(area, rel=1e-12)
    assert value(table, "infusion_2", "auc_last", "reason") == (
        "start level from the pre-dose sample 0.1 d before the infusion"
    )
    used = points[(points["used_in"] == "auc") & (points["observation_id"] == "o4")]
    assert set(used["window"]) == {"overall", "infusion_1", "infusion_2", "D0-28", "D0-7"}


def test_a_pre_dose_sample_below_the_lloq_starts_the_window_at_zero_and_is_no_trough() -> None:
    table = nca.analyse(observed(THREE), infused(0, 3, 6))
    assert math.isnan(float(str(value(table, "infusion_2", "trough"))))
    assert value(table, "infusion_2", "trough", "reason") == "below LLOQ before the next infusion (10)"
    log = [(2.9, 900.0, 300.0), (4.0, 300.0, 50.0)]
    area = 0.1 * 450 + sum(d * (a - b) / math.log(a / b) for d, a, b in log)
    assert value(table, "infusion_3", "auc_last") == pytest.approx(area, rel=1e-12)
    assert value(table, "infusion_3", "trough", "reason") == "no infusion follows"


def test_without_a_pre_dose_sample_a_later_infusion_has_no_area_and_says_so() -> None:
    rows = [r for r in THREE if r[1] not in (2.9, 5.95)]
    table = nca.analyse(observed(rows), infused(0, 3, 6))
    assert math.isnan(float(str(value(table, "infusion_2", "auc_last"))))
    assert value(table, "infusion_2", "auc_last", "reason") == (
        "no pre-dose sample within 5 % of the interval before this infusion"
    )
    assert value(table, "infusion_2", "cmax") == 300.0
    assert (
        value(table, "infusion_1", "trough", "reason")
        == "no sample within 5 % of the interval before the next infusion"
    )
    reason = str(value(table, "infusion_1", "auc_int", "reason"))
    assert "quantified at d 2, no later sample before the end of the window at d 3" in reason


def test_a_sample_at_the_start_of_an_infusion_is_pre_dose_unless_it_is_said_not_to_be() -> None:
    rows = [("01", 0.5, 50.0), ("01", 3.0, 20.0), ("01", 4.0, 90.0), ("01", 5.0, 60.0)]
    table = nca.analyse(observed(rows), infused(0, 3))
    assert value(table, "infusion_1", "trough") == 20.0
    assert value(table, "infusion_1", "tlast") == 3.0
    after = nca.analyse(observed(rows, predose=pd.array([False] * 4, dtype="boolean")), infused(0, 3))
    assert value(after, "infusion_1", "tlast") == 0.5
    assert value(after, "infusion_2", "tfirst") == 0.0


def test_an_infusion_with_nothing_given_is_no_infusion() -> None:
    table = nca.analyse(observed(THREE), infused(0, 3, 6, given=[2e9, 0.0, 2e9]))
    assert {"infusion_1", "infusion_3"} <= set(table["window"]) and "infusion_2" not in set(table["window"])
    assert value(table, "infusion_1", "cmax", "window_end") == 6.0


def test_the_highest_level_before_an_infusion_is_its_peak_and_says_so() -> None:
    rows = [("01", 0.1, 50.0), ("01", 1, 500.0), ("01", 2.95, 400.0), ("01", 3.5, 100.0), ("01", 5, 40.0)]
    table = nca.analyse(observed(rows), infused(0, 3))
    assert value(table, "infusion_2", "cmax") == 400.0
    assert value(table, "infusion_2", "cmax", "reason") == "the sample before the infusion is the highest"


def test_the_first_window_is_always_given_and_others_once_follow_up_reaches_them() -> None:
    rows = [("01", 1.0, 50.0), ("01", 6.5, 20.0)]
    assert {"D0-28"} == {w for w in nca.analyse(observed(rows))["window"] if w.startswith("D")}
    # The visit of day 7 was a little early: planned time counts.
    table = nca.analyse(observed(rows, time_nominal=[1.0, 7.0]))
    assert {"D0-28", "D0-7"} == {w for w in table["window"] if w.startswith("D")}
    late = nca.analyse(observed([*rows, ("01", 90.0, None)]))
    assert {"D0-28", "D0-7", "D0-84"} == {w for w in late["window"] if w.startswith("D")}


def test_a_window_past_tlast_adds_nothing_when_the_cells_were_lost() -> None:
    table = nca.analyse(observed(THREE), infused(0, 3, 6))
    assert value(table, "D0-28", "auc_int") == pytest.approx(value(table, "overall", "auc_last"), rel=1e-14)
    assert value(table, "D0-28", "auc_int", "reason") == "BLQ after Tlast (d 13): nothing added"


def test_a_window_past_the_end_of_follow_up_is_missing_without_an_accepted_slope() -> None:
    one = nca.profile([0, 1, 2, 3], [0, 50, 900, 400], windows=[[0, 28]])
    assert math.isnan(one["auc_int"])
    assert one["reasons"]["auc_int"] == (
        "quantified at d 3, no later sample before the end of the window at d 28, and the terminal slope does not exist"
    )


def test_a_window_inside_a_gap_has_an_area_but_no_level() -> None:
    one = nca.profile([0, 1, 10, 20], [0, 900, 300, 100], windows=[[0, 28], [3, 7]])
    inner = one["windows"]["D3-7"]
    rate = math.log(3) / 9
    assert inner["auc_int"] == pytest.approx(900 / rate * (math.exp(-2 * rate) - math.exp(-6 * rate)), rel=1e-12)
    assert math.isnan(inner["cmax"]) and inner["reasons"]["cmax"] == "no sample in this window"


def test_the_terminal_slope_is_never_refitted_inside_a_named_window() -> None:
    time = [0, 1, 3, 7, 14, 21, 28, 60, 90]
    one = nca.profile(time, [0, 900, 700, 300, 80, 30, 20, 15, 11], windows=[[0, 28]])
    assert math.isnan(one["windows"]["D0-28"]["half_life"])
    assert one["windows"]["D0-28"]["reasons"]["half_life"].endswith("see overall")


# ---------------------------------------------------------------------------------------------------------- reasons


def test_a_half_life_outside_acceptance_is_reported_with_every_criterion_that_it_misses() -> None:
    one = nca.profile([0, 1, 2, 3, 4], [0, 100, 60, 62, 50], r_squared_adj_min=0.9)
    assert one["half_life"] > 0
    assert one["reasons"]["half_life"].startswith("outside acceptance: adjusted R2 ")
    # By hand: slope ln(50/60)/2, half-life 7.604; 548.5 beyond Tlast of 793.6 in all.
    assert one["reasons"]["half_life"].endswith("span 0.263 half-lives < 2, extrapolation 69.1 % > 20 %")
    fine = nca.profile([0, 1, 2, 4, 6], [0, 80, 40, 10, 2.5])
    assert "half_life" not in fine["reasons"] and fine["half_life"] == pytest.approx(1.0, rel=1e-12)


def test_every_missing_value_has_a_reason_and_every_patient_every_parameter() -> None:
    frame = observed([*THREE, ("02", 1.0, None), ("02", 7.0, None), ("03", 5.0, 40.0)])
    frame = pd.concat(
        [
            frame,
            observed([("04", NAN, None)], status="not_done", reportable=False,
                     exclusion_reason="no sample of this patient in the manifest"),
        ],
        ignore_index=True,
    )  # fmt: skip
    patients = pd.DataFrame({"patient_id": ["01", "02", "03", "04", "05"], "dose_level": ["DL1"] * 4 + ["DL2"]})
    table = nca.analyse(frame, infused(0, 3, 6), patients=patients)
    assert (table.loc[table["value"].isna(), "reason"] != "").all()
    assert set(table["patient_id"]) == {"01", "02", "03", "04", "05"}
    counts = table.groupby(["patient_id", "window"]).size()
    assert (counts == len(nca.PARAMETERS)).all()
    assert {"overall", "infusion_1", "D0-28"} <= set(table.loc[table["patient_id"] == "05", "window"])
    assert value(table, "overall", "cmax", "reason", "04") == (
        "no reportable sample (no sample of this patient in the manifest)"
    )
    assert value(table, "overall", "cmax", "reason", "05") == "no sample of this patient"
    assert value(table, "overall", "cmax", "reason", "02") == "no quantified level"
    assert value(table, "overall", "cmax", "dose_level", "05") == "DL2"


def test_the_table_is_complete_sorted_and_typed_as_its_schema_says() -> None:
    frame = observed([*THREE, ("001", 1.0, 50.0)])
    table, points = nca.analyse_with_points(frame, infused(0, 3, 6))
    pd.testing.assert_frame_equal(table, complete(table, NCA))
    pd.testing.assert_frame_equal(points, complete(points, NCA_POINTS))
    assert set(points["observation_id"]) <= set(frame["observation_id"])
    units = table.drop_duplicates("parameter").set_index("parameter")["unit"]
    assert units["cmax"] == "copies/ug" and units["auc_last"] == "d*copies/ug" and units["lambda_z"] == "1/d"
    assert units["cmax_dose_norm"] == "copies/ug/cells" and units["accumulation_auc"] == ""


def test_a_patient_with_a_level_only_in_one_assay_has_rows_with_reasons_in_the_other() -> None:
    both = pd.concat([observed(THREE), observed([("02", 1.0, 5.0)], lloq=1.0, assay="flow", level_unit="cells/uL")])
    table = nca.analyse(both)
    flow = table[(table["patient_id"] == "01") & (table["assay"] == "flow") & (table["parameter"] == "cmax")]
    assert (flow["reason"].str.startswith(("no sample of this patient", "no sample in this window"))).all()
    assert (flow["unit"] == "cells/uL").all()


def test_points_say_which_samples_made_the_area_and_the_slope() -> None:
    frame = observed([("01", t, c) for t, c in
                      [(0, None), (1, 800.0), (2, 400.0), (3, None), (4, 100.0), (6, 25.0), (9, None)]])  # fmt: skip
    points = nca.points(frame)
    overall = points[points["window"] == "overall"]
    used = {use: sorted(rows["observation_id"]) for use, rows in overall.groupby("used_in")}
    assert used == {"auc": ["o0", "o1", "o2", "o4", "o5"], "lambda_z": ["o2", "o4", "o5"]}


def test_a_level_above_the_uloq_hides_the_peak_and_the_area_but_not_the_slope_after_it() -> None:
    frame = observed([("01", t, c) for t, c in
                      [(0, None), (1, 800.0), (3, None), (4, 400.0), (6, 100.0), (8, 25.0), (10, None)]])  # fmt: skip
    frame.loc[2, "status"] = "above_uloq"
    table = nca.analyse(frame.assign(uloq=1000.0))
    for parameter in ("cmax", "tmax", "auc_last", "auc_inf_obs"):
        assert math.isnan(float(str(value(table, "overall", parameter))))
        assert value(table, "overall", parameter, "reason") == "a level above the ULOQ at d 3: 1000 or more"
    assert value(table, "overall", "lambda_z") == pytest.approx(math.log(2), rel=1e-12)
    assert value(table, "overall", "t_blq") == 10.0


def test_persistence_has_two_numbers_at_each_limit() -> None:
    time = [0, 1, 7, 14, 21, 28, 41, 55]
    status = ["not_detected", "quantified", "quantified", "blq", "quantified", "blq", "not_detected", "not_detected"]
    level = [NAN, 500, 90, NAN, 40, NAN, NAN, NAN]
    one = nca.profile(time, level, status, lloq=30.0, lod=10.0)
    assert (one["tlast"], one["t_blq"], one["tlast_detected"], one["t_not_detected"]) == (21.0, 28.0, 28.0, 41.0)
    bare = nca.profile(time, level, status, lloq=30.0)
    assert "without LOD" in bare["reasons"]["tlast_detected"]


def test_a_loss_needs_as_many_samples_in_a_row_as_the_configuration_asks() -> None:
    time, level = [0, 1, 7, 14], [0, 500, 90, 0]
    assert nca.profile(time, level, lloq=5.0)["t_blq"] == 14.0
    one = nca.profile(time, level, lloq=5.0, consecutive_blq=2)
    assert math.isnan(one["t_blq"]) and "2 in a row make a loss" in one["reasons"]["t_blq"]


def test_who_is_still_quantified_at_the_end_is_right_censored_with_the_reason() -> None:
    patients = pd.DataFrame({"patient_id": ["01"], "dose_level": ["DL1"], "status_end": ["death"], "time_end": [9.0]})
    table = nca.analyse(observed([("01", 1.0, 50.0), ("01", 7.0, 20.0)]), patients=patients)
    assert value(table, "overall", "t_blq", "reason") == (
        "still quantified at the last sample (d 7); right-censored by death at d 9"
    )


# -------------------------------------------------------------------------------------------------------- degenerate

DEGENERATE = {
    "all BLQ": ([0, 1, 7, 14], [0, 0, 0, 0]),
    "one sample": ([7], [50]),
    "one sample at the start": ([0], [50]),
    "peak last": ([0, 1, 3, 7], [0, 10, 50, 900]),
    "tied peaks": ([0, 1, 3, 7, 14, 21], [0, 900, 300, 900, 200, 50]),
    "missing values": ([0, 1, 3, 7, 14], [0, NAN, 900, NAN, 100]),
    "no pre-dose": ([1, 3, 7, 14], [300, 900, 100, 20]),
    "flat tail": ([0, 1, 3, 7, 14, 21], [0, 900, 50, 50, 50, 50]),
    "rebound after BLQ": ([0, 1, 3, 7, 14, 21], [0, 900, 100, 0, 0, 80]),
    "only BLQ after the peak": ([0, 1, 3, 7, 14], [0, 50, 900, 0, 0]),
    "rising tail": ([0, 1, 3, 7, 14, 21], [0, 900, 10, 20, 40, 80]),
    "nothing": ([], []),
    "nothing measured": ([1, 2], [NAN, NAN]),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("rule", ["linear_up_log_down", "linear", "linear_log"])
@pytest.mark.parametrize("start", ["zero", "first", "back_extrapolate", "missing"])
@pytest.mark.parametrize("method", ["regression", "tobit"])
def test_degenerate_profiles_give_finite_numbers_or_reasons(name: str, rule: str, start: str, method: str) -> None:
    time, level = DEGENERATE[name]
    options = {"auc_rule": rule, "start": start, "method": method, "above_limit": 60.0, "amount": 2e9}
    one = nca.profile(time, level, lloq=5.0, windows=[[0, 28], [0, 7], [4, 6], [30, 40]], **options)
    for window in (one, *one["windows"].values()):
        for parameter in (p.name for p in nca.PARAMETERS):
            number = window[parameter]
            assert math.isfinite(number) or (math.isnan(number) and window["reasons"][parameter]), parameter


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_profiles_around_later_infusions_give_finite_numbers_or_reasons(name: str) -> None:
    time, level = DEGENERATE[name]
    rows = [("01", float(t), c if c else None) for t, c in zip(time, level, strict=True) if c == c]
    frame = observed(rows or [("01", NAN, None)])
    table = nca.analyse(frame, infused(0, 3, 10), Nca(above_limit=60.0, lambda_z=LambdaZ(method="tobit")))
    assert len(table) == table["window"].nunique() * len(nca.PARAMETERS)
    assert (np.isfinite(table["value"]) | (table["value"].isna() & (table["reason"] != ""))).all()


def test_only_blq_after_the_peak_is_a_loss_without_a_slope() -> None:
    one = nca.profile(*DEGENERATE["only BLQ after the peak"], lloq=5.0)
    assert (one["tlast"], one["t_blq"], one["auc_last"]) == (3.0, 7.0, 25.0 + 950.0)
    assert one["reasons"]["half_life"] == "0 quantified points after Tmax, 3 needed"


def test_missing_values_are_no_samples() -> None:
    one = nca.profile(*DEGENERATE["missing values"], lloq=5.0)
    assert (one["tlag"], one["tmax"], one["tlast"]) == (0.0, 3.0, 14.0)
    assert one["auc_last"] == pytest.approx(1350 + 11 * 800 / math.log(9), rel=1e-13)


def test_without_a_pre_dose_sample_the_first_infusion_starts_from_nothing() -> None:
    one = nca.profile(*DEGENERATE["no pre-dose"], lloq=5.0)
    assert one["c0"] == 0.0 and one["reasons"]["c0"] == "level 0 assumed at the start, first sample at d 1"
    area = 150 + 1200 + 4 * 800 / math.log(9) + 7 * 80 / math.log(5)
    assert one["auc_last"] == pytest.approx(area, rel=1e-13)


def test_all_blq_has_no_cmax_and_no_area_but_an_early_loss() -> None:
    one = nca.profile(*DEGENERATE["all BLQ"], lloq=5.0)
    assert one["reasons"]["cmax"] == one["reasons"]["auc_last"] == one["reasons"]["auc_int"] == "no quantified level"
    assert one["t_blq"] == 1.0
    assert one["reasons"]["t_blq"] == "never quantified: counted as lost at the first sample after the infusion"


def test_one_sample_has_the_triangle_from_zero_at_most() -> None:
    one = nca.profile(*DEGENERATE["one sample"], lloq=5.0)
    assert (one["cmax"], one["tlast"], one["auc_last"]) == (50.0, 7.0, 175.0)
    start = nca.profile(*DEGENERATE["one sample at the start"], lloq=5.0)
    assert start["cmax"] == 50.0 and start["reasons"]["auc_last"] == "an area needs two points"


def test_a_peak_at_the_last_sample_has_no_half_life() -> None:
    one = nca.profile(*DEGENERATE["peak last"], lloq=5.0)
    assert one["reasons"]["half_life"] == "0 quantified points after Tmax, 3 needed"


def test_of_tied_peaks_the_first_time_counts_and_the_second_may_be_terminal() -> None:
    one = nca.profile(*DEGENERATE["tied peaks"], lloq=5.0)
    assert one["tmax"] == 1.0
    assert one["lambda_z_start"] == 7.0


def test_a_flat_tail_has_no_falling_window() -> None:
    one = nca.profile(*DEGENERATE["flat tail"], lloq=5.0)
    assert one["reasons"]["half_life"] == "no window of 3 or more points that ends at Tlast falls"
    # Equal neighbours fall back to the trapezoid.
    assert one["auc_last"] == pytest.approx(450 + 2 * 850 / math.log(18) + 50 * 18, rel=1e-12)


def test_a_rising_tail_drops_its_windows_before_comparing() -> None:
    # The last three and four points rise perfectly; with the point before them the line falls, poorly.
    one = nca.profile([0, 1, 2, 3, 4, 5, 6], [0, 20, 10, 5, 2, 2.2, 2.42])
    assert one["lambda_z_n_points"] == 5 and one["lambda_z_start"] == 2.0
    t, y = np.array([2.0, 3, 4, 5, 6]), np.log([10, 5, 2, 2.2, 2.42])
    assert one["lambda_z"] == pytest.approx(-np.polyfit(t, y, 1)[0], rel=1e-12)


def test_a_rebound_after_blq_is_the_last_level_and_the_loss_comes_after_it() -> None:
    time, level = DEGENERATE["rebound after BLQ"]
    one = nca.profile(time, level, lloq=5.0)
    assert one["tlast"] == 21.0 and math.isnan(one["t_blq"])
    # The BLQ samples in between are dropped: one piece from d 3 to d 21.
    area = 450 + 2 * 800 / math.log(9) + 18 * 20 / math.log(100 / 80)
    assert one["auc_last"] == pytest.approx(area, rel=1e-12)


def test_two_samples_at_one_time_are_refused_unless_a_rule_is_chosen() -> None:
    time, level = [0, 1, 1, 7], [0, 100, 300, 50]
    with pytest.raises(InputError, match="2 samples at 1"):
        nca.profile(time, level)
    assert nca.profile(time, level, replicates="mean")["cmax"] == 200.0
    assert nca.profile(time, level, replicates="first")["cmax"] == 100.0
    rows = [("01", float(t), float(c)) for t, c in zip(time, level, strict=True) if c]
    with pytest.raises(InputError, match=r"2 reportable rows at one time for 01 qpcr blood at d 1"):
        nca.analyse(observed(rows))
    table = nca.analyse(observed(rows), settings=Nca(replicates="mean"))
    assert value(table, "overall", "cmax") == 200.0


def test_two_units_in_one_profile_are_refused() -> None:
    frame = observed(THREE[:3])
    frame.loc[2, "level_unit"] = "copies/mL"
    with pytest.raises(InputError, match="more than one unit for 01 qpcr blood: copies/mL, copies/ug"):
        nca.analyse(frame)


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"did you mean auc_rule\?"):
        nca.profile([0, 1], [1, 2], auc_rul="linear")


def test_a_rule_that_needs_the_lloq_is_refused_without_it() -> None:
    with pytest.raises(InputError, match="a BLQ sample without LLOQ"):
        nca.profile([0, 1, 2], [0, 5, 0], blq="half_lloq")


def test_the_minimal_table_of_a_user_is_enough() -> None:
    own = pd.DataFrame({"patient_id": ["7", "7"], "time_actual": [1.0, 2.0], "level": [50.0, NAN],
                        "status": ["quantified", "blq"], "lloq": [5.0, 5.0]})  # fmt: skip
    table = nca.analyse(own)
    assert value(table, "overall", "cmax", patient="7") == 50.0
    assert value(table, "overall", "cmax", "unit", patient="7") == "copies/ug"


def test_settings_reach_the_numbers() -> None:
    frame = observed([("01", t, c) for t, c in [(0, None), (1, 800.0), (2, 400.0), (4, 100.0), (7, None)]])
    plain = nca.analyse(frame)
    other = nca.analyse(frame, settings=Nca(auc_rule="linear"), blq=Blq(last="zero"))
    assert value(plain, "overall", "auc_last") == pytest.approx(400 + 400 / math.log(2) + 2 * 300 / math.log(4))
    assert value(other, "overall", "auc_last") == 400 + 600 + 500
    assert value(other, "overall", "auc_all") == 400 + 600 + 500 + 150
    tight = nca.analyse(frame, settings=Nca(lambda_z=LambdaZ(points_min=4)))
    assert value(tight, "overall", "half_life", "reason") == "2 quantified points after Tmax, 4 needed"


# ------------------------------------------------------------------------------------------------- names and codes


def test_every_parameter_has_its_own_name_code_unit_and_label() -> None:
    codes = [p.code for p in nca.PARAMETERS]
    assert len(set(codes)) == len(codes) == len(nca.BY_NAME)
    for parameter in nca.PARAMETERS:
        assert len(parameter.code) <= 8 and parameter.code.isupper()
        assert 0 < len(parameter.label["en"]) <= 40 and parameter.label["zh"]
        assert parameter.function.__doc__


@pytest.mark.shared
def test_codes_that_are_not_sponsor_terms_stand_in_the_cdisc_terminology(shared: Path) -> None:
    terms = json.loads((shared / "cdisc" / "pk_terminology.json").read_text())["PKPARMCD"]
    known = {t["term"] for t in (terms["terms"] if isinstance(terms, dict) else terms)}
    assert {p.code for p in nca.PARAMETERS if not p.sponsor} <= known
    assert not {p.code for p in nca.PARAMETERS if p.sponsor} & known
