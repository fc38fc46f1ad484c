"""Readers: any encoding, separator, line end and decimal mark; identifiers kept; broken input refused with a reason."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from nkinetics.errors import InputError
from nkinetics.readers import FileReport, read_export, read_exports
from nkinetics.readers import _export as export_module
from nkinetics.readers._cells import NO_AMPLIFICATION, Notation, detection, normalised, notation
from nkinetics.readers._export import open_export
from nkinetics.settings import Settings

DATA = Path(__file__).parent / "data"
BROKEN = DATA / "broken" / "exports"
DEFAULTS = Settings()
LISTING = {"patient_id": "ID", "time_actual": "TIME", "level": "DV", "lloq": "LLOQ", "dose": "AMT"}

PLATE = [
    ["Block Type", "96-Well Block", "", "", "", "", ""],
    ["Experiment Name", "NK-01", "", "", "", "", ""],
    ["", "", "", "", "", "", ""],
    ["Well", "Well Position", "Sample Name", "Target Name", "Task", "Cт", "Quantity"],
    ["1", "A1", "STD1", "CAR", "STANDARD", "19.402", "1000000.000"],
    ["2", "A2", "STD2", "CAR", "STANDARD", "29.366", "1000.000"],
    ["3", "A3", "0012", "CAR", "UNKNOWN", "27.870", ""],
    ["4", "A4", "351", "CAR", "UNKNOWN", "Undetermined", ""],
    ["5", "A5", "NTC", "CAR", "NTC", "Undetermined", ""],
]


def listing(**options: object) -> Settings:
    return Settings(generic=[{"match": "*.csv", "columns": LISTING, **options}])


def text_of(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in rows)


def read(path: Path, settings: Settings = DEFAULTS) -> pd.DataFrame:
    """Rows without what names the file."""
    frame, _ = read_export(path, path.parent, settings)
    return frame.drop(columns=["source_file", "source_sha256"])


def plain(tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "plain.csv"
    path.write_text(text_of(PLATE), encoding="utf-8")
    return read(path)


def workbook(path: Path, rows: list[list[object]], hidden: bool = False) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Results"
    for row in rows:
        sheet.append([None if cell == "" else cell for cell in row])
    if hidden:
        other = book.create_sheet("Old results")
        other.append(["Well", "Well Position", "Sample Name", "Target Name", "Task", "CT"])
        other.sheet_state = "hidden"
    buffer = io.BytesIO()
    book.save(buffer)
    path.write_bytes(buffer.getvalue())
    return path


# ------------------------------------------------------------------------------------------------------ text robustness


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_the_same_rows_come_out_of_every_encoding_separator_and_line_end(
    tmp_path: Path, encoding: str, end: str, separator: str
) -> None:
    path = tmp_path / "plate.csv"
    path.write_bytes(text_of(PLATE, separator, end).encode(encoding))
    pd.testing.assert_frame_equal(read(path), plain(tmp_path))


def test_a_windows_1252_text_is_read(tmp_path: Path) -> None:
    rows = [[cell.replace("Cт", "CT").replace("0012", "Müller-7µ") for cell in row] for row in PLATE]
    path = tmp_path / "plate.csv"
    path.write_bytes(text_of(rows).encode("cp1252"))
    assert "Müller-7µ" in set(read(path)["sample_id"])


def test_a_sep_line_decides_the_separator_and_counts_as_a_row(tmp_path: Path) -> None:
    path = tmp_path / "plate.csv"
    path.write_text("sep=;\n" + text_of(PLATE, ";"), encoding="utf-8")
    expected = plain(tmp_path)
    pd.testing.assert_frame_equal(read(path), expected.assign(source_row=expected["source_row"] + 1))


def test_a_file_with_decimal_commas_gives_the_same_values(tmp_path: Path) -> None:
    rows = [[cell.replace(".", ",") if cell[:1].isdigit() else cell for cell in row] for row in PLATE]
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows, ";"), encoding="utf-8")
    expected = plain(tmp_path)
    pd.testing.assert_frame_equal(read(path).drop(columns="value_raw"), expected.drop(columns="value_raw"))


@pytest.mark.parametrize("wrong", [".", ","])
def test_a_configured_decimal_mark_is_never_overruled(tmp_path: Path, wrong: str) -> None:
    rows = [[cell.replace(".", wrong) if cell[:1].isdigit() else cell for cell in row] for row in PLATE]
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows, ";"), encoding="utf-8")
    other = "," if wrong == "." else "."
    with pytest.raises(InputError, match=f"with the decimal mark '{other}'") as caught:
        read(path, Settings(inputs={"decimal": other}))
    assert {p.row for p in caught.value.problems} == {5, 6, 7}


def test_a_quoted_cell_over_two_lines_keeps_the_row_numbers_of_an_editor(tmp_path: Path) -> None:
    rows = [row[:] for row in PLATE]
    rows[6][2], rows[4][2] = "0012", '"STD1\nfresh"'
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows), encoding="utf-8")
    assert read(path)["source_row"].tolist() == [5, 7, 8, 9, 10]


def test_a_lone_inch_mark_in_a_tab_separated_text_is_text(tmp_path: Path) -> None:
    rows = [row[:] for row in PLATE]
    rows[8][2] = '"NTC'
    path = tmp_path / "plate.txt"
    path.write_text(text_of(rows, "\t"), encoding="utf-8")
    assert read(path)["sample_id"].tolist() == ["STD1", "STD2", "0012", "351", '"NTC']


def test_thousands_marks_are_read_where_the_file_shows_its_decimal_mark() -> None:
    cells = [("16.484", "ct"), ("100,000,000.000", "amount"), ("5,720.562", "amount")]
    written = notation("a.txt", cells)
    assert written.decimal == "."
    assert [written.number(text, kind) for text, kind in cells] == [16.484, 1e8, 5720.562]


@pytest.mark.parametrize("text", ["16,484", "1,23", "1.2.3", "12,34.5", "1e", "٣", "0x10", "inf", "nan", "1_000", ""])
def test_a_text_that_is_no_number_in_the_notation_of_its_file_is_none(text: str) -> None:
    assert Notation(".").number(text) is None


@pytest.mark.parametrize("value", ["0", "-1", "60.01", "1e5"])
def test_a_ct_lies_above_0_and_at_most_60(value: str) -> None:
    assert Notation(".").number(value, "ct") is None


@pytest.mark.parametrize("micro", ["\u00b5", "\u03bc", "u", "\u00c2\u00b5"])
def test_variants_of_the_micro_sign_name_the_same_column(micro: str) -> None:
    assert normalised(f"Conc(copies/{micro}L)") == "conccopiesul"


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("Undetermined", "not_detected"),
        ("N.D.", "not_detected"),
        ("NEG", "not_detected"),
        ("TND", "not_detected"),
        ("<LLOQ", "below"),
        ("BLQ", "below"),
        ("bql", "below"),
        ("< 50", "below"),
        (">ULOQ", "above"),
        (">1000000", "above"),
        ("QNS", "not_done"),
        ("N/A", "not_done"),
        ("NaN", "not_done"),
        ("", "not_done"),
        (".", "not_done"),
        ("No Call", "failed"),
        ("Invalid", "failed"),
    ],
)
def test_a_word_in_place_of_a_number_becomes_a_status_with_its_reason(word: str, meaning: str) -> None:
    said = detection(word)
    assert said is not None
    assert said.detection == meaning
    assert word in said.reason or said.reason == "empty cell"


# ------------------------------------------------------------------------------------------------------------ workbooks


def test_a_workbook_of_texts_gives_the_rows_of_the_text_file(tmp_path: Path) -> None:
    path = workbook(tmp_path / "plate.xlsx", [list(row) for row in PLATE])
    pd.testing.assert_frame_equal(read(path), plain(tmp_path))


def test_numbers_of_a_workbook_never_show_a_decimal_point_that_was_not_there(tmp_path: Path) -> None:
    rows: list[list[object]] = [list(row) for row in PLATE]
    rows[6][2], rows[7][2], rows[6][5] = "0012", 351, 27.87
    rows[4][6], rows[5][6] = 1e6, 1000
    frame = read(workbook(tmp_path / "plate.xlsx", rows))
    assert frame["sample_id"].tolist() == ["STD1", "STD2", "0012", "351", "NTC"]
    assert frame["value_raw"].tolist() == ["19.402", "29.366", "27.87", "Undetermined", "Undetermined"]
    assert frame["quantity"].tolist()[:2] == [1e6, 1e3]


@pytest.mark.parametrize("ending", ["xls", "csv", "txt"])
def test_a_workbook_under_a_wrong_ending_is_read_by_its_content(tmp_path: Path, ending: str) -> None:
    path = workbook(tmp_path / f"plate.{ending}", [list(row) for row in PLATE])
    pd.testing.assert_frame_equal(read(path), plain(tmp_path))


def test_a_text_under_the_ending_of_a_workbook_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "plate.xlsx"
    path.write_text(text_of(PLATE), encoding="utf-8")
    pd.testing.assert_frame_equal(read(path), plain(tmp_path))


def test_a_hidden_sheet_is_ignored_and_the_report_says_so(tmp_path: Path) -> None:
    path = workbook(tmp_path / "plate.xlsx", [list(row) for row in PLATE], hidden=True)
    frame, report = read_export(path, tmp_path, DEFAULTS)
    assert len(frame) == 5
    assert report.note == "hidden sheet ignored: Old results"


def test_a_cell_of_a_workbook_with_a_comma_among_numbers_is_refused_with_its_row(tmp_path: Path) -> None:
    rows: list[list[object]] = [list(row) for row in PLATE]
    rows[4][5], rows[5][5], rows[6][5] = 19.402, 29.366, "16,484"
    with pytest.raises(InputError, match=r"row 7, column Cт: found '16,484'"):
        read(workbook(tmp_path / "plate.xlsx", rows))


# ---------------------------------------------------------------------------------------------------- several files


def test_the_order_of_paths_does_not_matter_and_a_path_named_twice_is_read_once() -> None:
    paths = [DATA / "readers" / "quantstudio" / "plate.txt", DATA / "readers" / "flowjo_table" / "panel.csv"]
    forward, first = read_exports(paths, DATA, DEFAULTS)
    backward, second = read_exports([*reversed(paths), paths[0]], DATA, DEFAULTS)
    pd.testing.assert_frame_equal(forward, backward)
    assert first == second
    assert [r.label for r in first] == ["readers/flowjo_table/panel.csv", "readers/quantstudio/plate.txt"]


def test_a_duplicate_is_recognised_by_content_and_its_rows_are_accounted_for(tmp_path: Path) -> None:
    content = (DATA / "readers" / "quantstudio" / "plate.txt").read_bytes()
    (tmp_path / "b_copy.txt").write_bytes(content)
    (tmp_path / "a.txt").write_bytes(content)
    frame, reports = read_exports([tmp_path / "b_copy.txt", tmp_path / "a.txt"], tmp_path, DEFAULTS)
    assert [(r.label, r.n_rows, r.duplicate_of) for r in reports] == [("a.txt", 10, ""), ("b_copy.txt", 10, "a.txt")]
    copies = frame[frame["source_file"] == "b_copy.txt"]
    assert set(copies["note"]) == {"duplicate of a.txt"}
    assert len(copies) == 10
    assert not frame.loc[frame["source_file"] == "a.txt", "note"].str.startswith("duplicate").any()


def test_a_bad_file_blocks_no_other_and_gives_no_rows(tmp_path: Path) -> None:
    good, bad = DATA / "readers" / "qx_manager" / "wells.csv", BROKEN / "truncated_workbook.xlsx"
    frame, reports = read_exports([good, bad], DATA, DEFAULTS)
    assert set(frame["source_file"]) == {"readers/qx_manager/wells.csv"}
    assert [bool(r.problems) for r in reports] == [True, False]
    assert reports[0] == FileReport("broken/exports/truncated_workbook.xlsx", problems=reports[0].problems)


def test_every_row_below_the_header_is_accounted_for() -> None:
    for name, lines_above in (("qx_manager/wells.csv", 1), ("quantstudio/plate.txt", 15)):
        path = DATA / "readers" / name
        lines = [line for line in path.read_text(encoding="utf-8").split("\n")[lines_above:] if line.strip()]
        wells = [line for line in lines if " = " not in line]
        assert len(read(path)) == len(wells)


def test_header_user_names_and_folders_are_not_propagated() -> None:
    frame, report = read_export(DATA / "readers" / "quantstudio" / "plate.txt", DATA, DEFAULTS)
    assert "Person" not in frame.to_csv() + str(report)
    assert "eds" not in frame.to_csv() + str(report)


def test_a_run_without_a_name_is_called_as_its_file() -> None:
    assert set(read(DATA / "readers" / "quantstudio" / "decimal_comma.csv")["run_id"]) == {"decimal_comma"}


def test_no_rows_at_all_still_have_the_columns() -> None:
    frame, reports = read_exports([], DATA, DEFAULTS)
    assert reports == []
    assert len(frame) == 0
    assert "sample_id" in frame.columns


# --------------------------------------------------------------------------------------------------------- broken input

REFUSED = {
    "ct_with_decimal_comma.txt": r"row 9, column CT: found '16,484'; expected a Ct .* decimal mark '\.'",
    "ct_beyond_60.txt": r"row 9, column CT: found '278\.70'; expected a Ct above 0 and at most 60",
    "empty.csv": "found an empty file; expected an export",
    "blank_lines_only.csv": "found an empty file; expected an export",
    "no_reader_claims.csv": "found a text of no known format; expected one of: .*QuantStudio results",
    "formula_as_sample.txt": r"row 9, column Sample Name: found '=cmd\|x', which a spreadsheet would run",
    "path_as_sample.txt": r"row 9, column Sample Name: found '\.\./x', which is a path",
    "standard_without_quantity.txt": "row 8, column Quantity: found an empty cell",
    "unknown_task.txt": "row 9, column Task: found 'UNKNWON'; expected UNKNOWN, STANDARD",
    "unknown_word_for_ct.txt": "row 9, column CT: found 'perhaps'",
    "row_cut_off.txt": "row 9: found a last line of 6 cells; expected 9, as in the header",
    "last_line_cut_within_ct.txt": "row 9: found a last line of 7 cells; expected 9, as in the header",
    "row_that_is_no_well.txt": "row 9, column Well Position: found 'Z99X'",
    "row_longer_than_header.txt": "row 9: found 10 cells; expected at most 9",
    "genotyping.txt": "row 7: found Genotyping results without a Ct column",
    "presence_absence_without_ct.txt": "row 7: found Presence/Absence results without a Ct column",
    "melt_curve_only.txt": r"found the sections Melt Curve Raw Data and no \[Results\]",
    "header_without_wells.txt": "row 7: found a header without wells",
    "two_headers_disagree.txt": "row 8, column Target Name: found 'CAR' and 'RPPH1'",
    "droplets_do_not_add_up.csv": "row 2, column Accepted Droplets: found 105 positives and 14985 negatives of 15000",
    "half_merged_well.csv": "row 3, column MergedWells: found B3, B4, of which only B3 stand alone",
    "concentration_without_droplets.csv": "row 2, column Accepted Droplets: found an empty cell",
    "flowjo_fractional_count.csv": r"row 2, column Lymphocytes \| Count: found '482\.5'; expected a whole number",
    "flowjo_percentages_only.csv": "row 1: found percentages and no column '<gate> | Count'",
    "flowjo_gate_twice.csv": r"row 1, column Lymphocytes \| Count: found the column twice",
    "truncated_workbook.xlsx": "found a damaged or truncated workbook of 2,500 bytes; expected a complete workbook",
}
REFUSED_LISTING = {
    "negative_level.csv": "row 3, column DV: found '-3', a negative value; expected a number, 0 or more",
    "blq_without_lloq.csv": "row 3, column LLOQ: found a level below the LLOQ and no LLOQ",
    "formula_as_patient.csv": r"row 2, column ID: found '=cmd\|x'; expected 1 to 40 letters",
    "path_as_patient.csv": r"row 2, column ID: found '\.\./x'; expected 1 to 40 letters",
    "zero_without_lloq.csv": "row 2, column DV: found a level of 0 and no LLOQ",
    "sample_without_time.csv": r"row 2, column TIME: found '\.'; expected the time of the sample",
    "dose_beside_every_level.csv": "row 2, column AMT: found the amount 2e9 beside the level 120.5",
    "ambiguous_decimal_mark.csv": r"found numbers as 1\.234, which may be 1\.234 or 1234; .* set inputs\.decimal",
    "two_decimal_marks.csv": r"found a decimal point as in 2\.25 and a decimal comma as in 1,5; .* set inputs\.decimal",
    "mapped_column_absent.csv": "row 1: found the columns ID, TIME, CONC, LLOQ, AMT; expected also DV",
    "mapped_column_twice.csv": "row 1, column DV: found the column twice",
    "quote_never_closed.csv": "found a quotation mark that is never closed",
}


@pytest.mark.parametrize(
    ("name", "message", "settings"),
    [(n, m, DEFAULTS) for n, m in REFUSED.items()] + [(n, m, listing()) for n, m in REFUSED_LISTING.items()],
    ids=[*REFUSED, *REFUSED_LISTING],
)
def test_a_broken_export_is_refused_with_file_place_and_reason(name: str, message: str, settings: Settings) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_export(BROKEN / name, BROKEN, settings)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].file == name
    assert caught.value.problems[0].expected
    assert caught.value.problems[0].mend


def test_every_broken_export_has_its_test() -> None:
    assert {p.name for p in BROKEN.iterdir()} == {*REFUSED, *REFUSED_LISTING}


def test_all_defects_of_a_file_are_reported_together(tmp_path: Path) -> None:
    rows = [row[:] for row in PLATE]
    rows[4][6], rows[6][2], rows[7][5] = "many", "../x", "16,484"
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows, ";"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(path)
    assert [(p.row, p.column) for p in caught.value.problems] == [(5, "Quantity"), (7, "Sample Name"), (8, "Cт")]


def test_an_unquoted_decimal_comma_that_shifts_a_row_is_refused(tmp_path: Path) -> None:
    rows = [[*row, ""] for row in PLATE]
    rows[6][5] = "16,484"
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows), encoding="utf-8")
    with pytest.raises(InputError, match="row 7: found 9 cells; expected 8, as in the other rows"):
        read(path)


def test_a_row_that_lost_a_separator_is_refused(tmp_path: Path) -> None:
    rows = [[*row[:2], "false" if row[0].isdigit() else "Omit", *row[2:]] for row in PLATE]
    text = text_of(rows).replace("0012,CAR", "0012 CAR")
    path = tmp_path / "plate.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="row 7: found 7 cells; expected 8, as in the other rows"):
        read(path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("quantstudio/plate.txt", "a second row for A3, CAR, after row 18"),
        ("qx_manager/wells.csv", "a second row for A1, CAR, after row 2"),
        ("flowjo_table/panel.csv", "a second row for 0012.fcs, after row 2"),
    ],
)
def test_a_well_or_sample_that_stands_twice_in_a_file_is_refused(tmp_path: Path, name: str, found: str) -> None:
    lines = (DATA / "readers" / name).read_text(encoding="utf-8").split("\n")
    place = next(i for i, line in enumerate(lines) if "0012" in line and "=" not in line)
    path = tmp_path / "twice.txt"
    path.write_text("\n".join([*lines[:place], lines[place], *lines[place:]]), encoding="utf-8")
    with pytest.raises(InputError, match=found):
        read(path)


def test_a_gzip_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plate.txt"
    path.write_bytes(gzip.compress(text_of(PLATE).encode()))
    with pytest.raises(InputError, match=r"plate\.txt: found a gzip archive; .* unpack it"):
        read(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plate.csv"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="found bytes that are no text"):
        read(path)


def test_an_xml_document_is_refused_by_its_root(tmp_path: Path) -> None:
    path = tmp_path / "plate.csv"
    path.write_text('<?xml version="1.0"?><Workspace><a b="1,2"/></Workspace>')
    with pytest.raises(InputError, match="found an XML document <Workspace> of no known format"):
        read(path)


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    _, reports = read_exports([tmp_path / "none.csv", tmp_path], tmp_path.parent, DEFAULTS)
    assert sorted(p.found for r in reports for p in r.problems) == ["a folder", "no such file"]


def test_a_file_with_two_mappings_is_refused() -> None:
    two = Settings(generic=[{"match": "*.csv", "columns": LISTING}, {"match": "neg*", "columns": LISTING}])
    with pytest.raises(InputError, match=r"found two mappings for this file, '\*\.csv' and 'neg\*'"):
        read_export(BROKEN / "negative_level.csv", BROKEN, two)


def test_a_mapped_file_is_read_by_its_mapping_and_by_no_other_reader() -> None:
    """An export of an instrument becomes a listing when the user maps it."""
    columns = {"patient_id": "Sample description 1", "level": "Conc(copies/µL)", "status": "Status"}
    mapped = Settings(generic=[{"match": "*/wells.csv", "columns": columns}])
    path = DATA / "readers" / "qx_manager" / "wells.csv"
    with pytest.raises(InputError) as caught:
        read_export(path, DATA, mapped)
    assert {p.column for p in caught.value.problems} >= {"Status", "Sample description 1"}


def test_two_readers_that_claim_one_file_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import nkinetics.readers as package
    from nkinetics.plugins import Claim, Reader, Reading, discover

    greedy = Reader("greedy", "greedy format", lambda e, s: Claim(True), lambda e, s: Reading([]))
    readers = {**discover("readers"), "greedy": greedy}
    monkeypatch.setattr(package, "discover", lambda family: readers)
    with pytest.raises(InputError, match="found the marks of QX Manager well table and of greedy format"):
        read_export(DATA / "readers" / "qx_manager" / "wells.csv", DATA, DEFAULTS)


def test_the_nearest_format_is_named_with_what_was_missing(tmp_path: Path) -> None:
    rows = [[cell.replace("Well Position", "Well Location") for cell in row] for row in PLATE]
    path = tmp_path / "plate.csv"
    path.write_text(text_of(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"nearest: QuantStudio results, which it is not without Well Position\)"):
        read(path)


# --------------------------------------------------------------------------------------------------------------- limits


def test_a_file_beyond_the_size_limit_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plate.csv"
    path.write_text(text_of(PLATE))
    monkeypatch.setattr(export_module, "FILE_MAX", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("opened"))
    with pytest.raises(InputError, match="expected at most 0 MB"):
        read(path)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "plate.xlsx", {"xl/workbook.xml": b"0" * 5_000_000})
    with pytest.raises(InputError, match=r"found an archive that unpacks from .* MB to 5 MB; expected at most"):
        read(path)


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "plate.xlsx", {f"xl/{i}": b"" for i in range(2001)})
    with pytest.raises(InputError, match="found an archive of 2001 files; expected at most 2000"):
        read(path)


def test_an_archive_whose_directory_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "plate.xlsx", {"xl/workbook.xml": b"0" * 5_000_000})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"whose part xl/workbook\.xml unpacks beyond the size that it declares"):
        read(path)


@pytest.mark.parametrize("keep", [4, 30, 1000, -100, -1])
def test_a_workbook_cut_at_any_place_is_refused(tmp_path: Path, keep: int) -> None:
    path = workbook(tmp_path / "plate.xlsx", [list(row) for row in PLATE])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="damaged or truncated workbook"):
        read(path)


def test_a_stray_cell_in_the_last_corner_of_a_sheet_is_refused_before_the_sheet_is_laid_out(tmp_path: Path) -> None:
    path = workbook(tmp_path / "plate.xlsx", [list(row) for row in PLATE])
    book = openpyxl.load_workbook(path)
    book["Results"]["XFD1048576"] = "x"
    book.save(path)
    with pytest.raises(InputError, match=r"spans 1,048,576 rows and 16,384 columns; expected at most 5,000,000 cells"):
        read(path)


def test_a_long_sheet_within_the_limit_is_read(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["ID", "TIME", "DV", "LLOQ", "AMT"],
        *(["007", i, 120.5, 50, ""] for i in range(12_000)),
    ]
    path = workbook(tmp_path / "listing.xlsx", rows)
    frame = read(path, Settings(generic=[{"match": "*", "columns": LISTING}]))
    assert frame["source_row"].tolist() == list(range(2, 12_002))


def test_a_binary_workbook_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "plate.xlsb", {"xl/workbook.bin": b"x"})
    with pytest.raises(InputError, match=r"found a binary workbook \(xlsb\); .* save it as xlsx"):
        read(path)


def test_a_damaged_old_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plate.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x01" * 3000)
    with pytest.raises(InputError, match="damaged workbook"):
        read(path)


# -------------------------------------------------------------------------------------------------------------- listing


@pytest.mark.parametrize(
    ("unit", "days"),
    [("minute", 1 / 1440), ("hour", 1 / 24), ("day", 1.0), ("week", 7.0), ("month", 30.4375), ("year", 365.25)],
)
def test_times_of_a_listing_become_days(tmp_path: Path, unit: str, days: float) -> None:
    path = tmp_path / "listing.csv"
    path.write_text("ID,TIME,DV,LLOQ,AMT\n007,0,12.5,.,.\n007,2,13.5,.,.\n")
    assert read(path, listing(time_unit=unit))["time"].tolist() == pytest.approx([0.0, 2 * days], abs=1e-12)


@pytest.mark.parametrize("zero", ["first_row", "first_infusion"])
def test_the_zero_of_time_does_not_depend_on_the_order_of_rows(tmp_path: Path, zero: str) -> None:
    lines = ["007,5,.,.,2e9", "007,4,12.5,.,.", "007,8,13.5,.,.", "008,1,.,.,2e9", "008,9,1.5,.,."]
    found = []
    for order in (lines, lines[::-1]):
        path = tmp_path / "listing.csv"
        path.write_text("\n".join(["ID,TIME,DV,LLOQ,AMT", *order]) + "\n")
        frame = read(path, listing(time_zero=zero))
        found.append(sorted(zip(frame["patient_id"], frame["time"], frame["value"].fillna(-1), strict=True)))
    assert found[0] == found[1]
    expected = [0.0, 1.0, 4.0] if zero == "first_row" else [-1.0, 0.0, 3.0]
    assert [time for patient, time, _ in found[0] if patient == "007"] == expected


def test_a_patient_without_a_dose_has_no_first_infusion(tmp_path: Path) -> None:
    path = tmp_path / "listing.csv"
    path.write_text("ID,TIME,DV,LLOQ,AMT\n007,5,.,.,2e9\n008,9,1.5,.,.\n008,10,1.7,.,.\n")
    with pytest.raises(InputError, match="row 3, column TIME: found no dosing row of patient 008") as caught:
        read(path, listing(time_zero="first_infusion"))
    assert len(caught.value.problems) == 1


def test_levels_of_a_listing_scale_with_the_curve(tmp_path: Path) -> None:
    """One slope fewer cycles is ten times the level."""
    path = tmp_path / "listing.csv"
    path.write_text("ID,TIME,DV\n007,0,30.5\n007,1,27.1\n")
    columns = {"patient_id": "ID", "time_actual": "TIME", "level": "DV"}
    curve = {"slope": -3.4, "intercept": 38.25}
    mapped = Settings(generic=[{"match": "*", "columns": columns, "quantity": "ct", "curve": curve}])
    low, high = read(path, mapped)["value"]
    assert high / low == pytest.approx(10, rel=1e-12)
    assert low == pytest.approx(10 ** ((38.25 - 30.5) / 3.4), rel=1e-12)


def test_a_status_that_contradicts_its_level_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "listing.csv"
    path.write_text("ID,TIME,DV,WORD\n007,0,30.5,quantified\n007,1,,quantified\n007,2,,not done\n")
    columns = {"patient_id": "ID", "time_actual": "TIME", "level": "DV", "status": "WORD"}
    with pytest.raises(InputError, match="row 3, column DV: found status quantified and no level"):
        read(path, Settings(generic=[{"match": "*", "columns": columns}]))


def test_a_listing_in_a_workbook_is_read_from_the_sheet_that_is_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["nothing", "here"])
    sheet = book.create_sheet("Levels")
    for row in (["ID", "TIME", "DV", "LLOQ", "AMT"], ["007", 1, 120.5, 50, None], [8, 2, "BLQ", 50, None]):
        sheet.append(row)
    path = tmp_path / "listing.xlsx"
    book.save(path)
    mapped = Settings(generic=[{"match": "*.xlsx", "sheet": "levels", "columns": LISTING}])
    frame = read(path, mapped)
    assert frame["patient_id"].tolist() == ["007", "8"]
    assert frame["detection"].tolist() == ["quantified", "below"]
    assert frame["source_row"].tolist() == [2, 3]


def test_patients_keep_their_leading_zeros() -> None:
    settings = Settings(generic=[{"match": "negative_level.csv", "columns": {**LISTING, "level": "LLOQ"}}])
    columns = {k: v for k, v in settings.generic[0].columns.model_dump().items() if k != "lloq"}
    frame = read(BROKEN / "negative_level.csv", Settings(generic=[{"match": "*", "columns": columns}]))
    assert frame["patient_id"].tolist() == ["007", "007"]


# ----------------------------------------------------------------------------------------------------------- the layer


def test_an_export_is_not_parsed_before_a_reader_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim looks at the top of a sheet; the curves of a workbook are never turned into text."""
    path = workbook(tmp_path / "plate.xlsx", [list(row) for row in PLATE])
    book = openpyxl.load_workbook(path)
    curves = book.create_sheet("Amplification Data")
    for i in range(1000):
        curves.append([i, i / 7])
    book.save(path)
    asked: list[object] = []
    original: Callable[[object], str] = export_module.cell_text
    monkeypatch.setattr(export_module, "cell_text", lambda value: (asked.append(value), original(value))[1])
    export = open_export(path, tmp_path)
    assert asked == []
    read_export(path, tmp_path, DEFAULTS)
    assert len(asked) < 1000
    assert export.kind == "workbook"


# ------------------------------------------------------------------------------------- words, and tables beside results


@pytest.mark.parametrize(
    "word", ["n. def.", "Non Numérique", "NeuN", "Non un numero reale", "非数字", "NaN (Niet-een-getal)"]
)
def test_a_well_without_a_ct_is_one_in_the_language_of_the_computer_too(word: str) -> None:
    found = detection(word, NO_AMPLIFICATION)
    assert found is not None and found.detection == "not_detected"
    elsewhere = detection(word)
    assert elsewhere is not None and elsewhere.detection == "not_done"


OTHER = {
    ",Cycle,A1,A2,A3,A4\n,1,0.1,0.2,0.3,0.1\n": "curves with one column per well",
    "Temperature;A01;A02;A03\n65;1,5;1,4;1,3\n": "curves with one column per well",
    "Well,Fluor,Target,Content,Sample,End RFU,Call\nA01,FAM,CAR,Unkn,S1,1234,\n": "end-point results of Bio-Rad CFX",
    "Ch1 Amplitude,Ch2 Amplitude,Cluster\n812.1,1201.5,1\n": "amplitudes of single droplets",
    "FSC-A,SSC-A,Comp-APC-A,Time\n1,2,3,4\n": "readings of single events",
    "File Name,x.pcrd\nCreated By User,a\nRun Started,2026-03-01\n": "run information of Bio-Rad CFX",
    "Position\tSample Name\tGene Name\tCq\tExcluded\tSample Type\nA1\tP\tCAR\t22.1\t\tUnknown\n": "LightCycler 96",
    "Well\tWell Name\tWell Type\tThreshold (dRn)\tCt (dRn)\nA1\tP01\tUnknown\t0.1\t23.1\n": "Agilent AriaMx or MxPro",
    "<_x0030_><Row><Well>A01</Well><Cq>22.1</Cq></Row></_x0030_>\n": "a sheet of Bio-Rad CFX",
    "Well\tCycle\tTarget Name\tRn\tΔRn\n1\t1\tCAR\t0.5\t0.1\n": "amplification curves",
}


@pytest.mark.parametrize(("text", "what"), OTHER.items())
def test_a_table_beside_the_results_is_refused_by_name_with_the_one_to_export(
    tmp_path: Path, text: str, what: str
) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_export(tmp_path / "x.csv", tmp_path, DEFAULTS)
    assert what in str(caught.value)
    assert "take this file out of inputs.exports" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"/>',
            "workbook of Excel 2003",
        ),
        ("<html><body><table><tr><td>Well</td></tr></table></body></html>", "a web page"),
    ],
)
def test_a_page_under_the_ending_of_a_workbook_is_to_be_saved_as_one(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "x.xls").write_text(text)
    with pytest.raises(InputError, match=f"{what}.* save it as xlsx"):
        read_export(tmp_path / "x.xls", tmp_path, DEFAULTS)


def test_an_experiment_file_is_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.eds", "w") as archive:
        archive.writestr("apldbio/sds/experiment.xml", "<Experiment/>")
    with pytest.raises(InputError, match=r"an experiment file \(eds\).*the Results table"):
        read_export(tmp_path / "run.eds", tmp_path, DEFAULTS)
