from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from data.errors import DataError
from evaluation.metrics.bench2drive import (
    Bench2DriveResult,
    Motion,
    comfort,
    composed_score,
    is_success,
    motion_profiles,
    read_motion,
    score,
)
from evaluation.suites.file_scoring import fault_notes

KINDS = ("collisions_layout", "collisions_pedestrian", "collisions_vehicle", "red_light", "stop_infraction",
         "outside_route_lanes", "min_speed_infractions", "yield_emergency_vehicle_infractions", "scenario_timeouts",
         "route_dev", "vehicle_blocked", "route_timeout")  # fmt: skip


def record(
    id_: str, completion: float = 100.0, composed: float | None = None, status: str = "", **events: list[str]
) -> dict[str, Any]:
    infractions = {kind: events.get(kind, []) for kind in KINDS}
    made: dict[str, Any] = {
        "route_id": id_,
        "status": status or ("Completed" if events else "Perfect"),
        "infractions": infractions,
        "scores": {"score_route": completion, "score_penalty": 1.0, "score_composed": 0.0},
    }
    made["scores"]["score_composed"] = composed_score(made) if composed is None else composed
    return made


def result_of(*records: Any) -> dict[str, Any]:
    return {"_checkpoint": {"records": list(records)}, "entry_status": "Finished"}


def steady(steps: int, acceleration: float = 0.0, yaw_rate: float = 0.0) -> Motion:
    def column(*vector: float) -> Any:
        return np.tile(np.array(vector, dtype=np.float64), (steps, 1))

    return Motion(column(acceleration, 0, 0), column(0, 0, yaw_rate), column(1, 0, 0), column(0, 1, 0))


@pytest.mark.parametrize(
    ("completion", "events", "expected"),
    [
        (100.0, {}, 100.0),
        (80.0, {"collisions_pedestrian": ["x"]}, 40.0),
        (100.0, {"collisions_vehicle": ["x", "y"]}, 36.0),
        (100.0, {"collisions_layout": ["x"], "red_light": ["x"]}, 45.5),
        (100.0, {"stop_infraction": ["x"], "scenario_timeouts": ["x"]}, 56.0),
        (50.0, {"yield_emergency_vehicle_infractions": ["x"]}, 35.0),
        (100.0, {"outside_route_lanes": ["for about 20.5 meters (12.5% of the completed route)"]}, 87.5),
        (100.0, {"min_speed_infractions": ["Average speed is 40% of the surrounding traffic's one"]}, 100.0),
    ],
)
def test_a_routes_score_is_its_completion_times_every_penalty(
    completion: float, events: dict[str, list[str]], expected: float
) -> None:
    made = record("r", completion)
    made["infractions"] |= events
    assert composed_score(made) == pytest.approx(expected)


def test_success_needs_completion_and_no_infraction_but_slowness() -> None:
    assert is_success(record("r"))
    assert is_success(record("r", min_speed_infractions=["30%"]))
    assert not is_success(record("r", red_light=["x"]))
    assert not is_success(record("r", 60.0, status="Failed - Agent got blocked"))
    assert not is_success(record("r", route_timeout=["Route timeout."]))


def test_scores_and_successes_are_shared_among_all_220_routes() -> None:
    result = score(result_of(record("a"), record("b", 50.0, status="Failed"), record("c", collisions_vehicle=["x"])))
    assert result.driving_score == pytest.approx((100 + 50 + 60) / 220)
    assert result.success_rate == pytest.approx(100 / 220)
    assert (result.scored, result.routes) == (3, 220)
    assert result.faults == {"missing_route": ["(unnamed, 217 of 220 routes)"] * 217}


@pytest.mark.parametrize("missing", [0, 2, 7])
def test_missing_routes_are_counted_without_a_list_of_them_too(missing: int) -> None:
    result = score(result_of(*(record(str(number)) for number in range(220 - missing))))
    assert len(result.faults.get("missing_route", [])) == missing
    assert len(fault_notes(result)) == (missing > 0)
    if missing:
        with pytest.raises(DataError, match=rf"{missing} missing_route; first: \(unnamed, {missing} of 220 routes\)"):
            score(result_of(*(record(str(number)) for number in range(220 - missing))), strict=True)


def test_missing_crashed_and_unknown_routes_are_named() -> None:
    crashed = record("b", 30.0, status="Failed - Simulation crashed")
    tree = result_of(record("a"), crashed, record("z"))
    result = score(tree, ["a", "b", "c", "d"])
    assert result.faults == {"unknown_id": ["z"], "crashed_route": ["b"], "missing_route": ["c", "d"]}
    assert (result.driving_score, result.success_rate) == (32.5, 25.0)
    with pytest.raises(DataError, match=r"2 missing_route, 1 crashed_route, 1 unknown_id; first: c"):
        score(tree, ["a", "b", "c", "d"], strict=True)


def test_a_broken_record_is_a_failure_and_a_second_record_replaces_the_first() -> None:
    tree = result_of({"route_id": "a", "status": "Perfect"}, record("b", 10.0, status="Failed"), record("b"), {"x": 1})
    result = score(tree, ["a", "b"])
    assert (result.driving_score, result.success_rate) == (50.0, 50.0)
    assert result.faults == {"duplicate_id": ["b"], "broken_record": ["_checkpoint.records[3]", "a"]}


@pytest.mark.parametrize("points", [10**400, math.nan, math.inf, -1.0, True, "100"])
def test_a_record_needs_points_from_0_to_100(points: Any) -> None:
    result = score(result_of(record("a"), record("b", composed=points)), ["a", "b"])
    assert (result.driving_score, result.faults) == (50.0, {"broken_record": ["b"]})


@pytest.mark.parametrize("kind", ["outside_route_lanes", "red_light", "min_speed_infractions"])
def test_an_infraction_that_is_no_text_breaks_its_record_alone(kind: str) -> None:
    broken = record("b")
    broken["infractions"][kind] = [None]
    result = score(result_of(record("a"), broken), ["a", "b"])
    assert (result.driving_score, result.faults) == (50.0, {"broken_record": ["b"]})


def test_a_score_that_does_not_follow_from_the_infractions_is_named_and_used_as_recorded() -> None:
    result = score(result_of(record("a", composed=90.0, red_light=["x"])), ["a"])
    assert (result.driving_score, result.faults) == (90.0, {"score_differs": ["a"]})


def test_efficiency_is_the_mean_of_routes_without_absurd_values_and_empty_routes() -> None:
    def slow(id_: str, *shares: str) -> dict[str, Any]:
        return record(id_, min_speed_infractions=[f"Average speed is {share} of the traffic's" for share in shares])

    tree = result_of(slow("a", "50%", "150.5%", "1200%"), slow("b", "80%"), slow("c", "3000%"), record("d"))
    result = score(tree, ["a", "b", "c", "d"])
    assert result.efficiency == pytest.approx((100.25 + 80) / 2)
    assert result.faults == {"efficiency_dropped": ["c"]}
    assert score(result_of(record("d")), ["d"]).efficiency is None


def test_what_is_no_leaderboard_result_is_refused() -> None:
    with pytest.raises(DataError, match=r"no list _checkpoint\.records"):
        score({"records": []})
    with pytest.raises(DataError, match="no usable route"):
        score(result_of())
    with pytest.raises(DataError, match="holds 2 routes, the benchmark has 1"):
        score(result_of(record("a"), record("b")), count=1)


@pytest.mark.parametrize(
    ("acceleration", "comfortable"), [(0.0, 1.0), (2.39, 1.0), (2.41, 0.0), (-4.04, 1.0), (-4.06, 0.0)]
)
def test_a_steady_acceleration_is_comfortable_within_its_bounds(acceleration: float, comfortable: float) -> None:
    assert comfort(steady(20, acceleration)) == comfortable


def test_only_whole_segments_of_a_longer_route_count() -> None:
    motion = steady(59)
    motion.acceleration[20:40, 1] = 5.0  # sideways, in the second segment
    motion.acceleration[40:, 0] = 9.0  # in the rest, which has 19 steps
    assert comfort(motion) == 0.5


def test_a_jerk_beyond_its_bound_is_not_comfortable() -> None:
    def ramp(jerk: float) -> Motion:
        motion = steady(20)
        motion.acceleration[:, 0] = jerk * 0.1 * np.arange(20) - jerk  # straight lines pass the filter unchanged
        return motion

    assert motion_profiles(ramp(1.5), slice(0, 20), mended=False)["lon_jerk"] == pytest.approx(1.5)
    assert comfort(ramp(2.3)) == 1.0
    assert comfort(ramp(4.2)) == 0.0  # |acceleration| stays below 4.05; 4.2 m/s3 does not below 4.13


def test_yaw_is_bounded_as_published_and_as_meant() -> None:
    turning = steady(20, yaw_rate=30.0)  # degrees/s, 0.52 rad/s
    assert comfort(turning) == 0.0  # read as 30 rad/s
    assert comfort(turning, mended=True) == 1.0
    swerving = steady(20)
    swerving.angular_velocity[:, 2] = 0.04 * np.arange(20)  # 0.4 degrees/s2, at most 0.76 degrees/s
    published = motion_profiles(swerving, slice(0, 20), mended=False)
    assert published["yaw_acceleration"] == pytest.approx(published["yaw_rate"])
    assert motion_profiles(swerving, slice(0, 20), mended=True)["yaw_acceleration"] == pytest.approx(np.radians(0.4))


def test_comfort_is_averaged_over_routes_and_a_route_without_motion_is_named() -> None:
    tree = result_of(record("a"), record("b"), record("c"), record("d"))
    motions = {"a": steady(20), "b": steady(20, 3.0), "c": steady(2)}
    result = score(tree, ["a", "b", "c", "d"], motions=motions)
    assert (result.comfort, result.comfort_mended) == (50.0, 50.0)
    assert result.faults == {"no_motion": ["c", "d"]}
    assert score(tree, ["a", "b", "c", "d"]).comfort is None


def test_motion_is_read_from_metric_info_and_a_step_that_lacks_a_vector_is_refused() -> None:
    vectors = {"acceleration": [1, 2, 3], "angular_velocity": [0, 0, 1], "forward_vector": [1, 0, 0]}
    step = {**vectors, "right_vector": [0, 1, 0], "location": [0, 0, 0]}
    assert read_motion({"0": step, "1": step}).acceleration.tolist() == [[1, 2, 3], [1, 2, 3]]
    odd: list[dict[str, Any]] = [
        {"0": {**step, "acceleration": [1, number, 3]}} for number in (math.nan, math.inf, 10**400, "fast")
    ]
    for broken in ({"0": step, "1": vectors}, {"0": {**step, "acceleration": [1, 2]}}, {}, *odd):
        with pytest.raises(DataError, match="every step needs acceleration"):
            read_motion(broken)


def test_the_result_is_one_json_object() -> None:
    result: Bench2DriveResult = score(result_of(record("a")), ["a"])
    assert json.loads(result.to_json())["driving_score"] == 100.0
