"""Chinese of what the stages say: every reason that their source gives has a translation, and nothing else changes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from nkinetics import provenance
from nkinetics.wording import Words, sentences

STAGES = ("nca/__init__", "nca/profiles", "nca/blq_sensitivity", "observations", "models/*", "quantify/*")
STAGES += ("fitting/profiles", "fitting/choice", "fitting/identifiability", "fitting/optimise", "population/*")
KEYS = {"reason", "exclusion_reason", "note"}
LISTS = {"reasons", "said", "words", "told", "failed"}
ENGLISH = re.compile(r"\b[a-z]{2,} [a-z]{2,}\b")

FILLED = {
    "the terminal slope {}": ["the terminal slope does not exist", "the terminal slope is not accepted"],
    "above the limit at {}": ["above the limit at Tlast", "above the limit at the last point of the curve"],
    "still {} at the last sample (d {}){}": [
        "still quantified at the last sample (d {})",
        "still detected at the last sample (d {}); right-censored by the next infusion",
        "still detected at the last sample (d {}); right-censored there, followed to data cut at d {}",
    ],
    "a level above the ULOQ at d {}{}": [
        "a level above the ULOQ at d {}",
        "a level above the ULOQ at d {}: {} or more",
    ],
    "interval open {}": ["interval open above", "interval open below", "interval open on both sides"],
    "reference gene Ct {} {} what {}": [],  # two numbers and a judgement, in quantify/qpcr.py; see the next test
    "re-assayed on run {}, {}": ["re-assayed on run {}, which is reported", "re-assayed on run {}, which stands"],
    "{} of {} never {}:": ["{} of {} never quantified:", "{} of {} never detected:"],
    "{} {}, {} needed: see": ["{} pairs, {} needed: see", "{} pair, {} needed: see"],
    "{} of {} runs ended {} by up to {} in ln L{}": ["{} of {} runs ended {} by up to {} in ln L"],
    "no estimate: {} of {} patients with {}": ["no estimate: {} of {} patients with a level below LLOQ without LOD"],
    "{}, normal approximation": [],  # the name of a rank test, told with its p value
    "{}; {} on day{} {}": ["{} infusions of {} cells on days {}"],
}
"""Places that hold words and not numbers, and what may stand there."""


def texts(node: ast.AST | None) -> list[str]:
    """Texts that an expression may give, with {} for what is filled in."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)]
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in texts(value)]
    if isinstance(node, ast.List | ast.Tuple):
        return [text for value in node.elts for text in texts(value)]
    if isinstance(node, ast.Starred):
        return texts(node.value)
    if isinstance(node, ast.Lambda):
        return texts(node.body)
    return []


def reasons_of(path: Path) -> set[str]:
    """Every text of a module that becomes a reason: by key, by keyword, by list, by flag."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg in KEYS:
            found += texts(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                flag = isinstance(key, ast.Attribute) and isinstance(key.value, ast.Name) and key.value.id == "Why"
                if flag or (isinstance(key, ast.Constant) and key.value in KEYS):
                    found += texts(value)
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in KEYS for t in node.targets):
            found += texts(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            if isinstance(node.func.value, ast.Name) and node.func.value.id in LISTS:
                found += [text for argument in node.args for text in texts(argument)]
    return {text for text in found if ENGLISH.search(text)}


def filled(text: str) -> list[str]:
    for places, instead in FILLED.items():
        if places in text:
            return [part for one in instead for part in filled(text.replace(places, one))]
    # An s of the plural stands right behind a letter; everywhere else stands a number.
    if plural := re.search(r"(?<=[a-z])\{\}", text):
        return [part for s in ("", "s") for part in filled(text[: plural.start()] + s + text[plural.end() :])]
    return [text.replace("{}", "7")]


def modules(root: Path) -> list[Path]:
    package = root / "workflow" / "nkinetics"
    return [path for stage in STAGES for path in sorted(package.glob(f"{stage}.py"))]


def test_every_reason_that_the_stages_can_give_has_a_chinese_sentence(root: Path) -> None:
    missing, n = {}, 0
    for path in modules(root):
        for reason in sorted(reasons_of(path)):
            for text in filled(reason):
                n += 1
                # What stays is a name of a column, a test or a parameter: never two words.
                if ENGLISH.search(Words("zh").told(text)):
                    missing[text] = f"{path.parent.name}/{path.name}"
    assert missing == {}
    assert n > 120, "the source has been read"


def test_a_new_reason_without_a_translation_is_found(tmp_path: Path) -> None:
    """The control of the test above."""
    (tmp_path / "stage.py").write_text('row = {"reason": f"the moon stood in sign {sign}"}\n', encoding="utf-8")
    assert reasons_of(tmp_path / "stage.py") == {"the moon stood in sign {}"}
    assert ENGLISH.search(Words("zh").told("the moon stood in sign 7"))


def test_every_sentence_is_told_whole_and_keeps_its_places() -> None:
    for english, chinese in sentences().items():
        places = re.findall(r"\{(\w)\}", english)
        assert sorted(places) == sorted(re.findall(r"\{(\w)\}", chinese)), english
        numbers = {place: f"Q{i}" for i, place in enumerate(places)}
        whole = english.format(**numbers)
        told = Words("zh").told(f"007：{whole}; NC")
        assert told != f"007：{whole}; NC", english
        for number in numbers.values():
            assert number in told, english
        assert Words("en").told(whole) == whole


@pytest.mark.parametrize(
    "text",
    [
        "patient said there was no sample",  # a comment
        "data/raw/not done.csv",
        "drawn 2 d late, no quantified level expected",
        "No sample",
    ],
)
def test_what_a_person_wrote_stays_as_it_is(text: str) -> None:
    assert Words("zh").told(text) == text


def test_reasons_in_a_row_and_within_each_other_are_told_one_by_one() -> None:
    told = Words("zh").told
    assert told("run not accepted: slope -3.05 (efficiency 112.7 %) outside -3.6 to -3.1; not done") == (
        "批次未被接受：斜率 -3.05（效率 112.7 %）超出 -3.6 至 -3.1；未检测"
    )
    assert told("not fitted: none of\n29 samples is quantified") == "未拟合：29 份样本均未达定量水平", (
        "a broken line too"
    )


def test_an_edited_translation_makes_tables_figures_and_report_anew_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "nkinetics"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def now() -> dict[str, str]:
        for kept in (provenance.fingerprint, provenance._imports_of_module, provenance._commands, provenance._source):
            kept.cache_clear()
        return {stage: provenance.fingerprint(stage) for stage in ("ingest", "nca", "fit", "table", "figure", "report")}

    with monkeypatch.context() as patched:
        patched.setattr(provenance, "PACKAGE", copy)
        before = now()
        (copy / "reasons.yaml").write_text('"no sample": "无"\n', encoding="utf-8")
        after = now()
    now()
    assert {stage for stage in before if before[stage] != after[stage]} == {"table", "figure", "report"}
