"""Reports of more patients than a page holds: nobody drops out, every number leads to its samples, bytes stay few."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import xlsxwriter
from nkinetics import figures, report, tables, wording
from nkinetics.compact import plain
from nkinetics.errors import InputError
from nkinetics.figures import _patients, _style
from nkinetics.plugins import TableBody
from nkinetics.report import html
from nkinetics.report import patients as by_patient
from nkinetics.results import Context, Results, having
from nkinetics.settings import as_json, validated
from nkinetics.store import sha256_of
from nkinetics.tables import _workbook
from nkinetics.tables._fates import fate_of_run
from nkinetics.tables._packed import Sheet
from nkinetics.wording import FOLLOW_UP_ENDS, Words, grouped


def with_report(context: Context, **values: object) -> Context:
    settings = context.settings.model_dump(mode="json")
    settings["report"] = {**settings["report"], **values}
    return Context(validated(settings, "config.yaml"), context.version)


@pytest.fixture(scope="module")
def few(context_small: Context) -> Context:
    """Settings under which six patients are many."""
    return with_report(context_small, patient_details=3, table_rows=4, figure_patients=3, figure_marks=5)


@pytest.fixture(scope="module")
def page(results_small: Path, few: Context) -> str:
    return report.build(results_small, few.settings, few.version)


@pytest.fixture(scope="module")
def own_pages(results_small: Path, few: Context) -> dict[str, str]:
    return dict(report.patient_pages(results_small, few.settings, few.version))


def test_every_patient_has_a_line_that_leads_to_a_page_of_its_own(page, own_pages, results_small):
    ids = list(Results(results_small).patients["patient_id"])
    assert re.findall(r'<tr id="patient-[^"]+" data-patient-id="([^"]+)"', page) == ids
    assert list(own_pages) == [f"patients/{i}.html" for i in ids]
    for identifier, path in zip(ids, own_pages, strict=True):
        assert f'<a href="{path}">{identifier}</a>' in page
        assert f'data-patient-id="{identifier}"' in own_pages[path]
        assert f'href="../report.html#patient-{identifier}"' in own_pages[path]


def test_every_number_leads_to_an_observation_that_stands_in_the_patients_page(page, own_pages):
    found = re.findall(r'href="(patients/[^"#]+)#(obs-[^"]+)"', page)
    assert found
    for path, anchor in found:
        assert f'id="{anchor}"' in own_pages[path]


def test_the_page_of_a_patient_holds_every_observation(own_pages, results_small):
    observed = Results(results_small).table("observations")
    told = {i for text in own_pages.values() for i in re.findall(r'id="obs-([^"]+)"', text)}
    assert told == set(observed["observation_id"])


def test_links_within_the_page_lead_somewhere(page):
    names = set(re.findall(r'\bid="([^"]+)"', page))
    assert not {a for a in re.findall(r'href="#([^"]+)"', page) if a not in names}


def test_a_long_table_says_how_many_rows_it_has_and_where_they_are(page, results_small, few):
    total = len(tables.build("levels_individual", Results(results_small), few).frame)
    listing = re.search(r'<article class="item[^"]*" id="L-16.2.5.2">.*?</article>', page, re.DOTALL)
    assert listing and total > 4
    assert f"The first 4 of {total} rows" in listing[0] and "tables/levels_individual.csv" in listing[0]


def test_a_small_study_keeps_all_in_its_page(results_small, context_small):
    assert not list(report.patient_pages(results_small, context_small.settings, context_small.version))
    whole = report.build(results_small, context_small.settings, context_small.version)
    assert 'class="patients"' not in whole and "The first" not in whole


def test_on_paper_no_link_leads_out_of_the_document(results_small, few):
    printed = html.printable(results_small, few.settings, few.version)
    assert "patients/" not in re.sub(r"<style>.*?</style>", "", printed.html, flags=re.DOTALL)
    assert all(i in printed.html for i in Results(results_small).patients["patient_id"])


def test_ids_that_differ_by_case_have_different_files(results_small, tmp_path):
    results = Results(results_small)
    two = pd.DataFrame({"patient_id": ["a1", "A1", "b"], "dose_level": "DL1"})
    results._cache["patients"] = two
    names = by_patient.pages(results)
    assert len({n.casefold() for n in names.values()}) == 3 and names["b"] == "patients/b.html"


def test_a_figure_by_patient_says_how_many_it_draws(results_small, few):
    svg, said, _ = figures.made("profiles", Results(results_small), few)
    words = json.loads(said)
    assert words["subtitle"].startswith("3 of 6 patients")
    assert words["footnotes"][0].startswith("3 of 6 patients drawn")
    assert sum(f">{i} · " in svg for i in Results(results_small).patients["patient_id"]) == 3


def test_the_choice_holds_each_dose_level_and_the_highest_patient(results_small, few):
    results = Results(results_small)
    drawn = _patients.drawn(results, few)
    assert set(drawn.patients["dose_level"]) == set(results.patients["dose_level"])
    kind = results.profiles.iloc[0]
    highest = _style.quantified(_style.reportable(results, kind["assay"], kind["specimen"]))
    assert highest.loc[highest["level"].idxmax(), "patient_id"] in set(drawn.patients["patient_id"])
    assert set(drawn.table("observations")["patient_id"]) <= set(drawn.patients["patient_id"])
    assert _patients.chosen_note(results, Words("en")) == ""


def test_a_crowded_panel_becomes_a_picture_with_the_same_bytes_and_words(results_small, few, context_small):
    crowded, _said, _ = figures.made("by_dose_level", Results(results_small), few)
    again, _, _ = figures.made("by_dose_level", Results(results_small), few)
    plain, _, _ = figures.made("by_dose_level", Results(results_small), context_small)
    assert "data:image/png;base64" in crowded and "<image" not in plain
    assert crowded == again
    assert re.findall(r"<text[^>]*>([^<]+)<", crowded) == re.findall(r"<text[^>]*>([^<]+)<", plain)


@pytest.mark.parametrize("name", ["blood_counts", "overview", "profiles", "run_curves", "typical_level"])
def test_cuts_cross_nothing_and_part_no_panel_from_its_axis(name, results_small, context_small):
    _svg, said, drawn = figures.made(name, Results(results_small), context_small)
    cuts = json.loads(said)["cuts"]
    assert cuts and cuts == sorted(cuts)
    renderer, height = drawn.canvas.get_renderer(), drawn.get_figheight() * drawn.dpi
    from_top = [(height - y) * 72 / drawn.dpi for y in (0.0, height)]
    assert from_top[1] == 0 and max(cuts) < from_top[0]
    texts = [t for axes in drawn.axes for t in (axes.title, axes._left_title, *axes.texts)] + list(drawn.texts)
    shown = [(t.get_window_extent(renderer), t.get_text()) for t in texts if t.get_text() and t.get_visible()]
    shown += [(axes.get_window_extent(renderer), str(axes)) for axes in drawn.axes]
    for box, what in shown:
        top, bottom = ((height - y) * 72 / drawn.dpi for y in (box.y1, box.y0))
        assert not [c for c in cuts if top < c < bottom], what
    for axes in (axes for axes in drawn.axes if axes.get_label() == _style.OVER):
        bottom = axes.get_window_extent(renderer).y0
        under = max(other.get_window_extent(renderer).y1 for other in drawn.axes if _below(other, bottom, renderer))
        low, high = ((height - y) * 72 / drawn.dpi for y in (bottom, under))
        assert not [c for c in cuts if low < c < high], "between a panel and the one whose axis it shares"


def _below(axes, bottom: float, renderer) -> bool:
    return axes.get_window_extent(renderer).y1 <= bottom + 1


def item(height: float, cuts: tuple[float, ...]) -> html.Item:
    svg = f'<svg viewBox="0 0 748.8 {height}"></svg>'
    return html.Item("F", "f", "Figure", "1", "", "", "", ("one note",), svg, "", cuts)


def test_a_figure_that_fits_a_page_stays_whole_and_a_tall_one_is_parted_at_its_cuts():
    assert html.pieces(item(300, ()), False) == []
    parts = html.pieces(item(1000, (30.0, 350.0, 640.0)), True)
    assert parts == [(0.0, 350.0), (350.0, 640.0), (640.0, 1000.0)]
    # The drawing alone would fit, its notes beside it would not: the last panel goes on with them.
    many = replace(item(420, (30.0, 250.0)), footnotes=("a note of two words",) * 14)
    assert html.pieces(many, False) == [(0.0, 250.0), (250.0, 420.0)]
    # A legend alone is no part: without another place to cut at the figure is reduced.
    assert html.pieces(replace(many, cuts=(30.0,)), False) == []


@pytest.mark.parametrize("name", ["run_curves", "profiles", "fits"])
def test_a_part_of_a_figure_holds_its_own_panels_and_no_words_are_lost(name, results_small, context_small):
    svg, said, _ = figures.made(name, Results(results_small), context_small)
    whole = html.standalone(html.inline(svg))
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', whole)[1])
    edges = [0.0, *json.loads(said)["cuts"], height]
    parts = [html._piece(whole, top, bottom) for top, bottom in pairwise(edges)]

    def words(text: str) -> list[str]:
        return re.findall(r"<text[^>]*>([^<]+)<", text)

    assert set().union(*map(words, parts)) == set(words(whole))
    # Words beside a cut may stand in both parts, those of another row of panels may not.
    assert sum(len(words(part)) for part in parts) < 1.3 * len(words(whole))
    assert sum(part.count("<use") for part in parts) < 1.3 * whole.count("<use")


def test_tables_come_from_their_files_only_where_they_were_made_of_these_results(
    results_small, context_small, tmp_path
):
    folder = tmp_path / "r"
    shutil.copytree(results_small, folder)
    tables.write("all", Results(folder), context_small, folder / "tables")
    for name in tables.names(context_small):
        one, other = (f(name, Results(folder), context_small) for f in (tables.build, tables.built))
        assert one.frame.astype(str).to_numpy().tolist() == other.frame.astype(str).to_numpy().tolist(), name
        assert (one.footnotes, one.subtitle, one.note, one.patients) == (
            other.footnotes,
            other.subtitle,
            other.note,
            other.patients,
        )
    path = folder / "tables" / "nca_individual.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("001", "XXX"), encoding="utf-8")
    assert "XXX" not in tables.built("nca_individual", Results(folder), context_small).frame.to_string(), "edited"
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    said["sha256"] = sha256_of(path)
    path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")
    assert "XXX" in tables.built("nca_individual", Results(folder), context_small).frame.to_string(), "read"
    with (folder / "study" / "patients.csv").open("a", encoding="utf-8") as handle:
        handle.write("\n")
    assert "XXX" not in tables.built("nca_individual", Results(folder), context_small).frame.to_string()


def test_texts_at_the_end_of_a_wide_table_stand_below_their_row():
    long = "a remark that is longer than any column beside numbers could ever be, and still has to be read"
    unsure = "inconclusive (CI wider than the criterion)"
    numbers = {f"column {i}": ["123 (100 to 150)", "1"] for i in range(8)}
    frame = pd.DataFrame({"Patient": ["001", "002"], **numbers, "Verdict": [unsure, "–"], "Remarks": [long, ""]})
    made = html.grid(tables.TableBody(frame, row_header=1))
    assert [name for name, _ in made.columns] == ["Patient", *numbers]
    first, below, second = made.groups[0][1]
    assert "".join(text for text, _ in below[0].parts) == f"Verdict: {unsure}; Remarks: {long}"
    assert below[0].span == 9 and len(first) == len(second) == 9


def test_the_pages_do_not_depend_on_how_many_patients_are_held_at_a_time(own_pages, results_small, few, monkeypatch):
    monkeypatch.setattr(by_patient, "BLOCK", 2)
    assert dict(report.patient_pages(results_small, few.settings, few.version)) == own_pages


def test_rows_that_are_asked_for_are_those_of_the_whole_table(results_small):
    whole, compact = Results(results_small), Results(results_small)
    nca = whole.table("nca")
    wanted = nca[(nca["window"] == "overall") & nca["parameter"].isin(("cmax", "tmax"))]
    pd.testing.assert_frame_equal(compact.rows("nca", window="overall", parameter=("cmax", "tmax")), wanted)
    pd.testing.assert_frame_equal(compact.rows("nca", ["value", "unit"]), nca[["value", "unit"]])
    assert not len(compact.rows("nca", window="no such window"))
    assert compact.size("nca") == whole.size("nca") == Results(results_small).size("nca") == len(nca)
    assert not compact._cache
    once = Results(results_small).rows("nca", ["unit", "value"], hold=False, window="overall")
    pd.testing.assert_frame_equal(once, nca.loc[nca["window"] == "overall", ["unit", "value"]].reset_index(drop=True))


def test_a_part_that_is_held_has_the_cells_of_the_whole_table(results_small, tmp_path):
    whole, results = Results(results_small).table("observation_sources"), Results(results_small)
    asked = ["observation_id", "role", "source_row"]
    held = results.part("observation_sources", asked, role=("replicate", "reference"))
    assert held is results.of(["001"]).part("observation_sources", asked, role=("reference", "replicate")), "once"
    wanted = whole[whole["role"].isin(("replicate", "reference"))][held.columns]
    assert set(held.columns) == set(asked) and held["role"].dtype == "category"
    pd.testing.assert_frame_equal(plain(held), wanted.reset_index(drop=True))
    some = set(whole["observation_id"].unique()[::7])
    picked = plain(having(held, {"observation_id": some}))
    pd.testing.assert_frame_equal(picked, wanted.reset_index(drop=True)[lambda f: f["observation_id"].isin(some)])
    assert not len(having(held, {"observation_id": {"no such result"}}))
    none = Results(tmp_path).part("ingest", ["used", "reason"], role=("reference",))
    assert not len(none) and set(none.columns) == {"used", "reason", "role"}


def test_a_part_of_a_damaged_table_is_refused_like_the_table(results_small, tmp_path):
    text = (results_small / "ingest.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "ingest.csv").write_text("\n".join([*text[:3], text[3] + ",one,cell,more"]), encoding="utf-8")
    with pytest.raises(InputError) as whole:
        Results(tmp_path).table("ingest")
    with pytest.raises(InputError) as part:
        Results(tmp_path).part("ingest", ["used"])
    assert str(part.value) == str(whole.value)


def test_links_are_made_for_the_patients_whose_rows_are_shown(results_small, few):
    results = Results(results_small)
    every = by_patient.linked(results, few, {}, list(results.patients["patient_id"]))
    ids = list(dict.fromkeys(patient for patient, _, _ in every))
    assert len(ids) > 1
    for one in ids:
        assert by_patient.linked(results, few, {}, [one]) == {k: v for k, v in every.items() if k[0] == one}


def test_sentences_about_very_many_patients_count_them():
    words = Words("en")
    ids = [f"{i:04}" for i in range(1, 1001)]
    assert words.first(ids[:20]) == words.join(ids[:20]), "a cohort is told by name"
    assert words.first(ids) == "0001, 0002, 0003 ... (1000 in all)"
    assert Words("zh").first(ids) == "0001、0002、0003……（共 1000）"
    few = {i: f"reason {i}" for i in ids[:9]}
    assert all(f"reason {i} ({i})" in grouped(few, words) for i in few), "nobody is left out of a small study"
    many = {i: f"reason {min(k // 100, 8)}" for k, i in enumerate(ids)}
    told = grouped(many, words)
    assert told.count(" in all)") == 7 and "reason 8 (0801, 0802, 0803 ... (200 in all))" in told
    assert told.endswith("; 3 other reasons (300 in all)") and len(told) < 500


@pytest.mark.parametrize("language", ["en", "zh"])
def test_flags_of_very_many_patients_count_them(language, results_small, context_small, monkeypatch):
    context = with_report(context_small, language=language)
    results, strings = Results(results_small), html.strings(language)
    ids = [str(p) for p in results.patients["patient_id"]]
    ends = {p: (1.0, "death" if k else "withdrawal") for k, p in enumerate(ids)}
    monkeypatch.setattr(html, "follow_up_ends", lambda _: ends)
    by_name = " ".join(text for text, _ in html.flags(results, context, strings))
    assert all(p in by_name for p in ids)
    monkeypatch.setattr(html, "NAMED_UP_TO", 2)
    monkeypatch.setattr(wording, "ALL_UP_TO", 2)
    monkeypatch.setattr(wording, "FIRST", 1)
    first = html.flags(results, context, strings)[0][0]
    assert not any(p in first for p in ids)
    levels = results.patients.groupby("dose_level").size()
    deaths = levels.sub(results.patients.head(1).groupby("dose_level").size(), fill_value=0).astype(int)
    died = Words(language).pick(FOLLOW_UP_ENDS["death"])
    assert all(f"{died} {n}" in first for n in deaths if n), first


def test_a_warning_that_names_hundreds_stands_in_full_where_warnings_stand(results_small, context_small, tmp_path):
    folder = shutil.copytree(results_small, tmp_path / "results")
    told = "The data cut cannot be applied to " + ", ".join(f"{i:04}-001" for i in range(400)) + "."
    (folder / "warnings.txt").write_text(f"{told}\n", encoding="utf-8")
    results, strings = Results(folder), html.strings("en")
    flags = [text for text, _ in html.flags(results, context_small, strings) if "data cut" in text]
    assert len(flags) == 1 and len(flags[0]) < html.WARNING_UP_TO and "0000-001, 0001-001" in flags[0]
    assert html._provenance(results, context_small, strings)["warnings"] == [told]


@pytest.mark.parametrize("name", ["overview", "blood_counts"])
def test_of_many_patients_a_figure_tells_its_listener_the_dose_levels(name, results_small, context_small, monkeypatch):
    results, drawing = Results(results_small), importlib.import_module(f"nkinetics.figures.{name}")
    one_by_one = figures.drawn(name, results, context_small)[0].alt
    assert all(str(p) in one_by_one for p in results.patients["patient_id"])
    monkeypatch.setattr(drawing, "HEARD_UP_TO", 2)
    told = figures.drawn(name, results, context_small)[0].alt
    assert not any(str(p) in told for p in results.patients["patient_id"])
    assert all(f"{level}: " in told for level in results.patients["dose_level"].unique()) and len(told) < 600


def test_a_report_whose_figures_stand_in_files_loads_nothing_that_draws(results_small, context_small, tmp_path):
    folder = shutil.copytree(results_small, tmp_path / "results")
    figures.write("all", Results(folder), context_small, folder / "figures", ("svg", "json"))
    settings = tmp_path / "config.yaml"
    settings.write_text(as_json(context_small.settings), encoding="utf-8")
    code = (
        "import sys; from nkinetics import cli; done = cli.main(sys.argv[1:]);"
        "print(done, [m for m in ('matplotlib', 'seaborn', 'scipy.stats') if m in sys.modules])"
    )
    asked = ["report", "--results", folder, "--config", settings, "--output", tmp_path / "report.html"]
    ran = subprocess.run([sys.executable, "-c", code, *map(str, asked)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("0 []"), ran.stdout + ran.stderr
    svg = (folder / "figures" / "overview.json").read_text(encoding="utf-8")
    (folder / "figures" / "overview.json").write_text(svg.replace("observations.csv ", "observations.csv 0"))
    ran = subprocess.run([sys.executable, "-c", code, *map(str, asked)], capture_output=True, text=True, check=True)
    assert "'matplotlib'" in ran.stdout, "a figure of other tables is drawn anew"


def test_figures_are_drawn_without_the_statistics_that_seaborn_would_load():
    code = (
        "import sys; from nkinetics.figures import _style; colours = _style.palette();"
        "print(len(colours), 'scipy.stats' in sys.modules);"
        "import scipy.stats, seaborn; axes = seaborn.kdeplot([1.0, 2.0, 4.0], bw_method=0.5);"
        "print(scipy.stats.norm.cdf(0), len(axes.lines), _style.palette() == colours)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["10 False", "0.5 1 True"], ran.stdout + ran.stderr


def test_what_became_of_the_samples_of_every_refused_run_is_worked_out_run_by_run(results_small):
    results, words = Results(results_small), Words("en")
    observed = results.table("observations")
    named = observed[observed["sample_id"] != ""]
    analysed = set(named.loc[named["reportable"].fillna(False).astype(bool), "sample_id"] + named["assay"])
    told = 0
    for (assay, run), own in named.groupby(["assay", "run_id"]):
        samples = set(own["sample_id"])
        without = {s for s in samples if s + assay not in analysed}
        said = fate_of_run(results, words, run, assay)
        pairs = len(own[["specimen", "sample_id"]].drop_duplicates())
        assert said.startswith(f"{pairs} sample")
        assert (f"{len(without)} without an analysed result" in said) == bool(without)
        told += 1
    assert told >= 3 and fate_of_run(results, words, "no such run", "qpcr") == ""


@pytest.mark.parametrize("name", ["nca", "predictions", "observations", "runs"])
def test_the_results_of_some_patients_are_those_rows_of_the_results_of_all(results_small, name):
    whole, unread = Results(results_small), Results(results_small)
    some = list(whole.patients["patient_id"])[:2]
    every = whole.table(name)
    own = every[every["patient_id"].isin(some)] if "patient_id" in every else every
    for results in (whole, unread):
        pd.testing.assert_frame_equal(results.of(some).table(name).reset_index(drop=True), own.reset_index(drop=True))
        pd.testing.assert_frame_equal(results.of(some).rows(name), own)
        assert results.of(some).size(name) == len(own)


def test_a_packed_sheet_is_the_same_to_the_byte_as_the_writers_own(tmp_path):
    def written(path: Path, sheet: type | None) -> bytes:
        with xlsxwriter.Workbook(path) as book:
            book.set_properties({"created": _workbook.EPOCH})
            looks = _workbook._looks(book)
            frame = pd.DataFrame([["a", "12", "1.50"], ["b", "BLQ", "-2"], ["a", "=x", ""]], columns=["id", "n", "v"])
            body = TableBody(frame, ("a footnote",), "all", row_header=1)
            for name in ("one", "two"):
                _workbook._sheet(book.add_worksheet(name, sheet), looks, "title", body, Words("en"))
        return _workbook._timeless(path)

    assert written(tmp_path / "packed.xlsx", Sheet) == written(tmp_path / "plain.xlsx", None)
