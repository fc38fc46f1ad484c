"""T-CK-22: what the rates of a model owe to a constant that the configuration fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.wording import Words, missing, profile_name, profiles, significant, without_quantified

NEEDS = ("constant_sensitivity", "fits", "patients", "observations")
Rows = Sequence[Mapping[str, Any]]


def build(results: Results, context: Context) -> TableBody:
    """One row per assay, model, constant and patient: the rates at both ends of the range and at the fixed value."""
    words, table = Words(context.language), results.table("constant_sensitivity")
    if not len(table):
        none = words.say(
            "No candidate has a fixed constant that acts and has a range, or models.sensitivity_points is 0.",
            "没有候选模型具有起作用且设有范围的固定常数，或 models.sensitivity_points 为 0。",
        )
        return absent(results, context, none, NEEDS)
    rates = _rates(table)
    rows, patients = [], []
    for (model, constant), about in table.groupby(["model", "constant"], sort=True):
        names = [r for r in rates if r in set(about["parameter"])]
        which = words.join((f"{model}", _of(words, about, constant, _unit(context, str(model), str(constant)))))
        for kind in profiles(results).itertuples():
            reasons = without_quantified(results, context, str(kind.assay), str(kind.specimen))
            here = about[(about["assay"] == kind.assay) & (about["specimen"] == kind.specimen)]
            # A frame for each of thousands of fits would cost more than all else of the table.
            rows_of: dict[str, list[Mapping[str, Any]]] = {}
            for row in here.to_dict("records"):
                rows_of.setdefault(str(row["patient_id"]), []).append(row)
            for patient in results.patients.itertuples():
                own = rows_of.get(str(patient.patient_id), [])
                said = reasons.get(str(patient.patient_id), words.say("not fitted", "未拟合"))
                rows.append(
                    {
                        words.say("Model, constant", "模型，常数"): which,
                        words.say("Assay", "检测方法"): profile_name(context, str(kind.assay), str(kind.specimen)),
                        words.say("Patient", "患者"): str(patient.patient_id),
                        **{_head(words, rate): _across(own, rate) if rate in names else "–" for rate in rates},
                        words.say("ΔAICc at the ends", "两端 ΔAICc"): _at_ends(own),
                        words.say("Lowest AICc at (ΔAICc)", "AICc 最低处（ΔAICc）"): _best(own),
                        words.say("Remarks", "备注"): _remarks(own) if len(own) else said,
                    }
                )
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


def _rates(table: pd.DataFrame) -> list[str]:
    """Loss and growth rates, in the order of the models' parameters."""
    present = set(table.loc[table["unit"] == "1/d", "parameter"])
    known = [p for m in sorted(set(table["model"])) if m in discover("models") for p in discover("models")[m].names]
    return [p for p in dict.fromkeys([*known, *sorted(present)]) if p in present]


def _unit(context: Context, model: str, constant: str) -> str:
    known = discover("models").get(model)
    fixed = known.fixed(context.settings.models.constants(model)) if known else {}
    return fixed[constant][1] if constant in fixed else ""


def _of(words: Words, about: pd.DataFrame, constant: str, unit: str) -> str:
    """As ``width 0.5 to 3 d (fixed at 1.5)``."""
    low, high = about["value"].min(), about["value"].max()
    at = about.loc[about["fixed"].fillna(False).astype(bool), "value"]
    fixed = f"{at.iloc[0]:g}" if len(at) else "?"
    return words.say(
        f"{constant} {low:g} to {high:g} {unit} (fixed at {fixed})",
        f"{constant} {low:g} 至 {high:g} {unit}（固定为 {fixed}）",
    ).replace("  ", " ")


def _head(words: Words, rate: str) -> str:
    return words.say(f"{rate} (1/d): low | fixed | high", f"{rate} (1/d)：低 | 固定 | 高")


def _true(value: object) -> bool:
    return not missing(value) and bool(value)


def _three(own: Rows) -> list[Mapping[str, Any] | None]:
    """Rows at the lowest, the fixed and the highest value; None where the fit did not converge or is absent."""
    fixed = [row for row in own if _true(row["fixed"])]
    ordered = sorted(own, key=lambda row: float(row["value"]))
    picked = [rows[i] if rows else None for rows, i in ((ordered, 0), (fixed, 0), (ordered, -1))]
    return [row if row is not None and _true(row["converged"]) else None for row in picked]


def _across(own: Rows, rate: str) -> str:
    rows = _three([row for row in own if row["parameter"] == rate])
    return " | ".join(
        NOT_CALCULABLE if row is None or missing(row["estimate"]) else significant(float(row["estimate"]))
        for row in rows
    )


def _at_ends(own: Rows) -> str:
    low, _, high = _three([row for row in own if row["parameter"] == own[0]["parameter"]])
    return " | ".join(
        NOT_CALCULABLE if row is None or missing(row["delta_aicc"]) else _signed(float(row["delta_aicc"]))
        for row in (low, high)
    )


def _signed(value: float) -> str:
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}"


def _best(own: Rows) -> str:
    """The value of the constant under which the profile is most likely."""
    done = [row for row in own if _true(row["converged"]) and not missing(row["delta_aicc"])]
    if not done:
        return NOT_CALCULABLE
    row = min(done, key=lambda row: (float(row["delta_aicc"]), float(row["value"])))
    return f"{row['value']:g} ({_signed(float(row['delta_aicc']))})"


def _remarks(own: Rows) -> str:
    """Why there is no fit, and of which values."""
    lost = {row["value"]: str(row["reason"] or "") for row in reversed(own) if not _true(row["converged"])}
    if not lost:
        return ""
    values = [value for value in dict.fromkeys(row["value"] for row in own) if value in lost]
    at = "" if len(lost) == len({row["value"] for row in own}) else ", ".join(f"{v:g}" for v in values) + ": "
    return at + "; ".join(dict.fromkeys(lost[v] for v in values if lost[v]))


def _footnotes(context: Context) -> tuple[str, ...]:
    words = Words(context.language)
    return (
        words.say(
            "Each model fitted again with the constant at other values of its configured range; low and high: the ends "
            "of the range. ΔAICc: AICc minus that under the fixed value, negative where another value describes the "
            "profile better; differences within about 2 say nothing. The constant is not counted as a parameter. A "
            "rate that moves across the range is known only as well as the constant is.",
            "在配置范围内以该常数的其他取值重新拟合各模型；低与高：范围两端。ΔAICc：AICc 减去固定值下的 AICc，"
            "为负表示其他取值更好地描述该检测谱；约 2 以内的差异无意义。常数不计为参数。"
            "随范围变化的速率，其可靠程度不超过对该常数的了解。",
        ),
        words.say("AICc: small-sample Akaike information criterion.", "AICc：小样本 Akaike 信息准则。"),
    )


TABLE = Table(
    name="constant_sensitivity",
    id="T-CK-22",
    number="22",
    title={
        "en": "Sensitivity of model rates to constants that are fixed",
        "zh": "模型速率对固定常数的敏感性",
    },
    needs=NEEDS,
    build=build,
)
