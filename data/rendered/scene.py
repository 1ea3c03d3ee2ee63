"""A driving scene with exact ground truth: what stands where, and what the ego vehicle will do because of it.

Everything a question can ask about is decided here and nowhere else; `render` draws it, `questions` asks about it.
Reads no files and draws nothing. Objects stand on a small lattice of places, so that a policy of a few million
parameters can learn to name their pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from data.sample import Camera, KeyObject

Bend = Literal["straight", "left", "right"]
Situation = Literal["red_light", "pedestrian", "lead_vehicle", "green_light"]
Shape = Literal["sedan", "pedestrian", "barrier", "traffic_light"]
Status = Literal["Going ahead.", "Turn left.", "Turn right.", "Stopped."]
Sky = Literal["clear", "overcast", "evening"]

BENDS: tuple[Bend, ...] = get_args(Bend)
STATUSES: tuple[Status, ...] = get_args(Status)
SKIES: tuple[Sky, ...] = get_args(Sky)
VEHICLE_COLOURS = ("red", "blue", "white", "yellow")

FOCAL_LENGTH, HORIZON, CAMERA_HEIGHT = 1000.0, 400.0, 2.0
"""Pinhole of every camera: focal length and horizon row in pixels of the 1600x900 frame, height in metres."""
BEND_RADIUS = 20.0
"""Radius in metres of the parabola a bending road follows."""


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """An upright object in front of one camera: where it stands (metres) and how it looks.

    `lateral` is to the right of the camera's axis, `depth` along it, `base` the height of its lower edge above ground.
    """

    shape: Shape
    colour: str
    camera: Camera
    lateral: float
    depth: float
    width: float
    height: float
    base: float = 0.0
    status: Status | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels of the 1600x900 frame, one decimal, not clipped to the frame."""
        left, top = project(self.lateral - self.width / 2, self.base + self.height, self.depth)
        right, bottom = project(self.lateral + self.width / 2, self.base, self.depth)
        return round(left, 1), round(top, 1), round(right, 1), round(bottom, 1)

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the box's centre in pixels of the 1600x900 frame, one decimal."""
        left, top, right, bottom = self.box
        return round((left + right) / 2, 1), round((top + bottom) / 2, 1)

    @property
    def category(self) -> str:
        """DriveLM's category of the object."""
        if self.shape == "traffic_light":
            return "Traffic element"
        return {"pedestrian": "Pedestrian", "barrier": "Others"}.get(self.shape, "Vehicle")

    @property
    def description(self) -> str:
        """DriveLM's visual description, a sentence: `Red sedan.`, `Green light.`."""
        if self.shape == "traffic_light":
            return f"{self.colour.capitalize()} light."
        if self.shape in ("pedestrian", "barrier"):
            return f"{self.shape.capitalize()}."
        return f"{self.colour.capitalize()} {self.shape}."

    def tag(self, number: int) -> str:
        """DriveLM's object tag, for instance `<c1,CAM_FRONT,800.0,275.0>`."""
        x, y = self.centre
        return f"<c{number},{self.camera},{x:.1f},{y:.1f}>"


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment seen by six cameras. `objects` are numbered from 1 in their order; the first is `notice first`."""

    id: str
    bend: Bend
    situation: Situation
    objects: tuple[PlacedObject, ...]
    followed: bool
    """A moving car drives behind the ego vehicle."""
    sky: Sky
    decoration_seed: int
    """Seed of what no question asks about: houses and trees."""

    @property
    def behavior(self) -> str:
        """DriveLM's "{direction}. {speed}." of the ego vehicle: decided by the bend and by the situation."""
        return behavior_of(self.bend, self.situation)

    def seen_by(self, camera: str) -> tuple[PlacedObject, ...]:
        """The objects in one camera's view, nearest last."""
        return tuple(sorted((o for o in self.objects if o.camera == camera), key=lambda o: -o.depth))

    def key_objects(self) -> tuple[KeyObject, ...]:
        """The objects as DriveLM annotates them."""
        return tuple(
            KeyObject(o.tag(i), o.category, o.description, o.status, o.box) for i, o in enumerate(self.objects, start=1)
        )


DIRECTION_SENTENCES: dict[Bend, str] = {
    "straight": "The ego vehicle is going straight.",
    "left": "The ego vehicle is steering to the left.",
    "right": "The ego vehicle is steering to the right.",
}
SPEED_SENTENCES: dict[Situation, str] = {
    "red_light": "The ego vehicle is not moving.",
    "pedestrian": "The ego vehicle is driving slowly.",
    "lead_vehicle": "The ego vehicle is driving slowly.",
    "green_light": "The ego vehicle is driving fast.",
}


def behavior_of(bend: Bend, situation: Situation) -> str:
    """DriveLM's behavior string for a bend and a situation."""
    return f"{DIRECTION_SENTENCES[bend]} {SPEED_SENTENCES[situation]}"


CIRCUMSTANCES: dict[str, tuple[tuple[Bend, Situation], ...]] = {
    behavior_of("straight", "red_light"): (("straight", "red_light"),),
    **{
        behavior_of(bend, situations[0]): tuple((bend, s) for s in situations)
        for bend in BENDS
        for situations in (("pedestrian", "lead_vehicle"), ("green_light",))
    },
}
"""Every behavior that occurs and what brings it about. DriveLM knows `not moving` only with `going straight`."""
BEHAVIORS: tuple[str, ...] = tuple(CIRCUMSTANCES)


def project(lateral: float, up: float, depth: float) -> tuple[float, float]:
    """Pixel (x, y) in the 1600x900 frame of a point `lateral` m right of the axis, `up` m high and `depth` m away."""
    return 800.0 + FOCAL_LENGTH * lateral / depth, HORIZON + FOCAL_LENGTH * (CAMERA_HEIGHT - up) / depth


def road_centre(bend: Bend, depth: float) -> float:
    """Metres by which the middle of the road lies right of the front camera's axis at `depth` m."""
    return {"straight": 0.0, "left": -1.0, "right": 1.0}[bend] * depth**2 / (2 * BEND_RADIUS)


def build_scene(index: int, seed: int) -> Scene:
    """The scene of that number: every behavior is equally likely. Deterministic in (index, seed)."""
    rng = random.Random(f"scene {seed} {index}")
    bend, situation = rng.choice(CIRCUMSTANCES[rng.choice(BEHAVIORS)])
    sky = rng.choice(SKIES)
    objects = [_key_object(bend, situation, rng), _neighbour(rng), _roadside(rng)]
    followed = rng.random() < 0.5
    if followed:
        objects.append(_vehicle("CAM_BACK", 0.0, 7.0, rng, "Going ahead."))
    return Scene(f"scene-{seed}-{index:04d}", bend, situation, tuple(objects), followed, sky, rng.randrange(2**31))


def _key_object(bend: Bend, situation: Situation, rng: random.Random) -> PlacedObject:
    place = rng.choice((-1, 0, 1))
    if situation in ("red_light", "green_light"):
        colour = situation.removesuffix("_light")
        return PlacedObject("traffic_light", colour, "CAM_FRONT", 3.2 * place, 8.0, 1.3, 2.8, base=2.2)
    if situation == "pedestrian":
        return PlacedObject("pedestrian", "orange", "CAM_FRONT", 1.8 * place, 6.0, 1.0, 1.9)
    depth = 6.0 if place else 8.0
    return _vehicle("CAM_FRONT", road_centre(bend, depth), depth, rng, "Going ahead.")


def _neighbour(rng: random.Random) -> PlacedObject:
    return _vehicle(
        "CAM_FRONT_LEFT", rng.choice((-1.5, 1.5)), 5.0, rng, rng.choice(STATUSES), colours=("blue", "white", "yellow")
    )


def _roadside(rng: random.Random) -> PlacedObject:
    lateral = rng.choice((-1.8, 1.8))
    if rng.random() < 0.5:
        return PlacedObject("barrier", "orange", "CAM_FRONT_RIGHT", lateral, 6.0, 3.0, 1.6)
    return _vehicle("CAM_FRONT_RIGHT", lateral, 6.0, rng, "Stopped.", colours=("blue", "white"))


def _vehicle(
    camera: Camera,
    lateral: float,
    depth: float,
    rng: random.Random,
    status: Status,
    colours: Sequence[str] = VEHICLE_COLOURS,
) -> PlacedObject:
    width = 3.6 if status in ("Turn left.", "Turn right.") else 2.2
    return PlacedObject("sedan", rng.choice(colours), camera, lateral, depth, width, 1.6, status=status)
