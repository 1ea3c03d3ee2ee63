"""What is kept of a driven route: the record that Bench2Drive's leaderboard writes, and what an animation draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from data.driving.world import World

INFRACTIONS = {
    "collision_pedestrian": "collisions_pedestrian",
    "collision_vehicle": "collisions_vehicle",
    "collision_layout": "collisions_layout",
    "red_light": "red_light",
}
"""What happened to the leaderboard's name of it."""


def bench2drive_record(world: World) -> dict[str, Any]:
    """A route's record, without the composed score, which `evaluation` computes.

    A collision ends the route, as does the end of the time; leaving the asphalt is part of `outside_route_lanes`.
    """
    scenario = world.scenario
    completion = round(100.0 * min(1.0, world.progress / scenario.length), 3)
    infractions: dict[str, list[str]] = {name: [] for name in (*INFRACTIONS.values(), "outside_route_lanes")}
    for event in world.events:
        if event.kind in INFRACTIONS:
            infractions[INFRACTIONS[event.kind]].append(f"{event.kind} {event.with_what} at {event.time:.1f} s")
    left = any(event.kind == "off_road" for event in world.events)
    if left or world.outside > 0.1:
        share = 100.0 * min(1.0, world.outside / max(world.progress, 1.0))
        infractions["outside_route_lanes"].append(f"Agent went outside its route lanes for {share:.2f}% of the route")
    mean = world.progress / max(world.time, 0.1)
    infractions["min_speed_infractions"] = [f"Average speed is {100.0 * mean / scenario.limit:.1f}% of the limit"]
    happened = any(events for name, events in infractions.items() if name != "min_speed_infractions")
    status = "Failed - Agent collided" if world.crashed else "Failed - Agent timed out"
    if world.arrived:
        status = "Completed" if happened else "Perfect"
    return {
        "route_id": scenario.id,
        "status": status,
        "infractions": infractions,
        "scores": {"score_route": completion},
        "meta": {"duration_game": round(world.time, 1), "route_length": round(scenario.length, 1)},
    }


def drawn(world: World) -> dict[str, Any]:
    """Family, seed and the path of the ego vehicle, ten points a second; from these a page draws the episode again."""
    rows = [[round(value, 3) for value in row] for row in world.trace]
    events = [[event.kind, round(event.time, 1), event.with_what] for event in world.events]
    return {"family": world.scenario.family, "seed": world.scenario.seed, "path": rows, "events": events}


def motion(path: Sequence[Sequence[float]]) -> dict[str, dict[str, list[float]]]:
    """What Bench2Drive's `metric_info.json` holds of a route, for its comfort: vectors in m/s² and degrees/s.

    `path` is that of `drawn`.
    """
    found = {}
    for number, (_, _, yaw, speed, acceleration, yaw_rate) in enumerate(path[1:]):
        forward, right = (math.cos(yaw), math.sin(yaw), 0.0), (math.sin(yaw), -math.cos(yaw), 0.0)
        sideways = -speed * yaw_rate
        found[str(number)] = {
            "acceleration": [acceleration * f + sideways * r for f, r in zip(forward, right, strict=True)],
            "angular_velocity": [0.0, 0.0, math.degrees(yaw_rate)],
            "forward_vector": list(forward),
            "right_vector": list(right),
        }
    return found
