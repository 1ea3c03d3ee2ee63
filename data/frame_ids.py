"""Which frames a file is about. Reads ids and nothing else of an entry.

A loader leaves faulty entries out; to keep frames out of a set, those must be known as well, so that here an entry
without a frame is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.json_stream import entries, members

_NUMBERED = re.compile(r".+_(?P<frame>[^_]+)_\d+")


@dataclass(frozen=True, slots=True)
class NamedFrames:
    """The frames of a file."""

    ids: frozenset[str]
    images: frozenset[str] = frozenset()
    """Absolute paths of the images they show, where the file is our JSONL; else none."""


def frames_of_scenes(path: Path) -> NamedFrames:
    """The frames of a JSON object of scenes, each with `key_frames` by their token.

    Raises:
        DataError: a scene has none.
    """
    return NamedFrames(frozenset(_of_scenes(path)))


def frames_of_entries(path: Path, frame_of: Callable[[str, dict[str, Any]], str | None]) -> NamedFrames:
    """The frames of a JSON list or object of entries, by what tells the frame of one from its key and itself.

    Raises:
        DataError: an entry names no frame.
    """
    return NamedFrames(frozenset(_of_entries(path, frame_of)))


def frame_in_id(id_: object) -> str | None:
    """The frame of an id `scene_frame_number`; None where it is none."""
    found = _NUMBERED.fullmatch(id_) if isinstance(id_, str) else None
    return found["frame"] if found else None


def _of_scenes(path: Path) -> Iterator[str]:
    for scene_id, scene in members(path):
        frames = scene.get("key_frames") if isinstance(scene, dict) else None
        if not isinstance(frames, dict):
            raise DataError(f"{path}: {scene_id} has no key_frames, so nobody knows its frames")
        yield from frames


def _of_entries(path: Path, frame_of: Callable[[str, dict[str, Any]], str | None]) -> Iterator[str]:
    for key, entry in entries(path):
        frame = frame_of(key, entry) if isinstance(entry, dict) else None
        if not isinstance(frame, str):
            raise DataError(f"{path}: {key} names no frame")
        yield frame
