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
        pytest.skip("needs the third-party files that stand beside the checkout")
    return folder / "data"
