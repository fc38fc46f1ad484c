"""What the explanations of a number share, whatever stage made it: arithmetic as text, the wells behind a level.

The stages do not know each other; the words of their explanations are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from nkinetics.errors import Problem, nearest

NAN = float("nan")


@dataclass(frozen=True)
class Step:
    """One line of an explanation.

    Parameters
    ----------
    text : str
        The rule in words.
    symbol : str
        Name of the result, which later steps use; empty for a remark without arithmetic.
    formula : str
        The arithmetic with its numbers and earlier symbols; ``^`` is a power.
    value : float
        What it comes to.
    """

    text: str
    symbol: str = ""
    formula: str = ""
    value: float = NAN


def n(value: float) -> str:
    """A number as it stands in the result files; in brackets where negative.

    Examples
    --------
    >>> n(0.1 + 0.2), n(-2.0), n(1200000.0)
    ('0.3', '(-2)', '1200000')
    """
    text = f"{value + 0.0:.10g}"
    return f"({text})" if value < 0 else text


def step_line(step: Step) -> str:
    """One step as a line of text.

    Examples
    --------
    >>> step_line(Step("half-life", "half_life", "ln(2) / lambda_z", 2.0))
    'half_life: half-life: ln(2) / lambda_z = 2'
    """
    if not step.symbol:
        return step.text
    shown = n(step.value).strip("()")
    made = shown if step.formula in (shown, n(step.value)) else f"{step.formula} = {shown}"
    return f"{step.symbol}: {step.text}: {made}"


def unknown(what: str, word: str, words: Iterable[str]) -> list[Problem]:
    """The problem of a user's word that is none of the known ones; none where it is."""
    known = sorted(set(words))
    if word in known:
        return []
    near = nearest(word, known)
    listed = ", ".join(known[:40]) + (" ..." if len(known) > 40 else "")
    mend = f"did you mean {near}?" if near else "name one of these"
    return [Problem("explain", column=what, found=repr(word), expected=f"one of {listed}", mend=mend)]


def wells(sources: pd.DataFrame, ingest: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Behind each observation one line per export: its rows and wells, the values as exported, which were set aside.

    Parameters
    ----------
    sources : DataFrame
        As `nkinetics.columns.OBSERVATION_SOURCES`.
    ingest : DataFrame
        As `nkinetics.columns.INGEST`.
    """
    key = ["source_sha256", "source_file", "source_row"]
    behind = sources[(sources["role"] == "replicate") & sources["source_row"].notna()]
    rows = ingest[~ingest["role"].isin(("reference", "standard", "ntc"))]
    merged = behind[["observation_id", *key]].drop_duplicates().merge(rows, on=key, how="left")
    found: dict[str, dict[str, list[str]]] = {}
    for row in merged.sort_values([*key, "well", "target"]).itertuples():
        parts = [f"row {row.source_row}"]
        parts += [f"well {row.well}"] if isinstance(row.well, str) and row.well else []
        parts += [str(row.target).rsplit("/", 1)[-1]] if isinstance(row.target, str) and row.target else []
        value = str(row.value_raw) if isinstance(row.value_raw, str) and row.value_raw else "empty"
        aside = "" if pd.isna(row.used) or bool(row.used) else f" (set aside: {row.reason})"
        files = found.setdefault(str(row.observation_id), {})
        files.setdefault(str(row.source_file), []).append(f"{' '.join(parts)} {value}{aside}")
    return {
        observation: tuple(f"{file}: {'; '.join(rows)}" for file, rows in files.items())
        for observation, files in found.items()
    }
