"""Everything on and beside the road but the ego vehicle: what it is, and the script or car-following model it moves by.

Positions are (s, d) of `Road`. A script sees the ego vehicle's place and speed, as a scenario's director would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["car", "van", "bus", "child", "pedestrian", "cyclist", "building", "hedge"]
Script = Literal["still", "follow", "cross", "pull_out"]

SIZES: dict[Kind, tuple[float, float, float]] = {
    "car": (4.2, 1.8, 1.5),
    "van": (5.2, 2.0, 2.4),
    "bus": (9.0, 2.4, 3.0),
    "child": (0.5, 0.5, 1.2),
    "pedestrian": (0.6, 0.6, 1.8),
    "cyclist": (1.8, 0.6, 1.7),
    "building": (12.0, 8.0, 7.0),
    "hedge": (7.0, 1.2, 2.2),
}
"""Length, width and height in metres."""
ON_FOOT = ("child", "pedestrian")
SCENERY = ("building", "hedge")

COMFORT, GAP, HEADWAY, BRAKE = 2.0, 2.5, 1.2, 3.0
"""Of the intelligent driver model: acceleration (m/s²), standstill gap (m), headway (s), comfortable braking (m/s²)."""
WAITS_WITHIN = 1.2
"""A road user does not walk or drive into a standing car: it waits while it would come this near (m)."""


@dataclass
class Ego:
    """What a script may know of the ego vehicle."""

    s: float
    d: float
    speed: float


@dataclass
class RoadUser:
    """One road user, or a piece of scenery."""

    kind: Kind
    s: float
    d: float
    heading: float = 0.0
    """Radians from the road's own direction."""
    speed: float = 0.0
    colour: str = "white"
    script: Script = "still"
    cruise: float = 0.0
    """Speed that it moves at once it moves, m/s."""
    trigger: float = 0.0
    """Its script begins when the ego vehicle is this near along the road (m)."""
    until: float = 0.0
    """`cross`: d at which it has crossed. `pull_out`: d of the lane that it moves into."""
    stops: tuple[tuple[float, float, float], ...] = ()
    """`follow`: from a time, to a time (s), a speed (m/s) that it brakes to."""
    brakes: float = 6.0
    """`follow`: how hard it brakes for a stop, m/s²."""
    leaves: bool = False
    """A standing car that drives off once the ego vehicle has come near and stopped behind it."""
    begun: bool = False
    braking: bool = False
    size: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        """Take the size of its kind."""
        if not self.size[0]:
            self.size = SIZES[self.kind]

    def move(self, ego: Ego, ahead: RoadUser | None, time: float, step: float) -> None:
        """Move for `step` seconds; `ahead` is who drives in front of it in its lane."""
        if self.script == "follow":
            self._follow(ego, ahead, time, step)
        elif self.script == "cross":
            self._cross(ego, step)
        elif self.script == "pull_out":
            self._pull_out(ego, step)

    def _follow(self, ego: Ego, ahead: RoadUser | None, time: float, step: float) -> None:
        wanted = next((speed for begin, end, speed in self.stops if begin <= time < end), None)
        if self.leaves and not self.begun:
            near = self.s - ego.s < 11.0 and ego.speed < 2.0
            self.begun, wanted = near, None if near else 0.0
        change = idm(self.speed, self.cruise, ahead.s - self.s if ahead else None, ahead.speed if ahead else 0.0)
        if wanted is not None and self.speed > wanted:
            change = -self.brakes
        elif wanted is not None:
            change = min(change, 0.0)
        self.braking = change < -0.5 or (wanted is not None and self.speed < 0.1)
        self.speed = max(0.0, self.speed + change * step)
        self.s += self.speed * step

    def _cross(self, ego: Ego, step: float) -> None:
        self.begun = self.begun or self.s - ego.s < self.trigger
        sense = math.copysign(1.0, self.until - self.d)
        if not self.begun or abs(self.until - self.d) < 0.1 or self._meets(ego, sense):
            self.speed = 0.0
            return
        self.speed, self.heading = self.cruise, sense * math.pi / 2
        self.d += sense * self.cruise * step

    def _meets(self, ego: Ego, sense: float) -> bool:
        """Whether its next steps lead into a car that stands there."""
        reach = WAITS_WITHIN + self.size[0] / 2 + 0.925
        beside = abs(self.s - ego.s) < 2.2 + self.size[1] / 2 + 0.4
        return ego.speed < 0.6 and beside and 0.0 < (ego.d - self.d) * sense < reach

    def _pull_out(self, ego: Ego, step: float) -> None:
        self.begun = self.begun or self.s - ego.s < self.trigger
        if not self.begun:
            return
        self.speed = min(self.cruise, self.speed + COMFORT * step)
        left = self.until - self.d
        sideways = math.copysign(min(abs(left), 1.3 * step), left)
        self.heading = math.atan2(sideways / step, max(1.0, self.speed)) if abs(left) > 0.05 else 0.0
        self.d += sideways
        self.s += self.speed * step


def idm(speed: float, wanted: float, gap: float | None, speed_ahead: float) -> float:
    """Acceleration of the intelligent driver model (Treiber, Hennecke, Helbing 2000, Eq. 1-3), m/s²; at least -6.

    Args:
        speed: m/s.
        wanted: m/s that it would drive alone.
        gap: metres from middle to middle of who is ahead; None: nobody.
        speed_ahead: m/s of that one.
    """
    free = 1.0 - (speed / max(wanted, 0.1)) ** 4
    if gap is None:
        return max(-6.0, COMFORT * free)
    closing = speed * (speed - speed_ahead) / (2.0 * math.sqrt(COMFORT * BRAKE))
    desired = GAP + max(0.0, speed * HEADWAY + closing)
    return max(-6.0, COMFORT * (free - (desired / max(gap - 4.5, 0.1)) ** 2))
