"""Camera frames that cost what photographs cost: drawn scenes, enlarged, with grain. A clone has no photographs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from data.rendered.drawing import render_scene
from data.rendered.scene import build_scene
from data.sample import Camera

SEED = 5
GRAIN = 8.0
"""Standard deviation of the brightness, of 255; at JPEG quality 75 a frame of 1600x900 has 230 KiB."""


def grainy_frame(index: int, camera: Camera, size: tuple[int, int]) -> Image.Image:
    """What a camera sees of a scene, at (width, height); the same for the same arguments."""
    image = render_scene(build_scene(index, SEED))[camera].resize(size)
    grain = np.random.default_rng(index).normal(scale=GRAIN, size=(size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
