"""T-CK-10: persistence: detectable on set study days, and Kaplan-Meier median by dose level."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, analysis_set, body, reportable
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

NEEDS = ("persistence", "observations", "patients", "infusions")
STUDY_DAYS = (7, 10, 14, 21, 28)
ABOVE = ("quantified", "above_uloq")


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, limit and dose level."""
    words, estimates = Words(context.language), results.table("persistence")
    if not len(estimates):
        return absent(results, context, words.say("No persistence estimate.", "无持续性估计。"), NEEDS)
    counted = treated(results)
    rows = []
    for kind in profiles(results).itertuples():
        label = profile_name(context, str(kind.assay), str(kind.specimen))
        own = estimates[(estimates["assay"] == kind.assay) & (estimates["specimen"] == kind.specimen)]
        observed = reportable(results)
        observed = observed[(observed["assay"] == kind.assay) & (observed["specimen"] == kind.specimen)]
        for limit in [x for x in ("lloq", "lod") if x in set(own["limit"])]:
            here = own[own["limit"] == limit]
            for dose_level in [*dose_levels(results), *(["all"] if "all" in set(here["dose_level"]) else [])]:
                who = counted if dose_level == "all" else counted[counted["dose_level"] == dose_level]
                rows.append(
                    {
                        words.say("Assay", "检测方法"): label,
                        words.say("Loss below", "判定界限"): limit.upper(),
                        words.say("Dose level", "剂量水平"): words.say("All", "全部")
                        if dose_level == "all"
                        else dose_level,
                        words.say("Treated", "给药人数"): str(len(who)),
                        **{
                            words.say(f"D{day}", f"第 {day} 天"): _detectable(
                                observed, list(who["patient_id"]), day, limit
                            )
                            for day in STUDY_DAYS
                        },
                        **_kaplan_meier(context, here[here["dose_level"] == dose_level]),
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


def _detectable(observed: pd.DataFrame, patients: list[str], day: int, limit: str) -> str:
    """Patients with a detectable level among those sampled about that study day, as 5/6."""
    elapsed = day - 1
    distance = (observed["time_actual"] - elapsed).abs()
    near = observed[["patient_id"]].assign(distance=distance, above=persisting(observed, limit))
    near = near[(distance <= tolerance(elapsed)) & near["above"].notna() & near["patient_id"].isin(patients)]
    nearest = near.sort_values("distance", kind="stable").drop_duplicates("patient_id")
    return f"{int(nearest['above'].sum())}/{len(nearest)}" if len(nearest) else "MISS"


def persisting(rows: pd.DataFrame, limit: str) -> pd.Series:
    """Whether each result lies above the limit; missing where there is no result, or detection is not known.

    A result below the LLOQ was detected when the assay says so, else when it has a LOD and was not reported as not
    detected.
    """
    above = rows["status"].isin(ABOVE).astype("boolean")
    if limit == "lod":
        by_status = (rows["status"] == "blq").astype("boolean").where(rows["lod"].notna() | (rows["status"] != "blq"))
        above = above.where(above, rows["detected"].fillna(by_status))
    return above.where(~rows["status"].isin(("not_done", "failed")))


def tolerance(elapsed: float) -> float:
    """How far from a set day a sample may lie to stand for it: 1 day, or 10 % of the elapsed time where that is more.

    Examples
    --------
    >>> tolerance(6), tolerance(27)
    (1.0, 2.7)
    """
    return max(1.0, round(0.1 * elapsed, 9))


def _kaplan_meier(context: Context, rows: pd.DataFrame) -> dict[str, str]:
    words = Words(context.language)
    head = words.say("Median, days (95 % CI)", "中位数，天 (95 % CI)")
    counts = words.say("At risk / events / censored", "在险 / 事件 / 删失")
    why = words.say("Remarks", "备注")
    if not len(rows):
        return {head: "NC", counts: "MISS", why: words.say("no row in persistence.csv", "persistence.csv 中无记录")}
    first = rows.sort_values("time").iloc[0]
    reasons = [r for r in dict.fromkeys(rows["reason"]) if r]
    median = words.say("not reached", "未达到") if missing(first["median"]) else days(first["median"])
    if missing(first["n_at_risk"]) or int(first["n_at_risk"]) == 0:
        median = "NC"
    n_events, n_censored = int(rows["n_events"].fillna(0).sum()), int(rows["n_censored"].fillna(0).sum())
    at_risk = "0" if missing(first["n_at_risk"]) else str(int(first["n_at_risk"]))
    return {
        head: median if median == "NC" else f"{median} ({ends(words, first)})",
        counts: f"{at_risk} / {n_events} / {n_censored}",
        why: "; ".join(reasons),
    }


def ends(words: Words, row: pd.Series) -> str:
    """The interval of the median, in words where an end is open: few losses do not bound it."""
    lower, upper = row["median_ci_lower"], row["median_ci_upper"]
    if missing(lower) and missing(upper):
        return words.say("interval open", "区间开放")
    if missing(upper):
        return words.say(f"{days(lower)} to open", f"{days(lower)} 至开放")
    if missing(lower):
        return words.say(f"open to {days(upper)}", f"开放至 {days(upper)}")
    return words.say(f"{days(lower)} to {days(upper)}", f"{days(lower)} 至 {days(upper)}")


def _footnotes(results: Results, context: Context) -> tuple[str, ...]:
    words, k = Words(context.language), context.settings.nca.consecutive_blq
    notes = [
        words.say(
            "Dx: patients with a detectable level / patients with a result, in the "
            "sample nearest to study day x (day 1 = day of "
            f"the first infusion; at most {tolerance(0):g} day or 10 % of the "
            "elapsed time away). LLOQ: quantified; LOD: detected.",
            "第 x 天：可检出患者数 / 有结果患者数，取最接近研究日 x 的样本（首次输注日为第 1 "
            f"天；相差不超过 {tolerance(0):g} 天或已过时间的 10 %）。"
            "LLOQ：可定量；LOD：可检出。",
        ),
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
            "the estimate puts it at the later one.",
            "中位数：Kaplan-Meier，log-log 置信区间。事件：消失，即末次高于界限之后"
            + ("首个" if k == 1 else "连续两个样本中首个")
            + "低于界限的样本；仍高于界限者删失："
            "死亡或退出者于随访结束时，其余于末次样本时。消失发生在两次采样之间（区间删失）：估计取较晚的时间。",
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
