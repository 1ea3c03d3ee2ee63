"""DriveBench: the clean questions, those about corruptions, and those asked without images.

One list of questions serves 17 settings; what differs is where the images come from: the nuScenes frames, a folder of
corrupted copies, or nowhere. Coordinates are fractions of the image (x/1600, y/900) and are left so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from pydantic import model_validator

from data.admission import admitted, make_sample
from data.drivelm_questions import infer_task
from data.errors import DataError
from data.faults import MALFORMED, UNKNOWN_TAG, UNKNOWN_TASK, Faults
from data.formats.drivelm import key_objects
from data.formats.format import Format, FormatSettings, Licence
from data.formats.nuscenes_images import BadFrame, camera_images, paths_by_camera
from data.frame_ids import NamedFrames, frames_of_entries, frames_of_scenes
from data.json_stream import items, members, outermost
from data.records import RecordError, expect, member, optional_text, text_member
from data.sample import CAMERAS, TASKS, DrivingSample, KeyObject, Task

ROBUST = "robust_qas"
"""`question_type` of the questions about a corruption."""
TAGS = (0, 1, 2, 3, 4)
"""0 accuracy, 1 judge, 2 language, 3 match, 4 caption (about corruptions only)."""

_EXPLAINED = re.compile(r"\s*,?\s*Explanation:\s*", re.IGNORECASE)
_CONSIDERING = re.compile(r"\s+(?:considering|under)\s+the\s+[\w .-]+?(?=[?.])")

Objects = dict[tuple[str, str], tuple[KeyObject, ...]]
"""Scene and frame token to annotated objects."""


def read_drivebench(
    annotations: Path, image_root: Path | None, faults: Faults, visual_descriptions: Path | None = None
) -> Iterator[DrivingSample]:
    """Read a DriveBench question file, one sample after the other; the objects of all frames are kept in memory.

    Sample ids are `scene_frame_i`, i counting the questions of a frame in the file.

    Args:
        annotations: JSON list of {scene_token, frame_token, question_type, question, answer, tag, image_path}. A
            question has the cameras whose paths it brings: its own preprocessing keeps those that are named.
        image_root: where the images lie: a folder with `samples/CAM_FRONT/...` (clean), or one with `CAM_FRONT/...`
            (a corruption, such as `corruption/Fog`). None: every question is asked without images.
        faults: takes what is wrong with the entries.
        visual_descriptions: `visual_description.json`, whose objects two of the judge's rubrics also receive.

    Raises:
        DataError: a file is missing or is not JSON, or `image_root` has no camera folders.
    """
    if outermost(annotations) != "list":
        raise DataError(f"{annotations} is no list of questions, as a DriveBench file is")
    folder = None if image_root is None else camera_folder(image_root)
    objects = {} if visual_descriptions is None else read_visual_descriptions(visual_descriptions, faults)
    return admitted(_samples(annotations, folder, objects, faults), faults)


def camera_folder(image_root: Path) -> Path:
    """The absolute folder that holds `CAM_FRONT/...`: `samples` of the nuScenes layout, or the root itself.

    Raises:
        DataError: neither has a folder of a camera.
    """
    root = image_root.resolve()
    for folder in (root / "samples", root):
        if any((folder / camera).is_dir() for camera in CAMERAS):
            return folder
    raise DataError(
        f"image_root {image_root} holds neither samples/CAM_FRONT/... (nuScenes layout) nor CAM_FRONT/... (a "
        f"corruption's folder)"
    )


def read_visual_descriptions(path: Path, faults: Faults) -> Objects:
    """The annotated objects of each frame (pixels of the 1600x900 frame).

    Raises:
        DataError: the file is missing, not JSON, or no object of scenes.
    """
    if outermost(path) != "object":
        raise DataError(f"{path} is no object of scenes, as DriveBench's visual_description.json is")
    found: Objects = {}
    for scene_id, scene in members(path):
        place = f"{path}: {scene_id}"
        try:
            frames = member(expect(scene, dict, place), "key_frames", dict, place)
            for frame_id, frame in frames.items():
                at = f"{place}.key_frames.{frame_id}"
                infos = member(expect(frame, dict, at), "key_object_infos", dict, at)
                found[scene_id, frame_id] = tuple(key_objects(infos, f"{at}.key_object_infos", faults))
        except RecordError as error:
            faults.keep(MALFORMED, scene_id, str(error))
    return found


def frame_questions(file: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Scene and frame to the question and the answer of each of its entries, faulty ones too, in the order of ids."""
    found: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for entry in items(file):
        record = entry if isinstance(entry, dict) else {}
        tokens = record.get("scene_token"), record.get("frame_token")
        if isinstance(tokens[0], str) and isinstance(tokens[1], str):
            texts = [text if isinstance(text := record.get(key), str) else "" for key in ("question", "answer")]
            found[tokens[0], tokens[1]].append((texts[0], texts[1]))
    return dict(found)


def _samples(file: Path, folder: Path | None, objects: Objects, faults: Faults) -> Iterator[DrivingSample]:
    numbers: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(items(file)):
        place = f"{file}: [{index}]"
        try:
            sample = _sample(expect(entry, dict, place), place, folder, objects, numbers, faults)
        except RecordError as error:
            faults.drop(MALFORMED, f"[{index}]", str(error))
            continue
        if sample is not None:
            yield sample


def _sample(
    entry: dict[str, Any],
    place: str,
    folder: Path | None,
    objects: Objects,
    numbers: dict[tuple[str, str], int],
    faults: Faults,
) -> DrivingSample | None:
    scene_id = member(entry, "scene_token", str, place)
    frame_id = member(entry, "frame_token", str, place)
    number = numbers.get((scene_id, frame_id), 0)
    numbers[scene_id, frame_id] = number + 1
    id_ = f"{scene_id}_{frame_id}_{number}"
    type_ = member(entry, "question_type", str, place)
    question = text_member(entry, "question", place)
    answer, explanation = split_explanation(optional_text(entry, "answer", place))
    written = paths_by_camera({"image_path": entry.get("image_path") or {}}, "image_path", place)
    images = {} if folder is None else camera_images(frame_id, written, folder, anchor=None, fewest=1)
    if isinstance(images, BadFrame):
        faults.drop(images.reason, id_, images.note)
        return None
    if type_ not in (*TASKS, ROBUST):
        faults.drop(UNKNOWN_TASK, id_, f"{place}.question_type is {type_!r}; types: {', '.join((*TASKS, ROBUST))}")
        return None
    _note_tag(entry, id_, place, faults)
    return make_sample(
        faults,
        id=id_,
        scene_id=scene_id,
        frame_id=frame_id,
        task=next((task for task in TASKS if task == type_), None) or robust_task(question),
        question=question,
        answer=answer,
        images=images,
        objects=objects.get((scene_id, frame_id), ()),
        reasoning=explanation,
        coordinate_unit="fractions",
    )


def split_explanation(answer: str) -> tuple[str, str]:
    """ "A, Explanation: it is dark" as "A" and "it is dark"; an answer without explanation as it is."""
    verdict, *rest = _EXPLAINED.split(answer, maxsplit=1)
    return (verdict.strip(), rest[0].strip()) if rest and verdict.strip() else (answer, "")


def robust_task(question: str) -> Task:
    """The task of a question about a corruption: that of its wording without the corruption, else perception."""
    return infer_task(_CONSIDERING.sub("", question)) or "perception"


def _note_tag(entry: Mapping[str, Any], id_: str, place: str, faults: Faults) -> None:
    tag = entry.get("tag")
    tags = tag if isinstance(tag, list) else [tag]
    if not tags or not all(item in TAGS for item in tags):
        faults.keep(UNKNOWN_TAG, id_, f"{place}.tag {brief(tag)} is none of {TAGS}; the question is used")


class DriveBench(Format):
    """DriveBench's questions, clean, about a corruption, or asked without images."""

    class Settings(FormatSettings):
        """Where it lies, and what is shown."""

        annotations: Path
        """The JSON file."""
        image_root: Path | None
        """The folder that holds `samples/CAM_FRONT/...`, or a corruption's `CAM_FRONT/...`. Not needed where
        `without_images` is set."""
        without_images: bool = False
        """Ask every question without images."""
        visual_descriptions: Path | None = None
        """The file `visual_description.json`, whose objects some of the judge's rubrics receive."""

        @model_validator(mode="before")
        @classmethod
        def _need_no_folder_without_images(cls, given: Any) -> Any:
            no_folder = isinstance(given, dict) and given.get("without_images")
            return {"image_root": None, **given} if no_folder else given

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution 4.0 (DriveBench questions, which derive from DriveLM), "
        "Attribution-NonCommercial-ShareAlike 4.0 (DriveLM annotations, nuScenes images)",
        spdx="CC-BY-NC-SA-4.0",
        non_commercial=True,
        attribution="DriveBench (Xie et al. 2025); DriveLM (Sima et al. 2023); nuScenes (Caesar et al. 2020, Motional)",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_drivebench`."""
        given = self.settings
        images = None if given.without_images else given.image_root
        return read_drivebench(given.annotations, images, faults, given.visual_descriptions)

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The frames of a list of questions, or of `visual_description.json`."""
        if outermost(file) == "object":
            return frames_of_scenes(file)
        return frames_of_entries(file, lambda _, entry: entry.get("frame_token"))
