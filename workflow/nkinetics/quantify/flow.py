"""Flow cytometry: event counts in gates to cells/uL (assays.md 5).

dual platform  cells/uL = ALC [1e9/L] * 1000 * N_CAR / N_lymphocytes
beads          cells/uL = N_CAR / N_beads * beads / V_blood [uL]
volumetric     cells/uL = N_CAR / V_acquired [uL] * dilution
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from nkinetics.quantify.levels import Behind, Need, Quantified, outcome, provenance, run_facts, unusable
from nkinetics.quantify.wells import Wells, left
from nkinetics.settings import Flow
from nkinetics.store import records

HEADER = "fcs"
"""Reader whose rows are no gated counts, but tell the volume that a cytometer acquired."""

_STATISTIC = re.compile(r"\s*\|\s*count\s*$", re.IGNORECASE)


def gate_leaf(target: str) -> str:
    """Last gate of a path, without the statistic of a FlowJo column.

    Examples
    --------
    >>> gate_leaf("Lymphocytes/CD3-CD56+/CAR+ | Count")
    'CAR+'
    """
    return _STATISTIC.sub("", target).split("/")[-1].strip()


def gates_matching(pattern: str, targets: list[str]) -> list[str]:
    """The gates that a pattern means: by the last gate of the path, or by the whole path when the pattern has a ``/``.

    A parent's name stands in the path of each of its children, so that the whole path would match them all.

    Examples
    --------
    >>> gates_matching("(?i)lymphocytes", ["Lymphocytes | Count", "Lymphocytes/NK/CAR+ | Count"])
    ['Lymphocytes | Count']
    """
    search = re.compile(pattern).search
    if "/" in pattern:
        return [t for t in targets if search(_STATISTIC.sub("", t))]
    return [t for t in targets if search(gate_leaf(t))]


def quantify(raw: pd.DataFrame, samples: pd.DataFrame, settings: Flow) -> Quantified:
    """Levels [cells/uL] of every sample of every run; several tubes of a sample are pooled by summing events.

    Parameters
    ----------
    raw : DataFrame
        `nkinetics.columns.RAW` rows with measure events; `sample_id` as in the manifest.
    samples : DataFrame
        The manifest; dual platform needs alc_1e9_l, beads needs beads and blood_ml. Volumetric takes a column volume_ul
        and, where it is empty or absent, the volume that the export or the FCS file of the sample states.
    settings : Flow
        Gates, method and limits in events.

    Returns
    -------
    Quantified
        A count below the LOD is not_detected: events of the background are always there. Below the LLOQ it is blq.

    Notes
    -----
    Limits in events become limits of the row's level by the row's own factor: a sample with fewer lymphocytes counted
    has a higher LLOQ. `n_molecules` is the count in the gate.
    """
    set_aside = unusable(raw)
    manifest = {row["sample_id"]: row for row in records(samples)}
    second = {"dual_platform": settings.denominator_pattern, "beads": settings.beads_pattern}.get(settings.method)
    levels: list[dict[str, object]] = []
    runs: list[dict[str, object]] = []
    sources: list[Behind] = []
    needs: list[Need] = []
    problems: list[str] = []
    if settings.method == "beads" and second is None:
        problems.append("the method beads needs assays.flow.beads_pattern")
    usable = Wells.of(left(raw, set_aside))
    headers = usable.where(usable["reader"] == HEADER)
    of_sample = dict(headers.by("sample_id")) if settings.method == "volumetric" else {}
    used_headers: set[int] = set()
    for run_id, rows in usable.where(usable["reader"] != HEADER).by("run_id"):
        targets = sorted(set(rows["target"]))
        gates = _one_gate(settings.gate_pattern, targets, run_id, "assays.flow.gate_pattern", problems)
        others = ""
        if second is not None:
            key_name = "denominator_pattern" if settings.method == "dual_platform" else "beads_pattern"
            others = _one_gate(second, [t for t in targets if t != gates], run_id, f"assays.flow.{key_name}", problems)
        needed = (rows["target"] == gates) | (rows["target"] == others)
        spare = rows.where(~needed)
        for label, target in zip(spare.index.tolist(), spare["target"], strict=True):
            set_aside[label] = f"gate {gate_leaf(target)} is not needed"
        for label in rows.where(needed & (rows["role"] != "unknown")).index.tolist():
            set_aside[label] = "control tube; no acceptance rule uses it"
        unknown = rows.where(needed & (rows["role"] == "unknown"))
        runs.append(
            {
                "run_id": run_id,
                "assay": "flow",
                "accepted": True,
                "target": gate_leaf(gates),
                "n_samples": len(set(unknown["sample_id"])),
                **run_facts(rows.where(rows["target"] == gates), set_aside),
                "source_file": " ".join(dict.fromkeys(rows["source_file"])),
                **_denominators(unknown.where(unknown["target"] == others)),
            }
        )
        for sample_id, tubes in unknown.by("sample_id"):
            if sample_id not in manifest:
                continue
            counts, beside = (tubes.where(tubes["target"] == gate) for gate in (gates, others))
            own = of_sample.get(sample_id, headers.none())
            sample, acquired = _with_volume(manifest[sample_id], counts, own)
            level, lacking = _level(tubes, counts, beside if others else tubes.none(), sample, settings)
            used_headers.update(acquired.index.tolist())
            needs += [Need(sample_id, column, why) for column, why in lacking]
            levels.append(
                {"assay": "flow", "run_id": run_id, "sample_id": sample_id, "analyte": settings.analyte, **level}
            )
            pieces = [("replicate", counts), *([("reference", beside)] if others else []), ("reference", acquired)]
            sources += [Behind("flow", run_id, sample_id, role, wells) for role, wells in pieces]
    for label, volume in zip(headers.index.tolist(), headers["volume_ul"].tolist(), strict=True):
        if label not in used_headers:
            set_aside[label] = _header_unused(volume, settings)
    return outcome(levels, runs, sources, set_aside, needs=tuple(needs), problems=tuple(problems))


def _denominators(tubes: Wells) -> dict[str, object]:
    """What the row of runs.csv says of the events in the denominator or bead gate."""
    events = tubes["value"]
    events = events[~np.isnan(events)]
    return {"denominator_lowest": events.min(), "denominator_median": np.median(events)} if len(events) else {}


def _one_gate(pattern: str, targets: list[str], run_id: object, key: str, problems: list[str]) -> str:
    """The one gate that the pattern means; otherwise a problem with the gates found, and empty text."""
    found = gates_matching(pattern, targets)
    if len(found) == 1:
        return found[0]
    what = "no gate matches" if not found else f"{len(found)} gates match ({', '.join(found)})"
    problems.append(f"run {run_id}: {what} {key} = {pattern!r}; gates found: {', '.join(targets) or 'none'}")
    return ""


def _with_volume(sample: Mapping[str, object], counts: Wells, headers: Wells) -> tuple[Mapping[str, object], Wells]:
    """The manifest's row with the volume acquired for the tubes that are pooled, and the FCS headers that told it.

    The manifest goes before the export, the export before the FCS files. A volume that is not known for every tube is
    not known.
    """
    counted = counts.where(~np.isnan(counts["value"]))
    if _number(sample.get("volume_ul")) > 0 or not len(counted):
        return sample, headers.none()
    if not np.isnan(counted["volume_ul"]).any():
        return {**sample, "volume_ul": float(counted["volume_ul"].sum())}, headers.none()
    if len(headers) == len(counted) and not np.isnan(headers["volume_ul"]).any():
        return {**sample, "volume_ul": float(headers["volume_ul"].sum())}, headers
    return sample, headers.none()


def _header_unused(volume: float, settings: Flow) -> str:
    """Why an FCS header served no level."""
    if settings.method != "volumetric":
        return f"FCS header; the method {settings.method} needs no acquired volume"
    if math.isnan(volume):
        return "FCS header without a volume of a known unit"
    return "FCS header of a sample without gated counts, or whose volume the manifest or the export gives"


def _factor(other_events: float, sample: Mapping[str, object], settings: Flow) -> tuple[float, list[tuple[str, str]]]:
    """Cells/uL of one event, and what the manifest lacks for it."""
    wanted = {
        "dual_platform": ("alc_1e9_l",),
        "beads": ("beads", "blood_ml"),
        "volumetric": ("volume_ul",),
    }[settings.method]
    values = {name: _number(sample.get(name)) for name in wanted}
    lacking = [(name, f"needed for the method {settings.method}") for name, value in values.items() if not value >= 0]
    if lacking:
        return math.nan, lacking
    if settings.method == "dual_platform":
        # A lymphocyte count of 0 is a count below what the counter resolves: no level can be made from it.
        known = other_events > 0 and values["alc_1e9_l"] > 0
        return (values["alc_1e9_l"] * 1000 / other_events if known else math.nan), []
    if settings.method == "beads":
        blood = values["blood_ml"] * 1000
        return (values["beads"] / other_events / blood if other_events > 0 and blood > 0 else math.nan), []
    dilution = _number(sample.get("dilution"))
    return (1.0 if math.isnan(dilution) else dilution) / values["volume_ul"] if values[
        "volume_ul"
    ] > 0 else math.nan, []


def _number(value: object) -> float:
    if value is None or value is pd.NA or value == "":
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except ValueError:
        return math.nan


def _level(
    tubes: Wells, counts: Wells, others: Wells, sample: Mapping[str, object], settings: Flow
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """One sample on one run: level, limits, status and reason, and what the manifest lacks for it."""
    done = ~np.isnan(counts["value"])
    events = float(np.nansum(counts["value"]))
    factor, lacking = _factor(float(np.nansum(others["value"])), sample, settings)
    reason, status = "", "quantified"
    if not done.any():
        said = {remark or repr(text) for remark, text in zip(counts["remark"], counts["value_raw"], strict=True)}
        reason = f"no event count in the gate: {', '.join(sorted(said)) or 'no row of the gate'}"
        status = "not_done" if len(counts) and (counts["detection"] == "not_done").all() else "failed"
    elif math.isnan(factor) and not lacking:
        what = {"dual_platform": "denominator gate", "beads": "bead gate"}.get(settings.method)
        reason = f"no event in the {what}, or nothing to scale it by" if what else "no acquired volume"
        status = "failed"
    elif events == 0 or (settings.lod_events is not None and events < settings.lod_events):
        status = "not_detected"
    elif events < settings.lloq_events:
        status = "blq"
    return {
        "level": events * factor if status == "quantified" else math.nan,
        "level_unit": "cells/uL",
        "lod": math.nan if settings.lod_events is None else settings.lod_events * factor,
        "lloq": settings.lloq_events * factor,
        "uloq": math.nan,
        "status": status,
        "n_molecules": events if done.any() else math.nan,
        "n_replicates": int(done.sum()),
        "cv_pct": math.nan,
        "exclusion_reason": reason,
        **provenance(tubes),
    }, lacking
