"""Manifest, verify, the trail of exclusions and the run log: what is changed afterwards is named."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from nkinetics import __version__, cli, ingest, provenance, settings
from nkinetics.errors import BAD_INPUT, DONE, GATE, InputError
from nkinetics.provenance import exclusions, manifest, run_log
from nkinetics.store import sha256_of, write_text


@pytest.fixture(scope="module")
def ingested(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled study, ingested, with the manifest of what that wrote."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(root / "config", folder / "config")
    shutil.copytree(root / "data", folder / "data")
    choices = settings.located(settings.load(folder / "config/config.yaml"), folder)
    results = folder / "results"
    ingest.write(ingest.run(choices, folder), results)
    write_text(results / "run_config.yaml", settings.as_yaml(choices))
    code = {"ingest": provenance.fingerprint("ingest")}
    made = manifest.build(results, choices, __version__, code=code, configuration_files=["config/config.yaml"])
    manifest.write(made, results)
    return folder


@pytest.fixture
def study(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to tamper with, as the current folder."""
    shutil.copytree(ingested, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def verify(study: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Exit status and lines of `nkinetics verify`."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        status = cli.main(["verify", *arguments])
        return status, capsys.readouterr().out.splitlines()

    return run


def differs(lines: list[str]) -> list[str]:
    return [line.removeprefix("differs: ") for line in lines if line.startswith("differs: ")]


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def changed_manifest(study: Path, change: Callable[[dict], None], *, sealed: bool = True) -> None:
    """Edit the manifest; with its seals, as one would who wants to hide it, or without."""
    path = study / "results" / manifest.FILE
    made = json.loads(path.read_text(encoding="utf-8"))
    change(made)
    if sealed:
        sections = {k: v for k, v in made.items() if k not in ("run", "seals")}
        made = {
            **sections,
            "run": manifest.run_digest(sections),
            "seals": {k: manifest.digest(v) for k, v in sections.items()},
        }
    path.write_text(manifest.text(made), encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ manifest


def test_the_manifest_names_every_input_and_output_and_no_clock_path_or_user(ingested: Path) -> None:
    text = (ingested / "results" / manifest.FILE).read_text(encoding="utf-8")
    made = json.loads(text)
    exports = {p.relative_to(ingested).as_posix() for p in (ingested / "data/raw").rglob("*") if p.is_file()}
    tables = {f"config/{n}.csv" for n in settings.INPUT_TABLES}
    assert set(made["inputs"]) == {e for e in exports if "README" not in e} | tables
    written = {p.relative_to(ingested / "results").as_posix() for p in (ingested / "results").rglob("*") if p.is_file()}
    assert set(made["outputs"]) == written - {manifest.FILE}
    assert made["outputs"]["observations.csv"] == sha256_of(ingested / "results/observations.csv")
    assert made["packages"]["pandas"] == pd.__version__ and made["study"] == "NCT07366658"
    assert made["configuration"]["assays"]["qpcr"]["lloq_copies"] == 10
    assert str(ingested) not in text and str(Path.home()) + "/" not in text
    assert manifest.text(json.loads(text)) == text


def test_the_manifest_does_not_depend_on_the_order_of_the_rows_of_a_table(study: Path) -> None:
    before = (study / "results" / manifest.FILE).read_bytes()
    path = study / "config/samples.csv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    choices = settings.load(study / "results/run_config.yaml")
    ingest.write(ingest.run(choices, study), study / "results")
    code = {"ingest": provenance.fingerprint("ingest")}
    files = ["config/config.yaml"]
    again = manifest.build(study / "results", choices, __version__, code=code, configuration_files=files)
    assert manifest.text(again).encode() == before


def test_a_configuration_outside_the_study_folder_leaves_its_name_only(study: Path) -> None:
    choices = settings.load(study / "results/run_config.yaml")
    outside = (study.parent / "elsewhere" / "other.yaml").as_posix()
    made = manifest.build(study / "results", choices, __version__, configuration_files=[outside, "../x/more.yaml"])
    assert made["configuration_files"] == [
        {"file": "other.yaml", "inside": False},
        {"file": "more.yaml", "inside": False},
    ]


def test_an_output_that_was_never_written_is_refused_by_name(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["manifest", "--results", "results", "--files", "results/observations.csv", "results/nca.csv"])
    assert status == BAD_INPUT
    assert "results/nca.csv: found no such file" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- verify


def test_an_untouched_run_is_clean(verify) -> None:
    status, lines = verify("--deep")
    assert (status, differs(lines)) == (DONE, [])
    assert "all as the manifest says" in lines[-1]


def test_one_changed_byte_of_an_export_is_named(study: Path, verify) -> None:
    path = study / "data/raw/ddpcr/NEUK203-13_ddPCR_01.csv"
    was = sha256_of(path)
    path.write_bytes(path.read_bytes().replace(b"No Call", b"No call", 1))
    status, lines = verify()
    name = "input data/raw/ddpcr/NEUK203-13_ddPCR_01.csv"
    assert status == GATE
    assert differs(lines) == [f"{name}: found sha256 {sha256_of(path)[:16]}; expected sha256 {was[:16]}"]


def test_a_changed_cell_of_a_table_of_the_study_is_named(study: Path, verify) -> None:
    edited(study / "config/patients.csv", "001,DL1", "001,DL2")
    (found,) = differs(verify()[1])
    assert found.startswith("input config/patients.csv: found sha256 ")


def test_a_lost_input_and_a_new_export_are_named(study: Path, verify) -> None:
    source = study / "data/raw/ddpcr/NEUK203-13_ddPCR_01.csv"
    source.rename(source.with_name("later.csv"))
    found = differs(verify()[1])
    assert found[0].startswith("input data/raw/ddpcr/NEUK203-13_ddPCR_01.csv: found no such file; expected sha256 ")
    assert found[1].startswith("input data/raw/ddpcr/later.csv: found an export that the run did not read")
    assert len(found) == 2


def test_one_changed_digit_of_a_result_is_named(study: Path, verify) -> None:
    path = study / "results/observations.csv"
    content = path.read_bytes()
    at = content.index(b"quantified") - 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    status, lines = verify()
    (found,) = differs(lines)
    assert status == GATE and found.startswith("output observations.csv: found sha256 ")


def test_a_lost_result_is_named(study: Path, verify) -> None:
    (study / "results/runs.csv").unlink()
    status, lines = verify()
    (found,) = differs(lines)
    assert status == GATE and found.startswith("output runs.csv: found no such file; expected sha256 ")


def test_a_file_that_no_rule_wrote_is_a_note_and_no_failure(study: Path, verify) -> None:
    (study / "results/mine.txt").write_text("notes of a reader")
    status, lines = verify()
    assert status == DONE
    assert "note: output mine.txt: found a file that no rule of the run wrote" in lines


def test_a_changed_key_of_the_configuration_is_named_with_both_values(study: Path, verify) -> None:
    edited(study / "config/config.yaml", "lloq_copies: 10 ", "lloq_copies: 12 ")
    (found,) = differs(verify()[1])
    assert found == "configuration assays.qpcr.lloq_copies of config/config.yaml: found 12.0; expected 10.0"


def test_an_edited_comment_of_the_configuration_is_no_finding(study: Path, verify) -> None:
    path = study / "config/config.yaml"
    path.write_text("# another comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert verify()[0] == DONE


def test_the_kept_configuration_is_compared_key_by_key_too(study: Path, verify) -> None:
    edited(study / "results/run_config.yaml", "lloq_copies: 10.0", "lloq_copies: 11.0")
    found = differs(verify()[1])
    assert any(f.startswith("output run_config.yaml") for f in found)
    assert any(f.endswith("of run_config.yaml: found 11.0; expected 10.0") for f in found)


def test_another_version_of_a_library_is_named_and_a_note_where_another_computer_checks(study: Path, verify) -> None:
    changed_manifest(study, lambda made: made["packages"].update(pandas="1.0.0"))
    status, lines = verify()
    assert (status, differs(lines)) == (GATE, [f"version pandas: found {pd.__version__}; expected 1.0.0"])
    status, lines = verify("--any-environment")
    assert status == DONE and f"note: version pandas: found {pd.__version__}; expected 1.0.0" in lines


def test_other_code_of_a_stage_is_named(study: Path, verify) -> None:
    changed_manifest(study, lambda made: made["code"].update(ingest="0" * 16))
    expected = f"code nkinetics ingest: found {provenance.fingerprint('ingest')}; expected {'0' * 16}"
    assert differs(verify()[1]) == [expected]


@pytest.mark.parametrize("section", ["inputs", "outputs", "packages", "configuration", "study"])
def test_an_edited_section_of_the_manifest_breaks_its_seal(study: Path, verify, section: str) -> None:
    def edit(made: dict) -> None:
        made[section] = {**made[section], "more": {}} if isinstance(made[section], dict) else "OTHER"

    changed_manifest(study, edit, sealed=False)
    found = differs(verify()[1])
    assert any(f.startswith(f"manifest section {section}: found another content") for f in found)


def test_a_changed_word_of_the_trail_of_exclusions_is_named_with_its_line(study: Path, verify) -> None:
    edited(study / "results" / exclusions.FILE, "replicate CV 32.1", "replicate CV 22.1")
    found = differs(verify()[1])
    (broken,) = [f for f in found if "line" in f]
    assert broken.endswith("found the content does not give its hash; expected the trail")
    assert any(f.startswith(f"output {exclusions.FILE}") for f in found)


def test_a_trail_cut_off_at_its_end_is_seen_by_its_head(study: Path, verify) -> None:
    path = study / "results" / exclusions.FILE
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    found = differs(verify()[1])
    assert f"exclusions {exclusions.FILE}: found {len(lines) - 1} entries; expected {len(lines)} entries" in found
    assert any(f.startswith(f"exclusions {exclusions.FILE} head") for f in found)


def test_deep_reads_the_exports_again_and_finds_a_result_that_its_manifest_covers_up(study: Path, verify) -> None:
    """Who edits a result and the manifest with all its seals is found by the exports alone."""
    path = study / "results/observation_sources.csv"
    edited(path, ",replicate\n", ",standard\n")
    changed_manifest(study, lambda made: made["outputs"].update({path.name: sha256_of(path)}))
    assert verify()[0] == DONE
    status, lines = verify("--deep")
    (found,) = differs(lines)
    assert status == GATE and found.startswith("content observation_sources.csv line ")


def test_without_a_manifest_the_folder_is_named_with_status_2(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--results", "config"]) == BAD_INPUT
    assert "config/run_manifest.json: found no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"), [("{", "no JSON"), ("[]", "found None"), ('{"schema_version": "9"}', "found '9'")]
)
def test_what_is_no_manifest_is_refused(study: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    (study / "results" / manifest.FILE).write_text(text)
    assert cli.main(["verify"]) == BAD_INPUT
    assert words in capsys.readouterr().err


def test_a_manifest_without_a_section_is_a_finding_and_no_crash(study: Path, verify) -> None:
    changed_manifest(study, lambda made: made.pop("outputs"), sealed=False)
    status, lines = verify()
    assert status == GATE and any("section outputs" in f for f in differs(lines))


def test_the_manifest_of_a_cut_names_the_cut_before_it(study: Path, verify) -> None:
    shutil.copytree(study / "results", study / "cuts/first")
    choices = settings.load(study / "results/run_config.yaml")
    later = choices.model_copy(update={"report": choices.report.model_copy(update={"previous": "cuts/first"})})
    made = manifest.build(study / "results", later, __version__)
    assert made["previous"]["inside"]
    assert made["previous"]["manifest_sha256"] == sha256_of(study / "cuts/first/run_manifest.json")
    assert made["run"] != json.loads((study / "cuts/first/run_manifest.json").read_text())["run"]
    write_text(study / "results/run_config.yaml", settings.as_yaml(later))
    manifest.write(manifest.build(study / "results", later, __version__), study / "results")
    assert verify()[0] == DONE
    edited(study / "cuts/first/run_manifest.json", '"study": "NCT07366658"', '"study": "NCT00000000"')
    (found,) = differs(verify()[1])
    assert found.startswith("previous cuts/first: found sha256 ")


def test_an_earlier_cut_outside_the_study_folder_leaves_its_name_only_and_is_not_taken_for_another(
    study: Path, verify, tmp_path: Path
) -> None:
    """Its folder is called results, as this one is."""
    shutil.copytree(study / "results", tmp_path / "earlier" / "results")
    choices = settings.load(study / "results/run_config.yaml")
    shown = choices.report.model_copy(update={"previous": (tmp_path / "earlier" / "results").as_posix()})
    made = manifest.build(study / "results", choices.model_copy(update={"report": shown}), __version__)
    assert (made["previous"]["folder"], made["previous"]["inside"]) == ("results", False)
    assert [f.note for f in manifest._previous(made["previous"], study)] == [True]


# ---------------------------------------------------------------------------------------------------------- exclusions


@pytest.fixture(scope="module")
def trail(ingested: Path) -> list[dict]:
    return manifest.read_trail(ingested / "results")


def test_every_result_that_is_not_analysed_and_every_row_set_aside_stands_in_the_trail(
    ingested: Path, trail: list[dict]
) -> None:
    observed = pd.read_csv(ingested / "results/observations.csv", dtype=str, keep_default_na=False)
    left = observed[
        (observed["reportable"] == "false") & ~((observed["status"] == "not_done") & (observed["sample_id"] == ""))
    ]
    assert {e["observation_id"] for e in trail if e["kind"] == "result"} == set(left["observation_id"])
    raw = pd.read_csv(ingested / "results/ingest.csv", dtype=str, keep_default_na=False)
    aside = raw[(raw["used"] == "false") & (raw["source_row"] != "")]
    rows = aside[["source_file", "source_row", "reason"]].drop_duplicates()
    assert sum(e["n"] for e in trail if e["kind"] == "rows") == len(rows)
    runs = pd.read_csv(ingested / "results/runs.csv", dtype=str, keep_default_na=False)
    refused = runs[runs["accepted"] != "true"]
    assert sorted(e["run_id"] for e in trail if e["kind"] == "run") == sorted(refused["run_id"])
    assert all(e["reason"] for e in trail)


def test_the_trail_says_who_decided(trail: list[dict]) -> None:
    who = {(e["decided_by"], e["by"]) for e in trail}
    assert ("operator", "the instrument software") in who
    assert ("configuration", "inputs.ignore_samples") in who
    assert ("rule", "assays.qpcr.acceptance") in who
    assert ("configuration", "study.data_cut") in who or ("laboratory", "samples.csv") in who


def test_points_of_a_fit_chosen_by_hand_are_a_decision_of_the_configuration(ingested: Path) -> None:
    choices = settings.load(ingested / "results/run_config.yaml")
    point = settings.ManualPoints(patient_id="001", assay="qpcr", exclude=(20.0,), reason="infection on that day")
    chosen = choices.nca.model_copy(update={"lambda_z": choices.nca.lambda_z.model_copy(update={"manual": (point,)})})
    made = ingest.run(choices, ingested)
    with_point = replace(made, settings=choices.model_copy(update={"nca": chosen}))
    entries = exclusions.entries(made.ingest, made.runs, made.observations, with_point.settings)
    (one,) = [e for e in entries if e["kind"] == "points"]
    assert (one["decided_by"], one["by"]) == ("configuration", "nca.lambda_z.manual")
    assert (one["patient_id"], one["excluded"], one["reason"]) == ("001", [20.0], "infection on that day")


def test_words_by_which_a_decision_is_told_are_words_that_a_stage_writes(root: Path) -> None:
    """A reason that is reworded would lose its decider in silence."""
    package = root / "workflow/nkinetics"
    text = "".join(p.read_text(encoding="utf-8") for p in package.rglob("*.py") if p.parent.name != "provenance")
    assert [words for words, _, _ in exclusions.DECIDED if words not in text] == []


@pytest.mark.parametrize("line", [0, 3, -1])
def test_any_changed_removed_or_moved_entry_breaks_the_trail_at_its_place(trail: list[dict], line: int) -> None:
    at = line % len(trail)
    assert exclusions.broken(trail) == []
    changed = [dict(e) for e in trail]
    changed[at]["reason"] += "!"
    assert [n for n, _ in exclusions.broken(changed)] == [at + 1]
    if at < len(trail) - 1:
        assert exclusions.broken(trail[:at] + trail[at + 1 :])[0][0] == at + 1
        swapped = [*trail[:at], trail[at + 1], trail[at], *trail[at + 2 :]]
        assert exclusions.broken(swapped)[0][0] == at + 1


def test_the_trail_is_the_same_bytes_whatever_the_order_of_rows(ingested: Path) -> None:
    choices = settings.load(ingested / "results/run_config.yaml")
    made = ingest.run(choices, ingested)
    turned = [frame.iloc[::-1] for frame in (made.ingest, made.runs, made.observations)]
    text = exclusions.text(exclusions.sealed(exclusions.entries(*turned, choices)))
    assert text == (ingested / "results" / exclusions.FILE).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------- run log


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / run_log.FILE).read_text(encoding="utf-8").splitlines()]


def test_each_run_has_one_line_and_a_killed_one_gets_its_line_at_the_next_start(tmp_path: Path) -> None:
    log = tmp_path / "snakemake.log"
    log.write_text("3 of 7 steps (43%) done\n7 of 7 steps (100%) done\n")
    run_log.begin(tmp_path, {"study": "S"})
    run_log.end(tmp_path, "done", log)
    run_log.begin(tmp_path, {"study": "S"})  # killed
    run_log.begin(tmp_path, {"study": "S"})
    run_log.end(tmp_path, "failed", None)
    lines = lines_of(tmp_path)
    assert [line["outcome"] for line in lines] == ["done", "killed", "failed"]
    assert lines[0]["jobs"] == {"finished": 7, "planned": 7} and lines[1]["ended"] is None
    assert all(line["begun"] and line["study"] == "S" for line in lines)
    assert not (tmp_path / run_log.UNFINISHED).exists()


def test_a_program_that_is_not_installed_cannot_tell_its_versions_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def absent(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    provenance.packages.cache_clear()
    monkeypatch.setattr(metadata, "requires", absent)
    with pytest.raises(InputError, match="a copy that is not installed"):
        provenance.packages()
    provenance.packages.cache_clear()


# --------------------------------------------------------------------------------------------------------------- crate


@pytest.fixture
def crate(study: Path, tmp_path: Path) -> Path:
    assert cli.main(["crate", "--output", str(tmp_path / "crate.zip")]) == DONE
    return tmp_path / "crate.zip"


def test_a_crate_read_back_is_a_process_run_with_its_inputs_choices_and_results(study: Path, crate: Path) -> None:
    from rocrate.rocrate import ROCrate

    read = ROCrate(str(crate))
    assert read.root_dataset["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    (action,) = read.get_by_type("CreateAction")
    assert read.root_dataset["mentions"].id == action.id
    made = manifest.read(study / "results")
    assert {e.id for e in action["result"]} == {f"results/{n}" for n in [*made["outputs"], manifest.FILE]}
    given = {e.id for e in action["object"] if e.type == "File"}
    assert given == {*made["inputs"], "config/config.yaml"}
    choices = {e["name"]: e["value"] for e in action["object"] if e.type == "PropertyValue"}
    assert choices["assays.qpcr.lloq_copies"] == "10.0" and choices["blq.middle"] == '"drop"'
    assert action["instrument"]["version"] == __version__
    libraries = {e["name"]: e["version"] for e in action["instrument"]["softwareRequirements"]}
    assert libraries["pandas"] == pd.__version__
    assert "ask the sponsor" in read.root_dataset["license"]["description"]
    assert read.root_dataset["datePublished"] == "2026-10-31"
    result = read.dereference("results/observations.csv")
    assert result["sha256"] == sha256_of(study / "results/observations.csv")


def test_a_crate_unpacked_is_a_study_folder_in_which_verify_is_clean(
    crate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(crate) as archive:
        archive.extractall(tmp_path / "unpacked")
    monkeypatch.chdir(tmp_path / "unpacked")
    assert cli.main(["verify", "--deep"]) == DONE
    assert "all as the manifest says" in capsys.readouterr().out


def test_a_crate_is_the_same_bytes_twice_and_holds_no_clock(study: Path, crate: Path, tmp_path: Path) -> None:
    assert cli.main(["crate", "--output", str(tmp_path / "again.zip")]) == DONE
    assert (tmp_path / "again.zip").read_bytes() == crate.read_bytes()
    with zipfile.ZipFile(crate) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2026, 10, 31, 0, 0, 0)}


def test_a_crate_of_tampered_results_is_refused_with_the_file(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(study / "results/runs.csv", "accepted", "Accepted")
    assert cli.main(["crate", "--output", str(tmp_path / "crate.zip")]) == BAD_INPUT
    assert "runs.csv: found sha256" in capsys.readouterr().err
    assert not (tmp_path / "crate.zip").exists()


@pytest.mark.parametrize(
    ("given", "found"), [(None, "no date"), ("31.10.2026", "'31.10.2026'"), ("1970-01-01", "'1970")]
)
def test_a_crate_without_a_date_is_refused(given: str | None, found: str) -> None:
    from nkinetics.provenance.crate import date_of

    with pytest.raises(InputError, match=f"--date: found {found}"):
        date_of({"data_cut": None}, given)
