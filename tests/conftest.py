"""Fixtures that several test files use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium of the machine; nothing is downloaded."""
    if not CHROMIUM:
        if os.environ.get("NKINETICS_REQUIRE_BROWSER") == "1":
            pytest.fail("Chromium is required and absent: apt-get install chromium")
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox of Chromium refuses to start for root, which a container of a test machine is.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Seen:
    """A page, and what the browser told about it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Seen]]:
    """Opens a file in a context of its own and listens; closes what a test opened."""
    contexts = []

    def open_file(path: Path, *, fragment: str = "", width: int = 1280, **choices: Any) -> Seen:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **choices))
        seen = Seen(contexts[-1].new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("requestfailed", lambda request: seen.stopped.update({request.url: request.failure}))
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))

        def dismiss(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        seen.page.on("dialog", dismiss)
        seen.page.goto(path.as_uri() + fragment)
        return seen

    yield open_file
    for context in contexts:
        context.close()
