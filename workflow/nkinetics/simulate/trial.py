"""One simulated trial: the tables that a site would write, the exports, and beside them the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.simulate import assays, flowjo, quantstudio, qx_manager
from nkinetics.simulate.design import LYMPHODEPLETION, MINUTES, NCT07366658, Design
from nkinetics.simulate.truth import History, histories

FLOW_GATES = {False: "Live", True: "Live cells"}
"""What the gate of the live cells is called in the infusion period, and in the follow-up by another operator."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated trial.

    Parameters
    ----------
    design : Design
        What was simulated.
    seed : int
        With which seed.
    patients, samples, infusions, cytokines, events : DataFrame
        As a site writes them (nkinetics.columns), text and numbers as in the files.
    exports : mapping of str to bytes
        Instrument exports by path below data/raw.
    truth : mapping
        Everything that made the numbers, ready for JSON.
    levels : DataFrame
        One row per sample with its true level [copies/ug], expected copies and cells.
    features : mapping
        Which patient and sample show what.
    """

    design: Design
    seed: int
    patients: pd.DataFrame
    samples: pd.DataFrame
    infusions: pd.DataFrame
    cytokines: pd.DataFrame
    events: pd.DataFrame
    exports: Mapping[str, bytes]
    truth: Mapping[str, Any]
    levels: pd.DataFrame
    features: Mapping[str, Any]


def _when(h: History, time: float | None, absolute: str, elapsed: str) -> dict[str, Any]:
    """A time as the patient's site writes it: a local date and time, or elapsed days."""
    if time is None:
        return {absolute: "", elapsed: np.nan}
    return {absolute: "", elapsed: round(time, 4)} if h.patient.elapsed else {absolute: h.local(time), elapsed: np.nan}


def _patients(design: Design, trial: tuple[History, ...]) -> pd.DataFrame:
    order = ("CR", "PR", "SD", "PD")
    rows = []
    for h in trial:
        p = h.patient
        end = p.time_end
        if p.status_end == "data_cut":
            # The day of the data cut counts whole.
            end = round(
                (pd.Timestamp(design.data_cut) + pd.Timedelta(days=1) - pd.Timestamp(h.start)) / pd.Timedelta(days=1), 2
            )
        rows.append({
            "patient_id": p.patient_id, "dose_level": p.dose_level, "cohort": p.cohort, "status_end": p.status_end,
            "time_end": np.nan if end is None else end, "weight_kg": p.weight_kg, "dll3_high": p.dll3_high,
            "indication": p.indication,
            "best_response": min(p.responses.values(), key=order.index) if p.responses else "NE",
            "lymphodepletion": LYMPHODEPLETION,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _samples(trial: tuple[History, ...]) -> pd.DataFrame:
    rows = []
    for h in trial:
        for s in h.samples:
            drawn = s.time is not None
            rows.append({
                "sample_id": s.sample_id, "patient_id": h.patient.patient_id, "specimen": "blood", "visit": s.visit,
                "time_nominal": np.nan if s.time_nominal is None else s.time_nominal,
                **_when(h, s.time, "collected_at", "time_actual"),
                "ng_input": s.ng_input if drawn else np.nan, "template_ul": 5.0 if drawn else np.nan,
                "elution_ul": 100.0 if drawn else np.nan, "blood_ml": 2.0 if drawn else np.nan,
                "wbc_1e9_l": np.nan if s.wbc is None else max(0.01, round(s.wbc, 2)),
                "alc_1e9_l": np.nan if s.alc is None else max(0.01, round(s.alc, 2)),
                "state": s.state, "comment": s.comment,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _infusions(trial: tuple[History, ...]) -> pd.DataFrame:
    rows = [
        {"patient_id": h.patient.patient_id, "infusion": k, **_when(h, start, "started_at", "time"),
         "planned": planned, "given": given, "unit": "cells"}
        for h in trial
        for k, (start, planned, given) in enumerate(h.infusions, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _cytokines(design: Design, trial: tuple[History, ...]) -> pd.DataFrame:
    rows = [
        {"patient_id": h.patient.patient_id, "agent": design.agent, **_when(h, start, "started_at", "time"),
         "dose": design.cytokine_dose, "unit": design.cytokine_unit}
        for h in trial
        for start in h.cytokines
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _events(trial: tuple[History, ...]) -> pd.DataFrame:
    rows = []
    for h in trial:
        listed = list(h.patient.events)
        for day, response in h.patient.responses.items():
            listed.append(("scan", None, day, None, "CT", ""))
            listed.append(("response", None, day, None, response, "RECIST 1.1"))
        # To the minute, like every time that a site writes.
        for event, grade, start, end, value, comment in sorted(listed, key=lambda e: (e[2], e[0])):
            at = round(start * MINUTES) / MINUTES
            rows.append({
                "patient_id": h.patient.patient_id, "event": event, "grade": pd.NA if grade is None else grade,
                **_when(h, at, "started_at", "time"), "time_end": np.nan if end is None else end, "value": value,
                "comment": comment,
            })  # fmt: skip
    return pd.DataFrame(rows).astype({"grade": "Int64"})


def _exports(design: Design, seed: int, trial: tuple[History, ...]) -> dict[str, bytes]:
    exports: dict[str, bytes] = {}
    for run in design.runs:
        name = f"qpcr/{run.name}.{run.form}"
        exports[name] = quantstudio.export(run, assays.plate(design, seed, run, trial))
        if run.name == design.mishaps.duplicate_export:
            exports[f"qpcr/{run.name}_copy.{run.form}"] = exports[name]
    if design.ddpcr_patients:
        experiment = f"{design.product}_ddPCR_01"
        wells = assays.droplet_wells(design, seed, trial)
        exports[f"ddpcr/{experiment}.csv"] = qx_manager.export(experiment, wells)
    if design.flow_visits:
        for dose_level in design.doses:
            for follow_up, gate in FLOW_GATES.items():
                acquired = assays.tubes(design, seed, dose_level, follow_up, trial)
                if len(acquired) > 1:
                    period = "follow-up" if follow_up else "infusion-period"
                    exports[f"flow/{design.product}_{dose_level}_{period}.csv"] = flowjo.export(acquired, gate)
    return exports


def _measured(design: Design, trial: tuple[History, ...]) -> dict[str, list[str]]:
    """Assays of each sample, as the exports hold them."""
    found: dict[str, list[str]] = {}
    on_plate = {s.sample_id for run in design.runs for s in assays.plate_samples(run, trial)}
    for h in trial:
        for s in h.samples:
            visit = s.sample_id.removeprefix(f"{h.patient.patient_id}-")
            if s.time is not None:
                found[s.sample_id] = [
                    *(["qpcr"] if s.sample_id in on_plate else []),
                    *(
                        ["ddpcr"]
                        if h.patient.patient_id in design.ddpcr_patients and visit in design.ddpcr_visits
                        else []
                    ),
                    *(["flow"] if visit in design.flow_visits else []),
                ]
    return found


def levels(design: Design, trial: tuple[History, ...]) -> pd.DataFrame:
    """The true level of every sample drawn.

    Returns
    -------
    DataFrame
        sample_id, patient_id, time [d], level [copies/ug], ng_input [ng], lloq [copies/ug], copies [per reaction],
        extract [factor of this extract on molecular results], cells_per_ul [1/uL], wbc and alc [1e9/L], assays.
    """
    measured = _measured(design, trial)
    rows = [
        {
            "sample_id": s.sample_id, "patient_id": h.patient.patient_id, "time": s.time, "level": s.level,
            "ng_input": s.ng_input, "lloq": design.lloq_copies / s.ng_input * 1000,
            "copies": s.level * s.ng_input / 1000, "extract": s.extract, "cells_per_ul": s.cells,
            "wbc_1e9_l": s.wbc, "alc_1e9_l": s.alc, "assays": " ".join(measured[s.sample_id]),
        }
        for h in trial
        for s in h.samples
        if s.time is not None and s.level is not None and s.ng_input is not None
    ]  # fmt: skip
    return pd.DataFrame(rows)


def truth(design: Design, seed: int, trial: tuple[History, ...]) -> dict[str, Any]:
    """Everything that made the numbers: model, typical values, patients, runs."""
    return {
        "study": design.study_id,
        "seed": seed,
        "model": "cytokine_window",
        "scale_of_the_model": "copies/ug: the model's curve is the level in copies per ug DNA",
        "constants": {"agents": [design.agent], "width": design.width},
        "reference_dose": design.reference_dose,
        "theta_dose": design.theta_dose,
        "typical": dict(design.typical),
        "omega": dict(design.omega),
        "sigma": design.sigma,
        "sigma_flow": design.sigma_flow,
        "copies_per_cell": design.copies_per_cell,
        "lloq_copies": design.lloq_copies,
        "lod_copies": design.lod_copies,
        "replicates": design.replicates,
        "patients": {
            h.patient.patient_id: {
                "dose_level": h.patient.dose_level,
                **{k: float(f"{v:.10g}") for k, v in h.parameters.items()},
                "infusions": [[float(f"{t:.10g}"), given] for t, _, given in h.infusions],
                "cytokines": [float(f"{t:.10g}") for t in h.cytokines],
                "samples_drawn": sum(s.time is not None for s in h.samples),
            }
            for h in trial
        },
        "runs": {
            r.name: {"slope": r.slope, "intercept": r.intercept, "accepted": -3.6 <= r.slope <= -3.1}
            for r in design.runs
        },
    }


def features(design: Design, trial: tuple[History, ...]) -> dict[str, Any]:
    """Which patient, sample or file shows which of the things that happen in trials."""
    m, patients = design.mishaps, [h.patient for h in trial]
    failed = [r for r in design.runs if not -3.6 <= r.slope <= -3.1]
    rerun = {s.sample_id for r in design.runs if r not in failed for s in assays.plate_samples(r, trial)}
    in_failed = [s.sample_id for r in failed for s in assays.plate_samples(r, trial)]
    limit = {
        h.patient.patient_id: any((s.level or 0) * (s.ng_input or 0) / 1000 >= design.lloq_copies for s in h.samples)
        for h in trial
    }
    return {
        "missed_visit": list(m.missed),
        "pending": [s.sample_id for h in trial for s in h.samples if s.state == "pending"],
        "unscheduled": list(m.unscheduled),
        "early": [s for s, d in m.shifted.items() if d < 0],
        "late": [s for s, d in m.shifted.items() if d > 0],
        "low_input": dict(m.low_input),
        "failed_run": [r.name for r in failed],
        "rerun_after_failed_run": [s for s in in_failed if s in rerun],
        "lost_with_failed_run": [s for s in in_failed if s not in rerun],
        "reassayed": {
            s: [run, *(r.name for r in design.runs if s in r.also)] for s, (run, _) in m.outlying_replicate.items()
        },
        "omitted_well": list(m.omitted_well or ()),
        "low_droplets": m.low_droplets,
        "duplicate_export": m.duplicate_export,
        "reduced_infusion": {
            p.patient_id: {str(k): v for k, v in p.given_share.items()} for p in patients if p.given_share
        },
        "cytokine_withheld": {p.patient_id: list(p.cytokine_skipped) for p in patients if p.cytokine_skipped},
        "tocilizumab": [p.patient_id for p in patients if any(e[0] == "tocilizumab" for e in p.events)],
        "crs_grade": {
            p.patient_id: max(e[1] or 0 for e in p.events if e[0] == "crs")
            for p in patients
            if any(e[0] == "crs" for e in p.events)
        },
        "non_expander": [p.patient_id for p in patients if p.rho == 0],
        "never_above_lloq": [p for p, above in limit.items() if not above],
        "death": [p.patient_id for p in patients if p.status_end == "death"],
        "withdrawal": [p.patient_id for p in patients if p.status_end == "withdrawal"],
        "ongoing": [p.patient_id for p in patients if p.status_end == "ongoing"],
        "elapsed_times": [p.patient_id for p in patients if p.elapsed],
        "dll3_high": [p.patient_id for p in patients if p.dll3_high],
        "not_samples": ["NTC", *(name for name, _ in assays.CONTROLS), "FMO-CAR"],
    }


def study(seed: int = 1, design: Design = NCT07366658) -> Simulated:
    """A trial with known truth, as the site and the instruments would have written it.

    Parameters
    ----------
    seed : int
        With the study id it determines every random number; the bundled study is seed 1.
    design : Design
        What to simulate.

    Returns
    -------
    Simulated
        The same, byte for byte, for the same arguments.
    """
    trial = histories(design, seed)
    return Simulated(
        design=design,
        seed=seed,
        patients=_patients(design, trial),
        samples=_samples(trial),
        infusions=_infusions(trial),
        cytokines=_cytokines(design, trial),
        events=_events(trial),
        exports=_exports(design, seed, trial),
        truth=truth(design, seed, trial),
        levels=levels(design, trial),
        features=features(design, trial),
    )
