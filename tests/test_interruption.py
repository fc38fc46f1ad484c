"""Killed, disturbed, out of space: afterwards a plain rerun gives the bytes of an undisturbed run."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nkinetics import running

TARGETS = ["results/nca.csv", "results/fits.csv", "results/persistence.csv", "results/tables/topline.csv"]
MODELS = "models: {default: decay, candidates: [decay], band_points: 10}\n"


def study(root: Path, folder: Path) -> Path:
    """Three patients and one model: half a minute of processor for the whole run."""
    shutil.copytree(root / "tests" / "data" / "small", folder)
    with (folder / "config" / "config.yaml").open("a", encoding="utf-8") as handle:
        handle.write(MODELS)
    return folder
