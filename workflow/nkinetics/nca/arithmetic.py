"""The arithmetic behind each parameter of one profile, step by step with its numbers.

Written a second time, for one row and in plain Python: what the parameters compute for thousands of profiles at once is
here what a person would write down with a pocket calculator. A test evaluates every step and compares the last one with
the value of the parameter, so that the two cannot drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nkinetics.blq import SUBSTITUTES
from nkinetics.explaining import Step, n
from nkinetics.nca.auc import LINEAR, LINEAR_UP_LOG_DOWN
from nkinetics.nca.curves import Curves
from nkinetics.nca.profiles import ABOVE, BLQ, DETECTED, NAMED, NONE, QUANTIFIED, UNDETECTED
from nkinetics.nca.reasons import Why

NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """One profile and window of a batch, with the numbers that its parameters share."""

    curves: Curves
    i: int

    def of(self, name: str) -> float:
        """A number of this row that `Curves` or `Batch` computed."""
        source = self.curves if hasattr(self.curves, name) else self.curves.batch
        return float(getattr(source, name)[self.i])

    def samples(self, mask: np.ndarray) -> list[tuple[float, float]]:
        """Time and level of the samples that a mask of the batch holds for."""
        at, b = np.flatnonzero(mask[self.i]), self.curves.batch
        return [(float(t), float(c)) for t, c in zip(b.time[self.i, at], b.level[self.i, at], strict=True)]

    @property
    def quantified(self) -> list[tuple[float, float]]:
        """Time and level of the quantified samples of the window."""
        return self.samples(self.curves.quantified)


def _of(word: str, values: list[float]) -> str:
    return f"{word}({', '.join(n(v) for v in values)})"


# ------------------------------------------------------------------------------------------------------ levels, times


def _largest(row: Row) -> tuple[float, float]:
    peak = max(c for _, c in row.quantified)
    return next((t, c) for t, c in row.quantified if c == peak)


def cmax(row: Row) -> list[Step]:
    """All quantified levels of the window, the largest of them."""
    level = _largest(row)[1]
    times = f"d {', '.join(f'{t:.4g}' for t, _ in row.quantified)}"
    return [
        Step(f"largest of the {len(row.quantified)} quantified levels of the window ({times})"),
        Step("largest level", "cmax", _of("max", [c for _, c in row.quantified]), level),
    ]


def tmax(row: Row) -> list[Step]:
    """Times at which the largest level stands, the first of them."""
    peak = _largest(row)[1]
    times = [t for t, c in row.quantified if c == peak]
    return [*cmax(row), Step("first time of that level", "tmax", _of("min", times), min(times))]


def clast(row: Row) -> list[Step]:
    """The level at Tlast."""
    level = row.quantified[-1][1]
    return [*tlast(row), Step("level of that sample", "clast", n(level), level)]


def tlast(row: Row) -> list[Step]:
    """Times of the quantified samples, the last of them."""
    times = [t for t, _ in row.quantified]
    return [Step("last time of a quantified level", "tlast", _of("max", times), max(times))]


def tfirst(row: Row) -> list[Step]:
    """Times of the quantified samples, the first of them."""
    times = [t for t, _ in row.quantified]
    return [Step("first time of a quantified level", "tfirst", _of("min", times), min(times))]


def tlag(row: Row) -> list[Step]:
    """The last sample before the first quantified one."""
    b, first = row.curves.batch, row.quantified[0][0]
    times = [t for t, _ in row.samples((b.sample >= 0) & b.inside) if t < first]
    if not times:
        start = row.of("start")
        return [*tfirst(row), Step("no sample before it: the start of the window", "tlag", n(start), start)]
    return [*tfirst(row), Step("last sample before it", "tlag", _of("max", times), max(times))]


def trough(row: Row) -> list[Step]:
    """The sample before the next infusion."""
    b, column = row.curves.batch, int(row.curves.batch.trough[row.i])
    time, level = float(b.time[row.i, column]), float(b.level[row.i, column])
    return [Step(f"the sample before the next infusion, d {time:.4g}", "trough", n(level), level)]


# -------------------------------------------------------------------------------------------------------------- areas


@dataclass(frozen=True)
class Piece:
    """A piece of the curve between two of its points."""

    t1: float
    t2: float
    c1: float
    c2: float
    logarithmic: bool

    def level_at(self, t: float) -> tuple[str, float]:
        """Formula and value of the level within the piece."""
        share = (t - self.t1) / (self.t2 - self.t1)
        place = f"({n(t)} - {n(self.t1)}) / ({n(self.t2)} - {n(self.t1)})"
        if self.logarithmic:
            value = self.c1 * math.exp(-math.log(self.c1 / self.c2) * share)
            return f"{n(self.c1)} * exp(-ln({n(self.c1)} / {n(self.c2)}) * {place})", value
        return f"{n(self.c1)} + ({n(self.c2)} - {n(self.c1)}) * {place}", self.c1 + (self.c2 - self.c1) * share

    @property
    def rule(self) -> str:
        """Why the piece is straight or follows the log rule."""
        if self.logarithmic:
            return "log, falls" if self.c2 < self.c1 else "log"
        if self.c1 == self.c2:
            return "linear, equal levels"
        return (
            "linear, ends at 0"
            if 0 in (self.c1, self.c2) and self.c2 < self.c1
            else ("linear, rises" if self.c2 > self.c1 else "linear")
        )


def _pieces(row: Row) -> list[Piece]:
    p, i = row.curves.pieces, row.i
    found = []
    for j in np.flatnonzero(~np.isnan(p.end[i])):
        t1, t2, c1, c2 = (float(v[i, j]) for v in (p.start, p.end, p.first, p.last))
        found.append(Piece(t1, t2, c1, c2, bool(p.drop[i, j] != 0)))
    return found


def _area(t1: str, t2: str, c1: str, c2: str, logarithmic: bool, moment: bool) -> str:
    """Formula of the area of a piece, or of its area under time x level."""
    if not logarithmic:
        if moment:
            return f"({t2} - {t1}) * ({t1} * {c1} + {t2} * {c2}) / 2"
        return f"({t2} - {t1}) * ({c1} + {c2}) / 2"
    rate = f"(ln({c1} / {c2}) / ({t2} - {t1}))"
    if moment:
        return f"({t1} * {c1} - {t2} * {c2}) / {rate} + ({c1} - {c2}) / {rate}^2"
    return f"({t2} - {t1}) * ({c1} - {c2}) / ln({c1} / {c2})"


def _area_value(t1: float, t2: float, c1: float, c2: float, logarithmic: bool, moment: bool) -> float:
    if not logarithmic:
        return (t2 - t1) * ((t1 * c1 + t2 * c2) if moment else (c1 + c2)) / 2
    k = math.log(c1 / c2) / (t2 - t1)
    return (t1 * c1 - t2 * c2) / k + (c1 - c2) / k**2 if moment else (c1 - c2) / k


def _areas(row: Row, until: float, total: str, what: str, moment: bool = False) -> list[Step]:
    """Every piece between the start of the window and a time, and their sum under the name `total`."""
    letter, start = ("M" if moment else "A"), row.of("start")
    steps: list[Step] = []
    symbols: list[str] = []
    values: list[float] = []
    for piece in _pieces(row):
        low, high = max(piece.t1, start), min(piece.t2, until)
        if low >= high:
            continue
        number = len(symbols) + 1
        levels = []
        for at, given in ((low, piece.c1 if low == piece.t1 else None), (high, piece.c2 if high == piece.t2 else None)):
            if given is not None:
                levels.append((n(given), given))
                continue
            formula, value = piece.level_at(at)
            end = "start" if at == low else "end"
            symbol = f"C_{end}{'_m' if moment else ''}"
            steps.append(
                Step(f"level at the {end}, d {at:.4g}, within the piece ({piece.rule})", symbol, formula, value)
            )
            levels.append((symbol, value))
        (c1, v1), (c2, v2) = levels
        # A cut piece is straight or logarithmic as the whole one; a copy at the same level is neither.
        logarithmic = piece.logarithmic and v1 != v2
        formula = _area(n(low), n(high), c1, c2, logarithmic, moment)
        symbol, value = f"{letter}{number}", _area_value(low, high, v1, v2, logarithmic, moment)
        steps.append(Step(f"d {low:.4g} to {high:.4g}, {piece.rule}", symbol, formula, value))
        symbols.append(symbol)
        values.append(value)
    steps.append(Step(what, total, " + ".join(symbols) or "0", sum(values)))
    return steps


def _start(row: Row) -> list[Step]:
    """What stands at the start of the curve where no sample does."""
    c, i = row.curves, row.i
    flags, level = int(c.begun.flags[i]), float(c.begun.level[i])
    words = {
        Why.START_ZERO: "no sample at the start: level 0 (rule zero), an infusion of cells rises from nothing",
        Why.START_FIRST: f"no sample at the start: the first level, {n(level)}",
        Why.START_BACK: f"no sample at the start: {n(level)}, from the first two levels backwards",
        Why.START_PREDOSE: f"start: the pre-dose sample, taken {row.of('lead'):.4g} d before the infusion",
    }
    return [Step(text) for why, text in words.items() if flags & why]


def auc_last(row: Row) -> list[Step]:
    """Pieces from the start of the window to Tlast."""
    return [*_start(row), *_areas(row, row.of("tlast"), "auc_last", f"sum to Tlast, d {row.of('tlast'):.4g}")]


def auc_all(row: Row) -> list[Step]:
    """AUClast and the piece to the first BLQ sample after it."""
    c, i = row.curves, row.i
    exists, column = (v[i] for v in c.first_blq_after)
    steps = auc_last(row)
    if not exists:
        return [*steps, Step("no BLQ sample after Tlast: nothing to add", "auc_all", "auc_last", row.of("area_last"))]
    t2 = float(c.batch.time[i, column])
    if c.blq.last == "drop":
        said = f"the BLQ sample at d {t2:.4g} is dropped (blq.last): nothing to add"
        return [*steps, Step(said, "auc_all", "auc_last", row.of("area_last"))]
    t1, c1 = row.of("tlast"), row.of("clast")
    c2 = float(SUBSTITUTES[c.blq.last](c.batch.lloq[i : i + 1, column])[0])
    falls = c2 < c1 if c.settings.auc_rule == LINEAR_UP_LOG_DOWN else t1 >= row.of("curve_peak")
    logarithmic = c.settings.auc_rule != LINEAR and falls and c2 > 0 and c1 != c2
    value = _area_value(t1, t2, c1, c2, logarithmic, False)
    said = f"to the BLQ sample at d {t2:.4g}, counted as {c.blq.last} (blq.last), {'log' if logarithmic else 'linear'}"
    return [
        *steps,
        Step(said, "tail", _area(n(t1), n(t2), n(c1), n(c2), logarithmic, False), value),
        Step("sum", "auc_all", "auc_last + tail", row.of("area_last") + value),
    ]


def _window(row: Row) -> tuple[list[Step], float, float]:
    """Steps of the window area, its value and what of it was extrapolated."""
    c, b, i = row.curves, row.curves.batch, row.i
    end, flags = row.of("end"), int(c.window_area[1][i])
    level = np.flatnonzero(b.kind[i] == QUANTIFIED)
    tlast, clast = float(b.time[i, level[-1]]), float(b.level[i, level[-1]])
    steps = [*_start(row), *_areas(row, end, "inside", f"sum to the end of the window, d {end:.4g}, or of the curve")]
    inside = steps[-1].value
    if flags & Why.EXTRAPOLATED:
        k = float(c.terminal.lambda_z[i])
        extra = clast / k * -math.expm1(-k * (end - tlast))
        steps += [
            Step("no sample after it before the end of the window, and the terminal slope is accepted"),
            Step("terminal slope of the whole profile: explain lambda_z", "lambda_z", n(k), k),
            Step(
                f"extrapolated from Tlast, d {tlast:.4g}, to the end, d {end:.4g}",
                "beyond",
                f"{n(clast)} / lambda_z * (1 - exp(-lambda_z * ({n(end)} - {n(tlast)})))",
                extra,
            ),
        ]
        return steps, inside, extra
    if flags & Why.HELD:
        extra = clast * (end - tlast)
        said = f"pre-dose level of d {tlast:.4g} held to the next infusion, d {end:.4g}"
        return [*steps, Step(said, "held", f"{n(clast)} * ({n(end)} - {n(tlast)})", extra)], inside, extra
    if flags & Why.LOST_IN_WINDOW:
        steps.append(Step(f"BLQ after Tlast, d {tlast:.4g}: the cells were lost, nothing is extrapolated"))
    elif tlast > end:
        steps.append(Step("samples on both sides of the end of the window: interpolated, nothing is extrapolated"))
    return steps, inside, 0.0


def auc_int(row: Row) -> list[Step]:
    """Pieces to the end of the window, and what lies beyond Tlast."""
    steps, inside, extra = _window(row)
    added = next((s.symbol for s in steps if s.symbol in ("beyond", "held")), "")
    return [*steps, Step("window area", "auc_int", f"inside + {added}" if added else "inside", inside + extra)]


def auc_int_extrap_pct(row: Row) -> list[Step]:
    """Share of the window area that was extrapolated."""
    steps = auc_int(row)
    value, extra = steps[-1].value, next((s.value for s in steps if s.symbol == "beyond"), None)
    if extra is None:
        return [*steps, Step("nothing was extrapolated", "auc_int_extrap_pct", "0", 0.0)]
    return [*steps, Step("extrapolated share", "auc_int_extrap_pct", "100 * beyond / auc_int", 100 * extra / value)]


def aumc_last(row: Row) -> list[Step]:
    """Pieces under time x level from the start of the window to Tlast."""
    until = row.of("tlast")
    return [*_start(row), *_areas(row, until, "aumc_last", f"sum of t x C to Tlast, d {until:.4g}", moment=True)]


def mrt_last(row: Row) -> list[Step]:
    """AUMC by AUC."""
    value = row.of("moment_last") / row.of("area_last")
    return [*auc_last(row), *aumc_last(row), Step("moment by area", "mrt_last", "aumc_last / auc_last", value)]


# ----------------------------------------------------------------------------------------------------- terminal slope


@dataclass(frozen=True)
class Candidate:
    """One window of the last points and the straight line through ln(level) in it."""

    first: float
    points: int
    slope: float
    r_squared: float
    adjusted: float


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope and R2 of the least-squares line through ln(level)."""
    x, y = [t for t, _ in points], [math.log(c) for _, c in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    sxx, syy = sum((a - mean_x) ** 2 for a in x), sum((b - mean_y) ** 2 for b in y)
    sxy = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return sxy / sxx, sxy**2 / (sxx * syy) if syy > 0 else NAN


def available(row: Row) -> list[tuple[float, float]]:
    """Quantified points that the terminal fit of the row may use: after Tmax, and after a level above the ULOQ."""
    c, i = row.curves, int(row.curves.batch.parent[row.i])
    b = c.batch
    points = [(float(b.time[i, j]), float(b.level[i, j])) for j in np.flatnonzero(b.kind[i] == QUANTIFIED)]
    if not points:
        return []
    peak = max(level for _, level in points)
    begins = max([next(t for t, level in points if level == peak), *b.time[i][b.kind[i] == ABOVE].tolist()])
    return [(t, level) for t, level in points if t > begins or (t == begins and c.settings.lambda_z.include_tmax)]


def candidates(row: Row) -> list[Candidate]:
    """Every window of enough last points, the longest first."""
    points, least = available(row), row.curves.settings.lambda_z.points_min
    found = []
    for k in range(len(points) - least + 1):
        window = points[k:]
        slope, r2 = _line(window)
        adjusted = 1 - (1 - r2) * (len(window) - 1) / (len(window) - 2)
        found.append(Candidate(window[0][0], len(window), slope, r2, adjusted))
    return found


def choice(row: Row) -> list[Step]:
    """The candidate windows with what was decided about each."""
    z = row.curves.settings.lambda_z
    listed = candidates(row)
    falling = [x for x in listed if x.slope < 0]
    # The largest of equal levels in a row: a flat window has no R2.
    best = max((x.adjusted for x in falling), default=NAN)
    near = [x for x in falling if x.adjusted >= best - z.tolerance]
    steps = [
        Step(
            f"straight line through ln(level) over the last {z.points_min} or more quantified points "
            f"{'from' if z.include_tmax else 'after'} Tmax: {len(available(row))} points, {len(listed)} windows; best "
            f"adjusted R2 wins, within {z.tolerance:g} of it the longest"
        )
    ]
    for x in listed:
        verdict = "does not fall: out" if x not in falling else ""
        if x in falling:
            verdict = "chosen" if x is near[0] else "as good, and shorter" if x in near else ""
        line = f"d {x.first:.4g} on, {x.points} points: slope {x.slope:.4g}, adjusted R2 {x.adjusted:.6g}"
        steps.append(Step(f"{line} - {verdict}" if verdict else line))
    return steps


def _fit(row: Row) -> list[Step]:
    """The choice, and the sums over the chosen points, counted from the last of them."""
    c = row.curves
    used = available(row)[-int(c.terminal.n_points[row.i]) :]
    t0, c0 = used[-1]
    x, y = [t - t0 for t, _ in used], [math.log(level / c0) for _, level in used]
    logs = [f"ln({n(level)} / {n(c0)})" for _, level in used]
    gaps = [f"({n(t)} - {n(t0)})" for t, _ in used]
    products = [f"{g} * {lg}" for g, lg in zip(gaps, logs, strict=True)]
    return [
        *choice(row),
        Step(f"x = t - {n(t0)}, y = ln(C / {n(c0)}): both counted from the last point"),
        Step("points", "n", str(len(used)), float(len(used))),
        Step("sum of x", "Sx", " + ".join(gaps), sum(x)),
        Step("sum of y", "Sy", " + ".join(logs), sum(y)),
        Step("sum of x^2", "Sxx", " + ".join(f"{g}^2" for g in gaps), sum(v * v for v in x)),
        Step("sum of x y", "Sxy", " + ".join(products), sum(a * b for a, b in zip(x, y, strict=True))),
        Step("sum of y^2", "Syy", " + ".join(f"{lg}^2" for lg in logs), sum(v * v for v in y)),
    ]


def _terminal(row: Row, name: str) -> float:
    return float(getattr(row.curves.terminal, name)[row.i])


def _acceptance(row: Row) -> list[Step]:
    z = row.curves.settings.lambda_z
    parent = Row(row.curves, int(row.curves.batch.parent[row.i]))
    share = parent.of("extrapolated_pct")
    tail = "unknown" if math.isnan(share) else f"{share:.4g} %"
    return [
        Step(
            f"acceptance: adjusted R2 {_terminal(row, 'r_squared_adj'):.4g} (at least {z.r_squared_adj_min:g}), span "
            f"{parent.of('span_ratio'):.4g} half-lives (at least {z.span_ratio_min:g}), extrapolated {tail} "
            f"(at most {z.extrapolation_pct_max:g} %)"
        )
    ]


def lambda_z(row: Row) -> list[Step]:
    """Every candidate window, the sums of the chosen one, and minus its slope."""
    formula = "-(Sxy - Sx * Sy / n) / (Sxx - Sx^2 / n)"
    return [*_fit(row), Step("minus the slope", "lambda_z", formula, _terminal(row, "lambda_z")), *_acceptance(row)]


def half_life(row: Row) -> list[Step]:
    """Half-life from lambda_z."""
    return [
        *lambda_z(row),
        Step("half-life", "half_life", "ln(2) / lambda_z", math.log(2) / _terminal(row, "lambda_z")),
    ]


def lambda_z_n_points(row: Row) -> list[Step]:
    """Points of the chosen window."""
    used = _terminal(row, "n_points")
    return [*choice(row), Step("points of the chosen window", "lambda_z_n_points", n(used), used)]


def lambda_z_start(row: Row) -> list[Step]:
    """First point of the chosen window."""
    times = [t for t, _ in available(row)[-int(_terminal(row, "n_points")) :]]
    return [*choice(row), Step("first point of the chosen window", "lambda_z_start", _of("min", times), min(times))]


def lambda_z_end(row: Row) -> list[Step]:
    """Last point of the chosen window, which is Tlast."""
    times = [t for t, _ in available(row)[-int(_terminal(row, "n_points")) :]]
    return [*choice(row), Step("last point of the chosen window", "lambda_z_end", _of("max", times), max(times))]


def r_squared(row: Row) -> list[Step]:
    """Share of the variance of ln(level) that the line explains."""
    formula = "(Sxy - Sx * Sy / n)^2 / ((Sxx - Sx^2 / n) * (Syy - Sy^2 / n))"
    return [*_fit(row), Step("R2", "r_squared", formula, _terminal(row, "r_squared"))]


def r_squared_adj(row: Row) -> list[Step]:
    """R2 adjusted for the number of points."""
    formula = "1 - (1 - r_squared) * (n - 1) / (n - 2)"
    return [*r_squared(row), Step("adjusted R2", "r_squared_adj", formula, _terminal(row, "r_squared_adj"))]


def corr_xy(row: Row) -> list[Step]:
    """Root of R2, negative as the line falls."""
    return [*r_squared(row), Step("correlation", "corr_xy", "-sqrt(r_squared)", _terminal(row, "correlation"))]


def span_ratio(row: Row) -> list[Step]:
    """Length of the fit in half-lives."""
    start, end = _terminal(row, "start"), _terminal(row, "end")
    formula = f"({n(end)} - {n(start)}) / half_life"
    return [*half_life(row), Step("length in half-lives", "span_ratio", formula, row.of("span_ratio"))]


def clast_pred(row: Row) -> list[Step]:
    """The line at the last point."""
    level = available(row)[-1][1]
    formula = f"{n(level)} * exp(Sy / n + lambda_z * Sx / n)"
    return [*lambda_z(row), Step("the line at the last point", "clast_pred", formula, row.of("clast_predicted"))]


def _infinite(row: Row) -> list[Step]:
    """AUClast and the terminal slope, both whole."""
    return [*auc_last(row), *lambda_z(row)]


def auc_inf_obs(row: Row) -> list[Step]:
    """AUClast and what lies beyond the observed last level."""
    value = row.of("area_last") + row.of("tail")
    return [
        *_infinite(row),
        Step("beyond Tlast", "tail", f"{n(row.of('clast'))} / lambda_z", row.of("tail")),
        Step("area to infinity", "auc_inf_obs", "auc_last + tail", value),
    ]


def auc_inf_pred(row: Row) -> list[Step]:
    """AUClast and what lies beyond the fitted last level."""
    value = row.of("area_last") + row.of("clast_predicted") / _terminal(row, "lambda_z")
    fitted = clast_pred(row)[-1]
    return [
        *_infinite(row),
        fitted,
        Step("area to infinity", "auc_inf_pred", "auc_last + clast_pred / lambda_z", value),
    ]


def auc_extrap_pct(row: Row) -> list[Step]:
    """Share beyond Tlast."""
    value = row.of("extrapolated_pct")
    return [*auc_inf_obs(row), Step("share beyond Tlast", "auc_extrap_pct", "100 * tail / auc_inf_obs", value)]


def _moment_to_infinity(row: Row) -> float:
    return row.of("moment_last") + row.of("tail") * (row.of("tlast") + 1 / _terminal(row, "lambda_z"))


def aumc_inf_obs(row: Row) -> list[Step]:
    """AUMClast and what lies beyond the observed last level."""
    formula = f"aumc_last + tail * ({n(row.of('tlast'))} + 1 / lambda_z)"
    return [
        *aumc_last(row),
        *lambda_z(row),
        Step("beyond Tlast", "tail", f"{n(row.of('clast'))} / lambda_z", row.of("tail")),
        Step("AUMC to infinity", "aumc_inf_obs", formula, _moment_to_infinity(row)),
    ]


def mrt_inf_obs(row: Row) -> list[Step]:
    """AUMC by AUC, both to infinity."""
    value = _moment_to_infinity(row) / (row.of("area_last") + row.of("tail"))
    return [
        *auc_last(row),
        *aumc_inf_obs(row),
        Step("area to infinity", "auc_inf_obs", "auc_last + tail", row.of("area_last") + row.of("tail")),
        Step("moment by area", "mrt_inf_obs", "aumc_inf_obs / auc_inf_obs", value),
    ]


# -------------------------------------------------------------------------------------------------------- persistence


def _loss(row: Row, name: str, present: np.ndarray, absent: np.ndarray, above: str, below: str) -> list[Step]:
    seen, gone = [t for t, _ in row.samples(present)], [t for t, _ in row.samples(absent)]
    last, k = max(seen, default=-math.inf), row.curves.settings.consecutive_blq
    after = [t for t in gone if t > last and t > 0]
    start = (
        f"last sample {above}: d {last:.4g}"
        if seen
        else f"no sample {above}; the sample before the infusion says nothing"
    )
    rule = "the first makes the loss" if k == 1 else f"{k} in a row make the loss, which is at the first of them"
    return [
        Step(start),
        Step(
            f"{len(after)} sample{'s' * (len(after) != 1)} {below} after {'it' if seen else 'the infusion'}; {rule}",
            name,
            _of("min", after),
            min(after),
        ),
        Step(f"the true loss lies after d {max(last, 0.0):.4g}, and not after this time (interval-censored)"),
    ]


def t_blq(row: Row) -> list[Step]:
    """Samples below the LLOQ after Tlast, the first of them."""
    b = row.curves.batch
    present = ((b.kind == QUANTIFIED) | (b.kind == ABOVE)) & b.inside
    return _loss(row, "t_blq", present, (b.kind == BLQ) & b.inside, "at or above its LLOQ", "below the LLOQ")


def _detection(row: Row) -> tuple[np.ndarray, np.ndarray]:
    b = row.curves.batch
    sampled = (b.kind != NONE) & b.inside
    return sampled & (b.detection == DETECTED), sampled & (b.detection == UNDETECTED)


def tlast_detected(row: Row) -> list[Step]:
    """Samples above the LOD, the last of them."""
    times = [t for t, _ in row.samples(_detection(row)[0])]
    return [Step("last time of a detection", "tlast_detected", _of("max", times), max(times))]


def t_not_detected(row: Row) -> list[Step]:
    """Samples without detection after the last one with it, the first of them."""
    return _loss(row, "t_not_detected", *_detection(row), "with cells above the LOD", "without detection")


LEVELS = (cmax, tmax, clast, tlast, tfirst, tlag, trough)
AREAS = (auc_last, auc_all, auc_int, auc_int_extrap_pct, aumc_last, mrt_last)
FITS = (
    lambda_z,
    half_life,
    lambda_z_n_points,
    lambda_z_start,
    lambda_z_end,
    r_squared,
    r_squared_adj,
    corr_xy,
    span_ratio,
    clast_pred,
)
BOTH = (auc_inf_obs, auc_inf_pred, auc_extrap_pct, aumc_inf_obs, mrt_inf_obs)
LOSSES = (t_blq, tlast_detected, t_not_detected)

ARITHMETIC: Mapping[str, Callable[[Row], list[Step]]] = {
    f.__name__: f for f in (*LEVELS, *AREAS, *FITS, *BOTH, *LOSSES)
}
"""Parameters that are explained step by step; any other one by its definition, its inputs and its value."""


def steps(name: str, row: Row, value: float) -> list[Step]:
    """The arithmetic of a parameter, the last step with a symbol being the parameter itself.

    Parameters
    ----------
    name : str
        Identifier of the parameter.
    row : Row
        Profile and window.
    value : float
        What the parameter is; NaN where it is missing: then only what was tried is told.
    """
    if math.isnan(value):
        fits = (*FITS, *BOTH)
        whole = row.curves.batch.window_kind[row.i] != NAMED
        return choice(row) if name in {f.__name__ for f in fits} and whole else []
    if name in ARITHMETIC:
        return ARITHMETIC[name](row)
    return [Step("as defined above, from the samples marked as used", name, n(value), value)]
