PART_TABLES = [
    "nca",
    "nca_points",
    "blq_sensitivity",
    "fits",
    "estimates",
    "predictions",
    "model_averages",
    "likelihood_profiles",
    "constant_sensitivity",
]


rule nca:
    """Non-compartmental parameters of a batch of patients."""
    input:
        observations=batch_file,
        infusions=batch_table("infusions"),
        patients=batch_table("patients"),
    output:
        nca="results/parts/{batch}/nca.csv",
        points="results/parts/{batch}/nca_points.csv",
        sensitivity="results/parts/{batch}/blq_sensitivity.csv",
    log:
        "logs/nca/{batch}.log",
    benchmark:
        "logs/benchmarks/nca_{batch}.tsv"
    params:
        code=code("nca"),
        settings=section("nca"),
        blq=section("blq"),
    shell:
        "nkinetics nca --observations {input.observations} --infusions {input.infusions}"
        " --patients {input.patients} --settings {params.settings:q} --blq {params.blq:q}"
        " --output {output.nca} --points {output.points} --sensitivity {output.sensitivity} > {log} 2>&1"


rule fit:
    """Kinetic models of a batch of patients, each on its own."""
    input:
        observations=batch_file,
        infusions=batch_table("infusions"),
        cytokines=batch_table("cytokines"),
        patients=batch_table("patients"),
    output:
        fits="results/parts/{batch}/fits.csv",
        estimates="results/parts/{batch}/estimates.csv",
        predictions="results/parts/{batch}/predictions.csv",
        averages="results/parts/{batch}/model_averages.csv",
        likelihoods="results/parts/{batch}/likelihood_profiles.csv",
        sensitivity="results/parts/{batch}/constant_sensitivity.csv",
    log:
        "logs/fit/{batch}.log",
    benchmark:
        "logs/benchmarks/fit_{batch}.tsv"
    params:
        code=code("fit"),
        settings=section("models"),
        blq=section("blq"),
        folder=subpath(output.fits, parent=True),
    shell:
        "nkinetics fit --observations {input.observations} --infusions {input.infusions}"
        " --cytokines {input.cytokines} --patients {input.patients}"
        " --settings {params.settings:q} --blq {params.blq:q}"
        " --output-dir {params.folder} > {log} 2>&1"


rule gather:
    """Join the batches of one table."""
    input:
        batch_parts,
    output:
        "results/{table}.csv",
    log:
        "logs/gather/{table}.log",
    benchmark:
        "logs/benchmarks/gather_{table}.tsv"
    params:
        code=code("gather"),
    shell:
        "nkinetics gather --input {input} --output {output} > {log} 2>&1"
