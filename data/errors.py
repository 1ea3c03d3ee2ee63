"""`DataError`: driving data that cannot be used. Imports no other package of the project."""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, ends a line, turns a text around, or is half a character."""


def one_line(text: str) -> str:
    """A text with its control characters as JSON writes them, so that a terminal shows it and does not obey it."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class DataError(ValueError):
    """Data that cannot be used; the message is one sentence that names the file, place or setting and what to do."""
