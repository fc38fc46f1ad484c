"""The report as a reader opens it: a real browser, headless, from a file, without a network.

The quick tests open the study written by hand; the long ones the bundled study after its whole job, in both languages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nkinetics import report
from nkinetics.results import Context
from nkinetics.settings import Settings, load

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
AXE_STYLE = (
    "* { background-image: none !important; content-visibility: visible !important; }"
    " .scroll { overflow: visible !important; }"
)
"""Contrast cannot be judged before a gradient (ours are shades of white), nor of what is scrolled out of its box."""


def in_language(settings: Settings, language: str) -> Settings:
    return settings.model_copy(update={"report": settings.report.model_copy(update={"language": language})})


@pytest.fixture(scope="session")
def small(results_small: Path, context_small: Context, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of the study written by hand, by language."""
    folder, made = tmp_path_factory.mktemp("browser"), {}
    for language in ("en", "zh"):
        settings = in_language(context_small.settings, language)
        made[language] = folder / f"{language}.html"
        made[language].write_text(report.build(results_small, settings, "0.1.0"), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def bundled(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of the bundled study, by language, after its whole job."""
    folder = tmp_path_factory.mktemp("bundled")
    for name in ("config", "data"):
        shutil.copytree(root / name, folder / name)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(root / "profiles/default"), "--cores", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {"en": folder / "results" / "report.html", "zh": folder / "zh.html"}
    settings = in_language(load(folder / "results" / "run_config.yaml"), "zh")
    made["zh"].write_text(report.build(folder / "results", settings, "0.1.0"), encoding="utf-8")
    return made


NARROW = 360
STUDIES = [pytest.param("small", id="small"), pytest.param("bundled", id="bundled", marks=pytest.mark.long)]
LANGUAGES = ["en", "zh"]


@pytest.fixture
def path(request: pytest.FixtureRequest, study: str, language: str) -> Path:
    made: dict[str, Path] = request.getfixturevalue(study)
    return made[language]


def shown(page: Any) -> list[str]:
    """Identifiers of the patients that can be seen."""
    return page.eval_on_selector_all(
        "[data-patient-id]", "all => all.filter(e => e.checkVisibility()).map(e => e.dataset.patientId)"
    )


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_it_opens_from_a_file_with_one_request_and_not_one_complaint(opened: Any, path: Path) -> None:
    seen = opened(path)
    seen.page.wait_for_load_state("networkidle")
    assert seen.requests == [path.as_uri()]
    assert seen.complaints == [] and seen.dialogs == []


def test_the_policy_stops_what_is_not_ours(opened: Any, small: dict[str, Path], tmp_path: Path) -> None:
    """The control: the same page with a script, a handler, a picture and a frame of somebody else runs none of them."""
    text = small["en"].read_text(encoding="utf-8")
    foreign = (
        "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
        "<iframe srcdoc=\"<script>parent.document.title='taken'</script>\"></iframe>"
        "<link rel=stylesheet href='https://example.org/a.css'>"
    )
    (tmp_path / "taken.html").write_text(text.replace("</main>", foreign + "</main>"), encoding="utf-8")
    seen = opened(tmp_path / "taken.html")
    assert seen.page.title() != "taken"
    assert len(seen.complaints) >= 4 and all("Content Security Policy" in c for c in seen.complaints)
    assert {seen.stopped.get(r) for r in seen.requests if r != seen.page.url} == {"csp"}, "stopped before any network"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_selector_shows_one_patient_and_all_again(opened: Any, path: Path) -> None:
    seen = opened(path)
    everyone = shown(seen.page)
    assert len(everyone) >= 6
    seen.page.select_option("#chosen", everyone[2])
    assert shown(seen.page) == [everyone[2]]
    assert seen.page.get_attribute(f'.chips a[href="#patient-{everyone[2]}"]', "aria-current") == "true"
    # The chip of another patient leads there although that one is hidden.
    seen.page.click(f'.chips a[href="#patient-{everyone[4]}"]')
    assert shown(seen.page) == [everyone[4]]
    seen.page.select_option("#chosen", "")
    assert shown(seen.page) == everyone and seen.page.locator(".chips [aria-current]").count() == 0
    assert seen.complaints == []


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", ["en"])
def test_a_number_leads_to_the_row_it_comes_from(opened: Any, path: Path) -> None:
    seen = opened(path)
    link = seen.page.locator('.patient .turned a[href^="#obs-"]').first
    target = link.get_attribute("href")
    row = seen.page.locator(f"[id='{target[1:]}']")
    assert not row.is_visible(), "the rows are folded away until somebody asks for them"
    link.click()
    row.wait_for(state="visible", timeout=2000)
    assert row.evaluate("e => e.closest('details').open")
    assert row.evaluate("e => { const b = e.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; }")
    assert link.inner_text() in row.inner_text().split(), "the row holds the number that was asked for"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", ["en"])
def test_an_address_with_a_row_in_it_opens_that_row(opened: Any, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    last = text.rindex('<tr id="obs-') + len('<tr id="')
    identifier = text[last : text.index('"', last)]
    seen = opened(path, fragment=f"#{identifier}")
    assert seen.page.locator(f"[id='{identifier}']").is_visible()


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened: Any, path: Path) -> None:
    seen = opened(path)
    page = seen.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "seen as soon as it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    reached: set[str] = set()
    for _ in range(600):
        page.keyboard.press("Tab")
        tag, where, outlined = page.evaluate(
            "(e => [e.tagName, e.id || e.className, e === document.body || "
            "parseFloat(getComputedStyle(e).outlineWidth) >= 2])(document.activeElement)"
        )
        assert outlined, f"{tag} {where} has the focus and does not show it"
        reached |= {tag, where}
        if tag == "SUMMARY":
            break
    assert {"A", "SELECT", "chosen", "DIV", "scroll", "SUMMARY"} <= reached
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    page.focus("#chosen")
    page.keyboard.press("ArrowDown")
    assert len(shown(page)) == 1, "a patient chosen by the keyboard alone"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_whole_without_scripts(opened: Any, path: Path) -> None:
    with_scripts, without = opened(path), opened(path, java_script_enabled=False)
    count = "[data-patient-id]"
    assert without.page.locator(count).count() == with_scripts.page.locator(count).count() >= 6
    assert not without.page.locator("#chosen").is_visible(), "a control that does nothing is not offered"
    for section in ("verdict", "brief", "tables", "figures", "patients", "listings", "methods", "provenance"):
        assert without.page.locator(f"#{section}").is_visible()
    summary = without.page.locator("details.observations summary").first
    summary.click()
    assert without.page.locator("details.observations tr[id]").first.is_visible(), "details open without any script"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_print_opens_every_detail_and_leaves_out_what_paper_cannot_do(opened: Any, path: Path) -> None:
    seen = opened(path)
    page = seen.page
    page.select_option("#chosen", shown(page)[0])
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.eval_on_selector_all("details", "all => all.every(d => d.open)")
    assert len(shown(page)) == page.locator("[data-patient-id]").count(), "paper holds every patient"
    for gone in (".contents", ".chooser", ".skip"):
        assert not page.locator(gone).first.is_visible()
    assert page.eval_on_selector_all("details tr[id]", "all => all.every(r => r.checkVisibility())")


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_on_a_narrow_screen_tables_scroll_in_their_box_and_the_page_does_not(opened: Any, path: Path) -> None:
    seen = opened(path, width=NARROW)
    page = seen.page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    cut = page.evaluate(
        "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, svg, .hidden, pre')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + ' ' + e.textContent.slice(0, 60))"
    )
    assert cut == []
    assert page.eval_on_selector_all(".scroll", "all => all.some(e => e.scrollWidth > e.clientWidth)")


def axe_found(page: Any, within: str) -> dict[str, dict[str, list[str]]]:
    """What axe-core says of WCAG 2.2 A and AA within an element: by outcome and rule, the elements."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    # Axe cannot judge the contrast of what is drawn, and takes minutes to say so: pictures stay with their names alone.
    page.evaluate("document.querySelectorAll('.drawing svg > :not(title, desc)').forEach(e => e.remove())")
    return page.evaluate(
        """([within, tags]) => axe.run(within, {runOnly: tags, elementRef: true}).then(r =>
        Object.fromEntries(['violations', 'incomplete', 'passes'].map(outcome => [outcome, Object.fromEntries(
        r[outcome].map(rule => [rule.id, rule.nodes.map(node => node.element.outerHTML)]))])))""",
        [within, WCAG],
    )


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_no_violation_of_wcag_a_and_aa(opened: Any, path: Path) -> None:
    # Our policy forbids foreign scripts, and axe is one: only here it is set aside.
    seen = opened(path, bypass_csp=True, width=3000)
    seen.page.add_style_tag(content=AXE_STYLE)
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = axe_found(seen.page, "html")
    assert found["violations"] == {}
    assert len(found["passes"]) >= 20 and len(found["passes"]["color-contrast"]) > 300, "axe has really looked"
    # Over a cell that spans rows axe finds the ground of several, around a link the link's: it does not choose.
    undecided = found["incomplete"].get("color-contrast", [])
    assert [html for html in undecided if "rowspan" not in html and "<a " not in html] == []


def test_axe_finds_a_violation_that_is_there(opened: Any, small: dict[str, Path], tmp_path: Path) -> None:
    """The control of the test above."""
    text = small["en"].read_text(encoding="utf-8")
    text = text.replace("--muted: #525d69", "--muted: #c0c8d0").replace(
        '<ul class="chips">', '<input><ul class="chips">'
    )
    (tmp_path / "poor.html").write_text(text, encoding="utf-8")
    seen = opened(tmp_path / "poor.html", bypass_csp=True)
    assert set(axe_found(seen.page, "#verdict")["violations"]) == {"color-contrast"}
    assert {"label"} <= set(axe_found(seen.page, ".chooser")["violations"])
