"""Levels below their limit: by position on a curve, and in a likelihood."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from nkinetics.blq import DENSITY, INTERVAL, METHODS, NO_TERM, likelihood_rows, positions, substituted
from nkinetics.errors import InputError
from nkinetics.settings import Blq

RULES = ("zero", "drop", "lloq", "half_lloq")


def plain_substituted(level: list[float | None], lloq: list[float], rules: Blq) -> list[float]:
    """The position rules, one sample after the other."""
    found = [i for i, x in enumerate(level) if x is not None]
    out = []
    for i, x in enumerate(level):
        if x is not None:
            out.append(x)
            continue
        if not found or i < found[0]:
            rule = rules.first
        elif i > found[-1]:
            rule = rules.last
        else:
            rule = rules.middle
        out.append({"zero": 0.0, "drop": np.nan, "lloq": lloq[i], "half_lloq": lloq[i] / 2}[rule])
    return out


@pytest.mark.parametrize(("first", "middle", "last"), list(itertools.product(RULES, repeat=3)))
def test_each_position_follows_its_own_rule_in_every_combination(first: str, middle: str, last: str) -> None:
    rules = Blq(first=first, middle=middle, last=last)
    rng = np.random.default_rng(7)
    present = rng.random((40, 9)) < 0.4
    lloq = rng.uniform(1, 20, present.shape)
    level = np.where(present, rng.uniform(20, 900, present.shape), np.nan)
    got = substituted(level, present, ~present, lloq, rules)
    wanted = [
        plain_substituted([x if p else None for x, p in zip(row, has, strict=True)], list(limit), rules)
        for row, has, limit in zip(level, present, lloq, strict=True)
    ]
    np.testing.assert_array_equal(got, wanted)


def test_without_any_level_every_blq_sample_is_first() -> None:
    nothing = np.zeros((1, 3), dtype=bool)
    first, middle, last = positions(nothing, ~nothing)
    assert first.all() and not middle.any() and not last.any()


def test_the_number_that_a_blq_sample_carries_is_never_used() -> None:
    present = np.array([[False, True, False]])
    lloq = np.full((1, 3), 10.0)
    rules = Blq(first="half_lloq", last="lloq")
    one = substituted(np.array([[3.0, 50.0, 9.9]]), present, ~present, lloq, rules)
    other = substituted(np.array([[0.0, 50.0, np.nan]]), present, ~present, lloq, rules)
    np.testing.assert_array_equal(one, other)


POSITION_CASES = ("clean_blq-04", "clean_blq-05", "clean_blq-14", "clean_blq-15")
OTHER_CASES = {
    # nca.md: "By position: `first` (before the first quantified) 0; `middle` (between quantified) drop; `last` (after
    # Tlast) drop." There is no rule by the side of Tmax.
    "clean_blq-09": "by the side of Tmax",
    "clean_blq-10": "by the side of Tmax",
    "clean_blq-11": "by the side of Tmax",
    "clean_blq-12": "by the side of Tmax",
}


@pytest.mark.shared
def test_reference_cases_of_blq_cleaning_agree(shared: Path) -> None:
    cases = {c["id"]: c for c in json.loads((shared / "nca" / "cases.json").read_text()) if c["kind"] == "clean_blq"}
    assert set(cases) == set(POSITION_CASES) | set(OTHER_CASES)
    words = {"keep": "zero", "drop": "drop"}
    for name in POSITION_CASES:
        case = cases[name]
        asked = case["options"]["conc_blq"]
        rules = {p: words[asked if isinstance(asked, str) else asked[p]] for p in ("first", "middle", "last")}
        # These cases first turn a missing level into 0, or have none missing.
        level = np.array([[0.0 if c is None else c for c in case["input"]["conc"]]])
        curve = substituted(level, level > 0, level == 0, np.ones_like(level), Blq(**rules))
        kept = ~np.isnan(curve[0])
        assert curve[0][kept].tolist() == case["expected"]["conc"]
        assert np.array(case["input"]["time"])[kept].tolist() == case["expected"]["time"]


STATUS = ["quantified", "blq", "blq", "not_detected", "not_detected", "above_uloq", "not_done", "failed"]
LEVEL = [80.0, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan]
LOD = [5.0, 5.0, np.nan, 5.0, np.nan, 5.0, np.nan, np.nan]


def test_m3_gives_each_status_the_interval_that_is_known_of_it() -> None:
    rows = likelihood_rows(STATUS, LEVEL, LOD, 20.0, 900.0, "M3")
    assert rows.kind.tolist() == [DENSITY, INTERVAL, INTERVAL, INTERVAL, INTERVAL, INTERVAL, NO_TERM, NO_TERM]
    np.testing.assert_array_equal(rows.lower, [80.0, 5.0, 0.0, 0.0, 0.0, 900.0, np.nan, np.nan])
    np.testing.assert_array_equal(rows.upper, [80.0, 20.0, 20.0, 5.0, 20.0, np.inf, np.nan, np.nan])


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        ("M1", [DENSITY, NO_TERM, NO_TERM, NO_TERM, NO_TERM, INTERVAL, NO_TERM, NO_TERM]),
        ("M5", [DENSITY, DENSITY, DENSITY, DENSITY, DENSITY, INTERVAL, NO_TERM, NO_TERM]),
        ("M6", [DENSITY, DENSITY, NO_TERM, NO_TERM, NO_TERM, INTERVAL, NO_TERM, NO_TERM]),
        ("M7", [DENSITY, INTERVAL, INTERVAL, INTERVAL, INTERVAL, INTERVAL, NO_TERM, NO_TERM]),
    ],
)
def test_other_methods_change_the_rows_below_the_lloq_alone(method: str, kinds: list[int]) -> None:
    rows = likelihood_rows(STATUS, LEVEL, LOD, 20.0, 900.0, method)
    assert rows.kind.tolist() == kinds
    below = slice(1, 5)
    if method in ("M5", "M6"):
        at = rows.kind[below] == DENSITY
        assert (rows.lower[below][at] == 10.0).all() and (rows.upper[below][at] == 10.0).all()
    if method == "M7":
        # Zero has no density on the log scale: not detected, whatever was said of the row.
        assert rows.lower[below].tolist() == [0.0] * 4
        assert rows.upper[below].tolist() == [5.0, 20.0, 5.0, 20.0]


def test_a_quantified_level_below_its_own_lloq_is_blq() -> None:
    rows = likelihood_rows(["quantified", "quantified"], [15.0, 3.0], 5.0, 20.0, np.nan)
    assert rows.kind.tolist() == [INTERVAL, INTERVAL]
    assert (rows.lower.tolist(), rows.upper.tolist()) == ([5.0, 0.0], [20.0, 5.0])


def test_m6_begins_a_new_run_after_a_level_and_in_the_next_profile_but_not_after_a_failed_row() -> None:
    status = ["blq", "failed", "blq", "quantified", "blq", "blq", "blq"]
    level = [np.nan, np.nan, np.nan, 50.0, np.nan, np.nan, np.nan]
    rows = likelihood_rows(status, level, np.nan, 20.0, np.nan, "M6", profile=["a", "a", "a", "a", "a", "a", "b"])
    assert rows.kind.tolist() == [DENSITY, NO_TERM, NO_TERM, DENSITY, DENSITY, NO_TERM, DENSITY]


@pytest.mark.parametrize(
    ("status", "level", "lloq", "uloq", "words"),
    [
        ("blq", np.nan, np.nan, np.nan, "column lloq: found a row below the LLOQ without LLOQ"),
        ("above_uloq", np.nan, 20.0, np.nan, "column uloq: found a row above the ULOQ without ULOQ"),
        ("quantified", np.nan, 20.0, np.nan, "column level: found a quantified row without a positive level"),
    ],
)
def test_a_row_without_the_limit_that_it_needs_is_refused(
    status: str, level: float, lloq: float, uloq: float, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        likelihood_rows([status], [level], np.nan, lloq, uloq)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"M2.*M1, M3, M5, M6, M7"):
        likelihood_rows(["quantified"], [1.0], np.nan, np.nan, np.nan, "M2")
    assert list(METHODS) == ["M1", "M3", "M5", "M6", "M7"]
