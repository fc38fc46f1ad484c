"""T-CK-25: each patient's parameters given all patients, beside what his own samples tell."""

from __future__ import annotations

import pandas as pd

from nkinetics.leading import Shown, assays_of, none_fitted, shown, subtitle_of
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import NOT_CALCULABLE, absent, body
from nkinetics.tables.model_parameters import DERIVED, QUANTITY_NAMES
from nkinetics.wording import Words, missing, significant, unit_name, without_quantified

NEEDS = ("individuals", "population_points", "population", "population_comparison", "observations", "patients")


def build(results: Results, context: Context) -> TableBody:
    """One row per patient, also for one who has no sample."""
    words, fit = Words(context.language), shown(results)
    why = none_fitted(results, context, fit)
    if fit is None:
        return absent(results, context, why, NEEDS)
    own, points = fit.of(results.table("individuals")), fit.of(results.table("population_points"))
    quantities = _quantities(own, fit.model)
    reasons = without_quantified(results, context, assays_of(fit)[0], fit.specimen)
    rows = []
    own_of, points_of = by_patient(own), by_patient(points)
    headings = {q: _heading(words, own, q) for q in quantities}
    for patient in results.patients.itertuples():
        identifier = str(patient.patient_id)
        mine = own_of(identifier).set_index("parameter")
        seen = points_of(identifier)
        rows.append(
            {
                words.say("Dose level", "剂量水平"): str(patient.dose_level),
                words.say("Patient", "患者"): identifier,
                words.say("n (BLQ)", "n (BLQ)"): f"{len(seen)} ({int(seen['level'].isna().sum())})",
                **{headings[q]: _cell(words, mine, q) for q in quantities},
                words.say("Remarks", "备注"): _remarks(words, mine, quantities, reasons.get(identifier, ""), why),
            }
        )
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=_footnotes(context, words, fit),
        subtitle=subtitle_of(results, context, fit),
        row_header=2,
        patients=[str(p) for p in results.patients["patient_id"]],
    )


def _quantities(rows: pd.DataFrame, model: str) -> list[str]:
    """Fitted parameters as the model has them, then the derived ones that are shown and exist."""
    known = discover("models").get(model)
    present = set(rows["parameter"])
    return [*(n for n in (known.names if known else ()) if n in present), *(d for d in DERIVED if d in present)]


def _name(words: Words, quantity: str) -> str:
    return words.pick(QUANTITY_NAMES[quantity]) if quantity in QUANTITY_NAMES else quantity


def _heading(words: Words, rows: pd.DataFrame, quantity: str) -> str:
    name = _name(words, quantity)
    units = [u for u in rows.loc[rows["parameter"] == quantity, "unit"] if u]
    return f"{name} ({unit_name(str(units[0]))})" if units else name


def _cell(words: Words, rows: pd.DataFrame, quantity: str) -> str:
    if quantity not in rows.index or missing(rows.loc[quantity, "estimate"]):
        return NOT_CALCULABLE
    row = rows.loc[quantity]
    # 3 significant figures, times too: an estimate that rests on few patients has no second decimal.
    printed = significant(float(row["estimate"]))
    if missing(row["ci_lower"]) or missing(row["ci_upper"]):
        return printed
    low, high = significant(float(row["ci_lower"])), significant(float(row["ci_upper"]))
    return f"{printed} ({words.say(f'{low} to {high}', f'{low} 至 {high}')})"


def _remarks(words: Words, rows: pd.DataFrame, quantities: list[str], no_data: str, why: str) -> str:
    """Reasons of the patient; those that several quantities share once, the others under the quantity's name."""
    if not len(rows):
        return no_data or why or words.say("not in the estimation", "未纳入估计")
    by_reason: dict[str, list[str]] = {}
    for quantity in quantities:
        if quantity in rows.index and rows.loc[quantity, "reason"]:
            by_reason.setdefault(str(rows.loc[quantity, "reason"]), []).append(quantity)
    return "; ".join(r if len(q) > 1 else words.colon(_name(words, q[0]), r) for r, q in by_reason.items())


def _footnotes(context: Context, words: Words, fit: Shown) -> tuple[str, ...]:
    known = discover("models").get(fit.model)
    meanings = words.say("; ", "；").join(
        words.colon(p.name, words.pick(p.meaning)) for p in (known.parameters if known else ())
    )
    return (
        words.say(f"{meanings}.", f"{meanings}。"),
        words.say(
            "Mean of the patient's conditional distribution on the scale of estimation (derived quantities: median), "
            "and its 95 % interval, given his own samples and the population. With few or no quantified samples it is "
            "drawn to the typical value of his dose: no independent evidence about him. A patient without any sample "
            "has no estimate. Level parameters are per reference dose.",
            "在患者自身样本与群体给定下，其条件分布于估计尺度上的均值（导出量为中位数）及 95 % 区间。"
            "可定量样本少或无时，估计收缩至其剂量的典型值：并非关于该患者的独立证据。无样本的患者无估计。"
            "水平参数按参考剂量计。",
        ),
        words.say(
            "n: rows in the likelihood; BLQ: those below the lower limit of quantification (LLOQ) among them.",
            "n：似然中的行数；BLQ：其中低于定量下限（LLOQ）者。",
        ),
    )


TABLE = Table(
    name="population_individuals",
    id="T-CK-25",
    number="25",
    title={"en": "Individual parameters given the population", "zh": "群体模型下的个体参数"},
    needs=NEEDS,
    build=build,
)
