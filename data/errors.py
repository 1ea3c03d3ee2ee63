"""`DataError`: driving data that cannot be used. Imports nothing."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used; the message is one sentence that names the file, place or setting and what to do."""
