"""Workspaces, trees, RDML and FCS headers: real files against what stands in them, and the way to cells/uL."""

from __future__ import annotations

import csv
import io
import re
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from nkinetics import ingest, settings
from nkinetics.errors import InputError
from nkinetics.readers import read_export, read_exports
from nkinetics.readers._gates import acquired
from nkinetics.settings import Settings

DEFAULTS = Settings()
DATA = Path(__file__).parent / "data" / "readers"
RDML = "{http://www.rdml.org}"


@pytest.fixture(scope="session")
def exports(shared: Path) -> Path:
    return shared / "exports"


def read_text(folder: Path, name: str, text: str) -> pd.DataFrame:
    (folder / name).write_text(text, encoding="utf-8")
    return read_export(folder / name, folder, DEFAULTS)[0]


def problems(folder: Path, name: str, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_text(folder, name, text)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------- FlowJo workspaces

WORKSPACES = {
    "allotropy/flowjo_example_1.wsp": (8, 80, 8),
    "allotropy/flowjo_example_3.wsp": (6, 18, 0),
    "flowkit/8_color_ICS.wsp": (3, 42, 0),
    "flowkit/8_color_ICS_simple.wsp": (3, 12, 0),
    "flowkit/reused_quad_gate_with_child.wsp": (1, 13, 0),
    "flowkit/simple_diamond_example_quad_gate.wsp": (1, 4, 0),
    "flowkit/simple_poly_and_rect.wsp": (1, 2, 2),
    "flowkit/simple_poly_and_rect_v2_poly50.wsp": (1, 2, 0),
    "flowkit/single_ellipse_51_events.wsp": (1, 1, 0),
    "flowkit/test_data_diamond_asinh_rect.wsp": (1, 1, 0),
    "flowkit/test_data_diamond_asinh_rect2.wsp": (1, 1, 0),
    "flowkit/test_data_diamond_biex_rect.wsp": (1, 1, 0),
}
"""Samples, gates below them and counts of -1, counted in the files."""


def stored(path: Path) -> Iterator[tuple[str, str, str]]:
    """Sample, path and count of every population, as plainly as can be."""

    def below(element: ET.Element, path: str) -> Iterator[tuple[str, str]]:
        for population in element.findall("Subpopulations/Population"):
            own = f"{path}/{population.attrib['name']}" if path else population.attrib["name"]
            yield own, population.attrib["count"]
            yield from below(population, own)

    for node in ET.parse(path).getroot().findall("SampleList/Sample/SampleNode"):
        sample = node.attrib["name"].removesuffix(".fcs")
        yield sample, "All Events", node.attrib["count"]
        yield from ((sample, gate, count) for gate, count in below(node, ""))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "counts"), WORKSPACES.items())
def test_every_stored_count_of_a_workspace_is_read_as_it_stands(
    exports: Path, name: str, counts: tuple[int, int, int]
) -> None:
    path = exports / "flowjo_wsp" / name
    frame, report = read_export(path, exports, DEFAULTS)
    samples, gates, not_computed = counts
    assert report.reader == "flowjo_wsp"
    own = list(stored(path))
    assert list(zip(frame["sample_id"], frame["target"], frame["value_raw"], strict=True)) == own
    assert len(frame) == samples + gates
    assert (frame["target"] == "All Events").sum() == samples
    missing = frame[frame["value"].isna()]
    assert len(missing) == not_computed == [count for *_, count in own].count("-1")
    assert set(missing["detection"]) <= {"not_done"}
    assert missing["remark"].str.startswith("the count was not computed").all()
    counted = frame[frame["value"].notna()]
    assert counted["value"].tolist() == [float(count) for *_, count in own if count != "-1"]
    assert (frame["note"] == "").all()


@pytest.mark.shared
def test_every_workspace_of_the_collection_is_read_and_gating_ml_is_refused(exports: Path) -> None:
    folder = exports / "flowjo_wsp"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.wsp")} == set(WORKSPACES)
    with pytest.raises(InputError, match=r"<gating:Gating-ML> of no known format"):
        read_export(folder / "flowkit" / "8_color_ICS.xml", exports, DEFAULTS)


@pytest.mark.shared
def test_no_folder_user_or_operator_of_a_workspace_experiment_or_header_is_propagated(exports: Path) -> None:
    paths = [p for n in ("flowjo_wsp", "facsdiva", "fcs") for p in (exports / n).rglob("*") if p.is_file()]
    frame, reports = read_exports(paths, exports, DEFAULTS)
    assert len(frame) > 200
    text = frame.drop(columns=["source_file"]).to_csv() + "".join(r.note for r in reports)
    words = ("Users", "JamesLeinas", "file:", "VBOXSVR", "V:", "CRCR", "Administrator", "Cole Urnes", "kashofer")
    assert [word for word in words if word in text] == []
    assert "\\" not in text


def test_two_samples_of_one_name_are_set_aside_and_the_others_are_read() -> None:
    frame, _ = read_export(DATA / "flowjo_wsp" / "flowjo10.wsp", DATA, DEFAULTS)
    aside = frame[frame["note"] != ""]
    assert set(aside["sample_id"]) == {"A01"}
    assert frame[frame["note"] == ""]["sample_id"].nunique() == 2


FLOWJO_97 = """<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE Workspace><Workspace version="3.0" \
flowJoVersion="9.7.2" curGroup="All"> <Groups><GroupNode nodeName="All Samples">\
<Population nodeName="Lymphs" /></GroupNode></Groups> <Samples nextSampleID="3"> \
<Sample eventCount="9000" sampleID="1"> <Keywords>\
<Keyword name="$FIL" value="other.fcs" /></Keywords> <SampleNode sampleID="1" nodeName="P01-D4.fcs" count="9000">\
<GraphInformation type="Contour"><Axis name="FSC" /></GraphInformation>\
<Population nodeName="Lymphs" count="6000"><PolygonGate><Polygon name="Lymphs"><Polygon><Vertex x="1" y="2" />\
</Polygon></Polygon></PolygonGate><Population nodeName="NK" owningGroup="All" count="450">\
<Statistic nodeName="Freq. of Parent" statValue="7.5" /></Population>\
<Population nodeName="not NK" count="5550"><BooleanGate specification="! G0"><GatePaths><StringArray>\
<String>Lymphs/NK</String></StringArray></GatePaths></BooleanGate></Population></Population></SampleNode></Sample>\
</Samples></Workspace>
"""


def counts(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(raw.sample_id, raw.target): raw.value for raw in frame.itertuples()}


def test_flowjo_9_7_calls_its_samples_and_names_otherwise_and_is_read_alike(tmp_path: Path) -> None:
    wanted = {
        ("P01-D4", "All Events"): 9000,
        ("P01-D4", "Lymphs"): 6000,
        ("P01-D4", "Lymphs/NK"): 450,
        ("P01-D4", "Lymphs/not NK"): 5550,
    }
    newest = read_text(tmp_path, "nine.xml", FLOWJO_97)
    assert counts(newest) == wanted
    assert set(newest["role"]) == {"unknown"}
    older = FLOWJO_97.replace("nodeName", "name").replace("Samples", "SampleList").replace("GraphInformation", "Graph")
    assert counts(read_text(tmp_path, "eight.xml", older)) == wanted


def test_a_total_that_flowjo_7_never_stored_is_not_done_and_its_gates_are_kept(tmp_path: Path) -> None:
    seven = FLOWJO_97.replace('P01-D4.fcs" count="9000"', 'P01-D4.fcs" count="0"')
    frame = read_text(tmp_path, "seven.wsp", seven).set_index("target")
    assert frame.loc["Lymphs":, "value"].tolist() == [6000, 450, 5550]
    assert frame.loc["All Events", "detection"] == "not_done"
    assert "stored as 0 although gates hold events" in frame.loc["All Events", "remark"]
    empty = re.sub(r'count="\d+"', 'count="0"', FLOWJO_97)
    assert set(read_text(tmp_path, "empty.wsp", empty)["value"]) == {0}


def test_a_sample_deleted_from_a_workspace_is_set_aside_and_does_not_disturb_its_namesake(tmp_path: Path) -> None:
    sample = re.search(r"<Sample .*</Sample>", FLOWJO_97)
    assert sample is not None
    deleted = sample.group().replace('nodeName="P01-D4.fcs"', 'nodeName="P01-D4.fcs" deleted="1"')
    frame = read_text(tmp_path, "two.xml", FLOWJO_97.replace(sample.group(), sample.group() + deleted))
    assert frame["role"].tolist() == ["unknown"] * 4 + ["summary"] * 4
    assert frame["note"].tolist() == [""] * 4 + ["deleted from the workspace"] * 4


def test_more_events_in_a_gate_than_around_it_are_no_count(tmp_path: Path) -> None:
    text = (DATA / "flowjo_wsp" / "flowjo10.wsp").read_text()
    # CD56+ was not computed: what lies in it is held against the next gate around.
    text = text.replace(
        '<Population name="CD56+" count="-1"/>', '<Population name="CD56+" count="-1">INNER</Population>'
    )
    inner = '<Subpopulations><Population name="CAR+" count="20001"/></Subpopulations>'
    frame = read_text(tmp_path, "a.wsp", text.replace("INNER", inner))
    row = frame[frame["target"] == "Lymphocytes/CD56+/CAR+"].iloc[1]
    assert (row["value_raw"], row["detection"]) == ("20001", "failed")
    assert np.isnan(row["value"])
    assert row["remark"].startswith("20001 events of 20000 in Lymphocytes: the counts do not belong together")


def test_a_workspace_of_another_program_is_not_taken_for_flowjo_s(tmp_path: Path) -> None:
    text = '<?xml version="1.0"?><!DOCTYPE Workspace><Workspace xmlns="http://www.qlcplus.org/Workspace"><Engine/></Workspace>'
    assert "of no known format" in problems(tmp_path, "lights.qxw", text)


def test_a_count_that_is_no_number_is_refused_with_its_gate(tmp_path: Path) -> None:
    text = (DATA / "flowjo_wsp" / "flowjo9.xml").read_text().replace('count="61"', 'count="6l"')
    said = problems(tmp_path, "a.wsp", text)
    assert "sample P-004, gate Lymphocytes/CAR+" in said
    assert "'6l'" in said


# ------------------------------------------------------------------------------------------------------------ FACSDiva


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "gates", "loaded"),
    [("facsdiva_example_1.xml", 20, []), ("facsdiva_example_2.xml", 42, ["2 Gfp Bfp Cherry CD19 ToPro3"])],
)
def test_every_gate_of_every_tube_has_the_events_that_facsdiva_printed(
    exports: Path, name: str, gates: int, loaded: list[str]
) -> None:
    path = exports / "facsdiva" / "allotropy" / name
    frame, report = read_export(path, exports, DEFAULTS)
    assert report.reader == "facsdiva"
    own = [
        (f"{specimen.attrib['name']}_{tube.attrib['name']}", gate.attrib["fullname"], gate.findtext("num_events"))
        for specimen in ET.parse(path).getroot().findall("experiment/specimen")
        for tube in specimen.findall("tube")
        for gate in tube.findall("gates/gate")
    ]
    assert len(own) == len(frame) == gates
    read = [
        (s, t.replace("/", "\\"), v)
        for s, t, v in zip(frame["sample_id"], frame["target"], frame["value_raw"], strict=True)
    ]
    assert read == own
    counted = frame[frame["value"].notna()]
    assert counted["value"].tolist() == [float(v) for v in counted["value_raw"]]
    assert sorted({s.split("_", 1)[1] for s in counted["sample_id"]}) == loaded
    # A tube without a single event in All Events was not counted: its zeros are no results.
    empty = frame[frame["value"].isna()]
    assert set(empty["value_raw"]) == {"0"}
    assert set(empty["detection"]) == {"not_done"}
    assert empty["remark"].str.contains("no events counted in any gate").all()


# ------------------------------------------------------------------------------------------------------ FlowJo tables

TREE = (DATA / "flowjo_tree" / "paths.csv").read_text()


def test_both_forms_of_the_tree_give_the_same_gates(tmp_path: Path) -> None:
    paths = read_text(tmp_path, "a.csv", TREE.replace("P-003.fcs/Lymphocytes,,-1", "P-003.fcs/Lymphocytes,,15000"))
    leaves = re.sub(r"^((?:> )+,)\S+\.fcs/(?:[^,]*/)?", r"\1", TREE, flags=re.MULTILINE).replace(",,-1", ",,15000")
    assert "> > ,CD56+,12.3,2780" in leaves
    own = read_text(tmp_path, "b.csv", leaves)
    kept = ["source_row", "sample_id", "role", "value"]
    pd.testing.assert_frame_equal(paths[kept], own[kept])
    gates = paths["role"] == "unknown"
    assert paths.loc[gates, "target"].tolist() == own.loc[gates, "target"].tolist()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("CAR+,5.00,139", "CAR+,5.00,189", "5.00 beside 189 of 2780 events, which are 6.8 %"),
        ("> > ,0012.fcs/Lymphocytes/CD56+,12.3,2780\n", "", "a depth of 3 below one of 1"),
        ("> ,P-002.fcs/Lymphocytes,", "> ,P-003.fcs/Lymphocytes,", "expected a gate of P-002.fcs, the sample above"),
        ("> > ,P-002.fcs/Lymphocytes/CD56+,", "> > ,P-002.fcs/Monocytes/CD56+,", "expected a gate below Lymphocytes"),
        (",0012.fcs,,50000\n", "", "expected a sample above its gates"),
        (",22600\n", ",2260x\n", "found '2260x'; expected a whole number, 0 or more"),
        (",P-002.fcs,,40000", ",0012.fcs,,40000", "a second row for 0012, All Events, after row 2"),
        ("> ,P-002", "x ,P-002", "expected marks > or a number"),
    ],
)
def test_a_damaged_tree_is_refused_and_the_message_says_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TREE
    assert said in problems(tmp_path, "a.csv", TREE.replace(old, new, 1))


def workbook(path: Path, text: str) -> Path:
    """A text table as a workbook, numbers as numbers, with a hidden sheet beside it."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in csv.reader(io.StringIO(text)):
        sheet.append([float(c) if re.fullmatch(r"-?\d+(\.\d+)?", c) and not c.startswith("00") else c for c in row])
    book.create_sheet("Hidden").sheet_state = "hidden"
    book.save(path)
    return path


def test_a_tree_indented_in_its_names_alone_needs_no_ending_of_a_file(tmp_path: Path) -> None:
    text = (
        "Name,Statistic,#Cells\nP01,,100000\n> Lymphs,45.3,45300\n> > NK,10.0,4530\nP02,,90000\n> Lymphs,50.0,45000\n"
    )
    wanted = {
        ("P01", "All Events"): 100000,
        ("P01", "Lymphs"): 45300,
        ("P01", "Lymphs/NK"): 4530,
        ("P02", "All Events"): 90000,
        ("P02", "Lymphs"): 45000,
    }
    assert counts(read_text(tmp_path, "bare.csv", text)) == wanted


def test_a_statistic_of_a_parameter_is_no_gate_whatever_stands_under_cells(tmp_path: Path) -> None:
    text = (
        "Depth,Name,Statistic,#Cells\n,a.fcs,,1000\n> ,a.fcs/Live,50.0,500\n> > ,a.fcs/Live/Median : APC-A,812,500\n"
        "> > ,a.fcs/Live/Mean (FITC-A),n/a,500\n> > ,a.fcs/Live/Median high,10.0,50\n"
    )
    frame = read_text(tmp_path, "statistics.csv", text)
    assert frame["role"].tolist() == ["unknown", "unknown", "summary", "summary", "unknown"]
    assert frame["value"].tolist()[-1] == 50


def test_stains_and_keywords_beside_a_tree_are_not_read_and_the_report_says_so(tmp_path: Path) -> None:
    more = ["CD3", "CD16", "CD56", "CD45", "CAR", "$DATE"]
    (tmp_path / "stained.csv").write_text(
        f"Depth,Name,Statistic,#Cells,{','.join(more)}\n,a.fcs,,1000,x,x,x,x,x,5-MAR-2026\n> ,a.fcs/NK,5.00,50,,,,,,\n"
    )
    frame, report = read_export(tmp_path / "stained.csv", tmp_path, DEFAULTS)
    assert counts(frame) == {("a", "All Events"): 1000, ("a", "NK"): 50}
    assert report.note == f"columns not read: {', '.join(more)}"


def test_the_column_of_totals_of_a_flowjo_table_is_all_events(tmp_path: Path) -> None:
    text = ",Count,Lymphs | Count,Lymphs/NK | Count\nP01.fcs,100000,45300,4530\nMean,100000,45300,4530\n"
    frame = read_text(tmp_path, "totals.csv", text)
    assert counts(frame[frame["role"] == "unknown"]) == {
        ("P01", "All Events"): 100000,
        ("P01", "Lymphs"): 45300,
        ("P01", "Lymphs/NK"): 4530,
    }


@pytest.mark.parametrize("first", ["$FIL", "Specimen", "Well ID"])
def test_a_flowjo_table_is_known_by_its_samples_whatever_their_column_is_called(tmp_path: Path, first: str) -> None:
    text = f'{first},"Lymphs,Count","Lymphs/NK,Count"\nP01.fcs,45300,4530\n'
    assert counts(read_text(tmp_path, "named.csv", text)) == {("P01", "Lymphs"): 45300, ("P01", "Lymphs/NK"): 4530}


def test_a_count_whose_column_its_user_has_named_is_read_and_says_so(tmp_path: Path) -> None:
    text = ",Single Cell Count,CAR+ NK count,NK Absolute Count,NK count per uL,NK MFI\nP01.fcs,45300,12,3.1,4.2,812\n"
    (tmp_path / "named.csv").write_text(text)
    frame, report = read_export(tmp_path / "named.csv", tmp_path, DEFAULTS)
    assert counts(frame) == {("P01", "Single Cell"): 45300, ("P01", "CAR+ NK"): 12}
    assert set(frame["remark"]) == {"a column named by its user, taken as a count of events"}
    assert report.note == "columns not read: NK Absolute Count, NK count per uL, NK MFI"
    said = problems(tmp_path, "others.csv", text.replace("P01.fcs", "P01"))
    assert "of no known format" in said


def test_a_count_that_flowjo_printed_with_three_digits_says_that_it_is_rounded(tmp_path: Path) -> None:
    text = ",Lymphs | Count,Lymphs/Live | Count,Lymphs/Live/NK | Count\nP01.fcs,4.53E+05,453400,812\n"
    frame = read_text(tmp_path, "large.csv", text).set_index("target")
    assert frame["value"].to_dict() == {"Lymphs": 453000, "Lymphs/Live": 453400, "Lymphs/Live/NK": 812}
    assert frame.loc["Lymphs", "remark"] == "printed with few digits (4.53E+05): the count is rounded"
    assert (frame.loc["Lymphs/Live":, "remark"] == "").all()


def test_a_flowjo_table_whose_gate_holds_more_than_the_one_around_it_gives_no_count_there(tmp_path: Path) -> None:
    text = ",Lymphs | Count,Lymphs/NK | Count,Lymphs/NK/CAR | Count\nP01.fcs,453,4530,12\nP02.fcs,4530,453,12\n"
    frame = read_text(tmp_path, "swapped.csv", text)
    failed = frame[frame["detection"] == "failed"]
    assert list(zip(failed["sample_id"], failed["target"], strict=True)) == [("P01", "Lymphs/NK")]
    assert "4530 events of 453 in Lymphs" in failed["remark"].iloc[0]


@pytest.mark.parametrize(("folder", "name"), [("flowjo_tree", "paths.csv"), ("flowjo_table", "panel.csv")])
def test_a_flowjo_table_saved_as_a_workbook_gives_the_same_counts(tmp_path: Path, folder: str, name: str) -> None:
    text = (DATA / folder / name).read_text()
    expected = read_text(tmp_path, name, text)
    for ending in ("xlsx", "xls"):  # FlowJo gives either ending to either content
        path = workbook(tmp_path / f"{Path(name).stem}.{ending}", text)
        frame, report = read_export(path, tmp_path, DEFAULTS)
        assert report.reader == folder
        assert "hidden sheet ignored: Hidden" in report.note
        same = ["source_row", "sample_id", "role", "target", "measure", "value", "detection", "note"]
        pd.testing.assert_frame_equal(frame[same], expected[same])


# ---------------------------------------------------------------------------------------------------------------- RDML


@pytest.fixture(scope="session")
def dilutions(exports: Path) -> pd.DataFrame:
    """The rows of the largest RDML file, read once."""
    return read_export(exports / "rdml" / "rdmlpython" / "large_DNA_dilutions.rdml", exports, DEFAULTS)[0]


def rdml_root(path: Path) -> ET.Element:
    return ET.fromstring(zipfile.ZipFile(path).read("rdml_data.xml"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "rows", "with_cq"),
    [("experiment_OC_3", 42, 9), ("large_DNA_dilutions", 582, 264), ("shifted_baseline", 144, 72)],
)
def test_every_reaction_of_an_rdml_file_has_the_cq_sample_and_quantity_that_stand_there(
    exports: Path, name: str, rows: int, with_cq: int
) -> None:
    path = exports / "rdml" / "rdmlpython" / f"{name}.rdml"
    frame, report = read_export(path, exports, DEFAULTS)
    assert report.reader == "rdml"
    root = rdml_root(path)
    samples = {s.attrib["id"]: s for s in root.findall(f"{RDML}sample")}
    reactions = [(react, data) for react in root.iter(f"{RDML}react") for data in react.findall(f"{RDML}data")]
    assert len(reactions) == len(frame) == rows
    assert (frame["detection"] == "quantified").sum() == with_cq
    roles = {"unkn": "unknown", "std": "standard", "ntc": "ntc"}
    for raw, (react, data) in zip(frame.itertuples(), reactions, strict=True):
        sample = samples[react.find(f"{RDML}sample").attrib["id"]]  # type: ignore[union-attr]
        assert raw.sample_id == sample.attrib["id"]
        assert raw.target == data.find(f"{RDML}tar").attrib["id"]  # type: ignore[union-attr]
        assert raw.role == roles[sample.findtext(f"{RDML}type") or ""]
        # 384 wells, 24 to a row.
        row, column = ord(raw.well[0]) - 64, int(raw.well[1:])
        assert (row - 1) * 24 + column == int(react.attrib["id"])
        cq = data.findtext(f"{RDML}cq") or ""
        assert raw.value_raw == cq
        if raw.detection == "quantified":
            assert raw.value == float(cq)
        else:
            assert cq in ("", "-1.0", "50.0")
        if raw.role == "standard":
            assert sample.findtext(f"{RDML}quantity/{RDML}unit") == "cop"
            assert raw.quantity == float(sample.findtext(f"{RDML}quantity/{RDML}value") or "nan")


def tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


@pytest.mark.shared
def test_rdml_agrees_with_the_results_table_beside_it(exports: Path, dilutions: pd.DataFrame) -> None:
    """The table's TD0 comes from the curves by another method: it must lie on one line with the Cq."""
    folder, frame = exports / "rdml" / "rdmlpython", dilutions
    table = tsv(folder / "large_DNA_dilutions_results.tsv")
    assert len(table) == len(frame) == 582
    run = frame["run_id"].str.removeprefix("large_DNA_dilutions - ")
    assert sorted(zip(run, frame["well"], frame["sample_id"], frame["target"], strict=True)) == sorted(
        zip(table["Run"], table["well"], table["sample"], table["target"], strict=True)
    )
    kinds = dict(zip(zip(table["Run"], table["well"], strict=True), table["sample type"], strict=True))
    words = {"unkn": "unknown", "std": "standard", "ntc": "ntc"}
    assert frame["role"].tolist() == [words[kinds[key]] for key in zip(run, frame["well"], strict=True)]
    both = frame.assign(run=run).merge(table, left_on=["run", "well"], right_on=["Run", "well"])
    both = both[(both["detection"] == "quantified") & (both["TD0"].astype(float) > 0)]
    assert len(both) == 264
    assert np.corrcoef(both["value"], both["TD0"].astype(float))[0, 1] > 0.99


@pytest.mark.shared
def test_a_cq_that_is_the_number_of_cycles_is_no_cq(exports: Path, dilutions: pd.DataFrame) -> None:
    """A hundred million copies cannot have Cq 50, nor ten copies of two targets exactly the same one."""
    path = exports / "rdml" / "rdmlpython" / "large_DNA_dilutions.rdml"
    placeholder = dilutions[dilutions["value_raw"] == "50.0"]
    assert len(placeholder) == 30
    assert set(placeholder["detection"]) == {"not_detected"}
    assert set(placeholder["remark"]) == {"Cq 50.0 is the number of cycles: none was determined"}
    curves = rdml_root(path).findall(f".//{RDML}run[@id='P10 - DNA Dilutions']//{RDML}data")
    assert {len(curve.findall(f"{RDML}adp")) for curve in curves} == {50}


@pytest.mark.shared
def test_qpcr_of_an_rdml_file_agrees_with_digital_pcr_of_the_same_dna(exports: Path, dilutions: pd.DataFrame) -> None:
    """Genomic DNA in four amounts, qPCR by its dilution curve against droplets: slope on the log scale near 1."""
    folder = exports / "rdml" / "rdmlpython"
    wells = dilutions[(dilutions["target"] == "FSTL_1_F_109") & (dilutions["detection"] == "quantified")]
    curve = wells[wells["sample_id"].str.startswith("Dil 1:10")]
    slope, intercept = np.polyfit(np.log10(curve["quantity"].astype(float)), curve["value"].astype(float), 1)
    assert slope == pytest.approx(-3.396, abs=0.001)
    droplets = tsv(folder / "large_DNA_dilutions_res_dpcr_probe.tsv")
    droplets = droplets[droplets["Well"].isin(["A04", "A05", "A06", "A07"])]
    digital = np.log10([float(c) * 20 for c in droplets["Conc(copies/µL)"]])
    names = [f"genomic DNA {ng}ng" for ng in droplets["Sample"]]
    assert names == [f"genomic DNA {ng}ng" for ng in ("20", "7", "2", "0.7")]
    mean = wells.groupby("sample_id")["value"].mean()
    quantitative = (mean[names].to_numpy() - intercept) / slope
    assert np.polyfit(digital, quantitative, 1)[0] == pytest.approx(1.06, abs=0.01)
    assert np.corrcoef(digital, quantitative)[0, 1] > 0.998


@pytest.mark.shared
@pytest.mark.parametrize("name", ["matrix_gaps", "own_mix_a"])
def test_curves_without_a_cq_are_refused_with_what_to_do(exports: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"found amplification curves without a Cq.*determine the Cq values"):
        read_export(exports / "rdml" / "rdmlpython" / f"{name}.rdml", exports, DEFAULTS)


PLAIN = (DATA / "rdml" / "plain.xml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version="1.1"', 'version="2.0"', "found RDML version '2.0'; expected RDML 1.0 to 1.4"),
        ('version="1.1"', "", "found an RDML document without its version"),
        ('react id="96"', 'react id="97"', "found 97 on a plate of 8 rows and 12 columns"),
        ("31.36", "31,36", "column react 12: found '31,36'"),
        ("31.36", "313.6", "column react 12: found '313.6'; expected a Ct above 0 and at most 60"),
        ("31.36", "0", "column react 12: found '0'; expected a Ct above 0"),
        ('react id="13"', 'react id="1"', "found a second row for plain, A1, CAR, after row 1"),
        ('<rdml:sample id="H2O"/>', '<rdml:sample id="water"/>', "sample 'water', which the file does not describe"),
        (">ntc<", ">mock<", "column sample H2O: found type 'mock'"),
        ('<rdml:tar id="RPPH1"/>', "", "column react 12: found no target"),
        ('id="351"', 'id="../351"', "which is a path"),
        ("</rdml:rdml>", "", "found a damaged or truncated XML document"),
    ],
)
def test_a_wrong_rdml_file_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PLAIN
    assert said in problems(tmp_path, "plain.xml", PLAIN.replace(old, new))


def test_without_the_format_of_the_plate_a_reaction_has_no_well(tmp_path: Path) -> None:
    text = re.sub("<rdml:pcrFormat>.*</rdml:pcrFormat>", "", PLAIN)
    frame = read_text(tmp_path, "plain.xml", text)
    assert set(frame["well"]) == {""}
    assert frame["value"].notna().sum() == 4


def test_rdml_in_another_prefix_encoding_or_archive_gives_the_same_rows(tmp_path: Path) -> None:
    expected = read_text(tmp_path, "plain.xml", PLAIN)
    plain = PLAIN.replace("rdml:", "").replace("xmlns:rdml", "xmlns").replace("xmlns=", "xmlns=")
    plain = plain.replace("<rdml xmlns:rdml", "<rdml xmlns")
    forms = {
        "default.xml": plain.encode(),
        "utf16.xml": PLAIN.replace("UTF-8", "UTF-16").encode("utf-16"),
        "mark.xml": b"\xef\xbb\xbf" + PLAIN.encode(),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zipped.rdml", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdml_data.xml", PLAIN)
        archive.writestr("partitions/a.tsv", "Fluor\n1\n")
    for name in (*forms, "zipped.rdml"):
        frame, _ = read_export(tmp_path / name, tmp_path, DEFAULTS)
        varying = ["source_file", "source_sha256", "run_id"]
        pd.testing.assert_frame_equal(frame.drop(columns=varying), expected.drop(columns=varying))


# ---------------------------------------------------------------------------------------------------------------- FCS

FCS = {
    "fcs/flowio/3FITC_4PE_004.fcs": (94569, None),
    "fcs/flowio/B01 KC-A-W---91-US.fcs": (1589, 25.016),
    "fcs/flowio/G11.fcs": (5785, 46.0),
    "fcs/flowio/coulter.lmd": (18110, None),
    "fcs/flowio/data1.fcs": (13367, None),
    "fcs/flowio/data_start_offset_discrepancy_example.fcs": (2, None),
    "fcs/flowio/data_stop_offset_discrepancy_example.fcs": (2, None),
    "fcs/flowio/variable_int_example.fcs": (2, None),
    "flowjo_wsp/flowkit/data_set_simple_line_100.fcs": (100, None),
    "flowjo_wsp/flowkit/test_data_diamond_01.fcs": (200000, None),
}
"""$TOT, and the volume [uL] where $VOL stands with a cytometer whose unit is known; read off the bytes by hand."""


@pytest.mark.shared
@pytest.mark.parametrize(("name", "wanted"), FCS.items())
def test_the_header_of_an_fcs_file_gives_its_events_and_volume(
    exports: Path, name: str, wanted: tuple[int, float | None]
) -> None:
    pytest.importorskip("flowio")
    frame, report = read_export(exports / name, exports, DEFAULTS)
    (row,) = frame.to_dict("records")
    assert report.reader == "fcs"
    assert row["value"] == wanted[0]
    volume = float("nan") if wanted[1] is None else wanted[1]
    assert row["volume_ul"] == pytest.approx(volume, rel=1e-12, nan_ok=True)
    assert (row["target"], row["sample_id"]) == ("$TOT", Path(name).stem)
    head = (exports / name).read_bytes()[:9000].decode("latin-1")
    found = re.search(r"\$TOT[^\w](\d+)", head)
    assert found is not None
    assert int(found.group(1)) == wanted[0]


@pytest.mark.shared
def test_every_fcs_file_of_the_collection_is_in_the_list(exports: Path) -> None:
    found = {p.relative_to(exports).as_posix() for p in exports.rglob("*") if p.suffix.lower() in (".fcs", ".lmd")}
    assert found == set(FCS)


def test_without_flowio_an_fcs_file_is_refused_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flowio", None)
    with pytest.raises(InputError) as caught:
        read_export(DATA / "fcs" / "0012.fcs", DATA, DEFAULTS)
    assert "flowio, which reads its header, is not installed" in str(caught.value)
    assert "pip install 'nkinetics[fcs]'" in str(caught.value)


@pytest.mark.parametrize("cut", [20, 57, 70, 200, -4])
def test_a_truncated_fcs_file_is_refused(tmp_path: Path, cut: int) -> None:
    pytest.importorskip("flowio")
    (tmp_path / "a.fcs").write_bytes((DATA / "fcs" / "0012.fcs").read_bytes()[:cut])
    with pytest.raises(InputError, match="found a damaged FCS file"):
        read_export(tmp_path / "a.fcs", tmp_path, DEFAULTS)


@pytest.mark.parametrize(
    ("cytometer", "volume"),
    [
        ("4486521 Attune NxT Acoustic Focusing Cytometer (Lasers: BRVY)", 0.05),
        ("BD Accuri C6 Plus", 0.05),
        ("Cytek Northern Lights", 50.0),
        ("Aurora", 50.0),
        ("FACSLyric", None),
        ("", None),
    ],
)
def test_the_unit_of_the_volume_is_the_cytometer_s_or_not_known(cytometer: str, volume: float | None) -> None:
    found, remark = acquired({"vol": "50", "cyt": cytometer})
    assert found == volume
    assert ("give volume_ul in the sample manifest" in remark) == (volume is None)
    assert "$VOL 50" in remark


# ---------------------------------------------------------------------------------------------------- to cells per uL

CONFIG = """
study: {id: FLOW, title: Flow cytometry, time_zone: Europe/Berlin, reference_dose: 1.0e+9}
inputs: {exports: ["data/raw/**"], patients: patients.csv, samples: samples.csv, infusions: infusions.csv,
         ignore_samples: ["Controls_.*"]}
assays:
  flow: {gate_pattern: 'CAR\\+$', denominator_pattern: 'Lymphocytes$', method: METHOD}
batches: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., settings.Settings]:
    """A study of two patients around the exports given; ALC 0.5e9/L for all."""

    def make(files: dict[str, bytes | str], samples: list[str], method: str = "dual_platform", more: str = ""):
        raw = tmp_path / "data" / "raw"
        raw.mkdir(parents=True)
        for name, content in files.items():
            (raw / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        (tmp_path / "config.yaml").write_text(CONFIG.replace("METHOD", method))
        (tmp_path / "patients.csv").write_text("patient_id,dose_level\n001,DL1\n002,DL1\n")
        (tmp_path / "infusions.csv").write_text(
            "patient_id,infusion,time,planned,given,unit\n001,1,0,1e9,1e9,cells\n002,1,0,1e9,1e9,cells\n"
        )
        head = "sample_id,patient_id,specimen,visit,time_actual,alc_1e9_l" + (",volume_ul" if more else "")
        lines = [f"{s},{'001' if i == 0 else '002'},blood,D{i + 1},{i + 1},0.5" for i, s in enumerate(samples)]
        (tmp_path / "samples.csv").write_text("\n".join([head, *(line + more for line in lines)]) + "\n")
        return settings.load(tmp_path / "config.yaml")

    return make


def levels(made: ingest.Ingested) -> pd.DataFrame:
    assert not made.problems
    rows = made.observations
    return rows[rows["sample_id"] != ""].set_index("sample_id")


def test_a_flowjo_tree_becomes_cells_per_microlitre(study, tmp_path: Path) -> None:
    name = "paths.csv"
    made = ingest.run(study({name: TREE}, ["0012", "P-002", "P-003"]), tmp_path)
    rows = levels(made)
    # ALC 0.5e9/L is 500 per uL; 139 of 22,600 lymphocytes are CAR+.
    assert rows.loc["0012", "level"] == pytest.approx(500 * 139 / 22600)
    assert rows.loc["0012", "lloq"] == pytest.approx(500 * 50 / 22600)
    assert rows["status"].to_dict() == {"0012": "quantified", "P-002": "not_detected", "P-003": "failed"}
    assert "no row of the gate" in rows.loc["P-003", "exclusion_reason"]
    own = made.ingest
    assert len(own) == 13
    assert (own["used"].astype(bool) == (own["reason"] == "")).all()
    assert int(own["used"].sum()) == 5


def test_a_flowjo_workspace_becomes_cells_per_microlitre(study, tmp_path: Path) -> None:
    workspace = (DATA / "flowjo_wsp" / "flowjo10.wsp").read_text().replace("%20repeat", "")
    workspace = workspace.replace("CAR+ &amp; CD16+", "CAR+ and CD16-")
    made = ingest.run(study({"week1.wsp": workspace}, ["0012", "P-002", "A01"]), tmp_path)
    rows = levels(made)
    assert rows.loc["0012", "level"] == pytest.approx(500 * 139 / 22600)
    assert rows.loc["P-002", "status"] == "failed"
    assert set(made.ingest.loc[made.ingest["sample_id"] == "A01", "reason"]) == {
        "2 samples of the workspace have this name; rename them in FlowJo"
    }


def test_a_count_that_flowjo_never_computed_is_not_done_and_says_so(study, tmp_path: Path) -> None:
    workspace = (DATA / "flowjo_wsp" / "flowjo9.xml").read_text().replace('count="61"', 'count="-1"')
    rows = levels(ingest.run(study({"week1.wsp": workspace}, ["P-004"]), tmp_path))
    assert rows.loc["P-004", "status"] == "not_done"
    assert "the count was not computed when the file was saved" in rows.loc["P-004", "exclusion_reason"]


def test_a_facsdiva_experiment_becomes_cells_per_microlitre(study, tmp_path: Path) -> None:
    experiment = (DATA / "facsdiva" / "experiment.xml").read_bytes()
    made = ingest.run(study({"panel.xml": experiment}, ["0012_D4", "0012_D8"]), tmp_path)
    rows = levels(made)
    assert rows.loc["0012_D4", "level"] == pytest.approx(500 * 139 / 22600)
    assert rows.loc["0012_D8", "status"] in ("not_done", "failed")
    assert len(made.ingest) == 8
    reasons = made.ingest.set_index("sample_id")["reason"]
    assert reasons["Controls_FITC"] != ""


def test_the_volumetric_method_takes_the_volume_of_the_workspace_by_its_cytometer(study, tmp_path: Path) -> None:
    workspace = (DATA / "flowjo_wsp" / "flowjo9.xml").read_bytes()
    rows = levels(ingest.run(study({"week1.wsp": workspace}, ["P-004"], "volumetric"), tmp_path))
    assert rows.loc["P-004", "level"] == pytest.approx(61 / 82.5)
    assert rows.loc["P-004", "lloq"] == pytest.approx(50 / 82.5)


def test_the_manifest_s_volume_goes_before_that_of_the_cytometer(study, tmp_path: Path) -> None:
    workspace = (DATA / "flowjo_wsp" / "flowjo9.xml").read_bytes()
    rows = levels(ingest.run(study({"week1.wsp": workspace}, ["P-004"], "volumetric", ",40"), tmp_path))
    assert rows.loc["P-004", "level"] == pytest.approx(61 / 40)


def test_an_fcs_header_gives_a_flowjo_table_its_volume(study, tmp_path: Path) -> None:
    pytest.importorskip("flowio")
    header = (DATA / "fcs" / "0012.fcs").read_bytes()
    files = {"paths.csv": TREE.split(",P-002.fcs,,")[0], "0012.fcs": header}
    made = ingest.run(study(files, ["0012"], "volumetric"), tmp_path)
    # The gates count 139 events in the 25.016 uL (25,016 nL) that the Accuri acquired.
    assert levels(made).loc["0012", "level"] == pytest.approx(139 / 25.016)
    row = made.ingest[made.ingest["reader"] == "fcs"].iloc[0]
    assert row["used"] and row["reason"] == ""
    assert "0012.fcs" in " ".join(made.observation_sources["source_file"])


def test_an_fcs_header_is_set_aside_where_no_volume_is_needed(study, tmp_path: Path) -> None:
    pytest.importorskip("flowio")
    header = (DATA / "fcs" / "0012.fcs").read_bytes()
    files = {"paths.csv": TREE.split(",P-002.fcs,,")[0], "0012.fcs": header}
    made = ingest.run(study(files, ["0012"]), tmp_path)
    assert levels(made).loc["0012", "level"] == pytest.approx(500 * 139 / 22600)
    row = made.ingest[made.ingest["reader"] == "fcs"].iloc[0]
    assert row["reason"] == "FCS header; the method dual_platform needs no acquired volume"


# ------------------------------------------------------------------------------------------------ FACSDiva statistics

BATCH = DATA / "facsdiva_table" / "batch.csv"


def test_a_tube_without_any_event_has_no_result_and_one_without_events_in_a_gate_has_0() -> None:
    frame = read_export(BATCH, BATCH.parent, DEFAULTS)[0]
    events = frame[frame["measure"] == "events"].set_index(["sample_id", "target"])
    assert events.loc[("P001_D4 FMO", "CAR+ NK"), "value"] == 0
    assert set(events.loc["P002_D1", "detection"]) == {"not_done"}


def test_facsdiva_statistics_with_decimal_commas_give_the_same_counts(tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(BATCH.read_text())))
    swapped = [[c.translate(str.maketrans(",.", ".,")) if c[:1].isdigit() else c for c in row] for row in rows[1:]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=";", lineterminator="\r\n").writerows([rows[0], *swapped])
    assert counts(read_text(tmp_path, "batch.csv", buffer.getvalue())) == pytest.approx(
        counts(read_export(BATCH, BATCH.parent, DEFAULTS)[0]), nan_ok=True
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Specimen Name", "Study", "FACSDiva statistics, which it is not without Specimen Name"),
        ("0012,D7", "P001,D4", "row 4, column Tube Name: found a second row for P001_D4, after row 2"),
        ('"48,213"', "48.213", "column Lymphocytes #Events: found '48.213'; expected a number of events"),
        (",1031,", ",4E+1,", r"column CAR\+ NK #Events: found '4E\+1'"),
        ("CAR+ NK #Events", "Lymphocytes #Events", "column Lymphocytes #Events: found the column twice"),
        ("P001,D4,", "P001,,", "row 2, column Tube Name: found an empty cell"),
    ],
)
def test_damaged_facsdiva_statistics_are_refused_with_their_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = BATCH.read_text()
    assert old in text
    assert re.search(said, problems(tmp_path, "batch.csv", text.replace(old, new, 1)))


def test_a_gate_of_facsdiva_with_more_events_than_its_tube_is_no_count(tmp_path: Path) -> None:
    frame = read_text(tmp_path, "batch.csv", BATCH.read_text().replace('"48,213"', '"148,213"'))
    failed = frame[frame["detection"] == "failed"]
    assert list(zip(failed["sample_id"], failed["target"], strict=True)) == [("P001_D4", "Lymphocytes")]
