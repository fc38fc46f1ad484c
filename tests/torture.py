"""Everything that can be wrong with what people bring, in one go, with counts: tried, refused, survived, lost.

exports     the fuzzer's damaged exports of every reader (fuzzer.py), judged against the undamaged ones
tables      the tables and the configuration of a study damaged at random, through ``nkinetics ingest``
broken      every file of tests/data/broken in its place
injections  markup, formulas, control characters in every place that takes text, through the commands to the report

refused     the command ends with status 2, says of every problem what was found and how to mend it, and has written
            nothing; of an export among others: set aside with its reason, and every other result is as before
survived    read, and nothing is missing: every patient, every sample and every row of the exports is in the results,
            a level that is not there has a status or a reason, and nothing typed can run
lost        anything else: a crash, a patient, sample or row that is gone, a refusal without a way out, a file half
            written. ``make torture`` ends with status 1 then, and says how to repeat each.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fuzzer
from nkinetics import cli, observations
from nkinetics.errors import BAD_INPUT, DONE, InputError
from test_hostile import HOSTILE, cell, hurt

DATA = Path(__file__).resolve().parent / "data"
TABLES = ("patients", "samples", "infusions", "cytokines", "events")
RESULTS = ("refused", "survived", "lost")
INGEST = "ingest --config config/config.yaml --output-dir results --keep-going"


LONGEST = 1500
"""Characters of a line that a person still reads."""


@dataclass(frozen=True)
class Case:
    """One damaged input: what was done to it, and how it ended."""

    family: str
    name: str
    result: str
    why: str = ""


@contextlib.contextmanager
def study() -> Iterator[Path]:
    """The small study in a folder of its own, which is the current one meanwhile."""
    back = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        shutil.copytree(DATA / "small", folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(back)


def command(line: str) -> tuple[int, str]:
    """A command in this process: its exit status and what it said; a traceback counts as status 1."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            status = cli.main(line.split())
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Exception:
            return 1, said.getvalue() + traceback.format_exc()
    return status, said.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    """A table of ours."""
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def told(said: str) -> bool:
    """Whether every problem of a refusal says what was found and how to mend it, without playing with the terminal."""
    problems = [line for line in said.split("\nWarnings:\n")[0].splitlines() if line.startswith("  ")]
    if any(len(line) > LONGEST for line in said.splitlines()):
        return False
    found = bool(problems) and all("found" in p and "To mend:" in p for p in problems)
    return found and not any(c in said for c in "\x1b\x00\u202e\u2066")


def ingested(family: str, name: str, whole: list[dict[str, str]]) -> Case:
    """`ingest` of the study as it stands now; `whole` is the account of the undamaged exports."""
    status, said = command(INGEST)
    written = Path("results/observations.csv").exists()
    if status == BAD_INPUT:
        if written:
            return Case(family, name, "lost", "refused and written")
        return Case(family, name, "refused" if told(said) else "lost", said)
    if status != DONE or not written:
        return Case(family, name, "lost", f"exit status {status}: {said}")
    why = missing(whole)
    return Case(family, name, "lost" if why else "survived", why)


def missing(whole: list[dict[str, str]]) -> str:
    """What of the study as it stands is not in its results; empty where nothing is."""
    observed = rows(Path("results/observations.csv"))
    # A configuration cut off may ask for less: then less is made, rightly.
    asked = Path("config/config.yaml").read_text(encoding="utf-8-sig")
    for table, key, seen in (
        ("patients", "patient_id", {r["patient_id"] for r in rows(Path("results/study/patients.csv"))}),
        ("samples", "sample_id", {r["sample_id"] for r in observed}),
    ):
        gone = typed(Path(f"config/{table}.csv"), key) - seen
        if gone and f"{table}: config/{table}.csv" in asked and "target_pattern: ^CAR$" in asked:
            return f"{table} without a row: {', '.join(sorted(gone))}"
    account = rows(Path("results/ingest.csv"))
    place = ("source_file", "source_row", "target")
    read = {tuple(r[c] for c in place) for r in account}
    gone_rows = {tuple(r[c] for c in place) for r in whole} - read
    if gone_rows:
        return f"rows of exports without an account: {sorted(gone_rows)[:3]}"
    if any(r["used"] != "true" and not r["reason"] for r in account):
        return "a row set aside without a reason"
    for row in observed:
        if not row["level"] and row["status"] == "quantified" and not row["exclusion_reason"]:
            return f"no level and no reason: {row}"
    return ""


def typed(path: Path, key: str) -> set[str]:
    """Identifiers as they stand in a table that somebody typed, read as loosely as a person would."""
    content = path.read_bytes()
    text = (
        content.decode("utf-16")
        if content[:2] in (b"\xff\xfe", b"\xfe\xff")
        else content.decode("utf-8-sig", "replace")
    )
    lines = [line for line in text.splitlines() if line.strip(",; \t")]
    if not lines:
        return set()
    delimiter = max(",;\t", key=lines[0].count)
    found = list(csv.reader(lines, delimiter=delimiter))
    head = [name.strip() for name in found[0]]
    if key not in head:
        return set()
    at = head.index(key)
    return {row[at].strip() for row in found[1:] if len(row) > at and row[at].strip()}


# ------------------------------------------------------------------------------------------------------------- tables


WORDS = (
    *("", " ", "NA", "nan", "inf", "1e400", "-1", "-0", "1,5", "1.5.2", "28/03/2026 10:00", "2026-13-01", "2026-02-30"),
    *("=1+1", "@x", "\uff10\uff10\uff17", "007 ", "\u00a0", "7", "true", "1" * 400, "x" * 5000, "a\x00b", "..", "a/b"),
    *('"', "\u202e", "P002", "S05", "DL9", "0", "9999999999999999999999"),
)


def _grid(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def _write(path: Path, grid: list[list[str]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter=delimiter, lineterminator="\n").writerows(grid)


def _cell(grid: list[list[str]], chance: random.Random) -> None:
    row = chance.choice(grid[1:])
    row[chance.randrange(len(row))] = chance.choice(WORDS)


def _digit(grid: list[list[str]], chance: random.Random) -> None:
    row = chance.choice(grid[1:])
    at = chance.randrange(len(row))
    row[at] = re.sub(r"\d", lambda m: str(chance.randrange(10)), row[at], count=1)


def _row_gone(grid: list[list[str]], chance: random.Random) -> None:
    del grid[chance.randrange(1, len(grid))]


def _row_twice(grid: list[list[str]], chance: random.Random) -> None:
    grid.insert(chance.randrange(1, len(grid) + 1), list(chance.choice(grid[1:])))


def _rows_shuffled(grid: list[list[str]], chance: random.Random) -> None:
    body = grid[1:]
    chance.shuffle(body)
    grid[1:] = body


def _header(grid: list[list[str]], chance: random.Random) -> None:
    at = chance.randrange(len(grid[0]))
    grid[0][at] = chance.choice((grid[0][at].upper(), grid[0][at] + "x", "", grid[0][0], " " + grid[0][at] + " "))


def _column_gone(grid: list[list[str]], chance: random.Random) -> None:
    at = chance.randrange(len(grid[0]))
    for row in grid:
        del row[at : at + 1]


def _columns_moved(grid: list[list[str]], chance: random.Random) -> None:
    order = list(range(len(grid[0])))
    chance.shuffle(order)
    for row in grid:
        row[:] = [row[i] for i in order if i < len(row)]


def _cells_swapped(grid: list[list[str]], chance: random.Random) -> None:
    one, other = chance.choice(grid[1:]), chance.choice(grid[1:])
    at = chance.randrange(len(one))
    one[at], other[at] = other[at], one[at]


def _ragged(grid: list[list[str]], chance: random.Random) -> None:
    row = chance.choice(grid[1:])
    row.append("x") if chance.random() < 0.5 else row.pop()


EDITS: tuple[Callable[[list[list[str]], random.Random], None], ...] = (
    *(_cell, _cell, _cell, _digit, _digit, _row_gone, _row_twice, _rows_shuffled, _header, _column_gone),
    *(_columns_moved, _cells_swapped, _ragged),
)


def _bytes(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    text = content.decode("utf-8")
    made = {
        "utf-16": text.encode("utf-16"),
        "latin-1": text.replace("o", "\u00f6", 1).encode("latin-1"),
        "byte order mark": b"\xef\xbb\xbf" + content,
        "line ends of Windows": content.replace(b"\n", b"\r\n"),
        "line ends of old Macs": content.replace(b"\n", b"\r"),
        "semicolons": text.replace(",", ";").encode(),
        "cut off": content[: chance.randrange(len(content))],
        "empty": b"",
        "blank lines": content.replace(b"\n", b"\n\n"),
        "a flipped bit": bytes(b ^ (1 << chance.randrange(8)) if i == at else b for i, b in enumerate(content))
        if (at := chance.randrange(len(content))) >= 0
        else content,
    }
    name = chance.choice(sorted(made))
    return name, made[name]


def tables(count: int, seed: int) -> Iterator[Case]:
    """Damaged input tables and configurations, through the command."""
    with study():
        command(INGEST)
        whole = rows(Path("results/ingest.csv"))
        originals = {p: p.read_bytes() for p in sorted(Path("config").iterdir())}
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            shutil.rmtree("results", ignore_errors=True)
            path = Path("config") / f"{chance.choice(TABLES)}.csv"
            if chance.random() < 0.1:
                path = Path("config/config.yaml")
            if path.suffix == ".yaml" or chance.random() < 0.25:
                what, content = _bytes(originals[path], chance)
                path.write_bytes(content)
            else:
                edit, grid = chance.choice(EDITS), _grid(path)
                edit(grid, chance)
                what = edit.__name__.strip("_")
                _write(path, grid)
            yield ingested("tables", f"{number} {path.name}: {what}", whole)
            path.write_bytes(originals[path])


# -------------------------------------------------------------------------------------------- broken files, injections


def broken() -> Iterator[Case]:
    """Every file of tests/data/broken where it would stand."""
    for path in sorted((DATA / "broken").rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(DATA / "broken").as_posix()
        with study():
            command(INGEST)
            before = Path("results/observations.csv").read_bytes()
            whole = rows(Path("results/ingest.csv"))
            shutil.rmtree("results")
            part = path.name.split(".")[-2]
            if part == "observations":
                try:
                    observations.load(path)
                    yield Case("broken", name, "lost", "read without a word")
                except InputError as error:
                    yield Case("broken", name, "refused" if told(str(error)) else "lost", str(error))
                continue
            if part in TABLES or part == "config":
                shutil.copy(path, f"config/{part}{path.suffix}")
                case = ingested("broken", name, whole)
                survived = case.result == "survived"
                yield Case("broken", name, "lost", "read without a word") if survived else case
                continue
            shutil.copy(path, f"data/raw/{path.name}")
            case = ingested("broken", name, whole)
            if case.result == "survived":
                own = [r for r in rows(Path("results/ingest.csv")) if r["source_file"].endswith(path.name)]
                aside = own and all(r["used"] != "true" and r["reason"] for r in own)
                same = Path("results/observations.csv").read_bytes() == before
                case = Case("broken", name, "refused" if aside and same else "lost", f"{len(own)} rows, same: {same}")
            yield case


def dangerous(folder: Path) -> str:
    """What in a results folder could run in a spreadsheet or a browser."""
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.reader(handle):
                for value in row:
                    number = value[:1] in "+-" and is_number(value)
                    if value.startswith(("=", "@", "\t", "\r", "+", "-")) and not number:
                        return f"{path.name}: {value[:40]}"
    for path in sorted(folder.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        if re.search(r"<img|<[^>]*\son(error|load)=", text) or text.count("<script") != 1:
            return f"{path.name}: markup that somebody typed"
    return ""


def is_number(text: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def injections() -> Iterator[Case]:
    """Hostile text in every place that takes text."""
    for kind, text in sorted(HOSTILE.items()):
        for file, old in (("patients", "007,"), ("samples", "S01,"), ("infusions", "007,"), ("events", "007,")):
            with study():
                path = Path("config") / f"{file}.csv"
                content = path.read_text(encoding="utf-8")
                path.write_text(content.replace(old, cell(text) + ",", 1), encoding="utf-8")
                case = ingested("injections", f"{kind} as an identifier of {file}.csv", [])
                yield Case(case.family, case.name, "lost", "taken as a name") if case.result == "survived" else case
        for place in ("free text", "sample of an export", "target of an export"):
            with study() as folder:
                if place == "free text":
                    hurt(folder, text)
                else:
                    export = Path("data/raw/run01.txt")
                    names = (text, "RNaseP") if place.startswith("sample") else ("S05", text)
                    more = "40\tD4\tfalse\t{}\t{}\tUNKNOWN\tVIC\tNFQ-MGB\t24.000\t\n".format(*names)
                    export.write_text(export.read_text(encoding="utf-8") + more, encoding="utf-8")
                case = ingested("injections", f"{kind} as {place}", [])
                if case.result == "survived":
                    status, said = command("report --results results --config config/config.yaml")
                    why = said if status else dangerous(Path("results"))
                    case = Case(case.family, case.name, "lost" if why else "survived", why)
                yield case


def exports(count: int, seed: int, shared: Path | None) -> Iterator[Case]:
    """The fuzzer's damaged exports."""
    with tempfile.TemporaryDirectory() as folder:
        for event in fuzzer.run(0, count, seed, fuzzer.bases(shared), Path(folder)):
            if event["result"] != "begun":
                result = {"same": "survived", "differs": "survived"}.get(event["result"], event["result"])
                name = f"{event['number']} {event['base']}: {event['kind']}"
                yield Case("exports", name, result if result in RESULTS else "lost", event["said"])


def main(arguments: list[str] | None = None) -> int:
    """Run all families; 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--exports", type=int, default=2000, help="damaged exports")
    parser.add_argument("--tables", type=int, default=500, help="damaged tables and configurations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared", type=Path, help="folder with further exports to damage")
    parser.add_argument("--only", nargs="*", choices=("broken", "injections", "tables", "exports"))
    parser.add_argument("--json", type=Path, help="file for the counts")
    options = parser.parse_args(arguments)
    shared = options.shared.resolve() if options.shared else None
    counts: dict[str, Counter[str]] = {}
    families = {
        "broken": broken(),
        "injections": injections(),
        "tables": tables(options.tables, options.seed),
        "exports": exports(options.exports, options.seed, shared),
    }
    for family in options.only or families:
        for case in families[family]:
            counts.setdefault(case.family, Counter())[case.result] += 1
            if case.result == "lost":
                print(f"LOST {case.family} {case.name} (--seed {options.seed}): {case.why}\n", flush=True)
    print(f"{'':12}{'tried':>8}" + "".join(f"{r:>10}" for r in RESULTS))
    for family, own in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{family:12}{own.total():8}" + "".join(f"{own[r]:10}" for r in RESULTS))
    if options.json:
        options.json.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 1 if any(own["lost"] for own in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
