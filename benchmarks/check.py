"""`nkinetics check` on about 100 exports: seconds of the whole command, beside reading the same files alone.

The study is the bundled one several times over, each copy with patients, runs and sample names of its own: full
QuantStudio plates as text and as workbooks, QX Manager and FlowJo tables. ``python benchmarks/check.py --copies 9``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from nkinetics.simulate import bundle, trial
from nkinetics.simulate.design import NCT07366658, Design

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("patients", "samples", "infusions", "cytokines", "events")


def copy_of(design: Design, letter: str) -> Design:
    """The same trial with other patients, runs and samples; a copy has no mishaps but those that need no name."""

    def named(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{letter}{i}" for i in ids)

    return replace(
        design,
        product=f"{design.product}{letter}",
        patients=tuple(replace(p, patient_id=f"{letter}{p.patient_id}") for p in design.patients),
        runs=tuple(
            replace(r, name=f"{r.name}{letter}", patients=named(r.patients), without=named(r.without), also=())
            for r in design.runs
        ),
        ddpcr_patients=named(design.ddpcr_patients),
    ).without_mishaps()


def write(folder: Path, copies: int) -> int:
    """Write the study; the number of its exports."""
    made = [trial.study(1, copy_of(NCT07366658, chr(ord("A") + k))) for k in range(copies)]
    n = 0
    for one in made:
        for name, content in one.exports.items():
            path = folder / "data" / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            n += 1
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(bundle.config(NCT07366658, 1), encoding="utf-8")
    for table in TABLES:
        frame = pd.concat([getattr(one, table) for one in made], ignore_index=True)
        (folder / "config" / f"{table}.csv").write_bytes(bundle.table_text(frame).encode("utf-8"))
    return n


def timed(code: str, folder: Path) -> tuple[float, float, str]:
    """Wall and processor seconds of a fresh process, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, env=environment
    )
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


READ = """
from pathlib import Path
from nkinetics import ingest, readers, settings
found = settings.load(Path("config/config.yaml"))
frame, _ = readers.read_exports(ingest.export_paths(found, Path.cwd()), Path.cwd(), found)
print(len(frame))
"""
CHECK = "from nkinetics.cli import main; raise SystemExit(main(['check', '--config', 'config/config.yaml']))"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--copies", type=int, default=9, help="copies of the bundled study (11 exports each)")
    parser.add_argument("--keep", type=Path, help="write the study here and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        n = write(folder, options.copies)
        start = timed("import nkinetics.ingest", folder)
        reading = timed(READ, folder)
        check = timed(CHECK, folder)
        figures = {
            "exports": n,
            "rows": int(reading[2]),
            "start_s": round(start[1], 2),
            "read_wall_s": round(reading[0], 2),
            "read_cpu_s": round(reading[1], 2),
            "check_wall_s": round(check[0], 2),
            "check_cpu_s": round(check[1], 2),
        }
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
