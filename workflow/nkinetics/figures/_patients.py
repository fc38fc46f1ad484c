"""Which patients a figure draws that gives each one a panel or a line: all of a few, of many an even choice."""

from __future__ import annotations

import numpy as np

from nkinetics.figures._style import quantified, reportable
from nkinetics.results import Context, Results
from nkinetics.wording import Words, profiles


def drawn(results: Results, context: Context) -> Results:
    """The results of the patients that are drawn one by one; all of them up to `report.figure_patients`.

    Of more, each dose level gets its share (one patient at least), taken at even steps from the patients in order of
    their highest level: the lowest and the highest are drawn, and those without a quantified level count as lowest.
    """
    most, patients = context.settings.report.figure_patients, results.patients
    if len(patients) <= most:
        return results
    kinds = profiles(results)
    rows = quantified(reportable(results, *map(str, kinds.iloc[0][["assay", "specimen"]]))) if len(kinds) else None
    highest = rows.groupby("patient_id")["level"].max() if rows is not None else {}
    ranked = patients.assign(_peak=[float(highest.get(p, -1.0)) for p in patients["patient_id"]])
    ranked = ranked.sort_values(["_peak", "patient_id"], kind="stable")
    chosen: list[str] = []
    levels = list(patients["dose_level"].value_counts(sort=False).sort_index().items())
    shares = dealt([n for _, n in levels], most)
    for (level, _), share in zip(levels, shares, strict=True):
        own = list(ranked.loc[ranked["dose_level"] == level, "patient_id"])
        chosen += [own[i] for i in even_steps(len(own), share)]
    return results.of(chosen)


def dealt(sizes: list[int], most: int) -> list[int]:
    """Places for groups of these sizes: in proportion, one at least, the largest remainders first.

    Examples
    --------
    >>> dealt([600, 399], 40), dealt([997, 1, 1], 5)
    ([24, 16], [3, 1, 1])
    """
    total = sum(sizes)
    exact = [most * n / total for n in sizes]
    places = [max(1, int(x)) for x in exact]
    order = sorted(range(len(sizes)), key=lambda i: (int(exact[i]) - exact[i], i))
    for i in order:
        if sum(places) < most and places[i] < sizes[i]:
            places[i] += 1
    while sum(places) > most and max(places) > 1:  # the one at least of small groups
        places[places.index(max(places))] -= 1
    return places


def even_steps(n: int, count: int) -> list[int]:
    """So many different places among n, the first and the last included where there are two or more.

    Examples
    --------
    >>> even_steps(10, 4), even_steps(3, 5), even_steps(7, 1)
    ([0, 3, 6, 9], [0, 1, 2], [3])
    """
    if count >= n:
        return list(range(n))
    if count == 1:
        return [n // 2]
    return [int(i) for i in np.linspace(0, n - 1, count) + 1e-9]


def chosen_note(results: Results, words: Words) -> str:
    """How the patients of a figure were chosen; empty where all are drawn."""
    if results.whole is None:
        return ""
    n, total = len(results.patients), len(results.whole.patients)
    return words.say(
        f"{n} of {total} patients drawn: of each dose level its share, at even steps from the lowest highest level to "
        "the highest (without a quantified level counts as lowest). All patients stand in the tables and listings; "
        "`report.figure_patients` sets the number.",
        f"绘出 {total} 例患者中的 {n} 例：各剂量水平按比例，依各患者最高水平由低到高等距选取"
        "（无可定量水平者计为最低）。全部患者见表格与清单；数目由 `report.figure_patients` 设定。",
    )
