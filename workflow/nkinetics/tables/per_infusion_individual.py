"""L-16.2.5.4: parameters of each infusion interval of every patient."""

from __future__ import annotations

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables._infusions import NEVER_FOR_FIRST, NEVER_FOR_LAST, SHOWN, numbers, values
from nkinetics.tables._nca import printed
from nkinetics.wording import Words, amount, blq_footnote, profile_name, profiles

NEEDS = ("nca", "observations", "patients", "infusions")


def build(results: Results, context: Context) -> TableBody:
    """One row per assay, patient and infusion, also of a patient without any."""
    words, kinds, infusions = Words(context.language), profiles(results), numbers(results)
    if not len(kinds) or not infusions:
        return absent(results, context, words.say("No infusion interval.", "无输注间期。"), NEEDS)
    given = results.table("infusions")
    given = given.assign(amount=given["given"].fillna(given["planned"])).set_index(["patient_id", "infusion"])["amount"]
    rows, patients = [], []
    for kind in kinds.itertuples():
        frames = {k: by_patient(values(results, str(kind.assay), str(kind.specimen), k)) for k in infusions}
        for patient in results.patients.itertuples():
            for number, rows_of in frames.items():
                if number > infusions[0] and (patient.patient_id, number) not in given.index:
                    continue
                own = rows_of(str(patient.patient_id)).set_index("parameter")
                dose = given.get((patient.patient_id, number))
                row = {
                    words.say("Assay", "检测方法"): profile_name(
                        context, str(kind.assay), str(kind.specimen), str(kind.level_unit)
                    ),
                    words.say("Dose level", "剂量水平"): str(patient.dose_level),
                    words.say("Patient", "患者"): str(patient.patient_id),
                    words.say("Infusion", "输注"): str(number),
                    words.say("Amount given", "实际给药量"): "–" if dose is None else amount(float(dose)),
                }
                reasons: dict[str, list[str]] = {}
                for shown in SHOWN:
                    value, reason = float(own.loc[shown.parameter, "value"]), str(own.loc[shown.parameter, "reason"])
                    never = reason.startswith((NEVER_FOR_LAST, NEVER_FOR_FIRST))
                    row[words.pick(shown.title)] = "–" if never else printed(shown, value)
                    if reason and not never:
                        reasons.setdefault(reason, []).append(words.pick(shown.title))
                row[words.say("Reasons", "原因")] = "; ".join(
                    reason if len(who) > 4 else words.colon(words.join(who), reason) for reason, who in reasons.items()
                )
                rows.append(row)
                patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=(
            words.say(
                "Levels in the unit of the assay, areas in days times that unit, Tmax in days from the infusion. A "
                "dash: the parameter has no meaning for the first or for the last infusion. AUC: area under the curve.",
                "水平以检测单位表示，面积为天乘该单位，Tmax 为自该次输注起的天数。短横线：对首次或末次输注无意义。"
                "AUC：曲线下面积。",
            ),
            blq_footnote(context),
        ),
        subtitle=analysis_set(results, context),
        row_header=4,
        patients=patients,
    )


TABLE = Table(
    name="per_infusion_individual",
    id="L-16.2.5.4",
    number="4",
    title={"en": "Parameters of each infusion interval of every patient", "zh": "各患者的输注间期参数"},
    needs=NEEDS,
    build=build,
)
