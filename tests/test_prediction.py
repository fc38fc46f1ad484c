"""Predictions: against closed forms, coverage of held-out samples, and what cannot be predicted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli
from nkinetics.columns import INFUSIONS, OBSERVATIONS, PATIENTS, POPULATION, POPULATION_DRAWS
from nkinetics.errors import BAD_INPUT, DONE, InputError
from nkinetics.fitting import assay_profiles
from nkinetics.fitting.likelihood import Points
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, discover
from nkinetics.population.estimation import analyse
from nkinetics.population.mixed import Effects, Study, Values, series
from nkinetics.population.prediction import (
    NEW,
    asked,
    forecast,
    individual_draws,
    levels,
    new_patients,
    planned,
    population_values,
    quantities,
    with_remaining,
)
from nkinetics.population.study import prepare
from nkinetics.settings import Blq, Models, Population, Prediction, Scenario
from nkinetics.store import complete, write_json, write_table
from scipy.special import ndtri

OMEGA, SIGMA, LLOQ = 0.5, 0.3, 50.0
TYPICAL = (2000.0, 0.4)
DAYS = (0.1, 1.0, 2.0, 4.0, 7.0, 10.0, 14.0, 20.0, 27.0)


def study(
    n: int,
    seed: int = 1,
    until: float = 27.0,
    infusions: tuple[float, ...] = (0.0,),
    doses: tuple[float, ...] = (1.0, 2.0),
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Tables of simulated patients of the model decay, and the samples after a day, which stay aside."""
    model, random = discover("models")["decay"], np.random.default_rng(seed)
    observed, given, patients = [], [], []
    for i in range(n):
        name, k = f"{i + 1:03d}", i % len(doses)
        calendar = Calendar(np.array(infusions), np.full(len(infusions), doses[k]), {}, 28.0)
        phi = np.log(TYPICAL) + OMEGA * random.standard_normal(2)
        mean = model.log_level(np.array(DAYS), np.exp(phi), calendar, model.settings())
        y = np.exp(mean + SIGMA * random.standard_normal(len(DAYS)))
        observed += [
            {"patient_id": name, "time_actual": a, "level": b if b >= LLOQ else np.nan, "lloq": LLOQ, "true": b}
            | {"status": "quantified" if b >= LLOQ else "blq", "sample_id": f"{name}-{j}"}
            for j, (a, b) in enumerate(zip(DAYS, y, strict=True))
        ]
        given += [
            {"patient_id": name, "infusion": j + 1, "time": t, "planned": doses[k] * 2e9, "given": doses[k] * 2e9}
            for j, t in enumerate(infusions)
        ]
        patients.append({"patient_id": name, "dose_level": f"DL{k + 1}"})
    frame = pd.DataFrame(observed)
    tables = {
        "observations": frame[frame["time_actual"] <= until].drop(columns="true"),
        "infusions": pd.DataFrame(given).assign(unit="cells"),
        "patients": pd.DataFrame(patients),
    }
    return tables, frame[frame["time_actual"] > until]


def known_fit(
    tables: Mapping[str, pd.DataFrame],
    *,
    error: float = 0.0,
    theta: float | None = 1.0,
    factor: float = 1.0,
    rho: float | None = None,
    **fit: Any,
) -> dict[str, Any]:
    """What `nkinetics population` would write for a population that is known, each draw off by the error."""
    model = "decay" if rho is None else "cytokine_window"
    header = {"assay": "qpcr", "specimen": "blood", "model": model, "method": "saem"}
    centre = {
        ("typical", "scale"): np.log(TYPICAL[0] * factor),
        ("typical", "delta"): np.log(TYPICAL[1]),
        ("omega", "scale"): np.log(OMEGA),
        ("omega", "delta"): np.log(OMEGA),
        ("sigma", "sigma"): np.log(SIGMA),
    }
    if theta is not None:
        centre[("covariate", "theta_dose")] = theta
    if rho is not None:
        centre |= {("typical", "rho"): np.log(rho), ("omega", "rho"): np.log(0.05)}
    # Quantiles of the normal in a shuffled order: the spread is exact with few draws.
    z = ndtri((np.arange(400) + 0.5) / 400)
    rows = []
    for k, ((kind, name), value) in enumerate(sorted(centre.items())):
        off = error * np.random.default_rng(k).permutation(z) if (kind, name) == ("typical", "scale") else 0.0 * z
        rows += [
            header | {"kind": kind, "parameter": name, "draw": i + 1, "value": v}
            for i, v in enumerate((value + off).tolist())
        ]
    estimates = [
        header | {"kind": kind, "parameter": name, "estimate": np.exp(v), "std_error": 0.1, "primary": True}
        for (kind, name), v in centre.items()
    ]
    return {
        "fit": {
            "settings": Population(model=model).model_dump(mode="json"),
            "constants": {model: {}},
            "blq": Blq().model_dump(mode="json"),
            "reference_dose": 2e9,
            "primary": "saem",
            "chosen": model,
            "fits": [header | {"converged": True, "reason": ""} | fit],
        },
        "population": complete(pd.DataFrame(estimates), POPULATION),
        "draws": complete(pd.DataFrame(rows), POPULATION_DRAWS),
        **tables,
    }


def by_key(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by scenario and quantity."""
    return frame.set_index(["scenario", "quantity"])


@pytest.fixture(scope="module")
def four() -> dict[str, pd.DataFrame]:
    return study(4)[0]


# ------------------------------------------------------------------------------------------------------ new patients


def test_the_interval_of_a_new_patient_is_the_log_normal_one(four):
    """Cmax after one infusion is S D: ln normal with the variance between patients and that of the typical value."""
    done = by_key(forecast(**known_fit(four, error=0.4)).population_forecast)
    row = done.loc[("DL1", "curve_cmax")]
    spread = np.hypot(OMEGA, 0.4)
    for name, z in (("median", 0.0), ("lower", -1.96), ("upper", 1.96)):
        assert np.log(row[name]) == pytest.approx(np.log(2000.0) + z * spread, abs=0.05), name
    for name, z in (("typical", 0.0), ("typical_lower", -1.96), ("typical_upper", 1.96)):
        assert np.log(row[name]) == pytest.approx(np.log(2000.0) + z * 0.4, abs=0.02), name
    # The median of three normal deviates has the SD .6698.
    of_three = np.hypot(0.4, 0.6698 * OMEGA)
    assert np.log(row["cohort_upper"] / row["cohort_lower"]) == pytest.approx(2 * 1.96 * of_three, rel=0.06)


def test_new_patients_of_the_true_population_lie_in_their_interval_as_often_as_it_says(four):
    """Twenty thousand patients from the population that made the study."""
    done = by_key(forecast(**known_fit(four)).population_forecast)
    random, model = np.random.default_rng(3), discover("models")["decay"]
    phi = np.log(TYPICAL) + OMEGA * random.standard_normal((20_000, 2))
    calendar = Calendar(np.array([0.0]), np.array([2.0]), {}, 28.0)
    truth = {q.name: q.value for q in model.derived(np.exp(phi), calendar, model.settings(), LLOQ)}
    for name in ("curve_cmax", "curve_auc_D0-28", "t_below_lloq"):
        row = done.loc[("DL2", name)]
        inside = (truth[name] >= row["lower"]) & (truth[name] <= row["upper"])
        assert inside.mean() == pytest.approx(0.95, abs=0.012), name
    level = model.log_level(np.array([13.0]), np.exp(phi), calendar, model.settings())[:, 0]
    assert done.loc[("DL2", "above_lloq_D14"), "probability"] == pytest.approx((level >= np.log(LLOQ)).mean(), abs=0.02)


def test_twice_the_dose_is_twice_the_exposure_where_proportionality_is_assumed():
    """One dose level: theta_dose is fixed at 1; the same virtual patients get the one dose and the other."""
    tables, _ = study(3, doses=(1.0,))
    scenarios = tuple(Scenario(name=f"x{k}", dose=k * 2e9, infusions=(0, 3, 6)) for k in (1, 2))
    done = by_key(
        forecast(**known_fit(tables, theta=None), settings=Prediction(scenarios=scenarios)).population_forecast
    )
    for name in ("curve_cmax", "curve_auc_D0-28", "level_before_infusion_2"):
        for column in ("median", "lower", "upper", "typical", "cohort_median"):
            ratio = done.loc[("x2", name), column] / done.loc[("x1", name), column]
            assert ratio == pytest.approx(2.0, rel=1e-9), (name, column)
    assert done["reason"].str.contains("by assumption").all()
    assert (
        done.loc[("x2", "curve_cmax"), "extrapolation"] and "more infusions" in done.loc[("x1", "curve_cmax"), "reason"]
    )


def test_the_exponent_of_the_dose_acts_on_the_next_dose_level(four):
    """Exponent 2: four times the level at twice the amount."""
    done = by_key(forecast(**known_fit(four, theta=2.0)).population_forecast)
    ratio = done.loc[("next", "curve_cmax"), "median"] / done.loc[("DL2", "curve_cmax"), "median"]
    assert ratio == pytest.approx(4.0, rel=1e-9)
    assert "to the power 7.39" in done.loc[("DL1", "curve_cmax"), "reason"]  # the estimate of the invented table


def test_areas_are_those_of_the_model_on_the_draws(four):
    """D0-28 from the model's own derived quantities; other windows by a rule that agrees with them."""
    given = known_fit(four)
    settings = Prediction(scenarios=(Scenario(name="a", dose=2e9, infusions=(0, 3)),))
    row = by_key(forecast(**given, settings=settings).population_forecast).loc[("a", "curve_auc_D0-28")]
    prepared = _prepared(four)
    values, _ = population_values(prepared, given["draws"], given["population"], ["qpcr"])
    from nkinetics.population.estimation import generator

    names = ("qpcr", "blood", "decay", "saem", "001", "002", "003", "004", "new patients", NEW)
    phi, _ = new_patients(prepared, values, 1.0, NEW, generator(*names))
    natural = to_natural(prepared.model, phi.reshape(-1, 2))
    calendar = Calendar(np.array([0.0, 3.0]), np.ones(2), {}, 28.0)
    areas = next(
        q.value for q in prepared.model.derived(natural, calendar, prepared.constants, LLOQ) if q.name.endswith("D0-28")
    )
    ends = np.quantile(areas, [0.025, 0.5, 0.975], method="closest_observation")
    assert row[["lower", "median", "upper"]].to_numpy(dtype=float) == pytest.approx(ends, rel=1e-9)


@pytest.mark.parametrize("name", ["decay", "cytokine_window", "expansion_contraction", "effector_memory", "logistic"])
def test_an_area_by_the_rule_agrees_with_the_closed_one(name):
    """The windows D0-14 and D14-28 add up to the D0-28 of the model."""
    model = discover("models")[name]
    constants = model.settings(**model.example.constants)
    phi = to_estimation(model, np.array([model.example.parameters] * 3)) + np.array([[-0.1], [0.0], [0.1]])
    settings = Prediction(windows=((0, 28), (0, 14), (14, 28)))
    found = quantities(model, phi, model.example.calendar, constants, 1.0, settings)
    parts = found["curve_auc_D0-14"][1] + found["curve_auc_D14-28"][1]
    assert parts == pytest.approx(found["curve_auc_D0-28"][1], rel=1e-3)


def test_the_scenarios_without_any_asked_are_the_dose_levels_and_the_next():
    """Planned amounts, the days on which most were treated, the doses of the cytokine."""
    tables, _ = study(4, infusions=(0.0, 3.04, 6.01))
    pulses = pd.DataFrame({"patient_id": "001", "agent": "IL-2", "time": [0.1, 3.1]})
    found = planned(tables["infusions"], pulses, tables["patients"], 2.0)
    assert [(s.name, s.amounts[0], s.infusions) for s in found] == [
        ("DL1", 2e9, (0.0, 3.0, 6.0)),
        ("DL2", 4e9, (0.0, 3.0, 6.0)),
        ("next", 8e9, (0.0, 3.0, 6.0)),
    ]
    assert found[0].cytokines == (0.0, 3.0) and found[1].cytokines == ()
    assert len(planned(tables["infusions"], pulses, tables["patients"], None)) == 2


def test_what_lies_beyond_the_study_is_called_so(four):
    """A higher amount, a lower one, more infusions, later ones; what was given is not."""
    asked_for = [
        Scenario(name="given", dose=4e9),
        Scenario(name="higher", dose=5e9),
        Scenario(name="lower", dose=1e9),
        Scenario(name="more", dose=2e9, infusions=(0, 10)),
    ]
    done = by_key(forecast(**known_fit(four), settings=Prediction(scenarios=tuple(asked_for))).population_forecast)
    told = {s.name: str(done.loc[(s.name, "curve_cmax"), "reason"]) for s in asked_for}
    flags = {s.name: bool(done.loc[(s.name, "curve_cmax"), "extrapolation"]) for s in asked_for}
    assert flags == {"given": False, "higher": True, "lower": True, "more": True}
    assert "above the highest mean amount of an infusion given (4×10⁹)" in told["higher"]
    assert "below the lowest mean amount of an infusion given (2×10⁹)" in told["lower"]
    assert "more infusions than given (1)" in told["more"] and "later than any given (day 0)" in told["more"]


def test_another_schedule_of_the_cytokine_changes_what_its_model_expects(four):
    """rho 0.6, windows of 1.5 d: two more doses add exp(2 x 1.5 x 0.6) to the level on day 20, and are extrapolated."""
    given = four | {
        "cytokines": pd.DataFrame(
            [{"patient_id": i, "agent": "IL-2", "time": t} for i in ("001", "002", "003", "004") for t in (0.0, 3.0)]
        )
    }
    scenarios = [Scenario(name=n, dose=2e9, cytokines=c) for n, c in (("as", (0, 3)), ("more", (0, 3, 6, 9)))]
    days = Prediction(scenarios=tuple(scenarios), days={"D21": 20.0}, limits={})
    done = forecast(**known_fit(given, rho=0.6), settings=days)
    curves = done.population_forecast_curves.pivot(index="time", columns="scenario", values="median")
    ratio = curves["more"] / curves["as"]
    assert ratio[ratio.index < 6].to_numpy() == pytest.approx(1.0)
    assert ratio[ratio.index > 10.5].to_numpy() == pytest.approx(np.exp(1.8), rel=0.03)
    rows = by_key(done.population_forecast)
    assert not rows.loc[("as", "curve_cmax"), "extrapolation"] and rows.loc[("more", "curve_cmax"), "extrapolation"]
    assert "more doses of IL-2 than given (2)" in rows.loc[("more", "curve_cmax"), "reason"]


def test_a_limit_has_its_probability(four):
    """Half of new patients lie above the typical Cmax; the highest of the study's patients is a limit too."""
    settings = Prediction(limits={"curve_cmax": 2000.0, "curve_auc_D0-28": "observed_max"})
    done = by_key(forecast(**known_fit(four), settings=settings).population_forecast)
    assert done.loc[("DL1", "curve_cmax"), "probability"] == pytest.approx(0.5, abs=0.02)
    seen = forecast(**known_fit(four)).individual_forecast
    highest = seen.loc[seen["quantity"] == "curve_auc_D0-28", "median"].max()
    assert done.loc[("DL1", "curve_auc_D0-28"), "limit"] == pytest.approx(highest)


# --------------------------------------------------------------------------------------------------------- patients


def _prepared(tables: Mapping[str, pd.DataFrame]):
    own = assay_profiles(tables["observations"], tables["infusions"], None, None, tables["patients"])
    return prepare([own], "decay", Population(), Models(), tables["patients"], weak=False)


def test_a_patient_drawn_given_his_samples_has_the_exact_conditional_distribution():
    """A normal with known answer, the residual SD differing between the draws of the population."""
    y, omega = np.array([1.0, 1.4, 0.8]), 0.7
    rows = series([[Points(np.array([1.0, 2.0, 3.0]), y, np.zeros(0), np.zeros(0), np.zeros(3))]] * 2)
    one = np.array([0.0])
    effects = Effects(
        ("m",), ("c",), np.ones((2, 1, 1)), one, one == 0, one == 0, np.eye(1, dtype=bool), one, one + np.inf, 1.0,
        one + omega, one + 0.5,
    )  # fmt: skip
    plain = Study(rows, effects, lambda phi, chains: np.broadcast_to(phi, (*phi.shape[:2], 3)))
    d = 400
    sd = np.repeat([0.3, 0.9], d // 2)
    values = Values(np.full((d, 1), 0.2), np.full((d, 1, 1), omega**2), sd[:, None], np.zeros((d, 1)))
    draws = [individual_draws(plain, values, np.random.default_rng(k), sweeps=60) for k in range(6)]
    phi = np.concatenate([p[..., 0] for p, _ in draws])
    which = np.concatenate([v.sigma[:, 0] for _, v in draws])
    for s in (0.3, 0.9):
        precision = 3 / s**2 + 1 / omega**2
        own = phi[which == s]
        assert own.mean() == pytest.approx((y.sum() / s**2 + 0.2 / omega**2) / precision, abs=0.05)
        assert own.std() == pytest.approx(precision**-0.5, rel=0.08)


def test_held_out_samples_lie_in_the_predictive_interval_as_often_as_it_says():
    """Samples to day 4 of 80 patients are fitted; nine in ten of the later ones lie in the 90 % interval."""
    tables, later = study(80, seed=7, until=4.0, infusions=(0.0, 3.0))
    done = analyse(**tables, model="decay", settings=Population(method="saem", seeds=1))
    prepared = _prepared(tables)
    values, _ = population_values(prepared, done.draws, done.population, ["qpcr"])
    phi, at = individual_draws(prepared.study, values, np.random.default_rng(1))
    inside = []
    for i, patient in enumerate(prepared.patients):
        own = later[later["patient_id"] == patient]
        time = own["time_actual"].to_numpy(dtype=float)
        random = np.random.default_rng(i)
        _, measured = levels(prepared, phi[:, i : i + 1], at, prepared.calendars[i], time, random)
        low, high = np.quantile(measured[:, 0], [0.05, 0.95], axis=0)
        y = np.log(own["true"].to_numpy(dtype=float))
        inside += ((y >= low) & (y <= high)).tolist()
    assert len(inside) == 400
    assert 0.84 < np.mean(inside) < 0.95


def test_what_is_still_to_come_raises_the_forecast_and_is_named():
    """Two of three infusions so far; a patient who had all of them keeps his forecast."""
    tables, _ = study(4, until=4.0, infusions=(0.0, 3.0, 6.0))
    given = tables["infusions"]
    fewer = given[~((given["patient_id"] == "001") & (given["infusion"] == 3))]
    early = tables | {"infusions": fewer}
    one, other = (
        forecast(**known_fit(early), settings=Prediction(remaining=r)).individual_forecast.set_index(
            ["patient_id", "quantity"]
        )
        for r in (False, True)
    )
    key = ("001", "curve_auc_D0-28")
    assert other.loc[key, "median"] > 1.2 * one.loc[key, "median"]
    assert "counts on 1 more infusion, as planned" in other.loc[key, "reason"]
    same = ("003", "curve_auc_D0-28")
    assert other.loc[same, "median"] == one.loc[same, "median"]
    late = Calendar(np.array([0.0]), np.array([1.0]))
    plan = Scenario(name="DL1", dose=2e9, infusions=(0, 3))
    assert with_remaining(late, plan, 2e9, 10.0)[0] is late  # what should have come before his last sample will not


def test_who_died_or_has_no_sample_stands_with_the_reason(four):
    """No number for either."""
    people = four["patients"].assign(status_end=["death", "", "", ""], time_end=[12.0, np.nan, np.nan, np.nan])
    fewer = four["observations"][four["observations"]["patient_id"] != "002"]
    given = known_fit(four | {"patients": people, "observations": fewer})
    rows = forecast(**given).individual_forecast
    assert set(rows["patient_id"]) == {"001", "002", "003", "004"}
    dead, absent = (rows[rows["patient_id"] == i] for i in ("001", "002"))
    assert dead["median"].isna().all() and (dead["reason"] == "died on day 12").all()
    assert absent["median"].isna().all() and absent["reason"].str.startswith("no data").all()


# -------------------------------------------------------------------------------------------------------------- laws


def test_the_order_of_rows_changes_no_bit(four):
    """Every table shuffled."""
    given = known_fit(four, error=0.2)
    frames = {k: v.sample(frac=1.0, random_state=2) if isinstance(v, pd.DataFrame) else v for k, v in given.items()}
    one, other = forecast(**given), forecast(**frames)
    for name in vars(one):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def test_a_change_of_unit_moves_levels_and_areas_and_nothing_else(four):
    """Levels times 1000."""
    rows = four["observations"]
    more = four | {"observations": rows.assign(level=rows["level"] * 1e3, lloq=rows["lloq"] * 1e3)}
    one, other = (by_key(forecast(**known_fit(t, factor=f)).population_forecast) for t, f in ((four, 1.0), (more, 1e3)))
    level = one["unit"].str.contains("copies")
    for column in ("median", "lower", "upper", "typical", "cohort_upper"):
        ratio = (other[column] / one[column]).dropna()
        assert ratio[level.reindex(ratio.index)].to_numpy() == pytest.approx(1e3, rel=1e-6)
    rest = one.loc[~level, "median"].dropna()
    assert other.loc[rest.index, "median"].to_numpy() == pytest.approx(rest.to_numpy(), rel=1e-6)
    assert other["probability"].fillna(-1).to_numpy() == pytest.approx(
        one["probability"].fillna(-1).to_numpy(), abs=1e-3
    )


def test_a_fit_that_is_not_to_be_trusted_gives_reasons_and_no_number(four):
    """Every scenario and every patient has its rows."""
    given = known_fit(four, converged=False, reason="chains not settled")
    done = forecast(**given)
    assert set(done.population_forecast["scenario"]) == {"DL1", "DL2", "next"}
    assert set(done.individual_forecast["patient_id"]) == {"001", "002", "003", "004"}
    for frame in (done.population_forecast, done.individual_forecast):
        assert frame[["median", "lower", "upper", "probability"]].isna().all(axis=None)
        assert frame["reason"].str.contains("not to be trusted \\(chains not settled\\)").all()
    assert not len(done.population_forecast_curves) and not len(done.individual_forecast_curves)


def test_one_patient_and_a_study_without_amounts():
    """One patient has a forecast; without amounts no scenario can be placed, and that is said."""
    tables, _ = study(1)
    done = forecast(**known_fit(tables, theta=None))
    assert done.individual_forecast["median"].notna().any()
    assert done.population_forecast["median"].notna().any()
    del tables["infusions"]
    scenario = Prediction(scenarios=(Scenario(name="a", dose=2e9),))
    done = forecast(**known_fit(tables, theta=None), settings=scenario)
    assert done.population_forecast["median"].isna().all()
    assert done.population_forecast["reason"].str.contains("amounts given are not known").all()
    assert done.individual_forecast["median"].notna().any()


def test_draws_of_another_model_and_a_fit_that_is_not_there_are_refused(four):
    """With what was found and what was expected."""
    given = known_fit(four)
    wrong = given | {"draws": given["draws"][given["draws"]["parameter"] != "delta"]}
    with pytest.raises(InputError, match="draws of delta"):
        forecast(**wrong)
    with pytest.raises(InputError, match="no fit of logistic by saem"):
        forecast(**given, model="logistic")


def test_an_sd_without_an_error_is_taken_as_estimated(four):
    """Its draws could be anything."""
    given = known_fit(four)
    at = (given["population"]["kind"] == "omega") & (given["population"]["parameter"] == "delta")
    estimates = given["population"].assign(std_error=given["population"]["std_error"].where(~at))
    draws = given["draws"]
    wild = (draws["kind"] == "omega") & (draws["parameter"] == "delta")
    draws = draws.assign(value=draws["value"].where(~wild, 5.0))
    values, notes = population_values(_prepared(four), draws, estimates, ["qpcr"])
    assert np.sqrt(values.omega[:, 1, 1]) == pytest.approx(OMEGA)
    assert any("SD of delta" in note for note in notes)


# ----------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def folder(four, tmp_path: Path) -> Path:
    """A results folder with a known fit."""
    given = known_fit(four)
    rows = four["observations"].assign(
        assay="qpcr", specimen="blood", level_unit="copies/ug", reportable=True, infusion=1, predose=False
    )
    rows = rows.assign(observation_id=rows["sample_id"])
    write_table(complete(rows, OBSERVATIONS), tmp_path / "observations.csv", OBSERVATIONS)
    write_table(complete(four["infusions"], INFUSIONS), tmp_path / "study" / "infusions.csv", INFUSIONS)
    write_table(complete(four["patients"], PATIENTS), tmp_path / "study" / "patients.csv", PATIENTS)
    write_table(given["population"], tmp_path / "population.csv", POPULATION)
    write_table(given["draws"], tmp_path / "population_draws.csv", POPULATION_DRAWS)
    write_json(given["fit"], tmp_path / "population_fit.json")
    return tmp_path


def test_the_command_writes_the_same_bytes_twice(folder: Path):
    names = ("population_forecast", "population_forecast_curves", "individual_forecast", "individual_forecast_curves")
    for out in ("a", "b"):
        assert cli.main(["predict", "--results", str(folder), "--output-dir", str(folder / out)]) == DONE
    for name in names:
        first = (folder / "a" / f"{name}.csv").read_bytes()
        assert first == (folder / "b" / f"{name}.csv").read_bytes() and first.count(b"\n") > 3


def test_the_command_takes_a_scenario(folder: Path):
    argv = ["predict", "--results", str(folder), "--dose", "6e9", "--infusions", "0,3,6", "--cytokines", "0,3,6,9"]
    assert cli.main([*argv, "--patients", "4", "--name", "DL3", "--output-dir", str(folder / "a")]) == DONE
    rows = pd.read_csv(folder / "a" / "population_forecast.csv")
    assert set(rows["scenario"]) == {"DL3"} and set(rows["cohort"]) == {4}
    assert rows["schedule"].iloc[0] == "3 infusions of 6×10⁹ cells on days 0, 3, 6; IL-2 on days 0, 3, 6, 9"
    assert rows["reason"].str.contains("has no effect of IL-2").all()


def test_bad_options_and_missing_files_are_told_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = ["predict", "--results", str(tmp_path), "--dose", "6e9,zz", "--infusions", "0,x", "--patients", "0.5"]
    assert cli.main([*argv, "--output-dir", str(tmp_path / "out")]) == BAD_INPUT
    told = capsys.readouterr().err
    for word in ("'zz'", "'x'", "'0.5'", "population_fit.json", "population_draws.csv", "observations.csv"):
        assert word in told
    assert not (tmp_path / "out").exists()


def test_scenarios_that_cannot_be_given_are_refused():
    with pytest.raises(InputError, match="begin with 0"):
        asked({"dose": "1e9", "infusions": "1,2"})
    with pytest.raises(InputError, match="2 amounts for 3 infusions"):
        asked({"dose": "1e9,2e9", "infusions": "0,3,6"})
    with pytest.raises(InputError, match="--dose: found nothing"):
        asked({"infusions": "0,3"})
    with pytest.raises(ValueError, match="several for a"):
        Prediction(scenarios=(Scenario(name="a", dose=1.0), Scenario(name="a", dose=2.0)))
    with pytest.raises(ValueError, match="no quantity cmax"):
        Prediction(limits={"cmax": 3.0})


def test_what_the_population_command_writes_is_what_predict_reads(four, tmp_path: Path):
    """From tables to a forecast through the two commands."""
    rows = four["observations"]
    rows.to_csv(tmp_path / "observations.csv", index=False)
    study_folder = tmp_path / "study"
    write_table(complete(four["infusions"], INFUSIONS), study_folder / "infusions.csv", INFUSIONS)
    write_table(complete(four["patients"], PATIENTS), study_folder / "patients.csv", PATIENTS)
    argv = ["population", "--observations", str(tmp_path / "observations.csv"), "--model", "decay"]
    argv += ["--infusions", str(study_folder / "infusions.csv"), "--patients", str(study_folder / "patients.csv")]
    settings = '{"method": "saem", "seeds": 1, "priors": {"delta": [0.4, 0.1]}}'
    assert cli.main([*argv, "--settings", settings, "--output-dir", str(tmp_path)]) == DONE
    assert cli.main(["predict", "--results", str(tmp_path), "--output-dir", str(tmp_path)]) == DONE
    fit = json.loads((tmp_path / "population_fit.json").read_text(encoding="utf-8"))
    found = pd.read_csv(tmp_path / "population_forecast.csv")
    assert set(found["scenario"]) == {"DL1", "DL2", "next"}
    trusted = fit["fits"][0]["converged"]
    assert found.loc[found["quantity"] == "curve_cmax", "median"].notna().all() == trusted
