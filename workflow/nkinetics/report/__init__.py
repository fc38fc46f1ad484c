"""The report: templates, strings, HTML."""
