"""Non-compartmental analysis: parameters of every patient, assay, specimen and window, each with its reason.

`profile` analyses one profile, `analyse` and `analyse_with_points` a whole study, `sparse_auc` and `sparse_table` mean
curves of patients who have no whole profile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nkinetics.columns import NCA, NCA_POINTS
from nkinetics.errors import InputError, Problem
from nkinetics.nca.curves import Curves
from nkinetics.nca.parameters import BY_NAME, PARAMETERS, UNITS, Ints, Parameter, Values
from nkinetics.nca.profiles import (
    ABOVE,
    KEY,
    NAMED,
    ONE_PROFILE,
    PATIENTS,
    Batch,
    Profiles,
    batches,
    kinds_of,
    one_profile,
    patients_at_a_time,
    profiles,
    ragged,
    window_name,
)
from nkinetics.nca.reasons import Sentence, Vocabulary, Why, numbered, texts
from nkinetics.nca.sparse import sparse_auc, sparse_table
from nkinetics.settings import Blq, LambdaZ, Nca, section
from nkinetics.store import empty

__all__ = [
    "BY_NAME",
    "PARAMETERS",
    "Parameter",
    "analyse",
    "analyse_with_points",
    "evaluate",
    "in_blocks",
    "points",
    "profile",
    "sparse_auc",
    "sparse_table",
]

_SORTED = tuple(sorted(PARAMETERS, key=lambda p: p.name))


def analyse(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Every parameter of every patient, assay, specimen and window, in long form.

    Parameters
    ----------
    observations : DataFrame
        As `nkinetics.columns.OBSERVATIONS`; of a user's own table patient_id, time_actual [d], level, status and lloq
        are enough. Only reportable rows are analysed.
    infusions : DataFrame, optional
        As `nkinetics.columns.INFUSIONS`, ``time`` filled [d]. Without it, or for a patient without any, one infusion
        at 0. An infusion with nothing given is none.
    settings : Nca, optional
        Choices of the analysis.
    blq : Blq, optional
        Rules for levels below their LLOQ by position.
    patients : DataFrame, optional
        As `nkinetics.columns.PATIENTS`: patients who stand in the result even where observations know none of their
        samples. ``status_end`` words the reason of a persistence that is not over.

    Returns
    -------
    DataFrame
        As `nkinetics.columns.NCA`, sorted by its key. `value` is empty only together with a reason; a reason beside a
        value says what to mind. Times of an infusion's window count from that infusion, all others from the first.

    Raises
    ------
    InputError
        For a quantified row without a level, two units in one profile, or two rows at one time.

    Examples
    --------
    >>> own = pd.DataFrame({"patient_id": "01", "time_actual": [0.0, 1, 2, 4], "level": [np.nan, 8, 4, 1],
    ...     "status": ["blq", "quantified", "quantified", "quantified"], "lloq": 0.5})
    >>> table = analyse(own).set_index(["window", "parameter"])
    >>> float(table.loc[("overall", "auc_last"), "value"].round(4)), table.loc[("overall", "auc_last"), "unit"]
    (14.0989, 'd*copies/ug')
    """
    return analyse_with_points(observations, infusions, settings, blq, patients)[0]


def points(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Samples that made the areas and terminal fits, as `nkinetics.columns.NCA_POINTS`; see `analyse`."""
    return analyse_with_points(observations, infusions, settings, blq, patients)[1]


def analyse_with_points(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of `analyse` and `points` from one computation."""
    settings = settings or Nca()
    blq = blq or Blq()
    whole = profiles(observations, infusions, patients, settings)
    if not len(whole.table):
        return empty(NCA), empty(NCA_POINTS)
    ends = _follow_up_ends(whole, patients)
    reasons = Vocabulary()
    names = _names(observations)
    numbers, used = [], []
    for batch in batches(whole, settings):
        curves = Curves(batch, settings, blq)
        numbers.append(_numbers(whole, curves, ends, reasons))
        used.append(_used(whole, curves, names))
    return _long(whole, numbers, reasons), pd.concat(used, ignore_index=True)


def in_blocks(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The two tables of `analyse_with_points` in pieces, in order, for studies whose tables do not fit into memory.

    Yields
    ------
    tuple of DataFrame
        Rows of `nkinetics.columns.NCA` and of `NCA_POINTS` for the next patients; put together they are the tables.
    """
    settings, blq = settings or Nca(), blq or Blq()
    names, kinds = _names(observations), kinds_of(observations)
    for places, people in patients_at_a_time(observations, patients, PATIENTS):
        whole = profiles(observations, infusions, people, settings, kinds, places)
        ends = _follow_up_ends(whole, people)
        for batch in batches(whole, settings):
            curves, reasons = Curves(batch, settings, blq), Vocabulary()
            numbers = _numbers(whole, curves, ends, reasons)
            yield _long(whole, [numbers], reasons), _used(whole, curves, names)


def computed(curves: Curves, parameters: Sequence[Parameter] = PARAMETERS) -> dict[str, Values]:
    """Values, flags and numbers of points of each parameter, for every row of a batch."""
    # Rows without a level carry NaN and infinity through the arithmetic; their cause is in the flags.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return {p.name: p.function(curves) for p in parameters}


def evaluate(
    profile: ArrayLike,
    time: ArrayLike,
    level: ArrayLike,
    lloq: ArrayLike | None = None,
    status: ArrayLike | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    amount: ArrayLike | None = None,
) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Every parameter of many profiles, arrays in and arrays out: no names, no tables, no texts.

    Parameters
    ----------
    profile : array of int [samples]
        Number of the profile of each sample, from 0.
    time : array [samples; d]
        From the start of the infusion, in any order; a sample before 0 counts as taken at 0.
    level : array [samples; level unit]
        NaN where not measured.
    lloq : array [samples; level unit] or float, optional
        LLOQ of each sample; a level below it is BLQ whatever number it carries.
    status : array of str [samples], optional
        As in `nkinetics.columns.STATUSES`; by default told by level and LLOQ.
    settings, blq : Nca, Blq, optional
        As in `analyse`.
    amount : array [profiles] or float, optional
        Amount given at time 0, for values by the dose.

    Returns
    -------
    windows : list of str
        overall, infusion_1, and the named windows.
    values : dict of array [profiles, windows]
        By parameter; NaN where missing. `analyse` and `profile` give the reasons.

    Examples
    --------
    >>> windows, values = evaluate([0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, [0.0, 8, 4, 0, 6, 0.1], lloq=0.5)
    >>> windows[0], values["cmax"][:, 0].tolist(), values["tlast"][:, 0].tolist()
    ('overall', [8.0, 6.0], [2.0, 1.0])
    """
    settings, blq = settings or Nca(), blq or Blq()
    owner = np.asarray(profile, dtype=np.int64)
    limits = np.broadcast_to(np.asarray(np.nan if lloq is None else lloq, dtype=float), owner.shape)
    nothing = np.full(owner.shape, np.nan)
    said = None if status is None else np.asarray(status, dtype=object)
    clock, levels = np.asarray(time, dtype=float), np.asarray(level, dtype=float)
    whole = ragged(owner, clock, levels, said, limits, nothing, nothing, settings)
    n = len(whole.table)
    if amount is not None:
        given = np.broadcast_to(np.asarray(amount, dtype=float), n)
        whole = replace(whole, infusion_amount=given[:, None])
    windows = ["overall", "infusion_1", *(window_name(*ends) for ends in settings.windows)]
    place = {name: i for i, name in enumerate(windows)}
    values = {p.name: np.full((n, len(windows)), np.nan) for p in PARAMETERS}
    for batch in batches(whole, settings):
        names, distinct = pd.factorize(batch.window)
        column = np.array([place[name] for name in distinct])[names]
        for name, found in computed(Curves(batch, settings, blq)).items():
            values[name][batch.profile, column] = found.value
    return windows, values


def profile(
    time: ArrayLike,
    level: ArrayLike,
    status: ArrayLike | None = None,
    lloq: ArrayLike | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Parameters of one profile.

    Parameters
    ----------
    time : array [samples; d]
        From the start of the infusion, in any order; a sample before 0 counts as taken at 0.
    level : array [samples; level unit]
        NaN or None where not measured.
    status : array of str [samples], optional
        As in `nkinetics.columns.STATUSES`. By default a level of 0, or below its LLOQ, is BLQ and a missing one was
        not done.
    lloq : array [samples; level unit] or float, optional
        LLOQ of each sample.
    **options
        Keys of the sections ``nca``, ``nca.lambda_z`` and ``blq`` of the configuration, as ``auc_rule``, ``start``,
        ``windows``, ``points_min``, ``include_tmax``; ``blq`` itself as a mapping, or ``first``, ``middle``, ``last``;
        ``lod`` and ``uloq`` like ``lloq``; ``amount`` given; ``lambda_z_include`` or ``lambda_z_exclude``: times of
        quantified samples that make the terminal fit, or that it must not use.

    Returns
    -------
    dict
        Each parameter's identifier with its value over the whole profile (NaN where missing); ``auc_int``,
        ``auc_int_extrap_pct`` and ``auc_int_dose_norm`` are those of the first named window. ``reasons``: text by
        identifier, for values that are missing or to be read with care. ``windows``: for each named window a dict of
        its own parameters and their ``reasons``.

    Raises
    ------
    InputError
        For two samples at one time, an unknown option, or an impossible value.

    Examples
    --------
    >>> one = profile([0, 1, 2, 4, 6], [0, 8, 4, 1, 0.25], lloq=0.1)
    >>> one["cmax"], one["tmax"], round(one["half_life"], 9)
    (8.0, 1.0, 1.0)
    >>> profile([0, 1], [0, 0], lloq=0.1)["reasons"]["cmax"]
    'no quantified level'
    """
    settings, blq, limits = _options(options)
    clock = np.atleast_1d(np.asarray(time, dtype=float))
    values = np.broadcast_to(np.asarray(level, dtype=float), clock.shape)
    below = np.broadcast_to(np.asarray(np.nan if lloq is None else lloq, dtype=float), clock.shape)
    if status is None:
        none = np.where(np.isnan(values), "not_done", "blq")
        said = np.where((values > 0) & ~(values < below), "quantified", none)
    else:
        said = np.broadcast_to(np.asarray(status, dtype=object), clock.shape)
    low, high = (np.broadcast_to(np.asarray(limits.get(k, np.nan), dtype=float), clock.shape) for k in ("lod", "uloq"))
    if {blq.first, blq.middle, blq.last} & {"lloq", "half_lloq"} and ((said == "blq") & np.isnan(below)).any():
        mend = "give lloq, or choose zero or drop"
        raise InputError(Problem("profile", column="lloq", found="a BLQ sample without LLOQ", mend=mend))
    whole = one_profile(clock, values, said, below, low, high, settings, float(limits.get("amount", np.nan)))
    return _as_dict(whole, settings, blq)


def _as_dict(whole: Profiles, settings: Nca, blq: Blq) -> dict[str, Any]:
    batch = next(iter(batches(whole, settings)))
    curves = Curves(batch, settings, blq)
    rows = {str(w): i for i, w in enumerate(batch.window)}
    sentences = _sentences(whole, curves, _follow_up_ends(whole, None))
    done = computed(curves)
    text = {name: texts(v.flags, {**sentences, **_own_sentences(name)}) for name, v in done.items()}

    def row(i: int) -> dict[str, Any]:
        values: dict[str, Any] = {name: float(v.value[i]) for name, v in done.items()}
        return {**values, "reasons": {name: str(t[i]) for name, t in text.items() if t[i]}}

    windows = {name: row(i) for name, i in rows.items() if batch.window_kind[i] == NAMED}
    overall = row(rows["overall"])
    first = next(iter(windows.values()), None)
    for name in ("auc_int", "auc_int_extrap_pct", "auc_int_dose_norm") if first else ():
        overall[name] = first[name]  # type: ignore[index]
        overall["reasons"].pop(name, None)
        if name in first["reasons"]:  # type: ignore[index]
            overall["reasons"][name] = first["reasons"][name]  # type: ignore[index]
    return {**overall, "windows": windows}


def _options(options: Mapping[str, Any]) -> tuple[Nca, Blq, dict[str, Any]]:
    given = dict(options)
    limits: dict[str, Any] = {k: given.pop(k) for k in ("lod", "uloq", "amount") if k in given}
    by_hand = {k: np.ravel(given.pop(f"lambda_z_{k}", ())).astype(float).tolist() for k in ("include", "exclude")}
    rules = given.pop("blq", {})
    blq: dict[str, Any] = dict.fromkeys(("first", "middle", "last"), rules) if isinstance(rules, str) else dict(rules)
    blq |= {k: given.pop(k) for k in list(given) if k in Blq.model_fields}
    slope = dict(given.pop("lambda_z", {}))
    slope |= {k: given.pop(k) for k in list(given) if k in LambdaZ.model_fields}
    if any(by_hand.values()):
        slope["manual"] = [{**ONE_PROFILE, **by_hand, "reason": "as asked"}]
    nca = {**given, "lambda_z": slope} if slope else given
    return section("nca", json.dumps(nca)), section("blq", json.dumps(blq)), limits


# -------------------------------------------------------------------------------------------------------- long tables


def _text_column(distinct: ArrayLike, which: NDArray) -> Any:
    """Text column of few distinct values: the texts are made once and then only pointed at."""
    return pd.Series(np.asarray(distinct, dtype=object), dtype="str").array.take(which)


def _numbers(whole: Profiles, curves: Curves, ends: NDArray[np.object_], reasons: Vocabulary) -> dict[str, NDArray]:
    """What one batch adds to the long table, as numbers: rows by patient, assay, specimen, window and parameter."""
    b = curves.batch
    order = np.lexsort((pd.factorize(b.window, sort=True)[0], b.profile))
    done = computed(curves, _SORTED)
    sentences = _sentences(whole, curves, ends)

    def stacked(values: list[NDArray]) -> NDArray:
        return np.stack([v[order] for v in values], axis=1).ravel()

    finite = np.isfinite(b.end)
    return {
        "profile": b.profile[order],
        "window": b.window[order],
        "window_start": (b.start + b.origin)[order],
        "window_end": np.where(finite, b.end + b.origin, np.nan)[order],
        "value": stacked([done[p.name].value for p in _SORTED]),
        "n_points": stacked([done[p.name].n_points for p in _SORTED]),
        "reason": stacked(_reasons(done, sentences, reasons)),
    }


def _long(whole: Profiles, parts: Sequence[Mapping[str, NDArray]], reasons: Vocabulary) -> pd.DataFrame:
    """The long table of some batches from their numbers."""
    made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    size = len(_SORTED)
    # A block's own profiles: looking at all of them for every block would take time with the square of their number.
    table = whole.table.iloc[made["profile"].min() : made["profile"].max() + 1]
    profile = made["profile"] - made["profile"].min()

    def each(name: str) -> Any:
        codes, distinct = pd.factorize(table[name])
        return _text_column(distinct, np.repeat(codes[profile], size))

    def tiled(values: list[str]) -> Any:
        return _text_column(values, np.tile(np.arange(size), len(profile)))

    windows, window_names = pd.factorize(made["window"])
    level_units, units_of = pd.factorize(table["level_unit"])
    units = [UNITS[p.unit](u, whole.dose_unit) for u in units_of for p in _SORTED]
    return pd.DataFrame(
        {
            "patient_id": each("patient_id"),
            "dose_level": each("dose_level"),
            "assay": each("assay"),
            "window": _text_column(window_names, np.repeat(windows, size)),
            "window_start": np.repeat(made["window_start"], size),
            "window_end": np.repeat(made["window_end"], size),
            "parameter": tiled([p.name for p in _SORTED]),
            "pptestcd": tiled([p.code for p in _SORTED]),
            "value": made["value"],
            "unit": _text_column(units, (level_units[profile][:, None] * size + np.arange(size)).ravel()),
            "n_points": pd.array(made["n_points"], dtype="Int64"),
            "reason": _text_column(reasons.texts, made["reason"]),
            "specimen": each("specimen"),
        },
        copy=False,
    )


def _reasons(done: Mapping[str, Values], sentences: Mapping[Why, Sentence], vocabulary: Vocabulary) -> list[Ints]:
    """Number of the text of each row, parameter by parameter; parameters with the same flags share the work."""
    known: dict[tuple[bytes, str], Ints] = {}
    numbers = []
    for p in _SORTED:
        own, flags = _own_sentences(p.name), done[p.name].flags
        key = (flags.tobytes(), p.name if own else "")
        if key not in known:
            known[key] = numbered(flags, {**sentences, **own}, vocabulary)
        numbers.append(known[key])
    return numbers


def _names(observations: pd.DataFrame) -> NDArray[np.object_]:
    """What each observation is called in nca_points.csv: its id, or its row where it has none."""
    if "observation_id" in observations.columns:
        return observations["observation_id"].to_numpy(dtype=object)
    return np.array([str(i + 1) for i in range(len(observations))], dtype=object)


def _used(whole: Profiles, curves: Curves, names: NDArray[np.object_]) -> pd.DataFrame:
    """Samples behind the areas and terminal fits of one batch."""
    b = curves.batch
    first = b.profile.min()
    table = whole.table.iloc[first : b.profile.max() + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        fits = curves.terminal.used & (b.window_kind != NAMED)[:, None]
    row_a, column_a = np.nonzero(curves.points & (b.sample >= 0))
    row_z, column_z = np.nonzero(fits & (b.sample >= 0))
    row, use = np.concatenate([row_a, row_z]), np.repeat([0, 1], [len(row_a), len(row_z)])
    taken = names[b.sample[row, np.concatenate([column_a, column_z])]]
    ids, distinct = pd.factorize(taken, sort=True)
    windows, window_names = pd.factorize(b.window, sort=True)
    # Profiles stand in the order of patient, assay and specimen.
    order = np.lexsort((ids, use, windows[row], b.profile[row]))
    row, use, ids = row[order], use[order], ids[order]
    columns = {}
    for name in KEY:
        codes, values = pd.factorize(table[name])
        columns[name] = _text_column(values, codes[b.profile[row] - first])
    return pd.DataFrame(
        {
            **columns,
            "window": _text_column(window_names, windows[row]),
            "observation_id": _text_column(distinct, ids),
            "used_in": _text_column(["auc", "lambda_z"], use),
        },
        copy=False,
    )


# ----------------------------------------------------------------------------------------------------------- sentences


def _follow_up_ends(whole: Profiles, patients: pd.DataFrame | None) -> NDArray[np.object_]:
    """For each profile how the patient's follow-up ended, in words; empty where nothing is said."""
    blank = np.full(len(whole.table), "", dtype=object)
    if patients is None or "status_end" not in patients.columns:
        return blank
    said = patients.drop_duplicates("patient_id").set_index("patient_id")
    found = said.reindex(whole.table["patient_id"])
    state = found["status_end"].fillna("").astype("str").str.replace("_", " ").to_numpy(dtype=object)
    when = found["time_end"].to_numpy(dtype=float) if "time_end" in found.columns else np.full(len(state), np.nan)
    texts_ = [f"{s} at d {t:.4g}" if t == t else s for s, t in zip(state, when, strict=True)]
    return np.array([t if s not in ("", "ongoing") else "" for t, s in zip(texts_, state, strict=True)], dtype=object)


def _own_sentences(name: str) -> dict[Why, Sentence]:
    """Sentences that depend on the parameter."""
    if name in ("t_blq", "tlast_detected", "t_not_detected"):
        return {Why.WHOLE_PROFILE_ONLY: "a loss belongs to the whole profile, not to a named window: see overall"}
    return {}


def _sentences(whole: Profiles, curves: Curves, ends: NDArray[np.object_]) -> dict[Why, Sentence]:
    """The sentence of every flag for one batch."""
    b, nca, blq = curves.batch, curves.settings, curves.blq
    limits = nca.lambda_z
    no_data = whole.table["no_data"].array
    share = f"{100 * nca.predose_share:g} %"

    def start_sample(i: int) -> float:
        kept = ~np.isnan(curves.curve[i]) & (b.sample[i] >= 0)
        return float(b.time[i, np.argmax(kept)])

    def over(i: int) -> str:
        above = np.flatnonzero((b.kind[i] == ABOVE) & b.inside[i])
        above = above if len(above) else np.flatnonzero(b.kind[i] == ABOVE)
        highest = np.nanmax(np.append(b.uloq[i, above], -np.inf))
        what = f": {highest:.6g} or more" if np.isfinite(highest) else ""
        return f"a level above the ULOQ at d {_day(b, i, b.time[i, above[0]])}{what}"

    quantified = ~np.isnan(b.level)
    final = b.time.shape[1] - 1 - np.argmax(quantified[:, ::-1], axis=1)
    final_day = np.where(quantified.any(axis=1), b.time[np.arange(len(final)), final] + b.origin, np.nan).tolist()

    def tlast_text(i: int) -> str:
        return "" if final_day[i] != final_day[i] else f"{final_day[i]:.4g}"

    def ended(i: int) -> str:
        fit = curves.terminal
        why = "is not accepted" if fit.n_points[i] else "does not exist"
        return (
            f"quantified at d {tlast_text(i)}, no later sample before the end of the window at d "
            f"{_day(b, i, b.end[i])}, and the terminal slope {why}"
        )

    def still(what: str) -> Sentence:
        def sentence(i: int) -> str:
            end = str(ends[b.profile[i]]) if not b.infusion_follows[i] else "the next infusion"
            # A data cut ends the follow-up, not the sampling of an assay, which may have ended long before.
            cut = end.startswith("data cut")
            because = (
                f"; right-censored there, followed to {end}" if cut else f"; right-censored by {end}" if end else ""
            )
            return f"still {what} at the last sample (d {_day(b, i, curves.last_sample[i])}){because}"

        return sentence

    few = "points" if limits.include_tmax else "points after Tmax"

    def trough_limit(i: int) -> str:
        lloq = b.lloq[i, b.trough[i]]
        return "below LLOQ before the next infusion" + (f" ({lloq:.6g})" if lloq == lloq else "")

    def by_hand(i: int) -> str:
        return b.manual.reason.get(int(b.parent[i]), "") if b.manual is not None else ""

    def because(i: int) -> str:
        """Where a fit is missing although, or because, somebody chose its points."""
        return f" (points chosen by hand: {by_hand(i)})" if by_hand(i) else ""

    falls = f"no window of {limits.points_min} or more points that ends at Tlast falls"
    too_few = f"quantified {few}, {limits.points_min} needed"

    finish = "Tlast" if blq.last == "drop" else "the last point of the curve"
    sentences: dict[Why, Sentence] = {
        Why.NO_DATA: lambda i: str(no_data[b.profile[i]]),
        Why.NO_SAMPLE: lambda i: (
            "no sample in this window"
            if (whole.kind[b.profile[i]] != 0).any()
            else f"no sample in this window: {no_data[b.profile[i]]}"
        ),
        Why.NO_QUANTIFIED: "no quantified level",
        Why.ABOVE_ULOQ: over,
        Why.WHOLE_PROFILE_ONLY: "the terminal slope is never refitted inside a named window: see overall",
        Why.PER_INFUSION_ONLY: "defined for the window of an infusion",
        Why.OPEN_WINDOW: "the window is open: see auc_last",
        Why.NO_START: "no level at the start of the infusion (nca.start is missing)",
        Why.NO_PREDOSE: f"no pre-dose sample within {share} of the interval before this infusion",
        Why.ONE_POINT: "an area needs two points",
        Why.TOO_FEW: lambda i: f"{curves.terminal.n_available[i]} {too_few}{because(i)}",
        Why.NOT_FALLING: falls if b.manual is None else lambda i: falls + because(i),
        Why.STILL_QUANTIFIED: still("quantified"),
        Why.UNCONFIRMED: lambda i: (
            f"{curves.quantifiable.n_after[i]} BLQ sample after Tlast, {nca.consecutive_blq} in a row make a loss"
            if curves.quantifiable.ever[i]
            else "no quantified level, and too few samples after the infusion to call it a loss"
        ),
        Why.STILL_DETECTED: still("detected"),
        Why.UNCONFIRMED_LOD: lambda i: (
            f"{curves.detectable.n_after[i]} sample below LOD after the last detection, "
            f"{nca.consecutive_blq} in a row make a loss"
            if curves.detectable.ever[i]
            else "never detected, and too few samples after the infusion to call it a loss"
        ),
        Why.NEVER_DETECTED: "never detected",
        Why.NO_LOD: "a level below LLOQ without LOD: not known whether it was detected",
        Why.NO_LATER_INFUSION: "no infusion follows",
        Why.NO_TROUGH: f"no sample within {share} of the interval before the next infusion",
        Why.TROUGH_BLQ: trough_limit,
        Why.FIRST_INFUSION: "later infusions are compared with the first",
        Why.NO_REFERENCE: "the first infusion has no value above 0 to compare with",
        Why.PREDOSE_BLQ: lambda i: f"the level before this infusion is below its LLOQ ({b.lloq[i, 0]:.6g})",
        Why.NO_AMOUNT: "the amount given is not known",
        Why.NO_LIMIT: "no limit is configured for this unit (nca.above_limit)",
        Why.NOT_BRACKETED: lambda i: f"no levels on both sides of the start of the window (d {_day(b, i, b.start[i])})",
        Why.TOBIT_FAILED: "the censored fit found no falling line",
        Why.FOLLOW_UP_ENDED: ended,
        Why.START_ZERO: lambda i: f"level 0 assumed at the start, first sample at d {_day(b, i, start_sample(i))}",
        Why.START_FIRST: lambda i: f"first level (d {_day(b, i, start_sample(i))}) assumed at the start",
        Why.START_BACK: lambda i: f"start level {curves.begun.level[i]:.6g} from the first two levels, backwards",
        Why.START_PREDOSE: lambda i: f"start level from the pre-dose sample {b.lead[i]:.3g} d before the infusion",
        Why.PEAK_BEFORE: "the sample before the infusion is the highest",
        Why.NO_LAG_SAMPLE: "no sample before the first quantified level",
        Why.NO_TRIANGLE: "the BLQ sample after Tlast is dropped (blq.last), so this equals AUClast",
        Why.LOST_IN_WINDOW: (
            lambda i: (
                f"BLQ after Tlast (d {tlast_text(i)}): nothing added"
                if blq.last == "drop"
                else f"BLQ after Tlast (d {tlast_text(i)}) counted as {blq.last} (blq.last)"
            )
        ),
        Why.HELD: lambda i: f"pre-dose level of d {tlast_text(i)} held to the next infusion",
        Why.EXTRAPOLATED: lambda i: (
            f"extrapolated from d {tlast_text(i)} with lambda_z: {curves.window_area[2][i]:.3g} % of the value"
        ),
        Why.NEVER_QUANTIFIED: "never quantified: counted as lost at the first sample after the infusion",
        Why.NEVER_DETECTED_LOST: "never detected: counted as lost at the first sample after the infusion",
        Why.LOW_R2: lambda i: f"adjusted R2 {curves.terminal.r_squared_adj[i]:.3g} < {limits.r_squared_adj_min:g}",
        Why.SHORT_SPAN: lambda i: f"span {curves.span_ratio[i]:.3g} half-lives < {limits.span_ratio_min:g}",
        Why.LONG_TAIL: lambda i: (
            f"extrapolation {curves.extrapolated_pct[i]:.3g} % > {limits.extrapolation_pct_max:g} %"
        ),
        Why.TAIL_UNKNOWN: "extrapolated share unknown",
        Why.START_BLQ: f"the sample at the start is below its LLOQ and counts as {blq.first} (blq.first)",
        Why.ABOVE_AT_LAST: f"still above the limit at {finish}: what follows is not counted",
        Why.LIMIT_BELOW_LLOQ: "the limit lies below the LLOQ of a sample",
        Why.COMMON_INTERVAL: lambda i: f"both areas over {curves.accumulated_area[2][i]:.4g} d from their infusion",
        Why.CHOSEN_BY_HAND: lambda i: f"points chosen by hand: {by_hand(i)}",
        Why.LEFT_OUT_BY_HAND: lambda i: f"points left out by hand: {by_hand(i)}",
        Why.CENSORED_FIT: lambda i: (
            f"censored fit that counts {curves.terminal.n_censored[i]} BLQ sample"
            f"{'s' if curves.terminal.n_censored[i] != 1 else ''} after Tlast"
        ),
    }
    # Many parameters of a row share a note; it is worded once.
    return {why: text if isinstance(text, str) else cache(text) for why, text in sentences.items()}


def _day(batch: Batch, row: int, time: float) -> str:
    """A time of a row as a study day."""
    return f"{time + batch.origin[row]:.4g}"
