"""Canonical tables to figures, one file each."""
