"""T-CK-26: what new patients are expected to have at each dose level, and at the next."""

from __future__ import annotations

import pandas as pd

from nkinetics.findings import limit_note, useful, usefulness_note
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, body
from nkinetics.wording import Words, missing, profile_name, significant, unit_name

NEEDS = ("population_forecast", "nca", "patients")
QUANTITY_NAMES = {
    "curve_cmax": {"en": "Cmax", "zh": "Cmax"},
    "t_below_lloq": {"en": "time below LLOQ for good", "zh": "持续低于定量下限的时间"},
}


def build(results: Results, context: Context) -> TableBody:
    """One row per scenario and quantity, in order of the amount."""
    words, rows = Words(context.language), results.table("population_forecast")
    if not len(rows):
        return absent(results, context, words.say("No population forecast.", "无群体预测。"), NEEDS)
    shown = [rows.iloc[k] for k in _order(rows) if _shown(str(rows.iloc[k]["quantity"]))]
    level = f"{100 * context.settings.prediction.confidence:g} %"
    everywhere = set.intersection(*(set(str(row["reason"]).split("; ")) for row in shown)) - {""}
    cells = [_row(words, row, level, everywhere) for row in shown]
    first = rows.iloc[0]
    unit = next((str(u) for u in rows.loc[rows["quantity"] == "curve_cmax", "unit"] if u), "")
    known = discover("models").get(str(first["model"]))
    title = words.pick(known.title) if known else str(first["model"])
    method = {"bayes": words.say("full Bayes", "完全贝叶斯")}.get(str(first["method"]), "SAEM")
    name = profile_name(context, str(first["assay"]), str(first["specimen"]), unit)
    return body(
        results,
        context,
        cells,
        list(cells[0]),
        sources=NEEDS,
        footnotes=_footnotes(results, context, shown, sorted(everywhere)),
        subtitle=f"{name} · {title} · {method}",
        row_header=2,
    )


def _order(rows: pd.DataFrame) -> list[int]:
    """Scenarios by amount, then quantities as a reader asks for them."""
    kinds = ("curve_cmax", "curve_auc", "level_before", "above_lloq", "t_below")
    rank = [next((k for k, kind in enumerate(kinds) if q.startswith(kind)), len(kinds)) for q in rows["quantity"]]
    number = [int("".join(c for c in q if c.isdigit()) or 0) for q in rows["quantity"]]
    keys = rows.assign(_rank=rank, _number=number).reset_index(drop=True)
    return list(keys.sort_values(["dose", "scenario", "_rank", "_number", "quantity"], kind="stable").index)


def _shown(quantity: str) -> bool:
    return quantity != "curve_tmax" and not quantity.startswith("curve_cmax_infusion")


def quantity_name(words: Words, quantity: str, unit: str = "") -> str:
    """What a predicted quantity is called, with its unit.

    Examples
    --------
    >>> quantity_name(Words("en"), "level_before_infusion_2", "copies/ug"), quantity_name(Words("en"), "above_lloq_D7")
    ('level before infusion 2 (copies/µg)', 'above LLOQ on D7 (share)')
    """
    if quantity in QUANTITY_NAMES:
        name = words.pick(QUANTITY_NAMES[quantity])
    elif quantity.startswith("curve_auc_"):
        name = "AUC " + quantity.removeprefix("curve_auc_").replace("-", "–")
    elif quantity.startswith("level_before_infusion_"):
        number = quantity.removeprefix("level_before_infusion_")
        name = words.say(f"level before infusion {number}", f"第 {number} 次输注前水平")
    else:
        day = quantity.removeprefix("above_lloq_")
        return words.say(f"above LLOQ on {day} (share)", f"{day} 高于定量下限（比例）")
    return f"{name} ({unit_name(unit)})" if unit else name


def printed(value: float) -> str:
    """A predicted number as printed: 3 significant figures, no less uncertain for being a time."""
    return NOT_CALCULABLE if missing(value) else significant(value)


def with_ends(words: Words, middle: float, lower: float, upper: float, *, forecast: bool = True) -> str:
    """A forecast and its interval; in words where the interval is too wide to be of use, and an open end as such.

    An estimate of the typical patient is no forecast: its number stays, however wide its confidence interval.

    Examples
    --------
    >>> with_ends(Words("en"), 20.0, 14.66, 27.38), with_ends(Words("en"), 3200.0, 40.9, 462000.0)
    ('20.0 (14.7 to 27.4)', 'no useful forecast (40.9 to 462000)')
    """
    if missing(middle):
        return NOT_CALCULABLE
    low = "" if missing(lower) else printed(lower)
    high = "" if missing(upper) else printed(upper)
    if not high:
        ends = words.say(f"{low} and more", f"{low} 及以上")
    else:
        ends = words.say(f"{low} to {high}", f"{low} 至 {high}")
    shown = printed(middle) if useful(lower, upper) or not forecast else words.say("no useful forecast", "无有用预测")
    return f"{shown} ({ends})"


def whole_percent(share: float) -> str:
    """A share of simulated patients as a percentage without decimals: more would be false precision.

    Examples
    --------
    >>> whole_percent(0.2518), whole_percent(0.0), whole_percent(0.999)
    ('25', '<1', '>99')
    """
    return "<1" if share < 0.005 else ">99" if share >= 0.995 else f"{100 * share:.0f}"


def _share_of_cohort(words: Words, middle: float, lower: float, upper: float) -> str:
    """The share of a cohort; where its interval leaves nothing out, the forecast says nothing."""
    if missing(middle):
        return NOT_CALCULABLE
    low, high = (f"{100 * float(v):.0f}" for v in (lower, upper))
    ends = words.say(f"{low} to {high} %", f"{low} 至 {high} %")
    nothing = float(lower) <= 0 and float(upper) >= 1
    shown = words.say("no useful forecast", "无有用预测") if nothing else f"{whole_percent(float(middle))} %"
    return f"{shown} ({ends})"


def _row(words: Words, row: pd.Series, level: str, everywhere: set[str]) -> dict[str, str]:
    quantity, share = str(row["quantity"]), str(row["quantity"]).startswith("above_lloq")
    extrapolated = not missing(row["extrapolation"]) and bool(row["extrapolation"])
    name = str(row["scenario"]) + (words.say(" (EXTRAPOLATED)", "（外推）") if extrapolated else "")
    n = 0 if missing(row["cohort"]) else int(row["cohort"])
    told = _share_of_cohort if share else with_ends
    cohort = told(words, row["cohort_median"], row["cohort_lower"], row["cohort_upper"])
    limit = "" if missing(row["limit"]) else f" (> {printed(float(row['limit']))})"
    return {
        words.say("Dosing", "给药方案"): f"{name}: {row['schedule']}" if row["schedule"] else name,
        words.say("Quantity", "指标"): quantity_name(words, quantity, str(row["unit"])),
        words.say(f"Typical patient ({level} CI)", f"典型患者（{level} CI）"): "–"
        if share
        else with_ends(words, row["typical"], row["typical_lower"], row["typical_upper"], forecast=False),
        words.say(f"New patient ({level} PI)", f"新患者（{level} PI）"): "–"
        if share
        else with_ends(words, row["median"], row["lower"], row["upper"]),
        words.say("Cohort: its median or share", "队列：其中位数或比例"): f"{cohort}; n = {n}" if n else cohort,
        words.say("Probability above limit, %", "超过限值的概率，%"): "–"
        if missing(row["probability"]) and not missing(row["cohort_median"])
        else (NOT_CALCULABLE if missing(row["probability"]) else whole_percent(float(row["probability"]))) + limit,
        words.say("Remarks", "备注"): "; ".join(r for r in str(row["reason"]).split("; ") if r not in everywhere),
    }


def _footnotes(results: Results, context: Context, shown: list[pd.Series], everywhere: list[str]) -> list[str]:
    words, level = Words(context.language), f"{100 * context.settings.prediction.confidence:g} %"
    notes = [
        words.say(
            f"Typical patient: typical parameters, {level} confidence interval of what is not known of the population. "
            f"New patient: median and {level} prediction interval, differences between patients included. Cohort: "
            f"median of so many new patients (shares: mean), and the interval that holds {level} of such cohorts.",
            f"典型患者：典型参数，{level} 置信区间仅反映群体参数的不确定性。新患者：中位数及 {level} 预测区间，"
            f"含患者间差异。队列：相应例数新患者的中位数（比例：均值），及包含 {level} 此类队列的区间。",
        ),
        words.say(
            "Of the curve, without measurement error. Limit: the LLOQ for shares; otherwise that of the configuration "
            "(by default the highest of the study's patients).",
            "为曲线值，不含测量误差。限值：比例为定量下限；其余按配置（默认为研究患者中的最高值）。",
        ),
        *filter(None, [usefulness_note(results, context), limit_note(results, context)]),
    ]
    beyond = list(
        dict.fromkeys(str(r["scenario"]) for r in shown if not missing(r["extrapolation"]) and r["extrapolation"])
    )
    if beyond:
        notes.append(
            words.say(
                f"Extrapolated beyond what was given in the study: {words.join(beyond)}.",
                f"超出研究已给药范围的外推：{words.join(beyond)}。",
            )
        )
    if everywhere:
        told = "; ".join(everywhere)
        notes.append(words.say(f"Every row: {told}.", f"各行：{told}。"))
    notes.append(
        words.say(
            "AUC: area under the curve; CI: confidence interval; LLOQ: lower limit of quantification; PI: prediction "
            "interval.",
            "AUC：曲线下面积；CI：置信区间；LLOQ：定量下限；PI：预测区间。",
        )
    )
    return notes


TABLE = Table(
    name="forecast",
    id="T-CK-26",
    number="26",
    title={"en": "Predicted exposure and persistence of new patients", "zh": "新患者暴露与持续性的预测"},
    needs=NEEDS,
    build=build,
)
