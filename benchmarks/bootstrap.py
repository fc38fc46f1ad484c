"""Parametric bootstrap: seconds for a study of nine patients, milliseconds for one patient, and what it misses.

``python benchmarks/bootstrap.py`` takes about a minute; ``--missed`` adds some: how often a bootstrap fit is not the
best. The share of samples below the LLOQ stands beside every figure. A data set is missed when the search that a
patient's own data get finds an ln L that is more than 0.1 higher.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np
from fit import TIMES, cases
from nkinetics import fitting
from nkinetics.blq import DENSITY, INTERVAL
from nkinetics.fitting.likelihood import Points
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import best_fit, fitted
from nkinetics.fitting.profiles import assay_profiles
from nkinetics.fitting.resampling import Design, Sets, refitted, resampled, seed_of, simulated
from nkinetics.fitting.together import together
from nkinetics.plugins import discover
from nkinetics.settings import Blq, Models
from nkinetics.simulate.observed import Observed, observations

SEED = 20260101


def study(trial: Observed, names: tuple[str, ...], samples: int, starts: int) -> None:
    """Whole analyses of the bundled design, three infusions and the IL-2 calendar, with and without the bootstrap."""
    took = {}
    for interval in ("delta", "bootstrap"):
        settings = Models(interval=interval, bootstrap_samples=samples, bootstrap_starts=starts)
        wall, cpu = time.perf_counter(), time.process_time()
        done = fitting.analyse(
            trial.observations, trial.infusions, trial.cytokines, settings, patients=trial.patients, models=names
        )
        took[interval] = time.perf_counter() - wall, time.process_time() - cpu
    n = done.fits["patient_id"].nunique()
    blq = done.fits["n_blq"].sum() / done.fits["n_obs"].sum()
    print(
        f"{n} patients x {' + '.join(names)}, {samples:,} samples, {starts} start{'s' if starts > 1 else ''}: "
        f"{took['bootstrap'][0]:.1f} s wall, {took['bootstrap'][1]:.1f} s processor, "
        f"{took['delta'][1]:.1f} s of them fits and all else; {100 * blq:.0f} % BLQ",
        flush=True,
    )


def one_patient(lloq: float, shares: tuple[float, float], n: int = 9) -> None:
    """1,000 samples of one patient of `expansion_contraction`, 14 samples, in milliseconds."""
    pool = cases(60, lloq)[0]
    chosen = [c for c in pool if shares[0] <= 1 - c.points.n_quantified / c.points.n <= shares[1]][:n]
    below = np.mean([1 - c.points.n_quantified / c.points.n for c in chosen])
    limit = np.full(len(TIMES), lloq if lloq > 0 else np.nan)
    none = np.full(len(TIMES), np.nan)
    plan = Design(TIMES, none, limit, none, np.zeros(len(TIMES)), "M3")
    for starts in (1, 5):
        took = []
        for case in chosen:
            optimum = best_fit(case)
            at = time.process_time()
            resampled(case, optimum, plan, 1000, starts, seed_of("benchmark"))
            took.append(1e3 * (time.process_time() - at))
        print(
            f"one patient of expansion_contraction, 1,000 samples, {starts} start{'s' if starts > 1 else ''}: "
            f"median {np.median(took):.0f} ms of processor ({min(took):.0f} to {max(took):.0f}), "
            f"{100 * below:.0f} % BLQ",
            flush=True,
        )


def alone(sets: Sets, i: int) -> Case:
    """One simulated data set as if it were a patient's."""
    kinds = [np.flatnonzero(sets.kind[i] == kind) for kind in (DENSITY, INTERVAL)]
    order = np.concatenate(kinds)
    levels = sets.log_lower[i, kinds[0]], sets.log_lower[i, kinds[1]], sets.log_upper[i, kinds[1]]
    return replace(sets.case, points=Points(sets.time[order], *levels, sets.counting_variance[i, order]))


def missed(trial: Observed, name: str, starts: tuple[int, ...] = (1, 5, 10), checked: int = 40) -> None:
    """How often the bootstrap ends below the best that a whole search finds for the same data set."""
    model = discover("models")[name]
    whole = assay_profiles(trial.observations, trial.infusions, trial.cytokines, Blq(), trial.patients, None)[:4]
    shares: dict[int, list[float]] = {k: [] for k in starts}
    for profile in whole:
        assert profile.calendar is not None
        case = Case(model, model.settings(), profile.calendar, profile.points)
        optimum = best_fit(case)
        spread = np.full(400, np.exp(optimum.vector[-1]))
        sets = simulated(case, profile.design, optimum.vector, spread, seed_of(profile.patient_id, name))
        # Not those of the pilot, which are searched from everywhere.
        rows = [i for i in np.flatnonzero(sets.usable).tolist() if i >= 100][:checked]
        best = np.array([-o.log_likelihood for o in together([fitted(alone(sets, i)) for i in rows])])
        for k in starts:
            shares[k].append(float(np.mean(refitted(sets, optimum, k)[1][rows] > best + 0.1)))
    print(
        f"missed, {name}: "
        + ", ".join(f"{k} start{'s' if k > 1 else ''} {100 * np.mean(s):.1f} %" for k, s in shares.items()),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--missed", action="store_true", help="whole searches of simulated data sets too")
    options = parser.parse_args()
    trial = observations(SEED)
    best_fit(cases(1, 0.0)[0][0])
    for third in ("biexponential", "host_recovery", "expansion_contraction"):
        study(trial, ("decay", "cytokine_window", third), options.samples, 5)
    study(trial, ("decay", "cytokine_window", "biexponential"), options.samples, 1)
    one_patient(0.0, (0.0, 0.0))
    one_patient(150.0, (0.15, 0.25))
    print(f"peak memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB", flush=True)
    shown = ("decay", "cytokine_window", "host_recovery", "biexponential", "expansion_contraction")
    for name in shown if options.missed else ():
        missed(trial, name)


if __name__ == "__main__":
    main()
