"""Terminal fits whose points were chosen by hand, and fits that count the samples below their LLOQ."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from nkinetics import inputs, nca, settings
from nkinetics.errors import InputError
from nkinetics.nca.lambda_z import censored_line, terminal, tobit
from nkinetics.settings import LambdaZ, ManualPoints, Nca
from scipy import stats

NAN = math.nan
WIDE: dict[str, Any] = {"r_squared_adj_min": 0.0, "span_ratio_min": 1e-9, "extrapolation_pct_max": 1e9}
TIME = [0.0, 1.0, 3.0, 7.0, 14.0, 21.0, 28.0]
LEVEL = [0.0, 900.0, 500.0, 260.0, 40.0, 30.0, 24.0]


def slope(*times: float) -> float:
    return -float(np.polyfit(times, [math.log(LEVEL[TIME.index(t)]) for t in times], 1)[0])


# ------------------------------------------------------------------------------------------------------ points by hand


def test_included_points_make_the_fit_and_say_so() -> None:
    one = nca.profile(TIME, LEVEL, lambda_z_include=[3, 7, 14])
    assert one["lambda_z"] == pytest.approx(slope(3, 7, 14), rel=1e-12)
    assert (one["lambda_z_n_points"], one["lambda_z_start"], one["lambda_z_end"]) == (3, 3.0, 14.0)
    assert one["reasons"]["half_life"].startswith("points chosen by hand: as asked")
    # Clast stays the observed last level; the line is read at Tlast, beyond its last point.
    t, y = np.array([3.0, 7, 14]), np.log([500, 260, 40])
    rate, start = np.polyfit(t, y, 1)
    assert one["clast_pred"] == pytest.approx(math.exp(start + rate * 28), rel=1e-12)
    assert one["auc_inf_obs"] == pytest.approx(one["auc_last"] + 24 / one["lambda_z"], rel=1e-12)


def test_points_before_the_peak_and_at_it_may_be_included() -> None:
    one = nca.profile([0, 1, 2, 3, 4], [50, 40, 90, 30, 10], lambda_z_include=[0, 1, 2, 3, 4], **WIDE)
    wanted = -np.polyfit([0, 1, 2, 3, 4], np.log([50, 40, 90, 30, 10]), 1)[0]
    assert one["lambda_z"] == pytest.approx(wanted, rel=1e-12)


def test_an_excluded_point_is_left_out_and_the_rest_chosen_as_usual() -> None:
    one = nca.profile(TIME, LEVEL, lambda_z_exclude=[14], **WIDE)
    without = [(t, c) for t, c in zip(TIME, LEVEL, strict=True) if t != 14]
    other = nca.profile(*zip(*without, strict=True), **WIDE)
    for name in ("lambda_z", "lambda_z_n_points", "lambda_z_start", "lambda_z_end", "r_squared_adj", "clast_pred"):
        assert one[name] == pytest.approx(other[name], rel=1e-12), name
    assert one["auc_last"] != other["auc_last"], "the area keeps the sample"
    assert one["reasons"]["half_life"] == "points left out by hand: as asked"
    few = nca.profile(TIME, LEVEL, lambda_z_exclude=[14, 21, 28])
    assert few["reasons"]["half_life"] == ("2 quantified points after Tmax, 3 needed (points chosen by hand: as asked)")


def test_included_points_that_rise_have_no_half_life() -> None:
    one = nca.profile([0, 1, 2, 3, 4], [0, 90, 10, 20, 40], lambda_z_include=[2, 3, 4])
    assert math.isnan(one["half_life"]) and one["reasons"]["half_life"].endswith(
        "falls (points chosen by hand: as asked)"
    )


def test_a_fit_by_hand_is_judged_like_any_other() -> None:
    one = nca.profile(TIME, LEVEL, lambda_z_include=[14, 21, 28])
    assert "outside acceptance" in one["reasons"]["half_life"] and "by hand" in one["reasons"]["half_life"]


def observed(patient: str = "01", **more: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": patient,
            "dose_level": "DL1",
            "assay": "qpcr",
            "specimen": "blood",
            "sample_id": [f"{patient}-{i}" for i in range(len(TIME))],
            "observation_id": [f"{patient}-{i}" for i in range(len(TIME))],
            "time_actual": TIME,
            "level": LEVEL,
            "status": "quantified",
            "lloq": 10.0,
            "level_unit": "copies/ug",
        }
    ).assign(**more)


def chosen(**entry: Any) -> Nca:
    given = {"patient_id": "01", "assay": "qpcr", "reason": "a rebound at d 21", **entry}
    return Nca(lambda_z=LambdaZ(manual=(ManualPoints(**given),)))


def test_a_choice_touches_its_own_fit_alone() -> None:
    frame = pd.concat([observed(), observed("02")], ignore_index=True)
    key = ["patient_id", "window", "parameter"]
    plain = nca.analyse(frame).set_index(key)
    table, points = nca.analyse_with_points(frame, settings=chosen(include=(3.0, 7.0, 14.0)))
    table = table.set_index(key)
    differs = ~((table["value"] == plain["value"]) | (table["value"].isna() & plain["value"].isna()))
    changed = {(p, w) for p, w, _ in table.index[differs]}
    # The window D0-28 ends at Tlast: its area needs no slope.
    assert changed == {("01", "overall")}
    assert table.loc[("01", "overall", "half_life"), "value"] == pytest.approx(math.log(2) / slope(3, 7, 14), rel=1e-12)
    assert "a rebound at d 21" in table.loc[("01", "overall", "half_life"), "reason"]
    used = points[(points["used_in"] == "lambda_z") & (points["window"] == "overall") & (points["patient_id"] == "01")]
    assert used["observation_id"].tolist() == ["01-2", "01-3", "01-4"]
    other = nca.analyse(frame, settings=chosen(include=(3.0, 7.0, 14.0), window="infusion_1")).set_index(key)
    assert other.loc[("01", "overall", "half_life"), "value"] == plain.loc[("01", "overall", "half_life"), "value"]
    assert other.loc[("01", "infusion_1", "half_life"), "value"] == pytest.approx(math.log(2) / slope(3, 7, 14))


def test_an_area_that_was_extrapolated_with_such_a_fit_says_so() -> None:
    manual = ManualPoints(patient_id="01", assay="qpcr", include=(3.0, 7.0, 14.0), reason="protocol deviation")
    table = nca.analyse(observed(), settings=Nca(windows=((0.0, 40.0),), lambda_z=LambdaZ(manual=(manual,), **WIDE)))
    row = table[(table["window"] == "D0-40") & (table["parameter"] == "auc_int")].iloc[0]
    assert row["reason"].startswith("extrapolated from d 28 with lambda_z")
    assert row["reason"].endswith("points chosen by hand: protocol deviation")


def test_times_are_study_days_as_the_report_prints_them() -> None:
    late = observed(time_actual=[t + 5.3333 for t in TIME])
    given = pd.DataFrame({"patient_id": ["01"], "infusion": [1], "time": [5.3333]})
    include = (8.33, 12.33, 19.33)
    table = nca.analyse(late, given, chosen(include=include, window="infusion_1"))
    row = table[(table["window"] == "infusion_1") & (table["parameter"] == "lambda_z")].iloc[0]
    assert row["value"] == pytest.approx(slope(3, 7, 14), rel=1e-9)


def test_a_choice_for_a_patient_of_another_batch_changes_nothing() -> None:
    frame = observed()
    pd.testing.assert_frame_equal(
        nca.analyse(frame), nca.analyse(frame, settings=chosen(patient_id="77", exclude=(3.0,)))
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"include": (3.0, 7.0, 15.0)}, r"no quantified sample of 01 qpcr blood overall at d 15; .* 3, 7, 14, 21, 28"),
        ({"exclude": (0.0,)}, "no quantified sample of 01 qpcr blood overall at d 0;"),
        ({"include": (3.0, 3.004, 7.0)}, "two times of one sample of 01 qpcr blood overall"),
        ({"exclude": (3.0,), "assay": "qpc"}, r"01 qpc blood overall; .*did you mean 01 qpcr blood overall"),
        ({"exclude": (3.0,), "specimen": "marrow"}, "01 qpcr marrow overall"),
        ({"exclude": (3.0,), "window": "infusion_7"}, "01 qpcr blood infusion_7"),
    ],
)  # fmt: skip
def test_a_choice_that_fits_no_profile_is_refused_with_its_name(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nca.analyse(observed(), settings=chosen(**entry))


def test_two_samples_that_one_time_could_mean_are_refused() -> None:
    frame = observed(time_actual=[0, 1, 3, 7, 14, 14.004, 28])
    with pytest.raises(InputError, match=r"2 quantified samples of 01 qpcr blood overall at d 14\.002"):
        nca.analyse(frame, settings=chosen(exclude=(14.002,)))
    # Each of them by its own time is no question.
    assert nca.analyse(frame, settings=chosen(exclude=(14.004,)))["value"].notna().any()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"include": [3, 7, 14], "exclude": [7]}, "01 qpcr blood overall: d 7 both included and excluded"),
        ({"include": [3, 7, 14], "exclude": [21]}, "01 qpcr blood overall: either include or exclude"),
        ({}, "01 qpcr blood overall: either include or exclude"),
        ({"include": [3, 7]}, "01 qpcr blood overall: 3 or more points"),
        ({"include": [3, 7, 7]}, "01 qpcr blood overall: 3 or more points"),
        ({"exclude": [3], "window": "D0-28"}, "a window with a fit of its own"),
        ({"exclude": [3], "reason": ""}, "at least 1 character"),
        ({"exclude": [3], "reason": None}, "a valid string"),
    ],
)  # fmt: skip
def test_a_choice_that_contradicts_itself_is_refused_by_the_configuration(entry: dict[str, Any], message: str) -> None:
    given = {"patient_id": "01", "assay": "qpcr", "reason": "why", **entry}
    with pytest.raises(InputError, match=message):
        settings.section("nca", json.dumps({"lambda_z": {"manual": [given]}}))


def test_two_entries_for_one_fit_and_a_missing_reason_are_refused() -> None:
    one = {"patient_id": "01", "assay": "qpcr", "exclude": [3], "reason": "why"}
    with pytest.raises(InputError, match="one entry for each fit; several for 01 qpcr blood overall"):
        settings.section("nca", json.dumps({"lambda_z": {"manual": [one, {**one, "exclude": [7]}]}}))
    with pytest.raises(InputError, match="found no value"):
        settings.section("nca", json.dumps({"lambda_z": {"manual": [{k: one[k] for k in one if k != "reason"}]}}))


def test_a_choice_for_a_patient_whom_the_study_does_not_know_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,dose_level\nP-001,DL1\nP-002,DL1\n")
    (tmp_path / "infusions.csv").write_text("patient_id,infusion,time,planned\nP-001,1,0,1e9\nP-002,1,0,1e9\n")
    text = {
        "inputs": {"patients": "patients.csv", "infusions": "infusions.csv", "samples": None, "cytokines": None,
                   "events": None},
        "nca": {"lambda_z": {"manual": [{"patient_id": "P-01", "assay": "qpcr", "exclude": [3], "reason": "why"}]}},
    }  # fmt: skip
    made = settings.validated(yaml.safe_load(json.dumps(text)), "config.yaml")
    with pytest.raises(InputError, match=r"nca.lambda_z.manual.0.patient_id: found 'P-01'; .*did you mean P-001"):
        inputs.read_study(made, tmp_path)


# ------------------------------------------------------------------------------------------------------- censored fits


def random_lines(seed: int, rows: int = 200, columns: int = 9) -> tuple[np.ndarray, ...]:
    """Noisy falling lines; what lies below a limit at the end is censored there."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 20, (rows, columns)), axis=1)
    y = 6 - rng.uniform(0.1, 0.6, rows)[:, None] * x + rng.normal(0, 0.4, (rows, columns))
    limit = rng.uniform(0, 3, (rows, 1)) + np.zeros(columns)
    last = columns - 1 - np.argmax((y >= limit)[:, ::-1], axis=1)
    used = (y >= limit) & (np.arange(columns) <= last[:, None])
    below = (y < limit) & (np.arange(columns) > last[:, None])
    keep = used.sum(axis=1) >= 3
    return x[keep], np.where(used, y, limit)[keep], used[keep], below[keep]


def test_without_a_censored_point_the_likeliest_line_is_that_of_least_squares() -> None:
    x, y, used, _ = random_lines(1)
    slopes, intercepts, converged = censored_line(x, y, used, np.zeros_like(used))
    assert converged.all() and len(x) > 100
    for i in range(len(x)):
        wanted = np.polyfit(x[i][used[i]], y[i][used[i]], 1)
        assert (slopes[i], intercepts[i]) == pytest.approx(tuple(wanted), rel=1e-9)


def test_the_likelihood_is_flat_at_the_line_and_lower_beside_it() -> None:
    x, y, used, below = random_lines(2)
    slopes, intercepts, converged = censored_line(x, y, used, below)
    assert converged.all() and below.any(axis=1).sum() > 60

    def best_over_sigma(i: int, slope: float, intercept: float) -> float:
        away, cut = (y[i] - intercept - slope * x[i])[used[i]], (y[i] - intercept - slope * x[i])[below[i]]
        sigma = np.exp(np.linspace(-4, 2, 4001))[:, None]
        one = stats.norm.logpdf(away / sigma) - np.log(sigma)
        return float((one.sum(axis=1) + stats.norm.logcdf(cut / sigma).sum(axis=1)).max())

    for i in np.flatnonzero(below.any(axis=1))[:40]:
        top = best_over_sigma(i, slopes[i], intercepts[i])
        for d_slope, d_intercept in ((0.01, 0), (-0.01, 0), (0, 0.05), (0, -0.05), (0.01, -0.1), (-0.01, 0.1)):
            assert best_over_sigma(i, slopes[i] + d_slope, intercepts[i] + d_intercept) < top


def test_a_line_without_scatter_stays_where_no_limit_contradicts_it_and_bends_where_one_does() -> None:
    x = np.array([[0.0, 1, 2, 3, 4]] * 2)
    y = np.array([[3.0, 2, 1, 0.5, 0.5], [3.0, 2, 1, -2.0, -2.0]])
    used = np.array([[True, True, True, False, False]] * 2)
    slopes, intercepts, converged = censored_line(x, y, used, ~used)
    assert converged.all()
    assert (slopes[0], intercepts[0]) == pytest.approx((-1.0, 3.0), rel=1e-12)
    assert slopes[1] < -1.05


def test_a_sample_far_below_any_doubt_adds_nothing() -> None:
    one = nca.profile(TIME, LEVEL, lloq=10.0, method="regression", **WIDE)
    certain = nca.profile([*TIME, 300.0], [*LEVEL, 0.0], lloq=[10.0] * 7 + [9.0], method="tobit", **WIDE)
    assert certain["lambda_z"] == pytest.approx(one["lambda_z"], rel=1e-9)
    without = nca.profile([*TIME, 300.0], [*LEVEL, 0.0], method="tobit", **WIDE)
    assert without["lambda_z"] == one["lambda_z"], "a BLQ sample without an LLOQ is censored nowhere"
    assert "censored" not in without["reasons"].get("half_life", "")


def test_only_the_line_changes_not_what_describes_its_points() -> None:
    time, level = [0, 1, 3, 7, 10, 14, 21], [0, 900, 500, 200, 150, 0, 0]
    plain, censored = (nca.profile(time, level, lloq=40.0, method=m, **WIDE) for m in ("regression", "tobit"))
    same = {"lambda_z_n_points", "lambda_z_start", "lambda_z_end", "r_squared", "r_squared_adj", "corr_xy"}
    for name in nca.BY_NAME:
        differs = censored[name] != plain[name] and not math.isnan(plain[name])
        assert differs == (
            name in {"lambda_z", "half_life", "span_ratio", "clast_pred", "auc_inf_obs", "auc_inf_pred",
                     "auc_extrap_pct", "aumc_inf_obs", "mrt_inf_obs"}
        ), name  # fmt: skip
    assert same <= set(nca.BY_NAME)
    assert censored["lambda_z"] > plain["lambda_z"]
    assert censored["reasons"]["half_life"].startswith("censored fit that counts 2 BLQ samples after Tlast")


def test_samples_below_the_lloq_before_tlast_are_not_censored_points() -> None:
    time, level = [0, 1, 3, 7, 10, 14, 21], [0, 900, 500, 0, 150, 90, 50]
    plain, other = (nca.profile(time, level, lloq=40.0, method=m, **WIDE) for m in ("regression", "tobit"))
    assert repr(plain) == repr(other)


def test_censored_points_are_shown_among_the_points_of_the_fit() -> None:
    frame = observed(level=[0, 900, 500, 200, 90, 50, NAN], status=["quantified"] * 6 + ["blq"], lloq=30.0)
    used = {
        method: sorted(
            points.loc[(points["window"] == "overall") & (points["used_in"] == "lambda_z"), "observation_id"]
        )
        for method in ("regression", "tobit")
        for points in [nca.points(frame, settings=Nca(lambda_z=LambdaZ(method=method)))]
    }
    assert set(used["tobit"]) - set(used["regression"]) == {"01-6"}


def test_the_samples_after_the_next_infusion_do_not_censor_the_fit_before_it() -> None:
    frame = observed(level=[0, 900, 500, 200, 90, NAN, NAN], status=["quantified"] * 5 + ["blq"] * 2, lloq=50.0)
    given = pd.DataFrame({"patient_id": "01", "infusion": [1, 2], "time": [0.0, 15.0]})
    table = nca.analyse(frame, given, Nca(lambda_z=LambdaZ(method="tobit"))).set_index(["window", "parameter"])
    assert "counts 2 BLQ samples" in table.loc[("overall", "half_life"), "reason"]
    assert "censored" not in table.loc[("infusion_1", "half_life"), "reason"]


def test_a_batch_gives_what_each_profile_gives_alone() -> None:
    x, y, used, below = random_lines(3, 60)
    together = censored_line(x, y, used, below)
    for i in range(len(x)):
        alone = censored_line(x[i : i + 1], y[i : i + 1], used[i : i + 1], below[i : i + 1])
        assert (together[0][i], together[1][i]) == pytest.approx((alone[0][0], alone[1][0]), rel=1e-10)


def test_the_censored_fit_recovers_a_rate_that_least_squares_takes_for_slower() -> None:
    """Levels fall at 0.15 per day with log-normal scatter and disappear below an LLOQ that the line crosses on d 14."""
    rng = np.random.default_rng(20)
    rate, spread, lloq, n = 0.15, 0.6, 100.0, 2000
    time = np.tile([1.0, 3, 5, 7, 10, 14, 18, 21, 28], (n, 1))
    level = lloq * np.exp(-rate * (time - 14) + rng.normal(0, spread, time.shape))
    above = level >= lloq
    last = time.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    column = np.arange(time.shape[1])
    # All points of a profile are terminal here, so that the choice of points plays no part.
    fit = terminal(time, np.where(above, level, NAN), above, LambdaZ(), np.ones(n, dtype=bool))
    below = ~above & (column > last[:, None])
    censored = tobit(fit, time, level, np.full_like(level, lloq), below)
    plain, better = fit.lambda_z[fit.n_points > 0], censored.lambda_z[fit.n_points > 0]
    assert not censored.failed.any() and len(plain) > 1900
    bias = {name: float(np.median(v)) / rate - 1 for name, v in {"plain": plain, "censored": better}.items()}
    assert bias["plain"] < -0.2
    assert abs(bias["censored"]) < abs(bias["plain"]) / 3
    error = {name: np.sqrt(np.mean((v - rate) ** 2)) for name, v in {"plain": plain, "censored": better}.items()}
    assert error["censored"] < error["plain"]
