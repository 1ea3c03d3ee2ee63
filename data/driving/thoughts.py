"""What the expert would say before it acts: perception, prediction, planning, behavior, in a few set phrases.

Only what the cameras show now is said: a child behind a van is not.
"""

from __future__ import annotations

from data.driving.actions import Action, Pedal
from data.driving.road_users import Kind
from data.driving.sensing import is_dark, sight, visible
from data.driving.world import World

IN_WAY = 1.6
"""Metres from the lane's middle within which something is in the way."""
SEEN: dict[Kind, str] = {
    "car": "I see a car.",
    "van": "I see a van.",
    "bus": "I see a bus.",
    "child": "I see a child.",
    "pedestrian": "I see a pedestrian.",
    "cyclist": "I see a cyclist.",
    "building": "I see houses.",
    "hedge": "I see a hedge.",
}
FREE, FOGGED, BLACK, RED, GREEN = (
    "I see a free road.",
    "I see fog.",
    "The front camera is black.",
    "I see a red light.",
    "I see a green light.",
)
PREDICTIONS = ("It is in my way.", "It stays out of my way.")
PLANS: dict[Pedal, str] = {
    "accelerate": "I drive on.",
    "hold": "I keep my speed.",
    "brake": "I slow down.",
    "brake hard": "I stop.",
}
BEHAVIOR = "So I do this:"
PHRASES = (*SEEN.values(), FREE, FOGGED, BLACK, RED, GREEN, *PREDICTIONS, *PLANS.values(), BEHAVIOR)
"""All of them."""


def thoughts(world: World, action: Action) -> str:
    """Four phrases, one for each task, before the action."""
    seen, in_way = perceived(world)
    return f"{seen} {PREDICTIONS[0] if in_way else PREDICTIONS[1]} {PLANS[action.pedal]} {BEHAVIOR}"


def perceived(world: World) -> tuple[str, bool]:
    """The phrase for what matters most in the front camera, and whether it is in the way."""
    scenario = world.scenario
    if is_dark(world):
        return BLACK, False
    if scenario.light is not None and 0.0 < scenario.light.s - world.s < sight(world):
        return (RED, True) if scenario.light.red else (GREEN, False)
    if not (seen := visible(world)):
        return (FREE if scenario.fog is None else FOGGED), False
    first = min(seen, key=lambda user: (abs(user.d) - user.size[1] / 2 > IN_WAY, user.s))
    return SEEN[first.kind], abs(first.d) - first.size[1] / 2 < IN_WAY
