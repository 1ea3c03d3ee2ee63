"""Which frames a file is about, in any of the formats that name frames. Reads ids and nothing else of an entry.

A loader leaves faulty entries out; who wants frames kept out of a set must know of those as well, so that here an entry
without a frame is an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.json_stream import items, members, outermost

_NUMBERED = re.compile(r".+_(?P<frame>[^_]+)_\d+")
"""`scene_frame_number`, as DriveLM's llama format and DriveLMM-o1 write ids."""
_FORMS = "our JSONL, DriveLM (train, challenge, llama), DriveBench and DriveLMM-o1"


@dataclass(frozen=True, slots=True)
class NamedFrames:
    """The frames of a file."""

    ids: frozenset[str]
    images: frozenset[str]
    """Absolute paths of the images they show, where the file is our JSONL; else none."""


def frames_of(path: Path) -> NamedFrames:
    """The frames of a file: JSONL of samples when its name ends in `.jsonl`, else JSON, told apart by content.

    Raises:
        DataError: the file is missing or broken, an entry names no frame, or there is none.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    if path.suffix == ".jsonl":
        found = _of_jsonl(path)
    elif outermost(path, "the file of frames") == "object":
        found = NamedFrames(frozenset(_of_scenes(path)), frozenset())
    else:
        found = NamedFrames(frozenset(_of_entries(path)), frozenset())
    if not found.ids:
        raise DataError(f"{path} names no frame; frames are read from {_FORMS}")
    return found


def _of_jsonl(path: Path) -> NamedFrames:
    ids: set[str] = set()
    images: set[str] = set()
    folder = path.parent.resolve()
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                line = json.loads(raw)
            except ValueError as error:
                raise DataError(f"{path} line {number} is not valid JSON ({error}): mend or remove the line") from None
            frame = (line.get("frame_id") or line.get("id")) if isinstance(line, dict) else None
            if not isinstance(frame, str):
                raise DataError(f"{path} line {number} names no frame: it needs frame_id or id (docs/data.md)")
            ids.add(frame)
            shown = line.get("images")
            paths = shown.values() if isinstance(shown, dict) else ()
            images.update(os.path.normpath(folder / image) for image in paths if isinstance(image, str))
    return NamedFrames(frozenset(ids), frozenset(images))


def _of_scenes(path: Path) -> Iterator[str]:
    for scene_id, scene in members(path):
        frames = scene.get("key_frames") if isinstance(scene, dict) else None
        if not isinstance(frames, dict):
            raise DataError(f"{path}: {scene_id} has no key_frames; frames are read from {_FORMS}")
        yield from frames


def _of_entries(path: Path) -> Iterator[str]:
    for index, entry in enumerate(items(path)):
        frame = _frame_of(entry) if isinstance(entry, dict) else None
        if frame is None:
            raise DataError(f"{path}: [{index}] names no frame; frames are read from {_FORMS}")
        yield frame


def _frame_of(entry: dict[str, Any]) -> str | None:
    """The frame token, or the frame within the id; None where there is neither."""
    token = entry.get("frame_token")
    if isinstance(token, str):
        return token
    id_ = entry.get("id", entry.get("idx"))
    found = _NUMBERED.fullmatch(id_) if isinstance(id_, str) else None
    return found["frame"] if found else None
