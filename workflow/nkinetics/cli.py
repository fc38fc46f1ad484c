"""The command: one subcommand per stage - read, call, write.

Imports stand inside the subcommands, so that ``--help`` answers at once and a stage loads only what it needs.
`nkinetics.provenance` follows these imports to tell which code a stage depends on.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nkinetics import __version__, running
from nkinetics.errors import BAD_INPUT, DONE, GATE, GateError, InputError, Problem, printable

if TYPE_CHECKING:
    import pandas as pd


def _init(args: argparse.Namespace) -> int:
    from nkinetics.ingest import init_study

    for path in init_study(args.folder):
        print(path)
    return DONE


def _check(args: argparse.Namespace) -> int:
    from nkinetics import ingest, settings

    checked = ingest.check(settings.load(args.config), Path.cwd())
    print(checked.text)
    if checked.problems:
        raise InputError(checked.problems)
    return DONE


def _ingest(args: argparse.Namespace) -> int:
    from nkinetics import ingest, settings

    choices, here = settings.load(args.config), Path.cwd()
    before = ingest.input_states(choices, here)
    done = ingest.run(choices, here)
    ingest.write(done, args.output_dir)
    ingest.raise_if_changed(before, choices, here)
    for warning in done.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    if done.problems and not args.keep_going:
        print(f"The readable exports were ingested to {args.output_dir}; the others are listed below.", file=sys.stderr)
        raise InputError(done.problems)
    for problem in done.problems:
        print(f"set aside: {problem}", file=sys.stderr)
    return DONE


def _nca(args: argparse.Namespace) -> int:
    from nkinetics import inputs, nca, observations, settings
    from nkinetics.columns import NCA, NCA_POINTS
    from nkinetics.store import table_writer, write_table

    observed = observations.load(args.observations)
    infusions = inputs.load_infusions(args.infusions) if args.infusions else None
    patients = inputs.load_patients(args.patients) if args.patients else None
    choices, blq = settings.section("nca", args.settings), settings.section("blq", args.blq)
    points = args.points or args.output.with_name("nca_points.csv")
    with table_writer(args.output, NCA) as write_numbers, table_writer(points, NCA_POINTS) as write_points:
        for numbers, used in nca.in_blocks(observed, infusions, choices, blq, patients):
            write_numbers(numbers)
            write_points(used)
    if args.sensitivity:
        from nkinetics.columns import BLQ_SENSITIVITY
        from nkinetics.nca.blq_sensitivity import blq_sensitivity

        under_rules = blq_sensitivity(observed, infusions, choices, blq, patients)
        write_table(under_rules, args.sensitivity, BLQ_SENSITIVITY)
    return DONE


def _explain(args: argparse.Namespace) -> int:
    from nkinetics import explaining, nca, settings
    from nkinetics.fitting import explain as by_model
    from nkinetics.nca import explain as by_samples
    from nkinetics.results import Results

    for name in ("run_config.yaml", "observations.csv"):
        if not (args.results / name).is_file() and not (name == "run_config.yaml" and args.config):
            mend = "run the workflow first, or name the results folder with --results"
            raise InputError(Problem((args.results / name).as_posix(), found="no such file", expected=name, mend=mend))
    choices = settings.load(args.config or args.results / "run_config.yaml")
    results = Results(args.results)
    behind = explaining.wells(results.table("observation_sources"), results.table("ingest"))
    observed, infusions = results.table("observations"), results.table("infusions")
    patients = results.table("patients")
    of_nca = args.parameter in nca.BY_NAME or args.parameter.upper() in {p.code for p in nca.PARAMETERS}
    of_model = by_model.is_known(args.parameter, choices.models)
    if args.model and args.window:
        mend = "leave one of them out"
        raise InputError(Problem("explain", found="--model and --window", expected="one of them", mend=mend))
    if not (of_nca or of_model or args.model):
        words = [*nca.BY_NAME, *by_model.names(choices.models)]
        who = explaining.unknown("PATIENT", args.patient, {*patients["patient_id"], *observed["patient_id"]})
        raise InputError([*who, *explaining.unknown("PARAMETER", args.parameter, words)])
    notes = []
    if args.model or (of_model and not of_nca and not args.window):
        fitted = by_model.explain(
            observed,
            infusions if len(infusions) else None,
            results.table("cytokines"),
            patients,
            choices.models,
            choices.blq,
            args.patient,
            args.parameter,
            args.assay,
            args.specimen,
            args.model,
            sources=behind,
        )
        print("\n".join(fitted.lines()))
        notes.append(by_model.difference(fitted, results.table("estimates")))
    else:
        made = by_samples.analysis(observed, infusions, choices.nca, choices.blq, patients)
        told = by_samples.explain(
            made, args.patient, args.parameter, args.assay, args.specimen, args.window, sources=behind
        )
        print("\n".join(told.lines()))
        notes.append(by_samples.difference(told, results.table("nca")))
        if of_model:
            having = by_model.names(choices.models)[args.parameter]
            notes.append(
                f"{args.parameter} is also a parameter of the model {having[0]}: --model {having[0]} explains that one"
            )
    for note in notes:
        if note:
            print(f"\n{note}")
    return DONE


def _fit(args: argparse.Namespace) -> int:
    from nkinetics import fitting, inputs, observations, settings
    from nkinetics.columns import (
        CONSTANT_SENSITIVITY,
        ESTIMATES,
        FITS,
        LIKELIHOOD_PROFILES,
        MODEL_AVERAGES,
        PREDICTIONS,
    )
    from nkinetics.store import write_table

    choices = settings.section("models", args.settings)
    if args.models:
        choices = settings.with_candidates(choices, tuple(args.models.split(",")))
    infusions = inputs.load_infusions(args.infusions) if args.infusions else None
    observed = observations.load(args.observations)
    cytokines = inputs.load_cytokines(args.cytokines, infusions) if args.cytokines else None
    blq = settings.section("blq", args.blq)
    patients = inputs.load_patients(args.patients) if args.patients else None
    done = fitting.analyse(observed, infusions, cytokines, choices, blq, patients, args.reference_dose)
    over_ranges = fitting.over_ranges(
        observed, infusions, cytokines, choices, blq=blq, patients=patients, reference_dose=args.reference_dose
    )
    for schema, table in (
        (FITS, done.fits),
        (ESTIMATES, done.estimates),
        (PREDICTIONS, done.predictions),
        (MODEL_AVERAGES, done.averages),
        (LIKELIHOOD_PROFILES, done.likelihood_profiles),
        (CONSTANT_SENSITIVITY, over_ranges),
    ):
        write_table(table, args.output_dir / f"{schema.name}.csv", schema)
    return DONE


def _design(args: argparse.Namespace) -> int:
    from nkinetics import inputs, settings
    from nkinetics.columns import DESIGN, DESIGN_CANDIDATES
    from nkinetics.fitting import plan
    from nkinetics.store import read_table, write_table

    texts, zone, reference_dose = dict(vars(args)), "UTC", args.reference_dose
    frames: dict[str, pd.DataFrame] = {}
    choices = settings.section("models", args.settings)
    if args.config:
        study = settings.located(settings.load(args.config), Path.cwd())
        choices = study.models if args.settings is None else choices
        zone, reference_dose = study.study.time_zone, reference_dose or study.study.reference_dose
        if not (args.times or args.schedule or args.samples):
            texts["samples"] = study.inputs.samples
        texts["infusions"] = args.infusions or study.inputs.infusions
        texts["cytokines"] = args.cytokines or study.inputs.cytokines
    problems: list[Problem] = []
    readers = {
        "schedule": lambda path: read_table(path, plan.SCHEDULE, foreign=True),
        "samples": inputs.load_samples,
        "infusions": lambda path: inputs.load_infusions(path, zone),
        "cytokines": lambda path: inputs.load_cytokines(path, frames.get("infusions"), zone),
    }
    for name, read in readers.items():
        text = texts[name]
        if text and (name in ("schedule", "samples") or plan.is_file(text)):
            try:
                frames[name] = read(Path(text))
            except InputError as error:
                problems += error.problems
    request = plan.asked(texts, frames, choices, reference_dose, problems)
    answer = plan.answer(request)
    write_table(answer.design, args.output_dir / "design.csv", DESIGN)
    write_table(answer.candidates, args.output_dir / "design_candidates.csv", DESIGN_CANDIDATES)
    if args.figure:
        from nkinetics.figures import _design
        from nkinetics.results import Context
        from nkinetics.store import write_bytes, write_text

        whole = settings.load(args.config) if args.config else settings.Settings()
        svg, png = _design.files(request, answer, Context(whole, __version__))
        write_text(args.output_dir / "design.svg", svg)
        write_bytes(args.output_dir / "design.png", png)
    print(answer.text)
    return DONE


def _population(args: argparse.Namespace) -> int:
    from nkinetics import columns, inputs, observations, settings
    from nkinetics.population.comparison import compare
    from nkinetics.store import sha256_of, write_json, write_table

    infusions = inputs.load_infusions(args.infusions) if args.infusions else None
    choices, models = settings.section("population", args.settings), settings.section("models", args.constants)
    full = args.full or choices.compare
    name = args.model or choices.model or models.default
    settings.known_models((name, *choices.candidates))
    update = {"model": name} if full else {"model": name, "candidates": (name,)}
    done = compare(
        observations.load(args.observations),
        infusions=infusions,
        cytokines=inputs.load_cytokines(args.cytokines, infusions) if args.cytokines else None,
        patients=inputs.load_patients(args.patients) if args.patients else None,
        settings=choices.model_copy(update=update),
        models=models,
        blq=settings.section("blq", args.blq),
        methods=("saem", "bayes") if args.both or full else (),
        reference_dose=args.reference_dose,
    )
    made = done.estimated
    for schema, table in (
        (columns.POPULATION, made.population),
        (columns.INDIVIDUALS, made.individuals),
        (columns.POPULATION_PREDICTIONS, made.predictions),
        (columns.POPULATION_POINTS, made.points),
        (columns.POPULATION_TRACES, made.traces),
        (columns.POPULATION_DRAWS, made.draws),
        (columns.POPULATION_VPC, made.vpc),
        (columns.POPULATION_COMPARISON, done.comparison),
    ):
        write_table(table, args.output_dir / f"{schema.name}.csv", schema)
    cut = args.data_cut.read_text(encoding="utf-8").strip() if args.data_cut else ""
    of = {"data": {"observations": sha256_of(args.observations), "data_cut": cut or None}}
    write_json(made.fit | {"chosen": done.chosen} | of, args.output_dir / "population_fit.json")
    return DONE


def _predict(args: argparse.Namespace) -> int:
    import json

    from nkinetics import columns, inputs, observations, settings
    from nkinetics.population import prediction
    from nkinetics.store import read_table, write_table

    scenario = ("dose", "infusions", "cytokines", "agent", "patients", "name")
    texts = {k: getattr(args, k) for k in scenario}
    config = args.config or args.results / "run_config.yaml"
    problems: list[Problem] = []
    choices = settings.Prediction()
    try:
        if args.settings:
            choices = settings.section("prediction", args.settings)
        elif args.config or config.is_file():
            choices = settings.load(config).prediction
        if any(texts.values()):
            choices = choices.model_copy(update={"scenarios": (prediction.asked(texts),)})
    except InputError as error:
        problems += error.problems
    folder, study = args.population or args.results, args.results / "study"
    paths = [folder / "population_fit.json", folder / "population.csv", folder / "population_draws.csv"]
    paths.append(args.observations or args.results / "observations.csv")
    problems += [
        Problem(p.as_posix(), found="no such file", expected=f"the {p.name} of a fitted population", mend=mend)
        for p in paths
        if not p.is_file()
        for mend in ["run nkinetics population first, or name its folder with --population"]
    ]
    if problems:
        raise InputError(problems)
    fit = json.loads(paths[0].read_text(encoding="utf-8"))
    tables = {n: study / f"{n}.csv" for n in ("infusions", "cytokines", "patients")}
    given = inputs.load_infusions(tables["infusions"]) if tables["infusions"].is_file() else None
    done = prediction.forecast(
        fit,
        read_table(paths[1], columns.POPULATION),
        read_table(paths[2], columns.POPULATION_DRAWS),
        observations.load(paths[3]),
        infusions=given,
        cytokines=inputs.load_cytokines(tables["cytokines"], given) if tables["cytokines"].is_file() else None,
        patients=inputs.load_patients(tables["patients"]) if tables["patients"].is_file() else None,
        settings=choices.model_copy(update={"remaining": True}) if args.remaining else choices,
        model=args.model,
        method=args.method,
    )
    for schema, table in (
        (columns.POPULATION_FORECAST, done.population_forecast),
        (columns.POPULATION_FORECAST_CURVES, done.population_forecast_curves),
        (columns.INDIVIDUAL_FORECAST, done.individual_forecast),
        (columns.INDIVIDUAL_FORECAST_CURVES, done.individual_forecast_curves),
    ):
        write_table(table, args.output_dir / f"{schema.name}.csv", schema)
    return DONE


def _persistence(args: argparse.Namespace) -> int:
    from nkinetics import inputs, observations, settings
    from nkinetics.columns import DETECTABILITY, NCA, PERSISTENCE, PERSISTENCE_PATIENTS, PERSISTENCE_TURNBULL
    from nkinetics.population import persistence
    from nkinetics.population.detectability import detectability
    from nkinetics.store import read_table, write_table

    losses = {parameter for pair in persistence.LIMITS.values() for parameter in pair}
    parameters = read_table(args.nca, NCA, where={"window": {"overall"}, "parameter": losses})
    patients = inputs.load_patients(args.patients) if args.patients else None
    choices = settings.section("statistics", args.settings)
    made = [
        (PERSISTENCE, persistence.kaplan_meier(parameters, patients, choices), args.output),
        (PERSISTENCE_PATIENTS, persistence.individual(parameters, patients), None),
        (PERSISTENCE_TURNBULL, persistence.turnbull_by_dose_level(parameters, patients, choices), None),
    ]
    if args.observations:
        infusions = inputs.load_infusions(args.infusions) if args.infusions else None
        shares = detectability(observations.load(args.observations), patients, infusions, choices)
        made.append((DETECTABILITY, shares, None))
    for schema, table, path in made:
        write_table(table, path or args.output.with_name(f"{schema.name}.csv"), schema)
    return DONE


def _statistics(args: argparse.Namespace) -> int:
    from nkinetics import inputs, observations, settings
    from nkinetics.columns import ASSAY_AGREEMENT, DOSE_PROPORTIONALITY, EXPOSURE_RESPONSE, NCA
    from nkinetics.population.assay_agreement import assay_agreement
    from nkinetics.population.dose_proportionality import dose_proportionality
    from nkinetics.population.exposure import EXPOSURES
    from nkinetics.population.exposure_response import exposure_response
    from nkinetics.store import read_table, write_table

    parameters = read_table(args.nca, NCA, where={"parameter": EXPOSURES})
    observed = observations.load(args.observations)
    infusions = inputs.load_infusions(args.infusions) if args.infusions else None
    patients = inputs.load_patients(args.patients) if args.patients else None
    events = inputs.load_events(args.events, infusions) if args.events else None
    choices = settings.section("statistics", args.settings)
    by_amount = dose_proportionality(parameters, observed, patients, infusions, choices)
    beside = exposure_response(parameters, observed, patients, infusions, events, choices)
    agreed = assay_agreement(observed, choices)
    for schema, table in ((DOSE_PROPORTIONALITY, by_amount), (ASSAY_AGREEMENT, agreed), (EXPOSURE_RESPONSE, beside)):
        write_table(table, args.output_dir / f"{schema.name}.csv", schema)
    return DONE


def _gather(args: argparse.Namespace) -> int:
    from nkinetics.columns import SCHEMAS
    from nkinetics.store import schema_of, write_gathered

    if bool(args.table) == bool(args.output):
        found, expected = ("--table", "no --table") if args.table else ("no --table", "names of tables")
        mend = "to join tables of folders: --input FOLDER ... --table NAME ... --output-dir FOLDER"
        raise InputError(Problem("gather", column="--table", found=found, expected=expected, mend=mend))
    unknown = [name for name in args.table if name not in SCHEMAS]
    if unknown:
        expected = f"names of canonical tables: {', '.join(sorted(SCHEMAS))}"
        raise InputError(
            Problem("gather", column="--table", found=" ".join(unknown), expected=expected, mend="correct the name")
        )
    if args.output:
        schema = schema_of(args.input[0])
        write_gathered(args.input, args.output, schema)
    for name in args.table:
        files = [part / f"{name}.csv" for part in args.input]
        write_gathered(files, args.output_dir / f"{name}.csv", SCHEMAS[name])
    return DONE


def _table(args: argparse.Namespace) -> int:
    from nkinetics import settings, tables
    from nkinetics.results import Context, Results
    from nkinetics.store import write_bytes
    from nkinetics.tables._rich_text import rich_text
    from nkinetics.tables._workbook import workbook

    together = {"--xlsx": args.xlsx, "--rtf": args.rtf}
    for flag, path in together.items():
        if path and args.name != "all":
            mend = "write: nkinetics table all, or leave the option out"
            raise InputError(Problem("table", column=flag, found=args.name, expected="all", mend=mend))
    if not (args.output or args.output_dir or args.xlsx or args.rtf):
        mend = "say where to write"
        raise InputError(
            Problem("table", found="no output", expected="--output, --output-dir, --xlsx or --rtf", mend=mend)
        )
    context = Context(settings.load(args.config or args.results / "run_config.yaml"), __version__)
    # Opened anew each time: what the tables were made of need not be held while they are put together.
    if args.output or args.output_dir:
        tables.write(args.name, Results(args.results), context, args.output or args.output_dir)
    if args.xlsx:
        write_bytes(args.xlsx, workbook(Results(args.results), context))
    if args.rtf:
        write_bytes(args.rtf, rich_text(Results(args.results), context))
    return DONE


def _figure(args: argparse.Namespace) -> int:
    from nkinetics import figures, settings
    from nkinetics.results import Context, Results

    context = Context(settings.load(args.config or args.results / "run_config.yaml"), __version__)
    endings = args.only or figures.ENDINGS
    if args.output and len(args.name) > 1:
        mend = "write: --output-dir FOLDER"
        raise InputError(
            Problem("figure", column="--output", found=" ".join(args.name), expected="one name", mend=mend)
        )
    results = Results(args.results)
    for name in args.name:
        figures.write(name, results, context, args.output or args.output_dir, endings)
    return DONE


def _report(args: argparse.Namespace) -> int:
    from nkinetics import report, settings
    from nkinetics.report import pdf
    from nkinetics.results import Results
    from nkinetics.store import write_bytes, write_text

    choices = settings.load(args.config or args.results / "run_config.yaml")
    results = Results(args.results)
    output = args.output or (None if args.brief else args.results / "report.html")
    on_paper = output is not None and output.suffix.lower() == ".pdf"
    if output and not on_paper:
        write_text(output, report.build(results, choices, __version__))
        for path, page in report.patient_pages(results, choices, __version__, output.name):
            write_text(output.parent / path, page)
    if on_paper or args.brief:
        printable = report.printable(results, choices, __version__)
        if output and on_paper:
            write_bytes(output, pdf.written(printable.html, printable.pictures))
        if args.brief:
            write_bytes(args.brief, pdf.one_page(printable.brief, printable.pictures))
    return DONE


def _qualify(args: argparse.Namespace) -> int:
    from nkinetics import qualification
    from nkinetics.columns import VALIDATION
    from nkinetics.qualification import document, installation, performance, references
    from nkinetics.store import write_bytes, write_table, write_text

    root, notes = Path.cwd(), []
    if args.kind == "iq":
        controls = installation.controls(root)
    elif args.kind == "pq":
        controls = performance.controls(root)
    else:
        controls = qualification.CONTROLS
        if args.references:
            controls += references.controls(args.references)
        else:
            notes.append("Controls against other programs' numbers: no folder was named (--references).")
    tests = document.junit(args.junit) if args.junit else None
    if args.kind == "oq" and tests is None:
        notes.append("Results of the tests in the matrix: no report was named (--junit, from pytest --junit-xml).")
    found = qualification.table(qualification.carried_out(controls))
    wrong = found[~found["as_required"].fillna(False).astype(bool)]
    if args.table:
        write_table(found, args.table, VALIDATION)
    else:
        page = document.html(args.kind, found, installation.facts(), tests, notes)
        base = args.output_dir / f"qualification_{args.kind}"
        write_table(found, base.with_suffix(".csv"), VALIDATION)
        write_text(base.with_suffix(".html"), page)
        print(base.with_suffix(".html"))
        printed = document.pdf(page)
        if printed:
            write_bytes(base.with_suffix(".pdf"), printed)
            print(base.with_suffix(".pdf"))
    print(f"{len(found) - len(wrong)} of {len(found)} controls came out as required")
    if len(wrong):
        raise GateError(
            "\n".join(f"{r.control} {r.title}: {r.found}; expected {r.expected}" for r in wrong.itertuples())
        )
    return DONE


def _diff(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from nkinetics import provenance
    from nkinetics.columns import CHANGES
    from nkinetics.provenance import changes, manifest
    from nkinetics.report import answers_by_dose_level
    from nkinetics.store import write_table

    cuts = []
    for folder, cut in zip((args.old, args.new), changes.read_cuts(args.old, args.new), strict=True):
        # While the workflow runs, the manifest of this cut is still that of the run before.
        running = args.running and folder == args.new
        program = provenance.versions(__version__) if running else manifest.versions(folder)
        answered = answers_by_dose_level(cut.results, cut.settings, __version__)
        cuts.append(replace(cut, answers=answered, program=program))
    table = changes.changes(*cuts)
    if args.output:
        write_table(table, args.output, CHANGES)
    if args.json:
        print(changes.as_json(table), end="")
    elif not args.output:
        print(changes.told(table, args.old.as_posix(), args.new.as_posix()))
    return DONE


def _manifest(args: argparse.Namespace) -> int:
    import json

    from nkinetics import settings
    from nkinetics.provenance import manifest

    made = manifest.build(
        args.results,
        settings.load(args.results / "run_config.yaml"),
        __version__,
        named=args.files,
        code=json.loads(args.code) if args.code else None,
        configuration_files=args.config_files,
    )
    manifest.write(made, args.results)
    return DONE


def _verify(args: argparse.Namespace) -> int:
    import tempfile

    from nkinetics import ingest, settings
    from nkinetics.provenance import manifest

    said = manifest.read(args.results)
    try:
        choices = settings.validated(said.get("configuration", {}), (args.results / manifest.FILE).as_posix())
    except InputError:
        choices = None  # edited: its seal says so
    exports = ingest.export_names(choices, args.root) if choices else []
    found = manifest.check(
        said, args.results, args.root, __version__, exports=exports, any_environment=args.any_environment
    )
    if args.deep and choices:
        with tempfile.TemporaryDirectory() as again:
            try:
                ingest.write(ingest.run(choices, args.root), Path(again))
            except InputError as error:
                found += [manifest.Finding("content", p.file, str(p), "what the run read") for p in error.problems]
            else:
                found += manifest.differing(args.results, Path(again))
    print(manifest.told(found, said))
    return DONE if all(finding.note for finding in found) else GATE


def _cdisc(args: argparse.Namespace) -> int:
    from nkinetics import cdisc, settings
    from nkinetics.results import Context, Results

    cdisc.require_libraries()
    context = Context(settings.load(args.config or args.results / "run_config.yaml"), __version__)
    package = cdisc.build(Results(args.results), context)
    cdisc.write(package, args.output_dir)
    print(cdisc.summary(package))
    return DONE


def _conformance(args: argparse.Namespace) -> int:
    from nkinetics.cdisc import _engine
    from nkinetics.store import csv_text, write_text

    found = _engine.conformance(args.package, args.rules, args.python)
    write_text(args.output, csv_text(found))
    print(_engine.counts(found))
    return DONE


def _crate(args: argparse.Namespace) -> int:
    from nkinetics.provenance import crate, manifest

    made = manifest.read(args.results)
    published = crate.date_of(made, args.date)
    files = crate.contents(made, args.results, args.root)
    crate.write(args.output, files, crate.describe(made, files, published, args.license), published)
    print(f"{args.output}: {len(files)} files, run {made['run'][:16]}")
    return DONE


def _simulate(args: argparse.Namespace) -> int:
    from nkinetics import simulate

    for path in simulate.write(simulate.study(args.seed), args.output_dir, truth=args.truth):
        print(path)
    return DONE


def _reference(args: argparse.Namespace) -> int:
    from nkinetics import reference
    from nkinetics.store import write_text

    for name, text in reference.files().items():
        write_text(args.output_dir / name, text)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nkinetics",
        description="CAR-NK cellular kinetics, from the assay export to the report a committee decides on.",
        epilog="Exit status: 0 done, 1 a bug of ours, 2 bad input (every problem is named), 3 a binding "
        "quality gate (verify: something differs).",
    )
    parser.add_argument("--version", action="version", version=f"nkinetics {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, meaning: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=meaning, description=meaning)
        sub.set_defaults(run=globals()[f"_{name}"])
        return sub

    def path(sub: argparse.ArgumentParser, flag: str, meaning: str, *, required: bool = False) -> None:
        sub.add_argument(flag, type=Path, required=required, help=meaning, metavar="PATH")

    def config(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--config", type=Path, default=Path("config/config.yaml"), help="configuration", metavar="PATH"
        )

    def one_section(sub: argparse.ArgumentParser, flag: str, name: str) -> None:
        sub.add_argument(
            flag, metavar="PATH|JSON", help=f"the section {name} of the configuration, a path or JSON text"
        )

    init = command("init", "write a new study folder with the input tables to fill in")
    init.add_argument("folder", type=Path, metavar="DIR")

    config(command("check", "read every input and export, print what was found, compute nothing further"))

    ingest = command("ingest", "raw exports and input tables to observations")
    config(ingest)
    path(ingest, "--output-dir", "folder for ingest.csv, runs.csv, observations.csv ...", required=True)
    ingest.add_argument(
        "--keep-going",
        action="store_true",
        help="exit status 0 although an export could not be read (the workflow's way)",
    )

    nca = command("nca", "non-compartmental parameters of every patient, assay and window")
    path(nca, "--observations", "observations.csv, ours or your own", required=True)
    path(nca, "--infusions", "infusions.csv; without it one infusion at 0")
    path(nca, "--patients", "patients.csv, so that a patient without observations stands in the result")
    one_section(nca, "--settings", "nca")
    one_section(nca, "--blq", "blq")
    path(nca, "--output", "nca.csv to write", required=True)
    path(nca, "--points", "nca_points.csv to write; beside the output by default")
    path(nca, "--sensitivity", "blq_sensitivity.csv to write: parameters under other rules for levels below the LLOQ")

    explain = command("explain", "how one number was made: samples with their wells, rules, arithmetic step by step")
    explain.add_argument("patient", metavar="PATIENT", help="patient, as 001")
    explain.add_argument(
        "parameter",
        metavar="PARAMETER",
        help="parameter of nca.csv (identifier or code, as auc_last) or of a model (as delta)",
    )
    explain.add_argument("--results", type=Path, default=Path("results"), help="results folder", metavar="DIR")
    path(explain, "--config", "configuration; run_config.yaml of the results by default")
    explain.add_argument("--assay", default="", help="as flow; quantitative PCR before the others by default")
    explain.add_argument("--specimen", default="", help="as blood; the first by default")
    explain.add_argument("--window", default="", help="overall, infusion_1, D0-28 ...; the usual one by default")
    explain.add_argument(
        "--model", default="", help="kinetic model; the configured one that has the parameter by default"
    )

    fit = command("fit", "kinetic models of every patient and assay")
    path(fit, "--observations", "observations.csv, ours or your own", required=True)
    path(fit, "--infusions", "infusions.csv; without it one infusion at 0")
    path(fit, "--cytokines", "cytokines.csv")
    path(fit, "--patients", "patients.csv, so that a patient without observations stands in the result")
    fit.add_argument("--models", metavar="A,B", help="models to fit, in place of models.candidates")
    one_section(fit, "--settings", "models")
    one_section(fit, "--blq", "blq")
    fit.add_argument("--reference-dose", type=float, metavar="CELLS", help="default: the lowest planned amount")
    path(fit, "--output-dir", "folder for fits.csv, estimates.csv, predictions.csv ...", required=True)

    design = command("design", "judge a sampling schedule before it is used: expected errors, samples to add or drop")
    design.add_argument("--times", metavar="DAYS", help="planned samples as 0.08,1,2 (days from the first infusion)")
    design.add_argument(
        "--schedule", metavar="PATH", help="table of planned samples: time, lloq and lod where they differ"
    )
    design.add_argument("--samples", metavar="PATH", help="samples.csv: every time_nominal of any patient")
    design.add_argument(
        "--infusions", metavar="PATH|DAYS", help="infusions.csv, or 0,3,6, or with amounts 0:1,3:1,6:0.5; default: one"
    )
    design.add_argument(
        "--cytokines", metavar="PATH|DAYS", help="cytokines.csv, or days of the model's agent as 0,3,6,9"
    )
    design.add_argument(
        "--patient", metavar="PATIENT", help="whose infusions and cytokines of the tables; default: most"
    )
    design.add_argument("--model", metavar="NAME", help="kinetic model; models.default without it")
    design.add_argument(
        "--truth", metavar="A=X,B=Y", help="parameters as delta=0.4,rho=0.6; the model's example otherwise"
    )
    design.add_argument("--sigma", metavar="SD", help="residual SD of ln, 0.5 by default")
    design.add_argument("--lloq", metavar="LEVEL", help="LLOQ, 50 by default")
    design.add_argument("--lod", metavar="LEVEL", help="LOD; none by default")
    design.add_argument(
        "--counted", metavar="N", help="molecules or events counted per unit of the level; default: not used"
    )
    design.add_argument("--level-unit", metavar="UNIT", help="unit of the level in the answer, copies/ug by default")
    design.add_argument(
        "--candidates", metavar="DAYS", help="times of a further sample; default: every half day and more"
    )
    design.add_argument("--add", metavar="N", help="samples to add one after the other, 3 by default")
    design.add_argument(
        "--apart", metavar="DAYS", help="least distance of a candidate to another sample, 0.25 by default"
    )
    design.add_argument(
        "--target", metavar="NAME", help="rank by the error of this parameter or quantity; default: ln det"
    )
    design.add_argument(
        "--omega", metavar="SD|A=X,B=Y", help="SD between patients, scale of estimation: errors over them"
    )
    design.add_argument("--draws", metavar="N", help="patients drawn with --omega, 200 by default")
    design.add_argument(
        "--patients", metavar="N,N", help="patients per dose level: errors of typical values; needs --omega"
    )
    design.add_argument("--doses", metavar="X,Y", help="the dose levels, as multiples of the infusions' amounts")
    design.add_argument("--reference-dose", type=float, metavar="CELLS", help="default: the lowest planned amount")
    path(design, "--config", "configuration: its models, and its samples, infusions and cytokines where not given here")
    one_section(design, "--settings", "models")
    design.add_argument("--figure", action="store_true", help="draw it too: design.svg and design.png")
    path(design, "--output-dir", "folder for design.csv and design_candidates.csv", required=True)

    population = command("population", "one model, all patients together: SAEM or full Bayes")
    path(population, "--observations", "observations.csv, ours or your own", required=True)
    path(population, "--infusions", "infusions.csv; without it one infusion at 0")
    path(population, "--cytokines", "cytokines.csv")
    path(population, "--patients", "patients.csv, for dose levels and covariates")
    population.add_argument("--model", metavar="NAME", help="kinetic model, in place of population.model")
    population.add_argument("--both", action="store_true", help="also the method that the rule did not choose")
    population.add_argument(
        "--full", action="store_true", help="every candidate by both methods; which structure, and why"
    )
    path(population, "--data-cut", "file that holds the data cut, as study/data_cut.txt, for population_fit.json")
    one_section(population, "--settings", "population")
    one_section(population, "--constants", "models")
    one_section(population, "--blq", "blq")
    population.add_argument("--reference-dose", type=float, metavar="CELLS", help="default: the lowest planned amount")
    path(population, "--output-dir", "folder for population.csv, individuals.csv ...", required=True)

    predict = command("predict", "new patients at another dose or schedule, and each patient from here on")
    predict.add_argument("--results", type=Path, default=Path("results"), help="results folder", metavar="DIR")
    path(predict, "--population", "folder of the fitted population, as results/population_full; that of the results")
    path(predict, "--observations", "observations.csv that were fitted; those of the results by default")
    path(predict, "--config", "configuration; run_config.yaml of the results by default")
    one_section(predict, "--settings", "prediction")
    predict.add_argument("--model", metavar="NAME", help="fitted model; the chosen one by default")
    predict.add_argument("--method", choices=("saem", "bayes"), help="the one that the rule chose by default")
    predict.add_argument("--dose", metavar="CELLS", help="one scenario in place of the configured: 6e9, or 6e9,6e9,3e9")
    predict.add_argument("--infusions", metavar="DAYS", help="its infusions as 0,3,6; one by default")
    predict.add_argument("--cytokines", metavar="DAYS", help="its cytokine doses as 0,3,6,9; none by default")
    predict.add_argument("--agent", metavar="NAME", help="which cytokine, IL-2 by default")
    predict.add_argument("--patients", metavar="N", help="size of the cohort; prediction.patients by default")
    predict.add_argument("--name", metavar="NAME", help="name of the scenario")
    predict.add_argument(
        "--remaining", action="store_true", help="patients get the infusions of their dose level still to come"
    )
    path(predict, "--output-dir", "folder for population_forecast.csv, individual_forecast.csv ...", required=True)

    persistence = command("persistence", "persistence by dose level: Kaplan-Meier, Turnbull, detectable on set days")
    path(persistence, "--nca", "nca.csv", required=True)
    path(persistence, "--observations", "observations.csv, for detectability.csv (detectable of sampled on set days)")
    path(persistence, "--infusions", "infusions.csv, for who was treated; without it everyone")
    path(persistence, "--patients", "patients.csv, for the reasons of right-censoring")
    one_section(persistence, "--settings", "statistics")
    path(
        persistence,
        "--output",
        "persistence.csv to write; persistence_patients.csv, persistence_turnbull.csv and detectability.csv beside it",
        required=True,
    )

    statistics = command("statistics", "dose proportionality, agreement of assays, exposure beside events and response")
    path(statistics, "--nca", "nca.csv", required=True)
    path(statistics, "--observations", "observations.csv, ours or your own", required=True)
    path(statistics, "--infusions", "infusions.csv, for the amounts given; without it no dose proportionality")
    path(statistics, "--patients", "patients.csv, for response and target, and for patients without any result")
    path(statistics, "--events", "events.csv; without it toxicity is not known")
    one_section(statistics, "--settings", "statistics")
    path(
        statistics,
        "--output-dir",
        "folder for dose_proportionality.csv, assay_agreement.csv, exposure_response.csv",
        required=True,
    )

    gather = command("gather", "join the batches of canonical tables")
    gather.add_argument(
        "--input", type=Path, nargs="+", required=True, metavar="PATH", help="files of one table; with --table folders"
    )
    gather.add_argument("--table", nargs="+", default=[], metavar="NAME", help="tables of the folders, as fits")
    where = gather.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, metavar="PATH", help="table to write")
    where.add_argument("--output-dir", type=Path, metavar="PATH", help="folder of the tables to write")

    for name, what in (("table", "csv"), ("figure", "svg and png")):
        item = command(name, f"one report {name} by its name, or all ({what}, with its footnotes as json)")
        item.add_argument(
            "name", nargs="+" if name == "figure" else None, metavar="NAME", help="module name, stable id, or all"
        )
        path(item, "--results", "results folder", required=True)
        path(item, "--config", "configuration; run_config.yaml of the results by default")
        where = item.add_mutually_exclusive_group(required=name == "figure")
        where.add_argument("--output", type=Path, metavar="PATH", help="file to write (one item)")
        where.add_argument("--output-dir", type=Path, metavar="PATH", help="folder to write to")
        if name == "figure":
            only = ("svg", "png", "json")
            item.add_argument("--only", nargs="+", choices=only, help="files of each figure to write; all by default")
        if name == "table":
            path(item, "--xlsx", "workbook to write: all tables, a sheet each")
            path(item, "--rtf", "RTF to write: all tables, for medical writers (needs the extra rtf)")

    report = command("report", "the report: one self-contained HTML file, or PDF")
    path(report, "--results", "results folder", required=True)
    path(report, "--config", "configuration; run_config.yaml of the results by default")
    path(report, "--output", "file to write, .html or .pdf; report.html of the results by default")
    path(report, "--brief", "PDF to write: the committee brief alone, on one page")

    qualify = command("qualify", "qualification with a protocol to sign: installation, operation, performance")
    qualify.add_argument(
        "kind",
        choices=("iq", "oq", "pq"),
        help="iq: this environment; oq: known answers and planted defects; pq: the study of this folder, twice",
    )
    path(qualify, "--references", "oq: folder of other programs' numbers to compare with")
    path(qualify, "--junit", "oq: report of pytest --junit-xml, for the matrix of requirements")
    path(qualify, "--table", "only write the table of controls, as validation.csv")
    qualify.add_argument(
        "--output-dir", type=Path, default=Path("qualification"), metavar="PATH", help="folder of the protocol"
    )

    diff = command(
        "diff", "what differs between two results folders of one study: patients, samples, numbers, verdicts"
    )
    diff.add_argument("old", type=Path, metavar="OLD", help="results folder of the earlier data cut")
    diff.add_argument("new", type=Path, metavar="NEW", help="results folder of the later one")
    path(diff, "--output", "changes.csv to write, with every difference; the terminal shows the first of each part")
    diff.add_argument("--json", action="store_true", help="print every difference as JSON")
    diff.add_argument(
        "--running", action="store_true", help="NEW is being computed by this very program (the workflow's way)"
    )

    manifest = command("manifest", "name every input, choice, version and output of a run with its hash")
    path(manifest, "--results", "results folder; run_manifest.json is written into it", required=True)
    manifest.add_argument(
        "--files", type=Path, nargs="+", metavar="PATH", help="outputs of the run; everything in the folder by default"
    )
    manifest.add_argument("--code", metavar="JSON", help="fingerprint of each command of the run")
    manifest.add_argument(
        "--config-files", nargs="*", default=[], metavar="PATH", help="configurations merged, in order"
    )

    verify = command("verify", "check inputs, outputs, configuration and versions against run_manifest.json")
    verify.add_argument("--results", type=Path, default=Path("results"), help="results folder", metavar="DIR")
    verify.add_argument(
        "--root", type=Path, default=Path(), help="study folder, to which the inputs are relative", metavar="DIR"
    )
    verify.add_argument("--deep", action="store_true", help="also read every export again and compare the observations")
    verify.add_argument(
        "--any-environment", action="store_true", help="other versions are notes, as where another computer checks"
    )

    cdisc = command("cdisc", "SDTM, ADaM and population data sets with define.xml, checks and a reviewer's guide")
    path(cdisc, "--results", "results folder", required=True)
    path(cdisc, "--config", "configuration; run_config.yaml of the results by default")
    path(cdisc, "--output-dir", "folder for sdtm/, adam/, pharmacometrics/, checks.csv ...", required=True)

    conformance = command("conformance", "the CDISC rules engine over the SDTM data sets, with rules that you supply")
    path(conformance, "--package", "folder that nkinetics cdisc wrote", required=True)
    path(conformance, "--rules", "rules of the engine (JSON)", required=True)
    conformance.add_argument(
        "--python", default="python3.12", metavar="PROGRAM", help="interpreter that has cdisc-rules-engine"
    )
    path(conformance, "--output", "table to write", required=True)

    crate = command("crate", "pack inputs, results, choices and versions of a run as an RO-Crate (extra crate)")
    crate.add_argument("--results", type=Path, default=Path("results"), help="results folder", metavar="DIR")
    crate.add_argument("--root", type=Path, default=Path(), help="study folder", metavar="DIR")
    path(crate, "--output", "zip file to write, as results-crate.zip", required=True)
    crate.add_argument("--date", metavar="DATE", help="date of the crate (ISO); the data cut by default")
    crate.add_argument("--license", metavar="URL", default="", help="under which licence the crate is given on")

    simulate = command("simulate", "a study with known truth, written as the instruments would have written it")
    path(simulate, "--output-dir", "folder for config/, data/raw/ and the truth", required=True)
    simulate.add_argument(
        "--truth", default="truth", metavar="PATH", help="sub-folder for the truth; never read by the workflow"
    )
    simulate.add_argument("--seed", type=int, default=1, help="another seed, another study of the same design")

    reference = command("reference", "write the schema and config/README.md from the settings models (for developers)")
    path(reference, "--output-dir", "checkout", required=True)
    return parser


def _keep_inputs(args: argparse.Namespace) -> None:
    """Stop before a command would write over one of its own inputs."""
    given = vars(args)
    inputs = {
        n: given.get(n) for n in ("observations", "infusions", "cytokines", "patients", "events", "nca", "config")
    }
    read = {p.resolve(): f"--{n}" for n, p in inputs.items() if isinstance(p, Path)}
    read |= {p.resolve(): "--input" for p in given.get("input") or []}
    for name in ("output", "points", "sensitivity"):
        target = given.get(name)
        if isinstance(target, Path) and target.resolve() in read:
            raise InputError(
                Problem(
                    target.as_posix(),
                    column=f"--{name}",
                    found=f"the file that {read[target.resolve()]} reads",
                    expected="another file",
                    mend="name a new file to write",
                )
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 2 bad input, 3 a binding quality gate; an exception of ours leaves with its traceback.
    """
    running.end_with_shell()
    # A stage ends before much garbage can gather; looking for it every 700 objects takes a tenth of its time.
    gc.set_threshold(50_000, 10, 10)
    # Threads of BLAS cost more than they give on matrices of this size, and change the last digits of sums.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    args = _parser().parse_args(argv)
    try:
        _keep_inputs(args)
        status: int = args.run(args)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except GateError as error:
        print(error, file=sys.stderr)
        return GATE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        place = f" {error.filename}" if error.filename else ""
        print(f"Cannot write{place}: {error.strerror}. Nothing half-written was left; run again.", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of our output (as `head`) closed it: nothing is wrong.
        sys.stderr.close()
        return DONE
    return status
