"""Readers on files that real instruments and other programs wrote, checked against what those files print."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from nkinetics.errors import InputError
from nkinetics.readers import read_export, read_exports
from nkinetics.readers._export import open_export
from nkinetics.settings import Settings

pytestmark = pytest.mark.shared
DEFAULTS = Settings()
QUANTSTUDIO = {
    "allotropy/appbio_quantstudio_example01.txt": 16,
    "allotropy/appbio_quantstudio_example02.txt": 96,
    "allotropy/appbio_quantstudio_example04.txt": 95,
    "allotropy/appbio_quantstudio_example05.txt": 16,
    "allotropy/appbio_quantstudio_example06.txt": 9,
    "allotropy/appbio_quantstudio_example07.txt": 16,
    "allotropy/appbio_quantstudio_example08.xlsx": 36,
    "allotropy/appbio_quantstudio_example10.xlsx": 8,
    "allotropy/appbio_quantstudio_minimal_broken_path_calc_doc.txt": 1,
    "allotropy/appbio_quantstudio_minimal_test01.txt": 2,
    "allotropy/appbio_quantstudio_minimal_test02.txt": 1,
    "allotropy/appbio_quantstudio_minimal_test04.txt": 2,
    "allotropy/appbio_quantstudio_minimal_test07.txt": 9,
    "allotropy/appbio_quantstudio_multiple_cal_doc_wells.txt": 4,
    "allotropy/example_quantsudio_results_only.txt": 24,
    "auto-qpcr/2019-04-25_124559-GAPDH.csv": 94,
    "auto-qpcr/2019-04-25_135946-KCNJ6.csv": 86,
}
"""Every QuantStudio file with Ct values and how many wells and targets it prints, counted in the files by hand."""
GENOTYPING = (
    "allotropy/appbio_quantstudio_example03.txt",
    "allotropy/appbio_quantstudio_minimal_missing_results.txt",
    "allotropy/appbio_quantstudio_minimal_test03.txt",
)


@pytest.fixture(scope="session")
def exports(shared: Path) -> Path:
    return shared / "exports"


def printed(path: Path) -> list[dict[str, str]]:
    """The results table by the file's own headers, read as plainly as can be; of a repeated header the first."""
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path, read_only=True)
        table = [["" if c is None else str(c) for c in row] for row in book["Results"].iter_rows(values_only=True)]
        book.close()
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        lines = path.read_text(encoding="utf-8").splitlines()
        if "[Results]" in lines:
            lines = lines[lines.index("[Results]") + 1 :]
        table = [line.replace('"', "").split(separator) for line in lines]
    start = next(i for i, row in enumerate(table) if "Well Position" in row)
    header = table[start]
    found = []
    for row in table[start + 1 :]:
        if not row or not row[0].replace(".0", "").isdigit():
            break
        found.append(dict(reversed(list(zip(header, row, strict=False)))))
    return found


def ct_of(row: dict[str, str]) -> str:
    return next(row.get(name, "") for name in ("CT", "CRT", "Cq") if name in row)


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(("name", "wells"), QUANTSTUDIO.items())
def test_every_well_of_a_quantstudio_export_is_read_as_the_file_prints_it(exports: Path, name: str, wells: int) -> None:
    path = exports / "quantstudio" / name
    frame, report = read_export(path, exports, DEFAULTS)
    rows = printed(path)
    assert report.reader == "quantstudio"
    assert len(rows) == wells
    assert report.n_rows == len(frame) == wells
    by_place = {(r["Well Position"], r.get("Target Name", "")): r for r in rows}
    assert len(by_place) == wells
    for raw in frame.itertuples():
        row = by_place[raw.well, raw.target]
        assert raw.sample_id == row.get("Sample Name", "").strip()
        text = ct_of(row)
        if text == "Undetermined":
            assert raw.detection == "not_detected"
            assert math.isnan(raw.value)
        elif text:
            assert raw.value == pytest.approx(float(text), rel=1e-12)
            assert raw.detection == "quantified"
        else:
            assert raw.detection in ("failed", "not_done")
        if row["Task"] == "STANDARD":
            assert raw.quantity == number(row["Quantity"])
        else:
            assert math.isnan(raw.quantity)
        assert raw.omitted == (row["Omit"].lower() in ("true", "1"))
    roles = {"UNKNOWN": "unknown", "STANDARD": "standard", "NTC": "ntc", "IPC": "control", "BlockedIPC": "control"}
    read_roles = frame.groupby(["well", "target"])["role"].first()
    assert all(read_roles[place] == roles[row["Task"]] for place, row in by_place.items() if row["Task"])


@pytest.mark.parametrize(
    ("name", "slope", "intercept", "r_squared"),
    [
        ("auto-qpcr/2019-04-25_124559-GAPDH.csv", -3.918, 25.519, 0.998),
        ("auto-qpcr/2019-04-25_135946-KCNJ6.csv", -3.429, 32.812, 0.997),
    ],
)
def test_the_standards_give_the_curve_that_the_export_prints(
    exports: Path, name: str, slope: float, intercept: float, r_squared: float
) -> None:
    frame, _ = read_export(exports / "quantstudio" / name, exports, DEFAULTS)
    standards = frame[(frame["role"] == "standard") & ~frame["omitted"] & frame["value"].notna()]
    x, y = np.log10(standards["quantity"].to_numpy()), standards["value"].to_numpy()
    fitted = np.polyfit(x, y, 1)
    assert fitted == pytest.approx([slope, intercept], abs=2e-3)
    assert np.corrcoef(x, y)[0, 1] ** 2 == pytest.approx(r_squared, abs=6e-4)


@pytest.mark.parametrize("name", GENOTYPING)
def test_genotyping_is_refused_by_name_and_reason(exports: Path, name: str) -> None:
    with pytest.raises(InputError, match="found Genotyping results without a Ct column"):
        read_export(exports / "quantstudio" / name, exports, DEFAULTS)


def test_every_quantstudio_file_is_in_one_of_the_two_lists(exports: Path) -> None:
    folder = exports / "quantstudio"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {*QUANTSTUDIO, *GENOTYPING}


def test_user_names_and_folders_of_real_headers_are_not_propagated(exports: Path) -> None:
    paths = [exports / "quantstudio" / name for name in QUANTSTUDIO]
    frame, reports = read_exports(paths, exports, DEFAULTS)
    text = frame.drop(columns=["source_file"]).to_csv() + "".join(r.note for r in reports)
    assert not any(word in text for word in ("Users", "Program Files", ".eds", "Administrator", "Sponge_Bob"))


@pytest.mark.parametrize(
    ("name", "wells", "nl"), [("ddpcr/quant.csv", 12, 0.85), ("q4ddpcr/Excel-file.xlsx", 176, 0.795)]
)
def test_concentrations_of_qx_manager_follow_from_its_droplets(exports: Path, name: str, wells: int, nl: float) -> None:
    """copies/uL = -ln(1 - k/n) / V within 1 %, with one droplet volume V per instrument."""
    frame, report = read_export(exports / "qx_manager" / name, exports, DEFAULTS)
    assert report.reader == "qx_manager"
    assert len(frame) == wells
    quantified = frame[frame["detection"] == "quantified"]
    share = (quantified["n_positive"] / quantified["n_partitions"]).to_numpy(dtype=float)
    assert quantified["value"].to_numpy() == pytest.approx(-np.log1p(-share) / (nl * 1e-3), rel=0.01)
    assert (frame.loc[frame["detection"] == "not_detected", "n_positive"] == 0).all()


def test_a_no_call_among_thousands_of_droplets_is_a_true_negative(exports: Path) -> None:
    frame, _ = read_export(exports / "qx_manager" / "q4ddpcr" / "Excel-file.xlsx", exports, DEFAULTS)
    row = frame[(frame["well"] == "H7") & (frame["target"] == "q4Pol")].iloc[0]
    assert (row["value_raw"], row["detection"], row["n_partitions"]) == ("No Call", "not_detected", 18282)
    assert row["sample_id"] == "neg buffy"


# ---------------------------------------------------------------------------------------------------- through a mapping


def hahnel() -> Settings:
    columns = {"patient_id": "ID", "time_actual": "TIME", "level": "DV", "lloq": "LLOQ", "dose": "AMT"}
    return Settings(
        generic=[
            {
                "match": "*/biExport.csv",
                "columns": columns,
                "time_unit": "month",
                "time_zero": "first_infusion",
                "level_unit": "%",
                "censored": {"column": "CENS", "value": 1},
            }
        ]
    )


def test_the_leukaemia_data_set_gives_340_levels_of_21_patients_and_their_doses(shared: Path) -> None:
    path = shared / "kinetics" / "hahnel" / "biExport.csv"
    frame, report = read_export(path, shared, hahnel())
    own = pd.read_csv(path, dtype=str)
    assert report.n_rows == len(own) == 361
    levels, doses = frame[frame["role"] == "unknown"], frame[frame["role"] == "dose"]
    assert (len(levels), levels["patient_id"].nunique()) == (340, 21)
    assert (len(doses), doses["patient_id"].nunique()) == (21, 21)
    assert doses["dose"].tolist() == [1001.0] * 21
    assert doses["time"].tolist() == [0.0] * 21
    observed = own[own["EVID"] == "0"]
    assert levels["value"].tolist() == observed["DV"].astype(float).tolist()
    assert levels["patient_id"].tolist() == observed["ID"].tolist()
    assert levels["time"].to_numpy() == pytest.approx(observed["TIME"].astype(float).to_numpy() * 30.4375, rel=1e-12)
    assert levels["lloq"].isna().all()
    assert set(levels["detection"]) == {"quantified"}


def test_the_ct_trajectories_give_173_people_censored_at_40(shared: Path) -> None:
    path = shared / "kinetics" / "ct_trajectories" / "ct_dat_refined.csv"
    mapped = Settings(
        generic=[
            {
                "match": "ct_dat_refined.csv",
                "columns": {"patient_id": "PersonID", "time_actual": "TestDateIndex", "level": "CtT1"},
                "time_zero": "first_row",
                "quantity": "ct",
                "curve": {"slope": -3.60971, "intercept": 40.93733},
                "censored": {"ct_at_least": 40},
                "level_unit": "copies/mL",
            }
        ]
    )
    frame, _ = read_export(path, shared, mapped)
    own = pd.read_csv(path, dtype=str)
    assert len(frame) == len(own) == 19941
    assert frame["patient_id"].tolist() == own["PersonID"].tolist()
    assert frame["patient_id"].nunique() == 173
    censored = frame["detection"] == "below"
    assert censored.sum() == 18673
    assert censored.tolist() == (own["CtT1"].astype(float) >= 40).tolist()
    limit = 10 ** ((40.93733 - 40) / 3.60971)
    assert frame["lloq"].to_numpy() == pytest.approx(limit, rel=1e-12)
    ct = own.loc[~censored.to_numpy(), "CtT1"].astype(float).to_numpy()
    assert frame.loc[~censored, "value"].to_numpy() == pytest.approx(10 ** ((40.93733 - ct) / 3.60971), rel=1e-12)
    assert (frame.groupby("patient_id")["time"].min() == 0).all()
    spans = frame.groupby("patient_id")["time"].max()
    index = own.assign(t=own["TestDateIndex"].astype(float)).groupby("PersonID")["t"]
    assert spans.to_numpy() == pytest.approx((index.max() - index.min())[spans.index].to_numpy(), abs=1e-9)


def test_left_censored_hiv_rna_takes_its_limit_from_the_cell(shared: Path) -> None:
    columns = {"patient_id": "Patid", "time_actual": "Days.after.TI", "level": "RNA"}
    mapped = Settings(
        generic=[
            {
                "match": "UTIdata.csv",
                "columns": columns,
                "level_unit": "copies/mL",
                "censored": {"column": "RNAcens", "value": 1},
            }
        ]
    )
    frame, _ = read_export(shared / "kinetics" / "uti" / "UTIdata.csv", shared, mapped)
    assert frame["patient_id"].nunique() == 72
    below = frame[frame["detection"] == "below"]
    assert below["lloq"].value_counts().to_dict() == {50.0: 23, 400.0: 3}
    assert frame["detection"].value_counts().to_dict() == {"quantified": 336, "below": 26, "not_done": 11}


# -------------------------------------------------------------------------------------------------------------- refused

REFUSED = {
    "absolute_q/allotropy/*_fluorescence_columns.csv": "found the fluorescence of single partitions",
    "absolute_q/allotropy/*.zip": "found an archive of Appbio_AbsoluteQ_fluorescence",
    "flowjo_wsp/flowkit/*.xml": "found an XML document <gating:Gating-ML> of no known format",
    "lightcycler/tidyqpcr/*": "found a gzip archive",
    "quantasoft/ddpcr/expected_data.csv": "found a text of no known format",
    "quantasoft/ddpcr/test.csv": "found wells without droplets",
    "rdml/rdmlpython/matrix_gaps.rdml": "found amplification curves without a Cq",
    "rdml/rdmlpython/own_mix_a.rdml": "found amplification curves without a Cq",
    "rdml/rdmlpython/*_3.tsv": "found a text of no known format",
    "rdml/rdmlpython/*_pipett_*.tsv": "found a text of no known format",
    "rdml/rdmlpython/*_quantify.tsv": "found a text of no known format",
    "rdml/rdmlpython/*_results.tsv": "found a text of no known format",
}
READ_HERE = (
    *("cfx", "design_and_analysis", "facsdiva", "fcs", "qiacuity", "quantasoft", "quantstudio", "qx_manager"),
    "stepone",
)
READ_BESIDE = (
    "absolute_q/allotropy/*_example0?.csv",
    "absolute_q/allotropy/*_multichannel.csv",
    "absolute_q/allotropy/*_summary.csv",
    "rdml/rdmlpython/large_DNA_dilutions_res_dpcr_*.tsv",
    "flowjo_wsp/*/*.wsp",
    "flowjo_wsp/flowkit/*.fcs",
    "rdml/rdmlpython/[els]*.rdml",
)
"""Folders whose other files are read, and files read that lie among refused ones."""


def refused(exports: Path) -> Iterator[tuple[Path, str]]:
    for pattern, reason in REFUSED.items():
        for path in sorted(exports.glob(pattern)):
            yield path, reason


def test_a_file_of_no_known_format_is_refused_by_name_and_reason(exports: Path) -> None:
    wanted = dict(refused(exports))
    assert all(any(exports.glob(pattern)) for pattern in REFUSED)
    frame, reports = read_exports(list(wanted), exports, DEFAULTS)
    assert len(frame) == 0
    for report in reports:
        (problem,) = report.problems
        assert problem.file == report.label
        assert wanted[exports / report.label] in str(problem), str(problem)
        assert problem.mend


def test_every_file_of_the_collection_is_read_or_refused_here(exports: Path) -> None:
    there = {p for p in exports.rglob("*") if p.is_file() and p.name != "README.md"}
    known = {p for p in there if p.relative_to(exports).parts[0] in READ_HERE}
    known |= {p for pattern in READ_BESIDE for p in exports.glob(pattern)}
    assert there == known | set(dict(refused(exports)))


def test_an_old_workbook_is_laid_out_as_text(exports: Path) -> None:
    export = open_export(exports / "stepone" / "stepone_plus" / "MJA_March15_2021_data.xls", exports)
    assert [s.name for s in export.sheets][:3] == ["Sample Setup", "Results", "Amplification Data"]
    sheet = export.sheet("results")
    assert sheet is not None
    header, first = sheet.rows[7], sheet.rows[8]
    assert (header.number, first.number) == (8, 9)
    row = dict(zip(header.cells, first.cells, strict=True))
    assert (row["Well"], row["Sample Name"], row["Cт"]) == ("A1", "19WT1", "23.56201934814453")
    assert (row["Baseline Start"], row["Baseline End"], row["Automatic Ct Threshold"]) == ("3", "19", "false")


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_old_workbook_is_read_or_refused_and_never_ends_the_process(
    exports: Path, tmp_path: Path, seed: int
) -> None:
    """Sector chains that run in circles once took all memory of the machine."""
    content = bytearray((exports / "stepone" / "stepone_plus" / "MJA_March15_2021_data.xls").read_bytes())
    chance = np.random.default_rng(seed)
    for place in chance.integers(8, 600 if seed % 2 else len(content), size=30):
        content[place] = chance.integers(256)
    path = tmp_path / "damaged.xls"
    path.write_bytes(bytes(content))
    frame, (report,) = read_exports([path], tmp_path, DEFAULTS)
    # An old workbook has no checksum: where it can still be laid out, its cells are what shows the damage.
    assert all(p.file == "damaged.xls" and p.found and p.expected for p in report.problems)
    if not report.problems:
        # Whether a long sector chain ends within the limit of time is the machine's; the cells are then untouched.
        source = exports / "stepone" / "stepone_plus" / "MJA_March15_2021_data.xls"
        whole, _ = read_export(source, exports, DEFAULTS)
        own = ["source_file", "source_sha256"]
        pd.testing.assert_frame_equal(frame.drop(columns=own), whole.drop(columns=own))


def test_pipetting_schemes_and_droplet_amplitudes_are_no_results(exports: Path) -> None:
    names = ("rdml/rdmlpython/large_DNA_dilutions_pipett_dpcr.tsv", "quantasoft/ddpcr/expected_data.csv")
    _, reports = read_exports([exports / n for n in names], exports, DEFAULTS)
    assert ["nearest" in str(r.problems[0]) for r in reports] == [False, False]
