"""What became of every result and of the samples of a refused run: counted and worded once.

A result is one assay of one sample on one run; a sample assayed twice has two results. Results are what is analysed or
not; samples are what the patient gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from nkinetics.results import Results, rows_by
from nkinetics.wording import Words

FATES = ("replaced", "pending", "failed", "by_rule")
"""What became of a result that is not analysed, in the order of display."""
NAMED_UP_TO = 10
"""More samples than these are counted and not named in a cell."""
KEY = ["patient_id", "assay", "specimen", "sample_id"]


def of_samples(results: Results) -> pd.DataFrame:
    """Observations without the rows that stand for patients who have no sample: one row per result."""
    return results.once("results of samples", _of_samples)


def _of_samples(results: Results) -> pd.DataFrame:
    observed = results.table("observations")
    return observed[~((observed["status"] == "not_done") & (observed["sample_id"] == ""))]


def fates(results: Results) -> pd.Series:
    """What became of every result, by the index of the observations.

    Returns
    -------
    Series of str
        ``analysed``; ``replaced`` by another result of the same sample and assay, which is analysed; ``pending`` or not
        done; ``failed`` (and no other result is analysed); ``by_rule`` (measured, and left out by a rule of the study).
        A patient without any sample has no result: the row that stands for him is not here.
    """
    return results.once("fates of results", _fates)


def _fates(results: Results) -> pd.Series:
    observed = of_samples(results)
    analysed = observed["reportable"].fillna(False).astype(bool)
    same = pd.MultiIndex.from_frame(observed[KEY])
    replaced = same.isin(same[analysed.to_numpy()]) & (observed["sample_id"] != "")
    found = pd.Series("by_rule", index=observed.index, dtype="str")
    found = found.mask(observed["status"] == "failed", "failed").mask(observed["status"] == "not_done", "pending")
    return found.mask(replaced, "replaced").mask(analysed, "analysed")


def unseen_after_tlast(results: Results, assay: str, specimen: str) -> dict[str, list[str]]:
    """Samples whose result is not analysed, taken after Tlast and before the next analysed result, by patient.

    Tlast, and the time of loss, might lie later with them.
    """
    observed = of_samples(results).assign(_fate=fates(results))
    observed = observed[(observed["assay"] == assay) & (observed["specimen"] == specimen)]
    last = results.rows("nca", assay=assay, specimen=specimen, window="overall", parameter="tlast")
    last = last[last["value"].notna()].set_index("patient_id")["value"]
    found: dict[str, list[str]] = {}
    for patient, rows in observed[observed["patient_id"].isin(last.index)].groupby("patient_id", sort=True):
        later = rows[rows["time_actual"] > last[patient]].sort_values(["time_actual", "sample_id"])
        next_seen = later.loc[later["_fate"] == "analysed", "time_actual"].min()
        # What a rule left out at the end of the analysis (a data cut, a subsequent therapy) ends it; that is no gap.
        gap = (later["_fate"] == "by_rule") & (later["time_actual"] < next_seen)
        unseen = later[gap | ((later["_fate"] == "failed") & ~(later["time_actual"] >= next_seen))]
        if len(unseen):
            found[str(patient)] = list(dict.fromkeys(unseen["sample_id"]))
    return found


@dataclass(frozen=True)
class Counts:
    """Results and samples of a study.

    Parameters
    ----------
    results, results_out : int
        All results, and those not analysed.
    samples, samples_out : int
        Samples that have a result, and those of which one is not analysed.
    without : int
        Samples, in each assay, of which no result is analysed.
    became : str
        What became of the results that are not analysed, in words.
    """

    results: int
    results_out: int
    samples: int
    samples_out: int
    without: int
    became: str


def counts(results: Results, words: Words) -> Counts:
    """How many results and samples there are, how many are not analysed, and what became of those."""
    fate, observed = fates(results), of_samples(results)
    n, out = fate.value_counts(), fate != "analysed"
    names = {
        "replaced": words.say("replaced by another result that is analysed", "已由纳入分析的另一结果取代"),
        "pending": words.say("not done or pending", "未检测或待检测"),
        "failed": words.say("failed with no other result analysed", "失败且无其他结果纳入分析"),
        "by_rule": words.say("measured, left out by a rule", "已测得，按规则排除"),
    }
    sample = observed[["patient_id", "sample_id"]]
    whole = observed.loc[fate.isin(["pending", "failed", "by_rule"]), KEY]
    return Counts(
        len(fate),
        int(out.sum()),
        len(sample.drop_duplicates()),
        len(sample[out].drop_duplicates()),
        len(whole.drop_duplicates()),
        words.join(f"{n[f]} {names[f]}" for f in FATES if f in n),
    )


def _by_run(results: Results) -> tuple[Callable[..., pd.DataFrame], Callable[..., pd.DataFrame]]:
    """Results by assay and run; the run on which a sample was analysed, by assay. A study has hundreds of runs."""
    observed = of_samples(results)
    observed = observed[observed["sample_id"] != ""]
    analysed = observed[observed["reportable"].fillna(False).astype(bool)].drop_duplicates(KEY)
    return rows_by(observed, "assay", "run_id"), rows_by(analysed[[*KEY, "run_id"]], "assay")


def fate_of_run(results: Results, words: Words, run: str, assay: str) -> str:
    """What became of the samples of a refused run: assayed again on which run, or without a result.

    Returns
    -------
    str
        As ``43 samples: 40 assayed again on run Q04 and analysed; 3 without an analysed result (005-D21 ...)``; empty
        for a run without a sample.
    """
    of_run, analysed_of = results.once("results by run", _by_run)
    own = of_run(assay, run).drop_duplicates(KEY)
    if not len(own):
        return ""
    other = own[KEY].merge(analysed_of(assay), on=KEY, how="left")
    again = other["run_id"].notna()
    parts = []
    for name, rows in other[again].groupby("run_id", sort=True):
        n = len(rows)
        parts.append(
            words.say(f"{n} assayed again on run {name} and analysed", f"{n} 份已在批次 {name} 重测并纳入分析")
            if name and name != run
            else words.say(f"{n} analysed", f"{n} 份纳入分析")
        )
    none = list(other.loc[~again, "sample_id"])
    if none:
        named = words.say(f" ({words.join(none)})", f"（{words.join(none)}）") if len(none) <= NAMED_UP_TO else ""
        parts.append(words.say(f"{len(none)} without an analysed result{named}", f"{len(none)} 份无可分析结果{named}"))
    told = words.say("; ", "；").join(parts)
    n = len(own)
    return words.colon(words.say(f"{n} sample{'s' * (n > 1)}", f"{n} 份样本"), told)
