"""The expert: drives by what can be seen, and knows the rest. It sees through vans, fog and corners.

What is in sight it drives up to more slowly the nearer it is. Then it tries the action on a copy of the
world, brakes after it, and takes the first one, from fast to slow, after which nothing happens. So it brakes for a
danger that nobody can see, and never for one that is not there: what nobody can copy from its pictures.
"""

from __future__ import annotations

from collections.abc import Callable

from data.driving.actions import PEDALS, Action, Pedal, Wheel
from data.driving.sensing import NOTHING, coming, distance_word, in_the_way, sight
from data.driving.world import LENGTH, STEPS, World

BLIND_STEPS = 25
"""Physics steps that are looked ahead while braking; a car at 9.5 m/s stands after 27 at -3.5 m/s², less after -7."""
SLACK = 0.6
"""Below the limit by less than this (m/s) it holds its speed."""
STRIP_LOOK = 22.0
"""Metres within which a car that stands in the way is passed."""
PASSED = 5.5
SPEEDS = {"very close": 0.0, "close": 2.5, "near": 5.0, "far": 7.0, NOTHING: 99.0}
"""m/s that it drives at while the next thing is so far."""
MUCH, SOME = 2.5, 0.8
"""Faster than that by `MUCH` m/s it brakes hard, by `SOME` it brakes."""


def expert_action(world: World) -> Action:
    """What the expert does next."""
    wheel = _wheel(world)
    wanted = _pedal(world, wheel)
    for rest in ("brake", "brake hard"):
        for pedal in PEDALS[PEDALS.index(wanted) : 3]:
            if _is_safe(world, Action(pedal, wheel), Action(rest, wheel)):
                return Action(pedal, wheel)
    hard = Action("brake hard", wheel)
    if _is_safe(world, hard, hard):
        return hard
    through = Action("accelerate", wheel)
    return through if _is_safe(world, through, through) else hard


def _pedal(world: World, wheel: Wheel) -> Pedal:
    """What a careful driver does about all that can be seen, red lights and walkers included: keeps to a speed that
    falls with the distance, in steps."""
    gaps = [] if wheel == "left" else [gap for gap, _ in in_the_way(world)]
    gaps += coming(world)
    light = world.scenario.light
    if light is not None and light.red and 0.0 < light.s - world.s - LENGTH / 2 < sight(world):
        gaps.append(light.s - world.s - LENGTH / 2)
    wanted = min(world.scenario.limit, SPEEDS[distance_word(min(gaps, default=99.0))])
    if world.speed > wanted + MUCH:
        return "brake hard"
    if world.speed > wanted + SOME:
        return "brake"
    return "accelerate" if world.speed < wanted - SLACK else "hold"


def _is_safe(world: World, action: Action, afterwards: Action) -> bool:
    return is_safe(world, lambda twin: twin.controls_of(action), afterwards)


def is_safe(world: World, controls: Callable[[World], tuple[float, float]], afterwards: Action) -> bool:
    """Whether nothing happens in one turn of some controls, nor while `afterwards` is done until the car stands."""
    twin = world.copy()
    seen, outside = len(twin.events), twin.outside
    steps = STEPS + round(world.scenario.lag * 10) + BLIND_STEPS + 5
    for step in range(steps):
        if not twin.over:
            twin.drive(*(controls(twin) if step < STEPS else twin.controls_of(afterwards)))
        if len(twin.events) > seen or twin.outside > outside + 0.3:
            return False
        if twin.arrived or (twin.speed < 0.05 and step > STEPS + 4):
            return True
    return True


def _wheel(world: World) -> Wheel:
    """Left around a standing car that reaches into the lane."""
    for user in world.scenario.users:
        in_lane = user.script == "still" and user.d + user.size[1] / 2 > -1.2 and user.d < 0.5
        if in_lane and -PASSED < user.s - world.s < STRIP_LOOK:
            return "left"
    return "straight"
