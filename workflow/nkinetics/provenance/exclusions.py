"""What was left out of a run, by whom and why, as a trail in which every entry seals the one before it.

Each entry is a line of JSON and carries ``previous``, the hash of the line before it, and ``hash``, the sha256 of
``previous`` and of its own content. An entry that is changed, taken out, put in or moved breaks the trail there.

The trail is computed from the inputs of a run, in sorted order: the same inputs give the same bytes, so it holds the
exclusions of this run and no clock. It does not grow from run to run; `nkinetics.provenance.changes` tells which
exclusions came and went between two data cuts, and the manifest of a cut names the head of the cut before it.

Limits: a hash is no signature. Who rewrites the whole file can compute every hash anew, and lines cut off at the end
leave a trail that is sound as far as it goes. Both show only against a copy of the head kept elsewhere: it stands in
run_manifest.json and in the report, and belongs into the signed minutes. "Who" is what the inputs tell: a rule of the
program, a choice of the configuration, the operator of the instrument, the laboratory; the program knows no names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nkinetics.store import row_ranges

if TYPE_CHECKING:
    import pandas as pd

    from nkinetics.settings import Settings

FILE = "exclusions.jsonl"
GENESIS = "0" * 64
"""What the first entry names as the hash before it."""

DECIDED: tuple[tuple[str, str, str], ...] = (
    ("omitted by the operator", "operator", "the instrument software"),
    ("inputs.ignore_samples", "configuration", "inputs.ignore_samples"),
    ("after_subsequent_therapy", "rule", "study.keep_after_therapy"),
    ("after the data cut", "configuration", "study.data_cut"),
    ("run not accepted", "rule", "acceptance"),
    ("replicate CV", "rule", "acceptance"),
    ("the listing says", "laboratory", "the listing"),
    ("not done", "laboratory", "samples.csv"),
    ("pending: not assayed yet", "laboratory", "samples.csv"),
    ("duplicate of", "rule", "an export read twice counts once"),
    ("not read: ", "rule", "an export that cannot be read is set aside whole"),
)
"""Who decides, by the words in which a stage says why: (words, who, by what); without such words a rule."""


def decided(reason: str) -> tuple[str, str]:
    """Who left something out, and by what, from the reason as a stage words it; of several the first that stands.

    Examples
    --------
    >>> decided("omitted by the operator in the instrument software")
    ('operator', 'the instrument software')
    >>> decided("gate Lymphocytes is not needed")
    ('rule', '')
    """
    found = [(reason.index(words), who, what) for words, who, what in DECIDED if words in reason]
    return min(found)[1:] if found else ("rule", "")


def entries(
    ingest: pd.DataFrame, runs: pd.DataFrame, observations: pd.DataFrame, settings: Settings
) -> list[dict[str, Any]]:
    """Everything that was left out, without hashes, in sorted order.

    Parameters
    ----------
    ingest, runs, observations : DataFrame
        Canonical tables of a run.
    settings : Settings
        The configuration of the run.

    Returns
    -------
    list of dict
        Of the kinds ``file`` (an export set aside whole), ``rows`` (rows of an export set aside for one reason),
        ``run`` (an assay run not accepted), ``result`` (a result that is not analysed) and ``points`` (points of a
        terminal fit chosen by hand), each with its reason and who decided. A patient without any sample is no
        exclusion.
    """
    found: list[dict[str, Any]] = []
    aside = ingest[~ingest["used"].fillna(False).astype(bool)]
    whole = aside["source_row"].isna()
    for row in aside[whole].itertuples():
        found.append(_entry("file", str(row.reason), source_file=row.source_file, source_sha256=row.source_sha256))
    for (file, digest, reason), own in aside[~whole].groupby(["source_file", "source_sha256", "reason"], sort=True):
        numbers = [int(n) for n in own["source_row"]]
        where = {"source_file": file, "source_sha256": digest, "rows": row_ranges(numbers, "-"), "n": len(set(numbers))}
        found.append(_entry("rows", str(reason), **where))
    refused = runs[~runs["accepted"].fillna(False).astype(bool)]
    for row in refused.itertuples():
        of = {"run_id": row.run_id, "assay": row.assay, "target": row.target, "source_file": row.source_file}
        found.append(_entry("run", str(row.reason), **of) | _acceptance(str(row.assay)))
    left = observations[~observations["reportable"].fillna(False).astype(bool)]
    for row in left[~((left["status"] == "not_done") & (left["sample_id"] == ""))].itertuples():
        names = ("patient_id", "assay", "specimen", "sample_id", "run_id", "observation_id", "status")
        of = {name: getattr(row, name) for name in names}
        said = _entry("result", str(row.exclusion_reason), **of)
        found.append(said | _acceptance(str(row.assay)) if said["by"] == "acceptance" else said)
    for point in settings.nca.lambda_z.manual:
        chosen = point.model_dump(mode="json", include={"patient_id", "assay", "specimen", "window"})
        chosen |= {"included": list(point.include), "excluded": list(point.exclude)}
        made = {"decided_by": "configuration", "by": "nca.lambda_z.manual"}
        found.append(_entry("points", point.reason, **chosen) | made)
    return sorted(found, key=_content)


def _entry(kind: str, reason: str, **where: object) -> dict[str, Any]:
    who, what = decided(reason)
    return {"kind": kind, **where, "reason": reason, "decided_by": who, "by": what}


def _acceptance(assay: str) -> dict[str, str]:
    """The section of the configuration that holds the criteria of an assay's runs."""
    return {"decided_by": "rule", "by": f"assays.{assay}.acceptance"}


def _content(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True, ensure_ascii=False)


def _hash(previous: str, entry: Mapping[str, Any]) -> str:
    bare = {k: v for k, v in entry.items() if k not in ("previous", "hash")}
    return hashlib.sha256(f"{previous}\n{_content(bare)}".encode()).hexdigest()


def sealed(plain: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries numbered from 1, each with the hash of the one before it and its own.

    Examples
    --------
    >>> trail = sealed([{"reason": "a"}, {"reason": "b"}])
    >>> [e["entry"] for e in trail], trail[1]["previous"] == trail[0]["hash"], broken(trail)
    ([1, 2], True, [])
    >>> trail[0]["reason"] = "c"
    >>> broken(trail)
    [(1, 'the content does not give its hash')]
    """
    trail: list[dict[str, Any]] = []
    for number, entry in enumerate(plain, start=1):
        previous = trail[-1]["hash"] if trail else GENESIS
        numbered = {"entry": number, **entry}
        trail.append({**numbered, "previous": previous, "hash": _hash(previous, numbered)})
    return trail


def head(trail: Sequence[Mapping[str, Any]]) -> str:
    """Hash of the last entry: it stands for the whole trail."""
    return str(trail[-1]["hash"]) if trail else GENESIS


def broken(trail: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Places (line, from 1) at which the trail does not hold, and how; empty for a sound one."""
    found, previous = [], GENESIS
    for line, entry in enumerate(trail, start=1):
        if entry.get("previous") != previous:
            found.append((line, "an entry before it was taken out, put in or moved"))
        elif entry.get("hash") != _hash(previous, entry):
            found.append((line, "the content does not give its hash"))
        previous = str(entry.get("hash"))
    return found


def text(trail: Iterable[Mapping[str, Any]]) -> str:
    """The trail as JSON lines."""
    return "".join(_content(entry) + "\n" for entry in trail)


def parsed(content: str) -> list[dict[str, Any]]:
    """The trail from JSON lines; a line that is no JSON object becomes an entry that cannot hold.

    Examples
    --------
    >>> trail = sealed([{"reason": "a"}])
    >>> parsed(text(trail)) == trail, broken(parsed("half a li"))
    (True, [(1, 'an entry before it was taken out, put in or moved')])
    """
    made = []
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = None
        made.append(entry if isinstance(entry, dict) else {"unreadable": line})
    return made
