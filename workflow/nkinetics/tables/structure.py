"""T-CK-24: candidate structures compared over all patients, which one is chosen, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nkinetics.leading import METHOD_NAMES, candidates, leading_sentence
from nkinetics.plugins import Table, TableBody, discover
from nkinetics.results import Context, Results
from nkinetics.tables._format import NOT_CALCULABLE, absent, analysis_set, body
from nkinetics.wording import Words, missing

NEEDS = ("population_comparison", "fits", "patients")
NONE = "–"


def build(results: Results, context: Context) -> TableBody:
    """One row per method and candidate, the primary method first."""
    words, table = Words(context.language), results.table("population_comparison")
    if not len(table):
        return absent(results, context, words.say("No population model was estimated.", "未估计任何群体模型。"), NEEDS)
    primary = table["primary"].fillna(False).astype(bool)
    table = table.assign(_later=~primary).sort_values(["_later", "method", "model"], kind="stable")
    rows = [_row(words, row) for row in table.to_dict("records")]
    return body(
        results,
        context,
        rows,
        list(rows[0]),
        sources=NEEDS,
        footnotes=_footnotes(results, context, words),
        subtitle=analysis_set(results, context),
        row_header=2,
    )


def _row(words: Words, row: Mapping[str, Any]) -> dict[str, str]:
    known = discover("models").get(str(row["model"]))
    method = METHOD_NAMES.get(str(row["method"]), str(row["method"]))
    name = words.join([*(words.assay(a) for a in str(row["assay"]).split("+")), words.specimen(str(row["specimen"]))])
    primary = not missing(row["primary"]) and bool(row["primary"])
    chosen = not missing(row["chosen"]) and bool(row["chosen"])
    return {
        words.say("Method", "方法"): f"{method}, {name}" + (words.say(" (primary)", "（主要）") if primary else ""),
        words.say("Model", "模型"): str(row["model"]) + (f": {words.pick(known.title)}" if known else ""),
        words.say("Patients / rows", "患者 / 行数"): f"{_whole(row['n_patients'])} / {_whole(row['n_obs'])}",
        words.say("Parameters", "参数个数"): _whole(row["n_parameters"]),
        words.say("ln L (Monte-Carlo error)", "ln L（蒙特卡洛误差）"): _with_error(
            row["log_likelihood"], row["log_likelihood_error"]
        ),
        "BIC": NOT_CALCULABLE if missing(row["bic"]) else f"{row['bic']:.1f}",
        "ΔBIC": NOT_CALCULABLE if missing(row["delta_bic"]) else f"{row['delta_bic']:.1f}",
        words.say("Δelpd (SE)", "Δelpd（SE）"): NONE
        if row["method"] != "bayes"
        else _with_error(row["delta_elpd"], row["delta_elpd_error"]),
        words.say("Doubtful rows", "存疑行数"): NONE if missing(row["doubtful_rows"]) else _whole(row["doubtful_rows"]),
        words.say("To be trusted", "可信"): words.say("yes", "是")
        if not missing(row["converged"]) and bool(row["converged"])
        else words.say("no", "否"),
        words.say("Chosen", "所选"): words.say("chosen", "所选") if chosen else NONE,
        words.say("Why, remarks", "理由与备注"): str(row["reason"]),
    }


def _whole(value: Any) -> str:
    return NOT_CALCULABLE if missing(value) else str(int(value))


def _with_error(value: Any, error: Any) -> str:
    if missing(value):
        return NOT_CALCULABLE
    return f"{value:.2f}" + ("" if missing(error) else f" ({error:.2f})")


def _footnotes(results: Results, context: Context, words: Words) -> tuple[str, ...]:
    notes = [
        leading_sentence(results, context)
        + (
            ""
            if len(candidates(results)) > 1
            else words.say(
                " One model was estimated: nothing was compared. population.compare estimates every candidate in this "
                "run; the target population_full does so beside it.",
                "仅估计一个模型，未作比较。population.compare 在本次运行中估计全部候选模型；"
                "目标 population_full 则另行估计。",
            )
        ),
        words.say(
            "ln L: log-likelihood of the rows with the patients integrated out, by importance sampling at the "
            "estimates; under Bayes, at the posterior medians. BIC counts patients. Δelpd: expected ln predictive "
            "density of rows left out (PSIS-LOO), against the best; SE of that difference. Doubtful rows: rows whose "
            "leave-one-out estimate is not to be trusted (Pareto k above 0.7).",
            "ln L：对患者积分后的对数似然，于估计值处以重要性抽样计算；Bayes 则于后验中位数处。BIC 以患者数计。"
            "Δelpd：留一行的期望 ln 预测密度（PSIS-LOO）与最佳者之差及其 SE。"
            "存疑行数：留一估计不可信的行数（Pareto k 大于 0.7）。",
        ),
        words.say(
            "Bayes chooses by Δelpd, SAEM by BIC. Candidates that cannot be told apart (Δelpd within 2 or within two "
            "standard errors; BIC within 2 and twice its Monte-Carlo error) give way to the one with the fewest "
            "parameters. The choice of the primary method counts.",
            "Bayes 按 Δelpd、SAEM 按 BIC 选择。无法区分者（Δelpd 在 2 或两倍 SE 之内；BIC 在 2 加两倍蒙特卡洛误差之内）"
            "取参数最少者。以主要方法的选择为准。",
        ),
    ]
    return tuple(notes)


TABLE = Table(
    name="structure",
    id="T-CK-24",
    number="24",
    title={"en": "Structures compared at population level", "zh": "群体水平的结构比较"},
    needs=NEEDS,
    build=build,
)
