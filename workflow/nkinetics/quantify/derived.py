"""Cells/uL derived from DNA levels and the white blood count (assays.md 7), as rows of their own, never in place.

cells/uL = copies/ug * pg_per_genome * 1e-6 / VCN * WBC [1/uL]

copies/ug * pg_per_genome * 1e-6 are copies per white blood cell, whose DNA weighs one diploid genome; divided by the
copies in one CAR+ cell they are the share of CAR+ cells among the white blood cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from nkinetics.quantify.levels import LEVELS
from nkinetics.settings import Qpcr
from nkinetics.store import complete

ASSAY = "qpcr_cells"
"""Assay of the derived rows: they are a profile of their own in every table and figure."""


def derived_analyte(settings: Qpcr) -> str:
    """Analyte of the derived rows, which says that they are derived and how."""
    vcn = settings.derived_cells.vcn if settings.derived_cells else math.nan
    return f"{settings.analyte}, cells derived from qPCR and WBC at VCN {vcn:g}"


def cells_per_ul(level: float, wbc_1e9_l: float, vcn: float, pg_per_genome: float = 6.6) -> float:
    """CAR+ cells in one uL of blood from copies in one ug of DNA.

    Parameters
    ----------
    level : float
        [copies/ug].
    wbc_1e9_l : float
        White blood cells [1e9/L]; 1e9/L are 1000/uL.
    vcn : float
        Copies in one CAR+ cell.
    pg_per_genome : float
        DNA of one diploid cell [pg].

    Examples
    --------
    >>> round(cells_per_ul(50_000, 4.0, 2.0), 6)  # 0.33 copies and 0.165 CAR+ cells per cell, of 4000 per uL
    660.0
    """
    return level * pg_per_genome * 1e-6 / vcn * wbc_1e9_l * 1000


def derived_cells(levels: pd.DataFrame, samples: pd.DataFrame, settings: Qpcr) -> pd.DataFrame:
    """Rows in cells/uL of the qPCR levels; none where the configuration asks for none.

    Parameters
    ----------
    levels : DataFrame
        `nkinetics.quantify.levels.LEVELS`; only rows of the assay qpcr are taken.
    samples : DataFrame
        Manifest with `sample_id` and `wbc_1e9_l`.
    settings : Qpcr
        Its `derived_cells` has the VCN.

    Returns
    -------
    DataFrame
        `LEVELS`. Level and limits scaled by the row's own white count; the status and its reason stand, for they are
        those of the reaction. Without a white count above 0, or from a level of another unit than copies/ug and
        copies/cell, the row is not_done and says so.
    """
    if settings.derived_cells is None:
        return complete(pd.DataFrame(columns=LEVELS.names), LEVELS)
    rows = levels[(levels["assay"] == "qpcr").to_numpy(dtype=bool)]
    counts: Mapping[str, float] = dict(zip(samples["sample_id"], samples["wbc_1e9_l"], strict=True))
    wbc = rows["sample_id"].map(counts).astype("float64")
    vcn = settings.derived_cells.vcn
    by_unit = {"copies/ug": cells_per_ul(1.0, 1.0, vcn, settings.pg_per_genome), "copies/cell": 1000 / vcn}
    per_level = rows["level_unit"].map(by_unit).astype("float64")
    counted = wbc > 0
    factor = (wbc * per_level).where(counted)
    measured = ~rows["status"].isin(("failed", "not_done"))
    lacking = measured & factor.isna()
    none = "no cells derived: the sample has no white blood count (wbc_1e9_l)"
    why = pd.Series(none, index=rows.index).where(~counted, "no cells derived from a level in " + rows["level_unit"])
    made = rows.assign(
        assay=ASSAY,
        analyte=derived_analyte(settings),
        level_unit="cells/uL",
        **{name: rows[name] * factor for name in ("level", "lod", "lloq", "uloq")},
        status=rows["status"].mask(lacking, "not_done"),
        detected=rows["detected"].mask(lacking, pd.NA),
        exclusion_reason=rows["exclusion_reason"].mask(lacking, why),
    )
    return complete(made, LEVELS)
