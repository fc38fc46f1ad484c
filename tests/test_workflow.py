"""The main job as its user runs it: snakemake in a study folder, from raw exports to the report."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from nkinetics import optional, plugins


def snakemake(
    root: Path, folder: Path, *arguments: str, cores: int = 2, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(root / "profiles/default"), "--cores", str(cores), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, **environment})


def run(root: Path, folder: Path, *arguments: str, cores: int = 2, **environment: str) -> str:
    done = snakemake(root, folder, *arguments, cores=cores, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


ON_SCREEN = "report: {pdf: false, rtf: false}"
"""The bundled study without its PDF and RTF, which cost as much as all the rest; one long test makes them."""


def study_copy(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "config", folder / "config")
    shutil.copytree(root / "data", folder / "data")
    return folder


def without_paper(folder: Path) -> None:
    path = folder / "config/config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + f"\n{ON_SCREEN}\n", encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def jobs(output: str) -> dict[str, int]:
    """Jobs by rule from snakemake's table of job statistics."""
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", output, flags=re.M)}


@pytest.fixture(scope="module")
def bundled(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled study, run whole on two cores in a folder of its own."""
    folder = study_copy(root, tmp_path_factory.mktemp("bundled"))
    without_paper(folder)
    run(root, folder)
    return folder


def test_plain_snakemake_plans_the_whole_job(root: Path, tmp_path: Path) -> None:
    """Without its second line the root Snakefile would say "Nothing to be done" and exit 0."""
    study_copy(root, tmp_path)
    planned = jobs(run(root, tmp_path, "--dry-run"))
    assert planned["all"] == planned["ingest"] == planned["population"] == planned["report"] == 1
    assert "population_full" not in planned, "every candidate by both methods takes minutes: on request only"


def test_snakemake_looks_for_work_when_a_job_ends_and_not_every_second(root: Path, tmp_path: Path) -> None:
    study = study_copy(root, tmp_path / "study")
    output = run(root, study, "--verbose", "results/fits.csv", cores=1)
    # One batch waits for the other for seconds; with snakemake's default limit of jobs there would be a pass in each.
    assert output.count("Finished jobid") == 4
    assert output.count("Ready jobs:") == 4


def test_lint_leaves_no_complaint_unanswered(root: Path) -> None:
    done = subprocess.run([sys.executable, ".ci/snakemake-lint"], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bundled_study_gives_every_file_of_the_contract(bundled: Path) -> None:
    made = set(tree(bundled / "results"))
    expected = {f"{t}.csv" for t in ("ingest", "runs", "observations", "observation_sources", "nca", "nca_points")}
    expected |= {f"{t}.csv" for t in ("fits", "estimates", "predictions", "persistence")}
    expected |= {f"population_{t}.csv" for t in ("predictions", "points", "traces", "draws", "vpc", "comparison")}
    expected |= {"population.csv", "individuals.csv", "population_fit.json"}
    expected |= {f"{t}.csv" for t in ("model_averages", "likelihood_profiles", "constant_sensitivity")}
    expected |= {
        f"{t}.csv" for t in ("blq_sensitivity", "persistence_patients", "persistence_turnbull", "detectability")
    }
    expected |= {f"{t}.csv" for t in ("dose_proportionality", "assay_agreement", "exposure_response")}
    expected |= {f"{t}.csv" for t in ("population", "population_forecast", "individual_forecast_curves")}
    expected |= {"tables.xlsx"}
    expected |= {"report.html", "run_config.yaml", "batches/00.csv", "batches/01.csv"}
    expected |= {"run_manifest.json", "exclusions.jsonl"}
    expected |= {f"tables/{n}.csv" for n in plugins.names("tables")}
    expected |= {f"figures/{n}.{e}" for n in plugins.names("figures") for e in ("svg", "png")}
    assert expected <= made
    assert not [name for name in made if ".part" in name], "no temporary file stays"


@pytest.mark.long
def test_the_paper_and_the_rtf_are_made_where_this_machine_can(root: Path, tmp_path: Path) -> None:
    run(root, study_copy(root, tmp_path))
    made = set(tree(tmp_path / "results"))
    assert ({"report.pdf", "brief.pdf"} <= made) == (not optional.pdf_lacks())
    assert ("tables.rtf" in made) == (not optional.rtf_lacks())
    assert "Nothing to be done" in run(root, tmp_path)


def test_a_second_run_has_nothing_to_do(root: Path, bundled: Path) -> None:
    assert "Nothing to be done" in run(root, bundled)


PAGE = "results/report.html"
"""Target of the tests that need no paper: the PDF costs as much as all the rest."""

# The other end of the world, a system that knows ASCII only, sets in another order.
ELSEWHERE = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_bytes_do_not_depend_on_cores_folder_order_of_rows_and_files_time_zone_or_locale(
    root: Path, bundled: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    exports = sorted(p for p in (root / "data").rglob("*") if p.is_file())
    random.Random(1).shuffle(exports)  # the order in which a folder lists its files is that of their making
    for path in exports:
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    without_paper(tmp_path)
    for path in sorted((tmp_path / "config").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            header, *rows = list(csv.reader(handle))
        random.Random(path.name).shuffle(rows)
        with path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, lineterminator="\n").writerows([header, *rows])
    run(root, tmp_path, cores=1, **ELSEWHERE, PYTHONHASHSEED="7")
    first, second = tree(bundled / "results"), tree(tmp_path / "results")
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_the_operators_view_holds_every_item_with_its_caption(root: Path, bundled: Path, tmp_path: Path) -> None:
    run(root, bundled, "--report", str(tmp_path / "operator.zip"))
    with zipfile.ZipFile(tmp_path / "operator.zip") as packed:
        names = packed.namelist()
        text = "\n".join(packed.read(n).decode("utf-8") for n in names if n.endswith((".html", ".js")))
        held = {Path(n).name for n in names} | set(re.findall(r"results/(?:\w+/)?(\w+\.\w+)", text))
    assert {f"{n}.csv" for n in plugins.names("tables")} <= held
    assert {f"{n}.svg" for n in plugins.names("figures")} <= held
    assert {"report.html", "tables.xlsx"} <= held
    assert "Table of study NCT07366658, data cut 2026-10-31" in text


def test_a_machine_without_pango_plans_everything_but_the_pdf(root: Path, tmp_path: Path) -> None:
    study_copy(root, tmp_path)
    code = (
        "import sys; from nkinetics import optional; optional.PANGO = ('libnothing.so.9',); "
        "from snakemake.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "--snakefile", str(root / "Snakefile"), "--dry-run"]
    command += ["--directory", str(tmp_path), "--profile", str(root / "profiles/default"), "--cores", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    planned = jobs(done.stdout + done.stderr)
    assert planned["report"] == planned["tables"] == 1 and "pdf" not in planned


def test_rows_read_are_rows_used_and_rows_set_aside_with_a_reason(root: Path, bundled: Path) -> None:
    account = pd.read_csv(bundled / "results/ingest.csv", dtype=str, keep_default_na=False)
    exports = {p.relative_to(bundled).as_posix() for p in (bundled / "data/raw").rglob("*") if p.is_file()}
    exports = {p for p in exports if not Path(p).name.startswith("README")}
    assert set(account["source_file"]) == exports
    assert set(account["used"]) == {"true", "false"}
    aside = account[account["used"] == "false"]
    assert (aside["reason"] != "").all()
    used = account[account["used"] == "true"]
    assert (used["reason"] == "").all()
    assert not account.duplicated(["source_file", "source_row", "target"]).any()


def test_verify_finds_the_run_clean_and_every_file_named(bundled: Path) -> None:
    command = [sys.executable, "-m", "nkinetics", "verify", "--deep"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=bundled)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert "all as the manifest says" in line, "no note either: no file that the manifest does not name"
    made = json.loads((bundled / "results/run_manifest.json").read_text(encoding="utf-8"))
    assert {"ingest", "nca", "fit", "population", "report", "manifest"} <= set(made["code"])
    assert made["configuration_files"] == [{"file": "config/config.yaml", "inside": True}]
    assert f"<code>{made['run']}</code>" in (bundled / "results/report.html").read_text(encoding="utf-8")


def test_each_run_leaves_a_line_with_its_outcome_apart_from_the_results(bundled: Path) -> None:
    lines = [json.loads(line) for line in (bundled / "logs/runs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["outcome"] == "done" and lines[0]["begun"] <= lines[0]["ended"]
    assert lines[0]["jobs"]["finished"] == lines[0]["jobs"]["planned"] > 10
    assert lines[0]["versions"]["snakemake"] and lines[0]["study"] == "NCT07366658"


@pytest.mark.long
def test_an_earlier_cut_that_the_configuration_names_is_compared_and_stands_in_the_report(
    root: Path, bundled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    shutil.copytree(folder / "results", folder / "cuts/first")
    config = folder / "config/config.yaml"
    plain = config.read_text(encoding="utf-8")
    named = ON_SCREEN.replace("{", "{previous: cuts/first, ")
    config.write_text(plain.replace(ON_SCREEN, named), encoding="utf-8")
    path = folder / "config/samples.csv"
    text = path.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("001-D10,"))
    path.write_text(text.replace(row, row.replace(",200,", ",180,", 1)), encoding="utf-8")
    assert ",200," in row
    assert jobs(run(root, folder, "--dry-run"))["changes"] == 1
    run(root, folder)
    found = pd.read_csv(folder / "results/changes.csv", dtype=str, keep_default_na=False)
    edited = found[(found["part"] == "samples") & (found["item"] == "001-D10 level") & (found["assay"] == "qpcr")]
    assert len(edited) == 1 and float(edited["relative_change"].iloc[0]) == pytest.approx(200 / 180 - 1, rel=1e-6)
    assert "Since the data cut of 2026-10-31" in (folder / "results/report.html").read_text(encoding="utf-8")
    verified = [sys.executable, "-m", "nkinetics", "verify"]
    assert subprocess.run(verified, cwd=folder).returncode == 0
    # The earlier cut is named no longer: its comparison goes too.
    config.write_text(plain, encoding="utf-8")
    run(root, folder)
    assert not (folder / "results/changes.csv").exists()
    assert subprocess.run(verified, cwd=folder).returncode == 0


def test_an_earlier_cut_that_is_not_there_stops_the_run_before_it_begins(root: Path, tmp_path: Path) -> None:
    study_copy(root, tmp_path)
    path = tmp_path / "config/config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nreport: {previous: cuts/gone}\n", encoding="utf-8")
    done = snakemake(root, tmp_path, "--dry-run")
    assert done.returncode != 0 and "cuts/gone: found no such folder" in done.stdout + done.stderr


def test_no_patient_drops_out(bundled: Path) -> None:
    patients = pd.read_csv(bundled / "config/patients.csv", dtype=str)["patient_id"]
    for name in ("observations", "nca", "fits"):
        frame = pd.read_csv(bundled / f"results/{name}.csv", dtype=str, keep_default_na=False)
        assert set(frame["patient_id"]) == set(patients), name
    nca = pd.read_csv(bundled / "results/nca.csv", dtype=str, keep_default_na=False)
    assert (nca.loc[nca["value"] == "", "reason"] != "").all()
    html = (bundled / "results/report.html").read_text(encoding="utf-8")
    for patient in patients:
        assert f'data-patient-id="{patient}"' in html


def test_results_name_no_folder_and_no_clock(root: Path, bundled: Path) -> None:
    for name, content in tree(bundled / "results").items():
        parts = [content]
        if name.endswith(".xlsx"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                parts = [packed.read(part) for part in packed.namelist()]
        for folder in (bundled, root):
            assert not [1 for part in parts if str(folder).encode() in part], name


def test_a_changed_sample_runs_its_batch_only_and_an_edited_comment_nothing(
    root: Path, bundled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    config = folder / "config/config.yaml"
    config.write_text("# an edited comment\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
    assert "Nothing to be done" in run(root, folder)
    batch = {b: set(pd.read_csv(folder / f"results/batches/{b}.csv", dtype=str)["patient_id"]) for b in ("00", "01")}
    assert batch["00"] and batch["01"] and not batch["00"] & batch["01"]
    patient = min(batch["00"])
    path = folder / "config/samples.csv"
    samples = pd.read_csv(path, dtype=str, keep_default_na=False)
    row = samples.index[(samples["patient_id"] == patient) & (samples["ng_input"] != "")][0]
    samples.loc[row, "ng_input"] = str(float(samples.loc[row, "ng_input"]) * 0.9)
    samples.to_csv(path, index=False)
    output = run(root, folder, "results/nca.csv", "results/fits.csv")
    ran = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", output, flags=re.M)
    assert ran.count("ingest") == 1
    assert ran.count("nca") == 1 and ran.count("fit") == 1, "the batch of the other patients stays"
    assert {"population", "persistence", "tables", "figures", "report"} <= jobs(run(root, folder, "--dry-run")).keys()


ITEMS = {"tables", "figures", "other_figures", "report"}
CHANGES = {
    "report: {language: zh}": ITEMS,
    "prediction: {patients: 4}": {"predict"} | ITEMS,
    "statistics: {confidence: 0.9}": {"persistence", "statistics"} | ITEMS,
    "population: {seeds: 2}": {"population", "predict"} | ITEMS,
}
"""A setting of one section, and the rules that it runs again."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_runs_the_stages_that_use_it_and_the_plan_says_why(
    root: Path, bundled: Path, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    path = folder / "config/config.yaml"
    text = path.read_text(encoding="utf-8")
    zh = ON_SCREEN.replace("{", "{language: zh, ")
    edited = text.replace(ON_SCREEN, zh) if change.startswith("report:") else f"{text}\n{change}\n"
    path.write_text(edited, encoding="utf-8")
    plan = run(root, folder, "--dry-run", PAGE)
    assert set(jobs(plan)) - {"total"} == CHANGES[change]
    reasons = dict(re.findall(r"^rule (\w+):\n(?:    (?!reason).*\n)*    reason: (.*)$", plan, flags=re.M))
    assert CHANGES[change] <= reasons.keys()
    first = {rule for rule in CHANGES[change] if "Params have changed since last execution" in reasons[rule]}
    assert first and all("Input files updated by another job" in reasons[rule] for rule in CHANGES[change] - first)


def test_estimates_of_the_population_stay_where_the_configuration_says_so(
    root: Path, bundled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    path = folder / "config/config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\npopulation: {{refit: false}}\n", encoding="utf-8")
    assert "population" not in jobs(run(root, folder, "--dry-run", PAGE)), "the choice itself changes no estimate"
    assert "population" in jobs(run(root, folder, "--dry-run", "--forcerun", "population", "--", PAGE))
    text = text.replace('data_cut: "2026-10-31"', 'data_cut: "2026-09-30"')
    path.write_text(text, encoding="utf-8")
    assert {"ingest", "population", "predict"} <= jobs(run(root, folder, "--dry-run", PAGE)).keys()
    path.write_text(f"{text}\npopulation: {{refit: false}}\n", encoding="utf-8")
    kept = jobs(run(root, folder, "--dry-run", PAGE)).keys()
    assert {"ingest", "predict", "report"} <= kept and "population" not in kept


def test_what_an_interrupted_job_was_to_make_again_is_made_again(root: Path, bundled: Path, tmp_path: Path) -> None:
    """Such a job has lost its files and their record; what was made from the old ones still stands below them."""
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    for name in ("parts/00/fits.csv", "parts/01/nca.csv", "population.csv", "persistence.csv"):
        (folder / "results" / name).unlink()
    planned = jobs(run(root, folder, "--dry-run"))
    assert planned["fit"] == planned["nca"] == planned["population"] == planned["persistence"] == 1
    assert ITEMS <= planned.keys()


@pytest.mark.long
def test_a_new_export_of_one_patient_runs_the_batch_of_that_patient_only(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "tests/data/small", tmp_path, dirs_exist_ok=True)
    targets = ("results/nca.csv", "results/fits.csv")
    run(root, tmp_path, *targets)
    before = tree(tmp_path / "results/parts")
    first = (tmp_path / "data/raw/run01.txt").read_text(encoding="utf-8")
    second = "\n".join(line for line in first.splitlines() if not re.search(r"\tS0[1-4]\t", line)) + "\n"
    second = second.replace("RUN-01", "RUN-02").replace("\tS05\t", "\tS07\t")
    (tmp_path / "data/raw/run02.txt").write_text(second, encoding="utf-8")
    with (tmp_path / "config/samples.csv").open("a", encoding="utf-8") as handle:
        handle.write("S07,P002,blood,D7,7,2026-04-09T09:30,50,,\n")
    output = run(root, tmp_path, *targets)
    ran = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", output, flags=re.M)
    assert {rule: ran.count(rule) for rule in ran} == {
        "ingest": 1,
        "nca": 1,
        "fit": 1,
        "gather_nca": 1,
        "gather_fits": 1,
    }
    after = tree(tmp_path / "results/parts")
    observed = pd.read_csv(tmp_path / "results/batches/01.csv", dtype=str)
    assert "S07" in set(observed["sample_id"])
    assert {name[:2] for name in after if after[name] != before[name]} == {"01"}


def test_a_misspelt_key_stops_the_run_with_its_line_and_the_nearest_key(root: Path, tmp_path: Path) -> None:
    study_copy(root, tmp_path)
    path = tmp_path / "config/config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nreprot: {}\n", encoding="utf-8")
    done = snakemake(root, tmp_path, "--dry-run")
    assert done.returncode != 0
    assert "config.yaml, row" in done.stdout + done.stderr
    assert "did you mean report?" in done.stdout + done.stderr


def test_an_unreadable_export_is_named_and_does_not_block_the_others(root: Path, bundled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    (folder / "data/raw/empty.txt").write_text("")
    output = run(root, folder, PAGE)
    account = pd.read_csv(folder / "results/ingest.csv", dtype=str, keep_default_na=False)
    row = account[account["source_file"] == "data/raw/empty.txt"]
    assert len(row) == 1 and "empty" in row["reason"].iloc[0]
    assert "empty.txt" in (folder / "results/report.html").read_text(encoding="utf-8")
    assert "data/raw/empty.txt" in output, "said on the terminal, at the end"
    by_hand = subprocess.run([sys.executable, "-m", "nkinetics", "check"], capture_output=True, text=True, cwd=folder)
    assert by_hand.returncode == 2 and "data/raw/empty.txt" in by_hand.stderr


def test_after_a_failed_run_no_old_report_passes_for_the_new_one(root: Path, bundled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder, symlinks=True)
    path = folder / "config/samples.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("001-D1-PRE,001", "001-D1-PRE,01", 1), encoding="utf-8")
    done = snakemake(root, folder)
    assert done.returncode != 0 and "config/samples.csv, row" in done.stdout + done.stderr
    assert not (folder / "results/report.html").exists()
    assert (folder / "results/report.outdated.html").exists()
    path.write_text(text, encoding="utf-8")
    output = run(root, folder)
    ran = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", output, flags=re.M))
    assert ran <= {"ingest", "tables", "report", "manifest", "all"}, "a typo costs its reading, and no estimate"
    assert tree(folder / "results") == tree(bundled / "results")


LISTINGS = {
    "hahnel": (
        "kinetics/hahnel/biExport.csv",
        {
            "match": "*biExport.csv",
            "columns": {"patient_id": "ID", "time_actual": "TIME", "level": "DV", "lloq": "LLOQ", "dose": "AMT"},
            "time_unit": "month",
            "time_zero": "column",
            "level_unit": "%",
            "quantity": "level",
            "lloq": 0.001,
            "censored": {"column": "CENS", "value": 1},
        },
        21,
    ),
    "ct_trajectories": (
        "kinetics/ct_trajectories/ct_dat_refined.csv",
        {
            "match": "*ct_dat_refined.csv",
            "columns": {"patient_id": "PersonID", "time_actual": "TestDateIndex", "level": "CtT1"},
            "time_unit": "day",
            "time_zero": "first_row",
            "level_unit": "copies/mL",
            "quantity": "ct",
            "curve": {"slope": -3.609714286, "intercept": 40.93733333},
            "censored": {"ct_at_least": 40},
        },
        173,
    ),
}


@pytest.mark.shared
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LISTINGS))
def test_a_real_listing_runs_whole_to_the_report(root: Path, shared: Path, tmp_path: Path, name: str) -> None:
    source, mapping, n_patients = LISTINGS[name]
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "config").mkdir()
    shutil.copy(shared / source, tmp_path / "data/raw")
    models = {"default": "decay", "candidates": ["decay"]}
    inputs = {"patients": None, "samples": None, "infusions": None}
    values = {"study": {"id": name}, "inputs": inputs, "generic": [mapping], "models": models, "report": {"pdf": False}}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(values))
    run(root, tmp_path)
    for table in ("observations", "nca", "fits"):
        frame = pd.read_csv(tmp_path / f"results/{table}.csv", dtype=str, keep_default_na=False)
        assert frame["patient_id"].nunique() == n_patients, table
    account = pd.read_csv(tmp_path / "results/ingest.csv", dtype=str, keep_default_na=False)
    with (tmp_path / "data/raw" / Path(source).name).open() as handle:
        assert len(account) == sum(1 for _ in handle) - 1
    html = (tmp_path / "results/report.html").read_text(encoding="utf-8")
    assert html.count("data-patient-id=") == n_patients
