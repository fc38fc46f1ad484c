"""FlowJo 7 to 10 workspaces (wsp, or xml of FlowJo 8 and 9): the counts that FlowJo stored for every gate and sample.

Nothing is gated here: a count of -1 means that FlowJo had not computed it when the workspace was saved, and gives a
row that says so; so does the total of 0 that FlowJo 7 stores for every sample. FlowJo 8 and 9 write gates within gates,
the others within Subpopulations; FlowJo 9.7 calls its list Samples and a name nodeName. Rows are numbered in the order
of the document, a sample's total before its gates. Of the sample's keywords only its name and the acquired volume are
used; the folder of the FCS file is not, nor is the file opened.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element  # the tree only; defusedxml parses

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked
from nkinetics.readers._export import Export
from nkinetics.readers._gates import ALL_EVENTS, acquired, check_nested, count, sample_name
from nkinetics.readers._xml import parsed, root_of
from nkinetics.settings import Settings

_GATES = ("Population", "AndNode", "OrNode", "NotNode")
"""A gate, or a Boolean combination of gates; each holds its own count."""

_LISTS = ("SampleList/Sample", "Samples/Sample")
_NAMES = ("name", "nodeName")
_NO_TOTAL = "the total is stored as 0 although gates hold events, as FlowJo 7 writes it: it is not used"
_DELETED = "deleted from the workspace"

_UNREAD = (
    *("Graph", "Gate", "Transformations", "Matrices", "Groups", "Cytometers", "TableEditor", "LayoutEditor", "Scripts"),
    *("GraphInformation", "BooleanGate", "CompensationMatrices", "Preferences", "SciBook", "StainCriterion"),
    *(
        "Exports",
        "SOPS",
        "Experiment",
        "experiment",
        "weights",
        "Columns",
        "TextTraits",
        "WindowPosition",
        "Dependents",
    ),
    *("PolygonGate", "RectangleGate", "EllipsoidGate", "QuadrantGate", "RangeGate", "PolyRect", "Polygon", "Ellipse"),
)


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the outermost element is FlowJo's workspace."""
    name, about = root_of(export) if export.kind == "xml" else ("", {})
    if name != "Workspace":
        return Claim(False, (), ("a FlowJo workspace",))
    if "flowJoVersion" in about or b"SampleList" in export.content:
        return Claim(True, ("a FlowJo workspace",))
    return Claim(False, ("an element Workspace",), ("FlowJo's version or list of samples",))


def read(export: Export, settings: Settings) -> Reading:
    """One row per sample and gate with its stored count, and one for each sample's total.

    Raises
    ------
    InputError
        When the workspace has no sample, or with every count that is no number.
    """
    root = parsed(export, skip=_UNREAD)
    cells = Checked(export.label)
    samples = [sample for path in _LISTS for sample in root.findall(path)]
    if not samples:
        mend = "save the workspace with its samples"
        raise export.refuse("a workspace without samples", "samples with their gates", mend)
    rows: list[dict[str, Any]] = []
    parents: dict[int, int] = {}
    for place, sample in enumerate(samples, start=1):
        _sample(sample, place, export.stem, rows, parents, cells)
    check_nested(rows, parents)
    _set_namesakes_aside(rows)
    cells.done()
    unread = sum(1 for sample in samples for _ in sample.iter("Statistic"))
    return Reading(rows, f"{unread} statistics other than counts not read" if unread else "")


def _called(element: Element) -> str:
    """The name that FlowJo shows for a sample or a gate."""
    return next((name for key in _NAMES if (name := element.get(key, "").strip())), "")


def _keywords(sample: Element) -> dict[str, str]:
    """Keywords of the sample's FCS file by name without ``$``, lower case."""
    return {k.get("name", "").lstrip("$").lower(): k.get("value", "") for k in sample.iter("Keyword")}


def _name(sample: Element, node: Element, keywords: dict[str, str]) -> str:
    """What FlowJo shows: the name of the sample's node, else $FIL, else the last part of the file's address."""
    data = sample.find("DataSet")
    address = "" if data is None else unquote(data.get("uri", ""))
    names = (sample_name(text) for text in (_called(node), keywords.get("fil", ""), address))
    return next((name for name in names if name), "")


def _sample(
    sample: Element, place: int, run_id: str, rows: list[dict[str, Any]], parents: dict[int, int], cells: Checked
) -> None:
    """Append the rows of one sample, the one at this place of the list."""
    node = sample.find("SampleNode")
    if node is None:
        cells.problem(None, f"sample {place}", "no gates and no total", "a SampleNode", "save the workspace again")
        return
    keywords = _keywords(sample)
    name = _name(sample, node, keywords)
    if not name:
        cells.problem(None, "sample", "no name", "the name of each sample", "name it in FlowJo and save again")
    cells.sample_name(None, "sample", name)
    volume, volume_remark = acquired(keywords)
    about = {
        "run_id": run_id,
        "sample_id": name,
        "role": "unknown",
        "measure": "events",
        "volume_ul": volume,
    }

    def add(element: Element, path: tuple[str, ...]) -> int:
        text = element.get("count", "").strip()
        target = "/".join(path) or ALL_EVENTS
        row: dict[str, Any] = {**about, "source_row": len(rows) + 1, "target": target, "value_raw": text}
        row |= count(text, f"sample {name}, gate {target}", cells)
        if not path:
            row["remark"] = "; ".join(filter(None, [row.get("remark", ""), volume_remark]))
        cells.once(len(rows) + 1, "gate", (f"sample {place} {name}", target))
        rows.append(row)
        return len(rows)

    def descend(element: Element, path: tuple[str, ...], number: int) -> None:
        for child in element:
            if child.tag == "Subpopulations":
                descend(child, path, number)
            elif child.tag in _GATES:
                below = (*path, _called(child) or "gate without a name")
                own = add(child, below)
                parents[own] = number
                descend(child, below, own)

    first = len(rows)
    descend(node, (), add(node, ()))
    _without_total(rows[first:])
    if node.get("deleted") == "1":
        for row in rows[first:]:
            row |= {"role": "summary", "note": _DELETED}


def _without_total(rows: list[dict[str, Any]]) -> None:
    """Take away a total of 0 above gates with events: it was never stored, and no gate is to be held against it."""
    total = rows[0]
    if total.get("value") == 0 and any(row.get("value", 0) > 0 for row in rows[1:]):
        del total["value"]
        total |= {"detection": "not_done", "remark": "; ".join(filter(None, [_NO_TOTAL, total.get("remark", "")]))}


def _set_namesakes_aside(rows: list[dict[str, Any]]) -> None:
    """Two samples of one name cannot be told apart in the manifest, and must not be pooled as tubes of one."""
    kept = [row for row in rows if row["role"] != "summary"]
    totals = Counter(row["sample_id"] for row in kept if row["target"] == ALL_EVENTS)
    for row in kept:
        n = totals[row["sample_id"]]
        if n > 1:
            row["note"] = f"{n} samples of the workspace have this name; rename them in FlowJo"


READER = Reader("flowjo_wsp", "FlowJo workspace", claim, read)
