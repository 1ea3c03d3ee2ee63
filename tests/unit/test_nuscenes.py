from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.sample import CAMERAS
from tests.drawn import six_cameras, written
from tests.loaded import load_as

STEPS = 12
QUARTER = math.sqrt(0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    six_cameras(tmp_path / "samples", *map(str, range(STEPS)))
    return tmp_path


def tables(root: Path, turn: float = 0.0) -> Path:
    """A vehicle that drives north (its x axis along the world's y) at 4 m/s, turning by `turn` radians a step.

    Its LiDAR stands 1 m ahead of its origin and, as nuScenes' does, a quarter turn to the right: x right, y ahead.
    """
    folder = root / "v1.0-mini"
    folder.mkdir()
    sample, data, poses = [], [], []
    x, y, yaw = 100.0, 200.0, math.pi / 2
    for step in range(STEPS):
        token, before, after = f"k{step}", f"k{step - 1}" if step else "", f"k{step + 1}" if step < STEPS - 1 else ""
        sample.append({"token": token, "scene_token": "scene", "prev": before, "next": after})
        channels = {camera: f"samples/{camera}/{step}.jpg" for camera in CAMERAS} | {
            "L": f"samples/LIDAR_TOP/{step}.bin"
        }
        for path in channels.values():
            sensor = {"calibrated_sensor_token": "lidar", "ego_pose_token": f"p{step}"}
            data.append({"sample_token": token, "filename": path, "is_key_frame": True, **sensor})
        data.append({"sample_token": token, "filename": f"sweeps/LIDAR_TOP/{step}.bin", "is_key_frame": False})
        rotation = [math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
        poses.append({"token": f"p{step}", "translation": [x, y, 0], "rotation": rotation})
        x, y, yaw = x + 2 * math.cos(yaw), y + 2 * math.sin(yaw), yaw + turn
    lidar = {"token": "lidar", "translation": [1, 0, 2], "rotation": [QUARTER, 0, 0, -QUARTER]}
    for name, records in (
        ("sample", sample),
        ("sample_data", data),
        ("ego_pose", poses),
        ("calibrated_sensor", [lidar]),
    ):
        written(folder / f"{name}.json", records)
    return folder


def test_driving_straight_gives_points_ahead_at_half_seconds(root: Path) -> None:
    loaded = load_as("nuscenes", tables(root), root)
    assert [sample.frame_id for sample in loaded.samples] == ["k4", "k5"]  # the others have no whole past or future
    assert loaded.dropped == {}
    sample = loaded.samples[0]
    assert (sample.id, sample.task, sample.kind, sample.coordinate_unit) == (
        "scene_k4", "planning", "coordinates", "metres",
    )  # fmt: skip
    trajectory = sample.trajectory
    assert trajectory is not None
    assert trajectory.command == "forward"
    for point, ahead in zip(trajectory.past + trajectory.future, (-8, -6, -4, -2, 2, 4, 6, 8, 10, 12), strict=True):
        assert point == pytest.approx((0, ahead, 0), abs=1e-9)
    assert sample.answer == "[(0.00, 2.00), (0.00, 4.00), (0.00, 6.00), (0.00, 8.00), (0.00, 10.00), (0.00, 12.00)]"
    assert "(0.00, -8.00), (0.00, -6.00)" in sample.question
    assert sample.images["CAM_BACK"] == str(root / "samples" / "CAM_BACK" / "4.jpg")


@pytest.mark.parametrize(("turn", "command", "side"), [(0.1, "left", -1), (-0.1, "right", 1)])
def test_a_turn_goes_to_its_side_and_its_yaw_grows_to_the_left(
    root: Path, turn: float, command: str, side: int
) -> None:
    sample = load_as("nuscenes", tables(root, turn), root).samples[0]
    assert sample.trajectory is not None
    x, y, yaw = sample.trajectory.future[-1]
    assert sample.trajectory.command == command
    assert x * side > 2
    assert y > 8
    assert yaw == pytest.approx(6 * turn)


def test_a_missing_pose_drops_the_frames_that_need_it(root: Path) -> None:
    folder = tables(root)
    poses = [{"token": f"p{step}", "translation": [0, 0, 0], "rotation": [1, 0, 0, 0]} for step in range(STEPS)]
    del poses[-2:]
    poses[0]["translation"] = [0, "x", 0]
    written(folder / "ego_pose.json", poses)
    with pytest.raises(DataError, match="2 dropped for unpaired_entry"):
        load_as("nuscenes", folder, root)


def test_a_pose_whose_token_is_no_text_is_listed(root: Path) -> None:
    folder = tables(root)
    file = folder / "ego_pose.json"
    written(file, [{"token": ["p0"]}, *json.loads(file.read_text())])
    loaded = load_as("nuscenes", folder, root)
    assert len(loaded.samples) == 2
    assert loaded.kept_with_fault == {"malformed_entry": [f"{file}: [0]"]}
    assert loaded.notes == (f"{file}: [0].token must be a str, got list",)


def test_a_missing_table_is_named(root: Path) -> None:
    folder = tables(root)
    (folder / "ego_pose.json").unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json does not exist"):
        load_as("nuscenes", folder, root)


def prepared(**extra: Any) -> dict[str, Any]:
    images = [f"samples/{camera}/0.jpg" for camera in CAMERAS]
    return {"scene_token": "s", "token": "t", "images": images, **extra}


UNIAD = [[[0.1 * n, 2.0 * n, 0.0] for n in range(1, 7)]]


def test_waypoints_in_the_words_of_uniad_and_vad_give_the_same_trajectory(root: Path) -> None:
    uniad = prepared(sdc_planning=UNIAD, command=2, sdc_planning_past=[[0.0, -2.0, 0.0]])
    vad = prepared(gt_ego_fut_trajs=[[0.1, 2.0]] * 6, gt_ego_fut_cmd=[0, 0, 1], gt_ego_his_trajs=[[0.0, 2.0]])
    first, second = (load_as("nuscenes", written(root / "a.json", [entry]), root).samples[0] for entry in (uniad, vad))
    assert first.trajectory is not None
    assert second.trajectory is not None
    assert first.answer == second.answer
    assert (first.question, first.trajectory.command) == (second.question, "forward")
    assert second.trajectory.past == first.trajectory.past
    assert [point[:2] for point in second.trajectory.future] == [
        pytest.approx(point[:2]) for point in first.trajectory.future
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (prepared(), "has neither sdc_planning .UniAD. nor gt_ego_fut_trajs"),
        (prepared(sdc_planning=UNIAD[0]), r"sdc_planning must have the shape \[1, 6, 3\]"),
        (prepared(sdc_planning=[UNIAD[0][:5]]), "must hold 6 waypoints, got 5"),
        (prepared(sdc_planning=[[*UNIAD[0][:5], [1.0]]]), r"sdc_planning\[0\]\[5\] must hold 3 finite numbers"),
        (prepared(sdc_planning=UNIAD, command=3), "command must be 0"),
        (prepared(gt_ego_fut_trajs=[[0, 1]] * 6, gt_ego_fut_cmd=[1, 0, 1]), "must have one 1 among"),
        ({"token": "t"}, "has no 'scene_token'"),
        ([], "must be a dict, got list"),
    ],
)
def test_a_malformed_entry_is_listed_with_its_place_and_the_rest_is_used(root: Path, entry: Any, message: str) -> None:
    file = written(root / "a.json", [entry, prepared(sdc_planning=UNIAD)])
    loaded = load_as("nuscenes", file, root)
    assert (len(loaded.samples), loaded.dropped) == (1, {"malformed_entry": ["[0]"]})
    with pytest.raises(DataError, match=message):
        load_as("nuscenes", file, root, strict=True)
