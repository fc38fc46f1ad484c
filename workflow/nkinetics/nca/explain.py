"""How one number of nca.csv was made: the samples used with their wells, the rules, the arithmetic step by step."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from nkinetics import nca
from nkinetics.blq import positions
from nkinetics.errors import raise_any
from nkinetics.explaining import Step, step_line, unknown
from nkinetics.nca.arithmetic import AREAS, BOTH, FITS, LEVELS, LOSSES, Row, available, steps
from nkinetics.nca.curves import Curves
from nkinetics.nca.parameters import BY_NAME, PARAMETERS, UNITS, Values
from nkinetics.nca.profiles import ABOVE, BLQ, NONE, QUANTIFIED, Profiles, batches, profiles
from nkinetics.nca.reasons import texts
from nkinetics.nca.textplot import semilog
from nkinetics.settings import Blq, Nca
from nkinetics.wording import ASSAY_ORDER, STATUS_CODES

WORDS: Mapping[str, str] = {
    "linear_up_log_down": "linear where the level rises, logarithmic where it falls",
    "linear": "linear everywhere",
    "linear_log": "linear to the highest level, logarithmic after it",
    "zero": "0",
    "drop": "left out",
    "lloq": "the LLOQ",
    "half_lloq": "half the LLOQ",
}
"""Choices of the configuration, in words."""

_AREAS, _FITS = ({f.__name__ for f in group} for group in ((*AREAS, *BOTH), (*FITS, *BOTH)))
_LEVELS, _LOSSES = ({f.__name__ for f in group} for group in (LEVELS, LOSSES))


@dataclass(frozen=True)
class Point:
    """One result of the patient in the assay, used or not.

    Parameters
    ----------
    observation_id, sample_id : str
        As in observations.csv.
    time : float [d]
        Study day from the first infusion; NaN where it is not known.
    level, lloq : float
        NaN where there is none.
    shown : str
        The result as printed: a level, or BLQ, ND, ALQ, MISS.
    analysed : bool
        It is reportable and has a time, whether or not it lies in the window.
    used : bool
        It entered the value.
    why : str
        What it was used as, or why it was not.
    sources : tuple of str
        Rows and wells of the exports behind it.
    """

    observation_id: str
    sample_id: str
    time: float
    level: float
    lloq: float
    shown: str
    analysed: bool
    used: bool
    why: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """How one value was made.

    Parameters
    ----------
    patient_id, assay, specimen, window, parameter : str
        Key in nca.csv.
    code, label, definition : str
        CDISC or sponsor code, name, and what the parameter is.
    value : float
        Missing with a reason.
    unit, reason : str
        As in nca.csv.
    clock : str
        What times count from.
    points : tuple of Point
        All results of the patient in this assay, in order of time.
    rules : tuple of str
        Choices of the configuration that applied.
    steps : tuple of Step
        The arithmetic; the last step with a symbol is the value.
    """

    patient_id: str
    assay: str
    specimen: str
    window: str
    parameter: str
    code: str
    label: str
    definition: str
    value: float
    unit: str
    reason: str
    clock: str
    points: tuple[Point, ...]
    rules: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def result(self) -> str:
        """The value as it stands in nca.csv with its unit, or that there is none."""
        return "none" if math.isnan(self.value) else f"{self.value + 0.0:.10g} {self.unit}".strip()

    def arithmetic(self) -> list[str]:
        """The steps as lines of text."""
        return [step_line(step) for step in self.steps]

    def lines(self, width: int = 100) -> list[str]:
        """Everything as text for a terminal."""
        head = f"Patient {self.patient_id}, {self.assay}, {self.specimen}, window {self.window}"
        out = [head, f"{self.parameter} ({self.code}) = {self.result}", f"{self.label}. {self.definition}"]
        out += [f"Reason: {self.reason}"] if self.reason else []
        if self.points:
            out += ["", f"Samples ({self.clock})", *_table(self.points)]
        if self.rules:
            out += ["", "Rules", *(f"  {rule}" for rule in self.rules)]
        if self.steps:
            out += ["", "Arithmetic"]
            for line in self.arithmetic():
                out += textwrap.wrap(
                    line, width, initial_indent="  ", subsequent_indent="      ", break_long_words=False
                )
        plot = semilog([(p.time, p.level, p.lloq, p.used) for p in self.points if p.analysed])
        if plot:
            out += ["", "Profile (log scale)", *plot]
        return out


def _table(points: Iterable[Point]) -> list[str]:
    lines = ["  " + f"{'d':>8}  {'result':>10}  {'LLOQ':>9}  used"]
    for p in points:
        time = "" if math.isnan(p.time) else f"{p.time:.4g}"
        lloq = "" if math.isnan(p.lloq) else f"{p.lloq:.6g}"
        why = f"{'yes' if p.used else 'no '}  {p.why}".rstrip()
        lines.append(f"  {time:>8}  {p.shown:>10}  {lloq:>9}  {why}")
        lines += [f"{'':35}{source}" for source in p.sources]
    return lines


# ---------------------------------------------------------------------------------------------------------- analysis


@dataclass(frozen=True, eq=False)
class Analysis:
    """A study analysed and kept open: every profile and window can be asked how its numbers were made.

    Parameters
    ----------
    observations : DataFrame
        As given.
    whole : Profiles
        All profiles.
    curves : tuple of Curves
        One per batch.
    place : mapping
        Batch and row of each patient, assay, specimen and window.
    results : mapping
        Rows of the observations by patient, assay and specimen, analysed or not.
    ends : array of str
        How follow-up ended, for each profile.
    """

    observations: pd.DataFrame
    whole: Profiles
    curves: tuple[Curves, ...]
    place: Mapping[tuple[str, str, str, str], tuple[int, int]]
    results: Mapping[tuple[str, str, str], list[int]]
    ends: np.ndarray

    @cached_property
    def keys_of(self) -> Mapping[str, list[tuple[str, str, str, str]]]:
        """The keys of `place` by patient."""
        found: dict[str, list[tuple[str, str, str, str]]] = {}
        for key in self.place:
            found.setdefault(key[0], []).append(key)
        return found

    @cached_property
    def sentences(self) -> tuple[Mapping[Any, Any], ...]:
        """What the reasons of each batch say."""
        return tuple(nca._sentences(self.whole, curves, self.ends) for curves in self.curves)


def analysis(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None = None,
    settings: Nca | None = None,
    blq: Blq | None = None,
    patients: pd.DataFrame | None = None,
) -> Analysis:
    """The analysis of `nkinetics.nca.analyse`, kept open for `explain`; parameters as there."""
    settings, blq = settings or Nca(), blq or Blq()
    whole = profiles(observations, infusions, patients, settings)
    table = whole.table
    curves: list[Curves] = []
    place: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for number, batch in enumerate(batches(whole, settings) if len(table) else ()):
        curves.append(Curves(batch, settings, blq))
        mine = table.iloc[batch.profile]
        keys = zip(mine["patient_id"], mine["assay"], mine["specimen"], batch.window.tolist(), strict=True)
        place.update({key: (number, i) for i, key in enumerate(keys)})
    ends = nca._follow_up_ends(whole, patients) if len(table) else np.empty(0, dtype=object)
    return Analysis(observations, whole, tuple(curves), place, _by_profile(observations), ends)


def _by_profile(observations: pd.DataFrame) -> dict[tuple[str, str, str], list[int]]:
    """Row numbers of the observations by patient, assay and specimen; the defaults where a column is empty."""
    found: dict[tuple[str, str, str], list[int]] = {}
    columns = [observations["patient_id"].tolist()]
    for name, default in (("assay", "qpcr"), ("specimen", "blood")):
        given = observations[name].tolist() if name in observations.columns else [""] * len(observations)
        columns.append([v or default for v in given])
    for at, key in enumerate(zip(*columns, strict=True)):
        found.setdefault(tuple(map(str, key)), []).append(at)  # type: ignore[arg-type]
    return found


def located(
    made: Analysis, patient: str, parameter: str, assay: str = "", specimen: str = "", window: str = ""
) -> tuple[str, str, str, str, str]:
    """The full key that a user's words stand for; what is left open is the first there is.

    Raises
    ------
    InputError
        For an unknown patient, parameter, assay, specimen or window, with the nearest names.
    """
    code = {p.code: p.name for p in PARAMETERS}
    name = parameter if parameter in BY_NAME else code.get(parameter.upper(), parameter)
    if patient not in made.keys_of or name not in BY_NAME:
        known = [("PATIENT", patient, list(made.keys_of)), ("PARAMETER", name, list(BY_NAME))]
        raise_any(problem for case in known for problem in unknown(*case))
    keys = made.keys_of[patient]
    for place, what, word in ((1, "--assay", assay), (2, "--specimen", specimen)):
        if word:
            raise_any(unknown(what, word, [k[place] for k in keys]))
            keys = [k for k in keys if k[place] == word]
    rank = {a: i for i, a in enumerate(ASSAY_ORDER)}
    first = min((rank.get(k[1], len(rank)), k[1], k[2]) for k in keys)
    windows = [k[3] for k in keys if k[1:3] == first[1:]]
    if window:
        raise_any(unknown("--window", window, windows))
    else:
        window = _usual_window(name, windows)
    return patient, first[1], first[2], window, name


def _usual_window(parameter: str, windows: list[str]) -> str:
    """Window areas belong to the first named window, levels before an infusion to the first infusion."""
    begins = {"auc_int": "D", "auc_int_extrap_pct": "D", "trough": "infusion_"}.get(parameter, "overall")
    return next((w for w in windows if w.startswith(begins)), "overall")


def explain(
    made: Analysis,
    patient: str,
    parameter: str,
    assay: str = "",
    specimen: str = "",
    window: str = "",
    sources: Mapping[str, tuple[str, ...]] | None = None,
    *,
    with_points: bool = True,
) -> Explanation:
    """How one value was made.

    Parameters
    ----------
    made : Analysis
        As `analysis` returns it.
    patient, parameter : str
        Patient, and identifier or code of the parameter.
    assay, specimen, window : str
        The first there is where empty: quantitative PCR before the others, the whole profile (``D0-28`` for auc_int,
        ``infusion_1`` for trough).
    sources : mapping, optional
        Rows and wells behind each observation, as `wells` returns them.
    with_points : bool
        Whether to tell what became of every sample; its arithmetic does without.

    Returns
    -------
    Explanation
        Its value is that of `nkinetics.nca.analyse`, to the last digit.

    Raises
    ------
    InputError
        For an unknown name, with the nearest ones.

    Examples
    --------
    >>> own = pd.DataFrame({"patient_id": "01", "time_actual": [0.0, 1, 2, 4], "level": [np.nan, 8, 4, 1],
    ...     "status": ["blq", "quantified", "quantified", "quantified"], "lloq": 0.5})
    >>> for line in explain(analysis(own), "01", "auc_last").arithmetic():
    ...     print(line)
    A1: d 0 to 1, linear, rises: (1 - 0) * (0 + 8) / 2 = 4
    A2: d 1 to 2, log, falls: (2 - 1) * (8 - 4) / ln(8 / 4) = 5.770780164
    A3: d 2 to 4, log, falls: (4 - 2) * (4 - 1) / ln(4 / 1) = 4.328085123
    auc_last: sum to Tlast, d 4: A1 + A2 + A3 = 14.09886529
    """
    key = located(made, patient, parameter, assay, specimen, window)
    number, i = made.place[key[:4]]
    curves, known = made.curves[number], BY_NAME[key[4]]
    values = nca.computed(curves, [known])[known.name]
    row, value = Row(curves, i), float(values.value[i])
    with np.errstate(invalid="ignore", divide="ignore"):
        told = steps(known.name, row, value)
    unit = str(made.whole.table["level_unit"].iloc[int(curves.batch.profile[i])])
    return Explanation(
        *key[:4],
        parameter=known.name,
        code=known.code,
        label=known.label["en"],
        definition=" ".join((known.function.__doc__ or "").strip().split("\n\n")[0].split()),
        value=value,
        unit=UNITS[known.unit](unit, made.whole.dose_unit),
        reason=_reason(made, number, values, known.name, i),
        clock=_clock(row),
        points=_points(made, row, known.name, key, sources or {}) if with_points else (),
        rules=_rules(row, known.name),
        steps=tuple(told),
    )


def difference(told: Explanation, table: pd.DataFrame) -> str:
    """What to say where nca.csv holds another value; empty where it holds this one."""
    key = {k: getattr(told, k) for k in ("patient_id", "assay", "specimen", "window", "parameter")}
    here = np.logical_and.reduce([(table[k] == v).to_numpy() for k, v in key.items()])
    written = table.loc[here, "value"]
    if not len(written):
        return "nca.csv has no row of it: run the workflow again"
    # Results are written with ten digits.
    same = (
        math.isnan(told.value)
        if pd.isna(written.iloc[0])
        else f"{told.value + 0.0:.10g}" == f"{written.iloc[0] + 0.0:.10g}"
    )
    value = "no value" if pd.isna(written.iloc[0]) else f"{written.iloc[0]:.10g}"
    return "" if same else f"nca.csv holds {value}: it was made from other data or settings, run the workflow again"


def _reason(made: Analysis, number: int, values: Values, name: str, i: int) -> str:
    only = np.zeros_like(values.flags)
    only[i] = values.flags[i]
    sentences = {**made.sentences[number], **nca._own_sentences(name)}
    return str(texts(only, sentences)[i])


def _clock(row: Row) -> str:
    origin = row.of("origin")
    if not origin:
        return "d: days from the start of the first infusion"
    return f"d: days from the start of the first infusion; below, times count from this infusion, d {origin:.4g}"


def _rules(row: Row, name: str) -> tuple[str, ...]:
    """The choices of the configuration that the parameter depends on."""
    c = row.curves
    rules = []
    if name in _AREAS:
        b = c.blq
        start = row.curves.batch.start_rule[row.i]
        rules += [
            f"AUC (nca.auc_rule {c.settings.auc_rule}): {WORDS[c.settings.auc_rule]}",
            f"below the LLOQ (blq): before the first quantified level {WORDS[b.first]}, between quantified levels "
            f"{WORDS[b.middle]}, after Tlast {WORDS[b.last]}",
            "start: the pre-dose sample of this infusion"
            if start == "predose"
            else f"start, where no sample stands there (nca.start): {start}",
        ]
    if name in _LOSSES:
        rules.append(f"samples in a row that make a loss (nca.consecutive_blq): {c.settings.consecutive_blq}")
    return tuple(rules)


# ------------------------------------------------------------------------------------------------------------ samples


def _points(
    made: Analysis, row: Row, name: str, key: tuple[str, ...], sources: Mapping[str, tuple[str, ...]]
) -> tuple[Point, ...]:
    """Every result of the patient in the assay and specimen, with what became of it."""
    frame, b = made.observations, row.curves.batch
    place: dict[int, int] = {}
    for j in range(b.sample.shape[1]):
        if b.sample[row.i, j] >= 0:
            place.setdefault(int(b.sample[row.i, j]), j)
    used = _used(row, name)
    profile = int(b.profile[row.i])
    levels = dict(zip(made.whole.sample[profile].tolist(), made.whole.level[profile].tolist(), strict=True))
    found = []
    own = list(made.results.get((key[0], key[1], key[2]), ()))
    for at, record in zip(own, frame.iloc[own].to_dict("records"), strict=True):
        time = record["time_actual"] if "time_actual" in frame.columns else math.nan
        if time != time and "time_nominal" in frame.columns:
            time = record["time_nominal"]
        column = place.get(int(at))
        identifier = str(record["observation_id"]) if "observation_id" in frame.columns else str(at + 1)
        level = float(levels.get(int(at), math.nan))
        found.append(
            Point(
                observation_id=identifier,
                sample_id=str(record["sample_id"]) if "sample_id" in frame.columns else "",
                time=float(time),
                level=level,
                lloq=float(record["lloq"]) if "lloq" in frame.columns else math.nan,
                shown=_shown(record, level),
                analysed=int(at) in levels and not math.isnan(time),
                used=column is not None and bool(used[column]),
                why=_why_not(int(at) in levels, record)
                if column is None
                else _why(row, name, column, bool(used[column])),
                sources=sources.get(identifier, ()),
            )
        )
    return tuple(sorted(found, key=lambda p: (math.isnan(p.time), p.time, p.sample_id, p.observation_id)))


def _shown(record: Mapping[Any, Any], level: float) -> str:
    """The result as printed; one that is measured and not analysed as it was measured."""
    if level == level:
        return f"{level:.6g}"
    status, reported, lloq = str(record["status"]), float(record["level"]), float(record.get("lloq", math.nan))
    return f"{reported:.6g}" if status == "quantified" and not reported < lloq else STATUS_CODES.get(status, "BLQ")


def _used(row: Row, name: str) -> np.ndarray:
    """Samples of the row that the parameter uses."""
    c, i = row.curves, row.i
    b = c.batch
    if name == "trough":
        return np.arange(b.time.shape[1]) == b.trough[i]
    if name in _LEVELS:
        return (c.quantified if name != "tlag" else b.inside & (b.sample >= 0))[i]
    if name in _FITS and name not in _AREAS:
        return c.terminal.used[i]
    if name in _LOSSES:
        return ((b.kind != NONE) & b.inside)[i]
    if name in ("auc_int", "auc_int_extrap_pct"):
        curve = ~np.isnan(c.curve[i]) & (b.sample[i] >= 0)
        end = b.end[i]
        # Also the two that bracket the end of the window, and its start.
        before = np.flatnonzero(curve & (b.time[i] >= end))[:1]
        after = np.flatnonzero(curve & (b.time[i] <= b.start[i]))[-1:]
        within = curve & (b.time[i] >= b.start[i]) & (b.time[i] <= end)
        within[before] = within[after] = True
        return within
    if name in _AREAS:
        return c.points[i] | (c.terminal.used[i] if name in _FITS else False)
    return c.points[i] | c.quantified[i]


def _why(row: Row, name: str, j: int, used: bool) -> str:
    """What a sample of the row was used as, or why it was not."""
    c, i = row.curves, row.i
    b = c.batch
    kind, time, curve = int(b.kind[i, j]), float(b.time[i, j]), float(c.curve[i, j])
    said = []
    if j == 0 and b.lead[i] > 0:
        said.append(f"pre-dose sample, counted at the start ({b.lead[i]:.3g} d earlier)")
    if name in _AREAS:
        if used and kind == BLQ:
            said.append(f"counted as {curve:.6g}: {_position(row, j)}")
        elif not used and kind == BLQ and math.isnan(curve):
            said.append(f"left out: {_position(row, j)}")
        elif not used:
            said.append("after Tlast" if time > row.of("tlast") else "outside the window")
        elif not b.inside[i, j]:
            said.append("outside the window, to interpolate at its end")
    elif name in _FITS:
        if used:
            said.append("terminal fit")
        elif kind != QUANTIFIED:
            said.append("no quantified level")
        else:
            may = [t for t, _ in available(row)]
            said.append("not in the chosen window" if time in may else "not after Tmax")
    elif name in _LOSSES:
        said.append("before the infusion" if time <= 0 else "")
    elif not b.inside[i, j]:
        said.append("outside the window")
    elif not used and kind in (BLQ, ABOVE):
        said.append("below its LLOQ: no level" if kind == BLQ else "above its ULOQ: no level")
    if used and name == "cmax" and j == c.peak[i]:
        said.append("<- the largest")
    return ", ".join(s for s in said if s)


def _position(row: Row, j: int) -> str:
    """Where a BLQ sample stands among the levels, with the rule that holds there."""
    b, blq = row.curves.batch, row.curves.blq
    level = (b.kind[row.i] == QUANTIFIED) | (b.kind[row.i] == ABOVE)
    first, middle, _ = positions(level, b.kind[row.i] == BLQ)
    if first[j]:
        return f"before the first quantified level (blq.first {blq.first})"
    if middle[j]:
        return f"between quantified levels (blq.middle {blq.middle})"
    return f"after Tlast (blq.last {blq.last})"


def _why_not(analysed: bool, record: Mapping[Any, Any]) -> str:
    """Why a result is not among the samples of the row."""
    if analysed:
        return "outside the window"
    reason = str(record["exclusion_reason"]) if "exclusion_reason" in record else ""
    if reason:
        return reason
    if str(record["status"]) in ("not_done", "failed"):
        return str(record["status"]).replace("_", " ")
    if "reportable" in record and not pd.isna(record["reportable"]) and not bool(record["reportable"]):
        return "not reportable"
    return "combined with another result at the same time (nca.replicates), or without a time"
