"""Every figure: draws from a small study, shows every patient, is text and bytes that never change."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path

import defusedxml.ElementTree as ElementTree
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from nkinetics import figures
from nkinetics.errors import InputError
from nkinetics.figures import _style
from nkinetics.plugins import discover
from nkinetics.results import Context, Results
from nkinetics.wording import Words, number_of

NAMES = sorted(discover("figures"))
PATIENTS = ["001", "002", "003", "004", "005", "006"]
BY_PATIENT = ("profiles", "fits", "overview", "by_dose_level", "swimmer", "blood_counts")
"""Figures that show each patient."""


def texts(svg: str) -> str:
    """All text that a figure shows."""
    root = ElementTree.fromstring(svg)
    return " ".join("".join(t.itertext()).strip() for t in root.iter("{http://www.w3.org/2000/svg}text"))


@pytest.fixture(scope="module")
def written(results_small: Path, context_small, tmp_path_factory):
    """All figures of the small study, written."""
    folder = tmp_path_factory.mktemp("figures")
    figures.write("all", Results(results_small), context_small, folder)
    return folder


@pytest.fixture(scope="module")
def svg(written):
    return lambda name: (written / f"{name}.svg").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def said(written):
    return lambda name: json.loads((written / f"{name}.json").read_text(encoding="utf-8"))


def test_names_ids_and_numbers_are_those_of_the_module_and_unique(context_small):
    items = [discover("figures")[name] for name in NAMES]
    assert [item.name for item in items] == NAMES
    assert len({item.id for item in items}) == len({number_of(i, context_small) for i in items}) == len(items)
    assert {"F-CK-01", "F-CK-02", "F-CK-04", "F-CK-10"} <= {item.id for item in items}


@pytest.mark.parametrize("name", NAMES)
class TestEveryFigure:
    def test_has_a_title_in_both_languages(self, name):
        title = discover("figures")[name].title
        assert title["en"] and re.search(r"[\u4e00-\u9fff]", title["zh"])

    def test_says_what_it_shows_and_where_from(self, name, said, results_small):
        words = said(name)
        assert words["alt"] and words["subtitle"] and not words["note"]
        assert "NKinetics 0.1.0" in words["footnotes"][-1] and "2026-03-01" in words["footnotes"][-1]
        assert words["sources"] == figures.sources(discover("figures")[name].needs, Results(results_small))

    def test_keeps_text_as_text_with_a_title_and_a_description(self, name, svg):
        root = ElementTree.fromstring(svg(name))
        assert len(texts(svg(name))) > 50
        assert root.find("{http://www.w3.org/2000/svg}title").text.startswith("Figure 14.4.")
        assert root.find("{http://www.w3.org/2000/svg}desc").text

    def test_has_ids_of_its_own_that_all_references_meet(self, name, svg):
        prefix = discover("figures")[name].id.lower() + "-"
        ids = re.findall(r'\bid="([^"]+)"', svg(name))
        assert len(ids) == len(set(ids)) and all(i.startswith(prefix) for i in ids)
        used = re.findall(r'href="#([^"]+)"', svg(name)) + re.findall(r"url\(#([^)]+)\)", svg(name))
        assert set(used) <= set(ids)

    def test_carries_its_style_inside_and_asks_for_nothing_outside(self, name, svg):
        assert f"#{discover('figures')[name].id.lower()}-svg *" in svg(name)
        without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg(name))
        assert "http" not in without_names and "@import" not in without_names

    def test_has_no_date_and_no_markup_in_its_labels(self, name, svg):
        assert "<dc:date>" not in svg(name) and "metadata" not in svg(name)
        assert "mathdefault" not in svg(name) and "$" not in texts(svg(name))

    def test_draws_the_same_bytes_twice(self, name, written, results_small, context_small, tmp_path):
        figures.write(name, Results(results_small), context_small, tmp_path)
        for ending in ("svg", "png", "json"):
            assert (tmp_path / f"{name}.{ending}").read_bytes() == (written / f"{name}.{ending}").read_bytes()

    def test_is_also_a_png_of_300_dots_per_inch(self, name, written):
        head = (written / f"{name}.png").read_bytes()
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        width, _ = struct.unpack(">II", head[16:24])
        assert width == round(_style.WIDTH * 300)

    def test_shows_every_patient_or_says_why_not(self, name, svg, said):
        shown = texts(svg(name)) + " ".join(said(name)["footnotes"]) + said(name)["alt"]
        if name in BY_PATIENT:
            assert all(patient in shown for patient in PATIENTS)
            assert re.search(r"no sample of this\s+patient", shown) and re.search(r"no\s+quantified\s+level", shown)

    def test_says_why_it_cannot_be_made_from_a_study_without_results(
        self, name, results_small, context_small, tmp_path
    ):
        shutil.copytree(results_small / "study", tmp_path / "r" / "study")
        figures.write(name, Results(tmp_path / "r"), context_small, tmp_path / "out")
        words = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
        assert words["note"]
        assert words["note"].rstrip(".") in texts((tmp_path / "out" / f"{name}.svg").read_text(encoding="utf-8"))


def test_patients_without_data_have_a_panel_that_says_why(svg):
    for name in ("profiles", "fits"):
        assert "002 · DL1" in texts(svg(name)) and "in the manifest" in texts(svg(name))
    assert "no curve: no quantified level" in texts(svg("fits"))


def test_drawing_leaves_the_style_of_others_alone(results_small, context_small):
    before = dict(matplotlib.rcParams)
    figures.made("persistence", Results(results_small), context_small)
    assert dict(matplotlib.rcParams) == before


def test_dollar_signs_and_markup_in_an_analyte_are_shown_as_they_stand(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "observations.csv"
    hostile = "CAR $x_{1$ <script>alert(1)</script>"
    path.write_text(path.read_text(encoding="utf-8").replace("CAR transgene", hostile), encoding="utf-8")
    drawn, words, _ = figures.made("overview", Results(tmp_path / "r"), context_small)
    assert hostile in json.loads(words)["subtitle"]
    assert "<script" not in drawn
    ElementTree.fromstring(drawn)


def test_a_figure_speaks_chinese_where_a_font_can(results_small, context_small):
    report = context_small.settings.report.model_copy(update={"language": "zh"})
    context = Context(context_small.settings.model_copy(update={"report": report}), "0.1.0")
    drawn, words, _ = figures.made("persistence", Results(results_small), context)
    assert json.loads(words)["title"] == discover("figures")["persistence"].title["zh"]
    assert bool(re.search(r"[\u4e00-\u9fff]", texts(drawn))) == bool(_style.chinese_font())


def test_an_unknown_figure_is_refused_with_the_known_ones(results_small, context_small, tmp_path):
    with pytest.raises(InputError, match="by_dose_level"):
        figures.write("F-CK-99", Results(results_small), context_small, tmp_path)


def test_study_days_on_the_axis_begin_with_1_and_never_hold_0():
    for last in (1, 3, 7, 29, 56, 200, 1000, 5000):
        ticks = _style.day_ticks(last)
        assert ticks[0] == 1 and 0 not in ticks and ticks == sorted(set(ticks)) and len(ticks) <= 8


def test_elapsed_time_0_is_study_day_1():
    assert _style.display(np.array([0.0, 27.0])).tolist() == [1.0, 28.0]


def test_limits_of_a_log_axis_hold_all_positive_values_and_a_power_of_ten():
    low, high = _style.log_limits([3.0, 4.0], [0.0, np.nan])
    assert low < 3 and high > 4
    assert np.ceil(np.log10(low)) <= np.floor(np.log10(high))


def test_below_lloq_is_drawn_at_the_lloq_of_each_sample(results_small, context_small):
    results = Results(results_small)
    with _style.style(context_small):
        axes = _style.canvas(2).add_subplot()
        rows = _style.reportable(results, "qpcr", "blood")
        _style.draw_below(axes, rows[rows["patient_id"] == "006"])
    (line,) = axes.get_lines()
    assert line.get_marker() == "v" and line.get_markerfacecolor() == "white"
    assert list(line.get_ydata()) == [10, 20, 10, 10, 10]


def test_curves_of_fewer_than_three_patients_are_named_and_not_drawn(results_small, context_small):
    drawn = discover("figures")["persistence"].draw(Results(results_small), context_small)
    panel = drawn.figure.axes[0]
    said = [text.get_text() for text in panel.texts]
    assert "DL1: n = 1, not drawn" in said
    stepped = [line for line in panel.lines if len(line.get_xdata()) > 1 and line.get_drawstyle() == "steps-post"]
    assert len(stepped) == 1  # DL2 alone, four patients
    assert any("No curve is drawn for fewer than 3 patients" in note for note in drawn.footnotes)


def test_turnbulls_estimate_is_drawn_dotted_across_the_intervals(results_small, context_small):
    drawn = discover("figures")["persistence"].draw(Results(results_small), context_small)
    dotted = [
        line for line in drawn.figure.axes[0].lines if line.get_drawstyle() == "default" and len(line.get_xdata()) > 2
    ]
    assert len(dotted) == 1  # DL2 alone, four patients
    # Study days: 0 to 1.02, 7.1 to 13.9, and open after 28.
    assert dotted[0].get_xdata() == pytest.approx([1, 1, 2.02, 8.1, 14.9, 29, 29])
    assert dotted[0].get_ydata() == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0.5])


def test_losses_so_far_and_patients_at_risk_add_up_where_no_one_is_censored(results_small):
    rows = Results(results_small).table("persistence")
    rows = rows[(rows["assay"] == "qpcr") & (rows["limit"] == "lloq") & (rows["dose_level"] == "DL2")]
    from nkinetics.figures.persistence import _at_risk, _lost

    assert [(_at_risk(rows, t), _lost(rows, t)) for t in (0.0, 7.0, 20.0)] == [(4, 0), (3, 1), (2, 2)]


def test_ratios_to_the_value_as_analysed_leave_out_what_the_model_does_not_determine(results_small, context_small):
    from nkinetics.figures.blq_sensitivity import ratios
    from nkinetics.nca.blq_sensitivity import with_model

    results = Results(results_small)
    wide = with_model(results.table("blq_sensitivity"), results.table("estimates"), "decay")
    here = wide[(wide["assay"] == "qpcr") & (wide["parameter"] == "tlast")]
    assert ratios(here, "half_lloq").round(6).to_dict() == {
        "001": round(28 / 13.9, 6),
        "003": round(28 / 7.1, 6),
        "004": 1.0,
        "005": 1.0,
    }
    half = wide[(wide["assay"] == "qpcr") & (wide["parameter"] == "half_life")]
    assert "003" not in ratios(half, "model").index


def test_with_many_patients_those_without_a_value_are_counted_and_not_written_over_each_other(
    results_small, context_small, tmp_path
):
    from nkinetics.columns import BLQ_SENSITIVITY, PATIENTS
    from nkinetics.figures.blq_sensitivity import NAMED_UP_TO
    from nkinetics.store import read_table, write_table

    shutil.copytree(results_small, tmp_path / "r")
    for path, schema in (("study/patients.csv", PATIENTS), ("blq_sensitivity.csv", BLQ_SENSITIVITY)):
        frame = read_table(tmp_path / "r" / path, schema)
        copies = [frame.assign(patient_id=frame["patient_id"] + f"-{k}") for k in range(6)]
        write_table(pd.concat(copies, ignore_index=True), tmp_path / "r" / path, schema)
    assert len(copies) * 6 > NAMED_UP_TO
    drawn = discover("figures")["blq_sensitivity"].draw(Results(tmp_path / "r"), context_small)
    panel = drawn.figure.axes[0]
    # Of each six patients 002 has no sample and 006 no quantified level.
    assert [t.get_text() for t in panel.texts] == ["no value as analysed: 12 of 36"]
    assert all(not t.get_text() for t in panel.get_yticklabels())


@pytest.mark.parametrize("name", ["overview", "by_dose_level", "dose_normalised"])
def test_lines_drawn_as_one_element_look_as_lines_drawn_one_by_one(
    name, results_small, context_small, tmp_path, monkeypatch
):
    results, pictures, elements = Results(results_small), [], []
    for most in (300, 1):
        monkeypatch.setattr(_style, "EACH_UP_TO", most)
        drawing = figures.drawn(name, results, context_small)[1]
        elements.append(sum(len(axes.lines) for axes in drawing.axes))
        figures.write(name, results, context_small, tmp_path / str(most), ("png",))
        pictures.append(imread(tmp_path / str(most) / f"{name}.png")[..., :3].mean(axis=2))
    assert elements[1] < elements[0], "the lines of a look are one element"
    one_by_one, together = pictures
    assert one_by_one.shape == together.shape and one_by_one.min() < 0.5 < one_by_one.max()
    apart, drawn = abs(one_by_one - together), (one_by_one < 0.95).mean()
    assert (apart > 0.25).mean() < 0.02 * drawn and (apart > 0.05).mean() < 0.03 * drawn, "of what is not white"


def test_names_under_a_panel_leave_its_neighbour_alone(context_small):
    from nkinetics.figures.by_dose_level import NAMED_UP_TO, _named_below

    axes = Figure().add_subplot()
    for names in ([f"{i:03}" for i in range(20)], [f"SITE-{i:08}" for i in range(20)], ["A" * 60, "B"], ["001"]):
        _named_below(axes, Words("en"), names, len(names))
        shown = axes.texts[-1].get_text().removeprefix("no quantified level: ").removesuffix(" …")
        assert names[0] in shown and (len(shown) <= NAMED_UP_TO or shown == names[0])
        assert axes.texts[-1].get_text().endswith(" …") == (shown != ", ".join(names))
    assert [t.get_text().count(",") for t in axes.texts][:2] == [7, 1]


def test_looks_that_elements_share_are_rules_and_what_is_called_by_id_keeps_its_own(context_small):
    with _style.style(context_small):
        axes = _style.canvas(2).add_subplot()
        for shift in range(4):
            axes.plot([1, 2, 3], [shift, shift + 1, shift], marker="o", color="#123456", linestyle="--")
        drawn = _style.svg_text(axes.figure, "x-", "title", "description")
    rules = dict(re.findall(r"#x-svg \.(s\d+)\{([^}]*)\}", drawn))
    used = re.findall(r' class="(s\d+)"', drawn)
    assert set(used) == set(rules) and all(used.count(name) > 1 for name in rules)
    # A rule of the figure does not reach the copies that <use> makes: their shapes must carry their look.
    shapes = re.findall(r"<path id=[^>]*>", drawn)
    assert shapes and all("style=" in shape and "class=" not in shape for shape in shapes)
    assert not set(rules.values()) & set(re.findall(r'<(?:text|g)(?: [^>]*)? style="([^"]*)"', drawn))
