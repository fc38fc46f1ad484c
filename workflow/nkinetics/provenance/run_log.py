"""logs/runs.jsonl: one line for each run of the workflow, with clock, outcome and versions; apart from the results.

Results hold no clock, so that the same inputs give the same bytes; when which run took place stands here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

FILE = "runs.jsonl"
UNFINISHED = "run_unfinished.json"
"""The run that goes on; what a killed run leaves behind."""

_STEPS = re.compile(r"^(\d+) of (\d+) steps", flags=re.M)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def steps(log: str) -> dict[str, int]:
    r"""Jobs finished and jobs planned, as the log of a run of snakemake counts them.

    Examples
    --------
    >>> steps("1 of 3 steps (33%) done\n2 of 4 steps (50%) done\n")
    {'finished': 2, 'planned': 4}
    """
    found = _STEPS.findall(log)
    finished, planned = found[-1] if found else (0, 0)
    return {"finished": int(finished), "planned": int(planned)}


def begin(folder: Path, about: Mapping[str, object]) -> None:
    """Note that a run begins; one that was killed before gets its line first.

    Parameters
    ----------
    folder : Path
        logs/.
    about : mapping
        Study, data cut and versions.
    """
    _end_killed(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).write_text(json.dumps({"begun": now(), **about}, sort_keys=True), encoding="utf-8")


def end(folder: Path, outcome: str, log: Path | None) -> None:
    """Add the line of the run that began last.

    Parameters
    ----------
    folder : Path
        logs/.
    outcome : {"done", "failed"}
        How it ended.
    log : Path or None
        Log of the run of snakemake, for the count of jobs.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log is not None and log.is_file() else ""
    _append(folder, {"ended": now(), "outcome": outcome, "jobs": steps(text)})


def _end_killed(folder: Path) -> None:
    if (folder / UNFINISHED).is_file():
        _append(folder, {"ended": None, "outcome": "killed", "jobs": None})


def _append(folder: Path, more: Mapping[str, object]) -> None:
    path = folder / UNFINISHED
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        about = {"begun": None}
    with (folder / FILE).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({**about, **more}, sort_keys=True) + "\n")
    path.unlink(missing_ok=True)
