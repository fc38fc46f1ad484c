"""What each number of POPPK stands for: patients, assays, cytokines, dose levels."""

from __future__ import annotations

import pandas as pd

from nkinetics.cdisc._model import Dataset, Source, Variable
from nkinetics.cdisc.poppk import numbers


def build(source: Source) -> pd.DataFrame:
    """One record per number."""
    rows = [
        {"COLUMN": column, "NUMBER": number, "MEANING": text}
        for column, texts in numbers(source).items()
        for text, number in texts.items()
    ]
    return pd.DataFrame(rows, columns=["COLUMN", "NUMBER", "MEANING"])


DATASET = Dataset(
    name="POPIDS",
    label="Numbers of POPPK and what they Stand for",
    standard="pharmacometrics",
    category="MODELLING",
    structure="One record per number",
    keys=("COLUMN", "NUMBER"),
    variables=(
        Variable("COLUMN", "Column of POPPK", length=8, required=True),
        Variable("NUMBER", "Number", "integer", 8, required=True),
        Variable("MEANING", "What it Stands for", length=80, required=True),
    ),
    build=build,
)
