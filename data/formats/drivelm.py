"""DriveLM annotation files as driving samples: the train, challenge and llama formats, distinguished by content.

Files are read scene by scene (llama: entry by entry), so that memory does not grow with them. Released DriveLM files
have faults (empty answers, coordinates out of the image, missing photos). A faulty entry never stops a load: it is
listed under the name of its fault, and the rest is used. What the questions and answers of the three formats look like
is in `data.drivelm_questions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from data.admission import admitted, make_sample
from data.drivelm_questions import infer_task
from data.errors import DataError
from data.faults import MALFORMED, UNKNOWN_TAG, UNKNOWN_TASK, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.formats.nuscenes_images import (
    BadFrame,
    WrittenPaths,
    camera_images,
    check_samples_folder,
    paths_by_camera,
    written_paths,
)
from data.frame_ids import NamedFrames, frame_in_id, frames_of_entries, frames_of_scenes
from data.json_stream import items, members, outermost, small_value
from data.records import RecordError, expect, member, numbers, optional_text, text_member
from data.sample import TASKS, DrivingSample, KeyObject, Task

TAGS = (0, 1, 2, 3)
"""The challenge's metrics: accuracy, judge, language, match."""

_LLAMA_ID = re.compile(r"(?P<scene>.+)_(?P<frame>[^_]+)_(?P<index>\d+)")
_FORMATS = "DriveLM's train, challenge and llama formats"


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of any format: its image paths as written in the file, by camera, and its annotated objects."""

    scene_id: str
    frame_id: str
    written_paths: WrittenPaths | BadFrame
    objects: tuple[KeyObject, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """A question of any format; `task` is None where the format names none."""

    id: str
    frame: _Frame
    task: Task | None
    question: str
    answer: str


def read_drivelm(annotations: Path, image_root: Path, faults: Faults) -> Iterator[DrivingSample]:
    """Read a DriveLM annotation file, one sample after the other in bounded memory.

    Sample ids are `scene_frame_i` in all formats, i running over the frame's perception, prediction, planning and
    behavior questions, as in the official llama conversion.

    Args:
        annotations: JSON in the train format (scenes > key_frames > QA), the challenge format (the same, each QA with
            a `tag`) or the llama format (a list of conversations).
        image_root: the folder that holds `samples/CAM_FRONT/...`; a path in the file is resolved against it by its
            part from `samples/` on.
        faults: takes what is wrong with the entries, as they are met.

    Raises:
        DataError: the file is missing, is not JSON (when the place is reached) or not of these formats, or `image_root`
            holds no `samples` folder.
    """
    held = outermost(annotations)
    if held == "other":
        raise DataError(
            f"{annotations} holds a {type(small_value(annotations)).__name__}; a DriveLM file is an object of scenes "
            f"(train, challenge) or a list of conversations (llama)"
        )
    check_samples_folder(image_root)
    questions = _scene_questions(annotations, faults) if held == "object" else _llama_questions(annotations, faults)
    return admitted(_samples(questions, image_root.resolve(), faults), faults)


def _samples(questions: Iterator[_Question], image_root: Path, faults: Faults) -> Iterator[DrivingSample]:
    last: _Frame | None = None
    images: dict[str, str] | BadFrame = {}
    for question in questions:
        frame = question.frame
        if last is None or frame.written_paths != last.written_paths:
            written, last = frame.written_paths, frame
            images = written if isinstance(written, BadFrame) else camera_images(frame.frame_id, written, image_root)
        if isinstance(images, BadFrame):
            faults.drop(images.reason, question.id, images.note)
            continue
        sample = make_sample(
            faults,
            id=question.id,
            scene_id=frame.scene_id,
            frame_id=frame.frame_id,
            task=question.task or infer_task(question.question),
            question=question.question,
            answer=question.answer,
            images=images,
            objects=frame.objects,
        )
        if sample is not None:
            yield sample


# --- train and challenge ----------------------------------------------------------------------------------------------


def _scene_questions(file: Path, faults: Faults) -> Iterator[_Question]:
    for scene_id, scene in members(file):
        place = f"{file}: {scene_id}"
        try:
            frames = member(expect(scene, dict, place), "key_frames", dict, place)
        except RecordError as error:
            faults.drop(MALFORMED, scene_id, f"{error}; this is none of {_FORMATS}")
            continue
        for frame_id, record in frames.items():
            place = f"{file}: {scene_id}.key_frames.{frame_id}"
            try:
                frame = _scene_frame(scene_id, frame_id, expect(record, dict, place), place, faults)
                by_task = member(record, "QA", dict, place)
            except RecordError as error:
                faults.drop(MALFORMED, f"{scene_id}_{frame_id}", f"{error}; this is none of {_FORMATS}")
                continue
            yield from _frame_questions(frame, by_task, f"{place}.QA", faults)


def _frame_questions(frame: _Frame, by_task: dict[str, Any], place: str, faults: Faults) -> Iterator[_Question]:
    stem, number = f"{frame.scene_id}_{frame.frame_id}", 0
    for unknown in sorted(set(by_task) - set(TASKS)):
        entries, note = by_task[unknown], f"{place} has the unknown task {unknown}; tasks: {', '.join(TASKS)}"
        for index in range(max(1, len(entries) if isinstance(entries, list) else 0)):
            faults.drop(UNKNOWN_TASK, f"{stem}.{unknown}[{index}]", note)
    for task in TASKS:
        entries = by_task.get(task, [])
        if not isinstance(entries, list):
            faults.drop(MALFORMED, stem, f"{place}.{task} must be a list, got {type(entries).__name__}")
            continue
        for index, entry in enumerate(entries):
            at, id_ = f"{place}.{task}[{index}]", f"{stem}_{number}"
            number += 1
            try:
                question = text_member(expect(entry, dict, at), "Q", at)
                answer = optional_text(entry, "A", at)
            except RecordError as error:
                faults.drop(MALFORMED, id_, str(error))
                continue
            _note_tag(entry, id_, at, faults)
            yield _Question(id_, frame, task, question, answer)


def _note_tag(entry: dict[str, Any], id_: str, place: str, faults: Faults) -> None:
    if "tag" not in entry:
        return
    tag = entry["tag"]
    listed = tag if isinstance(tag, list) else [tag]
    if not listed or not all(type(one) is int and one in TAGS for one in listed):  # true is no tag
        faults.keep(UNKNOWN_TAG, id_, f"{place}.tag {brief(tag)} is none of {TAGS}; the question is used")


def _scene_frame(scene_id: str, frame_id: str, record: dict[str, Any], place: str, faults: Faults) -> _Frame:
    """The frame of a record of the train format; an object that is not as DriveLM writes it is listed and left out."""
    written: WrittenPaths | BadFrame
    try:
        written = paths_by_camera(record, "image_paths", place)
    except RecordError as error:
        written = BadFrame(MALFORMED, str(error))  # counted for each of its questions
    infos, at = record.get("key_object_infos") or {}, f"{place}.key_object_infos"
    if not isinstance(infos, dict):
        faults.keep(
            MALFORMED, at, f"{at} must be a dict, got {type(infos).__name__}; the frame is used without objects"
        )
        infos = {}
    return _Frame(scene_id, frame_id, written, tuple(key_objects(infos, at, faults)))


def key_objects(infos: dict[str, Any], place: str, faults: Faults) -> Iterator[KeyObject]:
    """The annotated objects of a frame; a malformed one is listed under its place and left out."""
    for tag, info in infos.items():
        try:
            yield _key_object(tag, info, f"{place}.{tag}")
        except RecordError as error:
            faults.keep(MALFORMED, f"{place}.{tag}", str(error))


def _key_object(tag: str, info: Any, place: str) -> KeyObject:
    info = expect(info, dict, place)
    box = info.get("2d_bbox")
    if box is not None:
        try:
            x1, y1, x2, y2 = numbers(box, f"{place}.2d_bbox", 4)
        except RecordError:
            raise RecordError(f"{place}.2d_bbox must hold four numbers x1, y1, x2, y2, got {brief(box)}") from None
        box = (x1, y1, x2, y2)
    return KeyObject(
        tag=tag,
        category=text_member(info, "Category", place),
        description=text_member(info, "Visual_description", place),
        status=text_member(info, "Status", place) or None,
        box=box,
    )


# --- llama ------------------------------------------------------------------------------------------------------------


def _llama_questions(file: Path, faults: Faults) -> Iterator[_Question]:
    for index, entry in enumerate(items(file)):
        place = f"{file}: [{index}]"
        try:
            yield _llama_question(entry, place)
        except RecordError as error:
            id_ = entry.get("id") if isinstance(entry, dict) else None
            faults.drop(MALFORMED, id_ if isinstance(id_, str) else f"[{index}]", str(error))


def _llama_question(entry: Any, place: str) -> _Question:
    id_ = member(expect(entry, dict, place), "id", str, place)
    found = _LLAMA_ID.fullmatch(id_)
    if found is None:
        raise RecordError(f"{place}.id must look like scene_frame_number, got {id_!r}")
    paths = [expect(path, str, f"{place}.image[{i}]") for i, path in enumerate(member(entry, "image", list, place))]
    texts: dict[str, str] = {}
    for turn_index, turn in enumerate(member(entry, "conversations", list, place)):
        at = f"{place}.conversations[{turn_index}]"
        texts[member(expect(turn, dict, at), "from", str, at)] = text_member(turn, "value", at)
    if "human" not in texts:
        raise RecordError(f"{place}.conversations has no turn from human")
    frame = _Frame(found["scene"], found["frame"], written_paths(paths), ())
    return _Question(id_, frame, None, texts["human"].replace("<image>", "").strip(), texts.get("gpt", ""))


# --- the format -------------------------------------------------------------------------------------------------------


class DriveLM(Format):
    """DriveLM-nuScenes. The content of a file shows which of the three formats it has."""

    class Settings(FormatSettings):
        """Where it lies."""

        annotations: Path
        """The JSON file: train, challenge or llama format."""
        image_root: Path
        """The folder that holds `samples/CAM_FRONT/...`."""

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (DriveLM annotations, nuScenes images)",
        spdx="CC-BY-NC-SA-4.0",
        non_commercial=True,
        attribution="DriveLM (Sima et al. 2023, OpenDriveLab); nuScenes (Caesar et al. 2020, Motional)",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_drivelm`."""
        return read_drivelm(self.settings.annotations, self.settings.image_root, faults)

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The key frames of scenes, or those that llama ids name."""
        if outermost(file) == "object":
            return frames_of_scenes(file)
        return frames_of_entries(file, lambda _, entry: frame_in_id(entry.get("id")))
