"""Two coordinate scores that must not be mixed up: the hybrid reward's and the DriveLM challenge's. Pure text.

They differ in how numbers are read, in what is near enough and in how points are matched; each keeps its own name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.coordinates import Pair, coordinate_pairs

TOLERANCE_PX = 16.0

_DRIVELM_NUMBER = re.compile(r"\d+\.\d+")


def hybrid_coordinate_f1(text: str, truth: str) -> float:
    """The F1 (0-100) of coordinate pairs in the hybrid reward (AutoDriveRL, Appendix J).

    A predicted pair and a true pair can match when both coordinates differ by less than 16 px. As many as possible
    are matched one to one, so the order of the pairs does not matter. Pairs are read by `data.coordinates`; the
    camera in a tag is not compared. 100 when neither text holds a pair, 0 when only one does.
    """
    predicted, true = coordinate_pairs(text), coordinate_pairs(truth)
    if not predicted and not true:
        return 100.0
    return _f1(_matching_size(predicted, true), len(predicted), len(true))


def drivelm_match_f1(text: str, truth: str) -> float:
    """The F1 (0-100) of the DriveLM challenge's match score for one answer.

    Points are read and matched by `drivelm_match`. 0 when either text holds no point.
    """
    match = drivelm_match(text, truth)
    return _f1(len(match.hits), match.predicted, match.true)


@dataclass(frozen=True, slots=True)
class DriveLMMatch:
    """Which true points an answer hit, in the order of the answer, and how many points either text holds."""

    hits: tuple[Pair, ...]
    predicted: int
    true: int


def drivelm_match(text: str, truth: str) -> DriveLMMatch:
    """Match an answer's points with the true ones as the DriveLM challenge does.

    Each predicted point, in order, takes the nearest true point still free and hits when their L1 distance is under
    16 px.
    """
    predicted, free = drivelm_points(text), drivelm_points(truth)
    true_count, hits = len(free), []
    for point in predicted:
        if not free:
            break
        distances = [abs(point[0] - other[0]) + abs(point[1] - other[1]) for other in free]
        nearest = min(range(len(free)), key=distances.__getitem__)
        if distances[nearest] < TOLERANCE_PX:
            hits.append(free.pop(nearest))
    return DriveLMMatch(tuple(hits), len(predicted), true_count)


def drivelm_points(text: str) -> list[Pair]:
    """The points the DriveLM challenge reads: `\\d+\\.\\d+` anywhere, taken in twos, an odd last one dropped."""
    numbers = drivelm_numbers(text)
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def drivelm_numbers(text: str) -> list[float]:
    """The decimals in a text that the DriveLM challenge takes for coordinates."""
    return [float(number) for number in _DRIVELM_NUMBER.findall(text)]


def _f1(hits: int, predicted: int, true: int) -> float:
    """2PR/(P+R) in counts."""
    return 200.0 * hits / (predicted + true) if hits else 0.0


def _matching_size(predicted: list[Pair], true: list[Pair]) -> int:
    """The size of a largest one-to-one matching (augmenting paths): greedy matching would depend on the order."""
    near = [
        [j for j, (u, v) in enumerate(true) if abs(x - u) < TOLERANCE_PX and abs(y - v) < TOLERANCE_PX]
        for x, y in predicted
    ]
    taken_by: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j in near[i]:
            if j not in tried:
                tried.add(j)
                if j not in taken_by or place(taken_by[j], tried):
                    taken_by[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(predicted)))
