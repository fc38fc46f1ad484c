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
    below = whole.kind == BLQ
    kind = np.where(below, NONE, whole.kind).astype(whole.kind.dtype)
    emptied = below.any(axis=1) & ~(kind != NONE).any(axis=1)
    why = whole.table["no_data"].mask(emptied, "every sample lies below its LLOQ and is dropped")
    return replace(whole, kind=kind, table=whole.table.assign(no_data=why))


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
                        "unit": [UNITS[parameter.unit](str(u), whole.dose_unit) for u in table["level_unit"]],
                        "n_points": values.n_points[keep],
                        "reason": texts(values.flags, sentences)[keep],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


MODEL = "model"
OF_THE_MODEL: Mapping[str, tuple[str, ...]] = {
    "cmax": ("curve_cmax",),
    "auc_int": ("curve_auc_{window}",),
    "half_life": ("half_life_beta", "half_life_delta"),
    "tlast": ("t_below_lloq",),
}
"""What a kinetic model with censored likelihood says in place of a parameter, the first that it has."""


def with_model(table: pd.DataFrame, estimates: pd.DataFrame, model: str) -> pd.DataFrame:
    """The rules beside each other, and what the kinetic model says, whose likelihood needs no number for a BLQ sample.

    Parameters
    ----------
    table : DataFrame
        As `nkinetics.columns.BLQ_SENSITIVITY`.
    estimates : DataFrame
        As `nkinetics.columns.ESTIMATES`.
    model : str
        Name of the model.

    Returns
    -------
    DataFrame
        One row per patient, assay, specimen, window and parameter: unit, a column per rule and `model` with values, the
        same with ``_reason`` behind their names, `identifiable` (of the model's value), `change_pct`: largest departure
        of a rule from the configured one, NaN where there is nothing to compare.
    """
    key = ["patient_id", "dose_level", "assay", "specimen", "window", "parameter", "unit"]
    wide = table.pivot(index=key, columns="rule", values="value").reindex(columns=list(RULES))
    reasons = table.pivot(index=key, columns="rule", values="reason").reindex(columns=list(RULES))
    frame = wide.join(reasons.add_suffix("_reason")).reset_index()
    own = estimates[estimates["model"] == model]
    known = {
        (r.patient_id, r.assay, r.specimen, r.parameter): (r.estimate, r.identifiable, r.reason)
        for r in own.itertuples()
    }
    nothing = (np.nan, pd.NA, "no estimate of the model")

    def of_model(row: pd.Series) -> tuple[float, object, str]:
        names = (n.format(window=row["window"]) for n in OF_THE_MODEL.get(row["parameter"], ()))
        head = (row["patient_id"], row["assay"], row["specimen"])
        return next((known[(*head, n)] for n in names if (*head, n) in known), nothing)

    found = [of_model(row) for _, row in frame.iterrows()]
    others = frame[[r for r in RULES if r != "configured"]].to_numpy(dtype=float)
    base = frame["configured"].to_numpy(dtype=float)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.fmax.reduce(np.abs(100 * (others / base - 1)), axis=1) if len(frame) else np.empty(0)
    return frame.assign(
        **{
            MODEL: pd.Series([f[0] for f in found], index=frame.index, dtype="float64"),
            "identifiable": pd.array([f[1] for f in found], dtype="boolean"),
            f"{MODEL}_reason": [str(f[2]) for f in found],
            "change_pct": change,
        }
    )
