"""The images of a set, copied into the database when it is made: what annotators see does not change afterwards.

Names of files are followed where the operator's own command or a run's own record gives them, never in an upload.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.errors import DataError
from data.images import MAX_PIXELS, check_image, open_image
from data.lidar import SWEEP_SUFFIX, draw_sweep, read_sweep
from data.uris import is_uri
from serve.errors import ServiceError
from serve.images import DATA_URI, FORMATS, ImageRefused, decode_image

MEDIA_TYPES = {name: media_type for media_type, name in FORMATS.items()}
"""Pillow's name of a format to its media type: those that every browser shows."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is kept."""

    digest: str
    media_type: str
    data: bytes


def picture(given: str, name: str, *, paths_from: Path | None) -> Picture:
    """The image that a line names.

    Args:
        given: a data URI, or a path or URI.
        name: what a message calls it.
        paths_from: the folder in which relative paths begin; None: only data URIs are taken.

    Raises:
        ServiceError: 400, it is none.
    """
    if given.startswith("data:"):
        return _of_data_uri(given, name)
    if paths_from is None:
        raise ServiceError(
            400, f"{name} must be a data URI (data:image/jpeg;base64,...): no file is opened for an upload", "bad_image"
        )
    place = given if is_uri(given) else str(paths_from / given)
    try:
        return _of_file(place)
    except DataError as error:
        raise ServiceError(400, f"{name}: {error}", "bad_image") from None


def _of_data_uri(given: str, name: str) -> Picture:
    head = DATA_URI.match(given)
    if head is None or head["type"] not in FORMATS:
        raise ServiceError(400, f"{name} must be a data URI of {', '.join(FORMATS)}", "bad_image")
    try:
        data = base64.b64decode(given[head.end() :], validate=True)
        decode_image(data, name, FORMATS[head["type"]], MAX_PIXELS)
    except binascii.Error:
        raise ServiceError(400, f"{name} is not valid base64", "bad_image") from None
    except ImageRefused as error:
        raise ServiceError(400, str(error), "bad_image") from None
    return _kept(data, head["type"])


def _of_file(place: str) -> Picture:
    """The bytes of a file as they are; of one that browsers do not show, what it shows as PNG."""
    if not place.endswith(SWEEP_SUFFIX) and not is_uri(place):
        check_image(place)
        with Image.open(place) as opened:
            media_type = MEDIA_TYPES.get(str(opened.format))
        if media_type is not None:
            return _kept(Path(place).read_bytes(), media_type)
    shown = draw_sweep(read_sweep(place)) if place.endswith(SWEEP_SUFFIX) else open_image(place)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return _kept(buffer.getvalue(), "image/png")


def _kept(data: bytes, media_type: str) -> Picture:
    return Picture(hashlib.sha256(data).hexdigest(), media_type, data)
