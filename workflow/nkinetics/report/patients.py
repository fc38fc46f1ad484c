"""What the page says about each patient: parameters, model in words, dosing, and every observation down to its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nkinetics.plugins import TableBody
from nkinetics.results import Context, Results
from nkinetics.tables.excluded import sources_of
from nkinetics.tables.model_parameters import estimate, interval, quantities_in, quantity_name
from nkinetics.wording import (
    STATUS_CODES,
    Words,
    days,
    dose_names,
    level,
    missing,
    profile_name,
    profiles,
    significant,
    unit_name,
)

POINT_PARAMETERS = {"cmax": "Cmax", "clast": "Clast"}
TIME_OF = {"cmax": "tmax", "clast": "tlast"}
LINKED = {"Cmax": "cmax", "Tmax": "cmax", "Clast": "clast", "Tlast": "clast"}
"""Rows of the parameter table that link to the observation they come from."""


def sections(
    results: Results, context: Context, s: Mapping[str, Any], built: Mapping[str, TableBody]
) -> list[dict[str, Any]]:
    """One section per patient, in the order of the tables."""
    origins, comments = sources_of(results), _comments(results)
    observed, points = results.table("observations"), _points(results)
    by_patient = {str(p): own for p, own in observed.groupby("patient_id", sort=False)}
    names = dose_names(results, context)
    found = []
    for patient in results.patients.to_dict("records"):
        identifier = str(patient["patient_id"])
        own = by_patient.get(identifier, observed.iloc[:0])
        peaks = _peaks(results, own)
        found.append(
            {
                "id": identifier,
                "dose_level": names[str(patient["dose_level"])],
                "facts": _facts(patient, s),
                "parameters": _turned(built.get("nca_individual"), identifier, 3, _links(peaks, context, results)),
                "model": _turned(built.get("model_parameters"), identifier, 3, {}),
                "sentences": _sentences(results, context, s, identifier),
                "dosing": _turned(built.get("dosing"), identifier, 2, {}),
                "assays": _observations(own, context, s, results, origins, comments, points, peaks),
            }
        )
    return found


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


def _turned(
    made: TableBody | None, patient: str, heads: int, links: Mapping[tuple[str, str], str]
) -> dict[str, Any] | None:
    """The patient's rows of a table on their side: one line per column of the table, one column per row of it."""
    if made is None or not len(made.frame.columns) or not made.patients:
        return None
    rows = made.frame[[p == patient for p in made.patients]]
    if not len(rows):
        return None
    titles = list(rows.iloc[:, 0]) if heads == 3 else [""]
    lines = []
    for name in rows.columns[heads:]:
        cells = [(str(v), links.get((title, str(name)), "")) for title, v in zip(titles, rows[name], strict=True)]
        lines.append((str(name), cells))
    return {"titles": titles, "lines": lines}


# -------------------------------------------------------------------------------------------------------- observations


def _comments(results: Results) -> dict[str, str]:
    samples = results.table("samples")
    return dict(zip(samples["sample_id"], samples["comment"], strict=True))


def _points(results: Results) -> dict[str, set[str]]:
    """What each observation was used in, over the whole profile."""
    points = results.table("nca_points")
    used: dict[str, set[str]] = {}
    for row in points[points["window"] == "overall"].itertuples():
        used.setdefault(str(row.observation_id), set()).add(str(row.used_in))
    return used


def _peaks(results: Results, own: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The observation behind Cmax and behind Clast of each profile: the quantified one at Tmax, at Tlast."""
    nca = results.table("nca")
    patient = own["patient_id"].iloc[0] if len(own) else ""
    nca = nca[(nca["patient_id"] == patient) & (nca["window"] == "overall") & nca["parameter"].isin(TIME_OF.values())]
    quantified = own[own["reportable"].fillna(False).astype(bool) & (own["status"] == "quantified")]
    found = {}
    for parameter, time_parameter in TIME_OF.items():
        for row in nca[(nca["parameter"] == time_parameter) & nca["value"].notna()].itertuples():
            here = quantified[(quantified["assay"] == row.assay) & (quantified["specimen"] == row.specimen)]
            at = here[(here["time_actual"] - float(str(row.value))).abs() < 1e-6]
            if len(at):
                found[(str(row.assay), str(row.specimen), parameter)] = str(at["observation_id"].iloc[0])
    return found


def _links(peaks: Mapping[tuple[str, str, str], str], context: Context, results: Results) -> dict[tuple[str, str], str]:
    """For a column title and a line of the parameter table, the anchor of the observation."""
    links = {}
    for kind in profiles(results).itertuples():
        title = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
        for line, parameter in LINKED.items():
            observation = peaks.get((str(kind.assay), str(kind.specimen), parameter))
            if observation:
                links[(title, line)] = f"#obs-{observation}"
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
) -> list[dict[str, Any]]:
    """The observations of a patient by assay, each with its fate and its rows."""
    made_by: dict[str, list[str]] = {}
    for (_, _, parameter), observation in peaks.items():
        made_by.setdefault(observation, []).append(POINT_PARAMETERS[parameter])
    words, found = Words(context.language), []
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
                _line(row, s, words, uses, origins.get(identifier, ""), comments.get(str(row["sample_id"]), ""))
            )
        found.append({"title": s["observations_of"].format(assay=name, n=len(rows), used=used), "rows": lines})
    return found


def _line(
    row: Mapping[str, Any], s: Mapping[str, Any], words: Words, uses: list[str], origin: str, comment: str
) -> dict[str, Any]:
    analysed = bool(row["reportable"]) if not missing(row["reportable"]) else False
    if missing(row["infusion"]):
        after = "–"
    elif int(row["infusion"]) == 0:
        after = s["before_first"]
    else:
        time = "–" if missing(row["time_after_dose"]) else days(row["time_after_dose"])
        after = s["infusion_plus"].format(infusion=int(row["infusion"]), time=time)
    remarks = [str(row["exclusion_reason"]), str(row["time_flag"]), comment]
    return {
        "id": str(row["observation_id"]),
        "analysed": analysed,
        "cells": [
            str(row["sample_id"]) or "–",
            str(row["visit"]) or "–",
            "–" if missing(row["time_nominal"]) else days(row["time_nominal"]),
            "–" if missing(row["time_actual"]) else days(row["time_actual"]),
            after,
            level(row) if row["status"] in ("quantified", *STATUS_CODES) else str(row["status"]),
            "–" if missing(row["lloq"]) else significant(row["lloq"]),
            s["yes"] if analysed else s["no"],
            words.join(uses) or "–",
            "; ".join(r for r in remarks if r) or "–",
            str(row["run_id"]) or "–",
            origin or "–",
        ],
    }


# --------------------------------------------------------------------------------------------------------------- model


def _sentences(results: Results, context: Context, s: Mapping[str, Any], patient: str) -> list[tuple[str, list[str]]]:
    """The leading model of the patient in words, by assay."""
    models, words = context.settings.models, Words(context.language)
    fits, estimates = results.table("fits"), results.table("estimates")
    fits = fits[(fits["patient_id"] == patient) & (fits["model"] == models.default)]
    estimates = estimates[(estimates["patient_id"] == patient) & (estimates["model"] == models.default)]
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
            told = [s["word_no_fit"].format(reason=reasons[0])]
        if told:
            found.append((profile_name(context, str(kind.assay), str(kind.specimen)), told))
    return found


def _told(row: pd.Series, s: Mapping[str, Any], words: Words, model: str, confidence: str) -> str:
    name = quantity_name(words, model, str(row["parameter"]))
    ends = interval(words, row)
    if not missing(row["identifiable"]) and not bool(row["identifiable"]):
        within = s["word_within"].format(interval=ends) if ends else ""
        return str(s["word_not_identifiable"].format(name=name, interval=within))
    if missing(row["estimate"]):
        return str(s["word_no_fit"].format(reason=f"{name}: {row['reason']}"))
    values = {"name": name, "estimate": estimate(row), "unit": unit_name(str(row["unit"]))}
    if not ends:
        return str(s["word_no_interval"].format(**values)).replace(" ,", ",")
    return str(s["word_estimate"].format(**values, interval=ends, level=confidence)).replace("  ", " ")
