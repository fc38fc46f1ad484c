"""What was planned to be given, and which actual dose answers which planned one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd

from nkinetics.results import Context, Results
from nkinetics.wording import Words, days, dose_levels, missing

NEAR_A_DAY = 0.2
"""A median so near a whole day is that day: it is planned in days and given within hours."""

LONE_DOSE = 3.0
"""Days within which an actual dose answers the only planned one."""


@dataclass(frozen=True)
class Plan:
    """The schedule of a dose level.

    Parameters
    ----------
    infusions : mapping of int to float
        Planned day of each infusion by its number [d].
    cytokines : mapping of str to tuple of float
        Planned days of the doses of each agent [d].
    configured : bool
        As the configuration says; else what most patients have.
    """

    infusions: Mapping[int, float] = field(default_factory=dict)
    cytokines: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    configured: bool = False

    def matched(self, agent: str, times: Sequence[float]) -> tuple[list[float | None], list[float]]:
        """The planned day that each actual dose answers, and the planned days that none does.

        Doses and days are paired from the nearest pair on, each once, and never farther apart than the longest gap of
        the schedule: a dose left out does not make all later ones late, nor does one given weeks later stand for it.

        Examples
        --------
        >>> Plan(cytokines={"IL-2": (0.0, 3.0, 6.0, 9.0)}).matched("IL-2", [0.1, 3.1, 9.0])
        ([0.0, 3.0, 9.0], [6.0])
        """
        planned = self.cytokines.get(agent, ())
        farthest = max((b - a for a, b in pairwise(planned)), default=LONE_DOSE)
        pairs = sorted(
            (abs(time - day), i, k)
            for i, time in enumerate(times)
            for k, day in enumerate(planned)
            if not missing(time) and abs(time - day) <= farthest
        )
        of: dict[int, int] = {}
        for _, i, k in pairs:
            if i not in of and k not in of.values():
                of[i] = k
        answered = [planned[of[i]] if i in of else None for i in range(len(times))]
        return answered, [day for k, day in enumerate(planned) if k not in of.values()]

    def words(self, words: Words) -> str:
        """The schedule in words."""
        parts = [words.say("infusions ", "输注 ") + (words.join(days(d) for d in self.infusions.values()) or "–")]
        parts += [f"{agent} {words.join(days(d) for d in times)}" for agent, times in sorted(self.cytokines.items())]
        how = (
            words.say("as configured", "按配置")
            if self.configured
            else words.say("as more than half of the patients have them", "按半数以上患者所有者")
        )
        return words.say("; ", "；").join(parts) + words.say(f" ({how})", f"（{how}）")


def plans(results: Results, context: Context) -> dict[str, Plan]:
    """The schedule of each dose level: the configured one, else what more than half of its patients have."""
    protocol = context.settings.report.protocol
    infusions, cytokines, found = results.table("infusions"), results.table("cytokines"), {}
    for dose_level in dose_levels(results):
        ids = set(results.patients.loc[results.patients["dose_level"] == dose_level, "patient_id"])
        own, doses = infusions[infusions["patient_id"].isin(ids)], cytokines[cytokines["patient_id"].isin(ids)]
        first = dict(enumerate(protocol.infusions, start=1))
        agents = dict(protocol.cytokines) or {
            str(agent): _common_days(rows.sort_values(["patient_id", "time"]), len(ids))
            for agent, rows in doses.groupby("agent")
        }
        found[dose_level] = Plan(
            infusions=first or _common(own, len(ids)),
            cytokines={agent: times for agent, times in agents.items() if times},
            configured=bool(protocol.infusions or protocol.cytokines),
        )
    return found


def schedule_words(schedule: Mapping[str, Plan], words: Words) -> str:
    """The schedules in words, dose levels of the same one together."""
    said: dict[str, list[str]] = {}
    for dose_level, plan in schedule.items():
        said.setdefault(plan.words(words), []).append(dose_level)
    told = (words.colon(words.join(levels), text) for text, levels in said.items())
    return words.say("; ", "；").join(told)


def _common(infusions: pd.DataFrame, n: int) -> dict[int, float]:
    timed = infusions[infusions["time"].notna()]
    return {
        int(str(number)): _whole(float(rows["time"].median()))
        for number, rows in timed.groupby("infusion")
        if rows["patient_id"].nunique() > n / 2
    }


def _common_days(doses: pd.DataFrame, n: int) -> tuple[float, ...]:
    """Days (whole ones, where doses lie near them) on which more than half of the patients had the agent."""
    timed = doses[doses["time"].notna()]
    day = timed["time"].round()
    found = []
    for _, rows in timed.groupby(day):
        if rows["patient_id"].nunique() > n / 2:
            found.append(_whole(float(rows["time"].median())))
    return tuple(sorted(set(found)))


def _whole(value: float) -> float:
    """A day; the whole one where it is near.

    Examples
    --------
    >>> _whole(3.02), _whole(3.4)
    (3.0, 3.4)
    """
    return float(round(value)) if abs(value - round(value)) <= NEAR_A_DAY else round(value, 2)
