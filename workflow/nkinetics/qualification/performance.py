"""Performance: the user's own study, computed twice under other circumstances, has the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nkinetics.errors import InputError, Problem
from nkinetics.qualification.control import TEXT_MAX, Control, Outcome
from nkinetics.store import sha256_of

RUNS: tuple[tuple[str, int, Mapping[str, str]], ...] = (
    ("first", 1, {"TZ": "Asia/Shanghai", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
    ("second", 2, {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}),
)
"""Name, cores, and what else of the circumstances differs."""
NOT_COMPARED = ("run_config.yaml",)
CARRIED = ("config", "data", "profiles", "workflow", "Snakefile")


def controls(root: Path) -> tuple[Control, ...]:
    """Controls on the study of a checkout; they run its whole workflow twice.

    Parameters
    ----------
    root : Path
        Folder with the Snakefile, the configuration and the data.

    Raises
    ------
    InputError
        Where it is none.
    """
    absent = [name for name in ("Snakefile", "config/config.yaml") if not (root / name).is_file()]
    if absent:
        raise InputError(
            [
                Problem(name, found="no such file", expected="the folder of the study", mend="call it in that folder")
                for name in absent
            ]
        )

    @cache
    def twice() -> tuple[dict[str, str], dict[str, str], str]:
        return _twice(root)

    return (
        Control("PQ-01", "REP-1", "The study runs to its end, twice", "this study", lambda: _complete(*twice())),
        Control(
            "PQ-02", "REP-1", "Results on 1 and 2 cores, in other time zones and locales, are equal", "this study",
            lambda: _equal(*twice()[:2]),
        ),
        Control(
            "PQ-03", "REP-1", "The same comparison with one byte changed", "planted defect",
            lambda: _equal(*_planted(*twice()[:2])), "fail",
        ),
        Control(
            "PQ-04", "REP-1", "Results that stand in this folder equal the new ones", "this study",
            lambda: _standing(root, twice()[0]),
        ),
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Sha256 of every file below a folder, by its relative name."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in NOT_COMPARED and not path.name.startswith(".")
    }


def _twice(root: Path) -> tuple[dict[str, str], dict[str, str], str]:
    found, said = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, cores, around in RUNS:
            place = Path(folder) / name
            place.mkdir()
            for part in CARRIED:
                source = root / part
                if source.is_dir():
                    shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__"))
                elif source.is_file():
                    shutil.copy2(source, place / part)
            done = subprocess.run(
                [sys.executable, "-m", "snakemake", "--cores", str(cores), "--quiet", "all"],
                cwd=place,
                env={**os.environ, **around},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                said.append(f"{name} run: {done.stderr.strip()[-TEXT_MAX:]}")
            found.append(digests(place / "results") if (place / "results").is_dir() else {})
    return found[0], found[1], "; ".join(said)


def _complete(one: Mapping[str, str], two: Mapping[str, str], said: str) -> Outcome:
    met = not said and "report.html" in one and "report.html" in two
    return Outcome(met, said or f"{len(one)} and {len(two)} files", "a report from both runs")


def _equal(one: Mapping[str, str], two: Mapping[str, str]) -> Outcome:
    other = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    told = f"{len(one)} files, {len(other)} different" + (f": {', '.join(other[:5])}" if other else "")
    return Outcome(bool(one) and not other, told, "all files equal")


def _planted(one: Mapping[str, str], two: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    return one, {**two, **{name: "0" * 64 for name in list(two)[:1]}}


def _standing(root: Path, new: Mapping[str, str]) -> Outcome:
    folder = root / "results"
    if not (folder / "report.html").is_file():
        return Outcome(False, "no results/report.html in this folder", "results of this study: run snakemake first")
    here = digests(folder)
    return _equal({name: here[name] for name in new if name in here}, new)
