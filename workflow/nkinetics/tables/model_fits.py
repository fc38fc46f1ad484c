"""L-16.2.5.6: every model fit: starting values, search limits, bounds hit, AICc, method of the interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nkinetics.leading import leading_model
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results, by_patient, rows_by
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.tables.model_parameters import interval
from nkinetics.wording import Words, missing, profile_name, profiles, significant, unit_name, without_quantified

NEEDS = ("fits", "estimates", "patients", "observations", "population_comparison")
NONE = "–"
EVERY_MODEL_UP_TO = 60
"""Patients beyond whom only the model shown and the one of lowest AICc are listed: the files hold all of them."""


def build(results: Results, context: Context) -> TableBody:
    """One row per assay, patient, model and fitted parameter; one with the reason where nothing was fitted."""
    words, fits = Words(context.language), results.table("fits")
    if not len(fits):
        return absent(results, context, words.say("No model was fitted.", "未拟合任何模型。"), NEEDS)
    whole = len(results.patients) <= EVERY_MODEL_UP_TO
    if not whole:
        lead = fits["model"] == leading_model(results, context)
        fits = fits[fits[["default", "selected"]].fillna(False).astype(bool).any(axis=1) | lead]
    estimates = results.table("estimates")
    estimates = estimates[estimates["kind"] == "fitted"]
    parts = rows_by(estimates, "patient_id", "assay", "specimen", "model")
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        here = fits[(fits["assay"] == kind.assay) & (fits["specimen"] == kind.specimen)]
        fits_of = by_patient(here)
        for patient in results.patients.itertuples():
            head = {
                words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                words.say("Patient", "患者"): str(patient.patient_id),
            }
            own = fits_of(str(patient.patient_id)).sort_values("model")
            made = [
                head | line
                for fit in own.to_dict("records")
                for line in _lines(words, fit, parts(patient.patient_id, kind.assay, kind.specimen, fit["model"]))
            ]
            if not made:
                said = reasons.get(str(patient.patient_id), words.say("not fitted", "未拟合"))
                made = [head | _line(words, NONE, None, None, NOT_CALCULABLE, NONE, said)]
            rows += made
            patients += [str(patient.patient_id)] * len(made)
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context, whole),
        subtitle=analysis_set(results, context),
        row_header=4,
        patients=patients,
    )


def _lines(words: Words, fit: Mapping[str, Any], own: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of a fit: what holds for the whole fit stands in its first one."""
    criterion = NOT_CALCULABLE if missing(fit["aicc"]) else f"{fit['aicc']:.2f}"
    agree, tried = fit["n_restarts_agree"], fit["n_starts"]
    agreed = NONE if missing(agree) else f"{int(agree)}" + ("" if missing(tried) else f" / {int(tried)}")
    if not len(own):
        return [_line(words, str(fit["model"]), None, fit, criterion, agreed, str(fit["reason"]))]
    known = discover("models").get(str(fit["model"]))
    order = {name: i for i, name in enumerate(known.names if known else ())}
    own = own.assign(_rank=own["parameter"].map(order).fillna(len(order))).sort_values("_rank", kind="stable")
    return [
        _line(
            words,
            str(fit["model"]),
            row,
            fit,
            criterion if i == 0 else "",
            agreed if i == 0 else "",
            "; ".join(filter(None, [str(fit["reason"]) if i == 0 else "", str(row["reason"])])),
        )
        for i, (_, row) in enumerate(own.iterrows())
    ]


def _line(
    words: Words,
    model: str,
    row: pd.Series | None,
    fit: Mapping[str, Any] | None,
    criterion: str,
    agreed: str,
    remark: str,
) -> dict[str, str]:
    def number(name: str) -> str:
        return NOT_CALCULABLE if row is None or missing(row[name]) else significant(float(row[name]))

    bounds = str(fit["at_bound"]).split() if fit is not None and not missing(fit["at_bound"]) else []
    limits = [number("lower_limit"), number("upper_limit")]
    named = "" if row is None else str(row["parameter"])
    unit = "" if row is None or missing(row["unit"]) else f" ({unit_name(str(row['unit']))})"
    return {
        words.say("Model", "模型"): model,
        words.say("Parameter", "参数"): f"{named}{unit}" or NONE,
        words.say("Start", "起始值"): number("start"),
        words.say("Search limits", "搜索范围"): NOT_CALCULABLE if NOT_CALCULABLE in limits else " – ".join(limits),
        words.say("Estimate", "估计值"): number("estimate"),
        words.say("At bound", "在边界"): NONE
        if row is None
        else words.say("yes", "是")
        if named in bounds
        else words.say("no", "否"),
        words.say("Interval", "区间"): (interval(words, row) if row is not None else "") or NONE,
        words.say("Method", "方法"): NONE if row is None else _method(words, str(row["ci_method"])),
        "AICc": criterion,
        words.say("Starts that agree", "一致的起始点"): agreed,
        words.say("Remarks", "备注"): remark,
    }


def _method(words: Words, name: str) -> str:
    known = {
        "profile": words.say("profile likelihood", "剖面似然"),
        "delta": words.say("delta method", "delta 法"),
        "bootstrap": words.say("bootstrap", "自助法"),
        "none": NONE,
    }
    return known.get(name, name)


def _footnotes(context: Context, whole: bool) -> tuple[str, ...]:
    words, models = Words(context.language), context.settings.models
    scope = (
        words.say("Every candidate is listed.", "列出全部候选模型。")
        if whole
        else words.say(
            f"More than {EVERY_MODEL_UP_TO} patients: listed are the model shown and the one of lowest AICc; fits.csv "
            "and estimates.csv hold all candidates.",
            f"患者多于 {EVERY_MODEL_UP_TO} 例：仅列所示模型与 AICc 最低的模型；"
            "fits.csv 与 estimates.csv 含全部候选模型。",
        )
    )
    return (
        words.say(
            "Start: where the search that led to the estimate began, one of several starts from the patient's own "
            "data. Search limits: of the parameter; at bound: the estimate stands on one. Starts that agree: starts "
            "and restarts that ended within 0.01 of the best log-likelihood, of those tried. An interval that ends at "
            f"the parameter's natural bound is open there. Confidence {100 * models.confidence:g} %. {scope}",
            "起始值：得到该估计的搜索起点，为依据患者自身数据的多个起点之一。搜索范围：参数的范围；在边界：估计值位于范围端点。"
            "一致的起始点：在所试起点与重启中，终点与最佳对数似然相差 0.01 以内者。止于参数自然边界的区间在该侧开放。"
            f"置信度 {100 * models.confidence:g} %。{scope}",
        ),
        words.say("AICc: small-sample Akaike information criterion.", "AICc：小样本 Akaike 信息准则。"),
    )


TABLE = Table(
    name="model_fits",
    id="L-16.2.5.6",
    number="6",
    title={"en": "Model fits of every patient", "zh": "各患者的模型拟合"},
    needs=NEEDS,
    build=build,
)
