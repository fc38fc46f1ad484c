"""How numbers, codes, names and sources are worded: the same in tables, figures and the report.

Footnotes are computed from the run. Texts stand in both languages where they are used; `Words` picks one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING

from nkinetics.results import Context, Results, by_patient

if TYPE_CHECKING:
    import pandas as pd

    from nkinetics.plugins import Figure, Heading, Table

ALL_UP_TO, FIRST, REASONS_UP_TO = 20, 3, 6
"""More names than the first are not all told in a sentence, but the second; more reasons than the third are counted."""

CODES: Mapping[str, Mapping[str, str]] = {
    "BLQ": {
        "en": "BLQ, below the lower limit of quantification of that sample",
        "zh": "BLQ：低于该样本的定量下限",
    },
    "ND": {"en": "ND, not detected (below the limit of detection)", "zh": "ND：未检出（低于检测限）"},
    "ALQ": {"en": "ALQ, above the upper limit of quantification", "zh": "ALQ：高于定量上限"},
    "NC": {"en": "NC, not calculable", "zh": "NC：无法计算"},
    "NR": {"en": "NR, not reported", "zh": "NR：不予报告"},
    "MISS": {
        "en": "MISS, no result (not sampled, not done or failed)",
        "zh": "MISS：无结果（未采样、未检测或检测失败）",
    },
}
"""Codes that stand in place of a number; each is distinct and carries its reason."""

STATUS_CODES: Mapping[str, str] = {
    "blq": "BLQ",
    "not_detected": "ND",
    "above_uloq": "ALQ",
    "not_done": "MISS",
    "failed": "MISS",
}

ASSAY_NAMES: Mapping[str, Mapping[str, str]] = {
    "qpcr": {"en": "qPCR", "zh": "定量 PCR"},
    "ddpcr": {"en": "digital PCR", "zh": "数字 PCR"},
    "flow": {"en": "flow cytometry", "zh": "流式细胞术"},
    "qpcr_cells": {"en": "cells derived from qPCR", "zh": "由定量 PCR 换算的细胞数"},
}
SPECIMEN_NAMES: Mapping[str, Mapping[str, str]] = {
    "blood": {"en": "blood", "zh": "外周血"},
    "bone_marrow": {"en": "bone marrow", "zh": "骨髓"},
}
UNIT_NAMES: Mapping[str, str] = {"ug": "µg", "uL": "µL", "*": "·"}

VERDICTS: Mapping[str, str] = {
    "dose proportional": "与剂量成比例",
    "not dose proportional": "不与剂量成比例",
    "inconclusive (CI wider than the criterion)": "无法判定（CI 宽于判定标准）",
    "inconclusive (CI crosses a limit of the criterion)": "无法判定（CI 跨越判定界限）",
}
"""What the statistics say of dose proportionality, and how it is said in Chinese."""
EXPOSURES: Mapping[str, str] = {"cmax": "Cmax", "auc_last": "AUClast", "auc_int": "AUC"}

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ASSAY_ORDER = ("qpcr", "ddpcr", "flow", "qpcr_cells")


@dataclass(frozen=True)
class Words:
    """Texts in one language.

    Parameters
    ----------
    language : {"en", "zh"}
        Language of the report.

    Examples
    --------
    >>> Words("en").say("patient", "患者"), Words("zh").say("patient", "患者")
    ('patient', '患者')
    """

    language: str

    def say(self, en: str, zh: str) -> str:
        """The text of the language."""
        return zh if self.language == "zh" else en

    def pick(self, texts: Mapping[str, str]) -> str:
        """The text of the language, English where it is absent."""
        return texts.get(self.language) or texts["en"]

    def assay(self, assay: str) -> str:
        """Name of an assay."""
        return self.pick(ASSAY_NAMES[assay]) if assay in ASSAY_NAMES else assay

    def specimen(self, specimen: str) -> str:
        """Name of a specimen."""
        return self.pick(SPECIMEN_NAMES[specimen]) if specimen in SPECIMEN_NAMES else specimen

    def join(self, parts: Iterable[str]) -> str:
        """Parts of an enumeration."""
        return self.say(", ", "、").join(p for p in parts if p)

    def first(self, parts: Sequence[str], joint: str = "") -> str:
        """All parts of an enumeration, or the first few of very many and how many there are.

        Examples
        --------
        >>> Words("en").first(["001", "002"]), Words("en").first([f"{i:03}" for i in range(1, 1000)])
        ('001, 002', '001, 002, 003 ... (999 in all)')
        """
        joint = joint or self.say(", ", "、")
        if len(parts) <= ALL_UP_TO:
            return joint.join(parts)
        return joint.join(parts[:FIRST]) + self.say(f" ... ({len(parts)} in all)", f"……（共 {len(parts)}）")

    def told(self, text: str) -> str:
        """A text in which every sentence that a stage wrote in English is said in the language.

        What no stage wrote (names, comments, files) stays as it is.

        Examples
        --------
        >>> Words("zh").told("Cmax：no quantified level; outside acceptance: span 1.2 half-lives < 2")
        'Cmax：无可定量水平；超出接受限：跨度 1.2 个半衰期 < 2'
        >>> Words("en").told("no quantified level"), Words("zh").told("sample has no quantified level")
        ('no quantified level', 'sample has no quantified level')
        """
        return text if self.language != "zh" or not _ENGLISH.search(text) else _chinese(text)

    def colon(self, head: str, rest: str) -> str:
        """Head and rest with the language's colon."""
        return f"{head}{self.say(': ', '：')}{rest}"


_ENGLISH = re.compile(r"[a-z]{2}")
_BEFORE, _AFTER = r"(?P<before>^|[;；：:（(、,，。/·|]\s?|\. )", r"(?=$|[;；、,，：)）（。]|\s\(|\.(?:\s|$|、))"
_RANGE = re.compile(r"(?<=\d) to (?=[−-]?\d)")
_JOINT = re.compile(r"(?<=[\u4e00-\u9fff）])([;,]) |(?<=[²0-9%])([;,]) (?=[\u4e00-\u9fff（])")


@cache
def sentences() -> Mapping[str, str]:
    """What the stages say in English, by sentence, in Chinese: the file reasons.yaml."""
    import yaml

    found: dict[str, str] = yaml.safe_load(files("nkinetics").joinpath("reasons.yaml").read_text(encoding="utf-8"))
    return found


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """For each sentence a few of its words (cheap to look for), its pattern, and its translation.

    The longest sentence comes first: a short one may begin a longer one. Words may be parted by a line end.
    """
    made = []
    for english, chinese in sorted(sentences().items(), key=lambda pair: (-len(pair[0]), pair[0])):
        parts = re.split(r"(\{\w\})", english)
        # A sentence never begins with a colon or bracket: before them stands whom or what it is about.
        places = [r"[^;；:：()（）\n]+?" if parts[0] == "" else r"[^;；\n]+?", *[r"[^;；\n]+?"] * (len(parts) // 2)]
        pattern = "".join(
            f"(?P<{part[1]}>{places[i // 2]})" if i % 2 else re.escape(part).replace(r"\ ", r"\s+")
            for i, part in enumerate(parts)
        )
        ending = r"\s?" if english.endswith(":") else _AFTER
        words = max((w for part in parts[::2] for w in part.split()), key=len, default="")
        opening = r"(?P<before>\s?)" if english.startswith("(") else _BEFORE
        made.append((words, re.compile(opening + pattern + ending, re.MULTILINE), chinese))
    return tuple(made)


@cache
def _chinese(text: str) -> str:
    for words, pattern, chinese in _patterns():
        if words in text:
            text = pattern.sub(partial(_replaced, chinese), text)
    text = _RANGE.sub(" 至 ", text)
    return _JOINT.sub(lambda m: {";": "；", ",": "，"}[m[1] or m[2]], text)


def _replaced(chinese: str, found: re.Match[str]) -> str:
    return str(found["before"]) + chinese.format(**found.groupdict())


def unit_name(unit: str) -> str:
    """A unit as it is printed.

    Examples
    --------
    >>> unit_name("d*copies/ug")
    'd·copies/µg'
    """
    for plain, printed in UNIT_NAMES.items():
        unit = unit.replace(plain, printed)
    return unit


def missing(value: object) -> bool:
    """Whether a cell of a canonical table holds no value.

    Examples
    --------
    >>> missing(float("nan")), missing(""), missing(0.0)
    (True, True, False)
    """
    return value is None or str(value) in ("", "nan", "<NA>", "NaT")


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant figures, without an exponent between 1e-4 and 1e6.

    Examples
    --------
    >>> significant(12345.6), significant(0.5), significant(2e9), significant(0.0), significant(99.96)
    ('12300', '0.500', '2.00e9', '0', '100')
    """
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if power >= 6 or power < -4:
        return f"{mantissa}e{power}"
    if power >= digits:
        return f"{float(mantissa) * 10.0**power:.0f}"
    return f"{float(f'{mantissa}e{power}'):.{max(0, digits - 1 - power)}f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with the sign as printers set it: a cell that begins with a hyphen would be taken for a formula.

    Examples
    --------
    >>> signed(-1.694), signed(0.25)
    ('−1.69', '0.250')
    """
    return f"−{significant(-value, digits)}" if value < 0 else significant(value, digits)


def verdict_words(words: Words, verdict: str) -> str:
    """A verdict on dose proportionality in the language."""
    return words.say(verdict, VERDICTS.get(verdict, verdict))


def exposure_title(words: Words, window: str, parameter: str) -> str:
    """An exposure with its window.

    Examples
    --------
    >>> exposure_title(Words("en"), "D0-28", "auc_int"), exposure_title(Words("en"), "overall", "cmax")
    ('AUC D0–28', 'Cmax')
    >>> exposure_title(Words("en"), "infusions", "cmax")
    'Cmax of all infusion intervals'
    """
    title = EXPOSURES.get(parameter, parameter)
    if window == "overall":
        return title
    if window == "infusions":
        return words.say(f"{title} of all infusion intervals", f"各输注间期的 {title}")
    return f"{title} {window.replace('-', '–')}"


def days(value: float) -> str:
    """A time in days, 2 decimals.

    Examples
    --------
    >>> days(6.04167), days(-0.001)
    ('6.04', '0.00')
    """
    return f"{value:.2f}".replace("-0.00", "0.00")


def percent(value: float) -> str:
    """A percentage or coefficient of variation, 1 decimal."""
    return f"{value:.1f}"


def power_of_ten(exponent: int) -> str:
    """A power of ten with a raised exponent, in plain characters (no markup is parsed).

    Examples
    --------
    >>> power_of_ten(-2), power_of_ten(0), power_of_ten(1)
    ('10⁻²', '1', '10')
    """
    return {0: "1", 1: "10"}.get(exponent) or f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def amount(value: float) -> str:
    """An amount of cells.

    Examples
    --------
    >>> amount(2e9), amount(1.35e9)
    ('2×10⁹', '1.35×10⁹')
    """
    if not 1e4 <= abs(value):
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}×{power_of_ten(int(exponent))}"


def level(row: Mapping[str, object] | pd.Series) -> str:
    """The result of an observation as printed: up to 4 significant figures, or its code.

    Examples
    --------
    >>> level({"status": "quantified", "level": 1234.56}), level({"status": "blq", "level": float("nan")})
    ('1235', 'BLQ')
    """
    status = str(row["status"])
    if status != "quantified":
        return STATUS_CODES[status]
    shown = significant(float(str(row["level"])), 4)
    return shown.rstrip("0").rstrip(".") if "." in shown and "e" not in shown else shown


def number_of(item: Table | Figure, context: Context) -> str:
    """Number of an item under the configured prefix, as 14.4.1.5 or 16.2.5.5."""
    numbering = context.settings.report.numbering
    prefix = numbering.listing if item.id.startswith("L-") else _prefix(item, context)
    return f"{prefix}.{item.number}"


def _prefix(item: Table | Figure, context: Context) -> str:
    numbering = context.settings.report.numbering
    return numbering.figure if item.id.startswith("F-") else numbering.table


def kind_of(item: Table | Figure, context: Context) -> str:
    """The word before the number: Table, Figure or Listing."""
    words = Words(context.language)
    if item.id.startswith("F-"):
        return words.say("Figure", "图")
    return words.say("Listing", "列表") if item.id.startswith("L-") else words.say("Table", "表")


def title_of(item: Table | Figure, context: Context) -> str:
    """Title of an item: the configured one, else its own in the report's language."""
    return context.settings.report.titles.get(item.id) or Words(context.language).pick(item.title)


def chosen(items: Mapping[str, Table] | Mapping[str, Figure] | Mapping[str, Heading], context: Context) -> list[str]:
    """Names of the items that the configuration shows, in its order; all in order of their number by default."""
    wanted = context.settings.report.items
    if wanted:
        by_id = {item.id: name for name, item in items.items()}
        return [by_id[i] for i in wanted if i in by_id]

    def order(name: str) -> tuple[bool, list[int], str]:
        item = items[name]
        return item.id.startswith("L-"), [int(p) for p in item.number.split(".") if p.isdigit()], name

    return sorted(items, key=order)


def source_footnote(results: Results, context: Context, names: Iterable[str]) -> str:
    """Source tables with the first digits of their sha256, program version, data cut."""
    words = Words(context.language)
    parts = [words.colon(words.say("Source", "数据来源"), words.join(results.source(n) for n in names))]
    parts.append(f"NKinetics {context.version}")
    cut = context.settings.study.data_cut or words.say("none set", "未设定")
    parts.append(words.colon(words.say("data cut", "数据截止"), cut))
    return words.say("; ", "；").join(parts) + words.say(".", "。")


def codes_footnote(context: Context, cells: Iterable[str]) -> list[str]:
    """One footnote with the codes that the cells use; empty when they use none.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> codes_footnote(SimpleNamespace(language="en"), ["12.0", "001: NC"])
    ['NC, not calculable.']
    """
    words = Words(context.language)
    text = " ".join(cells)
    tokens = set(
        text.replace(":", " ").replace("：", " ").replace(";", " ").replace("(", " ").replace(",", " ").split()
    )
    used = [words.pick(meaning) for code, meaning in CODES.items() if code in tokens]
    return [words.say("; ", "；").join(used) + words.say(".", "。")] if used else []


def blq_footnote(context: Context) -> str:
    """How levels below the LLOQ counted in the non-compartmental analysis, from the configuration."""
    words = Words(context.language)
    blq = context.settings.blq
    meant = {
        "zero": words.say("0", "按 0 计"),
        "drop": words.say("left out", "不计入"),
        "lloq": words.say("the LLOQ", "按定量下限计"),
        "half_lloq": words.say("half the LLOQ", "按定量下限的一半计"),
    }
    return words.say(
        f"Levels below the LLOQ of their own sample count as: before the first quantified level {meant[blq.first]}; "
        f"between quantified levels {meant[blq.middle]}; after the last quantified level {meant[blq.last]}.",
        f"低于该样本定量下限的结果：首个可定量结果之前{meant[blq.first]}；可定量结果之间{meant[blq.middle]}；"
        f"末个可定量结果之后{meant[blq.last]}。",
    )


def profile_name(context: Context, assay: str, specimen: str, unit: str = "", analyte: str = "") -> str:
    """Analyte, assay, specimen and unit in one line."""
    words = Words(context.language)
    shown = words.join([analyte, words.assay(assay), words.specimen(specimen)])
    return f"{shown} ({unit_name(unit)})" if unit else shown


def profiles(results: Results) -> pd.DataFrame:
    """Kinds of assay profile in the order of display: quantitative PCR first, then digital PCR, flow, others."""
    return results.once("profiles in order", _profiles)


def _profiles(results: Results) -> pd.DataFrame:
    frame = results.profiles
    rank = frame["assay"].map({a: i for i, a in enumerate(ASSAY_ORDER)}).fillna(len(ASSAY_ORDER))
    return frame.assign(_rank=rank).sort_values(["_rank", "assay", "specimen"], ignore_index=True).drop(columns="_rank")


def treated(results: Results) -> pd.DataFrame:
    """Patients who received at least one infusion; all patients where no infusion is recorded at all."""
    patients, infusions = results.patients, results.table("infusions")
    if not len(infusions):
        return patients
    given = infusions["given"].fillna(infusions["planned"])
    return patients[patients["patient_id"].isin(infusions.loc[given > 0, "patient_id"])].reset_index(drop=True)


FOLLOW_UP_ENDS = {
    "death": {"en": "death", "zh": "死亡"},
    "withdrawal": {"en": "withdrawal", "zh": "退出"},
    "data_cut": {"en": "data cut", "zh": "数据截止"},
    "ongoing": {"en": "ongoing", "zh": "继续随访"},
}
"""How follow-up ends, in words."""


def follow_up_ends(results: Results) -> dict[str, tuple[float, str]]:
    """End of follow-up [d] and how it ended: from patients.csv, a death of events.csv, else the last sample."""
    observed, events = results.table("observations"), results.table("events")
    taken = observed[observed["time_actual"].notna() & (observed["status"] != "not_done")]
    latest = taken.groupby("patient_id")["time_actual"].max()
    deaths = events[events["event"] == "death"].groupby("patient_id")["time"].min().dropna()
    found = {}
    for patient in results.patients.itertuples():
        identifier = str(patient.patient_id)
        status = "ongoing" if missing(patient.status_end) else str(patient.status_end)
        end = float("nan") if missing(patient.time_end) else float(str(patient.time_end))
        if identifier in deaths.index:
            status, end = "death", float(deaths[identifier])
        if missing(end):
            end = float(latest.get(identifier, 0.0))
        found[identifier] = (max(0.0, end), status)
    return found


def everyone(results: Results, words: Words) -> str:
    """The analysis set of what shows all patients, for the subtitle; how many of how many where some are drawn."""
    n = len(results.patients)
    if results.whole is not None:
        total = len(results.whole.patients)
        return words.say(f"{n} of {total} patients", f"{total} 例患者中的 {n} 例")
    return words.say(f"All patients (n = {n})", f"全部患者（n = {n}）")


def dose_levels(results: Results) -> list[str]:
    """Dose levels in order."""
    return sorted(results.patients["dose_level"].unique())


def dose_names(results: Results, context: Context) -> dict[str, str]:
    """Each dose level with its planned amount per infusion where all its infusions agree, as DL1 (2×10⁹ cells)."""
    words = Words(context.language)
    planned = results.patients[["patient_id", "dose_level"]].merge(results.table("infusions"), on="patient_id")
    names = {}
    for dose_level in dose_levels(results):
        rows = planned[planned["dose_level"] == dose_level]
        amounts = rows["planned"].dropna().unique()
        unit = {"cells": words.say("cells", "个细胞"), "cells/kg": words.say("cells/kg", "个细胞/kg")}[
            context.settings.study.dose_unit
        ]
        one = len(amounts) == 1
        names[dose_level] = f"{dose_level} ({amount(float(amounts[0]))} {unit})" if one else dose_level
    return names


def without_quantified(results: Results, context: Context, assay: str, specimen: str) -> dict[str, str]:
    """Patients without a quantified reportable level in a kind of profile, with the reason."""
    rows = results.table("observations")[
        ["patient_id", "assay", "specimen", "status", "reportable", "exclusion_reason"]
    ]
    rows = rows[(rows["assay"] == assay) & (rows["specimen"] == specimen)]
    reportable = rows["reportable"].fillna(False).astype(bool)
    quantified = set(rows.loc[reportable & (rows["status"] == "quantified"), "patient_id"])
    words, own = Words(context.language), by_patient(rows)
    return {
        patient: _why_none(own(patient), words)
        for patient in results.patients["patient_id"]
        if patient not in quantified
    }


def _why_none(own: pd.DataFrame, words: Words) -> str:
    n = int(own["reportable"].fillna(False).sum())
    if n:
        return words.say(f"no quantified level in {n} sample{'s' * (n > 1)}", f"{n} 份样本均未达定量水平")
    stated = [r for r in dict.fromkeys(own["exclusion_reason"]) if r]
    none = words.say("no sample of this patient in this assay", "该患者无此检测的样本")
    return words.say("; ", "；").join(stated) or none


def grouped(reasons: Mapping[str, str], words: Words) -> str:
    """Reasons with the patients they hold for: ``no quantified level (005, 006)``.

    Examples
    --------
    >>> grouped({"005": "no quantified level", "006": "no quantified level", "002": "no sample"}, Words("en"))
    'no quantified level (005, 006); no sample (002)'
    """
    by_reason: dict[str, list[str]] = {}
    for patient, reason in reasons.items():
        by_reason.setdefault(reason, []).append(patient)
    shown = by_reason
    if len(reasons) > ALL_UP_TO and len(by_reason) > REASONS_UP_TO:
        most = sorted(by_reason, key=lambda why: -len(by_reason[why]))[:REASONS_UP_TO]
        shown = {why: patients for why, patients in by_reason.items() if why in most}
    told = [f"{why} ({words.first(patients)})" for why, patients in shown.items()]
    if len(shown) < len(by_reason):
        others, n = len(by_reason) - len(shown), len(reasons) - sum(map(len, shown.values()))
        told.append(words.say(f"{others} other reasons ({n} in all)", f"其他 {others} 种原因（共 {n}）"))
    return words.say("; ", "；").join(told)
