"""Reading typed members out of JSON records, with the place in the file in every error. Pure; imports errors only."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as brief
from typing import Any, TypeVar

from data.errors import DataError

_T = TypeVar("_T")


class RecordError(DataError):
    """An entry that has not the structure of its format; the message names file, place and member."""


def expect(value: Any, type_: type[_T], place: str) -> _T:
    """The value itself.

    Raises:
        RecordError: it is of another type.
    """
    if not isinstance(value, type_):
        raise RecordError(f"{place} must be a {type_.__name__}, got {type(value).__name__}")
    return value


def member(record: Mapping[str, Any], key: str, type_: type[_T], place: str) -> _T:
    """A member of a record.

    Raises:
        RecordError: it is missing or of another type.
    """
    if key not in record:
        raise RecordError(f"{place} has no {key!r}")
    return expect(record[key], type_, f"{place}.{key}")


def text_member(record: Mapping[str, Any], key: str, place: str) -> str:
    """A text member, stripped; null reads as empty.

    Raises:
        RecordError: it is missing or no text.
    """
    if key not in record:
        raise RecordError(f"{place} has no {key!r}")
    value = record[key]
    return "" if value is None else whole(expect(value, str, f"{place}.{key}")).strip()


def whole(text: str) -> str:
    """A text with � for half a character, which JSON may hold (`\\ud800`) and no file."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def optional_text(record: Mapping[str, Any], key: str, place: str) -> str:
    """As `text_member`, but a missing member reads as empty too."""
    return text_member(record, key, place) if key in record else ""


def numbers(value: Any, place: str, count: int | None = None) -> tuple[float, ...]:
    """A list of finite numbers, `count` of them when given.

    Raises:
        RecordError: it is no such list.
    """
    values = expect(value, list, place)
    finite = all(isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < 1e300 for item in values)
    if not finite or (count is not None and len(values) != count):
        wanted = "finite numbers" if count is None else f"{count} finite numbers"
        raise RecordError(f"{place} must hold {wanted}, got {brief(values)}")
    return tuple(float(item) for item in values)


def bits(value: Any, place: str, *counts: int) -> tuple[int, ...]:
    """A list of zeros and ones; its length is one of `counts`. Whole floats (1.0) count.

    Raises:
        RecordError: it is no such list.
    """
    found = numbers(value, place)
    if len(found) not in counts or not all(item in (0.0, 1.0) for item in found):
        raise RecordError(f"{place} must hold {' or '.join(map(str, counts))} zeros and ones, got {brief(value)}")
    return tuple(int(item) for item in found)
