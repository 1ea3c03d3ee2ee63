"""What is wrong with a file that is no JSON, in one sentence. Pure; imports errors only."""

from __future__ import annotations

import json
from pathlib import Path

from data.errors import DataError


def unreadable(path: Path, error: OSError | ValueError | RecursionError, form: str = "not valid JSON") -> DataError:
    """The error that names the file, from what reading or parsing it raised; `form` says what it is, or is not."""
    if isinstance(error, OSError):
        return DataError(f"{path} cannot be read: {error.strerror}")
    if isinstance(error, RecursionError):
        return DataError(f"{path} is {form}: it is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{path} is not UTF-8 text: byte {error.start}: {error.reason}")
    if isinstance(error, json.JSONDecodeError):
        return DataError(f"{path} is {form}: line {error.lineno} column {error.colno}: {error.msg}")
    return DataError(f"{path} is {form}: {error}")
