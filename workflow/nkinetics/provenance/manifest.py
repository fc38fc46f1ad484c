"""run_manifest.json: everything that a run read, chose, stood on and wrote, each with its hash; and its check.

The manifest holds no clock, no absolute path, no user and no computer. Two things bind its parts: ``seals`` has a hash
of every section, and ``run`` a hash of what decides the numbers (inputs, configuration, versions), which the report
prints.

Limits: hashes find what changed since, by accident or by an edit; they are no signature. Who rewrites a file, the
manifest and its seals together leaves no trace here. What is kept elsewhere decides then: the digits of `run` and of
the head of the exclusions in a printed or signed report, the hash of the manifest that the next cut names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

import yaml

from nkinetics import provenance
from nkinetics.errors import InputError, Problem
from nkinetics.provenance import exclusions
from nkinetics.settings import Settings, located, validated
from nkinetics.store import rows_sha256, sha256_of, write_text

FILE = "run_manifest.json"
SCHEMA_VERSION = "1"
UNDECLARED = ("run_config.yaml", "warnings.txt")
"""Files that a run writes beside the outputs of its rules."""
RUN = ("study", "data_cut", "inputs", "configuration", "version", "python", "packages", "seeds")
"""Sections that decide the numbers."""


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON with sorted keys.

    Examples
    --------
    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def inputs(folder: Path) -> dict[str, dict[str, str]]:
    """What `nkinetics ingest` read, by name relative to the study folder: sha256, what it is, over what it was taken.

    Parameters
    ----------
    folder : Path
        A results folder; study/inputs.txt and study/exports.txt say what was read.
    """
    found = {}
    for name, over in (("inputs", "lines sorted"), ("exports", "bytes")):
        path = folder / "study" / f"{name}.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            sha256, kind, file = line.split("  ", 2)
            found[file] = {"sha256": sha256, "kind": kind, "over": over}
    return found


def facts(folder: Path, settings: Settings, version: str) -> dict[str, Any]:
    """The sections of the manifest that decide the numbers, as `RUN` names them.

    Parameters
    ----------
    folder : Path
        Results folder.
    settings : Settings
        The merged configuration.
    version : str
        Version of the program.
    """
    study = settings.study
    return {
        "study": study.id,
        "data_cut": study.data_cut,
        "inputs": inputs(folder),
        "configuration": settings.model_dump(mode="json"),
        "version": version,
        "python": python_version(),
        "packages": provenance.packages(),
        "seeds": {
            "rule": "sha256 of what a stream of random numbers is for (patient, assay, model, use)",
        },
    }


def run_digest(sections: Mapping[str, Any]) -> str:
    """What stands for a run in the report: one hash of inputs, configuration and versions."""
    return digest({name: sections[name] for name in RUN})


def outputs(folder: Path, named: Iterable[Path] | None = None) -> dict[str, str]:
    """SHA-256 of every output, by name relative to the results folder.

    Parameters
    ----------
    folder : Path
        Results folder.
    named : iterable of Path, optional
        Files and folders that the run wrote; everything in the folder by default.

    Raises
    ------
    InputError
        When a named file is not there.
    """
    paths = [folder] if named is None else [*named, *(p for n in UNDECLARED if (p := folder / n).exists())]
    absent = [p for p in paths if not p.exists()]
    if absent:
        mend = "run the workflow again"
        raise InputError([Problem(p.as_posix(), None, "", "no such file", "an output", mend) for p in absent])
    files = {f for p in paths for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()}
    names = {f.resolve().relative_to(folder.resolve()).as_posix(): f for f in files}
    return {name: sha256_of(names[name]) for name in sorted(names) if not _no_output(name)}


def _no_output(name: str) -> bool:
    """The manifest itself, half-written files and what the file system adds."""
    parts = PurePosixPath(name).parts
    return name == FILE or any(part.startswith(".") for part in parts)


def build(
    folder: Path,
    settings: Settings,
    version: str,
    *,
    named: Iterable[Path] | None = None,
    code: Mapping[str, str] | None = None,
    configuration_files: Sequence[str] = (),
) -> dict[str, Any]:
    """The manifest of a results folder.

    Parameters
    ----------
    folder : Path
        Results folder.
    settings : Settings
        The merged configuration.
    version : str
        Version of the program.
    named : iterable of Path, optional
        Files and folders that the run wrote; everything in the folder by default.
    code : mapping of str to str, optional
        Fingerprint of each command of the run.
    configuration_files : sequence of str
        Files that were merged, in order, relative to the study folder; of others only the name is kept.
    """
    made = facts(folder, settings, version)
    trail = read_trail(folder)
    made |= {
        "schema_version": SCHEMA_VERSION,
        "title": settings.study.title,
        "code": dict(code or {}),
        "configuration_files": [_inside(name) for name in configuration_files],
        "exclusions": {"file": exclusions.FILE, "entries": len(trail), "head": exclusions.head(trail)},
        "previous": previous(settings),
        "outputs": outputs(folder, named),
    }
    return {**made, "run": run_digest(made), "seals": {name: digest(made[name]) for name in sorted(made)}}


def _inside(name: str) -> dict[str, Any]:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return {"file": name if inside else path.name, "inside": inside}


def previous(settings: Settings) -> dict[str, Any] | None:
    """What the earlier cut was: its folder as configured, its date, the hash of its manifest and of its exclusions."""
    if settings.report.previous is None:
        return None
    folder = Path(settings.report.previous)
    manifest, name = folder / FILE, settings.report.previous
    return {
        "folder": _inside(name)["file"],
        "inside": _inside(name)["inside"],
        "manifest_sha256": sha256_of(manifest) if manifest.is_file() else None,
        "exclusions_head": exclusions.head(read_trail(folder)),
    }


def read_trail(folder: Path) -> list[dict[str, Any]]:
    """The trail of exclusions of a results folder; empty where there is none."""
    path = folder / exclusions.FILE
    return exclusions.parsed(path.read_text(encoding="utf-8")) if path.is_file() else []


def text(manifest: Mapping[str, Any]) -> str:
    """The manifest as JSON."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write run_manifest.json into a results folder, at once."""
    write_text(folder / FILE, text(manifest))


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a results folder.

    Raises
    ------
    InputError
        When there is none, or it is no manifest that this program knows.
    """
    path = folder / FILE
    mend = "run the workflow, or name the results folder with --results"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(Problem(path.as_posix(), None, "", "no such file", "a run manifest", mend)) from None
    except ValueError as error:
        mend = "restore it from a copy, or run the workflow again"
        raise InputError(Problem(path.as_posix(), None, "", f"no JSON ({error})", "a run manifest", mend)) from None
    known = isinstance(found, dict) and found.get("schema_version") == SCHEMA_VERSION
    if not known:
        version = found.get("schema_version") if isinstance(found, dict) else None
        mend = "use the version of NKinetics that wrote it"
        where = (path.as_posix(), None, "schema_version")
        raise InputError(Problem(*where, repr(version), repr(SCHEMA_VERSION), mend))
    return dict(found)


# ---------------------------------------------------------------------------------------------------------------- check


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that differs from what the manifest says.

    Parameters
    ----------
    kind : str
        input, output, configuration, version, code, exclusions, previous, manifest or content.
    name : str
        Which one.
    found, expected : str
        What is there and what the manifest says.
    note : bool
        To know, and no reason to distrust the results.
    """

    kind: str
    name: str
    found: str
    expected: str
    note: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.kind} {self.name}: found {self.found}{expected}"


def check(
    manifest: Mapping[str, Any],
    folder: Path,
    root: Path,
    version: str,
    *,
    exports: Iterable[str] | None = None,
    any_environment: bool = False,
) -> list[Finding]:
    """Everything that differs between a manifest and what is there now, sorted.

    Parameters
    ----------
    manifest : mapping
        As `read` gives it.
    folder : Path
        Results folder.
    root : Path
        Study folder, to which inputs are relative.
    version : str
        Version of this program.
    exports : iterable of str, optional
        Exports that the configured patterns name now; without it no new export is looked for.
    any_environment : bool
        Versions of the program and the libraries may differ: notes, as where another computer checks.
    """
    found = _seals(manifest)
    try:
        found += _inputs(manifest["inputs"], root, exports)
        found += _outputs(manifest["outputs"], folder)
        found += _configuration(manifest, folder, root)
        found += _versions(manifest, version, note=any_environment)
        found += _trail(manifest["exclusions"], folder)
        found += _previous(manifest["previous"], root)
    except (KeyError, TypeError, AttributeError) as error:
        found.append(Finding("manifest", FILE, f"a section that cannot be read ({error!r})", "a run manifest"))
    return sorted(found)


def _seals(manifest: Mapping[str, Any]) -> list[Finding]:
    """Sections of the manifest that were edited since it was written."""
    seals = manifest.get("seals", {})
    names = sorted({*seals, *manifest} - {"seals", "run"})
    found = [
        Finding(
            "manifest", f"section {name}", "another content than when it was written", "the content that was sealed"
        )
        for name in names
        if name not in manifest or seals.get(name) != digest(manifest[name])
    ]
    if not any(name not in manifest for name in RUN) and manifest.get("run") != run_digest(manifest):
        found.append(Finding("manifest", "run", str(manifest.get("run")), run_digest(manifest)))
    return found


def _short(sha256: str) -> str:
    return f"sha256 {sha256[:16]}"


def _inputs(named: Mapping[str, Mapping[str, str]], root: Path, exports: Iterable[str] | None) -> list[Finding]:
    found = []
    for name, said in named.items():
        path = root / name
        if not path.is_file():
            found.append(Finding("input", name, "no such file", _short(said["sha256"])))
            continue
        now = rows_sha256(path) if said["over"] == "lines sorted" else sha256_of(path)
        if now != said["sha256"]:
            found.append(Finding("input", name, _short(now), _short(said["sha256"])))
    new = sorted(set(exports or ()) - set(named))
    return found + [Finding("input", name, "an export that the run did not read", "no such file") for name in new]


def _outputs(named: Mapping[str, str], folder: Path) -> list[Finding]:
    now = outputs(folder)
    found = [
        Finding("output", name, _short(now[name]) if name in now else "no such file", _short(sha256))
        for name, sha256 in named.items()
        if now.get(name) != sha256
    ]
    words = "a file that no rule of the run wrote"
    return found + [Finding("output", name, words, "", note=True) for name in sorted(set(now) - set(named))]


def flat(node: Any, name: str = "") -> dict[str, Any]:
    """Every key of nested mappings by its full name.

    Examples
    --------
    >>> flat({"blq": {"middle": "drop"}, "batches": 2})
    {'blq.middle': 'drop', 'batches': 2}
    """
    if isinstance(node, Mapping) and node:
        return {
            k: v for key, child in node.items() for k, v in flat(child, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: node}


def _keys(name: str, now: Any, said: Any) -> list[Finding]:
    """Keys of a configuration that differ from the manifest's."""
    one, two = flat(now), flat(said)

    def shown(side: Mapping[str, Any], key: str) -> str:
        return json.dumps(side[key], ensure_ascii=False) if key in side else "no such key"

    return [
        Finding("configuration", f"{key} of {name}", shown(one, key), shown(two, key))
        for key in sorted({*one, *two})
        if one.get(key, ...) != two.get(key, ...)
    ]


def _configuration(manifest: Mapping[str, Any], folder: Path, root: Path) -> list[Finding]:
    said, kept = manifest["configuration"], folder / "run_config.yaml"
    found = []
    if kept.is_file():
        try:
            found += _keys(kept.name, yaml.safe_load(kept.read_text(encoding="utf-8")), said)
        except yaml.YAMLError:
            found.append(Finding("configuration", kept.name, "no YAML", "the configuration of the run"))
    files = manifest["configuration_files"]
    outside = [f["file"] for f in files if not f["inside"]]
    if outside:
        words = "a file outside the study folder, which cannot be checked"
        return found + [Finding("configuration", name, words, "", note=True) for name in outside]
    if not files:
        return found
    merged: dict[str, Any] = {}
    for name in (f["file"] for f in files):
        if not (root / name).is_file():
            return [*found, Finding("configuration", name, "no such file", "a configuration of the run")]
        try:
            merged = merge(merged, yaml.safe_load((root / name).read_text(encoding="utf-8-sig")) or {})
        except (yaml.YAMLError, AttributeError):
            return [*found, Finding("configuration", name, "no YAML", "a configuration of the run")]
    names = ", ".join(f["file"] for f in files)
    try:
        now = located(validated(merged, names), root).model_dump(mode="json")
    except InputError as error:
        return [*found, Finding("configuration", names, str(error.problems[0]), "a configuration of the run")]
    return found + _keys(names, now, said)


def merge(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as Snakemake merges them: section by section, the later value wins.

    Examples
    --------
    >>> merge({"nca": {"a": 1, "b": 2}}, {"nca": {"b": 3}})
    {'nca': {'a': 1, 'b': 3}}
    """
    made = dict(one)
    for key, value in two.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = merge(made[key], value) if both else value
    return made


def _versions_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {"nkinetics": manifest["version"], "python": manifest["python"], **manifest["packages"]}


def versions(folder: Path) -> dict[str, str]:
    """Versions of the program, of Python and of the libraries that made a results folder; empty without a manifest."""
    return _versions_of(read(folder)) if (folder / FILE).is_file() else {}


def _versions(manifest: Mapping[str, Any], version: str, *, note: bool) -> list[Finding]:
    said, now = _versions_of(manifest), provenance.versions(version)
    found = [
        Finding("version", name, str(now.get(name, "not installed")), str(said.get(name, "not named")), note)
        for name in sorted({*said, *now})
        if said.get(name) != now.get(name)
    ]
    for stage, was in sorted(manifest["code"].items()):
        known = stage in provenance.commands()
        now_is = provenance.fingerprint(stage) if known else "no such command"
        if now_is != was:
            found.append(Finding("code", f"nkinetics {stage}", now_is, str(was), note))
    return found


def _trail(said: Mapping[str, Any], folder: Path) -> list[Finding]:
    name = exclusions.FILE
    trail = read_trail(folder)
    found = [Finding("exclusions", f"{name} line {line}", how, "the trail") for line, how in exclusions.broken(trail)]
    if len(trail) != said["entries"]:
        found.append(Finding("exclusions", name, f"{len(trail)} entries", f"{said['entries']} entries"))
    if exclusions.head(trail) != said["head"]:
        found.append(Finding("exclusions", f"{name} head", _short(exclusions.head(trail)), _short(said["head"])))
    return found


def _previous(said: Mapping[str, Any] | None, root: Path) -> list[Finding]:
    if said is None:
        return []
    if not said["inside"]:
        words = "a folder outside the study folder, which cannot be checked"
        return [Finding("previous", said["folder"], words, "", note=True)]
    path = root / said["folder"] / FILE
    now = sha256_of(path) if path.is_file() else None
    if now == said["manifest_sha256"]:
        return []
    is_now, was = (_short(sha) if sha else "no manifest" for sha in (now, said["manifest_sha256"]))
    # The earlier cut may have been moved to an archive; another content of it is another matter.
    return [Finding("previous", said["folder"], is_now, was, note=now is None)]


def differing(folder: Path, other: Path) -> list[Finding]:
    """Files of a results folder that the same inputs now give otherwise, with the first line that differs.

    Parameters
    ----------
    folder : Path
        The results that are checked.
    other : Path
        What `nkinetics ingest` writes from the inputs as they are now.
    """
    names = sorted(p.relative_to(other).as_posix() for p in other.rglob("*") if p.is_file())
    found = []
    for name in names:
        one, two = folder / name, other / name
        if not one.is_file():
            found.append(Finding("content", name, "no such file", "what the inputs give"))
        elif one.read_bytes() != two.read_bytes():
            here, there = (p.read_text(encoding="utf-8", errors="replace").splitlines() for p in (one, two))
            pairs = enumerate(zip(here, there, strict=False))
            line = next((i for i, (a, b) in pairs if a != b), min(len(here), len(there)))
            is_now, given = (side[line][:160] if line < len(side) else "no such line" for side in (here, there))
            found.append(Finding("content", f"{name} line {line + 1}", is_now, given))
    return found


def told(found: Sequence[Finding], manifest: Mapping[str, Any]) -> str:
    """The findings as text for a terminal: what differs, then notes, then the count."""
    differ = [f for f in found if not f.note]
    lines = [f"differs: {f}" for f in differ] + [f"note: {f}" for f in found if f.note]
    counts = ", ".join(f"{len(manifest.get(name, ()))} {name}" for name in ("inputs", "outputs"))
    verdict = "all as the manifest says" if not differ else f"{len(differ)} differ from the manifest"
    return "\n".join([*lines, f"run {str(manifest.get('run', ''))[:16]}, {counts}: {verdict}"])
