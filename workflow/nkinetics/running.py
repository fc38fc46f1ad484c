"""One run at a time in a study folder, and a plain rerun after an interrupted one.

Snakemake locks a folder with files. They outlive a run that was killed, and every later start then stops with
"Directory cannot be locked" until somebody types ``--unlock``. The kernel's locks end with the process that holds them,
however it ends: where nobody holds ours, Snakemake's are left over and can go.

Two files under ``.snakemake``: every start of snakemake holds `RUN`, every job's shell holds `JOBS` (``shell.prefix``
in common.smk), so that jobs that outlive a killed run are waited for before their files are made again.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks: there Snakemake's own message stands, and its --unlock
    fcntl = None  # type: ignore[assignment]

RUN, JOBS = "run.flock", "jobs.flock"

WITH_SHELL = "NKINETICS_ENDS_WITH_ITS_SHELL"
"""Environment variable that the rules set for their commands."""


def _is_free(handle: IO[str]) -> bool:
    """Whether nobody else holds the file; if so it is now held alone."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def enter(folder: Path, say: Callable[[str], None], host: str | None = None) -> IO[str] | None:
    """Hold the folder's run file, and remove the lock that an interrupted run left in `.snakemake/locks`.

    Parameters
    ----------
    folder : Path
        Where snakemake works.
    say : callable
        Takes one line for the user.
    host : str, optional
        Name of this machine. A lock that another machine left is never removed: not every network file system carries
        the kernel's locks from one machine to another.

    Returns
    -------
    file or None
        To be kept open as long as the run lasts; None where the folder or the system allows no locks.
    """
    host = host or platform.node()
    place = folder / ".snakemake"
    if fcntl is None:
        return None
    try:
        place.mkdir(exist_ok=True)
        handle = (place / RUN).open("a+", encoding="utf-8")
    except OSError:
        return None
    left = any((place / "locks").glob("*.lock"))
    try:
        if _is_free(handle):
            handle.seek(0)
            before = handle.read().strip()
            if left and before == host:
                shutil.rmtree(place / "locks")
                left = False
                say("The last run in this folder was interrupted; what it left unfinished is made again.")
            elif left:
                say(
                    f"A run on {before or 'another machine'} locked this folder. Where it no longer runs: "
                    "snakemake --unlock"
                )
            if not left and before != host:
                handle.truncate(0)
                handle.write(host)
                handle.flush()
        elif left:
            say("Another snakemake works in this folder: wait for its end. Do not type --unlock while it works.")
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:
        # A file system without locks.
        handle.close()
        return None
    return handle


def end_with_shell() -> None:
    """Ask Linux to end this process when the shell that started it is killed.

    A rule's command that went on alone would write its result after Snakemake had given the job up and cleaned up
    behind it: a file of which nobody knows what made it.
    """
    if WITH_SHELL in os.environ and sys.platform == "linux":
        import ctypes

        shell = os.getppid()
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != shell:
            sys.exit(1)


def wait_for_jobs(folder: Path, say: Callable[[str], None]) -> None:
    """Return once no job of an interrupted run is at work any more: it would write beside the jobs of this one.

    What such jobs began and did not finish (`nkinetics.store.replacing`) is then removed from `results`.
    """
    if fcntl is None:
        return
    try:
        with (folder / ".snakemake" / JOBS).open("a", encoding="utf-8") as handle:
            if not _is_free(handle):
                say("Jobs of an interrupted run are still at work; waiting for their end.")
                fcntl.flock(handle, fcntl.LOCK_EX)
            for path in sorted((folder / "results").rglob(".*.part")):
                path.unlink(missing_ok=True)
    except OSError:
        return
