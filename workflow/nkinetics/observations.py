"""Levels, manifest, patients and infusions to observations: who, when, how much, and whether it is analysed."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nkinetics.columns import OBSERVATIONS, schema_problems
from nkinetics.errors import InputError, Problem, nearest, raise_any
from nkinetics.inputs import NOMINAL_USED, Study, assumed_infusions, read_user_frame
from nkinetics.store import complete, filled, read_table, records, text_to_typed

PREDOSE = re.compile(r"(?i)pre[- ]?(dose|infusion)|before")
"""A visit that is meant to lie before the infusion."""

MEASURED = ("quantified", "blq", "not_detected", "above_uloq")
"""Status of a result that can be analysed."""

AFTER_THERAPY = "after_subsequent_therapy"
NO_SAMPLE = "no sample of this patient in the manifest"

OUTSIDE_WINDOW = "outside the visit window"
"""How `time_flag` of a sample begins that was not taken when planned."""

FAR = "far from its planned time"
"""The same where the study has no visit window: beyond `FAR_DAYS` or `FAR_SHARE`, whichever is more."""

FAR_DAYS, FAR_SHARE = 1.0, 0.25

_SAME = 1e-6
"""Days within which two times are one (0.09 s): elapsed times are written with ten digits."""


def observation_id(patient_id: str, assay: str, specimen: str, sample_id: str, run_id: str) -> str:
    """Stable name of an observation: 16 hexadecimal digits of the sha256 of what identifies it.

    Examples
    --------
    >>> observation_id("001", "qpcr", "blood", "S1", "R1")
    'bb0aed3ae7df05a2'
    """
    text = "|".join((patient_id, assay, specimen, sample_id, run_id))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def batch_of(patient_id: str, study_id: str, batches: int) -> str:
    """Batch of a patient, by a stable hash; a new patient moves no other.

    Examples
    --------
    >>> batch_of("001", "STUDY", 2) in ("00", "01"), batch_of("001", "STUDY", 1)
    (True, '00')
    """
    digest = hashlib.sha256(f"{study_id}|{patient_id}".encode()).hexdigest()
    return f"{int(digest, 16) % batches:02d}"


# ---------------------------------------------------------------------------------------------------------------- time


@dataclass(frozen=True)
class VisitWindow:
    """How far the actual time of a sample may depart from the planned one before it is flagged.

    Parameters
    ----------
    hours : float or None
        Allowed departure [h].
    share : float or None
        Allowed departure as a share of the planned time. With both the wider one holds, with neither there is no
        window.
    """

    hours: float | None = None
    share: float | None = None

    def days(self, planned: float) -> float:
        """Allowed departure [d] from a planned time [d]; infinite without a window.

        Examples
        --------
        >>> VisitWindow(12, 0.1).days(28), VisitWindow(12, 0.1).days(1), VisitWindow().days(1)
        (2.8000000000000003, 0.5, inf)
        """
        if self.hours is None and self.share is None:
            return math.inf
        return max((self.hours or 0.0) / 24, (self.share or 0.0) * abs(planned))

    def flag(self, planned: float, actual: float) -> str:
        """The flag of a sample, empty when it was taken within the window or a time is not known.

        Examples
        --------
        >>> VisitWindow(24).flag(7, 8.5)
        'outside the visit window (planned day 7.00, actual 8.50, allowed ±1.00 d)'
        """
        allowed = self.days(planned)
        if not abs(actual - planned) > allowed + _SAME:
            return ""
        return f"{OUTSIDE_WINDOW} (planned day {planned:.2f}, actual {actual:.2f}, allowed ±{allowed:.2f} d)"


def phase(
    time: Sequence[float], visit: Sequence[str], starts: Sequence[float], predose_share: float = 0.05
) -> tuple[list[int], list[float], list[bool]]:
    """Infusion, time after it and pre-dose mark of the samples of one assay profile.

    Parameters
    ----------
    time : sequence of float
        Actual times [d], NaN allowed.
    visit : sequence of str
        Visits.
    starts : sequence of float
        Starts of the infusions [d], increasing.
    predose_share : float
        The last sample within this share of the interval before an infusion is its pre-dose sample.

    Returns
    -------
    infusion : list of int
        Number of infusions begun; a pre-dose sample at the start of one belongs to the one before.
    time_after_dose : list of float
        [d] since that infusion; NaN before the first.
    predose : list of bool
        Taken before the infusion that follows it: the visit says so, or the time.

    Examples
    --------
    >>> phase([0, 1, 3, 3.1], ["Pre-dose", "", "D3 pre-dose", ""], [0, 3])
    ([0, 1, 1, 2], [nan, 1.0, 3.0, 0.10000000000000009], [True, False, True, False])
    """
    # Plain numbers: for one to three infusions an array costs ten times what it computes.
    begun = [float(start) for start in starts]
    worded = [bool(v and PREDOSE.search(v)) for v in visit]
    at_start = [any(abs(start - t) <= _SAME for start in begun) for t in time]
    # Before each infusion only the nearest sample can be its pre-dose sample.
    candidates = [t - (_SAME * 2 if a and w else 0) for t, a, w in zip(time, at_start, worded, strict=True)]
    last_before = [max((c for c in candidates if c < s - _SAME), default=math.nan) for s in begun]
    infusions, after, predose = [], [], []
    for t, says, at, place in zip(time, worded, at_start, candidates, strict=True):
        if math.isnan(t):
            infusions.append(0)
            after.append(math.nan)
            predose.append(False)
            continue
        k = sum(start <= t + _SAME for start in begun)
        if at and (says or t <= _SAME):
            k, before = k - 1, True
        elif t <= 0:
            before = True
        elif k < len(begun) and place == last_before[k]:
            interval = begun[k] - (begun[k - 1] if k else 0.0)
            before = says or begun[k] - t <= predose_share * interval
        else:
            before = False
        infusions.append(k)
        after.append(float(t - begun[k - 1]) if k else math.nan)
        predose.append(before)
    return infusions, after, predose


def _timed(frame: pd.DataFrame, infusions: pd.DataFrame, predose_share: float) -> pd.DataFrame:
    """The frame with infusion, time_after_dose and predose, profile by profile."""
    starts: dict[str, list[float]] = {}
    in_order = infusions.sort_values(["patient_id", "infusion"])
    for patient, start in zip(in_order["patient_id"], in_order["time"], strict=True):
        starts.setdefault(str(patient), []).append(start)
    frame = frame.reset_index(drop=True)
    n = len(frame)
    infusion: list[Any] = [pd.NA] * n
    after, predose = np.full(n, math.nan), [False] * n
    times, flags, visits = (frame[name].tolist() for name in ("time_actual", "time_flag", "visit"))
    for (patient, _, _), rows in frame.groupby(["patient_id", "assay", "specimen"]).indices.items():
        begun = starts.get(str(patient), [])
        for i in rows:
            # A pre-dose sample known by its nominal time only cannot lie after an infusion that came early.
            late = [k for k, s in enumerate(begun, start=1) if flags[i] == NOMINAL_USED and 0 < times[i] - s <= 0.5]
            if late and PREDOSE.search(visits[i]):
                times[i] = begun[late[0] - 1]
                flags[i] = f"{NOMINAL_USED}, moved to the start of infusion {late[0]} because the visit is pre-dose"
        own = phase([times[i] for i in rows], [visits[i] for i in rows], begun, predose_share)
        for i, number, since, before in zip(rows, *own, strict=True):
            infusion[i] = pd.NA if math.isnan(times[i]) else number
            after[i], predose[i] = since, before
    return frame.assign(
        time_actual=np.array(times, dtype="float64"),
        time_flag=pd.array(flags, dtype="str"),
        infusion=pd.array(infusion, dtype="Int64"),
        time_after_dose=after,
        predose=pd.array(predose, dtype="boolean"),
    )


# ------------------------------------------------------------------------------------------------------------ assembly


def joined(levels: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Levels with patient, specimen, visit, times and blood counts of their sample.

    Parameters
    ----------
    levels : DataFrame
        `nkinetics.quantify.levels.LEVELS`.
    samples : DataFrame
        The manifest of `nkinetics.inputs.Study`.
    """
    wanted = [
        "sample_id",
        "patient_id",
        "specimen",
        "visit",
        "time_nominal",
        "time_actual",
        "time_flag",
        "ng_input",
        "wbc_1e9_l",
        "alc_1e9_l",
    ]
    return levels.merge(samples[wanted], on="sample_id", how="inner", validate="many_to_one")


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which run2 comes before run10.

    Examples
    --------
    >>> sorted(["run10", "run2"], key=natural)
    ['run2', 'run10']
    """
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


def assemble(
    rows: pd.DataFrame,
    study: Study,
    assays: Mapping[str, tuple[str, str]],
    *,
    predose_share: float = 0.05,
    keep_after_therapy: bool = False,
    data_cut: str | None = None,
    visit_window: VisitWindow | None = None,
    run_dates: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Observations of every patient, reportable or not, with a reason where not.

    Parameters
    ----------
    rows : DataFrame
        As `joined` gives them: levels with patient and times.
    study : Study
        Patients, infusions, events.
    assays : mapping
        Analyte and unit by configured assay, for patients without any sample.
    predose_share : float
        See `phase`.
    keep_after_therapy : bool
        Analyse samples taken after subsequent therapy.
    data_cut : str, optional
        Date for the reason of later samples.
    visit_window : VisitWindow, optional
        Samples outside it are flagged in `time_flag`, and analysed at their actual time all the same.
    run_dates : mapping of str to str, optional
        When a run ended (ISO), by its id; runs are ordered by it where all runs of a sample have it, else by name.

    Returns
    -------
    DataFrame
        `nkinetics.columns.OBSERVATIONS`. Among several results of one patient, assay, specimen and sample one is
        reportable: accepted before failed, then the latest run.
    """
    absent = sorted(set(study.patients["patient_id"]) - set(rows["patient_id"]))
    blanks = [
        {
            "patient_id": patient,
            "assay": assay,
            "analyte": analyte,
            "level_unit": unit,
            "specimen": "blood",
            "status": "not_done",
            "exclusion_reason": NO_SAMPLE,
        }
        for patient in absent
        for assay, (analyte, unit) in assays.items()
    ]
    parts = [part for part in (rows, pd.DataFrame(blanks)) if len(part)]
    frame = complete(pd.concat(parts, ignore_index=True) if parts else rows, OBSERVATIONS)[OBSERVATIONS.names]
    frame = _timed(frame, study.infusions, predose_share)
    frame["time_flag"] = _window_flags(frame, visit_window or VisitWindow())
    identity = ["patient_id", "assay", "specimen", "sample_id", "run_id"]
    frame["observation_id"] = [observation_id(*values) for values in frame[identity].itertuples(index=False)]
    level_of = dict(zip(study.patients["patient_id"], study.patients["dose_level"], strict=True))
    frame["dose_level"] = [level_of.get(p, "") for p in frame["patient_id"]]
    frame["exclusion_reason"] = _exclusions(frame, study, keep_after_therapy, data_cut)
    frame = _one_per_sample(frame, run_dates or {})
    frame["reportable"] = pd.array((frame["exclusion_reason"] == "").tolist(), dtype="boolean")
    return complete(frame, OBSERVATIONS)


def _window_flags(frame: pd.DataFrame, window: VisitWindow) -> pd.Series:
    """`time_flag` with the visit window; a sample known by its planned time only has no other to compare.

    Without a window only a departure that is more likely a slip of the pen is flagged.
    """
    given = math.isfinite(window.days(0.0))
    flags = []
    for flag, planned, actual in zip(frame["time_flag"], frame["time_nominal"], frame["time_actual"], strict=True):
        if flag.startswith(NOMINAL_USED):
            found = ""
        elif given:
            found = window.flag(float(planned), float(actual))
        else:
            found = _far(float(planned), float(actual))
        flags.append("; ".join(f for f in (flag, found) if f))
    return pd.Series(flags, index=frame.index, dtype="str")


def _far(planned: float, actual: float) -> str:
    """The flag of a sample far from its planned time; screening samples have no day of their own."""
    allowed = max(FAR_DAYS, FAR_SHARE * abs(planned))
    if (planned < 0 and actual < 0) or not abs(actual - planned) > allowed + _SAME:
        return ""
    return f"{FAR} (planned day {planned:.2f}, actual {actual:.2f})"


def _exclusions(frame: pd.DataFrame, study: Study, keep_after_therapy: bool, data_cut: str | None) -> list[str]:
    """Reason of each row that cannot be analysed, all of them when there are several."""
    therapy = study.events[study.events["event"] == "therapy"].groupby("patient_id")["time"].min()
    reasons = []
    for patient, time, status, reason in zip(
        frame["patient_id"], frame["time_actual"], frame["status"], frame["exclusion_reason"], strict=True
    ):
        found = [reason] if reason else []
        if status not in MEASURED and not found:
            found.append("not done" if status == "not_done" else "failed")
        if not keep_after_therapy and patient in therapy.index and time > therapy[patient]:
            found.append(AFTER_THERAPY)
        if patient in study.data_cut and time > study.data_cut[patient]:
            found.append(f"after the data cut {data_cut}" if data_cut else "after the data cut")
        if status in MEASURED and math.isnan(time):
            found.append("no time")
        reasons.append("; ".join(found))
    return reasons


def _latest(labels: Iterable[int], runs: Mapping[int, str], dates: Mapping[str, str]) -> int:
    """The row of the latest run: by its date where every run has one, else by its name, numbers as numbers."""
    rows = list(labels)
    if all(dates.get(runs[i]) for i in rows):
        return max(rows, key=lambda i: (dates[runs[i]], natural(runs[i])))
    return max(rows, key=lambda i: natural(runs[i]))


def _one_per_sample(frame: pd.DataFrame, run_dates: Mapping[str, str]) -> pd.DataFrame:
    """Among the results of one sample the one that stands; the others say which."""
    reasons = dict(zip(frame.index, frame["exclusion_reason"], strict=True))
    key = ["patient_id", "assay", "specimen", "sample_id"]
    again = frame[frame.duplicated(key, keep=False)]
    run_of = dict(zip(again.index, again["run_id"], strict=True))
    status_of = dict(zip(again.index, again["status"], strict=True))
    for _, rows in sorted(again.groupby(key).groups.items()):
        measured = [i for i in rows if status_of[i] in MEASURED]
        if not measured:
            continue
        stands = _latest(measured, run_of, run_dates)
        run = run_of[stands]
        for i in rows:
            if i != stands:
                said = [reasons[i]] if reasons[i] else []
                # The level that stands may itself be excluded, as after the data cut.
                is_are = "which is reported" if not reasons[stands] else "which stands"
                reasons[i] = "; ".join([*said, f"re-assayed on run {run}, {is_are}"])
    return frame.assign(exclusion_reason=pd.Series(reasons, dtype="str"))


# ------------------------------------------------------------------------------------------------------ files of users


def load(path: Path, infusions: pd.DataFrame | None = None, predose_share: float = 0.05) -> pd.DataFrame:
    """Observations from a file: ours, or one that a user brings.

    Parameters
    ----------
    path : Path
        CSV or xlsx. A file with every column of observations.csv counts as ours and is checked for types only;
        otherwise only patient_id, time_actual, level, status and lloq are required.
    infusions : DataFrame, optional
        Infusions with elapsed times, for the columns infusion, time_after_dose and predose of a user's file; by default
        one infusion at 0.
    predose_share : float
        See `phase`.

    Returns
    -------
    DataFrame
        `nkinetics.columns.OBSERVATIONS`. Defaults: assay qpcr, unit copies/ug, specimen blood, dose level "all",
        reportable, sample ids by row. A level below its LLOQ is blq whatever number it carries.

    Raises
    ------
    InputError
        With every problem found.
    """
    if _is_ours(path):
        return complete(read_table(path, OBSERVATIONS), OBSERVATIONS)
    text, rows, _ = read_user_frame(path)
    return _brought(text, rows, path.as_posix(), infusions, predose_share)


def _is_ours(path: Path) -> bool:
    """Whether the header has every column that our own stage writes."""
    try:
        with path.open("rb") as handle:
            header = handle.readline().decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    return set(OBSERVATIONS.names) <= {name.strip() for name in header.split(",")}


def _brought(
    text: pd.DataFrame, rows: pd.Series, file: str, infusions: pd.DataFrame | None, predose_share: float
) -> pd.DataFrame:
    absent = [
        Problem(
            file,
            1,
            name,
            f"no such column among {', '.join(text.columns)}",
            f"a column {name} ({OBSERVATIONS.by_name[name].meaning})",
            f"rename {near}"
            if (near := nearest(name, set(text.columns) - set(OBSERVATIONS.names), 0.75))
            else "add the column",
        )
        for name in OBSERVATIONS.required
        if name not in text.columns
    ]
    raise_any(absent)
    if text.empty:
        raise InputError(Problem(file, 1, "", "a header and no rows", "a row per observation", "write the rows"))
    problems: list[Problem] = []
    try:
        frame = text_to_typed(text, OBSERVATIONS, file, rows)
    except InputError as error:
        problems += error.problems
        position = {int(row): i for i, row in enumerate(rows)}
        mended = text.copy()
        for p in error.problems:
            mended.loc[position[p.row or 0], p.column] = ""
        frame = text_to_typed(mended, OBSERVATIONS, file, rows)
    bad_cells = {(p.row, p.column) for p in problems}
    defaults = {"assay": "qpcr", "specimen": "blood", "level_unit": "copies/ug", "dose_level": "all"}
    for name, value in defaults.items():
        given = frame[name] if name in frame.columns else pd.Series("", index=frame.index, dtype="str")
        frame[name] = given.where(given != "", value)
    own_samples = "sample_id" in frame.columns
    ids = pd.Series([f"row{r}" for r in rows], index=frame.index, dtype="str")
    frame["sample_id"] = frame["sample_id"].where(frame["sample_id"] != "", ids) if own_samples else ids
    stated = frame["reportable"] if "reportable" in frame.columns else pd.Series(True, index=frame.index)
    stated = stated.astype("boolean").fillna(True)
    frame["reportable"] = stated
    full = filled(frame, OBSERVATIONS)
    problems += [p for p in schema_problems(full, OBSERVATIONS, file, rows) if (p.row, p.column) not in bad_cells]
    flagged = {(p.row, p.column) for p in problems}
    doubtful = full[full["status"].ne("quantified") | full["level"].isna() | (full["level"] == 0) | _no_time(full)]
    for i, row in zip(doubtful.index, records(doubtful), strict=True):
        problems += [p for p in _row_problems(row, file, int(rows.iloc[i])) if (p.row, p.column) not in flagged]
    problems += _repeated(full, rows, file, by_sample=own_samples)
    raise_any(problems)
    below = full["status"].isin(("quantified", "blq")) & (full["level"] < full["lloq"])
    full["status"] = full["status"].mask(below, "blq").astype("str")
    full["level"] = full["level"].where(full["status"] == "quantified")
    nominal = full["time_actual"].isna() & full["time_nominal"].notna() & (full["status"] != "not_done")
    full["time_actual"] = full["time_actual"].where(~nominal, full["time_nominal"])
    full["time_flag"] = full["time_flag"].mask(nominal, NOMINAL_USED).astype("str")
    if infusions is None:
        infusions = assumed_infusions(full["patient_id"], None, "")
    timed = _timed(full, infusions, predose_share)
    for name in ("infusion", "time_after_dose", "predose"):
        if name in text.columns:
            timed[name] = full[name].where(full[name].notna(), timed[name])
    identity = ["patient_id", "assay", "specimen", "sample_id", "run_id"]
    made = [observation_id(*values) for values in timed[identity].itertuples(index=False)]
    timed["observation_id"] = timed["observation_id"].where(timed["observation_id"] != "", pd.Series(made, dtype="str"))
    measured = timed["status"].isin(MEASURED)
    reason = timed["exclusion_reason"].mask((timed["exclusion_reason"] == "") & ~measured, "status " + timed["status"])
    reason = reason.mask((reason == "") & ~timed["reportable"].astype(bool), "not reportable in the file")
    timed["reportable"] = timed["reportable"] & measured
    return complete(timed.assign(exclusion_reason=reason.astype("str")), OBSERVATIONS)


def _no_time(full: pd.DataFrame) -> pd.Series:
    return full["time_actual"].isna() & full["time_nominal"].isna()


def _row_problems(row: Mapping[str, object], file: str, number: int) -> Iterable[Problem]:
    level, lloq = float(row["level"]), float(row["lloq"])  # type: ignore[arg-type]
    status = row["status"]
    if status == "quantified" and math.isnan(level):
        yield Problem(file, number, "level", "no level", "a level, as the status is quantified", "write the level")
    if status == "quantified" and level == 0 and math.isnan(lloq):
        mend = "write the LLOQ and the status blq"
        yield Problem(file, number, "level", "0", "a positive level; nothing is measured as 0", mend)
    if status == "blq" and math.isnan(lloq):
        mend = "write the LLOQ of the sample"
        yield Problem(file, number, "lloq", "no LLOQ", "the LLOQ of a row with status blq", mend)
    if status == "not_detected" and math.isnan(lloq) and math.isnan(float(row["lod"])):  # type: ignore[arg-type]
        mend = "write the LLOQ or the LOD of the sample"
        yield Problem(file, number, "lloq", "neither LLOQ nor LOD", "a limit of a row that is not detected", mend)
    if status == "above_uloq" and math.isnan(float(row["uloq"])):  # type: ignore[arg-type]
        mend = "add the column uloq"
        yield Problem(file, number, "uloq", "no ULOQ", "the ULOQ of a row with status above_uloq", mend)
    no_time = math.isnan(float(row["time_actual"])) and math.isnan(float(row["time_nominal"]))  # type: ignore[arg-type]
    if no_time and status in MEASURED:
        yield Problem(file, number, "time_actual", "no time", "the time of the sample [d]", "write the time")


def _repeated(full: pd.DataFrame, rows: pd.Series, file: str, *, by_sample: bool) -> Iterable[Problem]:
    """Two reportable results of one sample, or, where samples have no ids, of one time."""
    key = ["patient_id", "assay", "specimen", "sample_id" if by_sample else "time_actual"]
    reportable = full[full["reportable"].astype(bool) & full[key].notna().all(axis=1)]
    for i in reportable.index[reportable.duplicated(key, keep="first")]:
        values = ", ".join(f"{name} {full.at[i, name]}" for name in key)
        yield Problem(
            file,
            int(rows.iloc[i]),
            key[-1],
            f"a second reportable row for {values}",
            "one reportable row",
            "set reportable to false in one of them" if by_sample else "remove one, or add a column sample_id",
        )
