"""The report: one page, self-contained, complete, harmless, the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import typing
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from nkinetics import figures, report, tables
from nkinetics.report import html
from nkinetics.results import Context, Results
from nkinetics.settings import ManualPoints, Models, Nca
from nkinetics.tables._statistics import censored_geo_mean

PATIENTS = ["001", "002", "003", "004", "005", "006"]
VOID = {"meta", "link", "br", "img", "input", "path", "use", "rect", "circle", "hr", "col"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes, texts, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def attributes(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [a[name] for _, a in self.elements if a.get(name) is not None]


@pytest.fixture(scope="module")
def folder(results_small, context_small, tmp_path_factory):
    """The small study with its figures drawn."""
    target = tmp_path_factory.mktemp("report") / "results"
    shutil.copytree(results_small, target)
    figures.write("all", Results(target), context_small, target / "figures")
    return target


@pytest.fixture(scope="module")
def text(folder, context_small):
    return report.build(folder, context_small.settings, "0.1.0")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture(scope="module")
def chinese(context_small):
    language = context_small.settings.report.model_copy(update={"language": "zh"})
    return context_small.settings.model_copy(update={"report": language})


def test_every_element_that_is_opened_is_closed(page):
    assert page.open == []


def test_every_patient_has_one_element_that_carries_the_identifier(page):
    assert page.attributes("data-patient-id") == PATIENTS


def test_every_link_has_its_target_and_every_id_is_unique(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    targets = {h[1:] for h in page.attributes("href") if h.startswith("#")}
    assert targets - set(ids) == set()
    assert {f"patient-{p}" for p in PATIENTS} <= targets


def test_nothing_is_asked_of_any_network(page, text):
    for name in ("src", "href", "action", "data", "poster", "srcset"):
        assert all(v.startswith(("#", "data:")) for v in page.attributes(name)), name
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\((?!#)", re.sub(r"<pre.*?</pre>", "", text, flags=re.S))


def test_policy_allows_the_own_script_by_its_hash_and_nothing_else(page):
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_own_script_is_small_and_the_page_under_3_mb(page, text):
    assert len(page.scripts[0].encode()) < 3000
    assert len(text.encode()) < 3_000_000


def test_same_input_gives_the_same_bytes(folder, context_small, text):
    assert report.build(folder, context_small.settings, "0.1.0") == text


def test_figures_drawn_from_other_results_are_drawn_anew(results_small, context_small, text, tmp_path):
    target = tmp_path / "results"
    shutil.copytree(results_small, target)
    (target / "figures").mkdir()
    for name in figures.names(context_small):
        (target / "figures" / f"{name}.svg").write_text("<svg>stale</svg>", encoding="utf-8")
        (target / "figures" / f"{name}.json").write_text('{"sources": [], "version": "0"}', encoding="utf-8")
    assert report.build(target, context_small.settings, "0.1.0") == text


def test_language_is_declared(text, chinese, folder):
    assert '<html lang="en">' in text
    built = report.build(folder, chinese, "0.1.0")
    assert '<html lang="zh-Hans">' in built and "安全监察委员会简报" in built
    assert Page(built).open == []


def test_first_screen_says_what_it_is_and_flags_what_to_know(text):
    first = text[: text.index('id="brief"')]
    assert "Invented data, written by hand for the tests." in first and "2026-03-01" in first
    assert "2 in DL1 (2×10⁹ cells)" in first and "4 in DL2 (4×10⁹ cells)" in first
    assert "1 assay run refused: plate_3" in first
    assert "1 export set aside whole: readme.docx (no reader knows this file)" in first
    assert (
        "1 of 37 results (1 of " in first
        and " samples) are not analysed: 1 replaced by another result that is analysed." in first
    )


def test_who_died_or_withdrew_stands_on_the_first_screen_and_in_the_brief(text, folder, context_small):
    first = text[: text.index('id="brief"')]
    assert "Left the study: 006 (DL2) death, day 28.00; 002 (DL1) withdrawal, day 2.00." in first
    brief = text[text.index('id="brief"') : text.index('id="figures"')]
    assert brief.count("death, day 28.00") == 1 and brief.count("withdrawal, day 2.00") == 1
    drawn = brief[brief.index("<svg") : brief.index("</svg>")]
    assert ">death</text>" in drawn and ">withdrawal</text>" in drawn, "their marks have keys"


def test_dose_levels_are_compared_in_a_sentence_and_what_cannot_be_says_why(results_small, context_small, tmp_path):
    import pandas as pd
    from nkinetics.columns import SCHEMAS
    from nkinetics.report.html import compared, strings
    from nkinetics.store import read_table, write_table

    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "dose_proportionality.csv"
    rows = read_table(path, SCHEMAS["dose_proportionality"])
    ratio = (rows["analysis"] == "ratio") & (rows["parameter"] == "cmax") & (rows["window"] == "overall")
    ratio &= rows["assay"] == "qpcr"
    assert ratio.sum() == 1
    rows.loc[ratio, ["estimate", "ci_lower", "ci_upper", "confidence"]] = [0.61234, 0.071, 4.94, 0.9]
    rows.loc[ratio, ["verdict", "n_by_level"]] = ["inconclusive (CI wider than the criterion)", "DL1 3; DL2 5"]
    write_table(rows, path, SCHEMAS["dose_proportionality"])
    (line,) = compared(Results(tmp_path / "r"), context_small, strings("en"))
    assert line == (
        "DL2 against DL1: Cmax per cell given is 0.612 times as high (90 % CI 0.0710 to 4.94; DL1 3; DL2 5): "
        "inconclusive (CI wider than the criterion)."
    )
    # Who is below the LLOQ counts by the censored slope: r^(theta - 1) with r = 2, here 2^-1.25.
    rows.loc[ratio, ["reason", "dose_ratio"]] = [
        "left out: below LLOQ: 006; biased by them: the censored slope counts",
        2.0,
    ]
    slope = rows[ratio].assign(
        analysis="power_model_censored", estimate=-0.25, ci_lower=-2.0, ci_upper=float("nan"), n_below=1,
        n_by_level="DL1 3; DL2 6", verdict="inconclusive", reason="",
    )  # fmt: skip
    write_table(pd.concat([rows, slope], ignore_index=True), path, SCHEMAS["dose_proportionality"])
    (line,) = compared(Results(tmp_path / "r"), context_small, strings("en"))
    assert line == (
        "DL2 against DL1: Cmax per cell given is 0.420 times as high (90 % CI 0.125 to open; DL1 3; DL2 6; 1 never "
        "quantified, counted as below the LLOQ): inconclusive. Without the never quantified it would be 0.612 "
        "(0.0710 to 4.94; DL1 3; DL2 5), biased as the lowest are missing."
    )
    rows.loc[ratio, "estimate"] = float("nan")
    rows.loc[ratio, "reason"] = "n = 1 in a dose level: a ratio needs 2 in each"
    write_table(rows, path, SCHEMAS["dose_proportionality"])
    (line,) = compared(Results(tmp_path / "r"), context_small, strings("en"))
    assert line == "DL2 against DL1: Cmax cannot be compared (n = 1 in a dose level: a ratio needs 2 in each)."


def test_only_measured_patients_are_called_informative_and_those_without_a_result_missing(text):
    first = text[: text.index('id="brief"')]
    informative = first[first.index("Measured, and never quantified in any assay") :]
    informative = informative[: informative.index("<a ")]
    assert "no quantified level in 5 results (006)." in informative and "Informative" in informative
    assert "002" not in informative
    nothing = first[first.index("No result at all: ") :]
    nothing = nothing[: nothing.index("<a ")]
    assert nothing.startswith("No result at all: 002 (no sample of this patient in the manifest). Missing")
    assert "006" not in nothing and "Informative" not in nothing


def test_first_screen_leads_with_an_answer_per_dose_level(text):
    answers = text[text.index('class="answers"') : text.index('class="flags"')]
    assert "DL1 (2×10⁹ cells), 2 treated: Cmax 400; n = 1/2. Persistence: last quantified on day 13.90." in answers
    # One patient of DL2 is never quantified, below 10 copies/ug: the censored mean lies below the plain one.
    told = answers[answers.index("DL2 (4×10⁹ cells), 4 treated: Cmax 1000 (100 to 10000); n = 3/4; censored ") :]
    censored = float(re.search(r"censored ([\d.]+)\.", told)[1])
    assert censored == pytest.approx(censored_geo_mean([100, 1000, 10000], [10.0]), rel=0.005)
    assert "Persistence: median 13.90 days" in told
    assert "2 of 4 lost" in answers and "qPCR, blood, copies/µg" in answers


def test_counts_of_results_agree_between_first_screen_and_listing(text, folder, context_small):
    from nkinetics.tables._fates import counts
    from nkinetics.wording import Words

    n = counts(Results(folder), Words("en"))
    assert (n.results, n.results_out, n.became) == (37, 1, "1 replaced by another result that is analysed")
    first = text[: text.index('id="brief"')]
    assert f"36 analysed of 37, of {n.samples} samples" in first and "1 not analysed: 1 replaced" in first
    listing = tables.build("excluded", Results(folder), context_small)
    assert f"1 of 37 results, of 1 of {n.samples} samples" in listing.subtitle
    assert any(note.startswith("Not analysed: 1 replaced") for note in listing.footnotes)
    assert any("2 more rows stand for patients without any sample" in note for note in listing.footnotes)


def test_warnings_of_the_reading_stand_on_the_first_screen(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    (tmp_path / "r" / "warnings.txt").write_text("The amount given of 005 is empty.\n", encoding="utf-8")
    built = report.build(tmp_path / "r", context_small.settings, "0.1.0")
    told = built[built.index('id="warnings"') :]
    told = told[: told.index("</p>")]
    assert "<li>The amount given of 005 is empty.</li>" in told and "To mend: " in told
    flags = html.flags(Results(tmp_path / "r"), context_small, html.strings("en"))
    (links,) = [links for text, links in flags if text == "While reading the input: The amount given of 005 is empty."]
    # What concerns one patient leads to that patient.
    assert links == [("Look there", "patient-005"), ("What was said", "warnings")]


def test_flags_are_absent_where_there_is_nothing_to_know(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    for name in ("runs.csv", "ingest.csv", "observations.csv", "fits.csv"):
        path = tmp_path / "r" / name
        path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    results, s = Results(tmp_path / "r"), html.strings("en")
    anchors = {anchor for _, links in html.flags(results, context_small, s) for _, anchor in links}
    # Nobody has a sample any more, and DL1 has two patients.
    assert anchors == {"T-CK-05", *(f"patient-{patient}" for patient in PATIENTS)}


def test_every_table_figure_and_listing_of_the_configuration_is_there_once(page, context_small):
    ids = page.attributes("id")
    from nkinetics.plugins import discover

    wanted = [discover("tables")[n].id for n in tables.names(context_small)]
    wanted += [discover("figures")[n].id for n in figures.names(context_small)]
    assert [ids.count(i) for i in wanted] == [1] * len(wanted)


def test_items_left_out_by_the_configuration_are_not_there(folder, context_small):
    choice = context_small.settings.report.model_copy(update={"items": ("T-CK-05",)})
    built = report.build(folder, context_small.settings.model_copy(update={"report": choice}), "0.1.0")
    assert 'id="T-CK-05"' in built and 'id="T-CK-04"' not in built and 'id="F-CK-01"' not in built
    ids = set(re.findall(r' id="([^"]*)"', built))
    assert [to for to in re.findall(r'href="#([^"]*)"', built) if to not in ids] == [], "links to what is left out"


def test_numbers_on_the_page_are_those_of_the_tables(page, folder, context_small):
    shown = set(t.strip() for t in page.cells)
    # Texts for which a page has no room stand below their row, behind the name of their column.
    below = [t for t in shown if ": " in t]
    for name in tables.names(context_small):
        made = tables.build(name, Results(folder), context_small)
        cells = {c.strip() for c in made.frame.to_numpy().ravel() if c.strip()}
        assert [c for c in cells - shown if not any(f": {c}; " in f"{t}; " for t in below)] == [], name


def test_every_observation_stands_with_its_rows_and_its_fate(page, folder):
    observed = Results(folder).table("observations")
    ids = set(page.attributes("id"))
    assert {f"obs-{o}" for o in observed["observation_id"]} <= ids
    text = " ".join(page.text)
    assert "plate_1.txt: 41–43" in text and "superseded by the repeat of the same sample" in text


def test_cmax_links_to_the_sample_it_comes_from(text, folder):
    observed = Results(folder).table("observations")
    peak = observed[(observed["patient_id"] == "005") & (observed["level"] == 10000)]["observation_id"].iloc[0]
    section = text[text.index('data-patient-id="005"') : text.index('data-patient-id="006"')]
    assert f'<a href="#obs-{peak}">10000</a>' in section
    row = section[section.index(f'id="obs-{peak}"') :]
    assert "Cmax, AUC" in row[: row.index("</tr>")]


def section_of(text, patient, following):
    """The part of the page about a patient."""
    return text[text.index(f'data-patient-id="{patient}"') : text.index(f'data-patient-id="{following}"')]


def test_area_half_life_and_time_to_loss_link_to_their_observations(text, folder):
    results = Results(folder)
    observed, points, nca = (results.table(n) for n in ("observations", "nca_points", "nca"))
    section = section_of(text, "001", "002")
    own = observed[(observed["patient_id"] == "001") & (observed["assay"] == "qpcr")].sort_values("time_actual")
    used = points[(points["patient_id"] == "001") & (points["assay"] == "qpcr") & (points["window"] == "overall")]
    for use, name in (("auc", "AUClast"), ("lambda_z", "Half-life (λz)")):
        ids = set(used.loc[used["used_in"] == use, "observation_id"])
        first = next(o for o in own["observation_id"] if o in ids)
        line = section[section.index(f'<th scope="row">{name}</th>') :]
        assert f'href="#obs-{first}"' in line[: line.index("</td>")], name
    lost = nca[(nca["patient_id"] == "001") & (nca["assay"] == "qpcr") & (nca["parameter"] == "t_blq")]
    time = float(lost.loc[lost["window"] == "overall", "value"].iloc[0])
    blq = own.loc[(own["time_actual"] - time).abs() < 1e-6, "observation_id"].iloc[0]
    line = section[section.index('<th scope="row">Time to loss (t_blq)</th>') :]
    assert f'href="#obs-{blq}"' in line[: line.index("</td>")]
    row = section[section.index(f'id="obs-{blq}"') :]
    assert "t_blq" in row[: row.index("</tr>")]


def test_main_numbers_stand_with_the_arithmetic_behind_them(results_small, context_small, tmp_path):
    from nkinetics import nca
    from nkinetics.columns import NCA
    from nkinetics.nca.explain import analysis, explain
    from nkinetics.store import write_table

    # nca.csv of the small study was written by hand; here it is what the analysis gives.
    shutil.copytree(results_small, tmp_path / "r")
    results = Results(tmp_path / "r")
    frames = [results.table(n) for n in ("observations", "infusions")]
    settings = (context_small.settings.nca, context_small.settings.blq, results.table("patients"))
    write_table(nca.analyse(*frames, *settings), tmp_path / "r" / "nca.csv", NCA)
    built = report.build(tmp_path / "r", context_small.settings, "0.1.0")
    assert "nca.csv holds" not in built and Page(built).open == []
    section = section_of(built, "004", "005")
    told = explain(analysis(*frames, *settings), "004", "auc_int")
    assert f"<strong>AUC D0–28 = {told.value:.10g} d·copies/µg</strong>" in section
    shown = [line.replace("&lt;", "<").replace("&gt;", ">") for line in section.splitlines()]
    assert all(line in "\n".join(shown) for line in told.arithmetic()) and len(told.arithmetic()) > 4
    assert "How the numbers were made" not in section_of(built, "002", "003"), "a patient without any sample has none"


def test_explanations_that_do_not_come_to_the_number_of_nca_csv_say_so(text):
    section = section_of(text, "001", "002")
    assert "nca.csv holds 2050: it was made from other data or settings" in section


def test_wells_and_replicates_stand_as_the_export_gives_them(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "ingest.csv"
    table = path.read_text(encoding="utf-8")
    from nkinetics.columns import INGEST, OBSERVATIONS
    from nkinetics.store import read_table, write_table

    frame = read_table(path, INGEST)
    behind = (frame["source_file"] == "plate_1.txt") & frame["source_row"].isin((44, 45, 46)) & frame["used"]
    assert behind.sum() == 3 and table
    frame.loc[behind, "well"] = ["A4", "A5", "A6"]
    frame.loc[behind, "value_raw"] = ["27.1234", "27.20", "Undetermined"]
    write_table(frame, path, INGEST)
    observed = read_table(tmp_path / "r" / "observations.csv", OBSERVATIONS)
    peak = (observed["patient_id"] == "001") & (observed["level"] == 400)
    observed.loc[peak, "cv_pct"] = 12.34
    write_table(observed, tmp_path / "r" / "observations.csv", OBSERVATIONS)
    section = section_of(report.build(tmp_path / "r", context_small.settings, "0.1.0"), "001", "002")
    row = section[section.index(f'id="obs-{observed.loc[peak, "observation_id"].iloc[0]}"') :]
    row = row[: row.index("</tr>")]
    assert "A4: 27.1234<br>A5: 27.20<br>A6: Undetermined" in row and "<td>12.3</td>" in row


def test_failed_result_stands_with_what_was_measured_and_why_it_is_not_analysed(results_small, context_small, tmp_path):
    from nkinetics.columns import OBSERVATIONS
    from nkinetics.store import read_table, write_table

    shutil.copytree(results_small, tmp_path / "r")
    path = tmp_path / "r" / "observations.csv"
    frame = read_table(path, OBSERVATIONS)
    peak = (frame["patient_id"] == "001") & (frame["level"] == 400)
    frame.loc[peak, ["level", "n_molecules"]] = [
        float("nan"),
        3 * 40.0 * context_small.settings.assays.qpcr.lloq_copies,
    ]
    frame.loc[peak, "status"], frame.loc[peak, "reportable"] = "failed", False
    frame.loc[peak, "exclusion_reason"] = "replicate CV 47.2 % above 25 %"
    write_table(frame, path, OBSERVATIONS)
    section = section_of(report.build(tmp_path / "r", context_small.settings, "0.1.0"), "001", "002")
    row = section[section.index(f'id="obs-{frame.loc[peak, "observation_id"].iloc[0]}"') :]
    row = row[: row.index("</tr>")]
    # 40 times the LLOQ per reaction, and the LLOQ of the row is 10 copies/ug.
    assert "<td>400</td>" in row and "not analysed<br>replicate CV 47.2 % above 25 %" in row


def test_input_tables_stand_with_the_hash_that_was_read_and_their_copies_say_so(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    (tmp_path / "r" / "study" / "inputs.txt").write_text(
        f"{'7' * 64}  patients  my files/pat  1.csv\n", encoding="utf-8"
    )
    built = report.build(tmp_path / "r", context_small.settings, "0.1.0")
    provenance = built[built.index('id="provenance"') :]
    assert f'my files/pat  1.csv</th><td class="n">6</td><td><code>{"7" * 64}' in provenance
    assert "study/patients.csv (copy of my files/pat  1.csv)" in provenance
    assert "study/samples.csv (no input table recorded)" in provenance
    assert "Normalised copies" in provenance


def test_nothing_in_print_is_set_below_seven_points():
    css = files("nkinetics.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    printed = css[css.index("@media print") :]
    sizes = [float(x) for x in re.findall(r"font-size: ([\d.]+)pt", printed)]
    assert sizes and min(sizes) >= 7


def test_wide_tables_show_that_they_scroll(page, text):
    wide = [a for t, a in page.elements if t == "article" and "wide" in (a.get("class") or "")]
    assert wide and text.count('class="hint"') == len(wide)


def test_hostile_text_is_shown_and_never_run(text, page, results_small, context_small, tmp_path):
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)</script>" in " ".join(page.text)
    shutil.copytree(results_small, tmp_path / "r")
    hostile = "</script><img src=x onerror=alert(1)>$x_{\u202e{{ 7*7 }}" + "A" * 5000
    for name, old in (("runs.csv", "NTC amplified"), ("study/events.csv", "pneumonia")):
        path = tmp_path / "r" / name
        changed = path.read_text(encoding="utf-8").replace(old, hostile)
        assert hostile in changed
        path.write_text(changed, encoding="utf-8")
    study = context_small.settings.study.model_copy(update={"title": hostile, "notice": hostile, "product": hostile})
    built = report.build(tmp_path / "r", context_small.settings.model_copy(update={"study": study}), "0.1.0")
    hurt = Page(built)
    assert "img" not in {tag for tag, _ in hurt.elements} and len(hurt.scripts) == 1
    assert hurt.open == [] and "49" + "A" * 10 not in built


def test_methods_are_those_of_the_configuration(folder, context_small, text):
    assert "linear-up log-down" in text and "R² ≥ 0.8" in text
    nca = context_small.settings.nca.model_copy(update={"auc_rule": "linear", "consecutive_blq": 2})
    built = report.build(folder, context_small.settings.model_copy(update={"nca": nca}), "0.1.0")
    assert "linear trapezoidal" in built and "linear-up log-down rule" not in built
    assert "first of 2 consecutive samples" in built
    assert "chosen by hand" not in text and "largest likelihood, in which samples below" not in text
    choice = {"patient_id": "003", "assay": "qpcr", "reason": "rebound after transfusion"}
    slope = nca.lambda_z.model_copy(
        update={"method": "tobit", "manual": (ManualPoints(**choice, exclude=(1.02, 7.1)),)}
    )
    nca = nca.model_copy(update={"lambda_z": slope})
    built = report.build(folder, context_small.settings.model_copy(update={"nca": nca}), "0.1.0")
    assert "largest likelihood, in which samples below" in built
    assert "chosen by hand: 003 qpcr blood overall, without d 1.02, 7.1 (rebound after transfusion)." in built


def test_provenance_lists_exports_results_versions_and_configuration(text, folder):
    assert "1" * 64 in text and "readme.docx" in text
    digest = hashlib.sha256((folder / "nca.csv").read_bytes()).hexdigest()
    assert digest in text and "numpy" in text and "auc_rule: linear_up_log_down" in text


def test_page_is_whole_without_scripts(text):
    without = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert 'class="scripted" hidden' in without  # what needs the script stays hidden without it
    assert not re.search(r"<section[^>]*hidden", without)


def test_headings_never_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_every_table_has_heads_with_a_scope_and_can_be_scrolled_by_keyboard(page):
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    scrolled = [attrs for _, attrs in page.elements if attrs.get("class") == "scroll"]
    assert scrolled and all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in scrolled)


@pytest.mark.parametrize("kept", [["001"], ["001", "003"], ["002"], ["006"], ["003", "004", "005"]])
def test_few_patients_give_a_full_report(kept, results_small, context_small, tmp_path):
    from nkinetics.columns import SCHEMAS
    from nkinetics.store import read_table, write_table

    shutil.copytree(results_small, tmp_path / "r")
    for path in sorted((tmp_path / "r").rglob("*.csv")):
        frame = read_table(path, SCHEMAS[path.stem])
        if "patient_id" in frame.columns:
            write_table(frame[frame["patient_id"].isin(kept)], path, SCHEMAS[path.stem])
    page = Page(report.build(tmp_path / "r", context_small.settings, "0.1.0"))
    assert page.open == [] and page.attributes("data-patient-id") == kept


# -------------------------------------------------------------------------------------------------------------- strings


def leaves(node: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict]:
    """Every text of the strings file with both languages, by its path."""
    if set(node) <= {"en", "zh"}:
        return {path: node}
    return {k: v for key, child in node.items() for k, v in leaves(child, (*path, key)).items()}


@pytest.fixture(scope="module")
def strings():
    return yaml.safe_load(files("nkinetics.report").joinpath("strings.yaml").read_text(encoding="utf-8"))


def test_every_string_has_both_languages_and_the_same_places(strings):
    for path, texts in leaves(strings).items():
        assert set(texts) == {"en", "zh"} and texts["en"] and texts["zh"], path
        places = [set(re.findall(r"\{(\w+)\}", texts[language])) for language in ("en", "zh")]
        assert places[0] == places[1], path


def test_every_string_is_used_and_every_string_used_exists(strings):
    folder = Path(str(files("nkinetics.report")))
    sources = [*sorted(folder.glob("templates/*.j2")), *sorted(folder.glob("*.py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r"\bs\.([a-z][a-z0-9_]*)", text)) | set(re.findall(r"\bs\[\"([a-z0-9_]+)\"\]", text))
    used |= set(re.findall(r'key = "([a-z_]+)" if .* else "[a-z_]+"', text))
    used |= set(re.findall(r'key = "[a-z_]+" if .* else "([a-z_]+)"', text))
    used |= {key for key in strings if key.startswith("used_")}  # by the value of nca_points.used_in
    assert used == set(strings)


def test_every_choice_of_the_configuration_has_its_words(strings):
    choices = typing.get_args
    assert set(strings["auc_rule"]) == set(choices(Nca.model_fields["auc_rule"].annotation))
    assert set(strings["auc_start"]) == set(choices(Nca.model_fields["start"].annotation))
    assert set(strings["loss_rule"]) == {str(k) for k in choices(Nca.model_fields["consecutive_blq"].annotation)}
    assert set(strings["interval_method"]) == set(choices(Models.model_fields["interval"].annotation))
    from nkinetics.columns import NCA_POINTS
    from nkinetics.columns import PATIENTS as TABLE
    from nkinetics.settings import Flow

    assert set(strings["flow_method"]) == set(choices(Flow.model_fields["method"].annotation))
    assert set(strings["status_end"]) == set(TABLE.by_name["status_end"].allowed)
    assert {f"used_{u}" for u in NCA_POINTS.by_name["used_in"].allowed} <= set(strings)


def test_a_context_carries_the_language_of_the_report(chinese):
    assert Context(chinese, "0.1.0").language == "zh"


def test_a_table_whose_file_was_edited_by_hand_is_built_anew(results_small, context_small, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(results_small, folder)
    tables.write("topline", Results(folder), context_small, folder / "tables")
    path = folder / "tables" / "topline.csv"
    made = tables.build("topline", Results(folder), context_small).frame
    assert tables.built("topline", Results(folder), context_small).frame.equals(made)
    path.write_text(path.read_text(encoding="utf-8").replace("400", "999"), encoding="utf-8")
    assert "999" in path.read_text(encoding="utf-8")
    assert tables.built("topline", Results(folder), context_small).frame.equals(made)
