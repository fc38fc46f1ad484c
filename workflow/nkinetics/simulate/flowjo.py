"""Flow cytometry as FlowJo's table editor exports it: one row per tube, a column per gate and statistic.

The first header is empty and every line ends with a comma; `Mean` and `SD` close the table; a frequency is printed with
its percent sign. Gate names are what the operator typed and may differ from day to day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nkinetics.simulate.assays import Acquisition


def export(tubes: Sequence[Acquisition], live: str = "Live") -> bytes:
    """A table of tubes as csv.

    Parameters
    ----------
    tubes : sequence of Acquisition
        In the order of acquisition.
    live : str
        What the operator called the gate of the live cells.
    """
    path = "Lymphocytes"
    gates = [path, f"{path}/Single Cells", f"{path}/Single Cells/{live}", f"{path}/Single Cells/{live}/CD3-CD56+",
             f"{path}/Single Cells/{live}/CD3-CD56+/CAR+"]  # fmt: skip
    counts = np.array([[t.lymphocytes, t.singlets, t.live, t.nk, t.car] for t in tubes], dtype=float)
    parent = 100 * counts[:, 4] / np.maximum(counts[:, 3], 1)
    header = [f"{gate} | Count" for gate in gates] + [f"{gates[-1]} | Freq. of Parent"]
    lines = [["", *header, ""]]
    for tube, numbers, share in zip(tubes, counts, parent, strict=True):
        lines.append([f"{tube.sample}.fcs", *(f"{n:.0f}" for n in numbers), f"{share:#.3g} %", ""])
    for name, summary in (("Mean", np.mean), ("SD", lambda v: np.std(v, ddof=1))):
        lines.append([name, *(f"{summary(column):.4g}" for column in counts.T), f"{summary(parent):#.3g} %", ""])
    return ("\n".join(",".join(line) for line in lines) + "\n").encode("utf-8")
