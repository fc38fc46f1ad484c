"""What stands beside a fit: averages over the models, profile likelihoods, starts, constants at other values."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.columns import CONSTANT_SENSITIVITY, ESTIMATES, FITS, LIKELIHOOD_PROFILES, MODEL_AVERAGES
from nkinetics.fitting.choice import SHARED, averaged, averages
from nkinetics.fitting.intervals import wald_quantile
from nkinetics.fitting.likelihood import log_likelihood
from nkinetics.fitting.objective import Case
from nkinetics.fitting.profiles import _profiles, _with_defaults
from nkinetics.fitting.sensitivity import sensitivity
from nkinetics.fitting.starts import starts
from nkinetics.models._algebra import to_estimation
from nkinetics.plugins import Calendar, discover
from nkinetics.settings import Blq, Models
from nkinetics.store import complete
from scipy import optimize

MODELS = discover("models")
TIME = np.array([0.06, 1, 2, 2.95, 3.06, 4, 5, 5.95, 6.06, 7, 8, 9, 10, 11, 12, 13, 16, 20, 27, 41])
TAUS, PULSES = np.array([0.0, 3.0, 6.0]), np.array([0.0, 3.0, 6.0, 9.0])
CALENDAR = Calendar(TAUS, np.ones(3), {"IL-2": PULSES}, 41.0)
TRUTHS = {"001": (1500.0, 0.4, 0.6), "002": (900.0, 0.35, 0.02), "003": (2500.0, 0.5, 0.8)}


@pytest.fixture(scope="module")
def study():
    """Two patients whose cells grew, one whose did not, one below the LLOQ throughout."""
    model, frames = MODELS["cytokine_window"], []
    for i, (patient, parameters) in enumerate(TRUTHS.items()):
        mean = model.log_level(TIME, np.array(parameters), CALENDAR, model.settings())
        level = np.exp(mean + 0.3 * np.random.default_rng([7, i]).normal(size=len(TIME)))
        frames.append(
            pd.DataFrame(
                {
                    "patient_id": patient,
                    "time_actual": TIME,
                    "level": np.where(level >= 50, level, np.nan),
                    "status": np.where(level >= 50, "quantified", "blq"),
                    "lloq": 50.0,
                }
            )
        )
    frames.append(
        pd.DataFrame({"patient_id": "004", "time_actual": TIME, "level": np.nan, "status": "blq", "lloq": 50.0})
    )
    patients = [*TRUTHS, "004"]
    infusions = [(p, k, t, 1e9, 1e9) for p in patients for k, t in enumerate(TAUS, start=1)]
    cytokines = [(p, "IL-2", t) for p in patients for t in PULSES]
    return (
        pd.concat(frames, ignore_index=True),
        pd.DataFrame(infusions, columns=["patient_id", "infusion", "time", "planned", "given"]),
        pd.DataFrame(cytokines, columns=["patient_id", "agent", "time"]),
    )


CHOICES = Models(default="cytokine_window", candidates=("decay", "cytokine_window", "expansion_contraction"))


@pytest.fixture(scope="module")
def done(study):
    return fitting.analyse(*study, CHOICES)


def fits_of(**weights):
    """Fits of one profile, by hand: model=(weight, converged)."""
    rows = [
        {
            "patient_id": "01", "assay": "qpcr", "specimen": "blood", "model": model, "aicc_weight": weight,
            "converged": converged, "n_obs": 12, "n_blq": 0, "aicc": 10.0 if weight == weight else np.nan,
        }
        for model, (weight, converged) in weights.items()
    ]  # fmt: skip
    return complete(pd.DataFrame(rows), FITS)


def estimates_of(*rows):
    """Derived quantities of that profile: (model, parameter, estimate, std_error)."""
    frame = pd.DataFrame(rows, columns=["model", "parameter", "estimate", "std_error"])
    return complete(
        frame.assign(patient_id="01", assay="qpcr", specimen="blood", kind="derived", unit="copies/ug"), ESTIMATES
    )


# --------------------------------------------------------------------------------------------------------- averages


def test_the_average_and_its_unconditional_error_are_those_of_burnham_and_anderson():
    fits = fits_of(decay=(0.75, True), biexponential=(0.25, True))
    estimates = estimates_of(("decay", "curve_cmax", 100.0, 10.0), ("biexponential", "curve_cmax", 200.0, 60.0))
    row = averages(fits, estimates, Models()).set_index("parameter").loc["curve_cmax"]
    mean = 0.75 * math.log(100) + 0.25 * math.log(200)
    variance = 0.75 * (0.1**2 + (math.log(100) - mean) ** 2) + 0.25 * (0.3**2 + (math.log(200) - mean) ** 2)
    assert row["estimate"] == pytest.approx(math.exp(mean))
    assert row["std_error"] == pytest.approx(math.exp(mean) * math.sqrt(variance))
    assert (row["n_models"], row["models"], row["weight_of_best"]) == (2, "decay biexponential", 0.75)
    assert row["reason"] == "" and row["unit"] == "copies/ug"
    # Each model's own variance is widened by its own quantile, the difference of the models is not.
    wide = [wald_quantile(12, p) for p in (2, 4)]
    own = 0.75 * ((wide[0] * 0.1) ** 2 + (1.959964 * (math.log(100) - mean)) ** 2)
    own += 0.25 * ((wide[1] * 0.3) ** 2 + (1.959964 * (math.log(200) - mean)) ** 2)
    assert math.log(row["ci_upper"] / row["estimate"]) == pytest.approx(math.sqrt(own), rel=1e-6)


def test_with_one_model_the_average_is_that_model_with_its_own_interval(study):
    one = fitting.analyse(*study, Models(default="decay", candidates=("decay",)))
    fits = one.fits[one.fits["aicc_weight"].notna()]
    assert (fits["aicc_weight"] == 1).all() and len(fits) == 3
    own = one.estimates.merge(one.averages, on=["patient_id", "assay", "specimen", "parameter"], suffixes=("", "_mean"))
    own = own[own["estimate_mean"].notna() & (own["ci_method"] == "delta")]
    assert set(own["parameter"]) >= {"curve_cmax", "curve_auc_D0-28", "t_below_lloq"}
    for column in ("estimate", "std_error", "ci_lower", "ci_upper"):
        assert own[f"{column}_mean"].to_numpy(float) == pytest.approx(own[column].to_numpy(float), rel=1e-9), column
    # The half-life has the same meaning in every candidate: there is one; its own interval is the profile's.
    half = one.averages[one.averages["parameter"] == "half_life_delta"].set_index("patient_id")["estimate"]
    found = one.estimates[one.estimates["parameter"] == "half_life_delta"].set_index("patient_id")["estimate"]
    assert half[["001", "002", "003"]].to_numpy(float) == pytest.approx(found[["001", "002", "003"]].to_numpy(float))


def test_an_average_lies_between_the_models_and_is_less_certain_than_they_are(done):
    table = done.averages[(done.averages["n_models"] > 1) & done.averages["std_error"].notna()]
    table = table.set_index(["patient_id", "parameter"])
    assert len(table) >= 6
    weights = done.fits.set_index(["patient_id", "model"])["aicc_weight"]
    for (patient, parameter), row in table.iterrows():
        own = done.estimates[(done.estimates["patient_id"] == patient) & (done.estimates["parameter"] == parameter)]
        own = own[own["model"].isin(row["models"].split())]
        assert own["estimate"].min() * (1 - 1e-9) <= row["estimate"] <= own["estimate"].max() * (1 + 1e-9)
        share = weights[[(patient, m) for m in own["model"]]].to_numpy(float)
        share = share / share.sum()
        within = share @ (own["std_error"] / own["estimate"]).to_numpy(float) ** 2
        assert (row["std_error"] / row["estimate"]) ** 2 >= within * (1 - 1e-9)
        assert row["ci_lower"] <= row["estimate"] <= row["ci_upper"]


def test_models_without_aicc_or_convergence_do_not_enter_and_are_named():
    fits = fits_of(decay=(1.0, True), biexponential=(np.nan, True), logistic=(np.nan, False))
    fits["reason"] = ["", "", "not converged: only 1 of 9 starts reached the best likelihood"]
    rows = [(m, "curve_cmax", v, 1.0) for m, v in (("decay", 100.0), ("biexponential", 900.0), ("logistic", 900.0))]
    row = averages(fits, estimates_of(*rows), Models()).set_index("parameter").loc["curve_cmax"]
    assert row["estimate"] == pytest.approx(100.0) and row["models"] == "decay"
    assert "biexponential: AICc not defined" in row["reason"] and "logistic: not converged" in row["reason"]


def test_a_model_that_hardly_counts_may_lack_the_quantity_and_one_that_counts_may_not():
    def value(weight):
        fits = fits_of(decay=(1 - weight, True), biexponential=(weight, True))
        rows = [("decay", "t_below_lloq", 20.0, 1.0), ("biexponential", "t_below_lloq", np.nan, np.nan)]
        return averages(fits, estimates_of(*rows), Models()).set_index("parameter").loc["t_below_lloq"]

    assert value(0.04)["estimate"] == pytest.approx(20.0) and value(0.04)["weight_of_best"] == 1.0
    assert value(0.04)["reason"] == "left out: no value under biexponential (weight 0.04)"
    assert math.isnan(value(0.2)["estimate"]) and value(0.2)["n_models"] == 0
    assert value(0.2)["reason"] == "no value under biexponential (weight 0.20)"


def test_without_the_error_of_a_model_that_counts_the_average_has_none_and_says_whose():
    fits = fits_of(decay=(0.6, True), biexponential=(0.4, True))
    rows = [("decay", "curve_cmax", 100.0, 5.0), ("biexponential", "curve_cmax", 120.0, np.nan)]
    row = averages(fits, estimates_of(*rows), Models()).set_index("parameter").loc["curve_cmax"]
    assert row["estimate"] == pytest.approx(math.exp(0.6 * math.log(100) + 0.4 * math.log(120)))
    assert math.isnan(row["std_error"]) and math.isnan(row["ci_lower"])
    assert row["reason"] == "no standard error: none under biexponential (weight 0.40)"


def test_a_peak_on_day_0_is_averaged_as_it_stands():
    z = np.full(2, 1.959964)
    found = averaged(np.array([0.0, 2.0]), np.array([0.0, 0.2]), np.array([0.5, 0.5]), z, 0.95)
    assert found[0] == 1.0 and found[1] == pytest.approx(math.sqrt(0.5 * 0.04 + 1.0))


def test_every_profile_has_its_rows_and_a_missing_average_its_reason(done):
    assert set(done.averages["patient_id"]) == {*TRUTHS, "004"}
    assert not done.averages.duplicated(list(MODEL_AVERAGES.key)).any()
    for _, own in done.averages.groupby("patient_id"):
        assert own["parameter"].tolist() == sorted(SHARED), "the half-lives of these candidates mean different things"
    assert (done.averages.loc[done.averages["estimate"].isna(), "reason"] != "").all()
    never = done.averages[done.averages["patient_id"] == "004"]
    assert never["estimate"].isna().all() and never["reason"].str.contains("none of 20 samples is quantified").all()


def test_a_half_life_is_averaged_where_every_candidate_has_it(study):
    both = fitting.analyse(*study, Models(default="decay", candidates=("decay", "cytokine_window")))
    assert "half_life_delta" in set(both.averages["parameter"])
    assert "half_life_alpha" not in set(both.averages["parameter"])


# ------------------------------------------------------------------------------------------------ profile likelihood


def case_of(study, patient, name):
    rows = complete(_with_defaults(study[0]), fitting.profiles.OBSERVATIONS)
    found = next(p for p in _profiles(rows, study[1], study[2], Blq(), None, 1e9) if p.patient_id == patient)
    return Case(MODELS[name], CHOICES.constants(name), found.calendar, found.points)


@pytest.mark.parametrize("default", ["cytokine_window", "expansion_contraction"])
def test_the_curve_is_0_at_the_estimate_and_meets_the_cutoff_at_the_ends(study, default):
    found = fitting.analyse(*study, CHOICES.model_copy(update={"default": default}))
    curves = found.likelihood_profiles
    assert set(curves["model"]) == {default} and not curves.duplicated(list(LIKELIHOOD_PROFILES.key)).any()
    assert (curves["deviance"] >= 0).all()
    fitted = found.estimates[(found.estimates["model"] == default) & (found.estimates["kind"] == "fitted")]
    met = 0
    for row in fitted.itertuples():
        own = curves[(curves["patient_id"] == row.patient_id) & (curves["parameter"] == row.parameter)]
        assert own.loc[(own["value"] - row.estimate).abs().idxmin(), "deviance"] == 0
        for end, sides in ((row.ci_lower, ("none", "upper")), (row.ci_upper, ("none", "lower"))):
            if row.ci_open not in sides:
                continue
            at = own.loc[(own["value"] / end - 1).abs().idxmin()]
            # At a kink of the likelihood the end may stand where the curve jumps over the cut-off.
            if abs(at["value"] / end - 1) < 1e-6 and default == "cytokine_window":
                assert at["deviance"] == pytest.approx(at["cutoff"], rel=2e-3), row
                met += 1
        for side, beyond in (("lower", own["value"] < row.estimate), ("upper", own["value"] > row.estimate)):
            if row.ci_open in (side, "both"):
                assert (own.loc[beyond, "deviance"] <= own.loc[beyond, "cutoff"] * 1.002).all(), row
    assert met > 15 or default != "cytokine_window"


def test_the_deviance_is_that_of_another_optimiser_over_all_other_parameters(done, study):
    case = case_of(study, "001", "cytokine_window")
    curves = done.likelihood_profiles
    own = curves[(curves["patient_id"] == "001") & (curves["parameter"] == "rho")]
    best = done.fits.set_index(["patient_id", "model"]).loc[("001", "cytokine_window"), "log_likelihood"]
    for row in own.iloc[[0, 5, 12, -1]].itertuples():

        def minus(free, value=row.value):
            parameters = np.array([np.exp(free[0]), np.exp(free[1]), value])
            mu = case.model.log_level(case.points.time, parameters, case.calendar, case.constants)
            return -float(log_likelihood(mu, np.array(free[2]), case.points))

        tried = [
            optimize.minimize(
                minus, begin, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
            )
            for begin in ([7.0, -1.0, -1.0], [7.5, -0.5, -0.5])
        ]
        lowest = min(t.fun for t in tried)
        assert row.deviance == pytest.approx(2 * (lowest + best), abs=2e-5)


def test_no_point_is_kept_where_none_is_asked_for_and_the_fits_stay_as_they_are(study, done):
    none = fitting.analyse(*study, CHOICES.model_copy(update={"profile_points": 0}))
    assert none.likelihood_profiles.empty and list(none.likelihood_profiles) == LIKELIHOOD_PROFILES.names
    pd.testing.assert_frame_equal(none.fits, done.fits)
    pd.testing.assert_frame_equal(none.estimates, done.estimates)


def test_a_patient_alone_has_the_same_curves_and_averages(study, done):
    observations, infusions, cytokines = study
    alone = fitting.analyse(observations[observations["patient_id"] == "002"], infusions, cytokines, CHOICES)
    for name in ("likelihood_profiles", "averages"):
        among = getattr(done, name)
        among = among[among["patient_id"] == "002"].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(alone, name).reset_index(drop=True), among, check_exact=True)


# ------------------------------------------------------------------------------------------------- starts and limits


def test_starts_stand_within_the_limits_and_are_among_those_of_the_model(done, study):
    fitted = done.estimates[done.estimates["kind"] == "fitted"]
    assert fitted[["start", "lower_limit", "upper_limit"]].notna().all().all()
    assert (fitted["start"] >= fitted["lower_limit"] * (1 - 1e-9)).all()
    assert (fitted["start"] <= fitted["upper_limit"] * (1 + 1e-9)).all()
    assert done.estimates.loc[done.estimates["kind"] != "fitted", "start"].isna().all()
    case = case_of(study, "003", "decay")
    own = fitted[(fitted["patient_id"] == "003") & (fitted["model"] == "decay")].set_index("parameter")["start"]
    began = np.append(to_estimation(case.model, own[["scale", "delta"]].to_numpy(float)), np.log(own["sigma"]))
    assert (np.abs(starts(case) - began).max(axis=1) < 1e-8).any()
    fits = done.fits[done.fits["converged"]]
    assert (fits["n_starts"] >= fits["n_restarts_agree"]).all() and (fits["n_restarts_agree"] >= 2).all()


# --------------------------------------------------------------------------------------------------------- constants


def test_the_table_of_constants_is_the_sensitivity_of_each_candidate_in_long_form(study):
    choices = CHOICES.model_copy(update={"sensitivity_points": 3})
    table = fitting.over_ranges(*study, choices)
    assert not table.duplicated(list(CONSTANT_SENSITIVITY.key)).any()
    assert set(zip(table["model"], table["constant"], strict=True)) == {("cytokine_window", "width")}
    assert sorted(set(table["value"])) == [0.5, 1.5, 1.75, 3.0]
    whole = sensitivity(*study, CHOICES, model="cytokine_window", constant="width", values=[0.5, 1.5, 1.75, 3.0])
    for row in whole.itertuples():
        own = table[(table["patient_id"] == row.patient_id) & (table["value"] == row.value)].set_index("parameter")
        assert set(own.index) == {"scale", "delta", "rho", "sigma"}
        assert own.loc["rho", "estimate"] == pytest.approx(row.rho, nan_ok=True)
        assert own.loc["delta", "unit"] == "1/d" and own.loc["sigma", "unit"] == ""
    at_fixed = table[table["fixed"]]
    assert set(at_fixed["value"]) == {1.5} and at_fixed["delta_aicc"].dropna().eq(0).all()
    never = table[table["patient_id"] == "004"]
    assert len(never) == 16 and never["estimate"].isna().all() and (never["reason"] != "").all()


def test_only_constants_that_act_are_varied(study):
    smooth = Models(
        default="decay",
        candidates=("decay", "expansion_contraction"),
        sensitivity_points=2,
        expansion_contraction={"gate": "smooth", "t_lag": 1.0},
    )
    table = fitting.over_ranges(*(study[0][study[0]["patient_id"] == "004"], *study[1:]), smooth)
    assert set(table["constant"]) == {"gate_width", "t_lag"}
    plain = Models(default="decay", candidates=("decay", "expansion_contraction"), sensitivity_points=2)
    assert fitting.over_ranges(*study, plain).empty
    assert fitting.over_ranges(*study, CHOICES.model_copy(update={"sensitivity_points": 0})).empty


# ----------------------------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_formula_of_a_derived_quantity_gives_its_value(name):
    model = MODELS[name]
    variants = [model.example.constants]
    if name == "expansion_contraction":
        variants += [{"gate": "smooth", "t_lag": 0.5}, {"t_lag": 2.0}]
    for given in variants:
        constants = model.settings(**given)
        values = np.array(model.example.parameters)
        known = dict(zip(model.names, values.tolist(), strict=True))
        known |= {c: v for c, (v, _) in model.fixed(constants).items()}
        for quantity in model.derived(values[None], model.example.calendar, constants, 1.0):
            formula = f"ln(2) / {quantity.rate}" if quantity.rate else quantity.formula
            if not formula or math.isnan(quantity.value[0]):
                continue
            assert set(re.findall(r"[a-z_]\w*", formula)) <= {*known, "ln", "exp", "max"}
            functions = {"ln": math.log, "exp": math.exp, "max": max}
            assert eval(formula, {"__builtins__": {}}, {**functions, **known}) == pytest.approx(quantity.value[0])
