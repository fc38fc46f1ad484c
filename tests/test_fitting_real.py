"""Fits of real time courses measured by qPCR: against other programs' individual estimates, and M3 against M1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nkinetics import fitting
from nkinetics.settings import Blq, Models

pytestmark = pytest.mark.shared
BIEXPONENTIAL = ("scale", "alpha", "fraction_slow", "beta")


# --------------------------------------------------------------------- leukaemia under treatment, falling in two phases


def in_two_phases(central, elimination, returning, leaving, dose=1001.0):
    """S, alpha, f, beta of a bolus into two compartments: Vc, Ke, Kpc (back from the second) and Kcp (into it)."""
    total = elimination + leaving + returning
    root = np.sqrt(total**2 - 4 * elimination * returning)
    fast, slow = (total + root) / 2, (total - root) / 2
    return pd.DataFrame(
        {"scale": dose / central, "alpha": fast, "fraction_slow": (returning - slow) / (fast - slow), "beta": slow}
    )


@pytest.fixture(scope="module")
def leukaemia(shared):
    """BCR-ABL of 21 patients: rows (times in months), our fits, and the individual estimates of two programs."""
    folder = shared / "kinetics" / "hahnel"
    whole = pd.read_csv(folder / "biExport.csv")
    whole = whole[whole["MDV"] == 0]
    rows = pd.DataFrame(
        {
            "patient_id": whole["ID"].astype(str).str.zfill(2),
            "time_actual": whole["TIME"].astype(float),
            "level": whole["DV"].astype(float),
            "status": "quantified",
            "lloq": 1e-6,
        }
    )
    projects = folder / "projs"
    monolix = pd.read_csv(projects / "MONK/RESULTSORIG/IndividualParameters/estimatedIndividualParameters.txt")
    nlmixr = pd.read_csv(projects / "MIXK/RESULTS/project_indiv.csv")
    others = {
        "Monolix": in_two_phases(*(monolix[f"{n}_mode"] for n in ("Vc", "Ke", "Kpc", "Kcp"))).set_index(
            monolix["id"].astype(str).str.zfill(2)
        ),
        "nlmixr": in_two_phases(*(nlmixr[n] for n in ("Vc", "Ke", "Kpc", "Kcp"))).set_index(
            nlmixr["ID"].astype(str).str.zfill(2)
        ),
    }
    return rows, fitting.analyse(rows, models=("biexponential",)), others


def columns(found, what):
    own = found.estimates[found.estimates["kind"] == "fitted"]
    return own.pivot(index="patient_id", columns="parameter", values=what)


def squares(rows, parameters):
    """Sum of squared residuals of ln level per patient."""
    own = parameters.loc[rows["patient_id"]]
    scale, alpha, slow, beta = (own[n].to_numpy(dtype=float) for n in BIEXPONENTIAL)
    time = rows["time_actual"].to_numpy()
    curve = np.log(scale * ((1 - slow) * np.exp(-alpha * time) + slow * np.exp(-beta * time)))
    return ((np.log(rows["level"].to_numpy()) - curve) ** 2).reshape(-1), rows["patient_id"].to_numpy()


def test_no_other_programs_curve_lies_nearer_to_any_of_21_patients(leukaemia):
    """On ln the fit is least squares: median RMS residual 0.77, Monolix 0.86, nlmixr 0.84 (drawn to the population)."""
    rows, found, others = leukaemia
    assert found.fits["converged"].all() and len(found.fits) == 21
    mine = pd.Series(*squares(rows, columns(found, "estimate"))).groupby(level=0).sum()
    for name, parameters in others.items():
        theirs = pd.Series(*squares(rows, parameters)).groupby(level=0).sum()
        assert (mine <= theirs + 1e-9).all(), name
        # And their curves are those of these parameters: the fits would be far off if Kpc and Kcp were exchanged.
        assert np.sqrt(theirs / rows.groupby("patient_id").size()).median() < 0.95, name


def test_individual_estimates_of_monolix_and_nlmixr_lie_in_the_profile_intervals(leukaemia):
    """17 to 19 of 21 patients for each parameter and program.

    Those are empirical Bayes estimates under a proportional error: drawn to the population where a patient's data are
    few, and ruled by the early high levels. The intervals of single patients have to allow for that, and do.
    """
    _, found, others = leukaemia
    low, high = columns(found, "ci_lower").fillna(0.0), columns(found, "ci_upper").fillna(np.inf)
    for name, parameters in others.items():
        for parameter in BIEXPONENTIAL:
            theirs = parameters[parameter]
            inside = (low[parameter] <= theirs) & (theirs <= high[parameter])
            assert inside.sum() >= 16, (name, parameter)


def test_rates_that_the_data_determine_agree_with_monolix_within_the_programs_own_spread(leukaemia):
    """Median factor to Monolix 1.20 (alpha, 19 patients) and 1.14 (beta, 7), to nlmixr 1.34 and 1.72.

    Monolix and nlmixr differ from one another by a median factor of 1.12 in alpha and 1.37 in beta. The slow rates
    follow the same order of patients (correlation of their logarithms 0.96 and 0.86); the fast ones hardly differ
    between patients, the first sample being three months after the start in most of them.
    """
    _, found, others = leukaemia
    estimate, error = columns(found, "estimate"), columns(found, "std_error")
    known = error / estimate < 0.3
    assert known["alpha"].sum() == 19 and known["beta"].sum() == 7
    for name, factor in (("Monolix", 1.36), ("nlmixr", 1.8)):
        for parameter in ("alpha", "beta"):
            own = known[parameter]
            off = np.log(estimate.loc[own, parameter] / others[name].loc[own, parameter]).abs()
            assert np.exp(off.median()) < factor, (name, parameter)
    own = known["beta"]
    for parameters in others.values():
        both = np.log([estimate.loc[own, "beta"].to_numpy(dtype=float), parameters.loc[own, "beta"].to_numpy()])
        assert np.corrcoef(both)[0, 1] > 0.8


# -------------------------------------------------------------------------------------------------- M3 against M1


def test_without_the_samples_below_the_limit_a_virus_seems_to_last_longer(shared):
    """Ct of 106 people from their peak on, 40 % of samples not detected (Ct 40): decay, half-life of the level.

    Median half-life 0.64 d under M1, 0.55 d under M3; longer under M1 in 89 % of people.
    """
    whole = pd.read_csv(shared / "kinetics" / "ct_trajectories" / "ct_dat_refined.csv")
    frames = []
    for person, own in whole.groupby("PersonID"):
        since = own["TestDateIndex"] - own.loc[own["CtT1"].idxmin(), "TestDateIndex"]
        falling = own[(since >= 0) & (since <= 15)].assign(time_actual=since + 1.0)
        seen = falling["CtT1"] < 40
        if seen.sum() >= 3 and (~seen).any():
            frames.append(
                pd.DataFrame(
                    {
                        "patient_id": f"{person:04d}",
                        "time_actual": falling["time_actual"],
                        "level": np.where(seen, 10 ** ((40 - falling["CtT1"]) / 3.32), np.nan),
                        "status": np.where(seen, "quantified", "not_detected"),
                        "lloq": 1.0,
                    }
                )
            )
    rows = pd.concat(frames, ignore_index=True)
    found = {m: fitting.analyse(rows, models=("decay",), blq=Blq(models=m)) for m in ("M1", "M3")}
    half_life = {
        m: f.estimates[f.estimates["parameter"] == "half_life_delta"].set_index("patient_id")["estimate"]
        for m, f in found.items()
    }
    assert len(half_life["M3"]) == len(half_life["M1"]) == 106
    fits = found["M3"].fits
    assert fits["converged"].all() and fits["n_blq"].sum() / fits["n_obs"].sum() == pytest.approx(0.40, abs=0.01)
    assert half_life["M1"].median() == pytest.approx(0.643, abs=0.005)
    assert half_life["M3"].median() == pytest.approx(0.547, abs=0.005)
    assert (half_life["M1"] > half_life["M3"]).mean() > 0.85


def test_without_the_samples_below_the_limit_a_rebound_was_there_from_the_start(shared):
    """HIV-1 RNA after treatment stops (Vaida and Liu's yardstick): growth to a plateau, 14 of 72 with censored samples.

    Under M3 seven patients are fitted, under M1 four: the samples that show the rise are gone. At the censored samples
    of these four M1's curve lies 30 to 10^13 times above what the assay could have seen.
    """
    whole = pd.read_csv(shared / "kinetics" / "uti" / "UTIdata.csv")
    whole = whole[whole["RNA"].notna()]
    censored = whole["RNAcens"] == 1
    day = whole["Days.after.TI"]
    rows = pd.DataFrame(
        {
            "patient_id": whole["Patid"],
            # The clock starts a day before a patient's first sample: the suppressed level is where the rise begins.
            "time_actual": (day - day.groupby(whole["Patid"]).transform("min") + 1).astype(float),
            "level": whole["RNA"].where(whole["RNAcens"] == 0).astype(float),
            "level_unit": "copies/mL",
            "status": whole["RNAcens"].map({0: "quantified", 1: "blq", 2: "above_uloq"}),
            "lloq": whole["RNA"].where(censored, 50).astype(float),
            "uloq": 750000.0,
        }
    )
    rows = rows[rows["patient_id"].isin(whole.loc[censored, "Patid"])]
    settings = Models(candidates=("logistic",), logistic={"growth_days": 365.0})
    above = {}
    for method in ("M1", "M3"):
        found = fitting.analyse(rows, settings=settings, blq=Blq(models=method))
        assert len(found.fits) == 14
        for patient, curve in found.predictions.groupby("patient_id"):
            own = rows[(rows["patient_id"] == patient) & (rows["status"] == "blq")]
            level = np.interp(own["time_actual"], curve["time"], np.log(curve["level"]))
            above[method, patient] = level - np.log(own["lloq"].to_numpy())
    m1 = {p for method, p in above if method == "M1"}
    assert m1 < {p for method, p in above if method == "M3"} and len(m1) == 4 and len(above) == 11
    for patient in m1:
        assert (above["M1", patient] > np.log(30)).all()
        assert (above["M3", patient] < above["M1", patient] - np.log(5)).all()
