"""What several items say of one thing: the same words everywhere, computed from the run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import findings, ingest, report, tables
from nkinetics.plugins import Heading, discover, headings
from nkinetics.qualification.control import Control, all_close, carried_out, table
from nkinetics.report import html
from nkinetics.report.patients import _curves_note, _wells, sections
from nkinetics.report.trust import Trust
from nkinetics.results import STUDY_TABLES, Context, Results
from nkinetics.settings import as_json, load, section
from nkinetics.store import SCHEMAS, read_table, write_table
from nkinetics.tables import deviations
from nkinetics.tables._fates import counts, fate_of_run, unseen_after_tlast
from nkinetics.tables._visits import when_taken
from nkinetics.tables.model_parameters import undetermined
from nkinetics.wording import Words, number_of

EN, ZH = Words("en"), Words("zh")
Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def edited(results_small: Path, tmp_path: Path) -> Callable[..., Results]:
    """The small study with some of its tables changed."""

    def make(**edits: Edit) -> Results:
        shutil.copytree(results_small, tmp_path / "r")
        for name, edit in edits.items():
            schema = STUDY_TABLES.get(name) or SCHEMAS[name]
            path = tmp_path / "r" / ("study" if name in STUDY_TABLES else "") / f"{name}.csv"
            write_table(edit(read_table(path, schema).copy()), path, schema)
        return Results(tmp_path / "r")

    return make


@pytest.fixture(scope="module")
def results(results_small: Path) -> Results:
    return Results(results_small)


def in_chinese(context: Context) -> Context:
    report = context.settings.report.model_copy(update={"language": "zh"})
    return Context(context.settings.model_copy(update={"report": report}), context.version)


# ---------------------------------------------------------------------------------------------------------- persistence


def test_persistence_is_one_number_on_the_first_screen_in_the_brief_and_in_its_table(results, context_small):
    frame = tables.build("persistence", results, context_small).frame
    row = frame[frame["Assay"].str.startswith("qPCR") & (frame["Loss below"] == "LLOQ")].set_index("Dose level")
    median = row.loc["DL2", "Median, days (95 % CI)"]
    assert median == "13.90 (0.00 to open)"
    top = tables.build("topline", results, context_small).frame.set_index("Parameter")
    (line,) = [name for name in top.index if name.startswith("Persistence")]
    assert list(top.loc[line]) == ["NR; n = 1", f"{median}; 2 of 4 lost"]
    _, answers = html.answers(results, context_small, html.strings("en"))
    assert "median 13.90 days (95 % CI 0.00 to open), 2 of 4 lost" in answers[1]
    note = findings.persistence_note(results, context_small)
    assert "(qPCR, blood: DL2 13.90 d)" in note and "Turnbull" in note and "Tlast" in note
    assert note in tables.build("topline", results, context_small).footnotes
    assert note in tables.build("persistence", results, context_small).footnotes


# ------------------------------------------------------------------------------------------------------------------ CRS


def test_each_patient_with_crs_has_the_order_of_peak_and_onset(results, context_small):
    assert findings.crs_order(results) == {"001": (1.02, 2.5), "005": (1.02, 8.5)}
    note = findings.crs_note(results, context_small)
    assert "001: Cmax (day 1.02) reached 1.48 d before the onset of CRS (day 2.50)" in note
    assert "005: Cmax (day 1.02) reached 7.48 d before the onset of CRS (day 8.50)" in note
    assert "In all 2 the peak came no later than the onset: the order allows a cause and does not show one." in note
    for name in ("safety", "exposure_events"):
        assert note in tables.build(name, results, context_small).footnotes


def test_a_peak_after_the_onset_is_no_cause_and_the_first_crs_counts(edited, context_small):
    def earlier(events: pd.DataFrame) -> pd.DataFrame:
        second = events[events["event"] == "crs"].head(1).assign(patient_id="005", time=0.5, grade=1)
        return pd.concat([events, second], ignore_index=True)

    results = edited(events=earlier)
    note = findings.crs_note(results, context_small)
    assert "005: Cmax (day 1.02) reached 0.52 d after the onset of CRS (day 0.50)" in note
    assert "In 1 of 2 the peak came after the onset: Cmax cannot explain it there, what rose before it may" in note
    assert "之后 0.52 天" in findings.crs_note(results, in_chinese(context_small))


def test_crs_without_a_day_or_without_a_level_says_so_and_nobody_with_crs_says_nothing(edited, context_small):
    assert findings.crs_sentence(EN, 3.0, float("nan")) == "day of the onset of CRS not recorded"
    assert findings.crs_sentence(EN, float("nan"), 2.0) == "CRS from day 2.00 without a quantified level"
    assert findings.crs_sentence(EN, 2.0, 2.0) == "Cmax reached at the onset of CRS (day 2.00)"
    assert findings.crs_note(edited(events=lambda e: e[e["event"] != "crs"]), context_small) == ""


# -------------------------------------------------------------------------------------------------- counts and fates


def refused(observed: pd.DataFrame) -> pd.DataFrame:
    """Run plate_3 with two samples: the superseded result of 005-D2, and 004-D2 without any other result."""
    mine = observed["assay"] == "qpcr"
    again = mine & (observed["sample_id"] == "005-D2") & ~observed["reportable"].fillna(False).astype(bool)
    alone = mine & (observed["sample_id"] == "004-D2")
    assert again.sum() == 1 and alone.sum() == 1
    why = "run not accepted: slope -3.92 outside -3.6 to -3.1; NTC amplified"
    observed.loc[again | alone, "run_id"] = "plate_3"
    observed.loc[alone, ["status", "level", "reportable"]] = ["failed", np.nan, False]
    observed.loc[again, "exclusion_reason"] = f"{why}; re-assayed on run plate_2, which is reported"
    observed.loc[alone, "exclusion_reason"] = why
    other = mine & (observed["sample_id"] == "005-D2") & ~again
    observed.loc[other, "run_id"] = "plate_2"
    return observed


def test_fate_of_a_refused_run_stands_at_the_run_and_on_the_first_screen(edited, context_small):
    results = edited(observations=refused)
    fate = "2 samples: 1 assayed again on run plate_2 and analysed; 1 without an analysed result (004-D2)"
    assert fate_of_run(results, EN, "plate_3", "qpcr") == fate
    assert "（004-D2）" in fate_of_run(results, ZH, "plate_3", "qpcr")
    made = tables.build("runs", results, context_small)
    assert made.subtitle == "3 runs, 1 refused; one row per run and target"
    frame = made.frame.set_index("Run")["Fate of the samples"]
    assert (frame["plate_3"], frame["plate_1"]) == (fate, "–")
    (flag,) = [t for t, _ in html.flags(results, context_small, html.strings("en")) if "refused" in t]
    assert fate in flag


def test_results_of_a_refused_run_stand_under_one_row_of_the_run(edited, context_small):
    made = tables.build("excluded", edited(observations=refused), context_small)
    mine = made.frame[made.frame["Group"] == "Run plate_3, not accepted"]
    assert list(mine["Sample"]) == ["2 results", "004-D2", "005-D2"]
    assert mine["Reason"].iloc[0].startswith("slope -3.92 outside -3.6 to -3.1; NTC amplified. 2 samples: ")
    # The reason of the run is not said again for each of its samples.
    assert list(mine["Reason"].iloc[1:]) == [
        "no other result is analysed",
        "re-assayed on run plate_2, which is reported",
    ]
    assert [made.patients[i] for i in mine.index] == ["", "004", "005"]


def test_rows_results_and_samples_are_bridged_by_numbers_that_add_up(edited, context_small):
    results = edited(observations=refused)
    n, rows = counts(results, EN), results.table("ingest")
    observed = results.table("observations")
    observed = observed[observed["sample_id"] != ""]
    assert (n.results, n.samples) == (len(observed), observed["sample_id"].nunique())
    out = observed[~observed["reportable"].fillna(False).astype(bool)]
    assert (n.results_out, n.samples_out, n.without) == (len(out), out["sample_id"].nunique(), 1)
    (said,) = [f for f in tables.build("excluded", results, context_small).footnotes if f.startswith("How the counts")]
    numbers = [int(x) for x in re.findall(r"\b\d+\b", said)]
    aside = len(rows) - int(rows["used"].sum())
    assert numbers == [len(rows), aside, len(rows) - aside, n.results, n.samples, n.results_out, n.samples_out, 1]
    # One word per meaning: a level is lost, a result has failed.
    assert "lost" not in n.became and "1 failed with no other result analysed" in n.became


# ------------------------------------------------------------------------------------------------------------- forecast


def test_a_forecast_over_more_than_a_factor_of_ten_is_called_of_no_use(results, context_small):
    rows = results.table("population_forecast").set_index(["scenario", "quantity"])
    made = tables.build("forecast", results, context_small)
    column = next(c for c in made.frame.columns if c.startswith("New patient"))
    seen = set()
    for scenario, own in made.frame.groupby(made.frame["Dosing"].str.split(r"[: ]", regex=True).str[0]):
        cell = own[own["Quantity"].str.startswith("Cmax")][column].iloc[0]
        row = rows.loc[(scenario, "curve_cmax")]
        wide = bool(row["upper"] > findings.USEFUL_FACTOR * row["lower"])
        assert cell.startswith("no useful forecast (") == wide
        seen.add(wide)
    assert seen == {True}, "the small study allows no forecast of Cmax"
    note = findings.usefulness_note(results, context_small)
    assert note in made.footnotes and "a factor of 10" in note
    (said,) = re.findall(r"so in (\d+) of (\d+) rows", note)
    main = rows[rows["median"].notna()].reset_index()
    main = main[~main["quantity"].str.startswith(("curve_tmax", "curve_cmax_infusion"))]
    assert said == (str(int((~(main["upper"] <= 10 * main["lower"])).sum())), str(len(main)))


def test_forecasts_and_population_numbers_have_three_figures_and_shares_no_decimals(results, context_small):
    frame = tables.build("forecast", results, context_small).frame
    cells = frame.iloc[:, 2:6].to_numpy().ravel().tolist()
    frame = tables.build("population_parameters", results, context_small).frame
    cells += frame[[c for c in frame.columns if "estimate" in c or "RSE" in c]].to_numpy().ravel().tolist()
    for number in re.findall(r"\d+\.?\d*", " ".join(cells).replace("n = ", "")):
        figures = number.replace(".", "").strip("0") if "." not in number else number.replace(".", "").lstrip("0")
        assert len(figures) <= 3, number
    chance = next(c for c in tables.build("forecast", results, context_small).frame.columns if "Probability" in c)
    for cell in tables.build("forecast", results, context_small).frame[chance]:
        assert re.match(r"(\d+|<1|>99|–|NC)( \(|$)", cell), cell


def test_limit_of_cmax_says_why_it_is_not_the_highest_observed_one(results, context_small):
    rows = results.table("population_forecast")
    limit = float(rows.loc[(rows["quantity"] == "curve_cmax") & rows["limit"].notna(), "limit"].iloc[0])
    note = findings.limit_note(results, context_small)
    assert note in tables.build("forecast", results, context_small).footnotes
    assert "Cmax is 10000 (patient 005, day 1.02)" in note
    (ratio,) = re.findall(r", ([\d.]+) times the limit", note)
    assert float(ratio) == pytest.approx(10000 / limit, rel=0.05)


def test_days_stand_in_order_of_time_however_the_settings_were_written(results, context_small):
    text = as_json(context_small.settings.prediction)
    assert text.index('"D14"') < text.index('"D7"'), "keys are sorted as text"
    assert list(section("prediction", text).days) == ["D7", "D14", "D21", "D28"]
    assert list(section("statistics", as_json(context_small.settings.statistics)).detectable_at)[:2] == ["D7", "D10"]
    heads = [c for c in tables.build("forecast_individual", results, context_small).frame.columns if "Above" in c]
    assert heads == [f"Above LLOQ on {d}, %" for d in ("D7", "D14", "D21", "D28")]


# ----------------------------------------------------------------------------------------------- flags, trust, models


def test_a_flag_of_one_patient_leads_to_that_patient(results, context_small):
    found = html.flags(results, context_small, html.strings("en"))
    where = {text: links for text, links in found}
    (below,) = [links for text, links in where.items() if text.startswith("Measured, and never quantified")]
    (nothing,) = [links for text, links in where.items() if text.startswith("No result at all")]
    assert (below, nothing) == ([("Look there", "patient-006")], [("Look there", "patient-002")])
    (left,) = [links for text, links in where.items() if text.startswith("Left the study")]
    assert left == [("Patient 006", "patient-006"), ("Patient 002", "patient-002")]


def test_what_is_not_identifiable_is_counted_as_the_table_calls_it(edited, context_small):
    def loose(estimates: pd.DataFrame) -> pd.DataFrame:
        own = (estimates["patient_id"] == "003") & (estimates["model"] == context_small.settings.models.default)
        own &= estimates["assay"] == "qpcr"
        name = estimates.loc[own & (estimates["kind"] == "fitted"), "parameter"].iloc[0]
        estimates.loc[own & (estimates["parameter"] == name), "identifiable"] = False
        missing = own & (estimates["kind"] == "derived")
        assert missing.any()
        estimates.loc[missing, ["estimate", "identifiable", "reason"]] = [np.nan, False, "no net growth"]
        return estimates

    results = edited(estimates=loose)
    estimates = results.table("estimates")
    model = context_small.settings.models.default
    found = undetermined(estimates[estimates["model"] == model])
    frame = tables.build("model_parameters", results, context_small).frame
    cells = frame.apply(lambda row: sum("not identifiable" in str(c) for c in row.iloc[3:-2]), axis=1)
    assert int((cells > 0).sum()) == len(found) and ("003", "qpcr", "blood") in found
    # What does not exist is not calculable, in the table and in the words alike.
    built = {n: tables.build(n, results, context_small) for n in ("model_parameters", "nca_individual", "dosing")}
    patients = list(sections(results, context_small, html.strings("en"), built))
    told = " ".join(" ".join(t) for p in patients if p["id"] == "003" for _, t in p["sentences"])
    assert "not calculable (NC), no net growth" in told


def test_every_patient_with_a_result_has_a_line_that_says_how_far_to_trust_the_numbers(edited, context_small):
    results = edited(observations=refused)
    trust = Trust(results, context_small, html.strings("en"))
    assert trust.of("002") == []
    lines = {patient: dict(trust.of(patient))["qPCR, blood"] for patient in ("003", "004", "005", "006")}
    assert "with care: " in lines["006"] and "no half-life (no quantified level)" in lines["006"]
    assert "5 of 5 analysed results below the LLOQ (100 %)" in lines["006"]
    assert "half-life outside acceptance: adjusted R2 0.70 below 0.80" in lines["005"]
    assert "1 on a refused run (plate_3)" in lines["005"]
    assert "without an analysed result: 004-D2" in lines["004"]
    assert all("results analysed" in line for line in lines.values())
    assert "须谨慎" in dict(Trust(results, in_chinese(context_small), html.strings("zh")).of("006"))["定量 PCR、外周血"]


def with_failed(frame: pd.DataFrame) -> pd.DataFrame:
    """Results that failed: of 001 before and after the first below the LLOQ, of 004 after the last there is; of 005 one
    after the last that a rule left out."""
    more = []
    cases = (("001", 20.0, "failed"), ("001", 35.0, "failed"), ("004", 35.0, "failed"), ("005", 35.0, "quantified"))
    for patient, day, status in cases:
        like = f"{patient}-D29"
        row = frame[(frame["sample_id"] == like) & (frame["assay"] == "qpcr")].assign(
            sample_id=f"{patient}-X{day:g}", time_actual=day, status=status, reportable=False, level=np.nan
        )
        more.append(row.assign(observation_id=f"x{patient}{day:g}", exclusion_reason="replicate CV 40.0 % above 25 %"))
    return pd.concat([frame, *more], ignore_index=True)


def test_a_result_that_is_missing_after_tlast_is_said_beside_tlast(edited, context_small):
    results = edited(observations=with_failed)
    assert unseen_after_tlast(results, "qpcr", "blood") == {"001": ["001-X20"], "004": ["004-X35"]}
    (note,) = [n for n in tables.build("topline", results, context_small).footnotes if n.startswith("Tlast and")]
    assert note.startswith("Tlast and the loss might lie later in 001 (001-X20), 004 (004-X35): ")
    line = dict(Trust(results, context_small, html.strings("en")).of("001"))["qPCR, blood"]
    assert "Tlast might lie later, as the result after it is missing (001-X20)" in line
    assert not [n for n in tables.build("topline", edited_nothing(results), context_small).footnotes if "later in" in n]


def edited_nothing(results: Results) -> Results:
    """The same folder without those results."""
    path = results.path("observations")
    frame = read_table(path, SCHEMAS["observations"])
    write_table(frame[~frame["sample_id"].str.contains("-X")], path, SCHEMAS["observations"])
    return Results(results.folder)


def test_trust_says_protocol_deviations_and_calibrators_outside_their_limit(edited, context_small):
    def outside(runs: pd.DataFrame) -> pd.DataFrame:
        first = runs["run_id"] == "plate_1"
        return runs.assign(
            n_levels=runs["n_levels"].mask(first, 7), n_levels_within=runs["n_levels_within"].mask(first, 6)
        )

    results = edited(runs=outside)
    deviated = deviations.by_patient(results, context_small)
    trust = Trust(results, context_small, html.strings("en"))
    number = number_of(discover("tables")["deviations"], context_small)
    for patient in ("001", "003", "004", "005", "006"):
        line = dict(trust.of(patient))["qPCR, blood"]
        assert "calibrators outside their limit on accepted runs (plate_1)" in line
        assert (f"(Table {number})" in line) == bool(deviated[patient])
    assert any(deviated.values())


def intercept_of(results: Results, row: pd.Series) -> tuple[float, float]:
    """Intercept and slope, made positive, of the curve of a qPCR result."""
    runs = results.table("runs")
    run = runs[(runs["run_id"] == row["run_id"]) & (runs["target"] == "CAR")].iloc[0]
    return float(run["intercept"]), -float(run["slope"])


def test_the_level_of_every_qpcr_sample_is_told_from_its_wells(root, tmp_path):
    """Of the bundled study: what the page says of the wells gives the level that observations.csv holds."""
    settings = load(root / "config" / "config.yaml")
    ingest.write(ingest.run(settings, root), tmp_path)
    results, context = Results(tmp_path), Context(settings, "0.1.0")
    told = _wells(results, context, html.strings("en"))
    observed = results.table("observations")
    levels = observed[(observed["assay"] == "qpcr") & (observed["status"] == "quantified")]
    assert len(levels) > 100
    for row in levels.itertuples():
        lines = told[row.observation_id]
        (made,) = [line for line in lines if line.startswith("mean ")]
        pairs = [re.search(r": ([\d.]+) → ([\d.]+)$", line).groups() for line in lines[: lines.index(made)]]
        note = _curves_note(results, context, html.strings("en"), levels[levels["run_id"] == row.run_id])
        intercept, slope = map(float, re.search(rf"{row.run_id} CAR ([\d.]+), ([\d.]+)\.", note).groups())
        for ct, copies_told in pairs:
            assert 10 ** ((intercept - float(ct)) / slope) == pytest.approx(float(copies_told), rel=1e-3)
        copies = np.mean([10 ** ((intercept - float(ct)) / slope) for ct, _ in pairs])
        mean, factor, level = map(float, re.match(r"mean ([\d.]+) × ([\d.]+) = ([\d.]+)$", made).groups())
        assert copies == pytest.approx(mean, rel=1e-3)
        assert mean * factor == pytest.approx(level, rel=1e-3) and level == pytest.approx(row.level, rel=1e-3)
    # A well without a Ct keeps its word; the others give the level.
    cut = levels.iloc[0]
    frame = results.table("ingest")
    own = (
        frame["used"].fillna(False).astype(bool) & (frame["sample_id"] == cut["sample_id"]) & (frame["target"] == "CAR")
    )
    own &= frame["run_id"] == cut["run_id"]
    frame.loc[frame.index[own][0], "value_raw"] = "Undetermined"
    write_table(frame, tmp_path / "ingest.csv", SCHEMAS["ingest"])
    rest = [
        10 ** ((intercept_of(results, cut)[0] - float(v)) / intercept_of(results, cut)[1])
        for v in frame.loc[frame.index[own][1:], "value_raw"]
    ]
    two = observed.assign(
        n_replicates=observed["n_replicates"].mask(observed["observation_id"] == cut["observation_id"], 2)
    )
    two.loc[two["observation_id"] == cut["observation_id"], "level"] = np.mean(rest) * cut["lloq"] / 10
    write_table(two, tmp_path / "observations.csv", SCHEMAS["observations"])
    lines = _wells(Results(tmp_path), context, html.strings("en"))[cut["observation_id"]]
    assert (
        lines[0].endswith(": Undetermined") and sum("→" in line for line in lines) == 2 and lines[3].startswith("mean ")
    )
    # The two gates of a flow result stand in one row, each once; a reference gene in a line of its own.
    first = {a: own.iloc[0] for a, own in observed[observed["sample_id"] == "001-D2"].groupby("assay")}
    raw = results.table("ingest")
    gates = raw[
        raw["used"].fillna(False).astype(bool) & (raw["sample_id"] == "001-D2") & (raw["target"].str.contains("/"))
    ]
    counted = sorted(f"{t.rsplit('/', 1)[-1]}: {v}" for t, v in zip(gates["target"], gates["value_raw"], strict=True))
    assert len(counted) == 2 and sorted(told[first["flow"]["observation_id"]]) == counted
    genes = raw[(raw["sample_id"] == "001-D2") & (raw["target"] == "RPPH1")]["value_raw"]
    assert told[first["qpcr"]["observation_id"]][-1] == f"RPPH1: {', '.join(genes)}"
    # Samples that are still to come have no time at which they were taken; all others keep theirs.
    seen = when_taken(results, observed).set_index("sample_id")["time_actual"]
    before = observed.set_index("sample_id")["time_actual"]
    assert before[["009-D42", "009-D56"]].notna().all() and seen[["009-D42", "009-D56"]].isna().all()
    assert seen.drop(["009-D42", "009-D56"]).equals(before.drop(["009-D42", "009-D56"]))


# ---------------------------------------------------------------------------------------------- labels and validation


@pytest.mark.parametrize("family", ["tables", "figures"])
def test_labels_for_snakemake_are_ids_and_titles_of_the_items(family):
    assert dict(headings(family)) == {
        name: Heading(item.id, item.number, item.title["en"]) for name, item in discover(family).items()
    }


def test_validation_says_whether_other_programs_were_compared_and_where_an_answer_comes_from(edited, context_small):
    s = html.strings("en")
    results = edited()
    assert "were not given to this run" in html._references(results, s)
    control = Control(
        "OQ-REF-01", "NCA-4", "Against another program", "its table", lambda: all_close([("cmax", 1.0, 1.0)], 1e-6)
    )
    write_table(table(carried_out([control])), results.path("validation"), SCHEMAS["validation"])
    page = report.build(results.folder, context_small.settings, "0.1.0")
    shown = page[page.index('id="validation"') :]
    assert "1 of 1 sets agree within their limits (Against another program: 1 of 1 numbers agree" in shown
    assert "<td>its table</td>" in shown and "Source of the expected answer" in shown
