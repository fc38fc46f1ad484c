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


rule gather_nca:
    """Join the batches of the tables of the NCA."""
    input:
        batch_parts(NCA_TABLES),
    output:
        expand("results/{table}.csv", table=NCA_TABLES),
    log:
        "logs/gather_nca.log",
    benchmark:
        "logs/benchmarks/gather_nca.tsv"
    params:
        code=code("gather"),
        parts=batch_folders,
        tables=NCA_TABLES,
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics gather --input {params.parts} --table {params.tables}"
        " --output-dir {params.folder} > {log} 2>&1"


rule gather_fits:
    """Join the batches of the tables of the models."""
    input:
        batch_parts(FIT_TABLES),
    output:
        expand("results/{table}.csv", table=FIT_TABLES),
    log:
        "logs/gather_fits.log",
    benchmark:
        "logs/benchmarks/gather_fits.tsv"
    params:
        code=code("gather"),
        parts=batch_folders,
        tables=FIT_TABLES,
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics gather --input {params.parts} --table {params.tables}"
        " --output-dir {params.folder} > {log} 2>&1"
