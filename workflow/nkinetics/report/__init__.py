"""The report: templates, strings, HTML."""

from nkinetics.report.html import build

__all__ = ["build"]
