"""A reward that costs nothing and differs from answer to answer, for what is measured besides rewards."""

from __future__ import annotations

import zlib
from typing import Any


def points(sample: Any, text: str) -> float:
    """0 to 100, by the answer's letters."""
    return float(zlib.crc32(text.encode()) % 101)
