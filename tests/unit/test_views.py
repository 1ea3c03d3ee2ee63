"""What becomes of a sample's images: the grid's order, what a missing camera leaves, and that all see the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from data.sample import CAMERAS, GRID, LIDAR, DrivingSample
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.views import View, arrange, draw, missing_views, picture_id, pictures, stitch, views_of

TILE = (32, 18)
STITCHED = PolicySettings(views="stitched", image_size=TILE)
COLOURS = {camera: (40 * place, 250 - 40 * place, 90) for place, camera in enumerate(CAMERAS)}


@pytest.fixture
def sample(tmp_path: Path) -> DrivingSample:
    """Six frames of one colour each, and a sweep of three points."""
    images: dict[str, str] = {}
    for camera in CAMERAS:
        images[camera] = str(tmp_path / f"{camera}.png")
        Image.new("RGB", (160, 90), COLOURS[camera]).save(images[camera])
    images[LIDAR] = str(tmp_path / "sweep.pcd.bin")
    np.array([[1, 2, 0, 9, 1], [-3, 4, 1, 9, 1], [0, 0, 2, 9, 1]], dtype="<f4").tofile(images[LIDAR])
    return DrivingSample("s_f_0", "s", "f", "planning", "open_ended", "Go?", "Yes.", images)


def without(sample: DrivingSample, *names: str) -> DrivingSample:
    return replace(sample, images={name: path for name, path in sample.images.items() if name not in names})


def tile_colours(grid: Image.Image) -> list[list[Any]]:
    width, height = TILE
    return [[grid.getpixel((x * width + 16, y * height + 9)) for x in range(3)] for y in range(2)]


def test_the_grid_has_the_front_above_and_the_back_below_mirrored() -> None:
    assert GRID == (
        ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
        ("CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT"),
    )


def test_a_stitched_prompt_is_one_image_with_every_camera_in_its_place(sample: DrivingSample) -> None:
    (picture,) = pictures(views_of(sample), STITCHED)
    grid = draw(picture, STITCHED)
    assert grid.size == (3 * TILE[0], 2 * TILE[1])
    assert tile_colours(grid) == [[COLOURS[camera] for camera in row] for row in GRID]


def test_the_place_of_a_camera_does_not_depend_on_the_order_of_the_sample(sample: DrivingSample) -> None:
    turned = replace(sample, images=dict(reversed(sample.images.items())))
    assert views_of(turned) == views_of(sample)


def test_a_missing_camera_leaves_a_black_tile_and_is_listed(sample: DrivingSample) -> None:
    five = without(sample, "CAM_BACK")
    grid = draw(pictures(views_of(five), STITCHED)[0], STITCHED)
    assert tile_colours(grid)[1][1] == (0, 0, 0)
    assert missing_views([sample, five], STITCHED) == {"black_tile": ["s_f_0"]}
    assert missing_views([sample, five], PolicySettings()) == {}


def test_without_a_single_camera_there_is_no_grid(sample: DrivingSample) -> None:
    assert pictures(views_of(without(sample, *CAMERAS)), STITCHED) == []
    assert missing_views([without(sample, *CAMERAS)], STITCHED) == {}


def test_six_separate_images_come_in_the_order_of_the_cameras(sample: DrivingSample) -> None:
    shown = pictures(views_of(sample), PolicySettings())
    assert [picture[0].name for picture in shown] == list(CAMERAS)


def test_images_under_other_names_follow_the_cameras_and_stay_apart(sample: DrivingSample) -> None:
    more = replace(sample, images={"clip_1": "/b.png", **sample.images, "clip_0": "/a.png"})
    assert [view.name for view in views_of(more)] == [*CAMERAS, "clip_1", "clip_0", LIDAR]
    assert [len(picture) for picture in pictures(views_of(more), STITCHED)] == [6, 1, 1]


def test_the_lidar_is_shown_last_and_only_where_it_is_asked_for(sample: DrivingSample) -> None:
    asked = PolicySettings(lidar=True, image_size=(64, 36))
    *_, last = pictures(views_of(sample), asked)
    assert last[0].name == LIDAR
    assert draw(last, asked).size == (36, 36)
    assert (len(pictures(views_of(sample), asked)), asked.images_per_prompt) == (7, 7)
    assert len(pictures(views_of(without(sample, LIDAR)), asked)) == 6
    assert missing_views([without(sample, LIDAR)], asked) == {"no_lidar": ["s_f_0"]}


@pytest.mark.parametrize("lidar", [False, True])
@pytest.mark.parametrize("views", ["six", "stitched"])
def test_images_that_are_sent_become_the_pixels_that_files_become(
    sample: DrivingSample, views: Any, lidar: bool
) -> None:
    settings = PolicySettings(views=views, lidar=lidar, image_size=TILE)
    ours = [draw(picture, settings) for picture in pictures(views_of(sample), settings)]
    separate = PolicySettings(lidar=lidar)
    sent = [draw(picture, separate) for picture in pictures(views_of(sample), separate)]
    theirs = arrange(sent, settings)
    assert [image.tobytes() for image in ours] == [image.tobytes() for image in theirs]
    assert len(ours) == settings.images_per_prompt


@pytest.mark.parametrize(("count", "lidar"), [(1, False), (5, False), (7, False), (5, True), (8, True)])
def test_a_policy_of_grids_refuses_any_other_number_of_images(count: int, lidar: bool) -> None:
    frames = [Image.new("RGB", (4, 4))] * count
    with pytest.raises(ValueError, match=rf"{count} images in one message.*CAM_FRONT_LEFT, CAM_FRONT"):
        arrange(frames, PolicySettings(views="stitched", image_size=TILE, lidar=lidar))


def test_pixels_that_differ_have_names_that_differ(sample: DrivingSample) -> None:
    (picture,) = pictures(views_of(sample), STITCHED)
    names = {
        picture_id(picture, STITCHED),
        picture_id(picture[1:], STITCHED),
        picture_id(picture[:1], STITCHED),
        picture_id(picture[:1], PolicySettings(image_size=TILE)),
        picture_id(picture, PolicySettings(views="stitched", image_size=(64, 36))),
        picture_id((View("CAM_BACK", picture[0].path), *picture[1:]), STITCHED),
    }
    assert len(names) == 6
    assert picture_id(picture, STITCHED) in names


def test_an_encoder_draws_a_grid_once(sample: DrivingSample, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PromptEncoder(SimpleNamespace(), STITCHED)
    (first,) = encoder.images(views_of(sample))
    monkeypatch.setattr("policies.prompt.draw", lambda *_: pytest.fail("drawn again"))
    assert encoder.images(views_of(sample)) == [first]


def test_tiles_of_unequal_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size, got \[\(1, 1\), \(2, 1\)\]"):
        stitch({"CAM_FRONT": Image.new("RGB", (1, 1)), "CAM_BACK": Image.new("RGB", (2, 1))})


def test_a_grid_without_a_stated_tile_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="stitched needs image_size"):
        PolicySettings(views="stitched")
