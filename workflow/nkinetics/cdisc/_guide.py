"""The reviewer's guide: what the package holds, what departs from the standards and why, written from the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from nkinetics.cdisc import _terms
from nkinetics.cdisc._checks import CHECKS, Finding, Made
from nkinetics.cdisc._model import Source
from nkinetics.cdisc._units import HOURS_PER_DAY
from nkinetics.nca.parameters import PARAMETERS

ABSENT = {
    "TS, TA, TE, TI, TV, SE, SV": "trial design and visits stand in the sponsor's tabulations",
    "AE, CM, DS, RS": "events, response and disposition of events.csv are the sponsor's; DM and ADSL carry death only",
    "IS, LB": "white cells and lymphocytes beside the samples stand in observations.csv",
}
"""Domains that a submission has and this package does not, with the reason."""


ENGINE = {
    "CORE-000080 (CG0093)": "PPTPTREF stands without PPTPT, PPTPTNUM and PPELTM: it is the reference by which the "
    "parameters of several infusions are told apart, and a parameter has no planned time point.",
    "CORE-000701 (FB2201)": "EPOCH is absent: epochs come from the trial design (TA, SE), which the kinetic results do "
    "not hold; the sponsor adds them from SE.",
}
"""Findings of the CDISC rules engine that stay by design, with the reason."""


def text(made: Made, findings: Mapping[str, Sequence[Finding]], source: Source) -> str:
    """The guide as Markdown.

    Parameters
    ----------
    made : mapping
        Data sets by name.
    findings : mapping
        By check.
    source : Source
        What they were made of; its counts say what was left out.
    """
    settings = source.context.settings
    errors = sum(not f.note for found in findings.values() for f in found)
    notes = sum(f.note for found in findings.values() for f in found)
    variables = sum(len(item.variables) for item, _ in made.values())
    parts = [
        f"# Reviewer's guide: cellular kinetics of {settings.study.id}",
        "",
        *([settings.study.title, ""] if settings.study.title else []),
        *([f"**{settings.study.notice}**", ""] if settings.study.notice else []),
        f"Made by NKinetics {source.context.version} from the results of the data cut "
        f"{settings.study.data_cut or '(none set)'}. {len(made)} data sets, {variables} variables; "
        f"{len(CHECKS)} checks, {errors} errors, {notes} departures that stay (below, each with its reason).",
        "",
        "## Data sets",
        "",
        *_table(
            ["Data set", "Label", "Structure", "Records", "Variables", "Keys"],
            [
                [n, item.label, item.structure, str(len(frame)), str(len(item.variables)), ", ".join(item.keys)]
                for n, (item, frame) in sorted(made.items(), key=lambda pair: (pair[1][0].standard, pair[0]))
            ],
        ),
        "",
        "Each stands as SAS transport file (version 5) and as Dataset-JSON 1.1 in sdtm/ and adam/, with a define.xml "
        "2.1; pharmacometrics/ holds CSV. Dates inside the files are those of the data cut.",
        "",
        *_conventions(source),
        *_departures(made, findings, source),
        *_population(made),
        "## Checks",
        "",
        *_table(
            ["Check", "What holds", "Errors", "Notes"],
            [
                [c.id, c.title, str(sum(not f.note for f in findings[c.id])), str(sum(f.note for f in findings[c.id]))]
                for c in CHECKS
            ],
        ),
        "",
        "The CDISC rules engine is not part of these checks; `snakemake cdisc_rules` runs it over rules that you "
        "supply (README, section on the CDISC package). Its findings that stay by design:",
        "",
        *(f"- {rule}: {why}" for rule, why in ENGINE.items()),
        "",
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]


def _conventions(source: Source) -> list[str]:
    blq = source.context.settings.blq
    by_place = f"{blq.first} before the first quantified level, {blq.middle} between, {blq.last} after the last"
    return [
        "## Conventions",
        "",
        f"- **Units.** The results are in days, the package in hours: times and areas x {HOURS_PER_DAY:g}, rates / "
        f"{HOURS_PER_DAY:g}, AUMC x {HOURS_PER_DAY**2:g}. The terminology has no day unit for an area of this assay, "
        "only `h*DNA copies/ug`. ADTTE stays in days.",
        "- **Assays.** PCCAT and PPCAT hold analyte and assay, so that two assays of one analyte never mix.",
        "- **Infusions.** PCTPTREF and PPTPTREF name the infusion whose start is time 0. A pre-dose sample belongs to "
        "the infusion that follows; ADNCA has it a second time (DTYPE COPY) at the end of the interval before.",
        "- **Windows.** PPSCAT is OVERALL, BY INFUSION or WINDOW D0-28 and so on; PPSTINT and PPENINT bound it.",
        f"- **Below the LLOQ.** PCSTRESC is '<' and the LLOQ of that sample, PCSTRESN empty. In the areas: {by_place}. "
        "SUPPPC has the LOD and whether anything was detected.",
        "- **Missing parameters.** PPSTAT NOT DONE with the reason in PPREASND.",
        "- **From a number to its wells.** PP by PPGRPID through RELREC to PC; PCSPID is observation_id, which "
        "observation_sources.csv leads to file and row of the export. ADaM carries SRCDOM, SRCVAR, SRCSEQ.",
        "- **Exclusions.** SUPPPP (PPSUMXFL) and ADPP (PKSUMXFL, ANL01FL) flag values outside the acceptance of the "
        "terminal slope, with the criterion; ADNCA (NCAXFL, NCA1XRS) the samples that the analysis did not use.",
        "- **DM.** SEX is U where the study gives none; ARM is the dose level.",
        "",
    ]


def _departures(made: Made, findings: Mapping[str, Sequence[Finding]], source: Source) -> list[str]:
    met = set(made["PP"][1]["PPTESTCD"]) if "PP" in made else set()
    own = [(p.code, p.en) for p in PARAMETERS if p.code in met and p.code not in _terms.PK]
    lines = ["## What does not conform, and why", ""]
    if own:
        lines += [
            "Parameters for which CDISC has no term (extensions of PKPARMCD): "
            + "; ".join(f"{code} ({label})" for code, label in own)
            + ".",
            "",
        ]
    for check in CHECKS:
        notes = [f for f in findings[check.id] if f.note]
        if notes:
            lines += [f"### {check.id}: {check.title} - departures", "", check.why, ""]
            lines += _table(
                ["Data set", "Variable", "Found", "Records"],
                [[f.dataset, f.variable, f.found, str(f.records)] for f in notes],
            )
            lines.append("")
    errors = [(c, f) for c in CHECKS for f in findings[c.id] if not f.note]
    if errors:
        lines += ["### Errors to mend before submission", ""]
        lines += _table(
            ["Check", "Data set", "Variable", "Found", "Expected", "Records"],
            [[c.id, f.dataset, f.variable, f.found, f.expected, str(f.records)] for c, f in errors],
        )
        lines.append("")
    lines += ["### Left out", ""]
    lines += [f"- {what}: {n}." for what, n in sorted(source.counts.items())]
    lines += [f"- {domains}: {why}." for domains, why in ABSENT.items()]
    lines += [
        f"- NCI codes: those of the PK lists are of the release {_terms.RELEASE}; of the other lists only the list's "
        "code is given, and the sponsor sets the release used in the trial.",
        "",
    ]
    return lines


def _population(made: Made) -> list[str]:
    if "POPPK" not in made:
        return []
    item, _ = made["POPPK"]
    names = " ".join(v.name for v in item.variables)
    look = made["POPIDS"][1] if "POPIDS" in made else pd.DataFrame(columns=["COLUMN", "NUMBER", "MEANING"])
    kinds = [f"{r.NUMBER:g} = {r.MEANING}" for r in look[look["COLUMN"] == "DVID"].itertuples()]
    return [
        "## The table for population models",
        "",
        "pharmacometrics/poppk.csv serves NONMEM, Monolix and nlmixr2 alike; popids.csv says what each number stands "
        "for.",
        "",
        f"- NONMEM: `$INPUT {names}`, `$DATA poppk.csv IGNORE=@`. CENS 1 with LLOQ gives method M3; DV and LIMIT are "
        "the two ends of a censored level.",
        "- Monolix: DV as observation, CENS as censoring, LIMIT as limit, DVID as observation id, AMT and CMT as "
        "usual.",
        "- nlmixr2: CENS and LIMIT under these names.",
        "- NMOL is the count behind a level; the report's likelihood adds 1/NMOL to the variance of its logarithm.",
        f"- One assay is one DVID ({'; '.join(kinds)}): choose one before fitting.",
        "- A sample before the first infusion has MDV 1. Times before the first infusion are negative; a program that "
        "takes none may drop them.",
        "",
    ]
