"""A sampling schedule judged in advance: exact information, the errors that fits have, samples ranked rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli
from nkinetics.errors import BAD_INPUT, DONE, InputError
from nkinetics.fitting.design import (
    Plan,
    acting,
    candidate_times,
    condition_number,
    covariance,
    free_of,
    moment,
    population_errors,
    precision,
    ranking,
    told,
    truths_around,
)
from nkinetics.fitting.expected import expected
from nkinetics.fitting.likelihood import Points, terms
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import fitted
from nkinetics.fitting.plan import asked
from nkinetics.fitting.together import together
from nkinetics.plugins import Calendar, discover
from nkinetics.settings import Models
from scipy.integrate import quad
from scipy.stats import norm

MODELS = discover("models")
TRIAL = Calendar(np.array([0.0, 3.0, 6.0]), np.ones(3), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 27.0)
HOURS = 1.5 / 24
"""Samples 1-2 h after an infusion."""
AROUND_INFUSIONS = [HOURS, 1, 2, 3, 3 + HOURS, 4, 5, 6, 6 + HOURS, 7, 8]
WITHOUT_DAYS_10_TO_13 = np.array([*AROUND_INFUSIONS, 13, 16, 20, 27])
SEPARATING = np.array([9.0, 10.0, 11.0, 12.0])


def plan_of(name: str, calendar: Calendar | None = None, truth: tuple[float, ...] | None = None, **more) -> Plan:
    model = MODELS[name]
    constants = model.settings(**model.example.constants)
    truths = truths_around(model, truth or model.example.parameters)
    return Plan(model, constants, calendar or model.example.calendar, truths, **more)


def rse(plan: Plan, time) -> pd.Series:
    return precision(plan, plan.samples(np.asarray(time, dtype=float))).set_index("parameter")["rse_pct"]


# -------------------------------------------------------------------------------------------- information of a sample


@pytest.mark.parametrize("z", [-2.5, -0.7, 0.0, 0.4, 1.9])
@pytest.mark.parametrize("log_lod", [-np.inf, -0.6])
def test_the_information_is_the_mean_square_of_the_score_by_quadrature(z: float, log_lod: float) -> None:
    sigma, noise = 0.6, 0.05
    s = np.sqrt(sigma**2 + noise)
    mu, log_lloq = -z * s, 0.0
    by = sigma**2 / s

    def score(y: float) -> np.ndarray:
        r = (y - mu) / s
        return np.array([r / s, (r * r - 1.0) / s * by])

    def log_probability(at: np.ndarray, a: float, b: float) -> float:
        width = np.sqrt(np.exp(2 * at[1]) + noise)
        return float(np.log(norm.cdf((b - at[0]) / width) - norm.cdf((a - at[0]) / width)))

    whole = np.array(
        [
            [
                quad(lambda y: score(y)[i] * score(y)[j] * norm.pdf(y, mu, s), log_lloq, mu + 14 * s, epsabs=1e-13)[0]  # noqa: B023
                for i in range(2)
            ]
            for j in range(2)
        ]
    )
    for a, b in ((-np.inf, log_lod), (log_lod, log_lloq)) if np.isfinite(log_lod) else ((-np.inf, log_lloq),):
        at, h = np.array([mu, np.log(sigma)]), 1e-5
        slope = [(log_probability(at + e, a, b) - log_probability(at - e, a, b)) / (2 * h) for e in h * np.eye(2)]
        whole += np.outer(slope, slope) * np.exp(log_probability(at, a, b))
    found = expected(np.array([mu]), sigma, np.array([log_lloq]), log_lod, noise)
    assert [found.mean[0], found.cross[0], found.sigma[0]] == pytest.approx(
        [whole[0, 0], whole[0, 1], whole[1, 1]], rel=1e-6, abs=1e-8
    )
    assert found.below[0] == pytest.approx(norm.cdf(z))


@pytest.mark.parametrize("z", [-1.0, 0.3, 1.2])
def test_the_information_is_the_mean_square_of_the_likelihoods_own_score(z: float) -> None:
    """Against `likelihood.terms`, which the fits use: 400,000 simulated levels."""
    sigma, n = 0.5, 400_000
    mu = -z * sigma
    log_lod = -0.4
    y = mu + sigma * np.random.default_rng(7).standard_normal(n)
    seen, between, below = y[y > 0], int(((y <= 0) & (y > log_lod)).sum()), int((y <= log_lod).sum())
    lower = np.concatenate([np.full(between, log_lod), np.full(below, -np.inf)])
    upper = np.concatenate([np.zeros(between), np.full(below, log_lod)])
    points = Points(np.ones(n), seen, lower, upper, np.zeros(n))
    part = terms(np.full(n, mu), np.array(np.log(sigma)), points)
    found = expected(np.array([mu]), sigma, np.array([0.0]), log_lod)
    for told_by, products in (
        (found.mean, part.mean * part.mean),
        (found.cross, part.mean * part.sigma),
        (found.sigma, part.sigma * part.sigma),
    ):
        assert abs(told_by[0] - products.mean()) < 4.0 * products.std() / np.sqrt(n)
    # The observed curvature of the censored rows and the expected one of the others average to the same.
    assert part.mean2.mean() == pytest.approx(1 / sigma**2 * (len(seen) / n) + part.mean2[len(seen) :].sum() / n)


def test_far_above_the_limit_it_is_that_of_an_uncensored_sample_and_far_below_none() -> None:
    far = expected(np.array([-1e3, 0.0, 1e3]), 0.5, np.array([0.0, -np.inf, 0.0]))
    assert far.mean.tolist() == [0.0, 4.0, 4.0]
    assert far.sigma.tolist() == [0.0, 2.0, 2.0]
    assert far.cross.tolist() == [0.0, 0.0, 0.0] and far.below.tolist() == [1.0, 0.0, 0.0]


def test_a_limit_of_detection_adds_information_and_counting_noise_takes_some() -> None:
    mu = np.linspace(-2.0, 2.0, 41)
    plain, told_apart = expected(mu, 0.5, np.zeros(41)), expected(mu, 0.5, np.zeros(41), -0.7)
    assert (told_apart.mean > plain.mean).all() and (told_apart.sigma > plain.sigma - 1e-15).all()
    assert (expected(mu + 3, 0.5, np.zeros(41), -np.inf, 0.1).mean < expected(mu + 3, 0.5, np.zeros(41)).mean).all()


# ------------------------------------------------------------------------------------------ information of a schedule


@pytest.mark.parametrize("name", sorted(MODELS))
class TestEveryModel:
    def test_without_a_limit_the_information_is_that_of_least_squares(self, name: str) -> None:
        plan = plan_of(name, lloq=1e-300)
        time = plan.model.example.time
        _, slopes = plan.model.jacobian(time, plan.truths[0], plan.calendar, plan.constants)
        whole = told(plan, plan.samples(time)).matrix[0].sum(axis=0)
        assert whole[:-1, :-1] == pytest.approx(slopes.T @ slopes / plan.sigma**2, rel=1e-12)
        assert whole[-1, -1] == pytest.approx(2.0 * len(time)) and not whole[-1, :-1].any()

    def test_a_further_sample_never_lowers_the_determinant_and_a_lost_one_never_raises_it(self, name: str) -> None:
        plan = plan_of(name)
        ranked = ranking(plan, plan.samples(plan.model.example.time), add=2)
        added, lost = ranked[ranked["action"] != "drop"], ranked[ranked["action"] == "drop"]
        assert len(added) and (added["log_det_change"] > -1e-9).all()
        assert len(lost) == len(plan.model.example.time) and (lost["log_det_change"] < 1e-9).all()

    def test_a_change_of_unit_changes_no_error(self, name: str) -> None:
        plan = plan_of(name)
        levels = [i for i, p in enumerate(plan.model.parameters) if p.unit == "level_unit"]
        other = plan.truths.copy()
        other[:, levels] *= 1e3
        moved = Plan(plan.model, plan.constants, plan.calendar, other, lloq=plan.lloq * 1e3)
        time = plan.model.example.time
        assert rse(moved, time).to_numpy() == pytest.approx(rse(plan, time).to_numpy(), rel=1e-6, nan_ok=True)

    def test_every_number_or_its_absence_has_its_reason(self, name: str) -> None:
        plan = plan_of(name)
        for time in (plan.model.example.time, plan.model.example.time[:2]):
            rows = precision(plan, plan.samples(time))
            wanted = rows[rows["kind"] != "schedule"]
            blank = wanted["rse_pct"].isna() | ~wanted["identifiable"].astype(bool)
            assert (wanted.loc[blank, "reason"] != "").all()
            assert not rows.duplicated(["model", "kind", "parameter"]).any()
            assert set(plan.names) <= set(wanted["parameter"])


def test_a_schedule_with_fewer_samples_than_parameters_leaves_them_open_and_says_so() -> None:
    plan = plan_of("cytokine_window", TRIAL)
    rows = precision(plan, plan.samples([1.0, 20.0])).set_index("parameter")
    assert rows.loc[["scale", "delta", "rho"], "rse_pct"].isna().all()
    assert rows.loc["rho", "reason"] == "not identifiable: the schedule does not determine it"
    assert "leaves a direction open" in rows.loc["condition_number", "reason"]


def test_the_covariance_of_a_known_matrix_is_its_inverse_and_an_open_direction_is_nan() -> None:
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    assert covariance(matrix) == pytest.approx(np.linalg.inv(matrix))
    matrix[:2, :2] = 1.0
    found = covariance(matrix)
    assert np.isnan(found[:2]).all() and found[2, 2] == pytest.approx(0.5)
    assert condition_number(matrix) == np.inf and condition_number(np.eye(2)) == 1.0


@pytest.mark.parametrize(
    ("samples", "known"),
    [
        ([*AROUND_INFUSIONS, 9, 10, 11, 13, 20, 27], {"decay": 12, "rho": 29, "delta": 20, "lambda": 78}),
        ([HOURS, 1, 3, 3 + HOURS, 6, 6 + HOURS, 7, 9, 13, 20], {"decay": 15, "rho": 54, "delta": 38, "lambda": 95}),
        ([HOURS, 1, 3, 6 + HOURS, 9, 13, 20], {"decay": 16, "rho": 51, "delta": 36, "lambda": 124}),
    ],
    ids=["17", "10", "7"],
)
def test_the_errors_are_near_those_that_a_small_patient_is_known_for(samples, known) -> None:
    """The figures of the design document come from schedules and truths that it does not give: near, not equal."""
    assert rse(plan_of("decay", TRIAL, (2500.0, 0.4)), samples)["delta"] == pytest.approx(known["decay"], rel=0.3)
    window = rse(plan_of("cytokine_window", TRIAL), samples)
    assert window["rho"] == pytest.approx(known["rho"], rel=0.2)
    assert window["delta"] == pytest.approx(known["delta"], rel=0.5)
    recovery = rse(plan_of("host_recovery", TRIAL, (2500.0, 0.4, 0.6, 0.17)), samples)
    assert recovery["lambda_recovery"] == pytest.approx(known["lambda"], rel=0.35)
    tail = rse(plan_of("expansion_contraction", TRIAL), samples)
    assert not (tail["beta"] <= 1000) and not (tail["fraction_slow"] <= 1000)


@pytest.mark.parametrize(
    ("name", "truth", "samples"),
    [
        ("decay", (2500.0, 0.4), [*AROUND_INFUSIONS, 9, 10, 11, 12, 13, 16, 20]),
        ("cytokine_window", (2500.0, 0.4, 0.6), [*AROUND_INFUSIONS, 9, 10, 11, 12, 13, 16, 20]),
        ("decay", (200.0, 0.4), [HOURS, 1, 2, 3 + HOURS, 4, 5, 6 + HOURS, 7, 8, 9, 10, 12]),
    ],
    ids=["decay", "cytokine_window", "decay half below"],
)
def test_the_estimates_of_simulated_patients_scatter_as_expected(name: str, truth, samples) -> None:
    """Spread of 400 fits on the ln scale against the expected error: at this size within a sixth."""
    plan = plan_of(name, TRIAL, truth)
    time = acting(np.array(samples, dtype=float), TRIAL)
    mu = plan.model.log_level(time, plan.truths[0], TRIAL, plan.constants)
    limit = np.log(plan.lloq)
    random = np.random.default_rng(20)
    cases = []
    for _ in range(400):
        y = mu + plan.sigma * random.standard_normal(len(mu))
        order = np.argsort(y <= limit, kind="stable")
        seen = int((y > limit).sum())
        below = len(y) - seen
        points = Points(time[order], y[order][:seen], np.full(below, -np.inf), np.full(below, limit), np.zeros(len(y)))
        cases.append(Case(plan.model, plan.constants, TRIAL, points))
    found = np.array([optimum.vector for optimum in together([fitted(case) for case in cases])])
    error = rse(plan, samples)[list(plan.names)].to_numpy(float) / 100.0
    # Robust spread: a growth rate that a few patients lose has a long lower tail on the ln scale.
    low, high = np.quantile(found, [0.1587, 0.8413], axis=0)
    curve = slice(0, -1)
    assert ((high - low) / 2.0)[curve] == pytest.approx(error[curve], rel=0.17)


# ------------------------------------------------------------------------------------------------------------ ranking


def test_adding_and_dropping_are_what_the_changed_schedule_gives() -> None:
    plan = plan_of("cytokine_window", TRIAL)
    ranked = ranking(plan, plan.samples(WITHOUT_DAYS_10_TO_13), add=3, target="rho")
    greedy = ranked[ranked["action"] == "greedy"]
    whole = rse(plan, np.append(WITHOUT_DAYS_10_TO_13, greedy["time"]))
    assert greedy["rse_pct_rho"].iloc[-1] == pytest.approx(whole["rho"], rel=1e-9)
    first = ranked[ranked["action"] == "add"].iloc[0]
    assert first["time"] == greedy["time"].iloc[0]
    assert first["rse_pct_scale"] == pytest.approx(rse(plan, [*WITHOUT_DAYS_10_TO_13, first["time"]])["scale"])
    for row in ranked[ranked["action"] == "drop"].itertuples():
        left = WITHOUT_DAYS_10_TO_13[WITHOUT_DAYS_10_TO_13 != row.time]
        assert row.rse_pct_rho == pytest.approx(rse(plan, left)["rho"], rel=1e-9)


def test_each_step_of_the_greedy_path_is_the_best_beside_those_before_it() -> None:
    plan = plan_of("host_recovery")
    planned = plan.model.example.time
    path = ranking(plan, plan.samples(planned), add=2, target="lambda_recovery")
    second = path[path["action"] == "greedy"]["rse_pct_lambda_recovery"].iloc[1]
    beside = np.append(planned, path[path["action"] == "greedy"]["time"].iloc[0])
    offered = candidate_times(plan.calendar, plan.calendar.end)
    offered = offered[free_of(offered, beside, plan.calendar)]
    assert second == pytest.approx(min(rse(plan, [*beside, t])["lambda_recovery"] for t in offered), rel=1e-9)


def test_samples_after_the_last_cytokine_without_cells_separate_growth_from_the_level_after_an_infusion() -> None:
    """The calendar of the trial: cells on days 1, 4 and 7, IL-2 on days 1, 4, 7 and 10."""
    plan = plan_of("cytokine_window", TRIAL)
    ranked = ranking(plan, plan.samples(WITHOUT_DAYS_10_TO_13), np.arange(1.0, 28.0), target="rho")
    best = ranked[ranked["action"] == "add"].head(3)["timing"].tolist()
    assert set(best) == {"day 11", "day 12", "day 13"}
    before = precision(plan, plan.samples(WITHOUT_DAYS_10_TO_13)).set_index("parameter")
    after = precision(plan, plan.samples(np.append(WITHOUT_DAYS_10_TO_13, SEPARATING))).set_index("parameter")
    assert after.loc["rho", "rse_pct"] < 0.75 * before.loc["rho", "rse_pct"]
    # Four more samples around the infusions instead do less.
    elsewhere = rse(plan, np.append(WITHOUT_DAYS_10_TO_13, [0.5, 1.5, 4.5, 7.5]))
    assert after.loc["rho", "rse_pct"] < 0.85 * elsewhere["rho"]


def test_candidates_keep_their_distance_but_may_stand_on_both_sides_of_an_infusion() -> None:
    offered = np.array([2.9, 3.0, 3.1, 3.5])
    assert free_of(offered, np.array([3.0]), TRIAL).tolist() == [False, False, True, True]
    assert free_of(offered, np.array([3.0]), TRIAL, apart=0.05).tolist() == [True, False, True, True]
    plan = plan_of("cytokine_window", TRIAL)
    ranked = ranking(plan, plan.samples([HOURS, 3.0, 8.0, 20.0]), add=40)
    chosen = np.sort(np.append(ranked[ranked["action"] == "greedy"]["time"], [HOURS, 3.0, 8.0, 20.0]))
    for i, time in enumerate(chosen):
        assert free_of(np.array([time]), np.delete(chosen, i), TRIAL).all()


def test_a_sample_at_an_infusion_is_before_it_and_one_before_the_first_cells_tells_nothing() -> None:
    plan = plan_of("decay", TRIAL)
    found = told(plan, plan.samples([0.0, 3.0, 3.0 + HOURS]))
    assert not found.matrix[0, 0].any()
    assert found.log_level[0, 2] - found.log_level[0, 1] > 0.5
    assert moment(3.0, TRIAL) == "day 4, before infusion 2" and moment(9.0, TRIAL) == "day 10, before IL-2"
    rows = precision(plan, plan.samples([0.0, 3.0, 3.0 + HOURS])).set_index("parameter")
    assert rows.loc["n_samples", "value"] == 2


def test_the_order_of_the_samples_changes_nothing() -> None:
    plan = plan_of("cytokine_window", TRIAL)
    a = ranking(plan, plan.samples(WITHOUT_DAYS_10_TO_13))
    b = ranking(plan, plan.samples(WITHOUT_DAYS_10_TO_13[::-1]))
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


# ------------------------------------------------------------------------------------------------- between patients


def test_patients_are_drawn_the_same_every_time_around_the_typical_one() -> None:
    model = MODELS["cytokine_window"]
    omega = {"delta": 0.2, "rho": 0.4}
    one, two = (truths_around(model, (2500.0, 0.4, 0.6), omega, 2000) for _ in range(2))
    assert (one == two).all() and one.shape == (2001, 3)
    assert (one[:, 0] == 2500.0).all() and one[0].tolist() == [2500.0, 0.4, 0.6]
    assert np.log(one[1:, 2]).std() == pytest.approx(0.4, rel=0.06)


def test_errors_over_patients_hold_the_typical_one_and_the_share_counts_those_below_the_limit() -> None:
    model = MODELS["cytokine_window"]
    truths = truths_around(model, (2500.0, 0.4, 0.6), {"scale": 0.6, "delta": 0.15, "rho": 0.5}, 300)
    plan = Plan(model, model.settings(), TRIAL, truths)
    row = precision(plan, plan.samples(WITHOUT_DAYS_10_TO_13)).set_index("parameter").loc["rho"]
    assert row["rse_pct_low"] < row["rse_pct"] < row["rse_pct_high"]
    alone = [rse(Plan(model, model.settings(), TRIAL, t[None]), WITHOUT_DAYS_10_TO_13)["rho"] for t in truths[1:41]]
    share = np.mean(np.array(alone) <= 100)
    assert 0.5 < row["share_identifiable"] < 1 and row["share_identifiable"] == pytest.approx(share, abs=0.15)
    assert len(ranking(plan, plan.samples(WITHOUT_DAYS_10_TO_13), target="doubling_time"))


def test_the_population_error_is_that_of_the_linear_mixed_model() -> None:
    """decay after one infusion without a limit is linear in ln S and in delta: generalised least squares by hand.

    delta is estimated in ln here, so its column and its omega are those of ln delta at the truth.
    """
    once = Calendar(np.array([0.0]), np.array([1.0]), {}, 10.0)
    plan = plan_of("decay", once, (1000.0, 0.4), lloq=1e-300)
    time, omega, patients, doses = np.array([0.1, 1.0, 3.0, 6.0]), {"scale": 0.6, "delta": 0.3}, (3, 6), (1.0, 3.0)
    slopes = np.stack([np.ones(4), -0.4 * time], axis=1)
    precise = np.linalg.inv(slopes @ np.diag([0.36, 0.09]) @ slopes.T + 0.25 * np.eye(4))
    total = np.zeros((3, 3))
    for n, dose in zip(patients, doses, strict=True):
        by = np.column_stack([slopes, np.full(4, np.log(dose))])
        total += n * by.T @ precise @ by
    by_hand = 100 * np.sqrt(np.diag(np.linalg.inv(total)))
    rows = population_errors(plan, plan.samples(time), omega, patients, doses).set_index("parameter")
    assert rows.loc[["scale", "delta", "theta_dose"], "rse_pct"].to_numpy(float) == pytest.approx(by_hand, rel=1e-9)
    single = population_errors(plan, plan.samples(time), omega, (9,), (1.0,))
    assert "theta_dose" not in set(single["parameter"])


def test_patients_with_too_few_samples_still_tell_together_what_none_tells_alone() -> None:
    plan = plan_of("cytokine_window", TRIAL)
    rows = population_errors(plan, plan.samples([1.0, 20.0]), {"rho": 0.2}, (6,), (1.0,))
    assert rows["reason"].str.contains("does not determine it").any(), "all patients at the same two times"


# ----------------------------------------------------------------------------------------------------------- command

REQUEST = ["design", "--model", "cytokine_window", "--infusions", "0,3,6", "--cytokines", "0,3,6,9"]


def test_the_command_writes_both_tables_and_says_what_it_found(tmp_path: Path, capsys) -> None:
    times = "0,0.0625,1,2,3,3.0625,4,5,6,6.0625,7,8,13,16,20,27"
    more = ["--times", times, "--target", "rho", "--add", "2", "--omega", "0.2", "--patients", "3,6", "--doses", "1,3"]
    assert cli.main([*REQUEST, *more, "--output-dir", str(tmp_path / "a")]) == DONE
    said = capsys.readouterr().out
    for words in (
        "15 samples after the first cells, 1.0 of them expected below the LLOQ; 1 before the first cells tells nothing",
        "infusions: day 1, day 4, day 7; IL-2: day 1, day 4, day 7, day 10",
        "typical theta_dose",
        "one more sample, best first, for rho:",
        "day 11 + 12 h",
    ):
        assert words in said
    design = pd.read_csv(tmp_path / "a" / "design.csv").set_index(["kind", "parameter"])
    plan = plan_of("cytokine_window", TRIAL)
    assert design.loc[("fitted", "rho"), "rse_pct"] == pytest.approx(rse(plan, WITHOUT_DAYS_10_TO_13)["rho"])
    assert design.loc[("schedule", "n_samples"), "value"] == 15
    candidates = pd.read_csv(tmp_path / "a" / "design_candidates.csv")
    assert {"add", "drop", "greedy"} == set(candidates["action"]) and "rse_pct_rho" in candidates
    backwards = ",".join(times.split(",")[::-1])
    assert cli.main([*REQUEST, "--times", backwards, *more[2:], "--output-dir", str(tmp_path / "b")]) == DONE
    for name in ("design.csv", "design_candidates.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert capsys.readouterr().out == said


def test_the_figure_says_what_the_tables_say_in_bytes_that_never_change(tmp_path: Path, capsys) -> None:
    times = ",".join(f"{t:g}" for t in WITHOUT_DAYS_10_TO_13)
    more = ["--times", times, "--target", "rho", "--omega", "0.2", "--figure"]
    for folder in ("a", "b"):
        assert cli.main([*REQUEST, *more, "--output-dir", str(tmp_path / folder)]) == DONE
    svg = (tmp_path / "a" / "design.svg").read_text(encoding="utf-8")
    for words in ("rho 44 %", "gains most on day 11 + 12 h", "IL-2", "RSE of rho (%) with", "10 to 90 % of patients"):
        assert words in svg
    for name in ("design.svg", "design.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (
        cli.main([*REQUEST[:3], "--model", "decay", "--times", "0,1,40", "--figure", "--output-dir", str(tmp_path)])
        == DONE
    )
    assert "gain in ln det by one" in (tmp_path / "design.svg").read_text(encoding="utf-8")


def test_the_schedule_may_stand_in_a_table_with_limits_of_its_own(tmp_path: Path, capsys) -> None:
    table = tmp_path / "schedule.csv"
    table.write_text("time,lloq,visit\n1,,D2\n3,,D4\n8,200,D9\n13,200,D14\n")
    run = [*REQUEST, "--model", "decay", "--schedule", str(table), "--output-dir", str(tmp_path / "o")]
    assert cli.main(run) == DONE
    found = pd.read_csv(tmp_path / "o" / "design_candidates.csv").set_index(["action", "time"])
    plan = plan_of("decay", TRIAL)
    level = plan.model.log_level(np.array([8.0]), plan.truths[0], TRIAL, plan.constants)[0]
    assert found.loc[("drop", 8.0), "blq_share"] == pytest.approx(norm.cdf((np.log(200) - level) / 0.5), rel=1e-6)


def test_a_study_folder_gives_schedule_calendar_and_settings(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "config.yaml"
    config.write_text("study: {id: S1, reference_dose: 1.0e9}\nmodels: {rse_limit_pct: 10}\n")
    folder = config.parent
    (folder / "patients.csv").write_text("patient_id,dose_level\nP1,DL1\nP2,DL1\n")
    samples = ["sample_id,patient_id,time_nominal,time_actual"]
    samples += [f"{p}-{t},{p},{t},{t + 0.01}" for p in ("P1", "P2") for t in (0.0625, 1, 3, 3.0625, 6, 8, 13, 20)]
    (folder / "samples.csv").write_text("\n".join(samples) + "\n")
    rows = ["patient_id,infusion,time,planned,given,unit", "P1,1,0,1e9,1e9,cells", "P2,1,0,1e9,1e9,cells"]
    (folder / "infusions.csv").write_text("\n".join([*rows, "P2,2,2.98,1e9,5e8,cells"]) + "\n")
    (folder / "cytokines.csv").write_text("patient_id,agent,time\nP2,IL-2,0\nP2,IL-2,3.05\n")
    monkeypatch.chdir(tmp_path)
    run = ["design", "--model", "cytokine_window", "--config", "config/config.yaml", "--output-dir", "out"]
    assert cli.main(run) == DONE
    said = capsys.readouterr().out
    assert "infusions: day 1, day 4 (0.5); IL-2: day 1, day 4" in said
    assert "schedule: 8 planned times of 2 patients" in said and "those of patient P2" in said
    assert "day 4, before infusion 2" in said, "the actual time 2.98 d was planned on day 4"
    design = pd.read_csv("out/design.csv").set_index("parameter")
    assert "above 10 %" in design.loc["rho", "reason"]
    alone = [*run[:-1], "alone", "--patient", "P1", "--model", "decay"]
    assert cli.main(alone) == DONE
    assert "infusions: day 1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--times", "1,x"], "--times: found 'x'"),
        (["--times", "1", "--samples", "s.csv"], "found --times and --samples"),
        ([], "no schedule"),
        (["--times", "0,-1"], "no sample after the first infusion"),
        (["--times", "1,2", "--truth", "dleta=0.4"], "did you mean delta?"),
        (["--times", "1,2", "--truth", "delta=99"], "delta from 0.0001 to 10"),
        (["--times", "1,2", "--truth", "delta=0.4,delta=0.5"], "delta twice"),
        (["--times", "1,2", "--sigma", "0"], "--sigma: found '0'"),
        (["--times", "1,2", "--lod", "60"], "a LOD below the LLOQ 50"),
        (["--times", "1,2", "--model", "decayy"], "did you mean decay?"),
        (["--times", "1,2", "--infusions", "0,3:0"], "--infusions: found '3:0'"),
        (["--times", "1,2", "--infusions", "1,3"], "a first infusion on 1 d"),
        (["--times", "1,2", "--infusions", "none.csv"], "none.csv: found no such file"),
        (["--times", "1,2", "--cytokines", ""], "no dose of IL-2"),
        (["--times", "1,2", "--target", "curve_tmax"], "one that exists and is to be estimated"),
        (["--times", "1,2", "--add", "1.5"], "a whole number"),
        (["--times", "1,2", "--omega", "delta=-1"], "an SD of at least 0"),
        (["--times", "1,2", "--patients", "3,6"], "no variation between patients"),
        (["--times", "1,2", "--omega", "0.5", "--patients", "3,6", "--doses", "1"], "2, as many as in --patients"),
        (["--times", "1,2", "--omega", "0.5", "--doses", "1"], "dose levels without patients"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(tmp_path: Path, capsys, monkeypatch, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*REQUEST, *options, "--output-dir", "out"]) == BAD_INPUT
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and not said.out
    assert not (tmp_path / "out").exists()


def test_all_problems_are_told_at_once_and_none_that_only_follows_from_another() -> None:
    texts = {"model": "cytokine_window", "times": "1,x", "infusions": "a", "sigma": "-1", "truth": "rho=100"}
    with pytest.raises(InputError) as caught:
        asked(texts, {}, Models())
    assert [p.file for p in caught.value.problems] == ["--infusions", "--sigma", "--times", "--truth"]
