"""Damaged exports: read to the same values, refused, or different only where they were damaged; see `fuzzer.py`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from nkinetics.errors import InputError
from nkinetics.plugins import discover
from nkinetics.readers import read_export
from nkinetics.readers._export import open_export
from nkinetics.settings import Settings, validated

TESTS = Path(__file__).parent
FUZZER = TESTS / "fuzzer.py"
KEPT = TESTS / "data" / "fuzz"
GOOD = ("same", "refused", "differs")


def journal_of(path: Path, limit: float, *arguments: str) -> list[dict[str, Any]]:
    """What became of each mutant; one that was begun and not ended killed the process, or held it."""
    command = [sys.executable, str(FUZZER), "--journal", str(path), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        said = f"exit status {done.returncode}: {done.stderr[-2000:]}"
        broken = done.returncode not in (0, 1)
    except subprocess.TimeoutExpired:
        said, broken = f"not done after {limit:g} s", True
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert events, said
    if events[-1]["result"] == "begun" or broken:
        pytest.fail(f"{events[-1]}: {said}")
    return [event for event in events if event["result"] != "begun"]


def counted(events: list[dict[str, Any]], count: int) -> None:
    """Nothing wrong, crashed or slow among all mutants, and enough of each kind that this says something."""
    bad = [e for e in events if e["result"] not in GOOD]
    lines = [f"{e['number']} {e['base']}, {e['kind']}: {e['result']}: {e['said'][:500]}" for e in bad]
    assert not bad, "\n".join(lines)
    assert len(events) == count
    results = Counter(e["result"] for e in events)
    # A fuzzer that damages nothing, or readers that refuse everything, would pass all else.
    assert all(results[result] > count / 10 for result in GOOD), results
    readers = Counter(e["reader"] for e in events)
    assert set(readers) == set(discover("readers"))
    assert min(readers.values()) > count / 50, readers
    refused = Counter(e["reader"] for e in events if e["result"] == "refused")
    assert all(refused[reader] < 0.9 * n for reader, n in readers.items()), refused


def test_five_hundred_damaged_exports_are_read_rightly_or_refused(tmp_path: Path) -> None:
    counted(journal_of(tmp_path / "journal", 60, "--count", "500", "--seed", "1"), 500)


@pytest.mark.long
def test_five_thousand_damaged_exports_are_read_rightly_or_refused(tmp_path: Path) -> None:
    events = journal_of(tmp_path / "journal", 480, "--count", "5000", "--seed", "2")
    counted(events, 5000)
    assert len({e["kind"] for e in events}) > 40


@pytest.mark.long
@pytest.mark.shared
def test_damaged_exports_of_real_instruments_are_read_rightly_or_refused(tmp_path: Path, shared: Path) -> None:
    arguments = ("--count", "2000", "--seed", "3", "--shared", str(shared / "exports"))
    counted(journal_of(tmp_path / "journal", 300, *arguments), 2000)


# --------------------------------------------------------------------------------- the fuzzer sees what it is there for

SABOTAGE = {
    "a number read with either mark": (
        "_cells.Notation.number = lambda self, text, kind='number': float(re.sub('[^0-9.]', '', text.replace(',', '.'))"
        " or 'nan') if re.search('[0-9]', text) else None",
        "wrong",
    ),
    "a number cut short": (
        "plain = _cells.Notation.number\n"
        "def short(self, text, kind='number'):\n"
        "    value = plain(self, text, kind)\n"
        "    return value if value is None or len(text) < 6 else float(int(value))\n"
        "_cells.Notation.number = short",
        "wrong",
    ),
    "problems of cells passed over": ("_cells.Checked.problem = lambda *a, **k: None", "wrong"),
    "shifted rows passed over": ("_cells.Checked.shape = lambda *a: None", "wrong"),
    "rows counted from the wrong one": (
        "rows = _export._rows\n"
        "_export._rows = lambda *a: [_export.Row(max(r.number - (r.number > 9), 1), r.cells) for r in rows(*a)]",
        "wrong",
    ),
    "a well twice": ("_cells.Checked.once = lambda *a: None", "wrong"),
    "a cut line passed over": (
        "_export.Export.unfinished = lambda *a: ''\n"
        "import nkinetics.readers.generic as g, nkinetics.readers.flowjo_tree as t\n"
        "g.check_end = t.check_end = lambda *a: None",
        "wrong",
    ),
    "letters guessed": (
        "_export._decoded = lambda content, label: content.decode('ascii', 'ignore').replace('\\x00', '')",
        "wrong",
    ),
    "zeros dropped from names": (
        "cell = _export.Row.cell\n_export.Row.cell = lambda self, at: cell(self, at).lstrip('0')",
        "wrong",
    ),
    "an exception": ("_cells.Checked.sample_name = lambda self, row, column, text: [][len(text) > 9]", "crashed"),
    "a hang": (
        "fuzzer.SECONDS = 0.3\ndecoded = _export._decoded\n"
        "def hang(content, label):\n"
        "    while len(content) % 9 == 0:\n        pass\n"
        "    return decoded(content, label)\n_export._decoded = hang",
        "slow",
    ),
    "memory": ("fuzzer.MEMORY = 1", "slow"),
}

CHILD = """
import re, sys, tempfile
from pathlib import Path
import fuzzer
from nkinetics.readers import _cells, _export
honest = fuzzer.bases()
{}
with tempfile.TemporaryDirectory() as folder:
    for event in fuzzer.run(0, 1500, 5, honest, Path(folder)):
        if event["result"] == "{}":
            print(event)
            break
    else:
        sys.exit("not seen in 1,500 mutants")
"""


@pytest.mark.long
@pytest.mark.parametrize("name", SABOTAGE)
def test_the_fuzzer_sees_a_reader_that_is_spoilt(name: str) -> None:
    code, result = SABOTAGE[name]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(code, result)], capture_output=True, text=True, timeout=60, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------- what the fuzzer found, and stays

FOUND = {
    "absolute_q__header_of_the_second_dye_renamed.csv": "2 dyes above",
    "cfx__cut_before_the_quantity_of_a_standard.csv": "a last line that ends within a number",
    "flowjo_tree__cut_before_the_last_count.csv": "remark",
    "flowjo_tree__cut_within_the_last_count.csv": "remark",
    "flowjo_tree__cut_within_the_name_of_a_gate.csv": "a last line of 1 cells",
    "flowjo_table__header_of_a_count_emptied.csv": "note",
    "generic__censored_by_no_number.csv": "1 where a level is censored",
    "generic__cut_within_the_last_level.tsv": "remark",
    "lightcycler__another_column_called_standard.txt": "the same in both columns",
    "quantstudio__cut_within_the_last_name.txt": "a last line of 4 cells",
    "quantstudio__damaged_utf8.txt": "a damaged UTF-8 text",
    "quantstudio__mark_in_place_of_a_digit.txt": """'"9.366'""",
    "qx_manager__blank_in_place_of_a_digit.csv": "'15 00'",
    "stepone__header_without_its_line_end.txt": "above rows of",
    "rdml__blank_within_a_number.xml": "'23 .5'",
}
"""Kept mutants: words of the refusal, or where the reader says what it found instead."""


def settings_of(reader: str) -> Settings:
    path = TESTS / "data" / "readers" / reader / "settings.json"
    text = path.read_text(encoding="utf-8") if path.exists() else "{}"
    # The kept mutants have other names than the examples that the mappings are for.
    for name in ("trajectories.tsv", "listing.csv"):
        text = text.replace(f'"match": "{name}"', f'"match": "generic__*.{name[-3:]}"')
    return validated(json.loads(text), path.name)


def test_every_kept_mutant_has_its_test() -> None:
    assert {p.name for p in KEPT.iterdir()} == {*FOUND, "README.md"}


@pytest.mark.parametrize("name", FOUND)
def test_what_the_fuzzer_found_is_not_read_in_silence(name: str) -> None:
    path, words = KEPT / name, FOUND[name]
    reader = name.split("__")[0]
    if words not in ("remark", "note"):
        with pytest.raises(InputError) as caught:
            read_export(path, KEPT, settings_of(reader))
        assert words in str(caught.value)
        return
    frame, report = read_export(path, KEPT, settings_of(reader))
    assert report.reader == reader
    last = frame[frame["source_row"] == frame["source_row"].max()]
    said = report.note if words == "note" else "; ".join(last["remark"])
    assert ("column 3 (without a header)" if words == "note" else "no line end") in said


def test_a_complete_last_line_without_a_line_end_is_read_with_a_remark_and_the_others_without(tmp_path: Path) -> None:
    path = tmp_path / "generic__trajectories.tsv"
    path.write_text("Person\tDay\tCt\n27\t1\t37.0\n27\t2\t34.0", encoding="utf-8")
    frame, _ = read_export(path, tmp_path, settings_of("generic"))
    assert list(frame["value_raw"]) == ["37.0", "34.0"]
    assert list(frame["remark"] != "") == [False, True]


def test_a_text_in_windows_1252_with_a_letter_that_looks_like_utf8_is_read_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,ß»b\nÜber,größer\nKäse,öde\n".encode("cp1252"))
    assert open_export(path, tmp_path).sheets[0].rows[1].cells == ["Über", "größer"]


def test_a_workbook_without_compression_is_held_to_the_same_limits(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0]["XFD1048576"] = 1
    buffer = io.BytesIO()
    book.save(buffer)
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    begun = time.perf_counter()
    with pytest.raises(InputError, match="spans 1,048,576 rows and 16,384 columns"):
        open_export(path, tmp_path)
    assert time.perf_counter() - begun < 5
