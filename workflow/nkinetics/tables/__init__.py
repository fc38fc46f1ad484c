"""Canonical tables to report tables, one file each."""
