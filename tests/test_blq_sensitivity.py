"""Parameters under other rules for levels below the LLOQ: laws, small examples by hand, the model beside them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli, nca
from nkinetics.columns import BLQ_SENSITIVITY, ESTIMATES
from nkinetics.errors import DONE
from nkinetics.nca.blq_sensitivity import RULES, SHOWN, blq_sensitivity, with_model
from nkinetics.settings import Blq, LambdaZ, Nca
from nkinetics.store import complete, read_table

LINEAR = Nca(auc_rule="linear")


def profile(
    level: list[float], patient: str = "01", lloq: float = 2.0, times: list[float] | None = None
) -> pd.DataFrame:
    """Observations of a patient; a level of 0 is BLQ."""
    times = times or [float(t) for t in range(len(level))]
    status = ["quantified" if c > 0 else "blq" for c in level]
    values = [c if c > 0 else math.nan for c in level]
    return pd.DataFrame({"patient_id": patient, "time_actual": times, "level": values, "status": status, "lloq": lloq})


def values(frame: pd.DataFrame, settings: Nca | None = None, blq: Blq | None = None) -> dict[tuple[str, str], float]:
    table = blq_sensitivity(frame, settings=settings, blq=blq)
    pd.testing.assert_frame_equal(table, complete(table, BLQ_SENSITIVITY))
    assert ((table["reason"] != "") | table["value"].notna()).all(), "a missing number has a reason"
    return table.set_index(["parameter", "rule"])["value"].to_dict()


def random_profile(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = np.round(200 * np.exp(-0.3 * np.arange(12)) * rng.lognormal(0, 0.5, 12), 3)
    return profile([0.0, *np.where(level < 6, 0.0, level).tolist()], lloq=6.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_configured_rule_repeats_the_numbers_of_the_analysis(seed: int) -> None:
    blq = Blq(first="half_lloq", middle="zero", last="lloq")
    frame = random_profile(seed)
    table = nca.analyse(frame, blq=blq).set_index(["window", "parameter"])["value"]
    found = values(frame, blq=blq)
    for name in SHOWN:
        window = "D0-28" if name == "auc_int" else "overall"
        assert found[name, "configured"] == pytest.approx(table[window, name], nan_ok=True, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_zero_is_the_analysis_with_0_at_every_position(seed: int) -> None:
    frame = random_profile(seed)
    zeros = nca.analyse(frame, blq=Blq(first="zero", middle="zero", last="zero")).set_index(["window", "parameter"])
    found = values(frame)
    for name in SHOWN:
        window = "D0-28" if name == "auc_int" else "overall"
        assert found[name, "zero"] == pytest.approx(zeros.loc[(window, name), "value"], nan_ok=True, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_half_lloq_is_the_analysis_of_that_number_reported_as_a_level(seed: int) -> None:
    frame = random_profile(seed)
    below = frame["status"] == "blq"
    reported = frame.assign(
        level=frame["level"].where(~below, frame["lloq"] / 2), status="quantified", lloq=frame["lloq"].where(~below)
    )
    table = nca.analyse(reported).set_index(["window", "parameter"])["value"]
    found = values(frame)
    for name in SHOWN:
        window = "D0-28" if name == "auc_int" else "overall"
        assert found[name, "half_lloq"] == pytest.approx(table[window, name], nan_ok=True, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_drop_is_the_analysis_of_the_other_samples(seed: int) -> None:
    frame = random_profile(seed)
    table = nca.analyse(frame[frame["status"] == "quantified"]).set_index(["window", "parameter"])["value"]
    found = values(frame)
    for name in SHOWN:
        window = "D0-28" if name == "auc_int" else "overall"
        assert found[name, "drop"] == pytest.approx(table[window, name], nan_ok=True, rel=1e-12)


def test_without_a_sample_below_its_lloq_every_rule_gives_the_same() -> None:
    found = values(profile([3.0, 64, 32, 16, 8, 4]))
    for name in SHOWN:
        assert len({found[name, rule] for rule in RULES}) == 1 and not math.isnan(found[name, "configured"])


@pytest.mark.parametrize("seed", range(8))
def test_half_lloq_never_gives_less_area_than_0_on_straight_pieces(seed: int) -> None:
    found = values(random_profile(seed), LINEAR)
    assert found["auc_last", "half_lloq"] >= found["auc_last", "zero"]
    assert found["tlast", "half_lloq"] >= found["tlast", "zero"] == found["tlast", "drop"]


def test_a_small_profile_comes_out_as_by_hand() -> None:
    # 0 (BLQ), 8, 4, BLQ, BLQ at days 0 to 4, LLOQ 2, straight lines, window of 4 days.
    window = Nca(auc_rule="linear", windows=((0.0, 4.0),), lambda_z=LambdaZ(include_tmax=True))
    found = values(profile([0.0, 8, 4, 0, 0]), window)
    # To day 2: 4 + 6. Zero ends with a triangle of 2. LLOQ/2 = 1 gives a first piece of 4.5, then 2.5 and 1.
    assert [found["auc_last", rule] for rule in RULES] == [10, 10, 4.5 + 6 + 2.5 + 1, 10]
    assert [found["auc_int", rule] for rule in ("configured", "zero", "half_lloq")] == [10, 12, 14]
    assert math.isnan(found["auc_int", "drop"]), "without the samples nobody knows that the cells were lost"
    assert [found["tlast", rule] for rule in RULES] == [2, 2, 4, 2]
    assert [found["cmax", rule] for rule in RULES] == [8, 8, 8, 8]


def test_a_patient_never_quantified_has_levels_under_half_lloq_only_and_reasons_elsewhere() -> None:
    table = blq_sensitivity(profile([0.0, 0, 0, 0])).set_index(["parameter", "rule"])
    assert table.loc[("cmax", "half_lloq"), "value"] == 1
    assert table.loc[("cmax", "zero"), "reason"] == "no quantified level"
    assert table.loc[("cmax", "drop"), "reason"] == "every sample lies below its LLOQ and is dropped"


def test_patients_without_data_stand_under_every_rule_and_order_of_rows_does_not_matter() -> None:
    frame = pd.concat([random_profile(1), random_profile(2).assign(patient_id="02")], ignore_index=True)
    patients = pd.DataFrame({"patient_id": ["01", "02", "03"], "dose_level": "DL1"})
    table = blq_sensitivity(frame, patients=patients)
    assert table.groupby("patient_id").size().to_dict() == dict.fromkeys(["01", "02", "03"], len(RULES) * len(SHOWN))
    again = blq_sensitivity(frame.sample(frac=1, random_state=1, ignore_index=True), patients=patients)
    pd.testing.assert_frame_equal(table, again)
    assert list(blq_sensitivity(frame.iloc[:0]).columns) == BLQ_SENSITIVITY.names


def test_the_model_stands_beside_the_rules_with_its_identifiability() -> None:
    table = blq_sensitivity(profile([0.0, 64, 32, 16, 8, 4, 0]), settings=Nca(windows=((0.0, 28.0),)))
    rows = [("curve_auc_D0-28", 120.0, True), ("half_life_delta", 1.1, False), ("curve_cmax", 60.0, True)]
    frame = pd.DataFrame(rows, columns=["parameter", "estimate", "identifiable"])
    frame = frame.assign(patient_id="01", assay="qpcr", specimen="blood", model="decay", kind="derived")
    estimates = complete(frame, ESTIMATES)
    wide = with_model(table, estimates, "decay").set_index("parameter")
    assert wide["model"].to_dict() == pytest.approx(
        {"auc_int": 120, "half_life": 1.1, "cmax": 60, "auc_last": math.nan, "lambda_z": math.nan, "tlast": math.nan},
        nan_ok=True,
    )
    assert not wide.loc["half_life", "identifiable"] and wide.loc["auc_int", "identifiable"]
    assert wide.loc["tlast", "model_reason"] == "no estimate of the model"
    # Tlast moves from day 5 to day 6 under LLOQ/2.
    assert wide.loc["tlast", "change_pct"] == pytest.approx(20) and wide.loc["cmax", "change_pct"] == 0
    other = with_model(table, estimates, "another")
    assert other["model"].isna().all()


def test_the_command_writes_it_only_when_asked(tmp_path) -> None:
    random_profile(3).to_csv(tmp_path / "mine.csv", index=False)
    command = ["nca", "--observations", str(tmp_path / "mine.csv"), "--output", str(tmp_path / "out" / "nca.csv")]
    assert cli.main(command) == DONE and not list((tmp_path / "out").glob("*sens*"))
    assert cli.main([*command, "--sensitivity", str(tmp_path / "out" / "s.csv")]) == DONE
    read = read_table(tmp_path / "out" / "s.csv", BLQ_SENSITIVITY)
    assert set(read["rule"]) == set(RULES) and set(read["parameter"]) == set(SHOWN)
