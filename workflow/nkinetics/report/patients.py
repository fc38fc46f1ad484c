"""What the page says about each patient: parameters, model in words, dosing, and every observation down to its rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nkinetics.compact import plain
from nkinetics.leading import led, preference
from nkinetics.plugins import TableBody
from nkinetics.report.explained import explained, opened
from nkinetics.report.trust import Trust
from nkinetics.results import Context, Results, by_patient, having
from nkinetics.tables._nca import AUC_WINDOW, PARAMETERS, printed, values
from nkinetics.tables._visits import when_taken
from nkinetics.tables.excluded import measured, rows_behind, sources_of, with_curve
from nkinetics.tables.model_parameters import estimate, interval, quantities_in, quantity_name, undetermined
from nkinetics.wording import (
    FOLLOW_UP_ENDS,
    Words,
    days,
    dose_names,
    follow_up_ends,
    missing,
    percent,
    profile_name,
    profiles,
    significant,
    unit_name,
    without_quantified,
)

TURNED = ("nca_individual", "model_parameters", "model_evidence", "model_averages", "dosing")
"""Tables whose rows stand in each patient's section."""
BLOCK = 250
"""Patients whose samples and wells are held at a time."""
FOLDER = "patients"
"""Where the pages of single patients stand, beside the report."""

POINT_PARAMETERS = {"cmax": "Cmax", "clast": "Clast", "t_blq": "t_blq"}
TIME_OF = {"cmax": "tmax", "clast": "tlast", "t_blq": "t_blq"}
LINKED = {
    "cmax": "cmax",
    "tmax": "cmax",
    "clast": "clast",
    "tlast": "clast",
    "t_blq": "t_blq",
    "auc_last": "auc",
    "auc_int": "auc",
    "half_life": "lambda_z",
}
"""Rows of the parameter table that link to the observation they come from."""


def sections(
    results: Results, context: Context, s: Mapping[str, Any], built: Mapping[str, TableBody]
) -> Iterator[dict[str, Any]]:
    """One section per patient, in the order of the tables, made when it is asked for."""
    names, lead, turned = dose_names(results, context), led(results, context), _Turned(built)
    trust, comments = Trust(results, context, s), _comments(results)
    for some in _blocks(results, list(results.patients["patient_id"])):
        observed, nca = by_patient(some.table("observations")), by_patient(some.rows("nca"))
        fits, estimates = by_patient(some.table("fits")), by_patient(some.table("estimates"))
        origins = sources_of(results, some.table("observations")["observation_id"])
        points, wells, made = _points(some), _wells(some, context, s), opened(some, context)
        for patient in some.patients.to_dict("records"):
            identifier = str(patient["patient_id"])
            own, values = observed(identifier), nca(identifier)
            peaks = {**_peaks(values, own), **_firsts(own, points)}
            links = _links(peaks, context, results, "")
            yield {
                "id": identifier,
                "dose_level": names[str(patient["dose_level"])],
                "facts": _facts(patient, s),
                "trust": trust.of(identifier),
                "parameters": turned("nca_individual", identifier, 3, links),
                "explained": explained(made, results, context, s, identifier, values),
                "model": turned("model_parameters", identifier, 3, {}),
                "evidence": turned("model_evidence", identifier, 4, {}),
                "averages": turned("model_averages", identifier, 3, {}),
                "sentences": _sentences(results, lead, s, fits(identifier), estimates(identifier)),
                "dosing": turned("dosing", identifier, 2, {}),
                "assays": _observations(own, context, s, results, origins, comments, points, peaks, wells),
            }


def _blocks(results: Results, ids: Sequence[str]) -> Iterator[Results]:
    """The results of so many of some patients at a time: what is told of all fills no memory."""
    for begin in range(0, len(ids), BLOCK):
        yield results.of(ids[begin : begin + BLOCK])


def linked(
    results: Results, context: Context, pages: Mapping[str, str], ids: Sequence[str]
) -> dict[tuple[str, str, str], str]:
    """The observation behind a number of some patients, by patient, profile and column.

    `pages` has each patient's own page, if any.
    """
    found: dict[tuple[str, str, str], str] = {}
    for some in _blocks(results, ids):
        points, observed = _points(some), by_patient(some.table("observations"))
        nca = by_patient(some.rows("nca", window="overall", parameter=TIME_OF.values()))
        for patient in map(str, some.patients["patient_id"]):
            own = observed(patient)
            peaks = {**_peaks(nca(patient), own), **_firsts(own, points)}
            links = _links(peaks, context, results, pages.get(patient, ""))
            found |= {(patient, title, column): href for (title, column), href in links.items()}
    return found


def pages(results: Results) -> dict[str, str]:
    """Name of each patient's own page; ids that differ by case alone get names that no file system takes for one."""
    ids = [str(p) for p in results.patients["patient_id"]]
    times = Counter(i.casefold() for i in ids)
    return {
        i: f"{FOLDER}/{i}{'' if times[i.casefold()] == 1 else '-' + hashlib.sha256(i.encode()).hexdigest()[:6]}.html"
        for i in ids
    }


def overview(results: Results, context: Context, s: Mapping[str, Any]) -> dict[str, Any]:
    """One line per patient: follow-up, results, parameters of the first assay, what to know; for many patients."""
    words, kinds, ends = Words(context.language), profiles(results), follow_up_ends(results)
    observed = results.table("observations")
    used = observed["reportable"].fillna(False).astype(bool)
    counts = observed.groupby("patient_id").size(), observed[used].groupby("patient_id").size()
    names, columns, reasons = dose_names(results, context), [], {}
    title, numbers = "", []
    if len(kinds):
        assay, specimen, unit = (str(kinds.iloc[0][c]) for c in ("assay", "specimen", "level_unit"))
        title = profile_name(context, assay, specimen, unit)
        reasons = without_quantified(results, context, assay, specimen)
        for shown in PARAMETERS:
            columns.append(words.pick(shown.title))
            numbers.append([printed(shown, v) for v in values(results, shown, assay, specimen)["value"]])
    fits = results.table("fits")
    fits = fits[(fits["model"] == led(results, context).settings.models.default) & (fits["n_obs"].fillna(0) > 0)]
    fitted = fits["converged"].fillna(False).astype(bool)
    estimates = results.table("estimates")
    estimates = estimates[estimates["model"] == led(results, context).settings.models.default]
    loose = Counter(patient for patient, _, _ in undetermined(estimates))
    unfitted = Counter(fits.loc[~fitted, "patient_id"])
    rows = []
    for k, patient in enumerate(results.patients.to_dict("records")):
        identifier = str(patient["patient_id"])
        end, how = ends[identifier]
        n, n_used = (int(c.get(identifier, 0)) for c in counts)
        remarks = [
            reasons.get(identifier, ""),
            s["row_excluded"].format(n=n - n_used) if n > n_used else "",
            s["row_unfitted"].format(n=unfitted[identifier]) if unfitted[identifier] else "",
            s["row_loose"].format(n=loose[identifier]) if loose[identifier] else "",
        ]
        rows.append(
            {
                "id": identifier,
                "dose_level": names[str(patient["dose_level"])],
                "cells": [
                    (str(patient["dose_level"]), "c"),
                    (s["until"].format(status=words.pick(FOLLOW_UP_ENDS[how]), day=days(end)), "c"),
                    (f"{n_used} / {n}", "n"),
                    *((own[k], "n") for own in numbers),
                    (words.say("; ", "；").join(r for r in remarks if r) or "–", "t"),
                ],
            }
        )
    heads = [(s["row_level"], "c"), (s["follow_up"], "c"), (s["row_results"], "n"), *((c, "n") for c in columns)]
    return {"title": title, "columns": [*heads, (s["row_remarks"], "t")], "rows": rows}


def _facts(patient: Mapping[str, Any], s: Mapping[str, Any]) -> list[tuple[str, str]]:
    dll3 = patient["dll3_high"]
    status = "" if missing(patient["status_end"]) else s["status_end"][patient["status_end"]]
    if status and not missing(patient["time_end"]):
        status = s["until"].format(status=status, day=days(patient["time_end"]))
    values = [
        (s["cohort"], str(patient["cohort"])),
        (s["indication"], str(patient["indication"])),
        (s["dll3"], "" if missing(dll3) else s["dll3_high"] if dll3 else s["dll3_low"]),
        (s["weight"], "" if missing(patient["weight_kg"]) else f"{patient['weight_kg']:g} kg"),
        (s["follow_up"], status),
        (s["response"], str(patient["best_response"])),
    ]
    return [(name, value or s["not_recorded"]) for name, value in values]


class _Turned:
    """A patient's rows of a table on their side: one line per column of the table, one column per row of it."""

    def __init__(self, built: Mapping[str, TableBody]) -> None:
        self._built = built
        self._places: dict[str, dict[str, list[int]]] = {}

    def __call__(
        self, name: str, patient: str, heads: int, links: Mapping[tuple[str, str], str]
    ) -> dict[str, Any] | None:
        made = self._built.get(name)
        if made is None or not len(made.frame.columns) or not made.patients:
            return None
        if name not in self._places:
            places = self._places[name] = {}
            for i, p in enumerate(made.patients):
                places.setdefault(p, []).append(i)
        rows = made.frame.iloc[self._places[name].get(patient, [])]
        if not len(rows):
            return None
        titles = list(rows.iloc[:, 0]) if heads >= 3 else [""]
        if heads == 4:
            # Several rows of an assay: what tells them apart stands in the fourth column.
            titles = [f"{assay} · {own}" for assay, own in zip(titles, rows.iloc[:, 3], strict=True)]
        lines = []
        for column in rows.columns[heads:]:
            cells = [(str(v), links.get((t, str(column)), "")) for t, v in zip(titles, rows[column], strict=True)]
            lines.append((str(column), cells))
        return {"titles": titles, "lines": lines}


# -------------------------------------------------------------------------------------------------------- observations


def _comments(results: Results) -> dict[str, str]:
    samples = results.table("samples")
    return dict(zip(samples["sample_id"], samples["comment"], strict=True))


def _points(results: Results) -> dict[str, set[str]]:
    """What each observation was used in: areas and terminal slope of the whole profile and of the window shown."""
    points = results.rows("nca_points", ["observation_id", "used_in"], window=("overall", AUC_WINDOW))
    used: dict[str, set[str]] = {}
    for observation, use in zip(points["observation_id"], points["used_in"], strict=True):
        used.setdefault(str(observation), set()).add(str(use))
    return used


def _peaks(nca: pd.DataFrame, own: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The observation behind Cmax, Clast and t_blq: the quantified one at Tmax, at Tlast, the one below at t_blq."""
    nca = nca[(nca["window"] == "overall") & nca["parameter"].isin(TIME_OF.values()) & nca["value"].notna()]
    columns = ("assay", "specimen", "status", "time_actual", "observation_id")
    own = own[own["reportable"].fillna(False).astype(bool) & own["time_actual"].notna()]
    rows = list(zip(*(own[c].tolist() for c in columns), strict=True))
    found = {}
    for assay, specimen, name, value in zip(
        *(nca[c].tolist() for c in ("assay", "specimen", "parameter", "value")), strict=True
    ):
        for parameter in (p for p, time_of in TIME_OF.items() if time_of == name):
            among = ("blq", "not_detected") if parameter == "t_blq" else ("quantified",)
            at = [
                o
                for a, s, status, t, o in rows
                if (a, s) == (assay, specimen) and status in among and abs(t - value) < 1e-6
            ]
            if at:
                found[(str(assay), str(specimen), parameter)] = str(at[0])
    return found


def _firsts(own: pd.DataFrame, points: Mapping[str, set[str]]) -> dict[tuple[str, str, str], str]:
    """The first observation of each profile that an area, and that the terminal slope, was computed from."""
    found: dict[tuple[str, str, str], str] = {}
    for row in own.sort_values(["time_actual", "observation_id"]).itertuples():
        for use in points.get(str(row.observation_id), set()):
            found.setdefault((str(row.assay), str(row.specimen), use), str(row.observation_id))
    return found


def _wells(results: Results, context: Context, s: Mapping[str, Any]) -> dict[str, list[str]]:
    """Behind each observation: every well with its value as exported, and how a qPCR level comes from its wells.

    The gate is named where a row has several; the reference gene, in rows of its own, stands in a line of its own.
    """
    sources = rows_behind(results, results.table("observations")["observation_id"])
    exported_as = [
        "source_sha256",
        "source_file",
        "source_row",
        "used",
        "role",
        "run_id",
        "target",
        "well",
        "value_raw",
    ]
    rows = plain(having(results.part("ingest", exported_as), {"source_sha256": set(sources["source_sha256"])}))
    rows = rows[rows["used"].fillna(False).astype(bool) & ~rows["role"].isin(("standard", "ntc"))]
    key = ["source_sha256", "source_file", "source_row"]
    # A table of gates has the reference of a level in the level's own row, where it is shown already.
    behind = sources[["observation_id", "role", *key]].sort_values("role", ascending=False, kind="stable")
    behind = behind.drop_duplicates(["observation_id", *key])
    merged = behind.merge(rows.drop(columns="role"), on=key, how="inner").sort_values([*key, "well", "target"])
    # A large study has a million wells: plain lists, not a frame for each observation.
    columns = ("observation_id", "role", "run_id", "target", "well", "value_raw")
    wells = list(zip(*(merged[c].astype(str) for c in columns), strict=True))
    targets: dict[str, set[str]] = {}
    for observation, role, _, target, _, _ in wells:
        if role == "replicate":
            targets.setdefault(observation, set()).add(target)
    found: dict[str, list[str]] = {}
    exported: dict[str, tuple[str, str, list[str]]] = {}
    genes: dict[tuple[str, str], list[str]] = {}
    for observation, role, run, target, well, value in wells:
        shown = _four_decimals(value) or "–"
        if role == "reference":
            genes.setdefault((observation, target.rsplit("/", 1)[-1]), []).append(shown)
            continue
        exported.setdefault(observation, (run, target, []))[2].append(value)
        name = target.rsplit("/", 1)[-1] if len(targets[observation]) > 1 else ""
        head = " ".join(p for p in (well, name) if p)
        found.setdefault(observation, []).append(f"{head}: {shown}" if head else shown)
    for observation, (copies, made) in _from_copies(results, context, s, exported).items():
        told = zip(found[observation], copies, strict=True)
        found[observation] = [*(f"{line} → {n}" if n else line for line, n in told), made]
    for (observation, target), values_of in genes.items():
        found.setdefault(observation, []).append(f"{target}: {', '.join(values_of)}")
    return found


def _four_decimals(value: str) -> str:
    """A number as exported, of which an instrument may print fifteen digits.

    Examples
    --------
    >>> _four_decimals("28.242076873779297"), _four_decimals("28.24"), _four_decimals("Undetermined")
    ('28.2421', '28.24', 'Undetermined')
    """
    return f"{float(value):.4f}" if re.fullmatch(r"-?\d+\.\d{5,}", value) else value


NUMBER = re.compile(r"\d+(\.\d+)?")


def _curves(results: Results) -> dict[tuple[str, str], tuple[float, float]]:
    """Slope and intercept of the standard curve of each qPCR run and target."""
    runs = results.table("runs")
    runs = runs[(runs["assay"] == "qpcr") & runs["slope"].notna()]
    return {(str(r.run_id), str(r.target)): (float(r.slope), float(r.intercept)) for r in runs.itertuples()}


def _from_copies(
    results: Results, context: Context, s: Mapping[str, Any], exported: Mapping[str, tuple[str, str, list[str]]]
) -> dict[str, tuple[list[str | None], str]]:
    """For each quantified qPCR level the copies of its wells by the curve of their run, and their mean as a level."""
    qpcr, found = context.settings.assays.qpcr, {}
    if qpcr is None:
        return {}
    curves, observed = results.once("curves", _curves), results.table("observations")
    observed = observed[(observed["assay"] == "qpcr") & (observed["status"] == "quantified") & observed["lloq"].notna()]
    columns = ("observation_id", "level", "lloq", "n_replicates")
    for observation, level, lloq, n in zip(*(observed[c] for c in columns), strict=True):
        run, target, raw = exported.get(str(observation), ("", "", []))
        if (run, target) not in curves:
            continue
        slope, intercept = curves[run, target]
        copies = [10 ** ((float(v) - intercept) / slope) if NUMBER.fullmatch(v) else None for v in raw]
        detected = [c for c in copies if c is not None]
        factor, mean = float(lloq) / qpcr.lloq_copies, sum(detected) / max(1, len(detected))
        # Where the unit needs more than these wells, nothing is said.
        if len(detected) == n and abs(mean * factor / float(level) - 1) < 1e-4:
            told = {"mean": significant(mean, 4), "factor": f"{factor:.4g}", "level": significant(float(level), 4)}
            found[str(observation)] = (
                [None if c is None else significant(c, 4) for c in copies],
                str(s["well_level"].format(**told)),
            )
    return found


def _curves_note(results: Results, context: Context, s: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """Once for all rows: how copies come from Ct by the curve of each run, and a level from copies."""
    qpcr, used = context.settings.assays.qpcr, set(rows.loc[rows["status"] == "quantified", "run_id"])
    if qpcr is None or not (rows["assay"] == "qpcr").all():
        return ""
    told = [
        f"{run} {target} {intercept:.4f}, {-slope:.4f}"
        for (run, target), (slope, intercept) in sorted(results.once("curves", _curves).items())
        if run in used and re.search(qpcr.target_pattern, target)
    ]
    return str(s["wells_note"].format(curves="; ".join(told), limit=f"{qpcr.lloq_copies:g}")) if told else ""


def _links(
    peaks: Mapping[tuple[str, str, str], str], context: Context, results: Results, page: str
) -> dict[tuple[str, str], str]:
    """For a column title and a line of the parameter table, the anchor of the observation."""
    links, words = {}, Words(context.language)
    for kind in profiles(results).itertuples():
        title = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        for shown in PARAMETERS:
            observation = peaks.get((str(kind.assay), str(kind.specimen), LINKED[shown.parameter]))
            if observation:
                links[(title, words.pick(shown.title))] = f"{page}#obs-{observation}"
    return links


def _observations(
    own: pd.DataFrame,
    context: Context,
    s: Mapping[str, Any],
    results: Results,
    origins: Mapping[str, str],
    comments: Mapping[str, str],
    points: Mapping[str, set[str]],
    peaks: Mapping[tuple[str, str, str], str],
    wells: Mapping[str, list[str]],
) -> list[dict[str, Any]]:
    """The observations of a patient by assay, each with its fate and its rows."""
    made_by: dict[str, list[str]] = {}
    for (_, _, parameter), observation in peaks.items():
        if parameter in POINT_PARAMETERS:
            made_by.setdefault(observation, []).append(POINT_PARAMETERS[parameter])
    words, found, curves = Words(context.language), [], results.once("runs with a curve", with_curve)
    own = when_taken(results, own)
    for kind in profiles(results).itertuples():
        rows = own[(own["assay"] == kind.assay) & (own["specimen"] == kind.specimen)]
        if not len(rows):
            continue
        used = int(rows["reportable"].fillna(False).sum())
        name = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        lines = []
        for row in rows.sort_values(["time_actual", "sample_id", "observation_id"]).to_dict("records"):
            identifier = str(row["observation_id"])
            uses = [*made_by.get(identifier, []), *(s[f"used_{u}"] for u in sorted(points.get(identifier, set())))]
            lines.append(
                _line(
                    row,
                    s,
                    words,
                    uses,
                    origins.get(identifier, ""),
                    comments.get(str(row["sample_id"]), ""),
                    wells.get(identifier, []),
                    measured(row, context, curves),
                )
            )
        title = s["observations_of"].format(assay=name, n=len(rows), used=used)
        found.append({"title": title, "note": _curves_note(results, context, s, rows), "rows": lines})
    return found


def _line(
    row: Mapping[str, Any],
    s: Mapping[str, Any],
    words: Words,
    uses: list[str],
    origin: str,
    comment: str,
    wells: list[str],
    result: str,
) -> dict[str, Any]:
    """A row of the drill-down: its cells, each of one or more lines."""
    analysed = bool(row["reportable"]) if not missing(row["reportable"]) else False
    if missing(row["infusion"]):
        after = "–"
    elif int(row["infusion"]) == 0:
        after = s["before_first"]
    else:
        time = "–" if missing(row["time_after_dose"]) else days(row["time_after_dose"])
        after = s["infusion_plus"].format(infusion=int(row["infusion"]), time=time)
    fate = words.join(uses) if analysed else s["not_analysed"]
    remarks = [fate, words.told(str(row["exclusion_reason"])), words.told(str(row["time_flag"])), comment]
    times = ["–" if missing(row[t]) else days(row[t]) for t in ("time_nominal", "time_actual")]
    return {
        "id": str(row["observation_id"]),
        "analysed": analysed,
        "cells": [
            [str(row["sample_id"]) or "–", *([str(row["visit"])] if row["visit"] else [])],
            times,
            [after],
            [result],
            ["–" if missing(row["lloq"]) else significant(row["lloq"])],
            ["–" if missing(row["cv_pct"]) else percent(row["cv_pct"])],
            wells or ["–"],
            [r for r in remarks if r] or ["–"],
            [part for part in (str(row["run_id"]), origin) if part] or ["–"],
        ],
    }


# --------------------------------------------------------------------------------------------------------------- model


def _sentences(
    results: Results, context: Context, s: Mapping[str, Any], every: pd.DataFrame, estimates: pd.DataFrame
) -> list[tuple[str, list[str]]]:
    """The model shown of a patient in words, by assay, from the patient's fits and estimates."""
    models, words = context.settings.models, Words(context.language)
    fits, estimates = (f[f["model"] == models.default] for f in (every, estimates))
    found = []
    for kind in profiles(results).itertuples():
        fit = fits[(fits["assay"] == kind.assay) & (fits["specimen"] == kind.specimen)]
        own = estimates[(estimates["assay"] == kind.assay) & (estimates["specimen"] == kind.specimen)]
        own = own[(own["kind"] == "fitted") | own["parameter"].str.startswith(("half_life", "doubling"))]
        rank = {quantity: i for i, quantity in enumerate(quantities_in(own))}
        own = own.assign(_rank=own["parameter"].map(rank)).sort_values("_rank")
        told = [_told(row, s, words, models.default, f"{100 * models.confidence:g} %") for _, row in own.iterrows()]
        reasons = [str(r) for r in fit["reason"] if r]
        if not told and reasons:
            told = [s["word_no_fit"].format(reason=words.told(reasons[0]))]
        here = every[(every["assay"] == kind.assay) & (every["specimen"] == kind.specimen)]
        own_choice = here.loc[here["selected"].fillna(False).astype(bool), "model"]
        prefers = preference(results, context, str(own_choice.iloc[0]) if len(own_choice) else "")
        told += [prefers[0].upper() + prefers[1:] + words.say(".", "。")] if prefers else []
        if told:
            found.append((profile_name(context, str(kind.assay), str(kind.specimen)), told))
    return found


def _told(row: pd.Series, s: Mapping[str, Any], words: Words, model: str, confidence: str) -> str:
    name = quantity_name(words, model, str(row["parameter"]))
    ends = interval(words, row)
    if missing(row["estimate"]):
        # It does not exist: NC with its reason, as in the table; not identifiable is what has a value.
        return str(s["word_not_calculable"].format(name=name, reason=words.told(str(row["reason"]))))
    if not missing(row["identifiable"]) and not bool(row["identifiable"]):
        within = s["word_within"].format(interval=ends) if ends else ""
        return str(s["word_not_identifiable"].format(name=name, interval=within))
    values = {"name": name, "estimate": estimate(row), "unit": unit_name(str(row["unit"]))}
    if not ends:
        return str(s["word_no_interval"].format(**values)).replace(" ,", ",")
    return str(s["word_estimate"].format(**values, interval=ends, level=confidence)).replace("  ", " ")
