"""Throughput of the readers: files per second of one core after start-up, and the peak memory of the largest file.

Each export is read again and again until `SECONDS` have passed, after one reading that loads what is loaded once. The
yardstick reads the same bytes with nothing but the library below us: csv for texts, calamine (every sheet) for
workbooks, ElementTree for XML; so that the ratio holds on any machine. FCS files have no such yardstick.

``python benchmarks/readers.py`` times the examples of the repository, and with ``--shared FOLDER`` the exports there.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 0.2


def exports(shared: Path | None) -> Iterator[Path]:
    """The exports to time; archives of single files are for the user to unpack."""
    yield from (p for p in sorted((ROOT / "tests/data/readers").glob("*/*")) if not p.name.endswith(".expected.csv"))
    yield from sorted((ROOT / "data/raw").glob("*/*"))
    if shared is not None:
        yield from (p for p in sorted(shared.rglob("*")) if p.is_file() and p.suffix not in (".md", ".gz"))


def unpacked(shared: Path, folder: Path) -> Iterator[Path]:
    """Exports that stand compressed in the collection, as their instrument wrote them."""
    for path in sorted(shared.rglob("*.gz")):
        target = folder / path.stem
        target.write_bytes(gzip.decompress(path.read_bytes()))
        yield target


def clock() -> float:
    """Processor time of this process and of those that it started: an .xls is parsed in one of its own."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds(action: Callable[[], object]) -> float:
    """Median processor time of one call."""
    action()
    times = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < SECONDS:
        at = clock()
        action()
        times.append(clock() - at)
    return statistics.median(times)


def yardstick(content: bytes) -> Callable[[], object] | None:
    """The same bytes read by the library alone."""
    if content.startswith(b"FCS"):
        return None
    if content.startswith((b"PK", b"\xd0\xcf\x11\xe0")):
        if content.startswith(b"PK"):
            names = zipfile.ZipFile(io.BytesIO(content)).namelist()
            if "xl/workbook.xml" not in names:
                documents = [n for n in names if n.endswith(".xml")]
                if not documents:
                    return None
                return lambda: ElementTree.fromstring(zipfile.ZipFile(io.BytesIO(content)).read(documents[0]))
        from python_calamine import CalamineWorkbook

        def book() -> object:
            found = CalamineWorkbook.from_object(io.BytesIO(content))
            return [found.get_sheet_by_name(name).to_python() for name in found.sheet_names]

        return book
    if content.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<"):
        return lambda: ElementTree.fromstring(content)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
    delimiter = "\t" if content.count(b"\t") > content.count(b",") else ","

    def table() -> object:
        return list(csv.reader(io.StringIO(content.decode(encoding), newline=""), delimiter=delimiter))

    return table


def peak(path: Path) -> tuple[float, float]:
    """Peak memory [MB] of a process that loads the readers, and of one that reads a file too."""
    code = (
        "import sys; from pathlib import Path; from nkinetics.plugins import discover\n"
        "from nkinetics.readers import read_exports; from nkinetics.settings import Settings\n"
        "discover('readers'); settings = Settings()\n"
        "if len(sys.argv) > 1: read_exports([Path(sys.argv[1])], Path(sys.argv[1]).parent, settings)\n"
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1000)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    start, read = (
        float(subprocess.run([sys.executable, "-c", code, *a], capture_output=True, check=True, env=environment).stdout)
        for a in ([], [str(path)])
    )
    return start, read


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shared", type=Path, help="folder with further exports")
    parser.add_argument("--files", action="store_true", help="one line for each file")
    options = parser.parse_args()
    from nkinetics.readers import read_exports
    from nkinetics.settings import Settings, validated

    per_reader: dict[str, list[tuple[float, float | None, int, int]]] = {}
    largest: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        paths = list(exports(options.shared))
        if options.shared is not None:
            paths += list(unpacked(options.shared, Path(scratch)))
        for path in paths:
            if path.name in ("settings.json", "README.md"):
                continue
            given = path.parent / "settings.json"
            settings = validated(json.loads(given.read_text()), given.name) if given.exists() else Settings()
            frame, (report,) = read_exports([path], path.parent, settings)
            name = report.reader or "(refused: no format)"
            name = name if not report.problems or not report.reader else f"{name} (refused)"
            took = seconds(lambda p=path, s=settings: read_exports([p], p.parent, s))  # type: ignore[misc]
            plain = yardstick(path.read_bytes()) if report.reader else None
            alone = seconds(plain) if plain else None
            size = path.stat().st_size
            per_reader.setdefault(name, []).append((took, alone, size, len(frame)))
            if name not in largest or size > largest[name].stat().st_size:
                largest[name] = path
            if options.files:
                ratio = f"{took / alone:6.1f}" if alone else ""
                print(f"{name:32}{path.name[:48]:50}{size / 1e3:9.1f} kB{1e3 * took:9.2f} ms {ratio:>7}", flush=True)
        names = ("files", "median kB", "files/s", "median ms", "slowest ms", "x plain", "peak MB")
        head = f"{'reader':34}" + "".join(f"{n:>11}" for n in names)
        print(head)
        for name in sorted(per_reader):
            own = per_reader[name]
            took = [t for t, *_ in own]
            ratios = [t / a for t, a, *_ in own if a]
            _, most = peak(largest[name])
            figures = (
                f"{len(own)}",
                f"{statistics.median(size for *_, size, _ in own) / 1e3:.1f}",
                f"{len(own) / sum(took):.0f}",
                f"{1e3 * statistics.median(took):.1f}",
                f"{1e3 * max(took):.1f}",
                f"{statistics.median(ratios):.1f}" if ratios else "",
                f"{most:.0f}",
            )
            print(f"{name:34}" + "".join(f"{f:>11}" for f in figures), flush=True)
        everything = [own for group in per_reader.values() for own in group]
        for kind, some in {
            "all": everything,
            "up to 100 kB": [own for own in everything if own[2] <= 100_000],
            "above 100 kB": [own for own in everything if own[2] > 100_000],
        }.items():
            if some:
                total, rows = sum(t for t, *_ in some), sum(own[3] for own in some)
                print(f"{kind:34}{len(some):11}{'':11}{len(some) / total:11.0f}   {rows} rows in {total:.2f} s")
        named = [p for p in paths if p.name not in ("settings.json", "README.md")]
        together = seconds(lambda: read_exports(named, ROOT, Settings()))
        print(f"{'all, in one call':34}{len(named):11}{'':11}{len(named) / together:11.0f}   {together:.2f} s")
        start, _ = peak(paths[0])
        print(f"a process that has only loaded the readers: {start:.0f} MB; {os.cpu_count()} cores, one used")


if __name__ == "__main__":
    main()
