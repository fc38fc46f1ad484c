"""Levels and areas by amount and by infusion: C0, time above a limit, accumulation, recovery; numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.errors import InputError
from nkinetics.settings import Blq, LambdaZ, Nca

NAN = math.nan


def observed(*rows: tuple[float, float | None], patient: str = "01", **more: object) -> pd.DataFrame:
    """Observations from (time, level); a level of None is BLQ."""
    return pd.DataFrame(
        {
            "patient_id": patient,
            "dose_level": "DL1",
            "assay": "qpcr",
            "specimen": "blood",
            "sample_id": [f"{patient}-{i}" for i in range(len(rows))],
            "time_actual": [t for t, _ in rows],
            "level": [NAN if c is None else c for _, c in rows],
            "level_unit": "copies/ug",
            "status": ["blq" if c is None else "quantified" for _, c in rows],
            "lloq": 10.0,
        }
    ).assign(**more)


def infused(*starts: float, given: list[float] | None = None, patient: str = "01", unit: str = "cells") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": patient,
            "infusion": range(1, len(starts) + 1),
            "time": list(starts),
            "planned": 2e9,
            "given": given or [NAN] * len(starts),
            "unit": unit,
        }
    )


class Found:
    """Values and reasons of one patient's table."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.rows = table.set_index(["window", "parameter"])

    def __call__(self, window: str, parameter: str, column: str = "value") -> Any:
        return self.rows.loc[(window, parameter), column]


# Infusions at 0, 3 and 6; a pre-dose sample before each.
THREE = observed((-0.1, None), (0.5, 100.0), (2.9, 20.0), (3.5, 300.0), (5.9, 60.0), (6.5, 900.0), (9, 300.0),
                 (13, 50.0), (20, None))  # fmt: skip


# ----------------------------------------------------------------------------------------------------- start level


def test_c0_is_the_pre_dose_sample_of_each_infusion() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6)))
    assert [found(f"infusion_{k}", "c0") for k in (1, 2, 3)] == [0.0, 20.0, 60.0]
    assert (
        found("infusion_1", "c0", "reason")
        == "the sample at the start is below its LLOQ and counts as zero (blq.first)"
    )
    assert found("infusion_2", "c0", "reason") == "start level from the pre-dose sample 0.1 d before the infusion"
    half = Found(nca.analyse(THREE, infused(0, 3, 6), blq=Blq(first="half_lloq")))
    assert half("overall", "c0") == 5.0


@pytest.mark.parametrize(("rule", "wanted"), [("zero", 0.0), ("first", 80.0), ("back_extrapolate", 160.0)])
def test_c0_without_a_sample_at_the_start_is_that_of_the_start_rule(rule: str, wanted: float) -> None:
    one = nca.profile([1, 2, 4], [80.0, 40.0, 10.0], start=rule)
    assert one["c0"] == pytest.approx(wanted, rel=1e-14)
    assert one["reasons"]["c0"]
    assert one["reasons"]["c0"] == one["reasons"]["auc_last"]


def test_c0_is_missing_where_the_start_has_no_level() -> None:
    one = nca.profile([1, 2, 4], [80.0, 40.0, 10.0], start="missing")
    assert math.isnan(one["c0"]) and "nca.start is missing" in one["reasons"]["c0"]
    rows = THREE[~THREE["time_actual"].isin([2.9])]
    found = Found(nca.analyse(rows, infused(0, 3, 6)))
    assert math.isnan(found("infusion_2", "c0"))
    assert found("infusion_2", "c0", "reason").startswith("no pre-dose sample within 5 % of the interval")
    nothing = nca.profile([0, 1], [0, 0], lloq=5.0)
    assert nothing["reasons"]["c0"] == "no quantified level"


def test_c0_of_a_window_that_begins_later_lies_on_the_curve() -> None:
    time, level = [0, 2, 6, 10], [0, 400, 100, 25]
    one = nca.profile(time, level, windows=[[0, 10], [1, 10], [4, 10], [6, 10], [12, 20]])["windows"]
    assert one["D1-10"]["c0"] == 200.0
    assert one["D4-10"]["c0"] == pytest.approx(200.0, rel=1e-14)  # halfway from 400 to 100 on the log scale
    assert one["D6-10"]["c0"] == 100.0
    assert math.isnan(one["D12-20"]["c0"])
    assert one["D12-20"]["reasons"]["c0"] == "no levels on both sides of the start of the window (d 12)"


def test_a_level_above_the_uloq_hides_the_start_only_where_it_stands_on_it() -> None:
    status = ["quantified", "above_uloq", "quantified", "quantified", "quantified"]
    time, level = [0, 2, 6, 10, 14], [50.0, NAN, 100.0, 25.0, 10.0]
    one = nca.profile(time, level, status, uloq=500.0, windows=[[0, 14], [1, 14], [4, 14], [8, 14], [0, 1], [6, 14]])
    assert one["c0"] == 50.0
    for name in ("D1-14", "D4-14"):
        assert one["windows"][name]["reasons"]["c0"] == "a level above the ULOQ at d 2: 500 or more"
        assert math.isnan(one["windows"][name]["auc_int"])
    # The curve from 6 on does not pass over it.
    assert one["windows"]["D8-14"]["c0"] == pytest.approx(50.0, rel=1e-14)
    assert one["windows"]["D6-14"]["auc_int"] == pytest.approx(4 * 75 / math.log(4) + 4 * 15 / math.log(2.5), rel=1e-13)
    # From 0 to 1 it does: the piece ends beyond a sample that nobody knows.
    assert one["windows"]["D0-1"]["reasons"]["auc_int"].startswith("a level above the ULOQ")
    first = nca.profile([1, 2, 3], [NAN, 80.0, 40.0], ["above_uloq", "quantified", "quantified"], start="first")
    assert math.isnan(first["c0"]) and first["reasons"]["c0"].startswith("a level above the ULOQ")


# -------------------------------------------------------------------------------------------------------- time above


def test_time_above_is_read_from_the_curve_of_the_areas() -> None:
    # Up 0 to 400 in 2 d: 100 after 0.5 d. Down to 25 in 8 d by factor 16: 100 after half of it.
    time, level = [0, 2, 10], [0, 400, 25]
    assert nca.profile(time, level, above_limit=100.0)["time_above"] == pytest.approx(1.5 + 4, rel=1e-14)
    straight = nca.profile(time, level, above_limit=100.0, auc_rule="linear")["time_above"]
    assert straight == pytest.approx(1.5 + 8 * 300 / 375, rel=1e-14)
    one = nca.profile(time, level, above_limit=100.0, windows=[[0, 4], [1, 28]])["windows"]
    assert one["D0-4"]["time_above"] == pytest.approx(3.5, rel=1e-14)
    assert one["D1-28"]["time_above"] == pytest.approx(5.0, rel=1e-14)
    # 200 at d 4: the window ends there, the curve does not.
    assert "time_above" not in one["D0-4"]["reasons"]


def test_what_time_above_cannot_know_is_said() -> None:
    assert nca.profile([0, 2], [0, 400])["reasons"]["time_above"] == (
        "no limit is configured for this unit (nca.above_limit)"
    )
    ends_high = nca.profile([0, 2, 4, 7], [0, 400, 200, 0], lloq=10.0, above_limit=100.0)
    assert ends_high["time_above"] == 3.5
    assert ends_high["reasons"]["time_above"] == "still above the limit at Tlast: what follows is not counted"
    whole = nca.profile([0, 2, 4], [0, 400, 200], above_limit=100.0, windows=[[0, 4]])["windows"]["D0-4"]
    assert whole["time_above"] == 3.5 and "time_above" not in whole["reasons"], "the window ends with the curve"
    counted = nca.profile([0, 2, 4, 7], [0, 400, 200, 0], lloq=10.0, above_limit=100.0, last="zero")
    assert counted["time_above"] == 3.5 + 1.5 and "time_above" not in counted["reasons"]
    low = nca.profile([0, 2, 4, 7], [0, 400, 200, 0], lloq=10.0, above_limit=5.0)
    assert "the limit lies below the LLOQ of a sample" in low["reasons"]["time_above"]
    assert nca.profile([0, 2], [0, 0], lloq=10.0, above_limit=5.0)["reasons"]["time_above"] == "no quantified level"
    hidden = nca.profile([0, 2, 4], [0, NAN, 20.0], ["quantified", "above_uloq", "quantified"], above_limit=15.0)
    assert hidden["reasons"]["time_above"].startswith("a level above the ULOQ")
    assert nca.profile([0], [50.0], above_limit=15.0)["reasons"]["time_above"] == "an area needs two points"


def test_a_limit_holds_for_levels_of_its_unit() -> None:
    flow = observed((0, None), (1, 50.0), (3, 20.0)).assign(assay="flow", level_unit="cells/uL")
    both = pd.concat([THREE, flow], ignore_index=True)
    table = nca.analyse(both, infused(0, 3, 6), Nca(above_limit={"copies/ug": 100.0}))
    rows = table[(table["parameter"] == "time_above") & (table["window"] == "overall")].set_index("assay")
    assert rows.loc["qpcr", "value"] > 0
    assert rows.loc["flow", "reason"] == "no limit is configured for this unit (nca.above_limit)"
    with pytest.raises(InputError, match=r"one limit, 100, for levels in cells/uL, copies/ug"):
        nca.analyse(both, infused(0, 3, 6), Nca(above_limit=100.0))


# ----------------------------------------------------------------------------------------------------------- by amount


def test_values_by_amount_divide_by_what_was_given_until_the_window_ends() -> None:
    settings = Nca(windows=((0.0, 28.0), (0.0, 5.0), (0.0, 6.0)))
    table = nca.analyse(THREE, infused(0, 3, 6, given=[1e9, NAN, 4e9]), settings)
    found = Found(table)
    # The second amount is the planned one.
    for window, amount in {"infusion_1": 1e9, "infusion_2": 2e9, "infusion_3": 4e9, "overall": 7e9, "D0-28": 7e9,
                           "D0-5": 3e9, "D0-6": 3e9}.items():  # fmt: skip
        for name in ("cmax", "auc_last", "auc_int"):
            whole, by_amount = found(window, name), found(window, f"{name}_dose_norm")
            assert math.isnan(whole) == math.isnan(by_amount)
            if not math.isnan(whole):
                assert by_amount == pytest.approx(whole / amount, rel=1e-14), (window, name)
    assert found("overall", "cmax_dose_norm", "unit") == "copies/ug/cells"
    assert found("overall", "auc_last_dose_norm", "unit") == "d*copies/ug/cells"
    assert found("overall", "auc_int_dose_norm", "reason") == "the window is open: see auc_last"


def test_an_amount_per_kilogram_stands_in_brackets() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6, unit="cells/kg")))
    assert found("overall", "cmax_dose_norm", "unit") == "copies/ug/(cells/kg)"
    assert found("overall", "auc_int_dose_norm", "unit") == "d*copies/ug/(cells/kg)"
    mixed = infused(0, 3, 6).assign(unit=["cells", "cells", "cells/kg"])
    with pytest.raises(InputError, match="amounts in cells and cells/kg"):
        nca.analyse(THREE, mixed)


def test_an_amount_that_nobody_knows_is_a_reason_not_a_number() -> None:
    bare = Found(nca.analyse(THREE))
    assert bare("overall", "cmax_dose_norm", "reason") == "the amount given is not known"
    # Without a table of infusions the ingest writes 1 for an unknown amount.
    from nkinetics.inputs import assumed_infusions

    assumed = Found(nca.analyse(THREE, assumed_infusions(["01"], None, "cells")))
    assert assumed("overall", "cmax_dose_norm", "reason") == "the amount given is not known"
    known = Found(nca.analyse(THREE, assumed_infusions(["01"], 2e9, "cells")))
    assert known("overall", "cmax_dose_norm") == 900 / 2e9
    other = Found(nca.analyse(THREE, infused(0, 3, 6, patient="02").assign(given=1e9)).query("patient_id == '01'"))
    assert other("overall", "cmax_dose_norm", "reason") == "the amount given is not known"
    starts_only = Found(nca.analyse(THREE, infused(0, 3, 6)[["patient_id", "infusion", "time"]]))
    assert starts_only("infusion_2", "auc_last_dose_norm", "reason") == "the amount given is not known"


def test_an_infusion_with_nothing_given_adds_nothing() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6, given=[1e9, 0.0, 4e9])))
    assert found("overall", "cmax_dose_norm") == 900 / 5e9
    assert found("infusion_3", "cmax_dose_norm") == 900 / 4e9


def test_amounts_follow_the_number_of_the_infusion_whatever_the_order_of_rows() -> None:
    given = infused(0, 3, 6, given=[1e9, 2e9, 4e9])
    one = nca.analyse(THREE, given)
    other = nca.analyse(THREE, given.iloc[[2, 0, 1]].reset_index(drop=True))
    pd.testing.assert_frame_equal(one, other)


# -------------------------------------------------------------------------------------------------------- by infusion


def test_accumulation_compares_each_later_infusion_with_the_first() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6)))
    assert found("infusion_2", "accumulation_cmax") == 3.0
    assert found("infusion_3", "accumulation_cmax") == 9.0
    # Both windows of 3 d; pre-dose levels 0 and 20 at the start, 20 and 60 held for the last 0.1 d.
    first = 0.5 * 50 + 2.4 * 80 / math.log(5) + 0.1 * 20
    second = 0.5 * 160 + 2.4 * 240 / math.log(5) + 0.1 * 60
    assert found("infusion_2", "accumulation_auc") == pytest.approx(second / first, rel=1e-13)
    assert found("infusion_2", "accumulation_auc", "reason") == (
        "start level from the pre-dose sample 0.1 d before the infusion; both areas over 3 d from their infusion"
    )
    # The last window runs for 14 d and is cut at 3: exactly where the sample of d 9 stands.
    third = 0.5 * 480 + 2.5 * 600 / math.log(3)
    assert found("infusion_3", "accumulation_auc") == pytest.approx(third / first, rel=1e-13)


def test_the_shorter_of_both_windows_is_the_common_length() -> None:
    rows = observed((-0.1, None), (1, 100.0), (2, 50.0), (5.9, 20.0), (7, 400.0), (8, 100.0), (10, None))
    found = Found(nca.analyse(rows, infused(0, 6)))
    # 4 d of follow-up after the second infusion: 4 d of the first count, although its window has 6.
    at_4 = 50 * math.exp(-2 / 3.9 * math.log(2.5))
    first = 50 + 50 / math.log(2) + 2 * (50 - at_4) / math.log(50 / at_4)
    second = (20 + 400) / 2 + 300 / math.log(4)
    assert found("infusion_2", "accumulation_auc") == pytest.approx(second / first, rel=1e-12)
    assert found("infusion_2", "accumulation_auc", "reason").endswith("both areas over 4 d from their infusion")


def test_recovery_is_the_peak_over_what_was_left_before_the_infusion() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6)))
    assert found("infusion_2", "recovery_ratio") == 300 / 20
    assert found("infusion_3", "recovery_ratio") == 900 / 60
    none_left = THREE.assign(
        level=THREE["level"].where(THREE["time_actual"] != 2.9),
        status=THREE["status"].where(THREE["time_actual"] != 2.9, "blq"),
    )
    found = Found(nca.analyse(none_left, infused(0, 3, 6)))
    assert math.isnan(found("infusion_2", "recovery_ratio"))
    assert found("infusion_2", "recovery_ratio", "reason") == "the level before this infusion is below its LLOQ (10)"
    falling = observed((0.1, 50.0), (1, 500.0), (2.95, 400.0), (3.5, 100.0), (5, 40.0))
    found = Found(nca.analyse(falling, infused(0, 3)))
    assert found("infusion_2", "recovery_ratio") == 1.0
    assert found("infusion_2", "recovery_ratio", "reason") == "the sample before the infusion is the highest"


@pytest.mark.parametrize("name", ["accumulation_cmax", "accumulation_auc", "recovery_ratio"])
def test_ratios_between_infusions_exist_only_for_later_infusions_that_have_both_sides(name: str) -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 6)))
    for window in ("overall", "D0-28"):
        assert math.isnan(found(window, name))
        assert found(window, name, "reason") == "defined for the window of an infusion"
    assert found("infusion_1", name, "reason") == "later infusions are compared with the first"
    never = observed((0.5, None), (2.9, None), (3.5, 300.0), (5, 60.0), (7, None))
    found = Found(nca.analyse(never, infused(0, 3)))
    assert math.isnan(found("infusion_2", name))
    assert found("infusion_2", name, "reason") == (
        "the level before this infusion is below its LLOQ (10)"
        if name == "recovery_ratio"
        else "the first infusion has no value above 0 to compare with"
    )
    gone = observed((0.5, 70.0), (2.9, 20.0), (3.5, None), (5, None))
    found = Found(nca.analyse(gone, infused(0, 3), Nca(lambda_z=LambdaZ(include_tmax=True))))
    assert found("infusion_2", "cmax") == 20.0 and found("infusion_2", "recovery_ratio") == 1.0


def test_a_later_infusion_without_samples_has_reasons() -> None:
    found = Found(nca.analyse(THREE, infused(0, 3, 40)))
    for name in ("accumulation_cmax", "accumulation_auc", "recovery_ratio", "c0", "cmax_dose_norm"):
        assert math.isnan(found("infusion_3", name))
        assert found("infusion_3", name, "reason"), name


def test_ratios_of_a_study_do_not_depend_on_its_other_patients() -> None:
    one = nca.analyse(THREE, infused(0, 3, 6))
    more = pd.concat(
        [THREE.assign(patient_id=p, level=THREE["level"] * f) for p, f in (("00", 3), ("01", 1), ("02", 9))]
    )
    given = pd.concat([infused(0, 3, 6, patient="00"), infused(0, 3, 6), infused(0, 3, patient="02")])
    many = nca.analyse(more, given)
    mine = many[many["patient_id"] == "01"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, one)
    np.testing.assert_array_equal(mine["value"], one["value"])
