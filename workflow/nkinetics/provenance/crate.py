"""A run packed for an archive: inputs, results, choices and versions as a Process Run Crate in one zip file.

The crate is the study folder as it was: unpacked, `nkinetics verify` runs in it. Its date is that of the data cut, as
results hold no clock; the bytes are the same for the same run, rocrate and zlib.

References
----------
S. Leo et al., "Recording provenance of workflow runs with RO-Crate", PLoS ONE 19 (2024),
doi:10.1371/journal.pone.0309210
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nkinetics.errors import InputError, Problem
from nkinetics.provenance import manifest
from nkinetics.store import replacing

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
FORMATS = {
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".xml": "application/xml",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def contents(made: Mapping[str, Any], folder: Path, root: Path) -> dict[str, Path]:
    """Files of a run by their names in the crate: those of the study folder, results under results/.

    Parameters
    ----------
    made : mapping
        The manifest.
    folder, root : Path
        Results folder and study folder.

    Raises
    ------
    InputError
        With every file that is gone or is not what the manifest says: a crate holds the run and nothing else.
    """
    differ = [f for f in manifest.check(made, folder, root, made["version"], any_environment=True) if not f.note]
    if differ:
        mend = "run the workflow again, or restore the file"
        raise InputError([Problem(f.name, None, "", f.found, f.expected, mend) for f in differ])
    within = [f["file"] for f in made["configuration_files"] if f["inside"]]
    found = {name: root / name for name in sorted({*made["inputs"], *within})}
    found |= {f"results/{name}": folder / name for name in [*made["outputs"], manifest.FILE]}
    return dict(sorted(found.items()))


def describe(made: Mapping[str, Any], files: Mapping[str, Path], published: str, licence: str = "") -> dict[str, Any]:
    """The metadata of the crate, as JSON-LD.

    Parameters
    ----------
    made : mapping
        The manifest.
    files : mapping of str to Path
        As `contents` gives them.
    published : str
        ISO date.
    licence : str
        URL of the licence under which the crate is given on; empty = the crate says that none is named.

    Raises
    ------
    InputError
        Without the library rocrate.
    """
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError:
        mend = "install it: pip install 'nkinetics[crate]'"
        raise InputError(
            Problem("nkinetics crate", None, "", "no library rocrate", "rocrate 0.16 or newer", mend)
        ) from None
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)

    def about(identifier: str, kind: str, **facts: Any) -> ContextEntity:
        return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **facts}))

    root = crate.root_dataset
    title = made["title"] or made["study"]
    root["name"] = f"{made['study']}: cellular kinetics, data cut {made['data_cut'] or published}"
    root["description"] = f"{title}. Inputs, choices, versions and results of one run of NKinetics, run {made['run']}."
    root["datePublished"] = published
    unsaid = "Nothing is said here about how this crate may be used: ask the sponsor of the study."
    facts = {"name": licence or "No licence named", "description": licence or unsaid}
    root["license"] = about(licence or "#licence", "CreativeWork", **facts)
    version = PROFILE.rsplit("/", 1)[1]
    root["conformsTo"] = about(PROFILE, "CreativeWork", name="Process Run Crate", version=version)
    entities = {name: _file(crate, name, path, made) for name, path in files.items()}
    libraries = [
        about(f"#{name}", "SoftwareApplication", name=name, version=number)
        for name, number in {"python": made["python"], **made["packages"]}.items()
    ]
    program = about(
        "#nkinetics",
        "SoftwareApplication",
        name="NKinetics",
        description="CAR-NK cellular kinetics, from the assay export to the report a committee decides on",
        version=made["version"],
        softwareRequirements=libraries,
    )
    choices = [
        about(f"#choice-{key}", "PropertyValue", name=key, value=json.dumps(value, ensure_ascii=False))
        for key, value in manifest.flat(made["configuration"]).items()
    ]
    results = [entity for name, entity in entities.items() if name.startswith("results/")]
    given = [entity for name, entity in entities.items() if not name.startswith("results/")]
    name = f"run {made['run'][:16]} of study {made['study']}"
    action = crate.add_action(
        program, "#run", object=[*given, *choices], result=results, properties={"@type": "CreateAction", "name": name}
    )
    root["mentions"] = action
    described: dict[str, Any] = crate.metadata.generate()
    return described


def _file(crate: ROCrate, name: str, path: Path, made: Mapping[str, Any]) -> Any:
    facts: dict[str, Any] = {"name": Path(name).name, "contentSize": str(path.stat().st_size)}
    if path.suffix.lower() in FORMATS:
        facts["encodingFormat"] = FORMATS[path.suffix.lower()]
    # Of a table of the study the manifest has the hash of its sorted lines, which is not the file's.
    said = made["outputs"].get(name.removeprefix("results/")) if name.startswith("results/") else None
    if name in made["inputs"] and made["inputs"][name]["over"] == "bytes":
        said = made["inputs"][name]["sha256"]
    return crate.add_file(path, name, properties=facts | ({"sha256": said} if said else {}))


def date_of(made: Mapping[str, Any], given: str | None) -> str:
    """The date of the crate: the one given, else that of the data cut.

    Raises
    ------
    InputError
        When there is neither, or it is no date from 1980 on (where the dates of zip files begin).
    """
    mend = "give --date as 2026-10-31, or set study.data_cut"
    text = given or made["data_cut"]
    if text is None:
        where = "nkinetics crate"
        raise InputError(Problem(where, None, "--date", "no date", "a date: results hold no clock", mend))
    try:
        if date.fromisoformat(text).year < 1980:
            raise ValueError
    except ValueError:
        raise InputError(
            Problem("nkinetics crate", None, "--date", repr(text), "an ISO date from 1980 on", mend)
        ) from None
    return str(text)


def write(output: Path, files: Mapping[str, Path], described: Mapping[str, Any], published: str) -> None:
    """Write the crate at once: its metadata first, then the files by name, all with one date.

    Parameters
    ----------
    output : Path
        The zip file.
    files : mapping of str to Path
        As `contents` gives them.
    described : mapping
        As `describe` gives it.
    published : str
        ISO date.
    """
    day = date.fromisoformat(published)
    text = json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with replacing(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [(METADATA, text.encode("utf-8")), *((n, p.read_bytes()) for n, p in files.items())]:
            entry = zipfile.ZipInfo(name, (day.year, day.month, day.day, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 6)
