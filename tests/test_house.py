"""The house: one way of imports, fingerprints that cover what a stage really imports, locks that agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from nkinetics import cli, plugins, provenance
from nkinetics.errors import BAD_INPUT


def test_modules_import_one_way(root: Path) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    assert lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


STAGES = (
    "ingest",
    "nca",
    "fit",
    "persistence",
    "statistics",
    "population",
    "predict",
    "gather",
    "table",
    "figure",
    "report",
    "cdisc",
    "conformance",
    "diff",
    "manifest",
    "qualify",
)


@pytest.mark.parametrize("stage", STAGES)
def test_the_fingerprint_covers_every_module_that_a_stage_imports(root: Path, stage: str) -> None:
    """Runs the imports of the stage in a fresh interpreter and compares them with the static list."""
    code = (
        "import ast, sys\n"
        "from nkinetics import provenance\n"
        f"node = ast.parse(provenance._command({stage!r}))\n"
        "for part in ast.walk(node):\n"
        "    if isinstance(part, (ast.Import, ast.ImportFrom)):\n"
        "        exec(compile(ast.Module([part], []), 'stage', 'exec'))\n"
        + {
            "ingest": "from nkinetics import plugins; plugins.discover('readers')\n",
            "table": "from nkinetics import plugins; plugins.discover('tables')\n",
            "cdisc": "from nkinetics import plugins; plugins.discover('cdisc')\n",
        }.get(stage, "")
        + {
            "figure": "from nkinetics import plugins; plugins.discover('figures')\n",
            "fit": "from nkinetics import plugins; plugins.discover('models')\n",
        }.get(stage, "")
        + "print(*sorted(m for m in sys.modules if m.startswith('nkinetics')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    imported = set(run.stdout.split())
    covered = set(provenance.modules(stage)) | {"nkinetics", "nkinetics.provenance"}
    if stage not in {"fit", "population", "predict"}:
        # Settings validate each model's constants: an import that does not change what the stage computes.
        imported = {m for m in imported if not m.startswith("nkinetics.models")}
    assert imported <= covered


def test_an_edited_line_of_a_module_that_a_stage_uses_changes_its_fingerprint_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "nkinetics"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)

    def now() -> str:
        for function in (
            provenance.fingerprint,
            provenance._imports_of_module,
            provenance._commands,
            provenance._source,
        ):
            function.cache_clear()
        return provenance.fingerprint("gather")

    before = now()
    store = copy / "store.py"
    auc = copy / "nca" / "auc.py"
    auc.write_text(auc.read_text() + "\nANOTHER = 1\n")
    assert now() == before, "gather does not use the NCA"
    store.write_text(store.read_text() + "\nANOTHER = 1\n")
    assert now() != before
    monkeypatch.undo()
    now()


def test_both_locks_pin_the_same_versions_with_hashes_and_name_no_host(root: Path) -> None:
    def pins(name: str) -> set[str]:
        text = (root / name).read_text()
        assert "://" not in text
        found = re.findall(r"^(\S+==\S+)", text, flags=re.M)
        assert len(found) > 20
        assert text.count("--hash=sha256:") >= len(found)
        return set(found)

    assert pins("requirements.lock") <= pins("requirements-test.lock")


def test_every_command_of_the_rules_exists(root: Path) -> None:
    text = "".join(p.read_text() for p in sorted((root / "workflow/rules").glob("*.smk")))
    called = set(re.findall(r"^ +\"nkinetics (\w+) ", text, flags=re.M))
    assert called == set(STAGES)
    assert {f"_{name}" for name in called} <= set(vars(cli))


def test_names_of_plug_ins_are_those_discovered() -> None:
    for family in plugins.FAMILIES:
        assert plugins.names(family) == tuple(plugins.discover(family))


def test_a_command_never_writes_over_its_own_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "observations.csv"
    path.write_text("patient_id,time_actual,level,status,lloq\nP1,1,100,quantified,5\n")
    before = path.read_bytes()
    assert cli.main(["nca", "--observations", str(path), "--output", str(path)]) == BAD_INPUT
    assert "the file that --observations reads" in capsys.readouterr().err
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_bad_input_leaves_with_status_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["nca", "--observations", str(tmp_path / "none.csv"), "--output", str(tmp_path / "out.csv")])
    captured = capsys.readouterr()
    assert status == BAD_INPUT
    assert "none.csv" in captured.err and "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []
