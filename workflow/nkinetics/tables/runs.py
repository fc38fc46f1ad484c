"""T-CK-16: assay runs, their standard curves and their acceptance."""

from __future__ import annotations

from nkinetics.observations import natural
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._fates import fate_of_run
from nkinetics.tables._format import absent, body
from nkinetics.wording import ASSAY_ORDER, Words, missing, percent, significant

MINUS = "\N{MINUS SIGN}"
EMPTY = "–"
NEEDS = ("runs", "observations")


def build(results: Results, context: Context) -> TableBody:
    """One row per run and target."""
    words, runs = Words(context.language), results.table("runs")
    if not len(runs):
        return absent(
            results,
            context,
            words.say("The exports hold no assay run (listings).", "导出文件不含检测批次（列表数据）。"),
            NEEDS,
        )
    rows = []
    order = {assay: i for i, assay in enumerate(ASSAY_ORDER)}
    for run in sorted(
        runs.to_dict("records"), key=lambda r: (order.get(str(r["assay"]), len(order)), natural(str(r["run_id"])))
    ):
        accepted = bool(run["accepted"])
        rows.append(
            {
                words.say("Assay", "检测方法"): words.assay(str(run["assay"])),
                words.say("Run", "批次"): str(run["run_id"]),
                words.say("Target", "靶标"): str(run["target"]) or "–",
                words.say("Run accepted", "批次接受"): words.say("yes", "是") if accepted else words.say("NO", "否"),
                words.say("Criteria failed, remarks", "未达标准与备注"): str(run["reason"]),
                words.say("Fate of the samples", "样本去向"): EMPTY
                if accepted
                else fate_of_run(results, words, str(run["run_id"]), str(run["assay"])) or EMPTY,
                words.say("Slope", "斜率"): _number(run["slope"], 3),
                words.say("Intercept", "截距"): _number(run["intercept"], 2),
                "R²": _number(run["r_squared"], 4),
                words.say("Efficiency %", "效率 %"): "–" if missing(run["efficiency"]) else percent(run["efficiency"]),
                words.say("Levels within (worst)", "合格浓度点（最大偏差）"): _within(run),
                words.say("NTC", "阴性对照"): _ntc(words, run),
                words.say("Replicate CV %", "复孔 CV %"): _replicates(words, run),
                words.say("Wells", "孔或管"): _wells(run),
                words.say("Counts (lowest)", "计数（最低）"): _counts(run),
                words.say("Samples", "样本数"): "–" if missing(run["n_samples"]) else str(run["n_samples"]),
            }
        )
    names = runs[["assay", "run_id"]].drop_duplicates()
    n_refused = len(runs.loc[~runs["accepted"].fillna(False).astype(bool), ["assay", "run_id"]].drop_duplicates())
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=(_criteria(context), _columns(words)),
        subtitle=words.say(
            f"{len(names)} runs, {n_refused} refused; one row per run and target",
            f"{len(names)} 个批次，{n_refused} 个被拒；每个批次与靶标一行",
        ),
        row_header=3,
    )


def _number(value: object, decimals: int) -> str:
    return "–" if missing(value) else f"{float(str(value)):.{decimals}f}"


def _within(run: dict[str, object]) -> str:
    if missing(run["n_levels"]):
        return "–"
    worst = "" if missing(run["worst_deviation_pct"]) else f" ({float(str(run['worst_deviation_pct'])):+.1f} %)"
    return f"{run['n_levels_within']}/{run['n_levels']}{worst.replace('-', MINUS)}"


def _ntc(words: Words, run: dict[str, object]) -> str:
    """Verdict on the controls, with the strongest signal where there was one."""
    if missing(run["ntc_ok"]):
        return "–"
    found = ""
    if not missing(run["ntc_lowest_ct"]):
        found = f"Ct {float(str(run['ntc_lowest_ct'])):.1f}"
    elif not missing(run["ntc_most_copies"]) and float(str(run["ntc_most_copies"])) > 0:
        found = words.say(
            f"{significant(float(str(run['ntc_most_copies'])), 2)} copies", f"{run['ntc_most_copies']} 拷贝"
        )
    verdict = words.say("clean", "合格") if bool(run["ntc_ok"]) else words.say("CONTAMINATED", "污染")
    return f"{verdict} ({found})" if found else verdict


def _replicates(words: Words, run: dict[str, object]) -> str:
    """Median CV of the replicates, the largest, and how many lie above their limit."""
    if missing(run["cv_median_pct"]):
        return "–"
    middle, worst = percent(float(str(run["cv_median_pct"]))), percent(float(str(run["cv_worst_pct"])))
    n = 0 if missing(run["n_cv_above"]) else int(str(run["n_cv_above"]))
    return f"{middle} ({worst})" + (words.say(f", {n} above", f"，{n} 个超限") if n else "")


def _wells(run: dict[str, object]) -> str:
    return "–" if missing(run["n_wells"]) else f"{run['n_wells_used']}/{run['n_wells']}"


def _counts(run: dict[str, object]) -> str:
    """Median and lowest count of partitions, or of events in the denominator gate."""
    for name in ("partitions", "denominator"):
        low, middle = run[f"{name}_lowest"], run[f"{name}_median"]
        if not missing(low) and not missing(middle):
            return f"{float(str(middle)):.0f} ({float(str(low)):.0f})"
    return "–"


def _columns(words: Words) -> str:
    return words.say(
        "NTC: no-template control, with its lowest Ct or most copies. Levels within: calibrator levels that read back "
        "within the limit, and the largest deviation. Replicate CV: median over the samples at or above the LLOQ, and "
        "the largest. Wells: wells or tubes used of those exported. Counts: median and lowest number of accepted "
        "partitions, or of events in the denominator gate.",
        "阴性对照：无模板对照 (NTC)，附最低 Ct 或最多拷贝数。合格浓度点：回算偏差在限内的校准浓度数，及最大偏差。"
        "复孔 CV：不低于定量下限样本的中位数及最大值。"
        "孔或管：使用数/导出数。计数：有效分区数或分母门事件数的中位数与最低值。",
    )


def _criteria(context: Context) -> str:
    words, assays = Words(context.language), context.settings.assays
    parts = []
    if assays.qpcr:
        a = assays.qpcr.acceptance
        parts.append(
            words.say(
                f"qPCR: slope {a.slope_min:g} to {a.slope_max:g}, R² ≥ "
                f"{a.r_squared_min:g}, at least {a.levels_min} calibrator levels, "
                f"{100 * a.back_calculation_share:g} % of them back-calculated within {a.back_calculation_pct:g} % "
                f"({a.back_calculation_lloq_pct:g} % at the lowest)",
                f"定量 PCR：斜率 {a.slope_min:g} 至 {a.slope_max:g}，R² ≥ "
                f"{a.r_squared_min:g}，至少 {a.levels_min} 个校准浓度，其中 "
                f"{100 * a.back_calculation_share:g} % 的回算偏差不超过 "
                f"{a.back_calculation_pct:g} %（最低浓度 {a.back_calculation_lloq_pct:g} %）",
            )
        )
    if assays.ddpcr:
        n = assays.ddpcr.acceptance.partitions_min
        parts.append(
            words.say(f"digital PCR: at least {n} accepted partitions per well", f"数字 PCR：每孔至少 {n} 个有效分区")
        )
    if assays.flow:
        n_events = assays.flow.lloq_events
        parts.append(
            words.say(f"flow cytometry: LLOQ {n_events:g} events", f"流式细胞术：定量下限 {n_events:g} 个事件")
        )
    shown = words.say("; ", "；").join(parts) or words.say("no assay is configured", "未配置检测方法")
    return words.colon(words.say("Acceptance", "接受标准"), shown) + words.say(".", "。")


TABLE = Table(
    name="runs",
    id="T-CK-16",
    number="16",
    title={"en": "Assay runs and acceptance", "zh": "检测批次与接受情况"},
    needs=NEEDS,
    build=build,
)
