"""The report: templates, strings, HTML, PDF."""

from nkinetics.report.html import answers_by_dose_level, build, patient_pages, printable

__all__ = ["answers_by_dose_level", "build", "patient_pages", "printable"]
