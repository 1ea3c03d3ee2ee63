"""`DrivingSample`: one driving question with its images. The word every other package starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Task = Literal["perception", "prediction", "planning", "behavior"]
Kind = Literal["multiple_choice", "yes_no", "open_ended", "coordinates", "structured"]
Camera = Literal["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"]

TASKS: tuple[Task, ...] = get_args(Task)
KINDS: tuple[Kind, ...] = get_args(Kind)
CAMERAS: tuple[Camera, ...] = get_args(Camera)
"""The six cameras in the order in which every prompt shows them."""
LIDAR = "LIDAR_TOP"
"""The name under which a sample carries a LiDAR sweep (`.pcd.bin`) among its images."""

IMAGE_WIDTH, IMAGE_HEIGHT = 1600, 900
"""The pixel frame of every coordinate in a question or an answer (nuScenes), whatever size an image is stored at."""


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
class DrivingSample:
    """A driving question, its six images and its ground truth.

    `images` maps a camera to an absolute path; iteration follows `CAMERAS`. It may hold a sweep as `LIDAR_TOP` too.
    `choices` maps an option letter to its text and is empty unless `kind` is `multiple_choice`, in which case `answer`
    is the letter alone.
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
