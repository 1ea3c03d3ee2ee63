from __future__ import annotations

import pytest

from data.rendered.captions import caption_of, caption_sentences
from data.rendered.scene import Scene, build_scene

SCENES = [build_scene(index, seed=3) for index in range(200)]


def scene_with(situation: str) -> Scene:
    return next(scene for scene in SCENES if scene.situation == situation)


def test_a_caption_is_the_same_whenever_it_is_written() -> None:
    assert [caption_of(scene, 7) for scene in SCENES] == [caption_of(build_scene(i, 3), 7) for i in range(200)]


def test_captions_of_different_scenes_differ() -> None:
    facts = {(s.sky, s.bend, tuple((o.colour, o.shape, o.centre, o.status) for o in s.objects)) for s in SCENES}
    assert len({caption_of(scene) for scene in SCENES}) >= len(facts) - 2


def test_another_seed_words_the_same_scene_differently() -> None:
    assert all(len({caption_of(scene, seed) for seed in range(8)}) >= 6 for scene in SCENES[:50])


def test_no_wording_is_about_the_sky_twice_or_leaves_the_road_out() -> None:
    for seed in range(20):
        sentences = caption_sentences(SCENES[0], seed)
        about_the_sky = [sentence for sentence in sentences if " sky " in sentence]
        assert len(about_the_sky) == 1
        assert "road" in about_the_sky[0]


@pytest.mark.parametrize(
    ("situation", "said"),
    [
        ("red_light", ("a red light", "a red traffic light")),
        ("green_light", ("a green light", "a green traffic light")),
        ("pedestrian", ("a pedestrian", "a person")),
        ("lead_vehicle", ("sedan", "car")),
    ],
)
def test_what_the_ego_vehicle_meets_is_said_of_the_front_view(situation: str, said: tuple[str, ...]) -> None:
    first = next(s for s in caption_sentences(scene_with(situation), 1) if " sky " not in s).lower()
    assert any(words in first for words in said)
    assert "ahead" in first or "in front" in first


@pytest.mark.parametrize(("bend", "said"), [("left", "left"), ("right", "right"), ("straight", "straight")])
def test_the_bend_of_the_road_is_said(bend: str, said: str) -> None:
    scene = next(scene for scene in SCENES if scene.bend == bend)
    assert said in next(sentence for sentence in caption_sentences(scene) if " sky " in sentence)


def test_every_object_has_its_colour_and_its_side() -> None:
    for scene in SCENES:
        caption = caption_of(scene).lower()
        for placed in scene.objects:
            if placed.shape == "sedan":
                assert f"a {placed.colour} sedan" in caption or f"a {placed.colour} car" in caption
            lateral = placed.centre[0] - 800.0
            side = "on the left" if lateral < -100 else "on the right" if lateral > 100 else "in the middle"
            assert side in caption


def test_a_scene_without_a_follower_says_so() -> None:
    for scene in SCENES[:50]:
        assert ("nobody follows" in caption_of(scene).lower() or "no car is behind" in caption_of(scene).lower()) != (
            scene.followed
        )


def test_a_caption_is_short_enough_for_the_77_tokens_of_clip() -> None:
    longest = max(len(caption_of(scene, seed).replace(".", " .").split()) for scene in SCENES for seed in range(5))
    assert longest <= 72  # every word of a caption is one token; two more mark its ends
