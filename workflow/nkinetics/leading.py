"""Which structure the report leads with, and which population fit its tables and figures show.

Structure is chosen over all patients: the lowest AICc of one patient is unreliable with so few samples. Where the
population stage compared candidates, the report of each patient leads with its choice; else with the configured model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from nkinetics.plugins import Parameter, discover
from nkinetics.results import Context, Results
from nkinetics.store import sha256_of
from nkinetics.wording import Words, everyone, profile_name

METHOD_NAMES = {"saem": "SAEM", "bayes": "Bayes"}
DERIVED_NAMES = {
    "half_life_delta": {"en": "half-life", "zh": "半衰期"},
    "half_life_alpha": {"en": "first half-life", "zh": "初始相半衰期"},
    "half_life_beta": {"en": "second half-life", "zh": "末端相半衰期"},
    "doubling_time": {"en": "doubling time", "zh": "倍增时间"},
}


@dataclass(frozen=True)
class Shown:
    """The population fit that the report shows: assay (or assays that share a curve), specimen, model and method."""

    assay: str
    specimen: str
    model: str
    method: str

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows of a population table that belong to this fit."""
        return frame[
            (frame["assay"] == self.assay)
            & (frame["specimen"] == self.specimen)
            & (frame["model"] == self.model)
            & (frame["method"] == self.method)
        ]


def _true(column: pd.Series) -> pd.Series:
    return column.fillna(False).astype(bool)


def candidates(results: Results) -> list[str]:
    """Models that the population stage compared by its primary method, in its order."""
    rows = results.table("population_comparison")
    return list(dict.fromkeys(rows.loc[_true(rows["primary"]), "model"]))


def leading_model(results: Results, context: Context) -> str:
    """The model that the report leads with: the choice of the population, else the configured default.

    A choice counts where at least two candidates were compared and patients were fitted with the chosen one.
    """
    return results.once("chosen", _chosen) or context.settings.models.default


def _compared(results: Results) -> str:
    """The model that the population chose among several; empty where it chose none."""
    rows = results.table("population_comparison")
    chosen = rows.loc[_true(rows["chosen"]) & _true(rows["primary"]), "model"]
    return str(chosen.iloc[0]) if len(candidates(results)) > 1 and len(chosen) else ""


def _chosen(results: Results) -> str:
    """The same, where patients were fitted with it."""
    chosen = results.once("compared", _compared)
    return chosen if chosen in set(results.table("fits")["model"]) else ""


def by_population(results: Results, context: Context) -> bool:
    """Whether the population chose the leading model."""
    chosen = results.once("compared", _compared)
    return chosen != "" and chosen == leading_model(results, context)


def led(results: Results, context: Context) -> Context:
    """The context with the leading model in place of the configured one."""
    models = context.settings.models.model_copy(update={"default": leading_model(results, context)})
    return Context(context.settings.model_copy(update={"models": models}), context.version)


def leading_sentence(results: Results, context: Context) -> str:
    """Why the report leads with its model, as a sentence."""
    words = Words(context.language)
    if not by_population(results, context):
        return words.say(
            "The report leads with the configured model.",
            "报告采用配置所指定的模型。",
        )
    rows = results.table("population_comparison")
    row = rows[_true(rows["chosen"]) & _true(rows["primary"])].iloc[0]
    others = words.join(m for m in candidates(results) if m != row["model"])
    where = profile_name(context, str(row["assay"]), str(row["specimen"]))
    method = METHOD_NAMES.get(str(row["method"]), str(row["method"]))
    return words.say(
        f"Chosen at population level: {row['model']}, against {others} ({method}, {where}); see the table of "
        "structures.",
        f"群体水平选择：{row['model']}，对比 {others}（{method}，{where}）；见结构比较表。",
    )


def preference(results: Results, context: Context, chosen_by_patient: str) -> str:
    """What to say of a patient whose own AICc prefers another model than the population; empty where it does not."""
    lead, words = leading_model(results, context), Words(context.language)
    if not by_population(results, context) or chosen_by_patient in ("", lead):
        return ""
    return words.say(
        f"chosen at population level: {lead}; this patient's AICc prefers {chosen_by_patient}",
        f"群体水平选择 {lead}；该患者的 AICc 倾向 {chosen_by_patient}",
    )


# ------------------------------------------------------------------------------------------------ the population fit


def shown(results: Results) -> Shown | None:
    """The fit by the primary method of the chosen model, of the first one where none was chosen; None without any."""
    rows = results.table("population")
    rows = rows[_true(rows["primary"])]
    if not len(rows):
        return None
    compared = results.table("population_comparison")
    chosen = compared.loc[_true(compared["chosen"]) & _true(compared["primary"]), "model"]
    if len(chosen) and (rows["model"] == chosen.iloc[0]).any():
        rows = rows[rows["model"] == chosen.iloc[0]]
    first = rows.iloc[0]
    return Shown(str(first["assay"]), str(first["specimen"]), str(first["model"]), str(first["method"]))


def assays_of(fit: Shown) -> list[str]:
    """Assays that share the curve of a fit."""
    return fit.assay.split("+")


def subtitle_of(results: Results, context: Context, fit: Shown) -> str:
    """Analysis set, assay, specimen, model and method of a fit."""
    words = Words(context.language)
    name = words.join([*(words.assay(a) for a in assays_of(fit)), words.specimen(fit.specimen)])
    known = discover("models").get(fit.model)
    title = words.pick(known.title) if known else fit.model
    method = METHOD_NAMES.get(fit.method, fit.method)
    said = [everyone(results, words), name, f"{title}, {method}"]
    if older_data(results, context):
        said.append(words.say("estimated from earlier data", "估计自较早的数据"))
    return " · ".join(said)


def _observations(results: Results) -> str:
    path = results.path("observations")
    return sha256_of(path) if path.exists() else ""


def older_data(results: Results, context: Context) -> str:
    """Says that the population was estimated from other data than the report shows; empty where it was not.

    `population.refit: false` keeps estimates while data arrive.
    """
    path = results.folder / "population_fit.json"
    of = json.loads(path.read_text(encoding="utf-8")).get("data") if path.exists() else None
    now = results.once("sha256 of observations", _observations)
    if not of or not now or of["observations"] == now:
        return ""
    words = Words(context.language)

    def cut(date: str | None) -> str:
        return words.say(f"data cut {date}, ", f"数据截止 {date}，") if date else ""

    then, today = f"{cut(of['data_cut'])}observations.csv {of['observations'][:8]}", context.settings.study.data_cut
    return words.say(
        f"The population estimates come from earlier data ({then}) than the rest of this report "
        f"({cut(today)}observations.csv {now[:8]}): population.refit is off. "
        "`snakemake --forcerun population` estimates anew.",
        f"群体估计来自较早的数据（{then}），而本报告其余部分的数据为 {cut(today)}observations.csv "
        f"{now[:8]}：population.refit 已关闭。`snakemake --forcerun population` 可重新估计。",
    )


def none_fitted(results: Results, context: Context, fit: Shown | None) -> str:
    """Why nothing can be shown of the population; empty where a fit exists."""
    words = Words(context.language)
    if fit is None:
        return words.say("No population model was estimated.", "未估计任何群体模型。")
    rows = fit.of(results.table("population"))
    if rows["estimate"].notna().any():
        return ""
    why = next((str(r) for r in rows["reason"] if r), "")
    text = words.say("The population model could not be estimated", "群体模型未能估计")
    return words.colon(text, why) if why else text + words.say(".", "。")


def parameter_of(model: str, name: str) -> Parameter | None:
    """The parameter of a model, None where it has none of this name."""
    known = discover("models").get(model)
    return next((p for p in known.parameters if p.name == name), None) if known else None


def parameter_name(words: Words, kind: str, parameter: str) -> str:
    """Short name of a population parameter."""
    if kind == "omega" and parameter.startswith("corr_"):
        return words.say(f"correlation {parameter[5:].replace('_', ', ')}", f"相关 {parameter[5:].replace('_', ', ')}")
    if kind == "omega":
        return f"ω {parameter}"
    if kind == "derived":
        return words.pick(DERIVED_NAMES[parameter]) if parameter in DERIVED_NAMES else parameter
    return parameter


def ordered(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Population parameters in order: typical values as the model has them, covariates, omegas, sigma, derived."""
    known = discover("models").get(model)
    place = {name: i for i, name in enumerate(known.names if known else ())}
    kind = rows["kind"].map({k: i for i, k in enumerate(("typical", "covariate", "omega", "sigma", "derived"))})
    own = rows["parameter"].map(place).fillna(len(place))
    sorted_rows = rows.assign(_kind=kind, _own=own).sort_values(["_kind", "_own", "parameter"], kind="stable")
    return sorted_rows.drop(columns=["_kind", "_own"]).reset_index(drop=True)
