"""Digital PCR as QX Manager exports it: one row per well and target, concentrations from the droplets.

Written from the form of real exports: single-precision numbers widened to double, `No Call` for a target without a
positive droplet under the automatic threshold, blanks where a quantity does not apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nkinetics.simulate.assays import PARTITION_NL, REACTION_UL, REFERENCE, TARGET, DropletWell

COLUMNS = (
    "Well,Sample description 1,Sample description 2,Sample description 3,Sample description 4,Target,Conc(copies/µL),"
    "pg/µL,Status,Status Reason,Experiment,SampleType,TargetType,Supermix,DyeName(s),Copies/20µLWell,TotalConfMax,"
    "TotalConfMin,PoissonConfMax,PoissonConfMin,Accepted Droplets,Positives,Negatives,Copies/uL linked molecules,CNV,"
    "TotalCNVMax,TotalCNVMin,PoissonCNVMax,PoissonCNVMin,ReferenceCopies,UnknownCopies,Threshold1,Threshold2,Threshold3,"
    "ThresholdSigmaAbove,ThresholdSigmaBelow,ReferenceUsed,Ratio,TotalRatioMax,TotalRatioMin,PoissonRatioMax,"
    "PoissonRatioMin,Fractional Abundance,TotalFractionalAbundanceMax,TotalFractionalAbundanceMin,"
    "PoissonFractionalAbundanceMax,PoissonFractionalAbundanceMin,MeanAmplitudeOfPositives,MeanAmplitudeOfNegatives,"
    "MeanAmplitudeTotal,ExperimentComments,MergedWells,TotalConfidenceMax68,TotalConfidenceMin68,"
    "PoissonConfidenceMax68,PoissonConfidenceMin68,TotalCNVMax68,TotalCNVMin68,PoissonCNVMax68,PoissonCNVMin68,"
    "TotalRatioMax68,TotalRatioMin68,PoissonRatioMax68,PoissonRatioMin68,TotalFractionalAbundanceMax68,"
    "TotalFractionalAbundanceMin68,PoissonFractionalAbundanceMax68,PoissonFractionalAbundanceMin68,TiltCorrected,"
    "Ch1+Ch2+,Ch1+Ch2-,Ch1-Ch2+,Ch1-Ch2-"
).split(",")
_DYES = {TARGET: ("FAM", 8800.0, 1900.0), REFERENCE: ("HEX", 5900.0, 1250.0)}


def concentration(positive: float, droplets: int) -> float:
    """Copies per uL from k positive of n droplets: -ln(1 - k/n) / V (assays.md 4).

    Examples
    --------
    >>> round(concentration(10940, 20486), 2)
    898.38
    """
    return float(-np.log1p(-positive / droplets) / PARTITION_NL * 1000)


def interval(positive: int, droplets: int, z: float) -> tuple[float, float]:
    """Poisson interval of the concentration: k/n plus and minus z standard errors, transformed [copies/uL]."""
    share = positive / droplets
    error = z * np.sqrt(share * (1 - share) / droplets)
    edges = (float(np.clip(share + s * error, 0.0, 1 - 1 / droplets)) for s in (-1, 1))
    low, high = (concentration(edge * droplets, droplets) for edge in edges)
    return low, high


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{float(np.float32(value)):.15g}"


def export(experiment: str, wells: Sequence[DropletWell]) -> bytes:
    """A plate as csv, two rows per well."""
    lines = [",".join(COLUMNS)]
    for w in wells:
        well = f"{chr(65 + w.position % 8)}{w.position // 8 + 1:02d}"
        for target, (dye, high, low) in _DYES.items():
            k, n = w.positives[target], w.droplets
            called = k > 0
            cells: dict[str, str] = {
                "Well": well, "Sample description 1": w.sample, "Target": target,
                "Conc(copies/µL)": _number(concentration(k, n)) if called else "No Call",
                "Status": "OK" if called else "CHECK",
                "Status Reason": "" if called else "Automatic Analysis Unsuccessful",
                "Experiment": experiment, "SampleType": w.kind, "TargetType": "Unknown",
                "Supermix": "ddPCR Supermix for Probes (No dUTP)", "DyeName(s)": dye,
                "Accepted Droplets": str(n), "Positives": str(k), "Negatives": str(n - k),
                "MeanAmplitudeOfNegatives": _number(low + w.position % 7), "TiltCorrected": "No",
                "Ch1+Ch2+": str(w.both), "Ch1+Ch2-": str(w.positives[TARGET] - w.both),
                "Ch1-Ch2+": str(w.positives[REFERENCE] - w.both),
                "Ch1-Ch2-": str(n - w.positives[TARGET] - w.positives[REFERENCE] + w.both),
            }  # fmt: skip
            if called:
                c95, c68 = interval(k, n, 1.96), interval(k, n, 1.0)
                positives, negatives = high + 3 * (w.position % 5), low + w.position % 7
                cells |= {
                    "Copies/20µLWell": _number(concentration(k, n) * REACTION_UL),
                    "PoissonConfMax": _number(c95[1]), "PoissonConfMin": _number(c95[0]),
                    "PoissonConfidenceMax68": _number(c68[1]), "PoissonConfidenceMin68": _number(c68[0]),
                    "Threshold1": _number((high + low) / 2), "MeanAmplitudeOfPositives": _number(positives),
                    "MeanAmplitudeTotal": _number((positives * k + negatives * (n - k)) / n),
                }  # fmt: skip
            else:
                cells["MeanAmplitudeTotal"] = cells["MeanAmplitudeOfNegatives"]
            lines.append(",".join(cells.get(c, "") for c in COLUMNS))
    return ("\n".join(lines) + "\n").encode("utf-8")
