"""Writes a corrupted copy of a camera tree, in worker processes, so that a copy that was stopped can go on.

What is written depends on the source, the corruption, the seed and the versions of the libraries alone: neither on the
number of processes, nor on their order, nor on how often the work was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import av
from filelock import FileLock, Timeout

from data.corruptions.camera_tree import CameraImage, CameraTree, clips_of, read_camera_tree
from data.corruptions.cameras import cameras_hit
from data.corruptions.corruption import Corruption
from data.corruptions.job import JPEG_QUALITY, Done, Job, clip_file, is_done, run_job, write_json
from data.errors import DataError
from data.worker_pool import worker_pool

FORMAT = 2
MANIFEST = "manifest.json"

_LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "scikit-image", "scipy", "imagecorruptions-imaug", "av")


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished copy: its folder and manifest, the images that this call wrote, and those that were already there."""

    folder: Path
    manifest: dict[str, Any]
    written: int
    kept: int


def corrupt_tree(
    source: Path,
    target: Path,
    corruptions: Sequence[Corruption],
    seed: int,
    *,
    workers: int = 1,
    strict: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Iterator[Copy]:
    """Corrupt all images under `source` into `target/<corruption>/CAM_*/`, one corruption after the other.

    Files that are already there are kept, so a copy that was stopped goes on. Source images that cannot be used are
    left out and listed in the manifest. `progress` gets the corruption, the images done and their total.

    Raises:
        DataError: there is nothing to corrupt, or a folder holds another copy, or another process works on it, or a
            worker process died; with `strict`, also for the first source image that cannot be used.
    """
    tree = read_camera_tree(source)
    if strict and tree.faults:
        raise DataError(next(iter(tree.faults.values())))
    with worker_pool(workers, run_job) as run:
        for corruption in corruptions:
            folder = target / corruption.name
            with _claimed(folder, _settings(tree, corruption, seed)) as manifest:
                yield _copy(tree, folder, corruption, seed, manifest, run, strict, progress)


Runner = Callable[[Iterable[Job]], Iterator[tuple[Job, Done]]]


def _copy(
    tree: CameraTree,
    folder: Path,
    corruption: Corruption,
    seed: int,
    manifest: dict[str, Any],
    run: Runner,
    strict: bool,
    progress: Callable[[str, int, int], None],
) -> Copy:
    jobs = _jobs(tree.images, folder, corruption, seed)
    left = [job for job in jobs if not is_done(job)]
    total = len(tree.images)
    done = kept = total - sum(len(job.images) for job in left)
    faults, written = dict(tree.faults), 0
    progress(corruption.name, done, total)
    for job, result in run(left):
        written += result.written
        faults |= result.faults
        done += len(job.images)
        progress(corruption.name, done, total)
        if strict and result.faults:
            raise DataError(next(iter(result.faults.values())))
    if not written + kept:
        raise DataError(f"none of the {total} images under {tree.root} can be used; the first: {min(faults.values())}")
    manifest |= {"complete": True, "counts": _counts(jobs, faults), "faults": dict(sorted(faults.items()))}
    write_json(folder / MANIFEST, manifest)
    return Copy(folder, manifest, written, kept)


def _jobs(images: tuple[CameraImage, ...], folder: Path, corruption: Corruption, seed: int) -> list[Job]:
    if corruption.scope == "clip":
        return [Job(corruption, seed, clip, folder) for clip in clips_of(images)]
    hit: dict[tuple[str, str], frozenset[str]] = {}
    for image in images:
        if (image.scene, image.frame) not in hit:
            hit[image.scene, image.frame] = cameras_hit(corruption, seed, image.scene, image.frame)
    return [Job(corruption, seed, (image,), folder, image.camera in hit[image.scene, image.frame]) for image in images]


def _counts(jobs: list[Job], faults: dict[str, str]) -> dict[str, int]:
    used = {hit: sum(str(i.path) not in faults for job in jobs if job.hit == hit for i in job.images) for hit in (0, 1)}
    counts = {"corrupted": used[True], "untouched": used[False], "faulty": len(faults)}
    clips = [json.loads(clip_file(job).read_text()) for job in jobs if job.corruption.scope == "clip"]
    if clips:
        counts["clips"] = len(clips)
        for key in ("damaged_bytes", "damaged_frames", "repeated_frames"):
            counts[key] = sum(clip[key] for clip in clips)
    return counts


def _settings(tree: CameraTree, corruption: Corruption, seed: int) -> dict[str, Any]:
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    libraries |= {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    written = asdict(corruption) | {"format": FORMAT, "seed": seed, "jpeg_quality": JPEG_QUALITY}
    settings: dict[str, Any] = json.loads(
        json.dumps(written | {"images": str(tree.root.resolve()), "libraries": libraries})
    )
    return settings


@contextmanager
def _claimed(folder: Path, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Hold a folder for as long as a copy is written to it; gives its manifest, which says `complete: false`."""
    path = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        with FileLock(folder / ".lock", blocking=False):
            _check_same(path, settings)
            manifest = settings | {"complete": False}
            write_json(path, manifest)
            yield manifest
    except Timeout:
        raise DataError(f"another process is writing to {folder}: wait for it, or choose another folder") from None


def _check_same(path: Path, settings: dict[str, Any]) -> None:
    if not path.is_file():
        if any(entry.name != ".lock" for entry in path.parent.iterdir()):
            raise DataError(f"{path.parent} holds files but no {path.name}: choose another folder, or delete it")
        return
    try:
        found = json.loads(path.read_text())
        found |= found["libraries"]
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{path} is not the manifest of a copy: choose another folder, or delete it") from None
    for key, wanted in (settings | settings["libraries"]).items():
        if key != "libraries" and found.get(key) != wanted:
            raise DataError(
                f"{path}: this copy was made with {key} {found.get(key)}, not {wanted}: choose another folder, "
                "or delete it"
            )
