"""What differs between two data cuts: each kind of change is found, alone, and told; equal cuts differ in nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from nkinetics import cli, report, settings
from nkinetics.columns import CHANGES, STAGE_TABLES
from nkinetics.errors import BAD_INPUT, DONE
from nkinetics.provenance import changes
from nkinetics.report import html
from nkinetics.report.since import since
from nkinetics.results import STUDY_TABLES, Context, Results
from nkinetics.store import read_table, write_table, write_text


@pytest.fixture
def old(results_small: Path, context_small: Context, tmp_path: Path) -> Path:
    """The small study as an earlier cut."""
    folder = tmp_path / "old"
    shutil.copytree(results_small, folder)
    write_text(folder / "run_config.yaml", settings.as_yaml(context_small.settings))
    return folder


@pytest.fixture
def new(old: Path, tmp_path: Path) -> Path:
    """The same again, to change."""
    shutil.copytree(old, tmp_path / "new")
    return tmp_path / "new"


def table(folder: Path, name: str) -> pd.DataFrame:
    return Results(folder).table(name)


def edit(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    schema = STUDY_TABLES.get(name) or STAGE_TABLES[name]
    write_table(change(table(folder, name).copy()), Results(folder).path(name), schema)


def with_cell(which: dict[str, str], column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """One cell of the one row that `which` names."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        hit = pd.Series(True, index=frame.index)
        for name, wanted in which.items():
            hit &= frame[name] == wanted
        assert hit.sum() == 1
        frame.loc[hit, column] = value
        return frame

    return change


def without_patient(folder: Path, patient: str) -> None:
    for name in ("patients", "infusions", "cytokines", "events", "observations", "nca", "fits", "estimates"):
        edit(folder, name, lambda frame: frame[frame["patient_id"] != patient])


def compared(old: Path, new: Path) -> pd.DataFrame:
    return changes.changes(*changes.read_cuts(old, new))


def rows(found: pd.DataFrame, part: str) -> list[tuple[str, str, str, str, str]]:
    own = found[found["part"] == part]
    return list(own[["patient_id", "item", "old", "new", "change"]].itertuples(index=False, name=None))


def test_equal_cuts_differ_in_nothing(old: Path, new: Path) -> None:
    found = compared(old, new)
    assert rows(found, "study") == [("", "data_cut", "2026-03-01", "2026-03-01", "same")]
    assert len(found) == 1
    assert "Nothing else differs." in changes.told(found, "a", "b")


def test_what_is_added_one_way_is_removed_the_other_way(old: Path, new: Path) -> None:
    without_patient(old, "004")
    there, back = compared(old, new), compared(new, old)
    turned = back.assign(old=back["new"], new=back["old"])
    turned["change"] = turned["change"].replace({"added": "removed", "removed": "added"})
    turned["change"] = turned["change"].replace({"available": "missing", "missing": "available"})
    key = ["part", "patient_id", "assay", "specimen", "item", "old", "new", "change"]
    assert set(there[key].itertuples(index=False)) == set(turned[key].itertuples(index=False))
    assert len(there) > 20


def test_a_new_patient_is_said_first_and_his_numbers_are_new_not_available(old: Path, new: Path) -> None:
    without_patient(old, "004")
    found = compared(old, new)
    assert rows(found, "patients") == [("004", "dose_level", "", "DL2", "added")]
    his = found[found["patient_id"] == "004"]
    assert set(his["change"]) == {"added"} and {"samples", "parameters", "models"} <= set(his["part"])
    told = changes.told(found, "a", "b").splitlines()
    assert told[2] == "Patients new: 004" and told[3] == "Patients no longer there: none"


def test_a_patient_who_disappeared_is_said(old: Path, new: Path) -> None:
    without_patient(new, "004")
    told = changes.told(compared(old, new), "a", "b").splitlines()
    assert told[2:4] == ["Patients new: none", "Patients no longer there: 004"]


def test_a_changed_fact_of_a_patient_is_named(old: Path, new: Path) -> None:
    edit(new, "patients", with_cell({"patient_id": "003"}, "best_response", "PD"))
    assert rows(compared(old, new), "patients") == [("003", "best_response", "SD", "PD", "changed")]


def test_a_changed_level_is_one_row_with_its_relative_change(old: Path, new: Path) -> None:
    edit(new, "observations", with_cell({"assay": "qpcr", "sample_id": "001-D8"}, "level", 125.0))
    found = compared(old, new)
    (row,) = found[found["part"] == "samples"].to_dict("records")
    assert (row["item"], row["old"], row["new"], row["unit"]) == ("001-D8 level", "100", "125", "copies/ug")
    assert row["relative_change"] == pytest.approx(0.25)


def test_last_digits_are_no_finding(old: Path, new: Path) -> None:
    edit(new, "observations", with_cell({"assay": "qpcr", "sample_id": "001-D8"}, "level", 100.00001))
    assert len(compared(old, new)) == 1


def test_a_result_that_is_no_longer_analysed_says_why_and_stands_among_the_exclusions(old: Path, new: Path) -> None:
    of = {"assay": "qpcr", "sample_id": "001-D8"}
    edit(new, "observations", with_cell(of, "reportable", False))
    edit(new, "observations", with_cell(of, "exclusion_reason", "after_subsequent_therapy"))
    found = compared(old, new)
    (row,) = found[found["part"] == "samples"].to_dict("records")
    assert (row["item"], row["old"], row["new"]) == ("001-D8 reportable", "true", "false")
    assert row["note"] == "after_subsequent_therapy"
    (row,) = found[found["part"] == "exclusions"].to_dict("records")
    assert row["item"] == "result 001-D8, run plate_1" and row["change"] == "added"
    assert row["note"] == "decided by: rule (study.keep_after_therapy)"


def test_a_sample_measured_on_another_run_is_the_same_sample_and_a_second_result_of_it_a_new_one(
    old: Path, new: Path
) -> None:
    def moved(frame: pd.DataFrame) -> pd.DataFrame:
        hit = (frame["assay"] == "qpcr") & (frame["sample_id"] == "001-D8")
        frame.loc[hit, ["observation_id", "run_id"]] = ["feedfeedfeed", "plate_9"]
        return frame

    edit(new, "observations", moved)
    found = compared(old, new)
    assert rows(found, "samples") == [("001", "001-D8 run_id", "plate_1", "plate_9", "changed")]

    def second(frame: pd.DataFrame) -> pd.DataFrame:
        row = frame[frame["observation_id"] == "feedfeedfeed"].assign(observation_id="beefbeefbeef", run_id="plate_10")
        return pd.concat([frame, row])

    edit(new, "observations", second)
    found = compared(old, new)
    own = found[found["part"] == "samples"]
    assert sorted(own["change"]) == ["added", "added", "removed"], "which one stands for the old one cannot be told"
    assert own["note"].str.startswith("another result of a sample, run plate_").all()


def test_a_number_that_became_available_says_why_it_was_missing_and_vice_versa(old: Path, new: Path) -> None:
    of = {"patient_id": "001", "assay": "flow", "window": "D0-28", "parameter": "auc_int"}
    edit(new, "nca", with_cell(of, "value", 77.0))
    found = compared(old, new)
    (row,) = found[found["part"] == "parameters"].to_dict("records")
    assert (row["item"], row["old"], row["new"], row["change"]) == ("auc_int D0-28", "", "77", "available")
    assert row["note"] == "too few quantified levels"
    assert "1 now available" in changes.told(found, "a", "b")
    (row,) = compared(new, old).query("part == 'parameters'").to_dict("records")
    assert (row["change"], row["note"]) == ("missing", "too few quantified levels")


def test_a_changed_estimate_a_fit_that_no_longer_converges_and_a_population_value_are_named(
    old: Path, new: Path
) -> None:
    estimate = table(old, "estimates").query("kind == 'fitted'").iloc[0]
    of = {name: estimate[name] for name in ("patient_id", "assay", "model", "parameter")}
    edit(new, "estimates", with_cell(of, "estimate", estimate["estimate"] * 2))
    fit = table(old, "fits").query("converged").iloc[0]
    edit(new, "fits", with_cell({n: fit[n] for n in ("patient_id", "assay", "model")}, "converged", False))
    typical = table(old, "population").query("kind == 'typical'").iloc[0]
    key = {n: typical[n] for n in ("assay", "model", "method", "kind", "parameter")}
    edit(new, "population", with_cell(key, "estimate", typical["estimate"] * 1.5))
    found = compared(old, new)
    models = {(p, item): change for p, item, _, _, change in rows(found, "models")}
    assert models == {
        (of["patient_id"], f"{of['model']} {of['parameter']}"): "changed",
        (fit["patient_id"], f"{fit['model']} converged"): "changed",
    }
    (row,) = found[found["part"] == "population"].to_dict("records")
    assert row["item"] == f"{typical['model']} {typical['method']} typical {typical['parameter']}"
    assert row["relative_change"] == pytest.approx(0.5)


def test_a_changed_verdict_median_and_structure_are_conclusions(old: Path, new: Path) -> None:
    given = table(old, "dose_proportionality").query("verdict != ''").iloc[0]
    key = {n: given[n] for n in ("assay", "specimen", "window", "parameter", "analysis", "dose_level")}
    edit(new, "dose_proportionality", with_cell(key, "verdict", "dose proportional"))

    def later(frame: pd.DataFrame) -> pd.DataFrame:
        own = (frame["assay"] == "qpcr") & (frame["limit"] == "lloq") & (frame["dose_level"] == "DL2")
        frame.loc[own, "median"] = float("nan")
        return frame

    edit(new, "persistence", later)

    def other(frame: pd.DataFrame) -> pd.DataFrame:
        first = frame["primary"].fillna(False).astype(bool)
        frame.loc[first, "chosen"] = frame.loc[first, "model"] == "biexponential"
        return frame

    edit(new, "population_comparison", other)
    found = compared(old, new)
    told = {item: (a, b, change) for _, item, a, b, change in rows(found, "conclusions")}
    verdict = f"dose proportionality {given['analysis']} {given['parameter']} {given['window']} {given['dose_level']}"
    assert told[verdict] == (given["verdict"], "dose proportional", "changed")
    assert told["median persistence lloq DL2"] == ("13.9", "", "missing")
    assert told["chosen structure"] == ("decay", "biexponential", "changed")
    assert len(told) == 3
    assert found.query("item == 'median persistence lloq DL2'")["note"].iloc[0] == "median not reached"


def test_a_run_that_is_refused_now_is_named_with_its_reason(old: Path, new: Path) -> None:
    edit(new, "runs", with_cell({"run_id": "plate_2"}, "accepted", False))
    edit(new, "runs", with_cell({"run_id": "plate_2"}, "reason", "NTC amplified"))
    found = compared(old, new)
    assert rows(found, "runs") == [("", "plate_2 CAR", "accepted", "refused: NTC amplified", "changed")]
    assert [r[1] for r in rows(found, "exclusions")] == ["run plate_2 CAR"]


def test_a_changed_key_of_the_configuration_is_named_and_where_the_old_cut_stands_is_none(
    old: Path, new: Path, context_small: Context
) -> None:
    now = context_small.settings
    now = now.model_copy(
        update={
            "blq": now.blq.model_copy(update={"middle": "zero"}),
            "report": now.report.model_copy(update={"previous": "cuts/old"}),
        }
    )
    write_text(new / "run_config.yaml", settings.as_yaml(now))
    assert rows(compared(old, new), "settings") == [("", "blq.middle", '"drop"', '"zero"', "changed")]


def test_another_version_of_a_library_is_told_where_both_manifests_name_theirs(old: Path, new: Path) -> None:
    one, two = changes.read_cuts(old, new)
    assert rows(changes.changes(one, two), "program") == []
    from dataclasses import replace

    found = changes.changes(replace(one, program={"numpy": "2.0"}), replace(two, program={"numpy": "2.1"}))
    assert rows(found, "program") == [("", "numpy", "2.0", "2.1", "changed")]


def test_the_table_does_not_depend_on_the_order_of_rows(old: Path, new: Path, tmp_path: Path) -> None:
    without_patient(old, "004")
    one, two = changes.read_cuts(old, new)
    for name in (*STUDY_TABLES, *STAGE_TABLES):
        two.results._cache[name] = two.results.table(name).iloc[::-1]
    write_table(changes.changes(one, two), tmp_path / "turned.csv", CHANGES)
    write_table(compared(old, new), tmp_path / "plain.csv", CHANGES)
    assert (tmp_path / "turned.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_largest_changes_come_first_with_numbers_that_came_or_went_before_them(old: Path, new: Path) -> None:
    for patient, value in (("001", 200.0), ("003", 101.0), ("005", float("nan"))):
        of = {"patient_id": patient, "assay": "qpcr", "window": "overall", "parameter": "cmax"}
        edit(new, "nca", with_cell(of, "value", value))
    found = changes.largest(compared(old, new), ["cmax overall"], "qpcr", "blood", 2)
    assert list(found["patient_id"]) == ["005", "001"]


# ------------------------------------------------------------------------------------------------------------- command


def test_the_command_tells_writes_and_prints_json(
    old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(new, "observations", with_cell({"assay": "qpcr", "sample_id": "001-D8"}, "level", 125.0))
    assert cli.main(["diff", str(old), str(new)]) == DONE
    assert "001 qpcr 001-D8 level: 100 -> 125 copies/ug (+25 %) [changed]" in capsys.readouterr().out
    path = tmp_path / "changes.csv"
    assert cli.main(["diff", str(old), str(new), "--output", str(path), "--json"]) == DONE
    printed, written = json.loads(capsys.readouterr().out), read_table(path, CHANGES)
    assert len(printed) == len(written) == 2
    assert printed[0]["item"] == "001-D8 level" and printed[0]["relative_change"] == pytest.approx(0.25)


def test_an_answer_of_the_first_screen_that_differs_is_a_conclusion(
    old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = {"patient_id": "001", "assay": "qpcr", "window": "overall", "parameter": "cmax"}
    edit(new, "nca", with_cell(of, "value", 500.0))
    assert cli.main(["diff", str(old), str(new), "--output", str(tmp_path / "c.csv")]) == DONE
    found = rows(read_table(tmp_path / "c.csv", CHANGES), "conclusions")
    ((_, item, before, after, change),) = found
    assert (item, change) == ("answer DL1", "changed")
    assert "Cmax 400" in before and "Cmax 500" in after


def test_a_folder_without_results_and_a_lost_one_are_both_named(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["diff", str(tmp_path / "gone"), str(tmp_path / "empty")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "gone: found no such folder" in said and "empty/nca.csv: found no such file" in said


def test_results_of_another_study_are_refused(
    old: Path, new: Path, context_small: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    study = context_small.settings.study.model_copy(update={"id": "OTHER"})
    write_text(old / "run_config.yaml", settings.as_yaml(context_small.settings.model_copy(update={"study": study})))
    assert cli.main(["diff", str(old), str(new)]) == BAD_INPUT
    assert "found study OTHER; expected study SMALL" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- report


def named(context: Context, language: str = "en") -> Context:
    shown = context.settings.report.model_copy(update={"previous": "cuts/old", "language": language})
    return Context(context.settings.model_copy(update={"report": shown}), context.version)


def test_without_an_earlier_cut_the_report_says_so_and_reads_no_table_left_behind(
    old: Path, new: Path, context_small: Context
) -> None:
    without_patient(old, "004")
    write_table(compared(old, new), new / "changes.csv", CHANGES)
    told = since(Results(new), context_small, html.strings("en"))
    assert (told.line, told.rows) == ("No earlier data cut is named to compare with.", [])
    assert "changes.csv" not in report.build(new, context_small.settings, "0.1.0")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_tells_new_patients_results_conclusions_and_the_largest_changes_of_exposure(
    old: Path, new: Path, context_small: Context, language: str
) -> None:
    without_patient(old, "004")
    of = {"patient_id": "001", "assay": "qpcr", "window": "overall", "parameter": "cmax"}
    edit(old, "nca", with_cell(of, "value", 320.0))
    given = table(old, "dose_proportionality").query("verdict != '' and assay == 'qpcr' and parameter == 'cmax'")
    key = ["assay", "specimen", "window", "parameter", "analysis", "dose_level"]
    verdict = dict(given.query("window == 'overall' and analysis == 'power_model'").iloc[0][key])
    edit(old, "dose_proportionality", with_cell(verdict, "verdict", "dose proportional"))
    cli.main(["diff", str(old), str(new), "--output", str(new / "changes.csv")])
    context = named(context_small, language)
    n = len(table(new, "observations").query("patient_id == '004'"))
    told = since(Results(new), context, html.strings(language))
    if language == "en":
        assert told.line.startswith(f"Since the data cut of 2026-03-01: new patients 1, new results {n}, earlier")
        assert ("Patients (before: gone; now: new)", "", "004") in told.rows
        assert ("Patient 001, Cmax, qPCR, blood (copies/µg)", "320", "400 (+25.0 %)") in told.rows
        assert ("Dose proportionality, Cmax (power model)", "dose proportional") in [row[:2] for row in told.rows]
        assert any(what == "Answer, DL1" and "320" in was and "400" in now for what, was, now in told.rows)
    text = report.build(new, context.settings, "0.1.0")
    assert html.strings(language)["since_heading"] in text and 'href="#since"' in text
    assert "changes.csv" in text


def test_where_no_exposure_of_an_earlier_patient_changed_the_brief_says_so(
    old: Path, new: Path, context_small: Context
) -> None:
    without_patient(old, "004")
    cli.main(["diff", str(old), str(new), "--output", str(new / "changes.csv")])
    told = since(Results(new), named(context_small), html.strings("en"))
    assert told.rows[-1] == ("Cmax and AUC of earlier patients", "", "none changed")


def test_every_analysis_of_dose_proportionality_has_its_words(old: Path) -> None:
    given = table(old, "dose_proportionality").query("verdict != ''")
    assert set(given["analysis"]) <= set(html.strings("en")["since_analysis"])


def test_the_report_names_the_run_by_the_digest_of_its_manifest(new: Path, context_small: Context) -> None:
    from nkinetics.provenance import manifest

    made = manifest.build(new, context_small.settings, "0.1.0")
    assert f"<code>{made['run']}</code>" in report.build(new, context_small.settings, "0.1.0")
