"""Canonical tables: checks name file, row, column, and files are the same bytes whatever the order of rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import store
from nkinetics.columns import NCA, OBSERVATIONS, PATIENTS, SAMPLES, SCHEMAS
from nkinetics.compact import plain
from nkinetics.errors import InputError
from nkinetics.store import (
    complete,
    csv_text,
    defused,
    read_compact,
    read_table,
    replacing,
    table_writer,
    typed,
    write_table,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_identifiers_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "patients.csv", "patient_id,dose_level\n007,DL1\n1e5,DL1\n")
    assert list(read_table(path, PATIENTS, foreign=True)["patient_id"]) == ["007", "1e5"]


def test_every_defect_of_a_table_is_reported_with_its_row_and_column(tmp_path: Path) -> None:
    text = "patient_id,dose_level,status_end,weight_kg\n=cmd|x,DL1,,70\nP1,,lost,-3\nP1,DL1,,60\n../x,DL1,,\n"
    with pytest.raises(InputError) as caught:
        read_table(write(tmp_path / "patients.csv", text), PATIENTS, foreign=True)
    found = {(p.row, p.column) for p in caught.value.problems}
    assert found == {
        (2, "patient_id"),
        (3, "dose_level"),
        (3, "status_end"),
        (3, "weight_kg"),
        (4, "patient_id"),
        (5, "patient_id"),
    }


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    text = 'sample_id,patient_id,time_actual,ng_input\nS1,P1,1.5,"200,5"\nS2,P1,soon,200\n'
    with pytest.raises(InputError) as caught:
        read_table(write(tmp_path / "samples.csv", text), SAMPLES, foreign=True)
    assert {(p.row, p.column, p.found) for p in caught.value.problems} == {
        (2, "ng_input", "'200,5'"),
        (3, "time_actual", "'soon'"),
    }


def test_a_missing_column_says_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dose_level"):
        read_table(write(tmp_path / "patients.csv", "patient_id\nP1\n"), PATIENTS, foreign=True)


def test_an_empty_file_and_a_row_longer_than_its_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an empty file"):
        read_table(write(tmp_path / "patients.csv", ""), PATIENTS, foreign=True)
    with pytest.raises(InputError, match=r"row 2.*3 cells"):
        read_table(write(tmp_path / "patients.csv", "patient_id,dose_level\nP1,DL1,2\n"), PATIENTS, foreign=True)


def test_bytes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "patient_id": ["01", "01", "2"],
            "dose_level": "DL1",
            "assay": "qpcr",
            "window": "overall",
            "parameter": ["cmax", "auc_last", "cmax"],
            "value": [1 / 3, np.nan, -0.0],
            "reason": ["", "no quantified level", ""],
        }
    )
    write_table(frame, tmp_path / "a.csv", NCA)
    write_table(frame.iloc[::-1], tmp_path / "b.csv", NCA)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    again = read_table(tmp_path / "a.csv", NCA)
    pd.testing.assert_frame_equal(csv_roundtrip := typed(again, NCA), again)
    assert csv_text(csv_roundtrip) == (tmp_path / "a.csv").read_text()
    assert list(again["patient_id"]) == ["01", "01", "2"]
    assert ",0," in (tmp_path / "a.csv").read_text(), "minus zero is written as zero"


OBSERVED = pd.DataFrame(
    {
        "patient_id": [f"{i // 3:02d}" for i in range(11)],
        "time_actual": [0.1 * i if i % 4 else np.nan for i in range(11)],
        "level": [10.0**i for i in range(11)],
        "status": ["quantified", "blq", "failed"] * 3 + ["blq", "blq"],
        "reportable": [True, False, pd.NA] * 3 + [True, True],
        "n_replicates": [1, pd.NA] * 4 + [1, 3, pd.NA],
        "visit": ["Day 1, pre-dose", "", "第 2 天"] * 3 + ['a "b"', "line\nfeed"],
        "observation_id": [f"o{i:02d}" for i in range(11)],
    }
)


def carefully(path: Path) -> pd.DataFrame:
    """The table read cell by cell."""
    return store._read_carefully(path, OBSERVATIONS, foreign=False)


@pytest.mark.parametrize("rows", [1, 3, 100_000])
def test_a_table_read_in_pieces_is_the_table_read_cell_by_cell(tmp_path: Path, monkeypatch, rows: int) -> None:
    write_table(OBSERVED, tmp_path / "observations.csv", OBSERVATIONS)
    monkeypatch.setattr(store, "_PIECE", rows)
    read = read_table(tmp_path / "observations.csv", OBSERVATIONS)
    assert store._own_frame(tmp_path / "observations.csv", OBSERVATIONS, None, {}) is not None
    pd.testing.assert_frame_equal(read, carefully(tmp_path / "observations.csv"), check_exact=True)
    assert list(read["visit"])[-2:] == ['a "b"', "line\nfeed"]


def test_a_table_without_rows_has_the_types_of_its_columns(tmp_path: Path) -> None:
    write_table(OBSERVED.iloc[:0], tmp_path / "observations.csv", OBSERVATIONS)
    read = read_table(tmp_path / "observations.csv", OBSERVATIONS)
    pd.testing.assert_frame_equal(read, carefully(tmp_path / "observations.csv"))


def test_columns_and_rows_that_are_asked_for_are_those_of_the_whole_table(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "observations.csv"
    write_table(OBSERVED, path, OBSERVATIONS)
    monkeypatch.setattr(store, "_PIECE", 3)
    whole = read_table(path, OBSERVATIONS)
    some = read_table(path, OBSERVATIONS, columns=("level", "visit"), where={"status": {"blq"}})
    wanted = whole.loc[whole["status"] == "blq", ["visit", "level"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, wanted, check_exact=True)
    path.write_text(path.read_text() + "\n")
    pd.testing.assert_frame_equal(read_table(path, OBSERVATIONS, columns=("level", "visit")), whole[["visit", "level"]])
    assert len(read_table(path, OBSERVATIONS, columns=())) == len(whole)


def test_a_table_that_is_held_compactly_gives_the_same_rows(tmp_path: Path) -> None:
    write_table(OBSERVED, tmp_path / "observations.csv", OBSERVATIONS)
    held = read_compact(tmp_path / "observations.csv", OBSERVATIONS)
    assert held["status"].dtype == "category"
    pd.testing.assert_frame_equal(plain(held), read_table(tmp_path / "observations.csv", OBSERVATIONS))
    kept = held["status"].isin(["failed"])
    pd.testing.assert_frame_equal(plain(held[kept]), read_table(tmp_path / "observations.csv", OBSERVATIONS)[kept])


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (",100000,", ",100.000.000,", "level"),
        (",100000,", ",inf,", "level"),
        (",false,", ",maybe,", "reportable"),
        (",3,", ",2.5,", "n_replicates"),
    ],
)
def test_a_defect_beyond_the_first_piece_is_named_with_its_row(
    tmp_path: Path, monkeypatch, old: str, new: str, column: str
) -> None:
    path = tmp_path / "observations.csv"
    write_table(OBSERVED, path, OBSERVATIONS)
    lines = path.read_text().split("\n")
    row = max(i for i, line in enumerate(lines, start=1) if old in line)
    lines[row - 1] = lines[row - 1].replace(old, new)
    path.write_text("\n".join(lines))
    monkeypatch.setattr(store, "_PIECE", 3)
    for asked in (None, ("visit",)):
        with pytest.raises(InputError) as caught:
            read_table(path, OBSERVATIONS, columns=asked)
        assert {p.column for p in caught.value.problems} == {column}
        # The row is that of `read_text_frame`: a line that a quoted cell goes on in is none.
        assert {p.row for p in caught.value.problems} == {row}


def test_a_row_longer_or_shorter_than_the_header_is_treated_as_ever(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "observations.csv"
    write_table(OBSERVED, path, OBSERVATIONS)
    lines = path.read_text().split("\n")
    monkeypatch.setattr(store, "_PIECE", 3)
    path.write_text("\n".join([*lines[:6], lines[6] + ",more", *lines[7:]]))
    with pytest.raises(InputError, match=r"row 7.*cells"):
        read_table(path, OBSERVATIONS, columns=("visit",))
    path.write_text("\n".join([*lines[:6], "09", "," * 20, *lines[7:]]))
    pd.testing.assert_frame_equal(read_table(path, OBSERVATIONS), carefully(path))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_key_of_a_schema_is_one_of_its_columns(name: str) -> None:
    schema = SCHEMAS[name]
    assert set(schema.key) <= set(schema.names)
    assert len(set(schema.names)) == len(schema.names)
    assert list(complete(pd.DataFrame(), schema).columns) == schema.names


def test_text_that_a_spreadsheet_would_run_is_defused() -> None:
    assert [defused(t) for t in ("=1+1", "@x", "-lost", "-1.5", "+2", "a=b")] == [
        "'=1+1",
        "'@x",
        "'-lost",
        "-1.5",
        "+2",
        "a=b",
    ]


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "nca.csv", "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["nca.csv"]


def test_our_csv_is_that_of_the_standard_writer_and_reads_back_the_same() -> None:
    texts = ["plain", "a,b", 'said "no"', "two\nlines", "", "é中", "cr\rhere", " blank "]
    rng = np.random.default_rng(2)
    n = 500
    frame = pd.DataFrame(
        {
            "text": pd.Series(rng.choice(texts, n), dtype="str"),
            "number": np.where(rng.random(n) < 0.3, np.nan, np.exp(rng.normal(0, 20, n))),
            "whole": pd.array(rng.integers(-5, 5, n), dtype="Int64"),
            "mark": pd.array(rng.random(n) < 0.5, dtype="boolean"),
        }
    )
    frame.loc[::7, "whole"] = pd.NA
    frame.loc[::5, "mark"] = pd.NA
    said = csv_text(frame)
    rows = list(csv.reader(io.StringIO(said, newline="")))
    assert rows[0] == list(frame.columns) and len(rows) == n + 1
    for row, (text, number, whole, mark) in zip(rows[1:], frame.itertuples(index=False), strict=True):
        shown = "" if number != number else f"{number:.10g}"
        flag = "" if mark is pd.NA else str(mark).lower()
        assert row == [text, shown, "" if whole is pd.NA else str(whole), flag]
    handle = io.StringIO(newline="")
    csv.writer(handle, lineterminator="\n").writerows(rows)
    # The standard writer leaves a carriage return bare, which other programs take for the end of a line.
    assert said == handle.getvalue().replace("cr\rhere", '"cr\rhere"').replace('""cr', '"cr').replace('here""', 'here"')


def test_a_column_alone_keeps_its_empty_rows() -> None:
    assert csv_text(pd.DataFrame({"text": ["a", "", "b"]})) == 'text\na\n""\nb\n'


def test_a_table_written_in_pieces_is_the_table_written_at_once(tmp_path: Path) -> None:
    rows = [{"patient_id": f"{i:02d}", "window": "overall", "parameter": "cmax", "value": i / 3} for i in range(9)]
    frame = pd.DataFrame(rows)
    write_table(frame.sample(frac=1, random_state=3), tmp_path / "whole.csv", NCA)
    with table_writer(tmp_path / "pieces.csv", NCA) as write_rows:
        for begin in (0, 4, 8):
            write_rows(frame.iloc[begin : begin + 4])
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with table_writer(tmp_path / "none.csv", NCA):
        pass
    assert (tmp_path / "none.csv").read_text() == ",".join(NCA.names) + "\n"


def test_a_table_cut_off_while_it_is_written_in_pieces_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), table_writer(tmp_path / "nca.csv", NCA) as write_rows:
        write_rows(pd.DataFrame({"patient_id": ["01"], "window": "overall", "parameter": "cmax"}))
        raise RuntimeError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_rows_are_sorted_by_key_whatever_comes_with_them() -> None:
    rng = np.random.default_rng(4)
    n = 300
    frame = pd.DataFrame(
        {
            "patient_id": rng.choice(["01", "1", "10", "a"], n),
            "window": rng.choice(["overall", "D0-28"], n),
            "parameter": "cmax",
            "value": rng.normal(size=n),
            "n_points": pd.array(rng.integers(0, 3, n), dtype="Int64"),
        }
    )
    made = complete(frame, NCA)
    keys = list(made[list(NCA.key)].itertuples(index=False, name=None))
    assert keys == sorted(keys)
    pd.testing.assert_frame_equal(made, complete(frame.iloc[::-1], NCA))
    pd.testing.assert_frame_equal(made, complete(made, NCA))
