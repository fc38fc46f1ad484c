"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Third-party files for tests, beside the checkout; skipped where absent, unless they are required."""
    folder = Path(os.environ.get("NKINETICS_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        if os.environ.get("NKINETICS_REQUIRE_SHARED") == "1":
            pytest.fail(f"{folder.name}/data is required and absent")
        pytest.skip(
            "needs third-party files that may not be copied here: ../shared/data, or where NKINETICS_SHARED says"
        )
    return folder / "data"


@pytest.fixture(scope="session")
def results_small(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder written by hand: six patients, one never quantified, one without any sample.

    The files of tests/data hold the columns that matter; the store completes them as the stages would have.
    """
    from nkinetics.results import STUDY_TABLES
    from nkinetics.store import SCHEMAS, read_table, write_table

    source, folder = root / "tests" / "data" / "results_small", tmp_path_factory.mktemp("results_small")
    for path in sorted(source.rglob("*.csv")):
        schema = STUDY_TABLES[path.stem] if path.parent.name == "study" else SCHEMAS[path.stem]
        write_table(read_table(path, schema, foreign=True), folder / path.relative_to(source), schema)
    return folder


@pytest.fixture(scope="session")
def context_small(root: Path):
    """Settings of that study, and a version."""
    from nkinetics.results import Context
    from nkinetics.settings import load

    return Context(load(root / "tests" / "data" / "results_small" / "config.yaml"), "0.1.0")
