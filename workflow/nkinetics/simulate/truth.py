"""The truth of a simulated trial: who has which parameters, when things happened, how high the level was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from nkinetics.models import cytokine_window
from nkinetics.plugins import Calendar
from nkinetics.simulate.design import MINUTES, Design, Patient

UG_PER_GENOME = 6.6e-6
"""DNA of one diploid genome [ug]."""


def stream(design: Design, seed: int, *names: str) -> np.random.Generator:
    """Random numbers for one purpose, from study, seed and names through sha256.

    Each patient and purpose has its own stream, so that a patient more or a sample less changes nobody else.
    """
    text = "|".join((design.study_id, str(seed), *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def level(
    time: np.ndarray,
    infusions: Sequence[tuple[float, float]],
    cytokines: Sequence[float],
    design: Design,
    parameters: Mapping[str, float],
) -> np.ndarray:
    """The patient's true level: the curve of `nkinetics.models.cytokine_window`, no algebra of its own.

    Parameters
    ----------
    time : array [d]
        Where the level is wanted.
    infusions : sequence of (start [d], amount in reference doses)
        As given.
    cytokines : sequence of float [d]
        Starts of the windows.
    design : Design
        Agent, width of the windows and exponent of the dose.
    parameters : mapping
        scale [copies/ug per reference dose], delta [1/d], rho [1/d].

    Returns
    -------
    array [copies/ug]
        0 before the first infusion.
    """
    starts, amounts = np.array(infusions, dtype=float).T
    calendar = Calendar(starts, amounts**design.theta_dose, {design.agent: np.array(cytokines, dtype=float)})
    constants = cytokine_window.Constants(agents=(design.agent,), width=design.width)
    values = np.array([parameters[name] for name in ("scale", "delta", "rho")])
    return np.exp(cytokine_window.log_level(time, values, calendar, constants))


def recovering(time: np.ndarray, before: float, nadir: float, plateau: float, growth: float = 0.17) -> np.ndarray:
    """White cells after lymphodepletion [1e9/L]: the old ones vanish at 0.4/d, the new ones grow to a plateau.

    Parameters
    ----------
    time : array [d]
        Since the first infusion.
    before, nadir, plateau : float [1e9/L]
        Old cells at time 0, new cells at time 0, new cells in the end.
    growth : float [1/d]
        Early rate of recovery; 0.17/d after Kimmel 2021 (Proc R Soc B 288:20210229).
    """
    return before * np.exp(-0.4 * time) + plateau / (1 + (plateau / nadir - 1) * np.exp(-growth * time))


@dataclass(frozen=True)
class Sample:
    """One sample as it truly was.

    Parameters
    ----------
    sample_id, visit, state, comment : str
        As in samples.csv.
    time_nominal, time : float or None [d]
        Planned and actual; None where there is none.
    ng_input : float or None
        DNA in one reaction [ng].
    level : float or None
        True level [copies/ug].
    extract : float
        Factor of this extract on every molecular result (residual error).
    stain : float
        The same for flow cytometry.
    wbc, alc : float or None
        White cells and lymphocytes, engineered cells included [1e9/L].
    cells : float or None
        CAR+ cells [1/uL].
    """

    sample_id: str
    visit: str
    time_nominal: float | None
    time: float | None
    state: str = ""
    comment: str = ""
    ng_input: float | None = None
    level: float | None = None
    extract: float = 1.0
    stain: float = 1.0
    wbc: float | None = None
    alc: float | None = None
    cells: float | None = None


@dataclass(frozen=True)
class History:
    """What happened to one patient, with the parameters that made it so.

    Parameters
    ----------
    patient : Patient
        The plan.
    parameters : mapping
        scale [copies/ug], delta [1/d], rho [1/d].
    start : datetime
        Start of the first infusion, local.
    infusions : tuple of (start [d], planned, given)
        In order.
    cytokines : tuple of float [d]
        Starts.
    samples : tuple of Sample
        In planned order, missed and pending ones included.
    """

    patient: Patient
    parameters: Mapping[str, float]
    start: datetime
    infusions: tuple[tuple[float, float, float], ...]
    cytokines: tuple[float, ...]
    samples: tuple[Sample, ...]

    def local(self, time: float) -> str:
        """Local date and time of an elapsed time, to the minute."""
        return (self.start + timedelta(minutes=round(time * MINUTES))).isoformat(timespec="minutes")


def parameters(design: Design, seed: int, patient: Patient) -> dict[str, float]:
    """The patient's own scale, delta and rho: log-normal around the typical values, then what the plan fixes."""
    rng = stream(design, seed, patient.patient_id, "parameters")
    own = {
        name: typical * float(np.exp(design.omega[name] * rng.standard_normal()))
        for name, typical in design.typical.items()
    }
    own["scale"] *= patient.scale_factor
    if patient.rho is not None:
        own["rho"] = patient.rho
    return own


def _minutes(value: float) -> float:
    return round(value) / MINUTES


def history(design: Design, seed: int, patient: Patient) -> History:
    """Everything that happens to one patient, from the patient's own random numbers."""
    own = parameters(design, seed, patient)
    times = stream(design, seed, patient.patient_id, "times")
    start = datetime.fromisoformat(patient.first_infusion) + timedelta(minutes=int(times.integers(0, 45)))
    cut = (datetime.fromisoformat(design.data_cut) + timedelta(days=1) - start) / timedelta(days=1)
    planned = design.doses[patient.dose_level]

    infusions = []
    for number, day in enumerate(design.infusion_days, start=1):
        at = 0.0 if number == 1 else _minutes(day * MINUTES + times.normal(0, 40))
        share = patient.given_share.get(number, 1.0 + times.uniform(-0.03, 0.01))
        infusions.append((at, planned, round(planned * share / 1e7) * 1e7))
    begun = dict(zip(design.infusion_days, (at for at, _, _ in infusions), strict=True))
    cytokines = []
    for day in design.cytokine_days:
        # On infusion days two to four hours after the cells; on its own day after the morning's sample.
        delay = times.uniform(120, 240) if day in begun else times.uniform(10, 70)
        if day not in patient.cytokine_skipped:
            cytokines.append(_minutes(begun.get(day, day) * MINUTES + delay))

    mishaps, name = design.mishaps, patient.patient_id
    drawn: list[tuple[str, str, float | None, float | None, str, str]] = []
    for visit in design.visits:
        sample_id = f"{name}-{visit.code}"
        anchor = infusions[visit.infusion - 1][0] if visit.infusion else visit.time_nominal
        at = _minutes(anchor * MINUTES + times.uniform(*visit.window))
        if sample_id in mishaps.shifted:
            shift = mishaps.shifted[sample_id]
            at, comment = (
                _minutes((at + shift) * MINUTES),
                f"drawn {abs(shift):.1f} d {'late' if shift > 0 else 'early'}",
            )
        else:
            comment = ""
        if patient.status_end in ("death", "withdrawal") and patient.time_end is not None and at > patient.time_end:
            continue
        if at > cut:
            drawn.append((sample_id, visit.visit, visit.time_nominal, None, "pending", "after the data cut"))
        elif sample_id in mishaps.missed:
            drawn.append((sample_id, visit.visit, visit.time_nominal, None, "not_done", "visit missed"))
        else:
            drawn.append((sample_id, visit.visit, visit.time_nominal, at, "", comment))
    for sample_id, (at, why) in mishaps.unscheduled.items():
        if sample_id.startswith(f"{name}-"):
            drawn.append((sample_id, "Unscheduled", None, _minutes(at * MINUTES), "", why))

    rng = stream(design, seed, name, "samples")
    blood = stream(design, seed, name, "blood")
    white = {
        "before": 1.6 * np.exp(0.2 * blood.standard_normal()),
        "nadir": 0.25 * np.exp(0.2 * blood.standard_normal()),
        "plateau": 5.2 * np.exp(0.15 * blood.standard_normal()),
    }
    lymphocytes = {
        "before": 0.20 * np.exp(0.2 * blood.standard_normal()),
        "nadir": 0.06 * np.exp(0.15 * blood.standard_normal()),
        "plateau": 1.3 * np.exp(0.15 * blood.standard_normal()),
    }
    reference = design.reference_dose
    samples = []
    for sample_id, visit_name, nominal, taken, state, comment in drawn:
        # Drawn for every planned sample, so that a missed one leaves the others' numbers alone.
        noise = rng.standard_normal(2)
        if taken is None:
            samples.append(Sample(sample_id, visit_name, nominal, None, state, comment))
            continue
        t = np.array([taken])
        true = float(level(t, [(s, g / reference) for s, _, g in infusions], cytokines, design, own)[0])
        wbc = float(recovering(t, **white)[0])
        cells = true * UG_PER_GENOME / design.copies_per_cell * wbc * 1000
        samples.append(
            Sample(
                sample_id,
                visit_name,
                nominal,
                taken,
                state,
                comment,
                ng_input=mishaps.low_input.get(sample_id, design.ng_input),
                level=true,
                extract=float(np.exp(design.sigma * noise[0])),
                stain=float(np.exp(design.sigma_flow * noise[1])),
                wbc=wbc,
                alc=float(recovering(t, **lymphocytes)[0]) + cells / 1000,
                cells=cells,
            )
        )
    return History(patient, own, start, tuple(infusions), tuple(cytokines), tuple(samples))


def histories(design: Design, seed: int) -> tuple[History, ...]:
    """Everything that happens in the trial."""
    return tuple(history(design, seed, patient) for patient in design.patients)
