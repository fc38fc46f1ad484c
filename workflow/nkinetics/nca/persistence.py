"""How long a patient's cells stay: last time found, and time to loss, at the LLOQ and at the LOD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Loss:
    """Presence and loss of each profile; NaN where there is none.

    Parameters
    ----------
    last_present : array [profiles; time]
        Last sample in which the cells were found.
    lost : array [profiles; time]
        First of the consecutive samples without them after it; for a profile in which they were never found, the first
        of the consecutive samples after the infusion.
    n_after : array of int [profiles]
        Samples without them after the last one with them.
    ever : array of bool [profiles]
        Whether they were found at all.
    """

    last_present: Floats
    lost: Floats
    n_after: Ints
    ever: Bools


def loss(time: Floats, present: Bools, absent: Bools, consecutive: int) -> Loss:
    """Time to loss: the first of `consecutive` samples without the cells after the last sample with them.

    Parameters
    ----------
    time : array [profiles, samples; time since the infusion]
        Increasing along a profile.
    present, absent : arrays of bool [profiles, samples]
        Samples with and without the cells; one that is neither does not count.
    consecutive : int
        Samples without the cells that make a loss.

    Notes
    -----
    The loss happened between `last_present` and `lost` (interval censoring). A rebound resets the clock: nothing
    before the last presence is a loss. The sample before the infusion says nothing about loss.

    Examples
    --------
    >>> time = np.array([[0.0, 1.0, 7.0, 14.0, 28.0]])
    >>> present = np.array([[False, True, True, False, False]])
    >>> one = loss(time, present, ~present, 1)
    >>> float(one.last_present[0]), float(one.lost[0])
    (7.0, 14.0)
    """
    rows, columns = time.shape
    pick = np.arange(rows)
    ever = np.any(present, axis=1)
    last = np.where(ever, columns - 1 - np.argmax(present[:, ::-1], axis=1), -1)
    after = absent & (np.arange(columns) > last[:, None]) & (time > 0)
    n_after = after.sum(axis=1)
    first = np.argmax(after, axis=1)
    return Loss(
        last_present=np.where(ever, time[pick, np.maximum(last, 0)], np.nan),
        lost=np.where(n_after >= consecutive, time[pick, first], np.nan),
        n_after=n_after.astype(np.int64),
        ever=ever,
    )
