"""One job of a corrupted copy: read an image, or the frames of a clip, corrupt it, and write it in place of nothing.

An image that a corruption leaves alone is copied byte by byte. A changed one keeps its file name and format; JPEG is
written by Pillow at quality 95, 4:2:0, as OpenCV's `imwrite` would.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.corruptions.camera_tree import CameraImage
from data.corruptions.corruption import Corruption, seed_of
from data.corruptions.image import Pixels, corrupt_image
from data.corruptions.video import NoFrames, compress, damage, decode_clip, encode_clip
from data.errors import DataError
from data.images import check_image, open_image

JPEG_QUALITY = 95
CLIPS = "clips"


@dataclass(frozen=True, slots=True)
class Job:
    """One image, or the frames of one clip; `hit` says whether the corruption changes it."""

    corruption: Corruption
    seed: int
    images: tuple[CameraImage, ...]
    target: Path
    hit: bool = True


@dataclass(slots=True)
class Done:
    """What a job wrote, and a sentence for each source image, by its path, that could not be used."""

    written: int = 0
    faults: dict[str, str] = field(default_factory=dict)


def is_done(job: Job) -> bool:
    """Written files are whole: each is renamed into place. A clip is done when what became of it is written, too."""
    there = all(target_of(job, image).is_file() for image in job.images)
    return there and (job.corruption.scope != "clip" or clip_file(job).is_file())


def run_job(job: Job) -> Done:
    """Do one job, in whichever process."""
    return _run_clip(job) if job.corruption.scope == "clip" else _run_image(job)


def _run_image(job: Job) -> Done:
    (image,) = job.images
    try:
        if job.hit:
            seed = seed_of(job.seed, job.corruption.name, image.scene, str(image.time), image.camera)
            _save(_corrupted(job.corruption, image, seed), target_of(job, image))
        else:
            check_image(image.path)
            with _in_place(target_of(job, image)) as partial:
                shutil.copyfile(image.path, partial)
    except DataError as error:
        return Done(0, {str(image.path): str(error)})
    return Done(1)


def _corrupted(corruption: Corruption, image: CameraImage, seed: int) -> Pixels:
    pixels = np.asarray(open_image(image.path))
    try:
        return corrupt_image(corruption, pixels, seed)
    except DataError as error:
        raise DataError(f"image {image.path}: {error}") from None


def _run_clip(job: Job) -> Done:
    """All frames are written anew: each of them depends on the others."""
    done, used = Done(), list[CameraImage]()
    first = job.images[0]
    size: list[tuple[int, ...]] = []

    def frames() -> Iterator[Pixels]:
        for image in job.images:
            try:
                pixels = np.asarray(open_image(image.path))
                size.append(pixels.shape)
                if pixels.shape != size[0]:
                    raise DataError(
                        f"image {image.path} has another size ({pixels.shape[1]}x{pixels.shape[0]} pixels) than "
                        f"the first of its clip ({size[0][1]}x{size[0][0]})"
                    )
            except DataError as error:
                done.faults[str(image.path)] = str(error)
                continue
            used.append(image)
            yield pixels

    report = {"damaged_bytes": 0, "damaged_frames": 0, "repeated_frames": 0}
    try:
        clean = encode_clip(frames())
    except NoFrames:
        write_json(clip_file(job), report | {"frames": 0})
        return done
    if job.corruption.name == "BitError":
        seed = seed_of(job.seed, job.corruption.name, first.scene, first.camera)
        sent, report["damaged_bytes"] = damage(clean, seed, **job.corruption.parameters)
    else:
        sent = compress(clean, **job.corruption.parameters)
    for image, (pixels, state) in zip(used, decode_clip(sent), strict=True):
        if state != "decoded":
            report[f"{state}_frames"] += 1
        _save(pixels, target_of(job, image))
        done.written += 1
    rates = {"frames": sent.frames, "clean_bit_rate": clean.bit_rate, "bit_rate": sent.bit_rate}
    write_json(clip_file(job), rates | report)
    return done


def target_of(job: Job, image: CameraImage) -> Path:
    """Where the copy of an image goes."""
    return job.target / image.camera / image.path.name


def clip_file(job: Job) -> Path:
    """Where it is written what became of a clip: its bit rates, and how many of its frames suffered how."""
    return job.target / CLIPS / f"{job.images[0].scene}__{job.images[0].camera}.json"


def _save(pixels: Pixels, path: Path) -> None:
    with _in_place(path) as partial:
        image = Image.fromarray(pixels)
        if path.suffix.lower() == ".png":
            image.save(partial, "PNG")
        else:
            image.save(partial, "JPEG", quality=JPEG_QUALITY)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with _in_place(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    """A path to write to; what was written is renamed to `path` afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    os.replace(partial, path)
