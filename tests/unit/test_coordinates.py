from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.coordinates import coordinate_pairs, outside_image, without_coordinates
from rewards.coordinates import drivelm_match_f1, hybrid_coordinate_f1

POINT = st.tuples(st.integers(0, 1600), st.integers(0, 900)).map(lambda p: (p[0] / 2, p[1] / 2))
NEAR_POINT = st.tuples(st.integers(0, 40), st.integers(0, 3)).map(lambda p: (float(p[0]), float(p[1])))
POINTS = st.lists(POINT, max_size=8)


def tags(points: list[tuple[float, float]]) -> str:
    return ", ".join(f"<c{i},CAM_FRONT,{x},{y}>" for i, (x, y) in enumerate(points)) + "."


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("<c1,CAM_BACK,1088.3,497.5>", [(1088.3, 497.5)]),
        ("<c12,CAM_FRONT_LEFT, 10, 20 >", [(10, 20)]),
        ("[(traffic light, green, 674.86, 0.14, 723.33, 109.18), (sign, x, -0.5, 2, 3, 4)]",
         [(674.86, 0.14), (723.33, 109.18), (-0.5, 2), (3, 4)]),
        ("at 800.5, 450.25 and 12.5, 13.5", [(800.5, 450.25), (12.5, 13.5)]),
        ("(800, 450)", [(800, 450)]),
        ("[800, 450]", [(800, 450)]),
        ("<c1,CAM_BACK,1088.3> and 3 cars, 4 trucks", []),
        ("(2 cars, 3 trucks) in 30 m", []),
        ("There are 2, 3 or 4 cars.", []),
        ("<c1,CAM_BACK,1088.3,497.5", [(1088.3, 497.5)]),
        ("", []),
    ],
)  # fmt: skip
def test_pairs_are_read_from_tags_boxes_and_bare_decimals(text: str, pairs: list[tuple[float, float]]) -> None:
    assert coordinate_pairs(text) == pairs


@given(POINTS)
def test_every_tag_gives_its_point(points: list[tuple[float, float]]) -> None:
    assert coordinate_pairs(tags(points)) == points


@given(st.text(alphabet=st.sampled_from("<>()[],. c1AM_-0529\n")))
def test_reading_coordinates_takes_any_text(text: str) -> None:
    coordinate_pairs(text)
    without_coordinates(text)


def test_taking_coordinates_out_leaves_the_words() -> None:
    assert without_coordinates("<c2,CAM_BACK,864.2,468.3> is at the back.") == "is at the back."
    assert without_coordinates("They are [(traffic light, green, 1.5, 2.5, 3.5, 4.5)].") == (
        "They are [(traffic light, green)]."
    )


@pytest.mark.parametrize(
    ("pair", "outside"), [((0, 0), False), ((1600, 900), False), ((1600.1, 5), True), ((5, -1), True)]
)
def test_the_image_includes_its_border(pair: tuple[float, float], outside: bool) -> None:
    assert outside_image(pair) is outside


def test_a_point_is_measured_in_the_unit_it_is_written_in() -> None:
    assert not outside_image((1.0, 1.0), "fractions")
    assert outside_image((1.1, 0.5), "fractions")
    assert not outside_image((-12.5, 40.0), "metres")


# --- the hybrid reward ------------------------------------------------------------------------------------------------


@given(POINTS, POINTS)
def test_the_hybrid_f1_lies_in_0_and_100_and_is_100_on_the_truth(
    predicted: list[tuple[float, float]], true: list[tuple[float, float]]
) -> None:
    assert 0.0 <= hybrid_coordinate_f1(tags(predicted), tags(true)) <= 100.0
    assert hybrid_coordinate_f1(tags(true), tags(true)) == 100.0


@given(POINTS, POINTS, st.randoms(use_true_random=False))
def test_the_hybrid_f1_does_not_depend_on_the_order(
    predicted: list[tuple[float, float]], true: list[tuple[float, float]], rng: random.Random
) -> None:
    score = hybrid_coordinate_f1(tags(predicted), tags(true))
    assert hybrid_coordinate_f1(tags(rng.sample(predicted, len(predicted))), tags(true)) == score
    assert hybrid_coordinate_f1(tags(predicted), tags(rng.sample(true, len(true)))) == score


@given(st.lists(NEAR_POINT, max_size=5), st.lists(NEAR_POINT, max_size=5))
def test_the_hybrid_f1_matches_as_many_points_as_can_be(
    predicted: list[tuple[float, float]], true: list[tuple[float, float]]
) -> None:
    few, many = sorted((predicted, true), key=len)
    best = max(
        sum(abs(a - c) < 16 and abs(b - d) < 16 for (a, b), (c, d) in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )
    expected = 200 * best / (len(few) + len(many)) if many else 100.0
    assert hybrid_coordinate_f1(tags(predicted), tags(true)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "score"),
    [
        ([(115.9, 215.9)], 100.0),  # L1 distance 31.8: near in each coordinate
        ([(116.0, 200.0)], 0.0),  # strictly below 16
        ([(100.0, 216.0)], 0.0),
        ([(100.0, 200.0), (100.0, 200.0)], 200 / 3),  # one true point counts once
        ([], 0.0),
    ],
)
def test_the_hybrid_f1_wants_both_coordinates_within_16_pixels(
    predicted: list[tuple[float, float]], score: float
) -> None:
    assert hybrid_coordinate_f1(tags(predicted), tags([(100.0, 200.0)])) == pytest.approx(score)


def test_no_coordinates_where_there_are_none_is_right() -> None:
    assert hybrid_coordinate_f1("None.", "None.") == 100.0
    assert hybrid_coordinate_f1(tags([(1.0, 2.0)]), "None.") == 0.0


# --- the DriveLM challenge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "true", "score"),
    [
        ("100.0, 200.0", "107.9, 208.0", 100.0),  # L1 15.9
        ("100.0, 200.0", "108.0, 208.0", 0.0),  # L1 16 is not under 16
        ("100.0, 200.0, 300.0", "100.0, 200.0", 100.0),  # the odd number is dropped
        ("<c1,CAM_FRONT,100,200>", "100.0, 200.0", 0.0),  # whole numbers are not read
        ("100.0, 200.0, 100.0, 200.0", "100.0, 200.0", 200 / 3),  # a true point is used once
        ("None.", "None.", 0.0),
        ("", "100.0, 200.0", 0.0),
    ],
)
def test_the_drivelm_match_follows_the_official_rules(predicted: str, true: str, score: float) -> None:
    assert drivelm_match_f1(predicted, true) == pytest.approx(score)


def test_the_drivelm_match_takes_the_nearest_point_in_the_order_of_predictions() -> None:
    true = "100.0, 0.0 and 110.0, 0.0"
    assert drivelm_match_f1("104.0, 0.0 and 90.0, 0.0", true) == 50.0  # the first takes 100.0, none is near the second
    assert drivelm_match_f1("90.0, 0.0 and 104.0, 0.0", true) == 100.0


@given(POINTS, POINTS)
def test_the_drivelm_match_lies_in_0_and_100(
    predicted: list[tuple[float, float]], true: list[tuple[float, float]]
) -> None:
    assert 0.0 <= drivelm_match_f1(tags(predicted), tags(true)) <= 100.0
    assert drivelm_match_f1(tags(true), tags(true)) == (100.0 if true else 0.0)


def test_the_two_coordinate_scores_are_not_the_same() -> None:
    assert hybrid_coordinate_f1("110.0, 210.0", "100.0, 200.0") == 100.0
    assert drivelm_match_f1("110.0, 210.0", "100.0, 200.0") == 0.0
