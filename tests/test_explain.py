"""How a number was made: the arithmetic that is shown comes to the value that is written, for every parameter."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli, ingest, nca, settings
from nkinetics.columns import NCA, NCA_POINTS
from nkinetics.errors import BAD_INPUT, DONE, InputError
from nkinetics.explaining import wells
from nkinetics.nca import PARAMETERS
from nkinetics.nca.arithmetic import ARITHMETIC, Row, candidates
from nkinetics.nca.explain import Analysis, Explanation, analysis, difference, explain, located
from nkinetics.nca.textplot import semilog
from nkinetics.results import Results
from nkinetics.settings import Blq, LambdaZ, Nca
from nkinetics.store import read_table, write_table, write_text

FUNCTIONS = {"exp": math.exp, "ln": math.log, "sqrt": math.sqrt, "max": max, "min": min}


def evaluated(told: Explanation) -> float:
    """The value of an explanation by its printed formulas alone; every step is checked on the way."""
    known: dict[str, float] = {}
    for step in told.steps:
        if not step.symbol:
            assert not step.formula
            continue
        assert re.fullmatch(r"[A-Za-z_]\w*", step.symbol)
        formula = step.formula.replace("^", "**").replace("max(", "max(-1e99, ").replace("min(", "min(1e99, ")
        value = eval(formula, {"__builtins__": {}}, {**FUNCTIONS, **known})
        assert value == pytest.approx(step.value, rel=1e-7, abs=1e-9), (told.parameter, step)
        # Later steps use what this one came to as it is printed.
        known[step.symbol] = value
    return known[told.parameter]


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the bundled study, as far as a number of nca.csv goes back."""
    choices = settings.load(root / "config/config.yaml")
    where = tmp_path_factory.mktemp("explain")
    ingest.write(ingest.run(settings.located(choices, root), root), where)
    write_text(where / "run_config.yaml", settings.as_yaml(choices))
    results = Results(where)
    table, points = nca.analyse_with_points(
        *(results.table(n) for n in ("observations", "infusions")), choices.nca, choices.blq, results.table("patients")
    )
    write_table(table, where / "nca.csv", NCA)
    write_table(points, where / "nca_points.csv", NCA_POINTS)
    return where


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results(folder)


@pytest.fixture(scope="module")
def made(results: Results, folder: Path) -> Analysis:
    choices = settings.load(folder / "run_config.yaml")
    frames = [results.table(n) for n in ("observations", "infusions")]
    return analysis(*frames, choices.nca, choices.blq, results.table("patients"))


@pytest.mark.parametrize("name", [p.name for p in PARAMETERS])
def test_the_arithmetic_shown_comes_to_the_value_written(name: str, made: Analysis, results: Results) -> None:
    rows = results.table("nca")
    rows = rows[rows["parameter"] == name]
    assert len(rows) > 100
    filled = 0
    for row in rows.itertuples():
        told = explain(made, row.patient_id, name, row.assay, row.specimen, row.window)
        assert difference(told, rows) == ""
        assert (told.code, told.unit, told.reason) == (row.pptestcd, row.unit, row.reason)
        if math.isnan(row.value):
            assert math.isnan(told.value) and not any(s.symbol == name for s in told.steps)
            continue
        filled += 1
        assert f"{told.value:.10g}" == f"{row.value:.10g}"
        assert [s.symbol for s in told.steps if s.symbol][-1] == name
        assert evaluated(told) == pytest.approx(row.value, rel=1e-7, abs=1e-12)
    assert filled > 5 or name not in ARITHMETIC, "the bundled study has the parameter"


def test_every_parameter_of_the_glossary_has_its_own_arithmetic() -> None:
    # A parameter added later is explained by its definition and inputs until it has one.
    assert set(ARITHMETIC) <= {p.name for p in PARAMETERS}
    assert all((p.function.__doc__ or "").strip() for p in PARAMETERS)


def test_a_parameter_without_its_own_arithmetic_is_explained_by_definition_inputs_and_value(
    made: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nkinetics.nca.arithmetic.ARITHMETIC", {})
    told = explain(made, "001", "aumc_last")
    assert told.definition == "Area under time x level from the start of the window to Tlast."
    assert [s.symbol for s in told.steps] == ["aumc_last"] and evaluated(told) == pytest.approx(told.value)
    assert sum(p.used for p in told.points) > 10


def test_samples_marked_as_used_are_those_of_nca_points(made: Analysis, results: Results) -> None:
    points = results.table("nca_points")
    for use, name in (("auc", "auc_last"), ("lambda_z", "lambda_z")):
        mine = points[points["used_in"] == use]
        for key, own in mine.groupby(["patient_id", "assay", "specimen", "window"]):
            patient, assay, specimen, window = map(str, key)
            told = explain(made, patient, name, assay, specimen, window)
            assert {p.observation_id for p in told.points if p.used} == set(own["observation_id"]), key


def test_every_result_of_the_patient_is_listed_and_unused_ones_say_why(made: Analysis, results: Results) -> None:
    observed = results.table("observations")
    own = observed[(observed["patient_id"] == "006") & (observed["assay"] == "qpcr")]
    for name in ("auc_last", "half_life", "cmax"):
        told = explain(made, "006", name, "qpcr")
        assert sorted(p.observation_id for p in told.points) == sorted(own["observation_id"])
        assert all(p.why for p in told.points if not p.used), name
    refused = [p for p in told.points if "run not accepted" in p.why]
    assert refused and not any(p.used or p.analysed for p in refused)


def test_wells_behind_a_sample_stand_with_file_row_well_and_the_exported_value(
    made: Analysis, results: Results
) -> None:
    behind = wells(results.table("observation_sources"), results.table("ingest"))
    told = explain(made, "001", "cmax", sources=behind)
    peak = next(p for p in told.points if "largest" in p.why)
    rows = results.table("ingest")
    mine = rows[(rows["sample_id"] == peak.sample_id) & (rows["role"] == "unknown")]
    mine = mine[mine["source_file"].str.contains("Q01.txt")]
    assert len(mine) == 3 and len(peak.sources) == 1
    for row in mine.itertuples():
        assert row.source_file in peak.sources[0]
        assert f"row {row.source_row} well {row.well} CAR {row.value_raw}" in peak.sources[0]


def test_the_window_chosen_for_the_slope_is_the_one_that_is_called_chosen(made: Analysis) -> None:
    for number, curves in enumerate(made.curves):
        for i in np.flatnonzero(curves.terminal.n_points > 0):
            listed = candidates(Row(curves, int(i)))
            best = max(x.adjusted for x in listed if x.slope < 0)
            chosen = next(x for x in listed if x.slope < 0 and x.adjusted >= best - 1e-4)
            assert chosen.points == curves.terminal.n_points[i], (number, i)
            assert -chosen.slope == pytest.approx(float(curves.terminal.lambda_z[i]), rel=1e-9)
            assert chosen.adjusted == pytest.approx(float(curves.terminal.r_squared_adj[i]), abs=1e-9)


def profile(time: list[float], level: list[float], lloq: float = 0.5) -> pd.DataFrame:
    """Observations of one patient; a level of 0 is BLQ."""
    status = ["quantified" if c > 0 else "blq" for c in level]
    values = [c if c > 0 else math.nan for c in level]
    return pd.DataFrame({"patient_id": "01", "time_actual": time, "level": values, "status": status, "lloq": lloq})


OTHER_RULES = {
    "linear": (Nca(auc_rule="linear"), Blq()),
    "linear_log": (Nca(auc_rule="linear_log", windows=((3.0, 12.0),)), Blq(last="zero")),
    "half_lloq": (Nca(windows=((2.5, 9.0),)), Blq(first="half_lloq", middle="half_lloq", last="half_lloq")),
    "first": (Nca(start="first", windows=((0.0, 40.0),)), Blq(first="drop", last="lloq")),
    "back_extrapolate": (Nca(start="back_extrapolate"), Blq()),
    "missing": (Nca(start="missing"), Blq(first="drop")),
    "tmax": (Nca(lambda_z=LambdaZ(include_tmax=True, extrapolation_pct_max=90.0), windows=((0.0, 15.0),)), Blq()),
    "two": (Nca(consecutive_blq=2), Blq(last="zero")),
}
PROFILES = {
    "rise_and_fall": ([0.0, 1, 2, 4, 6, 8, 12, 16], [0, 3, 8, 4, 0, 2, 0.9, 0]),
    "late_start": ([1.0, 2, 4, 6, 8, 11], [10, 8, 4, 2.5, 1.2, 0.6]),
    "plateau": ([0.0, 2, 4, 6, 8, 10, 14], [0, 5, 5, 5, 2, 1, 0]),
    "one_level": ([0.0, 2, 4], [0, 5, 0]),
    "none": ([0.0, 2, 4], [0, 0, 0]),
}


@pytest.mark.parametrize("shape", PROFILES)
@pytest.mark.parametrize("rule", OTHER_RULES)
def test_under_any_rule_every_parameter_is_explained_to_its_value(rule: str, shape: str) -> None:
    choices, blq = OTHER_RULES[rule]
    frame = profile(*PROFILES[shape])
    infusions = pd.DataFrame({"patient_id": "01", "infusion": [1, 2], "time": [0.0, 4.1], "given": 1e9})
    table = nca.analyse(frame, infusions, choices, blq)
    opened = analysis(frame, infusions, choices, blq)
    assert len(table)
    for row in table.itertuples():
        told = explain(opened, "01", row.parameter, window=row.window)
        assert told.reason == row.reason
        assert (told.value == row.value) or (math.isnan(told.value) and math.isnan(row.value))
        if not math.isnan(row.value):
            assert evaluated(told) == pytest.approx(row.value, rel=1e-7, abs=1e-9)
        assert all("nan" not in line for line in told.lines())


def test_a_window_that_ends_between_samples_shows_the_interpolated_level() -> None:
    opened = analysis(profile([0.0, 1, 2, 4, 8], [0, 8, 4, 2, 1], 0.1), settings=Nca(windows=((0.0, 6.0),)))
    told = explain(opened, "01", "auc_int")
    end = next(s for s in told.steps if s.symbol == "C_end")
    # Between 2 at d 4 and 1 at d 8 the level falls by half; half-way it is 2 / sqrt 2.
    assert end.value == pytest.approx(math.sqrt(2)) and end.formula == "2 * exp(-ln(2 / 1) * (6 - 4) / (8 - 4))"
    assert any("interpolated" in s.text for s in told.steps)


def test_an_extrapolated_window_area_shows_the_slope_and_the_share() -> None:
    frame = profile([0.0, 1, 2, 3, 4, 5, 6], [0, 64, 32, 16, 8, 4, 2], 0.1)
    told = explain(analysis(frame, settings=Nca(windows=((0.0, 8.0),))), "01", "auc_int_extrap_pct")
    beyond = next(s for s in told.steps if s.symbol == "beyond")
    # 2/ln 2 (1 - 2^-2)
    assert beyond.value == pytest.approx(2 / math.log(2) * 0.75)
    assert evaluated(told) == pytest.approx(told.value)


def test_what_is_left_open_is_the_usual_assay_and_window(made: Analysis) -> None:
    assert located(made, "001", "auc_last") == ("001", "qpcr", "blood", "overall", "auc_last")
    assert located(made, "001", "auc_int")[3] == "D0-28"
    assert located(made, "001", "trough")[3] == "infusion_1"
    assert located(made, "001", "CMAX", assay="flow")[1::3] == ("flow", "cmax")


def test_unknown_names_are_refused_at_once_with_the_nearest(made: Analysis) -> None:
    with pytest.raises(InputError) as caught:
        explain(made, "0001", "auc_lst")
    assert {(p.column, p.mend) for p in caught.value.problems} == {
        ("PATIENT", "did you mean 001?"),
        ("PARAMETER", "did you mean auc_last?"),
    }
    for choice, near in (({"assay": "flw"}, "flow"), ({"window": "D0-29"}, "D0-28"), ({"specimen": "blod"}, "blood")):
        with pytest.raises(InputError, match=f"did you mean {near}"):
            explain(made, "001", "cmax", **choice)


def test_the_command_prints_it_and_answers_unknown_names_with_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "001", "auc_last", "--results", str(folder)]) == DONE
    said = capsys.readouterr().out
    value = Results(folder).table("nca").set_index(["patient_id", "assay", "window", "parameter"])["value"]
    assert f"auc_last (AUCLST) = {value['001', 'qpcr', 'overall', 'auc_last']:.10g} d*copies/ug" in said
    for part in ("Samples", "data/raw/qpcr/NEUK203-13_Q01.txt", "well", "Rules", "Arithmetic", "A1 + A2", "●"):
        assert part in said
    assert "nca.csv holds" not in said and str(folder) not in said
    assert cli.main(["explain", "01", "auc_lst", "--results", str(folder)]) == BAD_INPUT
    problems = capsys.readouterr().err
    assert "did you mean 001?" in problems and "did you mean auc_last?" in problems


def test_the_command_says_when_nca_csv_was_made_otherwise(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = settings.load(folder / "run_config.yaml")
    other = other.model_copy(update={"nca": other.nca.model_copy(update={"auc_rule": "linear"})})
    write_text(tmp_path / "other.yaml", settings.as_yaml(other))
    command = ["explain", "001", "auc_last", "--results", str(folder), "--config", str(tmp_path / "other.yaml")]
    assert cli.main(command) == DONE
    assert "nca.csv holds" in capsys.readouterr().out


def test_without_results_the_command_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "001", "cmax", "--results", str(tmp_path)]) == BAD_INPUT
    assert "run the workflow first" in capsys.readouterr().err


def test_order_of_rows_does_not_change_a_word(made: Analysis, results: Results, folder: Path) -> None:
    choices = settings.load(folder / "run_config.yaml")
    shuffled = results.table("observations").sample(frac=1, random_state=3, ignore_index=True)
    again = analysis(shuffled, results.table("infusions"), choices.nca, choices.blq, results.table("patients"))
    for patient, name in (("001", "half_life"), ("006", "auc_int"), ("008", "t_blq")):
        assert explain(again, patient, name).lines() == explain(made, patient, name).lines()


def test_the_plot_has_levels_limits_and_ends_and_is_left_out_where_it_would_not_help() -> None:
    lines = semilog([(0, 1.0, 1, True), (7, 1000.0, 1, True), (14, 30.0, 1, False), (28, math.nan, 1, False)], 40, 7)
    assert len(lines) == 9 and lines[0].startswith("    1000 |") and lines[6].startswith("    1.00 |")
    assert sum(line.count("●") for line in lines[:7]) == 2 and sum(line.count("○") for line in lines[:7]) == 1
    assert lines[6].endswith("v")
    assert semilog([(0, 1.0, 1, True), (7, 1000.0, 1, True)]) == []
    assert semilog([(0, 5.0, 1, True)] * 3) == []


def test_the_results_of_the_study_are_read_back_as_written(folder: Path) -> None:
    assert read_table(folder / "nca.csv", NCA)["value"].notna().sum() > 1000
