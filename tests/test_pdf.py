"""The report on paper: whole, tagged, harmless, the brief on one page, the same bytes."""

from __future__ import annotations

import gc
import io
import logging
import re
import shutil
import subprocess
import sys

import pytest
from nkinetics import cli, figures, report, tables
from nkinetics.errors import BAD_INPUT, InputError
from nkinetics.optional import pdf_lacks
from nkinetics.plugins import discover
from nkinetics.report import html, pdf
from nkinetics.results import Results
from nkinetics.store import SCHEMAS, read_table, write_table
from nkinetics.wording import number_of

pytestmark = pytest.mark.skipif(bool(pdf_lacks()), reason=pdf_lacks() or "PDF can be written")
pikepdf = pytest.importorskip("pikepdf")
pypdf = pytest.importorskip("pypdf")


def printed(folder, settings):
    paper = report.printable(folder, settings, "0.1.0")
    return paper, pdf.written(paper.html, paper.pictures)


@pytest.fixture(scope="module")
def folder(results_small, context_small, tmp_path_factory):
    target = tmp_path_factory.mktemp("paper") / "results"
    shutil.copytree(results_small, target)
    figures.write("all", Results(target), context_small, target / "figures")
    return target


@pytest.fixture(scope="module")
def paper(folder, context_small):
    return printed(folder, context_small.settings)


@pytest.fixture(scope="module")
def chinese(context_small):
    update = {"language": "zh", "pdf_details": 0}
    language = context_small.settings.report.model_copy(update=update)
    return context_small.settings.model_copy(update={"report": language})


@pytest.fixture(scope="module")
def on_paper_zh(folder, chinese):
    return printed(folder, chinese)


def pages_of(content: bytes) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages]


def squeezed(text: str) -> str:
    """Text without blanks and line ends: paper breaks lines where a page does not."""
    return re.sub(r"\s+", "", text)


@pytest.fixture(scope="module")
def text(paper):
    return squeezed("".join(pages_of(paper[1])))


def elements(content: bytes):
    """Every element of the structure tree."""
    with pikepdf.open(io.BytesIO(content)) as document:
        todo, found = [document.Root.StructTreeRoot.K], []
        while todo:
            node = todo.pop()
            if isinstance(node, pikepdf.Array):
                todo += list(node)
            elif isinstance(node, pikepdf.Dictionary) and "/S" in node:
                found.append((str(node.S), str(node.get("/Alt", ""))))
                if "/K" in node:
                    todo.append(node.K)
        return found


def test_every_table_and_its_number_stands_on_paper(text, folder, context_small):
    for family in ("tables", "figures"):
        for name, item in discover(family).items():
            assert squeezed(number_of(item, context_small)) in text, name
    for name in tables.names(context_small):
        made = tables.build(name, Results(folder), context_small)
        cells = {squeezed(c) for c in made.frame.to_numpy().ravel() if c.strip()}
        assert {c for c in cells if c not in text} == set(), name
        assert all(squeezed(note) in text for note in made.footnotes), name


def test_every_observation_of_every_patient_stands_on_paper(text, folder):
    observed = Results(folder).table("observations")
    assert all(squeezed(s) in text for s in observed["sample_id"] if s)
    assert "Howthenumbersweremade" in text, "what a page folds away is open on paper"


def test_the_document_is_tagged_named_and_has_a_language(paper):
    with pikepdf.open(io.BytesIO(paper[1])) as document:
        root = document.Root
        assert bool(root.MarkInfo.Marked) and "/StructTreeRoot" in root
        assert str(root.Lang) == "en" and bool(root.ViewerPreferences.DisplayDocTitle)
        assert "Six patients, written by hand" in str(document.docinfo.Title)
        with document.open_metadata() as metadata:
            assert metadata["pdfuaid:part"] == "1"
        assert all("/StructParents" in page for page in document.pages)
        with document.open_outline() as outline:
            heads = [item.title for item in outline.root]
            below = [child.title for item in outline.root for child in item.children]
    assert heads[:3] == ["At a glance", "Brief for the safety monitoring committee", "Figures"]
    assert any("14.4.1.5" in title for title in below) and len(below) > 40


def test_every_figure_is_told_in_words_and_every_table_has_heads(paper, folder, context_small):
    found = elements(paper[1])
    drawn = [alt for kind, alt in found if kind == "/Figure"]
    assert len(drawn) == len(paper[0].pictures) and all(len(alt) > 30 for alt in drawn)
    kinds = {kind for kind, _ in found}
    assert {"/Table", "/TR", "/TH", "/TD", "/H1", "/H2", "/H3", "/L", "/LI", "/P", "/Link"} <= kinds


def test_pages_are_a4_and_numbered_with_running_heads(paper):
    reader = pypdf.PdfReader(io.BytesIO(paper[1]))
    n = len(reader.pages)
    for i, page in enumerate(reader.pages, start=1):
        sides = sorted(round(float(s)) for s in page.mediabox[2:])
        assert sides == [595, 842]
        shown = squeezed(page.extract_text())
        assert f"page{i}of{n}" in shown
        if i > 1:
            assert "SMALL–Sixpatients,writtenbyhand" in shown and "Datacut:2026-03-01" in shown


def test_a_figure_stands_with_its_title_and_its_source(paper, context_small):
    """On one page; where it is parted between panels, its title with the first part and its source with the last."""
    pages = [squeezed(p) for p in pages_of(paper[1])]
    for name in figures.names(context_small):
        item = discover("figures")[name]
        head = squeezed(f"Figure {number_of(item, context_small)}{item.title['en']}")
        ((at, page),) = [(i, p) for i, p in enumerate(pages) if head in p]
        parts = sum(1 for picture in paper[0].pictures if re.fullmatch(rf"figure:{item.id}-\d+", picture)) or 1
        end = page[page.index(head) :] if parts == 1 else pages[at + parts - 1]
        assert "Source:" in end, (name, parts)
        assert parts == 1 or re.search(r"[A-Za-z]{3}", end[: end.index("Source:")]), f"{name}: a part beside its notes"


def test_no_heading_stands_alone_at_the_end_of_a_page(paper):
    for page in pages_of(paper[1]):
        lines = [line for line in page.splitlines() if line.strip() and not re.search(r"page \d+ of \d+", line)]
        assert not re.match(r"(Table|Figure|Listing) [\d.]+ ", lines[-1]), lines[-1]
        assert lines[-1] not in ("Figures", "Tables", "Listings", "Methods")


def test_no_clock_is_in_the_document_and_nothing_is_left_behind(paper):
    with pikepdf.open(io.BytesIO(paper[1])) as document:
        assert "/CreationDate" not in document.docinfo and "/ModDate" not in document.docinfo
    assert gc.isenabled() and not logging.getLogger("weasyprint").handlers[1:]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kept", [["001"], ["003", "004"], None])
def test_the_brief_is_one_page(language, kept, folder, results_small, context_small, chinese, tmp_path):
    settings = chinese if language == "zh" else context_small.settings
    here = folder
    if kept:
        here = tmp_path / "r"
        shutil.copytree(results_small, here)
        for path in sorted(here.rglob("*.csv")):
            if path.stem in SCHEMAS:
                frame = read_table(path, SCHEMAS[path.stem])
                if "patient_id" in frame.columns:
                    write_table(frame[frame["patient_id"].isin(kept)], path, SCHEMAS[path.stem])
    made = report.printable(here, settings, "0.1.0")
    content = pdf.one_page(made.brief, made.pictures)
    (page,) = pages_of(content)
    shown = squeezed(page)
    assert squeezed(html.strings(language)["brief"]) in shown
    results = Results(here)
    for name in html.BRIEF_TABLES:
        cells = tables.build(name, results, type(context_small)(settings, "0.1.0")).frame.to_numpy().ravel()
        assert {c for c in map(squeezed, cells) if c not in shown} == set(), name
    with pikepdf.open(io.BytesIO(content)) as document:
        assert [round(float(s)) for s in document.pages[0].mediabox] == [0, 0, 595, 842]


def test_of_many_patients_samples_and_arithmetic_stay_on_the_screen_and_the_paper_says_so(folder, context_small):
    few = context_small.settings.report.model_copy(update={"pdf_details": 5})
    made = report.printable(folder, context_small.settings.model_copy(update={"report": few}), "0.1.0")
    assert 'class="observations"' not in made.html and 'class="explained"' not in made.html
    assert made.html.count(html.strings("en")["details_on_screen"]) == 6
    targets = set(re.findall(r'href="#([^"]*)"', made.html))
    assert targets and targets <= set(re.findall(r' id="([^"]*)"', made.html))


def test_chinese_is_written_in_an_embedded_font(on_paper_zh):
    pages = pages_of(on_paper_zh[1])
    assert "安全监察委员会简报" in squeezed(pages[1]) and f"第1页，共{len(pages)}页" in squeezed(pages[0])
    with pikepdf.open(io.BytesIO(on_paper_zh[1])) as document:
        assert str(document.Root.Lang) == "zh-Hans"
        fonts = [
            o for o in document.objects if isinstance(o, pikepdf.Dictionary) and o.get("/Type") == "/FontDescriptor"
        ]
        names = {str(f.FontName).split("+")[-1] for f in fonts}
        assert all({"/FontFile", "/FontFile2", "/FontFile3"} & set(f.keys()) for f in fonts)
    assert any("WenQuanYi" in n or "CJK" in n or "Noto" in n for n in names), names


def test_hostile_text_is_shown_and_asks_for_nothing(results_small, context_small, tmp_path):
    shutil.copytree(results_small, tmp_path / "r")
    hostile = '<img src="file:///etc/passwd"></style><a href="javascript:x">\\202e &amp; $x_{'
    path = tmp_path / "r" / "observations.csv"
    frame = read_table(path, SCHEMAS["observations"])
    frame.loc[frame["exclusion_reason"] != "", "exclusion_reason"] = hostile
    write_table(frame, path, SCHEMAS["observations"])
    few = context_small.settings.report.model_copy(update={"items": ("T-CK-01", "L-16.2.5.5")})
    _, content = printed(tmp_path / "r", context_small.settings.model_copy(update={"report": few}))
    assert squeezed(hostile) in squeezed("".join(pages_of(content)))
    with pikepdf.open(io.BytesIO(content)) as document:
        kinds = {str(o.get("/S")) for o in document.objects if isinstance(o, pikepdf.Dictionary) and "/S" in o}
        assert not {"/JavaScript", "/URI", "/Launch", "/GoToR"} & kinds
        assert "/EmbeddedFiles" not in document.Root.get("/Names", {})


def test_a_page_may_ask_for_its_pictures_only(tmp_path):
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    page = '<html lang="en"><title>x</title><img alt="x" src="{}"></html>'
    for source in (secret.as_uri(), "http://127.0.0.1:9/x.svg", "figure:absent"):
        with pytest.raises(RuntimeError, match="cannot be printed whole"):
            pdf.written(page.format(source), {"figure:there": "<svg/>"})


@pytest.mark.long
def test_the_command_writes_what_the_ending_says_with_the_same_bytes(folder, root, tmp_path, paper):
    config = str(root / "tests" / "data" / "results_small" / "config.yaml")
    base = ["report", "--results", str(folder), "--config", config]
    assert cli.main([*base, "--output", str(tmp_path / "r.pdf"), "--brief", str(tmp_path / "b.pdf")]) == 0
    assert (tmp_path / "r.pdf").read_bytes() == paper[1]
    assert len(pages_of((tmp_path / "b.pdf").read_bytes())) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.pdf", "r.pdf"]


def test_bytes_do_not_depend_on_the_process_or_its_hash_seed(tmp_path, paper):
    page = tmp_path / "page.html"
    page.write_text(paper[0].brief, encoding="utf-8")
    code = (
        "import sys, json, hashlib, pathlib\n"
        "from nkinetics.report import pdf\n"
        "pictures = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding='utf-8'))\n"
        "made = pdf.one_page(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8'), pictures)\n"
        "print(hashlib.sha256(made).hexdigest())"
    )
    import json
    import os

    pictures = tmp_path / "pictures.json"
    pictures.write_text(json.dumps(dict(paper[0].pictures)), encoding="utf-8")
    digests = set()
    for seed, zone in (("1", "UTC"), ("2", "Asia/Shanghai")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        command = [sys.executable, "-c", code, str(page), str(pictures)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        digests.add(run.stdout)
    assert len(digests) == 1


def test_without_pango_the_html_is_made_and_the_way_to_the_pdf_is_told(folder, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pdf, "pdf_lacks", lambda: "install Pango")
    with pytest.raises(InputError, match="install Pango"):
        pdf.written("<p>x</p>", {})
    config = str(root / "tests" / "data" / "results_small" / "config.yaml")
    base = ["report", "--results", str(folder), "--config", config]
    assert cli.main([*base, "--output", str(tmp_path / "r.pdf")]) == BAD_INPUT
    assert "install Pango" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    assert cli.main([*base, "--output", str(tmp_path / "r.html")]) == 0
