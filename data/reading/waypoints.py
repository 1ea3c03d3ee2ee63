"""A planned trajectory read from an answer: as JSON, or as numbers in words."""

from __future__ import annotations

import json
import re

import numpy as np
from numpy.typing import NDArray

FARTHEST_M = 1e100
"""A coordinate this large is no place to drive to; squares of much larger ones overflow."""
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]*\w)")


def read_waypoints(answer: str, count: int) -> NDArray[np.float64] | None:
    """The points (count x 2) that an answer gives; None when it gives another number of points.

    None too when a coordinate is not finite, or not below `FARTHEST_M`.
    """
    try:
        tree = json.loads(answer)
        points = np.asarray(tree, dtype=np.float64)
    except (ValueError, TypeError, RecursionError, OverflowError):  # no JSON, or no rectangle of numbers
        numbers = [float(number) for number in _NUMBER.findall(answer)]
        points = np.asarray(numbers, dtype=np.float64).reshape(-1, 2) if len(numbers) % 2 == 0 else np.empty(0)
    usable = points.shape == (count, 2) and bool((np.abs(points) < FARTHEST_M).all())  # false of NaN
    return points if usable else None
