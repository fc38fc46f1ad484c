"""The bundled study on a real SLURM: one node on loopback, every job through sbatch (tests/slurm_local)."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.long

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
QUICK = {
    "models": {"default": "decay", "candidates": ["decay"], "band_points": 10, "profile_points": 5},
    "population": {"method": "saem", "seeds": 1},
    "report": {"pdf": False, "rtf": False},
}
"""One model, one run of SAEM, no paper: the other rules and files in a quarter of the time."""


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[None]:
    """SLURM, started and stopped; skipped without root or Debian's packages, unless it is required."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if os.geteuid() != 0 or missing:
        reason = "needs root and the Debian packages slurmctld, slurmd, slurm-client, munge"
        if os.environ.get("NKINETICS_REQUIRE_SLURM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not a folder of pytest's: munge has a user of its own, who must reach it.
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run([root / "tests/slurm_local", "start", folder], check=True, env={**os.environ, "PATH": path})
            yield
        finally:
            subprocess.run([root / "tests/slurm_local", "stop", folder], check=True)


def started(root: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Snakemake in the study folder; what it says goes to log.txt."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen([*command, *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=root)


def run(root: Path, folder: Path, *arguments: str) -> str:
    status = started(root, folder, *arguments).wait()
    said = (folder / "log.txt").read_text()
    assert status == 0, said
    return said


def until(condition: object, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def bundled_study(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "config", folder / "config")
    shutil.copytree(root / "data", folder / "data")
    path = folder / "config/config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text(encoding="utf-8")), **QUICK}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def local(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results of a run without any scheduler."""
    folder = bundled_study(root, tmp_path_factory.mktemp("local"))
    run(root, folder, "--workflow-profile", str(root / "profiles/default"), "--cores", "2")
    return tree(folder / "results")


@pytest.fixture(scope="module")
def finished(root: Path, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run whole through sbatch."""
    folder = bundled_study(root, tmp_path_factory.mktemp("slurm"))
    run(root, folder, "--workflow-profile", "slurm")
    return folder


def test_every_byte_equals_the_local_run(finished: Path, local: dict[str, bytes]) -> None:
    made = tree(finished / "results")
    assert sorted(made) == sorted(local)
    assert [name for name in made if made[name] != local[name]] == []


def test_short_rules_share_a_job_and_no_job_asks_for_more_than_its_profile_allows(root: Path, finished: Path) -> None:
    said = (finished / "log.txt").read_text()
    rules = sum(int(n) for n in re.findall(r"^(?!total|all)\w+ +(\d+)$", said.split("Select jobs")[0], flags=re.M))
    jobs = set(re.findall(r"SLURM jobid (\d+)", said))
    assert rules >= 15 and len(jobs) <= rules / 2
    asked = dict(line.split() for line in ask("squeue", "-h", "-t", "all", "-o", "%i %C").splitlines())
    allowed = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())["cores"]
    assert jobs <= asked.keys()
    assert all(int(asked[job]) <= allowed for job in jobs)


def test_a_killed_job_and_a_drained_node_cost_nothing_but_time(
    root: Path, finished: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    folder, node = tmp_path / "study", platform.node().split(".")[0]
    shutil.copytree(finished, folder, symlinks=True)
    begun = [folder / f"logs/nca/{batch}.log" for batch in ("00", "01")]
    for path in begun:
        path.unlink()
    process = started(root, folder, "--workflow-profile", "slurm", "--forcerun", "nca")
    job = "%i"
    until(lambda: any(path.exists() for path in begun) or process.poll() is not None)
    for line in ask("squeue", "-h", "-t", "R", "-o", f"{job} %k").splitlines():
        ask("scancel", line.split()[0])
    assert process.wait(600) != 0, "a job that was killed is a failed run"
    assert len([*(folder / "results/parts").rglob("nca.csv")]) < 2, "what the killed job was to make is gone"
    assert not (folder / "results/report.html").exists(), "no old report passes for the new one"

    ask("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    process = started(root, folder, "--workflow-profile", "slurm")
    until(lambda: ask("squeue", "-h", "-t", "PD", "-o", job) != "")
    time.sleep(2)
    assert ask("squeue", "-h", "-t", "R", "-o", job) == "", "a drained node takes no job"
    assert process.poll() is None
    ask("scontrol", "update", f"nodename={node}", "state=resume")
    assert process.wait(1800) == 0, (folder / "log.txt").read_text()
    assert tree(folder / "results") == local


def test_a_scheduler_without_a_plug_in_goes_by_three_scripts(
    root: Path, finished: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True)
    made = "results/dose_proportionality.csv"
    (folder / made).unlink()
    said = run(root, folder, "--workflow-profile", "cluster-generic", made)
    number = re.findall(r"external jobid '(\d+)'", said)
    assert len(number) == 1
    assert ask("squeue", "-h", "-t", "all", "-j", number[0], "-o", "%T %j") == "COMPLETED nkinetics"
    assert tree(folder / "results") == local
