"""The parameters of the non-compartmental analysis: each a function, and its line in `PARAMETERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nkinetics.nca.curves import Curves
from nkinetics.nca.profiles import BLQ, INFUSION, NAMED, QUANTIFIED
from nkinetics.nca.reasons import CAUSES, Why, flagged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNITS: Mapping[str, Callable[[str, str], str]] = {
    "level": lambda level, dose: level,
    "time": lambda level, dose: "d",
    "area": lambda level, dose: f"d*{level}",
    "moment": lambda level, dose: f"d^2*{level}",
    "rate": lambda level, dose: "1/d",
    "percent": lambda level, dose: "%",
    "none": lambda level, dose: "",
    "level_per_dose": lambda level, dose: f"{level}/{_divisor(dose)}",
    "area_per_dose": lambda level, dose: f"d*{level}/{_divisor(dose)}",
}
"""Unit of each kind of value, from the units of the level and of the amounts given."""


def _divisor(unit: str) -> str:
    return f"({unit})" if "/" in unit else unit


@dataclass(frozen=True)
class Values:
    """One parameter for every row of a batch.

    Parameters
    ----------
    value : array [rows]
        NaN exactly where `flags` holds a cause.
    flags : array of int [rows]
        Sum of `Why`.
    n_points : array of int [rows]
        Samples that made the value.
    """

    value: Floats
    flags: Ints
    n_points: Ints


def _values(value: Floats, causes: Ints, n_points: Ints, notes: Ints | int = 0) -> Values:
    absent = causes > 0
    return Values(
        np.where(absent, np.nan, value), np.where(absent, causes, notes), np.where(absent, 0, n_points).astype(np.int64)
    )


def _first_cause(*causes: Ints) -> Ints:
    """The first of several causes that holds in each row."""
    out = causes[0]
    for other in causes[1:]:
        out = np.where(out > 0, out, other)
    return out


def _above(c: Curves) -> Ints:
    return _first_cause(c.no_level, flagged(c.above, Why.ABOVE_ULOQ))


# ----------------------------------------------------------------------------------------------------------- levels


def cmax(c: Curves) -> Values:
    """Largest quantified level; missing where a level lies above the ULOQ, which may be larger."""
    value = c.at(c.batch.level, c.peak)
    return _values(value, _above(c), c.n_quantified, flagged((c.peak == 0) & (c.batch.lead > 0), Why.PEAK_BEFORE))


def tmax(c: Curves) -> Values:
    """First time of the largest quantified level."""
    value = c.at(c.batch.time, c.peak)
    return _values(value, _above(c), c.n_quantified, flagged((c.peak == 0) & (c.batch.lead > 0), Why.PEAK_BEFORE))


def clast(c: Curves) -> Values:
    """Last quantified level."""
    return _values(c.clast, c.no_level, c.n_quantified)


def tlast(c: Curves) -> Values:
    """Time of the last quantified level: persistence at the LLOQ, as far as it was seen."""
    return _values(c.tlast, c.no_level, c.n_quantified)


def tfirst(c: Curves) -> Values:
    """Time of the first quantified level."""
    return _values(c.at(c.batch.time, c.first), c.no_level, c.n_quantified)


def tlag(c: Curves) -> Values:
    """Time of the last sample before the first quantified level; the start of the window where there is none."""
    b = c.batch
    before = (b.sample >= 0) & b.inside & (np.arange(b.time.shape[1]) < c.first[:, None])
    exists = np.asarray(before.any(axis=1))
    column = b.time.shape[1] - 1 - np.argmax(before[:, ::-1], axis=1)
    value = np.where(exists, b.time[c.rows, column], b.start)
    note = flagged(~exists, Why.NO_LAG_SAMPLE)
    return _values(value, c.no_level, exists.astype(np.int64), note)


def trough(c: Curves) -> Values:
    """Level of the sample just before the next infusion."""
    b = c.batch
    column = np.maximum(b.trough, 0)
    kind = b.kind[c.rows, column]
    causes = _first_cause(
        flagged(b.window_kind != INFUSION, Why.PER_INFUSION_ONLY),
        flagged(~b.infusion_follows, Why.NO_LATER_INFUSION),
        flagged(b.trough < 0, Why.NO_TROUGH),
        flagged(kind == BLQ, Why.TROUGH_BLQ),
        flagged(kind != QUANTIFIED, Why.ABOVE_ULOQ),
    )
    return _values(b.level[c.rows, column], causes, np.ones(len(c.rows), dtype=np.int64))


def c0(c: Curves) -> Values:
    """Level at the start of the window, that the areas start from.

    The sample taken there, or the pre-dose sample that stands for it (0 where it is below its LLOQ, unless the BLQ rule
    `first` says otherwise); where there is neither, the start rule (``nca.start``). In a named window that begins later
    the curve at that time, by interpolation.
    """
    value, flags = c.start_level
    return _values(value, flags & CAUSES, np.ones(len(c.rows), dtype=np.int64), flags)


# ------------------------------------------------------------------------------------------------------------ areas


def auc_last(c: Curves) -> Values:
    """Area under the curve from the start of the window to Tlast."""
    return _values(c.area_last, c.no_area, c.n_area, c.area_notes)


def auc_all(c: Curves) -> Values:
    """Area to Tlast plus the piece to the first BLQ sample after it, where the BLQ rule `last` keeps that sample."""
    exists, _ = c.first_blq_after
    dropped = exists & (c.blq.last == "drop")
    notes = c.area_notes + flagged(dropped, Why.NO_TRIANGLE)
    return _values(c.area_last + c.triangle, c.no_area, c.n_area + (exists & ~dropped), notes)


def auc_int(c: Curves) -> Values:
    """Area from the start to the end of the window."""
    value, flags, _ = c.window_area
    causes = flags & CAUSES
    return _values(value, causes, c.n_area, flags)


def auc_int_extrap_pct(c: Curves) -> Values:
    """Share of the window area that lies beyond Tlast and was extrapolated."""
    _, flags, share = c.window_area
    return _values(share, flags & CAUSES, c.n_area)


def aumc_last(c: Curves) -> Values:
    """Area under time x level from the start of the window to Tlast."""
    return _values(c.moment_last, c.no_area, c.n_area, c.area_notes)


def mrt_last(c: Curves) -> Values:
    """Mean residence time to Tlast: AUMC/AUC."""
    return _values(c.moment_last / c.area_last, c.no_area, c.n_area, c.area_notes)


def time_above(c: Curves) -> Values:
    """Time above a limit (``nca.above_limit``) within the window, where the curve crosses it by the rule of the piece.

    The curve is that of the areas, from the start of the window to its end or to the last point before it. Nothing is
    extrapolated: a curve that ends above the limit says so.
    """
    value, flags = c.time_above
    return _values(value, flags & CAUSES, c.n_area, flags)


# --------------------------------------------------------------------------------------------- by amount, by infusion


def _per_amount(c: Curves, of: Values) -> Values:
    amount = c.batch.amount
    causes = _first_cause(of.flags & CAUSES, flagged(~(amount > 0), Why.NO_AMOUNT))
    return _values(of.value / amount, causes, of.n_points, of.flags)


def cmax_dose_norm(c: Curves) -> Values:
    """Cmax divided by the amount given.

    In the window of an infusion the amount of that infusion; else the sum of all infusions that started before the end
    of the window.
    """
    return _per_amount(c, cmax(c))


def auc_last_dose_norm(c: Curves) -> Values:
    """AUClast divided by the amount given, as `cmax_dose_norm`."""
    return _per_amount(c, auc_last(c))


def auc_int_dose_norm(c: Curves) -> Values:
    """Window AUC divided by the amount given, as `cmax_dose_norm`."""
    return _per_amount(c, auc_int(c))


def accumulation_cmax(c: Curves) -> Values:
    """Cmax after a later infusion divided by Cmax after the first: Cmax(k)/Cmax(1), each within its own window."""
    own = cmax(c)
    reference = own.value[c.first_infusion]
    causes = _first_cause(c.not_later_infusion, own.flags & CAUSES, flagged(np.isnan(reference), Why.NO_REFERENCE))
    return _values(own.value / reference, causes, own.n_points, own.flags)


def accumulation_auc(c: Curves) -> Values:
    """Area after a later infusion divided by that after the first, over one common length.

    AUC(k; 0, d)/AUC(1; 0, d), each on the clock of its infusion, d the shorter of the two infusions' windows, so that
    a last window that runs to the end of follow-up is not held against three days. Both areas are window areas: by
    interpolation at d, and beyond Tlast by the rules of `auc_int`.
    """
    value, flags, _ = c.accumulated_area
    return _values(value, flags & CAUSES, c.n_area, flags)


def recovery_ratio(c: Curves) -> Values:
    """How far the level recovers over what was left: Cmax after an infusion divided by the pre-dose level before it.

    For the second and later infusions; 1 where the pre-dose sample itself is the highest. Without a quantified
    pre-dose level there is no ratio (the infusion starts from nothing).
    """
    own, b = cmax(c), c.batch
    kind = b.kind[:, 0]
    causes = _first_cause(
        c.not_later_infusion,
        own.flags & CAUSES,
        flagged(b.sample[:, 0] < 0, Why.NO_PREDOSE),
        flagged(kind == BLQ, Why.PREDOSE_BLQ),
        flagged(kind != QUANTIFIED, Why.ABOVE_ULOQ),
    )
    return _values(own.value / b.level[:, 0], causes, own.n_points, own.flags)


# --------------------------------------------------------------------------------------------------- terminal slope


def _whole(c: Curves) -> Ints:
    return flagged(c.batch.window_kind == NAMED, Why.WHOLE_PROFILE_ONLY)


def _of_fit(c: Curves, value: Floats, judged: bool = False) -> Values:
    causes = _first_cause(_whole(c), c.no_terminal)
    return _values(value, causes, c.terminal.n_points, c.fit_notes + (c.outside if judged else 0))


def lambda_z(c: Curves) -> Values:
    """Terminal rate: minus the slope of ln(level) over the last points."""
    return _of_fit(c, c.terminal.lambda_z, judged=True)


def half_life(c: Curves) -> Values:
    """Terminal half-life: ln 2/lambda_z."""
    return _of_fit(c, np.log(2) / c.terminal.lambda_z, judged=True)


def lambda_z_n_points(c: Curves) -> Values:
    """Points of the terminal fit."""
    return _of_fit(c, c.terminal.n_points.astype(float))


def lambda_z_start(c: Curves) -> Values:
    """First point of the terminal fit."""
    return _of_fit(c, c.terminal.start)


def lambda_z_end(c: Curves) -> Values:
    """Last point of the terminal fit."""
    return _of_fit(c, c.terminal.end)


def r_squared(c: Curves) -> Values:
    """R2 of the terminal fit."""
    return _of_fit(c, c.terminal.r_squared)


def r_squared_adj(c: Curves) -> Values:
    """R2 of the terminal fit, adjusted for its number of points."""
    return _of_fit(c, c.terminal.r_squared_adj)


def corr_xy(c: Curves) -> Values:
    """Correlation of time and ln(level) in the terminal fit."""
    return _of_fit(c, c.terminal.correlation)


def span_ratio(c: Curves) -> Values:
    """Length of the terminal fit in half-lives."""
    return _of_fit(c, c.span_ratio)


def clast_pred(c: Curves) -> Values:
    """Level of the terminal line at Tlast."""
    return _of_fit(c, c.clast_predicted, judged=True)


def _to_infinity(c: Curves, value: Floats) -> Values:
    causes = _first_cause(_whole(c), c.no_terminal, c.no_area)
    return _values(value, causes, c.n_area, c.outside + c.area_notes + c.fit_notes)


def auc_inf_obs(c: Curves) -> Values:
    """Area to infinity from the observed last level: AUClast + Clast/lambda_z."""
    return _to_infinity(c, c.area_last + c.tail)


def auc_inf_pred(c: Curves) -> Values:
    """Area to infinity from the fitted last level."""
    return _to_infinity(c, c.area_last + c.clast_predicted / c.terminal.lambda_z)


def auc_extrap_pct(c: Curves) -> Values:
    """Share of the area to infinity that lies beyond Tlast."""
    return _to_infinity(c, c.extrapolated_pct)


def aumc_inf_obs(c: Curves) -> Values:
    """AUMC to infinity: AUMClast + Tlast Clast/lambda_z + Clast/lambda_z^2."""
    return _to_infinity(c, c.moment_last + c.tail * (c.tlast + 1 / c.terminal.lambda_z))


def mrt_inf_obs(c: Curves) -> Values:
    """Mean residence time to infinity: AUMC/AUC, not corrected for the length of an infusion."""
    moment = c.moment_last + c.tail * (c.tlast + 1 / c.terminal.lambda_z)
    return _to_infinity(c, moment / (c.area_last + c.tail))


# ------------------------------------------------------------------------------------------------------ persistence


def t_blq(c: Curves) -> Values:
    """Time to loss at the LLOQ: first of the consecutive BLQ samples after Tlast.

    A patient who never has a quantified level is informative, not missing: lost at the first sample after the infusion.
    """
    found = c.quantifiable
    kept = flagged(found.ever & (found.n_after == 0), Why.STILL_QUANTIFIED)
    causes = _first_cause(_whole(c), _sampled(c), kept, flagged(np.isnan(found.lost), Why.UNCONFIRMED))
    return _values(found.lost, causes, found.n_after, flagged(~found.ever, Why.NEVER_QUANTIFIED))


def _sampled(c: Curves) -> Ints:
    return c.no_level & int(Why.NO_DATA | Why.NO_SAMPLE)


def tlast_detected(c: Curves) -> Values:
    """Last sample with cells above the LOD: persistence of detection, as far as it was seen."""
    found = c.detectable
    causes = _first_cause(
        _whole(c),
        _sampled(c),
        flagged(c.detection_unknown, Why.NO_LOD),
        flagged(~found.ever, Why.NEVER_DETECTED),
    )
    return _values(found.last_present, causes, np.ones(len(c.rows), dtype=np.int64))


def t_not_detected(c: Curves) -> Values:
    """Time to loss at the LOD: first of the consecutive samples without detection after the last one with it."""
    found = c.detectable
    kept = flagged(found.ever & (found.n_after == 0), Why.STILL_DETECTED)
    causes = _first_cause(
        _whole(c),
        _sampled(c),
        flagged(c.detection_unknown, Why.NO_LOD),
        kept,
        flagged(np.isnan(found.lost), Why.UNCONFIRMED_LOD),
    )
    return _values(found.lost, causes, found.n_after, flagged(~found.ever, Why.NEVER_DETECTED_LOST))


# ------------------------------------------------------------------------------------------------------- the tuple


@dataclass(frozen=True)
class Parameter:
    """One parameter and its facts.

    Parameters
    ----------
    function : callable
        ``function(curves) -> Values``; its name is the parameter's identifier.
    unit : str
        Key of `UNITS`.
    code : str
        CDISC PPTESTCD; a sponsor term (8 characters at most) where the terminology has none.
    en, zh : str
        Label by language.
    sponsor : bool
        The code is a sponsor term.
    """

    function: Callable[[Curves], Values]
    unit: str
    code: str
    en: str
    zh: str
    sponsor: bool = False

    @property
    def name(self) -> str:
        """Identifier: column `parameter`, configuration key, glossary."""
        return self.function.__name__

    @property
    def label(self) -> Mapping[str, str]:
        """Label by language."""
        return {"en": self.en, "zh": self.zh}


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(cmax, "level", "CMAX", "Maximum level", "峰值水平"),
    Parameter(tmax, "time", "TMAX", "Time of the maximum", "达峰时间"),
    Parameter(clast, "level", "CLST", "Last quantified level", "末次可定量水平"),
    Parameter(tlast, "time", "TLST", "Time of the last quantified level", "末次可定量时间"),
    Parameter(tfirst, "time", "TFIRST", "Time of the first quantified level", "首次可定量时间", True),
    Parameter(tlag, "time", "TLAG", "Time before the first quantified level", "滞后时间"),
    Parameter(trough, "level", "CTROUGH", "Level before the next infusion", "下次输注前水平"),
    Parameter(c0, "level", "C0", "Level at the start of the window", "窗口起点水平"),
    Parameter(auc_last, "area", "AUCLST", "AUC to the last quantified level", "至末次可定量时间的 AUC"),
    Parameter(auc_all, "area", "AUCALL", "AUC to the first level below LLOQ", "至首次低于定量限的 AUC"),
    Parameter(auc_int, "area", "AUCINT", "AUC over the window", "窗口 AUC"),
    Parameter(
        auc_int_extrap_pct, "percent", "AUCINTPE", "Extrapolated share of the window AUC", "窗口 AUC 外推比例", True
    ),
    Parameter(auc_inf_obs, "area", "AUCIFO", "AUC to infinity, observed last level", "外推至无穷的 AUC（实测）"),
    Parameter(auc_inf_pred, "area", "AUCIFP", "AUC to infinity, fitted last level", "外推至无穷的 AUC（预测）"),
    Parameter(auc_extrap_pct, "percent", "AUCPEO", "Extrapolated share of the AUC", "AUC 外推比例"),
    Parameter(aumc_last, "moment", "AUMCLST", "AUMC to the last quantified level", "至末次可定量时间的 AUMC"),
    Parameter(aumc_inf_obs, "moment", "AUMCIFO", "AUMC to infinity, observed last level", "外推至无穷的 AUMC（实测）"),
    Parameter(
        mrt_last, "time", "MRTLST", "Mean residence time to the last level", "至末次可定量时间的平均驻留时间", True
    ),
    Parameter(mrt_inf_obs, "time", "MRTIFO", "Mean residence time to infinity", "外推至无穷的平均驻留时间", True),
    Parameter(lambda_z, "rate", "LAMZ", "Terminal rate", "末端消除速率"),
    Parameter(half_life, "time", "LAMZHL", "Terminal half-life", "末端半衰期"),
    Parameter(lambda_z_n_points, "none", "LAMZNPT", "Points of the terminal fit", "末端拟合点数"),
    Parameter(lambda_z_start, "time", "LAMZLL", "First point of the terminal fit", "末端拟合起点"),
    Parameter(lambda_z_end, "time", "LAMZUL", "Last point of the terminal fit", "末端拟合终点"),
    Parameter(r_squared, "none", "R2", "R2 of the terminal fit", "末端拟合 R2"),
    Parameter(r_squared_adj, "none", "R2ADJ", "Adjusted R2 of the terminal fit", "末端拟合校正 R2"),
    Parameter(corr_xy, "none", "CORRXY", "Correlation of the terminal fit", "末端拟合相关系数"),
    Parameter(span_ratio, "none", "LAMZSPN", "Span of the terminal fit in half-lives", "末端拟合跨度（半衰期数）"),
    Parameter(clast_pred, "level", "CLSTP", "Fitted last level", "末次水平预测值", True),
    Parameter(time_above, "time", "TABOVE", "Time above the limit", "高于限值的时间", True),
    Parameter(cmax_dose_norm, "level_per_dose", "CMAXD", "Maximum level by amount given", "剂量归一化峰值水平"),
    Parameter(
        auc_last_dose_norm, "area_per_dose", "AUCLSTD", "AUC to the last level by amount given", "剂量归一化 AUClast"
    ),
    Parameter(auc_int_dose_norm, "area_per_dose", "AUCINTD", "Window AUC by amount given", "剂量归一化窗口 AUC"),
    Parameter(accumulation_cmax, "none", "ARCMAX", "Accumulation ratio of the maximum level", "峰值水平蓄积比"),
    Parameter(accumulation_auc, "none", "ARAUCINT", "Accumulation ratio of the AUC", "AUC 蓄积比"),
    Parameter(recovery_ratio, "none", "RECRATIO", "Maximum level over the level before", "峰值与输注前水平之比", True),
    Parameter(t_blq, "time", "TBQL", "Time to loss below LLOQ", "降至定量限以下的时间", True),
    Parameter(tlast_detected, "time", "TLSTDET", "Time of the last detection", "末次检出时间", True),
    Parameter(t_not_detected, "time", "TNOTDET", "Time to loss of detection", "降至检测限以下的时间", True),
)
"""Every parameter, in the order of the glossary."""

BY_NAME: Mapping[str, Parameter] = {p.name: p for p in PARAMETERS}
