"""Canonical tables to figures, one file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nkinetics.plugins import Figure, FigureBody, discover, resolve
from nkinetics.results import Context, Results
from nkinetics.settings import as_json
from nkinetics.store import write_bytes, write_text
from nkinetics.wording import chosen, kind_of, number_of, title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure


def names(context: Context) -> list[str]:
    """Names of the figures that the configuration shows, in its order."""
    return chosen(discover("figures"), context)


def write(name: str, results: Results, context: Context, where: Path) -> list[Path]:
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
        svg, said, drawn = made(each, results, context)
        path = where if where.suffix else where / f"{each}.svg"
        paths = [path.with_suffix(ending) for ending in (".svg", ".png", ".json")]
        write_text(paths[0], '<?xml version="1.0" encoding="utf-8"?>\n' + svg)
        write_bytes(paths[1], png_bytes(drawn))
        write_text(paths[2], said)
        written += paths
    return written


def made(name: str, results: Results, context: Context) -> tuple[str, str, MatplotlibFigure]:
    """One figure as SVG text for a page, its sidecar as JSON text, and the drawing itself."""
    from nkinetics.figures._patients import chosen_note
    from nkinetics.figures._patients import drawn as of_patients
    from nkinetics.figures._style import as_pictures, cuts, drawable, notice, style, svg_text, tell, words_of

    item: Figure = discover("figures")[name]
    with style(context):
        seen, words = of_patients(results, context) if item.by_patient else results, words_of(context)
        body, told = item.draw(seen, drawable(context)), words.told
        chosen = [note for note in (chosen_note(seen, words),) if note and body.figure]
        footnotes = (*chosen, *map(told, body.footnotes), *context.settings.report.footnotes.get(item.id, ()))
        body = replace(
            body, footnotes=footnotes, alt=told(body.alt), subtitle=told(body.subtitle), note=told(body.note)
        )
        drawn = body.figure or notice(body.note)
        tell(drawn, told)
        as_pictures(drawn, context.settings.report.figure_marks)
        title = f"{kind_of(item, context)} {number_of(item, context)}. {title_of(item, context)}"
        svg = svg_text(drawn, f"{item.id.lower()}-", title, body.alt or body.note)
        said = sidecar(item, body, results, context, cuts(drawn))
    return svg, said, drawn


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
