# The CDISC package: an optional target, no part of `rule all` unless the report is to have its section.
rule cdisc:
    """SDTM, ADaM and population data sets with define.xml, checks and the reviewer's guide."""
    input:
        tables=expand(
            "results/{table}.csv",
            table=["observations", "nca", "nca_points", "persistence_patients"],
        ),
        study=study_files,
    output:
        contents="results/cdisc/contents.csv",
        checks="results/cdisc/checks.csv",
        guide="results/cdisc/reviewers_guide.md",
        sdtm=directory("results/cdisc/sdtm"),
        adam=directory("results/cdisc/adam"),
        pharmacometrics=directory("results/cdisc/pharmacometrics"),
    log:
        "logs/cdisc.log",
    benchmark:
        "logs/benchmarks/cdisc.tsv"
    params:
        code=code("cdisc"),
        choices=typed.as_json(SETTINGS),
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics cdisc --results results --output-dir {params.folder} > {log} 2>&1"


if SETTINGS.cdisc.rules:

    rule cdisc_rules:
        """Findings of the CDISC rules engine over the SDTM data sets, in an environment of its own."""
        input:
            package="results/cdisc/sdtm",
            rules=SETTINGS.cdisc.rules,
        output:
            "results/cdisc_rules.csv",
        log:
            "logs/cdisc_rules.log",
        benchmark:
            "logs/benchmarks/cdisc_rules.tsv"
        params:
            code=code("conformance"),
            python=SETTINGS.cdisc.engine_python,
        shell:
            "nkinetics conformance --package results/cdisc --rules {input.rules:q} --python {params.python:q}"
            " --output {output} > {log} 2>&1"
