"""The choices of an analysis: one frozen model per section of config.yaml, with defaults, limits and meaning.

The JSON schema that Snakemake validates, the commented default configuration and config/README.md are generated from
these models (`nkinetics.provenance` has the commands, a test the comparison), so that they cannot drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nkinetics.columns import IDENTIFIER, LEVEL_UNITS
from nkinetics.errors import InputError, Problem, nearest, raise_any
from nkinetics.plugins import discover, item_ids

Unit = Literal["copies/ug", "copies/mL", "copies/uL", "cells/uL", "%", "copies/cell"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
assert set(Unit.__args__) == set(LEVEL_UNITS)  # type: ignore[attr-defined]


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
    return value


class Section(BaseModel):
    """A section of the configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Study(Section):
    """What the study is."""

    id: str = Field("STUDY", description="Study identifier; also the seed of every random number.")
    title: str = Field("", description="Title on the report.")
    product: str = Field("", description="Name of the cell product.")
    time_zone: str = Field("UTC", description="IANA zone of absolute times without offset, as Asia/Shanghai.")
    data_cut: str | None = Field(
        None, description="Date of the data cut (ISO); later samples are set aside. Empty = none."
    )
    reference_dose: Positive | None = Field(
        None, description="Amount of one reference infusion; empty = the lowest planned amount."
    )
    dose_unit: Literal["cells", "cells/kg"] = Field("cells", description="Unit of planned and given amounts.")
    date_order: Literal["dmy", "mdy"] | None = Field(
        None,
        description="Order of day, month and year in dates such as 05/06/2026 of the tables of the study; empty = only "
        "ISO dates (2026-06-05) are read, and such dates are refused.",
    )
    visit_window_h: Positive | None = Field(
        None,
        description="Hours by which the actual time of a sample may depart from the planned one; a sample beyond is "
        "flagged, never dropped. Empty = no window of this kind.",
    )
    visit_window_share: Fraction | None = Field(
        None,
        description="The same as a share of the planned time (0.1 = 10 %); with both the wider one holds. Empty = no "
        "window of this kind.",
    )
    keep_after_therapy: bool = Field(
        False, description="Analyse samples taken after subsequent anticancer therapy too."
    )
    notice: str = Field(
        "", description="A sentence for the first screen of the report, as that the data are simulated."
    )

    @field_validator("id")
    @classmethod
    def _identifier(cls, value: str) -> str:
        if not IDENTIFIER.fullmatch(value):
            raise ValueError("an identifier has 1 to 40 letters, digits, '.', '_' or '-'")
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("not an IANA time zone, as Asia/Shanghai or UTC") from None
        return value

    @field_validator("data_cut", mode="before")
    @classmethod
    def _date(cls, value: object) -> object:
        from datetime import date

        if value is None:
            return None
        text = value.isoformat()[:10] if isinstance(value, date) else str(value)
        try:
            date.fromisoformat(text)
        except ValueError:
            raise ValueError("not an ISO date, as 2026-11-01") from None
        return text


AUTO = "auto"
"""A table of the inputs that is looked for in its usual place; `located` says whether it is there."""

INPUT_TABLES = ("patients", "samples", "infusions", "cytokines", "events")


class Inputs(Section):
    """Where the inputs stand; paths are relative to the folder in which the command runs."""

    exports: tuple[str, ...] = Field(
        ("data/raw/**",),
        description="Glob patterns of exports; files that begin with a dot or are named README* are none.",
    )
    patients: str | None = Field(
        AUTO, description="Patients. auto = config/patients.csv where it exists; empty = those that listings name."
    )
    samples: str | None = Field(
        AUTO, description="Sample manifest. auto = config/samples.csv where it exists; empty = listings have it all."
    )
    infusions: str | None = Field(
        AUTO, description="Infusions. auto = config/infusions.csv where it exists; empty = one reference dose at 0."
    )
    cytokines: str | None = Field(
        AUTO, description="Cytokine doses. auto = config/cytokines.csv where it exists; empty = none given."
    )
    events: str | None = Field(
        AUTO, description="Clinical events. auto = config/events.csv where it exists; empty = none recorded."
    )
    sample_name_pattern: str | None = Field(
        None,
        description="Fallback without a manifest: regular expression over the sample name with the groups patient_id, "
        "time (days) and optionally visit, specimen.",
    )
    ignore_samples: tuple[str, ...] = Field(
        (), description="Regular expressions of sample names in exports that are no samples of this study (controls)."
    )
    superseded: tuple[str, ...] = Field(
        (), description="Exports (path or first digits of the sha256) replaced by a later export of the same run."
    )
    decimal: Literal["auto", ".", ","] = Field(
        "auto", description="Decimal mark of text exports; auto = inferred per file."
    )
    comments: bool = Field(
        False,
        description="Whether comments of samples and events go into results and report. Free text may name a person: "
        "without this it stays in the tables of the study, and so does every column that the analysis does not know.",
    )

    _compile = field_validator("sample_name_pattern")(_pattern)

    @field_validator("ignore_samples")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            _pattern(pattern)
        return value


class QpcrAcceptance(Section):
    """Run acceptance of quantitative PCR (assays.md 3)."""

    slope_min: float = Field(-3.6, description="Lowest slope accepted.")
    slope_max: float = Field(-3.1, description="Highest slope accepted.")
    r_squared_min: float = Field(0.98, ge=0, le=1, description="Lowest R2 accepted.")
    levels_min: int = Field(5, ge=2, description="Non-zero calibrator levels that must be present.")
    back_calculation_pct: Positive = Field(25.0, description="Allowed deviation of a back-calculated level, percent.")
    back_calculation_lloq_pct: Positive = Field(30.0, description="The same at the lowest calibrator level.")
    back_calculation_share: Fraction = Field(0.75, description="Share of levels that must lie within.")
    replicate_cv_pct: Positive = Field(25.0, description="Largest CV of copies among replicates, percent.")
    replicate_cv_lloq_pct: Positive = Field(30.0, description="The same within a factor 3 of the LLOQ.")
    replicates_detected_min: int = Field(2, ge=1, description="Replicates that must be detected to quantify.")
    replicate_outlier_ct: Positive | None = Field(
        None,
        description="Of exactly three replicates, all with a Ct, the one that departs by more cycles than this from "
        "the median is set aside where the two others agree within it; empty = off.",
    )


class DerivedCells(Section):
    """Cells/uL derived from the DNA: copies/ug x pg of a genome x 1e-6 / VCN x WBC [1/uL] (assays.md 7)."""

    vcn: Positive = Field(
        description="Copies of the transgene in one CAR+ cell (vector copy number of the product). The derived rows "
        "take it as the same in every sample, and all DNA as that of the counted white blood cells."
    )


class Qpcr(Section):
    """Quantitative PCR."""

    analyte: str = Field("CAR transgene", description="What is measured, for titles.")
    target_pattern: str = Field("(?i)CAR", description="Regular expression of the target's name in the export.")
    reference_pattern: str | None = Field(
        None, description="The same for the reference gene; empty = none on the plate."
    )
    level_unit: Literal["copies/ug", "copies/mL", "copies/cell"] = Field("copies/ug", description="Unit of the level.")
    lloq_copies: Positive = Field(10.0, description="LLOQ, copies per reaction.")
    lod_copies: Positive | None = Field(3.0, description="LOD, copies per reaction; empty = not established.")
    uloq_copies: Positive | None = Field(None, description="ULOQ, copies per reaction; empty = highest calibrator.")
    recovery: Fraction | Literal[1] = Field(1, description="Share of DNA recovered by the extraction (copies/mL).")
    pg_per_genome: Positive = Field(6.6, description="DNA of one diploid genome, pg.")
    ct_max: Positive = Field(45.0, description="Cycles of the run; a Ct above is no Ct.")
    reference_ct_shift_max: Positive | None = Field(
        3.0,
        description="Largest departure of a sample's reference Ct, for its DNA input, from the run's median "
        "(inhibition, wrong input); empty = only its absence counts.",
    )
    derived_cells: DerivedCells | None = Field(
        None,
        description="Further rows in cells/uL, labelled as derived (assay qpcr_cells), from wbc_1e9_l of the sample; "
        "empty = none.",
    )
    acceptance: QpcrAcceptance = Field(QpcrAcceptance(), description="Run acceptance.")

    _compile = field_validator("target_pattern", "reference_pattern")(_pattern)

    @model_validator(mode="after")
    def _derivable(self) -> Qpcr:
        if self.derived_cells is not None and self.level_unit == "copies/mL":
            raise ValueError("derived_cells needs levels in copies/ug or copies/cell, not in copies/mL")
        return self


class DdpcrAcceptance(Section):
    """Acceptance of digital PCR wells (assays.md 4)."""

    partitions_min: int = Field(
        10000,
        ge=1,
        description="Accepted droplets or partitions that a well must have (at most 4,250 of a QIAcuity well of "
        "8,500).",
    )
    saturated_negative_share: Fraction = Field(
        0.01, description="Share of negative partitions below which a well is above ULOQ."
    )
    concentration_tolerance: Fraction = Field(
        0.01, description="Allowed deviation of a printed concentration from k and n."
    )


class Ddpcr(Section):
    """Digital PCR."""

    analyte: str = Field("CAR transgene", description="What is measured, for titles.")
    target_pattern: str = Field("(?i)CAR", description="Regular expression of the target's name in the export.")
    reference_pattern: str | None = Field(None, description="The same for the reference gene; empty = none.")
    level_unit: Literal["copies/ug", "copies/mL", "copies/cell"] = Field("copies/ug", description="Unit of the level.")
    partition_nl: Positive | None = Field(
        None,
        description="Partition volume, nL; empty = the instrument's, as its printed concentrations show (0.85 QX200 "
        "and QX Manager, 0.795 QX Manager with six colours, 0.91 QX100, 0.432 Absolute Q; on QIAcuity it differs from "
        "well to well, and the printed concentrations are used).",
    )
    reaction_ul: Positive = Field(20.0, description="Reaction volume, uL.")
    lloq_copies: Positive = Field(10.0, description="LLOQ, copies per reaction.")
    lod_copies: Positive | None = Field(3.0, description="LOD, copies per reaction; empty = not established.")
    acceptance: DdpcrAcceptance = Field(DdpcrAcceptance(), description="Well acceptance.")

    _compile = field_validator("target_pattern", "reference_pattern")(_pattern)


class Flow(Section):
    """Flow cytometry."""

    analyte: str = Field("CAR+ NK cells", description="What is counted, for titles.")
    gate_pattern: str = Field(
        "(?i)CAR", description="Regular expression of the gate or column with the CAR+ NK events."
    )
    denominator_pattern: str = Field(
        "(?i)lymphocytes", description="The same for the population that the counter counts."
    )
    beads_pattern: str | None = Field(None, description="The same for the bead gate (method beads).")
    method: Literal["dual_platform", "beads", "volumetric"] = Field(
        "dual_platform", description="How events become cells/uL."
    )
    lloq_events: Positive = Field(50.0, description="LLOQ, events in the gate.")
    lod_events: Positive | None = Field(20.0, description="LOD, events in the gate; empty = not established.")

    _compile = field_validator("gate_pattern", "denominator_pattern", "beads_pattern")(_pattern)


class Assays(Section):
    """Assays of the study; an assay that is not named here is not analysed."""

    qpcr: Qpcr | None = Field(None, description="Quantitative PCR; empty = not used.")
    ddpcr: Ddpcr | None = Field(None, description="Digital PCR; empty = not used.")
    flow: Flow | None = Field(None, description="Flow cytometry; empty = not used.")


class Curve(Section):
    """Standard curve for a listing of Ct values."""

    slope: Annotated[float, Field(lt=0)] = Field(description="Slope of Ct over log10 copies.")
    intercept: float = Field(description="Ct at one unit of level.")


class Censored(Section):
    """How a listing marks a non-quantified row: a column with a value, or a Ct at or above a limit."""

    column: str | None = Field(None, description="Column that marks a censored row.")
    value: str | int | float | None = Field(None, description="Its value for a censored row.")
    ct_at_least: float | None = Field(None, description="A Ct at or above this is censored there.")

    @field_validator("value", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _one_way(self) -> Censored:
        if (self.column is None) != (self.value is None) or (self.column is None) == (self.ct_at_least is None):
            raise ValueError("give either column and value, or ct_at_least")
        return self


class GenericColumns(Section):
    """Which column of a listing holds what; names as in its header."""

    patient_id: str | None = Field(None, description="Patient.")
    sample_id: str | None = Field(None, description="Sample, to be joined to the manifest.")
    time_actual: str | None = Field(None, description="Actual time.")
    time_nominal: str | None = Field(None, description="Planned time.")
    level: str | None = Field(None, description="Level or Ct.")
    status: str | None = Field(None, description="Status words (BLQ, ND, ...).")
    lloq: str | None = Field(None, description="LLOQ of the row.")
    lod: str | None = Field(None, description="LOD of the row.")
    dose: str | None = Field(None, description="Amount; a row with an amount is an infusion.")
    assay: str | None = Field(None, description="Assay.")
    specimen: str | None = Field(None, description="Specimen.")
    visit: str | None = Field(None, description="Visit.")
    dose_level: str | None = Field(None, description="Dose level.")
    target: str | None = Field(None, description="Target or analyte.")
    well: str | None = Field(None, description="Well.")


class Generic(Section):
    """A table of any make, read by a column mapping: a listing, another instrument, another program's data set."""

    match: str = Field(description="Glob over the path or the name of the export.")
    columns: GenericColumns = Field(description="Column names.")
    sheet: str | None = Field(None, description="Sheet of a workbook; empty = the first.")
    assay: str = Field("qpcr", description="Assay of rows without an assay column.")
    analyte: str = Field("", description="What was measured, for titles.")
    specimen: str = Field("blood", description="Specimen of rows without a specimen column.")
    time_unit: Literal["minute", "hour", "day", "week", "month", "year"] = Field(
        "day", description="Unit of time (month = 30.4375 d)."
    )
    time_zero: Literal["first_row", "column", "first_infusion"] = Field(
        "column",
        description="Zero of time: the patient's first row, the column as it stands, or the first dosing row.",
    )
    level_unit: Unit = Field("copies/ug", description="Unit of the level.")
    quantity: Literal["level", "ct"] = Field("level", description="What the level column holds.")
    curve: Curve | None = Field(None, description="Standard curve, for quantity ct.")
    censored: Censored | None = Field(None, description="How censored rows are marked.")
    lloq: Positive | None = Field(None, description="LLOQ of rows without an LLOQ column.")
    lod: Positive | None = Field(None, description="LOD of rows without a LOD column.")
    dose_level: str = Field("all", description="Dose level of patients that no other table names.")

    @model_validator(mode="after")
    def _complete(self) -> Generic:
        if self.quantity == "ct" and self.curve is None:
            raise ValueError("quantity ct needs a curve with slope and intercept")
        if self.columns.level is None and self.columns.status is None:
            raise ValueError("columns needs level (or status)")
        if self.columns.patient_id is None and self.columns.sample_id is None:
            raise ValueError("columns needs patient_id or sample_id")
        return self


class Blq(Section):
    """What a level below its LLOQ counts as (nca.md; Beal 2001 for models)."""

    first: Literal["zero", "drop", "lloq", "half_lloq"] = Field(
        "zero", description="Before the first quantified level (NCA)."
    )
    middle: Literal["zero", "drop", "lloq", "half_lloq"] = Field("drop", description="Between quantified levels (NCA).")
    last: Literal["zero", "drop", "lloq", "half_lloq"] = Field(
        "drop", description="After the last quantified level (NCA)."
    )
    models: Literal["M1", "M3", "M5", "M6", "M7"] = Field("M3", description="In the likelihood of kinetic models.")


class ManualPoints(Section):
    """Points of one terminal fit that are chosen by hand."""

    patient_id: str = Field(description="Patient.")
    assay: str = Field(description="Assay: qpcr, ddpcr, flow, or its name in the observations.")
    specimen: str = Field("blood", description="Specimen.")
    window: str = Field("overall", description="Whose fit: overall, or infusion_1, infusion_2 ...")
    include: tuple[float, ...] = Field(
        (),
        description="Study days of the points that make the fit, 3 or more; each within 0.005 d of a quantified "
        "sample of the profile.",
    )
    exclude: tuple[float, ...] = Field(
        (), description="Study days of points that are left out; the fit is chosen among the others as usual."
    )
    reason: str = Field(min_length=1, description="Why; stands beside every value that the choice touches.")

    @property
    def name(self) -> str:
        """The fit as messages name it."""
        return f"{self.patient_id} {self.assay} {self.specimen} {self.window}"

    @model_validator(mode="after")
    def _either(self) -> ManualPoints:
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"{self.name}: d {', '.join(f'{t:g}' for t in both)} both included and excluded")
        if bool(self.include) == bool(self.exclude):
            raise ValueError(f"{self.name}: either include or exclude, one of them")
        if self.include and len(set(self.include)) < 3:
            raise ValueError(f"{self.name}: 3 or more points to include")
        if not (self.window == "overall" or re.fullmatch(r"infusion_\d+", self.window)):
            raise ValueError(f"{self.name}: a window with a fit of its own, overall or infusion_1 ...")
        return self


class LambdaZ(Section):
    """The terminal slope (nca.md)."""

    points_min: int = Field(3, ge=3, description="Fewest points.")
    include_tmax: bool = Field(False, description="Whether the point at Tmax may be used.")
    tolerance: Positive = Field(1e-4, description="Within this of the best adjusted R2 the longest window wins.")
    r_squared_adj_min: float = Field(0.80, ge=0, le=1, description="Acceptance: lowest adjusted R2.")
    span_ratio_min: Positive = Field(2.0, description="Acceptance: shortest span in half-lives.")
    extrapolation_pct_max: Positive = Field(
        20.0, description="Acceptance: largest share of AUC extrapolated to infinity."
    )
    method: Literal["regression", "tobit"] = Field(
        "regression",
        description="Least squares on the quantified points, or maximum likelihood in which the samples below their "
        "LLOQ after Tlast count as censored there.",
    )
    manual: tuple[ManualPoints, ...] = Field((), description="Points chosen by hand, a list of the entries below.")

    @field_validator("manual")
    @classmethod
    def _once(cls, value: tuple[ManualPoints, ...]) -> tuple[ManualPoints, ...]:
        names = [m.name for m in value]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"one entry for each fit; several for {', '.join(twice)}")
        return value


class Nca(Section):
    """Non-compartmental analysis."""

    auc_rule: Literal["linear_up_log_down", "linear", "linear_log"] = Field(
        "linear_up_log_down", description="AUC rule between two levels."
    )
    start: Literal["zero", "first", "back_extrapolate", "missing"] = Field(
        "zero", description="Level at the start of the first infusion where no pre-dose sample stands there."
    )
    windows: tuple[tuple[float, float], ...] = Field(
        ((0.0, 28.0), (0.0, 7.0), (0.0, 84.0)),
        description="Named windows, days; D0-28 always, the others when a patient's follow-up reaches their end.",
    )
    replicates: Literal["error", "mean", "first"] = Field("error", description="Two reportable rows at one time.")
    predose_share: Fraction = Field(
        0.05, description="A sample this share of the interval before an infusion is its pre-dose."
    )
    consecutive_blq: Literal[1, 2] = Field(1, description="Consecutive BLQ samples that make a loss (t_blq).")
    above_limit: Positive | dict[Unit, Positive] | None = Field(
        None,
        description="Level whose time above it is reported (time_above): a number where the study has one unit, else "
        "by unit, as {copies/ug: 1000}; empty = none.",
    )
    lambda_z: LambdaZ = Field(LambdaZ(), description="Terminal slope.")

    @field_validator("windows")
    @classmethod
    def _ordered(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for start, end in value:
            if not 0 <= start < end:
                raise ValueError("a window is [start, end] with 0 <= start < end")
        return value


class Models(Section):
    """Kinetic models of one patient. A section named like a model holds that model's own constants."""

    model_config = ConfigDict(frozen=True, extra="allow", validate_default=True)

    default: str = Field("decay", description="Structure that the report leads with.")
    candidates: tuple[str, ...] = Field(
        ("decay", "cytokine_window", "expansion_contraction"), description="Models fitted to every patient."
    )
    interval: Literal["profile", "bootstrap", "delta"] = Field("profile", description="How intervals are made.")
    bootstrap_samples: int = Field(
        1000, ge=100, le=100_000, description="Data sets that a bootstrap interval simulates from each fit."
    )
    bootstrap_starts: int = Field(5, ge=1, le=50, description="Searches for the best fit of each of them.")
    interval_cutoff: Literal["f", "chi_square"] = Field(
        "f", description="Cut-off of the profile interval (contracts.md 4)."
    )
    confidence: Fraction = Field(0.95, description="Confidence of the intervals.")
    rse_limit_pct: Positive = Field(
        100.0, description="A parameter with a larger relative standard error is not identifiable."
    )
    band_points: int = Field(120, ge=10, le=2000, description="Points of the predicted curve.")
    profile_points: int = Field(
        21,
        ge=0,
        le=201,
        description="Points of each profile likelihood of the default model that is kept and drawn; 0 = none.",
    )
    sensitivity_points: int = Field(
        6,
        ge=0,
        le=50,
        description="Values over the range of a fixed constant at which its model is fitted again; 0 = none.",
    )

    @model_validator(mode="after")
    def _known(self) -> Models:
        known = discover("models")
        for name in (self.default, *self.candidates):
            if name not in known:
                near = nearest(name, known, 0.6)
                hint = f"; did you mean {near}?" if near else ""
                raise ValueError(f"no model {name}{hint} (models: {', '.join(known)})")
        for name, values in (self.__pydantic_extra__ or {}).items():
            model = known.get(name)
            if model is None:
                near = nearest(name, [*known, *type(self).model_fields], 0.6)
                hint = f"; did you mean {near}?" if near else ""
                raise ValueError(f"unknown key {name}{hint}")
            try:
                model.settings(**values)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(map(str, first["loc"]))
                near = nearest(key, model.settings.model_fields, 0.6)
                hint = f"; did you mean {near}?" if near else ""
                raise ValueError(f"{name}.{key}: {first['msg']}{hint}") from None
        return self

    def constants(self, model: str) -> Any:
        """The model's own settings, validated, defaults filled in."""
        return discover("models")[model].settings(**(self.__pydantic_extra__ or {}).get(model, {}))


class Population(Section):
    """Estimation over patients: one model, all patients of an assay together."""

    model: str | None = Field(None, description="Model; empty = models.default.")
    assay: str | None = Field(None, description="Assay; empty = qpcr, else ddpcr, else flow.")
    specimen: str | None = Field(None, description="Specimen; empty = blood where there is any.")
    same_curve: tuple[str, ...] = Field(
        (),
        description="Further assays that share the curve of the first, each with a ratio and a residual SD of its own.",
    )
    method: Literal["auto", "saem", "bayes"] = Field(
        "auto", description="auto = Bayes below bayes_below patients, SAEM from there on."
    )
    bayes_below: int = Field(20, ge=1, description="Patients from which SAEM takes over where the method is auto.")
    covariates: tuple[str, ...] = Field(
        (),
        description="Patient columns with an effect on the scale (ln), as dll3_high; `dll3_high on delta` for another "
        "parameter.",
    )
    fixed: Mapping[str, float] = Field({}, description="Parameters whose typical value is fixed, as {rho: 0.6}.")
    no_variability: tuple[str, ...] = Field((), description="Parameters that are the same in every patient.")
    correlated: tuple[tuple[str, ...], ...] = Field(
        (), description="Blocks of parameters whose variability is correlated, as [[scale, delta]]."
    )
    priors: Mapping[str, tuple[float, Positive]] = Field(
        {},
        description="Informative priors: {delta: [0.4, 0.3]} = median on the natural scale, and SD on the scale of "
        "estimation (ln, or logit of a fraction).",
    )
    weak_prior_sd: Positive = Field(
        2.0, description="SD of the weak priors of typical values and effects on the scale of estimation (Bayes)."
    )
    omega_prior: Positive = Field(
        1.0, description="Scale of the half-normal prior of the SDs between patients (Bayes)."
    )
    seeds: int = Field(3, ge=1, le=20, description="Runs of SAEM from scattered starts; their spread is reported.")
    compare: bool = Field(
        False, description="Estimate every candidate by both methods in the default run, not only in population_full."
    )
    candidates: tuple[str, ...] = Field(
        (), description="Models compared where structure is chosen; empty = models.candidates."
    )
    refit: bool = Field(
        True,
        description="Estimate again whenever data change. false, for large studies: the estimates of the last run "
        "stay, and the report names the data cut they come from, until `snakemake --forcerun population` or a changed "
        "setting or program.",
    )


class DoseProportionality(Section):
    """Exposure against the amount given (population.md 4)."""

    confidence: Fraction = Field(0.90, description="Confidence of the intervals of slope and ratio.")
    limits: tuple[Positive, Positive] = Field(
        (0.8, 1.25),
        description="Limits of the ratio of dose-normalised geometric means between the highest and the lowest dose "
        "level within which exposure counts as dose proportional; the slope of the power model is held against "
        "1 + ln(limit)/ln(ratio of the planned amounts).",
    )

    @field_validator("limits")
    @classmethod
    def _around_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < 1 < value[1]:
            raise ValueError("the limits lie on both sides of 1, as [0.8, 1.25]")
        return value


class Agreement(Section):
    """Two assays on the same samples (report.md, table 13)."""

    pair_within: float = Field(
        0.25, ge=0, description="Largest difference of the sampling times of a pair [d]; a shared sample is one anyway."
    )
    pairs_min: int = Field(5, ge=3, description="With fewer pairs they are listed, and nothing is estimated.")
    error_ratio: Positive = Field(
        1.0,
        description="Deming regression: error variance of the second assay over that of the first, both of the log10 "
        "level.",
    )


class Scenario(Section):
    """A way of dosing that has not been given, or not yet."""

    name: str = Field(description="Name, as DL3.")
    dose: Positive | tuple[Positive, ...] = Field(
        description="Amount of each infusion in the unit of the study; one number for all, or a list."
    )
    infusions: tuple[float, ...] = Field((0.0,), min_length=1, description="Days of the infusions, the first at 0.")
    cytokines: tuple[float, ...] = Field((), description="Days of the doses of the agent.")
    agent: str = Field("IL-2", min_length=1, description="Which agent.")
    patients: int | None = Field(None, ge=1, le=200, description="Size of the cohort; empty = prediction.patients.")

    @model_validator(mode="after")
    def _dosable(self) -> Scenario:
        if not IDENTIFIER.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: 1 to 40 letters, digits, '.', '_' or '-'")
        if self.infusions[0] != 0 or any(b <= a for a, b in pairwise(self.infusions)):
            raise ValueError(f"{self.name}: infusions are rising days that begin with 0")
        if len(self.amounts) != len(self.infusions):
            raise ValueError(f"{self.name}: {len(self.amounts)} amounts for {len(self.infusions)} infusions")
        if any(b <= a for a, b in pairwise(self.cytokines)):
            raise ValueError(f"{self.name}: cytokines are rising days")
        return self

    @property
    def amounts(self) -> tuple[float, ...]:
        """Amount of each infusion."""
        return self.dose if isinstance(self.dose, tuple) else (self.dose,) * len(self.infusions)


class Prediction(Section):
    """What the population model is asked to predict."""

    scenarios: tuple[Scenario, ...] = Field(
        (),
        description="Ways of dosing, a list of the entries below; empty = the schedule of each dose level, and the one "
        "of the highest with next_factor times its amount.",
    )
    next_factor: Positive | None = Field(
        2.0, description="Next dose level as a multiple of the highest, where no scenarios are given; empty = none."
    )
    patients: int = Field(3, ge=1, le=200, description="Size of the cohort whose median is predicted.")
    horizon: Positive = Field(28.0, description="End of the predicted courses of new patients, days.")
    follow_up: Positive = Field(84.0, description="End of the forecasts of the study's patients, days.")
    remaining: bool = Field(
        False, description="Forecasts of patients count on the infusions of their dose level that are still to come."
    )
    windows: tuple[tuple[float, float], ...] = Field(((0.0, 28.0),), description="Windows of the predicted AUC, days.")
    days: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        {"D7": 6.0, "D14": 13.0, "D21": 20.0, "D28": 27.0},
        description="Days on which the share of patients above the LLOQ is predicted: name: elapsed days (study day 1 "
        "is elapsed day 0).",
    )
    limits: Mapping[str, Positive | Literal["observed_max"]] = Field(
        {"curve_cmax": "observed_max", "curve_auc_D0-28": "observed_max"},
        description="Limits whose exceedance has its probability, by quantity (curve_cmax, curve_auc_D0-28, "
        "t_below_lloq, level_before_infusion_2 ...): a number, or observed_max for the highest of the study's patients "
        "(the median of that patient's curve).",
    )
    confidence: Fraction = Field(0.95, description="Confidence of the prediction intervals.")

    @field_validator("days")
    @classmethod
    def _in_time(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        # Written with sorted names they come back as D14, D21, D7: days are shown in order of time.
        return dict(sorted(value.items(), key=lambda day: (day[1], day[0])))

    @model_validator(mode="after")
    def _consistent(self) -> Prediction:
        names = [s.name for s in self.scenarios]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"one scenario for each name; several for {', '.join(twice)}")
        for start, end in self.windows:
            if not 0 <= start < end:
                raise ValueError("a window is [start, end] with 0 <= start < end")
        known = r"curve_(cmax|tmax|cmax_infusion_\d+|auc_D[\d.]+-[\d.]+)|level_before_infusion_\d+|t_below_lloq"
        for name in self.limits:
            if not re.fullmatch(known, name):
                raise ValueError(f"limits: no quantity {name}; as curve_cmax or curve_auc_D0-28")
        for name in self.days:
            if not IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a day, as D28")
        return self


class Statistics(Section):
    """Statistics over patients."""

    confidence: Fraction = Field(0.95, description="Confidence of intervals over patients.")
    summary_n_min: int = Field(
        3, ge=2, description="With fewer patients individual values stand in place of a summary."
    )
    detectable_at: Mapping[str, tuple[float, float, float]] = Field(
        {
            "D7": (6.0, 5.0, 7.5),
            "D10": (9.0, 8.0, 10.5),
            "D14": (13.0, 11.5, 14.5),
            "D21": (20.0, 18.0, 22.5),
            "D28": (27.0, 24.0, 30.0),
            "M2": (60.0, 50.0, 70.0),
            "M3": (90.0, 76.0, 104.0),
        },
        description="Days at which the share of patients with detectable cells is given: name: [elapsed days, "
        "earliest, latest sample that counts]; the day of the first infusion is study day 1 and elapsed day 0. Of a "
        "patient's samples in the window the one nearest to the day counts.",
    )
    dose_proportionality: DoseProportionality = Field(
        DoseProportionality(), description="Exposure against the amount given."
    )
    agreement: Agreement = Field(Agreement(), description="Two assays on the same samples.")
    tested_n_min: int = Field(
        5, ge=3, description="Exploratory rank tests of exposure-response need so many patients with a value or BLQ."
    )

    @field_validator("detectable_at")
    @classmethod
    def _windows(cls, value: Mapping[str, tuple[float, float, float]]) -> Mapping[str, tuple[float, float, float]]:
        for name, (time, earliest, latest) in value.items():
            if not IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a day, as D28")
            if not 0 < earliest <= time <= latest:
                raise ValueError(f"{name} is [day, earliest, latest] with 0 < earliest <= day <= latest")
        return dict(sorted(value.items(), key=lambda day: (day[1], day[0])))


class Numbering(Section):
    """Prefixes of item numbers (ICH E3)."""

    table: str = Field("14.4.1", description="Prefix of tables.")
    figure: str = Field(
        "14.4.2", description="Prefix of figures; another than that of tables, or a table and a figure share a number."
    )
    listing: str = Field("16.2.5", description="Prefix of listings.")


class Protocol(Section):
    """What the protocol asks for, to tell what departed from it; no number of the analysis depends on it."""

    infusions: tuple[float, ...] = Field(
        (),
        description="Planned days of the infusions, elapsed (the first at 0); empty = per dose level those that more "
        "than half of its patients have, on their median days.",
    )
    cytokines: Mapping[str, tuple[float, ...]] = Field(
        {},
        description="Planned days of the doses of each agent, elapsed, as IL-2: [0, 3, 6, 9]; empty = as for the "
        "infusions.",
    )
    dose_days: Positive = Field(
        1.0, description="Days by which an infusion or a dose of a cytokine may depart from its planned day."
    )
    given_pct: tuple[float, float] = Field(
        (90.0, 110.0), description="Per cent of the planned amount between which an infusion counts as given in full."
    )
    sample_days: Positive = Field(
        1.0,
        description="Days by which a sample may depart from its planned time before it is listed as a deviation, where "
        "the study has no visit window (study.visit_window_h, study.visit_window_share).",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Protocol:
        for name, times in {"infusions": self.infusions, **self.cytokines}.items():
            if any(b <= a for a, b in pairwise(times)):
                raise ValueError(f"{name}: days rise")
        if not 0 < self.given_pct[0] <= 100 <= self.given_pct[1]:
            raise ValueError("given_pct: [lowest, highest] with 100 between them")
        return self


class Report(Section):
    """The report."""

    language: Literal["en", "zh"] = Field("en", description="Language of titles and headings.")
    numbering: Numbering = Field(Numbering(), description="Prefixes of item numbers.")
    items: tuple[str, ...] = Field((), description="Ids of the items shown, in this order; empty = all.")
    titles: Mapping[str, str] = Field({}, description="Title of an item by its id, in place of the built-in one.")
    footnotes: Mapping[str, tuple[str, ...]] = Field({}, description="Further footnotes of an item by its id.")
    patient_details: int = Field(
        50,
        ge=0,
        description="Up to so many patients stand in report.html with their samples, wells and arithmetic; of more the "
        "page has one line each, and the rest stands in one page per patient, in the folder patients beside it.",
    )
    table_rows: int = Field(
        300,
        ge=1,
        description="With more patients than patient_details, rows of a table or listing in the report; of a longer "
        "one it shows the first and names the CSV file that holds all.",
    )
    figure_patients: int = Field(
        40,
        ge=1,
        description="Up to so many patients have a panel or a line of their own in the figures by patient; of more an "
        "even choice is drawn, and the footnote says which.",
    )
    figure_marks: int = Field(
        1500,
        ge=1,
        description="With more points than this in a panel, its points and lines are drawn as a picture (200 dots per "
        "inch) inside the SVG; axes and words stay as they are.",
    )
    pdf: bool | Literal["auto"] = Field(
        "auto",
        description="The report and its brief also as PDF; auto: where this machine can write it.",
    )
    pdf_details: int = Field(
        12,
        ge=0,
        description="Up to so many patients the PDF holds the samples and the arithmetic of each (some 10 pages); "
        "of more they stand in report.html alone.",
    )
    rtf: bool | Literal["auto"] = Field(
        "auto", description="All tables also as one RTF document; auto: where the library rtflite is installed."
    )
    protocol: Protocol = Field(Protocol(), description="What the protocol asks for; deviations are listed by it.")
    previous: str | None = Field(
        None,
        description="Results folder of the data cut before this one, kept outside results/ (as cuts/2026-08-31): the "
        "report tells what changed since. Empty = no earlier cut.",
    )
    references: str | None = Field(
        None,
        description="Folder with numbers of other programs (as nkinetics qualify oq --references reads it): the "
        "validation section compares with them. Empty = none.",
    )

    @model_validator(mode="after")
    def _known(self) -> Report:
        asked = {"items": self.items, "titles": self.titles, "footnotes": self.footnotes}
        # Only a report that names items pays for the look into their files.
        known = item_ids() if any(asked.values()) else ()
        for key, ids in asked.items():
            for each in ids:
                if each not in known:
                    near = nearest(each, known)
                    raise ValueError(f"{key}: no item {each}" + (f"; did you mean {near}?" if near else ""))
        twice = sorted({i for i in self.items if self.items.count(i) > 1})
        if twice:
            raise ValueError(f"items: {', '.join(twice)} twice")
        return self


class Cdisc(Section):
    """The CDISC package (`nkinetics cdisc`, `snakemake cdisc`): what the tables of the study do not say."""

    site: str = Field("1", min_length=1, max_length=20, description="SITEID where patients.csv has no column site.")
    country: str = Field(
        "", pattern=r"^([A-Za-z]{3})?$", description="COUNTRY (ISO 3166, three letters) without a column country."
    )
    laboratory: str = Field("", max_length=80, description="PCNAM: the laboratory that measured the levels.")
    route: str = Field("INTRAVENOUS", max_length=40, description="EXROUTE of the infusions of cells.")
    dose_form: str = Field("SUSPENSION", max_length=40, description="EXDOSFRM of the infusions of cells.")
    cytokine_route: str = Field("SUBCUTANEOUS", max_length=40, description="EXROUTE of the cytokines.")
    cytokine_form: str = Field("INJECTION", max_length=40, description="EXDOSFRM of the cytokines.")
    in_report: bool = Field(
        False, description="Make the package with the report, and give it a section there with its checks."
    )
    rules: str | None = Field(
        None, description="Rules of the CDISC rules engine (JSON), for `snakemake cdisc_rules`; empty = none."
    )
    engine_python: str = Field(
        "python3.12", description="Interpreter of the environment in which cdisc-rules-engine is installed."
    )


class Settings(Section):
    """config.yaml."""

    study: Study = Field(Study(), description="What the study is.")
    inputs: Inputs = Field(Inputs(), description="Where the inputs stand.")
    assays: Assays = Field(Assays(), description="Assays and their limits.")
    generic: tuple[Generic, ...] = Field((), description="Tables read by a column mapping.")
    blq: Blq = Field(Blq(), description="Levels below the LLOQ.")
    nca: Nca = Field(Nca(), description="Non-compartmental analysis.")
    models: Models = Field(default_factory=Models, description="Kinetic models of one patient.")
    population: Population = Field(Population(), description="Estimation over patients.")
    prediction: Prediction = Field(Prediction(), description="What the population model is asked to predict.")
    statistics: Statistics = Field(Statistics(), description="Statistics over patients.")
    report: Report = Field(Report(), description="The report.")
    cdisc: Cdisc = Field(Cdisc(), description="The CDISC package.")
    batches: int = Field(
        2,
        ge=1,
        le=1000,
        description="Batches of patients, one per 25, at most about 100; a changed count reassigns everyone.",
    )
    strict: bool = Field(False, description="Stop at the first unreadable export instead of setting it aside.")


SECTIONS: Mapping[str, type[Section]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}


# -------------------------------------------------------------------------------------------------------------- loading


def _keys_beside(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Keys that the section around the last element of `path` knows."""
    at: Any = model
    for step in path[:-1]:
        if isinstance(step, int):
            continue
        field = getattr(at, "model_fields", {}).get(step)
        if field is None:
            return []
        at = _section_in(field.annotation)
    return list(getattr(at, "model_fields", {}))


def _section_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _section_in(part)
        if found is not None:
            return found
    return None


def _problems(
    error: ValidationError, model: type[BaseModel], file: str, lines: Mapping[tuple[Any, ...], int]
) -> list[Problem]:
    found = []
    for case in error.errors():
        path = tuple(case["loc"])
        key = ".".join(str(p) for p in path)
        row = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        if case["type"] == "extra_forbidden":
            near = nearest(str(path[-1]), _keys_beside(model, path))
            mend = f"did you mean {near}?" if near else "remove the key"
            found.append(Problem(file, row, key, f"the unknown key {path[-1]}", "a key of config/README.md", mend))
        elif case["type"] == "missing":
            found.append(Problem(file, row, key, "no value", "a value", f"add {path[-1]}"))
        else:
            text = str(case["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
            value = case.get("input")
            shown = "this section" if isinstance(value, (dict, BaseModel)) else repr(value)
            found.append(Problem(file, row, key, shown, text[0].lower() + text[1:], "correct the value"))
    return found


# The same YAML by libyaml, where PyYAML has it: a fifth of the time at every start of the workflow.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _lines(text: str) -> dict[tuple[Any, ...], int]:
    """Line of each key of a YAML text, by its path."""
    where: dict[tuple[Any, ...], int] = {}

    def walk(node: yaml.Node | None, path: tuple[Any, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                where[(*path, key.value)] = key.start_mark.line + 1
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                where[(*path, i)] = value.start_mark.line + 1
                walk(value, (*path, i))

    walk(yaml.compose(text, Loader=_LOADER), ())
    return where


def _repeated(node: yaml.Node | None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, int, int]]:
    """Keys that stand twice in one mapping, with both lines: YAML would take the last without a word."""
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, row = str(key.value), key.start_mark.line + 1
            if name in first:
                yield ".".join((*path, name)), first[name], row
            first.setdefault(name, row)
            yield from _repeated(value, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value, path)


def parsed(text: str, file: str) -> dict[str, Any]:
    """YAML (or JSON) text as a mapping; a syntax error or a repeated key becomes an `InputError`."""
    loader: Any = None
    try:
        loader = _LOADER(text)
        node = loader.get_single_node()
        raise_any(
            Problem(file, row, key, f"the key {key} again", "every key once", f"merge it with line {first}")
            for key, first, row in _repeated(node)
        )
        values = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        row = mark.line + 1 if mark else None
        what = (getattr(error, "problem", None) or "text that is not YAML").removeprefix("found ")
        expected = "YAML"
        if what.startswith("did not find expected "):
            what, expected = "something else", what.removeprefix("did not find expected ").replace("key", "a key")
        raise InputError(Problem(file, row, "", what, expected, "correct the indentation or quotes")) from None
    finally:
        if loader is not None:
            loader.dispose()
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(Problem(file, 1, "", type(values).__name__, "sections with keys", "see config/README.md"))
    return values


def validated(values: Mapping[str, Any], file: str, text: str = "") -> Settings:
    """Settings from a mapping; raise with every wrong key and value, the nearest name among them.

    Examples
    --------
    >>> validated({"nca": {"auc_rul": "linear"}}, "config.yaml")
    Traceback (most recent call last):
    ...
    nkinetics.errors.InputError: 1 problem in the input:
      config.yaml, column nca.auc_rul: found the unknown key auc_rul; expected a key of config/README.md. \
To mend: did you mean auc_rule?
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        raise InputError(_problems(error, Settings, file, _lines(text) if text else {})) from None


def _text(path: Path, expected: str, mend: str) -> str:
    """Text of a file; one that is absent, a folder, or not UTF-8 becomes an `InputError`."""
    file = path.as_posix()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(Problem(file, found="no such file", expected=expected, mend=mend)) from None
    except IsADirectoryError:
        raise InputError(Problem(file, found="a folder", expected=expected, mend=mend)) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        found = f"the byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise InputError(Problem(file, row, "", found, "text in UTF-8", "save the file as UTF-8")) from None


def readable(path: Path | str) -> None:
    """Stop at a configuration that is no text or no YAML, before somebody else's reader says so in its own words.

    Raises
    ------
    InputError
        As `load` does.
    """
    file = Path(path)
    parsed(_text(file, "a configuration", ""), file.as_posix())


def load(path: Path | str) -> Settings:
    """The settings of a configuration file.

    Raises
    ------
    InputError
        When the file is absent, is not YAML, or has a wrong key or value.
    """
    path = Path(path)
    text = _text(path, "a configuration", "name the configuration with --config, or begin with nkinetics init")
    return validated(parsed(text, path.as_posix()), path.as_posix(), text)


def section(name: str, source: str | None) -> Any:
    """One section from a path or from inline JSON (``--settings``); None gives the defaults.

    Parameters
    ----------
    name : str
        Section, as nca.
    source : str or None
        Path of a YAML or JSON file with that section alone, or its JSON text.

    Examples
    --------
    >>> section("blq", '{"middle": "zero"}').middle
    'zero'
    """
    model = SECTIONS[name]
    if source is None:
        return model()
    inline = source.lstrip().startswith("{")
    file = "--settings" if inline else source
    if inline:
        text = source
    else:
        text = _text(Path(source), "settings", "name a file or give JSON text")
    try:
        return model(**parsed(text, file))
    except ValidationError as error:
        raise InputError(_problems(error, model, file, _lines(text))) from None


def located(settings: Settings, root: Path) -> Settings:
    """The settings with every ``auto`` table of the inputs replaced by its usual path, or by none where it is absent.

    Parameters
    ----------
    settings : Settings
        As loaded.
    root : Path
        Folder to which the paths of the configuration are relative.
    """
    usual = {n: f"config/{n}.csv" for n in INPUT_TABLES if getattr(settings.inputs, n) == AUTO}
    found = {n: path if (root / path).is_file() else None for n, path in usual.items()}
    return settings.model_copy(update={"inputs": settings.inputs.model_copy(update=found)})


def known_models(names: tuple[str, ...]) -> None:
    """Every name must be a model.

    Raises
    ------
    InputError
        With the nearest name.
    """
    known = discover("models")
    problems = []
    for name in dict.fromkeys(names):
        if name not in known:
            near = nearest(name, known, 0.6)
            problems.append(
                Problem(
                    "population",
                    column="model",
                    found=f"no model {name}",
                    expected=f"one of {', '.join(known)}",
                    mend=f"did you mean {near}?" if near else "correct it",
                )
            )
    if problems:
        raise InputError(problems)


def with_candidates(models: Models, names: tuple[str, ...]) -> Models:
    """The models section with other candidates; the default structure becomes the first where it is not among them.

    Raises
    ------
    InputError
        When a name is no model.
    """
    default = models.default if models.default in names else names[0]
    values = {**models.model_dump(), "candidates": names, "default": default}
    try:
        return Models(**values)
    except ValidationError as error:
        raise InputError(_problems(error, Models, "--models", {})) from None


def as_json(part: BaseModel) -> str:
    """A section as JSON text with sorted keys, for ``--settings`` and for provenance."""
    return json.dumps(part.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)


def as_yaml(settings: Settings) -> str:
    """The whole configuration, defaults filled in, as YAML text that `load` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=True, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """The JSON schema of config.yaml, the models' own sections included."""
    schema = Settings.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    models = definitions["Models"]
    for name, model in discover("models").items():
        own = model.settings.model_json_schema()
        definitions.update(own.pop("$defs", {}))
        models["properties"][name] = {**own, "description": f"Constants of the model {name}."}
    models["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
