"""Other road users in the 3 s after a key frame of nuScenes: their boxes, in the LiDAR frame of the key frame.

From the JSON tables, or from prepared entries that have them. Annotations are read one by one, and only those that
belong to the frames asked for stay in memory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data.faults import MALFORMED, UNPAIRED, Faults
from data.formats.nuscenes_tables import EgoTables, entries, read_pose
from data.json_stream import items
from data.records import RecordError, expect, member, numbers
from data.trajectory import FUTURE_STEPS, Pose

ROAD_USERS = ("vehicle.", "human.pedestrian.")
"""Beginnings of the categories whose boxes are read."""
TABLES = ("category", "instance", "sample_annotation")
MEMBER = "future_boxes"
"""The boxes of a prepared entry: for each half second a list of {category, box: [x, y, yaw, length, width]}."""


@dataclass(frozen=True, slots=True)
class FutureBox:
    """A road user at one step: centre, yaw (radians, counter-clockwise from x), length along the yaw, width; metres."""

    category: str
    x: float
    y: float
    yaw: float
    length: float
    width: float


FutureBoxes = tuple[tuple[FutureBox, ...], ...]
"""The road users and their places at each of the six half seconds after a key frame."""


@dataclass(frozen=True, slots=True)
class RoadUsers:
    """The boxes of key frames by their token; `unknown` says why nobody knows them, and then there are none."""

    by_frame: dict[str, FutureBoxes]
    unknown: str | None = None


class _Annotation(NamedTuple):
    category: str
    pose: Pose
    length: float
    width: float


def read_road_users(source: Path, wanted: Collection[str], faults: Faults, tables: EgoTables | None) -> RoadUsers:
    """Read the boxes of some key frames.

    An annotation that cannot be used is listed and left out; so is a prepared frame whose boxes cannot be read. Boxes
    are unknown where the folder lacks a table of annotations or has none of these frames (nuScenes' test split), and
    where a prepared frame says nothing of them.

    Args:
        source: as of `data.formats.nuscenes.read_trajectories`.
        wanted: tokens of key frames that it gave.
        faults: what is wrong is listed here.
        tables: those of the folder; None for prepared entries.

    Raises:
        DataError: a table is not JSON.
    """
    return _prepared(source, set(wanted), faults) if tables is None else _annotated(source, wanted, tables, faults)


def _annotated(folder: Path, wanted: Collection[str], tables: EgoTables, faults: Faults) -> RoadUsers:
    missing = [f"{table}.json" for table in TABLES if not (folder / f"{table}.json").is_file()]
    if missing:
        return RoadUsers({}, f"{folder} has no {', '.join(missing)}")
    steps = {token: tables.chain(token, "next", FUTURE_STEPS) for token in wanted}
    found = _annotations(folder, {step for chain in steps.values() for step in chain}, faults)
    if not found:
        return RoadUsers({}, f"{folder / 'sample_annotation.json'} says nothing of these frames")
    return RoadUsers({token: _seen_from(token, chain, tables, found) for token, chain in steps.items()})


def _annotations(folder: Path, frames: set[str], faults: Faults) -> dict[str, list[_Annotation]]:
    """The road users of each frame that has annotations at all; it may have none of these categories."""
    names = _column(folder / "category.json", "name", faults)
    categories = {
        instance: names.get(category, "")
        for instance, category in _column(folder / "instance.json", "category_token", faults).items()
    }
    found: defaultdict[str, list[_Annotation]] = defaultdict(list)
    for place, record in entries(folder / "sample_annotation.json", faults):
        try:
            if (frame := member(record, "sample_token", str, place)) not in frames:
                continue
            of_frame = found[frame]
            category = categories.get(member(record, "instance_token", str, place), "")
            if not category:
                faults.drop(UNPAIRED, place, f"{place} is of an instance without a category")
            elif category.startswith(ROAD_USERS):
                width, length, _ = numbers(record.get("size"), f"{place}.size", 3)
                of_frame.append(_Annotation(category, read_pose(record, place), length, width))
        except RecordError as error:
            faults.drop(MALFORMED, place, str(error))
    return found


def _column(table: Path, name: str, faults: Faults) -> dict[str, str]:
    """A member of a table's records by their token."""
    found: dict[str, str] = {}
    for place, record in entries(table, faults):
        try:
            found[member(record, "token", str, place)] = member(record, name, str, place)
        except RecordError as error:
            faults.drop(MALFORMED, place, str(error))
    return found


def _seen_from(token: str, chain: Sequence[str], tables: EgoTables, found: dict[str, list[_Annotation]]) -> FutureBoxes:
    frame = tables.frames[token]
    ego, sensor = tables.poses[frame.ego_pose], tables.sensors[frame.sensor]

    def box(annotation: _Annotation) -> FutureBox:
        centre, ahead = (
            sensor.invert(ego.invert(annotation.pose.apply(point))) for point in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
        )
        yaw = math.atan2(ahead[1] - centre[1], ahead[0] - centre[0])
        return FutureBox(annotation.category, centre[0], centre[1], yaw, annotation.length, annotation.width)

    return tuple(tuple(map(box, found.get(step, ()))) for step in chain)


# --- prepared entries -------------------------------------------------------------------------------------------------


def _prepared(file: Path, wanted: set[str], faults: Faults) -> RoadUsers:
    found: dict[str, FutureBoxes] = {}
    silent = 0
    for index, entry in enumerate(items(file)):
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str) or token not in wanted or token in found:
            continue  # an entry without a token was listed with the trajectories
        try:
            if entry.get(MEMBER) is None:
                silent += 1
            else:
                found[token] = _boxes(entry[MEMBER], f"{file}: [{index}].{MEMBER}")
        except RecordError as error:
            faults.drop(MALFORMED, f"[{index}]", str(error))
    return RoadUsers({}, f"{silent} of {len(wanted)} frames have no {MEMBER} in {file}") if silent else RoadUsers(found)


def _boxes(value: Any, place: str) -> FutureBoxes:
    steps = expect(value, list, place)
    if len(steps) != FUTURE_STEPS:
        raise RecordError(
            f"{place} must hold {FUTURE_STEPS} lists of boxes, one for each half second, got {len(steps)}"
        )
    return tuple(
        tuple(_box(box, f"{place}[{step}][{number}]") for number, box in enumerate(expect(boxes, list, place)))
        for step, boxes in enumerate(steps)
    )


def _box(value: Any, place: str) -> FutureBox:
    record = expect(value, dict, place)
    category = member(record, "category", str, place)
    if not category.startswith(ROAD_USERS):
        raise RecordError(f"{place}.category must begin with {' or '.join(ROAD_USERS)}, got {category!r}")
    x, y, yaw, length, width = numbers(record.get("box"), f"{place}.box", 5)
    return FutureBox(category, x, y, yaw, length, width)
