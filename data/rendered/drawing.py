"""Draws the six camera images of a `Scene` with Pillow. Decides nothing a question asks about, and asks nothing."""

from __future__ import annotations

import random
from functools import cache

from PIL import Image, ImageDraw

from data.rendered.scene import HORIZON, PlacedObject, Scene, Sky, project, road_centre
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH

WIDTH, HEIGHT = 400, 225
"""Size in pixels of a stored image; coordinates in questions stay in the 1600x900 frame."""
SCALE = WIDTH / IMAGE_WIDTH
ROAD_HALF_WIDTH = 5.0
LANE_MARK = 1.75

Colour = tuple[int, int, int]
SKY_COLOURS: dict[Sky, tuple[Colour, Colour]] = {
    "clear": ((92, 148, 214), (205, 226, 244)),
    "overcast": ((140, 150, 162), (206, 210, 214)),
    "evening": ((88, 92, 150), (240, 190, 150)),
}
PAINT: dict[str, Colour] = {
    "red": (214, 36, 40),
    "blue": (36, 84, 214),
    "white": (240, 240, 240),
    "yellow": (250, 206, 24),
    "orange": (250, 122, 18),
    "green": (40, 220, 84),
}
GRASS, ASPHALT, KERB, MARK = (104, 146, 74), (78, 80, 86), (168, 168, 164), (236, 236, 230)
GLASS, TYRE, DARK = (44, 56, 72), (24, 24, 26), (34, 36, 40)


def render_scene(scene: Scene) -> dict[str, Image.Image]:
    """One RGB image of 400x225 pixels per camera, keyed and ordered by `CAMERAS`."""
    return {camera: render_view(scene, camera) for camera in CAMERAS}


def render_view(scene: Scene, camera: str) -> Image.Image:
    """What one camera of the scene sees: an RGB image of 400x225 pixels."""
    rng = random.Random(f"{scene.decoration_seed} {camera}")
    image = _sky(scene.sky).copy()
    pen = ImageDraw.Draw(image)
    _draw_skyline(pen, rng)
    pen.rectangle(_pixels(0, HORIZON, IMAGE_WIDTH, IMAGE_HEIGHT), fill=GRASS)
    if camera in ("CAM_FRONT", "CAM_BACK"):
        _draw_road(pen, scene, camera)
    else:
        _draw_side_road(pen, rng)
    for placed in scene.seen_by(camera):
        _PAINTERS[placed.shape](pen, placed)
    return image


@cache
def _sky(sky: Sky) -> Image.Image:
    top, bottom = SKY_COLOURS[sky]
    ramp = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    horizon = min(1.0, HORIZON / IMAGE_HEIGHT)
    ramp = ramp.point([min(255, round(v / horizon)) for v in range(256)])
    return Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)


def _pixels(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    return x1 * SCALE, y1 * SCALE, x2 * SCALE, y2 * SCALE


def _ground(lateral: float, depth: float) -> tuple[float, float]:
    x, y = project(lateral, 0.0, depth)
    return x * SCALE, y * SCALE


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255, round(c * factor)) for c in colour)  # type: ignore[return-value]


def _draw_skyline(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x = -60.0
    while x < IMAGE_WIDTH:
        width, grey = rng.uniform(110, 230), rng.randint(118, 168)
        if rng.random() < 0.35:
            tree = (70 + rng.randint(-12, 12), 112 + rng.randint(-12, 12), 66)
            pen.ellipse(_pixels(x, HORIZON - 110, x + width * 0.8, HORIZON + 30), fill=tree)
        else:
            roof = HORIZON - rng.uniform(60, 170)
            pen.rectangle(_pixels(x, roof, x + width, HORIZON), fill=(grey, grey - 6, grey - 14))
            for column in range(int(width // 45)):
                for row in range(int((HORIZON - roof) // 48)):
                    wx, wy = x + 14 + column * 45, roof + 12 + row * 48
                    pen.rectangle(_pixels(wx, wy, wx + 22, wy + 26), fill=(grey - 34, grey - 28, grey - 20))
        x += width + rng.uniform(0, 40)


def _draw_road(pen: ImageDraw.ImageDraw, scene: Scene, camera: str) -> None:
    bend = scene.bend if camera == "CAM_FRONT" else "straight"
    depths = [2.2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 34, 42, 60, 100]

    def edge(offset: float, reverse: bool = False) -> list[tuple[float, float]]:
        points = [_ground(road_centre(bend, d) + offset, d) for d in depths]
        return points[::-1] if reverse else points

    for half_width, colour in ((ROAD_HALF_WIDTH + 0.9, KERB), (ROAD_HALF_WIDTH, ASPHALT)):
        pen.polygon(edge(-half_width) + edge(half_width, reverse=True), fill=colour)
    for side in (-1, 1):
        for near in range(2, 34, 4):
            strip = [(near + s * 0.5) for s in range(5)]
            inner = [_ground(road_centre(bend, d) + side * LANE_MARK - 0.1, d) for d in strip]
            outer = [_ground(road_centre(bend, d) + side * LANE_MARK + 0.1, d) for d in reversed(strip)]
            pen.polygon(inner + outer, fill=MARK)
    if camera == "CAM_FRONT" and scene.situation == "pedestrian":
        for stripe in range(-5, 5):
            centre = road_centre(bend, 6.0)
            corners = [(stripe + 0.2, 4.6), (stripe + 0.8, 4.6), (stripe + 0.8, 7.4), (stripe + 0.2, 7.4)]
            pen.polygon([_ground(centre + lateral, depth) for lateral, depth in corners], fill=MARK)


def _draw_side_road(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    far = rng.uniform(11, 14)
    _, kerb = _ground(0, far)
    _, asphalt = _ground(0, far - 2)
    pen.rectangle((0, kerb, WIDTH, HEIGHT), fill=KERB)
    pen.rectangle((0, asphalt, WIDTH, HEIGHT), fill=ASPHALT)
    _, top = _ground(0, 4.2)
    _, bottom = _ground(0, 4.0)
    for x in range(rng.randint(-90, 0), WIDTH, 110):
        pen.rectangle((x, top, x + 60, bottom + 1), fill=MARK)


def _draw_vehicle(pen: ImageDraw.ImageDraw, placed: PlacedObject) -> None:
    x1, y1, x2, y2 = (v * SCALE for v in placed.box)
    width, height = x2 - x1, y2 - y1
    paint = PAINT[placed.colour]
    pen.ellipse((x1 - width * 0.04, y2 - height * 0.1, x2 + width * 0.04, y2 + height * 0.08), fill=DARK)
    if placed.status in ("Turn left.", "Turn right."):
        _draw_side_of_vehicle(pen, (x1, y1, x2, y2), paint, facing_left=placed.status == "Turn left.")
        return
    for wheel in (x1 + width * 0.04, x2 - width * 0.22):
        pen.rectangle((wheel, y2 - height * 0.2, wheel + width * 0.18, y2), fill=TYRE)
    roof = [(x1 + width * 0.1, y1 + height * 0.45), (x1 + width * 0.2, y1), (x2 - width * 0.2, y1)]
    pen.polygon([*roof, (x2 - width * 0.1, y1 + height * 0.45)], fill=_shade(paint, 0.86))
    glass = [(x1 + width * 0.17, y1 + height * 0.42), (x1 + width * 0.25, y1 + height * 0.08)]
    pen.polygon([*glass, *((x1 + x2 - x, y) for x, y in reversed(glass))], fill=GLASS)
    pen.rounded_rectangle((x1, y1 + height * 0.4, x2, y2 - height * 0.12), radius=width * 0.06, fill=paint)
    stopped = placed.status == "Stopped."
    lamp = (255, 24, 24) if stopped else ((255, 250, 210) if placed.camera == "CAM_BACK" else (128, 20, 24))
    top, bottom = (0.42, 0.8) if stopped else (0.48, 0.6)
    for left in (x1 + width * 0.02, x2 - width * 0.3):
        pen.rectangle((left, y1 + height * top, left + width * 0.28, y1 + height * bottom), fill=lamp)
    pen.rectangle((x1 + width * 0.36, y1 + height * 0.66, x2 - width * 0.36, y1 + height * 0.78), fill=MARK)


def _draw_side_of_vehicle(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], paint: Colour, facing_left: bool
) -> None:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1

    def across(share: float) -> float:
        return x1 + width * (share if facing_left else 1 - share)

    def polygon(points: list[tuple[float, float]], fill: Colour) -> None:
        pen.polygon([(across(x), y1 + height * y) for x, y in points], fill=fill)

    beam = (232, 222, 160)
    polygon([(0.02, 0.52), (0.02, 0.64), (-0.34, 1.0), (-0.34, 0.62)], beam)
    polygon([(0.42, 0.0), (0.92, 0.0), (1.0, 0.42), (1.0, 0.84), (0.0, 0.84), (0.0, 0.52), (0.26, 0.42)], paint)
    polygon([(0.44, 0.07), (0.62, 0.07), (0.62, 0.4), (0.32, 0.4)], GLASS)
    polygon([(0.66, 0.07), (0.88, 0.07), (0.94, 0.4), (0.66, 0.4)], GLASS)
    polygon([(0.0, 0.5), (0.13, 0.48), (0.13, 0.66), (0.0, 0.66)], (255, 246, 190))
    polygon([(0.92, 0.5), (1.0, 0.5), (1.0, 0.66), (0.92, 0.66)], (190, 24, 28))
    for hub in (0.22, 0.78):
        centre, radius = across(hub), height * 0.19
        pen.ellipse((centre - radius, y2 - 2 * radius, centre + radius, y2), fill=TYRE)
        pen.ellipse((centre - radius / 2, y2 - 1.5 * radius, centre + radius / 2, y2 - radius / 2), fill=KERB)


def _draw_pedestrian(pen: ImageDraw.ImageDraw, placed: PlacedObject) -> None:
    x1, y1, x2, y2 = (v * SCALE for v in placed.box)
    width, height = x2 - x1, y2 - y1
    middle = (x1 + x2) / 2
    for foot in (x1 + width * 0.12, x2 - width * 0.12):
        pen.line((middle, y1 + height * 0.55, foot, y2), fill=(38, 44, 96), width=max(2, round(width * 0.24)))
    pen.rounded_rectangle(
        (x1 + width * 0.08, y1 + height * 0.18, x2 - width * 0.08, y1 + height * 0.62),
        radius=width * 0.2,
        fill=PAINT[placed.colour],
    )
    head = height * 0.1
    pen.ellipse((middle - head, y1, middle + head, y1 + 2 * head), fill=(224, 178, 140))


def _draw_barrier(pen: ImageDraw.ImageDraw, placed: PlacedObject) -> None:
    x1, y1, x2, y2 = (v * SCALE for v in placed.box)
    width, height = x2 - x1, y2 - y1
    for post in (x1 + width * 0.1, x2 - width * 0.16):
        pen.rectangle((post, y1 + height * 0.3, post + width * 0.06, y2), fill=DARK)
    pen.rectangle((x1, y1, x2, y1 + height * 0.72), fill=PAINT[placed.colour])
    stripe = width / 6
    for number in range(0, 6, 2):
        left = x1 + number * stripe + stripe * 0.5
        slant = stripe * 0.5
        bottom = y1 + height * 0.72
        pen.polygon(
            [(left + slant, y1), (left + slant + stripe * 0.7, y1), (left + stripe * 0.7, bottom), (left, bottom)],
            fill=MARK,
        )


def _draw_traffic_light(pen: ImageDraw.ImageDraw, placed: PlacedObject) -> None:
    x1, y1, x2, y2 = (v * SCALE for v in placed.box)
    width, height = x2 - x1, y2 - y1
    middle = (x1 + x2) / 2
    _, ground = project(placed.lateral, 0.0, placed.depth)
    pen.rectangle((middle - width * 0.08, y2, middle + width * 0.08, ground * SCALE), fill=(70, 72, 76))
    pen.rounded_rectangle((x1, y1, x2, y2), radius=width * 0.15, fill=(26, 28, 30))
    lit = "red" if placed.colour == "red" else "green"
    for number, name in enumerate(("red", "yellow", "green")):
        centre, radius = y1 + height * (number + 0.5) / 3, width * 0.38
        if name == lit:
            glow = width * 0.5
            pen.rectangle((x1, centre - glow, x2, centre + glow), fill=_shade(PAINT[name], 0.55))
            radius = width * 0.46
        colour = PAINT[name] if name == lit else _shade(PAINT[name], 0.2)
        pen.ellipse((middle - radius, centre - radius, middle + radius, centre + radius), fill=colour)


_PAINTERS = {
    "sedan": _draw_vehicle,
    "pedestrian": _draw_pedestrian,
    "barrier": _draw_barrier,
    "traffic_light": _draw_traffic_light,
}
