"""LiDAR sweeps of nuScenes (`.pcd.bin`): reading them, and drawing one as an image seen from above.

NumPy and Pillow only; what size a model gets the image at is a matter of `policies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.errors import DataError
from data.sample import LIDAR, DrivingSample

SWEEP_SUFFIX = ".pcd.bin"
FIELDS = 5
"""float32 values of a point: x, y, z in metres, intensity 0-255, ring 0-31."""
RANGE_M = 50.0
"""The image shows this far to each side of the sensor."""
RESOLUTION_M = 0.2
"""Edge of a pixel on the ground, so that the image is 500 pixels wide and high."""
LOWEST_M, HIGHEST_M = -3.0, 3.0
"""Heights above the sensor at the ends of the colour scale; it is mounted about 1.84 m above the road."""
COLOURS = ((0.0, (40, 60, 190)), (0.33, (40, 190, 190)), (0.66, (240, 220, 60)), (1.0, (230, 50, 40)))
"""The scale from low to high: blue, cyan, yellow, red. Pixels without a point are black."""
EGO_SIZE_M = (1.73, 4.08)
"""Width and length of the car that the data were taken with (Renault Zoe)."""
EGO_COLOUR = (255, 255, 255)
FAULTY_SWEEP = "faulty_sweep"
MAX_BYTES = 200 * 2**20
"""Largest file that is read; a sweep has about 0.7 MB."""


class LidarError(DataError):
    """A LiDAR sweep that cannot be used; the message names the file."""


def read_sweep(path: str | Path) -> NDArray[np.float32]:
    """Read a sweep: points x (x, y, z, intensity, ring), in the sensor's frame: x to the right, y ahead, z up.

    Raises:
        LidarError: the file is missing, empty, too large, no whole number of points, or holds a position that is no
            finite number.
    """
    file = Path(path)
    if not file.is_file():
        raise LidarError(f"LiDAR sweep {path} does not exist or is not a file")
    size, point = file.stat().st_size, FIELDS * 4
    if size == 0 or size % point or size > MAX_BYTES:
        raise LidarError(
            f"LiDAR sweep {path} has {size} bytes; a nuScenes .pcd.bin holds {point} bytes for each point (float32 x, "
            f"y, z, intensity, ring), at least one point and at most {MAX_BYTES} bytes"
        )
    points = np.fromfile(file, dtype="<f4").reshape(-1, FIELDS)
    bad = int((~np.isfinite(points[:, :3])).any(axis=1).sum())
    if bad:
        raise LidarError(f"LiDAR sweep {path} has {bad} of {len(points)} points at no finite position")
    return points.astype(np.float32, copy=False)


def draw_sweep(points: NDArray[np.float32]) -> Image.Image:
    """A sweep seen from above, the way ahead at the top: 2 x `RANGE_M` metres to each side of the image.

    A pixel has the colour of its highest point; the ego vehicle is outlined in white, with a line ahead. The same
    points give the same image whatever their order.

    Args:
        points: points x at least 3, as `read_sweep` gives them.
    """
    side = round(2 * RANGE_M / RESOLUTION_M)
    column = np.floor((points[:, 0] + RANGE_M) / RESOLUTION_M).astype(np.int64)
    row = np.floor((RANGE_M - points[:, 1]) / RESOLUTION_M).astype(np.int64)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    highest = np.full((side, side), -np.inf)
    np.maximum.at(highest, (row[inside], column[inside]), points[inside, 2])
    image = Image.fromarray(_coloured(highest))
    _draw_ego(image)
    return image


def without_faulty_sweeps(samples: Iterable[DrivingSample]) -> tuple[list[DrivingSample], dict[str, list[str]]]:
    """The samples, those whose sweep cannot be used without it, and their ids under `faulty_sweep`.

    Every sweep is read once. The sentence on each fault is that of `read_sweep`.
    """
    samples = list(samples)
    sweeps = sorted({sample.images[LIDAR] for sample in samples if LIDAR in sample.images})
    faulty = {path for path in sweeps if sweep_fault(path) is not None}
    kept, ids = [], []
    for sample in samples:
        if sample.images.get(LIDAR) in faulty:
            ids.append(sample.id)
            images = {name: path for name, path in sample.images.items() if name != LIDAR}
            sample = replace(sample, images=images)
        kept.append(sample)
    return kept, {FAULTY_SWEEP: ids} if ids else {}


def sweep_fault(path: str | Path) -> str | None:
    """What is wrong with a sweep, in one sentence that names the file, or None."""
    try:
        read_sweep(path)
    except LidarError as error:
        return str(error)
    return None


def _coloured(height: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Heights (-inf: no point) as RGB."""
    share = np.clip((height - LOWEST_M) / (HIGHEST_M - LOWEST_M), 0.0, 1.0)
    stops = [stop for stop, _ in COLOURS]
    channels = [np.interp(share, stops, [colour[channel] for _, colour in COLOURS]) for channel in range(3)]
    return np.where(np.isfinite(height)[..., None], np.stack(channels, axis=-1).round(), 0).astype(np.uint8)


def _draw_ego(image: Image.Image) -> None:
    middle, (width, length) = image.width / 2, EGO_SIZE_M
    half = (width / 2 / RESOLUTION_M, length / 2 / RESOLUTION_M)
    pen = ImageDraw.Draw(image)
    pen.rectangle((middle - half[0], middle - half[1], middle + half[0], middle + half[1]), outline=EGO_COLOUR)
    pen.line((middle, middle, middle, middle - 2 * half[1]), fill=EGO_COLOUR)
