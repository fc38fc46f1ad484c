"""Qualification: controls come out as they must, a planted defect is caught, a defect of the program would show."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from nkinetics import cli, qualification
from nkinetics.qualification import Control, Outcome, carried_out, document, installation, performance, table
from nkinetics.qualification.control import as_required
from nkinetics.qualification.references import controls as reference_controls


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return table(carried_out(qualification.CONTROLS))


def test_every_control_of_operation_comes_out_as_required(found):
    wrong = found[~found["as_required"]]
    assert not len(wrong), wrong[["control", "found", "expected"]].to_string()
    assert (found["must"] == "fail").sum() >= 8 and found["control"].is_unique


def test_controls_that_must_fail_name_what_they_caught(found):
    caught = found[found["must"] == "fail"].set_index("control")["found"]
    assert "slope -4.200" in caught["OQ-QUA-06"]
    assert "no-template control" in caught["OQ-QUA-07"]
    assert "auc_rule" in caught["OQ-ING-03"]


def test_a_crash_is_never_as_required():
    def crash() -> Outcome:
        raise ZeroDivisionError("planted")

    for must in ("pass", "fail"):
        control = Control("X-1", "NCA-1", "crash", "here", crash, must)
        ((_, outcome),) = carried_out([control])
        assert not as_required(control, outcome) and "ZeroDivisionError" in outcome.found


def test_a_wrong_computation_makes_its_control_fail(monkeypatch):
    from nkinetics import nca

    true = nca.profile

    def broken(*args, **options):
        return {**true(*args, **options), "auc_last": 13.4}

    monkeypatch.setattr(nca, "profile", broken)
    (control,) = (c for c in qualification.CONTROLS if c.id == "OQ-NCA-01")
    ((_, outcome),) = carried_out([control])
    assert not as_required(control, outcome) and outcome.found == "13.4"


@pytest.mark.shared
def test_other_programs_numbers_agree(shared):
    found = table(carried_out(reference_controls(shared)))
    assert found["as_required"].all(), found[["control", "found"]].to_string()
    assert "486 of 486" in found.set_index("control").loc["OQ-REF-01", "found"]


def test_a_folder_without_reference_numbers_is_refused(tmp_path, capsys):
    status = cli.main(["qualify", "oq", "--references", str(tmp_path), "--output-dir", str(tmp_path / "out")])
    assert status == 2 and "no file of reference numbers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_installation_names_a_package_of_another_version(root, tmp_path):
    lock = tmp_path / "requirements.lock"
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    lock.write_text(re.sub(r"(?m)^numpy==\S+", "numpy==0.9", text), encoding="utf-8")
    by_id = {c.id: c for c in installation.controls(tmp_path)}
    ((control, outcome),) = carried_out([by_id["IQ-02"]])
    assert not as_required(control, outcome) and "numpy" in outcome.found and "0.9" in outcome.found
    ((control, outcome),) = carried_out([by_id["IQ-03"]])
    assert as_required(control, outcome)


def test_installation_of_this_environment(root):
    # Without the git control: a developer's checkout may hold changes.
    done = [(c, o) for c, o in carried_out(installation.controls(root)) if c.id not in ("IQ-02", "IQ-06")]
    assert len(done) == 6 and all(as_required(c, o) for c, o in done), [(c.id, o.found) for c, o in done]


def test_performance_compares_bytes_and_needs_a_study(tmp_path):
    from nkinetics.errors import InputError

    with pytest.raises(InputError, match="Snakefile"):
        performance.controls(tmp_path)
    assert performance._equal({"a": "1"}, {"a": "1"}).met
    assert not performance._equal({"a": "1"}, {"a": "2"}).met
    assert not performance._equal({"a": "1"}, {}).met
    assert not performance._equal({}, {}).met


def test_every_control_and_every_test_file_belongs_to_a_requirement(root):
    known = document.requirements()
    mine = {c.requirement for c in (*qualification.CONTROLS, *installation.controls(root))}
    assert mine <= set(known)
    assert {"NCA-4", "POP-1", "REP-1"} <= set(known)
    named = {name for requirement in known.values() for name in requirement["tests"]}
    present = {path.name for path in (root / "tests").glob("test_*.py")}
    assert named - present == set(), "named and absent"
    assert present - named == set(), "present and not named"


def test_protocol_shows_controls_deviations_and_the_results_of_tests(found, tmp_path):
    report = tmp_path / "junit.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.test_quantify" name="a"/>'
        '<testcase classname="tests.test_quantify" name="b"><failure/></testcase>'
        '<testcase classname="tests.test_nca_laws" name="c"/></testsuite></testsuites>',
        encoding="utf-8",
    )
    tests = document.junit(report)
    assert tests == {"test_quantify.py": (1, 1, 0), "test_nca_laws.py": (1, 0, 0)}
    verdicts = {row[0]: row[4] for row in document.matrix(found, tests)}
    assert verdicts["QUA-1"] == "not met" and verdicts["NCA-1"] == "met"
    assert verdicts["REP-3"] == "not examined here"
    bad = found.assign(as_required=found["as_required"] & (found["control"] != "OQ-NCA-01"))
    page = document.html("oq", bad, [("Python", "3")], tests, ["a <note>"])
    assert f"{len(found) - 1} of {len(found)} controls" in page
    assert "a &lt;note&gt;" in page and page.count("OQ-NCA-01") >= 3
    assert "test_quantify.py: 1 passed, 1 failed, 0 skipped" in page


def test_the_command_writes_the_protocol_and_the_table(tmp_path, capsys):
    assert cli.main(["qualify", "oq", "--output-dir", str(tmp_path)]) == 0
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {"qualification_oq.csv", "qualification_oq.html", "qualification_oq.pdf"}
    assert (tmp_path / "qualification_oq.pdf").read_bytes().startswith(b"%PDF-1.7")
    assert cli.main(["qualify", "oq", "--table", str(tmp_path / "validation.csv")]) == 0
    same = (tmp_path / "validation.csv").read_bytes() == (tmp_path / "qualification_oq.csv").read_bytes()
    assert same and "controls came out as required" in capsys.readouterr().out
