"""T-CK-23: how many patients had CRS, ICANS, infection or co-medication, and their exposure beside the others'."""

from __future__ import annotations

import pandas as pd

from nkinetics.findings import crs_note
from nkinetics.plugins import Table, TableBody
from nkinetics.population.exposure_response import ANY, DESCRIBED, GRADED
from nkinetics.results import Context, Results
from nkinetics.tables._exposure import individual, notes, rows_of_factor
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body, share
from nkinetics.wording import Words, blq_footnote, missing, profile_name, profiles

NEEDS = ("exposure_response", "nca", "observations", "patients", "infusions", "events")


def build(results: Results, context: Context) -> TableBody:
    """Rows by factor and group; exposure in the first assay of the study."""
    words, kinds, table = Words(context.language), profiles(results), results.table("exposure_response")
    if not len(table) or not len(kinds):
        return absent(results, context, words.say("No exposure beside events.", "无暴露量与事件的分析。"), NEEDS)
    kind = kinds.iloc[0]
    own = individual(results, kind["assay"], kind["specimen"])
    rows = []
    for factor in (*GRADED, *ANY, *DESCRIBED):
        found = rows_of_factor(results, context, factor, kind["assay"], kind["specimen"], own)
        had = _incidence(words, table[(table["factor"] == factor) & (table["analysis"] == "incidence")])
        head = words.say("Patients with the event, n of treated (exact CI)", "发生事件的患者，n / 给药人数（精确 CI）")
        rows += [{**row, head: had if place == 0 else ""} for place, row in enumerate(found)]
    name = profile_name(context, kind["assay"], kind["specimen"], kind["level_unit"])
    level = f"{100 * context.settings.statistics.confidence:g} %"
    footnotes = (
        words.say(
            f"Patients with the event: exact (Clopper-Pearson) two-sided {level} interval; where nobody had it, the "
            f"one-sided {level} upper bound, 1 − {1 - context.settings.statistics.confidence:.2g}^(1/n). Tocilizumab "
            "and steroids are as a rule given BECAUSE of expansion and its toxicity (the reason is not recorded here): "
            "their rows are described, never tested, and say nothing about their effect.",
            f"发生事件的患者：精确（Clopper-Pearson）双侧 {level} 区间；无人发生时为单侧 {level} 上限，"
            f"1 − {1 - context.settings.statistics.confidence:.2g}^(1/n)。"
            "托珠单抗与激素通常因扩增及其毒性而使用（原因未记录）：仅作描述，不作检验，不反映其作用。",
        ),
        *notes(context, name),
        *filter(None, [crs_note(results, context)]),
        blq_footnote(context),
        words.say(
            "CRS: cytokine release syndrome; ICANS: immune effector cell-associated neurotoxicity syndrome; CI: "
            "confidence interval.",
            "CRS：细胞因子释放综合征；ICANS：免疫效应细胞相关神经毒性综合征；CI：置信区间。",
        ),
    )
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=footnotes,
        subtitle=analysis_set(results, context),
        row_header=2,
    )


def _incidence(words: Words, rows: pd.DataFrame) -> str:
    """By dose level and in all, as DL1 1/3 (1–91 %)."""
    parts = []
    for row in rows.sort_values("dose_level", key=lambda d: d.map(lambda x: (x == "all", x))).itertuples():
        label = words.say("all", "全部") if row.dose_level == "all" else str(row.dose_level)
        if missing(row.n_events):
            parts.append(f"{label} {NOT_CALCULABLE}/{row.n_patients}")
            continue
        lower, upper = (share(float(str(end)), int(str(row.n_patients))) for end in (row.ci_lower, row.ci_upper))
        span = f"≤ {upper} %" if int(str(row.n_events)) == 0 else f"{lower}–{upper} %"
        parts.append(f"{label} {row.n_events}/{row.n_patients} ({span})")
    return "; ".join(parts)


TABLE = Table(
    name="exposure_events",
    id="T-CK-23",
    number="11.1",
    title={
        "en": "Exposure by CRS, ICANS, infection and co-medication (exploratory)",
        "zh": "按 CRS、ICANS、感染及合并用药的暴露量（探索性）",
    },
    needs=NEEDS,
    build=build,
)
