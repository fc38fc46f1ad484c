"""The simulated trial: deterministic, self-consistent as instruments are, and true to its truth."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from nkinetics import simulate
from nkinetics.columns import CYTOKINES, EVENTS, IDENTIFIER, INFUSIONS, PATIENTS, SAMPLES
from nkinetics.simulate import assays, quantstudio
from nkinetics.simulate._xlsx import workbook
from nkinetics.simulate.truth import histories, recovering
from nkinetics.store import read_table

TRUTH = "tests/data/truth"


@pytest.fixture(scope="module")
def trial() -> simulate.Simulated:
    return simulate.study(seed=1)


@pytest.fixture(scope="module")
def written(trial: simulate.Simulated) -> dict[str, bytes]:
    return simulate.files(trial, truth=TRUTH)


def sections(text: str) -> dict[str, pd.DataFrame]:
    """The tab-separated sections of a QuantStudio text export, as texts."""
    found = {}
    for block in text.split("\n["):
        name, _, body = block.partition("]\n")
        if "\t" in body:
            lines = [line.split("\t") for line in body.split("\n") if line]
            width = len(lines[0])
            cells = [(line + [""] * width)[:width] for line in lines[1:]]
            found[name.strip("[")] = pd.DataFrame(cells, columns=lines[0])
    return found


def results(content: bytes, name: str) -> pd.DataFrame:
    """The results of a run, numbers as floats, from either form."""
    if name.endswith(".txt"):
        frame = sections(content.decode())["Results"].replace("", np.nan)
    else:
        import openpyxl

        rows = list(openpyxl.load_workbook(io.BytesIO(content), read_only=True)["Results"].iter_rows(values_only=True))
        first = next(i for i, row in enumerate(rows) if row and row[0] == "Well")
        frame = pd.DataFrame([dict(zip(rows[first], row, strict=False)) for row in rows[first + 1 :]])
    numeric = ["CT", "Ct Mean", "Ct SD", "Quantity", "Quantity Mean", "Quantity SD", "Y-Intercept", "Slope"]
    numeric += ["Efficiency", "R(superscript 2)"]
    for column in numeric:
        texts = frame[column].astype("object").map(lambda v: v.replace(",", "") if isinstance(v, str) else v)
        frame[column] = pd.to_numeric(texts.replace("Undetermined", np.nan).astype("object"))
    return frame


def runs(written: dict[str, bytes]) -> dict[str, pd.DataFrame]:
    return {
        Path(path).name: results(content, path) for path, content in written.items() if path.startswith("data/raw/qpcr")
    }


# ------------------------------------------------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(written: dict[str, bytes]) -> None:
    again = simulate.files(simulate.study(seed=1), truth=TRUTH)
    assert again == written
    other = simulate.files(simulate.study(seed=2), truth=TRUTH)
    assert all(other[p] != written[p] for p in written if p.startswith("data/raw/") and not p.endswith("README.md"))


def test_the_bundled_study_is_what_simulate_writes(tmp_path: Path, root: Path, trial: simulate.Simulated) -> None:
    paths = simulate.write(trial, tmp_path, truth=TRUTH)
    for path in paths:
        relative = path.relative_to(tmp_path)
        bundled, fresh = (root / relative).read_bytes(), path.read_bytes()
        if path.suffix == ".xlsx":
            # Another zlib may pack the same parts into other bytes: the parts are compared.
            bundled, fresh = (
                {i.filename: (i.date_time, z.read(i)) for i in z.infolist()}
                for z in (zipfile.ZipFile(io.BytesIO(b)) for b in (bundled, fresh))
            )
        assert bundled == fresh, f"{relative} is not what `nkinetics simulate --seed 1` writes"


def test_data_raw_and_the_truth_hold_nothing_else(root: Path, written: dict[str, bytes]) -> None:
    for folder in ("data/raw", TRUTH):
        there = {p.relative_to(root).as_posix() for p in (root / folder).rglob("*") if p.is_file()}
        assert there == {p for p in written if p.startswith(folder)}


def test_one_patient_more_or_less_changes_nobody_else(trial: simulate.Simulated) -> None:
    design = trial.design
    fewer = dataclasses.replace(design, patients=design.patients[:2] + design.patients[4:])
    left = simulate.study(1, fewer).levels
    kept = trial.levels[trial.levels["patient_id"].isin([p.patient_id for p in fewer.patients])]
    pd.testing.assert_frame_equal(left.drop(columns="assays"), kept.drop(columns="assays").reset_index(drop=True))


def test_the_exports_are_small(written: dict[str, bytes]) -> None:
    sizes = {p: len(b) for p, b in written.items() if p.startswith("data/raw/")}
    assert max(sizes.values()) < 500_000 and sum(sizes.values()) < 1_500_000


# -------------------------------------------------------------------------------------- forms agree with themselves


def test_printed_curves_are_the_least_squares_of_the_printed_standards(written: dict[str, bytes]) -> None:
    for name, frame in runs(written).items():
        for target, rows in frame[frame["Task"] == "STANDARD"].groupby("Target Name"):
            used = rows.dropna(subset="CT")
            slope, intercept = np.polyfit(np.log10(used["Quantity"]), used["CT"], 1)
            printed = rows[["Slope", "Y-Intercept", "Efficiency"]].drop_duplicates()
            assert len(printed) == 1, (name, target)
            assert printed["Slope"].item() == pytest.approx(slope, abs=1.5e-3)
            assert printed["Y-Intercept"].item() == pytest.approx(intercept, abs=3e-3)
            assert printed["Efficiency"].item() == pytest.approx(100 * (10 ** (-1 / slope) - 1), abs=0.1)


def test_printed_quantities_follow_from_ct_and_the_printed_curve(written: dict[str, bytes]) -> None:
    for name, frame in runs(written).items():
        rows = frame[(frame["Task"] == "UNKNOWN") & frame["CT"].notna()]
        back = 10 ** ((rows["CT"] - rows["Y-Intercept"]) / rows["Slope"])
        # Three decimals of Ct, intercept and slope allow about half a percent; a workbook prints all digits.
        limit = 6e-3 if name.endswith(".txt") else 1e-5
        assert np.abs(np.log(back / rows["Quantity"])).max() < limit, name


def test_printed_means_and_deviations_are_those_of_the_replicates(written: dict[str, bytes]) -> None:
    for name, frame in runs(written).items():
        for _, rows in frame.groupby(["Sample Name", "Target Name"]):
            used = rows.dropna(subset="CT")
            shown = rows.dropna(subset="Ct Mean")
            assert len(shown) == (0 if used.empty else len(rows) - (rows["CT"].isna() & rows["Ct Mean"].isna()).sum())
            if not used.empty:
                assert shown["Ct Mean"].iloc[0] == pytest.approx(used["CT"].mean(), abs=1.1e-3), name
            if len(used) > 1:
                assert shown["Ct SD"].iloc[0] == pytest.approx(used["CT"].std(), abs=1.1e-3), name


def test_controls_without_template_are_undetermined_and_standards_span_seven_decades(written: dict[str, bytes]) -> None:
    for frame in runs(written).values():
        assert frame.loc[frame["Task"] == "NTC", "CT"].isna().all()
        standards = frame[frame["Task"] == "STANDARD"]
        assert standards.groupby(["Target Name", "Quantity"]).size().eq(3).all()
        assert sorted(standards["Quantity"].unique()) == [10.0**k for k in range(1, 8)]


def test_a_text_export_prints_as_the_software_does(written: dict[str, bytes]) -> None:
    text = written["data/raw/qpcr/NEUK203-13_Q01.txt"].decode()
    head = text.split("\n\n")[0].split("\n")
    assert all(line.startswith("* ") and " = " in line for line in head)
    assert "* User Name = NA" in head
    assert "\t10,000,000.000\t" in text and "\tUndetermined\t" in text
    assert list(sections(text)) == ["Sample Setup", "Results"]


def test_a_workbook_keeps_identifiers_as_text_and_says_nothing_of_the_clock() -> None:
    import openpyxl
    import python_calamine

    rows = [["001", 1, 2.5, True, None, 'a & "b" <c>'], [], ["= 1", -0.25, "", False]]
    content = workbook({"Results": rows, "Other": [["x"]]}, "2026-01-02T03:04:05Z")
    assert content == workbook({"Results": rows, "Other": [["x"]]}, "2026-01-02T03:04:05Z")
    assert all(i.date_time == (1980, 1, 1, 0, 0, 0) for i in zipfile.ZipFile(io.BytesIO(content)).infolist())
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book.sheetnames == ["Results", "Other"]
    assert [c.value for c in book["Results"][1]] == ["001", 1, 2.5, True, None, 'a & "b" <c>']
    assert book.properties.created.isoformat() == "2026-01-02T03:04:05"
    sheet = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_name("Results")
    assert sheet.to_python()[2][:2] == ["= 1", -0.25]


def test_digital_pcr_prints_the_concentration_of_its_droplets(written: dict[str, bytes]) -> None:
    text = written["data/raw/ddpcr/NEUK203-13_ddPCR_01.csv"].decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * 74
    for row in rows:
        n, k = int(row["Accepted Droplets"]), int(row["Positives"])
        assert n - k == int(row["Negatives"])
        clusters = {c: int(row[c]) for c in ("Ch1+Ch2+", "Ch1+Ch2-", "Ch1-Ch2+", "Ch1-Ch2-")}
        assert sum(clusters.values()) == n and min(clusters.values()) >= 0
        assert k == clusters["Ch1+Ch2+"] + clusters["Ch1+Ch2-" if row["Target"] == "CAR" else "Ch1-Ch2+"]
        if k == 0:
            assert row["Conc(copies/µL)"] == "No Call"
            continue
        printed = float(row["Conc(copies/µL)"])
        assert printed == pytest.approx(-np.log(1 - k / n) / 0.85e-3, rel=1e-6)
        assert float(row["PoissonConfMin"]) < float(row["PoissonConfidenceMin68"]) < printed
        assert printed < float(row["PoissonConfidenceMax68"]) < float(row["PoissonConfMax"])


def test_flow_gates_lie_within_their_parents(written: dict[str, bytes]) -> None:
    tables = {p: b.decode() for p, b in written.items() if p.startswith("data/raw/flow/")}
    assert len(tables) == 4
    for text in tables.values():
        header, *rows = list(csv.reader(io.StringIO(text)))
        assert header[0] == "" and header[-1] == "" and all(len(r) == len(header) for r in rows)
        assert [r[0] for r in rows[-2:]] == ["Mean", "SD"]
        counts = np.array([[float(v) for v in r[1:6]] for r in rows[:-2]])
        assert (np.diff(counts, axis=1) <= 0).all() and (counts == counts.round()).all()
        for row, numbers in zip(rows, counts, strict=False):
            assert float(row[6].removesuffix(" %")) == pytest.approx(100 * numbers[4] / numbers[3], rel=6e-3)
        assert float(rows[-2][3]) == pytest.approx(counts[:, 2].mean(), rel=1e-3)


# ------------------------------------------------------------------------------------------------- tables and truth


def test_the_written_tables_pass_the_checks_of_the_door(tmp_path: Path, trial: simulate.Simulated) -> None:
    simulate.write(trial, tmp_path)
    for schema in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS):
        frame = read_table(tmp_path / "config" / f"{schema.name}.csv", schema, foreign=True)
        assert len(frame) == len(getattr(trial, schema.name))
    samples = read_table(tmp_path / "config" / "samples.csv", SAMPLES, foreign=True)
    assert samples["sample_id"].str.fullmatch(IDENTIFIER.pattern).all()
    assert samples["sample_id"].str.startswith("00").all()
    assert (tmp_path / "truth" / "truth.json").exists()


def test_the_design_is_that_of_the_trial(trial: simulate.Simulated) -> None:
    assert trial.patients.groupby("dose_level").size().to_dict() == {"DL1": 3, "DL2": 6}
    assert trial.infusions.groupby("patient_id").size().eq(3).all()
    assert set(zip(trial.infusions["planned"], trial.patients.set_index("patient_id").loc[
        trial.infusions["patient_id"], "dose_level"], strict=True)) == {(2e9, "DL1"), (4e9, "DL2")}  # fmt: skip
    planned = trial.samples[trial.samples["patient_id"] == "001"]["time_nominal"].tolist()
    near = 90 / 1440
    around = [t for d in (0.0, 3.0, 6.0) for t in (d, d + near, d + 1, d + 2)]
    assert planned == pytest.approx([*around, 9, 10, 11, 12, 13, 16, 20, 27, 41, 55])


def test_the_true_level_is_that_of_cells_followed_minute_by_minute(trial: simulate.Simulated) -> None:
    # Every time is a whole number of minutes and the window is 2160 of them, so that stepping is exact.
    truth = trial.truth
    for patient, own in truth["patients"].items():
        doses = {
            round(t * 1440): (given / truth["reference_dose"]) ** truth["theta_dose"] for t, given in own["infusions"]
        }
        starts = [round(t * 1440) for t in own["cytokines"]]
        rows = trial.levels[trial.levels["patient_id"] == patient].sort_values("time")
        wanted = {round(row.time * 1440): row.level for row in rows.itertuples()}
        cells = 0.0
        for minute in range(max(wanted) + 1):
            cells += own["scale"] * doses.get(minute, 0.0)
            if minute in wanted:
                assert cells == pytest.approx(wanted[minute], rel=1e-6, abs=1e-12), (patient, minute)
            inside = any(s <= minute < s + 2160 for s in starts)
            cells *= np.exp(((own["rho"] if inside else 0.0) - own["delta"]) / 1440)
        assert all(level == 0 for minute, level in wanted.items() if minute < 0)


def test_the_written_times_are_those_of_the_truth(trial: simulate.Simulated) -> None:
    first = {r.patient_id: r.started_at for r in trial.infusions.itertuples() if r.infusion == 1}
    levels = trial.levels.set_index("sample_id")["time"]
    for row in trial.samples.itertuples():
        if row.state:
            assert row.sample_id not in levels.index and row.collected_at == "" and np.isnan(row.time_actual)
            continue
        elapsed = row.time_actual
        if row.collected_at:
            elapsed = (pd.Timestamp(row.collected_at) - pd.Timestamp(first[row.patient_id])) / pd.Timedelta(days=1)
        assert elapsed == pytest.approx(levels[row.sample_id], abs=5.1e-5)


def test_white_cells_fall_and_recover_at_the_published_rate() -> None:
    time = np.linspace(0, 60, 601)
    wbc = recovering(time, 1.6, 0.25, 5.2)
    lowest = int(wbc.argmin())
    assert 2 < time[lowest] < 6 and wbc[0] > 2 * wbc[lowest] and wbc[-1] > 0.99 * 5.2
    new = recovering(np.array([0.0, 1.0]), 0.0, 1e-6, 5.2)
    assert np.log(new[1] / new[0]) == pytest.approx(0.17, rel=1e-4)


def test_the_sample_on_the_last_cytokine_day_is_drawn_before_the_dose(trial: simulate.Simulated) -> None:
    for h in histories(trial.design, trial.seed):
        sample = next(s for s in h.samples if s.sample_id.endswith("-D10"))
        later = [c for c in h.cytokines if c > 8]
        assert all(sample.time < c for c in later)


# ---------------------------------------------------------------------------------------- what trials are like


def test_every_feature_is_named_and_there(trial: simulate.Simulated, written: dict[str, bytes]) -> None:
    f = json.loads(written[f"{TRUTH}/features.json"])
    samples = trial.samples.set_index("sample_id")
    levels = trial.levels.set_index("sample_id")
    runs_of = runs(written)
    on = {name: set(frame["Sample Name"]) for name, frame in runs_of.items()}
    everywhere = set().union(*on.values())

    assert [samples.loc[s, "state"] for s in f["missed_visit"]] == ["not_done"]
    assert {samples.loc[s, "state"] for s in f["pending"]} == {"pending"} and f["ongoing"] == ["009"]
    assert not everywhere & {*f["missed_visit"], *f["pending"]}
    assert [samples.loc[s, "visit"] for s in f["unscheduled"]] == ["Unscheduled"]
    off = (levels["time"] - samples.loc[levels.index, "time_nominal"]).dropna()
    assert set(off[off < -1].index) == set(f["early"]) and len(f["early"]) == 1
    assert set(off[off > 1].index) == set(f["late"]) and len(f["late"]) == 1
    low = samples[samples["ng_input"] < 200]["ng_input"].to_dict()
    assert low == f["low_input"] and levels.loc[min(low, key=low.get), "lloq"] == 200

    (failed,) = f["failed_run"]
    slopes = {name: frame.loc[frame["Target Name"] == "CAR", "Slope"].iloc[0] for name, frame in runs_of.items()}
    assert {name for name, slope in slopes.items() if not -3.6 <= slope <= -3.1} == {f"{failed}.txt"}
    others = set().union(*(names for name, names in on.items() if not name.startswith(failed)))
    assert set(f["rerun_after_failed_run"]) <= others and not set(f["lost_with_failed_run"]) & others
    assert set(f["lost_with_failed_run"]) < on[f"{failed}.txt"]

    ((sample, twice),) = f["reassayed"].items()
    assert [name for name, names in on.items() if sample in names] == [f"{twice[0]}.txt", f"{twice[1]}.xlsx"]
    first, second = (runs_of[n] for n in (f"{twice[0]}.txt", f"{twice[1]}.xlsx"))
    cv = [
        100 * rows["Quantity"].std() / rows["Quantity"].mean()
        for rows in (r[(r["Sample Name"] == sample) & (r["Target Name"] == "CAR")] for r in (first, second))
    ]
    assert cv[0] > 25 > cv[1]

    run, sample = f["omitted_well"]
    rows = runs_of[f"{run}.xlsx"]
    assert (
        rows.loc[(rows["Sample Name"] == sample) & (rows["Omit"].astype(str) == "True"), "CT"].isna().tolist()
        == [True] * 2
    )
    copies = [p for p in written if f["duplicate_export"] in p]
    assert len(copies) == 2 and written[copies[0]] == written[copies[1]]

    given = trial.infusions.assign(share=trial.infusions["given"] / trial.infusions["planned"])
    short = given[given["share"] < 0.9]
    reduced = {
        p: {str(k): round(v, 6)} for p, k, v in short[["patient_id", "infusion", "share"]].itertuples(index=False)
    }
    assert reduced == f["reduced_infusion"]
    pulses = trial.cytokines.groupby("patient_id").size()
    assert set(pulses[pulses < 4].index) == set(f["cytokine_withheld"]) and pulses.max() == 4
    events = trial.events
    assert set(events.loc[events["event"] == "tocilizumab", "patient_id"]) == set(f["tocilizumab"]) == {"007"}
    assert events[events["event"] == "crs"].groupby("patient_id")["grade"].max().to_dict() == f["crs_grade"]
    assert [p for p, own in trial.truth["patients"].items() if own["rho"] == 0] == f["non_expander"] == ["002"]
    peak = levels.assign(reaction=levels["copies"]).groupby("patient_id")["reaction"].max()
    assert set(peak[peak < 10].index) == set(f["never_above_lloq"]) == {"008"}
    ends = trial.patients.set_index("patient_id")
    for status in ("death", "withdrawal", "ongoing"):
        assert [p for p in ends.index if ends.loc[p, "status_end"] == status] == f[status] and len(f[status]) == 1
    gone = ends.loc[[*f["death"], *f["withdrawal"]], "time_end"]
    assert all(levels.loc[levels["patient_id"] == p, "time"].max() <= end for p, end in gone.items())
    assert set(events.loc[events["event"] == "death", "patient_id"]) == set(f["death"])
    assert set(ends.index[ends["dll3_high"]]) == set(f["dll3_high"])
    assert ends[ends["dll3_high"]].groupby("dose_level").size().min() >= 1
    absolute = trial.samples[trial.samples["collected_at"] != ""]["patient_id"].unique()
    assert set(ends.index) - set(absolute) == set(f["elapsed_times"])


def test_what_is_on_the_plates_is_in_the_manifest_and_the_reverse(
    trial: simulate.Simulated, written: dict[str, bytes]
) -> None:
    drawn = set(trial.samples.loc[trial.samples["state"] == "", "sample_id"])
    named = {n for frame in runs(written).values() for n in frame.loc[frame["Task"] == "UNKNOWN", "Sample Name"]}
    assert named - set(trial.features["not_samples"]) == drawn


def test_levels_look_like_a_trial(trial: simulate.Simulated) -> None:
    levels = trial.levels[~trial.levels["patient_id"].isin(trial.features["never_above_lloq"])]
    quantifiable = (levels["level"] >= levels["lloq"]).groupby(levels["patient_id"])
    assert quantifiable.sum().between(14, 20).all() and (quantifiable.size() - quantifiable.sum()).ge(2).all()
    assert levels.groupby("patient_id")["level"].max().between(300, 50_000).all()


def test_the_truth_stays_out_of_what_the_workflow_reads(written: dict[str, bytes]) -> None:
    config = yaml.safe_load(written["config/config.yaml"])
    assert config["study"]["notice"].startswith("SIMULATED DATA")
    assert not [v for v in config["inputs"].values() if "truth" in str(v)]
    assert b"SIMULATED" in written["data/raw/README.md"]


def test_the_bundled_configuration_is_valid(root: Path) -> None:
    from nkinetics import settings

    loaded = settings.load(root / "config/config.yaml")
    assert loaded.study.id == "NCT07366658" and loaded.batches == 2
    assert loaded.models.default == "cytokine_window" and loaded.models.constants("cytokine_window").width == 1.5
    assert loaded.assays.qpcr and loaded.assays.ddpcr and loaded.assays.flow


# --------------------------------------------------------------------------------------------- without instruments


def test_observations_follow_the_error_model_of_the_likelihood() -> None:
    scores, logs = [], []
    for seed in range(30):
        observed = simulate.observations(seed)
        joined = observed.observations.merge(observed.levels, on=["patient_id", "sample_id"], suffixes=("", "_true"))
        seen = joined[(joined["status"] == "quantified") & (joined["n_molecules"] > 300)]
        error = np.log(seen["level"] / seen["level_true"])
        logs.extend(error)
        scores.extend(error / np.sqrt(0.35**2 + 1 / seen["n_molecules"]))
    # 30 seeds give some 3,500 scores: their SD is known to 1.2 %, their mean to 0.017.
    assert len(scores) > 3000
    assert np.std(scores) == pytest.approx(1.0, abs=0.04)
    assert np.mean(scores) == pytest.approx(0.0, abs=0.06)
    assert np.std(logs) == pytest.approx(0.35, abs=0.02)


def test_observations_have_their_status_from_the_limits_of_their_own_row() -> None:
    o = simulate.observations(3).observations
    value = o["n_molecules"] / o["n_replicates"].astype(float) / o["ng_input"] * 1000
    assert (value[o["status"] == "quantified"] >= o["lloq"][o["status"] == "quantified"]).all()
    blq = o["status"] == "blq"
    assert (value[blq] < o["lloq"][blq]).all() and (value[blq] >= o["lod"][blq]).all()
    nd = o["status"] == "not_detected"
    assert (value[nd] < o["lod"][nd]).all()
    assert o.loc[blq | nd, "level"].isna().all() and o.loc[o["status"] == "quantified", "level"].notna().all()
    assert {"quantified", "blq", "not_detected"} == set(o["status"])
    first = o[o["sample_id"].str.endswith("D1-PRE")]
    assert (first["infusion"] == 0).all() and first["time_after_dose"].isna().all() and first["predose"].all()


def test_observations_share_patients_and_levels_with_the_study(trial: simulate.Simulated) -> None:
    observed = simulate.observations(1)
    levels = observed.levels.set_index("sample_id")["level"]
    assert trial.levels.set_index("sample_id")["level"].equals(levels)
    own = observed.truth.set_index("patient_id")
    for patient, row in trial.truth["patients"].items():
        assert own.loc[patient, "delta"] == pytest.approx(row["delta"], rel=1e-9)


def test_a_design_without_mishaps_draws_every_planned_sample() -> None:
    design = simulate.NCT07366658.without_mishaps()
    histories_ = histories(design, 5)
    assert all(s.state in ("", "pending") for h in histories_ for s in h.samples)
    assert {s.ng_input for h in histories_ for s in h.samples if s.time is not None} == {200.0}


def test_a_run_that_does_not_fit_on_its_plate_is_refused(trial: simulate.Simulated) -> None:
    everyone = tuple(p.patient_id for p in trial.design.patients)
    run = dataclasses.replace(trial.design.runs[0], patients=everyone)
    with pytest.raises(ValueError, match="a plate has 384"):
        assays.plate(trial.design, 1, run, histories(trial.design, 1))


def test_the_true_curve_of_a_run_is_recovered_within_its_noise(trial: simulate.Simulated) -> None:
    for run in trial.design.runs:
        wells = assays.plate(trial.design, 1, run, histories(trial.design, 1))
        curve = quantstudio.fitted(wells, assays.TARGET)
        # 21 wells; the lowest calibrator's Poisson noise leads: SD of the slope about 0.03.
        assert curve.slope == pytest.approx(run.slope, abs=0.12)


# ------------------------------------------------------------------------------- through the readers and back again


@pytest.fixture(scope="module")
def ingested(root: Path):
    from nkinetics import ingest, settings

    return ingest.run(settings.load(root / "config/config.yaml"), root)


@pytest.fixture(scope="module")
def against_truth(ingested, trial: simulate.Simulated) -> pd.DataFrame:
    """Reportable quantified observations with the truth of their sample."""
    seen = ingested.observations
    seen = seen[seen["reportable"] & (seen["status"] == "quantified")]
    joined = seen.merge(trial.levels, on=["sample_id", "patient_id"], suffixes=("", "_true"), validate="many_to_one")
    flow = joined["assay"] == "flow"
    true = joined["cells_per_ul"].where(flow, joined["level_true"])
    sigma = np.where(flow, trial.truth["sigma_flow"], trial.truth["sigma"])
    error = np.log(joined["level"] / true)
    return joined.assign(error=error, score=error / np.sqrt(sigma**2 + 1 / joined["n_molecules"]))


def test_every_export_of_the_bundled_study_is_read(ingested, written: dict[str, bytes]) -> None:
    exports = {p for p in written if p.startswith("data/raw/") and not p.endswith("README.md")}
    assert {r.label for r in ingested.file_reports} == exports
    assert not ingested.problems and not any(r.problems for r in ingested.file_reports)
    assert [r.label for r in ingested.file_reports if r.duplicate_of] == ["data/raw/qpcr/NEUK203-13_Q05_copy.txt"]


def test_observed_levels_lie_within_their_error_of_the_truth(against_truth: pd.DataFrame) -> None:
    sizes = against_truth.groupby("assay").size()
    assert sizes["qpcr"] > 120 and sizes["ddpcr"] > 25 and sizes["flow"] > 50
    # Some 230 normal scores: a share of 0.0027 lies outside 3, and none outside 4.5.
    assert (against_truth["score"].abs() > 3).sum() <= 3 and against_truth["score"].abs().max() < 4.5
    spread = against_truth.groupby("assay")["score"].std()
    assert spread.between(0.7, 1.3).all()


def test_the_assays_report_the_extract_within_their_own_noise(against_truth: pd.DataFrame) -> None:
    molecular = against_truth[against_truth["assay"] != "flow"]
    left = molecular["error"] - np.log(molecular["extract"])
    # Beyond the extract: counting, and for qPCR the noise of wells and of the run's curve.
    assert (left.abs() < 3 * np.sqrt(1 / molecular["n_molecules"] + 0.08**2)).mean() > 0.98
    assert left.groupby(molecular["assay"]).mean().abs().max() < 0.08


def test_the_highest_observed_level_of_each_patient_is_near_its_truth(against_truth: pd.DataFrame) -> None:
    qpcr = against_truth[against_truth["assay"] == "qpcr"]
    peaks = qpcr.loc[qpcr.groupby("patient_id")["level"].idxmax()]
    assert len(peaks) == 8
    assert (peaks["error"].abs() <= 3 * np.sqrt(0.35**2 + 1 / peaks["n_molecules"])).all()


def test_what_trials_are_like_arrives_in_the_observations(ingested, trial: simulate.Simulated) -> None:
    f, all_ = trial.features, ingested.observations
    qpcr = all_[all_["assay"] == "qpcr"].set_index("sample_id")
    reported = qpcr[qpcr["reportable"]]
    assert reported.index.is_unique

    (failed,) = f["failed_run"]
    accepted = ingested.runs.set_index(["run_id", "target"])["accepted"]
    assert {run for (run, target), ok in accepted.items() if target == "CAR" and not ok} == {failed}
    assert (qpcr.loc[qpcr["run_id"] == failed, "status"] == "failed").all()
    assert not set(f["lost_with_failed_run"]) & set(reported.index)
    assert (reported.loc[list(set(f["rerun_after_failed_run"]) & set(reported.index)), "run_id"] != failed).all()
    ((again, (first, second)),) = f["reassayed"].items()
    assert reported.loc[again, "run_id"] == second and set(qpcr.loc[[again], "run_id"]) == {first, second}

    assert qpcr.loc[f["missed_visit"], "status"].eq("not_done").all()
    assert qpcr.loc[f["pending"], "status"].eq("not_done").all()
    for sample, ng in f["low_input"].items():
        assert reported.loc[sample, "lloq"] == pytest.approx(10 / ng * 1000)
    assert reported.loc[f["unscheduled"], "visit"].eq("Unscheduled").all()
    assert not reported.loc[reported["patient_id"].isin(f["never_above_lloq"]), "status"].eq("quantified").any()
    assert not set(f["not_samples"]) & set(all_["sample_id"])
    run, sample = f["omitted_well"]
    assert reported.loc[sample, "n_replicates"] == 2 and reported.loc[sample, "run_id"] == run


def test_a_trace_in_one_well_is_not_taken_for_a_level_above_the_lod(ingested, trial: simulate.Simulated) -> None:
    # Late samples hold a molecule in one well of three; claiming LOD to LLOQ for them bends the tail upwards.
    rows = ingested.observations
    rows = rows[(rows["assay"] == "qpcr") & (rows["status"] == "blq") & rows["reportable"]]
    seen = rows["n_molecules"] / rows["n_replicates"].astype(float)
    assert (rows["lod"].isna() == (seen < trial.truth["lod_copies"])).all() and rows["lod"].isna().sum() >= 5


def test_times_and_amounts_arrive_as_they_were(ingested, trial: simulate.Simulated) -> None:
    times = trial.levels.set_index("sample_id")["time"]
    seen = ingested.observations.dropna(subset="time_actual").set_index("sample_id")["time_actual"]
    seen = seen[seen.index.isin(times.index)]
    assert (seen - times.loc[seen.index]).abs().max() < 1e-4
    for patient, own in trial.truth["patients"].items():
        rows = ingested.study.infusions
        rows = rows[rows["patient_id"] == patient].sort_values("infusion")
        assert rows[["time", "given"]].to_numpy().tolist() == [pytest.approx(i, abs=1e-4) for i in own["infusions"]]
        pulses = ingested.study.cytokines
        assert sorted(pulses.loc[pulses["patient_id"] == patient, "time"]) == pytest.approx(own["cytokines"], abs=1e-4)


# -------------------------------------------------------------------------------------- what the fits make of the truth


def _loss_rates(fitted: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Whether the true delta lies in its interval, by row of the estimates (an open end holds everything)."""
    rows = fitted[fitted["parameter"] == "delta"].merge(truth, on="patient_id", validate="many_to_one")
    return ~(rows["ci_lower"] > rows["delta"]) & ~(rows["ci_upper"] < rows["delta"])


def test_the_true_loss_rate_lies_in_its_interval_for_most_patients(ingested, trial: simulate.Simulated) -> None:
    from nkinetics import fitting

    truth = pd.DataFrame([{"patient_id": p, "delta": v["delta"]} for p, v in trial.truth["patients"].items()])
    observed = ingested.observations
    fitted = fitting.analyse(
        observed[observed["assay"] == "qpcr"],
        ingested.study.infusions,
        ingested.study.cytokines,
        settings=ingested.settings.models,
        reference_dose=ingested.settings.study.reference_dose,
        models=("cytokine_window",),
    )
    inside = _loss_rates(fitted.estimates, truth)
    assert len(inside) == 8 and inside.sum() >= 6


@pytest.mark.long
def test_the_interval_of_the_loss_rate_holds_the_truth_as_often_as_it_says() -> None:
    from nkinetics import fitting
    from nkinetics.settings import Models

    inside = []
    for seed in range(200):
        o = simulate.observations(seed)
        fitted = fitting.analyse(
            o.observations,
            o.infusions,
            o.cytokines,
            settings=Models(),
            reference_dose=simulate.NCT07366658.reference_dose,
            models=("cytokine_window",),
        )
        inside.append(_loss_rates(fitted.estimates, o.truth[["patient_id", "delta"]]))
    # 1600 profiles: the share is known to 0.55 percentage points.
    assert sum(map(len, inside)) >= 1590
    assert 0.92 <= pd.concat(inside).mean() <= 0.98
