"""Old workbooks (.xls), parsed in a process of its own with limits on memory and time.

The parser follows the file's own sector chains and row numbers: a damaged .xls can make it allocate without end, and a
failed allocation ends a Rust library's process without an exception. The content of an .xlsx is guarded by checksums,
and its extent is measured beforehand, so that one is parsed in the caller's process.

This file is also the script of that process: it imports nothing of the package, to start quickly.
"""

from __future__ import annotations

import datetime
import io
import json
import subprocess
import sys
from typing import Any

MEMORY_MAX = 1 << 30
SECONDS_MAX = 4
CELLS_MAX = 5_000_000


def plain(value: object) -> object:
    """A cell as JSON can carry it: numbers stay numbers, dates become ISO text.

    Examples
    --------
    >>> plain(datetime.datetime(2026, 3, 1)), plain(datetime.datetime(2026, 3, 1, 9, 30)), plain(351.0)
    ('2026-03-01', '2026-03-01T09:30:00', 351.0)
    """
    if isinstance(value, datetime.datetime) and not (value.hour or value.minute or value.second or value.microsecond):
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | bool | float | int) else str(value)


def parsed(content: bytes) -> list[dict[str, Any]]:
    """Worksheets of an old workbook, parsed in another process.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    list of dict
        For each sheet: name, visible, rows (lists of plain values, from the first row of the sheet).

    Raises
    ------
    ValueError
        With the reason, when the file cannot be parsed within the limits.
    """
    command = [sys.executable, "-I", __file__]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=3 * SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"nothing readable within {SECONDS_MAX} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if done.returncode == 3 and said else "its parts point beyond the file"
        raise ValueError(reason)
    sheets: list[dict[str, Any]] = json.loads(done.stdout)
    return sheets


def _limit() -> None:
    try:
        import resource
    except ImportError:  # not on every system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """Parse standard input and print its worksheets; exit status 3 with the reason on failure."""
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    content = sys.stdin.buffer.read()
    _limit()
    sheets = []
    try:
        book = CalamineWorkbook.from_object(io.BytesIO(content))
        for about in book.sheets_metadata:
            if about.typ != SheetTypeEnum.WorkSheet:
                continue
            visible = about.visible == SheetVisibleEnum.Visible
            sheet = book.get_sheet_by_name(about.name)
            if sheet.total_height * sheet.total_width > CELLS_MAX:
                raise ValueError(f"sheet {about.name} spans {sheet.total_height} rows and {sheet.total_width} columns")
            rows = sheet.to_python(skip_empty_area=False) if visible else []
            sheets.append({"name": about.name, "visible": visible, "rows": [[plain(v) for v in row] for row in rows]})
    except Exception as error:
        print(str(error).split("\n", 1)[0] or type(error).__name__, file=sys.stderr)
        return 3
    json.dump(sheets, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
