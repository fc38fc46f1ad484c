"""T-CK-14: population parameters of the model shown, by the primary method, and the other one beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.leading import (
    METHOD_NAMES,
    Shown,
    none_fitted,
    older_data,
    ordered,
    parameter_name,
    parameter_of,
    shown,
    subtitle_of,
)
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, body
from nkinetics.wording import Words, missing, signed, unit_name

NEEDS = ("population", "population_comparison", "patients")
NONE = "–"
KINDS = {
    "typical": {"en": "Typical values", "zh": "典型值"},
    "covariate": {"en": "Effects of dose level and covariates", "zh": "剂量水平与协变量效应"},
    "omega": {"en": "Variability between patients", "zh": "患者间变异"},
    "sigma": {"en": "Residual", "zh": "残差"},
    "derived": {"en": "Derived, of a typical patient", "zh": "由典型患者导出"},
}


def build(results: Results, context: Context) -> TableBody:
    """One row per population parameter."""
    words, fit = Words(context.language), shown(results)
    why = none_fitted(results, context, fit)
    if fit is None:
        return absent(results, context, why, NEEDS)
    table = results.table("population")
    methods = _methods(table, fit)
    by_method = {m: Shown(fit.assay, fit.specimen, fit.model, m).of(table) for m in methods}
    common = {m: common_reasons(by_method[m]) for m in methods}
    whole = ordered(pd.concat([by_method[m] for m in methods]).drop_duplicates(["kind", "parameter"]), fit.model)
    indexed = {m: own.set_index(["kind", "parameter"]) for m, own in by_method.items()}
    rows = [
        {
            words.say("Kind", "类别"): words.pick(KINDS[kind]),
            words.say("Parameter", "参数"): _named(words, fit.model, kind, name, unit),
            **{
                heading: cell
                for m in methods
                for heading, cell in _cells(words, m, indexed[m], (kind, name), fit.model).items()
            },
            words.say("Remarks", "备注"): _remarks(words, indexed, common, (kind, name)),
        }
        for kind, name, unit in zip(whole["kind"], whole["parameter"], whole["unit"].fillna(""), strict=True)
    ]
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=(
            *filter(None, [older_data(results, context)]),
            *_footnotes(context, words, fit, by_method, common),
        ),
        subtitle=subtitle_of(results, context, fit),
        row_header=2,
    )


def _methods(table: pd.DataFrame, fit: Shown) -> list[str]:
    """The primary method, then the others of the same fit."""
    same = (table["assay"] == fit.assay) & (table["specimen"] == fit.specimen) & (table["model"] == fit.model)
    return list(dict.fromkeys([fit.method, *sorted(set(table.loc[same, "method"]))]))


def common_reasons(rows: pd.DataFrame) -> list[str]:
    """What is said of the fit as a whole: reasons that every estimated parameter carries.

    Examples
    --------
    >>> common_reasons(pd.DataFrame({"kind": ["typical", "omega"], "reason": ["b; not settled", "not settled"]}))
    ['not settled']
    """
    said = [str(r).split("; ") if r else [] for r in rows.loc[rows["kind"] != "derived", "reason"]]
    return [part for part in (said[0] if len(said) > 1 else []) if all(part in other for other in said)]


def _named(words: Words, model: str, kind: str, name: str, unit: str) -> str:
    printed = parameter_name(words, kind, name) + (f" ({unit_name(unit)})" if unit else "")
    parameter = parameter_of(model, name)
    if name == "theta_dose":
        return words.colon(printed, words.say("exponent of the amount given", "给药量的指数"))
    if kind == "typical" and parameter is not None:
        return words.colon(printed, words.pick(parameter.meaning))
    return printed


def _cells(words: Words, method: str, rows: pd.DataFrame, key: tuple[str, str], model: str) -> dict[str, str]:
    """Columns of one method."""
    head = METHOD_NAMES.get(method, method)
    row: Mapping[str, Any] = rows.loc[key].to_dict() if key in rows.index else {}
    found = {
        words.say("estimate (95 % interval)", "估计值（95 % 区间）"): _estimate(words, row),
        "RSE %": _number(row, "rse_pct", signed),
        "CV %": _cv(row, key, model),
        words.say("shrinkage %", "收缩 %"): _number(row, "shrinkage_pct", signed),
    }
    if method == "bayes":
        found[words.say("prior", "先验")] = str(row.get("prior") or NONE)
        found["Rhat / ESS"] = (
            NONE if missing(row.get("rhat")) else f"{float(row['rhat']):.3f} / {float(row['ess']):.0f}"
        )
    else:
        found[words.say("spread of runs (SE)", "各次运行之差（SE）")] = _number(
            row, "seed_spread", lambda x: f"{x:.2f}"
        )
    return {f"{head}: {name}": cell for name, cell in found.items()}


def _estimate(words: Words, row: Mapping[str, Any]) -> str:
    if not row or missing(row["estimate"]):
        return NOT_CALCULABLE
    # 3 significant figures, times and percentages too: what rests on few patients has no more.
    value = signed(float(row["estimate"]))
    if missing(row["ci_lower"]) or missing(row["ci_upper"]):
        return value
    low, high = signed(float(row["ci_lower"])), signed(float(row["ci_upper"]))
    return f"{value} ({words.say(f'{low} to {high}', f'{low} 至 {high}')})"


def _number(row: Mapping[str, Any], name: str, printed: Any) -> str:
    return NONE if missing(row.get(name)) else printed(float(row[name]))


def _cv(row: Mapping[str, Any], key: tuple[str, str], model: str) -> str:
    """Coefficient of variation of a parameter that is log-normal between patients."""
    parameter = parameter_of(model, key[1])
    if key[0] != "omega" or parameter is None or parameter.scale != "log" or missing(row.get("estimate")):
        return NONE
    return signed(100.0 * float(np.sqrt(np.expm1(float(row["estimate"]) ** 2))))


def _remarks(
    words: Words,
    indexed: Mapping[str, pd.DataFrame],
    common: Mapping[str, Sequence[str]],
    key: tuple[str, str],
) -> str:
    """Reasons of this parameter alone, under the name of the method that gives them."""
    said: dict[str, list[str]] = {}
    for method, rows in indexed.items():
        reason = str(rows.loc[key, "reason"] or "") if key in rows.index else ""
        own = "; ".join(part for part in reason.split("; ") if part and part not in common[method])
        if own:
            said.setdefault(own, []).append(METHOD_NAMES.get(method, method))
    parts = [own if len(m) == len(indexed) else words.colon(words.join(m), own) for own, m in said.items()]
    return "; ".join(parts)


def _footnotes(
    context: Context,
    words: Words,
    fit: Shown,
    by_method: Mapping[str, pd.DataFrame],
    common: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    known, choices = discover("models").get(fit.model), context.settings.population
    formula = known.formula(context.settings.models.constants(known.name)) if known else ""
    first = by_method[fit.method].iloc[0]
    counts = {k: 0 if missing(first[k]) else int(first[k]) for k in ("n_patients", "n_obs", "n_blq")}
    primary = METHOD_NAMES.get(fit.method, fit.method)
    notes = [
        words.say(
            f"Model: {words.pick(known.title) if known else fit.model}" + (f", {formula}" if formula else "") + ". "
            f"{counts['n_patients']} patients with {counts['n_obs']} rows, {counts['n_blq']} of them below their LLOQ, "
            f"which enter by {context.settings.blq.models} (Beal 2001).",
            f"模型：{words.pick(known.title) if known else fit.model}" + (f"，{formula}" if formula else "") + "。"
            f"{counts['n_patients']} 例患者共 {counts['n_obs']} 行，其中 {counts['n_blq']} 行低于定量下限，"
            f"按 {context.settings.blq.models} 处理 (Beal 2001)。",
        )
    ]
    for method, reasons in common.items():
        if reasons:
            name = METHOD_NAMES.get(method, method)
            notes.append(
                words.say(f"With care, {name}: {'; '.join(reasons)}.", f"{name} 结果须谨慎解读：{'; '.join(reasons)}。")
            )
    rule = (
        words.say(
            f"the rule: Bayes below {choices.bayes_below} patients, SAEM from there on",
            f"规则：少于 {choices.bayes_below} 例用 Bayes，否则用 SAEM",
        )
        if choices.method == "auto"
        else words.say("set by the configuration", "由配置指定")
    )
    others = [METHOD_NAMES.get(m, m) for m in by_method if m != fit.method]
    beside = (
        words.say(f"{words.join(others)} stands beside it", f"并列 {words.join(others)}")
        if others
        else words.say(
            "the other method was not run (population.compare, or nkinetics population --both)",
            "未运行另一方法（population.compare 或 nkinetics population --both）",
        )
    )
    notes += [
        words.say(
            f"Primary method: {primary} ({rule}); {beside}. Bayes: posterior median and 95 % interval; SAEM: maximum "
            "likelihood, interval from Louis' information (t of n - 1 patients for what rests on patients).",
            f"主要方法：{primary}（{rule}）；{beside}。Bayes：后验中位数与 95 % 区间；SAEM：最大似然，"
            "区间由 Louis 信息得出（与患者数有关者用 n - 1 自由度的 t 分布）。",
        ),
        words.say(
            "Typical values: at the reference dose, natural scale. ω: SD between patients on the scale of estimation "
            "(ln, or logit of a fraction); CV %: the same as a coefficient of variation. Sigma: residual SD of ln "
            "level. theta_dose: exponent of the amount given on the level, 1 = proportional. RSE: relative standard "
            "error. Shrinkage: how far the individual deviations are drawn to the typical value; above 30 % individual "
            "estimates say little. Spread of runs: largest difference between SAEM runs of equal likelihood.",
            "典型值：参考剂量下，自然尺度。ω：估计尺度（ln，分数为 logit）上的患者间 SD；CV %：换算的变异系数。"
            "Sigma：ln 水平的残差 SD。theta_dose：给药量对水平的指数，1 = 成比例。RSE：相对标准误。"
            "收缩：个体偏差向典型值收缩的程度；高于 30 % 时个体估计信息有限。"
            "各次运行之差：似然相当的 SAEM 运行间最大差异。",
        ),
    ]
    if "bayes" in by_method:
        notes.append(
            words.say(
                "Rhat: agreement of the chains, 1.02 at most; ESS: effective number of draws, 400 at least. The prior "
                "against the posterior is drawn in a figure.",
                "Rhat：各链一致性，至多 1.02；ESS：有效抽样数，至少 400。先验与后验的对比见图。",
            )
        )
    return tuple(notes)


TABLE = Table(
    name="population_parameters",
    id="T-CK-14",
    number="14",
    title={"en": "Population parameters", "zh": "群体参数"},
    needs=NEEDS,
    build=build,
)
