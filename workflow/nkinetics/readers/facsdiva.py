r"""BD FACSDiva experiments (xml): the events of every gate of every tube.

FACSDiva writes the counts of the tubes that were loaded when it exported, and 0 in every gate of the others, also in
All Events. Such a tube has no result, which is not a result of 0. A sample is called as FACSDiva names its FCS file:
``<specimen>_<tube>``. A gate is called by its path with ``/`` in place of ``\``. Rows are numbered in the order of the
document. Owner, recording user and file names are not read.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element  # the tree only; defusedxml parses

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked
from nkinetics.readers._export import Export
from nkinetics.readers._gates import ALL_EVENTS, check_nested, count
from nkinetics.readers._xml import parsed, root_of, text_of
from nkinetics.settings import Settings

_UNREAD = ("worksheet_config", "instrument_settings", "region", "lasers", "plot", "worksheet_element", "pipeline")
_NOT_LOADED = (
    "no events counted in any gate: FACSDiva writes the counts of loaded tubes only; load each tube before exporting, "
    "or export its statistics"
)


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the outermost element is FACSDiva's."""
    name, _ = root_of(export) if export.kind == "xml" else ("", {})
    if name == "bdfacs":
        return Claim(True, ("a FACSDiva experiment",))
    return Claim(False, (), ("a FACSDiva experiment",))


def read(export: Export, settings: Settings) -> Reading:
    """One row per tube and gate, those of tubes without counts among them.

    Raises
    ------
    InputError
        When no tube has gates, or with every count that is no number.
    """
    root = parsed(export, skip=_UNREAD)
    cells = Checked(export.label)
    rows: list[dict[str, Any]] = []
    parents: dict[int, int] = {}
    tubes = unloaded = 0
    for specimen in root.iter("specimen"):
        for tube in specimen.iterfind("tube"):
            own = _tube(specimen, tube, export.stem, len(rows), parents, cells)
            tubes += bool(own)
            unloaded += _set_unloaded_aside(own)
            rows += own
    if not rows:
        mend = "export the experiment with its tubes and their gates"
        raise export.refuse("an experiment without gated tubes", "tubes with gates", mend)
    check_nested(rows, parents)
    cells.done()
    return Reading(rows, f"{unloaded} of {tubes} tubes without counts: not loaded when exported" if unloaded else "")


def _tube(
    specimen: Element, tube: Element, run_id: str, before: int, parents: dict[int, int], cells: Checked
) -> list[dict[str, Any]]:
    name = "_".join(filter(None, (specimen.get("name", "").strip(), tube.get("name", "").strip())))
    if not name:
        cells.problem(None, "tube", "no name", "the name of each tube", "name it in FACSDiva and export again")
    cells.sample_name(None, "tube", name)
    control = any(text_of(specimen, key) == "true" for key in ("is_auto_comp", "is_calibration_control"))
    rows: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    for number, gate in enumerate(tube.iterfind("gates/gate"), start=before + 1):
        path = gate.get("fullname", "") or text_of(gate, "name")
        target = path.replace("\\", "/").strip() or "gate without a name"
        text = text_of(gate, "num_events")
        row: dict[str, Any] = {
            "source_row": number,
            "run_id": run_id,
            "sample_id": name,
            "role": "control" if control else "unknown",
            "target": target,
            "measure": "events",
            "value_raw": text,
        }
        if control:
            row["remark"] = "compensation or calibration control"
        cells.once(number, "gate", (name, target))
        row |= count(text, f"tube {name}, gate {target}", cells)
        if gate.get("type") == "Composite_Classifier":
            # The frame of a quadrant or another set of gates: it counts nothing itself.
            row |= {"role": "summary", "note": "frame of several gates; the gates themselves are used"}
        elif (parent := text_of(gate, "parent")) in numbers:
            parents[number] = numbers[parent]
        numbers[path] = number
        rows.append(row)
    return rows


def _set_unloaded_aside(rows: list[dict[str, Any]]) -> bool:
    """Whether a tube has no event at all; then no gate of it was counted."""
    total = next((row for row in rows if row["target"] == ALL_EVENTS), None)
    counted = [row for row in rows if row.get("value", 0) > 0]
    if not rows or counted or (total is None and not all(row.get("value") == 0 for row in rows)):
        return False
    for row in rows:
        if "value" in row:
            del row["value"]
            row |= {"detection": "not_done", "remark": _NOT_LOADED}
    return True


READER = Reader("facsdiva", "FACSDiva experiment", claim, read)
