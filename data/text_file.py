"""Opening people's text files, behind their byte-order mark, and what is wrong with one that is no JSON.

Imports errors only.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from data.errors import DataError


def open_bytes(path: Path) -> BinaryIO:
    """The file, opened behind its byte-order mark.

    Raises:
        DataError: it is UTF-16.
        OSError: it cannot be opened.
    """
    file = path.open("rb")
    start = file.read(len(codecs.BOM_UTF8))
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.close()
        raise DataError(f"{path} is UTF-16 text: save it as UTF-8")
    file.seek(len(start) if start == codecs.BOM_UTF8 else 0)
    return file


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        DataError: as `open_bytes`.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with open_bytes(path) as file:
        return file.read().decode("utf-8")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1. Only a line feed ends one: U+2028 may stand in JSON.

    Raises:
        DataError, OSError: as `open_bytes`.
    """
    with open_bytes(path) as file:
        yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


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
