"""What a run is judged by: every criterion with its value, calibrators, outliers, derived rows, windows, dates."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nkinetics import figures, ingest, inputs, observations, readers, report, settings
from nkinetics.columns import CALIBRATORS, CYTOKINES, EVENTS, INFUSIONS, PATIENTS, RAW, RUNS, SAMPLES
from nkinetics.errors import InputError
from nkinetics.figures import _style
from nkinetics.plugins import discover
from nkinetics.quantify import derived, dpcr, flow, qpcr
from nkinetics.quantify.levels import LEVELS
from nkinetics.readers.quantstudio import run_end
from nkinetics.results import Context, Results
from nkinetics.settings import Ddpcr, Flow, Qpcr, Settings
from nkinetics.store import complete, empty, read_table, write_table

SLOPE, INTERCEPT = -3.32, 38.0


def ct_of(copies: float) -> float:
    return INTERCEPT + SLOPE * math.log10(copies)


def well(sample: str, role: str, ct: float | None, quantity: float = math.nan, **more: object) -> dict[str, object]:
    return {
        "sample_id": sample,
        "role": role,
        "target": "CAR",
        "measure": "ct",
        "quantity": quantity,
        "value": math.nan if ct is None else ct,
        "detection": "not_detected" if ct is None else "quantified",
        **more,
    }


def raw_frame(rows: list[dict[str, object]], **more: object) -> pd.DataFrame:
    common = {"source_file": "a.txt", "source_sha256": "ab", "run_id": "R1", "reader": "quantstudio", "omitted": False}
    return complete(pd.DataFrame([{**common, "source_row": i + 2, **more, **r} for i, r in enumerate(rows)]), RAW)


def manifest(*names: str, **more: object) -> pd.DataFrame:
    rows = [{"sample_id": s, "patient_id": "001", "ng_input": 200.0, **more} for s in names]
    return complete(pd.DataFrame(rows), SAMPLES)


def plate(*wells: dict[str, object], shifts: dict[int, float] | None = None, ntc: tuple = (None,)) -> pd.DataFrame:
    """Six calibrator levels in duplicate on the curve, the Ct of a level shifted where asked."""
    standards = [
        well("STD", "standard", ct_of(10.0**k) + (shifts or {}).get(k, 0.0), 10.0**k, well=f"A{2 * k + j}")
        for k in range(1, 7)
        for j in range(2)
    ]
    return raw_frame([*standards, *(well("NTC", "ntc", ct) for ct in ntc), *wells])


def replicates(sample: str, *ct: float | None) -> list[dict[str, object]]:
    return [well(sample, "unknown", c) for c in ct]


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "tests" / "data" / "small", tmp_path / "study")
    return tmp_path / "study"


def chosen(folder: Path, **of_section: dict[str, object]) -> Settings:
    """The study's settings with other values in sections."""
    loaded = settings.load(folder / "config" / "config.yaml")
    for name, values in of_section.items():
        loaded = loaded.model_copy(update={name: getattr(loaded, name).model_copy(update=values)})
    return loaded


# ------------------------------------------------------------------------------------------------------------- runs.csv


def test_a_qpcr_run_says_the_value_of_every_criterion():
    # Two controls amplify at Ct 37 and 36; CVs of the samples: (90, 100, 110) 10 %, (60, 100, 140) 40 %.
    wells = [ct_of(n) for n in (90.0, 100.0, 110.0)], [ct_of(n) for n in (60.0, 100.0, 140.0)]
    raw = plate(*replicates("S1", *wells[0]), *replicates("S2", *wells[1]), ntc=(None, 37.0, 36.0))
    run = qpcr.quantify(raw, manifest("S1", "S2"), Qpcr(lod_copies=10)).runs.iloc[0]
    assert run["worst_deviation_pct"] == pytest.approx(0, abs=1e-9) and run["share_within_pct"] == 100
    assert (run["lowest_calibrator"], run["highest_calibrator"]) == (10, 1e6)
    assert (run["n_ntc"], run["n_ntc_detected"], run["ntc_lowest_ct"]) == (3, 2, 36.0)
    assert run["ntc_most_copies"] == pytest.approx(10 ** ((36 - INTERCEPT) / SLOPE)) and run["ntc_ok"]
    assert (run["n_cv"], run["n_cv_above"]) == (2, 1)
    assert run["cv_median_pct"] == pytest.approx(25) and run["cv_worst_pct"] == pytest.approx(40)
    assert (run["n_wells"], run["n_wells_used"]) == (21, 21) and pd.isna(run["n_outliers"])


def test_the_worst_deviation_is_that_of_the_level_farthest_from_its_copies_with_its_sign():
    raw = plate(*replicates("S1", 30, 30, 30), shifts={3: 1.0})
    made = qpcr.quantify(raw, manifest("S1"), Qpcr())
    run = made.runs.iloc[0]
    x = np.repeat(np.arange(1, 7), 2).astype(float)
    y = INTERCEPT + SLOPE * x + np.where(np.isclose(x, 3), 1.0, 0.0)
    slope, intercept = np.polyfit(x, y, 1)
    read = 10 ** ((INTERCEPT + SLOPE * 3 + 1 - intercept) / slope)
    assert run["worst_deviation_pct"] == pytest.approx(100 * (read / 1000 - 1)) and run["worst_deviation_pct"] < -25
    assert run["share_within_pct"] == pytest.approx(100 * run["n_levels_within"] / 6)


def test_samples_below_the_lloq_do_not_count_among_the_replicates_of_a_run():
    raw = plate(*replicates("S1", *(ct_of(n) for n in (2.0, 6.0, 8.0))))
    run = qpcr.quantify(raw, manifest("S1"), Qpcr()).runs.iloc[0]
    assert run["n_cv"] == 0 and math.isnan(run["cv_median_pct"])


def test_a_digital_run_says_its_wells_partitions_and_controls():
    def drops(sample: str, k: int, n: int, role: str = "unknown") -> dict[str, object]:
        more = {"sample_id": sample, "role": role, "target": "CAR", "measure": "partitions", "detection": "quantified"}
        return {**more, "n_positive": k, "n_partitions": n}

    wells = [drops("S1", 500, 20000), drops("S1", 450, 15000), drops("S2", 9, 9000), drops("NTC", 1, 16000, "ntc")]
    raw = raw_frame(wells, reader="qx_manager")
    run = dpcr.quantify(raw, manifest("S1", "S2"), Ddpcr()).runs.iloc[0]
    assert (run["n_wells"], run["n_wells_used"], run["partitions_lowest"]) == (4, 3, 9000)
    assert run["partitions_median"] == 16000 and run["partition_nl"] == 0.85
    # One positive of 16,000: -ln(1 - 1/16000) / 0.85 nL * 20 uL.
    assert run["n_ntc_detected"] == 1
    assert run["ntc_most_copies"] == pytest.approx(-math.log(1 - 1 / 16000) / 0.85 * 1000 * 20)


def test_a_flow_run_says_its_tubes_and_lowest_denominator():
    def events(sample: str, target: str, n: float) -> dict[str, object]:
        return {"sample_id": sample, "role": "unknown", "target": target, "measure": "events", "value": n}

    rows = [events("S1", "L/CAR+", 60), events("S1", "L", 9000), events("S2", "L/CAR+", 80), events("S2", "L", 500)]
    chosen_gates = Flow(gate_pattern="CAR", denominator_pattern="^L$")
    run = flow.quantify(raw_frame(rows, reader="x"), manifest("S1", "S2", alc_1e9_l=1.0), chosen_gates).runs.iloc[0]
    assert (run["n_wells"], run["n_wells_used"]) == (2, 2)
    assert (run["denominator_lowest"], run["denominator_median"]) == (500, 4750)


# ------------------------------------------------------------------------------------------------------ calibrators.csv


def test_every_standard_reads_back_and_every_control_stands_beside_it():
    raw = plate(*replicates("S1", 30, 30, 30), ntc=(None, 39.0), shifts={1: 0.4})
    made = qpcr.quantify(raw, manifest("S1"), Qpcr())
    rows, run = made.calibrators, made.runs.iloc[0]
    assert rows["role"].value_counts().to_dict() == {"standard": 12, "ntc": 2} and rows["used"].all()
    back = 10 ** ((rows["ct"] - run["intercept"]) / run["slope"])
    assert rows["back_calculated"].tolist() == pytest.approx(back.tolist(), nan_ok=True)
    standards = rows[rows["role"] == "standard"]
    deviation = 100 * (standards["back_calculated"] / standards["quantity"] - 1)
    assert standards["deviation_pct"].tolist() == pytest.approx(deviation.tolist())
    assert standards["level_deviation_pct"].abs().max() == pytest.approx(abs(run["worst_deviation_pct"]))
    assert standards["limit_pct"].tolist() == [30.0] * 2 + [25.0] * 10
    assert standards["well"].tolist()[:2] == ["A2", "A3"] and standards["source_row"].tolist()[:2] == [2, 3]


def test_standards_that_are_not_on_the_curve_stand_there_with_the_reason():
    lost = [well("STD", "standard", None, 10.0), well("STD", "standard", 30.0, 0.0)]
    rows = qpcr.quantify(plate(*lost, *replicates("S1", 30, 30)), manifest("S1"), Qpcr()).calibrators
    left_out = rows[~rows["used"].astype(bool)]
    assert sorted(left_out["reason"]) == ["standard without a Ct", "standard without a positive quantity"]
    assert left_out["deviation_pct"].isna().all()


def test_a_standard_that_the_operator_omitted_is_in_the_file_and_not_on_the_curve(study: Path):
    path = study / "data" / "raw" / "run01.txt"
    lines = path.read_text().splitlines(keepends=True)
    head = next(i for i, line in enumerate(lines) if line.startswith("Well\tWell Position\tOmit"))
    at = next(i for i in range(head, len(lines)) if "\tSTANDARD\t" in lines[i])
    cells = lines[at].split("\t")
    cells[2] = "true"
    lines[at] = "\t".join(cells)
    path.write_text("".join(lines))
    made = ingest.run(chosen(study), study)
    omitted = made.calibrators[~made.calibrators["used"].astype(bool)]
    assert omitted["source_row"].tolist() == [at + 1] and omitted["ct"].notna().all()
    assert omitted["reason"].tolist() == ["omitted by the operator in the instrument software"]
    assert made.runs["n_standards"].iloc[0] == len(made.calibrators.query("role == 'standard'")) - 1


def test_the_file_of_calibrators_is_written_and_read_back(study: Path, tmp_path: Path):
    made = ingest.run(chosen(study), study)
    ingest.write(made, tmp_path / "out")
    back = read_table(tmp_path / "out" / "calibrators.csv", CALIBRATORS)
    assert len(back) == len(made.calibrators) > 0
    pd.testing.assert_frame_equal(back, made.calibrators, rtol=1e-9)


def test_check_prints_the_values_that_a_run_is_judged_by(root: Path):
    text = ingest.check(settings.load(root / "config" / "config.yaml"), root).text
    runs = ingest.run(settings.load(root / "config" / "config.yaml"), root).runs
    row = runs[(runs["assay"] == "qpcr") & ~runs["accepted"].astype(bool)].iloc[0]
    assert f"slope {row['slope']:.3f}, R2 {row['r_squared']:.4f}" in text
    assert re.search(r"replicate CV: median \d+\.\d %, largest \d+\.\d %, \d+ of \d+ samples above the limit", text)
    assert "accepted partitions: median" in text and "events in the denominator gate: median" in text
    assert "None" not in text and "nan" not in text


# ------------------------------------------------------------------------------------------------------------- outliers


@pytest.mark.parametrize(
    ("ct", "found"),
    [
        ((28.0, 28.2, 30.0), 2),
        ((26.0, 28.0, 28.2), 0),
        ((28.0, 28.4, 28.2), None),  # all agree
        ((28.0, 29.0, 30.0), None),  # no two agree: nobody can say which is wrong
        ((28.0, 28.5, 29.0), None),  # at the limit is within
        ((28.0, 30.0), None),
        ((28.0, 28.0, 28.0, 33.0), None),
    ],
)
def test_an_outlier_is_the_one_of_three_that_departs_while_the_others_agree(ct: tuple[float, ...], found: int | None):
    assert qpcr.outlier(np.array(ct), 0.5) == found


def with_outlier(limit: float | None):
    raw = plate(*replicates("S1", ct_of(100), ct_of(100), ct_of(100) + 2))
    accept = Qpcr().acceptance.model_copy(update={"replicate_outlier_ct": limit})
    return raw, qpcr.quantify(raw, manifest("S1"), Qpcr(acceptance=accept))


def test_outliers_are_left_alone_by_default():
    raw, made = with_outlier(Qpcr().acceptance.replicate_outlier_ct)
    assert made.levels["status"].item() == "failed" and "replicate CV" in made.levels["exclusion_reason"].item()
    assert not made.set_aside and len(raw) == 16


def test_a_configured_outlier_is_set_aside_with_its_reason_and_the_level_is_that_of_the_others():
    raw, made = with_outlier(0.5)
    row = made.levels.iloc[0]
    assert row["status"] == "quantified" and row["level"] == pytest.approx(100 / 200 * 1000)
    assert (row["n_replicates"], row["n_molecules"]) == (2, pytest.approx(200))
    (label,) = made.set_aside
    assert raw.at[label, "value"] == pytest.approx(ct_of(100) + 2)
    assert made.set_aside[label].startswith("outlier: Ct 33.36 departs 2.00 from the median 31.36 of 3 replicates")
    assert made.runs["n_outliers"].item() == 1 and made.runs["n_wells_used"].item() == 15
    assert any("1 replicate set aside as outlier" in w for w in made.warnings)
    assert len(made.sources.query("role == 'replicate'")) == 2


def test_two_detected_replicates_beside_an_undetected_one_are_no_case_for_the_outlier_rule():
    accept = Qpcr().acceptance.model_copy(update={"replicate_outlier_ct": 0.5})
    raw = plate(*replicates("S1", ct_of(100), ct_of(100) + 2, None))
    assert not qpcr.quantify(raw, manifest("S1"), Qpcr(acceptance=accept)).set_aside


# --------------------------------------------------------------------------------------------------------- derived rows


def level_row(sample: str, status: str = "quantified", **more: object) -> dict[str, object]:
    level = 50_000.0 if status == "quantified" else math.nan
    key = {"assay": "qpcr", "run_id": "R1", "sample_id": sample, "analyte": "CAR", "level_unit": "copies/ug"}
    return {**key, "level": level, "lod": 15.0, "lloq": 50.0, "uloq": 5e6, "status": status, **more}


def derive(rows: list[dict[str, object]], wbc: float = 4.0, **more: object) -> pd.DataFrame:
    section = Qpcr(**{"derived_cells": {"vcn": 2.0}, **more})
    samples = manifest(*(str(r["sample_id"]) for r in rows), wbc_1e9_l=wbc)
    return derived.derived_cells(complete(pd.DataFrame(rows), LEVELS), samples, section)


def test_derived_cells_are_copies_per_genome_over_vcn_times_the_white_count():
    # 50,000 copies/ug x 6.6e-6 ug a cell = 0.33 copies a cell; / 2 = 0.165 CAR+ cells a cell; x 4000 cells/uL = 660.
    row = derive([level_row("S1")]).iloc[0]
    assert row["level"] == pytest.approx(660) and row["level_unit"] == "cells/uL"
    assert (row["lod"], row["lloq"], row["uloq"]) == pytest.approx((0.198, 0.66, 66_000))
    assert row["assay"] == "qpcr_cells" and "derived from qPCR" in row["analyte"] and "VCN 2" in row["analyte"]


def test_derived_cells_scale_with_the_white_count_and_against_the_vcn():
    base = derive([level_row("S1")])["level"].item()
    assert derive([level_row("S1")], wbc=8.0)["level"].item() == pytest.approx(2 * base)
    assert derive([level_row("S1")], derived_cells={"vcn": 4.0})["level"].item() == pytest.approx(base / 2)
    per_cell = level_row("S1", level=0.33, level_unit="copies/cell")
    assert derive([per_cell], level_unit="copies/cell")["level"].item() == pytest.approx(base)


def test_a_derived_row_keeps_the_status_of_its_reaction_and_says_what_it_lacks():
    rows = [level_row("S1", "blq"), level_row("S2", "failed", exclusion_reason="run not accepted: slope")]
    made = derive(rows).set_index("sample_id")
    assert made.loc["S1", "status"] == "blq" and made.loc["S1", "lloq"] == pytest.approx(0.66)
    assert made.loc["S2", "exclusion_reason"] == "run not accepted: slope"
    for wbc in (math.nan, 0.0):
        row = derive([level_row("S1")], wbc=wbc).iloc[0]
        assert row["status"] == "not_done" and math.isnan(row["level"]) and math.isnan(row["lloq"])
        assert row["exclusion_reason"] == "no cells derived: the sample has no white blood count (wbc_1e9_l)"
    other = derive([level_row("S1", level_unit="copies/mL")]).iloc[0]
    assert other["exclusion_reason"] == "no cells derived from a level in copies/mL"


def test_levels_in_copies_per_ml_have_no_derived_cells():
    with pytest.raises(ValueError, match="needs levels in copies/ug or copies/cell"):
        Qpcr(level_unit="copies/mL", derived_cells={"vcn": 2.0})


def test_derived_rows_come_only_where_configured_with_the_wells_of_their_level(study: Path):
    plain = ingest.run(chosen(study), study)
    assert set(plain.observations["assay"]) == {"qpcr"}
    path = study / "config" / "samples.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text(
        "\n".join(",".join([*cells, "wbc_1e9_l" if i == 0 else "3" if cells[0] == "S02" else ""])
                  for i, cells in enumerate(lines)) + "\n"
    )  # fmt: skip
    loaded = chosen(study)
    section = loaded.assays.qpcr.model_copy(update={"derived_cells": settings.DerivedCells(vcn=2.5)})
    made = ingest.run(chosen(study, assays={"qpcr": section}), study)
    rows = made.observations[made.observations["assay"] == "qpcr_cells"].set_index("sample_id")
    # 5000 copies/ug x 6.6e-6 / 2.5 x 3000.
    assert rows.loc["S02", "level"] == pytest.approx(39.6) and rows.loc["S02", "reportable"]
    assert rows.loc["S03", "status"] == "not_done" and not rows.loc["S03", "reportable"]
    assert set(made.observations["patient_id"]) == set(rows["patient_id"])
    ids = made.observations.set_index(["assay", "sample_id"])["observation_id"]
    wells = {
        a: made.observation_sources.query(f"observation_id == '{ids[a, 'S02']}'")[["source_row", "role"]]
        .to_numpy()
        .tolist()
        for a in ("qpcr", "qpcr_cells")
    }
    assert wells["qpcr"] == wells["qpcr_cells"] and len(wells["qpcr"]) > 12
    ours = made.observations[made.observations["assay"] == "qpcr"].reset_index(drop=True)
    columns = [c for c in ours.columns if c != "wbc_1e9_l"]
    pd.testing.assert_frame_equal(ours[columns], plain.observations[columns])


# -------------------------------------------------------------------------------------------------------- visit windows


def test_a_sample_outside_its_window_is_flagged_and_kept(study: Path):
    # S02 was planned for day 1 and taken then; S03 for day 3, taken at 71 hours (the clocks were set forward).
    assert (ingest.run(chosen(study), study).observations["time_flag"] == "").sum() > 0
    made = ingest.run(chosen(study, study={"visit_window_h": 0.5}), study)
    rows = made.observations.set_index("sample_id")
    assert rows.loc["S03", "time_flag"] == "outside the visit window (planned day 3.00, actual 2.96, allowed ±0.02 d)"
    assert rows.loc["S03", "reportable"] and rows.loc["S02", "time_flag"] == ""
    # Known by its planned time only: there is nothing to compare.
    assert rows.loc["S04", "time_flag"] == "nominal time used"
    assert any("1 sample was taken outside the visit window, and kept: S03" in w for w in made.warnings)
    wide = ingest.run(chosen(study, study={"visit_window_h": 0.5, "visit_window_share": 0.05}), study)
    assert wide.observations.set_index("sample_id").loc["S03", "time_flag"] == ""


def test_by_default_there_is_no_window_and_an_unscheduled_sample_has_none():
    assert observations.VisitWindow().flag(7, 400) == "" == observations.VisitWindow(1).flag(math.nan, 3)
    assert settings.Study().visit_window_h is None and settings.Study().visit_window_share is None


# ---------------------------------------------------------------------------------------------------------------- dates


def test_a_date_whose_day_and_month_could_change_places_is_refused_unless_the_configuration_says(study: Path):
    path = study / "config" / "samples.csv"
    path.write_text(path.read_text().replace("2026-03-28T10:00", "28/03/2026 10:00"))
    with pytest.raises(InputError, match=r"can be read as day and month or as month and day; study\.date_order says"):
        inputs.read_study(chosen(study), study)
    told = inputs.read_study(chosen(study, study={"date_order": "dmy"}), study)
    assert told.samples.set_index("sample_id")["time_actual"]["S02"] == pytest.approx(1.0)
    assert told.samples.set_index("sample_id")["collected_at"]["S02"] == "2026-03-28T10:00"


def test_a_day_that_the_order_does_not_have_is_one_problem_not_a_guess(study: Path):
    path = study / "config" / "samples.csv"
    path.write_text(path.read_text().replace("2026-03-28T10:00", "28/03/2026 10:00"))
    with pytest.raises(InputError) as error:
        inputs.read_study(chosen(study, study={"date_order": "mdy"}), study)
    assert len(error.value.problems) == 1 and "a day that exists in the order mdy" in str(error.value)


@pytest.mark.parametrize(
    ("text", "order", "made"),
    [
        ("05/06/2026", "dmy", "2026-06-05"),
        ("5.6.2026 9:30", "dmy", "2026-06-05T09:30"),
        ("05-06-2026T09:30:15", "mdy", "2026-05-06T09:30:15"),
        ("2026-06-05T09:30", "mdy", "2026-06-05T09:30"),
        ("05/06-2026", "dmy", "05/06-2026"),
        ("05/06/26", "dmy", "05/06/26"),
        ("05/06/2026", None, "05/06/2026"),
    ],
)
def test_only_a_date_in_the_order_said_is_rewritten(text: str, order: str | None, made: str):
    assert inputs.iso_date(text, order) == made


# ------------------------------------------------------------------------------------------------------------ run dates


def assembled(runs: list[str], dates: dict[str, str]) -> dict[str, bool]:
    patients = complete(pd.DataFrame({"patient_id": ["001"], "dose_level": "DL1"}), PATIENTS)
    infusion = {"patient_id": ["001"], "infusion": 1, "time": 0.0, "planned": 2e9, "given": 2e9}
    of = inputs.Study(
        patients, empty(SAMPLES), complete(pd.DataFrame(infusion), INFUSIONS), empty(CYTOKINES), empty(EVENTS)
    )
    key = {"patient_id": "001", "assay": "qpcr", "specimen": "blood", "sample_id": "S1", "time_actual": 1.0}
    rows = [{**key, "run_id": r, "level": 5.0, "lloq": 1.0, "status": "quantified"} for r in runs]
    made = observations.assemble(pd.DataFrame(rows), of, {"qpcr": ("CAR", "copies/ug")}, run_dates=dates)
    return {str(k): bool(v) for k, v in made.set_index("run_id")["reportable"].items()}


def test_of_two_runs_that_are_dated_the_later_one_is_reported_whatever_their_names():
    dates = {"runB": "2026-03-01T09:00:00", "runA": "2026-03-02T09:00:00"}
    assert assembled(["runA", "runB"], dates) == {"runA": True, "runB": False}


def test_where_one_run_has_no_date_the_names_decide():
    assert assembled(["runA", "runB"], {"runA": "2026-03-02T09:00:00"}) == {"runA": False, "runB": True}


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("2019-04-25 14:32:33 PM PDT", "2019-04-25T14:32:33"),
        ("2001-12-31 09:09:19 PM EST", "2001-12-31T21:09:19"),
        ("2010-10-21 00:51:26 AM EDT", "2010-10-21T00:51:26"),
        ("2010-10-21 12:51:26 AM EDT", "2010-10-21T00:51:26"),
        ("2026-07-16 16:41:07", "2026-07-16T16:41:07"),
        ("2026-02-30 16:41:07", ""),
        ("04/05/2019 10:26 AM", ""),
        ("Not Started", ""),
        ("", ""),
    ],
)
def test_the_end_of_a_run_is_read_from_the_header_or_not_at_all(text: str, ended: str):
    assert run_end(text) == ended


@pytest.mark.shared
def test_a_real_export_tells_when_its_run_ended_and_nothing_else_of_its_header(shared: Path):
    path = shared / "exports" / "quantstudio" / "auto-qpcr" / "2019-04-25_135946-KCNJ6.csv"
    raw, _ = readers.read_exports([path], path.parent, Settings())
    assert set(raw["run_date"]) == {"2019-04-25T14:32:33"}


def test_the_runs_of_the_bundled_study_are_dated_where_the_export_tells(root: Path):
    runs = ingest.run(settings.load(root / "config" / "config.yaml"), root).runs
    dated = runs.groupby("assay")["run_date"].agg(lambda d: (d != "").all())
    assert dated.to_dict() == {"ddpcr": False, "flow": False, "qpcr": True}
    text = next((root / "data" / "raw" / "qpcr").glob("*Q01.txt")).read_text()
    ended = re.search(r"Experiment Run End Time = (\S+) (\S+)", text)
    assert runs.loc[runs["run_id"].str.endswith("Q01"), "run_date"].iloc[0] == f"{ended[1]}T{ended[2]}"


# --------------------------------------------------------------------------------------------------------------- figure


@pytest.fixture(scope="module")
def drawn(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """The figure of the bundled study, its axes and what it says."""
    loaded = settings.load(root / "config" / "config.yaml")
    folder = tmp_path_factory.mktemp("results")
    made = ingest.run(loaded, root)
    ingest.write(made, folder)
    svg, said, figure = figures.made("run_curves", Results(folder), Context(loaded, "0.1.0"))
    return made, svg, json.loads(said), figure


def test_every_curve_is_drawn_with_its_verdict_in_words(drawn):
    made, svg, said, figure = drawn
    runs = made.runs[made.runs["assay"] == "qpcr"]
    assert len(figure.axes) == 3 * len(runs)
    assert svg.count("REFUSED") >= int((~runs["accepted"].astype(bool)).sum()) > 0
    for run in runs.itertuples():
        assert f"{run.run_id} · {run.target}" in said["alt"]
        assert run.accepted or run.reason.replace("-", "−").split(" (")[0] in svg.replace("\n", " ")


def test_the_panels_hold_the_wells_of_the_run_and_mark_what_is_outside(drawn):
    made, _, _, figure = drawn
    first = made.runs[made.runs["assay"] == "qpcr"].iloc[0]
    wells = made.calibrators.query(f"run_id == '{first['run_id']}' and target == '{first['target']}'")
    standards = wells[wells["role"] == "standard"]
    # Four blocks in a row of the figure, strip by strip.
    curve, spread = figure.axes[0], figure.axes[8]
    points = [line for line in curve.get_lines() if line.get_marker() == "o"]
    assert sorted(points[0].get_ydata()) == pytest.approx(sorted(standards["ct"]))
    squares = [line for line in curve.get_lines() if line.get_marker() == "s" and len(line.get_xdata())]
    assert sum(len(line.get_xdata()) for line in squares) == int((wells["role"] == "ntc").sum())
    marked = [line for line in spread.get_lines() if line.get_marker() == "X"]
    assert sum(len(line.get_xdata()) for line in marked) == first["n_cv_above"] == 1
    plain = [line for line in spread.get_lines() if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in plain) == first["n_cv"] - first["n_cv_above"]


def test_with_very_many_curves_the_refused_ones_are_drawn_and_the_others_counted(
    results_small, context_small, tmp_path
):
    shutil.copytree(results_small, tmp_path / "r")
    runs = read_table(tmp_path / "r" / "runs.csv", RUNS)
    wells = read_table(tmp_path / "r" / "calibrators.csv", CALIBRATORS)
    base, own = runs[runs["run_id"] == "plate_1"], wells[wells["run_id"] == "plate_1"]
    more = [f"copy_{i:02d}" for i in range(30)]
    write_table(pd.concat([runs, *(base.assign(run_id=r) for r in more)]), tmp_path / "r" / "runs.csv", RUNS)
    write_table(
        pd.concat([wells, *(own.assign(run_id=r) for r in more)]),
        tmp_path / "r" / "calibrators.csv",
        CALIBRATORS,
    )
    svg, said, _ = figures.made("run_curves", Results(tmp_path / "r"), context_small)
    assert "24 of 33 curves are drawn" in " ".join(json.loads(said)["footnotes"])
    assert "plate_3 · CAR" in svg and "REFUSED" in svg and "plate_2 · CAR" in svg and "copy_29" not in svg


def test_a_run_without_a_curve_says_so_in_its_panel(results_small, context_small, tmp_path):
    raw = raw_frame([well("STD", "standard", 30.0, 1000.0), well("NTC", "ntc", None), *replicates("S1", 30.0, 30.1)])
    made = qpcr.quantify(raw, manifest("S1"), Qpcr())
    shutil.copytree(results_small, tmp_path / "r")
    write_table(made.runs, tmp_path / "r" / "runs.csv", RUNS)
    write_table(made.calibrators, tmp_path / "r" / "calibrators.csv", CALIBRATORS)
    svg, said, _ = figures.made("run_curves", Results(tmp_path / "r"), context_small)
    assert "no standard curve" in svg and "nothing to read back" in svg and "REFUSED" in json.loads(said)["alt"]


def test_the_figure_stands_with_the_runs_in_the_report_and_not_among_the_kinetics(results_small, context_small):
    page = report.build(results_small, context_small.settings, "0.1.0")
    quality = page[page.index('<section id="quality">') : page.index('<section id="methods"')]
    assert 'id="F-CK-16"' in quality and page.count('id="F-CK-16"') == 1
    assert discover("figures")["run_curves"].number == "16" and _style.WIDTH
