"""Type I error and power of the statement on dose proportionality, by simulation.

    python benchmarks/dose_proportionality.py [--trials 2000]

Two dose levels, 2e9 and 4e9 cells; ln Cmax normal with slope theta on ln amount, the between-patient SD of ln Cmax
given. Criterion 0.68 to 1.32 (limits 0.8 and 1.25 at a ratio of 2), 90 % interval.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import dataclass

import numpy as np
from nkinetics.population.dose_proportionality import (
    NOT_PROPORTIONAL,
    PROPORTIONAL,
    power_model,
    power_model_censored,
    power_model_repeated,
    slope_criterion,
    verdict,
)

DESIGNS = ((3, 6), (6, 6), (20, 20), (100, 100))
SPREADS = (0.3, 0.6, 1.0)
LIMITS = slope_criterion(2)
SLOPES = (0.5, LIMITS[0], 1.0, LIMITS[1], 1.5)


@dataclass(frozen=True)
class Rates:
    """Shares of trials: the two statements, the interval that holds the truth; and the median width of the interval."""

    proportional: float
    not_proportional: float
    coverage: float
    width: float
    bias: float
    estimated: float


def generator(*what: object) -> np.random.Generator:
    """Random numbers of a setting, from its words alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big"))


def rates(
    design: tuple[int, int], theta: float, spread: float, trials: int, below: float = 0.0, how: str = "ols"
) -> Rates:
    """Shares over so many trials.

    Parameters
    ----------
    design : (int, int)
        Patients of the lower and of the higher dose level.
    theta, spread : float
        True slope, and SD of ln Cmax between patients.
    trials : int
        Trials.
    below : float
        Share of patients below the LLOQ at the lower level; 0 for none.
    how : {"ols", "censored", "repeated"}
        Estimator: the power model on the patients with a value, with the others censored, or over three infusions
        (SD within patients 0.4).
    """
    rng = generator("dose proportionality", design, round(theta, 6), spread, below, how)
    x = np.repeat([0.0, np.log(2)], design)
    amount = 2e9 * np.exp(x)
    said, ends, slopes = [], [], []
    limit = spread * float(np.quantile(generator("quantile").standard_normal(200_000), below)) if below else -np.inf
    for _ in range(trials):
        own = theta * x + spread * rng.standard_normal(len(x))
        if how == "repeated":
            who, k = np.repeat(np.arange(len(x)).astype(str), 3), np.tile([1, 2, 3], len(x))
            value = np.exp(np.repeat(own, 3) + 0.4 * rng.standard_normal(3 * len(x)))
            made = power_model_repeated(np.repeat(amount, 3), value, who, k)
        else:
            seen = own > limit
            if len(np.unique(x[seen])) < 2 or seen.sum() < 3:
                continue
            if how == "censored":
                value, bound = np.where(seen, np.exp(own), np.nan), np.where(seen, np.nan, np.exp(limit))
                made = power_model_censored(amount, value, bound)
            else:
                made = power_model(amount[seen], np.exp(own[seen]))
        said.append(verdict(made.lower, made.upper, *LIMITS))
        ends.append((made.lower, made.upper))
        slopes.append(made.value)
    low, high = np.array(ends).T
    words = np.array(said)
    inside = (np.isnan(low) | (low <= theta)) & (np.isnan(high) | (theta <= high))
    return Rates(
        float((words == PROPORTIONAL).mean()),
        float((words == NOT_PROPORTIONAL).mean()),
        float(inside.mean()),
        float(np.nanmedian(high - low)),
        float(np.nanmean(slopes) - theta),
        len(said) / trials,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    began = time.process_time()
    print("n        SD   theta   proportional  not prop.  inconclusive  coverage  CI width")
    for design in DESIGNS:
        for spread in SPREADS:
            for theta in SLOPES:
                r = rates(design, theta, spread, trials)
                rest = 1 - r.proportional - r.not_proportional
                print(
                    f"{design[0]:>3}+{design[1]:<4} {spread:<4} {theta:<7.3f} {r.proportional:>8.3f} "
                    f"{r.not_proportional:>12.3f} {rest:>12.3f} {r.coverage:>11.3f} {r.width:>9.2f}"
                )
    print("\n30 % of the lower level below the LLOQ, SD 0.6")
    print("n        theta   how        bias   coverage  proportional  estimated")
    for design in DESIGNS[:3]:
        for theta in (0.5, 1.0, 1.5):
            for how in ("ols", "censored"):
                r = rates(design, theta, 0.6, max(trials // 4, 1), 0.3, how)
                print(
                    f"{design[0]:>3}+{design[1]:<4} {theta:<7.3f} {how:<9} {r.bias:>6.2f} {r.coverage:>9.3f} "
                    f"{r.proportional:>12.3f} {r.estimated:>11.3f}"
                )
    print("\nthree infusions, SD 0.6 between and 0.4 within patients")
    print("n        theta   proportional  not prop.  coverage  CI width")
    for design in DESIGNS[:3]:
        for theta in (0.5, 1.0, 1.5):
            r = rates(design, theta, 0.6, max(trials // 10, 1), 0.0, "repeated")
            print(
                f"{design[0]:>3}+{design[1]:<4} {theta:<7.3f} {r.proportional:>8.3f} {r.not_proportional:>12.3f} "
                f"{r.coverage:>9.3f} {r.width:>9.2f}"
            )
    spent = time.process_time() - began
    print(f"\n{trials} trials a line (a fourth with censoring, a tenth with infusions); {spent:.0f} s")


if __name__ == "__main__":
    main()
