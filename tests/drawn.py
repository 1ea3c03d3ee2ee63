"""Miniature image trees that the tests of the loaders draw."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from data.sample import CAMERAS


def draw(path: Path, shade: int = 100) -> Path:
    """A small picture, of a shade so that several differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(shade))
    return path


def picture(shade: int = 100) -> bytes:
    """The bytes of a small JPEG."""
    written = io.BytesIO()
    Image.new("RGB", (160, 90), (shade, 50, 200)).save(written, "JPEG")
    return written.getvalue()


def six_cameras(folder: Path, *names: str) -> Path:
    """`folder` with CAM_FRONT/NAME.jpg and so on for the six cameras."""
    for name in names:
        for camera in CAMERAS:
            draw(folder / camera / f"{name}.jpg")
    return folder


def written(path: Path, value: Any) -> Path:
    """A value as a JSON file."""
    path.write_text(json.dumps(value))
    return path


def damage(path: Path) -> None:
    """Cut the end off a file."""
    path.write_bytes(path.read_bytes()[:-100])
