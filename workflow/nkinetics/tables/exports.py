"""T-CK-17: every row of every export, used or set aside, by reason."""

from __future__ import annotations

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.store import row_ranges
from nkinetics.tables._format import absent, body
from nkinetics.wording import Words

NEEDS = ("ingest",)


def build(results: Results, context: Context) -> TableBody:
    """One row per export and fate of its rows; read = used + set aside."""
    words = Words(context.language)
    rows_read = results.rows("ingest", ["source_file", "source_row", "reader", "used", "reason"], hold=False)
    if not len(rows_read):
        return absent(results, context, words.say("No export was read.", "未读取任何导出文件。"), NEEDS)
    columns = [
        words.say("Export", "导出文件"),
        words.say("Reader", "读取器"),
        words.say("Rows read", "读取行数"),
        words.say("Used", "使用"),
        words.say("Set aside", "搁置"),
        words.say("Why set aside", "搁置原因"),
        words.say("Rows", "行号"),
    ]
    rows = []
    used = rows_read["used"].fillna(False).astype(bool)
    for file, own in rows_read.groupby("source_file", sort=True):
        n, n_used = len(own), int(used[own.index].sum())
        head = [str(file), str(own["reader"].iloc[0]) or "–", str(n), str(n_used), str(n - n_used)]
        aside = own[~used[own.index]]
        if not len(aside):
            rows.append(dict(zip(columns, [*head, "–", "–"], strict=True)))
        for reason, group in aside.groupby("reason", sort=True):
            numbers = [int(r) for r in group["source_row"].dropna()]
            why = str(reason) or words.say("no reason recorded", "未记录原因")
            cells = [f"{why} ({len(group)})", row_ranges(numbers) or words.say("whole file", "整个文件")]
            rows.append(dict(zip(columns, [*head, *cells], strict=True)))
    total, total_used = len(rows_read), int(used.sum())
    return body(
        results,
        context,
        rows,
        columns,
        sources=NEEDS,
        footnotes=(
            words.say(
                f"All exports: {total} rows read = {total_used} used + {total - total_used} set aside. "
                "A row with several targets counts once for each. Row numbers count the header.",
                f"全部导出文件：读取 {total} 行 = 使用 {total_used} 行 + 搁置 "
                f"{total - total_used} 行。一行含多个靶标时分别计数。行号包含表头。",
            ),
        ),
        subtitle=words.say("All exports", "全部导出文件"),
        row_header=6,
    )


TABLE = Table(
    name="exports",
    id="T-CK-17",
    number="17",
    title={"en": "Accounting of every row of the exports", "zh": "导出文件逐行核算"},
    needs=NEEDS,
    build=build,
)
