"""T-CK-07: parameters of the leading kinetic model, patient by patient, and what AICc would choose."""

from __future__ import annotations

import pandas as pd

from nkinetics.leading import leading_sentence, led, preference
from nkinetics.plugins import KineticModel, Table, TableBody, discover
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.wording import (
    Words,
    days,
    missing,
    profile_name,
    profiles,
    significant,
    unit_name,
    without_quantified,
)

NEEDS = ("fits", "estimates", "patients", "population_comparison")
DERIVED = ("half_life_delta", "half_life_alpha", "half_life_beta", "doubling_time", "t_below_lloq")
"""Derived quantities that are shown beside the fitted ones, where the model has them."""

QUANTITY_NAMES = {
    "half_life_delta": {"en": "half-life", "zh": "半衰期"},
    "half_life_alpha": {"en": "first half-life", "zh": "初始相半衰期"},
    "half_life_beta": {"en": "second half-life", "zh": "末端相半衰期"},
    "doubling_time": {"en": "doubling time", "zh": "倍增时间"},
    "t_below_lloq": {"en": "time below LLOQ", "zh": "降至定量下限的时间"},
}


def build(results: Results, context: Context) -> TableBody:
    """One row per patient and assay, also where no model could be fitted."""
    words, fits, context = Words(context.language), results.table("fits"), led(results, context)
    if not len(fits):
        return absent(results, context, words.say("No model was fitted.", "未拟合任何模型。"), NEEDS)
    default = context.settings.models.default
    estimates = results.table("estimates")
    estimates = estimates[estimates["model"] == default]
    quantities = quantities_in(estimates)
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        here = (kind.assay, kind.specimen)
        reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        own_fits = fits[(fits["assay"] == here[0]) & (fits["specimen"] == here[1])]
        own = estimates[(estimates["assay"] == here[0]) & (estimates["specimen"] == here[1])]
        fits_of = by_patient(own_fits)
        estimates_of = by_patient(own)
        for patient in results.patients.itertuples():
            mine = fits_of(str(patient.patient_id))
            values = estimates_of(str(patient.patient_id)).set_index("parameter")
            rows.append(
                {
                    words.say("Assay", "检测方法"): profile_name(
                        context, str(kind.assay), str(kind.specimen), str(kind.level_unit)
                    ),
                    words.say("Dose level", "剂量水平"): str(patient.dose_level),
                    words.say("Patient", "患者"): str(patient.patient_id),
                    words.say("n (BLQ)", "n (BLQ)"): _counts(mine[mine["model"] == default]),
                    **{_heading(words, default, q): _cell(words, values, q) for q in quantities},
                    words.say("Chosen by AICc (weight)", "AICc 选择（权重）"): _selected(words, mine),
                    words.say("Remarks", "备注"): _remarks(
                        words,
                        mine[mine["model"] == default],
                        values,
                        quantities,
                        reasons.get(str(patient.patient_id), ""),
                        preference(results, context, _selected_model(mine)),
                    ),
                }
            )
            patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context, leading_sentence(results, context)),
        subtitle=f"{analysis_set(results, context)} · {_model_title(words, default)}",
        row_header=3,
        patients=patients,
    )


def model(name: str) -> KineticModel | None:
    """The plug-in of a model, None where results name one that is not installed."""
    return discover("models").get(name)


def _model_title(words: Words, name: str) -> str:
    known = model(name)
    return words.pick(known.title) if known else name


def quantities_in(estimates: pd.DataFrame) -> list[str]:
    """Fitted parameters in the model's order of appearance, then the derived ones that exist."""
    fitted = list(dict.fromkeys(estimates.loc[estimates["kind"] == "fitted", "parameter"]))
    known = model(str(estimates["model"].iloc[0])) if len(estimates) else None
    if known:
        fitted.sort(key=lambda p: known.names.index(p) if p in known.names else len(known.names))
    present = set(estimates["parameter"])
    return [*fitted, *(d for d in DERIVED if d in present)]


def undetermined(estimates: pd.DataFrame) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Quantities of this table that it calls not identifiable, by patient, assay and specimen, fitted ones first.

    A quantity that does not exist (no doubling time where nothing grows) is NC with its reason, and is none of these.

    Parameters
    ----------
    estimates : DataFrame
        Rows of estimates.csv of one model.
    """
    rank = {quantity: i for i, quantity in enumerate(quantities_in(estimates))}
    own = estimates[estimates["parameter"].isin(rank) & estimates["estimate"].notna()]
    own = own[~own["identifiable"].fillna(False).astype(bool)]
    own = own.assign(_rank=own["parameter"].map(rank)).sort_values(["patient_id", "assay", "specimen", "_rank"])
    return {
        (str(patient), str(assay), str(specimen)): tuple(rows["parameter"])
        for (patient, assay, specimen), rows in own.groupby(["patient_id", "assay", "specimen"], sort=True)
    }


def quantity_name(words: Words, model_name: str, quantity: str) -> str:
    """What a parameter is called, with its identifier where the model defines it."""
    if quantity in QUANTITY_NAMES:
        return words.pick(QUANTITY_NAMES[quantity])
    if quantity == "sigma":
        return words.say("sigma: residual SD of ln level", "sigma：ln 水平的残差 SD")
    known = model(model_name)
    for parameter in known.parameters if known else ():
        if parameter.name == quantity:
            return words.colon(quantity, words.pick(parameter.meaning))
    return quantity


def _heading(words: Words, model_name: str, quantity: str) -> str:
    unit = {"delta": "1/d", "rho": "1/d", "alpha": "1/d", "beta": "1/d"}.get(quantity)
    known = model(model_name)
    for parameter in known.parameters if known else ():
        if parameter.name == quantity:
            unit = "" if parameter.unit == "level_unit" else parameter.unit
    if quantity in DERIVED:
        unit = "d"
    name = quantity if quantity not in QUANTITY_NAMES else words.pick(QUANTITY_NAMES[quantity])
    return f"{name} ({unit_name(unit)})" if unit else name


def _cell(words: Words, values: pd.DataFrame, quantity: str) -> str:
    """Estimate and interval; in words where the data do not determine the parameter."""
    if quantity not in values.index:
        return "NC"
    row = values.loc[quantity]
    if missing(row["estimate"]):
        return "NC"
    printed = estimate(row)
    ends = interval(words, row)
    if not bool(row["identifiable"]):
        return words.say("not identifiable", "不可识别") + (f" ({ends})" if ends else "")
    return f"{printed} ({ends})" if ends else printed


def estimate(row: pd.Series) -> str:
    """An estimate as printed: times 2 decimals, others 3 significant figures."""
    value = float(row["estimate"])
    return days(value) if row["unit"] == "d" else significant(value)


def interval(words: Words, row: pd.Series) -> str:
    """An interval as printed, open ends in words; empty where there is none."""
    if str(row["ci_method"]) in ("", "none"):
        return ""
    lower, upper = row["ci_lower"], row["ci_upper"]
    if missing(lower) and missing(upper):
        return words.say("open on both sides", "两端开放")
    printed = days if row["unit"] == "d" else significant
    if missing(lower):
        return f"≤ {printed(float(upper))}"
    if missing(upper):
        return f"≥ {printed(float(lower))}"
    return words.say(
        f"{printed(float(lower))} to {printed(float(upper))}", f"{printed(float(lower))} 至 {printed(float(upper))}"
    )


def _counts(fit: pd.DataFrame) -> str:
    if not len(fit) or missing(fit["n_obs"].iloc[0]):
        return "0 (0)"
    return f"{int(fit['n_obs'].iloc[0])} ({int(fit['n_blq'].fillna(0).iloc[0])})"


def _selected_model(fits: pd.DataFrame) -> str:
    """The model that a patient's AICc chooses, by name; empty where it chooses none."""
    chosen = fits.loc[fits["selected"].fillna(False).astype(bool), "model"]
    return str(chosen.iloc[0]) if len(chosen) else ""


def _selected(words: Words, fits: pd.DataFrame) -> str:
    chosen = fits[fits["selected"].fillna(False).astype(bool)]
    if not len(chosen):
        return "NC"
    row = chosen.iloc[0]
    weight = "" if missing(row["aicc_weight"]) else f" ({row['aicc_weight']:.2f})"
    return f"{_model_title(words, str(row['model']))}{weight}"


def _remarks(
    words: Words, fit: pd.DataFrame, values: pd.DataFrame, quantities: list[str], no_data: str, prefers: str
) -> str:
    parts: list[str] = []
    if not len(fit):
        parts.append(no_data or words.say("the model shown was not fitted", "未拟合所示模型"))
    else:
        row = fit.iloc[0]
        not_converged = not missing(row["converged"]) and not bool(row["converged"])
        parts.append(str(row["reason"]) or (words.say("not converged", "未收敛") if not_converged else ""))
        if row["at_bound"]:
            parts.append(words.say(f"at a bound: {row['at_bound']}", f"位于边界：{row['at_bound']}"))
    for quantity in quantities:
        if quantity in values.index and values.loc[quantity, "reason"]:
            parts.append(words.colon(quantity, str(values.loc[quantity, "reason"])))
    parts.append(prefers)
    return "; ".join(dict.fromkeys(p for p in parts if p))


def _footnotes(context: Context, leads: str) -> tuple[str, ...]:
    words, models = Words(context.language), context.settings.models
    level = f"{100 * models.confidence:g} %"
    known = model(models.default)
    method = {
        "profile": words.say("profile likelihood", "剖面似然"),
        "bootstrap": words.say("parametric bootstrap", "参数自助法"),
        "delta": words.say("the delta method", "delta 法"),
    }
    formula = known.formula(models.constants(known.name)) if known else ""
    meanings = words.say("; ", "；").join(
        quantity_name(words, models.default, p.name) for p in (known.parameters if known else ())
    )
    return (
        words.say(
            f"Model: {_model_title(words, models.default)}" + (f", {formula}" if formula else "") + f". {meanings}.",
            f"模型：{_model_title(words, models.default)}" + (f"，{formula}" if formula else "") + f"。{meanings}。",
        ),
        words.say(
            f"Estimate ({level} interval, {method[models.interval]}). “Not "
            "identifiable”: the data do not determine the parameter "
            f"(on a bound, relative standard error above {models.rse_limit_pct:g} %, or "
            "a flat profile); only its interval is printed.",
            f"估计值（{level} 区间，{method[models.interval]}）。“不可识别”："
            "数据不足以确定该参数（位于边界、相对标准误高于 "
            f"{models.rse_limit_pct:g} % 或剖面平坦），仅列区间。",
        ),
        words.say(
            f"Results below the LLOQ enter by {models_blq(context)}; n: rows in the "
            f"likelihood. {leads} The lowest AICc of a single patient is shown and not acted "
            "upon: with so few samples it is unreliable.",
            f"低于定量下限的结果按 {models_blq(context)} 处理；n：似然中的行数。{leads}"
            "单个患者的最低 AICc 仅供参考，不据此选择：样本太少，不可靠。",
        ),
        words.say(
            "AICc: small-sample Akaike information criterion; LLOQ: lower limit of quantification.",
            "AICc：小样本 Akaike 信息准则；LLOQ：定量下限。",
        ),
    )


def models_blq(context: Context) -> str:
    """The BLQ rule of the models by name (Beal 2001)."""
    return f"{context.settings.blq.models} (Beal 2001)"


TABLE = Table(
    name="model_parameters",
    id="T-CK-07",
    number="7",
    title={"en": "Kinetic model parameters by patient", "zh": "各患者的动力学模型参数"},
    needs=NEEDS,
    build=build,
)
