"""What a level below its limit of quantification counts as: on a curve (by position), and in a likelihood (M1 ... M7).

Beal SL (2001) Ways to fit a PK model with some data below the quantification limit. J Pharmacokinet Pharmacodyn
28:481-504, doi:10.1023/A:1012299115260.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nkinetics.errors import Problem, raise_any
from nkinetics.settings import Blq

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SUBSTITUTES: Mapping[str, Callable[[Floats], Floats]] = {
    "zero": np.zeros_like,
    "drop": lambda lloq: np.full_like(lloq, np.nan),
    "lloq": lambda lloq: lloq,
    "half_lloq": lambda lloq: lloq / 2,
}
"""Value on the curve of a BLQ sample, from its LLOQ; NaN = the sample is dropped."""


def positions(present: Bools, blq: Bools) -> tuple[Bools, Bools, Bools]:
    """BLQ samples before the first, between, and after the last sample with a level.

    Parameters
    ----------
    present : array of bool [profiles, samples]
        Samples with a level (quantified or above the ULOQ), in order of time.
    blq : array of bool [profiles, samples]
        Samples below their LLOQ, detected or not.

    Returns
    -------
    first, middle, last : arrays of bool [profiles, samples]
        Without any level in a profile all its BLQ samples are first.

    Examples
    --------
    >>> present = np.array([[False, True, False, True, False]])
    >>> [p.astype(int).tolist() for p in positions(present, ~present)]
    [[[1, 0, 0, 0, 0]], [[0, 0, 1, 0, 0]], [[0, 0, 0, 0, 1]]]
    """
    before = np.logical_or.accumulate(present, axis=-1)
    after = np.logical_or.accumulate(present[..., ::-1], axis=-1)[..., ::-1]
    return blq & ~before, blq & before & after, blq & before & ~after


def substituted(level: Floats, present: Bools, blq: Bools, lloq: Floats, rules: Blq) -> Floats:
    """Levels of a curve with each BLQ sample replaced by the rule of its position.

    Parameters
    ----------
    level : array [profiles, samples; level unit]
        Quantified levels; NaN elsewhere.
    present, blq : arrays of bool [profiles, samples]
        As for `positions`.
    lloq : array [profiles, samples; level unit]
        LLOQ of each sample. Whatever number a BLQ sample carried in its report is never used.
    rules : Blq
        ``first``, ``middle``, ``last``: zero, drop, lloq or half_lloq.

    Returns
    -------
    array [profiles, samples; level unit]
        NaN where the curve has no point.

    Examples
    --------
    >>> level, lloq = np.array([[np.nan, 8.0, np.nan, 4.0, np.nan]]), np.full((1, 5), 2.0)
    >>> present = ~np.isnan(level)
    >>> substituted(level, present, ~present, lloq, Blq(first="zero", middle="half_lloq", last="lloq")).tolist()
    [[0.0, 8.0, 1.0, 4.0, 2.0]]
    """
    curve = np.where(blq, np.nan, level)
    for where, rule in zip(positions(present, blq), (rules.first, rules.middle, rules.last), strict=True):
        if rule != "drop":
            curve = np.where(where, SUBSTITUTES[rule](lloq), curve)
    return curve


# --------------------------------------------------------------------------------------------------- in a likelihood

NO_TERM, DENSITY, INTERVAL = 0, 1, 2
"""What a row adds to a likelihood: nothing, the density at a level, or the probability of an interval."""

METHODS: Mapping[str, str] = {
    "M1": "rows below the LLOQ add nothing",
    "M3": "rows below the LLOQ add the probability of lying below it",
    "M5": "rows below the LLOQ count as half the LLOQ",
    "M6": "the first row of each run below the LLOQ counts as half the LLOQ, the rest add nothing",
    "M7": "rows below the LLOQ count as zero, which on the log scale is the probability of not being detected",
}
"""Methods by Beal's name, in words for the methods text."""


@dataclass(frozen=True)
class LikelihoodRows:
    """What the likelihood sees of each sample.

    Parameters
    ----------
    kind : array of int8 [samples]
        `NO_TERM`, `DENSITY` or `INTERVAL`.
    lower, upper : arrays [samples; level unit]
        Ends of the interval (0 and infinity are meant as such); both the level for a density; NaN without a term.
    """

    kind: NDArray[np.int8]
    lower: Floats
    upper: Floats


def likelihood_rows(
    status: ArrayLike,
    level: ArrayLike,
    lod: ArrayLike,
    lloq: ArrayLike,
    uloq: ArrayLike,
    method: str = "M3",
    profile: ArrayLike | None = None,
) -> LikelihoodRows:
    """Density, interval or nothing for each sample, by its status.

    Parameters
    ----------
    status : array of str [samples]
        As in `nkinetics.columns.STATUSES`.
    level, lod, lloq, uloq : arrays [samples; level unit]
        NaN where empty; scalars are broadcast.
    method : {"M3", "M1", "M5", "M6", "M7"}
        M3: quantified, the density; blq, the interval (lod, lloq) where a LOD is given, else (0, lloq); not_detected,
        (0, lod), else (0, lloq). M1 drops both. M5 puts both at LLOQ/2. M6 does so for the first row of each run of
        consecutive rows below the LLOQ and drops the others of the run. M7 puts both at zero: zero has no density on
        the log scale, so such a row is taken as not detected, the interval (0, lod), else (0, lloq).
    profile : array [samples], optional
        Which profile a sample belongs to; a run of M6 never reaches over two. Rows of a profile stand in order of time.

    Returns
    -------
    LikelihoodRows
        above_uloq is the interval (uloq, infinity) under every method; not_done and failed add nothing. A quantified
        level below its own LLOQ is BLQ, whatever number it carries.

    Raises
    ------
    InputError
        When a row lacks the limit that its status needs, or a quantified row its level.

    Examples
    --------
    >>> rows = likelihood_rows(["quantified", "blq", "not_detected"], [80.0, np.nan, np.nan], 5.0, 20.0, np.nan)
    >>> rows.kind.tolist(), rows.lower.tolist(), rows.upper.tolist()
    ([1, 2, 2], [80.0, 5.0, 0.0], [80.0, 20.0, 5.0])
    """
    if method not in METHODS:
        raise_any([Problem("blq", None, "models", repr(method), "one of " + ", ".join(METHODS), "correct the method")])
    text = np.asarray(status, dtype=object)
    number = (np.broadcast_to(np.asarray(a, dtype=float), text.shape) for a in (level, lod, lloq, uloq))
    level_, lod_, lloq_, uloq_ = number
    below_own = (text == "quantified") & (level_ < lloq_)
    quantified = (text == "quantified") & ~below_own
    undetected = (text == "not_detected") | (below_own & (level_ < lod_))
    detected = (text == "blq") | (below_own & ~undetected)
    above = text == "above_uloq"
    below = detected | undetected
    raise_any(_unusable_rows(text, quantified & ~(level_ > 0), below, lod_, lloq_, above & np.isnan(uloq_), method))

    kind = np.full(text.shape, NO_TERM, dtype=np.int8)
    lower = np.full(text.shape, np.nan)
    upper = np.full(text.shape, np.nan)

    def put(rows: Bools, what: int, low: Floats | float, high: Floats | float) -> None:
        kind[rows] = what
        lower[rows] = np.broadcast_to(low, rows.shape)[rows]
        upper[rows] = np.broadcast_to(high, rows.shape)[rows]

    put(quantified, DENSITY, level_, level_)
    put(above, INTERVAL, uloq_, np.inf)
    known = np.where(np.isnan(lod_), 0.0, lod_)
    limit = np.where(np.isnan(lod_), lloq_, lod_)
    if method == "M3":
        put(detected, INTERVAL, known, lloq_)
        put(undetected, INTERVAL, 0.0, limit)
    elif method == "M5":
        put(below, DENSITY, lloq_ / 2, lloq_ / 2)
    elif method == "M6":
        put(_first_of_run(below, text, profile), DENSITY, lloq_ / 2, lloq_ / 2)
    elif method == "M7":
        put(below, INTERVAL, 0.0, limit)
    return LikelihoodRows(kind, lower, upper)


def _first_of_run(below: Bools, status: NDArray[np.object_], profile: ArrayLike | None) -> Bools:
    """First row of each run of rows below the LLOQ; rows without a measurement do not end a run."""
    first = np.zeros_like(below)
    measured = np.flatnonzero(~np.isin(status, ["not_done", "failed"]))
    runs = below[measured]
    begins = runs & ~np.concatenate([[False], runs[:-1]])
    if profile is not None:
        owner = np.asarray(profile, dtype=object)[measured]
        begins |= runs & np.concatenate([[True], owner[1:] != owner[:-1]])[: len(runs)]
    first[measured] = begins
    return first


def _unusable_rows(
    status: NDArray[np.object_], bare: Bools, below: Bools, lod: Floats, lloq: Floats, open_above: Bools, method: str
) -> list[Problem]:
    limitless = np.isnan(lloq) & below
    if method in ("M3", "M7"):
        # A row known to be undetected is bounded by its LOD alone.
        limitless &= ~((status == "not_detected") & ~np.isnan(lod))
    if method == "M1":
        limitless = np.zeros_like(below)
    found = [(bare, "level", "a quantified row without a positive level", "a level above 0")]
    found += [(limitless, "lloq", "a row below the LLOQ without LLOQ", "the LLOQ of the sample")]
    found += [(open_above, "uloq", "a row above the ULOQ without ULOQ", "the ULOQ of the sample")]
    return [
        Problem("observations", int(i) + 2, column, what, wanted, f"fill in {column}")
        for rows, column, what, wanted in found
        for i in np.flatnonzero(rows)
    ]
