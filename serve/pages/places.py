"""The runs that the pages show, by name: a name of an address never becomes a path before it is one of these."""

from __future__ import annotations

from pathlib import Path

from evaluation.run_record import RECIPE_FILE
from serve.errors import ServiceError


def own_run(root: Path, name: str) -> Path:
    """The folder of a run directly below the root.

    Raises:
        ServiceError: 404, there is none of this name.
    """
    plain = name not in ("", ".", "..") and "\x00" not in name and Path(name).name == name and len(name) <= 255
    folder = root / name if plain else None
    if folder is None or folder.is_symlink() or not (folder / RECIPE_FILE).is_file():
        raise ServiceError(404, f"There is no run {name[:100]!r}.", "no_run")
    return folder
