"""define.xml 2.1 of the SDTM and of the ADaM folder, by odmlib: variables, value-level metadata, codelists, methods.

Only this module knows odmlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nkinetics.cdisc import _terms
from nkinetics.cdisc._dataset_json import longest, oid, study_oid, version_oid
from nkinetics.cdisc._model import Dataset, Variable
from nkinetics.cdisc._xpt import FORMATS

Made = Sequence[tuple[Dataset, pd.DataFrame]]

STANDARDS: Mapping[str, tuple[tuple[str, str, str, str, str], ...]] = {
    "sdtm": (
        ("STD.IG", "SDTMIG", "IG", "3.4", ""),
        ("STD.CT", "CDISC/NCI", "CT", _terms.RELEASE, "SDTM"),
    ),
    "adam": (
        ("STD.IG", "ADaMIG", "IG", "1.3", ""),
        ("STD.NCA", "ADaMIG-NCA", "IG", "1.0", ""),
        ("STD.CT", "CDISC/NCI", "CT", _terms.RELEASE, "SDTM"),
        ("STD.CTADAM", "CDISC/NCI", "CT", _terms.RELEASE, "ADaM"),
    ),
}
"""OID, name, type, version and publishing set of each standard, by folder."""

OF_ADAM = frozenset({"DTYPE"})
"""Lists that are published with ADaM."""

TYPES = {"integer": "integer", "float": "float", "datetime": "datetime", "text": "text"}


def content(made: Made, standard: str, study: Mapping[str, str], moment: str, version: str) -> bytes:
    """define.xml of one folder.

    Parameters
    ----------
    made : sequence of (Dataset, DataFrame)
        The data sets of the folder with their records: lengths, digits and lists are those of the values met.
    standard : str
        sdtm or adam.
    study : mapping
        id, title, product.
    moment : str
        ISO date and time of the file.
    version : str
        Version of the program.

    Returns
    -------
    bytes
        XML; the same for the same input.
    """
    import odmlib.define_2_1.model as define

    metadata = define.MetaDataVersion(
        OID=version_oid(study["id"], standard),
        Name=f"{study['id']}, {standard.upper()}",
        Description=f"Data definitions of {study['id']}, {standard.upper()}",
        DefineVersion="2.1.9",
    )
    metadata.Standards = define.Standards()
    for one in STANDARDS[standard]:
        metadata.Standards.Standard.append(_standard(define, one))
    metadata.ValueListDef, metadata.WhereClauseDef = [], []
    metadata.ItemGroupDef, metadata.ItemDef = [], []
    metadata.CodeList, metadata.MethodDef = [], []
    lists: dict[str, set[str]] = {}
    kinds: dict[str, str] = {}
    for item, frame in made:
        metadata.ItemGroupDef.append(_group(define, item, frame, standard))
        for variable in item.variables:
            values = frame[variable.name]
            metadata.ItemDef.append(_item(define, item, variable, frame))
            if variable.codelist:
                lists.setdefault(variable.codelist, set()).update(_met(values, variable))
                kinds[variable.codelist] = "text" if variable.is_text else "integer"
            if _has_method(variable):
                metadata.MethodDef.append(_method(define, item, variable))
            if variable.name in item.value_level:
                _value_level(define, metadata, item, variable, frame)
    for name in sorted(lists):
        codes = _terms.CODELISTS[name]
        metadata.CodeList.append(_codelist(define, name, codes, sorted(lists[name]), kinds[name], standard))
    root = define.ODM(
        FileOID=f"{study['id']}.{standard}.define",
        FileType="Snapshot",
        CreationDateTime=moment,
        AsOfDateTime=moment,
        ODMVersion="1.3.2",
        Originator="NKinetics",
        SourceSystem="NKinetics",
        SourceSystemVersion=version,
        Context="Submission",
    )
    root.Study = define.Study(OID=study_oid(study["id"]))
    root.Study.GlobalVariables = define.GlobalVariables(
        StudyName=define.StudyName(_content=study["id"]),
        StudyDescription=define.StudyDescription(_content=study["title"] or study["id"]),
        ProtocolName=define.ProtocolName(_content=study["id"]),
    )
    root.Study.MetaDataVersion = metadata
    text: str = root.to_xml_string(xml_declaration=True)
    return (text.replace("><", ">\n<") + "\n").encode()


# --------------------------------------------------------------------------------------------------------------- parts


def _description(define: Any, text: str) -> Any:
    made = define.Description()
    made.TranslatedText = [define.TranslatedText(_content=text, lang="en")]
    return made


def _standard(define: Any, one: tuple[str, str, str, str, str]) -> Any:
    identifier, name, kind, version, publishing = one
    more = {"PublishingSet": publishing} if publishing else {}
    return define.Standard(OID=identifier, Name=name, Type=kind, Version=version, Status="Final", **more)


def _has_method(variable: Variable) -> bool:
    return variable.origin == "Derived" and bool(variable.method)


def _group(define: Any, item: Dataset, frame: pd.DataFrame, standard: str) -> Any:
    tabulated = standard == "sdtm"
    more = {"Domain": item.name} if tabulated else {}
    group = define.ItemGroupDef(
        OID=f"IG.{item.name}",
        Name=item.name,
        SASDatasetName=item.name,
        Repeating="No" if item.name in ("DM", "ADSL") else "Yes",
        IsReferenceData="No",
        Purpose="Tabulation" if tabulated else "Analysis",
        Structure=item.structure,
        ArchiveLocationID=f"LF.{item.name}",
        StandardOID="STD.NCA" if item.subclass == "NON-COMPARTMENTAL ANALYSIS" else "STD.IG",
        **more,
    )
    group.Description = _description(define, item.label)
    group.ItemRef = []
    for number, variable in enumerate(item.variables, start=1):
        extra: dict[str, Any] = {}
        if variable.name in item.keys:
            extra["KeySequence"] = item.keys.index(variable.name) + 1
        if _has_method(variable):
            extra["MethodOID"] = f"MT.{item.name}.{variable.name}"
        if not len(frame) or not _met(frame[variable.name], variable):
            extra["HasNoData"] = "Yes"
        group.ItemRef.append(
            define.ItemRef(
                ItemOID=oid(item, variable),
                OrderNumber=number,
                Mandatory="Yes" if variable.required else "No",
                **extra,
            )
        )
    group.Class = define.Class(Name=item.category)
    if item.subclass:
        group.Class.SubClass = [define.SubClass(Name=item.subclass)]
    group.leaf = define.leaf(ID=f"LF.{item.name}", href=f"{item.file}.xpt")
    group.leaf.title = define.title(_content=f"{item.file}.xpt")
    return group


def _met(values: pd.Series, variable: Variable) -> set[str]:
    """Values that occur, as text; missing ones are none."""
    if variable.is_text:
        return set(values) - {""}
    return {f"{v:.15g}" for v in values.dropna()}


def _size(values: pd.Series, variable: Variable) -> dict[str, Any]:
    """Data type, length and digits of the values met."""
    if variable.kind in FORMATS:
        return {"DataType": "integer", "Length": 12, "DisplayFormat": FORMATS[variable.kind]}
    if variable.kind == "datetime":
        # A day without a time is an ISO 8601 text too, and then no longer a datetime.
        return {"DataType": "datetime" if all("T" in v for v in values if v) else "partialDatetime"}
    if variable.kind == "text":
        return {"DataType": "text", "Length": longest(values)}
    texts = [f"{v:.15g}" for v in values.dropna()]
    if variable.kind == "integer":
        return {"DataType": "integer", "Length": max([1, *(len(t) for t in texts)])}
    plain = [t for t in texts if "e" not in t]
    digits = max([0, *(len(t.partition(".")[2]) for t in plain)])
    return {"DataType": "float", "Length": max([1, *(len(t) for t in texts)]), "SignificantDigits": digits}


def _origin(define: Any, variable: Variable) -> Any:
    origin = define.Origin(Type=variable.origin, Source="Investigator" if variable.origin == "Collected" else "Sponsor")
    if variable.method and not _has_method(variable):
        origin.Description = _description(define, variable.method)
    return origin


def _item(define: Any, item: Dataset, variable: Variable, frame: pd.DataFrame) -> Any:
    made = define.ItemDef(
        OID=oid(item, variable),
        Name=variable.name,
        SASFieldName=variable.name,
        **_size(frame[variable.name], variable),
    )
    made.Description = _description(define, variable.label)
    if variable.codelist:
        made.CodeListRef = define.CodeListRef(CodeListOID=f"CL.{variable.codelist}")
    made.Origin = [_origin(define, variable)]
    if variable.name in item.value_level and _deciding(item, variable, frame):
        made.ValueListRef = define.ValueListRef(ValueListOID=f"VL.{item.name}.{variable.name}")
    return made


def _deciding(item: Dataset, variable: Variable, frame: pd.DataFrame) -> list[str]:
    """Values of the variable that decides what this one means; an empty data set has none."""
    return sorted(set(frame[item.value_level[variable.name]]) - {""})


def _value_level(define: Any, metadata: Any, item: Dataset, variable: Variable, frame: pd.DataFrame) -> None:
    """A list with one entry per value of the deciding variable: type, length and digits of the values there."""
    by = item.value_level[variable.name]
    values = _deciding(item, variable, frame)
    if not values:
        return
    listed = define.ValueListDef(OID=f"VL.{item.name}.{variable.name}")
    listed.ItemRef = []
    for number, value in enumerate(values, start=1):
        part = f"{item.name}.{variable.name}.{number:03d}"
        reference = define.ItemRef(ItemOID=f"IT.{part}", OrderNumber=number, Mandatory="No")
        reference.WhereClauseRef = [define.WhereClauseRef(WhereClauseOID=f"WC.{part}")]
        listed.ItemRef.append(reference)
        clause = define.WhereClauseDef(OID=f"WC.{part}")
        check = define.RangeCheck(Comparator="EQ", SoftHard="Soft", ItemOID=f"IT.{item.name}.{by}")
        check.CheckValue = [define.CheckValue(_content=value)]
        clause.RangeCheck = [check]
        metadata.WhereClauseDef.append(clause)
        own = frame.loc[frame[by] == value]
        kind = _narrowest(own[variable.name], variable)
        made = define.ItemDef(OID=f"IT.{part}", Name=variable.name, SASFieldName=variable.name, **kind)
        made.Description = _description(define, _meaning(item, by, value, own))
        made.Origin = [_origin(define, variable)]
        metadata.ItemDef.append(made)
    metadata.ValueListDef.append(listed)


def _narrowest(values: pd.Series, variable: Variable) -> dict[str, Any]:
    """Data type of the values of one test: an integer where all are."""
    if variable.is_text:
        return {"DataType": "text", "Length": longest(values)}
    whole = bool(len(values.dropna())) and bool((values.dropna() == values.dropna().round()).all())
    kind = Variable(
        variable.name, variable.label, "integer" if whole and values.dropna().abs().max() < 1e9 else "float"
    )
    return _size(values, kind)


def _meaning(item: Dataset, by: str, value: str, rows: pd.DataFrame) -> str:
    """What a value of the deciding variable stands for, with its unit."""
    decodes = {"PPTESTCD": "PPTEST", "PARAMCD": "PARAM", "QNAM": "QLABEL"}
    text = str(rows[decodes[by]].iloc[0]) if by in decodes and len(rows) else value
    units = [
        u for name in ("PPSTRESU", "PCSTRESU", "AVALU") if name in rows.columns for u in sorted(set(rows[name])) if u
    ]
    return text if not units or by == "PARAMCD" else f"{text} ({', '.join(units)})"


def _method(define: Any, item: Dataset, variable: Variable) -> Any:
    made = define.MethodDef(
        OID=f"MT.{item.name}.{variable.name}", Name=f"{item.name}.{variable.name}", Type="Computation"
    )
    made.Description = _description(define, variable.method)
    return made


def _codelist(define: Any, name: str, codes: _terms.Codelist, met: Sequence[str], kind: str, standard: str) -> Any:
    """A codelist with the terms that occur; a term of ours carries ExtendedValue, a known one its NCI code."""
    owner: dict[str, str] = {"IsNonStandard": "Yes"}
    if codes.code:
        owner = {"StandardOID": "STD.CTADAM" if standard == "adam" and name in OF_ADAM else "STD.CT"}
    made = define.CodeList(OID=f"CL.{name}", Name=codes.name, DataType=kind, **owner)
    decoded = any(decode for decode, _ in codes.terms.values())
    items = list(_coded(define, codes, met or sorted(codes.terms), decoded))
    if decoded:
        made.CodeListItem = items
    else:
        made.EnumeratedItem = items
    if codes.code:
        made.Alias = [define.Alias(Context="nci:ExtCodeID", Name=codes.code)]
    return made


def _coded(define: Any, codes: _terms.Codelist, met: Sequence[str], decoded: bool) -> Iterator[Any]:
    for value in met:
        decode, code = codes.terms.get(value, (value, ""))
        own = codes.code and (value in codes.sponsor or value not in codes.terms)
        more = {"ExtendedValue": "Yes"} if own else {}
        one = (define.CodeListItem if decoded else define.EnumeratedItem)(CodedValue=value, **more)
        if decoded:
            one.Decode = define.Decode()
            one.Decode.TranslatedText = [define.TranslatedText(_content=decode or value, lang="en")]
        if code:
            one.Alias = [define.Alias(Context="nci:ExtCodeID", Name=code)]
        yield one


def schema_errors(text: bytes) -> list[str]:
    """What the XML schema of Define-XML 2.1 (shipped with odmlib) has against a document; empty for none."""
    import io

    import xmlschema
    from odmlib.schema_manager import get_schema_path

    schema = xmlschema.XMLSchema(get_schema_path("define", "2.1"))
    return [f"{error.path}: {error.reason}" for error in schema.iter_errors(io.BytesIO(text))]
