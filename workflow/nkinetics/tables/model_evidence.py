"""T-CK-20: what speaks for each candidate model, profile by profile: likelihood, AICc, weight, what it identifies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nkinetics.akaike import weight_text
from nkinetics.leading import leading_model, leading_sentence
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body, share
from nkinetics.tables.model_parameters import models_blq
from nkinetics.wording import Words, missing, profile_name, profiles, without_quantified

NEEDS = ("fits", "estimates", "patients", "observations", "population_comparison")
NONE = "–"


def build(results: Results, context: Context) -> TableBody:
    """One row per assay, patient and candidate; one row with the reason for a patient without any."""
    words, fits = Words(context.language), results.table("fits")
    if not len(fits):
        return absent(results, context, words.say("No model was fitted.", "未拟合任何模型。"), NEEDS)
    lead = leading_model(results, context)
    identified = _identified(results.table("estimates"), words)
    candidates = list(dict.fromkeys((*context.settings.models.candidates, *sorted(set(fits["model"])))))
    rank = {name: i for i, name in enumerate(candidates)}
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        here = fits[(fits["assay"] == kind.assay) & (fits["specimen"] == kind.specimen)]
        fits_of = by_patient(here)
        for patient in results.patients.itertuples():
            own = fits_of(str(patient.patient_id))
            fitted_by = sorted(own.to_dict("records"), key=lambda fit: rank[fit["model"]])
            head = {
                words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                words.say("Dose level", "剂量水平"): str(patient.dose_level),
                words.say("Patient", "患者"): str(patient.patient_id),
            }
            if not len(own):
                said = reasons.get(str(patient.patient_id), words.say("not fitted", "未拟合"))
                rows.append(head | _cells(words, None, "", said, lead))
                patients.append(str(patient.patient_id))
            for fit in fitted_by:
                key = (patient.patient_id, kind.assay, kind.specimen, fit["model"])
                rows.append(head | _cells(words, fit, identified.get(key, ""), str(fit["reason"]), lead))
                patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context, candidates, leading_sentence(results, context), lead),
        subtitle=analysis_set(results, context),
        row_header=4,
        patients=patients,
    )


def _identified(estimates: pd.DataFrame, words: Words) -> dict[tuple[Any, ...], str]:
    """For each fit the fitted parameters that the data determine, and those that they do not."""
    fitted = estimates[estimates["kind"] == "fitted"]
    # Thousands of fits of a handful of parameters: plain lists, not a frame for each.
    columns = [fitted[c].tolist() for c in ("patient_id", "assay", "specimen", "model", "parameter")]
    of_fit: dict[tuple[Any, ...], list[tuple[str, bool]]] = {}
    for *fit, name, good in zip(*columns, fitted["identifiable"].fillna(False).astype(bool), strict=True):
        of_fit.setdefault(tuple(fit), []).append((str(name), bool(good)))
    found = {}
    for key, named in of_fit.items():
        known = discover("models").get(str(key[3]))
        order = {name: i for i, name in enumerate(known.names if known else ())}
        named.sort(key=lambda pair: order.get(pair[0], len(order)))
        yes, no = (words.join(name for name, good in named if good is wanted) for wanted in (True, False))
        found[key] = words.say("; ", "；").join(
            part for part in (yes, words.colon(words.say("not", "不可识别"), no) if no else "") if part
        )
    return found


def _cells(words: Words, fit: Mapping[str, Any] | None, identified: str, remark: str, lead: str) -> dict[str, str]:
    """What stands after the patient; codes where there is no fit."""

    def number(name: str, digits: int) -> str:
        return NOT_CALCULABLE if fit is None or missing(fit[name]) else f"{fit[name]:.{digits}f}"

    n = 0 if fit is None or missing(fit["n_obs"]) else int(fit["n_obs"])
    blq = 0 if fit is None or missing(fit["n_blq"]) else int(fit["n_blq"])
    done = fit is not None and not missing(fit["converged"]) and bool(fit["converged"])
    role = [] if fit is None else [*([words.say("shown", "所示")] * (fit["model"] == lead)), *_chosen(words, fit)]
    tried = fit is not None and not missing(fit["log_likelihood"])
    return {
        words.say("Model", "模型"): NONE if fit is None else str(fit["model"]),
        "n": str(n),
        words.say("BLQ (%)", "BLQ (%)"): f"{blq} ({share(blq / n, n)})" if n else "0",
        "ln L": number("log_likelihood", 2),
        "AICc": number("aicc", 2),
        words.say("Weight", "权重"): NOT_CALCULABLE
        if fit is None or missing(fit["aicc_weight"])
        else weight_text(float(fit["aicc_weight"])),
        words.say("Converged", "收敛"): (words.say("yes", "是") if done else words.say("no", "否")) if tried else NONE,
        words.say("Identifiable parameters", "可识别参数"): identified or NONE,
        words.say("Role", "作用"): words.join(role) or NONE,
        words.say("Remarks", "备注"): remark,
    }


def _is(value: object) -> bool:
    return not missing(value) and bool(value)


def _chosen(words: Words, fit: Mapping[str, Any]) -> list[str]:
    return [words.say("lowest AICc", "AICc 最低")] if _is(fit["selected"]) else []


def _footnotes(context: Context, names: list[str], leads: str, lead: str) -> tuple[str, ...]:
    words, models, known = Words(context.language), context.settings.models, discover("models")
    told = words.say("; ", "；").join(words.colon(n, words.pick(known[n].title)) for n in names if n in known)
    return (
        words.say(f"Models: {told}.", f"模型：{told}。"),
        words.say(
            f"n: rows in the likelihood, the same for every model of a profile; BLQ: rows below their LLOQ among them, "
            f"which enter by {models_blq(context)}. ln L: maximum of the log-likelihood (density of ln level). AICc: "
            "small-sample Akaike information criterion; it is not defined with n at most one more than the parameters, "
            "the residual SD among them. Weight: Akaike weight among the converged models with an AICc.",
            f"n：似然中的行数，同一检测谱的各模型相同；BLQ：其中低于定量下限的行数，按 {models_blq(context)} 处理。"
            "ln L：对数似然最大值（ln 水平的密度）。"
            "AICc：小样本 Akaike 信息准则；n 不超过参数个数（含残差 SD）加一时无定义。"
            "权重：已收敛且有 AICc 的模型间的 Akaike 权重。",
        ),
        words.say(
            f"Shown: {lead}. {leads} The lowest AICc of one patient is "
            "printed and not acted upon. “No expansion phase identifiable”: the interval of the growth rate reaches 0, "
            "so that the data of this patient do not tell growth from none; that is a result, not a failure. A "
            "parameter is identifiable when it is on no bound, its interval is closed, its relative standard error is "
            f"not above {models.rse_limit_pct:g} % and it can be told apart from the others.",
            f"所示：{lead}。{leads}单个患者的最低 AICc 仅列出，不据此选择。"
            "“No expansion phase identifiable”（未识别到扩增期）：增殖速率的区间包含 0，该患者的数据不能区分有无增殖；"
            f"这是结果而非失败。"
            f"参数可识别：不在边界、区间闭合、相对标准误不高于 {models.rse_limit_pct:g} %、且可与其他参数区分。",
        ),
        words.say("BLQ: below the lower limit of quantification (LLOQ).", "BLQ：低于定量下限（LLOQ）。"),
    )


TABLE = Table(
    name="model_evidence",
    id="T-CK-20",
    number="20",
    title={"en": "Evidence for each candidate model by patient", "zh": "各患者候选模型的证据"},
    needs=NEEDS,
    build=build,
)
