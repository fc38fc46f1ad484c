"""Raw rows as plain columns: what a sample's three wells need costs microseconds, as a DataFrame it costs hundreds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import RAW

_KINDS = {column.name: column.kind for column in RAW.columns}


def _is_float(name: str, values: pd.Series) -> bool:
    return _KINDS.get(name) == "float" or pd.api.types.is_float_dtype(values.dtype)


@dataclass(frozen=True)
class Wells:
    """Some rows of a table of raw rows.

    Parameters
    ----------
    columns : mapping of str to array
        Columns of the whole table; numbers as floats, all else as objects.
    labels : array of int
        Index labels of the whole table.
    place : array of int
        Which rows of the table these are.
    """

    columns: Mapping[str, NDArray]
    labels: NDArray[np.int64]
    place: NDArray[np.intp]

    @classmethod
    def of(cls, raw: pd.DataFrame) -> Wells:
        """All rows of a table with the columns of `nkinetics.columns.RAW`, in its order."""
        columns = {
            str(name): raw[name].to_numpy(dtype="float64" if _is_float(str(name), raw[name]) else object)
            for name in raw.columns
        }
        return cls(columns, raw.index.to_numpy(), np.arange(len(raw)))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.place)

    def __getitem__(self, name: str) -> NDArray:
        """A column."""
        return self.columns[name][self.place]

    @property
    def index(self) -> NDArray[np.int64]:
        """Index labels of the rows."""
        return self.labels[self.place]

    def where(self, mask: NDArray[np.bool_]) -> Wells:
        """The rows for which `mask` holds."""
        return Wells(self.columns, self.labels, self.place[mask])

    def row(self, place: int) -> Wells:
        """One of the rows, by its position among them."""
        return Wells(self.columns, self.labels, self.place[place : place + 1])

    def without(self, set_aside: Mapping[int, str]) -> Wells:
        """The rows that were not set aside; costs what the rows cost, however many were set aside elsewhere."""
        return self.where(np.array([label not in set_aside for label in self.index.tolist()], dtype=bool))

    def by(self, name: str) -> Iterator[tuple[str, Wells]]:
        """The rows of each value of a text column, by increasing value; the order within is kept."""
        groups: dict[str, list[int]] = {}
        for place, value in zip(self.place.tolist(), self[name].tolist(), strict=True):
            groups.setdefault(value, []).append(place)
        for value in sorted(groups):
            yield value, Wells(self.columns, self.labels, np.array(groups[value], dtype=np.intp))

    def followed_by(self, others: Wells) -> Wells:
        """These rows, then others of the same table."""
        return Wells(self.columns, self.labels, np.concatenate([self.place, others.place]))

    def none(self) -> Wells:
        """No row of the same table."""
        return Wells(self.columns, self.labels, self.place[:0])


ORDER = ("run_id", "source_file", "source_row", "target")
"""Order in which every quantification goes through raw rows."""


def left(raw: pd.DataFrame, set_aside: Mapping[int, str]) -> pd.DataFrame:
    """The rows of a table that were not set aside, by run, export, row and target."""
    kept = raw[np.array([label not in set_aside for label in raw.index.tolist()], dtype=bool)]
    return kept.sort_values(list(ORDER))
