"""All tables in one workbook and one RTF document: every cell of the CSVs, nothing that runs, the same bytes."""

from __future__ import annotations

import csv
import io
import re
import shutil
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from nkinetics import cli, optional, tables
from nkinetics.errors import BAD_INPUT, InputError
from nkinetics.plugins import discover
from nkinetics.results import Context, Results
from nkinetics.tables._rich_text import escaped, rich_text
from nkinetics.tables._workbook import number, sheet_names, workbook


@pytest.fixture(scope="module")
def made(results_small, context_small):
    return workbook(Results(results_small), context_small)


@pytest.fixture(scope="module")
def written(results_small, context_small, tmp_path_factory):
    """The CSV of every table."""
    folder = tmp_path_factory.mktemp("tables")
    tables.write("all", Results(results_small), context_small, folder)
    return folder


def shown(cell) -> str:
    """A cell as the spreadsheet shows it, from its value and its format."""
    if cell.value is None:
        return ""
    if cell.data_type == "n":
        decimals = len(cell.number_format.partition(".")[2])
        return f"{cell.value:.{decimals}f}"
    return str(cell.value)


def cells_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


def test_every_cell_of_every_csv_stands_in_the_workbook_as_it_is_printed(made, written, context_small):
    book = openpyxl.load_workbook(io.BytesIO(made))
    names = tables.names(context_small)
    assert book.sheetnames[1:] == [discover("tables")[n].id for n in names]
    numbers = 0
    for name in names:
        sheet, rows = book[discover("tables")[name].id], cells_of(written / f"{name}.csv")
        if rows[0] == ["note"]:
            assert rows[1][0] in sheet.cell(5, 1).value
            continue
        for i, row in enumerate(rows, start=4):
            assert [shown(sheet.cell(i, j)) for j in range(1, len(row) + 1)] == row, (name, i)
            numbers += sum(
                sheet.cell(i, j).data_type == "n" and sheet.cell(i, j).value is not None for j in range(1, 9)
            )
        assert sheet.freeze_panes is not None
    assert numbers > 100, "numbers are numbers"


def test_titles_and_footnotes_stand_around_the_cells(made, context_small, results_small):
    book = openpyxl.load_workbook(io.BytesIO(made))
    body = tables.build("nca_parameters", Results(results_small), context_small)
    sheet = book[discover("tables")["nca_parameters"].id]
    texts = [str(row[0]) for row in sheet.iter_rows(max_col=1, values_only=True) if row[0] is not None]
    assert "14.4.1.5" in texts[0] and texts[1] == body.subtitle
    assert texts[-len(body.footnotes) :] == list(body.footnotes)


def test_identifiers_stay_text_and_formulas_stay_words(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "runs.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("plate_3", '"=HYPERLINK(""x"")"'), encoding="utf-8")
    content = workbook(Results(tmp_path / "r"), context_small)
    book = openpyxl.load_workbook(io.BytesIO(content))
    kinds = {cell.data_type for sheet in book for row in sheet.iter_rows() for cell in row}
    assert "f" not in kinds
    texts = [str(c) for sheet in book for row in sheet.iter_rows(values_only=True) for c in row if c is not None]
    assert any(t.startswith("'=HYPERLINK") for t in texts) and not any(t.startswith("=") for t in texts)
    patients = [c for row in book["L-16.2.5.3"].iter_rows(values_only=True) for c in row if str(c) in ("001", "1")]
    assert patients and set(patients) == {"001"}
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        assert not [n for n in parts.namelist() if "external" in n.lower()]


def test_the_same_tables_give_the_same_workbook_without_a_clock(made, results_small, context_small):
    assert workbook(Results(results_small), context_small) == made
    with zipfile.ZipFile(io.BytesIO(made)) as parts:
        assert {i.date_time for i in parts.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"1980-01-01T00:00:00Z" in parts.read("docProps/core.xml")


@pytest.mark.parametrize(
    "text", ["1e5", "007", "-0.0", "12 %", "1,5", "", "BLQ", "123456789012345678", "–", "+3", " 1"]
)
def test_what_is_no_plain_number_stays_text(text):
    assert number(text) is None


@pytest.mark.parametrize("text", ["0", "-3.20", "0.00000012", "128000", "99999.99"])
def test_plain_numbers_keep_their_printed_form(text):
    value, form = number(text)
    assert f"{value:.{len(form.partition('.')[2])}f}" == text


def test_sheet_names_are_short_and_different():
    found = sheet_names(["a" * 40, "a" * 41, "x/y", "X:Y"])
    assert len({f.lower() for f in found}) == 4 and max(map(len, found)) <= 31


# ----------------------------------------------------------------------------------------------------------------- RTF

CONTROL = re.compile(rb"\\u(-?\d+)\?|\\([a-z]+)(-?\d+)? ?|\\(.)|([{}])|([^\\{}]+)", flags=re.S)


def rtf_cells(document: bytes) -> list[list[str]]:
    """Rows of cells of an RTF document, read by the rules of the format."""
    rows, row, text, depth, outside = [], [], "", 0, []
    units = b""
    for code, word, _, sign, brace, plain in CONTROL.findall(document):
        if code:
            units = (int(code) % 65536).to_bytes(2, "little")
            text += units.decode("utf-16-le", errors="surrogatepass")
        elif word == b"cell":
            row.append(text)
            text = ""
        elif word == b"row":
            rows.append(row)
            row = []
        elif word in (b"trowd", b"par", b"page", b"line"):
            outside.append(text)
            text = ""
        elif sign:
            text += sign.decode()
        elif brace:
            depth += 1 if brace == b"{" else -1
            assert depth >= 0
        elif plain:
            text += plain.decode("ascii").replace("\n", "")
    assert depth == 0
    return rows


def test_every_cell_of_every_csv_stands_in_the_rtf(results_small, context_small, written):
    pytest.importorskip("rtflite")
    document = rich_text(Results(results_small), context_small)
    assert document.startswith(b"{\\rtf1") and document.isascii()
    rows = {tuple(c.strip() for c in row) for row in rtf_cells(document)}
    for name in tables.names(context_small):
        csv_rows = cells_of(written / f"{name}.csv")
        if csv_rows[0] == ["note"]:
            continue
        for row in csv_rows:
            # A CSV guards against spreadsheets with an apostrophe; a word processor runs nothing.
            assert tuple(re.sub(r"^'(?=[-=+@])", "", c).strip() for c in row) in rows, (name, row)
    assert rich_text(Results(results_small), context_small) == document


def test_text_is_no_command_in_rtf(results_small, context_small, tmp_path):
    pytest.importorskip("rtflite")
    assert escaped("\\b{x}\t\x00é😀") == "\\\\b\\{x\\}\\u233?\\u-10179?\\u-8704?"
    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "runs.csv"
    hostile = "{\\\\object\\\\objemb} fcharset \\\\paperw"
    path.write_text(path.read_text(encoding="utf-8").replace("plate_3", hostile), encoding="utf-8")
    document = rich_text(Results(tmp_path / "r"), context_small)
    assert b"\\object" not in document.replace(b"\\\\object", b"")
    assert any("objemb} fcharset" in cell for row in rtf_cells(document) for cell in row)


# ------------------------------------------------------------------------------------------------------------- command


def command(results_small, root, tmp_path, *arguments):
    config = root / "tests" / "data" / "results_small" / "config.yaml"
    return cli.main(["table", *arguments, "--results", str(results_small), "--config", str(config)])


def test_the_command_writes_both_beside_the_tables_or_alone(results_small, context_small, root, tmp_path):
    pytest.importorskip("rtflite")
    files = ["--xlsx", str(tmp_path / "t.xlsx"), "--rtf", str(tmp_path / "t.rtf")]
    assert command(results_small, root, tmp_path, "all", *files) == 0
    version = Context(context_small.settings, cli.__version__)
    assert (tmp_path / "t.xlsx").read_bytes() == workbook(Results(results_small), version)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.rtf", "t.xlsx"]


def test_the_command_says_what_is_missing(results_small, root, tmp_path, capsys, monkeypatch):
    assert command(results_small, root, tmp_path, "all") == BAD_INPUT
    assert "--output-dir" in capsys.readouterr().err
    assert command(results_small, root, tmp_path, "runs", "--xlsx", str(tmp_path / "t.xlsx")) == BAD_INPUT
    assert "nkinetics table all" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_where_a_library_is_absent_its_installation_is_named(results_small, context_small, monkeypatch):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    optional.rtf_lacks.cache_clear()
    optional.pdf_lacks.cache_clear()
    try:
        assert "pip install weasyprint" in optional.pdf_lacks()
        with pytest.raises(InputError, match=r"nkinetics\[rtf\]"):
            rich_text(Results(results_small), context_small)
        monkeypatch.undo()
        monkeypatch.setattr(optional, "PANGO", ("libnothing.so.9",))
        optional.pdf_lacks.cache_clear()
        if optional.find_spec("weasyprint"):
            assert "libpango-1.0-0" in optional.pdf_lacks()
    finally:
        optional.rtf_lacks.cache_clear()
        optional.pdf_lacks.cache_clear()


# -------------------------------------------------------------------------------------- several tables, several figures


def test_tables_of_several_batches_are_joined_in_one_call_as_one_by_one(results_small, tmp_path, capsys):
    from nkinetics.columns import SCHEMAS
    from nkinetics.store import read_table, write_table

    names = ("nca", "fits")
    for i, batch in enumerate(("00", "01")):
        for name in names:
            whole = read_table(results_small / f"{name}.csv", SCHEMAS[name])
            own = whole[(whole["patient_id"] <= "003") == (i == 0)]
            write_table(own, tmp_path / batch / f"{name}.csv", SCHEMAS[name])
    parts = ["--input", str(tmp_path / "01"), str(tmp_path / "00")]
    assert cli.main(["gather", *parts, "--table", *names, "--output-dir", str(tmp_path / "all")]) == cli.DONE
    for name in names:
        assert (tmp_path / "all" / f"{name}.csv").read_bytes() == (results_small / f"{name}.csv").read_bytes()
        files = [str(tmp_path / b / f"{name}.csv") for b in ("01", "00")]
        assert cli.main(["gather", "--input", *files, "--output", str(tmp_path / "one.csv")]) == cli.DONE
        assert (tmp_path / "one.csv").read_bytes() == (results_small / f"{name}.csv").read_bytes()
    for wrong, told in (
        (["--table", "fitz", "--output-dir", str(tmp_path / "x")], "fitz"),
        (["--output-dir", str(tmp_path / "x")], "no --table"),
        (["--table", "fits", "--output", str(tmp_path / "x" / "fits.csv")], "--table"),
    ):
        assert cli.main(["gather", *parts, *wrong]) == cli.BAD_INPUT
        assert told in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["nca", "estimates"])
def test_batches_that_are_not_in_order_are_joined_all_the_same(name, results_small, tmp_path):
    header, *lines = (results_small / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    halves = {"00": lines[::2], "01": lines[1::2]}  # every patient in both
    for batch, own in halves.items():
        (tmp_path / f"{batch}.csv").write_text("".join([header, *reversed(own)]), encoding="utf-8")
    files = [str(tmp_path / f"{batch}.csv") for batch in halves]
    assert cli.main(["gather", "--input", *files, "--output", str(tmp_path / "all.csv")]) == cli.DONE
    assert (tmp_path / "all.csv").read_bytes() == (results_small / f"{name}.csv").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda cells: [*cells[:8], "1,2", *cells[9:]], "value"),
        (lambda cells: [*cells[:8], "inf", *cells[9:]], "value"),
        (lambda cells: [*cells[:10], "1.5", *cells[11:]], "n_points"),
        (lambda cells: [*cells, "more"], "14 cells"),
    ],
)
def test_a_batch_with_a_wrong_cell_is_refused_with_its_place(wrong, told, results_small, tmp_path, capsys):
    rows = list(csv.reader((results_small / "nca.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0][8] == "value" and rows[0][10] == "n_points"
    rows[7] = wrong(rows[7])
    part = tmp_path / "nca.csv"
    with part.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)
    assert cli.main(["gather", "--input", str(part), "--output", str(tmp_path / "all.csv")]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert f"{part.as_posix()}, row 8" in said and told in said and not (tmp_path / "all.csv").exists()


def test_a_cell_of_two_lines_stays_with_its_patient(tmp_path):
    from nkinetics.columns import FITS
    from nkinetics.store import read_table, write_table

    frame = pd.DataFrame({"patient_id": ["02", "01", "03"], "assay": "qpcr", "model": "decay"})
    frame = frame.assign(specimen="blood", reason=['one "quoted",\nand a second line', "plain, with comma", "\n\n"])
    write_table(frame, tmp_path / "whole.csv", FITS)
    for batch, own in (("a", frame.iloc[:1]), ("b", frame.iloc[1:])):
        write_table(own, tmp_path / f"{batch}.csv", FITS)
    files = [str(tmp_path / f"{batch}.csv") for batch in "ab"]
    assert cli.main(["gather", "--input", *files, "--output", str(tmp_path / "all.csv")]) == cli.DONE
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(read_table(tmp_path / "all.csv", FITS)) == 3


def test_figures_are_written_by_name_and_by_kind_of_file(results_small, root, tmp_path, capsys):
    config = str(root / "tests" / "data" / "results_small" / "config.yaml")
    common = ["--results", str(results_small), "--config", config]
    two = ["figure", "forecast", "F-CK-03", *common]
    assert cli.main([*two, "--output-dir", str(tmp_path / "all")]) == cli.DONE
    assert cli.main([*two, "--only", "svg", "json", "--output-dir", str(tmp_path / "page")]) == cli.DONE
    assert cli.main([*two, "--only", "png", "--output-dir", str(tmp_path / "png")]) == cli.DONE
    made = {p.name: p.read_bytes() for p in (tmp_path / "all").iterdir()}
    assert {n.rpartition(".")[2] for n in made} == {"svg", "json", "png"} and len(made) == 6
    page = {p.name: p.read_bytes() for p in (tmp_path / "page").iterdir()}
    assert page == {n: content for n, content in made.items() if not n.endswith(".png")}
    pictures = {p.name: p.read_bytes() for p in (tmp_path / "png").iterdir()}
    assert pictures == {n: content for n, content in made.items() if n.endswith(".png")}
    assert cli.main([*two, "--output", str(tmp_path / "x.svg")]) == cli.BAD_INPUT
    assert "one name" in capsys.readouterr().err and not (tmp_path / "x.svg").exists()
