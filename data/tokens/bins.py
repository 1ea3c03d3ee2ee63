"""`Bins`: waypoints as tokens. Each axis is cut into bins, once, by the trajectories of a training set (DriveRX-Agent).

Points are (x, y) in metres as `data.sample.Trajectory` has them: x to the right, y ahead, one every half second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.sample import Trajectory
from data.tokens.seal import digest, read_sealed, write_sealed
from data.tokens.words import Unreadable, read_pairs, x_word, y_word
from data.trajectory import FUTURE_STEPS, INTERVAL_S

Floats = NDArray[np.float64]
Spacing = Literal["uniform", "quantile"]
KIND = "trajectory bins"
FILE = "trajectory_bins.json"
"""Its name in a model's folder."""
BINS = 512
"""Of DriveRX-Agent."""
FASTEST_M = 40.0
"""Metres in half a second, 288 km/h: a longer step is a gap."""

Point = tuple[float, float]


def trajectory_fault(trajectory: Trajectory, points: int = FUTURE_STEPS) -> tuple[str, str] | None:
    """What is wrong with a trajectory that tokens are wanted of: the name it is counted under, and the words."""
    if trajectory.interval_s != INTERVAL_S:
        return "other_rate", f"its points are {trajectory.interval_s:g} s apart, not {INTERVAL_S:g}"
    if len(trajectory.future) < points:
        return "cut_off", f"it has {len(trajectory.future)} of {points} points"
    at = (0.0, 0.0)
    for number, (x, y, *_) in enumerate(trajectory.future[:points], start=1):
        if not (math.isfinite(x) and math.isfinite(y)):
            return "not_finite", f"its point {number} is ({x}, {y})"
        if math.dist(at, (x, y)) > FASTEST_M:
            return "gap", f"its point {number} is {math.dist(at, (x, y)):.0f} m from the one before"
        at = (x, y)
    return None


@dataclass(frozen=True)
class Bins:
    """The edges of the bins of both axes, in metres; a bin stands for its middle."""

    x: tuple[float, ...]
    """Ascending, one more than there are bins."""
    y: tuple[float, ...]
    spacing: Spacing
    points: int = FUTURE_STEPS
    """Points of a trajectory."""

    @property
    def count(self) -> int:
        """How many bins an axis has."""
        return len(self.x) - 1

    @property
    def hash(self) -> str:
        """What tells two of them apart."""
        return digest(self._content())

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens, those across before those ahead."""
        numbers = range(self.count)
        return (*map(x_word, numbers), *map(y_word, numbers))

    @classmethod
    def fit(
        cls, trajectories: Iterable[Trajectory], count: int = BINS, spacing: Spacing = "uniform"
    ) -> tuple[Bins, dict[str, int]]:
        """Bins for the trajectories of a training set, and how many of those were left out, by reason.

        Raises:
            DataError: none is usable, or all their points share an x or a y.
        """
        left_out: Counter[str] = Counter()
        points: list[Point] = []
        for trajectory in trajectories:
            if (fault := trajectory_fault(trajectory)) is not None:
                left_out[fault[0]] += 1
            else:
                points += [(x, y) for x, y, *_ in trajectory.future[:FUTURE_STEPS]]
        if len(set(points)) < 2:
            counted = ", ".join(f"{number} {reason}" for reason, number in left_out.items()) or "none was given"
            raise DataError(f"bins need two points that differ, and there are {len(set(points))} ({counted})")
        values = np.array(points)
        for axis, name in enumerate("xy"):
            if np.ptp(values[:, axis]) == 0:
                raise DataError(f"every point has {name}={values[0, axis]:g}: bins need trajectories that differ in it")
        edges = [_edges(values[:, axis], count, spacing) for axis in (0, 1)]
        return cls(edges[0], edges[1], spacing), dict(left_out)

    def encode(self, points: Sequence[Sequence[float]]) -> str:
        """The tokens of a trajectory; a point beyond the outermost bins is put into them.

        Raises:
            DataError: a point is not finite, or there are not as many as a trajectory has.
        """
        values = np.array([point[:2] for point in points], dtype=np.float64)
        if values.shape != (self.points, 2) or not np.isfinite(values).all():
            raise DataError(f"a trajectory of tokens has {self.points} finite points (x, y), got {len(points)}")
        x_T, y_T = _places(values[:, 0], self.x), _places(values[:, 1], self.y)
        return "".join(x_word(int(x)) + y_word(int(y)) for x, y in zip(x_T, y_T, strict=True))

    def decode(self, text: str) -> tuple[Point, ...] | Unreadable:
        """The points of an answer, in metres, or why there are none."""
        pairs = read_pairs(text, self.points, self.count)
        if isinstance(pairs, Unreadable):
            return pairs
        return tuple((_middle(self.x, x), _middle(self.y, y)) for x, y in pairs)

    def error_m(self, trajectories: Iterable[Trajectory]) -> float:
        """Mean distance in metres between the points of trajectories and what comes back of their tokens."""
        errors = list[float]()
        for trajectory in trajectories:
            if trajectory_fault(trajectory) is None:
                given = [(x, y) for x, y, *_ in trajectory.future[: self.points]]
                back = self.decode(self.encode(given))
                assert not isinstance(back, Unreadable)
                errors += [math.dist(one, other) for one, other in zip(given, back, strict=True)]
        if not errors:
            raise DataError("no trajectory is usable: there is no error to tell")
        return float(np.mean(errors))

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """Keep them; `about` says what they were fitted on."""
        write_sealed(path, KIND, self._content(), about)

    @classmethod
    def read(cls, path: Path) -> Bins:
        """Those of a file.

        Raises:
            DataError: as `read_sealed`, or the edges do not ascend.
        """
        content, _ = read_sealed(path, KIND)
        x, y = tuple(map(float, content["x"])), tuple(map(float, content["y"]))
        if len(x) != len(y) or len(x) < 2 or any(np.diff(edges).min() <= 0 for edges in (x, y)):
            raise DataError(f"{path}: the edges of its bins do not ascend, or are not as many for both axes")
        return cls(x, y, content["spacing"], int(content["points"]))

    def _content(self) -> dict[str, Any]:
        return {"x": list(self.x), "y": list(self.y), "spacing": self.spacing, "points": self.points}


def _edges(values: Floats, count: int, spacing: Spacing) -> tuple[float, ...]:
    if spacing == "uniform":
        edges = np.linspace(values.min(), values.max(), count + 1)
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
        while len(edges) <= count:  # many cars stand: the same value fills many bins, so the widest others are halved
            widest = int(np.argmax(np.diff(edges)))
            edges = np.insert(edges, widest + 1, (edges[widest] + edges[widest + 1]) / 2)
    return tuple(round(float(edge), 6) for edge in edges)


def _places(values: Floats, edges: tuple[float, ...]) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def _middle(edges: tuple[float, ...], place: int) -> float:
    return (edges[place] + edges[place + 1]) / 2
