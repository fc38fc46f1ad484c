"""Turnbull's estimate of interval-censored losses: a published example, laws, and a second implementation."""

from __future__ import annotations

import numpy as np
import pytest
from nkinetics.population.persistence import kaplan_meier_curve
from nkinetics.population.turnbull import DENSE, Turnbull, held, innermost, turnbull

INF = np.inf

# Months to cosmetic deterioration, 46 patients with radiotherapy and 48 with radiotherapy and chemotherapy
# (Finkelstein and Wolfe 1985, Biometrics 41:933-945); a single number is the last visit of a patient without it.
RADIOTHERAPY = (
    "45 6-10 0-7 46 46 7-16 17 7-14 37-44 0-8 4-11 15 11-15 22 46 46 25-37 46 26-40 46 27-34 36-44 46 36-48 37 40 "
    "17-25 46 11-18 38 5-12 37 0-5 18 24 36 5-11 19-35 17-25 24 32 33 19-26 37 34 36"
)
WITH_CHEMOTHERAPY = (
    "8-12 0-22 24-31 17-27 17-23 24-30 16-24 13 11-13 16-20 18-25 17-26 32 23 44-48 14-17 0-5 5-8 12-20 11 33-40 31 "
    "13-39 19-32 34 13 16-24 35 15-22 11-17 22-32 10-35 30-34 13 10-17 8-21 4-9 11 14-19 4-8 34 30-36 18-24 16-60 "
    "35-39 21 11-20 48"
)
# The estimates as they are published with the example (R package interval, J Stat Softw 36(2), 2010), 4 decimals.
PUBLISHED = {
    RADIOTHERAPY: {
        (4, 5): 0.0463,
        (6, 7): 0.0334,
        (7, 8): 0.0887,
        (11, 12): 0.0708,
        (24, 25): 0.0926,
        (33, 34): 0.0818,
        (38, 40): 0.1209,
        (46, 48): 0.4656,
    },
    WITH_CHEMOTHERAPY: {
        (4, 5): 0.0433,
        (5, 8): 0.0433,
        (11, 12): 0.0692,
        (16, 17): 0.1454,
        (18, 19): 0.1411,
        (19, 20): 0.1157,
        (24, 25): 0.0999,
        (30, 31): 0.0709,
        (35, 36): 0.1608,
        (44, 48): 0.0552,
        (48, 60): 0.0552,
    },
}


def ends(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of an example; a single number is right-censored."""
    pairs = [tuple(float(x) for x in (*word.split("-"), "inf")[:2]) for word in text.split()]
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


def some_intervals(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a few patients seen at a common calendar, some right-censored, some exact."""
    rng = np.random.default_rng(seed)
    n, visits = int(rng.integers(2, 25)), np.array([0.0, 7, 10, 14, 21, 28, 42, 56])
    first = rng.integers(0, len(visits) - 1, n)
    later = np.minimum(first + rng.integers(1, 4, n), len(visits) - 1)
    lower, upper = visits[first], visits[later]
    upper = np.where(rng.random(n) < 0.3, INF, upper)
    exact = rng.random(n) < 0.2
    return np.where(exact, visits[later], lower), np.where(exact, visits[later], upper)


def holds(lower: np.ndarray, upper: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Which intervals lie within the interval of each patient, written out from the definition."""
    inside = (lower[:, None] <= start) & (end <= upper[:, None])
    # (5, 9] does not hold the exact loss at 5.
    return inside & ~((start == end) & (lower[:, None] == start) & (upper[:, None] > end))


def log_likelihood(made: Turnbull, lower: np.ndarray, upper: np.ndarray) -> float:
    return float(np.log(holds(lower, upper, made.start, made.end).astype(float) @ made.mass).sum())


def by_self_consistency(lower: np.ndarray, upper: np.ndarray, steps: int = 20_000) -> np.ndarray:
    """Turnbull's own iteration, written out: each loss is shared among the intervals that may hold it."""
    start, end = innermost(lower, upper)
    a = holds(lower, upper, start, end).astype(float)
    p = np.full(len(start), 1 / len(start))
    for _ in range(steps):
        p = (a * p / (a @ p)[:, None]).mean(axis=0)
    return p


@pytest.mark.parametrize("text", PUBLISHED, ids=["radiotherapy", "with_chemotherapy"])
def test_breast_cosmesis_comes_out_as_published(text: str) -> None:
    lower, upper = ends(text)
    assert len(lower) == {RADIOTHERAPY: 46, WITH_CHEMOTHERAPY: 48}[text]
    made = turnbull(lower, upper)
    kept = made.mass > 1e-6
    found = dict(zip(zip(made.start[kept], made.end[kept], strict=True), made.mass[kept].round(4), strict=True))
    assert found == PUBLISHED[text]


@pytest.mark.parametrize("seed", range(12))
def test_for_exact_and_right_censored_losses_it_is_kaplan_meier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 20))
    time, lost = rng.choice([7.0, 10, 14, 21, 28, 56], n), rng.random(n) < 0.6
    made = turnbull(time, np.where(lost, time, INF))
    curve = kaplan_meier_curve(time, lost)
    for t, share in zip(curve.time, curve.survival, strict=True):
        assert 1 - made.mass[made.end <= t].sum() == pytest.approx(share, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
class TestLaws:
    def test_mass_is_never_negative_and_adds_up_to_one(self, seed: int) -> None:
        made = turnbull(*some_intervals(seed))
        assert (made.mass >= 0).all() and made.mass.sum() == pytest.approx(1, abs=1e-12)

    def test_it_is_consistent_with_itself(self, seed: int) -> None:
        lower, upper = some_intervals(seed)
        made = turnbull(lower, upper)
        a = holds(lower, upper, made.start, made.end).astype(float)
        shared = (a * made.mass / (a @ made.mass)[:, None]).mean(axis=0)
        assert shared == pytest.approx(made.mass, abs=1e-7)
        assert made.gap <= 1e-9 * len(lower)

    def test_order_and_unit_of_the_times_do_not_matter(self, seed: int) -> None:
        lower, upper = some_intervals(seed)
        made = turnbull(lower, upper)
        order = np.random.default_rng(seed + 100).permutation(len(lower))
        again = turnbull(lower[order], upper[order])
        assert (again.mass == made.mass).all(), "not even in the last digit"
        hours = turnbull(24 * lower, 24 * upper)
        assert (hours.mass == made.mass).all() and (hours.start == 24 * made.start).all()

    def test_the_likelihood_is_that_of_the_plain_iteration_or_better(self, seed: int) -> None:
        lower, upper = some_intervals(seed)
        made = turnbull(lower, upper)
        plain = by_self_consistency(lower, upper)
        other = Turnbull(made.start, made.end, plain, 0.0)
        gain = log_likelihood(made, lower, upper) - log_likelihood(other, lower, upper)
        assert -1e-8 <= gain < 1e-2

    def test_every_patient_twice_changes_nothing(self, seed: int) -> None:
        lower, upper = some_intervals(seed)
        one, two = turnbull(lower, upper), turnbull(np.tile(lower, 2), np.tile(upper, 2))
        assert log_likelihood(two, lower, upper) == pytest.approx(log_likelihood(one, lower, upper), abs=1e-8)


def many_intervals(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses between visits that every patient has on days of his own, a tenth known exactly."""
    rng = np.random.default_rng(seed)
    visits = np.array([0.0, 7, 10, 14, 21, 28, 42, 56]) + np.append(0, 1).repeat([1, 7]) * rng.normal(0, 0.7, (n, 8))
    lost = 20 * rng.weibull(1.3, n)
    lower = np.where(visits <= lost[:, None], visits, 0.0).max(axis=1)
    upper = np.where(visits > lost[:, None], visits, INF).min(axis=1)
    exact = rng.random(n) < 0.1
    return np.where(exact, lost, lower), np.where(exact, lost, upper)


@pytest.mark.parametrize("seed", range(4))
class TestManyPatients:
    def test_steps_over_the_few_with_mass_end_where_steps_over_all_do(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lower, upper = many_intervals(seed, 600)
        made = turnbull(lower, upper)
        assert len(made.mass) > DENSE
        monkeypatch.setattr("nkinetics.population.turnbull.DENSE", len(made.mass))
        every = turnbull(lower, upper)
        assert max(made.gap, every.gap) <= 1e-10 * len(lower)
        assert made.mass == pytest.approx(every.mass, abs=1e-6)
        assert log_likelihood(made, lower, upper) == pytest.approx(log_likelihood(every, lower, upper), abs=1e-7)

    def test_nothing_is_left_to_gain(self, seed: int) -> None:
        """The bound is recomputed here from its definition, patient by patient."""
        lower, upper = many_intervals(seed, 2500)
        made = turnbull(lower, upper)
        a = holds(lower, upper, made.start, made.end).astype(float)
        assert made.mass.sum() == pytest.approx(1, abs=1e-12) and (made.mass >= 0).all()
        assert (a / (a @ made.mass)[:, None]).sum(axis=0).max() <= len(lower) * (1 + 2e-10)

    def test_what_a_patient_holds_is_one_run(self, seed: int) -> None:
        for lower, upper in (many_intervals(seed, 300), some_intervals(seed)):
            start, end = innermost(lower, upper)
            first, stop = held(lower, upper, start, end)
            each = np.arange(len(start))
            run = (first[:, None] <= each) & (each < stop[:, None])
            assert (run == holds(lower, upper, start, end)).all()


def test_half_open_intervals_that_only_touch_do_not_overlap() -> None:
    made = turnbull(np.array([0.0, 7.0]), np.array([7.0, 14.0]))
    assert made.start.tolist() == [0, 7] and made.end.tolist() == [7, 14]
    assert made.mass == pytest.approx([0.5, 0.5])


def test_an_exact_loss_at_the_open_end_of_another_interval_is_not_in_it() -> None:
    made = turnbull(np.array([7.0, 7.0]), np.array([7.0, 14.0]))
    assert made.start.tolist() == [7, 7] and made.end.tolist() == [7, 14]
    assert made.mass == pytest.approx([0.5, 0.5])


def test_the_median_is_an_interval_and_open_when_never_reached() -> None:
    assert turnbull(np.array([0.0, 7.0, 14.0]), np.array([7.0, 14.0, INF])).median == (7.0, 14.0)
    assert turnbull(np.array([7.0, 14.0]), np.array([INF, INF])).median == (14.0, INF)


def test_without_patients_there_is_no_estimate() -> None:
    made = turnbull(np.array([]), np.array([]))
    assert len(made.mass) == 0 and np.isnan(made.median[0])
