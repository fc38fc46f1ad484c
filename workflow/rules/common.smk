# What several rules share: the command, the settings as parameters, the batches.
import glob
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from nkinetics import plugins, provenance, running, settings as typed
from nkinetics.errors import InputError

# Rules call `nkinetics`: the command of the environment that runs snakemake, also where it is not activated.
# Each holds a file of the folder while it works, and ends with its shell (nkinetics.running says why).
shell.prefix(
    f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH {running.WITH_SHELL}=1; "
    f"exec 9>>.snakemake/{running.JOBS}; flock -s 9 2>/dev/null || true; "
)
# profiles/cluster-generic calls scripts beside it, from the study folder.
os.environ["NKINETICS_TOP"] = str(
    next(
        folder
        for folder in Path(workflow.main_snakefile).resolve().parents
        if folder.name != "workflow"
    )
)


def say(line):
    """One line on the terminal."""
    print(line, file=sys.stderr)


# Jobs that snakemake starts through a snakemake of their own take no lock.
if workflow.is_main_process:
    RUNNING = running.enter(Path.cwd(), say)


def check_configuration():
    """Stop with every wrong key and value of every configuration file, each with its line."""
    global SETTINGS
    try:
        for path in workflow.configfiles:
            typed.load(os.path.relpath(path))
        SETTINGS = typed.located(
            typed.validated(config, "the merged configuration"), Path.cwd()
        )
    except InputError as error:
        raise WorkflowError(str(error)) from None


def plain_config():
    """The merged configuration as JSON would hold it: YAML makes a date of 2026-10-31, the schema knows text."""
    return json.loads(json.dumps(config, default=str))


def section(name):
    """One section of the settings as JSON: a changed choice runs the stages that use it again, a comment nothing."""
    return typed.as_json(getattr(SETTINGS, name))


def sections(*names):
    """Several sections as JSON."""
    return json.dumps(
        {name: SETTINGS.model_dump(mode="json")[name] for name in names}, sort_keys=True
    )


def code(stage):
    """Fingerprint of the code behind a command; Snakemake does not see edits of an imported package."""
    return provenance.fingerprint(stage)


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


def batch_file(wildcards):
    """Observations of a batch, known once the checkpoint has run."""
    return f"{checkpoints.ingest.get().output.batches}/{wildcards.batch}.csv"


def batch_table(name):
    """A study table of a batch, known once the checkpoint has run."""

    def path(wildcards):
        return f"{checkpoints.ingest.get().output.study}/{wildcards.batch}/{name}.csv"

    return path


def write_run_config():
    """Write the merged configuration, from which every command of this run reads."""
    # Imports pandas; a run with nothing to do never comes here.
    from nkinetics.store import write_text

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
    ending=["svg", "png", "json"],
)

# Tables made batch by batch.
PARTS = ["nca", "nca_points", "blq_sensitivity", "fits", "estimates", "predictions"]
PARTS += ["model_averages", "likelihood_profiles", "constant_sensitivity"]


wildcard_constraints:
    batch=r"\d+",
    table="|".join(PARTS),


def mark_outdated():
    """After a failed run the old report would pass for the new one: it gets a name that says what it is."""
    for name in ("report.html",):
        path = Path("results", name)
        if path.exists():
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


onstart:
    running.wait_for_jobs(Path.cwd(), say)
    write_run_config()


onsuccess:
    say_what_was_set_aside()


onerror:
    mark_outdated()
