"""SDTM Pharmacokinetics Parameters: every parameter of the non-compartmental analysis in controlled terms and units.

A value that could not be made is a record NOT DONE with the reason. Left out, and counted in the reviewer's guide: what
is defined only for another kind of window, windows of a patient without any sample (the overall window stands for
them), and values by the amount given, whose units conform to no controlled term (they stand in ADPP).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from nkinetics.cdisc import _terms
from nkinetics.cdisc._model import Dataset, Source, Variable, duration, identifiers, limited, number_text
from nkinetics.cdisc._units import standard
from nkinetics.cdisc.ex import reference_name
from nkinetics.nca.parameters import BY_NAME

NOT_APPLICABLE = frozenset(
    {
        "the terminal slope is never refitted inside a named window: see overall",
        "a loss belongs to the whole profile, not to a named window: see overall",
        "defined for the window of an infusion",
        "the window is open: see auc_last",
        "no infusion follows",
        "later infusions are compared with the first",
        "no limit is configured for this unit (nca.above_limit)",
    }
)
"""Reasons of nca.csv by which a parameter does not exist in a window, so that nothing is missing."""

NO_SAMPLE = "no sample in this window: "
"""Beginning of the reason in nca.csv for a patient without any sample."""

RULES: Mapping[str, str] = {
    "linear_up_log_down": "LINEAR UP/LOG DOWN TRAPEZOIDAL RULE",
    "linear": "LINEAR TRAPEZOIDAL RULE",
    "linear_log": "LINEAR/LOG TRAPEZOIDAL RULE",
}
AREAS, TERMINAL = ("area", "moment", "area_per_dose"), ("lambda_z", "half_life", "r_squared", "r_squared_adj")
SLOPE = frozenset(
    {
        *TERMINAL,
        "lambda_z_n_points",
        "lambda_z_start",
        "lambda_z_end",
        "corr_xy",
        "span_ratio",
        "clast_pred",
    }
)
"""Parameters that the points of the terminal fit make."""

OF_AREA = frozenset({"auc_int_extrap_pct", "auc_extrap_pct", "mrt_last", "mrt_inf_obs", "accumulation_auc"})
"""Parameters without the unit of an area that the samples of the area make."""


def infusion_of(window: str) -> int:
    """Infusion whose start is time 0 of a window: its own, or the first.

    Examples
    --------
    >>> infusion_of("infusion_2"), infusion_of("overall"), infusion_of("D0-28")
    (2, 1, 1)
    """
    return int(window.removeprefix("infusion_")) if window.startswith("infusion_") else 1


def window_name(window: str) -> str:
    """PPSCAT: what kind of window.

    Examples
    --------
    >>> window_name("infusion_2"), window_name("overall"), window_name("D0-28")
    ('BY INFUSION', 'OVERALL', 'WINDOW D0-28')
    """
    if window == "overall":
        return "OVERALL"
    return "BY INFUSION" if window.startswith("infusion_") else f"WINDOW {window.upper()}"


def group_name(row: Mapping[str, object]) -> str:
    """PPGRPID: assay profile, window, and which samples made it.

    L: the points of the terminal fit; A: the samples of the area; S: all measured samples of the window.

    Examples
    --------
    >>> row = {"assay": "qpcr", "specimen": "blood", "window": "infusion_2"}
    >>> group_name(row | {"parameter": "half_life"}), group_name(row | {"parameter": "cmax"})
    ('QPCR-BLOOD-INFUSION_2-L', 'QPCR-BLOOD-INFUSION_2-S')
    """
    name = str(row["parameter"])
    area = name in OF_AREA or BY_NAME[name].unit in AREAS
    return group(row, "L" if name in SLOPE else "A" if area else "S")


def group(row: Mapping[str, object], made_by: str) -> str:
    """PPGRPID of an assay profile and window for one kind of samples (L, A or S)."""
    return f"{row['assay']}-{row['specimen']}-{row['window']}-{made_by}".upper()


def method_of(parameter: str, source: Source) -> str:
    """PPANMETH: the rule behind an area or a terminal slope, from the settings of the run; empty for the others."""
    if parameter in SLOPE:
        return "LOG-LINEAR REGRESSION OF THE LAST POINTS"
    return RULES[source.context.settings.nca.auc_rule] if BY_NAME[parameter].unit in AREAS else ""


def applicable(source: Source) -> pd.DataFrame:
    """Rows of nca.csv that exist in their window, with analyte and term and value of the package.

    Columns beside those of nca.csv: analyte, term, converted.
    """
    rows = source.results.table("nca")
    empty = rows["value"].isna()
    elsewhere = empty & rows["reason"].isin(NOT_APPLICABLE)
    nothing = empty & rows["reason"].str.startswith(NO_SAMPLE)
    source.counts["parameters not defined in their window"] = int(elsewhere.sum())
    source.counts["windows' parameters of profiles without any sample"] = int(nothing.sum())
    rows = rows[~elsewhere & ~nothing]
    observed = source.results.table("observations")
    named = observed[observed["analyte"] != ""].drop_duplicates(["assay", "specimen"])
    analyte = {(r["assay"], r["specimen"]): str(r["analyte"]) for r in named.to_dict("records")}
    units = {unit: standard(unit) for unit in rows["unit"].unique()}
    return rows.assign(
        analyte=[analyte.get(k, "") for k in zip(rows["assay"], rows["specimen"], strict=True)],
        term=[units[u][0] for u in rows["unit"]],
        converted=rows["value"] * [units[u][1] for u in rows["unit"]],
    ).reset_index(drop=True)


def by_amount(rows: pd.DataFrame) -> pd.Series:
    """Rows whose unit holds an amount of cells."""
    return rows["parameter"].map(lambda name: BY_NAME[name].unit.endswith("_per_dose")).astype(bool)


def build(source: Source) -> pd.DataFrame:
    """One record per patient, assay, specimen, window and parameter that can be told in controlled units."""
    rows = applicable(source)
    if not len(rows):
        return rows
    apart = by_amount(rows)
    source.counts["parameters by the amount given (in ADPP only)"] = int(apart.sum())
    rows = rows[~apart]
    starts = {(str(r["patient_id"]), int(r["infusion"])): r for r in source.starts.to_dict("records")}
    order = {name: i for i, name in enumerate(BY_NAME)}
    made = []
    for row in rows.to_dict("records"):
        patient, infusion, window = str(row["patient_id"]), infusion_of(str(row["window"])), str(row["window"])
        start = starts.get((patient, infusion), {})
        value, missing = float(row["converted"]), pd.isna(row["value"])
        zero = float(start.get("time", 0.0)) if window.startswith("infusion_") else 0.0
        bounded = not (pd.isna(row["window_end"]))
        code = str(row["pptestcd"])
        planned = window not in ("overall",) and bounded
        made.append(
            {
                "STUDYID": source.study_id,
                "DOMAIN": "PP",
                "USUBJID": source.subject(patient),
                "PPGRPID": group_name(row),
                "PPTESTCD": code,
                "PPTEST": _terms.parameter_name(code),
                "PPCAT": _terms.assay_category(str(row["analyte"]), str(row["assay"])),
                "PPSCAT": window_name(window),
                "PPORRES": number_text(value),
                "PPORRESU": "" if missing else row["term"],
                "PPSTRESC": number_text(value),
                "PPSTRESN": float(number_text(value)) if not missing else math.nan,
                "PPSTRESU": "" if missing else row["term"],
                "PPSTAT": "NOT DONE" if missing else "",
                "PPREASND": limited(str(row["reason"])) if missing else "",
                "PPSPEC": _terms.specimen_term(str(row["specimen"])),
                "PPANMETH": "" if missing else method_of(str(row["parameter"]), source),
                "PPTPTREF": reference_name(infusion) if start else "",
                "PPRFTDTC": start.get("started_at", ""),
                "PPSTINT": duration(float(row["window_start"]) - zero) if planned else "",
                "PPENINT": duration(float(row["window_end"]) - zero) if planned else "",
                "_order": order[str(row["parameter"])],
                "_window": ("overall", "infusion", "D").index(
                    "overall" if window == "overall" else "infusion" if window.startswith("infusion") else "D"
                ),
                "_name": window,
            }
        )
    frame = pd.DataFrame(made)
    frame = frame.sort_values(["USUBJID", "PPCAT", "PPSPEC", "_window", "_name", "_order"], kind="stable")
    frame["PPSEQ"] = frame.groupby("USUBJID").cumcount() + 1
    return frame.reset_index(drop=True)


DATASET = Dataset(
    name="PP",
    label="Pharmacokinetics Parameters",
    standard="sdtm",
    category="FINDINGS",
    structure="One record per parameter, window and assay per subject",
    keys=("STUDYID", "USUBJID", "PPSEQ"),
    variables=(
        *identifiers("PP"),
        Variable("PPSEQ", "Sequence Number", "integer", 8, required=True, method="Order of assay, window, parameter"),
        Variable("PPGRPID", "Group ID", length=80, method="Assay, specimen, window; made by L, A or S"),
        Variable("PPTESTCD", "Parameter Short Name", length=8, codelist="PKPARMCD", origin="Assigned", required=True),
        Variable("PPTEST", "Parameter Name", length=40, codelist="PKPARM", origin="Assigned", required=True),
        Variable(
            "PPCAT", "Parameter Category", length=80, origin="Assigned", required=True, method="Analyte and assay"
        ),
        Variable("PPSCAT", "Parameter Subcategory", length=40, origin="Assigned", method="Kind of window"),
        Variable("PPORRES", "Result or Finding in Original Units", length=40, method="Value of nca.csv in hours"),
        Variable("PPORRESU", "Original Units", length=40, codelist="PKUNIT", origin="Assigned"),
        Variable("PPSTRESC", "Character Result/Finding in Std Format", length=40, method="PPORRES"),
        Variable("PPSTRESN", "Numeric Result/Finding in Standard Units", "float", 8, method="PPORRES"),
        Variable("PPSTRESU", "Standard Units", length=40, codelist="PKUNIT", origin="Assigned"),
        Variable("PPSTAT", "Completion Status", length=8, codelist="ND", origin="Assigned"),
        Variable("PPREASND", "Reason Parameter Not Calculated", method="Reason of nca.csv"),
        Variable("PPSPEC", "Specimen Material Type", length=60, codelist="SPECTYPE", origin="Collected", required=True),
        Variable("PPANMETH", "Analysis Method", length=80, method="From the settings of the run"),
        Variable("PPTPTREF", "Time Point Reference", length=40, method="Infusion whose start is time 0"),
        Variable("PPRFTDTC", "Date/Time of Reference Point", "datetime", 20, method="EXSTDTC of PPTPTREF"),
        Variable("PPSTINT", "Planned Start of Assessment Interval", length=20, method="Start of the window"),
        Variable("PPENINT", "Planned End of Assessment Interval", length=20, method="End of the window"),
    ),
    build=build,
    value_level={"PPSTRESN": "PPTESTCD"},
)
