"""T-CK-10: persistence: detectable on set days, median by Kaplan-Meier and by Turnbull, risk set, by dose level."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nkinetics.findings import median_words, persistence_counts, persistence_note
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, NOT_REPORTED, absent, analysis_set, body
from nkinetics.wording import (
    Words,
    days,
    dose_levels,
    grouped,
    missing,
    profile_name,
    profiles,
    treated,
    without_quantified,
)

ALL, MISSING = "all", "MISS"
NEEDS = (
    "persistence",
    "persistence_patients",
    "persistence_turnbull",
    "detectability",
    "observations",
    "patients",
    "infusions",
)


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, limit and dose level."""
    words, estimates = Words(context.language), results.table("persistence")
    if not len(estimates):
        return absent(results, context, words.say("No persistence estimate.", "无持续性估计。"), NEEDS)
    counted, shares, heads = treated(results), results.table("detectability"), days_of(results, context)
    losses, turnbull = results.table("persistence_patients"), results.table("persistence_turnbull")
    rows = []
    for kind in profiles(results).itertuples():
        label = profile_name(context, str(kind.assay), str(kind.specimen))

        def of_kind(table: pd.DataFrame, limit: str, kind: Any = kind) -> pd.DataFrame:
            here = (table["assay"] == kind.assay) & (table["specimen"] == kind.specimen)
            return table[here & (table["limit"] == limit)]

        for limit in [x for x in ("lloq", "lod") if len(of_kind(estimates, x))]:
            here = of_kind(estimates, limit)
            shown = [*dose_levels(results), *([ALL] if ALL in set(here["dose_level"]) else [])]
            for dose_level in dict.fromkeys(shown):
                everyone = dose_level == ALL
                who = counted if everyone else counted[counted["dose_level"] == dose_level]
                mine, own = of_kind(shares, limit), of_kind(losses, limit)
                mine = mine[mine["dose_level"] == dose_level]
                own = own if everyone else own[own["dose_level"] == dose_level]
                interval = of_kind(turnbull, limit)
                rows.append(
                    {
                        words.say("Assay", "检测方法"): label,
                        words.say("Loss below", "判定界限"): limit.upper(),
                        words.say("Dose level", "剂量水平"): words.say("All", "全部") if everyone else dose_level,
                        words.say("Treated", "给药人数"): str(len(who)),
                        **{head: _detectable(mine, day) for day, head in heads.items()},
                        **_kaplan_meier(context, here[here["dose_level"] == dose_level], own),
                        words.say("Turnbull median, days", "Turnbull 中位数，天"): _between(
                            context, interval[interval["dose_level"] == dose_level]
                        ),
                        words.say("Remarks", "备注"): _remarks(context, here[here["dose_level"] == dose_level]),
                    }
                )
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(results, context),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def _detectable(rows: pd.DataFrame, day: str) -> str:
    """Patients above the limit of those sampled about a day, as 5/6."""
    own = rows[rows["day"] == day]
    if not len(own) or missing(own["n_sampled"].iloc[0]) or int(own["n_sampled"].iloc[0]) == 0:
        return MISSING
    n, k = int(own["n_sampled"].iloc[0]), own["n_detected"].iloc[0]
    return f"{NOT_CALCULABLE}/{n}" if missing(k) else f"{int(k)}/{n}"


def days_of(results: Results, context: Context) -> dict[str, str]:
    """Days of detectability in order of time, each with its head in the language."""
    shares, words = results.table("detectability"), Words(context.language)
    named = shares.drop_duplicates("day").sort_values(["time", "day"])["day"]
    return {
        str(d): words.say(str(d), f"第 {d[1:]} 天" if d[:1] == "D" else f"第 {d[1:]} 月" if d[:1] == "M" else d)
        for d in named
    }


def windows_note(results: Results, context: Context) -> str:
    """The windows of the days of detectability, from the run."""
    shares, words = results.table("detectability"), Words(context.language)
    rows = shares.drop_duplicates("day").sort_values(["time", "day"])
    listed = words.join(f"{r.day} {r.time:g} ({r.window_start:g}–{r.window_end:g})" for r in rows.itertuples())
    return words.say(
        "Detectable on a day: patients above the limit / treated patients with a result in the window around it; of a "
        f"patient's samples the one nearest to the day counts. Elapsed days, with the window: {listed}. A patient who "
        "was not sampled there, also one who died or left before, is not in the denominator. LLOQ: quantified; LOD: "
        "detected.",
        "各日可检出：高于界限的患者数 / 该日窗口内有结果的给药患者数；同一患者取最接近该日的样本。"
        f"已过天数及窗口：{listed}。窗口内未采样者（包括此前死亡或退出者）不计入分母。LLOQ：可定量；LOD：可检出。",
    )


def _kaplan_meier(context: Context, rows: pd.DataFrame, losses: pd.DataFrame) -> dict[str, str]:
    words, statistics = Words(context.language), context.settings.statistics
    level = f"{100 * statistics.confidence:g} %"
    head = words.say(f"Median, days ({level} CI)", f"中位数，天 ({level} CI)")
    counts = words.say("At risk / events / censored", "在险 / 事件 / 删失")
    by = words.say("Censored by", "删失原因")
    if not len(rows):
        return {head: NOT_CALCULABLE, counts: MISSING, by: "–"}
    n, n_events, n_censored = persistence_counts(rows)
    if n == 0:
        shown = NOT_CALCULABLE
    elif n < statistics.summary_n_min:
        shown = NOT_REPORTED
    else:
        shown = median_words(words, rows.sort_values("time"))
    causes = losses.loc[losses["censored_by"] != "", "censored_by"].value_counts().sort_index() if n else {}
    return {
        head: shown,
        counts: f"{n} / {n_events} / {n_censored}",
        by: words.join(f"{ends_of(words)[str(c)]} {k}" for c, k in causes.items()) or "–",
    }


def _remarks(context: Context, rows: pd.DataFrame) -> str:
    words = Words(context.language)
    reasons = [r for r in dict.fromkeys(rows["reason"]) if r]
    return "; ".join(reasons) if len(rows) else words.say("no row in persistence.csv", "persistence.csv 中无记录")


def ends_of(words: Words) -> dict[str, str]:
    """Why a patient is right-censored, in words."""
    return {
        "death": words.say("death", "死亡"),
        "withdrawal": words.say("withdrawal", "退出"),
        "data_cut": words.say("data cut", "数据截止"),
        "ongoing": words.say("follow-up goes on", "随访进行中"),
        "unconfirmed": words.say("loss not confirmed", "消失未经确认"),
    }


def _between(context: Context, rows: pd.DataFrame) -> str:
    """The interval in which Turnbull's estimate puts the median."""
    words = Words(context.language)
    if not len(rows) or missing(rows["n"].iloc[0]) or int(rows["n"].iloc[0]) == 0:
        return NOT_CALCULABLE
    first = rows.iloc[0]
    if int(first["n"]) < context.settings.statistics.summary_n_min:
        return NOT_REPORTED
    low, high = first["median_lower"], first["median_upper"]
    if missing(high):
        return words.say(f"after {days(low)}", f"{days(low)} 之后")
    return days(low) if low == high else words.say(f"{days(low)} to {days(high)}", f"{days(low)} 至 {days(high)}")


def _footnotes(results: Results, context: Context) -> tuple[str, ...]:
    words, k = Words(context.language), context.settings.nca.consecutive_blq
    notes = [
        windows_note(results, context),
        *filter(None, [persistence_note(results, context)]),
        words.say(
            "Median: Kaplan-Meier, with log-log confidence interval. Event: loss, "
            + (
                "the first sample below the limit after the last above it"
                if k == 1
                else "the first of two consecutive samples below the limit after the last above it"
            )
            + "; censored when still above the limit: patients who died or withdrew at the end of their follow-up, the "
            "others at the last sample. The loss "
            "lies between two samples (interval-censored): "
            "Kaplan-Meier puts it at the later one. Turnbull, as sensitivity: the median of the estimate that knows "
            "each loss only to lie between its two samples, as the interval in which it falls; who died or withdrew "
            "counts until the last sample with cells. "
            f"With fewer than {context.settings.statistics.summary_n_min} patients no median (NR): see the listing of "
            "individual persistence.",
            "中位数：Kaplan-Meier，log-log 置信区间。事件：消失，即末次高于界限之后"
            + ("首个" if k == 1 else "连续两个样本中首个")
            + "低于界限的样本；仍高于界限者删失："
            "死亡或退出者于随访结束时，其余于末次样本时。"
            "消失发生在两次采样之间（区间删失）：Kaplan-Meier 取较晚的时间。"
            "Turnbull（敏感性分析）：仅知消失介于两次采样之间时的中位数，以其所在区间表示；"
            "死亡或退出者计至末次有细胞的样本。"
            f"少于 {context.settings.statistics.summary_n_min} 例时不给出中位数（NR），见个体持续性列表。",
        ),
        words.say(
            "CI: confidence interval; LLOQ: lower limit of quantification; LOD: limit of detection.",
            "CI：置信区间；LLOQ：定量下限；LOD：检测限。",
        ),
    ]
    for kind in profiles(results).itertuples():
        none = without_quantified(results, context, str(kind.assay), str(kind.specimen))
        if none:
            name = profile_name(context, str(kind.assay), str(kind.specimen))
            who = grouped(none, words)
            notes.append(words.say(f"Without a quantified level, {name}: {who}.", f"无可定量水平，{name}：{who}。"))
    return tuple(notes)


TABLE = Table(
    name="persistence",
    id="T-CK-10",
    number="10",
    title={"en": "Persistence by dose level", "zh": "按剂量水平的持续性"},
    needs=NEEDS,
    build=build,
)
