"""A command of nkinetics that runs with this folder on PYTHONPATH says at its end what it took.

Python loads a module of this name at each start. One line of JSON per process in the folder NKINETICS_RECORDING:
command, wall and processor seconds (of its children too), peak memory in bytes. Snakemake's own benchmark files look at
a job every half second and, after 15 s, every 30 s: what a job took since the last look is not in them.
"""

import atexit
import json
import os
import resource
import sys
import time

BEGUN = time.monotonic()


def say() -> None:
    """Write the line, if this process is a command of nkinetics."""
    command = sys.argv[:2]
    if len(command) < 2 or os.path.basename(command[0]) != "nkinetics":
        return
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    took = {
        "stage": command[1],
        "s": time.monotonic() - BEGUN,
        "cpu_s": sum(u.ru_utime + u.ru_stime for u in (own, children)),
        "peak_bytes": max(own.ru_maxrss, children.ru_maxrss) * (1 if sys.platform == "darwin" else 1024),
    }
    path = os.path.join(os.environ["NKINETICS_RECORDING"], f"{os.getpid()}.jsonl")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(took) + "\n")


if "NKINETICS_RECORDING" in os.environ:
    atexit.register(say)
