"""The protocol of a qualification: one page of facts, every control, the matrix of requirements, lines to sign."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from nkinetics.errors import InputError, Problem

TITLES = {
    "iq": "Installation qualification",
    "oq": "Operational qualification",
    "pq": "Performance qualification",
}
PURPOSE = {
    "iq": "Shows that the program stands in this environment as it was released: packages, code, command, files.",
    "oq": "Shows that the program computes what is known beforehand, and refuses what must be refused. "
    "Controls marked 'must fail' carry a planted defect: they are as required only where the criterion does not hold.",
    "pq": "Shows that the program gives the same results for this study whenever and wherever it is run.",
}


def requirements() -> dict[str, dict[str, Any]]:
    """Requirements with their texts and files of tests."""
    text = files("nkinetics.qualification").joinpath("requirements.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def junit(path: Path) -> dict[str, tuple[int, int, int]]:
    """Passed, failed and skipped tests of each file, from pytest's ``--junit-xml``.

    Raises
    ------
    InputError
        For a file that is not such a report.
    """
    import defusedxml.ElementTree as Safe

    try:
        root = Safe.parse(path).getroot()
        cases = [] if root is None else list(root.iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(
            Problem(path.name, found=str(error), expected="pytest's --junit-xml", mend="pytest --junit-xml=FILE")
        ) from None
    counts: dict[str, list[int]] = {}
    for case in cases:
        parts = (case.get("classname") or "").split(".")
        name = next((p for p in parts if p.startswith("test_")), None)
        if name is None:
            continue
        kinds = {child.tag for child in case}
        which = 1 if kinds & {"failure", "error"} else 2 if "skipped" in kinds else 0
        counts.setdefault(f"{name}.py", [0, 0, 0])[which] += 1
    return {name: (c[0], c[1], c[2]) for name, c in counts.items()}


def matrix(
    found: pd.DataFrame, tests: Mapping[str, tuple[int, int, int]] | None
) -> list[tuple[str, str, str, str, str]]:
    """Requirement, its text, controls with results, tests with results, and the verdict of the row.

    Parameters
    ----------
    found : DataFrame
        Controls as `nkinetics.qualification.table` gives them.
    tests : mapping, optional
        As `junit` gives them; without it tests are named without a result.
    """
    rows = []
    for name, requirement in requirements().items():
        own = found[found["requirement"] == name]
        controls = "; ".join(
            f"{r.control} {'as required' if r.as_required else 'NOT as required'}" for r in own.itertuples()
        )
        told, failed = [], not own["as_required"].fillna(False).all() if len(own) else False
        for file in requirement["tests"]:
            passed, wrong, skipped = (tests or {}).get(file, (0, 0, 0))
            failed = failed or wrong > 0
            told.append(f"{file}: {passed} passed, {wrong} failed, {skipped} skipped" if tests is not None else file)
        shown = bool(len(own)) or any((tests or {}).get(f, (0, 0, 0))[0] for f in requirement["tests"])
        verdict = "not met" if failed else "met" if shown else "not examined here"
        rows.append((name, requirement["text"], controls or "–", "; ".join(told), verdict))
    return rows


def html(
    kind: str,
    found: pd.DataFrame,
    facts: Sequence[tuple[str, str]],
    tests: Mapping[str, tuple[int, int, int]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The protocol as one HTML page that WeasyPrint prints.

    Parameters
    ----------
    kind : {"iq", "oq", "pq"}
        Which qualification.
    found : DataFrame
        Controls with their outcomes.
    facts : sequence of (name, value)
        Program, environment, study.
    tests : mapping, optional
        Results of the tests, see `junit`.
    notes : sequence of str
        What was not carried out, and why.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = files("nkinetics.qualification").joinpath("qualification.html.j2").read_text(encoding="utf-8")
    rows = list(found.itertuples(index=False))
    texts = requirements()
    return environment.from_string(template).render(
        title=TITLES[kind],
        purpose=PURPOSE[kind],
        facts=facts,
        rows=rows,
        texts={name: requirement["text"] for name, requirement in texts.items()},
        n=len(rows),
        n_required=int(found["as_required"].fillna(False).sum()),
        n_fail=sum(row.must == "fail" for row in rows),
        deviations=[row for row in rows if not row.as_required],
        matrix=matrix(found, tests) if kind == "oq" else [],
        notes=notes,
    )


def pdf(page: str) -> bytes | None:
    """The protocol as PDF; None where this machine cannot write it: the HTML prints as well."""
    from nkinetics.optional import pdf_lacks
    from nkinetics.report.pdf import written

    return None if pdf_lacks() else written(page, {})
