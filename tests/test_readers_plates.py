"""QIAcuity, Absolute Q, Design & Analysis, StepOne/SDS and LightCycler: as the files print them, and on to levels."""

from __future__ import annotations

import csv
import gzip
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from nkinetics import ingest, settings
from nkinetics.columns import RAW
from nkinetics.errors import InputError
from nkinetics.plugins import discover
from nkinetics.quantify import dpcr, qpcr
from nkinetics.readers import read_export
from nkinetics.readers._export import open_export
from nkinetics.settings import Ddpcr, Qpcr, Settings
from nkinetics.store import complete

DATA = Path(__file__).parent / "data" / "readers"
DEFAULTS = Settings()


@pytest.fixture(scope="session")
def exports(shared: Path) -> Path:
    return shared / "exports"


def read(path: Path, chosen: Settings = DEFAULTS) -> pd.DataFrame:
    frame, report = read_export(path, path.parent, chosen)
    assert report.n_rows == len(frame)
    return frame


def table(path: Path, first_of: str) -> list[dict[str, str]]:
    """Rows of a csv by its own headers, read as plainly as can be; of a repeated header the first."""
    lines = list(csv.reader(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()))
    start = next(i for i, line in enumerate(lines) if any(first_of in cell for cell in line))
    return [dict(reversed(list(zip(lines[start], line, strict=False)))) for line in lines[start + 1 :] if any(line)]


def changed(source: Path, folder: Path, *pairs: tuple[str, str], name: str = "") -> Path:
    """A copy of an example with texts replaced, each of which must stand in it."""
    text = source.read_bytes().decode("utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / (name or source.name)
    path.write_bytes(text.encode("utf-8"))
    return path


def concentration(k: float, n: float, nl: float) -> float:
    return -math.log(1 - k / n) / nl * 1000


# ------------------------------------------------------------------------------------------------------------- QIAcuity

QIACUITY = {
    "allotropy/qiacuity_dpcr_example01.csv": 6,
    "allotropy/qiacuity_dpcr_example02.csv": 6,
    "allotropy/qiacuity_dpcr_example03.csv": 24,
    "allotropy/qiacuity_dpcr_example04.csv": 32,
    "qiacuity_processing/psapvsir2-analysis.csv": 380,
    "qiacuity_processing/uncsgpl2-analysis.csv": 384,
}
"""Every QIAcuity file and how many wells and targets it prints, counted in the files."""


@pytest.mark.shared
@pytest.mark.parametrize(("name", "wells"), QIACUITY.items())
def test_every_well_of_a_qiacuity_export_is_read_as_the_file_prints_it(exports: Path, name: str, wells: int) -> None:
    path = exports / "qiacuity" / name
    frame, rows = read(path), table(path, "Sample/NTC/Control")
    assert len(frame) == len(rows) == wells
    assert set(frame["reader"]) == {"qiacuity"}
    header = list(reversed(rows[0]))
    conc = next(h for h in header if h.startswith("Conc"))
    valid, positive = (next(h for h in header if h.lower() == f"partitions ({w})") for w in ("valid", "positive"))
    target = "Target (Name)" if "Target (Name)" in header else "Target"
    roles = {"Sample": "unknown", "Control": "control", "Non Template Control": "ntc", "": "unknown"}
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert raw.well == row.get("Well", row.get("", ""))
        assert raw.sample_id == row["Sample/NTC/Control"]
        assert raw.target == row[target]
        assert (raw.n_partitions, raw.n_positive) == (int(row[valid]), int(row[positive]))
        assert raw.role == roles[row.get("Type", "")]
        assert raw.value_raw == row[conc]
        if raw.n_positive:
            assert (raw.value, raw.detection) == (float(row[conc]), "quantified")
        else:
            assert math.isnan(raw.value) and raw.detection == "not_detected"


@pytest.mark.shared
def test_the_plate_of_the_first_row_is_that_of_all_rows(exports: Path) -> None:
    frame = read(exports / "qiacuity" / "allotropy" / "qiacuity_dpcr_example04.csv")
    assert set(frame["run_id"]) == {"250227 AAV MA 6"}


@pytest.mark.shared
@pytest.mark.parametrize("name", QIACUITY)
def test_the_level_of_a_single_qiacuity_well_is_its_printed_concentration(exports: Path, name: str) -> None:
    """On plates of 8,500 and 26,000 partitions alike, within 1e-9, where the well is neither saturated nor sparse."""
    frame = read(exports / "qiacuity" / name)
    frame = frame[frame["role"] == "unknown"].reset_index(drop=True)
    frame["sample_id"] = [f"S{i}" for i in frame.index]
    samples = pd.DataFrame({"sample_id": frame["sample_id"], "ng_input": 500.0})
    made = dpcr.quantify(frame, samples, Ddpcr(target_pattern=".", reaction_ul=40, lloq_copies=1e-6, lod_copies=None))
    assert not made.problems
    levels = made.levels.set_index("sample_id")
    quantified = levels[levels["status"] == "quantified"]
    printed = frame.set_index("sample_id")["value"]
    assert quantified["level"].to_numpy() == pytest.approx(printed[quantified.index].to_numpy() * 80, rel=1e-9)
    assert len(quantified) >= 0.85 * (frame["detection"] == "quantified").sum()
    assert set(levels["status"]) <= {"quantified", "not_detected", "above_uloq"}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("allotropy/qiacuity_dpcr_example04.csv", 0.305, 0.335), ("allotropy/qiacuity_dpcr_example03.csv", 0.713, 0.753)],
)
def test_the_report_says_which_volumes_the_printed_concentrations_imply(
    exports: Path, name: str, low: float, high: float
) -> None:
    _, report = read_export(exports / "qiacuity" / name, exports, DEFAULTS)
    assert f"({low:g} to {high:g} nL" in report.note


def test_two_plates_in_one_qiacuity_file_are_two_runs() -> None:
    frame = read(DATA / "qiacuity" / "newest.csv")
    assert frame["run_id"].tolist() == ["Plate 7"] * 4 + ["Plate 8"]


def test_positives_and_negatives_that_do_not_add_up_are_refused_with_their_row(tmp_path: Path) -> None:
    path = changed(DATA / "qiacuity" / "oldest.csv", tmp_path, (",25510,1802,", ",25510,1820,"))
    with pytest.raises(InputError, match=r"row 4.*1820 positive and 23708 negative of 25510 valid partitions"):
        read(path)


def test_positives_beside_no_concentration_fail_the_well_and_its_row_says_so(tmp_path: Path) -> None:
    row = read(changed(DATA / "qiacuity" / "oldest.csv", tmp_path, (",85.93,", ",-,"))).iloc[1]
    assert (row["detection"], row["remark"]) == ("failed", "- in spite of 1802 positives")
    assert math.isnan(row["value"])


def test_a_concentration_without_a_positive_partition_is_set_aside_as_a_contradiction(tmp_path: Path) -> None:
    path = changed(
        DATA / "qiacuity" / "oldest.csv", tmp_path, ("351,Sample,7,CAR,CAR,-,-,0,", "351,Sample,7,CAR,CAR,-,-,5.5,")
    )
    row = read(path).iloc[2]
    assert (row["detection"], row["value_raw"]) == ("not_detected", "5.5")
    assert row["note"] == "no positive among 25390 partitions, but a printed concentration of 5.5"


def test_an_occupancy_table_of_qiacuity_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "occupancy.csv"
    path.write_text(
        'sep=,\n"Well","Hyperwell","Categories","Group","Count","Total","Volume"\n"A1","","1","+ -",5,8250,2.8\n'
    )
    with pytest.raises(InputError, match="found an occupancy table of QIAcuity"):
        read(path)


def plate_of(*wells: tuple[str, int, int, float, str]) -> pd.DataFrame:
    """Raw rows of a QIAcuity plate: sample, positive, valid, printed concentration and role of each well."""
    rows = [
        {
            "source_file": "plate.csv",
            "source_row": i + 3,
            "source_sha256": "ab",
            "run_id": "P",
            "reader": "qiacuity",
            "well": f"A{i + 1}",
            "sample_id": sample,
            "role": role,
            "target": "CAR",
            "measure": "partitions",
            "n_positive": k,
            "n_partitions": n,
            "value": printed if printed else math.nan,
            "value_raw": f"{printed:g}",
            "detection": "quantified" if printed else "not_detected",
            "omitted": False,
            "note": "",
            "remark": "",
        }
        for i, (sample, k, n, printed, role) in enumerate(wells)
    ]
    return complete(pd.DataFrame(rows), RAW)


SAMPLES = pd.DataFrame({"sample_id": ["S1", "S2"], "ng_input": [100.0, 100.0]})


def test_replicate_wells_of_different_volumes_are_pooled_by_their_partitions() -> None:
    """Copies and volumes add: 2 wells of 0.3 and 0.33 nL give -ln(1-K/N) over the mean volume of their partitions."""
    k, n = (400, 500), (8200, 8300)
    printed = [concentration(k[0], n[0], 0.30), concentration(k[1], n[1], 0.33)]
    frame = plate_of(*(("S1", a, b, c, "unknown") for a, b, c in zip(k, n, printed, strict=True)))
    made = dpcr.quantify(frame, SAMPLES, Ddpcr(reaction_ul=12))
    volume = (8200 * 0.30 + 8300 * 0.33) / 16500
    assert made.levels["level"].item() == pytest.approx(concentration(900, 16500, volume) * 12 * 10, rel=1e-4)


def test_a_well_of_the_small_plate_needs_half_of_its_partitions_and_one_of_the_large_plate_ten_thousand() -> None:
    small = plate_of(("S1", 400, 4300, concentration(400, 4300, 0.31), "unknown"), ("S2", 9, 4100, 7.1, "unknown"))
    made = dpcr.quantify(small, SAMPLES, Ddpcr(reaction_ul=12)).levels.set_index("sample_id")
    assert made["status"].to_dict() == {"S1": "quantified", "S2": "failed"}
    assert "4100 accepted partitions, fewer than 4250" in made.loc["S2", "exclusion_reason"]
    large = plate_of(("S1", 400, 9900, concentration(400, 9900, 0.77), "unknown"))
    assert dpcr.quantify(large, SAMPLES, Ddpcr(reaction_ul=40)).levels["status"].tolist() == ["failed"]


def test_a_qiacuity_concentration_that_lost_its_decimal_mark_fails_its_well() -> None:
    wells = [("S1", 400 + i, 8200, concentration(400 + i, 8200, 0.31), "unknown") for i in range(5)]
    damaged = ("S2", 410, 8200, 10 * concentration(410, 8200, 0.31), "unknown")
    made = dpcr.quantify(plate_of(*wells, damaged), SAMPLES, Ddpcr(reaction_ul=12)).levels.set_index("sample_id")
    assert made["status"].to_dict() == {"S1": "quantified", "S2": "failed"}
    assert "printed concentration" in made.loc["S2", "exclusion_reason"]


def test_a_qiacuity_plate_whose_concentrations_all_lost_their_decimal_mark_is_a_problem() -> None:
    wells = [("S1", 400 + i, 8200, 1000 * concentration(400 + i, 8200, 0.31), "unknown") for i in range(3)]
    made = dpcr.quantify(plate_of(*wells), SAMPLES, Ddpcr(reaction_ul=12))
    assert made.levels.empty
    assert (
        "imply partitions of 0.00031 nL (median), and those of a qiacuity plate have 0.2 to 1.2 nL" in made.problems[0]
    )


def test_a_reaction_volume_that_is_not_set_is_said_where_the_default_is_not_meant() -> None:
    frame = plate_of(("S1", 400, 8200, concentration(400, 8200, 0.31), "unknown"))
    assert any("usual on this instrument are 12 uL" in w for w in dpcr.quantify(frame, SAMPLES, Ddpcr()).warnings)
    assert not any("usual" in w for w in dpcr.quantify(frame, SAMPLES, Ddpcr(reaction_ul=12)).warnings)


# ----------------------------------------------------------------------------------------------------------- Absolute Q

LISTS = {
    "Appbio_AbsoluteQ_example01.csv": (16, 2),
    "Appbio_AbsoluteQ_example02.csv": (16, 2),
    "Appbio_AbsoluteQ_example03.csv": (16, 2),
    "Appbio_AbsoluteQ_example04.csv": (16, 1),
    "Appbio_AbsoluteQ_example05.csv": (32, 4),
}
SUMMARIES = {
    "Appbio_AbsoluteQ_singe2_summary.csv": (16, 1),
    "Appbio_AbsoluteQ_single1_summary.csv": (16, 1),
    "Appbio_AbsoluteQ_summary.csv": (16, 2),
}
"""Wells and dyes of each file, and its rows on groups of wells."""
EDITED = {"Appbio_AbsoluteQ_example05.csv": 7}
"""Files whose second dye somebody typed by hand: wells whose concentration does not follow from their counts."""


def absolute_q(exports: Path, name: str) -> Path:
    return exports / "absolute_q" / "allotropy" / name


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows"), LISTS.items())
def test_every_well_of_an_absolute_q_list_is_read_as_the_file_prints_it(
    exports: Path, name: str, rows: tuple[int, int]
) -> None:
    path = absolute_q(exports, name)
    frame, own = read(path), table(path, "Positives")
    assert len(frame) == len(own) == sum(rows)
    assert (frame["role"] == "summary").sum() == rows[1]
    for raw, row in zip(frame.itertuples(), own, strict=True):
        if raw.role == "summary":
            assert row["Well"] in ("Average", "Pooled", "") and raw.note
            continue
        assert (raw.well, raw.sample_id, raw.target) == (row["Well"], row["Name"], row["Target"])
        assert (raw.n_partitions, raw.n_positive) == (int(row["Total"]), int(row["Positives"]))
        assert raw.run_id == row["Run"]
        if raw.n_positive:
            assert raw.value == float(row["Conc. cp/uL"])


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows"), SUMMARIES.items())
def test_every_well_and_dye_of_an_absolute_q_summary_is_read_as_the_file_prints_it(
    exports: Path, name: str, rows: tuple[int, int]
) -> None:
    path = absolute_q(exports, name)
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    header = lines[1]
    starts = [i for i, cell in enumerate(header) if cell == "Target"]
    frame = read(path)
    assert len(frame) == len(starts) * (len(lines) - 2)
    assert (frame["role"] == "summary").sum() == rows[1] == len(starts)
    wells = frame[frame["role"] != "summary"].set_index(["well", "target"])
    for line in lines[3:]:
        for start in starts:
            raw = wells.loc[(line[3], line[start])]
            assert raw["sample_id"] == line[2]
            assert raw["n_partitions"] == int(line[6])
            assert raw["n_positive"] == int(line[start + header[start:].index("Positives")])
            printed = float(line[start + header[start:].index("Conc.")])
            assert raw["value"] == printed if raw["n_positive"] else math.isnan(raw["value"]) and printed == 0


@pytest.mark.shared
@pytest.mark.parametrize("name", [*LISTS, *SUMMARIES])
def test_concentrations_of_absolute_q_follow_from_its_counts_at_0_432_nl(exports: Path, name: str) -> None:
    """Within 1 % or half of the last printed digit, in every well but those that somebody typed by hand."""
    frame = read(absolute_q(exports, name))
    wells = frame[(frame["role"] != "summary") & (frame["n_positive"] > 0)]
    off = [
        (row.well, row.target)
        for row in wells.itertuples()
        if abs(row.value - (found := concentration(row.n_positive, row.n_partitions, 0.432)))
        > max(0.01 * found, 0.0051)
    ]
    assert len(off) == EDITED.get(name, 0)
    assert {target for _, target in off} <= {"Gene B"}


@pytest.mark.shared
def test_positives_of_the_channels_add_up_to_those_that_the_summary_of_the_same_run_prints(exports: Path) -> None:
    channels = read(absolute_q(exports, "Appbio_AbsoluteQ_multichannel.csv"))
    summary = read(absolute_q(exports, "Appbio_AbsoluteQ_summary.csv"))
    dye = {"TARGET 1": "FAM", "TARGET 2": "VIC"}
    wells = summary[summary["role"] != "summary"]
    own = channels[channels["role"] != "summary"].set_index(["sample_id", "target"])
    compared = 0
    for row in wells.itertuples():
        if (row.sample_id, dye[row.target]) not in own.index:
            continue
        there = own.loc[(row.sample_id, dye[row.target])]
        assert (there["n_positive"], there["n_partitions"]) == (row.n_positive, row.n_partitions)
        assert there["value"] == pytest.approx(row.value, abs=0.006)
        compared += 1
    assert compared == 6


@pytest.mark.shared
def test_every_combination_of_channels_is_kept_beside_the_dyes(exports: Path) -> None:
    path = absolute_q(exports, "Appbio_AbsoluteQ_multichannel.csv")
    frame, own = read(path), table(path, "Channels")
    combinations = frame[frame["role"] == "summary"].sort_values("source_row")
    assert len(combinations) == len(own) == 80
    for raw, row in zip(combinations.itertuples(), own, strict=True):
        assert raw.n_partitions == int(row["Total"])
        if row["Channels"]:
            assert raw.n_positive == int(row["Count"])
        assert raw.value_raw == row["Copies per microliter"]
    unread = frame[(frame["role"] == "unknown") & (frame["target"] == "ABY")]
    assert set(unread["remark"]) == {"channel ABY was not read"} and set(unread["detection"]) == {"failed"}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Appbio_AbsoluteQ_fluorescence_columns.csv", "found the fluorescence of single partitions"),
        ("Appbio_AbsoluteQ_zip_test.zip", r"found an archive of .*_summary\.csv.* To mend: unpack it"),
    ],
)
def test_what_is_no_result_of_absolute_q_is_refused_by_name_and_reason(exports: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(absolute_q(exports, name))


def test_a_combination_that_is_missing_leaves_no_dye_to_be_counted(tmp_path: Path) -> None:
    lines = (DATA / "absolute_q" / "channels.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "channels.csv"
    path.write_text("".join(line for line in lines if "FAM VIC,700" not in line))
    frame = read(path)
    dyes = frame[(frame["sample_id"] == "0012") & (frame["role"] == "unknown")]
    assert set(dyes["note"]) == {"not every combination of FAM, VIC stands in the table"}
    assert dyes["n_positive"].isna().all()


def test_combinations_that_do_not_add_up_to_the_partitions_are_refused(tmp_path: Path) -> None:
    path = changed(DATA / "absolute_q" / "channels.csv", tmp_path, ("FAM VIC,700,", "FAM VIC,7000,"))
    with pytest.raises(InputError, match="26300 partitions over the combinations of 0012"):
        read(path)


def test_a_file_cut_within_its_last_count_is_refused(tmp_path: Path) -> None:
    content = (DATA / "absolute_q" / "list.csv").read_bytes().rstrip()
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    assert read(path)["n_positive"].tolist()[-1] == 20441
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="row 8, column Positives: found a last line that ends within it"):
        read(path)


# ---------------------------------------------------------------------------------------------------- Design & Analysis

D_AND_A = {
    "appbio_quantstudio_design_quantity_test.xlsx": 24,
    "appbio_quantstudio_designandanalysis_QS1_Standard_Curve_example01.xlsx": 96,
    "appbio_quantstudio_designandanalysis_QS7Pro_Presence_and_Absence_autoexport.xls": 216,
    "appbio_quantstudio_designandanalysis_QS7Pro_Primary_Analysis_example18.xlsx": 96,
}
STANDARD_CURVE = "appbio_quantstudio_designandanalysis_QS1_Standard_Curve_example01.xlsx"


def design_and_analysis(exports: Path, name: str) -> Path:
    return exports / "design_and_analysis" / "allotropy" / name


def sheet_of(path: Path, name: str) -> list[dict[str, object]]:
    """Rows of a sheet by their headers, through another library than the reader's."""
    with path.open("rb") as stream:
        with warnings.catch_warnings():
            # The instrument's software writes no default style.
            warnings.simplefilter("ignore", UserWarning)
            book = openpyxl.load_workbook(stream, read_only=True)
        lines = [list(line) for line in book[name].iter_rows(values_only=True)]
        book.close()
    start = next(i for i, line in enumerate(lines) if "Well Position" in line)
    return [dict(zip(lines[start], line, strict=False)) for line in lines[start + 1 :] if line and line[0] is not None]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "wells"), D_AND_A.items())
def test_every_well_of_a_design_and_analysis_export_is_read_as_the_file_prints_it(
    exports: Path, name: str, wells: int
) -> None:
    path = design_and_analysis(exports, name)
    frame, rows = read(path), sheet_of(path, "Results")
    assert set(frame["reader"]) == {"design_and_analysis"}
    assert len(frame) == len(rows) == wells
    roles = {"UNKNOWN": "unknown", "STANDARD": "standard", "NTC": "ntc"}
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert raw.well == row["Well Position"]
        assert (raw.sample_id, raw.target) == (row.get("Sample") or "", row.get("Target") or "")
        assert raw.role == roles[str(row["Task"])]
        assert raw.omitted == (str(row.get("Omit", False)).lower() == "true")
        if str(row["Cq"]).lower() == "undetermined":
            assert raw.detection == "not_detected" and math.isnan(raw.value)
        else:
            assert raw.value == row["Cq"] and raw.detection == "quantified"


@pytest.mark.shared
@pytest.mark.parametrize("name", [n for n in D_AND_A if "urve" in n or "quantity" in n])
def test_quantities_of_standards_are_those_of_the_sheet_of_the_standard_curve(exports: Path, name: str) -> None:
    path = design_and_analysis(exports, name)
    frame = read(path)
    printed = {(r["Well Position"], r["Target"]): r["Quantity"] for r in sheet_of(path, "Standard Curve Result")}
    standards = frame[frame["role"] == "standard"]
    assert len(standards) in (16, 20)
    assert [printed[w, t] for w, t in zip(standards["well"], standards["target"], strict=True)] == standards[
        "quantity"
    ].tolist()
    assert frame.loc[frame["role"] != "standard", "quantity"].isna().all()


@pytest.mark.shared
def test_curve_and_quantities_of_design_and_analysis_are_those_that_it_printed(exports: Path) -> None:
    """Slope, intercept, R2 and efficiency of the run, and the quantity of each of 72 unknown wells within 0.1 %."""
    path = design_and_analysis(exports, STANDARD_CURVE)
    frame, sheet = read(path), sheet_of(path, "Standard Curve Result")
    one = sheet[0]
    rule = {"acceptance": {"replicates_detected_min": 1}, "target_pattern": "RNaseP"}
    samples = pd.DataFrame({"sample_id": ["Unk_5K", "Unk_10K"], "ng_input": 1000.0})
    run = qpcr.quantify(frame, samples, Qpcr(**rule)).runs.iloc[0]
    assert run["slope"] == pytest.approx(one["Slope"], abs=1e-4)
    assert run["intercept"] == pytest.approx(one["Y-Intercept"], abs=1e-3)
    assert run["r_squared"] == pytest.approx(one["R2"], abs=1e-6)
    assert run["efficiency"] == pytest.approx(one["Efficiency"], abs=2e-3)
    found = qpcr.copies_per_reaction(frame["value"].to_numpy(), run["slope"], run["intercept"])
    printed = np.array([r["Quantity"] if r["Task"] == "UNKNOWN" else math.nan for r in sheet], dtype=float)
    unknown = np.isfinite(printed)
    assert unknown.sum() == 72
    assert found[unknown] == pytest.approx(printed[unknown], rel=1e-3)


@pytest.mark.shared
def test_presence_absence_with_a_cq_is_read_from_its_results_and_says_where_amplification_was_doubtful(
    exports: Path,
) -> None:
    path = design_and_analysis(exports, next(n for n in D_AND_A if "Presence" in n))
    frame, rows = read(path), sheet_of(path, "Results")
    doubtful = [r["Amp Status"] != "Amp" and r["Cq"] != "Undetermined" for r in rows]
    assert [("amplification status" in remark) for remark in frame["remark"]] == doubtful
    assert sum(doubtful) == 26
    nameless = frame["sample_id"] == ""
    assert nameless.sum() == 27 and set(frame.loc[nameless, "note"]) == {"no sample name"}


@pytest.mark.shared
def test_a_primary_analysis_without_names_gives_its_cts_and_says_what_to_export(exports: Path) -> None:
    path = design_and_analysis(exports, next(n for n in D_AND_A if "Primary" in n))
    frame, report = read_export(path, exports, DEFAULTS)
    assert "export again with Sample and Target ticked" in report.note
    assert set(frame["note"]) == {"no target name"}
    assert "SMITMARQ" not in frame.to_csv() and "PCR_DATA" not in frame.to_csv() + report.note


@pytest.mark.shared
def test_the_curves_of_a_large_workbook_are_never_parsed(exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = design_and_analysis(exports, next(n for n in D_AND_A if "Presence" in n))
    export = open_export(path, exports)
    loaded = {s.name: s for s in export.sheets}
    for name in ("qiacuity", "absolute_q", "design_and_analysis", "stepone", "lightcycler", "quantstudio"):
        discover("readers")[name].claim(export, DEFAULTS)
    discover("readers")["design_and_analysis"].read(export, DEFAULTS)
    untouched = [n for n, s in loaded.items() if not {"rows", "top"} & set(vars(s))]
    assert {"Raw Data", "Amplification Data", "Multicomponent"} <= set(untouched)
    started = time.perf_counter()
    read(path)
    assert time.perf_counter() - started < 3


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[..., Path]:
    """The example workbook, changed by a function of the openpyxl book."""

    def make(change: Callable[[openpyxl.Workbook], None]) -> Path:
        book = openpyxl.load_workbook(DATA / "design_and_analysis" / "standard_curve.xlsx")
        change(book)
        path = tmp_path / "changed.xlsx"
        book.save(path)
        book.close()
        return path

    return make


def test_calls_without_a_cq_are_refused_by_what_is_missing(workbook: Callable[..., Path]) -> None:
    def calls_alone(book: openpyxl.Workbook) -> None:
        for name in ("Results", "Standard Curve Result"):
            book.remove(book[name])
        sheet = book.create_sheet("Target Call", 0)
        sheet.append(["Software Name and Version", "Diomni Design and Analysis Software v4.3"])
        sheet.append([])
        sheet.append(["Well", "Omit", "Sample", "Target", "Task", "Call"])
        sheet.append(["A1", False, "0012", "CAR", "UNKNOWN", "Presence"])

    with pytest.raises(InputError, match=r"found no Cq for each well \(sheets: Target Call, Raw Data\)"):
        read(workbook(calls_alone))


def test_calls_with_a_cq_are_read_where_no_other_sheet_has_results(workbook: Callable[..., Path]) -> None:
    def calls_alone(book: openpyxl.Workbook) -> None:
        for name in ("Results", "Standard Curve Result"):
            book.remove(book[name])
        sheet = book.create_sheet("Target Call")
        sheet.append(["Well", "Omit", "Sample", "Target", "Task", "Call", "Cq"])
        sheet.append(["A1", False, "0012", "CAR", "UNKNOWN", "Presence", 27.25])
        sheet.append(["A2", False, "351", "CAR", "UNKNOWN", "Absence", "Undetermined"])

    frame = read(workbook(calls_alone))
    assert frame["detection"].tolist() == ["quantified", "not_detected"]
    assert frame["value"].iloc[0] == 27.25


def test_two_sheets_with_different_cts_of_one_well_are_refused(workbook: Callable[..., Path]) -> None:
    def contradict(book: openpyxl.Workbook) -> None:
        sheet = book["Standard Curve Result"]
        cell = next(c for row in sheet.iter_rows() for c in row if c.value == 27.870118)
        cell.value = 25.0

    with pytest.raises(InputError, match=r"row 14, column Cq: found '27.870118'; expected 25"):
        read(workbook(contradict))


# -------------------------------------------------------------------------------------------------------- StepOne, SDS


@pytest.mark.shared
def test_every_well_of_the_stepone_workbook_is_read_as_the_file_prints_it(exports: Path) -> None:
    from python_calamine import CalamineWorkbook

    path = exports / "stepone" / "stepone_plus" / "MJA_March15_2021_data.xls"
    lines = CalamineWorkbook.from_path(path).get_sheet_by_name("Results").to_python(skip_empty_area=False)
    header = lines[7]
    own = [dict(zip(header, line, strict=True)) for line in lines[8:] if line[0] and line[2]]
    frame = read(path)
    assert len(frame) == len(own) == 85
    assert set(frame["run_id"]) == {"MJA_March15_2021"}
    assert "C\u0442" in header
    for raw, row in zip(frame.itertuples(), own, strict=True):
        assert (raw.well, raw.sample_id, raw.target) == (row["Well"], row["Sample Name"], row["Target Name"])
        assert raw.role == {"UNKNOWN": "unknown", "NTC": "ntc"}[row["Task"]]
        if row["C\u0442"] == "Undetermined":
            assert raw.detection == "not_detected"
        else:
            assert raw.value == row["C\u0442"]
    assert (frame["detection"] == "not_detected").sum() == 22


@pytest.mark.parametrize("header", ["C?,C? Mean,C? SD", "CÑ‚,CÑ‚ Mean,CÑ‚ SD", "CT,CT Mean,CT SD", "Ct,Ct Mean,Ct SD"])
def test_the_cyrillic_letter_of_ct_may_be_lost(tmp_path: Path, header: str) -> None:
    path = changed(DATA / "stepone" / "stepone_plus.csv", tmp_path, ("Cт,Cт Mean,Cт SD", header))
    pd.testing.assert_series_equal(read(path)["value"], read(DATA / "stepone" / "stepone_plus.csv")["value"])


def test_a_lone_column_c_is_no_ct(tmp_path: Path) -> None:
    path = changed(DATA / "stepone" / "stepone_plus.csv", tmp_path, ("Cт,Cт Mean,Cт SD", "C,Mean,SD"))
    with pytest.raises(InputError, match="without a Ct for each well"):
        read(path)


def test_an_unknown_task_of_stepone_is_refused_with_its_row(tmp_path: Path) -> None:
    path = changed(DATA / "stepone" / "stepone_plus.csv", tmp_path, ("B2,351,CAR,UNKNOWN", "B2,351,CAR,UNKN0WN"))
    with pytest.raises(InputError, match=r"row 13, column Task: found 'UNKN0WN'"):
        read(path)


def test_user_names_and_folders_of_stepone_are_not_propagated() -> None:
    for path in [p for p in TEXTS if p.parent.name in ("stepone", "design_and_analysis")]:
        assert "someone" in path.read_text(encoding="utf-8")
        assert "someone" not in read(path).to_csv()


# ---------------------------------------------------------------------------------------------------------- LightCycler

LIGHTCYCLER = {
    "Edward_qPCR_Nrd1_calibration_2019-02-02_Cq": (384, 105),
    "Edward_qPCR_TxnInhibitors_HS_2018-06-15_plate1_Cq": (384, 61),
    "Edward_qPCR_TxnInhibitors_HS_2018-06-15_plate2_Cq": (384, 51),
    "Stuart_dAgr_glyS_spoVG_5S_individualWells_Cq": (96, 6),
}
"""Wells of each plate, and those that never crossed."""


@pytest.mark.shared
@pytest.mark.parametrize(("name", "wells"), LIGHTCYCLER.items())
def test_every_well_of_a_lightcycler_export_is_read_as_the_file_prints_it(
    exports: Path, tmp_path: Path, name: str, wells: tuple[int, int]
) -> None:
    packed = exports / "lightcycler" / "tidyqpcr" / f"{name}.txt.gz"
    path = tmp_path / f"{name}.txt"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    lines = path.read_text().splitlines()
    own = [dict(zip(lines[1].split("\t"), line.split("\t"), strict=True)) for line in lines[2:]]
    frame = read(path)
    assert (len(frame), (frame["detection"] == "not_detected").sum()) == wells == (len(own), wells[1])
    assert set(frame["target"]) == {"SYBR Green I / HRM Dye (483-533)"}
    assert set(frame["run_id"]) == {lines[0].removeprefix("Experiment: ").split("  Selected")[0]}
    for raw, row in zip(frame.itertuples(), own, strict=True):
        assert (raw.well, raw.sample_id) == (row["Pos"], row["Name"])
        assert raw.value == float(row["Cp"]) if row["Cp"] else math.isnan(raw.value)
    with pytest.raises(InputError, match=r"found a gzip archive.*unpack it and give the file inside"):
        read(packed)


def test_an_empty_cp_is_a_negative_well_only_where_the_software_drew_it_green() -> None:
    frame = read(DATA / "lightcycler" / "plate.txt").set_index("sample_id")
    assert frame.loc["351", "detection"] == "not_detected"
    assert frame.loc["P-005", "detection"] == "failed"


def test_a_lightcycler_export_without_its_first_line_has_no_target_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plate.txt"
    path.write_bytes((DATA / "lightcycler" / "plate.txt").read_bytes().split(b"\r\n", 1)[1])
    frame = read(path)
    assert frame["note"].str.startswith("no target: the first line of the export names no filter").all()


# ---------------------------------------------------------------------------------------------------------- all formats

OWN = [
    p for f in ("qiacuity", "absolute_q", "design_and_analysis", "stepone", "lightcycler") for p in (DATA / f).iterdir()
]
TEXTS = sorted(p for p in OWN if p.suffix in (".csv", ".txt") and ".expected" not in p.name)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_encodings_and_line_ends_do_not_change_the_rows(path: Path, tmp_path: Path) -> None:
    text = path.read_bytes().decode("utf-8-sig")
    lines = text.replace("\r\n", "\n")
    wanted = read(path).drop(columns=["source_sha256"])
    for encoding, end in (("utf-8-sig", "\n"), ("utf-16", "\r\n"), ("utf-8", "\r")):
        other = tmp_path / path.name
        other.write_bytes(lines.replace("\n", end).encode(encoding))
        pd.testing.assert_frame_equal(read(other).drop(columns=["source_sha256"]), wanted)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_text_cut_anywhere_gives_whole_rows_or_is_refused(path: Path, tmp_path: Path) -> None:
    """Cut after each of its last 300 characters: every row that is read is one of the whole file's, unchanged."""
    content = path.read_bytes().rstrip()
    columns = ["source_row", "well", "sample_id", "role", "target", "value", "quantity", "n_partitions", "n_positive"]
    whole = {tuple(row) for row in read(path)[columns].astype(str).itertuples(index=False)}
    cut = tmp_path / path.name
    wrong = []
    for end in range(max(len(content) - 300, 0), len(content)):
        cut.write_bytes(content[:end])
        try:
            frame = read(cut)
        except InputError:
            continue
        # Rows set aside say so: a dye whose combinations are not all there is not counted.
        usable = frame[frame["note"] == ""]
        rows = {tuple(row) for row in usable[columns].astype(str).itertuples(index=False)}
        if not rows <= whole:
            wrong.append((end - len(content), sorted(rows - whole)))
    assert not wrong


# --------------------------------------------------------------------------------------------------- to observations


def study(folder: Path, export: Path, assays: dict[str, object], samples: dict[str, float]) -> settings.Settings:
    """A study of one patient with one export: its samples by name and DNA input [ng], a day apart."""
    (folder / "config").mkdir()
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / export.name).write_bytes(export.read_bytes())
    (folder / "config" / "patients.csv").write_text("patient_id,dose_level\nP1,DL1\n")
    (folder / "config" / "infusions.csv").write_text(
        "patient_id,infusion,time,planned,given,unit\nP1,1,0,1e9,1e9,cells\n"
    )
    rows = "".join(f"{name},P1,blood,D{i},{i},{i},{ng}\n" for i, (name, ng) in enumerate(samples.items(), start=1))
    header = "sample_id,patient_id,specimen,visit,time_nominal,time_actual,ng_input\n"
    (folder / "config" / "samples.csv").write_text(header + rows)
    tables = {name: f"config/{name}.csv" for name in ("patients", "samples", "infusions")}
    return settings.validated(
        {"study": {"id": "T", "time_zone": "UTC", "reference_dose": 1e9}, "inputs": tables, "assays": assays},
        "config.yaml",
    )


def accounted(made: ingest.Ingested) -> None:
    """Every raw row is used, or set aside with a reason."""
    assert not made.problems
    aside = made.ingest[~made.ingest["used"].astype(bool)]
    assert len(made.ingest) == sum(r.n_rows for r in made.file_reports)
    assert (aside["reason"] != "").all()


def test_a_qiacuity_export_becomes_the_levels_that_it_printed(tmp_path: Path) -> None:
    """copies/ug = printed copies/uL * 12 uL / 200 ng * 1000; P-001 pools two wells, P-002 is below 10 copies."""
    export = changed(DATA / "qiacuity" / "newest.csv", tmp_path, name="Plate.csv")
    assays = {"ddpcr": {"target_pattern": "^CAR$", "reaction_ul": 12, "lloq_copies": 20}}
    made = ingest.run(study(tmp_path, export, assays, {"P-001": 200, "P-002": 200, "P-003": 200}), tmp_path)
    accounted(made)
    levels = made.observations.set_index("sample_id")
    assert levels["status"].to_dict() == {"P-001": "quantified", "P-002": "blq", "P-003": "quantified"}
    assert levels.loc["P-003", "level"] == pytest.approx(365.1 * 12 / 200 * 1000, rel=1e-9)
    share = (7571 + 7541) / (8261 + 8220)
    volumes = [concentration(k, n, 1) / c for k, n, c in ((7571, 8261, 7998.2), (7541, 8220, 8102.5))]
    pooled = concentration(7571 + 7541, 8261 + 8220, float(np.average(volumes, weights=[8261, 8220])))
    assert 0.9 < share < 0.92
    assert levels.loc["P-001", "level"] == pytest.approx(pooled * 12 / 200 * 1000, rel=1e-9)
    runs = made.runs.set_index("run_id")
    assert runs.loc["Plate 7", ["accepted", "ntc_ok", "n_ntc"]].tolist() == [True, True, 1]


def test_an_absolute_q_summary_becomes_levels_of_both_targets_counts(tmp_path: Path) -> None:
    """copies/cell = 2 CAR / RPPH1, pooled by counts; a well that its own quality control failed is not used."""
    export = DATA / "absolute_q" / "summary.csv"
    rule = {"target_pattern": "^CAR$", "reference_pattern": "^RPPH1$", "level_unit": "copies/cell", "reaction_ul": 9}
    samples = {"0012": 200, "351": 200, "P-003": 200, "P-004": 200}
    made = ingest.run(study(tmp_path, export, {"ddpcr": rule}, samples), tmp_path)
    accounted(made)
    levels = made.observations.set_index("sample_id")
    wanted = {"0012": "quantified", "351": "not_detected", "P-003": "failed", "P-004": "quantified"}
    assert levels["status"].to_dict() == wanted
    ratio = 2 * math.log(1 - 3182 / 20419) / math.log(1 - 3237 / 20419)
    assert levels.loc["0012", "level"] == pytest.approx(ratio, rel=1e-9)
    assert "quality control FAIL: Low ROX" in made.ingest.loc[made.ingest["sample_id"] == "P-003", "reason"].tolist()
    assert "wells of one run are pooled" not in " ".join(made.warnings)


def test_an_absolute_q_channel_table_becomes_levels_of_each_dye(tmp_path: Path) -> None:
    """FAM is positive in 2500 + 700 of 20,000 partitions of 0.432 nL; 9 uL in 200 ng."""
    assays = {"ddpcr": {"target_pattern": "^FAM$", "reaction_ul": 9}}
    made = ingest.run(study(tmp_path, DATA / "absolute_q" / "channels.csv", assays, {"0012": 200}), tmp_path)
    accounted(made)
    level = made.observations.iloc[0]
    assert level["status"] == "quantified"
    assert level["level"] == pytest.approx(concentration(3200, 20000, 0.432) * 9 / 200 * 1000, rel=1e-9)
    assert made.runs["ntc_ok"].tolist() == [True]


def test_a_design_and_analysis_workbook_becomes_levels_on_its_own_curve(tmp_path: Path) -> None:
    """Standards of 1e6 to 1e1 copies at Ct 18.08 to 34.68; 0012 in triplicate at Ct 28.04 is 1000 copies in 200 ng."""
    book = openpyxl.load_workbook(DATA / "design_and_analysis" / "standard_curve.xlsx")
    results, curve = book["Results"], book["Standard Curve Result"]
    for sheet in (results, curve):
        sheet.delete_rows(11, 20)
    wells: list[tuple[str, str, str, float | str, float | str]] = []
    for i in range(6):
        wells += [
            (f"{'AB'[j]}{i + 1}", f"Std {i + 1}", "STANDARD", 18.08 + 3.32 * i, 10.0 ** (6 - i)) for j in range(2)
        ]
    wells += [(f"C{j + 1}", "0012", "UNKNOWN", 28.04, "") for j in range(3)]
    wells += [(f"D{j + 1}", "351", "UNKNOWN", "Undetermined", "") for j in range(3)]
    wells += [(f"H{j + 1}", "NTC", "NTC", "Undetermined", "") for j in range(2)]
    for i, (well, sample, task, ct, quantity) in enumerate(wells, start=1):
        results.append([i, well, False, sample, "CAR", task, "FAM", "NFQ-MGB", "Amp", 1.3, "", "", ct, 0.97])
        curve.append([i, well, sample, quantity, "CAR", "FAM", task, "FAM", "NFQ-MGB", "Amp", ct])
    export = tmp_path / "standard_curve.xlsx"
    book.save(export)
    book.close()
    assays = {"qpcr": {"target_pattern": "^CAR$"}}
    made = ingest.run(study(tmp_path, export, assays, {"0012": 200, "351": 200}), tmp_path)
    accounted(made)
    run = made.runs.iloc[0]
    assert (run["slope"], run["intercept"]) == (pytest.approx(-3.32), pytest.approx(38))
    assert (run["run_id"], bool(run["accepted"]), run["n_ntc"]) == ("NK-03", True, 2)
    levels = made.observations.set_index("sample_id")
    assert levels["status"].to_dict() == {"0012": "quantified", "351": "not_detected"}
    assert levels.loc["0012", "level"] == pytest.approx(5000, rel=1e-9)


@pytest.mark.parametrize("name", ["stepone_plus.csv", "sds1.csv"])
def test_stepone_and_sds_rows_reach_the_curve_and_the_sample(tmp_path: Path, name: str) -> None:
    """Two standards at -3.32 per decade put Ct 27.87 at 2,825 copies; one replicate is not enough to quantify."""
    assays: dict[str, object] = {"qpcr": {"target_pattern": "^CAR$"}}
    made = ingest.run(study(tmp_path, DATA / "stepone" / name, assays, {"0012": 200, "351": 200}), tmp_path)
    accounted(made)
    run = made.runs.iloc[0]
    assert run["n_standards"] == 2 and run["slope"] == pytest.approx(-3.3213, abs=2e-3)
    assert made.observations["status"].tolist() == ["failed", "failed"]
    assert made.observations["exclusion_reason"].str.contains("fewer than 5").all()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("design_and_analysis/allotropy/" + STANDARD_CURVE, "2018-06-01T00:54:47"),
        ("design_and_analysis/allotropy/appbio_quantstudio_design_quantity_test.xlsx", "2024-05-13T11:47:00"),
        ("stepone/stepone_plus/MJA_March15_2021_data.xls", "2021-03-15T16:25:32"),
    ],
)
def test_the_end_of_a_run_is_that_which_the_export_prints(exports: Path, name: str, ended: str) -> None:
    assert set(read(exports / name)["run_date"]) == {ended}


@pytest.mark.parametrize("column", ["Target", "Conc.", "Positives"])
def test_a_summary_whose_dye_lost_a_column_is_refused(tmp_path: Path, column: str) -> None:
    path = changed(DATA / "absolute_q" / "summary.csv", tmp_path, (f",{column},", ",Other,"))
    with pytest.raises(InputError, match=r"row 2, column Target: found 2 dyes above|of no known format"):
        read(path)


def test_a_header_that_lost_a_name_is_refused_though_the_last_cells_are_empty(tmp_path: Path) -> None:
    path = changed(DATA / "stepone" / "stepone_plus.csv", tmp_path, ("Cт SD,Quantity,", "Quantity,"))
    with pytest.raises(InputError, match="row 8: found 17 names above rows of 18 cells"):
        read(path)


@pytest.mark.parametrize("name", ["NTC", "NTC 1", "ntc-02", "No template control 3"])
def test_a_numbered_no_template_control_is_known_by_its_name_where_no_column_tells(tmp_path: Path, name: str) -> None:
    text = (
        "Experiment: NK 1  Selected Filter: FAM (465-510)\nInclude\tColor\tPos\tName\tCp\tConcentration\tStandard\t"
        f"Status\nTrue\t255\tA1\tP01\t22.15\t\t0\t\nTrue\t65280\tA2\t{name}\t\t\t0\t\nTrue\t255\tA3\tNTCx\t30.1\t\t0\t\n"
    )
    (tmp_path / "plate.txt").write_text(text)
    frame, _ = read_export(tmp_path / "plate.txt", tmp_path, Settings())
    assert frame["role"].tolist() == ["unknown", "ntc", "unknown"]
