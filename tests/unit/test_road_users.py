from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from commands import evaluate
from data.errors import DataError
from data.faults import Faults
from data.formats.nuscenes_tables import read_ego_tables
from data.formats.road_users import FutureBox, RoadUsers, read_road_users
from tests.drawn import written
from tests.unit.test_nuscenes import tables

NORTH, EAST = [math.sqrt(0.5), 0, 0, math.sqrt(0.5)], [1, 0, 0, 0]
INSTANCES = {"car": "vehicle.car", "walker": "human.pedestrian.adult", "cone": "movable_object.trafficcone"}


def annotation(step: int, instance: str, x: float, y: float, rotation: Sequence[float] = NORTH) -> dict[str, Any]:
    """2 m wide and 4 m long, somewhere in the world. At k4 the LiDAR is at (100, 209) there and looks north."""
    where = {"translation": [x, y, 1], "size": [2, 4, 1.5], "rotation": rotation}
    return {"token": f"a{step}{instance}", "sample_token": f"k{step}", "instance_token": instance, **where}


def annotated(root: Path, annotations: list[dict[str, Any]]) -> Path:
    folder = tables(root)
    written(folder / "category.json", [{"token": f"c{name}", "name": name} for name in INSTANCES.values()])
    of_instances = [{"token": token, "category_token": f"c{name}"} for token, name in INSTANCES.items()]
    written(folder / "instance.json", of_instances)
    written(folder / "sample_annotation.json", annotations)
    return folder


def read(folder: Path, *wanted: str, strict: bool = False) -> tuple[RoadUsers, Faults]:
    faults = Faults(strict)
    return read_road_users(folder, wanted, faults, read_ego_tables(folder, faults)), faults


ON_THE_WAY = [
    annotation(6, "car", 106, 213),  # 1 s after k4: 6 m to the right, 4 m ahead
    annotation(10, "walker", 94, 221, EAST),  # 3 s: 6 m to the left, 12 m ahead
    annotation(5, "cone", 100, 211),
    annotation(4, "car", 100, 209),  # the present is no future
]


def test_boxes_stand_in_the_lidar_frame_of_the_key_frame_at_their_half_second(tmp_path: Path) -> None:
    found, faults = read(annotated(tmp_path, ON_THE_WAY), "k4")
    assert found.unknown is None
    steps = found.by_frame["k4"]
    assert [len(boxes) for boxes in steps] == [0, 1, 0, 0, 0, 1]  # the cone is no road user
    for box, expected in (
        (steps[1][0], FutureBox("vehicle.car", 6, 4, math.pi / 2, 4, 2)),
        (steps[5][0], FutureBox("human.pedestrian.adult", -6, 12, 0, 4, 2)),
    ):
        assert box.category == expected.category
        of_box = (box.x, box.y, box.yaw, box.length, box.width)
        assert of_box == pytest.approx((expected.x, expected.y, expected.yaw, expected.length, expected.width))
    assert faults.as_dict() == {}


def test_only_the_frames_asked_for_are_read(tmp_path: Path) -> None:
    assert read(annotated(tmp_path, ON_THE_WAY), "k5")[0].by_frame.keys() == {"k5"}


def test_an_annotation_that_cannot_be_used_is_counted_and_the_others_are_used(tmp_path: Path) -> None:
    broken = [annotation(5, "car", 100, 211) | {"size": [2, 4]}, annotation(5, "ghost", 100, 211)]
    folder = annotated(tmp_path, [*broken, *ON_THE_WAY, annotation(0, "car", 0, 0) | {"size": None}])
    found, faults = read(folder, "k4")
    assert [len(boxes) for boxes in found.by_frame["k4"]] == [0, 1, 0, 0, 0, 1]
    file = folder / "sample_annotation.json"
    assert faults.as_dict() == {"malformed_entry": [f"{file}: [0]"], "unpaired_entry": [f"{file}: [1]"]}
    with pytest.raises(DataError, match="size must hold 3 finite numbers"):
        read(folder, "k4", strict=True)


def test_a_token_that_is_no_text_is_listed_and_the_others_are_used(tmp_path: Path) -> None:
    folder = annotated(tmp_path, [*ON_THE_WAY, annotation(5, "car", 100, 211) | {"sample_token": ["k5"]}])
    found, faults = read(folder, "k4")
    assert [len(boxes) for boxes in found.by_frame["k4"]] == [0, 1, 0, 0, 0, 1]
    assert faults.as_dict() == {"malformed_entry": [f"{folder / 'sample_annotation.json'}: [4]"]}


def test_a_prepared_entry_whose_token_is_no_text_has_no_boxes(tmp_path: Path) -> None:
    file = written(tmp_path / "way.json", [{"token": ["t"]}, {"token": "t", "future_boxes": [[]] * 6}])
    assert read_road_users(file, ["t"], Faults(), None) == RoadUsers({"t": ((),) * 6})


def test_without_annotations_the_reason_is_said(tmp_path: Path) -> None:
    folder = annotated(tmp_path, [annotation(0, "car", 0, 0)])
    assert read(folder, "k4")[0] == RoadUsers({}, f"{folder}/sample_annotation.json says nothing of these frames")
    (folder / "instance.json").unlink()
    (folder / "category.json").unlink()
    assert read(folder, "k4")[0] == RoadUsers({}, f"{folder} has no category.json, instance.json")


def scored(folder: Path, plan: list[list[float]], frame: str, answers: Path, capsys: Any) -> tuple[str, Any]:
    predictions = written(folder / "predictions.json", {frame: json.dumps(plan)})
    assert evaluate.main(["open_loop", "--answers", str(answers), "--predictions", str(predictions)]) == 0
    table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    return table, json.loads(last)


SWERVES: list[list[float]] = [[0, 2], [6, 4], [0, 6], [0, 8], [0, 10], [-6, 12]]
"""Into the car at 1 s and into the pedestrian at 3 s; what was driven is 2 m ahead a step."""


def test_collisions_are_scored_from_the_tables_under_both_protocols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driven_into = annotation(8, "car", 100, 217)  # 2 s, on the driven path: this step cannot count
    folder = annotated(tmp_path, [*ON_THE_WAY, driven_into])
    table, figures = scored(tmp_path, SWERVES, "k4", folder, capsys)
    assert figures["collisions_unknown"] is None
    assert figures["uniad"]["collision"] == [100, 0, 0]  # vehicles, at 1, 2, 3 s
    assert figures["uniad"]["collision_mean"] == pytest.approx(100 / 3)
    assert figures["vad_stp3"]["collision"] == pytest.approx([50, 25, 100 / 3])  # 1 of 2, 1 of 4, 2 of 6 steps
    assert (figures["uniad"]["excluded_steps"], figures["vad_stp3"]["excluded_steps"]) == (1, 1)
    assert figures["faults"] == {"missing_prediction": 1}  # k5
    assert "UniAD collisions at 1 s (%)" in table
    assert "no boxes" not in table


def test_tables_without_annotations_leave_collisions_null_and_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, figures = scored(tmp_path, SWERVES, "k4", tables(tmp_path), capsys)
    assert figures["uniad"]["collision"] is None
    assert figures["uniad"]["l2"] == pytest.approx([6, 0, 6])
    assert figures["collisions_unknown"].endswith("has no category.json, instance.json, sample_annotation.json")
    assert f"no collisions: {figures['collisions_unknown']}" in table


def prepared(token: str, **extra: Any) -> dict[str, Any]:
    path = [[0, 2 * step, 0] for step in range(1, 7)]
    return {"scene_token": "s", "token": token, "sdc_planning": [path], **extra}


def boxes(step: int, category: str, box: list[float]) -> list[list[dict[str, Any]]]:
    return [[{"category": category, "box": box}] if at == step else [] for at in range(1, 7)]


def test_prepared_entries_bring_their_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [prepared("f", future_boxes=boxes(2, "vehicle.bus.rigid", [6, 4, 1.57, 4, 2])), prepared("g")]
    file = written(tmp_path / "way.json", answers)
    _, figures = scored(tmp_path, SWERVES, "f", file, capsys)  # g has no boxes, but no prediction either
    assert figures["uniad"]["collision"] == [100, 0, 0]
    _, figures = scored(tmp_path, SWERVES, "g", file, capsys)
    assert figures["uniad"]["collision"] is None
    assert figures["collisions_unknown"] == f"1 of 1 frames have no future_boxes in {file}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[]] * 5, r"future_boxes must hold 6 lists of boxes, one for each half second, got 5"),
        (boxes(1, "vehicle.car", [0, 0, 0, 4]), r"future_boxes\[0\]\[0\].box must hold 5 finite numbers"),
        (boxes(3, "truck", [0, 0, 0, 4, 2]), r"future_boxes\[2\]\[0\].category must begin with vehicle. or human"),
        ({}, "future_boxes must be a list, got dict"),
    ],
)
def test_a_frame_with_faulty_boxes_is_listed_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any, message: str
) -> None:
    good = prepared("f", future_boxes=[[]] * 6)
    file = written(tmp_path / "way.json", [good, prepared("g", future_boxes=value)])
    predictions = written(tmp_path / "predictions.json", {token: json.dumps(SWERVES) for token in "fg"})
    arguments = ["open_loop", "--answers", str(file), "--predictions", str(predictions)]
    assert evaluate.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["scored"], figures["uniad"]["collision"]) == (1, [0, 0, 0])
    assert figures["faults"] == {"malformed_entry": 1}
    assert evaluate.main([*arguments, "--strict"]) == 2
    capsys.readouterr()
    with pytest.raises(DataError, match=message):
        read_road_users(file, ["g"], Faults(strict=True), None)
