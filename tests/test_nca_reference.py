"""A second, plain implementation of the definitions: one profile, one window, one sample at a time.

It shares no line with the package: logarithms of ratios instead of log1p, numpy.polyfit instead of cumulative sums,
sub-profiles instead of masks. Both must agree to 1e-9 on thousands of random profiles.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nkinetics import nca
from nkinetics.settings import Blq, LambdaZ, ManualPoints, Nca
from scipy import optimize, stats

NAN = math.nan


@dataclass(frozen=True)
class Sample:
    time: float
    level: float | None  # None: below the LLOQ, or above the ULOQ
    lloq: float
    detected: bool
    predose: bool = False
    over: bool = False

    @property
    def present(self) -> bool:
        return self.over or self.level is not None

    def at(self, time: float, predose: bool = False) -> Sample:
        return replace(self, time=time, predose=predose)


@dataclass(frozen=True)
class Window:
    """Samples on the clock of the window; those outside [start, end] only bracket it."""

    samples: list[Sample]
    start: float
    end: float
    first_infusion: bool
    named: bool = False
    infusion: bool = False
    trough: Sample | None = None
    followed: bool = False
    amount: float = NAN
    before: Sample | None = None
    """The pre-dose sample that stands at the start of an infusion's window."""
    reference: Window | None = None
    """The window of the first infusion, for a later one."""


# ------------------------------------------------------------------------------------------------- windows, plainly


def plain_windows(
    samples: list[Sample], infusions: list[float], amounts: list[float], settings: Nca
) -> dict[str, Window]:
    samples = sorted(samples, key=lambda s: s.time)
    study = [s for s in samples if s.time >= 0]
    before = [s for s in samples if s.time < 0]
    if before and not any(s.time == 0 for s in study):
        study = [before[-1].at(0.0), *study]
    out = {"overall": Window(study, 0.0, math.inf, True, amount=sum(amounts))}
    for k, begin in enumerate(infusions):
        until = infusions[k + 1] if k + 1 < len(infusions) else math.inf
        trough = [s for s in samples if s.predose and begin < s.time <= until] if until < math.inf else []
        own = [s for s in samples if s.predose and (k == 0 or infusions[k - 1] < s.time) and s.time <= begin]
        inner = [s for s in samples if begin <= s.time < until and s not in own and s not in trough] + trough
        inner.sort(key=lambda s: s.time)
        shifted = [s.at(s.time - begin, s in trough) for s in inner]
        before_it = None
        if own and not any(s.time == 0 for s in shifted):
            before_it = own[-1]
            shifted = [own[-1].at(0.0), *shifted]
        end = until - begin if until < math.inf else max((s.time for s in shifted), default=0.0) or math.inf
        held = next((s for s in shifted if s.predose), None)
        out[f"infusion_{k + 1}"] = Window(
            shifted,
            0.0,
            end,
            k == 0,
            infusion=True,
            trough=held,
            followed=until < 1e9,
            amount=amounts[k],
            before=before_it,
            reference=out["infusion_1"] if k else None,
        )
    reach = max((s.time for s in samples), default=-math.inf)
    for i, (a, b) in enumerate(settings.windows):
        if i == 0 or reach >= b:
            total = sum(x for t, x in zip(infusions, amounts, strict=True) if t < b)
            out[f"D{a:g}-{b:g}"] = Window(study, a, b, True, named=True, amount=total)
    return out


# ------------------------------------------------------------------------------------------------- numbers, plainly


def substitute(rule: str, lloq: float) -> float | None:
    return {"zero": 0.0, "drop": None, "lloq": lloq, "half_lloq": lloq / 2}[rule]


def plain_curve(window: Window, settings: Nca, blq: Blq) -> list[tuple[float, float]] | None:
    """Points of the curve; None where it has no start."""
    found = [i for i, s in enumerate(window.samples) if s.present]
    points: list[tuple[float, float]] = []
    for i, s in enumerate(window.samples):
        level = s.level
        if not s.present and found:
            rule = blq.first if i < found[0] else blq.last if i > found[-1] else blq.middle
            level = substitute(rule, s.lloq)
        if level is not None:
            points.append((s.time, level))
    if points and points[0][0] > 0:
        rule = settings.start if window.first_infusion else "missing"
        if rule == "missing":
            return None
        start = 0.0
        if rule in ("first", "back_extrapolate"):
            start = points[0][1]
        if rule == "back_extrapolate" and len(points) > 1 and points[0][1] > points[1][1] > 0:
            (t1, c1), (t2, c2) = points[:2]
            start = math.exp(math.log(c1) - (math.log(c2) - math.log(c1)) / (t2 - t1) * t1)
        points.insert(0, (0.0, start))
    return points


def is_log(c1: float, c2: float, t1: float, tmax: float, rule: str) -> bool:
    if rule == "linear" or c1 <= 0 or c2 <= 0 or c1 == c2:
        return False
    return c2 < c1 if rule == "linear_up_log_down" else t1 >= tmax


def plain_area(points: list[tuple[float, float]], a: float, b: float, tmax: float, rule: str) -> tuple[float, float]:
    """Area and first moment of the curve between a and b."""
    areas, moments = [], []
    for (t1, c1), (t2, c2) in itertools.pairwise(points):
        low, high = max(t1, a), min(t2, b)
        if low >= high:
            continue
        logarithmic = is_log(c1, c2, t1, tmax, rule)

        def level(t: float, t1=t1, t2=t2, c1=c1, c2=c2, logarithmic=logarithmic) -> float:
            share = (t - t1) / (t2 - t1)
            return c1 * (c2 / c1) ** share if logarithmic else c1 + (c2 - c1) * share

        y1 = c1 if low == t1 else level(low)
        y2 = c2 if high == t2 else level(high)
        if logarithmic:
            k = math.log(y1 / y2) / (high - low)
            areas.append((y1 - y2) / k)
            moments.append((low * y1 - high * y2) / k + (y1 - y2) / k**2)
        else:
            areas.append((y1 + y2) / 2 * (high - low))
            moments.append((low * y1 + high * y2) / 2 * (high - low))
    return math.fsum(areas), math.fsum(moments)


def plain_level(points: list[tuple[float, float]], at: float, tmax: float, rule: str) -> float:
    """Level of the curve at a time; NaN outside it."""
    for (t1, c1), (t2, c2) in itertools.pairwise(points):
        if t1 <= at <= t2:
            share = (at - t1) / (t2 - t1)
            return c1 * (c2 / c1) ** share if is_log(c1, c2, t1, tmax, rule) else c1 + (c2 - c1) * share
    return points[0][1] if points and points[0][0] == at else NAN


def plain_time_above(points: list[tuple[float, float]], limit: float, a: float, b: float, tmax: float, rule: str):
    """Time above a limit between a and b: from crossing to crossing."""
    times = []
    for (t1, c1), (t2, c2) in itertools.pairwise(points):
        if c1 <= limit and c2 <= limit:
            continue
        low, high = t1, t2
        if not (c1 > limit and c2 > limit):
            of = math.log if is_log(c1, c2, t1, tmax, rule) else float
            crossing = t1 + (t2 - t1) * (of(limit) - of(c1)) / (of(c2) - of(c1))
            low, high = (crossing, t2) if c2 > c1 else (t1, crossing)
        times.append(max(0.0, min(high, b) - max(low, a)))
    return math.fsum(times)


def plain_censored(t: np.ndarray, y: np.ndarray, t_below: np.ndarray, limit: np.ndarray) -> tuple[float, float]:
    """Slope and intercept at t = 0 where the derivatives of the log-likelihood by a, b and ln sigma are zero."""
    slope, intercept = np.polyfit(t, y, 1)
    spread = math.sqrt(((y - intercept - slope * t) ** 2).mean())

    def terms(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        sigma = math.exp(p[2])
        return (y - p[0] - p[1] * t) / sigma, (limit - p[0] - p[1] * t_below) / sigma, sigma

    def minus(p: np.ndarray) -> float:
        r, z, _ = terms(p)
        return -(stats.norm.logpdf(r) - p[2]).sum() - stats.norm.logcdf(z).sum()

    def derivatives(p: np.ndarray) -> list[float]:
        r, z, sigma = terms(p)
        mills = np.exp(stats.norm.logpdf(z) - stats.norm.logcdf(z))
        return [
            (r.sum() - mills.sum()) / sigma,
            ((r * t).sum() - (mills * t_below).sum()) / sigma,
            (r * r - 1).sum() - (mills * z).sum(),
        ]

    start = optimize.minimize(minus, [intercept, slope, math.log(spread)], method="Nelder-Mead").x
    found = optimize.root(derivatives, start, tol=1e-14)
    return float(found.x[1]), float(found.x[0])


def plain_terminal(
    samples: list[Sample], settings: LambdaZ, chosen: ManualPoints | None = None
) -> dict[str, float] | None:
    levels = [(s.time, s.level) for s in samples if s.level is not None]
    if not levels:
        return None
    tmax = min(t for t, c in levels if c == max(c for _, c in levels))
    begins = max([tmax, *(s.time for s in samples if s.over)])
    usable = [(t, c) for t, c in levels if t > begins or (settings.include_tmax and t == begins)]
    numbers = range(settings.points_min, len(usable) + 1)
    if chosen is not None and chosen.include:
        usable = [(t, c) for t, c in levels if t in chosen.include]
        numbers = range(len(usable), len(usable) + 1)
    if chosen is not None and chosen.exclude:
        usable = [(t, c) for t, c in usable if t not in chosen.exclude]
        numbers = range(settings.points_min, len(usable) + 1)
    fits = []
    for n in numbers:
        t = np.array([t for t, _ in usable[-n:]])
        y = np.log([c for _, c in usable[-n:]])
        if np.ptp(y) == 0:
            continue
        slope, intercept = np.polyfit(t - t.mean(), y, 1)
        residual = y - (intercept + slope * (t - t.mean()))
        r2 = 1 - (residual**2).sum() / ((y - y.mean()) ** 2).sum()
        if slope < 0:
            adjusted = 1 - (1 - r2) * (n - 1) / (n - 2)
            predicted = math.exp(intercept + slope * (t[-1] - t.mean()))
            fits.append((adjusted, n, -slope, r2, t[0], t[-1], predicted))
    if not fits:
        return None
    best = max(f[0] for f in fits)
    adjusted, n, rate, r2, start, end, predicted = max(
        (f for f in fits if f[0] >= best - settings.tolerance), key=lambda f: f[1]
    )
    below = [s for s in samples if not s.present and s.time > levels[-1][0]]
    if settings.method == "tobit" and below:
        points = usable[-n:]
        slope, at_end = plain_censored(
            np.array([t - end for t, _ in points]),
            np.log([c for _, c in points]),
            np.array([s.time - end for s in below]),
            np.log([s.lloq for s in below]),
        )
        rate, predicted = -slope, math.exp(at_end)
    # The line at Tlast, which a choice by hand may have left out.
    predicted *= math.exp(-rate * (levels[-1][0] - end))
    return {
        "lambda_z": rate,
        "half_life": math.log(2) / rate,
        "lambda_z_n_points": n,
        "lambda_z_start": start,
        "lambda_z_end": end,
        "r_squared": r2,
        "r_squared_adj": adjusted,
        "corr_xy": -math.sqrt(r2),
        "span_ratio": (end - start) / (math.log(2) / rate),
        "clast_pred": predicted,
    }


def plain_loss(samples: list[tuple[float, bool]], k: int) -> tuple[float, float]:
    """Last presence and loss of (time, present) pairs."""
    last = max((t for t, here in samples if here), default=NAN)
    after = [t for t, here in samples if not here and t > 0 and not t <= last]
    return last, after[0] if len(after) >= k else NAN


@dataclass(frozen=True)
class Whole:
    """What several numbers of a window need of the profile behind it."""

    curve: list[tuple[float, float]] | None
    levels: list[tuple[float, float]]
    fit: dict[str, float] | None
    tmax: float
    accepted: bool


def hidden(window: Window, curve: list[tuple[float, float]], end: float) -> bool:
    """A level above the ULOQ stands on the curve from the start of the window to a time, or on a piece cut there."""
    before = max((t for t, _ in curve if t <= window.start), default=-math.inf)
    after = min((t for t, _ in curve if t >= end), default=math.inf)
    return any(s.over and before <= s.time <= after for s in window.samples)


def plain_whole(window: Window, settings: Nca, blq: Blq, chosen: ManualPoints | None) -> Whole:
    levels = [(s.time, s.level) for s in window.samples if s.level is not None]
    curve = plain_curve(window, settings, blq)
    fit = plain_terminal(window.samples, settings.lambda_z, chosen)
    tmax = min((t for t, c in levels if c == max(c for _, c in levels)), default=NAN)
    # The whole profile decides whether its terminal slope is good enough.
    accepted = False
    if fit is not None and curve is not None:
        t_end, c_end = levels[-1]
        area = plain_area(curve, 0.0, t_end, tmax, settings.auc_rule)[0]
        tail = c_end / fit["lambda_z"]
        limits = settings.lambda_z
        accepted = (
            fit["r_squared_adj"] >= limits.r_squared_adj_min
            and fit["span_ratio"] >= limits.span_ratio_min
            and 100 * tail / (area + tail) <= limits.extrapolation_pct_max
            and t_end > 0
            and not any(s.over for s in window.samples)
        )
    return Whole(curve, levels, fit, tmax, accepted)


def plain_window_area(window: Window, whole: Whole, end: float, rule: str) -> tuple[float, float]:
    """Area from the start of a window to a time, and the share of it that was extrapolated."""
    if not whole.levels or whole.curve is None or not math.isfinite(end) or hidden(window, whole.curve, end):
        return NAN, NAN
    t_end, c_end = whole.levels[-1]
    value = plain_area(whole.curve, window.start, end, whole.tmax, rule)[0]
    if end > t_end and not any(not s.present and s.time > t_end for s in window.samples):
        if window.trough is not None and window.trough.time == t_end:
            value += c_end * (end - t_end)
        elif whole.accepted and whole.fit is not None:
            rate = whole.fit["lambda_z"]
            extra = c_end / rate * (1 - math.exp(-rate * (end - t_end)))
            return value + extra, 100 * extra / (value + extra)
        else:
            return NAN, NAN
    return (value, 0.0) if len(whole.curve) > 1 else (NAN, NAN)


def plain_start_beside_uloq(window: Window, whole: Whole, settings: Nca, blq: Blq) -> float:
    """Level at the start of a window whose profile has a level above the ULOQ."""
    if not whole.levels:
        return NAN
    own = plain_curve(replace(window, first_infusion=True), settings.model_copy(update={"start": "first"}), blq) or []
    real = [t for t, _ in own if any(s.time == t for s in window.samples)]
    imputed = not real or real[0] > 0
    curve = whole.curve if whole.curve is not None else [p for p in own if p[0] in real]
    if not curve or hidden(window, curve, window.start):
        return NAN
    rule = settings.start if window.first_infusion else "missing"
    if imputed and rule in ("first", "back_extrapolate"):
        second = real[1] if len(real) > 1 else math.inf
        if any(s.over and s.time <= second for s in window.samples):
            return NAN
    return plain_level(curve, window.start, whole.tmax, settings.auc_rule)


def plain_parameters(window: Window, settings: Nca, blq: Blq, chosen: ManualPoints | None = None) -> dict[str, float]:
    out = dict.fromkeys((p.name for p in nca.PARAMETERS), NAN)
    inside = [s for s in window.samples if window.start <= s.time <= window.end or not window.named]
    levels = [(s.time, s.level) for s in inside if s.level is not None]
    whole = plain_whole(window, settings, blq, chosen)
    curve, everywhere, fit, tmax_all = whole.curve, whole.levels, whole.fit, whole.tmax
    if not window.named:
        out["t_blq"] = plain_loss([(s.time, s.present) for s in inside], settings.consecutive_blq)[1]
        last, lost = plain_loss([(s.time, s.detected) for s in inside], settings.consecutive_blq)
        out |= {"tlast_detected": last, "t_not_detected": lost}
    if window.infusion and window.trough is not None and window.trough.level is not None:
        out["trough"] = window.trough.level
    rule = settings.auc_rule
    if levels:
        peak = max(c for _, c in levels)
        if not any(s.over for s in inside):
            out |= {"cmax": peak, "tmax": min(t for t, c in levels if c == peak)}
        out |= {
            "tfirst": levels[0][0],
            "tlast": levels[-1][0],
            "clast": levels[-1][1],
        }
        earlier = [s.time for s in inside if s.time < levels[0][0]]
        out["tlag"] = earlier[-1] if earlier else window.start
        if not window.named and fit is not None:
            out |= fit
        known = not any(s.over for s in inside) and not (curve and hidden(window, curve, levels[-1][0]))
        if curve is not None and levels[-1][0] > window.start and known:
            t_last, c_last = levels[-1]
            area, moment = plain_area(curve, window.start, t_last, tmax_all, rule)
            out |= {"auc_last": area, "aumc_last": moment, "mrt_last": moment / area, "auc_all": area}
            blq_after = [s for s in inside if not s.present and s.time > t_last]
            value = substitute(blq.last, blq_after[0].lloq) if blq_after else None
            if value is not None:
                end = [(t_last, c_last), (blq_after[0].time, value)]
                out["auc_all"] += plain_area(end, t_last, blq_after[0].time, tmax_all, rule)[0]
            if not window.named and fit is not None:
                rate = fit["lambda_z"]
                total = area + c_last / rate
                total_moment = moment + c_last * t_last / rate + c_last / rate**2
                out |= {
                    "auc_inf_obs": total,
                    "auc_inf_pred": area + fit["clast_pred"] / rate,
                    "auc_extrap_pct": 100 * (c_last / rate) / total,
                    "aumc_inf_obs": total_moment,
                    "mrt_inf_obs": total_moment / total,
                }
    out["auc_int"], out["auc_int_extrap_pct"] = plain_window_area(window, whole, window.end, rule)
    if any(s.over for s in window.samples):
        out["c0"] = plain_start_beside_uloq(window, whole, settings, blq)
    elif window.start > 0 and everywhere and curve is None:
        # A level between two samples needs no level at time 0.
        begun = plain_curve(replace(window, first_infusion=True), settings.model_copy(update={"start": "first"}), blq)
        out["c0"] = plain_level(begun[1:], window.start, tmax_all, rule) if begun else NAN
    if everywhere and curve is not None:
        if not any(s.over for s in window.samples):
            out["c0"] = plain_level(curve, window.start, tmax_all, rule)
        if isinstance(settings.above_limit, float) and len(curve) > 1 and not hidden(window, curve, window.end):
            out["time_above"] = plain_time_above(curve, settings.above_limit, window.start, window.end, tmax_all, rule)
    for name in ("cmax", "auc_last", "auc_int"):
        out[f"{name}_dose_norm"] = out[name] / window.amount
    if window.reference is not None:
        first = plain_parameters(window.reference, settings, blq)
        out["accumulation_cmax"] = out["cmax"] / first["cmax"]
        length = min(window.end, window.reference.end)
        of_first, _ = plain_window_area(
            window.reference, plain_whole(window.reference, settings, blq, None), length, rule
        )
        if of_first > 0:
            out["accumulation_auc"] = plain_window_area(window, whole, length, rule)[0] / of_first
        if window.before is not None and window.before.level is not None:
            out["recovery_ratio"] = out["cmax"] / window.before.level
    return out


# ----------------------------------------------------------------------------------------------------- the comparison


def random_patient(rng: np.random.Generator, infusions: list[float], uloq: float = math.inf) -> list[Sample]:
    grid = np.array([0.1, 0.5, 1, 2, 2.9, 3.1, 4, 5, 5.9, 6.1, 7, 9, 10, 13, 16, 20, 27, 41, 55, 84.5])
    times = sorted(rng.choice(grid, size=rng.integers(0, 15), replace=False) + rng.uniform(-0.02, 0.02))
    if rng.random() < 0.6:
        times = [-float(rng.uniform(0.01, 3)), *times]
    if rng.random() < 0.2:
        times = [*times, 0.0]
    peak, rise, fall = rng.uniform(4, 14), rng.uniform(0.2, 1.2), rng.uniform(0.02, 0.6)
    out = []
    for t in times:
        mean = 3000 * math.exp(rise * min(t - peak, 0) - fall * max(t - peak, 0))
        level = float(f"{mean * math.exp(rng.normal(0, 0.5)):.2g}")
        lloq = float(f"{rng.uniform(5, 200):.2g}")
        lod = lloq / 3
        early = any(0 <= at - t <= 0.05 * 3 for at in infusions[1:])
        quantified = level >= lloq
        over = level > uloq
        number = level if quantified and not over else None
        out.append(Sample(float(t), number, lloq, quantified or level >= lod, t < 0 or early, over))
    return sorted(out, key=lambda s: s.time)


def as_rows(patient: str, samples: list[Sample]) -> list[dict[str, Any]]:
    return [
        {
            "patient_id": patient,
            "sample_id": f"{patient}-{i}",
            "observation_id": f"{patient}-{i}",
            "time_actual": s.time,
            "level": NAN if s.level is None else s.level,
            "status": "above_uloq"
            if s.over
            else "quantified"
            if s.level is not None
            else "blq"
            if s.detected
            else "not_detected",
            "lloq": s.lloq,
            "lod": s.lloq / 3,
            "predose": s.predose,
        }
        for i, s in enumerate(samples)
    ]


OPTIONS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    (
        {"auc_rule": "linear", "start": "first", "above_limit": 150.0},
        {"middle": "zero", "last": "zero"},
        {"include_tmax": True},
    ),
    (
        {"auc_rule": "linear_log", "start": "back_extrapolate", "above_limit": 700.0},
        {"first": "drop", "last": "half_lloq"},
        {"tolerance": 0.05},
    ),
    (
        {"start": "missing", "consecutive_blq": 2, "windows": ((2.5, 12.0), (0.0, 60.0))},
        {"first": "lloq", "middle": "half_lloq", "last": "lloq"},
        {"points_min": 4, "r_squared_adj_min": 0.5, "span_ratio_min": 0.5, "extrapolation_pct_max": 60.0},
    ),
    (
        {"above_limit": 20.0, "windows": ((0.0, 28.0), (3.0, 14.0))},
        {"last": "half_lloq"},
        {"method": "tobit", "span_ratio_min": 0.5, "extrapolation_pct_max": 60.0},
    ),
    (
        {"start": "back_extrapolate", "above_limit": 400.0, "windows": ((0.0, 28.0), (0.0, 9.5), (5.0, 11.0))},
        {"last": "zero"},
        {"span_ratio_min": 0.5, "extrapolation_pct_max": 60.0},
    ),
]


def by_hand(study: dict[str, list[Sample]], rng: np.random.Generator) -> tuple[ManualPoints, ...]:
    """Random choices by hand for the patients with five levels or more."""
    out = []
    for patient, samples in study.items():
        times = [s.time for s in samples if s.level is not None and s.time >= 0]
        if len(times) >= 5:
            key = {"patient_id": patient, "assay": "qpcr", "reason": "a test"}
            if rng.random() < 0.5:
                points = rng.choice(times, size=int(rng.integers(3, len(times))), replace=False)
                out.append(ManualPoints(**key, include=tuple(map(float, points))))
            else:
                out.append(ManualPoints(**key, exclude=(float(rng.choice(times[-3:])),)))
    return tuple(out)


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_batch_and_plain_implementation_agree_on_a_thousand_random_patients(number: int) -> None:
    choices, rules, slope = OPTIONS[number]
    rng = np.random.default_rng(100 + number)
    infusions = [0.0, 3.0, 6.0]
    # Under the last options the assay has an upper limit that every other patient crosses.
    uloq = 3000.0 if number == len(OPTIONS) - 1 else math.inf
    study = {f"P{i:04d}": random_patient(rng, infusions, uloq) for i in range(1000)}
    # Choices by hand under one set of options: the points of the others are chosen by the rule.
    manual = by_hand(study, rng) if number == 1 else ()
    chosen = {m.patient_id: m for m in manual}
    settings, blq = Nca(**choices, lambda_z=LambdaZ(**slope, manual=manual)), Blq(**rules)
    # Some patients have no sample at all and stand in the table of patients alone.
    rows = [row for patient, samples in study.items() for row in as_rows(patient, samples)]
    patients = pd.DataFrame({"patient_id": list(study), "dose_level": "DL1"})
    planned = rng.choice([1e8, 3e8, 1e9], 3000)
    # Some amounts are as planned (empty), some are not known at all (written as 1).
    amount = np.where(rng.random(3000) < 0.3, NAN, planned * rng.uniform(0.8, 1.0, 3000))
    planned, amount = (np.where(np.arange(3000) % 97 == 0, 1.0, v) for v in (planned, amount))
    given = pd.DataFrame(
        {
            "patient_id": np.repeat(list(study), 3),
            "infusion": [1, 2, 3] * 1000,
            "time": infusions * 1000,
            "planned": planned,
            "given": amount,
            "unit": "cells",
        }
    )
    known = np.where(planned == 1.0, NAN, np.where(np.isnan(amount), planned, amount)).reshape(1000, 3)
    table = nca.analyse(pd.DataFrame(rows), given, settings, blq, patients)
    got = table.set_index(["patient_id", "window", "parameter"])["value"].to_dict()
    seen, worst = Counter[str](), 0.0
    for (patient, samples), amounts in zip(study.items(), known.tolist(), strict=True):
        for window, plain in plain_windows(samples, infusions, amounts, settings).items():
            # A choice by hand is for the overall fit, which named windows take over.
            hand = chosen.get(patient) if not plain.infusion else None
            for parameter, wanted in plain_parameters(plain, settings, blq, hand).items():
                value = got.pop((patient, window, parameter))
                where = (patient, window, parameter, wanted, value)
                assert math.isnan(value) == math.isnan(wanted), where
                if not math.isnan(wanted):
                    least = {"auc_int_extrap_pct": 1.0, "time_above": 1.0}.get(parameter, 0.0 if wanted else 1.0)
                    difference = abs(value - wanted) / max(abs(wanted), least)
                    assert difference < 1e-9, where
                    seen[parameter] += 1
                    worst = max(worst, difference)
    assert not got, "windows that the plain implementation does not know"
    print(f"{seen.total()} numbers, largest relative difference {worst:.1e}")
    assert seen.total() > 30_000 and worst > 0
    never = {"time_above"} if settings.above_limit is None else set()
    assert set(nca.BY_NAME) - set(seen) == never and min(seen.values()) > 20, seen
    assert (table["reason"].str.contains("above the ULOQ").sum() > 1000) == (uloq < math.inf)
    half_lives = table[(table["parameter"] == "half_life") & table["value"].notna()]["reason"]
    assert (half_lives.str.contains("by hand").sum() > 100) == bool(manual)
    assert (half_lives.str.contains("censored fit").sum() > 100) == (settings.lambda_z.method == "tobit")
    # A missing value has a reason, always.
    assert (table.loc[table["value"].isna(), "reason"] != "").all()
