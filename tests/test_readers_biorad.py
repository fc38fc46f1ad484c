"""Bio-Rad's exports: CFX, QuantaSoft and QX Manager, read as the files print them, and all the way to observations."""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from nkinetics import ingest, settings
from nkinetics.errors import InputError
from nkinetics.plugins import discover
from nkinetics.quantify import dpcr, qpcr
from nkinetics.readers import read_export
from nkinetics.readers._export import open_export
from nkinetics.settings import Ddpcr, Settings

DATA = Path(__file__).parent / "data" / "readers"
PLATE = DATA / "cfx" / "CAR-07_Quantification_Cq_Results_0.csv"
CUSTOM = DATA / "cfx" / "custom.csv"
MAESTRO = DATA / "cfx" / "maestro.xlsx"
WELLS = DATA / "quantasoft" / "sixty_four_cells.csv"
QX100 = DATA / "quantasoft" / "qx100.csv"
DEFAULTS = Settings()


@pytest.fixture(scope="session")
def exports(shared: Path) -> Path:
    return shared / "exports"


def read(path: Path) -> pd.DataFrame:
    frame, report = read_export(path, path.parent, DEFAULTS)
    assert report.n_rows == len(frame)
    return frame


def printed(path: Path) -> list[dict[str, str]]:
    """The table by the file's own headers, read as plainly as can be."""
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path, read_only=True)
        table = [["" if c is None else str(c) for c in row] for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    else:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            table = list(csv.reader(handle))
    return [dict(zip(table[0], row, strict=False)) for row in table[1:] if any(row)]


def plain(well: str) -> str:
    return well if well.startswith("M") else f"{well[0]}{int(well[1:])}"


def with_decimal_commas(path: Path, target: Path, encoding: str = "utf-8") -> Path:
    """The same table as a computer with a comma for the decimal mark writes it."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))
    numbers = [[c.replace(".", ",") if c.replace(".", "", 1).isdigit() else c for c in row] for row in rows]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=";", lineterminator="\r\n").writerows(numbers)
    target.write_bytes(buffer.getvalue().encode(encoding))
    return target


def as_workbook(path: Path, target: Path, sheet: str) -> Path:
    """The same table as a workbook, numbers as numbers."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = sheet
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))
    for n, row in enumerate(rows):
        names = {i for i, header in enumerate(rows[0]) if header in ("Sample", "Well", "Target", "Assay")}
        cells: list[object] = []
        for i, cell in enumerate(row):
            number = n and i not in names and cell.replace(".", "", 1).isdigit()
            cells.append(float(cell) if number else cell or None)
        book.active.append(cells)
    book.save(target)
    return target


def edited(path: Path, folder: Path, old: str, new: str, count: int = 1) -> Path:
    text = path.read_bytes().decode()
    assert old in text
    (folder / path.name).write_bytes(text.replace(old, new, count).encode())
    return folder / path.name


# ------------------------------------------------------------------------------------------------------------------ CFX


@pytest.mark.shared
def test_every_well_of_a_real_cfx_export_is_read_as_the_file_prints_it(exports: Path) -> None:
    path = exports / "cfx" / "allotropy" / "example01.csv"
    frame, rows = read(path), printed(path)
    assert len(frame) == len(rows) == 48
    assert set(frame["reader"]) == {"cfx"}
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert (raw.well, raw.sample_id) == (plain(row["Well"]), row["Sample"])
        assert raw.target == (row["Target"] or row["Fluor"])
        assert raw.value == float(row["Cq"])
        assert (raw.role, raw.detection, row["Content"]) == ("unknown", "quantified", "Unkn")
        assert math.isnan(raw.quantity)


@pytest.mark.shared
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_decimal_commas_of_a_cfx_export_give_the_same_values(exports: Path, tmp_path: Path, encoding: str) -> None:
    path = exports / "cfx" / "allotropy" / "example01.csv"
    other = with_decimal_commas(path, tmp_path / "example01.csv", encoding)
    same = ["well", "sample_id", "target", "role", "value", "detection", "run_id", "source_row"]
    pd.testing.assert_frame_equal(read(other)[same], read(path)[same])


@pytest.mark.shared
def test_a_cfx_workbook_gives_the_wells_of_the_text(exports: Path, tmp_path: Path) -> None:
    path = exports / "cfx" / "allotropy" / "example01.csv"
    other = as_workbook(path, tmp_path / "example01.xlsx", "0")
    same = ["well", "sample_id", "target", "role", "value", "detection", "run_id", "source_row"]
    pd.testing.assert_frame_equal(read(other)[same], read(path)[same])


def test_no_well_of_a_cfx_plate_is_lost_and_numeric_names_stay_text() -> None:
    frame = read(PLATE)
    assert len(frame) == len(PLATE.read_text().splitlines()) - 1
    ntc = frame[frame["role"] == "ntc"]
    assert ntc["well"].tolist() == ["E1", "E2"]
    assert set(ntc["sample_id"]) == {""} and set(ntc["note"]) == {""} and set(ntc["detection"]) == {"not_detected"}
    assert {"351", "0012"} <= set(frame["sample_id"])
    workbook = read(MAESTRO)
    assert {"351", "0012"} <= set(workbook["sample_id"])
    assert workbook.loc[workbook["role"] == "ntc", "well"].tolist() == ["E1", "E2"]


def test_lines_above_a_cfx_table_are_not_propagated() -> None:
    for path in (CUSTOM, MAESTRO):
        frame, report = read_export(path, path.parent, DEFAULTS)
        assert "jdoe" not in frame.to_csv() + report.note


def test_the_quantities_that_cfx_prints_follow_from_the_standards_that_were_read() -> None:
    """The example prints SQ for samples on the curve; the reader gives Ct and standards, from which SQ must follow."""
    frame = read(CUSTOM)
    standards = frame[frame["role"] == "standard"]
    curve = qpcr.standard_curve(standards["value"].to_numpy(), standards["quantity"].to_numpy())
    assert curve is not None
    with CUSTOM.open() as handle:
        rows = list(csv.reader(handle))[15:]
    sampled = [(i, float(row[-1])) for i, row in enumerate(rows) if row[3] == "Unkn" and row[-1] != "N/A"]
    assert len(sampled) == 5
    for i, quantity in sampled:
        found = 10 ** ((frame["value"].iloc[i] - curve.intercept) / curve.slope)
        assert found == pytest.approx(quantity, rel=0.01)


BROKEN_PLATES = {
    "an unknown content": (
        PLATE,
        ";Unkn-01;",
        ";Unkwn-01;",
        "row 14, column Content: found 'Unkwn-01'; expected Unkn, St",
    ),
    "a point among commas": (PLATE, ";28,05;", ";28.05;", r"row 14, column Cq: found '28\.05'; .* decimal mark ','"),
    "a Cq beyond 60": (PLATE, ";28,05;", ";280,5;", r"row 14, column Cq: found '280,5'; expected a Ct above 0"),
    "an unknown word": (PLATE, ";28,05;", ";perhaps;", "row 14, column Cq: found 'perhaps'"),
    "a quantity unlike its logarithm": (
        PLATE,
        ";1000000;6;",
        ";100000;6;",
        r"row 2, column Starting Quantity \(SQ\): found 100000, whose logarithm is printed as 6",
    ),
    "a well twice": (
        PLATE,
        ";B02;FAM;",
        ";B01;FAM;",
        "row 15, column Well: found a second row for B1, CAR, after row 14",
    ),
    "a row that is no well": (PLATE, ";B02;", ";Z99X;", "row 15, column Well: found 'Z99X'"),
    "a lost separator": (PLATE, ";Unkn-01;351;", ";Unkn-01 351;", "row 14: found 15 cells; expected 16"),
    "a formula as sample": (
        PLATE,
        ";P-003;",
        ";=cmd|x;",
        r"row 20, column Sample: found '=cmd\|x', which a spreadsheet",
    ),
    "no Cq": (PLATE, ";Cq;", ";Melt Temperature;", "Bio-Rad CFX results, which it is not without Cq"),
    "no Sample": (PLATE, ";Sample;", ";Name;", "Bio-Rad CFX results, which it is not without Sample"),
    "no row": (CUSTOM, CUSTOM.read_text().partition("(SQ)\n")[2], "", "row 15: found a header without wells"),
    "a cut quantity": (CUSTOM, "1.28E+002\n", "1.28E+0", "found a last line that ends within a numb"),
}


@pytest.mark.parametrize("case", BROKEN_PLATES)
def test_a_damaged_cfx_export_is_refused_with_place_and_reason(tmp_path: Path, case: str) -> None:
    path, old, new, message = BROKEN_PLATES[case]
    with pytest.raises(InputError, match=message):
        read(edited(path, tmp_path, old, new))


def test_results_on_two_sheets_are_refused(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(MAESTRO)
    book.copy_worksheet(book["0"]).title = "1"
    book.save(tmp_path / "two.xlsx")
    with pytest.raises(InputError, match="found results on the sheets 0, 1; expected one sheet of results"):
        read(tmp_path / "two.xlsx")


def test_standards_without_a_column_of_quantities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 15: found no quantities; expected a column Starting Quantity \(SQ\)"):
        read(edited(CUSTOM, tmp_path, "Starting Quantity (SQ)", "Call"))


def test_a_cq_far_from_the_mean_of_its_replicates_is_refused(tmp_path: Path) -> None:
    """Decimal commas in a comma-separated file: every row, and the header through Std. Dev, grows alike."""
    path = tmp_path / "plate.csv"
    path.write_text(
        "Well,Target,Content,Sample,Cq,Cq Mean,Cq Std, Dev,SQ,Log Starting Quantity\n"
        + "".join(f"A0{i},CAR,Unkn-1,351,21,187{i},21,187,0,02\n" for i in range(1, 4))
    )
    with pytest.raises(InputError, match="row 2, column Cq Mean: found 1871 beside a Cq of 21; expected the mean"):
        read(path)


# ----------------------------------------------------------------------------------------------------------- QuantaSoft

QUANTASOFT = {"ddpcr/small.csv": (10, 0.91), "ddpcr_nipd/20-2243.csv": (60, 0.85), "ddpcr_nipd/21-1705.csv": (88, 0.85)}
QX_MANAGER = {"ddpcr/quant.csv": (12, 0.85), "q4ddpcr/Excel-file.xlsx": (176, 0.795)}


@pytest.mark.shared
@pytest.mark.parametrize("name", QUANTASOFT)
def test_every_row_of_a_real_quantasoft_export_is_read_as_the_file_prints_it(exports: Path, name: str) -> None:
    path = exports / "quantasoft" / name
    frame, rows = read(path), printed(path)
    assert len(frame) == len(rows) == QUANTASOFT[name][0]
    assert set(frame["reader"]) == {"quantasoft"}
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert (raw.well, raw.sample_id) == (plain(row["Well"]), row["Sample"])
        assert raw.target == row.get("Target", row.get("Assay"))
        assert (raw.n_partitions, raw.n_positive) == (int(row["AcceptedDroplets"]), int(row["Positives"]))
        assert raw.value_raw == row["Concentration"]
        if row["Positives"] == "0":
            assert (raw.detection, row["Concentration"]) == ("not_detected", "0")
        else:
            assert (raw.detection, raw.value) == ("quantified", float(row["Concentration"]))
        merged = row["Well"].startswith("M")
        assert raw.role == ("summary" if merged else "ntc" if row["Sample"] == "NTC" else "unknown")
        assert bool(raw.note) == merged


@pytest.mark.shared
@pytest.mark.parametrize(("name", "nl"), [(f"quantasoft/{n}", v) for n, (_, v) in QUANTASOFT.items()])
def test_printed_concentrations_of_quantasoft_follow_from_its_droplets(exports: Path, name: str, nl: float) -> None:
    """copies/uL = -ln(1 - k/n) / V within 1 %, or half of the last digit printed; V of a real instrument."""
    frame = read(exports / name)
    told = dpcr.telling(frame)
    assert len(told) > 5
    for row in told.to_dict("records"):
        found = -math.log(1 - row["n_positive"] / row["n_partitions"]) / nl * 1000
        digits = len(row["value_raw"].partition(".")[2])
        assert abs(found - row["value"]) <= max(0.01 * found, 0.5 * 10.0**-digits + 1e-9), row
    assert dpcr.partition_volume(frame[frame["role"] == "unknown"], Ddpcr()) == nl


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ddpcr_nipd/20-2243.csv", "ddpcr_nipd/21-1705.csv"])
def test_merged_wells_of_quantasoft_hold_the_droplets_of_their_single_wells(exports: Path, name: str) -> None:
    frame, rows = read(exports / "quantasoft" / name), printed(exports / "quantasoft" / name)
    singles = frame[frame["role"] != "summary"]
    checked = 0
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        if raw.role != "summary":
            continue
        wells = [plain(w) for w in row["MergedWells"].strip("()").split(",")]
        members = singles[singles["well"].isin(wells) & (singles["target"] == raw.target)]
        assert members["n_partitions"].sum() == raw.n_partitions
        checked += 1
    assert checked == (frame["role"] == "summary").sum() > 9
    # What a quantification uses is the single wells alone.
    assert not (set(frame[frame["note"] == ""]["well"]) & {f"M{i:02d}" for i in range(1, 20)})


@pytest.mark.shared
@pytest.mark.parametrize("name", QUANTASOFT)
def test_quantasoft_with_decimal_commas_or_in_a_workbook_gives_the_same_wells(
    exports: Path, tmp_path: Path, name: str
) -> None:
    path = exports / "quantasoft" / name
    stem = path.stem
    same = ["well", "sample_id", "target", "role", "value", "detection", "n_partitions", "n_positive", "note", "run_id"]
    wanted = read(path)[same]
    pd.testing.assert_frame_equal(read(with_decimal_commas(path, tmp_path / f"{stem}.csv", "utf-16"))[same], wanted)
    pd.testing.assert_frame_equal(read(as_workbook(path, tmp_path / f"{stem}.xlsx", "Sheet1"))[same], wanted)


@pytest.mark.shared
def test_a_plate_that_was_never_read_and_amplitudes_are_no_results(exports: Path) -> None:
    with pytest.raises(InputError, match="found wells without droplets, as of a plate that was set up and not read"):
        read(exports / "quantasoft" / "ddpcr" / "test.csv")
    with pytest.raises(InputError, match="found a text of no known format"):
        read(exports / "quantasoft" / "ddpcr" / "expected_data.csv")


def test_merged_wells_that_the_export_does_not_list_are_known_by_their_droplets(tmp_path: Path) -> None:
    frame = read(edited(WELLS, tmp_path, "MergedWells", "Wells"))
    pd.testing.assert_series_equal(frame["role"], read(WELLS)["role"])
    pd.testing.assert_series_equal(frame["note"], read(WELLS)["note"])


def test_the_example_has_64_cells_under_63_headers() -> None:
    with WELLS.open() as handle:
        lengths = [len(row) for row in csv.reader(handle)]
    assert lengths[0] == 63 and set(lengths[1:]) == {64}


@pytest.mark.parametrize(("name", "nl"), [(WELLS, 0.85), (QX100, 0.91)], ids=["QX200", "QX100"])
def test_the_volume_of_a_droplet_is_told_from_the_file(name: Path, nl: float) -> None:
    frame = read(name)
    assert dpcr.partition_volume(frame[frame["note"] == ""], Ddpcr()) == nl


BROKEN_WELLS = {
    "droplets that do not add up": (
        "105,14895,",
        "105,14985,",
        "105 positives and 14985 negatives of 15000 accepted dro",
    ),
    "an unknown type": ("Ch1NTC", "Ch1Nothing", "column TargetType: found 'Ch1Nothing'; expected Ch1 or Ch2 with Unkn"),
    "half of a merged well": ('"(A01,B01)"', '"(A01,B03)"', "MergedWells: found A1, B3, of which only A1 stand alone"),
    "a well twice": ('"C01"', '"A01"', "found a second row for A1, CAR, after row 4"),
    "a row that is no well": ('"C01"', '"Q01"', "column Well: found 'Q01'; expected a well, as A01, or M01"),
    "a lost separator": ("Absolute Quantification,", "Absolute Quantification", "row 2: found 63 cells; expected 64"),
    "an additional separator": ("105,14895,", "105,,14895,", "row 4: found 65 cells"),
    "a merged well with other droplets than its wells": (
        ",203,29007,,,,,,29210,",
        ",203,29107,,,,,,29310,",
        "column MergedWells: found 29310 droplets in M01, and 29210 in A1, B1; expected the droplets of the wells",
    ),
    "a list of merged wells that is none": (
        '"(A01,B01)"',
        '"(A01B01)"',
        r"MergedWells: found '\(A01B01\)'; expected single",
    ),
    "a fraction of a droplet": (
        "105,14895,",
        "105.5,14895,",
        r"column Positives: found '105\.5'; expected a whole number",
    ),
    "no droplets behind a concentration": (
        "105,14895,,,,,,15000,",
        ",,,,,,,,",
        "column AcceptedDroplets: found an empty cell; expected the droplets behind",
    ),
    "a concentration that is a word": (",8.26,", ",many,", "column Concentration: found 'many'"),
}


@pytest.mark.parametrize("case", BROKEN_WELLS)
def test_a_damaged_quantasoft_export_is_refused_with_place_and_reason(tmp_path: Path, case: str) -> None:
    old, new, message = BROKEN_WELLS[case]
    with pytest.raises(InputError, match=message):
        read(edited(WELLS, tmp_path, old, new))


# ----------------------------------------------------------------------------------------------------------- QX Manager


@pytest.mark.shared
@pytest.mark.parametrize("name", QX_MANAGER)
def test_every_row_of_a_real_qx_manager_export_is_read_as_the_file_prints_it(exports: Path, name: str) -> None:
    path = exports / "qx_manager" / name
    frame, rows = read(path), printed(path)
    assert len(frame) == len(rows) == QX_MANAGER[name][0]
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert (raw.well, raw.sample_id, raw.target) == (
            plain(row["Well"]),
            row["Sample description 1"],
            row["Target"].removesuffix(".0"),
        )
        assert (raw.n_partitions, raw.n_positive) == (float(row["Accepted Droplets"]), float(row["Positives"]))
        if float(row["Positives"]) and row["Conc(copies/µL)"] != "No Call":
            assert raw.value == pytest.approx(float(row["Conc(copies/µL)"]), rel=1e-12)


@pytest.mark.shared
@pytest.mark.parametrize("name", QX_MANAGER)
def test_concentrations_of_a_qx_manager_export_are_recomputed_with_the_volume_that_it_implies(
    exports: Path, name: str
) -> None:
    """Levels of a sample from k and n equal what the file prints; with the usual 0.85 nL they would be 7 % wrong."""
    frame, nl = read(exports / "qx_manager" / name), QX_MANAGER[name][1]
    frame["role"] = "unknown"
    frame["sample_id"] = [f"S{i}" for i in range(len(frame))]
    samples = pd.DataFrame({"sample_id": frame["sample_id"], "ng_input": 100.0})
    chosen = Ddpcr(target_pattern=".", lloq_copies=0.001, lod_copies=None)
    made = dpcr.quantify(frame, samples, chosen)
    assert not made.problems
    said = [w for w in made.warnings if "partitions of" in w]
    run = frame["run_id"].iloc[0]
    assert said == (
        []
        if nl == 0.85
        else [
            f"Run {run}: its printed concentrations follow from partitions of 0.795 nL, not of the usual 0.85 nL; "
            "0.795 nL are used."
        ]
    )
    levels = made.levels.set_index("sample_id")["level"]
    told = dpcr.telling(frame)
    told = told[told["n_partitions"] >= 10000]
    wanted = told["value"].to_numpy() * 20 / 100 * 1000
    assert levels[told["sample_id"]].to_numpy() == pytest.approx(wanted, rel=1e-5)
    assert len(told) > 10


def _quantified(volume: float, chosen: Ddpcr) -> dpcr.Quantified:
    k, n = np.array([105, 2000, 7000]), np.array([15000, 15100, 15200])
    concentration = -np.log1p(-k / n) / volume * 1000
    frame = (
        read(QX100)
        .iloc[:3]
        .assign(
            sample_id=["A", "B", "C"],
            role="unknown",
            target="CAR",
            n_positive=k,
            n_partitions=n,
            value=concentration,
            value_raw=[f"{c:.6g}" for c in concentration],
            detection="quantified",
            note="",
        )
    )
    return dpcr.quantify(frame, pd.DataFrame({"sample_id": ["A", "B", "C"], "ng_input": 100.0}), chosen)


@pytest.mark.parametrize("volume", [0.795, 0.87, 0.7])
def test_concentrations_of_another_droplet_volume_are_refused_and_say_which_it_is(volume: float) -> None:
    made = _quantified(volume, Ddpcr())
    (problem,) = made.problems
    assert f"the printed concentrations imply partitions of {volume:g} nL (median), not of 0.85 or 0.91 nL" in problem
    assert "give assays.ddpcr.partition_nl" in problem
    assert made.levels.empty
    given = _quantified(volume, Ddpcr(partition_nl=volume))
    assert set(given.levels["status"]) == {"quantified"} and not given.problems


def test_a_configured_volume_that_the_file_contradicts_gives_no_level() -> None:
    made = _quantified(0.795, Ddpcr(partition_nl=0.85))
    assert set(made.levels["status"]) == {"failed"}
    assert all("printed concentration" in why for why in made.set_aside.values()) and len(made.set_aside) == 3


def test_one_bad_well_does_not_change_the_volume_of_the_others() -> None:
    frame = read(WELLS)
    wells = frame[frame["note"] == ""].copy()
    wells.loc[wells["well"] == "A1", "value"] *= 2
    assert dpcr.partition_volume(wells, Ddpcr()) == 0.85


def test_an_analysis_pro_table_with_one_column_of_samples_is_read(tmp_path: Path) -> None:
    text = (DATA / "qx_manager" / "wells.csv").read_text()
    rows = list(csv.reader(io.StringIO(text)))
    at = rows[0].index("Sample description 2")
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([c for i, c in enumerate(row) if i != at] for row in rows)
    path = tmp_path / "wells.csv"
    path.write_text(buffer.getvalue().replace("Sample description 1", "Sample", 1))
    pd.testing.assert_frame_equal(
        read(path).drop(columns="source_sha256"), read(DATA / "qx_manager" / "wells.csv").drop(columns="source_sha256")
    )


ANALYSIS_PRO = "rdml/rdmlpython/large_DNA_dilutions_res_dpcr_"


@pytest.mark.shared
@pytest.mark.parametrize(("kind", "wells", "negative"), [("evagreen", 7, 0), ("probe", 24, 2)])
def test_a_real_analysis_pro_export_is_read_and_its_concentrations_recomputed(
    exports: Path, kind: str, wells: int, negative: int
) -> None:
    path = exports / f"{ANALYSIS_PRO}{kind}.tsv"
    frame = read(path)
    with path.open(encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["Well"]]  # blank lines of tabs follow
    assert len(frame) == len(rows) == wells
    assert (frame["detection"] == "not_detected").sum() == negative
    for raw, row in zip(frame.itertuples(), rows, strict=True):
        assert (raw.well, raw.sample_id, raw.target) == (plain(row["Well"]), row["Sample"], row["Target"])
        assert (raw.n_partitions, raw.n_positive) == (int(row["Accepted Droplets"]), int(row["Positives"]))
        assert raw.role == ("ntc" if row["Sample"] == "NTC" else "unknown")
        if raw.detection == "quantified":
            assert raw.value == float(row["Conc(copies/µL)"])
            recomputed = -math.log(1 - raw.n_positive / raw.n_partitions) / 0.85 * 1000
            assert recomputed == pytest.approx(raw.value, rel=0.01, abs=0.006)
        else:
            assert (row["Conc(copies/µL)"], raw.n_positive) == ("No Call", 0)


@pytest.mark.shared
def test_no_bio_rad_reader_claims_an_export_of_another_make(exports: Path) -> None:
    own = {"cfx": "cfx", "quantasoft": "quantasoft", "qx_manager": "qx_manager"}
    claimed: dict[str, int] = dict.fromkeys(own, 0)
    for path in sorted(p for p in exports.rglob("*") if p.is_file()):
        try:
            export = open_export(path, exports)
        except InputError:
            continue
        for name, folder in own.items():
            if discover("readers")[name].claim(export, DEFAULTS).matches:
                assert export.label.startswith((folder + "/", ANALYSIS_PRO)), (name, export.label)
                claimed[name] += 1
    assert claimed == {"cfx": 1, "quantasoft": 4, "qx_manager": 4}


# ------------------------------------------------------------------------------------------------------- the whole way


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A CFX plate with decimal commas and a QuantaSoft plate of the same patients."""
    (tmp_path / "config").mkdir()
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    shutil.copy(PLATE, raw)
    shutil.copy(WELLS, raw)
    (tmp_path / "config" / "config.yaml").write_text(
        "study: {id: BIORAD, title: Two instruments of one maker, time_zone: Europe/Berlin, reference_dose: 2.0e+9}\n"
        "inputs: {exports: [data/raw/**], patients: config/patients.csv, samples: config/samples.csv,\n"
        "  infusions: config/infusions.csv}\n"
        "assays:\n"
        "  qpcr: {target_pattern: ^CAR$, reference_pattern: ^RPPH1$}\n"
        "  ddpcr: {target_pattern: ^CAR$, reference_pattern: ^RPPH1$}\n"
        "batches: 2\n"
    )
    (tmp_path / "config" / "patients.csv").write_text("patient_id,dose_level\n007,DL1\nP002,DL1\n")
    (tmp_path / "config" / "infusions.csv").write_text(
        "patient_id,infusion,time,planned,given\n007,1,0,2e9,2e9\nP002,1,0,2e9,2e9\n"
    )
    rows = ["351,007,1", "0012,007,7", "P-003,007,28", "P-004,P002,1", "P-005,P002,3", "P-006,P002,7", "P-007,P002,14"]
    (tmp_path / "config" / "samples.csv").write_text(
        "sample_id,patient_id,time_actual,ng_input\n" + "".join(f"{row},200\n" for row in rows)
    )
    return tmp_path


def test_a_cfx_run_and_a_quantasoft_run_become_observations(study: Path) -> None:
    made = ingest.run(settings.load(study / "config" / "config.yaml"), study)
    assert not made.problems
    rows = made.observations.set_index(["assay", "sample_id"])
    run = made.runs.set_index(["run_id", "target"])
    assert run.loc[("CAR-07", "CAR"), "slope"] == pytest.approx(-3.32, abs=1e-6)
    assert run.loc[("CAR-07", "CAR"), "intercept"] == pytest.approx(38, abs=1e-6)
    assert bool(run.loc[("CAR-07", "CAR"), "accepted"]) and bool(run.loc[("CAR-07", "CAR"), "ntc_ok"])
    assert bool(run.loc[("sixty_four_cells", "CAR"), "accepted"])
    assert bool(run.loc[("sixty_four_cells", "CAR"), "ntc_ok"])
    # Ct 28.04 is 1000 copies in 200 ng; 203 of 29210 droplets of 0.85 nL, 20 uL, in 200 ng.
    assert rows.loc[("qpcr", "351"), "level"] == pytest.approx(5000, rel=1e-3)
    assert rows.loc[("ddpcr", "351"), "level"] == pytest.approx(-math.log(1 - 203 / 29210) / 0.85e-3 * 20 / 200 * 1000)
    assert rows.loc[("ddpcr", "P-007"), "level"] == pytest.approx(-math.log(1 - 60 / 31000) / 0.85e-3 * 20 / 200 * 1000)
    assert rows["status"].to_dict() == {
        ("qpcr", "351"): "quantified",
        ("qpcr", "0012"): "blq",
        ("qpcr", "P-003"): "not_detected",
        ("ddpcr", "351"): "quantified",
        ("ddpcr", "0012"): "blq",
        ("ddpcr", "P-003"): "not_detected",
        ("ddpcr", "P-004"): "failed",
        ("ddpcr", "P-005"): "failed",
        ("ddpcr", "P-006"): "failed",
        ("ddpcr", "P-007"): "quantified",
    }
    assert "No Call in spite of 17 positives" in rows.loc[("ddpcr", "P-005"), "exclusion_reason"]
    assert rows.loc[("qpcr", "351"), "patient_id"] == "007"


def test_every_row_of_both_exports_is_used_or_set_aside_with_a_reason(study: Path) -> None:
    made = ingest.run(settings.load(study / "config" / "config.yaml"), study)
    for name, n in ((PLATE.name, len(PLATE.read_text().splitlines()) - 1), (WELLS.name, 16)):
        rows = made.ingest[made.ingest["source_file"] == f"data/raw/{name}"]
        assert len(rows) == n
        assert (rows["used"] == (rows["reason"] == "")).all()
    reasons = made.ingest.set_index(["source_file", "well", "target"])["reason"]
    assert reasons[f"data/raw/{WELLS.name}", "M01", "CAR"] == (
        "merged well of A1, B1: its droplets are those of single wells"
    )
    assert reasons[f"data/raw/{WELLS.name}", "A1", "CAR"] == ""
    used = made.ingest[made.ingest["used"] & (made.ingest["role"] == "ntc")]
    assert sorted(used["well"]) == ["E1", "E2", "G1", "H1"]


def test_a_target_without_a_name_of_qx_manager_is_called_by_its_dye(tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO((DATA / "qx_manager" / "wells.csv").read_text())))
    at = rows[0].index("Target")
    single = rows[1:3]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*rows[0], "DyeName(s)"])
    writer.writerows([*row[:at], "", *row[at + 1 :], dye] for row, dye in zip(single, ("FAM", "HEX"), strict=True))
    (tmp_path / "unnamed.csv").write_text(buffer.getvalue())
    frame = read(tmp_path / "unnamed.csv")
    assert frame["target"].tolist() == ["FAM", "HEX"]
    assert frame["remark"].str.contains("the target has no name and is called by its dye").all()
