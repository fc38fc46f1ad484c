"""XML documents of instruments and gating software, parsed under limits.

A document may have a document type (FlowJo 9 writes one), but no entity is declared and no reference outside the
document is followed. Depth and number of elements are limited, because a parser that believes the document would spend
all memory on it. Elements that hold no results (amplification curves, plots, gate coordinates) are passed over as they
are read. Elements are called by their local name; the prefix of a namespace is the writer's choice.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # the tree only; defusedxml parses

from nkinetics.errors import InputError
from nkinetics.readers._export import AGAIN, UNZIPPED_MAX, Export

if TYPE_CHECKING:
    from defusedxml.ElementTree import DefusedXMLParser

DEPTH_MAX = 200
ELEMENTS_MAX = 2_000_000
KEPT_MAX = 500_000
"""Elements in all, and elements that are kept: a plate of 384 wells with every curve has 220,000 and 3,000."""

_HEAD = 1 << 16


class _Done(Exception):
    """The first element is known."""


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _parser(target: TreeBuilder | None = None) -> tuple[DefusedXMLParser, Any]:
    """A parser that forbids entities and external references, and the expat object whose handlers are set."""
    from defusedxml.ElementTree import DefusedXMLParser

    parser = DefusedXMLParser(target=target, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    return parser, parser.parser


def _forbidden(export: Export, error: Exception) -> InputError:
    what = "entities" if type(error).__name__ == "EntitiesForbidden" else "references to other files"
    mend = "export it again with the instrument's own software; no such software writes them"
    return export.refuse(f"an XML document that declares {what}", "a document without them", mend)


def content_of(export: Export, member: str = "", size: int | None = None) -> bytes:
    """The XML document of an export: the file itself, or the one of an archive.

    Parameters
    ----------
    export : Export
        Of kind xml or archive.
    member : str
        Name of the document in the archive; by default, the only one whose name ends in .xml.
    size : int, optional
        How many bytes are wanted; by default all.

    Returns
    -------
    bytes
        Empty when the archive has no such document, or the export is of another kind.
    """
    if export.kind == "xml":
        return export.content if size is None else export.content[:size]
    if export.kind != "archive":
        return b""
    try:
        with zipfile.ZipFile(io.BytesIO(export.content)) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(".xml")]
            name = member if member in names else names[0] if len(names) == 1 else ""
            if not name:
                return b""
            with archive.open(name) as document:
                # The sizes that the archive declares were checked when the export was opened.
                return document.read(UNZIPPED_MAX if size is None else size)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError):
        # No document that can be read: no reader of XML claims the file, and the refusal names the formats there are.
        return b""


def root_of(export: Export, member: str = "") -> tuple[str, Mapping[str, str]]:
    """Name and attributes of the outermost element; an empty name where the export is no XML document.

    Raises
    ------
    InputError
        When the document declares entities or external references.
    """
    head = content_of(export, member, _HEAD)
    if not head:
        return "", {}
    found: list[tuple[str, Mapping[str, str]]] = []
    parser, expat = _parser()

    def start(name: str, attributes: list[str]) -> None:
        found.append((_local(name), dict(zip(attributes[::2], attributes[1::2], strict=True))))
        raise _Done

    expat.StartElementHandler = start
    expat.EndElementHandler = expat.CharacterDataHandler = None
    try:
        parser.feed(head)
    except _Done:
        pass
    except ParseError:
        return "", {}
    except (ValueError, LookupError) as error:
        if type(error).__name__.endswith("Forbidden"):
            raise _forbidden(export, error) from None
        return "", {}
    return found[0] if found else ("", {})


def parsed(export: Export, member: str = "", skip: Collection[str] = ()) -> Element:
    """The document as a tree of elements by their local names.

    Parameters
    ----------
    export : Export
        Of kind xml or archive.
    member : str
        Name of the document in the archive.
    skip : collection of str
        Local names of elements that are left out with all that they hold; the element around them has their number as
        its attribute ``#name``.

    Raises
    ------
    InputError
        When the document is damaged, declares entities or external references, or goes beyond the limits.
    """
    builder = TreeBuilder()
    parser, expat = _parser(builder)
    skipped = frozenset(skip)
    depth = elements = kept = outside = 0
    inside: list[tuple[Element, dict[str, int]]] = []

    def limit(found: str, expected: str) -> InputError:
        return export.refuse(f"an XML document with {found}", expected, "export the results alone")

    def start(name: str, attributes: list[str]) -> None:
        nonlocal depth, elements, kept, outside
        depth += 1
        elements += 1
        if depth > DEPTH_MAX:
            raise limit(f"more than {DEPTH_MAX} elements inside each other", f"at most {DEPTH_MAX}")
        if elements > ELEMENTS_MAX:
            raise limit(f"more than {ELEMENTS_MAX:,} elements", "the results of one study")
        if outside:
            return
        local = name.rpartition("}")[2]
        if local in skipped:
            outside = depth
            expat.CharacterDataHandler = None  # curves are most of the text
            if inside:
                tally = inside[-1][1]
                tally[local] = tally.get(local, 0) + 1
            return
        kept += 1
        if kept > KEPT_MAX:
            raise limit(f"more than {KEPT_MAX:,} elements of results", "the results of one study")
        inside.append((builder.start(local, dict(zip(attributes[::2], attributes[1::2], strict=True))), {}))

    def end(name: str) -> None:
        nonlocal depth, outside
        if not outside:
            builder.end(name.rpartition("}")[2])
            element, tally = inside.pop()
            for local, n in tally.items():
                element.set(f"#{local}", str(n))
        elif outside == depth:
            outside = 0
            expat.CharacterDataHandler = builder.data
        depth -= 1

    expat.StartElementHandler, expat.EndElementHandler, expat.CharacterDataHandler = start, end, builder.data
    expat.CommentHandler = expat.ProcessingInstructionHandler = None
    try:
        parser.feed(content_of(export, member))
        tree: Element = parser.close()
    except ParseError as error:
        found = f"a damaged or truncated XML document ({str(error).split(':', 1)[0]}, line {error.position[0]})"
        raise export.refuse(found, "a complete document", AGAIN) from None
    except InputError:
        raise
    except (ValueError, LookupError) as error:
        if type(error).__name__.endswith("Forbidden"):
            raise _forbidden(export, error) from None
        raise export.refuse("an XML document of an unknown encoding", "UTF-8 or UTF-16", AGAIN) from None
    return tree


def text_of(element: Element | None, name: str) -> str:
    """Text of a child, stripped; empty where there is none."""
    return "" if element is None else (element.findtext(name) or "").strip()
