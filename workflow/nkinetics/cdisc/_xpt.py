"""SAS transport files, version 5: written by pyreadstat, its four time stamps replaced by the data cut.

Only this module knows pyreadstat.
"""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

import pandas as pd

from nkinetics.cdisc._model import Dataset

RECORD = 80
"""Bytes of a record of the format."""

STAMPS = (1 * RECORD + 64, 2 * RECORD, 5 * RECORD + 64, 6 * RECORD)
"""Where the format keeps when library and member were created and modified."""

FORMATS = {"sas_date": "DATE9.", "sas_datetime": "DATETIME20."}


def stamp(moment: str) -> bytes:
    """An ISO date and time as the format writes it.

    Examples
    --------
    >>> stamp("2026-10-31T00:00:00")
    b'31OCT26:00:00:00'
    """
    months = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    t = datetime.datetime.fromisoformat(moment)
    return f"{t.day:02d}{months[t.month - 1]}{t.year % 100:02d}:{t:%H:%M:%S}".encode("ascii")


def fixed(content: bytes, moment: str) -> bytes:
    """The file with its four time stamps set.

    Raises
    ------
    ValueError
        When the bytes are not a transport file of version 5 with one member.
    """
    heads = ((0, b"HEADER RECORD*******LIBRARY HEADER"), (3 * RECORD, b"HEADER RECORD*******MEMBER  HEADER"))
    if any(content[at : at + len(head)] != head for at, head in heads):
        raise ValueError("not a SAS transport file of version 5")
    made = bytearray(content)
    for at in STAMPS:
        made[at : at + 16] = stamp(moment)
    return bytes(made)


def content(item: Dataset, frame: pd.DataFrame, moment: str) -> bytes:
    """A data set as a SAS transport file of version 5.

    Parameters
    ----------
    item : Dataset
        Its description.
    frame : DataFrame
        Its records, as `nkinetics.cdisc._model.shaped` gives them; a character beyond ASCII becomes a question mark,
        and the checks name it.
    moment : str
        ISO date and time of the file.

    Returns
    -------
    bytes
        The same for the same input.
    """
    import pyreadstat

    ascii_only = frame.assign(
        **{v.name: [t.encode("ascii", "replace").decode() for t in frame[v.name]] for v in item.variables if v.is_text}
    )
    ascii_only = ascii_only.astype({v.name: object for v in item.variables if v.is_text})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{item.file}.xpt")
        pyreadstat.write_xport(
            ascii_only,
            path,
            file_label=item.label,
            column_labels=[v.label for v in item.variables],
            table_name=item.name,
            file_format_version=5,
            variable_format={v.name: FORMATS[v.kind] for v in item.variables if v.kind in FORMATS},
        )
        return fixed(path.read_bytes(), moment)
