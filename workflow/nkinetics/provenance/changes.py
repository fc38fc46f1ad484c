"""What differs between two data cuts of one study: patients, samples, numbers, conclusions, exclusions, settings.

Rows are paired by what they are about (a patient, assay, specimen, sample ...), never by their place in a file. A
number counts as changed from a relative difference of `TOLERANCE` on, so that the last digits of another computer are
no finding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import CHANGES
from nkinetics.errors import InputError, Problem, raise_any
from nkinetics.provenance import exclusions, folder_problems
from nkinetics.provenance.manifest import flat
from nkinetics.results import Results
from nkinetics.settings import Settings, load
from nkinetics.store import complete, empty, records

TOLERANCE = 1e-6
"""Relative difference from which on two numbers differ."""

PARTS = (
    *("study", "patients", "samples", "conclusions", "parameters", "models", "population"),
    *("runs", "exclusions", "settings", "program"),
)
"""Parts of the answer, in the order of telling."""

_PROFILE = ["patient_id", "assay", "specimen"]
_LISTED = 12
"""Lines of one part on the terminal."""


@dataclass(frozen=True)
class Cut:
    """One data cut as it is compared.

    Parameters
    ----------
    results : Results
        Its canonical tables.
    settings : Settings
        Its configuration.
    answers : mapping of str to str
        What the first screen of the report says, by dose level.
    program : mapping of str to str
        Versions of the program, of Python and of the libraries; empty where they are not known.
    """

    results: Results
    settings: Settings
    answers: Mapping[str, str] = field(default_factory=dict)
    program: Mapping[str, str] = field(default_factory=dict)

    @property
    def date(self) -> str:
        """The date of the cut as configured, or empty text."""
        return self.settings.study.data_cut or ""


def read_cuts(old: Path, new: Path) -> tuple[Cut, Cut]:
    """Two results folders of one study.

    Raises
    ------
    InputError
        When one is no results folder, or they belong to different studies.
    """
    raise_any([*folder_problems(old), *folder_problems(new)])
    cuts = tuple(Cut(Results(folder), load(folder / "run_config.yaml")) for folder in (old, new))
    studies = [cut.settings.study.id for cut in cuts]
    if studies[0] != studies[1]:
        where = (old / "run_config.yaml").as_posix()
        mend = "name two results folders of one study"
        raise InputError(Problem(where, None, "study.id", f"study {studies[0]}", f"study {studies[1]}", mend))
    return cuts[0], cuts[1]


# ------------------------------------------------------------------------------------------------------------- the core


def changes(old: Cut, new: Cut) -> pd.DataFrame:
    """Everything that differs between two cuts.

    Parameters
    ----------
    old, new : Cut
        The earlier cut and this one, of one study.

    Returns
    -------
    DataFrame
        Rows of changes.csv; the row study / data_cut is always there. Numbers as text with 10 digits and, where both
        are given, ``relative_change`` = new / old - 1. A number of a patient who is in one cut only counts as added or
        removed, one that was missing before as available, with the reason of then.
    """
    parts = [
        _study(old, new),
        _patients(old, new),
        _samples(old, new),
        _parameters(old, new),
        _models(old, new),
        _population(old, new),
        _conclusions(old, new),
        _runs(old, new),
        _exclusions(old, new),
        _mappings("settings", _flat(old.settings), _flat(new.settings)),
        _mappings("program", old.program, new.program) if old.program and new.program else [],
    ]
    rows = [row for part in parts for row in part]
    return complete(pd.DataFrame(rows, columns=CHANGES.names), CHANGES) if rows else empty(CHANGES)


def _row(part: str, item: str, old: object, new: object, change: str, **more: object) -> dict[str, Any]:
    return {"part": part, "item": item, "old": _text(old), "new": _text(new), "change": change, **more}


def _text(value: object) -> str:
    """A value as the table writes it: numbers with 10 digits, truth as true and false, the missing empty."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return f"{float(value) + 0.0:.10g}"
    return str(value)


def relative(old: float, new: float) -> float:
    """``new / old - 1``; not a number where that is none.

    Examples
    --------
    >>> relative(2.0, 3.0), relative(0.0, 1.0)
    (0.5, nan)
    """
    return new / old - 1 if old != 0 and np.isfinite(old) and np.isfinite(new) else float("nan")


def same_number(old: float, new: float) -> bool:
    """Whether two numbers agree to `TOLERANCE`, two missing ones included.

    Examples
    --------
    >>> same_number(100.0, 100.00001), same_number(100.0, 100.1), same_number(float("nan"), float("nan"))
    (True, False, True)
    """
    if np.isnan(old) or np.isnan(new):
        return bool(np.isnan(old) and np.isnan(new))
    return bool(abs(new - old) <= TOLERANCE * max(abs(old), abs(new)))


Sides = tuple[pd.DataFrame, pd.DataFrame]
"""One table of the earlier cut and of this one."""


def _sides(old: Cut, new: Cut, name: str) -> Sides:
    return old.results.table(name), new.results.table(name)


def _paired(sides: Sides, key: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of both tables side by side by their key; ``side`` is both, old or new."""
    columns = [*key, *values]
    old, new = (frame[columns] for frame in sides)
    both = old.merge(new, on=list(key), how="outer", suffixes=("_old", "_new"), indicator="side")
    names = {"both": "both", "left_only": "old", "right_only": "new"}
    return [row | {"side": names[str(row["side"])]} for row in records(both)]


_ONE_SIDED = {"old": "removed", "new": "added"}


def _differences(
    part: str,
    sides: Sides,
    key: Sequence[str],
    value: str,
    item: Sequence[str],
    *,
    number: bool = True,
    prefix: str = "",
    same_patients: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """Rows for one column of a table that both cuts have.

    `item` names the key columns that make the item; patient_id, assay and specimen have columns of their own. With
    `same_patients`, a row that only one cut has is a number that came or went for these, and simply new for others.
    """
    extra = [c for c in ("reason", "unit") if all(c in side.columns for side in sides)]
    found = []
    for row in _paired(sides, key, [value, *extra]):
        before, after = row[f"{value}_old"], row[f"{value}_new"]
        if number:
            before, after = _number(before), _number(after)
            if same_number(before, after):
                continue
            gone, there = bool(np.isnan(after)), bool(np.isnan(before))
        else:
            before, after = _text(before), _text(after)
            if before == after:
                continue
            gone, there = after == "", before == ""
        change, note = "changed", ""
        if there or gone:
            change = "available" if there else "missing"
            note = _text(row.get("reason_old" if there else "reason_new"))
            known = not same_patients or row.get("patient_id", "") in same_patients
            if row["side"] != "both" and (not known or "patient_id" not in row):
                change, note = _ONE_SIDED[row["side"]], ""
        words = [prefix, *(_text(row[c]) for c in item)]
        unit = _text(row.get("unit_new") if not gone else row.get("unit_old"))
        found.append(
            _row(part, " ".join(w for w in words if w), before, after, change, note=note, unit=unit)
            | {c: row[c] for c in _PROFILE if c in key}
            | ({"relative_change": relative(before, after)} if number else {})
        )
    return found


def _number(value: object) -> float:
    return float("nan") if value is None or value is pd.NA else float(value)  # type: ignore[arg-type]


def _unequal(sides: Sides) -> Sides:
    """Both tables without the rows that are the same, cell for cell, in both: most of them, and looked at at once."""
    old, new = sides
    columns = [c for c in old.columns if c in new.columns]
    twice = (
        pd.concat([old[columns], new[columns]], ignore_index=True).astype("object").duplicated(keep=False).to_numpy()
    )
    return old[~twice[: len(old)]], new[~twice[len(old) :]]


# ---------------------------------------------------------------------------------------------------------------- parts


def _study(old: Cut, new: Cut) -> list[dict[str, Any]]:
    return [_row("study", "data_cut", old.date, new.date, "same" if old.date == new.date else "changed")]


def _patients(old: Cut, new: Cut) -> list[dict[str, Any]]:
    sides = _sides(old, new, "patients")
    columns = [c for c in sides[1].columns if c in sides[0].columns and c != "patient_id"]
    found = []
    for row in _paired(sides, ["patient_id"], columns):
        patient = {"patient_id": row["patient_id"]}
        if row["side"] != "both":
            level = {s: row[f"dose_level_{s}"] if row["side"] == s else None for s in ("old", "new")}
            found.append(_row("patients", "dose_level", level["old"], level["new"], _ONE_SIDED[row["side"]], **patient))
            continue
        for column in columns:
            a, b = _text(row[f"{column}_old"]), _text(row[f"{column}_new"])
            if a != b:
                found.append(_row("patients", column, a, b, "changed", **patient))
    return found


def _samples(old: Cut, new: Cut) -> list[dict[str, Any]]:
    """Results by observation_id, then by sample key: a sample measured again on another run is the same sample."""
    before, after = (_measured(frame) for frame in _sides(old, new, "observations"))
    compared = ["status", "level", "lloq", "time_actual", "reportable", "exclusion_reason", "run_id"]
    shown, key = [*compared, "level_unit"], [*_PROFILE, "sample_id"]
    same = set(before["observation_id"]) & set(after["observation_id"])
    one, two = (frame[frame["observation_id"].isin(same)] for frame in (before, after))
    rows = _paired((one, two), ["observation_id", *key], shown)
    # A sample with one unpaired result on either side: the same sample from another run.
    left = [frame[~frame["observation_id"].isin(same)] for frame in (before, after)]
    one, two = (frame[~frame.duplicated(key, keep=False)] for frame in left)
    rows += _paired((one, two), key, shown)
    several = [frame[frame.duplicated(key, keep=False)] for frame in left]
    for frame, side in zip(several, ("old", "new"), strict=True):
        rows += [{f"{c}_{side}": r[c] for c in shown} | {c: r[c] for c in key} | {"side": side} for r in records(frame)]
    other = {side: set(map(tuple, f[key].to_numpy())) for side, f in (("old", after), ("new", before))}
    found = []
    for row in rows:
        where = {c: row[c] for c in _PROFILE}
        name = str(row["sample_id"]) or f"day {_text(row.get('time_actual_new', row.get('time_actual_old')))}"
        if row["side"] != "both":
            side = row["side"]
            result = _result({c: row[f"{c}_{side}"] for c in shown})
            again = tuple(row[c] for c in key) in other[side]
            note = f"another result of a sample, run {row[f'run_id_{side}']}" if again else ""
            was, now = (result, "") if side == "old" else ("", result)
            found.append(_row("samples", name, was, now, _ONE_SIDED[side], note=note, **where))
            continue
        for column in compared:
            a, b = row[f"{column}_old"], row[f"{column}_new"]
            number = isinstance(a, float) and isinstance(b, float)
            if same_number(a, b) if number else _text(a) == _text(b):
                continue
            turned = _text(row["reportable_old"]) != _text(row["reportable_new"])
            if column == "exclusion_reason" and turned:
                continue  # stands beside reportable
            of: dict[str, Any] = {"relative_change": relative(a, b)} if number else {}
            if column == "reportable":
                of["note"] = str(row["exclusion_reason_old"] or row["exclusion_reason_new"])
            unit = (
                _text(row["level_unit_new"]) if column in ("level", "lloq") else "d" if column == "time_actual" else ""
            )
            found.append(_row("samples", f"{name} {column}", a, b, "changed", unit=unit, **of, **where))
    return found


def _measured(observations: pd.DataFrame) -> pd.DataFrame:
    """Without the rows that stand for a patient who has no sample."""
    return observations[~((observations["status"] == "not_done") & (observations["sample_id"] == ""))]


def _result(row: Mapping[str, Any]) -> str:
    status = str(row["status"]).replace("_", " ")
    told = f"{_text(row['level'])} {row['level_unit']}" if status == "quantified" else status
    return told if bool(row["reportable"]) else f"{told}, not analysed: {row['exclusion_reason']}"


def _both_have(old: Cut, new: Cut) -> frozenset[str]:
    return frozenset(
        set(old.results.table("patients")["patient_id"]) & set(new.results.table("patients")["patient_id"])
    )


def _parameters(old: Cut, new: Cut) -> list[dict[str, Any]]:
    key, sides = [*_PROFILE, "window", "parameter"], _unequal(_sides(old, new, "nca"))
    both = _both_have(old, new)
    return _differences("parameters", sides, key, "value", ("parameter", "window"), same_patients=both)


def _models(old: Cut, new: Cut) -> list[dict[str, Any]]:
    key, both, found = [*_PROFILE, "model"], _both_have(old, new), []
    before, after = _unequal(_sides(old, new, "fits"))
    for column in ("converged", "identifiable", "selected", "at_bound"):
        one, two = (frame.assign(**{column: [_text(v) for v in frame[column]]}) for frame in (before, after))
        rows = _differences("models", (one, two), key, column, ("model",), number=False, same_patients=both)
        found += [row | {"item": f"{row['item']} {column}"} for row in rows]
    one, two = (frame[frame["kind"] != "fixed"] for frame in _sides(old, new, "estimates"))
    key, sides = [*key, "parameter"], _unequal((one, two))
    return found + _differences("models", sides, key, "estimate", ("model", "parameter"), same_patients=both)


def _population(old: Cut, new: Cut) -> list[dict[str, Any]]:
    key = ["assay", "specimen", "model", "method", "kind", "parameter"]
    return _differences("population", _sides(old, new, "population"), key, "estimate", key[2:])


def _conclusions(old: Cut, new: Cut) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for level in sorted({*old.answers, *new.answers}):
        found += _one("conclusions", f"answer {level}", old.answers.get(level, ""), new.answers.get(level, ""))
    key = ["assay", "specimen", "window", "parameter", "analysis", "dose_level"]
    # The reason names the patients left out; it is no reason of a verdict.
    one, two = (
        frame[frame["verdict"] != ""].drop(columns=["reason", "unit"])
        for frame in _sides(old, new, "dose_proportionality")
    )
    item, prefix = ("analysis", "parameter", "window", "dose_level"), "dose proportionality"
    found += _differences("conclusions", (one, two), key, "verdict", item, number=False, prefix=prefix)
    key = ["assay", "specimen", "limit", "dose_level"]
    one, two = (_medians(frame) for frame in _sides(old, new, "persistence"))
    rows = _differences("conclusions", (one, two), key, "median", key[2:], prefix="median persistence")
    found += [row | {"unit": "d"} for row in rows]
    before, after = _chosen(old), _chosen(new)
    for assay, specimen in sorted({*before, *after}):
        pair = (before.get((assay, specimen), ""), after.get((assay, specimen), ""))
        found += _one("conclusions", "chosen structure", *pair, assay=assay, specimen=specimen)
    return found


def _medians(persistence: pd.DataFrame) -> pd.DataFrame:
    """One row per curve: its median, and where there is none why."""
    rows = persistence.sort_values("time").drop_duplicates(["assay", "specimen", "limit", "dose_level"])
    none = (rows["median"].isna() & (rows["reason"] == "")).to_numpy()
    return rows.assign(reason=rows["reason"].mask(none, "median not reached"))


def _chosen(cut: Cut) -> dict[tuple[str, str], str]:
    rows = cut.results.table("population_comparison")
    rows = rows[rows["chosen"].fillna(False).astype(bool) & rows["primary"].fillna(False).astype(bool)]
    return {(r["assay"], r["specimen"]): str(r["model"]) for r in records(rows)}


def _one(part: str, item: str, old: str, new: str, **where: str) -> list[dict[str, Any]]:
    """A row for one text, none where it is the same."""
    if old == new:
        return []
    change = "changed" if old and new else "removed" if old else "added"
    return [_row(part, item, old, new, change, **where)]


def _runs(old: Cut, new: Cut) -> list[dict[str, Any]]:
    found = []
    for row in _paired(_sides(old, new, "runs"), ["run_id", "assay", "target"], ["accepted", "reason"]):
        said = {
            side: ("accepted" if row[f"accepted_{side}"] is True else f"refused: {row[f'reason_{side}']}")
            if row["side"] in (side, "both")
            else ""
            for side in ("old", "new")
        }
        found += _one("runs", f"{row['run_id']} {row['target']}".strip(), said["old"], said["new"], assay=row["assay"])
    return found


def _exclusions(old: Cut, new: Cut) -> list[dict[str, Any]]:
    """What was left out in one cut only; rows of an export that were set aside for one reason count as one."""
    both: list[Counter[tuple[str, str, str, str, str, str]]] = []
    for cut in (old, new):
        table = cut.results.table
        made = exclusions.entries(table("ingest"), table("runs"), table("observations"), cut.settings)
        both.append(Counter({_excluded(entry): entry.get("n", 1) for entry in made}))
    found = []
    for about in sorted({*both[0], *both[1]}):
        n = [counted.get(about, 0) for counted in both]
        if n[0] == n[1]:
            continue
        patient, assay, specimen, item, reason, who = about
        where = {"patient_id": patient, "assay": assay, "specimen": specimen}
        change = "changed" if all(n) else "removed" if n[0] else "added"
        plural = item.startswith("rows of ")
        was, now = (f"{k} rows: {reason}" if plural and k else reason if k else "" for k in n)
        found.append(_row("exclusions", item, was, now, change, note=f"decided by: {who}", **where))
    return found


def _excluded(entry: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    """An exclusion by patient, assay, specimen, item, reason and who; without row numbers, which another row moves."""
    kind = str(entry["kind"])
    item = {
        "file": lambda: f"export {entry['source_file']}",
        "rows": lambda: f"rows of {entry['source_file']}",
        "run": lambda: f"run {entry['run_id']} {entry['target']}".strip(),
        "result": lambda: f"result {entry['sample_id']}, run {entry['run_id']}",
        "points": lambda: (
            f"points of the terminal fit, {entry['window']}: left out {entry['excluded']}, taken {entry['included']}"
        ),
    }[kind]()
    who = f"{entry['decided_by']} ({entry['by']})" if entry["by"] else str(entry["decided_by"])
    where = [str(entry.get(name, "")) for name in _PROFILE]
    return where[0], where[1], where[2], item, str(entry["reason"]), who


def _flat(settings: Settings) -> dict[str, str]:
    """Every key of the configuration by its full name; where the earlier cut stands is no choice of the analysis."""
    own = flat(settings.model_dump(mode="json"))
    left_out = ("report.previous", "study.data_cut")
    return {k: json.dumps(v, sort_keys=True, ensure_ascii=False) for k, v in own.items() if k not in left_out}


def _mappings(part: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        row for name in sorted({*old, *new}) for row in _one(part, name, str(old.get(name, "")), str(new.get(name, "")))
    ]


# -------------------------------------------------------------------------------------------------------------- telling


@dataclass(frozen=True)
class Summary:
    """What a committee asks first about two cuts.

    Parameters
    ----------
    old_cut, new_cut : str
        Dates of the cuts, empty where none is set.
    patients_added, patients_removed : tuple of str
        Patients of one cut only.
    samples_added, samples_removed, samples_changed : int
        Results; one that differs in several ways counts once.
    exclusions_added, exclusions_removed, settings_changed : int
        Exclusions and keys of the configuration.
    conclusions : DataFrame
        Rows of the part conclusions.
    """

    old_cut: str
    new_cut: str
    patients_added: tuple[str, ...]
    patients_removed: tuple[str, ...]
    samples_added: int
    samples_removed: int
    samples_changed: int
    exclusions_added: int
    exclusions_removed: int
    settings_changed: int
    conclusions: pd.DataFrame


def summary(table: pd.DataFrame) -> Summary:
    """The counts of a table of changes."""

    def rows(part: str, *kinds: str) -> pd.DataFrame:
        own = table[table["part"] == part]
        return own[own["change"].isin(kinds)] if kinds else own

    cut = rows("study").iloc[0]
    edited = rows("samples", "changed")
    # The field is the last word of the item.
    named = edited.assign(item=[str(item).rsplit(" ", 1)[0] for item in edited["item"]])
    return Summary(
        old_cut=str(cut["old"]),
        new_cut=str(cut["new"]),
        patients_added=tuple(rows("patients", "added")["patient_id"]),
        patients_removed=tuple(rows("patients", "removed")["patient_id"]),
        samples_added=len(rows("samples", "added")),
        samples_removed=len(rows("samples", "removed")),
        samples_changed=len(named[[*_PROFILE, "item"]].drop_duplicates()),
        exclusions_added=len(rows("exclusions", "added")),
        exclusions_removed=len(rows("exclusions", "removed")),
        settings_changed=len(rows("settings")),
        conclusions=rows("conclusions"),
    )


def largest(table: pd.DataFrame, items: Iterable[str], assay: str, specimen: str, n: int) -> pd.DataFrame:
    """The `n` largest changes of some parameters of one assay, largest first; a number that came or went before them.

    Parameters
    ----------
    table : DataFrame
        Rows of changes.csv.
    items : iterable of str
        As ``cmax overall``.
    assay, specimen : str
        Whose.
    n : int
        At most so many.
    """
    own = table[(table["part"] == "parameters") & table["item"].isin(list(items))]
    own = own[(own["assay"] == assay) & (own["specimen"] == specimen)]
    own = own[own["change"].isin(("changed", "available", "missing"))]
    size = np.abs(np.log1p(own["relative_change"].clip(lower=-1 + 1e-12))).fillna(np.inf)
    order = own.assign(size=size).sort_values(["size", "patient_id", "item"], ascending=[False, True, True])
    return order.drop(columns="size").head(n)


def told(table: pd.DataFrame, old: str, new: str) -> str:
    """The changes as text for a terminal: patients first, then counts and the largest of each part.

    Parameters
    ----------
    table : DataFrame
        Rows of changes.csv.
    old, new : str
        Names of the two folders.
    """
    of = summary(table)
    lines = [f"{old} (data cut {of.old_cut or 'none set'}) -> {new} (data cut {of.new_cut or 'none set'})", ""]
    for word, who in (("new", of.patients_added), ("no longer there", of.patients_removed)):
        lines.append(f"Patients {word}: {', '.join(who) or 'none'}")
    lines.append(
        f"Results: {of.samples_added} added, {of.samples_removed} removed, {of.samples_changed} changed; "
        f"exclusions: {of.exclusions_added} added, {of.exclusions_removed} removed; "
        f"settings changed: {of.settings_changed}"
    )
    kinds = {"available": "now available", "missing": "no longer available"}
    for part in PARTS[1:]:
        own = table[table["part"] == part]
        if not len(own):
            continue
        counts = Counter(own["change"])
        said = ", ".join(f"{counts[k]} {kinds.get(k, k)}" for k in sorted(counts))
        lines += ["", f"{part.capitalize()}: {said}"]
        size = np.abs(np.log1p(own["relative_change"].clip(lower=-1 + 1e-12)))
        rank = own["change"].map({"missing": 0, "removed": 1, "available": 2, "changed": 3, "added": 4})
        # What the committee reads on the first screen comes first among the conclusions.
        rank = rank.mask(own["item"].str.startswith("answer "), -1)
        ordered = own.assign(size=size, rank=rank).sort_values(["rank", "size"], ascending=[True, False], kind="stable")
        lines += [f"  {_told(row)}" for row in records(ordered.head(_LISTED))]
        if len(own) > _LISTED:
            lines.append(f"  and {len(own) - _LISTED} more (--output FILE.csv has all)")
    if len(table) == 1:
        lines.append("Nothing else differs.")
    return "\n".join(lines)


def _told(row: Mapping[str, Any]) -> str:
    where = " ".join(str(row[c]) for c in ("patient_id", "assay") if row[c])
    unit = f" {row['unit']}" if row["unit"] else ""
    old, new = (_rounded(str(row[side])) for side in ("old", "new"))
    text = f"{where + ' ' if where else ''}{row['item']}: {old or '-'} -> {new or '-'}{unit}"
    size = row["relative_change"]
    if isinstance(size, float) and np.isfinite(size):
        text += f" ({100 * size:+.3g} %)"
    return f"{text} [{row['change']}{': ' + row['note'] if row['note'] else ''}]"


def _rounded(text: str) -> str:
    """A number for reading, 4 digits; any other text as it stands."""
    try:
        return f"{float(text):.4g}" if "." in text or len(text) > 6 else text
    except ValueError:
        return text


def as_json(table: pd.DataFrame) -> str:
    """The changes as JSON: a list of objects, the missing left out."""
    kept = [{k: v for k, v in row.items() if v != "" and v == v} for row in records(table)]
    return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
