"""Files at the edge: canonical tables in and out, byte for byte the same on every run.

Everything is written under a temporary name in the same folder and renamed, so that no reader ever sees half a file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import SCHEMAS, Schema, schema_problems
from nkinetics.compact import compact, plain
from nkinetics.errors import InputError, Problem, raise_any

_DTYPES = {"text": "str", "float": "float64", "int": "Int64", "bool": "boolean"}
_TRUTHS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False, "": pd.NA}
MOST_WHOLE = 2.0**53
"""A float holds every whole number up to here; no count of a study is larger."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def rows_sha256(path: Path) -> str:
    """SHA-256 of a table's lines in sorted order (``LC_ALL=C sort FILE | sha256sum``), of a workbook's bytes.

    The order of rows means nothing, and no result depends on it.
    """
    content = path.read_bytes()
    if content.startswith(b"PK"):
        return sha256_of(path)
    lines = sorted(content.removesuffix(b"\n").split(b"\n"))
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it over `path` when the block ends well, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once: temporary name, then rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with line feeds at once: temporary name, then rename."""
    write_bytes(path, text.encode("utf-8"))


def write_json(value: Any, path: Path) -> None:
    """Write JSON: keys sorted, numbers with 10 digits as in the tables, what is no number as null."""

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(k): plain(v) for k, v in item.items()}
        if isinstance(item, list | tuple):
            return [plain(v) for v in item]
        if isinstance(item, float | np.floating):
            return float(f"{item:.10g}") if np.isfinite(item) else None
        return item.item() if isinstance(item, np.generic) else item

    write_text(path, json.dumps(plain(value), indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def empty(schema: Schema) -> pd.DataFrame:
    """A frame with the schema's columns, typed, and no row."""
    return pd.DataFrame({c.name: pd.Series(dtype=_DTYPES[c.kind]) for c in schema.columns})


def typed(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame with the schema's types; text is never missing (empty text instead), further columns stay.

    Columns that the schema has and the frame has not are left out; see `complete`.

    Raises
    ------
    ValueError
        When a value cannot have its type (our own frames; texts that a user wrote go through `text_to_typed`).
    """
    changed = {}
    for column in schema.columns:
        if column.name in frame.columns:
            values = frame[column.name]
            if column.kind == "text":
                settled = values.dtype == "str" and not values.hasnans
                changed[column.name] = (
                    values if settled else values.astype("object").where(values.notna(), "").astype("str")
                )
            elif column.kind == "float":
                settled = values.dtype == "float64"
                changed[column.name] = (
                    values if settled else pd.to_numeric(values.astype("object"), errors="raise").astype("float64")
                )
            else:
                changed[column.name] = values.astype(_DTYPES[column.kind])
    return frame.assign(**changed)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain mappings, for logic that goes row by row."""
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, i].tolist() for i in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def filled(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame typed, with every column of the schema, in its order (further columns last)."""
    blank = {"text": "", "float": np.nan, "int": pd.NA, "bool": pd.NA}
    missing = {
        c.name: pd.Series(blank[c.kind], index=frame.index, dtype=_DTYPES[c.kind])
        for c in schema.columns
        if c.name not in frame.columns
    }
    full = typed(frame.assign(**missing), schema)
    return full[[*schema.names, *(c for c in full.columns if c not in schema.by_name)]]


def complete(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame typed, with every column of the schema, in its order (further columns last), sorted by the key."""
    full = filled(frame, schema)
    ranks = [pd.factorize(full[name], sort=True)[0] for name in schema.key]
    if _increasing(ranks):
        return full.reset_index(drop=True)
    order = np.lexsort(ranks[::-1])
    if not _increasing([rank[order] for rank in ranks]):
        # Remaining columns break ties, so that the order of input rows can never show.
        more = [pd.factorize(full[name], sort=True)[0] for name in schema.names if name not in schema.key]
        order = np.lexsort([*more[::-1], *ranks[::-1]])
    return full.take(order).reset_index(drop=True)


def _increasing(ranks: Sequence[NDArray[np.int64]]) -> bool:
    """Whether each row comes after the one before it, by the first column that differs; equal rows do not."""
    undecided = np.ones(max(len(ranks[0]) - 1, 0), dtype=bool) if ranks else np.zeros(0, dtype=bool)
    for rank in ranks:
        step = np.diff(rank)
        if (undecided & (step < 0)).any():
            return False
        undecided &= step == 0
    return not undecided.any()


def text_to_typed(frame: pd.DataFrame, schema: Schema, file: str, rows: pd.Series) -> pd.DataFrame:
    """Convert a frame of texts by the schema; raise with every cell that is not what its column asks for.

    Parameters
    ----------
    frame : DataFrame of str
        As read; empty text is a missing value.
    schema : Schema
        Wanted types.
    file : str
        Name for the messages.
    rows : Series of int
        Row of the file for each row of the frame.

    Raises
    ------
    InputError
        With every cell that cannot be converted.
    """
    problems: list[Problem] = []
    changed = {}
    for column in schema.columns:
        if column.name not in frame.columns:
            continue
        # Most columns say the same thing over and over: each text is looked at once, and held in memory once.
        codes, distinct = pd.factorize(frame[column.name], use_na_sentinel=False)
        each = pd.Series(distinct, dtype="str").str.strip()
        text = each.take(codes).set_axis(frame.index)
        if column.kind == "text":
            changed[column.name] = text
            continue
        if column.kind == "bool":
            lower = each.str.lower()
            values = lower.map(_TRUTHS).astype("boolean").take(codes).set_axis(frame.index)
            bad = (~lower.isin(list(_TRUTHS))).take(codes).set_axis(frame.index)
            wanted, mend = "true or false", "write true, false or leave the cell empty"
        else:
            number = pd.to_numeric(each.where(each != "", None), errors="coerce").astype("float64")
            bad = (number.isna() | ~np.isfinite(number)) & (each != "")
            number, bad = (part.take(codes).set_axis(frame.index) for part in (number, bad))
            wanted, mend = "a number with a decimal point", "write the number with a point and no unit"
            if column.kind == "int":
                bad |= number.notna() & ((number != number.round()) | (number.abs() > MOST_WHOLE))
                wanted, mend = "a whole number", "write a whole number"
                values = number.where(~bad).round().astype("Int64")
            else:
                values = number
        changed[column.name] = values
        problems += [
            Problem(file, int(rows.loc[i]), column.name, repr(text.loc[i]), wanted, mend) for i in text.index[bad]
        ]
    raise_any(problems)
    return frame.assign(**changed)


def read_text_frame(path: Path, file: str | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """Read a CSV as texts, every cell as it stands, with the file row of each row.

    Returns
    -------
    frame : DataFrame of str
        Header names stripped; blank rows dropped.
    rows : Series of int
        Row in the file, the header being row 1; same index as `frame`.

    Raises
    ------
    InputError
        When the file is absent, empty, not UTF-8, or a row is longer than the header.
    """
    file = file or path.as_posix()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(Problem(file, found="no such file", expected="a CSV table", mend="check the path")) from None
    except UnicodeDecodeError:
        mend = "save it as CSV UTF-8"
        raise InputError(Problem(file, found="text that is not UTF-8", expected="UTF-8", mend=mend)) from None
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or not any(cell.strip() for cell in lines[0]):
        mend = "write the header and the rows, or take the file out of the configuration"
        raise InputError(Problem(file, found="an empty file", expected="a header and rows", mend=mend))
    header = [cell.strip() for cell in lines[0]]
    body = [(i, cells) for i, cells in enumerate(lines[1:], start=2) if any(cell.strip() for cell in cells)]
    repeated = sorted({name for name in header if header.count(name) > 1})
    problems = [
        Problem(file, 1, name, "the column twice", "each column once", "rename or remove one") for name in repeated
    ]
    problems += [
        Problem(
            file,
            i,
            "",
            f"{len(cells)} cells",
            f"at most {len(header)}, as in the header",
            "quote text that holds a comma; write decimals with a point",
        )
        for i, cells in body
        if len(cells) > len(header) and any(c.strip() for c in cells[len(header) :])
    ]
    raise_any(problems)
    width = len(header)
    cells = [(c + [""] * width)[:width] for _, c in body]
    frame = pd.DataFrame(cells, columns=header, dtype="str")
    return frame, pd.Series([i for i, _ in body], index=frame.index, dtype="int64")


class _Cells:
    """The cells of one column of a file of our own, added piece by piece; each text is held once."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._parts: list[NDArray[Any]] = []
        self._texts: dict[str, int] = {}

    def add(self, values: pd.Series) -> None:
        """Add the cells of a piece, numbers as they are, of each text its number."""
        if self._kind in ("float", "int"):
            self._parts.append(values.to_numpy(copy=True))
            return
        codes, distinct = pd.factorize(values)
        texts = (str(text) if self._kind == "further" else str(text).strip() for text in distinct)
        places = [self._texts.setdefault(text, len(self._texts)) for text in texts]
        # As small as the number of texts allows: most columns have few.
        self._parts.append(np.array(places, dtype=np.min_scalar_type(-len(self._texts) - 1))[codes])

    def column(self) -> Any:
        """All cells together, texts as categories."""
        values = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype="int8")
        self._parts.clear()
        if self._kind == "float":
            return values.astype("float64", copy=False)
        if self._kind == "int":
            return pd.array(values.round(), dtype="Int64")
        if self._kind == "bool":
            return pd.array([_TRUTHS[text.lower()] for text in self._texts], dtype="boolean").take(values)
        return pd.Categorical.from_codes(values, pd.Index(list(self._texts), dtype="str"))


def _odd(values: pd.Series, kind: str) -> bool:
    """Whether some cell of a piece is not what its column asks for; a text that is missing is a row cut short."""
    if kind == "bool":
        return not all(isinstance(text, str) and text.strip().lower() in _TRUTHS for text in values.unique())
    if kind not in ("float", "int"):
        return bool(values.isna().any())
    numbers = values.to_numpy()
    broken = (numbers != numbers.round()) | (np.abs(numbers) > MOST_WHOLE) if kind == "int" else np.isinf(numbers)
    return bool((broken & ~np.isnan(numbers)).any())


def _some_row_blank(piece: pd.DataFrame) -> bool:
    blank = np.ones(len(piece), dtype=bool)
    for name in piece.columns:
        blank &= (piece[name].isna() | (piece[name] == "")).to_numpy(dtype=bool)
        if not blank.any():
            return False
    return True


def _own_frame(
    path: Path, schema: Schema, columns: Collection[str] | None, where: Mapping[str, Collection[str]]
) -> pd.DataFrame | None:
    """What `read_table` gives of a file that our stages wrote, texts as categories; None where it is none of those.

    The file is read in pieces, so that its text is never whole in memory, and checked whole whatever is kept of it.
    Anything out of the ordinary is left to the careful way, which says what is wrong and where.
    """
    try:
        with path.open(encoding="utf-8-sig") as handle:
            names = [cell.strip() for cell in next(csv.reader(handle), [])]
            plain = all(re.fullmatch(r"\w+", name) for name in names) and len({*names}) == len(names)
            if not plain or not {*schema.names} <= {*names}:
                return None
            kinds = {name: schema.by_name[name].kind if name in schema.by_name else "further" for name in names}
            numbers = [name for name, kind in kinds.items() if kind in ("float", "int")]
            kept = {name: _Cells(kinds[name]) for name in names if columns is None or name in columns}
            handle.seek(0)
            pieces = pd.read_csv(
                handle,
                dtype={name: "float64" if name in numbers else "str" for name in names},
                keep_default_na=False,
                na_values={name: [""] for name in numbers},
                chunksize=_PIECE,
                low_memory=False,
            )
            n = 0
            for piece in pieces:
                if not isinstance(piece.index, pd.RangeIndex) or _some_row_blank(piece):
                    return None
                if any(_odd(piece[name], kind) for name, kind in kinds.items()):
                    return None
                for name, texts in where.items():
                    piece = piece[piece[name].isin(texts)]
                for name, cells in kept.items():
                    cells.add(piece[name])
                n += len(piece)
    except (OSError, ValueError):  # not there, not UTF-8, rows longer than the header, a text for a number
        return None
    made = {name: kept.pop(name).column() for name in list(kept)}
    return pd.DataFrame(made, index=pd.RangeIndex(n), copy=False)


def read_table(
    path: Path,
    schema: Schema,
    *,
    foreign: bool = False,
    columns: Collection[str] | None = None,
    where: Mapping[str, Collection[str]] | None = None,
) -> pd.DataFrame:
    """Read a canonical table.

    Parameters
    ----------
    path : Path
        A CSV file, UTF-8.
    schema : Schema
        What it should be.
    foreign : bool
        The file was not written by our own stages: check everything (pandera), not only columns and types.
    columns : collection of str, optional
        Columns to keep, in the order of the file; all unless given. The file is checked whole.
    where : mapping of str to collection of str, optional
        Texts of which a row must have one in a column to be kept.

    Returns
    -------
    DataFrame
        Typed; text empty rather than missing. Columns absent from a foreign file are added empty.

    Raises
    ------
    InputError
        With every problem found.
    """
    own = None if foreign else _own_frame(path, schema, columns, where or {})
    return plain(own) if own is not None else _kept(_read_carefully(path, schema, foreign), columns, where or {})


def read_compact(
    path: Path,
    schema: Schema,
    *,
    columns: Collection[str] | None = None,
    where: Mapping[str, Collection[str]] | None = None,
) -> pd.DataFrame:
    """Read a canonical table of our own stages to hold it: its texts are categories, a tenth of their size.

    `nkinetics.compact.plain` makes of it, or of some of its rows, what `read_table` gives, with the same errors.
    """
    own = _own_frame(path, schema, columns, where or {})
    if own is not None:
        return own
    return compact(_kept(_read_carefully(path, schema, foreign=False), columns, where or {}))


def _kept(frame: pd.DataFrame, columns: Collection[str] | None, where: Mapping[str, Collection[str]]) -> pd.DataFrame:
    for name, texts in where.items():
        frame = frame[frame[name].isin(texts)]
    if columns is not None:
        frame = frame[[name for name in frame.columns if name in columns]]
    return frame.reset_index(drop=True) if where else frame


def _read_carefully(path: Path, schema: Schema, foreign: bool) -> pd.DataFrame:
    """Read a table cell by cell, with everything that is wrong with it."""
    text, rows = read_text_frame(path)
    if foreign:
        absent = [n for n in schema.required if n not in text.columns]
        if absent:
            raise InputError(schema_problems(text[[]], schema, path.as_posix()))
    frame = text_to_typed(text, schema, path.as_posix(), rows)
    if foreign:
        raise_any(schema_problems(frame, schema, path.as_posix(), rows))
    else:
        gone = [n for n in schema.names if n not in frame.columns]
        if gone:
            mend = "run the stage that writes it again"
            raise InputError(
                Problem(path.as_posix(), 1, gone[0], "no such column", "the columns of " + schema.name, mend)
            )
    if foreign:
        blank = {"text": "", "float": np.nan, "int": pd.NA, "bool": pd.NA}
        frame = frame.assign(
            **{
                c.name: pd.Series(blank[c.kind], index=frame.index, dtype=_DTYPES[c.kind])
                for c in schema.columns
                if c.name not in frame.columns
            }
        )
    return frame


def row_ranges(numbers: Iterable[int], dash: str = "–") -> str:
    """Row numbers with runs drawn together.

    Examples
    --------
    >>> row_ranges([14, 12, 13, 20])
    '12–14, 20'
    """
    groups: list[list[int]] = []
    for number in sorted(set(numbers)):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}{dash}{g[-1]}" for g in groups)


def defused(text: str) -> str:
    """Text that a spreadsheet will not run: a leading ``= + - @`` gets an apostrophe in front, numbers excepted.

    Examples
    --------
    >>> defused("=cmd|x"), defused("-0.5"), defused("plain")
    ("'=cmd|x", '-0.5', 'plain')
    """
    if text.startswith(_FORMULA_STARTS):
        try:
            float(text)
        except ValueError:
            return "'" + text
    return text


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV: floats ``%.10g``, booleans true/false, missing empty, line feeds, texts defused.

    Examples
    --------
    >>> print(csv_text(pd.DataFrame({"level": [1.5, None, -0.0], "text": ["a,b", "=1+1", None]})), end="")
    level,text
    1.5,"a,b"
    ,'=1+1
    0,
    """
    header = ",".join(_quoted(str(name)) for name in frame.columns)
    return "".join([f"{header}\n", *_csv_pieces(frame)])


_PIECE = 100_000
"""Rows read and worded at once: bounds the memory of the largest table."""


def _csv_pieces(frame: pd.DataFrame) -> Iterator[str]:
    for begin in range(0, len(frame), _PIECE):
        piece = frame.iloc[begin : begin + _PIECE]
        columns = [_words(piece.iloc[:, i]) for i in range(piece.shape[1])]
        if len(columns) == 1:
            # A blank line is no row: an empty cell that stands alone is quoted.
            columns[0] = [word or '""' for word in columns[0]]
        yield "\n".join(map(",".join, zip(*columns, strict=True))) + "\n"


def _words(values: pd.Series) -> list[str]:
    """Each cell of a column as it is written; a value that comes again is worded once."""
    which, distinct = pd.factorize(values)
    kind = values.dtype
    if pd.api.types.is_bool_dtype(kind):
        words = ["true" if value else "false" for value in distinct.tolist()]
    elif pd.api.types.is_float_dtype(kind):
        # -0 would differ from 0 in bytes and mean the same.
        words = [f"{value + 0.0:.10g}" for value in distinct.tolist()]
    elif pd.api.types.is_integer_dtype(kind):
        words = [str(value) for value in distinct.tolist()]
    else:
        words = [_quoted(defused(str(value))) for value in distinct.tolist()]
    # A missing value has the number -1, and the last word.
    return np.array([*words, ""], dtype=object)[which].tolist()


_SPECIAL = re.compile('[,"\n\r]')


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def write_table(frame: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write a canonical table: every column, sorted by the key, at once."""
    with table_writer(path, schema) as write:
        write(frame)


@contextmanager
def table_writer(path: Path, schema: Schema) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that adds rows to a canonical table, which appears under its name when the block ends well.

    Parameters
    ----------
    path : Path
        The file.
    schema : Schema
        Its columns. Each frame added is completed and sorted by the key; its rows come after those added before.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        begun = False

        def write(frame: pd.DataFrame) -> None:
            nonlocal begun
            full = complete(frame, schema)
            if not begun:
                handle.write(",".join(_quoted(str(name)) for name in full.columns) + "\n")
                begun = True
            handle.writelines(_csv_pieces(full))

        yield write
        if not begun:
            write(empty(schema))


def gather(paths: Iterable[Path], schema: Schema) -> pd.DataFrame:
    """Join the batches of one canonical table, sorted by its key."""
    frames = [read_table(path, schema) for path in paths]
    filled = [frame for frame in frames if len(frame)]
    return complete(pd.concat(filled, ignore_index=True) if filled else empty(schema), schema)


def write_gathered(paths: Sequence[Path], path: Path, schema: Schema) -> None:
    """Join the batches of one canonical table into a file, sorted by its key.

    Batches that our own stages wrote hold whole patients, in order: their lines are copied as they stand, one patient
    after the other, and no more than one batch is ever in memory. Anything else goes through `gather`.

    Parameters
    ----------
    paths : sequence of Path
        One file of each batch.
    path : Path
        The joined table.
    schema : Schema
        Its columns.

    Raises
    ------
    InputError
        With everything that is wrong with the files.
    """
    placed: dict[bytes, tuple[Path, int, int]] = {}
    for one in paths:
        own = _patients_of(one, schema)
        if own is None or not placed.keys().isdisjoint(own):
            write_table(gather(paths, schema), path, schema)
            return
        placed |= {patient: (one, begin, end) for patient, (begin, end) in own.items()}
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(",".join(schema.names).encode() + b"\n")
        for patient in sorted(placed):
            one, begin, end = placed[patient]
            with one.open("rb") as batch:
                batch.seek(begin)
                handle.write(batch.read(end - begin))


def _patients_of(path: Path, schema: Schema) -> dict[bytes, tuple[int, int]] | None:
    """Where the lines of each patient begin and end in a file of our own stages; None where it is none of those."""
    header = ",".join(schema.names).encode() + b"\n"
    if schema.names[0] != "patient_id" or schema.key[0] != "patient_id" or not path.is_file():
        return None
    content = path.read_bytes()
    if not content.startswith(header) or not content.endswith(b"\n") or b"\r" in content:
        return None
    lines: list[bytes] = []
    whole = True
    for line in content.split(b"\n")[1:-1]:
        if whole:
            lines.append(line)
        else:  # a quoted cell goes on in the next line
            lines[-1] += b"\n" + line
        whole = whole != (line.count(b'"') % 2 == 1)
    cells = [len(next(csv.reader([line.decode()]))) if b'"' in line else line.count(b",") + 1 for line in lines]
    if not whole or any(n != len(schema.names) for n in cells) or not _sound(content, schema):
        return None
    found: dict[bytes, tuple[int, int]] = {}
    at = len(header)
    for line in lines:
        patient = line[: line.index(b",")]
        found[patient] = (found.get(patient, (at, at))[0], at + len(line) + 1)
        at += len(line) + 1
    return found


def _sound(content: bytes, schema: Schema) -> bool:
    """Whether every cell of a table is what its column asks for, and the rows are sorted by the key."""
    kinds = {column.name: column.kind for column in schema.columns}
    numbers = [name for name, kind in kinds.items() if kind in ("float", "int")]
    try:
        frame = pd.read_csv(
            io.BytesIO(content),
            dtype={name: "float64" if name in numbers else "str" for name in kinds},
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )
    except ValueError:
        return False
    for name, kind in kinds.items():
        if kind == "bool" and not frame[name].isin(["true", "false", ""]).all():
            return False
        if kind in ("float", "int") and np.isinf(frame[name]).any():
            return False
        if kind == "int" and not ((frame[name] == frame[name].round()) | frame[name].isna()).all():
            return False
    return _increasing([pd.factorize(frame[name], sort=True)[0] for name in schema.key])


def schema_of(path: Path, schemas: Mapping[str, Schema] = SCHEMAS) -> Schema:
    """The schema whose columns stand in the header of a file that our own stages wrote.

    Raises
    ------
    InputError
        When no canonical table has these columns.
    """
    with path.open(encoding="utf-8") as handle:
        header = handle.readline().rstrip("\n").split(",")
    for schema in schemas.values():
        if header[: len(schema.names)] == schema.names:
            return schema
    raise InputError(
        Problem(path.as_posix(), 1, "", ", ".join(header), "the header of a canonical table", "name another file")
    )
