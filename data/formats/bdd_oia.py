"""BDD-OIA: one sample a frame, with its actions and its reasons; single frames or the clip that leads to one.

The words are in `data.formats.bdd_oia_words`. Sources: Xu et al. 2020 and its annotation files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from pydantic import Field

from data.admission import admitted, make_sample
from data.errors import DataError
from data.faults import (
    CONFUSED,
    DUPLICATE_ID,
    EMPTY_ANSWER,
    FAULTY_IMAGE,
    MALFORMED,
    PAIRING,
    UNPAIRED,
    Faults,
)
from data.formats.bdd_oia_words import ACTION_TEXTS, ACTIONS, REASONS
from data.formats.format import Format, FormatSettings, Licence
from data.json_stream import items, outermost
from data.records import RecordError, bits, expect, member
from data.sample import DrivingSample

ReasonOrder = Literal["annotation", "table"]
Reply = Literal["describe", "decide", "structure"]
REASON_ORDERS: dict[ReasonOrder, tuple[int, ...]] = {
    "annotation": tuple(range(len(REASONS))),
    "table": (2, 0, 1, 7, 8, 3, 4, 5, 6, 16, 15, 17, 10, 11, 9, 19, 18, 20, 13, 14, 12),
}
"""For each order of the 21 bits in a file, the true bit that stands at each position: the annotation files have the
true order; `table` is that of the paper's table (Figure 2 of the report), green light first."""

_DECIDE = (
    "Which of these actions can the ego vehicle take now, and why? Actions: "
    + ", ".join(ACTION_TEXTS[action] for action in ACTIONS)
    + ". Name every action that is possible and every reason. "
)
QUESTIONS: dict[Reply, str] = {
    "describe": "What does the scene show that matters to the driver of the ego vehicle? Reply in a few sentences.",
    "decide": _DECIDE + 'Reply in the form "Action: ...; Reason: ...".',
    "structure": _DECIDE + "Reply with one JSON object of three fields: description, what the scene shows; action; "
    "justification, the reasons.",
}
"""What is asked, by the stage of the report's three that learns from it; the answer stays that of `decide`."""
FrameLabels = tuple[str, tuple[int, ...], tuple[int, ...] | None]
"""A frame's file name, its set action bits (4 is "confused") and its set reason bits; None where it has no reasons."""
FRAME = "CAM_FRONT"
_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_bdd_oia(
    actions: Path,
    reasons: Path,
    image_root: Path,
    faults: Faults,
    frames: int = 1,
    reason_order: ReasonOrder = "annotation",
    reply: Reply = "decide",
    *,
    unlabelled: bool = False,
) -> Iterator[DrivingSample]:
    """Read a pair of BDD-OIA annotation files; their entries are kept in memory.

    The answer is "Action: Move forward; Reason: Traffic light is green, Follow traffic"; `labels` holds the same as set
    bits of `action` (forward, stop, left, right) and `reason` (true order, whatever the file's). A frame that the
    annotators were confused by (the fifth action bit) is dropped.

    Args:
        actions: JSON {images: [{id, file_name}], annotations: [{id, category: 4 or 5 bits}]}, paired by id; by position
            where there are no ids, or ids that do not fit, with a note.
        reasons: JSON list of {reason: 21 bits, file_name}, paired with the actions by `file_name`.
        image_root: folder that `file_name` is resolved against.
        faults: takes what is wrong with the entries.
        frames: 1 takes the file itself. N takes N frames of the folder that bears the file's name without its
            suffix, in the order of their names, evenly spread and ending with the last; views are named `CAM_FRONT-3`
            up to `CAM_FRONT`, the frame of the question.
        reason_order: the order of the 21 bits in the file.
        reply: what is asked for (`QUESTIONS`).
        unlabelled: a frame without an action, or without a reason, is a sample too, as the benchmark scores it, and
            one that confused the annotators is left out and counted, also with strict faults.

    Raises:
        DataError: a file is missing or is not of BDD-OIA's form, or `image_root` is no folder.
    """
    labels = read_labels(actions, reasons, faults, reason_order)
    if frames < 1:
        raise DataError(f"frames must be at least 1, got {frames}")
    if not image_root.is_dir():
        raise DataError(f"image_root {image_root} does not exist or is not a folder")
    root, question = image_root.resolve(), QUESTIONS[reply]
    made = (
        _sample(*of_frame, question=question, root=root, frames=frames, faults=faults, unlabelled=unlabelled)
        for of_frame in labels
    )
    return admitted((sample for sample in made if sample is not None), faults)


def read_labels(
    actions: Path, reasons: Path, faults: Faults, reason_order: ReasonOrder = "annotation"
) -> Iterator[FrameLabels]:
    """The labels of every frame of a pair of annotation files, each once; looks at no image and leaves no frame out.

    Raises:
        DataError: a file is missing or is not of BDD-OIA's form.
    """
    if outermost(actions) != "object":
        raise DataError(f"{actions} is no object of images and annotations, as BDD-OIA's *_actions.json is")
    if outermost(reasons) != "list":
        raise DataError(f"{reasons} is no list of reasons, as BDD-OIA's *_reasons.json is")
    if reason_order not in get_args(ReasonOrder):
        raise DataError(f"reason_order must be one of {', '.join(get_args(ReasonOrder))}, got {reason_order}")
    return _labels(actions, reasons, faults, reason_order)


def answer_text(actions: Sequence[int], reasons: Sequence[int]) -> str:
    """The answer that a set of bits stands for, in bit order."""
    named = ", ".join(ACTION_TEXTS[ACTIONS[bit]] for bit in actions)
    return f"Action: {named}; Reason: {', '.join(REASONS[bit].text for bit in reasons)}"


def _labels(actions: Path, reasons: Path, faults: Faults, order: ReasonOrder) -> Iterator[FrameLabels]:
    reasons_of, seen = _reasons_by_name(reasons, faults, order), set[str]()
    images, annotations = (list(items(actions, f"{what}.item")) for what in ("images", "annotations"))
    for index, number in _pairs(actions, images, annotations, faults):
        place = f"{actions}: images[{index}]"
        if index is None or number is None:
            alone, other = ("annotations", "image") if index is None else ("images", "annotation")
            at = f"[{number if index is None else index}]"
            faults.drop(UNPAIRED, at, f"{actions}: {alone}{at} has no {other}")
            continue
        try:
            name = member(expect(images[index], dict, place), "file_name", str, place)
            if not PurePosixPath(name).name:
                raise RecordError(f"{place}.file_name must name a file, got {name!r}")
            found = _set_bits(annotations[number], "category", f"{actions}: annotations[{number}]", 4, 5)
        except RecordError as error:
            faults.drop(MALFORMED, f"[{index}]", str(error))
            continue
        if name in seen:
            faults.drop(DUPLICATE_ID, name, f"{place}: {name} has actions more than once; the first count")
            continue
        seen.add(name)
        yield name, found, reasons_of.pop(name, None)
    for name in reasons_of:
        faults.drop(UNPAIRED, name, f"{reasons}: {name} has reasons, but no actions in {actions}")


def _pairs(
    file: Path, images: Sequence[Any], annotations: Sequence[Any], faults: Faults
) -> list[tuple[int | None, int | None]]:
    """Where each image and its annotation stand: by id where the ids of one list are among the other's, else by place.

    An annotation tells its image by `image_id`, or by `id`.
    """
    of_images, of_annotations = _by_id(images, "id"), _by_id(annotations, "image_id") or _by_id(annotations, "id")
    in_order = list(zip_longest(range(len(images)), range(len(annotations))))
    if not of_images or not of_annotations:
        return in_order
    if not (of_images.keys() <= of_annotations.keys() or of_annotations.keys() <= of_images.keys()):
        faults.tell(PAIRING, f"{file}: images and annotations were paired by position: their ids are not the same")
        return in_order
    matched = {index: of_annotations.get(id_) for id_, index in of_images.items()}
    pairs: list[tuple[int | None, int | None]] = [(index, matched.get(index)) for index in range(len(images))]
    paired = set(matched.values())
    pairs += [(None, number) for number in range(len(annotations)) if number not in paired]
    if pairs != in_order and len(images) == len(annotations):
        faults.tell(PAIRING, f"{file}: images and annotations were paired by id; by position the pairs would differ")
    return pairs


def _by_id(entries: Sequence[Any], key: str) -> dict[str, int]:
    """Where the entry of each id stands; nothing where an id stands twice."""
    ids = [(str(entry[key]), index) for index, entry in enumerate(entries) if _has_id(entry, key)]
    return dict(ids) if len(dict(ids)) == len(ids) else {}


def _has_id(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(key), str | int) and not isinstance(entry[key], bool)


def _reasons_by_name(file: Path, faults: Faults, order: ReasonOrder) -> dict[str, tuple[int, ...]]:
    true_bit, found = REASON_ORDERS[order], dict[str, tuple[int, ...]]()
    for index, entry in enumerate(items(file)):
        place = f"{file}: [{index}]"
        try:
            name = member(expect(entry, dict, place), "file_name", str, place)
            positions = _set_bits(entry, "reason", place, len(REASONS))
        except RecordError as error:
            faults.drop(MALFORMED, f"reasons[{index}]", str(error))
            continue
        if name in found:
            faults.drop(DUPLICATE_ID, name, f"{place}: {name} has reasons more than once; the first count")
            continue
        found[name] = tuple(sorted(true_bit[position] for position in positions))
    return found


def _set_bits(record: Any, key: str, place: str, *counts: int) -> tuple[int, ...]:
    values = bits(member(expect(record, dict, place), key, list, place), f"{place}.{key}", *counts)
    return tuple(position for position, value in enumerate(values) if value)


def _sample(
    name: str,
    actions: tuple[int, ...],
    reasons: tuple[int, ...] | None,
    question: str,
    root: Path,
    frames: int,
    faults: Faults,
    unlabelled: bool,
) -> DrivingSample | None:
    frame_id = str(PurePosixPath(name).with_suffix(""))
    if len(ACTIONS) in actions and unlabelled:
        faults.dropped[CONFUSED].append(name)  # by the benchmark's own rule: no fault of the file, so never strict
    elif len(ACTIONS) in actions:
        faults.drop(CONFUSED, name, f"{name}: the annotators were confused (fifth action bit)")
    elif reasons is None:
        faults.drop(UNPAIRED, name, f"{name} has actions, but no usable reasons")
    elif not unlabelled and not (actions and reasons):
        faults.drop(EMPTY_ANSWER, name, f"{name} has no {'reason' if actions else 'action'} set")
    elif isinstance(images := _images(name, root, frames), str):
        faults.drop(FAULTY_IMAGE, name, images)
    else:
        return make_sample(
            faults,
            id=name,
            scene_id=frame_id,
            frame_id=frame_id,
            task="behavior",
            kind="open_ended",
            question=question,
            answer=answer_text(actions, reasons),
            images=images,
            choices={},
            labels={"action": actions, "reason": reasons},
        )
    return None


def _images(name: str, root: Path, frames: int) -> dict[str, str] | str:
    """The views of a frame, the oldest first; or a sentence on what is wrong."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"image path {name!r} leads out of image_root"
    if frames == 1:
        return {FRAME: str(root / path)}
    folder = root / path.with_suffix("")
    if not folder.is_dir():
        return f"the clip of {name}, {folder}, does not exist or is not a folder"
    clip = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if len(clip) < frames:
        return f"the clip {folder} holds {len(clip)} frames, {frames} are asked for"
    last = len(clip) - 1
    chosen = [clip[round(number * last / (frames - 1))] for number in range(frames)]
    names = [f"{FRAME}-{back}" if back else FRAME for back in reversed(range(frames))]
    return {view: str(file) for view, file in zip(names, chosen, strict=True)}


class BddOia(Format):
    """BDD-OIA: single frames, or the clips that lead to them."""

    class Settings(FormatSettings):
        """Where it lies, how its reasons are ordered, and what is asked."""

        annotations: Path
        """The `*_actions.json` file."""
        reasons: Path
        """The `*_reasons.json` file that goes with it."""
        image_root: Path
        """The folder of the frames."""
        reason_order: ReasonOrder = "annotation"
        """In which order a file has the 21 reasons: that of the released annotations, or that of the paper's table."""
        reply: Reply = "decide"
        """What is asked for: a description, actions and reasons, or a JSON object of all three."""
        frames: int = Field(1, ge=1)
        """How many frames of the clip that leads to a question are shown; 1 is the last frame alone."""

    settings: Settings
    licence = Licence(
        name="BDD100K licence: education, research and not-for-profit use; commercial use by members of Berkeley "
        "DeepDrive alone (BDD-OIA annotations, BDD100K images)",
        spdx="LicenseRef-BDD100K",
        non_commercial=True,
        attribution="BDD-OIA (Xu et al. 2020); BDD100K (Yu et al. 2020), Copyright 2018 The Regents of the University "
        "of California",
    )

    @property
    def images_per_prompt(self) -> int:
        """Frames of one camera."""
        return self.settings.frames

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_bdd_oia`."""
        s = self.settings
        return read_bdd_oia(s.annotations, s.reasons, s.image_root, faults, s.frames, s.reason_order, s.reply)
