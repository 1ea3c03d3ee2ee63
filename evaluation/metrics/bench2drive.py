"""Bench2Drive's four figures from the leaderboard's result JSON and the motion it logged. No torch, no ray.

Driving score and success rate divide by all 220 routes, so a missing route counts as a failure with score 0. Comfort is
given twice: as published, and mended. The official code bounds yaw rate and yaw acceleration in rad/s and rad/s² but
reads CARLA's angular velocity, which is in degrees, and takes the smoothed rate itself for the yaw acceleration.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from data.errors import DataError
from evaluation.metrics.predictions import DUPLICATE_ID, UNKNOWN_ID, refuse
from evaluation.metrics.result import SuiteResult

ROUTES = 220
PENALTIES: dict[str, float] = {
    "collisions_pedestrian": 0.5,
    "collisions_vehicle": 0.6,
    "collisions_layout": 0.65,
    "red_light": 0.7,
    "stop_infraction": 0.8,
    "scenario_timeouts": 0.7,
    "yield_emergency_vehicle_infractions": 0.7,
}
"""What one infraction of a kind multiplies the score by."""
OUTSIDE_LANES = "outside_route_lanes"
"""Each such event multiplies the score by 1 - p, p being the share of the route driven outside its lanes."""
MIN_SPEED = "min_speed_infractions"
"""Not an infraction: its messages say how fast the ego vehicle was, in percent of the traffic around it."""
MAX_EFFICIENCY = 1000.0
SUCCESSES = ("Completed", "Perfect")
SCORE_TOLERANCE = 0.5
"""Points of 100 by which a recorded score may differ from its infractions, whose messages are rounded."""

MISSING_ROUTE = "missing_route"
CRASHED_ROUTE = "crashed_route"
BROKEN_RECORD = "broken_record"
SCORE_DIFFERS = "score_differs"
NO_MOTION = "no_motion"
FASTER_THAN_COUNTED = "efficiency_dropped"

STEP_S = 0.1
SEGMENT_STEPS = 20
WINDOW, ORDER = 7, 2
BOUNDS: dict[str, tuple[float, float]] = {
    "lon_acceleration": (-4.05, 2.40),
    "lat_acceleration": (-4.89, 4.89),
    "jerk": (-8.37, 8.37),
    "lon_jerk": (-4.13, 4.13),
    "yaw_acceleration": (-1.93, 1.93),
    "yaw_rate": (-0.95, 0.95),
}
"""m/s², m/s³, rad/s² and rad/s; a segment is comfortable when every value lies strictly within."""

Floats = NDArray[np.float64]

_PERCENT = re.compile(r"\b(\d+(?:\.\d+)?)\s*%")
_CRASHES = ("crashed", "couldn't be set up", "sensors were invalid", "Started")


@dataclass(frozen=True, slots=True)
class Motion:
    """What a route's `metric_info.json` holds, steps x 3 each at 10 Hz: m/s², degrees/s, unit vectors."""

    acceleration: Floats
    angular_velocity: Floats
    forward: Floats
    right: Floats


@dataclass(frozen=True, slots=True)
class Bench2DriveResult(SuiteResult):
    """Bench2Drive's figures; `scored` counts the routes with a usable record."""

    routes: int
    driving_score: float
    """0-100: sum of the routes' scores over all routes."""
    success_rate: float
    """Percent of all routes."""
    efficiency: float | None
    """Percent: mean over routes of their mean speed record; None when no route has one."""
    comfort: float | None
    """Percent of comfortable segments, mean over routes, as published; None without motion."""
    comfort_mended: float | None
    """The same with the yaw rate in rad/s and its derivative as the yaw acceleration."""


def score(
    result: Mapping[str, Any],
    routes: Sequence[str] | None = None,
    *,
    strict: bool = False,
    motions: Mapping[str, Motion] | None = None,
    count: int = ROUTES,
) -> Bench2DriveResult:
    """Score a leaderboard result.

    A route recorded as crashed keeps the score that the leaderboard gave it and is no success. Of a route recorded
    twice the last record counts.

    Args:
        result: the result JSON (`_checkpoint` > `records`).
        routes: the ids of the routes; without them the missing ones are counted, not named.
        strict: refuse missing, crashed, broken and unknown routes.
        motions: motion by route id; without it comfort is None.
        count: how many routes the benchmark has, when `routes` is not given.

    Raises:
        DataError: the JSON is no leaderboard result, has no usable record or more routes than the benchmark, or, with
            `strict`, a route has a fault; the message names it.
    """
    faults: dict[str, list[str]] = {}
    records = _records(result, routes, faults)
    total = len(routes) if routes is not None else count
    if len(records) > total:
        raise DataError(f"the result holds {len(records)} routes, the benchmark has {total}; is this the right file?")
    usable = {id_: record for id_, record in records.items() if _is_usable(id_, record, faults)}
    unnamed = total - len(records)
    expected = list(routes) if routes is not None else [f"(unnamed, {unnamed} of {total} routes)"] * unnamed
    missing = [id_ for id_ in expected if id_ not in records]
    if missing:
        faults[MISSING_ROUTE] = missing
    if strict:
        fatal = (MISSING_ROUTE, CRASHED_ROUTE, BROKEN_RECORD, UNKNOWN_ID, DUPLICATE_ID, SCORE_DIFFERS)
        refuse({reason: faults.get(reason, []) for reason in fatal}, "the leaderboard's result")
    if not usable:
        raise DataError("the leaderboard's result holds no usable route; is this the right file?")
    efficiencies = [found for id_, record in usable.items() if (found := _efficiency(id_, record, faults)) is not None]
    comforts = _comforts(usable, motions, faults)
    return Bench2DriveResult(
        scored=len(usable),
        faults=faults,
        routes=total,
        driving_score=sum(record["scores"]["score_composed"] for record in usable.values()) / total,
        success_rate=100.0 * sum(map(is_success, usable.values())) / total,
        efficiency=statistics.fmean(efficiencies) if efficiencies else None,
        comfort=100.0 * statistics.fmean(one for one, _ in comforts) if comforts else None,
        comfort_mended=100.0 * statistics.fmean(other for _, other in comforts) if comforts else None,
    )


def is_success(record: Mapping[str, Any]) -> bool:
    """Whether a route was completed with no infraction; driving slowly is none."""
    clean = not any(events for kind, events in record["infractions"].items() if kind != MIN_SPEED)
    return record["status"] in SUCCESSES and clean


def composed_score(record: Mapping[str, Any]) -> float:
    """A route's score (0-100) from its completion and infractions: completion times every penalty.

    Raises:
        DataError: a message about lanes says no percentage.
    """
    value = float(record["scores"]["score_route"])
    for kind, penalty in PENALTIES.items():
        value *= penalty ** len(record["infractions"].get(kind, ()))
    for message in record["infractions"].get(OUTSIDE_LANES, ()):
        share = _PERCENT.search(message)
        if share is None:
            raise DataError(f"route {record.get('route_id')}: {OUTSIDE_LANES} says no percentage: {message!r}")
        value *= 1.0 - float(share[1]) / 100.0
    return max(0.0, value)


def read_motion(metric_info: Mapping[str, Any]) -> Motion:
    """The motion in a route's `metric_info.json`, steps in the order of the file.

    Raises:
        DataError: there are no steps, or a step lacks one of the four vectors, or a number in it is not finite.
    """
    names = ("acceleration", "angular_velocity", "forward_vector", "right_vector")
    try:
        columns = [np.array([step[name] for step in metric_info.values()], dtype=np.float64) for name in names]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"metric_info: every step needs {', '.join(names)} of three numbers ({error})") from None
    if not metric_info or any(column.shape != (len(metric_info), 3) for column in columns):
        raise DataError(f"metric_info: every step needs {', '.join(names)} of three numbers, and there must be steps")
    if not all(np.isfinite(column).all() for column in columns):
        raise DataError(f"metric_info: every step needs {', '.join(names)} of three finite numbers")
    return Motion(*columns)


def comfort(motion: Motion, *, mended: bool = False) -> float | None:
    """Share (0-1) of the segments of 20 steps that are comfortable; a shorter rest is not counted, a route that is no
    longer than one segment is one. None below 3 steps, which no filter of order 2 smooths.
    """
    steps = len(motion.acceleration)
    if steps <= ORDER:
        return None
    if steps <= SEGMENT_STEPS:
        return float(_is_comfortable(motion, slice(0, steps), mended))
    starts = range(0, steps - SEGMENT_STEPS + 1, SEGMENT_STEPS)
    return statistics.fmean(_is_comfortable(motion, slice(start, start + SEGMENT_STEPS), mended) for start in starts)


def motion_profiles(motion: Motion, part: slice, *, mended: bool) -> dict[str, Floats]:
    """The six quantities of `BOUNDS` over a part of a route, smoothed by Savitzky-Golay(7, 2)."""
    acceleration = motion.acceleration[part, :2]
    raw_rate = motion.angular_velocity[part, 2]
    yaw_rate: Floats = np.radians(raw_rate) if mended else np.unwrap(raw_rate).astype(np.float64)
    longitudinal = _smooth((acceleration * motion.forward[part, :2]).sum(axis=1))
    magnitude = _smooth(np.hypot(acceleration[:, 0], acceleration[:, 1]))
    return {
        "lon_acceleration": longitudinal,
        "lat_acceleration": _smooth((acceleration * motion.right[part, :2]).sum(axis=1)),
        "jerk": _smooth(magnitude, derivative=1),
        "lon_jerk": _smooth(longitudinal, derivative=1),
        "yaw_acceleration": _smooth(yaw_rate, derivative=1 if mended else 0),
        "yaw_rate": _smooth(yaw_rate),
    }


def _is_comfortable(motion: Motion, part: slice, mended: bool) -> bool:
    profiles = motion_profiles(motion, part, mended=mended)
    return all(low < values.min() and values.max() < high for (low, high), values in _bounded(profiles))


def _bounded(profiles: Mapping[str, Floats]) -> list[tuple[tuple[float, float], Floats]]:
    return [(BOUNDS[name], values) for name, values in profiles.items()]


def _smooth(values: Floats, derivative: int = 0) -> Floats:
    smoothed: Floats = savgol_filter(values, min(WINDOW, len(values)), ORDER, deriv=derivative, delta=STEP_S)
    return smoothed


def _records(
    result: Mapping[str, Any], routes: Sequence[str] | None, faults: dict[str, list[str]]
) -> dict[str, Mapping[str, Any]]:
    checkpoint = result.get("_checkpoint") if isinstance(result, Mapping) else None
    listed = checkpoint.get("records") if isinstance(checkpoint, Mapping) else None
    if not isinstance(listed, list):
        raise DataError("the leaderboard's result has no list _checkpoint.records; is this the right file?")
    records: dict[str, Mapping[str, Any]] = {}
    for number, record in enumerate(listed):
        id_ = record.get("route_id") if isinstance(record, Mapping) else None
        if not isinstance(id_, str):
            faults.setdefault(BROKEN_RECORD, []).append(f"_checkpoint.records[{number}]")
            continue
        if routes is not None and id_ not in routes:
            faults.setdefault(UNKNOWN_ID, []).append(id_)
            continue
        if id_ in records:
            faults.setdefault(DUPLICATE_ID, []).append(id_)
        records[id_] = record
    return records


def _is_usable(id_: str, record: Mapping[str, Any], faults: dict[str, list[str]]) -> bool:
    """Whether a record can be scored; notes crashes, broken records and scores that do not follow."""
    scores, infractions, status = record.get("scores"), record.get("infractions"), record.get("status")
    well_formed = (
        isinstance(status, str)
        and isinstance(infractions, Mapping)
        and all(
            isinstance(events, list) and all(isinstance(event, str) for event in events)
            for events in infractions.values()
        )
        and isinstance(scores, Mapping)
        and all(_is_points(scores.get(name)) for name in ("score_route", "score_composed"))
    )
    if not well_formed:
        faults.setdefault(BROKEN_RECORD, []).append(id_)
        return False
    if any(crash in str(status) for crash in _CRASHES):
        faults.setdefault(CRASHED_ROUTE, []).append(id_)
    try:
        differs = abs(composed_score(record) - record["scores"]["score_composed"]) > SCORE_TOLERANCE
    except DataError:
        differs = True
    if differs:
        faults.setdefault(SCORE_DIFFERS, []).append(id_)
    return True


def _is_points(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0.0 <= value <= 100.0  # false of NaN


def _efficiency(id_: str, record: Mapping[str, Any], faults: dict[str, list[str]]) -> float | None:
    """The mean of a route's speed records in percent, those over 1000 left out; None when there are none."""
    messages = record["infractions"].get(MIN_SPEED, [])
    found = [float(share[1]) for message in messages if (share := _PERCENT.search(message))]
    counted = [value for value in found if value <= MAX_EFFICIENCY]
    if messages and not counted:
        faults.setdefault(FASTER_THAN_COUNTED, []).append(id_)
    return statistics.fmean(counted) if counted else None


def _comforts(
    usable: Mapping[str, Mapping[str, Any]], motions: Mapping[str, Motion] | None, faults: dict[str, list[str]]
) -> list[tuple[float, float]]:
    """Comfort as published and mended, of every route with motion."""
    found: list[tuple[float, float]] = []
    for id_ in usable if motions is not None else ():
        motion = (motions or {}).get(id_)
        published = None if motion is None else comfort(motion)
        mended = None if motion is None else comfort(motion, mended=True)
        if published is None or mended is None:
            faults.setdefault(NO_MOTION, []).append(id_)
        else:
            found.append((published, mended))
    return found
