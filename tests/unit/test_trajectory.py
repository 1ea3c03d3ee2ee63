from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.trajectory import (
    Pose,
    command_of,
    from_offsets,
    seen_from,
    waypoint_text,
    with_yaw,
)

METRES = st.floats(-1000, 1000)
POINTS = st.tuples(METRES, METRES, METRES)
ANGLES = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1)


def unit(quaternion: tuple[float, ...]) -> tuple[float, float, float, float]:
    size = math.hypot(*quaternion)
    w, x, y, z = (value / size for value in quaternion)
    return w, x, y, z


@given(POINTS, ANGLES, POINTS)
def test_a_pose_is_undone_by_its_inverse(
    translation: tuple[float, float, float], q: tuple[float, ...], p: list[float]
) -> None:
    pose = Pose(translation, unit(q))
    assert pose.invert(pose.apply(p)) == pytest.approx(tuple(p), abs=1e-6)


@given(POINTS, ANGLES, POINTS, ANGLES)
def test_seen_from_itself_everything_is_at_the_origin(
    at: tuple[float, float, float], q: tuple[float, ...], mount: tuple[float, float, float], r: tuple[float, ...]
) -> None:
    now, sensor = Pose(at, unit(q)), Pose(mount, unit(r))
    assert seen_from(now, sensor, now) == pytest.approx((0, 0, 0), abs=1e-6)


def test_a_quarter_turn_about_the_vertical_turns_x_to_y() -> None:
    pose = Pose((1, 2, 3), (math.sqrt(0.5), 0, 0, math.sqrt(0.5)))
    assert pose.apply((1, 0, 0)) == pytest.approx((1, 3, 3))
    assert pose.yaw == pytest.approx(math.pi / 2)


def test_offsets_are_summed_up() -> None:
    assert from_offsets([[1, 2], [0, 3], [-1, 0]]) == ((1, 2), (1, 5), (0, 5))


def test_yaw_follows_the_steps_and_a_standing_vehicle_keeps_it() -> None:
    ahead, left, stands = with_yaw([(0, 2), (-2, 2), (-2, 2)])
    assert (ahead[2], left[2], stands[2]) == pytest.approx((0, math.pi / 2, math.pi / 2))


@pytest.mark.parametrize(("x", "command"), [(2.0, "right"), (1.99, "forward"), (-1.99, "forward"), (-2.0, "left")])
def test_two_metres_aside_are_a_turn(x: float, command: str) -> None:
    assert command_of([(0, 5, 0), (x, 30, 0)]) == command


def test_waypoints_are_written_to_the_centimetre_and_nought_without_a_sign() -> None:
    assert waypoint_text([(-0.004, 3.111), (0.05, -6.196)]) == "[(0.00, 3.11), (0.05, -6.20)]"
