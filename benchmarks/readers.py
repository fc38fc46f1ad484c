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


def seconds(action: Callable[[], object]) -> float:
    """Median time of one call."""
    action()
    times = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < SECONDS:
        at = time.process_time()
        action()
        times.append(time.process_time() - at)
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
        "import resource, sys; from pathlib import Path; from nkinetics.plugins import discover\n"
        "from nkinetics.readers import read_exports; from nkinetics.settings import Settings\n"
        "discover('readers'); settings = Settings()\n"
        "if len(sys.argv) > 1: read_exports([Path(sys.argv[1])], Path(sys.argv[1]).parent, settings)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)"
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
        head = f"{'reader':34}{'files':>6}{'median kB':>11}{'files/s':>9}{'median':>9}{'slowest':>9}{'x plain':>9}{'peak MB':>9}"
        print(head)
        for name in sorted(per_reader):
            own = per_reader[name]
            took = [t for t, *_ in own]
            ratios = [t / a for t, a, *_ in own if a]
            ratio = f"{statistics.median(ratios):9.1f}" if ratios else f"{'':9}"
            start, most = peak(largest[name])
            print(
                f"{name:34}{len(own):6}{statistics.median(s for _, _, s, _ in own) / 1e3:11.1f}"
                f"{len(own) / sum(took):9.0f}{1e3 * statistics.median(took):6.2f} ms{1e3 * max(took):6.1f} ms{ratio}"
                f"{most:9.0f}"
            )
        everything = [t for own in per_reader.values() for t, *_ in own]
        print(f"{'all':34}{len(everything):6}{'':11}{len(everything) / sum(everything):9.0f}")
        print(f"a process that has only loaded the readers: {start:.0f} MB; this one: "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB; {os.cpu_count()} cores, one used")


if __name__ == "__main__":
    main()
