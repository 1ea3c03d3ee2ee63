"""Opening and checking camera images. Pillow only: resizing and normalising for a model live in `policies`."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from data.errors import DataError
from data.uris import UriError, is_uri, read_uri

MAX_PIXELS = 40_000_000
"""Largest image that is decoded: 28 times a nuScenes frame. A small file may unpack to gigabytes of pixels."""

SIDEWAYS = 5
"""EXIF orientations from here on exchange width and height."""
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_8, _GREY_16 = 255.0, 65535.0

_CHECK_THREADS = 8
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
"""What Pillow raises for a broken file: OSError mostly, SyntaxError for PNG and TIFF, the others from single codecs."""


class ImageError(DataError):
    """An image that cannot be used; the message names the file."""


def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as RGB and upright, fully decoded, so that no later step can fail on it.

    Raises:
        ImageError: the file is missing, not an image, truncated, larger than `max_pixels`, or as `as_rgb`.
    """
    image = _open(path, max_pixels)
    with image:
        try:
            image.load()
            return as_rgb(image, f"image {path}")
        except _DECODE_ERRORS as error:
            if isinstance(error, ImageError):
                raise
            raise ImageError(f"image {path} is truncated or damaged: {error}") from None


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded image as RGB of 8 bits, turned as its EXIF orientation says.

    Grey of 16 bits, and of floats or integers up to 1 (floats), 255 or 65,535, is brought to 0-255.

    Raises:
        ImageError: grey values are negative, larger or not finite; `name` begins the message.
    """
    turned = _TURNED.get(_orientation(image))
    if image.mode == "F" or image.mode.startswith("I"):
        image = _grey_of_8_bits(image, name)
    if turned is not None:
        image = image.transpose(turned)
    return image if image.mode == "RGB" else image.convert("RGB")  # converting copies even what is RGB


def check_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
    """Read an image to its last byte, as `open_image` does but several times faster for JPEG.

    Raises:
        ImageError: as `open_image`.
    """
    image = _open(path, max_pixels)
    with image:
        # A JPEG can be decoded at an eighth of its size; its whole stream is read all the same.
        image.draft("RGB", (image.width // 8, image.height // 8))
        try:
            image.load()
        except _DECODE_ERRORS as error:
            raise ImageError(f"image {path} is truncated or damaged: {error}") from None
        if image.mode in ("I", "F"):
            _grey_of_8_bits(image, f"image {path}")


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from the header alone.

    Raises:
        ImageError: the file is missing, not an image, or has more than `MAX_PIXELS`.
    """
    with _open(path, MAX_PIXELS) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= SIDEWAYS else (width, height)


def jpeg_data_uri(image: Image.Image, quality: int = 90) -> str:
    """An image as a data URI, as chat endpoints and pages take it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def faulty_images(paths: Iterable[str]) -> dict[str, str]:
    """Check many images at once; returns a sentence for each that cannot be used, by its path."""
    unique = sorted(set(paths))
    with ThreadPoolExecutor(max_workers=min(_CHECK_THREADS, os.cpu_count() or 1)) as pool:
        faults = pool.map(_fault, unique)
        return {path: fault for path, fault in zip(unique, faults, strict=True) if fault is not None}


def _grey_of_8_bits(image: Image.Image, name: str) -> Image.Image:
    grey = np.asarray(image).astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    if not 0.0 <= low <= high <= _GREY_16:  # also refuses NaN
        raise ImageError(f"{name} has grey values from {low:g} to {high:g}: save it with 8 or 16 bits")
    if image.mode.startswith("I;16") or high > _GREY_8:
        grey *= _GREY_8 / _GREY_16
    elif image.mode == "F" and high <= 1.0:
        grey *= _GREY_8
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none.

    Pillow turns TIFF itself, and would decode a whole PNG to look for an orientation behind its pixels.
    """
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*_DECODE_ERRORS, TypeError):  # a broken EXIF block spoils no picture
        return 1


def _fault(path: str) -> str | None:
    try:
        check_image(path)
    except ImageError as error:
        return str(error)
    return None


def _open(path: str | Path, max_pixels: int) -> Image.Image:
    source = _source(path)
    try:
        image = Image.open(source)
    except Image.DecompressionBombError:
        raise ImageError(f"image {path} has more than the {max_pixels} pixels that are allowed") from None
    except _DECODE_ERRORS as error:
        raise ImageError(f"image {path} cannot be read as an image: {error}") from None
    if image.width * image.height > max_pixels:
        image.close()
        raise ImageError(
            f"image {path} has {image.width}x{image.height} pixels, more than the {max_pixels} that are allowed"
        )
    return image


def _source(path: str | Path) -> str | Path | io.BytesIO:
    """What Pillow reads: the file itself, or what a URI holds."""
    if is_uri(str(path)):
        try:
            return io.BytesIO(read_uri(str(path)))
        except UriError as error:
            raise ImageError(str(error)) from None
    if not os.path.isfile(path):
        raise ImageError(f"image {path} does not exist or is not a file")
    return path
