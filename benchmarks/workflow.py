"""The whole workflow at 9 patients and more: full run, nothing to do, one new result of one patient; stage shares.

``python benchmarks/workflow.py --patients 9 99 999`` writes studies that are the bundled one many times over (plates,
tables and workbooks as the instruments write them; other patients, other noise), runs ``snakemake`` on each with two
cores; every command of nkinetics says what it took (``recording/``). Then the same again with nothing changed, and
after one more plate that holds one late result of one patient.

``--csv FILE`` keeps the figures, ``--plot FILE`` draws them. ``--target results/report.html`` leaves out the PDF;
``--frozen`` keeps the population estimates of the first run (``population.refit: false``) where data change;
``--model decay`` fits one model to each patient instead of three.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from check import copy_of as named_copy
from nkinetics.simulate import bundle, trial
from nkinetics.simulate.design import NCT07366658, Design, Run

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("patients", "samples", "infusions", "cytokines", "events")
PER_BATCH = 25
"""Patients in a batch: one new result then costs a fortieth of the per-patient stages at a thousand patients."""
MOST_BATCHES = 100
"""At each step Snakemake looks at every job that is left: of many more its own work would outgrow theirs."""
PER_PATIENT = ("nca", "fit")
LATE = "D28"
"""Visit whose result of the last patient of the first copy comes with the increment."""


def copy_of(design: Design, number: int) -> Design:
    """The copy of check.py without the refused run, whose repeat then holds every sample of its patients."""
    copy = named_copy(design, f"{number:04d}-")
    return replace(copy, runs=tuple(replace(r, without=()) for r in copy.runs if "Q03" not in r.name))


def write_exports(folder: Path, exports: dict[str, bytes]) -> None:
    """Exports where the configuration looks for them."""
    for name, content in exports.items():
        path = folder / "data" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write(folder: Path, patients: int, settings: str = "", model: str | None = None) -> dict[str, bytes]:
    """Write a study of so many patients (a multiple of nine); the export that comes late."""
    design, frames, late = NCT07366658, [], {}
    for number in range(patients // len(design.patients)):
        copy = copy_of(design, number)
        if not number:
            whose = copy.patients[-1].patient_id
            sample = f"{whose}-{LATE}"
            extra = Run("LATE", "2026-10-30T12:00:00", "xlsx", (), -3.34, 38.3, also=(sample,))
            later = trial.study(1, replace(copy, runs=(extra,), ddpcr_patients=(), flow_visits=()))
            late = later.exports
            copy = replace(copy, runs=tuple(replace(r, without=(*r.without, sample)) for r in copy.runs))
        made = trial.study(1, copy)
        write_exports(folder, dict(made.exports))
        frames.append({table: getattr(made, table) for table in TABLES})
    (folder / "config").mkdir()
    batches = max(2, min(MOST_BATCHES, math.ceil(patients / PER_BATCH)))
    text = bundle.config(design, 1)
    text = re.sub(r"(?m)^batches: \d+", f"batches: {batches}", text) + settings
    if model:
        text = re.sub(r"(?m)^  default: \w+", f"  default: {model}", text)
        text = re.sub(r"(?m)^  candidates: .*", f"  candidates: [{model}]", text)
    (folder / "config" / "config.yaml").write_text(text, encoding="utf-8")
    for table in TABLES:
        frame = pd.concat([one[table] for one in frames], ignore_index=True)
        (folder / "config" / f"{table}.csv").write_bytes(bundle.table_text(frame).encode("utf-8"))
    return dict(late)


def run(folder: Path, targets: Sequence[str], cores: int) -> tuple[dict[str, float], pd.DataFrame]:
    """One ``snakemake``: wall and processor seconds with all its jobs, largest process, jobs; what every job took."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(ROOT / "profiles" / "default"), "--cores", str(cores), *targets]
    with tempfile.TemporaryDirectory() as said, (folder / "log.txt").open("wb") as log:
        paths = os.pathsep.join(str(path) for path in (ROOT / "workflow", ROOT / "benchmarks" / "recording"))
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": paths, "NKINETICS_RECORDING": said},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"snakemake ended with {process.returncode}:\n" + (folder / "log.txt").read_text()[-4000:])
        jobs = stages(Path(said))
    figures = {
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        # Of snakemake and of every job, children that were waited for included.
        "peak_mb": used.ru_maxrss / 1024,
        "jobs": float(len(jobs)),
    }
    return figures, jobs


def stages(said: Path) -> pd.DataFrame:
    """What every job took: rows of stage, s, cpu_s, peak_bytes."""
    rows = [json.loads(line) for path in sorted(said.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return pd.DataFrame(rows, columns=["stage", "s", "cpu_s", "peak_bytes"])


def by_stage(jobs: pd.DataFrame, column: str = "cpu_s") -> dict[str, float]:
    """Sums of a column by stage."""
    return {str(k): float(v) for k, v in jobs.groupby("stage")[column].sum().items()}


def measured(folder: Path, patients: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one size: full, nothing to do, one new result."""
    settings = "\npopulation: {refit: false}\n" if options.frozen else ""
    late = write(folder, patients, settings, options.model)
    rows = []
    for what in ("full", "nothing", "increment"):
        if what == "increment":
            write_exports(folder, late)
        figures, jobs = run(folder, options.target, options.cores)
        took = by_stage(jobs)
        row = {
            "patients": patients,
            "what": what,
            **{k: round(v, 1) for k, v in figures.items()},
            "per_patient_stages_s": round(sum(took.get(stage, 0.0) for stage in PER_PATIENT), 1),
            "report_mb": round(sum(p.stat().st_size for p in (folder / "results").glob("report.html")) / 1e6, 2),
            "results_mb": round(sum(p.stat().st_size for p in (folder / "results").rglob("*") if p.is_file()) / 1e6, 1),
            "stages": json.dumps({k: round(v, 1) for k, v in sorted(took.items())}),
            "stage_peaks_mb": json.dumps(
                {str(k): round(v / 2**20) for k, v in jobs.groupby("stage")["peak_bytes"].max().items()}
            ),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def plot(frame: pd.DataFrame, path: Path) -> None:
    """Seconds and bytes per patient against patients, and where the time goes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    full = frame[frame["what"] == "full"].sort_values("patients")
    figure, (first, second) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for what, own in frame.groupby("what", sort=False):
        first.loglog(own["patients"], own["wall_s"], marker="o", label=f"{what}, wall [s]")
    first.loglog(
        full["patients"], full["cpu_s"] / full["patients"], marker="s", ls="--", label="full, CPU per patient [s]"
    )
    first.set_xlabel("patients")
    first.legend(fontsize=8)
    parts = pd.DataFrame([json.loads(s) for s in full["stages"]], index=full["patients"]).fillna(0.0)
    parts = parts.div(parts.sum(axis=1), axis=0)
    large = parts.max().nlargest(8).index
    parts = parts[large].assign(others=1 - parts[large].sum(axis=1))
    left = pd.Series(0.0, index=parts.index)
    for stage in parts:
        second.barh([str(n) for n in parts.index], parts[stage], left=left, label=stage)
        left += parts[stage]
    second.set_xlabel("share of processor time")
    second.set_ylabel("patients")
    second.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--patients", type=int, nargs="+", default=[9, 99, 999], help="multiples of nine")
    parser.add_argument("--target", nargs="*", default=[], help="targets of snakemake; none = everything")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--frozen", action="store_true", help="population.refit: false")
    parser.add_argument("--model", help="the only model of a patient")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", type=Path, help="write the studies here and leave them")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for patients in options.patients:
            if patients % len(NCT07366658.patients):
                parser.error(f"--patients {patients}: a multiple of nine, as {9 * max(1, round(patients / 9))}")
            folder = (options.keep or Path(scratch)) / str(patients)
            folder.mkdir(parents=True)
            rows += measured(folder, patients, options)
    frame = pd.DataFrame(rows)
    if options.csv:
        frame.to_csv(options.csv, index=False)
    if options.plot:
        plot(frame, options.plot)


if __name__ == "__main__":
    main()
