"""DriveLM annotation files as driving samples: the train, challenge and llama formats, told apart by content.

Released DriveLM files have faults (empty answers, coordinates out of the image, missing photos). A faulty entry never
stops a load: it is listed under the name of its fault, and the rest is used. What the questions and answers of the
three formats look like is in `data.drivelm_questions`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from data.coordinates import coordinate_pairs, outside_image
from data.drivelm_questions import infer_kind, infer_task, letter_of, parse_choices
from data.errors import DataError
from data.images import faulty_images
from data.sample import CAMERAS, TASKS, DrivingSample, KeyObject, Task

Format = Literal["train", "challenge", "llama"]

EMPTY_QUESTION = "empty_question"
EMPTY_ANSWER = "empty_answer"
WRONG_CAMERAS = "wrong_cameras"
FAULTY_IMAGE = "faulty_image"
UNKNOWN_TASK = "unknown_task"
ANSWER_NOT_AN_OPTION = "answer_not_an_option"
DUPLICATE_ID = "duplicate_id"
OUTSIDE_IMAGE = "coordinates_outside_image"

_LLAMA_ID = re.compile(r"(?P<scene>.+)_(?P<frame>[^_]+)_(?P<index>\d+)")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LoadedSamples:
    """What an annotation file held.

    `dropped` lists the ids of the questions that were left out, `kept_with_fault` of those that were used in spite of
    a fault, each by its reason; `notes` has one sentence per fault, naming the frame, file or object.
    """

    format: Format
    samples: tuple[DrivingSample, ...]
    dropped: dict[str, list[str]]
    kept_with_fault: dict[str, list[str]]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One sentence with every count, for logs and reports."""
        tasks = Counter(sample.task for sample in self.samples)
        counted = ", ".join(f"{tasks[task]} {task}" for task in TASKS if tasks[task])
        faults = [f"{len(ids)} dropped for {reason}" for reason, ids in self.dropped.items()]
        faults += [f"{len(ids)} kept with {reason}" for reason, ids in self.kept_with_fault.items()]
        scenes = len({sample.scene_id for sample in self.samples})
        return "; ".join([f"{len(self.samples)} questions of {scenes} scenes ({counted})", *faults])


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of any format: its image paths as written in the file, by camera, and its annotated objects."""

    scene_id: str
    frame_id: str
    written_paths: tuple[tuple[str, str], ...]
    objects: tuple[KeyObject, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """A question of any format; `task` is None where the format names none."""

    id: str
    frame: _Frame
    task: Task | None
    question: str
    answer: str


@dataclass(slots=True)
class _Faults:
    """Collects what is wrong while a file is read; a note is kept once however many questions it concerns."""

    dropped: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    kept: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[str, None] = field(default_factory=dict)

    def drop(self, reason: str, id: str, note: str) -> None:
        self.dropped[reason].append(id)
        self.notes[note] = None

    def keep(self, reason: str, id: str, note: str) -> None:
        self.kept[reason].append(id)
        self.notes[note] = None


def load_drivelm(annotations: Path, image_root: Path) -> LoadedSamples:
    """Read a DriveLM annotation file.

    Sample ids are `scene_frame_i` in all formats, i running over the frame's perception, prediction, planning and
    behavior questions, as in the official llama conversion.

    Args:
        annotations: JSON in the train format (scenes > key_frames > QA), the challenge format (the same, each QA with
            a `tag`) or the llama format (a list of conversations).
        image_root: the folder that holds `samples/CAM_FRONT/...`; a path in the file is resolved against it by its
            part from `samples/` on.

    Raises:
        DataError: the file is missing, is not JSON, has an unknown structure (named by its place), holds no usable
            question, or `image_root` holds no `samples` folder.
    """
    tree = _read_json(annotations)
    if not (image_root / "samples").is_dir():
        raise DataError(
            f"data.image_root {image_root} has no folder samples; it must hold samples/CAM_FRONT/... (nuScenes layout)"
        )
    format_, questions = _read_questions(tree, str(annotations))
    faults = _Faults()
    images = _resolve_frames(questions, image_root.resolve())
    samples: dict[str, DrivingSample] = {}
    for question in questions:
        if question.id in samples:
            faults.drop(DUPLICATE_ID, question.id, f"question {question.id} is in the file more than once")
            continue
        sample = _build_sample(question, images[_key(question.frame)], faults)
        if sample is not None:
            samples[sample.id] = sample
    loaded = LoadedSamples(
        format_, tuple(samples.values()), dict(faults.dropped), dict(faults.kept), tuple(faults.notes)
    )
    if not loaded.samples:
        first = f"; first: {loaded.notes[0]}" if loaded.notes else ""
        raise DataError(f"{annotations} holds no usable question: {loaded.summary}{first}")
    return loaded


def _build_sample(question: _Question, images: dict[str, str] | _BadFrame, faults: _Faults) -> DrivingSample | None:
    """One sample, or None with the fault noted."""
    if isinstance(images, _BadFrame):
        faults.drop(images.reason, question.id, images.note)
        return None
    for text, reason, what in (
        (question.question, EMPTY_QUESTION, "question"),
        (question.answer, EMPTY_ANSWER, "answer"),
    ):
        if not text:
            faults.drop(reason, question.id, f"question {question.id} has an empty {what}")
            return None
    task = question.task or infer_task(question.question)
    if task is None:
        faults.drop(UNKNOWN_TASK, question.id, f"no task is known for the wording {question.question!r}")
        return None
    choices, answer = parse_choices(question.question), question.answer
    if choices:
        letter = letter_of(answer, choices)
        if letter is None:
            faults.drop(
                ANSWER_NOT_AN_OPTION, question.id, f"question {question.id} has the answer {answer!r}, not an option"
            )
            return None
        answer = letter
    _note_outside(question, faults)
    return DrivingSample(
        id=question.id,
        scene_id=question.frame.scene_id,
        frame_id=question.frame.frame_id,
        task=task,
        kind=infer_kind(question.question, answer, choices),
        question=question.question,
        answer=answer,
        images=images,
        choices=choices,
        objects=question.frame.objects,
    )


def _note_outside(question: _Question, faults: _Faults) -> None:
    """List a question once when it, its answer or an object of its frame points out of the image."""
    notes = [
        f"question {question.id} has the point {pair} outside the 1600x900 image in its {what}"
        for what, text in (("question", question.question), ("answer", question.answer))
        for pair in coordinate_pairs(text)
        if outside_image(pair)
    ]
    for item in question.frame.objects:
        corners = [item.box[:2], item.box[2:]] if item.box else []
        if any(outside_image(pair) for pair in [*coordinate_pairs(item.tag), *corners]):
            notes.append(f"frame {question.frame.frame_id}: object {item.tag} with box {item.box} leaves the image")
    if notes:
        faults.keep(OUTSIDE_IMAGE, question.id, notes[0])
        faults.notes.update(dict.fromkeys(notes))


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _BadFrame:
    """Why no question of a frame can be used."""

    reason: str
    note: str


def _key(frame: _Frame) -> tuple[tuple[str, str], ...]:
    return frame.written_paths


def _resolve_frames(
    questions: list[_Question], image_root: Path
) -> dict[tuple[tuple[str, str], ...], dict[str, str] | _BadFrame]:
    """Absolute image paths by camera for every frame, every image read once; or why the frame cannot be used."""
    frames = {_key(question.frame): question.frame for question in questions}
    resolved = {key: _resolve_frame(frame, image_root) for key, frame in frames.items()}
    unreadable = faulty_images(
        path for images in resolved.values() if isinstance(images, dict) for path in images.values()
    )
    for key, images in resolved.items():
        if isinstance(images, dict):
            broken = [unreadable[path] for path in images.values() if path in unreadable]
            if broken:
                resolved[key] = _BadFrame(FAULTY_IMAGE, f"frame {frames[key].frame_id}: {broken[0]}")
    return resolved


def _resolve_frame(frame: _Frame, image_root: Path) -> dict[str, str] | _BadFrame:
    cameras = Counter(camera for camera, _ in frame.written_paths)
    missing = [camera for camera in CAMERAS if camera not in cameras]
    odd = [camera for camera, times in cameras.items() if camera not in CAMERAS or times > 1]
    if missing or odd:
        found = [f"no image of {', '.join(missing)}"] if missing else []
        found += [f"an unknown or repeated camera {', '.join(odd)}"] if odd else []
        return _BadFrame(WRONG_CAMERAS, f"frame {frame.frame_id} has {' and '.join(found)}; six cameras are needed")
    written = dict(frame.written_paths)
    images: dict[str, str] = {}
    for camera in CAMERAS:
        parts = PurePosixPath(written[camera].replace("\\", "/")).parts
        if "samples" not in parts or ".." in parts[parts.index("samples") :]:
            return _BadFrame(
                FAULTY_IMAGE, f"frame {frame.frame_id}: image path {written[camera]!r} has no part from samples/ on"
            )
        images[camera] = str(image_root.joinpath(*parts[parts.index("samples") :]))
    return images


# --- the three structures ---------------------------------------------------------------------------------------------


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"data.annotations {path} does not exist or is not a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: line {error.lineno} column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start}: {error.reason}") from None


def _read_questions(tree: Any, file: str) -> tuple[Format, list[_Question]]:
    if isinstance(tree, list):
        return "llama", list(_llama_questions(tree, file))
    if not isinstance(tree, dict):
        raise DataError(
            f"{file} holds a {type(tree).__name__}; a DriveLM file is an object of scenes (train, challenge) or a "
            f"list of conversations (llama)"
        )
    tagged: list[bool] = []
    questions = list(_scene_questions(tree, file, tagged))
    return ("challenge" if tagged and all(tagged) else "train"), questions


def _scene_questions(tree: dict[str, Any], file: str, tagged: list[bool]) -> Iterator[_Question]:
    """The questions of the train and challenge formats; notes for each whether it has the challenge's `tag`."""
    for scene_id, scene in tree.items():
        place = f"{file}: {scene_id}"
        frames = _member(_expect(scene, dict, place), "key_frames", dict, place)
        for frame_id, record in frames.items():
            place = f"{file}: {scene_id}.key_frames.{frame_id}"
            frame = _scene_frame(scene_id, frame_id, _expect(record, dict, place), place)
            number = 0
            by_task = _member(record, "QA", dict, place)
            unknown = sorted(set(by_task) - set(TASKS))
            if unknown:
                raise DataError(f"{place}.QA has the unknown task {unknown[0]}; tasks: {', '.join(TASKS)}")
            for task in TASKS:
                for index, entry in enumerate(_expect(by_task.get(task, []), list, f"{place}.QA.{task}")):
                    at = f"{place}.QA.{task}[{index}]"
                    question = _text(_expect(entry, dict, at), "Q", at)
                    answer = _text(entry, "A", at)
                    tagged.append("tag" in entry)
                    yield _Question(f"{scene_id}_{frame_id}_{number}", frame, task, question, answer)
                    number += 1


def _scene_frame(scene_id: str, frame_id: str, record: dict[str, Any], place: str) -> _Frame:
    paths = _member(record, "image_paths", dict, place)
    written = tuple((camera, _expect(path, str, f"{place}.image_paths.{camera}")) for camera, path in paths.items())
    infos = _expect(record.get("key_object_infos") or {}, dict, f"{place}.key_object_infos")
    objects = tuple(_key_object(tag, info, f"{place}.key_object_infos.{tag}") for tag, info in infos.items())
    return _Frame(scene_id, frame_id, written, objects)


def _key_object(tag: str, info: Any, place: str) -> KeyObject:
    info = _expect(info, dict, place)
    box = info.get("2d_bbox")
    if box is not None:
        box = _expect(box, list, f"{place}.2d_bbox")
        if len(box) != 4 or not all(isinstance(edge, int | float) for edge in box):
            raise DataError(f"{place}.2d_bbox must hold four numbers x1, y1, x2, y2, got {box}")
        box = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return KeyObject(
        tag=tag,
        category=_text(info, "Category", place),
        description=_text(info, "Visual_description", place),
        status=_text(info, "Status", place) or None,
        box=box,
    )


def _llama_questions(entries: list[Any], file: str) -> Iterator[_Question]:
    for index, entry in enumerate(entries):
        place = f"{file}: [{index}]"
        id_ = _member(_expect(entry, dict, place), "id", str, place)
        found = _LLAMA_ID.fullmatch(id_)
        if found is None:
            raise DataError(f"{place}.id must look like scene_frame_number, got {id_!r}")
        paths = _member(entry, "image", list, place)
        written = tuple((_camera_of(_expect(path, str, f"{place}.image[{i}]")), path) for i, path in enumerate(paths))
        turns = _member(entry, "conversations", list, place)
        texts: dict[str, str] = {}
        for turn_index, turn in enumerate(turns):
            at = f"{place}.conversations[{turn_index}]"
            texts[_member(_expect(turn, dict, at), "from", str, at)] = _text(turn, "value", at)
        if "human" not in texts:
            raise DataError(f"{place}.conversations has no turn from human")
        frame = _Frame(found["scene"], found["frame"], written, ())
        question = texts["human"].replace("<image>", "").strip()
        yield _Question(id_, frame, None, question, texts.get("gpt", ""))


def _camera_of(path: str) -> str:
    """The camera is the name of the folder in which the image lies."""
    return PurePosixPath(path.replace("\\", "/")).parent.name


def _text(record: Mapping[str, Any], key: str, place: str) -> str:
    """A text member, stripped; null reads as empty."""
    if key not in record:
        raise DataError(f"{place} has no {key!r}")
    value = record[key]
    return "" if value is None else _expect(value, str, f"{place}.{key}").strip()


def _member(record: Mapping[str, Any], key: str, type_: type[_T], place: str) -> _T:
    if key not in record:
        raise DataError(f"{place} has no {key!r}; this is none of DriveLM's train, challenge and llama formats")
    return _expect(record[key], type_, f"{place}.{key}")


def _expect(value: Any, type_: type[_T], place: str) -> _T:
    if not isinstance(value, type_):
        raise DataError(f"{place} must be a {type_.__name__}, got {type(value).__name__}")
    return value
