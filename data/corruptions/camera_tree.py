"""Finds the images of a folder laid out like nuScenes and says which of them belong to one frame. Opens no image.

samples/CAM_FRONT/n008-2018-09-18-13-10-39-0400__CAM_FRONT__1537291013647405.jpg
        camera    scene                          camera     microseconds
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from data.errors import DataError
from data.sample import CAMERAS, Camera

SUFFIXES = (".jpg", ".jpeg", ".png")
FRAME_US = 250_000
"""Images less than this after the first of a frame belong to it: the six cameras of a nuScenes frame are exposed within
50 ms, and frames are 500 ms apart."""

_NAME = re.compile(r"(?P<scene>.+)__(?P<camera>CAM_[A-Z_]+?)(?:__(?P<time>\d+))?")


@dataclass(frozen=True, slots=True)
class CameraImage:
    """One image of the tree. `scene` is what its name has before the camera, `time` its microseconds (0: none given).

    `frame` is the time of the earliest image of its frame; with the scene it names the frame.
    """

    path: Path
    scene: str
    camera: Camera
    time: int
    frame: str


@dataclass(frozen=True, slots=True)
class CameraTree:
    """The images of a tree, by scene, camera and time, and a sentence for each file that cannot be placed."""

    root: Path
    images: tuple[CameraImage, ...]
    faults: dict[str, str]


def read_camera_tree(folder: Path) -> CameraTree:
    """List the images of `folder/samples/CAM_*/`, or of `folder/CAM_*/` where there is no `samples`.

    Images that are not JPEG or PNG, and folders of other sensors, are passed over.

    Raises:
        DataError: the folder does not exist, or has no image that can be placed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one with samples/CAM_FRONT/*.jpg and so on")
    root = folder / "samples" if (folder / "samples").is_dir() else folder
    found: list[CameraImage] = []
    faults: dict[str, str] = {}
    for camera in CAMERAS:
        for path in sorted((root / camera).glob("*")):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
                continue
            name = _NAME.fullmatch(path.stem)
            if name is None or name["camera"] != camera:
                faults[str(path)] = f"image {path} is not named SCENE__{camera}__MICROSECONDS{path.suffix}"
                continue
            found.append(CameraImage(path, name["scene"], camera, int(name["time"] or 0), ""))
    if not found:
        more = f"; of {len(faults)} files there, the first: {next(iter(faults.values()))}" if faults else ""
        raise DataError(f"{root} has no images named CAM_*/SCENE__CAM_*__MICROSECONDS.jpg{more}")
    return CameraTree(root, tuple(sorted(_in_frames(found), key=_by_clip)), faults)


def clips_of(images: tuple[CameraImage, ...]) -> list[tuple[CameraImage, ...]]:
    """The images of each camera of each scene, in the order of time."""
    return [tuple(clip) for _, clip in groupby(sorted(images, key=_by_clip), key=lambda image: _by_clip(image)[:2])]


def _by_clip(image: CameraImage) -> tuple[str, int, int, str]:
    return image.scene, CAMERAS.index(image.camera), image.time, image.path.name


def _in_frames(images: list[CameraImage]) -> Iterator[CameraImage]:
    scenes: dict[str, list[CameraImage]] = defaultdict(list)
    for image in images:
        scenes[image.scene].append(image)
    for scene in scenes.values():
        first, cameras = 0, set(CAMERAS)
        for image in sorted(scene, key=lambda image: (image.time, CAMERAS.index(image.camera))):
            if image.camera in cameras or image.time - first >= FRAME_US:
                first, cameras = image.time, set()
            cameras.add(image.camera)
            yield replace(image, frame=str(first))
