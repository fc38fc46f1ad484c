rule persistence:
    """Kaplan-Meier persistence by dose level."""
    input:
        nca="results/nca.csv",
        study="results/study",
    output:
        "results/persistence.csv",
    log:
        "logs/persistence.log",
    benchmark:
        "logs/benchmarks/persistence.tsv"
    params:
        code=code("persistence"),
        settings=section("statistics"),
    shell:
        "nkinetics persistence --nca {input.nca}"
        " --patients {input.study}/patients.csv --settings {params.settings:q} --output {output} > {log} 2>&1"
