"""`Places`: where the service's files lie, and how a checkpoint gets there whole or not at all.

A folder of weights is written beside, its files are brought to disk, and then it is renamed; the row in the database
comes last. What has no row is no checkpoint, and is collected.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from serve.errors import UserError

CHUNK = 2**20


class Places:
    """Folders below the run's."""

    def __init__(self, root: Path) -> None:
        """Make what is not there."""
        self.root = root
        self.weights, self.snapshots, self.images = (root / name for name in ("weights", "snapshots", "images"))
        for folder in (self.weights, self.snapshots, self.images):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        """SQLite's file, where no other database is named."""
        return self.root / "service.db"

    def new_weights(self) -> Path:
        """A folder of weights that does not exist yet."""
        return self.weights / uuid.uuid4().hex

    def snapshot(self, model: int, seq: int) -> Path:
        """Where a model's snapshot of that number lies."""
        return self.snapshots / str(model) / f"{seq}-{uuid.uuid4().hex[:8]}"

    def keep_image(self, digest: str, data: bytes) -> None:
        """Write an image for the processes that read it; the database has it for good."""
        path = self.images / digest
        if not path.exists():
            beside = path.with_name(f"{digest}.{uuid.uuid4().hex[:8]}")
            beside.write_bytes(data)
            beside.rename(path)


def partial(folder: Path) -> Path:
    """Where a folder is written before it is whole."""
    return folder.with_name(f"{folder.name}.partial")


def seal(folder: Path) -> tuple[dict[str, str], int]:
    """Bring a folder that was written beside to disk and to its place; the SHA-256 of each file, and their bytes."""
    beside, digests, size = partial(folder), dict[str, str](), 0
    for path in sorted(beside.iterdir()):
        digests[path.name], size = file_digest(path), size + path.stat().st_size
        with path.open("rb") as file:
            os.fsync(file.fileno())
    beside.rename(folder)
    for place in (folder, folder.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return digests, size


def check_whole(folder: Path, digests: dict[str, str], name: str) -> None:
    """Compare a folder with what was written; a flipped bit would load without a word.

    Raises:
        UserError: a file is missing or differs.
    """
    for file, digest in digests.items():
        path = folder / file
        if not path.is_file() or file_digest(path) != digest:
            raise UserError(f"{name} is damaged ({file} is not what was written): use another checkpoint")


def remove(folder: Path) -> None:
    """Remove a folder and what was left of writing it."""
    for place in (folder, partial(folder)):
        shutil.rmtree(place, ignore_errors=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
