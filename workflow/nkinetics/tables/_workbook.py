"""All report tables in one workbook: a sheet for each, numbers as numbers, the same bytes for the same tables."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from nkinetics import tables
from nkinetics.plugins import TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.store import defused
from nkinetics.wording import Words, kind_of, number_of, title_of

EPOCH = datetime(1980, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""Stands where a workbook wants a time: the first that a zip archive can hold."""

NARROW, WIDE, TALLEST = 6, 44, 409
"""Widths of columns in characters, and the greatest height of a row that spreadsheets know, in points."""

_PLAIN = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,12})?")
_BARRED = re.compile(r"[\[\]:*?/\\']")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
SHEET_NAME, CELL = 31, 32_767
"""What a spreadsheet allows, in characters."""


def workbook(results: Results, context: Context) -> bytes:
    """Every table that the configuration shows, as an .xlsx workbook.

    Parameters
    ----------
    results : Results
        Canonical tables.
    context : Context
        Settings and version.

    Returns
    -------
    bytes
        The first sheet lists the others; each other sheet has the title, the analysis set, the cells, the footnotes.
    """
    import xlsxwriter

    from nkinetics.tables._packed import Sheet

    known, words, made = discover("tables"), Words(context.language), tables.names(context)
    with tempfile.TemporaryDirectory() as folder:
        texts = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
        with xlsxwriter.Workbook(f"{folder}/tables.xlsx", {**texts, "tmpdir": folder}) as book:
            study = context.settings.study
            book.set_properties({"title": _text(study.title or study.id), "created": EPOCH, "author": "NKinetics"})
            looks = _looks(book)
            contents = book.add_worksheet(words.say("Contents", "目录"))
            names = sheet_names([known[name].id for name in made])
            heads = [f"{kind_of(known[n], context)} {number_of(known[n], context)}" for n in made]
            titles = [title_of(known[n], context) for n in made]
            _contents(contents, looks, context, list(zip(names, heads, titles, strict=True)))
            for name, sheet, head, title in zip(made, names, heads, titles, strict=True):
                # One after the other: the cells of all tables would not fit in memory together.
                body = tables.built(name, results, context)
                _sheet(book.add_worksheet(sheet, Sheet), looks, f"{head}  {title}", body, words)
        return _timeless(Path(folder, "tables.xlsx"))


def _timeless(path: Path) -> bytes:
    """The same archive without the times of its making."""
    stream = io.BytesIO()
    with ZipFile(path) as made, ZipFile(stream, "w", ZIP_DEFLATED) as same:
        for part in made.infolist():
            entry = ZipInfo(part.filename, EPOCH.timetuple()[:6])
            entry.compress_type = ZIP_DEFLATED
            with made.open(part) as content, same.open(entry, "w") as target:
                shutil.copyfileobj(content, target)
    return stream.getvalue()


def sheet_names(ids: Sequence[str]) -> list[str]:
    """Names of sheets: stable ids, without what a spreadsheet forbids, none twice.

    Examples
    --------
    >>> sheet_names(["T-CK-01", "L:1", "L/1"])
    ['T-CK-01', 'L 1', 'L 1 2']
    """
    found: list[str] = []
    for one in ids:
        plain = _BARRED.sub(" ", one)[:SHEET_NAME] or "sheet"
        name, n = plain, 1
        while name.lower() in {f.lower() for f in found}:
            n += 1
            name = f"{plain[: SHEET_NAME - len(str(n)) - 1]} {n}"
        found.append(name)
    return found


def number(text: str) -> tuple[float, str] | None:
    """A cell that is a plain number, with the format that prints it as it stood; None for any other.

    Examples
    --------
    >>> number("12.50"), number("300"), number("2/4"), number("007"), number("BLQ")
    ((12.5, '0.00'), (300.0, '0'), None, None, None)
    """
    if not _PLAIN.fullmatch(text) or (text.startswith("-0") and float(text) == 0):
        return None
    value, _, decimals = float(text), *text.partition(".")[1:]
    if f"{value:.{len(decimals)}f}" != text or len(text.strip("-0.").replace(".", "")) > 15:
        return None
    return value, "0." + "0" * len(decimals) if decimals else "0"


def _looks(book: Any) -> dict[str, Any]:
    """The formats of the cells, by name; those of numbers are added when first needed."""
    base = {"font_name": "Arial", "font_size": 9, "valign": "top"}
    return {
        "book": book,
        "base": base,
        "title": book.add_format({**base, "bold": True, "font_size": 11}),
        "plain": book.add_format({**base}),
        "head": book.add_format({**base, "bold": True, "text_wrap": True, "bottom": 1, "top": 2, "valign": "bottom"}),
        "text": book.add_format({**base, "text_wrap": True, "num_format": "@"}),
        "note": book.add_format({**base, "font_size": 8, "font_color": "#525d69"}),
        "link": book.add_format({**base, "font_color": "#0b5c6b", "underline": 1}),
    }


def _number_look(looks: dict[str, Any], form: str) -> Any:
    if form not in looks:
        looks[form] = looks["book"].add_format({**looks["base"], "num_format": form})
    return looks[form]


def _text(text: str) -> str:
    """Text that a spreadsheet takes and does not run."""
    return defused(_CONTROL.sub(" ", text))[:CELL]


def _contents(sheet: Any, looks: dict[str, Any], context: Context, rows: Sequence[tuple[str, str, str]]) -> None:
    study, words = context.settings.study, Words(context.language)
    sheet.set_column(0, 0, 18)
    sheet.set_column(1, 1, 90)
    sheet.write_string(0, 0, _text(study.title or study.id), looks["title"])
    cut = words.colon(words.say("data cut", "数据截止"), study.data_cut or words.say("none set", "未设定"))
    sheet.write_string(1, 0, _text(words.join([study.id, cut, f"NKinetics {context.version}"])), looks["plain"])
    if study.notice:
        sheet.write_string(2, 0, _text(study.notice), looks["plain"])
    for i, (name, head, title) in enumerate(rows, start=4):
        sheet.write_url(i, 0, f"internal:'{name}'!A1", looks["link"], _text(head))
        sheet.write_string(i, 1, _text(title), looks["plain"])


def _sheet(sheet: Any, looks: dict[str, Any], title: str, body: TableBody, words: Words) -> None:
    sheet.hide_gridlines(2)
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.write_string(0, 0, _text(title), looks["title"])
    sheet.write_string(1, 0, _text(body.subtitle), looks["plain"])
    first = 3
    frame = body.frame
    last = first
    if len(frame.columns):
        rows = [[str(c) for c in row] for row in frame.itertuples(index=False)]
        for j, name in enumerate(frame.columns):
            sheet.write_string(first, j, _text(str(name)), looks["head"])
            sheet.set_column(j, j, _width(str(name), [row[j] for row in rows]))
        for i, row in enumerate(rows, start=first + 1):
            for j, cell in enumerate(row):
                # What names a row is text also where it looks like a number: patient "12" is no amount.
                plain = number(cell) if j >= body.row_header else None
                if plain:
                    sheet.write_number(i, j, plain[0], _number_look(looks, plain[1]))
                else:
                    sheet.write_string(i, j, _text(cell), looks["text"])
        last = first + len(rows)
        sheet.freeze_panes(first + 1, body.row_header)
        sheet.repeat_rows(first)
    if body.note or not len(frame):
        last += 1
        why = words.colon(words.say("cannot be made", "无法生成"), body.note) if body.note else words.say("none", "无")
        sheet.write_string(last, 0, _text(why), looks["plain"])
    for i, note in enumerate(body.footnotes, start=last + 2):
        sheet.write_string(i, 0, _text(note), looks["note"])


def _width(head: str, cells: Sequence[str]) -> float:
    """Width of a column: that of its longest cell within limits; Chinese letters take two places."""

    def places(text: str) -> int:
        return sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)

    longest = max((places(c) for c in cells), default=0)
    words_of_head = max((places(w) for w in head.split()), default=0)
    return min(max(longest, words_of_head, places(head) / 2, NARROW), WIDE) + 1.5
