"""Simulation study: patients with known truth, fitted as a user fits them; what the numbers and intervals are worth.

Every patient has parameters of his own around typical values (log-normal; shares logit-normal), is sampled 17, 10 or 7
times with a residual SD of 0.3, 0.45 or 0.6 on ln and an LLOQ of 50 copies/ug, and goes through
`nkinetics.fitting.analyse`. Infusions at days 0, 3 and 6 and IL-2 at days 0, 3, 6 and 9, follow-up to day 27;
`expansion_contraction` has one infusion and follow-up to day 270, as CAR-T cells do.

``python benchmarks/simulation.py --patients 500`` works through all models and writes two tables beside this file after
each cell (model, samples, SD): `simulation.csv`, one row per parameter, and `simulation_expansion.csv`, how often an
expansion is claimed. Cells that stand there with as many patients are not done again. ``--table`` prints them.

Patients are seeded by their own text: the first 100 of 500 are those of ``--patients 100``.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nkinetics import fitting
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, discover
from nkinetics.settings import Models

LLOQ = 50.0
"""copies/ug."""
SIGMAS = (0.3, 0.45, 0.6)
CHUNK = 100
"""Patients simulated and fitted at once."""
INFUSIONS, PULSES = (0.0, 3.0, 6.0), (0.0, 3.0, 6.0, 9.0)
SHORT = {
    17: (0.06, 1.0, 2.0, 2.95, 4.0, 5.0, 5.95, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 20.0, 27.0),
    10: (0.06, 1.0, 2.95, 4.0, 5.95, 7.0, 9.0, 13.0, 20.0, 27.0),
    7: (1.0, 4.0, 7.0, 9.0, 13.0, 20.0, 27.0),
}
"""Days of the samples after the start of the first infusion."""
LONG = {
    17: (1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 17.0, 21.0, 28.0, 42.0, 60.0, 90.0, 120.0, 180.0, 270.0),
    10: (1.0, 4.0, 7.0, 10.0, 14.0, 21.0, 28.0, 60.0, 120.0, 270.0),
    7: (2.0, 6.0, 10.0, 14.0, 28.0, 60.0, 180.0),
}


@dataclass(frozen=True)
class Truth:
    """A model with the typical values of its parameters and their spread over patients, on the scale of estimation."""

    typical: tuple[float, ...]
    omega: tuple[float, ...]
    infusions: tuple[float, ...] = INFUSIONS
    pulses: tuple[float, ...] = PULSES
    calendar: Mapping[int, tuple[float, ...]] = field(default_factory=lambda: SHORT)
    constants: Mapping[str, Any] = field(default_factory=dict)


TRUTHS = {
    "decay": Truth((1500.0, 0.4), (0.6, 0.4)),
    "biexponential": Truth((2500.0, 0.7, 0.05, 0.07), (0.6, 0.4, 0.6, 0.4)),
    "cytokine_window": Truth((1500.0, 0.4, 0.6), (0.6, 0.4, 0.4)),
    "host_recovery": Truth((300.0, 0.35, 1.2, 0.17), (0.6, 0.4, 0.4, 0.4)),
    "expansion_contraction": Truth(
        (24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032), (0.6, 0.3, 0.25, 0.4, 0.6, 0.4), (0.0,), (), LONG
    ),
    "effector_memory": Truth((2500.0, 0.5, 0.7, 0.03, 0.03), (0.6, 0.4, 0.4, 0.4, 0.4)),
    "logistic": Truth((300.0, 0.9, 9000.0, 0.3), (0.6, 0.4, 0.6, 0.4), constants={"growth_days": 3.0}),
    "rejection": Truth((2500.0, 0.15, 0.5, 0.3), (0.6, 0.4, 0.4, 0.4)),
}
"""Typical values by models.md 2 and 3."""
RIVALS = {
    "decay": ("decay", "cytokine_window", "expansion_contraction"),
    "cytokine_window": ("decay", "cytokine_window"),
}
"""Fitted to the same patients, for the choice: the default candidates where the truth knows no growth."""


@dataclass(frozen=True)
class Cell:
    """Patients of one truth, with so many samples and such a residual SD."""

    truth: str
    samples: int
    sigma: float

    @property
    def models(self) -> tuple[str, ...]:
        """What is fitted."""
        return RIVALS.get(self.truth, (self.truth,))


def settings_of(cell: Cell) -> Models:
    """Settings under which the cell is simulated and fitted."""
    own = TRUTHS[cell.truth].constants
    return Models(candidates=cell.models, **({cell.truth: dict(own)} if own else {}))


def patients(cell: Cell, first: int, last: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Observations, infusions, cytokines and the truth (patient_id, parameter, true; scale of estimation)."""
    own, model = TRUTHS[cell.truth], discover("models")[cell.truth]
    time = np.array(own.calendar[cell.samples])
    calendar = Calendar(
        np.array(own.infusions),
        np.ones(len(own.infusions)),
        {"IL-2": np.array(own.pulses)} if own.pulses else {},
        time[-1],
    )
    centre = to_estimation(model, np.array(own.typical))
    constants = settings_of(cell).constants(cell.truth)
    rows, known = [], []
    for i in range(first, last):
        patient = f"{i:05d}"
        text = f"{cell.truth}|{cell.samples}|{cell.sigma}|{patient}"
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
        natural = to_natural(model, centre + np.array(own.omega) * rng.normal(size=len(centre)))
        # Two phases that changed places are one curve with two names.
        natural = natural if model.ordered is None else model.ordered(natural)
        mean = model.log_level(time, natural, calendar, constants)
        level = np.exp(mean + cell.sigma * rng.normal(size=len(time)))
        rows.append(
            pd.DataFrame(
                {
                    "patient_id": patient,
                    "sample_id": [f"{patient}-{j:02d}" for j in range(len(time))],
                    "time_actual": time,
                    "level": np.where(level >= LLOQ, level, np.nan),
                    "status": np.where(level >= LLOQ, "quantified", "blq"),
                    "lloq": LLOQ,
                }
            )
        )
        true = [*to_estimation(model, natural), np.log(cell.sigma)]
        known += [(patient, p, t) for p, t in zip((*model.names, "sigma"), true, strict=True)]
    who = [f"{i:05d}" for i in range(first, last)]
    infusions = pd.DataFrame(
        [(p, k, t, 2e9, 2e9) for p in who for k, t in enumerate(own.infusions, start=1)],
        columns=["patient_id", "infusion", "time", "planned", "given"],
    )
    cytokines = pd.DataFrame([(p, "IL-2", t) for p in who for t in own.pulses], columns=["patient_id", "agent", "time"])
    return (
        pd.concat(rows, ignore_index=True),
        infusions,
        cytokines,
        pd.DataFrame(known, columns=["patient_id", "parameter", "true"]),
    )


def fitted(cell: Cell, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fits of all models, and estimates of the true model beside the truth on the scale of estimation."""
    fits, estimates = [], []
    settings = settings_of(cell)
    for first in range(0, n, CHUNK):
        observations, infusions, cytokines, known = patients(cell, first, min(first + CHUNK, n))
        done = fitting.analyse(observations, infusions, cytokines, settings)
        fits.append(done.fits)
        own = done.estimates[(done.estimates["model"] == cell.truth) & (done.estimates["kind"] == "fitted")]
        estimates.append(known.merge(own, on=["patient_id", "parameter"], how="left"))
        # Growth of the rival, whose interval says whether there was an expansion.
        rival = done.estimates[(done.estimates["model"] == "cytokine_window") & (done.estimates["parameter"] == "rho")]
        estimates.append(rival.assign(true=np.nan) if cell.truth == "decay" else rival.iloc[:0])
    return pd.concat(fits, ignore_index=True), pd.concat(estimates, ignore_index=True)


def on_scale(model: str, parameter: str, value: np.ndarray) -> np.ndarray:
    """Values of one parameter on the scale of estimation; an end at 0 or 1 lies at infinity."""
    scale = {p.name: p.scale for p in discover("models")[model].parameters}.get(parameter, "log")
    with np.errstate(divide="ignore"):
        if scale == "identity":
            return value
        return np.log(value) - np.log1p(-value) if scale == "logit" else np.log(value)


def worth(cell: Cell, fits: pd.DataFrame, estimates: pd.DataFrame) -> pd.DataFrame:
    """One row per parameter of the true model."""
    own = fits[fits["model"] == cell.truth]
    there = own["log_likelihood"].notna()
    found = []
    for parameter in (*discover("models")[cell.truth].names, "sigma"):
        rows = estimates[(estimates["parameter"] == parameter) & estimates["true"].notna()]
        rows = rows[rows["estimate"].notna()]
        true = rows["true"].to_numpy(dtype=float)
        value, low, high = (
            on_scale(cell.truth, parameter, rows[c].to_numpy(dtype=float)) for c in ("estimate", "ci_lower", "ci_upper")
        )
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        inside = (low <= true) & (true <= high)
        sure = rows["identifiable"].to_numpy(dtype=bool)
        error = value - true
        found.append(
            {
                "truth": cell.truth,
                "samples": cell.samples,
                "sigma": cell.sigma,
                "parameter": parameter,
                "patients": len(own),
                "fitted": int(there.sum()),
                "blq_pct": 100.0 * own["n_blq"].sum() / own["n_obs"].sum(),
                "identifiable": int(sure.sum()),
                "not_identifiable_pct": 100.0 * (1.0 - sure.mean()),
                "not_converged_pct": 100.0 * (1.0 - own.loc[there, "converged"].mean()),
                "median_error": np.median(error),
                "bias": error[sure].mean() if sure.any() else np.nan,
                "rmse": np.sqrt((error[sure] ** 2).mean()) if sure.any() else np.nan,
                "coverage_pct": 100.0 * inside.mean(),
                "coverage_identifiable_pct": 100.0 * inside[sure].mean() if sure.any() else np.nan,
                "below_pct": 100.0 * (true < low).mean(),
                "above_pct": 100.0 * (true > high).mean(),
                "median_width": np.median((high - low)[sure]) if sure.any() else np.nan,
            }
        )
    return pd.DataFrame(found)


def expansion(cell: Cell, fits: pd.DataFrame, estimates: pd.DataFrame) -> pd.DataFrame:
    """How often an expansion is claimed of these patients: false where the truth is `decay`.

    By the interval of rho of `cytokine_window`, which excludes no growth; by AICc, which prefers a model with growth;
    by both, the preferred model having a growth that can be told from none.
    """
    rho = estimates[(estimates["model"] == "cytokine_window") & (estimates["parameter"] == "rho")]
    excludes = rho["ci_open"].isin(["none", "upper"])
    picked = fits[fits["selected"]]
    growing = picked["model"] != "decay"
    flat = picked["reason"].str.contains("no expansion phase identifiable")
    n = fits["patient_id"].nunique()
    return pd.DataFrame(
        [
            {
                "truth": cell.truth,
                "samples": cell.samples,
                "sigma": cell.sigma,
                "patients": n,
                "rho_above_0_pct": 100.0 * excludes.sum() / n,
                "aicc_pct": 100.0 * growing.sum() / n,
                "aicc_cytokine_window_pct": 100.0 * (picked["model"] == "cytokine_window").sum() / n,
                "aicc_and_interval_pct": 100.0 * (growing & ~flat).sum() / n,
            }
        ]
    )


KEY = ["truth", "samples", "sigma"]


def kept(path: Path, new: pd.DataFrame) -> None:
    """Put a cell's rows into a table in place of those that stand there."""
    old = pd.read_csv(path) if path.exists() else new.iloc[:0]
    own = new[KEY].drop_duplicates().itertuples(index=False)
    cells = {tuple(row) for row in own}
    rest = old[[tuple(row) not in cells for row in old[KEY].itertuples(index=False)]]
    order = {name: i for i, name in enumerate(TRUTHS)}
    whole = pd.concat([rest, new], ignore_index=True) if len(rest) else new
    place = pd.DataFrame({"a": whole["truth"].map(order), "b": -whole["samples"], "c": whole["sigma"]})
    whole = whole.iloc[np.lexsort((place["c"], place["b"], place["a"]))]
    part = path.with_suffix(".part")
    whole.to_csv(part, index=False, float_format="%.4g", lineterminator="\n")
    part.replace(path)


def to_do(options: argparse.Namespace, path: Path) -> Iterator[Cell]:
    """Cells that do not stand in the table with so many patients."""
    done = pd.read_csv(path) if path.exists() and not options.again else pd.DataFrame(columns=[*KEY, "patients"])
    for truth, samples, sigma in product(options.models, options.samples, options.sigmas):
        own = (done["truth"] == truth) & (done["samples"] == samples) & (done["sigma"] == sigma)
        if not (done.loc[own, "patients"] >= options.patients).any():
            yield Cell(truth, samples, sigma)


def table(folder: Path) -> str:
    """Both tables as Markdown: coverage over all residual SDs together, and how often an expansion is claimed."""
    whole = pd.read_csv(folder / "simulation.csv")
    lines = [
        "| truth | samples | patients | BLQ % | coverage % (not identifiable %) | together | not converged % |",
        "|---|---|---|---|---|---|---|",
    ]

    def share(own: pd.DataFrame, column: str, of: str = "fitted") -> float:
        return float((own[column] * own[of]).sum() / own[of].sum())

    for (truth, samples), own in whole.groupby(["truth", "samples"], sort=False):
        each = [
            f"{name} {share(rows, 'coverage_pct'):.1f} ({share(rows, 'not_identifiable_pct'):.0f})"
            for name, rows in own.groupby("parameter", sort=False)
        ]
        one = own[own["parameter"] == "sigma"]
        lines.append(
            f"| {truth} | {samples} | {one['patients'].sum()} | {share(one, 'blq_pct'):.0f} | {', '.join(each)} "
            f"| {share(own, 'coverage_pct'):.1f} | {share(one, 'not_converged_pct'):.2f} |"
        )
    claims = pd.read_csv(folder / "simulation_expansion.csv")
    lines += [
        "",
        "| truth | samples | patients | rho's interval above 0, % | AICc prefers growth, % | both, % |",
        "|---|---|---|---|---|---|",
    ]
    for (truth, samples), own in claims.groupby(["truth", "samples"], sort=False):
        columns = ("rho_above_0_pct", "aicc_pct", "aicc_and_interval_pct")
        cells = [" / ".join(f"{v:.1f}" for v in own[c]) for c in columns]
        counts = " / ".join(str(n) for n in own["patients"])
        lines.append(f"| {truth} | {samples} | {counts} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--models", nargs="+", choices=list(TRUTHS), default=list(TRUTHS))
    parser.add_argument("--samples", nargs="+", type=int, choices=list(SHORT), default=list(SHORT))
    parser.add_argument("--sigmas", nargs="+", type=float, default=list(SIGMAS))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where the tables are kept")
    parser.add_argument("--again", action="store_true", help="do cells again that stand there")
    parser.add_argument("--table", action="store_true", help="only print what stands there")
    options = parser.parse_args()
    if options.table:
        print(table(options.folder))
        return
    path = options.folder / "simulation.csv"
    for cell in to_do(options, path):
        fits, estimates = fitted(cell, options.patients)
        rows = worth(cell, fits, estimates)
        kept(path, rows)
        if cell.truth in RIVALS:
            kept(options.folder / "simulation_expansion.csv", expansion(cell, fits, estimates))
        by = rows.set_index("parameter")["coverage_pct"].round(1).to_dict()
        print(f"{cell.truth}, {cell.samples} samples, SD {cell.sigma}: coverage % {by}", flush=True)


if __name__ == "__main__":
    main()
