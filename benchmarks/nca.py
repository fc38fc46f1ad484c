"""Non-compartmental analysis: processor seconds for many profiles, growth, memory, and the command with its files.

Profiles of 11 samples with an LLOQ of each sample's own, a fifth of them below it. ``evaluate`` is arrays in, arrays
out; ``analyse`` is the long table with a reason for every missing number; ``nkinetics nca`` reads and writes CSV, and
stands beside pandas' to_csv of the same table in the same run.

``python benchmarks/nca.py`` takes about a minute; ``--growth`` goes on to a million profiles; ``--openpkflow PYTHON``
names an interpreter that has the package of that name, for a yardstick in the same run.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from nkinetics import nca
from nkinetics.columns import NCA
from nkinetics.settings import Nca

ROOT = Path(__file__).resolve().parents[1]
TIMES = np.array([0, 0.04, 1, 3, 7, 10, 14, 21, 28, 56, 84.0])
THREE = Nca(windows=((0.0, 28.0),))
FIVE = Nca(windows=((0.0, 7.0), (0.0, 28.0), (0.0, 84.0)))
OPENPKFLOW = """
import json, sys, time, numpy as np, pandas as pd
from openpkflow.nca import NCAStudy
frame = pd.read_csv(sys.argv[1]).assign(dose=1.0, route="iv_bolus")
n = int(sys.argv[2])
best = []
for _ in range(3):
    at = time.process_time()
    NCAStudy(frame, auc_method="linear_up_log_down", blq_method="zero").analyze()
    best.append(time.process_time() - at)
print(json.dumps(1e6 * min(best) / n))
"""


def samples(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Profile, time, level and LLOQ of each sample of n profiles."""
    rng = np.random.default_rng(seed)
    size = len(TIMES)
    scale, rate = np.exp(rng.normal(8, 1, (n, 1))), np.exp(rng.normal(-1.6, 0.3, (n, 1)))
    level = scale * np.exp(-rate * TIMES + rng.normal(0, 0.4, (n, size)))
    lloq = rng.choice([50.0, 100.0, 200.0], (n, size))
    return np.repeat(np.arange(n), size), np.tile(TIMES, n), level.ravel(), lloq.ravel()


def observations(n: int) -> pd.DataFrame:
    """The same as a table that a user would bring."""
    profile, clock, level, lloq = samples(n)
    names = np.array([f"P{i:07d}" for i in range(n)], dtype=object)
    below = level < lloq
    return pd.DataFrame(
        {
            "patient_id": pd.Series(names[profile], dtype="str"),
            "time_actual": clock,
            "level": np.where(below, np.nan, level),
            "status": pd.Series(np.where(below, "blq", "quantified").astype(object), dtype="str"),
            "lloq": lloq,
        }
    )


def cpu(action: Callable[[], object], repeats: int = 5) -> float:
    """Least processor time of one call after a first one."""
    action()
    times = []
    for _ in range(repeats):
        at = time.process_time()
        action()
        times.append(time.process_time() - at)
    return min(times)


def child(arguments: list[str], folder: Path) -> float:
    """Processor seconds of a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    subprocess.run(arguments, cwd=folder, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def growth(n: int) -> dict[str, float]:
    """A fresh process that works through n profiles block by block and keeps nothing; seconds and peak memory."""
    code = (
        "import sys, time, json; sys.path.insert(0, sys.argv[1]); import nca as b; from nkinetics import nca\n"
        "n = int(sys.argv[2]); rows = 0; observed = b.observations(n)\n"
        "base = b.peak_mb(); at = time.process_time()\n"
        "for numbers, points in nca.in_blocks(observed, settings=b.THREE): rows += len(numbers)\n"
        "used = time.process_time() - at\n"
        "print(json.dumps({'profiles': n, 'rows': rows, 'cpu_s': round(used, 2), 'us_per_profile':\n"
        "    round(1e6 * used / n, 1), 'input_mb': round(base), 'peak_mb': round(b.peak_mb())}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    arguments = [sys.executable, "-c", code, str(ROOT / "benchmarks"), str(n)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


def peak_mb() -> float:
    """Highest resident memory of this process so far; that of the one that started it does not count."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--profiles", type=int, default=10_000)
    parser.add_argument("--growth", action="store_true", help="up to a million profiles")
    parser.add_argument("--openpkflow", metavar="PYTHON", help="interpreter that has openpkflow")
    options = parser.parse_args()
    n = options.profiles
    arrays, table = samples(n), observations(n)
    print(f"{n} profiles of {len(TIMES)} samples, {len(nca.PARAMETERS)} parameters; processor seconds, least of 5")
    for name, settings in (("3 windows", THREE), ("5 windows", FIVE)):
        print(f"  evaluate, {name:34}{cpu(lambda s=settings: nca.evaluate(*arrays, settings=s)):8.3f}")  # type: ignore[misc]
        print(f"  analyse, {name:35}{cpu(lambda s=settings: nca.analyse(table, settings=s)):8.3f}")  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table.to_csv(folder / "observations.csv", index=False)
        command = [sys.executable, "-m", "nkinetics", "nca", "--observations", "observations.csv"]
        settings_text = json.dumps({"windows": [list(w) for w in THREE.windows]})
        ours = child([*command, "--settings", settings_text, "--output", "nca.csv"], folder)
        made = nca.analyse(table, settings=THREE)
        theirs = cpu(lambda: made.to_csv(folder / "pandas.csv", index=False), 2)
        print(f"  nkinetics nca, {len(made)} rows of {len(NCA.columns)} columns{'':6}{ours:8.2f}")
        print(f"  pandas to_csv of the same table            {theirs:8.2f}   ratio {ours / theirs:.2f}")
        if options.openpkflow:
            few = 200
            frame = table[table["patient_id"] < f"P{few:07d}"].rename(
                columns={"patient_id": "subject", "time_actual": "time", "level": "conc"}
            )
            frame.fillna({"conc": 0.0}).to_csv(folder / "few.csv", index=False)
            arguments = [options.openpkflow, "-c", OPENPKFLOW, str(folder / "few.csv"), str(few)]
            done = subprocess.run(arguments, check=True, capture_output=True, text=True)
            yardstick = float(done.stdout)
            own = 1e6 * cpu(lambda: nca.evaluate(*arrays, settings=THREE)) / n
            print(f"  openpkflow, one window: {yardstick:.0f} us a profile; evaluate, 3 windows: {own:.1f} us")
    if options.growth:
        for size in (1_000, 10_000, 100_000, 1_000_000):
            print("  in_blocks, 3 windows:", json.dumps(growth(size)))


if __name__ == "__main__":
    main()
