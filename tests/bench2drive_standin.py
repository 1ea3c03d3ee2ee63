"""Stands in for Bench2Drive's leaderboard and CARLA, as a process: makes the calls that they make, at 20 Hz, on a road
that bends, and writes the result in the leaderboard's form.

python tests/bench2drive_standin.py AGENT_FILE CONFIG RESULT [GPS_SEED]
"""

from __future__ import annotations

import enum
import importlib.util
import json
import math
import random
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EARTH_M, TICK_S, ROUTE = 6378137.0, 0.05, "RouteScenario_1711_rep0"
LENGTH, RADIUS = 60.0, 60.0
MAX_STEER, WHEELBASE = 1.22, 2.9


class Track(enum.Enum):
    SENSORS = "SENSORS"


class AutonomousAgent:
    """The base class's part that agents meet."""

    def __init__(self, carla_host: str, carla_port: int) -> None:
        self.track: Any = None
        self._global_plan: Any = None

    def set_global_plan(self, gps: Any, world: Any) -> None:
        self._global_plan = gps[::50]

    def get_metric_info(self) -> dict[str, Any]:
        return {
            "acceleration": [0.0, 0.0, 0.0],
            "angular_velocity": [0.0, 0.0, 0.0],
            "forward_vector": [1.0, 0.0, 0.0],
            "right_vector": [0.0, 1.0, 0.0],
        }


@dataclass
class VehicleControl:
    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    manual_gear_shift: bool = False


def install() -> None:
    """Make `carla` and `leaderboard` importable."""
    carla, module = types.ModuleType("carla"), types.ModuleType("leaderboard.autoagents.autonomous_agent")
    carla.VehicleControl = VehicleControl  # type: ignore[attr-defined]
    module.AutonomousAgent, module.Track = AutonomousAgent, Track  # type: ignore[attr-defined]
    packages = ("leaderboard", "leaderboard.autoagents")
    sys.modules |= {"carla": carla, module.__name__: module} | {name: types.ModuleType(name) for name in packages}


def gps(east: float, north: float) -> tuple[float, float]:
    """As CARLA's maps, whose origin is at 0, 0."""
    latitude = 360.0 * math.atan(math.exp(north / EARTH_M)) / math.pi - 90.0
    return latitude, math.degrees(east / EARTH_M)


def pose(s: float) -> tuple[float, float]:
    """A point of the route: north, then a bend to the west."""
    turned = max(0.0, s - LENGTH / 3) / RADIUS
    if turned == 0.0:
        return 0.0, s
    return -RADIUS * (1 - math.cos(turned)), LENGTH / 3 + RADIUS * math.sin(turned)


def main() -> None:
    install()
    file, config, result = sys.argv[1:4]
    noise = random.Random(int(sys.argv[4])) if len(sys.argv) > 4 else None
    spec = importlib.util.spec_from_file_location("team_agent", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    agent = getattr(module, module.get_entry_point())("localhost", 2000)
    agent.setup(f"{config}+{ROUTE}")
    plan = [({"lat": lat, "lon": lon, "z": 0.0}, "LANEFOLLOW") for lat, lon in (gps(*pose(s)) for s in range(121))]
    agent.set_global_plan(plan, None)
    sensors = {one["id"]: one for one in agent.sensors()}
    assert {one["type"] for one in sensors.values()} == {
        "sensor.camera.rgb", "sensor.other.imu", "sensor.other.gnss", "sensor.speedometer",
    }  # fmt: skip
    completed, furthest = drive(agent, sensors, noise)
    agent.destroy()
    status = "Perfect" if completed else "Failed - Agent timed out"
    record = {
        "route_id": ROUTE, "save_name": ROUTE, "status": status,
        "infractions": {"min_speed_infractions": ["Average speed is 90% of the speed of surrounding traffic"]},
        "scores": {"score_route": 100.0 if completed else 10.0, "score_composed": 100.0 if completed else 10.0},
    }  # fmt: skip
    Path(result).write_text(json.dumps({"_checkpoint": {"records": [record]}, "furthest_m": furthest}))


def drive(agent: Any, sensors: dict[str, Any], noise: random.Random | None) -> tuple[bool, float]:
    """Whether it went along the route for `LENGTH` metres, and how far from the middle it was at most."""
    x, y, yaw, speed, furthest = 0.0, 0.0, math.pi / 2, 5.0, 0.0
    for tick in range(int(30 / TICK_S)):
        latitude, longitude = gps(x, y)
        off = (noise.gauss(0, 5e-6), noise.gauss(0, 5e-6)) if noise else (0.0, 0.0)
        compass = math.nan if tick == 0 else math.pi / 2 - yaw
        held: dict[str, Any] = {
            "GPS": np.array([latitude + off[0], longitude + off[1], 0.0]),
            "IMU": np.array([0.0, 0.0, 9.8, 0.0, 0.0, 0.0, compass]),
            "SPEED": {"speed": speed},
        }
        if tick == 0:
            held["IMU"][-1] = 0.0
        for name, one in sensors.items():
            if one["type"] == "sensor.camera.rgb":
                held[name] = np.full((one["height"], one["width"], 4), tick % 255, dtype=np.uint8)
        control = agent.run_step({name: (tick, data) for name, data in held.items()}, tick * TICK_S)
        assert 0 <= control.throttle <= 1
        assert 0 <= control.brake <= 1
        speed = max(0.0, speed + (4.0 * control.throttle - 8.0 * control.brake) * TICK_S)
        yaw += speed * math.tan(-control.steer * MAX_STEER) / WHEELBASE * TICK_S
        x, y = x + speed * math.cos(yaw) * TICK_S, y + speed * math.sin(yaw) * TICK_S
        reached, aside = min((math.dist(pose(s / 2), (x, y)), s / 2) for s in range(242))[::-1]
        furthest = max(furthest, aside)
        if reached >= LENGTH:
            return True, furthest
    return False, furthest


if __name__ == "__main__":
    main()
