"""What a recipe names that is no part of the project, and what its judge works by: their hashes, for provenance.

A setting may name a class or function of a user's as `module:name` (a dataset, an algorithm, an engine, a reward), and
a rubric of a user's by the path of its `.md` file.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.construction.record import sha256_of
from recipe import Recipe
from rewards.rubric import FOLDER

_NAMED = re.compile(r"(?P<module>[A-Za-z_][\w.]*):[A-Za-z_]\w*")
_RUBRIC = "judge/"


def extension_hashes(recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of every file that holds such a thing, by the setting that names it.

    A setting whose value only looks like `module:name` is left out: no module has that name. With a judge the rubrics
    that are built in are there too, each by its path in the project.

    Raises:
        DataError: a file cannot be read.
    """
    found = {setting: sha256_of(file) for setting, file in _files(recipe.model_dump(mode="json"))}
    if recipe.reward.judge is not None:
        found |= {f"rewards/rubrics/{path.name}": sha256_of(path) for path in sorted(FOLDER.glob("*.md"))}
    return found


def _files(tree: Any, setting: str = "") -> Iterator[tuple[str, Path]]:
    """Every file that a tree of settings names, in its values or its keys (scorers, benchmarks)."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            here = f"{setting}.{key}".removeprefix(".")
            yield from _named(key, here)
            yield from _files(value, here)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _files(value, f"{setting}.{index}")
    elif isinstance(tree, str):
        yield from _named(tree, setting)


def _named(text: str, setting: str) -> Iterator[tuple[str, Path]]:
    if text.startswith(_RUBRIC) and text.endswith(".md"):
        yield setting, Path(text.removeprefix(_RUBRIC))
    elif found := _NAMED.fullmatch(text):
        file = _file_of_module(found["module"])
        if file is not None:
            yield setting, file


def _file_of_module(name: str) -> Path | None:
    """The file that a module is read from, where there is such a module and it has one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a package above it is missing, or is no package
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
