"""Hugging Face datasets on disk: a folder of `save_to_disk` (arrow), parquet files, or one file; by a map of columns.

Read with pyarrow, batch by batch; the hub is never asked.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.admission import admitted, make_sample
from data.errors import DataError
from data.faults import MALFORMED, UNREADABLE_PART, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.formats.jsonl import licence_of
from data.image_values import image_path, view_names
from data.records import RecordError
from data.sample import DrivingSample

BATCH = 64
"""Rows in memory at once; images may lie in them."""


class Columns(BaseModel):
    """Which column holds what."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    question: str = "question"
    """The text that is asked."""
    answer: str = "answer"
    """The true answer: a text, or for options a letter, a text or a number from 0 on."""
    images: tuple[str, ...] = ("image",)
    """One column that holds an image or a list of them, or several that hold one each."""
    id: str | None = None
    """What names a row; None: its number."""
    scene: str | None = None
    """The drive that a row is of; None: every row is a scene of its own, and two frames of one drive may come to lie on
    both sides of the split."""
    task: str | None = None
    """The name of the question's task; None: `task` of the options."""
    choices: str | None = None
    """A list of options, which the question then need not hold."""
    reasoning: str | None = None
    """How the answer comes about."""

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        """A command line gives the map as text; one column of images needs no list."""
        read = yaml.safe_load(given) if isinstance(given, str) else given
        if isinstance(read, dict) and isinstance(read.get("images"), str):
            return {**read, "images": (read["images"],)}
        return read

    def named(self) -> list[str]:
        """All columns that are read."""
        others = (self.id, self.scene, self.task, self.choices, self.reasoning)
        return [self.question, self.answer, *self.images, *(name for name in others if name is not None)]


class HuggingFace(Format):
    """A Hugging Face dataset on disk."""

    class Settings(FormatSettings):
        """Where it lies, and which column is what."""

        annotations: Path
        """A folder that `save_to_disk` wrote, a folder of parquet files, or one parquet or arrow file."""
        columns: Columns = Field(default_factory=Columns)
        """Which column holds what: `{question: prompt, images: [front, back], scene: drive}`."""
        split: str = "train"
        """The split, where the folder holds several."""
        image_root: Path | None = None
        """The folder that image paths are relative to, where images are paths; None: the dataset's own."""
        task: str = "driving"
        """The task of all questions, where no column names it."""
        views: tuple[str, ...] = ()
        """What the images are called, in their order, such as CAM_FRONT; others are image_1, image_2, ..."""
        licence: str | None = None
        """The licence of the data, as an SPDX identifier or in words; None: unknown."""
        non_commercial: bool | None = None
        """Whether the licence forbids commercial use."""
        attribution: str = ""
        """The makers of the data."""

    settings: Settings

    @property
    def licence(self) -> Licence:
        """As the options say."""
        return licence_of(self.settings.licence, self.settings.non_commercial, self.settings.attribution)

    def files(self) -> dict[str, Path]:
        """The files of the split by their number, or the path where there is none."""
        try:
            found = _files(self.settings.annotations, self.settings.split)
        except DataError:  # said when it is read
            return {"annotations": self.settings.annotations}
        return {f"annotations {number}" if number else "annotations": file for number, file in enumerate(found)}

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `Format.read`; also a DataError where a column that is named is not there."""
        files = _files(self.settings.annotations, self.settings.split)
        self._check_columns(files[0])
        return admitted(self._samples(files, faults, cache / "images"), faults)

    def _check_columns(self, file: Path) -> None:
        try:
            there = _schema(file).names
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read ({' '.join(str(error).split())[:120]})") from None
        absent = [name for name in self.settings.columns.named() if name not in there]
        if absent:
            raise DataError(
                f"{file} has no column {absent[0]}; its columns: {', '.join(there)}: name yours in "
                "data.options.columns, such as data.options.columns.question=prompt"
            )

    def _samples(self, files: list[Path], faults: Faults, cache: Path) -> Iterator[DrivingSample]:
        number = 0
        for file in files:
            try:
                for row in _rows(file, self.settings.columns.named()):
                    place, number = f"row {number} of {file.name}", number + 1
                    try:
                        sample = self._sample(row, place, number - 1, cache, faults)
                    except RecordError as error:
                        faults.drop(MALFORMED, place, str(error))
                        continue
                    if sample is not None:
                        yield sample
            except (pa.ArrowException, OSError) as error:
                faults.drop(UNREADABLE_PART, str(file), f"{file} cannot be read on from row {number}: {error}")

    def _sample(
        self, row: dict[str, Any], place: str, number: int, cache: Path, faults: Faults
    ) -> DrivingSample | None:
        given, columns = self.settings, self.settings.columns
        root = given.image_root or (given.annotations if given.annotations.is_dir() else given.annotations.parent)
        values = [row[name] for name in columns.images]
        shown = [one for value in values for one in (value if isinstance(value, list) else [value]) if one is not None]
        paths = [image_path(one, root.resolve(), cache, place) for one in shown]
        question, answer = _text(row[columns.question], place), row[columns.answer]
        listed = row[columns.choices] if columns.choices is not None else None
        choices = _choices(listed, place) if listed is not None else None
        if choices and isinstance(answer, int) and 0 <= answer < len(choices):
            answer = string.ascii_uppercase[answer]
        if choices and not all(option in question for option in choices.values()):
            question = f"{question} {' '.join(f'{letter}. {option}' for letter, option in choices.items())}"
        name = str(number) if columns.id is None else str(row[columns.id])
        scene = name if columns.scene is None else str(row[columns.scene])
        reasoning = row[columns.reasoning] if columns.reasoning is not None else None
        return make_sample(
            faults,
            id=name,
            scene_id=scene,
            frame_id=name,
            task=given.task if columns.task is None else str(row[columns.task]),
            question=question,
            answer="" if answer is None else str(answer).strip(),
            images=dict(zip(view_names(len(paths), given.views), paths, strict=True)),
            choices=choices,
            reasoning="" if reasoning is None else str(reasoning),
        )


def _files(path: Path, split: str) -> list[Path]:
    """The files of a split in order."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist: name a folder of save_to_disk, or parquet files")
    inside = path / split if (path / split).is_dir() else path
    if (path / "dataset_dict.json").is_file() and inside == path:
        splits = ", ".join(sorted(one.name for one in path.iterdir() if one.is_dir())) or "none"
        raise DataError(f"{path} has no split {split}; splits: {splits}: set data.options.split")
    for pattern in (f"{split}-*.parquet", f"**/{split}-*.parquet", "data-*.arrow", "*.arrow", "**/*.parquet"):
        if found := sorted(inside.glob(pattern)):
            return found
    raise DataError(f"{path} holds neither data-*.arrow (save_to_disk) nor parquet files")


def _schema(file: Path) -> pa.Schema:
    if file.suffix == ".parquet":
        return pq.read_schema(file)
    with pa.memory_map(str(file)) as source:
        return ipc.open_stream(source).schema


def _rows(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(columns))
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(BATCH, columns=names):
                yield from batch.to_pylist()
        return
    with pa.memory_map(str(file)) as source:
        for batch in ipc.open_stream(source):
            for start in range(0, batch.num_rows, BATCH):
                yield from batch.slice(start, BATCH).select(names).to_pylist()


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{place} has a question that is no text")
    return value.strip()


def _choices(listed: Any, place: str) -> dict[str, str]:
    """Letter to option."""
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed) or len(listed) > 26:
        raise RecordError(f"{place} has choices that are no list of up to 26 texts")
    return dict(zip(string.ascii_uppercase, listed, strict=False))
