"""T-CK-18: patients with detectable cells on set days, with exact intervals."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, NOT_REPORTED, absent, analysis_set, body, share
from nkinetics.tables.persistence import ALL, days_of, windows_note
from nkinetics.wording import Words, dose_levels, missing, profile_name, profiles

NEEDS = ("detectability", "observations", "patients", "infusions")


def build(results: Results, context: Context) -> TableBody:
    """Rows by assay, limit, day and dose level."""
    words, shares = Words(context.language), results.table("detectability")
    if not len(shares):
        return absent(results, context, words.say("No sample to count.", "无可计数的样本。"), NEEDS)
    statistics, heads = context.settings.statistics, days_of(results, context)
    groups = {**{d: d for d in dose_levels(results)}, ALL: words.say("All", "全部")}
    level = f"{100 * statistics.confidence:g} %"
    rows = []
    for kind in profiles(results).itertuples():
        own = shares[(shares["assay"] == kind.assay) & (shares["specimen"] == kind.specimen)]
        for limit in ("lloq", "lod"):
            for day, head in heads.items():
                here = own[(own["limit"] == limit) & (own["day"] == day)].set_index("dose_level")
                for group in [g for g in groups if g in here.index]:
                    row = here.loc[group]
                    window = f"{row['window_start']:g}–{row['window_end']:g}"
                    rows.append(
                        {
                            words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                            words.say("Above", "高于"): limit.upper(),
                            words.say("Day (window, elapsed days)", "日（窗口，已过天数）"): f"{head} ({window})",
                            words.say("Dose level", "剂量水平"): groups[group],
                            words.say("Treated", "给药人数"): str(int(row["n_treated"])),
                            words.say("Sampled", "采样人数"): str(int(row["n_sampled"])),
                            words.say("Detectable", "可检出人数"): NOT_CALCULABLE
                            if missing(row["n_detected"])
                            else str(int(row["n_detected"])),
                            **_share(words, row, level, statistics.summary_n_min),
                            words.say("Remarks", "备注"): str(row["reason"]),
                        }
                    )
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(results, context, level),
        subtitle=analysis_set(results, context),
        row_header=4,
    )


def _share(words: Words, row: pd.Series, level: str, least: int) -> dict[str, str]:
    heads = words.say("% of sampled", "占采样者 %"), words.say(f"{level} CI, exact", f"{level} CI（精确法）")
    if missing(row["share"]):
        return dict.fromkeys(heads, NOT_CALCULABLE)
    if int(row["n_sampled"]) < least:
        return dict.fromkeys(heads, NOT_REPORTED)
    shown, low, high = (share(float(row[c]), int(row["n_sampled"])) for c in ("share", "ci_lower", "ci_upper"))
    return dict(zip(heads, (shown, words.say(f"{low} to {high}", f"{low} 至 {high}")), strict=True))


def _footnotes(results: Results, context: Context, level: str) -> tuple[str, ...]:
    words, least = Words(context.language), context.settings.statistics.summary_n_min
    return (
        windows_note(results, context),
        words.say(
            f"Exact {level} confidence interval of Clopper and Pearson. With fewer than {least} patients sampled no "
            "share (NR). NC where nobody was sampled, or a level below its LLOQ is not known to be detected or not.",
            f"Clopper-Pearson 精确 {level} 置信区间。采样者少于 {least} 例时不给出比例（NR）。"
            "无采样者，或低于定量下限的结果是否检出未知时为 NC。",
        ),
        words.say(
            "CI: confidence interval; LLOQ: lower limit of quantification; LOD: limit of detection.",
            "CI：置信区间；LLOQ：定量下限；LOD：检测限。",
        ),
    )


TABLE = Table(
    name="detectable",
    id="T-CK-18",
    number="18",
    title={"en": "Patients with detectable cells by day and dose level", "zh": "按日与剂量水平的可检出患者"},
    needs=NEEDS,
    build=build,
)
