"""How a number of estimates.csv was made: rows of the likelihood, arithmetic, interval in words, other models."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli, fitting, ingest, settings
from nkinetics.columns import ESTIMATES
from nkinetics.errors import BAD_INPUT, DONE, InputError
from nkinetics.explaining import wells
from nkinetics.fitting.explain import FitExplanation, difference, explain, is_known, names
from nkinetics.results import Results
from nkinetics.settings import Blq, Models
from nkinetics.store import write_table, write_text

FUNCTIONS = {"exp": math.exp, "ln": math.log, "max": max}


def evaluated(told: FitExplanation) -> float:
    """The value by the printed formulas alone; every step is checked on the way."""
    known: dict[str, float] = {}
    for step in told.steps:
        if step.symbol:
            value = eval(step.formula, {"__builtins__": {}}, {**FUNCTIONS, **known})
            assert value == pytest.approx(step.value, rel=2e-6), (told.parameter, step)
            known[step.symbol] = value
    return known[told.parameter.replace("-", "_")]


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of three patients of the bundled study, as far as a fit goes back."""
    choices = settings.load(root / "config/config.yaml")
    where = tmp_path_factory.mktemp("explain_fits")
    ingest.write(ingest.run(settings.located(choices, root), root), where)
    write_text(where / "run_config.yaml", settings.as_yaml(choices))
    results = Results(where)
    write_table(fitted_of(results, choices).estimates, where / "estimates.csv", ESTIMATES)
    return where


def fitted_of(results: Results, choices: settings.Settings, patients: tuple[str, ...] = ("001", "002", "008")):
    observed, everyone = results.table("observations"), results.table("patients")
    return fitting.analyse(
        observed[observed["patient_id"].isin(patients)],
        results.table("infusions"),
        results.table("cytokines"),
        choices.models,
        choices.blq,
        everyone[everyone["patient_id"].isin(patients)],
    )


@pytest.fixture(scope="module")
def choices(folder: Path) -> settings.Settings:
    return settings.load(folder / "run_config.yaml")


@pytest.fixture(scope="module")
def done(folder: Path, choices: settings.Settings):
    return fitted_of(Results(folder), choices)


@pytest.fixture(scope="module")
def told(folder: Path, choices: settings.Settings):
    """`explain` of that study."""
    results = Results(folder)
    frames = [results.table(n) for n in ("observations", "infusions", "cytokines", "patients")]
    behind = wells(results.table("observation_sources"), results.table("ingest"))

    def one(patient: str, parameter: str, **where: str) -> FitExplanation:
        return explain(*frames, choices.models, choices.blq, patient, parameter, sources=behind, **where)

    return one


@pytest.mark.parametrize(
    "model", ["decay", *(pytest.param(m, marks=pytest.mark.long) for m in ("cytokine_window", "expansion_contraction"))]
)
def test_the_arithmetic_of_every_derived_parameter_comes_to_the_value_written(model, told, done) -> None:
    rows = done.estimates[(done.estimates["patient_id"] == "001") & (done.estimates["assay"] == "qpcr")]
    rows = rows[(rows["model"] == model) & (rows["kind"] == "derived")]
    assert len(rows) >= 8
    for row in rows.itertuples():
        one = told("001", row.parameter, model=model)
        assert one.kind == "derived" and one.unit == row.unit
        assert one.estimate == row.estimate or (math.isnan(one.estimate) and math.isnan(row.estimate))
        if not math.isnan(row.estimate):
            assert evaluated(one) == pytest.approx(row.estimate, rel=2e-6), row.parameter
        else:
            assert not one.steps and row.reason in " ".join(one.lines())
        assert difference(one, done.estimates) == ""


def test_the_shares_of_the_rows_add_up_to_the_log_likelihood(told, done) -> None:
    fits = done.fits.set_index(["patient_id", "assay", "model"])
    for patient, assay, model in (("001", "qpcr", "cytokine_window"), ("002", "flow", "decay")):
        one = told(patient, "delta", assay=assay, model=model)
        entered = [r for r in one.rows if r.entered]
        fit = fits.loc[(patient, assay, model)]
        assert sum(r.log_likelihood for r in entered) == pytest.approx(fit["log_likelihood"], abs=1e-9)
        assert len(entered) == fit["n_obs"]
        assert sum(r.entered == "interval" for r in entered) == fit["n_blq"]
        assert all(r.why and math.isnan(r.log_likelihood) for r in one.rows if not r.entered)


def test_every_result_of_the_patient_is_listed_and_residuals_follow_from_level_curve_and_sigma(
    folder, told, done
) -> None:
    observed = Results(folder).table("observations")
    own = observed[(observed["patient_id"] == "001") & (observed["assay"] == "qpcr")]
    one = told("001", "rho")
    assert sorted(r.observation_id for r in one.rows) == sorted(own["observation_id"])
    sigma = float(told("001", "sigma").estimate)
    by_id = own.set_index("observation_id")
    checked = 0
    for r in one.rows:
        row = by_id.loc[r.observation_id]
        if r.entered == "density":
            spread = math.sqrt(sigma**2 + 1 / row["n_molecules"])
            assert r.residual == pytest.approx((math.log(row["level"]) - math.log(r.fitted)) / spread, rel=1e-9)
            density = -math.log(spread) - 0.5 * math.log(2 * math.pi) - r.residual**2 / 2
            assert r.log_likelihood == pytest.approx(density, abs=1e-9)
            checked += 1
        elif r.entered:
            assert math.isnan(r.residual) and "(M3)" in r.why
    assert checked == 18
    early = next(r for r in one.rows if r.time < 0)
    assert early.why == "before the first infusion: holds no cells yet"
    refused = next(r for r in one.rows if "replicate CV" in r.why)
    assert not refused.entered and refused.sources
    assert all("data/raw/qpcr/" in " ".join(r.sources) for r in one.rows)


def test_calendar_search_interval_and_models_stand_in_words(told, done) -> None:
    text = " ".join(" ".join(told("001", "delta").lines()).split())
    row = done.estimates.set_index(["patient_id", "assay", "model", "parameter"]).loc[
        ("001", "qpcr", "cytokine_window", "delta")
    ]
    assert "infusion 2: d 3.009, 0.97 of the reference dose (1.94e+09 of 2e+09)" in text
    assert re.search(r"IL-2: d [\d., ]+; supports growth for 1.5 d after each dose", text)
    assert f"delta: began at {row['start']:.4g}, limits 0.0001 to 10, ended at {row['estimate']:.6g}" in text
    assert f"standard error {row['std_error']:.4g}" in text
    assert "profile likelihood: every value at which 2 (ln L at the maximum - ln L) is at most" in text
    assert "the data determine it" in text and "starts and restarts ended within 0.01 of the best ln L" in text
    fits = done.fits[(done.fits["patient_id"] == "001") & (done.fits["assay"] == "qpcr")]
    for fit in fits.itertuples():
        assert re.search(rf"{fit.model}: .*AICc {fit.aicc:.2f}", text)
    assert "expansion_contraction: no delta" in text
    assert "not averaged over the models" in text


def test_a_parameter_that_the_data_do_not_determine_says_so_and_on_which_side(told) -> None:
    text = " ".join(" ".join(told("002", "rho").lines()).split())
    assert "the data do not determine it: interval open below" in text
    assert "the interval is open below: no value there is contradicted by the data" in text
    assert "no expansion phase identifiable" in text


def test_the_average_over_the_models_is_that_of_the_table(told, done) -> None:
    row = done.averages.set_index(["patient_id", "assay", "parameter"]).loc[("002", "qpcr", "curve_cmax")]
    text = " ".join(" ".join(told("002", "curve_cmax").lines()).split())
    assert f"average over {row['n_models']} models: {row['estimate']:.6g} copies/ug" in text
    assert f"standard error {row['std_error']:.4g} (unconditional)" in text


def test_a_fixed_constant_and_a_patient_without_a_fit_are_explained_too(told) -> None:
    fixed = told("001", "width")
    assert (fixed.kind, fixed.estimate) == ("fixed", 1.5) and "fixed by the configuration" in " ".join(fixed.told)
    never = told("008", "delta")
    assert never.kind == "not made" and math.isnan(never.estimate)
    assert never.reason == "not fitted: none of 18 samples is quantified"
    assert all(r.entered == "interval" for r in never.rows if r.time > 0) and not never.steps


def test_a_model_that_is_no_candidate_is_fitted_when_asked_for(told) -> None:
    other = told("001", "half_life_beta", model="biexponential")
    assert other.model == "biexponential" and evaluated(other) == pytest.approx(other.estimate)


def test_the_model_explained_is_the_default_where_it_has_the_parameter(choices) -> None:
    known = names(choices.models)
    assert known["delta"][0] == choices.models.default
    assert known["cmax"] == ("expansion_contraction",)
    assert is_known("curve_cmax_infusion_7", choices.models) and not is_known("curve_cmax_infusion_x", choices.models)


def test_own_observations_are_explained_under_every_rule_for_levels_below_the_lloq() -> None:
    own = pd.DataFrame(
        {
            "patient_id": "01",
            "time_actual": [1.0, 2, 3, 5, 8, 11, 14],
            "level": [810.0, 640, 540, 350, 190, np.nan, np.nan],
            "status": ["quantified"] * 5 + ["blq"] * 2,
            "lloq": 50.0,
        }
    )
    choices = Models(default="decay", candidates=("decay",))
    said = {}
    for rule in ("M1", "M3", "M5", "M6", "M7"):
        one = explain(own, None, None, None, choices, Blq(models=rule), "01", "delta")
        found = fitting.analyse(own, None, None, choices, Blq(models=rule)).estimates.set_index("parameter")
        assert one.estimate == found.loc["delta", "estimate"]
        said[rule] = [(r.entered, r.why) for r in one.rows[-2:]]
    assert said["M1"] == [("", "below its LLOQ, dropped by M1")] * 2
    assert said["M3"] == [("interval", "0 to 50 (M3)")] * 2
    assert said["M5"] == [("density", "as 25 (M5)")] * 2
    assert said["M6"] == [("density", "as 25 (M6)"), ("", "below its LLOQ, dropped by M6")]
    assert said["M7"] == [("interval", "0 to 50 (M7)")] * 2


def test_the_command_takes_parameters_of_both_kinds_and_says_where_a_name_is_both(folder, capsys) -> None:
    here = ["--results", str(folder)]
    assert cli.main(["explain", "001", "delta", *here]) == DONE
    said = capsys.readouterr().out
    written = Results(folder).table("estimates").set_index(["patient_id", "assay", "model", "parameter"])["estimate"]
    value = written[("001", "qpcr", "cytokine_window", "delta")]
    assert f"delta (fitted) = {value:.10g} 1/d" in said and "estimates.csv holds" not in said
    assert "data/raw/qpcr/NEUK203-13_Q01.txt" in said and str(folder) not in said
    assert cli.main(["explain", "001", "cmax", *here]) == DONE
    said = capsys.readouterr().out
    assert "cmax (CMAX)" in said and "--model expansion_contraction explains that one" in said
    assert cli.main(["explain", "001", "cmax", "--model", "expansion_contraction", *here]) == DONE
    assert "cmax (fitted)" in capsys.readouterr().out
    for words, problem in (
        (["001", "dleta"], "did you mean delta?"),
        (["01", "delta"], "did you mean 001?"),
        (["001", "rho", "--model", "decay"], "expected one of"),
        (["001", "delta", "--model", "decoy"], "did you mean decay?"),
        (["001", "delta", "--assay", "fow"], "did you mean flow?"),
        (["001", "delta", "--model", "decay", "--window", "overall"], "leave one of them out"),
    ):
        assert cli.main(["explain", *words, *here]) == BAD_INPUT
        assert problem in capsys.readouterr().err


def test_the_command_says_when_estimates_csv_was_made_otherwise(folder, tmp_path, capsys) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path.relative_to(folder)).write_bytes(path.read_bytes())
    table = Results(folder).table("estimates").copy()
    table.loc[table["parameter"] == "delta", "estimate"] *= 1.01
    write_table(table, tmp_path / "estimates.csv", ESTIMATES)
    assert cli.main(["explain", "001", "delta", "--results", str(tmp_path)]) == DONE
    assert "estimates.csv holds" in capsys.readouterr().out


def test_an_unknown_parameter_of_a_python_call_is_refused_with_the_nearest() -> None:
    own = pd.DataFrame(
        {"patient_id": ["01"], "time_actual": [1.0], "level": [5.0], "status": "quantified", "lloq": 1.0}
    )
    with pytest.raises(InputError, match="did you mean delta"):
        explain(own, None, None, None, Models(), Blq(), "01", "detla")
