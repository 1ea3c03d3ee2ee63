"""nuScenes' JSON tables: where the vehicle and its LiDAR were at each key frame. Read entry by entry.

Of the large tables (`sample_data`, `ego_pose`) only what belongs to key frames stays in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.errors import DataError
from data.faults import MALFORMED, Faults
from data.json_stream import items, outermost
from data.records import RecordError, member, numbers, optional_text
from data.sample import CAMERAS, LIDAR
from data.trajectory import Pose

TABLES = ("sample", "sample_data", "ego_pose", "calibrated_sensor")


@dataclass(slots=True)
class KeyFrame:
    """What the tables say of a key frame, collected over several passes."""

    scene_id: str
    previous: str
    next: str
    paths: list[str] = field(default_factory=list)
    ego_pose: str = ""
    sensor: str = ""


@dataclass(frozen=True, slots=True)
class EgoTables:
    """The key frames by their token, and by theirs the poses of the vehicle in the world and of sensors on it."""

    frames: dict[str, KeyFrame]
    poses: dict[str, Pose]
    sensors: dict[str, Pose]

    def chain(self, token: str, link: Literal["previous", "next"], count: int) -> list[str]:
        """The tokens of up to `count` key frames before or after one, the nearest first."""
        found: list[str] = []
        while len(found) < count and (token := getattr(self.frames[token], link)) in self.frames:
            found.append(token)
        return found


def read_ego_tables(folder: Path, faults: Faults) -> EgoTables:
    """Read the four tables; a record that cannot be used is listed.

    Raises:
        DataError: a table is missing, or is no list.
    """
    for table in TABLES:
        if outermost(folder / f"{table}.json") != "list":
            raise DataError(f"{folder / table}.json is no list, as a table of nuScenes is")
    frames = _key_frames(folder, faults)
    poses = _poses(folder, "ego_pose", {frame.ego_pose for frame in frames.values()}, faults)
    sensors = _poses(folder, "calibrated_sensor", {frame.sensor for frame in frames.values()}, faults)
    return EgoTables(frames, poses, sensors)


def entries(file: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a table with their places; what is no record is listed."""
    for index, record in enumerate(items(file)):
        if isinstance(record, dict):
            yield f"{file}: [{index}]", record
        else:
            faults.keep(MALFORMED, f"{file}: [{index}]", f"{file}: [{index}] must be a dict")


def read_pose(record: dict[str, Any], place: str) -> Pose:
    """The pose of a record with `translation` and `rotation`.

    Raises:
        RecordError: one of them is missing or not as many numbers as it has.
    """
    x, y, z = numbers(record.get("translation"), f"{place}.translation", 3)
    w, i, j, k = numbers(record.get("rotation"), f"{place}.rotation", 4)
    return Pose((x, y, z), (w, i, j, k))


def _key_frames(folder: Path, faults: Faults) -> dict[str, KeyFrame]:
    frames: dict[str, KeyFrame] = {}
    for place, record in entries(folder / "sample.json", faults):
        try:
            token, scene = member(record, "token", str, place), member(record, "scene_token", str, place)
            frames[token] = KeyFrame(scene, optional_text(record, "prev", place), optional_text(record, "next", place))
        except RecordError as error:
            faults.drop(MALFORMED, place, str(error))
    for place, record in entries(folder / "sample_data.json", faults):
        try:
            _add_key_image(frames, record, place)
        except RecordError as error:
            faults.keep(MALFORMED, place, str(error))
    return frames


def _add_key_image(frames: dict[str, KeyFrame], record: dict[str, Any], place: str) -> None:
    path = member(record, "filename", str, place)
    frame = frames.get(member(record, "sample_token", str, place))
    if frame is None or not record.get("is_key_frame"):
        return
    channel = path.split("/")[-2] if "/" in path else ""
    if channel in CAMERAS:
        frame.paths.append(path)
    elif channel == LIDAR:
        frame.ego_pose = member(record, "ego_pose_token", str, place)
        frame.sensor = member(record, "calibrated_sensor_token", str, place)


def _poses(folder: Path, table: str, wanted: set[str], faults: Faults) -> dict[str, Pose]:
    found: dict[str, Pose] = {}
    for place, record in entries(folder / f"{table}.json", faults):
        try:
            if (token := member(record, "token", str, place)) in wanted:
                found[token] = read_pose(record, place)
        except RecordError as error:
            faults.keep(MALFORMED, place, str(error))
    return found
