"""A road as a line, an arc and a line, with coordinates along it and across it. Geometry only; it knows no traffic.

`s` is metres along the middle of the ego vehicle's lane, `d` metres to the left of it, `yaw` radians counter-clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LANE = 3.5
"""Width of a lane in metres; the oncoming lane lies to the left, a parking strip to the right."""
STRIP = 2.5
RIGHT_EDGE, LEFT_EDGE = -LANE / 2 - STRIP, 1.5 * LANE
"""Where the asphalt ends."""
PAVEMENT = 2.2
"""Width of the pavement on both sides."""


@dataclass(frozen=True)
class Road:
    """A straight of `before` metres, an arc of `angle` radians (left: positive) with this `radius`, a straight."""

    before: float = 1e4
    radius: float = 20.0
    angle: float = 0.0

    @cached_property
    def arc(self) -> float:
        """Length of the arc in metres."""
        return abs(self.angle) * self.radius

    @cached_property
    def turn(self) -> float:
        """1.0 for an arc to the left, -1.0 to the right, 0.0 for a road without one."""
        return float(np.sign(self.angle))

    def curvature(self, s: float) -> float:
        """1 / m at `s`, positive to the left."""
        return self.turn / self.radius if self.before < s < self.before + self.arc else 0.0

    def pose(self, s: float, d: float = 0.0) -> tuple[float, float, float]:
        """x, y and yaw of the road at (s, d)."""
        if s <= self.before or not self.turn:
            x, y, yaw = s, 0.0, 0.0
        else:
            along = min(s - self.before, self.arc) / self.radius
            yaw = self.turn * along
            x = self.before + self.radius * math.sin(along)
            y = self.turn * self.radius * (1.0 - math.cos(along))
            rest = s - self.before - self.arc
            if rest > 0:
                x, y = x + rest * math.cos(yaw), y + rest * math.sin(yaw)
        return x - d * math.sin(yaw), y + d * math.cos(yaw), yaw

    def place(self, x: float, y: float) -> tuple[float, float]:
        """(s, d) of a point."""
        if x <= self.before or not self.turn:
            return x, y
        along = math.atan2(x - self.before, self.radius - self.turn * y)
        if along <= abs(self.angle):
            reach = math.hypot(x - self.before, self.radius - self.turn * y)
            return self.before + along * self.radius, self.turn * (self.radius - reach)
        end_x, end_y, yaw = self.pose(self.before + self.arc)
        ahead, left = _turned(x - end_x, y - end_y, yaw)
        return self.before + self.arc + ahead, left

    def places(self, x_N: Floats, y_N: Floats) -> tuple[Floats, Floats]:
        """(s, d) of many points at once; points beyond the arc belong to the second line."""
        if not self.turn:
            return x_N, y_N
        over_N, side_N = x_N - np.float32(self.before), np.float32(self.radius) - np.float32(self.turn) * y_N
        along_N = np.arctan2(over_N, side_N)
        s_N, d_N = x_N.copy(), y_N.copy()
        bent_N = (over_N > 0) & (along_N <= abs(self.angle)) & (along_N > 0)
        s_N[bent_N] = self.before + along_N[bent_N] * self.radius
        d_N[bent_N] = self.turn * (self.radius - np.hypot(over_N[bent_N], side_N[bent_N]))
        end_x, end_y, yaw = self.pose(self.before + self.arc)
        dx_N, dy_N = x_N - np.float32(end_x), y_N - np.float32(end_y)
        cos, sin = np.float32(math.cos(yaw)), np.float32(math.sin(yaw))
        past_N = (over_N > 0) & ~bent_N & (dx_N * cos + dy_N * sin > 0)
        s_N[past_N] = (self.before + self.arc + dx_N * cos + dy_N * sin)[past_N]
        d_N[past_N] = (dy_N * cos - dx_N * sin)[past_N]
        return s_N, d_N


def _turned(dx: float, dy: float, yaw: float) -> tuple[float, float]:
    return dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
