"""Canonical tables to report tables, one file each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nkinetics.plugins import TableBody, discover, resolve
from nkinetics.results import Context, Results
from nkinetics.store import csv_text, write_text
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
        path = where if where.suffix else where / f"{each}.csv"
        write_text(path, csv_text(cells))
        write_text(path.with_suffix(".json"), sidecar(each, made, context))
        written += [path, path.with_suffix(".json")]
    return written


def sidecar(name: str, made: TableBody, context: Context) -> str:
    """What a table says beside its cells, as JSON."""
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
    }
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"
