"""A file of bins or codes: JSON with a version and a hash of its content, so that no other one is taken for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from data.errors import DataError
from extension import ROOT

VERSION = 1
HASH = "sha256"


def digest(content: dict[str, Any]) -> str:
    """What tells two contents apart: the first 16 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_sealed(path: Path, kind: str, content: dict[str, Any], about: dict[str, Any]) -> None:
    """Write a content with its hash, whole or not at all; `about` is said beside it and not hashed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    tree = {"kind": kind, "version": VERSION, HASH: digest(content), "about": about, "content": content}
    part.write_text(json.dumps(tree) + "\n")
    part.replace(path)


def read_sealed(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of such a file, and what is said about it.

    Raises:
        DataError: it is missing, of another kind or version, or its content is not what its hash says.
    """
    try:
        tree = json.loads(path.read_text())
        content, about = dict(tree["content"]), dict(tree["about"])
        found = (tree["kind"], tree["version"], tree[HASH])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of {kind} ({type(error).__name__}: {error}): see docs/driving.md") from None
    if found[0] != kind:
        raise DataError(f"{path} holds {found[0]}, not {kind}: name the right file")
    if found[1] != VERSION:
        raise DataError(f"{path} has version {found[1]}, and this code reads version {VERSION}: fit it anew")
    if found[2] != digest(content):
        raise DataError(f"{path} was changed after it was fitted (its hash is {found[2]}): take the original file")
    return content, about


def located(name: str) -> Path:
    """The file of a name: an absolute path, one from here, or else one from the project's folder."""
    path = Path(name).expanduser()
    return path if path.is_absolute() or path.is_file() else ROOT / path
