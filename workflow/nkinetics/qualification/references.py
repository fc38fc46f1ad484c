"""Controls against the numbers of other programs, from a folder that the user brings.

The folder is laid out as the one that the tests read: ``nca/cases.json`` (results of Phoenix WinNonlin among them),
``nca/<data>.csv`` with ``nca/pknca_<data>_<options>_wide.csv``, ``population/wang2007.csv``. Such numbers belong to
others and are not part of this package; without a folder these controls are not carried out, and the protocol says so.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nkinetics.errors import InputError, Problem
from nkinetics.qualification.control import Control, Outcome, all_close, close

RULES = {"linear": "linear", "lin up/log down": "linear_up_log_down", "lin-log": "linear_log"}
NO_GATES: dict[str, Any] = {"r_squared_adj_min": 0.0, "span_ratio_min": 1e-9, "extrapolation_pct_max": 1e9}
"""Other programs report every half-life; acceptance criteria are ours."""
WINNONLIN = {
    "half_life": "half_life", "lambda_z": "lambda_z", "r_squared": "r_squared", "adj_r_squared": "r_squared_adj",
    "n_points": "lambda_z_n_points", "time_first": "lambda_z_start", "time_last": "lambda_z_end", "tmax": "tmax",
    "cmax": "cmax", "clast": "clast", "tlast": "tlast", "auclast": "auc_last", "aucall": "auc_all",
    "aucinf_obs": "auc_inf_obs", "aucpext_obs": "auc_extrap_pct", "aucinf_pred": "auc_inf_pred",
    "aumclast": "aumc_last", "mrt_obs": "mrt_inf_obs",
}  # fmt: skip
PKNCA = {
    "auclast": "auc_last", "aucall": "auc_all", "aumclast": "aumc_last", "cmax": "cmax", "tmax": "tmax",
    "tlast": "tlast", "clast.obs": "clast", "lambda.z": "lambda_z", "r.squared": "r_squared",
    "adj.r.squared": "r_squared_adj", "lambda.z.n.points": "lambda_z_n_points", "half.life": "half_life",
    "aucinf.obs": "auc_inf_obs", "aucinf.pred": "auc_inf_pred", "aumcinf.obs": "aumc_inf_obs",
    "aucpext.obs": "auc_extrap_pct", "mrt.obs": "mrt_inf_obs",
}  # fmt: skip
ZERO_FIRST = {"first": "zero", "middle": "drop", "last": "zero"}
Pairs = list[tuple[str, float, float]]


def controls(folder: Path) -> tuple[Control, ...]:
    """Controls against the numbers of a folder.

    Parameters
    ----------
    folder : Path
        As the module says.

    Raises
    ------
    InputError
        For a folder without any of the files.
    """
    made: list[Control] = []
    cases = folder / "nca" / "cases.json"
    if cases.is_file():
        made.append(
            Control(
                "OQ-REF-01",
                "NCA-4",
                "Non-compartmental parameters against Phoenix WinNonlin",
                "nca/cases.json",
                lambda: all_close(_winnonlin(json.loads(cases.read_text(encoding="utf-8"))), 1e-6),
            )
        )
    tables = sorted((folder / "nca").glob("pknca_*_kdd_wide.csv"))
    made += [
        Control(
            f"OQ-REF-{k + 2:02d}", "NCA-4", f"Non-compartmental parameters against {path.stem}", f"nca/{path.name}",
            _table(path),
        )
        for k, path in enumerate(tables)
    ]  # fmt: skip
    wang = folder / "population" / "wang2007.csv"
    if wang.is_file():
        made.append(
            Control(
                f"OQ-REF-{len(tables) + 2:02d}",
                "POP-1",
                "Marginal likelihood of a nonlinear model, exact value -1.990 (-2 ln L without its constant)",
                "population/wang2007.csv; exact integral of Wang 2007",
                lambda: _wang(wang),
            )
        )
    if not made:
        raise InputError(
            Problem(
                folder.name,
                column="--references",
                found="no file of reference numbers",
                expected="nca/cases.json, nca/pknca_*_wide.csv or population/wang2007.csv",
                mend="name the folder that holds them, or leave the option out",
            )
        )
    return tuple(made)


def _winnonlin(cases: list[dict[str, Any]]) -> Pairs:
    from nkinetics.nca import profile

    pairs: Pairs = []
    for case in cases:
        if case["kind"] != "winnonlin":
            continue
        route = case["options"]["route"]
        bolus: dict[str, Any] = {"start": "back_extrapolate", "include_tmax": True} if "bolus" in route else {}
        level = np.array([math.nan if v is None else v for v in case["input"]["conc"]], dtype=float)
        rule = RULES[case["options"].get("method", "lin up/log down")]
        one = profile(case["input"]["time"], level, auc_rule=rule, blq=ZERO_FIRST, **NO_GATES, **bolus)
        # Phoenix takes off half the infusion from the residence time; cells are infused in minutes, and we do not.
        taken_off = {"mrt_obs": 0.125 if "infusion 0.25 h" in route else 0.0}
        pairs += [
            (f"{case['id']} {name}", one[ours] - taken_off.get(name, 0.0), float(case["expected"][name]))
            for name, ours in WINNONLIN.items()
            if case["expected"].get(name) is not None
        ]
    return pairs


def _table(path: Path) -> Callable[[], Outcome]:
    def measure() -> Outcome:
        from nkinetics.nca import profile

        _, data, rule, *_ = path.stem.split("_")
        with (path.parent / f"{data}.csv").open(encoding="utf-8") as handle:
            samples = list(csv.DictReader(handle))
        pairs: Pairs = []
        with path.open(encoding="utf-8") as handle:
            for wanted in csv.DictReader(handle):
                own = [row for row in samples if row["subject"] == wanted["subject"]]
                time, level, lloq = (np.array([float(row[c]) for row in own]) for c in ("time", "conc", "lloq"))
                options: dict[str, Any] = {
                    "auc_rule": "linear" if rule == "linear" else "linear_up_log_down",
                    "start": "missing",
                }
                one = profile(time, level, lloq=lloq, **options, **NO_GATES)
                pairs += [
                    (f"{wanted['subject']} {name}", one[ours], float(wanted[name]))
                    for name, ours in PKNCA.items()
                    if wanted.get(name) not in (None, "", "NA")
                ]
        return all_close(pairs, 1e-9)

    return measure


def _wang(path: Path) -> Outcome:
    """Y = 10 exp(-k t) + e, k = 0.5 exp(eta), var eta = 0.04, var e = 0.1, by quadrature over eta."""
    from nkinetics.fitting.likelihood import Points, log_likelihood

    with path.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    total, none = 0.0, np.zeros(0)
    for patient in dict.fromkeys(row["ID"] for row in rows):
        time, level = (np.array([float(r[c]) for r in rows if r["ID"] == patient]) for c in ("Time", "Y"))
        points = Points(time, level, none, none, np.zeros(len(time)))
        curve = 10.0 * np.exp(-0.5 * np.exp(math.sqrt(0.04) * node)[:, None] * time)
        each = log_likelihood(curve, np.full(len(node), 0.5 * math.log(0.1)), points)
        total += math.log(float((weight * np.exp(each)).sum()) / math.sqrt(2 * math.pi))
    return close(-2 * total - len(rows) * math.log(2 * math.pi), -1.990, 1e-3)
