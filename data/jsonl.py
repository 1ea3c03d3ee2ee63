"""Driving samples as JSON lines: the format for your own data, and what every other format converts into.

One sample a line, read and written as a stream; `docs/data.md` describes every field. Image paths are relative to the
file's own folder, so a folder with file and images can be moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.admission import admitted, lacks_text
from data.drivelm_questions import letter_of
from data.errors import DataError
from data.faults import (
    ANSWER_NOT_AN_OPTION,
    FAULTY_IMAGE,
    MALFORMED,
    Faults,
)
from data.sample import Command, CoordinateUnit, DrivingSample, KeyObject, Kind, Trajectory
from data.text_file import open_bytes, read_lines
from data.uris import is_uri
from extension import at_home, explain

_Point = tuple[float, float, float]
_Box = tuple[float, float, float, float, float]
_Letter = Annotated[str, Field(pattern="^[A-Z]$")]
_Name = Annotated[str, Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Object(_Model):
    tag: str
    category: str = ""
    description: str = ""
    status: str | None = None
    box: tuple[float, float, float, float] | None = None


class _Trajectory(_Model):
    past: tuple[_Point, ...]
    future: tuple[_Point, ...]
    command: Command
    interval_s: float = Field(0.5, gt=0)
    others: tuple[tuple[_Box, ...], ...] | None = None


class _Line(_Model):
    """A line of the file; `docs/data.md` says what each field means."""

    id: _Name
    scene_id: _Name
    frame_id: str = ""
    task: _Name
    kind: Kind
    question: str
    answer: str | None = None
    images: dict[str, str] = Field(default_factory=dict)
    choices: dict[_Letter, str] = Field(default_factory=dict)
    objects: tuple[_Object, ...] = ()
    reasoning: str = ""
    labels: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    trajectory: _Trajectory | None = None
    coordinate_unit: CoordinateUnit = "pixels"

    @model_validator(mode="after")
    def _check_choices(self) -> _Line:
        if (self.kind == "multiple_choice") != bool(self.choices):
            raise ValueError("choices are given exactly when kind is multiple_choice")
        return self


def read_jsonl(
    path: Path, faults: Faults, image_root: Path | None = None, *, check_images: bool = True
) -> Iterator[DrivingSample]:
    """Read a file of samples, one after the other in bounded memory.

    Args:
        path: the JSONL file; one without a usable line gives no sample.
        faults: takes what is wrong with its lines.
        image_root: what relative image paths are resolved against, instead of the file's folder.
        check_images: leave samples out whose images cannot be read; without it no image need be there.

    Raises:
        DataError: the file is missing, is one JSON document, or a frame id stands in two scenes.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    with open_bytes(path) as file:
        if file.readline(8).strip() in (b"{", b"[", b"[{"):
            raise DataError(
                f"{path} is one JSON document, not a sample on every line: name its format (data.source or --format)"
            )
    if image_root is not None and not image_root.is_dir():
        raise DataError(f"image_root {image_root} does not exist or is not a folder")
    return admitted(_samples(path, (image_root or path.parent).resolve(), faults), faults, check_images=check_images)


def write_jsonl(path: Path, samples: Iterable[DrivingSample]) -> int:
    """Write samples as they come, and return how many; the file appears under its name when it is complete.

    Raises:
        DataError: the folder cannot be written to.
    """
    draft, count = path.with_name(f"{path.name}.part"), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = draft.open("w", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): choose another place") from None
    folder = path.parent.resolve()
    try:
        with file:
            for sample in samples:
                file.write(json.dumps(record_of(sample, folder), ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def record_of(sample: DrivingSample, folder: Path) -> dict[str, Any]:
    """The line of a sample in a file in `folder`: image paths relative to it, fields that say nothing left out."""
    record: dict[str, Any] = {
        "id": sample.id,
        "scene_id": sample.scene_id,
        "frame_id": sample.frame_id,
        "task": sample.task,
        "kind": sample.kind,
        "question": sample.question,
        "answer": sample.answer,
        "images": {name: _written(path, folder) for name, path in sample.images.items()},
        "choices": sample.choices,
        "objects": [_object_record(item) for item in sample.objects],
        "reasoning": sample.reasoning,
        "labels": sample.labels,
        "trajectory": _trajectory_record(sample.trajectory),
        "coordinate_unit": sample.coordinate_unit if sample.coordinate_unit != "pixels" else "",
    }
    return {name: value for name, value in record.items() if value or name in ("frame_id", "images")}


def _written(path: str, folder: Path) -> str:
    return path if is_uri(path) else Path(os.path.relpath(path, folder)).as_posix()


def _object_record(item: KeyObject) -> dict[str, Any]:
    return {
        "tag": item.tag,
        "category": item.category,
        "description": item.description,
        "status": item.status,
        "box": item.box,
    }


def _trajectory_record(trajectory: Trajectory | None) -> dict[str, Any] | None:
    if trajectory is None:
        return None
    others = {} if trajectory.others is None else {"others": trajectory.others}
    return {
        "past": trajectory.past,
        "future": trajectory.future,
        "command": trajectory.command,
        "interval_s": trajectory.interval_s,
        **others,
    }


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line stands, for its faults."""

    file: Path
    number: int

    @property
    def id(self) -> str:
        return f"line {self.number}"

    def __str__(self) -> str:
        return f"{self.file} line {self.number}"


class _Images:
    """Where the images of a line lie; those of one frame, whose questions follow each other, are resolved once."""

    def __init__(self, root: Path) -> None:
        """Relative paths are below `root`."""
        self._root = root
        self._written: dict[str, str] = {}
        self._resolved: dict[str, str] | None = {}

    def of(self, written: dict[str, str]) -> dict[str, str] | None:
        """Paths and URIs by the name of the view; None where one is empty or no path."""
        if written != self._written or [*written] != [*self._written]:
            odd = any("\x00" in path or not path for path in written.values())
            self._written, self._resolved = written, None if odd else {n: self._place(p) for n, p in written.items()}
        return None if self._resolved is None else dict(self._resolved)

    def _place(self, path: str) -> str:
        return path if is_uri(path) else os.path.normpath(self._root / at_home(path))


def _samples(path: Path, root: Path, faults: Faults) -> Iterator[DrivingSample]:
    scene_of: dict[str, str] = {}
    images = _Images(root)
    for number, raw in read_lines(path):
        place = _Place(path, number)
        try:
            line = _Line.model_validate_json(raw)
        except ValidationError as error:
            faults.drop(MALFORMED, place.id, f"{place}: {_first_fault(error)}")
            continue
        if line.frame_id and (scene := scene_of.setdefault(line.frame_id, line.scene_id)) != line.scene_id:
            raise DataError(
                f"{place}: frame_id {line.frame_id} is of scene {line.scene_id} here and of {scene} above: make "
                f"frame ids unique in the file, such as {line.scene_id}/{line.frame_id}"
            )
        sample = _sample(line, place, images, faults)
        if sample is not None:
            yield sample


def _first_fault(error: ValidationError) -> str:
    """What is wrong with a line, first of all a field that nobody knows: it may be the one that seems to be missing."""
    found = error.errors(include_url=False)
    first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
    return explain(first, _Line)


def _sample(line: _Line, place: _Place, resolved: _Images, faults: Faults) -> DrivingSample | None:
    answer = line.answer if line.answer and line.answer.strip() else ""
    if lacks_text(faults, line.id, line.question.strip(), answer, f"{place}: {line.id}"):
        return None
    if line.choices and answer:
        letter = letter_of(answer, line.choices)
        if letter is None:
            faults.drop(ANSWER_NOT_AN_OPTION, line.id, f"{place}: {line.id} has the answer {answer!r}, not an option")
            return None
        answer = letter
    images = resolved.of(line.images)
    if images is None:
        faults.drop(FAULTY_IMAGE, line.id, f"{place}: {line.id} has an image path that is empty or no path")
        return None
    given = line.trajectory
    trajectory = Trajectory(given.past, given.future, given.command, given.interval_s, given.others) if given else None
    return DrivingSample(
        id=line.id,
        scene_id=line.scene_id,
        frame_id=line.frame_id or line.id,
        task=line.task,
        kind=line.kind,
        question=line.question,
        answer=answer,
        images=images,
        choices=line.choices,
        objects=tuple(KeyObject(o.tag, o.category, o.description, o.status, o.box) for o in line.objects),
        reasoning=line.reasoning,
        labels=line.labels,
        trajectory=trajectory,
        coordinate_unit=line.coordinate_unit,
    )
