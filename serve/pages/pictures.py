"""`View`: a camera's image on a page, with its address and the points that texts name in it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from data.images import open_image
from data.lidar import SWEEP_SUFFIX, draw_sweep, read_sweep
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH
from evaluation.pages.gallery import Mark
from serve.pages.shell import camera_title


@dataclass(frozen=True, slots=True)
class Point:
    """A mark in pixels of the 1600x900 frame."""

    role: str
    label: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class View:
    """One image: `address` shows it whole."""

    title: str
    address: str
    points: tuple[Point, ...]


def views(
    images: Mapping[str, str], address: Callable[[int], str], marks: Iterable[tuple[str, Mark]]
) -> tuple[View, ...]:
    """The images of a sample as the cameras sit on the car; an image's address counts by its place in `images`."""
    found = list(marks)
    known = [camera for camera in CAMERAS if camera in images]
    order = [*known, *(camera for camera in images if camera not in known)]
    places = {camera: index for index, camera in enumerate(images)}
    return tuple(
        View(
            camera_title(camera),
            address(places[camera]),
            tuple(
                Point(mark.role, mark.label, mark.left * IMAGE_WIDTH / 100, mark.top * IMAGE_HEIGHT / 100)
                for at, mark in found
                if at == camera
            ),
        )
        for camera in order
    )


@lru_cache(maxsize=512)
def small_jpeg(path: str) -> bytes:
    """An image file as a JPEG no wider than a nuScenes frame.

    Raises:
        DataError: it cannot be read.
    """
    image = draw_sweep(read_sweep(path)) if path.endswith(SWEEP_SUFFIX) else open_image(path)
    image.thumbnail((IMAGE_WIDTH, IMAGE_WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
