"""T-CK-16: assay runs, their standard curves and their acceptance."""

from __future__ import annotations

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import absent, body
from nkinetics.wording import Words, missing, percent

NEEDS = ("runs",)


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
    for run in runs.to_dict("records"):
        accepted = bool(run["accepted"])
        rows.append(
            {
                words.say("Run", "批次"): str(run["run_id"]),
                words.say("Assay", "检测方法"): words.assay(str(run["assay"])),
                words.say("Target", "靶标"): str(run["target"]) or "–",
                words.say("Slope", "斜率"): _number(run["slope"], 3),
                words.say("Intercept", "截距"): _number(run["intercept"], 2),
                "R²": _number(run["r_squared"], 4),
                words.say("Efficiency %", "效率 %"): "–" if missing(run["efficiency"]) else percent(run["efficiency"]),
                words.say("Levels within", "合格浓度点"): _within(run),
                words.say("NTC", "阴性对照"): _ntc(words, run),
                words.say("Samples", "样本数"): "–" if missing(run["n_samples"]) else str(run["n_samples"]),
                words.say("Run accepted", "批次接受"): words.say("yes", "是") if accepted else words.say("NO", "否"),
                words.say("Criteria failed, remarks", "未达标准与备注"): str(run["reason"]),
            }
        )
    n_refused = int((~runs["accepted"].fillna(False).astype(bool)).sum())
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=(_criteria(context), words.say("NTC: no-template control.", "阴性对照：无模板对照 (NTC)。")),
        subtitle=words.say(
            f"{len(runs)} runs and targets, {n_refused} refused", f"{len(runs)} 个批次与靶标，{n_refused} 个被拒"
        ),
        row_header=1,
    )


def _number(value: object, decimals: int) -> str:
    return "–" if missing(value) else f"{float(str(value)):.{decimals}f}"


def _within(run: dict[str, object]) -> str:
    return "–" if missing(run["n_levels"]) else f"{run['n_levels_within']}/{run['n_levels']}"


def _ntc(words: Words, run: dict[str, object]) -> str:
    if missing(run["ntc_ok"]):
        return "–"
    return words.say("clean", "合格") if bool(run["ntc_ok"]) else words.say("CONTAMINATED", "污染")


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
