"""What a reader, a kinetic model, a table and a figure are, and how they are found.

A plug-in is one module that exports one frozen value. `discover` imports every module of a family's package and
collects these values: a new file is enough, nothing else is edited. A plug-in carries its own titles, parameter names,
units and settings model.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nkinetics.errors import InputError, Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure as MatplotlibFigure

    from nkinetics.results import Context, Results

FAMILIES: Mapping[str, str] = {
    "readers": "READER",
    "models": "MODEL",
    "tables": "TABLE",
    "figures": "FIGURE",
    "cdisc": "DATASET",
}
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
        Number under the configured prefix, as 5 in 14.4.1.5.
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
    """One report figure; see `Table` for the fields.

    Parameters
    ----------
    by_patient : bool
        It gives each patient a panel or a line: of more patients than `report.figure_patients` it sees some.
    """

    name: str
    id: str
    number: str
    title: Mapping[str, str]
    needs: tuple[str, ...]
    draw: Callable[[Results, Context], FigureBody]
    by_patient: bool = False


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


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kinetic model.

    Parameters
    ----------
    name : str
        Identifier of the glossary, as delta.
    unit : str
        "level_unit" (the unit of the profile takes its place), "1/d", "d", or empty for a plain number.
    scale : {"log", "logit", "identity"}
        Scale of estimation: of steps, intervals and, over patients, of normality.
    lower, upper : float
        Limits of the search, natural scale.
    start : float
        Where the search begins when the data are silent, natural scale.
    meaning : mapping
        One line by language, en and zh.
    natural_lower, natural_upper : float or None
        Limits by nature, as 0 for a rate: they stand for an end of the interval that the data leave open.
    """

    name: str
    unit: str
    scale: Literal["log", "logit", "identity"]
    lower: float
    upper: float
    start: float
    meaning: Mapping[str, str]
    natural_lower: float | None = 0.0
    natural_upper: float | None = None


@dataclass(frozen=True, eq=False)
class Calendar:
    """What was given to a patient, and when. Days from the start of the first infusion.

    Leading axes are allowed (one calendar per patient of a batch): a shorter calendar is then padded with infusions of
    amount 0 and with pulses at infinity; see `nkinetics.models._algebra.stacked`.

    Parameters
    ----------
    infusion_time : array (..., infusions)
        Starts of the infusions [d], rising.
    infusion_amount : array (..., infusions)
        Amount actually given in each, divided by the reference dose [1].
    pulses : mapping of str to array (..., pulses)
        Starts of the doses of each cytokine agent [d], rising.
    end : float
        End of follow-up [d].
    """

    infusion_time: np.ndarray
    infusion_amount: np.ndarray
    pulses: Mapping[str, np.ndarray] = field(default_factory=dict)
    end: float = 28.0


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number that follows from the parameters of a model.

    Parameters
    ----------
    name : str
        Identifier, as curve_cmax.
    unit : str
        "level_unit", "d", "d*level_unit", or empty for a plain number.
    value : array (...)
        One value for each parameter vector; nan where it does not exist.
    reason : str
        Why it does not exist, where it does not.
    rate : str
        The parameter x when the quantity is ln 2 / x: its interval then follows from that of x.
    note : str
        With what care the value is to be read.
    formula : str
        How it follows from the parameters, by their identifiers and those of other quantities, as
        ``ln(2) / (rho - delta)``; empty where `rate` says it, or where no line of arithmetic does.
    """

    name: str
    unit: str
    value: np.ndarray
    reason: str = ""
    rate: str = ""
    note: str = ""
    formula: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """A patient on whom the model is tested: natural parameters, calendar, sampling times [d] and settings."""

    parameters: tuple[float, ...]
    calendar: Calendar
    time: np.ndarray
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class KineticModel:
    """One kinetic model: a curve of the level over time for any calendar of infusions.

    All functions broadcast: `parameters` has the shape (..., parameters), natural scale, in the order of
    `self.parameters`; `time` has the shape (times,) or (..., times); results have the leading axes of both.

    Parameters
    ----------
    name : str
        Module name, identifier and key of its section in the configuration.
    title : mapping
        Title by language, en and zh.
    formula : callable
        ``formula(constants) -> str``: the curve in plain text, with the constants that were set.
    parameters : tuple of Parameter
        In the order of every array.
    settings : type
        Pydantic model of the constants that the configuration sets.
    log_level : callable
        ``log_level(time, parameters, calendar, constants) -> array (..., times)``: ln of the level; -inf before the
        first infusion. A time exactly at the start of an infusion counts as after it.
    jacobian : callable
        ``jacobian(time, parameters, calendar, constants) -> (log_level, derivatives (..., times, parameters))``: the
        same ln level, and its derivatives with respect to the parameters on their scale of estimation.
    guess : callable
        ``guess(time, log_level, calendar, constants) -> array (starts, parameters)``: several starts for one patient
        from his quantified points (possibly none), natural scale.
    derived : callable
        ``derived(parameters, calendar, constants, limit) -> tuple of Quantity``; `limit` is the LLOQ in the unit of
        the level, nan when unknown.
    change : callable
        ``change(time, tau, cells, parameters, calendar, constants) -> array (pools,)``: dN/dt [level/d] of the `cells`
        (pools,) infused at tau, at one time and for one parameter vector: the differential equation that defines the
        model, and that the contract test integrates.
    example : Example
        On which the contract test recovers the parameters.
    missing : callable
        ``missing(calendar, constants) -> str``: why the model cannot be fitted on this calendar; empty when it can.
    breakpoint : str
        The parameter in which the curve has kinks; empty for none.
    knots : callable or None
        ``knots(time, calendar, constants) -> array``: the values of that parameter at which the kinks stand.
    growth : str
        The parameter whose interval must exclude 0 before an expansion phase is called identifiable; empty for none.
    ordered : callable
        ``ordered(parameters) -> array``: the one parameter vector among those that give the same curve, as the one with
        the faster phase named alpha.
    fixed : callable
        ``fixed(constants) -> mapping``: identifier of each constant that is a number, with its value and unit.
    pools : int
        Kinds of cells; an infusion adds to the first, the level is the sum of all.
    superposes : bool
        The curve of several infusions is the sum of their curves. Where it is not, the cells limit one another:
        `change` then sees all cells at once, with tau the last infusion.
    prepared : callable, optional
        ``prepared(time, calendar, constants) -> callable``: for time (patients, times) and a calendar with the axis of
        patients, a function of parameters (..., patients, parameters) that gives the ln level without derivatives.
        Sampling calls it many times; `log_level` stands in where it is absent.
    """

    name: str
    title: Mapping[str, str]
    formula: Callable[[Any], str]
    parameters: tuple[Parameter, ...]
    settings: type[Any]
    log_level: Callable[..., np.ndarray]
    jacobian: Callable[..., tuple[np.ndarray, np.ndarray]]
    guess: Callable[..., np.ndarray]
    derived: Callable[..., tuple[Quantity, ...]]
    change: Callable[..., np.ndarray]
    example: Example
    missing: Callable[[Calendar, Any], str] = lambda calendar, constants: ""
    breakpoint: str = ""
    knots: Callable[..., np.ndarray] | None = None
    growth: str = ""
    ordered: Callable[[np.ndarray], np.ndarray] = lambda parameters: parameters
    fixed: Callable[[Any], Mapping[str, tuple[float, str]]] = lambda constants: {}
    pools: int = 1
    superposes: bool = True
    prepared: Callable[..., Callable[[np.ndarray], np.ndarray]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Identifiers of the parameters, in the order of every array."""
        return tuple(p.name for p in self.parameters)


def names(family: str) -> tuple[str, ...]:
    """Module names of a family's plug-ins, in alphabetical order, without importing any of them.

    Examples
    --------
    >>> "quantstudio" in names("readers")
    True
    """
    folder = Path(__file__).parent / family
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")))


@cache
def item_ids() -> tuple[str, ...]:
    """Stable ids of all tables, figures and listings, in order, from their files and without importing any of them.

    Examples
    --------
    >>> "T-CK-05" in item_ids(), "F-CK-01" in item_ids()
    (True, True)
    """
    found = [
        match
        for family in ("tables", "figures")
        for name in names(family)
        for match in _ITEM_ID.findall((Path(__file__).parent / family / f"{name}.py").read_text(encoding="utf-8"))
    ]
    return tuple(sorted(found))


_ITEM_ID = re.compile(r'\bid="((?:[TF]-CK|L)-[\d.]+)"')


@dataclass(frozen=True)
class Heading:
    """What the last statement of the file of a table or figure says of it.

    Parameters
    ----------
    id : str
        Stable id.
    number : str
        Number in the report.
    title : str
        English title.
    """

    id: str
    number: str
    title: str


@cache
def headings(family: Literal["tables", "figures"]) -> Mapping[str, Heading]:
    """Id, number and title of each table or figure, by module name, without importing any of them.

    Only the last statement of each file is parsed. Snakemake labels files with them while it reads the rules; a report
    that takes its figures from files draws none, and does without the libraries that draw.

    Examples
    --------
    >>> headings("tables")["nca_parameters"].id
    'T-CK-05'
    """
    found = {}
    for name in names(family):
        text = (Path(__file__).parent / family / f"{name}.py").read_text(encoding="utf-8")
        statement = ast.parse(text[text.rindex(f"\n{FAMILIES[family]} = ") :]).body[0]
        assert isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        said = {k.arg: k.value for k in statement.value.keywords}
        id, number, title = (ast.literal_eval(said[key]) for key in ("id", "number", "title"))
        found[name] = Heading(str(id), str(number), str(title["en"]))
    return found


@cache
def discover(family: str) -> Mapping[str, Any]:
    """All plug-ins of a family, by module name, in alphabetical order.

    Parameters
    ----------
    family : {"readers", "models", "tables", "figures", "cdisc"}
        Sub-package of nkinetics.

    Raises
    ------
    AttributeError
        When a public module of the package does not export its plug-in.
    """
    package = importlib.import_module(f"nkinetics.{family}")
    return {n: getattr(importlib.import_module(f"{package.__name__}.{n}"), FAMILIES[family]) for n in names(family)}


def resolve(family: str, name: str) -> list[str]:
    """Module names of the plug-ins that a module name, a stable id or "all" stands for.

    Raises
    ------
    InputError
        When nothing of the family has this name.
    """
    known = discover(family)
    found = [n for n, item in known.items() if name in ("all", n) or name == getattr(item, "id", None)]
    if not found:
        listed = ", ".join(known)
        raise InputError(
            Problem(
                name, found=f"no such name among the {family}", expected=f"all, or one of {listed}", mend="correct it"
            )
        )
    return found
