"""From a plan to pedals and wheel: pure pursuit of its points, a PID on its speed, at the simulator's own rate.

A plan is where the vehicle should be at each half second from when it was made, in its own frame of then. The
embedded world drives by this file, and so does Bench2Drive's agent, whose Python is 3.7: the standard library alone,
and no syntax that is newer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Point = tuple[float, float]
    Pose = tuple[float, float, float]
    """x, y and yaw."""

INTERVAL_S = 0.5
"""Seconds between two points of a plan."""


class Controller:
    """Follows one plan after another.

    Args:
        wheelbase: metres.
        max_steer: radians of the front wheels at full lock.
        acceleration, braking: m/s² of the whole pedal.
        gains: of the PID on the speed: m/s² for each m/s, for each metre that it lags behind, and for each m/s² by
            which the error changes.
    """

    def __init__(
        self,
        wheelbase: float,
        max_steer: float,
        acceleration: float,
        braking: float,
        gains: tuple[float, float, float] = (2.0, 0.3, 0.0),
    ) -> None:
        """Follow nothing yet: until `begin` it brakes."""
        self.wheelbase, self.max_steer = wheelbase, max_steer
        self.acceleration, self.braking, self.gains = acceleration, braking, gains
        self.points: list[Point] = []
        self._origin = (0.0, 0.0, 0.0)
        self._speed = self._elapsed = self._lag = self._error = 0.0

    def begin(self, points: Sequence[Point], pose: Pose, speed: float) -> None:
        """Follow a plan.

        Args:
            points: metres ahead and to the left of where the vehicle is now, one for each half second.
            pose: x, y and yaw of now, in the frame in which `step` will tell it.
            speed: m/s of now.
        """
        self.points = list(points)
        self._origin, self._speed, self._elapsed = pose, speed, 0.0
        self._lag = self._error = 0.0

    def step(self, pose: Pose, speed: float, seconds: float) -> tuple[float, float, float]:
        """Steer (-1 to 1, left positive), throttle and brake (0 to 1) for the next `seconds`.

        When a plan has been driven to its end it goes on as it ended.
        """
        if not self.points:
            return 0.0, 0.0, 1.0
        now, wanted = self._wanted(self._elapsed), self._wanted(self._elapsed + seconds)
        self._elapsed += seconds
        error = now - speed
        self._lag += error * seconds
        proportional, integral, derivative = self.gains
        push = (wanted - now) / seconds + proportional * error + integral * self._lag
        push += derivative * (error - self._error) / seconds
        self._error = error
        if wanted < 0.1 and speed < 0.5:
            return self._steer(pose, speed), 0.0, 1.0
        throttle = min(1.0, max(0.0, push / self.acceleration))
        brake = min(1.0, max(0.0, -push / self.braking))
        return self._steer(pose, speed), throttle, brake

    def _wanted(self, elapsed: float) -> float:
        """The speed that the plan has `elapsed` seconds after its beginning: in each of its parts it changes evenly."""
        speed, before, wanted = self._speed, (0.0, 0.0), self._speed
        for number, point in enumerate(self.points):
            mean = math.hypot(point[0] - before[0], point[1] - before[1]) / INTERVAL_S
            at_end = max(0.0, 2.0 * mean - speed) if number == 0 else mean
            into = min(1.0, max(0.0, elapsed / INTERVAL_S - number))
            wanted = speed + (at_end - speed) * into
            if into < 1.0:
                break
            speed, before = at_end, point
        return wanted

    def _steer(self, pose: Pose, speed: float) -> float:
        """Pure pursuit of the point of the plan that is so far ahead."""
        x, y, yaw = self._local(pose)
        reach = max(2.5, 0.6 * speed)
        before: Point = (0.0, 0.0)
        target: Point | None = None
        for point in self._way(reach + math.hypot(x, y)):
            if math.hypot(point[0] - x, point[1] - y) >= reach and point[0] > x - reach / 2:
                target = _between(before, point, (x, y), reach)
                break
            before = point
        if target is None:
            return 0.0
        angle = math.atan2(target[1] - y, target[0] - x) - yaw
        wheels = math.atan2(2.0 * self.wheelbase * math.sin(angle), reach)
        return max(-1.0, min(1.0, wheels / self.max_steer))

    def _way(self, length: float) -> list[Point]:
        """The points, and more that go on as their last part does, up to `length` metres away."""
        points = [(0.0, 0.0)] + [p for p in self.points if math.hypot(p[0], p[1]) > 0.05]
        if len(points) == 1:
            return []
        (x0, y0), (x1, y1) = points[-2], points[-1]
        step = math.hypot(x1 - x0, y1 - y0)
        heading = math.atan2(y1 - y0, x1 - x0)
        earlier = math.atan2(y0 - points[-3][1], x0 - points[-3][0]) if len(points) > 2 else 0.0
        # A part that turned by `bend` begins in the direction in which the one before it ended.
        bend = heading - earlier if len(points) > 2 else 2.0 * heading
        bend = math.atan2(math.sin(bend), math.cos(bend))
        while step > 0.05 and math.hypot(x1, y1) < length + step and len(points) < 60:
            heading += bend
            x1, y1 = x1 + step * math.cos(heading), y1 + step * math.sin(heading)
            points.append((x1, y1))
        return points[1:]

    def _local(self, pose: Pose) -> Pose:
        x, y, yaw = self._origin
        dx, dy = pose[0] - x, pose[1] - y
        turned = pose[2] - yaw
        ahead, left = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
        return ahead, left, math.atan2(math.sin(turned), math.cos(turned))


def _between(before: Point, after: Point, centre: Point, reach: float) -> Point:
    """The point of a line's part that is `reach` from a centre, found by halving."""
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        x = before[0] + share * (after[0] - before[0])
        y = before[1] + share * (after[1] - before[1])
        if math.hypot(x - centre[0], y - centre[1]) < reach:
            low = share
        else:
            high = share
    return x, y
