"""Captions: what the six views of a `Scene` show, in words. Written from the ground truth; reads no pictures.

A caption is a handful of short sentences, one for the sky and the road and one for each object, worded in several
ways. About 55 tokens of CLIP's own tokenizer, so that a CLIP reads it to its end.
"""

from __future__ import annotations

import random

from data.rendered.scene import Bend, PlacedObject, Scene, Sky, Status
from data.sample import CAMERAS, Camera, DrivingSample

VIEWS: dict[Camera, tuple[str, ...]] = {
    "CAM_FRONT": ("ahead", "in front"),
    "CAM_FRONT_LEFT": ("at the front left", "in the front left view"),
    "CAM_FRONT_RIGHT": ("at the front right", "in the front right view"),
    "CAM_BACK_LEFT": ("at the back left", "in the back left view"),
    "CAM_BACK": ("behind", "at the back"),
    "CAM_BACK_RIGHT": ("at the back right", "in the back right view"),
}
SKIES: dict[Sky, tuple[str, ...]] = {
    "clear": ("a clear sky", "a blue sky"),
    "overcast": ("an overcast sky", "a grey sky"),
    "evening": ("an evening sky", "a sky at dusk"),
}
ROADS: dict[Bend, tuple[str, ...]] = {
    "straight": ("a straight road", "a road that runs straight"),
    "left": ("a road that bends left", "a road with a left bend"),
    "right": ("a road that bends right", "a road with a right bend"),
}
DOINGS: dict[Status, tuple[str, ...]] = {
    "Going ahead.": ("goes ahead", "drives on"),
    "Turn left.": ("turns left", "steers to the left"),
    "Turn right.": ("turns right", "steers to the right"),
    "Stopped.": ("is stopped", "stands still"),
}
DESCRIBE = "What do the six cameras show?"
NOBODY_FOLLOWS = ("Nobody follows.", "No car is behind.")

LEFT_BEFORE, RIGHT_FROM = 700.0, 900.0
"""Pixel columns of the 1600x900 frame: an object before the first stands on the left, one behind the second on the
right."""


def caption_of(scene: Scene, seed: int = 0) -> str:
    """One caption of a scene; another seed words it differently. Deterministic in (scene, seed)."""
    return " ".join(caption_sentences(scene, seed))


def description_sample(scene: Scene, images: dict[str, str]) -> DrivingSample:
    """The question what a scene's cameras show (camera to absolute path), answered by a caption of it."""
    return DrivingSample(
        id=f"{scene.id}_frame-0_description",
        scene_id=scene.id,
        frame_id=f"{scene.id}_frame-0",
        task="perception",
        kind="open_ended",
        question=DESCRIBE,
        answer=caption_of(scene),
        images=images,
        objects=scene.key_objects(),
    )


def caption_sentences(scene: Scene, seed: int = 0) -> tuple[str, ...]:
    """The sentences of a caption: sky and road first or last, the objects from the front view to the back."""
    rng = random.Random(f"caption {scene.id} {seed}")
    objects = sorted(scene.objects, key=lambda placed: _FROM_THE_FRONT.index(placed.camera))
    sentences = [_object_sentence(placed, rng) for placed in objects]
    if not scene.followed:
        sentences.append(rng.choice(NOBODY_FOLLOWS))
    around = _sentence(f"{rng.choice(SKIES[scene.sky])} over {rng.choice(ROADS[scene.bend])}")
    return (around, *sentences) if rng.random() < 0.5 else (*sentences, around)


_FROM_THE_FRONT: tuple[Camera, ...] = ("CAM_FRONT", *(camera for camera in CAMERAS if camera != "CAM_FRONT"))


def _object_sentence(placed: PlacedObject, rng: random.Random) -> str:
    view = rng.choice(VIEWS[placed.camera])
    described = f"{_noun(placed, rng)} {_side(placed)} {_doing(placed, rng)}"
    return _sentence(f"{view} {described}" if rng.random() < 0.5 else f"{described} {view}")


def _noun(placed: PlacedObject, rng: random.Random) -> str:
    if placed.shape == "traffic_light":
        return f"a {placed.colour} {rng.choice(('light', 'traffic light'))}"
    if placed.shape == "pedestrian":
        return rng.choice(("a pedestrian", "a person"))
    if placed.shape == "barrier":
        return rng.choice(("a barrier", "a road barrier"))
    return f"a {placed.colour} {rng.choice(('sedan', 'car'))}"


def _side(placed: PlacedObject) -> str:
    x, _ = placed.centre
    if x < LEFT_BEFORE:
        return "on the left"
    return "on the right" if x > RIGHT_FROM else "in the middle"


def _doing(placed: PlacedObject, rng: random.Random) -> str:
    if placed.status is not None:
        return rng.choice(DOINGS[placed.status])
    if placed.shape == "traffic_light":
        return rng.choice(("shines", "is lit"))
    return rng.choice(("walks", "crosses") if placed.shape == "pedestrian" else ("stands", "blocks the way"))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
