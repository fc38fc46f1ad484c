"""A qPCR run as the QuantStudio software exports it, as text or as a workbook.

Written from the form of real exports: the block of run properties, then the sections; three decimals and thousands
separators in text, single-precision numbers in a workbook. The software computes in double precision and stores single
precision; quantities therefore follow from the printed curve within its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from nkinetics.simulate._xlsx import Cell, workbook
from nkinetics.simulate.assays import CYCLES, REFERENCE, TARGET, Well
from nkinetics.simulate.design import Run

SETUP_COLUMNS = (
    "Well",
    "Well Position",
    "Sample Name",
    "Sample Color",
    "Biogroup Name",
    "Biogroup Color",
    "Target Name",
    "Target Color",
    "Task",
    "Reporter",
    "Quencher",
    "Quantity",
    "Comments",
)
COLUMNS = (
    "Well", "Well Position", "Omit", "Sample Name", "Target Name", "Task", "Reporter", "Quencher", "CT", "Ct Mean",
    "Ct SD", "Quantity", "Quantity Mean", "Quantity SD", "Automatic Ct Threshold", "Ct Threshold",
    "Automatic Baseline", "Baseline Start", "Baseline End", "Comments", "Y-Intercept", "R(superscript 2)", "Slope",
    "Efficiency", "Amp Score", "Cq Conf",
)  # fmt: skip
_DYES = {TARGET: ("FAM", "RGB(176,23,31)", 0.182), REFERENCE: ("VIC", "RGB(0,0,255)", 0.104)}
_SAMPLE_COLOURS = ("RGB(176,23,31)", "RGB(0,0,255)", "RGB(0,139,69)", "RGB(255,127,0)", "RGB(142,56,142)",
                   "RGB(238,44,44)", "RGB(51,161,201)", "RGB(142,142,56)")  # fmt: skip


def single(value: float) -> float:
    """The shortest decimal number that single precision holds in place of this one, as the software stores it.

    Examples
    --------
    >>> single(0.1000000012), single(25.123456789)
    (0.1, 25.123457)
    """
    return float(str(np.float32(value)))


@dataclass(frozen=True)
class Curve:
    """A standard curve as fitted: slope, Ct at one copy, coefficient of determination, efficiency in percent."""

    slope: float
    intercept: float
    r_squared: float
    efficiency: float

    def quantity(self, ct: float) -> float:
        """Copies per reaction of a Ct."""
        return float(10 ** ((ct - self.intercept) / self.slope))


def fitted(wells: Sequence[Well], target: str) -> Curve:
    """Least squares of Ct over log10 copies, calibrators without the undetermined and omitted ones."""
    used = [(w.nominal, w.ct) for w in wells if w.task == "STANDARD" and w.target == target]
    x, y = np.array([(np.log10(n), ct) for n, ct in used if n is not None and ct is not None]).T
    xm, ym = x.mean(), y.mean()
    slope = float(((x - xm) * (y - ym)).sum() / ((x - xm) ** 2).sum())
    intercept = float(ym - slope * xm)
    residual = float(((y - intercept - slope * x) ** 2).sum())
    return Curve(slope, intercept, 1 - residual / float(((y - ym) ** 2).sum()), 100 * (10 ** (-1 / slope) - 1))


def _spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def rows(wells: Sequence[Well]) -> list[list[Cell]]:
    """The rows of the results section, numbers unrounded."""
    curves = {target: fitted(wells, target) for target in _DYES}
    spread = {}
    for key in {(w.sample, w.target) for w in wells}:
        cts = [w.ct for w in wells if (w.sample, w.target) == key and w.ct is not None]
        spread[key] = (*_spread(cts), *_spread([curves[key[1]].quantity(ct) for ct in cts]))
    out: list[list[Cell]] = []
    for i, w in enumerate(wells):
        curve = curves[w.target]
        dye, _, threshold = _DYES[w.target]
        mean, sd, q_mean, q_sd = spread[(w.sample, w.target)]
        quantity = w.nominal if w.task == "STANDARD" else curve.quantity(w.ct) if w.ct is not None else None
        shown = w.task == "UNKNOWN" and not w.omitted
        # Scores are decoration; they follow the row so that they need no random numbers.
        score = (1.16 + 0.013 * (i * 7 % 11), 0.955 + 0.0031 * (i * 5 % 13)) if w.ct is not None else (0.0, 0.0)
        out.append([
            w.position + 1, f"{chr(65 + w.position // 24)}{w.position % 24 + 1}", w.omitted, w.sample, w.target, w.task,
            dye, "NFQ-MGB", None if w.omitted else "Undetermined" if w.ct is None else w.ct,
            None if w.omitted else mean, None if w.omitted else sd, quantity,
            q_mean if shown else None, q_sd if shown else None, True, threshold, True, 3,
            max(4, int(w.ct) - 3) if w.ct is not None else CYCLES - 1, None,
            curve.intercept, curve.r_squared, curve.slope, curve.efficiency, *score,
        ])  # fmt: skip
    return out


def setup(wells: Sequence[Well]) -> list[list[Cell]]:
    """The rows of the sample set-up section."""
    colours = {
        name: _SAMPLE_COLOURS[i % len(_SAMPLE_COLOURS)] for i, name in enumerate(dict.fromkeys(w.sample for w in wells))
    }
    return [
        [
            w.position + 1, f"{chr(65 + w.position // 24)}{w.position % 24 + 1}", w.sample, colours[w.sample], None,
            None, w.target, _DYES[w.target][1], w.task, _DYES[w.target][0], "NFQ-MGB", w.nominal, None,
        ]
        for w in wells
    ]  # fmt: skip


def properties(run: Run) -> list[tuple[str, str]]:
    """The block of run properties above every section."""
    end = datetime.fromisoformat(run.date)
    calibrated = (end - timedelta(days=61)).strftime("%m-%d-%Y")
    listed = [("Block Type", "384-Well Block")]
    for name in ("Background", "Pure Dye FAM", "Pure Dye ROX", "Pure Dye VIC", "ROI", "Uniformity"):
        # The software writes a second blank before the equals sign of these two.
        listed.append((f"Calibration {name} is expired{' ' if name in ('Background', 'ROI') else ''}", "No"))
        listed.append((f"Calibration {name} performed on", calibrated))
    created = end - timedelta(minutes=118)
    stamp = "%Y-%m-%d %H:%M:%S %p CST"
    return [
        *listed,
        ("Chemistry", "TAQMAN"),
        ("Date Created", created.strftime(stamp)),
        ("Experiment Barcode", ""),
        ("Experiment Comment", "SIMULATED"),
        ("Experiment File Name", f"D:\\QS7\\NEUK203-13\\{run.name}.eds"),
        ("Experiment Name", run.name),
        ("Experiment Run End Time", end.strftime(stamp)),
        ("Experiment Type", "Standard Curve"),
        ("Instrument Name", "SIMULATOR"),
        ("Instrument Serial Number", "000000000"),
        ("Instrument Type", "QuantStudio(TM) 7 Flex System"),
        ("Passive Reference", "ROX"),
        ("Quantification Cycle Method", "Ct"),
        ("Signal Smoothing On", "true"),
        ("Stage/ Cycle where Analysis is performed", "Stage 2, Step 2"),
        ("User Name", "NA"),
    ]


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{single(value):,.3f}"
    return f'"{value}"' if isinstance(value, str) and "," in value else str(value)


def _section(name: str, header: Sequence[str], body: list[list[Cell]]) -> list[str]:
    # Rows end with their last filled cell, shorter than the header.
    return [f"[{name}]", "\t".join(header), *("\t".join(map(_text, row)).rstrip("\t") for row in body), ""]


def text_export(run: Run, wells: Sequence[Well]) -> bytes:
    """The run as tab-separated text with its sections."""
    lines = [f"* {name} = {value}" for name, value in properties(run)]
    lines += ["", *_section("Sample Setup", SETUP_COLUMNS, setup(wells)), *_section("Results", COLUMNS, rows(wells))]
    return "\n".join(lines).encode("utf-8")


def workbook_export(run: Run, wells: Sequence[Well]) -> bytes:
    """The run as a workbook, one sheet per section with the property block on each."""
    block: list[list[Cell]] = [[name, value] for name, value in properties(run)]
    ct = COLUMNS.index("CT")

    def stored(row: list[Cell]) -> list[Cell]:
        # Ct is widened from single to double precision, everything computed is printed shortest.
        return [
            v if isinstance(v, bool) or not isinstance(v, float) or i == ct else single(v) for i, v in enumerate(row)
        ]

    sheets: dict[str, list[list[Cell]]] = {
        "Sample Setup": [*block, [], list(SETUP_COLUMNS), *map(stored, setup(wells))],
        "Results": [*block, [], list(COLUMNS), *map(stored, rows(wells))],
    }
    created = (datetime.fromisoformat(run.date) - timedelta(hours=8)).isoformat() + "Z"
    return workbook(sheets, created)


def export(run: Run, wells: Sequence[Well]) -> bytes:
    """The run in its own form."""
    return text_export(run, wells) if run.form == "txt" else workbook_export(run, wells)
