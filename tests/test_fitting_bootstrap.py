"""Parametric bootstrap: what is simulated, how it is fitted again, and what its intervals hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.blq import DENSITY, INTERVAL, METHODS
from nkinetics.fitting.likelihood import Points
from nkinetics.fitting.objective import Case
from nkinetics.fitting.optimise import best_fit, fitted
from nkinetics.fitting.resampling import Design, bootstrap_ends, limits, refitted, resampled, seed_of, simulated
from nkinetics.fitting.together import together
from nkinetics.plugins import Calendar, discover
from nkinetics.settings import Blq, Models
from scipy import stats

MODELS = discover("models")
TIMES = np.array([0.06, 1, 2, 2.95, 3.06, 4, 5, 6.06, 7, 9, 11, 13, 16, 20, 27], dtype=float)
TAUS = np.array([0.0, 3.0, 6.0])
CALENDAR = Calendar(TAUS, np.ones(3), {"IL-2": np.array([0.0, 3.0, 6.0, 9.0])}, 27.0)
QUICK = {"interval": "bootstrap", "bootstrap_samples": 200, "bootstrap_starts": 3}


def design(time=TIMES, lloq=50.0, lod=np.nan, uloq=np.nan, variance=0.0, method="M3"):
    return Design(
        time, *(np.broadcast_to(np.asarray(x, dtype=float), time.shape) for x in (lod, lloq, uloq, variance)), method
    )


def case_of(name, truth, sigma=0.4, time=TIMES, lloq=50.0, seed=0, calendar=CALENDAR):
    """One simulated profile."""
    model = MODELS[name]
    mean = model.log_level(time, np.asarray(truth, dtype=float), calendar, model.settings())
    level = mean + sigma * np.random.default_rng(seed).normal(size=len(time))
    seen = level >= np.log(lloq)
    order = np.concatenate([np.flatnonzero(seen), np.flatnonzero(~seen)])
    below = int((~seen).sum())
    points = Points(
        time[order], level[seen], np.full(below, -np.inf), np.full(below, np.log(lloq)), np.zeros(len(time))
    )
    return Case(model, model.settings(), calendar, points)


def trial(level_of, patients=("01", "02"), sigma=0.35, lloq=50.0, times=TIMES):
    """Observations, infusions and cytokines of patients on the calendar above."""
    frames = []
    for patient in patients:
        rng = np.random.default_rng([7, int(patient)])
        level = level_of(times) * np.exp(sigma * rng.normal(size=len(times)))
        seen = level >= lloq
        frames.append(
            pd.DataFrame(
                {
                    "patient_id": patient,
                    "sample_id": [f"{patient}-{i:02d}" for i in range(len(times))],
                    "time_actual": times,
                    "level": np.where(seen, level, np.nan),
                    "status": np.where(seen, "quantified", "blq"),
                    "lloq": lloq,
                }
            )
        )
    infusions = pd.DataFrame(
        [(p, k, t, 2e9, 2e9) for p in patients for k, t in enumerate(TAUS, start=1)],
        columns=["patient_id", "infusion", "time", "planned", "given"],
    )
    cytokines = pd.DataFrame(
        [(p, "IL-2", t) for p in patients for t in (0.0, 3, 6, 9)], columns=["patient_id", "agent", "time"]
    )
    return pd.concat(frames, ignore_index=True), infusions, cytokines


def window_curve(time):
    model = MODELS["cytokine_window"]
    return np.exp(model.log_level(time, np.array([1500.0, 0.4, 0.6]), CALENDAR, model.settings()))


# ------------------------------------------------------------------------------------------------------- data sets


def test_a_row_is_censored_as_often_as_the_model_says():
    case = case_of("decay", (2500.0, 0.38))
    vector = case.estimation(np.array([2500.0, 0.38, 0.5]))
    plan = design(lod=20.0, uloq=5000.0, variance=0.04)
    sets = simulated(case, plan, vector, np.full(20_000, 0.5), seed_of("law"))
    mu, spread = case.curve(TIMES, vector)[0], np.sqrt(0.25 + 0.04)
    below = (sets.kind == INTERVAL) & (sets.log_upper <= np.log(50.0) + 1e-12)
    above = (sets.kind == INTERVAL) & np.isinf(sets.log_upper)
    assert np.abs(below.mean(axis=0) - stats.norm.cdf((np.log(50.0) - mu) / spread)).max() < 0.015
    assert np.abs(above.mean(axis=0) - stats.norm.sf((np.log(5000.0) - mu) / spread)).max() < 0.015
    # Between LOD and LLOQ the interval ends at both, below the LOD at the LOD alone.
    between = below & np.isfinite(sets.log_lower)
    assert np.allclose(sets.log_lower[between], np.log(20.0)) and np.allclose(sets.log_upper[between], np.log(50.0))
    assert np.allclose(sets.log_upper[below & ~between], np.log(20.0))
    assert (sets.counting_variance[sets.kind == INTERVAL] == 0).all()
    assert (sets.counting_variance[sets.kind == DENSITY] == 0.04).all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_blq_method_is_simulated_as_it_is_fitted(method):
    case = case_of("decay", (2500.0, 0.38))
    vector = case.estimation(np.array([2500.0, 0.38, 0.5]))
    sets = simulated(case, design(method=method), vector, np.full(500, 0.5), seed_of(method))
    half = (sets.kind == DENSITY) & np.isclose(sets.log_lower, np.log(25.0))
    interval = sets.kind == INTERVAL
    m3 = simulated(case, design(), vector, np.full(500, 0.5), seed_of(method)).kind == INTERVAL
    if method in ("M3", "M7"):
        assert (interval == m3).all() and not half.any()
    elif method == "M5":
        assert (half == m3).all() and not interval.any()
    elif method == "M6":
        # The first of each run, and of each data set its own.
        first = m3 & ~np.concatenate([np.zeros((500, 1), dtype=bool), m3[:, :-1]], axis=1)
        assert (half == first).all() and not interval.any()
    else:
        assert ((sets.kind == 0) == m3).all() and not half.any()


def test_a_row_without_lloq_is_never_censored():
    case = case_of("decay", (2500.0, 0.38))
    vector = case.estimation(np.array([2500.0, 0.38, 0.5]))
    for method in sorted(METHODS):
        plan = design(lloq=np.nan, lod=np.nan, method=method)
        assert (simulated(case, plan, vector, np.full(50, 0.5), seed_of("x")).kind == DENSITY).all()


def test_likelihood_gradient_and_curvature_of_a_data_set_are_those_of_the_same_profile_alone():
    case = case_of("cytokine_window", (1500.0, 0.4, 0.6))
    vector = best_fit(case).vector
    sets = simulated(case, design(lod=20.0, uloq=4000.0, variance=0.02), vector, np.full(6, 0.5), seed_of("same"))
    for i in range(6):
        quantified, censored = (np.flatnonzero(sets.kind[i] == kind) for kind in (DENSITY, INTERVAL))
        order = np.concatenate([quantified, censored])
        points = Points(
            sets.time[order],
            sets.log_lower[i, quantified],
            sets.log_lower[i, censored],
            sets.log_upper[i, censored],
            sets.counting_variance[i, order],
        )
        alone = Case(case.model, case.constants, case.calendar, points)
        trial_at = vector[None] + np.array([[0.1], [-0.2]])
        for ours, theirs in zip(sets.objective(trial_at, np.array([i, i])), alone.objective(trial_at), strict=True):
            assert np.allclose(ours, theirs, rtol=1e-11, atol=1e-11)
        value = alone.objective(vector[None])[0][0]
        assert np.isclose(sets.value(vector, np.array([i]))[0], value, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------- the fits


@pytest.mark.parametrize("name", ["decay", "cytokine_window", "host_recovery"])
def test_each_data_set_is_fitted_as_well_as_by_the_search_of_a_real_one(name):
    case = case_of(name, MODELS[name].example.parameters, lloq=20.0)
    optimum = best_fit(case)
    sets = simulated(case, design(lloq=20.0), optimum.vector, np.full(60, 0.4), seed_of(name))
    _, values = refitted(sets, optimum, 5)
    missed = 0
    for i in range(12):
        quantified, censored = (np.flatnonzero(sets.kind[i] == kind) for kind in (DENSITY, INTERVAL))
        order = np.concatenate([quantified, censored])
        points = Points(
            sets.time[order],
            sets.log_lower[i, quantified],
            sets.log_lower[i, censored],
            sets.log_upper[i, censored],
            np.zeros(len(order)),
        )
        whole = best_fit(Case(case.model, case.constants, case.calendar, points))
        assert values[i] >= -whole.log_likelihood - 1e-6
        missed += values[i] > -whole.log_likelihood + 0.05
    assert missed <= (0 if name != "host_recovery" else 1)


def test_more_data_sets_than_one_piece_change_no_bit(monkeypatch):
    case = case_of("cytokine_window", (1500.0, 0.4, 0.6))
    optimum = best_fit(case)
    whole = resampled(case, optimum, design(), 120, 3, seed_of("pieces"))
    monkeypatch.setattr("nkinetics.fitting.resampling.PIECE", 17)
    pieces = resampled(case, optimum, design(), 120, 3, seed_of("pieces"))
    assert np.array_equal(whole.vectors, pieces.vectors)


def test_data_sets_without_two_quantified_rows_are_counted_and_left_out():
    case = case_of(
        "decay",
        (500.0, 0.5),
        lloq=200.0,
        seed=3,
        time=np.array([0.5, 1.0, 1.5, 2.0, 3.5, 4.0, 5.0]),
        calendar=Calendar(np.zeros(1), np.ones(1), {}, 5.0),
    )
    optimum = best_fit(case)
    again = resampled(case, optimum, design(time=np.sort(case.points.time), lloq=200.0), 300, 2, seed_of("few"))
    assert 0 < again.failed < 300 and len(again.vectors) == 300 - again.failed
    assert np.isfinite(again.vectors).all()
    assert len(set(again.sample.tolist())) == len(again.sample) and again.sample.max() < 300


# ------------------------------------------------------------------------------------------------------- intervals


def test_on_a_straight_line_the_interval_is_students_and_sigmas_is_that_of_chi_square():
    time = np.array([1.0, 2, 3, 4, 6, 8, 10])
    calendar = Calendar(np.zeros(1), np.ones(1), {}, 10.0)
    case = case_of("decay", (1e5, 0.3), time=time, calendar=calendar, lloq=1e-3, seed=5)
    optimum = best_fit(case)
    again = resampled(case, optimum, design(time=time, lloq=np.nan), 40_000, 1, seed_of("line"))
    ends = bootstrap_ends(case, optimum, again, 0.95)
    line = stats.linregress(time, case.points.log_level)
    half = stats.t.ppf(0.975, 5) * line.stderr
    delta = np.exp(np.array([ends.lower[1], ends.upper[1]]))
    assert np.abs(delta - [-line.slope - half, -line.slope + half]).max() < 0.05 * half
    residual = case.points.log_level - line.intercept - line.slope * time
    exact = np.sqrt((residual**2).sum() / stats.chi2.ppf([0.975, 0.025], 5))
    assert np.allclose(np.exp([ends.lower[-1], ends.upper[-1]]), exact, rtol=0.05)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = np.array([1500.0, 0.4, 0.6])
    hits = []
    cases = [case_of("cytokine_window", truth, seed=seed) for seed in range(100)]
    for seed, (case, optimum) in enumerate(zip(cases, together([fitted(case) for case in cases]), strict=True)):
        ends = bootstrap_ends(case, optimum, resampled(case, optimum, design(), 200, 1, seed_of(str(seed))), 0.9)
        true = case.estimation(np.append(truth, 0.4))
        hits.append((ends.lower <= true) & (true <= ends.upper))
    share = np.mean(hits, axis=0)
    # 100 trials at 90 %: four standard errors are 0.12.
    assert (share > 0.78).all() and share.mean() < 0.97, share


def test_where_all_is_well_determined_the_profile_interval_is_the_same():
    data = trial(window_curve, sigma=0.2)
    both = {
        kind: fitting.analyse(
            *data, Models(interval=kind, bootstrap_samples=2000), models=("cytokine_window",)
        ).estimates
        for kind in ("profile", "bootstrap")
    }
    for parameter in ("scale", "delta", "rho", "half_life_delta"):
        ends = [e[e["parameter"] == parameter][["ci_lower", "ci_upper"]].to_numpy() for e in both.values()]
        estimate = both["profile"].loc[both["profile"]["parameter"] == parameter, "estimate"].to_numpy()
        wide = np.log(ends[0][:, 1] / ends[0][:, 0])
        assert (np.abs(np.log(ends[1] / ends[0])) < 0.2 * wide[:, None]).all(), parameter
        assert ((ends[1][:, 0] < estimate) & (estimate < ends[1][:, 1])).all()
    assert (both["bootstrap"].query("kind != 'fixed'")["ci_method"] == "bootstrap").all()


def test_a_change_of_unit_scales_the_intervals_of_levels_and_nothing_else():
    observations, infusions, cytokines = trial(window_curve)
    other = observations.assign(level=observations["level"] * 1000.0, lloq=observations["lloq"] * 1000.0)
    one, two = (
        fitting.analyse(o, infusions, cytokines, Models(**QUICK), models=("cytokine_window",)).estimates.set_index(
            ["patient_id", "parameter"]
        )
        for o in (observations, other)
    )
    level = one["unit"].str.contains("copies")
    for end in ("ci_lower", "ci_upper"):
        factor = (two[end] / one[end]).dropna()
        assert np.allclose(factor[level.reindex(factor.index)], 1000.0, rtol=0.01)
        assert np.allclose(factor[~level.reindex(factor.index)], 1.0, rtol=0.01)


def test_growth_that_the_data_do_not_show_is_open_below():
    decay = MODELS["decay"]
    data = trial(lambda t: np.exp(decay.log_level(t, np.array([2500.0, 0.38]), CALENDAR, decay.settings())))
    found = fitting.analyse(*data, Models(**QUICK), models=("cytokine_window",))
    rho = found.estimates[found.estimates["parameter"] == "rho"]
    assert (
        rho["ci_open"].isin(["lower", "both"]).all() and (rho["ci_lower"] == 0).all() and not rho["identifiable"].any()
    )
    assert found.fits["reason"].str.contains("no expansion phase identifiable").all()


def test_a_quantity_that_many_samples_lack_is_open_and_says_so():
    def level(time):
        window = MODELS["cytokine_window"]
        return np.exp(window.log_level(time, np.array([1500.0, 0.4, 0.5]), CALENDAR, window.settings()))

    data = trial(level, patients=("01", "02", "03", "04"), sigma=0.5)
    found = fitting.analyse(*data, Models(**QUICK), models=("cytokine_window",)).estimates
    doubling = found[(found["parameter"] == "doubling_time") & found["estimate"].notna()]
    assert len(doubling) and (doubling["ci_open"] == "upper").all() and doubling["ci_upper"].isna().all()
    assert doubling["reason"].str.contains("does not exist in").all()


# ------------------------------------------------------------------------------------------------------- whole runs


def test_neither_the_other_patients_nor_the_order_of_rows_change_a_bit():
    observations, infusions, cytokines = trial(window_curve, patients=("01", "02", "03"))
    settings = Models(**QUICK)
    whole = fitting.analyse(observations, infusions, cytokines, settings, models=("decay", "cytokine_window"))
    shuffled = observations.sample(frac=1.0, random_state=3)
    again = fitting.analyse(shuffled, infusions, cytokines, settings, models=("decay", "cytokine_window"))
    for name in ("fits", "estimates", "predictions"):
        pd.testing.assert_frame_equal(getattr(whole, name), getattr(again, name), check_exact=True)
    one = {"patient_id": "02"}
    alone = fitting.analyse(
        *(f[f["patient_id"] == one["patient_id"]] for f in (observations, infusions, cytokines)),
        settings,
        models=("cytokine_window",),
    )
    for name in ("estimates", "predictions"):
        frame = getattr(whole, name)
        mine = frame[(frame["patient_id"] == "02") & (frame["model"] == "cytokine_window")].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, getattr(alone, name).reset_index(drop=True), check_exact=True)


def test_the_band_holds_the_curve_and_is_no_delta_band():
    data = trial(window_curve, patients=("01",))
    found = {
        k: fitting.analyse(*data, Models(**{**QUICK, "interval": k}), models=("cytokine_window",))
        for k in ("bootstrap", "delta")
    }
    band = found["bootstrap"].predictions
    assert ((band["lower"] <= band["level"]) & (band["level"] <= band["upper"])).all()
    wide = {k: np.log(f.predictions["upper"] / f.predictions["lower"]).to_numpy() for k, f in found.items()}
    assert not np.allclose(wide["bootstrap"], wide["delta"], rtol=0.01)
    assert np.abs(wide["bootstrap"] / wide["delta"] - 1.0).mean() < 0.25


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_gives_an_interval_or_a_reason_for_every_estimate(name):
    model = MODELS[name]
    example = model.example
    level = model.log_level(example.time, np.array(example.parameters), example.calendar, model.settings())
    level = level + 0.3 * np.random.default_rng(2).normal(size=len(level))
    lloq = float(np.exp(np.quantile(level, 0.15)))
    rows = pd.DataFrame(
        {
            "patient_id": "01",
            "time_actual": example.time,
            "level": np.where(np.exp(level) >= lloq, np.exp(level), np.nan),
            "status": np.where(np.exp(level) >= lloq, "quantified", "blq"),
            "lloq": lloq,
        }
    )
    calendar = example.calendar
    infusions = pd.DataFrame(
        {
            "patient_id": "01",
            "infusion": range(1, len(calendar.infusion_time) + 1),
            "time": calendar.infusion_time,
            "planned": 1.0,
            "given": calendar.infusion_amount,
        }
    )
    cytokines = pd.DataFrame(
        [("01", agent, t) for agent, starts in calendar.pulses.items() for t in starts],
        columns=["patient_id", "agent", "time"],
    )
    done = fitting.analyse(rows, infusions, cytokines, Models(**QUICK), models=(name,))
    assert len(done.estimates), done.fits["reason"].tolist()
    rows = done.estimates[done.estimates["kind"] != "fixed"]
    there = rows[rows["estimate"].notna()]
    assert (there["ci_method"] == "bootstrap").all()
    assert not (there["ci_lower"] > there["estimate"] * (1 + 1e-9)).any()
    assert not (there["ci_upper"] < there["estimate"] * (1 - 1e-9)).any()
    gaps = there[["std_error", "ci_lower", "ci_upper"]].isna().any(axis=1)
    assert (there.loc[gaps, "reason"] != "").all()


@pytest.mark.parametrize(
    "level",
    [
        [400.0] * 8,
        [900.0, 500, 20, 20, 20, 20, 20, 20],
        [900.0, 500, 280, 155, 86, 1e7, 70, 60],
        [1e5 * 0.5**t for t in range(8)],
    ],
)
@pytest.mark.parametrize("method", ["M3", "M1", "M6"])
def test_hardly_any_data_never_fail(level, method):
    level = np.array(level)
    rows = pd.DataFrame(
        {
            "patient_id": "01",
            "time_actual": np.arange(1.0, 9.0),
            "level": np.where(level >= 50, level, np.nan),
            "status": np.where(level >= 50, "quantified", "blq"),
            "lloq": 50.0,
        }
    )
    done = fitting.analyse(rows, settings=Models(**QUICK), blq=Blq(models=method), models=("decay", "biexponential"))
    for _, fit in done.fits.iterrows():
        own = done.estimates[done.estimates["model"] == fit["model"]]
        assert len(own) or fit["reason"]


def test_too_few_fits_leave_every_end_open_with_the_reason(monkeypatch):
    data = trial(window_curve, patients=("01",))
    monkeypatch.setattr("nkinetics.fitting.resampling.FEWEST", 1.1)
    done = fitting.analyse(*data, Models(**QUICK), models=("decay",))
    rows = done.estimates[done.estimates["estimate"].notna()]
    assert (rows["ci_open"] == "both").all() and not rows["identifiable"].any() and (rows["reason"] != "").all()
    assert done.predictions[["lower", "upper"]].isna().all(axis=None)


def test_the_long_table_is_what_the_intervals_come_from():
    observations, infusions, cytokines = trial(window_curve)
    settings = Models(**QUICK)
    names = ("decay", "cytokine_window")
    samples = fitting.bootstrap(observations, infusions, cytokines, settings, models=names)
    assert not samples.duplicated(["patient_id", "assay", "specimen", "model", "sample", "parameter"]).any()
    estimates = fitting.analyse(observations, infusions, cytokines, settings, models=names).estimates
    key = ["patient_id", "assay", "specimen", "model", "parameter"]
    wanted = estimates[
        (estimates["ci_open"] == "none") & ~estimates["parameter"].eq("sigma") & estimates["ci_method"].eq("bootstrap")
    ]
    wanted = wanted[~wanted["parameter"].str.startswith("half_life")]
    assert len(wanted) > 20
    for _, row in wanted.iterrows():
        own = samples
        for name in key:
            own = own[own[name] == row[name]]
        low, high = limits(own["value"].to_numpy(), np.array(row["estimate"]), 0.95)
        assert np.isclose(low, row["ci_lower"]) and np.isclose(high, row["ci_upper"])


def test_the_long_table_of_nobody_has_its_columns():
    rows = pd.DataFrame(
        {"patient_id": ["01"], "time_actual": [1.0], "level": [np.nan], "status": ["blq"], "lloq": [50.0]}
    )
    found = fitting.bootstrap(rows, models=("decay",))
    assert len(found) == 0 and list(found.columns)[-3:] == ["sample", "parameter", "value"]
