"""A new study folder: the configuration and the input tables with one example row each, ready to be filled in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nkinetics import readers
from nkinetics.columns import CYTOKINES, EVENTS, EXAMPLE, IDENTIFIER, INFUSIONS, PATIENTS, SAMPLES, Schema, spelled
from nkinetics.errors import InputError, Problem
from nkinetics.observations import natural
from nkinetics.settings import Settings
from nkinetics.store import csv_text, write_text

_CONFIG = """\
# Configuration of the study. Every key, with its default and meaning: config/README.md of NKinetics.
# Paths are relative to the folder in which the command runs: this one.

study:
  id: STUDY-01              # letters, digits, '.', '_', '-'; also the seed of every random number
  title: ""                 # title on the report
  product: ""               # name of the cell product
  time_zone: UTC            # zone of absolute times in the tables, as Asia/Shanghai or Europe/Berlin
  # data_cut: 2026-12-31    # later samples are set aside
  # reference_dose: 2.0e+9  # amounts enter the models as multiples of this; by default the lowest planned amount
  dose_unit: cells          # or cells/kg

inputs:
  exports: ["data/raw/**"]  # as the instruments wrote them; never edited
  patients: config/patients.csv
  samples: config/samples.csv
  infusions: config/infusions.csv
  cytokines: config/cytokines.csv
  events: config/events.csv
  # ignore_samples: ['QC-.*']       # names in the exports that are no samples of the study
  # superseded: []                  # exports replaced by a later export of the same run

assays:                     # leave out what the study does not use
  qpcr:
    target_pattern: (?i)CAR # the transgene's target, as the exports call it
    # reference_pattern: ^RNaseP$   # the reference gene, where one is on the plate
    level_unit: copies/ug   # or copies/mL, copies/cell
    lloq_copies: 10         # copies per reaction
    lod_copies: 3
  # ddpcr:
  #   target_pattern: (?i)CAR
  # flow:
  #   gate_pattern: (?i)CAR
  #   denominator_pattern: (?i)lymphocytes

batches: 2                  # one per 25 patients, at most about 100; fixed for the life of the study
"""

_README = """\
# A study for NKinetics

1. Copy the exports of the instruments, as they are, into `data/raw/` (folders in it are welcome).
2. Fill in the tables in `config/`; each has one example row (EXAMPLE) to be replaced or deleted. Identifiers are text:
   "007" is not "7". Absolute times are ISO (2026-01-05T09:30) in the zone of `study.time_zone`; `time*` columns are
   days from the start of the patient's first infusion. No names, birth dates, record or telephone numbers.
3. Set the names of targets or gates and the limits in `config/config.yaml`.
4. `nkinetics check` says what would be read and what is wrong, and writes nothing.
5. Run the workflow, or `nkinetics ingest --output-dir results` for the first step alone.
"""

_EXAMPLES: dict[str, dict[str, str]] = {
    "patients": {
        "patient_id": EXAMPLE,
        "dose_level": "DL1",
        "cohort": "escalation",
        "status_end": "ongoing",
        "time_end": "",
        "weight_kg": "64",
        "indication": "",
        "best_response": "",
    },
    "samples": {
        "sample_id": f"{EXAMPLE}-D1",
        "patient_id": EXAMPLE,
        "specimen": "blood",
        "visit": "D1",
        "time_nominal": "1",
        "collected_at": "2026-01-06T09:40",
        "ng_input": "200",
        "template_ul": "",
        "elution_ul": "",
        "blood_ml": "",
        "dilution": "",
        "wbc_1e9_l": "3.1",
        "alc_1e9_l": "0.4",
        "beads": "",
        "state": "",
        "comment": "",
    },
    "infusions": {
        "patient_id": EXAMPLE,
        "infusion": "1",
        "started_at": "2026-01-05T09:30",
        "planned": "2000000000",
        "given": "1980000000",
        "unit": "cells",
    },
    "cytokines": {
        "patient_id": EXAMPLE,
        "agent": "IL-2",
        "started_at": "2026-01-05T14:00",
        "dose": "1.8",
        "unit": "MIU",
    },
    "events": {
        "patient_id": EXAMPLE,
        "event": "crs",
        "grade": "1",
        "started_at": "2026-01-06",
        "time_end": "2.5",
        "value": "",
        "comment": "",
    },
}
_SCHEMAS: dict[str, Schema] = {s.name: s for s in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS)}


def example_row(name: str) -> dict[str, str]:
    """One right row of a user table, as text, for the starter and the documentation."""
    assert set(_EXAMPLES[name]) <= set(_SCHEMAS[name].names)
    return dict(_EXAMPLES[name])


def drafted_samples(paths: Sequence[Path], root: Path) -> tuple[list[str], list[str]]:
    """Sample names found in exports, in natural order: those that can be sample ids, and those that cannot.

    A name with blanks or slashes is drafted as the id that it spells, by which it joins, where no other name spells it.
    """
    raw, _ = readers.read_exports(paths, root, Settings())
    names = set(raw["sample_id"][(raw["role"] == "unknown") & (raw["note"] == "")]) - {""}
    spellings = Counter(spelled(name) for name in names)
    drafts = {name: spelled(name) if spellings[spelled(name)] == 1 else name for name in names}
    fit = sorted((draft for draft in drafts.values() if IDENTIFIER.fullmatch(draft)), key=natural)
    return fit, sorted((name for name, draft in drafts.items() if not IDENTIFIER.fullmatch(draft)), key=natural)


def init_study(folder: Path) -> tuple[Path, ...]:
    """Write a new study folder; nothing that exists is overwritten.

    Parameters
    ----------
    folder : Path
        The study folder. Where it already has exports in data/raw, samples.csv is drafted from the names found in them:
        one row per name, patient and times to be filled in.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    InputError
        When a file that would be written exists already; nothing is written then.
    """
    texts = {Path("config/config.yaml"): _CONFIG, Path("README.md"): _README}
    exports = sorted(
        p
        for p in (folder / "data" / "raw").rglob("*")
        if p.is_file() and not p.name.startswith(".") and not p.name.upper().startswith("README")
    )
    for name in _SCHEMAS:
        rows = [example_row(name)]
        if name == "samples" and exports:
            found, _ = drafted_samples(exports, folder)
            blank = dict.fromkeys(rows[0], "")
            rows = [{**blank, "sample_id": sample, "specimen": "blood"} for sample in found] or rows
        texts[Path(f"config/{name}.csv")] = csv_text(pd.DataFrame(rows))
    texts[Path("data/raw/README.md")] = (
        "Exports of the instruments, as received. Code reads them and never writes here.\n"
    )
    there = [path for path in texts if (folder / path).exists()]
    if there:
        raise InputError(
            Problem(
                (folder / path).as_posix(),
                found="a file that exists already",
                expected="a new study folder",
                mend="name another folder, or move the file away",
            )
            for path in there
        )
    for path, text in texts.items():
        write_text(folder / path, text)
    return tuple(folder / path for path in texts)
