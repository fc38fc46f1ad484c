"""One look for all figures: type, colours, axes, marks, and the way to bytes that never change.

Text stays text in SVG, nothing in a label is parsed as mathematics, no figure uses pyplot's global state.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from nkinetics.results import Context, Results
from nkinetics.wording import STATUS_CODES, Words, amount, power_of_ten, unit_name

if TYPE_CHECKING:
    from matplotlib.artist import Artist

INK, MUTED, FAINT, RULE = "#1d2733", "#5c6773", "#b9c1ca", "#e4e8ec"
WIDTH = 10.4
"""Width of a figure, inches: all figures share it, so that their type has one size on the page."""

PICTURE_DPI = 200
"""Dots per inch of what `as_pictures` draws; nothing else in an SVG depends on it."""

LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.4)), (0, (5, 1.4, 1, 1.4)), (0, (8, 2)))
MARKERS = ("o", "s", "D", "P", "X", "h", "p", "<", ">", "*")
ASSAY_MARKERS: Mapping[str, tuple[int, str]] = {"qpcr": (0, "o"), "ddpcr": (3, "D"), "flow": (2, "s")}
CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei")
CHINESE_FILES = re.compile(r"(?i)(noto ?sans ?(cjk|sc)|source ?han ?sans|wqy)[^/]*\.(otf|ttf|ttc)$")
BELOW = ("blq", "not_detected")
EACH_UP_TO = 300
"""In a panel of more lines than these, those of one look are one element."""
HEARD_UP_TO = 30
"""More patients than these are not told one by one to who hears a figure: dose levels are."""


@cache
def seaborn() -> ModuleType:
    """Seaborn, loaded without scipy.stats, which costs each start another half second.

    It takes scipy.stats for the densities of a KDE and has its own where there is none. No figure draws a density.
    """
    missing = "scipy.stats" not in sys.modules
    if missing:
        sys.modules["scipy.stats"] = None  # type: ignore[assignment]  # how Python says that there is no such module
    try:
        import seaborn
    finally:
        if missing:
            del sys.modules["scipy.stats"]
    return seaborn


@cache
def palette() -> tuple[str, ...]:
    """Colours that stay apart for colour-blind readers (seaborn's colorblind palette)."""
    return tuple(seaborn().color_palette("colorblind").as_hex())


@cache
def chinese_font() -> str:
    """A font with Chinese glyphs that this machine has; empty where there is none.

    The list of fonts that matplotlib keeps is as old as its first start: one installed since is looked for by its file.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    present = {entry.name for entry in fontManager.ttflist}
    if not present.intersection(CHINESE_FONTS):
        for path in sorted(findSystemFonts()):
            if CHINESE_FILES.search(path):
                fontManager.addfont(path)
        present = {entry.name for entry in fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in present), "")


def words_of(context: Context) -> Words:
    """The words of the figures: English where Chinese is asked for and no font of this machine can draw it."""
    return Words(context.language if context.language == "en" or chinese_font() else "en")


def drawable(context: Context) -> Context:
    """The context in the language of `words_of`: a name of an assay in Chinese could not be drawn either."""
    language = words_of(context).language
    if language == context.language:
        return context
    report = context.settings.report.model_copy(update={"language": language})
    return Context(context.settings.model_copy(update={"report": report}), context.version)


@contextmanager
def style(context: Context) -> Iterator[None]:
    """Draw and write inside this: the style holds here and nowhere else."""
    fonts = [*([chinese_font()] if context.language == "zh" and chinese_font() else []), "DejaVu Sans"]
    own = {
        **seaborn().axes_style("ticks"),
        "font.family": [fonts[-1], *fonts[:-1]],
        "font.size": 8,
        "axes.titlesize": 8.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.titley": 1.0,  # left to itself, each title measures all ticks first to stand there too
        "axes.labelsize": 8,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "lines.linewidth": 1.3,
        "lines.markersize": 4.2,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": 7.8,
        "figure.facecolor": "white",
        "svg.fonttype": "none",
        "svg.hashsalt": "nkinetics",
        "svg.image_inline": True,
    }
    # A font without the very weight asked for is no news for the reader of a log.
    finder = logging.getLogger("matplotlib.font_manager")
    before = finder.level
    finder.setLevel(logging.ERROR)
    with matplotlib.rc_context(own), warnings.catch_warnings():
        # An analyte or a patient may be named in a script that the font lacks; the SVG still carries the text.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        try:
            yield
        finally:
            finder.setLevel(before)


def tell(figure: Figure, told: Callable[[str], str]) -> None:
    """Say every text of a figure in its language: reasons come from the stages, in English."""
    from matplotlib.text import Text

    if told("no sample") == "no sample":
        return  # in English they are said already, and a search through every artist of a large figure takes seconds
    for artist in figure.findobj(Text):
        said = artist.get_text()
        if (other := told(said)) == said:
            continue
        if "\n" in said and "\n" not in other:
            # A Chinese character is about as wide as two Latin ones.
            other = textwrap.fill(other, max(6, int(0.6 * max(map(len, said.split("\n"))))))
        artist.set_text(other)


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panels(
    figure: Figure, rows: int, columns: int, box: tuple[float, float, float, float], gaps: tuple[float, float]
) -> np.ndarray:
    """A grid of axes placed in inches from the top left: box (left, top, right, bottom edges), gaps (across, down)."""
    width, height = figure.get_size_inches()
    left, top, right, bottom = box
    across, down = gaps
    panel_width = (right - left - across * (columns - 1)) / columns
    panel_height = (bottom - top - down * (rows - 1)) / rows
    axes = np.empty((rows, columns), dtype=object)
    for i in range(rows):
        for j in range(columns):
            x, y = left + j * (panel_width + across), top + i * (panel_height + down)
            axes[i, j] = figure.add_axes(
                (x / width, 1 - (y + panel_height) / height, panel_width / width, panel_height / height)
            )
    return axes


def heading(figure: Figure, x: float, y: float, text: str, size: float = 9.5, colour: str = INK) -> None:
    """A bold line of text, in inches from the top left."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, fontsize=size, fontweight="bold", color=colour, va="baseline")


def legend(figure: Figure, handles: Sequence[Artist], y: float, columns: int = 6, x: float = 0.0) -> None:
    """A legend outside the data, in inches from the top left."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(x / width, 1 - y / height),
        ncols=columns,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.5,
        handlelength=2.2,
        handletextpad=0.6,
    )


def key(label: str, **look: Any) -> Line2D:
    """One entry of a legend."""
    return Line2D([], [], label=label, **{"color": INK, "linestyle": "none", **look})


# ---------------------------------------------------------------------------------------------------------------- axes


def display(time: Any) -> Any:
    """Elapsed days as shown: study day, the start of the first infusion being day 1."""
    return np.asarray(time, dtype=float) + 1


def day_ticks(last: float, most: int = 8) -> list[float]:
    """Study days for the axis: 1, then multiples of a step that a calendar knows; never 0.

    Examples
    --------
    >>> day_ticks(56)
    [1.0, 14.0, 28.0, 42.0, 56.0]
    """
    steps = (1, 2, 7, 14, 28, 56, 84, 182, 364, 728, 1820, 3640)
    step = next((s for s in steps if last / s < most - 1), steps[-1])
    return [1.0, *(float(d) for d in range(step, int(last) + 1, step) if d > max(1, step / 3))]


def day_axis(axes: Axes, first: float, last: float, label: str = "", most: int = 8) -> None:
    """Study days from first to last (elapsed), a little air at both ends."""
    low, high = float(display(first)), float(display(last))
    air = 0.03 * (high - low) or 0.5
    axes.set_xlim(min(low, 1.0) - air, high + air)
    axes.xaxis.set_major_locator(FixedLocator(day_ticks(high, most)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    if label:
        axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float, most: int = 6) -> None:
    """A logarithmic axis in powers of ten from below `low` to above `high`."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    step = max(1, int(np.ceil((last - first + 1) / most)))
    axes.yaxis.set_major_locator(FixedLocator([10.0**k for k in range(first, last + 1, step)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power_of_ten(round(np.log10(y)))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")


def linear_axis(axes: Axes, high: float) -> None:
    """A linear axis from 0."""
    axes.set_ylim(-0.03 * high, 1.06 * high)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: amount(y)))
    axes.grid(axis="y")


def log_limits(*values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float]:
    """Limits that hold all positive values with a little air; 0.1 to 10 where there are none."""
    positive = np.concatenate([np.asarray(v, dtype=float) for v in values]) if values else np.array([])
    positive = positive[np.isfinite(positive) & (positive > 0)]
    if not positive.size:
        return 0.1, 10.0
    low, high = float(positive.min()) / 1.8, float(positive.max()) * 2.2
    # At least one power of ten on the axis, or it could not be read.
    while np.ceil(np.log10(low)) > np.floor(np.log10(high)):
        low, high = low / 2, high * 2
    return low, high


def bare(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Take the labels of shared ticks off inner panels."""
    axes.tick_params(labelbottom=not x, labelleft=not y)


def say_in(axes: Axes, text: str, width: int = 26) -> None:
    """Say in the panel why it is empty; its axes stay, as the panels beside and above read theirs there."""
    axes.grid(False)
    axes.set_facecolor("#f6f7f9")
    shown = "\n".join(textwrap.wrap(text, width, max_lines=6, placeholder=" …"))
    axes.text(
        0.5, 0.5, shown, transform=axes.transAxes, ha="center", va="center", fontsize=7.2, color=MUTED, style="italic"
    )


def note_in(axes: Axes, text: str) -> None:
    """Say in the panel what is missing from a panel that has data."""
    axes.text(
        0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=6.9, color=MUTED, style="italic"
    )


# --------------------------------------------------------------------------------------------------------------- marks


def reportable(results: Results, assay: str = "", specimen: str = "") -> pd.DataFrame:
    """Observations that are analysed, in order of time."""
    rows = results.table("observations")
    rows = rows[rows["reportable"].fillna(False).astype(bool) & rows["time_actual"].notna()]
    if assay:
        rows = rows[(rows["assay"] == assay) & (rows["specimen"] == specimen)]
    return rows.sort_values(["patient_id", "time_actual"], kind="stable")


def quantified(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a level."""
    return rows[(rows["status"] == "quantified") & (rows["level"] > 0)]


def below(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows below their LLOQ."""
    return rows[rows["status"].isin(BELOW) & (rows["lloq"] > 0)]


def lines_of(rows: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Days as shown and levels of each patient's quantified rows, in the order of the rows."""
    seen = quantified(rows)
    x, y = display(seen["time_actual"]), seen["level"].to_numpy(dtype=float)
    return {str(p): (x[at], y[at]) for p, at in seen.groupby("patient_id", sort=False).indices.items()}


def draw_each(
    axes: Axes,
    lines: Sequence[tuple[np.ndarray, np.ndarray]],
    marker: str = "",
    markersize: float = 2.4,
    panel: int = 0,
    **look: Any,
) -> None:
    """A line for each patient, all of one look: colour, linestyle, linewidth, zorder, perhaps alpha.

    In a panel of more than `EACH_UP_TO` (`panel`, where these are not all) they are one element and their marks
    another: ten thousand elements take their time one by one, and the panel becomes a picture anyway (`as_pictures`).
    """
    if max(panel, len(lines)) <= EACH_UP_TO:
        for x, y in lines:
            axes.plot(x, y, marker=marker, markersize=markersize, **look)
        return
    segments = [np.column_stack(line) for line in lines]
    axes.add_collection(LineCollection(segments, capstyle="round", joinstyle="round", **look), autolim=False)
    if marker:
        axes.plot(*np.concatenate(segments).T, marker=marker, markersize=markersize, **{**look, "linestyle": "none"})


def draw_below(axes: Axes, rows: pd.DataFrame, colour: str = MUTED, size: float = 4.2) -> None:
    """Rows below their LLOQ as open down-triangles at that LLOQ, above the ULOQ as open up-triangles at that."""
    low = below(rows)
    look: dict[str, Any] = {
        "linestyle": "none",
        "markerfacecolor": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
    }
    if len(low):
        axes.plot(display(low["time_actual"]), low["lloq"], marker="v", markersize=size, zorder=3, **look)
    high = rows[(rows["status"] == "above_uloq") & rows["uloq"].notna()]
    if len(high):
        axes.plot(display(high["time_actual"]), high["uloq"], marker="^", markersize=size, zorder=3, **look)


def draw_given(axes: Axes, results: Results, patient: str, *, letters: bool = True) -> None:
    """Infusions, cytokine doses, tocilizumab and steroids along the top of a panel."""
    across = axes.get_xaxis_transform()
    infusions = results.table("infusions")
    times = infusions.loc[infusions["patient_id"] == patient, "time"].dropna()
    look: dict[str, Any] = {"transform": across, "linestyle": "none", "clip_on": False, "zorder": 4}
    if len(times):
        axes.plot(display(times), np.full(len(times), 1.01), marker=7, markersize=4.5, color=INK, **look)
    cytokines = results.table("cytokines")
    pulses = cytokines.loc[cytokines["patient_id"] == patient, "time"].dropna()
    if len(pulses):
        axes.plot(
            display(pulses),
            np.full(len(pulses), 0.955),
            marker="|",
            markersize=4.5,
            markeredgewidth=1.1,
            color=palette()[3],
            **look,
        )
    events = results.table("events")
    own = events[(events["patient_id"] == patient) & events["time"].notna()]
    for event, letter in (("tocilizumab", "T"), ("steroid", "S")):
        for time in own.loc[own["event"] == event, "time"]:
            axes.axvline(float(display(time)), color=MUTED, linewidth=0.7, linestyle=(0, (1, 1.2)), zorder=1)
            if letters:
                place = 0.84 if letter == "T" else 0.72
                axes.text(
                    float(display(time)),
                    place,
                    letter,
                    transform=across,
                    fontsize=6.9,
                    ha="center",
                    va="center",
                    bbox={"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": MUTED, "linewidth": 0.6},
                )


def given_keys(results: Results, words: Words) -> list[Line2D]:
    """Legend entries of what `draw_given` draws, as far as the study has it."""
    keys = []
    if results.table("infusions")["time"].notna().any():
        keys.append(key(words.say("infusion", "输注"), marker="v", markersize=5))
    cytokines = results.table("cytokines")
    if len(cytokines):
        agents = words.join(sorted(cytokines["agent"].unique()))
        keys.append(key(agents, marker="|", markersize=6, markeredgewidth=1.1, color=palette()[3]))
    kinds = set(results.table("events")["event"])
    circle = {"markerfacecolor": "white", "markeredgecolor": MUTED, "markeredgewidth": 0.6}
    for event, letter, name in (
        ("tocilizumab", "T", words.say("tocilizumab (T)", "托珠单抗 (T)")),
        ("steroid", "S", words.say("steroid (S)", "激素 (S)")),
    ):
        if event in kinds:
            keys.append(
                key(name, marker="o", markersize=6.5, linestyle=(0, (1, 1.2)), color=MUTED, linewidth=0.7, **circle)
            )
            del letter
    return keys


def below_key(words: Words) -> Line2D:
    """Legend entry of results below their LLOQ."""
    return key(
        words.say("below LLOQ (at its LLOQ)", "低于定量下限（标于该下限）"),
        marker="v",
        markerfacecolor="white",
        markeredgecolor=MUTED,
        markeredgewidth=0.9,
    )


def dose_look(results: Results) -> dict[str, tuple[str, Any]]:
    """Colour and line type of each dose level."""
    levels = sorted(results.patients["dose_level"].unique())
    colours = [palette()[i] for i in (0, 3, 2, 4, 5, 7, 9, 1)]
    return {d: (colours[i % len(colours)], LINE_STYLES[i % len(LINE_STYLES)]) for i, d in enumerate(levels)}


def assay_look(assay: str) -> tuple[str, str]:
    """Colour and marker of an assay."""
    index, marker = ASSAY_MARKERS.get(assay, (4, "h"))
    return palette()[index], marker


def day_label(words: Words) -> str:
    """Name of the time axis."""
    return words.say("Study day (first infusion = day 1)", "研究日（首次输注 = 第 1 天）")


def level_label(words: Words, unit: str) -> str:
    """Name of the level axis with the unit."""
    return f"{words.say('Level', '水平')} ({unit_name(unit)})"


def last_time(results: Results) -> float:
    """Last elapsed time with a result, at least one day."""
    times = _times(results)
    return max(1.0, float(times.max())) if len(times) else 1.0


def first_time(results: Results) -> float:
    """First elapsed time with a result, 0 at the latest."""
    times = _times(results)
    return min(0.0, float(times.min())) if len(times) else 0.0


def _times(results: Results) -> pd.Series:
    rows = results.table("observations")
    return rows["time_actual"][rows["reportable"].fillna(False).astype(bool)].dropna()


def marks_footnote(words: Words) -> str:
    """What the marks stand for, in words: the figures are read without colours too."""
    codes = ", ".join(sorted({STATUS_CODES[s] for s in BELOW}))
    return words.say(
        f"Open down-triangle: result below the LLOQ or not detected ({codes}), "
        "drawn at the LLOQ of that sample. Study day = days "
        "elapsed from the start of the first infusion + 1; there is no day 0. Actual sampling times.",
        f"空心下三角：低于定量下限或未检出（{codes}），绘于该样本的定量下限处。研究日 = "
        "首次输注开始后的天数 + 1，无第 0 天。采用实际采样时间。",
    )


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.062) -> None:
    """Name lines at their last point (x, y, text, colour), moved apart where they would overprint."""
    placed: list[tuple[float, float]] = []
    across = axes.transData + axes.transAxes.inverted()
    for x, y, text, colour in sorted(ends, key=lambda end: (-end[1], end[2])):
        u, v = (float(c) for c in across.transform((x, y)))
        step = -0.01
        while v < 0.03 or any(abs(u - a) < 0.11 and abs(v - b) < gap for a, b in placed):
            # Down as far as the axis, then the other way.
            v, step = (0.03, 0.01) if v < 0.03 else (v + step, step)
        placed.append((u, v))
        axes.text(
            u + 0.015,
            v,
            text,
            transform=axes.transAxes,
            color=colour,
            fontsize=7,
            fontweight="bold",
            va="center",
            clip_on=False,
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
        )


# --------------------------------------------------------------------------------------------------------------- bytes


def notice(text: str) -> Figure:
    """A small figure that says why the figure cannot be made."""
    figure = canvas(1.2)
    figure.text(0.5, 0.5, "\n".join(textwrap.wrap(text, 110)), ha="center", va="center", color=MUTED, style="italic")
    return figure


def as_pictures(figure: Figure, most: int) -> None:
    """Draw the points and lines of crowded panels as pictures: a hundred thousand marks would each be an element.

    Parameters
    ----------
    most : int
        Points up to which a panel stays as it is.
    """
    for axes in figure.axes:
        sizes: list[tuple[Artist, int]] = [(line, len(np.asarray(line.get_xydata()))) for line in axes.lines]
        for each in axes.collections:
            points = sum(len(np.asarray(path.vertices)) for path in each.get_paths())
            sizes.append((each, max(len(np.asarray(each.get_offsets())), points)))
        if sum(n for _, n in sizes) > most:
            for artist, n in sizes:
                artist.set_rasterized(n > 2)  # rules across the panel stay lines


def cuts(figure: Figure) -> list[float]:
    """Heights at which a horizontal cut parts the figure and crosses nothing, in points from the top.

    A heading stays with the panels under it, a table of numbers with the panel above it, another text with the nearer
    ones, a panel with the one whose axis it shares (`over`); of a panel taller than a page only its rules and axes
    may be cut.
    """
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    total, point = figure.get_figheight() * figure.dpi, 72 / figure.dpi
    spans: list[tuple[float, float]] = []
    strips: list[tuple[float, float]] = []
    lower: list[float] = []
    for axes in figure.axes:
        # A line without points would reach to the corner of the figure.
        lines = [line for line in axes.lines if np.size(line.get_xydata())]
        others = [artist for artist in axes.get_default_bbox_extra_artists() if artist not in axes.lines]
        box = axes.get_tightbbox(renderer, bbox_extra_artists=[*others, *lines])
        if box is None:
            continue
        if axes.texts and not any(spine.get_visible() for spine in axes.spines.values()):
            strips.append((box.y0, box.y1))
        tall = axes.get_window_extent(renderer).height * point > TALL_PANEL
        spans += _rows_of(axes, renderer) if tall else [(box.y0, box.y1)]
        lower += [box.y0] if axes.get_label() == OVER else []
    # Numbers under a panel, as of those at risk, belong to it.
    for bottom, top in strips:
        panels = [b for b, t in spans if b >= top - 1 and (b, t) not in strips]
        spans += [(bottom, min(panels) + 1)] if panels else []
    spans += [(max([t for _, t in spans if t <= low + 1], default=low) - 1, low) for low in lower]
    boxes = list(spans)
    waiting = sorted(
        {(b.y0, b.y1, bold) for b, bold in ((t.get_window_extent(renderer), _bold(t)) for t in figure.texts)}
    )
    while waiting:
        # The nearest first: a line of a heading stands by the line under it, not by a panel further up.
        gaps = [_gap(boxes, low, high, heading) for low, high, heading in waiting]
        nearest = min(range(len(waiting)), key=lambda i: gaps[i][0])
        low, high, _ = waiting.pop(nearest)
        _, below, above = gaps[nearest]
        spans.append((max(below - 1, 0.0), high) if below > -np.inf else (low, min(above + 1, total)))
        boxes.append((low, high))
    spans += [(box.y0, box.y1) for box in (legend.get_window_extent(renderer) for legend in figure.legends)]
    found, lowest = [], total
    for bottom, top in sorted(spans, key=lambda span: -span[1]):
        if lowest < total and lowest - top > 2 / point:
            found.append(round((total - (lowest + top) / 2) * point, 1))
        lowest = min(lowest, bottom)
    return found


def _rows_of(axes: Axes, renderer: Any) -> list[tuple[float, float]]:
    """Heights that the marks and words of a tall panel take up; its axes and what runs across it are left out."""
    whole = axes.get_window_extent(renderer)
    shown = [*axes.lines, *axes.texts, *axes.collections, *axes.patches, *axes.get_yticklabels()]
    boxes = [artist.get_window_extent(renderer) for artist in shown if artist.get_visible()]
    boxes += [label.get_window_extent(renderer) for label in axes.get_xticklabels() if label.get_text()]
    return [(b.y0 - 2, b.y1 + 2) for b in boxes if np.isfinite([b.y0, b.y1]).all() and 0 < b.height < whole.height / 2]


def _bold(text: Text) -> bool:
    return text.get_fontweight() == "bold"


def _gap(boxes: Iterable[tuple[float, float]], low: float, high: float, heading: bool) -> tuple[float, float, float]:
    """How far a text is from its neighbour; the top of that below or the bottom of that above, the other infinite.

    A heading takes what is under it, whatever is nearer.
    """
    below = max((t for _, t in boxes if t <= low + 1), default=-np.inf)
    above = min((b for b, _ in boxes if b >= high - 1), default=np.inf)
    if heading or low - below <= above - high:
        return low - below, below, np.inf
    return above - high, -np.inf, above


OVER = "over"
"""Label of a panel that reads its horizontal axis at the panel under it; never shown."""


def over(*axes: Axes) -> None:
    """Say of panels that they read their horizontal axis at the panel under them: no page parts the two."""
    for one in axes:
        one.set_label(OVER)


TALL_PANEL = 420.0
"""Height of a panel that no page holds at its full width, points."""


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, 300 dots per inch."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=300, metadata={"Software": None})
    return target.getvalue()


def svg_text(figure: Figure, prefix: str, title: str, description: str) -> str:
    """The figure as SVG that can stand inside an HTML page: own ids, own style, title and description, no prolog.

    Parameters
    ----------
    prefix : str
        Put before every id, so that several figures can share a page.
    title, description : str
        For readers who do not see the figure.
    """
    target = io.StringIO()
    figure.savefig(
        target, format="svg", dpi=PICTURE_DPI, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r'((?:xlink:)?href)="#([^"]+)"', rf'\1="#{prefix}\2"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    text = re.sub(r'\b(d|x|y|points|transform|width|height)="([^"]*)"', _shortened, text)
    text = _plainer(_shorter_marks(text, prefix))
    # Browsers without the font need one of its width, not their default serif.
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, 'Noto Sans', sans-serif")
    # The rule that matplotlib writes for everything would reach the whole page.
    text = _with_classes(text.replace("*{stroke-linejoin", f"#{prefix}svg *{{stroke-linejoin", 1), prefix)
    labelled = f'<svg id="{prefix}svg" role="img" aria-labelledby="{prefix}title {prefix}desc"'
    head = f'<title id="{prefix}title">{escape(title)}</title><desc id="{prefix}desc">{escape(description)}</desc>'
    text = text.replace("<svg", labelled, 1)
    opening = text.index(">") + 1
    return f"{text[:opening]}\n {head}{text[opening:]}"


def _shortened(match: re.Match[str]) -> str:
    """Coordinates with 2 decimals of a point: finer than any printer, half the bytes."""
    values = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), match[2])
    return f'{match[1]}="{values}"'


def _plainer(text: str) -> str:
    """Without ids that nothing refers to, turns by 0 degrees, and blanks inside paths: a fifth of the bytes."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", text)
    text = re.sub(r' d="([^"]*)"', lambda match: f' d="{_PATH.sub(chr(92) + "1", match[1]).strip()}"', text)
    return _without_bare_groups(text)


def _without_bare_groups(text: str) -> str:
    """Groups without an attribute change nothing: their tags go, what they hold stays."""
    kept: list[str] = []
    bare: list[bool] = []
    place = 0
    for tag in _GROUP.finditer(text):
        opening = not tag[0].startswith("</")
        empty = tag[0] == "<g>" if opening else bare.pop()
        if opening:
            bare.append(empty)
        kept.append(text[place : tag.start() if empty else tag.end()])
        place = tag.end()
    return re.sub(r"\n\s*\n", "\n", "".join(kept) + text[place:])


def _with_classes(text: str, prefix: str) -> str:
    """Looks that several elements share become rules of the figure's own style: they are two fifths of the bytes.

    What another element calls by its id keeps its look with it: no rule of the figure reaches into the copies.
    """
    counts = Counter(match[2] for match in _LOOK.finditer(text))
    # Short looks are cheaper where they stand; the order of first use names the classes, so that bytes do not change.
    shared = [look for look, n in counts.items() if n > 1 and (n - 1) * (len(look) - 6) > len(prefix) + 20]
    names = {look: f"s{i}" for i, look in enumerate(shared)}
    text = _LOOK.sub(lambda m: f'{m[1]} class="{names[m[2]]}"' if m[2] in names else m[0], text)
    rules = "\n".join(f"#{prefix}svg .{name}{{{look}}}" for look, name in names.items())
    return text.replace("</style>", f"\n{rules}</style>", 1)


_GROUP = re.compile(r"</?g\b[^>]*(?<!/)>")
_PATH = re.compile(r"\s*([MLCQZ])\s*")
_MARKS = re.compile(r"<g( clip-path=\"[^\"]*\")?>\n((?:\s*<use [^>]*/>\n)+)\s*</g>")
_STYLE = re.compile(r' style="([^"]*)"')
_LOOK = re.compile(r'(<\w+(?! id=)(?: (?!id=|style=)[\w:-]+="[^"]*")*) style="([^"]*)"')


def _shorter_marks(text: str, prefix: str) -> str:
    """Marks of one line share their look: say it once for all of them, and call their shape by a short name.

    A study of ten thousand samples has that many marks in each figure.
    """

    def once(match: re.Match[str]) -> str:
        looks = set(_STYLE.findall(match[2]))
        if len(looks) != 1:
            return match[0]
        marks = re.sub(r"\s*\n\s*", "\n", _STYLE.sub("", match[2]))
        return f'<g{match[1] or ""} style="{looks.pop()}">{marks}</g>'

    text = _MARKS.sub(once, text)
    shapes = dict.fromkeys(re.findall(rf'href="#({re.escape(prefix)}m[0-9a-f]{{10}})"', text))
    short = {shape: f"{prefix}{i}" for i, shape in enumerate(shapes)}
    return re.sub(rf'({re.escape(prefix)}m[0-9a-f]{{10}})"', lambda match: f'{short.get(match[1], match[1])}"', text)
