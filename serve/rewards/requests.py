"""What a client may ask of the rewards: samples with answers, by the service's routes or by a grader of its own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from data.admission import make_sample
from data.faults import Faults
from data.sample import CoordinateUnit, DrivingSample, Kind
from serve.errors import ServiceError
from serve.images import Encoded, ImageRefused, read_data_uri

MOST_ITEMS = 256
MOST_TEXT = 8_000
"""Characters of a question or an answer: comparing two texts takes as many steps as their lengths multiplied."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > 64:
            raise ValueError(f"an object has {len(given)} keys: at most 64 are read")
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class RewardSample(_Message):
    """A driving question, as in `docs/data.md`; images are data URIs."""

    question: str = Field(min_length=1, max_length=MOST_TEXT)
    answer: str = Field("", max_length=MOST_TEXT)
    """The true one."""
    id: str = Field("sample", min_length=1, max_length=200)
    scene_id: str = Field("scene", min_length=1, max_length=200)
    frame_id: str = Field("", max_length=200)
    task: str = Field("planning", min_length=1, max_length=40)
    kind: Kind | None = None
    """None: as question and answer look."""
    choices: dict[Annotated[str, Field(pattern="^[A-Z]$")], str] | None = None
    images: dict[Annotated[str, Field(max_length=60)], str] = Field(default={}, max_length=16)
    labels: dict[str, tuple[int, ...]] = {}
    coordinate_unit: CoordinateUnit = "pixels"


class RewardItem(_Message):
    """An answer to be scored."""

    sample: RewardSample
    answer: str = Field(max_length=MOST_TEXT)
    """The whole response of the model, thinking included."""
    finish_reason: str = Field("stop", pattern="^(stop|length)$")
    """`length`: it was cut off, which the gate of the service's routes settles."""


class RewardRequest(_Message):
    """The body of `POST /v1/rewards`; `sample` and `answer` in place of `items` are one item."""

    items: Annotated[list[RewardItem], FailFast()] = Field(min_length=1, max_length=MOST_ITEMS)
    grader: dict[str, Any] | None = None
    """In place of the service's routes."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, given: Any) -> Any:
        if isinstance(given, dict) and "sample" in given and "items" not in given:
            own = {key: given[key] for key in ("sample", "answer", "finish_reason") if key in given}
            return {key: value for key, value in given.items() if key not in own} | {"items": [own]}
        return given


class ImageShelf:
    """Images of samples as files, named by their content: the CLIP reads paths."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        """Keep them in a folder."""
        self._folder, self._max_pixels = folder, max_pixels
        folder.mkdir(parents=True, exist_ok=True)

    def sample(self, given: RewardSample, place: str) -> DrivingSample:
        """A sample of a request, its images on the shelf.

        Raises:
            ServiceError: 400, names the field.
        """
        images = {name: self._put(uri, f"{place}.images.{name}") for name, uri in given.images.items()}
        faults = Faults(unanswered=True)
        found = make_sample(
            faults,
            id=given.id,
            scene_id=given.scene_id,
            frame_id=given.frame_id or given.id,
            task=given.task,
            question=given.question,
            answer=given.answer,
            images=images,
            choices=given.choices,
            kind=given.kind,
            labels=given.labels,
            coordinate_unit=given.coordinate_unit,
        )
        if found is None:
            said = next(iter(faults.notes), "it is no question")
            raise ServiceError(400, f"{place}: {said}"[:500], "invalid_sample", place)
        return found

    def _put(self, uri: str, place: str) -> str:
        try:
            image: Encoded = read_data_uri(uri, place, self._max_pixels)
            image.decode()
        except ImageRefused as error:
            raise ServiceError(400, str(error), "invalid_image", place) from None
        path = self._folder / f"{hashlib.sha256(image.data).hexdigest()[:40]}.{image.pillow_format.lower()}"
        if path.exists():
            os.utime(path)
        else:
            beside = path.with_suffix(f".{os.getpid()}.part")
            beside.write_bytes(image.data)
            beside.rename(path)
        return str(path)

    def clear(self, before: float) -> None:
        """Remove what was last shown before a time."""
        for path in self._folder.iterdir():
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
