"""The methods text, written from the settings that the run used, and the glossary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import discover
from nkinetics.settings import LambdaZ, Settings, Statistics
from nkinetics.wording import Words, unit_name


def methods(settings: Settings, s: Mapping[str, Any], language: str) -> list[tuple[str, list[str]]]:
    """Paragraphs by heading."""
    nca, z, words = settings.nca, settings.nca.lambda_z, Words(language)
    windows = words.join(f"D{start:g}–{end:g}" for start, end in nca.windows)
    return [
        (s["method_levels"], _levels(settings, s, words)),
        (s["method_time"], [s["method_time_text"].format(share=f"{100 * nca.predose_share:g}")]),
        (
            s["method_nca"],
            [
                s["method_auc"].format(
                    rule=s["auc_rule"][nca.auc_rule], start=s["auc_start"][nca.start], windows=windows
                ),
                s["method_lambda_z"].format(
                    points=z.points_min,
                    r_squared=f"{z.r_squared_adj_min:g}",
                    span=f"{z.span_ratio_min:g}",
                    extrapolated=f"{z.extrapolation_pct_max:g}",
                ),
                *_terminal(z, s),
                s["method_persistence"].format(
                    rule=s["loss_rule"][str(nca.consecutive_blq)],
                    windows=words.join(
                        f"{day} {earliest:g}–{latest:g}"
                        for day, (_, earliest, latest) in sorted(
                            settings.statistics.detectable_at.items(), key=lambda item: item[1]
                        )
                    ),
                ),
            ],
        ),
        (s["method_models"], _models(settings, s, words)),
        (s["method_population"], _population(settings, s, words)),
        (
            s["method_summaries"],
            [
                s["method_summaries_text"].format(
                    level=f"{100 * settings.statistics.confidence:g}", n=settings.statistics.summary_n_min
                ),
                *_dose_levels(settings.statistics, s),
            ],
        ),
    ]


def _dose_levels(statistics: Statistics, s: Mapping[str, Any]) -> list[str]:
    """Dose proportionality, agreement of assays, exposure beside events."""
    dose, agreement = statistics.dose_proportionality, statistics.agreement
    return [
        s["method_dose"].format(
            level=f"{100 * dose.confidence:g}", low=f"{dose.limits[0]:g}", high=f"{dose.limits[1]:g}"
        ),
        s["method_agreement"].format(within=f"{agreement.pair_within:g}", ratio=f"{agreement.error_ratio:g}"),
        s["method_exposure"].format(n=statistics.tested_n_min),
    ]


def _terminal(z: LambdaZ, s: Mapping[str, Any]) -> list[str]:
    """What departs from the rule for terminal fits: the censored line, and points chosen by hand with their reasons."""
    said = [s["method_tobit"]] if z.method == "tobit" else []
    choices = [
        (s["manual_include"] if m.include else s["manual_exclude"]).format(
            name=m.name, days=", ".join(f"{t:g}" for t in m.include or m.exclude), reason=m.reason
        )
        for m in z.manual
    ]
    return [*said, s["method_manual"].format(choices="; ".join(choices))] if choices else said


def _levels(settings: Settings, s: Mapping[str, Any], words: Words) -> list[str]:
    assays, parts = settings.assays, []

    def limit(value: float | None) -> str:
        return s["not_established"] if value is None else f"{value:g}"

    if assays.qpcr:
        a = assays.qpcr.acceptance
        parts.append(
            s["method_qpcr"].format(
                analyte=assays.qpcr.analyte,
                unit=unit_name(assays.qpcr.level_unit),
                slope_min=f"{a.slope_min:g}",
                slope_max=f"{a.slope_max:g}",
                r_squared=f"{a.r_squared_min:g}",
                levels=a.levels_min,
                share=f"{100 * a.back_calculation_share:g}",
                pct=f"{a.back_calculation_pct:g}",
                lloq_pct=f"{a.back_calculation_lloq_pct:g}",
                lloq=limit(assays.qpcr.lloq_copies),
                lod=limit(assays.qpcr.lod_copies),
            )
        )
    if assays.ddpcr:
        parts.append(
            s["method_ddpcr"].format(
                analyte=assays.ddpcr.analyte,
                unit=unit_name(assays.ddpcr.level_unit),
                partitions=assays.ddpcr.acceptance.partitions_min,
                lloq=limit(assays.ddpcr.lloq_copies),
                lod=limit(assays.ddpcr.lod_copies),
            )
        )
    if assays.flow:
        parts.append(
            s["method_flow"].format(
                analyte=assays.flow.analyte,
                method=s["flow_method"][assays.flow.method],
                lloq=limit(assays.flow.lloq_events),
                lod=limit(assays.flow.lod_events),
            )
        )
    if settings.generic:
        matched = words.join(dict.fromkeys(g.match for g in settings.generic))
        units = words.join(dict.fromkeys(unit_name(g.level_unit) for g in settings.generic))
        parts.append(s["method_generic"].format(files=matched, units=units))
    return parts


def _models(settings: Settings, s: Mapping[str, Any], words: Words) -> list[str]:
    models, known = settings.models, discover("models")

    def title(name: str) -> str:
        return words.pick(known[name].title) if name in known else name

    text = s["method_models_text"].format(
        blq=settings.blq.models,
        candidates=words.say("; ", "；").join(title(m) for m in models.candidates),
        default=title(models.default),
        interval=s["interval_method"][models.interval],
        level=f"{100 * models.confidence:g}",
        rse=f"{models.rse_limit_pct:g}",
    )
    shown = dict.fromkeys((models.default, *models.candidates))
    formulas = {m: known[m].formula(models.constants(m)) for m in shown if m in known}
    return [
        text,
        s["method_averages"],
        *(s["model_formula"].format(title=title(m), formula=words.told(f)) for m, f in formulas.items()),
    ]


def _population(settings: Settings, s: Mapping[str, Any], words: Words) -> list[str]:
    choices, known = settings.population, discover("models")
    name = choices.model or settings.models.default
    candidates = choices.candidates or settings.models.candidates
    return [
        s["method_population_text"].format(
            model=words.pick(known[name].title) if name in known else name,
            blq=settings.blq.models,
            method=s["population_method"][choices.method].format(n=choices.bayes_below),
            typical=f"{choices.weak_prior_sd:g}",
            omega=f"{choices.omega_prior:g}",
            seeds=choices.seeds,
        ),
        s["method_structure"][str(choices.compare).lower()].format(candidates=words.join(candidates)),
    ]


def glossary(s: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Terms and their meaning."""
    return [(term, meaning) for term, meaning in (entry.split("|", 1) for entry in s["glossary"].values())]
