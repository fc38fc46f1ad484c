"""Single models against numbers that were published or that another program gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.models import _algebra as algebra
from nkinetics.plugins import Calendar, discover
from scipy import integrate, optimize, special

MODELS = discover("models")
ONCE = Calendar(np.array([0.0]), np.array([1.0]), {}, 28.0)


def quantities(model, parameters, calendar=ONCE, limit=float("nan"), **constants):
    own = MODELS[model]
    found = own.derived(np.array(parameters), calendar, own.settings(**constants), limit)
    return {q.name: float(q.value) for q in found}


# ------------------------------------------------------------------------------------------------- biexponential


@pytest.fixture(scope="module")
def indometh(shared):
    """Indomethacin in six subjects: hours, mcg/mL."""
    return pd.read_csv(shared / "kinetics" / "classic" / "Indometh.csv")


def in_the_words_of_r(parameters):
    """A1, lrc1, A2, lrc2 of R's SSbiexp from S, alpha, f, beta."""
    s, alpha, slow, beta = parameters
    return np.array([s * (1 - slow), np.log(alpha), s * slow, np.log(beta)])


def least_squares(time, conc, transform, start):
    """A1, lrc1, A2, lrc2 and the residual sum of squares by SciPy from the textbook formula."""

    def off(v):
        return transform(v[0] * np.exp(-np.exp(v[1]) * time) + v[2] * np.exp(-np.exp(v[3]) * time)) - transform(conc)

    bounds = ([1e-9, -10, 1e-9, -10], [1e3, 5, 1e3, 5])
    found = optimize.least_squares(off, start, bounds=bounds, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return found.x, float((found.fun**2).sum())


@pytest.mark.shared
def test_biexponential_curve_under_rs_error_model_is_rs_documented_fit_of_indometh(indometh):
    """R's nls is least squares on the natural scale: the curve with its derivatives, under that error."""
    model = MODELS["biexponential"]
    one = indometh[indometh["Subject"] == 1]
    time, conc = one["time"].to_numpy(float), one["conc"].to_numpy(float)

    def both(v):
        level, slopes = model.jacobian(time, algebra.to_natural(model, v), ONCE, model.settings())
        return np.exp(level), np.exp(level)[:, None] * slopes

    start = algebra.to_estimation(model, np.array([3.0, 3.0, 0.2, 0.3]))
    found = optimize.least_squares(lambda v: both(v)[0] - conc, start, jac=lambda v: both(v)[1], xtol=1e-14)
    # example(SSbiexp): summary(nls(conc ~ SSbiexp(time, A1, lrc1, A2, lrc2), data = Indo.1))
    documented = [2.0293, 0.5794, 0.1916, -1.7878]
    assert in_the_words_of_r(algebra.to_natural(model, found.x)) == pytest.approx(documented, abs=6e-5)
    assert np.sqrt(2 * found.cost / (len(time) - 4)) == pytest.approx(0.04103, abs=6e-6)


@pytest.mark.shared
def test_biexponential_fits_of_indometh_are_least_squares_on_the_log_scale(indometh):
    """Our error is log-normal: the estimates differ from R's, and are those of least squares on ln conc."""
    rows = indometh.rename(columns={"time": "time_actual", "conc": "level"}).assign(
        patient_id=indometh["Subject"].astype(str), status="quantified", lloq=0.01
    )
    found = fitting.analyse(rows, models=("biexponential",))
    assert found.fits["converged"].all()
    for subject, own in found.estimates.groupby("patient_id"):
        one = indometh[indometh["Subject"].astype(str) == subject]
        time, conc = one["time"].to_numpy(float), one["conc"].to_numpy(float)
        starts = ([3.0, 1.0, 0.6, -1.3], [2.0, 0.5, 0.2, -1.8], [2.5, 0.2, 0.15, -2.5], [3.2, 1.0, 0.5, -1.3])
        expected, squares = min((least_squares(time, conc, np.log, s) for s in starts), key=lambda r: r[1])
        estimate = own.set_index("parameter")["estimate"]
        mine = in_the_words_of_r([estimate[n] for n in MODELS["biexponential"].names])
        assert mine == pytest.approx(expected, rel=2e-5), subject
        assert estimate["sigma"] ** 2 * len(time) == pytest.approx(squares, rel=1e-6)
    additive, _ = least_squares(
        *(indometh.loc[indometh["Subject"] == 3, c].to_numpy(float) for c in ("time", "conc")),
        lambda x: x,
        [3.0, 1.0, 0.6, -1.3],
    )
    third = found.estimates[found.estimates["patient_id"] == "3"].set_index("parameter")["estimate"]
    assert np.log(third["beta"]) < additive[3] - 2.0, (
        "the low late points, which nls hardly sees, rule on the log scale"
    )


def test_biexponential_area_is_the_sum_of_its_phases_over_their_rates():
    found = quantities("biexponential", [100.0, 2.0, 0.1, 0.5])
    by_hand = 90 / 2 * -np.expm1(-56) + 10 / 0.5 * -np.expm1(-14)
    assert found["curve_auc_D0-28"] == pytest.approx(by_hand, rel=1e-12)
    assert [found["half_life_alpha"], found["half_life_beta"]] == pytest.approx([np.log(2) / 2, np.log(2) / 0.5])


def test_biexponential_phases_that_were_exchanged_are_put_in_order_and_the_curve_stays():
    model = MODELS["biexponential"]
    calendar = Calendar(np.array([0.0, 2.0]), np.array([1.0, 0.7]), {}, 20.0)
    swapped = np.array([[50.0, 0.05, 0.7, 0.6], [50.0, 0.6, 0.3, 0.05]])
    ordered = model.ordered(swapped)
    assert ordered[0] == pytest.approx(ordered[1]) and ordered[1] == pytest.approx(swapped[1])
    times = np.linspace(0.0, 30.0, 40)
    level = model.log_level(times, swapped, calendar, model.settings())
    assert level[0] == pytest.approx(level[1], abs=1e-12)


# ------------------------------------------------------------------------------------------------- host_recovery


def test_host_recovery_peaks_where_growth_has_faded_to_the_loss():
    rho0, delta, fading = 1.1, 0.3, 0.17
    found = quantities("host_recovery", [10.0, delta, rho0, fading])
    peak = np.log(rho0 / delta) / fading
    assert found["curve_tmax"] == pytest.approx(peak, rel=1e-12)
    # R(peak) = (rho0 - delta - delta ln(rho0/delta))/lambda.
    assert found["fold_expansion"] == pytest.approx(np.exp((rho0 - delta) / fading - delta * peak), rel=1e-12)
    assert found["curve_cmax"] == pytest.approx(10.0 * found["fold_expansion"], rel=1e-12)
    assert quantities("host_recovery", [10.0, 0.5, 0.4, fading])["curve_tmax"] == 0.0


@pytest.mark.parametrize(
    ("delta", "rho0", "fading"),
    [(0.3, 1.1, 0.17), (2.0, 5.0, 1.3), (0.05, 0.01, 4.0), (9.0, 9.9, 8.0), (0.4, 3.0, 2.5)],
)
def test_host_recovery_area_is_the_incomplete_gamma_function_where_that_keeps_its_digits(delta, rho0, fading):
    """With a = delta/lambda, c = rho0/lambda: e^c c^-a Gamma(a)/lambda [P(a, c) - P(a, c e^(-28 lambda))]."""
    a, c = delta / fading, rho0 / fading
    inside = special.gammainc(a, c) - special.gammainc(a, c * np.exp(-28 * fading))
    expected = np.exp(c - a * np.log(c) + special.gammaln(a)) / fading * inside
    assert quantities("host_recovery", [1.0, delta, rho0, fading])["curve_auc_D0-28"] == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize(("delta", "rho0", "fading"), [(10.0, 1e-3, 1e-3), (1e-4, 0.7, 1e-3), (10.0, 10.0, 10.0)])
def test_host_recovery_area_keeps_its_digits_at_the_search_limits(delta, rho0, fading):
    def level(t):
        return np.exp(-delta * t - rho0 / fading * np.expm1(-fading * t))

    cuts = [0.0, 0.5, 2.0, 7.0, 14.0, 21.0, 28.0]
    expected = sum(integrate.quad(level, a, b, epsabs=0, epsrel=1e-13)[0] for a, b in pairwise(cuts))
    assert quantities("host_recovery", [1.0, delta, rho0, fading])["curve_auc_D0-28"] == pytest.approx(
        expected, rel=1e-11
    )


# ----------------------------------------------------------------------------------------------- effector_memory


def test_effector_memory_without_growth_is_steins_two_phases_with_k_em():
    """Stein 2019: k_EM = FB (alpha - beta); the bare decline of the typical patient, from the peak on."""
    alpha, slow, beta = 0.16, 0.0079, 0.0032
    times = np.linspace(0.0, 300.0, 60)
    two_pools = MODELS["effector_memory"].log_level(
        times, np.array([24000.0, alpha, 0.6, slow * (alpha - beta), beta]), ONCE, MODELS["effector_memory"].settings()
    )
    two_phases = MODELS["biexponential"].log_level(
        times, np.array([24000.0, alpha, slow, beta]), ONCE, MODELS["biexponential"].settings()
    )
    assert two_pools == pytest.approx(two_phases, abs=1e-12)


@pytest.mark.parametrize(
    ("delta", "rho", "beta"), [(0.3, 0.2, 0.3), (0.3, 0.2, 0.1)], ids=["outside the window", "inside the window"]
)
def test_effector_memory_is_continuous_where_both_pools_have_one_rate(delta, rho, beta):
    model = MODELS["effector_memory"]
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {"IL-2": np.array([1.0])}, 28.0)
    near = [np.array([1.0, delta, rho, 0.05, beta * (1.0 + off)]) for off in (-1e-9, 0.0, 1e-9)]
    levels = [model.log_level(np.array([0.5, 2.0, 9.0, 30.0]), p, calendar, model.settings()) for p in near]
    areas = [quantities("effector_memory", p, calendar)["curve_auc_D0-28"] for p in near]
    for side in (0, 2):
        assert levels[side] == pytest.approx(levels[1], abs=1e-7)
        assert areas[side] == pytest.approx(areas[1], rel=1e-7)


def test_effector_memory_can_peak_late_by_its_memory_cells():
    found = quantities("effector_memory", [1.0, 1.0, 0.5, 2.0, 0.1])
    # E = e^-t, M = 2 (e^(-t/10) - e^-t)/0.9: E + M = (20/9) e^(-t/10) - (11/9) e^-t turns at t = ln(11/2)/0.9.
    turn = np.log(5.5) / 0.9
    assert found["curve_tmax"] == pytest.approx(turn, rel=1e-12)
    assert found["curve_cmax"] == pytest.approx(20 / 9 * np.exp(-turn / 10) - 11 / 9 * np.exp(-turn), rel=1e-12)
    assert found["curve_auc_D0-28"] == pytest.approx(200 / 9 * -np.expm1(-2.8) - 11 / 9 * -np.expm1(-28), rel=1e-12)


def test_second_differences_of_the_exponential_keep_their_digits_near_and_far():
    for a, b in [
        (0.0, 0.0),
        (1e-9, -1e-9),
        (0.2, 0.2),
        (-0.3, 0.1),
        (-40.0, -40.0),
        (-40.0, 3.0),
        (5.0, 5.4),
        (-300.0, -299.9),
    ]:
        expected = integrate.quad(
            lambda u, a=a, b=b: (
                u * np.exp(u * b) * (np.expm1(u * (a - b)) / (u * (a - b)) if a != b and u > 0 else 1.0)
            ),
            0.0,
            1.0,
            epsabs=0,
            epsrel=1e-13,
            points=[0.001, 0.01, 0.1],
        )[0]
        assert float(algebra.second_difference(np.array(a), np.array(b))) == pytest.approx(expected, rel=1e-11), (a, b)


# ------------------------------------------------------------------------------------------- rejection, logistic


def test_rejection_without_rejection_is_cytokine_window_and_with_it_a_further_loss():
    pulses = {"IL-2": np.array([0.0, 3.0])}
    calendar = Calendar(np.array([0.0, 3.0]), np.array([1.0, 0.5]), pulses, 40.0)
    times = np.array([1.0, 5.0, 10.0, 14.0, 20.0])
    plain = MODELS["cytokine_window"].log_level(
        times, np.array([9.0, 0.3, 0.7]), calendar, MODELS["cytokine_window"].settings(width=2.0)
    )
    model = MODELS["rejection"]
    constants = model.settings(width=2.0, t_rejection=10.0)
    rejected = model.log_level(times, np.array([9.0, 0.3, 0.7, 0.25]), calendar, constants)
    assert plain - rejected == pytest.approx([0.0, 0.0, 0.0, 1.0, 2.5], abs=1e-12)


def test_rejection_and_logistic_say_when_follow_up_is_too_short():
    short = Calendar(np.array([0.0, 3.0]), np.array([1.0, 1.0]), {"IL-2": np.array([0.0, 5.0])}, 12.0)
    rejection, logistic = MODELS["rejection"], MODELS["logistic"]
    assert "before rejection begins on day 14" in rejection.missing(short, rejection.settings())
    assert "rho cannot be estimated" in rejection.missing(ONCE, rejection.settings())
    assert "before growth does on day 12" in logistic.missing(short, logistic.settings())
    assert logistic.missing(short, logistic.settings(growth_days=5.0)) == ""
    # An agent that the model does not ask for prolongs nothing.
    assert logistic.missing(short, logistic.settings(agents=())) == ""


def test_logistic_grows_to_its_plateau_and_falls_from_its_end_of_growth():
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {"IL-2": np.array([0.0, 20.0])}, 60.0)
    found = quantities("logistic", [1.0, 1.5, 5000.0, 0.2], calendar, 50.0, growth_days=10.0)
    assert found["curve_cmax"] == pytest.approx(5000.0, rel=1e-9) and found["curve_tmax"] == pytest.approx(30.0)
    assert found["t_below_lloq"] == pytest.approx(30.0 + np.log(100.0) / 0.2, rel=1e-9)
    # By hand: (K/g) ln(1 + (e^(28 g) - 1)/K).
    assert found["curve_auc_D0-28"] == pytest.approx(5000 / 1.5 * np.log1p(np.expm1(42.0) / 5000), rel=1e-12)
    early = MODELS["logistic"].log_level(
        np.array([1.0]), np.array([1.0, 1.5, 1e15, 0.2]), calendar, MODELS["logistic"].settings()
    )
    assert early == pytest.approx([1.5], abs=1e-12)


# ----------------------------------------------------------------------------------------- expansion_contraction


def test_smooth_gate_with_one_phase_of_loss_is_the_formula_of_the_gate():
    """r = g/(1 + e^((t - T)/h)) - alpha, R = g [t - h ln(1 + e^((t - T)/h)) + h ln(1 + e^(-T/h))] - alpha t."""
    model, h = MODELS["expansion_contraction"], 0.8
    rho, tmax, alpha = 0.9, 6.0, 0.25
    t = np.linspace(0.0, 30.0, 61)
    constants = model.settings(gate="smooth", gate_width=h)
    level = model.log_level(t, np.array([1.0, rho, tmax, alpha, 0.3, alpha]), ONCE, constants)
    g = rho + alpha
    expected = g * (t - h * np.logaddexp(0, (t - tmax) / h) + h * np.logaddexp(0, -tmax / h)) - alpha * t
    assert level - level[0] == pytest.approx(expected, abs=1e-12)
    found = quantities("expansion_contraction", [1.0, rho, tmax, alpha, 0.3, alpha], gate="smooth", gate_width=h)
    assert found["curve_tmax"] == pytest.approx(tmax + h * np.log(rho / alpha), rel=1e-9)
    assert found["r0"] == pytest.approx(np.exp(level[0]), rel=1e-12)


def test_a_narrow_smooth_gate_is_the_hard_gate():
    model = MODELS["expansion_contraction"]
    calendar = Calendar(np.array([0.0, 3.0]), np.array([1.0, 0.5]), {}, 60.0)
    parameters = np.array([24000.0, 0.889, 9.3, 0.16, 0.0079, 0.0032])
    t = np.array([0.5, 3.0, 8.0, 10.5, 28.0, 90.0])
    hard = model.log_level(t, parameters, calendar, model.settings(t_lag=1.0))
    near = model.log_level(t, parameters, calendar, model.settings(t_lag=1.0, gate="smooth", gate_width=0.05))
    assert near == pytest.approx(hard, abs=1e-8)


def test_smooth_gate_has_no_kinks_and_refuses_a_clock_for_each_infusion():
    model = MODELS["expansion_contraction"]
    assert model.knots(np.array([1.0, 2.0]), ONCE, model.settings(gate="smooth")).size == 0
    with pytest.raises(ValueError, match="gate smooth needs clock study"):
        model.settings(gate="smooth", clock="infusion")


def test_a_window_before_the_first_infusion_expands_nothing():
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {"IL-2": np.array([-1.0])}, 20.0)
    found = quantities("cytokine_window", [1.0, 0.2, 0.9], calendar, width=1.5)
    assert found["fold_expansion"] == pytest.approx(np.exp(0.5 * 0.7), rel=1e-12)
