"""L-16.2.5.1: every infusion, dose of a cytokine and concomitant drug: planned, given, when."""

from __future__ import annotations

from collections.abc import Mapping

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._events import collected
from nkinetics.tables._format import analysis_set, body
from nkinetics.tables._protocol import Plan, plans, schedule_words
from nkinetics.wording import Words, amount, days, missing, percent, unit_name

NEEDS = ("patients", "infusions", "cytokines", "events")
EMPTY, MINUS = "–", "−"
DRUGS: Mapping[str, Mapping[str, str]] = {
    "tocilizumab": {"en": "Tocilizumab", "zh": "托珠单抗"},
    "steroid": {"en": "Steroid", "zh": "糖皮质激素"},
    "therapy": {"en": "Subsequent therapy", "zh": "后续治疗"},
}
LYMPHODEPLETION = ("lymphodepletion", "conditioning")


def build(results: Results, context: Context) -> TableBody:
    """One row per infusion, dose and drug, by patient and time; a patient without any stands with the reason."""
    words, schedule, columns = Words(context.language), plans(results, context), _columns(Words(context.language))
    rows, patients = [], []
    for patient in results.patients.to_dict("records"):
        identifier = str(patient["patient_id"])
        plan = schedule[str(patient["dose_level"])]
        lines = [
            *_lymphodepletion(patient, words),
            *_infusions(results, identifier, plan, context, words),
            *_cytokines(results, identifier, plan, words),
            *_drugs(results, identifier, words),
        ]
        none = [words.say("none recorded", "无记录"), *[EMPTY] * 9]
        for line in lines or [none]:
            rows.append(dict(zip(columns, [str(patient["dose_level"]), identifier, *line], strict=True)))
            patients.append(identifier)
    return body(
        results,
        context,
        rows,
        columns,
        sources=NEEDS,
        footnotes=_footnotes(results, context, schedule),
        subtitle=analysis_set(results, context),
        row_header=2,
        patients=patients,
    )


def _columns(words: Words) -> list[str]:
    return [
        words.say("Dose level", "剂量水平"),
        words.say("Patient", "患者"),
        words.say("Given", "给予"),
        words.say("No.", "序号"),
        words.say("Planned", "计划量"),
        words.say("Actual", "实际量"),
        words.say("% of planned", "占计划 %"),
        words.say("Planned day", "计划日"),
        words.say("Actual day", "实际日"),
        words.say("Deviation (h)", "偏差 (h)"),
        words.say("Until", "至"),
        words.say("Started at", "开始时间"),
    ]


def _day(value: object) -> str:
    return EMPTY if missing(value) else days(float(str(value))).replace("-", MINUS)


def _apart(actual: object, planned: float | None) -> str:
    if planned is None or missing(actual):
        return EMPTY
    return f"{round(24 * (float(str(actual)) - planned), 1) + 0.0:.1f}".replace("-", MINUS)


def _lymphodepletion(patient: Mapping[str, object], words: Words) -> list[list[str]]:
    """What patients.csv says of it, where a study has the column: free text, on no day of its own."""
    name = words.say("Lymphodepletion", "清淋预处理")
    said = [str(patient[c]) for c in LYMPHODEPLETION if c in patient and not missing(patient[c])]
    return [[name, EMPTY, EMPTY, text, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY] for text in said]


def _infusions(results: Results, patient: str, plan: Plan, context: Context, words: Words) -> list[list[str]]:
    unit = {"cells": words.say("cells", "个细胞"), "cells/kg": words.say("cells/kg", "个细胞/kg")}
    name, lines = words.say("CAR-NK infusion", "CAR-NK 输注"), []
    own = results.of_patient("infusions", patient).sort_values("infusion")
    for row in own.to_dict("records"):
        number, planned, given = int(row["infusion"]), float(row["planned"]), row["given"]
        shown = unit.get(str(row["unit"] or context.settings.study.dose_unit), str(row["unit"]))
        actual = words.say("MISS: not recorded", "MISS：未记录") if missing(given) else f"{amount(given)} {shown}"
        share = "NC" if missing(given) or not planned > 0 else percent(100 * float(given) / planned)
        day = plan.infusions.get(number)
        lines.append(
            [
                name,
                str(number),
                f"{amount(planned)} {shown}",
                actual,
                share,
                EMPTY if day is None else days(day),
                _day(row["time"]),
                _apart(row["time"], day),
                EMPTY,
                str(row["started_at"] or "") or EMPTY,
            ]
        )
    not_given = words.say("not given", "未给予")
    known = set(own["infusion"].dropna().astype(int))
    lines += [
        [name, str(k), EMPTY, not_given, EMPTY, days(day), EMPTY, EMPTY, EMPTY, EMPTY]
        for k, day in plan.infusions.items()
        if k not in known
    ]
    return lines


def _cytokines(results: Results, patient: str, plan: Plan, words: Words) -> list[list[str]]:
    own, lines = results.of_patient("cytokines", patient), []
    for agent in sorted({*own["agent"], *plan.cytokines}):
        doses = own[own["agent"] == agent].sort_values("time")
        of_plan, absent = plan.matched(agent, list(doses["time"]))
        entries: list[tuple[float, list[str]]] = []
        for row, day in zip(doses.to_dict("records"), of_plan, strict=True):
            unit = unit_name(str(row["unit"] or ""))
            dose = (
                words.say("MISS: not recorded", "MISS：未记录") if missing(row["dose"]) else f"{row['dose']:g} {unit}"
            )
            line = [
                EMPTY,
                dose,
                EMPTY,
                EMPTY if day is None else days(day),
                _day(row["time"]),
                _apart(row["time"], day),
            ]
            place = float("inf") if missing(row["time"]) else float(row["time"])
            entries.append((place, [*line, EMPTY, str(row["started_at"] or "") or EMPTY]))
        not_given = words.say("no dose recorded", "无给药记录")
        entries += [(day, [EMPTY, not_given, EMPTY, days(day), *[EMPTY] * 4]) for day in absent]
        entries.sort(key=lambda entry: entry[0])
        lines += [[agent, str(k), *line] for k, (_, line) in enumerate(entries, start=1)]
    return lines


def _drugs(results: Results, patient: str, words: Words) -> list[list[str]]:
    events = results.of_patient("events", patient)
    own = events[events["event"].isin(DRUGS)]
    lines = []
    for row in own.sort_values(["time", "event"]).to_dict("records"):
        said = words.join([str(row["value"] or ""), str(row["comment"] or "")]) or EMPTY
        started = str(row["started_at"] or "") or EMPTY
        name = words.pick(DRUGS[str(row["event"])])
        lines.append([name, EMPTY, EMPTY, said, EMPTY, EMPTY, _day(row["time"]), EMPTY, _day(row["time_end"]), started])
    return lines


def _footnotes(results: Results, context: Context, schedule: Mapping[str, Plan]) -> list[str]:
    words = Words(context.language)
    notes = [
        words.say(
            "Days elapsed from the start of the first infusion; deviation in hours, actual minus planned day. Planned "
            f"days: {schedule_words(schedule, words)}. An empty amount given counts as the planned one. Started at: "
            f"as recorded, in the zone {context.settings.study.time_zone} where it has none.",
            "时间为首次输注开始后的天数；偏差为实际减计划日（小时）。计划日："
            f"{schedule_words(schedule, words)}。实际量为空时按计划量计。开始时间按记录，未注明时区者为 "
            f"{context.settings.study.time_zone}。",
        )
    ]
    if context.settings.inputs.infusions is None:
        notes.append(
            words.say(
                "No infusion table was given: one infusion of the reference dose at time 0 is assumed.",
                "未提供输注表：假定在时间 0 输注一次参考剂量。",
            )
        )
    notes += [
        words.say(f"Not collected in this study: {name}.", f"本研究未收集：{name}。")
        for table, name in (
            ("cytokines", words.say("doses of cytokines", "细胞因子给药")),
            ("events", words.say("concomitant drugs", "合并用药")),
        )
        if not collected(results, context, table)
    ]
    return notes


TABLE = Table(
    name="dosing_individual",
    id="L-16.2.5.1",
    number="1",
    title={"en": "Infusions, cytokines and concomitant drugs", "zh": "输注、细胞因子与合并用药"},
    needs=NEEDS,
    build=build,
)
