"""The report as a reader opens it: a real browser, headless, from a file, without a network.

The quick tests open the study written by hand; the long ones the bundled study after its whole job, in both languages.
"""

from __future__ import annotations

import re
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
    command += ["--profile", str(root / "profiles/default"), "--cores", "2", "results/report.html"]
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
    numbers = [float(word) for word in row.inner_text().split() if re.fullmatch(r"[\d.]+", word)]
    asked = float(link.inner_text())
    assert any(abs(n - asked) <= 0.005 * asked for n in numbers), "the row holds the number, with a digit more or so"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_the_parameter_listing_leads_to_a_row_of_its_patient(opened: Any, path: Path) -> None:
    found = opened(path).page.evaluate(
        """() => [...document.querySelectorAll('[id="L-16.2.5.3"] tbody tr:not(.group)')].flatMap(row => {
        const patient = row.querySelector('th a').textContent;
        return [...row.querySelectorAll('td')].slice(0, -1).map(cell => {
            const link = cell.querySelector('a');
            const target = link && document.getElementById(link.hash.slice(1));
            const owner = target && target.closest('[data-patient-id]');
            return [patient, cell.textContent, owner && owner.dataset.patientId];
        });
    })"""
    )
    assert len(found) >= 48
    lost = [f for f in found if f[1] != "NC" and f[2] != f[0]]
    assert lost == []
    assert all(f[2] is None for f in found if f[1] == "NC")


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
    # From the contents to the patients, from there on with the tabulator alone.
    reached: set[str] = set()

    def tab() -> tuple[str, str, str]:
        page.keyboard.press("Tab")
        tag, where, hash_, outlined = page.evaluate(
            "(e => [e.tagName, e.id || e.className, e.hash || '', "
            "parseFloat(getComputedStyle(e).outlineWidth) >= 2])(document.activeElement)"
        )
        assert outlined, f"{tag} {where} has the focus and does not show it"
        reached.update((tag, where))
        return tag, where, hash_

    page.evaluate("scrollTo(0, 0); document.querySelector('.skip').focus()")
    while tab()[2] != "#patients":
        assert len(reached) < 500
    page.keyboard.press("Enter")
    assert tab()[:2] == ("SELECT", "chosen"), "the first stop among the patients"
    for _ in range(100):
        if tab()[0] == "SUMMARY":
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
        r[outcome].map(rule => [rule.id, rule.nodes.map(node => node.element)]))])))
        .then(found => {
            // Where cells of several rows or a link lie over each other axe finds several grounds and does not choose:
            // the letters must stand out from every ground that a table of the page has.
            const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const grounds = new Set(['rgb(255, 255, 255)']);
            document.querySelectorAll('th, td').forEach(cell => {
                const ground = getComputedStyle(cell).backgroundColor;
                if (ground !== 'rgba(0, 0, 0, 0)') { grounds.add(ground); }
            });
            const poor = e => [...grounds].some(ground => {
                const [dark, pale] = [light(getComputedStyle(e).color), light(ground)].sort((a, b) => a - b);
                return (pale + 0.05) / (dark + 0.05) < 4.5;
            });
            found.incomplete['color-contrast'] = (found.incomplete['color-contrast'] || []).filter(poor);
            for (const outcome of Object.values(found)) {
                for (const rule of Object.keys(outcome)) { outcome[rule] = outcome[rule].map(e => e.outerHTML); }
            }
            return found;
        })""",
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
    assert found["incomplete"]["color-contrast"] == []


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


@pytest.mark.long
def test_the_chinese_page_says_nothing_in_english_but_what_people_wrote(opened: Any, bundled: dict[str, Path]) -> None:
    """What is quoted from an English standard or protocol says so by its language."""
    texts = opened(bundled["zh"]).page.evaluate(
        """() => {
        const found = [], all = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
        while (all.nextNode()) {
            const quoted = all.currentNode.parentElement.closest('#provenance, [lang=en], style');
            if (!quoted) { found.push(all.currentNode.data); }
        }
        return found; }"""
    )
    assert len(texts) > 10_000
    english = re.compile(r"\b(the|is|are|no|not|of|with|from|for|below|left|outside|open)\b")
    assert [text for text in texts if english.search(text)] == []


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_listing_sorts_by_a_column_by_keyboard_and_loses_no_row(opened: Any, path: Path) -> None:
    seen = opened(path)
    table = seen.page.locator("[id='L-16.2.5.3'] table")
    texts = """t => [...t.tBodies].map(body =>
        [...body.rows].filter(row => !row.className).map(row => [...row.cells].map(cell => cell.textContent)))"""
    before = table.evaluate(texts)
    head = table.locator("thead th:has(button)", has_text="Cmax").first
    column = head.evaluate("h => h.cellIndex")
    head.locator("button").focus()
    for direction in ("ascending", "descending"):
        seen.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        after = table.evaluate(texts)
        for rows, first in zip(after, before, strict=True):
            assert sorted(row[-1] for row in rows) == sorted(row[-1] for row in first), "every row is still there"
            numbers = [float(row[column]) for row in rows if re.fullmatch(r"[\d.]+", row[column])]
            assert (
                numbers == sorted(numbers, reverse=direction == "descending") and len({len(row) for row in rows}) == 1
            )
    assert table.locator("[aria-sort]").count() == 1 and seen.complaints == []
