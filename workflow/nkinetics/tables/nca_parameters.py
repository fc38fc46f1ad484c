"""T-CK-05: parameters of the non-compartmental analysis by dose level and overall."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import (
    NOT_CALCULABLE,
    NOT_REPORTED,
    absent,
    analysis_set,
    body,
    interval,
    listed,
    percentage,
    statistic,
)
from nkinetics.tables._nca import PARAMETERS, Shown, bounds, printed, reason_words, summarised, values
from nkinetics.tables._statistics import Summary, censored_geo_mean, summary
from nkinetics.wording import (
    Words,
    blq_footnote,
    days,
    dose_levels,
    grouped,
    missing,
    profile_name,
    profiles,
    treated,
    unit_name,
)

NEEDS = ("nca", "observations", "patients", "infusions")


def statistics_columns(words: Words, confidence: float) -> dict[str, str]:
    """Heads of the columns by key."""
    return {
        "assay": words.say("Assay", "检测方法"),
        "parameter": words.say("Parameter", "参数"),
        "dose_level": words.say("Dose level", "剂量水平"),
        "n": words.say("n of treated", "n / 给药人数"),
        "geo_mean": words.say("Geometric mean", "几何均值"),
        "geo_cv": words.say("Geo. CV %", "几何 CV%"),
        "ci": f"{100 * confidence:g} % CI",
        "censored": words.say("Censored geo. mean", "删失几何均值"),
        "median": words.say("Median", "中位数"),
        "range": words.say("Min to max", "最小至最大"),
        "mean": words.say("Mean (SD)", "均值 (SD)"),
        "individual": words.say("Individual values, reasons", "个体值与原因"),
    }


def build(results: Results, context: Context) -> TableBody:
    """Parameters by dose level and overall; individual values alone where patients are few."""
    words = Words(context.language)
    kinds = profiles(results)
    if not results.size("nca") or not len(kinds):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    columns = statistics_columns(words, context.settings.statistics.confidence)
    rows = []
    for kind in kinds.itertuples():
        for shown in PARAMETERS:
            frame = values(results, shown, str(kind.assay), str(kind.specimen))
            limit = bounds(results, context, shown, str(kind.assay), str(kind.specimen)) if shown.bound else {}
            for dose_level, label in groups(results, context).items():
                cells = statistics_row(results, context, shown, frame, limit, dose_level)
                head = {
                    "assay": profile_name(context, str(kind.assay), str(kind.specimen)),
                    "parameter": parameter_name(words, shown, frame),
                    "dose_level": label,
                }
                rows.append({columns[k]: v for k, v in {**head, **cells}.items()})
    return body(
        results,
        context,
        rows,
        list(columns.values()),
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
    )


def groups(results: Results, context: Context) -> dict[str, str]:
    """Dose levels, and all patients (under the empty key) where there are several."""
    levels = dose_levels(results)
    everyone = {"": Words(context.language).say("All", "全部")} if len(levels) > 1 else {}
    return {**{d: d for d in levels}, **everyone}


def parameter_name(words: Words, shown: Shown, frame: pd.DataFrame) -> str:
    """Name of a parameter with its unit."""
    units = [u for u in frame["unit"].unique() if not missing(u)]
    return f"{words.pick(shown.title)} ({unit_name(str(units[0]))})" if units else words.pick(shown.title)


def statistics_row(
    results: Results, context: Context, shown: Shown, frame: pd.DataFrame, limit: dict[str, float], dose_level: str
) -> dict[str, str]:
    """The statistics of one parameter in one dose level (empty: all patients)."""
    rows = frame[frame["dose_level"] == dose_level] if dose_level else frame
    n_treated = int(treated(results)["patient_id"].isin(rows["patient_id"]).sum())
    used = rows[summarised(shown, rows)]
    few = len(used) < context.settings.statistics.summary_n_min
    cells = {"n": f"{len(used)}/{n_treated}", **_statistics(context, shown, used, few)}
    below = [limit[p] for p in rows["patient_id"] if p in limit]
    cells["censored"] = _censored(shown, list(used["value"]), below, few)
    parts = []
    if few and dose_level:
        parts.append(listed({str(r.patient_id): printed(shown, float(r.value)) for r in rows.itertuples()}))
    # Below the dose levels the reasons have been given; the row of all patients would only repeat them.
    if dose_level:
        parts.append(grouped(reason_words(shown, rows), Words(context.language)))
    cells["individual"] = ". ".join(p for p in parts if p)
    return cells


def _statistics(context: Context, shown: Shown, used: pd.DataFrame, few: bool) -> dict[str, str]:
    if few:
        return dict.fromkeys(("geo_mean", "geo_cv", "ci", "median", "range", "mean"), NOT_REPORTED)
    s = summary([float(v) for v in used["value"]], context.settings.statistics.confidence)
    if shown.is_time:
        return {
            **dict.fromkeys(("geo_mean", "geo_cv", "ci", "mean"), "–"),
            "median": days(s.median),
            "range": f"{days(s.minimum)} to {days(s.maximum)}",
        }
    return _level_statistics(s)


def _level_statistics(s: Summary) -> dict[str, str]:
    return {
        "geo_mean": statistic(s.geo_mean),
        "geo_cv": percentage(s.geo_cv_pct, s.n),
        "ci": interval(s.ci_lower, s.ci_upper),
        "median": statistic(s.median),
        "range": interval(s.minimum, s.maximum),
        "mean": f"{statistic(s.mean)} ({statistic(s.sd)})",
    }


def _censored(shown: Shown, quantified: list[float], below: list[float], few: bool) -> str:
    """The censored geometric mean where a patient has no quantified level; a dash where none is needed."""
    if not shown.bound or not below:
        return "–"
    if few:
        return NOT_REPORTED
    return statistic(censored_geo_mean(quantified, below)) if len(quantified) > 1 else NOT_CALCULABLE


def _footnotes(context: Context) -> tuple[str, ...]:
    words, statistics = Words(context.language), context.settings.statistics
    n, level = statistics.summary_n_min, f"{100 * statistics.confidence:g} %"
    return (
        words.say(
            "n of treated: patients whose value enters the statistics, of patients who received at least one infusion. "
            "Geo. CV % = 100 sqrt(exp(s²) − 1), s the standard deviation of the natural logarithms; "
            f"{level} CI of the geometric mean by Student's t on the logarithms; SD with n − 1. "
            "NC for geometric statistics where a value is 0. "
            f"With fewer than {n} values individual values only (NR).",
            "n / 给药人数：纳入统计的患者数 / 至少接受一次输注的患者数。几何 CV% = "
            "100 sqrt(exp(s²) − 1)，s 为自然对数的标准差；"
            f"几何均值的 {level} CI 由对数尺度的 t 分布得到；SD 的分母为 n − 1。存在数值为 0 "
            f"时几何统计量为 NC。少于 {n} 个数值时仅列个体值（NR）。",
        ),
        words.say(
            "Censored geometric mean: maximum likelihood of a log-normal distribution in which every sampled patient "
            "without a quantified level lies below the lowest LLOQ of the "
            "patient's samples (areas: that LLOQ times the "
            "length of the window, or of the follow-up). A dash where no patient is censored or the statistic does "
            "not apply (times: n, median, range).",
            "删失几何均值：对数正态分布的最大似然估计，已采样但从未达到定量水平的患者按低于其样本的最低定量下限处理"
            "（面积：该下限乘以时间窗或随访长度）。无删失患者或统计量不适用时以短横线表示（时间参数：n、中位数、范围）。",
        ),
        _lambda_z(context),
        blq_footnote(context),
        words.say(
            "AUC: area under the curve; Clast, Tlast: last quantified level and its time; t_blq: first "
            f"{'sample' if context.settings.nca.consecutive_blq == 1 else 'of two consecutive samples'} "
            "below the LLOQ after "
            "Tlast; λz: terminal slope; CI: confidence interval; CV: coefficient of variation; LLOQ: lower limit of "
            "quantification; SD: standard deviation. Times in days from the start of the first infusion.",
            "AUC：曲线下面积；Clast、Tlast：末个可定量水平及其时间；t_blq：Tlast 之后首次"
            f"{'' if context.settings.nca.consecutive_blq == 1 else '连续两次'}低于定量下限的时间；"
            "λz：末端斜率；CI：置信区间；"
            "CV：变异系数；SD：标准差。时间以首次输注开始起计的天数表示。",
        ),
    )


def _lambda_z(context: Context) -> str:
    words, z = Words(context.language), context.settings.nca.lambda_z
    return words.say(
        "A half-life enters the summary when adjusted R² ≥ "
        f"{z.r_squared_adj_min:g}, span ≥ {z.span_ratio_min:g} half-lives "
        f"and at least {z.points_min} points; others are shown with their reason and left out.",
        f"半衰期满足校正 R² ≥ {z.r_squared_adj_min:g}、跨度 ≥ {z.span_ratio_min:g} "
        f"个半衰期且至少 {z.points_min} 个点时纳入汇总；"
        "其余列出原因，不纳入。",
    )


TABLE = Table(
    name="nca_parameters",
    id="T-CK-05",
    number="5",
    title={
        "en": "Cellular-kinetic parameters by dose level and overall",
        "zh": "按剂量水平及总体的细胞动力学参数",
    },
    needs=NEEDS,
    build=build,
)
