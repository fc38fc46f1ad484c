"""A simulated trial at the level of observations, without instruments: for coverage over many seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nkinetics.columns import CYTOKINES, INFUSIONS, OBSERVATIONS, PATIENTS
from nkinetics.simulate.assays import copies
from nkinetics.simulate.design import NCT07366658, Design
from nkinetics.simulate.truth import histories, stream
from nkinetics.store import complete


@dataclass(frozen=True, eq=False)
class Observed:
    """Observations of a simulated trial with the truth behind them.

    Parameters
    ----------
    observations, patients, infusions, cytokines : DataFrame
        As the stages exchange them (nkinetics.columns), elapsed times filled in.
    truth : DataFrame
        One row per patient: patient_id, dose_level, scale [copies/ug], delta [1/d], rho [1/d].
    levels : DataFrame
        True level [copies/ug] by patient_id and sample_id.
    """

    observations: pd.DataFrame
    patients: pd.DataFrame
    infusions: pd.DataFrame
    cytokines: pd.DataFrame
    truth: pd.DataFrame
    levels: pd.DataFrame


def observations(seed: int, design: Design = NCT07366658) -> Observed:
    """What an ideal qPCR of the trial reports: the residual error of the extract and counting noise, nothing else.

    The level is the count over all replicates divided by the DNA in them; its `n_molecules` is that count, so that the
    variance of ln level is sigma^2 + 1/n as the likelihood has it (models.md 4). Below LOD a sample is `not_detected`,
    between LOD and LLOQ `blq`.

    Parameters
    ----------
    seed : int
        With the study id it determines every random number.
    design : Design
        What to simulate; `Design.without_mishaps` leaves missed and shifted samples out.
    """
    rows, patients, infusions, cytokines, truths, levels = [], [], [], [], [], []
    for h in histories(design, seed):
        p = h.patient
        rng = stream(design, seed, p.patient_id, "counts")
        starts = np.array([start for start, _, _ in h.infusions])
        drawn = [s for s in h.samples if s.time is not None]
        for s in drawn:
            assert s.time is not None and s.ng_input is not None
            count = int(rng.poisson(copies(s) * design.replicates))
            per_ng = 1000 / s.ng_input
            mean = count / design.replicates
            lod, lloq = design.lod_copies, design.lloq_copies
            status = "quantified" if mean >= lloq else "blq" if mean >= lod else "not_detected"
            predose = s.visit.endswith("pre-dose")
            number = int((starts < s.time).sum()) if predose else int((starts <= s.time).sum())
            rows.append({
                "patient_id": p.patient_id, "dose_level": p.dose_level, "assay": "qpcr", "analyte": "CAR transgene",
                "specimen": "blood", "sample_id": s.sample_id, "visit": s.visit,
                "time_nominal": np.nan if s.time_nominal is None else s.time_nominal, "time_actual": s.time,
                "infusion": number, "time_after_dose": s.time - starts[number - 1] if number else np.nan,
                "level": mean * per_ng if status == "quantified" else np.nan, "level_unit": "copies/ug",
                "lod": lod * per_ng, "lloq": lloq * per_ng, "status": status, "n_molecules": float(count),
                "n_replicates": design.replicates, "reportable": True, "observation_id": f"{s.sample_id}-qpcr",
                "predose": predose, "ng_input": s.ng_input, "wbc_1e9_l": s.wbc, "alc_1e9_l": s.alc,
            })  # fmt: skip
            levels.append({"patient_id": p.patient_id, "sample_id": s.sample_id, "level": s.level})
        patients.append(
            {
                "patient_id": p.patient_id,
                "dose_level": p.dose_level,
                "cohort": p.cohort,
                "status_end": p.status_end,
                "time_end": np.nan if p.time_end is None else p.time_end,
                "weight_kg": p.weight_kg,
                "dll3_high": p.dll3_high,
                "indication": p.indication,
            }
        )
        infusions += [
            {
                "patient_id": p.patient_id,
                "infusion": k,
                "time": start,
                "planned": planned,
                "given": given,
                "unit": "cells",
            }
            for k, (start, planned, given) in enumerate(h.infusions, start=1)
        ]
        cytokines += [
            {
                "patient_id": p.patient_id,
                "agent": design.agent,
                "time": start,
                "dose": design.cytokine_dose,
                "unit": design.cytokine_unit,
            }
            for start in h.cytokines
        ]
        truths.append({"patient_id": p.patient_id, "dose_level": p.dose_level, **h.parameters})
    return Observed(
        complete(pd.DataFrame(rows), OBSERVATIONS),
        complete(pd.DataFrame(patients), PATIENTS),
        complete(pd.DataFrame(infusions), INFUSIONS),
        complete(pd.DataFrame(cytokines), CYTOKINES),
        pd.DataFrame(truths),
        pd.DataFrame(levels),
    )
