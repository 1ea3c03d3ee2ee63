"""Ego trajectories: rigid motions in the plane, the two conventions of waypoints, and their words. Pure mathematics.

UniAD gives positions (x, y, yaw) and a command as an index; VAD gives the offset of each step and a command as one bit
of three. Both are in the LiDAR frame of the key frame: x to the right, y ahead, metres, 2 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from data.sample import Command

Waypoint = tuple[float, float, float]
"""x, y in metres, yaw in radians."""

INTERVAL_S = 0.5
PAST_STEPS, FUTURE_STEPS = 4, 6
"""2 s before and 3 s after the key frame."""
TURN_M = 2.0
"""Lateral offset at the end of the future from which a trajectory is a turn (UniAD)."""
UNIAD_COMMANDS: tuple[Command, ...] = ("right", "left", "forward")
"""Command by UniAD's index, and by the place of VAD's bit ("straight" is forward)."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Position (metres) and orientation (unit quaternion w, x, y, z) of a frame in its parent."""

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]

    def apply(self, point: Sequence[float]) -> tuple[float, float, float]:
        """A point of this frame in the parent's coordinates."""
        x, y, z = _rotated(self.rotation, point)
        tx, ty, tz = self.translation
        return x + tx, y + ty, z + tz

    def invert(self, point: Sequence[float]) -> tuple[float, float, float]:
        """A point of the parent in this frame's coordinates."""
        w, x, y, z = self.rotation
        moved = [value - origin for value, origin in zip(point, self.translation, strict=True)]
        return _rotated((w, -x, -y, -z), moved)

    @property
    def yaw(self) -> float:
        """Angle of the frame's x axis about the parent's vertical, radians in (-pi, pi]."""
        ahead = _rotated(self.rotation, (1.0, 0.0, 0.0))
        return math.atan2(ahead[1], ahead[0])


def seen_from(now: Pose, sensor: Pose, other: Pose) -> Waypoint:
    """Where the sensor is at another moment, in the sensor's frame of now.

    Args:
        now, other: ego poses in the world at the two moments.
        sensor: pose of the sensor on the vehicle.
    """
    x, y, _ = sensor.invert(now.invert(other.apply(sensor.translation)))
    turned = other.yaw - now.yaw
    return x, y, math.atan2(math.sin(turned), math.cos(turned))


def from_offsets(offsets: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """VAD's offsets of each step (metres), summed up to positions."""
    steps = [(float(x), float(y)) for x, y in offsets]
    return tuple(accumulate(steps, lambda at, step: (at[0] + step[0], at[1] + step[1])))


def with_yaw(points: Iterable[Sequence[float]]) -> tuple[Waypoint, ...]:
    """Positions with the direction of the step to each; 0 is straight ahead, a step under 1 cm keeps the last."""
    found: list[Waypoint] = []
    x0 = y0 = yaw = 0.0
    for x, y in points:
        if math.hypot(x - x0, y - y0) >= 0.01:
            yaw = math.atan2(-(x - x0), y - y0)
        found.append((float(x), float(y), yaw))
        x0, y0 = x, y
    return tuple(found)


def command_of(future: Sequence[Sequence[float]]) -> Command:
    """The command that the lateral offset of the last waypoint stands for."""
    across = future[-1][0]
    return "right" if across >= TURN_M else "left" if across <= -TURN_M else "forward"


def waypoint_text(points: Iterable[Sequence[float]], digits: int = 2) -> str:
    """A list such as "[(0.02, 3.11), (0.05, 6.20)]": x and y with two decimals, or as many."""
    rounded = [tuple(_zero(value, digits) for value in point[:2]) for point in points]
    return f"[{', '.join(f'({x:.{digits}f}, {y:.{digits}f})' for x, y in rounded)}]"


def _zero(value: float, digits: int) -> float:
    """A value that rounds to -0.00 as 0."""
    return 0.0 if abs(value) < 0.5 * 10.0**-digits else value


def _rotated(rotation: Sequence[float], point: Sequence[float]) -> tuple[float, float, float]:
    """A vector turned by a unit quaternion: v + 2 u x (u x v + w v)."""
    w, *u = rotation
    inner = _cross(u, point)
    outer = _cross(u, [value + w * other for value, other in zip(inner, point, strict=True)])
    x, y, z = (value + 2.0 * turn for value, turn in zip(point, outer, strict=True))
    return x, y, z


def _cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
