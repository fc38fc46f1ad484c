"""Every reader: it ships an example export and the rows that a person expects of it, and claims that file alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from nkinetics.columns import RAW
from nkinetics.plugins import Claim, Reader, discover
from nkinetics.readers import read_export
from nkinetics.readers._export import open_export
from nkinetics.settings import Settings, validated
from nkinetics.store import csv_text

DATA = Path(__file__).parent / "data" / "readers"
READERS = list(discover("readers").values())
EXAMPLES = [path for reader in READERS for path in sorted((DATA / reader.name).glob("*.expected.csv"))]


def settings_of(folder: Path) -> Settings:
    path = folder / "settings.json"
    return validated(json.loads(path.read_text()), path.name) if path.exists() else Settings()


def example_of(expected: Path) -> Path:
    stem = expected.name.removesuffix(".expected.csv")
    (found,) = [p for p in expected.parent.glob(f"{stem}.*") if not p.name.endswith(".expected.csv")]
    return found


@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.name)
def test_every_reader_has_an_example_export_with_expected_rows(reader: Reader) -> None:
    assert list((DATA / reader.name).glob("*.expected.csv")), f"write tests/data/readers/{reader.name}/"
    assert reader.title
    assert reader.name in discover("readers")


@pytest.mark.parametrize("expected", EXAMPLES, ids=lambda p: f"{p.parent.name}-{p.name.split('.')[0]}")
def test_an_example_export_gives_the_rows_that_stand_beside_it(expected: Path) -> None:
    folder = expected.parent
    frame, report = read_export(example_of(expected), folder, settings_of(folder))
    assert report.reader == folder.name
    assert report.n_rows == len(frame)
    header = expected.read_text(encoding="utf-8").split("\n", 1)[0].split(",")
    assert csv_text(frame[header]) == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("expected", EXAMPLES, ids=lambda p: f"{p.parent.name}-{p.name.split('.')[0]}")
def test_the_rows_of_an_example_have_the_columns_and_types_of_the_raw_table(expected: Path) -> None:
    frame, _ = read_export(example_of(expected), expected.parent, settings_of(expected.parent))
    assert list(frame.columns) == RAW.names
    kinds = {"text": "str", "float": "float64", "int": "Int64", "bool": "boolean"}
    assert {c.name: str(frame[c.name].dtype) for c in RAW.columns} == {c.name: kinds[c.kind] for c in RAW.columns}
    for column in RAW.columns:
        if column.allowed:
            assert set(frame[column.name]) <= set(column.allowed)
    assert set(frame["role"]) <= {"unknown", "standard", "ntc", "control", "summary", "empty", "dose"}
    usable = frame[frame["role"].isin(["unknown", "standard", "ntc", "control"])]
    words = {"quantified", "not_detected", "below", "above", "not_done", "failed"}
    assert set(usable["detection"]) <= words
    assert (usable["value"].notna() == (usable["detection"] == "quantified")).all()
    assert frame.loc[frame["role"].isin(["summary", "empty"]), "note"].ne("").all()


@pytest.mark.parametrize("expected", EXAMPLES, ids=lambda p: f"{p.parent.name}-{p.name.split('.')[0]}")
def test_no_other_reader_claims_an_example(expected: Path) -> None:
    export = open_export(example_of(expected), expected.parent)
    settings = settings_of(expected.parent)
    claims = {reader.name: reader.claim(export, settings) for reader in READERS}
    assert all(isinstance(claim, Claim) for claim in claims.values())
    assert [name for name, claim in claims.items() if claim.matches] == [expected.parent.name]


def test_reading_all_examples_together_gives_the_rows_of_each() -> None:
    from nkinetics.readers import read_exports

    paths = [example_of(e) for e in EXAMPLES]
    settings = settings_of(DATA / "generic")
    together, reports = read_exports(paths, DATA, settings)
    assert [r.problems for r in reports] == [()] * len(paths)
    alone = pd.concat([read_export(p, DATA, settings)[0] for p in sorted(paths)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)
