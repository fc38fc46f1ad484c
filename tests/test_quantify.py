"""Raw rows to levels: the curve, partitions and events, by hand and against printed results."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from nkinetics import readers
from nkinetics.columns import RAW, SAMPLES
from nkinetics.quantify import dpcr, flow, listing, qpcr
from nkinetics.settings import Ddpcr, Flow, Qpcr, Settings
from nkinetics.store import complete

SLOPE, INTERCEPT = -3.32, 38.0


def ct_of(copies: float) -> float:
    return INTERCEPT + SLOPE * math.log10(copies)


def raw_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    for i, row in enumerate(rows):
        row.setdefault("source_row", i + 2)
    common = {"source_file": "data/raw/a.txt", "source_sha256": "ab", "run_id": "R1", "reader": "quantstudio"}
    return complete(pd.DataFrame([{**common, "omitted": False, **row} for row in rows]), RAW)


def manifest(**of_sample: dict[str, object]) -> pd.DataFrame:
    rows = [{"sample_id": s, "patient_id": "001", **values} for s, values in of_sample.items()]
    return complete(pd.DataFrame(rows), SAMPLES)


def ct_row(
    sample: str, role: str, ct: float | None, quantity: float = math.nan, target: str = "CAR", **more: object
) -> dict:
    return {
        "sample_id": sample,
        "role": role,
        "target": target,
        "measure": "ct",
        "quantity": quantity,
        "value": math.nan if ct is None else ct,
        "value_raw": "Undetermined" if ct is None else f"{ct:.3f}",
        "detection": "not_detected" if ct is None else "quantified",
        **more,
    }


def plate(*wells: dict, slope: float = SLOPE, ntc: float | None = None, levels: range = range(1, 7)) -> pd.DataFrame:
    standards = [ct_row("STD", "standard", INTERCEPT + slope * k, 10.0**k) for k in levels for _ in range(2)]
    return raw_frame([*standards, ct_row("NTC", "ntc", ntc), *wells])


def replicates(sample: str, *copies: float | None, target: str = "CAR") -> list[dict]:
    return [ct_row(sample, "unknown", None if n is None else ct_of(n), target=target) for n in copies]


def only(made: object) -> dict:
    assert len(made.levels) == 1
    return made.levels.iloc[0].to_dict()


SAMPLE = manifest(S1={"ng_input": 200.0, "template_ul": 5.0, "elution_ul": 100.0, "blood_ml": 2.0})


# ---------------------------------------------------------------------------------------------------------------- curve


@given(
    st.floats(-4.5, -2.8),
    st.floats(20, 45),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 7), min_size=3, max_size=9, unique=True),
)
def test_the_curve_returns_the_copies_that_made_it_and_moves_with_their_unit(slope, intercept, scale, logs):
    copies = 10 ** np.unique(np.round(logs, 3))
    if len(copies) < 2:
        return
    ct = intercept + slope * np.log10(copies)
    curve = qpcr.standard_curve(ct, copies)
    assert curve.slope == pytest.approx(slope) and curve.intercept == pytest.approx(intercept)
    assert curve.r_squared == pytest.approx(1)
    assert qpcr.copies_per_reaction(ct, curve.slope, curve.intercept) == pytest.approx(copies)
    other = qpcr.standard_curve(ct, copies * scale)
    assert other.slope == pytest.approx(curve.slope, rel=1e-6)
    assert qpcr.copies_per_reaction(ct, other.slope, other.intercept) == pytest.approx(copies * scale, rel=1e-6)


def test_a_slope_of_one_over_log2_per_cycle_is_an_efficiency_of_100_percent():
    assert qpcr.StandardCurve(-1 / math.log10(2), 38, 1, 6).efficiency == pytest.approx(100)


def test_the_curve_is_the_least_squares_line():
    x, y = np.array([10.0, 100, 1000, 1e4]), np.array([34.9, 31.2, 28.3, 24.6])
    curve = qpcr.standard_curve(y, x)
    slope, intercept = np.polyfit(np.log10(x), y, 1)
    assert (curve.slope, curve.intercept) == pytest.approx((slope, intercept))
    assert curve.r_squared == pytest.approx(np.corrcoef(np.log10(x), y)[0, 1] ** 2)


# ----------------------------------------------------------------------------------------------------------- acceptance


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slope": -3.9}, "slope -3.900 (efficiency 80.5 %) outside -3.6 to -3.1"),
        ({"slope": -3.0}, "outside -3.6 to -3.1"),
        ({"levels": range(1, 5)}, "4 calibrator levels, fewer than 5"),
        ({"ntc": ct_of(50)}, "a no-template control is detected at or above the LOD"),
    ],
)
def test_each_criterion_refuses_a_run_with_its_value_and_its_rows_stay(changes, words):
    made = qpcr.quantify(plate(*replicates("S1", 100, 100, 100), **changes), SAMPLE, Qpcr())
    assert not made.runs["accepted"].item() and words in made.runs["reason"].item()
    level = only(made)
    assert level["status"] == "failed" and math.isnan(level["level"]) and words in level["exclusion_reason"]


def test_a_run_whose_levels_do_not_read_back_is_refused():
    wells = plate(*replicates("S1", 100, 100, 100))
    standards = wells["role"] == "standard"
    shift = wells["quantity"].map({1e2: 0.6, 1e3: -0.6, 1e4: 0.6, 1e5: -0.6}).fillna(0)
    made = qpcr.quantify(wells.assign(value=wells["value"] + shift.where(standards, 0)), SAMPLE, Qpcr())
    run = made.runs.iloc[0]
    assert run["r_squared"] > 0.98 and -3.6 < run["slope"] < -3.1
    assert "calibrator levels read back within 25 % (30 % at the lowest), fewer than 75 %" in run["reason"]


def test_a_control_below_the_lod_does_not_refuse_a_run():
    made = qpcr.quantify(plate(*replicates("S1", 100, 100, 100), ntc=ct_of(2)), SAMPLE, Qpcr())
    assert made.runs["accepted"].item() and made.runs["ntc_ok"].item()


def test_a_plate_without_a_control_is_said_not_passed_over():
    wells = plate(*replicates("S1", 100, 100, 100))
    made = qpcr.quantify(wells[wells["role"] != "ntc"], SAMPLE, Qpcr())
    assert made.runs["ntc_ok"].isna().all() and "no no-template control" in made.warnings[0]


def test_a_run_without_standards_is_refused_not_guessed():
    wells = plate(*replicates("S1", 100, 100, 100))
    made = qpcr.quantify(wells[wells["role"] != "standard"], SAMPLE, Qpcr())
    assert "no standard curve" in made.runs["reason"].item() and only(made)["status"] == "failed"


@pytest.mark.shared
@pytest.mark.parametrize("widened", [False, True])
def test_a_real_curve_of_80_percent_efficiency_is_refused_and_accepted_when_the_rule_is_widened(shared: Path, widened):
    (path,) = (shared / "exports" / "quantstudio" / "auto-qpcr").glob("*GAPDH.csv")
    raw, _ = readers.read_export(path, path.parent, Settings())
    samples = manifest(**{s: {"ng_input": 10.0} for s in set(raw["sample_id"]) - {""}})
    rule = {"slope_min": -4.2} if widened else {}
    settings = Qpcr(target_pattern="^GAPDH$", acceptance=rule, lloq_copies=0.003, lod_copies=0.001)
    made = qpcr.quantify(raw, samples, settings)
    run = made.runs.iloc[0]
    assert round(run["slope"], 3) == -3.919 and round(run["intercept"], 3) == 25.519
    assert round(run["r_squared"], 4) == 0.9980 and round(run["efficiency"], 2) == 79.97
    assert bool(run["accepted"]) is widened
    if widened:
        assert run["reason"] == "" and (made.levels["status"] == "quantified").any()
    else:
        assert run["reason"] == "slope -3.919 (efficiency 80.0 %) outside -3.6 to -3.1"
        assert set(made.levels["status"]) == {"failed"}


@pytest.mark.shared
def test_quantities_read_from_the_real_curve_are_those_that_the_software_printed(shared: Path):
    import csv

    (path,) = (shared / "exports" / "quantstudio" / "auto-qpcr").glob("*GAPDH.csv")
    raw, _ = readers.read_export(path, path.parent, Settings())
    on_curve = raw[(raw["role"] == "standard") & raw["value"].notna() & ~raw["omitted"].astype(bool)]
    curve = qpcr.standard_curve(on_curve["value"].to_numpy(), on_curve["quantity"].to_numpy())
    with path.open(encoding="utf-8-sig", newline="") as handle:
        lines = list(csv.reader(handle))
    header = next(line for line in lines if "Quantity" in line)
    printed = {
        line[header.index("Well Position")]: float(line[header.index("Quantity")])
        for line in lines
        if len(line) > 11 and line[header.index("Task")] == "UNKNOWN" and line[header.index("Quantity")]
    }
    unknown = raw[(raw["role"] == "unknown") & raw["value"].notna()].set_index("well")["value"]
    assert len(printed) > 40
    for well, quantity in printed.items():
        found = qpcr.copies_per_reaction(np.array([unknown[well]]), curve.slope, curve.intercept)[0]
        # Ct and quantities are printed with three decimals and the slope differs in its fourth.
        assert found == pytest.approx(quantity, rel=2e-3, abs=6e-4), well


# --------------------------------------------------------------------------------------------------------------- levels


def test_copies_per_microgram_and_its_limits_by_hand():
    level = only(qpcr.quantify(plate(*replicates("S1", 90, 100, 110)), SAMPLE, Qpcr()))
    assert level["status"] == "quantified" and level["level_unit"] == "copies/ug"
    assert level["level"] == pytest.approx(500)  # 100 copies in 200 ng
    assert (level["lod"], level["lloq"]) == pytest.approx((15, 50))
    assert level["uloq"] == pytest.approx(5e6)  # the highest calibrator, 1e6 copies
    assert level["n_molecules"] == pytest.approx(300) and level["n_replicates"] == 3
    assert level["cv_pct"] == pytest.approx(10)


def test_the_lloq_rises_as_the_dna_falls():
    made = qpcr.quantify(plate(*replicates("S1", 100, 100, 100)), manifest(S1={"ng_input": 50.0}), Qpcr())
    assert (only(made)["lloq"], only(made)["level"]) == pytest.approx((200, 2000))


def test_copies_per_millilitre_of_blood_by_hand():
    settings = Qpcr(level_unit="copies/mL", recovery=0.5)
    level = only(qpcr.quantify(plate(*replicates("S1", 100, 100, 100)), SAMPLE, settings))
    assert level["level"] == pytest.approx(100 / 5 * 100 / 2 / 0.5)
    assert level["lloq"] == pytest.approx(10 / 5 * 100 / 2 / 0.5)


def test_copies_per_cell_is_twice_the_ratio_to_the_reference_gene():
    gene = [ct_row("STD", "standard", ct_of(10.0**k), 10.0**k, target="RNaseP") for k in range(1, 7)]
    wells = plate(*replicates("S1", 100, 100, 100), *gene, *replicates("S1", 20000, 20000, target="RNaseP"))
    settings = Qpcr(level_unit="copies/cell", reference_pattern="RNaseP")
    made = qpcr.quantify(wells, SAMPLE, settings)
    assert only(made)["level"] == pytest.approx(2 * 100 / 20000)
    assert made.runs["target"].tolist() == ["CAR", "RNaseP"]


@pytest.mark.parametrize(
    ("copies", "status"),
    [
        ((100, 100, None), "quantified"),
        ((8, None, None), "blq"),
        ((None, None, None), "not_detected"),
        ((8, 9, 9), "blq"),
        ((1, 2, None), "blq"),
        ((2e6, 2e6, 2e6), "above_uloq"),
    ],
)
def test_status_follows_the_replicates_and_the_limits(copies, status):
    level = only(qpcr.quantify(plate(*replicates("S1", *copies)), SAMPLE, Qpcr()))
    assert level["status"] == status and level["exclusion_reason"] == ""
    assert math.isnan(level["level"]) == (status != "quantified")
    assert level["lloq"] == pytest.approx(50)


def test_an_empty_replicate_of_a_high_level_is_no_zero_in_its_mean():
    level = only(qpcr.quantify(plate(*replicates("S1", 100, 100, None)), SAMPLE, Qpcr()))
    assert level["level"] == pytest.approx(500) and level["n_molecules"] == pytest.approx(200)


def test_replicates_that_disagree_are_not_reported():
    level = only(qpcr.quantify(plate(*replicates("S1", 100, 200, 300)), SAMPLE, Qpcr()))
    assert level["status"] == "failed" and level["exclusion_reason"] == "replicate CV 50.0 % above 25 %"


def test_near_the_lloq_the_wider_limit_of_the_cv_applies():
    # CV of 14, 20, 26 is 30 %: rounding of the Ct apart, just allowed within a factor 3 of ten copies.
    assert only(qpcr.quantify(plate(*replicates("S1", 14.5, 20, 25.5)), SAMPLE, Qpcr()))["status"] == "quantified"
    assert only(qpcr.quantify(plate(*replicates("S1", 145, 200, 255)), SAMPLE, Qpcr()))["status"] == "failed"


def test_a_ct_beyond_the_last_cycle_is_no_detection():
    settings = Qpcr(ct_max=34)
    level = only(qpcr.quantify(plate(*replicates("S1", 9, 9, 9), levels=range(2, 8)), SAMPLE, settings))
    assert ct_of(9) > 34 and level["status"] == "not_detected"


def test_an_omitted_well_is_set_aside_and_the_others_count():
    rows = replicates("S1", 100, 100, 1e5)
    rows[2]["omitted"] = True
    wells = plate(*rows)
    made = qpcr.quantify(wells, SAMPLE, Qpcr())
    assert only(made)["level"] == pytest.approx(500) and only(made)["n_replicates"] == 2
    assert list(made.set_aside.values()) == ["omitted by the operator in the instrument software"]


def test_one_replicate_left_of_a_high_level_fails_rather_than_being_called_blq():
    rows = replicates("S1", 1000, 1000, 1000)
    for row in rows[1:]:
        row["omitted"] = True
    level = only(qpcr.quantify(plate(*rows), SAMPLE, Qpcr()))
    assert level["status"] == "failed" and level["exclusion_reason"] == "1 usable replicate, fewer than 2"


def test_dna_input_that_the_manifest_lacks_is_asked_for_by_sample_and_column():
    made = qpcr.quantify(plate(*replicates("S1", 100, 100, 100)), manifest(S1={}), Qpcr())
    assert [(n.sample_id, n.column, n.why) for n in made.needs] == [("S1", "ng_input", "needed for copies/ug")]


@pytest.mark.parametrize(
    ("copies", "words"),
    [
        ((None, None), "reference gene not detected"),
        ((20, 20), "inhibition, or less DNA"),
        ((3e6, 3e6), "more DNA than stated"),
    ],
)
def test_a_reference_gene_that_contradicts_the_dna_input_fails_the_sample(copies, words):
    others = [
        s
        for i in range(2, 6)
        for s in (*replicates(f"S{i}", 100, 100, 100), *replicates(f"S{i}", 3e4, 3e4, target="RNaseP"))
    ]
    wells = plate(*replicates("S1", 100, 100, 100), *replicates("S1", *copies, target="RNaseP"), *others)
    samples = manifest(**{f"S{i}": {"ng_input": 200.0} for i in range(1, 6)})
    made = qpcr.quantify(wells, samples, Qpcr(reference_pattern="RNaseP"))
    levels = made.levels.set_index("sample_id")
    assert words in levels.loc["S1", "exclusion_reason"] and levels.loc["S1", "status"] == "failed"
    assert (levels.drop("S1")["status"] == "quantified").all()
    assert set(made.sources[made.sources["sample_id"] == "S2"]["role"]) == {"standard", "ntc", "replicate", "reference"}


def test_the_reference_ct_is_judged_for_its_own_dna_input():
    # A quarter of the DNA gives the reference two cycles later, and that is right.
    wells = [
        s
        for i, n in ((1, 7.5e3), (2, 3e4), (3, 3e4))
        for s in (*replicates(f"S{i}", 100, 100, 100), *replicates(f"S{i}", n, target="RNaseP"))
    ]
    samples = manifest(S1={"ng_input": 50.0}, S2={"ng_input": 200.0}, S3={"ng_input": 200.0})
    settings = Qpcr(reference_pattern="RNaseP", reference_ct_shift_max=0.2)
    assert (qpcr.quantify(plate(*wells), samples, settings).levels["status"] == "quantified").all()


def test_a_target_that_no_pattern_names_is_set_aside_with_its_name():
    made = qpcr.quantify(plate(*replicates("S1", 100, 100, target="IL15")), SAMPLE, Qpcr())
    assert made.levels.empty
    assert set(made.set_aside.values()) == {
        "target IL15 is neither the transgene nor the reference gene of assays.qpcr"
    }


def test_the_order_of_raw_rows_does_not_show():
    wells = plate(*replicates("S1", 90, 100, 110))
    one, two = (qpcr.quantify(w, SAMPLE, Qpcr()) for w in (wells, wells.iloc[::-1]))
    for name in ("levels", "runs", "sources"):
        assert getattr(one, name).equals(getattr(two, name)), name


# ----------------------------------------------------------------------------------------------------------------- dPCR


def drops(
    sample: str, k: int, n: int, role: str = "unknown", printed: float | None = None, well: str = "A1", **more: object
) -> dict:
    value = -math.log(1 - k / n) / 0.85 * 1000 if printed is None and 0 < k < n else printed
    return {
        "sample_id": sample,
        "role": role,
        "target": "CAR",
        "measure": "partitions",
        "reader": "qx_manager",
        "well": well,
        "n_partitions": n,
        "n_positive": k,
        "value": math.nan if value is None else value,
        "value_raw": "No Call" if value is None else f"{value:.9g}",
        "detection": "quantified" if value else "not_detected",
        **more,
    }


def test_copies_per_microgram_from_partitions_by_hand():
    k, n = 7869, 20000
    level = only(dpcr.quantify(raw_frame([drops("S1", k, n), drops("NTC", 0, n, "ntc")]), SAMPLE, Ddpcr()))
    per_ul = -math.log(1 - k / n) / 0.85 * 1000
    assert level["level"] == pytest.approx(per_ul * 20 / 200 * 1000) and level["status"] == "quantified"
    assert level["lloq"] == pytest.approx(50) and level["lod"] == pytest.approx(15)


def test_replicates_are_pooled_by_their_partitions_not_by_their_concentrations():
    wells = [drops("S1", 200, 20000, well="A1"), drops("S1", 2000, 12000, well="B1")]
    level = only(dpcr.quantify(raw_frame(wells), SAMPLE, Ddpcr()))
    assert level["level"] == pytest.approx(-math.log(1 - 2200 / 32000) / 0.85 * 1000 * 20 / 200 * 1000)
    assert level["n_replicates"] == 2


@pytest.mark.parametrize(
    ("k", "n", "status"),
    [(0, 20000, "not_detected"), (3, 20000, "blq"), (50, 20000, "quantified"), (19900, 20000, "above_uloq")],
)
def test_status_follows_the_partitions(k, n, status):
    level = only(dpcr.quantify(raw_frame([drops("S1", k, n)]), SAMPLE, Ddpcr()))
    assert level["status"] == status and math.isnan(level["level"]) == (status != "quantified")


def test_a_well_with_few_droplets_is_set_aside_and_a_sample_of_such_wells_fails():
    made = dpcr.quantify(raw_frame([drops("S1", 100, 6969), drops("S1", 100, 20000, well="B1")]), SAMPLE, Ddpcr())
    assert list(made.set_aside.values()) == ["6969 accepted partitions, fewer than 10000"]
    assert only(made)["n_replicates"] == 1
    level = only(dpcr.quantify(raw_frame([drops("S1", 100, 6969)]), SAMPLE, Ddpcr()))
    assert level["status"] == "failed" and "6969 accepted partitions" in level["exclusion_reason"]


def test_a_printed_concentration_that_the_partitions_do_not_give_fails_the_well():
    level = only(
        dpcr.quantify(raw_frame([drops("S1", 7869, 20000, printed=600.0), drops("S2", 7869, 20000)]), SAMPLE, Ddpcr())
    )
    assert level["status"] == "failed" and "printed concentration 600 copies/uL" in level["exclusion_reason"]


def test_the_partition_volume_is_told_from_the_printed_concentrations():
    k, n = 7869, 20000
    at_091 = raw_frame([drops("S1", k, n, printed=-math.log(1 - k / n) / 0.91 * 1000)])
    assert dpcr.partition_volume(at_091, Ddpcr()) == 0.91
    assert dpcr.partition_volume(raw_frame([drops("S1", k, n)]), Ddpcr()) == 0.85
    assert dpcr.partition_volume(at_091, Ddpcr(partition_nl=0.8)) == 0.8


def test_a_positive_control_without_template_refuses_the_run():
    made = dpcr.quantify(raw_frame([drops("S1", 500, 20000), drops("NTC", 40, 20000, "ntc")]), SAMPLE, Ddpcr())
    assert not made.runs["accepted"].item() and only(made)["status"] == "failed"


def test_partitions_of_an_unknown_instrument_ask_for_their_volume():
    made = dpcr.quantify(raw_frame([drops("S1", 500, 20000, reader="naica")]), SAMPLE, Ddpcr())
    assert made.levels.empty and "give assays.ddpcr.partition_nl" in made.problems[0]


@examples(deadline=None)  # the first call imports scipy
@given(st.integers(1, 19999))
def test_the_exact_interval_holds_the_estimate_and_the_wilson_interval_is_near(k):
    n = 20000
    rate = dpcr.copies_per_partition(k, n)
    low, high = dpcr.interval(k, n)
    assert low < rate < high
    near = dpcr.interval(k, n, method="wilson")
    assert near[0] < rate < near[1]


def test_the_exact_interval_is_that_of_clopper_and_pearson():
    from scipy.stats import binomtest

    for k, n in ((3, 20000), (7869, 20000), (19990, 20000)):
        reference = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert dpcr.interval(k, n) == pytest.approx((-math.log1p(-reference.low), -math.log1p(-reference.high)))
        wilson = binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert dpcr.interval(k, n, method="wilson") == pytest.approx(
            (-math.log1p(-wilson.low), -math.log1p(-wilson.high))
        )
    assert dpcr.interval(0, 15000)[1] == pytest.approx(-math.log(0.05) / 15000, rel=2e-4)
    assert dpcr.interval(15000, 15000)[1] == math.inf


def test_counting_n_is_the_reciprocal_of_the_relative_variance_seen_in_simulated_wells():
    rng = np.random.default_rng(20260105)
    n = 20000
    for rate in (0.002, 0.2, 2.0):
        k = rng.binomial(n, 1 - math.exp(-rate), size=20000)
        estimates = -np.log1p(-k / n)
        seen = (estimates.mean() / estimates.std()) ** 2
        assert dpcr.counting_n(n * (1 - math.exp(-rate)), n) == pytest.approx(seen, rel=0.05)


@pytest.mark.shared
def test_concentrations_of_a_real_export_follow_from_its_droplets(shared: Path):
    path = shared / "exports" / "qx_manager" / "ddpcr" / "quant.csv"
    raw, _ = readers.read_export(path, path.parent, Settings())
    k, n = raw["n_positive"].astype(float), raw["n_partitions"].astype(float)
    telling = (k > 0) & (k < n) & (raw["value"] > 0)
    assert telling.sum() == 12
    assert dpcr.partition_volume(raw[telling], Ddpcr()) == 0.85
    for row in raw[telling].to_dict("records"):
        assert dpcr.printed_agrees(row["n_positive"], row["n_partitions"], row["value"], row["value_raw"], 0.85, 0.01)


# ----------------------------------------------------------------------------------------------------------------- flow


def events(sample: str, **counts: float) -> list[dict]:
    return [
        {
            "sample_id": sample,
            "role": "unknown",
            "target": gate,
            "measure": "events",
            "value": n,
            "value_raw": f"{n:g}",
            "detection": "quantified",
        }
        for gate, n in counts.items()
    ]


def tube(sample: str, car: float, lymphocytes: float, beads: float = 0) -> list[dict]:
    return events(
        sample, **{"Lymphocytes": lymphocytes, "Lymphocytes/CD56+": 9999, "Lymphocytes/CD56+/CAR+": car, "Beads": beads}
    )


def test_cells_per_microlitre_by_the_lymphocyte_count_of_the_counter():
    made = flow.quantify(raw_frame(tube("S1", 500, 20000)), manifest(S1={"alc_1e9_l": 0.4}), Flow())
    level = only(made)
    assert level["level"] == pytest.approx(0.4 * 1000 * 500 / 20000)
    assert level["lloq"] == pytest.approx(0.4 * 1000 * 50 / 20000) and level["lod"] == pytest.approx(
        0.4 * 1000 * 20 / 20000
    )
    assert level["n_molecules"] == 500 and level["level_unit"] == "cells/uL"
    assert sorted(made.set_aside.values()) == ["gate Beads is not needed", "gate CD56+ is not needed"]


@pytest.mark.parametrize(
    ("count", "status"), [(0, "not_detected"), (19, "not_detected"), (20, "blq"), (49, "blq"), (50, "quantified")]
)
def test_status_follows_the_events(count, status):
    level = only(flow.quantify(raw_frame(tube("S1", count, 20000)), manifest(S1={"alc_1e9_l": 0.4}), Flow()))
    assert level["status"] == status


def test_beads_and_acquired_volume_give_absolute_counts():
    settings = Flow(method="beads", beads_pattern="(?i)beads")
    samples = manifest(S1={"beads": 50000.0, "blood_ml": 0.1})
    level = only(flow.quantify(raw_frame(tube("S1", 500, 20000, beads=5000)), samples, settings))
    assert level["level"] == pytest.approx(500 / 5000 * 50000 / 100)
    samples = manifest(S1={"dilution": 4.0}).assign(volume_ul=80.0)
    level = only(flow.quantify(raw_frame(tube("S1", 500, 20000)), samples, Flow(method="volumetric")))
    assert level["level"] == pytest.approx(500 / 80 * 4)


@pytest.mark.parametrize(
    ("method", "lacking"),
    [("dual_platform", ["alc_1e9_l"]), ("beads", ["beads", "blood_ml"]), ("volumetric", ["volume_ul"])],
)
def test_what_a_method_needs_of_the_manifest_is_named(method, lacking):
    settings = Flow(method=method, beads_pattern="(?i)beads")
    made = flow.quantify(raw_frame(tube("S1", 500, 20000, 5000)), manifest(S1={}), settings)
    assert [n.column for n in made.needs] == lacking


def test_a_gate_that_is_not_found_is_a_problem_with_the_gates_that_are():
    made = flow.quantify(raw_frame(tube("S1", 500, 20000)), manifest(S1={"alc_1e9_l": 0.4}), Flow(gate_pattern="FMC63"))
    assert made.problems == (
        "run R1: no gate matches assays.flow.gate_pattern = 'FMC63'; gates found: "
        "Beads, Lymphocytes, Lymphocytes/CD56+, Lymphocytes/CD56+/CAR+",
    )


def test_a_pattern_that_fits_two_gates_is_a_problem_not_a_choice():
    rows = [*tube("S1", 500, 20000), *events("S1", **{"Lymphocytes/CD3+/CAR+": 7})]
    made = flow.quantify(raw_frame(rows), manifest(S1={"alc_1e9_l": 0.4}), Flow())
    assert "2 gates match (Lymphocytes/CD3+/CAR+, Lymphocytes/CD56+/CAR+)" in made.problems[0]
    whole_path = Flow(gate_pattern=r"CD56\+/CAR\+$")
    assert only(flow.quantify(raw_frame(rows), manifest(S1={"alc_1e9_l": 0.4}), whole_path))["n_molecules"] == 500


def test_no_lymphocytes_give_no_level_and_a_reason():
    level = only(flow.quantify(raw_frame(tube("S1", 500, 0)), manifest(S1={"alc_1e9_l": 0.4}), Flow()))
    assert level["status"] == "failed" and "no event in the denominator gate" in level["exclusion_reason"]


# -------------------------------------------------------------------------------------------------------------- listing


def listed(**cells: object) -> pd.DataFrame:
    row = {
        "sample_id": "r1",
        "patient_id": "001",
        "role": "unknown",
        "measure": "level",
        "assay": "qpcr",
        "level_unit": "copies/ug",
        "value": 500.0,
        "value_raw": "500",
        "detection": "quantified",
        "lloq": 50.0,
    }
    return raw_frame([{**row, **cells}])


@pytest.mark.parametrize(
    ("cells", "status", "level", "lloq"),
    [
        ({}, "quantified", 500, 50),
        ({"value": 20.0}, "blq", math.nan, 50),
        ({"value": math.nan, "detection": "below"}, "blq", math.nan, 50),
        ({"value": 50.0, "detection": "below", "lloq": math.nan}, "blq", math.nan, 50),
        ({"value": math.nan, "detection": "not_detected"}, "not_detected", math.nan, 50),
        ({"value": math.nan, "detection": "above", "uloq": 9e6}, "above_uloq", math.nan, 50),
        ({"value": math.nan, "detection": "above"}, "failed", math.nan, 50),
        ({"value": math.nan, "detection": "not_done"}, "not_done", math.nan, 50),
    ],
)
def test_a_listing_row_keeps_what_it_says(cells, status, level, lloq):
    made, problems = listing.quantify(listed(**cells), {})
    assert not problems
    assert only(made)["status"] == status and only(made)["lloq"] == lloq
    assert only(made)["level"] == pytest.approx(level, nan_ok=True)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ({"value": -1.0, "value_raw": "-1"}, "'-1'"),
        (
            {"value": math.nan, "value_raw": "BLQ", "detection": "below", "lloq": math.nan},
            "no LLOQ for the level 'BLQ'",
        ),
        ({"value": 0.0, "value_raw": "0", "lloq": math.nan}, "no LLOQ for the level '0'"),
        ({"level_unit": "copies/mg"}, "'copies/mg'"),
    ],
)
def test_a_listing_row_that_cannot_be_a_level_is_a_problem_of_its_row(cells, found):
    made, problems = listing.quantify(listed(**cells), {})
    assert made.levels.empty and [(p.file, p.row, p.found) for p in problems] == [("data/raw/a.txt", 2, found)]
