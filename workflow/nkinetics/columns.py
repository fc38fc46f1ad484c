"""The canonical tables: names, types, units and checks of every file that a user writes or a stage exchanges.

A `Schema` is data. `nkinetics.store` reads and writes by it; `schema_problems` checks a foreign frame against it with
pandera and turns each failure case into a `Problem`. Files that our own stages wrote are checked for their columns and
types only, and pandera is asked only about a frame in which something is wrong, so that its import stays off the hot
path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nkinetics.errors import Problem

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "float", "int", "bool"]

IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
"""What an identifier may look like; anything else could be a formula or a path."""


def spelled(name: str) -> str:
    """A sample's name on an instrument as a manifest would spell it: no ending .fcs, hyphens for blanks and slashes.

    Examples
    --------
    >>> spelled("P001 D4/2h.fcs"), spelled("P001_D4"), spelled("S02+")
    ('P001-D4-2h', 'P001_D4', 'S02+')
    """
    return re.sub(r"[\s/]+", "-", re.sub(r"(?i)\.fcs$", "", name))


EXAMPLE = "EXAMPLE"
"""Patient of the example rows of `nkinetics init`; no table that still holds one is accepted."""

LEVEL_UNITS = ("copies/ug", "copies/mL", "copies/uL", "cells/uL", "%", "copies/cell")
"""The closed list of units of `level`. A unit library would convert copies into cells, both being dimensionless."""

STATUSES = ("quantified", "blq", "not_detected", "above_uloq", "not_done", "failed")
"""What became of a measurement. BLQ is never 0 and never an empty cell alone: `level` is empty, `lloq` is not."""

ASSAYS = ("qpcr", "ddpcr", "flow")


@dataclass(frozen=True)
class Column:
    """One column of a canonical table.

    Parameters
    ----------
    name : str
        As written in the file.
    kind : {"text", "float", "int", "bool"}
        Type of the values; identifiers are text, always.
    meaning : str
        One line for documentation.
    unit : str
        Unit of the values, empty where another column or none gives it.
    required : bool
        The column must exist in a file that a user brings.
    filled : bool
        No value may be empty.
    allowed : tuple of str
        Closed list of values; empty for any.
    pattern : str
        Regular expression that every non-empty value must match.
    minimum, maximum : float or None
        Smallest and largest value allowed.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    required: bool = False
    filled: bool = False
    allowed: tuple[str, ...] = ()
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Schema:
    """A canonical table: its name, its key and its columns in order.

    Parameters
    ----------
    name : str
        File name under the results or configuration folder, without ending.
    title : str
        One row per what.
    key : tuple of str
        Columns that identify a row; files are sorted by them.
    columns : tuple of Column
        In the order of the file.
    open_ended : bool
        Further columns may follow and are kept.
    """

    name: str
    title: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    open_ended: bool = False
    by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {c.name: c for c in self.columns})

    @property
    def names(self) -> list[str]:
        """Column names in the order of the file."""
        return [c.name for c in self.columns]

    @property
    def required(self) -> list[str]:
        """Columns that a file brought by a user must have."""
        return [c.name for c in self.columns if c.required]


def _identifier(name: str, meaning: str) -> Column:
    return Column(name, "text", meaning, required=True, filled=True, pattern=IDENTIFIER.pattern)


_PATIENT = _identifier("patient_id", "patient (USUBJID)")
_DOSE_LEVEL = Column("dose_level", "text", 'dose level, as "DL1"; never the amount', pattern=IDENTIFIER.pattern)
_ASSAY = Column("assay", "text", "qpcr, ddpcr or flow", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_SPECIMEN = Column("specimen", "text", "what was sampled, as blood")
_STARTED = Column("started_at", "text", "start, ISO date and time in the zone of the configuration")
_TIME = Column("time", "float", "start, elapsed from the start of the first infusion", "d")
_REASON = Column("reason", "text", "why the value is missing or to be read with care; empty = none")

# ---------------------------------------------------------------------------------------------- what the user writes

PATIENTS = Schema(
    "patients",
    "one row per patient",
    ("patient_id",),
    (
        _PATIENT,
        Column("dose_level", "text", 'dose level, as "DL1"; never the amount', "", True, True, (), IDENTIFIER.pattern),
        Column("cohort", "text", "cohort, as dose escalation or expansion"),
        Column(
            "status_end",
            "text",
            "how follow-up ended",
            allowed=("ongoing", "death", "withdrawal", "data_cut"),
        ),
        Column("time_end", "float", "when follow-up ended", "d"),
        Column("weight_kg", "float", "body weight", "kg", minimum=0.0),
        Column("dll3_high", "bool", "target expressed on at least half of the tumour cells"),
        Column("indication", "text", "tumour type"),
        Column("best_response", "text", "best response (RECIST 1.1)"),
    ),
    open_ended=True,
)

SAMPLES = Schema(
    "samples",
    "one row per sample",
    ("sample_id",),
    (
        _identifier("sample_id", "sample, as on the tube and in the export"),
        _PATIENT,
        Column("specimen", "text", "blood where empty"),
        Column("visit", "text", "visit of the protocol, or Unscheduled"),
        Column("time_nominal", "float", "planned time (NFRLT)", "d"),
        Column("collected_at", "text", "collection, ISO date and time in the zone of the configuration"),
        Column("time_actual", "float", "actual time (AFRLT), in place of collected_at", "d"),
        Column("ng_input", "float", "DNA in one reaction", "ng", minimum=0.0),
        Column("template_ul", "float", "template in one reaction", "uL", minimum=0.0),
        Column("elution_ul", "float", "elution volume of the extraction", "uL", minimum=0.0),
        Column("blood_ml", "float", "blood extracted or stained", "mL", minimum=0.0),
        Column("dilution", "float", "dilution of the eluate before the reaction", minimum=0.0),
        Column("wbc_1e9_l", "float", "white blood cells at the sample", "1e9/L", minimum=0.0),
        Column("alc_1e9_l", "float", "absolute lymphocyte count at the sample", "1e9/L", minimum=0.0),
        Column("beads", "float", "counting beads added", minimum=0.0),
        Column("state", "text", "why no result is expected", allowed=("not_done", "pending")),
        Column("comment", "text", "free text"),
    ),
    open_ended=True,
)

INFUSIONS = Schema(
    "infusions",
    "one row per infusion of cells",
    ("patient_id", "infusion"),
    (
        _PATIENT,
        Column("infusion", "int", "1, 2, 3 ...", "", True, True, minimum=1),
        _STARTED,
        _TIME,
        Column("planned", "float", "cells planned", "cells", True, True, minimum=0.0),
        Column("given", "float", "cells actually given; empty = planned, with a warning", "cells", minimum=0.0),
        Column("unit", "text", "unit of planned and given", allowed=("cells", "cells/kg")),
        Column(
            "reference_dose", "float", "one reference infusion; empty = the lowest planned of the file", minimum=0.0
        ),
    ),
    open_ended=True,
)

CYTOKINES = Schema(
    "cytokines",
    "one row per dose of a cytokine",
    ("patient_id", "agent", "time"),
    (
        _PATIENT,
        Column("agent", "text", "as IL-2", "", True, True),
        _STARTED,
        _TIME,
        Column("dose", "float", "amount", minimum=0.0),
        Column("unit", "text", "unit of the dose, as MIU"),
    ),
    open_ended=True,
)

EVENTS = Schema(
    "events",
    "one row per clinical event",
    ("patient_id", "time", "event"),
    (
        _PATIENT,
        Column(
            "event",
            "text",
            "kind of event",
            "",
            True,
            True,
            ("crs", "icans", "infection", "tocilizumab", "steroid", "response", "scan", "therapy", "death"),
        ),
        Column("grade", "int", "CTCAE or ASTCT grade", minimum=0, maximum=5),
        _STARTED,
        _TIME,
        Column("time_end", "float", "end, elapsed", "d"),
        Column("value", "text", "the response, the agent, the amount"),
        Column("comment", "text", "free text"),
    ),
    open_ended=True,
)

# -------------------------------------------------------------------------------------------- what the stages write

RAW = Schema(
    "raw",
    "one row of an export as read, before any quantification; exists in memory only",
    ("source_file", "source_row", "target"),
    (
        Column("source_file", "text", "export, relative to the study folder"),
        Column("source_sha256", "text", "content hash of the export"),
        Column("source_row", "int", "row in the file or sheet, header rows counted"),
        Column("reader", "text", "reader that claimed the file"),
        Column("run_id", "text", "assay run (plate or acquisition)"),
        Column("well", "text", "well, as A1; empty for listings"),
        Column("sample_id", "text", "sample name as the export has it"),
        # A row with a note is not usable: a summary row, an empty well, a duplicate, a sample without a name.
        Column("role", "text", "unknown, standard, ntc, control, summary, empty or dose"),
        Column("target", "text", "target, gate (whole path) or analyte as the export has it"),
        Column("measure", "text", "what `value` is", allowed=("ct", "partitions", "events", "level")),
        Column("value_raw", "text", "the cell as it stands in the export"),
        Column("value", "float", "Ct, printed concentration, event count or level; empty for a non-detect"),
        Column("detection", "text", "quantified, not_detected, below, above, not_done or failed; from the cell's text"),
        Column("quantity", "float", "nominal copies of a standard"),
        Column("n_partitions", "int", "accepted droplets or partitions"),
        Column("n_positive", "int", "positive partitions"),
        Column("omitted", "bool", "the operator omitted the well in the instrument software"),
        Column("note", "text", "why the row is not usable, as a summary row or a duplicate; empty where it is"),
        # Listings carry what a plate export leaves to the sample manifest.
        Column("patient_id", "text", "patient, in listings"),
        Column("time", "float", "time in the listing's unit converted to days", "d"),
        Column("time_nominal", "float", "planned time, in listings", "d"),
        Column("visit", "text", "visit, in listings"),
        Column("specimen", "text", "specimen, in listings"),
        Column("assay", "text", "assay, in listings"),
        Column("level_unit", "text", "unit of the level, in listings"),
        Column("lloq", "float", "LLOQ of the row, in listings"),
        Column("lod", "float", "LOD of the row, in listings"),
        Column("uloq", "float", "ULOQ of the row, in listings"),
        Column("dose", "float", "amount of a dosing record, in listings"),
        Column("dose_level", "text", "dose level, in listings"),
        Column("volume_ul", "float", "volume acquired, by the keywords of the cytometer", "uL"),
        Column("remark", "text", "why a usable row has no value, in words, or what else the reader has to say"),
        Column("run_date", "text", "when the run ended, ISO date and time of the instrument's clock; empty = not told"),
    ),
)

INGEST = Schema(
    "ingest",
    "one row per raw row read, used or set aside",
    ("source_file", "source_row", "target"),
    (
        Column("source_file", "text", "export, relative to the study folder"),
        Column("source_sha256", "text", "content hash of the export"),
        Column("source_row", "int", "row in the file or sheet, header rows counted; empty for a file set aside whole"),
        Column("reader", "text", "reader that claimed the file"),
        Column("run_id", "text", "assay run"),
        Column("well", "text", "well"),
        Column("sample_id", "text", "sample name as the export has it"),
        Column("role", "text", "unknown, standard, ntc, control, reference, summary, empty or dose"),
        Column("target", "text", "target or gate"),
        Column("value_raw", "text", "the cell as it stands in the export"),
        Column("used", "bool", "used for a level, a curve or a control"),
        Column("reason", "text", "why it was set aside"),
    ),
)

RUNS = Schema(
    "runs",
    "one row per assay run and target",
    ("run_id", "assay", "target"),
    (
        Column("run_id", "text", "assay run"),
        Column("assay", "text", "assay"),
        Column("slope", "float", "slope of Ct over log10 copies", "Ct/log10"),
        Column("intercept", "float", "Ct at one copy", "Ct"),
        Column("r_squared", "float", "coefficient of determination of the curve"),
        Column("efficiency", "float", "10^(-1/slope) - 1, in percent", "%"),
        Column("ntc_ok", "bool", "every no-template control undetermined or below LOD"),
        Column("accepted", "bool", "the run gives reportable results"),
        Column("reason", "text", "every criterion that failed, with its value"),
        Column("target", "text", "target of the curve"),
        Column("source_file", "text", "export"),
        Column("n_standards", "int", "standard wells on the curve"),
        Column("n_levels", "int", "calibrator levels"),
        Column("n_levels_within", "int", "calibrator levels back-calculated within the limit"),
        Column("n_ntc", "int", "no-template controls"),
        Column("n_samples", "int", "samples on the run"),
        Column("run_date", "text", "when the run ended, by the instrument's clock; empty = the export does not tell"),
        Column("n_wells", "int", "wells or tubes of the target that the export gives as usable"),
        Column("n_wells_used", "int", "those of them that no rule set aside"),
        Column("worst_deviation_pct", "float", "deviation of the calibrator level that reads back worst", "%"),
        Column("share_within_pct", "float", "calibrator levels back-calculated within the limit", "%"),
        Column("lowest_calibrator", "float", "lowest calibrator level on the curve", "copies"),
        Column("highest_calibrator", "float", "highest calibrator level on the curve", "copies"),
        Column("n_ntc_detected", "int", "no-template controls with a signal"),
        Column("ntc_lowest_ct", "float", "lowest Ct of a no-template control; empty = all undetermined", "Ct"),
        Column("ntc_most_copies", "float", "most copies in a no-template control", "copies"),
        Column("n_cv", "int", "samples whose replicates the CV rule applies to"),
        Column("cv_median_pct", "float", "median CV of copies among the replicates of a sample", "%"),
        Column("cv_worst_pct", "float", "largest of them", "%"),
        Column("n_cv_above", "int", "samples with a CV above its limit"),
        Column("n_outliers", "int", "replicates set aside as outliers; empty = the rule is off"),
        Column("partition_nl", "float", "volume of a partition used", "nL"),
        Column("partitions_median", "float", "median accepted partitions of the wells used"),
        Column("partitions_lowest", "int", "fewest accepted partitions of a well"),
        Column("denominator_lowest", "float", "fewest events in the denominator or bead gate of a tube"),
        Column("denominator_median", "float", "median events in that gate"),
    ),
)

CALIBRATORS = Schema(
    "calibrators",
    "one row per standard well and no-template control of a quantitative PCR run, used or not",
    ("run_id", "assay", "target", "role", "quantity", "source_file", "source_row"),
    (
        Column("run_id", "text", "assay run"),
        Column("assay", "text", "assay"),
        Column("target", "text", "target of the curve"),
        Column("role", "text", "standard or ntc", allowed=("standard", "ntc")),
        Column("well", "text", "well, as A1"),
        Column("quantity", "float", "nominal copies of the standard", "copies"),
        Column("ct", "float", "Ct; empty = undetermined", "Ct"),
        Column("back_calculated", "float", "copies read back from the run's curve", "copies"),
        Column("deviation_pct", "float", "of the well's copies from the nominal ones", "%"),
        Column("level_deviation_pct", "float", "the same for the mean Ct of the level, which the rule judges", "%"),
        Column("limit_pct", "float", "largest deviation allowed to the level", "%"),
        Column("used", "bool", "on the curve, or judged as a control"),
        Column("reason", "text", "why it was set aside"),
        Column("source_file", "text", "export"),
        Column("source_row", "int", "row in the export"),
    ),
)

OBSERVATIONS = Schema(
    "observations",
    "one row per patient, assay and sample, reportable or not",
    ("patient_id", "assay", "specimen", "time_actual", "sample_id", "observation_id"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        Column("analyte", "text", "what was measured"),
        _SPECIMEN,
        Column("sample_id", "text", "sample"),
        Column("visit", "text", "visit of the protocol, or Unscheduled"),
        Column("time_nominal", "float", "planned time (NFRLT)", "d"),
        Column("time_actual", "float", "actual time (AFRLT)", "d", True),
        Column("infusion", "int", "last infusion started at or before the sample; 0 before the first"),
        Column("time_after_dose", "float", "time since that infusion (ARRLT)", "d"),
        Column("level", "float", "level; empty unless quantified", "", True, minimum=0.0),
        Column("level_unit", "text", "unit of level, lod, lloq and uloq", allowed=LEVEL_UNITS),
        Column("lod", "float", "limit of detection of this sample", minimum=0.0),
        Column("lloq", "float", "lower limit of quantification of this sample", "", True, minimum=0.0),
        Column("status", "text", "what became of the measurement", "", True, True, STATUSES),
        Column("n_molecules", "float", "molecules, positive partitions or events counted", minimum=0.0),
        Column("n_replicates", "int", "replicates used"),
        Column("cv_pct", "float", "coefficient of variation of the replicates", "%"),
        Column("reportable", "bool", "the one result of its key that is analysed"),
        Column("exclusion_reason", "text", "why it is not"),
        Column("source_sha256", "text", "content hash of the export"),
        Column("source_rows", "text", "rows of the export, separated by spaces"),
        Column("uloq", "float", "upper limit of quantification of this sample", minimum=0.0),
        Column("observation_id", "text", "stable hash of the observation"),
        Column("run_id", "text", "assay run"),
        Column("detected", "bool", "a signal was seen in at least one replicate; empty = the status and LOD decide"),
        Column("time_flag", "text", "nominal time used, or outside the window"),
        Column("predose", "bool", "taken before the infusion that follows it (from the visit or the time)"),
        Column("ng_input", "float", "DNA in one reaction", "ng"),
        Column("wbc_1e9_l", "float", "white blood cells at the sample", "1e9/L"),
        Column("alc_1e9_l", "float", "absolute lymphocyte count at the sample", "1e9/L"),
    ),
)

OBSERVATION_SOURCES = Schema(
    "observation_sources",
    "one row per observation and raw row behind it",
    ("observation_id", "role", "source_file", "source_row"),
    (
        Column("observation_id", "text", "observation"),
        Column("source_sha256", "text", "content hash of the export"),
        Column("source_file", "text", "export"),
        Column("source_row", "int", "row in the export"),
        Column("role", "text", "what the row did", allowed=("replicate", "standard", "ntc", "reference")),
    ),
)

NCA = Schema(
    "nca",
    "one row per patient, assay, specimen, window and parameter",
    ("patient_id", "assay", "specimen", "window", "parameter"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        Column("window", "text", "overall, infusion_1 ..., D0-28 ..."),
        Column("window_start", "float", "start of the window", "d"),
        Column("window_end", "float", "end of the window; empty where open", "d"),
        Column("parameter", "text", "identifier of the glossary"),
        Column("pptestcd", "text", "CDISC code or sponsor term"),
        Column("value", "float", "value; empty with a reason"),
        Column("unit", "text", "unit of the value"),
        Column("n_points", "int", "samples that made the value"),
        _REASON,
        _SPECIMEN,
    ),
)

NCA_POINTS = Schema(
    "nca_points",
    "one row per sample that made a number",
    ("patient_id", "assay", "specimen", "window", "used_in", "observation_id"),
    (
        _PATIENT,
        _ASSAY,
        _SPECIMEN,
        Column("window", "text", "window"),
        Column("observation_id", "text", "observation"),
        Column("used_in", "text", "what it was used in", allowed=("auc", "lambda_z")),
    ),
)

FITS = Schema(
    "fits",
    "one row per patient, assay, specimen and model",
    ("patient_id", "assay", "specimen", "model"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        Column("model", "text", "kinetic model"),
        Column("converged", "bool", "gradient, Hessian and restarts agree on an optimum"),
        Column("n_obs", "int", "rows in the likelihood"),
        Column("n_blq", "int", "censored rows among them"),
        Column("log_likelihood", "float", "maximum of ln L"),
        Column("aicc", "float", "small-sample Akaike criterion; empty with a reason"),
        Column("at_bound", "text", "parameters on a bound, separated by spaces"),
        Column("identifiable", "bool", "every fitted parameter is determined by the data"),
        Column("selected", "bool", "lowest AICc of this assay profile"),
        _REASON,
        _SPECIMEN,
        Column("default", "bool", "the structure that the configuration sets"),
        Column("aicc_weight", "float", "Akaike weight among the converged candidates"),
        Column("n_restarts_agree", "int", "starts that ended within 0.01 of the best ln L"),
        Column("level_unit", "text", "unit of the level"),
        Column("n_starts", "int", "starts and restarts tried"),
    ),
)

ESTIMATES = Schema(
    "estimates",
    "one row per patient, assay, specimen, model and parameter, fitted, fixed or derived",
    ("patient_id", "assay", "specimen", "model", "parameter"),
    (
        _PATIENT,
        _ASSAY,
        Column("model", "text", "kinetic model"),
        Column("parameter", "text", "identifier of the glossary"),
        Column("estimate", "float", "maximum-likelihood estimate; filled also where not identifiable"),
        Column("std_error", "float", "standard error from the observed information, natural scale"),
        Column("ci_lower", "float", "lower end, or the natural bound inside the interval; empty where open"),
        Column("ci_upper", "float", "upper end; empty where open"),
        Column("ci_method", "text", "profile, delta, bootstrap or none"),
        Column("unit", "text", "unit of the estimate"),
        Column("identifiable", "bool", "the data determine it"),
        _REASON,
        _SPECIMEN,
        Column("kind", "text", "fitted, fixed or derived", allowed=("fitted", "fixed", "derived")),
        Column("ci_open", "text", "open sides", allowed=("none", "lower", "upper", "both")),
        Column("start", "float", "of a fitted parameter: where the search that led to the estimate began"),
        Column("lower_limit", "float", "lower limit of the search"),
        Column("upper_limit", "float", "upper limit of the search"),
    ),
)

MODEL_AVERAGES = Schema(
    "model_averages",
    "one row per patient, assay, specimen and quantity, averaged over the candidate models by their Akaike weights",
    ("patient_id", "assay", "specimen", "parameter"),
    (
        _PATIENT,
        _ASSAY,
        _SPECIMEN,
        Column("parameter", "text", "derived quantity that all candidates have"),
        Column("estimate", "float", "weighted mean, of ln values where all are positive; empty with a reason"),
        Column("std_error", "float", "unconditional: the models' own variances and their differences"),
        Column("ci_lower", "float", "lower end; empty without a standard error"),
        Column("ci_upper", "float", "upper end; empty without a standard error"),
        Column("unit", "text", "unit of the estimate"),
        Column("n_models", "int", "models in the average"),
        Column("models", "text", "their names, highest weight first, separated by spaces"),
        Column("weight_of_best", "float", "Akaike weight of the first of them"),
        _REASON,
    ),
)

LIKELIHOOD_PROFILES = Schema(
    "likelihood_profiles",
    "one row per patient, assay, specimen, parameter of the default model and value at which it was held",
    ("patient_id", "assay", "specimen", "model", "parameter", "value"),
    (
        _PATIENT,
        _ASSAY,
        _SPECIMEN,
        Column("model", "text", "kinetic model"),
        Column("parameter", "text", "fitted parameter"),
        Column("value", "float", "where it was held, all others fitted anew"),
        Column("deviance", "float", "2 (ln L at the optimum - ln L here)", minimum=0),
        Column("cutoff", "float", "largest deviance inside the profile interval"),
    ),
)

CONSTANT_SENSITIVITY = Schema(
    "constant_sensitivity",
    "one row per patient, assay, specimen, model, constant that the configuration fixes, value of it and parameter",
    ("patient_id", "assay", "specimen", "model", "constant", "value", "parameter"),
    (
        _PATIENT,
        _ASSAY,
        _SPECIMEN,
        Column("model", "text", "kinetic model"),
        Column("constant", "text", "constant, as width"),
        Column("value", "float", "value of the constant"),
        Column("fixed", "bool", "this is the value of the configuration"),
        Column("parameter", "text", "fitted parameter"),
        Column("estimate", "float", "estimate under this value; empty with a reason"),
        Column("unit", "text", "unit of the estimate"),
        Column("converged", "bool", "the fit under this value did"),
        Column("log_likelihood", "float", "maximum of ln L under this value"),
        Column("delta_aicc", "float", "AICc minus that under the value of the configuration"),
        _REASON,
    ),
)

PREDICTIONS = Schema(
    "predictions",
    "one row per patient, assay, specimen, model and time",
    ("patient_id", "assay", "specimen", "model", "time"),
    (
        _PATIENT,
        _ASSAY,
        Column("model", "text", "kinetic model"),
        Column("time", "float", "time", "d"),
        Column("level", "float", "fitted curve"),
        Column("lower", "float", "lower end of the band"),
        Column("upper", "float", "upper end of the band"),
        _SPECIMEN,
    ),
)

_MODEL = Column("model", "text", "kinetic model")
_METHOD = Column("method", "text", "saem or bayes", allowed=("saem", "bayes"))

POPULATION = Schema(
    "population",
    "one row per assay, specimen, model, method, kind and population parameter",
    ("assay", "specimen", "model", "method", "kind", "parameter"),
    (
        _ASSAY,
        _MODEL,
        Column("parameter", "text", "identifier of the glossary"),
        Column(
            "kind",
            "text",
            "typical value, SD between patients (scale of estimation), covariate, residual SD of ln level, or derived",
            allowed=("typical", "omega", "covariate", "sigma", "derived"),
        ),
        Column("estimate", "float", "estimate (SAEM) or posterior median; at the reference dose, natural scale"),
        Column("std_error", "float", "standard error or posterior SD, natural scale"),
        Column("rse_pct", "float", "relative standard error", "%"),
        Column("ci_lower", "float", "lower end of the interval"),
        Column("ci_upper", "float", "upper end of the interval"),
        Column("shrinkage_pct", "float", "shrinkage of the individual deviations", "%"),
        _REASON,
        _SPECIMEN,
        _METHOD,
        Column("primary", "bool", "the method that the rule chose"),
        Column("unit", "text", "unit of the estimate"),
        Column("prior", "text", "prior (Bayes)"),
        Column("prior_mean", "float", "its mean, scale of estimation; 0 for a half-normal prior of an SD"),
        Column("prior_sd", "float", "its SD, scale of estimation; for an SD the scale of the half-normal"),
        Column("rhat", "float", "agreement of the chains (Bayes)"),
        Column("ess", "float", "effective number of draws (Bayes)"),
        Column("seed_spread", "float", "largest difference between the runs of SAEM, in standard errors"),
        Column("n_patients", "int", "patients with at least one row"),
        Column("n_obs", "int", "rows of the likelihood"),
        Column("n_blq", "int", "censored rows among them"),
    ),
)

INDIVIDUALS = Schema(
    "individuals",
    "one row per patient, assay, specimen, model, method and parameter",
    ("patient_id", "assay", "specimen", "model", "method", "kind", "parameter"),
    (
        _PATIENT,
        _ASSAY,
        _MODEL,
        Column("parameter", "text", "identifier of the glossary"),
        Column("kind", "text", "fitted or derived", allowed=("fitted", "derived")),
        Column("estimate", "float", "conditional mean on the scale of estimation, natural scale; median when derived"),
        Column("ci_lower", "float", "lower end of the interval"),
        Column("ci_upper", "float", "upper end of the interval"),
        Column("unit", "text", "unit of the estimate"),
        _REASON,
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_PREDICTIONS = Schema(
    "population_predictions",
    "one row per patient, assay, specimen, model, method and time",
    ("patient_id", "assay", "specimen", "model", "method", "time"),
    (
        _PATIENT,
        _ASSAY,
        _MODEL,
        Column("time", "float", "time", "d"),
        Column("population", "float", "curve of a typical patient with these infusions"),
        Column("level", "float", "curve of this patient"),
        Column("lower", "float", "lower end of the band of this patient's curve"),
        Column("upper", "float", "upper end of the band of this patient's curve"),
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_POINTS = Schema(
    "population_points",
    "one row per patient, assay, specimen, model, method and row of the likelihood",
    ("patient_id", "assay", "specimen", "model", "method", "time", "observation_id"),
    (
        _PATIENT,
        _ASSAY,
        _MODEL,
        Column("observation_id", "text", "row of observations.csv"),
        Column("time", "float", "time", "d"),
        Column("level", "float", "measured level; empty where censored"),
        Column("lower", "float", "lower end of the interval of a censored row"),
        Column("upper", "float", "upper end of the interval of a censored row"),
        Column("population", "float", "curve of a typical patient with these infusions"),
        Column("individual", "float", "curve of this patient"),
        Column("residual", "float", "individual weighted residual of ln level; empty where censored"),
        Column("npde", "float", "normalised prediction distribution error; drawn within its interval where censored"),
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_TRACES = Schema(
    "population_traces",
    "one row per assay, specimen, model, method, chain, iteration and parameter",
    ("assay", "specimen", "model", "method", "kind", "parameter", "chain", "iteration"),
    (
        _ASSAY,
        _MODEL,
        Column("kind", "text", "as in population.csv"),
        Column("parameter", "text", "identifier of the glossary"),
        Column("chain", "int", "chain (Bayes) or run (SAEM)"),
        Column("iteration", "int", "iteration of SAEM, or kept draw"),
        Column("value", "float", "value on the scale of estimation"),
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_VPC = Schema(
    "population_vpc",
    "one row per assay, specimen, model, method, dose level, time bin and quantity of the visual predictive check",
    ("assay", "specimen", "model", "method", "measured_by", "dose_level", "bin", "quantity"),
    (
        _ASSAY,
        _MODEL,
        Column("measured_by", "text", "assay of the rows; several may share a curve"),
        _DOSE_LEVEL,
        Column("bin", "int", "time bin, the same for all dose levels: 1, 2, 3 ..."),
        Column("time", "float", "median of the sampling times in the bin", "d"),
        Column("time_from", "float", "earliest of them", "d"),
        Column("time_to", "float", "latest of them", "d"),
        Column("n", "int", "rows observed"),
        Column("n_blq", "int", "of them below their LLOQ"),
        Column(
            "quantity",
            "text",
            "percentile of the level, a level below its LLOQ counting as lowest; or share below the LLOQ",
            allowed=("p05", "p50", "p95", "blq"),
        ),
        Column("observed", "float", "observed; empty where the percentile lies below the LLOQ or above the ULOQ"),
        Column("lower", "float", "5 % quantile over simulated studies; empty likewise"),
        Column("median", "float", "median over simulated studies; empty likewise"),
        Column("upper", "float", "95 % quantile over simulated studies; empty likewise"),
        _REASON,
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_COMPARISON = Schema(
    "population_comparison",
    "one row per assay, specimen, method and candidate model",
    ("assay", "specimen", "method", "model"),
    (
        _ASSAY,
        _MODEL,
        Column("converged", "bool", "the fit is to be trusted"),
        Column("n_patients", "int", "patients with at least one row"),
        Column("n_obs", "int", "rows of the likelihood"),
        Column("n_parameters", "int", "population parameters estimated"),
        Column("log_likelihood", "float", "ln likelihood of the rows, patients integrated out"),
        Column("log_likelihood_error", "float", "its Monte-Carlo standard error"),
        Column("aic", "float", "Akaike criterion"),
        Column("bic", "float", "Bayes criterion, counting patients"),
        Column("delta_bic", "float", "difference to the smallest"),
        Column("elpd_loo", "float", "expected ln predictive density of rows left out (Bayes)"),
        Column("delta_elpd", "float", "difference to the largest (Bayes)"),
        Column("delta_elpd_error", "float", "standard error of that difference"),
        Column("doubtful_rows", "int", "rows whose leave-one-out estimate is not to be trusted"),
        Column("chosen", "bool", "the structure for this study"),
        _REASON,
        _SPECIMEN,
        _METHOD,
        Column("primary", "bool", "the method that the rule chose"),
    ),
)

POPULATION_DRAWS = Schema(
    "population_draws",
    "one row per assay, specimen, model, method, draw and parameter of the population",
    ("assay", "specimen", "model", "method", "kind", "parameter", "draw"),
    (
        _ASSAY,
        _MODEL,
        Column("kind", "text", "as in population.csv"),
        Column("parameter", "text", "identifier of the glossary"),
        Column("draw", "int", "joint draw of all population parameters"),
        Column("value", "float", "value on the scale of estimation"),
        _SPECIMEN,
        _METHOD,
    ),
)

_SCENARIO = Column("scenario", "text", "name of the dosing scenario; that of a dose level for what is given now")
_BANDS = (
    Column("median", "float", "median of the level"),
    Column("lower_50", "float", "lower end of the band that holds half of the curves"),
    Column("upper_50", "float", "its upper end"),
    Column("lower", "float", "lower end of the interval of the curve (prediction.confidence)"),
    Column("upper", "float", "its upper end"),
    Column("measured_lower", "float", "lower end of the interval of a measured level: the curve and the residual SD"),
    Column("measured_upper", "float", "its upper end"),
)

POPULATION_FORECAST = Schema(
    "population_forecast",
    "one row per scenario, assay, specimen, model, method and quantity: what a new patient is expected to have",
    ("scenario", "assay", "specimen", "model", "method", "quantity"),
    (
        _SCENARIO,
        _ASSAY,
        _MODEL,
        Column("quantity", "text", "identifier of the glossary, of the curve without measurement error"),
        Column("unit", "text", "unit of the quantity"),
        Column("dose", "float", "mean amount of the infusions"),
        Column("infusions", "int", "number of infusions"),
        Column("schedule", "text", "amounts and days in words"),
        Column("median", "float", "of a new patient"),
        Column("lower", "float", "lower end of the interval that holds a new patient (prediction.confidence)"),
        Column("upper", "float", "its upper end"),
        Column("typical", "float", "of a patient with typical parameters"),
        Column("typical_lower", "float", "lower end of its interval: uncertainty of the population parameters alone"),
        Column("typical_upper", "float", "its upper end"),
        Column("cohort", "int", "patients in a cohort"),
        Column("cohort_median", "float", "expected median of such a cohort; for a share its mean"),
        Column("cohort_lower", "float", "lower end of the interval that holds the median, or share, of such a cohort"),
        Column("cohort_upper", "float", "its upper end"),
        Column("limit", "float", "LLOQ, or the limit of prediction.limits"),
        Column("probability", "float", "that a new patient lies above the limit"),
        Column("extrapolation", "bool", "the scenario lies beyond what was given in the study"),
        _REASON,
        _SPECIMEN,
        _METHOD,
    ),
)

POPULATION_FORECAST_CURVES = Schema(
    "population_forecast_curves",
    "one row per scenario, assay, specimen, model, method and time: level of a new patient",
    ("scenario", "assay", "specimen", "model", "method", "time"),
    (
        _SCENARIO,
        _ASSAY,
        _MODEL,
        Column("time", "float", "time", "d"),
        *_BANDS,
        Column("extrapolation", "bool", "the scenario lies beyond what was given in the study"),
        _SPECIMEN,
        _METHOD,
    ),
)

INDIVIDUAL_FORECAST = Schema(
    "individual_forecast",
    "one row per patient, assay, specimen, model, method and quantity: what his samples so far let expect",
    ("patient_id", "assay", "specimen", "model", "method", "quantity"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        _MODEL,
        Column("quantity", "text", "identifier of the glossary, of the curve without measurement error"),
        Column("unit", "text", "unit of the quantity"),
        Column("last_sample", "float", "time of his last sample that entered", "d"),
        Column("samples", "int", "samples that entered"),
        Column("schedule", "text", "infusions of the forecast in words"),
        Column("median", "float", "given his samples"),
        Column("lower", "float", "lower end of its interval (prediction.confidence)"),
        Column("upper", "float", "its upper end"),
        Column("limit", "float", "LLOQ"),
        Column("probability", "float", "that he lies above the limit"),
        _REASON,
        _SPECIMEN,
        _METHOD,
    ),
)

INDIVIDUAL_FORECAST_CURVES = Schema(
    "individual_forecast_curves",
    "one row per patient, assay, specimen, model, method and time from his last sample on",
    ("patient_id", "assay", "specimen", "model", "method", "time"),
    (_PATIENT, _ASSAY, _MODEL, Column("time", "float", "time", "d"), *_BANDS, _SPECIMEN, _METHOD),
)

PERSISTENCE = Schema(
    "persistence",
    "one row per assay, specimen, limit, dose level and time of the Kaplan-Meier estimate",
    ("assay", "specimen", "limit", "dose_level", "time"),
    (
        _ASSAY,
        _SPECIMEN,
        Column("limit", "text", "loss below LLOQ or below LOD", allowed=("lloq", "lod")),
        Column("dose_level", "text", "dose level, or all"),
        Column("time", "float", "time of the step", "d"),
        Column("n_at_risk", "int", "patients at risk just before"),
        Column("n_events", "int", "losses at this time"),
        Column("n_censored", "int", "patients censored at this time"),
        Column("survival", "float", "share still persisting after this time"),
        Column("ci_lower", "float", "lower end (log-log)"),
        Column("ci_upper", "float", "upper end (log-log)"),
        Column("median", "float", "median persistence of the dose level", "d"),
        Column("median_ci_lower", "float", "lower end of the median", "d"),
        Column("median_ci_upper", "float", "upper end of the median", "d"),
        _REASON,
    ),
)

PERSISTENCE_PATIENTS = Schema(
    "persistence_patients",
    "one row per patient, assay, specimen and limit: last presence, loss, censoring",
    ("patient_id", "assay", "specimen", "limit"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        _SPECIMEN,
        Column("limit", "text", "loss below LLOQ or below LOD", allowed=("lloq", "lod")),
        Column("last_present", "float", "last sample above the limit", "d"),
        Column("lost", "float", "first of the consecutive samples below it after that one", "d"),
        Column(
            "censoring",
            "text",
            "lost between the two; lost before the first sample; not lost as far as was seen; nothing known",
            allowed=("interval", "left", "right", "none"),
        ),
        Column(
            "censored_by",
            "text",
            "why nothing more was seen of a right-censored patient",
            allowed=("ongoing", "death", "withdrawal", "data_cut", "unconfirmed"),
        ),
        Column("time", "float", "where Kaplan-Meier counts the patient: the loss, or the censoring", "d"),
        _REASON,
    ),
)

PERSISTENCE_TURNBULL = Schema(
    "persistence_turnbull",
    "one row per assay, specimen, limit, dose level and interval that holds losses (interval-censored estimate)",
    ("assay", "specimen", "limit", "dose_level", "interval_start", "interval_end"),
    (
        _ASSAY,
        _SPECIMEN,
        Column("limit", "text", "loss below LLOQ or below LOD", allowed=("lloq", "lod")),
        Column("dose_level", "text", "dose level, or all"),
        Column("interval_start", "float", "losses lie after this time", "d"),
        Column("interval_end", "float", "and up to this one; empty = open", "d"),
        Column("mass", "float", "share of the losses in the interval"),
        Column("survival", "float", "share still persisting at its end"),
        Column("median_lower", "float", "the median lies after this time", "d"),
        Column("median_upper", "float", "and up to this one; empty = not reached", "d"),
        Column("n", "int", "patients counted"),
        _REASON,
    ),
)

DETECTABILITY = Schema(
    "detectability",
    "one row per assay, specimen, limit, dose level and day: patients still above the limit of those sampled",
    ("assay", "specimen", "limit", "dose_level", "time", "day"),
    (
        _ASSAY,
        _SPECIMEN,
        Column("limit", "text", "above LLOQ or above LOD", allowed=("lloq", "lod")),
        Column("dose_level", "text", "dose level, or all"),
        Column("day", "text", "name of the day, as D28"),
        Column("time", "float", "elapsed time that it stands for", "d"),
        Column("window_start", "float", "earliest sample that counts", "d"),
        Column("window_end", "float", "latest sample that counts", "d"),
        Column("n_treated", "int", "patients with at least one infusion"),
        Column("n_sampled", "int", "of them with a result in the window; the sample nearest to the day counts"),
        Column("n_detected", "int", "of them above the limit"),
        Column("share", "float", "n_detected of n_sampled"),
        Column("ci_lower", "float", "lower end (exact, Clopper-Pearson)"),
        Column("ci_upper", "float", "upper end"),
        _REASON,
    ),
)

DOSE_PROPORTIONALITY = Schema(
    "dose_proportionality",
    "one row per assay, specimen, window, parameter and analysis of exposure against the amount given",
    ("assay", "specimen", "window", "parameter", "analysis", "dose_level"),
    (
        _ASSAY,
        _SPECIMEN,
        Column("window", "text", "overall, infusion_1 ..., D0-28 ...; infusions = all infusion intervals together"),
        Column("parameter", "text", "identifier of the glossary"),
        Column(
            "analysis",
            "text",
            "slope of ln parameter on ln amount: least squares, one value per patient; the same with patients below "
            "the LLOQ censored; random intercept of the patient over the infusion intervals; or ratio of the geometric "
            "means of the parameter divided by the amount",
            allowed=("power_model", "power_model_censored", "power_model_repeated", "ratio"),
        ),
        Column("dose_level", "text", "ratio: the dose level, over `reference_level`; all = every dose level"),
        Column("reference_level", "text", "ratio: the lowest dose level"),
        Column("method", "text", "how it was estimated: ols, censored, mixed, ols_patient_means or welch"),
        Column("estimate", "float", "slope theta, or ratio; empty with a reason"),
        Column("std_error", "float", "of theta, or of ln ratio"),
        Column("degrees", "float", "degrees of freedom"),
        Column("ci_lower", "float", "lower end; empty where open"),
        Column("ci_upper", "float", "upper end; empty where open"),
        Column("confidence", "float", "confidence of the interval"),
        Column("intercept", "float", "ln parameter at the reference amount"),
        Column("intercept_error", "float", "standard error of the intercept"),
        Column("reference_amount", "float", "geometric mean of the amounts given", "cells"),
        Column("dose_ratio", "float", "planned amount of one infusion, highest over lowest dose level analysed"),
        Column("limit_lower", "float", "lower end of the criterion"),
        Column("limit_upper", "float", "upper end of the criterion"),
        Column("verdict", "text", "what the interval says of the criterion"),
        Column(
            "primary", "bool", "the slope whose verdict counts: that with censoring where a patient is below the LLOQ"
        ),
        Column("n_patients", "int", "patients in the estimate"),
        Column("n_values", "int", "values in the estimate"),
        Column("n_below", "int", "treated and sampled, and never quantified in the window"),
        Column("n_missing", "int", "treated, and no value for another reason"),
        Column("n_by_level", "text", "patients in the estimate by dose level, as DL1 3; DL2 6"),
        Column("unit", "text", "unit of the parameter, or of the parameter by amount"),
        _REASON,
    ),
)

ASSAY_AGREEMENT = Schema(
    "assay_agreement",
    "one row per pair of assays, specimen and statistic over pairs of results",
    ("assay_x", "assay_y", "specimen", "statistic"),
    (
        Column("assay_x", "text", "first assay"),
        Column("assay_y", "text", "second assay"),
        _SPECIMEN,
        Column("unit_x", "text", "unit of the first assay"),
        Column("unit_y", "text", "unit of the second assay"),
        Column("statistic", "text", "n_pairs, both_lloq ... kappa_lloq, spearman, deming_slope, ratio ..."),
        Column("estimate", "float", "value; empty with a reason"),
        Column("ci_lower", "float", "lower end, patients left out one at a time"),
        Column("ci_upper", "float", "upper end"),
        Column("n_pairs", "int", "pairs of results in it"),
        Column("n_patients", "int", "patients behind them"),
        _REASON,
    ),
)

EXPOSURE_RESPONSE = Schema(
    "exposure_response",
    "one row per factor and group: how many patients, and their exposure; exploratory",
    ("factor", "assay", "specimen", "window", "parameter", "analysis", "dose_level", "group_order", "group"),
    (
        Column("factor", "text", "crs, icans, infection, tocilizumab, steroid, response or dll3_high"),
        Column(
            "analysis",
            "text",
            "patients with the event; exposure of a group; rank test over the groups",
            allowed=("incidence", "exposure", "test"),
        ),
        Column("assay", "text", "assay of the exposure; empty for incidence"),
        Column("specimen", "text", "specimen of the exposure"),
        Column("window", "text", "window of the exposure"),
        Column("parameter", "text", "exposure, identifier of the glossary"),
        Column("dose_level", "text", "dose level, or all"),
        Column("group", "text", "0, 1 ... = worst grade, none, yes, PD ... = best response; empty for a test"),
        Column("group_order", "int", "order of the groups"),
        Column("n_patients", "int", "treated patients in the group; incidence: treated patients"),
        Column("n_events", "int", "incidence: patients with the event"),
        Column("share", "float", "incidence: n_events of n_patients"),
        Column("ci_lower", "float", "incidence: exact lower end; 0 where nobody had the event"),
        Column("ci_upper", "float", "incidence: exact upper end; one-sided where nobody had the event"),
        Column("n_values", "int", "patients with a value"),
        Column("n_below", "int", "treated and sampled, and never quantified in the window"),
        Column("median", "float", "median, patients below the LLOQ counted lowest"),
        Column("minimum", "float", "lowest value"),
        Column("maximum", "float", "highest value"),
        Column("unit", "text", "unit of the exposure"),
        Column("test", "text", "rank test and how its p value was made; exploratory"),
        Column("p_value", "float", "two-sided p value, exploratory, not adjusted for the number of tests"),
        _REASON,
    ),
)

BLQ_SENSITIVITY = Schema(
    "blq_sensitivity",
    "one row per patient, assay, specimen, window, parameter and rule for levels below the LLOQ",
    ("patient_id", "assay", "specimen", "window", "parameter", "rule"),
    (
        _PATIENT,
        _DOSE_LEVEL,
        _ASSAY,
        _SPECIMEN,
        Column("window", "text", "overall, or the first named window"),
        Column("parameter", "text", "identifier of the glossary"),
        Column(
            "rule",
            "text",
            "configured: by position, as in nca.csv; the others put a number in place of every level below its LLOQ "
            "before the analysis, or leave it out",
            allowed=("configured", "zero", "half_lloq", "drop"),
        ),
        Column("value", "float", "value; empty with a reason"),
        Column("unit", "text", "unit of the value"),
        Column("n_points", "int", "samples that made the value"),
        _REASON,
    ),
)

VALIDATION = Schema(
    "validation",
    "one row per control of operation: an answer known beforehand, or a planted defect that must be caught",
    ("control",),
    (
        Column("control", "text", "stable identifier, as OQ-NCA-01"),
        Column("requirement", "text", "requirement that it supports"),
        Column("title", "text", "what was done"),
        Column("must", "text", "whether the criterion has to hold, or has to fail", allowed=("pass", "fail")),
        Column("criterion_met", "bool", "the criterion held"),
        Column("as_required", "bool", "it held where it had to, and failed where it had to"),
        Column("found", "text", "what came of it"),
        Column("expected", "text", "the criterion"),
        Column("source", "text", "where the expected answer comes from"),
    ),
)

DESIGN = Schema(
    "design",
    "one row per parameter, derived quantity and number about a sampling schedule that `nkinetics design` judged",
    ("model", "kind", "parameter"),
    (
        Column("model", "text", "kinetic model"),
        Column("parameter", "text", "identifier of the glossary"),
        Column(
            "kind",
            "text",
            "fitted or derived for one patient, population for typical values, schedule for the schedule itself",
            allowed=("fitted", "derived", "population", "schedule"),
        ),
        Column("value", "float", "assumed truth, what follows from it, or the number about the schedule"),
        Column("unit", "text", "unit of the value"),
        Column("rse_pct", "float", "expected relative standard error; empty where the schedule leaves it open", "%"),
        Column("rse_pct_low", "float", "its 10 % quantile over patients drawn; empty without omega", "%"),
        Column("rse_pct_high", "float", "its 90 % quantile; empty without omega, or where it has no bound", "%"),
        Column("share_identifiable", "float", "share of the patients drawn in whom it is identifiable"),
        Column("identifiable", "bool", "the schedule is expected to determine it"),
        Column("correlated_with", "text", "parameter whose estimate it goes with most"),
        Column("correlation", "float", "correlation of the two estimates, scale of estimation"),
        _REASON,
    ),
)

DESIGN_CANDIDATES = Schema(
    "design_candidates",
    "one row per sample that could be added to a schedule or dropped from it",
    ("model", "action", "rank"),
    (
        Column("model", "text", "kinetic model"),
        Column(
            "action",
            "text",
            "add: alone, best first; greedy: one after the other; drop: a planned sample, least missed first",
            allowed=("add", "greedy", "drop"),
        ),
        Column("rank", "int", "1, 2, 3 ..."),
        Column("time", "float", "since the start of the first infusion", "d"),
        Column("timing", "text", "study day, and before or after which infusion"),
        Column("level", "float", "expected level, in the unit of the LLOQ"),
        Column("blq_share", "float", "probability that it is below its LLOQ"),
        Column("log_det_change", "float", "change of ln det of the information of one patient"),
    ),
    open_ended=True,
)

CHANGES = Schema(
    "changes",
    "one row per thing that differs between an earlier data cut and this one",
    ("part", "patient_id", "assay", "specimen", "item", "change"),
    (
        Column(
            "part",
            "text",
            "study, patients, samples, parameters, models, population, conclusions, runs, exclusions, settings "
            "or program",
            filled=True,
        ),
        Column("patient_id", "text", "patient; empty where it is not about one"),
        Column("assay", "text", "assay; empty where it is not about one"),
        Column("specimen", "text", "what was sampled"),
        Column("item", "text", "what differs, as cmax overall or nca.auc_rule"),
        Column("old", "text", "in the earlier cut; empty = nothing there"),
        Column("new", "text", "in this cut; empty = nothing there"),
        Column(
            "change",
            "text",
            "added, removed, changed, available (a number that was missing), missing (a number that was there) or same",
            allowed=("added", "removed", "changed", "available", "missing", "same"),
        ),
        Column("note", "text", "why a number is missing, or what else to know"),
        Column("relative_change", "float", "new / old - 1, of numbers"),
        Column("unit", "text", "unit of old and new"),
    ),
)

USER_TABLES: Mapping[str, Schema] = {s.name: s for s in (PATIENTS, SAMPLES, INFUSIONS, CYTOKINES, EVENTS)}
STAGE_TABLES: Mapping[str, Schema] = {
    s.name: s
    for s in (
        INGEST,
        RUNS,
        CALIBRATORS,
        OBSERVATIONS,
        OBSERVATION_SOURCES,
        NCA,
        NCA_POINTS,
        FITS,
        ESTIMATES,
        PREDICTIONS,
        POPULATION,
        INDIVIDUALS,
        POPULATION_PREDICTIONS,
        POPULATION_POINTS,
        POPULATION_TRACES,
        POPULATION_DRAWS,
        POPULATION_COMPARISON,
        POPULATION_VPC,
        MODEL_AVERAGES,
        LIKELIHOOD_PROFILES,
        CONSTANT_SENSITIVITY,
        POPULATION_FORECAST,
        POPULATION_FORECAST_CURVES,
        INDIVIDUAL_FORECAST,
        INDIVIDUAL_FORECAST_CURVES,
        BLQ_SENSITIVITY,
        PERSISTENCE,
        PERSISTENCE_PATIENTS,
        PERSISTENCE_TURNBULL,
        DETECTABILITY,
        VALIDATION,
        DESIGN,
        DESIGN_CANDIDATES,
        DOSE_PROPORTIONALITY,
        ASSAY_AGREEMENT,
        EXPOSURE_RESPONSE,
        CHANGES,
    )
}
SCHEMAS: Mapping[str, Schema] = {**USER_TABLES, **STAGE_TABLES}


# ------------------------------------------------------------------------------------------------------------- checks


def schema_problems(frame: pd.DataFrame, schema: Schema, file: str, rows: pd.Series | None = None) -> list[Problem]:
    """Every way in which a typed frame breaks its schema.

    Parameters
    ----------
    frame : DataFrame
        Typed as `nkinetics.store.typed` returns it; missing optional columns are allowed.
    schema : Schema
        What it should be.
    file : str
        Name for the messages.
    rows : Series of int, optional
        Row of the file for each row of the frame; by default the header is row 1.

    Returns
    -------
    list of Problem
        Empty when the frame is right.
    """
    return [
        *_absent_columns(frame, schema, file),
        *_failure_cases(frame, schema, file, rows),
        *_repeated_keys(frame, schema, file, rows),
    ]


def _absent_columns(frame: pd.DataFrame, schema: Schema, file: str) -> Iterator[Problem]:
    for name in schema.required:
        if name not in frame.columns:
            yield Problem(
                file,
                1,
                name,
                "no such column among " + ", ".join(map(str, frame.columns)),
                f"a column {name} ({schema.by_name[name].meaning})",
                "add the column",
            )


def _expectation(column: Column) -> str:
    words = []
    if column.filled:
        words.append("a value")
    if column.allowed:
        words.append("one of " + ", ".join(column.allowed))
    if column.pattern:
        same = column.pattern == IDENTIFIER.pattern
        words.append(
            "1 to 40 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            if same
            else f"text that matches {column.pattern}"
        )
    if column.minimum is not None and column.maximum is not None:
        words.append(f"{column.minimum:g} to {column.maximum:g}")
    elif column.minimum is not None:
        words.append(f"{column.minimum:g} or more")
    return "; ".join(words)


Passes = Callable[["pd.Series"], "pd.Series"]
"""Values of a column -> which of them pass."""


def _checks(column: Column) -> dict[str, Passes]:
    """What the values of a column must pass, by what it is called."""

    def empty(values: pd.Series) -> pd.Series:
        return values.isna() | (values.astype("object") == "")

    found: dict[str, Passes] = {}
    if column.allowed:
        found["allowed"] = lambda s: s.isin(column.allowed) | empty(s)
    if column.pattern:
        found["pattern"] = lambda s: s.astype(str).str.fullmatch(column.pattern) | empty(s)
    if column.minimum is not None:
        found["minimum"] = lambda s: (s.astype(float) >= column.minimum) | s.isna()
    if column.maximum is not None:
        found["maximum"] = lambda s: (s.astype(float) <= column.maximum) | s.isna()
    if column.filled:
        found["filled"] = lambda s: ~empty(s)
    return found


def _failure_cases(frame: pd.DataFrame, schema: Schema, file: str, rows: pd.Series | None) -> Iterator[Problem]:
    checks = {c.name: _checks(c) for c in schema.columns if c.name in frame.columns}
    if all(passes(frame[name]).all() for name, own in checks.items() for passes in own.values()):
        return
    # Only where something is wrong: its import would cost every stage as much as reading its tables.
    import pandera.pandas as pa

    columns = {
        name: pa.Column(checks=[pa.Check(passes, error=error) for error, passes in own.items()], nullable=True)
        for name, own in checks.items()
    }
    plain = frame.reset_index(drop=True)
    try:
        pa.DataFrameSchema(columns).validate(plain, lazy=True)
    except pa.errors.SchemaErrors as error:
        seen = set()
        for case in error.failure_cases.itertuples():
            where = (int(case.index), str(case.column))
            if where in seen:
                continue
            seen.add(where)
            row = int(rows.iloc[where[0]]) if rows is not None else where[0] + 2
            column = schema.by_name[where[1]]
            value = plain[column.name].iloc[where[0]]
            blank = value is None or value != value or value == "" or str(value) == "<NA>"
            found = "an empty cell" if blank else f"{value:g}" if isinstance(value, float) else repr(str(value))
            yield Problem(file, row, column.name, found, _expectation(column), f"correct the {column.name}")


def _repeated_keys(frame: pd.DataFrame, schema: Schema, file: str, rows: pd.Series | None) -> Iterator[Problem]:
    if schema.name not in USER_TABLES or not set(schema.key) <= set(frame.columns):
        return
    plain = frame.reset_index(drop=True)
    filled = plain[list(schema.key)].notna().all(axis=1)
    repeated = plain.duplicated(list(schema.key), keep="first") & filled
    for position in plain.index[repeated]:
        row = int(rows.iloc[position]) if rows is not None else int(position) + 2
        values = ", ".join(f"{k} {plain[k].iloc[position]}" for k in schema.key)
        yield Problem(
            file,
            row,
            schema.key[0],
            f"a second row for {values}",
            f"one row per {', '.join(schema.key)}",
            "remove one of the two rows, or correct the key",
        )
