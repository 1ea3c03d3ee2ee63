"""A name becomes a class, options become its settings, and what does not fit is one sentence."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, Field

from extension import ExtensionError, add_flags, from_flags, resolve, validated


class Engine(Protocol):
    """What an engine must have."""

    name: str

    def start(self) -> float: ...

    def stop(self) -> None: ...


class Whole:
    """An engine of a user's."""

    name: str

    def start(self) -> float:
        return 0.0

    def stop(self) -> None: ...


class Half:
    """One that forgot a method."""

    def start(self) -> float:
        return 0.0


class Shared(Protocol):
    """A protocol that has something to inherit."""

    name: str
    retries: int = 3

    @abstractmethod
    def start(self) -> float: ...

    def stop(self) -> None:
        """The same for most."""


class Heir(Shared):
    """One that inherits, and has what it must have itself."""

    name = "heir"

    def start(self) -> float:
        return 0.0


class Idle(Shared):
    """One that inherits, and has nothing itself."""


class Options(BaseModel):
    """The options of a class."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    image_root: Path
    """Folder of the images."""
    language: Literal["en", "cn"] = "en"
    """Language of the texts; 50% of both is none."""
    strict: bool = False
    """Stop at a fault."""
    compile: bool = True
    """Compile first."""
    sizes: tuple[int, ...] = (1, 2)
    """Widths."""
    frames: int | None = Field(None, ge=1)
    """How many frames."""


HERE = "tests.unit.test_extension"
KNOWN = {"whole": f"{HERE}:Whole", "half": f"{HERE}:Half"}


def flags(*given: str) -> Options:
    parser = argparse.ArgumentParser()
    add_flags(parser, Options)
    return from_flags(Options, parser.parse_args(given))


def test_a_name_and_an_import_path_lead_to_the_class() -> None:
    assert resolve("whole", KNOWN, Engine, "rollout.backend").__name__ == "Whole"
    assert resolve(f"{HERE}:Whole", {}, Engine, "rollout.backend").__name__ == "Whole"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("whle", ["rollout.backend=whle", "did you mean whole?", "module:Class"]),
        ("xyz", ["known: whole, half"]),
        ("half", ["Half lacks name, stop of Engine", "tests/unit/test_extension.py"]),
        (f"{HERE}:Whol", ["has no class 'Whol'", "did you mean Whole?"]),
        ("not_there:Whole", ["cannot import not_there", "ModuleNotFoundError"]),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(name: str, named: list[str]) -> None:
    with pytest.raises(ExtensionError) as caught:
        resolve(name, KNOWN, Engine, "rollout.backend")
    assert all(part in str(caught.value) for part in named)
    assert "\n" not in str(caught.value)


def test_what_a_class_inherits_from_the_protocol_counts_but_not_what_is_abstract_there() -> None:
    assert resolve(f"{HERE}:Heir", {}, Shared, "rollout.backend") is Heir
    with pytest.raises(ExtensionError, match="Idle lacks name, start of Shared"):
        resolve(f"{HERE}:Idle", {}, Shared, "rollout.backend")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"image_root": "a", "langage": "en"}, ["data.options.langage", "did you mean language?"]),
        ({}, ["data.options.image_root is missing"]),
        ({"image_root": "a", "language": "de"}, ["data.options.language", "'en' or 'cn'", "'de'"]),
        ({"image_root": "a", "frames": 0}, ["data.options.frames", "greater than or equal to 1"]),
    ],
)
def test_an_option_that_does_not_fit_is_named(options: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ExtensionError) as caught:
        validated(Options, options, "data.options")
    assert all(part in str(caught.value) for part in named)


def test_flags_and_a_mapping_give_the_same_settings() -> None:
    given = flags("--image-root", "a", "--language", "cn", "--strict", "--no-compile", "--sizes", "3", "4")
    mapping = {"image_root": "a", "language": "cn", "strict": True, "compile": False, "sizes": [3, 4]}
    assert given == validated(Options, mapping, "data.options")
    assert flags("--image-root", "a") == Options(image_root=Path("a"))


@pytest.mark.parametrize(
    ("given", "named"),
    [(["--image-root", "a", "--frames", "none"], "--frames: Input should be"), ([], "--image-root is missing")],
)
def test_a_flag_that_does_not_fit_is_named(given: list[str], named: str) -> None:
    with pytest.raises(ExtensionError, match=named):
        flags(*given)


def test_the_help_of_a_flag_is_its_documentation() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, Options, skip=["sizes"])
    text = " ".join(parser.format_help().split())
    assert "Language of the texts; 50% of both is none. (default: en)" in text
    assert "Folder of the images. (required)" in text
    assert "--sizes" not in text
