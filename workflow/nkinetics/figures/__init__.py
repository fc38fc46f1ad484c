"""Canonical tables to figures, one file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nkinetics.plugins import Figure, FigureBody, discover, headings, resolve
from nkinetics.results import Context, Results
from nkinetics.settings import as_json
from nkinetics.store import write_bytes, write_text
from nkinetics.wording import chosen, kind_of, number_of, title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


def names(context: Context) -> list[str]:
    """Names of the figures that the configuration shows, in its order."""
    return chosen(headings("figures"), context)


ENDINGS = ("svg", "png", "json")
"""Files of a figure: lines for pages, a picture of 300 dots per inch for slides, what is said beside it."""


def write(name: str, results: Results, context: Context, where: Path, endings: Collection[str] = ENDINGS) -> list[Path]:
    """Draw and write one figure, or all: SVG, PNG (300 dpi), and what is said beside it as JSON.

    Parameters
    ----------
    name : str
        Module name or stable id of a figure, or "all".
    results : Results
        Canonical tables.
    context : Context
        Settings and version.
    where : Path
        A folder, or the SVG file of one figure; the others stand beside it.
    endings : collection of str
        Which of `ENDINGS` to write.

    Returns
    -------
    list of Path
        Files written. A figure that cannot be made says why in its place.

    Raises
    ------
    InputError
        When no figure has this name.
    """
    from nkinetics.figures._style import png_bytes

    written: list[Path] = []
    for each in resolve("figures", name):
        path = where if where.suffix else where / f"{each}.svg"
        paths = {ending: path.with_suffix(f".{ending}") for ending in ENDINGS if ending in endings}
        if {"svg", "json"} & paths.keys():
            svg, said, _ = made(each, results, context)
            texts = {"svg": '<?xml version="1.0" encoding="utf-8"?>\n' + svg, "json": said}
            for ending in paths.keys() & texts.keys():
                write_text(paths[ending], texts[ending])
        if "png" in paths:
            # Drawn anew: writing the SVG leaves traces, and the picture is the same whatever else was asked for.
            write_bytes(paths["png"], png_bytes(drawn(each, results, context)[1]))
        written += paths.values()
    return written


def drawn(name: str, results: Results, context: Context) -> tuple[FigureBody, MatplotlibFigure]:
    """One figure: what is said of it, and the drawing."""
    from nkinetics.figures import _patients
    from nkinetics.figures._style import as_pictures, drawable, notice, style, tell, words_of

    item: Figure = discover("figures")[name]
    with style(context):
        seen, words = _patients.drawn(results, context) if item.by_patient else results, words_of(context)
        body, told = item.draw(seen, drawable(context)), words.told
        chosen = [note for note in (_patients.chosen_note(seen, words),) if note and body.figure]
        footnotes = (*chosen, *map(told, body.footnotes), *context.settings.report.footnotes.get(item.id, ()))
        body = replace(
            body, footnotes=footnotes, alt=told(body.alt), subtitle=told(body.subtitle), note=told(body.note)
        )
        drawing = body.figure or notice(body.note)
        tell(drawing, told)
        as_pictures(drawing, context.settings.report.figure_marks)
    return body, drawing


def made(name: str, results: Results, context: Context) -> tuple[str, str, MatplotlibFigure]:
    """One figure as SVG text for a page, its sidecar as JSON text, and the drawing itself."""
    from nkinetics.figures._style import cuts, style, svg_text

    item: Figure = discover("figures")[name]
    body, drawing = drawn(name, results, context)
    with style(context):
        title = f"{kind_of(item, context)} {number_of(item, context)}. {title_of(item, context)}"
        svg = svg_text(drawing, f"{item.id.lower()}-", title, body.alt or body.note)
        said = sidecar(item, body, results, context, cuts(drawing))
    return svg, said, drawing


def sidecar(item: Figure, body: FigureBody, results: Results, context: Context, cut_at: Sequence[float]) -> str:
    """What a figure says beside its lines, and the sources it was drawn from, as JSON."""
    said = {
        "id": item.id,
        "kind": kind_of(item, context),
        "number": number_of(item, context),
        "title": title_of(item, context),
        "subtitle": body.subtitle,
        "note": body.note,
        "alt": body.alt,
        "footnotes": list(body.footnotes),
        "cuts": list(cut_at),
        "sources": sources(item.needs, results),
        "version": context.version,
        "language": context.language,
        "settings": settings_digest(context),
    }
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"


def sources(names_of_tables: Sequence[str], results: Results) -> list[str]:
    """Canonical tables behind a figure with the first digits of their sha256: a drawing from others is stale."""
    return [results.source(name) for name in names_of_tables]


def settings_digest(context: Context) -> str:
    """First digits of the sha256 of the settings: a drawing made under others is stale."""
    return hashlib.sha256(as_json(context.settings).encode("utf-8")).hexdigest()[:16]
