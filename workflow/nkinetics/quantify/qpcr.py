"""Quantitative PCR: Ct values and calibrators of a run to levels per sample (assays.md 3).

Ct = b + m log10(N),  N copies per reaction
E = 10^(-1/m) - 1
N = 10^((Ct - b) / m)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nkinetics.columns import CALIBRATORS
from nkinetics.quantify.levels import (
    Behind,
    Need,
    Quantified,
    cv_pct,
    frame_of,
    outcome,
    provenance,
    run_facts,
    spread,
    unusable,
)
from nkinetics.quantify.wells import Wells, left
from nkinetics.settings import Qpcr, QpcrAcceptance
from nkinetics.store import records

NEAR_LLOQ = 3.0
"""Within this factor of the LLOQ the wider limit for the replicate CV applies."""


@dataclass(frozen=True)
class StandardCurve:
    """Least-squares line of Ct over log10 copies.

    Parameters
    ----------
    slope : float
        [Ct per factor 10].
    intercept : float
        [Ct] at one copy.
    r_squared : float
        Coefficient of determination.
    n : int
        Wells.
    """

    slope: float
    intercept: float
    r_squared: float
    n: int

    @property
    def efficiency(self) -> float:
        """Amplification efficiency [%]: 10^(-1/slope) - 1."""
        return 100 * (10 ** (-1 / self.slope) - 1)


def standard_curve(ct: np.ndarray, copies: np.ndarray) -> StandardCurve | None:
    """Ordinary least squares of Ct on log10 copies; None with fewer than two levels or a slope of 0.

    Parameters
    ----------
    ct : ndarray
        Ct of each standard well.
    copies : ndarray
        Nominal copies per reaction of each well, positive.

    Examples
    --------
    >>> curve = standard_curve(np.array([30.0, 26.68, 23.36]), np.array([1e1, 1e2, 1e3]))
    >>> round(curve.slope, 6), round(curve.intercept, 6), round(curve.r_squared, 6), round(curve.efficiency, 1)
    (-3.32, 33.32, 1.0, 100.1)
    """
    x = np.log10(copies)
    if len(np.unique(copies)) < 2:
        return None
    dx, dy = x - x.mean(), ct - ct.mean()
    slope = float((dx * dy).sum() / (dx * dx).sum())
    total = float((dy * dy).sum())
    if slope == 0 or total == 0:
        return None
    residual = dy - slope * dx
    return StandardCurve(
        slope, float(ct.mean() - slope * x.mean()), 1 - float((residual * residual).sum()) / total, len(ct)
    )


def copies_per_reaction(ct: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """N = 10^((Ct - b) / m).

    Examples
    --------
    >>> copies_per_reaction(np.array([26.68]), -3.32, 33.32).round(6).tolist()
    [100.0]
    """
    return 10 ** ((np.asarray(ct, dtype=float) - intercept) / slope)


def back_calculated(ct: np.ndarray, copies: np.ndarray, curve: StandardCurve) -> pd.DataFrame:
    """Each calibrator level, read back from the curve at the mean Ct of its wells.

    Returns
    -------
    DataFrame
        copies, n_wells, found, deviation_pct; by increasing copies.
    """
    nominal, level, n_wells = np.unique(copies, return_inverse=True, return_counts=True)
    found = copies_per_reaction(np.bincount(level, ct) / n_wells, curve.slope, curve.intercept)
    return pd.DataFrame(
        {
            "copies": nominal,
            "n_wells": n_wells,
            "found": found,
            "deviation_pct": 100 * (found / nominal - 1),
        }
    )


def deviation_limits(levels: pd.DataFrame, rule: QpcrAcceptance) -> np.ndarray:
    """Deviation [%] allowed to each calibrator level; the lowest has the wider limit of the LLOQ."""
    lowest = levels["copies"] == levels["copies"].min()
    return np.where(lowest, rule.back_calculation_lloq_pct, rule.back_calculation_pct)


def levels_within(levels: pd.DataFrame, rule: QpcrAcceptance) -> pd.Series:
    """Which calibrator levels read back within the limit."""
    return levels["deviation_pct"].abs() <= deviation_limits(levels, rule)


def acceptance(
    curve: StandardCurve | None, levels: pd.DataFrame | None, ntc_ok: bool | None, rule: QpcrAcceptance
) -> list[str]:
    """Every criterion that a run fails, with its value; empty when the run is accepted."""
    failed = []
    if curve is None or levels is None:
        failed.append("no standard curve (fewer than two calibrator levels with a Ct)")
    else:
        if not rule.slope_min <= curve.slope <= rule.slope_max:
            failed.append(
                f"slope {curve.slope:.3f} (efficiency {curve.efficiency:.1f} %) outside {rule.slope_min:g} to "
                f"{rule.slope_max:g}"
            )
        if not curve.r_squared >= rule.r_squared_min:
            failed.append(f"R2 {curve.r_squared:.4f} below {rule.r_squared_min:g}")
        if len(levels) < rule.levels_min:
            failed.append(f"{len(levels)} calibrator levels, fewer than {rule.levels_min}")
        within = int(levels_within(levels, rule).sum())
        if within < rule.back_calculation_share * len(levels):
            failed.append(
                f"{within} of {len(levels)} calibrator levels read back within {rule.back_calculation_pct:g} % "
                f"({rule.back_calculation_lloq_pct:g} % at the lowest), fewer than "
                f"{100 * rule.back_calculation_share:g} %"
            )
    if ntc_ok is False:
        failed.append("a no-template control is detected at or above the LOD")
    return failed


# --------------------------------------------------------------------------------------------------------------- units


def scale_to_unit(
    unit: str, sample: Mapping[str, object], reference_copies: float, recovery: float = 1.0
) -> tuple[float, list[tuple[str, str]]]:
    """Factor from copies per reaction to the unit of the level, and what the manifest lacks for it.

    copies/ug = N / ng_input * 1000; copies/mL = N / V_template * dilution * V_elution / V_blood / recovery;
    copies/cell = 2 N / N_reference (two alleles of the reference gene in a cell).

    Parameters
    ----------
    unit : str
        Unit wanted.
    sample : mapping
        Row of the manifest.
    reference_copies : float
        Copies of the reference gene per reaction; NaN where unknown.
    recovery : float
        Share of DNA that the extraction recovers.

    Examples
    --------
    >>> scale_to_unit("copies/ug", {"ng_input": 200.0}, math.nan)
    (5.0, [])
    >>> scale_to_unit("copies/cell", {}, 400.0)
    (0.005, [])
    """
    if unit == "copies/cell":
        return (2 / reference_copies if reference_copies > 0 else math.nan), []
    wanted = ("ng_input",) if unit == "copies/ug" else ("template_ul", "elution_ul", "blood_ml")
    values: dict[str, float] = {name: _number(sample.get(name)) for name in wanted}
    lacking = [(name, f"needed for {unit}") for name, value in values.items() if not value > 0]
    if lacking:
        return math.nan, lacking
    if unit == "copies/ug":
        return 1000 / values["ng_input"], []
    dilution = _number(sample.get("dilution"))
    dilution = 1.0 if math.isnan(dilution) else dilution
    per_ml = dilution * values["elution_ul"] / values["template_ul"] / values["blood_ml"]
    return per_ml / recovery, []


def _number(value: object) -> float:
    return math.nan if value is None or value is pd.NA else float(value)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- levels


def outlier(ct: np.ndarray, limit: float) -> int | None:
    """Position of the one of three Ct that departs from their median while the two others agree; None without one.

    Parameters
    ----------
    ct : ndarray
        Ct of the replicates.
    limit : float
        [Ct] Departure from the median that is still agreement.

    Returns
    -------
    int or None
        None for any other number than three, when all three agree, and when no two of them do: then nobody can say
        which is wrong.

    Examples
    --------
    >>> outlier(np.array([28.1, 31.0, 28.3]), 0.5)
    1
    >>> outlier(np.array([28.1, 31.0, 29.0]), 0.5) is None
    True
    """
    if len(ct) != 3:
        return None
    departs = np.abs(ct - np.median(ct)) > limit
    return int(np.argmax(departs)) if departs.sum() == 1 else None


@dataclass(frozen=True)
class _Plate:
    """What a sample needs to know of its run."""

    curve: StandardCurve | None
    reference_curve: StandardCurve | None
    highest: float
    failed: tuple[str, ...]
    expected_ct: float


def quantify(raw: pd.DataFrame, samples: pd.DataFrame, settings: Qpcr) -> Quantified:
    """Levels of every sample of every run.

    Parameters
    ----------
    raw : DataFrame
        `nkinetics.columns.RAW` rows with measure ct; `sample_id` as in the manifest.
    samples : DataFrame
        The manifest.
    settings : Qpcr
        Patterns, limits and acceptance.

    Returns
    -------
    Quantified
        A failed run gives rows with status failed and the criterion as reason. A sample detected in too few replicates
        is blq, in none not_detected. A blq row whose wells together hold less than the LOD has an empty `lod`.

    Notes
    -----
    A level is the mean of the copies in the replicates that were detected: at or above an LLOQ of ten copies an empty
    replicate is a failure of the well (probability exp(-10)), not a zero. `n_molecules` is the sum of copies over these
    replicates, so that counting gives their mean a relative variance of 1/n.
    """
    set_aside = unusable(raw)
    kinds = {name: _kind(name, settings) for name in raw["target"].unique()}
    roles: dict[int, str] = {}
    for label, name, role in zip(raw.index.tolist(), raw["target"], raw["role"], strict=True):
        if kinds[name] == "reference" and role == "unknown":
            roles[label] = "reference"
        elif kinds[name] == "" and label not in set_aside:
            set_aside[label] = (
                f"target {name or 'without a name'} is neither the transgene nor the reference gene of assays.qpcr"
            )
    manifest = {row["sample_id"]: row for row in records(samples)}
    levels: list[dict[str, object]] = []
    runs: list[dict[str, object]] = []
    sources: list[Behind] = []
    calibrators: list[dict[str, object]] = []
    needs: list[Need] = []
    warnings: list[str] = []
    for run_id, wells in Wells.of(left(raw, set_aside)).by("run_id"):
        of_gene = np.array([kinds[name] == "reference" for name in wells["target"]], dtype=bool)
        genes, transgene = wells.where(of_gene), wells.where(~of_gene)
        reference_curve = None
        of_run: list[dict[str, object]] = []
        if settings.level_unit == "copies/cell" or (genes["role"] == "standard").any():
            for name, of_target in genes.by("target"):
                key = {"run_id": run_id, "assay": "qpcr", "target": name}
                reference_curve, row, _, wells_of = _run(of_target, settings, set_aside, copies_limit=False)
                of_run.append({**row, **run_facts(of_target, set_aside), **key})
                calibrators += [{**well, **key} for well in wells_of]
            runs += of_run
        else:
            for label in genes.where(genes["role"] != "unknown").index.tolist():
                set_aside[label] = "reference gene without a standard curve; only its samples are used"
        gene_samples = genes.where(genes["role"] == "unknown")
        by_sample = dict(gene_samples.by("sample_id"))
        expected_ct = _expected_reference(by_sample, manifest, settings)
        for name, of_target in transgene.by("target"):
            curve, row, controls, wells_of = _run(of_target, settings, set_aside, copies_limit=True)
            calibrators += [{**well, "run_id": run_id, "assay": "qpcr", "target": name} for well in wells_of]
            failed = [str(row["reason"])] if not row["accepted"] else []
            if settings.level_unit == "copies/cell":
                failed += [f"reference gene {r['target']}: {r['reason']}" for r in of_run if not r["accepted"]]
            if row["ntc_ok"] is pd.NA:
                warnings.append(f"Run {run_id}, {name}: the plate has no no-template control; the rule is not applied.")
            standards = controls.where(controls["role"] == "standard")
            highest = float(standards["quantity"].max()) if len(standards) else math.nan
            plate = _Plate(curve, reference_curve, highest, tuple(failed), expected_ct)
            ntcs = controls.where(controls["role"] == "ntc")
            before, outliers = len(levels), 0
            for sample_id, replicates in of_target.where(of_target["role"] == "unknown").by("sample_id"):
                if sample_id not in manifest:
                    continue
                own_genes = by_sample.get(sample_id, gene_samples.none())
                outliers += _set_outlier_aside(replicates, settings, set_aside)
                level, lacking = _level(replicates, own_genes, manifest[sample_id], plate, settings, set_aside)
                needs += [Need(sample_id, column, why) for column, why in lacking]
                levels.append(
                    {"assay": "qpcr", "run_id": run_id, "sample_id": sample_id, "analyte": settings.analyte, **level}
                )
                kept = replicates.without(set_aside)
                pieces = {"replicate": kept, "reference": own_genes, "standard": standards, "ntc": ntcs}
                sources += [Behind("qpcr", run_id, sample_id, role, part) for role, part in pieces.items()]
            if outliers:
                warnings.append(
                    f"Run {run_id}, {name}: {outliers} replicate{'s' if outliers > 1 else ''} set aside as "
                    f"outlier{'s' if outliers > 1 else ''} (assays.qpcr.acceptance.replicate_outlier_ct)."
                )
            runs.append(
                {
                    **row,
                    **run_facts(of_target, set_aside),
                    **spread(levels[before:]),
                    "n_outliers": pd.NA if settings.acceptance.replicate_outlier_ct is None else outliers,
                    "run_id": run_id,
                    "assay": "qpcr",
                    "target": name,
                }
            )
    return outcome(
        levels,
        runs,
        sources,
        set_aside,
        needs=tuple(needs),
        warnings=tuple(warnings),
        roles=roles,
        calibrators=frame_of(calibrators, CALIBRATORS),
    )


def _kind(target: str, settings: Qpcr) -> str:
    """Whether a target is the transgene or the reference gene, or neither; a name that fits both is the transgene's."""
    if re.search(settings.target_pattern, target):
        return "transgene"
    gene = settings.reference_pattern
    return "reference" if gene is not None and re.search(gene, target) else ""


def _detected(wells: Wells, settings: Qpcr) -> np.ndarray:
    return wells["value"] <= settings.ct_max


def _run(
    wells: Wells, settings: Qpcr, set_aside: dict[int, str], *, copies_limit: bool
) -> tuple[StandardCurve | None, dict[str, object], Wells, list[dict[str, object]]]:
    """Curve, row of runs.csv, the standards and controls used, and their rows of calibrators.csv, of one target."""
    detected = _detected(wells, settings)
    standard, positive = wells["role"] == "standard", wells["quantity"] > 0
    for label in wells.where(standard & ~positive).index.tolist():
        set_aside[label] = "standard without a positive quantity"
    for label in wells.where(standard & positive & ~detected).index.tolist():
        set_aside[label] = "standard without a Ct"
    on_curve = wells.where(standard & positive & detected)
    ct, copies = on_curve["value"], on_curve["quantity"]
    curve = standard_curve(ct, copies)
    read_back = back_calculated(ct, copies, curve) if curve is not None else None
    ntc = wells.where(wells["role"] == "ntc")
    ntc_ok: object = pd.NA
    found = ntc.where(_detected(ntc, settings))["value"]
    if len(ntc):
        limit = settings.lod_copies if copies_limit else None
        if not len(found):
            ntc_ok = True
        elif curve is None or limit is None:
            ntc_ok = False
        else:
            ntc_ok = bool((copies_per_reaction(found, curve.slope, curve.intercept) < limit).all())
    failed = acceptance(curve, read_back, None if ntc_ok is pd.NA else bool(ntc_ok), settings.acceptance)
    row: dict[str, object] = {
        "slope": curve.slope if curve else math.nan,
        "intercept": curve.intercept if curve else math.nan,
        "r_squared": curve.r_squared if curve else math.nan,
        "efficiency": curve.efficiency if curve else math.nan,
        "ntc_ok": ntc_ok,
        "accepted": not failed,
        "reason": "; ".join(failed),
        "n_standards": len(on_curve),
        "n_levels": len(read_back) if read_back is not None else 0,
        "n_levels_within": int(levels_within(read_back, settings.acceptance).sum()) if read_back is not None else 0,
        "n_ntc": len(ntc),
        "n_samples": len(set(wells.where(wells["role"] == "unknown")["sample_id"])),
        "lowest_calibrator": min(copies, default=math.nan),
        "highest_calibrator": max(copies, default=math.nan),
        "n_ntc_detected": len(found),
        "ntc_lowest_ct": min(found, default=math.nan),
    }
    if curve is not None and read_back is not None:
        deviations = read_back["deviation_pct"].to_numpy()
        row["worst_deviation_pct"] = float(deviations[np.argmax(np.abs(deviations))])
        row["share_within_pct"] = 100 * int(str(row["n_levels_within"])) / len(read_back)
        if len(found):
            row["ntc_most_copies"] = float(copies_per_reaction(found, curve.slope, curve.intercept).max())
    controls = wells.where(standard | (wells["role"] == "ntc"))
    return curve, row, on_curve.followed_by(ntc), _calibrator_rows(controls, curve, read_back, settings, set_aside)


def _calibrator_rows(
    controls: Wells,
    curve: StandardCurve | None,
    read_back: pd.DataFrame | None,
    settings: Qpcr,
    set_aside: Mapping[int, str],
) -> list[dict[str, object]]:
    """Rows of calibrators.csv of the standards and no-template controls of one target."""
    levels: dict[float, tuple[float, float]] = {}
    if read_back is not None:
        limits = deviation_limits(read_back, settings.acceptance)
        levels = {
            float(n): (float(d), float(limit))
            for n, d, limit in zip(read_back["copies"], read_back["deviation_pct"], limits, strict=True)
        }
    ct = np.where(controls["value"] <= settings.ct_max, controls["value"], math.nan)
    found = copies_per_reaction(ct, curve.slope, curve.intercept) if curve is not None else np.full(len(ct), math.nan)
    names = ("role", "well", "quantity", "source_file", "source_row")
    rows = []
    columns = (controls[name].tolist() for name in names)
    for label, one, copies, *values in zip(controls.index.tolist(), ct.tolist(), found.tolist(), *columns, strict=True):
        well = dict(zip(names, values, strict=True))
        nominal = float(well["quantity"]) if well["role"] == "standard" and label not in set_aside else math.nan
        deviation, limit = levels.get(nominal, (math.nan, math.nan))
        rows.append(
            {
                **well,
                "ct": one,
                "back_calculated": copies,
                "deviation_pct": 100 * (copies / nominal - 1),
                "level_deviation_pct": deviation,
                "limit_pct": limit,
                "used": label not in set_aside,
                "reason": set_aside.get(label, ""),
            }
        )
    return rows


def _set_outlier_aside(replicates: Wells, settings: Qpcr, set_aside: dict[int, str]) -> int:
    """Set the outlier among three detected replicates of a sample aside, where the rule is on; how many there were."""
    limit = settings.acceptance.replicate_outlier_ct
    if limit is None or len(replicates) != 3 or not _detected(replicates, settings).all():
        return 0
    ct = replicates["value"]
    found = outlier(ct, limit)
    if found is None:
        return 0
    set_aside[int(replicates.index[found])] = (
        f"outlier: Ct {ct[found]:.2f} departs {abs(ct[found] - np.median(ct)):.2f} from the median {np.median(ct):.2f} "
        f"of 3 replicates, the two others agree within {limit:g} (assays.qpcr.acceptance.replicate_outlier_ct)"
    )
    return 1


def _expected_reference(
    genes: Mapping[str, Wells], manifest: Mapping[str, Mapping[str, object]], settings: Qpcr
) -> float:
    """Median over the run of the reference Ct that one nanogram would have given: Ct + log2(ng)."""
    found = []
    for sample_id, wells in genes.items():
        ct = wells.where(_detected(wells, settings))["value"]
        ng = _number(manifest.get(sample_id, {}).get("ng_input"))
        if len(ct) and ng > 0:
            found.append(float(ct.mean()) + math.log2(ng))
    return float(np.median(found)) if found else math.nan


def _reference_failure(genes: Wells, sample: Mapping[str, object], expected: float, settings: Qpcr) -> str:
    """Why the reference gene says that the sample's DNA is not what the manifest says; empty when all is well."""
    if not len(genes):
        return ""
    detected = genes.where(_detected(genes, settings))
    if not len(detected):
        return "reference gene not detected: no DNA in the reaction, or inhibition"
    ng = _number(sample.get("ng_input"))
    limit = settings.reference_ct_shift_max
    if limit is None or not ng > 0 or math.isnan(expected):
        return ""
    shift = float(detected["value"].mean()) + math.log2(ng) - expected
    if abs(shift) <= limit:
        return ""
    what = "inhibition, or less DNA than stated" if shift > 0 else "more DNA than stated"
    return (
        f"reference gene Ct {abs(shift):.1f} {'above' if shift > 0 else 'below'} what {ng:g} ng give on this run "
        f"(limit {limit:g}): {what}"
    )


def _said(wells: Wells) -> list[str]:
    """Why each well has no Ct, in the words of the reader or of the export."""
    return [
        remark or (f"no Ct but {text!r}" if text else "no Ct in the export")
        for remark, text in zip(wells["remark"], wells["value_raw"], strict=True)
    ]


_WITHOUT_RESULT = frozenset(("failed", "not_done", "below", "above"))


def _level(
    replicates: Wells,
    genes: Wells,
    sample: Mapping[str, object],
    plate: _Plate,
    settings: Qpcr,
    set_aside: dict[int, str],
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """One sample on one run: level, limits, status and reason, and what the manifest lacks for it."""
    bad = np.array([d in _WITHOUT_RESULT for d in replicates["detection"].tolist()], dtype=bool)
    if bad.any():
        without = replicates.where(bad)
        set_aside.update(zip(without.index.tolist(), _said(without), strict=True))
    wells = replicates.where(~bad).without(set_aside)
    detected = wells.where(_detected(wells, settings))
    copies = np.array([])
    if plate.curve is not None:
        ct = detected["value"]
        copies = copies_per_reaction(ct, plate.curve.slope, plate.curve.intercept)
    mean = float(copies.mean()) if len(copies) else 0.0
    reference_copies = math.nan
    if plate.reference_curve is not None:
        ct = genes.where(_detected(genes, settings))["value"]
        if len(ct):
            line = plate.reference_curve
            reference_copies = float(copies_per_reaction(ct, line.slope, line.intercept).mean())
    factor, lacking = scale_to_unit(settings.level_unit, sample, reference_copies, float(settings.recovery))
    uloq = plate.highest if settings.uloq_copies is None else settings.uloq_copies
    rule = settings.acceptance
    cv = cv_pct(copies)
    limit = rule.replicate_cv_lloq_pct if mean <= NEAR_LLOQ * settings.lloq_copies else rule.replicate_cv_pct
    reasons = [f"run not accepted: {'; '.join(plate.failed)}"] if plate.failed else []
    reasons += [text] if (text := _reference_failure(genes, sample, plate.expected_ct, settings)) else []
    if settings.level_unit == "copies/cell" and not reference_copies > 0:
        reasons.append("no copies of the reference gene, which copies/cell needs")
    status = "quantified"
    if not len(wells):
        not_done = (replicates["detection"] == "not_done").all()
        reasons.append("no usable replicate: " + "; ".join(sorted(set(_said(replicates)))))
        status = "not_done" if not_done else "failed"
    elif not len(detected):
        status = "not_detected"
    elif len(wells) < rule.replicates_detected_min and mean >= settings.lloq_copies:
        reasons.append(f"{len(wells)} usable replicate, fewer than {rule.replicates_detected_min}")
    elif len(detected) < rule.replicates_detected_min or mean < settings.lloq_copies:
        status = "blq"
    elif mean > uloq:
        status = "above_uloq"
    elif cv > limit:
        reasons.append(f"replicate CV {cv:.1f} % above {limit:g} %")
    if reasons and status != "not_done":
        status = "failed"
    averaged = status == "failed" and len(copies) > 1
    # One molecule that one of three wells caught does not say that the sample holds LOD to LLOQ: less was seen in all
    # wells together. Such a row has no LOD, and the likelihood takes it as anything below the LLOQ.
    below_lod = status == "blq" and float(copies.sum()) / len(wells) < (settings.lod_copies or 0.0)
    return {
        "level": mean * factor if status == "quantified" else math.nan,
        "level_unit": settings.level_unit,
        "lod": math.nan if settings.lod_copies is None or below_lod else settings.lod_copies * factor,
        "detected": status in ("quantified", "blq", "above_uloq") if status not in ("failed", "not_done") else pd.NA,
        "lloq": settings.lloq_copies * factor,
        "uloq": uloq * factor,
        "status": status,
        "n_molecules": float(copies.sum()),
        "n_replicates": len(detected if status in ("quantified", "above_uloq") or averaged else wells),
        "cv_pct": cv,
        "cv_limit_pct": limit if settings.lloq_copies <= mean <= uloq else math.nan,
        "exclusion_reason": "; ".join(reasons),
        **provenance(replicates),
    }, lacking
