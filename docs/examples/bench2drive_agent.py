"""Bench2Drive's agent: asks a policy behind our endpoint twice a second, and follows its plan at 20 Hz.

The leaderboard is given this file and a configuration (docs/driving.md):

    --agent=docs/examples/bench2drive_agent.py --agent-config=agent.json

    {"url": "http://127.0.0.1:8000/v1", "model": "driverx_vla", "tokens": "policy/action_codebook.json"}

It runs in CARLA's own Python, 3.7 or 3.8: the standard library, what the leaderboard brings, and two files of this
project that keep to the same. `tokens` is the codebook or the bins of the policy's folder; `cameras` may list fewer
than six; the key is in the environment variable that `key_variable` names.
"""

from __future__ import annotations

import base64
import json
import math
import os
import struct
import sys
import urllib.parse
import urllib.request
import zlib
from typing import Any

import carla
from leaderboard.autoagents.autonomous_agent import AutonomousAgent, Track

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from data.driving.asking import drive_question
from data.driving.controller import Controller

EARTH_M = 6378137.0
PLAN_EVERY_S = 0.5
NEXT_POINT_M = 7.5
"""A point of the route that is nearer has been reached."""
GPS_SHARE = 0.05
"""Of each tick's correction by GPS, which is half a metre off at any time; between them the speed is summed up."""
WHEELBASE_M, MAX_STEER_RAD = 2.9, 1.22
"""Of CARLA's Lincoln MKZ."""
PUSH, BRAKE = 4.0, 8.0
"""m/s² of its whole accelerator and brake."""
CAMERAS = {
    "CAM_FRONT": (0.8, 0.0, 0.0, 70),
    "CAM_FRONT_LEFT": (0.27, -0.55, -55.0, 70),
    "CAM_FRONT_RIGHT": (0.27, 0.55, 55.0, 70),
    "CAM_BACK": (-2.0, 0.0, 180.0, 110),
    "CAM_BACK_LEFT": (-0.32, -0.55, -110.0, 70),
    "CAM_BACK_RIGHT": (-0.32, 0.55, 110.0, 70),
}
"""x, y, yaw and field of view of Bench2Drive's six cameras; z is 1.6 m."""


def get_entry_point() -> str:
    """Which class of this file drives."""
    return "EndpointAgent"


class EndpointAgent(AutonomousAgent):
    """One route."""

    def setup(self, path_to_conf_file: str) -> None:
        """Read the configuration; Bench2Drive adds the route's name behind a +."""
        path, _, self.route_name = path_to_conf_file.partition("+")
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
        self.track = Track.SENSORS
        self.url = given["url"].rstrip("/") + "/chat/completions"
        if urllib.parse.urlparse(self.url).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"{path}: url must be on this machine's loopback (a tunnel leads elsewhere)")
        self.model, self.timeout_s = given["model"], float(given.get("timeout_s", 60.0))
        self.key = os.environ.get(given.get("key_variable", "AUTODRIVERL_KEY"), "")
        self.cameras = given.get("cameras", list(CAMERAS))
        self.size = given.get("size", [1600, 900])
        self.tokens = Tokens(given["tokens"])
        self.controller = Controller(WHEELBASE_M, MAX_STEER_RAD, PUSH, BRAKE)
        self.counts = {"plans": 0, "unreadable": 0, "unanswered": 0}
        self.metrics: dict[str, object] = {}
        self.pose: Any = None
        self.planned_at: float | None = None
        self.route: list[tuple[float, float]] = []
        self.step = 0

    def sensors(self) -> list[dict[str, object]]:
        """The cameras, GPS, IMU and speed."""
        level = {"roll": 0.0, "pitch": 0.0}
        found = []
        for name in self.cameras:
            x, y, yaw, fov = CAMERAS[name]
            seen = {"width": self.size[0], "height": self.size[1], "fov": fov}
            found.append(dict(seen, type="sensor.camera.rgb", id=name, x=x, y=y, z=1.6, yaw=yaw, **level))
        for kind, name in (("sensor.other.imu", "IMU"), ("sensor.other.gnss", "GPS")):
            found.append(dict(level, type=kind, id=name, x=0.0, y=0.0, z=0.0, yaw=0.0, sensor_tick=0.05))
        found.append({"type": "sensor.speedometer", "id": "SPEED", "reading_frequency": 20})
        return found

    def run_step(self, input_data: dict[str, Any], timestamp: float) -> Any:
        """The control of one tick.

        A plan is asked for every half second. Where there is none to be had, the one before goes on, and it brakes
        where there never was one.
        """
        speed = float(input_data["SPEED"][1]["speed"])
        self._locate(input_data, speed)
        if self.planned_at is None or timestamp - self.planned_at > PLAN_EVERY_S - 1e-6:
            self.planned_at = timestamp
            plan = self._plan(input_data, speed)
            if plan:
                self.controller.begin(plan, self.pose, speed)
        steer, throttle, brake = self.controller.step(self.pose, speed, 0.05)
        if os.environ.get("SAVE_PATH"):
            self.metrics[str(self.step)] = self.get_metric_info()
        self.step += 1
        control = carla.VehicleControl()
        control.steer, control.throttle, control.brake = -steer, throttle, brake
        control.hand_brake = False
        return control

    def destroy(self) -> None:
        """Leave what comfort is scored by, and the counts."""
        if not os.environ.get("SAVE_PATH") or not self.step:
            return
        folder = os.path.join(os.environ["SAVE_PATH"], self.route_name or "route")
        os.makedirs(folder, exist_ok=True)
        for name, tree in (("metric_info.json", self.metrics), ("agent.json", self.counts)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(tree, file)

    def _locate(self, input_data: dict[str, Any], speed: float) -> None:
        """Pose in metres east and north of the route's beginning, yaw counter-clockwise from east."""
        latitude, longitude = (float(value) for value in input_data["GPS"][1][:2])
        compass = float(input_data["IMU"][1][-1])
        if self.pose is None:
            self.reference = latitude
            self.zero = metres(latitude, longitude, latitude)
            points = (one[0] for one in self._global_plan)
            self.route = [self._local(point["lat"], point["lon"]) for point in points]
            self.pose = (0.0, 0.0, 0.0 if math.isnan(compass) else math.pi / 2 - compass)
            return
        x, y, yaw = self.pose
        yaw = yaw if math.isnan(compass) else math.pi / 2 - compass
        x, y = x + speed * 0.05 * math.cos(yaw), y + speed * 0.05 * math.sin(yaw)
        east, north = self._local(latitude, longitude)
        self.pose = (x + GPS_SHARE * (east - x), y + GPS_SHARE * (north - y), yaw)

    def _local(self, latitude: float, longitude: float) -> tuple[float, float]:
        east, north = metres(latitude, longitude, self.reference)
        return east - self.zero[0], north - self.zero[1]

    def _next_point(self) -> tuple[float, float]:
        """The next point of the route, metres ahead and to the left."""
        x, y, yaw = self.pose
        while len(self.route) > 1 and math.hypot(self.route[0][0] - x, self.route[0][1] - y) < NEXT_POINT_M:
            self.route.pop(0)
        dx, dy = self.route[0][0] - x, self.route[0][1] - y
        return dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)

    def _plan(self, input_data: dict[str, Any], speed: float) -> Any:
        """The points that the policy plans, metres ahead and to the left; None where there are none."""
        ahead, left = self._next_point()
        images = [data_uri(input_data[name][1]) for name in self.cameras]
        content: list[Any] = [{"type": "image_url", "image_url": {"url": uri}} for uri in images]
        content.append({"type": "text", "text": drive_question(speed, ahead, left)})
        asked = {"model": self.model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + self.key}
        request = urllib.request.Request(self.url, json.dumps(asked).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                text = json.load(reply)["choices"][0]["message"]["content"]
        except OSError as error:
            self.counts["unanswered"] += 1
            print(f"the endpoint did not answer: {error}", flush=True)
            return None
        points = self.tokens.read(text)
        self.counts["plans" if points else "unreadable"] += 1
        if not points:
            print(f"the answer is no plan: {text[:80]!r}", flush=True)
        return points


class Tokens:
    """What the policy's tokens stand for: a codebook of motions, or bins of waypoints."""

    def __init__(self, path: str) -> None:
        """Read the file that lies in the policy's folder."""
        with open(path, encoding="utf-8") as file:
            self.content = json.load(file)["content"]

    def read(self, text: str) -> Any:
        """The points of an answer, metres ahead and to the left; None where it names none."""
        words = [part.partition(">")[0] for part in text.split("<")[1:]]
        if "codes" in self.content:
            codes = [int(word[4:]) for word in words if word.startswith("act_") and word[4:].isdigit()]
            if not codes or codes[-1] >= len(self.content["codes"]):
                return None
            ahead, left = self.content["codes"][codes[-1]][:2]
            return [(ahead, left)]
        indices = [(word[5], int(word[7:])) for word in words if word.startswith("traj_") and word[7:].isdigit()]
        count, edges = self.content["points"], {"x": self.content["x"], "y": self.content["y"]}
        whole = [axis for axis, _ in indices] == ["x", "y"] * count
        if not whole or any(index >= len(edges["x"]) - 1 for _, index in indices):
            return None
        middles = [(edges[axis][index] + edges[axis][index + 1]) / 2 for axis, index in indices]
        return [(middles[place + 1], -middles[place]) for place in range(0, 2 * count, 2)]


def metres(latitude: float, longitude: float, reference: float) -> tuple[float, float]:
    """CARLA's own projection: metres east and north for a map of that latitude."""
    scale = math.cos(math.radians(reference))
    north = scale * EARTH_M * math.log(math.tan((90.0 + latitude) * math.pi / 360.0))
    return scale * EARTH_M * math.radians(longitude), north


def data_uri(image: Any) -> str:
    """A camera's array (height, width, blue green red alpha) as a PNG."""
    height, width = image.shape[:2]
    raw = image.tobytes()
    pixels = bytearray(3 * width * height)
    pixels[0::3], pixels[1::3], pixels[2::3] = raw[2::4], raw[1::4], raw[0::4]
    rows = b"".join(b"\x00" + pixels[3 * width * row : 3 * width * (row + 1)] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, held) for kind, held in parts)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
