"""DriveLM-CARLA: questions about one front camera in simulation, in its two layouts.

As it is generated, a file holds the turns of a conversation (question and answer alternate) for many frames; as it is
released, each frame is a JSON file of its own with questions by task. Pixels are those of the CARLA camera, not of the
1600x900 frame, so boxes are not taken over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from data.admission import admitted, make_sample
from data.driving.codec import book_of
from data.errors import DataError
from data.faults import FAULTY_IMAGE, MALFORMED, UNKNOWN_TASK, Faults
from data.formats.carla_drives import action_of
from data.formats.format import Format, FormatSettings, Licence
from data.json_stream import items, outermost, small_value
from data.records import RecordError, expect, member, optional_text, text_member
from data.sample import TASKS, DrivingSample, KeyObject, Task
from data.tokens.codebook import Codebook

CAMERA = "CAM_FRONT"
OBJECTS = "key_object_infos"
_LISTED = "llava_format.item"


def read_drivelm_carla(
    source: Path, image_root: Path, faults: Faults, book: Codebook | None = None
) -> Iterator[DrivingSample]:
    """Read DriveLM-CARLA, one sample after the other in bounded memory.

    Sample ids are `scene_frame_i`: the scene is the folder of the route, the frame the image's name, i counts the
    frame's questions as they stand.

    Args:
        source: a generated file ({llava_format: [{image, conversations}]} or that list alone), or a folder of released
            files ({QA, key_object_infos, image_paths}), one a frame.
        image_root: the folder that image paths are relative to; a path is tried whole, then from each folder on.
        faults: takes what is wrong with the entries.
        book: each frame is also asked what to do, the answer being an action token of this; None: it is not.

    Raises:
        DataError: there is no such file or folder, or it is not JSON.
    """
    if not image_root.is_dir():
        raise DataError(f"image_root {image_root} does not exist or is not a folder")
    if source.is_dir():
        frames = _released(source, faults)
    else:
        held = outermost(source)
        if held == "other":
            raise DataError(f"{source} is neither a list of conversations nor an object with llava_format")
        frames = enumerated(source, items(source, "item" if held == "list" else _LISTED))
    return admitted(_samples(frames, image_root.resolve(), faults, book), faults)


def enumerated(source: Path, entries: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    """Entries with the place of each, for error sentences."""
    return ((f"{source}: [{index}]", entry) for index, entry in enumerate(entries))


def _released(folder: Path, faults: Faults) -> Iterator[tuple[str, Any]]:
    for file in sorted(folder.rglob("*.json")):
        try:
            yield str(file), small_value(file)
        except DataError as error:
            faults.drop(MALFORMED, str(file), str(error))


def _samples(
    frames: Iterator[tuple[str, Any]], root: Path, faults: Faults, book: Codebook | None
) -> Iterator[DrivingSample]:
    for place, frame in frames:
        try:
            image, infos, questions = _frame(frame, place, faults)
        except RecordError as error:
            faults.drop(MALFORMED, place, str(error))
            continue
        path = PurePosixPath(image)
        scene, name = "/".join(path.parts[-4:-2]) or "scene", path.stem
        found = _find(root, path)
        if found is None:
            for number in range(max(1, len(questions))):
                note = f"{place}: image {image!r} is not in image_root {root}"
                faults.drop(FAULTY_IMAGE, f"{f'{scene}_{name}' if name else place}_{number}", note)
            continue
        objects = tuple(_objects(infos, place, faults))
        for number, (at, task, entry, keys) in enumerate(questions):
            id_ = f"{scene}_{name}_{number}"
            try:
                records = (expect(turn, dict, at) for turn in entry)
                question, answer = (text_member(turn, key, at) for turn, key in zip(records, keys, strict=True))
            except RecordError as error:
                faults.drop(MALFORMED, id_, str(error))
                continue
            if task not in TASKS:
                faults.drop(UNKNOWN_TASK, id_, f"{at} has the unknown task {task}; tasks: {', '.join(TASKS)}")
                continue
            sample = make_sample(
                faults,
                id=id_,
                scene_id=scene,
                frame_id=f"{scene}/{name}",
                task=_task(task),
                question=question,
                answer=answer,
                images={CAMERA: found},
                objects=objects,
            )
            if sample is not None:
                yield sample
        if book is not None and (sample := _acted(f"{scene}_{name}", scene, found, book, faults)) is not None:
            yield sample


def _acted(name: str, scene: str, image: str, book: Codebook, faults: Faults) -> DrivingSample | None:
    """What is done at a frame, as a question of its own."""
    if (said := action_of(Path(image), book, f"{name}_act", faults)) is None:
        return None
    frame = f"{scene}/{name.removeprefix(f'{scene}_')}"
    return make_sample(
        faults,
        id=f"{name}_act",
        scene_id=scene,
        frame_id=frame,
        task="behavior",
        kind="open_ended",
        question=said[0],
        answer=said[1],
        images={CAMERA: image},
    )


_Entry = tuple[str, str, tuple[Any, Any], tuple[str, str]]
"""Place, task, the records of question and answer, and the keys of their texts."""


def _frame(frame: Any, place: str, faults: Faults) -> tuple[str, dict[str, Any], list[_Entry]]:
    """The image path, empty where there is none, object infos and questions of a frame in either layout."""
    record = expect(frame, dict, place)
    if "conversations" in record:
        groups = member(record, "conversations", dict, place)
        infos = expect(groups.get(OBJECTS) or {}, dict, f"{place}.{OBJECTS}")
        turns = {key: value for key, value in groups.items() if key != OBJECTS}
        asked = [entry for key, value in turns.items() for entry in _turn_pairs(value, f"{place}.{key}", faults)]
        return _path(record.get("image")), infos, asked
    paths = member(record, "image_paths", dict, place)
    infos = expect(record.get(OBJECTS) or {}, dict, f"{place}.{OBJECTS}")
    questions = [
        (f"{place}.QA.{task}[{index}]", task, (entry, entry), ("Q", "A"))
        for task, entries in member(record, "QA", dict, place).items()
        for index, entry in enumerate(expect(entries, list, f"{place}.QA.{task}"))
    ]
    return _path(paths.get(CAMERA)), infos, questions


def _path(written: Any) -> str:
    return written if isinstance(written, str) else ""


def _turn_pairs(turns: Any, place: str, faults: Faults) -> Iterator[_Entry]:
    """Question and answer turns in twos; from a turn that is out of order on, the rest of its group is left out."""
    try:
        listed = expect(turns, list, place)
        for index in range(0, len(listed), 2):
            at = f"{place}[{index}]"
            pair = [expect(turn, dict, at) for turn in listed[index : index + 2]]
            if [turn.get("from") for turn in pair] != ["human", "gpt"]:
                raise RecordError(f"{at} and the next are no turn of human followed by one of gpt")
            yield at, optional_text(pair[0], "type", at), (pair[0], pair[1]), ("value", "value")
    except RecordError as error:
        faults.drop(MALFORMED, place, str(error))


def _task(name: str) -> Task | None:
    return next((task for task in TASKS if task == name), None)


def _objects(infos: dict[str, Any], place: str, faults: Faults) -> Iterator[KeyObject]:
    for tag, info in infos.items():
        at = f"{place}.{OBJECTS}.{tag}"
        try:
            record = expect(info, dict, at)
            found = KeyObject(
                tag, optional_text(record, "Category", at), optional_text(record, "Visual_description", at)
            )
            yield replace(found, status=optional_text(record, "Status", at) or None)
        except RecordError as error:
            faults.keep(MALFORMED, at, str(error))


def _find(root: Path, path: PurePosixPath) -> str | None:
    """The image under the root: its whole path, else without its first folder, and so on."""
    parts = [part for part in path.parts if part not in ("/", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    candidates = (root.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)


class DriveLMCarla(Format):
    """DriveLM-CARLA, in either layout."""

    class Settings(FormatSettings):
        """Where it lies."""

        annotations: Path
        """The JSON file of conversations, or a folder of one file for each frame."""
        image_root: Path
        """The folder that image paths are relative to."""
        codebook: str | None = None
        """Also ask of each frame what to do, with the expert's motion as an action token of this codebook: a file of
        `python -m commands.driving_tokens actions`. The recording's measurements lie beside its images."""

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (DriveLM-CARLA)",
        spdx="CC-BY-NC-SA-4.0",
        non_commercial=True,
        attribution="DriveLM (Sima et al. 2023, OpenDriveLab); made in CARLA (Dosovitskiy et al. 2017)",
    )
    images_per_prompt = 1

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_drivelm_carla`."""
        given = self.settings
        book = book_of(given.codebook) if given.codebook else None
        return read_drivelm_carla(given.annotations, given.image_root, faults, book)
