"""Fits of kinetic models: microseconds per fit, one patient through lmfit and SciPy, many patients through the batch.

One fit is one search from one start to its end, on 14 samples of `expansion_contraction` (6 parameters and the residual
SD), the same profiles and the same start everywhere. Without samples below the LLOQ the likelihood is a sum of squares
and lmfit's leastsq applies; with them (M3) lmfit minimises -2 ln L. The share of samples below the LLOQ stands beside
every figure, and so does the share of fits that ended within 1e-6 of the best ln L that any program reached from there.

``python benchmarks/fit.py`` takes about two minutes; ``--large`` adds 100,000 profiles; ``--analyse`` times whole
analyses (starts, profile intervals, derived quantities) of studies of growing size; ``--minpack`` compares optima.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from nkinetics.fitting.likelihood import Points
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import fitted
from nkinetics.fitting.together import Search, Steps, together
from nkinetics.models._algebra import to_natural
from nkinetics.plugins import Calendar, discover

MODEL = discover("models")["expansion_contraction"]
TIMES = np.array([1.0, 3, 5, 7, 9, 11, 14, 17, 21, 28, 42, 60, 90, 180])
TRUTH = np.array([24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032])
SIGMA = 0.4


def cases(n: int, lloq: float, seed: int = 1) -> tuple[list[Case], np.ndarray]:
    """Simulated patients, and the start of each fit, half a standard deviation or so away from the truth."""
    rng = np.random.default_rng(seed)
    constants = MODEL.settings()
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {}, 180.0)
    spread = np.array([0.5, 0.15, 0.1, 0.3, 0.4, 0.4])
    centre = np.log(TRUTH)
    centre[4] = np.log(TRUTH[4] / (1 - TRUTH[4]))
    vectors = centre + spread * rng.normal(size=(n, 6))
    mean = MODEL.log_level(TIMES, to_natural(MODEL, vectors), calendar, constants)
    seen = mean + SIGMA * rng.normal(size=mean.shape)
    made = []
    for level in seen:
        below = level < np.log(lloq) if lloq > 0 else np.zeros(len(level), dtype=bool)
        order = np.concatenate([np.flatnonzero(~below), np.flatnonzero(below)])
        k = int(below.sum())
        limits = np.full(k, np.log(lloq) if lloq > 0 else 0.0)
        points = Points(TIMES[order], level[~below], np.full(k, -np.inf), limits, np.zeros(len(level)))
        made.append(Case(MODEL, constants, calendar, points))
    starts = vectors + 0.5 * spread * rng.normal(size=(n, 6))
    return made, np.column_stack([starts, np.full(n, np.log(0.5))])


def batch(made: list[Case], starts: np.ndarray) -> np.ndarray:
    """-ln L at which each fit ended."""

    def steps(case: Case, start: np.ndarray) -> Steps[float]:
        low, high = case.bounds
        found = yield Search(case, start[None], low, high, tolerance=1e-9)
        return float(found.value[0])

    return np.array(together([steps(case, start) for case, start in zip(made, starts, strict=True)]))


def residuals(case: Case, vector: np.ndarray) -> np.ndarray:
    return case.points.log_level - case.curve(case.points.time, vector)[0]


def profiled(case: Case, squares: float) -> float:
    """-ln L of least squares, the residual SD at its best value."""
    n = case.points.n
    return 0.5 * n * (np.log(2 * np.pi * squares / n) + 1)


def by_lmfit(analytic: bool) -> Callable[[Case, np.ndarray], float]:
    """lmfit's default, least squares; without censoring only."""
    import lmfit

    def fit(case: Case, start: np.ndarray) -> float:
        low, high = case.bounds
        parameters = lmfit.Parameters()
        for name, value, a, b in zip(MODEL.names, start, low, high, strict=False):
            parameters.add(name, value=float(value), min=float(a), max=float(b))

        def vector(p: lmfit.Parameters) -> np.ndarray:
            return np.array([*(p[name].value for name in MODEL.names), 0.0])

        def residual(p: lmfit.Parameters) -> np.ndarray:
            return residuals(case, vector(p))

        def slopes(p: lmfit.Parameters) -> np.ndarray:
            return -case.curve(case.points.time, vector(p))[1]

        options = {"Dfun": slopes, "col_deriv": 0} if analytic else {}
        done = lmfit.minimize(residual, parameters, method="leastsq", **options)
        return profiled(case, float((done.residual**2).sum()))

    return fit


def lmfit_m3(case: Case, start: np.ndarray) -> float:
    """lmfit on -2 ln L, as a user of lmfit alone would write the censored likelihood."""
    import lmfit

    low, high = case.bounds
    parameters = lmfit.Parameters()
    for name, value, a, b in zip(case.names, start, low, high, strict=True):
        parameters.add(name, value=float(value), min=float(a), max=float(b))

    def minus_two_log_likelihood(p: lmfit.Parameters) -> float:
        return float(2.0 * case.objective(np.array([[p[name].value for name in case.names]]))[0][0])

    done = lmfit.Minimizer(minus_two_log_likelihood, parameters, calc_covar=False).scalar_minimize("L-BFGS-B")
    return 0.5 * minus_two_log_likelihood(done.params)


def by_scipy(analytic: bool) -> Callable[[Case, np.ndarray], float]:
    """SciPy's least_squares with bounds; without censoring only."""
    from scipy.optimize import least_squares

    def fit(case: Case, start: np.ndarray) -> float:
        low, high = (b[:-1] for b in case.bounds)

        def padded(x: np.ndarray) -> np.ndarray:
            return np.append(x, 0.0)

        jacobian = (lambda x: -case.curve(case.points.time, padded(x))[1]) if analytic else "2-point"
        done = least_squares(
            lambda x: residuals(case, padded(x)), np.clip(start[:-1], low, high), jac=jacobian, bounds=(low, high)
        )
        return profiled(case, 2.0 * done.cost)

    return fit


def one_by_one(
    fit: Callable[[Case, np.ndarray], float], made: list[Case], starts: np.ndarray
) -> tuple[float, np.ndarray]:
    at = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = np.array([fit(case, start) for case, start in zip(made, starts, strict=True)])
    return 1e6 * (time.process_time() - at) / len(made), ends


def compared(lloq: float, few: int, sizes: tuple[int, ...]) -> None:
    made, starts = cases(max(few, 1000), lloq)
    share = np.mean([1 - case.points.n_quantified / case.points.n for case in made])
    print(f"{100 * share:.0f} % of samples below the LLOQ; microseconds of processor time per fit")
    found: dict[str, tuple[float, np.ndarray]] = {}
    if lloq == 0:
        found["lmfit leastsq, numerical Jacobian"] = one_by_one(by_lmfit(False), made[:few], starts[:few])
        found["lmfit leastsq, analytic Jacobian"] = one_by_one(by_lmfit(True), made[:few], starts[:few])
        found["scipy least_squares, numerical"] = one_by_one(by_scipy(False), made[:few], starts[:few])
        found["scipy least_squares, analytic"] = one_by_one(by_scipy(True), made[:few], starts[:few])
    else:
        found["lmfit L-BFGS-B on -2 ln L (M3)"] = one_by_one(lmfit_m3, made[:few], starts[:few])
    batch(made[:10], starts[:10])
    ours = batch(made[:few], starts[:few])
    best = np.min([ours, *(ends for _, ends in found.values())], axis=0)
    plain = next(iter(found.values()))[0]
    for name, (took, ends) in found.items():
        print(f"  {name:40}{took:10.0f}   best reached in {100 * np.mean(ends <= best + 1e-6):.0f} %")
    for n in sizes:
        own, begin = (made[:n], starts[:n]) if n <= len(made) else cases(n, lloq)
        for case in own:
            _ = case.shape
        at = time.process_time()
        batch(own, begin)
        took = 1e6 * (time.process_time() - at) / n
        reached = f"   best reached in {100 * np.mean(ours <= best + 1e-6):.0f} %" if n == sizes[-1] else ""
        print(f"  {f'batch of {n:,}':40}{took:10.0f}   {plain / took:.0f} times faster than plain lmfit{reached}")


def analysed() -> None:
    """Whole analyses: starts, profile intervals, derived quantities."""
    import pandas as pd
    from nkinetics import fitting
    from nkinetics.simulate.observed import observations

    print("whole analyses with profile intervals, bundled design; milliseconds per profile")
    for copies in (1, 10, 40):
        made = [observations(seed) for seed in range(copies)]
        frames = {
            name: pd.concat(
                [
                    getattr(m, name).assign(patient_id=f"{i:03d}-" + getattr(m, name)["patient_id"])
                    for i, m in enumerate(made)
                ],
                ignore_index=True,
            )
            for name in ("observations", "infusions", "cytokines", "patients")
        }
        for model in ("decay", "cytokine_window", "expansion_contraction"):
            at = time.process_time()
            done = fitting.analyse(
                frames["observations"],
                frames["infusions"],
                frames["cytokines"],
                patients=frames["patients"],
                models=(model,),
            )
            took = 1e3 * (time.process_time() - at) / len(done.fits)
            blq = done.fits["n_blq"].sum() / done.fits["n_obs"].sum()
            print(f"  {len(done.fits):5} profiles, {model:24}{took:8.1f} ms   {100 * blq:.0f} % BLQ", flush=True)


def by_minpack(case: Case, start: np.ndarray) -> tuple[float, bool]:
    """MINPACK's lmder, analytic Jacobian, to the last digits: -ln L at its end, and whether that is within our limits.

    MINPACK knows no limits, and none of the curve's parameters needs one on the scale of estimation.
    """
    from scipy.optimize import least_squares

    low, high = (b[:-1] for b in case.bounds)

    def padded(x: np.ndarray) -> np.ndarray:
        return np.append(x, 0.0)

    try:
        done = least_squares(
            lambda x: residuals(case, padded(x)),
            start[:-1],
            jac=lambda x: -case.curve(case.points.time, padded(x))[1],
            method="lm",
            xtol=1e-12,
            ftol=1e-14,
            gtol=1e-12,
        )
    except ValueError:  # an infinite residual, at a start or on the way
        return np.inf, False
    return profiled(case, 2.0 * done.cost), bool(((done.x >= low) & (done.x <= high)).all())


def against_minpack(n: int, n_starts: int) -> None:
    """The same start in both programs, then the whole search against many random starts of MINPACK."""
    made, starts = cases(n, 0.0)
    random = np.random.default_rng(60)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        ours = batch(made, starts)
        ends = [by_minpack(case, start) for case, start in zip(made, starts, strict=True)]
        theirs, within = np.array([e for e, _ in ends]), np.array([w for _, w in ends])
        # -ln L = n/2 ln SSE + a constant: a relative difference of SSE is 2/n of the difference of -ln L.
        off = 2.0 / len(TIMES) * (ours - theirs)[within]
        print(f"one start each, {n} patients: MINPACK ends within our search limits in {within.sum()}; of these")
        print(f"  same SSE to 1e-6 in {100 * np.mean(np.abs(off) <= 1e-6):.1f} %, ", end="")
        print(f"ours lower in {100 * np.mean(off < -1e-6):.1f} %, MINPACK's lower in {100 * np.mean(off > 1e-6):.1f} %")
        found = np.array([-optimum.log_likelihood for optimum in together([fitted(case) for case in made])])
        best = np.full(n, np.inf)
        for i, case in enumerate(made):
            low, high = (b[:-1] for b in case.bounds)
            for start in random.uniform(low, high, size=(n_starts, len(low))):
                end, inside = by_minpack(case, np.append(start, 0.0))
                best[i] = min(best[i], end) if inside else best[i]
    seen = np.isfinite(best)
    behind = (found - best)[seen]
    print(f"whole search against the best of {n_starts} random starts of MINPACK within the limits, ", end="")
    print(f"{seen.sum()} patients:")
    print(f"  -ln L higher by more than 1e-6 in {100 * np.mean(behind > 1e-6):.1f} %, by more than 0.01 in ", end="")
    print(f"{100 * np.mean(behind > 0.01):.1f} %; lower by more than 0.01 in {100 * np.mean(behind < -0.01):.1f} %")
    for i in np.flatnonzero(seen)[behind > 1e-6]:
        print(f"  patient {i}: {found[i] - best[i]:.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--few", type=int, default=200, help="fits of the slow programs")
    parser.add_argument("--large", action="store_true", help="100,000 profiles too")
    parser.add_argument("--analyse", action="store_true", help="whole analyses too")
    parser.add_argument("--minpack", action="store_true", help="only: the same optima as MINPACK, on 500 patients")
    parser.add_argument("--patients", type=int, default=500, help="of --minpack")
    options = parser.parse_args()
    if options.minpack:
        against_minpack(options.patients, 60)
        return
    sizes = (10, 1_000, 100_000) if options.large else (10, 1_000, 10_000)
    import lmfit  # noqa: F401  loading it is not fitting

    for lloq in (0.0, 300.0):
        compared(lloq, options.few, sizes)
    if options.analyse:
        analysed()


if __name__ == "__main__":
    main()
