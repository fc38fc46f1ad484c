"""Exposure by group of a factor, as the tables of safety and of response print it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from nkinetics.population.exposure import BELOW, EXPOSURES, VALUE, exposures, people
from nkinetics.population.exposure_response import NO, UNGRADED, UNKNOWN, YES, groups, wanted
from nkinetics.results import Context, Results
from nkinetics.tables._events import EVENT_NAMES
from nkinetics.wording import Words, exposure_title, missing, significant

NAMED_UP_TO = 10
"""A group of more patients is not listed one by one."""
FACTOR_NAMES: Mapping[str, Mapping[str, str]] = {
    **EVENT_NAMES,
    "crs": {"en": "CRS, worst grade", "zh": "CRS 最高级别"},
    "icans": {"en": "ICANS, worst grade", "zh": "ICANS 最高级别"},
    "response": {"en": "Best response", "zh": "最佳疗效"},
    "dll3_high": {"en": "Target high", "zh": "靶点高表达"},
}


def individual(results: Results, assay: str, specimen: str) -> pd.DataFrame:
    """Exposure and groups of every treated patient in an assay: one row per patient, exposure and factor."""
    nca = results.rows("nca", parameter=EXPOSURES)
    patients, infusions = results.table("patients"), results.table("infusions")
    found = exposures(nca, results.table("observations"), wanted(nca), patients, infusions)
    found = found[(found["assay"] == assay) & (found["specimen"] == specimen)]
    belongs = groups(people(nca, patients, infusions), patients, results.table("events"))
    return found.merge(belongs, on="patient_id").sort_values(["factor", "window", "patient_id"], ignore_index=True)


def group_name(words: Words, factor: str, group: str) -> str:
    """A group in words."""
    names = {
        UNKNOWN: words.say("not known", "未知"),
        UNGRADED: words.say("ungraded", "未分级"),
        NO: words.say("no", "否"),
        YES: words.say("yes", "是"),
    }
    if group == "0":
        return words.say("0 (none)", "0（无）")
    return names.get(group, group)


def rows_of_factor(
    results: Results, context: Context, factor: str, assay: str, specimen: str, own: pd.DataFrame
) -> list[dict[str, str]]:
    """One row per group: patients, median and range of each exposure, individual values, and the tests at the first."""
    words, table = Words(context.language), results.table("exposure_response")
    here = table[(table["factor"] == factor) & (table["assay"] == assay) & (table["specimen"] == specimen)]
    exposed = here[here["analysis"] == "exposure"].sort_values(["group_order", "window", "parameter"])
    tests = here[here["analysis"] == "test"]
    measures = sorted({(str(r.window), str(r.parameter)) for r in here.itertuples()}, key=lambda m: m[1] != "cmax")
    rows = []
    for place, group in enumerate(exposed.drop_duplicates("group")["group"]):
        mine = exposed[exposed["group"] == group]
        row = {
            words.say("Factor", "因素"): words.pick(FACTOR_NAMES[factor]),
            words.say("Group", "分组"): group_name(words, factor, str(group)),
            words.say("Patients", "人数"): str(int(mine["n_patients"].iloc[0])),
        }
        for window, parameter in measures:
            cell = mine[(mine["window"] == window) & (mine["parameter"] == parameter)].iloc[0]
            people_ = own[
                (own["factor"] == factor)
                & (own["group"] == group)
                & (own["window"] == window)
                & (own["parameter"] == parameter)
            ]
            title = exposure_title(words, window, parameter)
            row[words.say(f"{title}, median (range)", f"{title} 中位数（范围）")] = _summary(words, cell)
            row[words.say(f"{title}, individual", f"{title} 个体值")] = _individual(words, people_)
        row[words.say("Rank test (exploratory)", "秩检验（探索性）")] = (
            "; ".join(_test(words, t) for t in _first(tests, measures)) if place == 0 else ""
        )
        rows.append(row)
    return rows


def _first(tests: pd.DataFrame, measures: list[tuple[str, str]]) -> Iterable[pd.Series]:
    made = [tests[(tests["window"] == w) & (tests["parameter"] == p)] for w, p in measures]
    rows = [t.iloc[0] for t in made if len(t)]
    # The same reason need not be said for every exposure.
    return rows[:1] if rows and all(missing(r["p_value"]) for r in rows) else rows


def _test(words: Words, row: pd.Series) -> str:
    if missing(row["p_value"]):
        return str(row["reason"])
    p = float(row["p_value"])
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{exposure_title(words, str(row['window']), str(row['parameter']))}: {shown} ({row['test']})"


def _summary(words: Words, cell: pd.Series) -> str:
    n_values, n_below = int(cell["n_values"]), int(cell["n_below"])
    n = f"n = {n_values + n_below}"
    if n_values + n_below == 0:
        return words.say("NC: n = 0", "NC：n = 0")
    if missing(cell["median"]):
        return f"BLQ; {n}" if "median below" in str(cell["reason"]) else f"NR; {n}"
    low = "BLQ" if n_below else significant(float(cell["minimum"]))
    high = significant(float(cell["maximum"]))
    middle = significant(float(cell["median"]))
    return words.say(f"{middle} ({low} to {high}); {n}", f"{middle}（{low} 至 {high}）; {n}")


def _individual(words: Words, own: pd.DataFrame) -> str:
    if len(own) > NAMED_UP_TO:
        return words.say("more than ten: see the listing", "超过十例，见列表")
    shown = {VALUE: lambda v: significant(float(v)), BELOW: lambda v: "BLQ"}
    return "; ".join(
        f"{p}: {shown[s](v) if s in shown else 'NC'}"
        for p, s, v in zip(own["patient_id"], own["state"], own["value"], strict=True)
    )


def notes(context: Context, name: str) -> tuple[str, ...]:
    """What the tables of exposure by group have to say, computed from the run."""
    words, s = Words(context.language), context.settings.statistics
    return (
        words.say(
            f"Exploratory: no conclusion rests on this table, and p values are not adjusted for their number. {name}. "
            "Treated patients. Exposure of the whole window, which may lie after the event. Median (range), patients "
            "below the LLOQ (sampled in the window and never quantified) counted lowest (BLQ); fewer than "
            f"{s.summary_n_min} patients: individual values only (NR). NC: no result. Rank tests, two-sided, only with "
            f"{s.tested_n_min} patients or more and two groups of two or more: rank sum for two groups, "
            "Jonckheere-Terpstra for ordered ones; exact over all arrangements where these are few, else by normal "
            "approximation.",
            f"探索性分析：不据此下结论，p 值未作多重校正。{name}。给药患者。暴露量为整个窗口，可能晚于事件。"
            "中位数（范围），低于定量下限者（窗口内已采样但从未定量）计为最低（BLQ）；"
            f"少于 {s.summary_n_min} 例：仅列个体值（NR）。NC：无结果。双侧秩检验，仅在不少于 {s.tested_n_min} 例"
            "且至少两组各有两例时进行：两组用秩和检验，有序多组用 Jonckheere-Terpstra；"
            "排列数少时精确计算，否则用正态近似。",
        ),
        words.say(
            "AUC: area under the curve; LLOQ: lower limit of quantification.",
            "AUC：曲线下面积；LLOQ：定量下限。",
        ),
    )
