"""The camera images of a nuScenes frame: from the paths that an annotation file writes to absolute ones. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data.errors import DataError
from data.faults import FAULTY_IMAGE, WRONG_CAMERAS
from data.records import expect, member
from data.sample import CAMERAS

WrittenPaths = tuple[tuple[str, str], ...]
"""Camera and path as a file has them, in its order."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Why no question of a frame can be used."""

    reason: str
    note: str


def check_samples_folder(image_root: Path) -> None:
    """Refuse an image root without the nuScenes layout.

    Raises:
        DataError: it has no folder `samples`.
    """
    if not (image_root / "samples").is_dir():
        raise DataError(
            f"image_root {image_root} has no folder samples; it must hold samples/CAM_FRONT/... (nuScenes layout)"
        )


def written_paths(paths: Iterable[str]) -> WrittenPaths:
    """Paths with the camera of each: the name of the folder in which the image lies."""
    return tuple((PurePosixPath(path.replace("\\", "/")).parent.name, path) for path in paths)


def paths_by_camera(record: Mapping[str, Any], key: str, place: str) -> WrittenPaths:
    """The paths of a member {camera: path}; a camera whose path is null is not there.

    Raises:
        RecordError: the member, or a path, is of another type.
    """
    paths, at = member(record, key, dict, place), f"{place}.{key}"
    return tuple((camera, expect(path, str, f"{at}.{camera}")) for camera, path in paths.items() if path is not None)


def camera_images(
    frame_id: str, written: WrittenPaths, root: Path, anchor: str | None = "samples", fewest: int = len(CAMERAS)
) -> dict[str, str] | BadFrame:
    """Absolute image paths in the order of `CAMERAS`; or why the frame cannot be used.

    A path is resolved against `root` by its part from the folder `anchor` on; with None by its last two parts, the
    camera's folder and the file. `fewest` cameras must be there.
    """
    cameras = Counter(camera for camera, _ in written)
    missing = [camera for camera in CAMERAS if camera not in cameras] if len(cameras) < fewest else []
    odd = [camera for camera, times in cameras.items() if camera not in CAMERAS or times > 1]
    if missing or odd:
        found = [f"no image of {', '.join(missing)}"] if missing else []
        found += [f"an unknown or repeated camera {', '.join(odd)}"] if odd else []
        needed = "one camera is" if fewest == 1 else f"{fewest} cameras are"
        return BadFrame(WRONG_CAMERAS, f"frame {frame_id} has {' and '.join(found)}; {needed} needed")
    by_camera = dict(written)
    images: dict[str, str] = {}
    for camera in (camera for camera in CAMERAS if camera in by_camera):
        parts = anchored_parts(by_camera[camera], anchor)
        if parts is None:
            wanted = f"part from {anchor}/ on" if anchor else "folder of a camera and file"
            return BadFrame(FAULTY_IMAGE, f"frame {frame_id}: image path {by_camera[camera]!r} has no {wanted}")
        images[camera] = str(root.joinpath(*parts))
    return images


def anchored_parts(path: str, anchor: str | None) -> tuple[str, ...] | None:
    """The parts of a path from a folder on (None: the last two); None where there are none or they lead out of it."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if anchor is not None and anchor not in parts:
        return None
    kept = parts[parts.index(anchor) :] if anchor is not None else parts[-2:]
    return None if ".." in kept or len(kept) < 2 or kept[0] == "/" else kept
