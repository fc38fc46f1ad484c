"""The container recipes. No engine runs here: what they name exists, agrees with the README, and installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path


def packages(text: str) -> set[str]:
    """Debian packages of every `apt-get install` of a text."""
    lines = re.findall(r"apt-get install ((?:-\S+ )*)([a-z0-9 .+-]+)", text)
    return {name for _, names in lines for name in names.split()}


def recipe(root: Path, name: str) -> str:
    return (root / "workflow/containers" / name).read_text(encoding="utf-8")


def copied(root: Path) -> dict[str, set[str]]:
    """What each recipe takes from the checkout."""
    docker = re.findall(r"^COPY (.+) \S+$", recipe(root, "Dockerfile"), flags=re.M)
    section = recipe(root, "apptainer.def").split("%files\n")[1].split("\n\n")[0]
    return {
        "Dockerfile": {name for names in docker for name in names.split()},
        "apptainer.def": {line.split()[0] for line in section.splitlines()},
    }


def test_recipes_and_readme_ask_for_the_same_debian_packages(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8").split("## Two commands")[1].split("\n## ")[0]
    assert packages(readme) >= {"make", "python3-venv"}
    assert packages(recipe(root, "Dockerfile")) == packages(recipe(root, "apptainer.def")) == packages(readme)


def test_recipes_take_the_same_files_and_start_the_same_way(root: Path) -> None:
    docker, apptainer = copied(root).values()
    assert docker == apptainer
    assert all((root / name).exists() for name in docker)
    assert "requirements.lock" in docker
    bases = {re.search(r"^(?:FROM|From:) (\S+)$", recipe(root, n), flags=re.M)[1] for n in copied(root)}  # type: ignore[index]
    assert len(bases) == 1
    for name in copied(root):
        assert "make --directory /opt/nkinetics setup" in recipe(root, name)
        assert "/opt/nkinetics/Snakefile" in recipe(root, name)


def test_what_the_recipes_take_is_enough_to_build_the_package_and_plan_a_run(root: Path, tmp_path: Path) -> None:
    taken = tmp_path / "opt"
    taken.mkdir()
    for name in copied(root)["Dockerfile"]:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, taken / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, taken / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--wheel-dir", tmp_path, taken], check=True, capture_output=True)
    assert list(tmp_path.glob("nkinetics-*.whl"))
    study = tmp_path / "study"
    shutil.copytree(root / "tests/data/small", study)
    command = [sys.executable, "-m", "snakemake", "--snakefile", taken / "Snakefile", "--dry-run", "--cores", "1"]
    planned = subprocess.run(command, cwd=study, capture_output=True, text=True)
    assert planned.returncode == 0 and "ingest" in planned.stdout, planned.stdout + planned.stderr
