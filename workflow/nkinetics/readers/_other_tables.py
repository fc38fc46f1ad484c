"""Tables that the same instruments write beside their results: refused by name, with the one to export instead.

An experiment exported as a whole leaves a dozen files in a folder. Each is known by columns that no table of results
has together; the first that fits names the file. None of them is read, so a wrong name here can mislead a user, never
change a number.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from nkinetics.readers._cells import normalised
from nkinetics.readers._export import Export


class Other(NamedTuple):
    """What a file is, and what to do instead."""

    what: str
    mend: str


_OUT = "or take this file out of inputs.exports"
_CQ = f"export Quantification Cq Results (CFX) or the Results table, {_OUT}"
_WELL_TABLE = f"export the well table, with accepted droplets, positives and negatives of each well, {_OUT}"
_COUNTS = f"export the counts of the gates as a table, or give the workspace (wsp), {_OUT}"
_RDML = f"export the run as RDML from its software, describe its columns in the section generic, {_OUT}"
_READINGS = re.compile(r"cycle|temperature|temp")
_WELL = re.compile(r"[a-p]0?\d{1,2}")

_TABLES: Sequence[tuple[frozenset[str], Other]] = [
    (frozenset(names.split()), Other(what, mend))
    for names, what, mend in (
        ("ch1amplitude ch2amplitude", "the amplitudes of single droplets", _WELL_TABLE),
        ("well target1 target2 count", "the cluster data of QX Manager", _WELL_TABLE),
        ("well fluor target content endrfu", "the end-point results of Bio-Rad CFX", _CQ),
        ("well fluor target content melttemperature", "the melt peaks of Bio-Rad CFX", _CQ),
        ("well fluor content melttemp", "the melt peaks of Bio-Rad CFX", _CQ),
        ("target sample expression meancq", "the relative expression that Bio-Rad CFX computed", _CQ),
        ("fluor target slope efficiency", "the standard curves that the software fitted, without their wells", _CQ),
        ("well cycle rn", "amplification curves", _CQ),
        ("well cycle δrn", "amplification curves", _CQ),
        ("well reading fluorescence derivative", "melt curves", _CQ),
        ("well tm1 tm2", "melting temperatures", _CQ),
        ("createdbyuser runstarted", "the run information of Bio-Rad CFX", _CQ),
        ("genename samplename sampletype excluded cq", "the results of a LightCycler 96, which are not read", _RDML),
        ("well wellname welltype ctdrn", "the results of an Agilent AriaMx or MxPro, which are not read", _RDML),
        ("fsca ssca", "the readings of single events, as of a cytometer", _COUNTS),
        ("fsch ssch", "the readings of single events, as of a cytometer", _COUNTS),
    )
]

_DOCUMENTS = (
    # CFX names the elements after its sheets, the first of which is called 0.
    (re.compile(r"<_x00"), Other("a sheet of Bio-Rad CFX", f"export it as csv or xlsx, {_OUT}")),
    (re.compile(r"<(?:\w+:)?Workbook>"), Other("a workbook of Excel 2003", "open it in Excel and save it as xlsx")),
    (re.compile(r"(?i)<(?:html|table|body)>"), Other("a web page", "open it in Excel and save it as xlsx")),
)
"""Outermost elements of XML documents, and what they are."""

_ARCHIVES = (
    (re.compile(r"^apldbio/|setup/plate_setup\.json$|^primary/"), "an experiment file (eds)", _CQ),
    (re.compile(r"\.pcrd$"), "a run file of Bio-Rad CFX (pcrd)", _CQ),
    (re.compile(r"\.wspt?$"), "an archive of a FlowJo workspace", "unpack it and give the workspace (wsp) inside"),
)
"""Names of members, what the archive is, and what to do."""


def other_table(export: Export) -> Other | None:
    """What a file of no known format is, where its columns, its sheets or its members tell; None where they do not.

    Parameters
    ----------
    export : Export
        A file that no reader claims.
    """
    if export.kind == "xml":
        return next((other for mark, other in _DOCUMENTS if mark.search(export.what)), None)
    if export.kind == "archive":
        with zipfile.ZipFile(io.BytesIO(export.content)) as archive:
            return archive_of(archive.namelist())
    for sheet in export.sheets:
        for row in sheet.top[:60]:
            names = {normalised(c) for c in row.cells} - {""}
            if found := next((other for marks, other in _TABLES if marks <= names), None):
                return found
            wells = [name for name in names if _WELL.fullmatch(name)]
            if len(wells) > 2 and any(_READINGS.match(name) for name in names):
                return Other("curves with one column per well", _CQ)
        first = {normalised(row.cell(0)) for row in sheet.top[:60]}
        if found := next((other for marks, other in _TABLES if marks <= first), None):
            return found
    return None


def archive_of(members: Sequence[str]) -> Other | None:
    """What an archive is by the names of its members.

    Examples
    --------
    >>> archive_of(["apldbio/sds/experiment.xml"]).what, archive_of(["a.txt"])
    ('an experiment file (eds)', None)
    """
    return next((Other(what, mend) for name, what, mend in _ARCHIVES if any(name.search(m) for m in members)), None)
