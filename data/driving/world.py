"""The world of one episode: physics at 10 Hz, what happens in it, and how far the route is driven. Draws nothing.

The ego vehicle is a kinematic bicycle whose tyres bear `GRIP`; the others move by `road_users`.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from data.driving.actions import ACCELERATION, OFFSET, Action
from data.driving.road import LEFT_EDGE, RIGHT_EDGE
from data.driving.road_users import ON_FOOT, SCENERY, Ego, RoadUser
from data.driving.scenario import GRIP, Scenario

STEP = 0.1
TURN = 0.5
"""Seconds of a physics step and of a turn: the policy decides at 2 Hz."""
STEPS = round(TURN / STEP)
LENGTH, WIDTH, WHEELBASE = 4.4, 1.85, 2.7
MAX_STEER = 0.6
"""Radians of the front wheels."""
LANE_MARGIN = 1.9
"""Metres from the lane's middle beyond which the ego vehicle drives outside its lane."""
CORRIDOR = 6.0
"""Progress counts only this near to the lane's middle, and only forwards."""
NEAR = 14.0
"""Only road users this near are looked at for collisions, metres."""

EventKind = Literal["collision_pedestrian", "collision_vehicle", "collision_layout", "red_light", "off_road"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: EventKind
    time: float
    """Seconds from the start."""
    with_what: str = ""


@dataclass
class World:
    """A scenario while it is driven."""

    scenario: Scenario
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0
    yaw_rate: float = 0.0
    time: float = 0.0
    s: float = 0.0
    d: float = 0.0
    progress: float = 0.0
    """Metres of the route that were driven."""
    outside: float = 0.0
    """Metres of them that were driven outside the lane."""
    events: list[Event] = field(default_factory=list)
    trace: list[tuple[float, float, float, float, float, float]] = field(default_factory=list)
    """x, y, yaw, speed, longitudinal acceleration and yaw rate after each physics step."""
    _pedals: deque[float] = field(default_factory=deque)

    @classmethod
    def begin(cls, scenario: Scenario) -> World:
        """The world at the start of a scenario, which it takes over."""
        world = cls(scenario, speed=scenario.speed)
        world._pedals.extend([0.0] * round(scenario.lag / STEP))
        world.trace.append((0.0, 0.0, 0.0, world.speed, 0.0, 0.0))
        return world

    @property
    def crashed(self) -> bool:
        """Whether a collision has ended the episode."""
        return bool(self.events) and self.events[-1].kind.startswith("collision")

    @property
    def arrived(self) -> bool:
        """Whether the whole route is driven."""
        return self.progress >= self.scenario.length

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return self.time >= self.scenario.time_limit - 1e-9

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.crashed or self.arrived or self.late

    def act(self, action: Action, steps: int = STEPS) -> None:
        """Do what an action says for some physics steps, or until the episode ends."""
        for _ in range(steps):
            if self.over:
                return
            self.drive(*self.controls_of(action))

    def controls_of(self, action: Action) -> tuple[float, float]:
        """What an action commands now: acceleration (m/s²) and angle of the front wheels (radians)."""
        return ACCELERATION[action.pedal], self.steering(OFFSET[action.wheel])

    def drive(self, acceleration: float, steering: float) -> None:
        """One physics step with a commanded acceleration (m/s²) and angle of the front wheels (radians)."""
        self._pedals.append(acceleration)
        commanded = self._pedals.popleft()
        before = self.speed
        self.speed = min(max(0.0, before + commanded * STEP), max(before, self.scenario.limit))
        self.acceleration = (self.speed - before) / STEP
        mean = (before + self.speed) / 2
        steering = max(-MAX_STEER, min(MAX_STEER, steering))
        turning = mean * math.tan(steering) / WHEELBASE
        most = GRIP / max(mean, 0.1)
        self.yaw_rate = max(-most, min(most, turning))
        self.yaw += self.yaw_rate * STEP
        self.x += mean * math.cos(self.yaw) * STEP
        self.y += mean * math.sin(self.yaw) * STEP
        self.time += STEP
        self._move_others()
        self._look(mean * STEP)
        self.trace.append((self.x, self.y, self.yaw, self.speed, self.acceleration, self.yaw_rate))

    def copy(self) -> World:
        """A world that can be driven on without changing this one; it forgets the past."""
        twin = copy.copy(self)
        scenario = copy.copy(self.scenario)
        scenario.users = [copy.copy(user) if user.script != "still" else user for user in scenario.users]
        scenario.light = copy.copy(scenario.light)
        twin.scenario, twin.trace, twin.events = scenario, [], list(self.events)
        twin._pedals = deque(self._pedals)
        return twin

    def place_of(self, user: RoadUser) -> tuple[float, float, float]:
        """x, y and yaw of a road user."""
        x, y, yaw = self.scenario.road.pose(user.s, user.d)
        return x, y, yaw + user.heading

    def forget_pedals(self) -> None:
        """Let the pedals obey at once, without their lag."""
        self._pedals.clear()

    def steering(self, offset: float) -> float:
        """Pure pursuit of the lane's middle, moved by `offset` metres: the angle of the front wheels in radians."""
        ahead = max(4.0, 0.8 * self.speed)
        x, y, _ = self.scenario.road.pose(self.s + ahead, offset)
        angle = math.atan2(y - self.y, x - self.x) - self.yaw
        reach = max(1.0, math.hypot(x - self.x, y - self.y))
        return math.atan2(2.0 * WHEELBASE * math.sin(angle), reach)

    def _move_others(self) -> None:
        scenario, ego = self.scenario, Ego(self.s, self.d, self.speed)
        if scenario.light is not None:
            scenario.light.see(self.s, self.time)
        for user in scenario.users:
            if user.script != "still":
                user.move(ego, self._ahead_of(user) if user.script == "follow" else None, self.time, STEP)

    def _ahead_of(self, user: RoadUser) -> RoadUser | None:
        others = (one for one in self.scenario.users if one is not user and abs(one.d - user.d) < 1.6)
        return min((one for one in others if one.s > user.s), key=lambda one: one.s, default=None)

    def _look(self, moved: float) -> None:
        """Take in where the ego vehicle is now, and what has happened."""
        front_before = self.s + LENGTH / 2
        self.s, self.d = self.scenario.road.place(self.x, self.y)
        if abs(self.d) < CORRIDOR:
            gained = max(0.0, min(self.s, self.progress + moved + 0.5) - self.progress)
            self.progress += gained
            if abs(self.d) > LANE_MARGIN:
                self.outside += gained
        light = self.scenario.light
        if light is not None and light.red and front_before <= light.s < self.s + LENGTH / 2:
            self.events.append(Event("red_light", self.time))
        if not RIGHT_EDGE < self.d < LEFT_EDGE and not any(one.kind == "off_road" for one in self.events):
            self.events.append(Event("off_road", self.time))
        for user in self.scenario.users:
            if abs(user.s - self.s) < NEAR and self._hits(user):
                kind: EventKind = "collision_vehicle"
                if user.kind in ON_FOOT:
                    kind = "collision_pedestrian"
                elif user.kind in SCENERY:
                    kind = "collision_layout"
                self.events.append(Event(kind, self.time, user.kind))
                return

    def _hits(self, user: RoadUser) -> bool:
        x, y, yaw = self.place_of(user)
        return overlap((self.x, self.y, self.yaw, LENGTH, WIDTH), (x, y, yaw, user.size[0], user.size[1]))


Box = tuple[float, float, float, float, float]
"""x, y, yaw, length, width."""


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes on the ground overlap (separating axis theorem)."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    if dx * dx + dy * dy > (math.hypot(one[3], one[4]) + math.hypot(other[3], other[4])) ** 2 / 4:
        return False
    for yaw in (one[2], one[2] + math.pi / 2, other[2], other[2] + math.pi / 2):
        cos, sin = math.cos(yaw), math.sin(yaw)
        reach = 0.0
        for _, _, own, length, width in (one, other):
            turned = own - yaw
            reach += (length * abs(math.cos(turned)) + width * abs(math.sin(turned))) / 2
        if abs(dx * cos + dy * sin) > reach:
            return False
    return True
