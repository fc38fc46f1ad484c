"""Parameters of the infusion intervals, for the summary and the listing."""

from __future__ import annotations

import re

import pandas as pd

from nkinetics.results import Results
from nkinetics.tables._nca import Shown

SHOWN = (
    Shown("cmax", "", {"en": "Cmax", "zh": "Cmax"}),
    Shown("tmax", "", {"en": "Tmax", "zh": "Tmax"}, is_time=True),
    Shown("auc_int", "", {"en": "AUC", "zh": "AUC"}),
    Shown("trough", "", {"en": "Level before the next infusion", "zh": "下次输注前水平"}),
    Shown("recovery_ratio", "", {"en": "Cmax / level before", "zh": "Cmax / 输注前水平"}),
    Shown("accumulation_cmax", "", {"en": "Accumulation of Cmax", "zh": "Cmax 蓄积比"}),
    Shown("accumulation_auc", "", {"en": "Accumulation of AUC", "zh": "AUC 蓄积比"}),
)
NEVER_FOR_LAST = "no infusion follows"
"""Beginning of the reason of a level before the next infusion where none is planned: not missing, not there."""
NEVER_FOR_FIRST = "later infusions are compared with the first"


def numbers(results: Results) -> list[int]:
    """Infusions that have a window in nca.csv, in order."""
    windows = results.rows("nca", ["window"], parameter=SHOWN[0].parameter)["window"]
    return sorted({int(m[1]) for m in (re.fullmatch(r"infusion_(\d+)", str(w)) for w in set(windows)) if m})


def values(results: Results, assay: str, specimen: str, number: int) -> pd.DataFrame:
    """One row per patient of the study and parameter of SHOWN: value and reason in the interval of an infusion."""
    shown = [s.parameter for s in SHOWN]
    rows = results.rows("nca", assay=assay, specimen=specimen, window=f"infusion_{number}", parameter=shown)
    wanted = pd.DataFrame({"parameter": shown})
    frame = results.patients[["patient_id", "dose_level"]].merge(wanted, how="cross")
    frame = frame.merge(
        rows[["patient_id", "parameter", "value", "reason"]], on=["patient_id", "parameter"], how="left"
    )
    return frame.assign(reason=frame["reason"].fillna("no such infusion"))
