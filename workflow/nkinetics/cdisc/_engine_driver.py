"""Runs in another interpreter (Python 3.12 with cdisc-rules-engine): rules over transport files, findings as JSON.

    python _engine_driver.py RULES.json FOLDER [RULE ...]

Imports nothing of NKinetics, which that environment does not have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

SECONDS = 60
"""Time that one rule may take; some never end on data sets of thousands of records."""


class NotFinishedError(BaseException):
    """A rule took too long; no Exception, so that the engine does not take it for one of its own."""


def _stop(number: int, frame: object) -> None:
    raise NotFinishedError


def validated(rules: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """One row per rule and data set: status (findings, passed, skipped, error), message, number, first finding."""
    from cdisc_rules_engine.config import config
    from cdisc_rules_engine.models.library_metadata_container import LibraryMetadataContainer
    from cdisc_rules_engine.rules_engine import RulesEngine
    from cdisc_rules_engine.services.cache import InMemoryCacheService

    # The public wheel ships no library metadata and no terminology: rules that need them report an execution error.
    paths = [str(p) for p in sorted(folder.glob("*.xpt"))]
    engine = RulesEngine(
        cache=InMemoryCacheService(),
        config_obj=config,
        standard="sdtmig",
        standard_version="3.4",
        library_metadata=LibraryMetadataContainer(),
        dataset_paths=paths,
        max_dataset_size=1_000_000_000,
        define_xml_path=str(folder / "define.xml"),
    )
    rows = []
    for rule in rules:
        signal.alarm(SECONDS)
        try:
            found = engine.validate_single_rule(rule)
        except NotFinishedError:
            rows.append(_row(rule, "", "error", f"not finished in {SECONDS} s", 0, ""))
            continue
        except Exception as error:
            rows.append(_row(rule, "", "error", f"{type(error).__name__}: {error}", 0, ""))
            continue
        finally:
            signal.alarm(0)
        for dataset, results in found.items():
            for result in results:
                rows.append(_told(rule, str(dataset), result))
    return rows


def _told(rule: dict[str, Any], dataset: str, result: dict[str, Any]) -> dict[str, Any]:
    errors = result.get("errors") or []
    status = {"success": "passed", "skipped": "skipped"}.get(str(result.get("executionStatus")), "error")
    message = str(result.get("message") or rule.get("description") or "")
    if status == "skipped":
        return _row(rule, dataset, status, str(errors[0].get("message", "")) if errors else message, 0, "")
    if errors and not errors[0].get("error"):
        value = json.dumps(errors[0].get("value"), sort_keys=True, default=str)
        return _row(rule, dataset, "findings", message, len(errors), value)
    if errors and errors[0].get("error"):
        # An execution error: the engine lacked something, mostly library metadata.
        return _row(rule, dataset, "error", f"{errors[0]['error']}: {errors[0].get('message', '')}", 0, "")
    return _row(rule, dataset, status, "" if status == "passed" else message, 0, "")


def _row(rule: dict[str, Any], dataset: str, status: str, message: str, n: int, example: str) -> dict[str, Any]:
    identifiers = sorted(
        {
            str(reference["Rule_Identifier"]["Id"])
            for group in rule.get("reference") or []
            for reference in group
            if "Rule_Identifier" in reference
        }
    )
    return {
        "rule": str(rule.get("core_id")),
        "references": " ".join(identifiers),
        "dataset": dataset,
        "status": status,
        "records": n,
        "message": " ".join(message.split()),
        "example": example,
    }


def main() -> int:
    """Read the rules, run them over the folder, print the rows."""
    rules = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    wanted = set(sys.argv[3:])
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _stop)
    # Progress of the engine's libraries must not mix with the answer.
    with open(os.devnull, "w") as silent, contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        rows = validated([r for r in rules if not wanted or r["core_id"] in wanted], Path(sys.argv[2]))
    json.dump(rows, sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
