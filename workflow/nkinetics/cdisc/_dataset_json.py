"""Dataset-JSON 1.1: one file per data set, the same records as the transport file, dates as ISO texts."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import pandas as pd

from nkinetics.cdisc._model import SAS_EPOCH, Dataset, Variable

TYPES = {"text": "string", "integer": "integer", "float": "double", "datetime": "string"}
"""dataType of each kind; a partial ISO date of SDTM is a string."""


def column(item: Dataset, variable: Variable, frame: pd.DataFrame) -> dict[str, Any]:
    """Metadata of a variable."""
    made: dict[str, Any] = {"itemOID": oid(item, variable), "name": variable.name, "label": variable.label}
    if variable.kind in ("sas_date", "sas_datetime"):
        made |= {"dataType": "date" if variable.kind == "sas_date" else "datetime", "targetDataType": "integer"}
        made |= {"displayFormat": "DATE9." if variable.kind == "sas_date" else "DATETIME20."}
    else:
        made["dataType"] = TYPES[variable.kind]
    if variable.is_text:
        made["length"] = longest(frame[variable.name])
    if variable.name in item.keys:
        made["keySequence"] = item.keys.index(variable.name) + 1
    return made


def oid(item: Dataset, variable: Variable) -> str:
    """OID of a variable, the same in define.xml."""
    return f"IT.{item.name}.{variable.name}"


def longest(texts: pd.Series) -> int:
    """Longest value in bytes; 1 where all are empty, as a variable has a length."""
    return max([1, *(len(t.encode()) for t in texts)])


def value(cell: Any, variable: Variable) -> Any:
    """A cell as JSON has it: null for a missing number or date, an empty text for a missing text.

    Examples
    --------
    >>> value(2.0, Variable("A", "", "integer")), value(float("nan"), Variable("A", "", "float"))
    (2, None)
    >>> value(1.0, Variable("A", "", "sas_date")), value(60.0, Variable("A", "", "sas_datetime"))
    ('1960-01-02', '1960-01-01T00:01:00')
    """
    if variable.is_text:
        return str(cell)
    if math.isnan(cell):
        return None
    if variable.kind == "sas_date":
        return (SAS_EPOCH + datetime.timedelta(days=cell)).date().isoformat()
    if variable.kind == "sas_datetime":
        return (SAS_EPOCH + datetime.timedelta(seconds=cell)).isoformat()
    return int(cell) if variable.kind == "integer" else float(f"{cell:.15g}")


def content(item: Dataset, frame: pd.DataFrame, study: str, moment: str, version: str) -> bytes:
    """A data set as Dataset-JSON 1.1, one record a line.

    Parameters
    ----------
    item, frame : Dataset, DataFrame
        Description and records.
    study : str
        STUDYID.
    moment : str
        ISO date and time of the file.
    version : str
        Version of the program.
    """
    head: dict[str, Any] = {
        "datasetJSONCreationDateTime": moment,
        "datasetJSONVersion": "1.1.0",
        "fileOID": f"{study}.{item.name}",
        "originator": "NKinetics",
        "sourceSystem": {"name": "NKinetics", "version": version},
        "studyOID": study_oid(study),
        "metaDataVersionOID": version_oid(study, item.standard),
        "metaDataRef": "define.xml",
        "itemGroupOID": f"IG.{item.name}",
        "records": len(frame),
        "name": item.name,
        "label": item.label,
        "columns": [column(item, v, frame) for v in item.variables],
    }
    columns = [[value(c, v) for c in frame[v.name]] for v in item.variables]
    rows = ",\n".join(json.dumps(list(row), ensure_ascii=False) for row in zip(*columns, strict=True))
    text = json.dumps(head, ensure_ascii=False, indent=1)
    return (text.removesuffix("\n}") + ',\n "rows": [\n' + rows + "\n]\n}\n").encode()


def study_oid(study: str) -> str:
    """OID of the study, the same in define.xml."""
    return f"ODM.{study}"


def version_oid(study: str, standard: str) -> str:
    """OID of the metadata, the same in define.xml."""
    return f"MDV.{study}.{standard.upper()}"
