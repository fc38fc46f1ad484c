"""A folder of results and the choices behind it, as tables and figures see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from nkinetics.columns import CYTOKINES, EVENTS, INFUSIONS, PATIENTS, SAMPLES, STAGE_TABLES, Schema
from nkinetics.compact import compact, plain
from nkinetics.settings import Settings
from nkinetics.store import empty, read_compact, read_table, sha256_of

STUDY_TABLES: Mapping[str, Schema] = {s.name: s for s in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS)}
"""User tables as `ingest` wrote them under study/: times elapsed in days, defaults filled in."""

LARGEST = ("nca", "predictions", "likelihood_profiles", "population_predictions", "individual_forecast_curves")
"""Tables of many rows of each patient: of all patients they are not held as texts."""


def schema_named(name: str) -> Schema:
    """Columns of a canonical table, one of a stage or one of the study."""
    return STUDY_TABLES.get(name) or STAGE_TABLES[name]


def by_patient(frame: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """The rows of one patient, grouped once: a search through all rows for each patient would be quadratic.

    Examples
    --------
    >>> own = by_patient(pd.DataFrame({"patient_id": ["01", "02", "01"], "level": [1, 2, 3]}))
    >>> list(own("01")["level"]), len(own("03"))
    ([1, 3], 0)
    """
    own = rows_by(frame, "patient_id")
    return lambda patient: own(str(patient))


def rows_by(frame: pd.DataFrame, *columns: str) -> Callable[..., pd.DataFrame]:
    """The rows that have these values in these columns, grouped once.

    Examples
    --------
    >>> own = rows_by(pd.DataFrame({"model": ["a", "b", "a"], "assay": ["x", "x", "y"]}), "model", "assay")
    >>> own("a", "y").index.tolist(), len(own("b", "y"))
    ([2], 0)
    """
    # Where the rows stand, not the rows: ten thousand small frames take more memory than the table.
    places = frame.groupby(list(columns), sort=False).indices
    nowhere = np.zeros(0, dtype="int64")
    return lambda *values: frame.take(places.get(values if len(columns) > 1 else values[0], nowhere))


def having(frame: pd.DataFrame, where: Mapping[str, Collection[str]], of: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of a compact frame that have one of the given texts in each of some columns, still compact.

    `of` is the frame with those columns where `frame`, of the same rows, lacks them.

    Examples
    --------
    >>> frame = compact(pd.DataFrame({"assay": ["flow", "qpcr", "flow"], "level": [1, 2, 3]}))
    >>> having(frame, {"assay": ["flow", "ddpcr"]})["level"].tolist()
    [1, 3]
    """
    kept = np.ones(len(frame), dtype=bool)
    for column, texts in where.items():
        held = (frame if of is None else of)[column].cat
        wanted = held.categories.isin(list(texts))
        kept &= wanted[held.codes.to_numpy()] if len(wanted) else False
    return frame[kept] if where else frame


T = TypeVar("T")


@dataclass(frozen=True)
class Results:
    """Canonical tables of a results folder, read when first asked for.

    Parameters
    ----------
    folder : Path
        A results folder; the user tables stand in its sub-folder study/.
    whole : Results, optional
        Set by `of`: the results of all patients, of which these are those of some.
    some : frozenset of str
        Set by `of`: those patients.

    Notes
    -----
    ``results.table("nca")`` gives the typed frame; a table that no stage has written is empty, with its columns.
    """

    folder: Path
    whole: Results | None = field(default=None, repr=False)
    some: frozenset[str] = frozenset()
    _cache: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    _compact: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    _sizes: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _groups: dict[str, Callable[[str], pd.DataFrame]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def path(self, name: str) -> Path:
        """File of a canonical table."""
        return self.folder / "study" / f"{name}.csv" if name in STUDY_TABLES else self.folder / f"{name}.csv"

    def table(self, name: str) -> pd.DataFrame:
        """A canonical table, typed; empty where the stage has not run. The caller does not change it.

        Of the largest tables, `rows` gives what is needed of them without holding the whole as texts.
        """
        if name not in self._cache:
            self._cache[name] = self._of_some(self.whole, name) if self.whole is not None else self._read(name)
        return self._cache[name]

    def _of_some(self, whole: Results, name: str) -> pd.DataFrame:
        """Rows of some patients in a table; of the largest ones the others are not even held."""
        if name in LARGEST and name not in whole._cache:
            return whole._read(name, {"patient_id": self.some})
        frame = whole.table(name)
        return frame[frame["patient_id"].isin(self.some)] if "patient_id" in frame else frame

    def _read(self, name: str, where: Mapping[str, Collection[str]] | None = None) -> pd.DataFrame:
        path, schema = self.path(name), schema_named(name)
        return read_table(path, schema, where=where) if path.exists() else empty(schema)

    def rows(
        self, name: str, columns: Sequence[str] | None = None, *, hold: bool = True, **where: str | Collection[str]
    ) -> pd.DataFrame:
        """Rows of a canonical table that have the given texts, all columns or some; the table is held compactly.

        Parameters
        ----------
        name : str
            The table.
        columns : sequence of str, optional
            Columns wanted, in this order; all unless given.
        hold : bool
            Others will ask for this table; False where it is read for this once.
        **where : str or collection of str
            For a column the text, or the texts of which a row must have one.
        """
        if self.whole is not None:
            own = {"patient_id": self.some} if "patient_id" in schema_named(name).names else {}
            return self.whole.rows(name, columns, hold=hold, **own, **where)
        sets = {column: {texts} if isinstance(texts, str) else {*texts} for column, texts in where.items()}
        if not hold and name not in self._compact and self.path(name).exists():
            read = read_table(self.path(name), schema_named(name), columns=columns, where=sets)
            return read if columns is None else read[list(columns)]
        held = self._held(name)
        return plain(having(held if columns is None else held[list(columns)], sets, held))

    def part(self, name: str, columns: Sequence[str], **where: Collection[str]) -> pd.DataFrame:
        """Some columns of the rows of all patients that have the given texts, held compactly; `having` picks of them.

        The largest tables are not held whole where of each row only a few cells are ever shown.
        """
        if self.whole is not None:
            return self.whole.part(name, columns, **where)
        sets = {column: {*texts} for column, texts in where.items()}
        asked = f"{name} {sorted(columns)} {sorted((c, sorted(texts)) for c, texts in sets.items())}"
        return self.once(asked, lambda own: own._read_part(name, columns, sets))

    def _read_part(self, name: str, columns: Sequence[str], where: Mapping[str, Collection[str]]) -> pd.DataFrame:
        path, schema = self.path(name), schema_named(name)
        wanted = {*columns, *where}
        if not path.exists():
            return compact(empty(schema)[[c for c in schema.names if c in wanted]])
        return read_compact(path, schema, columns=wanted, where=where)

    def size(self, name: str) -> int:
        """Number of rows of a canonical table, which is not held for that."""
        if self.whole is not None:
            return len(self.rows(name, ()))
        if name in self._cache:
            return len(self._cache[name])
        path = self.path(name)
        if name not in self._compact and name not in self._sizes:
            self._sizes[name] = len(read_table(path, schema_named(name), columns=())) if path.exists() else 0
        return len(self._compact[name]) if name in self._compact else self._sizes[name]

    def _held(self, name: str) -> pd.DataFrame:
        """A table with its texts as categories: a tenth of its size."""
        if name not in self._compact:
            path, schema = self.path(name), schema_named(name)
            self._compact[name] = read_compact(path, schema) if path.exists() else compact(empty(schema))
        return self._compact[name]

    def once(self, what: str, make: Callable[[Results], T]) -> T:
        """What follows from these results and is asked for again and again, worked out once."""
        if what not in self._known:
            self._known[what] = make(self)
        found: T = self._known[what]
        return found

    def of_patient(self, name: str, patient: str) -> pd.DataFrame:
        """Rows of one patient in a canonical table, which is grouped once for all patients."""
        if name not in self._groups:
            self._groups[name] = by_patient(self.table(name))
        return self._groups[name](patient)

    def of(self, patients: Sequence[str]) -> Results:
        """The results of some patients: every table without the rows of the others."""
        return Results(self.folder, self, frozenset(patients))

    def source(self, name: str) -> str:
        """Name and first 8 digits of the sha256 of a table's file, for footnotes."""
        path = self.path(name)
        return f"{name}.csv {sha256_of(path)[:8]}" if path.exists() else f"{name}.csv (not made)"

    @cached_property
    def inputs(self) -> tuple[tuple[str, str, str], ...]:
        """The user's tables behind study/, as `ingest` read them: name, path, sha256; empty where it did not say."""
        path = self.folder / "study" / "inputs.txt"
        if not path.exists():
            return ()
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple((name, file, digest) for digest, name, file in (line.split("  ", 2) for line in lines if line))

    @cached_property
    def patients(self) -> pd.DataFrame:
        """Patients in order of dose level and id: every table starts from them and joins to the left."""
        return self.table("patients").sort_values(["dose_level", "patient_id"], ignore_index=True)

    @cached_property
    def profiles(self) -> pd.DataFrame:
        """Assay, specimen, analyte and unit of every kind of assay profile, in order."""
        columns = ["assay", "specimen", "analyte", "level_unit"]
        rows = self.table("observations")
        rows = rows[rows["level_unit"] != ""]
        return rows[columns].drop_duplicates(["assay", "specimen"]).sort_values(columns, ignore_index=True)


@dataclass(frozen=True)
class Context:
    """What is the same for every item of one report.

    Parameters
    ----------
    settings : Settings
        The merged configuration.
    version : str
        Version of the program.
    """

    settings: Settings
    version: str

    @property
    def language(self) -> str:
        """Language of titles, en or zh."""
        return self.settings.report.language
