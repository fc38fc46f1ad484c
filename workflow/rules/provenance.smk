if PREVIOUS:

    rule changes:
        """What differs from the data cut before this one, which the configuration names (report.previous)."""
        input:
            previous=previous_cut(),
            tables=expand("results/{table}.csv", table=provenance.COMPARED),
            study=study_files,
        output:
            "results/changes.csv",
        log:
            "logs/changes.log",
        benchmark:
            "logs/benchmarks/changes.tsv"
        params:
            code=code("diff"),
            choices=typed.as_json(SETTINGS),
            previous=SETTINGS.report.previous,
            folder=subpath(output[0], parent=True),
        shell:
            "nkinetics diff {params.previous:q} {params.folder} --running --output {output} > {log} 2>&1"


rule manifest:
    """Every input, choice, version and output of the run with its hash; `nkinetics verify` checks them."""
    input:
        CHANGES,
        "results/batches",
        "results/study",
        "results/exclusions.jsonl",
        "results/validation.csv",
        "results/population_fit.json",
        tables=CANONICAL,
        final=final_outputs,
        parts=expand("results/parts/{batch}/{table}.csv", batch=batches(), table=PARTS),
    output:
        MANIFEST,
    log:
        "logs/manifest.log",
    benchmark:
        "logs/benchmarks/manifest.tsv"
    params:
        own=code("manifest"),
        code=codes,
        choices=typed.as_json(SETTINGS),
        files=configuration_files(),
        folder=subpath(output[0], parent=True),
        # Nine files of each batch: their names would not fit a command line where batches are many.
        parts=expand("results/parts/{batch}", batch=batches()),
        others=named_outputs,
    shell:
        "nkinetics manifest --results {params.folder} --code {params.code:q} --config-files {params.files:q}"
        " --files {params.others} {params.parts} > {log} 2>&1"
