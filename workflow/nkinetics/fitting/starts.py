"""Where the search begins: from the data by the model's own guess, in every smooth piece of its parameter space."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nkinetics.fitting.objective import SIGMA_START, Case
from nkinetics.models._algebra import to_estimation

PIECES_MANY = 40
"""Beyond so many pieces those without a guess of their own get one start."""


@dataclass(frozen=True, eq=False)
class Regime:
    """A piece of the parameter space on which the likelihood is smooth, and its optimum.

    Parameters
    ----------
    vector : array (parameters,)
        Optimum within the piece, scale of estimation.
    value : float
        -ln L there.
    lower, upper : arrays (parameters,)
        The piece.
    start : array (parameters,)
        Where the search that led here began.
    """

    vector: np.ndarray
    value: float
    lower: np.ndarray
    upper: np.ndarray
    start: np.ndarray


def starts(case: Case) -> np.ndarray:
    """Starts (starts, parameters) on the scale of estimation: the model's guess from the quantified rows, and sigma."""
    points, model = case.points, case.model
    order = np.argsort(points.time[: points.n_quantified], kind="stable")
    time, level = points.time[: points.n_quantified][order], points.log_level[order]
    natural = np.asarray(model.guess(time, level, case.calendar, case.constants), dtype=float)
    low = np.array([p.lower for p in model.parameters])
    high = np.array([p.upper for p in model.parameters])
    natural = np.clip(natural, low, high)
    if len(time) > 1:
        residual = level - model.log_level(time, natural, case.calendar, case.constants)
        sigma = np.clip(np.sqrt((residual**2).mean(axis=-1)), 0.1, 2.0)
    else:
        sigma = np.full(len(natural), SIGMA_START)
    found = np.concatenate([to_estimation(model, natural), np.log(sigma)[:, None]], axis=-1)
    return np.unique(found.round(10), axis=0)


def regimes(case: Case) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Starts and limits of each smooth piece: one for a smooth model, one between two kinks of a breakpoint.

    Returns
    -------
    list of (starts (starts, parameters), lower (parameters,), upper (parameters,))
        Every piece has a start.
    """
    low, high = case.bounds
    begin = starts(case)
    if case.model.knots is None:
        return [(begin, low, high)]
    j = case.model.names.index(case.model.breakpoint)
    kinks = to_estimation_of(case, j, case.model.knots(case.points.time, case.calendar, case.constants))
    edges = np.concatenate([[low[j]], kinks[(kinks > low[j] + 1e-9) & (kinks < high[j] - 1e-9)], [high[j]]])
    # In a long series most pieces lie among samples below the LLOQ, where the guess sees no peak.
    fewest = 4 if len(edges) <= PIECES_MANY else 1
    pieces = []
    for left, right in pairwise(edges):
        inside = begin[(begin[:, j] >= left) & (begin[:, j] <= right)]
        if len(inside) < fewest:
            near = begin[np.argsort(np.abs(begin[:, j] - (left + right) / 2.0), kind="stable")[:fewest]].copy()
            # The outermost pieces reach far: begin near their inner end, where the data are.
            near[:, j] = np.clip((left + right) / 2.0, edges[1] - 0.7, edges[-2] + 0.7)
            inside = np.concatenate([inside, near])
        piece_low, piece_high = low.copy(), high.copy()
        piece_low[j], piece_high[j] = left, right
        pieces.append((inside, piece_low, piece_high))
    return pieces


def to_estimation_of(case: Case, index: int, values: np.ndarray) -> np.ndarray:
    """Values of one parameter on the scale of estimation."""
    example = np.tile([p.start for p in case.model.parameters], (len(values), 1))
    example[:, index] = values
    return to_estimation(case.model, example)[:, index]
