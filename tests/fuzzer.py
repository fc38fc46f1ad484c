"""Mutation fuzzer over all readers: damaged copies of our own example exports, each read under limits and judged.

A mutant is read to the same values, or refused with `InputError`, or differs only where the mutation changed a cell.
The judge lays the cells of original and mutant out by its own splitting of lines (openpyxl for workbooks, elements for
XML) and asks of every raw row that differs which changed cell explains it; it shares no code with the readers.
Everything else fails: another value, a vanished row, an exception that is not `InputError`, more than 5 s or 1 GiB.

``python tests/fuzzer.py --count 5000 --seed 1`` prints the counts of each reader; a mutant depends on the seed and its
own number only, so ``--first N --count 1 --keep FOLDER`` writes the mutant N for study. `test_readers_fuzz` runs this
file in a process of its own, since a hang inside a library or a crash of it cannot be caught from within.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import itertools
import json
import random
import re
import resource
import signal
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import FrameType
from typing import Any
from xml.etree import ElementTree

import openpyxl
import pandas as pd
from nkinetics.columns import RAW
from nkinetics.errors import InputError
from nkinetics.plugins import discover
from nkinetics.readers import read_export
from nkinetics.settings import Settings, validated

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 5.0
MEMORY = 1 << 30

NUMBERS = tuple(c.name for c in RAW.columns if c.kind in ("float", "int") and c.name != "source_row")
TEXTS = "run_id well sample_id target measure value_raw patient_id visit specimen assay dose_level level_unit".split()
VERDICTS = ("role", "detection", "omitted", "note", "remark")
TIMES = ("time", "time_nominal")
FIELDS = (*NUMBERS, *TEXTS, *VERDICTS)
SET_ASIDE = ("summary", "empty")

Row = dict[str, Any]
Cell = str | int | float | bool | None
Grid = list[list[Cell]]


class Hang(BaseException):
    """Out of time; no ``except Exception`` of a reader or a library may swallow it."""


# ------------------------------------------------------------------------------------------------------------ originals


@dataclass(frozen=True)
class Base:
    """An example export that reads without a problem, and what it gives."""

    name: str
    reader: str
    content: bytes
    settings: Settings
    rows: Sequence[Row] = field(repr=False)
    note: str = ""

    @property
    def file(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    @cached_property
    def form(self) -> str:
        if self.content.startswith(b"PK"):
            names = zipfile.ZipFile(io.BytesIO(self.content)).namelist()
            return "workbook" if "xl/workbook.xml" in names else "archive"
        if self.content.startswith(b"\xd0\xcf\x11\xe0") or re.match(rb"FCS\d\.\d {4}", self.content):
            return "binary"
        return "xml" if self.content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") else "text"

    # text

    @cached_property
    def encoding(self) -> str:
        if self.content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        try:
            self.content.decode("utf-8")
        except UnicodeDecodeError:
            return "cp1252"
        return "utf-8-sig" if self.content.startswith(b"\xef\xbb\xbf") else "utf-8"

    @cached_property
    def text(self) -> str:
        return self.content.decode(self.encoding)

    @cached_property
    def delimiter(self) -> str:
        """The mark that makes most cells of the lines with results."""
        lines = re.split(r"\r\n|\r|\n", self.text)
        own = [lines[r["source_row"] - 1] for r in self.rows]
        return max("\t;,", key=lambda mark: sum(min(len(cells_of(line, mark)), 200) for line in own))

    @cached_property
    def lines(self) -> list[str]:
        return [line for line, _ in lines_of(self.text)]

    @cached_property
    def grid(self) -> Grid:
        return [list(cells_of(line, self.delimiter)) for line in self.lines]

    # workbook

    @cached_property
    def sheets(self) -> dict[str, Grid]:
        book = openpyxl.load_workbook(io.BytesIO(self.content), read_only=True, data_only=True)
        return {s.title: [list(row) for row in s.iter_rows(values_only=True)] for s in book.worksheets}

    @cached_property
    def sheet(self) -> str:
        """The sheet in which the rows stand."""

        def standing(grid: Grid) -> int:
            rows = [r for r in self.rows if r["source_row"] <= len(grid)]
            return sum(r["value_raw"] in [shown(c) for c in grid[r["source_row"] - 1]] for r in rows)

        return max(self.sheets, key=lambda name: standing(self.sheets[name]))

    # both

    @cached_property
    def table(self) -> Grid:
        return self.grid if self.form == "text" else self.sheets[self.sheet]

    @cached_property
    def body(self) -> list[int]:
        """Indices of the lines from which rows come."""
        return sorted({r["source_row"] - 1 for r in self.rows})

    @cached_property
    def head(self) -> int:
        """Index of the header."""
        above = range(self.body[0] - 1, -1, -1)
        return next((i for i in above if sum(shown(c) != "" for c in self.table[i]) > 2), 0)

    @cached_property
    def end(self) -> int:
        return self.body[-1] + 1

    @cached_property
    def groups(self) -> bool:
        """Whether whole numbers have a mark between their thousands."""
        marked = [r for r in self.rows if re.fullmatch(r"\d{1,3}([.,]\d{3})+", r["value_raw"]) and r["value"]]
        return any(str(int(r["value"])) == re.sub("[.,]", "", r["value_raw"]) for r in marked)

    @cached_property
    def decimal(self) -> str:
        return "," if any("," in r["value_raw"] and r["value"] is not None for r in self.rows) else "."


def lines_of(text: str) -> list[tuple[str, str]]:
    """Lines and the end of each."""
    parts = re.split(r"(\r\n|\r|\n)", text)
    return list(zip(parts[::2], [*parts[1::2], ""], strict=True))


def cells_of(line: str, delimiter: str) -> list[str]:
    """Cells of one line."""
    if '"' not in line:
        return [c.strip() for c in line.split(delimiter)]
    return [c.strip() for c in next(csv.reader([line], delimiter=delimiter), [])]


def shown(cell: Cell) -> str:
    """A cell as the software shows it."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    return str(cell).strip()


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Raw rows as mappings, None for what is missing."""
    records = frame[["source_row", *FIELDS]].to_dict("records")
    return [{str(k): None if pd.isna(v) else v for k, v in record.items()} for record in records]


@cache
def settings_of(folder: Path) -> Settings:
    path = folder / "settings.json"
    return validated(json.loads(path.read_text()), path.name) if path.exists() else Settings()


def bases(shared: Path | None = None) -> list[Base]:
    """Every example export of the repository that reads without a problem, and with `shared` the small ones there."""
    paths = [p for p in sorted((ROOT / "tests/data/readers").glob("*/*")) if not p.name.endswith(".expected.csv")]
    paths += sorted((ROOT / "data/raw").glob("*/*"))
    if shared is not None:
        paths += [p for p in sorted(shared.rglob("*")) if p.is_file() and p.stat().st_size < 400_000]
    found = []
    for path in paths:
        if path.name in ("settings.json", "README.md"):
            continue
        try:
            frame, report = read_export(path, path.parent, settings_of(path.parent))
        except InputError:
            continue
        name, settings = f"{report.reader}/{path.name}", settings_of(path.parent)
        base = Base(name, report.reader, path.read_bytes(), settings, rows_of(frame), report.note)
        found.append(rewritten(base) if base.form == "workbook" else base)
    return found


def rewritten(base: Base) -> Base:
    """The workbook as openpyxl writes it where that changes its numbers: it rounds to sixteen digits."""
    content = workbook(base.sheets)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / base.file
        path.write_bytes(content)
        frame, report = read_export(path, path.parent, base.settings)
    rows = rows_of(frame)
    return base if rows == list(base.rows) else replace(base, content=content, rows=rows, note=report.note)


# -------------------------------------------------------------------------------------------------------------- mutants

Judge = Callable[[list[Row], str], str]
"""Why the rows of a mutant, and what its reader has to say about the file, are wrong; empty where they are right."""


@dataclass(frozen=True)
class Mutant:
    """A damaged copy and its judge.

    Parameters
    ----------
    kind : str
        What was done.
    content : bytes
        The file.
    judge : callable
        Judges the rows that a reader makes of it.
    must_read : bool
        Nothing that matters was changed, so that it may not be refused either.
    file : str
        Other file name.
    """

    kind: str
    content: bytes
    judge: Judge = field(repr=False)
    must_read: bool = False
    file: str = ""


Mutator = Callable[[Base, random.Random], Mutant | None]

NASTY = (
    *("", "NaN", "N/A", "Undetermined", "No Call", "1e400", "-5", "inf", "0", "1_000", "0x1F", "27.87%", "TRUE", "1/2"),
    *(
        "27. 87",
        "2 7.87",
        "１２.５",
        "27.8.7",
        "27,8,7",
        "1,234",
        "1.234",
        "1.234,5",
        "1,234.5",
        "<50",
        ">1e6",
        "#REF!",
    ),
    *("=1+1", "=cmd|' /C calc'!A0", "../../etc/passwd", "@SUM(A1)", "\u202e27.87", "27.87\u200b", "4.2E+1", "٢٧"),
)


def joined(cells: Sequence[str], delimiter: str, quote: bool = False) -> str:
    """Cells as one line, quoted where that is needed."""
    return delimiter.join(
        '"' + c.replace('"', '""') + '"' if quote or any(m in c for m in (delimiter, '"')) else c for c in cells
    )


def texts(base: Base) -> list[list[str]]:
    return [[shown(c) for c in cells] for cells in base.grid]


def written(base: Base, grid: Sequence[Sequence[str]], delimiter: str = "", quote: bool = False) -> bytes:
    """A grid as a text in the notation of the original; a line that ``sep=`` declares the separator is kept in step."""
    mark = delimiter or base.delimiter
    lines = [joined(cells, mark, quote) for cells in grid]
    if base.lines[0].lstrip("\ufeff").lower().startswith("sep="):
        lines[0] = f"sep={mark}"
    ends = [end for _, end in lines_of(base.text)]
    ends = ends[: len(lines)] if len(lines) == len(ends) else [ends[0]] * len(lines)
    return "".join(line + end for line, end in zip(lines, ends, strict=True)).encode(base.encoding, "replace")


# text, in its bytes


def byte_flip(base: Base, rng: random.Random) -> Mutant:
    """One to three bits or bytes of one line."""
    content = bytearray(base.content)
    starts = [0, *(m.end() for m in re.finditer(rb"\r\n|\r|\n", base.content))]
    line = rng.choice(base.body) if rng.random() < 0.6 else rng.randrange(len(starts))
    ends = [*starts[1:], len(content)]
    if starts[line] >= ends[line]:
        line = base.body[0]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(starts[line], ends[line])
        content[at] = content[at] ^ (1 << rng.randrange(8)) if rng.random() < 0.7 else rng.randrange(256)
    return Mutant("bytes flipped", bytes(content), by_lines(base, bytes(content)))


def byte_cut(base: Base, rng: random.Random) -> Mutant:
    """The end of the file is missing."""
    table = len(base.content) if rng.random() < 0.3 else len("\n".join(base.lines[: base.end]).encode(base.encoding))
    start = len("\n".join(base.lines[: base.head]).encode(base.encoding))
    content = base.content[: rng.randrange(start, min(table, len(base.content)))]
    return Mutant("cut off", content, by_lines(base, content, cut=True))


def other_encoding(base: Base, rng: random.Random) -> Mutant | None:
    encoding = rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"))
    try:
        content = base.text.encode(encoding)
    except UnicodeEncodeError:
        return None
    if base.encoding == "cp1252" and encoding == "cp1252":
        return None
    return Mutant(f"encoded as {encoding}", content, same(base, lines=True), must_read=True)


def other_line_end(base: Base, rng: random.Random) -> Mutant | None:
    ends = rng.choice((["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"]))
    if any('"' in line for line in base.lines) and base.text.count('"') % 2:
        return None
    lines = lines_of(base.text)
    text = "".join(line + (rng.choice(ends) if end else "") for line, end in lines)
    return Mutant("other line ends", text.encode(base.encoding), same(base, lines=True), must_read=True)


# text, as a grid


def other_delimiter(base: Base, rng: random.Random) -> Mutant | None:
    """Written properly with another separator, cells quoted where they hold it."""
    mark = rng.choice([m for m in "\t;," if m != base.delimiter])
    if base.reader == "lightcycler":
        return None
    return Mutant("other separator", written(base, texts(base), mark), same(base, lines=True))


def naive_delimiter(base: Base, rng: random.Random) -> Mutant:
    """Separator replaced everywhere, as an editor does it: cells that hold the new one fall apart."""
    mark = rng.choice([m for m in ("\t", ";", ",", "|", " ", "") if m != base.delimiter])
    content = base.text.replace(base.delimiter, mark).encode(base.encoding)
    return Mutant(f"separator replaced by {mark!r}", content, same(base, lines=True))


def quoted(base: Base, rng: random.Random) -> Mutant:
    return Mutant("every cell quoted", written(base, texts(base), quote=True), same(base, lines=True))


_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?\s*%?")


def _remarked(base: Base, grid: list[list[str]], lines: Sequence[int], columns: Sequence[int] | None) -> bool:
    """Swap the decimal mark of numbers in place; whether any was swapped."""
    old, new = base.decimal, "," if base.decimal == "." else "."
    changed = False
    for i in lines:
        for j in range(len(grid[i])) if columns is None else columns:
            if j < len(grid[i]) and old in grid[i][j] and _NUMBER.fullmatch(grid[i][j]):
                grid[i][j] = grid[i][j].replace(old, new)
                changed = True
    return changed


def other_decimal(base: Base, rng: random.Random) -> Mutant | None:
    """Another decimal mark in the whole table."""
    grid = texts(base)
    if not _remarked(base, grid, range(base.head + 1, len(grid)), None):
        return None
    return Mutant(
        "decimal mark of the file swapped",
        written(base, grid, rng.choice("\t;") if base.reader != "lightcycler" else ""),
        same(base, marks=True, lines=True),
    )


def column_decimal(base: Base, rng: random.Random) -> Mutant | None:
    """Another decimal mark in some columns: no value may change."""
    grid = texts(base)
    width = len(grid[base.head])
    if not _remarked(base, grid, base.body, rng.sample(range(width), rng.randint(1, min(3, width)))):
        return None
    return Mutant("decimal mark of columns swapped", written(base, grid), same(base, marks=True, lines=True))


def cell_decimal(base: Base, rng: random.Random) -> Mutant | None:
    """Another decimal mark in one cell: no value may change."""
    grid = texts(base)
    line = rng.choice(base.body)
    numbers = [j for j, c in enumerate(grid[line]) if base.decimal in c and _NUMBER.fullmatch(c)]
    if not numbers or not _remarked(base, grid, [line], [rng.choice(numbers)]):
        return None
    return Mutant("decimal mark of a cell swapped", written(base, grid), same(base, marks=True, lines=True))


def ragged(base: Base, rng: random.Random) -> Mutant:
    """Separators at the ends of lines that are too many, or missing behind the last filled cell."""
    grid = texts(base)
    how = rng.choice(("one more everywhere", "one more", "trimmed", "one less"))
    for i in range(base.head, len(grid)) if "every" in how or how == "trimmed" else [rng.choice(base.body)]:
        if "more" in how:
            grid[i].append("")
        while grid[i] and not grid[i][-1] and (how == "trimmed"):
            grid[i].pop()
        if how == "one less" and grid[i] and not grid[i][-1]:
            grid[i].pop()
    return Mutant(f"separators at line ends: {how}", written(base, grid), same(base, lines=True))


def blank_lines(base: Base, rng: random.Random) -> Mutant:
    grid = texts(base)
    for _ in range(rng.randint(1, 3)):
        at = rng.choice((0, len(grid), base.head, base.head + 1, rng.randrange(len(grid))))
        grid.insert(max(at, 1 if base.lines[0].lstrip("\ufeff").startswith("sep=") else 0), [""])
    return Mutant("blank lines", written(base, grid), same(base))


def other_ending(base: Base, rng: random.Random) -> Mutant:
    ending = rng.choice((".txt", ".csv", ".xls", ".xlsx", ".TXT", ""))
    stem = base.file.rsplit(".", 1)[0]
    mutant = Mutant("other file ending", base.content, same(base, lines=True), must_read=True)
    # A mapping names files by their endings, and the name of an FCS file is its sample's.
    return mutant if base.reader in ("generic", "fcs") else replace(mutant, file=stem + ending)


# text and workbooks alike: cells


def tables(edit: Callable[[Base, Grid, random.Random], str | None]) -> Mutator:
    """A mutator from an edit of the table of results, which says what it did, or None where it does not apply."""

    def mutate(base: Base, rng: random.Random) -> Mutant | None:
        grid = [list(cells) for cells in base.table]
        kind = edit(base, grid, rng)
        if kind is None:
            return None
        if base.form == "text":
            content = written(base, [[shown(c) for c in cells] for cells in grid])
            grid = [list(cells_of(line, base.delimiter)) for line, _ in lines_of(content.decode(base.encoding))]
        else:
            content = workbook({**base.sheets, base.sheet: grid})
        return Mutant(kind, content, by_grid(base, grid, kind))

    mutate.__name__ = edit.__name__
    return mutate


def workbook(sheets: dict[str, Grid], hidden: Sequence[str] = ()) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, grid in sheets.items():
        sheet = book.create_sheet(name)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
        for i, cells in enumerate(grid, start=1):
            for j, value in enumerate(cells, start=1):
                if value is not None:
                    cell = sheet.cell(i, j)
                    cell.value = value
                    if isinstance(value, str):
                        cell.data_type = "s"  # openpyxl would make a formula of "=1+1"
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@tables
def cell_replaced(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """A cell of a row by what stands in such cells elsewhere, or by what no cell should hold."""
    cells = grid[rng.choice(base.body)]
    j = rng.randrange(len(cells)) if cells else 0
    if not cells or (base.form == "text" and shown(cells[j]) == ""):
        filled = [i for i, c in enumerate(cells) if shown(c)]
        j = rng.choice(filled) if filled else j
    new: Cell = rng.choice(NASTY)
    if base.form == "workbook" and rng.random() < 0.3:
        new = rng.choice((True, 0, -1, 1e300, 27.875, 12, 0.1 + 0.2))
    if not cells or shown(cells[j]) == shown(new):
        return None
    cells[j] = new
    return "cell replaced"


@tables
def digit_changed(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """A digit of a number in a row replaced, doubled or removed."""
    cells = grid[rng.choice(base.body)]
    numbers = [j for j, c in enumerate(cells) if re.search(r"\d", shown(c))]
    if not numbers:
        return None
    j = rng.choice(numbers)
    text = shown(cells[j])
    at = rng.choice([m.start() for m in re.finditer(r"\d", text)])
    text = text[:at] + rng.choice((str(rng.randrange(10)), text[at] * 2, "")) + text[at + 1 :]
    cells[j] = text if isinstance(cells[j], str) or not _NUMBER.fullmatch(text) else float(text)
    return "digit changed"


@tables
def cells_swapped(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """Two cells of one row."""
    cells = grid[rng.choice(base.body)]
    if len(cells) < 2:
        return None
    i, j = rng.sample(range(len(cells)), 2)
    cells[i], cells[j] = cells[j], cells[i]
    return "two cells of a row swapped"


@tables
def cell_shifted(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """A cell lost from a row or one too many: everything behind it stands under the wrong header."""
    cells = grid[rng.choice(base.body)]
    if not cells:
        return None
    at = rng.randrange(len(cells))
    if rng.random() < 0.5:
        cells.insert(at, "" if base.form == "text" else None)
        return "cell inserted"
    del cells[at]
    return "cell lost"


@tables
def row_deleted(base: Base, grid: Grid, rng: random.Random) -> str | None:
    for line in sorted(rng.sample(base.body, min(rng.choice((1, 1, 2, 5)), len(base.body))), reverse=True):
        del grid[line]
    return "rows deleted"


@tables
def row_duplicated(base: Base, grid: Grid, rng: random.Random) -> str | None:
    line = rng.choice(base.body)
    grid.insert(rng.choice((line + 1, base.body[-1] + 1)), list(grid[line]))
    return "row duplicated"


@tables
def rows_swapped(base: Base, grid: Grid, rng: random.Random) -> str | None:
    if len(base.body) < 2:
        return None
    i, j = rng.sample(base.body, 2)
    grid[i], grid[j] = grid[j], grid[i]
    return "rows swapped"


@tables
def header_renamed(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """A header replaced, damaged, emptied, or called as another one."""
    header = grid[base.head]
    named = [j for j, c in enumerate(header) if shown(c)]
    j = rng.choice(named)
    old = shown(header[j])
    at = rng.randrange(len(old))
    new = rng.choice(
        ("Column7", "", old[:at] + old[at + 1 :], old + " 2", shown(header[rng.choice(named)]), old[:at], "Ergebnis")
    )
    header[j] = new
    twice = [shown(c).lower() for c in header].count(new.lower()) > 1 and new
    return None if new == old else "header doubled" if twice else "header renamed"


@tables
def columns_of_data_swapped(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """Two columns without their headers."""
    width = len(grid[base.head])
    if width < 2:
        return None
    i, j = rng.sample(range(width), 2)
    for line in base.body:
        cells = grid[line]
        if max(i, j) < len(cells):
            cells[i], cells[j] = cells[j], cells[i]
    return "columns swapped under their headers"


@tables
def key_changed(base: Base, grid: Grid, rng: random.Random) -> str | None:
    """A line above the table emptied, doubled, or its value replaced."""
    above = [i for i in range(base.head) if any(shown(c) for c in grid[i])]
    if not above:
        return None
    line = rng.choice(above)
    how = rng.choice(("emptied", "doubled", "value"))
    if how == "doubled":
        grid.insert(line, list(grid[line]))
    elif how == "emptied":
        grid[line] = ["" if base.form == "text" else None for _ in grid[line]]
    else:
        filled = [j for j, c in enumerate(grid[line]) if shown(c)]
        grid[line][filled[-1]] = rng.choice(("Results", "NK 99", "C:\\Users\\someone\\x.eds", "=1+1", "12,5"))
    return f"line above the table: {how}"


def columns_moved(base: Base, rng: random.Random) -> Mutant | None:
    """Two whole columns of the table, with their headers: the same table."""
    grid = [list(cells) for cells in base.table]
    header = grid[base.head]
    width = len(header)
    above = grid[base.head - 1] if base.reader == "absolute_q" and base.head else []
    if width < 2 or any(len(grid[i]) > width for i in base.body) or sum(shown(c) != "" for c in above) > 1:
        return None
    i, j = rng.sample(range(width), 2)
    # The first of two columns with one name counts, and the column of sample names has its place in some formats.
    names = [re.sub(r"\W", "", shown(c)).lower() for c in header]
    if names.count(names[i]) > 1 or names.count(names[j]) > 1:
        return None
    for cells in (grid[k] for k in (base.head, *base.body)):
        cells += [""] * (width - len(cells)) if base.form == "text" else [None] * (width - len(cells))
        cells[i], cells[j] = cells[j], cells[i]
    content = (
        written(base, [[shown(c) for c in cells] for cells in grid])
        if base.form == "text"
        else workbook({**base.sheets, base.sheet: grid})
    )
    return Mutant("columns swapped with their headers", content, same(base, lines=True, order=False))


def header_respelt(base: Base, rng: random.Random) -> Mutant | None:
    """Headers in other case or with blanks around them: the same table."""
    grid = [list(cells) for cells in base.table]
    spelt = rng.choice((str.upper, str.lower, lambda text: f" {text} ", lambda text: text.replace(" ", "  ")))
    if base.reader in ("flowjo_table", "flowjo_tree", "facsdiva_table", "generic"):
        return None  # there the names of gates stand in it, or a remark repeats it
    grid[base.head] = [spelt(shown(c)) if shown(c) else c for c in grid[base.head]]
    content = (
        written(base, [[str(c) for c in cells] for cells in grid])
        if base.form == "text"
        else workbook({**base.sheets, base.sheet: grid})
    )
    return Mutant("headers respelt", content, same(base, lines=True))


# workbooks


def book_rewritten(base: Base, rng: random.Random) -> Mutant:
    """The same cells, written by another library; hidden sheets and empty ones beside them."""
    sheets = dict(base.sheets)
    hidden = []
    if rng.random() < 0.5:
        sheets["Old " + base.sheet] = [[c for c in cells] for cells in base.table]
        hidden.append("Old " + base.sheet)
    if rng.random() < 0.5:
        sheets["Notes"] = [["read me"], [None, 12.5]]
    return Mutant("workbook written anew", workbook(sheets, hidden), same(base, lines=True))


def book_as_text(base: Base, rng: random.Random) -> Mutant:
    """Every number of the workbook as text."""
    sheets: dict[str, Grid] = {
        n: [[None if c is None else shown(c) for c in cells] for cells in g] for n, g in base.sheets.items()
    }
    return Mutant("numbers as text", workbook(sheets), same(base, lines=True))


def sheet_renamed(base: Base, rng: random.Random) -> Mutant:
    name = rng.choice(list(base.sheets))
    new = rng.choice(("Sheet1", "Results", "Ergebnisse", "results "))
    sheets = {new if n == name else n: g for n, g in base.sheets.items()}
    return Mutant("sheet renamed", workbook(sheets), by_grid(base, base.table, "sheet renamed", loose=True))


def sheet_dropped(base: Base, rng: random.Random) -> Mutant | None:
    name = rng.choice(list(base.sheets))
    others = {n: g for n, g in base.sheets.items() if n != name}
    if not others:
        return None
    if rng.random() < 0.5:
        content = workbook(base.sheets, [name])
    else:
        content = workbook(others)
    return Mutant("sheet dropped or hidden", content, by_grid(base, base.table, "sheet dropped", loose=True))


def other_sheet_damaged(base: Base, rng: random.Random) -> Mutant | None:
    names = [n for n in base.sheets if n != base.sheet and any(base.sheets[n])]
    if not names:
        return None
    name = rng.choice(names)
    grid = [list(cells) for cells in base.sheets[name]]
    line = rng.choice([i for i, cells in enumerate(grid) if any(shown(c) for c in cells)])
    filled = [j for j, c in enumerate(grid[line]) if shown(c)]
    j = rng.choice(filled)
    before, grid[line][j] = grid[line][j], rng.choice(NASTY)
    judge = by_grid(base, base.table, "cell replaced", also=[base.sheets[name][line], grid[line]], loose=True)
    return Mutant(f"cell of another sheet replaced ({shown(before)!r})", workbook({**base.sheets, name: grid}), judge)


# any container


def container_flip(base: Base, rng: random.Random) -> Mutant:
    """Bytes of a zip archive: its check sums must show it."""
    content = bytearray(base.content)
    tail = rng.random() < 0.3  # its directory stands at the end
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(max(len(content) - 1000, 0) if tail else 0, len(content))
        content[at] = content[at] ^ (1 << rng.randrange(8)) if rng.random() < 0.5 else rng.randrange(256)
    return Mutant("bytes of the archive flipped", bytes(content), same(base, lines=True))


def container_cut(base: Base, rng: random.Random) -> Mutant:
    content = base.content[: rng.randrange(1, len(base.content))]
    return Mutant("archive cut off", content, same(base, lines=True))


def container_stored(base: Base, rng: random.Random) -> Mutant:
    """The archive without compression, with a byte flipped in a member: its check sum does not fit any more."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base.content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    content = bytearray(buffer.getvalue())
    if rng.random() < 0.2:
        return Mutant("archive without compression", bytes(content), same(base, lines=True), must_read=True)
    digits = [m.start() for m in re.finditer(rb"\d", bytes(content))]
    for _ in range(rng.choice((1, 3, 10))):
        content[rng.choice(digits)] = rng.choice(b"0123456789")
    return Mutant("bytes of the archive flipped", bytes(content), same(base, lines=True))


def binary_flip(base: Base, rng: random.Random) -> Mutant:
    """Bytes of a format without check sums: only that it neither crashes nor hangs can be asked."""
    content = bytearray(base.content)
    region = min(len(content), 4096) if rng.random() < 0.6 else len(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(region)] = rng.randrange(256)
    return Mutant("bytes flipped", bytes(content), lambda rows, note: "")


def binary_cut(base: Base, rng: random.Random) -> Mutant:
    return Mutant("cut off", base.content[: rng.randrange(1, len(base.content))], lambda rows, note: "")


# XML


def document(base: Base) -> tuple[str, bytes]:
    """Name in the archive, empty for a plain document, and the document."""
    if base.form == "xml":
        return "", base.content
    with zipfile.ZipFile(io.BytesIO(base.content)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".xml")]
        return name, archive.read(name)


def enclosed(name: str, content: bytes) -> bytes:
    if not name:
        return content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _parsed(content: bytes) -> ElementTree.Element:
    builder = ElementTree.XMLParser(target=ElementTree.TreeBuilder())  # our own examples
    builder.feed(content)
    return builder.close()


def trees(edit: Callable[[ElementTree.Element, random.Random], str | None]) -> Mutator:
    """A mutator from an edit of the document."""

    def mutate(base: Base, rng: random.Random) -> Mutant | None:
        name, content = document(base)
        root = _parsed(content)
        kind = edit(root, rng)
        if kind is None:
            return None
        changed = ElementTree.tostring(root, "utf-8")
        return Mutant(kind, enclosed(name, changed), by_words(base, content, changed))

    mutate.__name__ = edit.__name__
    return mutate


@trees
def element_deleted(root: ElementTree.Element, rng: random.Random) -> str | None:
    parent = rng.choice([e for e in root.iter() if len(e)])
    parent.remove(rng.choice(list(parent)))
    return "element deleted"


@trees
def element_doubled(root: ElementTree.Element, rng: random.Random) -> str | None:
    parent = rng.choice([e for e in root.iter() if len(e)])
    at = rng.randrange(len(parent))
    parent.insert(at, parent[at])
    return "element doubled"


@trees
def element_renamed(root: ElementTree.Element, rng: random.Random) -> str | None:
    rng.choice(list(root.iter())).tag = "other"
    return "element renamed"


@trees
def attribute_renamed(root: ElementTree.Element, rng: random.Random) -> str | None:
    having = [e for e in root.iter() if e.attrib]
    if not having:
        return None
    element = rng.choice(having)
    key = rng.choice(list(element.attrib))
    element.set(key + "2", element.attrib.pop(key))
    return "attribute renamed"


@trees
def word_changed(root: ElementTree.Element, rng: random.Random) -> str | None:
    """An attribute's value or an element's text."""
    places = [(e, k) for e in root.iter() for k in (*e.attrib, "") if k or (e.text or "").strip()]
    element, key = rng.choice(places)
    old = element.get(key, "") if key else element.text or ""
    at = rng.randrange(len(old) + 1)
    new = rng.choice((*NASTY[:28], old[:at] + rng.choice("0123456789") + old[at + 1 :], old[:at]))
    new = "".join(c for c in new if c.isprintable())
    if key:
        element.set(key, new)
    else:
        element.text = new
    return None if new == old else "word changed"


def xml_encoding(base: Base, rng: random.Random) -> Mutant:
    name, content = document(base)
    root = _parsed(content)
    changed = ElementTree.tostring(root, rng.choice(("utf-8", "utf-16", "us-ascii")), xml_declaration=True)
    return Mutant("encoded otherwise", enclosed(name, changed), same(base, lines=True), must_read=True)


def xml_flip(base: Base, rng: random.Random) -> Mutant:
    name, content = document(base)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(changed))
        changed[at] = changed[at] ^ (1 << rng.randrange(8)) if rng.random() < 0.7 else rng.randrange(256)
    return Mutant("bytes flipped", enclosed(name, bytes(changed)), by_words(base, content, bytes(changed)))


def xml_cut(base: Base, rng: random.Random) -> Mutant:
    name, content = document(base)
    changed = content[: rng.randrange(1, len(content))]
    return Mutant("cut off", enclosed(name, changed), same(base, lines=True))


CELLS: tuple[Mutator, ...] = (
    *(cell_replaced, cell_replaced, digit_changed, digit_changed, cells_swapped, cell_shifted, cell_shifted),
    *(row_deleted, row_duplicated, rows_swapped, header_renamed, header_renamed, columns_of_data_swapped, key_changed),
    *(columns_moved, header_respelt),
)
MUTATORS: dict[str, tuple[Mutator, ...]] = {
    "text": (
        *(byte_flip, byte_flip, byte_flip, byte_flip, byte_flip, byte_cut, byte_cut, byte_cut),
        *(other_encoding, other_line_end, other_delimiter, naive_delimiter, quoted, other_decimal, column_decimal),
        *(cell_decimal, cell_decimal, ragged, blank_lines, other_ending, *CELLS),
    ),
    "workbook": (
        *(container_flip, container_flip, container_cut, container_stored, container_stored, book_rewritten),
        *(book_as_text, sheet_renamed, sheet_dropped, other_sheet_damaged, other_ending, *CELLS),
    ),
    "xml": (
        *(element_deleted, element_doubled, element_renamed, attribute_renamed, word_changed, word_changed),
        *(xml_encoding, xml_flip, xml_flip, xml_cut, other_ending),
    ),
    "archive": (
        *(element_deleted, element_doubled, element_renamed, attribute_renamed, word_changed, word_changed),
        *(xml_encoding, xml_flip, xml_flip, xml_cut, container_flip, container_cut, container_stored, other_ending),
    ),
    "binary": (binary_flip, binary_flip, binary_cut, other_ending),
}

# --------------------------------------------------------------------------------------------------------------- judges


def same(base: Base, lines: bool = False, marks: bool = False, order: bool = True) -> Judge:
    """The same rows; with `lines` from the same lines, with `marks` whatever decimal mark the text has."""

    def judge(rows: list[Row], note: str) -> str:
        ignored = {"source_row"} if not lines else set()

        def key(row: Row) -> tuple[str, ...]:
            return tuple(
                # Texts repeat numbers of the table where they say why.
                str(row[f]).replace(",", ".") if marks and f in ("value_raw", "sample_id", *VERDICTS) else str(row[f])
                for f in ("source_row", *FIELDS)
                if f not in ignored
            )

        old, new = [key(r) for r in base.rows], [key(r) for r in rows]
        if (old == new) if order else (sorted(old) == sorted(new)):
            return ""
        if len(old) != len(new):
            return f"{len(new)} rows in place of {len(old)}"
        i = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        return f"{described(rows[i])} in place of {described(base.rows[i])}"

    return judge


def described(row: Row) -> str:
    return "{" + ", ".join(f"{f}={row[f]!r}" for f in ("source_row", *FIELDS) if row[f] not in (None, "", False)) + "}"


def strict_number(cell: Cell, decimal: str) -> float | None:
    """What a cell says beyond doubt; None where a person would have to guess."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, (int, float)):
        return float(cell)
    text = re.sub(r"\s*%$", "", cell.strip().strip('"'))
    other = "," if decimal == "." else "."
    if re.fullmatch(rf"[+-]?(\d+[{decimal}]?\d*|[{decimal}]\d+)([eE][+-]?\d+)?", text, re.ASCII):
        return float(text.replace(",", "."))
    grouped = rf"[+-]?\d{{1,3}}(([ \u00a0'’\u202f\u2009])\d{{3}})(\2\d{{3}})*([{decimal}]\d+)?"
    if re.fullmatch(grouped, text, re.ASCII):
        return float(re.sub("[ \u00a0'’\u202f\u2009]", "", text).replace(",", "."))
    if re.fullmatch(rf"[+-]?\d{{1,3}}([{other}]\d{{3}}){{2,}}([{decimal}]\d+)?", text, re.ASCII) or re.fullmatch(
        rf"[+-]?\d{{1,3}}([{other}]\d{{3}})+[{decimal}]\d+", text, re.ASCII
    ):
        return float(text.replace(other, "").replace(",", "."))
    return None


def close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b), 1e-300)


def differing(o: Row, m: Row) -> list[str]:
    return [f for f in FIELDS if o[f] != m[f] and not (o[f] is None and m[f] is None)]


def letters(text: object) -> str:
    """A text without zeros, marks, case and the ending of its file, as wells and names of files are called."""
    return re.sub(r"(?i)\.fcs$|[\W_]|(?<=[a-z])0+(?=\d)", "", str(text)).lower()


_DERIVED = {"absolute_q": "sums over combinations of dyes, and dilutions"}


def stands_in(value: Any, cells: Sequence[Cell], decimal: str, grouped: bool = False) -> bool:
    """Whether one of the cells says a value."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        numbers = [n for c in cells if (n := strict_number(c, decimal)) is not None]
        numbers += [n for c in cells if grouped and (n := strict_number(re.sub("[.,]", "", shown(c)), ".")) is not None]
        return any(close(float(value), n * k) for n in numbers for k in (1, 24, 1 / 24, 7, 365.25 / 12))
    own = letters(value)
    words = [w for c in cells if (w := letters(shown(c)))]
    return any(own == w or (own and own in w) or ("/" in value and w in own) for w in words)


def explained(base: Base, o: Row, m: Row, old: Sequence[Cell], new: Sequence[Cell]) -> str:
    """Why a row of a changed line is wrong: each of its differences must be what a changed cell says."""
    old, new = list(old), list(new)
    while old and shown(old[-1]) == "":
        old.pop()
    while new and shown(new[-1]) == "":
        new.pop()
    fields = differing(o, m)
    if len(old) != len(new) and len({len(old), len(new)} & {len(base.table[base.head])}) != 2:
        width = max(len(old), len(new))
        old += [""] * (width - len(old))
        new += [""] * (width - len(new))
    changed = [(a, b) for a, b in zip(old, new, strict=False) if shown(a) != shown(b)]
    now, before = [b for _, b in changed], [a for a, _ in changed]
    for f in fields:
        value = m[f]
        if f in VERDICTS:
            continue
        if f in NUMBERS and value is None:
            # A number gone: by a word, or set aside with a reason; never because a number was not understood.
            unread = [c for c in now if re.search(r"\d", shown(c)) and strict_number(c, base.decimal) is None]
            said = m["note"] or m["remark"] or m["role"] in SET_ASIDE or m["detection"] in ("above", "not_detected")
            if unread and not said:
                return f"{f} is gone without a word: {described(m)} in place of {described(o)}"
            continue
        if value in (None, ""):
            continue
        whole = f in ("n_partitions", "n_positive") or (f == "value" and m["measure"] == "events")
        if stands_in(value, now, base.decimal, base.groups or whole):
            continue
        if f == "time" and base.reader == "generic":
            continue  # counted from the first row or infusion of the patient
        if f in NUMBERS and o[f] is None and stands_in(value, new, base.decimal, base.groups):
            continue  # a row that was set aside, or below a limit, for the cell that changed
        if f in TEXTS and any(letters(shown(c)) in letters(o[f]) for c in before if shown(c)):
            continue
        if f in NUMBERS and (
            base.reader in _DERIVED or (base.reader == "generic" and m["value_raw"] in map(shown, now))
        ):
            continue
        if f in TEXTS and m["remark"] != o["remark"]:
            continue  # another name in place of one that is gone, and said so
        return f"{f} = {value!r} stands in no changed cell: {described(m)} in place of {described(o)}"
    return ""


def fed(base: Base, o: Row, m: Row, old: Sequence[Cell], new: Sequence[Cell], keys: Sequence[Cell]) -> str:
    """Why a row under a changed header is wrong.

    Each of its differences must be a value that came from, or comes from, a column with another header, or is missing.
    """
    for f in differing(o, m):
        value = m[f]
        if value in (None, "", False) or f in VERDICTS:
            continue
        if o[f] not in (None, "") and (stands_in(o[f], old, base.decimal) or stands_in(o[f], keys, base.decimal)):
            continue
        if stands_in(value, new, base.decimal) or stands_in(value, keys, base.decimal):
            continue
        if f == "value" and m["value_raw"] in m["remark"]:
            continue  # a dilution that is not known any more, and said so
        if f in ("run_id", "target") and (value == base.file.rsplit(".", 1)[0] or m["remark"] != o["remark"]):
            continue
        return f"{f} = {value!r} is not of a column whose header changed: {described(m)} in place of {described(o)}"
    return ""


def paired(mine: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Rows of one line side by side: those of one target first, since a changed target changes their order."""
    both = {m["target"] for m in theirs} & {o["target"] for o in mine}
    return list(zip(*(sorted(own, key=lambda row: row["target"] not in both) for own in (mine, theirs)), strict=False))


def aside(o: Row, m: Row) -> bool:
    """Whether a row that was not changed differs rightly: another row that it depends on is gone, and it says so."""
    fields = set(differing(o, m))
    if o["role"] in SET_ASIDE and m["role"] in SET_ASIDE:
        return fields <= {"run_id", *VERDICTS}  # a heading is of the run of the wells below it
    lost = {f for f in fields if f in NUMBERS and m[f] is None}
    said = (m["note"], m["remark"]) != (o["note"], o["remark"])
    return said and fields - lost <= set(VERDICTS)


def _below(o: Row, m: Row, lines: Sequence[Sequence[str]]) -> bool:
    """Whether a row of a tree differs as its sample or a gate above it does, whose name begins its own."""
    fields = set(differing(o, m)) - set(VERDICTS)
    names = [letters(part) for cells in lines for cell in cells for part in cell.split("/")]
    parts = {letters(part) for row in (o, m) for f in ("sample_id", "target") for part in row[f].split("/")}
    return fields <= {"sample_id", "target"} and any(name in parts for name in names if name)


def shifted(pairs: Sequence[tuple[Row, Row]]) -> bool:
    """Whether rows differ by a shift of time alone, one for each patient, as where a first infusion is gone."""
    shifts: dict[str, set[float]] = {}
    for o, m in pairs:
        if set(differing(o, m)) - {"time"} or o["time"] is None or m["time"] is None:
            return False
        shifts.setdefault(o["patient_id"], set()).add(round(m["time"] - o["time"], 6))
    return all(len(s) == 1 for s in shifts.values())


def by_lines(base: Base, content: bytes, cut: bool = False) -> Judge:
    """Judge a text changed in its bytes: every line that is the same must give the same rows.

    Lines are decoded one by one, so that damage to one letter is no excuse for the letters of other lines.
    """

    def decoded(line: bytes) -> str:
        try:
            return line.decode(base.encoding)
        except UnicodeDecodeError:
            return line.decode("cp1252", "replace")

    lines = [decoded(line).lstrip("\ufeff") for line in re.split(rb"\r\n|\r|\n", content)]
    grid: Grid = [list(cells_of(line, base.delimiter)) for line in lines]
    kind = "cut off" if cut else "bytes flipped"
    return by_grid(base, grid, kind)


def by_grid(base: Base, grid: Grid, kind: str, also: Sequence[Sequence[Cell]] = (), loose: bool = False) -> Judge:
    """Judge by the cells of original and mutant.

    Parameters
    ----------
    base, grid
        Original, and the table of results of the mutant.
    kind : str
        What was done.
    also : sequence of lines
        Changed lines of other sheets.
    loose : bool
        Another sheet changed, so that rows may lose what they had from it.
    """
    return lambda rows, note: _judged(base, grid, kind, also, loose, rows, note)


def _judged(
    base: Base, grid: Grid, kind: str, also: Sequence[Sequence[Cell]], loose: bool, rows: list[Row], note: str
) -> str:
    old = [tuple(map(shown, cells)) for cells in base.table]
    new = [tuple(map(shown, cells)) for cells in grid]
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    equal = {i: j for tag, a, b, c, _ in blocks if tag == "equal" for i, j in zip(range(a, b), itertools.count(c))}
    back = {j: i for i, j in equal.items()}
    o_of, m_of = _by_line(base.rows), _by_line(rows)
    # What may feed every row: headers and the lines above the table, as they were and as they are.
    heads: list[tuple[Sequence[Cell], Sequence[Cell]]] = []
    keys: list[Cell] = []
    for tag, a, b, c, d in blocks:
        inserted = a == b and any(j <= base.head for j in range(c, d))
        if tag == "equal" or not (inserted or any(i not in o_of for i in range(a, b))):
            continue
        pairs = itertools.zip_longest(range(a, b), range(c, d))
        for i, j in pairs:
            before = base.table[i] if i is not None else []
            after = grid[j] if j is not None else []
            if i is not None and i in o_of:
                continue
            heads.append((before, after))
            keys += [*before, *after]
    keys = [k for k in keys if shown(k)]
    columns = [
        n
        for before, after in heads
        for n in range(max(len(before), len(after)))
        if (shown(before[n]) if n < len(before) else "") != (shown(after[n]) if n < len(after) else "")
    ]
    untouched: list[tuple[Row, Row]] = []
    for i, j in equal.items():
        mine, theirs = o_of.get(i, []), m_of.get(j, [])
        if len(mine) != len(theirs):
            # A column less, or more: the reader must say which it does not use.
            if not (heads or loose) or note == base.note:
                return f"line {i + 1}, which is unchanged, gives {len(theirs)} rows in place of {len(mine)}"
            targets = {m["target"] for m in theirs} & {o["target"] for o in mine}
            mine, theirs = ([r for r in own if r["target"] in targets] for own in (mine, theirs))
        untouched += [(o, m) for o, m in paired(mine, theirs) if differing(o, m)]
    if untouched and not shifted(untouched):
        lines = _changed_lines(base, blocks, grid)
        for o, m in untouched:
            if aside(o, m):
                continue
            if base.reader in _DERIVED and o["sample_id"] and any(o["sample_id"] in cells for cells in lines):
                continue
            if base.reader == "flowjo_tree" and _below(o, m, lines):
                continue
            if base.reader == "qiacuity" and differing(o, m) == ["run_id"]:
                continue  # a plate is named in the first of its rows
            if also and any(letters(o["well"]) == letters(shown(c)) for cells in also for c in cells):
                continue
            if heads:
                line = base.table[o["source_row"] - 1]
                cells = [line[n] for n in columns if n < len(line)]
                if why := fed(base, o, m, cells, [] if kind == "header doubled" else cells, keys):
                    return why
                continue
            if loose and all(m[f] in (None, "", False) or f in VERDICTS for f in differing(o, m)):
                continue
            return f"a row of an unchanged line differs: {described(m)} in place of {described(o)}"
    for tag, a, b, c, d in blocks:
        if tag == "equal":
            continue
        if why := _block(base, grid, kind, range(a, b), range(c, d), o_of, m_of, columns if heads else []):
            return why
    stray = [m for j, own in m_of.items() for m in own if j >= len(grid)]
    return f"a row from a line that does not exist: {described(stray[0])}" if stray else _unknown(rows, m_of, back)


def _unknown(rows: Sequence[Row], m_of: dict[int, list[Row]], back: dict[int, int]) -> str:
    return "" if len(rows) == sum(map(len, m_of.values())) else "rows without a line"


def _by_line(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["source_row"] - 1, []).append(row)
    return found


def _changed_lines(base: Base, blocks: Sequence[Any], grid: Grid) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for tag, a, b, c, d in blocks:
        if tag != "equal":
            lines += [tuple(map(shown, cells)) for cells in (*base.table[a:b], *grid[c:d])]
    return lines


def combined(base: Base, vanished: Sequence[Row], m_of: dict[int, list[Row]]) -> bool:
    """Whether a vanished row was a combination of dyes, and every row that it is missing from says so."""
    names = {o["sample_id"] for o in vanished}
    others = [m for own in m_of.values() for m in own if m["sample_id"] in names]
    return base.reader in _DERIVED and bool(others) and all(m["note"] for m in others)


def _block(
    base: Base,
    grid: Grid,
    kind: str,
    old: range,
    new: range,
    o_of: dict[int, list[Row]],
    m_of: dict[int, list[Row]],
    columns: Sequence[int],
) -> str:
    """Why the rows of changed lines are wrong."""
    mine = [o for i in old for o in o_of.get(i, [])]
    theirs = [m for j in new for m in m_of.get(j, [])]
    if kind == "cut off":
        # The last line: what it still gives must be what it gave.
        for m in theirs:
            # A row that is set aside, or has a remark, still is where the words are cut.
            words = [{"remark"} | ({"note"} if m["note"] and o["note"] else set()) for o in mine]
            kept = any(set(differing(o, m)) <= free for o, free in zip(mine, words, strict=True))
            if "line end" not in m["remark"] and not kept:
                return (
                    f"a value of the line that was cut: {described(m)} in place of {described(mine[0]) if mine else 0}"
                )
        return ""
    if not theirs:
        vanished = [o for o in mine if o["role"] not in SET_ASIDE]
        emptied = all(not any(map(shown, grid[j])) for j in new)
        if combined(base, vanished, m_of):
            return ""
        gone = kind in ("rows deleted", "rows swapped", "row duplicated") or emptied
        return "" if gone or not vanished else f"a row has vanished: {described(vanished[0])}"
    if kind in ("rows swapped", "row duplicated", "rows deleted"):
        for m in theirs:
            free = {"run_id"} if base.reader == "qiacuity" else set()
            if not any(set(differing(o, m)) <= free for o in base.rows):
                return f"a row that was only moved differs: {described(m)}"
            if any(o["run_id"] != m["run_id"] for o in base.rows if set(differing(o, m)) <= free):
                continue  # a well of another plate
            if kind == "row duplicated" and m["well"] and m["role"] not in SET_ASIDE and not mine:
                return f"a well twice: {described(m)}"
        return ""
    if len(old) != len(new):
        # A line end came or went: what is still read must be what it was.
        for m in theirs:
            summaries = mine and all(o["role"] in SET_ASIDE for o in mine)
            if m["role"] in SET_ASIDE or (summaries and any(o["value_raw"] == m["value_raw"] for o in mine)):
                continue
            if not any(set(differing(o, m)) <= {"remark"} for o in mine):
                return f"a row of a broken line: {described(m)}"
        left = [o for o in mine if o["role"] not in SET_ASIDE]
        return "" if len(theirs) >= len(left) else f"a row of a broken line has vanished: {described(left[-1])}"
    for i, j in zip(old, new, strict=True):
        own, other = o_of.get(i, []), m_of.get(j, [])
        if len(own) > len(other):
            kept = [o for o in own if o["role"] not in SET_ASIDE]
            if kept and any(map(shown, grid[j])) and not combined(base, kept, m_of):
                return f"a row has vanished: {described(kept[0])}"
            continue
        for o, m in paired(own, other):
            if aside(o, m) or (o["role"] in SET_ASIDE and m["role"] in SET_ASIDE):
                continue
            cells = [grid[j][n] for n in columns if n < len(grid[j])]
            if columns and not fed(base, o, m, cells, cells, []):
                continue
            if why := explained(base, o, m, base.table[i], grid[j]):
                return why
    return ""


# words of a document


def words_of(content: bytes) -> Counter[tuple[str, str]]:
    """Values of attributes and texts of a document, each with the name under which it stands."""
    return Counter(
        (name, value.strip())
        for element in _parsed(content).iter()
        for name, value in (*element.attrib.items(), (element.tag, element.text or ""))
        if value.strip()
    )


def by_words(base: Base, original: bytes, changed: bytes) -> Judge:
    """Judge a document: a number must be the old one or one that the mutation wrote, and rows keep their order."""

    def judge(rows: list[Row], note: str) -> str:
        try:
            mine, theirs = words_of(original), words_of(changed)
        except ElementTree.ParseError:
            return f"a document that is not well-formed gives {len(rows)} rows"
        # The lines and columns of a plate name the wells of all its reactions.
        changed_names = {name.rpartition("}")[2] for name, _ in (mine - theirs) | (theirs - mine)}
        plate = not changed_names.isdisjoint(("rows", "columns", "rowLabel", "columnLabel"))
        added: list[Cell] = [word for _, word in theirs - mine]
        gone = [word for _, word in mine - theirs]
        plain = [f for f in FIELDS if f not in ("remark", "note") and not (plate and f == "well")]

        def key(row: Row) -> tuple[Any, ...]:
            return tuple(row[f] for f in plain)

        matcher = difflib.SequenceMatcher(None, [key(r) for r in base.rows], [key(r) for r in rows], autojunk=False)
        for tag, a, b, c, d in matcher.get_opcodes():
            if tag in ("equal", "delete"):
                continue
            for m in rows[c:d]:
                pairs = base.rows[a:b] or base.rows
                if not any(_fits(base, o, m, added, gone, plate) for o in pairs) and not any(
                    _fits(base, o, m, added, gone, plate) for o in base.rows
                ):
                    return f"{described(m)} in place of {described(pairs[0])}"
        return ""

    return judge


def _fits(base: Base, o: Row, m: Row, added: Sequence[Cell], gone: Sequence[str], plate: bool) -> bool:
    for f in differing(o, m):
        value = m[f]
        # A reaction is numbered along the rows of its plate.
        counted = plate or any(shown(word).isdigit() for word in added)
        if f in VERDICTS or value in (None, "") or (f == "well" and counted):
            continue
        if f == "value" and o[f] is None and value == strict_number(m["value_raw"], base.decimal):
            continue  # a gate around it is gone, whose count it contradicted
        if f in NUMBERS:
            if f == "volume_ul" and stands_in(value * 1000, added, base.decimal):
                continue  # printed in nL
            # Positive and negative partitions make their total, and a concentration that is not printed.
            if not stands_in(value, added, base.decimal) and m["measure"] != "partitions":
                return False
        elif not (
            any(letters(shown(w)) in letters(value) for w in added)
            or any(letters(w) in letters(o[f]) for w in gone)
            or letters(value) in letters(o[f])
            or (f == "sample_id" and value)
        ):
            return False
    return True


# ------------------------------------------------------------------------------------------------------------------ run


def mutant_of(number: int, seed: int, known: Sequence[Base]) -> tuple[Base, Mutant]:
    """The mutant of a number: its reader, its original and what is done to it follow from seed and number."""
    rng = random.Random(f"{seed}/{number}")
    readers = sorted({b.reader for b in known})
    while True:
        reader = rng.choice(readers)
        own = [b for b in known if b.reader == reader]
        base = rng.choices(own, [1 if len(b.content) < 20_000 else 0.15 for b in own])[0]
        mutant = rng.choice(MUTATORS[base.form])(base, rng)
        if mutant is not None and (mutant.content != base.content or mutant.file):
            return base, mutant


@dataclass
class Outcome:
    """What became of a mutant: same, refused, differs, wrong, crashed or slow."""

    result: str
    said: str = ""


def peak_memory() -> int:
    """Most memory [bytes] that this process has held; of a parent that started it where the system tells no better."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _too_slow(signum: int, frame: FrameType | None) -> None:
    raise Hang


def outcome(base: Base, mutant: Mutant, folder: Path) -> Outcome:
    """Read a mutant under the limits, and judge it."""
    path = folder / (mutant.file or base.file)
    path.write_bytes(mutant.content)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        frame, report = read_export(path, folder, base.settings)
    except InputError as error:
        problems = error.problems
        if not problems or not all(p.found and p.expected and p.mend for p in problems):
            return Outcome("wrong", "a refusal that does not say what was found, what was expected and what to do")
        return Outcome("wrong" if mutant.must_read else "refused", str(error))
    except Hang:
        return Outcome("slow", f"more than {SECONDS:g} s")
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return Outcome("crashed", traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        path.unlink(missing_ok=True)
    if peak_memory() > MEMORY:
        return Outcome("slow", "more than 1 GiB of memory")
    rows = rows_of(frame)
    if report.reader == base.reader and not same(base, lines=True)(rows, report.note):
        return Outcome("same")
    if report.reader != base.reader and base.form != "binary" and not all(row["note"] for row in rows):
        return Outcome("wrong", f"read by {report.reader}: {described(rows[0]) if rows else 'no rows'}")
    if why := mutant.judge(rows, report.note):
        return Outcome("wrong", why)
    return Outcome("differs")


def run(first: int, count: int, seed: int, known: Sequence[Base], folder: Path) -> Iterator[dict[str, Any]]:
    """Read mutants one after the other; each is announced before it is read, so that a killed process tells which."""
    signal.signal(signal.SIGALRM, _too_slow)
    for number in range(first, first + count):
        base, mutant = mutant_of(number, seed, known)
        about = {"number": number, "reader": base.reader, "base": base.name, "kind": mutant.kind}
        yield {**about, "result": "begun"}
        found = outcome(base, mutant, folder)
        yield {**about, "result": found.result, "said": found.said if found.result not in ("same", "differs") else ""}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared", type=Path, help="folder with further exports to mutate")
    parser.add_argument("--only", default="", help="originals whose name begins so")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that fail, or for the only one")
    parser.add_argument("--journal", type=Path, help="file for one line of JSON per mutant")
    options = parser.parse_args(arguments)
    known = [b for b in bases(options.shared) if b.name.startswith(options.only)]
    counts: dict[str, Counter[str]] = {}
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        journal = options.journal.open("a", encoding="utf-8") if options.journal else None
        for event in run(options.first, options.count, options.seed, known, Path(folder)):
            if journal:
                journal.write(json.dumps(event) + "\n")
                journal.flush()
            if event["result"] == "begun":
                continue
            counts.setdefault(event["reader"], Counter())[event["result"]] += 1
            failed = event["result"] in ("wrong", "crashed", "slow")
            failures += failed
            if failed:
                print(f"{event['number']} {event['base']}, {event['kind']}: {event['result']}: {event['said']}\n")
            if options.keep and (failed or options.count == 1):
                base, mutant = mutant_of(event["number"], options.seed, known)
                options.keep.mkdir(parents=True, exist_ok=True)
                name = f"{event['number']}__{base.reader}__{mutant.file or base.file}"
                (options.keep / name).write_bytes(mutant.content)
    names = ("same", "refused", "differs", "wrong", "crashed", "slow")
    print(f"{'reader':22}" + "".join(f"{n:>9}" for n in names))
    for reader in [*sorted(counts), "all"]:
        own = counts[reader] if reader != "all" else sum(counts.values(), Counter())
        print(f"{reader:22}" + "".join(f"{own[n]:9}" for n in names))
    without = sorted(set(discover("readers")) - {b.reader for b in known})
    if without and not options.only:
        print(f"readers without an original: {', '.join(without)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
