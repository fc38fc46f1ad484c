"""Clinical events drawn as bars with a letter and the grade, in layers, so that no two overprint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nkinetics.figures._style import INK, display, key, last_time, palette
from nkinetics.results import Results
from nkinetics.wording import Words, missing

EVENT_MARKS = {"crs": ("C", 1), "icans": ("N", 4), "infection": ("I", 2), "tocilizumab": ("T", 9), "steroid": ("S", 5)}
"""Letter and colour (of the palette) of each kind of event."""


def lanes_of(
    results: Results, width: Callable[[float], float] | None = None, also: Sequence[str] = ()
) -> dict[str, list[list[Any]]]:
    """Events of each patient in layers.

    Parameters
    ----------
    width : callable, optional
        The time that a letter takes up at a time [d]; by default a share of the time with results.
    also : sequence of str
        Kinds of event besides those of `EVENT_MARKS`.
    """
    events, share = results.table("events"), 0.045 * last_time(results)
    room = width or (lambda time: share)
    shown = events[events["event"].isin((*EVENT_MARKS, *also)) & events["time"].notna()]
    shown = shown.sort_values(["time", "event"])
    found: dict[str, list[list[Any]]] = {p: [] for p in results.patients["patient_id"]}
    for event in shown.itertuples():
        layers = found.setdefault(str(event.patient_id), [])
        free = next((layer for layer in layers if _until(layer[-1], room) <= event.time), None)
        if free is None:
            layers.append(free := [])
        free.append(event)
    return found


def _until(event: Any, room: Callable[[float], float]) -> float:
    """Until when the mark of an event takes up room: its end, or the end of its letters."""
    return max(event.time + room(event.time), event.time if missing(event.time_end) else float(event.time_end))


def draw_event(axes: Axes, y: float, event: Any) -> None:
    """One event at a height: a bar from its start to its end, with its letter and grade at the start."""
    letter, colour = EVENT_MARKS[str(event.event)]
    start = float(display(event.time))
    end = start if missing(event.time_end) else float(display(event.time_end))
    low, high = axes.get_xlim()
    end = max(end, start + 0.008 * (high - low))
    axes.plot([start, end], [y, y], color=palette()[colour], linewidth=6.5, solid_capstyle="butt", alpha=0.6, zorder=2)
    text = letter + ("" if missing(event.grade) else str(event.grade))
    axes.text(
        start + 0.004 * (high - low),
        y,
        text,
        fontsize=6.9,
        fontweight="bold",
        ha="left",
        va="center",
        color=INK,
        zorder=5,
    )


def event_keys(results: Results, words: Words) -> list[Line2D]:
    """Legend entries of the kinds of event that the study has."""
    said = {
        "crs": words.say("CRS, grade", "CRS 级别"),
        "icans": words.say("ICANS, grade", "ICANS 级别"),
        "infection": words.say("infection, grade", "感染级别"),
        "tocilizumab": words.say("tocilizumab", "托珠单抗"),
        "steroid": words.say("steroid", "激素"),
    }
    keys, present = [], set(results.table("events")["event"])
    for event, (letter, colour) in EVENT_MARKS.items():
        if event in present:
            keys.append(
                key(
                    f"{letter} {said[event]}",
                    color=palette()[colour],
                    linestyle="-",
                    linewidth=4,
                    solid_capstyle="butt",
                )
            )
    return keys
