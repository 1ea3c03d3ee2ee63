"""`Segment`: half a second of driving, seen from where it began, and how recorded drives are cut into them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

INTERVAL_S = 0.5
"""Seconds of a segment: the policy decides at 2 Hz."""
FASTEST_M = 40.0
"""Metres in one segment, 288 km/h: more is a gap in the record."""


@dataclass(frozen=True)
class Segment:
    """What moved, and with which pedals and wheel."""

    ahead: float
    """Metres along the heading of its beginning."""
    left: float
    """Metres across."""
    turned: float
    """Radians, counter-clockwise."""
    steer: float = 0.0
    """Mean share of the widest steering angle, -1 to 1, left positive."""
    throttle: float = 0.0
    """Mean share of the strongest acceleration, 0 to 1."""
    brake: float = 0.0
    """Mean share of the strongest braking, 0 to 1."""

    @property
    def fault(self) -> tuple[str, str] | None:
        """Why it cannot be used: the name it is counted under, and the words."""
        if not all(map(math.isfinite, astuple(self))):
            return "not_finite", f"it holds a number that is not finite: {astuple(self)}"
        if math.hypot(self.ahead, self.left) > FASTEST_M:
            return "gap", f"it is {math.hypot(self.ahead, self.left):.0f} m long"
        return None


def segment_between(
    before: Sequence[float], after: Sequence[float], steer: float = 0.0, throttle: float = 0.0, brake: float = 0.0
) -> Segment:
    """The motion from one pose (x, y, yaw; counter-clockwise from above) to another."""
    dx, dy, yaw = after[0] - before[0], after[1] - before[1], before[2]
    turned = math.atan2(math.sin(after[2] - yaw), math.cos(after[2] - yaw))
    ahead = dx * math.cos(yaw) + dy * math.sin(yaw)
    return Segment(ahead, dy * math.cos(yaw) - dx * math.sin(yaw), turned, steer, throttle, brake)


def cut(drives: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[list[Segment], dict[str, int]]:
    """The segments of recorded drives, each beginning where the one before it ends, and what was left out by reason.

    Args:
        drives: the rows of each: `time` (s), `x`, `y` (m), `yaw` (rad), and where known `steer`, `throttle`, `brake`.
    """
    found: list[Segment] = []
    left_out: Counter[str] = Counter()
    for rows in drives:
        if (rate := _rows_per_segment(rows)) is None:
            left_out["other_rate" if len(rows) > 1 else "one_point"] += 1
            continue
        for first in range(0, len(rows) - rate, rate):
            part = rows[first : first + rate + 1]
            gap = abs(part[-1]["time"] - part[0]["time"] - INTERVAL_S) > 0.02
            segment = _of_rows(part)
            if (fault := "gap" if gap else segment.fault and segment.fault[0]) is not None:
                left_out[fault] += 1
            else:
                found.append(segment)
        left_out["cut_off"] += bool((len(rows) - 1) % rate)
    return found, {reason: count for reason, count in left_out.items() if count}


def _rows_per_segment(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """How many rows make a segment; None where their rate makes no half second."""
    if len(rows) < 2:
        return None
    step = sorted(later["time"] - row["time"] for row, later in zip(rows, rows[1:], strict=False))[(len(rows) - 1) // 2]
    rate = round(INTERVAL_S / step) if step > 0 else 0
    return rate if rate and abs(rate * step - INTERVAL_S) < 0.02 else None


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> Segment:
    poses = [(row["x"], row["y"], row["yaw"]) for row in (rows[0], rows[-1])]
    driven = rows[1:]
    mean = [sum(float(row.get(name, 0.0)) for row in driven) / len(driven) for name in ("steer", "throttle", "brake")]
    return segment_between(poses[0], poses[1], *mean)
