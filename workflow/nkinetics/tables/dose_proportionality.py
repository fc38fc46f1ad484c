"""T-CK-09: dose proportionality: slope of the power model, ratio of dose-normalised means, criterion, verdict."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.population.dose_proportionality import BIASED, INFUSIONS
from nkinetics.population.exposure import INFUSION
from nkinetics.results import Context, Results
from nkinetics.tables._dose import ends, model_based_theta
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.wording import Words, exposure_title, missing, profile_name, profiles, signed, verdict_words

NEEDS = ("dose_proportionality", "observations", "patients")


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, parameter and analysis; the slopes of single infusions stay in the file."""
    words, estimates = Words(context.language), results.table("dose_proportionality")
    if not len(estimates):
        return absent(results, context, words.say("No estimate of dose proportionality.", "无剂量比例性估计。"), NEEDS)
    model = model_based_theta(results)
    heads = _heads(words, context.settings.statistics.dose_proportionality.confidence)
    rows = []
    for kind in profiles(results).itertuples():
        own = estimates[(estimates["assay"] == kind.assay) & (estimates["specimen"] == kind.specimen)]
        name = profile_name(context, str(kind.assay), str(kind.specimen))
        rows += [_row(words, heads, name, row) for row in _ordered(own).to_dict("records")]
        if len(model):
            here = model[(model["assay"] == kind.assay) & (model["specimen"] == kind.specimen)]
            rows += [_model_row(words, heads, name, row) for row in here.to_dict("records")]
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=(*NEEDS, *(("population",) if len(model) else ())),
        footnotes=_footnotes(context, estimates, bool(len(model))),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def _ordered(own: pd.DataFrame) -> pd.DataFrame:
    """Cmax and AUC overall first, then the named windows, then all infusion intervals together."""
    shown = own[~own["window"].str.fullmatch(INFUSION)]
    rank = shown["window"].map(lambda w: (0, 0.0) if w == "overall" else (2, 0.0) if w == INFUSIONS else (1, _end(w)))
    order = {"power_model": 0, "power_model_censored": 1, "power_model_repeated": 2, "ratio": 3}
    parameter = shown["parameter"].map({"cmax": 0, "auc_last": 1, "auc_int": 2})
    keyed = shown.assign(_a=rank, _b=parameter, _c=shown["analysis"].map(order))
    return keyed.sort_values(["_a", "_b", "_c", "dose_level"], kind="stable").drop(columns=["_a", "_b", "_c"])


def _end(window: str) -> float:
    return float(window.rpartition("-")[2])


def _heads(words: Words, confidence: float) -> dict[str, str]:
    return {
        "assay": words.say("Assay", "检测方法"),
        "parameter": words.say("Parameter", "参数"),
        "analysis": words.say("Analysis", "分析"),
        "n": words.say("n by dose level", "各剂量水平 n"),
        "out": words.say("Below LLOQ / no value", "低于定量下限 / 无数值"),
        "estimate": words.say("Estimate", "估计值"),
        "ci": f"{100 * confidence:g} % CI",
        "criterion": words.say("Criterion", "判定标准"),
        "verdict": words.say("Verdict", "结论"),
        "remarks": words.say("Remarks", "备注"),
    }


def _row(words: Words, heads: dict[str, str], name: str, row: dict[str, Any]) -> dict[str, str]:
    estimated = not missing(row["estimate"])
    superseded = row["analysis"] in ("power_model", "ratio") and BIASED in str(row["reason"])
    cells = {
        "assay": name,
        "parameter": exposure_title(words, str(row["window"]), str(row["parameter"])),
        "analysis": _analysis(words, row),
        "n": str(row["n_by_level"]) or "–",
        "out": f"{row['n_below']} / {row['n_missing']}",
        "estimate": signed(float(row["estimate"])) if estimated else NOT_CALCULABLE,
        "ci": ends(words, row["ci_lower"], row["ci_upper"]) if estimated else NOT_CALCULABLE,
        "criterion": f"{row['limit_lower']:.2f}–{row['limit_upper']:.2f}" if not missing(row["limit_lower"]) else "–",
        "verdict": "–" if superseded else verdict_words(words, str(row["verdict"])) or "–",
        "remarks": str(row["reason"]),
    }
    return {heads[k]: v for k, v in cells.items()}


def _analysis(words: Words, row: dict[str, Any]) -> str:
    if row["analysis"] == "ratio":
        levels = f"{row['dose_level']}/{row['reference_level']}"
        return words.say(f"Ratio {levels} per amount given", f"按实际剂量归一化之比 {levels}")
    if row["analysis"] == "power_model_censored":
        return words.say("Slope θ, patients below LLOQ censored", "斜率 θ，低于定量下限者按删失处理")
    if row["analysis"] == "power_model_repeated":
        if row["method"] == "ols_patient_means":
            return words.say("Slope θ, means of the patients", "斜率 θ，患者均值")
        return words.say("Slope θ, random intercept", "斜率 θ，随机截距")
    return words.say("Slope θ", "斜率 θ")


def _model_row(words: Words, heads: dict[str, str], name: str, row: dict[str, Any]) -> dict[str, str]:
    """The slope of the population model, beside those of the non-compartmental metrics."""
    model, method = str(row["model"]), str(row["method"])
    cells = dict.fromkeys(heads, "–") | {
        "assay": name,
        "parameter": words.say(f"Population model {model}", f"群体模型 {model}"),
        "analysis": words.say(f"Slope θ, {method}", f"斜率 θ，{method}"),
        "estimate": NOT_CALCULABLE if missing(row["estimate"]) else signed(float(row["estimate"])),
        "ci": ends(words, row["ci_lower"], row["ci_upper"]),
        "remarks": str(row.get("reason", "") or ""),
    }
    return {heads[k]: v for k, v in cells.items()}


def _footnotes(context: Context, estimates: pd.DataFrame, model: bool) -> tuple[str, ...]:
    words, choices = Words(context.language), context.settings.statistics.dose_proportionality
    level, (low, high) = f"{100 * choices.confidence:g} %", choices.limits
    limits = estimates.loc[estimates["analysis"] != "ratio", ["dose_ratio", "limit_lower", "limit_upper"]]
    limits = limits.dropna().drop_duplicates("dose_ratio").sort_values("dose_ratio")
    spelled = words.join(f"{r.limit_lower:.2f}–{r.limit_upper:.2f} (r = {r.dose_ratio:g})" for r in limits.itertuples())
    notes = [
        words.say(
            f"θ: slope of ln(parameter) on ln(amount given), least squares, one value per patient; {level} CI by "
            "Student's t. Amount: the sum of all infusions that started before the end of the window, of an infusion "
            "interval its infusion. Dose proportional: θ = 1. Criterion: the ratio of dose-normalised geometric means "
            f"between the dose levels within {low:g}–{high:g}, that is θ within 1 + ln({low:g})/ln(r) and "
            f"1 + ln({high:g})/ln(r), r the ratio of the planned amounts"
            + (f": {spelled}" if spelled else "")
            + ". Stated only where the whole CI lies inside (dose proportional) or outside (not dose proportional); "
            "otherwise inconclusive. Not adjusted for the number of parameters.",
            f"θ：ln(参数) 对 ln(实际给药量) 的斜率，最小二乘，每例一个数值；{level} CI 由 t 分布得到。"
            "给药量：窗口结束前开始的各次输注之和；输注间期为该次输注。θ = 1 即与剂量成比例。"
            f"判定标准：剂量水平间剂量归一化几何均值之比在 {low:g}–{high:g} 内，即 θ 在 1 + ln({low:g})/ln(r) 与 "
            f"1 + ln({high:g})/ln(r) 之间，r 为计划剂量之比"
            + (f"：{spelled}" if spelled else "")
            + "。仅当整个 CI 位于界内（成比例）或界外（不成比例）时下结论，否则无法判定。未对参数个数作校正。",
        ),
        words.say(
            "Below LLOQ: treated and sampled in the window, and never quantified; such a patient has no value, and is "
            "counted in the censored slope: maximum likelihood with the value below the lowest LLOQ of the patient's "
            "samples (areas: that LLOQ times the length of the window), CI by the profile of the likelihood. It then "
            "stands for the verdict: without the lowest patients the plain slope is biased. Random "
            "intercept: mixed model over the infusion intervals, one effect per infusion, CI by t with n − 2 degrees "
            "of freedom; where it did not converge or found no variance between patients, least squares on the "
            f"patients' means. Ratio: Welch's t on ln(parameter / amount given), criterion {low:g}–{high:g}. "
            "Single infusions: dose_proportionality.csv.",
            "低于定量下限：窗口内已采样但从未达到定量水平；该例无数值，计入删失斜率："
            "极大似然，数值低于其样本的最低定量下限（面积：该下限乘以窗口长度），CI 由似然剖面得到。"
            "此时以其下结论：剔除最低者的普通斜率有偏。"
            "随机截距：各输注间期的混合模型，每次输注一个效应，CI 由自由度 n − 2 的 t 分布得到；"
            "未收敛或无患者间方差时，采用患者均值的最小二乘。"
            f"比值：ln(参数 / 实际给药量) 的 Welch t，判定标准 {low:g}–{high:g}。单次输注见 dose_proportionality.csv。",
        ),
        words.say(
            "AUC: area under the curve; CI: confidence interval; LLOQ: lower limit of quantification.",
            "AUC：曲线下面积；CI：置信区间；LLOQ：定量下限。",
        ),
    ]
    if model:
        notes.append(
            words.say(
                "Population model: effect of the amount given on the scale of the curve, with the interval of its "
                "method; levels below the LLOQ in the likelihood.",
                "群体模型：实际给药量对曲线尺度的效应，区间依其方法；低于定量下限的结果计入似然。",
            )
        )
    return tuple(notes)


TABLE = Table(
    name="dose_proportionality",
    id="T-CK-09",
    number="9",
    title={"en": "Dose proportionality", "zh": "剂量比例性"},
    needs=NEEDS,
    build=build,
)
