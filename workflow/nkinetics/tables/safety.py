"""T-CK-11: exposure beside CRS, ICANS, infection, tocilizumab and steroid, patient by patient."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nkinetics.findings import crs_note
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._events import EVENT_NAMES, event_words, worst_grade
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._nca import AUC_WINDOW, BY_NAME, printed, reason_words, values
from nkinetics.wording import FOLLOW_UP_ENDS, Words, days, follow_up_ends, grouped, profile_name, profiles

NEEDS = ("nca", "events", "patients", "observations")
SHOWN = ("cmax", "tmax", "auc_int")


def build(results: Results, context: Context) -> TableBody:
    """One row per patient; exposure in the first assay of the study."""
    words, kinds = Words(context.language), profiles(results)
    if not len(kinds) or not results.size("nca"):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    kind = kinds.iloc[0]
    frames = {p: values(results, BY_NAME[p], kind["assay"], kind["specimen"]).set_index("patient_id") for p in SHOWN}
    rows, ends = [], follow_up_ends(results)
    for patient in results.patients.itertuples():
        identifier = str(patient.patient_id)
        row = {
            words.say("Dose level", "剂量水平"): str(patient.dose_level),
            words.say("Patient", "患者"): identifier,
        }
        for parameter, frame in frames.items():
            title = words.pick(BY_NAME[parameter].title)
            row[title] = printed(BY_NAME[parameter], float(frame.loc[identifier, "value"]))
        for event in ("crs", "icans"):
            row[words.say(f"{event.upper()}, worst grade", f"{event.upper()} 最高级别")] = worst_grade(
                results, context, identifier, event
            )
        for event in ("infection", "tocilizumab", "steroid"):
            row[words.pick(EVENT_NAMES[event])] = event_words(results, context, identifier, event)
        row[words.say("Death or withdrawal", "死亡或退出")] = _ended(*ends[identifier], words)
        rows.append(row)
    not_calculable = _reasons(context, frames)
    notes = [
        words.say(
            "Exploratory. "
            f"{profile_name(context, kind['assay'], kind['specimen'], kind['level_unit'])}; Tmax in days, AUC over "
            f"{AUC_WINDOW.replace('-', '–')}. Tocilizumab and steroids are as a rule given "
            "BECAUSE of expansion and toxicity (the reason is not recorded here): exposure beside them says "
            "nothing about their effect. Days elapsed from the start of the first infusion.",
            "探索性分析。"
            f"{profile_name(context, kind['assay'], kind['specimen'], kind['level_unit'])}；Tmax 以天计，AUC 时间窗 "
            f"{AUC_WINDOW.replace('-', '–')}。托珠单抗与激素通常因扩增和毒性而使用（原因未记录）："
            "并列的暴露量不反映其作用。时间为首次输注开始后的天数。",
        ),
        *filter(None, [crs_note(results, context)]),
        words.say(
            "AUC: area under the curve; CRS: cytokine release syndrome; ICANS: immune "
            "effector cell-associated neurotoxicity syndrome.",
            "AUC：曲线下面积；CRS：细胞因子释放综合征；ICANS：免疫效应细胞相关神经毒性综合征。",
        ),
    ]
    if not_calculable:
        reasons = words.say("; ", "；").join(not_calculable)
        notes.append(words.colon(words.say("Reasons of NC", "NC 的原因"), reasons) + words.say(".", "。"))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=notes,
        subtitle=analysis_set(results, context),
        row_header=2,
        patients=list(results.patients["patient_id"]),
    )


def _ended(day: float, status: str, words: Words) -> str:
    """How and when a patient left, “none” for one who did not."""
    if status not in ("death", "withdrawal"):
        return words.say("none", "无")
    name = words.pick(FOLLOW_UP_ENDS[status])
    return words.say(f"{name}, day {days(day)}", f"{name}，第 {days(day)} 天")


def _reasons(context: Context, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Why cells are NC, as nca.csv says: parameters that share patient and reason are named together."""
    words = Words(context.language)
    by_reason: dict[tuple[str, str], list[str]] = {}
    for parameter, frame in frames.items():
        for patient, reason in reason_words(BY_NAME[parameter], frame.reset_index()).items():
            by_reason.setdefault((patient, reason), []).append(words.pick(BY_NAME[parameter].title))
    by_parameters: dict[str, dict[str, str]] = {}
    for (patient, reason), titles in by_reason.items():
        by_parameters.setdefault(words.join(titles), {})[patient] = reason
    return [words.colon(titles, grouped(why, words)) for titles, why in by_parameters.items()]


TABLE = Table(
    name="safety",
    id="T-CK-11",
    number="11",
    title={
        "en": "Exposure beside CRS, ICANS, infection and co-medication (exploratory)",
        "zh": "暴露量与 CRS、ICANS、感染及合并用药（探索性）",
    },
    needs=NEEDS,
    build=build,
)
