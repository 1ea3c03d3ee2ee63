"""A scenario: where the route leads, who is on it, and what is the matter with light, weather, cameras and brakes."""

from __future__ import annotations

from dataclasses import dataclass, field

from data.driving.road import Road
from data.driving.road_users import RoadUser
from data.rendered.scene import Sky

GRIP = 6.0
"""Largest lateral acceleration that tyres bear, m/s²; a car that would need more slides outwards."""


@dataclass
class Light:
    """A traffic light at the right of the road."""

    s: float
    """Where its stop line is."""
    red: bool
    green_at: float = 0.0
    """Seconds from the start at which a red light turns green."""
    red_within: float = 0.0
    """A green light turns red when the ego vehicle is this near (m); 0: never."""
    red_for: float = 5.0
    """Seconds that it then stays red."""
    turned_at: float | None = None

    def see(self, ego_s: float, time: float) -> None:
        """Change colour where it is time."""
        if not self.red and self.turned_at is None and 0.0 < self.s - ego_s < self.red_within:
            self.red, self.turned_at, self.green_at = True, time, time + self.red_for
        elif self.red and time >= self.green_at:
            self.red = False


@dataclass
class Scenario:
    """One start of an episode. `build_scenario` makes it; a world changes what is in it."""

    family: str
    seed: int
    road: Road
    length: float
    """Of the route in metres."""
    limit: float
    """Top speed in m/s."""
    speed: float
    """Of the ego vehicle at the start, m/s."""
    users: list[RoadUser] = field(default_factory=list)
    light: Light | None = None
    crosswalks: tuple[float, ...] = ()
    """Where stripes cross the road."""
    junctions: tuple[float, ...] = ()
    """Where another road crosses."""
    sky: Sky = "clear"
    fog: float | None = None
    """Metres after which contrast has fallen to 1/e; None: clear air."""
    dark: tuple[tuple[float, float], ...] = ()
    """Spans of s over which the front camera shows nothing."""
    lag: float = 0.0
    """Seconds until accelerator and brake obey."""
    warning: bool = False
    """A warning lamp tells that the brakes may lag."""
    scenery_seed: int = 0

    @property
    def id(self) -> str:
        """`family/seed`."""
        return f"{self.family}/{self.seed}"

    @property
    def time_limit(self) -> float:
        """Seconds after which the episode ends: about twice what the route takes at the limit, and the red light."""
        waiting = 0.0 if self.light is None else (self.light.green_at if self.light.red else self.light.red_for)
        return 3.0 + 1.9 * self.length / self.limit + waiting
