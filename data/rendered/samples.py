"""Rendered scenes on disk: draws them once into a folder and gives their samples. The default data of a first run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from data.rendered.captions import description_sample
from data.rendered.drawing import HEIGHT, WIDTH, render_scene
from data.rendered.questions import samples_of
from data.rendered.scene import build_scene
from data.sample import CAMERAS, DrivingSample

FORMAT = 3
"""Raised whenever scenes or pictures change, so that a folder drawn by older code is not taken for a new one."""
JPEG_QUALITY = 90


def rendered_samples(
    folder: Path, scenes: int, seed: int, questions: Literal["drivelm", "describe"] = "drivelm"
) -> list[DrivingSample]:
    """The samples of `scenes` scenes, their images under `folder`; a folder already complete is not drawn again.

    Deterministic in the seed. Images are JPEG of 400x225 pixels; image paths are absolute.

    Raises:
        ValueError: `scenes` is not positive, or the folder holds other scenes than those asked for.
    """
    if scenes < 1:
        raise ValueError(f"scenes must be at least 1, got {scenes}")
    folder = folder.resolve()
    _draw(folder, scenes, seed)
    samples: list[DrivingSample] = []
    for index in range(scenes):
        scene = build_scene(index, seed)
        images: dict[str, str] = {camera: str(_image_path(folder, scene.id, camera)) for camera in CAMERAS}
        samples += samples_of(scene, images) if questions == "drivelm" else [description_sample(scene, images)]
    return samples


def _image_path(folder: Path, scene_id: str, camera: str) -> Path:
    return folder / camera / f"{scene_id}__{camera}.jpg"


def _draw(folder: Path, scenes: int, seed: int) -> None:
    manifest = folder / "scenes.json"
    wanted = {"format": FORMAT, "scenes": scenes, "seed": seed, "size": [WIDTH, HEIGHT]}
    if manifest.exists():
        found = json.loads(manifest.read_text())
        if found != wanted:
            raise ValueError(f"{folder} holds other rendered scenes ({found}, wanted {wanted}): choose another folder")
        missing = [scene for scene in range(scenes) if not _is_complete(folder, build_scene(scene, seed).id)]
    else:
        missing = list(range(scenes))
    for camera in CAMERAS:
        (folder / camera).mkdir(parents=True, exist_ok=True)
    for index in missing:
        scene = build_scene(index, seed)
        for view, image in render_scene(scene).items():
            image.save(_image_path(folder, scene.id, view), quality=JPEG_QUALITY)
    manifest.write_text(json.dumps(wanted))


def _is_complete(folder: Path, scene_id: str) -> bool:
    return all(_image_path(folder, scene_id, camera).is_file() for camera in CAMERAS)
