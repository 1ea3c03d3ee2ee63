"""An episode driven again from what was kept of it: the same world, step by step, for a page to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from data.driving.families import build_scenario
from data.driving.world import World


def replayed(trace: Mapping[str, Any]) -> Iterator[World]:
    """The world before the first physics step and after each; always the same object.

    Args:
        trace: `Outcome.trace` of an episode of `data.driving.environment.Driving`.

    Raises:
        DataError: the family is unknown by now.
    """
    world = World.begin(build_scenario(trace["family"], trace["seed"]))
    yield world
    for acceleration, steering in trace["controls"]:
        world.drive(acceleration, steering)
        yield world
