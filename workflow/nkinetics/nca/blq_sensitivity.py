"""How much the parameters of a patient depend on the rule for levels below the LLOQ.

The analysis knows which samples are BLQ and never takes a number in their place for a level. Many programs do not: they
see the number that someone put there before. Here three such numbers are tried on the same profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from nkinetics import nca
from nkinetics.columns import BLQ_SENSITIVITY
from nkinetics.nca.curves import Curves
from nkinetics.nca.parameters import BY_NAME, UNITS
from nkinetics.nca.profiles import (
    BLQ,
    DETECTED,
    INFUSION,
    NAMED,
    NONE,
    OVERALL,
    QUANTIFIED,
    Profiles,
    batches,
    profiles,
)
from nkinetics.nca.reasons import texts
from nkinetics.settings import Blq, Nca
from nkinetics.store import complete

SHOWN: Mapping[str, int] = {
    "cmax": OVERALL,
    "auc_last": OVERALL,
    "auc_int": NAMED,
    "lambda_z": OVERALL,
    "half_life": OVERALL,
    "tlast": OVERALL,
}
"""Parameters that are compared, and the kind of window: the whole profile, or the first named one."""


def half_lloq(whole: Profiles) -> Profiles:
    """Every BLQ sample is a level of half its LLOQ, as if it had been measured; without an LLOQ it stays BLQ."""
    put = (whole.kind == BLQ) & (whole.lloq > 0)
    return replace(
        whole,
        kind=np.where(put, QUANTIFIED, whole.kind).astype(whole.kind.dtype),
        level=np.where(put, whole.lloq / 2, whole.level),
        detection=np.where(put, DETECTED, whole.detection).astype(whole.detection.dtype),
    )


def dropped(whole: Profiles) -> Profiles:
    """No BLQ sample was ever taken: a loss cannot be told from follow-up that ended."""
    return replace(whole, kind=np.where(whole.kind == BLQ, NONE, whole.kind).astype(whole.kind.dtype))


ZEROS = Blq(first="zero", middle="zero", last="zero")
RULES: Mapping[str, tuple[Callable[[Profiles], Profiles], Blq | None]] = {
    "configured": (lambda whole: whole, None),
    # 0 is no level: it can be no Cmax, no Tlast, and has no logarithm; on the curve it is a point.
    "zero": (lambda whole: whole, ZEROS),
    "half_lloq": (half_lloq, None),
    "drop": (dropped, None),
}
"""What becomes of the profiles under each rule, and the position rules that replace the configured ones."""


def blq_sensitivity(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Cmax, areas, terminal slope and Tlast of every patient under each rule of `RULES`.

    Parameters
    ----------
    observations, infusions, settings, blq, patients
        As for `nkinetics.nca.analyse`.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.BLQ_SENSITIVITY`. The rule ``configured`` repeats the numbers of nca.csv. A profile
        without any BLQ sample has the same numbers under every rule.

    Examples
    --------
    >>> own = pd.DataFrame({"patient_id": "01", "time_actual": [1.0, 2, 3, 4], "level": [8.0, 4, 2, np.nan],
    ...     "status": ["quantified", "quantified", "quantified", "not_detected"], "lloq": 0.5})
    >>> table = blq_sensitivity(own).set_index(["parameter", "rule"])["value"]
    >>> [float(table["tlast", rule]) for rule in RULES]
    [3.0, 3.0, 4.0, 3.0]
    """
    settings, blq = settings or Nca(), blq or Blq()
    # One named window, and no windows of infusions: this is all that is shown.
    settings = settings.model_copy(update={"windows": settings.windows[:1]})
    whole = profiles(observations, infusions, patients, settings)
    whole = replace(whole, infusion_start=whole.infusion_start[:, :1], infusion_number=whole.infusion_number[:, :1])
    parts = [
        _rows(changed(whole), settings, rules or blq, patients).assign(rule=name)
        for name, (changed, rules) in RULES.items()
        if len(whole.table)
    ]
    return complete(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), BLQ_SENSITIVITY)


def _rows(whole: Profiles, settings: Nca, blq: Blq, patients: pd.DataFrame | None) -> pd.DataFrame:
    shown = [BY_NAME[name] for name in SHOWN]
    ends = nca._follow_up_ends(whole, patients)
    parts = []
    for batch in batches(whole, settings):
        curves = Curves(batch, settings, blq)
        done = nca.computed(curves, shown)
        sentences = nca._sentences(whole, curves, ends)
        for parameter in shown:
            keep = (batch.window_kind == SHOWN[parameter.name]) & (batch.window_kind != INFUSION)
            table = whole.table.iloc[batch.profile[keep]]
            values = done[parameter.name]
            parts.append(
                pd.DataFrame(
                    {
                        "patient_id": table["patient_id"].to_numpy(),
                        "dose_level": table["dose_level"].to_numpy(),
                        "assay": table["assay"].to_numpy(),
                        "specimen": table["specimen"].to_numpy(),
                        "window": batch.window[keep],
                        "parameter": parameter.name,
                        "value": values.value[keep],
                        "unit": [UNITS[parameter.unit](str(u)) for u in table["level_unit"]],
                        "n_points": values.n_points[keep],
                        "reason": texts(values.flags, sentences)[keep],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
