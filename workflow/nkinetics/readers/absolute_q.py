"""Applied Biosystems QuantStudio Absolute Q results: csv, one row per well and dye.

Three tables of the software hold results. The list of a run has one row per well and dye, with rows on groups of wells
among them (Average, Pooled). The summary has one row per well and a block of columns per dye, the dyes in a row of
their own above the header. The channel table counts the partitions of each combination of dyes: a partition positive
for FAM and VIC is in neither the row FAM nor the row VIC, so the positives of one dye are the sum over its
combinations. Fluorescence of single partitions is no result and is refused, as is the archive of all three.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, Kind, columns, is_summary, normalised, notation
from nkinetics.readers._export import Export, Row, Sheet
from nkinetics.readers._plate import (
    NTC_NAMES,
    check_end,
    check_names,
    check_repeated,
    check_shape,
    file_name,
    joined,
    partitions,
    repeated,
    well_name,
)
from nkinetics.settings import Settings

PARTITION_NL = 0.432
"""Volume of a partition of the plate [nL]; printed concentrations follow from it and the counts."""

_LIST: Mapping[str, tuple[str, ...]] = {
    "Run": ("run",),
    "Name": ("name", "sample"),
    "Well": ("well",),
    "Total": ("total",),
    "Dye": ("dye",),
    "Target": ("target",),
    "Conc. cp/uL": ("conccpul", "conccpl", "conccopiesul"),
    "Positives": ("positives",),
}
_SUMMARY: Mapping[str, tuple[str, ...]] = {
    "Run name": ("runname",),
    "Sample": ("sample",),
    "Well": ("well",),
    "Total": ("total",),
    "Target": ("target",),
    "Conc.": ("conc",),
    "Positives": ("positives",),
}
_CHANNELS: Mapping[str, tuple[str, ...]] = {
    "Run": ("run",),
    "Sample": ("sample",),
    "Channels": ("channels",),
    "Count": ("count",),
    "Copies per microliter": ("copiespermicroliter",),
    "Total": ("total",),
}
_SINGLE: Mapping[str, tuple[str, ...]] = {
    "Well ID": ("wellid",),
    "Sample": ("sample",),
    "Index": ("index",),
    "Reject": ("reject",),
    "ROX": ("rox",),
}
_TABLES = {"list": _LIST, "summary": _SUMMARY, "channels": _CHANNELS, "single": _SINGLE}
_NAMES = frozenset(name for marks in _TABLES.values() for known in marks.values() for name in known)
_MEMBER = re.compile(r"absolute.?q|_summary\.csv$|_multichannel\.csv$|_fluorescence(_columns)?\.csv$", re.IGNORECASE)
_DILUTION = re.compile(r"1\s*/\s*(\d+(?:[.,]\d+)?)")


@dataclass(frozen=True)
class _Found:
    """A table of the software: which, and where its header stands."""

    kind: Literal["list", "summary", "channels", "single"]
    sheet: Sheet
    head: int
    at: Mapping[str, int]

    @property
    def header(self) -> Row:
        return self.sheet.rows[self.head]

    @property
    def body(self) -> list[Row]:
        return [row for row in self.sheet.rows[self.head + 1 :] if not row.blank]


def _best(export: Export) -> _Found | None:
    """The table with most marks among the first rows of each sheet, a complete one before all."""
    best: tuple[bool, int, _Found] | None = None
    for sheet in export.tables:
        for i, row in enumerate(sheet.top[:10]):
            names = columns(row.cells)
            if _NAMES.isdisjoint(names):
                continue
            for kind, marks in _TABLES.items():
                at = {m: names[n] for m, known in marks.items() for n in reversed(known) if n in names}
                rank = (len(at) == len(marks), len(at))
                if at and (best is None or rank > best[:2]):
                    best = (*rank, _Found(kind, sheet, i, at))  # type: ignore[arg-type]
    return best[2] if best else None


def _members(export: Export) -> list[str]:
    """Tables of the software in an archive that is no workbook."""
    if export.kind != "archive":
        return []
    with zipfile.ZipFile(io.BytesIO(export.content)) as archive:
        return sorted(m.filename for m in archive.infolist() if _MEMBER.search(m.filename))


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the export is one of the tables of Absolute Q, or an archive of them."""
    if members := _members(export):
        return Claim(True, tuple(members))
    table = _best(export)
    if table is None:
        return Claim(False, (), tuple(_LIST))
    missing = tuple(m for m in _TABLES[table.kind] if m not in table.at)
    return Claim(not missing, tuple(table.at), missing)


def read(export: Export, settings: Settings) -> Reading:
    """The wells of an export, one row per well and dye, rows on groups of wells among them.

    Raises
    ------
    InputError
        With every cell that is wrong; for the fluorescence of single partitions and for an archive.
    """
    if members := _members(export):
        names = ", ".join(members)
        raise export.refuse(
            f"an archive of {names}",
            "one results table of Absolute Q",
            "unpack it and give the summary or the results list alone",
        )
    table = _best(export)
    assert table is not None
    if table.kind == "single":
        raise export.refuse(
            "the fluorescence of single partitions (Index, Reject, one row per partition)",
            "a results table with the counts of each well",
            "export the results list or the summary of the run, or take the file out of inputs.exports",
            table.header.number,
        )
    cells = Checked(export.label)
    body = table.body
    if not body:
        cells.problem(table.header.number, "", "a header without wells", "results", "export again")
    cells.notation = notation(export.label, _numbers(table, body), settings.inputs.decimal)
    needed = list(table.at.values())
    if table.kind == "summary":
        blocks = _blocks(table.header)
        _check_blocks(table, blocks, cells)
        cells.done()
        # A message behind the last block may lack its column; everything needed stands before it.
        needed = [max(block["positives"] for block in blocks)]
    check_shape(export, table.sheet, table.header, body, needed, cells)
    check_names(export, table.header, body, cells)
    check_end(export, table.sheet, table.header, body, cells)
    if table.kind != "summary":
        # In the summary every dye has columns of the same names.
        twice = repeated(table.header.cells, [name for known in _TABLES[table.kind].values() for name in known])
        for row in body:
            check_repeated(row, table.header.cells, twice, cells)
    make = {"list": _listed, "summary": _summarised, "channels": _combined}[table.kind]
    rows = []
    for raw in make(export, table, body, cells):
        if raw["role"] != "summary":
            cells.once(raw["source_row"], "Well", (raw["well"] or raw["sample_id"], raw["target"], raw["run_id"]))
        rows.append(raw)
    _check_last(export, table, rows, cells)
    cells.done()
    return Reading(rows, export.note)


def _numbers(table: _Found, body: Sequence[Row]) -> Iterator[tuple[str, Kind]]:
    """Cells that show the decimal mark of the file; not the counts, as an average of counts has a fraction."""
    kinds: dict[str, Kind] = {"conc": "amount", "conccpul": "amount", "copiespermicroliter": "amount"}
    loose = ("sd", "cv", "95ci", "95deltalci", "95deltauci", "precision", "threshold", "meanqc", "cvqc")
    kinds.update(dict.fromkeys(loose, "number"))
    at = [(i, kinds[normalised(name)]) for i, name in enumerate(table.header.cells) if normalised(name) in kinds]
    for row in body:
        for i, kind in at:
            yield row.cell(i), kind


def _run(row: Row, at: Mapping[str, int], body: Sequence[Row], export: Export) -> str:
    """The run's name; a row on a group of wells may lack it, and has that of the first well."""
    column = at.get("run", at.get("runname"))
    return next((n for r in (row, *body) if (n := file_name(r.cell(column)))), export.stem)


def _role(sample: str) -> tuple[str, str]:
    """Role by the name, as no column tells the kind of a well."""
    return ("ntc", "no-template control by its name") if normalised(sample) in NTC_NAMES else ("unknown", "")


def _unnamed(raw: dict[str, Any], row: Row, column: str, cells: Checked) -> dict[str, Any]:
    """The row, set aside where a sample has no name."""
    if raw["role"] == "unknown":
        cells.sample_name(row.number, column, raw["sample_id"])
        if not raw["sample_id"]:
            raw["note"] = joined("no sample name", raw.get("note", ""))
    return raw


def _group(row: Row, well: str, name: str, dye: str, target: str, printed: str, run_id: str) -> dict[str, Any] | None:
    """The raw row of a row on a group of wells; None where the row is a well."""
    if well_name(well) or name or not (is_summary(well) or normalised(well) in ("", "pooled")):
        return None
    return {
        "source_row": row.number,
        "run_id": run_id,
        "well": "",
        "sample_id": "",
        "role": "summary",
        "target": target or dye,
        "measure": "partitions",
        "value_raw": printed,
        "detection": "",
        "note": f"{well.lower() or 'heading'} of a group of wells, which stand below it",
    }


def _listed(export: Export, table: _Found, body: Sequence[Row], cells: Checked) -> Iterator[dict[str, Any]]:
    """Rows of the list of a run."""
    names = columns(table.header.cells)
    for row in body:
        text = {mark: row.cell(i) for mark, i in table.at.items()}
        run_id = _run(row, names, body, export)
        group = row.cell(names.get("group"))
        summary = _group(row, text["Well"], text["Name"], text["Dye"], text["Target"], text["Conc. cp/uL"], run_id)
        if summary and group:
            yield {**summary, "note": f"{summary['note']}: {group}"}
            continue
        yield _well(row, run_id, text["Well"], text["Name"], text["Target"] or text["Dye"], text, "Conc. cp/uL", cells)


def _well(
    row: Row,
    run_id: str,
    well: str,
    sample: str,
    target: str,
    text: Mapping[str, str],
    conc: str,
    cells: Checked,
) -> dict[str, Any]:
    """One well and dye as a raw row."""
    if not well_name(well):
        found = repr(str(well)) if well else "an empty cell"
        cells.problem(row.number, "Well", found, "a well, as A1", "export the file again")
    role, remark = _role(sample)
    printed = (conc, text[conc])
    result = partitions(row, ("Total", text["Total"]), ("Positives", text["Positives"]), printed, cells)
    raw = {
        "source_row": row.number,
        "run_id": run_id,
        "well": well_name(well),
        "sample_id": sample,
        "role": role,
        "target": target,
        "measure": "partitions",
        "value_raw": text[conc],
        **result,
    }
    raw["remark"] = joined(raw.get("remark", ""), remark)
    return _unnamed(raw, row, "Name", cells)


# ------------------------------------------------------------------------------------------------------------- summary


def _blocks(header: Row) -> list[dict[str, int]]:
    """For each dye the positions of its columns: a block begins at Target and ends before the next."""
    names = [normalised(c) for c in header.cells]
    starts = [i for i, name in enumerate(names) if name == "target"]
    blocks = []
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        block: dict[str, int] = {}
        for i in range(start, end):
            block.setdefault(names[i], i)
        blocks.append(block)
    return [b for b in blocks if "conc" in b and "positives" in b]


def _check_blocks(table: _Found, blocks: Sequence[Mapping[str, int]], cells: Checked) -> None:
    """Note a header in which a dye has lost one of its columns: its block would belong to its neighbour."""
    names = [normalised(c) for c in table.header.cells]
    above = table.sheet.rows[table.head - 1] if table.head else Row(0, [])
    dyes = [c for c in above.cells if c]
    counts = [names.count(name) for name in ("target", "conc", "positives")]
    if not blocks or {*counts, len(dyes)} != {len(blocks)}:
        found = f"{len(dyes)} dyes above {counts[0]} columns Target, {counts[1]} Conc. and {counts[2]} Positives"
        cells.problem(table.header.number, "Target", found, "these three columns under each dye")


def _summarised(export: Export, table: _Found, body: Sequence[Row], cells: Checked) -> Iterator[dict[str, Any]]:
    """Rows of the summary: one per well and block of columns."""
    names = columns(table.header.cells)
    above = table.sheet.rows[table.head - 1] if table.head else Row(0, [])
    for row in body:
        run_id = _run(row, names, body, export)
        well, sample = row.cell(table.at["Well"]), row.cell(table.at["Sample"])
        quality = row.cell(names.get("qc")), row.cell(names.get("qcmessage"))
        for block in _blocks(table.header):
            dye = above.cell(block["target"])
            target = row.cell(block["target"]) or dye
            printed = row.cell(block["conc"])
            summary = _group(row, well, sample, dye, target, printed, run_id)
            if summary:
                yield summary
                continue
            text = {"Total": row.cell(table.at["Total"]), "Positives": row.cell(block["positives"]), "Conc.": printed}
            raw = _well(row, run_id, well, sample, target, text, "Conc.", cells)
            yield _judged(_undiluted(raw, row.cell(names.get("df"))), *quality)


def _undiluted(raw: dict[str, Any], factor: str) -> dict[str, Any]:
    """The concentration in the reaction, where the software has printed that of the sample before its dilution."""
    match = _DILUTION.fullmatch(factor)
    times = float(match.group(1).replace(",", ".")) if match else 1.0
    if not raw.get("value"):
        return raw
    found = -math.log1p(-raw["n_positive"] / raw["n_partitions"]) / PARTITION_NL * 1000
    if times == 1:
        # Also where the column of the dilution is missing.
        doubt = f"printed {raw['value_raw']} copies/uL, of which the counts make {found:.5g}"
        far = abs(raw["value"] - found) > 0.2 * found and raw["n_positive"] >= 10
        return {**raw, "remark": joined(raw["remark"], doubt if far else "")}
    # Only the counts tell whether the dilution is in the printed number.
    if abs(raw["value"] / times - found) < abs(raw["value"] - found):
        remark = joined(raw["remark"], f"printed {raw['value_raw']} copies/uL before the dilution {factor}")
        return {**raw, "value": raw["value"] / times, "remark": remark}
    return raw


def _judged(raw: dict[str, Any], verdict: str, message: str) -> dict[str, Any]:
    """The row with what the software's own quality control says of the well."""
    if verdict.upper() in ("PASS", ""):
        return raw
    said = f"quality control {message if message.startswith(verdict) else joined(verdict, message)}"
    if verdict.upper().startswith("FAIL"):
        return {**raw, "note": joined(raw.get("note", ""), said)}
    return {**raw, "remark": joined(raw.get("remark", ""), said)}


# ------------------------------------------------------------------------------------------------------------ channels


def _combined(export: Export, table: _Found, body: Sequence[Row], cells: Checked) -> Iterator[dict[str, Any]]:
    """Rows of the channel table: each combination as it stands, and behind it each dye with the sum that it needs."""
    names = columns(table.header.cells)
    plates: dict[tuple[str, str], list[tuple[Row, frozenset[str], float, float]]] = {}
    for row in body:
        text = {mark: row.cell(i) for mark, i in table.at.items()}
        count = cells.number(row.number, "Count", text["Count"], "count")
        total = cells.number(row.number, "Total", text["Total"], "count")
        if count is None or total is None:
            continue
        if count > total:
            cells.problem(row.number, "Count", f"{count:.0f} of {total:.0f} partitions", "no more than all of them")
        dyes = frozenset(text["Channels"].split())
        run_id = _run(row, names, body, export)
        plates.setdefault((run_id, text["Sample"]), []).append((row, dyes, count, total))
        yield _combination(row, run_id, text, count, total, cells)
    known = frozenset(dye for rows in plates.values() for _, dyes, _, _ in rows for dye in dyes)
    for (run_id, sample), rows in plates.items():
        yield from _dyes(run_id, sample, rows, known, cells)


def _combination(
    row: Row, run_id: str, text: Mapping[str, str], count: float, total: float, cells: Checked
) -> dict[str, Any]:
    """A combination of dyes as it stands: it counts the partitions of no single dye, so it is not usable."""
    printed = cells.number(row.number, "Copies per microliter", text["Copies per microliter"], "amount")
    only = f"{text['Channels']} only" if text["Channels"] else "no channel"
    return {
        "source_row": row.number,
        "run_id": run_id,
        "well": "",
        "sample_id": text["Sample"],
        "role": "summary",
        "target": only,
        "measure": "partitions",
        "value_raw": text["Copies per microliter"],
        "value": printed or None,
        "detection": "",
        "n_partitions": int(total),
        "n_positive": int(count) if text["Channels"] else None,
        "note": f"partitions positive for {only}; the row of each dye adds up its combinations",
    }


def _dyes(
    run_id: str,
    sample: str,
    rows: Sequence[tuple[Row, frozenset[str], float, float]],
    known: frozenset[str],
    cells: Checked,
) -> Iterator[dict[str, Any]]:
    """Each dye of one sample: positive are the partitions of every combination with it."""
    totals = {total for _, _, _, total in rows if total}
    first = rows[0][0]
    if len(totals) > 1:
        found = f"{' and '.join(f'{t:.0f}' for t in sorted(totals))} partitions of {sample}"
        cells.problem(first.number, "Total", found, "one number of partitions for a sample", "export the file again")
    combinations = [dyes for _, dyes, _, _ in rows]
    if len(set(combinations)) < len(combinations):
        cells.problem(
            first.number, "Channels", f"a combination of channels twice for {sample}", "each combination once"
        )
    whole = len(combinations) == 2 ** len(known)
    counted = sum(count for _, _, count, _ in rows)
    if whole and totals and counted != max(totals):
        found = f"{counted:.0f} partitions over the combinations of {sample}"
        cells.problem(
            first.number, "Count", found, f"the {max(totals):.0f} of the column Total", "export the file again"
        )
    role, remark = _role(sample)
    for row, dyes, _, total in rows:
        if len(dyes) != 1:
            continue
        (dye,) = dyes
        with_it = [(r, c) for r, others, c, _ in rows if dye in others]
        positive = sum(c for _, c in with_it)
        raw: dict[str, Any] = {
            "source_row": row.number,
            "run_id": run_id,
            "well": "",
            "sample_id": sample,
            "role": role,
            "target": dye,
            "measure": "partitions",
            "value_raw": "",
        }
        if not whole:
            note = f"not every combination of {', '.join(sorted(known))} stands in the table"
            yield {**raw, "detection": "failed", "note": note}
            continue
        n = max(totals, default=0.0)
        if not total or not n:
            yield _unnamed(
                {**raw, "detection": "failed", "remark": f"channel {dye} was not read"}, row, "Sample", cells
            )
            continue
        summed = f"sum of the {len(with_it)} combinations with {dye}"
        result: dict[str, Any] = {"n_partitions": int(n), "n_positive": int(positive)}
        if positive == 0:
            result |= {"detection": "not_detected", "remark": f"no positive among {n:.0f} partitions"}
        elif positive >= n:
            result |= {"detection": "above", "remark": "saturated: no negative partition"}
        else:
            value = -math.log1p(-positive / n) / PARTITION_NL * 1000
            result |= {"detection": "quantified", "value": value, "remark": f"{summed}; concentration from the counts"}
        result["remark"] = joined(result["remark"], remark)
        yield _unnamed({**raw, **result}, row, "Sample", cells)


def _check_last(export: Export, table: _Found, rows: Sequence[Mapping[str, Any]], cells: Checked) -> None:
    """A file may be cut within its last count, which the printed concentration shows."""
    if table.kind != "list" or export.kind != "text" or export.ends_cleanly or not rows:
        return
    last = rows[-1]
    k, n, printed = last.get("n_positive"), last.get("n_partitions"), last.get("value")
    if table.at["Positives"] != len(table.header.cells) - 1 or k is None or n is None or last["role"] == "summary":
        return
    found = -math.log1p(-k / n) / PARTITION_NL * 1000 if k < n else math.inf
    if not printed or abs(printed - found) > max(0.02 * printed, 0.01):
        if k == 0 and not cells.notation.number(last["value_raw"]):
            return
        cells.problem(
            last["source_row"], "Positives", "a last line that ends within it", "a whole line", "copy the file again"
        )


READER = Reader("absolute_q", "Absolute Q results", claim, read)
