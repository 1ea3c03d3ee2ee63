"""Images out of bytes and data URIs, within bounds. Never fetches anything: a request names bytes, not places."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
from dataclasses import dataclass

from PIL import Image

from data.images import ImageError, as_rgb

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media types that are accepted, with Pillow's name of the only decoder that is tried."""
ALSO = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""What clients write for them."""

DATA_URI = re.compile(
    r"data:(?P<type>[\w.+-]{1,60}/[\w.+-]{1,60})(?:;[\w.-]{1,40}=[\w.-]{1,40}){0,4};base64,", re.ASCII | re.IGNORECASE
)

DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
"""What Pillow raises for a broken file."""


class ImageRefused(ValueError):
    """An image that is not accepted; the message names it by its place in the request and says why."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image whose header was read: its size is known, and no pixel is decoded yet."""

    name: str
    data: bytes
    pillow_format: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """What decoding it will take."""
        return self.width * self.height

    def decode(self) -> Image.Image:
        """The image as RGB.

        Raises:
            ImageRefused: it is truncated or damaged.
        """
        image = _open(self.data, self.name, self.pillow_format)
        try:
            image.load()
            return as_rgb(image, self.name)
        except ImageError as error:
            raise ImageRefused(str(error)) from None
        except DECODE_ERRORS as error:
            raise ImageRefused(f"{self.name} is truncated or damaged: {error}") from None


def decode_data_uri(uri: str, name: str, max_pixels: int) -> Image.Image:
    """The image in a `data:image/...;base64,` URI as RGB, fully decoded.

    Raises:
        ImageRefused: as `read_data_uri` and `Encoded.decode`.
    """
    return read_data_uri(uri, name, max_pixels).decode()


def read_data_uri(uri: str, name: str, max_pixels: int) -> Encoded:
    """The image in a `data:image/...;base64,` URI, its header alone read.

    Args:
        uri: the URI of the request; the case of its head, its parameters and line breaks do not matter.
        name: what the message calls the image, such as `image 2`.
        max_pixels: largest width x height.

    Raises:
        ImageRefused: another kind of URI or media type, bad base64, or as `read_header`.
    """
    head = DATA_URI.match(uri)
    if head is None:
        raise ImageRefused(
            f"{name} must be a data URI (data:image/png;base64,...): this server fetches nothing, got {uri[:40]!r}"
        )
    media_type = ALSO.get(head["type"].lower(), head["type"].lower())
    if media_type not in FORMATS:
        raise ImageRefused(f"{name} is {head['type']}; accepted are {', '.join(FORMATS)}")
    body = uri[head.end() :]
    if not body.isascii():
        raise ImageRefused(f"{name} is not valid base64: it holds other characters than ASCII's")
    if any(blank in body for blank in " \t\r\n"):
        body = "".join(body.split())
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ImageRefused(f"{name} is not valid base64: {error}") from None
    return read_header(data, name, FORMATS[media_type], max_pixels)


def decode_image(data: bytes, name: str, pillow_format: str, max_pixels: int) -> Image.Image:
    """The image in some bytes as RGB, fully decoded.

    Raises:
        ImageRefused: as `read_header` and `Encoded.decode`.
    """
    return read_header(data, name, pillow_format, max_pixels).decode()


def read_header(data: bytes, name: str, pillow_format: str, max_pixels: int) -> Encoded:
    """The image in some bytes, its header alone read.

    Args:
        data: a whole file.
        name: what the message calls the image.
        pillow_format: Pillow's name of the only decoder that is tried.
        max_pixels: largest width x height.

    Raises:
        ImageRefused: no such image, or too many pixels.
    """
    image = _open(data, name, pillow_format)
    if image.width * image.height > max_pixels:
        raise ImageRefused(f"{name} has {image.width}x{image.height} pixels, more than the {max_pixels:,} allowed")
    return Encoded(name, data, pillow_format, image.width, image.height)


def _open(data: bytes, name: str, pillow_format: str) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=[pillow_format])
    except Image.DecompressionBombError as error:
        raise ImageRefused(f"{name} has too many pixels: {error}") from None
    except DECODE_ERRORS:
        raise ImageRefused(f"{name} is no readable {pillow_format} image") from None
