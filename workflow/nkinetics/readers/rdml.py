"""RDML 1.0 to 1.4, for real-time and digital PCR: a zip with ``rdml_data.xml``, or that document alone.

Each ``data`` element of a reaction is one row, numbered in the order of the document: a Cq, or the partitions of a
digital PCR reaction (RDML 1.3 and later). Amplification and melting curves are not read: a file that holds curves only
is refused, because its Cq values have still to be determined. ``cq`` of -1 means that none is available; the note says
whether nothing amplified or the curve could not be used. Some software writes the number of cycles in place of a Cq
that it could not determine: that is no Cq either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element  # the tree only; defusedxml parses

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Notation, danger
from nkinetics.readers._export import Export
from nkinetics.readers._plate import well_name
from nkinetics.readers._xml import parsed, root_of, text_of
from nkinetics.settings import Settings

_MEMBER = "rdml_data.xml"
_NAMESPACE = "http://www.rdml.org"
_VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")
_CURVES = ("adp", "mdp", "thermalCyclingConditions", "documentation", "experimenter", "sequences")
_ROLES = {
    "unkn": "unknown",
    "std": "standard",
    "ntc": "ntc",  # no template control
    "ntp": "control",  # no target present
    "nac": "control",  # no amplification control
    "nrt": "control",  # no reverse transcription
    "pos": "control",
    "opt": "control",  # optical calibrator
}
_LABELS = {"ABC", "123", "A1a1"}
"""How RDML says that the rows and columns of a plate are called; rotors have numbers only."""

_UNAVAILABLE = -1.0
_LATE = 30
"""A whole number from here on, the largest Cq of a run and more than once there, is the number of its cycles."""


@dataclass(frozen=True)
class _Sample:
    """What the file says of a sample, by target where it distinguishes them ("" for all others)."""

    kinds: Mapping[str, str]
    quantities: Mapping[str, tuple[str, str]]

    def kind(self, target: str) -> str:
        return self.kinds.get(target, self.kinds.get("", ""))

    def quantity(self, target: str) -> tuple[str, str]:
        """Value and unit."""
        return self.quantities.get(target, self.quantities.get("", ("", "")))


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the document is RDML by its outermost element."""
    name, _ = root_of(export, _MEMBER)
    if name == "rdml":
        return Claim(True, ("an RDML document",))
    return Claim(False, (), ("an RDML document",))


def read(export: Export, settings: Settings) -> Reading:
    """One row per reaction and target, those without a Cq among them.

    Raises
    ------
    InputError
        When the version is not known, when there are curves only, or with every element that is wrong.
    """
    _, about = root_of(export, _MEMBER)
    version = about.get("version", "")
    if version not in _VERSIONS:
        found = f"RDML version {version[:10]!r}" if version else "an RDML document without its version"
        raise export.refuse(found, f"RDML {_VERSIONS[0]} to {_VERSIONS[-1]}", "save it as one of these versions")
    root = parsed(export, _MEMBER, _CURVES)
    cells = Checked(export.label)
    samples = _samples(root)
    runs = list(_runs(root, export.stem))
    rows: list[dict[str, Any]] = []
    for run_id, run in runs:
        cycles = _cycles(run)
        for react in run.iterfind("react"):
            for data, partitions in _measured(react):
                number = len(rows) + 1
                rows.append(
                    {"source_row": number, "run_id": run_id}
                    | _row(run, react, data, partitions, samples, cycles, cells)
                )
                place = rows[-1]["well"] or react.get("id", "")
                key = (run_id, place, rows[-1]["target"])
                cells.once(number, "react", key)
    cells.done()
    if not any(row["value_raw"] or row.get("n_partitions") is not None for row in rows):
        what = "amplification curves without a Cq" if rows else "no reaction with data"
        mend = "determine the Cq values (in the instrument's software, or LinRegPCR) and save the file again"
        raise export.refuse(what, "a Cq, or counted partitions, for each reaction", mend)
    unread = sum(1 for row in rows if row["detection"] == "not_done")
    note = f"{unread} of {len(rows)} reactions without a Cq" if unread else ""
    return Reading(rows, note)


def _samples(root: Element) -> dict[str, _Sample]:
    samples = {}
    for element in root.iterfind("sample"):
        kinds = {k.get("targetId", ""): (k.text or "").strip() for k in element.iterfind("type")}
        quantities = {
            q.get("targetId", ""): (text_of(q, "value"), text_of(q, "unit")) for q in element.iterfind("quantity")
        }
        samples[element.get("id", "")] = _Sample(kinds, quantities)
    return samples


def _runs(root: Element, stem: str) -> Iterator[tuple[str, Element]]:
    """Every run with its name: ids as "Run 1" stand in most files, so that the file's name comes first."""
    runs = [(e.get("id", ""), run.get("id", ""), run) for e in root.iterfind("experiment") for run in e.iterfind("run")]
    ids = [run_id for _, run_id, _ in runs]
    for experiment, run_id, run in runs:
        parts = [stem] if len(runs) == 1 else [stem, experiment, run_id] if ids.count(run_id) > 1 else [stem, run_id]
        yield " - ".join(part for part in parts if part and not danger(part)), run


def _cycles(run: Element) -> float:
    """The number of cycles that stands in place of a Cq that was not determined; NaN where none does."""
    plain = Notation(".")
    found = [v for d in run.iterfind("react/data") if (v := plain.number(text_of(d, "cq"), "ct")) is not None]
    last = max(found, default=math.nan)
    if not last.is_integer():
        return math.nan
    measured = max(int(data.get("#adp", "0")) for data in run.iterfind("react/data"))
    return last if last == measured or (last >= _LATE and found.count(last) > 1) else math.nan


def _measured(react: Element) -> Iterator[tuple[Element, Element | None]]:
    """Data elements of a reaction, each with the partitions that it belongs to, if any."""
    for data in react.iterfind("data"):
        yield data, None
    for partitions in react.iterfind("partitions"):
        for data in partitions.iterfind("data"):
            yield data, partitions


def _place(run: Element, react: Element, cells: Checked) -> str:
    """The reaction's well: counted along the rows of the plate, or the tube's number on a rotor; empty if unknown."""
    text = react.get("id", "").strip()
    plate = run.find("pcrFormat")
    if not text.isascii() or not text.isdigit():
        if not well_name(text):
            cells.problem(None, "react", repr(text), "the number of a reaction, or a well", "save the file again")
        return well_name(text)
    if plate is None:
        return ""
    labels = (text_of(plate, "rowLabel"), text_of(plate, "columnLabel"))
    if not set(labels) <= _LABELS:
        found = f"rows labelled {labels[0]!r} and columns labelled {labels[1]!r}"
        cells.problem(None, "pcrFormat", found, f"each one of {', '.join(sorted(_LABELS))}", "save the file again")
    if labels != ("ABC", "123"):
        return str(int(text))
    rows, columns = text_of(plate, "rows"), text_of(plate, "columns")
    size = [int(n) if n.isascii() and n.isdigit() and len(n) < 5 else 0 for n in (rows, columns)]
    if min(size) < 1 or not 1 <= int(text) <= size[0] * size[1]:
        found = f"{text} on a plate of {rows or 'no'} rows and {columns or 'no'} columns"
        cells.problem(None, "react", found, "a reaction on the plate", "save the file again")
        return ""
    row, column = divmod(int(text) - 1, size[1])
    letters = chr(65 + row) if row < 26 else "A" + chr(65 + row - 26)
    return f"{letters}{column + 1}"


def _row(
    run: Element,
    react: Element,
    data: Element,
    partitions: Element | None,
    samples: Mapping[str, _Sample],
    cycles: float,
    cells: Checked,
) -> dict[str, Any]:
    """One data element as a raw row, but for its number and run."""
    well = _place(run, react, cells)
    where = f"react {react.get('id', '')}"
    sample, tar = react.find("sample"), data.find("tar")
    name = "" if sample is None else sample.get("id", "").strip()
    target = "" if tar is None else tar.get("id", "").strip()
    about = samples.get(name)
    if about is None:
        found = f"sample {name!r}, which the file does not describe" if name else "no sample"
        cells.problem(None, where, found, "a sample of the file", "save the file again")
        about = _Sample({}, {})
    if not target:
        cells.problem(None, where, "no target", "the target of each measurement", "save the file again")
    kind = about.kind(target)
    role = _ROLES.get(kind)
    if kind and role is None:
        cells.problem(None, f"sample {name}", f"type {kind!r}", f"one of {', '.join(_ROLES)}", "correct the type")
    cells.sample_name(None, f"{where}, sample", name)
    raw: dict[str, Any] = {"well": well, "sample_id": name, "role": role or "unknown", "target": target}
    remarks = [] if kind else ["no sample type in the export, taken as a sample"]
    raw |= _cq(data, where, cycles, cells) if partitions is None else _partitioned(data, partitions, where, cells)
    if raw["role"] == "standard":
        value, unit = about.quantity(target)
        if value and unit == "cop":
            raw["quantity"] = _number(value, f"sample {name}", cells)
        else:
            remarks.append(f"quantity {value} {unit} is not in copies" if value else "no quantity of this standard")
    raw["remark"] = "; ".join(filter(None, [raw.get("remark", ""), *remarks]))
    return raw


def _number(text: str, where: str, cells: Checked, kind: Any = "amount") -> float | None:
    return cells.plain_number(where, text, kind)


def _said(data: Element, *names: str) -> str:
    """Free text of the software or its user, where it may travel."""
    texts = [text_of(data, name) for name in names]
    return "; ".join(t for t in texts if t and t.lower() != "true" and not danger(t))


def _cq(data: Element, where: str, cycles: float, cells: Checked) -> dict[str, Any]:
    text = text_of(data, "cq")
    omitted = data.find("excl") is not None
    raw: dict[str, Any] = {
        "measure": "ct",
        "value_raw": text,
        "omitted": omitted,
        "remark": _said(data, "excl", "note"),
    }
    if not text:
        return raw | {"detection": "not_done", "remark": "no Cq in the export: the curve was not analysed"}
    plain = cells.notation.number(text, "number")
    if plain == _UNAVAILABLE or text.lower() == "nan":
        note = text_of(data, "note").lower()
        if note and "no amplification" not in note:
            return raw | {"detection": "failed", "remark": raw["remark"] or "no Cq, for a reason that the note gives"}
        return raw | {"detection": "not_detected", "remark": raw["remark"] or "no Cq: no amplification"}
    value = _number(text, where, cells, "ct")
    if value == cycles:
        remark = f"Cq {text} is the number of cycles: none was determined"
        return raw | {"detection": "not_detected", "remark": "; ".join(filter(None, [remark, raw["remark"]]))}
    return raw | ({"detection": "failed"} if value is None else {"value": value, "detection": "quantified"})


def _partitioned(data: Element, partitions: Element, where: str, cells: Checked) -> dict[str, Any]:
    """Counted partitions; where the concentration is not printed, the one that they and their volume give."""
    positive, negative = (_number(text_of(data, name), f"{where}, {name}", cells, "count") for name in ("pos", "neg"))
    printed, volume_text = text_of(data, "conc"), text_of(partitions, "volume")
    raw: dict[str, Any] = {
        "measure": "partitions",
        "value_raw": printed,
        "omitted": data.find("excluded") is not None,
        "remark": "; ".join(
            filter(None, [_said(data, "excluded", "note"), volume_text and f"partition volume {volume_text} nL"])
        ),
    }
    if positive is None or negative is None:
        return raw | {"detection": "failed"}
    accepted = positive + negative
    raw |= {"n_partitions": int(accepted), "n_positive": int(positive)}
    if accepted == 0:
        return raw | {"detection": "failed", "remark": "no partitions accepted"}
    if positive == 0:
        return raw | {"detection": "not_detected", "remark": f"no positive among {accepted:.0f} partitions"}
    if negative == 0:
        return raw | {"detection": "above", "remark": "saturated: no negative partition"}
    value = _number(printed, f"{where}, conc", cells) if printed else None
    if value is None and not printed and volume_text:
        volume = _number(volume_text, f"{where}, volume", cells)
        if volume:
            value = -math.log1p(-positive / accepted) / volume * 1000
            raw["remark"] += "; concentration computed from the partitions"
    if value is None:
        return raw | {"detection": "failed", "remark": f"no concentration in spite of {positive:.0f} positives"}
    return raw | {"value": value, "detection": "quantified"}


READER = Reader("rdml", "RDML", claim, read)
