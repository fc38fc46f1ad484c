"""Readers: one export format each, content to raw rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nkinetics import compact
from nkinetics.columns import RAW
from nkinetics.errors import InputError, Problem
from nkinetics.plugins import Claim, Reader, discover
from nkinetics.readers._export import Export, label_of, open_export
from nkinetics.readers._other_tables import other_table
from nkinetics.settings import Settings


@dataclass(frozen=True)
class FileReport:
    """What became of one export.

    Parameters
    ----------
    label : str
        Path relative to the study folder.
    sha256 : str
        Content hash; empty where the file could not be opened.
    reader : str
        Reader that claimed the file; empty where none did.
    n_rows : int
        Raw rows that it gave, the unusable ones among them.
    problems : tuple of Problem
        Why it gave none.
    note : str
        What the reader passed over, as hidden sheets or columns that it does not use.
    duplicate_of : str
        Label of the export with the same content that is used in its place.
    """

    label: str
    sha256: str = ""
    reader: str = ""
    n_rows: int = 0
    problems: tuple[Problem, ...] = ()
    note: str = ""
    duplicate_of: str = ""


def read_exports(paths: Sequence[Path], root: Path, settings: Settings) -> tuple[pd.DataFrame, list[FileReport]]:
    """Read exports of any known format into raw rows.

    Parameters
    ----------
    paths : sequence of Path
        Files; their order does not matter, a file named twice is read once.
    root : Path
        Study folder; files are called by their path relative to it.
    settings : Settings
        ``inputs.decimal`` and ``generic`` are used.

    Returns
    -------
    frame : DataFrame
        The columns of `nkinetics.columns.RAW`, sorted. Rows of role summary or empty, and rows of a duplicate (their
        note begins "duplicate of"), are there to be accounted for, not to be used.
    reports : list of FileReport
        One per file, by label. A file with problems gives no rows and blocks no other.
    """
    frame, reports = read_compact(paths, root, settings)
    return compact.plain(frame), reports


def read_compact(paths: Sequence[Path], root: Path, settings: Settings) -> tuple[pd.DataFrame, list[FileReport]]:
    """As `read_exports`, the rows as a compact frame (`nkinetics.compact`): a third of the memory."""
    by_label = {label_of(path, root): path for path in paths}
    first: dict[str, FileReport] = {}
    rows: list[dict[str, Any]] = []
    frames: list[pd.DataFrame] = []
    reports = []
    for label in sorted(by_label):
        try:
            export = open_export(by_label[label], root)
        except InputError as error:
            reports.append(FileReport(label, problems=tuple(error.problems)))
            continue
        report, own = _read(export, settings)
        earlier = first.setdefault(export.sha256, report)
        if earlier is not report:
            report, own = _duplicate(label, earlier, own)
        reports.append(report)
        rows += own
        # Rows as dictionaries cost ten times their frame: of a thousand files only some are held so. Labels come in
        # order, so that the pieces are too.
        if len(rows) >= _PIECE:
            frames.append(_frame(rows))
            rows = []
    frames.append(_frame(rows))
    return compact.joined(frames), reports


def read_export(path: Path, root: Path, settings: Settings) -> tuple[pd.DataFrame, FileReport]:
    """Read one export.

    Returns
    -------
    frame : DataFrame
        The columns of `nkinetics.columns.RAW`.
    report : FileReport
        Without problems.

    Raises
    ------
    InputError
        With every problem of the file.
    """
    frame, (report,) = read_exports([path], root, settings)
    if report.problems:
        raise InputError(report.problems)
    return frame, report


def _read(export: Export, settings: Settings) -> tuple[FileReport, list[dict[str, Any]]]:
    report = FileReport(export.label, export.sha256, note=export.note)
    try:
        reader = _claimed(export, settings)
        report = dataclasses.replace(report, reader=reader.name)
        reading = reader.read(export, settings)
    except InputError as error:
        return dataclasses.replace(report, problems=tuple(error.problems)), []
    about = {"source_file": export.label, "source_sha256": export.sha256, "reader": reader.name}
    rows = [{**about, **row} for row in reading.rows]
    note = "; ".join(dict.fromkeys(n for n in (export.note, reading.note) if n))
    return dataclasses.replace(report, n_rows=len(rows), note=note), rows


def _claimed(export: Export, settings: Settings) -> Reader:
    """The one reader that claims the file."""
    readers: Mapping[str, Reader] = discover("readers")
    claims: dict[str, Claim] = {}
    for by_mapping in (True, False):
        claims.update({n: r.claim(export, settings) for n, r in readers.items() if r.by_mapping == by_mapping})
        matching = [name for name, claim in claims.items() if claim.matches]
        if len(matching) == 1:
            return readers[matching[0]]
        if matching:
            titles = " and of ".join(readers[n].title for n in matching)
            mend = "name it in the section generic of the configuration, or tell the developers"
            raise export.refuse(f"the marks of {titles}", "those of one format", mend)
    # One mark in common, as a column Target, is no likeness.
    alike = {n: c for n, c in claims.items() if len(c.found) >= 2 or (c.found and len(c.missing) < 2)}
    known = ", ".join(r.title for r in readers.values() if not r.by_mapping)
    mend = "export it in a known format, or describe its columns in the section generic of the configuration"
    found, expected = f"{export.what} of no known format", f"one of: {known}"
    if alike:
        nearest = max(alike, key=lambda name: (len(alike[name].found), -len(alike[name].missing)))
        missing = ", ".join(alike[nearest].missing)
        found += f" (nearest: {readers[nearest].title}, which it is not without {missing})"
    if other := other_table(export):
        found, expected, mend = f"{found}: {other.what}", "a table of results", other.mend
    raise export.refuse(found, expected, mend)


def _duplicate(
    label: str, report: FileReport, rows: Iterable[Mapping[str, Any]]
) -> tuple[FileReport, list[dict[str, Any]]]:
    """The report and rows of a file with the content of another: accounted for, never used twice."""
    note = f"duplicate of {report.label}"
    own = [{**row, "source_file": label, "note": note} for row in rows]
    problems = tuple(dataclasses.replace(p, file=label) for p in report.problems)
    return dataclasses.replace(report, label=label, problems=problems, note=note, duplicate_of=report.label), own


_PIECE = 20_000
"""Rows that are held as dictionaries before they become a frame."""


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of files as one typed, compact frame, sorted by file, row and target."""
    ordered = sorted(rows, key=lambda row: (row["source_file"], row["source_row"], row.get("target", "")))
    columns: dict[str, Any] = {}
    for column in RAW.columns:
        values = [row.get(column.name) for row in ordered]
        if column.kind == "text":
            columns[column.name] = compact.coded("" if v is None else str(v) for v in values)
        elif column.kind == "float":
            columns[column.name] = np.array([np.nan if v is None else v for v in values], dtype="float64")
        elif column.kind == "int":
            columns[column.name] = pd.array([pd.NA if v is None else v for v in values], dtype="Int64")
        else:
            # An omission mark belongs to wells; where a format has none, nothing was omitted.
            columns[column.name] = pd.array([bool(v) for v in values], dtype="boolean")
    return pd.DataFrame(columns)
