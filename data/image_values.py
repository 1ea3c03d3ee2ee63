"""What data sets write where an image is meant: a path, a data URI, bytes, or a mapping of the latter. Writes files.

Bytes become a file once, named by their content, so that everything else knows images by their path.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import Any

from data.records import RecordError
from extension import at_home

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


def image_path(value: Any, root: Path, cache: Path, place: str) -> str:
    """The absolute path of an image.

    Args:
        value: a path, `file://` or not; a data URI; bytes; or `{"bytes": ..., "path": ...}` as Hugging Face writes it.
        root: what relative paths are resolved against.
        cache: where bytes are written.
        place: the entry, for messages.

    Raises:
        RecordError: it is none of these, or a URL: nothing is fetched.
    """
    if isinstance(value, dict):
        inside = value.get("bytes") or value.get("url") or value.get("path") or value.get("image")
        return image_path(inside, root, cache, place)
    if isinstance(value, bytes | bytearray | memoryview):
        return _written(bytes(value), cache)
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise RecordError(f"{place} has an image that is neither a path nor bytes nor a data URI")
    if value.startswith("data:"):
        return _written(_decoded(value, place), cache)
    if value.startswith(("http://", "https://")):
        raise RecordError(f"{place} has an image at a URL, and nothing is fetched: download it and name the file")
    return os.path.normpath(root / at_home(value.removeprefix("file://")))


def _decoded(uri: str, place: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise RecordError(f"{place} has a data URI that is not base64: write it as data:image/jpeg;base64,...")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError(f"{place} has a data URI that is damaged ({error})") from None


def _written(content: bytes, cache: Path) -> str:
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), ".img")
    path = cache / f"{hashlib.sha256(content).hexdigest()[:32]}{suffix}"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(path)
    return str(path)


def view_names(count: int, given: tuple[str, ...] = ()) -> list[str]:
    """Names for the images of a question, in their order: those that were given, then `image_2` and so on."""
    return [*given[:count], *(f"image_{number + 1}" for number in range(len(given), count))]
