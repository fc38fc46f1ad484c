"""L-16.2.5.8: each patient's forecast from what was seen of him so far."""

from __future__ import annotations

import pandas as pd

from nkinetics.findings import USEFUL_FACTOR
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.tables.forecast import quantity_name, whole_percent, with_ends
from nkinetics.wording import Words, days, missing

NEEDS = ("individual_forecast", "patients", "infusions")


def build(results: Results, context: Context) -> TableBody:
    """One row per patient, also where nothing is to be expected."""
    words, forecasts = Words(context.language), results.table("individual_forecast")
    if not len(forecasts):
        return absent(results, context, words.say("No forecast of patients.", "无患者个体预测。"), NEEDS)
    settings = context.settings.prediction
    level = f"{100 * settings.confidence:g} %"
    units = {str(q): str(u) for q, u in zip(forecasts["quantity"], forecasts["unit"], strict=True) if u}
    numbers = [f"curve_auc_D{a:g}-{b:g}" for a, b in settings.windows] + ["t_below_lloq"]
    shares = [f"above_lloq_{day}" for day in settings.days]
    rows = []
    forecasts_of = by_patient(forecasts)
    for patient in results.patients.itertuples():
        own = forecasts_of(str(patient.patient_id)).set_index("quantity")
        row = {
            words.say("Dose level", "剂量水平"): str(patient.dose_level),
            words.say("Patient", "患者"): str(patient.patient_id),
            words.say("Samples", "样本数"): _one(own, "samples", lambda v: str(int(v)), "0"),
            words.say("Last sample, days", "末次采样，天"): _one(own, "last_sample", days, NOT_CALCULABLE),
        }
        for name in numbers:
            row[f"{quantity_name(words, name, units.get(name, ''))}, {level}"] = (
                with_ends(words, own.loc[name, "median"], own.loc[name, "lower"], own.loc[name, "upper"])
                if name in own.index
                else NOT_CALCULABLE
            )
        for name in shares:
            day = name.removeprefix("above_lloq_")
            # Days that are past were seen, not predicted.
            row[words.say(f"Above LLOQ on {day}, %", f"{day} 高于定量下限，%")] = (
                whole_percent(float(own.loc[name, "probability"])) if name in own.index else "–"
            )
        told = list(dict.fromkeys(str(r) for r in own["reason"] if r)) if len(own) else []
        none = words.say("not in the population analysis", "未进入群体分析")
        row[words.say("Remarks", "备注")] = "; ".join(told) if len(own) else none
        rows.append(row)
    notes = [
        words.say(
            f"Given the patient's own samples and the population: median and {level} interval of the curve, without "
            "measurement error. “–”: the day is past, or nothing is to be expected. A time beyond the last sample is "
            "a forecast.",
            f"依据该患者自身样本及群体：曲线的中位数及 {level} 区间，不含测量误差。“–”：该日已过，或无可预测。"
            "晚于末次采样的时间为预测值。",
        ),
        words.say(
            f"“No useful forecast”: the interval spans more than a factor of {USEFUL_FACTOR:g}, or reaches 0, or is "
            "open. 0 (0 to 0): below the LLOQ from the start.",
            f"“无有用预测”：区间跨度超过 {USEFUL_FACTOR:g} 倍、下端为 0 或开放。0 (0 至 0)：自始低于定量下限。",
        ),
        words.say(
            "AUC: area under the curve; LLOQ: lower limit of quantification.", "AUC：曲线下面积；LLOQ：定量下限。"
        ),
    ]
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=notes,
        subtitle=analysis_set(results, context),
        row_header=2,
        patients=[str(p) for p in results.patients["patient_id"]],
    )


def _one(own: pd.DataFrame, column: str, show: object, none: str) -> str:
    values = own[column].dropna() if len(own) else own.get(column, pd.Series(dtype=float))
    assert callable(show)
    return str(show(float(values.iloc[0]))) if len(values) and not missing(values.iloc[0]) else none


TABLE = Table(
    name="forecast_individual",
    id="L-16.2.5.8",
    number="8",
    title={"en": "Forecast of each patient from the samples so far", "zh": "依据已有样本的各患者预测"},
    needs=NEEDS,
    build=build,
)
