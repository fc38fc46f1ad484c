"""Dose levels and the study."""
