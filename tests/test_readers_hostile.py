"""Files made to harm: each is refused with a reason, within five seconds and one gibibyte, and nothing is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

_SECRET = "TOP-SECRET-CONTENT"

_CHILD = """
import json, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
import socket
def refuse(*_, **__):
    raise SystemExit("a connection was attempted")
socket.socket.connect = refuse
from nkinetics.readers import read_exports
from nkinetics.settings import Settings
path = Path(sys.argv[1])
begun = time.process_time()
frame, (report,) = read_exports([path], path.parent, Settings())
said = {"seconds": time.process_time() - begun, "rows": len(frame), "problems": [str(p) for p in report.problems]}
print(json.dumps({**said, "text": frame.to_csv()}))
"""


def attempt(path: Path) -> dict[str, object]:
    """Read a file in a process of its own that has one gibibyte and no network; what it said."""
    package = Path(__file__).resolve().parents[1] / "workflow"
    # Threads of the linear algebra library reserve address space, which the limit would count.
    environment = {**os.environ, "PYTHONPATH": str(package), "OPENBLAS_NUM_THREADS": "1"}
    begun = time.process_time()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, object] = json.loads(done.stdout)
    assert time.process_time() - begun < 60
    return said


def refused(path: Path, words: str) -> None:
    said = attempt(path)
    assert said["rows"] == 0
    assert isinstance(said["seconds"], float) and said["seconds"] < 5
    (problem,) = said["problems"]  # type: ignore[misc]
    assert words in problem, problem
    assert "To mend: " in problem
    assert _SECRET not in str(said)


ROOTS = {
    "a.wsp": ("Workspace", ' flowJoVersion="10.10.0"'),
    "a.xml": ("bdfacs", ' version="Version 8.0.2"'),
    "a.rdml": ("rdml", ' xmlns="http://www.rdml.org" version="1.2"'),
}


def document(name: str, declared: str, content: str) -> str:
    root, attributes = ROOTS[name]
    return f'<?xml version="1.0"?><!DOCTYPE {root} [{declared}]><{root}{attributes}>{content}</{root}>'


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("kind", ["general", "parameter", "remote", "unparsed"])
def test_no_entity_is_followed(tmp_path: Path, name: str, kind: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(_SECRET)
    declared, content = {
        "general": (f'<!ENTITY x SYSTEM "file://{secret}">', "<SampleList>&x;</SampleList>"),
        "parameter": (f'<!ENTITY % x SYSTEM "file://{secret}"> %x;', ""),
        "remote": ('<!ENTITY x SYSTEM "http://127.0.0.1:9/x">', "&x;"),
        "unparsed": (f'<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "file://{secret}" NDATA n>', ""),
    }[kind]
    (tmp_path / name).write_text(document(name, declared, content))
    refused(tmp_path / name, "found an XML document that declares entities")


@pytest.mark.parametrize("name", ROOTS)
def test_a_billion_laughs_are_not_laughed(tmp_path: Path, name: str) -> None:
    declared = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    (tmp_path / name).write_text(document(name, declared, "&a9;"))
    refused(tmp_path / name, "found an XML document that declares entities")


@pytest.mark.parametrize("name", ROOTS)
def test_an_external_document_type_is_not_fetched(tmp_path: Path, name: str) -> None:
    """FlowJo 9 writes a document type; what it points to is nobody's business, and the document still is one."""
    root, attributes = ROOTS[name]
    head = f'<?xml version="1.0"?><!DOCTYPE {root} SYSTEM "http://127.0.0.1:9/{root}.dtd">'
    (tmp_path / name).write_text(f"{head}<{root}{attributes}>&undeclared;</{root}>")
    refused(tmp_path / name, "XML document")
    (tmp_path / name).write_text(f"{head}<{root}{attributes}></{root}>")
    words = {"a.wsp": "a workspace without samples", "a.xml": "an experiment without gated tubes"}
    refused(tmp_path / name, words.get(name, "no reaction with data"))


@pytest.mark.parametrize("name", ROOTS)
def test_a_document_a_hundred_thousand_levels_deep_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(document(name, "", "<a>" * 100_000 + "</a>" * 100_000))
    refused(tmp_path / name, "more than 200 elements inside each other")


@pytest.mark.parametrize("element", ["<Sample/>", "<Graph/>"])
def test_a_document_of_millions_of_elements_is_refused(tmp_path: Path, element: str) -> None:
    (tmp_path / "a.wsp").write_text(document("a.wsp", "", f"<SampleList>{element * 4_000_000}</SampleList>"))
    refused(tmp_path / "a.wsp", "more than")


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_an_rdml_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zipped(tmp_path / "a.rdml", {"rdml_data.xml": b'<rdml version="1.2">' + b" " * 300_000_000 + b"</rdml>"})
    refused(tmp_path / "a.rdml", "an archive that unpacks from")


def test_a_workbook_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zipped(tmp_path / "a.xlsx", {"xl/workbook.xml": b"<a/>", "xl/worksheets/sheet1.xml": b" " * 300_000_000})
    refused(tmp_path / "a.xlsx", "an archive that unpacks from")


def test_a_part_compressed_in_a_way_that_excel_does_not_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("xl/workbook.xml", b"<workbook/>" * 50)
    refused(tmp_path / "a.xlsx", "whose part xl/workbook.xml is compressed by method 12")


def test_an_rdml_archive_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.rdml"
    zipped(path, {"rdml_data.xml": b'<rdml version="1.2">' + os.urandom(200).hex().encode() * 500 + b"</rdml>"})
    content = bytearray(path.read_bytes())
    # The unpacked size in the central directory.
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, "unpacks beyond the size that it declares")


def sheet_of(rows: int) -> bytes:
    cells = (f'<row r="{i}"><c r="A{i}"><v>{i}</v></c><c r="B{i}"><v>1</v></c></row>' for i in range(1, rows + 1))
    return f"<worksheet><sheetData>{''.join(cells)}</sheetData></worksheet>".encode()


def without_numbers(rows: int) -> bytes:
    """Rows and cells need not say where they stand."""
    row = "<row><c><v>%d</v></c><c><v>1</v></c></row>"
    return f"<worksheet><sheetData>{''.join(row % i for i in range(rows))}</sheetData></worksheet>".encode()


@pytest.mark.parametrize("made", [sheet_of, without_numbers])
def test_a_sheet_of_a_million_rows_is_refused(tmp_path: Path, made: Callable[[int], bytes]) -> None:
    zipped(tmp_path / "a.xlsx", {"xl/workbook.xml": b"<workbook/>", "xl/worksheets/sheet1.xml": made(1_000_000)})
    refused(tmp_path / "a.xlsx", "of more than 500,000 rows")


def test_a_text_of_a_million_rows_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"> ,S1.fcs/G{i},1.0,{i}\n" for i in range(1_000_000))
    (tmp_path / "a.csv").write_text("Depth,Name,Statistic,#Cells\n" + rows)
    refused(tmp_path / "a.csv", "a text of more than 500,000 lines")


@pytest.mark.parametrize("place", [10, 18, 26, 34])
def test_an_fcs_header_that_points_anywhere_is_refused_or_read(tmp_path: Path, place: int) -> None:
    pytest.importorskip("flowio")
    own = Path(__file__).parent / "data" / "readers" / "fcs" / "0012.fcs"
    for value in (b"99999999", b"      -9", b"       0", b"     abc"):
        content = bytearray(own.read_bytes())
        content[place : place + 8] = value
        (tmp_path / "a.fcs").write_bytes(content)
        said = attempt(tmp_path / "a.fcs")
        assert isinstance(said["seconds"], float) and said["seconds"] < 5
        assert said["rows"] == 1 or "a damaged FCS file" in str(said["problems"])
