"""The answers a report shows with their images: which ones, their thumbnails, and where their object tags point."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from PIL import Image

from data.errors import DataError
from data.images import jpeg_data_uri, open_image
from data.lidar import SWEEP_SUFFIX, draw_sweep, read_sweep
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH, in_order
from evaluation.comparison.before_after import paired
from evaluation.held_out import FULL_SCORE, AnswerRecord, EvaluationResult

THUMBNAIL_WIDTH = 400
THUMBNAIL_QUALITY = 80
TAG = re.compile(r"<(\w+),\s*(CAM_\w+),\s*(-?\d+(?:\.\d+)?),\s*(-?\d+(?:\.\d+)?)>")
"""An object tag in DriveLM's form: `<c1,CAM_BACK,1088.3,497.5>`."""

Role = Literal["asked", "truth", "answered"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in an image, in percent of its width and height, and which text names it."""

    role: Role
    label: str
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One camera's image as a data URI; `fault` says why there is none."""

    camera: str
    title: str
    uri: str | None
    fault: str | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response with its score, as a card shows it; `when` says at which step or in which evaluation."""

    when: str
    response: str
    value: float
    parts: dict[str, float]
    finish_reason: str
    token_count: int


@dataclass(frozen=True, slots=True)
class Card:
    """A question, its images, its ground truth and one answer, or two: before and after."""

    task: str
    kind: str
    scene_id: str
    question: str
    choices: dict[str, str]
    ground_truth: str
    thumbnails: tuple[Thumbnail, ...]
    answers: tuple[Answer, ...]

    @property
    def stem(self) -> str:
        """The question without the options, where it lists them at its end ("... A. Stopped. B. Going ahead.")."""
        listed = [self.question.rfind(f"{letter}. {text}") for letter, text in self.choices.items()]
        return self.question[: min(listed)].rstrip() if listed and min(listed) > 0 else self.question

    @property
    def scene(self) -> str:
        """The scene's id, a token of 32 letters shortened."""
        return self.scene_id if len(self.scene_id) <= 16 else f"{self.scene_id[:8]}…"

    @property
    def roles(self) -> list[Role]:
        """Which texts name the points that are marked in the images shown."""
        found = {mark.role for thumbnail in self.thumbnails if thumbnail.uri for mark in thumbnail.marks}
        roles: tuple[Role, ...] = ("asked", "truth", "answered")
        return [role for role in roles if role in found]


@dataclass(frozen=True, slots=True)
class Changed:
    """The answers to one question in two evaluations, with the words that tell them apart; `change` orders them."""

    change: float
    answers: tuple[tuple[str, AnswerRecord], tuple[str, AnswerRecord]]

    @property
    def asked(self) -> AnswerRecord:
        """The record whose question and images are shown: the later one."""
        return self.answers[1][1]


def best_and_worst(rows: Iterable[Mapping[str, Any]], count: int) -> tuple[list[Card], list[Card]]:
    """The best and the worst answers among rollouts (rows of `samples/step_*.parquet`), at most `count` each.

    The tasks take turns, no question is shown twice, and of equal answers the newest is taken. An answer at 0 is never
    among the best, nor one at 100 among the worst; masked rollouts are in neither.
    """
    scored = [row for row in rows if row["failure"] is None]
    newest = sorted(scored, key=lambda row: -row["step"])
    best = sorted((row for row in newest if row["value"] > 0), key=lambda row: -row["value"])
    chosen = _in_turns(best, count, set())
    worst = sorted((row for row in newest if row["value"] < FULL_SCORE), key=lambda row: row["value"])
    shown = {row["sample_id"] for row in chosen}
    return [_rollout_card(row) for row in chosen], [_rollout_card(row) for row in _in_turns(worst, count, shown)]


def gains_and_losses(before: EvaluationResult, after: EvaluationResult, count: int) -> tuple[list[Card], list[Card]]:
    """The held-out questions whose answers gained and lost most between two evaluations, at most `count` each."""
    return changed_most(
        [
            Changed(later.value - earlier.value, (("before", earlier), ("after", later)))
            for earlier, later in paired(before, after)
        ],
        count,
    )


def changed_most(changed: Iterable[Changed], count: int) -> tuple[list[Card], list[Card]]:
    """The questions that gained and lost most, at most `count` each; the tasks take turns, none is shown twice."""
    rows: list[dict[str, Any]] = [
        {"task": one.asked.task, "sample_id": one.asked.sample_id, "changed": one} for one in changed
    ]
    gains = sorted((row for row in rows if row["changed"].change > 0), key=lambda row: -row["changed"].change)
    losses = sorted((row for row in rows if row["changed"].change < 0), key=lambda row: row["changed"].change)
    return [changed_card(row["changed"]) for row in _in_turns(gains, count, set())], [
        changed_card(row["changed"]) for row in _in_turns(losses, count, set())
    ]


def worst_answers(answers: Iterable[AnswerRecord], count: int) -> list[Card]:
    """The worst answers of a benchmark with their settings, at most `count`.

    The tasks take turns and no question is shown twice. Which of equal answers is taken is drawn, always alike, so that
    no setting is favoured. Answers without a value and those at 100 are left out.
    """
    scored = [answer for answer in answers if answer.failure is None and answer.value < FULL_SCORE]
    repeated = any(answer.repeat for answer in scored)
    worst = sorted(random.Random(0).sample(scored, len(scored)), key=lambda answer: answer.value)
    rows = [{"task": answer.task, "sample_id": answer.sample_id, "answer": answer} for answer in worst]
    return [_setting_card(row["answer"], repeated) for row in _in_turns(rows, count, set())]


def thumbnails(images: Mapping[str, str], texts: Mapping[Role, str]) -> tuple[Thumbnail, ...]:
    """The images of a sample as small JPEGs, laid out as the cameras sit on the car, with the texts' tags marked."""
    cameras: list[str] = [camera for camera in CAMERAS if camera in images]
    cameras += [camera for camera in images if camera not in CAMERAS]
    found = list(marks(texts))
    made = []
    for camera in cameras:
        uri, fault = _data_uri(images[camera])
        title = camera.removeprefix("CAM_").replace("_", " ").lower()
        made.append(Thumbnail(camera, title, uri, fault, tuple(mark for at, mark in found if at == camera)))
    return tuple(made)


def _in_turns(rows: Sequence[Mapping[str, Any]], count: int, shown: set[str]) -> list[Mapping[str, Any]]:
    """The first rows of each task in turn, until `count` are found; no question twice, none of `shown`."""
    seen = set(shown)
    tasks = in_order(row["task"] for row in rows)
    queues = {task: iter([row for row in rows if row["task"] == task]) for task in tasks}
    chosen: list[Mapping[str, Any]] = []
    while queues and len(chosen) < count:
        for task in list(queues):
            row = next((row for row in queues[task] if row["sample_id"] not in seen), None)
            if row is None:
                del queues[task]
            elif len(chosen) < count:
                seen.add(row["sample_id"])
                chosen.append(row)
    return chosen


def _rollout_card(row: Mapping[str, Any]) -> Card:
    texts: dict[Role, str] = {"asked": row["question"], "truth": row["ground_truth"], "answered": row["response"]}
    answer = Answer(
        when=f"step {row['step']}",
        response=row["response"],
        value=row["value"],
        parts=json.loads(row["parts"]),
        finish_reason=row["finish_reason"],
        token_count=row["token_count"],
    )
    return Card(
        task=row["task"],
        kind=row["kind"],
        scene_id=row["scene_id"],
        question=row["question"],
        choices=json.loads(row["choices"]),
        ground_truth=row["ground_truth"],
        thumbnails=thumbnails(json.loads(row["images"]), texts),
        answers=(answer,),
    )


def changed_card(changed: Changed) -> Card:
    """The card of one question with both answers."""
    answers = [_held_out_answer(when, record) for when, record in changed.answers]
    return _held_out_card(changed.asked, *answers)


def _setting_card(record: AnswerRecord, repeated: bool) -> Card:
    when = [record.setting.replace("_", " ")] if record.setting else []
    when += [f"repeat {record.repeat + 1}"] if repeated else []
    return _held_out_card(record, _held_out_answer(" · ".join(when), record))


def _held_out_card(asked: AnswerRecord, *answers: Answer) -> Card:
    """The question, images and truth of `asked`, with the marks of its response."""
    texts: dict[Role, str] = {"asked": asked.question, "truth": asked.ground_truth, "answered": asked.response}
    return Card(
        task=asked.task,
        kind=asked.kind,
        scene_id=asked.scene_id,
        question=asked.question,
        choices=asked.choices,
        ground_truth=asked.ground_truth,
        thumbnails=thumbnails(asked.images, texts),
        answers=answers,
    )


def _held_out_answer(when: str, record: AnswerRecord) -> Answer:
    return Answer(when, record.response, record.value, record.parts, record.finish_reason, record.token_count)


def marks(texts: Mapping[Role, str]) -> Iterable[tuple[str, Mark]]:
    """The points that the texts name, with their cameras; a tag of the question is not marked again."""
    asked = {found.group(0) for found in TAG.finditer(texts.get("asked", ""))}
    for role, text in texts.items():
        for tag in dict.fromkeys(found.group(0) for found in TAG.finditer(text)):
            found = TAG.fullmatch(tag)
            if found is None or (role != "asked" and tag in asked):
                continue
            left, top = _place(float(found[3]), float(found[4]))
            if 0 <= left <= 100 and 0 <= top <= 100:
                yield found[2], Mark(role, found[1], round(left, 2), round(top, 2))


def _place(x: float, y: float) -> tuple[float, float]:
    """Pixels, or fractions as DriveBench writes them, in percent; no object is centred on an image's first pixel."""
    width, height = (1, 1) if max(x, y) <= 1 else (IMAGE_WIDTH, IMAGE_HEIGHT)
    return 100 * x / width, 100 * y / height


@lru_cache(maxsize=96)
def _data_uri(path: str) -> tuple[str | None, str | None]:
    """A small JPEG of an image file as a data URI, or why there is none (the file's folder stays private)."""
    try:
        image = draw_sweep(read_sweep(path)) if path.endswith(SWEEP_SUFFIX) else open_image(path)
    except DataError as error:
        return None, "not found" if "does not exist" in str(error) else "unreadable"
    image.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH), Image.Resampling.LANCZOS)
    return jpeg_data_uri(image, THUMBNAIL_QUALITY), None
