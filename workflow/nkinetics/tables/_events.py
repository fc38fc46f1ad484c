"""Clinical events in words."""

from __future__ import annotations

from collections.abc import Mapping

from nkinetics.results import Context, Results
from nkinetics.settings import AUTO
from nkinetics.wording import Words, days, missing

EVENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "crs": {"en": "CRS", "zh": "CRS"},
    "icans": {"en": "ICANS", "zh": "ICANS"},
    "infection": {"en": "Infection", "zh": "感染"},
    "tocilizumab": {"en": "Tocilizumab", "zh": "托珠单抗"},
    "steroid": {"en": "Steroid", "zh": "糖皮质激素"},
    "response": {"en": "Best response", "zh": "最佳疗效"},
}


def collected(results: Results, context: Context, table: str) -> bool:
    """Whether the study collects such records: it names their table, or has at least one.

    A study that leaves the name to be found by itself and has no row has said nothing about anybody.
    """
    named = getattr(context.settings.inputs, table)
    return named not in (None, AUTO) or len(results.table(table)) > 0


def event_words(results: Results, context: Context, patient: str, event: str) -> str:
    """Grade and days of a patient's events of one kind; “none” where none is recorded."""
    words, own = Words(context.language), results.of_patient("events", patient)
    if not collected(results, context, "events"):
        return words.say("not collected", "未收集")
    own = own[own["event"] == event]
    parts = []
    for row in own.sort_values("time").itertuples():
        grade = "" if missing(row.grade) else words.say(f"grade {row.grade}", f"{row.grade} 级")
        when = "" if missing(row.time) else days(float(str(row.time)))
        if when and not missing(row.time_end):
            when += f"–{days(float(str(row.time_end)))}"
        day = words.say(f"day {when}", f"第 {when} 天") if when else ""
        parts.append(words.join([str(row.value or ""), grade, day]))
    return "; ".join(parts) or words.say("none", "无")


def worst_grade(results: Results, context: Context, patient: str, event: str) -> str:
    """Highest grade of a patient's events of one kind: a number, “ungraded”, or “none”."""
    words, own = Words(context.language), results.of_patient("events", patient)
    if not collected(results, context, "events"):
        return words.say("not collected", "未收集")
    own = own[own["event"] == event]
    if not len(own):
        return words.say("none", "无")
    grades = own["grade"].dropna()
    return str(int(grades.max())) if len(grades) else words.say("yes, ungraded", "有，未分级")
