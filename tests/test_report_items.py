"""Samples, levels, dosing, deviations, typical levels, swimmer, blood counts: their numbers, by hand."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import figures, report, tables
from nkinetics.errors import InputError
from nkinetics.figures import _style
from nkinetics.figures.exposure_by_dose import FIGURE as EXPOSURE
from nkinetics.figures.typical_level import FIGURE as TYPICAL
from nkinetics.figures.typical_level import middles, together
from nkinetics.plugins import TableBody, discover, item_ids
from nkinetics.results import STUDY_TABLES, Context, Results
from nkinetics.settings import validated
from nkinetics.store import SCHEMAS, read_table, sha256_of, write_table
from nkinetics.tables._protocol import Plan, plans
from nkinetics.wording import follow_up_ends

Edit = Callable[[pd.DataFrame], pd.DataFrame]


def edited(source: Path, target: Path, **edits: Edit) -> Results:
    """The small study with some of its tables changed."""
    shutil.copytree(source, target)
    for name, edit in edits.items():
        study = name in STUDY_TABLES
        schema = STUDY_TABLES[name] if study else SCHEMAS[name]
        path = target / ("study" if study else "") / f"{name}.csv"
        write_table(edit(read_table(path, schema)), path, schema)
    return Results(target)


def setting(**values: object) -> Edit:
    """An edit: these values in the rows of a sample."""
    sample = values.pop("sample_id")

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        for column, value in values.items():
            frame.loc[frame["sample_id"] == sample, column] = value
        return frame

    return edit


def with_report(context: Context, **values: object) -> Context:
    """The context with other settings of the report, validated."""
    settings = context.settings.model_dump(mode="json")
    settings["report"] = {**settings["report"], **values}
    return Context(validated(settings, "config.yaml"), context.version)


def rows_where(made: TableBody, **wanted: str) -> pd.DataFrame:
    """Rows of a table by the beginning of cells, keys with _ for space."""
    frame = made.frame
    for column, text in wanted.items():
        frame = frame[frame[column.replace("_", " ")].str.startswith(text)]
    return frame


@pytest.fixture(scope="module")
def results(results_small: Path) -> Results:
    return Results(results_small)


# ------------------------------------------------------------------------------------------------- sample disposition


COUNTED = ("Planned", "Collected", "Analysed", "Quantified", "BLQ", "ND", "ALQ", "MISS", "NR", "Not sent")


def counts(made: TableBody, **wanted: str) -> dict[str, int]:
    (row,) = rows_where(made, **wanted).to_dict("records")
    return {name: int(row[name]) for name in COUNTED}


def test_every_planned_sample_is_analysed_missing_left_out_or_not_sent(results, context_small):
    frame = tables.build("sample_disposition", results, context_small).frame
    n = frame[list(COUNTED)].astype(int)
    assert (n["Planned"] == n["Analysed"] + n["MISS"] + n["NR"] + n["Not sent"]).all()
    assert (n["Analysed"] == n["Quantified"] + n["BLQ"] + n["ND"] + n["ALQ"]).all()
    whole = frame["Nominal time (d)"] == "all"
    for (assay, dose_level), own in frame[~whole].groupby(["Assay", "Dose level"]):
        if assay != "all assays":
            row = frame[whole & (frame["Assay"] == assay) & (frame["Dose level"] == dose_level)]
            assert row[list(COUNTED)].astype(int).iloc[0].tolist() == own[list(COUNTED)].astype(int).sum().tolist()


def test_sample_disposition_of_the_small_study(results, context_small):
    made = tables.build("sample_disposition", results, context_small)
    at = {"Assay": "qPCR", "Nominal_time_(d)": "1.00", "Dose_level": "DL2"}
    # 003, 004, 005 quantified, 006 BLQ; the superseded result of 005-D2 is no second sample.
    assert list(counts(made, **at).values()) == [4, 4, 4, 3, 1, 0, 0, 0, 0, 0]
    # Flow measured one patient of DL2.
    at["Assay"] = "flow"
    assert list(counts(made, **at).values()) == [4, 4, 1, 1, 0, 0, 0, 0, 0, 3]
    unscheduled = rows_where(made, Assay="qPCR", Visit="Unscheduled")
    assert unscheduled["Quantified"].tolist() == ["1"]
    none = rows_where(made, Assay="all assays").iloc[0]
    assert (none["Dose level"], none["Planned"]) == ("DL1", "0") and none["Reasons"].endswith("(002)")


def test_lost_left_out_and_untaken_samples_have_their_codes_and_reasons(results_small, context_small, tmp_path):
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        frame = setting(sample_id="004-D2", status="failed", level=np.nan)(frame)
        for sample, why in (("004-D2", "run refused"), ("003-D2", "after_subsequent_therapy"), ("006-D2", "not done")):
            hit = (frame["sample_id"] == sample) & (frame["assay"] == "qpcr")
            frame.loc[hit, "reportable"] = False
            frame.loc[hit, "exclusion_reason"] = why
        return setting(sample_id="006-D2", status="not_done", lloq=np.nan)(frame)

    untaken = setting(sample_id="006-D2", state="not_done", time_actual=np.nan)
    made = tables.build(
        "sample_disposition",
        edited(results_small, tmp_path / "r", observations=spoil, samples=untaken),
        context_small,
    )
    at = {"Assay": "qPCR", "Nominal_time_(d)": "1.00", "Dose_level": "DL2"}
    assert list(counts(made, **at).values()) == [4, 3, 1, 1, 0, 0, 0, 2, 1, 0]
    reasons = rows_where(made, **at)["Reasons"].iloc[0]
    assert reasons == "MISS: run refused (004); not done (006); NR: after_subsequent_therapy (003)"


# -------------------------------------------------------------------------------------------------------------- levels


def test_levels_of_every_patient_stand_at_their_nominal_times(results, context_small):
    made = tables.build("levels_by_patient", results, context_small)
    shown = {row["Patient"]: list(row)[3:] for _, row in rows_where(made, Assay="qPCR").iterrows()}
    assert list(made.frame.columns)[3:] == ["0", "1", "7", "14", "28"]
    assert shown["001"] == ["ND", "400", "100", "25", "BLQ"]
    assert shown["002"] == ["–"] * 5
    assert shown["005"] == ["ND", "10000", "2000", "400", "50"]  # not the superseded 8000, nor the unscheduled 3000
    flow = rows_where(made, Assay="flow", Patient="004").iloc[0]
    assert list(flow)[3:] == ["–"] * 5
    assert any(note.startswith("Results without a planned time, not shown here: 1;") for note in made.footnotes)


def test_a_result_that_a_rule_left_out_is_nr_and_one_that_failed_is_miss(results_small, context_small, tmp_path):
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        frame = setting(sample_id="004-D2", status="failed", level=np.nan, reportable=False)(frame)
        return setting(sample_id="003-D2", reportable=False)(frame)

    made = tables.build("levels_by_patient", edited(results_small, tmp_path / "r", observations=spoil), context_small)
    assert rows_where(made, Assay="qPCR", Patient="004").iloc[0]["1"] == "MISS"
    assert rows_where(made, Assay="qPCR", Patient="003").iloc[0]["1"] == "NR"


def test_listing_of_levels_has_every_result_its_deviation_and_its_uses(results, context_small):
    made = tables.build("levels_individual", results, context_small)
    frame = made.frame
    assert len(frame) == len(results.table("observations")) + 3  # 004, 005, 006 have no flow
    row = rows_where(made, Assay="qPCR", Patient="001", Sample="001-D8").iloc[0]
    # Planned day 7, taken on day 7.1: 2.4 hours late; 4.06 d after the second infusion.
    assert (row["Planned (d)"], row["Actual (d)"], row["Deviation (h)"]) == ("7.00", "7.10", "2.4")
    assert (row["After infusion (d)"], row["Result"], row["LLOQ"]) == ("4.06", "100", "10.0")
    early = rows_where(made, Assay="qPCR", Patient="001", Sample="001-D15").iloc[0]
    assert early["Deviation (h)"] == "−2.4"
    points = results.table("nca_points")
    mine = points[(points["observation_id"] == "93a753df681a") & points["window"].isin(("overall", "D0-28"))]
    assert ("lambda_z" in set(mine["used_in"])) == (row["In λz"] == "yes")
    superseded = frame[frame["Result"] == "8000"].iloc[0]
    assert superseded["Flags"] == "not analysed: superseded by the repeat of the same sample"
    assert (superseded["In AUC"], superseded["In λz"]) == ("no", "no")
    assert "pre-dose" in rows_where(made, Assay="qPCR", Patient="001", Sample="001-Pre").iloc[0]["Flags"]


def test_no_cell_of_the_listings_begins_like_a_formula(results, context_small):
    for name in ("levels_individual", "dosing_individual", "deviations", "sample_disposition", "levels_by_patient"):
        cells = tables.build(name, results, context_small).frame.to_numpy().ravel()
        assert not [c for c in cells if c.startswith(("=", "+", "-", "@"))], name


# -------------------------------------------------------------------------------------------------------------- dosing


def test_a_dose_left_out_does_not_make_the_later_ones_late():
    plan = Plan(cytokines={"IL-2": (0.0, 3.0, 6.0, 9.0)})
    assert plan.matched("IL-2", [0.1, 6.2, 9.0]) == ([0.0, 6.0, 9.0], [3.0])
    assert plan.matched("IL-2", [0.1, 5.1, 6.2, 9.0]) == ([0.0, 3.0, 6.0, 9.0], [])  # 2.1 d late
    assert plan.matched("IL-2", [0.0, 3.0, 6.0, 30.0]) == ([0.0, 3.0, 6.0, None], [9.0])
    assert plan.matched("IL-15", [1.0]) == ([None], [])


def test_schedule_of_a_dose_level_is_what_more_than_half_have_or_what_is_configured(results, context_small):
    found = plans(results, context_small)
    assert found["DL2"].infusions == {1: 0.0, 2: 3.0} and found["DL2"].cytokines == {"IL-2": (0.0, 3.0)}
    # One of two has a second infusion, and IL-2: half is not more than half.
    assert found["DL1"].infusions == {1: 0.0} and found["DL1"].cytokines == {}
    asked = with_report(context_small, protocol={"infusions": [0, 3], "cytokines": {"IL-2": [0, 3, 6]}})
    assert plans(results, asked)["DL1"] == Plan({1: 0.0, 2: 3.0}, {"IL-2": (0.0, 3.0, 6.0)}, True)


def test_listing_of_dosing_has_planned_given_and_the_days(results, context_small):
    asked = with_report(context_small, protocol={"infusions": [0, 3], "cytokines": {"IL-2": [0, 3, 6]}})
    made = tables.build("dosing_individual", results, asked)
    row = rows_where(made, Patient="005", Given="CAR-NK", **{"No.": "2"}).iloc[0]
    assert (row["Planned"], row["Actual"], row["% of planned"]) == ("4×10⁹ cells", "3×10⁹ cells", "75.0")
    assert (row["Planned day"], row["Actual day"], row["Deviation (h)"]) == ("3.00", "3.04", "1.0")
    absent = rows_where(made, Patient="002", Given="CAR-NK", **{"No.": "2"}).iloc[0]
    assert (absent["Actual"], absent["Planned day"]) == ("not given", "3.00")
    pulses = rows_where(made, Patient="005", Given="IL-2")
    assert pulses["Actual"].tolist() == ["6 MIU", "6 MIU", "no dose recorded"]
    drug = rows_where(made, Patient="005", Given="Steroid").iloc[0]
    assert (drug["Actual"], drug["Actual day"], drug["Until"]) == ("dexamethasone", "9.00", "10.00")
    assert set(made.patients) == {"001", "002", "003", "004", "005", "006"}


# ---------------------------------------------------------------------------------------------------------- deviations


def told(made: TableBody, patient: str) -> list[tuple[str, str, str]]:
    own = rows_where(made, Patient=patient)
    return list(zip(own["Day"], own["Deviation"], own["What it touches"], strict=True))


def test_deviations_of_the_small_study(results, context_small):
    made = tables.build("deviations", results, context_small)
    days = {patient: [(day, what) for day, what, _ in told(made, patient)] for patient in ("002", "004", "005")}
    assert days["002"] == [("–", "no sample in samples.csv")]
    assert days["004"] == [("–", "–")]
    assert days["005"] == [
        ("3.04", "infusion 2: 3×10⁹ of 4×10⁹ planned (75.0 %)"),
        ("8.60", "Tocilizumab: 8 mg/kg"),
        ("9.00", "Steroid: dexamethasone"),
    ]
    (run,) = rows_where(made, Dose_level="all").to_dict("records")
    assert run["Deviation"].startswith("plate_3: ") and "slope -3.92" in run["Deviation"]


def test_a_configured_protocol_decides_what_is_a_deviation(results, context_small):
    protocol = {"infusions": [0, 1], "given_pct": [70, 120], "cytokines": {"IL-2": [0, 3, 6]}, "dose_days": 2}
    made = tables.build("deviations", results, with_report(context_small, protocol=protocol))
    what = [w for _, w, _ in told(made, "005")]
    assert "infusion 2 2.04 d late (planned day 1.00)" in what and "IL-2 dose not given (no row)" in what
    assert not [w for w in what if "planned (75.0 %)" in w]
    # Withdrawn on day 2: the infusion of day 1 was due, the IL-2 of day 3 was not.
    withdrawn = [(d, w) for d, w, _ in told(made, "002")]
    assert ("1.00", "infusion 2 not given (no row)") in withdrawn and (
        "3.00",
        "IL-2 dose not given (no row)",
    ) not in withdrawn


def test_late_untaken_and_absent_samples_say_what_they_touch(results_small, context_small, tmp_path):
    def late(frame: pd.DataFrame) -> pd.DataFrame:
        frame = setting(sample_id="003-D8", time_actual=8.5)(frame)
        frame = setting(sample_id="004-D8", state="not_done", time_actual=np.nan)(frame)
        return frame[frame["sample_id"] != "005-D15"]

    def without(frame: pd.DataFrame) -> pd.DataFrame:
        frame = setting(sample_id="003-D8", time_actual=8.5)(frame)
        return frame[~frame["sample_id"].isin(("004-D8", "005-D15"))]

    changed = edited(results_small, tmp_path / "r", samples=late, observations=without)
    made = tables.build("deviations", changed, context_small)
    ((day, what, touches),) = told(made, "003")
    assert (day, what) == ("8.50", "D8 (003-D8) 1.50 d late (planned day 7.00)")
    assert touches == "AUC, at the actual time; stands in summaries at the nominal time"
    ((day, what, touches),) = told(made, "004")
    assert (day, what) == ("7.00", "D8 (004-D8) not taken")
    assert touches.startswith("AUC bridges day 1.02 to 13.90")
    absent = [row for row in told(made, "005") if "no row" in row[1]]
    assert absent == [
        (
            "14.00",
            "D15: no row in samples.csv (4 of 5 patients have one)",
            "AUC bridges day 7.10 to 28.00; a peak, or the loss, in between would not be seen",
        )
    ]


def test_the_visit_window_of_the_study_stands_before_the_days_of_the_report(results_small, context_small, tmp_path):
    from nkinetics.observations import OUTSIDE_WINDOW

    flagged = setting(sample_id="003-D8", time_flag=f"{OUTSIDE_WINDOW} (2.4 h late)")
    changed = edited(results_small, tmp_path / "r", observations=flagged)
    assert not [w for _, w, _ in told(tables.build("deviations", changed, context_small), "003") if "late" in w]
    study = context_small.settings.study.model_copy(update={"visit_window_h": 1.0})
    narrow = Context(context_small.settings.model_copy(update={"study": study}), "0.1.0")
    made = tables.build("deviations", changed, narrow)
    assert told(made, "003")[0][1] == "D8 (003-D8) 0.10 d late (planned day 7.00)"
    assert "1 h (visit window of the study" in made.footnotes[0]


def test_subsequent_therapy_says_that_later_samples_are_left_out(results_small, context_small, tmp_path):
    def treated(frame: pd.DataFrame) -> pd.DataFrame:
        row = frame.iloc[:1].assign(patient_id="004", event="therapy", time=20.0, value="topotecan", grade=pd.NA)
        return pd.concat([frame, row], ignore_index=True)

    made = tables.build("deviations", edited(results_small, tmp_path / "r", events=treated), context_small)
    ((day, what, touches),) = told(made, "004")
    assert (day, what) == ("20.00", "subsequent therapy: topotecan")
    assert touches.startswith("later samples are left out of every analysis")


# ------------------------------------------------------------------------------------------------------------- figures


def test_middle_of_results_counts_those_below_the_lloq_lowest():
    rows = pd.DataFrame(
        {
            "time_nominal": [1.0] * 4 + [2.0] * 3 + [3.0] * 2 + [np.nan],
            "level": [2.0, 8.0, 32.0, np.nan, np.nan, np.nan, 5.0, 10.0, 1000.0, 7.0],
            "lloq": [1.0] * 4 + [1.0, 3.0, 1.0] + [1.0] * 3,
            "status": ["quantified"] * 3 + ["blq", "blq", "not_detected", "quantified"] + ["quantified"] * 3,
        }
    )
    one, two, three = middles(rows)
    # -inf, 2, 8, 32: the two in the middle are 2 and 8.
    assert (one.n, one.n_below, one.median, one.high) == (4, 1, 5.0, 32.0)
    assert np.isnan(one.geo_mean) and np.isnan(one.low)
    assert (two.n, two.n_below, two.lloq) == (3, 2, 3.0) and np.isnan(two.median)
    assert three.geo_mean == pytest.approx(100.0) and three.median == 505.0 and three.low == 10.0


def test_times_near_each_other_share_a_number():
    rows = pd.DataFrame({"time_nominal": [0.0, 0.0625, 3.0, 3.0625, 4.0], "level": 1.0, "lloq": 0.1})
    groups = together(middles(rows.assign(status="quantified")))
    assert [[m.time for m in group] for group in groups] == [[0.0, 0.0625], [3.0, 3.0625], [4.0]]


def test_numbers_under_the_axis_are_those_of_the_results(results, context_small):
    drawn = TYPICAL.draw(results, context_small)
    # qPCR: DL2 alone has three results at a time; pre-dose 4 not detected, then 1, 1, 2 and 2 of 4 below the LLOQ.
    numbers = drawn.figure.axes[1]
    assert [t.get_text() for t in numbers.get_yticklabels()] == ["DL2 n", "below LLOQ"]
    by_row = {row: [t.get_text() for t in numbers.texts if t.get_position()[1] == row] for row in (0, 1)}
    assert by_row == {0: ["4"] * 5, 1: ["4", "1", "1", "2", "2"]}
    assert any("No time with 3 results: DL1." in note for note in drawn.footnotes)


def test_target_expression_is_the_marker_and_a_patient_below_the_lloq_stands_at_the_bound(results, context_small):
    drawn = EXPOSURE.draw(results, context_small)
    cmax = drawn.figure.axes[0]
    points = {float(y): line for line in cmax.lines if line.get_marker() != "None" for y in line.get_ydata()}
    # Cmax by patient: 001 400 high, 003 100 high, 004 1000 low, 005 10000 high, 006 below 10 copies/ug.
    filled = {y: line.get_markerfacecolor() != "white" for y, line in points.items()}
    assert filled == {400.0: True, 100.0: True, 1000.0: False, 10000.0: True, 10.0: False}
    assert points[10.0].get_marker() == "v"
    (median,) = [line for line in cmax.lines if line.get_marker() == "None"]
    assert median.get_ydata()[0] == 550.0  # of below, 100, 1000 and 10000
    assert any("no sample of this patient in the manifest (002)" in note for note in drawn.footnotes)


def test_follow_up_ends_with_the_death_of_the_events_else_as_the_patients_say(results_small, tmp_path):
    def died(frame: pd.DataFrame) -> pd.DataFrame:
        row = frame.iloc[:1].assign(patient_id="003", event="death", time=25.0, value="", grade=pd.NA)
        return pd.concat([frame, row], ignore_index=True)

    def unknown(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[frame["patient_id"] == "004", ["time_end"]] = np.nan
        return frame

    ends = follow_up_ends(edited(results_small, tmp_path / "r", events=died, patients=unknown))
    assert ends["003"] == (25.0, "death") and ends["002"] == (2.0, "withdrawal") and ends["006"] == (28.0, "death")
    assert ends["004"] == (28.0, "data_cut")  # the last sample


def test_estimates_from_earlier_data_say_so_with_their_data_cut(results_small, context_small, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(results_small, folder)
    now = sha256_of(folder / "observations.csv")
    notes = {}
    for digest in (now, "0123456789abcdef"):
        fit = {"data": {"observations": digest, "data_cut": "2026-01-31"}}
        (folder / "population_fit.json").write_text(json.dumps(fit), encoding="utf-8")
        body = discover("tables")["population_parameters"].build(Results(folder), context_small)
        notes[digest] = [n for n in body.footnotes if "earlier data" in n], "earlier data" in body.subtitle
    assert notes[now] == ([], False)
    (note,), in_subtitle = notes["0123456789abcdef"]
    assert in_subtitle and "data cut 2026-01-31, observations.csv 01234567" in note and now[:8] in note


def test_swimmer_shows_grades_responses_and_ends_and_splits_a_long_follow_up(results_small, context_small, tmp_path):
    def answered(frame: pd.DataFrame) -> pd.DataFrame:
        row = frame.iloc[:1].assign(patient_id="005", event="response", time=27.0, value="PR", grade=pd.NA)
        return pd.concat([frame, row], ignore_index=True)

    def long(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(time_end=frame["time_end"].where(frame["patient_id"] != "001", 200.0))

    short = discover("figures")["swimmer"].draw(Results(results_small), context_small)
    assert len(short.figure.axes) == 1
    changed = edited(results_small, tmp_path / "r", events=answered, patients=long)
    with _style.style(context_small):
        drawn = discover("figures")["swimmer"].draw(changed, context_small)
    first, second = drawn.figure.axes
    texts = [t.get_text() for t in first.texts]
    assert {"C1", "C2", "T", "S", "N1", "I3", "PR"} <= set(texts) and texts.count("no reportable sample") == 1
    low, high = second.get_xlim()
    assert low == 29.0 and high > 201.0
    ends = [line for line in second.lines if line.get_marker() == ">" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in ends] == [201.0]
    assert "005 (DL2): last quantified at 28.00 d, CRS 2, ICANS 1, ongoing 28.00 d" in drawn.alt


def test_blood_counts_stand_under_the_levels_or_it_is_said_that_none_are_recorded(
    results_small, context_small, tmp_path
):
    drawn = discover("figures")["blood_counts"].draw(Results(results_small), context_small)
    panels = drawn.figure.axes
    assert len(panels) == 12  # two for each of six patients
    white = panels[1].lines[0]
    assert white.get_ydata().tolist() == [1.8, 1.2, 0.9, 2.4, 5.1]
    assert white.get_xdata() == pytest.approx([0.95, 2.02, 8.1, 14.9, 29.0])
    assert [t.get_text() for t in panels[11].texts] == ["no blood count recorded"]
    assert any("No blood count recorded with any sample of: 002, 006." in note for note in drawn.footnotes)
    assert any("after lymphodepletion" in note for note in drawn.footnotes)

    def none(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(wbc_1e9_l=np.nan, alc_1e9_l=np.nan)

    empty = discover("figures")["blood_counts"].draw(edited(results_small, tmp_path / "r", samples=none), context_small)
    assert empty.figure is None and "after lymphodepletion cannot be seen" in empty.note


def test_residuals_of_the_individual_curves_are_told_with_the_goodness_of_fit(results, context_small):
    drawn = discover("figures")["goodness_of_fit"].draw(results, context_small)
    found = re.search(
        r"residuals of the (\d+) quantified rows: mean (-?[\d.]+), SD ([\d.]+)", " ".join(drawn.footnotes)
    )
    fit = results.table("population")
    primary = fit[fit["primary"].fillna(False).astype(bool)].iloc[0]
    points = results.table("population_points")
    own = points[(points["model"] == primary["model"]) & (points["method"] == primary["method"])]["residual"].dropna()
    assert found and int(found[1]) == len(own)
    assert float(found[2]) == pytest.approx(own.mean(), abs=0.006)
    assert float(found[3]) == pytest.approx(own.std(), abs=0.006)


# ------------------------------------------------------------------------------------------------------- configuration


def test_ids_read_from_the_files_are_those_of_the_items():
    items = [*discover("tables").values(), *discover("figures").values()]
    assert sorted(item.id for item in items) == list(item_ids())


def test_all_tables_figures_and_listings_of_the_plan_are_there():
    wanted = {f"T-CK-{i:02d}" for i in range(1, 16)} | {f"F-CK-{i:02d}" for i in range(1, 16)}
    assert wanted | {f"L-16.2.5.{i}" for i in range(1, 7)} <= set(item_ids())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"items": ["T-CK-55"]}, "items: no item T-CK-55; did you mean T-CK-05"),
        ({"titles": {"F-CK-1": "Profiles"}}, "titles: no item F-CK-1; did you mean"),
        ({"footnotes": {"L-16.2.5.99": ["x"]}}, "footnotes: no item L-16.2.5.99"),
        ({"items": ["T-CK-05", "F-CK-01", "T-CK-05"]}, "items: T-CK-05 twice"),
        ({"protocol": {"infusions": [0, 3, 3]}}, "infusions: days rise"),
        ({"protocol": {"given_pct": [101, 120]}}, "given_pct"),
    ],
)
def test_an_item_that_does_not_exist_is_refused_with_the_nearest(section, message):
    with pytest.raises(InputError, match=re.escape(message)):
        validated({"report": section}, "config.yaml")


def test_selection_order_titles_footnotes_and_prefixes_reach_the_page_and_the_files(
    results_small, context_small, tmp_path
):
    context = with_report(
        context_small,
        items=["L-16.2.5.2", "F-CK-13", "T-CK-15", "F-CK-07", "L-16.2.5.1", "T-CK-01"],
        titles={"L-16.2.5.1": "What they got", "F-CK-13": "Counts"},
        footnotes={"F-CK-13": ["Read by the sponsor."], "T-CK-15": ["Agreed on 3 March."]},
        numbering={"table": "11.4", "figure": "11.5", "listing": "12.2.5"},
    )
    assert tables.names(context) == ["levels_individual", "deviations", "dosing_individual", "sample_disposition"]
    assert figures.names(context) == ["blood_counts", "exposure_by_dose"]
    results = Results(results_small)
    figures.write("blood_counts", results, context, tmp_path)
    said = json.loads((tmp_path / "blood_counts.json").read_text(encoding="utf-8"))
    assert (said["title"], said["number"], said["footnotes"][-1]) == ("Counts", "11.5.13", "Read by the sponsor.")
    assert "Figure 11.5.13. Counts" in (tmp_path / "blood_counts.svg").read_text(encoding="utf-8")
    tables.write("dosing_individual", results, context, tmp_path)
    said = json.loads((tmp_path / "dosing_individual.json").read_text(encoding="utf-8"))
    assert (said["kind"], said["number"], said["title"]) == ("Listing", "12.2.5.1", "What they got")
    page = report.build(results_small, context.settings, "0.1.0")
    at = [
        page.index(f'id="{item}"') for item in ("F-CK-13", "F-CK-07", "T-CK-15", "T-CK-01", "L-16.2.5.2", "L-16.2.5.1")
    ]
    assert at == sorted(at)
    assert 'id="T-CK-05"' not in page and "Agreed on 3 March." in page and "12.2.5.1" in page


def test_with_many_patients_the_blood_counts_stand_by_dose_level(results_small, context_small, tmp_path):
    def copies(frame: pd.DataFrame) -> pd.DataFrame:
        made = [frame.assign(patient_id=frame["patient_id"] + f"-{k}") for k in range(11)]
        for k, each in enumerate(made):
            for column in {"sample_id", "observation_id"} & set(each.columns):
                each[column] = each[column] + f"-{k}"
        return pd.concat(made, ignore_index=True)

    many = edited(results_small, tmp_path / "r", patients=copies, samples=copies, observations=copies)
    drawn = discover("figures")["blood_counts"].draw(many, context_small)
    assert [axes.get_title() for axes in drawn.figure.axes[::2]] == ["DL1, n = 22", "DL2, n = 44"]
    white = drawn.figure.axes[1].lines[0].get_ydata()
    # DL1: 001 in 11 copies of five counts, a break between one and the next.
    assert np.isfinite(white).sum() == 55 and np.isnan(white).sum() == 10
    assert any("one thin line for each, by dose level" in note for note in drawn.footnotes)
