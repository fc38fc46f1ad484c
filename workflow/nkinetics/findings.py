"""What several tables, figures and the page say of one thing, computed and worded once so that they say the same.

Persistence has one number (the Kaplan-Meier median); the order of CRS and Cmax is told from times; a forecast whose
interval is too wide to be of use is called so.
"""

from __future__ import annotations

import pandas as pd

from nkinetics.results import Context, Results
from nkinetics.wording import Words, days, dose_levels, missing, profile_name, profiles, significant

USEFUL_FACTOR = 10.0
"""A forecast whose interval spans more than this factor tells an order of magnitude at best: no useful forecast."""


# ---------------------------------------------------------------------------------------------------------- persistence


def ends(words: Words, row: pd.Series) -> str:
    """The interval of a median, in words where an end is open: few losses do not bound it."""
    lower, upper = row["median_ci_lower"], row["median_ci_upper"]
    if missing(lower) and missing(upper):
        return words.say("interval open", "区间开放")
    if missing(upper):
        return words.say(f"{days(lower)} to open", f"{days(lower)} 至开放")
    if missing(lower):
        return words.say(f"open to {days(upper)}", f"开放至 {days(upper)}")
    return words.say(f"{days(lower)} to {days(upper)}", f"{days(lower)} 至 {days(upper)}")


def persistence_rows(results: Results, assay: str, specimen: str, dose_level: str, limit: str = "lloq") -> pd.DataFrame:
    """Rows of the Kaplan-Meier estimate of a dose level (or ``all``), in order of time."""
    rows = results.table("persistence")
    rows = rows[(rows["assay"] == assay) & (rows["specimen"] == specimen) & (rows["limit"] == limit)]
    return rows[rows["dose_level"] == dose_level].sort_values("time")


def persistence_counts(rows: pd.DataFrame) -> tuple[int, int, int]:
    """Patients at risk at the start, losses, and patients censored."""
    n = 0 if not len(rows) or missing(rows["n_at_risk"].max()) else int(rows["n_at_risk"].max())
    return n, int(rows["n_events"].fillna(0).sum()), int(rows["n_censored"].fillna(0).sum())


def median_words(words: Words, rows: pd.DataFrame) -> str:
    """The median with its interval as every item prints it, ``27.17 (19.84 to open)``."""
    first = rows.iloc[0]
    median = words.say("not reached", "未达到") if missing(first["median"]) else days(first["median"])
    return f"{median} ({ends(words, first)})"


def persistence_note(results: Results, context: Context) -> str:
    """Which number the report calls persistence, and why other times beside it differ; empty without an estimate."""
    words, kinds = Words(context.language), profiles(results)
    if not len(kinds) or not len(results.table("persistence")):
        return ""
    kind, least = kinds.iloc[0], context.settings.statistics.summary_n_min
    told = []
    for dose_level in dose_levels(results):
        rows = persistence_rows(results, kind["assay"], kind["specimen"], dose_level)
        n, _, _ = persistence_counts(rows)
        if n >= least:
            median = rows.iloc[0]["median"]
            shown = words.say("not reached", "未达到") if missing(median) else f"{days(median)} d"
            told.append(f"{dose_level} {shown}")
    name = profile_name(context, kind["assay"], kind["specimen"])
    listed = words.colon(name, words.join(told))
    values = words.say(f" ({listed})", f"（{listed}）") if told else ""
    never = _never_quantified(results, kind["assay"], kind["specimen"])
    named = words.first([words.say(f"{p} (day {days(at)})", f"{p}（第 {days(at)} 天）") for p, at in never.items()])
    lost = words.say(
        f" A patient never quantified counts as lost at the first sample: {named}." if never else "",
        f"从未定量者按首个样本时消失计：{named}。" if never else "",
    )
    return words.say(
        "Persistence means the Kaplan-Meier median of the time to loss below the LLOQ"
        f"{values}.{lost} Other times are other quantities: Tlast is the last sample still above, before the loss; "
        "t_blq is the first sample below, and its median is over those alone in whom a loss was seen; Turnbull gives "
        "the interval between the two; the model's time below the LLOQ is where the fitted curve crosses it.",
        f"持续性指至低于定量下限时间的 Kaplan-Meier 中位数{values}。{lost}其他时间是不同的量："
        "Tlast 为消失前末个高于界限的样本；t_blq 为首个低于界限的样本，其中位数仅含观察到消失者；"
        "Turnbull 给出两者之间的区间；模型的降至定量下限时间为拟合曲线穿过界限之时。",
    )


def _never_quantified(results: Results, assay: str, specimen: str) -> dict[str, float]:
    """Patients whose loss is their first sample, with its day."""
    rows = results.table("persistence_patients")
    own = (rows["assay"] == assay) & (rows["specimen"] == specimen) & (rows["limit"] == "lloq")
    rows = rows[own & (rows["censoring"] == "left")].sort_values("patient_id")
    return dict(zip(rows["patient_id"].astype(str), rows["time"].astype(float), strict=True))


# ------------------------------------------------------------------------------------------------------------------ CRS


def crs_order(results: Results) -> dict[str, tuple[float, float]]:
    """Day of Cmax and day of the onset of CRS of every patient who had CRS, in the first assay; NaN where not known.

    The onset is the start of the first CRS of the patient, whatever its grade.
    """
    return results.once("order of Cmax and CRS", _crs_order)


def _crs_order(results: Results) -> dict[str, tuple[float, float]]:
    kinds, events = profiles(results), results.table("events")
    if not len(kinds):
        return {}
    kind = kinds.iloc[0]
    assay, specimen = str(kind["assay"]), str(kind["specimen"])
    peaks = results.rows("nca", assay=assay, specimen=specimen, window="overall", parameter="tmax", hold=False)
    peaks = peaks.set_index("patient_id")["value"]
    onsets = events[events["event"] == "crs"].groupby("patient_id")["time"].min()
    return {
        str(patient): (float(peaks.get(patient, float("nan"))), float(onsets[patient]))
        for patient in results.patients["patient_id"]
        if patient in onsets.index
    }


def crs_sentence(words: Words, peak: float, onset: float) -> str:
    """Whether the peak came before or after the onset of CRS, of one patient.

    Examples
    --------
    >>> crs_sentence(Words("en"), 10.88, 1.3)
    'Cmax (day 10.88) reached 9.58 d after the onset of CRS (day 1.30)'
    >>> crs_sentence(Words("en"), 3.04, 6.8)
    'Cmax (day 3.04) reached 3.76 d before the onset of CRS (day 6.80)'
    """
    if missing(onset):
        return words.say("day of the onset of CRS not recorded", "CRS 发生日未记录")
    if missing(peak):
        return words.say(
            f"CRS from day {days(onset)} without a quantified level", f"CRS 始于第 {days(onset)} 天，无可定量水平"
        )
    at, apart = f"{days(peak)}", days(abs(peak - onset))
    if peak == onset:
        return words.say(f"Cmax reached at the onset of CRS (day {at})", f"Cmax 与 CRS 同时（第 {at} 天）")
    en, zh = ("before", "之前") if peak < onset else ("after", "之后")
    return words.say(
        f"Cmax (day {at}) reached {apart} d {en} the onset of CRS (day {days(onset)})",
        f"Cmax（第 {at} 天）出现于 CRS 发生（第 {days(onset)} 天）{zh} {apart} 天",
    )


def crs_note(results: Results, context: Context) -> str:
    """For each patient with CRS whether the peak came before or after its onset, and what that allows to say."""
    words, order = Words(context.language), crs_order(results)
    if not order:
        return ""
    each = words.first(
        [f"{patient}: {crs_sentence(words, peak, onset)}" for patient, (peak, onset) in order.items()],
        words.say("; ", "；"),
    )
    known = [(peak, onset) for peak, onset in order.values() if not missing(peak) and not missing(onset)]
    after, n = sum(peak > onset for peak, onset in known), len(known)
    if not known:
        said = words.say("Nothing is known of their order", "先后顺序未知")
    elif after:
        said = words.say(
            f"In {after} of {n} the peak came after the onset: Cmax cannot explain it there, what rose before it may; "
            "the order shows no cause and rules none out",
            f"{n} 例中 {after} 例的峰值晚于 CRS 发生：Cmax 不能解释其发生，此前的升高则有可能；"
            "先后顺序既不证明也不排除因果",
        )
    else:
        said = words.say(
            f"In all {n} the peak came no later than the onset: the order allows a cause and does not show one",
            f"全部 {n} 例的峰值均不晚于 CRS 发生：先后顺序不排除因果，但不能证明因果",
        )
    return words.colon(words.say("Order of Cmax and CRS", "Cmax 与 CRS 的先后"), each) + words.say(
        f". {said}.", f"。{said}。"
    )


# ------------------------------------------------------------------------------------------------------------- forecast


def useful(lower: float, upper: float) -> bool:
    """Whether the interval of a forecast spans no more than `USEFUL_FACTOR`; an open one, or one from 0, does not.

    Examples
    --------
    >>> useful(2.0, 20.0), useful(2.0, 21.0), useful(0.0, 5.0), useful(3.0, float("nan")), useful(0.0, 0.0)
    (True, False, False, False, True)
    """
    return not missing(lower) and not missing(upper) and upper <= USEFUL_FACTOR * lower


def usefulness_note(results: Results, context: Context) -> str:
    """How many forecasts of a new patient are of use, and what the others are called; empty where there are none."""
    words, rows = Words(context.language), results.table("population_forecast")
    rows = rows[rows["median"].notna() & ~rows["quantity"].str.startswith(("curve_tmax", "curve_cmax_infusion"))]
    if not len(rows):
        return ""
    wide = [not useful(float(low), float(high)) for low, high in zip(rows["lower"], rows["upper"], strict=True)]
    level = f"{100 * context.settings.prediction.confidence:g} %"
    return words.say(
        f"“No useful forecast”: the {level} prediction interval of a new patient spans more than a factor of "
        f"{USEFUL_FACTOR:g}, or reaches 0, or is open; so in {sum(wide)} of {len(rows)} rows.",
        f"“无有用预测”：新患者的 {level} 预测区间跨度超过 {USEFUL_FACTOR:g} 倍、下端为 0 或开放；"
        f"{len(rows)} 行中有 {sum(wide)} 行如此。",
    )


def limit_note(results: Results, context: Context) -> str:
    """Why the highest peak of a curve, the limit of the forecast, is not the highest observed Cmax."""
    words, rows = Words(context.language), results.table("population_forecast")
    limits = context.settings.prediction.limits
    own = rows[(rows["quantity"] == "curve_cmax") & rows["limit"].notna()]
    if not len(own) or limits.get("curve_cmax") != "observed_max":
        return ""
    first = own.iloc[0]
    assay, specimen = str(first["assay"]).split("+")[0], str(first["specimen"])
    seen = results.rows("nca", assay=assay, specimen=specimen, window="overall", parameter=("cmax", "tmax"), hold=False)
    seen = seen[seen["value"].notna()]
    cmax = seen[seen["parameter"] == "cmax"].sort_values(["value", "patient_id"], ascending=[False, True])
    if not len(cmax):
        return ""
    highest = cmax.iloc[0]
    tmax = seen[(seen["parameter"] == "tmax") & (seen["patient_id"] == highest["patient_id"])]["value"]
    limit, observed = float(first["limit"]), float(highest["value"])
    ratio = significant(observed / limit, 2)
    day = days(float(tmax.iloc[0])) if len(tmax) else "–"
    shown, patient = significant(observed), highest["patient_id"]
    return words.say(
        f"Limit of Cmax, {significant(limit)}: the highest peak of a patient's curve (its median). The highest "
        f"observed Cmax is {shown} (patient {patient}, day {day}), {ratio} times the limit: one sample with its "
        "measurement error, picked because it is the highest, while a curve goes through the middle of all samples of "
        "its patient. Forecasts are of curves and are compared with curves.",
        f"Cmax 限值 {significant(limit)}：各患者曲线峰值（中位数）中的最高者。实测最高 Cmax 为 "
        f"{shown}（患者 {patient}，第 {day} 天），为限值的 {ratio} 倍："
        "单个样本含测量误差且因其最高而入选，曲线则居于该患者全部样本之中。预测的是曲线，故与曲线比较。",
    )
