"""Diagnostics of the population model: the visual predictive check as a law, tables, figures, the leading structure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import figures, tables
from nkinetics.columns import (
    FITS,
    INDIVIDUALS,
    POPULATION,
    POPULATION_COMPARISON,
    POPULATION_POINTS,
    POPULATION_VPC,
)
from nkinetics.figures import _style
from nkinetics.figures.prior_posterior import density
from nkinetics.fitting.likelihood import Points
from nkinetics.leading import by_population, leading_model, led, shown
from nkinetics.plugins import discover
from nkinetics.population.estimation import analyse
from nkinetics.population.mixed import Effects, Study, Values, series
from nkinetics.population.predictive import percentiles, simulated, time_bins, visual_check
from nkinetics.results import Context, Results
from nkinetics.settings import Blq, Population
from nkinetics.store import complete, read_table, write_table
from scipy.special import ndtr, ndtri

TIMES = np.array([1.0, 4.0, 8.0, 14.0])
TRUTH = Values(np.array([7.0, np.log(0.35)]), np.diag([0.5**2, 0.2**2]), np.array([0.4]), np.zeros(1))


def decay(levels: np.ndarray, lloq: float) -> Study:
    """Patients sampled at `TIMES` with ln levels (patients, times), those below ln LLOQ censored; two parameters."""
    points = []
    for y in levels:
        seen = y >= lloq
        time = np.concatenate([TIMES[seen], TIMES[~seen]])
        k = int((~seen).sum())
        points.append([Points(time, y[seen], np.full(k, -np.inf), np.full(k, lloq), np.zeros(len(time)))])
    rows, n = series(points), len(levels)
    effects = Effects(
        names=("scale", "delta"),
        coefficients=("scale", "delta"),
        design=np.tile(np.eye(2), (n, 1, 1)),
        start=TRUTH.theta,
        free=np.ones(2, dtype=bool),
        varies=np.ones(2, dtype=bool),
        together=np.eye(2, dtype=bool),
        prior_mean=np.zeros(2),
        prior_sd=np.full(2, np.inf),
        omega_scale=1.0,
        omega_start=np.full(2, 0.5),
        sigma_start=np.array([0.4]),
    )
    return Study(rows, effects, lambda phi, chains: phi[..., :1] - np.exp(phi[..., 1:]) * rows.time)


def drawn(random: np.random.Generator, n: int) -> np.ndarray:
    """Ln levels (patients, times) of new patients under the truth."""
    phi = TRUTH.theta + random.standard_normal((n, 2)) * np.sqrt(np.diag(TRUTH.omega))
    return phi[:, :1] - np.exp(phi[:, 1:]) * TIMES + TRUTH.sigma[0] * random.standard_normal((n, len(TIMES)))


def checked(study: Study, lloq: float, random: np.random.Generator, values: Values = TRUTH, replicates: int = 400):
    """The check by sampling time."""
    cell = np.searchsorted(TIMES, study.series.time)
    limits = np.full(study.series.time.shape, lloq)
    return visual_check(study, values, cell, limits, np.full(limits.shape, np.inf), random, replicates)


# ---------------------------------------------------------------------------------------------------------------- laws


def test_the_check_covers_studies_from_its_own_model():
    """Observed and simulated studies are exchangeable: nine of ten observed numbers lie between the two ends."""
    random = np.random.default_rng(11)
    inside, total, blq = 0, 0, []
    for _ in range(60):
        study = decay(drawn(random, 10), 4.5)
        for c in checked(study, 4.5, random):
            within = c.lower <= c.observed <= c.upper
            if c.percentile is None:
                blq.append(within)
            elif np.isfinite(c.lower):
                inside, total = inside + within, total + 1
    # Numbers of one study are correlated: 60 studies tell the share to about 0.03. Few shares are possible among ten
    # rows, so that their interval holds at least its 90 %.
    assert total > 250 and 0.85 < inside / total < 0.95
    assert 0.88 < np.mean(blq) <= 1.0


def test_a_model_that_is_off_is_seen():
    random = np.random.default_rng(12)
    study = decay(drawn(random, 30), 4.5)
    wrong = Values(TRUTH.theta + np.array([1.0, 0.0]), TRUTH.omega, TRUTH.sigma, TRUTH.offset)
    medians = [c for c in checked(study, 4.5, random, wrong) if c.percentile == 50.0 and c.cell < 2]
    assert all(c.observed < c.lower for c in medians)


def test_simulated_numbers_are_those_of_the_normal_distribution():
    """At time t the ln level has the mean S - delta t; delta fixed, it is exactly normal with SD sqrt(w2 + s2)."""
    random = np.random.default_rng(13)
    fixed = Values(TRUTH.theta, np.diag([0.5**2, 0.0]), TRUTH.sigma, TRUTH.offset)
    study = decay(drawn(random, 400), 4.5)
    mean, sd = 7.0 - 0.35 * TIMES, np.sqrt(0.5**2 + 0.4**2)
    for c in checked(study, 4.5, random, fixed, replicates=300):
        if c.percentile is None:
            assert c.median == pytest.approx(ndtr((4.5 - mean[c.cell]) / sd), abs=0.01)
        else:
            exact = mean[c.cell] + sd * ndtri(c.percentile / 100)
            if exact > 4.6:
                assert c.median == pytest.approx(exact, abs=0.06)
            elif exact < 4.4:
                assert c.median == -np.inf


def test_a_higher_lloq_hides_more_and_a_change_of_unit_shifts_every_percentile():
    random = np.random.default_rng(14)
    levels = drawn(random, 12)
    low, high = (checked(decay(levels, x), x, np.random.default_rng(1)) for x in (3.0, 5.0))
    for a, b in zip(low, high, strict=True):
        if a.percentile is None:
            assert (a.observed, a.median, a.n_blq) <= (b.observed, b.median, b.n_blq)
    shift = np.log(1000.0)
    moved = Values(TRUTH.theta + np.array([shift, 0.0]), TRUTH.omega, TRUTH.sigma, TRUTH.offset)
    other = checked(decay(levels + shift, 3.0 + shift), 3.0 + shift, np.random.default_rng(1), moved)
    for a, b in zip(low, other, strict=True):
        add = 0.0 if a.percentile is None else shift
        assert [b.observed, b.lower, b.median, b.upper] == pytest.approx(
            [x + add for x in (a.observed, a.lower, a.median, a.upper)]
        )


def test_nothing_quantified_is_all_below_and_no_limit_is_none_below():
    random = np.random.default_rng(15)
    levels = drawn(random, 5)
    for lloq, share in ((50.0, 1.0), (-np.inf, 0.0)):
        found = checked(decay(levels, lloq), lloq, random, replicates=200)
        blq = [c for c in found if c.percentile is None]
        assert {c.observed for c in blq} == {share} == {c.median for c in blq}
        assert all(np.isneginf(c.observed) == (share == 1.0) for c in found if c.percentile is not None)


def test_percentiles_with_levels_below_the_lloq_by_hand():
    # Places of 5, 50 and 95 % among four rows: 0.15, 1.5 and 2.85.
    below = percentiles(np.array([4.0, -np.inf, 2.0, -np.inf]))
    assert below.tolist()[:2] == [-np.inf, -np.inf] and below[2] == pytest.approx(2.0 + 0.85 * 2.0)
    assert percentiles(np.array([1.0, 2.0, 4.0, np.inf])).tolist() == pytest.approx([1.15, 3.0, np.inf])
    assert percentiles(np.array([[3.0]])).tolist() == [[3.0, 3.0, 3.0]]


def test_simulated_studies_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    from nkinetics.population import predictive

    study = decay(drawn(np.random.default_rng(16), 3), 4.5)
    whole = simulated(study, TRUTH, np.random.default_rng(2), 50)
    monkeypatch.setattr(predictive, "AT_ONCE", 3 * 50)
    assert np.array_equal(whole, simulated(study, TRUTH, np.random.default_rng(2), 50))
    monkeypatch.setattr(predictive, "AT_ONCE", 9)
    parts = simulated(study, TRUTH, np.random.default_rng(2), 50)
    assert parts.shape == whole.shape and abs(parts.mean() - whole.mean()) < 0.2


@pytest.mark.parametrize("most", [1, 3, 14])
def test_time_bins_run_in_order_and_are_few_enough(most):
    time = np.random.default_rng(17).uniform(0, 60, 80).round(1)
    bins = time_bins(time, most)
    order = np.argsort(time, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert set(bins) == set(range(min(most, len(np.unique(time)))))
    assert len({(t, b) for t, b in zip(time, bins, strict=True)}) == len(np.unique(time))


def test_a_density_is_one_in_sum_also_at_a_floor():
    draws = np.exp(np.random.default_rng(18).standard_normal(400) * 0.5)
    x = np.linspace(0, 12, 2401)
    assert np.trapezoid(density(draws, x, 0.0), x) == pytest.approx(1.0, abs=0.01)
    assert density(draws, np.array([-0.1]), 0.0)[0] == 0.0


# ------------------------------------------------------------------------------------------------------ as a stage


@pytest.fixture(scope="module")
def study() -> dict[str, pd.DataFrame]:
    """Eight patients at two dose levels, one below every LLOQ, and one more without a sample."""
    random = np.random.default_rng(21)
    rows = [
        {"patient_id": f"{i:02d}", "time_actual": t + 0.01 * i, "time_nominal": t, "level": np.exp(y), "lloq": 60.0}
        for i, own in enumerate(drawn(random, 8) + np.log(2.0) * (np.arange(8) % 2)[:, None])
        for t, y in zip(TIMES, own - 20.0 * (i == 7), strict=True)
    ]
    observed = pd.DataFrame(rows)
    below = observed["level"] < observed["lloq"]
    observed["status"] = np.where(below, "blq", "quantified")
    observed["level"] = observed["level"].mask(below)
    names = [f"{i:02d}" for i in range(9)]
    dose = [(2e9, 4e9)[i % 2] for i in range(9)]
    infusions = pd.DataFrame({"patient_id": names, "infusion": 1, "time": 0.0, "planned": dose, "given": dose})
    patients = pd.DataFrame({"patient_id": names, "dose_level": [("DL1", "DL2")[i % 2] for i in range(9)]})
    return {"observations": observed, "infusions": infusions, "patients": patients}


@pytest.fixture(scope="module")
def estimated(study):
    return analyse(**study, model="decay", settings=Population(method="saem", seeds=1))


def test_the_table_of_the_check_counts_every_row_once(estimated, study):
    rows = estimated.vpc
    assert set(rows["dose_level"]) == {"DL1", "DL2"} and set(rows["quantity"]) == {"p05", "p50", "p95", "blq"}
    blq = rows[rows["quantity"] == "blq"]
    observed = study["observations"]
    assert blq["n"].sum() == len(observed) and blq["n_blq"].sum() == (observed["status"] == "blq").sum()
    # Planned times make the bins, actual ones their place.
    assert sorted(set(blq["bin"])) == [1, 2, 3, 4]
    assert ((blq["time_from"] <= blq["time"]) & (blq["time"] <= blq["time_to"])).all()
    first = blq[(blq["bin"] == 1) & (blq["dose_level"] == "DL2")].iloc[0]
    assert (first["observed"], first["n"], first["n_blq"]) == (0.25, 4, 1)
    hidden = rows[(rows["quantity"] != "blq") & rows["observed"].isna()]
    assert len(hidden) and hidden["reason"].str.contains("observed").all()


def test_the_check_does_not_depend_on_the_order_of_rows(estimated, study):
    shuffled = study["observations"].sample(frac=1.0, random_state=3)
    other = analyse(
        shuffled,
        infusions=study["infusions"],
        patients=study["patients"],
        model="decay",
        settings=Population(method="saem", seeds=1),
    )
    pd.testing.assert_frame_equal(estimated.vpc, other.vpc)


def test_without_intervals_for_levels_below_the_lloq_there_is_no_check(study):
    done = analyse(**study, model="decay", settings=Population(method="saem", seeds=1), blq=Blq(models="M1"))
    assert not len(done.vpc) and len(done.points)


# ------------------------------------------------------------------------------------------------- tables and figures


@pytest.fixture(scope="module")
def results(results_small: Path) -> Results:
    return Results(results_small)


def chinese(context: Context) -> Context:
    report = context.settings.report.model_copy(update={"language": "zh"})
    return Context(context.settings.model_copy(update={"report": report}), context.version)


def changed(results_small: Path, folder: Path, schema, change) -> Results:
    """The hand-written study with one table changed."""
    shutil.copytree(results_small, folder)
    path = folder / f"{schema.name}.csv"
    write_table(complete(change(read_table(path, schema)), schema), path, schema)
    return Results(folder)


def test_population_parameters_stand_with_the_other_method_beside_them(results, context_small):
    made = tables.build("population_parameters", results, context_small)
    columns = list(made.frame.columns)
    assert columns.index("Bayes: estimate (95 % interval)") < columns.index("SAEM: estimate (95 % interval)")
    rows = made.frame.set_index("Parameter")
    source = results.table("population").set_index(["kind", "parameter", "method"])
    delta = rows.loc["delta (1/d): loss rate of the cells"]
    value = source.loc[("typical", "delta", "bayes"), "estimate"]
    assert delta["Bayes: estimate (95 % interval)"].startswith(f"{value:.3f} (")
    omega = rows.loc["ω scale"]
    w = source.loc[("omega", "scale", "bayes"), "estimate"]
    assert float(omega["Bayes: CV %"]) == pytest.approx(100 * np.sqrt(np.exp(w**2) - 1), abs=0.5)
    assert omega["Bayes: prior"] == "half-normal(1)" and " / " in omega["Bayes: Rhat / ESS"]
    assert "SAEM: at the boundary: no variability between patients is seen" in rows.loc["ω delta", "Remarks"]
    # What holds for a fit as a whole is said once, below.
    assert not made.frame["Remarks"].str.contains("do not determine every").any()
    assert any("With care, SAEM: the data do not determine every parameter" in note for note in made.footnotes)
    assert "5 patients with 21 rows, 7 of them below" in made.footnotes[0]


def test_structures_are_listed_by_method_with_the_choice_and_its_reason(results, context_small):
    made = tables.build("structure", results, context_small)
    assert list(made.frame["Method"].str.contains("(primary)", regex=False)) == [True, True, False, False]
    chosen = made.frame[made.frame["Chosen"] == "chosen"]
    assert [m.split(":")[0] for m in chosen["Model"]] == ["decay", "biexponential"]
    assert chosen["Why, remarks"].tolist() == ["chosen by leave-one-out", "chosen by BIC"]
    assert set(made.frame.loc[made.frame["To be trusted"] == "no", "Why, remarks"]) == {
        "chains not settled: Rhat up to 1.028 (limit 1.02), effective draws from 194 (limit 400)",
        "the data do not determine every parameter",
    }


def test_a_patient_without_data_keeps_his_row_among_the_individuals(results, context_small):
    none = "无数据：首次输注后无可纳入的样本 (样本清单中无该患者的样本)"
    told = {"剂量水平": none, "Dose level": "no sample of this patient"}
    for context, head in ((chinese(context_small), "剂量水平"), (context_small, "Dose level")):
        made = tables.build("population_individuals", results, context)
        assert list(made.patients) == [str(p) for p in results.patients["patient_id"]]
        row = made.frame.iloc[list(made.patients).index("002")]
        assert (row.iloc[2], row.iloc[3], row.iloc[4]) == ("0 (0)", "NC", "NC")
        assert told[head] in row.iloc[-1] and made.frame.columns[0] == head
    below = made.frame.iloc[list(made.patients).index("006")]
    assert below.iloc[2] == "4 (4)" and below.iloc[3] != "NC"


def test_a_population_that_could_not_be_estimated_says_why_everywhere(results_small, context_small, tmp_path):
    def failed(rows: pd.DataFrame) -> pd.DataFrame:
        numbers = ["estimate", "std_error", "rse_pct", "ci_lower", "ci_upper", "shrinkage_pct"]
        return rows.assign(reason="none of 4 samples is quantified", **dict.fromkeys(numbers, np.nan))

    broken = changed(results_small, tmp_path / "r", POPULATION, failed)
    made = tables.build("population_parameters", broken, context_small)
    cells = made.frame[[c for c in made.frame if c.endswith("interval)")]].to_numpy().ravel()
    assert set(cells) == {"NC"}
    assert any("none of 4 samples is quantified" in note for note in made.footnotes)
    for name in ("goodness_of_fit", "vpc", "convergence", "prior_posterior", "population_fits"):
        said = json.loads(figures.made(name, broken, context_small)[1])
        assert "none of 4 samples is quantified" in said["note"], name


def test_levels_below_the_lloq_have_their_own_shape_in_the_goodness_of_fit(results, context_small):
    with _style.style(context_small):
        drawn_figure = discover("figures")["goodness_of_fit"].draw(results, context_small).figure
    points = results.table("population_points")
    below = int(points["level"].isna().sum())
    for axes in drawn_figure.axes:
        count = {
            shape: sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == shape)
            for shape in ("v", "o", "s")
        }
        assert count["v"] == below and count["o"] + count["s"] == len(points) - below
    drawn_at = np.concatenate([line.get_ydata() for line in drawn_figure.axes[0].lines if line.get_marker() == "v"])
    assert sorted(drawn_at) == sorted(points.loc[points["level"].isna(), "upper"])


def test_the_check_has_a_panel_of_levels_and_one_of_shares_for_each_dose_level(results, context_small):
    with _style.style(context_small):
        made = discover("figures")["vpc"].draw(results, context_small)
    upper, lower = made.figure.axes[:2], made.figure.axes[2:]
    assert [a.get_title(loc="left") for a in upper] == ["DL1 (2×10⁹ cells), n = 1", "DL2 (4×10⁹ cells), n = 4"]
    rows = results.table("population_vpc")
    for axes, dose_level in zip(lower, ("DL1", "DL2"), strict=True):
        own = rows[(rows["dose_level"] == dose_level) & (rows["quantity"] == "blq")].sort_values("bin")
        (line,) = axes.lines
        assert list(line.get_ydata()) == list(own["observed"])
        assert axes.get_ylim()[0] < 0 and axes.get_ylim()[1] > 1
    total = rows["quantity"].value_counts()
    assert f"share below the LLOQ {total['blq']} of {total['blq']}" in made.alt


def test_a_check_that_fits_nowhere_counts_nothing_inside(results_small, context_small, tmp_path):
    def off(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(lower=1e6, median=2e6, upper=3e6, reason="")

    made = discover("figures")["vpc"].draw(changed(results_small, tmp_path / "r", POPULATION_VPC, off), context_small)
    assert "median 0 of" in made.alt and "share below the LLOQ 0 of" in made.alt


def test_saem_alone_has_no_prior_to_draw(results_small, context_small, tmp_path):
    def saem(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["method"] == "saem"].assign(primary=True)

    alone = changed(results_small, tmp_path / "r", POPULATION, saem)
    for name, word in (("prior_posterior", "maximum likelihood (SAEM) alone"), ("convergence", "No trace")):
        assert word in json.loads(figures.made(name, alone, context_small)[1])["note"]
    assert shown(alone).method == "saem"


def test_posteriors_near_their_priors_are_named(results, context_small):
    made = discover("figures")["prior_posterior"].draw(results, context_small)
    draws = results.table("population_draws")
    theta = draws.loc[draws["parameter"] == "theta_dose", "value"].std()
    assert f"theta_dose ({100 * theta / 2.0:.0f} %)" in made.alt
    assert "sigma (" not in made.alt


def test_individual_curves_of_patients_without_data_say_why(results, context_small):
    drawn_svg, said, _ = figures.made("population_fits", results, context_small)
    assert "002 · DL1" in drawn_svg and "no curve for 002" in json.loads(said)["alt"]


def test_a_point_of_an_unknown_patient_is_no_crash(results_small, context_small, tmp_path):
    def fewer(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["patient_id"] == "001"]

    one = changed(results_small, tmp_path / "r", POPULATION_POINTS, fewer)
    for name in ("goodness_of_fit", "vpc"):
        assert not json.loads(figures.made(name, one, context_small)[1])["note"]


# --------------------------------------------------------------------------------------------------- leading structure


def both_fitted(results_small: Path, folder: Path) -> Results:
    """Patients fitted with biexponential too, which the AICc of 001 prefers."""

    def more(rows: pd.DataFrame) -> pd.DataFrame:
        other = rows.assign(model="biexponential", selected=rows["patient_id"] == "001", default=False)
        return pd.concat([rows.assign(selected=rows["selected"] & (rows["patient_id"] != "001")), other])

    return changed(results_small, folder, FITS, more)


def test_the_choice_of_the_population_leads_and_a_patient_of_other_mind_is_named(
    results_small, context_small, tmp_path
):
    results = both_fitted(results_small, tmp_path / "r")
    context = Context(
        context_small.settings.model_copy(
            update={"models": context_small.settings.models.model_copy(update={"default": "biexponential"})}
        ),
        "0.1.0",
    )
    assert leading_model(results, context) == "decay" and by_population(results, context)
    assert led(results, context).settings.models.default == "decay"
    made = tables.build("model_parameters", results, context)
    assert (
        "chosen at population level: decay; this patient's AICc prefers biexponential"
        in (made.frame.loc[made.frame["Patient"] == "001", "Remarks"].iloc[0])
    )
    others = made.frame.loc[made.frame["Patient"] != "001", "Remarks"]
    assert not others.str.contains("population level").any()
    assert any("Chosen at population level: decay, against biexponential" in note for note in made.footnotes)
    fits = json.loads(figures.made("fits", results, context)[1])
    assert "Chosen at population level: decay" in " ".join(fits["footnotes"])
    assert "Loss" in fits["subtitle"] or "decay" in fits["subtitle"].lower()


def test_without_a_comparison_or_a_fit_of_the_choice_the_configuration_leads(results_small, context_small, tmp_path):
    def one(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["model"] == "decay"]

    def strange(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(model=rows["model"].replace("decay", "rejection"))

    default = context_small.settings.models.default
    for k, change in enumerate((one, strange)):
        results = changed(results_small, tmp_path / str(k), POPULATION_COMPARISON, change)
        assert leading_model(results, context_small) == default and not by_population(results, context_small)
    made = tables.build("structure", Results(tmp_path / "0"), context_small)
    assert "One model was estimated: nothing was compared" in made.footnotes[0]


def test_the_order_of_the_individuals_file_changes_nothing(results_small, results, context_small, tmp_path):
    other = changed(results_small, tmp_path / "r", INDIVIDUALS, lambda rows: rows.iloc[::-1])
    first = tables.build("population_individuals", results, context_small)
    second = tables.build("population_individuals", other, context_small)
    pd.testing.assert_frame_equal(first.frame, second.frame)
