"""What every quantification gives: levels with their limits, the runs behind them, and the fate of each raw row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nkinetics.columns import CALIBRATORS, RUNS, Column, Schema
from nkinetics.quantify.wells import Wells
from nkinetics.store import complete, empty

LEVELS = Schema(
    "levels",
    "one row per assay, run and sample, before patient and time are joined; exists in memory only",
    ("assay", "run_id", "sample_id"),
    (
        Column("assay", "text", "assay"),
        Column("run_id", "text", "assay run"),
        Column("sample_id", "text", "sample, as in the manifest"),
        Column("analyte", "text", "what was measured"),
        Column("level", "float", "level; empty unless quantified"),
        Column("level_unit", "text", "unit of level and limits"),
        Column("lod", "float", "limit of detection"),
        Column("detected", "bool", "a signal was seen in at least one replicate"),
        Column("lloq", "float", "lower limit of quantification"),
        Column("uloq", "float", "upper limit of quantification"),
        Column("status", "text", "what became of the measurement"),
        Column("n_molecules", "float", "n such that counting gives the level a relative variance of 1/n"),
        Column("n_replicates", "int", "replicates used"),
        Column("cv_pct", "float", "coefficient of variation of the replicates", "%"),
        Column("cv_limit_pct", "float", "largest CV allowed; empty where no rule applies to the level", "%"),
        Column("exclusion_reason", "text", "why the level cannot be reported"),
        Column("source_sha256", "text", "content hashes of the exports, separated by spaces"),
        Column("source_rows", "text", "rows of the exports, separated by spaces"),
    ),
)

SOURCES = Schema(
    "level_sources",
    "one row per level and raw row behind it",
    ("assay", "run_id", "sample_id", "role", "source_file", "source_row"),
    (
        Column("assay", "text", "assay"),
        Column("run_id", "text", "assay run"),
        Column("sample_id", "text", "sample"),
        Column("source_sha256", "text", "content hash of the export"),
        Column("source_file", "text", "export"),
        Column("source_row", "int", "row in the export"),
        Column("role", "text", "replicate, standard, ntc or reference"),
    ),
)


@dataclass(frozen=True)
class Need:
    """A value that the sample manifest lacks and a level cannot be made without."""

    sample_id: str
    column: str
    why: str


@dataclass(frozen=True)
class Quantified:
    """Outcome of one assay.

    Parameters
    ----------
    levels : DataFrame
        `LEVELS`.
    runs : DataFrame
        `nkinetics.columns.RUNS`.
    sources : DataFrame
        `SOURCES`.
    set_aside : mapping of int to str
        Reason by index label of the raw rows; every other raw row given was used.
    needs : tuple of Need
        What the manifest lacks.
    problems : tuple of str
        What the configuration must settle before levels can be made (a gate that is not found, ...).
    warnings : tuple of str
        What to know, a sentence each.
    roles : mapping of int to str
        Role by index label where quantification knows better than the export (reference).
    calibrators : DataFrame
        `nkinetics.columns.CALIBRATORS`; empty for assays without a curve.
    """

    levels: pd.DataFrame
    runs: pd.DataFrame
    sources: pd.DataFrame
    set_aside: Mapping[int, str]
    needs: tuple[Need, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    roles: Mapping[int, str] = field(default_factory=dict)
    calibrators: pd.DataFrame = field(default_factory=lambda: empty(CALIBRATORS))


def frame_of(rows: Iterable[Mapping[str, object]], schema: Schema) -> pd.DataFrame:
    """Rows as a complete frame of the schema, sorted by its key; without rows an empty one."""
    return complete(pd.DataFrame(list(rows), columns=schema.names), schema)


@dataclass(frozen=True)
class Behind:
    """Raw rows behind one level, in one role: the rows of `SOURCES` before they are written out."""

    assay: str
    run_id: str
    sample_id: str
    role: str
    wells: Wells


def _sources(pieces: Sequence[Behind]) -> pd.DataFrame:
    if not pieces:
        return empty(SOURCES)
    sizes = [len(piece.wells) for piece in pieces]
    named = ("assay", "run_id", "sample_id", "role")
    columns = {n: np.repeat(np.array([getattr(p, n) for p in pieces], dtype=object), sizes) for n in named}
    columns |= {
        name: np.concatenate([piece.wells[name] for piece in pieces])
        for name in ("source_sha256", "source_file", "source_row")
    }
    return complete(pd.DataFrame(columns), SOURCES)


def outcome(
    levels: list[dict[str, object]],
    runs: list[dict[str, object]],
    sources: Sequence[Behind],
    set_aside: Mapping[int, str],
    **more: object,
) -> Quantified:
    """`Quantified` from plain rows."""
    return Quantified(
        frame_of(levels, LEVELS),
        frame_of(runs, RUNS),
        _sources(sources),
        dict(set_aside),
        **more,  # type: ignore[arg-type]
    )


def provenance(wells: Wells) -> dict[str, str]:
    """Hashes and row numbers of raw rows, as `observations.csv` holds them."""
    rows = zip(*(wells[name].tolist() for name in ("source_file", "source_row", "source_sha256")), strict=True)
    placed = sorted(rows, key=lambda row: row[:2])
    return {
        "source_sha256": " ".join(dict.fromkeys(sha for _, _, sha in placed)),
        "source_rows": " ".join(dict.fromkeys(str(row) for _, row, _ in placed)),
    }


def cv_pct(values: np.ndarray) -> float:
    """Coefficient of variation [%] with n - 1 in the denominator; NaN for fewer than two values or a mean of 0.

    Examples
    --------
    >>> round(cv_pct(np.array([90.0, 100.0, 110.0])), 6)
    10.0
    """
    if len(values) < 2 or not values.mean() > 0:
        return math.nan
    return float(100 * values.std(ddof=1) / values.mean())


def run_facts(wells: Wells, set_aside: Mapping[int, str]) -> dict[str, object]:
    """What the row of runs.csv says of any run: its exports, its date, its wells and those used.

    Parameters
    ----------
    wells : Wells
        Usable raw rows of one run and target.
    set_aside : mapping of int to str
        Reason by index label, complete for these rows.
    """
    return {
        "source_file": " ".join(dict.fromkeys(wells["source_file"])),
        "run_date": max(wells["run_date"], default=""),
        "n_wells": len(wells),
        "n_wells_used": sum(label not in set_aside for label in wells.index.tolist()),
    }


def spread(levels: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """What the row of runs.csv says of the replicates: samples with a CV rule, median and largest CV, those above.

    Examples
    --------
    >>> judged = [{"cv_pct": 10.0, "cv_limit_pct": 25.0}, {"cv_pct": 30.0, "cv_limit_pct": 25.0}]
    >>> made = spread([*judged, {"cv_pct": 99.0}])
    >>> made["n_cv"], made["cv_median_pct"], made["cv_worst_pct"], made["n_cv_above"]
    (2, 20.0, 30.0, 1)
    """
    pairs = [(float(one["cv_pct"]), float(one.get("cv_limit_pct", math.nan))) for one in levels]  # type: ignore[arg-type]
    judged = [(cv, limit) for cv, limit in pairs if not math.isnan(cv) and not math.isnan(limit)]
    values = [cv for cv, _ in judged]
    return {
        "n_cv": len(judged),
        "cv_median_pct": float(np.median(values)) if values else math.nan,
        "cv_worst_pct": max(values, default=math.nan),
        "n_cv_above": sum(cv > limit for cv, limit in judged),
    }


def unusable(raw: pd.DataFrame) -> dict[int, str]:
    """Reason by index label of the rows that no quantification may use, whatever the assay."""
    reasons: dict[int, str] = {}
    columns = ("role", "note", "omitted", "sample_id", "patient_id")
    for label, role, note, omitted, sample, patient in zip(raw.index, *(raw[c] for c in columns), strict=True):
        if omitted is not pd.NA and omitted:
            reasons[label] = "omitted by the operator in the instrument software"
        elif note:
            reasons[label] = note
        elif role in ("summary", "empty", "control"):
            reasons[label] = {
                "summary": "summary row",
                "empty": "empty well",
                "control": "control well; no acceptance rule uses it",
            }[role]
        elif role == "unknown" and not sample and not patient:
            reasons[label] = "no sample name in the export"
    return reasons
