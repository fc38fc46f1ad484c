"""How a patient's main numbers were made, for the patient's section of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nkinetics.nca.explain import Analysis, analysis, difference, explain
from nkinetics.results import Context, Results
from nkinetics.tables._nca import AUC_WINDOW, BY_NAME
from nkinetics.wording import Words, profile_name, profiles, unit_name

SHOWN = {"cmax": "overall", "auc_int": AUC_WINDOW, "half_life": "overall", "t_blq": "overall"}
"""Parameters that are explained on the page, and their windows; `nkinetics explain` has every other one."""


def opened(results: Results, context: Context) -> Analysis | None:
    """The analysis behind nca.csv, kept open; none where there is nothing to explain."""
    observations = results.table("observations")
    if not len(observations) or not results.size("nca"):
        return None
    settings = context.settings
    infusions = results.table("infusions")
    return analysis(
        observations, infusions if len(infusions) else None, settings.nca, settings.blq, results.table("patients")
    )


def explained(
    made: Analysis | None, results: Results, context: Context, s: Mapping[str, Any], patient: str, table: pd.DataFrame
) -> list[dict[str, Any]]:
    """For each assay of a patient the parameters that have a value, each with its lines of arithmetic.

    `table` holds the patient's rows of nca.csv, with which the values are compared.
    """
    words, found = Words(context.language), []
    for kind in profiles(results).itertuples() if made is not None else ():
        key = (patient, str(kind.assay), str(kind.specimen))
        told = []
        for name, window in SHOWN.items():
            if made is None or (*key, window) not in made.place:
                continue
            one = explain(made, patient, name, key[1], key[2], window, with_points=False)
            if math.isnan(one.value):
                continue
            other = difference(one, table)
            told.append(
                {
                    "title": f"{words.pick(BY_NAME[name].title)} = {unit_name(one.result)}",
                    "lines": words.told("\n".join([*([other] if other else []), *one.arithmetic()])),
                }
            )
        if told:
            title = s["explained_of"].format(assay=profile_name(context, key[1], key[2]))
            found.append({"title": title, "parameters": told})
    return found
