"""Tables of millions of rows in little memory: each distinct text once, and a small number in its place in every row.

A compact frame has `category` columns where a plain one has texts. Their categories are sorted, so that the codes are
in the order of the texts; no text is missing. What is worked out row by row takes plain frames of some of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def coded(texts: Iterable[str]) -> pd.Categorical:
    """Texts as a compact column.

    Examples
    --------
    >>> coded(["b", "a", "b"]).codes.tolist()
    [1, 0, 1]
    """
    codes, distinct = pd.factorize(np.array(list(texts), dtype=object), sort=True)
    return pd.Categorical.from_codes(codes, pd.Index(distinct, dtype="str"))


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its texts as compact columns."""
    return frame.astype({name: "category" for name in frame.columns if frame[name].dtype == "str"})


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its compact columns as texts; cells that say the same share one text.

    Examples
    --------
    >>> frame = pd.DataFrame({"target": ["CAR", "RPPH1"], "ct": [30.5, 22.0]})
    >>> plain(compact(frame)).equals(frame.astype({"target": "str"}))
    True
    """
    texts = [name for name in frame.columns if frame[name].dtype == "category"]
    return frame.assign(
        **{name: frame[name].cat.categories.array.take(frame[name].cat.codes.to_numpy()) for name in texts}
    )


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Compact frames of the same columns, one below the other; each part gives up its columns as they are joined.

    Examples
    --------
    >>> both = joined([compact(pd.DataFrame({"target": [name]}, dtype="str")) for name in ("RPPH1", "CAR")])
    >>> both["target"].tolist(), both["target"].cat.categories.tolist()
    (['RPPH1', 'CAR'], ['CAR', 'RPPH1'])
    """
    if len(parts) == 1:
        return parts[0].reset_index(drop=True)
    columns: dict[str, object] = {}
    for name in list(parts[0].columns):
        values = [part.pop(name) for part in parts]
        if values[0].dtype == "category":
            columns[name] = pd.api.types.union_categoricals(values, sort_categories=True)
        else:
            columns[name] = pd.concat(values, ignore_index=True)
    return pd.DataFrame(columns)


def renamed(column: pd.Series, names: Mapping[str, str]) -> pd.Series:
    """The compact column with other texts where `names` has one.

    Examples
    --------
    >>> renamed(pd.Series(coded(["P1 D1", "P1-D1", "NTC"])), {"P1 D1": "P1-D1"}).tolist()
    ['P1-D1', 'P1-D1', 'NTC']
    """
    new, distinct = pd.factorize(
        np.array([names.get(text, text) for text in column.cat.categories], dtype=object), sort=True
    )
    codes = new[column.cat.codes.to_numpy()] if len(column) else new[:0]
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(distinct, dtype="str")), index=column.index)


def pieces(column: pd.Series, most: int) -> Iterator[NDArray[np.intp]]:
    """Places of the rows of a compact column by increasing text, `most` of them at a time or those of one text.

    Rows of one text are never parted, and keep their order.

    Examples
    --------
    >>> [place.tolist() for place in pieces(pd.Series(coded(["b", "a", "c", "b"])), 3)]
    [[1, 0, 3], [2]]
    """
    codes = column.cat.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(codes[order])) + 1, len(codes))
    begin = 0
    while begin < len(codes):
        within = ends[(ends > begin) & (ends <= begin + most)]
        end = int(within[-1] if len(within) else ends[ends > begin][0])
        yield order[begin:end]
        begin = end
