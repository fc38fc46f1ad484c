"""L-16.2.5.2: every result: planned and actual time, level as reported, limits, flags, and what it was used in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._nca import AUC_WINDOW
from nkinetics.tables._visits import when_taken
from nkinetics.wording import Words, days, level, missing, profile_name, profiles, significant

NEEDS = ("observations", "samples", "nca_points", "patients", "infusions")
EMPTY, MINUS = "–", "−"


def build(results: Results, context: Context) -> TableBody:
    """One row per result, by assay, patient and actual time; a patient without a result stands with the reason."""
    words, kinds, observed = Words(context.language), profiles(results), results.table("observations")
    if not len(kinds):
        why = words.say("No assay has a result.", "无检测结果。")
        return absent(results, context, why, NEEDS)
    used, columns = _used(results, words), _columns(words)
    observed = when_taken(results, observed)
    patients: list[str] = []

    def rows() -> Iterator[dict[str, str]]:
        order = ["time_actual", "time_nominal", "sample_id", "observation_id"]
        none = [EMPTY] * 6 + ["MISS", EMPTY, words.say("no result in this assay", "该检测无结果"), EMPTY, EMPTY]
        for kind in kinds.itertuples():
            own = observed[(observed["assay"] == kind.assay) & (observed["specimen"] == kind.specimen)]
            label = profile_name(context, str(kind.assay), str(kind.specimen), str(kind.level_unit))
            rows_of = by_patient(own)
            for patient in results.patients.itertuples():
                head = [label, str(patient.dose_level), str(patient.patient_id)]
                mine = rows_of(str(patient.patient_id)).sort_values(order, kind="stable")
                lines = [_row(record, used, words) for record in mine.to_dict("records")]
                for line in lines or [none]:
                    patients.append(str(patient.patient_id))
                    yield dict(zip(columns, [*head, *line], strict=True))

    return body(
        results,
        context,
        rows(),
        columns,
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
        patients=patients,
    )


def _columns(words: Words) -> list[str]:
    return [
        words.say("Assay", "检测方法"),
        words.say("Dose level", "剂量水平"),
        words.say("Patient", "患者"),
        words.say("Sample", "样本"),
        words.say("Visit", "访视"),
        words.say("Planned (d)", "计划 (d)"),
        words.say("Actual (d)", "实际 (d)"),
        words.say("Deviation (h)", "偏差 (h)"),
        words.say("After infusion (d)", "输注后 (d)"),
        words.say("Result", "结果"),
        "LLOQ",
        words.say("Flags", "标记"),
        words.say("In AUC", "用于 AUC"),
        words.say("In λz", "用于 λz"),
    ]


def _used(results: Results, words: Words) -> Mapping[tuple[str, str], str]:
    """For each observation and use (auc, lambda_z): yes, or the one of the two shown profiles in which it was used."""
    points = results.rows("nca_points", window=("overall", AUC_WINDOW))
    windows: dict[tuple[str, str], set[str]] = {}
    for observation, use, window in zip(points["observation_id"], points["used_in"], points["window"], strict=True):
        windows.setdefault((str(observation), str(use)), set()).add(str(window))
    names = {"overall": words.say("to Tlast", "至 Tlast"), AUC_WINDOW: AUC_WINDOW.replace("-", "–")}
    yes = words.say("yes", "是")
    return {key: yes if len(of) == 2 or key[1] == "lambda_z" else names[min(of)] for key, of in windows.items()}


def _row(record: Mapping[str, object], used: Mapping[tuple[str, str], str], words: Words) -> list[str]:
    planned, actual = (
        float(str(record[c])) if not missing(record[c]) else None for c in ("time_nominal", "time_actual")
    )
    apart = "" if planned is None or actual is None else f"{round(24 * (actual - planned), 1) + 0.0:.1f}"
    after, no = record["time_after_dose"], words.say("no", "否")
    identifier = str(record["observation_id"])
    analysed = not missing(record["reportable"]) and bool(record["reportable"])
    return [
        str(record["sample_id"]) or EMPTY,
        str(record["visit"]) or EMPTY,
        EMPTY if planned is None else days(planned),
        EMPTY if actual is None else days(actual).replace("-", MINUS),
        apart.replace("-", MINUS) or EMPTY,
        EMPTY if missing(after) else days(float(str(after))),
        level(record),
        EMPTY if missing(record["lloq"]) else significant(float(str(record["lloq"]))),
        _flags(record, analysed, words),
        used.get((identifier, "auc"), no),
        used.get((identifier, "lambda_z"), no),
    ]


def _flags(record: Mapping[str, object], analysed: bool, words: Words) -> str:
    """What is to be known of a result besides its number."""
    found = [words.say("pre-dose", "给药前")] if not missing(record["predose"]) and bool(record["predose"]) else []
    if record["status"] in ("blq", "not_detected") and not missing(record["detected"]):
        seen = bool(record["detected"])
        found.append(words.say("signal seen", "有信号") if seen else words.say("no signal", "无信号"))
    if not missing(record["time_flag"]):
        found.append(str(record["time_flag"]))
    if not analysed:
        reason = str(record["exclusion_reason"]) or words.say("no reason recorded", "未记录原因")
        found.append(words.colon(words.say("not analysed", "未纳入分析"), reason))
    return "; ".join(found)


def _footnotes(context: Context) -> list[str]:
    words = Words(context.language)
    window = AUC_WINDOW.replace("-", "–")
    return [
        words.say(
            "Planned and actual times in days from the start of the first infusion, deviation in hours, actual minus "
            "planned; time after the last infusion started at or before the sample. Result as reported, to 4 "
            "significant figures; LLOQ of that sample, in the unit of the assay.",
            "计划与实际时间为首次输注开始后的天数，偏差为实际减计划（小时）；输注后时间自该样本之前最近一次输注开始计。"
            "结果按报告值，4 位有效数字；定量下限为该样本的下限，单位为检测单位。",
        ),
        words.say(
            f"In AUC: used in AUClast (to Tlast) and in AUC {window}, or in the one named; in λz: a point of the "
            "terminal fit of the whole profile. Results that are not analysed are shown with the reason and used in "
            "nothing.",
            f"用于 AUC：用于 AUClast（至 Tlast）与 AUC {window}，或仅用于所列者；用于 λz：整条曲线末端拟合的点。"
            "未纳入分析的结果列出原因，不用于任何计算。",
        ),
    ]


TABLE = Table(
    name="levels_individual",
    id="L-16.2.5.2",
    number="2",
    title={"en": "Levels of every sample", "zh": "各样本的水平"},
    needs=NEEDS,
    build=build,
)
