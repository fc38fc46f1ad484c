"""All report tables in one RTF document for medical writers, by rtflite: landscape A4, a page break between tables."""

from __future__ import annotations

from nkinetics import tables
from nkinetics.errors import InputError, Problem
from nkinetics.optional import rtf_lacks
from nkinetics.plugins import TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.wording import Words, kind_of, number_of, title_of

WIDTH, HEIGHT, MARGIN = 11.69, 8.27, 0.7
"""A4 landscape and its margins, inches."""
ROWS = 34
"""Lines of a page, heads and footnotes among them."""
SIZE = 8
ESCAPES = {"\\": "\\\\", "{": "\\{", "}": "\\}", "\r": " ", "\n": " "}


def rich_text(results: Results, context: Context) -> bytes:
    """Every table that the configuration shows, as one RTF document.

    Parameters
    ----------
    results : Results
        Canonical tables.
    context : Context
        Settings and version.

    Returns
    -------
    bytes
        RTF, plain ASCII.

    Raises
    ------
    InputError
        When rtflite is not installed: how it could be.
    """
    lacking = rtf_lacks()
    if lacking:
        raise InputError(Problem("RTF", found="no way to write it here", expected="rtflite", mend=lacking))
    parts = [_document(name, tables.built(name, results, context), context) for name in tables.names(context)]
    if not parts:
        return b"{\\rtf1\\ansi }\n"
    # Each document says the same of fonts and paper; what stands behind that of the first goes on after it.
    start = "\\paperw"
    first, *others = (part.rstrip().removesuffix("}").rstrip() for part in parts)
    bodies = [part[part.index(start) :].split("\n", 2)[2] for part in others]
    return ("\n\\page\n".join([first, *bodies]) + "\n}\n").encode("ascii")


def escaped(text: str) -> str:
    r"""Text as RTF holds it: nothing in it is a command.

    Examples
    --------
    >>> print(escaped("{x} 10⁹"))
    \{x\} 10\u8313?
    """
    pieces = []
    for letter in text:
        if letter in ESCAPES:
            pieces.append(ESCAPES[letter])
        elif " " <= letter <= "~":
            pieces.append(letter)
        elif letter >= "\x80":
            # RTF counts in 16-bit units, signed.
            units = letter.encode("utf-16-le")
            for i in range(0, len(units), 2):
                pieces.append(f"\\u{int.from_bytes(units[i : i + 2], 'little', signed=True)}?")
    return "".join(pieces)


def _document(name: str, made: TableBody, context: Context) -> str:
    """One table as a document of its own."""
    import polars
    import rtflite

    item, words = discover("tables")[name], Words(context.language)
    frame = made.frame
    if len(frame):
        cells = {f"c{j}": [escaped(str(c)) for c in frame.iloc[:, j]] for j in range(len(frame.columns))}
        heads = [escaped(str(c)) for c in frame.columns]
        widths = [_width(str(frame.columns[j]), [str(c) for c in frame.iloc[:, j]]) for j in range(len(heads))]
    else:
        why = words.colon(words.say("Cannot be made", "无法生成"), made.note) if made.note else words.say("None", "无")
        cells, heads, widths = {"c0": [escaped(why)]}, [""], [1.0]
    titles = [f"{kind_of(item, context)} {number_of(item, context)}", title_of(item, context), made.subtitle]
    sides = ["l" if j < made.row_header else "c" for j in range(len(heads))]
    document = rtflite.RTFDocument(
        df=polars.DataFrame(cells),
        rtf_page=rtflite.RTFPage(
            orientation="landscape",
            width=WIDTH,
            height=HEIGHT,
            margin=[MARGIN, MARGIN, MARGIN, MARGIN, 0.4, 0.4],
            nrow=ROWS,
            col_width=WIDTH - 2 * MARGIN,
        ),
        rtf_title=rtflite.RTFTitle(
            text=[escaped(t) for t in titles if t],
            text_convert=[False],
            text_font_size=[SIZE + 1],
            text_space_before=[60.0],
            text_space_after=[60.0],
        ),
        rtf_column_header=rtflite.RTFColumnHeader(
            text=heads,
            col_rel_width=widths,
            text_convert=[[False]],
            text_font_size=[[SIZE]],
            text_justification=[sides],
        ),
        rtf_body=rtflite.RTFBody(
            col_rel_width=widths, text_convert=[[False]], text_font_size=[[SIZE]], text_justification=[sides]
        ),
        rtf_footnote=rtflite.RTFFootnote(
            text=[escaped(n) for n in made.footnotes], text_convert=[False], text_font_size=[[SIZE - 1]]
        )
        if made.footnotes
        else None,
    )
    return str(document.rtf_encode())


def _width(head: str, cells: list[str]) -> float:
    """Share of a column: its longest cell or word of its head, within limits."""
    longest = max((len(c) for c in cells), default=0)
    return float(min(max(longest, *(len(w) for w in head.split()), 5), 45))
