"""Controlled terms that the package uses, and the sponsor's own where the terminology has none.

Only terms that can occur stand here. Codes of the PK lists were compared with the NCI release named in `RELEASE`
(a test does it again where that file is at hand); of the other lists only the list's own code is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nkinetics.cdisc._model import plain
from nkinetics.cdisc._units import LEVELS, standard
from nkinetics.nca.parameters import PARAMETERS, UNITS

RELEASE = "2026-03-27"
"""Release of the controlled terminology."""


@dataclass(frozen=True)
class Codelist:
    """A list of terms.

    Parameters
    ----------
    name : str
        Name in define.xml.
    code : str
        NCI code of the list; empty for a sponsor list.
    terms : mapping of str to tuple of str
        Decode (empty for an enumeration) and NCI code of each term; an empty code marks a term whose code is not
        stated here.
    sponsor : frozenset of str
        Terms that extend the list.
    extensible : bool
        The list may be extended; a value outside the terms is then a sponsor term and named in the guide.
    """

    name: str
    code: str
    terms: Mapping[str, tuple[str, str]]
    sponsor: frozenset[str] = frozenset()
    extensible: bool = False


PK: Mapping[str, tuple[str, str]] = {
    "CMAX": ("Max Conc", "C70918"),
    "TMAX": ("Time of CMAX Observation", "C70919"),
    "CLST": ("Last Nonzero Conc", "C85655"),
    "TLST": ("Time of Last Nonzero Conc", "C85822"),
    "TLAG": ("Time Until First Nonzero Conc", "C85824"),
    "CTROUGH": ("Conc Trough", "C102394"),
    "C0": ("Initial Conc", "C85644"),
    "AUCLST": ("AUC to Last Nonzero Conc", "C85565"),
    "AUCALL": ("AUC All", "C85564"),
    "AUCINT": ("AUC from T1 to T2", "C85566"),
    "AUCIFO": ("AUC Infinity Obs", "C85761"),
    "AUCIFP": ("AUC Infinity Pred", "C85785"),
    "AUCPEO": ("AUC %Extrapolation Obs", "C85764"),
    "AUMCLST": ("AUMC to Last Nonzero Conc", "C85569"),
    "AUMCIFO": ("AUMC Infinity Obs", "C85765"),
    "LAMZ": ("Lambda z", "C85652"),
    "LAMZHL": ("Half-Life Lambda z", "C85818"),
    "LAMZNPT": ("Number of Points for Lambda z", "C85816"),
    "LAMZLL": ("Lambda z Lower Limit", "C85653"),
    "LAMZUL": ("Lambda z Upper Limit", "C85654"),
    "R2": ("R Squared", "C85542"),
    "R2ADJ": ("R Squared Adjusted", "C85553"),
    "CORRXY": ("Correlation Between TimeX and Log ConcY", "C85821"),
    "LAMZSPN": ("Lambda z Span", "C135492"),
    "CMAXD": ("Max Conc Norm by Dose", "C85698"),
    "AUCLSTD": ("AUC to Last Nonzero Conc Norm by Dose", "C92310"),
    "AUCINTD": ("AUC from T1 to T2 Norm by Dose", "C92313"),
    "ARCMAX": ("Accumulation Ratio Cmax", "C102357"),
    "ARAUCINT": ("Accumulation Ratio AUC from T1 to T2", "C122329"),
}
"""Controlled parameters: name (PKPARM) and NCI code, by short name (PKPARMCD)."""

_UNITS: Mapping[str, str] = {
    "%": "C25613",
    "h": "C25529",
    "/h": "C66966",
    "DNA copies/ug": "C170632",
    "DNA copies/mL": "C98719",
    "copies/uL": "C116237",
    "h*DNA copies/ug": "C172585",
    "h2*DNA copies/ug": "C172586",
}
"""Controlled units that can occur."""


def parameter_name(code: str) -> str:
    """PPTEST of a parameter: the controlled name, or our label where there is no controlled term.

    Examples
    --------
    >>> parameter_name("CMAX"), parameter_name("TBQL")
    ('Max Conc', 'Time to loss below LLOQ')
    """
    return PK[code][0] if code in PK else _OWN[code]


_OWN: Mapping[str, str] = {p.code: p.en for p in PARAMETERS}
_POSSIBLE = sorted({standard(UNITS[p.unit](level, "cells"))[0] for p in PARAMETERS for level in LEVELS} - {""})
_PER_KG = {standard(UNITS[p.unit](level, "cells/kg"))[0] for p in PARAMETERS for level in LEVELS} - {""}


def _plain(*words: str) -> dict[str, tuple[str, str]]:
    return {word: ("", "") for word in words}


CODELISTS: Mapping[str, Codelist] = {
    "PKPARMCD": Codelist(
        "PK Parameters Code",
        "C85839",
        {p.code: (parameter_name(p.code), PK.get(p.code, ("", ""))[1]) for p in PARAMETERS},
        frozenset(p.code for p in PARAMETERS if p.code not in PK),
        True,
    ),
    "PKPARM": Codelist(
        "PK Parameters",
        "C85493",
        {parameter_name(p.code): ("", PK.get(p.code, ("", ""))[1]) for p in PARAMETERS},
        frozenset(parameter_name(p.code) for p in PARAMETERS if p.code not in PK),
        True,
    ),
    "PKUNIT": Codelist(
        "PK Units of Measure",
        "C85494",
        {term: ("", _UNITS.get(term, "")) for term in sorted({*_POSSIBLE, *_PER_KG})},
        frozenset({*_POSSIBLE, *_PER_KG} - set(_UNITS)),
        True,
    ),
    "NY": Codelist("No Yes Response", "C66742", {"N": ("No", ""), "Y": ("Yes", "")}),
    "ND": Codelist("Not Done", "C66789", _plain("NOT DONE")),
    "SEX": Codelist("Sex", "C66731", {"F": ("Female", ""), "M": ("Male", ""), "U": ("Unknown", "")}),
    "AGEU": Codelist("Age Unit", "C66781", _plain("YEARS")),
    "ROUTE": Codelist("Route of Administration", "C66729", _plain("INTRAVENOUS", "SUBCUTANEOUS"), extensible=True),
    "FRM": Codelist("Pharmaceutical Dosage Form", "C66726", _plain("SUSPENSION", "INJECTION"), extensible=True),
    "UNIT": Codelist(
        "Unit", "C71620", _plain("cells", "cells/kg"), sponsor=frozenset({"cells", "cells/kg"}), extensible=True
    ),
    "SPECTYPE": Codelist(
        "Specimen Type",
        "C78734",
        _plain("BLOOD", "PLASMA", "SERUM", "BONE MARROW", "CEREBROSPINAL FLUID", "TISSUE"),
        extensible=True,
    ),
    "ARMNULRS": Codelist(
        "Arm Null Reason",
        "C142179",
        _plain("SCREEN FAILURE", "NOT ASSIGNED", "ASSIGNED, NOT TREATED", "UNPLANNED TREATMENT"),
    ),
    "DTYPE": Codelist("Derivation Type", "C81224", _plain("COPY"), sponsor=frozenset({"COPY"}), extensible=True),
    "QORIG": Codelist("Origin of the Supplemental Value", "", _plain("ASSIGNED", "DERIVED", "COLLECTED")),
    "CNSR": Codelist(
        "Censoring",
        "",
        {
            "0": ("Event: lost", ""),
            "1": ("Censored: cells in the last sample", ""),
            "2": ("Not evaluable: no result", ""),
        },
    ),
    "EVID": Codelist("Event Identifier", "", {"0": ("Observation", ""), "1": ("Dose", "")}),
    "CENS": Codelist(
        "Censoring of the Level",
        "",
        {"-1": ("Above DV", ""), "0": ("Quantified", ""), "1": ("Below DV", "")},
    ),
}
"""Every list that a variable may name."""

SPECIMENS: Mapping[str, str] = {
    "blood": "BLOOD",
    "marrow": "BONE MARROW",
    "bone marrow": "BONE MARROW",
    "csf": "CEREBROSPINAL FLUID",
    "tumour": "TISSUE",
    "tumor": "TISSUE",
}
ASSAY_NAMES: Mapping[str, str] = {"qpcr": "QPCR", "ddpcr": "DDPCR", "flow": "FLOW CYTOMETRY"}
ASSAY_CODES: Mapping[str, str] = {"qpcr": "QPCR", "ddpcr": "DPCR", "flow": "FLOW"}


def specimen_term(specimen: str) -> str:
    """PCSPEC of a specimen of the study.

    Examples
    --------
    >>> specimen_term("blood"), specimen_term("ascites")
    ('BLOOD', 'ASCITES')
    """
    return SPECIMENS.get(specimen.lower(), specimen.upper())


def assay_category(analyte: str, assay: str) -> str:
    """PCTEST, PCCAT and PPCAT: analyte and assay, so that no two assays of one analyte mix; 40 characters at most.

    CDISC wants PPCAT to be the PCTEST of the samples, so the assay stands in that name too.

    Examples
    --------
    >>> assay_category("CAR transgene", "qpcr")
    'CAR TRANSGENE - QPCR'
    """
    assay_name = plain(ASSAY_NAMES.get(assay, assay)).upper()
    room = 40 - len(assay_name) - 3
    return f"{plain(analyte).upper()[:room].strip()} - {assay_name}".removeprefix(" - ")[:40]


def assay_codes(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """PCTESTCD of each analyte and assay: four letters of both, numbered where two would be the same.

    Examples
    --------
    >>> assay_codes([("CAR transgene", "qpcr"), ("CAR+ NK cells", "flow"), ("CART", "qpcr")])
    {('CAR transgene', 'qpcr'): 'CARTQPCR', ('CAR+ NK cells', 'flow'): 'CARNFLOW', ('CART', 'qpcr'): 'CARTQPC2'}
    """
    codes: dict[tuple[str, str], str] = {}
    for analyte, assay in pairs:
        letters = re.sub(r"[^A-Z0-9]", "", plain(analyte).upper()) or "X"
        letters = letters if letters[0].isalpha() else f"A{letters}"
        short = ASSAY_CODES.get(assay, re.sub(r"[^A-Z0-9]", "", plain(assay).upper())[:4])
        bare = letters[:4] + short
        code, n = bare, 2
        while code in codes.values():
            code, n = f"{bare[: 8 - len(str(n))]}{n}" if len(bare) == 8 else f"{bare}{n}", n + 1
        codes[(analyte, assay)] = code
    return codes
