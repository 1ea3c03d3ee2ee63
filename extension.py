"""How a name in a recipe becomes a class, and a mapping of options its settings. Knows no layer: any may import it.

`rollout.backend: vllm` names a built-in class, `rollout.backend: my_package.engines:MyEngine` one of yours. What a
class takes of its own is a pydantic model, `Settings`; the recipe holds the values as a mapping, and a command line has
a flag for each field.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from hints import hint_for

M = TypeVar("M", bound=BaseModel)
ROOT = Path(__file__).parent


class NoOptions(BaseModel):
    """The `Settings` of a class that takes nothing of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ExtensionError(ValueError):
    """A name or an option that no class answers to; one sentence with the setting, the known names and the nearest."""


def resolve(name: str, built_in: Mapping[str, str], protocol: type | str, setting: str) -> type[Any]:
    """The class of a name.

    Args:
        name: a key of `built_in`, or `module:Class`, which is imported.
        built_in: name to `module:Class`; a module is imported only when its name is asked for.
        protocol: what the class must have: every public method and attribute of this `typing.Protocol`, which may be
            named as `module:Class`, for callers that must not import it.
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
        problem = f"{type(error).__name__}: {error}{where_looked(module_name, error)}"
        raise ExtensionError(f"{setting}={name}: cannot import {module_name} ({problem})") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(class_name, classes)
        raise ExtensionError(f"{setting}={name}: {module_name} has no class {class_name!r} ({hint})")
    asked = _imported(protocol) if isinstance(protocol, str) else protocol
    if lacking := missing_members(found, asked):
        where = f"{asked.__module__.replace('.', '/')}.py"
        raise ExtensionError(f"{setting}={name}: {class_name} lacks {', '.join(lacking)} of {asked.__name__} ({where})")
    return found


def where_looked(module: str, error: BaseException) -> str:
    """Where a module that was not found is looked for, as the end of a sentence; nothing where it failed otherwise."""
    if (
        not isinstance(error, ModuleNotFoundError)
        or error.name is None
        or not f"{module}.".startswith(f"{error.name}.")
    ):
        return ""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    places = ", ".join(map(str, dict.fromkeys([ROOT, *others])))
    file = f"{module.partition('.')[0]}.py"
    return (
        f"; modules are looked for in {places} and among the installed packages: put {file} there, or name the folder "
        "that holds it: export PYTHONPATH=FOLDER"
    )


def made(
    name: str,
    options: Mapping[str, Any],
    built_in: Mapping[str, str],
    protocol: type | str,
    setting: str,
    place: str,
) -> Any:
    """An object of a name's class, made of its `Settings`; the arguments are those of `resolve` and `validated`.

    Raises:
        ExtensionError: as these.
    """
    found: Any = resolve(name, built_in, protocol, setting)
    return found(validated(found.Settings, options, place))


def missing_members(candidate: type, protocol: type) -> list[str]:
    """The public members of a protocol that a class has neither defined nor annotated.

    A class may inherit from the protocol: it then has the members that the protocol defines, but for abstract ones.
    """
    own = [base for base in candidate.__mro__ if not getattr(base, "_is_protocol", False)]
    declared = {key for base in own for key in getattr(base, "__annotations__", {})}
    return [name for name in members(protocol) if name not in declared and not _has(candidate, name)]


def _has(candidate: type, name: str) -> bool:
    return hasattr(candidate, name) and not getattr(getattr(candidate, name), "__isabstractmethod__", False)


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
        hint = hint_for(location[-1]) or nearest(location[-1], _keys_at(model, location[:-1]), cutoff=0.5)
        return f"unknown key {dotted} ({hint})"
    if item["type"] == "missing":
        return f"{dotted} is missing"
    if item["type"] == "value_error":  # a rule over several fields, whose sentence names them
        if isinstance(item["ctx"]["error"], ExtensionError):
            return str(item["ctx"]["error"])  # which names its key itself
        return f"{dotted}: {item['ctx']['error']}" if dotted else str(item["ctx"]["error"])
    if item["type"] == "string_type" and isinstance(item["input"], int | float):
        said = f"{item['input']} is read as a {'truth value' if isinstance(item['input'], bool) else 'number'}"
        return f"{dotted}: {said}, and a text is needed: quote it, on a command line '{dotted}=\"{item['input']}\"'"
    return f"{dotted}: {item['msg']} (got {redacted(reprlib.repr(item['input']))})"


def at_home(argument: str) -> str:
    """An argument, `--flag=` before it or not, whose path begins with `~/`, with the home folder in its place."""
    flag, path = re.fullmatch(r"(--[\w-]+=)?(.*)", argument, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    return flag + os.path.expanduser(path) if path.startswith("~/") else argument


def redacted(text: str) -> str:
    """A text for messages, without the user names and passwords of URLs in it."""
    return re.sub(r"(?<=//)[^/@\s]+@", "...@", text)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean X?` where a known name is near, else the known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"


def nearest_file(path: Path, there: Iterable[Path]) -> str:
    """` (did you mean X?)` where a file of nearly this name is there, whatever its ending; else nothing."""
    known = {str(one): one for one in there}
    same = next((one for one in known.values() if (one.parent, one.stem) == (path.parent, path.stem)), None)
    close = [str(same)] if same else difflib.get_close_matches(str(path), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def add_flags(
    parser: argparse._ActionsContainer, model: type[BaseModel], skip: Collection[str] = (), prefix: str = "own"
) -> dict[str, str]:
    """A flag for every field of a model, in its words: `image_root` is --image-root, its docstring the help.

    No flag has a default of its own: what is not given is left to the model. Where the parser has a flag of that name
    already, the field's is `--<prefix>-<name>`.

    Returns:
        Each field's name in the parsed options, for `from_flags`.
    """
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if name in skip:
            continue
        taken = _flag(name) in parser._option_string_actions
        names[name] = f"{prefix}_{name}" if taken else name
        flag, arguments = _flag(names[name]), dict[str, Any](dest=names[name], default=None)
        plain = without_none(field.annotation)
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
    return names


def from_flags(model: type[M], options: argparse.Namespace, names: Mapping[str, str] | None = None) -> M:
    """The settings that a command line gives; `names` as `add_flags` returned them.

    Raises:
        ExtensionError: a value is missing or does not fit; the flag is named.
    """
    names = {name: name for name in model.model_fields} | dict(names or {})
    given = {name: getattr(options, dest, None) for name, dest in names.items()}
    try:
        return model.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ExtensionError("; ".join(_as_flag(item, model, names) for item in error.errors())) from None


def first_sentence(model: type[BaseModel], name: str) -> str:
    """What a field should be: the first sentence of its documentation, as part of another one."""
    said = " ".join((model.model_fields[name].description or "").split())
    first = re.split(r"[.:;](?:\s|$)", said, maxsplit=1)[0]
    return first[:1].lower() + first[1:]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_flag(item: Any, model: type[BaseModel], names: Mapping[str, str]) -> str:
    """One pydantic error in the words of a command line."""
    name = str(item["loc"][0]) if item["loc"] else ""
    said = explain(item, model).removeprefix(name)
    what = f" ({first_sentence(model, name)})" if item["type"] == "missing" else ""
    return f"{_flag(names.get(name, name))}{said}{what}" if name else said


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def without_none(annotation: Any) -> Any:
    """`Path | None` as `Path`; anything else as it is."""
    rest = [part for part in get_args(annotation) if part is not type(None)]
    return rest[0] if type(None) in get_args(annotation) and len(rest) == 1 else annotation


def settings_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model that a field holds, or may hold: alone, in a list, or beside null."""
    found = (one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(found, None)


def _imported(name: str) -> Any:
    module, _, member = name.partition(":")
    return getattr(importlib.import_module(module), member)


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
