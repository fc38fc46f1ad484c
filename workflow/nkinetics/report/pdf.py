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
SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Sizes tried, one after the other, until the brief stands on one page."""


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
    return bytes(_laid_out(html, pictures).write_pdf(pdf_variant=VARIANT))


def one_page(html: str, pictures: Mapping[str, str]) -> bytes:
    """The page as PDF on one sheet: as large as it goes."""
    for scale in SCALES:
        document = _laid_out(html, pictures, f":root {{ font-size: {16 * scale:g}px }}")
        if len(document.pages) == 1:
            break
    return bytes(document.write_pdf(pdf_variant=VARIANT))


@contextmanager
def _no_error_passes() -> Iterator[None]:
    """WeasyPrint logs what it could not show, and goes on without it; a report without a picture is no report."""
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger("weasyprint"), Said(logging.ERROR)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)  # its warnings: rules for the screen that paper does not know
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
    if said:
        raise RuntimeError("the page cannot be printed whole: " + "; ".join(said))


def _laid_out(html: str, pictures: Mapping[str, str], more: str = "") -> Any:
    """The pages, laid out."""
    lacking = pdf_lacks()
    if lacking:
        raise InputError(Problem("PDF", found="no way to write it here", expected="WeasyPrint and Pango", mend=lacking))
    from weasyprint import CSS, HTML
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    class Pictures(URLFetcher):  # type: ignore[misc]
        """Gives the page's own pictures; no file and no network is ever asked."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            if url not in pictures:
                raise ValueError(f"the page may not ask for {url}")
            return URLFetcherResponse(url, pictures[url], {"Content-Type": "image/svg+xml"})

    styles = [CSS(string=more)] if more else []
    collecting = gc.isenabled()
    gc.disable()  # a million small boxes that all live to the end: looking for garbage takes a third of the time
    try:
        with _no_error_passes():
            page = HTML(string=html, url_fetcher=Pictures())
            return page.render(pdf_variant=VARIANT, stylesheets=styles)
    finally:
        if collecting:
            gc.enable()
