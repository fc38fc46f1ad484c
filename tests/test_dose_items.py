"""Tables and figures of dose levels: their numbers, and what they say of studies that carry little."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import cli, columns, figures, nca, tables
from nkinetics.columns import EVENTS, INFUSIONS, NCA, OBSERVATIONS, PATIENTS, Column, Schema
from nkinetics.plugins import discover
from nkinetics.results import Context, Results
from nkinetics.settings import Settings
from nkinetics.store import complete, write_table

TABLES = (
    "per_infusion",
    "per_infusion_individual",
    "dose_normalised",
    "dose_proportionality",
    "exposure_events",
    "response",
    "assay_agreement",
    "sample_disposition",
    "levels_by_patient",
    "levels_individual",
    "dosing_individual",
    "deviations",
)
FIGURES = (
    "dose_proportionality",
    "dose_normalised",
    "crs_grade",
    "assay_agreement",
    "typical_level",
    "exposure_by_dose",
    "swimmer",
    "blood_counts",
)
PLANNED = {"DL1": 2e9, "DL2": 4e9}


def folder_of(
    tmp_path: Path, patients: dict[str, str], below: tuple[str, ...] = (), without: tuple[str, ...] = (), seed: int = 1
) -> Path:
    """Results of a study with two infusions, qPCR and flow; some patients never quantified, some without any sample."""
    rng = np.random.default_rng(seed)
    rows, given, events = [], [], []
    for patient, dose_level in patients.items():
        peak = PLANNED[dose_level] / 2e9 * 1000 * np.exp(0.6 * rng.standard_normal())
        for infusion, start in ((1, 0.0), (2, 4.0)):
            given.append((patient, infusion, start, PLANNED[dose_level], PLANNED[dose_level] * 0.98))
        if peak > 2500:
            events.append((patient, "crs", 1, 2.0))
        if patient in without:
            continue
        for time in (0.5, 1, 2, 3.95, 5, 8, 15, 27):
            for assay, unit, factor in (("qpcr", "copies/ug", 1.0), ("flow", "cells/uL", 0.01)):
                level = peak * factor * np.exp(-0.1 * time + 0.15 * rng.standard_normal())
                quantified = patient not in below
                rows.append(
                    {
                        "patient_id": patient,
                        "dose_level": dose_level,
                        "assay": assay,
                        "specimen": "blood",
                        "sample_id": f"{patient}-{time}",
                        "observation_id": f"{patient}-{assay}-{time}",
                        "time_actual": time,
                        "time_nominal": round(time),
                        "infusion": 1 if time < 4 else 2,
                        "level": level if quantified else np.nan,
                        "level_unit": unit,
                        "lloq": 10 * factor,
                        "lod": 3 * factor,
                        "status": "quantified" if quantified else "not_detected",
                        "reportable": True,
                        "predose": time == 3.95,
                    }
                )
    observations = complete(pd.DataFrame(rows), OBSERVATIONS)
    infusions = complete(
        pd.DataFrame(given, columns=["patient_id", "infusion", "time", "planned", "given"]).assign(unit="cells"),
        INFUSIONS,
    )
    listed = complete(
        pd.DataFrame({"patient_id": list(patients), "dose_level": list(patients.values())}).assign(
            best_response=[("PD", "SD", "PR")[i % 3] for i in range(len(patients))],
            dll3_high=[i % 2 == 0 for i in range(len(patients))],
        ),
        PATIENTS,
    )
    happened = complete(pd.DataFrame(events, columns=["patient_id", "event", "grade", "time"]), EVENTS)
    made = nca.analyse(observations, infusions, patients=listed)
    for frame, name, schema in (
        (observations, "observations", OBSERVATIONS),
        (made, "nca", NCA),
        (infusions, "study/infusions", INFUSIONS),
        (listed, "study/patients", PATIENTS),
        (happened, "study/events", EVENTS),
    ):
        write_table(frame, tmp_path / f"{name}.csv", schema)
    arguments = [f"--{n}={tmp_path / n}.csv" for n in ("nca", "observations")]
    arguments += [f"--{n}={tmp_path / 'study' / n}.csv" for n in ("patients", "infusions", "events")]
    assert cli.main(["statistics", *arguments, "--output-dir", str(tmp_path)]) == 0
    return tmp_path


NINE = {f"{i + 1:03d}": "DL1" if i < 3 else "DL2" for i in range(9)}
STUDIES = {
    "one patient": ({"001": "DL1"}, (), ()),
    "two patients": ({"001": "DL1", "002": "DL2"}, (), ()),
    "three patients": ({"001": "DL1", "002": "DL2", "003": "DL2"}, (), ()),
    "one dose level": (dict.fromkeys(("001", "002", "003", "004"), "DL1"), (), ()),
    "a level below the LLOQ": (NINE, ("001", "002", "003"), ()),
    "nobody quantified": (NINE, tuple(NINE), ()),
    "a patient without data": (NINE, (), ("002",)),
    "many patients": ({f"{i:03d}": "DL1" if i % 2 else "DL2" for i in range(80)}, ("010",), ("011",)),
}
CONTEXT = Context(Settings(), "0.1.0")


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Results]:
    patients, below, without = STUDIES[request.param]
    where = folder_of(tmp_path_factory.mktemp("study"), patients, below, without)
    return request.param, Results(where)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_stands_or_says_why_whatever_the_study(name: str, study: tuple[str, Results]) -> None:
    made = tables.build(name, study[1], CONTEXT)
    cells = [str(c) for c in made.frame.to_numpy().ravel()]
    assert cells or made.note
    assert not re.search(r"\b(nan|NaN|None|inf)\b|<NA>", " ".join([*cells, *made.footnotes, made.note]))
    if name == "per_infusion_individual":
        assert set(made.patients) == set(study[1].patients["patient_id"])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_stands_or_says_why_whatever_the_study(name: str, study: tuple[str, Results]) -> None:
    svg, said, _ = figures.made(name, study[1], CONTEXT)
    words = json.loads(said)
    assert words["alt"] or words["note"]
    assert not re.search(r"\bnan\b|<NA>", " ".join([words["alt"], words["note"], *words["footnotes"]]))
    assert len(svg) < 400_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    cache: dict[str, Results] = {}

    def get(which: str) -> Results:
        if which not in cache:
            cache[which] = Results(folder_of(tmp_path_factory.mktemp("built"), *STUDIES[which]))
        return cache[which]

    return get


def test_the_table_of_dose_proportionality_never_calls_nine_patients_proportional(built) -> None:
    frame = tables.build("dose_proportionality", built("a patient without data"), CONTEXT).frame
    verdicts = frame["Verdict"]
    assert verdicts.str.startswith("inconclusive").sum() > 5 and not verdicts.str.startswith("dose prop").any()
    assert frame["Remarks"].str.contains("no value: 002").any()


def test_a_level_below_the_lloq_leaves_no_slope_and_the_figure_says_so(built) -> None:
    results = built("a level below the LLOQ")
    frame = tables.build("dose_proportionality", results, CONTEXT).frame
    slopes = frame[frame["Analysis"].str.startswith("Slope")]
    assert set(slopes["Estimate"]) == {"NC"}
    assert slopes["Remarks"].str.contains("none in DL1").all() and (slopes["Below LLOQ / no value"] == "3 / 0").all()
    _, said, _ = figures.made("dose_proportionality", results, CONTEXT)
    assert "none in DL1" in json.loads(said)["alt"]


def test_the_dose_normalised_mean_is_that_of_the_parameter_over_the_amount(built) -> None:
    results = built("a patient without data")
    frame = tables.build("dose_normalised", results, CONTEXT).frame
    row = frame[frame["Parameter"].str.startswith("Cmax") & (frame["Dose level"] == "DL2")].iloc[0]
    assert row["Parameter"] == "Cmax (copies/µg per 1e9 cells)" and row["n of treated"] == "6/6"
    table = results.table("nca")
    own = table[(table["window"] == "overall") & (table["parameter"] == "cmax") & (table["assay"] == "qpcr")]
    values = own.loc[own["dose_level"] == "DL2", "value"] / (2 * 0.98 * 4)
    assert float(row["Geometric mean"]) == pytest.approx(np.exp(np.log(values).mean()), rel=5e-3)
    without = frame[(frame["Parameter"].str.startswith("Cmax")) & (frame["Dose level"] == "DL1")].iloc[0]
    assert without["n of treated"] == "2/3" and "(002)" in without["Individual values, reasons"]


def test_an_infusion_interval_shows_what_it_can_have(built) -> None:
    frame = tables.build("per_infusion", built("a patient without data"), CONTEXT).frame
    first, second = (frame[(frame["Infusion"] == k) & (frame["Dose level"] == "DL2")].iloc[0] for k in ("1", "2"))
    assert first["Accumulation of Cmax"] == "–" and "n = 6" in second["Accumulation of Cmax"]
    assert "n = 6" in first["Level before the next infusion"] and second["Level before the next infusion"] == "–"
    assert first["Median amount"] == "3.92×10⁹"


def test_events_stand_with_exact_bounds_and_the_label_exploratory(built) -> None:
    made = tables.build("exposure_events", built("a patient without data"), CONTEXT)
    head = "Patients with the event, n of treated (exact CI)"
    icans = made.frame[made.frame["Factor"].str.startswith("ICANS")].iloc[0]
    assert "all 0/9 (≤ 28 %)" in icans[head]
    assert any(note.startswith("Exploratory") for note in made.footnotes)
    tocilizumab = made.frame[made.frame["Factor"] == "Tocilizumab"].iloc[0]
    assert "given because of expansion" in tocilizumab["Rank test (exploratory)"]
    for name in ("exposure_events", "response"):
        assert "exploratory" in discover("tables")[name].title["en"]
    assert "exploratory" in discover("figures")["crs_grade"].title["en"]


def test_few_patients_are_a_list_and_no_plot(built) -> None:
    _, said, _ = figures.made("crs_grade", built("three patients"), CONTEXT)
    words = json.loads(said)
    assert words["note"].startswith("3 patients") and "001:" in words["note"]


def test_assays_of_different_units_have_a_line_and_no_ratio(built) -> None:
    frame = tables.build("assay_agreement", built("a patient without data"), CONTEXT).frame
    value = frame.set_index("Statistic")["Value"]
    # Flow is a hundredth of the copies here.
    assert float(value["Deming slope, log10"]) == pytest.approx(1, abs=0.2)
    assert value["Geometric mean of y/x"] == "NC" and "Lower limit of agreement of y/x" not in value.index


def test_the_slope_of_a_population_model_stands_beside_the_others(built, monkeypatch, tmp_path) -> None:
    texts = ("assay", "specimen", "model", "method", "kind", "parameter")
    schema = Schema(
        "population",
        "one row per parameter",
        texts,
        (
            *(Column(t, "text", t) for t in texts),
            *(Column(n, "float", n) for n in ("estimate", "ci_lower", "ci_upper")),
        ),
    )
    monkeypatch.setitem(columns.STAGE_TABLES, "population", schema)
    where = folder_of(tmp_path, NINE)
    row = ("qpcr", "blood", "decay", "bayes", "covariate", "theta_dose", 0.9, -0.2, 2.1)
    frame = pd.DataFrame([row], columns=schema.names)
    write_table(frame, where / "population.csv", schema)
    made = tables.build("dose_proportionality", Results(where), CONTEXT)
    shown = made.frame[made.frame["Parameter"] == "Population model decay"].iloc[0]
    assert (shown["Estimate"], shown["90 % CI"], shown["Analysis"]) == ("0.900", "−0.200 to 2.10", "Slope θ, bayes")
    assert "population.csv" in made.footnotes[-1]
