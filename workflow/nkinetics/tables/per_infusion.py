"""T-CK-06: parameters of each infusion interval by dose level: peak, area, trough, recovery, accumulation."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, analysis_set, body, statistic
from nkinetics.tables._infusions import SHOWN, numbers, values
from nkinetics.tables._nca import Shown, printed
from nkinetics.tables._statistics import summary
from nkinetics.wording import Words, amount, blq_footnote, days, dose_levels, profile_name, profiles

NEEDS = ("nca", "observations", "patients", "infusions")


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, infusion and dose level."""
    words, kinds, infusions = Words(context.language), profiles(results), numbers(results)
    if not len(kinds) or not infusions:
        return absent(results, context, words.say("No infusion interval.", "无输注间期。"), NEEDS)
    rows = []
    for kind in kinds.itertuples():
        for number in infusions:
            frame = values(results, str(kind.assay), str(kind.specimen), number)
            for dose_level in dose_levels(results):
                own = frame[frame["dose_level"] == dose_level]
                given = _given(results, dose_level, number)
                row = {
                    words.say("Assay", "检测方法"): profile_name(
                        context, str(kind.assay), str(kind.specimen), str(kind.level_unit)
                    ),
                    words.say("Infusion", "输注"): str(number),
                    words.say("Dose level", "剂量水平"): dose_level,
                    words.say("Given to", "给药人数"): str(len(given)),
                    words.say("Median amount", "中位给药量"): amount(float(given.median())) if len(given) else "–",
                }
                for shown in SHOWN:
                    mine = own.loc[own["parameter"] == shown.parameter, "value"].dropna()
                    row[words.pick(shown.title)] = _cell(context, shown, [float(v) for v in mine], number, infusions)
                rows.append(row)
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def _given(results: Results, dose_level: str, number: int) -> pd.Series:
    """Amounts of an infusion actually given at a dose level."""
    rows = results.table("infusions")
    rows = rows[rows["infusion"] == number].merge(results.patients[["patient_id", "dose_level"]], on="patient_id")
    amounts = rows.loc[rows["dose_level"] == dose_level, "given"].fillna(rows["planned"])
    return amounts[amounts > 0]


def _cell(context: Context, shown: Shown, numbers_: list[float], number: int, infusions: list[int]) -> str:
    """Geometric mean or median with range and n; few values each; a dash where the parameter has no meaning."""
    words = Words(context.language)
    later = shown.parameter in ("recovery_ratio", "accumulation_cmax", "accumulation_auc")
    if (later and number == infusions[0]) or (shown.parameter == "trough" and number == infusions[-1]):
        return "–"
    n = f"n = {len(numbers_)}"
    if not numbers_:
        return words.say("NC: n = 0", "NC：n = 0")
    if len(numbers_) < context.settings.statistics.summary_n_min:
        return words.join(printed(shown, v) for v in sorted(numbers_)) + f"; {n}"
    s = summary(numbers_)
    middle = days(s.median) if shown.is_time else statistic(s.geo_mean)
    low, high = printed(shown, s.minimum), printed(shown, s.maximum)
    return words.say(f"{middle} ({low} to {high}); {n}", f"{middle}（{low} 至 {high}）; {n}")


def _footnotes(context: Context) -> tuple[str, ...]:
    words, n = Words(context.language), context.settings.statistics.summary_n_min
    return (
        words.say(
            "Interval of an infusion: from its start to the start of the next, the last to the end of follow-up; its "
            "level includes what the earlier infusions left. Geometric mean (min to max); Tmax: median (min to max), "
            f"days from the infusion; fewer than {n} values: each of them. NC: nobody has a value, for the reasons in "
            "the listing of infusion intervals. Cmax / level before: Cmax of the interval over the pre-dose level of "
            "its infusion. Accumulation of Cmax: Cmax of the interval over that of the first; of AUC: areas over one "
            "common length, the shorter of the two intervals.",
            "输注间期：自该次输注开始至下次输注开始，末次至随访结束；其水平包含此前输注的残留。"
            f"几何均值（最小至最大）；Tmax：中位数（最小至最大），自该次输注起的天数；少于 {n} 个数值时逐一列出。"
            "NC：无人有数值，原因见输注间期列表。Cmax / 输注前水平：间期 Cmax 与该次输注前水平之比。"
            "Cmax 蓄积比：与首次间期 Cmax 之比；AUC 蓄积比：取两间期中较短的共同长度。",
        ),
        blq_footnote(context),
        words.say("AUC: area under the curve of the interval.", "AUC：间期的曲线下面积。"),
    )


TABLE = Table(
    name="per_infusion",
    id="T-CK-06",
    number="6",
    title={"en": "Parameters of each infusion interval by dose level", "zh": "按剂量水平的各输注间期参数"},
    needs=NEEDS,
    build=build,
)
