"""From a folder of exports and the user's tables to observations, with an account of every row.

Three kinds of failure. A wrong table of the user, a wrong configuration or a sample that does not join is an
`InputError`, and nothing is written. An export that cannot be read is set aside whole: it stands in ingest.csv with the
reason and in `Ingested.problems`, and the others go on. A run or a sample that fails its rules is a row that says so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nkinetics import compact, readers
from nkinetics.columns import (
    CALIBRATORS,
    IDENTIFIER,
    INFUSIONS,
    INGEST,
    OBSERVATION_SOURCES,
    OBSERVATIONS,
    PATIENTS,
    RUNS,
    SAMPLES,
    USER_TABLES,
    Schema,
    spelled,
)
from nkinetics.errors import InputError, Problem, nearest, printable, raise_any
from nkinetics.inputs import NOMINAL_USED, Study, assumed_infusions, assumed_words, read_study, with_reference
from nkinetics.observations import FAR, OUTSIDE_WINDOW, PREDOSE, VisitWindow, assemble, batch_of, joined, natural
from nkinetics.provenance import exclusions
from nkinetics.quantify import derived, dpcr, flow, listing, qpcr
from nkinetics.quantify.levels import LEVELS, Quantified, frame_of, unusable
from nkinetics.readers import FileReport
from nkinetics.readers._export import label_of
from nkinetics.settings import INPUT_TABLES, Settings, located
from nkinetics.starter import init_study
from nkinetics.store import complete, empty, records, rows_sha256, table_writer, write_table, write_text

__all__ = [
    "Checked",
    "Ingested",
    "check",
    "configured_assays",
    "export_names",
    "export_paths",
    "init_study",
    "run",
    "write",
]

ASSAY_OF: Mapping[str, str] = {"ct": "qpcr", "partitions": "ddpcr", "events": "flow"}
"""Assay by what a raw row measures; a listing names its own."""

_OURS = ("time_flag",)
"""Columns that the reading adds to a user's table."""
NOT_FOUND = "no result in the exports that could be read"

_MINUTE = 1 / 1440 + 1e-6
"""Days by which a time may pass another before it is said: times are written to the minute."""

_SAME_VALUE = 5e-4
"""Relative difference within which two exports of one well agree: formats print different numbers of digits."""


@dataclass(frozen=True)
class Ingested:
    """What `run` made.

    Parameters
    ----------
    rows, wells : DataFrame
        The canonical tables ingest and observation_sources, compact (`nkinetics.compact`) and not sorted: they have as
        many rows as the exports and more. A well that serves a level in two ways may stand in `wells` twice.
    runs, calibrators, observations : DataFrame
        The canonical tables of these names.
    study : Study
        The user's tables, normalised, with what listings added.
    file_reports : tuple of FileReport
        One per export.
    warnings : tuple of str
        What was assumed or passed over, a sentence each.
    problems : tuple of Problem
        Exports that could not be read; empty when all could.
    settings : Settings
        The configuration that made them.
    inputs : tuple of (str, str, str)
        The user's tables as they were read: name, path as configured, sha256.
    """

    rows: pd.DataFrame
    runs: pd.DataFrame
    calibrators: pd.DataFrame
    observations: pd.DataFrame
    wells: pd.DataFrame
    study: Study
    file_reports: tuple[FileReport, ...]
    warnings: tuple[str, ...]
    problems: tuple[Problem, ...]
    settings: Settings
    inputs: tuple[tuple[str, str, str], ...] = ()

    @cached_property
    def ingest(self) -> pd.DataFrame:
        """The canonical table ingest: what became of every raw row."""
        return _stacked(list(_in_pieces(self.rows, "source_file")), INGEST)

    @cached_property
    def observation_sources(self) -> pd.DataFrame:
        """The canonical table observation_sources: the raw rows behind every observation."""
        pieces = [piece.drop_duplicates() for piece in _in_pieces(self.wells, "observation_id")]
        return _stacked(pieces, OBSERVATION_SOURCES)


_PIECE = 50_000
"""Raw rows that are worked on at once: bounds the memory of a large study."""


def _in_pieces(frame: pd.DataFrame, by: str) -> Iterator[pd.DataFrame]:
    """Rows of a compact frame as plain ones, those of one text of the column `by` together, by increasing text."""
    for places in compact.pieces(frame[by], _PIECE):
        yield compact.plain(frame.iloc[places])


@dataclass
class _Account:
    """Fate of every raw row, and what must be said, on the way through `run`; the raw rows are compact."""

    raw: pd.DataFrame
    set_aside: dict[int, str] = field(default_factory=dict)
    roles: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def free(self) -> NDArray[np.bool_]:
        """Which rows nothing has set aside so far."""
        mask = np.ones(len(self.raw), dtype=bool)
        mask[np.fromiter(self.set_aside, dtype=np.intp, count=len(self.set_aside))] = False
        return mask

    def left(self, *names: str, role: str = "") -> pd.DataFrame:
        """Rows that nothing has set aside so far, of one role where one is named: these columns, plain."""
        mask = self.free()
        if role:
            mask &= (self.raw["role"] == role).to_numpy()
        return compact.plain(self.raw.loc[mask, list(names)])


# ------------------------------------------------------------------------------------------------------------- exports


def export_paths(settings: Settings, root: Path) -> list[Path]:
    """Files that the patterns of `inputs.exports` mean, sorted; hidden files and README files are no exports.

    Raises
    ------
    InputError
        When no file matches any pattern.
    """
    found = set()
    for pattern in settings.inputs.exports:
        # A trailing ** means files too; pathlib before 3.13 gives folders only.
        deep = pattern + "/*" if pattern.endswith("**") else pattern
        path = Path(deep)
        start, relative = (Path(path.anchor), str(path.relative_to(path.anchor))) if path.anchor else (root, deep)
        matches = start.glob(relative)
        found |= {match for match in matches if match.is_file()}
    exports = sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in _below(path, root).parts)
        and not path.name.upper().startswith("README")
    )
    if not exports:
        patterns = ", ".join(settings.inputs.exports)
        raise InputError(
            Problem(
                "config.yaml",
                None,
                "inputs.exports",
                f"no file that matches {patterns}",
                "the exports of the instruments",
                "copy the exports there, or correct the pattern",
            )
        )
    return exports


def export_names(settings: Settings, root: Path) -> list[str]:
    """Names of the exports, relative to the study folder; none where no file matches."""
    try:
        return [_below(path, root).as_posix() for path in export_paths(settings, root)]
    except InputError:
        return []


def _below(path: Path, root: Path) -> Path:
    try:
        return path.relative_to(root)
    except ValueError:
        return Path(path.name)


# ---------------------------------------------------------------------------------------------------------- set aside


def _set_superseded_aside(account: _Account, settings: Settings) -> None:
    for word in settings.inputs.superseded:
        raw = account.raw
        hit = (raw["source_file"] == word) | raw["source_file"].str.endswith("/" + word)
        if re.fullmatch(r"[0-9a-f]{6,64}", word):
            hit |= raw["source_sha256"].str.startswith(word)
        if not hit.any():
            account.warnings.append(f"inputs.superseded names {word}, which is no export that was read.")
        account.set_aside.update(dict.fromkeys(raw.index[hit], "superseded (inputs.superseded)"))


def _set_ignored_aside(account: _Account, settings: Settings) -> None:
    patterns = [re.compile(p) for p in settings.inputs.ignore_samples]
    left = account.left("sample_id", role="unknown") if patterns else empty(SAMPLES)
    for label, sample in zip(left.index, left["sample_id"], strict=True):
        for pattern in patterns:
            if sample and pattern.fullmatch(sample):
                account.set_aside[label] = f"sample matches {pattern.pattern} of inputs.ignore_samples"


def _settle_repeated_wells(account: _Account) -> None:
    """The same well of the same run in two places: once is enough when they agree, a conflict when they do not."""
    key = ["run_id", "measure", "well", "target"]
    left = account.raw.loc[account.free() & (account.raw["well"] != "").to_numpy(), key]
    wells = compact.plain(account.raw.loc[left.index[left.duplicated(keep=False)]])
    # Design & Analysis writes the quantities of its standards into a file of their own: such a row goes first.
    wells = wells.assign(bare=wells["quantity"].isna())
    wells = wells.sort_values(["bare", "source_file", "source_row"], kind="stable")
    for _, rows in wells.groupby(key):
        first = rows.iloc[0]
        for label in rows.index[1:]:
            other = rows.loc[label]
            if _agrees(first, other):
                account.set_aside[label] = (
                    f"the same well with the same value stands in {first['source_file']}, row {first['source_row']}"
                )
                continue
            account.problems.append(
                Problem(
                    other["source_file"],
                    int(other["source_row"]),
                    "",
                    f"run {other['run_id']}, well {other['well']}, {other['target']}: {_shown(other)}, but "
                    f"{_shown(first)} in {first['source_file']}, row {first['source_row']}",
                    "one value for a well of a run",
                    "name the older export in inputs.superseded, or give the runs different names",
                )
            )
            account.set_aside[label] = "conflicts with another export"


def _shown(row: pd.Series) -> str:
    return f"{row['value_raw'] or 'no value'} ({row['sample_id'] or row['role']})"


def _agrees(one: pd.Series, two: pd.Series) -> bool:
    if one["sample_id"] != two["sample_id"] or one["role"] != two["role"]:
        return False
    if one["quantity"] != two["quantity"] and not (math.isnan(one["quantity"]) or math.isnan(two["quantity"])):
        return False
    a, b = float(one["value"]), float(two["value"])
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return abs(a - b) <= _SAME_VALUE * max(abs(a), abs(b))


# ---------------------------------------------------------------------------------------------------------------- join


def _joined_names(account: _Account, study: Study, settings: Settings) -> tuple[pd.Series, pd.DataFrame]:
    """Sample id of the manifest for each raw row, and the manifest with what the names themselves say."""
    known = set(study.samples["sample_id"])
    pattern = settings.inputs.sample_name_pattern
    compiled = re.compile(pattern) if pattern else None
    made: dict[str, dict[str, object]] = {}
    names: dict[str, str] = {}
    taken: list[str] = []
    left = account.left("sample_id", "measure", role="unknown").drop_duplicates()
    samples = left[left["sample_id"] != ""]
    respelled = _respelled(samples, known)
    for name in sorted(set(samples["sample_id"])):
        bare = re.sub(r"(?i)\.fcs$", "", name)
        if name in known or bare in known:
            names[name] = name if name in known else bare
        elif name in respelled and (compiled is None or not compiled.search(name)):
            names[name] = respelled[name]
            taken.append(f"{name!r} for {respelled[name]}")
        elif compiled is not None and (match := compiled.search(name)):
            row = _from_name(name, match.groupdict())
            if row is not None:
                names[name] = str(row["sample_id"])
                made[name] = row
    if taken:
        shown = ", ".join(taken[:5]) + (f" and {len(taken) - 5} more" if len(taken) > 5 else "")
        account.warnings.append(
            f"Names of exports that differ from manifest ids in blanks and slashes alone are taken for them: {shown}."
        )
    manifest = study.samples
    if made:
        account.warnings.append(
            f"{len(made)} sample{'s' if len(made) > 1 else ''} without a row in the manifest: patient and time are "
            "taken from the name (inputs.sample_name_pattern)."
        )
        extra = complete(pd.DataFrame(list(made.values())), SAMPLES)
        parts = [part for part in (manifest, extra) if len(part)]
        manifest = pd.concat(parts, ignore_index=True)
        manifest["time_flag"] = manifest["time_flag"].fillna("").astype("str")
    return compact.renamed(account.raw["sample_id"], names), manifest


def _respelled(samples: pd.DataFrame, known: Collection[str]) -> dict[str, str]:
    """Manifest ids of names that a manifest cannot spell, as ``P001 D4/2h`` for P001-D4-2h; only where no other fits.

    Blanks and slashes alone are replaced: ``S02+`` is not S02, and a name that the manifest could spell is its own.
    """
    ids: dict[str, list[str]] = {}
    for sample in known:
        ids.setdefault(re.sub(r"[._-]+", "-", sample), []).append(sample)
    measured = {str(name): set(rows) for name, rows in samples.groupby("sample_id")["measure"]}
    spellings: dict[str, list[str]] = {}
    for name in measured:
        bare = re.sub(r"(?i)\.fcs$", "", name)
        plain = spelled(name)
        own = ids.get(re.sub(r"[._-]+", "-", plain), [])
        if len(own) == 1 and IDENTIFIER.fullmatch(plain) and (not IDENTIFIER.fullmatch(bare) or bare == own[0]):
            spellings.setdefault(own[0], []).append(name)
    # Two spellings in one assay may be two samples; one spelling for each assay is one sample.
    sure = {
        sample: names
        for sample, names in spellings.items()
        if sum(len(measured[name]) for name in names) == len(set().union(*(measured[name] for name in names)))
    }
    return {name: sample for sample, names in sure.items() for name in names}


def _from_name(name: str, parts: Mapping[str, str | None]) -> dict[str, object] | None:
    """A manifest row from the groups of a sample name; None when there is no patient or no time in it."""
    try:
        time = float(parts.get("time") or "")
    except ValueError:
        return None
    patient = parts.get("patient_id") or ""
    if not IDENTIFIER.fullmatch(patient):
        return None
    return {
        "sample_id": re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:40],
        "patient_id": patient,
        "specimen": parts.get("specimen") or "blood",
        "visit": parts.get("visit") or "",
        "time_nominal": time,
        "time_actual": time,
        "time_flag": "time from the sample name",
    }


def _unmatched(account: _Account, manifest: pd.DataFrame, settings: Settings) -> list[Problem]:
    """Samples of the exports without a row in the manifest."""
    left = account.left("source_file", "source_row", "sample_id", "patient_id", role="unknown")
    known = set(manifest["sample_id"])
    lost = left[~left["sample_id"].isin(known) & (left["patient_id"] == "")]
    file = settings.inputs.samples or "a manifest (inputs.samples)"
    problems = []
    for _, rows in lost.groupby(["source_file", "sample_id"]):
        row = rows.sort_values("source_row").iloc[0]
        near = nearest(row["sample_id"], known)
        mend = f"did you mean {near}? Otherwise add the sample to {file}" if near else f"add the sample to {file}"
        mend += ", or name it in inputs.ignore_samples if it is no sample of the study"
        problems.append(
            Problem(
                row["source_file"],
                int(row["source_row"]),
                "sample",
                repr(row["sample_id"]),
                f"a sample of {file}",
                mend,
            )
        )
    return problems


def _unknown_patients(manifest: pd.DataFrame, study: Study, settings: Settings) -> list[Problem]:
    """Patients that only a sample's name or a listing knows, where a table of patients is given."""
    if settings.inputs.patients is None:
        return []
    known = set(study.patients["patient_id"])
    lost = manifest[~manifest["patient_id"].isin(known) & ~manifest["sample_id"].isin(set(study.samples["sample_id"]))]
    return [
        Problem(
            settings.inputs.patients,
            None,
            "patient_id",
            f"no patient {patient!r}, whom the sample name {sample!r} names",
            "every patient of the exports",
            "add the patient, or correct inputs.sample_name_pattern",
        )
        for patient, sample in zip(lost["patient_id"], lost["sample_id"], strict=True)
    ]


# ------------------------------------------------------------------------------------------------------------- listings


def _listing_rows(account: _Account) -> pd.Series:
    """Rows of listings that carry their patient themselves."""
    raw = account.raw
    return (raw["patient_id"] != "") & raw["measure"].isin(("level", ""))


def _with_listing(account: _Account, study: Study, manifest: pd.DataFrame, settings: Settings) -> Study:
    """The study with the patients and infusions that only listings and names of samples tell.

    Patients are added where no table of patients is given; a dosing record is an infusion where no table of infusions
    is given.
    """
    raw = account.raw
    of_listing = compact.plain(raw[_listing_rows(account) & account.free()])
    warnings: list[str] = []
    patients = study.patients
    if settings.inputs.patients is None:
        level_of = {
            p: next((d for d in rows["dose_level"] if d), "all") for p, rows in of_listing.groupby("patient_id")
        }
        named = sorted({*level_of, *manifest["patient_id"], *study.infusions["patient_id"]})
        patients = (
            complete(
                pd.DataFrame({"patient_id": named, "dose_level": [level_of.get(p, "all") for p in named]}), PATIENTS
            )
            if named
            else empty(PATIENTS)
        )
    else:
        account.problems += _foreign_patients(of_listing, study, settings.inputs.patients)
    doses = of_listing[of_listing["role"] == "dose"].sort_values(["patient_id", "time", "source_row"])
    infusions = study.infusions
    if settings.inputs.infusions is None:
        infusions = _listed_infusions(doses, settings, account.problems)
        account.set_aside.update(dict.fromkeys(doses.index[doses["time"].isna()], "dosing record without a time"))
        treated = set(infusions["patient_id"])
        without = sorted(set(patients["patient_id"]) - treated)
        if without:
            reference, unit = settings.study.reference_dose, settings.study.dose_unit
            assumed = assumed_infusions(without, reference, unit)
            infusions = complete(pd.concat([infusions, assumed]) if len(infusions) else assumed, INFUSIONS)
            warnings.append(assumed_words(len(without), reference, unit))
    else:
        why = f"dosing record; infusions come from {settings.inputs.infusions}"
        account.set_aside.update(dict.fromkeys(doses.index, why))
    kept = tuple(w for w in study.warnings if not w.startswith("No infusions are given"))
    return replace(study, patients=patients, infusions=infusions, warnings=(*kept, *warnings))


def _foreign_patients(rows: pd.DataFrame, study: Study, file: str) -> list[Problem]:
    known = set(study.patients["patient_id"])
    problems = []
    for (source, patient), own in rows[~rows["patient_id"].isin(known)].groupby(["source_file", "patient_id"]):
        near = nearest(str(patient), known)
        mend = f"did you mean {near}? Otherwise add the patient to {file}" if near else f"add the patient to {file}"
        problems.append(
            Problem(
                str(source), int(own["source_row"].min()), "patient_id", repr(patient), f"a patient of {file}", mend
            )
        )
    return problems


def _listed_infusions(doses: pd.DataFrame, settings: Settings, problems: list[Problem]) -> pd.DataFrame:
    rows = []
    for patient, own in doses[doses["time"].notna()].groupby("patient_id"):
        first = own.iloc[0]
        if abs(first["time"]) > 1e-6:
            problems.append(
                Problem(
                    first["source_file"],
                    int(first["source_row"]),
                    "time",
                    f"the first infusion of patient {patient} at {first['time']:g} d",
                    "0, from where all times are counted",
                    "set time_zero: first_infusion in the generic section",
                )
            )
        repeated = own[own.duplicated("time")]
        problems += [
            Problem(
                file, int(row), "time", f"a second infusion of patient {patient} at {time:g} d", "one", "remove one row"
            )
            for file, row, time in zip(repeated["source_file"], repeated["source_row"], repeated["time"], strict=True)
        ]
        rows += [
            {"patient_id": patient, "infusion": i, "time": time, "planned": dose, "given": dose}
            for i, (time, dose) in enumerate(zip(own["time"], own["dose"], strict=True), start=1)
        ]
    if not rows:
        return empty(INFUSIONS)
    return complete(pd.DataFrame(rows).assign(unit=settings.study.dose_unit), INFUSIONS)


def _listed_samples(account: _Account, names: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
    """Sample ids of listing rows, generated from file and row where there are none, and their manifest."""
    raw = account.raw
    rows = compact.plain(raw[_listing_rows(account) & (raw["role"] == "unknown") & account.free()])
    made = []
    own: dict[int, str] = {}
    taken: set[str] = set()
    for label, row in zip(rows.index, records(rows), strict=True):
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(row["source_file"]).stem).strip("-._")[:30] or "row"
        name = row["sample_id"] if row["sample_id"] and row["sample_id"] not in taken else f"{stem}-{row['source_row']}"
        taken.add(name)
        own[label] = name
        nominal = math.isnan(row["time"]) and not math.isnan(row["time_nominal"])
        made.append(
            {
                "sample_id": name,
                "patient_id": row["patient_id"],
                "specimen": row["specimen"] or "blood",
                "visit": row["visit"],
                "time_nominal": row["time_nominal"],
                "time_actual": row["time_nominal"] if nominal else row["time"],
                "time_flag": "nominal time used" if nominal else "",
            }
        )
    manifest = (
        complete(pd.DataFrame(made), SAMPLES) if made else empty(SAMPLES).assign(time_flag=pd.Series(dtype="str"))
    )
    if own:
        texts = names.astype("str")
        texts.loc[list(own)] = list(own.values())
        names = pd.Series(compact.coded(texts), index=names.index)
    return names, manifest


# ------------------------------------------------------------------------------------------------------------ quantify


def configured_assays(settings: Settings) -> dict[str, tuple[str, str]]:
    """Analyte and unit of each configured assay, the derived one last."""
    found = {}
    for name in ("qpcr", "ddpcr", "flow"):
        section = getattr(settings.assays, name)
        if section is not None:
            found[name] = (section.analyte, getattr(section, "level_unit", "cells/uL"))
    if settings.assays.qpcr is not None and settings.assays.qpcr.derived_cells is not None:
        found[derived.ASSAY] = (derived.derived_analyte(settings.assays.qpcr), "cells/uL")
    return found


def _quantified(account: _Account, manifest: pd.DataFrame, settings: Settings) -> list[Quantified]:
    """Every assay's levels from the rows that are left; sets rows aside and collects problems in the account."""
    sections = {"ct": settings.assays.qpcr, "partitions": settings.assays.ddpcr, "events": settings.assays.flow}
    functions = {"ct": qpcr.quantify, "partitions": dpcr.quantify, "events": flow.quantify}
    made = []
    raw = account.raw
    for measure, section in sections.items():
        rows = raw[(raw["measure"] == measure) & account.free()]
        if rows.empty:
            continue
        assay = ASSAY_OF[measure]
        if section is None:
            account.set_aside.update(dict.fromkeys(rows.index, f"assay {assay} is not configured (assays.{assay})"))
            account.warnings.append(
                f"{rows['source_file'].nunique()} export(s) hold {assay} results and are not used: assays.{assay} is "
                "not configured."
            )
            continue
        # A run is quantified by itself; only the headers of FCS files belong to samples of any run.
        most = len(rows) if (rows["reader"] == flow.HEADER).any() else _PIECE
        parts = []
        for places in compact.pieces(rows["run_id"], most):
            piece = compact.plain(rows.iloc[np.sort(places)])
            own = manifest[manifest["sample_id"].isin(set(piece["sample_id"]))]
            one = functions[measure](piece, own, section)  # type: ignore[operator]
            account.set_aside.update(one.set_aside)
            account.roles.update(one.roles)
            account.warnings += one.warnings
            parts.append(replace(one, sources=_short(one.sources, raw), set_aside={}, roles={}))
        together = _together(parts)
        account.problems += [Problem("config.yaml", None, f"assays.{assay}", text) for text in together.problems]
        account.problems += _no_target(rows["target"].unique().tolist(), assay, section)
        made.append(together)
    return made


def _short(sources: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """Sources of levels as a compact frame that joins others without being recoded, where its texts allow it."""
    shared = ("run_id", "sample_id", "source_file", "source_sha256")
    return compact.compact(sources).assign(
        **{
            name: pd.Categorical(sources[name], dtype=raw[name].dtype)
            for name in shared
            if sources[name].isin(raw[name].cat.categories).all()
        }
    )


def _together(parts: list[Quantified]) -> Quantified:
    """What was quantified in pieces, as one; what became of the raw rows is in the account."""
    return Quantified(
        _stacked([one.levels for one in parts], LEVELS),
        _stacked([one.runs for one in parts], RUNS),
        compact.joined([one.sources for one in parts]),
        {},
        needs=tuple(need for one in parts for need in one.needs),
        problems=tuple(dict.fromkeys(text for one in parts for text in one.problems)),
        calibrators=_stacked([one.calibrators for one in parts], CALIBRATORS),
    )


def _no_target(targets: Sequence[str], assay: str, section: object) -> list[Problem]:
    """The pattern of the target matches nothing in any export of the assay."""
    pattern = getattr(section, "target_pattern", None)
    if pattern is None or any(re.search(pattern, t) for t in targets):
        return []
    found = ", ".join(sorted({t for t in targets if t})) or "none"
    return [
        Problem(
            "config.yaml",
            None,
            f"assays.{assay}.target_pattern",
            f"{pattern!r}, which matches no target of the exports (targets: {found})",
            "a pattern of the transgene's target",
            "name the target as the exports do",
        )
    ]


def _needs(made: list[Quantified], study: Study, settings: Settings, earlier: list[Problem]) -> list[Problem]:
    """What the manifest lacks: a column that it has not once, an empty or wrong cell each."""
    file = settings.inputs.samples or "samples.csv"
    wanted = sorted({(n.sample_id, n.column, n.why) for one in made for n in one.needs})
    values = study.samples.drop_duplicates("sample_id").set_index("sample_id")
    reported = {(p.row, p.column) for p in earlier if p.file == file}
    problems = []
    for column, why in sorted({(column, why) for _, column, why in wanted}):
        if not study.sample_header or column in study.sample_header:
            continue
        near = nearest(column, set(study.sample_header) - set(SAMPLES.names), 0.6)
        # A header that was taken for this one is reported already.
        if not any((1, name) in reported for name in near.split(" or ")):
            found = "no such column" + (f", but {near}" if near else "")
            mend = f"rename {near} if it is meant, or add the column" if near else "add the column"
            problems.append(Problem(file, 1, column, found, f"a column {column}, {why}", mend))
    for sample, column, why in wanted:
        row = study.sample_rows.get(sample)
        if (study.sample_header and column not in study.sample_header) or (row, column) in reported:
            continue
        value = float(values.at[sample, column]) if sample in values.index else math.nan
        problems.append(
            Problem(
                file,
                row,
                column,
                f"no {column} for sample {sample}" if math.isnan(value) else f"{value:g} for sample {sample}",
                f"a positive number, {why}",
                "write it, or name the well in the instrument software as omitted",
            )
        )
    return problems


def _without_level(
    account: _Account,
    manifest: pd.DataFrame,
    levels: pd.DataFrame,
    study: Study,
    settings: Settings,
    *,
    complete_set: bool,
) -> tuple[list[dict[str, object]], list[Problem]]:
    """Samples of the manifest without a level: not done, pending, set aside as a whole, or missing (a problem)."""
    raw = account.raw
    assays = configured_assays(settings)
    first = next(iter(assays), "qpcr")
    rows: list[dict[str, object]] = []
    problems = []
    done, known = set(levels["sample_id"]), set(manifest["sample_id"])
    seen_in: dict[str, list[tuple[int, str]]] = {}
    unlevelled = raw[(raw["role"] == "unknown") & raw["sample_id"].isin(known - done)]
    for label, name, measure in zip(unlevelled.index, unlevelled["sample_id"], unlevelled["measure"], strict=True):
        seen_in.setdefault(name, []).append((label, measure))
    for sample in records(manifest):
        if sample["sample_id"] in done:
            if sample["state"]:
                account.warnings.append(
                    f"Sample {sample['sample_id']} is {sample['state']} in the manifest, and an export has a result."
                )
            continue
        own = seen_in.get(sample["sample_id"], [])
        status, why, assay = "not_done", "", first
        if sample["state"]:
            why = {"not_done": "not done", "pending": "pending: not assayed yet"}[sample["state"]]
        elif own:
            reasons = dict.fromkeys(account.set_aside.get(label, "") for label, _ in own)
            why = "no usable row in the exports: " + "; ".join(r for r in reasons if r)
            status = "failed"
            assay = next((a for _, m in own if (a := ASSAY_OF.get(m, "")) in assays), first)
        elif not complete_set:
            why = NOT_FOUND
        else:
            problems.append(
                _missing(sample["sample_id"], study, settings, set(raw["sample_id"].cat.categories) - known)
            )
            continue
        analyte, unit = assays.get(assay, ("", "copies/ug"))
        rows.append(
            {
                "assay": assay,
                "sample_id": sample["sample_id"],
                "analyte": analyte,
                "level_unit": unit,
                "status": status,
                "exclusion_reason": why,
            }
        )
    return rows, problems


def _missing(sample: str, study: Study, settings: Settings, names: set[str]) -> Problem:
    near = nearest(sample, names - {""})
    mend = f"did you mean {near}? Otherwise add the export" if near else "add the export"
    return Problem(
        settings.inputs.samples or "samples.csv",
        study.sample_rows.get(sample),
        "sample_id",
        f"sample {sample!r}, which is in no export",
        "a result, or the state not_done or pending",
        f"{mend}, or write not_done or pending in the column state",
    )


# ----------------------------------------------------------------------------------------------------------------- run


def run(settings: Settings, root: Path) -> Ingested:
    """Read the study and its exports and make the observations.

    Parameters
    ----------
    settings : Settings
        The merged configuration.
    root : Path
        Folder to which the paths of the configuration are relative.

    Returns
    -------
    Ingested
        With `problems` where exports could not be read; the others are complete then.

    Raises
    ------
    InputError
        For user tables, configuration and joining, with every problem; with `strict` for unreadable exports too.
    """
    settings = located(settings, root)
    # Problems of the tables do not end the run at once: what the exports need is said in the same round.
    earlier: list[Problem] = []
    study = read_study(settings, root, earlier)
    try:
        raw, reports = readers.read_compact(export_paths(settings, root), root, settings)
    except InputError as error:
        raise InputError([*earlier, *error.problems], study.warnings) from None
    unread = tuple(sorted(p for report in reports for p in report.problems))
    if settings.strict and unread:
        raise InputError([*earlier, *unread], study.warnings)
    account = _Account(raw, unusable(raw))
    account.warnings += [f"{r.label}: {r.note}." for r in reports if r.note and not r.duplicate_of]
    _set_superseded_aside(account, settings)
    _set_ignored_aside(account, settings)
    _settle_repeated_wells(account)
    if earlier:
        raise InputError(
            [*earlier, *_beside(earlier, account, study, settings, complete_set=not unread)], study.warnings
        )
    exported = raw["sample_id"]
    names, manifest = _joined_names(account, study, settings)
    study = _with_listing(account, study, manifest, settings)
    names, listed = _listed_samples(account, names)
    account.raw = raw.assign(sample_id=names)
    account.problems += _unknown_patients(manifest, study, settings)

    made = _quantified(account, manifest, settings)
    account.problems += _unmatched(account, manifest, settings)
    made += _listed_levels(account, settings)
    account.problems += _needs(made, study, settings, [])
    levels = _stacked([one.levels for one in made], LEVELS)
    absent, missing = _without_level(account, manifest, levels, study, settings, complete_set=not unread)
    if not any(p.column.endswith("target_pattern") for p in account.problems):
        account.problems += missing
    raise_any(account.problems, [*study.warnings, *account.warnings])

    every = _stacked([levels, frame_of(absent, LEVELS)] if absent else [levels], LEVELS)
    everywhere = _stacked([manifest, listed], SAMPLES)
    if settings.assays.qpcr is not None:
        every = _stacked([every, derived.derived_cells(every, everywhere, settings.assays.qpcr)], LEVELS)
    assays = (
        configured_assays(settings)
        or {a: (rows["analyte"].iloc[0], rows["level_unit"].iloc[0]) for a, rows in levels.groupby("assay")}
        or {"qpcr": ("", "copies/ug")}
    )
    if settings.study.data_cut is not None and (
        undated := sorted(set(study.patients["patient_id"]) - set(study.data_cut))
    ):
        account.warnings.append(
            f"The data cut cannot be applied to {', '.join(undated)}: the first infusion has no absolute time; "
            "no sample is left out by it there."
        )
    observations = assemble(
        joined(every, everywhere),
        study,
        assays,
        predose_share=settings.nca.predose_share,
        keep_after_therapy=settings.study.keep_after_therapy,
        data_cut=settings.study.data_cut,
        visit_window=VisitWindow(settings.study.visit_window_h, settings.study.visit_window_share),
        run_dates=_run_dates(raw),
    )
    account.warnings += _outside_windows(observations) + _implausible(observations, study)
    unnamed = set(names[exported == ""]) & set(listed["sample_id"])
    if settings.nca.replicates == "error":
        observations = _repeats_settled(observations, unnamed, account)
        raise_any(_same_time(observations, study, settings), [*study.warnings, *account.warnings])
    study = replace(
        study, samples=manifest if len(manifest) else study.samples, infusions=with_reference(study, settings)
    )
    rows, runs, calibrators = (
        _account_table(account, exported, reports),
        _stacked([one.runs for one in made], RUNS),
        _calibrators(made, account),
    )
    # Of a large study the raw rows and the sources of levels are most of the memory: one goes before the other comes.
    del raw, exported, names
    account.raw = account.raw[:0]
    return Ingested(
        rows,
        runs,
        calibrators,
        observations,
        _sources(made, observations),
        study,
        tuple(reports),
        tuple(sorted({*study.warnings, *account.warnings})),
        unread,
        settings,
        _inputs(settings, root),
    )


def input_states(settings: Settings, root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change [ns] of every export and table that the configuration names.

    Taken before `run` and given to `raise_if_changed` after `write`. A file that is still being copied when it is read
    is older than the results once they are written, and no later run would take it for new.
    """
    settings = located(settings, root)
    tables = [root / file for name in INPUT_TABLES if (file := getattr(settings.inputs, name))]
    try:
        exports = export_paths(settings, root)
    except InputError:
        exports = []  # `run` says so, together with what else is wrong
    states = {}
    for path in [*exports, *tables]:
        if path.exists():
            about = path.stat()
            states[path] = (about.st_size, about.st_mtime_ns)
    return states


def raise_if_changed(before: Mapping[Path, tuple[int, int]], settings: Settings, root: Path) -> None:
    """Compare the inputs with their states before the run.

    Raises
    ------
    InputError
        With every file that changed, vanished or was added meanwhile.
    """
    after = input_states(settings, root)
    mend = "wait until it is copied whole, then run again"
    raise_any(
        [
            Problem(label_of(path, root), found="a change while it was read", expected="a file at rest", mend=mend)
            for path in sorted({*before, *after})
            if before.get(path) != after.get(path)
        ]
    )


def _inputs(settings: Settings, root: Path) -> tuple[tuple[str, str, str], ...]:
    """Name, path and sha256 of every table of the user, before anything was normalised in it."""
    named = {name: getattr(settings.inputs, name) for name in INPUT_TABLES}
    return tuple((name, str(file), rows_sha256(root / file)) for name, file in named.items() if file)


def _beside(
    earlier: list[Problem], account: _Account, study: Study, settings: Settings, *, complete_set: bool
) -> list[Problem]:
    """Problems of the exports and of the manifest's values, where tables of the study have problems already.

    Only what does not follow from these: a manifest whose samples are in doubt says nothing about the exports.
    """
    file = settings.inputs.samples
    if settings.generic or file is None or not study.sample_rows:
        return []
    whole = not any(p.file == file and (p.row == 1 or p.column in ("sample_id", "")) for p in earlier)
    samples = study.samples.drop_duplicates("sample_id")
    names, manifest = _joined_names(account, replace(study, samples=samples), settings)
    account.raw = account.raw.assign(sample_id=names)
    made = _quantified(account, manifest, settings)
    found = list(account.problems) + _needs(made, study, settings, earlier)
    if whole:
        found += _unmatched(account, manifest, settings)
        levels = _stacked([one.levels for one in made], LEVELS)
        if not any(p.column.endswith("target_pattern") for p in found):
            found += _without_level(account, manifest, levels, study, settings, complete_set=complete_set)[1]
    return found


def _run_dates(raw: pd.DataFrame) -> dict[str, str]:
    """When each run ended, where its exports tell."""
    dated = compact.plain(raw.loc[raw["run_date"] != "", ["run_id", "run_date"]].drop_duplicates())
    return {str(run): str(last) for run, last in dated.groupby("run_id")["run_date"].max().items()}


def _outside_windows(observations: pd.DataFrame) -> list[str]:
    """The sentence on samples that were not taken when planned."""
    flagged = observations[observations["time_flag"].str.contains(OUTSIDE_WINDOW, regex=False)]
    names = sorted(set(flagged["sample_id"]))
    if not names:
        return []
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    were = "sample was" if len(names) == 1 else "samples were"
    return [f"{len(names)} {were} taken outside the visit window, and kept: {shown}."]


_LISTED = 10


def _implausible(observations: pd.DataFrame, study: Study) -> list[str]:
    """Times that can be right and are more often a slip of the pen, a sentence each."""
    far: dict[str, str] = {}
    early: dict[str, str] = {}
    late: dict[str, str] = {}
    starts = {str(p): rows["time"].tolist() for p, rows in study.infusions.groupby("patient_id")}
    year = "; is the date right, and its year?"
    for row in records(observations):
        time, who = row["time_actual"], f"Sample {row['sample_id']} of patient {row['patient_id']}"
        begun = starts.get(row["patient_id"], [])
        if math.isnan(time) or not begun:
            continue
        if FAR in row["time_flag"]:
            far[row["sample_id"]] = f"{who} is {FAR}: planned day {row['time_nominal']:.2f}, actual {time:.2f}{year}"
        if row["status"] == "quantified" and row["reportable"] and time < min(begun) - _MINUTE:
            early[row["sample_id"]] = (
                f"{who} has a quantified {row['assay']} level at day {time:.2f}, before the first infusion{year}"
            )
        nearest_start = min(begun, key=lambda start: abs(start - time))
        planned_only = row["time_flag"].startswith(NOMINAL_USED)
        if PREDOSE.search(row["visit"]) and time > nearest_start + _MINUTE and not planned_only:
            late[row["sample_id"]] = (
                f"{who}: the visit {row['visit']!r} is at day {time:.2f}, after the infusion at day "
                f"{nearest_start:.2f}; correct the visit or the time."
            )
    said = []
    for found, what in (
        (far, "far from their planned times"),
        (early, "quantified before the first infusion"),
        (late, "pre-dose by their visit and after the infusion by their time"),
    ):
        names = sorted(found, key=natural)
        said += [found[name] for name in names[:_LISTED]]
        if len(names) > _LISTED:
            said.append(f"{len(names)} samples are {what}, {', '.join(names[_LISTED:])} also.")
    return said


def _same_time(observations: pd.DataFrame, study: Study, settings: Settings) -> list[Problem]:
    """Two samples of the manifest that are one observation by patient, assay, specimen and time."""
    key = ["patient_id", "assay", "specimen", "time_actual"]
    rows = observations[observations["reportable"].astype(bool) & observations["sample_id"].isin(study.sample_rows)]
    found: dict[tuple[str, str], Problem] = {}
    for _, own in rows[rows.duplicated(key, keep=False)].groupby(key):
        first, *others = sorted(own.index, key=lambda i: study.sample_rows[own.at[i, "sample_id"]])
        one = own.at[first, "sample_id"]
        for index in others:
            two = own.at[index, "sample_id"]
            # Once for a pair of samples, whatever the number of assays.
            found.setdefault(
                (one, two),
                Problem(
                    settings.inputs.samples or "samples.csv",
                    study.sample_rows[two],
                    "sample_id",
                    f"samples {one} (row {study.sample_rows[one]}) and {two} (row {study.sample_rows[two]}) of patient "
                    f"{own.at[index, 'patient_id']} at one time, day {own.at[index, 'time_actual']:.4g}, "
                    f"both analysed ({own.at[index, 'assay']}, {own.at[index, 'specimen']})",
                    "one sample of a patient, assay, specimen and time",
                    "correct the patient or the time, or set nca.replicates to mean or first",
                ),
            )
    return list(found.values())


def _calibrators(made: list[Quantified], account: _Account) -> pd.DataFrame:
    """Standards and no-template controls of every curve, those that the operator omitted among them."""
    frames = [one.calibrators for one in made]
    known = {(run, target) for frame in frames for run, target in zip(frame["run_id"], frame["target"], strict=True)}
    raw = account.raw
    left_out = raw[raw["omitted"].fillna(False).astype(bool) & (raw["measure"] == "ct")]
    left_out = compact.plain(left_out[left_out["role"].isin(("standard", "ntc"))])
    on_run = [pair in known for pair in zip(left_out["run_id"], left_out["target"], strict=True)]
    left_out = left_out[np.array(on_run, dtype=bool)]
    if len(left_out):
        reasons = [account.set_aside[label] for label in left_out.index]
        rows = left_out.assign(assay="qpcr", ct=left_out["value"], used=False, reason=reasons)
        frames = [*frames, complete(rows[[c for c in CALIBRATORS.names if c in rows.columns]], CALIBRATORS)]
    return _stacked(frames, CALIBRATORS)


def _repeats_settled(observations: pd.DataFrame, unnamed: set[str], account: _Account) -> pd.DataFrame:
    """Of several results that a listing gives for one patient and time, without sample names, the last one stands.

    Such rows are one sample measured again: as with any re-assay all are kept, and exactly one is reportable.
    """
    key = ["patient_id", "assay", "specimen", "time_actual"]
    rows = observations[observations["reportable"].astype(bool) & observations["sample_id"].isin(unnamed)]
    repeated = rows[rows.duplicated(key, keep=False)]
    settled = observations.copy()
    for _, own in repeated.groupby(key):
        stands = max(own.index, key=lambda i: (own.at[i, "run_id"], int(own.at[i, "source_rows"].split(" ")[0])))
        where = f"row {own.at[stands, 'source_rows']} of run {own.at[stands, 'run_id']}"
        others = [i for i in own.index if i != stands]
        settled.loc[others, "reportable"] = False
        settled.loc[others, "exclusion_reason"] = f"measured again at the same time; {where}, the last, is reported"
        account.warnings.append(
            f"Patient {own.at[stands, 'patient_id']} has {len(own)} results at day {own.at[stands, 'time_actual']:.4g} "
            f"without sample names: {where} is reported. Set nca.replicates to mean to combine them."
        )
    return settled


def _listed_levels(account: _Account, settings: Settings) -> list[Quantified]:
    raw = account.raw
    rows = compact.plain(raw[(raw["measure"] == "level") & (raw["role"] == "unknown") & account.free()])
    if rows.empty:
        return []
    rows = rows.assign(
        assay=rows["assay"].where(rows["assay"] != "", "qpcr"),
        level_unit=rows["level_unit"].where(rows["level_unit"] != "", "copies/ug"),
    )
    analytes = {assay: analyte for assay, (analyte, _) in configured_assays(settings).items()}
    one, problems = listing.quantify(rows, analytes)
    account.set_aside.update(one.set_aside)
    account.problems += problems
    return [replace(one, sources=_short(one.sources, account.raw))]


def _stacked(frames: list[pd.DataFrame], schema: Schema) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return frames[0] if frames else empty(schema)
    return complete(pd.concat(filled, ignore_index=True), schema)


def _account_table(account: _Account, exported: pd.Series, reports: list[FileReport]) -> pd.DataFrame:
    """ingest.csv, compact: every raw row, used or set aside with a reason, and the files set aside whole."""
    raw = account.raw
    kinds = pd.Index(sorted({*raw["role"].cat.categories, *account.roles.values()}), dtype="str")
    roles = kinds.get_indexer(raw["role"].cat.categories)[raw["role"].cat.codes.to_numpy()]
    for role in set(account.roles.values()):
        roles[[label for label, own in account.roles.items() if own == role]] = kinds.get_loc(role)
    words = sorted({"", *account.set_aside.values()})
    code_of = {word: code for code, word in enumerate(words)}
    reasons = np.full(len(raw), code_of[""], dtype=np.int32)
    for label, reason in account.set_aside.items():
        reasons[label] = code_of[reason]
    used = reasons == code_of[""]
    rows = raw.assign(
        sample_id=exported,
        role=pd.Categorical.from_codes(roles, kinds),
        reason=pd.Categorical.from_codes(reasons, pd.Index(words, dtype="str")),
        used=pd.array(used, dtype="boolean"),
    )[INGEST.names]
    whole = [
        {
            "source_file": report.label,
            "source_sha256": report.sha256,
            "reader": report.reader,
            "used": False,
            "reason": "not read: " + "; ".join(p.found for p in report.problems),
        }
        for report in reports
        if report.problems
    ]
    read = rows["source_file"].value_counts()
    kept, aside = read.mul(0), read.mul(0)
    kept.update(rows.loc[used, "source_file"].value_counts())
    aside.update(rows.loc[rows["reason"] != "", "source_file"].value_counts())
    for name, n in ((report.label, report.n_rows) for report in reports):
        found = (int(count.get(name, 0)) for count in (read, kept, aside))
        assert next(found) == n == sum(found), f"{name}: rows are lost in the account"
    return compact.joined([rows, compact.compact(frame_of(whole, INGEST))]) if whole else rows


def _sources(made: list[Quantified], observations: pd.DataFrame) -> pd.DataFrame:
    """observation_sources.csv, compact: the raw rows behind every level that became an observation."""
    # Placeholder rows of patients without a sample share the empty name, and no well stands behind them.
    ids = observations.loc[observations["sample_id"] != "", ["assay", "run_id", "sample_id", "observation_id"]]
    kind = pd.CategoricalDtype(pd.Index(sorted(ids["observation_id"]), dtype="str"))
    found = []
    for one in made:
        for assay in one.sources["assay"].unique():
            # A derived row stands on the wells of the level that it was derived from.
            levels = [ids[ids["assay"] == n] for n in ((assay, derived.ASSAY) if assay == "qpcr" else (assay,))]
            for begin in range(0, len(one.sources), _PIECE):
                wells = one.sources.iloc[begin : begin + _PIECE]
                wells = wells[wells["assay"] == assay]
                for own in (frame for frame in levels if len(frame)):
                    place = _level_of(wells, own)
                    codes = pd.Categorical(own["observation_id"], dtype=kind).codes[place]
                    rows = wells.assign(
                        observation_id=pd.Categorical.from_codes(codes, dtype=kind),
                        source_row=wells["source_row"].astype("Int32"),
                    )
                    found.append(rows.loc[place >= 0, OBSERVATION_SOURCES.names])
    return compact.joined(found) if found else compact.compact(empty(OBSERVATION_SOURCES))


def _level_of(wells: pd.DataFrame, levels: pd.DataFrame) -> NDArray[np.intp]:
    """Place of the level of each well among the levels of one assay, by run and sample; -1 where it is none."""
    runs, samples = (wells[name].cat.categories for name in ("run_id", "sample_id"))
    run, sample = runs.get_indexer(pd.Index(levels["run_id"])), samples.get_indexer(pd.Index(levels["sample_id"]))
    known = np.flatnonzero((run >= 0) & (sample >= 0))
    keys = pd.Index(run[known].astype(np.int64) * len(samples) + sample[known])
    assert keys.is_unique, "a run has two levels of one sample"
    own = wells["run_id"].cat.codes.to_numpy().astype(np.int64) * len(samples) + wells["sample_id"].cat.codes.to_numpy()
    place = keys.get_indexer(pd.Index(own))
    return np.where(place >= 0, np.append(known, -1)[place], -1)


# ------------------------------------------------------------------------------------------------------------- writing


def carried(frame: pd.DataFrame, schema: Schema, settings: Settings) -> pd.DataFrame:
    """What of a user's table goes into results: known columns, covariates, and comments only where that is chosen.

    Free text and columns that nobody asked for may identify a person; every file we write would carry them on.
    """
    covariates = {name.split(" on ")[0].strip() for name in settings.population.covariates}
    known = {*schema.names, *_OURS, *covariates}
    kept = frame[[c for c in frame.columns if c in known]]
    return kept if settings.inputs.comments or "comment" not in kept else kept.assign(comment="")


def write(ingested: Ingested, folder: Path) -> None:
    """Write the canonical tables, the normalised user tables and the batches under a results folder.

    Parameters
    ----------
    ingested : Ingested
        What `run` made.
    folder : Path
        Results folder: ingest.csv, runs.csv, calibrators.csv, observations.csv, observation_sources.csv, warnings.txt,
        exclusions.jsonl, study/ (with data_cut.txt; and inputs.txt and exports.txt: hash, name or reader, and path of
        every table and export that was read) and batches/.
    """
    settings = ingested.settings
    with table_writer(folder / "ingest.csv", INGEST) as add:
        for piece in _in_pieces(ingested.rows, "source_file"):
            add(piece)
    write_table(ingested.runs, folder / "runs.csv", RUNS)
    write_table(ingested.calibrators, folder / "calibrators.csv", CALIBRATORS)
    write_table(ingested.observations, folder / "observations.csv", OBSERVATIONS)
    with table_writer(folder / "observation_sources.csv", OBSERVATION_SOURCES) as add:
        for piece in _in_pieces(ingested.wells, "observation_id"):
            add(piece.drop_duplicates())
    write_text(folder / "warnings.txt", "".join(f"{printable(line)}\n" for line in ingested.warnings))
    lines = [f"{digest}  {name}  {file}\n" for name, file, digest in ingested.inputs]
    write_text(folder / "study" / "inputs.txt", "".join(lines))
    write_text(folder / "study" / "data_cut.txt", f"{settings.study.data_cut or ''}\n")
    read = sorted((one.label, one.reader or "not_read", one.sha256) for one in ingested.file_reports)
    write_text(folder / "study" / "exports.txt", "".join(f"{sha}  {reader}  {file}\n" for file, reader, sha in read))
    aside = compact.plain(ingested.rows[~ingested.rows["used"].to_numpy(dtype=bool)])
    left_out = exclusions.entries(aside, ingested.runs, ingested.observations, ingested.settings)
    write_text(folder / exclusions.FILE, exclusions.text(exclusions.sealed(left_out)))
    study = {name: carried(getattr(ingested.study, name), schema, settings) for name, schema in USER_TABLES.items()}
    for name, schema in USER_TABLES.items():
        write_table(study[name], folder / "study" / f"{name}.csv", schema)
    batches = [f"{i:02d}" for i in range(settings.batches)]
    of_patient = {
        str(p): batch_of(str(p), settings.study.id, settings.batches)
        for p in {*ingested.study.patients["patient_id"], *ingested.observations["patient_id"]}
    }

    def parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        own = {str(batch): rows for batch, rows in frame.groupby(frame["patient_id"].map(of_patient), sort=False)}
        return {batch: own.get(batch, frame.iloc[:0]) for batch in batches}

    for batch, rows in parts(ingested.observations).items():
        write_table(rows, folder / "batches" / f"{batch}.csv", OBSERVATIONS)
    for name in ("patients", "infusions", "cytokines"):
        for batch, rows in parts(study[name]).items():
            write_table(rows, folder / "study" / batch / f"{name}.csv", USER_TABLES[name])
    for stale in (folder / "batches").glob("*.csv"):
        if stale.stem not in batches and stale.stem.isdigit():
            stale.unlink()


# --------------------------------------------------------------------------------------------------------------- check


@dataclass(frozen=True)
class Checked:
    """What `check` found: the report as text, and the exports that could not be read."""

    text: str
    problems: tuple[Problem, ...]


def _run_facts(run: Mapping[str, object]) -> list[str]:
    """The criteria of a run with their values, a line each for curve, controls and wells; the unknown is left out."""

    def has(*names: str) -> bool:
        return not any(pd.isna(run[name]) for name in names)

    lines = []
    if has("slope"):
        lines.append(
            f"slope {run['slope']:.3f}, R2 {run['r_squared']:.4f}, {run['n_levels_within']} of {run['n_levels']} "
            f"calibrator levels within (worst {run['worst_deviation_pct']:+.1f} %), {run['lowest_calibrator']:g} to "
            f"{run['highest_calibrator']:g} copies"
        )
    controls = f"{run['n_ntc']} no-template controls" if has("n_ntc") else ""
    if has("n_ntc", "n_ntc_detected"):
        controls += f", {run['n_ntc_detected']} detected"
        controls += f" (lowest Ct {run['ntc_lowest_ct']:.2f})" if has("ntc_lowest_ct") else ""
        controls += f" (at most {run['ntc_most_copies']:.3g} copies)" if has("ntc_most_copies") else ""
    lines += [controls] if controls else []
    if has("n_cv", "cv_median_pct"):
        lines.append(
            f"replicate CV: median {run['cv_median_pct']:.1f} %, largest {run['cv_worst_pct']:.1f} %, "
            f"{run['n_cv_above']} of {run['n_cv']} samples above the limit"
        )
    if has("partitions_lowest", "partitions_median"):
        lines.append(
            f"{run['n_wells_used']} of {run['n_wells']} wells used, accepted partitions: median "
            f"{run['partitions_median']:g}, lowest {run['partitions_lowest']}"
        )
    if has("denominator_lowest"):
        lines.append(
            f"{run['n_wells_used']} tubes, events in the denominator gate: median {run['denominator_median']:g}, "
            f"lowest {run['denominator_lowest']:g}"
        )
    return lines


def check(settings: Settings, root: Path) -> Checked:
    """What `ingest` would make of the study: per file the reader, the verdict and the rows by reason.

    Raises
    ------
    InputError
        As `run`.
    """
    made = run(settings, root)
    lines = []
    rows = made.ingest[made.ingest["source_row"].notna()]
    fate_of: dict[str, list[tuple[bool, str]]] = {}
    for file, was_used, reason in zip(rows["source_file"], rows["used"].tolist(), rows["reason"], strict=True):
        fate_of.setdefault(file, []).append((was_used, reason))
    runs_of: dict[str, list[dict[str, Any]]] = {}
    for run_row in records(made.runs):
        for file in run_row["source_file"].split(" "):
            runs_of.setdefault(file, []).append(run_row)
    for report in made.file_reports:
        own = fate_of.get(report.label, [])
        lines.append(f"{report.label}: {report.reader or 'not read'}")
        lines += [f"  {problem}" for problem in report.problems]
        if report.problems:
            continue
        reasons = Counter(reason for was_used, reason in own if not was_used)
        lines.append(f"  {len(own)} rows read = {len(own) - reasons.total()} used + {reasons.total()} set aside")
        lines += [f"    {reasons[reason]} {reason}" for reason in sorted(reasons)]
        if report.duplicate_of:
            continue
        for run_row in runs_of.get(report.label, []):
            verdict = "accepted" if run_row["accepted"] else f"NOT accepted: {run_row['reason']}"
            lines.append(f"  run {run_row['run_id']}, {run_row['assay']} {run_row['target']}: {verdict}")
            lines += [f"    {fact}" for fact in _run_facts(run_row)]
    observations = made.observations
    counts = observations["status"].value_counts()
    listed = ", ".join(f"{counts[s]} {s}" for s in sorted(counts.index))
    lines.append("")
    lines.append(
        f"{observations['patient_id'].nunique()} patients, {len(observations)} observations ({listed}), "
        f"{int(observations['reportable'].sum())} reportable"
    )
    left_out = observations[~observations["reportable"].astype(bool)]
    for row in records(left_out):
        lines.append(f"  {row['patient_id']} {row['assay']} {row['sample_id'] or '-'}: {row['exclusion_reason']}")
    if made.warnings:
        lines += ["", "Warnings:", *(f"  {w}" for w in made.warnings)]
    return Checked("\n".join(lines), made.problems)
