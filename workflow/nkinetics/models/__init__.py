"""Kinetic models, one file each."""
