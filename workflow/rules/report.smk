CANONICAL = expand(
    "results/{table}.csv",
    table=[
        "ingest",
        "runs",
        "calibrators",
        "observations",
        "observation_sources",
        "nca",
        "nca_points",
        "fits",
        "estimates",
    ]
    + ["predictions", "blq_sensitivity"]
    + ["model_averages", "likelihood_profiles", "constant_sensitivity"]
    + ["persistence", "persistence_patients", "persistence_turnbull", "detectability"]
    + ["dose_proportionality", "assay_agreement", "exposure_response"]
    + POPULATION_TABLES
    + FORECAST_TABLES,
)
CHANGES = ["results/changes.csv"] if PREVIOUS else []


rule validation:
    """Controls with known answers and planted defects, carried out by the very code that makes this report."""
    input:
        references=reference_numbers(),
    output:
        "results/validation.csv",
    log:
        "logs/validation.log",
    benchmark:
        "logs/benchmarks/validation.tsv"
    params:
        code=code("qualify"),
        references=(
            ["--references", SETTINGS.report.references]
            if SETTINGS.report.references
            else []
        ),
    shell:
        "nkinetics qualify oq {params.references:q} --table {output} > {log} 2>&1"


rule tables:
    """Every report table, with its footnotes."""
    input:
        tables=CANONICAL,
        study=study_files,
    output:
        [
            report(
                f"results/tables/{name}.csv",
                category="Tables",
                subcategory="One by one (CSV)",
                labels={"id": item.id, "title": item.title},
                caption="../report/table.rst",
            )
            for name, item in plugins.headings("tables").items()
        ],
        expand("results/tables/{name}.json", name=plugins.names("tables")),
        xlsx=report(
            "results/tables.xlsx",
            category="Tables",
            labels={"id": "all", "title": "All tables as a workbook (XLSX)"},
            caption="../report/workbook.rst",
        ),
    log:
        "logs/tables.log",
    benchmark:
        "logs/benchmarks/tables.tsv"
    params:
        code=code("table"),
        choices=typed.as_json(SETTINGS),
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics table all --results results --output-dir {params.folder} --xlsx {output.xlsx} > {log} 2>&1"


rule tables_rtf:
    """All tables in one RTF document, for medical writers."""
    input:
        tables=CANONICAL,
        study=study_files,
    output:
        rtf=report(
            "results/tables.rtf",
            category="Tables",
            labels={"id": "all", "title": "All tables for medical writers (RTF)"},
            caption="../report/workbook.rst",
        ),
    log:
        "logs/tables_rtf.log",
    benchmark:
        "logs/benchmarks/tables_rtf.tsv"
    params:
        code=code("table"),
        choices=typed.as_json(SETTINGS),
    shell:
        "nkinetics table all --results results --rtf {output.rtf} > {log} 2>&1"


rule figures:
    """A third of the report figures as SVG, with their footnotes: what the page needs."""
    input:
        tables=CANONICAL,
        study=study_files,
    output:
        [
            report(
                f"results/figures/{name}.svg",
                category="Figures",
                labels={"id": item.id, "title": item.title},
                caption="../report/figure.rst",
            )
            for name, item in FIGURES[0].items()
        ],
        expand("results/figures/{name}.json", name=FIGURES[0]),
    log:
        "logs/figures.log",
    benchmark:
        "logs/benchmarks/figures.tsv"
    params:
        code=code("figure"),
        choices=typed.as_json(SETTINGS),
        names=list(FIGURES[0]),
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics figure {params.names} --only svg json --results results"
        " --output-dir {params.folder} > {log} 2>&1"


use rule figures as other_figures with:
    output:
        [
            report(
                f"results/figures/{name}.svg",
                category="Figures",
                labels={"id": item.id, "title": item.title},
                caption="../report/figure.rst",
            )
            for name, item in FIGURES[1].items()
        ],
        expand("results/figures/{name}.json", name=FIGURES[1]),
    log:
        "logs/other_figures.log",
    benchmark:
        "logs/benchmarks/other_figures.tsv"
    priority: 1  # the longest of what the page waits for begins first
    params:
        code=code("figure"),
        choices=typed.as_json(SETTINGS),
        names=list(FIGURES[1]),
        folder=subpath(output[0], parent=True),


rule pictures:
    """Every report figure as PNG, for slides; on another core beside the report, which does without."""
    input:
        tables=CANONICAL,
        study=study_files,
    output:
        PICTURE_FILES,
    log:
        "logs/pictures.log",
    benchmark:
        "logs/benchmarks/pictures.tsv"
    params:
        code=code("figure"),
        choices=typed.as_json(SETTINGS),
        folder=subpath(output[0], parent=True),
    shell:
        "nkinetics figure all --only png --results results --output-dir {params.folder} > {log} 2>&1"


rule report:
    """The report that the committee reads: one HTML file; of many patients, a page for each beside it."""
    input:
        tables=CANONICAL,
        study=study_files,
        validation="results/validation.csv",
        parts=TABLE_FILES + FIGURE_FILES,
        changes=CHANGES,
        exclusions="results/exclusions.jsonl",
        cdisc=["results/cdisc/contents.csv"] if SETTINGS.cdisc.in_report else [],
    output:
        page=report(
            "results/report.html",
            category="Report",
            labels={"form": "page (HTML)"},
            caption="../report/report.rst",
        ),
        # Empty up to report.patient_details patients.
        patients=directory("results/patients"),
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    params:
        code=code("report"),
        choices=typed.as_json(SETTINGS),
    shell:
        "mkdir -p {output.patients} && nkinetics report --results results --output {output.page} > {log} 2>&1"


rule pdf:
    """The report on paper (tagged PDF/UA-1), and the committee brief alone on one page."""
    input:
        tables=CANONICAL,
        study=study_files,
        validation="results/validation.csv",
        parts=TABLE_FILES + FIGURE_FILES,
        changes=CHANGES,
        exclusions="results/exclusions.jsonl",
        cdisc=["results/cdisc/contents.csv"] if SETTINGS.cdisc.in_report else [],
    output:
        report=report(
            "results/report.pdf", category="Report", caption="../report/report.rst"
        ),
        brief=report(
            "results/brief.pdf", category="Report", caption="../report/brief.rst"
        ),
    log:
        "logs/pdf.log",
    benchmark:
        "logs/benchmarks/pdf.tsv"
    params:
        code=code("report"),
        choices=typed.as_json(SETTINGS),
    shell:
        "nkinetics report --results results --output {output.report} --brief {output.brief} > {log} 2>&1"
