"""The report: templates, strings, HTML."""

from nkinetics.report.html import answers_by_dose_level, build

__all__ = ["answers_by_dose_level", "build"]
