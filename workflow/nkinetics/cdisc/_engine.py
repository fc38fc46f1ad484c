"""The CDISC rules engine over the SDTM data sets, in the environment of the user that has it (Python 3.12)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd

from nkinetics.errors import Problem, raise_any

COLUMNS = ["rule", "references", "dataset", "status", "records", "message", "example"]
PACKAGE = "cdisc-rules-engine"


def conformance(package: Path, rules: Path, python: str, only: Sequence[str] = ()) -> pd.DataFrame:
    """What the rules find in the SDTM data sets of a package.

    Parameters
    ----------
    package : Path
        Folder that `nkinetics.cdisc.write` wrote.
    rules : Path
        Rules as JSON, a list as the engine's cache has it.
    python : str
        Interpreter of the environment in which cdisc-rules-engine is installed.
    only : sequence of str
        Rules to run, as CORE-000351; all when empty.

    Returns
    -------
    DataFrame
        One row per rule and data set: rule, references, dataset, status (findings, passed, skipped, error), records,
        message, example; sorted. An error is a rule that the engine could not run, mostly for want of library metadata.

    Raises
    ------
    InputError
        When the package, the rules, the interpreter or the engine is not there.
    """
    problems = []
    if not list((package / "sdtm").glob("*.xpt")):
        mend = "run nkinetics cdisc first"
        problems.append(Problem(f"{package.as_posix()}/sdtm", found="no .xpt", expected="a CDISC package", mend=mend))
    if not _is_rules(rules):
        expected = "a JSON list of rules, each with a core_id"
        problems.append(Problem(rules.as_posix(), found="no rules", expected=expected, mend="name another file"))
    interpreter = shutil.which(python)
    if interpreter is None or _run([interpreter, "-c", "import cdisc_rules_engine"]).returncode:
        found = "no such program" if interpreter is None else f"no {PACKAGE}"
        mend = f"make an environment with Python 3.12, pip install {PACKAGE} there, and name its python"
        problems.append(Problem(python, found=found, expected=f"a Python with {PACKAGE}", mend=mend))
    raise_any(problems)
    with as_file(files("nkinetics.cdisc").joinpath("_engine_driver.py")) as driver:
        done = _run([str(interpreter), str(driver), str(rules), str(package / "sdtm"), *only])
    if done.returncode:
        raise RuntimeError(f"the rules engine stopped: {done.stderr.strip()[-2000:]}")
    frame = pd.DataFrame(json.loads(done.stdout), columns=COLUMNS)
    return frame.sort_values(["rule", "dataset", "status", "message"], kind="stable", ignore_index=True)


def _is_rules(path: Path) -> bool:
    try:
        rules = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(rules, list) and bool(rules) and all(isinstance(r, dict) and "core_id" in r for r in rules)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def counts(frame: pd.DataFrame) -> str:
    """One line: rules by what became of them; a rule counts once, by its gravest result."""
    order = {"findings": 3, "error": 2, "passed": 1, "skipped": 0}
    gravest = frame.assign(rank=frame["status"].map(order)).groupby("rule")["rank"].max()
    names = {rank: status for status, rank in order.items()}
    told = gravest.map(names).value_counts()
    words = ", ".join(f"{told.get(s, 0)} {w}" for s, w in (("passed", "passed"), ("findings", "with findings")))
    rest = ", ".join(
        f"{told.get(s, 0)} {w}" for s, w in (("error", "not executable here"), ("skipped", "not applicable"))
    )
    return f"{len(gravest)} rules: {words}, {rest}"
