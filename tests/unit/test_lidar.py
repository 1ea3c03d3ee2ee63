"""LiDAR sweeps: what is read, what is drawn where, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from data.errors import DataError
from data.lidar import (
    COLOURS,
    EGO_COLOUR,
    HIGHEST_M,
    LOWEST_M,
    RANGE_M,
    RESOLUTION_M,
    LidarError,
    draw_sweep,
    read_sweep,
    without_faulty_sweeps,
)
from data.load import LoadedData, with_checked_sweeps
from data.sample import LIDAR, DrivingSample
from data.split import Split
from evaluation.pages.gallery import thumbnails

LOW, HIGH = COLOURS[0][1], COLOURS[-1][1]


def points(*rows: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array([(*row, 10.0, 3.0) for row in rows], dtype=np.float32)


def write(path: Path, sweep: NDArray[np.float32]) -> Path:
    sweep.astype("<f4").tofile(path)
    return path


def lit(image: Image.Image) -> set[tuple[int, int]]:
    """Pixels that are neither black nor part of the ego marker, as (column, row)."""
    pixels = np.asarray(image)
    shown = (pixels != 0).any(axis=2) & (pixels != EGO_COLOUR).any(axis=2)
    return {(int(column), int(row)) for row, column in np.argwhere(shown)}


def colour_at(image: Image.Image, x: float, y: float) -> tuple[int, ...]:
    column, row = int((x + RANGE_M) / RESOLUTION_M), int((RANGE_M - y) / RESOLUTION_M)
    pixel = image.getpixel((column, row))
    assert isinstance(pixel, tuple)
    return pixel


def test_a_sweep_is_read_as_it_was_written(tmp_path: Path) -> None:
    sweep = points((1.5, -2.0, 0.25), (3.0, 4.0, -1.0))
    assert np.array_equal(read_sweep(write(tmp_path / "a.pcd.bin", sweep)), sweep)


def test_ahead_is_up_and_right_is_right() -> None:
    side = round(2 * RANGE_M / RESOLUTION_M)
    ((column, row),) = lit(draw_sweep(points((0.1, 40.1, 0.0))))
    assert (column, row) == (side // 2, round((RANGE_M - 40.2) / RESOLUTION_M))
    ((column, row),) = lit(draw_sweep(points((30.1, 0.1, 0.0))))
    assert column > side // 2
    assert row == side // 2 - 1


def test_height_gives_the_colour_and_the_highest_point_of_a_pixel_wins() -> None:
    low, high = (20.05, 20.05, LOWEST_M - 1), (20.05, 20.05, HIGHEST_M + 1)
    assert colour_at(draw_sweep(points(low)), 20.05, 20.05) == LOW
    assert colour_at(draw_sweep(points(high)), 20.05, 20.05) == HIGH
    assert colour_at(draw_sweep(points(high, low)), 20.05, 20.05) == HIGH


def test_points_beyond_the_range_are_left_out() -> None:
    assert lit(draw_sweep(points((RANGE_M + 0.1, 0, 0), (0, -RANGE_M - 0.1, 0), (-RANGE_M - 1, 0, 0)))) == set()


def test_the_ego_vehicle_is_in_the_middle_of_an_empty_image() -> None:
    white = np.argwhere((np.asarray(draw_sweep(points((99, 99, 0)))) == EGO_COLOUR).all(axis=2))
    middle = round(RANGE_M / RESOLUTION_M)
    assert white[:, 1].min() + white[:, 1].max() == pytest.approx(2 * middle, abs=1)
    assert middle - white[:, 0].min() > white[:, 0].max() - middle > 5, "the line ahead points up"


@settings(max_examples=20)
@given(
    rows=st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60), st.floats(-5, 5)), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_the_order_of_the_points_changes_nothing(rows: list[tuple[float, float, float]], seed: int) -> None:
    sweep = points(*rows)
    shuffled = sweep[np.random.default_rng(seed).permutation(len(sweep))]
    assert draw_sweep(sweep).tobytes() == draw_sweep(shuffled).tobytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has 0 bytes"),
        (b"x" * 41, "has 41 bytes; a nuScenes .pcd.bin holds 20 bytes for each point"),
        (np.full((2, 5), np.nan, dtype="<f4").tobytes(), "2 of 2 points at no finite position"),
    ],
)
def test_a_faulty_sweep_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.pcd.bin"
    path.write_bytes(content)
    with pytest.raises(LidarError, match=said) as caught:
        read_sweep(path)
    assert str(path) in str(caught.value)


def test_a_missing_sweep_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LidarError, match=r"gone\.pcd\.bin does not exist"):
        read_sweep(tmp_path / "gone.pcd.bin")


def test_a_sample_with_a_faulty_sweep_is_kept_without_it_and_listed(tmp_path: Path) -> None:
    good = write(tmp_path / "good.pcd.bin", points((1, 1, 1)))
    (tmp_path / "bad.pcd.bin").write_bytes(b"x")
    samples = [
        DrivingSample(name, "s", name, "planning", "open_ended", "Q?", "A.", {"CAM_FRONT": "/f.jpg"} | lidar)
        for name, lidar in (
            ("a", {LIDAR: str(good)}),
            ("b", {LIDAR: str(tmp_path / "bad.pcd.bin")}),
            ("c", {}),
        )
    ]
    kept, faults = without_faulty_sweeps(samples)
    assert faults == {"faulty_sweep": ["b"]}
    assert [sample.id for sample in kept] == ["a", "b", "c"]
    assert [LIDAR in sample.images for sample in kept] == [True, False, False]


def loaded(*images: dict[str, str]) -> LoadedData:
    samples = [
        DrivingSample(f"q{n}", f"s{n}", f"f{n}", "planning", "open_ended", "Q?", "A.", one)
        for n, one in enumerate(images)
    ]
    return LoadedData(Split(tuple(samples[:-1]), tuple(samples[-1:])), {"empty_answer": ["x"]}, ())


def test_a_run_that_shows_sweeps_lists_the_faulty_ones_and_goes_on(tmp_path: Path) -> None:
    good, bad = str(write(tmp_path / "good.pcd.bin", points((1, 1, 1)))), str(tmp_path / "bad.pcd.bin")
    checked = with_checked_sweeps(loaded({LIDAR: good}, {LIDAR: bad}, {LIDAR: bad}))
    assert checked.faults == {"empty_answer": ["x"], "faulty_sweep": ["q1", "q2"]}
    assert [sample.images for sample in (*checked.split.train, *checked.split.held_out)] == [{LIDAR: good}, {}, {}]


def test_a_run_that_shows_sweeps_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"policy\.lidar.* 2 samples"):
        with_checked_sweeps(loaded({}, {LIDAR: str(tmp_path / "gone.pcd.bin")}))


def test_a_report_shows_a_sweep_from_above(tmp_path: Path) -> None:
    good = write(tmp_path / "good.pcd.bin", points((1, 1, 1)))
    shown, broken = thumbnails({"CAM_FRONT": "/nowhere.jpg", LIDAR: str(good)}, {})[::-1]
    assert (shown.camera, shown.fault) == (LIDAR, None)
    assert broken.fault == "not found"
