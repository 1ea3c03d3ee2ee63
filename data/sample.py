"""`DrivingSample`: one driving question with its images. The word every other package starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

Task = str
"""The name of a task: one of `TASKS`, or one of a data set's own (`task_fault` says what it may be)."""
Kind = Literal["multiple_choice", "yes_no", "open_ended", "coordinates", "structured"]
CoordinateUnit = Literal["pixels", "fractions", "metres"]
Command = Literal["right", "left", "forward"]
Camera = Literal["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"]

TASKS: tuple[Task, ...] = ("perception", "prediction", "planning", "behavior")
"""The papers' tasks, in the order in which one builds on the other."""
ANY = "any"
"""What stands for every task in routes and shares; no task has this name."""
KINDS: tuple[Kind, ...] = get_args(Kind)
CAMERAS: tuple[Camera, ...] = get_args(Camera)
"""The six cameras in the order in which every prompt shows them."""
LIDAR = "LIDAR_TOP"
"""The name under which a sample carries a LiDAR sweep (`.pcd.bin`) among its images."""

GRID: tuple[tuple[Camera, ...], ...] = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT"),
)
"""Rows of the stitched image, from its top left, in the order of DriveLMM-o1, whose answers say "top middle image"."""

IMAGE_WIDTH, IMAGE_HEIGHT = 1600, 900
"""The pixel frame of every coordinate in a question or an answer (nuScenes), whatever size an image is stored at."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_TAKEN = (ANY, "mean", "robust")
"""Names that curves, tables and a benchmark have a meaning of their own for."""


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Each of these tasks once: the papers' in their order, then others by name."""
    found = set(tasks)
    return [*(task for task in TASKS if task in found), *sorted(found.difference(TASKS))]


def task_fault(name: str) -> str | None:
    """Why a text cannot be the name of a task, in a few words; None where it can.

    A name is a part of metrics, of dotted keys and of the classes of a page's style sheet.
    """
    if name in _TAKEN:
        return f"the task name {name} has another meaning here: choose another one"
    if not _NAME.fullmatch(name):
        return f"the task name {name!r} must be a letter and up to 39 more letters, digits, _ or -"
    return None


@dataclass(frozen=True, slots=True)
class KeyObject:
    """An annotated object, known by its DriveLM tag `<c1,CAM_FRONT,x,y>` (centre in pixels of the 1600x900 frame)."""

    tag: str
    category: str
    description: str
    status: str | None = None
    box: tuple[float, float, float, float] | None = None
    """x1, y1, x2, y2 in pixels of the 1600x900 frame."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Where the ego vehicle was and will be (nuScenes), seen from where it is now.

    Points are (x, y, yaw) in the frame of the LiDAR at the key frame: x metres to the right, y metres ahead, yaw in
    radians counter-clockwise from the heading at the key frame.
    """

    past: tuple[tuple[float, float, float], ...]
    """Oldest first; the last is `interval_s` before the key frame."""
    future: tuple[tuple[float, float, float], ...]
    """The first is `interval_s` after the key frame."""
    command: Command
    """Where the route leads, from the lateral offset at the end of the future (2 m and more is a turn)."""
    interval_s: float = 0.5
    others: tuple[tuple[tuple[float, float, float, float, float], ...], ...] | None = None
    """Who else is there at each point of the future: x, y, yaw, length along the yaw and width of each; None: unknown.
    """


@dataclass(frozen=True, slots=True)
class DrivingSample:
    """A driving question, its six images and its ground truth.

    `images` maps a camera to an absolute path; iteration follows `CAMERAS`. Datasets with other views or with several
    moments name them in their own way, in the order in which a prompt shows them; a question asked without images has
    none. It may hold a LiDAR sweep under `LIDAR`. `choices` maps an option letter to its text and is empty unless
    `kind` is `multiple_choice`, in which case `answer` is the letter alone.
    """

    id: str
    scene_id: str
    frame_id: str
    task: Task
    kind: Kind
    question: str
    answer: str
    images: dict[str, str]
    choices: dict[str, str] = field(default_factory=dict)
    objects: tuple[KeyObject, ...] = ()
    reasoning: str = ""
    """How the answer comes about, in words, where a dataset or a teacher model gave them."""
    labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The set bits of each set of labels, where the truth is such: BDD-OIA's `action` and `reason`, in true order."""
    trajectory: Trajectory | None = None
    """Open-loop planning only."""
    coordinate_unit: CoordinateUnit = "pixels"
    """What the coordinates in question and answer are: pixels of the 1600x900 frame, fractions of it (DriveBench), or
    metres on the ground (trajectories)."""
