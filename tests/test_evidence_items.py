"""Tables, listing and figure of the evidence for models: their cells by hand, and a study of many patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import figures, tables
from nkinetics.columns import ESTIMATES, FITS, LIKELIHOOD_PROFILES, OBSERVATIONS, PATIENTS
from nkinetics.figures._style import style
from nkinetics.figures.profile_likelihood import FIGURE, MOST, shown
from nkinetics.results import Context, Results
from nkinetics.store import complete, write_table
from nkinetics.tables.model_fits import EVERY_MODEL_UP_TO


@pytest.fixture(scope="module")
def results(results_small: Path) -> Results:
    return Results(results_small)


@pytest.fixture(scope="module")
def rows(results, context_small):
    """Rows of a table of one patient."""

    def of(name: str, patient: str) -> pd.DataFrame:
        frame = tables.build(name, results, context_small).frame
        return frame[
            (frame["Patient"] == patient)
            & (frame.iloc[:, 0].str.contains("qPCR") | (frame.iloc[:, 1] == "qPCR, blood"))
        ]

    return of


def test_the_evidence_gives_counts_weight_and_what_is_identifiable(rows):
    one = rows("model_evidence", "003").iloc[0]
    assert one["Model"] == "decay" and (one["n"], one["BLQ (%)"]) == ("5", "2 (40)")
    assert (one["ln L"], one["AICc"], one["Weight"]) == ("-5.00", "NC", "0.90")
    assert one["Identifiable parameters"] == "scale, sigma; not: delta"
    assert one["Role"] == "shown, lowest AICc" and one["Remarks"] == "AICc undefined: too few samples"
    assert one["Converged"] == "yes"
    never = rows("model_evidence", "006").iloc[0]
    assert (never["n"], never["BLQ (%)"], never["Converged"], never["ln L"]) == ("4", "4 (100)", "–", "NC")
    assert never["Remarks"] == "no quantified level"


def test_the_averages_print_value_and_interval_or_the_reason(rows):
    one = rows("model_averages", "001").iloc[0]
    assert one["Cmax of the curve"] == "450 (270 to 765)" and one["Tmax of the curve (d)"] == "0.00 (0.00 to 0.00)"
    assert one["Time below LLOQ (d)"] == "14.20", "no interval without a standard error"
    assert one["Leading model (weight)"] == "decay (0.90) + 1"
    assert one["Remarks"].startswith("time below LLOQ: no standard error")
    none = rows("model_averages", "003").iloc[0]
    assert none["Cmax of the curve"] == "NC" and none["Remarks"] == "no model to average: decay: AICc not defined"


def test_the_rates_stand_at_both_ends_of_the_range_and_at_the_fixed_value(rows):
    one = rows("constant_sensitivity", "001").iloc[0]
    assert one["Model, constant"] == "cytokine_window, width 0.5 to 3 d (fixed at 1.5)"
    assert one["delta (1/d): low | fixed | high"] == "0.205 | 0.215 | 0.230"
    assert one["rho (1/d): low | fixed | high"] == "1.00 | 0.333 | 0.167"
    assert one["ΔAICc at the ends"] == "+1.2 | -2.5" and one["Lowest AICc at (ΔAICc)"] == "3 (-2.5)"
    lost = rows("constant_sensitivity", "003").iloc[0]
    assert lost["rho (1/d): low | fixed | high"] == "0.600 | 0.200 | NC" and lost["ΔAICc at the ends"] == "+1.2 | NC"
    assert lost["Lowest AICc at (ΔAICc)"] == "1.5 (0.0)" and lost["Remarks"].startswith("3: not converged")


def test_the_listing_gives_start_limits_interval_and_method_of_every_parameter(rows):
    own = rows("model_fits", "001").set_index("Parameter")
    assert list(own.index) == ["scale (copies/µg)", "delta (1/d)", "sigma"]
    delta = own.loc["delta (1/d)"]
    assert (delta["Start"], delta["Search limits"], delta["Estimate"]) == ("0.150", "0.000100 – 10.0", "0.200")
    assert (delta["At bound"], delta["Interval"], delta["Method"]) == ("no", "0.120 to 0.320", "profile likelihood")
    assert own["AICc"].tolist() == ["14.00", "", ""] and own["Starts that agree"].tolist() == ["9 / 9", "", ""]
    none = rows("model_fits", "002").iloc[0]
    assert none["Estimate"] == "NC" and none["Remarks"] == "no sample of this patient in the manifest"


@pytest.fixture(scope="module")
def many(results_small: Path, tmp_path_factory) -> Results:
    """A study of 70 patients with two models each; only the last five have an open interval."""
    folder = tmp_path_factory.mktemp("many")
    for path in results_small.rglob("*.csv"):
        target = folder / path.relative_to(results_small)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    small, ids = Results(results_small), [f"P{i:03d}" for i in range(70)]

    def again(name: str, patient: str = "001") -> pd.DataFrame:
        frame = small.table(name)
        own = frame[frame["patient_id"] == patient]
        return pd.concat([own.assign(patient_id=p) for p in ids], ignore_index=True)

    write_table(again("patients"), folder / "study" / "patients.csv", PATIENTS)
    observed = again("observations")
    observed["observation_id"] = [f"o{i:05d}" for i in range(len(observed))]
    write_table(observed, folder / "observations.csv", OBSERVATIONS)
    fits, estimates = again("fits"), again("estimates")
    other = {"model": "biexponential", "default": False, "selected": False}
    loose = estimates["patient_id"].isin(ids[-5:]) & (estimates["parameter"] == "delta")
    estimates = estimates.assign(identifiable=estimates["identifiable"] & ~loose)
    estimates.loc[loose, "ci_open"] = "upper"
    write_table(complete(pd.concat([fits, fits.assign(**other)]), FITS), folder / "fits.csv", FITS)
    write_table(
        complete(pd.concat([estimates, estimates.assign(model="biexponential")]), ESTIMATES),
        folder / "estimates.csv",
        ESTIMATES,
    )
    write_table(
        complete(again("likelihood_profiles"), LIKELIHOOD_PROFILES),
        folder / "likelihood_profiles.csv",
        LIKELIHOOD_PROFILES,
    )
    return Results(folder)


def test_of_many_patients_the_figure_shows_those_that_need_a_look_first_and_says_so(many, context_small):
    names = [f"P{i:03d}" for i in range(70)]
    with style(context_small):
        body = FIGURE.draw(many, context_small)
    assert body.figure is not None
    texts = {t.get_text() for axes in body.figure.axes for t in axes.texts}
    drawn = [n for n in names if n in texts]
    assert drawn == [*names[: MOST - 5], *names[-5:]]
    assert any(f"more than {MOST} patients" in note for note in body.footnotes)
    assert sum(t.get_text() == "open above" for axes in body.figure.axes for t in axes.texts) == 5
    assert body.figure.get_figheight() < 12


def test_of_many_patients_the_listing_holds_the_model_shown_and_the_one_of_lowest_aicc(many, context_small):
    assert len(many.patients) > EVERY_MODEL_UP_TO
    made = tables.build("model_fits", many, context_small)
    own = made.frame[made.frame["Patient"] == "P000"]
    assert set(own["Model"]) - {"–"} == {"decay"}
    assert any("fits.csv and estimates.csv hold all candidates" in note for note in made.footnotes)
    assert set(made.patients) == set(many.patients["patient_id"])


def test_the_panels_stand_where_the_curve_meets_the_cutoff(results, context_small):
    with style(context_small):
        body = FIGURE.draw(results, context_small)
    axes = next(a for a in body.figure.axes if any(t.get_text() == "delta (1/d)" for t in a.texts))
    curve = next(line for line in axes.lines if len(line.get_xdata()) == 9)
    x, y = (np.asarray(v, dtype=float) for v in curve.get_data())
    assert y[x == 0.2] == 0 and axes.get_ylim()[0] == 0
    ends = next(line for line in axes.lines if line.get_marker() == "|")
    assert np.asarray(ends.get_xdata(), dtype=float).tolist() == [0.12, 0.32]
    assert np.interp(0.12, x, y) == pytest.approx(1, rel=0.02)
    words = [t.get_text() for a in body.figure.axes for t in a.texts]
    assert words.count("open above") == 1 and "identifiable" in words


def test_the_band_is_named_by_the_configured_confidence(results, context_small):
    models = context_small.settings.models.model_copy(update={"confidence": 0.9})
    context = Context(context_small.settings.model_copy(update={"models": models}), "0.1.0")
    drawn, _, _ = figures.made("fits", results, context)
    assert "90 % band" in drawn and "95 % band" not in drawn


def test_patients_up_to_the_limit_are_all_shown():
    few = pd.DataFrame({"patient_id": ["01", "02"], "identifiable": [False, True]})
    assert shown(["01", "02"], few) == ["01", "02"]
