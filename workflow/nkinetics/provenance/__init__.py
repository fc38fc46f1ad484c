"""Where a result comes from: code behind a stage, manifest of a run, its check, its exclusions, changes between cuts.

Here: the code, as a fingerprint. Snakemake does not see an edit of an imported package. Each rule therefore carries the
fingerprint of the modules that its command uses as a parameter, and runs again when one of them changes.

`changes` compares two cuts, `exclusions` is the trail of what was left out, `manifest` names and checks everything that
a run read and wrote, `run_log` tells when a run began and ended, `crate` packs a run for an archive.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from nkinetics.errors import InputError, Problem, raise_any

PACKAGE = Path(__file__).parents[1]
_DISCOVERED = re.compile(r"\bdiscover\(\"(\w+)\"\)")


def _module_file(name: str) -> Path | None:
    """File of a module of this package, None for any other name."""
    return _file_below(PACKAGE, name) if name.split(".", 1)[0] == "nkinetics" else None


@cache
def _file_below(package: Path, name: str) -> Path | None:
    base = package.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at any depth, without ``if TYPE_CHECKING`` blocks, which never run."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


_READ: dict[str, Any] = {}
"""What sources import and where the functions of cli.py stand, by sha256 of the source: parsing costs half a second."""


def remember(file: Path) -> None:
    """Take up what an earlier run read in the sources; a damaged or foreign file counts as none."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["by"] == _digest(_source("nkinetics.provenance")):
            _READ.update(kept["read"])
    except (OSError, ValueError, KeyError, TypeError):
        return


def keep(file: Path) -> None:
    """Note what this run read in the sources, for the next one; where that cannot be written, the next reads anew."""
    text = json.dumps({"by": _digest(_source("nkinetics.provenance")), "read": _READ}, sort_keys=True)
    try:
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f"{file.name}.{os.getpid()}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(file)
    except OSError:
        return


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _named(source: str) -> list[str]:
    """Names that a piece of code imports, wherever in it; families by `discover` end in an asterisk."""
    key = _digest(source)
    if key not in _READ:
        found: set[str] = set()
        for node in _statements(ast.parse(source).body):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        found |= {f"{family}.*" for family in _DISCOVERED.findall(source)}
        _READ[key] = sorted(found)
    return list(_READ[key])


def _imports(source: str) -> set[str]:
    """Modules of this package that a piece of code imports, families by `discover` included."""
    found: set[str] = set()
    for name in _named(source):
        if name.endswith(".*"):
            family = name.removesuffix(".*")
            found |= {f"nkinetics.{family}.{p.stem}" for p in (PACKAGE / family).glob("*.py")}
        else:
            found.add(name)
    return {m for name in found for m in _with_parents(name) if _module_file(m)}


@cache
def _source(name: str) -> str:
    path = _module_file(name)
    assert path is not None
    return path.read_text(encoding="utf-8")


@cache
def _imports_of_module(name: str) -> frozenset[str]:
    found = _imports(_source(name))
    if name == "nkinetics.settings":
        # Settings ask each model for its own constants; that a model changed does not change what another stage does.
        found = {m for m in found if not m.startswith("nkinetics.models")}
    return frozenset(found - {name})


@cache
def _commands() -> dict[str, str]:
    """Source of every function of cli.py by its name."""
    source = _source("nkinetics.cli")
    key = f"functions of {_digest(source)}"
    if key not in _READ:
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        _READ[key] = {f.name: [f.lineno - 1, f.end_lineno] for f in functions}
    # ast.get_source_segment splits the whole source again for every function.
    lines = source.splitlines(keepends=True)
    return {name: "".join(lines[first:last]) for name, (first, last) in _READ[key].items()}


def commands() -> tuple[str, ...]:
    """Names of the commands.

    Examples
    --------
    >>> "nca" in commands()
    True
    """
    return tuple(name.removeprefix("_") for name in _commands() if name.startswith("_"))


def _command(stage: str) -> str:
    return _commands()[f"_{stage}"]


def modules(stage: str) -> tuple[str, ...]:
    """Modules of this package that a command uses, found by following its imports.

    Parameters
    ----------
    stage : str
        Command, as nca.

    Examples
    --------
    >>> "nkinetics.nca" in modules("nca"), "nkinetics.fitting" in modules("nca")
    (True, False)
    """
    todo = sorted(_imports(_command(stage)))
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += sorted(_imports_of_module(name) - seen)
    return tuple(sorted(seen))


@cache
def fingerprint(stage: str) -> str:
    """First 16 digits of a sha256 over the code of a command and of all modules and data files behind it."""
    digest = hashlib.sha256(_command(stage).encode())
    folders = set()
    for name in modules(stage):
        digest.update(name.encode() + b"\0" + _source(name).encode())
        path = _module_file(name)
        if path is not None and path.name == "__init__.py":
            folders.add(path.parent)
    if "nkinetics.wording" in modules(stage):
        # The one data file that stands beside its module and not in a folder of its own.
        digest.update((PACKAGE / "reasons.yaml").read_bytes())
    for folder in sorted(folders - {PACKAGE}):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


DRIVERS = ("pygments", "snakemake")
"""Libraries that start the commands and compute nothing."""


@cache
def packages() -> dict[str, str]:
    """Installed version of every library that this program declares to compute with, by name.

    Raises
    ------
    InputError
        When the program is not installed, so that nothing says what it stands on.
    """
    try:
        declared = metadata.requires("nkinetics") or []
    except metadata.PackageNotFoundError:
        mend = "install it, as with pip install -e ."
        raise InputError(Problem("nkinetics", None, "", "a copy that is not installed", "a package", mend)) from None
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in declared if "extra ==" not in line}
    return {name: metadata.version(name) for name in sorted(names) if name not in DRIVERS}


def versions(version: str) -> dict[str, str]:
    """Versions of the program, of Python and of the libraries, by name.

    Parameters
    ----------
    version : str
        Version of the program.
    """
    return {"nkinetics": version, "python": python_version(), **packages()}


def environment() -> str:
    """First 16 digits of a sha256 over the versions of Python and of the libraries: other ones compute anew."""
    text = "|".join(f"{name} {version}" for name, version in versions("").items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


COMPARED = (
    *("ingest", "runs", "observations", "nca", "fits", "estimates", "population", "population_comparison"),
    *("persistence", "dose_proportionality"),
)
"""Tables of a results folder that are compared between two data cuts, beside study/."""

KEPT = ("run_config.yaml", "observations.csv", "nca.csv", "study/patients.csv")
"""Files without which a folder holds no results of a data cut."""


def folder_problems(folder: Path) -> list[Problem]:
    """Why a folder holds no results that can be compared."""
    mend = "run the workflow there first, or name another folder"
    if not folder.is_dir():
        return [Problem(folder.as_posix(), found="no such folder", expected="a folder of results", mend=mend)]
    return [
        Problem((folder / name).as_posix(), found="no such file", expected="the results of a whole run", mend=mend)
        for name in KEPT
        if not (folder / name).is_file()
    ]


def compared_files(folder: Path) -> list[Path]:
    """Files of an earlier cut that a comparison reads, those that are there, sorted.

    Raises
    ------
    InputError
        When the folder holds no results.
    """
    raise_any(folder_problems(folder))
    names = {*KEPT, "run_manifest.json", *(f"{name}.csv" for name in COMPARED)}
    found = {path for name in names if (path := folder / name).is_file()}
    return sorted(found | set((folder / "study").glob("*.csv")))
