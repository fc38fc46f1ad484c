"""Kill a run at random moments until it is through, again and again: is anything ever wrong, lost or half-written?

``python benchmarks/interruption.py --kills 50`` runs the whole workflow of a small study once undisturbed and then in
chains: start, wait for a random time, SIGKILL, plain start again - no ``--unlock`` - until a start comes to its end;
then the bytes of its results are compared with the undisturbed ones and the next chain begins in an empty folder.
Victims:

tree       snakemake and everything below it, as a power cut or a batch system does
snakemake  the main process alone: its jobs go on without it
shell      the shell of one job
worker     the command of one job, as the kernel does when memory runs out

After every kill each file that stands under a result's name is compared with the undisturbed one: a file that differs
was half-written. Exit status 1 where anything was wrong. Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
VICTIMS = ("tree", "snakemake", "shell", "worker")
MODELS = "models: {default: decay, candidates: [decay], band_points: 10}\n"
AFTER_START = 0.9
"""Share of the kills whose clock begins with the first job, not with the start of snakemake."""
ANSWER_S = 600
"""How long a disturbed snakemake may take to notice."""


def small_study(folder: Path) -> Path:
    """The tests' study of three patients, with one model."""
    shutil.copytree(ROOT / "tests" / "data" / "small", folder)
    with (folder / "config" / "config.yaml").open("a", encoding="utf-8") as handle:
        handle.write(MODELS)
    return folder


def start(folder: Path, targets: list[str]) -> subprocess.Popen[bytes]:
    """A plain run, two cores, in a process group of its own; what it says goes to log.txt."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(ROOT / "profiles" / "default"), "--cores", "2", *targets]
    with (folder / "log.txt").open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        )


def wait_for_first_job(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Starting takes as long as some jobs do: without this half of the kills would hit nothing else."""
    while process.poll() is None and "Select jobs to execute" not in (folder / "log.txt").read_text(errors="replace"):
        time.sleep(0.05)


def results(folder: Path) -> dict[str, bytes]:
    """Every file under a result's name; temporary ones apart."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        if path.is_file() and not path.name.endswith(".part"):
            try:
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
            except FileNotFoundError:  # a job that goes on without snakemake renamed it just now
                continue
    return found


def kill(process: subprocess.Popen[bytes], victim: str, chance: random.Random) -> str:
    """SIGKILL; the victim, which is the tree where no job was at work."""
    try:
        main = psutil.Process(process.pid)
        below = main.children(recursive=True)
        shells = [p for p in below if p.ppid() == main.pid and "nkinetics" in " ".join(p.cmdline())]
        workers = [p for p in below if p.ppid() in {s.pid for s in shells} and "nkinetics" in " ".join(p.cmdline())]
        one_of = {"shell": shells, "worker": workers}.get(victim, [])
        if victim in {"shell", "worker"} and one_of:
            chance.choice(sorted(one_of, key=lambda p: p.pid)).kill()
            return victim
        for one in [main] if victim == "snakemake" else [main, *below]:
            one.kill()
    except psutil.NoSuchProcess:
        pass
    return victim if victim == "snakemake" else "tree"


def at_work(folder: Path) -> str:
    """Rules whose job had begun and not ended, from what snakemake said."""
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    begun = Counter(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", text, flags=re.M))
    begun.subtract(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", text, flags=re.M))
    return "+".join(sorted(name for name, n in begun.items() if n > 0)) or (
        "start" if "Job stats" not in text else "none"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-run", type=float, default=5, help="kills in the time of one undisturbed run")
    parser.add_argument(
        "--targets", nargs="*", default=[], help="files of results/; the report with everything if none"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kills: list[dict[str, str]] = []
    failed = half_written = wrong = completed = 0
    with tempfile.TemporaryDirectory() as scratch:
        reference = small_study(Path(scratch, "reference"))
        begun = time.monotonic()
        if start(reference, options.targets).wait() != 0:
            print((reference / "log.txt").read_text())
            return 1
        undisturbed, expected = time.monotonic() - begun, results(reference)
        begun = time.monotonic()
        while len(kills) < options.kills or (kills and kills[-1]["recovered"] == ""):
            folder = small_study(Path(scratch, f"chain{completed + failed}"))
            while True:
                process = start(folder, options.targets)
                if chance.random() < AFTER_START:
                    wait_for_first_job(process, folder)
                try:
                    last = len(kills) >= options.kills
                    delay = None if last else chance.expovariate(options.per_run / undisturbed)
                    status = process.wait(delay)
                    break
                except subprocess.TimeoutExpired:
                    stage = at_work(folder)
                    victim = kill(process, chance.choice(VICTIMS), chance)
                    process.wait(ANSWER_S)
                    found = results(folder)
                    # A report that a later start called outdated keeps its bytes under the other name.
                    half = [n for n, content in found.items() if expected.get(n.replace(".outdated.", ".")) != content]
                    half_written += len(half)
                    kills.append({"victim": victim, "stage": stage, "recovered": "", "half": " ".join(half)})
                    print(f"{len(kills)} {victim} during {stage} {' '.join(half)}", file=sys.stderr, flush=True)
            made = results(folder)
            differing = [name for name in sorted({*made, *expected}) if made.get(name) != expected.get(name)]
            left = [p.name for p in (folder / "results").rglob("*.part")]
            good = status == 0 and not differing and not left
            if not good:
                print(f"status {status}; differing {differing}; left {left}", (folder / "log.txt").read_text()[-3000:])
            wrong += len(differing) + len(left)
            failed, completed = failed + (not good), completed + good
            for one in kills:
                one["recovered"] = one["recovered"] or ("yes" if good else "no")
            shutil.rmtree(folder)
        took = time.monotonic() - begun
    print("victim     kills  recovered  half-written")
    for victim in VICTIMS:
        own = [k for k in kills if k["victim"] == victim]
        good, half = sum(k["recovered"] == "yes" for k in own), sum(bool(k["half"]) for k in own)
        print(f"{victim:10} {len(own):5} {good:10} {half:13}")
    stages = Counter(name for k in kills for name in k["stage"].split("+"))
    print("rule at work: " + ", ".join(f"{name} {n}" for name, n in sorted(stages.items())))
    recovered = sum(k["recovered"] == "yes" for k in kills)
    print(
        f"{recovered} of {len(kills)} recovered in {completed} completed runs ({failed} failed), {wrong} files wrong, "
        f"{half_written} half-written; undisturbed run {undisturbed:.0f} s, all {took:.0f} s"
    )
    figures = {"kills": len(kills), "recovered": recovered, "wrong": wrong, "half_written": half_written}
    if options.json:
        options.json.write_text(json.dumps({**figures, "failed": failed, "seconds": round(took)}) + "\n")
    return int(recovered < len(kills) or wrong > 0 or half_written > 0 or failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
