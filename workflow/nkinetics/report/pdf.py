"""The page on paper: tagged PDF/UA-1 by WeasyPrint, the same bytes for the same page on one machine."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nkinetics.errors import InputError, Problem
from nkinetics.optional import pdf_lacks

VARIANT = "pdf/ua-1"
A4 = (210.0, 297.0)
"""Width and height of the sheet, mm."""
SHEETS = (1.0, 1.06, 1.12, 1.18, 1.24, 1.3, 1.4, 1.5, 1.7, 2.0)
"""How much larger than A4 the sheets are that are tried, one after the other, until the brief stands on one."""


def written(html: str, pictures: Mapping[str, str]) -> bytes:
    """A page of `nkinetics.report.html.printable` as PDF.

    Parameters
    ----------
    html : str
        The page; it can ask for its pictures and for nothing else.
    pictures : mapping of str to str
        SVG text by the name of the image.

    Returns
    -------
    bytes
        PDF/UA-1.

    Raises
    ------
    InputError
        When this machine cannot write PDF: how it could.
    """
    with _ready():
        return _drawn(_laid_out(html, pictures))


def one_page(html: str, pictures: Mapping[str, str]) -> bytes:
    """The page as PDF on one sheet of A4, as large as it goes: laid out on a larger sheet, which is then reduced."""
    with _ready():
        for enlarged in SHEETS:
            sheet = f"<style>@page {{ size: {A4[0] * enlarged:.2f}mm {A4[1] * enlarged:.2f}mm }}</style></head>"
            document = _laid_out(html.replace("</head>", sheet, 1), pictures)
            if len(document.pages) == 1:
                break
        return _drawn(document, 1 / enlarged)


@contextmanager
def _ready() -> Iterator[None]:
    """WeasyPrint at hand, quick, and heard: what it could not show is an error, since it would go on without it."""
    lacking = pdf_lacks()
    if lacking:
        raise InputError(Problem("PDF", found="no way to write it here", expected="WeasyPrint and Pango", mend=lacking))
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger("weasyprint"), Said(logging.ERROR)
    level, propagate, collecting = logger.level, logger.propagate, gc.isenabled()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)  # its warnings: rules for the screen that paper does not know
    logger.propagate = False
    gc.disable()  # a million small boxes that live to the end: looking for garbage takes a third of the time
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
    if said:
        raise RuntimeError("the page cannot be printed whole: " + "; ".join(said))


def _laid_out(html: str, pictures: Mapping[str, str]) -> Any:
    """The pages, laid out."""
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class Pictures(URLFetcher):
        """Gives the page's own pictures; no file and no network is ever asked."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            if url not in pictures:
                raise ValueError(f"the page may not ask for {url}")
            return URLFetcherResponse(url, pictures[url], {"Content-Type": "image/svg+xml"})

    return HTML(string=html, url_fetcher=Pictures()).render(pdf_variant=VARIANT)


def _drawn(document: Any, zoom: float = 1.0) -> bytes:
    """The pages as PDF."""
    with _references_kept():
        return bytes(document.write_pdf(zoom=zoom, pdf_variant=VARIANT))


@contextmanager
def _references_kept() -> Iterator[None]:
    """Each tag names its page, and pydyf words the references of all pages anew for each tag: here once per page."""
    import pydyf

    worded = pydyf.PDF.page_references
    kept: dict[tuple[int, int], Any] = {}

    def references(self: Any) -> Any:
        key = (id(self), len(self.pages["Kids"]))
        if key not in kept:
            kept[key] = worded.fget(self)
        return kept[key]

    pydyf.PDF.page_references = property(references)
    try:
        yield
    finally:
        pydyf.PDF.page_references = worded
