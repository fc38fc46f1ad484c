"""Digital PCR: positive and accepted partitions to levels per sample (assays.md 4).

lambda = -ln(1 - k/n)                 copies per partition
C = lambda / V_partition [nL] * 1000  copies/uL of reaction
copies/ug = C * V_reaction / ng * 1000
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from nkinetics.quantify.levels import Behind, Need, Quantified, cv_pct, outcome, provenance, run_facts, unusable
from nkinetics.quantify.qpcr import scale_to_unit
from nkinetics.quantify.wells import Wells, left
from nkinetics.settings import Ddpcr
from nkinetics.store import records

PARTITION_NL: Mapping[str, tuple[float, ...]] = {
    "qx_manager": (0.85, 0.795, 0.91),
    "quantasoft": (0.85, 0.91),
    "absolute_q": (0.432,),
}
"""Partition volumes [nL] of the instruments that a reader's files come from, the usual one first.

Implied by the concentrations that real files print: 0.91 QX100, 0.85 QX200 and QX Manager, 0.795 QX Manager with six
colours."""

WELL_NL: Mapping[str, tuple[float, float]] = {"qiacuity": (0.2, 1.2)}
"""Range of the partition volume [nL] of instruments on which it is a property of the well: the printed concentration
of a QIAcuity well is its count divided by that volume, which is not printed and differs by 10 % between the wells of a
plate. Such a concentration is used as it stands."""

WELL_SPREAD = 0.25
"""Deviation from the plate's median volume beyond which a printed concentration is taken as damaged."""

SMALL_PLATE_NL = 0.5
"""Below it a QIAcuity plate is one of 8,500 partitions a well, above it one of 26,000."""

SMALL_PLATE = (8600, 4250, 0.31, 0.77)
"""Partitions that a well of the small plate has at most, how many it must have (half of them, as 10,000 is half of
what other instruments make), and the usual volume [nL] of the small and the large plate."""

_WELL_VOLUME = "partition_nl"
"""Name of the column with the partition volume of each well, beside those of the raw rows."""

USUAL_UL: Mapping[str, str] = {
    "qiacuity": "12 uL on a plate of 8,500 partitions a well and 40 uL on one of 26,000",
    "absolute_q": "9 uL",
}
"""Usual reaction volumes of instruments for which the default of assays.ddpcr.reaction_ul is not meant."""


def copies_per_partition(k: float, n: float) -> float:
    """Copies per partition, lambda = -ln(1 - k/n); infinite when every partition is positive.

    Examples
    --------
    >>> round(copies_per_partition(5000, 10000), 6)
    0.693147
    """
    return math.inf if k >= n else -math.log1p(-k / n)


def interval(k: int, n: int, confidence: float = 0.95, method: str = "exact") -> tuple[float, float]:
    """Interval of lambda from k positive of n partitions: exact (Clopper-Pearson) or Wilson, transformed.

    Parameters
    ----------
    k, n : int
        Positive and accepted partitions.
    confidence : float
        Two-sided; with k = 0 the exact interval is one-sided, its upper end -ln(1 - confidence)/n up to terms 1/n^2.
    method : {"exact", "wilson"}
        Clopper & Pearson 1934 (10.1093/biomet/26.4.404) or Wilson 1927 (10.1080/01621459.1927.10502953).

    Returns
    -------
    lower, upper : float
        Copies per partition; the upper end is infinite when every partition is positive.

    Examples
    --------
    >>> lower, upper = interval(0, 20000)
    >>> lower, round(upper * 20000, 3)
    (0.0, 2.996)
    """
    from scipy.special import betaincinv, ndtri

    alpha = 1 - confidence
    if method == "wilson":
        z = float(ndtri(1 - alpha / 2))
        centre = (k + z * z / 2) / (n + z * z)
        half = z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
        low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    else:
        tail = alpha if k in (0, n) else alpha / 2
        low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
        high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return -math.log1p(-low), (math.inf if high >= 1 else -math.log1p(-high))


def counting_n(k: float, n: float) -> float:
    """The n for which counting gives the estimate of lambda a relative variance of 1/n: n lambda^2 / (e^lambda - 1).

    By the delta method var(lambda) = (e^lambda - 1)/n. With few positives it is k itself; in a crowded well it is less
    than k, because most partitions are positive whatever the number of copies.

    Examples
    --------
    >>> round(counting_n(20, 20000), 2), round(counting_n(19800, 20000))
    (20.0, 4284)
    """
    if k <= 0:
        return 0.0
    if k >= n:
        return math.nan
    rate = copies_per_partition(k, n)
    return n * rate * rate / math.expm1(rate)


def telling(wells: pd.DataFrame) -> pd.DataFrame:
    """The wells whose printed concentration says how large a partition is: some partitions positive, not all."""
    k, n = wells["n_positive"].astype("float64"), wells["n_partitions"].astype("float64")
    return wells[((k > 0) & (k < n) & (wells["value"] > 0)).to_numpy(dtype=bool)]


def implied_volume(wells: pd.DataFrame) -> float:
    """Volume of a partition [nL] that the printed concentrations imply, median over the wells; NaN where none tells."""
    told = telling(wells)
    share = (told["n_positive"].astype("float64") / told["n_partitions"].astype("float64")).to_numpy()
    return float(np.median(-np.log1p(-share) / told["value"].to_numpy() * 1000)) if len(told) else math.nan


def partition_volume(wells: pd.DataFrame, settings: Ddpcr) -> float:
    """Volume of a partition [nL]: configured, else the one of the instrument's that the printed concentrations show.

    NaN where the instrument is not known, and where fewer than half of the printed concentrations follow from any of
    its volumes: every level would be wrong by the same factor, which no replicate shows.
    """
    if settings.partition_nl is not None:
        return float(settings.partition_nl)
    known = PARTITION_NL.get(str(wells["reader"].iloc[0]), ())
    told = telling(wells)
    if str(wells["reader"].iloc[0]) in WELL_NL:
        return _median_volume(wells)
    if not known or told.empty:
        return known[0] if known else math.nan
    columns = [told[name] for name in ("n_positive", "n_partitions", "value", "value_raw")]
    tolerance = settings.acceptance.concentration_tolerance
    agreeing = {
        volume: sum(printed_agrees(k, n, c, text, volume, tolerance) for k, n, c, text in zip(*columns, strict=True))
        for volume in known
    }
    if 2 * max(agreeing.values()) < len(told):
        return math.nan
    # A few droplets printed with two digits may agree with more than one volume: then the median decides.
    middle = implied_volume(wells)
    return max(known, key=lambda volume: (agreeing[volume], -abs(volume - middle)))


def _median_volume(wells: pd.DataFrame) -> float:
    """Median volume [nL] of a plate whose wells differ; NaN where printed concentrations imply an impossible one."""
    low, high = WELL_NL[str(wells["reader"].iloc[0])]
    told = telling(wells)
    if told.empty:
        most, _, small, large = SMALL_PLATE
        return small if (wells["n_partitions"].dropna() <= most).all() else large
    # Few positives are printed with few digits; the others tell, where there are any.
    sure = told[(told["n_positive"] >= 100).to_numpy(dtype=bool)]
    middle = implied_volume(sure if len(sure) else told)
    return middle if low <= middle <= high else math.nan


def well_volumes(wells: pd.DataFrame, volume: float, settings: Ddpcr) -> pd.Series:
    """Partition volume of each well [nL]: the run's, or the well's own where it is a property of the well.

    Its own is what its printed concentration implies, so that a single well gives the concentration that the instrument
    printed.
    """
    volumes = pd.Series(volume, index=wells.index, dtype="float64")
    if settings.partition_nl is not None or str(wells["reader"].iloc[0]) not in WELL_NL:
        return volumes
    told = telling(wells)
    share = (told["n_positive"].astype("float64") / told["n_partitions"].astype("float64")).to_numpy()
    volumes.loc[told.index] = -np.log1p(-share) / told["value"].to_numpy() * 1000
    return volumes


def _pooled_volume(wells: Wells) -> float:
    """Mean volume of the partitions of several wells [nL]."""
    n = wells["n_partitions"].astype("float64")
    return float((n * wells[_WELL_VOLUME]).sum() / n.sum())


def printed_agrees(k: float, n: float, printed: float, text: str, volume: float, tolerance: float) -> bool:
    """Whether a printed concentration is what k and n give, within the tolerance or half of its last printed digit.

    Examples
    --------
    >>> printed_agrees(10940, 20486, 898.375854492188, "898.375854492188", 0.85, 0.01)
    True
    >>> printed_agrees(10940, 20486, 89.8, "89.8", 0.85, 0.01)
    False
    """
    found = copies_per_partition(k, n) / volume * 1000
    digits = re.search(r"[.,](\d+)", text)
    rounding = 0.5 * 10.0 ** -(len(digits.group(1)) if digits else 0)
    return abs(printed - found) <= max(tolerance * found, rounding)


def quantify(raw: pd.DataFrame, samples: pd.DataFrame, settings: Ddpcr) -> Quantified:
    """Levels of every sample of every run; replicate wells are pooled by summing k and n.

    Parameters
    ----------
    raw : DataFrame
        `nkinetics.columns.RAW` rows with measure partitions; `sample_id` as in the manifest.
    samples : DataFrame
        The manifest.
    settings : Ddpcr
        Patterns, volumes, limits and acceptance.

    Returns
    -------
    Quantified
        A well with too few partitions, or whose printed concentration is not what its partitions give, is set aside; a
        sample without a good well has status failed. No positive partition is not_detected, a level below the LLOQ blq,
        a saturated well above_uloq.
    """
    set_aside = unusable(raw)
    pattern = re.compile(settings.target_pattern)
    gene = re.compile(settings.reference_pattern) if settings.reference_pattern else None
    roles: dict[int, str] = {}
    manifest = {row["sample_id"]: row for row in records(samples)}
    is_reference = {}
    for label, name, role in zip(raw.index, raw["target"], raw["role"], strict=True):
        is_reference[label] = bool(gene and gene.search(name) and not pattern.search(name))
        if label in set_aside:
            continue
        if is_reference[label]:
            if role == "unknown":
                roles[label] = "reference"
            else:
                set_aside[label] = "control well of the reference gene; no acceptance rule uses it"
        elif not pattern.search(name):
            set_aside[label] = (
                f"target {name or 'without a name'} is neither the transgene nor the reference gene of assays.ddpcr"
            )
    levels: list[dict[str, object]] = []
    runs: list[dict[str, object]] = []
    sources: list[Behind] = []
    needs: list[Need] = []
    warnings: list[str] = []
    problems: list[str] = []
    for run, of_run in left(raw, set_aside).groupby("run_id"):
        run_id = str(run)
        volume = partition_volume(of_run, settings)
        if math.isnan(volume):
            problems.append(_no_volume(run_id, of_run))
            continue
        reader = str(of_run["reader"].iloc[0])
        usual = PARTITION_NL.get(reader, (volume,))[0]
        if settings.partition_nl is None and volume != usual:
            warnings.append(
                f"Run {run_id}: its printed concentrations follow from partitions of {volume:g} nL, not of the usual "
                f"{usual:g} nL; {volume:g} nL are used."
            )
        wells = Wells.of(of_run.assign(**{_WELL_VOLUME: well_volumes(of_run, volume, settings)}))
        if "reaction_ul" not in settings.model_fields_set and (usual_ul := USUAL_UL.get(reader)):
            warnings.append(
                f"Run {run_id}: assays.ddpcr.reaction_ul is not set, and {settings.reaction_ul:g} uL are taken; usual "
                f"on this instrument are {usual_ul}."
            )
        set_aside.update(_bad_wells(wells, settings, volume))
        reference = np.array([is_reference[label] for label in wells.index.tolist()], dtype=bool)
        genes = dict(wells.where(reference & (wells["role"] == "unknown")).by("sample_id"))
        for name, of_target in wells.where(~reference).by("target"):
            ntc = of_target.where(of_target["role"] == "ntc").without(set_aside)
            ntc_ok: object = pd.NA
            if len(ntc):
                counted = (ntc[column] for column in ("n_positive", "n_partitions", _WELL_VOLUME))
                ntc_ok = all(_is_clean(k, n, nl, settings) for k, n, nl in zip(*counted, strict=True))
            else:
                warnings.append(f"Run {run_id}, {name}: the plate has no no-template control; the rule is not applied.")
            failed = "" if ntc_ok is pd.NA or ntc_ok else "a no-template control is detected at or above the LOD"
            unknown = of_target.where(of_target["role"] == "unknown")
            for label in of_target.where(of_target["role"] == "standard").index.tolist():
                set_aside[label] = "standard; digital PCR needs no curve"
            runs.append(
                {
                    "run_id": run_id,
                    "assay": "ddpcr",
                    "ntc_ok": ntc_ok,
                    "accepted": not failed,
                    "reason": failed,
                    "target": name,
                    "n_ntc": len(ntc),
                    "n_samples": len(set(unknown["sample_id"])),
                    **run_facts(of_target, set_aside),
                    **_facts(of_target, ntc, volume, settings, set_aside),
                }
            )
            for sample_id, replicates in unknown.by("sample_id"):
                if sample_id not in manifest:
                    continue
                of_gene = genes.get(sample_id, wells.none()).without(set_aside)
                level, lacking = _level(replicates, of_gene, manifest[sample_id], volume, failed, settings, set_aside)
                needs += [Need(sample_id, column, why) for column, why in lacking]
                levels.append(
                    {"assay": "ddpcr", "run_id": run_id, "sample_id": sample_id, "analyte": settings.analyte, **level}
                )
                pieces = {"replicate": replicates.without(set_aside), "reference": of_gene, "ntc": ntc}
                sources += [Behind("ddpcr", run_id, sample_id, role, part) for role, part in pieces.items()]
    return outcome(
        levels,
        runs,
        sources,
        set_aside,
        needs=tuple(needs),
        problems=tuple(problems),
        warnings=tuple(warnings),
        roles=roles,
    )


def _facts(
    wells: Wells,
    ntc: Wells,
    volume: float,
    settings: Ddpcr,
    set_aside: Mapping[int, str],
) -> dict[str, object]:
    """What the row of runs.csv says of the partitions and of the no-template controls of one target."""
    used = [int(n) for n in wells.without(set_aside)["n_partitions"]]
    counted = [int(n) for n in wells["n_partitions"] if n is not pd.NA]
    copies = [
        copies_per_partition(float(k), float(n)) / nl * 1000 * settings.reaction_ul
        for k, n, nl in zip(ntc["n_positive"], ntc["n_partitions"], ntc[_WELL_VOLUME], strict=True)
    ]
    return {
        "n_ntc_detected": sum(found > 0 for found in copies),
        "ntc_most_copies": max(copies, default=math.nan),
        "partition_nl": volume,
        "partitions_median": float(np.median(used)) if used else math.nan,
        "partitions_lowest": min(counted) if counted else pd.NA,
    }


def _no_volume(run_id: str, wells: pd.DataFrame) -> str:
    """Why a run has no partition volume, and what to do."""
    reader = str(wells["reader"].iloc[0])
    implied = implied_volume(wells)
    if reader in WELL_NL:
        low, high = WELL_NL[reader]
        return (
            f"run {run_id}: the printed concentrations imply partitions of {implied:.3g} nL (median), and those of a "
            f"{reader} plate have {low:g} to {high:g} nL; export the run again, or set inputs.decimal"
        )
    if reader not in PARTITION_NL or math.isnan(implied):
        return f"run {run_id}: the partition volume of the {reader} export is not known; give assays.ddpcr.partition_nl"
    known = " or ".join(f"{v:g}" for v in PARTITION_NL[reader])
    return (
        f"run {run_id}: the printed concentrations imply partitions of {implied:.3g} nL (median), not of {known} nL; "
        "give assays.ddpcr.partition_nl, or export the run again"
    )


def _is_clean(k: float, n: float, volume: float, settings: Ddpcr) -> bool:
    """A no-template control without positive partitions, or below the LOD."""
    if k == 0:
        return True
    copies = copies_per_partition(k, n) / volume * 1000 * settings.reaction_ul
    return settings.lod_copies is not None and copies < settings.lod_copies


def _bad_wells(wells: Wells, settings: Ddpcr, volume: float) -> dict[int, str]:
    """Reason by index label of the wells that cannot be used."""
    rule = settings.acceptance
    fewest, tolerance = rule.partitions_min, rule.concentration_tolerance
    if str(wells["reader"][0]) in WELL_NL:
        tolerance = WELL_SPREAD
        fewest = min(fewest, SMALL_PLATE[1]) if volume < SMALL_PLATE_NL else fewest
    bad: dict[int, str] = {}
    columns = ("n_partitions", "n_positive", "value", "value_raw", "detection", "remark")
    rows = zip(wells.index.tolist(), *(wells[c].tolist() for c in columns), strict=True)
    for label, n, k, printed, text, detection, remark in rows:
        if n is pd.NA or k is pd.NA or n == 0:
            bad[label] = "no accepted partitions" if detection != "not_done" else "not measured"
        elif k > n:
            bad[label] = f"{k} positive of {n} accepted partitions"
        elif detection == "failed":
            bad[label] = remark or "no result in the export"
        elif n < fewest:
            bad[label] = f"{n} accepted partitions, fewer than {fewest}"
        elif (
            printed > 0
            and 0 < k < n
            and not _saturated(k, n, settings)
            and not printed_agrees(k, n, printed, text, volume, tolerance)
        ):
            found = copies_per_partition(k, n) / volume * 1000
            bad[label] = (
                f"printed concentration {printed:g} copies/uL, but {k} of {n} partitions of {volume:g} nL give "
                f"{found:.4g}"
            )
    return bad


def _saturated(k: float, n: float, settings: Ddpcr) -> bool:
    return n - k < settings.acceptance.saturated_negative_share * n


def _level(
    replicates: Wells,
    genes: Wells,
    sample: Mapping[str, object],
    volume: float,
    failed: str,
    settings: Ddpcr,
    set_aside: Mapping[int, str],
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """One sample on one run: level, limits, status and reason, and what the manifest lacks for it."""
    wells = replicates.without(set_aside)
    k, n = float(wells["n_positive"].sum()), float(wells["n_partitions"].sum())
    per_reaction = 1000 / (_pooled_volume(wells) if len(wells) else volume) * settings.reaction_ul
    reference_copies = math.nan
    if len(genes):
        of_gene = copies_per_partition(float(genes["n_positive"].sum()), float(genes["n_partitions"].sum()))
        reference_copies = of_gene / _pooled_volume(genes) * 1000 * settings.reaction_ul
    factor, lacking = scale_to_unit(settings.level_unit, sample, reference_copies)
    reasons = [f"run not accepted: {failed}"] if failed else []
    if settings.level_unit == "copies/cell" and not 0 < reference_copies < math.inf:
        reasons.append("no copies of the reference gene, which copies/cell needs")
    copies = copies_per_partition(k, n) * per_reaction if n else math.nan
    each = [
        copies_per_partition(a, b) for a, b in zip(wells["n_positive"], wells["n_partitions"], strict=True) if a < b
    ]
    if not len(wells):
        why = sorted({set_aside[label] for label in replicates.index.tolist()})
        reasons.append("no usable well: " + "; ".join(why))
        status = "failed"
    elif k == 0:
        status = "not_detected"
    elif _saturated(k, n, settings):
        status = "above_uloq"
    elif copies < settings.lloq_copies:
        status = "blq"
    else:
        status = "quantified"
    if reasons:
        status = "failed"
    # A droplet or two do not say that the sample holds LOD to LLOQ: without a LOD the likelihood takes the row as
    # anything below the LLOQ.
    below_lod = status == "blq" and copies < (settings.lod_copies or 0.0)
    # The level at which a well saturates: the share of negatives that acceptance asks for.
    uloq = -math.log(settings.acceptance.saturated_negative_share) * per_reaction
    return {
        "level": copies * factor if status == "quantified" else math.nan,
        "level_unit": settings.level_unit,
        "lod": math.nan if settings.lod_copies is None or below_lod else settings.lod_copies * factor,
        "detected": status in ("quantified", "blq", "above_uloq") if status not in ("failed", "not_done") else pd.NA,
        "lloq": settings.lloq_copies * factor,
        "uloq": uloq * factor,
        "status": status,
        "n_molecules": counting_n(k, n) if n else math.nan,
        "n_replicates": len(wells),
        "cv_pct": cv_pct(np.array(each)),
        "exclusion_reason": "; ".join(reasons),
        **provenance(replicates),
    }, lacking
