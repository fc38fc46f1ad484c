"""A profile drawn with characters, for a terminal: level on a log scale over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nkinetics.wording import significant

WIDTH, HEIGHT = 64, 12


def semilog(points: Sequence[tuple[float, float, float, bool]], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Lines of a plot; none where fewer than three levels would stand in it.

    Parameters
    ----------
    points : sequence of (time, level, lloq, used)
        A result without a level (NaN) is drawn as v at its LLOQ. Used levels are filled, others open.
    width, height : int
        Size of the area in characters.

    Examples
    --------
    >>> for line in semilog([(0, 1.0, 1, True), (1, 100.0, 1, True), (2, 10.0, 1, False)], 9, 3):
    ...     print(line)
         100 |    ●
        10.0 |        ○
        1.00 |●
             +---------
              0       2  d    ● used  ○ not used  v below the LLOQ, at it
    """
    marks = [
        (t, level if level > 0 else lloq, ("●" if used else "○") if level > 0 else "v")
        for t, level, lloq, used in points
        if level > 0 or lloq > 0
    ]
    if sum(mark != "v" for _, _, mark in marks) < 3:
        return []
    t0, t1 = min(t for t, _, _ in marks), max(t for t, _, _ in marks)
    low, high = (math.log10(f(y for _, y, _ in marks)) for f in (min, max))
    if t1 == t0 or high == low:
        return []
    grid = [[" "] * width for _ in range(height)]
    # Levels last, so that a mark below the LLOQ never hides one.
    for t, y, mark in sorted(marks, key=lambda m: (m[2] != "v", m[2] == "●")):
        column = round((t - t0) / (t1 - t0) * (width - 1))
        line = round((high - math.log10(y)) / (high - low) * (height - 1))
        grid[line][column] = mark
    labels = {0: high, height // 2: high - (height // 2) / (height - 1) * (high - low), height - 1: low}
    out = []
    for k, cells in enumerate(grid):
        label = significant(10 ** labels[k]) if k in labels else ""
        out.append(f"{label:>8} |{''.join(cells)}".rstrip())
    out.append(" " * 9 + "+" + "-" * width)
    left, right = f"{t0:.4g}", f"{t1:.4g}"
    axis = left + right.rjust(width - len(left))
    out.append(" " * 10 + f"{axis}  d    ● used  ○ not used  v below the LLOQ, at it")
    return out
