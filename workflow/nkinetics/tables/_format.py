"""What the tables share: cells as printed, rows to a body, the data behind each dose level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from nkinetics.plugins import TableBody
from nkinetics.results import Context, Results
from nkinetics.wording import (
    Words,
    codes_footnote,
    dose_levels,
    dose_names,
    percent,
    significant,
    source_footnote,
)

NOT_REPORTED, NOT_CALCULABLE = "NR", "NC"


def body(
    results: Results,
    context: Context,
    rows: Iterable[Mapping[str, str]],
    columns: Sequence[str],
    *,
    sources: Iterable[str],
    footnotes: Iterable[str] = (),
    subtitle: str = "",
    row_header: int = 1,
    patients: Sequence[str] = (),
) -> TableBody:
    """A table body with its codes explained and its sources named.

    Parameters
    ----------
    rows : iterable of mapping
        Cell texts by column name.
    columns : sequence of str
        Column names in order.
    sources : iterable of str
        Canonical tables behind the numbers.
    footnotes : iterable of str
        Definitions; codes and sources are added.
    patients : sequence of str
        As `TableBody` has them; may be filled while `rows` are given.
    """
    texts: dict[str, str] = {}  # a long listing says the same over and over: each text is held once
    cells = [[texts.setdefault(row[c], row[c]) for c in columns] for row in rows]
    frame = pd.DataFrame(cells, columns=list(columns), dtype="str")
    notes = (*footnotes, *codes_footnote(context, texts), source_footnote(results, context, sources))
    return TableBody(frame, notes, subtitle, "", row_header, tuple(patients))


def absent(results: Results, context: Context, why: str, sources: Iterable[str]) -> TableBody:
    """A table that cannot be made, with the reason and the sources looked at."""
    return TableBody(pd.DataFrame(), (source_footnote(results, context, sources),), "", why)


def statistic(value: float, digits: int = 3) -> str:
    """A statistic with significant figures, NC where it cannot be had."""
    return NOT_CALCULABLE if math.isnan(value) else significant(value, digits)


FEW = 10
"""Below so many values a percentage over them is printed without decimals."""


def percentage(value: float, n: int) -> str:
    """A CV over n values: 1 decimal, none over few values; NC where it cannot be had.

    Examples
    --------
    >>> percentage(108.46, 3), percentage(108.46, 10), percentage(float("nan"), 1)
    ('108', '108.5', 'NC')
    """
    if math.isnan(value):
        return NOT_CALCULABLE
    return f"{value:.0f}" if n < FEW else percent(value)


def share(value: float, n: int) -> str:
    """A share of n patients as a percentage: no decimals below 100 patients, where one patient is more than 1 %.

    Examples
    --------
    >>> share(2 / 3, 3), share(2 / 3, 300)
    ('67', '66.7')
    """
    return f"{100 * value:.0f}" if n < 100 else percent(100 * value)


def interval(lower: float, upper: float) -> str:
    """Two ends as printed, NC where they cannot be had."""
    if math.isnan(lower) or math.isnan(upper):
        return NOT_CALCULABLE
    return f"{significant(lower)} to {significant(upper)}"


def listed(values: Mapping[str, str]) -> str:
    """Individual values as ``001: 12.0; 002: NC``.

    Examples
    --------
    >>> listed({"001": "12.0", "002": "NC"})
    '001: 12.0; 002: NC'
    """
    return "; ".join(f"{patient}: {value}" for patient, value in values.items())


def reportable(results: Results) -> pd.DataFrame:
    """Observations that are analysed."""
    rows = results.table("observations")
    return rows[rows["reportable"].fillna(False).astype(bool)]


def analysis_set(results: Results, context: Context) -> str:
    """The subtitle's first part: who is shown, and what a dose level is."""
    words, counts = Words(context.language), results.patients["dose_level"].value_counts()
    names = dose_names(results, context)
    levels = words.join(f"{names[d]} n = {counts[d]}" for d in dose_levels(results))
    n = len(results.patients)
    return words.colon(words.say(f"All patients (n = {n})", f"全部患者（n = {n}）"), levels)
