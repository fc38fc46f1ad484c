"""T-CK-15: departures from the protocol that touch the kinetics, each with what it touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from nkinetics.observations import FAR, OUTSIDE_WINDOW
from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._events import EVENT_NAMES, collected
from nkinetics.tables._fates import fates
from nkinetics.tables._format import analysis_set, body
from nkinetics.tables._nca import AUC_WINDOW
from nkinetics.tables._protocol import Plan, plans, schedule_words
from nkinetics.tables._visits import RESULTS, outcomes, planned, visit_names, without_samples
from nkinetics.wording import Words, amount, days, missing, percent, profiles

NEEDS = ("patients", "infusions", "cytokines", "events", "samples", "observations", "nca", "nca_points", "runs")
EMPTY, MINUS = "–", "−"
MOST = 0.5
"""A visit that more than this share of the patients in follow-up have is due for the others too."""


@dataclass(frozen=True)
class Deviation:
    """One departure: its kind, its day [d] (nan where it has none), what happened, what it touches."""

    kind: str
    day: float
    what: str
    touches: str


def build(results: Results, context: Context) -> TableBody:
    """One row per departure, by patient and day; a patient without any, too; refused runs at the end."""
    words, schedule = Words(context.language), plans(results, context)
    columns = [
        words.say("Dose level", "剂量水平"),
        words.say("Patient", "患者"),
        words.say("Kind", "类别"),
        words.say("Day", "日"),
        words.say("Deviation", "偏离"),
        words.say("What it touches", "影响"),
    ]
    found_in = by_patient(results, context)
    rows, patients = [], []
    for patient in results.patients.to_dict("records"):
        identifier, dose_level = str(patient["patient_id"]), str(patient["dose_level"])
        found = list(found_in[identifier])
        # Without a day first: it holds for the whole of the patient.
        found.sort(key=lambda d: (not missing(d.day), 0.0 if missing(d.day) else d.day, d.kind, d.what))
        for each in found or [Deviation(words.say("none found", "未发现"), float("nan"), EMPTY, EMPTY)]:
            day = EMPTY if missing(each.day) else days(each.day).replace("-", MINUS)
            cells = [dose_level, identifier, each.kind, day, each.what, each.touches]
            rows.append(dict(zip(columns, cells, strict=True)))
            patients.append(identifier)
    for run in _runs(results, words):
        cells = [words.say("all", "全部"), EMPTY, run.kind, EMPTY, run.what, run.touches]
        rows.append(dict(zip(columns, cells, strict=True)))
        patients.append("")
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


def by_patient(results: Results, context: Context) -> dict[str, list[Deviation]]:
    """Protocol deviations of every patient: doses, co-medication, samples."""
    words, schedule = Words(context.language), plans(results, context)
    of_samples = _samples(results, context, words)
    return {
        str(row["patient_id"]): [
            *_infusions(results, context, str(row["patient_id"]), schedule[str(row["dose_level"])], words),
            *_cytokines(results, context, str(row["patient_id"]), schedule[str(row["dose_level"])], words),
            *_drugs(results, context, str(row["patient_id"]), words),
            *of_samples.get(str(row["patient_id"]), []),
        ]
        for row in results.patients.to_dict("records")
    }


def _infusions(results: Results, context: Context, patient: str, plan: Plan, words: Words) -> Iterator[Deviation]:
    protocol = context.settings.report.protocol
    own = results.of_patient("infusions", patient).sort_values("infusion")
    kind = words.say("infusion", "输注")
    low, high = protocol.given_pct
    for row in own.to_dict("records"):
        number, planned_amount, given = int(row["infusion"]), float(row["planned"]), row["given"]
        day = plan.infusions.get(number)
        at = float("nan") if missing(row["time"]) else float(row["time"])
        if not missing(given) and float(given) == 0:
            yield Deviation(
                kind,
                at if not missing(at) or day is None else day,
                words.say(f"infusion {number} not given", f"第 {number} 次输注未给予"),
                _touches_infusion(number, words),
            )
            continue
        share = float("nan") if missing(given) or not planned_amount > 0 else 100 * float(given) / planned_amount
        if not missing(share) and not low <= share <= high:
            what = words.say(
                f"infusion {number}: {amount(float(given))} of {amount(planned_amount)} planned ({percent(share)} %)",
                f"第 {number} 次输注：{amount(float(given))} / 计划 {amount(planned_amount)}（{percent(share)} %）",
            )
            yield Deviation(kind, at, what, _touches_infusion(number, words))
        if day is not None and not missing(at) and abs(at - day) > protocol.dose_days:
            yield Deviation(
                kind,
                at,
                _late(words, words.say(f"infusion {number}", f"第 {number} 次输注"), at - day, day),
                words.say(
                    f"time course from infusion {number} on; parameters use the actual times, summaries by nominal "
                    "time do not",
                    f"第 {number} 次输注之后的时程；参数采用实际时间，按计划时间的汇总则不然",
                ),
            )
    known = set(own["infusion"].dropna().astype(int))
    for number, day in plan.infusions.items():
        if number not in known and _followed(results, patient) > day:
            yield Deviation(
                kind,
                day,
                words.say(f"infusion {number} not given (no row)", f"第 {number} 次输注未给予（无记录）"),
                _touches_infusion(number, words),
            )


def _touches_infusion(number: int, words: Words) -> str:
    return words.say(
        f"Cmax, AUC and parameters of infusion {number} and later; dose-normalised values and dose proportionality use "
        "the amount given",
        f"第 {number} 次及以后输注的 Cmax、AUC 与参数；剂量归一化与剂量比例性采用实际给药量",
    )


def _late(words: Words, what: str, by: float, day: float) -> str:
    apart = days(abs(by))
    if by > 0:
        return words.say(
            f"{what} {apart} d late (planned day {days(day)})", f"{what}晚 {apart} 天（计划日 {days(day)}）"
        )
    return words.say(f"{what} {apart} d early (planned day {days(day)})", f"{what}早 {apart} 天（计划日 {days(day)}）")


def _cytokines(results: Results, context: Context, patient: str, plan: Plan, words: Words) -> Iterator[Deviation]:
    if not collected(results, context, "cytokines"):
        return
    allowed = context.settings.report.protocol.dose_days
    own = results.of_patient("cytokines", patient)
    own = own[own["time"].notna()]
    touches = words.say(
        "expansion and decline after that day; models with cytokine windows use the doses actually given",
        "该日之后的扩增与下降；含细胞因子窗口的模型采用实际给药",
    )
    for agent in sorted({*own["agent"], *plan.cytokines}):
        times = [float(t) for t in own.loc[own["agent"] == agent, "time"].sort_values()]
        answered, absent = plan.matched(agent, times)
        for time, day in zip(times, answered, strict=True):
            if day is not None and abs(time - day) > allowed:
                yield Deviation(words.say("cytokine", "细胞因子"), time, _late(words, agent, time - day, day), touches)
            elif day is None and plan.cytokines.get(agent):
                what = words.say(f"{agent} dose outside the schedule", f"{agent} 计划外给药")
                yield Deviation(words.say("cytokine", "细胞因子"), time, what, touches)
        for day in absent:
            if _followed(results, patient) > day:
                what = words.say(f"{agent} dose not given (no row)", f"{agent} 未给药（无记录）")
                yield Deviation(words.say("cytokine", "细胞因子"), day, what, touches)


def _drugs(results: Results, context: Context, patient: str, words: Words) -> Iterator[Deviation]:
    events = results.of_patient("events", patient)
    own = events[events["event"].isin(("tocilizumab", "steroid", "therapy"))]
    for row in own.sort_values(["time", "event"]).to_dict("records"):
        at = float("nan") if missing(row["time"]) else float(row["time"])
        said = "" if missing(row["value"]) else f": {row['value']}"
        if row["event"] == "therapy":
            kept = context.settings.study.keep_after_therapy
            touches = (
                words.say("later samples are analysed (configured)", "其后样本仍纳入分析（按配置）")
                if kept
                else words.say(
                    "later samples are left out of every analysis; persistence and AUC end there",
                    "其后样本不纳入任何分析；持续性与 AUC 至此为止",
                )
            )
            name = words.say("subsequent therapy", "后续治疗")
        else:
            name = words.pick(EVENT_NAMES[str(row["event"])])
            touches = words.say(
                "level and decline after that day (half-life, persistence); no sample is dropped, no covariate by "
                "default",
                "该日之后的水平与下降（半衰期、持续性）；不剔除样本，默认不作协变量",
            )
        yield Deviation(words.say("co-medication", "合并用药"), at, f"{name}{said}", touches)


# ------------------------------------------------------------------------------------------------------------- samples


def _samples(results: Results, context: Context, words: Words) -> dict[str, list[Deviation]]:
    """Deviations of the samples of each patient: absent, out of their window, taken and without a result."""
    found: dict[str, list[Deviation]] = {}
    kind, samples = words.say("sample", "样本"), planned(results)
    for patient in without_samples(results):
        what = words.say("no sample in samples.csv", "samples.csv 中无样本")
        touches = words.say("every parameter: none can be had", "全部参数：均无法获得")
        found.setdefault(patient, []).append(Deviation(kind, float("nan"), what, touches))
    neighbours, used = _neighbours(results), _uses(results, words)
    for row in samples[~samples["collected"]].to_dict("records"):
        patient, state = str(row["patient_id"]), str(row["state"] or "")
        if state == "pending":
            continue  # still to come: no deviation
        at = row["time_actual"] if missing(row["time_nominal"]) else row["time_nominal"]
        what = words.say(f"{_visit(row)} not taken", f"{_visit(row)} 未采集")
        found.setdefault(patient, []).append(Deviation(kind, at, what, _bridged(neighbours, patient, at, words)))
    for row in _absent(results, samples):
        what = words.say(
            f"{row['visit']}: no row in samples.csv ({row['with']} of {row['of']} patients have one)",
            f"{row['visit']}：samples.csv 中无记录（{row['of']} 例中 {row['with']} 例有）",
        )
        touches = _bridged(neighbours, str(row["patient_id"]), float(str(row["time"])), words)
        found.setdefault(str(row["patient_id"]), []).append(Deviation(kind, float(str(row["time"])), what, touches))
    flagged = _out_of_window(results, context)
    for row in samples[samples["collected"] & samples["sample_id"].isin(flagged)].to_dict("records"):
        by = float(row["time_actual"]) - float(row["time_nominal"])
        what = _late(words, _visit(row), by, float(row["time_nominal"]))
        touches = used.get(str(row["sample_id"]), words.say("no parameter", "无参数"))
        told = words.say(
            f"{touches}, at the actual time; stands in summaries at the nominal time",
            f"{touches}，采用实际时间；在汇总中列于计划时间",
        )
        deviation = Deviation(kind, float(row["time_actual"]), what, told)
        found.setdefault(str(row["patient_id"]), []).append(deviation)
    for assay in profiles(results).itertuples():
        own = outcomes(results, str(assay.assay), str(assay.specimen))
        own = own[own["collected"] & own["outcome"].isin(("missing", "excluded"))]
        name = words.assay(str(assay.assay))
        for row in own.to_dict("records"):
            at = row["time_actual"]
            what = words.say(
                f"{_visit(row)}, {name}: no result analysed ({row['why']})",
                f"{_visit(row)}，{name}：无纳入分析的结果（{row['why']}）",
            )
            touches = _bridged(neighbours, str(row["patient_id"]), at, words, str(assay.assay), str(assay.specimen))
            deviation = Deviation(words.say("assay", "检测"), at, what, touches)
            found.setdefault(str(row["patient_id"]), []).append(deviation)
    return found


def _visit(row: dict[str, object]) -> str:
    return str(row["sample_id"]) if missing(row["visit"]) else f"{row['visit']} ({row['sample_id']})"


def _followed(results: Results, patient: str) -> float:
    """Until when a patient was in follow-up [d]: the end, else the last sample taken; -inf where nothing is known."""
    row = results.of_patient("patients", patient).iloc[0]
    if not missing(row["time_end"]):
        return float(row["time_end"])
    samples = results.of_patient("samples", patient)
    taken = samples.loc[samples["state"].fillna("").eq(""), "time_actual"].dropna()
    return float(taken.max()) if len(taken) else float("-inf")


def _absent(results: Results, samples: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Visits that most patients in follow-up have and a patient with samples does not."""
    names, known = visit_names(samples), set(samples["patient_id"])
    ends = {str(p): _followed(results, str(p)) for p in known}
    has = set(zip(samples["patient_id"], samples["time_nominal"], strict=True))
    for time, visit in names.items():
        due = sorted(p for p in ends if ends[p] > time)
        own = [p for p in due if (p, time) in has]
        if len(due) > 2 and len(own) > MOST * len(due):
            for patient in sorted(set(due) - set(own)):
                yield {"patient_id": patient, "time": time, "visit": visit, "with": len(own), "of": len(due)}


def _out_of_window(results: Results, context: Context) -> set[str]:
    """Samples outside their window: the visit window of the study, else the days of the report's protocol."""
    study = context.settings.study
    observed = results.table("observations")
    flags = observed["time_flag"].fillna("").astype(str)
    if study.visit_window_h is not None or study.visit_window_share is not None:
        return set(observed.loc[flags.str.contains(OUTSIDE_WINDOW, regex=False), "sample_id"])
    samples = planned(results)
    apart = (samples["time_actual"] - samples["time_nominal"]).abs()
    beyond = apart.notna() & (apart > context.settings.report.protocol.sample_days)
    # Screening samples have no day of their own.
    beyond &= ~((samples["time_nominal"] < 0) & (samples["time_actual"] < 0))
    far = observed.loc[flags.str.contains(FAR, regex=False), "sample_id"]
    return {*samples.loc[beyond, "sample_id"], *far}


def _uses(results: Results, words: Words) -> dict[str, str]:
    """The parameters that the results of a sample made, in words."""
    observed = results.table("observations")
    points = results.rows("nca_points", window=("overall", AUC_WINDOW))
    sample = dict(zip(observed["observation_id"], observed["sample_id"], strict=True))
    uses: dict[str, set[str]] = {}
    for observation, use in zip(points["observation_id"], points["used_in"], strict=True):
        uses.setdefault(str(sample.get(observation, "")), set()).add({"auc": "AUC", "lambda_z": "λz"}[str(use)])
    nca = results.rows("nca", window="overall", parameter=("tmax", "tlast", "t_blq"))
    nca = nca[nca["value"].notna()]
    level = observed[observed["reportable"].fillna(False).astype(bool)]
    names = {"tmax": "Cmax, Tmax", "tlast": "Clast, Tlast", "t_blq": "t_blq"}
    joined = nca.merge(level, on=["patient_id", "assay", "specimen"], suffixes=("", "_observed"))
    for row in joined[(joined["value"] - joined["time_actual"]).abs() < 1e-6].to_dict("records"):
        uses.setdefault(str(row["sample_id"]), set()).add(names[str(row["parameter"])])
    order = ("Cmax, Tmax", "AUC", "Clast, Tlast", "t_blq", "λz")
    return {sample_id: words.join(n for n in order if n in names_of) for sample_id, names_of in uses.items()}


def _neighbours(results: Results) -> dict[str, dict[tuple[str, str], list[float]]]:
    """Actual times of the analysed results of each patient, assay and specimen [d], in order."""
    observed = results.table("observations")
    rows = observed[observed["reportable"].fillna(False).astype(bool) & observed["status"].isin(RESULTS)]
    rows = rows[rows["time_actual"].notna()].sort_values("time_actual")
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for patient, assay, specimen, time in zip(
        rows["patient_id"], rows["assay"], rows["specimen"], rows["time_actual"], strict=True
    ):
        found.setdefault(str(patient), {}).setdefault((str(assay), str(specimen)), []).append(float(time))
    return found


def _bridged(
    neighbours: dict[str, dict[tuple[str, str], list[float]]],
    patient: str,
    at: object,
    words: Words,
    assay: str = "",
    specimen: str = "",
) -> str:
    """What a missing result leaves in the assay with most results: a gap between its neighbours, or an earlier end."""
    own = {k: t for k, t in neighbours.get(patient, {}).items() if not assay or k == (assay, specimen)}
    if not own or missing(at):
        return words.say("parameters of that patient", "该患者的参数")
    times = own[max(own, key=lambda k: (len(own[k]), k))]
    time = float(str(at))
    before, after = [t for t in times if t < time], [t for t in times if t > time]
    if before and after:
        a, b = days(before[-1]).replace("-", MINUS), days(after[0])
        return words.say(
            f"AUC bridges day {a} to {b}; a peak, or the loss, in between would not be seen",
            f"AUC 跨越第 {a} 至 {b} 天；其间的峰或消失不可见",
        )
    if before:
        a = days(before[-1]).replace("-", MINUS)
        return words.say(
            f"nothing known after day {a}: Tlast, persistence, AUC to later ends",
            f"第 {a} 天之后未知：Tlast、持续性、至更晚终点的 AUC",
        )
    return words.say("first phase: C0, Cmax, AUC from the infusion on", "初始阶段：C0、Cmax、自输注起的 AUC")


# ---------------------------------------------------------------------------------------------------------------- runs


def _runs(results: Results, words: Words) -> Iterator[Deviation]:
    """Runs that were refused, with what became of their results."""
    runs, observed = results.table("runs"), results.table("observations")
    refused = runs[~runs["accepted"].fillna(False).astype(bool)]
    became = fates(results)
    for run, rows in refused.groupby("run_id", sort=True):
        why = "; ".join(dict.fromkeys(str(r) for r in rows["reason"] if not missing(r)))
        own = became[observed.loc[became.index, "run_id"] == run]
        replaced, rest = int((own == "replaced").sum()), int((own != "replaced").sum())
        touches = words.say(
            f"{len(own)} results: {replaced} replaced by another run, {rest} without another that is analysed",
            f"{len(own)} 个结果：{replaced} 个由其他批次取代，{rest} 个无其他结果",
        )
        yield Deviation(
            words.say("run refused", "批次被拒"), float("nan"), words.colon(str(run), why) if why else str(run), touches
        )


def _footnotes(results: Results, context: Context, schedule: dict[str, Plan]) -> list[str]:
    words, protocol, study = Words(context.language), context.settings.report.protocol, context.settings.study
    planned_days = schedule_words(schedule, words)
    low, high = protocol.given_pct
    if study.visit_window_h is not None or study.visit_window_share is not None:
        parts = [
            "" if study.visit_window_h is None else f"{study.visit_window_h:g} h",
            ""
            if study.visit_window_share is None
            else words.say(
                f"{percent(100 * study.visit_window_share)} % of the planned time",
                f"计划时间的 {percent(100 * study.visit_window_share)} %",
            ),
        ]
        window = words.say(" or ", " 或 ").join(p for p in parts if p) + words.say(
            " (visit window of the study; the wider holds)", "（研究的访视窗口，取较宽者）"
        )
    else:
        window = words.say(
            f"{protocol.sample_days:g} d (the study has no visit window)",
            f"{protocol.sample_days:g} 天（研究未设访视窗口）",
        )
    notes = [
        words.say(
            f"Listed: an amount given outside {low:g} to {high:g} % of the planned one; an infusion or dose of a "
            f"cytokine not given, or more than {protocol.dose_days:g} d from its day; a sample not taken, or more than "
            f"{window} "
            "from its planned time; a sample taken and without an analysed result; tocilizumab, steroids, subsequent "
            "therapy; refused runs. Samples still pending are no deviation.",
            f"列出：实际量超出计划量 {low:g} 至 {high:g} % 者；未给予或偏离计划日超过 {protocol.dose_days:g} 天的"
            f"输注或细胞因子；未采集，或偏离计划时间超过 {window} 的样本；已采集而无纳入分析结果的样本；"
            "托珠单抗、激素、后续治疗；被拒批次。待检测样本不作偏离。",
        ),
        words.say(
            f"Days elapsed from the start of the first infusion. Planned days: {planned_days}. A visit is due where "
            "more than half of the patients still in follow-up have it.",
            f"时间为首次输注开始后的天数。计划日：{planned_days}。半数以上仍在随访的患者具有的访视视为应有。",
        ),
        words.say(
            "AUC: area under the curve; Clast, Tlast: last quantified level and its time; IL-2: interleukin 2; t_blq: "
            "time to loss; λz: terminal slope.",
            "AUC：曲线下面积；Clast、Tlast：末个可定量水平及其时间；IL-2：白细胞介素 2；t_blq：消失时间；"
            "λz：末端斜率。",
        ),
    ]
    for table, name in (
        ("cytokines", words.say("doses of cytokines", "细胞因子给药")),
        ("events", words.say("co-medication and events", "合并用药与事件")),
    ):
        if not collected(results, context, table):
            notes.append(words.say(f"Not collected in this study: {name}.", f"本研究未收集：{name}。"))
    return notes


TABLE = Table(
    name="deviations",
    id="T-CK-15",
    number="15",
    title={"en": "Protocol deviations that touch the kinetics", "zh": "影响动力学的方案偏离"},
    needs=NEEDS,
    build=build,
)
