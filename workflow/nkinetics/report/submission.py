"""The report's section on the CDISC package: what it holds, what the checks found, from the package's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nkinetics.settings import Settings
from nkinetics.store import read_text_frame


def submission(folder: Path, settings: Settings, s: Mapping[str, Any]) -> dict[str, Any] | None:
    """Data sets and findings of the package in a folder of results; None where the report is to have no such section.

    Parameters
    ----------
    folder : Path
        Folder of results; the package stands in its sub-folder cdisc/.
    settings : Settings
        The configuration; ``cdisc.in_report`` asks for the section.
    s : mapping
        The page's words.
    """
    if not settings.cdisc.in_report:
        return None
    paths = [folder / "cdisc" / name for name in ("contents.csv", "checks.csv")]
    if not all(path.is_file() for path in paths):
        return {"said": s["cdisc_none"], "datasets": [], "notes": []}
    contents, checks = (read_text_frame(path)[0] for path in paths)
    found = checks[checks["result"] != "passed"]
    errors = int((checks["result"] == "error").sum())
    said = s["cdisc_said"].format(
        datasets=len(contents),
        variables=sum(int(n) for n in contents["variables"]),
        checks=checks["check"].nunique(),
        errors=errors,
        notes=len(found) - errors,
    )
    columns = ["dataset", "label", "structure", "records", "variables", "file"]
    notes = [
        (check, own["title"].iloc[0], len(own), own["why_it_stays"].iloc[0] or s["cdisc_error"])
        for check, own in found.groupby("check", sort=True)
    ]
    return {"said": said, "datasets": contents[columns].to_numpy().tolist(), "notes": notes}
