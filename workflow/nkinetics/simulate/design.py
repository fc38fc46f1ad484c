"""What a simulated trial is: patients, visits, doses, typical values of the truth, mishaps. Data, no randomness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

MINUTES = 1440.0
"""Minutes in a day; every time of the simulation is a whole number of minutes, as people write them down."""


@dataclass(frozen=True)
class Visit:
    """One planned sample.

    Parameters
    ----------
    code : str
        Last part of the sample's name, as D4-PRE.
    visit : str
        Name in the protocol; day 1 is the day of the first infusion.
    time_nominal : float
        Planned time since the start of the first infusion [d].
    infusion : int
        Infusion whose actual start the window counts from; 0 = from the planned time.
    window : tuple of float
        Earliest and latest minute from there.
    """

    code: str
    visit: str
    time_nominal: float
    infusion: int = 0
    window: tuple[float, float] = (-180.0, 180.0)


def visits(infusion_days: tuple[float, ...], follow_up: tuple[float, ...], cytokine_day: float | None) -> list[Visit]:
    """The sampling calendar: around each infusion (before, 1-2 h, one and two days after), then the follow-up days.

    Parameters
    ----------
    infusion_days : tuple of float
        Planned days of infusion [d].
    follow_up : tuple of float
        Further days with one sample [d].
    cytokine_day : float or None
        Follow-up day on which the sample is drawn before the cytokine.

    Examples
    --------
    >>> [v.code for v in visits((0.0, 3.0), (9.0,), 9.0)]
    ['D1-PRE', 'D1-2H', 'D2', 'D3', 'D4-PRE', 'D4-2H', 'D5', 'D6', 'D10']
    """
    planned = []
    for number, day in enumerate(infusion_days, start=1):
        label = int(day) + 1
        planned += [
            Visit(f"D{label}-PRE", f"Day {label} pre-dose", day, number, (-75.0, -12.0)),
            Visit(f"D{label}-2H", f"Day {label} 1-2 h post-dose", day + 90 / MINUTES, number, (62.0, 118.0)),
            Visit(f"D{label + 1}", f"Day {label + 1}", day + 1, number, (MINUTES - 150, MINUTES + 150)),
            Visit(f"D{label + 2}", f"Day {label + 2}", day + 2, number, (2 * MINUTES - 150, 2 * MINUTES + 150)),
        ]
    for day in follow_up:
        # On the cytokine's day the dose follows the sample: it is drawn first thing.
        window = (-60.0, -5.0) if day == cytokine_day else (-240.0, 300.0) if day < 14 else (-480.0, 540.0)
        planned.append(Visit(f"D{int(day) + 1}", f"Day {int(day) + 1}", day, 0, window))
    return planned


@dataclass(frozen=True)
class Patient:
    """One patient of the plan: what is known in advance, and what happens to this patient alone.

    Parameters
    ----------
    patient_id, dose_level, cohort, indication : str
        As in patients.csv.
    first_infusion : str
        Local date and time of the planned first infusion (ISO).
    weight_kg : float
        Body weight [kg].
    dll3_high : bool
        Target on at least half of the tumour cells.
    status_end : str
        How follow-up ended.
    time_end : float or None
        When [d]; samples planned later do not exist.
    elapsed : bool
        The site wrote elapsed days instead of dates.
    rho, scale_factor : float or None, float
        Fixed expansion rate [1/d] (0 = no expansion), factor on the patient's scale.
    given_share : mapping of int to float
        Share of the planned amount that was given, by infusion.
    cytokine_skipped : tuple of float
        Cytokine days on which the dose was withheld.
    responses : mapping of float to str
        Response (RECIST 1.1) by planned day of the scan.
    events : tuple of tuples
        (event, grade, start [d], end [d] or None, value, comment).
    """

    patient_id: str
    dose_level: str
    cohort: str
    indication: str
    first_infusion: str
    weight_kg: float
    dll3_high: bool
    status_end: str = "data_cut"
    time_end: float | None = None
    elapsed: bool = False
    rho: float | None = None
    scale_factor: float = 1.0
    given_share: Mapping[int, float] = field(default_factory=dict)
    cytokine_skipped: tuple[float, ...] = ()
    responses: Mapping[float, str] = field(default_factory=dict)
    events: tuple[tuple[str, int | None, float, float | None, str, str], ...] = ()


@dataclass(frozen=True)
class Run:
    """One qPCR run: which samples, how its curve truly was, in which form it was exported.

    Parameters
    ----------
    name : str
        Experiment name.
    date : str
        End of the run, local (ISO).
    form : {"txt", "xlsx"}
        Form of the export.
    patients : tuple of str
        Patients whose samples are on the plate.
    slope : float
        True slope of the transgene's curve [Ct/log10].
    intercept : float
        True Ct at one copy.
    without : tuple of str
        Samples that are not on it although their patient is.
    also : tuple of str
        Single samples of other patients.
    """

    name: str
    date: str
    form: str
    patients: tuple[str, ...]
    slope: float
    intercept: float
    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mishaps:
    """What trials are like, sample by sample; a sample is named <patient>-<visit code>.

    Parameters
    ----------
    missed : tuple of str
        Never drawn.
    shifted : mapping of str to float
        Drawn this many days off the planned time.
    unscheduled : mapping of str to tuple
        Time [d] and comment of samples outside the calendar.
    low_input : mapping of str to float
        DNA in one reaction [ng], less than the standard input.
    outlying_replicate : mapping of str to tuple
        (run, Ct too many) of one well, the reason for a re-assay.
    omitted_well : tuple of str
        (run, sample) of a well that the operator omitted.
    low_droplets : str
        Sample with one digital PCR well of too few droplets.
    duplicate_export : str
        Run whose export was saved twice.
    """

    missed: tuple[str, ...] = ()
    shifted: Mapping[str, float] = field(default_factory=dict)
    unscheduled: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    low_input: Mapping[str, float] = field(default_factory=dict)
    outlying_replicate: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    omitted_well: tuple[str, str] | None = None
    low_droplets: str = ""
    duplicate_export: str = ""


@dataclass(frozen=True)
class Design:
    """A trial to simulate.

    The truth is `cytokine_window` (models.md 2) on the scale of copies/ug: the model's curve IS the level in copies/ug.
    White cells fall and recover beside it and turn copies/ug into cells/uL for flow cytometry; they do not bend the
    curve.

    Parameters
    ----------
    study_id, title, product, time_zone, data_cut : str
        As in config.yaml; the study id seeds every random number.
    reference_dose : float
        Cells of one reference infusion.
    doses : mapping of str to float
        Cells per infusion by dose level.
    infusion_days, cytokine_days, follow_up : tuple of float
        Calendar [d].
    agent, cytokine_dose, cytokine_unit : str, float, str
        The cytokine.
    width : float
        Length of its window [d].
    typical, omega : mapping of str to float
        Typical scale [copies/ug per reference dose], delta [1/d] and rho [1/d], and the SD of their logarithms.
    theta_dose : float
        Exponent of the dose; 1 = proportional.
    sigma : float
        SD of ln level beyond counting noise, molecular assays; one draw per sample, because it is one extract.
    sigma_flow : float
        The same for flow cytometry.
    copies_per_cell : float
        Transgene copies in one CAR+ cell.
    ng_input : float
        DNA in one reaction [ng].
    lloq_copies, lod_copies : float
        Limits of the PCR assays [copies per reaction].
    replicates : int
        Wells per sample of qPCR.
    patients : tuple of Patient
    runs : tuple of Run
    ddpcr_patients, ddpcr_visits, flow_visits : tuple of str
        What else was measured, and when.
    mishaps : Mishaps
    """

    study_id: str
    title: str
    product: str
    time_zone: str
    data_cut: str
    reference_dose: float
    doses: Mapping[str, float]
    patients: tuple[Patient, ...]
    runs: tuple[Run, ...] = ()
    infusion_days: tuple[float, ...] = (0.0, 3.0, 6.0)
    cytokine_days: tuple[float, ...] = (0.0, 3.0, 6.0, 9.0)
    follow_up: tuple[float, ...] = (9.0, 10.0, 11.0, 12.0, 13.0, 16.0, 20.0, 27.0, 41.0, 55.0)
    agent: str = "IL-2"
    cytokine_dose: float = 6.0
    cytokine_unit: str = "MIU"
    width: float = 1.5
    typical: Mapping[str, float] = field(default_factory=lambda: {"scale": 1500.0, "delta": 0.40, "rho": 0.60})
    omega: Mapping[str, float] = field(default_factory=lambda: {"scale": 0.60, "delta": 0.15, "rho": 0.20})
    theta_dose: float = 1.0
    sigma: float = 0.35
    sigma_flow: float = 0.30
    copies_per_cell: float = 2.0
    ng_input: float = 200.0
    lloq_copies: float = 10.0
    lod_copies: float = 3.0
    replicates: int = 3
    ddpcr_patients: tuple[str, ...] = ()
    ddpcr_visits: tuple[str, ...] = ()
    flow_visits: tuple[str, ...] = ()
    mishaps: Mishaps = Mishaps()

    @property
    def visits(self) -> list[Visit]:
        """The sampling calendar."""
        cytokine_only = [d for d in self.cytokine_days if d not in self.infusion_days]
        return visits(self.infusion_days, self.follow_up, cytokine_only[0] if cytokine_only else None)

    def without_mishaps(self) -> Design:
        """The same trial in which every planned sample is drawn, in its window, with the standard input."""
        return replace(self, mishaps=Mishaps())


_PD, _SD, _PR = "PD", "SD", "PR"
LYMPHODEPLETION = "Cy 300 mg/m2 + Flu 30 mg/m2, d-5 to d-3"
"""Column `lymphodepletion` of patients.csv: chemotherapy is neither a cytokine nor a new anticancer therapy."""

NCT07366658 = Design(
    study_id="NCT07366658",
    title="DLL3 CAR-NK cells with IL-2 in relapsed small cell lung cancer and neuroendocrine carcinoma",
    product="NEUK203-13",
    time_zone="Asia/Shanghai",
    data_cut="2026-10-31",
    reference_dose=2e9,
    doses=MappingProxyType({"DL1": 2e9, "DL2": 4e9}),
    patients=(
        Patient(
            "001",
            "DL1",
            "escalation",
            "SCLC",
            "2026-04-14T10:00",
            68.0,
            True,
            responses={27.0: _SD, 55.0: _SD},
            events=(
                ("crs", 1, 1.3, 2.9, "", "fever"),
                ("steroid", None, 33.0, 33.1, "dexamethasone 10 mg", "antiemetic"),
            ),
        ),
        Patient("002", "DL1", "escalation", "SCLC", "2026-05-05T10:15", 74.5, False, rho=0.0, responses={27.0: _PD}),
        Patient(
            "003",
            "DL1",
            "escalation",
            "LCNEC",
            "2026-05-26T09:45",
            57.2,
            True,
            elapsed=True,
            responses={27.0: _SD, 55.0: _PR},
            events=(("infection", 3, 8.4, 15.0, "febrile neutropenia", ""),),
        ),
        Patient(
            "004",
            "DL2",
            "escalation",
            "SCLC",
            "2026-06-23T10:00",
            61.8,
            True,
            responses={27.0: _PR, 55.0: _PR},
            events=(("crs", 1, 0.4, 2.2, "", "fever"),),
        ),
        Patient(
            "005",
            "DL2",
            "escalation",
            "GEP-NEC",
            "2026-07-07T10:30",
            80.1,
            False,
            given_share={3: 0.6},
            responses={27.0: _SD, 55.0: _PD},
        ),
        Patient(
            "006",
            "DL2",
            "escalation",
            "SCLC",
            "2026-07-14T09:30",
            66.0,
            True,
            "death",
            34.2,
            responses={27.0: _PD},
            events=(("death", 5, 34.2, None, "disease progression", ""),),
        ),
        Patient(
            "007",
            "DL2",
            "expansion",
            "SCLC",
            "2026-08-11T10:00",
            71.3,
            True,
            cytokine_skipped=(9.0,),
            responses={27.0: _PR, 55.0: _PR},
            events=(
                ("crs", 2, 6.8, 10.1, "", "fever, hypotension"),
                ("tocilizumab", None, 7.7, None, "8 mg/kg", ""),
                ("icans", 1, 8.1, 9.0, "", ""),
                ("steroid", None, 8.2, 9.6, "dexamethasone 10 mg", ""),
            ),
        ),
        Patient(
            "008",
            "DL2",
            "expansion",
            "LCNEC",
            "2026-08-18T10:45",
            59.4,
            False,
            "withdrawal",
            22.3,
            scale_factor=0.0006,
        ),
        Patient(
            "009",
            "DL2",
            "expansion",
            "SCLC",
            "2026-09-22T10:00",
            63.7,
            True,
            "ongoing",
            None,
            responses={27.0: _SD},
            events=(("crs", 1, 3.5, 4.8, "", "fever"),),
        ),
    ),
    runs=(
        Run("NEUK203-13_Q01", "2026-07-16T16:41:07", "txt", ("001", "002"), -3.34, 38.35),
        Run("NEUK203-13_Q02", "2026-08-27T15:12:44", "xlsx", ("003", "004"), -3.29, 38.10, also=("001-D11",)),
        Run("NEUK203-13_Q03", "2026-09-08T17:03:31", "txt", ("005", "006"), -3.86, 40.05),
        Run(
            "NEUK203-13_Q04", "2026-09-10T14:26:02", "xlsx", ("005", "006"), -3.37, 38.52, without=("006-D6", "006-D17")
        ),
        Run("NEUK203-13_Q05", "2026-10-15T16:08:55", "txt", ("007", "008"), -3.31, 38.20),
        Run("NEUK203-13_Q06", "2026-10-28T15:55:19", "xlsx", ("009",), -3.35, 38.41),
    ),
    ddpcr_patients=("002", "005", "007"),
    ddpcr_visits=("D1-PRE", "D1-2H", "D2", "D4-PRE", "D5", "D7-2H", "D8", "D10", "D12", "D14", "D17", "D21"),
    flow_visits=("D1-PRE", "D2", "D4-PRE", "D5", "D7-PRE", "D8", "D10", "D12", "D14", "D21", "D28"),
    mishaps=Mishaps(
        missed=("002-D12",),
        shifted=MappingProxyType({"006-D21": -1.9, "003-D28": 3.8}),
        unscheduled=MappingProxyType({"005-UNS1": (14.6, "fever, blood cultures drawn")}),
        low_input=MappingProxyType({"004-D9": 50.0, "004-D12": 80.0}),
        outlying_replicate=MappingProxyType({"001-D11": ("NEUK203-13_Q01", 1.35)}),
        omitted_well=("NEUK203-13_Q06", "009-D5"),
        low_droplets="005-D12",
        duplicate_export="NEUK203-13_Q05",
    ),
)
"""The bundled study: the design of NCT07366658; its patients, levels and events are invented."""
