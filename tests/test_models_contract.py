"""What every kinetic model must keep; each model of the family is enrolled by being there."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise, product
from typing import Literal, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.models import _algebra as algebra
from nkinetics.plugins import Calendar, KineticModel, discover
from pydantic import ValidationError
from scipy.integrate import quad, solve_ivp

MODELS = discover("models")
UNITS = {"level_unit", "1/d", "d", ""}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
SUPERPOSED = {n: m for n, m in MODELS.items() if m.superposes}
PREPARED = {n: m for n, m in MODELS.items() if m.prepared is not None}
every_superposed_model = pytest.mark.parametrize("model", SUPERPOSED.values(), ids=SUPERPOSED)


def random_case(model: KineticModel, seed: int) -> tuple[Calendar, np.ndarray, object]:
    """A calendar of one to four infusions and up to five pulses, and parameters well inside their limits."""
    rng = np.random.default_rng([seed, len(model.name)])
    k = rng.integers(1, 5)
    taus = np.concatenate([[0.0], np.sort(rng.uniform(0.3, 14.0, k - 1))])
    pulses = np.sort(rng.uniform(-1.0, 16.0, rng.integers(1, 6)))
    calendar = Calendar(taus, rng.uniform(0.2, 3.0, k), {"IL-2": pulses}, 40.0)
    start = algebra.to_estimation(model, np.array([p.start for p in model.parameters]))
    low = algebra.to_estimation(model, np.array([p.lower for p in model.parameters]))
    high = algebra.to_estimation(model, np.array([p.upper for p in model.parameters]))
    vector = np.clip(start + rng.normal(0.0, 0.5, len(start)), low + 0.1, high - 0.1)
    return calendar, algebra.to_natural(model, vector), random_constants(model, seed)


def random_constants(model: KineticModel, seed: int):
    """Each choice that the configuration offers, in turn, as far as they go together; a lag now and then."""
    fields = model.settings.model_fields
    choices = {n: get_args(f.annotation) for n, f in fields.items() if get_origin(f.annotation) is Literal}
    offered = [dict(zip(choices, c, strict=True)) for c in product(*choices.values())]
    allowed = []
    for options in offered:
        with suppress(ValidationError):
            model.settings(**options)
            allowed.append(options)
    lag = {"t_lag": [0.0, 1.3][seed // len(allowed) % 2]} if "t_lag" in fields else {}
    return model.settings(**allowed[seed % len(allowed)], **lag)


def turning_points(model: KineticModel, calendar: Calendar, parameters: np.ndarray, constants: object) -> np.ndarray:
    """Times at which a rate may jump, found without the model's own code."""
    marks = [0.0, *(p for pulses in calendar.pulses.values() for p in pulses), *calendar.infusion_time]
    spans = [v for v in constants.model_dump().values() if isinstance(v, float)]
    if model.breakpoint:
        spans.append(float(parameters[model.names.index(model.breakpoint)]))
    return np.unique([*marks, *(m + s for m in marks for s in spans)])


def by_ode(model, calendar, parameters, constants, times):
    """ln level by SciPy from the model's differential equation: infusion by infusion, or all cells together.

    One kind of cells is integrated as ln N, where an exponential is a straight line; several kinds as they are.
    """
    cuts = turning_points(model, calendar, parameters, constants)
    # The level of one reference dose right after distribution: what S is, in whatever way the model writes it.
    one = Calendar(np.array([0.0]), np.array([1.0]), calendar.pulses, calendar.end)
    dose = np.exp(model.log_level(np.array([0.0]), parameters, one, constants)[0])
    taus, amounts = calendar.infusion_time, calendar.infusion_amount
    together = [(taus, amounts)]
    groups = [(taus[[k]], amounts[[k]]) for k in range(len(taus))] if model.superposes else together

    def moved(left, right, tau, cells):
        inside = np.nextafter(left, right), np.nextafter(right, left)
        single = model.pools == 1
        size = cells.sum()

        def slope(t, y):
            now = np.exp(y) if single else y
            change = (
                model.change(min(max(t, inside[0]), inside[1]), tau, now * size, parameters, calendar, constants) / size
            )
            return change / now if single else change

        begin = np.zeros(1) if single else cells / size
        tight = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-14, "first_step": right - left}
        solved = solve_ivp(slope, (left, right), begin, **tight).y[:, -1]
        return size * (np.exp(solved) if single else solved)

    total = np.zeros(len(times))
    for starts, doses in groups:
        begin = float(starts[0])
        stops = np.unique([*starts, *cuts[(cuts > begin) & (cuts < times[-1])], *times[times > begin]])
        cells, tau, at = np.zeros(model.pools), begin, {}
        for left, right in pairwise([*stops, np.inf]):
            if left in starts:
                cells, tau = cells.copy(), float(left)
                cells[0] += dose * doses[starts == left].sum()
            at[left] = cells.sum()
            if np.isfinite(right):
                cells = moved(float(left), float(right), tau, cells)
        total += [at.get(t, 0.0) for t in times]
    return np.log(total)


@every_model
def test_a_model_carries_its_own_facts(model):
    assert model.name == next(n for n, m in MODELS.items() if m is model)
    assert set(model.title) == {"en", "zh"} and all(model.title.values())
    for parameter in model.parameters:
        assert parameter.unit in UNITS
        assert set(parameter.meaning) == {"en", "zh"} and all(parameter.meaning.values())
        assert parameter.lower < parameter.start < parameter.upper
        if parameter.natural_lower is not None:
            assert parameter.natural_lower <= parameter.lower
    assert len(set(model.names)) == len(model.names)
    # The scale comes first: starts and the change of unit rely on it.
    assert model.parameters[0].unit == "level_unit"


@every_model
def test_a_model_recovers_its_own_example_from_noise_free_data(model):
    example = model.example
    constants = model.settings(**example.constants)
    level = np.exp(model.log_level(example.time, np.array(example.parameters), example.calendar, constants))
    rows = pd.DataFrame(
        {"patient_id": "007", "time_actual": example.time, "level": level, "status": "quantified", "lloq": level.min()}
    )
    infusions = pd.DataFrame(
        {
            "patient_id": "007",
            "infusion": np.arange(1, len(example.calendar.infusion_time) + 1),
            "time": example.calendar.infusion_time,
            "planned": 2e9,
            "given": 2e9 * example.calendar.infusion_amount,
        }
    )
    cytokines = pd.DataFrame(
        [("007", a, t) for a, pulses in example.calendar.pulses.items() for t in pulses],
        columns=["patient_id", "agent", "time"],
    )
    found = fitting.analyse(rows, infusions, cytokines, models=(model.name,))
    estimates = found.estimates.set_index("parameter")["estimate"]
    assert found.fits["converged"].tolist() == [True]
    for name, value in zip(model.names, example.parameters, strict=True):
        assert estimates[name] == pytest.approx(value, rel=1e-6), name


@every_model
@pytest.mark.parametrize("seed", range(100))
def test_the_closed_form_is_the_solution_of_the_differential_equation(model, seed):
    calendar, parameters, constants = random_case(model, seed)
    times = np.array([0.0, 0.7, 2.0, 3.1, 5.5, 9.0, 15.0, 22.0, 31.0])
    expected = by_ode(model, calendar, parameters, constants, times)
    assert model.log_level(times, parameters, calendar, constants) == pytest.approx(expected, abs=1e-8)


@every_model
@pytest.mark.parametrize("seed", range(8))
def test_the_closed_form_auc_is_the_integral_of_the_curve(model, seed):
    calendar, parameters, constants = random_case(model, seed)
    cuts = np.unique(np.clip([0.0, 28.0, *turning_points(model, calendar, parameters, constants)], 0.0, 28.0))

    def level(t):
        return float(np.exp(model.log_level(np.array([t]), parameters, calendar, constants)[0]))

    expected = sum(
        quad(level, np.nextafter(a, b), np.nextafter(b, a), epsrel=1e-12, limit=200)[0] for a, b in pairwise(cuts)
    )
    found = {q.name: q.value for q in model.derived(parameters, calendar, constants, float("nan"))}
    assert float(found["curve_auc_D0-28"]) == pytest.approx(expected, rel=1e-9)


@every_model
@pytest.mark.parametrize("seed", range(8))
def test_peak_and_last_crossing_are_those_of_the_curve(model, seed):
    calendar, parameters, constants = random_case(model, seed)
    cuts = turning_points(model, calendar, parameters, constants)
    grid = np.unique(np.concatenate([np.linspace(0.0, calendar.end, 4001), cuts, cuts - 1e-9]))
    grid = grid[(grid >= 0.0) & (grid <= calendar.end)]
    curve = model.log_level(grid, parameters, calendar, constants)
    limit = float(np.exp(curve.max() - 2.0))
    found = {q.name: float(q.value) for q in model.derived(parameters, calendar, constants, limit)}
    # Between the points of the grid a rounded peak rises a little higher, never the other way round.
    top = float(np.log(found["curve_cmax"]))
    assert -1e-9 <= top - curve.max() <= 3e-5
    at = model.log_level(np.array([found["curve_tmax"], found["curve_tmax"] - 1e-9]), parameters, calendar, constants)
    assert at.max() == pytest.approx(top, abs=1e-9)
    ends = [*calendar.infusion_time[1:], calendar.end + 1.0]
    for k, (tau, until) in enumerate(zip(calendar.infusion_time, ends, strict=True), start=1):
        inside = curve[(grid >= tau) & (grid < until)]
        assert -1e-7 <= np.log(found[f"curve_cmax_infusion_{k}"]) - inside.max() <= 3e-5
    t = found["t_below_lloq"]
    assert float(model.log_level(np.array([t]), parameters, calendar, constants)[0]) == pytest.approx(np.log(limit))
    later = np.linspace(t + 1e-6, t + 400.0, 4000)
    assert (model.log_level(later, parameters, calendar, constants) < np.log(limit)).all()


@every_model
@pytest.mark.parametrize("seed", range(8))
def test_analytic_derivatives_are_those_of_the_curve(model, seed):
    calendar, parameters, constants = random_case(model, seed)
    # Away from the kinks: there the two one-sided derivatives differ.
    times = np.array([0.11, 1.03, 2.57, 4.49, 7.77, 12.3, 19.9, 38.0])
    vector = algebra.to_estimation(model, parameters)
    step = 1e-6
    level, slopes = model.jacobian(times, parameters, calendar, constants)
    assert level.tolist() == model.log_level(times, parameters, calendar, constants).tolist()
    for j in range(len(vector)):
        move = step * np.eye(len(vector))[j]
        up, down = (
            model.log_level(times, algebra.to_natural(model, v), calendar, constants)
            for v in (vector + move, vector - move)
        )
        assert slopes[:, j] == pytest.approx((up - down) / (2 * step), abs=2e-7), model.names[j]


@every_superposed_model
@pytest.mark.parametrize("seed", range(4))
def test_the_curve_of_several_infusions_is_the_sum_of_their_curves(model, seed):
    calendar, parameters, constants = random_case(model, seed + 100)
    times = np.linspace(0.0, 40.0, 57)
    parts = [
        np.exp(
            model.log_level(
                times, parameters, Calendar(np.array([t]), np.array([d]), calendar.pulses, calendar.end), constants
            )
        )
        for t, d in zip(calendar.infusion_time, calendar.infusion_amount, strict=True)
    ]
    whole = np.exp(model.log_level(times, parameters, calendar, constants))
    assert whole == pytest.approx(np.sum(parts, axis=0), rel=1e-12)


@every_superposed_model
def test_the_level_is_proportional_to_the_amount(model):
    calendar, parameters, constants = random_case(model, 5)
    times = np.linspace(0.0, 30.0, 31)
    doubled = Calendar(calendar.infusion_time, 2.0 * calendar.infusion_amount, calendar.pulses, calendar.end)
    level = model.log_level(times, parameters, calendar, constants)
    assert model.log_level(times, parameters, doubled, constants) == pytest.approx(level + np.log(2.0), abs=1e-12)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in SUPERPOSED])
def test_cells_that_limit_one_another_are_fewer_than_the_sum_of_their_infusions(name):
    model = MODELS[name]
    calendar, parameters, constants = random_case(model, 5)
    times = np.linspace(0.0, 30.0, 31)
    doubled = Calendar(calendar.infusion_time, 2.0 * calendar.infusion_amount, calendar.pulses, calendar.end)
    level = model.log_level(times, parameters, calendar, constants)
    twice = model.log_level(times, parameters, doubled, constants)
    assert twice[0] == pytest.approx(level[0] + np.log(2.0), abs=1e-12)
    assert (level < twice).all() and (twice[1:] < level[1:] + np.log(2.0)).all()


@every_model
def test_another_unit_of_the_level_scales_the_parameters_that_are_levels(model):
    calendar, parameters, constants = random_case(model, 5)
    times = np.linspace(0.0, 30.0, 31)
    scaled = parameters * [2.0 if p.unit == "level_unit" else 1.0 for p in model.parameters]
    level = model.log_level(times, parameters, calendar, constants)
    assert model.log_level(times, scaled, calendar, constants) == pytest.approx(level + np.log(2.0), abs=1e-12)
    before, after = (
        {q.name: q for q in model.derived(p, calendar, constants, 1e-3 * f)}
        for p, f in ((parameters, 1.0), (scaled, 2.0))
    )
    for name, quantity in before.items():
        factor = 2.0 if "level_unit" in quantity.unit else 1.0
        assert after[name].value == pytest.approx(factor * quantity.value, rel=1e-9, nan_ok=True), name


@every_model
def test_there_are_no_cells_before_the_first_infusion(model):
    _, parameters, constants = random_case(model, 3)
    late = Calendar(np.array([2.0]), np.array([1.0]), {"IL-2": np.array([0.0])}, 20.0)
    level = model.log_level(np.array([0.0, np.nextafter(2.0, 0.0), 2.0]), parameters, late, constants)
    assert level[:2].tolist() == [-np.inf, -np.inf] and np.isfinite(level[2])


@every_model
def test_a_batch_of_parameters_and_of_calendars_is_the_loop_over_them(model):
    cases = [random_case(model, s) for s in (0, 4, 8)]
    constants = cases[0][2]
    parameters = np.stack([p for _, p, _ in cases])
    times = np.linspace(0.05, 35.0, 40)
    together = model.log_level(times, parameters, algebra.stacked([c for c, _, _ in cases]), constants)
    for i, (calendar, own, _) in enumerate(cases):
        assert together[i] == pytest.approx(model.log_level(times, own, calendar, constants), abs=1e-11)
        batch = model.derived(parameters, calendar, constants, 1.0)
        alone = model.derived(own, calendar, constants, 1.0)
        for q, single in zip(batch, alone, strict=True):
            assert q.name == single.name
            assert q.value[i] == pytest.approx(float(single.value), rel=1e-9, nan_ok=True), q.name


@every_model
def test_patients_and_starts_are_two_leading_axes_of_a_batch(model):
    cases = [random_case(model, s) for s in (1, 5, 9)]
    constants = cases[0][2]
    times = np.linspace(0.05, 35.0, 40)[None, None, :] + np.arange(3)[:, None, None]
    parameters = np.stack([np.stack([p, 1.1 * p]) for _, p, _ in cases])
    together = algebra.stacked([c for c, _, _ in cases])
    wide = Calendar(
        together.infusion_time[:, None],
        together.infusion_amount[:, None],
        {a: v[:, None] for a, v in together.pulses.items()},
        together.end,
    )
    level, slopes = model.jacobian(times, parameters, wide, constants)
    assert level.shape == (3, 2, 40) and slopes.shape == (3, 2, 40, len(model.parameters))
    for i, (calendar, _, _) in enumerate(cases):
        for j in range(2):
            alone, own = model.jacobian(times[i, 0], parameters[i, j], calendar, constants)
            assert level[i, j] == pytest.approx(alone, abs=1e-11)
            assert slopes[i, j] == pytest.approx(own, abs=1e-9)


@every_model
def test_guesses_lie_within_the_limits_even_without_data(model):
    calendar, parameters, constants = random_case(model, 2)
    low, high = (np.array([getattr(p, side) for p in model.parameters]) for side in ("lower", "upper"))
    times = np.array([1.0, 4.0, 9.0])
    for n in (0, 1, 3):
        seen = model.log_level(times[:n], parameters, calendar, constants)
        starts = model.guess(times[:n], seen, calendar, constants)
        assert starts.ndim == 2 and len(starts) >= 2
        assert ((starts >= low) & (starts <= high)).all()


# ------------------------------------------------------------------------------------------------- single models


def test_stein_2019_typical_values_give_the_published_curve():
    model = MODELS["expansion_contraction"]
    constants = model.settings()
    once = Calendar(np.array([0.0]), np.array([1.0]), {}, 365.0)
    rho = np.log(3900) / 9.3
    assert rho == pytest.approx(0.889, abs=5e-4)
    parameters = np.array([24000.0, rho, 9.3, 0.16, 0.0079, 0.0032])
    found = {q.name: float(q.value) for q in model.derived(parameters, once, constants, 50.0)}
    assert found["curve_cmax"] == pytest.approx(24000.0)
    assert found["curve_tmax"] == pytest.approx(9.3)
    assert found["r0"] == pytest.approx(6.15, abs=0.005)
    assert found["fold_expansion"] == pytest.approx(3900.0)
    assert found["half_life_alpha"] == pytest.approx(np.log(2) / 0.16)


def test_ogasawara_2021_growth_gives_its_implied_fold_expansion():
    model = MODELS["expansion_contraction"]
    once = Calendar(np.array([0.0]), np.array([1.0]), {}, 365.0)
    parameters = np.array([1.0, np.log(2) / 0.755, 9.29, np.log(2) / 5.0, 0.01, np.log(2) / 352.0])
    found = {q.name: float(q.value) for q in model.derived(parameters, once, model.settings(t_lag=3.27), float("nan"))}
    assert found["fold_expansion"] == pytest.approx(251.0, rel=0.01)
    assert found["doubling_time"] == pytest.approx(0.755)
    assert "t_below_lloq" not in found


def test_no_net_growth_makes_the_doubling_time_a_reason_and_keeps_the_auc_finite():
    model = MODELS["cytokine_window"]
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {"IL-2": np.array([0.0])}, 28.0)
    found = {q.name: q for q in model.derived(np.array([10.0, 0.5, 0.5]), calendar, model.settings(), float("nan"))}
    assert np.isnan(found["doubling_time"].value) and "no net growth" in found["doubling_time"].reason
    # Flat at 10 for 1.5 d, then lost at 0.5/d: C d and C/r (1 - exp(-r d)) by hand.
    by_hand = 10 * 1.5 + 10 / 0.5 * (1 - np.exp(-0.5 * 26.5))
    assert float(found["curve_auc_D0-28"].value) == pytest.approx(by_hand, rel=1e-12)
    assert float(found["fold_expansion"].value) == pytest.approx(1.0)


def test_overlapping_windows_count_once_whatever_the_agent_is_called():
    calendar = Calendar(np.array([0.0]), np.array([1.0]), {"il2": np.array([0.0, 1.0, 5.0]), "G-CSF": np.array([9.0])})
    pulses = algebra.pulses_of(calendar, ["IL-2"])
    assert algebra.covered(np.array([0.5, 2.5, 4.0, 20.0]), pulses, 1.5).tolist() == [0.5, 2.5, 2.5, 4.0]


def test_without_a_dose_of_the_agent_the_window_model_says_what_is_missing():
    model = MODELS["cytokine_window"]
    for pulses in ({}, {"IL-15": np.array([1.0])}, {"IL-2": np.array([90.0])}):
        calendar = Calendar(np.array([0.0]), np.array([1.0]), pulses, 28.0)
        assert "no dose of IL-2" in model.missing(calendar, model.settings())


def test_the_faster_phase_is_named_alpha_and_the_curve_stays():
    model = MODELS["expansion_contraction"]
    calendar, parameters, constants = random_case(model, 0)
    parameters[3:] = [0.05, 0.3, 0.6]
    other = model.ordered(parameters)
    assert other[3:] == pytest.approx([0.6, 0.7, 0.05])
    times = np.linspace(0.1, 60.0, 50)
    assert model.log_level(times, other, calendar, constants) == pytest.approx(
        model.log_level(times, parameters, calendar, constants), abs=1e-12
    )


@pytest.mark.parametrize("model", PREPARED.values(), ids=PREPARED)
@pytest.mark.parametrize("seed", range(20))
def test_the_prepared_curve_is_the_curve(model, seed):
    """For settled times and calendars side by side, the shorter one filled with amount 0 and pulses at infinity."""
    first, one, constants = random_case(model, seed)
    second, other, _ = random_case(model, seed + 1000)
    times = np.sort(np.random.default_rng(seed).uniform(0.01, 40.0, (2, 15)), axis=1)
    k = max(len(c.infusion_time) for c in (first, second))
    m = max(len(c.pulses["IL-2"]) for c in (first, second))

    def padded(values, size, fill):
        return np.concatenate([values, np.full(size - len(values), fill)])

    both = Calendar(
        np.stack([padded(c.infusion_time, k, c.infusion_time[-1]) for c in (first, second)]),
        np.stack([padded(c.infusion_amount, k, 0.0) for c in (first, second)]),
        {"IL-2": np.stack([padded(c.pulses["IL-2"], m, np.inf) for c in (first, second)])},
        40.0,
    )
    at = model.prepared(times, both, constants)
    found = at(np.stack([one, other])[None].repeat(3, axis=0))
    for i, (calendar, parameters) in enumerate(((first, one), (second, other))):
        expected = model.log_level(times[i], parameters, calendar, constants)
        for chain in found[:, i]:
            np.testing.assert_allclose(chain, expected, rtol=1e-10, atol=1e-10)
