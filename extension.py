"""How a name in a recipe becomes a class, and a mapping of options its settings. Knows no layer: any may import it.

`rollout.backend: vllm` names a built-in class, `rollout.backend: my_package.engines:MyEngine` one of yours. What a
class takes of its own is a pydantic model, `Settings`; the recipe holds the values as a mapping, and a command line has
a flag for each field.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import reprlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


class ExtensionError(ValueError):
    """A name or an option that no class answers to; one sentence with the setting, the known names and the nearest."""


def resolve(name: str, built_in: Mapping[str, str], protocol: type, setting: str) -> type[Any]:
    """The class of a name.

    Args:
        name: a key of `built_in`, or `module:Class`, which is imported.
        built_in: name to `module:Class`; a module is imported only when its name is asked for.
        protocol: what the class must have: every public method and attribute of this `typing.Protocol`.
        setting: the recipe key or flag that holds the name, for messages.

    Raises:
        ExtensionError: the name is unknown, its module or class cannot be had, or the class lacks members of the
            protocol, which are named.
    """
    if ":" not in name and name not in built_in:
        own = "or module:Class of your own"
        raise ExtensionError(f"{setting}={name} is unknown ({nearest(name, built_in)}, {own})")
    module_name, _, class_name = built_in.get(name, name).partition(":")
    try:
        module: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module can fail in any way; the cause is kept
        problem = f"{type(error).__name__}: {error}"
        raise ExtensionError(f"{setting}={name}: cannot import {module_name} ({problem})") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(class_name, classes)
        raise ExtensionError(f"{setting}={name}: {module_name} has no class {class_name!r} ({hint})")
    if lacking := missing_members(found, protocol):
        where = f"{protocol.__module__.replace('.', '/')}.py"
        raise ExtensionError(
            f"{setting}={name}: {class_name} lacks {', '.join(lacking)} of {protocol.__name__} ({where})"
        )
    return found


def missing_members(candidate: type, protocol: type) -> list[str]:
    """The public members of a protocol that a class has neither defined nor annotated, nor inherits from it.

    A class may inherit from the protocol; what is abstract or only annotated there, it must have itself.
    """
    own = [base for base in candidate.__mro__ if not getattr(base, "_is_protocol", False)]
    declared = {key for base in own for key in getattr(base, "__annotations__", {})}
    abstract: frozenset[str] = getattr(candidate, "__abstractmethods__", frozenset())
    return [
        name for name in members(protocol) if name in abstract or not (hasattr(candidate, name) or name in declared)
    ]


def members(protocol: type) -> list[str]:
    """The public methods and attributes that a protocol asks for, its bases' included, in order."""
    found: dict[str, None] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False):
            found |= dict.fromkeys([*getattr(base, "__annotations__", {}), *vars(base)])
    return [name for name in found if not name.startswith("_")]


def validated(model: type[M], options: Mapping[str, Any], place: str) -> M:
    """The options as the model's settings.

    Args:
        model: the pydantic model that a class names as its `Settings`.
        options: field name to value, as a recipe holds them.
        place: the recipe key that holds the mapping, for messages: `rollout.options`.

    Raises:
        ExtensionError: an option is unknown (with the nearest), missing, or has a value that does not fit.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise ExtensionError("; ".join(explain(item, model, place) for item in error.errors())) from None


def explain(item: Any, model: type[BaseModel], place: str = "") -> str:
    """One pydantic error of a model as one sentence, with a did-you-mean for an unknown key.

    Args:
        item: an entry of `ValidationError.errors()`.
        model: the model that was validated.
        place: what its keys stand under; empty at the top.
    """
    location = [str(part) for part in item["loc"]]
    dotted = ".".join([*([place] if place else []), *location])
    if item["type"] == "extra_forbidden":
        return f"unknown key {dotted} ({nearest(location[-1], _keys_at(model, location[:-1]), cutoff=0.5)})"
    if item["type"] == "missing":
        return f"{dotted} is missing"
    if item["type"] == "value_error":  # a rule over several fields, whose sentence names them
        return f"{dotted}: {item['ctx']['error']}" if dotted else str(item["ctx"]["error"])
    return f"{dotted}: {item['msg']} (got {reprlib.repr(item['input'])})"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean X?` where a known name is near, else the known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"


def add_flags(parser: argparse._ActionsContainer, model: type[BaseModel], skip: Collection[str] = ()) -> None:
    """A flag for every field of a model, in its words: `image_root` is --image-root, its docstring the help.

    No flag has a default of its own: what is not given is left to the model.
    """
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        flag, arguments = f"--{name.replace('_', '-')}", dict[str, Any](dest=name, default=None)
        plain = _without_none(field.annotation)
        default = "" if field.default is None else f" (default: {_shown(field.default)})"
        default = " (required)" if field.is_required() else default
        arguments["help"] = (" ".join((field.description or "").split()) + default).replace("%", "%%")
        if plain is bool:
            arguments["action"] = argparse.BooleanOptionalAction if field.default else "store_const"
            arguments |= {} if field.default else {"const": True}
        elif get_origin(plain) is Literal:
            arguments["choices"] = [str(choice) for choice in get_args(plain)]
        elif get_origin(plain) in (tuple, list):
            arguments["nargs"] = "+"
        else:
            arguments["metavar"] = {Path: "PATH", int: "N", float: "X"}.get(plain, name.upper())
        parser.add_argument(flag, **arguments)


def from_flags(model: type[M], options: argparse.Namespace) -> M:
    """The settings that a command line gives.

    Raises:
        ExtensionError: a value does not fit; the flag is named.
    """
    given = {name: getattr(options, name, None) for name in model.model_fields}
    try:
        return model.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ExtensionError("; ".join(_as_flag(explain(item, model), item) for item in error.errors())) from None


def _as_flag(sentence: str, item: Any) -> str:
    name = str(item["loc"][0]) if item["loc"] else ""
    return f"--{name.replace('_', '-')}{sentence.removeprefix(name)}" if name else sentence


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _without_none(annotation: Any) -> Any:
    """`Path | None` as `Path`; anything else as it is."""
    rest = [part for part in get_args(annotation) if part is not type(None)]
    return rest[0] if type(None) in get_args(annotation) and len(rest) == 1 else annotation


def _keys_at(model: Any, parents: list[str]) -> list[str]:
    """The keys that the part of a model at a dotted place has."""
    for parent in parents:
        field = getattr(model, "model_fields", {}).get(parent)
        if field is None:
            continue  # an index into a list, or a member of a union
        model = next((t for t in (field.annotation, *_leaves(field.annotation)) if hasattr(t, "model_fields")), None)
    return sorted(getattr(model, "model_fields", {}))


def _leaves(annotation: Any) -> list[Any]:
    return [leaf for part in get_args(annotation) for leaf in (part, *_leaves(part))]
