"""`construction.json`: how a set of samples came to be. Its record, and the folder that holds both. No torch, no ray.

Nothing in it tells when or where it was built, so that the same inputs and seed give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data.errors import DataError
from data.sample import Task
from evaluation.suites.record import first_problem

CONSTRUCTION_FILE = "construction.json"
SAMPLES_FILE = "samples.jsonl"

Which = Literal["training", "hard", "unfiltered"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ConstructionSettings(_Record):
    """What was asked for; None where it has no meaning for the set."""

    which: Which
    format: str
    """Of the samples that were read."""
    reader: dict[str, Any]
    """How they were read, where that is recorded."""
    images: str
    """Where their images lie, seen from the folder that was built."""
    models: tuple[str, ...]
    """Whose scores make the difficulty."""
    band: tuple[float, float] | None
    """Of D, both ends included."""
    frames: int | None = Field(ge=1)
    questions: int | None = Field(ge=1)
    rarest: float | None = Field(ge=0.0, le=1.0)
    """How often every action was to occur, as a share of the most frequent one."""
    repeats: int | None = Field(ge=1)
    """Answers to a question, of each model."""
    seed: int | None

    @field_validator("band")
    @classmethod
    def _check_band(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and not 0.0 <= band[0] <= band[1] <= 100.0:
            raise ValueError("give the lower end first, and both from 0 to 100")
        return band


class InputFile(_Record):
    """A file that the set depends on."""

    role: str
    """The option that named it."""
    name: str
    sha256: str
    """Over its bytes; of a folder, over the names and bytes of its files."""


class LeftOut(_Record):
    """A file whose frames were kept out."""

    role: str
    name: str
    frames: int
    met: int
    """How many of them the samples have."""


class ModelSummary(_Record):
    """What one model's scores rest on."""

    name: str
    model: str
    """What was measured, as its run names it."""
    judge: str | None
    """The judge of its answers; None where rules scored them."""
    answers: int
    failures: dict[str, int]
    """Reason to the number of answers without a score."""
    of_other_samples: int


class Extent(_Record):
    """How much there is of something, and how it divides."""

    samples: int
    frames: int
    scenes: int
    tasks: dict[Task, int]
    actions: dict[str, int]
    """Action that a behavior question's answer names, to the number of such questions; the most frequent first."""


class TaskScores(_Record):
    """The mean score of a task's questions, by model and over the models."""

    questions: int
    by_model: dict[str, float]
    mean: float


class FrameScores(_Record):
    """A frame's difficulty D, what it would be by each model alone, and whether the set has the frame."""

    difficulty: float
    by_model: dict[str, float]
    chosen: bool


class Construction(_Record):
    """How a set came to be: settings, inputs, losses, difficulty, and what is in it."""

    settings: ConstructionSettings
    inputs: tuple[InputFile, ...]
    source: Extent
    """What was read."""
    candidates: Extent
    """What was chosen from: sound questions about frames that were allowed."""
    chosen: Extent
    result: Extent
    """What was chosen, and the repeats."""
    repeated: dict[str, int]
    """Action to how many times its questions were repeated in all."""
    unread: dict[str, list[str]]
    """Reason to ids of entries that the reader left out."""
    read_with_fault: dict[str, int]
    dropped: dict[str, int]
    """Reason to number of questions that were read and are not in the set."""
    faulty: dict[str, list[str]]
    """Ids of those of them that have a fault of their own."""
    scored_with_fault: dict[str, int]
    left_out: tuple[LeftOut, ...]
    scores: tuple[ModelSummary, ...]
    task_scores: dict[Task, TaskScores]
    """Of all candidates."""
    chosen_task_scores: dict[Task, TaskScores]
    frames: dict[str, FrameScores]
    """Every frame that was scored."""
    samples_sha256: str
    """Over `samples.jsonl`."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, or of the names and bytes of all files in a folder.

    Raises:
        DataError: it does not exist or cannot be read.
    """
    try:
        if path.is_dir():
            digest = hashlib.sha256()
            for file in sorted(found for found in path.rglob("*") if found.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n".encode())
            return digest.hexdigest()
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def is_up_to_date(folder: Path, settings: ConstructionSettings, inputs: Iterable[InputFile]) -> bool:
    """Whether the folder holds what these inputs and settings give; False where there is nothing yet.

    Raises:
        DataError: it holds something else, which one would lose by building there.
    """
    present = [name for name in (CONSTRUCTION_FILE, SAMPLES_FILE) if (folder / name).exists()]
    if not present:
        return False
    if CONSTRUCTION_FILE not in present:
        raise DataError(f"{folder} holds {SAMPLES_FILE} of no finished build: give another --out, or --overwrite")
    held = read_construction(folder)
    changed = [name for name in type(settings).model_fields if getattr(held.settings, name) != getattr(settings, name)]
    before, now = ([(one.role, one.sha256) for one in files] for files in (held.inputs, tuple(inputs)))
    changed += sorted({role for role, _ in set(before) ^ set(now)}) or (["order of inputs"] if before != now else [])
    if changed:
        raise DataError(
            f"{folder} was built from other inputs ({', '.join(changed)}): give another --out, or --overwrite"
        )
    if SAMPLES_FILE not in present or sha256_of(folder / SAMPLES_FILE) != held.samples_sha256:
        raise DataError(
            f"{folder / SAMPLES_FILE} was changed or lost since it was built: give --overwrite to build anew"
        )
    return True


def read_construction(folder: Path) -> Construction:
    """Read `construction.json` back.

    Raises:
        DataError: it is not as this version writes it.
    """
    path = folder / CONSTRUCTION_FILE
    try:
        return Construction.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path} is not as this version writes it ({first_problem(error)}): give another --out, or --overwrite"
        ) from None


def write_construction(folder: Path, record: Construction) -> None:
    """Write `construction.json`, last of the folder's files: with it the set is finished."""
    part = folder / f"{CONSTRUCTION_FILE}.part"
    part.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(folder / CONSTRUCTION_FILE)
