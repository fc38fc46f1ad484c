"""T-CK-08: exposure divided by the amount given, by dose level and overall."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.population.exposure import ABSENT, EXPOSURES, exposures
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._nca import AUC_WINDOW, BY_NAME, Shown
from nkinetics.tables.nca_parameters import groups, parameter_name, statistics_columns, statistics_row
from nkinetics.wording import Words, blq_footnote, missing, profile_name, profiles

NEEDS = ("nca", "observations", "patients", "infusions")
SHOWN = ("cmax", "auc_last", "auc_int")
PER = {"cells": 1e9, "cells/kg": 1e6}
"""So many cells is the unit of the amount."""


def build(results: Results, context: Context) -> TableBody:
    """The statistics of T-CK-05, of Cmax and AUC per 1e9 cells (1e6 cells/kg)."""
    words, kinds = Words(context.language), profiles(results)
    if not results.size("nca") or not len(kinds):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    columns = statistics_columns(words, context.settings.statistics.confidence)
    found = exposures(
        results.rows("nca", parameter=EXPOSURES),
        results.table("observations"),
        [(BY_NAME[p].window, p) for p in SHOWN],
        results.table("patients"),
        results.table("infusions"),
    )
    rows = []
    for kind in kinds.itertuples():
        here = found[(found["assay"] == kind.assay) & (found["specimen"] == kind.specimen)]
        for shown in (BY_NAME[p] for p in SHOWN):
            frame, limit = _per_amount(results, context, here, shown)
            for dose_level, label in groups(results, context).items():
                head = {
                    "assay": profile_name(context, str(kind.assay), str(kind.specimen)),
                    "parameter": parameter_name(words, shown, frame),
                    "dose_level": label,
                }
                cells = statistics_row(results, context, shown, frame, limit, dose_level)
                rows.append({columns[k]: v for k, v in {**head, **cells}.items()})
    return body(
        results,
        context,
        rows,
        list(columns.values()),
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def _per_amount(
    results: Results, context: Context, found: pd.DataFrame, shown: Shown
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Value per unit of amount of every patient, and the bound of those below the LLOQ."""
    per = PER[context.settings.study.dose_unit]
    own = found[(found["window"] == shown.window) & (found["parameter"] == shown.parameter)]
    own = results.patients[["patient_id", "dose_level"]].merge(
        own.drop(columns="dose_level"), on="patient_id", how="left"
    )
    unit = next((str(u) for u in own["unit"] if not missing(u)), "")
    unknown = own["amount"].isna() & own["state"].notna()
    reason = own["reason"].fillna("no infusion").mask(unknown & own["value"].notna(), "amount given not known")
    known = own["value"].notna() & own["amount"].notna()
    reason = reason.mask(known, "").mask((own["state"] == ABSENT) & (reason == ""), "no value")
    frame = pd.DataFrame(
        {
            "patient_id": own["patient_id"],
            "dose_level": own["dose_level"],
            "value": (own["value"] / own["amount"] * per).where(known),
            "unit": f"{unit} per {per:.0e} {context.settings.study.dose_unit}".replace("e+0", "e"),
            "reason": reason,
        }
    )
    bounded = own[own["bound"].notna() & own["amount"].notna()]
    bounds = bounded["bound"] / bounded["amount"] * per
    return frame, dict(zip(bounded["patient_id"].astype(str), bounds.astype(float), strict=True))


def _footnotes(context: Context) -> tuple[str, ...]:
    words, statistics = Words(context.language), context.settings.statistics
    n, level = statistics.summary_n_min, f"{100 * statistics.confidence:g} %"
    unit = context.settings.study.dose_unit
    return (
        words.say(
            f"Each patient's value divided by the amount that the patient was given ({unit}): the sum of all infusions "
            f"that started before the end of the window (Cmax, AUClast: all; AUC {AUC_WINDOW.replace('-', '–')}: those "
            f"of the window). Statistics as in the table of parameters; {level} CI of the geometric mean; with fewer "
            f"than {n} values individual values only (NR). Equal geometric means would be dose proportional; whether "
            "they are is said in the table of dose proportionality.",
            f"每例数值除以其实际给药量（{unit}）：窗口结束前开始的各次输注之和"
            f"（Cmax、AUClast：全部；AUC {AUC_WINDOW.replace('-', '–')}：窗口内）。统计量同参数表；"
            f"几何均值的 {level} CI；"
            f"少于 {n} 个数值时仅列个体值（NR）。几何均值相等即与剂量成比例；判定见剂量比例性表。",
        ),
        blq_footnote(context),
        words.say(
            "Censored geometric mean: every sampled patient without a quantified level lies below the lowest LLOQ of "
            "the patient's samples (areas: that LLOQ times the length of the window, or of the follow-up), divided by "
            "the amount given.",
            "删失几何均值：已采样但从未达到定量水平的患者低于其样本的最低定量下限"
            "（面积：该下限乘以窗口或随访长度），再除以实际给药量。",
        ),
        words.say(
            "AUC: area under the curve; CI: confidence interval; CV: coefficient of variation; LLOQ: lower limit of "
            "quantification; SD: standard deviation.",
            "AUC：曲线下面积；CI：置信区间；CV：变异系数；LLOQ：定量下限；SD：标准差。",
        ),
    )


TABLE = Table(
    name="dose_normalised",
    id="T-CK-08",
    number="8",
    title={"en": "Exposure by the amount given, by dose level and overall", "zh": "按剂量水平及总体的剂量归一化暴露量"},
    needs=NEEDS,
    build=build,
)
