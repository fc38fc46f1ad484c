"""Observations as ragged profiles: one per patient, assay, specimen and window, laid out for array arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics.columns import OBSERVATIONS
from nkinetics.errors import Problem, raise_any
from nkinetics.nca.doses import above_limits, amounts, dose_unit
from nkinetics.nca.manual import Manual, manual_points
from nkinetics.settings import Nca
from nkinetics.store import filled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int8]
Bools = NDArray[np.bool_]
Texts = NDArray[np.object_]

NONE, QUANTIFIED, BLQ, ABOVE = 0, 1, 2, 3
"""What stands at a place of a batch: no sample, a level, a level below the LLOQ (detected or not), above the ULOQ."""

UNKNOWN, UNDETECTED, DETECTED = -1, 0, 1
"""Whether a sample lies above its LOD; unknown for a BLQ sample without one."""

OVERALL, INFUSION, NAMED = 0, 1, 2
"""Kinds of windows."""

KEY = ["patient_id", "assay", "specimen"]
ONE_PROFILE = {"patient_id": "1", "assay": "qpcr", "specimen": "blood"}
"""Key of a profile that was given as arrays."""
_READ = (
    *KEY,
    *("dose_level", "sample_id", "observation_id", "time_nominal", "time_actual", "level", "level_unit", "lod", "lloq"),
    *("uloq", "status", "reportable", "exclusion_reason", "predose", "detected"),
)
_OBSERVED = replace(OBSERVATIONS, columns=tuple(c for c in OBSERVATIONS.columns if c.name in _READ))
"""What the analysis reads of observations."""
ROWS, PATIENTS = 500_000, 20_000
"""Observations looked through, and patients laid out, at once: bounds the memory beside that of the input."""

BLOCK = 2048
"""Profiles worked on at once: bounds the memory, and keeps the arrays in the processor's cache."""


@dataclass(frozen=True)
class Profiles:
    """All profiles of a study, sorted by patient, assay and specimen, without windows yet.

    Parameters
    ----------
    table : DataFrame
        One row per profile: patient_id, assay, specimen, dose_level, level_unit, no_data (why it has no sample).
    time, level, lloq, uloq : arrays [profiles, samples]
        In order of time; NaN beyond the last sample and where empty.
    kind, detection, predose : arrays of int8 [profiles, samples]
        `predose`: 1 yes, 0 no, -1 not said.
    sample : array of int [profiles, samples]
        Row of the observations; -1 where there is none.
    reach : array [profiles; d]
        Last time of follow-up, planned or actual, whichever is later.
    infusion_start : array [profiles, infusions; d]
        Infinity beyond the last infusion.
    infusion_number : array of int [profiles, infusions]
        Number of each infusion in the study's table.
    infusion_amount : array [profiles, infusions; dose unit]
        Amount of each infusion; NaN where unknown, and beyond the last infusion.
    dose_unit : str
        Unit of the amounts.
    above_limit : array [profiles; level unit]
        The limit of ``time_above``; NaN where none is configured.
    """

    table: pd.DataFrame
    time: Floats
    level: Floats
    lloq: Floats
    uloq: Floats
    kind: Codes
    detection: Codes
    predose: Codes
    sample: Ints
    reach: Floats
    infusion_start: Floats
    infusion_number: Ints
    infusion_amount: Floats
    dose_unit: str
    above_limit: Floats


@dataclass(frozen=True)
class Batch:
    """Profiles with their windows: one row per profile and window, on the clock of that window.

    Parameters
    ----------
    profile : array of int [rows]
        Row of `Profiles.table`.
    window : array of str [rows]
        overall, infusion_1 ..., D0-28 ...
    window_kind : array of int8 [rows]
        `OVERALL`, `INFUSION` or `NAMED`.
    origin : array [rows; d]
        Study time at which the clock of the row is zero.
    start, end : arrays [rows; d]
        Ends of the window on that clock; infinity where open.
    parent : array of int [rows]
        The row whose terminal fit holds for this one: itself, and the overall row for a named window.
    time, level, lloq, uloq, kind, detection, sample : arrays [rows, samples]
        Column 0 is the start: a pre-dose sample moved or copied to time 0, or nothing.
    inside : array of bool [rows, samples]
        Sample of the window; the others only bracket its ends.
    lead : array [rows; d]
        How long before the start the sample in column 0 was taken.
    start_rule : array of str [rows]
        What stands at time 0 where no sample does.
    trough : array of int [rows]
        Column of the sample before the next infusion; -1 where there is none.
    infusion_follows : array of bool [rows]
        Another infusion ends the window.
    amount : array [rows; dose unit]
        Amount of the infusion of an infusion's window; else the sum of all infusions before the end of the window.
    above_limit : array [rows; level unit]
        The limit of ``time_above``.
    manual : Manual or None
        Points of terminal fits that were chosen by hand.
    """

    profile: Ints
    window: Texts
    window_kind: Codes
    origin: Floats
    start: Floats
    end: Floats
    parent: Ints
    time: Floats
    level: Floats
    lloq: Floats
    uloq: Floats
    kind: Codes
    detection: Codes
    sample: Ints
    inside: Bools
    lead: Floats
    start_rule: Texts
    trough: Ints
    infusion_follows: Bools
    amount: Floats
    above_limit: Floats
    manual: Manual | None = None


# ----------------------------------------------------------------------------------------------- observations in


@dataclass(frozen=True)
class Kinds:
    """What a study measures, which its patients need not all have.

    Parameters
    ----------
    pairs : DataFrame
        assay, specimen: every patient has a profile of each.
    usual : DataFrame
        assay, specimen, usual: the most frequent unit.
    units_given : bool
        Some row names the unit of its level.
    """

    pairs: pd.DataFrame
    usual: pd.DataFrame
    units_given: bool


def kinds_of(observations: pd.DataFrame) -> Kinds:
    """What a study measures, read from its rows some at a time."""
    pairs, others, units = [], [], []
    for begin in range(0, max(len(observations), 1), ROWS):
        rows = _with_defaults(observations.iloc[begin : begin + ROWS])
        reportable = rows[rows["reportable"]]
        pairs.append(reportable[["assay", "specimen"]].drop_duplicates())
        others.append(rows[["assay", "specimen"]].drop_duplicates())
        named = rows.loc[rows["level_unit"] != "", ["assay", "specimen", "level_unit"]]
        units.append(named.value_counts().reset_index())
    found, seen = pd.concat(pairs).drop_duplicates(), pd.concat(others).drop_duplicates()
    # An assay without any reportable row stands in the table all the same.
    found = pd.concat([found, seen[~seen["assay"].isin(found["assay"])]])
    if not len(found):
        # A study without any observation: its patients still stand in the table, under the default assay.
        found = pd.DataFrame({"assay": ["qpcr"], "specimen": ["blood"]})
    counted = pd.concat(units).groupby(["assay", "specimen", "level_unit"], as_index=False)["count"].sum()
    usual = counted.sort_values(["count", "level_unit"], ascending=[False, True]).drop_duplicates(["assay", "specimen"])
    return Kinds(
        found.sort_values(["assay", "specimen"], ignore_index=True),
        usual[["assay", "specimen", "level_unit"]].rename(columns={"level_unit": "usual"}),
        bool(len(counted)),
    )


def patients_at_a_time(
    observations: pd.DataFrame, patients: pd.DataFrame | None, most: int
) -> Iterator[tuple[Ints, pd.DataFrame | None]]:
    """Rows of the observations, and patients, of some patients at a time, in the order of their ids."""
    n = len(observations)
    listed = observations["patient_id"]
    if patients is not None:
        listed = pd.concat([listed, patients["patient_id"]], ignore_index=True)
    codes, people = pd.factorize(listed, sort=True)
    if len(people) <= most:
        yield np.arange(n), patients
        return
    order = np.argsort(codes[:n], kind="stable")
    ranked = codes[:n][order]
    for begin in range(0, len(people), most):
        first, last = np.searchsorted(ranked, [begin, begin + most])
        own = None if patients is None else patients[(codes[n:] >= begin) & (codes[n:] < begin + most)]
        yield np.sort(order[first:last]), own


def profiles(
    observations: pd.DataFrame,
    infusions: pd.DataFrame | None,
    patients: pd.DataFrame | None,
    settings: Nca,
    kinds: Kinds | None = None,
    places: Ints | None = None,
) -> Profiles:
    """Lay observations out as profiles; every patient of `patients` has one per assay and specimen.

    Parameters
    ----------
    observations, infusions, patients, settings
        As `nkinetics.nca.analyse` takes them.
    kinds : Kinds, optional
        What the whole study measures, where these are some of its patients.
    places : array of int, optional
        The rows of the observations that are meant; all of them by default.

    Raises
    ------
    InputError
        For a quantified row without a level, several units in one profile, or two reportable rows at one time under
        ``replicates: error``.
    """
    kinds = kinds or kinds_of(observations)
    places = np.arange(len(observations)) if places is None else places
    rows = _with_defaults(observations.take(places), places, units_given=kinds.units_given)
    table = _profile_table(rows, patients, kinds)
    used = _used_rows(rows, table)
    used = _without_ties(used, settings.replicates)
    n = len(table)
    owner = used["profile"].to_numpy()
    count = np.bincount(owner, minlength=n) if len(owner) else np.zeros(n, dtype=np.int64)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    width = int(count.max()) if n else 0

    def laid(values: NDArray, blank: float, dtype: type) -> NDArray:
        out: NDArray = np.full((n, width), blank, dtype=dtype)
        out[owner, place] = values
        return out

    starts, numbers = _infusions(table, infusions)
    reach = np.full(n, -np.inf)
    np.maximum.at(reach, owner, np.fmax(used["time"].to_numpy(), used["time_nominal"].to_numpy()))
    return Profiles(
        table=table,
        time=laid(used["time"].to_numpy(), np.nan, np.float64),
        level=laid(used["level"].to_numpy(), np.nan, np.float64),
        lloq=laid(used["lloq"].to_numpy(), np.nan, np.float64),
        uloq=laid(used["uloq"].to_numpy(), np.nan, np.float64),
        kind=laid(used["kind"].to_numpy(), NONE, np.int8),
        detection=laid(used["detection"].to_numpy(), UNKNOWN, np.int8),
        predose=laid(used["predose"].astype("Int8").fillna(-1).to_numpy(dtype=np.int8), 0, np.int8),
        sample=laid(used["row"].to_numpy(), -1, np.int64),
        reach=reach,
        infusion_start=starts,
        infusion_number=numbers,
        infusion_amount=amounts(table, infusions, numbers, starts),
        dose_unit=dose_unit(infusions),
        above_limit=above_limits(table, settings.above_limit),
    )


def _with_defaults(observations: pd.DataFrame, places: Ints | None = None, *, units_given: bool = True) -> pd.DataFrame:
    """Observations with every column; documented defaults where a user's file leaves one out."""
    known = [c for c in _READ if c in observations.columns]
    rows = filled(observations[known].reset_index(drop=True), _OBSERVED)
    blank = {"assay": "qpcr", "specimen": "blood", "level_unit": "copies/ug"}
    usual = {name: rows[name].where(rows[name] != "", value) for name, value in blank.items() if name != "level_unit"}
    if not units_given:
        usual["level_unit"] = rows["level_unit"].where(rows["level_unit"] != "", blank["level_unit"])
    return rows.assign(
        row=np.arange(len(rows)) if places is None else places,
        time=rows["time_actual"].fillna(rows["time_nominal"]),
        reportable=rows["reportable"].fillna(True).astype(bool),
        **usual,
    )


def _profile_table(rows: pd.DataFrame, patients: pd.DataFrame | None, kinds: Kinds) -> pd.DataFrame:
    """Every patient with every assay and specimen of the study, and why a profile has no sample."""
    listed = rows[["patient_id", "dose_level"]]
    if patients is not None:
        listed = pd.concat([patients[["patient_id", "dose_level"]], listed], ignore_index=True)
    people = listed.drop_duplicates("patient_id").sort_values("patient_id", ignore_index=True)
    reportable = rows[rows["reportable"]]
    table = people.merge(kinds.pairs, how="cross").sort_values(KEY, ignore_index=True)
    units = reportable.loc[reportable["level_unit"] != "", [*KEY, "level_unit"]].drop_duplicates()
    raise_any(
        Problem(
            "observations",
            column="level_unit",
            found=f"more than one unit for {' '.join(map(str, key))}: {', '.join(sorted(own['level_unit']))}",
            expected="one unit per patient, assay and specimen",
            mend="convert the levels, or give the assays different names",
        )
        for key, own in units[units.duplicated(KEY, keep=False)].groupby(KEY, sort=True)
    )
    table = table.merge(units, on=KEY, how="left").merge(kinds.usual, on=["assay", "specimen"], how="left")
    table["level_unit"] = table["level_unit"].fillna(table["usual"]).fillna("").astype("str")
    return table.drop(columns="usual").assign(no_data=_no_data(table, rows))


def _no_data(table: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """For each profile the reasons why the patient's rows of that assay are not analysed."""
    measured = rows["status"].isin(["quantified", "blq", "not_detected", "above_uloq"])
    why = rows["exclusion_reason"].where(~rows["reportable"], rows["status"].str.replace("_", " "))
    why = why.where(~(rows["reportable"] & measured), "no time of collection")
    why = why.where(why != "", "not reportable")
    unused = ~rows["reportable"] | ~measured | rows["time"].isna()
    reasons = (
        rows.assign(why=why)
        .loc[unused, ["patient_id", "assay", "why"]]
        .drop_duplicates()
        .sort_values(["patient_id", "assay", "why"])
        .groupby(["patient_id", "assay"])["why"]
        .agg(", ".join)
        .rename("why")
        .reset_index()
    )
    found = table[["patient_id", "assay"]].merge(reasons, on=["patient_id", "assay"], how="left")["why"]
    return ("no reportable sample (" + found + ")").fillna("no sample of this patient").astype("str")


def coded(
    status: Texts, level: Floats, lloq: Floats, lod: Floats, seen: NDArray | None = None
) -> tuple[Codes, Codes, Floats]:
    """Kind and detection of measured samples, and their levels where quantified.

    A value below its LLOQ is BLQ whatever number it carries; that number is compared with the LOD and then forgotten.
    `seen` (true, false or missing) says whether the assay saw a signal; where it is missing, status and LOD decide.
    """
    said = status == "quantified"
    quantified = said & ~(level < lloq) & (level > 0)
    above = status == "above_uloq"
    kind = np.where(quantified, QUANTIFIED, np.where(above, ABOVE, BLQ)).astype(np.int8)
    # A row reported as a number is compared with its LOD; one reported as BLQ with a LOD was detected.
    detected = np.where(said & (level < lod), UNDETECTED, DETECTED)
    detection = np.where(
        quantified | above,
        DETECTED,
        np.where(status == "not_detected", UNDETECTED, np.where(np.isnan(lod), UNKNOWN, detected)),
    ).astype(np.int8)
    if seen is not None:
        blq = kind == BLQ
        detection = np.where(blq & (seen == 1), DETECTED, np.where(blq & (seen == 0), UNDETECTED, detection))
        detection = detection.astype(np.int8)
    return kind, detection, np.where(quantified, level, np.nan)


def one_profile(
    time: Floats,
    level: Floats,
    status: Texts,
    lloq: Floats,
    lod: Floats,
    uloq: Floats,
    settings: Nca,
    amount: float = np.nan,
) -> Profiles:
    """A single profile without names, infused with an amount at 0; see `Profiles`.

    Raises
    ------
    InputError
        For two samples at one time under ``replicates: error``, or a quantified sample without a level.
    """
    used = ~np.isnan(time) & np.isin(status, ["quantified", "blq", "not_detected", "above_uloq"])
    bare = used & (status == "quantified") & np.isnan(level)
    raise_any(
        Problem("profile", None, "level", f"a quantified sample without a level at {t:g}", "a level", "give the level")
        for t in time[bare]
    )
    kind, detection, level = coded(status, level, lloq, lod)
    frame = pd.DataFrame(
        {"time": time, "level": level, "lloq": lloq, "uloq": uloq, "kind": kind, "detection": detection}
    )[used]
    frame = frame.assign(row=np.flatnonzero(used), profile=0).sort_values(["time", "row"], ignore_index=True)
    times, count = np.unique(frame["time"], return_counts=True)
    if (count > 1).any():
        if settings.replicates == "error":
            mend = "leave one, or choose replicates mean or first"
            raise_any(
                Problem("profile", None, "time", f"{n} samples at {t:g}", "one", mend)
                for t, n in zip(times[count > 1], count[count > 1], strict=True)
            )
        frame = _without_ties(frame, settings.replicates)

    def row(name: str, dtype: type) -> NDArray:
        return frame[name].to_numpy(dtype=dtype)[None, :]

    text = {**ONE_PROFILE, "dose_level": "", "level_unit": ""}
    table = pd.DataFrame({**{k: [v] for k, v in text.items()}, "no_data": ["no sample"]})
    return Profiles(
        table=table,
        time=row("time", np.float64),
        level=row("level", np.float64),
        lloq=row("lloq", np.float64),
        uloq=row("uloq", np.float64),
        kind=row("kind", np.int8),
        detection=row("detection", np.int8),
        predose=np.zeros((1, len(frame)), dtype=np.int8),
        sample=row("row", np.int64),
        # Windows that were asked for are given, however early follow-up ended.
        reach=np.array([np.inf]),
        infusion_start=np.zeros((1, 1)),
        infusion_number=np.ones((1, 1), dtype=np.int64),
        infusion_amount=np.array([[amount]]),
        dose_unit="",
        above_limit=above_limits(table, settings.above_limit),
    )


def ragged(
    profile: Ints,
    time: Floats,
    level: Floats,
    status: Texts | None,
    lloq: Floats,
    lod: Floats,
    uloq: Floats,
    settings: Nca,
) -> Profiles:
    """Profiles without names from columns of samples, each infused at 0; see `Profiles`.

    Parameters
    ----------
    profile : array of int [samples]
        Number of the profile of each sample, from 0.
    time, level, lloq, lod, uloq : arrays [samples]
        In any order; NaN where not measured, or without a limit.
    status : array of str [samples] or None
        As in `nkinetics.columns.STATUSES`; without it a level is quantified at or above its LLOQ, and BLQ below.
    settings : Nca
        ``above_limit``.

    Raises
    ------
    InputError
        For two samples of one profile at one time.
    """
    used = ~np.isnan(time)
    used &= ~np.isnan(level) if status is None else np.isin(status, ["quantified", "blq", "not_detected", "above_uloq"])
    n = int(profile.max()) + 1 if len(profile) else 0
    rows = np.flatnonzero(used)
    rows = rows[np.lexsort((time[rows], profile[rows]))]
    owner, at = profile[rows], time[rows]
    again = np.flatnonzero((np.diff(owner) == 0) & (np.diff(at) == 0))
    mend = "leave one, or combine them"
    raise_any(
        Problem("samples", int(rows[i + 1]), "time", f"two samples of profile {owner[i]} at {at[i]:g}", "one", mend)
        for i in again
    )
    said = np.full(len(rows), "quantified", dtype=object) if status is None else status[rows]
    kind, detection, levels = coded(said, level[rows], lloq[rows], lod[rows])
    count = np.bincount(owner, minlength=n)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    width = int(count.max()) if n else 0

    def laid(values: NDArray, blank: float, dtype: type) -> NDArray:
        out: NDArray = np.full((n, width), blank, dtype=dtype)
        out[owner, place] = values
        return out

    text = {"patient_id": "", "assay": "qpcr", "specimen": "blood", "dose_level": "", "level_unit": ""}
    table = pd.DataFrame({**{k: np.full(n, v, dtype=object) for k, v in text.items()}, "no_data": "no sample"})
    return Profiles(
        table=table,
        time=laid(at, np.nan, np.float64),
        level=laid(levels, np.nan, np.float64),
        lloq=laid(lloq[rows], np.nan, np.float64),
        uloq=laid(uloq[rows], np.nan, np.float64),
        kind=laid(kind, NONE, np.int8),
        detection=laid(detection, UNKNOWN, np.int8),
        predose=np.zeros((n, width), dtype=np.int8),
        sample=laid(rows, -1, np.int64),
        reach=np.full(n, np.inf),
        infusion_start=np.zeros((n, 1)),
        infusion_number=np.ones((n, 1), dtype=np.int64),
        infusion_amount=np.full((n, 1), np.nan),
        dose_unit="",
        above_limit=above_limits(table, settings.above_limit),
    )


def _used_rows(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Reportable measurements with a time, coded, with their profile, in order of profile and time."""
    measured = rows["status"].isin(["quantified", "blq", "not_detected", "above_uloq"])
    rows = rows[rows["reportable"] & measured & rows["time"].notna()]
    bare = (rows["status"] == "quantified") & rows["level"].isna()
    raise_any(
        Problem("observations", int(i) + 2, "level", "a quantified row without a level", "a level", "fill in the level")
        for i in rows.loc[bare, "row"]
    )
    status, level = rows["status"].to_numpy(dtype=object), rows["level"].to_numpy()
    seen = rows["detected"].astype("float64").to_numpy(na_value=np.nan) if "detected" in rows else None
    kind, detection, level = coded(status, level, rows["lloq"].to_numpy(), rows["lod"].to_numpy(), seen)
    index = pd.MultiIndex.from_frame(table[KEY])
    owner = index.get_indexer(pd.MultiIndex.from_frame(rows[KEY]))
    rows = rows.assign(profile=owner, kind=kind, detection=detection, level=level)
    return rows.sort_values(["profile", "time", "sample_id", "observation_id", "row"], ignore_index=True)


def _without_ties(rows: pd.DataFrame, rule: str) -> pd.DataFrame:
    """One row per profile and time, by the rule of the configuration."""
    again = rows.duplicated(["profile", "time"], keep=False)
    if not again.any():
        return rows
    if rule == "error":
        raise_any(
            Problem(
                "observations",
                int(own["row"].iloc[1]) + 2,
                "time_actual",
                f"{len(own)} reportable rows at one time for {' '.join(own[KEY].iloc[0])} at d {time:g}",
                "one",
                "mark all but one as not reportable, or set nca.replicates to mean or first",
            )
            for (_, time), own in rows[again].groupby(["profile", "time"], sort=True)
        )
    if rule == "mean":
        # A level beside BLQ rows at the same time: the mean of what was quantified; only BLQ: the highest LLOQ.
        rank = rows["kind"].map({QUANTIFIED: 0, ABOVE: 1, BLQ: 2})
        group = [rows["profile"], rows["time"]]
        rows = rows.assign(
            level=rows["level"].groupby(group).transform("mean"),
            lloq=rows["lloq"].groupby(group).transform("max"),
            detection=rows["detection"].groupby(group).transform("max"),
            rank=rank,
        ).sort_values(["profile", "time", "rank"], kind="stable", ignore_index=True)
        rows["level"] = rows["level"].where(rows["kind"] == QUANTIFIED)
        rows = rows.drop(columns="rank")
    return rows.drop_duplicates(["profile", "time"], keep="first", ignore_index=True)


def _infusions(table: pd.DataFrame, infusions: pd.DataFrame | None) -> tuple[Floats, Ints]:
    """Starts and numbers of the infusions of each profile; one at 0 where none is known."""
    n = len(table)
    if infusions is None or not len(infusions):
        return np.zeros((n, 1)), np.ones((n, 1), dtype=np.int64)
    given = infusions["time"].notna()
    if "given" in infusions.columns:
        given &= ~(infusions["given"] == 0).fillna(False).astype(bool)
    rows = infusions.loc[given, ["patient_id", "infusion", "time"]].sort_values(["patient_id", "time", "infusion"])
    people = pd.Index(table["patient_id"].drop_duplicates())
    owner = people.get_indexer(rows["patient_id"])
    rows = rows[owner >= 0]
    owner = owner[owner >= 0]
    count = np.bincount(owner, minlength=len(people))
    width = max(1, int(count.max()) if len(count) else 1)
    order = np.argsort(owner, kind="stable")
    owner, rows = owner[order], rows.iloc[order]
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    starts = np.full((len(people), width), np.inf)
    numbers = np.zeros((len(people), width), dtype=np.int64)
    starts[owner, place] = rows["time"].to_numpy(dtype=float)
    numbers[owner, place] = rows["infusion"].to_numpy(dtype=np.int64)
    unknown = count == 0
    starts[unknown, 0], numbers[unknown, 0] = 0.0, 1
    mine = people.get_indexer(table["patient_id"])
    return starts[mine], numbers[mine]


# --------------------------------------------------------------------------------------------------------- windows


def window_name(start: float, end: float) -> str:
    """Name of a named window.

    Examples
    --------
    >>> window_name(0, 28)
    'D0-28'
    """
    return f"D{start:g}-{end:g}"


def batches(whole: Profiles, settings: Nca, block: int = BLOCK) -> Iterator[Batch]:
    """Profiles with their windows, a block of profiles at a time; windows of one kind stand together."""
    for begin in range(0, len(whole.table), block):
        batch = _batch(whole, np.arange(begin, min(begin + block, len(whole.table))), settings)
        if settings.lambda_z.manual:
            people = {m.patient_id for m in settings.lambda_z.manual}
            named = whole.table["patient_id"].isin(people).to_numpy()[batch.profile] & (batch.window_kind != NAMED)
            keys = whole.table[KEY].iloc[batch.profile[named]].itertuples(index=False, name=None)
            fits = zip(keys, batch.window[named], np.flatnonzero(named).tolist(), strict=True)
            rows = {(*key, str(window)): i for key, window, i in fits}
            study = np.where(batch.kind == QUANTIFIED, batch.time + batch.origin[:, None], np.nan)
            batch = replace(batch, manual=manual_points(rows, study, settings.lambda_z.manual))
        yield batch


def _predose_columns(whole: Profiles, rows: Ints, share: float) -> Ints:
    """Column of the pre-dose sample of each infusion [rows, infusions]; -1 where there is none.

    Of the first infusion: the last sample before it, however early. Of a later one: the last sample in the given share
    of the interval before it, unless it is said not to be a pre-dose sample.
    """
    time, said, kind = whole.time[rows], whole.predose[rows], whole.kind[rows]
    starts = whole.infusion_start[rows]
    columns = np.full(starts.shape, -1, dtype=np.int64)
    width = time.shape[1]
    for j in range(starts.shape[1] if width else 0):
        at = starts[:, j : j + 1]
        if j == 0:
            fits = (time < at) | ((time == at) & (said == 1))
        else:
            since = starts[:, j - 1 : j]
            with np.errstate(invalid="ignore"):
                fits = (time <= at) & (time > since) & (at - time <= share * (at - since)) & (said != 0)
        fits &= kind != NONE
        fits &= np.isfinite(at)
        columns[:, j] = np.where(fits.any(axis=1), width - 1 - np.argmax(fits[:, ::-1], axis=1), -1)
    return columns


@dataclass(frozen=True)
class _Piece:
    """Windows of one kind, before they are stacked; see `Batch`. `take` and `column` choose from the profiles."""

    take: Ints
    window: Texts
    kind: int
    origin: Floats
    start: Floats
    end: Floats
    member: Bools
    inside: Bools
    predose: Ints
    later: bool
    trough: Ints
    follows: Bools
    amount: Floats


def _batch(whole: Profiles, rows: Ints, settings: Nca) -> Batch:
    time, kind = whole.time[rows], whole.kind[rows]
    starts, numbers = whole.infusion_start[rows], whole.infusion_number[rows]
    n, width = time.shape
    predose = _predose_columns(whole, rows, settings.predose_share)
    column = np.arange(width)
    real = kind != NONE
    none = np.full(n, -1, dtype=np.int64)
    zero = np.zeros(n)
    pieces = []

    def piece(keep: Bools, names: Sequence[str] | Texts, what: int, **given: object) -> None:
        values = {k: v[keep] if isinstance(v, np.ndarray) else v for k, v in given.items()}
        pieces.append(_Piece(np.flatnonzero(keep), np.asarray(names, dtype=object)[keep], what, **values))  # type: ignore[arg-type]

    # The study clock starts with the first infusion; the last sample before it is the sample at time 0.
    before = (time < 0) & real
    early = np.where(before.any(axis=1), width - 1 - np.argmax(before[:, ::-1], axis=1), -1) if width else none
    since_zero = real & (time >= 0)
    everyone = np.ones(n, dtype=bool)
    each = np.where(np.isfinite(starts), whole.infusion_amount[rows], 0.0)
    study = {"origin": zero, "member": since_zero, "predose": early, "later": False, "trough": none}
    no_follow = {"follows": np.zeros(n, dtype=bool)}
    piece(
        everyone,
        ["overall"] * n,
        OVERALL,
        **study,
        **no_follow,
        start=zero,
        end=np.full(n, np.inf),
        inside=since_zero,
        amount=each.sum(axis=1),
    )
    for j in range(starts.shape[1]):
        at = starts[:, j]
        exists = np.isfinite(at)
        follows = np.isfinite(starts[:, j + 1]) if j + 1 < starts.shape[1] else np.zeros(n, dtype=bool)
        until = np.where(follows, starts[:, min(j + 1, starts.shape[1] - 1)], np.inf)
        mine = predose[:, j]
        trough = np.where(follows, predose[:, min(j + 1, starts.shape[1] - 1)], -1)
        own = column == mine[:, None]
        next_own = (column == trough[:, None]) & follows[:, None]
        member = real & (time >= at[:, None]) & ~own & ((time < until[:, None]) | next_own)
        final = np.where(member, time, -np.inf).max(axis=1, initial=-np.inf)
        end = np.where(follows, until, np.where(final > at, final, np.inf))
        names = np.array([f"infusion_{k}" for k in numbers[:, j]], dtype=object)
        origin = np.where(exists, at, 0.0)
        piece(
            exists,
            names,
            INFUSION,
            origin=origin,
            start=zero,
            end=end - origin,
            member=member,
            inside=member,
            predose=mine,
            later=j > 0,
            trough=trough,
            follows=follows,
            amount=each[:, j],
        )
    for i, (a, b) in enumerate(settings.windows):
        # The first window is always given, the others once follow-up reaches them.
        keep = everyone if i == 0 else whole.reach[rows] >= b
        inside = since_zero & (time >= a) & (time <= b)
        total = np.where(starts < b, each, 0.0).sum(axis=1)
        named = {"start": np.full(n, float(a)), "end": np.full(n, float(b)), "inside": inside, "amount": total}
        piece(keep, [window_name(a, b)] * n, NAMED, **study, **no_follow, **named)
    return _stacked(whole, rows, pieces, settings)


def _stacked(whole: Profiles, rows: Ints, pieces: list[_Piece], settings: Nca) -> Batch:
    take = np.concatenate([p.take for p in pieces])
    sizes = [len(p.take) for p in pieces]
    origin = np.concatenate([p.origin for p in pieces])
    member = np.concatenate([p.member for p in pieces])
    inside = np.concatenate([p.inside for p in pieces])
    predose = np.concatenate([p.predose for p in pieces])
    later = np.repeat([p.later for p in pieces], sizes)
    window_kind = np.repeat(np.array([p.kind for p in pieces], dtype=np.int8), sizes)
    start = np.concatenate([p.start for p in pieces])
    trough = np.concatenate([p.trough for p in pieces])
    source = rows[take]
    clock = np.where(member, whole.time[source] - origin[:, None], np.nan)
    # A sample that stands at the very start needs no copy.
    at_start = (clock == 0).any(axis=1)
    moved = (predose >= 0) & ~at_start
    pick = np.maximum(predose, 0)
    width = clock.shape[1]

    def with_start(values: NDArray, blank: float) -> NDArray:
        body = np.where(member, values[source], blank).astype(values.dtype)
        head = np.where(moved, values[source, pick], blank).astype(values.dtype) if width else np.empty(0)
        return np.concatenate([head[:, None], body], axis=1) if width else np.full((len(take), 1), blank, values.dtype)

    kind = with_start(whole.kind, NONE)
    lead = np.where(moved, origin - whole.time[source, pick], 0.0) if width else np.zeros(len(take))
    number = np.arange(len(take))
    return Batch(
        profile=source,
        window=np.concatenate([p.window for p in pieces]),
        window_kind=window_kind,
        origin=origin,
        start=start,
        end=np.concatenate([p.end for p in pieces]),
        # The overall rows come first, in the order of the block.
        parent=np.where(window_kind == NAMED, take, number),
        time=np.concatenate([np.zeros((len(take), 1)), clock], axis=1),
        level=with_start(whole.level, np.nan),
        lloq=with_start(whole.lloq, np.nan),
        uloq=with_start(whole.uloq, np.nan),
        kind=kind,
        detection=with_start(whole.detection, UNKNOWN),
        sample=with_start(whole.sample, -1),
        inside=np.concatenate([(moved & (start <= 0))[:, None], inside], axis=1),
        lead=lead,
        start_rule=np.where(later, "predose", settings.start).astype(object),
        trough=np.where(trough >= 0, trough + 1, -1),
        infusion_follows=np.concatenate([p.follows for p in pieces]),
        amount=np.concatenate([p.amount for p in pieces]),
        above_limit=whole.above_limit[source],
    )
