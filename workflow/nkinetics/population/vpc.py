"""The visual predictive check as a table: by dose level and time bin, each row with its own limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.population.mixed import Values
from nkinetics.population.predictive import Checked, time_bins, visual_check
from nkinetics.population.study import Prepared

QUANTITIES: Mapping[float | None, str] = {5.0: "p05", 50.0: "p50", 95.0: "p95", None: "blq"}
"""Names of what `nkinetics.population.predictive.visual_check` compares."""
RULE = "M3"
"""The rule for levels below the LLOQ under which simulated and measured rows are alike."""


def samples_of(observations: pd.DataFrame) -> pd.DataFrame:
    """Planned time and limits of the samples, by patient and `observation_id` (by time where a table has no ids)."""
    columns = ("time_nominal", "lloq", "uloq")
    frame = observations.reindex(columns=["patient_id", "observation_id", "time_actual", *columns])
    name = frame["observation_id"].astype(object).where(frame["observation_id"].notna(), "").astype(str)
    key = name.where(name != "", frame["time_actual"].astype(float).map(_at))
    frame = frame.assign(_key=frame["patient_id"].astype(str) + "|" + key).drop_duplicates("_key").set_index("_key")
    return frame[list(columns)].astype(float)


def _at(time: float) -> str:
    return f"at {time:.6f}"


def vpc(
    prepared: Prepared,
    values: Values,
    samples: pd.DataFrame,
    assays: Sequence[str],
    random: np.random.Generator,
) -> list[dict[str, Any]]:
    """Rows of population_vpc.csv without their key of assay, specimen, model and method.

    Parameters
    ----------
    prepared : Prepared
        The study, rows below the LLOQ as intervals (M3).
    values : Values
        Population parameters.
    samples : DataFrame
        As `samples_of` gives it.
    assays : sequence of str
        Names of the assays that share the curve.
    random : Generator
        Source of the draws.

    Notes
    -----
    Bins are made of planned times, of the actual ones where a sample has no plan, over all dose levels together. A row
    whose LLOQ is not known is never simulated below it.
    """
    series = prepared.study.series
    shape, q = series.weight.shape, series.n_quantified
    planned, lloq = series.time.copy(), np.full(shape, -np.inf)
    uloq, use = np.full(shape, np.inf), series.weight > 0
    for i, patient in enumerate(prepared.patients):
        at = np.flatnonzero(use[i])
        names = [prepared.ids[i][k] or _at(t) for k, t in zip(series.place[i, at], series.time[i, at], strict=True)]
        known = samples.reindex([f"{patient}|{name}" for name in names]).to_numpy(dtype=float)
        planned[i, at] = np.where(np.isfinite(known[:, 0]), known[:, 0], series.time[i, at])
        with np.errstate(divide="ignore", invalid="ignore"):
            lloq[i, at] = np.where(known[:, 1] > 0, np.log(known[:, 1]), -np.inf)
            uloq[i, at] = np.where(known[:, 2] > 0, np.log(known[:, 2]), np.inf)
    # A censored row tells its own limit where the table does not.
    if shape[1] > q:
        ends = np.where(np.isposinf(series.log_upper), -np.inf, series.log_upper)
        lloq[:, q:] = np.where(np.isneginf(lloq[:, q:]), ends, lloq[:, q:])
    levels = sorted({p.dose_level for p in prepared.profiles})
    level = np.array([levels.index(p.dose_level) for p in prepared.profiles])
    bins = np.zeros(shape, dtype=int)
    bins[use] = time_bins(planned[use])
    many = int(bins.max()) + 1
    cell = (series.assay * len(levels) + level[:, None]) * many + bins
    found = []
    for checked in visual_check(prepared.study, values, cell, lloq, uloq, random):
        group, b = divmod(checked.cell, many)
        times = series.time[(cell == checked.cell) & use]
        found.append(
            {
                "measured_by": assays[group // len(levels)],
                "dose_level": levels[group % len(levels)],
                "bin": b + 1,
                "time": float(np.median(times)),
                "time_from": float(times.min()),
                "time_to": float(times.max()),
                "n": checked.n,
                "n_blq": checked.n_blq,
                **_printed(checked),
            }
        )
    return found


def _printed(checked: Checked) -> dict[str, Any]:
    """Numbers on the scale of the table, and in words what is below or above the limits."""
    ends = {k: getattr(checked, k) for k in ("observed", "lower", "median", "upper")}
    if checked.percentile is None:
        return {"quantity": QUANTITIES[None], **ends, "reason": ""}
    below, above = ([k for k, v in ends.items() if np.isinf(v) and (v > 0) == high] for high in (False, True))
    words = [f"{', '.join(w)} {side}" for w, side in ((below, "below the LLOQ"), (above, "above the ULOQ")) if w]
    numbers = {k: float(np.exp(v)) if np.isfinite(v) else float("nan") for k, v in ends.items()}
    return {"quantity": QUANTITIES[checked.percentile], **numbers, "reason": "; ".join(words)}
