"""Which of a frame's six cameras a corruption reaches. Touches no pixels."""

from __future__ import annotations

import numpy as np

from data.corruptions.corruption import Corruption, seed_of
from data.sample import CAMERAS, Camera

FRONT: Camera = "CAM_FRONT"


def cameras_hit(corruption: Corruption, seed: int, scene: str, frame: str) -> frozenset[Camera]:
    """The cameras of one frame that the corruption changes; the others keep their picture.

    - WaterSplash, LensObstacle: the front camera and one to five others, drawn for every frame.
    - FrameLost: each camera by itself with the corruption's probability, drawn for every frame.
    - CameraCrash: four draws out of six with replacement, so one to four cameras, the same in the whole run.
    - All others: every camera.
    """
    if corruption.scope in ("image", "clip"):
        return frozenset(CAMERAS)
    place = () if corruption.scope == "run" else (scene, frame)
    rng = np.random.default_rng(seed_of(seed, corruption.name, "cameras", *place))
    if "draws" in corruption.parameters:
        drawn = rng.integers(0, len(CAMERAS), size=corruption.parameters["draws"])
        return frozenset(CAMERAS[index] for index in drawn)
    if "probability" in corruption.parameters:
        lost = rng.random(len(CAMERAS)) < corruption.parameters["probability"]
        return frozenset(camera for camera, gone in zip(CAMERAS, lost, strict=True) if gone)
    others = [camera for camera in CAMERAS if camera != FRONT]
    count = int(rng.integers(1, len(others), endpoint=True))
    chosen = rng.choice(len(others), size=count, replace=False)
    return frozenset({FRONT, *(others[index] for index in chosen)})
