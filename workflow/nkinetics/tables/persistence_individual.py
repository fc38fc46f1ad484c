"""L-16.2.5.7: persistence of every patient, at the LLOQ and at the LOD side by side, with its censoring."""

from __future__ import annotations

import pandas as pd

from nkinetics.plugins import Table, TableBody
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables._format import absent, analysis_set, body
from nkinetics.tables.persistence import ends_of
from nkinetics.wording import Words, days, missing, profile_name, profiles

NEEDS = ("persistence_patients", "patients", "observations")
NONE = "–"


def build(results: Results, context: Context) -> TableBody:
    """One row per assay and patient."""
    words, losses = Words(context.language), results.table("persistence_patients")
    if not len(losses):
        return absent(results, context, words.say("No persistence result.", "无持续性结果。"), NEEDS)
    rows, patients = [], []
    for kind in profiles(results).itertuples():
        own = losses[(losses["assay"] == kind.assay) & (losses["specimen"] == kind.specimen)]
        rows_of = by_patient(own)
        for patient in results.patients.itertuples():
            mine = rows_of(str(patient.patient_id)).set_index("limit")
            row = {
                words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                words.say("Dose level", "剂量水平"): str(patient.dose_level),
                words.say("Patient", "患者"): str(patient.patient_id),
            }
            reasons = {}
            for limit in ("lloq", "lod"):
                found = mine.loc[limit] if limit in mine.index else None
                last, lost = words.say("last above", "末次高于"), words.say("loss", "消失")
                row[f"{limit.upper()}: {last}"], row[f"{limit.upper()}: {lost}"] = _cells(words, found)
                reasons[limit.upper()] = words.say("no row", "无记录") if found is None else str(found["reason"])
            said = set(reasons.values())
            row[words.say("Remarks", "备注")] = (
                said.pop() if len(said) == 1 else "; ".join(words.colon(k, r) for k, r in reasons.items() if r)
            )
            rows.append(row)
            patients.append(str(patient.patient_id))
    return body(
        results,
        context,
        rows,
        list(rows[0]) if rows else [],
        sources=NEEDS,
        footnotes=_footnotes(context),
        subtitle=analysis_set(results, context),
        row_header=3,
        patients=patients,
    )


def _cells(words: Words, row: pd.Series | None) -> tuple[str, str]:
    """Last time above the limit, and the loss as the interval in which it lies."""
    if row is None or row["censoring"] == "none":
        return "NC", "NC"
    last = NONE if missing(row["last_present"]) else days(row["last_present"])
    if row["censoring"] == "right":
        at, why = days(row["time"]), ends_of(words)[str(row["censored_by"])]
        return last, words.say(f"> {at} (censored: {why})", f"> {at}（删失：{why}）")
    lost = days(row["lost"])
    return last, f"≤ {lost}" if row["censoring"] == "left" else words.say(f"{last} to {lost}", f"{last} 至 {lost}")


def _footnotes(context: Context) -> tuple[str, ...]:
    words, k = Words(context.language), context.settings.nca.consecutive_blq
    return (
        words.say(
            "Days from the start of the first infusion. Last above: last sample above the limit (Tlast at the LLOQ). "
            "Loss: after the first and up to the second time, the second being "
            + ("the first sample" if k == 1 else "the first of two consecutive samples")
            + " below the limit after the last above it (t_blq at the LLOQ). ≤: never above the limit, lost by that "
            "sample. >: not lost as far as was seen, with why no more was seen; death and withdrawal censor at their "
            "date, the others at the last sample above the limit.",
            "时间为自首次输注开始的天数。末次高于：末个高于界限的样本（LLOQ 即 Tlast）。"
            "消失：介于两个时间之间，后者为末次高于之后"
            + ("首个" if k == 1 else "连续两个中首个")
            + "低于界限的样本（LLOQ 即 t_blq）。≤：从未高于界限，于该样本前已消失。"
            ">：至所见为止未消失，并注明原因；死亡与退出于其日期删失，其余于末个高于界限的样本。",
        ),
        words.say("LLOQ: lower limit of quantification; LOD: limit of detection.", "LLOQ：定量下限；LOD：检测限。"),
    )


TABLE = Table(
    name="persistence_individual",
    id="L-16.2.5.7",
    number="7",
    title={"en": "Persistence of every patient", "zh": "各患者的持续性"},
    needs=NEEDS,
    build=build,
)
