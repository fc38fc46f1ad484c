"""Compact frames say what plain ones say, in the same order, whatever their parts."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from nkinetics import compact


@pytest.fixture
def frame() -> pd.DataFrame:
    chance = np.random.default_rng(3)
    texts = np.array(["", "b", "Z", "a,b", "é", "10", "9"])
    return pd.DataFrame({
        "one": pd.array(chance.choice(texts, 500), dtype="str"),
        "two": pd.array(chance.choice(texts[:3], 500), dtype="str"),
        "row": pd.array([pd.NA if i % 7 == 0 else i for i in range(500)], dtype="Int64"),
        "value": chance.normal(size=500),
    })  # fmt: skip


def test_compact_and_plain_again_is_the_same(frame):
    pd.testing.assert_frame_equal(compact.plain(compact.compact(frame)), frame)


def test_codes_are_in_the_order_of_the_texts(frame):
    column = compact.compact(frame)["one"]
    assert list(column.cat.categories) == sorted(set(frame["one"]))
    by_code = frame.assign(code=column.cat.codes).sort_values(["code"], kind="stable")["one"]
    assert by_code.tolist() == frame.sort_values(["one"], kind="stable")["one"].tolist()


@pytest.mark.parametrize("cuts", [[500], [0, 500], [1, 2, 250], [100, 100, 400]])
def test_parts_joined_are_the_whole(cuts, frame):
    edges = [0, *cuts, len(frame)]
    parts = [compact.compact(frame.iloc[a:b]) for a, b in itertools.pairwise(edges)]
    pd.testing.assert_frame_equal(compact.plain(compact.joined(parts)), frame)


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_pieces_hold_every_row_once_and_never_part_a_text(most, frame):
    column = compact.compact(frame)["one"]
    found = list(compact.pieces(column, most))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(frame)))
    texts = [frame["one"].iloc[places] for places in found]
    assert [t for own in texts for t in own] == sorted(frame["one"])
    of_piece = [set(own) for own in texts]
    assert sum(len(own) for own in of_piece) == frame["one"].nunique()
    assert all(len(own) <= most or own.nunique() == 1 for own in texts)


def test_nothing_has_no_piece_and_stays_typed(frame):
    nothing = compact.compact(frame.iloc[:0])
    assert list(compact.pieces(nothing["one"], 10)) == []
    pd.testing.assert_frame_equal(compact.plain(nothing), frame.iloc[:0])
    assert compact.renamed(nothing["one"], {"b": "c"}).empty


def test_other_names_are_put_in_order_anew(frame):
    column = compact.renamed(compact.compact(frame)["one"], {"b": "10", "Z": "z"})
    assert column.astype("str").tolist() == frame["one"].replace({"b": "10", "Z": "z"}).tolist()
    assert list(column.cat.categories) == sorted(set(column))
