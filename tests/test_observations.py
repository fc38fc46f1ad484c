"""Who, when, how much, and whether it is analysed: one reportable result per sample, a reason for every other."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pandas as pd
import pytest
from nkinetics import inputs, observations
from nkinetics.columns import CYTOKINES, EVENTS, INFUSIONS, OBSERVATIONS, PATIENTS, SAMPLES
from nkinetics.errors import InputError
from nkinetics.store import complete, empty, write_table

ASSAYS = {"qpcr": ("CAR transgene", "copies/ug")}


def study(
    starts: tuple[float, ...] = (0, 3, 6), events: tuple[tuple, ...] = (), patients: tuple[str, ...] = ("001",), **more
):
    return inputs.Study(
        complete(pd.DataFrame({"patient_id": list(patients), "dose_level": "DL1"}), PATIENTS),
        empty(SAMPLES),
        complete(
            pd.DataFrame(
                [
                    {"patient_id": p, "infusion": i, "time": t, "planned": 2e9, "given": 2e9}
                    for p in patients
                    for i, t in enumerate(starts, start=1)
                ]
            ),
            INFUSIONS,
        ),
        empty(CYTOKINES),
        complete(pd.DataFrame(list(events), columns=["patient_id", "event", "time"]), EVENTS)
        if events
        else empty(EVENTS),
        **more,
    )


def level(sample: str, time: float, run: str = "R1", status: str = "quantified", **more: object) -> dict[str, object]:
    return {
        "patient_id": "001",
        "assay": "qpcr",
        "specimen": "blood",
        "sample_id": sample,
        "run_id": run,
        "time_actual": time,
        "level": 500.0 if status == "quantified" else math.nan,
        "lloq": 50.0,
        "level_unit": "copies/ug",
        "status": status,
        **more,
    }


def assembled(*rows: dict[str, object], of: inputs.Study | None = None, **more: object) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=None if rows else OBSERVATIONS.names)
    return observations.assemble(frame, of or study(), ASSAYS, **more)


# ------------------------------------------------------------------------------------------------------------- the time


@pytest.mark.parametrize(
    ("time", "visit", "infusion", "after", "predose"),
    [
        (-1.0, "Screening", 0, math.nan, True),
        (0.0, "Day 1 pre-dose", 0, math.nan, True),
        (0.0, "", 0, math.nan, True),
        (0.06, "Day 1 2 h", 1, 0.06, False),
        (3.0, "Day 4 pre-infusion", 1, 3.0, True),
        (3.0, "Day 4", 2, 0.0, False),
        (2.9, "Day 4", 1, 2.9, True),
        (2.5, "Day 3", 1, 2.5, False),
        (2.5, "Day 4 predose", 1, 2.5, True),
        (9.0, "Day 10 before IL-2", 3, 3.0, False),
    ],
)
def test_infusion_and_pre_dose_of_a_single_sample(time, visit, infusion, after, predose):
    numbers, since, before = observations.phase([time], [visit], [0, 3, 6])
    assert (numbers[0], before[0]) == (infusion, predose)
    assert since[0] == pytest.approx(after, nan_ok=True)


def test_only_the_sample_nearest_to_an_infusion_is_its_pre_dose_sample():
    _, _, before = observations.phase([2.88, 2.95, 5.0, 5.9], ["", "", "Day 6 predose", ""], [0, 3, 6])
    assert before == [False, True, False, True]


def test_shifting_every_time_shifts_nothing_else():
    time, starts = [0.1, 2.9, 3.0, 3.2, 7], [0.0, 3, 6]
    one = observations.phase(time, [""] * 5, starts)
    # The first start stays at 0 by definition: stretch instead of shifting.
    two = observations.phase([2 * t for t in time], [""] * 5, [2 * s for s in starts])
    assert one[0] == two[0] and one[2] == two[2]
    assert [2 * t for t in one[1]] == pytest.approx(two[1])


def test_a_pre_dose_sample_known_by_its_nominal_time_cannot_lie_after_an_early_infusion():
    flagged = level("S1", 3.0, visit="Day 4 pre-dose", time_flag=inputs.NOMINAL_USED)
    row = assembled(flagged, of=study(starts=(0, 2.96, 6))).iloc[0]
    assert row["time_actual"] == pytest.approx(2.96) and row["infusion"] == 1 and row["predose"]
    assert row["time_flag"] == "nominal time used, moved to the start of infusion 2 because the visit is pre-dose"


# ---------------------------------------------------------------------------------------------------------- reportable


def test_the_identifier_of_an_observation_is_the_hash_of_its_key():
    row = assembled(level("S1", 1.0)).iloc[0]
    assert row["observation_id"] == hashlib.sha256(b"001|qpcr|blood|S1|R1").hexdigest()[:16]


def test_of_several_accepted_runs_the_latest_is_reported_numbers_in_names_counted_as_numbers():
    made = assembled(*(level("S1", 1.0, run) for run in ("run2", "run10", "run9"))).set_index("run_id")
    assert made["reportable"].to_dict() == {"run2": False, "run9": False, "run10": True}
    assert made.loc["run2", "exclusion_reason"] == "re-assayed on run run10, which is reported"


def test_an_accepted_run_goes_before_a_later_failed_one():
    failed = level("S1", 1.0, "R2", "failed", exclusion_reason="run not accepted: slope")
    made = assembled(level("S1", 1.0, "R1"), failed).set_index("run_id")
    assert made["reportable"].to_dict() == {"R1": True, "R2": False}
    assert made.loc["R2", "exclusion_reason"] == "run not accepted: slope; re-assayed on run R1, which is reported"


def test_a_sample_that_failed_everywhere_has_no_reportable_result():
    made = assembled(
        level("S1", 1.0, "R1", "failed", exclusion_reason="a"), level("S1", 1.0, "R2", "failed", exclusion_reason="b")
    )
    assert not made["reportable"].any() and sorted(made["exclusion_reason"]) == ["a", "b"]


def test_two_samples_at_one_time_are_two_observations():
    assert assembled(level("S1", 1.0), level("S2", 1.0))["reportable"].all()


def test_the_same_sample_in_two_assays_is_reported_in_both():
    assert assembled(level("S1", 1.0), level("S1", 1.0, assay="ddpcr"))["reportable"].all()


def test_samples_after_subsequent_therapy_are_left_out_unless_configured():
    later = study(events=(("001", "therapy", 20.0), ("001", "tocilizumab", 2.0)))
    rows = level("S1", 10.0), level("S2", 20.5)
    made = assembled(*rows, of=later).set_index("sample_id")
    assert made["reportable"].to_dict() == {"S1": True, "S2": False}
    assert made.loc["S2", "exclusion_reason"] == "after_subsequent_therapy"
    assert assembled(*rows, of=later, keep_after_therapy=True)["reportable"].all()


def test_samples_after_the_data_cut_are_left_out():
    made = assembled(level("S1", 10.0), level("S2", 20.5), of=study(data_cut={"001": 15.0}), data_cut="2026-10-31")
    assert made.set_index("sample_id")["exclusion_reason"].to_dict() == {
        "S1": "",
        "S2": "after the data cut 2026-10-31",
    }


def test_a_patient_without_samples_stands_in_the_table_once_per_assay():
    assays = {**ASSAYS, "flow": ("CAR+ NK cells", "cells/uL")}
    of = study(patients=("001", "002"))
    made = observations.assemble(pd.DataFrame([level("S1", 1.0)]), of, assays)
    blank = made[made["patient_id"] == "002"]
    assert blank["assay"].tolist() == ["flow", "qpcr"] and set(blank["status"]) == {"not_done"}
    assert set(blank["exclusion_reason"]) == {"no sample of this patient in the manifest"}
    assert blank["time_actual"].isna().all() and not blank["reportable"].any()


def test_a_study_without_any_level_still_has_its_patients():
    assert assembled()["patient_id"].tolist() == ["001"]


def test_every_row_that_is_not_reportable_has_a_reason_and_no_other_has():
    rows = [
        level("S1", 1.0),
        level("S2", math.nan),
        level("S3", 2.0, status="not_done"),
        level("S4", 3.0, status="blq"),
    ]
    made = assembled(*rows)
    assert ((made["exclusion_reason"] == "") == made["reportable"].astype(bool)).all()
    assert made.set_index("sample_id")["reportable"].to_dict() == {"S1": True, "S2": False, "S3": False, "S4": True}


# ------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_depends_on_the_patient_and_the_study_only():
    ids = [f"P{i:03d}" for i in range(400)]
    batches = [observations.batch_of(p, "STUDY", 8) for p in ids]
    assert set(batches) == {f"{i:02d}" for i in range(8)}
    assert min(batches.count(b) for b in set(batches)) > 25
    assert batches[0] == f"{int(hashlib.sha256(b'STUDY|P000').hexdigest(), 16) % 8:02d}"


# --------------------------------------------------------------------------------------------------- files of the user


def test_five_columns_are_enough_and_the_defaults_are_those_documented(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "patient_id,time_actual,level,status,lloq\n007,-1,,not_detected,50\n007,1,500,quantified,50\n007,2,20,quantified,50\n007,9,,blq,50\n"
    )
    made = observations.load(path)
    assert made["patient_id"].tolist() == ["007"] * 4
    for column, value in {"assay": "qpcr", "level_unit": "copies/ug", "specimen": "blood", "dose_level": "all"}.items():
        assert set(made[column]) == {value}
    assert made["status"].tolist() == ["not_detected", "quantified", "blq", "blq"]
    assert made["level"].tolist() == pytest.approx([math.nan, 500, math.nan, math.nan], nan_ok=True)
    assert made["reportable"].all() and made["observation_id"].is_unique
    assert made["sample_id"].tolist() == ["row2", "row3", "row4", "row5"]
    assert made["infusion"].tolist() == [0, 1, 1, 1] and made["predose"].tolist() == [True, False, False, False]


def test_a_user_file_follows_the_infusions_given_with_it(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("patient_id,time_actual,level,status,lloq\n1,1,500,quantified,50\n1,4,500,quantified,50\n")
    (tmp_path / "i.csv").write_text("patient_id,infusion,time,planned\n1,1,0,1e9\n1,2,3,1e9\n")
    made = observations.load(path, inputs.load_infusions(tmp_path / "i.csv"))
    assert made["infusion"].tolist() == [1, 2] and made["time_after_dose"].tolist() == [1, 1]


def test_rows_that_are_not_measured_are_not_reportable(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "patient_id,time_actual,level,status,lloq,reportable\n1,1,500,quantified,50,false\n1,2,,failed,50,\n1,,,not_done,,\n"
    )
    made = observations.load(path).sort_values("status")
    assert not made["reportable"].any()
    assert made["exclusion_reason"].tolist() == ["status failed", "status not_done", "not reportable in the file"]


def test_all_problems_of_a_user_file_stand_in_one_message(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "patient_id,time_actual,level,status,lloq\n"
        "../x,1,500,quantified,50\n1,one,500,quantified,50\n1,2,,quantified,50\n1,3,-2,quantified,50\n1,,500,quantified,50\n"
        "1,5,,not_detected,\n1,6,,above_uloq,50\n"
    )
    with pytest.raises(InputError) as caught:
        observations.load(path)
    cells = [(p.row, p.column) for p in caught.value.problems]
    assert cells == [
        (2, "patient_id"),
        (3, "time_actual"),
        (4, "level"),
        (5, "level"),
        (6, "time_actual"),
        (7, "lloq"),
        (8, "uloq"),
    ]


def test_a_missing_required_column_is_named_with_the_nearest(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("patient_id,time,level,status,lloq\n1,1,500,quantified,50\n")
    with pytest.raises(InputError, match="column time_actual: found no such column among patient_id, time, level"):
        observations.load(path)


def test_our_own_file_loads_as_it_was_written(tmp_path: Path):
    made = assembled(level("S1", 1.0), level("S2", 71 / 24, status="blq"), level("S3", 4.0, status="failed"))
    write_table(made, tmp_path / "observations.csv", OBSERVATIONS)
    back = observations.load(tmp_path / "observations.csv")
    pd.testing.assert_frame_equal(back, made, rtol=1e-9)


def test_a_file_of_observations_with_a_header_and_no_rows_is_refused(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("patient_id,time_actual,level,status,lloq\n")
    with pytest.raises(InputError, match="row 1: found a header and no rows"):
        observations.load(path)
