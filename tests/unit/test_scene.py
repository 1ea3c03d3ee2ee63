"""A scene's ground truth: deterministic, exact, and open to nobody who does not look."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from data.rendered.scene import BEHAVIORS, HORIZON, build_scene, project, road_centre
from data.sample import IMAGE_HEIGHT, IMAGE_WIDTH

SCENES = [build_scene(index, seed=3) for index in range(400)]


def test_the_same_number_and_seed_give_the_same_scene() -> None:
    assert build_scene(7, 1) == build_scene(7, 1)
    assert build_scene(7, 1) != build_scene(8, 1)
    assert build_scene(7, 1).id != build_scene(7, 2).id


def test_a_point_at_camera_height_lies_on_the_horizon_in_the_middle() -> None:
    assert project(0.0, 2.0, 10.0) == (IMAGE_WIDTH / 2, HORIZON)


def test_what_is_twice_as_far_is_half_as_wide() -> None:
    near, far = project(1.0, 0.0, 5.0)[0] - 800, project(1.0, 0.0, 10.0)[0] - 800
    assert near == pytest.approx(2 * far)


def test_the_road_bends_to_the_side_it_is_named_after() -> None:
    assert road_centre("left", 10.0) < 0.0 == road_centre("straight", 10.0) < road_centre("right", 10.0)


def test_every_object_has_its_centre_inside_the_frame_and_a_tag_that_says_so() -> None:
    for scene in SCENES:
        for number, placed in enumerate(scene.objects, start=1):
            x, y = placed.centre
            assert 0 < x < IMAGE_WIDTH
            assert 0 < y < IMAGE_HEIGHT
            match = re.fullmatch(r"<c(\d+),(CAM_\w+),(\d+\.\d),(\d+\.\d)>", placed.tag(number))
            assert match
            assert match.groups() == (str(number), placed.camera, f"{x:.1f}", f"{y:.1f}")


def test_every_behavior_is_about_equally_likely() -> None:
    counts = Counter(scene.behavior for scene in SCENES)
    assert set(counts) == set(BEHAVIORS)
    assert max(counts.values()) < 2 * min(counts.values())


def test_a_red_light_stops_the_ego_vehicle_and_nothing_else_does() -> None:
    for scene in SCENES:
        assert scene.behavior.endswith("is not moving.") == (scene.objects[0].description == "Red light.")


def test_the_place_of_an_object_does_not_tell_what_it_is() -> None:
    places = {
        shape: {o.centre for s in SCENES for o in s.objects[2:3] if o.shape == shape} for shape in ("sedan", "barrier")
    }
    assert places["sedan"] == places["barrier"]


def test_key_objects_carry_the_annotation_of_drivelm() -> None:
    first = SCENES[0].key_objects()[0]
    assert first.tag.startswith("<c1,CAM_FRONT,")
    assert first.category in {"Vehicle", "Pedestrian", "Traffic element"}
    assert first.box is not None
    assert first.box[0] < first.box[2]
    assert first.box[1] < first.box[3]
