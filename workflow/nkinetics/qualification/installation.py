"""Installation: the environment is the one that the lock names, the code is whole, the command works."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from nkinetics import __version__, provenance
from nkinetics.qualification.control import Control, Outcome

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
STAGES = ("ingest", "nca", "fit", "population", "table", "figure", "report")


def controls(root: Path) -> tuple[Control, ...]:
    """Controls of the environment in which this runs.

    Parameters
    ----------
    root : Path
        The checkout, with requirements.lock.
    """
    lock = root / "requirements.lock"
    return (
        Control("IQ-01", "INS-1", "Version of Python", "pyproject.toml", _python),
        Control("IQ-02", "INS-1", "Packages against the lock", lock.name, lambda: _packages(lock)),
        Control(
            "IQ-03", "INS-1", "A package with another version than the lock's", "planted defect",
            lambda: _packages(lock, planted=True), "fail",
        ),
        Control("IQ-04", "INS-2", "The command answers with its version", "package", _command),
        Control("IQ-05", "INS-2", "Code of every stage can be read and named", "package", _code),
        Control("IQ-06", "INS-2", "Files of the checkout as they were committed", "git", lambda: _committed(root)),
        Control("IQ-07", "INS-3", "A file is written whole and read back", "file system", _written),
        Control("IQ-08", "INS-3", "The simulated study is written twice with equal bytes", "package", _self_test),
    )  # fmt: skip


def facts() -> list[tuple[str, str]]:
    """The machine, for the protocol: (name, value)."""
    return [
        ("NKinetics", __version__),
        ("Python", platform.python_version()),
        ("operating system", f"{platform.system()} {platform.release()}"),
        ("architecture", platform.machine()),
        ("processors", str(os.cpu_count() or "")),
    ]


def pins(text: str) -> dict[str, set[str]]:
    """Version(s) that a lock names for each package, by normalised name.

    Examples
    --------
    >>> pins("numpy==2.1.0 ; python_version < '3.12'")
    {'numpy': {'2.1.0'}}
    """
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        match = _PIN.match(line)
        if match:
            found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), set()).add(match[2])
    return found


def _python() -> Outcome:
    return Outcome(sys.version_info >= (3, 11), platform.python_version(), "3.11 or newer")


def _packages(lock: Path, planted: bool = False) -> Outcome:
    expected = f"the versions of {lock.name}"
    if not lock.is_file():
        return Outcome(False, f"no {lock.name} in this folder", expected)
    named = pins(lock.read_text(encoding="utf-8"))
    if planted:
        named["numpy"] = {"0.0.1"}
    same, other, absent = 0, [], 0
    for name, versions in sorted(named.items()):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            absent += 1  # the lock serves every platform; what this one needs is imported by the other controls
            continue
        if version in versions:
            same += 1
        else:
            other.append(f"{name} {version} (lock: {', '.join(sorted(versions))})")
    told = f"{same} packages as locked, {absent} of other platforms not installed"
    return Outcome(not other and same > 0, "; ".join([told, *other]), expected)


def _command() -> Outcome:
    done = subprocess.run([sys.executable, "-m", "nkinetics", "--version"], capture_output=True, text=True, check=False)
    said = done.stdout.strip()
    return Outcome(done.returncode == 0 and said == f"nkinetics {__version__}", said, f"nkinetics {__version__}")


def _code() -> Outcome:
    found = {stage: provenance.fingerprint(stage) for stage in STAGES}
    text = ", ".join(f"{stage} {digest}" for stage, digest in found.items())
    return Outcome(all(found.values()), text, "a fingerprint of each stage")


def _committed(root: Path) -> Outcome:
    expected = "no file that differs from its commit"
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=False,
        )
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return Outcome(False, "git is not installed", expected)
    if done.returncode or head.returncode:
        return Outcome(False, "not a git checkout", expected)
    changed = [line[3:] for line in done.stdout.splitlines()]
    told = f"commit {head.stdout.strip()}"
    return Outcome(not changed, "; ".join([told, *(f"changed: {name}" for name in changed[:10])]), expected)


def _in_a_folder(act: Callable[[Path], Outcome]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return act(Path(folder))


def _written() -> Outcome:
    from nkinetics.store import sha256_of, write_text

    def act(folder: Path) -> Outcome:
        write_text(folder / "one.txt", "10^9 cells, 25 °C\n")
        write_text(folder / "two.txt", "10^9 cells, 25 °C\n")
        same = sha256_of(folder / "one.txt") == sha256_of(folder / "two.txt")
        left = sorted(p.name for p in folder.iterdir())
        return Outcome(same and left == ["one.txt", "two.txt"], f"{', '.join(left)}; equal: {same}", "two equal files")

    return _in_a_folder(act)


def _self_test() -> Outcome:
    from nkinetics import simulate
    from nkinetics.store import sha256_of

    def act(folder: Path) -> Outcome:
        digests = []
        for name in ("one", "two"):
            paths = simulate.write(simulate.study(seed=1), folder / name)
            digests.append({p.relative_to(folder / name).as_posix(): sha256_of(p) for p in paths})
        same = digests[0] == digests[1]
        return Outcome(same and len(digests[0]) > 5, f"{len(digests[0])} files, equal: {same}", "equal files")

    return _in_a_folder(act)
