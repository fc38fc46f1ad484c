"""The user's tables: checked whole, times made elapsed, assumptions said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from nkinetics import inputs, settings
from nkinetics.errors import InputError
from nkinetics.store import write_table


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "tests" / "data" / "small", tmp_path / "study")
    return tmp_path / "study"


def read(folder: Path, **changes: object) -> inputs.Study:
    chosen = settings.load(folder / "config" / "config.yaml")
    return inputs.read_study(chosen.model_copy(update=changes), folder)


def replace(study: Path, table: str, old: str, new: str) -> None:
    path = study / "config" / f"{table}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def without(study: Path, *names: str) -> dict[str, object]:
    chosen = settings.load(study / "config" / "config.yaml").inputs
    return {"inputs": chosen.model_copy(update=dict.fromkeys(names))}


def test_elapsed_time_counts_hours_that_passed_not_hours_on_the_clock(study: Path):
    # Between 27 March 10:00 and 30 March 10:00 in Berlin the clocks were set forward: 71 hours.
    made = read(study)
    second = made.infusions.query("patient_id == '007' and infusion == 2")["time"].item()
    assert second == pytest.approx(71 / 24)
    assert made.samples.set_index("sample_id")["time_actual"]["S03"] == pytest.approx(71 / 24)
    assert made.samples.set_index("sample_id")["time_actual"]["S02"] == pytest.approx(1.0)


def test_an_offset_in_the_text_goes_before_the_zone_of_the_configuration(study: Path):
    replace(study, "samples", "2026-03-28T10:00", "2026-03-28T09:00Z")
    assert read(study).samples.set_index("sample_id")["time_actual"]["S02"] == pytest.approx(1.0)


def test_a_local_time_that_occurs_twice_is_the_first_and_said(study: Path):
    for table in ("infusions", "samples", "cytokines", "events"):
        path = study / "config" / f"{table}.csv"
        path.write_text(path.read_text().replace("2026-03", "2026-10").replace("2026-10-30T10:00", "2026-10-25T02:30"))
    replace(study, "samples", "2026-10-27T10:00", "2026-10-24T02:30")
    replace(study, "samples", "2026-10-28T10:00", "2026-10-24T02:30")
    replace(study, "infusions", "2026-10-27T10:00", "2026-10-24T02:30")
    made = read(study)
    assert made.infusions["time"].max() == pytest.approx(1.0)
    assert any("occurs twice in Europe/Berlin" in w for w in made.warnings)


def test_identifiers_keep_their_leading_zeros_in_csv_and_workbook(study: Path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["patient_id", "dose_level", "weight_kg"],
        ["007", "DL1", 64],
        ["P002", "DL1", 70.5],
        ["P003", "DL2", None],
    ):
        book.active.append(row)
    book.save(study / "config" / "patients.xlsx")
    made = read(
        study,
        inputs=settings.load(study / "config/config.yaml").inputs.model_copy(
            update={"patients": "config/patients.xlsx"}
        ),
    )
    assert made.patients["patient_id"].tolist() == ["007", "P002", "P003"]
    assert made.patients["weight_kg"].tolist()[:2] == [64.0, 70.5]
    assert not any("stored as numbers" in w for w in made.warnings)


def test_an_identifier_stored_as_a_number_in_a_workbook_is_warned_of(tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in ["patient_id", "dose_level"], [7, "DL1"]:
        book.active.append(row)
    book.save(tmp_path / "patients.xlsx")
    frame, rows, numeric = inputs.read_user_frame(tmp_path / "patients.xlsx")
    assert frame["patient_id"].tolist() == ["7"] and rows.tolist() == [2] and numeric == ["patient_id"]


def test_dates_of_a_workbook_become_iso_text(tmp_path: Path):
    import datetime

    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in ["patient_id", "started_at"], ["007", datetime.datetime(2026, 1, 5, 9, 30)]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    text = inputs.read_user_frame(tmp_path / "t.xlsx")[0]["started_at"].item()
    assert inputs.instant(text, "UTC")[0] == datetime.datetime(2026, 1, 5, 9, 30, tzinfo=datetime.UTC)


def test_empty_given_is_the_planned_amount_and_said(study: Path):
    made = read(study)
    row = made.infusions.query("patient_id == 'P002'")
    assert row["given"].item() == row["planned"].item() == 2e9
    assert any("given is empty for infusion 1 of patient P002" in w for w in made.warnings)


def test_a_sample_without_actual_time_has_the_nominal_time_and_a_flag(study: Path):
    samples = read(study).samples.set_index("sample_id")
    assert samples.loc["S04", "time_actual"] == 7 and samples.loc["S04", "time_flag"] == "nominal time used"
    assert samples.loc["S02", "time_flag"] == ""


def test_a_sample_that_was_not_taken_has_no_actual_time(study: Path):
    sample = read(study).samples.set_index("sample_id").loc["S06"]
    assert pd.isna(sample["time_actual"]) and sample["time_nominal"] == 2 and sample["time_flag"] == ""


def test_without_infusions_one_reference_dose_at_0_is_assumed_and_said(study: Path):
    replace(
        study,
        "samples",
        "sample_id,patient_id,specimen,visit,time_nominal,collected_at",
        "sample_id,patient_id,specimen,visit,time_actual,comment2",
    )
    made = read(study, **without(study, "infusions", "cytokines", "events"))
    assert made.infusions["patient_id"].tolist() == ["007", "P002", "P003"]
    assert made.infusions["time"].tolist() == [0, 0, 0] and set(made.infusions["given"]) == {2e9}
    assert "No infusions are given for 3 patients: one infusion of 2e+09 cells at time 0 is assumed." in made.warnings


def test_absolute_sample_times_without_an_absolute_infusion_are_refused(study: Path):
    with pytest.raises(InputError, match="expected an absolute start of infusion 1 of patient 007"):
        read(study, **without(study, "infusions", "cytokines", "events"))


def test_a_time_given_twice_must_agree(study: Path):
    replace(
        study,
        "samples",
        "sample_id,patient_id,specimen,visit,time_nominal,collected_at",
        "sample_id,patient_id,specimen,visit,time_actual,collected_at",
    )
    with pytest.raises(
        InputError, match=r"row 4, column time_actual: found 3 d; expected 2\.9583 d, as collected_at says"
    ):
        read(study)


def test_further_columns_of_the_user_are_kept(study: Path):
    replace(study, "patients", "cohort\n", "cohort,site\n")
    replace(study, "patients", "escalation\n", "escalation,B07\n")
    assert read(study).patients["site"].tolist() == ["B07"] * 3


@pytest.mark.parametrize(
    "header", ["Name", "patient_name", "First name", "DOB", "birth_date", "MRN", "phone", "e-mail", "姓名", "住院号"]
)
def test_columns_that_identify_a_person_are_refused(header: str, study: Path):
    replace(study, "patients", "cohort\n", f"cohort,{header}\n")
    with pytest.raises(InputError, match="a column that seems to identify a person"):
        read(study)


@pytest.mark.parametrize(
    "header", ["sample_name", "agent_name", "site", "named_level", "birthweight_ratio", "telomere"]
)
def test_other_columns_are_not_taken_for_personal_ones(header: str, study: Path):
    replace(study, "patients", "cohort\n", f"cohort,{header}\n")
    read(study)


def test_a_recorded_death_ends_the_follow_up(study: Path):
    with (study / "config" / "events.csv").open("a") as handle:
        handle.write("P002,death,5,2026-04-12T09:30,\n")
    row = read(study).patients.set_index("patient_id").loc["P002"]
    assert row["status_end"] == "death" and row["time_end"] == pytest.approx(10.0)


def test_a_patient_with_samples_and_no_infusion_is_refused_once(study: Path):
    replace(study, "infusions", "P002,1,2026-04-02T09:30,2e9,,cells\n", "")
    with pytest.raises(InputError) as caught:
        read(study)
    assert [p.found for p in caught.value.problems] == ["a sample of P002, who has no infusion"]


def test_infusion_1_at_another_time_than_0_is_refused(study: Path):
    path = study / "config" / "infusions.csv"
    path.write_text("patient_id,infusion,time,planned\n007,1,0.5,2e9\nP002,1,0,2e9\nP003,1,0,4e9\n")
    with pytest.raises(InputError, match=r"row 2, column time: found 0\.5 d; expected 0 for infusion 1"):
        read(study)


def test_amounts_in_two_units_are_refused(study: Path):
    replace(study, "infusions", "4e9,4e9,cells", "4e7,4e7,cells/kg")
    with pytest.raises(
        InputError, match=r"row 5, column unit: found 'cells/kg'; expected cells, as study\.dose_unit says"
    ):
        read(study)


def test_the_end_of_the_data_cut_is_counted_from_each_first_infusion(study: Path):
    chosen = settings.load(study / "config" / "config.yaml")
    made = read(study, study=chosen.study.model_copy(update={"data_cut": "2026-04-02"}))
    assert made.data_cut["P002"] == pytest.approx(14.5 / 24)
    assert made.data_cut["007"] == pytest.approx(6 + 13 / 24)


def test_the_order_of_rows_does_not_show(study: Path):
    before = read(study)
    for table in ("patients", "samples", "infusions", "cytokines", "events"):
        path = study / "config" / f"{table}.csv"
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *reversed(rows)]) + "\n")
    after = read(study)
    for table in ("patients", "samples", "infusions", "cytokines", "events"):
        assert getattr(before, table).equals(getattr(after, table)), table


def test_tables_of_a_results_folder_load_as_they_were_written(study: Path, tmp_path: Path):
    made = read(study)
    from nkinetics.columns import CYTOKINES, INFUSIONS, PATIENTS

    for name, schema in (("infusions", INFUSIONS), ("cytokines", CYTOKINES), ("patients", PATIENTS)):
        write_table(getattr(made, name), tmp_path / f"{name}.csv", schema)
    infusions = inputs.load_infusions(tmp_path / "infusions.csv")
    assert infusions["time"].tolist() == pytest.approx(made.infusions["time"].tolist(), abs=1e-9)
    cytokines = inputs.load_cytokines(tmp_path / "cytokines.csv", infusions)
    assert cytokines["time"].tolist() == pytest.approx(made.cytokines["time"].tolist(), abs=1e-9)
    assert inputs.load_patients(tmp_path / "patients.csv").equals(made.patients)


def test_a_user_may_give_a_stage_absolute_infusions_and_cytokines(tmp_path: Path):
    (tmp_path / "i.csv").write_text(
        "patient_id,infusion,started_at,planned\n1,1,2026-01-05T09:00,1e9\n1,2,2026-01-08T21:00,1e9\n"
    )
    (tmp_path / "c.csv").write_text("patient_id,agent,started_at\n1,IL-2,2026-01-05T15:00\n")
    infusions = inputs.load_infusions(tmp_path / "i.csv")
    assert infusions["time"].tolist() == [0.0, 3.5] and infusions["given"].tolist() == [1e9, 1e9]
    assert inputs.load_cytokines(tmp_path / "c.csv", infusions)["time"].tolist() == [0.25]


def test_a_semicolon_table_is_refused_with_what_to_do(study: Path):
    path = study / "config" / "patients.csv"
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(InputError, match="save it as CSV with commas"):
        read(study)


# ------------------------------------------------------------------------------------------------- slips of the pen


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("patients", "P003,DL2", "P003,2e9", "Patient P003: the dose level 2e9 looks like an amount"),
        (
            "samples",
            "2026-03-28T10:00,200",
            "2026-03-28T10:00,20000",
            "Sample S02 of patient 007: ng_input is 20000 ng",
        ),
        ("samples", "2026-03-28T10:00,200", "2026-03-28T10:00,0.2", "Sample S02 of patient 007: ng_input is 0.2 ng"),
        ("infusions", "2e9,1.5e9", "2e9,1.5e8", "Infusion 2 of patient 007: given is 1.5e+08, 0.075 of the planned"),
        ("infusions", "4e9,4e9", "4e9,4e10", "Infusion 1 of patient P003: given is 4e+10, 10 of the planned 4e+09"),
        (
            "cytokines",
            "IL-2",
            "IL-21",
            "models.cytokine_window.agents names IL-2, of which config/cytokines.csv has no",
        ),
        ("cytokines", "IL-2", "IL-21", "did you mean IL-21?"),
    ],
)
def test_what_is_more_often_a_slip_is_said(table: str, old: str, new: str, words: str, study: Path):
    assert not any(words in w for w in read(study).warnings)
    replace(study, table, old, new)
    assert any(words in w for w in read(study).warnings)


def test_another_spelling_of_an_agent_is_the_same_agent(study: Path):
    replace(study, "cytokines", "IL-2", "il2")
    assert not any("agents names" in w for w in read(study).warnings)


def test_a_grade_above_5_and_an_event_that_ends_before_it_starts_are_refused(study: Path):
    (study / "config" / "events.csv").write_text(
        "patient_id,event,grade,time,time_end\n007,crs,6,1,2\n007,icans,5,3,2\nP002,crs,1,4,4\n"
    )
    with pytest.raises(InputError) as caught:
        read(study)
    assert [(p.row, p.column, p.found, p.expected) for p in caught.value.problems] == [
        (2, "grade", "'6'", "0 to 5"),
        (3, "time_end", "an end at 2 d of an event from 3 d on", "an end not before the start"),
    ]


def test_a_further_column_almost_named_as_a_known_one_is_refused_unless_that_one_is_there(study: Path):
    replace(study, "samples", "comment", "coment")
    with pytest.raises(
        InputError, match=r"row 1, column coment: found the unknown column coment; .*did you mean comment"
    ):
        read(study)
    replace(study, "samples", "state,coment", "comment,coment")
    assert "coment" in read(study).samples.columns


def test_only_a_close_column_is_offered_for_a_missing_one(study: Path):
    (study / "config" / "patients.csv").write_text("subject,dose_level,time_end\n007,DL1,3\n")
    with pytest.raises(InputError) as caught:
        read(study, **without(study, "samples", "infusions", "cytokines", "events"))
    (problem,) = caught.value.problems
    assert (problem.column, problem.mend) == ("patient_id", "add the column")


def test_every_equally_near_patient_is_named(study: Path):
    replace(study, "samples", "S05,P002", "S05,P00")
    with pytest.raises(InputError, match=r"did you mean P002 or P003\? Otherwise"):
        read(study)
