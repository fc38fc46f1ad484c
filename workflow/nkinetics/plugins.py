"""What a reader, a kinetic model, a table and a figure are, and how they are found.

A plug-in is one module that exports one frozen value. `discover` imports every module of a family's package and
collects these values: a new file is enough, nothing else is edited. A plug-in carries its own titles, parameter names,
units and settings model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as MatplotlibFigure

    from nkinetics.results import Context, Results

FAMILIES: Mapping[str, str] = {"readers": "READER", "models": "MODEL", "tables": "TABLE", "figures": "FIGURE"}
"""Package of each family and the name that its modules export."""


@dataclass(frozen=True)
class TableBody:
    """One report table as it is printed.

    Parameters
    ----------
    frame : DataFrame of str
        Every cell as printed; codes (BLQ, NC, NR, ND, MISS) carry their reason in a footnote.
    footnotes : tuple of str
        Computed from the run, never typed by hand.
    subtitle : str
        Analysis set, analyte, assay, specimen, unit.
    note : str
        Why the table cannot be made; then `frame` is empty.
    row_header : int
        How many leading columns name the row.
    patients : tuple of str
        For each row the patient that it shows, empty where it shows none; empty tuple when no row shows a patient.
    """

    frame: pd.DataFrame
    footnotes: tuple[str, ...] = ()
    subtitle: str = ""
    note: str = ""
    row_header: int = 1
    patients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One report table.

    Parameters
    ----------
    name : str
        Module and file name.
    id : str
        Stable id, as T-CK-05.
    number : str
        Number under the configured prefix, as 4.5 in 14.4.5.
    title : mapping
        Title by language, en and zh.
    needs : tuple of str
        Canonical tables that it reads.
    build : callable
        ``build(results, context) -> TableBody``.
    """

    name: str
    id: str
    number: str
    title: Mapping[str, str]
    needs: tuple[str, ...]
    build: Callable[[Results, Context], TableBody]


@dataclass(frozen=True)
class FigureBody:
    """One report figure, drawn.

    Parameters
    ----------
    figure : matplotlib Figure or None
        None when it cannot be made.
    footnotes : tuple of str
        Computed from the run.
    alt : str
        What the figure shows, in words, with its main numbers.
    subtitle : str
        Analysis set, analyte, assay, specimen, unit.
    note : str
        Why the figure cannot be made.
    """

    figure: MatplotlibFigure | None
    footnotes: tuple[str, ...] = ()
    alt: str = ""
    subtitle: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One report figure; see `Table` for the fields."""

    name: str
    id: str
    number: str
    title: Mapping[str, str]
    needs: tuple[str, ...]
    draw: Callable[[Results, Context], FigureBody]


@dataclass(frozen=True)
class Claim:
    """Whether a reader knows a file's content.

    Parameters
    ----------
    matches : bool
        The content is this format's: no other reader may claim it.
    found, missing : tuple of str
        Marks of the format that stand in the file and that do not, in words for a message. The format with most marks
        found is the nearest when nobody claims the file.
    """

    matches: bool
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a reader made of one export.

    Parameters
    ----------
    rows : sequence of mapping
        One mapping per row of the results, every row accounted for, with the columns of `nkinetics.columns.RAW` that
        the format fills; the other columns, and those about the file, are filled by `nkinetics.readers`.
    note : str
        What the reader has to say about the file, as columns that it does not use.
    """

    rows: Sequence[Mapping[str, Any]]
    note: str = ""


@dataclass(frozen=True)
class Reader:
    """One export format.

    Parameters
    ----------
    name : str
        Module name, as quantstudio.
    title : str
        What the user calls it, as "QuantStudio results".
    claim : callable
        ``claim(export, settings) -> Claim``, by content and never by the file's ending.
    read : callable
        ``read(export, settings) -> Reading``; raises `nkinetics.errors.InputError` with every problem of the file.
    by_mapping : bool
        The user assigned the file to this reader by hand (generic); then no other reader is asked.
    """

    name: str
    title: str
    claim: Callable[[Any, Any], Claim]
    read: Callable[[Any, Any], Reading]
    by_mapping: bool = False


@cache
def discover(family: str) -> Mapping[str, Any]:
    """All plug-ins of a family, by module name, in alphabetical order.

    Parameters
    ----------
    family : {"readers", "models", "tables", "figures"}
        Sub-package of nkinetics.

    Raises
    ------
    AttributeError
        When a public module of the package does not export its plug-in.
    """
    package = importlib.import_module(f"nkinetics.{family}")
    return {n: getattr(importlib.import_module(f"{package.__name__}.{n}"), FAMILIES[family]) for n in names(family)}
