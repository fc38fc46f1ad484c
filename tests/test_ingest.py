"""The whole way from exports to observations on a study small enough to check by hand, and on real listings."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import ingest, readers, settings
from nkinetics.columns import INGEST, OBSERVATION_SOURCES, OBSERVATIONS, RUNS
from nkinetics.errors import InputError
from nkinetics.store import read_table


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "tests" / "data" / "small", tmp_path / "study")
    return tmp_path / "study"


def chosen(folder: Path, **inputs: object) -> settings.Settings:
    loaded = settings.load(folder / "config" / "config.yaml")
    return loaded.model_copy(update={"inputs": loaded.inputs.model_copy(update=inputs)})


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_small_study_gives_the_levels_that_one_computes_by_hand(study: Path):
    made = ingest.run(chosen(study), study)
    run = made.runs.iloc[0]
    assert (run["slope"], run["intercept"], run["accepted"]) == (pytest.approx(-3.32), pytest.approx(38), True)
    rows = made.observations.set_index("sample_id")
    # Ct 28.04 is 1000 copies, in 200 ng: 5000 copies/ug; Ct 31.36 is 100 copies: 500 in 200 ng, 2000 in 50 ng.
    assert rows["level"][["S02", "S03", "S05"]].tolist() == pytest.approx([5000, 500, 2000], rel=1e-6)
    assert rows["lloq"][["S02", "S05"]].tolist() == pytest.approx([50, 200])
    assert rows["status"].to_dict() == {
        "S01": "not_detected",
        "S02": "quantified",
        "S03": "quantified",
        "S04": "blq",
        "S05": "quantified",
        "S06": "not_done",
        "": "not_done",
    }
    assert rows["infusion"][["S01", "S02", "S03", "S04"]].tolist() == [0, 1, 1, 2]
    assert rows["predose"][["S01", "S02", "S03", "S04"]].tolist() == [True, False, True, False]
    assert rows.loc["", "patient_id"] == "P003"


def test_every_row_read_is_used_or_set_aside_with_a_reason(root: Path):
    for folder in (root / "tests" / "data" / "small", root):
        made = ingest.run(settings.load(folder / "config" / "config.yaml"), folder)
        for report in made.file_reports:
            rows = made.ingest[made.ingest["source_file"] == report.label]
            used, aside = int(rows["used"].sum()), int((rows["reason"] != "").sum())
            assert report.n_rows == len(rows) == used + aside > 0, report.label
        assert not made.problems


@pytest.mark.parametrize("folder", [".", "tests/data/small"])
def test_a_study_worked_on_run_by_run_gives_the_same_bytes(folder, root: Path, tmp_path: Path, monkeypatch):
    study = root / folder
    whole = ingest.run(settings.load(study / "config" / "config.yaml"), study)
    ingest.write(whole, tmp_path / "whole")
    monkeypatch.setattr(ingest, "_PIECE", 1)
    monkeypatch.setattr(readers, "_PIECE", 1)
    parts = ingest.run(settings.load(study / "config" / "config.yaml"), study)
    ingest.write(parts, tmp_path / "parts")
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole") and parts.warnings == whole.warnings
    for name, schema in (("ingest", INGEST), ("observation_sources", OBSERVATION_SOURCES)):
        pd.testing.assert_frame_equal(
            read_table(tmp_path / "parts" / f"{name}.csv", schema), getattr(parts, name), check_dtype=True
        )


def test_a_pattern_that_fits_no_target_of_many_runs_is_said_once(root: Path, monkeypatch):
    monkeypatch.setattr(ingest, "_PIECE", 1)
    loaded = settings.load(root / "config" / "config.yaml")
    assert loaded.assays.qpcr is not None
    qpcr = loaded.assays.qpcr.model_copy(update={"target_pattern": "nothing"})
    wrong = loaded.model_copy(update={"assays": loaded.assays.model_copy(update={"qpcr": qpcr})})
    with pytest.raises(InputError) as raised:
        ingest.run(wrong, root)
    (problem,) = (p for p in raised.value.problems if p.column == "assays.qpcr.target_pattern")
    assert "targets: CAR, RPPH1" in problem.found


def test_the_sources_of_a_level_are_its_wells_and_the_curve(study: Path):
    made = ingest.run(chosen(study), study)
    of = made.observations.set_index("sample_id")["observation_id"]["S02"]
    sources = made.observation_sources[made.observation_sources["observation_id"] == of]
    assert sources["role"].value_counts().to_dict() == {"standard": 12, "replicate": 3, "ntc": 2, "reference": 2}
    lines = (study / "data" / "raw" / "run01.txt").read_text().splitlines()
    for row in sources.query("role == 'replicate'")["source_row"]:
        assert "\tS02\tCAR\tUNKNOWN\t" in lines[row - 1] and "\t28.040" in lines[row - 1]
    assert made.ingest.query("role == 'reference'")["target"].unique().tolist() == ["RNaseP"]


def test_two_runs_and_shuffled_rows_give_identical_bytes(study: Path, tmp_path: Path):
    ingest.write(ingest.run(chosen(study), study), tmp_path / "one")
    ingest.write(ingest.run(chosen(study), study), tmp_path / "again")
    assert tree(tmp_path / "one") == tree(tmp_path / "again")
    shuffle = random.Random(20260105)
    for table in (study / "config").glob("*.csv"):
        head, *rows = table.read_text().splitlines()
        shuffle.shuffle(rows)
        table.write_text("\n".join([head, *rows]) + "\n")
    ingest.write(ingest.run(chosen(study), study), tmp_path / "shuffled")
    one, shuffled = tree(tmp_path / "one"), tree(tmp_path / "shuffled")
    assert one == shuffled
    cited = [line.split("  ", 2) for line in shuffled["study/inputs.txt"].decode().splitlines()]
    assert [name for _, name, _ in cited] == ["patients", "samples", "infusions", "cytokines", "events"]
    for digest, _, file in cited:
        lines = sorted((study / file).read_bytes().splitlines(keepends=True))
        assert hashlib.sha256(b"".join(lines)).hexdigest() == digest


def test_other_names_of_the_exports_change_nothing_but_the_names(root: Path, tmp_path: Path):
    """Of the bundled study, with names that are read in the opposite order; a table of counts is known by its name."""
    shutil.copytree(root / "config", tmp_path / "config")
    raw = sorted(p for p in (root / "data" / "raw").rglob("*") if p.is_file() and p.suffix != ".md")
    names = {}
    for i, path in enumerate(raw):
        local = path.relative_to(root)
        own = f"{i:02d}{path.suffix}" if local.parts[2] == "qpcr" else path.name
        names[local.as_posix()] = f"data/raw/{len(raw) - i:02d}/{own}"
        (tmp_path / names[local.as_posix()]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / names[local.as_posix()])
    assert sorted(names.values()) != list(names.values())
    made = []
    for folder in (root, tmp_path):
        ingest.write(ingest.run(settings.load(folder / "config" / "config.yaml"), folder), tmp_path / "out")
        made.append({name: content.decode("utf-8") for name, content in tree(tmp_path / "out").items()})
        shutil.rmtree(tmp_path / "out")
    one, other = made
    back = {v: k for k, v in names.items()}
    assert one.keys() == other.keys() and one["observations.csv"] == other["observations.csv"]
    unordered = {"ingest.csv", "observation_sources.csv", "runs.csv", "calibrators.csv", "warnings.txt"}
    for name in one.keys() - {"exclusions.jsonl"}:
        again = re.sub("|".join(map(re.escape, back)), lambda found: back[found[0]], other[name])
        # Of two equal files the first by name is read, and the other is said to be its copy.
        again, one[name] = (text.replace("_Q05_copy", "_Q05") for text in (again, one[name]))
        if name in unordered or name.startswith("study/exports"):
            assert sorted(again.splitlines()) == sorted(one[name].splitlines()), name
        else:
            assert again == one[name], name


def test_the_results_folder_holds_every_table_with_its_columns(study: Path, tmp_path: Path):
    made = ingest.run(chosen(study), study)
    ingest.write(made, tmp_path)
    for name, schema in (
        ("ingest", INGEST),
        ("runs", RUNS),
        ("observations", OBSERVATIONS),
        ("observation_sources", OBSERVATION_SOURCES),
    ):
        assert len(read_table(tmp_path / f"{name}.csv", schema)) == len(getattr(made, name))
    batches = [read_table(tmp_path / "batches" / f"{b}.csv", OBSERVATIONS) for b in ("00", "01")]
    assert sorted(i for b in batches for i in b["observation_id"]) == sorted(made.observations["observation_id"])
    assert not set(batches[0]["patient_id"]) & set(batches[1]["patient_id"])
    for i, batch in enumerate(batches):
        infusions = pd.read_csv(tmp_path / "study" / f"0{i}" / "infusions.csv", dtype=str)
        assert set(infusions["patient_id"]) == set(batch["patient_id"])
        assert set(infusions["reference_dose"]) == {"2000000000"}


def test_a_changed_patient_changes_its_own_batch_only(study: Path, tmp_path: Path):
    ingest.write(ingest.run(chosen(study), study), tmp_path / "before")
    replace(
        study / "config" / "samples.csv",
        "S05,P002,blood,D1,1,2026-04-03T09:30,50",
        "S05,P002,blood,D1,1,2026-04-03T09:30,100",
    )
    ingest.write(ingest.run(chosen(study), study), tmp_path / "after")
    before, after = tree(tmp_path / "before" / "batches"), tree(tmp_path / "after" / "batches")
    changed = [name for name in before if before[name] != after[name]]
    own = f"{ingest.batch_of('P002', 'SMALL', 2)}.csv"
    assert changed == [own]


def test_a_re_assayed_sample_is_reported_from_the_later_accepted_run(study: Path):
    first = study / "data" / "raw" / "run01.txt"
    (study / "data" / "raw" / "run02.txt").write_text(
        first.read_text().replace("RUN-01", "RUN-02").replace("28.040", "28.140")
    )
    rows = ingest.run(chosen(study), study).observations.query("sample_id == 'S02'").set_index("run_id")
    assert rows["reportable"].to_dict() == {"RUN-01": False, "RUN-02": True}
    assert rows.loc["RUN-01", "exclusion_reason"] == "re-assayed on run RUN-02, which is reported"


def test_a_failed_run_keeps_its_rows_and_says_why(study: Path):
    replace(
        study / "data" / "raw" / "run01.txt",
        "\tCAR\tNTC\tFAM\tNFQ-MGB\tUndetermined",
        "\tCAR\tNTC\tFAM\tNFQ-MGB\t33.000",
    )
    made = ingest.run(chosen(study), study)
    rows = made.observations[made.observations["run_id"] == "RUN-01"]
    assert len(rows) == 5 and set(rows["status"]) == {"failed"} and not rows["reportable"].any()
    assert set(rows["exclusion_reason"]) == {"run not accepted: a no-template control is detected at or above the LOD"}
    assert made.runs["ntc_ok"].tolist() == [False] and made.runs["accepted"].tolist() == [False]


def test_the_same_export_twice_and_the_same_wells_in_another_format_count_once(study: Path):
    whole = ingest.run(chosen(study), study)
    raw = study / "data" / "raw"
    shutil.copy(raw / "run01.txt", raw / "run01_copy.txt")
    (raw / "run01_again.txt").write_text((raw / "run01.txt").read_text().replace("\n", "\r\n"))
    made = ingest.run(chosen(study), study)
    columns = ["patient_id", "sample_id", "level", "status", "n_molecules", "reportable"]
    assert made.observations[columns].equals(whole.observations[columns])
    reasons = made.ingest.groupby("source_file")["reason"].agg(lambda r: sorted(set(r))[0])
    assert reasons["data/raw/run01_copy.txt"].startswith("duplicate of data/raw/run01.txt")
    assert reasons["data/raw/run01_again.txt"].startswith(
        "the same well with the same value stands in data/raw/run01.txt"
    )


def test_control_samples_named_in_the_configuration_are_set_aside(study: Path):
    replace(study / "data" / "raw" / "run01.txt", "\tS05\t", "\tQC-1\t")
    replace(
        study / "config" / "samples.csv",
        "S05,P002,blood,D1,1,2026-04-03T09:30,50,,few cells",
        "S05,P002,blood,D1,1,2026-04-03T09:30,50,pending,",
    )
    made = ingest.run(chosen(study, ignore_samples=("QC-.*",)), study)
    aside = made.ingest.query("sample_id == 'QC-1'")
    assert set(aside["reason"]) == {"sample matches QC-.* of inputs.ignore_samples"} and len(aside) == 5
    row = made.observations.set_index("sample_id").loc["S05"]
    assert row["status"] == "not_done" and row["exclusion_reason"] == "pending: not assayed yet"


def test_a_sample_whose_wells_were_all_set_aside_is_not_lost(study: Path):
    replace(study / "data" / "raw" / "run01.txt", "false\tS05\tCAR", "true\tS05\tCAR")
    row = ingest.run(chosen(study), study).observations.set_index("sample_id").loc["S05"]
    assert row["status"] == "failed" and not row["reportable"]
    assert "omitted by the operator in the instrument software" in row["exclusion_reason"]


def test_a_name_pattern_takes_the_place_of_a_manifest_row(study: Path):
    replace(study / "data" / "raw" / "run01.txt", "\tS05\t", "\tP002_D4\t")
    replace(study / "config" / "samples.csv", "S05,P002,blood,D1,1,2026-04-03T09:30,50,,few cells\n", "")
    pattern = r"^(?P<patient_id>P\d+)_D(?P<time>\d+)$"
    with pytest.raises(InputError, match="no ng_input for sample P002_D4"):
        ingest.run(chosen(study, sample_name_pattern=pattern), study)
    loaded = chosen(study, sample_name_pattern=pattern)
    cells = loaded.assays.qpcr.model_copy(update={"level_unit": "copies/cell"})
    made = ingest.run(loaded.model_copy(update={"assays": loaded.assays.model_copy(update={"qpcr": cells})}), study)
    row = made.observations.set_index("sample_id").loc["P002_D4"]
    assert row["patient_id"] == "P002" and row["time_actual"] == 4 and row["time_flag"] == "time from the sample name"


def test_an_assay_that_is_not_configured_is_said_and_its_rows_are_accounted_for(study: Path):
    loaded = chosen(study)
    none = loaded.model_copy(update={"assays": loaded.assays.model_copy(update={"qpcr": None})})
    made = ingest.run(none, study)
    assert not made.observations["reportable"].any()
    assert set(made.ingest["reason"]) == {"assay qpcr is not configured (assays.qpcr)"}
    assert any("assays.qpcr is not configured" in w for w in made.warnings)


def test_no_export_at_all_is_a_problem_of_the_configuration(study: Path):
    with pytest.raises(InputError, match=r"column inputs\.exports: found no file that matches nowhere/\*"):
        ingest.run(chosen(study, exports=("nowhere/*",)), study)


def test_hidden_files_and_readmes_are_no_exports(study: Path):
    (study / "data" / "raw" / ".DS_Store").write_bytes(b"x")
    (study / "data" / "raw" / "README.md").write_text("x")
    (study / "data" / "raw" / "deep" / "er").mkdir(parents=True)
    (study / "data" / "raw" / "run01.txt").rename(study / "data" / "raw" / "deep" / "er" / "run01.txt")
    assert [p.name for p in ingest.export_paths(chosen(study), study)] == ["run01.txt"]


def test_check_reports_each_file_with_its_rows_and_verdict_and_writes_nothing(study: Path):
    before = tree(study)
    checked = ingest.check(chosen(study), study)
    text = checked.text
    assert not checked.problems
    assert tree(study) == before
    assert (
        "data/raw/run01.txt: quantstudio\n  39 rows read = 39 used + 0 set aside\n  run RUN-01, qpcr CAR: accepted"
        in text
    )
    assert "P003 qpcr -: no sample of this patient in the manifest" in text
    assert "3 patients, 7 observations (1 blq, 1 not_detected, 2 not_done, 3 quantified), 5 reportable" in text


# ------------------------------------------------------------------------------------------------------------- listings

LISTING = """\
ID,DAY,DV,AMT,LOQ,ARM
001,0,.,2e9,50,DL1
001,1,500,.,50,DL1
001,3,.,1e9,50,DL1
001,4,BLQ,.,50,DL1
002,0,.,4e9,50,DL2
002,2,900,.,50,DL2
"""


def listing(folder: Path, text: str = LISTING, **mapping: object) -> settings.Settings:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "listing.csv").write_text(text)
    columns = {
        "patient_id": "ID",
        "time_actual": "DAY",
        "level": "DV",
        "dose": "AMT",
        "lloq": "LOQ",
        "dose_level": "ARM",
    }
    return settings.validated(
        {
            "inputs": {"exports": ["data/*.csv"], "patients": None, "samples": None, "infusions": None},
            "generic": [{"match": "*listing.csv", "columns": columns, **mapping}],
        },
        "config.yaml",
    )


def test_a_listing_brings_its_patients_infusions_and_levels(tmp_path: Path):
    made = ingest.run(listing(tmp_path), tmp_path)
    assert made.study.patients[["patient_id", "dose_level"]].to_numpy().tolist() == [["001", "DL1"], ["002", "DL2"]]
    doses = made.study.infusions[["patient_id", "infusion", "time", "given", "reference_dose"]].to_numpy().tolist()
    assert doses == [["001", 1, 0.0, 2e9, 1e9], ["001", 2, 3.0, 1e9, 1e9], ["002", 1, 0.0, 4e9, 1e9]]
    rows = made.observations.set_index(["patient_id", "time_actual"])
    assert rows.loc[("001", 1.0), "level"] == 500 and rows.loc[("002", 2.0), "level"] == 900
    assert rows.loc[("001", 4.0), "status"] == "blq" and rows.loc[("001", 4.0), "infusion"] == 2
    assert made.ingest["used"].all() and len(made.ingest) == 6


def test_patients_of_a_listing_must_stand_in_the_table_of_patients_where_one_is_given(tmp_path: Path):
    chosen_ = listing(tmp_path)
    (tmp_path / "patients.csv").write_text("patient_id,dose_level\n001,DL1\n")
    with pytest.raises(InputError, match=r"data/listing\.csv, row 6, column patient_id: found '002'"):
        ingest.run(
            chosen_.model_copy(update={"inputs": chosen_.inputs.model_copy(update={"patients": "patients.csv"})}),
            tmp_path,
        )


def test_a_first_infusion_elsewhere_than_0_asks_for_the_zero_of_time(tmp_path: Path):
    text = LISTING.replace("001,0,.,2e9", "001,-1,.,2e9")
    with pytest.raises(InputError, match="set time_zero: first_infusion"):
        ingest.run(listing(tmp_path, text), tmp_path)
    made = ingest.run(listing(tmp_path, text, time_zero="first_infusion"), tmp_path)
    assert made.study.infusions.query("patient_id == '001'")["time"].tolist() == [0, 4]


@pytest.mark.shared
def test_a_real_listing_of_21_patients_in_months_arrives_whole(shared: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    shutil.copy(shared / "kinetics" / "hahnel" / "biExport.csv", tmp_path / "data")
    columns = {"patient_id": "ID", "time_actual": "TIME", "level": "DV", "lloq": "LLOQ", "dose": "AMT"}
    chosen_ = settings.validated(
        {
            "inputs": {"exports": ["data/*"], "patients": None, "samples": None, "infusions": None},
            "generic": [{"match": "*biExport.csv", "columns": columns, "time_unit": "month", "level_unit": "%"}],
        },
        "config.yaml",
    )
    made = ingest.run(chosen_, tmp_path)
    assert made.observations["patient_id"].nunique() == 21 and len(made.observations) == 340
    assert made.observations["reportable"].all() and len(made.study.infusions) == 21
    source = pd.read_csv(tmp_path / "data" / "biExport.csv", na_values=".")
    measured = source[source["EVID"] == 0]
    assert sorted(made.observations["level"]) == pytest.approx(sorted(measured["DV"]))
    assert sorted(made.observations["time_actual"]) == pytest.approx(sorted(measured["TIME"] * 30.4375))


@pytest.mark.shared
def test_a_real_listing_of_ct_values_becomes_levels_with_its_limit(shared: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    shutil.copy(shared / "kinetics" / "ct_trajectories" / "ct_dat_refined.csv", tmp_path / "data")
    mapping = {
        "match": "*.csv",
        "columns": {"patient_id": "PersonID", "time_actual": "TestDateIndex", "level": "CtT1"},
        "time_zero": "first_row",
        "quantity": "ct",
        "curve": {"slope": -3.6097, "intercept": 40.93733},
        "censored": {"ct_at_least": 40},
        "level_unit": "copies/mL",
    }
    inputs = {"exports": ["data/*"], "patients": None, "samples": None, "infusions": None}
    made = ingest.run(settings.validated({"inputs": inputs, "generic": [mapping]}, "config.yaml"), tmp_path)
    source = pd.read_csv(tmp_path / "data" / "ct_dat_refined.csv")
    assert made.observations["patient_id"].nunique() == 173 and len(made.observations) == len(source)
    counts = made.observations["status"].value_counts()
    assert counts["blq"] == (source["CtT1"] >= 40).sum() and counts["quantified"] == (source["CtT1"] < 40).sum()
    lloq = 10 ** ((40 - 40.93733) / -3.6097)
    assert made.observations["lloq"].unique() == pytest.approx([lloq])
    assert made.observations["level"].max() == pytest.approx(10 ** ((source["CtT1"].min() - 40.93733) / -3.6097))


# ------------------------------------------------------------------------------------------------------------ new study


def test_a_new_study_folder_is_written_and_its_configuration_is_valid(tmp_path: Path):
    written = ingest.init_study(tmp_path / "new")
    names = {p.relative_to(tmp_path / "new").as_posix() for p in written}
    tables = {f"config/{t}.csv" for t in ("patients", "samples", "infusions", "cytokines", "events")}
    assert names == {"config/config.yaml", "README.md", "data/raw/README.md", *tables}
    loaded = settings.load(tmp_path / "new" / "config" / "config.yaml")
    from nkinetics.inputs import read_study

    # The example rows are right in all but the id: with another one they are a study.
    for table in tables:
        path = tmp_path / "new" / table
        path.write_text(path.read_text().replace("EXAMPLE", "001"))
    made = read_study(loaded, tmp_path / "new")
    assert [len(getattr(made, t)) for t in ("patients", "samples", "infusions", "cytokines", "events")] == [1] * 5
    assert made.samples["time_actual"].item() == pytest.approx(1 + 10 / 1440)


def test_the_example_rows_of_a_new_study_folder_are_refused_once_each(tmp_path: Path):
    ingest.init_study(tmp_path)
    (tmp_path / "data" / "raw" / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError) as caught:
        ingest.check(settings.load(tmp_path / "config" / "config.yaml"), tmp_path)
    assert {(p.file, p.row, p.found, p.mend) for p in caught.value.problems} == {
        (f"config/{t}.csv", 2, "the example row of nkinetics init", "replace or delete it")
        for t in ("patients", "samples", "infusions", "cytokines", "events")
    }
    assert len(caught.value.problems) == 5


def test_nothing_that_exists_is_overwritten(tmp_path: Path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "patients.csv").write_text("mine")
    with pytest.raises(InputError, match=r"config/patients\.csv: found a file that exists already"):
        ingest.init_study(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["patients.csv"]


def test_the_manifest_is_drafted_from_the_names_in_the_exports(tmp_path: Path, root: Path):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    shutil.copy(root / "tests" / "data" / "small" / "data" / "raw" / "run01.txt", raw)
    ingest.init_study(tmp_path)
    drafted = pd.read_csv(tmp_path / "config" / "samples.csv", dtype=str, keep_default_na=False)
    assert drafted["sample_id"].tolist() == ["S01", "S02", "S03", "S04", "S05"] and set(drafted["patient_id"]) == {""}


def test_drafted_names_stand_in_natural_order(tmp_path: Path, root: Path):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    text = (root / "tests" / "data" / "small" / "data" / "raw" / "run01.txt").read_text()
    for old, new in (("S01", "P-D1"), ("S02", "P-D10"), ("S03", "P-D4"), ("S04", "P-D100"), ("S05", "P-D28")):
        text = text.replace(old, new)
    (raw / "run01.txt").write_text(text)
    ingest.init_study(tmp_path)
    drafted = pd.read_csv(tmp_path / "config" / "samples.csv", dtype=str, keep_default_na=False)
    assert drafted["sample_id"].tolist() == ["P-D1", "P-D4", "P-D10", "P-D28", "P-D100"]


def test_names_with_blanks_and_slashes_are_drafted_as_the_ids_by_which_they_join(tmp_path: Path, root: Path):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    text = (root / "tests" / "data" / "small" / "data" / "raw" / "run01.txt").read_text()
    for old, new in (("S01", "P1 D1"), ("S02", "P1 D4/2h"), ("S03", "P1-D7"), ("S04", "P1 D7"), ("S05", "P1 (D28)")):
        text = text.replace(f"\t{old}\t", f"\t{new}\t")
    (raw / "run01.txt").write_text(text)
    ingest.init_study(tmp_path)
    drafted = pd.read_csv(tmp_path / "config" / "samples.csv", dtype=str, keep_default_na=False)
    # Two names spell P1-D7, and a bracket stands in no id.
    assert drafted["sample_id"].tolist() == ["P1-D1", "P1-D4-2h", "P1-D7"]


# -------------------------------------------------------------------------------- slips of the pen, and what is lacking


def samples(study: Path, *changes: tuple[str, str]) -> None:
    for old, new in changes:
        replace(study / "config" / "samples.csv", old, new)


def said(made: ingest.Ingested, start: str) -> list[str]:
    return [w for w in made.warnings if w.startswith(start)]


def test_a_sample_far_from_its_planned_time_is_flagged_and_said_whatever_the_order_of_rows(study: Path):
    assert not said(ingest.run(chosen(study), study), "Sample ")
    samples(study, ("S02,007,blood,D1,1,2026-03-28T10:00", "S02,007,blood,D1,1,2026-04-28T10:00"))
    made = ingest.run(chosen(study), study)
    row = made.observations.set_index("sample_id").loc["S02"]
    assert row["time_flag"] == "far from its planned time (planned day 1.00, actual 31.96)" and row["reportable"]
    assert said(made, "Sample ") == [
        "Sample S02 of patient 007 is far from its planned time: planned day 1.00, actual 31.96; is the date right, "
        "and its year?"
    ]
    path = study / "config" / "samples.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert ingest.run(chosen(study), study).warnings == made.warnings


def test_with_a_visit_window_of_the_study_its_own_flag_stands_alone(study: Path):
    samples(study, ("2026-03-28T10:00", "2026-04-28T10:00"))
    plain = chosen(study)
    windowed = plain.model_copy(update={"study": plain.study.model_copy(update={"visit_window_h": 24.0})})
    made = ingest.run(windowed, study)
    flag = made.observations.set_index("sample_id").loc["S02", "time_flag"]
    assert flag.startswith("outside the visit window") and "far from" not in flag
    assert not said(made, "Sample ")


def test_a_quantified_level_before_the_first_infusion_is_said(study: Path):
    samples(study, ("2026-03-28T10:00", "2025-03-28T10:00"))
    (early,) = [w for w in said(ingest.run(chosen(study), study), "Sample S02") if "before the first" in w]
    assert early == (
        "Sample S02 of patient 007 has a quantified qpcr level at day -364.00, before the first infusion; is the date "
        "right, and its year?"
    )


def test_a_pre_dose_visit_after_its_infusion_is_said(study: Path):
    samples(study, ("D3 pre-dose,3,2026-03-30T10:00", "D3 pre-dose,3,2026-03-30T13:00"))
    assert said(ingest.run(chosen(study), study), "Sample S03") == [
        "Sample S03 of patient 007: the visit 'D3 pre-dose' is at day 3.08, after the infusion at day 2.96; "
        "correct the visit or the time."
    ]


def test_two_samples_at_one_time_are_refused_with_both_rows_unless_replicates_are_allowed(study: Path):
    samples(study, ("D3 pre-dose,3,2026-03-30T10:00", "D3 pre-dose,3,2026-03-28T10:00"))
    with pytest.raises(InputError) as caught:
        ingest.run(chosen(study), study)
    (problem,) = caught.value.problems
    assert (problem.file, problem.row, problem.column) == ("config/samples.csv", 4, "sample_id")
    assert "samples S02 (row 3) and S03 (row 4) of patient 007 at one time, day 1" in problem.found
    assert problem.mend == "correct the patient or the time, or set nca.replicates to mean or first"
    plain = chosen(study)
    mean = plain.model_copy(update={"nca": plain.nca.model_copy(update={"replicates": "mean"})})
    assert len(ingest.run(mean, study).observations)


def test_a_missing_or_misspelt_column_of_the_manifest_is_one_problem(study: Path):
    samples(study, ("ng_input", "ng_imput"))
    with pytest.raises(InputError) as caught:
        ingest.run(chosen(study), study)
    (problem,) = caught.value.problems
    assert (problem.row, problem.column, problem.found) == (1, "ng_imput", "the unknown column ng_imput")
    assert problem.mend.startswith("did you mean ng_input?")
    samples(study, ("ng_imput", "input_dna"))
    with pytest.raises(InputError) as caught:
        ingest.run(chosen(study), study)
    (problem,) = caught.value.problems
    assert (problem.row, problem.column, problem.expected) == (1, "ng_input", "a column ng_input, needed for copies/ug")
    assert problem.found.startswith("no such column")


def test_a_dna_input_of_0_is_found_as_0(study: Path):
    samples(study, ("2026-03-28T10:00,200", "2026-03-28T10:00,0"))
    with pytest.raises(InputError, match="row 3, column ng_input: found 0 for sample S02; expected a positive number"):
        ingest.run(chosen(study), study)


def test_problems_of_tables_and_what_levels_lack_are_said_in_one_round_with_the_warnings(study: Path):
    samples(
        study,
        ("2026-03-28T10:00,200", "2026-03-28T10:00,"),
        ("S01,007", "S01,07"),
        ("S05,P002,blood,D1,1,2026-04-03T09:30", "S05,P002,blood,D1,1,03.04.2026"),
    )
    with pytest.raises(InputError) as caught:
        ingest.check(chosen(study), study)
    assert [(p.row, p.column) for p in caught.value.problems] == [
        (2, "patient_id"),
        (3, "ng_input"),
        (6, "collected_at"),
    ]
    assert any("given is empty" in w for w in caught.value.warnings)
    assert "Warnings:" in str(caught.value) and "given is empty" in str(caught.value)


# ----------------------------------------------------------------------------------------------------- the known truth


def test_levels_of_the_bundled_study_are_the_dna_that_its_simulation_put_into_the_tubes(root: Path):
    made = ingest.run(settings.load(root / "config" / "config.yaml"), root)
    truth = pd.read_csv(root / "tests" / "data" / "truth" / "levels.csv", dtype={"patient_id": str, "sample_id": str})
    rows = made.observations[made.observations["reportable"].astype(bool)]
    rows = rows.merge(truth, on="sample_id", suffixes=("", "_true"))
    assert (rows["time_actual"] - rows["time"]).abs().max() < 1 / 1440
    for assay in ("qpcr", "ddpcr"):
        own = rows[rows["assay"] == assay]
        quantified = own[own["status"] == "quantified"]
        error = np.log(quantified["level"] / (quantified["level_true"] * quantified["extract"]))
        # Extraction is part of the sample. What is left is the scatter of replicates and of counting, and what the
        # noise of its calibrators adds to all samples of a run.
        assert len(quantified) >= 30 and abs(error.mean()) < 0.1 and error.std() < 0.12
        assert (own[own["status"] == "not_detected"]["level_true"] < own["lloq"].max()).all()
    assert (rows[rows["assay"] == "qpcr"]["lloq"] - rows[rows["assay"] == "qpcr"]["lloq_true"]).abs().max() < 1e-6


def test_of_two_results_at_one_time_in_a_listing_the_last_is_reported_and_the_other_says_so(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "listing.csv").write_text("ID,TIME,DV\n01,1,100\n01,2,80\n01,2,60\n02,2,50\n")
    columns = {"patient_id": "ID", "time_actual": "TIME", "level": "DV"}
    values = {"inputs": {"exports": ["data/*.csv"]}, "generic": [{"match": "*.csv", "columns": columns, "lloq": 5}]}
    made = ingest.run(settings.validated(values, "config.yaml"), tmp_path)
    kept = made.observations[made.observations["reportable"].astype(bool)]
    assert kept[["patient_id", "level"]].to_numpy().tolist() == [["01", 100.0], ["01", 60.0], ["02", 50.0]]
    (other,) = made.observations[~made.observations["reportable"].astype(bool)].to_dict("records")
    assert other["level"] == 80.0 and "row 4" in other["exclusion_reason"]
    assert any("nca.replicates" in warning for warning in made.warnings)
    both = ingest.run(settings.validated({**values, "nca": {"replicates": "mean"}}, "config.yaml"), tmp_path)
    assert both.observations["reportable"].astype(bool).all()


def test_several_patients_without_a_sample_each_keep_their_row(study: Path):
    path = study / "config" / "patients.csv"
    head = path.read_text().splitlines()[0]
    commas = "," * (head.count(",") - 1)
    path.write_text(path.read_text().rstrip("\n") + f"\nP08,DL1{commas}\nP09,DL1{commas}\n")
    made = ingest.run(chosen(study), study)
    rows = made.observations[made.observations["patient_id"].isin(["P08", "P09"])]
    assert sorted(set(rows["patient_id"])) == ["P08", "P09"] and not rows["reportable"].astype(bool).any()
    assert rows["exclusion_reason"].str.startswith("no sample").all()


def as_two_tables(study: Path) -> None:
    """The run of the study as Design & Analysis writes it: results, and apart from them the curve."""
    path = study / "data" / "raw" / "run01.txt"
    lines = path.read_text().split("[Results]\n")[1].splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=False)) for line in lines[1:]]
    head = "# File Name: RUN-01.eds\n# Software Name and Version: Design & Analysis 2.6.0\n\n"
    names = {"Sample Name": "Sample", "Target Name": "Target", "CT": "Cq"}
    for file, columns in (
        ("Results_1.csv", ["Well", "Well Position", "Omit", "Sample Name", "Target Name", "Task", "CT"]),
        (
            "Standard Curve Result_1.csv",
            ["Well", "Well Position", "Sample Name", "Target Name", "Task", "Quantity", "CT"],
        ),
    ):
        kept = [row for row in rows if row["Well"].isdigit() and (file < "S" or row["Task"] == "STANDARD")]
        table = [[names.get(c, c) for c in columns], *([row[c].replace(",", "") for c in columns] for row in kept)]
        (path.parent / file).write_text(head + "\n".join(",".join(row) for row in table) + "\n")
    path.unlink()


def test_standards_whose_quantities_stand_in_a_file_of_their_own_make_the_curve(study: Path):
    whole = ingest.run(chosen(study), study)
    as_two_tables(study)
    made = ingest.run(chosen(study), study)
    assert made.runs[["slope", "intercept", "accepted"]].to_numpy().tolist() == [
        pytest.approx(row) for row in whole.runs[["slope", "intercept", "accepted"]].to_numpy().tolist()
    ]
    assert made.observations["level"].tolist() == pytest.approx(whole.observations["level"].tolist(), nan_ok=True)
    aside = made.ingest[made.ingest["reason"].str.contains("the same well with the same value")]
    assert set(aside["source_file"]) == {"data/raw/Results_1.csv"}
    assert len(aside) == 12


# ----------------------------------------------------------------------------------- names that a manifest cannot spell


def renamed(study: Path, wanted: dict[str, str], exported: dict[str, str]) -> None:
    """Other sample ids in the manifest, and other names of the same samples in the export."""
    for path, names in (("config/samples.csv", wanted), ("data/raw/run01.txt", exported)):
        for old, new in names.items():
            text = (study / path).read_text()
            start = "\t" if path.endswith("txt") else "\n"
            end = "\t" if path.endswith("txt") else ","
            assert f"{start}{old}{end}" in text
            (study / path).write_text(text.replace(f"{start}{old}{end}", f"{start}{new}{end}"))


def test_a_name_with_blanks_and_slashes_joins_the_one_manifest_id_that_it_spells(study: Path):
    plain = ingest.run(chosen(study), study).observations
    renamed(study, {"S02": "P007-D1-1h", "S03": "P007_D3"}, {"S02": "P007 D1/1h", "S03": "P007 D3"})
    made = ingest.run(chosen(study), study)
    rows = made.observations.set_index("sample_id")["level"]
    assert rows[["P007-D1-1h", "P007_D3"]].tolist() == plain.set_index("sample_id")["level"][["S02", "S03"]].tolist()
    said = [w for w in made.warnings if "blanks and slashes alone" in w]
    assert said == [
        "Names of exports that differ from manifest ids in blanks and slashes alone are taken for them: "
        "'P007 D1/1h' for P007-D1-1h, 'P007 D3' for P007_D3."
    ]
    account = made.ingest[made.ingest["used"]]
    assert {"P007 D1/1h", "P007 D3"} <= set(account["sample_id"])


@pytest.mark.parametrize(
    ("wanted", "exported"),
    [
        ({"S02": "P007-D1", "S03": "P007_D1"}, {"S02": "P007 D1"}),
        ({"S02": "P007-D1"}, {"S02": "P007 D1", "S03": "P007-D1"}),
        ({"S02": "P007-D1"}, {"S02": "P007 D1", "S03": "P007/D1"}),
        ({"S02": "P007-D1"}, {"S02": "P007 D1+"}),
        ({"S02": "P007-D1"}, {"S02": "P007_D1"}),
    ],
    ids=["two ids", "the id itself", "two spellings", "another sign", "a name that an id could be"],
)
def test_a_name_that_could_be_another_sample_is_not_joined(
    study: Path, wanted: dict[str, str], exported: dict[str, str]
):
    renamed(study, wanted, exported)
    with pytest.raises(InputError, match=re.escape(f"found {exported['S02']!r}; expected a sample")):
        ingest.run(chosen(study), study)
