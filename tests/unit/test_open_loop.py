from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.formats.road_users import FutureBox
from evaluation.metrics.open_loop import (
    PROTOCOLS,
    PlanningTruth,
    collisions,
    parse_trajectory,
    rasterise,
    score,
)

AHEAD = tuple((0.0, 2.0 * step) for step in range(1, 7))
"""4 m/s straight on."""
NOBODY: tuple[tuple[FutureBox, ...], ...] = ((),) * 6


def at(x: float, y: float, category: str = "vehicle.car", yaw: float = math.pi / 2) -> FutureBox:
    return FutureBox(category, x, y, yaw, 4.0, 2.0)


def shifted(by: list[float]) -> str:
    return json.dumps([[x + offset, y] for (x, y), offset in zip(AHEAD, by, strict=True)])


def test_displacement_is_at_the_horizon_for_uniad_and_up_to_it_for_vad() -> None:
    result = score({"f": shifted([1, 2, 3, 4, 5, 6])}, {"f": PlanningTruth(AHEAD, NOBODY)}, strict=True)
    assert result.uniad.l2 == pytest.approx((2, 4, 6))
    assert result.uniad.l2_mean == pytest.approx(4)
    assert result.vad_stp3.l2 == pytest.approx((1.5, 2.5, 3.5))  # means of 1-2, 1-4, 1-6
    assert result.vad_stp3.l2_mean == pytest.approx(2.5)
    assert {result.uniad.collision, result.vad_stp3.collision} == {(0.0, 0.0, 0.0)}


def test_displacement_is_averaged_over_frames() -> None:
    truth = PlanningTruth(AHEAD, NOBODY)
    result = score({"f": shifted([0] * 6), "g": shifted([3] * 6)}, {"f": truth, "g": truth})
    assert result.uniad.l2 == pytest.approx((1.5, 1.5, 1.5))


def test_a_collision_counts_at_its_step_for_uniad_and_in_the_mean_for_vad() -> None:
    boxes = tuple((at(6.0, 8.0),) if step == 4 else () for step in range(1, 7))  # beside the road at 2 s
    plan = json.dumps([(6.0 if step == 4 else 0.0, y) for step, (_, y) in enumerate(AHEAD, start=1)])
    result = score({"f": plan}, {"f": PlanningTruth(AHEAD, boxes)})
    assert result.uniad.collision == (0.0, 100.0, 0.0)
    assert result.uniad.collision_mean == pytest.approx(100 / 3)
    assert result.vad_stp3.collision == pytest.approx((0, 25, 100 / 6))
    assert result.uniad.excluded_steps == 0


def test_only_vad_counts_pedestrians() -> None:
    boxes = ((at(0.0, 2.0, "human.pedestrian.adult"),), *NOBODY[1:])
    elsewhere = tuple((20.0, y) for _, y in AHEAD)
    result = score({"f": json.dumps(AHEAD)}, {"f": PlanningTruth(elsewhere, boxes)})
    assert result.uniad.collision == (0.0, 0.0, 0.0)
    assert result.vad_stp3.collision == pytest.approx((50, 25, 100 / 6))


def test_a_step_at_which_the_driven_path_collides_cannot_count() -> None:
    boxes = tuple((at(0.0, y),) for _, y in AHEAD)  # a box on the driven path at every step
    result = score({"f": json.dumps(AHEAD)}, {"f": PlanningTruth(AHEAD, boxes)})
    assert {result.uniad.collision, result.vad_stp3.collision} == {(0.0, 0.0, 0.0)}
    assert result.uniad.excluded_steps == 6


def test_a_box_covers_the_cells_between_its_rounded_corners() -> None:
    # Along y: 8 to 12 m are rows 116 to 124; across: -1 to 1 m are columns 98 to 102, both ends filled.
    cells = rasterise([at(0.0, 10.0)], ("vehicle",))
    rows, columns = np.nonzero(cells)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (116, 124, 98, 102)
    assert cells.sum() == 9 * 5


def one_cell(row: int, column: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    cells = np.zeros((1, 200, 200), dtype=np.bool_)
    cells[0, row, column] = True
    return cells


def test_the_ego_box_covers_8_by_4_cells_shifted_half_a_metre_forward() -> None:
    """Length -1.542 to 2.542 m and width -0.925 to 0.925 m, in cells whose centres lie at -49.75 + 0.5 k."""
    origin = np.zeros((1, 2))
    for protocol in PROTOCOLS:
        hit = {
            (row, column)
            for row in range(90, 112)
            for column in range(92, 108)
            if collisions(origin, one_cell(row, column), protocol).any()
        }
        assert hit == {(row, column) for row in range(97, 105) for column in range(98, 102)}


def test_a_fraction_of_a_cell_is_cut_off_backward_by_uniad_and_forward_by_vad() -> None:
    moved = np.array([[0.0, 0.2]])  # 0.4 of a cell
    assert collisions(moved, one_cell(97, 99), "uniad")[0]
    assert not collisions(moved, one_cell(105, 99), "uniad")[0]
    assert not collisions(moved, one_cell(97, 99), "vad_stp3")[0]
    assert collisions(moved, one_cell(105, 99), "vad_stp3")[0]


def test_a_trajectory_beyond_the_raster_is_held_at_its_edge() -> None:
    assert collisions(np.array([[0.0, 300.0]]), one_cell(199, 99), "uniad")[0]


@pytest.mark.parametrize(
    "text",
    [
        "[[0, 1], [0, 2], [0, 3], [0, 4], [0.5, 5], [-1, 6]]",
        "Trajectory: (0, 1), (0, 2), (0, 3), (0, 4), (0.5, 5), (-1, 6).",
        "<think>(9, 9)</think><answer>(0.0,1.0) (0,2) (0,3) (0,4) (5e-1,5) (-1,6)</answer>",
    ],
)
def test_a_trajectory_is_read_as_json_or_from_words(text: str) -> None:
    points = parse_trajectory(text)
    assert points is not None
    assert points.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [0.5, 5], [-1, 6]]


@pytest.mark.parametrize("text", ["", "go straight", "[[0, 1]]", "(0, 1), (2, 3", "[[0, 1], [0]]", "[[NaN, 1]]", "{}"])
def test_what_is_no_trajectory_of_six_points_is_none(text: str) -> None:
    assert parse_trajectory(text) is None


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, json.dumps([[10**400, 0]] * 6), json.dumps([[1e200, 0]] * 6), "(1e200, 0) " * 6],
    ids=["nesting", "integer", "numbers whose squares overflow", "in words"],
)
def test_an_output_beyond_all_bounds_is_unreadable_and_the_others_are_scored(text: str) -> None:
    truth = PlanningTruth(AHEAD, NOBODY)
    result = score({"f": json.dumps(AHEAD), "g": text}, {"f": truth, "g": truth})
    assert (result.scored, result.uniad.l2_mean) == (1, 0.0)
    assert result.faults == {"unreadable_trajectory": ["g"]}


@given(st.text(alphabet="()[]0123456789.,- e{}x\n"))
def test_any_text_can_be_read(text: str) -> None:
    points = parse_trajectory(text)
    assert points is None or points.shape == (6, 2)


def test_unreadable_outputs_and_incomplete_truths_are_left_out_and_listed() -> None:
    whole, short = PlanningTruth(AHEAD, NOBODY), PlanningTruth(AHEAD[:3], NOBODY)
    predictions = {"f": json.dumps(AHEAD), "g": "straight on", "h": json.dumps(AHEAD)}
    result = score(predictions, {"f": whole, "g": whole, "h": short})
    assert result.scored == 1
    assert result.faults == {"unreadable_trajectory": ["g"], "incomplete_truth": ["h"]}
    with pytest.raises(DataError, match="1 unreadable_trajectory; first: g"):
        score(predictions, {"f": whole, "g": whole, "h": short}, strict=True)
    with pytest.raises(DataError, match="no frame can be scored"):
        score({"g": "straight on"}, {"g": whole})
