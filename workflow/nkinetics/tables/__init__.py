"""Canonical tables to report tables, one file each."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nkinetics.columns import STAGE_TABLES
from nkinetics.plugins import TableBody, discover, resolve
from nkinetics.results import STUDY_TABLES, Context, Results
from nkinetics.settings import as_json
from nkinetics.store import csv_text, sha256_of, write_text
from nkinetics.wording import Words, chosen, kind_of, number_of, title_of


def build(name: str, results: Results, context: Context) -> TableBody:
    """One table by its name, with the footnotes that the configuration adds."""
    table = discover("tables")[name]
    made, told = table.build(results, context), Words(context.language).told
    return replace(
        made,
        frame=made.frame.map(told),
        footnotes=(*map(told, made.footnotes), *context.settings.report.footnotes.get(table.id, ())),
        subtitle=told(made.subtitle),
        note=told(made.note),
    )


def built(name: str, results: Results, context: Context) -> TableBody:
    """The same table, from its files under tables/ where they were made of these very results and settings."""
    path = results.folder / "tables" / f"{name}.csv"
    if results.whole is None and path.exists() and path.with_suffix(".json").exists():
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if said.get("made_of") == made_of(results, context) and said["sha256"] == sha256_of(path):
            texts: dict[str, str] = {}  # a long listing says the same over and over: each text is held once
            with path.open(encoding="utf-8", newline="") as handle:
                lines = csv.reader(handle)
                header = next(lines)
                cells = [[texts.setdefault(text, text) for text in map(_fused, row)] for row in lines]
            whole = not said["note"]
            return TableBody(
                pd.DataFrame(cells if whole else [], columns=[_fused(h) for h in header] if whole else []),
                tuple(said["footnotes"]),
                said["subtitle"],
                said["note"],
                said["row_header"],
                tuple(said["patients"]),
            )
    return build(name, results, context)


def made_of(results: Results, context: Context) -> str:
    """First digits of one sha256 over everything that a table can be made of: results, settings, program."""
    said = "\n".join([results.once("files", _files), context.version, as_json(context.settings)])
    return hashlib.sha256(said.encode("utf-8")).hexdigest()[:16]


def _files(results: Results) -> str:
    paths = [results.path(name) for name in (*STUDY_TABLES, *STAGE_TABLES) if name not in LATER]
    paths += [results.folder / name for name in BESIDE]
    return "\n".join(f"{path.name} {sha256_of(path)}" for path in paths if path.exists())


LATER = ("changes", "validation")
"""Canonical tables that no report table reads, and that are made beside them."""
BESIDE = ("study/inputs.txt", "population_fit.json", "warnings.txt")


def _fused(cell: str) -> str:
    """A cell as it was before `nkinetics.store.defused`; `sidecar` says nothing of a table where that is unsure."""
    return cell[1:] if cell[:1] == "'" else cell


def _same_again(made: TableBody) -> bool:
    """Whether the cells can be had back from their CSV: texts all, and none that begins with an apostrophe."""
    cells = [*made.frame.columns, *made.frame.to_numpy().ravel()]
    return all(isinstance(cell, str) and not cell.startswith("'") for cell in cells)


def names(context: Context) -> list[str]:
    """Names of the tables that the configuration shows, in its order."""
    return chosen(discover("tables"), context)


def write(name: str, results: Results, context: Context, where: Path) -> list[Path]:
    """Write one table, or all: the cells as CSV, title and footnotes as JSON beside it.

    Parameters
    ----------
    name : str
        Module name or stable id of a table, or "all".
    results : Results
        Canonical tables.
    context : Context
        Settings and version.
    where : Path
        A folder, or the CSV file of one table.

    Returns
    -------
    list of Path
        Files written. A table that cannot be made says why in its place.

    Raises
    ------
    InputError
        When no table has this name.
    """
    written = []
    for each in resolve("tables", name):
        made = build(each, results, context)
        cells = made.frame if len(made.frame.columns) else pd.DataFrame({"note": [made.note]})
        path, text = where if where.suffix else where / f"{each}.csv", csv_text(cells)
        write_text(path, text)
        write_text(path.with_suffix(".json"), sidecar(each, made, text, results, context))
        written += [path, path.with_suffix(".json")]
    return written


def sidecar(name: str, made: TableBody, text: str, results: Results, context: Context) -> str:
    """What a table says beside its cells, as JSON; `text` is its CSV."""
    table = discover("tables")[name]
    said = {
        "id": table.id,
        "kind": kind_of(table, context),
        "number": number_of(table, context),
        "title": title_of(table, context),
        "subtitle": made.subtitle,
        "note": made.note,
        "footnotes": list(made.footnotes),
        "row_header": made.row_header,
        "patients": list(made.patients),
        "made_of": made_of(results, context) if _same_again(made) else "",
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
    }
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"
