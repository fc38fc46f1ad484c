"""What a user asks of `nkinetics design`: option texts and tables to a checked plan, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import Column, Schema
from nkinetics.errors import Problem, nearest, raise_any
from nkinetics.fitting.design import (
    APART,
    Plan,
    Samples,
    population_errors,
    precision,
    ranking,
    truths_around,
)
from nkinetics.fitting.profiles import reference_dose_of
from nkinetics.plugins import Calendar, KineticModel, discover
from nkinetics.settings import Models
from nkinetics.store import records
from nkinetics.wording import significant

SCHEDULE = Schema(
    "schedule",
    "one row per planned sample",
    ("time",),
    (
        Column("time", "float", "planned time since the start of the first infusion", "d", True, True),
        Column("lloq", "float", "its LLOQ where it is not that of the others", minimum=0.0),
        Column("lod", "float", "its LOD", minimum=0.0),
    ),
    open_ended=True,
)
"""What ``--schedule`` reads."""
NEAR_A_DAY = 0.2
"""Actual infusion times this near a whole day [d] were planned on it."""
DRAWS = 200
"""Patients drawn where parameters vary between patients."""
SHOWN = 8
"""Candidates and samples named in the answer; the file has all."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A checked request.

    Parameters
    ----------
    plan, samples
        The patient as assumed, and his schedule.
    candidates : array or None
        Times of further samples [d]; None for the default grid.
    target : str
        Whose variance ranks; empty for ln det.
    add : int
        Samples to add one after the other.
    apart : float
        Least distance between samples [d].
    omega : mapping
        SD between patients by parameter.
    patients, doses : tuples
        Patients at each dose level, and the levels; empty where not asked.
    notes : tuple of str
        What was assumed.
    """

    plan: Plan
    samples: Samples
    candidates: np.ndarray | None
    target: str
    add: int
    apart: float
    omega: Mapping[str, float]
    patients: tuple[int, ...]
    doses: tuple[float, ...]
    notes: tuple[str, ...]


class _Texts:
    """The option texts, read one by one; what cannot be read becomes a problem."""

    def __init__(self, texts: Mapping[str, str | None], problems: list[Problem]) -> None:
        self.texts, self.problems = texts, problems

    def wrong(self, option: str, found: str, expected: str, mend: str = "correct it") -> None:
        self.problems.append(Problem(f"--{option.replace('_', '-')}", found=found, expected=expected, mend=mend))

    def listed(self, option: str) -> bool:
        """Whether an option lists days; else it names a file, or is absent."""
        return bool(self.texts.get(option)) and not is_file(self.texts[option])

    def number(self, option: str, default: float, low: float, *, above: bool = True) -> float:
        """A number above (or not below) a limit."""
        text = self.texts.get(option)
        if text is None:
            return default
        value = _float(text)
        if not (np.isfinite(value) and (value > low if above else value >= low)):
            self.wrong(option, repr(text), f"a number {'above' if above else 'of at least'} {low:g}")
            return default
        return value

    def whole(self, option: str, default: int, low: int) -> int:
        """A whole number not below a limit."""
        value = self.number(option, default, low, above=False)
        if value != int(value):
            self.wrong(option, repr(self.texts[option]), "a whole number")
        return int(value)

    def numbers(self, option: str, expected: str = "days as 0.08,1,2.5") -> np.ndarray:
        """Numbers between commas, in their order."""
        words = [w.strip() for w in (self.texts.get(option) or "").split(",")]
        values = np.array([_float(w) for w in words])
        for word in [w for w, v in zip(words, values, strict=True) if not np.isfinite(v)]:
            self.wrong(option, repr(word), expected)
        return values[np.isfinite(values)]

    def by_parameter(self, option: str, model: KineticModel, *, plain: bool) -> dict[str, float]:
        """``delta=0.4,rho=0.6``; with `plain` also one number for all parameters."""
        text = self.texts.get(option)
        if not text:
            return {}
        if plain and np.isfinite(_float(text)):
            return dict.fromkeys(model.names, _float(text))
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, word = (w.strip() for w in part.partition("="))
            value = _float(word)
            if name not in model.names:
                near = nearest(name, model.names)
                mend = f"did you mean {near}?" if near else "correct it"
                self.wrong(option, repr(part), f"one of {', '.join(model.names)}, as delta=0.4", mend)
            elif not np.isfinite(value):
                self.wrong(option, repr(part), f"a number, as {name}=0.4")
            elif name in found:
                self.wrong(option, f"{name} twice", "each parameter once")
            else:
                found[name] = value
        return found


def is_file(text: str | None) -> bool:
    """Whether an option that may list days names a table instead.

    Examples
    --------
    >>> is_file("config/infusions.csv"), is_file("0,3,6")
    (True, False)
    """
    return str(text).lower().endswith((".csv", ".xlsx"))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def asked(
    texts: Mapping[str, str | None],
    frames: Mapping[str, pd.DataFrame],
    settings: Models,
    reference_dose: float | None = None,
    problems: list[Problem] | None = None,
) -> Asked:
    """The request as a plan.

    Parameters
    ----------
    texts : mapping of str to str or None
        Options by name: model, times, infusions, cytokines, patient, truth, sigma, lloq, lod, counted, level_unit,
        candidates, target, add, apart, omega, draws, patients, doses.
    frames : mapping of str to DataFrame
        Tables read in place of texts: schedule, samples, infusions, cytokines.
    settings : Models
        Constants of the models and the limit of the relative standard error.
    reference_dose : float, optional
        Amount that counts as 1; the lowest planned one by default.
    problems : list of Problem, optional
        Found before, to be told with those found here.

    Raises
    ------
    InputError
        With every problem.

    Examples
    --------
    >>> request = asked({"model": "decay", "times": "1,2,4,8", "truth": "delta=0.3"}, {}, Models())
    >>> request.plan.truths.tolist(), request.samples.time.tolist(), request.plan.calendar.end
    ([[2500.0, 0.3]], [1.0, 2.0, 4.0, 8.0], 8.0)
    """
    found = [] if problems is None else list(problems)
    read = _Texts(texts, found)
    notes: list[str] = []
    name = texts.get("model") or settings.default
    known = discover("models")
    if name not in known:
        near = nearest(name, known)
        read.wrong("model", repr(name), f"one of {', '.join(known)}", f"did you mean {near}?" if near else "correct it")
        # The other options are read as those of the model that was meant; of a model unknown no parameter is known.
        name = near if near in known else settings.default
        texts = {**texts} if near in known else {**texts, "truth": None, "omega": None, "patients": None, "doses": None}
        read.texts = texts
    model, constants = known[name], settings.constants(name)
    plan_limits = {
        "sigma": read.number("sigma", 0.5, 0.0),
        "lloq": read.number("lloq", 50.0, 0.0),
        "lod": read.number("lod", float("nan"), 0.0),
        "counted": read.number("counted", 0.0, 0.0),
    }
    if plan_limits["lod"] >= plan_limits["lloq"]:
        read.wrong("lod", f"{plan_limits['lod']:g}", f"a LOD below the LLOQ {plan_limits['lloq']:g}")
    samples = _samples(read, frames, plan_limits["lloq"], plan_limits["lod"], notes)
    candidates = read.numbers("candidates") if texts.get("candidates") else None
    calendar = _calendar(read, frames, model, constants, reference_dose, samples, candidates, notes)
    truth = _truth(read, model, notes)
    omega = read.by_parameter("omega", model, plain=True)
    for parameter, spread in omega.items():
        if spread < 0:
            read.wrong("omega", f"{parameter}={spread:g}", "an SD of at least 0")
    draws, add = read.whole("draws", DRAWS, 1), read.whole("add", 3, 0)
    apart = read.number("apart", APART, 0.0, above=False)
    patients, doses = _levels(read, omega)
    if len(samples.time) and not (samples.time > 0).any():
        read.wrong("times", "no sample after the first infusion", "samples that hold cells", "add some")
    # What follows from a calendar that could not be read is no problem of its own.
    unread = ("--infusions", "--cytokines", "--patient", "--model")
    calendar_known = all(p.file.startswith("--") and p.file not in unread for p in found)
    missing = model.missing(calendar, constants) if calendar_known else ""
    if missing:
        read.wrong("model", f"{name} with this calendar: {missing}", "doses of the cytokine", "give --cytokines")
    raise_any(found)
    truths = truths_around(model, truth, {k: v for k, v in omega.items() if v > 0}, draws)
    plan = Plan(
        model,
        constants,
        calendar,
        truths,
        **plan_limits,
        level_unit=texts.get("level_unit") or "copies/ug",
        rse_limit_pct=settings.rse_limit_pct,
    )
    target = texts.get("target") or ""
    if target:
        what = plan.targets
        moving = {n for i, n in enumerate(what.names) if np.isfinite(what.value[0, i]) and what.gradient[0, i].any()}
        if target not in moving:
            listed = ", ".join(n for n in what.names if n in moving)
            read.wrong("target", repr(target), f"one that exists and is to be estimated: {listed}")
            raise_any(found)
    return Asked(plan, samples, candidates, target, add, apart, omega, patients, doses, tuple(notes))


def _samples(read: _Texts, frames: Mapping[str, pd.DataFrame], lloq: float, lod: float, notes: list[str]) -> Samples:
    """The schedule from one of its three sources."""
    given = [s for s in ("times", "schedule", "samples") if read.texts.get(s) or s in frames]
    none = Samples(*(np.zeros(0) for _ in range(3)))
    if len(given) != 1:
        what = " and ".join(f"--{s}" for s in given) or "no schedule"
        read.wrong("times", what, "one of --times, --schedule and --samples", "give one")
        return none
    if given[0] == "times":
        time = np.unique(read.numbers("times"))
        return Samples(time, np.full(len(time), lloq), np.full(len(time), lod))
    if given[0] not in frames:
        return none  # The table could not be read, and that is told.
    frame = frames[given[0]]
    if given[0] == "samples":
        planned = frame["time_nominal"].dropna().to_numpy(dtype=float).round(6)
        if len(planned) == 0:
            read.wrong("samples", "no time_nominal in any row", "planned times [d]", "fill in the column")
        time = np.unique(planned)
        n = frame["patient_id"].nunique()
        notes.append(f"schedule: {len(time)} planned times of {n} patient{'s' if n != 1 else ''}")
        return Samples(time, np.full(len(time), lloq), np.full(len(time), lod))
    frame = frame.sort_values("time", kind="stable")
    limit = frame["lloq"].fillna(lloq).to_numpy(dtype=float)
    low = frame["lod"].fillna(lod).to_numpy(dtype=float)
    if len(frame) == 0:
        read.wrong("schedule", "no row", "one row per planned sample", "add them")
    for i in np.flatnonzero(~(limit > 0) | (low >= limit)):
        found = f"LLOQ {limit[i]:g} and LOD {low[i]:g} at {frame['time'].iloc[i]:g} d"
        read.wrong("schedule", found, "an LLOQ above 0 and a LOD below it")
    return Samples(frame["time"].to_numpy(dtype=float), limit, low)


def _calendar(
    read: _Texts,
    frames: Mapping[str, pd.DataFrame],
    model: KineticModel,
    constants: Any,
    reference_dose: float | None,
    samples: Samples,
    candidates: np.ndarray | None,
    notes: list[str],
) -> Calendar:
    """Infusions and cytokines of one patient of the tables, or as listed."""
    patient = read.texts.get("patient") or ""
    time, amount = np.array([0.0]), np.array([1.0])
    if "infusions" in frames:
        frame = frames["infusions"]
        counts = frame.groupby("patient_id").size()
        patient = patient or (str(counts.sort_index().idxmax()) if len(counts) else "")
        own = frame[frame["patient_id"] == patient]
        given = own["given"].fillna(own["planned"]).to_numpy(dtype=float)
        usable = (own["time"].notna() & (given > 0)).to_numpy()
        if usable.any():
            time, order = _planned(own["time"].to_numpy(dtype=float)[usable])
            amount = given[usable][order] / (reference_dose or reference_dose_of(frame))
            notes.append(f"infusions: those of patient {patient}, amounts in reference doses")
        else:
            read.wrong("patient", f"no infusion of patient {patient!r}", f"one of {', '.join(counts.index)}")
    elif read.listed("infusions"):
        time, amount = _listed(read)
    elif not read.texts.get("infusions"):
        notes.append("infusions: one of the reference dose on day 1 assumed")
    pulses: dict[str, np.ndarray] = {}
    agent = next(iter(getattr(constants, "agents", ("IL-2",))))
    if "cytokines" in frames:
        frame = frames["cytokines"]
        patient = patient or (str(frame["patient_id"].min()) if len(frame) else "")
        own = frame[(frame["patient_id"] == patient) & frame["time"].notna()]
        pulses = {str(a): _planned(g["time"].to_numpy(dtype=float))[0] for a, g in own.groupby("agent", sort=True)}
    elif read.listed("cytokines"):
        pulses = {str(agent): np.unique(read.numbers("cytokines"))}
    times = [samples.time, time, np.zeros(0) if candidates is None else candidates]
    return Calendar(time, amount, pulses, float(np.concatenate(times).max()))


def _planned(time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising planned times [d] of actual ones, and the order: those near a whole day were planned on it."""
    order = np.argsort(time, kind="stable")
    whole = time[order].round()
    return np.where(np.abs(time[order] - whole) <= NEAR_A_DAY, whole, time[order]) + 0.0, order


def _listed(read: _Texts) -> tuple[np.ndarray, np.ndarray]:
    """Infusions as ``0,3,6`` or, with amounts in reference doses, ``0:1,3:1,6:0.5``."""
    found: dict[float, float] = {}
    for part in str(read.texts["infusions"]).split(","):
        day, colon, word = part.strip().partition(":")
        start, amount = _float(day), _float(word) if colon else 1.0
        if not (np.isfinite(start) and np.isfinite(amount) and amount > 0):
            read.wrong("infusions", repr(part), "a file, or days as 0,3,6 or 0:1,3:0.5 with an amount above 0")
        elif start in found:
            read.wrong("infusions", f"two infusions on {start:g} d", "each once")
        else:
            found[start] = amount
    if found and min(found) != 0.0:
        read.wrong("infusions", f"a first infusion on {min(found):g} d", "time counted from the first infusion, 0")
    time = np.array(sorted(found) or [0.0])
    return time, np.array([found.get(t, 1.0) for t in time.tolist()])


def _truth(read: _Texts, model: KineticModel, notes: list[str]) -> list[float]:
    """The parameters as given, the others those of the model's example."""
    given = read.by_parameter("truth", model, plain=False)
    for p in model.parameters:
        if p.name in given and not p.lower <= given[p.name] <= p.upper:
            read.wrong("truth", f"{p.name}={given[p.name]:g}", f"{p.name} from {p.lower:g} to {p.upper:g}")
    default = dict(zip(model.names, model.example.parameters, strict=True))
    assumed = [f"{n} {default[n]:g}" for n in model.names if n not in given]
    if assumed:
        notes.append(f"truth: {', '.join(assumed)} assumed (the model's example)")
    return [given.get(n, default[n]) for n in model.names]


def _levels(read: _Texts, omega: Mapping[str, float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Patients at each dose level, and the levels as multiples of the calendar's amounts."""
    if not read.texts.get("patients"):
        if read.texts.get("doses"):
            read.wrong("doses", "dose levels without patients", "--patients 3,6 --doses 1,3", "give both")
        return (), ()
    patients = read.numbers("patients", "numbers of patients as 3,6")
    doses = read.numbers("doses", "multiples as 1,3") if read.texts.get("doses") else np.ones(len(patients))
    if (patients < 1).any() or (patients != patients.round()).any():
        read.wrong("patients", repr(read.texts["patients"]), "whole numbers of at least 1")
    if (doses <= 0).any():
        read.wrong("doses", repr(read.texts["doses"]), "multiples above 0")
    if len(doses) != len(patients):
        read.wrong("doses", f"{len(doses)} dose levels", f"{len(patients)}, as many as in --patients")
    if not omega and not read.texts.get("omega"):
        read.wrong("patients", "no variation between patients", "--omega 0.5, or by parameter", "give it")
    return tuple(int(n) for n in patients), tuple(doses.tolist())


# ---------------------------------------------------------------------------------------------------------- answer


@dataclass(frozen=True, eq=False)
class Answer:
    """Frames of design.csv and design_candidates.csv, and both in words."""

    design: pd.DataFrame
    candidates: pd.DataFrame
    text: str


def answer(request: Asked) -> Answer:
    """What the schedule is expected to tell, and which samples to add or drop.

    Examples
    --------
    >>> request = asked({"model": "decay", "times": "1,2,4,8", "add": "1"}, {}, Models())
    >>> print(answer(request).text.splitlines()[-1])
      day 5; day 3; day 2; day 9
    """
    rows = precision(request.plan, request.samples)
    if request.patients:
        more = population_errors(request.plan, request.samples, request.omega, request.patients, request.doses)
        rows = pd.concat([rows, more]).sort_values(["kind", "parameter"], kind="stable", ignore_index=True)
    ranked = ranking(request.plan, request.samples, request.candidates, request.add, request.target, request.apart)
    return Answer(
        rows, ranked, "\n".join([*_heading(request, rows), "", *_table(request, rows), *_rank(request, ranked)])
    )


def _heading(request: Asked, rows: pd.DataFrame) -> list[str]:
    """What was assumed."""
    plan = request.plan
    about = rows[rows["kind"] == "schedule"].set_index("parameter")["value"]
    given = zip(plan.calendar.infusion_time.tolist(), plan.calendar.infusion_amount.tolist(), strict=True)
    infusions = ", ".join(f"day {t + 1:g}" + ("" if a == 1 else f" ({a:g})") for t, a in given)
    pulses = [
        f"; {agent}: {', '.join(f'day {t + 1:g}' for t in starts.tolist())}"
        for agent, starts in sorted(plan.calendar.pulses.items())
    ]
    limits = f"LLOQ {plan.lloq:g} {plan.level_unit}" + ("" if np.isnan(plan.lod) else f", LOD {plan.lod:g}")
    counted = f", {plan.counted:g} counted per unit of the level" if plan.counted else ""
    n, early = int(about["n_samples"]), len(request.samples.time) - int(about["n_samples"])
    return [
        f"{plan.model.name}: {plan.model.formula(plan.constants)}",
        f"infusions: {infusions}{''.join(pulses)}",
        f"residual SD {plan.sigma:g} of ln, {limits}{counted}",
        f"{n} sample{'s' if n != 1 else ''} after the first cells, "
        f"{about['n_below_lloq']:.1f} of them expected below the LLOQ"
        + (f"; {early} before the first cells tell{'s' if early == 1 else ''} nothing" if early else ""),
        *request.notes,
        "day 1 is the day of the first infusion (study day = time + 1)",
    ]


def _table(request: Asked, rows: pd.DataFrame) -> list[str]:
    order = {n: i for i, n in enumerate(request.plan.targets.names)}
    many = len(request.plan.truths) > 1
    head = ["", "value", "unit", "RSE %", *(["10-90 % of patients", "identifiable in"] if many else []), ""]
    cells = []
    ranks = {"fitted": 0, "derived": 1, "population": 2}
    listed = [r for r in records(rows) if r["kind"] in ranks]
    for row in sorted(listed, key=lambda r: (ranks[r["kind"]], order.get(r["parameter"], 99))):
        line = [
            ("typical " if row["kind"] == "population" else "") + row["parameter"],
            _number(row["value"]),
            row["unit"],
            _percent(row["rse_pct"]),
        ]
        if many:
            drawn = not _blank(row["share_identifiable"])
            line += [
                f"{_percent(row['rse_pct_low'])} to {_percent(row['rse_pct_high'])}" if drawn else "",
                f"{100 * row['share_identifiable']:.0f} %" if drawn else "",
            ]
        cells.append([*line, row["reason"]])
    return [
        *_aligned([head, *cells]),
        "RSE: the least that the schedule allows (Cramer-Rao); with few samples real errors are larger",
    ]


def _rank(request: Asked, ranked: pd.DataFrame) -> list[str]:
    goal = request.target or "all parameters (ln det)"
    names = [c for c in ranked.columns if c.startswith("rse_pct_")]
    head = ["", "BLQ", "ln det", *(f"RSE {c.removeprefix('rse_pct_')}" for c in names)]
    lines = []
    titles = {"add": "one more sample, best first", "greedy": "added one after the other"}
    for action, title in titles.items():
        own = ranked[ranked["action"] == action]
        cells = [
            [
                row["timing"],
                f"{100 * row['blq_share']:.0f} %",
                f"{row['log_det_change']:+.2f}",
                *(_percent(row[c]) for c in names),
            ]
            for row in records(own.head(SHOWN if action == "add" else len(own)))
        ]
        if cells:
            lines += ["", f"{title}, for {goal}:", *_aligned([head, *cells])]
    dropped = ranked.loc[ranked["action"] == "drop", "timing"].tolist()
    return [*lines, "", f"planned samples, least missed first, for {goal}:", "  " + "; ".join(dropped)]


def _blank(value: object) -> bool:
    return value is None or value != value or value is pd.NA


def _number(value: Any) -> str:
    return "-" if _blank(value) else significant(float(value))


def _percent(value: Any) -> str:
    """A percentage without digits that no design is worth."""
    if _blank(value):
        return "-"
    return significant(float(value), 2) if value < 10 else f"{value:.0f}" if value < 1e4 else f"{value:.1e}"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Cells under one another, the first column and words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = [i == 0 or not row for i, row in enumerate(rows[0])]
    return [
        (
            "  " + "  ".join(c.ljust(w) if ls else c.rjust(w) for c, w, ls in zip(row, widths, left, strict=True))
        ).rstrip()
        for row in rows
    ]
