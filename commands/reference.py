"""The reference of every recipe key, made from the settings themselves: docs/reference.md.

python -m commands.reference            # writes it
python -m commands.reference --check    # says whether it is current; exit code 1 where it is not
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from actors.record.tracker import TRACKERS
from actors.rollout.engine import ENGINES
from data.formats.format import FORMATS
from extension import ROOT, resolve, settings_in
from policies.settings import ALGORITHMS
from recipe import Recipe

PAGE = ROOT / "docs" / "reference.md"
HEAD = """# Every key of a recipe

Made from the settings by `python -m commands.reference`; a test holds it current. Defaults are those of the settings:
a recipe of `recipes/` sets others, and `--dry-run` prints what a run would have.

A recipe is a YAML file. With `base: other.yaml` it sets apart what differs from another one, named from its own folder
or from the project's: mappings are joined key by key, lists and values replace. `stages:` is a list of runs, each with
a `name` and dotted keys, that begin with the policy the one before left
([../recipes/ablations/cascade.yaml](../recipes/ablations/cascade.yaml)). On a command line `part.key=value` sets one
key, the value read as YAML; it joins a mapping that is there, also one that is there by default.
"""
OPTIONS: Sequence[tuple[str, str, Mapping[str, str]]] = (
    ("data.options", "data.source", FORMATS),
    ("algorithm.options", "algorithm.name", ALGORITHMS),
    ("rollout.options", "rollout.backend", ENGINES),
    ("run.trackers", "run.trackers", TRACKERS),
)
"""A mapping of options, the key that names whose they are, and the classes that are built in."""


def main(arguments: Sequence[str]) -> int:
    """Write the page, or look whether it is current; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m commands.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    page = reference()
    if not options.check:
        PAGE.write_text(page)
        print(PAGE.relative_to(ROOT))
        return 0
    current = PAGE.is_file() and PAGE.read_text() == page
    print(f"{PAGE.relative_to(ROOT)} is {'current' if current else 'not current: python -m commands.reference'}")
    return 0 if current else 1


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for name, field in Recipe.model_fields.items():
        parts.append(
            f"\n## {name}\n\n{_prose(field.description or '')}\n\n{_table(_rows(settings_in(field.annotation), name))}"
        )
        for mapping, key, classes in OPTIONS:
            if mapping.partition(".")[0] == name:
                parts += _options(mapping, key, classes)
    return "".join(parts)


def _options(mapping: str, key: str, classes: Mapping[str, str]) -> Iterator[str]:
    """The options of each built-in class; of those that share theirs, one table."""
    shared: dict[str, list[str]] = {}
    for name in classes:
        settings = resolve(name, classes, "builtins:object", key).Settings
        if settings.model_fields:
            shared.setdefault(_table(_rows(settings, "")), []).append(name)
    for table, names in shared.items():
        whose = ", ".join(f"`{name}`" for name in names)
        title = f"`{key}.{names[0]}`" if mapping == key else f"`{mapping}` of `{key}` {whose}"
        yield f"\n### {title}\n\n{table}"


def _rows(model: type[BaseModel] | None, above: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning of every field, those of nested settings below their own."""
    for name, field in model.model_fields.items() if model else ():
        dotted = f"{above}.{name}".lstrip(".")
        yield dotted, _type(field.annotation), _default(field), _prose(field.description or "")
        if (inner := settings_in(field.annotation)) is not None:
            yield from _rows(inner, f"{dotted}[]" if get_origin(field.annotation) is tuple else dotted)


def _type(annotation: Any) -> str:
    """A type in the words of a YAML file."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join("null" if one is NoneType else _type(one) for one in arguments)
    if origin in (tuple, list):
        return "list of " + " and ".join(dict.fromkeys(_type(one) for one in arguments if one is not Ellipsis))
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    words = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", Any: "anything"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel) or (
        isinstance(default, tuple) and any(isinstance(x, BaseModel) for x in default)
    ):
        return "see below" if isinstance(default, BaseModel) else f"{len(default)} entries"
    if default is None or isinstance(default, bool):
        return f"`{'null' if default is None else str(default).lower()}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _prose(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {default} | {meaning} |" for key, kind, default, meaning in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
