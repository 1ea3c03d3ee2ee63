"""What the six cameras of the ego vehicle see of a world: arrays of pixels, drawn with numpy alone.

The ground is looked up pixel by pixel, in one go for all cameras; road users are painted over it as upright boxes, far
ones first, so that what stands behind a van cannot be seen. Palette and sky are those of `data.rendered`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.driving.road import LANE, LEFT_EDGE, PAVEMENT, RIGHT_EDGE
from data.driving.road_users import RoadUser
from data.driving.world import World
from data.rendered.drawing import ASPHALT, DARK, GLASS, GRASS, KERB, MARK, PAINT, SKY_COLOURS
from data.sample import CAMERAS, GRID

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

WIDTH, HEIGHT = 64, 36
FIELD_OF_VIEW = math.radians(70.0)
YAWS = {
    "CAM_FRONT_LEFT": 60.0,
    "CAM_FRONT": 0.0,
    "CAM_FRONT_RIGHT": -60.0,
    "CAM_BACK_LEFT": 120.0,
    "CAM_BACK": 180.0,
    "CAM_BACK_RIGHT": -120.0,
}
"""Degrees to the left of straight ahead; positions are those of the mounting point, 1.0 m ahead of the middle."""
FOCAL = WIDTH / 2 / math.tan(FIELD_OF_VIEW / 2)
MOUNT, UP = 1.0, 1.6
HORIZON = 13.5
"""Row of the horizon."""
FARTHEST, NEAREST = 70.0, 0.4
HAZE = 160.0
"""Metres after which clear air has taken contrast to 1/e."""
FOG_COLOUR = np.array((186, 190, 194), dtype=np.float32)
SKIN, BODY = (224, 178, 140), {"child": (250, 122, 18), "pedestrian": (186, 60, 150), "cyclist": (20, 160, 160)}
WALL, LEAVES = (150, 128, 112), (52, 92, 44)


@dataclass(frozen=True)
class Rays:
    """Where each pixel of the six cameras looks, in the frame of the ego vehicle (x ahead, y left), metres."""

    x_N: Floats
    y_N: Floats
    distance_N: Floats
    ground_N: NDArray[np.intp]
    """Which of the 6 x H x W pixels see the ground; N of them."""
    azimuth_C_W: Floats
    """Degrees to the left of straight ahead in which each column looks."""


@cache
def rays() -> Rays:
    """The rays, computed once."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) + np.float32(0.5)
    down, right = (rows - HORIZON) / FOCAL, (columns - WIDTH / 2) / FOCAL
    depth = np.where(down > 0, UP / np.maximum(down, 1e-6), np.inf)
    seen = depth < FARTHEST * 1.5
    xs, ys, ground = [], [], []
    for number, camera in enumerate(CAMERAS):
        yaw = math.radians(YAWS[camera])
        ahead, left = depth[seen], (-right * depth)[seen]
        xs.append(MOUNT + ahead * math.cos(yaw) - left * math.sin(yaw))
        ys.append(ahead * math.sin(yaw) + left * math.cos(yaw))
        ground.append(np.flatnonzero(seen.ravel()) + number * HEIGHT * WIDTH)
    x, y = np.concatenate(xs).astype(np.float32), np.concatenate(ys).astype(np.float32)
    angles = -np.degrees(np.arctan((np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL))
    azimuth = np.array([YAWS[camera] for camera in CAMERAS])[:, None] + angles[None]
    return Rays(x, y, np.hypot(x - MOUNT, y), np.concatenate(ground), azimuth.astype(np.float32))


def look(world: World) -> dict[str, Pixels]:
    """One image (36, 64, 3) for each camera, keyed and ordered by `CAMERAS`."""
    canvas = _backdrop(world)
    _paint_ground(canvas, world)
    _paint_users(canvas, world)
    scenario = world.scenario
    pixels = canvas.clip(0, 255).astype(np.uint8)
    if any(begin <= world.s < end for begin, end in scenario.dark):
        pixels[CAMERAS.index("CAM_FRONT")] = 0
    return dict(zip(CAMERAS, pixels, strict=True))


def _backdrop(world: World) -> Floats:
    """Sky with a skyline of houses and trees that turns with the ego vehicle."""
    top, bottom = (np.array(colour, dtype=np.float32) for colour in SKY_COLOURS[world.scenario.sky])
    share = (np.arange(HEIGHT, dtype=np.float32) / HORIZON).clip(0, 1)[:, None]
    column = top * (1 - share) + bottom * share
    canvas = np.broadcast_to(column[None, :, None], (len(CAMERAS), HEIGHT, WIDTH, 3)).copy()
    heights, colours = _skyline(world.scenario.scenery_seed)
    index = (rays().azimuth_C_W + math.degrees(world.yaw)).astype(np.int64) % 360
    rows = np.arange(HEIGHT, dtype=np.float32)[None, :, None]
    built = (rows < HORIZON + 1) & (rows > HORIZON - heights[index][:, None, :])
    canvas[built] = np.broadcast_to(colours[index][:, None], canvas.shape)[built]
    if world.scenario.fog is not None:
        canvas[:] = FOG_COLOUR
    return canvas


@cache
def _skyline(seed: int) -> tuple[Floats, Floats]:
    """Height in rows and colour for each degree around."""
    rng = np.random.default_rng(seed)
    heights, colours = np.zeros(360, dtype=np.float32), np.zeros((360, 3), dtype=np.float32)
    degree = 0
    while degree < 360:
        width = int(rng.integers(6, 16))
        tree, grey = rng.random() < 0.35, float(rng.integers(118, 168))
        heights[degree : degree + width] = rng.uniform(1.5, 4.0) if tree else rng.uniform(2.0, 6.0)
        colours[degree : degree + width] = (70, 112, 66) if tree else (grey, grey - 6, grey - 14)
        degree += width + int(rng.integers(0, 4))
    return heights, colours


def _paint_ground(canvas: Floats, world: World) -> None:
    """Asphalt, lane marks, pavements, crossings, stop line and grass."""
    ray, road = rays(), world.scenario.road
    cos, sin = np.float32(math.cos(world.yaw)), np.float32(math.sin(world.yaw))
    x_N = ray.x_N * cos - ray.y_N * sin + np.float32(world.x)
    y_N = ray.x_N * sin + ray.y_N * cos + np.float32(world.y)
    s_N, d_N = road.places(x_N, y_N)
    kind_N = np.full(len(s_N), 0, dtype=np.int8)
    kind_N[(d_N > RIGHT_EDGE - PAVEMENT) & (d_N < LEFT_EDGE + PAVEMENT)] = 1
    asphalt_N = (d_N > RIGHT_EDGE) & (d_N < LEFT_EDGE)
    for junction in world.scenario.junctions:
        asphalt_N |= np.abs(s_N - junction) < 4.0
    kind_N[asphalt_N] = 2
    dashed_N = (np.abs(d_N - LANE / 2) < 0.14) & (s_N % 5.0 < 2.5)
    marks_N = (dashed_N | (np.abs(d_N + LANE / 2) < 0.08)) & asphalt_N
    for junction in world.scenario.junctions:
        marks_N &= np.abs(s_N - junction) > 4.0
    for where in world.scenario.crosswalks:
        marks_N |= asphalt_N & (np.abs(s_N - where) < 1.6) & (d_N % 1.2 < 0.6)
    light = world.scenario.light
    if light is not None:
        marks_N |= (s_N > light.s - 0.5) & (s_N < light.s) & (np.abs(d_N) < LANE / 2)
    kind_N[marks_N] = 3
    colours = np.array((GRASS, KERB, ASPHALT, MARK), dtype=np.float32)
    painted = _veiled(colours[kind_N], ray.distance_N, world.scenario.fog)
    canvas.reshape(-1, 3)[ray.ground_N] = painted


def _veiled(colours_N: Floats, distance_N: Floats, fog: float | None) -> Floats:
    """Colours as fog or haze leaves them."""
    left = np.exp(-distance_N / np.float32(fog or HAZE))[:, None]
    return colours_N * left + FOG_COLOUR * (1 - left)


def _paint_users(canvas: Floats, world: World) -> None:
    users = [user for user in world.scenario.users if abs(user.s - world.s) < FARTHEST]
    boxes = [(*world.place_of(user), *user.size) for user in users]
    light = world.scenario.light
    if light is not None:
        x, y, yaw = world.scenario.road.pose(light.s + 1.0, RIGHT_EDGE - 0.4)
        boxes.append((x, y, yaw, 0.4, 1.0, 3.6))
    if not boxes:
        return
    rect_C_A_4, depth_C_A = _rectangles(np.array(boxes, dtype=np.float32), world)
    for camera, number in sorted(
        zip(*(part.tolist() for part in np.nonzero(np.isfinite(depth_C_A))), strict=True),
        key=lambda pair: -depth_C_A[pair],
    ):
        area = tuple(rect_C_A_4[camera, number].tolist())
        depth = float(depth_C_A[camera, number])
        strength = math.exp(-depth / (world.scenario.fog or HAZE))
        brush = Brush(canvas[camera], area, strength)
        if number < len(users):
            _paint_user(brush, users[number], away=abs(YAWS[CAMERAS[camera]]) < 90)
        elif light is not None:
            _paint_light(brush, light.red)


def _rectangles(boxes_A_6: Floats, world: World) -> tuple[Floats, Floats]:
    """Where upright boxes (x, y, yaw, length, width, height) appear: x1, y1, x2, y2 in pixels; depth, inf: unseen."""
    x, y, yaw, length, width, height = boxes_A_6.T
    signs = np.array(((1, 1), (1, -1), (-1, 1), (-1, -1)), dtype=np.float32)
    dx = signs[:, 0] * length[:, None] / 2
    dy = signs[:, 1] * width[:, None] / 2
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    mount_x, mount_y = world.x + MOUNT * math.cos(world.yaw), world.y + MOUNT * math.sin(world.yaw)
    corner_x = x[:, None] + dx * cos - dy * sin - np.float32(mount_x)
    corner_y = y[:, None] + dx * sin + dy * cos - np.float32(mount_y)
    yaws = np.radians(np.array([YAWS[camera] for camera in CAMERAS], dtype=np.float32)) + np.float32(world.yaw)
    cos_c, sin_c = np.cos(yaws)[:, None, None], np.sin(yaws)[:, None, None]
    ahead = corner_x[None] * cos_c + corner_y[None] * sin_c
    right = corner_x[None] * sin_c - corner_y[None] * cos_c
    near = np.maximum(ahead, NEAREST)
    columns = WIDTH / 2 + FOCAL * right / near
    nearest = near.min(axis=2)
    low = HORIZON + FOCAL * UP / nearest
    high = HORIZON + FOCAL * (UP - height[None]) / nearest
    rect = np.stack((columns.min(axis=2), high, columns.max(axis=2), low), axis=2)
    hidden = (ahead.max(axis=2) < NEAREST) | (rect[..., 2] < 0) | (rect[..., 0] > WIDTH)
    depth = np.where(hidden, np.inf, ahead.mean(axis=2).clip(NEAREST))
    return rect, depth


@dataclass(frozen=True)
class Brush:
    """Paints parts of a rectangle on one image; x and y are shares of it, from its left top."""

    image: Floats
    area: tuple[float, float, float, float]
    strength: float
    """How much of a colour fog leaves."""

    def fill(self, colour: tuple[int, int, int], x1: float = 0, y1: float = 0, x2: float = 1, y2: float = 1) -> None:
        """Fill a part; what is thinner than a pixel still takes one."""
        left, top, right, bottom = self.area
        width, height = right - left, bottom - top
        first_x, first_y = round(left + x1 * width), round(top + y1 * height)
        last_x = max(first_x + 1, round(left + x2 * width))
        last_y = max(first_y + 1, round(top + y2 * height))
        part = self.image[max(0, first_y) : max(0, last_y), max(0, first_x) : max(0, last_x)]
        part += (np.array(colour, dtype=np.float32) - part) * np.float32(self.strength)

    def veil(self) -> None:
        """Hide what lies behind, as fog has the thing itself."""
        if self.strength < 0.95:
            red, green, blue = FOG_COLOUR.astype(int).tolist()
            Brush(self.image, self.area, 1.0).fill((red, green, blue))


def _paint_user(brush: Brush, user: RoadUser, *, away: bool) -> None:
    if user.kind in ("building", "hedge"):
        brush.veil()
        brush.fill(WALL if user.kind == "building" else LEAVES)
        if user.kind == "building":
            brush.fill(DARK, 0.15, 0.2, 0.35, 0.45)
            brush.fill(DARK, 0.6, 0.2, 0.8, 0.45)
    elif user.kind in ("child", "pedestrian", "cyclist"):
        brush.fill(BODY[user.kind], 0.0, 0.2, 1.0, 0.75)
        brush.fill(DARK, 0.1 if user.kind != "cyclist" else 0.0, 0.75, 0.9, 1.0)
        brush.fill(SKIN, 0.2, 0.0, 0.8, 0.2)
    else:
        brush.veil()
        paint = PAINT.get(user.colour, (240, 240, 240))
        tall = user.kind in ("van", "bus")
        brush.fill(paint, 0.0, 0.0 if tall else 0.35, 1.0, 0.85)
        brush.fill(DARK, 0.02, 0.85, 0.98, 1.0)
        brush.fill(GLASS, 0.14, 0.08 if tall else 0.0, 0.86, 0.38)
        behind = away and math.cos(user.heading) > 0
        lamp = (255, 24, 24) if user.braking else (128, 20, 24)
        if behind:
            brush.fill(lamp, 0.02, 0.5, 0.26, 0.68)
            brush.fill(lamp, 0.74, 0.5, 0.98, 0.68)


def _paint_light(brush: Brush, red: bool) -> None:
    brush.fill((70, 72, 76), 0.4, 0.3, 0.6, 1.0)
    brush.fill(DARK, 0.0, 0.0, 1.0, 0.4)
    lit = PAINT["red" if red else "green"]
    brush.fill(lit, 0.1, 0.0 if red else 0.2, 0.9, 0.2 if red else 0.4)


def grid(images: dict[str, Pixels]) -> Pixels:
    """Six images as one, in the places of `data.sample.GRID`."""
    return np.concatenate([np.concatenate([images[camera] for camera in row], axis=1) for row in GRID], axis=0)
