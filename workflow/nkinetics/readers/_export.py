"""Opening an export: bytes to sheets of text cells, with limits before anything is unpacked.

What a file is, its content says, never its ending: a workbook may be called .xls or .txt. Every cell stays text until a
reader converts it by name (`nkinetics.readers._cells`), so that sample 0012 stays 0012 and 351 never becomes 351.0.
No path or address that stands inside a file is ever followed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nkinetics.errors import InputError, Problem
from nkinetics.readers import _old_workbook
from nkinetics.readers._cells import NumberText, normalised
from nkinetics.readers._old_workbook import CELLS_MAX

FILE_MAX = 100 * 1000**2
UNZIPPED_MAX = 500 * 1000**2
RATIO_MAX = 200
MEMBERS_MAX = 2000
ROWS_MAX = 500_000
"""Limits, checked before a file is opened, a member unpacked or a sheet laid out; cells of one sheet: `CELLS_MAX`.

The longest export has 200,000 rows: the raw melt curves of 384 wells.
"""

_CURVES = frozenset(
    "rawdata amplificationdata multicomponent multicomponentdata meltcurveraw meltcurverawdata meltcurveresult "
    "meltregiontemperaturedata meltregionderivativedata".split()
)
"""Sheets with a row per well and cycle, or per well and temperature, in workbooks of Applied Biosystems software."""

TOP = 300
AGAIN = "export or copy the file again"
UNFINISHED = "the last line of the file has no line end, so its last cell may have been cut off"
Content = Literal["text", "workbook", "xml", "archive", "fcs"]


class Row(NamedTuple):
    """One row of a sheet.

    Parameters
    ----------
    number : int
        As a text editor or a spreadsheet counts it, from 1.
    cells : list of str
        Stripped of surrounding blanks.
    """

    number: int
    cells: list[str]

    def cell(self, position: int | None) -> str:
        """The cell at a position; empty where the row ends before it or the sheet has no such column."""
        return "" if position is None or position >= len(self.cells) else self.cells[position]

    @property
    def blank(self) -> bool:
        """No cell holds anything."""
        return not any(self.cells)

    @property
    def length(self) -> tuple[int, int, int]:
        """Its number, how many cells it has, and up to which it is filled."""
        filled = len(self.cells)
        while filled and not self.cells[filled - 1]:
            filled -= 1
        return self.number, len(self.cells), filled


@dataclass(frozen=True)
class Sheet:
    """One visible sheet of a workbook, or the one grid of a text file.

    Parameters
    ----------
    name : str
        Name of the sheet; empty for a text file.
    load : callable
        ``load(n)`` gives the first n rows, ``load(None)`` all, when they are first asked for: a workbook's curves are
        much larger than its results.
    """

    name: str
    load: Callable[[int | None], list[Row]] = field(repr=False, compare=False)

    @cached_property
    def rows(self) -> list[Row]:
        """All rows up to the last that holds anything, blank ones included."""
        return self.load(None)

    @cached_property
    def top(self) -> list[Row]:
        """The first 300 rows, in which a format must show itself."""
        return self.load(TOP) if "rows" not in self.__dict__ else self.rows[:TOP]


@dataclass(frozen=True)
class Export:
    """An export, opened.

    Parameters
    ----------
    label : str
        Path relative to the study folder, with forward slashes.
    sha256 : str
        Content hash.
    kind : {"text", "workbook", "xml", "archive", "fcs"}
        What the content is. An XML document, an archive that is no workbook and an FCS file have no sheets: a reader
        of such a format takes `content`.
    sheets : tuple of Sheet
        Visible sheets, in order.
    note : str
        What was passed over, as hidden sheets.
    ends_cleanly : bool
        A text file ends with a line end; one that does not may have been cut off.
    what : str
        The kind in words, for messages.
    content : bytes
        The file, unchanged.
    """

    label: str
    sha256: str
    kind: Content
    sheets: tuple[Sheet, ...]
    note: str = ""
    ends_cleanly: bool = True
    what: str = "a table"
    content: bytes = field(default=b"", repr=False, compare=False)

    @property
    def name(self) -> str:
        """File name."""
        return self.label.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return self.name.rsplit(".", 1)[0] or self.name

    def sheet(self, name: str) -> Sheet | None:
        """The visible sheet of that name, compared as headers are; None when there is none."""
        return next((s for s in self.sheets if normalised(s.name) == normalised(name)), None)

    @cached_property
    def tables(self) -> tuple[Sheet, ...]:
        """The sheets in which to look for results.

        Sheets of readings and curves are left out where Results stand beside them: they are a hundred times larger.
        """
        if self.sheet("Results") is None:
            return self.sheets
        return tuple(s for s in self.sheets if normalised(s.name) not in _CURVES)

    def unfinished(self, sheet: Sheet, row: Row, used: Collection[int]) -> str:
        """What to say of a row whose last cell may have lost its end; empty where it has not.

        Parameters
        ----------
        sheet, row
            The last line of a text that ends without a line end may have been cut.
        used : collection of int
            Positions of the cells that are used; a cut in another cell does no harm.
        """
        cut = self.kind == "text" and not self.ends_cleanly and row.number == sheet.rows[-1].number
        return UNFINISHED if cut and len(row.cells) - 1 in used else ""

    def refuse(
        self, found: str, expected: str, mend: str = AGAIN, row: int | None = None, column: str = ""
    ) -> InputError:
        """The error for a file that cannot be read, ready to be raised."""
        return InputError(Problem(self.label, row, column, found, expected, mend))


def label_of(path: Path, root: Path) -> str:
    """How a file is called in messages and results: relative to the study folder, with forward slashes.

    Examples
    --------
    >>> label_of(Path("/study/data/raw/a.txt"), Path("/study")), label_of(Path("/other/b.txt"), Path("/study/x"))
    ('data/raw/a.txt', '../../other/b.txt')
    """
    return Path(os.path.relpath(path, root)).as_posix()


def open_export(path: Path, root: Path) -> Export:
    """Open an export: hash it, decide by content what it is, and lay its cells out as text.

    Parameters
    ----------
    path : Path
        The file.
    root : Path
        Study folder, for the label.

    Raises
    ------
    InputError
        When the file is absent, empty, too large, damaged, or of a kind that holds no table.
    """
    label = label_of(path, root)
    content = _bytes(path, label)
    sha256 = hashlib.sha256(content).hexdigest()
    kind, what = _kind(content, label)
    if kind == "workbook":
        sheets, note = (_old_sheets if content.startswith(_OLE) else _sheets)(content, label)
        return Export(label, sha256, kind, sheets, note, what=what, content=content)
    if kind in ("archive", "fcs"):
        return Export(label, sha256, kind, (), what=what, content=content)
    text = _decoded(content, label)
    if text.lstrip().startswith("<"):
        root_element = re.search(r"<([A-Za-z_][\w:.-]*)", text)
        what = f"an XML document <{root_element.group(1)}>" if root_element else "an XML document"
        return Export(label, sha256, "xml", (), what=what, content=content)
    grid = Sheet("", _Lines(text, label))
    return Export(label, sha256, kind, (grid,), "", text.endswith(("\n", "\r")), what, content)


def _problem(label: str, found: str, expected: str, mend: str) -> InputError:
    return InputError(Problem(label, None, "", found, expected, mend))


def _bytes(path: Path, label: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > FILE_MAX:
            found = f"{size / 1e6:.0f} MB"
            raise _problem(label, found, f"at most {FILE_MAX / 1e6:.0f} MB", "export the results table alone")
        content = path.read_bytes()
    except FileNotFoundError:
        raise _problem(label, "no such file", "an export", "check the path") from None
    except IsADirectoryError:
        raise _problem(label, "a folder", "an export", "name the files in it") from None
    except OSError as error:
        raise _problem(label, f"a file that cannot be opened ({error.strerror})", "an export", "check it") from None
    if not content.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise _problem(label, "an empty file", "an export with its results", AGAIN)
    return content


# ------------------------------------------------------------------------------------------------------ kind of content

_NOT_TABLES = (
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the file inside"),
    (b"BZh", "a bzip2 archive", "unpack it and give the file inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and give the file inside"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and give the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the file inside"),
    (b"%PDF", "a PDF document", "export the results as text, csv or xlsx"),
    (b"\x89PNG", "a picture", "export the results as text, csv or xlsx"),
    (b"\x00\x01\x00\x00", "a database", "export the results as text, csv or xlsx"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def _kind(content: bytes, label: str) -> tuple[Content, str]:
    """What the first bytes and, in a zip archive, its directory say; and the same in words."""
    if content.startswith(_OLE):
        return "workbook", "a workbook"
    if content.startswith(b"PK"):
        names = _archive_members(content, label)
        if "xl/workbook.bin" in names:
            raise _problem(label, "a binary workbook (xlsb)", "xls or xlsx", "save it as xlsx")
        if "xl/workbook.xml" in names:
            return "workbook", "a workbook"
        return "archive", "a zip archive of " + (", ".join(names[:3]) or "nothing")
    # "FCS" could begin a text; the version number of an FCS header cannot.
    if re.match(rb"FCS\d\.\d {4}", content):
        return "fcs", "an FCS file of single events"
    for magic, what, mend in _NOT_TABLES:
        if content.startswith(magic):
            raise _problem(label, what, "a results table (text, csv, xls or xlsx)", mend)
    return "text", "a text"


def _archive_members(content: bytes, label: str) -> list[str]:
    """Names in a zip archive; refuse one that is damaged or would unpack beyond the limits, before it is parsed."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX:
                raise _problem(label, f"an archive of {len(members)} files", f"at most {MEMBERS_MAX}", AGAIN)
            size = sum(m.file_size for m in members)
            if size > UNZIPPED_MAX or size > RATIO_MAX * len(content):
                found = f"an archive that unpacks from {len(content) / 1e6:.3g} MB to {size / 1e6:.4g} MB"
                limits = f"at most {UNZIPPED_MAX / 1e6:.0f} MB and {RATIO_MAX} times the size of the file"
                raise _problem(label, found, limits, "export the results table alone")
            for member in members:
                if member.flag_bits & 1:
                    found = f"an encrypted archive of {member.filename}"
                    mend = "save it without a password, or export the results from the software that wrote it"
                    raise _problem(label, found, "a readable file", mend)
                _check_member(content, member, label)
            return sorted(m.filename for m in members)
    # Of a directory with a format version from the future zipfile says NotImplementedError: as good as damaged.
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, UnicodeDecodeError):
        found = f"a damaged or truncated workbook of {len(content):,} bytes"
        raise _problem(label, found, "a complete workbook", AGAIN) from None


def _check_member(content: bytes, member: zipfile.ZipInfo, label: str) -> None:
    """Unpack a member up to the size that it declares: a directory may lie, and the parser would believe the data."""
    at = member.header_offset
    header = content[at : at + 30]
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile
    start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    data = memoryview(content)[start : start + member.compress_size]
    if len(data) < member.compress_size:
        raise zipfile.BadZipFile
    if member.compress_type == zipfile.ZIP_STORED:
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise zipfile.BadZipFile
        if member.filename.startswith("xl/worksheets/"):
            _check_extent(bytes(data), member.filename, label)
        return
    if member.compress_type != zipfile.ZIP_DEFLATED:
        found = f"an archive whose part {member.filename} is compressed by method {member.compress_type}"
        raise _problem(label, found, "one compressed as Excel writes it (deflate)", AGAIN)
    stream = zlib.decompressobj(-15)
    size, check, rest = 0, 0, bytes(data)
    pieces = []
    while True:
        piece = stream.decompress(rest, 1 << 20)
        pieces.append(piece)
        size += len(piece)
        check = zlib.crc32(piece, check)
        rest = stream.unconsumed_tail
        if size > member.file_size:
            found = f"an archive whose part {member.filename} unpacks beyond the size that it declares"
            raise _problem(label, found, "a workbook as Excel writes it", AGAIN)
        if stream.eof or not (piece or rest):
            break
    if size != member.file_size or check != member.CRC:
        raise zipfile.BadZipFile
    if member.filename.startswith("xl/worksheets/"):
        _check_extent(b"".join(pieces), member.filename, label)


_FAR = [re.compile(mark + rb"(?:[A-Z]{3}\d|[A-Z]{1,2}\d{5})") for mark in (b'"', b"'")]
_WIDE = [re.compile(mark + rb"(?:[A-Z]{2,3}\d|[A-Z]\d{6})") for mark in (b'"', b"'")]
"""Cells beyond 702 columns or 9,999 rows; beyond 26 columns or 99,999 rows. A pattern with a first letter is fast."""
_ANY_CELL = re.compile(rb"\sr=[\"']([A-Z]{1,3})(\d{1,7})")


def _check_extent(sheet: bytes, name: str, label: str) -> None:
    """Refuse a sheet whose farthest cells span an area beyond the limit: the parser lays the whole area out."""
    mend = "delete stray cells far from the table, or export the results alone"
    too_long = _problem(label, f"a sheet ({name}) of more than {ROWS_MAX:,} rows", f"at most {ROWS_MAX:,} rows", mend)
    # With a prefix (<x:row>) both tags of a row are counted.
    if sheet.count(b"<row") + sheet.count(b":row") // 2 > ROWS_MAX:
        raise too_long
    if not (any(p.search(sheet) for p in _FAR) and any(p.search(sheet) for p in _WIDE)):
        return
    cells = _ANY_CELL.findall(sheet)
    # A sheet of readings has 100,000 cells and a dozen columns.
    columns = {letters for letters, _ in cells}
    width = max(sum((c - 64) * 26**i for i, c in enumerate(reversed(letters))) for letters in columns)
    height = max(map(int, {row for _, row in cells}))
    if width * height > CELLS_MAX:
        found = f"a sheet ({name}) that spans {height:,} rows and {width:,} columns"
        raise _problem(label, found, f"at most {CELLS_MAX:,} cells", mend)
    if height > ROWS_MAX:
        raise too_long


# ------------------------------------------------------------------------------------------------------------ workbooks


def _old_sheets(content: bytes, label: str) -> tuple[tuple[Sheet, ...], str]:
    """Visible sheets of an .xls, and which hidden ones were ignored."""
    try:
        sheets = _old_workbook.parsed(content)
    except ValueError as error:
        raise _problem(label, f"a damaged workbook ({error})", "a complete workbook", AGAIN) from None

    def load(values: list[list[object]], first: int | None) -> list[Row]:
        return [Row(i, [cell_text(v) for v in row]) for i, row in enumerate(values[:first], start=1)]

    visible = tuple(Sheet(s["name"], partial(load, s["rows"])) for s in sheets if s["visible"])
    return visible, _hidden_note(label, visible, [s["name"] for s in sheets if not s["visible"]])


def _hidden_note(label: str, visible: Sequence[object], hidden: Sequence[str]) -> str:
    if not visible:
        raise _problem(label, "a workbook without a visible sheet", "a sheet with results", "unhide the sheet")
    return f"hidden sheet{'s' if len(hidden) > 1 else ''} ignored: {', '.join(hidden)}" if hidden else ""


def _sheets(content: bytes, label: str) -> tuple[tuple[Sheet, ...], str]:
    """Visible sheets of an .xlsx, and which hidden ones were ignored."""
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    book = _guarded(label, lambda: CalamineWorkbook.from_object(io.BytesIO(content)))
    tables = [m for m in book.sheets_metadata if m.typ == SheetTypeEnum.WorkSheet]
    visible = [m.name for m in tables if m.visible == SheetVisibleEnum.Visible]
    hidden = [m.name for m in tables if m.visible != SheetVisibleEnum.Visible]
    note = _hidden_note(label, visible, hidden)

    @cache
    def parsed(name: str) -> Any:
        return _guarded(label, lambda: book.get_sheet_by_name(name))

    laid_out: dict[str, list[Row]] = {}

    def load(name: str, first: int | None) -> list[Row]:
        values = _guarded(label, lambda: parsed(name).to_python(skip_empty_area=False, nrows=first))
        done = laid_out.setdefault(name, [])
        done += [
            Row(i, [v.strip() if type(v) is str else cell_text(v) for v in row])
            for i, row in enumerate(values[len(done) :], start=len(done) + 1)
        ]
        return done[: len(values)]

    return tuple(Sheet(name, partial(load, name)) for name in visible), note


def _guarded(label: str, action: Callable[[], Any]) -> Any:
    """Do it; any failure of the workbook library, a panic included, is a damaged file."""
    from python_calamine import PasswordError

    try:
        return action()
    except PasswordError:
        raise _problem(label, "an encrypted workbook", "a readable workbook", "save it without a password") from None
    except BaseException as error:
        # A panic of the Rust library derives from BaseException and is known by its name only.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        what = str(error).split("\n", 1)[0]
        raise _problem(label, f"a damaged workbook ({what})", "a complete workbook", AGAIN) from None


def cell_text(value: object) -> str:
    """A workbook cell as text: a whole number without ``.0``, dates in ISO form, logical values in lower case.

    Examples
    --------
    >>> from datetime import date
    >>> cell_text(351.0), cell_text("0012"), cell_text(0.1), cell_text(True), cell_text(date(2026, 3, 1))
    ('351', '0012', '0.1', 'true', '2026-03-01')
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return NumberText(int(value) if value.is_integer() and abs(value) < 1e15 else repr(value))
    if isinstance(value, int):
        return NumberText(value)
    value = _old_workbook.plain(value)
    return "" if value is None else str(value).strip()


# ----------------------------------------------------------------------------------------------------------------- text


_LETTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")
_HIGH = re.compile(rb"[\x80-\xff]")


def _damaged_utf8(content: bytes) -> bool:
    """Whether a text that is not UTF-8 has more letters of UTF-8 than bytes that are not."""
    rest, letters = _LETTER.subn(b"", content)
    return letters > 0 and letters >= len(_HIGH.findall(rest))


def _decoded(content: bytes, label: str) -> str:
    """The text of a file: UTF-16 with its mark, UTF-8 with or without, else cp1252."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        ladder: tuple[str, ...] = ("utf-16",)
    elif b"\x00" in content[:4096]:
        # Without its mark UTF-16 still shows as a zero beside every letter of a header.
        ladder = ("utf-16-le",) if content[1:2] == b"\x00" else ("utf-16-be",) if content[:1] == b"\x00" else ()
    else:
        ladder = ("utf-8-sig", "cp1252")
    for encoding in ladder:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            if encoding == "utf-8-sig" and _damaged_utf8(content):
                # As cp1252 every name with an accent would come out as another one.
                mend = "export or copy the file again, in one encoding"
                raise _problem(label, "a damaged UTF-8 text", "text in one encoding", mend) from None
            continue
        if "\x00" not in text:
            return text
    raise _problem(
        label,
        "bytes that are no text" if ladder[:1] != ("utf-16",) else "a damaged UTF-16 text",
        "text in UTF-8, UTF-16 or Windows-1252, or a workbook",
        "export the results as text, csv or xlsx",
    )


_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEP = re.compile(r"sep=(.)\s*$", re.IGNORECASE)


def _delimiter(lines: Sequence[str]) -> str:
    """The mark that separates cells: the one on most lines, quoted text apart.

    A decimal comma stands in rows only, a separator in the header too; so in a tie the rarer mark wins.
    """
    plain = [_QUOTED.sub("", line) if '"' in line else line for line in lines if line.strip()]
    counts = {mark: [n for n in (line.count(mark) for line in plain) if n] for mark in "\t;,"}
    return max("\t;,", key=lambda mark: len(counts[mark]))


class _Lines:
    """The rows of a text, parsed once."""

    def __init__(self, text: str, label: str) -> None:
        self._text, self._label = text, label

    @cached_property
    def _all(self) -> list[Row]:
        return _rows(self._text, self._label)

    def __call__(self, first: int | None) -> list[Row]:
        return self._all if first is None else self._all[:first]


def _rows(text: str, label: str) -> list[Row]:
    """Cells of a text file, with the line that each row begins on."""
    if text.count("\n") > ROWS_MAX or text.count("\r") > ROWS_MAX:
        found = f"a text of more than {ROWS_MAX:,} lines"
        raise _problem(label, found, f"at most {ROWS_MAX:,}", "export the results table alone")
    lines = re.split(r"\r\n|\r|\n", text)
    first = 0
    declared = _SEP.match(lines[0].strip('"'))
    if declared:
        delimiter, first = declared.group(1), 1
    else:
        delimiter = _delimiter(lines[:3000])
    body = lines[first:]
    while body and not body[-1].strip():
        body.pop()
    if not body:
        raise _problem(label, "an empty file", "an export with its results", AGAIN)
    if '"' not in text:
        return [Row(i, [c.strip() for c in line.split(delimiter)]) for i, line in enumerate(body, start=first + 1)]
    rows = _quoted_rows(body, delimiter, first)
    if rows is None and delimiter == "\t":
        # A lone inch mark in a tab-separated file is text; nobody quotes there to hide a tab.
        return [
            Row(i, [_unquoted(c.strip()) for c in line.split(delimiter)])
            for i, line in enumerate(body, start=first + 1)
        ]
    if rows is None:
        raise _problem(label, "a quotation mark that is never closed", "quotes in pairs", AGAIN)
    return rows


def _unquoted(cell: str) -> str:
    """A cell without the marks around it; a mark on one side is text, or a damaged digit."""
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _quoted_rows(body: Sequence[str], delimiter: str, first: int) -> list[Row] | None:
    """Rows of a text with quotation marks; None where one is never closed."""
    rows = []
    reader = csv.reader((line + "\n" for line in body), delimiter=delimiter, strict=True)
    start = first + 1
    try:
        for cells in reader:
            rows.append(Row(start, [c.strip() for c in cells]))
            start = first + 1 + reader.line_num
    except csv.Error:
        return None
    return rows
