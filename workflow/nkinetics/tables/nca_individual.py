"""L-16.2.5.3: parameters of the non-compartmental analysis of every patient."""

from __future__ import annotations

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.tables._nca import OUTSIDE, PARAMETERS, printed, values
from nkinetics.wording import Words, blq_footnote, profile_name, profiles

NEEDS = ("nca", "patients")


def build(results: Results, context: Context) -> TableBody:
    """One row per assay and patient, one column per parameter, the reasons at the end."""
    words, kinds = Words(context.language), profiles(results)
    if not results.size("nca") or not len(kinds):
        return absent(results, context, words.say("No non-compartmental result.", "无非房室分析结果。"), NEEDS)
    rows, patients = [], []
    for kind in kinds.itertuples():
        frames = [
            (p, values(results, p, str(kind.assay), str(kind.specimen)).set_index("patient_id")) for p in PARAMETERS
        ]
        for patient in results.patients.itertuples():
            row = {
                words.say("Assay", "检测方法"): profile_name(
                    context, str(kind.assay), str(kind.specimen), str(kind.level_unit)
                ),
                words.say("Dose level", "剂量水平"): str(patient.dose_level),
                words.say("Patient", "患者"): str(patient.patient_id),
            }
            reasons: dict[str, list[str]] = {}
            for shown, frame in frames:
                mine = frame.loc[patient.patient_id]
                cell = printed(shown, float(mine["value"]))
                marked = shown.strict and cell != NOT_CALCULABLE and OUTSIDE in mine["reason"]
                row[words.pick(shown.title)] = f"{cell} †" if marked else cell
                if mine["reason"]:
                    reasons.setdefault(str(mine["reason"]), []).append(words.pick(shown.title))
            row[words.say("Reasons", "原因")] = "; ".join(
                reason if len(who) == len(PARAMETERS) else words.colon(words.join(who), reason)
                for reason, who in reasons.items()
            )
            rows.append(row)
            patients.append(str(patient.patient_id))
    footnotes = (
        words.say(
            "Levels in the unit of the assay, areas in days times that unit, times in days from the start of the first "
            "infusion. † outside the acceptance limits: shown, and left out of summaries.",
            "水平以检测单位表示，面积为天乘该单位，时间以首次输注开始起计的天数表示。† 超出接受限：列出但不纳入汇总。",
        ),
        blq_footnote(context),
        words.say(
            "AUC: area under the curve; Clast, Tlast: last quantified level and its "
            "time; t_blq: time to loss; λz: terminal slope.",
            "AUC：曲线下面积；Clast、Tlast：末个可定量水平及其时间；t_blq：消失时间；λz：末端斜率。",
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
        row_header=3,
        patients=patients,
    )


TABLE = Table(
    name="nca_individual",
    id="L-16.2.5.3",
    number="3",
    title={"en": "Cellular-kinetic parameters of every patient", "zh": "各患者的细胞动力学参数"},
    needs=NEEDS,
    build=build,
)
