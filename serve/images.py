"""Images out of bytes and data URIs, within bounds. Never fetches anything: a request names bytes, not places."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct

from PIL import Image

from data.images import ImageError, as_rgb

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media types that are accepted, with Pillow's name of the only decoder that is tried."""

DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,", re.ASCII)

DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
"""What Pillow raises for a broken file."""


class ImageRefused(ValueError):
    """An image that is not accepted; the message names it by its place in the request and says why."""


def decode_data_uri(uri: str, name: str, max_pixels: int) -> Image.Image:
    """The image in a `data:image/...;base64,` URI as RGB, fully decoded.

    Args:
        uri: the URI of the request.
        name: what the message calls the image, such as `image 2`.
        max_pixels: largest width x height; checked on the header, before pixels are decoded.

    Raises:
        ImageRefused: another kind of URI or media type, bad base64, or as `decode_image`.
    """
    head = DATA_URI.match(uri)
    if head is None:
        raise ImageRefused(
            f"{name} must be a data URI (data:image/png;base64,...): this server fetches nothing, got {uri[:40]!r}"
        )
    if head["type"] not in FORMATS:
        raise ImageRefused(f"{name} is {head['type']}; accepted are {', '.join(FORMATS)}")
    try:
        data = base64.b64decode(uri[head.end() :], validate=True)
    except binascii.Error as error:
        raise ImageRefused(f"{name} is not valid base64: {error}") from None
    return decode_image(data, name, FORMATS[head["type"]], max_pixels)


def decode_image(data: bytes, name: str, pillow_format: str, max_pixels: int) -> Image.Image:
    """The image in some bytes as RGB, fully decoded.

    Args:
        data: a whole file.
        name: what the message calls the image.
        pillow_format: Pillow's name of the only decoder that is tried.
        max_pixels: as `decode_data_uri`.

    Raises:
        ImageRefused: no such image, too many pixels, or truncated.
    """
    image = _open(data, name, pillow_format)
    if image.width * image.height > max_pixels:
        raise ImageRefused(f"{name} has {image.width}x{image.height} pixels, more than the {max_pixels:,} allowed")
    try:
        image.load()
        return as_rgb(image, name)
    except ImageError as error:
        raise ImageRefused(str(error)) from None
    except DECODE_ERRORS as error:
        raise ImageRefused(f"{name} is truncated or damaged: {error}") from None


def _open(data: bytes, name: str, pillow_format: str) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=[pillow_format])
    except Image.DecompressionBombError as error:
        raise ImageRefused(f"{name} has too many pixels: {error}") from None
    except DECODE_ERRORS:
        raise ImageRefused(f"{name} is no readable {pillow_format} image") from None
