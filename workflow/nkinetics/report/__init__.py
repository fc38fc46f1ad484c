"""The report: templates, strings, HTML, PDF."""

from nkinetics.report.html import build, printable

__all__ = ["build", "printable"]
