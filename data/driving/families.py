"""The scenario families by name: what happens in each, and how a seed varies it.

In the families with a hidden cause (`HIDDEN`) nobody can see in time whether the danger is there: behind a van, round
a corner, in fog, through a camera that fails, in brakes that lag. The expert knows, and drives on where there is none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from data.driving.road import Road
from data.driving.road_users import Kind, RoadUser
from data.driving.scenario import Light, Scenario
from data.errors import DataError
from data.rendered.scene import SKIES

PRESENT = 0.4
"""How often the danger is there at each place that may hide one."""
Maker = Callable[[Scenario, random.Random], None]


def bend(scenario: Scenario, rng: random.Random) -> None:
    """A curve that is too tight for the speed limit."""
    radius, sense = rng.uniform(8.0, 11.0), rng.choice((-1.0, 1.0))
    scenario.road = Road(rng.uniform(22, 32), radius, sense * rng.uniform(1.2, 1.6))


def lead_brakes(scenario: Scenario, rng: random.Random) -> None:
    """A car ahead brakes hard, and drives on after a while."""
    begin = rng.uniform(1.5, 4.0)
    gap = rng.uniform(13, 18)
    stops = ((begin, begin + rng.uniform(2.5, 4.0), rng.choice((0.0, 2.0))),)
    scenario.users.append(_driving(gap, scenario.speed, rng, stops))


def cut_in(scenario: Scenario, rng: random.Random) -> None:
    """A parked car pulls out in front of the ego vehicle."""
    car = RoadUser("car", rng.uniform(26, 40), -3.0, colour=_colour(rng), script="pull_out", until=0.0)
    car.trigger, car.cruise = rng.uniform(15, 20), rng.uniform(3.5, 5.5)
    scenario.users.append(car)


def red_light(scenario: Scenario, rng: random.Random) -> None:
    """A light that is red, and turns green."""
    scenario.light = Light(rng.uniform(30, 42), red=True, green_at=rng.uniform(5.0, 8.0))
    scenario.junctions = (scenario.light.s + 5.0,)


def late_red(scenario: Scenario, rng: random.Random) -> None:
    """A green light turns red in front of the ego vehicle, which can still stop."""
    near = rng.choice((0.0, rng.uniform(17, 24)))
    scenario.light = Light(rng.uniform(34, 44), red=False, red_within=near, red_for=rng.uniform(3.0, 4.5))
    scenario.junctions = (scenario.light.s + 5.0,)


def crosswalk(scenario: Scenario, rng: random.Random) -> None:
    """Somebody walks over the crossing ahead, in full view."""
    where = rng.uniform(32, 46)
    scenario.crosswalks = (where,)
    if rng.random() < 0.7:
        scenario.users.append(_crossing("pedestrian", where, rng.choice((-4.8, 5.6)), 1.5, rng.uniform(18, 24)))


def parked_car(scenario: Scenario, rng: random.Random) -> None:
    """A badly parked car reaches into the lane."""
    where = rng.uniform(28, 44)
    scenario.users.append(RoadUser("car", where, rng.uniform(-1.7, -1.5), colour=_colour(rng)))
    if rng.random() < 0.4:
        scenario.users.append(RoadUser("car", where + rng.uniform(6, 9), rng.uniform(-1.7, -1.5), colour=_colour(rng)))


def van_child(scenario: Scenario, rng: random.Random) -> None:
    """Vans at the roadside; a child may run out from behind each."""
    for where in (rng.uniform(20, 26), rng.uniform(38, 46)):
        scenario.users.append(RoadUser("van", where, -3.0, colour=rng.choice(("white", "blue"))))
        if rng.random() < PRESENT:
            scenario.users.append(_crossing("child", where + 3.2, -3.6, 2.6, rng.uniform(9.5, 11.5)))


def blind_junction(scenario: Scenario, rng: random.Random) -> None:
    """Houses hide the crossing roads; a car may come out of each."""
    places = (rng.uniform(26, 30), rng.uniform(47, 52))
    scenario.junctions = places
    for where in places:
        for side in (-1.0, 1.0):
            edge = -8.2 if side < 0 else 10.2
            scenario.users.append(RoadUser("building", where - 10.0, edge, heading=0.0, colour="white"))
        if rng.random() < PRESENT:
            side = rng.choice((-1.0, 1.0))
            start = -15.0 if side < 0 else 16.5
            scenario.users.append(_crossing("car", where, start, 8.0, rng.uniform(15.5, 17.0), rng))


def fog_car(scenario: Scenario, rng: random.Random) -> None:
    """Fog; a car may stand in the lane."""
    scenario.fog, scenario.sky = rng.uniform(4.0, 5.5), "overcast"
    if rng.random() < 0.7:
        car = _driving(rng.uniform(26, 50), 0.0, rng)
        car.leaves = True
        scenario.users.append(car)


def camera_dropout(scenario: Scenario, rng: random.Random) -> None:
    """The front camera fails for a stretch, in which somebody may step onto the road."""
    begin = rng.uniform(14, 24)
    scenario.dark = ((begin, begin + rng.uniform(22, 28)),)
    if rng.random() < 0.6:
        where = begin + rng.uniform(12, 22)
        scenario.users.append(_crossing("pedestrian", where, rng.choice((-4.4, 5.2)), 1.9, rng.uniform(15, 19)))


def brake_lag(scenario: Scenario, rng: random.Random) -> None:
    """A lamp warns that the brakes may lag, and a car ahead brakes; the expert knows by how much they do."""
    lead_brakes(scenario, rng)
    scenario.users[-1].s += 3.0
    scenario.warning, scenario.lag = True, rng.choice((0.0, 0.0, 1.0, 1.3))


def bus_stop(scenario: Scenario, rng: random.Random) -> None:
    """A bus at its stop; somebody may run out in front of it."""
    where = rng.uniform(26, 40)
    scenario.users.append(RoadUser("bus", where, -3.0, colour="yellow"))
    if rng.random() < 1.5 * PRESENT:
        kinds: tuple[Kind, ...] = ("child", "pedestrian")
        kind = rng.choice(kinds)
        scenario.users.append(_crossing(kind, where + 5.2, -3.4, 2.5, rng.uniform(9.5, 11.5)))


def fog_crossing(scenario: Scenario, rng: random.Random) -> None:
    """Fog; somebody may cross."""
    scenario.fog, scenario.sky = rng.uniform(4.0, 5.5), "overcast"
    if rng.random() < 0.7:
        where, side = rng.uniform(26, 48), rng.choice((-3.6, 3.6))
        scenario.users.append(_crossing("pedestrian", where, side, 1.7, rng.uniform(15, 18)))


def hedge_cyclist(scenario: Scenario, rng: random.Random) -> None:
    """Hedges along the road; a cyclist may come out behind each."""
    for where in (rng.uniform(20, 26), rng.uniform(40, 48)):
        scenario.users.append(RoadUser("hedge", where, -4.8))
        if rng.random() < PRESENT:
            scenario.users.append(_crossing("cyclist", where + 4.8, -6.4, 4.2, rng.uniform(11.0, 13.0)))


def cyclist_crossing(scenario: Scenario, rng: random.Random) -> None:
    """A cyclist crosses the road ahead, in full view."""
    where = rng.uniform(30, 46)
    side = rng.choice((-9.0, 9.5))
    scenario.users.append(_crossing("cyclist", where, side, 3.2, rng.uniform(20, 25)))


FAMILIES: dict[str, Maker] = {
    "bend": bend,
    "lead_brakes": lead_brakes,
    "cut_in": cut_in,
    "red_light": red_light,
    "crosswalk": crosswalk,
    "parked_car": parked_car,
    "van_child": van_child,
    "blind_junction": blind_junction,
    "fog_car": fog_car,
    "camera_dropout": camera_dropout,
    "brake_lag": brake_lag,
}
"""The families that are trained on."""
HELD_OUT: dict[str, Maker] = {
    "late_red": late_red,
    "bus_stop": bus_stop,
    "fog_crossing": fog_crossing,
    "hedge_cyclist": hedge_cyclist,
    "cyclist_crossing": cyclist_crossing,
}
"""The families that are only ever measured."""
HIDDEN = frozenset(
    {"van_child", "blind_junction", "fog_car", "camera_dropout", "brake_lag", "bus_stop", "fog_crossing"}
    | {"hedge_cyclist"}
)
"""The families whose cause of danger cannot be seen in time."""


def build_scenario(family: str, seed: int) -> Scenario:
    """The scenario of a family and a seed, always the same.

    Raises:
        DataError: there is no such family.
    """
    maker = FAMILIES.get(family) or HELD_OUT.get(family)
    if maker is None:
        known = ", ".join((*FAMILIES, *HELD_OUT))
        raise DataError(f"there is no scenario family {family!r}; the families are {known}")
    rng = random.Random(f"driving {family} {seed}")
    limit, sense = rng.choice((8.0, 9.0)), rng.choice((-1.0, 0.0, 1.0))
    road = Road(rng.uniform(6, 14), rng.uniform(60, 110), sense * rng.uniform(0.2, 0.5))
    sky = rng.choice(SKIES)
    scenario = Scenario(family, seed, road, rng.uniform(62, 70), limit, rng.uniform(6.0, 8.0), sky=sky)
    scenario.scenery_seed = rng.randrange(2**31)
    maker(scenario, rng)
    if family not in ("bend", "blind_junction", "hedge_cyclist"):
        _decorate(scenario, rng)
    return scenario


def _decorate(scenario: Scenario, rng: random.Random) -> None:
    """Parked cars and walkers who stay where they are: they are seen everywhere, and mean nothing."""
    for where in (rng.uniform(8, 18), rng.uniform(50, 62)):
        if rng.random() < 0.35 and all(abs(user.s - where) > 9 for user in scenario.users):
            scenario.users.append(RoadUser("car", where, -3.2, colour=_colour(rng)))
    if rng.random() < 0.4:
        side = rng.choice((-5.4, 6.4))
        scenario.users.append(RoadUser("pedestrian", rng.uniform(10, 55), side, heading=math.pi, colour="orange"))
    if rng.random() < 0.4:
        car = RoadUser("car", rng.uniform(40, 75), 3.5, heading=math.pi, colour=_colour(rng))
        scenario.users.append(car)


def _colour(rng: random.Random) -> str:
    return rng.choice(("red", "blue", "white", "yellow"))


def _driving(
    s: float, speed: float, rng: random.Random, stops: tuple[tuple[float, float, float], ...] = ()
) -> RoadUser:
    """A car that drives ahead in the lane."""
    return RoadUser("car", s, 0.0, speed=speed, colour=_colour(rng), script="follow", cruise=9.0, stops=stops)


def _crossing(
    kind: Kind, s: float, d: float, speed: float, trigger: float, rng: random.Random | None = None
) -> RoadUser:
    """Somebody who crosses the road from d to the other side once the ego vehicle is `trigger` metres away."""
    until = math.copysign(7.0 if kind in ("child", "pedestrian") else 14.0, -d)
    colour = _colour(rng) if rng else "orange"
    heading = math.copysign(math.pi / 2, until)
    return RoadUser(
        kind,
        s,
        d,
        heading,
        colour=colour,
        script="cross",
        cruise=speed,
        trigger=trigger,
        until=until,
    )
