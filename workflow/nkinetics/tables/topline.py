"""T-CK-00: the top line of the committee's brief: Cmax, AUC, Tlast and persistence by dose level, first assay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nkinetics.findings import median_words, persistence_counts, persistence_note, persistence_rows
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._fates import unseen_after_tlast
from nkinetics.tables._format import NOT_CALCULABLE, NOT_REPORTED, absent, body, statistic
from nkinetics.tables._nca import BY_NAME, Shown, bounds, printed, summarised, values
from nkinetics.tables._statistics import censored_geo_mean, summary
from nkinetics.wording import (
    Words,
    days,
    dose_levels,
    dose_names,
    everyone,
    profile_name,
    profiles,
    treated,
    unit_name,
)

NEEDS = ("nca", "persistence", "persistence_patients", "observations", "patients", "infusions")
SHOWN = ("cmax", "tmax", "auc_int", "tlast")


def build(results: Results, context: Context) -> TableBody:
    """One row per parameter, one column per dose level."""
    words, kinds = Words(context.language), profiles(results)
    if not len(kinds) or not results.size("nca"):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    kind, names = kinds.iloc[0], dose_names(results, context)
    counted = treated(results)
    head = words.say("Parameter", "参数")
    columns = {
        d: words.say(f"{names[d]}, n = {n}", f"{names[d]}，n = {n}")
        for d in dose_levels(results)
        for n in [int((counted["dose_level"] == d).sum())]
    }
    rows = []
    for parameter in SHOWN:
        shown = BY_NAME[parameter]
        frame = values(results, shown, kind["assay"], kind["specimen"])
        limit = bounds(results, context, shown, kind["assay"], kind["specimen"]) if shown.bound else {}
        units = [unit_name(u) for u in frame["unit"].unique() if u]
        row = {head: f"{words.pick(shown.title)} ({units[0]})" if units else words.pick(shown.title)}
        for dose_level, column in columns.items():
            own = frame[frame["dose_level"] == dose_level]
            below = [limit[p] for p in own["patient_id"] if p in limit]
            n_treated = int(counted["patient_id"].isin(own["patient_id"]).sum())
            row[column] = cell(context, shown, list(own["value"][summarised(shown, own)]), n_treated, below)
        rows.append(row)
    level = f"{100 * context.settings.statistics.confidence:g} %"
    lasting = words.say(
        f"Persistence above the LLOQ (d), median ({level} CI)", f"高于定量下限的持续时间 (d)，中位数（{level} CI）"
    )
    rows.append({head: lasting} | {column: _persistence(results, context, kind, d) for d, column in columns.items()})
    n = context.settings.statistics.summary_n_min
    notes = [
        words.say(
            "Levels and areas: geometric mean (min to max), n with a value / n treated; times: median (min to max). "
            f"Fewer than {n}: individual values. A patient without a quantified level has no number here; those who "
            "were measured stay in the n of the column, in persistence, and in the censored geometric mean: maximum "
            "likelihood of a log-normal distribution in which each lies below the lowest LLOQ of the patient's samples "
            "(areas: that LLOQ times the length of the window).",
            "水平与面积：几何均值（最小至最大），有数值人数 / 给药人数；时间：中位数（最小至最大）。"
            f"少于 {n} 例：个体值。"
            "无可定量水平的患者在此无数值；其中已检测者计入列首的 n、持续性分析及删失几何均值："
            "对数正态分布的最大似然估计，各例低于其样本的最低定量下限（面积：该下限乘以时间窗长度）。",
        ),
        *filter(None, [persistence_note(results, context), _unseen(results, kind, words)]),
        words.say(
            "AUC: area under the curve; CI: confidence interval; LLOQ: lower limit of quantification; Tlast: time of "
            "the last quantified level.",
            "AUC：曲线下面积；CI：置信区间；LLOQ：定量下限；Tlast：末个可定量水平的时间。",
        ),
    ]
    return body(
        results,
        context,
        rows,
        [head, *columns.values()],
        sources=NEEDS,
        footnotes=notes,
        subtitle=f"{everyone(results, words)} · "
        + profile_name(context, kind["assay"], kind["specimen"], kind["level_unit"], kind["analyte"]),
    )


def _unseen(results: Results, kind: Any, words: Words) -> str:
    """Patients whose Tlast might lie later; empty without any."""
    unseen = unseen_after_tlast(results, kind["assay"], kind["specimen"])
    if not unseen:
        return ""
    told = words.first([words.say(f"{p} ({', '.join(own)})", f"{p}（{'、'.join(own)}）") for p, own in unseen.items()])
    return words.say(
        f"Tlast and the loss might lie later in {told}: between Tlast and the next analysed result a sample was taken "
        "whose own result failed or was left out.",
        f"{told} 的 Tlast 与消失时间可能更晚：Tlast 与下一分析结果之间所采样本的结果失败或被排除。",
    )


def _persistence(results: Results, context: Context, kind: Any, dose_level: str) -> str:
    """Median time to loss below the LLOQ with the losses, as the table of persistence has it."""
    words = Words(context.language)
    rows = persistence_rows(results, kind["assay"], kind["specimen"], dose_level)
    n, events, _ = persistence_counts(rows)
    if not n:
        return NOT_CALCULABLE
    if n < context.settings.statistics.summary_n_min:
        return f"{NOT_REPORTED}; n = {n}"
    return median_words(words, rows) + words.say(f"; {events} of {n} lost", f"；{n} 例中 {events} 例消失")


def cell(context: Context, shown: Shown, numbers: list[float], n_treated: int, below: Sequence[float] = ()) -> str:
    """Values of a parameter over patients: geometric mean or median with range and n; few ones each.

    Parameters
    ----------
    context : Context
        Language and least number of patients.
    shown : Shown
        The parameter.
    numbers : list of float
        Its values.
    n_treated : int
        Patients treated.
    below : sequence of float
        Bound of each patient without a quantified level: the censored geometric mean then stands beside the plain one.
    """
    words = Words(context.language)
    n = f"n = {len(numbers)}/{n_treated}"
    if not numbers:
        return words.say("NC: nobody quantified", "NC：无可定量者")
    if len(numbers) < context.settings.statistics.summary_n_min:
        return words.join(printed(shown, v) for v in sorted(numbers)) + f"; {n}"
    s = summary(numbers)
    middle = days(s.median) if shown.is_time else statistic(s.geo_mean)
    low, high = printed(shown, s.minimum), printed(shown, s.maximum)
    plain = words.say(f"{middle} ({low} to {high}); {n}", f"{middle}（{low} 至 {high}）; {n}")
    if shown.is_time or not below:
        return plain
    censored = statistic(censored_geo_mean(numbers, below))
    return words.say(f"{plain}; censored {censored}", f"{plain}; 删失 {censored}")


TABLE = Table(
    name="topline",
    id="T-CK-00",
    number="0",
    title={"en": "Top line by dose level", "zh": "各剂量水平主要结果"},
    needs=NEEDS,
    build=build,
)
