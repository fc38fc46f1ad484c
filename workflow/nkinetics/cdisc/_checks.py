"""Our own checks of the package: each a function that yields what it found, and its line in `CHECKS`.

An error is a defect. A note is where the package departs from the standards and says why (`Check.why`): it stays, and
stands in the reviewer's guide.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from nkinetics.cdisc import _terms
from nkinetics.cdisc._model import LABEL_LENGTH, NAME_LENGTH, TEXT_LENGTH, Dataset, Variable, study_day

Made = Mapping[str, tuple[Dataset, pd.DataFrame]]
"""Data sets by name, each with its records."""

NAME = re.compile(rf"[A-Z][A-Z0-9_]{{0,{NAME_LENGTH - 1}}}")
DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?)?")


@dataclass(frozen=True)
class Finding:
    """One finding: where, how many records, what was found and expected.

    Parameters
    ----------
    dataset, variable : str
        Where; the variable may be empty.
    found, expected : str
        What stands there (an example where several records differ), and what should.
    records : int
        Number of records; 0 for a finding about the description.
    note : bool
        A known departure rather than a defect.
    """

    dataset: str
    variable: str
    found: str
    expected: str
    records: int = 0
    note: bool = False


@dataclass(frozen=True)
class Check:
    """One check.

    Parameters
    ----------
    id : str
        Stable, as NK-012.
    title : str
        What holds where nothing is found.
    run : callable
        ``run(made) -> iterator of Finding``.
    why : str
        For a check that gives notes: why they stay.
    """

    id: str
    title: str
    run: Callable[[Made], Iterator[Finding]]
    why: str = ""


def findings(made: Made) -> dict[str, list[Finding]]:
    """Every finding of every check, by the check's id; an empty list where there is none."""
    return {check.id: list(check.run(made)) for check in CHECKS}


# --------------------------------------------------------------------------------------------------------- description


def names(made: Made) -> Iterator[Finding]:
    """Names as transport files allow them."""
    for item, _ in made.values():
        for name in (item.name, *(v.name for v in item.variables)):
            if not NAME.fullmatch(name):
                yield Finding(item.name, name, name, "1 to 8 of A-Z, 0-9, _; a letter first")


def labels(made: Made) -> Iterator[Finding]:
    """Labels as transport files allow them."""
    for item, _ in made.values():
        for name, label in ((item.name, item.label), *((v.name, v.label) for v in item.variables)):
            if not 0 < len(label) <= LABEL_LENGTH or not label.isascii():
                yield Finding(item.name, name, f"{label} ({len(label)})", f"1 to {LABEL_LENGTH} ASCII characters")


def variables_once(made: Made) -> Iterator[Finding]:
    """A variable once, and the frame with exactly the variables described."""
    for item, frame in made.values():
        listed = [v.name for v in item.variables]
        for name in sorted({n for n in listed if listed.count(n) > 1}):
            yield Finding(item.name, name, "described twice", "once")
        for name in sorted(set(listed) ^ set(frame.columns)):
            yield Finding(item.name, name, "in one of description and data", "in both")


def keys_exist(made: Made) -> Iterator[Finding]:
    """Keys are variables of the data set."""
    for item, _ in made.values():
        for name in item.keys:
            if name not in {v.name for v in item.variables}:
                yield Finding(item.name, name, "a key that is no variable", "a variable")


def lists_exist(made: Made) -> Iterator[Finding]:
    """Every codelist that a variable names exists."""
    for item, _ in made.values():
        for variable in item.variables:
            if variable.codelist and variable.codelist not in _terms.CODELISTS:
                yield Finding(item.name, variable.name, variable.codelist, "a codelist of the package")


# -------------------------------------------------------------------------------------------------------------- values


def _bad(item: Dataset, variable: str, values: pd.Series, expected: str, *, note: bool = False) -> Iterator[Finding]:
    """One finding for all records of a variable that are wrong, with the first as example."""
    if len(values):
        yield Finding(item.name, variable, str(values.iloc[0]), expected, len(values), note)


def ascii_texts(made: Made) -> Iterator[Finding]:
    """Texts of ASCII characters."""
    for item, variable, values in _texts(made):
        yield from _bad(item, variable.name, values[[not t.isascii() for t in values]], "ASCII characters")


def _texts(made: Made) -> Iterator[tuple[Dataset, Variable, pd.Series]]:
    for item, frame in made.values():
        for variable in item.variables:
            if variable.is_text and variable.name in frame.columns:
                yield item, variable, frame[variable.name]


def lengths(made: Made) -> Iterator[Finding]:
    """Texts no longer than described, and than 200 bytes."""
    for item, variable, values in _texts(made):
        limit = min(variable.length, TEXT_LENGTH)
        yield from _bad(
            item, variable.name, values[[len(t.encode()) > limit for t in values]], f"{limit} bytes at most"
        )


def unique_keys(made: Made) -> Iterator[Finding]:
    """One record per key."""
    for item, frame in made.values():
        keys = [k for k in item.keys if k in frame.columns]
        again = frame[frame.duplicated(keys, keep=False)]
        if len(again):
            yield Finding(item.name, " ".join(keys), _key(again.iloc[0][keys]), "one record per key", len(again))


def _key(row: pd.Series) -> str:
    return ", ".join(f"{v:.10g}" if isinstance(v, float) else str(v) for v in row)


def required(made: Made) -> Iterator[Finding]:
    """No required value missing."""
    for item, frame in made.values():
        for variable in item.variables:
            if variable.required and variable.name in frame.columns:
                values = frame[variable.name]
                gone = values[(values == "") if variable.is_text else values.isna()]
                yield from _bad(item, variable.name, gone, "a value in every record")


def terms(made: Made) -> Iterator[Finding]:
    """Values of a closed codelist in it."""
    yield from (f for f in _terms_met(made) if not f.note)


def sponsor_terms(made: Made) -> Iterator[Finding]:
    """Terms of ours in lists that may be extended."""
    yield from (f for f in _terms_met(made) if f.note)


def _terms_met(made: Made) -> Iterator[Finding]:
    for item, frame in made.values():
        for variable in item.variables:
            codes = _terms.CODELISTS.get(variable.codelist)
            if codes is None or variable.name not in frame.columns:
                continue
            values = frame[variable.name]
            text = values if variable.is_text else pd.Series([f"{v:.10g}" for v in values.dropna()], dtype="str")
            for value, count in sorted(text[text != ""].value_counts().items()):
                if value not in codes.terms and not codes.extensible:
                    yield Finding(item.name, variable.name, str(value), f"a term of {codes.name}", int(count))
                elif codes.code and (value not in codes.terms or value in codes.sponsor):
                    yield Finding(
                        item.name, variable.name, str(value), f"a term of {codes.name}", int(count), note=True
                    )


def integers(made: Made) -> Iterator[Finding]:
    """Whole numbers where the description says integer."""
    for item, frame in made.values():
        for variable in item.variables:
            if variable.kind in ("integer", "sas_date", "sas_datetime") and variable.name in frame.columns:
                values = frame[variable.name].dropna()
                yield from _bad(item, variable.name, values[values != values.round()], "a whole number")


def dates(made: Made) -> Iterator[Finding]:
    """Dates and times of SDTM as ISO 8601, and real ones."""
    for item, variable, values in _texts(made):
        if variable.kind == "datetime":
            filled = values[values != ""]
            yield from _bad(
                item, variable.name, filled[[not _is_date(t) for t in filled]], "ISO 8601 date or date-time"
            )


def _is_date(text: str) -> bool:
    if not DATE_TIME.fullmatch(text):
        return False
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def study_days(made: Made) -> Iterator[Finding]:
    """Study days without a day 0, and as date and RFSTDTC give them."""
    reference = _reference(made)
    for item, day, date in (("PC", "PCDY", "PCDTC"), ("EX", "EXSTDY", "EXSTDTC"), ("EX", "EXENDY", "EXENDTC")):
        if item not in made:
            continue
        frame = made[item][1]
        yield from _bad(made[item][0], day, frame.loc[frame[day] == 0, day], "no day 0")
        real = [t if _is_date(t) else "" for t in frame[date]]
        right = [study_day(t, reference.get(s, "")) for s, t in zip(frame["USUBJID"], real, strict=True)]
        wrong = frame.loc[~((frame[day] == right) | (frame[day].isna() & pd.isna(right)) | (frame[day] == 0)), day]
        yield from _bad(made[item][0], day, wrong, f"the day of {date} counted from RFSTDTC")


def _reference(made: Made) -> dict[str, str]:
    dm = made["DM"][1] if "DM" in made else pd.DataFrame({"USUBJID": [], "RFSTDTC": []})
    return dict(zip(dm["USUBJID"], dm["RFSTDTC"], strict=True))


def undated(made: Made) -> Iterator[Finding]:
    """Results and doses with a date."""
    for name, date, state in (("PC", "PCDTC", "PCSTAT"), ("EX", "EXSTDTC", ""), ("DM", "RFSTDTC", "ARMNRS")):
        if name in made:
            _, frame = made[name]
            rows = frame[(frame[date] == "") & ((frame[state] == "") if state else True)]
            for subject, own in rows.groupby("USUBJID"):
                yield Finding(name, date, f"empty for {subject}", "a date", len(own), note=True)


# ----------------------------------------------------------------------------------------------------------- subjects


def sequences(made: Made) -> Iterator[Finding]:
    """Sequence numbers from 1, once per subject."""
    for item, frame in made.values():
        name = "ASEQ" if item.standard == "adam" else f"{item.name}SEQ"
        if name in frame.columns:
            wrong = frame[frame.duplicated(["USUBJID", name], keep=False) | ~(frame[name] >= 1)]
            yield from _bad(item, name, wrong[name], "1, 2, 3 ..., once per subject")


def subjects(made: Made) -> Iterator[Finding]:
    """Every subject in DM, and in ADSL for ADaM; both once and the same."""
    if "DM" not in made or "ADSL" not in made:
        return
    known = {"sdtm": made["DM"][1]["USUBJID"], "adam": made["ADSL"][1]["USUBJID"]}
    for standard, name in (("sdtm", "DM"), ("adam", "ADSL")):
        twice = known[standard][known[standard].duplicated(keep=False)]
        yield from _bad(made[name][0], "USUBJID", twice, "one record per subject")
    other = known["sdtm"][~known["sdtm"].isin(known["adam"])]
    yield from _bad(made["ADSL"][0], "USUBJID", other, "every subject of DM")
    for item, frame in made.values():
        if item.standard in known and "USUBJID" in frame.columns:
            lost = frame.loc[~frame["USUBJID"].isin(known[item.standard]), "USUBJID"]
            yield from _bad(item, "USUBJID", lost, f"a subject of {'DM' if item.standard == 'sdtm' else 'ADSL'}")


ACCOUNTED = ("PC", "PP", "ADNCA", "ADPP", "ADTTE")
"""Data sets in which every patient stands, with a reason where there is no value."""


def accounted(made: Made) -> Iterator[Finding]:
    """Every patient in the data sets of levels and parameters."""
    if "DM" not in made:
        return
    for name in ACCOUNTED:
        if name in made and len(made[name][1]):
            everyone = made["DM"][1]["USUBJID"]
            lost = everyone[~everyone.isin(made[name][1]["USUBJID"])]
            yield from _bad(made[name][0], "USUBJID", lost, "every subject, with a reason where nothing was measured")


# ------------------------------------------------------------------------------------------------------------- results


def results(made: Made) -> Iterator[Finding]:
    """A result or NOT DONE with a reason; number and text the same; a unit beside a level."""
    for name in ("PC", "PP"):
        if name not in made:
            continue
        item, frame = made[name]
        text, number, state = frame[f"{name}STRESC"], frame[f"{name}STRESN"], frame[f"{name}STAT"]
        reason, unit = frame[f"{name}REASND"], frame[f"{name}STRESU"]
        yield from _bad(item, f"{name}STRESC", text[(text == "") == (state == "")], "a result, or NOT DONE")
        yield from _bad(item, f"{name}REASND", reason[(reason == "") == (state != "")], "a reason where NOT DONE only")
        as_number = pd.to_numeric(text, errors="coerce")
        differs = ~((as_number == number) | (as_number.isna() & number.isna()))
        yield from _bad(item, f"{name}STRESN", text[differs], "the number of the text")
        yield from _bad(item, f"{name}STRESU", unit[(state != "") & (unit != "")], "no unit without a result")
        if name == "PC":
            yield from _bad(item, "PCSTRESU", text[(state == "") & (unit == "")], "a unit beside a result")


def below_limit(made: Made) -> Iterator[Finding]:
    """A level below its LLOQ is '<' and that LLOQ, with no number; a number is no lower than its LLOQ."""
    if "PC" not in made:
        return
    item, frame = made["PC"]
    beyond = frame[frame["PCSTRESC"].str.startswith("<")]
    right = beyond["PCLLOQ"].map(lambda x: f"<{x:.10g}")
    yield from _bad(item, "PCSTRESC", beyond.loc[beyond["PCSTRESC"] != right, "PCSTRESC"], "'<' and PCLLOQ")
    yield from _bad(item, "PCSTRESN", beyond["PCSTRESN"].dropna(), "no number below the LLOQ")
    low = frame.loc[frame["PCSTRESN"] < frame["PCLLOQ"] * (1 - 1e-9), "PCSTRESN"]
    yield from _bad(item, "PCSTRESN", low, "at least PCLLOQ")


def one_name(made: Made) -> Iterator[Finding]:
    """One name per code, and one unit per code and category."""
    for data, code, name, extra in (
        ("PC", "PCTESTCD", "PCTEST", ""),
        ("PP", "PPTESTCD", "PPTEST", ""),
        ("SUPPPC", "QNAM", "QLABEL", ""),
        ("SUPPPP", "QNAM", "QLABEL", ""),
        ("PC", "PCCAT", "PCSTRESU", "PCSPEC"),
        ("PP", "PPTESTCD", "PPSTRESU", "PPCAT"),
        ("ADPP", "PARAMCD", "AVALU", "PARCAT1"),
    ):
        if data not in made:
            continue
        _, frame = made[data]
        by = [code, *([extra] if extra else [])]
        counts = frame[frame[name] != ""].groupby(by)[name].nunique()
        for found in counts[counts > 1].index:
            yield Finding(data, name, f"several for {found}", f"one {name} per {' and '.join(by)}")


def decodes(made: Made) -> Iterator[Finding]:
    """PPTEST is the name of PPTESTCD."""
    if "PP" in made:
        item, frame = made["PP"]
        known = {code: decode for code, (decode, _) in _terms.CODELISTS["PKPARMCD"].terms.items()}
        wrong = frame[frame["PPTEST"] != frame["PPTESTCD"].map(known)]
        yield from _bad(item, "PPTEST", wrong["PPTEST"], "the name of PPTESTCD")


def distinct_parameters(made: Made) -> Iterator[Finding]:
    """No two parameters alike: reference per infusion and category per assay tell them apart."""
    if "PP" in made:
        _, frame = made["PP"]
        keys = ["USUBJID", "PPCAT", "PPSPEC", "PPSCAT", "PPTPTREF", "PPTESTCD"]
        again = frame[frame.duplicated(keys, keep=False)]
        if len(again):
            yield Finding("PP", " ".join(keys), _key(again.iloc[0][keys]), "one record", len(again))


def references(made: Made) -> Iterator[Finding]:
    """Reference points are infusions of EX, with their date."""
    if "EX" not in made:
        return
    doses = made["EX"][1]
    start = {(s, k): t for s, k, t in zip(doses["USUBJID"], doses["EXSPID"], doses["EXSTDTC"], strict=True) if k}
    for name, point, date in (("PC", "PCTPTREF", "PCRFTDTC"), ("PP", "PPTPTREF", "PPRFTDTC")):
        if name not in made:
            continue
        item, frame = made[name]
        rows = frame[frame[point] != ""]
        keys = list(zip(rows["USUBJID"], rows[point], strict=True))
        yield from _bad(item, point, rows.loc[[k not in start for k in keys], point], "an infusion of EX")
        wrong = [k in start and start[k] != t for k, t in zip(keys, rows[date], strict=True)]
        yield from _bad(item, date, rows.loc[wrong, date], f"EXSTDTC of {point}")


# ---------------------------------------------------------------------------------------------------------- relations


def related(made: Made) -> Iterator[Finding]:
    """Every record of RELREC leads to records, and every relation has both sides."""
    if "RELREC" not in made:
        return
    item, frame = made["RELREC"]
    wrong = [not found for found in _resolving(made, frame)]
    yield from _bad(item, "IDVARVAL", frame.loc[wrong, "IDVARVAL"], "a record of the related data set")
    sides = frame.groupby(["USUBJID", "RELID"])["RDOMAIN"].nunique()
    for subject, relation in sides[sides < 2].index:
        yield Finding("RELREC", "RELID", f"{subject} {relation}", "records of two data sets")


def _resolving(made: Made, frame: pd.DataFrame) -> list[bool]:
    """Whether each record's RDOMAIN, USUBJID, IDVAR and IDVARVAL lead to a record."""
    known: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for domain, variable in set(zip(frame["RDOMAIN"], frame["IDVAR"], strict=True)):
        parent = made[domain][1] if domain in made else pd.DataFrame()
        if variable in parent.columns:
            values = parent[variable]
            texts = list(values) if values.dtype == "str" else [f"{v:.10g}" for v in values]
            known[(domain, variable)] = set(zip(parent["USUBJID"], texts, strict=True))
    columns = [frame[name] for name in ("RDOMAIN", "IDVAR", "USUBJID", "IDVARVAL")]
    return [(s, v) in known.get((d, i), set()) for d, i, s, v in zip(*columns, strict=True)]


def supplements(made: Made) -> Iterator[Finding]:
    """Every supplemental qualifier belongs to a record, has a short name and does not repeat a variable."""
    for item, frame in made.values():
        if not item.name.startswith("SUPP"):
            continue
        wrong = [not found for found in _resolving(made, frame)]
        yield from _bad(item, "IDVARVAL", frame.loc[wrong, "IDVARVAL"], "a record of the parent data set")
        taken = {v.name for p, _ in made.values() for v in p.variables if p.name == item.name.removeprefix("SUPP")}
        bad = frame["QNAM"].map(lambda q: not NAME.fullmatch(q)) | frame["QNAM"].isin(taken)
        yield from _bad(item, "QNAM", frame.loc[bad, "QNAM"], "1 to 8 of A-Z, 0-9; no variable of the parent")


def parameters_traced(made: Made) -> Iterator[Finding]:
    """A parameter with a value leads through RELREC to the samples that made it."""
    if "PP" not in made or "RELREC" not in made:
        return
    item, frame = made["PP"]
    relations = made["RELREC"][1]
    known = set(zip(relations["USUBJID"], relations["RELID"], strict=True))
    rows = frame[frame["PPSTAT"] == ""]
    lost = [key not in known for key in zip(rows["USUBJID"], rows["PPGRPID"], strict=True)]
    yield from _bad(item, "PPGRPID", rows.loc[lost, "PPGRPID"], "a relation of RELREC to samples of PC")


def analysis_traced(made: Made) -> Iterator[Finding]:
    """A record of ADaM leads to the record it comes from, and has its value."""
    for item, frame in made.values():
        if item.standard != "adam" or "SRCSEQ" not in frame.columns:
            continue
        for domain in sorted(set(frame["SRCDOM"]) - {""}):
            rows = frame[frame["SRCDOM"] == domain]
            if domain not in made:
                yield from _bad(item, "SRCDOM", rows["SRCDOM"], "a data set of the package")
                continue
            parent = made[domain][1]
            values = dict(
                zip(zip(parent["USUBJID"], parent[f"{domain}SEQ"], strict=True), parent[f"{domain}STRESN"], strict=True)
            )
            keys = list(zip(rows["USUBJID"], rows["SRCSEQ"], strict=True))
            yield from _bad(
                item, "SRCSEQ", rows.loc[[k not in values for k in keys], "SRCSEQ"], f"a record of {domain}"
            )
            if item.name == "ADTTE":
                continue  # its value is in days, and a censored one is not the parameter
            source = pd.Series([values.get(k) for k in keys], index=rows.index, dtype="float64")
            differs = ~((source == rows["AVAL"]) | (source.isna() & rows["AVAL"].isna()))
            yield from _bad(item, "AVAL", rows.loc[differs, "AVAL"], f"{domain}STRESN of the source")


def untraced(made: Made) -> Iterator[Finding]:
    """Records of ADaM without a record of SDTM behind them."""
    for item, frame in made.values():
        if item.standard == "adam" and "SRCDOM" in frame.columns:
            rows = frame[frame["SRCDOM"] == ""]
            for code, own in rows.groupby("PARAMCD"):
                yield Finding(item.name, "SRCDOM", f"empty for {code}", "a source in SDTM", len(own), note=True)


def unknown_demographics(made: Made) -> Iterator[Finding]:
    """Demographics that SDTM expects."""
    if "DM" in made:
        _, frame = made["DM"]
        for name, empty in (("AGE", None), ("SEX", "U"), ("RACE", ""), ("COUNTRY", "")):
            rows = frame[frame[name].isna() if empty is None else frame[name] == empty]
            if len(rows):
                yield Finding("DM", name, "unknown", "a value of the study", len(rows), note=True)


def population_table(made: Made) -> Iterator[Finding]:
    """The table for population models: sorted, doses with amounts, levels with limits, numbers explained."""
    if "POPPK" not in made:
        return
    item, frame = made["POPPK"]
    order = frame.groupby("ID")["TIME"].apply(lambda t: bool(t.is_monotonic_increasing))
    for patient in order[~order].index:
        yield Finding("POPPK", "TIME", f"not rising for ID {patient:g}", "times that rise within a patient")
    dose, level = frame["EVID"] == 1, frame["EVID"] == 0
    yield from _bad(item, "AMT", frame.loc[dose & ~(frame["AMT"] >= 0), "AMT"], "an amount in every dose")
    yield from _bad(item, "AMT", frame.loc[level & frame["AMT"].notna(), "AMT"], "no amount beside a level")
    yield from _bad(item, "DV", frame.loc[level & frame["DV"].isna(), "DV"], "a level or a limit")
    below = frame[level & (frame["CENS"] == 1)]
    yield from _bad(item, "LIMIT", below.loc[~(below["LIMIT"] < below["DV"]), "LIMIT"], "below DV where CENS is 1")
    if "POPIDS" in made:
        look = made["POPIDS"][1]
        known = set(zip(look["COLUMN"], look["NUMBER"], strict=True))
        for name in ("ID", "DVID", "CMT", "DOSELVL"):
            if name in frame.columns:
                values = frame[name].dropna()
                yield from _bad(item, name, values[[(name, v) not in known for v in values]], "a number of POPIDS")


# ------------------------------------------------------------------------------------------------------------ the list

CHECKS: tuple[Check, ...] = (
    Check("NK-001", "Names have 1 to 8 characters of A-Z, 0-9 and _", names),
    Check("NK-002", "Labels have 1 to 40 ASCII characters", labels),
    Check("NK-003", "Description and data have the same variables, each once", variables_once),
    Check("NK-004", "Keys are variables", keys_exist),
    Check("NK-005", "Codelists exist", lists_exist),
    Check("NK-006", "Texts are ASCII", ascii_texts),
    Check("NK-007", "Texts are no longer than described, and than 200 bytes", lengths),
    Check("NK-008", "Keys are unique", unique_keys),
    Check("NK-009", "Required values are there", required),
    Check("NK-010", "Values of closed codelists are their terms", terms),
    Check("NK-011", "Integers are whole", integers),
    Check("NK-012", "Dates are ISO 8601", dates),
    Check("NK-013", "Study days have no day 0 and follow from the dates", study_days),
    Check("NK-014", "Sequence numbers are unique within a subject", sequences),
    Check("NK-015", "Subjects are those of DM and ADSL", subjects),
    Check("NK-016", "Every subject stands in the data sets of levels and parameters", accounted),
    Check("NK-017", "A record has a result, or NOT DONE with a reason", results),
    Check("NK-018", "A level below its LLOQ is no number", below_limit),
    Check("NK-019", "A code has one name, and one unit per category", one_name),
    Check("NK-020", "PPTEST is the name of PPTESTCD", decodes),
    Check("NK-021", "No two parameters are alike", distinct_parameters),
    Check("NK-022", "Reference points are infusions of EX with their date", references),
    Check("NK-023", "Related records exist", related),
    Check("NK-024", "Supplemental qualifiers belong to a record", supplements),
    Check("NK-025", "Parameters lead to the samples that made them", parameters_traced),
    Check("NK-026", "Analysis records lead to their source and have its value", analysis_traced),
    Check("NK-027", "The table for population models is complete", population_table),
    Check(
        "NK-101",
        "No sponsor terms in extensible codelists",
        sponsor_terms,
        "The terminology has no term for it, or none that we could verify; the term is ours and marked as an extension "
        "in define.xml.",
    ),
    Check(
        "NK-102",
        "Results and doses have dates",
        undated,
        "The study gives this patient's times as elapsed days only; a date would be invented. The elapsed times stand "
        "in ADNCA and POPPK.",
    ),
    Check(
        "NK-103",
        "Analysis records have a source in SDTM",
        untraced,
        "Values by the amount of cells given have no controlled unit and therefore no record in PP; they come from "
        "nca.csv.",
    ),
    Check(
        "NK-104",
        "Demographics are known",
        unknown_demographics,
        "The kinetic study has no such column (patients.csv may have age, sex, race, ethnic, site, country); the "
        "sponsor's DM takes this one's place.",
    ),
)
"""Every check, in the order of the guide."""
