"""The pictures show what the ground truth says, and the folder of pictures is drawn once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from data.rendered.drawing import HEIGHT, SCALE, WIDTH, render_scene, render_view
from data.rendered.samples import rendered_samples
from data.rendered.scene import Scene, build_scene
from data.sample import CAMERAS, TASKS

SCENES = [build_scene(index, seed=5) for index in range(60)]


def scene_with(situation: str) -> Scene:
    return next(scene for scene in SCENES if scene.situation == situation)


def test_six_pictures_in_the_order_of_the_prompt() -> None:
    pictures = render_scene(SCENES[0])
    assert tuple(pictures) == CAMERAS
    assert {(p.size, p.mode) for p in pictures.values()} == {((WIDTH, HEIGHT), "RGB")}


def test_drawing_is_deterministic() -> None:
    once, again = (render_view(SCENES[1], "CAM_FRONT") for _ in range(2))
    assert ImageChops.difference(once, again).getbbox() is None


@pytest.mark.parametrize(("situation", "channel"), [("red_light", 0), ("green_light", 1)])
def test_a_traffic_light_shines_in_its_colour_where_its_box_says(situation: str, channel: int) -> None:
    scene = scene_with(situation)
    x1, y1, x2, y2 = (v * SCALE for v in scene.objects[0].box)
    lamp = y1 + (y2 - y1) * (1 / 6 if situation == "red_light" else 5 / 6)
    pixel = render_view(scene, "CAM_FRONT").getpixel((round((x1 + x2) / 2), round(lamp)))
    assert isinstance(pixel, tuple)
    assert max(range(3), key=lambda c: pixel[c]) == channel
    assert pixel[channel] > 180


def test_a_vehicle_has_its_colour_where_its_box_says() -> None:
    placed = next(
        s for s in SCENES if s.objects[1].colour == "yellow" and s.objects[1].status == "Going ahead."
    ).objects[1]
    scene = next(s for s in SCENES if s.objects[1] == placed)
    x1, y1, x2, y2 = (v * SCALE for v in placed.box)
    pixel = render_view(scene, "CAM_FRONT_LEFT").getpixel((round((x1 + x2) / 2), round(y1 + 0.6 * (y2 - y1))))
    assert pixel == (250, 206, 24)


def test_bends_look_different() -> None:
    looks = {scene.bend: render_view(scene, "CAM_FRONT").getpixel((60, 130)) for scene in SCENES}
    assert looks["left"] != looks["right"]


def test_rendered_samples_cover_every_task_and_point_at_real_pictures(tmp_path: Path) -> None:
    samples = rendered_samples(tmp_path, scenes=3, seed=0)
    assert {sample.task for sample in samples} == set(TASKS)
    assert len({sample.id for sample in samples}) == len(samples)
    assert len({sample.scene_id for sample in samples}) == 3
    for sample in samples:
        assert tuple(sample.images) == CAMERAS
        assert all(
            Path(path).is_absolute() and Image.open(path).size == (WIDTH, HEIGHT) for path in sample.images.values()
        )


def test_a_complete_folder_is_not_drawn_again_and_a_lost_picture_is(tmp_path: Path) -> None:
    first = rendered_samples(tmp_path, scenes=2, seed=0)
    kept, lost = Path(first[0].images["CAM_BACK"]), Path(first[-1].images["CAM_FRONT"])
    drawn_at, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert rendered_samples(tmp_path, scenes=2, seed=0) == first
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == drawn_at


def test_a_folder_of_other_scenes_is_refused_by_name(tmp_path: Path) -> None:
    rendered_samples(tmp_path, scenes=1, seed=0)
    with pytest.raises(ValueError, match=f"{tmp_path}.*choose another folder"):
        rendered_samples(tmp_path, scenes=1, seed=1)
    assert json.loads((tmp_path / "scenes.json").read_text())["seed"] == 0


def test_no_scenes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scenes must be at least 1"):
        rendered_samples(tmp_path, scenes=0, seed=0)
