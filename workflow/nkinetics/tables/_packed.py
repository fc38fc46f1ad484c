"""A sheet of a workbook whose cells are held as numbers: xlsxwriter's own are objects, twenty times as large."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from types import MappingProxyType
from typing import Any

from xlsxwriter.worksheet import CellNumberTuple, CellStringTuple, Worksheet


class Rows:
    """Cells by row and column, as xlsxwriter keeps them; a row is packed when a later one begins, and is then closed.

    Notes
    -----
    Rows are written from the top to the bottom, and of each all cells from the left to the right. A cell is a number or
    the number of a shared text, each with a format.

    Examples
    --------
    >>> rows = Rows()
    >>> rows[0][0], rows[0][1] = CellStringTuple(7, None), CellNumberTuple(2.5, None)
    >>> rows[3][0] = CellStringTuple(8, None)
    >>> rows[0][0].string, rows[0][1].number, 0 in rows, 1 in rows, dict(rows[1])
    (7, 2.5, True, False, {})
    """

    def __init__(self) -> None:
        self._row, self._cells = 0, {}  # type: int, Any
        self._rows, self._starts = array("L"), array("Q", [0])
        self._values, self._kinds = array("d"), array("L")
        self._formats: dict[int, int] = {}
        self._kept: list[Any] = []

    def __getitem__(self, row: int) -> Any:
        """The cells of a row by column: those being written, or those of a closed row."""
        if row != self._row:
            if isinstance(self._cells, dict):
                self._pack()
            closed = bool(self._rows) and row <= self._rows[-1]
            self._row, self._cells = row, MappingProxyType(self._unpacked(row)) if closed else {}
        return self._cells

    def __contains__(self, row: int) -> bool:
        """Whether the row has a cell."""
        return bool(self[row])

    def _pack(self) -> None:
        if not self._cells:
            return
        if [*self._cells] != [*range(len(self._cells))]:
            raise ValueError("the cells of a row are written from the first column on, without a gap")
        for cell in self._cells.values():
            place = self._formats.setdefault(id(cell.format), len(self._formats))
            if place == len(self._kept):
                self._kept.append(cell.format)
            text = isinstance(cell, CellStringTuple)
            self._values.append(cell.string if text else cell.number)
            self._kinds.append(2 * place + text)
        self._rows.append(self._row)
        self._starts.append(len(self._values))

    def _unpacked(self, row: int) -> dict[int, Any]:
        at = bisect_left(self._rows, row)
        if at == len(self._rows) or self._rows[at] != row:
            return {}
        begin, end = self._starts[at], self._starts[at + 1]
        cells: dict[int, Any] = {}
        for column, (value, kind) in enumerate(zip(self._values[begin:end], self._kinds[begin:end], strict=True)):
            look = self._kept[kind // 2]
            cells[column] = CellStringTuple(int(value), look) if kind % 2 else CellNumberTuple(value, look)
        return cells


class Sheet(Worksheet):
    """A worksheet of texts and numbers that is written row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Rows()
