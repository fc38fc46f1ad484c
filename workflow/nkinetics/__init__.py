"""CAR-NK cellular kinetics, from the assay export to the report a committee decides on."""

__version__ = "0.1.0"
