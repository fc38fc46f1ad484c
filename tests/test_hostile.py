"""What a study must never do: run what somebody typed, or carry a person's data on. Through the commands themselves."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nkinetics import cli
from nkinetics.errors import BAD_INPUT

RUNS = "window.taken = 1; document.title = 'taken'"
HOSTILE = {
    "picture": f'<img src=x onerror="{RUNS}">',
    "script": f"</script><script>{RUNS}</script>",
    "style": f'</style></svg></title><svg onload="{RUNS}">',
    "mathematics": "$x_{\\frac{1}{0}}$ {{ 7*7 }} {% raw %}",
    "formula": '=HYPERLINK("https://example.org/?"&A1,"click")',
    "right_to_left": "ab\u202ecd\u2066ef\u200f",
    "null": "a\x00b",
    "control": "a\x1b[2Jb\x07",
    "long": "A" * 5000,
}
STUDY = "results/study"
UNSEEN = ["null", "control", "right_to_left"]
CARRIED = {
    "markup": "".join(HOSTILE[name] for name in ("picture", "script", "style", "mathematics")),
    "formula": HOSTILE["formula"],
    "long": HOSTILE["long"],
}


@pytest.fixture
def study(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study small enough to check by hand, as the folder in which the commands run."""
    shutil.copytree(root / "tests" / "data" / "small", tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From exports to the report, one command after the other; what they say goes to logs/."""
    made = f"results/observations.csv --infusions {STUDY}/infusions.csv --patients {STUDY}/patients.csv"
    commands = (
        "ingest --config config/config.yaml --output-dir results",
        f"nca --observations {made} --output results/nca.csv --points results/nca_points.csv",
        f"fit --observations {made} --models decay --output-dir results",
        f"persistence --nca results/nca.csv --observations {made} --output results/persistence.csv",
        f"statistics --nca results/nca.csv --observations {made} --events {STUDY}/events.csv --output-dir results",
        "table all --results results --config config/config.yaml --output-dir results/tables",
        "figure all --results results --config config/config.yaml --output-dir results/figures",
        "report --results results --config config/config.yaml",
    )
    (study / "logs").mkdir()
    for i, command in enumerate(commands):
        status = cli.main(command.split())
        said = capsys.readouterr()
        (study / "logs" / f"{i}.log").write_text(said.out + said.err, encoding="utf-8")
        assert status == 0, command + "\n" + said.err


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize(
    ("file", "old"), [("patients", "007,"), ("samples", "S01,"), ("infusions", "007,"), ("events", "007,")]
)
def test_an_identifier_that_could_be_code_is_refused_with_its_row(
    name: str, file: str, old: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study / "config" / f"{file}.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, cell(HOSTILE[name]) + ",", 1), encoding="utf-8")
    assert cli.main("ingest --config config/config.yaml --output-dir results".split()) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"config/{file}.csv" in said
    assert "\x1b" not in said and "\x00" not in said and "\u202e" not in said, "and does nothing to the terminal"
    assert not (study / "results" / "observations.csv").exists()


def hurt(study: Path, text: str) -> None:
    """The text in every place that takes free text."""
    config, said = study / "config", json.dumps(text)  # JSON is YAML
    changed(config / "config.yaml", "  time_zone:", f"  product: {said}\n  notice: {said}\n  time_zone:")
    changed(config / "config.yaml", "  title: A study small enough to check by hand", f"  title: {said}")
    changed(config / "config.yaml", "inputs:\n", "inputs:\n  comments: true\n")
    with (config / "config.yaml").open("a", encoding="utf-8") as handle:
        handle.write(f"report:\n  footnotes: {{T-CK-05: [{said}], F-CK-01: [{said}]}}\n")
        handle.write(f"  titles: {{T-CK-04: {said}, F-CK-02: {said}}}\n")
    changed(config / "samples.csv", "few cells", cell(text))
    changed(config / "samples.csv", "D3 pre-dose", cell(text))
    changed(config / "events.csv", "8 mg/kg", cell(text))
    changed(config / "patients.csv", "cohort\n", "cohort,indication,best_response\n")
    changed(config / "patients.csv", "escalation\n", f"escalation,{cell(text)},{cell(text)}\n")


@pytest.mark.parametrize("name", ["markup", *(pytest.param(n, marks=pytest.mark.long) for n in ("formula", "long"))])
def test_free_text_is_refused_or_shown_and_never_run(
    name: str, study: Path, opened: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CARRIED[name]
    hurt(study, text)
    run(study, capsys)
    report = study / "results" / "report.html"
    seen = opened(report)
    seen.page.wait_for_load_state("networkidle")
    assert seen.requests == [report.as_uri()] and seen.dialogs == [] and seen.complaints == []
    assert seen.page.evaluate("window.taken") is None
    assert seen.page.locator("img, iframe, object, embed").count() == 0
    assert seen.page.locator("script").count() == 1 and seen.page.locator("[onload], [onerror]").count() == 0
    assert text in seen.page.locator("h1").text_content(), "shown as it was typed"
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1280
    for path in sorted(study.glob("results/figures/*.svg")):
        drawn = opened(path)
        assert drawn.page.evaluate("window.taken") is None and drawn.dialogs == []
        assert drawn.requests == [path.as_uri()] and drawn.page.locator("script, image[href^=http]").count() == 0
    for path in sorted(study.rglob("results/**/*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.reader(handle):
                for value in row:
                    assert not value.startswith(("=", "@", "\t", "\r")), f"{path.name}: {value[:40]}"
                    if value.startswith(("+", "-")):
                        float(value)


@pytest.mark.parametrize("name", UNSEEN)
def test_characters_that_nobody_sees_are_refused(name: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(study / "config" / "samples.csv", "D3 pre-dose", cell(HOSTILE[name]))
    assert cli.main("ingest --config config/config.yaml --output-dir results".split()) == BAD_INPUT
    said = capsys.readouterr().err
    assert "config/samples.csv" in said and "\x1b" not in said and "\x00" not in said


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("place", ["sample", "target", "file"])
def test_names_in_exports_are_refused_or_shown_and_never_run(
    name: str, place: str, study: Path, opened: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    export, text = study / "data" / "raw" / "run01.txt", HOSTILE[name]
    more = "40\tD4\tfalse\t{}\t{}\tUNKNOWN\tVIC\tNFQ-MGB\t24.000\t\n"
    if place == "file":
        if "/" in text or "\x00" in text or len(text) > 200:
            text = "".join(c for c in text if c not in "/\x00")[:200]
        export.rename(export.with_name(text + ".txt"))
    else:
        rest = export.read_text(encoding="utf-8")
        sample, target = (text, "RNaseP") if place == "sample" else ("S05", text)
        export.write_text(rest + more.format(sample, target), encoding="utf-8")
    if cli.main("ingest --config config/config.yaml --output-dir results".split()) == BAD_INPUT:
        said = capsys.readouterr().err
        assert "\x1b" not in said and "\x00" not in said and "\u202e" not in said
        return
    capsys.readouterr()
    cli.main("report --results results --config config/config.yaml".split())
    report = study / "results" / "report.html"
    seen = opened(report)
    assert seen.requests == [report.as_uri()] and seen.dialogs == [] and seen.complaints == []
    assert seen.page.evaluate("window.taken") is None and seen.page.locator("img").count() == 0


CANARIES = ("Zhang Wei", "张伟", "13912345678", "1961-04-17", "MRN-4711-77", "zhang.wei@example.org")


def test_a_persons_data_in_headers_comments_and_further_columns_is_in_no_file(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "; ".join(CANARIES)
    export = study / "data" / "raw" / "run01.txt"
    names = ("User Name", "Operator", "Comments", "Experiment File Name", "Instrument Name")
    head = "".join(f"* {name} = {told}\n" for name in names)
    export.write_text(head + export.read_text(encoding="utf-8"), encoding="utf-8")
    config = study / "config"
    changed(config / "samples.csv", "few cells", cell(told))
    changed(config / "samples.csv", "missed visit", cell(told))
    changed(config / "patients.csv", "cohort\n", "cohort,remark\n")
    changed(config / "patients.csv", "escalation\n", f"escalation,{cell(told)}\n")
    changed(config / "events.csv", "started_at,value\n", "started_at,value,comment\n")
    changed(config / "events.csv", "2026-03-29,\n", f"2026-03-29,,{cell(told)}\n")
    run(study, capsys)
    files = [p for folder in ("results", "logs") for p in sorted((study / folder).rglob("*")) if p.is_file()]
    assert {p.suffix for p in files} >= {".csv", ".json", ".svg", ".png", ".html", ".log"}
    for path in files:
        content = path.read_bytes()
        for canary in CANARIES:
            assert canary.encode("utf-8") not in content, f"{canary} in {path.relative_to(study)}"


def test_comments_go_into_the_report_where_somebody_wants_them(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control of the test above: with the one setting the canaries are found where comments stand."""
    changed(study / "config" / "config.yaml", "inputs:\n", "inputs:\n  comments: true\n")
    run(study, capsys)
    assert "few cells" in (study / "results" / "study" / "samples.csv").read_text(encoding="utf-8")
    assert "few cells" in (study / "results" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["+49 171 1234567", "0086 139 1234 5678", "139 1234 5678", "110105196104171234", "zhang@example.org"]
)
def test_a_telephone_or_identity_number_in_a_printed_text_is_refused_and_not_repeated(
    text: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(study / "config" / "events.csv", "8 mg/kg", text)
    assert cli.main("ingest --config config/config.yaml --output-dir results".split()) == BAD_INPUT
    said = capsys.readouterr().err
    assert "config/events.csv, row 3, column value" in said and text not in said


@pytest.mark.parametrize("text", ["8 mg/kg", "2026-03-29", "6.0e9 cells", "IL-2 1800000 IU/m2", "NCT07366658", "12-34"])
def test_study_data_are_not_taken_for_a_persons(text: str, study: Path) -> None:
    changed(study / "config" / "events.csv", "8 mg/kg", text)
    assert cli.main("ingest --config config/config.yaml --output-dir results".split()) == 0
