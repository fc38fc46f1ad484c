"""What a machine may lack, asked without importing it: an output that cannot be made here says how it could be."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

PANGO = ("libpango-1.0.so.0", "libpango-1.0.dylib", "libpango-1.0-0.dll", "pango-1.0-0")
PANGO_LINE = (
    "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core fonts-dejavu-extra "
    "fonts-wqy-zenhei"
)
"""What Debian and Ubuntu call the libraries and fonts that WeasyPrint draws with."""


@cache
def pdf_lacks() -> str:
    """How a PDF could be written on this machine; empty where it can be."""
    if find_spec("weasyprint") is None:
        return "install WeasyPrint: pip install weasyprint"
    for name in PANGO:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return ""
    return f"install Pango and fonts, on Debian or Ubuntu: {PANGO_LINE} (macOS: brew install pango)"


@cache
def rtf_lacks() -> str:
    """How RTF could be written on this machine; empty where it can be."""
    if find_spec("rtflite") is None:
        return 'install rtflite: pip install "nkinetics[rtf]"'
    return ""
