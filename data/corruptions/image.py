"""What a corruption does to one image: pure functions of pixels and a seed. Opens no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import imagecorruptions
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data.corruptions.corruption import Corruption
from data.errors import DataError

Pixels = NDArray[np.uint8]
"""An RGB image, (height, width, 3)."""

SMALLEST = 96
"""Pixels a side: rain drops are 80 long, water droplets up to 60 wide."""


def corrupt_image(corruption: Corruption, pixels: Pixels, seed: int) -> Pixels:
    """The corrupted image, of the same shape: a function of its arguments alone.

    The library's functions draw from NumPy's global generator, which is seeded for the call and given back as it was;
    that is safe between processes, not between threads.

    Raises:
        DataError: the image is smaller than `SMALLEST`, or the corruption is one of a whole clip.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise DataError(f"an image of {width}x{height} pixels is too small to corrupt: {SMALLEST}x{SMALLEST} at least")
    if corruption.library is not None:
        with _global_generator(seed):
            return imagecorruptions.corrupt(pixels, corruption.severity, corruption.library)
    if corruption.name not in _OWN:
        raise DataError(f"{corruption.name} corrupts a clip of frames, not an image")
    return _OWN[corruption.name](pixels, np.random.default_rng(seed), **corruption.parameters)


def low_light(
    pixels: Pixels, rng: np.random.Generator, *, scale: float, gamma: float, photons: float, noise: float
) -> Pixels:
    """The range of the image stretched, darkened by `gamma` and `scale`, with shot noise and sensor noise."""
    light = pixels / 255.0
    darkest, span = light.min(), float(np.ptp(light)) or 1.0
    dark = ((light - darkest) / span) ** gamma * scale
    shot = np.clip(rng.poisson(dark * photons) / photons, 0, 1)
    return _to_bytes(shot + rng.normal(scale=noise, size=shot.shape))


def rain(
    pixels: Pixels,
    rng: np.random.Generator,
    *,
    pixels_per_drop: int,
    drop_length: int,
    drop_grey: int,
    contrast: float,
) -> Pixels:
    """Streaks that brighten and blur what is behind them, most where it is dark; then less contrast per channel."""
    height, width = pixels.shape[:2]
    drops = height * width // pixels_per_drop
    tops = np.stack([rng.integers(0, width, drops), rng.integers(0, height - drop_length, drops)], axis=1)
    streaks = np.zeros((height, width), np.uint8)
    ends = np.stack([tops, tops + (-1, drop_length)], axis=1).astype(np.int32)
    cv2.polylines(streaks, list(ends), False, (drop_grey,))
    opacity = (streaks / np.float32(255))[:, :, np.newaxis]
    light = pixels / np.float32(255)
    wet = cv2.blur(light + opacity * (1 - light) * (1 - light.mean()), (3, 3))
    light = wet * opacity + light * (1 - opacity)
    means = light.mean(axis=(0, 1))
    return _to_bytes((light - means) * contrast + means)


def water_splash(
    pixels: Pixels, rng: np.random.Generator, *, droplets: int, radius: tuple[int, int], alpha: float, blur: int
) -> Pixels:
    """Droplets that each move what they cover by `alpha` towards white; then the whole image is blurred."""
    height, width = pixels.shape[:2]
    covered = np.zeros((height, width), np.uint8)
    for _ in range(droplets):
        size = int(rng.integers(radius[0], radius[1], endpoint=True))
        centre = (int(rng.integers(size, width - size + 1)), int(rng.integers(size, height - size + 1)))
        droplet = np.zeros_like(covered)
        cv2.circle(droplet, centre, size, (1,), thickness=-1)
        covered += droplet
    kept = (np.float32(1 - alpha) ** np.arange(droplets + 1, dtype=np.float32))[covered][:, :, np.newaxis]
    splashed = np.rint(255 - (255 - pixels) * kept).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(splashed, (blur, blur), 0), np.uint8)


def lens_obstacle(
    pixels: Pixels, rng: np.random.Generator, *, axes: tuple[float, float], centre_sigma: float, blur: int
) -> Pixels:
    """An ellipse near the middle, behind which the image is blurred."""
    height, width = pixels.shape[:2]
    x = np.clip(rng.normal(width // 2, centre_sigma * width), 0, width)
    y = np.clip(rng.normal(height // 2, centre_sigma * height), 0, height)
    half = (int(rng.uniform(*axes) * width), int(rng.uniform(*axes) * height))
    mask = np.zeros((height, width), np.uint8)
    angle = int(rng.integers(0, 360, endpoint=True))
    cv2.ellipse(mask, (int(x), int(y)), half, angle, 0, 360, (1,), thickness=-1)
    blurred = cv2.GaussianBlur(pixels, (blur, blur), 0)
    return np.where(mask[:, :, np.newaxis] == 1, blurred, pixels).astype(np.uint8)


def posterise(pixels: Pixels, rng: np.random.Generator, *, bits: int) -> Pixels:
    """The highest `bits` bits of every value; the others are 0."""
    return np.asarray(ImageOps.posterize(Image.fromarray(pixels), bits))


def black(pixels: Pixels, rng: np.random.Generator, **parameters: object) -> Pixels:
    """What a camera that is lost shows."""
    return np.zeros_like(pixels)


_OWN: dict[str, Callable[..., Pixels]] = {
    "LowLight": low_light,
    "Rain": rain,
    "WaterSplashCorruption": water_splash,
    "LensObstacleCorruption": lens_obstacle,
    "CameraCrash": black,
    "FrameLost": black,
    "ColorQuant": posterise,
}


@contextmanager
def _global_generator(seed: int) -> Iterator[None]:
    before: Any = np.random.get_state()
    np.random.seed([seed >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)])
    try:
        yield
    finally:
        np.random.set_state(before)


def _to_bytes(light: NDArray[Any]) -> Pixels:
    return (np.clip(light, 0, 1) * 255).astype(np.uint8)
