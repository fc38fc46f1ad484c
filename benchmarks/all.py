"""Every benchmark in one go: a table of the main job with its plot, and the yardsticks of the stages.

``python benchmarks/all.py`` writes benchmarks/last/: machine.json (processor, memory, versions; no name of machine or
user), workflow.csv and workflow.svg, and what each yardstick printed as <name>.txt. ``--patients`` sets the sizes of
the main job, ``--only`` some of the yardsticks, ``--shared`` a folder with further exports for the readers.

Machines are shared and noisy: figures are compared within one run, as ratios, never with a run of another day.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
from nkinetics import __version__, provenance

HERE = Path(__file__).resolve().parent
LAST = HERE / "last"
YARDSTICKS = {
    "readers": ("readers.py",),
    "check": ("check.py",),
    "nca": ("nca.py",),
    "models": ("fit.py", "--analyse"),
    "bootstrap": ("bootstrap.py",),
    "population": ("population.py",),
}
"""Ingest (readers and the whole check), NCA, models, population: name and command."""


def machine() -> dict[str, object]:
    """What the figures depend on, without a name."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "versions": provenance.versions(__version__),
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def run(name: str, arguments: list[str]) -> bool:
    """One benchmark; its print goes to the terminal and to a file. Whether it came to its end."""
    print(f"== {name}: {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "workflow")}
    begun = time.perf_counter()
    command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        said.append(line)
    status = process.wait()
    said.append(f"\n{time.perf_counter() - begun:.0f} s in all, exit status {status}\n")
    (LAST / f"{name}.txt").write_text("".join(said), encoding="utf-8")
    return status == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--patients", type=int, nargs="*", default=[9, 99, 999], help="sizes of the main job; none = skip"
    )
    parser.add_argument("--only", nargs="*", choices=sorted(YARDSTICKS), help="these yardsticks alone; none = skip")
    parser.add_argument("--shared", type=Path, help="folder with further exports for the readers")
    options = parser.parse_args()
    LAST.mkdir(exist_ok=True)
    (LAST / "machine.json").write_text(json.dumps(machine(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    wrong = []
    for name in YARDSTICKS if options.only is None else options.only:
        more = ["--shared", str(options.shared)] if name == "readers" and options.shared else []
        wrong += [] if run(name, [*YARDSTICKS[name], *more]) else [name]
    if options.patients:
        kept = ["--csv", str(LAST / "workflow.csv"), "--plot", str(LAST / "workflow.svg")]
        sizes = [str(n) for n in options.patients]
        # From the exports to the page; the population is estimated once and kept, as large studies do.
        kept += ["--frozen", "--target", "results/report.html"]
        wrong += [] if run("workflow", ["workflow.py", "--patients", *sizes, *kept]) else ["workflow"]
    if wrong:
        print(f"did not come to their end: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
