# What several rules share: the command, the settings as parameters, the batches.
import glob
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

from snakemake import __version__ as snakemake_version
from snakemake.exceptions import WorkflowError

from nkinetics import (
    __version__ as version,
    optional,
    plugins,
    provenance,
    running,
    settings as typed,
)
from nkinetics.errors import InputError
from nkinetics.provenance import run_log

# Rules call `nkinetics`: the command of the environment that runs snakemake, also where it is not activated.
# Each holds a file of the folder while it works, and ends with its shell (nkinetics.running says why).
shell.prefix(
    f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH {running.WITH_SHELL}=1; "
    f"exec 9>>.snakemake/{running.JOBS}; flock -s 9 2>/dev/null || true; "
)
# profiles/cluster-generic calls scripts beside it, from the study folder.
os.environ |= {
    "NKINETICS_TOP": str(
        next(
            folder
            for folder in Path(workflow.main_snakefile).resolve().parents
            if folder.name != "workflow"
        )
    )
}


def say(line):
    """One line on the terminal."""
    print(line, file=sys.stderr)


SOURCES_READ = Path(".snakemake/nkinetics_sources.json")
provenance.remember(SOURCES_READ)

# Jobs that snakemake starts through a snakemake of their own take no lock.
if workflow.is_main_process:
    RUNNING = running.enter(Path.cwd(), say)


def check_configuration():
    """Stop with every wrong key and value of every configuration file, each with its line."""
    global SETTINGS, PREVIOUS
    try:
        for path in workflow.configfiles:
            typed.load(os.path.relpath(path))
        SETTINGS = typed.located(
            typed.validated(config, "the merged configuration"), Path.cwd()
        )
        PREVIOUS = (
            provenance.compared_files(Path(SETTINGS.report.previous))
            if SETTINGS.report.previous
            else []
        )
    except InputError as error:
        raise WorkflowError(str(error)) from None


def plain_config():
    """The merged configuration as JSON would hold it: YAML makes a date of 2026-10-31, the schema knows text."""
    return json.loads(json.dumps(config, default=str))


def section(name):
    """One section of the settings as JSON: a changed choice runs the stages that use it again, a comment nothing."""
    return typed.as_json(getattr(SETTINGS, name))


def population_choices():
    """The section `population` without the choice of when to estimate, which changes no estimate."""
    choices = SETTINGS.population.model_dump(mode="json")
    return json.dumps(
        {k: v for k, v in choices.items() if k != "refit"}, sort_keys=True
    )


def kept(path):
    """An input of the population fit: newer data ask for another one only where the configuration says so."""
    return path if SETTINGS.population.refit else ancient(path)


def sections(*names):
    """Several sections as JSON."""
    return json.dumps(
        {name: SETTINGS.model_dump(mode="json")[name] for name in names}, sort_keys=True
    )


def code(stage):
    """Fingerprint of the code behind a command and of the libraries; Snakemake does not see either change."""
    return f"{provenance.fingerprint(stage)} {provenance.environment()}"


def codes(wildcards):
    """Fingerprint of every command of the workflow, for the manifest, which itself decides no number."""
    called = {
        m[1]
        for r in workflow.rules
        for m in re.finditer(r"nkinetics (\w+)", r.shellcmd or "")
    }
    return json.dumps(
        {stage: provenance.fingerprint(stage) for stage in sorted(called)}
    )


def batches():
    """Names of the batches of patients."""
    return [f"{i:02d}" for i in range(SETTINGS.batches)]


def exports():
    """Every export that the configured patterns name, in order."""
    found = {
        p
        for pattern in SETTINGS.inputs.exports
        for p in glob.glob(pattern, recursive=True)
    }
    return sorted(
        p
        for p in found
        if os.path.isfile(p) and not os.path.basename(p).startswith((".", "README"))
    )


def study_tables():
    """The user's tables that the configuration names."""
    named = {name: getattr(SETTINGS.inputs, name) for name in typed.INPUT_TABLES}
    return {name: path for name, path in named.items() if path is not None}


def configuration_files():
    """The files that were merged into the configuration, in order, as seen from the study folder."""
    return [os.path.relpath(path) for path in workflow.configfiles]


def previous_cut():
    """Files of the data cut before this one that a comparison reads; none where no earlier cut is named."""
    return [str(path) for path in PREVIOUS]


def reference_numbers():
    """Files of other programs' numbers that the validation section compares with; none where no folder is named."""
    folder = SETTINGS.report.references
    return (
        sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
        if folder
        else []
    )


def final_outputs(wildcards):
    """Everything that the main job is asked for, without the manifest that names it."""
    return [path for path in rules.all.input if path != MANIFEST]


def named_outputs(wildcards, input):
    """Inputs of the manifest that its command names one by one."""
    return [path for path in input if path not in set(input.parts)]


def study_table(name, ending="csv"):
    """A user's table as ingest wrote it, known once the checkpoint has run.

    By the file and through the checkpoint: a folder is compared by its time, not by its content, and a job that is
    planned before the checkpoint runs again whatever came of it.
    """

    def path(wildcards):
        return f"{checkpoints.ingest.get().output.study}/{name}.{ending}"

    return path


STUDY_FILES = [f"{name}.csv" for name in typed.INPUT_TABLES]
STUDY_FILES += ["inputs.txt", "exports.txt"]


def study_files(wildcards):
    """Every table of the user as ingest wrote it, with the account of what was read."""
    folder = checkpoints.ingest.get().output.study
    return [f"{folder}/{name}" for name in STUDY_FILES]


def batch_file(wildcards):
    """Observations of a batch, known once the checkpoint has run."""
    return f"{checkpoints.ingest.get().output.batches}/{wildcards.batch}.csv"


def batch_table(name):
    """A study table of a batch, known once the checkpoint has run."""

    def path(wildcards):
        return f"{checkpoints.ingest.get().output.study}/{wildcards.batch}/{name}.csv"

    return path


def batch_folders(_):
    """The folder of parts of each batch, known once the checkpoint has run; see `study_table`."""
    checkpoints.ingest.get()
    return [f"results/parts/{batch}" for batch in batches()]


def batch_parts(tables):
    """The parts of some tables, one of each batch."""

    def parts(wildcards):
        return [
            f"{part}/{table}.csv"
            for table in tables
            for part in batch_folders(wildcards)
        ]

    return parts


def write_run_config():
    """Write the merged configuration, from which every command of this run reads."""
    # Imports pandas; a run with nothing to do never comes here.
    from nkinetics.store import write_text

    if not PREVIOUS:
        # Of an earlier run that had an earlier cut to compare with.
        Path("results/changes.csv").unlink(missing_ok=True)
    path = Path("results/run_config.yaml")
    text = typed.as_yaml(SETTINGS)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


TABLE_FILES = expand(
    "results/tables/{name}.{ending}",
    name=plugins.names("tables"),
    ending=["csv", "json"],
)
FIGURE_FILES = expand(
    "results/figures/{name}.{ending}",
    name=plugins.names("figures"),
    ending=["svg", "json"],
)
# Drawn by two jobs: of all that is done one by one between the models and the report, figures take longest. The first
# draws a third of them, because the tables, which take about as long as another third, are made on the same core.
DRAWN = list(plugins.headings("figures").items())
FIGURES = [dict(DRAWN[::3]), dict(item for i, item in enumerate(DRAWN) if i % 3)]
PICTURE_FILES = expand("results/figures/{name}.png", name=plugins.names("figures"))

# Tables made batch by batch.
NCA_TABLES = ["nca", "nca_points", "blq_sensitivity"]
FIT_TABLES = ["fits", "estimates", "predictions"]
FIT_TABLES += ["model_averages", "likelihood_profiles", "constant_sensitivity"]
PARTS = NCA_TABLES + FIT_TABLES


MANIFEST = "results/run_manifest.json"


def on_demand():
    """The PDF and RTF files of this run, each with what it lacks here: empty where it can be made, or must be."""
    asked = {
        "results/report.pdf": (SETTINGS.report.pdf, optional.pdf_lacks),
        "results/brief.pdf": (SETTINGS.report.pdf, optional.pdf_lacks),
        "results/tables.rtf": (SETTINGS.report.rtf, optional.rtf_lacks),
    }
    return {
        path: lacks() if wanted == "auto" else ""
        for path, (wanted, lacks) in asked.items()
        if wanted
    }


def on_paper():
    """What the target asks for: a machine that cannot make them still gets everything else."""
    return [path for path, lacking in on_demand().items() if not lacking]


wildcard_constraints:
    batch=r"\d+",
    table="|".join(PARTS),


def look_when_a_job_ends():
    """Take off snakemake's default limit of 100 jobs a second, which no study comes near.

    Under it, snakemake 9.27 looks at every job that waits once a second more for each job that has ended: a timer each,
    for ever. At hundreds of jobs that takes a core. A limit that someone chose stays.
    """
    limit = getattr(workflow.scheduling_settings, "max_jobs_per_timespan", None)
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


STARTED = time.time()


def mark_outdated():
    """After a failed run an old report would pass for the new one: it gets a name that says what it is."""
    for name in ("report.html", "report.pdf", "brief.pdf", "tables.xlsx", "tables.rtf"):
        path = Path("results", name)
        if path.exists() and path.stat().st_mtime < STARTED:
            path.replace(path.with_suffix(f".outdated{path.suffix}"))


def say_what_was_set_aside():
    """Exports that could not be read and warnings of the ingest, on the terminal, at the end of the run."""
    log = Path("logs/ingest.log")
    text = log.read_text(encoding="utf-8").rstrip() if log.exists() else ""
    if text:
        print(
            f"\nThe ingest has to say (also in results/report.html):\n{text}",
            file=sys.stderr,
        )
    for path in Path("results").glob("*.outdated.*"):
        path.unlink()
    for path, mend in on_demand().items():
        if mend:
            print(f"{path} was not made: {mend}", file=sys.stderr)


def log_begin():
    """Note in logs/runs.jsonl that a run began."""
    about = {
        "study": SETTINGS.study.id,
        "data_cut": SETTINGS.study.data_cut,
        "cores": workflow.cores,
        "versions": provenance.versions(version) | {"snakemake": snakemake_version},
    }
    run_log.begin(Path("logs"), about)


def log_end(outcome, log):
    """Note in logs/runs.jsonl how it ended; `log` is one file or several, by the version of snakemake."""
    files = [log] if isinstance(log, str) else list(log or [])
    run_log.end(Path("logs"), outcome, Path(files[-1]) if files else None)


onstart:
    look_when_a_job_ends()
    running.wait_for_jobs(Path.cwd(), say)
    log_begin()
    write_run_config()


onsuccess:
    log_end("done", log)
    say_what_was_set_aside()


onerror:
    log_end("failed", log)
    mark_outdated()
