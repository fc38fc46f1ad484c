"""The simulation study of benchmarks/simulation.py, reduced: coverage of the intervals, false expansion."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.fitting.intervals import counted, cutoff, cutoffs, sigma_cutoffs
from scipy import stats

PATIENTS = 60


@pytest.fixture(scope="module")
def study(root):
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("simulation_study", root / "benchmarks" / "simulation.py")
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up.
    sys.modules["simulation_study"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulation_study"]


@pytest.fixture(scope="module")
def done(study):
    """Cells of three models, fitted: cell -> (fits, estimates)."""
    cells = [study.Cell("decay", n, 0.45) for n in (17, 10, 7)]
    cells += [study.Cell("cytokine_window", n, 0.45) for n in (17, 10, 7)]
    cells += [study.Cell("biexponential", 17, 0.45)]
    return {cell: study.fitted(cell, PATIENTS) for cell in cells}


def band(low, high, n):
    """Counts that a coverage between low and high gives in n intervals but for once in a thousand times a side."""
    return stats.binom.ppf(0.001, n, low), stats.binom.ppf(0.999, n, high)


@pytest.mark.long
def test_intervals_of_95_percent_hold_the_truth_as_often_as_they_say(study, done):
    worth = pd.concat([study.worth(cell, *both) for cell, both in done.items()], ignore_index=True)
    assert (worth["fitted"] == PATIENTS).all() and (worth["not_converged_pct"] < 5).all()
    for row in worth.itertuples():
        low, high = band(*((0.93, 0.97) if row.samples >= 10 else (0.90, 0.98)), row.fitted)
        held = round(row.coverage_pct * row.fitted / 100)
        assert low <= held <= high, (row.truth, row.samples, row.parameter, row.coverage_pct)
    # All intervals of a design together leave less to chance.
    for samples, own in worth.groupby("samples"):
        low, high = band(0.93, 0.97 if samples >= 10 else 0.98, int(own["fitted"].sum()))
        assert low <= round((own["coverage_pct"] * own["fitted"]).sum() / 100) <= high, samples


@pytest.mark.long
def test_patients_without_expansion_are_seldom_said_to_have_one(study, done):
    claims = pd.concat([study.expansion(c, *b) for c, b in done.items() if c.truth == "decay"], ignore_index=True)
    n = int(claims["patients"].sum())
    assert n == 3 * PATIENTS
    for column, most in (("rho_above_0_pct", 0.05), ("aicc_and_interval_pct", 0.05), ("aicc_pct", 0.10)):
        said = round((claims[column] * claims["patients"]).sum() / 100)
        assert said <= stats.binom.ppf(0.999, n, most), column
    there = study.expansion(*_first(done, "cytokine_window"))
    assert there["rho_above_0_pct"][0] > 60, "of patients with an expansion and 17 samples most are seen"


def _first(done, truth):
    cell = next(c for c in done if c.truth == truth)
    return cell, *done[cell]


def test_a_patient_is_the_same_whatever_others_are_simulated(study):
    cell = study.Cell("cytokine_window", 10, 0.3)
    some, *_ = study.patients(cell, 0, 5)
    one, _, _, truth = study.patients(cell, 3, 4)
    pd.testing.assert_frame_equal(some[some["patient_id"] == "00003"].reset_index(drop=True), one)
    assert len(one) == 10 and truth["parameter"].tolist() == ["scale", "delta", "rho", "sigma"]


def test_a_kept_table_holds_each_cell_once_in_the_order_of_the_models(study, tmp_path):
    path = tmp_path / "simulation.csv"
    for truth, value in (("cytokine_window", 1.0), ("decay", 2.0), ("cytokine_window", 3.0)):
        study.kept(path, pd.DataFrame({"truth": [truth], "samples": [7], "sigma": [0.3], "bias": [value]}))
    found = pd.read_csv(path)
    assert found["truth"].tolist() == ["decay", "cytokine_window"] and found["bias"].tolist() == [2.0, 3.0]


# ----------------------------------------------------------------------------------------------- where the cut-offs lie


def line_of(seed, n=9, sigma=0.4):
    rng = np.random.default_rng(seed)
    time = np.linspace(1.0, 14.0, n)
    level = np.exp(9.0 - 0.2 * time + sigma * rng.normal(size=n))
    return pd.DataFrame(
        {"patient_id": "01", "time_actual": time, "level": level, "status": "quantified", "lloq": 0.001}
    )


def test_on_a_line_sigma_has_the_chi_square_interval_with_equal_tails():
    rows = line_of(1)
    found = fitting.analyse(rows, models=("decay",)).estimates.set_index("parameter").loc["sigma"]
    n, squares = len(rows), found["estimate"] ** 2 * len(rows)
    low, high = (np.sqrt(squares / stats.chi2.ppf(q, n - 2)) for q in (0.975, 0.025))
    assert found["ci_lower"] == pytest.approx(low, rel=2e-4) and found["ci_upper"] == pytest.approx(high, rel=2e-4)


def test_where_one_degree_of_freedom_is_left_the_interval_of_sigma_begins_at_its_estimate():
    assert sigma_cutoffs(7, 6)[0] == 0.0
    rows = line_of(2, n=3)
    found = fitting.analyse(rows, models=("decay",)).estimates.set_index("parameter").loc["sigma"]
    assert found["ci_lower"] <= found["estimate"] * (1 + 1e-9) and found["ci_upper"] > 10 * found["estimate"]


def test_rows_below_the_limit_are_no_degrees_of_freedom():
    assert [counted(n, 2) for n in (0, 2, 3, 9)] == [3, 3, 3, 9]
    assert cutoffs(9, 2)[:2].tolist() == [[cutoff(9, 2)] * 2] * 2
    assert cutoffs(9, 2, kind="chi_square").ravel().tolist() == [cutoff(9, 2, kind="chi_square")] * 6


def test_a_profile_likelihood_that_jumps_is_followed_on_the_right_branch(study):
    """A search for an end went into a valley in which beta is endless: the interval ended beside the estimate."""
    cell = study.Cell("biexponential", 10, 0.45)
    observations, infusions, cytokines, _ = study.patients(cell, 3, 4)
    found = fitting.analyse(observations, infusions, cytokines, models=("biexponential",))
    alpha = found.estimates.set_index("parameter").loc["alpha"]
    assert alpha["estimate"] == pytest.approx(0.450, abs=0.001)
    assert alpha["ci_upper"] > 1.2 * alpha["estimate"]


def test_an_optimum_inside_a_piece_is_found_where_starts_end_at_its_edge(study):
    """Growth to a peak between two samples: every start had ended with the peak at the sample on day 10, ln L -9.30."""
    cell = study.Cell("expansion_contraction", 17, 0.45)
    observations, infusions, _, _ = study.patients(cell, 35, 36)
    found = fitting.analyse(observations, infusions, models=("expansion_contraction",))
    assert found.fits["converged"][0] and found.fits["log_likelihood"][0] == pytest.approx(-7.881, abs=1e-3)
    tmax = found.estimates.set_index("parameter").loc["tmax"]
    assert tmax["estimate"] == pytest.approx(9.171, abs=1e-3)
