"""Where a result comes from: the code behind a stage, as a fingerprint.

Snakemake does not see an edit of an imported package. Each rule therefore carries the fingerprint of the modules that
its command uses as a parameter, and runs again when one of them changes.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def _module_file(name: str) -> Path | None:
    """File of a module of this package, None for any other name."""
    parts = name.split(".")
    if parts[0] != "nkinetics":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])


def _imports(tree: ast.AST) -> set[str]:
    """Modules of this package that a piece of code imports, wherever in it, families by `discover` included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "discover":
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    folder = PACKAGE / str(argument.value)
                    found |= {f"nkinetics.{folder.name}.{p.stem}" for p in folder.glob("*.py")}
    return {m for name in found for m in _with_parents(name) if _module_file(m)}


def _typing_only(tree: ast.Module) -> ast.Module:
    """The module without its ``if TYPE_CHECKING`` blocks, which never run."""
    body = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))]
    return ast.Module(body=body, type_ignores=[])


@cache
def _imports_of_module(name: str) -> frozenset[str]:
    path = _module_file(name)
    assert path is not None
    tree = _typing_only(ast.parse(path.read_text(encoding="utf-8")))
    found = _imports(tree)
    if name == "nkinetics.settings":
        # Settings ask each model for its own constants; that a model changed does not change what another stage does.
        found = {m for m in found if not m.startswith("nkinetics.models")}
    return frozenset(found - {name})


@cache
def _command(stage: str) -> ast.FunctionDef:
    tree = ast.parse((PACKAGE / "cli.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == f"_{stage}":
            return node
    raise KeyError(f"no command {stage}")


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
    """First 16 digits of a sha256 over the code of a command and of all modules and data files behind it.

    Comments and layout do not count: the abstract syntax does, so that an edited comment runs nothing again.
    """
    digest = hashlib.sha256(ast.dump(_command(stage)).encode())
    folders = set()
    for name in modules(stage):
        path = _module_file(name)
        assert path is not None
        digest.update(name.encode() + b"\0" + ast.dump(ast.parse(path.read_text(encoding="utf-8"))).encode())
        if path.name == "__init__.py":
            folders.add(path.parent)
    for folder in sorted(folders - {PACKAGE}):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
