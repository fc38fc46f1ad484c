"""A fixed constant at several values: what the fit owes to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.errors import InputError
from nkinetics.fitting.sensitivity import KEY, POINTS, ranges, sensitivity
from nkinetics.plugins import Calendar, discover
from nkinetics.settings import Models

MODELS = discover("models")
TIME = np.array([0.08, 1.0, 2.0, 3.1, 4.0, 5.0, 6.1, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 20.0])
CALENDAR = Calendar(np.array([0.0, 3.0, 6.0]), np.ones(3), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 20.0)


@pytest.fixture(scope="module")
def study():
    """Two patients whose growth lasted 2 days after each dose, one without a sample that is quantified."""
    model = MODELS["cytokine_window"]
    frames = []
    for i, parameters in enumerate([(2000.0, 0.4, 0.7), (900.0, 0.3, 0.5)]):
        level = model.log_level(TIME, np.array(parameters), CALENDAR, model.settings(width=2.0))
        noise = 0.05 * np.random.default_rng(i).normal(size=len(TIME))
        frames.append(
            pd.DataFrame(
                {"patient_id": f"0{i}", "time_actual": TIME, "level": np.exp(level + noise), "status": "quantified"}
            )
        )
    never = pd.DataFrame({"patient_id": "02", "time_actual": [1.0, 4.0], "level": np.nan, "status": "blq"})
    patients = ["00", "01", "02"]
    infusions = [(p, k, t, 1e9, 1e9) for p in patients for k, t in enumerate(CALENDAR.infusion_time, start=1)]
    cytokines = [(p, "IL-2", t) for p in patients for t in CALENDAR.pulses["IL-2"]]
    return (
        pd.concat([*frames, never]).assign(lloq=1.0),
        pd.DataFrame(infusions, columns=["patient_id", "infusion", "time", "planned", "given"]),
        pd.DataFrame(cytokines, columns=["patient_id", "agent", "time"]),
    )


@pytest.fixture(scope="module")
def found(study):
    return sensitivity(*study, model="cytokine_window", constant="width")


def test_every_profile_has_a_row_for_each_value_of_the_range_and_for_the_fixed_value(found):
    expected = sorted({*np.linspace(0.5, 3.0, POINTS).tolist(), 1.5})
    for _, own in found.groupby("patient_id"):
        assert own["value"].tolist() == expected
        assert own.loc[own["fixed"], "value"].tolist() == [1.5]
    assert not found.duplicated([*KEY, "constant", "value"]).any()
    assert list(found.columns)[:6] == [*KEY, "constant", "value"]


def test_the_row_of_the_fixed_value_is_the_fit_itself(found, study):
    plain = fitting.analyse(*study, models=("cytokine_window",))
    own = found[found["fixed"]].set_index("patient_id")
    fits = plain.fits.set_index("patient_id")
    for column in ("log_likelihood", "aicc"):
        assert own[column].to_numpy(float) == pytest.approx(fits[column].to_numpy(float), abs=1e-8, nan_ok=True)
    for name in ("scale", "delta", "rho", "sigma"):
        estimates = plain.estimates[plain.estimates["parameter"] == name].set_index("patient_id")["estimate"]
        assert own.loc[["00", "01"], name].to_numpy(float) == pytest.approx(estimates.to_numpy(float), rel=1e-8)


def test_the_true_width_fits_best_and_another_moves_the_growth_rate(found):
    for patient in ("00", "01"):
        own = found[found["patient_id"] == patient].set_index("value")
        assert own["converged"].all()
        assert own["log_likelihood"].idxmax() == 2.0
        assert own.loc[1.0, "rho"] > 1.2 * own.loc[2.0, "rho"]
    assert found.set_index(["patient_id", "value"]).loc[("00", 2.0), "rho"] == pytest.approx(0.7, rel=0.1)


def test_a_profile_that_cannot_be_fitted_keeps_its_rows_with_the_reason(found):
    never = found[found["patient_id"] == "02"]
    assert never[["log_likelihood", "aicc", "scale", "rho"]].isna().all().all()
    assert never["reason"].str.contains("none of 2 samples is quantified").all() and not never["converged"].any()


def test_the_configured_range_and_the_other_constants_hold(study):
    settings = Models(rejection={"width": 2.0, "t_rejection": 8.0, "t_rejection_range": [6.0, 12.0]})
    assert ranges(settings.constants("rejection")) == {"width": (0.5, 3.0), "t_rejection": (6.0, 12.0)}
    own = sensitivity(*study, settings, model="rejection", constant="t_rejection")
    assert own["value"].min() == 6.0 and own["value"].max() == 12.0
    assert own.loc[own["fixed"], "value"].unique().tolist() == [8.0]
    # Nothing was rejected: the growth rate under the true width stays, wherever rejection might begin.
    assert own.loc[own["patient_id"] == "00", "rho"].to_numpy(float) == pytest.approx(0.7, rel=0.15)


def test_values_of_ones_own_take_the_place_of_the_range_and_nothing_is_changed(study):
    before = [frame.copy() for frame in study]
    own = sensitivity(*study, model="expansion_contraction", constant="t_lag", values=[2.0, 0.0])
    assert own.loc[own["patient_id"] == "00", "value"].tolist() == [0.0, 2.0]
    for frame, was in zip(study, before, strict=True):
        pd.testing.assert_frame_equal(frame, was)


def test_what_is_not_there_is_refused_with_what_is(study):
    with pytest.raises(InputError, match=r"no constant kappa.*\n?.*width, t_rejection"):
        sensitivity(*study, model="rejection", constant="kappa")
    with pytest.raises(InputError, match="no constant width of the model decay"):
        sensitivity(*study, model="decay", constant="width")
    with pytest.raises(InputError, match="no model rejections"):
        sensitivity(*study, model="rejections", constant="width")
    with pytest.raises(InputError, match="width of the model cytokine_window at -1"):
        sensitivity(*study, model="cytokine_window", constant="width", values=[-1.0])


def test_a_range_runs_upwards():
    with pytest.raises(ValueError, match="low < high"):
        Models(cytokine_window={"width_range": [3.0, 0.5]})


def test_without_observations_the_table_is_empty_with_its_columns():
    rows = pd.DataFrame({"patient_id": [], "time_actual": [], "level": [], "status": [], "lloq": []})
    own = sensitivity(rows, model="cytokine_window", constant="width", values=[1.0])
    assert own.empty and {"value", "rho", "reason"} <= set(own.columns)
