"""Killed, disturbed, out of space: afterwards a plain rerun gives the bytes of an undisturbed run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nkinetics import cli, ingest, running, settings
from nkinetics.errors import BAD_INPUT, InputError

TARGETS = ("results/nca.csv", "results/fits.csv", "results/persistence.csv", "results/dose_proportionality.csv")
"""From the exports to the statistics without population, figures and report: eleven jobs of a second or two."""
SNAKEMAKE_S = 300


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def study_copy(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "tests" / "data" / "small", folder, dirs_exist_ok=True)
    with (folder / "config" / "config.yaml").open("a", encoding="utf-8") as handle:
        handle.write("models: {default: decay, candidates: [decay], band_points: 10}\n")
        handle.write("report: {pdf: false, rtf: false}\n")
    return folder


def started(root: Path, folder: Path, *targets: str, log: str = "log.txt") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(root / "profiles/default"), "--cores", "2", *targets]
    with (folder / log).open("wb") as handle:
        return subprocess.Popen(command, stdout=handle, stderr=subprocess.STDOUT, cwd=root)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.long
def test_runs_killed_at_random_moments_end_with_the_bytes_of_an_undisturbed_one(root: Path, tmp_path: Path) -> None:
    """Three kills; the fifty of the whole run stand in benchmarks/README.md."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(root / "benchmarks/interruption.py"), "--kills", "3", "--per-run", "3"]
    done = subprocess.run([*command, "--json", str(figures), "--targets", *TARGETS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["kills"] == found["recovered"] == 3
    assert found["wrong"] == found["half_written"] == found["failed"] == 0


@pytest.mark.long
def test_of_two_runs_at_once_the_second_stops_and_the_first_ends_well(root: Path, tmp_path: Path) -> None:
    folder = study_copy(root, tmp_path / "study")
    first = started(root, folder, "results/nca.csv")
    until(lambda: any((folder / ".snakemake/locks").glob("*.lock")))
    second = started(root, folder, "results/nca.csv", log="second.txt")
    assert second.wait(SNAKEMAKE_S) != 0
    said = (folder / "second.txt").read_text()
    assert "Another snakemake works in this folder" in said and "Directory cannot be locked" in said
    assert first.wait(SNAKEMAKE_S) == 0, (folder / "log.txt").read_text()
    assert (folder / "results/nca.csv").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A study folder whose results lie on a disk of their own, which is full at once."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small disk")
    folder = tmp_path / "study"
    (folder / "results").mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "none", folder / "results"], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder / "results"], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder / "results"], check=True)


@pytest.mark.long
def test_a_full_or_read_only_disk_is_named_and_a_rerun_with_room_completes(root: Path, small_disk: Path) -> None:
    study_copy(root, small_disk)
    assert started(root, small_disk, "results/nca.csv").wait(SNAKEMAKE_S) != 0
    assert "No space left on device" in (small_disk / "log.txt").read_text()
    # What stands there is whole: its last line ends. (nca.csv alone is larger than the disk.)
    for path in (small_disk / "results").rglob("*.csv"):
        assert path.read_text().endswith("\n"), path
    remount(small_disk, "size=8m,ro")
    assert started(root, small_disk, "results/nca.csv").wait(SNAKEMAKE_S) != 0
    assert "Read-only file system" in (small_disk / "log.txt").read_text()
    remount(small_disk, "rw")
    assert started(root, small_disk, "results/nca.csv").wait(SNAKEMAKE_S) == 0, (small_disk / "log.txt").read_text()

    undisturbed = study_copy(root, small_disk.parent / "undisturbed")
    assert started(root, undisturbed, "results/nca.csv").wait(SNAKEMAKE_S) == 0
    assert tree(small_disk / "results") == tree(undisturbed / "results")


def test_a_file_that_changes_while_it_is_read_is_refused_by_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when an export is still being copied: read in part, and older than the results that it gave."""
    folder = study_copy(root, tmp_path / "study")
    monkeypatch.chdir(folder)
    export, stop = folder / "data/raw/run01.txt", threading.Event()

    def copying() -> None:
        n = 0
        while not stop.wait(0.005):
            n += 1
            os.utime(export, ns=(n, n))

    thread = threading.Thread(target=copying)
    thread.start()
    try:
        status = cli.main(["ingest", "--config", "config/config.yaml", "--output-dir", "results"])
    finally:
        stop.set()
        thread.join()
    assert status == BAD_INPUT
    assert "data/raw/run01.txt: found a change while it was read" in capsys.readouterr().err
    assert cli.main(["ingest", "--config", "config/config.yaml", "--output-dir", "results"]) == 0


def test_files_added_and_taken_away_while_others_are_read_are_named(root: Path, tmp_path: Path) -> None:
    folder = study_copy(root, tmp_path / "study")
    choices = settings.load(folder / "config/config.yaml")
    before = ingest.input_states(choices, folder)
    ingest.raise_if_changed(before, choices, folder)
    (folder / "data/raw/late.txt").write_text("")
    (folder / "config/events.csv").unlink()
    with pytest.raises(InputError) as refused:
        ingest.raise_if_changed(before, choices, folder)
    assert [p.file for p in refused.value.problems] == ["config/events.csv", "data/raw/late.txt"]


def locked(folder: Path) -> Path:
    """A folder with the lock of a run in it."""
    lock = folder / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("data/raw/run01.txt\n")
    return lock


def test_a_lock_is_removed_where_its_run_is_dead_and_stays_where_it_lives(tmp_path: Path) -> None:
    said: list[str] = []
    held = running.enter(tmp_path, said.append, host="a")
    assert held is not None and said == []
    lock = locked(tmp_path)
    # As long as the first start lives:
    other = running.enter(tmp_path, said.append, host="a")
    assert lock.exists() and "Another snakemake works in this folder" in said.pop()
    assert other is not None
    other.close()
    held.close()
    # It is dead now:
    again = running.enter(tmp_path, said.append, host="a")
    assert not lock.exists() and "interrupted" in said.pop()
    assert again is not None
    again.close()


def test_a_lock_that_another_machine_left_is_not_ours_to_remove(tmp_path: Path) -> None:
    """Not every network file system shows one machine the kernel's locks of another."""
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        first = running.enter(tmp_path, said.append, host="a")
        assert first is not None
        stack.enter_context(first)
    lock = locked(tmp_path)
    for _ in range(2):
        held = running.enter(tmp_path, said.append, host="b")
        assert held is not None
        held.close()
        assert lock.exists() and "A run on a locked this folder" in said.pop()


def test_jobs_of_a_killed_run_are_waited_for_and_what_they_left_half_done_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "results/parts").mkdir(parents=True)
    half = tmp_path / "results/parts/.nca.csv.x1.part"
    script = f"exec 9>>.snakemake/{running.JOBS}; flock -s 9; echo begun; sleep 0.5; echo half > {half}"
    job = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert job.stdout is not None and job.stdout.readline() == b"begun\n"
    said: list[str] = []
    running.wait_for_jobs(tmp_path, said.append)
    assert job.wait() == 0 and job.stdout.close() is None
    assert len(said) == 1 and "still at work" in said[0]
    assert not half.exists()
    running.wait_for_jobs(tmp_path, said.append)
    assert len(said) == 1, "nobody to wait for"
    with (tmp_path / ".snakemake" / running.JOBS).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_command_ends_with_the_shell_that_started_it(tmp_path: Path) -> None:
    code = "import time; from nkinetics import running; running.end_with_shell(); print(1, flush=True); time.sleep(60)"
    environment = {**os.environ, running.WITH_SHELL: "1"}
    shell = subprocess.Popen(
        ["bash", "-c", '"$0" -c "$1"; true', sys.executable, code], stdout=subprocess.PIPE, env=environment
    )
    assert shell.stdout is not None and shell.stdout.readline() == b"1\n"
    os.kill(shell.pid, signal.SIGKILL)
    # The pipe ends when the last process that holds it has ended.
    begun = time.monotonic()
    assert shell.stdout.read() == b"" and time.monotonic() - begun < 30
    assert shell.wait() == -signal.SIGKILL and shell.stdout.close() is None
