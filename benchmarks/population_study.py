"""Simulated trials through the population engine: bias, error and coverage against a known truth.

    python benchmarks/population_study.py --design decay-9 --trials 100     # adds trials to population_study.csv
    python benchmarks/population_study.py --table                           # the table of benchmarks/README.md

Trials are kept one by one: a run that is cut off goes on where it stopped. Nine patients (three at the first dose
level, six at twice the dose) are estimated by Bayes, forty (twenty and twenty) by SAEM with one run.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from nkinetics.fitting import assay_profiles
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, discover
from nkinetics.population.estimation import _estimate, chosen_method
from nkinetics.population.study import prepare
from nkinetics.settings import Models, Population

KEPT = Path(__file__).with_name("population_study.csv")
COLUMNS = [
    "design", "trial", "fitted", "method", "parameter", "truth", "estimate", "lower", "upper", "settled", "blq_pct",
    "bic", "elpd", "n_parameters", "cpu_s",
]  # fmt: skip
NK = (0.0625, 1, 2, 2.95, 4, 5, 5.95, 7, 8, 9, 10, 11, 12, 13, 16, 20, 27)
CAR_T = (1, 3, 5, 7, 9, 11, 14, 17, 21, 28, 42, 60, 90, 180)
TRUTH = {
    "decay": ((2000.0, 0.40), (0.6, 0.3)),
    "cytokine_window": ((1500.0, 0.40, 0.60), (0.6, 0.2, 0.3)),
    "expansion_contraction": ((10000.0, 0.7, 9.3, 0.2, 0.04, 0.015), (0.7, 0.25, 0.2, 0.4, 0.7, 0.5)),
}
SIGMA, LLOQ, THETA = 0.4, 50.0, 1.0
RIVAL = {"decay": "cytokine_window", "cytokine_window": "decay"}


def study(model_name: str, n: int, seed: int) -> dict[str, pd.DataFrame]:
    """One trial as a user brings it."""
    model = discover("models")[model_name]
    constants = model.settings()
    random = np.random.default_rng([seed, n, len(model_name)])
    natural, omega = TRUTH[model_name]
    typical = to_estimation(model, np.array(natural))
    infusions = (0.0,) if model_name == "expansion_contraction" else (0.0, 3.0, 6.0)
    times = np.array(CAR_T if model_name == "expansion_contraction" else NK, dtype=float)
    rows, given, pulses, patients = [], [], [], []
    for i in range(n):
        name, dose = f"{i + 1:03d}", 1.0 if i < (3 if n == 9 else n // 2) else 2.0
        calendar = Calendar(
            np.array(infusions), np.full(len(infusions), dose**THETA), {"IL-2": np.array([0.0, 3, 6, 9])}, times[-1]
        )
        phi = typical + np.array(omega) * random.standard_normal(len(typical))
        mean = model.log_level(times, to_natural(model, phi), calendar, constants)
        level = np.exp(mean + SIGMA * random.standard_normal(len(times)))
        rows += [
            {"patient_id": name, "sample_id": f"{name}-{k}", "time_actual": t, "lloq": LLOQ}
            | {"level": y if y >= LLOQ else np.nan, "status": "quantified" if y >= LLOQ else "blq"}
            for k, (t, y) in enumerate(zip(times, level, strict=True))
        ]
        given += [
            {"patient_id": name, "infusion": k + 1, "time": s, "planned": dose * 2e9, "given": dose * 2e9}
            for k, s in enumerate(infusions)
        ]
        pulses += [{"patient_id": name, "agent": "IL-2", "time": s} for s in (0.0, 3.0, 6.0, 9.0)]
        patients.append({"patient_id": name, "dose_level": f"DL{int(dose)}"})
    names = ("observations", "infusions", "cytokines", "patients")
    return dict(zip(names, map(pd.DataFrame, (rows, given, pulses, patients)), strict=True))


def truth_of(model_name: str) -> dict[str, float]:
    """Population parameters on the scale of estimation."""
    model = discover("models")[model_name]
    natural, omega = TRUTH[model_name]
    typical = to_estimation(model, np.array(natural))
    found = {f"typical {p}": float(v) for p, v in zip(model.names, typical, strict=True)}
    found |= {f"omega {p}": float(np.log(v)) for p, v in zip(model.names, omega, strict=True)}
    return found | {"theta_dose": THETA, "sigma": float(np.log(SIGMA))}


def estimates(
    tables: dict[str, pd.DataFrame], model_name: str
) -> tuple[dict[str, tuple[float, ...]], dict[str, float]]:
    """Estimate and interval of each population parameter on the scale of estimation, and what else is kept."""
    begin = time.process_time()
    settings, models = Population(seeds=1), Models()
    found = assay_profiles(tables["observations"], tables["infusions"], tables["cytokines"], None, tables["patients"])
    method = chosen_method(settings, len(tables["patients"]))
    prepared = prepare([found], model_name, settings, models, tables["patients"], weak=method == "bayes")
    assert not isinstance(prepared, str)
    result = _estimate(prepared, method, settings, ("qpcr", "blood", model_name))
    names = prepared.study.effects
    own = {}
    for k, place in enumerate(result.places):
        name = {
            "theta": lambda i: names.coefficients[i] if i >= len(names.names) else f"typical {names.names[i]}",
            "sd": lambda i: f"omega {names.names[i]}",
            "sigma": lambda i: "sigma",
        }[place.kind](place.index[0])
        own[name] = (result.centre[k], result.lower[k], result.upper[k])
    rows = prepared.study.series
    more = {
        "method": method,
        "settled": bool(result.numbers["converged"]),
        "blq_pct": 100.0 * rows.weight[:, rows.n_quantified :].sum() / rows.rows,
        "bic": result.numbers["bic"],
        "elpd": result.numbers.get("elpd_loo", np.nan),
        "n_parameters": len(result.places),
        "cpu_s": time.process_time() - begin,
    }
    return own, more


def run(design: str, trials: int, kept: Path) -> None:
    """Trials that are not kept yet."""
    model_name, n = design.rsplit("-", 1)
    done = set()
    if kept.is_file():
        table = pd.read_csv(kept)
        done = set(table.loc[table["design"] == design, "trial"])
    fitted = [model_name, RIVAL[model_name]] if model_name in RIVAL else [model_name]
    for trial in range(trials):
        if trial in done:
            continue
        tables, truth, rows = study(model_name, int(n), trial), truth_of(model_name), []
        for name in fitted:
            own, more = estimates(tables, name)
            for parameter, (value, low, high) in own.items():
                known = truth.get(parameter, np.nan) if name == model_name else np.nan
                rows.append(
                    {"design": design, "trial": trial, "fitted": name, "parameter": parameter, "truth": known}
                    | {"estimate": value, "lower": low, "upper": high}
                    | more
                )
        new = not kept.is_file()
        with kept.open("a", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        print(design, trial, file=sys.stderr)


def table(kept: Path) -> str:
    """Markdown: one row for each design and parameter, then which structure was chosen."""
    from nkinetics.population.comparison import BIC_APART, ELPD_APART

    whole = pd.read_csv(kept)
    lines = [
        "| design | method | trials | BLQ % | parameter | truth | bias | SD | bias/SD | RMSE | coverage % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    own = whole[whole["truth"].notna()]
    for (design, parameter), g in own.groupby(["design", "parameter"], sort=False):
        off = g["estimate"] - g["truth"]
        inside = (g["lower"] <= g["truth"]) & (g["truth"] <= g["upper"])
        sd = off.std()
        lines.append(
            f"| {design} | {g['method'].iloc[0]} | {len(g)} | {g['blq_pct'].mean():.0f} | {parameter} "
            f"| {g['truth'].iloc[0]:.2f} | {off.mean():+.3f} | {sd:.3f} | {off.mean() / sd:+.2f} "
            f"| {np.sqrt((off**2).mean()):.3f} | {100 * inside.mean():.0f} |"
        )
    lines += ["", "| design | trials | true structure chosen % | settled % | CPU s a fit |", "|---|---|---|---|---|"]
    for design, g in whole.groupby("design", sort=False):
        each = g.drop_duplicates(["trial", "fitted"])
        true_name = str(design).rsplit("-", 1)[0]
        chosen = "-"
        if each["fitted"].nunique() == 2:
            wide = each.pivot(index="trial", columns="fitted", values=["bic", "elpd"])
            small, large = "decay", "cytokine_window"
            if each["elpd"].notna().all():
                takes_large = wide["elpd"][large] - wide["elpd"][small] > ELPD_APART
            else:
                takes_large = wide["bic"][small] - wide["bic"][large] > BIC_APART
            right = takes_large if true_name == large else ~takes_large
            chosen = f"{100 * right.mean():.0f}"
        lines.append(
            f"| {design} | {each['trial'].nunique()} | {chosen} | {100 * each['settled'].mean():.0f} "
            f"| {each['cpu_s'].median():.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--design", action="append", default=[], metavar="MODEL-N")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--kept", type=Path, default=KEPT)
    args = parser.parse_args()
    for design in args.design:
        run(design, args.trials, args.kept)
    if args.table:
        print(table(args.kept))


if __name__ == "__main__":
    main()
