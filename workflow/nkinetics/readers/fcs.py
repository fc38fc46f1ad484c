"""FCS headers: how many events a cytometer recorded and which volume it acquired.

Events are neither read nor gated; gating stays with the laboratory's software. One row per file: the events recorded
(target ``$TOT``) and the acquired volume, whose unit `$CYT` decides. With assays.flow.method volumetric the volume
serves the gated counts of the same sample. The sample is called as the file is. The operator's name and the folders
of the header are not read. Needs the extra ``fcs`` (flowio).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from nkinetics.plugins import Claim, Reader, Reading
from nkinetics.readers._cells import Checked, danger
from nkinetics.readers._export import AGAIN, Export
from nkinetics.readers._gates import acquired, count, sample_name
from nkinetics.settings import Settings

TARGET = "$TOT"
_DATA_SETS_MAX = 100


def claim(export: Export, settings: Settings) -> Claim:
    """Whether the file begins as an FCS file does."""
    if export.kind == "fcs":
        return Claim(True, ("the first bytes of an FCS file",))
    return Claim(False, (), ("the first bytes of an FCS file",))


def read(export: Export, settings: Settings) -> Reading:
    """One row: the events recorded and the volume acquired.

    Raises
    ------
    InputError
        When flowio is not installed, when the header is damaged, or when the file holds several acquisitions.
    """
    first, *others = _headers(export)
    text = first.get("tot", "").strip()
    if any(other.get("tot", "").strip() != text for other in others):
        found = f"an FCS file of {1 + len(others)} acquisitions"
        raise export.refuse(found, "one acquisition in a file", "export each acquisition to a file of its own")
    cells = Checked(export.label)
    name = sample_name(export.name)
    if name.lower().endswith(".lmd"):
        name = name[:-4]
    cells.sample_name(None, "file name", name)
    volume, remark = acquired(first)
    row: dict[str, Any] = {
        "source_row": 1,
        "run_id": export.stem,
        "sample_id": name,
        "role": "unknown",
        "target": TARGET,
        "measure": "events",
        "value_raw": text,
        "volume_ul": volume,
    }
    row |= count(text, TARGET, cells)
    cells.done()
    acquired_at = " ".join(first.get(key, "").strip() for key in ("date", "btim")).strip()
    remarks = [row.get("remark", ""), remark, f"acquired at {acquired_at}" if acquired_at else ""]
    row["remark"] = "; ".join(r for r in remarks if r and not danger(r))
    return Reading([row], "" if volume is not None or "vol" in first else "the header holds no volume ($VOL)")


def _headers(export: Export) -> list[Mapping[str, str]]:
    """Keywords of each data set of the file, by name without ``$``, lower case."""
    try:
        from flowio import FlowData
    except ImportError:
        found = "an FCS file of single events, and flowio, which reads its header, is not installed"
        mend = "pip install 'nkinetics[fcs]', or take FCS files out of inputs.exports: gated counts need none"
        raise export.refuse(found, "gated counts, or the extra fcs", mend) from None
    headers: list[Mapping[str, str]] = []
    offset = 0
    try:
        while True:
            # Where the data lie does not matter to the header, so that a wrong offset is no reason to refuse it.
            data = FlowData(
                io.BytesIO(export.content),
                ignore_offset_error=True,
                ignore_offset_discrepancy=True,
                only_text=True,
                nextdata_offset=offset,
            )
            headers.append(dict(data.text))
            following = int(data.text.get("nextdata", "0"))
            if following == 0:
                return headers
            offset += following
            if following < 0 or len(headers) >= _DATA_SETS_MAX:
                raise ValueError("data sets without end")
    except Exception as error:  # flowio raises whatever the damage makes its parser raise
        found = f"a damaged FCS file ({type(error).__name__})"
        raise export.refuse(found, "a complete FCS file", AGAIN) from None


READER = Reader("fcs", "FCS header", claim, read)
