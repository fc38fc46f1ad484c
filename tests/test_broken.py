"""Broken input, one defect per file: each is refused with the file, the row, the column and how to mend it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from nkinetics import ingest, observations, settings
from nkinetics.errors import InputError

TABLES = {
    "patient_absent_from_patients.samples.csv": (
        "config/samples.csv, row 6, column patient_id: found 'P02'; expected a patient of config/patients.csv. "
        "To mend: did you mean P002?",
    ),
    "sample_of_export_without_row.samples.csv": (
        "data/raw/run01.txt, row 37, column sample: found 'S05'; expected a sample of config/samples.csv. "
        "To mend: did you mean S5?",
        "inputs.ignore_samples",
    ),
    "sample_in_no_export.samples.csv": (
        "config/samples.csv, row 8, column sample_id: found sample 'S07', which is in no export; "
        "expected a result, or the state not_done or pending",
    ),
    "duplicated_row.samples.csv": (
        "config/samples.csv, row 8, column sample_id: found a second row for sample_id S02",
    ),
    "no_dna_input.samples.csv": (
        "config/samples.csv, row 4, column ng_input: found no ng_input for sample S03; "
        "expected a positive number, needed for copies/ug",
    ),
    "no_time_at_all.samples.csv": ("config/samples.csv, row 5, column collected_at: found no time for sample S04",),
    "path_as_identifier.samples.csv": (
        "config/samples.csv, row 3, column sample_id: found '../x'; expected a value; 1 to 40 letters",
    ),
    "day_first_date.samples.csv": (
        "config/samples.csv, row 3, column collected_at: found '28/03/2026 10:00'; expected an ISO date and time",
    ),
    "time_in_the_clock_change.samples.csv": (
        "config/samples.csv, row 3, column collected_at: found '2026-03-29T02:30'; "
        "expected a time that exists in Europe/Berlin",
    ),
    "negative_dna_input.samples.csv": ("config/samples.csv, row 6, column ng_input: found -50; expected 0 or more",),
    "text_for_a_number.samples.csv": (
        "config/samples.csv, row 6, column ng_input: found '50 ng'; expected a number with a decimal point",
    ),
    "formula_as_identifier.patients.csv": (
        "config/patients.csv, row 4, column patient_id: found '=cmd|x'; expected a value; 1 to 40 letters",
    ),
    "column_with_names.patients.csv": (
        "config/patients.csv, row 1, column patient_name: found a column that seems to identify a person",
        "remove the column",
    ),
    "required_column_misspelt.patients.csv": (
        "config/patients.csv, row 1, column dose_level: found no such column among patient_id, dose_lvl, cohort",
        "rename dose_lvl",
    ),
    "not_monotone.infusions.csv": (
        "config/infusions.csv, row 3, column started_at: found infusion 2 of patient 007 at -1 d; "
        "expected a start after infusion 1 at 0 d",
    ),
    "first_infusion_missing.infusions.csv": (
        "config/infusions.csv, row 4, column infusion: found infusion 2 of patient P002 and no infusion 1",
    ),
    "unknown_unit.infusions.csv": (
        "config/infusions.csv, row 5, column unit: found 'million cells'; expected one of cells, cells/kg",
    ),
    "unknown_event.events.csv": (
        "config/events.csv, row 3, column event: found 'tocilizumabb'; expected a value; one of",
    ),
    "dose_without_time.cytokines.csv": (
        "config/cytokines.csv, row 3, column started_at: found no time; expected started_at or time",
    ),
    "pattern_matches_no_target.config.yaml": (
        "column assays.qpcr.target_pattern: found '^FMC63$', which matches no target of the exports "
        "(targets: CAR, RNaseP)",
    ),
}

CONFIGURATION = {
    "misspelt_key.config.yaml": (
        "column assays.qpcr.target_patern: found the unknown key target_patern",
        "did you mean target_pattern?",
    ),
}

EXPORTS = {
    "ct_with_decimal_comma.txt": ("row 28, column CT: found '16,484'", "decimal mark '.'"),
    "truncated.xlsx": ("found a damaged or truncated workbook", "expected a complete workbook"),
    "empty.txt": ("found an empty file; expected an export with its results",),
    "no_reader_claims.csv": ("found a text of no known format", "expected one of: ", "QuantStudio results"),
}

OBSERVATIONS = {
    "negative_level.observations.csv": ("row 2, column level: found -5; expected 0 or more",),
    "lloq_missing_for_blq.observations.csv": (
        "row 2, column lloq: found no LLOQ; expected the LLOQ of a row with status blq",
    ),
    "unknown_unit.observations.csv": ("row 2, column level_unit: found 'copies/mg'; expected one of copies/ug",),
    "unknown_status.observations.csv": ("row 2, column status: found 'measured'; expected a value; one of quantified",),
    "two_results_at_one_time.observations.csv": ("row 3, column time_actual: found a second reportable row",),
}


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Path:
    """The small valid study, to be broken."""
    shutil.copytree(root / "tests" / "data" / "small", tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def broken(root: Path) -> Path:
    return root / "tests" / "data" / "broken"


def ingested(study: Path, **changes: object) -> ingest.Ingested:
    chosen = settings.load(study / "config" / "config.yaml")
    return ingest.run(chosen.model_copy(update=changes), study)


def assert_says(error: InputError, words: tuple[str, ...]) -> None:
    text = " ".join(str(error).split())
    for expected in words:
        assert expected in text, f"{expected!r} is not in: {text}"
    assert all(p.file and p.found and p.mend for p in error.problems), "every problem says what to do"


def test_every_broken_file_has_its_test(broken: Path):
    named = {*TABLES, *CONFIGURATION, *EXPORTS, *OBSERVATIONS, "other_value_for_a_well.txt"}
    # Folders hold the broken exports of the readers' own tests.
    assert named == {p.name for p in broken.iterdir() if p.is_file()}


@pytest.mark.parametrize("name", TABLES)
def test_a_broken_table_is_refused_with_row_and_column_and_nothing_else_is(name: str, study: Path, broken: Path):
    table = ".".join(name.split(".")[1:])
    shutil.copy(broken / name, study / "config" / table)
    with pytest.raises(InputError) as caught:
        ingested(study)
    assert_says(caught.value, TABLES[name])
    # An identifier that is refused is also missing from the table that it should have stood in.
    derived = {"formula_as_identifier.patients.csv": 1}
    assert len(caught.value.problems) == 1 + derived.get(name, 0), str(caught.value)


@pytest.mark.parametrize("name", CONFIGURATION)
def test_a_misspelt_key_is_refused_with_the_nearest_name(name: str, broken: Path):
    with pytest.raises(InputError) as caught:
        settings.load(broken / name)
    assert_says(caught.value, CONFIGURATION[name])


@pytest.mark.parametrize("name", EXPORTS)
def test_an_unreadable_export_is_set_aside_with_its_reason_and_blocks_no_other(name: str, study: Path, broken: Path):
    whole = ingested(study)
    shutil.copy(broken / name, study / "data" / "raw" / name)
    made = ingested(study)
    assert made.problems
    assert_says(InputError(made.problems), EXPORTS[name])
    assert {p.file for p in made.problems} == {f"data/raw/{name}"}
    row = made.ingest[made.ingest["source_file"] == f"data/raw/{name}"]
    assert len(row) == 1 and not row["used"].any() and row["source_row"].isna().all()
    assert made.problems[0].found in row["reason"].iloc[0]
    assert made.observations.equals(whole.observations)


@pytest.mark.parametrize("name", EXPORTS)
def test_a_strict_study_stops_at_an_unreadable_export(name: str, study: Path, broken: Path):
    shutil.copy(broken / name, study / "data" / "raw" / name)
    with pytest.raises(InputError) as caught:
        ingested(study, strict=True)
    assert_says(caught.value, EXPORTS[name])


def test_another_value_for_the_same_well_is_a_conflict_until_one_export_is_superseded(study: Path, broken: Path):
    shutil.copy(broken / "other_value_for_a_well.txt", study / "data" / "raw" / "run01_corrected.txt")
    with pytest.raises(InputError) as caught:
        ingested(study)
    said = "found run RUN-01, well B6, CAR: 28.500 (S02), but 28.040 (S02) in data/raw/run01.txt, row 28"
    assert_says(caught.value, (said, "name the older export in inputs.superseded"))
    assert len(caught.value.problems) == 1
    inputs = settings.load(study / "config" / "config.yaml").inputs
    made = ingested(study, inputs=inputs.model_copy(update={"superseded": ("data/raw/run01.txt",)}))
    aside = made.ingest[made.ingest["source_file"] == "data/raw/run01.txt"]
    assert (aside["reason"] == "superseded (inputs.superseded)").all()
    level = made.observations.set_index("sample_id")["level"]["S02"]
    assert level == pytest.approx((10 ** (9.5 / 3.32) + 2 * 1000) / 3 * 5)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_broken_observations_of_a_user_are_refused(name: str, broken: Path):
    with pytest.raises(InputError) as caught:
        observations.load(broken / name)
    assert_says(caught.value, OBSERVATIONS[name])
    assert len(caught.value.problems) == 1


def test_problems_of_all_tables_stand_in_one_message(study: Path, broken: Path):
    for name in (
        "patient_absent_from_patients.samples.csv",
        "unknown_unit.infusions.csv",
        "unknown_event.events.csv",
        "column_with_names.patients.csv",
    ):
        shutil.copy(broken / name, study / "config" / ".".join(name.split(".")[1:]))
    with pytest.raises(InputError) as caught:
        ingested(study)
    files = [p.file for p in caught.value.problems]
    assert files == ["config/events.csv", "config/infusions.csv", "config/patients.csv", "config/samples.csv"]


def test_nothing_is_written_when_the_input_is_wrong(study: Path, broken: Path, tmp_path: Path):
    shutil.copy(broken / "not_monotone.infusions.csv", study / "config" / "infusions.csv")
    with pytest.raises(InputError):
        ingest.write(ingested(study), tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_a_short_torture_loses_nothing_and_a_planted_loss_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`make torture` in small: every broken file and injection, some damaged tables and exports."""
    spec = importlib.util.spec_from_file_location("torture", Path(__file__).with_name("torture.py"))
    assert spec and spec.loader
    torture = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "torture", torture)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    spec.loader.exec_module(torture)
    assert torture.main(["--exports", "10", "--tables", "25", "--json", str(tmp_path / "counts.json")]) == 0
    counts = json.loads((tmp_path / "counts.json").read_text(encoding="utf-8"))
    assert counts["broken"] == {"refused": len([p for p in torture.DATA.glob("broken/**/*") if p.is_file()])}
    assert {family: sum(own.values()) for family, own in counts.items()} | {"broken": 0, "injections": 0} == {
        "broken": 0,
        "injections": 0,
        "tables": 25,
        "exports": 10,
    }
    assert all("lost" not in own for own in counts.values())
    # The control: a reader of tables that forgets a patient is found out.
    monkeypatch.setattr(torture, "typed", lambda path, key: {"nobody"})
    capsys.readouterr()
    assert torture.main(["--only", "tables", "--tables", "5"]) == 1
    assert "patients without a row: nobody" in capsys.readouterr().out
