"""Open-loop planning on nuScenes: displacement and collisions under two protocols that must not be mixed. No torch.

UniAD takes the error *at* 1, 2 and 3 s and collisions with vehicles; VAD (after ST-P3) takes means *up to* 1, 2 and 3 s
and collisions with vehicles and pedestrians. DriveLM and DriveRX-Agent report the mean over the three horizons, which
each protocol gives as `..._mean`; they do not say under which of the two.

Trajectories are metres in the LiDAR frame of the present (x right, y forward), 2 Hz, six steps. The raster has 200x200
cells of 0.5 m, row 0 at y = -50 m and column 0 at x = -50 m. The ego box keeps its heading of the present, as in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.formats.road_users import FutureBox, FutureBoxes
from data.reading.waypoints import read_waypoints
from evaluation.metrics.predictions import match, refuse
from evaluation.metrics.result import SuiteResult
from rewards.answer import answer_part

Protocol = Literal["uniad", "vad_stp3"]
PROTOCOLS: tuple[Protocol, ...] = ("uniad", "vad_stp3")
COLLIDES_WITH: dict[Protocol, tuple[str, ...]] = {"uniad": ("vehicle",), "vad_stp3": ("vehicle", "human")}
"""Beginnings of nuScenes' category names."""

STEPS = 6
STEPS_PER_SECOND = 2
CELLS = 200
CELL_M = 0.5
EDGE_M = 50.0
EGO_WIDTH_M, EGO_LENGTH_M, EGO_SHIFT_M = 1.85, 4.084, 0.5

UNREADABLE = "unreadable_trajectory"
INCOMPLETE_TRUTH = "incomplete_truth"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PlanningTruth:
    """What was driven, and who was where, at each of the six steps; a frame near a scene's end has fewer."""

    trajectory: tuple[tuple[float, float], ...]
    boxes: FutureBoxes


@dataclass(frozen=True, slots=True)
class ProtocolScore:
    """Displacement (metres) and collision rate (percent) for the horizons of 1, 2 and 3 s, and their means."""

    l2: tuple[float, float, float]
    l2_mean: float
    collision: tuple[float, float, float]
    collision_mean: float
    excluded_steps: int
    """Steps at which the driven trajectory itself collides: they cannot count as a collision, as in both protocols."""


@dataclass(frozen=True, slots=True)
class OpenLoopResult(SuiteResult):
    """The figures of both protocols on the same frames."""

    uniad: ProtocolScore
    vad_stp3: ProtocolScore


def parse_trajectory(text: str) -> Floats | None:
    """The six points (6 x 2) that an output gives, as JSON or as numbers in words; None when there are not six.

    None too when a coordinate is not finite, or too large to drive to.
    """
    return read_waypoints(answer_part(text), STEPS)


def rasterise(boxes: Sequence[FutureBox], categories: tuple[str, ...]) -> Flags:
    """The cells (200 x 200) that boxes of these categories cover: corners rounded to cells, then filled, as in both."""
    cells = np.zeros((CELLS, CELLS), dtype=np.uint8)
    for box in boxes:
        if box.category.startswith(categories):
            along = np.array([1, -1, -1, 1]) * box.length / 2
            across = np.array([1, 1, -1, -1]) * box.width / 2
            x = box.x + along * math.cos(box.yaw) - across * math.sin(box.yaw)
            y = box.y + along * math.sin(box.yaw) + across * math.cos(box.yaw)
            corners = np.round((np.stack([x, y], axis=-1) + EDGE_M) / CELL_M).astype(np.int32)
            cv2.fillPoly(cells, [corners], (1,))
    return cells.astype(np.bool_)


def collisions(trajectory: Floats, occupied: Flags, protocol: Protocol) -> Flags:
    """At which steps the ego box touches an occupied cell.

    Args:
        trajectory: 6 x 2.
        occupied: 6 x 200 x 200.
        protocol: both move the box's cells by the trajectory and cut the fraction of a cell off; UniAD's rows count
            forward and VAD's backward, so that the one cuts towards the back and the other towards the front.
    """
    rows, columns = _ego_cells()
    forward, right = trajectory[:, 1, None] / CELL_M + rows, trajectory[:, 0, None] / CELL_M + columns
    row = np.floor(forward) if protocol == "uniad" else np.ceil(forward)
    row_index = np.clip(row, 0, CELLS - 1).astype(int)
    column_index = np.clip(np.trunc(right), 0, CELLS - 1).astype(int)
    steps = np.arange(len(trajectory))[:, None]
    touched: Flags = occupied[steps, row_index, column_index].any(axis=1)
    return touched


def score(
    predictions: Mapping[str, str],
    answers: Mapping[str, PlanningTruth],
    *,
    strict: bool = False,
    left_out: Iterable[str] = (),
) -> OpenLoopResult:
    """Score planned trajectories.

    A frame without a full 3 s of truth is left out, as VAD does; UniAD's own code counts its missing steps as driven
    without error, which lowers the figures.

    Args:
        predictions: output by frame id; `parse_trajectory` reads it.
        answers: truth by frame id.
        strict: refuse missing, unknown and unreadable outputs; else they are listed and left out.
        left_out: ids of the frames whose truth cannot be used; an output for one is passed over.

    Raises:
        DataError: no frame can be scored, or, with `strict`, any fault but an incomplete truth.
    """
    matched = match(predictions, answers, strict=strict, left_out=left_out)
    faults = dict(matched.faults)
    planned: list[Floats] = []
    truths: list[PlanningTruth] = []
    for id_ in matched.ids:
        truth = answers[id_]
        points = parse_trajectory(predictions[id_])
        if len(truth.trajectory) < STEPS or len(truth.boxes) < STEPS:
            faults.setdefault(INCOMPLETE_TRUTH, []).append(id_)
        elif points is None:
            faults.setdefault(UNREADABLE, []).append(id_)
        else:
            planned.append(points)
            truths.append(truth)
    if strict:
        refuse({UNREADABLE: faults.get(UNREADABLE, [])}, "the predictions")
    if not planned:
        counted = ", ".join(f"{len(ids)} {reason}" for reason, ids in faults.items())
        raise DataError(f"no frame can be scored ({counted}); an output must hold six points x, y in metres")
    uniad, vad = (_protocol_score(protocol, planned, truths) for protocol in PROTOCOLS)
    return OpenLoopResult(scored=len(planned), faults=faults, uniad=uniad, vad_stp3=vad)


def _ego_cells() -> tuple[Floats, Floats]:
    """Row and column of the cells whose centres lie in the ego box at the origin (8 x 4 of them)."""
    centre = (EDGE_M - CELL_M / 2) / CELL_M
    rows = _whole_between(EGO_SHIFT_M - EGO_LENGTH_M / 2, EGO_SHIFT_M + EGO_LENGTH_M / 2, centre)
    columns = _whole_between(-EGO_WIDTH_M / 2, EGO_WIDTH_M / 2, centre)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


def _whole_between(low_m: float, high_m: float, centre: float) -> Floats:
    return np.arange(math.ceil(low_m / CELL_M + centre), math.floor(high_m / CELL_M + centre) + 1, dtype=np.float64)


def _protocol_score(protocol: Protocol, planned: Sequence[Floats], truths: Sequence[PlanningTruth]) -> ProtocolScore:
    distance: Floats = np.zeros((len(planned), STEPS))
    hit = np.zeros((len(planned), STEPS), dtype=np.bool_)
    excluded = 0
    for frame, (points, truth) in enumerate(zip(planned, truths, strict=True)):
        driven = np.asarray(truth.trajectory[:STEPS], dtype=np.float64)
        occupied = np.stack([rasterise(boxes, COLLIDES_WITH[protocol]) for boxes in truth.boxes[:STEPS]])
        driven_hits = collisions(driven, occupied, protocol)
        excluded += int(driven_hits.sum())
        distance[frame] = np.linalg.norm(points - driven, axis=1)
        hit[frame] = collisions(points, occupied, protocol) & ~driven_hits
    l2, collision = _at_horizons(distance, protocol), _at_horizons(hit * np.float64(100), protocol)
    return ProtocolScore(l2, sum(l2) / 3, collision, sum(collision) / 3, excluded)


def _at_horizons(values: Floats, protocol: Protocol) -> tuple[float, float, float]:
    """Mean over frames of a quantity per step: at 1, 2, 3 s for UniAD, its mean up to them for VAD."""
    by_step = values.mean(axis=0)
    ends = [second * STEPS_PER_SECOND for second in (1, 2, 3)]
    one, two, three = (float(by_step[end - 1] if protocol == "uniad" else by_step[:end].mean()) for end in ends)
    return one, two, three
