POPULATION_TABLES = [
    "population",
    "individuals",
    "population_predictions",
    "population_points",
    "population_traces",
    "population_draws",
    "population_vpc",
    "population_comparison",
]
FORECAST_TABLES = [
    "population_forecast",
    "population_forecast_curves",
    "individual_forecast",
    "individual_forecast_curves",
]


rule persistence:
    """Persistence by dose level: Kaplan-Meier, Turnbull as sensitivity, and detectable of sampled on set days."""
    input:
        nca="results/nca.csv",
        observations="results/observations.csv",
        infusions=study_table("infusions"),
        patients=study_table("patients"),
    output:
        persistence="results/persistence.csv",
        patients="results/persistence_patients.csv",
        turnbull="results/persistence_turnbull.csv",
        detectability="results/detectability.csv",
    log:
        "logs/persistence.log",
    benchmark:
        "logs/benchmarks/persistence.tsv"
    params:
        code=code("persistence"),
        settings=section("statistics"),
    shell:
        "nkinetics persistence --nca {input.nca} --observations {input.observations}"
        " --infusions {input.infusions} --patients {input.patients}"
        " --settings {params.settings:q} --output {output.persistence} > {log} 2>&1"


rule population:
    """One model on the primary assay, all patients together."""
    input:
        observations=kept("results/observations.csv"),
        infusions=kept(study_table("infusions")),
        cytokines=kept(study_table("cytokines")),
        patients=kept(study_table("patients")),
        data_cut=kept(study_table("data_cut", "txt")),
    output:
        expand(
            "results/{table}.csv",
            table=POPULATION_TABLES,
        ),
        fit="results/population_fit.json",
    log:
        "logs/population.log",
    benchmark:
        "logs/benchmarks/population.tsv"
    params:
        code=code("population"),
        settings=population_choices(),
        constants=section("models"),
        blq=section("blq"),
        folder=subpath(output.fit, parent=True),
    shell:
        "nkinetics population --observations {input.observations}"
        " --infusions {input.infusions} --cytokines {input.cytokines}"
        " --patients {input.patients} --settings {params.settings:q}"
        " --constants {params.constants:q} --blq {params.blq:q} --data-cut {input.data_cut}"
        " --output-dir {params.folder} > {log} 2>&1"


rule population_full:
    """Every candidate model by both methods, and which structure the study supports."""
    input:
        observations="results/observations.csv",
        infusions=study_table("infusions"),
        cytokines=study_table("cytokines"),
        patients=study_table("patients"),
        data_cut=study_table("data_cut", "txt"),
    output:
        expand(
            "results/population_full/{table}.csv",
            table=POPULATION_TABLES,
        ),
        fit="results/population_full/population_fit.json",
    log:
        "logs/population_full.log",
    benchmark:
        "logs/benchmarks/population_full.tsv"
    params:
        code=code("population"),
        settings=population_choices(),
        constants=section("models"),
        blq=section("blq"),
        folder=subpath(output.fit, parent=True),
    shell:
        "nkinetics population --full --observations {input.observations}"
        " --infusions {input.infusions} --cytokines {input.cytokines}"
        " --patients {input.patients} --settings {params.settings:q}"
        " --constants {params.constants:q} --blq {params.blq:q} --data-cut {input.data_cut}"
        " --output-dir {params.folder} > {log} 2>&1"


rule statistics:
    """Dose levels against each other, assays against each other, exposure beside events and response."""
    input:
        nca="results/nca.csv",
        observations="results/observations.csv",
        infusions=study_table("infusions"),
        patients=study_table("patients"),
        events=study_table("events"),
    output:
        dose="results/dose_proportionality.csv",
        assays="results/assay_agreement.csv",
        response="results/exposure_response.csv",
    log:
        "logs/statistics.log",
    benchmark:
        "logs/benchmarks/statistics.tsv"
    params:
        code=code("statistics"),
        settings=section("statistics"),
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics statistics --nca {input.nca} --observations {input.observations}"
        " --infusions {input.infusions} --patients {input.patients}"
        " --events {input.events}"
        " --settings {params.settings:q} --output-dir {params.folder} > {log} 2>&1"


rule predict:
    """New patients at every dose level and the next, and each patient from the last sample on."""
    input:
        observations="results/observations.csv",
        infusions=study_table("infusions"),
        cytokines=study_table("cytokines"),
        patients=study_table("patients"),
        population="results/population.csv",
        draws="results/population_draws.csv",
        fit="results/population_fit.json",
    output:
        expand(
            "results/{table}.csv",
            table=FORECAST_TABLES,
        ),
    log:
        "logs/predict.log",
    benchmark:
        "logs/benchmarks/predict.tsv"
    params:
        code=code("predict"),
        settings=section("prediction"),
        folder=subpath(input.fit, parent=True),
    shell:
        "nkinetics predict --results {params.folder} --settings {params.settings:q}"
        " --output-dir {params.folder} > {log} 2>&1"
