"""T-CK-02: infusions planned and given, lymphodepletion, IL-2, tocilizumab, steroids and events of every patient."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._events import EVENT_NAMES, collected, event_words
from nkinetics.tables._format import analysis_set, body
from nkinetics.wording import Words, amount, days, missing, percent

NEEDS = ("patients", "infusions", "cytokines", "events")
LYMPHODEPLETION = ("lymphodepletion", "conditioning")
"""Further columns of patients.csv that are shown when a study has them."""
SHOWN_EVENTS = ("tocilizumab", "steroid", "crs", "icans", "infection")


def build(results: Results, context: Context) -> TableBody:
    """One row per patient, also the one who received nothing."""
    words, patients = Words(context.language), results.patients
    infusions = results.table("infusions")
    numbers = sorted(int(k) for k in infusions["infusion"].dropna().unique())
    extra = [c for c in LYMPHODEPLETION if c in patients.columns]
    rows = []
    infusions_of = by_patient(infusions)
    for patient in patients.to_dict("records"):
        own = infusions_of(str(patient["patient_id"]))
        row = {_dose(words): str(patient["dose_level"]), _patient(words): patient["patient_id"]}
        for number in numbers:
            row[_infusion(words, number)] = _given(words, own[own["infusion"] == number])
        row[_total(words)] = _share(words, own)
        for name in extra:
            row[_lymphodepletion(words)] = str(patient[name]) or words.say("MISS: not recorded", "MISS：未记录")
        row[_cytokines(words)] = _doses(results, context, str(patient["patient_id"]))
        for event in SHOWN_EVENTS:
            row[words.pick(EVENT_NAMES[event])] = event_words(results, context, str(patient["patient_id"]), event)
        rows.append(row)
    columns = list(rows[0]) if rows else [_dose(words), _patient(words)]
    return body(
        results,
        context,
        rows,
        columns,
        sources=NEEDS,
        footnotes=_footnotes(results, context),
        subtitle=analysis_set(results, context),
        row_header=2,
        patients=list(patients["patient_id"]),
    )


def _dose(words: Words) -> str:
    return words.say("Dose level", "剂量水平")


def _patient(words: Words) -> str:
    return words.say("Patient", "患者")


def _infusion(words: Words, number: int) -> str:
    return words.say(f"Infusion {number}: given / planned", f"第 {number} 次输注：实际 / 计划")


def _total(words: Words) -> str:
    return words.say("Total given (% of planned)", "总剂量（占计划 %）")


def _lymphodepletion(words: Words) -> str:
    return words.say("Lymphodepletion", "清淋预处理")


def _cytokines(words: Words) -> str:
    return words.say("Cytokine doses", "细胞因子")


def _given(words: Words, rows: pd.DataFrame) -> str:
    if not len(rows):
        return words.say("not given", "未给予")
    row = rows.iloc[0]
    given = row["planned"] if missing(row["given"]) else row["given"]
    start = "" if missing(row["time"]) else words.say(f", day {days(row['time'])}", f"，第 {days(row['time'])} 天")
    return f"{amount(given)} / {amount(row['planned'])} ({_percent_of(given, row['planned'])}){start}"


def _percent_of(given: float, planned: float) -> str:
    return f"{percent(100 * given / planned)} %" if planned > 0 else "NC"


def _share(words: Words, rows: pd.DataFrame) -> str:
    if not len(rows):
        return words.say("none", "无")
    given = rows["given"].fillna(rows["planned"]).sum()
    return f"{amount(given)} ({_percent_of(given, rows['planned'].sum())})"


def _doses(results: Results, context: Context, patient: str) -> str:
    """Doses by agent: number, total, days; or why there are none."""
    words = Words(context.language)
    if not collected(results, context, "cytokines"):
        return words.say("not collected", "未收集")
    own = results.of_patient("cytokines", patient)
    parts = []
    for key, rows in own.groupby(["agent", "unit"], sort=True):
        agent, unit = (str(k) for k in pd.Series(key))
        amounts = {f"{v:g}" for v in rows["dose"].dropna()}
        each = f" {amounts.pop()} {unit}" if len(amounts) == 1 else ""
        when = words.join(days(t) for t in rows["time"].dropna())
        total = f"{rows['dose'].sum():g} {unit}"
        parts.append(
            words.say(
                f"{agent} {len(rows)} ×{each}, total {total} (days {when})",
                f"{agent} {len(rows)} ×{each}，共 {total}（第 {when} 天）",
            )
        )
    return "; ".join(parts) or words.say("none", "无")


def _footnotes(results: Results, context: Context) -> tuple[str, ...]:
    words, inputs = Words(context.language), context.settings.inputs
    notes = [
        words.say(
            "Given and planned amounts in " + context.settings.study.dose_unit + ", percentages of the planned amount; "
            "days elapsed from the start of the first infusion. An empty amount given counts as the planned one. "
            "Grades: CRS and ICANS by ASTCT, infection by CTCAE; “none” means none recorded.",
            "实际与计划细胞量单位为 "
            + context.settings.study.dose_unit
            + "，百分比相对于计划量；时间为首次输注开始后的天数。"
            "实际量为空时按计划量计。CRS 与 ICANS 按 ASTCT 分级，感染按 CTCAE 分级；“无”指无记录。",
        ),
        words.say(
            "CRS: cytokine release syndrome; ICANS: immune effector cell-associated "
            "neurotoxicity syndrome; IL-2: interleukin 2.",
            "CRS：细胞因子释放综合征；ICANS：免疫效应细胞相关神经毒性综合征；IL-2：白细胞介素 2。",
        ),
    ]
    if inputs.infusions is None:
        notes.append(
            words.say(
                "No infusion table was given: one infusion of the reference dose at time 0 is assumed.",
                "未提供输注表：假定在时间 0 输注一次参考剂量。",
            )
        )
    if not collected(results, context, "events"):
        notes.append(words.say("No event is recorded in this study.", "本研究未记录任何事件。"))
    return tuple(notes)


TABLE = Table(
    name="dosing",
    id="T-CK-02",
    number="2",
    title={"en": "Dosing, co-medication and events actually recorded", "zh": "实际给药、合并用药与事件"},
    needs=NEEDS,
    build=build,
)
