"""Why a value is missing, or to be read with care: one flag per sentence, so that a batch carries integers, not texts.

A parameter may carry several flags. Texts are made once, for the rows that need one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntFlag, auto

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Why(IntFlag):
    """Causes; those up to `LAST_CAUSE` leave the value missing, the others are notes beside a value."""

    NO_DATA = auto()
    NO_SAMPLE = auto()
    NO_QUANTIFIED = auto()
    ABOVE_ULOQ = auto()
    WHOLE_PROFILE_ONLY = auto()
    PER_INFUSION_ONLY = auto()
    OPEN_WINDOW = auto()
    NO_START = auto()
    NO_PREDOSE = auto()
    ONE_POINT = auto()
    TOO_FEW = auto()
    NOT_FALLING = auto()
    STILL_QUANTIFIED = auto()
    UNCONFIRMED = auto()
    STILL_DETECTED = auto()
    UNCONFIRMED_LOD = auto()
    NEVER_DETECTED = auto()
    NO_LOD = auto()
    NO_LATER_INFUSION = auto()
    NO_TROUGH = auto()
    TROUGH_BLQ = auto()
    FIRST_INFUSION = auto()
    NO_REFERENCE = auto()
    PREDOSE_BLQ = auto()
    NO_AMOUNT = auto()
    NO_LIMIT = auto()
    NOT_BRACKETED = auto()
    TOBIT_FAILED = auto()
    FOLLOW_UP_ENDED = auto()
    # Notes.
    START_ZERO = auto()
    START_FIRST = auto()
    START_BACK = auto()
    START_PREDOSE = auto()
    PEAK_BEFORE = auto()
    NO_LAG_SAMPLE = auto()
    NO_TRIANGLE = auto()
    LOST_IN_WINDOW = auto()
    HELD = auto()
    EXTRAPOLATED = auto()
    NEVER_QUANTIFIED = auto()
    NEVER_DETECTED_LOST = auto()
    LOW_R2 = auto()
    SHORT_SPAN = auto()
    LONG_TAIL = auto()
    TAIL_UNKNOWN = auto()
    START_BLQ = auto()
    ABOVE_AT_LAST = auto()
    LIMIT_BELOW_LLOQ = auto()
    COMMON_INTERVAL = auto()
    CHOSEN_BY_HAND = auto()
    LEFT_OUT_BY_HAND = auto()
    CENSORED_FIT = auto()


LAST_CAUSE = Why.FOLLOW_UP_ENDED
CAUSES = 2 * int(LAST_CAUSE) - 1
"""All causes: what `flags & CAUSES` leaves makes a value missing."""
OUTSIDE_ACCEPTANCE = Why.LOW_R2 | Why.SHORT_SPAN | Why.LONG_TAIL | Why.TAIL_UNKNOWN

Sentence = str | Callable[[int], str]
"""A fixed text, or a text made for one row of the batch."""


def flagged(where: NDArray[np.bool_], why: Why) -> Ints:
    """The flag in the rows where it holds, 0 elsewhere."""
    return np.where(where, int(why), 0)


def texts(flags: Ints, sentences: Mapping[Why, Sentence]) -> NDArray[np.object_]:
    """Text of each row; empty where it has no flag.

    Parameters
    ----------
    flags : array of int [rows]
        Sums of `Why`.
    sentences : mapping
        Sentence of every flag.

    Examples
    --------
    >>> sentences = {Why.NO_QUANTIFIED: "no quantified level", Why.ABOVE_ULOQ: lambda i: f"row {i}"}
    >>> texts(np.array([0, 4, 12]), sentences).tolist()
    ['', 'no quantified level', 'no quantified level; row 2']
    """
    out = np.full(len(flags), "", dtype=object)
    for value in np.unique(flags):
        if value:
            rows = np.flatnonzero(flags == value)
            parts = [(why, sentences[why]) for why in Why if why & int(value)]
            if all(isinstance(s, str) for _, s in parts):
                out[rows] = _joined([(why, str(s)) for why, s in parts])
            else:
                for i in rows.tolist():
                    out[i] = _joined([(why, s if isinstance(s, str) else s(i)) for why, s in parts])
    return out


def _joined(parts: Sequence[tuple[Why, str]]) -> str:
    plain = [text for why, text in parts if not why & OUTSIDE_ACCEPTANCE]
    outside = [text for why, text in parts if why & OUTSIDE_ACCEPTANCE]
    return "; ".join([*plain, *(["outside acceptance: " + ", ".join(outside)] if outside else [])])
