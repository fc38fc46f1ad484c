"""The CDISC package: data sets of SDTM, ADaM and for population models, with metadata, checks and a guide.

A module of this package whose name does not begin with an underscore is one data set and exports DATASET.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nkinetics.cdisc import _checks, _guide
from nkinetics.cdisc._model import Dataset, Source
from nkinetics.errors import InputError, Problem
from nkinetics.plugins import discover
from nkinetics.results import Context, Results
from nkinetics.store import csv_text, write_bytes, write_text

NO_CUT = "1960-01-01"
"""Date inside the files of a study without a data cut: no clock may enter them."""

NEEDED = ("observations", "nca", "nca_points", "persistence_patients")
"""Canonical tables without which there is no package."""


@dataclass(frozen=True)
class Package:
    """All data sets of a study with what the checks found.

    Parameters
    ----------
    made : mapping
        By name, as PC: description and records.
    findings : mapping
        By check: what it found.
    source : Source
        What they were made of.
    """

    made: Mapping[str, tuple[Dataset, pd.DataFrame]]
    findings: Mapping[str, list[_checks.Finding]]
    source: Source

    @property
    def moment(self) -> str:
        """Date and time inside the files: the data cut at midnight."""
        return f"{self.source.context.settings.study.data_cut or NO_CUT}T00:00:00"

    def of(self, standard: str) -> list[tuple[Dataset, pd.DataFrame]]:
        """Data sets of one folder, in alphabetical order."""
        return [pair for _, pair in sorted(self.made.items()) if pair[0].standard == standard]

    @property
    def contents(self) -> pd.DataFrame:
        """One row per data set: what it is and how large."""
        rows = [
            {
                "dataset": item.name,
                "label": item.label,
                "standard": item.standard,
                "class": item.category,
                "structure": item.structure,
                "records": len(frame),
                "variables": len(item.variables),
                "keys": " ".join(item.keys),
                "file": f"{item.standard}/{item.file}.{'csv' if item.standard == 'pharmacometrics' else 'xpt'}",
            }
            for standard in ("sdtm", "adam", "pharmacometrics")
            for item, frame in self.of(standard)
        ]
        return pd.DataFrame(rows)

    @property
    def checks(self) -> pd.DataFrame:
        """One row per finding, and one per check that found nothing."""
        rows = []
        for check in _checks.CHECKS:
            for one in self.findings[check.id]:
                rows.append(
                    {
                        "check": check.id,
                        "title": check.title,
                        "result": "note" if one.note else "error",
                        "dataset": one.dataset,
                        "variable": one.variable,
                        "records": one.records,
                        "found": one.found,
                        "expected": one.expected,
                        "why_it_stays": check.why if one.note else "",
                    }
                )
            if not self.findings[check.id]:
                rows.append({"check": check.id, "title": check.title, "result": "passed", "records": 0})
        columns = ["check", "title", "result", "dataset", "variable", "records", "found", "expected", "why_it_stays"]
        return pd.DataFrame(rows, columns=columns).fillna("")

    @property
    def errors(self) -> int:
        """Findings that are defects."""
        return sum(not one.note for found in self.findings.values() for one in found)


def build(results: Results, context: Context) -> Package:
    """Make and check every data set of the package.

    Parameters
    ----------
    results : Results
        Folder of results: observations, parameters with their points, persistence, and the tables of the study.
    context : Context
        Settings and version.

    Raises
    ------
    InputError
        When a canonical table is missing.
    """
    gone = [name for name in NEEDED if not results.path(name).is_file()]
    if gone or not len(results.table("patients")):
        mend = "run the workflow first, or name the results folder with --results"
        paths = [results.path(name) for name in gone] or [results.path("patients")]
        found = "no such file" if gone else "no patient"
        raise InputError(
            [Problem(p.as_posix(), found=found, expected=f"the {p.name} of a run", mend=mend) for p in paths]
        )
    source = Source(results, context)
    made = {item.name: (item, source.dataset(name)) for name, item in discover("cdisc").items()}
    return Package(made, _checks.findings(made), source)


def require_libraries() -> None:
    """Say how to install what the package is written with, where it is not there.

    Raises
    ------
    InputError
        When pyreadstat or odmlib is not installed.
    """
    from importlib.util import find_spec

    gone = [name for name in ("pyreadstat", "odmlib") if find_spec(name) is None]
    if gone:
        mend = 'install them: pip install "nkinetics[cdisc]"'
        raise InputError(
            Problem("nkinetics cdisc", found=f"no {' and no '.join(gone)}", expected="the extra cdisc", mend=mend)
        )


def write(package: Package, folder: Path) -> None:
    """Write the package: sdtm/, adam/, pharmacometrics/, contents.csv, checks.csv, reviewers_guide.md.

    Parameters
    ----------
    package : Package
        From `build`.
    folder : Path
        Where to; files of the same names are replaced one by one.

    Raises
    ------
    InputError
        When a library of the extra cdisc is not installed.
    """
    require_libraries()
    from nkinetics.cdisc import _dataset_json, _define, _xpt

    context = package.source.context
    study = {"id": context.settings.study.id, "title": context.settings.study.title}
    for standard in ("sdtm", "adam"):
        made = package.of(standard)
        for item, frame in made:
            write_bytes(folder / standard / f"{item.file}.xpt", _xpt.content(item, frame, package.moment))
            text = _dataset_json.content(item, frame, study["id"], package.moment, context.version)
            write_bytes(folder / standard / f"{item.file}.json", text)
        text = _define.content(made, standard, study, package.moment, context.version)
        write_bytes(folder / standard / "define.xml", text)
    for item, frame in package.of("pharmacometrics"):
        write_text(folder / item.standard / f"{item.file}.csv", delimited(item, frame))
    write_text(folder / "contents.csv", csv_text(package.contents))
    write_text(folder / "checks.csv", csv_text(package.checks))
    write_text(folder / "reviewers_guide.md", _guide.text(package.made, package.findings, package.source))


def summary(package: Package) -> str:
    """One line: data sets, variables, records, checks, findings."""
    contents = package.contents
    notes = sum(one.note for found in package.findings.values() for one in found)
    return (
        f"{len(contents)} data sets, {contents['variables'].sum()} variables, {contents['records'].sum()} records; "
        f"{len(_checks.CHECKS)} checks: {package.errors} errors, {notes} departures that stay (reviewers_guide.md)"
    )


def delimited(item: Dataset, frame: pd.DataFrame) -> str:
    """A table for population programs as CSV: a missing number is a point, as NONMEM, Monolix and nlmixr2 read it.

    Examples
    --------
    >>> from nkinetics.cdisc.poppk import DATASET
    >>> print(delimited(DATASET, pd.DataFrame({"ID": [1.0], "TIME": [0.5], "DV": [float("nan")]})), end="")
    ID,TIME,DV
    1,0.5,.
    """
    columns = {
        name: values if values.dtype == "str" else [f"{v:.10g}" if v == v else "." for v in values]
        for name, values in frame.items()
    }
    return csv_text(pd.DataFrame(columns))
