from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import imagecorruptions
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corruptions.cameras import cameras_hit
from data.corruptions.corruption import CORRUPTION_NAMES, CORRUPTIONS, Corruption, corruption_named, seed_of
from data.corruptions.image import SMALLEST, Pixels, corrupt_image, lens_obstacle, low_light, rain, water_splash
from data.corruptions.video import Video, compress, damage, decode_clip, encode_clip
from data.errors import DataError
from data.images import open_image
from data.rendered.drawing import render_view
from data.rendered.scene import build_scene
from data.sample import CAMERAS

REAL_IMAGE = Path(__file__).parents[2].parent / "shared" / "data" / "corruptions" / "test_image.jpg"
OF_IMAGES = [corruption for corruption in CORRUPTIONS if corruption.scope != "clip"]
names = pytest.mark.parametrize("corruption", OF_IMAGES, ids=lambda corruption: corruption.name)


@pytest.fixture(scope="module")
def drawn() -> Pixels:
    return np.asarray(render_view(build_scene(0, seed=3), "CAM_FRONT"))


@pytest.fixture(scope="module")
def clip() -> list[Pixels]:
    """Eight frames that slide sideways, of an odd height."""
    wide = np.asarray(render_view(build_scene(1, seed=3), "CAM_FRONT"))
    return [np.ascontiguousarray(wide[:, shift : shift + 320]) for shift in range(0, 80, 10)]


def psnr(one: Pixels, other: Pixels) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def test_there_are_the_15_of_drivebench_each_with_its_severity() -> None:
    severities = {corruption.name: corruption.severity for corruption in CORRUPTIONS}
    assert len(severities) == 15
    assert sorted(severities.items()) == [
        ("BitError", 2),
        ("Brightness", 4),
        ("CameraCrash", 4),
        ("ColorQuant", 4),
        ("Fog", 5),
        ("FrameLost", 4),
        ("H256ABRCompression", 4),
        ("LensObstacleCorruption", 5),
        ("LowLight", 4),
        ("MotionBlur", 4),
        ("Rain", 5),
        ("Saturate", 5),
        ("Snow", 4),
        ("WaterSplashCorruption", 4),
        ("ZoomBlur", 4),
    ]


def test_a_name_is_found_in_any_case_and_a_misspelt_one_is_answered_with_those_that_come_close() -> None:
    assert [corruption_named(name.lower()).name for name in CORRUPTION_NAMES] == list(CORRUPTION_NAMES)
    with pytest.raises(DataError, match="'WaterSplash'.*WaterSplashCorruption"):
        corruption_named("WaterSplash")
    with pytest.raises(DataError, match="H256ABRCompression or"):
        corruption_named("xxxxxxxxxxxxxx")


@names
def test_shape_and_type_are_kept_and_the_same_seed_gives_the_same_bytes(drawn: Pixels, corruption: Corruption) -> None:
    before = drawn.copy()
    one, again, other = (corrupt_image(corruption, drawn, seed) for seed in (7, 7, 2**100 + 7))
    assert one.shape == drawn.shape
    assert one.dtype == np.uint8
    assert (one == again).all()
    assert (drawn == before).all()
    assert not (one == drawn).all()
    random = corruption.random and corruption.name not in ("CameraCrash", "FrameLost")  # they draw cameras, not pixels
    assert (one == other).all() != random


@names
def test_the_process_global_generator_neither_decides_nor_is_moved(drawn: Pixels, corruption: Corruption) -> None:
    np.random.seed(1)
    expected_next = pickle.dumps(np.random.get_state())
    one = corrupt_image(corruption, drawn, 5)
    assert pickle.dumps(np.random.get_state()) == expected_next
    np.random.seed(2)
    assert (corrupt_image(corruption, drawn, 5) == one).all()


def test_the_global_generator_comes_back_after_an_error_too(monkeypatch: pytest.MonkeyPatch, drawn: Pixels) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(imagecorruptions, "corrupt", fail)
    before = pickle.dumps(np.random.get_state())
    with pytest.raises(MemoryError):
        corrupt_image(corruption_named("Fog"), drawn, 5)
    assert pickle.dumps(np.random.get_state()) == before


@pytest.mark.parametrize("corruption", [c for c in CORRUPTIONS if c.library], ids=lambda corruption: corruption.name)
def test_the_library_called_directly_gives_the_same(drawn: Pixels, corruption: Corruption) -> None:
    seed = 2**70 + 11
    state = np.random.get_state()
    np.random.seed([11, 0, 64, 0])
    expected = imagecorruptions.corrupt(drawn, corruption.severity, corruption.library)
    np.random.set_state(state)
    assert (corrupt_image(corruption, drawn, seed) == expected).all()


def test_brightness_adds_its_value_and_leaves_the_hue() -> None:
    grey = np.full((100, 100, 3), 51, np.uint8)
    assert np.unique(corrupt_image(corruption_named("Brightness"), grey, 0)).tolist() == [153]  # (0.2 + 0.4) * 255


def test_one_bit_is_left_of_every_value(drawn: Pixels) -> None:
    assert (corrupt_image(corruption_named("ColorQuant"), drawn, 0) == np.where(drawn >= 128, 128, 0)).all()


@pytest.mark.parametrize("name", ["CameraCrash", "FrameLost"])
def test_a_lost_camera_is_black(drawn: Pixels, name: str) -> None:
    assert not corrupt_image(corruption_named(name), drawn, 0).any()


def test_low_light_stretches_the_range_then_darkens_and_a_flat_image_is_dark(drawn: Pixels) -> None:
    quiet = {"scale": 0.2, "gamma": 2.0, "photons": 1e9, "noise": 0.0}
    ramp = np.tile(np.linspace(10, 250, 100).astype(np.uint8)[:, None, None], (1, 100, 3))
    dark = low_light(ramp, np.random.default_rng(0), **quiet)
    light = (ramp.astype(float) - 10) / 240
    assert np.abs(dark - light**2 * 0.2 * 255).max() <= 1.01
    assert low_light(np.full_like(ramp, 90), np.random.default_rng(0), **quiet).max() == 0
    noisy = corrupt_image(corruption_named("LowLight"), drawn, 0)
    assert noisy.mean() < 0.3 * drawn.mean()


def test_rain_halves_the_contrast_and_brightens_what_is_dark() -> None:
    dark = np.full((200, 300, 3), 40, np.uint8)
    dark[:, 150:] = 60
    dry = rain(
        dark, np.random.default_rng(0), pixels_per_drop=10**9, drop_length=80, drop_grey=220, contrast=0.5
    ).astype(float)
    assert dry[:, 150:].mean() - dry[:, :140].mean() == pytest.approx(10, abs=1.5)
    wet = corrupt_image(corruption_named("Rain"), dark, 0)
    assert wet.mean() > dry.mean() + 5


def test_water_moves_what_a_droplet_covers_a_fifth_towards_white_and_nothing_else() -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    splashed = water_splash(black, np.random.default_rng(0), droplets=1, radius=(20, 30), alpha=0.2, blur=1)
    assert np.unique(splashed).tolist() == [0, 51]
    assert 20**2 * 3 < (splashed[..., 0] == 51).sum() < 30.5**2 * 3.2
    twice = water_splash(black, np.random.default_rng(0), droplets=60, radius=(20, 30), alpha=0.2, blur=1)
    assert {0, 51, 92} <= set(np.unique(twice).tolist())


def test_a_lens_obstacle_blurs_an_ellipse_and_keeps_the_rest(drawn: Pixels) -> None:
    changed = (lens_obstacle(drawn, np.random.default_rng(1), axes=(0.1, 0.5), centre_sigma=0.1, blur=71) != drawn).any(
        2
    )
    assert 0.01 < changed.mean() < 0.8
    assert not changed[0].any() or not changed[:, 0].any()


def test_a_small_image_is_refused_with_its_size() -> None:
    small = np.zeros((SMALLEST - 1, 300, 3), np.uint8)
    with pytest.raises(DataError, match="300x95 pixels.*96x96"):
        corrupt_image(corruption_named("Rain"), small, 0)


@names
def test_the_smallest_image_can_be_corrupted(corruption: Corruption) -> None:
    small = np.random.default_rng(0).integers(0, 256, (SMALLEST, SMALLEST, 3), np.uint8)
    assert corrupt_image(corruption, small, 1).shape == small.shape


def test_a_clip_corruption_refuses_a_single_image(drawn: Pixels) -> None:
    with pytest.raises(DataError, match="BitError"):
        corrupt_image(corruption_named("BitError"), drawn, 0)


@pytest.mark.skipif(not REAL_IMAGE.is_file(), reason=f"the sample image is not at {REAL_IMAGE}")
def test_a_real_image_stays_recognisable_under_every_corruption_that_keeps_one() -> None:
    real = np.asarray(open_image(REAL_IMAGE))
    for corruption in OF_IMAGES:
        if corruption.name in ("CameraCrash", "FrameLost"):
            continue
        corrupted = corrupt_image(corruption, real, 3)
        assert corrupted.shape == real.shape
        correlation = np.corrcoef(real.mean(2).ravel(), corrupted.mean(2).ravel())[0, 1]
        assert 0.15 < correlation < 0.9999, corruption.name


@given(st.integers(), st.text(), st.text(), st.integers(), st.text(), st.text())
def test_seeds_of_different_places_differ(
    seed: int, name: str, place: str, seed2: int, name2: str, place2: str
) -> None:
    same = (seed, name, place) == (seed2, name2, place2)
    if "\0" not in name + place + name2 + place2:
        assert (seed_of(seed, name, place) == seed_of(seed2, name2, place2)) == same


def hits(name: str, seed: int = 0, frames: int = 400) -> list[frozenset[str]]:
    return [frozenset(cameras_hit(corruption_named(name), seed, "scene", str(frame))) for frame in range(frames)]


@pytest.mark.parametrize("name", ["WaterSplashCorruption", "LensObstacleCorruption"])
def test_water_and_obstacles_hit_the_front_camera_and_one_to_five_others(name: str) -> None:
    drawn = hits(name)
    assert all("CAM_FRONT" in cameras for cameras in drawn)
    assert {len(cameras) for cameras in drawn} == {2, 3, 4, 5, 6}
    assert {camera for cameras in drawn if len(cameras) == 2 for camera in cameras} == set(CAMERAS)
    assert drawn == hits(name) != hits(name, seed=1)


def test_a_camera_crash_is_the_same_in_the_whole_run_and_hits_one_to_four_cameras() -> None:
    assert all(len(set(hits("CameraCrash", seed, frames=3))) == 1 for seed in range(20))
    counts = [len(hits("CameraCrash", seed, frames=1)[0]) for seed in range(600)]
    assert set(counts) == {1, 2, 3, 4}
    assert np.mean(counts) == pytest.approx(6 * (1 - (5 / 6) ** 4), abs=0.15)  # four draws with replacement


def test_each_camera_is_lost_in_two_thirds_of_the_frames() -> None:
    drawn = hits("FrameLost", frames=900)
    for camera in CAMERAS:
        assert np.mean([camera in cameras for cameras in drawn]) == pytest.approx(4 / 6, abs=0.06)
    assert {len(cameras) for cameras in drawn} == set(range(7))


def test_all_other_corruptions_hit_every_camera() -> None:
    for corruption in CORRUPTIONS:
        if corruption.scope in ("image", "clip"):
            assert cameras_hit(corruption, 0, "scene", "1") == set(CAMERAS)


def frames_of(video: Video) -> list[Pixels]:
    return [pixels for pixels, _ in decode_clip(video)]


def test_h265_is_smaller_different_and_recognisable(clip: list[Pixels]) -> None:
    clean = encode_clip(clip)
    sent = compress(clean, **corruption_named("H256ABRCompression").parameters)
    assert len(sent.data) < 0.6 * len(clean.data)  # the file's own tables weigh as much as these few small pictures
    states = {state for _, state in decode_clip(sent)}
    assert states == {"decoded"}
    for before, after in zip(clip, frames_of(sent), strict=True):
        assert after.shape == before.shape
        assert 20 < psnr(before, after) < 40
    closest = [max(range(8), key=lambda at: psnr(clip[at], after)) for after in frames_of(sent)]
    assert closest == list(range(8))


def test_a_video_is_the_same_whenever_it_is_made(clip: list[Pixels]) -> None:
    clean = encode_clip(iter(clip))
    assert clean == encode_clip(clip)
    assert compress(clean, bit_rate_divisor=16) == compress(clean, bit_rate_divisor=16)
    assert min(psnr(*pair) for pair in zip(clip, frames_of(clean), strict=True)) > 32


def test_a_clip_comes_back_as_light_as_it_was(clip: list[Pixels]) -> None:
    shown = frames_of(encode_clip(clip))
    assert abs(np.mean(shown) - np.mean(clip)) < 0.4


def test_bit_errors_are_counted_and_follow_the_seed(clip: list[Pixels]) -> None:
    clean = encode_clip(clip)
    one, bytes_one = damage(clean, 1, amount=500)
    again, bytes_again = damage(clean, 1, amount=500)
    other, _ = damage(clean, 2, amount=500)
    assert one == again != other
    assert bytes_one == bytes_again
    assert 0.3 < bytes_one / (len(clean.data) / 500) < 3
    assert len(one.data) == len(clean.data)
    assert any(not (a == b).all() for a, b in zip(frames_of(clean), frames_of(one), strict=True))
    untouched, none = damage(clean, 1, amount=2**31 - 1)
    assert none == 0
    assert all((a == b).all() for a, b in zip(frames_of(clean), frames_of(untouched), strict=True))


def test_what_the_decoder_makes_of_damage_is_always_the_same(clip: list[Pixels]) -> None:
    sent, _ = damage(encode_clip(clip), 3, amount=200)
    one, again = list(decode_clip(sent)), list(decode_clip(sent))
    assert [state for _, state in one] == [state for _, state in again]
    assert all((a == b).all() for (a, _), (b, _) in zip(one, again, strict=True))
    assert "damaged" in {state for _, state in one}


def test_a_frame_that_cannot_be_decoded_shows_the_last_one_that_could(clip: list[Pixels]) -> None:
    seen: set[str] = set()
    for amount in (2, 3, 5, 20, 60):
        shown = list(decode_clip(damage(encode_clip(clip), 1, amount=amount)[0]))
        assert len(shown) == len(clip)
        for (before, _), (now, state) in zip(shown, shown[1:], strict=False):
            seen.add(state)
            assert state != "repeated" or (before == now).all()
    assert "repeated" in seen


def test_frames_of_two_sizes_and_no_frame_at_all_are_refused(clip: list[Pixels]) -> None:
    with pytest.raises(DataError, match=r"a clip has frames of \(320, 225\) and of \(300, 225\) pixels"):
        encode_clip([clip[0], clip[1][:, :300]])
    with pytest.raises(DataError, match="without frames"):
        encode_clip([])
