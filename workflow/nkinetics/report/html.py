"""One self-contained HTML page from a folder of results.

The page asks nothing of any network, works without scripts, and says where every number comes from. Bytes depend on the
results, the settings, the program and its libraries only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import yaml
from markupsafe import Markup

from nkinetics import figures, tables
from nkinetics.columns import STAGE_TABLES
from nkinetics.findings import ends, persistence_counts, persistence_rows
from nkinetics.leading import led, older_data
from nkinetics.plugins import TableBody, discover
from nkinetics.population.dose_proportionality import BIASED
from nkinetics.provenance import exclusions, manifest
from nkinetics.report import patients as by_patient
from nkinetics.report.methods import glossary, methods
from nkinetics.report.since import since
from nkinetics.report.submission import submission
from nkinetics.results import STUDY_TABLES, Context, Results
from nkinetics.settings import Settings
from nkinetics.store import records, sha256_of
from nkinetics.tables._fates import Counts, counts, fate_of_run
from nkinetics.tables._nca import BY_NAME, bounds, values
from nkinetics.tables.excluded import bridge
from nkinetics.tables.model_parameters import undetermined
from nkinetics.tables.topline import cell as topline_cell
from nkinetics.wording import (
    FOLLOW_UP_ENDS,
    Words,
    days,
    dose_levels,
    dose_names,
    follow_up_ends,
    grouped,
    kind_of,
    missing,
    number_of,
    profile_name,
    profiles,
    significant,
    title_of,
    treated,
    unit_name,
    verdict_words,
)

BRIEF_TABLES, BRIEF_FIGURE = ("topline", "safety"), "overview"
NAMED_UP_TO = 12
"""More patients than these are not named in a flag."""
WARNING_UP_TO = 600
"""Characters of a warning that stands whole in a flag."""
COMPACT, LONG = 24, 60
"""Characters up to which a cell is never broken, and from which a column is given room."""
PAGE_ROOM = 140
"""Characters for which a page 1280 pixels wide has room beside the contents."""
TEXT_ROOM = {"": 16, "t": 44}
"""Characters a line that columns of texts ask for, by their look."""
VALUES = "nca_individual"
"""The listing whose numbers lead to the observations they were made from."""
QUALITY_TABLES, QUALITY_FIGURES = ("runs", "exports"), ("run_curves",)
WITHOUT_NAMES = QUALITY_TABLES + BRIEF_TABLES
"""Tables whose cells lead to no patient."""
LIBRARIES = ("numpy", "scipy", "pandas", "lmfit", "statsmodels", "matplotlib", "seaborn", "jinja2")
LYING, UPRIGHT = (271.0, 181.0), (184.0, 268.0)
"""Width and height of the text on a page of either kind, mm."""
HEADS, SECTION_HEAD, LEAD, LEAST, TALL = 23.0, 15.0, 12.0, 25.0, 0.95
"""Heights of the heads of a figure and of a section, of its least part, mm; height by width of an upright one."""
SVG = "http://www.w3.org/2000/svg"
EVERYWHERE = (-math.inf, math.inf)
STROKE, AROUND, AROUND_TURNED = 4.0, 20.0, 300.0
"""Room that the stroke of a path and a text, lying or turned, may take up around where they say they are, points."""
ElementTree.register_namespace("", SVG)
LANGUAGES = {"en": "en", "zh": "zh-Hans"}
_NUMERIC = re.compile(r"[-–<>≤≥]?\s*[\d.,]+(e-?\d+)?( ?[%†])?|[–]|BLQ|NC|NR|ND|ALQ|MISS|\d+ ?/ ?\d+( / \d+)*|")


def build(results_folder: Path | Results, settings: Settings, version: str) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    results_folder : Path or Results
        Canonical tables; figures are taken from its sub-folder figures/ where they were drawn from the same tables,
        and drawn anew where not. Tables are always built anew.
    settings : Settings
        The merged configuration.
    version : str
        Version of the program.

    Returns
    -------
    str
        HTML, the same bytes for the same input.
    """
    return _rendered(_content(results_folder, settings, version))


def opened(results_folder: Path | Results) -> Results:
    """The results of a folder, or those that are open already: their tables are then read once for several pages."""
    return results_folder if isinstance(results_folder, Results) else Results(Path(results_folder))


def apart(results: Results, settings: Settings) -> bool:
    """Whether each patient has a page of its own, since there are too many for one page."""
    return len(results.patients) > settings.report.patient_details


def patient_pages(
    results_folder: Path | Results, settings: Settings, version: str, report: str = "report.html"
) -> Iterator[tuple[str, str]]:
    """The pages of single patients, each as path beside the report and HTML; none where the report holds them all.

    Parameters
    ----------
    results_folder, settings, version
        As `build` takes them.
    report : str
        File name of the report, to which each page leads back.
    """
    results, context = opened(results_folder), Context(settings, version)
    if not apart(results, settings):
        return
    s, paths = strings(context.language), by_patient.pages(results)
    built = {name: tables.built(name, results, context) for name in by_patient.TURNED if name in tables.names(context)}
    same = {
        "s": s,
        "language": LANGUAGES[context.language],
        "policy": policy(""),
        "style": Markup(_template_text("report.css")),
        "study": settings.study,
        "title": settings.study.title or settings.study.id,
        "version": version,
        "report": report,
        "details": True,
        "printed": False,
        "top": 2,
        "opened": " open",
        "alone": True,
    }
    template = _environment().get_template("patient.html.j2")
    for patient in by_patient.sections(results, context, s, built):
        yield paths[patient["id"]], template.render(same | {"patient": patient})


@dataclass(frozen=True)
class Printable:
    """The report for paper.

    Parameters
    ----------
    html : str
        The page of `build` without what only a screen can do; figures are images named ``figure:<id>``.
    brief : str
        The same of the committee brief alone.
    pictures : mapping of str to str
        SVG text by the name of the image.
    """

    html: str
    brief: str
    pictures: Mapping[str, str]


def printable(results_folder: Path | Results, settings: Settings, version: str) -> Printable:
    """The report as `nkinetics.report.pdf` prints it; see `build`."""
    page = _content(results_folder, settings, version)
    shown = [item for item in (page["brief"]["figure"], *page["figures"], *page["quality_figures"]) if item]
    parts = {i.anchor: pieces(i, n == 0) for part in ("figures", "quality_figures") for n, i in enumerate(page[part])}
    # The committee sees all patients and their events at one glance: the figure of the brief is never parted.
    pictures = {}
    for item in (each for each in shown if each.svg):
        whole_picture = standalone(item.svg)
        for k, (top, bottom) in enumerate(parts.get(item.anchor, ())):
            pictures[f"figure:{item.anchor}-{k + 1}"] = _piece(whole_picture, top, bottom)
        if not parts.get(item.anchor):
            pictures[f"figure:{item.anchor}"] = whole_picture
    s = page["s"]
    paper = Markup(_template_text("paper.css") + page_count(s["page_count"]))  # our own file and words
    rooms = {i.anchor: room(i, n == 0) for part in ("figures", "quality_figures") for n, i in enumerate(page[part])}
    if page["brief"]["figure"]:
        # Beside the heading of the section; its notes may go on overleaf.
        rooms[page["brief"]["figure"].anchor] = Room(False, LYING[1] - HEADS - SECTION_HEAD - LEAD)
    details = not page["overview"] and len(page["patients"]) <= settings.report.pdf_details
    page |= {"details": details, "printed": True, "parts": parts, "style": page["style"] + paper, "rooms": rooms}
    brief = without_links(_rendered(page | {"whole": False, "parts": {}, "rooms": {}}), "#")
    whole = _rendered(page)
    whole = whole if details else without_links(whole, "#obs-")
    return Printable(without_links(whole, f"{by_patient.FOLDER}/"), brief, pictures)


def without_links(html: str, to: str) -> str:
    """The page without the links whose target it does not hold. Texts are escaped: no link but ours looks like this.

    Examples
    --------
    >>> without_links('<a href="#obs-1">12</a> <a href="#T-CK-05">5</a>', "#obs-")
    '12 <a href="#T-CK-05">5</a>'
    """
    return re.sub(rf'<a href="{to}[^"]*">(.*?)</a>', r"\1", html, flags=re.S)


@dataclass(frozen=True)
class Room:
    """Where a figure stands on paper: upright for tall ones, and how high its drawing may be [mm]."""

    upright: bool
    height: float


def room(item: Item, first: bool) -> Room:
    """What the page leaves to a drawing below the heads and above its footnotes, so that all three stand together."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', item.svg)
    upright = found is not None and float(found[2]) > TALL * float(found[1])
    width, height = UPRIGHT if upright else LYING
    return Room(upright, round(height - HEADS - (SECTION_HEAD if first else 0) - _height_of_notes(item, width), 1))


def _height_of_notes(item: Item, width: float) -> float:
    """Room the footnotes take on a page [mm]: letters of 7 points are 1.4 mm wide on the average, Chinese ones 2.5."""
    lines = sum(1 + sum(2.5 if ord(c) > 0x2E80 else 1.4 for c in note) // width for note in item.footnotes)
    return float(3.3 * lines)


def pieces(item: Item, first: bool) -> list[tuple[float, float]]:
    """Top and bottom [points] of each part of a figure that does not stand on a page at its full width with its notes.

    None where it does, and where it has no place to be cut at: it is reduced to the room there is. The notes always
    stand on the page of the last part.
    """
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', item.svg)
    if found is None or not item.cuts:
        return []
    width, height = float(found[1]), float(found[2])
    millimetre = width / LYING[0]
    if height <= 1.05 * room(item, first).height * millimetre and height <= TALL * width:
        return []
    heads, notes = HEADS + (SECTION_HEAD if first else 0), _height_of_notes(item, LYING[0])
    made: list[tuple[float, float]] = []
    start = 0.0
    while start < height - 1:
        free = LYING[1] - (heads if not made else 4)
        inner = [c for c in item.cuts if start + LEAST * millimetre < c < height - 1]  # a legend alone is no part
        fitting = [c for c in inner if c - start <= free * millimetre]
        last = not inner or height - start <= (free - notes) * millimetre
        end = height if last else max(fitting, default=inner[0])
        made.append((start, end))
        start = end
    return made if len(made) > 1 else []


def _piece(svg: str, top: float, bottom: float) -> str:
    """The part of a picture between two heights, without what stands wholly outside: no page draws another's panels.

    Examples
    --------
    >>> whole = f'<svg xmlns="{SVG}" viewBox="0 0 100 90"><text y="10">a</text><text y="80">b</text></svg>'
    >>> "b</text>" in _piece(whole, 0, 45), 'viewBox="0 0.0 100 45.0"' in _piece(whole, 0, 45)
    (False, True)
    """
    root = ElementTree.fromstring(svg)
    shapes = {f"#{path.get('id')}": _of_path(path.get("d", "")) for path in root.iter(f"{{{SVG}}}path")}
    clips = {}
    for clip in root.iter(f"{{{SVG}}}clipPath"):
        for rect in clip.iter(f"{{{SVG}}}rect"):
            begin = float(rect.get("y", 0))
            clips[f"url(#{clip.get('id')})"] = begin, begin + float(rect.get("height", 0))
    for element in list(root):
        low, high = clips.get(element.get("clip-path", "")) or _heights_of(element, shapes)
        if low > bottom or high < top:
            root.remove(element)
    width = str(root.get("viewBox")).split()[2]
    root.attrib |= {"viewBox": f"0 {top:.1f} {width} {bottom - top:.1f}", "overflow": "hidden"}
    return ElementTree.tostring(root, encoding="unicode")


def _heights_of(element: ElementTree.Element, shapes: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Heights between which an element of a figure surely stands; all there are where it does not say so itself."""
    kind, turned = element.tag.rpartition("}")[2], element.get("transform", "")
    if kind == "path" and not turned:
        return _of_path(element.get("d", ""))
    if kind == "use" and not turned:
        low, high = shapes.get(element.get("href", ""), EVERYWHERE)
        return low + float(element.get("y", 0)), high + float(element.get("y", 0))
    if kind == "text":
        moved = re.match(r"translate\([-\d.]+ ([-\d.]+)\)$", turned)
        at = moved[1] if moved else element.get("y") if not turned or "rotate" in turned else None
        room = AROUND_TURNED if "rotate" in turned else AROUND
        return (float(at) - room, float(at) + room) if at else EVERYWHERE
    if kind == "g" and not turned and len(element):
        parts = [_heights_of(part, shapes) for part in element]
        return min(low for low, _ in parts), max(high for _, high in parts)
    return EVERYWHERE


def _of_path(steps: str) -> tuple[float, float]:
    """Heights between which a path runs, its stroke included; control points stand for their curves."""
    if not set(re.findall(r"[A-Za-z]", steps)) <= set("MLCQZz"):
        return EVERYWHERE
    heights = [float(y) for y in re.findall(r"-?[\d.]+(?:e-?\d+)?", steps)[1::2]]
    return (min(heights) - STROKE, max(heights) + STROKE) if heights else EVERYWHERE


def page_count(words: str) -> str:
    """The rule that counts the pages, from words with {page} and {pages}.

    Examples
    --------
    >>> page_count("page {page} of {pages}")
    '@page { @bottom-right { content: "page " counter(page) " of " counter(pages) ""; } }'
    """
    text = words.replace("{page}", '" counter(page) "').replace("{pages}", '" counter(pages) "')
    return f'@page {{ @bottom-right {{ content: "{text}"; }} }}'


def _rendered(page: Mapping[str, Any]) -> str:
    return reachable(_environment().get_template("report.html.j2").render(page))


def reachable(html: str) -> str:
    """The page without the links that lead to nothing: the configuration may leave out the item they name.

    Examples
    --------
    >>> reachable('<p id="a"><a href="#a">here</a> <a href="#T-CK-16">see<span class="hidden">: it</span></a></p>')
    '<p id="a"><a href="#a">here</a> see</p>'
    """
    there = set(re.findall(r' id="([^"]*)"', html))

    def link(found: re.Match[str]) -> str:
        return found[0] if found[1] in there else re.sub(r'<span class="hidden">.*?</span>', "", found[2], flags=re.S)

    return re.sub(r'<a href="#([^"]*)">(.*?)</a>', link, html, flags=re.S)


def _content(results_folder: Path | Results, settings: Settings, version: str) -> dict[str, Any]:
    """All that the template shows."""
    results, context = opened(results_folder), Context(settings, version)
    lead = led(results, context)
    s = strings(context.language)
    # As it stands in its file, without the indentation and the remarks, which only its writers read.
    script = re.sub(r"(?m)^ +(/\*.*\*/\n)?", "", _template_text("report.js"))
    many = apart(results, settings)
    items, built = _tables(results, context, many)
    drawn = {name: _figure(name, results, context) for name in figures.names(context)}
    return {
        "printed": False,
        "whole": True,
        "details": True,
        "top": 3,
        "opened": "",
        "alone": False,
        "s": s,
        "language": LANGUAGES[context.language],
        "script": Markup(script),  # our own file; its hash stands in the policy
        "policy": policy(script),
        "style": Markup(_template_text("report.css")),
        "study": settings.study,
        "title": settings.study.title or settings.study.id,
        "facts": _facts(results, lead, s),
        "answers": answers(results, context, s),
        "compared": compared(results, context, s),
        "flags": flags(results, context, s),
        "bridge": bridge(results, Words(context.language)) if results.size("ingest") else "",
        "bridge_links": _numbered(("T-CK-17", "L-16.2.5.2", "L-16.2.5.5"), items, context),
        "validation": _validation(results),
        "references": _references(results, s),
        "values": discover("tables")[VALUES].id if VALUES in items else "",
        "brief": _brief(items, drawn),
        "since": since(results, context, s),
        "figures": [figure for name, figure in drawn.items() if name not in (BRIEF_FIGURE, *QUALITY_FIGURES)],
        "tables": [i for n, i in items.items() if i.anchor.startswith("T-") and n not in WITHOUT_NAMES],
        "listings": [item for item in items.values() if item.anchor.startswith("L-")],
        "quality": [item for name, item in items.items() if name in QUALITY_TABLES],
        "quality_figures": [figure for name, figure in drawn.items() if name in QUALITY_FIGURES],
        "patients": [] if many else list(by_patient.sections(results, context, s, built)),
        "overview": by_patient.overview(results, context, s) if many else None,
        "pages": by_patient.pages(results) if many else {},
        "methods": methods(lead.settings, s, context.language),
        "glossary": glossary(s),
        "cdisc": submission(results.folder, settings, s),
        "provenance": _provenance(results, context, s),
    }


# ------------------------------------------------------------------------------------------------------------- pieces


def strings(language: str) -> dict[str, Any]:
    """The page's words in one language, by key; choices of the configuration are mappings."""

    def pick(node: Mapping[str, Any]) -> Any:
        return node[language] if set(node) == {"en", "zh"} else {key: pick(child) for key, child in node.items()}

    return {key: pick(node) for key, node in _strings().items()}


@cache
def _strings() -> dict[str, Any]:
    text = files("nkinetics.report").joinpath("strings.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _template_text(name: str) -> str:
    return files("nkinetics.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def policy(script: str) -> str:
    """Content-Security-Policy: no source at all, our own script by its hash, style written in the page."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True)
class Item:
    """A table or a figure as the page shows it."""

    anchor: str
    name: str
    kind: str
    number: str
    title: str
    subtitle: str
    note: str
    footnotes: Sequence[str]
    svg: str = ""
    alt: str = ""
    cuts: Sequence[float] = ()
    grid: Any = None


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, how many rows it spans, whether it names the row, its look, where it links to.

    `parts` holds the text in pieces, each with where it links to, where not the whole of it does.
    """

    text: str
    span: int = 1
    head: bool = False
    look: str = ""
    href: str = ""
    parts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Grid:
    """A table for the page: column heads, and groups of rows under a heading each (one without heading: no groups)."""

    columns: Sequence[tuple[str, str]]
    groups: Sequence[tuple[str, Sequence[Sequence[Cell]]]]
    wide: bool
    shown: int
    total: int


def grid(
    made: TableBody,
    known: frozenset[str] = frozenset(),
    links: Mapping[tuple[str, str, str], str] | None = None,
    most: int | None = None,
) -> Grid:
    """Cells with repeated row heads drawn together; of three or more the first becomes a heading over rows.

    Parameters
    ----------
    made : TableBody
        The table.
    known : frozenset of str
        Patients whose names link to their sections where a cell tells of them, as ``001: 12.0; 002: NC``.
    links : mapping, optional
        Where a number comes from, by patient, first cell of the row and column.
    most : int, optional
        Rows shown at most.
    """
    frame, heads = made.frame.iloc[:most], made.row_header
    first = 1 if heads >= 3 else 0
    names = list(frame.columns)
    looks = [_look([str(c) for c in frame.iloc[:, i]], i < heads) for i in range(len(names))]
    rows = [[str(c) for c in row] for row in frame.itertuples(index=False)]
    across = _across(names, rows, looks, heads, first)
    below = [[j for j in range(across, len(names)) if row[j] not in ("", "–")] for row in rows]
    lines = [1 + bool(own) for own in below]
    groups: list[tuple[str, list[list[Cell]]]] = []
    for i, row in enumerate(rows):
        key = row[0] if first else ""
        if not groups or groups[-1][0] != key:
            groups.append((key, []))
        cells = []
        patient = made.patients[i] if made.patients else ""
        for j in range(first, across):
            if j < heads - 1 and i and rows[i - 1][: j + 1] == row[: j + 1]:
                continue
            span = 1
            if j < heads - 1:
                last = i + 1
                while last < len(rows) and rows[last][: j + 1] == row[: j + 1]:
                    last += 1
                span = sum(lines[i:last])
            href = f"#patient-{patient}" if j < heads and patient and row[j] == patient else ""
            if links and j >= heads:
                href = links.get((patient, row[0], names[j]), "")
            parts = _parts(row[j], known) if known and j >= heads and not patient else ()
            cells.append(Cell(row[j], span, j < heads, looks[j], href, parts))
        groups[-1][1].append(cells)
        if below[i]:
            told: list[tuple[str, str]] = []
            for j in below[i]:
                told += [(f"{'; ' if told else ''}{names[j]}: ", "")]
                told += (_parts(row[j], known) if not patient else ()) or [(row[j], "")]
            groups[-1][1].append([Cell("", across - max(first, heads - 1), look="more", parts=told)])
    columns = list(zip(names[first:across], looks[first:across], strict=True))
    return Grid(columns, groups, wide=len(columns) > 8, shown=len(rows), total=len(made.frame))


def _across(names: Sequence[str], rows: Sequence[Sequence[str]], looks: Sequence[str], heads: int, first: int) -> int:
    """How many columns stand beside each other: texts at the end for which a page has no room go below their row."""
    room = []
    for j in range(first, len(names)):
        longest = max((len(row[j]) for row in rows), default=0)
        word = max(map(len, names[j].split()), default=0)
        room.append(2 + (max(longest, word) if looks[j] in ("n", "c") else TEXT_ROOM[looks[j]]))
    across = len(names)
    # All of them: a verdict beside its row and its remark below it would be read as two things.
    while across > heads + 1 and looks[across - 1] not in ("n", "c") and sum(room) > PAGE_ROOM:
        across -= 1
    return across


_NAMED = re.compile(
    r"(?:^|(?<=[;；.。(（,，、] )|(?<=[(（、，；。]))([A-Za-z0-9][A-Za-z0-9._-]{0,39})(?=[:：,，、)）])"
)
"""What may be a patient as table cells name one: before the colon of a value, or between the brackets of a reason."""


def _parts(text: str, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """A text in pieces, each patient's name with a link to that patient; nothing where it names nobody."""
    pieces = _NAMED.split(text)
    linked = [(piece, f"#patient-{piece}" if i % 2 and piece in known else "") for i, piece in enumerate(pieces)]
    return tuple(part for part in linked if part[0]) if any(href for _, href in linked) else ()


def _look(cells: Sequence[str], head: bool) -> str:
    """How a column is set: n numbers to the right, c compact without breaks, t text that needs room."""
    if not head and all(_NUMERIC.fullmatch(c) for c in cells):
        return "n"
    longest = max((len(c) for c in cells), default=0)
    return "c" if longest <= COMPACT else "t" if longest > LONG else ""


def _tables(results: Results, context: Context, many: bool) -> tuple[dict[str, Item], dict[str, TableBody]]:
    """Every table as the page shows it, one after the other; of few patients also those that their sections turn.

    The listings of many patients would not fit in memory together: of each the rows that are shown are kept.
    """
    most = context.settings.report.table_rows if many else None
    known = frozenset(map(str, results.patients["patient_id"]))
    items, turned = {}, {}
    for name in tables.names(context):
        made = tables.built(name, results, context)
        named = frozenset() if name in WITHOUT_NAMES else known
        links = None
        if name == VALUES:
            shown = list(dict.fromkeys(p for p in (made.patients or ())[:most] if p))
            links = by_patient.linked(results, context, by_patient.pages(results) if many else {}, shown)
        items[name] = _table(name, made, context, named, links, most)
        if not many and name in by_patient.TURNED:
            turned[name] = made
    return items, turned


def _table(
    name: str,
    made: TableBody,
    context: Context,
    known: frozenset[str] = frozenset(),
    links: Mapping[tuple[str, str, str], str] | None = None,
    most: int | None = None,
) -> Item:
    item = discover("tables")[name]
    return Item(
        anchor=item.id,
        name=name,
        kind=kind_of(item, context),
        number=number_of(item, context),
        title=title_of(item, context),
        subtitle=made.subtitle,
        note=made.note,
        footnotes=made.footnotes,
        grid=grid(made, known, links, most) if len(made.frame.columns) else None,
    )


def _figure(name: str, results: Results, context: Context) -> Item:
    """A figure from its file where that was drawn from these very tables by this program, else drawn now."""
    folder = results.folder / "figures"
    svg, said = "", ""
    if (folder / f"{name}.svg").exists() and (folder / f"{name}.json").exists():
        said = (folder / f"{name}.json").read_text(encoding="utf-8")
        if _fresh(json.loads(said), results, context):
            svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    if not svg:
        svg, said, _ = figures.made(name, results, context)
    words = json.loads(said)
    return Item(
        anchor=words["id"],
        name=name,
        kind=words["kind"],
        number=words["number"],
        title=words["title"],
        subtitle=words["subtitle"],
        note=words["note"],
        footnotes=words["footnotes"],
        svg=inline(svg),
        alt=words["alt"],
        cuts=tuple(words.get("cuts", ())),
    )


def _fresh(said: Mapping[str, Any], results: Results, context: Context) -> bool:
    """Whether a figure is what this program would draw of these tables under these settings."""
    named = [str(source).partition(".csv")[0] for source in said.get("sources", ())]
    known = all(name in STAGE_TABLES or name in STUDY_TABLES for name in named)
    now = {
        "sources": figures.sources(named, results) if known else None,
        "version": context.version,
        "language": context.language,
        "settings": figures.settings_digest(context),
    }
    return all(said.get(key) == value for key, value in now.items())


def inline(svg: str) -> Markup:
    """SVG text as it stands inside a page: no prolog, no namespace (HTML knows it), as wide as its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    return Markup(re.sub(r"\n\s*", "\n", svg))  # drawn by our own figures; texts were escaped there


def standalone(svg: str) -> str:
    """An SVG of `inline` as a file of its own, with attributes in place of styles: WeasyPrint draws it sooner.

    Examples
    --------
    >>> standalone('<svg id="a"><style type="text/css">#a *{fill: none}</style><path style="stroke: red; opacity: 1"/>')
    '<svg xmlns="http://www.w3.org/2000/svg" fill="none" id="a"><path stroke="red" opacity="1"/>'
    """
    text, root = str(svg), 'xmlns="http://www.w3.org/2000/svg"'
    rule = re.search(r"<style[^>]*>#[\w-]+ \*\{([^{}<]*)\}</style>", text)
    if rule:  # the same for every element: as good when the root hands it down
        text, root = text.replace(rule[0], "", 1), f"{root} {_attributes(rule[1])}"
    text = re.sub(r'style="([^"]*)"', lambda style: _attributes(style[1]), text)
    return text.replace("<svg ", f"<svg {root} ", 1)


def _attributes(style: str) -> str:
    pairs = (part.partition(":")[::2] for part in style.split(";") if part.strip())
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, value in pairs)


# --------------------------------------------------------------------------------------------------------- first screen


def _facts(results: Results, context: Context, s: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    study, words = context.settings.study, Words(context.language)
    names, observed = dose_names(results, context), results.table("observations")
    reportable = observed["reportable"].fillna(False).astype(bool)
    in_level = results.patients["dose_level"].value_counts()
    n = counts(results, words)
    model = discover("models").get(context.settings.models.default)
    facts = [(s["product"], [study.product])] if study.product else []
    return [
        *facts,
        (s["study"], [study.id]),
        (s["data_cut"], [study.data_cut or s["none_set"]]),
        (s["patients"], [s["patients_of"].format(n=in_level[d], level=names[d]) for d in dose_levels(results)]),
        (
            s["results_counted"],
            [
                s["results_text"].format(
                    reportable=int(reportable.sum()),
                    total=n.results,
                    samples=n.samples,
                    quantified=int((reportable & (observed["status"] == "quantified")).sum()),
                ),
                *([s["results_out"].format(n=n.results_out, became=n.became)] if n.results_out else []),
            ],
        ),
        (
            s["assays"],
            [profile_name(context, k.assay, k.specimen, k.level_unit) for k in profiles(results).itertuples()],
        ),
        (s["model_led"], [words.pick(model.title) if model else context.settings.models.default]),
    ]


def answers(results: Results, context: Context, s: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The answer in a line per dose level: Cmax and persistence in the first assay, and a note on what they are."""
    kinds, words, names = profiles(results), Words(context.language), dose_names(results, context)
    if not len(kinds) or not results.size("nca"):
        return "", []
    kind = kinds.iloc[0]
    peaks, lasts = (values(results, BY_NAME[p], kind["assay"], kind["specimen"]) for p in ("cmax", "tlast"))
    lines, counts = [], treated(results)["dose_level"].value_counts()
    limit = bounds(results, context, BY_NAME["cmax"], kind["assay"], kind["specimen"])
    for dose_level in dose_levels(results):
        here = peaks[peaks["dose_level"] == dose_level]
        numbers, below = list(here["value"].dropna()), [limit[p] for p in here["patient_id"] if p in limit]
        n_treated = int(counts.get(dose_level, 0))
        cmax = topline_cell(context, BY_NAME["cmax"], numbers, n_treated, below) if numbers else s["answer_no_cmax"]
        own = lasts.loc[lasts["dose_level"] == dose_level, "value"].dropna()
        lasting = _lasting(results, context, s, kind, dose_level, sorted(own))
        lines.append(
            s["answer"].format(level=names[dose_level], n=counts.get(dose_level, 0), cmax=cmax, persistence=lasting)
        )
    unit = unit_name(str(kind["level_unit"]))
    assay = words.join([profile_name(context, kind["assay"], kind["specimen"]), unit])
    return s["answer_note"].format(assay=assay), lines


def compared(results: Results, context: Context, s: Mapping[str, Any]) -> list[str]:
    """What the data say of a dose level against the lowest: Cmax by the amount given, in the first assay."""
    kinds, words = profiles(results), Words(context.language)
    rows = results.table("dose_proportionality")
    if not len(kinds) or not len(rows):
        return []
    kind = kinds.iloc[0]
    own = (rows["assay"] == kind["assay"]) & (rows["specimen"] == kind["specimen"])
    rows = rows[own & (rows["parameter"] == "cmax") & (rows["window"] == "overall")]
    censored = rows[(rows["analysis"] == "power_model_censored") & rows["estimate"].notna()]
    lines = []
    for row in rows[rows["analysis"] == "ratio"].itertuples():
        levels = {"upper": row.dose_level, "lower": row.reference_level}
        if missing(row.estimate):
            lines.append(s["compared_not"].format(**levels, why=words.told(str(row.reason))))
            continue
        ratio, low, high = (significant(float(str(v))) for v in (row.estimate, row.ci_lower, row.ci_upper))
        pct = f"{100 * float(str(row.confidence)):g}"
        told = {"ratio": ratio, "ci": f"{low} {words.say('to', '至')} {high}", "pct": pct, "n": row.n_by_level}
        if BIASED in str(row.reason) and len(censored):
            lines.append(_compared_with_all(words, s, levels, censored.iloc[0], float(str(row.dose_ratio)), told))
        else:
            lines.append(s["compared"].format(**levels, **told, verdict=verdict_words(words, str(row.verdict))))
    return lines


def _compared_with_all(
    words: Words, s: Mapping[str, Any], levels: Mapping[str, Any], slope: Any, times: float, plain: Mapping[str, Any]
) -> str:
    """The comparison by the censored slope, which counts who is below the LLOQ, before the plain ratio without them.

    Between two dose levels whose planned amounts have the ratio r the model means a ratio per amount of r^(theta - 1).
    """
    ratio, low, high = (
        "" if missing(theta) else significant(times ** (float(theta) - 1))
        for theta in (slope["estimate"], slope["ci_lower"], slope["ci_upper"])
    )
    away = words.say("open", "开放")
    interval = f"{low or away} {words.say('to', '至')} {high or away}"
    verdict = verdict_words(words, str(slope["verdict"]))
    without = {f"plain_{k}": v for k, v in plain.items()}
    all_patients = {"ratio": ratio, "ci": interval, "pct": plain["pct"], "n": slope["n_by_level"], "verdict": verdict}
    return str(s["compared_all"].format(**levels, **all_patients, **without, below=int(slope["n_below"])))


def _left(results: Results, words: Words) -> dict[str, str]:
    """Patients who died or withdrew, with the day."""
    level = dict(zip(results.patients["patient_id"], results.patients["dose_level"], strict=True))
    found: dict[str, str] = {}
    for status in ("death", "withdrawal"):
        name = words.pick(FOLLOW_UP_ENDS[status])
        found |= {
            patient: words.say(
                f"{patient} ({level[patient]}) {name}, day {days(end)}",
                f"{patient}（{level[patient]}）{name}，第 {days(end)} 天",
            )
            for patient, (end, how) in sorted(follow_up_ends(results).items())
            if how == status
        }
    return found


def _left_counted(results: Results, words: Words) -> str:
    """How many died and how many withdrew, by dose level."""
    ends, told = follow_up_ends(results), []
    for dose_level in dose_levels(results):
        here = results.patients.loc[results.patients["dose_level"] == dose_level, "patient_id"]
        how = [ends[p][1] for p in here if p in ends]
        counted = [
            f"{words.pick(FOLLOW_UP_ENDS[status])} {how.count(status)}"
            for status in ("death", "withdrawal")
            if status in how
        ]
        if counted:
            told.append(words.colon(dose_level, words.join(counted)))
    return words.say("; ", "；").join(told)


def answers_by_dose_level(results: Results, settings: Settings, version: str) -> dict[str, str]:
    """The lines of the first screen, by dose level, for the comparison with another data cut."""
    context = Context(settings, version)
    lines = answers(results, context, strings(context.language))[1]
    return dict(zip(dose_levels(results), lines, strict=True)) if lines else {}


def _lasting(
    results: Results, context: Context, s: Mapping[str, Any], kind: Any, dose_level: str, lasts: Sequence[float]
) -> str:
    """Persistence of a dose level: the Kaplan-Meier median, or for few patients the days last quantified."""
    rows = persistence_rows(results, kind["assay"], kind["specimen"], dose_level)
    words = Words(context.language)
    n, events, _ = persistence_counts(rows)
    if n < context.settings.statistics.summary_n_min:
        return s["answer_tlast"].format(days=words.join(days(t) for t in lasts)) if lasts else str(s["answer_none"])
    first = rows.iloc[0]
    if missing(first["median"]):
        return str(s["answer_not_reached"].format(events=events, n=n))
    return str(s["answer_median"].format(median=days(first["median"]), ci=ends(words, first), events=events, n=n))


def flags(results: Results, context: Context, s: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What to know before reading the numbers: the text, and where to look: words and anchor of each link.

    What concerns one patient leads to that patient.
    """
    found: list[tuple[str, list[tuple[str, str]]]] = []
    words = Words(context.language)

    def flag(text: str, anchor: str, concerned: Sequence[str] = ()) -> None:
        found.append((text, _where(text, anchor, concerned, s)))

    controls = _validation(results)
    wrong = [row for row in controls if not row["as_required"]]
    if wrong:
        flag(s["flag_validation"].format(n=len(wrong), total=len(controls)), "validation")
    left = _left(results, words)
    if left:
        who = words.say("; ", "；").join(left.values()) if len(left) <= NAMED_UP_TO else _left_counted(results, words)
        flag(s["flag_left"].format(who=who), "patients", list(left))
    runs = results.table("runs")
    refused = runs[~runs["accepted"].fillna(False).astype(bool)].drop_duplicates(["assay", "run_id"])
    if len(refused):
        key = "flag_run" if len(refused) == 1 else "flag_runs"
        refused = refused.sort_values(["run_id", "assay"])
        fates = [fate_of_run(results, words, str(r.run_id), str(r.assay)) for r in refused.itertuples()]
        fate = words.say(" (", "（") + fates[0] + words.say(")", "）") if len(fates) == 1 and fates[0] else ""
        flag(s[key].format(n=len(refused), runs=words.first(list(refused["run_id"])), fate=fate), "T-CK-16")
    aside = _files_aside(results, words)
    if aside:
        key = "flag_file" if len(aside) == 1 else "flag_files"
        flag(s[key].format(n=len(aside), files=words.first(aside)), "T-CK-17")
    below, nothing = _never_quantified(results, words)
    if below:
        flag(s["flag_unquantified"].format(reasons=grouped(below, words)), "patients", list(below))
    if nothing:
        # Who is missing comes before why: the reader looks for a patient.
        told = words.say("; ", "；").join(f"{patient} ({reason})" for patient, reason in nothing.items())
        told = told if len(nothing) <= NAMED_UP_TO else grouped(nothing, words)
        flag(s["flag_no_result"].format(reasons=told), "patients", list(nothing))
    for line in _warnings(results, words):
        flag(s["flag_warning"].format(text=_opening(line, words)), "warnings", _told_of(line, results))
    n = counts(results, words)
    if n.results_out:
        flag(_excluded(n, s), "L-16.2.5.5")
    for text, concerned in _model_flags(results, led(results, context), s):
        flag(text, "T-CK-07", concerned)
    earlier = older_data(results, context)
    if earlier:
        flag(earlier, "T-CK-14")
    for dose_level in dose_levels(results):
        few = int((results.patients["dose_level"] == dose_level).sum())
        if few < context.settings.statistics.summary_n_min:
            flag(s["flag_few"].format(level=dose_level, n=few), "T-CK-05")
    return found


def _where(text: str, anchor: str, concerned: Sequence[str], s: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Links of a flag: to the one patient whom it concerns, to each of a few, else to its place."""
    if len(concerned) == 1:
        own = [(str(s["more"]), f"patient-{concerned[0]}")]
        return own if anchor == "patients" or anchor.startswith("T-") else [*own, (str(s["more_of"]), anchor)]
    if anchor == "patients" and 1 < len(concerned) <= NAMED_UP_TO:
        return [(f"{s['patient']} {patient}", f"patient-{patient}") for patient in concerned]
    return [(str(s["more"]), anchor)]


def _opening(line: str, words: Words) -> str:
    """A warning, or the beginning of one that names hundreds of patients: it stands in full among the warnings.

    Examples
    --------
    >>> _opening("The data cut cannot be applied to 001, 002.", Words("en"))
    'The data cut cannot be applied to 001, 002.'
    >>> len(_opening("Not applied to " + ", ".join(str(i) for i in range(1000)), Words("en"))) < WARNING_UP_TO
    True
    """
    if len(line) <= WARNING_UP_TO:
        return line
    begun = re.split(r"[,、;；] ?(?=[^,、;；]*$)", line[: WARNING_UP_TO // 2])[0]
    return begun + words.say(" ... (in full among the warnings)", "……（全文见警告）")


def _told_of(line: str, results: Results) -> list[str]:
    """The patients whom a text names. An id of one character is no name: it may be a number of the text."""
    known = [str(p) for p in results.patients["patient_id"] if len(str(p)) > 1]
    return [p for p in known if re.search(rf"(?<![\w.-]){re.escape(p)}(?![\w-]|\.\w)", line)]


def _excluded(n: Counts, s: Mapping[str, Any]) -> str:
    told = {"n": n.results_out, "total": n.results, "samples": n.samples, "samples_out": n.samples_out}
    return str(s["flag_excluded"].format(**told, became=n.became))


def _numbered(ids: Sequence[str], names: Iterable[str], context: Context) -> list[tuple[str, str]]:
    """Kind and number of the items that are shown, each with its anchor."""
    items = [discover("tables")[name] for name in names]
    return [(f"{kind_of(i, context)} {number_of(i, context)}", i.id) for wanted in ids for i in items if i.id == wanted]


def _references(results: Results, s: Mapping[str, Any]) -> str:
    """Whether this run was compared with other programs' numbers, and how that came out."""
    rows = [row for row in _validation(results) if str(row["control"]).startswith("OQ-REF")]
    if not rows:
        return str(s["validation_no_others"])
    agree = sum(bool(row["as_required"]) for row in rows)
    titles = "; ".join(f"{row['title']}: {row['found']}" for row in rows)
    return str(s["validation_others"].format(agree=agree, n=len(rows), titles=titles))


def _validation(results: Results) -> list[dict[str, Any]]:
    """Controls of operation with their outcomes, as the workflow carried them out."""
    return records(results.table("validation"))


def _warnings(results: Results, words: Words) -> list[str]:
    """What `ingest` had to say, one line each."""
    path = results.folder / "warnings.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [words.told(line) for line in lines if line.strip()]


def _files_aside(results: Results, words: Words) -> list[str]:
    """Exports of which no row is used, with the reason, from their names alone."""
    return [
        f"{file} ({words.told('; '.join(reasons[:2]))})" if reasons else file
        for file, _, _, used, reasons in results.once("exports", _exports)
        if not used
    ]


def _exports(results: Results) -> list[tuple[str, int, str, bool, list[str]]]:
    """Exports by name: rows, sha256, whether a row is used, and the reasons why rows are not, in their order."""
    rows = results.part("ingest", ["source_file", "source_sha256", "used", "reason"])
    found = []
    for file, places in rows.groupby("source_file", observed=True, sort=True).indices.items():
        own = rows.take(places)
        used = bool(own["used"].fillna(False).any())
        reasons = [] if used else [r for r in dict.fromkeys(own["reason"]) if r]
        found.append((str(file), len(own), str(own["source_sha256"].iloc[0]), used, reasons))
    return found


def _never_quantified(results: Results, words: Words) -> tuple[dict[str, str], dict[str, str]]:
    """Patients without a quantified level: those who were measured, and those without any result, with the reasons."""
    below, nothing = {}, {}
    for patient in results.patients["patient_id"]:
        own = results.of_patient("observations", patient)
        mine = own[own["reportable"].fillna(False).astype(bool)]
        if (mine["status"] == "quantified").any():
            continue
        stated = [r for r in dict.fromkeys(own["exclusion_reason"]) if r]
        n = int(mine["status"].isin(("blq", "not_detected", "above_uloq")).sum())
        if n:
            below[str(patient)] = words.say(f"no quantified level in {n} results", f"{n} 个结果均未达定量水平")
        else:
            nothing[str(patient)] = words.told("; ".join(stated[:2])) or words.say("no sample", "无样本")
    return below, nothing


def _model_flags(results: Results, context: Context, s: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What the fits of the model shown leave open, each with the patients concerned."""
    words, model = Words(context.language), context.settings.models.default
    fits, estimates = results.table("fits"), results.table("estimates")
    fits = fits[(fits["model"] == model) & (fits["n_obs"].fillna(0) > 0)]
    converged = fits["converged"].fillna(False).astype(bool)

    def named(keys: Sequence[tuple[str, str, str]]) -> tuple[str, list[str]]:
        by: dict[str, list[str]] = {}
        order = {kind.assay: i for i, kind in enumerate(profiles(results).itertuples())}
        for patient, assay, _ in sorted(keys, key=lambda k: (k[0], order.get(k[1], len(order)), k[2])):
            by.setdefault(patient, []).append(words.assay(assay))
        if not 0 < len(by) <= NAMED_UP_TO:
            return "", list(by)
        told = words.say("; ", "；").join(f"{p} {words.join(a)}" for p, a in by.items())
        return words.say(f" ({told})", f"（{told}）"), list(by)

    def keys_of(frame: Any) -> list[tuple[str, str, str]]:
        return [(str(r.patient_id), str(r.assay), str(r.specimen)) for r in frame.itertuples()]

    found: list[tuple[str, list[str]]] = []
    if len(fits) and not converged.all():
        who, concerned = named(keys_of(fits[~converged]))
        text = s["flag_unfitted"].format(n=int((~converged).sum()), total=len(fits), who=who)
        found.append((text, concerned))
    # The same cells as the table of model parameters calls not identifiable.
    loose = undetermined(estimates[estimates["model"] == model])
    fitted = set(estimates.loc[estimates["kind"] == "fitted", "parameter"])
    done = keys_of(fits[converged])
    first = [k for k in done if fitted & set(loose.get(k, ()))]
    only_derived = [k for k in done if k in loose and k not in first]
    if first:
        who, concerned = named(first)
        text = s["flag_not_identifiable"].format(n=len(first), total=len(done), who=who)
        if only_derived:
            more, others = named(only_derived)
            told = s["flag_not_identifiable_derived"].format(n=len(only_derived), who=more)
            text, concerned = f"{text}{words.say(' ', '')}{told}", list(dict.fromkeys([*concerned, *others]))
        found.append((text, concerned))
    return found


def _brief(items: Mapping[str, Item], drawn: Mapping[str, Item]) -> dict[str, Any]:
    return {"figure": drawn.get(BRIEF_FIGURE), "tables": [items[name] for name in BRIEF_TABLES if name in items]}


# ----------------------------------------------------------------------------------------------------------- provenance


def _provenance(results: Results, context: Context, s: Mapping[str, Any]) -> dict[str, Any]:
    """What the report stands on: the user's tables and exports as they were read, and every table made of them."""
    words = Words(context.language)
    exports = [(file, n, digest) for file, n, digest, _, _ in results.once("exports", _exports)]
    stages = [
        (f"{name}.csv", results.size(name), sha256_of(results.path(name)))
        for name in STAGE_TABLES
        if results.path(name).exists() and (name != "changes" or context.settings.report.previous)
    ]
    origin = {name: (file, digest) for name, file, digest in results.inputs}
    given = [(file, results.size(name), digest) for name, (file, digest) in origin.items()]
    normalised = [
        (
            f"study/{name}.csv" + (s["copy_of"].format(file=origin[name][0]) if name in origin else s["copy_of_none"]),
            results.size(name),
            sha256_of(results.path(name)),
        )
        for name in STUDY_TABLES
        if results.path(name).exists()
    ]
    versions = [("NKinetics", context.version)]
    for library in LIBRARIES:
        try:
            versions.append((library, metadata.version(library)))
        except metadata.PackageNotFoundError:
            continue
    run = manifest.run_digest(manifest.facts(results.folder, context.settings, context.version))
    trail = manifest.read_trail(results.folder)
    configuration = yaml.safe_dump(
        context.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return {
        "inputs": given,
        "exports": exports,
        "study": normalised,
        "stages": stages,
        "warnings": _warnings(results, words),
        "tables": words.join(file for file, _, _ in given),
        "versions": versions,
        "run": run,
        "trail": (len(trail), exclusions.head(trail), _kinds(trail, s, words)) if trail else None,
        "configuration": configuration,
    }


def _kinds(trail: Sequence[Mapping[str, Any]], s: Mapping[str, Any], words: Words) -> str:
    """Entries of the trail by kind."""
    kinds = [str(entry.get("kind", "")) for entry in trail]
    return words.join(s["trail_kinds"][k].format(n=kinds.count(k)) for k in sorted(set(kinds)) if k in s["trail_kinds"])
