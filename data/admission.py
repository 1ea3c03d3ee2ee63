"""What every loader does with an entry it has read: makes the sample, and checks ids, images and coordinates.

Works on streams, so a reader's generator stays a generator. Of a file only its ids stay in memory, DriveLM's as a bit
each (`SeenIds`), and a bounded number of image checks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from cachetools import LRUCache

from data.coordinates import coordinate_pairs, has_places, odd_groups, outside_image
from data.drivelm_questions import infer_kind, letter_of, parse_choices
from data.errors import CONTROL
from data.faults import (
    ANSWER_NOT_AN_OPTION,
    DUPLICATE_ID,
    EMPTY_ANSWER,
    EMPTY_QUESTION,
    FAULTY_IMAGE,
    MALFORMED,
    ODD_COORDINATES,
    OUTSIDE_IMAGE,
    UNKNOWN_TASK,
    Faults,
)
from data.images import faulty_images
from data.sample import IMAGE_HEIGHT, IMAGE_WIDTH, LIDAR, TASKS, DrivingSample, Kind, Task, task_fault
from data.uris import is_uri, refusals

_CHUNK = 256
"""Samples whose images are checked together."""
_KNOWN_IMAGES = 16_384
"""Images whose check is remembered: questions about one frame may lie apart in a file."""
_NUMBERED = re.compile(r"(?P<stem>.*)_(?P<number>0|[1-9]\d{0,3})", re.DOTALL)


def make_sample(
    faults: Faults,
    *,
    id: str,
    scene_id: str,
    frame_id: str,
    task: Task | None,
    question: str,
    answer: str,
    images: dict[str, str],
    choices: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    **others: Any,
) -> DrivingSample | None:
    """The sample of an entry, or None with its fault listed.

    Options are read from the question unless `choices` gives them, and the answer becomes the letter of one; the kind
    follows from question and answer unless given. Where the faults allow it, the answer may be empty.
    """
    if lacks_text(faults, id, question, answer, f"question {id}"):
        return None
    if task is None:
        faults.drop(UNKNOWN_TASK, id, f"question {id}: no task is known for the wording {question!r}")
        return None
    choices = parse_choices(question) if choices is None else dict(choices)
    if choices and answer:
        letter = letter_of(answer, choices)
        if letter is None:
            faults.drop(ANSWER_NOT_AN_OPTION, id, f"question {id} has the answer {answer!r}, not an option")
            return None
        answer = letter
    return DrivingSample(
        id=id,
        scene_id=scene_id,
        frame_id=frame_id,
        task=task,
        kind=kind or infer_kind(question, answer, choices),
        question=question,
        answer=answer,
        images=images,
        choices=choices,
        **others,
    )


def lacks_text(faults: Faults, id: str, question: str, answer: str, what: str) -> bool:
    """Whether an entry has no question, or no answer where it needs one, which is listed."""
    given = ((question, EMPTY_QUESTION, "question"), (answer or faults.unanswered, EMPTY_ANSWER, "answer"))
    lacking = next(((reason, part) for text, reason, part in given if not text), None)
    if lacking is not None:
        faults.drop(lacking[0], id, f"{what} has an empty {lacking[1]}")
    return lacking is not None


def admitted(samples: Iterable[DrivingSample], faults: Faults, *, check_images: bool = True) -> Iterator[DrivingSample]:
    """The samples whose images can be read and whose id is new; odd and outlying coordinates are listed and kept.

    One with a control character in an id, or in the name of a view, is listed and left out.

    Without `check_images` no image is looked at.
    """
    seen = SeenIds()
    named = (sample for sample in samples if not _has_odd_name(sample, faults))
    for sample in _with_readable_images(named, faults) if check_images else named:
        if not seen.add(sample.id):
            faults.drop(DUPLICATE_ID, sample.id, f"question {sample.id} is in the file more than once")
            continue
        _note_coordinates(sample, faults)
        yield sample


def _has_odd_name(sample: DrivingSample, faults: Faults) -> bool:
    names = (sample.id, sample.scene_id, sample.frame_id, *sample.images)
    odd = next((name for name in names if CONTROL.search(name)), None) if CONTROL.search("".join(names)) else None
    fault = None if odd is None else f"the name {odd!r} holds a control character"
    fault = fault or _odd_task(sample.task, faults)
    if fault is not None:
        faults.drop(MALFORMED, sample.id, f"question {sample.id}: {fault}")
    return fault is not None


def _odd_task(task: Task, faults: Faults) -> str | None:
    """What is wrong with the name of a task; one that is nearly a paper's task is noted, and used as it is."""
    if task in TASKS:
        return None
    if task.lower() in TASKS:
        return f"the task {task} is written {task.lower()}"
    if close := difflib.get_close_matches(task, TASKS, n=1, cutoff=0.8):
        faults.tell(UNKNOWN_TASK, f"the task {task} is one of the data's own; if {close[0]} is meant, write it so")
    return task_fault(task)


class SeenIds:
    """A set of ids that takes a bit for an id `stem_number` of a stem that was seen (DriveLM: `scene_frame_7`).

    Numbers above 9999 and all other ids are kept whole.
    """

    def __init__(self) -> None:
        """An empty set."""
        self._numbers: dict[str, int] = {}
        self._others: set[str] = set()

    def add(self, id: str) -> bool:
        """Add an id; whether it was new."""
        found = _NUMBERED.fullmatch(id)
        if found is None:
            new = id not in self._others
            self._others.add(id)
            return new
        numbers, bit = self._numbers.get(found["stem"], 0), 1 << int(found["number"])
        self._numbers[found["stem"]] = numbers | bit
        return not numbers & bit


def _with_readable_images(samples: Iterable[DrivingSample], faults: Faults) -> Iterator[DrivingSample]:
    known: LRUCache[str, str | None] = LRUCache(_KNOWN_IMAGES)
    stream = iter(samples)
    while chunk := list(islice(stream, _CHUNK)):
        paths = {path for sample in chunk for path in _image_paths(sample)}
        checked = {path: known[path] for path in paths if path in known}
        unread = paths - checked.keys()
        uris = {path for path in unread if is_uri(path)}  # their content is looked at where it is used
        faulty = faulty_images(unread - uris) if unread - uris else {}
        faulty |= refusals(uris)
        checked |= {path: faulty.get(path) for path in unread}
        known.update(checked)
        for sample in chunk:
            fault = next((said for path in _image_paths(sample) if (said := checked[path]) is not None), None)
            if fault is None:
                yield sample
            else:
                faults.drop(FAULTY_IMAGE, sample.id, f"frame {sample.frame_id}: {fault}")


def _image_paths(sample: DrivingSample) -> list[str]:
    return [path for name, path in sample.images.items() if name != LIDAR]


def _note_coordinates(sample: DrivingSample, faults: Faults) -> None:
    """List a question once when it, its answer or an object of its frame has odd or outlying coordinates."""
    texts = [
        (what, text) for what, text in (("question", sample.question), ("answer", sample.answer)) if has_places(text)
    ]
    if not texts and not sample.objects:
        return
    odd = [
        f"question {sample.id} has {group} with an odd count of numbers in its {what}"
        for what, text in texts
        for group in odd_groups(text)
    ]
    if odd:
        faults.keep(ODD_COORDINATES, sample.id, *odd)
    if sample.coordinate_unit == "metres":
        return
    width, height = (IMAGE_WIDTH, IMAGE_HEIGHT) if sample.coordinate_unit == "pixels" else (1, 1)
    outside = [
        f"question {sample.id} has the point {pair} outside the {width}x{height} image in its {what}"
        for what, text in texts
        for pair in coordinate_pairs(text)
        if outside_image(pair, sample.coordinate_unit)
    ]
    for item in sample.objects:
        corners = [item.box[:2], item.box[2:]] if item.box else []
        if any(outside_image(pair) for pair in [*coordinate_pairs(item.tag), *corners]):
            outside.append(f"frame {sample.frame_id}: object {item.tag} with box {item.box} leaves the image")
    if outside:
        faults.keep(OUTSIDE_IMAGE, sample.id, *outside)
