"""The configuration: wrong keys are named with the nearest right one, and what is generated from the models agrees."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from nkinetics import reference, settings
from nkinetics.errors import InputError


def test_an_empty_configuration_has_every_default() -> None:
    made = settings.validated({}, "config.yaml")
    assert made.models.default == "decay"
    assert made.blq.models == "M3"
    assert made.nca.windows[0] == (0.0, 28.0)
    assert made.assays.qpcr is None


@pytest.mark.parametrize(
    ("text", "row", "key", "near"),
    [
        ("study: {id: A}\nnca:\n  auc_rul: linear\n", 3, "nca.auc_rul", "auc_rule"),
        ("study: {id: A}\nassay: {}\n", 2, "assay", "assays"),
        (
            "assays:\n  qpcr:\n    acceptance:\n      slope_mim: -4\n",
            4,
            "assays.qpcr.acceptance.slope_mim",
            "slope_min",
        ),
    ],
)
def test_a_misspelt_key_is_named_with_its_line_and_the_nearest_key(
    tmp_path: Path, text: str, row: int, key: str, near: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        settings.load(path)
    (problem,) = caught.value.problems
    assert (problem.row, problem.column) == (row, key)
    assert near in problem.mend


def test_every_wrong_value_is_reported_at_once() -> None:
    values = {"batches": 0, "study": {"time_zone": "Mars/Olympus"}, "blq": {"middle": "keep"}}
    with pytest.raises(InputError) as caught:
        settings.validated(values, "config.yaml")
    assert {p.column for p in caught.value.problems} == {"batches", "study.time_zone", "blq.middle"}


def test_an_unknown_model_and_a_misspelt_constant_of_a_model_are_named() -> None:
    with pytest.raises(InputError, match="did you mean decay"):
        settings.validated({"models": {"default": "deacy"}}, "config.yaml")
    with pytest.raises(InputError, match="did you mean width"):
        settings.validated({"models": {"cytokine_window": {"widht": 2}}}, "config.yaml")
    with pytest.raises(InputError, match="did you mean cytokine_window"):
        settings.validated({"models": {"cytokine_windows": {"width": 2}}}, "config.yaml")


def test_a_section_comes_from_a_file_or_from_inline_json(tmp_path: Path) -> None:
    path = tmp_path / "nca.yaml"
    path.write_text("auc_rule: linear\n")
    assert settings.section("nca", str(path)) == settings.section("nca", '{"auc_rule": "linear"}')
    with pytest.raises(InputError, match="--settings"):
        settings.section("nca", '{"auc_role": "linear"}')


def test_the_resolved_configuration_reads_back_to_itself(root: Path) -> None:
    loaded = settings.load(root / "config/config.yaml")
    again = settings.validated(yaml.safe_load(settings.as_yaml(loaded)), "again")
    assert again == loaded


def test_the_schema_accepts_the_bundled_configuration_and_refuses_an_unknown_key(root: Path) -> None:
    schema = yaml.safe_load((root / "workflow/schemas/config.schema.yaml").read_text())
    bundled = yaml.safe_load((root / "config/config.yaml").read_text())
    jsonschema.validate(json.loads(json.dumps(bundled, default=str)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"nca": {"auc_rul": "linear"}}, schema)


def test_generated_files_agree_with_the_settings_models(root: Path) -> None:
    for name, text in reference.files().items():
        assert (root / name).read_text(encoding="utf-8") == text, f"{name} is stale: run make reference"


def test_a_key_between_two_is_named_with_both_and_messages_read_as_sentences(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("assays:\n  qpcr: {loq_copies: 5}\nbatches: 0\n")
    with pytest.raises(InputError) as caught:
        settings.load(path)
    text = str(caught.value)
    assert "To mend: did you mean lloq_copies or uloq_copies?\n" in text
    assert "found 0; expected greater than or equal to 1." in text
    path.write_text("batches:\t1\n\tstrict: true\n")
    with pytest.raises(InputError) as caught:
        settings.load(path)
    assert "found found" not in str(caught.value) and "found a tab character" in str(caught.value)
    path.write_text("nca: {}\nbatches: 1\nnca: {auc_rule: linear}\nassays:\n  flow: {lod_events: 1, lod_events: 2}\n")
    with pytest.raises(InputError) as caught:
        settings.load(path)
    rows = [(p.row, p.column, p.mend) for p in caught.value.problems]
    assert rows == [(3, "nca", "merge it with line 1"), (5, "assays.flow.lod_events", "merge it with line 5")]


def test_a_configuration_that_is_no_text_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content, row in (("study: {title: \u00fcber}".encode("latin-1"), 1), ("batches: 1\n".encode("utf-16"), 1)):
        path.write_bytes(content)
        for read in (settings.load, settings.readable, lambda p: settings.section("nca", str(p))):
            with pytest.raises(InputError) as caught:
                read(path)
            (problem,) = caught.value.problems
            assert problem.row == row and "not UTF-8" in problem.found and problem.mend == "save the file as UTF-8"
    with pytest.raises(InputError, match="found a folder"):
        settings.load(tmp_path)
