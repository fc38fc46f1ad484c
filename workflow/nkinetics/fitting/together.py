"""Searches of many profiles side by side: each is written as if it were alone, and waits where it needs a likelihood.

A search is a generator. It yields a `Search` or a `Look`, and gets the answer when the others have reached theirs; what
fits together is computed together. The order of the searches, and what else is under way, changes no bit of a result.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from nkinetics.fitting.engine import Optima, minimise
from nkinetics.fitting.objective import Case, Pool


@dataclass(frozen=True, eq=False)
class Search:
    """Minimise -ln L of a case from some starts; see `nkinetics.fitting.engine.minimise`. The answer is an `Optima`."""

    case: Case
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray | None = None
    tolerance: float = 1e-10
    iterations: int = 200
    enough: float | np.ndarray = -np.inf


@dataclass(frozen=True, eq=False)
class Look:
    """-ln L, gradient and curvature of a case at some points (points, parameters). The answer is a tuple of these."""

    case: Case
    points: np.ndarray


Answer = Any
T = TypeVar("T")
Steps = Generator[Search | Look, Answer, T]
"""A search that ends with a T."""

PROBLEMS = 20_000
"""Problems computed at once: bounds the memory."""


def alone(steps: Steps[T]) -> T:
    """The result of one search."""
    return together([steps])[0]


def together(searches: Sequence[Steps[T]]) -> list[T]:
    """The results of many searches, in their order."""
    results: dict[int, T] = {}
    waiting: dict[int, Search | Look] = {}
    pools: dict[Hashable, tuple[Pool, dict[int, int]]] = {}

    def on(i: int, answer: Answer) -> None:
        try:
            waiting[i] = searches[i].send(answer)
        except StopIteration as end:
            waiting.pop(i, None)
            results[i] = end.value

    for i in range(len(searches)):
        on(i, None)
    while waiting:
        groups: dict[tuple[bool, Hashable], list[int]] = {}
        for i, request in waiting.items():
            groups.setdefault((isinstance(request, Search), request.case.shape), []).append(i)
        for (_, shape), members in groups.items():
            requests = [waiting[i] for i in members]
            pool, place = _pool(pools, shape, [r.case for r in requests])
            searched = _searched(pool, place, [r for r in requests if isinstance(r, Search)])
            looked = _looked(pool, place, [r for r in requests if isinstance(r, Look)])
            for i, answer in zip(members, [*searched, *looked], strict=True):
                on(i, answer)
    return [results[i] for i in range(len(searches))]


def _pool(
    pools: dict[Hashable, tuple[Pool, dict[int, int]]], shape: Hashable, cases: Sequence[Case]
) -> tuple[Pool, dict[int, int]]:
    """The cases of one shape side by side, and the place of each; made again when one is new."""
    known = pools.get(shape)
    if known is None or any(id(case) not in known[1] for case in cases):
        distinct = {id(case): case for case in cases}
        known = Pool.of(list(distinct.values())), {name: i for i, name in enumerate(distinct)}
        pools[shape] = known
    return known


def _searched(pool: Pool, place: dict[int, int], requests: Sequence[Search]) -> list[Optima]:
    if not requests:
        return []
    sizes = [len(r.start) for r in requests]
    start = np.concatenate([r.start for r in requests])
    lower = np.concatenate([np.broadcast_to(r.lower, r.start.shape) for r in requests])
    upper = np.concatenate([np.broadcast_to(r.upper, r.start.shape) for r in requests])
    fixed = np.concatenate([np.zeros(r.start.shape, dtype=bool) if r.fixed is None else r.fixed for r in requests])
    which = np.repeat([place[id(r.case)] for r in requests], sizes)
    tolerance, iterations = (
        np.repeat([getattr(r, name) for r in requests], sizes) for name in ("tolerance", "iterations")
    )
    enough = np.concatenate([np.broadcast_to(r.enough, len(r.start)) for r in requests])
    parts = []
    for begin in range(0, len(start), PROBLEMS):
        own = slice(begin, begin + PROBLEMS)
        cases = which[own]
        parts.append(
            minimise(
                lambda x, active, cases=cases: pool.objective(x, cases[active]),  # type: ignore[misc]
                start[own],
                lower[own],
                upper[own],
                fixed[own],
                tolerance[own],
                iterations[own],
                enough[own],
            )
        )
    whole = [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Optima)]
    ends = np.cumsum(sizes)[:-1]
    return [Optima(*split) for split in zip(*(np.split(column, ends) for column in whole), strict=True)]


def _looked(pool: Pool, place: dict[int, int], requests: Sequence[Look]) -> list[tuple[np.ndarray, ...]]:
    if not requests:
        return []
    sizes = [len(r.points) for r in requests]
    points = np.concatenate([r.points for r in requests])
    which = np.repeat([place[id(r.case)] for r in requests], sizes)
    pieces = range(0, len(points), PROBLEMS)
    parts = [pool.objective(points[b : b + PROBLEMS], which[b : b + PROBLEMS]) for b in pieces]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    ends = np.cumsum(sizes)[:-1]
    return list(zip(*(np.split(column, ends) for column in whole), strict=True))


def information(case: Case, points: np.ndarray) -> Steps[np.ndarray]:
    """Observed information (points, p, p): central differences of the analytic gradient, all in one look."""
    n, p = points.shape
    step = 1e-4 * np.concatenate([np.eye(p), -np.eye(p)])
    _, slopes, _ = yield Look(case, (points[:, None, :] + step).reshape(-1, p))
    gradient = slopes.reshape(n, 2 * p, p)
    matrix = (gradient[:, :p] - gradient[:, p:]) / 2e-4
    return (matrix + matrix.transpose(0, 2, 1)) / 2.0
