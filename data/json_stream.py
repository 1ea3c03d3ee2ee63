"""Reading JSON files of any size entry by entry, so that memory is bounded by the largest entry. ijson only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import ijson

from data.errors import DataError
from data.text_file import open_bytes, read_text, unreadable

Outermost = Literal["object", "list", "other"]

_REREAD_BYTES = 64 * 2**20
"""A broken file up to this size is read once more as a whole, for the exact line and column of its fault."""


def outermost(path: Path, setting: str = "") -> Outermost:
    """What a JSON file holds, by its first character.

    Raises:
        DataError: the file is missing or not JSON; `setting`, where given, is what named it.
    """
    named = f"{setting} {path}".lstrip()
    if not path.is_file():
        raise DataError(f"{named} does not exist or is not a file")
    with open_bytes(path) as file:
        while (first := file.read(1)) in (b" ", b"\t", b"\r", b"\n"):
            pass
    if first not in (b"{", b"["):
        if path.stat().st_size > _REREAD_BYTES:
            raise DataError(f"{named} begins with neither an object nor a list of JSON")
        small_value(path)
        return "other"
    return "object" if first == b"{" else "list"


def members(path: Path, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The members of the object at a prefix (ijson's notation), one after the other.

    Raises:
        DataError: the file is not JSON, from where the fault is reached.
    """
    yield from _streamed(path, lambda file: ijson.kvitems(file, prefix, use_float=True))


def items(path: Path, prefix: str = "item") -> Iterator[Any]:
    """The items of the list at a prefix (ijson's notation; `item` alone is the outermost list).

    Raises:
        DataError: as `members`.
    """
    yield from _streamed(path, lambda file: ijson.items(file, prefix, use_float=True))


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """The items of a list or the members of an object, each with what tells it apart: "[3]", or its key.

    Raises:
        DataError: as `outermost` and `members`.
    """
    if outermost(path) == "object":
        yield from members(path)
    else:
        yield from ((f"[{index}]", item) for index, item in enumerate(items(path)))


def small_value(path: Path) -> Any:
    """A small file as a whole.

    Raises:
        DataError: it is missing, not JSON (line and column), not UTF-8 text, larger than 64 MiB, or beyond what Python
            reads (nested too deeply, a number of thousands of digits).
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    if path.stat().st_size > _REREAD_BYTES:
        raise DataError(f"{path} is larger than {_REREAD_BYTES >> 20} MiB, the most that is read as a whole")
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise unreadable(path, error) from None


def _streamed(path: Path, parse: Any) -> Iterator[Any]:
    with open_bytes(path) as file:
        try:
            yield from parse(file)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _broken(path, file, error) from None


def _broken(path: Path, file: BinaryIO, error: Exception) -> DataError:
    said = str(error).splitlines()[0]
    if "overflow" in said:
        return DataError(f"{path} holds a number of more than 64 bits: {said} within the first {file.tell()} bytes")
    if path.stat().st_size <= _REREAD_BYTES:
        try:
            small_value(path)
        except DataError as exact:
            return exact
        return DataError(f"{path} is not valid JSON: {said} (NaN and Infinity are no JSON)")
    return DataError(f"{path} is not valid JSON: {said} within the first {file.tell()} bytes")
