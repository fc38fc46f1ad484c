"""Population estimates: CPU seconds and memory at growing numbers of patients.

``python benchmarks/population.py`` runs 9, 40, 200 and 1,000 patients of `expansion_contraction` (6 parameters, 14
samples, LLOQ 50) by SAEM with its standard errors and likelihood, and 9 patients by Bayes; ``--large`` adds 10,000.
Each size runs in a process of its own, so that the peak memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from nkinetics.fitting.likelihood import Points
from nkinetics.models._algebra import to_estimation, to_natural
from nkinetics.plugins import Calendar, discover
from nkinetics.population.bayes import bayes
from nkinetics.population.information import conditional, importance_sampling, refined
from nkinetics.population.mixed import Effects, Study, series
from nkinetics.population.saem import saem

MODEL = discover("models")["expansion_contraction"]
TIMES = np.array([1.0, 3, 5, 7, 9, 11, 14, 17, 21, 28, 42, 60, 90, 180])
TRUTH = (24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032)
OMEGA = np.array([0.5, 0.2, 0.2, 0.35, 0.5, 0.5])
SIGMA, LLOQ = 0.4, 50.0


def study(n: int) -> Study:
    """Patients with known parameters."""
    random, constants = np.random.default_rng(n), MODEL.settings()
    typical = to_estimation(MODEL, np.array(TRUTH))
    p = len(typical)
    calendar = Calendar(np.zeros((n, 1)), np.ones((n, 1)), {}, 180.0)
    time_of = np.tile(TIMES, (n, 1))
    phi = typical + OMEGA * random.standard_normal((n, p))
    level = MODEL.log_level(time_of, to_natural(MODEL, phi), calendar, constants)
    level = level + SIGMA * random.standard_normal(level.shape)
    points, low = [], np.log(LLOQ)
    for y in level:
        seen = y > low
        times = np.concatenate([TIMES[seen], TIMES[~seen]])
        hidden = int((~seen).sum())
        points.append([Points(times, y[seen], np.full(hidden, -np.inf), np.full(hidden, low), np.zeros(len(y)))])
    rows = series(points)
    effects = Effects(
        names=MODEL.names,
        coefficients=MODEL.names,
        design=np.tile(np.eye(p), (n, 1, 1)),
        start=typical + 0.3,
        free=np.ones(p, dtype=bool),
        varies=np.ones(p, dtype=bool),
        together=np.eye(p, dtype=bool),
        prior_mean=typical,
        prior_sd=np.array([np.inf, *[2.0] * (p - 1)]),
        omega_scale=1.0,
        omega_start=np.full(p, 0.6),
        sigma_start=np.array([0.6]),
    )
    at = MODEL.prepared(rows.time, calendar, constants)

    def slopes(phi: np.ndarray, chains: int) -> tuple[np.ndarray, np.ndarray]:
        return MODEL.jacobian(rows.time, to_natural(MODEL, phi), calendar, constants)

    return Study(rows, effects, lambda phi, chains: at(to_natural(MODEL, phi)), slopes)


def one(method: str, n: int) -> str:
    """One row of the table."""
    made, random = study(n), np.random.default_rng(1)
    begin = time.process_time()
    if method == "bayes":
        found = bayes(made, random)
        spent = [time.process_time() - begin]
        told = f"Rhat {found.rhat.max():.3f}, effective draws {found.ess.min():.0f}"
    else:
        run = saem(made, random)
        marks = [begin, time.process_time()]
        around = conditional(made, run.values, run.walk)
        values, around = refined(made, run.values, run.walk, around)
        marks.append(time.process_time())
        evidence = importance_sampling(made, values, around.mean, around.covariance, random)
        marks.append(time.process_time())
        spent = np.diff(marks).tolist()
        told = f"ln L {evidence.log_likelihood:.1f} +- {evidence.error:.2f}, gain {around.gain:.2f}"
    blq = 100.0 * made.weight_c.sum() / made.series.rows
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = " | ".join(f"{s:.1f}" for s in (spent + [float("nan")] * 2)[:3]).replace("nan", "-")
    return f"| {method} | {n:,} | {blq:.0f} | {times} | {memory:.0f} | {told} |"


def main() -> None:
    """The table, one process for each row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "N"))
    args = parser.parse_args()
    if args.one:
        print(one(args.one[0], int(args.one[1])))
        return
    print("| method | patients | BLQ % | estimates, CPU s | standard errors | likelihood | peak MB | |")
    print("|---|---|---|---|---|---|---|---|")
    sizes = [9, 40, 200, 1000, *([10_000] if args.large else [])]
    for method, n in [("bayes", 9), *(("saem", n) for n in sizes)]:
        row = subprocess.run(
            [sys.executable, __file__, "--one", method, str(n)], check=True, capture_output=True, text=True
        )
        print(row.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
