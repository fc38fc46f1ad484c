"""T-CK-21: peak, AUC and time below the LLOQ of the fitted curves, averaged over the candidate models."""

from __future__ import annotations

import pandas as pd

from nkinetics.akaike import weight_text
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.tables.model_parameters import QUANTITY_NAMES
from nkinetics.wording import (
    Words,
    days,
    missing,
    profile_name,
    profiles,
    significant,
    without_quantified,
)

NEEDS = ("model_averages", "fits", "estimates", "patients", "observations")
NAMES = {
    "curve_cmax": {"en": "Cmax of the curve", "zh": "曲线 Cmax"},
    "curve_tmax": {"en": "Tmax of the curve", "zh": "曲线 Tmax"},
    "curve_auc_D0-28": {"en": "AUC D0–28 of the curve", "zh": "曲线 AUC D0–28"},
    **QUANTITY_NAMES,
}


def build(results: Results, context: Context) -> TableBody:
    """One row per assay and patient, also where there is nothing to average."""
    words, table = Words(context.language), results.table("model_averages")
    if not len(table):
        return absent(results, context, words.say("No model was fitted.", "未拟合任何模型。"), NEEDS)
    shown = [name for name in NAMES if name in set(table["parameter"])]
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        own = table[(table["assay"] == kind.assay) & (table["specimen"] == kind.specimen)]
        rows_of = by_patient(own)
        for patient in results.patients.itertuples():
            mine = rows_of(str(patient.patient_id)).set_index("parameter")
            said = reasons.get(str(patient.patient_id), words.say("not fitted", "未拟合"))
            rows.append(
                {
                    words.say("Assay", "检测方法"): profile_name(
                        context, str(kind.assay), str(kind.specimen), str(kind.level_unit)
                    ),
                    words.say("Dose level", "剂量水平"): str(patient.dose_level),
                    words.say("Patient", "患者"): str(patient.patient_id),
                    **{_heading(words, name): _cell(words, mine, name) for name in shown},
                    words.say("Leading model (weight)", "主导模型（权重）"): _leading(mine),
                    words.say("Remarks", "备注"): _remarks(words, mine, shown) if len(mine) else said,
                }
            )
            patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
        patients=patients,
    )


def _heading(words: Words, name: str) -> str:
    unit = {"curve_cmax": "", "curve_auc_D0-28": "d × " + words.say("unit", "单位")}.get(name, "d")
    title = words.pick(NAMES[name])
    title = title[:1].upper() + title[1:]
    return f"{title} ({unit})" if unit else title


def _cell(words: Words, mine: pd.DataFrame, name: str) -> str:
    """Average and interval."""
    if name not in mine.index or missing(mine.loc[name, "estimate"]):
        return NOT_CALCULABLE
    row = mine.loc[name]
    printed = days if row["unit"] == "d" else significant
    value = printed(float(row["estimate"]))
    if missing(row["ci_lower"]) and missing(row["ci_upper"]):
        return value
    if missing(row["ci_upper"]):
        return f"{value} (≥ {printed(float(row['ci_lower']))})"
    lower, upper = printed(float(row["ci_lower"])), printed(float(row["ci_upper"]))
    return words.say(f"{value} ({lower} to {upper})", f"{value}（{lower} 至 {upper}）")


def _leading(mine: pd.DataFrame) -> str:
    """The first model of the averages; they may differ in which models enter, not in which leads."""
    filled = mine[mine["models"] != ""] if len(mine) else mine
    if not len(filled):
        return NOT_CALCULABLE
    row = filled.sort_values("n_models", ascending=False, kind="stable").iloc[0]
    first, *others = str(row["models"]).split()
    return f"{first} ({weight_text(float(row['weight_of_best']))})" + (f" + {len(others)}" if others else "")


def _remarks(words: Words, mine: pd.DataFrame, shown: list[str]) -> str:
    """Each reason once, with the quantities that it holds for."""
    reasons: dict[str, list[str]] = {}
    for name in shown:
        if name in mine.index and str(mine.loc[name, "reason"]):
            reasons.setdefault(str(mine.loc[name, "reason"]), []).append(words.pick(NAMES[name]))
    return words.say("; ", "；").join(
        reason if len(names) == len(shown) else words.colon(words.join(names), reason)
        for reason, names in reasons.items()
    )


def _footnotes(context: Context) -> tuple[str, ...]:
    words, models = Words(context.language), context.settings.models
    level = f"{100 * models.confidence:g} %"
    return (
        words.say(
            f"Average over the converged candidates by their Akaike weights ({level} interval), on the ln scale where "
            "all values are positive. The standard error is unconditional: it holds each model's own variance and the "
            "differences between the models (Burnham & Anderson 2004); the models' own variances are by the delta "
            "method and widened for the number of samples. A model without AICc, without the quantity or without its "
            "standard error is left out while the others carry at least 95 % of the weight, and the remarks say so.",
            f"按 Akaike 权重对已收敛候选模型取平均（{level} 区间），数值均为正时在 ln 尺度上进行。"
            "标准误为无条件标准误：包含各模型自身的方差与模型间的差异（Burnham & Anderson 2004）；"
            "模型自身的方差由 delta 法得到，并按样本数放宽。"
            "无 AICc、无该量或无其标准误的模型在其余模型至少占 95 % 权重时剔除，"
            "并在备注中说明。",
        ),
        words.say(
            "Unit: that of the assay. Leading model: the one of highest weight, its weight among the models averaged, "
            "and how many others entered. The weights of a single patient are uncertain themselves: the average shows "
            "how much the choice of the model matters, it does not settle it.",
            "单位：检测方法的单位。主导模型：权重最高者、其在平均中的权重以及另有几个模型参与。"
            "单个患者的权重本身亦不确定：平均值显示模型选择的影响，并不决定模型。",
        ),
        words.say(
            "AUC: area under the curve; LLOQ: lower limit of quantification.", "AUC：曲线下面积；LLOQ：定量下限。"
        ),
    )


TABLE = Table(
    name="model_averages",
    id="T-CK-21",
    number="21",
    title={
        "en": "Peak, AUC and time below the LLOQ averaged over the models",
        "zh": "模型平均的峰值、AUC 与降至定量下限的时间",
    },
    needs=NEEDS,
    build=build,
)
