checkpoint ingest:
    """Read every export and the study's tables; write observations, the account of every row, and one file per batch.

    The only checkpoint: after it the batches are compared by content, so that new data run only the batches they touch.
    """
    input:
        **study_tables(),
        exports=exports(),
    output:
        batches=directory("results/batches"),
        study=directory("results/study"),
        ingest="results/ingest.csv",
        runs="results/runs.csv",
        calibrators="results/calibrators.csv",
        observations="results/observations.csv",
        sources="results/observation_sources.csv",
        exclusions="results/exclusions.jsonl",
    log:
        "logs/ingest.log",
    benchmark:
        "logs/benchmarks/ingest.tsv"
    params:
        code=code("ingest"),
        choices=sections(
            "study", "inputs", "assays", "generic", "nca", "batches", "strict"
        ),
        keep_going="" if SETTINGS.strict else "--keep-going",
    shell:
        "nkinetics ingest --config results/run_config.yaml --output-dir results {params.keep_going} > {log} 2>&1"
