"""Opening and checking camera images. Pillow only: resizing and normalising for a model live in `policies`."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from data.errors import DataError

MAX_PIXELS = 40_000_000
"""Largest image that is decoded: 28 times a nuScenes frame. A small file may unpack to gigabytes of pixels."""

_CHECK_THREADS = 8
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
"""What Pillow raises for a broken file: OSError mostly, SyntaxError for PNG and TIFF, the others from single codecs."""


class ImageError(DataError):
    """An image that cannot be used; the message names the file."""


def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as RGB, fully decoded, so that no later step can fail on it.

    Raises:
        ImageError: the file is missing, not an image, truncated, or larger than `max_pixels`.
    """
    image = _open(path, max_pixels)
    with image:
        try:
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")  # converting copies even what is RGB
        except _DECODE_ERRORS as error:
            raise ImageError(f"image {path} is truncated or damaged: {error}") from None


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


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height, from the header alone.

    Raises:
        ImageError: the file is missing, not an image, or has more than `MAX_PIXELS`.
    """
    with _open(path, MAX_PIXELS) as image:
        return image.size


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


def _fault(path: str) -> str | None:
    try:
        check_image(path)
    except ImageError as error:
        return str(error)
    return None


def _open(path: str | Path, max_pixels: int) -> Image.Image:
    if not os.path.isfile(path):
        raise ImageError(f"image {path} does not exist or is not a file")
    try:
        image = Image.open(path)
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
