"""Controls of operation: answers known by arithmetic or an exact formula, and planted defects that must be caught."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from nkinetics.qualification.control import Control, Outcome, all_close, close, number

HAND = "by hand"
CLOSED = "closed form"
LN2 = math.log(2.0)
ONE_INFUSION = pd.DataFrame({"patient_id": ["1"], "infusion": [1], "time": [0.0], "planned": [1.0], "given": [1.0]})


# ------------------------------------------------------------------------------------------------------------- readings


def _standard_curve() -> Outcome:
    from nkinetics.quantify.qpcr import standard_curve

    copies = np.array([1e1, 1e2, 1e3, 1e4, 1e5])
    curve = standard_curve(38.0 - 3.4 * np.log10(copies), copies)
    assert curve is not None
    efficiency = 100.0 * (10 ** (1 / 3.4) - 1)
    return all_close(
        [
            ("slope", curve.slope, -3.4),
            ("intercept", curve.intercept, 38.0),
            ("efficiency", curve.efficiency, efficiency),
        ],
        1e-9,
    )


def _copies_per_microgram() -> Outcome:
    from nkinetics.quantify.qpcr import copies_per_reaction, scale_to_unit

    copies = float(copies_per_reaction(np.array([31.2]), -3.4, 38.0)[0])  # (38 - 31.2) / 3.4 = 2: 100 copies
    factor, _ = scale_to_unit("copies/ug", {"ng_input": 250.0}, math.nan)
    return close(copies * factor, 400.0)


def _poisson() -> Outcome:
    from nkinetics.quantify.dpcr import copies_per_partition

    return close(copies_per_partition(5_000, 20_000), -math.log(0.75))


def _no_positive_partition() -> Outcome:
    from nkinetics.quantify.dpcr import interval

    # No positive among n: the exact upper bound (rule of three, one-sided 95 %) is 1 - 0.05^(1/n).
    _, upper = interval(0, 20_000)
    return close(upper, -math.log(0.05 ** (1 / 20_000)), 1e-6)


def _curve_accepted(slope: float, ntc_ok: bool = True) -> Callable[[], Outcome]:
    def measure() -> Outcome:
        from nkinetics.quantify.qpcr import acceptance, back_calculated, standard_curve
        from nkinetics.settings import QpcrAcceptance

        copies = np.repeat([1e1, 1e2, 1e3, 1e4, 1e5, 1e6], 2)
        ct = 38.0 + slope * np.log10(copies)
        curve = standard_curve(ct, copies)
        assert curve is not None
        failed = acceptance(curve, back_calculated(ct, copies, curve), ntc_ok, QpcrAcceptance())
        return Outcome(not failed, "; ".join(failed) or "accepted", "run accepted")

    return measure


# ------------------------------------------------------------------------------------------------------------------ nca


def _linear_area() -> Outcome:
    from nkinetics.nca import profile

    return close(profile([0, 1, 3, 6], [1, 3, 1, 4], auc_rule="linear")["auc_last"], 13.5)


def _exponential(rule: str) -> Callable[[], Outcome]:
    def measure() -> Outcome:
        from nkinetics.nca import profile

        time = np.array([0.0, 1, 2, 4, 7, 10])
        one = profile(time, 100 * np.exp(-0.3 * time), auc_rule=rule)
        return close(one["auc_last"], 100 / 0.3 * (1 - math.exp(-3.0)))

    return measure


def _terminal() -> Outcome:
    from nkinetics.nca import profile

    time = np.array([0.0, 1, 2, 4, 7, 10])
    one = profile(time, 100 * np.exp(-0.3 * time))
    return all_close(
        [
            ("lambda_z", one["lambda_z"], 0.3),
            ("half_life", one["half_life"], LN2 / 0.3),
            ("auc_inf_obs", one["auc_inf_obs"], 100 / 0.3),
        ],
        1e-9,
    )


def _units() -> Outcome:
    from nkinetics.nca import profile

    time, level = np.array([0.0, 1, 2, 4, 7, 10]), np.array([2.0, 9, 30, 12, 5, 1])
    one, other = profile(time, level), profile(time, 1000 * level)
    scale = {"cmax": 1000.0, "auc_last": 1000.0, "tmax": 1.0, "half_life": 1.0}
    return all_close([(name, other[name], factor * one[name]) for name, factor in scale.items()], 1e-12)


def _nobody_quantified() -> Outcome:
    from nkinetics.nca import profile

    one = profile([0, 1, 7], [0, 0, 0], lloq=10.0)
    reason = one["reasons"].get("cmax", "")
    return Outcome(
        math.isnan(one["cmax"]) and bool(reason), f"Cmax {number(one['cmax'])}: {reason}", "missing, with a reason"
    )


def _below_limit_as_zero() -> Outcome:
    """A level below the LLOQ in the last place counts as 0 only where that was asked for."""
    from nkinetics.nca import profile

    asked = profile([0, 1, 2, 3], [8, 4, 2, 0], lloq=1.0, last="zero", auc_rule="linear")
    return close(asked["auc_all"], 6 + 3 + 1)


# --------------------------------------------------------------------------------------------------------------- models


def _censored_likelihood() -> Outcome:
    from nkinetics.fitting.likelihood import Points, log_likelihood

    none = np.zeros(0)
    row = Points(np.array([5.0]), none, np.array([-np.inf]), np.array([math.log(50.0)]), np.zeros(1))
    found = float(log_likelihood(np.array([math.log(80.0)]), np.array(math.log(0.5)), row))
    z = (math.log(50.0) - math.log(80.0)) / 0.5
    return close(found, math.log(0.5 * math.erfc(-z / math.sqrt(2))), 1e-12)


@cache
def _decay() -> dict[str, float]:
    """Estimates of `decay` on levels without noise after three infusions."""
    from nkinetics import fitting

    time, days = np.array([0.5, 1, 2, 2.9, 3.5, 5, 5.9, 7, 9, 12, 16]), (0.0, 3.0, 6.0)
    level = sum(np.where(time > d, 1500 * np.exp(-0.4 * np.maximum(time - d, 0.0)), 0.0) for d in days)
    observed = pd.DataFrame(
        {"patient_id": "1", "time_actual": time, "level": level, "status": "quantified", "lloq": 1.0}
    )
    infusions = pd.DataFrame(
        {"patient_id": "1", "infusion": [1, 2, 3], "time": days, "planned": [1.0] * 3, "given": [1.0] * 3}
    )
    made = fitting.analyse(observed, infusions, models=("decay",)).estimates
    return {str(row["parameter"]): float(row["estimate"]) for _, row in made.iterrows()}


def _decay_recovered() -> Outcome:
    found = _decay()
    return all_close([("scale", found["scale"], 1500.0), ("delta", found["delta"], 0.4)], 1e-4)


def _wrong_decay() -> Outcome:
    return close(_decay()["delta"], 0.42, 1e-4)


def _exact_marginal() -> Outcome:
    """Ln likelihood of a population where it is Gaussian: y_ij = mu + eta_i + e_ij."""
    from nkinetics.fitting.likelihood import Points
    from nkinetics.population.information import importance_sampling
    from nkinetics.population.mixed import Effects, Study, Values, series

    mu, omega2, sigma, n, m = 3.0, 0.25, 0.4, 12, 5
    random = np.random.default_rng(20)
    y = mu + np.sqrt(omega2) * random.standard_normal((n, 1)) + sigma * random.standard_normal((n, m))
    none = np.zeros(0)
    rows = series([[Points(np.arange(m, dtype=float), one, none, none, np.zeros(m))] for one in y])
    effects = Effects(
        names=("mu",),
        coefficients=("mu",),
        design=np.ones((n, 1, 1)),
        start=np.array([mu]),
        free=np.ones(1, dtype=bool),
        varies=np.ones(1, dtype=bool),
        together=np.eye(1, dtype=bool),
        prior_mean=np.array([mu]),
        prior_sd=np.array([np.inf]),
        omega_scale=1.0,
        omega_start=np.array([0.5]),
        sigma_start=np.array([sigma]),
    )
    study = Study(rows, effects, lambda phi, chains: np.broadcast_to(phi, (*phi.shape[:-1], m)))
    values = Values(np.array([mu]), np.array([[omega2]]), np.array([sigma]), np.zeros(1))
    weight = omega2 / (omega2 + sigma**2 / m)
    mean = mu + weight * (y.mean(axis=1, keepdims=True) - mu)
    spread = np.full((n, 1, 1), (1 - weight) * omega2)
    found = importance_sampling(study, values, mean, spread, np.random.default_rng(21), draws=20_000)
    covariance = omega2 * np.ones((m, m)) + sigma**2 * np.eye(m)
    off = y - mu
    exact = -0.5 * (
        np.einsum("ij,jk,ik->", off, np.linalg.inv(covariance), off) + n * np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    met = abs(found.log_likelihood - exact) <= 4 * found.error + 1e-9
    return Outcome(
        bool(met),
        f"ln L {found.log_likelihood:.3f}, Monte-Carlo error {found.error:.3f}",
        f"within four Monte-Carlo errors of {exact:.3f}",
    )


# ----------------------------------------------------------------------------------------------------------- statistics


def _proportional() -> Outcome:
    from nkinetics.population.dose_proportionality import power_model

    amount = np.array([2e9, 2e9, 2e9, 4e9, 4e9, 4e9])
    value = np.array([90.0, 100.0, 1e4 / 90, 180.0, 200.0, 2e4 / 90])
    return close(power_model(amount, value).value, 1.0)


def _verdict_of_few() -> Outcome:
    from nkinetics.population.dose_proportionality import power_model, slope_criterion, verdict

    amount = np.array([2e9] * 3 + [4e9] * 6)
    value = np.array([40.0, 100, 250, 80, 150, 200, 260, 400, 500])
    found = power_model(amount, value)
    told = verdict(found.lower, found.upper, *slope_criterion(2.0))
    return Outcome("inconclusive" in told, told, "inconclusive with 3 and 6 patients")


def _kaplan_meier() -> Outcome:
    from nkinetics.population.persistence import kaplan_meier_curve

    curve = kaplan_meier_curve(np.array([7.0, 14, 14, 21, 28]), np.array([True, True, False, True, False]))
    pairs = zip((1.0, 0.8, 0.6, 0.3, 0.3), curve.survival, strict=True)
    return all_close([(f"step {i}", float(b), a) for i, (a, b) in enumerate(pairs)], 1e-12)


def _deming() -> Outcome:
    from nkinetics.population.assay_agreement import deming

    x = np.array([1.0, 2.0, 3.0, 5.0])
    slope, intercept = deming(x, 0.5 + 1.2 * x)
    return all_close([("slope", slope, 1.2), ("intercept", intercept, 0.5)], 1e-9)


# ------------------------------------------------------------------------------------------------------------- the door


def _accepted_identifier(text: str) -> Callable[[], Outcome]:
    def measure() -> Outcome:
        from nkinetics.columns import IDENTIFIER

        met = IDENTIFIER.match(text) is not None
        return Outcome(met, f"{text!r} {'accepted' if met else 'refused'}", "accepted as an identifier of a patient")

    return measure


def _formula_in_a_table() -> Outcome:
    from nkinetics.store import csv_text

    text = csv_text(pd.DataFrame({"comment": ["=HYPERLINK(0)"]}))
    cell = text.splitlines()[1].strip('"')
    return Outcome(cell.startswith("="), f"written as {cell}", "written so that a spreadsheet runs it")


def _unknown_key() -> Outcome:
    from nkinetics.errors import InputError
    from nkinetics.settings import section

    try:
        section("nca", '{"auc_rulle": "linear"}')
    except InputError as error:
        return Outcome(False, f"refused: {error.problems[0]}", "accepted")
    return Outcome(True, "accepted", "accepted")


def _two_at_one_time() -> Outcome:
    from nkinetics.errors import InputError
    from nkinetics.nca import profile

    try:
        profile([0, 1, 1], [1, 2, 3])
    except InputError as error:
        return Outcome(False, f"refused: {error.problems[0]}", "accepted")
    return Outcome(True, "accepted", "accepted")


CONTROLS = (
    Control("OQ-QUA-01", "QUA-1", "Standard curve of exact dilutions", CLOSED, _standard_curve),
    Control("OQ-QUA-02", "QUA-1", "Ct to copies per microgram of DNA", HAND, _copies_per_microgram),
    Control("OQ-QUA-03", "QUA-2", "Poisson correction of 5,000 positive of 20,000 partitions", CLOSED, _poisson),
    Control("OQ-QUA-04", "QUA-2", "Upper bound where no partition is positive", CLOSED, _no_positive_partition),
    Control("OQ-QUA-05", "QUA-3", "Run with a slope of -3.40 is accepted", "settings", _curve_accepted(-3.4)),
    Control("OQ-QUA-06", "QUA-3", "Run with a slope of -4.20", "planted defect", _curve_accepted(-4.2), "fail"),
    Control(
        "OQ-QUA-07", "QUA-3", "Run with a detected no-template control", "planted defect",
        _curve_accepted(-3.4, ntc_ok=False), "fail",
    ),
    Control("OQ-NCA-01", "NCA-1", "AUC of straight pieces, linear rule", HAND, _linear_area),
    Control(
        "OQ-NCA-02", "NCA-1", "AUC of an exponential decline, linear up/log down", CLOSED,
        _exponential("linear_up_log_down"),
    ),
    Control(
        "OQ-NCA-03", "NCA-1", "The same by the linear rule, against the exact area", "planted wrong rule",
        _exponential("linear"), "fail",
    ),
    Control("OQ-NCA-04", "NCA-2", "Terminal slope, half-life and AUC to infinity of an exponential", CLOSED, _terminal),
    Control("OQ-NCA-05", "NCA-1", "Levels times 1,000: areas times 1,000, times unchanged", "law of scale", _units),
    Control("OQ-NCA-06", "NCA-3", "Nobody quantified: no Cmax, with a reason", "design", _nobody_quantified),
    Control("OQ-NCA-07", "NCA-3", "BLQ after the last quantified level taken as zero where asked", HAND,
            _below_limit_as_zero),
    Control("OQ-MOD-01", "MOD-1", "Likelihood of a censored level", CLOSED, _censored_likelihood),
    Control("OQ-MOD-02", "MOD-2", "Decay after three infusions from levels without noise", "known truth",
            _decay_recovered),
    Control("OQ-MOD-03", "MOD-2", "The same against a wrong truth (delta 0.42)", "planted wrong number", _wrong_decay,
            "fail"),
    Control("OQ-POP-01", "POP-1", "Population likelihood where it is Gaussian", CLOSED, _exact_marginal),
    Control("OQ-STA-01", "STA-1", "Slope of exactly proportional exposures", HAND, _proportional),
    Control("OQ-STA-02", "STA-1", "Three patients against six state nothing", "design", _verdict_of_few),
    Control("OQ-STA-03", "STA-2", "Kaplan-Meier of five patients", HAND, _kaplan_meier),
    Control("OQ-STA-04", "STA-3", "Deming regression of points on a line", CLOSED, _deming),
    Control("OQ-ING-01", "ING-1", "Identifier of a patient: DL1-001", "design", _accepted_identifier("DL1-001")),
    Control("OQ-ING-02", "ING-1", "Identifier of a patient with markup", "planted defect",
            _accepted_identifier("<img src=x>"), "fail"),
    Control("OQ-ING-03", "ING-1", "Misspelt key of the configuration", "planted defect", _unknown_key, "fail"),
    Control("OQ-ING-04", "ING-1", "Two samples at one time", "planted defect", _two_at_one_time, "fail"),
    Control("OQ-ING-05", "ING-2", "Formula in a comment, written to a table", "planted defect", _formula_in_a_table,
            "fail"),
)  # fmt: skip
"""Every control, in the order of the data's way."""
