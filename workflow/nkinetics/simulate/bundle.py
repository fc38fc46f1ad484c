"""A simulated trial as files: the layout of a study (config/, data/raw/), and the truth in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from nkinetics.simulate.assays import REFERENCE, TARGET
from nkinetics.simulate.design import Design
from nkinetics.simulate.trial import Simulated
from nkinetics.store import csv_text, write_bytes

NOTICE = "SIMULATED DATA: patients, levels and events are invented; nothing here comes from a person."


def _listed(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(values) + "]"


def config(design: Design, seed: int) -> str:
    """The commented config.yaml of a simulated study."""
    ddpcr = (
        f"""
  ddpcr:
    analyte: CAR transgene
    target_pattern: ^{TARGET}$
    reference_pattern: ^{REFERENCE}$
    level_unit: copies/ug
    reaction_ul: 20              # uL; level = copies/uL x reaction / ng loaded x 1000
    lloq_copies: {design.lloq_copies:g}
    lod_copies: {design.lod_copies:g}
"""
        if design.ddpcr_patients
        else ""
    )
    flow = (
        r"""
  flow:
    analyte: CAR+ NK cells
    # The gate of the live cells is called "Live" in one workspace and "Live cells" in another: match both.
    gate_pattern: '/CAR\+$'
    denominator_pattern: '/Single Cells/Live( cells)?$'
    method: dual_platform        # CAR+ NK cells/uL = ALC x CAR+ events / lymphocyte events
    lloq_events: 50
    lod_events: 20
"""
        if design.flow_visits
        else ""
    )
    return f"""# Configuration of the bundled study. Every key, with its default and meaning: config/README.md.
# {NOTICE}
# Written by `nkinetics simulate --seed {seed}`. Paths are relative to the folder in which the command runs.

study:
  id: {design.study_id}              # also the seed of every random number
  title: {design.title}
  product: {design.product}
  time_zone: {design.time_zone}     # zone of every absolute time in the tables below
  data_cut: "{design.data_cut}"
  reference_dose: {design.reference_dose:.0f}     # amounts enter the models as multiples of this
  dose_unit: cells
  notice: "{NOTICE}"

inputs:
  exports: ["data/raw/**"]       # as the instruments wrote them; never edited
  patients: config/patients.csv
  samples: config/samples.csv
  infusions: config/infusions.csv
  cytokines: config/cytokines.csv
  events: config/events.csv
  # Plate and staining controls: named in the exports, not samples of the study.
  ignore_samples: ['QC-.*', 'FMO-.*']

assays:
  qpcr:
    analyte: CAR transgene
    target_pattern: ^{TARGET}$
    reference_pattern: ^{REFERENCE}$
    level_unit: copies/ug
    lloq_copies: {design.lloq_copies:g}              # copies per reaction: 50 copies/ug at 200 ng, 200 at 50 ng
    lod_copies: {design.lod_copies:g}
    ct_max: 40
    # The default acceptance rules stand: slope -3.6 to -3.1, R2 >= 0.98, five calibrator levels, clean controls.
{ddpcr}{flow}
models:
  default: cytokine_window       # {design.agent} is part of the protocol; its pulses are the mechanistic candidate
  candidates: [decay, cytokine_window, expansion_contraction]
  cytokine_window: {{agents: {_listed((design.agent,))}, width: {design.width:g}}}     # days of support after one dose

batches: 2                       # one per 25 patients, at most about 100; fixed for the life of the study
"""


def readme(seed: int) -> str:
    """What the folder of the exports says about itself."""
    return f"""# SIMULATED exports of the bundled study

Written by `nkinetics simulate --seed {seed}`: no instrument measured anything and no person stands behind a sample. The
files have the form in which the software of the instruments writes its exports; their content follows a known truth,
which the workflow never reads.

- `qpcr/`: QuantStudio results, as text and as workbooks, one file per run: calibrators of 1e1 to 1e7 copies, controls
  without template, two plate controls (QC-HIGH, QC-LOW), samples in triplicate; targets {TARGET} and {REFERENCE}.
- `ddpcr/`: QX Manager csv, part of the samples in duplicate wells.
- `flow/`: FlowJo tables, CAR+ NK cells among the live lymphocytes, one file per dose level and period; FMO-CAR is the
  gating control.

One run fails its acceptance, one export was saved twice: the files are as a laboratory would send them.
"""


def table_text(frame: pd.DataFrame) -> str:
    """A user table as CSV without the columns that nobody filled."""
    filled = [c for c in frame.columns if not (frame[c].isna() | (frame[c].astype("object") == "")).all()]
    return csv_text(frame[filled])


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def files(simulated: Simulated, truth: str = "truth") -> dict[str, bytes]:
    """Every file of a simulated study by its path.

    Parameters
    ----------
    simulated : Simulated
        From `study`.
    truth : str
        Folder of the truth; the bundled study has it under tests/data/truth, where the workflow never looks.

    Returns
    -------
    dict of str to bytes
        Paths relative to the folder of the study, with forward slashes.
    """
    texts = {
        "config/config.yaml": config(simulated.design, simulated.seed),
        **{
            f"config/{name}.csv": table_text(getattr(simulated, name))
            for name in ("patients", "samples", "infusions", "cytokines", "events")
        },
        "data/raw/README.md": readme(simulated.seed),
        f"{truth}/truth.json": _json(simulated.truth),
        f"{truth}/features.json": _json(simulated.features),
        f"{truth}/levels.csv": csv_text(simulated.levels),
    }
    return {
        **{path: text.encode("utf-8") for path, text in texts.items()},
        **{f"data/raw/{path}": content for path, content in simulated.exports.items()},
    }


def write(simulated: Simulated, folder: Path | str, truth: str = "truth") -> list[Path]:
    """Write a simulated study.

    Parameters
    ----------
    simulated : Simulated
        From `study`.
    folder : Path or str
        Folder of the study; created where absent. Files of the same name are replaced, others stay.
    truth : str
        Folder of the truth below it.

    Returns
    -------
    list of Path
        The files written, in alphabetical order.
    """
    written = []
    for path, content in sorted(files(simulated, truth).items()):
        write_bytes(Path(folder) / path, content)
        written.append(Path(folder) / path)
    return written
