"""What the instruments measure of a sample, before anything is printed: wells, droplets, events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nkinetics.simulate.design import Design, Run
from nkinetics.simulate.truth import UG_PER_GENOME, History, Sample, stream

TARGET, REFERENCE = "CAR", "RPPH1"
CT_NOISE = 0.05
"""SD of Ct between wells with the same number of molecules."""
CYCLES = 40
STANDARDS = tuple(10.0**k for k in range(7, 0, -1))
"""Copies per well of the calibrators, highest first as on the plate."""
CONTROLS = (("QC-HIGH", 5000.0), ("QC-LOW", 50.0))
"""Plate controls: name and copies of the transgene per well."""
REFERENCE_PER_NG = 2.0 / (UG_PER_GENOME * 1000)
"""Copies of a single-copy gene in 1 ng of genomic DNA (two per diploid genome)."""
REFERENCE_CURVE = (-3.33, 37.60)
"""True slope and intercept of the reference gene's curve; a bad run bends it as it bends the other."""


@dataclass(frozen=True)
class Well:
    """One target in one well of a qPCR run.

    Parameters
    ----------
    position : int
        Number of the well on a 384-well plate, from 0.
    sample : str
        Name on the plate.
    target : str
        CAR or RPPH1.
    task : str
        STANDARD, NTC or UNKNOWN.
    nominal : float or None
        Copies of a standard.
    ct : float or None
        None = undetermined.
    omitted : bool
        The operator left the well out of the analysis.
    """

    position: int
    sample: str
    target: str
    task: str
    nominal: float | None
    ct: float | None
    omitted: bool = False


def copies(sample: Sample) -> float:
    """Expected transgene copies in one reaction of this extract."""
    assert sample.level is not None and sample.ng_input is not None
    return sample.level * sample.extract * sample.ng_input / 1000


def _ct(
    rng: np.random.Generator, expected: float, slope: float, intercept: float, noise: float = CT_NOISE
) -> float | None:
    """Ct of one well: molecules by chance (Poisson), then the curve and the well's own noise."""
    molecules = int(rng.poisson(expected))
    error = rng.normal(0.0, noise)
    if molecules == 0:
        return None
    ct = float(np.float32(intercept + slope * np.log10(molecules) + error))
    return ct if ct < CYCLES else None


def plate_samples(run: Run, trial: tuple[History, ...]) -> list[Sample]:
    """Samples on a plate, patient by patient in order of time."""
    own = [
        s
        for h in trial
        if h.patient.patient_id in run.patients
        for s in sorted((s for s in h.samples if s.time is not None), key=lambda s: s.time or 0.0)
        if s.sample_id not in run.without
    ]
    also = [s for h in trial for s in h.samples if s.sample_id in run.also and s.time is not None]
    return own + also


def plate(design: Design, seed: int, run: Run, trial: tuple[History, ...]) -> list[Well]:
    """A duplex qPCR run: calibrators and no-template controls in row A, plate controls, then the samples.

    Both targets are read in every well; the calibrators hold both amplicons.
    """
    rng = stream(design, seed, run.name, "plate")
    bend = run.slope / -3.33
    curves = {
        TARGET: (run.slope, run.intercept),
        REFERENCE: (REFERENCE_CURVE[0] * (bend if abs(bend - 1) > 0.1 else 1.0), REFERENCE_CURVE[1]),
    }
    content: list[tuple[str, str, float | None, dict[str, float]]] = []
    for amount in STANDARDS:
        content.append((f"STD 1E{np.log10(amount):.0f}", "STANDARD", amount, dict.fromkeys(curves, amount)))
    content.append(("NTC", "NTC", None, dict.fromkeys(curves, 0.0)))
    for name, amount in CONTROLS:
        content.append((name, "UNKNOWN", None, {TARGET: amount, REFERENCE: design.ng_input * REFERENCE_PER_NG}))
    for sample in plate_samples(run, trial):
        assert sample.ng_input is not None
        loaded = sample.ng_input * REFERENCE_PER_NG * float(np.exp(rng.normal(0, 0.06)))
        content.append((sample.sample_id, "UNKNOWN", None, {TARGET: copies(sample), REFERENCE: loaded}))

    wells: list[Well] = []
    omitted_run, omitted_sample = design.mishaps.omitted_well or ("", "")
    position = 0
    for name, task, nominal, expected in content:
        late_run, late = design.mishaps.outlying_replicate.get(name, ("", 0.0))
        for replicate in range(design.replicates):
            omitted = replicate == 1 and (run.name, name) == (omitted_run, omitted_sample)
            for target, (slope, intercept) in curves.items():
                ct = _ct(rng, expected[target], slope, intercept)
                if ct is not None and replicate == 2 and late_run == run.name and target == TARGET:
                    ct = float(np.float32(ct + late))
                wells.append(Well(position, name, target, task, nominal, None if omitted else ct, omitted))
            position += 1
    if position > 384:
        raise ValueError(f"run {run.name} needs {position} wells; a plate has 384")
    return wells


@dataclass(frozen=True)
class DropletWell:
    """One well of digital PCR.

    Parameters
    ----------
    position : int
        Number of the well on a 96-well plate, column by column from 0.
    sample : str
        Name in the well.
    kind : str
        Unknown, NTC or PosCtrl.
    droplets : int
        Accepted droplets.
    positives : mapping of str to int
        Positive droplets by target.
    both : int
        Droplets positive for both targets.
    """

    position: int
    sample: str
    kind: str
    droplets: int
    positives: dict[str, int]
    both: int


PARTITION_NL, REACTION_UL = 0.85, 20.0


def droplet_wells(design: Design, seed: int, trial: tuple[History, ...]) -> list[DropletWell]:
    """Digital PCR of part of the samples in duplicate wells, with a no-template and a positive control."""
    rng = stream(design, seed, "ddpcr")
    reference = design.ng_input * REFERENCE_PER_NG
    content: list[tuple[str, str, float, float]] = [("NTC", "NTC", 0.0, 0.0), ("QC-HIGH", "PosCtrl", 5000.0, reference)]
    chosen = {f"{p}-{v}" for p in design.ddpcr_patients for v in design.ddpcr_visits}
    for h in trial:
        for s in h.samples:
            if s.sample_id in chosen and s.time is not None and s.ng_input is not None:
                content.append((s.sample_id, "Unknown", copies(s), s.ng_input * REFERENCE_PER_NG))
    wells: list[DropletWell] = []
    for name, kind, car, genomes in content:
        for replicate in range(2):
            droplets = int(np.clip(rng.normal(17400, 1100), 13500, 20400))
            if name == design.mishaps.low_droplets and replicate == 1:
                droplets = int(rng.integers(6500, 8500))
            shares = [-np.expm1(-c / REACTION_UL * PARTITION_NL / 1000) for c in (car, genomes)]
            first, second = (int(rng.binomial(droplets, p)) for p in shares)
            both = int(rng.hypergeometric(first, droplets - first, second)) if second else 0
            wells.append(DropletWell(len(wells), name, kind, droplets, {TARGET: first, REFERENCE: second}, both))
    if len(wells) > 96:
        raise ValueError(f"digital PCR needs {len(wells)} wells; a plate has 96")
    return wells


@dataclass(frozen=True)
class Acquisition:
    """One tube of flow cytometry: events in each gate, from the widest to the narrowest.

    Parameters
    ----------
    sample : str
        Sample, or name of a control tube.
    lymphocytes, singlets, live, nk, car : int
        Events.
    """

    sample: str
    lymphocytes: int
    singlets: int
    live: int
    nk: int
    car: int


def acquisition(rng: np.random.Generator, sample: str, alc_per_ul: float, share: float) -> Acquisition:
    """Events of one tube: blood for at most 60,000 live lymphocytes, a share of them CAR+, a little background."""
    live = int(rng.poisson(min(60000.0, 180.0 * alc_per_ul)))
    car = min(live, int(rng.poisson(live * min(share, 0.95) + 3e-5 * live)))
    nk = car + int(rng.binomial(live - car, rng.uniform(0.04, 0.12)))
    singlets = live + int(rng.poisson(0.03 * live + 20))
    return Acquisition(sample, singlets + int(rng.poisson(0.04 * live + 30)), singlets, live, nk, car)


def tubes(design: Design, seed: int, dose_level: str, follow_up: bool, trial: tuple[History, ...]) -> list[Acquisition]:
    """Flow cytometry of one dose level, of the infusion period or of the follow-up."""
    rng = stream(design, seed, "flow", dose_level, "follow-up" if follow_up else "infusion period")
    acquired = [acquisition(rng, "FMO-CAR", 900.0, 0.0)]
    for h in trial:
        wanted = {f"{h.patient.patient_id}-{v}" for v in design.flow_visits}
        for s in h.samples:
            if h.patient.dose_level != dose_level or s.sample_id not in wanted or s.time_nominal is None:
                continue
            if s.alc is not None and s.cells is not None and (s.time_nominal >= design.follow_up[0]) == follow_up:
                acquired.append(acquisition(rng, s.sample_id, s.alc * 1000, s.cells / (s.alc * 1000) * s.stain))
    return acquired
