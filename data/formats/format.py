"""What a dataset is to this project: a class in one file. The built-in ones by name, and the way from settings to one.

`data.source` names a dataset, `data.options` holds its options. To add your own, write a class as `Format` says and
name it: `data.source=my_drives:MyDrives`. Nothing else has to be changed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import DataError
from data.faults import Faults
from data.frame_ids import NamedFrames
from data.json_stream import entries
from data.sample import DrivingSample
from data.settings import DataSettings
from extension import ExtensionError, explain, first_sentence, resolve

FORMATS: dict[str, str] = {
    "rendered": "data.formats.rendered:Rendered",
    "jsonl": "data.formats.jsonl:Jsonl",
    "chat": "data.formats.chat:Chat",
    "hf": "data.formats.hf:HuggingFace",
    "drivelm": "data.formats.drivelm:DriveLM",
    "drivebench": "data.formats.drivebench:DriveBench",
    "drivelmm_o1": "data.formats.drivelmm_o1:DriveLMMo1",
    "bdd_oia": "data.formats.bdd_oia:BddOia",
    "driveaction": "data.formats.driveaction:DriveAction",
    "drivelm_carla": "data.formats.drivelm_carla:DriveLMCarla",
    "nuscenes": "data.formats.nuscenes:NuScenes",
    "driving": "data.formats.driving:Driving",
}
"""The datasets that have a name of their own; a module is imported when its name is asked for."""
PLACE = "data.options"
UNKNOWN = "NOASSERTION"
"""SPDX's word for a licence that nobody named."""


class Licence(BaseModel):
    """Under which terms the data may be used, and whom to name."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """In words, with what it covers."""
    spdx: str
    """Its SPDX identifier; `LicenseRef-...` where SPDX has none, `UNKNOWN` where none is recorded."""
    non_commercial: bool | None
    """Whether commercial use is forbidden; None: not recorded."""
    attribution: str
    """The makers of the data, as a model card names them."""


class FormatSettings(BaseModel):
    """The base of a dataset's options. The docstring below a field is its documentation and the help of its flag."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Format(Protocol):
    """A dataset: its options, its licence, its reader. Inherit from it, and write what is abstract.

        class MyDrives(Format):
            class Settings(FormatSettings):
                annotations: Path
                \"\"\"The CSV file.\"\"\"
                image_root: Path
                \"\"\"The folder that image paths are relative to.\"\"\"

            settings: Settings
            licence = Licence(name="Mine", spdx="CC-BY-4.0", non_commercial=False, attribution="Me, 2025")

            def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
                ...

    An option without a default must be given: a recipe that leaves it out is refused with its name and the first
    sentence of its documentation. `annotations` and `image_root` are the usual names of what is read; a command
    line takes `annotations` as its file, and every other option as a flag.
    """

    Settings: ClassVar[type[BaseModel]]
    """The model of the options, every field documented."""
    settings: Any = None
    """The options, an instance of `Settings`."""

    def __init__(self, settings: Any) -> None:
        """Take the options; reads nothing yet."""
        self.settings = settings

    @property
    @abstractmethod
    def licence(self) -> Licence:
        """The terms of annotations and images together; a class attribute will do."""

    @abstractmethod
    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """The samples one after the other, the same ones in the same order at each call; ids are unique.

        `data.admission` makes a sample of an entry and looks at ids, images and coordinates.

        Args:
            faults: counts every entry that is left out (`drop`) or used in spite of a fault (`keep`).
            cache: a folder for files that have to be made, such as images that lie inside annotation files.
            seed: of what is drawn, where anything is: `data.seed`.

        Raises:
            DataError: a file or folder is missing or is not of this format; the sentence names it.
        """

    def files(self) -> dict[str, Path]:
        """The annotation files and folders that are read, by the option that names each. Runs keep their hashes.

        Here: every path among the options but `image_root`.
        """
        given = {name: getattr(self.settings, name) for name in path_options(type(self.settings))}
        return {name: path for name, path in given.items() if path is not None and name != "image_root"}

    @property
    def images_per_prompt(self) -> int | None:
        """The most images of a sample; None: those of six cameras."""
        return None

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The frame of every entry of an annotation file, faulty entries included; looks at nothing else of them.

        Raises:
            DataError: an entry names no frame; without a method of its own, always.
        """
        raise DataError(f"{file}: {cls.__name__} does not say which frames a file names: convert it to JSONL")

    def corpus(self, train: Sequence[DrivingSample]) -> tuple[str, ...]:
        """The text that the tiny policy's tokenizer is trained on."""
        return tuple(text for sample in train for text in (sample.question, sample.answer))


def format_class(name: str, setting: str = "data.source") -> type[Format]:
    """The class of a name, built-in or `module:Class`.

    Raises:
        ExtensionError: there is none, or it lacks a member of `Format`.
    """
    return resolve(name, FORMATS, Format, setting)


def format_of(settings: DataSettings) -> Format:
    """The dataset that settings name, with its options.

    Raises:
        ExtensionError: the name or an option is unknown, or a value does not fit.
        DataError: an option that it cannot do without is not given.
    """
    kind = format_class(settings.source)
    options, absent = _checked(kind, settings.options, PLACE)
    if options is None:
        raise DataError(f"data.source={settings.source} needs {' and '.join(absent)} as well")
    return kind(options)


def absent_options(settings: DataSettings) -> list[str]:
    """The options that the dataset cannot do without and that are not given, each with what it should be.

    Raises:
        ExtensionError: as `format_of`, for what is given.
    """
    return _checked(format_class(settings.source), settings.options, PLACE)[1]


def images_per_prompt(settings: DataSettings) -> int | None:
    """The most images of a sample; None: those of six cameras. Options may still be absent.

    Raises:
        ExtensionError: as `format_of`, for what is given.
    """
    kind = format_class(settings.source)
    options, _ = _checked(kind, settings.options, PLACE)
    return kind(options or kind.Settings.model_construct(**settings.options)).images_per_prompt


def option_paths(settings: DataSettings) -> dict[str, Path]:
    """Every path among the options, by its recipe key.

    Raises:
        ExtensionError: as `format_of`, for what is given.
    """
    kind = format_class(settings.source)
    _checked(kind, settings.options, PLACE)
    given = ((name, settings.options.get(name)) for name in path_options(kind.Settings))
    return {f"{PLACE}.{name}": Path(value) for name, value in given if value is not None}


def path_options(model: type[BaseModel]) -> list[str]:
    """The fields of a model that are paths."""
    fields = model.model_fields.items()
    return [name for name, field in fields if Path in (field.annotation, *get_args(field.annotation))]


def _checked(kind: type[Format], options: Mapping[str, Any], place: str) -> tuple[BaseModel | None, list[str]]:
    """The options as settings, or None and what is absent.

    Raises:
        ExtensionError: an option is unknown or does not fit.
    """
    model = kind.Settings
    try:
        return model.model_validate(dict(options)), []
    except ValidationError as error:
        errors = error.errors()
    missing = [item for item in errors if item["type"] == "missing" and len(item["loc"]) == 1]
    wrong = [explain(item, model, place) for item in errors if item not in missing]
    if wrong:
        raise ExtensionError("; ".join(wrong))
    names = [str(item["loc"][0]) for item in missing]
    return None, [f"{place}.{name} ({first_sentence(model, name)})" for name in names]


def frames_of(path: Path, name: str | None = None) -> NamedFrames:
    """The frames that a file names; without the `name` of its format, its content shows the format.

    Raises:
        DataError: the file is missing or broken, an entry names no frame, or there is none.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    found = format_class(name or _format_by_content(path)).frames_in(path)
    if not found.ids:
        raise DataError(f"{path} names no frame; frames are read from JSONL, DriveLM, DriveBench and DriveLMM-o1")
    return found


def _format_by_content(path: Path) -> str:
    """Which of the formats that name frames a file has."""
    if path.suffix == ".jsonl":
        return "jsonl"
    _, first = next(entries(path), ("", None))
    keys = first if isinstance(first, dict) else {}
    of_o1 = "idx" in keys or "final_answer" in keys
    return "drivebench" if "frame_token" in keys else "drivelmm_o1" if of_o1 else "drivelm"
