"""DriveLMM-o1: questions with step-by-step reasoning, the train and the test files, distinguished entry by entry.

Its answers speak of a stitched image of two rows and three columns ("top middle image"). Where each camera is an image
of its own, `name_cameras` puts the camera's name in place of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.admission import admitted, make_sample
from data.drivelm_questions import infer_task
from data.errors import DataError
from data.faults import MALFORMED, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.formats.nuscenes_images import BadFrame, camera_images, check_samples_folder, written_paths
from data.frame_ids import NamedFrames, frame_in_id, frames_of_entries
from data.json_stream import entries, outermost
from data.reading.words import folded
from data.reasoning.reasoning import numbered, split_solution, steps_of
from data.records import RecordError, expect, member, optional_text, text_member
from data.sample import GRID, LIDAR, Camera, DrivingSample, Task

CHOICE_NUMBERS = frozenset({2, 3, 4, 5, 8})
"""A question is multiple choice exactly when its number within the frame is one of these."""

_ID = re.compile(r"(?P<scene>.+)_(?P<frame>[^_]+)_(?P<number>\d+)")
_OPTION = re.compile(r"(?:^|\s)\(?([A-F])\)[ \t]*(\S.*?)(?=\s+\(?[A-F]\)|\s*$)", re.DOTALL)
_LETTER = re.compile(r"\W*([A-F])(?:[).:,]|\s*$)")
_VIEW = re.compile(
    r"\b(?P<row>top|upper|bottom|lower)[\s-]+(?P<column>left|middle|cent(?:er|re)|right)\s+(?:image|view|picture|frame)\b",
    re.IGNORECASE,
)
_FUTURE = re.compile(r"\b(?:predict|future|will|likely to|going to|next few|anticipat)", re.IGNORECASE)
_ACTION = re.compile(
    r"\bego vehicle (?:should|must|do)\b|\b(?:action|maneuver|manoeuvre|decision|strategy|safest|plan)", re.IGNORECASE
)


def read_drivelmm_o1(
    annotations: Path, image_root: Path | None, faults: Faults, name_cameras: bool = False
) -> Iterator[DrivingSample]:
    """Read a DriveLMM-o1 file, one sample after the other in bounded memory.

    Args:
        annotations: JSON list of {idx, image, question}, or an object of them, whose keys stand for a missing idx;
            with `steps` and `final_answer` (test) or one `answer` that holds both under "**Step-by-Step Reasoning**"
            and "**Final Answer**" (train).
        image_root: the folder that holds `samples/CAM_FRONT/...` (and `samples/LIDAR_TOP/...`); None: the samples have
            no images.
        faults: takes what is wrong with the entries.
        name_cameras: replace references to the stitched image by the camera's name, in steps and answers.

    Raises:
        DataError: the file is missing or is no JSON list or object, or `image_root` holds no `samples`.
    """
    if outermost(annotations) == "other":
        raise DataError(f"{annotations} is no list or object of questions, as a DriveLMM-o1 file is")
    if image_root is not None:
        check_samples_folder(image_root)
    root = image_root.resolve() if image_root is not None else None
    return admitted(_samples(annotations, root, faults, name_cameras), faults)


def _samples(file: Path, root: Path | None, faults: Faults, name_cameras: bool) -> Iterator[DrivingSample]:
    for key, entry in entries(file):
        place, id_ = f"{file}: {key}", entry.get("idx", key) if isinstance(entry, dict) else key
        try:
            sample = _sample({"idx": id_} | expect(entry, dict, place), place, root, faults, name_cameras)
        except RecordError as error:
            faults.drop(MALFORMED, id_ if isinstance(id_, str) else key, str(error))
            continue
        if sample is not None:
            yield sample


def _sample(
    entry: dict[str, Any], place: str, root: Path | None, faults: Faults, name_cameras: bool
) -> DrivingSample | None:
    id_ = member(entry, "idx", str, place)
    found = _ID.fullmatch(id_)
    if found is None:
        raise RecordError(f"{place}.idx must look like scene_frame_number, got {id_!r}")
    question = text_member(entry, "question", place)
    if "final_answer" in entry:
        steps, answer = steps_of(text_member(entry, "steps", place)), text_member(entry, "final_answer", place)
    else:
        steps, answer = split_solution(optional_text(entry, "answer", place))
    reasoning = numbered(steps)
    images = _images(entry, found["frame"], place, root) if root is not None else dict[str, str]()
    if isinstance(images, BadFrame):
        faults.drop(images.reason, id_, images.note)
        return None
    choices = lettered_options(question) if int(found["number"]) in CHOICE_NUMBERS else {}
    if choices and (letter := _LETTER.match(folded(answer))):
        answer = letter[1]
    if name_cameras:
        reasoning, answer = with_camera_names(reasoning), with_camera_names(answer)
    return make_sample(
        faults,
        id=id_,
        scene_id=found["scene"],
        frame_id=found["frame"],
        task=task_of(question),
        question=question,
        answer=answer,
        images=images,
        choices=choices,
        reasoning=reasoning,
    )


def _images(entry: dict[str, Any], frame_id: str, place: str, root: Path) -> dict[str, str] | BadFrame:
    """The six images of an entry, and its sweep where there is one."""
    paths = [expect(path, str, f"{place}.image[{i}]") for i, path in enumerate(member(entry, "image", list, place))]
    images = camera_images(frame_id, written_paths(paths), root)
    if isinstance(images, BadFrame):
        return images
    sweep = root / "samples" / LIDAR / Path(member(entry, "lidar", str, place)).name if "lidar" in entry else None
    if sweep is not None and sweep.is_file():  # shown where `policy.lidar` asks for it
        images[LIDAR] = str(sweep)
    return images


def lettered_options(question: str) -> dict[str, str]:
    """The options "A) ... B) ..." of a question by letter; empty unless they run from A on, at least to B."""
    found = dict(_OPTION.findall(folded(question)))
    wanted = "ABCDEF"[: len(found)]
    return (
        {letter: " ".join(found[letter].split()) for letter in wanted}
        if len(found) > 1 and set(found) == set(wanted)
        else {}
    )


def task_of(question: str) -> Task:
    """The task of a question by its wording; the data set names none. What asks for neither the future nor an action
    is perception."""
    known = infer_task(question)
    if known is not None:
        return known
    if _ACTION.search(question):
        return "planning"
    return "prediction" if _FUTURE.search(question) else "perception"


def with_camera_names(text: str) -> str:
    """A text in which "top middle image" reads "CAM_FRONT image", and so on for the six tiles."""
    return _VIEW.sub(lambda view: f"{_tile(view)} image", text)


def _tile(view: re.Match[str]) -> Camera:
    column = {"left": 0, "right": 2}.get(view["column"].lower(), 1)
    return GRID[view["row"].lower() in ("bottom", "lower")][column]


class DriveLMMo1(Format):
    """DriveLMM-o1, train or test."""

    class Settings(FormatSettings):
        """Where it lies, and how it is worded."""

        annotations: Path
        """The JSON file."""
        image_root: Path
        """The folder that holds `samples/CAM_FRONT/...`."""
        name_cameras: bool = False
        """Let steps and answers name cameras instead of tiles of a stitched image."""

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (nuScenes images); the authors' repository "
        "states no licence for the DriveLMM-o1 annotations",
        spdx="CC-BY-NC-SA-4.0",
        non_commercial=True,
        attribution="DriveLMM-o1 (Ishaq et al. 2025, MBZUAI); nuScenes (Caesar et al. 2020, Motional)",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_drivelmm_o1`."""
        given = self.settings
        return read_drivelmm_o1(given.annotations, given.image_root, faults, given.name_cameras)

    @classmethod
    def frames_in(cls, file: Path) -> NamedFrames:
        """The frames that the ids name."""
        return frames_of_entries(file, lambda key, entry: frame_in_id(entry.get("idx", key)))
