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


class Vocabulary:
    """Texts by number, each kept once; number 0 is the empty text."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {"": 0}

    def number(self, text: str) -> int:
        """Number of a text, a new one where it was not met before."""
        return self._number.setdefault(text, len(self._number))

    @property
    def texts(self) -> NDArray[np.object_]:
        """Every text met so far, at the place of its number."""
        return np.array(list(self._number), dtype=object)


def numbered(flags: Ints, sentences: Mapping[Why, Sentence], vocabulary: Vocabulary) -> Ints:
    """Number of each row's text in the vocabulary; 0 where it has no flag; see `texts`."""
    out = np.zeros(len(flags), dtype=np.int64)
    for value in np.unique(flags).tolist():
        if not value:
            continue
        rows = np.flatnonzero(flags == value)
        parts = [(why, sentences[why]) for why in Why if int(why) & value]
        if all(isinstance(s, str) for _, s in parts):
            out[rows] = vocabulary.number(_joined([(why, str(s)) for why, s in parts]))
            continue
        each = rows.tolist()
        worded = [(why, [s] * len(each) if isinstance(s, str) else [s(i) for i in each]) for why, s in parts]
        plain = [column for why, column in worded if not why & OUTSIDE_ACCEPTANCE]
        outside = [column for why, column in worded if why & OUTSIDE_ACCEPTANCE]
        if outside:
            plain.append(["outside acceptance: " + ", ".join(texts) for texts in zip(*outside, strict=True)])
        out[rows] = [vocabulary.number("; ".join(texts)) for texts in zip(*plain, strict=True)]
    return out


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
    vocabulary = Vocabulary()
    numbers = numbered(flags, sentences, vocabulary)
    return vocabulary.texts[numbers]


def _joined(parts: Sequence[tuple[Why, str]]) -> str:
    plain = [text for why, text in parts if not why & OUTSIDE_ACCEPTANCE]
    outside = [text for why, text in parts if why & OUTSIDE_ACCEPTANCE]
    return "; ".join([*plain, *(["outside acceptance: " + ", ".join(outside)] if outside else [])])
