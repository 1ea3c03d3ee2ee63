"""The DriveLM challenge's answer file (test_eval.json): questions with tags, frame by frame. No torch, no ray.

The scorer needs no images and strings exactly as written, which `data.formats.drivelm` strips; hence a reader of its
own.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

from data.errors import DataError
from data.sample import TASKS
from data.text_file import read_text, unreadable

MISSING_KEY = "missing_key"
WRONG_TYPE = "wrong_type"
UNKNOWN_TASK = "unknown_task"
UNKNOWN_TAG = "unknown_tag"
NO_TAG = "no_tag"
EMPTY_TRUTH = "empty_truth"
DUPLICATE_KEY = "duplicate_key"

ACCURACY, JUDGE, LANGUAGE, MATCH = 0, 1, 2, 3
TAGS = (ACCURACY, JUDGE, LANGUAGE, MATCH)

_T = TypeVar("_T")
_D = TypeVar("_D")


@dataclass(frozen=True, slots=True)
class TaggedQuestion:
    """A question of the challenge, its texts as written. Without a known tag it is in no score.

    `first` says that it is its frame's first, whose matched points let the frame's other questions be scored.
    """

    id: str
    question: str
    truth: str
    tags: frozenset[int]
    first: bool


@dataclass(frozen=True, slots=True)
class ChallengeAnswers:
    """An answer file: the readable questions of each frame in order, and what was left out or odd.

    `faults` lists ids or places by reason, `notes` has a sentence for each.
    """

    frames: tuple[tuple[TaggedQuestion, ...], ...]
    faults: dict[str, list[str]]
    notes: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """The ids of the questions, in the order of the file."""
        return [question.id for frame in self.frames for question in frame]


def read_answers(path: Path) -> ChallengeAnswers:
    """Read an answer file.

    A question's id is `scene_frame_i`, i running over the frame's perception, prediction, planning and behavior
    questions, faulty ones counted in. A fault leaves its question, list, frame or scene out and is listed.

    Raises:
        DataError: the file cannot be read, is no answer file, or holds no usable question.
    """
    reader = _Reader()
    tree = _load(path, reader)
    frames: list[tuple[TaggedQuestion, ...]] = []
    for scene_id, scene in tree.items():
        for frame_id, frame in reader.member(scene, "key_frames", dict, scene_id, {}).items():
            frames.append(reader.frame(frame, f"{scene_id}_{frame_id}"))
    if not any(question.truth.strip() for frame in frames for question in frame) and any(frames):
        raise DataError(f"{path} holds questions without a true answer: a model can be asked, nothing can be scored")
    if not any(question.tags for frame in frames for question in frame):
        first = f"; first: {reader.notes[0]}" if reader.notes else ""
        raise DataError(
            f"{path} holds no question with a tag{first}; needed is the challenge's answer file, test_eval.json"
        )
    return ChallengeAnswers(tuple(frames), dict(reader.faults), tuple(reader.notes))


class _Reader:
    """Takes records apart and lists what is wrong with them."""

    def __init__(self) -> None:
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.notes: list[str] = []

    def fault(self, reason: str, place: str, note: str) -> None:
        self.faults[reason].append(place)
        self.notes.append(note)

    def member(self, record: Any, key: str, type_: type[_T], place: str, without: _D) -> _T | _D:
        """A member of a record; `without` when it is missing or of another type."""
        if not isinstance(record, dict):
            self.fault(WRONG_TYPE, place, f"{place} must be an object, got {type(record).__name__}")
        elif key not in record:
            self.fault(MISSING_KEY, place, f"{place} has no {key!r}")
        elif not isinstance(record[key], type_):
            self.fault(
                WRONG_TYPE, place, f"{place}: {key} must be a {type_.__name__}, got {type(record[key]).__name__}"
            )
        else:
            return record[key]
        return without

    def frame(self, frame: Any, place: str) -> tuple[TaggedQuestion, ...]:
        """The readable questions of a frame."""
        by_task = self.member(frame, "QA", dict, place, {})
        for task in by_task:
            if task not in TASKS:
                self.fault(UNKNOWN_TASK, f"{place}.QA.{task}", f"{place}.QA.{task} is no known task; it is left out")
        lists = [self.member(by_task, task, list, f"{place}.QA", []) for task in TASKS]
        found = [self.question(entry, f"{place}_{index}", index == 0) for index, entry in enumerate(chain(*lists))]
        return tuple(question for question in found if question)

    def question(self, entry: Any, id_: str, first: bool) -> TaggedQuestion | None:
        """A question, or None when it lacks a text."""
        question = self.member(entry, "Q", str, id_, None)
        truth = self.member(entry, "A", str, id_, None) if question is not None else None
        if question is None or truth is None:
            return None
        if not truth.strip():
            self.fault(EMPTY_TRUTH, id_, f"{id_} has an empty answer in the answer file")
        tags = self.member(entry, "tag", list, id_, None)
        known = frozenset(tag for tag in tags or () if type(tag) is int and tag in TAGS)  # true is no tag
        unknown = [tag for tag in tags or () if type(tag) is not int or tag not in TAGS]
        if unknown:
            self.fault(UNKNOWN_TAG, id_, f"{id_} has the unknown tag {brief(unknown[0])}; tags: 0, 1, 2, 3")
        elif tags == []:
            self.fault(NO_TAG, id_, f"{id_} has no tag, so that no score uses it")
        return TaggedQuestion(id_, question, truth, known, first)

    def pairs(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object of the JSON file; of a key that stands twice the last counts, as everywhere in Python."""
        record = dict(members)
        for key in [key for key, times in Counter(key for key, _ in members).items() if times > 1]:
            self.fault(DUPLICATE_KEY, key, f"the key {key!r} stands more than once in one object; the last counts")
        return record


def _load(path: Path, reader: _Reader) -> dict[str, Any]:
    try:
        tree = json.loads(read_text(path), object_pairs_hook=reader.pairs)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    if not isinstance(tree, dict):
        raise DataError(
            f"{path} holds a {type(tree).__name__}; an answer file is an object of scenes (were the two files swapped?)"
        )
    return tree
