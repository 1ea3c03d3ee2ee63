"""What can be seen of a world from the ego vehicle now, and what of it is in the way: for the expert and the dashboard.

The front camera measures distances: what it cannot see (in fog, behind a van, while it is black) has none.
"""

from __future__ import annotations

from data.driving.road_users import RoadUser
from data.driving.world import LENGTH, World

SEEN_WITHIN = 30.0
"""Metres in clear air."""
IN_FOG = 2.0
"""How often the fog's distance can be seen."""
HALF_LANE = 1.45
WIDE = ("van", "bus", "hedge", "building")
"""What hides others behind it."""
DISTANCES = ((4.0, "very close"), (8.0, "close"), (13.0, "near"), (20.0, "far"))
"""Metres from bumper to bumper to how the dashboard calls them."""
NOTHING = "nothing"


def is_dark(world: World) -> bool:
    """Whether the front camera shows nothing."""
    return any(begin <= world.s < end for begin, end in world.scenario.dark)


def sight(world: World) -> float:
    """Metres that the front camera sees."""
    if is_dark(world):
        return 0.0
    return SEEN_WITHIN if world.scenario.fog is None else IN_FOG * world.scenario.fog


def visible(world: World) -> list[RoadUser]:
    """The road users ahead that the front camera shows."""
    far = sight(world)
    return [user for user in world.scenario.users if 0.0 < user.s - world.s < far and not _is_hidden(world, user)]


def in_the_way(world: World) -> list[tuple[float, float]]:
    """Gap in metres from bumper to bumper, and speed along the road, of all that can be seen in the lane ahead."""
    found = []
    for user in visible(world):
        crosses = abs(abs(user.heading) - 1.5708) < 0.1
        length, width = (user.size[1], user.size[0]) if crosses else user.size[:2]
        beside = abs(user.d - world.d) - width / 2
        if beside < HALF_LANE - 0.45:
            found.append((user.s - world.s - (length + LENGTH) / 2, 0.0 if crosses else user.speed))
    return found


def coming(world: World) -> list[float]:
    """Gaps in metres to those who can be seen to walk or drive into the lane."""
    found = []
    for user in visible(world):
        leads_in = user.script == "cross" and user.begun and user.speed > 0 and user.d * user.until < 0
        if (leads_in or (user.script == "pull_out" and user.begun)) and abs(user.d) < 6.5:
            found.append(user.s - world.s - LENGTH / 2 - user.size[1] / 2)
    return found


def dashboard(world: World) -> str:
    """How far the next thing in the lane is, in words."""
    return distance_word(min((gap for gap, _ in in_the_way(world)), default=99.0))


def distance_word(gap: float) -> str:
    """How the dashboard calls a gap in metres."""
    return next((word for metres, word in DISTANCES if gap < metres), NOTHING)


def _is_hidden(world: World, user: RoadUser) -> bool:
    """Whether something wide stands in the line of sight to a road user."""
    for other in world.scenario.users:
        if other is user or other.kind not in WIDE or not world.s < other.s < user.s:
            continue
        share = (other.s + other.size[0] / 2 - world.s) / max(0.1, user.s - world.s)
        line = world.d + (user.d - world.d) * min(1.0, share)
        if abs(line - other.d) < other.size[1] / 2:
            return True
    return False
