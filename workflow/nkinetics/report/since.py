"""What changed since the data cut before this one, as the first screen and the brief tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nkinetics.provenance import changes
from nkinetics.results import Context, Results
from nkinetics.store import records
from nkinetics.tables._nca import AUC_WINDOW
from nkinetics.wording import (
    Words,
    days,
    exposure_title,
    missing,
    profile_name,
    profiles,
    signed,
    significant,
    verdict_words,
)

EXPOSURES = (("cmax", "overall"), ("auc_int", AUC_WINDOW))
LARGEST = 6
"""So many of the largest changes of exposure stand in the brief; changes.csv has all."""


@dataclass(frozen=True)
class Since:
    """The section as the page shows it.

    Parameters
    ----------
    line : str
        One sentence for the first screen; says that no earlier cut is named where none is.
    rows : list of tuple
        What, before, now, of the brief's table; empty where there is nothing to compare.
    """

    line: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)


def since(results: Results, context: Context, s: Mapping[str, Any]) -> Since:
    """What changed, from changes.csv.

    Parameters
    ----------
    results : Results
        Canonical tables of this cut.
    context : Context
        The configuration; without ``report.previous`` a table that lies there from an earlier run is not read.
    s : mapping
        The page's words.
    """
    if context.settings.report.previous is None:
        return Since(s["since_none"])
    table = results.table("changes")
    if not len(table):
        return Since(s["since_not_made"])
    of, words = changes.summary(table), Words(context.language)
    old = of.old_cut or s["none_set"]
    if len(table) == 1:
        return Since(s["since_nothing"].format(cut=old))
    line = s["since_line"].format(
        cut=old,
        patients=len(of.patients_added),
        samples=of.samples_added,
        changed=of.samples_changed + of.samples_removed,
        conclusions=len(of.conclusions),
    )
    rows = [(s["data_cut"], old, of.new_cut or s["none_set"])]
    rows.append((s["since_patients"], words.join(of.patients_removed), words.join(of.patients_added)))
    counts = {"added": of.samples_added, "removed": of.samples_removed, "changed": of.samples_changed}
    rows.append((s["since_samples"], "", s["since_counts"].format(**counts)))
    rows.append(
        (
            s["since_exclusions"],
            "",
            s["since_counts_two"].format(added=of.exclusions_added, removed=of.exclusions_removed),
        )
    )
    if of.settings_changed:
        keys = list(table.loc[table["part"] == "settings", "item"])
        rows.append((s["since_settings"], "", s["since_settings_text"].format(n=len(keys), keys=_few(words, keys))))
    program = table[table["part"] == "program"]
    if len(program):
        rows.append((s["since_program"], *(_few(words, _versions(program, side)) for side in ("old", "new"))))
    rows += [_conclusion(row, context, s) for row in records(_told_first(of.conclusions, results))]
    exposed = _exposures(table, results, context, s)
    return Since(line, rows + (exposed or [(s["since_exposures"], "", s["since_exposures_none"])]))


def _few(words: Words, names: list[str], n: int = 6) -> str:
    more = len(names) - n
    return words.join([*names[:n], *([words.say(f"{more} more", f"另 {more} 项")] if more > 0 else [])])


def _versions(program: pd.DataFrame, side: str) -> list[str]:
    return [f"{row['item']} {row[side] or '–'}" for row in records(program)]


def _told_first(conclusions: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Answers by dose level first; of the others those of the assay that the brief leads with, of its exposures."""
    kinds = profiles(results)
    answer = conclusions["item"].str.startswith("answer ")
    if not len(kinds):
        return conclusions[answer]
    first = (conclusions["assay"] == kinds["assay"].iloc[0]) & (conclusions["specimen"] == kinds["specimen"].iloc[0])
    shown = [f" {parameter} {window} " for parameter, window in EXPOSURES]
    other = conclusions["item"].str.startswith("dose proportionality ")
    other &= ~conclusions["item"].map(lambda item: any(name in item for name in shown)).astype(bool)
    return pd.concat([conclusions[answer], conclusions[~answer & first & ~other]])


def _conclusion(row: Mapping[str, Any], context: Context, s: Mapping[str, Any]) -> tuple[str, str, str]:
    """What, before and now of one conclusion; the item says what it is about in words that `changes` writes."""
    words, item = Words(context.language), str(row["item"])
    old, new = str(row["old"]), str(row["new"])
    answer, median, proportionality = s["since_answer"], s["since_median"], s["since_proportionality"]
    if item.startswith("answer "):
        what = f"{answer}, {item.removeprefix('answer ')}"
    elif item.startswith("median persistence "):
        limit, level = item.removeprefix("median persistence ").split(" ", 1)
        who = s["everyone"] if level == "all" else level
        what = f"{median.format(limit=limit.upper())}, {who}"
        old, new = (days(float(text)) if text else "" for text in (old, new))
    elif item.startswith("dose proportionality "):
        analysis, parameter, window, level = item.removeprefix("dose proportionality ").split(" ", 3)
        kind = s["since_analysis"].get(analysis, analysis)
        of = "" if level == "all" else f", {level}"
        what = f"{proportionality}, {exposure_title(words, window, parameter)} ({kind}{of})"
        old, new = (verdict_words(words, text) for text in (old, new))
    else:
        what = str(s["since_structure"])
    note = f" ({row['note']})" if row["note"] and not new else ""
    return what, old or "–", (new or "–") + note


def _exposures(
    table: pd.DataFrame, results: Results, context: Context, s: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """The largest changes of Cmax and AUC in the assay that the brief leads with; numbers that came and went first."""
    kinds, words = profiles(results), Words(context.language)
    if not len(kinds):
        return []
    kind = kinds.iloc[0]
    names = {f"{parameter} {window}": exposure_title(words, window, parameter) for parameter, window in EXPOSURES}
    rows = []
    for row in records(changes.largest(table, names, kind["assay"], kind["specimen"], LARGEST)):
        what = f"{s['patient']} {row['patient_id']}, {names[row['item']]}"
        where = profile_name(context, kind["assay"], kind["specimen"], str(row["unit"]))
        old, new = (significant(float(row[side])) if row[side] else "–" for side in ("old", "new"))
        if not missing(row["relative_change"]):
            size = 100 * row["relative_change"]
            new += f" ({'+' if size > 0 else ''}{signed(size)} %)"
        elif row["note"]:
            new += f" ({row['note']})"
        rows.append((f"{what}, {where}", old, new))
    return rows
