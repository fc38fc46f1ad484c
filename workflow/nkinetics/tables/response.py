"""T-CK-12: exposure by best response and by target expression."""

from __future__ import annotations

from nkinetics.plugins import Table, TableBody
from nkinetics.population.exposure_response import RESPONSES
from nkinetics.results import Context, Results
from nkinetics.tables._exposure import individual, notes, rows_of_factor
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.wording import Words, blq_footnote, profile_name, profiles

NEEDS = ("exposure_response", "nca", "observations", "patients", "infusions", "events")


def build(results: Results, context: Context) -> TableBody:
    """Rows by factor and group; exposure in the first assay of the study."""
    words, kinds, table = Words(context.language), profiles(results), results.table("exposure_response")
    if not len(table) or not len(kinds):
        return absent(results, context, words.say("No exposure beside response.", "无暴露量与疗效的分析。"), NEEDS)
    kind = kinds.iloc[0]
    own = individual(results, kind["assay"], kind["specimen"])
    rows = [
        row
        for factor in ("response", "dll3_high")
        for row in rows_of_factor(results, context, factor, kind["assay"], kind["specimen"], own)
    ]
    order = words.say(" < ", " < ").join(RESPONSES)
    footnotes = (
        words.say(
            f"Best response: the column of the patients, else the best of the recorded responses (RECIST 1.1); ordered "
            f"{order}, other words (as NE) without a place in the order and not in the test. Target high: the column "
            "dll3_high.",
            f"最佳疗效：取患者表，否则取所记录疗效中的最佳者（RECIST 1.1）；顺序 {order}，"
            "其他（如 NE）不参与排序与检验。"
            "靶点高表达：dll3_high 列。",
        ),
        *notes(context, profile_name(context, kind["assay"], kind["specimen"], kind["level_unit"])),
        blq_footnote(context),
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


TABLE = Table(
    name="response",
    id="T-CK-12",
    number="12",
    title={
        "en": "Exposure by best response and target expression (exploratory)",
        "zh": "按最佳疗效及靶点表达的暴露量（探索性）",
    },
    needs=NEEDS,
    build=build,
)
