"""T-CK-19: how much each patient's parameters depend on the rule for levels below the LLOQ."""

from __future__ import annotations

import pandas as pd

from nkinetics.leading import led
from nkinetics.nca.blq_sensitivity import MODEL, OF_THE_MODEL, RULES, with_model
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.tables._nca import BY_NAME, OUTSIDE, Shown, printed
from nkinetics.tables.model_parameters import quantity_name
from nkinetics.wording import Words, blq_footnote, missing, percent, profile_name, profiles, unit_name

NEEDS = ("blq_sensitivity", "estimates", "observations", "patients", "fits", "population_comparison")
SHOWN = ("cmax", "auc_last", "auc_int", "half_life", "tlast")


def heads(words: Words, method: str) -> dict[str, str]:
    """Heads of the rules and of the model."""
    return {
        "configured": words.say("By position (as analysed)", "按位置（实际分析）"),
        "zero": words.say("All 0", "均为 0"),
        "half_lloq": words.say("All LLOQ/2", "均为 LLOQ/2"),
        "drop": words.say("All dropped", "均剔除"),
        MODEL: words.say(f"Model ({method})", f"模型（{method}）"),
    }


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, parameter and patient."""
    words, table = Words(context.language), results.table("blq_sensitivity")
    if not len(table):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    context = led(results, context)
    model, columns = context.settings.models.default, heads(words, context.settings.blq.models)
    compared = with_model(table, results.table("estimates"), model)
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        own = compared[(compared["assay"] == kind.assay) & (compared["specimen"] == kind.specimen)]
        for name in SHOWN:
            shown = BY_NAME[name]
            here = own[own["parameter"] == name].set_index("patient_id")
            units = [u for u in here["unit"].unique() if not missing(u)]
            title = words.pick(shown.title)
            for patient in results.patients.itertuples():
                row = here.loc[patient.patient_id] if patient.patient_id in here.index else None
                rows.append(
                    {
                        words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                        words.say("Parameter", "参数"): f"{title} ({unit_name(str(units[0]))})" if units else title,
                        words.say("Patient", "患者"): str(patient.patient_id),
                        **{columns[r]: _cell(words, shown, row, r) for r in columns},
                        words.say("Largest change, %", "最大变化 %"): _change(row),
                        words.say("Remarks", "备注"): _remarks(words, columns, row),
                    }
                )
                patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context, model),
        subtitle=analysis_set(results, context),
        row_header=3,
        patients=patients,
    )


def _cell(words: Words, shown: Shown, row: pd.Series | None, rule: str) -> str:
    if rule == MODEL and shown.parameter not in OF_THE_MODEL:
        return "–"
    if row is None or missing(row[rule]):
        return NOT_CALCULABLE
    if rule == MODEL and not missing(row["identifiable"]) and not bool(row["identifiable"]):
        return words.say("not identifiable", "不可识别")
    mark = " †" if rule != MODEL and OUTSIDE in str(row[f"{rule}_reason"]) else ""
    return printed(shown, float(row[rule])) + mark


def _change(row: pd.Series | None) -> str:
    return NOT_CALCULABLE if row is None or missing(row["change_pct"]) else percent(float(row["change_pct"]))


def _remarks(words: Words, columns: dict[str, str], row: pd.Series | None) -> str:
    """Why a value is missing, each reason once with the rules it holds for."""
    if row is None:
        return words.say("no row in blq_sensitivity.csv", "blq_sensitivity.csv 中无记录")
    reasons: dict[str, list[str]] = {}
    for rule in RULES:
        if missing(row[rule]) and not missing(row[f"{rule}_reason"]):
            reasons.setdefault(str(row[f"{rule}_reason"]), []).append(columns[rule])
    return "; ".join(
        reason if len(who) == len(RULES) else words.colon(words.join(who), reason) for reason, who in reasons.items()
    )


def _footnotes(context: Context, model: str) -> tuple[str, ...]:
    words, method = Words(context.language), context.settings.blq.models
    quantities = words.join(
        quantity_name(words, model, q) for q in ("half_life_delta", "half_life_beta", "t_below_lloq")
    )
    return (
        blq_footnote(context),
        words.say(
            "All 0, all LLOQ/2, all dropped: every level below its LLOQ replaced before the analysis, as a program "
            "does that sees only a number. A 0 is a point of the curve and no level: it ends the AUC at the first "
            "sample below the LLOQ. LLOQ/2 counts as a measured level, also for Tlast and the half-life. Dropped: the "
            "sample was never taken, so that a loss cannot be told from follow-up that ended. † outside the "
            "acceptance limits. Largest change: of these three from the analysis by position.",
            "均为 0、均为 LLOQ/2、均剔除：分析前替换所有低于定量下限的结果，如同仅见数字的程序所为。"
            "0 是曲线上的点而非水平，使 AUC 止于首个低于定量下限的样本；LLOQ/2 视为实测水平，亦用于 Tlast 与半衰期；"
            "剔除视为未采样，因而无法区分消失与随访结束。† 超出接受限。最大变化：三者相对按位置分析的变化。",
        ),
        words.say(
            f"Model: the fit of {model}, in whose likelihood a level below its LLOQ counts as {method} (M3: the "
            "probability of lying below it) without any number in its place: Cmax and AUC of the fitted curve; "
            f"{quantities}. Its time below the LLOQ is a time of loss and stands beside Tlast. NC where the model has "
            "no estimate.",
            f"模型：{model} 拟合，似然中低于定量下限的结果按 {method} 处理（M3：低于该下限的概率），不代入任何数值："
            f"拟合曲线的 Cmax 与 AUC；{quantities}。降至定量下限的时间为消失时间，列于 Tlast 一栏。"
            "模型无估计时为 NC。",
        ),
        words.say(
            "AUC: area under the curve; LLOQ: lower limit of quantification; Tlast: time of the last quantified level.",
            "AUC：曲线下面积；LLOQ：定量下限；Tlast：末个可定量水平的时间。",
        ),
    )


TABLE = Table(
    name="blq_sensitivity",
    id="T-CK-19",
    number="19",
    title={
        "en": "Parameters under other rules for levels below the LLOQ",
        "zh": "不同低于定量下限处理规则下的参数",
    },
    needs=NEEDS,
    build=build,
)
