"""The likelihood of one profile against integrals, by hand, and against published values."""

from __future__ import annotations

import csv
import json
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from nkinetics.fitting.likelihood import Points, log_interval, log_likelihood, side_by_side, terms, terms_side_by_side
from scipy import stats
from scipy.integrate import quad


def points(level=(), lower=(), upper=(), n=None) -> Points:
    size = len(level) + len(lower)
    variance = np.zeros(size) if n is None else 1.0 / np.asarray(n, dtype=float)
    with np.errstate(divide="ignore"):
        logs = [np.log(np.asarray(v, dtype=float)) for v in (level, lower, upper)]
    return Points(np.arange(size, dtype=float), *logs, variance)


def test_the_likelihood_of_mixed_rows_is_the_product_of_integrals_of_the_density():
    rows = points([120.0, 35.0], [0.0, 10.0, 1e4], [50.0, 50.0, np.inf], n=[30.0, 200.0, np.inf, np.inf, np.inf])
    mu, sigma = np.log([100.0, 60.0, 40.0, 30.0, 9e3]), 0.45
    expected = 0.0
    for y, m, n in zip([120.0, 35.0], mu, [30.0, 200.0], strict=False):
        expected += stats.norm.logpdf(np.log(y), m, np.sqrt(sigma**2 + 1 / n))
    for low, high, m in [(0.0, 50.0, mu[2]), (10.0, 50.0, mu[3]), (1e4, np.inf, mu[4])]:
        a = np.log(low) if low > 0 else m - 40 * sigma
        b = np.log(high) if np.isfinite(high) else m + 40 * sigma
        cuts = [a, *np.linspace(m - 5 * sigma, m + 5 * sigma, 11), b]
        inside = np.unique(np.clip(cuts, a, b))
        mass = sum(quad(stats.norm.pdf, u, v, args=(m, sigma), epsabs=1e-14)[0] for u, v in pairwise(inside))
        expected += np.log(mass)
    assert float(log_likelihood(mu, np.log(sigma), rows)) == pytest.approx(expected, abs=1e-10)


def test_m3_is_the_tobit_likelihood_written_by_hand():
    """Two points at 8 and 2, one below 1; curve 4, 2, 1 and sigma ln 2: all in units of one halving."""
    rows = points([8.0, 2.0], [0.0], [1.0])
    mu, sigma = np.log([4.0, 2.0, 1.0]), np.log(2.0)
    by_hand = -2 * np.log(sigma) - np.log(2 * np.pi) - 0.5 * 1.0**2 - 0.0 + np.log(0.5)
    assert float(log_likelihood(mu, np.log(sigma), rows)) == pytest.approx(by_hand, abs=1e-12)


def test_an_interval_keeps_its_probability_in_the_far_tails_and_when_it_is_narrow():
    # By the series of Mills' ratio: phi(30)/30 (1 - 1/900 + 3/810000 ...); what lies beyond 31 is e^-30 of it.
    series = 1 - 1 / 900 + 3 / 900**2 - 15 / 900**3
    head = -450 - 0.5 * np.log(2 * np.pi) - np.log(30) + np.log(series)
    assert float(log_interval(np.array(30.0), np.array(31.0))) == pytest.approx(head, abs=1e-9)
    assert float(log_interval(np.array(-31.0), np.array(-30.0))) == pytest.approx(head, abs=1e-9)
    for width in (1e-3, 1e-4, 2e-5, 9e-6, 1e-9, 1e-13):
        low = np.array([-3.0, 0.0, 2.5, 8.0])
        middle = low + width / 2
        by_density = np.log((low + width) - low) - 0.5 * middle**2 - 0.5 * np.log(2 * np.pi)
        curvature = np.log1p((middle**2 - 1) * width**2 / 24)
        assert log_interval(low, low + width) == pytest.approx(by_density + curvature, abs=2e-9)


def test_a_row_that_the_curve_misses_by_forty_sd_has_a_finite_likelihood_and_slope():
    rows = points([1.0], [0.0, 1e40], [1e-17, np.inf])
    found = terms(np.array([40.0, 1.0, 1.0]), np.array(0.0), rows)
    for values in (found.value, found.mean, found.sigma, found.mean2, found.sigma2):
        assert np.isfinite(values).all()
    assert found.mean[0] < 0 and found.mean[1] < 0 < found.mean[2]


@pytest.mark.parametrize("sigma", [0.05, 0.4, 2.0])
def test_derivatives_are_those_of_the_likelihood(sigma):
    rows = points([80.0, 300.0], [0.0, 10.0, 200.0, 49.999], [50.0, 50.0, np.inf, 50.0], n=[20, 500, 50, 50, 50, 1e9])
    mu, t, h = np.log([100.0, 200.0, 60.0, 45.0, 150.0, 48.0]), np.log(sigma), 1e-5

    def value(m, s):
        return terms(m, np.asarray(s), rows).value

    here = terms(mu, np.asarray(t), rows)
    up, down = terms(mu + h, np.asarray(t), rows), terms(mu - h, np.asarray(t), rows)
    wide, tight = terms(mu, np.asarray(t + h), rows), terms(mu, np.asarray(t - h), rows)
    assert here.mean == pytest.approx((up.value - down.value) / (2 * h), rel=1e-5, abs=1e-6)
    assert here.sigma == pytest.approx((wide.value - tight.value) / (2 * h), rel=1e-5, abs=1e-6)
    censored = slice(2, None)
    assert here.mean2[censored] == pytest.approx(-(up.mean - down.mean)[censored] / (2 * h), rel=1e-4, abs=1e-5)
    assert here.cross[censored] == pytest.approx(-(wide.mean - tight.mean)[censored] / (2 * h), rel=1e-4, abs=1e-5)
    assert here.sigma2[censored] == pytest.approx(-(wide.sigma - tight.sigma)[censored] / (2 * h), rel=1e-4, abs=1e-4)
    assert value(mu, t).tolist() == here.value.tolist()


def test_more_counted_molecules_make_a_row_on_the_curve_more_likely_up_to_the_residual_error():
    mu, t = np.log([100.0]), np.log(0.3)
    alone = float(log_likelihood(mu, t, points([100.0])))
    counted = [float(log_likelihood(mu, t, points([100.0], n=[n]))) for n in (5, 50, 500, 5e7)]
    assert np.all(np.diff(counted) > 0)
    assert counted[0] == pytest.approx(stats.norm.logpdf(0.0, 0.0, np.sqrt(0.09 + 0.2)), abs=1e-12)
    assert counted[-1] == pytest.approx(alone, abs=1e-6)


def test_a_batch_of_curves_is_the_loop_over_them():
    rows = points([80.0, 300.0], [0.0], [50.0])
    mu = np.log(np.array([[100.0, 200.0, 60.0], [50.0, 400.0, 20.0]]))
    t = np.log([0.3, 0.6])
    assert log_likelihood(mu, t, rows).tolist() == [
        float(log_likelihood(m, s, rows)) for m, s in zip(mu, t, strict=True)
    ]


def test_each_of_several_profiles_has_the_terms_that_it_has_alone_to_the_last_bit():
    profiles = [
        points([80.0, 300.0], [0.0, 10.0], [50.0, 50.0], n=[20.0, 90.0, np.inf, np.inf]),
        points([120.0]),
        points([], [0.0, 1e4], [50.0, np.inf]),
    ]
    rows = side_by_side(profiles)
    mu = np.log(np.array([[100.0, 200.0, 60.0, 20.0], [50.0, 1.0, 1.0, 1.0], [40.0, 2e4, 1.0, 1.0]]))
    t = np.log([0.3, 0.6, 0.5])
    found = astuple(terms_side_by_side(mu, t, rows))
    for i, own in enumerate(profiles):
        for part, alone in zip(found, astuple(terms(mu[i, : own.n], t[i], own)), strict=True):
            assert part[i, : own.n].tolist() == alone.tolist()
        assert rows.weight[i].tolist() == [1.0] * own.n + [0.0] * (4 - own.n)


@pytest.mark.shared
def test_the_marginal_likelihood_of_wang_2007_is_the_exact_published_one(shared):
    """Additive error, y = 10 exp(-k t), k = 0.5 exp(eta): -2 ln L by quadrature over eta, without its constant."""
    folder = shared / "population"
    with (folder / "wang2007.csv").open(encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    yardsticks = json.loads((folder / "yardsticks.json").read_text(encoding="utf-8"))
    assert "wang" in json.dumps(yardsticks).lower()
    columns = {k.lower(): k for k in table[0]}
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    omega, sigma = np.sqrt(0.04), np.sqrt(0.1)
    total, n = 0.0, 0
    for patient in dict.fromkeys(row[columns["id"]] for row in table):
        mine = [r for r in table if r[columns["id"]] == patient]
        time = np.array([float(r[columns["time"]]) for r in mine])
        level = np.array([float(r[columns[next(c for c in ("y", "dv") if c in columns)]]) for r in mine])
        rows = Points(time, level, np.zeros(0), np.zeros(0), np.zeros(len(time)))
        curve = 10.0 * np.exp(-0.5 * np.exp(omega * node)[:, None] * time)
        each = log_likelihood(curve, np.full(len(node), np.log(sigma)), rows)
        total += np.log((weight * np.exp(each)).sum() / np.sqrt(2 * np.pi))
        n += len(time)
    assert -2 * total - n * np.log(2 * np.pi) == pytest.approx(-1.990, abs=2e-3)


def test_the_reference_dose_of_the_study_stands_beside_the_infusions_of_a_batch():
    from nkinetics.fitting.profiles import reference_dose_of

    batch = pd.DataFrame({"patient_id": ["4", "5"], "planned": [4e9, 4e9]})
    assert reference_dose_of(batch) == 4e9
    assert reference_dose_of(batch.assign(reference_dose=2e9)) == 2e9
