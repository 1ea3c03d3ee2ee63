"""nuScenes ego trajectories for open-loop planning, from the JSON tables or from waypoints that were prepared.

The tables are read directly (`nuscenes_tables`), prepared entries one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from data.admission import admitted, make_sample
from data.errors import DataError
from data.faults import MALFORMED, UNPAIRED, Faults
from data.formats.format import Format, FormatSettings, Licence
from data.formats.nuscenes_images import BadFrame, camera_images, check_samples_folder, written_paths
from data.formats.nuscenes_tables import EgoTables, read_ego_tables
from data.formats.road_users import RoadUsers, read_road_users
from data.json_stream import items, outermost
from data.records import RecordError, expect, member, numbers
from data.sample import LIDAR, Command, DrivingSample, Trajectory
from data.tokens.bins import Bins, trajectory_fault
from data.trajectory import (
    FUTURE_STEPS,
    INTERVAL_S,
    PAST_STEPS,
    UNIAD_COMMANDS,
    Waypoint,
    command_of,
    from_offsets,
    seen_from,
    waypoint_text,
    with_yaw,
)

_GOAL: dict[Command, str] = {"right": "turn right", "left": "turn left", "forward": "keep forward"}


def read_trajectories(
    source: Path,
    image_root: Path | None,
    faults: Faults,
    tables: EgoTables | None = None,
    bins: Bins | None = None,
) -> Iterator[DrivingSample]:
    """Read ego trajectories one after the other: 2 s of past, 3 s of future, at 2 Hz.

    The question gives the past and the command, the answer is "[(x, y), ...]" of the future; both are in `trajectory`.
    A key frame too near the end of its scene for a whole trajectory is none, and no fault.

    Args:
        source: the folder of nuScenes' JSON tables (such as `v1.0-trainval`), or a JSON list of prepared entries
            {scene_token, token, images, command?} with waypoints in UniAD's words (`sdc_planning` [1, 6, 3],
            `sdc_planning_past`?) or VAD's (`gt_ego_fut_trajs` [6, 2] offsets, `gt_ego_his_trajs`?, `gt_ego_fut_cmd`).
            The other road users (`future_boxes`?) is read by `data.formats.road_users`.
        image_root: the folder that holds `samples/CAM_FRONT/...`; None: the samples have no images.
        faults: takes what is wrong with the entries.
        tables: those of the folder, where they were read before.
        bins: answers are tokens of these, and the question asks for such; None: numbers.

    Raises:
        DataError: a table is missing or not JSON, or `image_root` holds no `samples`.
    """
    if image_root is not None:
        check_samples_folder(image_root)
    root = image_root.resolve() if image_root is not None else None
    if source.is_dir():
        tables = tables or read_ego_tables(source, faults)
        return admitted(_in_tokens(_from_tables(source, tables, root, faults), bins, faults), faults)
    if outermost(source) != "list":
        raise DataError(f"{source} is neither a folder of nuScenes tables nor a list of prepared trajectories")
    return admitted(_in_tokens(_from_list(source, root, faults), bins, faults), faults)


def _in_tokens(samples: Iterator[DrivingSample], bins: Bins | None, faults: Faults) -> Iterator[DrivingSample]:
    """The samples with their answers in tokens; one whose trajectory has none is left out."""
    for sample in samples:
        if bins is None or sample.trajectory is None:
            yield sample
        elif (fault := trajectory_fault(sample.trajectory, bins.points)) is not None:
            faults.drop(f"trajectory_{fault[0]}", sample.id, f"trajectory of {sample.id}: {fault[1]}")
        else:
            asked = sample.question.partition(" Reply with ")[0]
            answer = bins.encode(sample.trajectory.future[: bins.points])
            yield replace(sample, question=f"{asked} Reply with {bins.points} points as tokens.", answer=answer)


def question_of(past: tuple[Waypoint, ...], command: Command) -> str:
    """What is asked: in our own words, with the past in the form that the answer has."""
    driven = f"In the last {len(past) * INTERVAL_S:g} s it was at {waypoint_text(past)}. " if past else ""
    return (
        "The ego vehicle is at (0.00, 0.00) now; x is metres to the right, y metres ahead. "
        f"{driven}It is to {_GOAL[command]}. Where will it be at each half second of the next "
        f"{FUTURE_STEPS * INTERVAL_S:g} s? Reply with {FUTURE_STEPS} points: [(x, y), ...]."
    )


def _trajectory_sample(
    faults: Faults, scene_id: str, frame_id: str, paths: list[str], root: Path | None, trajectory: Trajectory
) -> DrivingSample | None:
    id_ = f"{scene_id}_{frame_id}"
    images = camera_images(frame_id, written_paths(paths), root) if root is not None else dict[str, str]()
    if isinstance(images, BadFrame):
        faults.drop(images.reason, id_, images.note)
        return None
    return make_sample(
        faults,
        id=id_,
        scene_id=scene_id,
        frame_id=frame_id,
        task="planning",
        kind="coordinates",
        question=question_of(trajectory.past, trajectory.command),
        answer=waypoint_text(trajectory.future),
        images=images,
        choices={},
        trajectory=trajectory,
        coordinate_unit="metres",
    )


# --- the tables -------------------------------------------------------------------------------------------------------


def _from_tables(folder: Path, tables: EgoTables, root: Path | None, faults: Faults) -> Iterator[DrivingSample]:
    for token, frame in tables.frames.items():
        past = tables.chain(token, "previous", PAST_STEPS)[::-1]
        future = tables.chain(token, "next", FUTURE_STEPS)
        if len(past) < PAST_STEPS or len(future) < FUTURE_STEPS:
            continue  # the ends of a scene: no fault of the data
        needed = [tables.poses.get(tables.frames[other].ego_pose) for other in (token, *past, *future)]
        sensor = tables.sensors.get(frame.sensor)
        known = [pose for pose in needed if pose is not None]
        if sensor is None or len(known) < len(needed):
            note = f"{folder}: key frame {token} or one beside it has no {LIDAR} pose"
            faults.drop(UNPAIRED, f"{frame.scene_id}_{token}", note)
            continue
        seen = [seen_from(known[0], sensor, pose) for pose in known[1:]]
        ahead = tuple(seen[PAST_STEPS:])
        trajectory = Trajectory(tuple(seen[:PAST_STEPS]), ahead, command_of(ahead), INTERVAL_S)
        sample = _trajectory_sample(faults, frame.scene_id, token, frame.paths, root, trajectory)
        if sample is not None:
            yield sample


# --- prepared waypoints -----------------------------------------------------------------------------------------------


def _from_list(file: Path, root: Path | None, faults: Faults) -> Iterator[DrivingSample]:
    for index, entry in enumerate(items(file)):
        place = f"{file}: [{index}]"
        try:
            record = expect(entry, dict, place)
            scene_id, frame_id = member(record, "scene_token", str, place), member(record, "token", str, place)
            listed = member(record, "images", list, place) if root is not None else []
            paths = [expect(path, str, f"{place}.images[{i}]") for i, path in enumerate(listed)]
            trajectory = read_trajectory(record, place)
        except RecordError as error:
            faults.drop(MALFORMED, f"[{index}]", str(error))
            continue
        sample = _trajectory_sample(faults, scene_id, frame_id, paths, root, trajectory)
        if sample is not None:
            yield sample


def read_trajectory(record: dict[str, Any], place: str) -> Trajectory:
    """The trajectory of a prepared entry, in UniAD's words or in VAD's.

    Raises:
        RecordError: neither is there, or the numbers are not as many as the format has.
    """
    if "sdc_planning" in record:
        nested = expect(record["sdc_planning"], list, f"{place}.sdc_planning")
        if len(nested) != 1:
            raise RecordError(f"{place}.sdc_planning must have the shape [1, {FUTURE_STEPS}, 3]")
        future = _waypoints(nested[0], f"{place}.sdc_planning[0]", FUTURE_STEPS)
        past = _waypoints(record.get("sdc_planning_past") or [], f"{place}.sdc_planning_past")
        index = record.get("command")
        if index is None:
            return Trajectory(past, future, command_of(future))
        if index not in (0, 1, 2):
            raise RecordError(f"{place}.command must be 0 (right), 1 (left) or 2 (forward), got {brief(index)}")
        return Trajectory(past, future, UNIAD_COMMANDS[int(index)])
    if "gt_ego_fut_trajs" not in record:
        raise RecordError(f"{place} has neither sdc_planning (UniAD) nor gt_ego_fut_trajs (VAD)")
    ahead = with_yaw(from_offsets(_offsets(record["gt_ego_fut_trajs"], f"{place}.gt_ego_fut_trajs", FUTURE_STEPS)))
    steps = _offsets(record.get("gt_ego_his_trajs") or [], f"{place}.gt_ego_his_trajs")
    return Trajectory(_back_from(steps), ahead, _one_hot(record, place) or command_of(ahead))


def _waypoints(value: Any, place: str, count: int | None = None) -> tuple[Waypoint, ...]:
    listed = expect(value, list, place)
    if count is not None and len(listed) != count:
        raise RecordError(f"{place} must hold {count} waypoints, got {len(listed)}")
    triples = [numbers(point, f"{place}[{i}]", 3) for i, point in enumerate(listed)]
    return tuple((x, y, yaw) for x, y, yaw in triples)


def _offsets(value: Any, place: str, count: int | None = None) -> list[tuple[float, ...]]:
    listed = expect(value, list, place)
    if count is not None and len(listed) != count:
        raise RecordError(f"{place} must hold {count} offsets, got {len(listed)}")
    return [numbers(step, f"{place}[{i}]", 2) for i, step in enumerate(listed)]


def _back_from(steps: list[tuple[float, ...]]) -> tuple[Waypoint, ...]:
    """Past positions of the offsets that led to here: the last offset ends at (0, 0)."""
    back = from_offsets((-x, -y) for x, y in reversed(steps))[::-1]
    yaws = [with_yaw([step])[0][2] for step in steps]
    return tuple((x, y, yaw) for (x, y), yaw in zip(back, yaws, strict=True))


def _one_hot(record: dict[str, Any], place: str) -> Command | None:
    if record.get("gt_ego_fut_cmd") is None:
        return None
    values = numbers(record["gt_ego_fut_cmd"], f"{place}.gt_ego_fut_cmd", len(UNIAD_COMMANDS))
    if sorted(values) != [0.0, 0.0, 1.0]:
        raise RecordError(f"{place}.gt_ego_fut_cmd must have one 1 among right, left, straight, got {values}")
    return UNIAD_COMMANDS[values.index(1.0)]


def _with_others(samples: Iterator[DrivingSample], others: RoadUsers) -> Iterator[DrivingSample]:
    for sample in samples:
        boxes = others.by_frame.get(sample.frame_id)
        if boxes is not None and sample.trajectory is not None:
            kept = tuple(tuple((one.x, one.y, one.yaw, one.length, one.width) for one in step) for step in boxes)
            sample = replace(sample, trajectory=replace(sample.trajectory, others=kept))
        yield sample


class NuScenes(Format):
    """Ego trajectories of nuScenes."""

    class Settings(FormatSettings):
        """Where it lies."""

        annotations: Path
        """The folder of JSON tables, or a JSON file of prepared trajectories."""
        image_root: Path
        """The folder that holds `samples/CAM_FRONT/...`."""
        bins: Path | None = None
        """File of bins (`python -m commands.driving_tokens trajectory`): answers are tokens of it; None: numbers."""
        road_users: bool = False
        """Keep who else was there in the 3 s after each key frame, which the scorer `trajectory_collision` needs."""

    settings: Settings
    licence = Licence(
        name="Creative Commons Attribution-NonCommercial-ShareAlike 4.0 (nuScenes, with its terms of use)",
        spdx="CC-BY-NC-SA-4.0",
        non_commercial=True,
        attribution="nuScenes (Caesar et al. 2020, Motional)",
    )

    def read(self, faults: Faults, cache: Path, seed: int) -> Iterator[DrivingSample]:
        """As `read_trajectories`; with `road_users` twice, first for whose boxes are wanted."""
        given = self.settings
        bins = Bins.read(given.bins) if given.bins else None
        tables = read_ego_tables(given.annotations, faults) if given.annotations.is_dir() else None
        samples = read_trajectories(given.annotations, given.image_root, faults, tables, bins)
        if not given.road_users:
            return samples
        wanted = {one.frame_id for one in read_trajectories(given.annotations, None, Faults(), tables)}
        others = read_road_users(given.annotations, wanted, faults, tables)
        if others.unknown:
            raise DataError(
                f"data.options.road_users: {others.unknown}; leave it out, and trajectory_collision with it"
            )
        return _with_others(samples, others)
