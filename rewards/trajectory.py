"""What a planned trajectory is worth: how near it stays to what was driven, whom it hits, how it feels to sit in it.

An answer gives six points (x, y) in metres, 2 Hz: as numbers, or as tokens of `reward.trajectory_bins`. One that gives
none is worth 0, with the part `unreadable_<reason>`. Each scorer rewards something that is not yet good driving:
docs/driving.md names what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from data.driving.world import overlap
from data.errors import DataError
from data.reading.waypoints import read_waypoints
from data.sample import DrivingSample
from data.tokens.bins import Bins
from data.tokens.seal import located
from data.tokens.words import Unreadable, has_tokens
from data.trajectory import FUTURE_STEPS, INTERVAL_S, with_yaw
from rewards.errors import RewardError
from rewards.score import Score

Points = Sequence[tuple[float, float]]

HALF_M = 1.5
"""Metres of mean error that halve the reward: about what the published models reach."""
EGO_LENGTH_M, EGO_WIDTH_M, EGO_SHIFT_M = 4.084, 1.85, 0.5
"""The ego vehicle's box, and how far its middle lies before the LiDAR, as in UniAD and ST-P3."""
ACCELERATION = (-4.05, 2.40)
"""m/s² along the way within which a ride is comfortable (Bench2Drive, after nuPlan)."""
SIDEWAYS = 4.89
"""m/s² across it."""


def ade(sample: DrivingSample, points: Points) -> Score:
    """Minus the average displacement, as 100 for none and half as much for every `HALF_M` metres."""
    assert sample.trajectory is not None
    driven = sample.trajectory.future[:FUTURE_STEPS]
    error = sum(math.dist(one, (x, y)) for one, (x, y, *_) in zip(points, driven, strict=True)) / FUTURE_STEPS
    return Score(100.0 * 0.5 ** (error / HALF_M), {"metres": error})


def collision(sample: DrivingSample, points: Points) -> Score:
    """100 where the ego box meets nobody at any point, 0 where it does; whom what was driven meets does not count."""
    assert sample.trajectory is not None
    others = sample.trajectory.others or ()
    driven = _meets([(x, y) for x, y, *_ in sample.trajectory.future[:FUTURE_STEPS]], others)
    met = [one and not already for one, already in zip(_meets(points, others), driven, strict=True)]
    return Score(0.0 if any(met) else 100.0, {"steps": float(sum(met))})


def comfort(sample: DrivingSample, points: Points) -> Score:
    """The share of the steps whose acceleration, along and across, is one to sit in."""
    speeds = [math.dist(a, b) / INTERVAL_S for a, b in zip([(0.0, 0.0), *points], points, strict=False)]
    yaws = [yaw for *_, yaw in with_yaw(points)]
    pleasant = []
    for step in range(1, len(speeds)):
        along = (speeds[step] - speeds[step - 1]) / INTERVAL_S
        turned = math.atan2(math.sin(yaws[step] - yaws[step - 1]), math.cos(yaws[step] - yaws[step - 1]))
        across = abs(speeds[step] * turned / INTERVAL_S)
        pleasant.append(ACCELERATION[0] <= along <= ACCELERATION[1] and across <= SIDEWAYS)
    return Score(100.0 * sum(pleasant) / len(pleasant))


SCORERS: dict[str, tuple[Callable[[DrivingSample, Points], Score], str]] = {
    "trajectory_ade": (ade, "a driven trajectory of 3 s at 2 Hz (for tokens also reward.trajectory_bins)"),
    "trajectory_collision": (collision, "a driven trajectory of 3 s at 2 Hz, with the boxes of who else was there"),
    "trajectory_comfort": (comfort, "a driven trajectory of 3 s at 2 Hz (for tokens also reward.trajectory_bins)"),
}
"""By name, with what each needs of a sample."""


def applies(name: str, sample: DrivingSample, bins: Bins | None) -> bool:
    """Whether a sample can be scored by one of them, with these bins."""
    given = sample.trajectory
    if given is None or len(given.future) < FUTURE_STEPS or given.interval_s != INTERVAL_S:
        return False
    if bins is None and has_tokens(sample.answer):
        return False
    return name != "trajectory_collision" or (given.others is not None and len(given.others) >= FUTURE_STEPS)


def scored(name: str, sample: DrivingSample, answer: str, bins: Bins | None) -> Score:
    """What one of them says of an answer."""
    points = read_plan(answer, bins)
    if isinstance(points, Unreadable):
        return Score(0.0, {f"unreadable_{points.reason}": 1.0})
    return SCORERS[name][0](sample, points)


def read_plan(answer: str, bins: Bins | None) -> Points | Unreadable:
    """The points of an answer, or why there are none."""
    if bins is not None and has_tokens(answer):
        return bins.decode(answer)
    found = read_waypoints(answer, FUTURE_STEPS)
    if found is None:
        return Unreadable("no_tokens", f"it holds no {FUTURE_STEPS} points: {answer[:60]!r}")
    return [(float(x), float(y)) for x, y in found]


@cache
def bins_of(file: str | None) -> Bins | None:
    """The bins that a recipe names.

    Raises:
        RewardError: the file is none of bins.
    """
    try:
        return None if file is None else Bins.read(located(file))
    except DataError as error:
        raise RewardError(f"reward.trajectory_bins: {error}") from None


def _meets(points: Points, others: Sequence[Sequence[Sequence[float]]]) -> list[bool]:
    """At which points the ego box overlaps somebody's."""
    found = []
    for (x, y, yaw), boxes in zip(with_yaw(points), others, strict=False):
        heading = yaw + math.pi / 2  # yaw 0 is straight ahead, which is y
        middle = (x + EGO_SHIFT_M * math.cos(heading), y + EGO_SHIFT_M * math.sin(heading))
        ego = (*middle, heading, EGO_LENGTH_M, EGO_WIDTH_M)
        found.append(any(overlap(ego, (box[0], box[1], box[2], box[3], box[4])) for box in boxes))
    return found
