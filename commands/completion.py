"""What Tab offers in a shell for scripts that take a recipe, through argcomplete: recipe files, keys and their values.

`activate-global-python-argcomplete --user` switches it on, once for all such scripts. Nothing here runs without Tab.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from extension import settings_in, without_none
from recipe import Recipe


def offer(parser: argparse.ArgumentParser, recipe: argparse.Action, overrides: argparse.Action) -> None:
    """Where a shell asks for completions, print them and end; else do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    recipe.completer = argcomplete.FilesCompleter(("yaml",))  # type: ignore[attr-defined]
    overrides.completer = lambda prefix, **_: matching(prefix)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, append_space=False)


def matching(prefix: str) -> list[str]:
    """The overrides that begin so: keys up to their `=`, and behind it the values that a key knows."""
    key, equals, _ = prefix.partition("=")
    found = dict(_keys(Recipe))
    offered = [f"{key}={value}" for value in found.get(key, ())] if equals else [f"{name}=" for name in found]
    return [one for one in offered if one.startswith(prefix)]


def _keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every key that holds a value of its own, and the values that it knows; those of lists are left out."""
    for name, field in model.model_fields.items():
        if (inner := settings_in(field.annotation)) is None:
            yield above + name, _values(without_none(field.annotation))
        elif get_origin(field.annotation) is not tuple:
            yield from _keys(inner, f"{above}{name}.")


def _values(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return ("true", "false")
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()
