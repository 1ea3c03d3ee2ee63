"""What the expert of a CARLA recording did at a frame, as an action token: the last question of DriveLM-CARLA's frames.

Beside each image `rgb/0012.jpg` lies `measurements/0012.json.gz`, as CARLA Garage and PDM-Lite write them four times a
second: `pos_global` (x, y), `theta` (yaw), `speed`, `target_point` (ahead, right), `steer`, `throttle`, `brake`. Its
axes are left-handed; here left is positive and angles are counter-clockwise. Tried on files made in this form; the
real ones were not to be had.
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

from data.driving.asking import drive_question
from data.faults import MALFORMED, Faults
from data.records import RecordError, expect, numbers
from data.tokens.codebook import Codebook
from data.tokens.segments import Segment, segment_between

FRAMES_APART = 2
"""Half a second."""
NO_MEASUREMENTS = "no_measurements"


def action_of(image: Path, book: Codebook, id_: str, faults: Faults) -> tuple[str, str] | None:
    """What is asked at a frame and the token of what was done; None where the drive ends or something is at fault."""
    here, later = (_file(image, number) for number in (0, FRAMES_APART))
    if not here.is_file():
        faults.drop(NO_MEASUREMENTS, id_, f"{here} does not exist: {image.name} has no action")
        return None
    if not later.is_file():
        return None  # the end of a drive: no fault of the data
    try:
        now, then = _read(here), _read(later)
        speed, target = _number(now, "speed", here), numbers(now.get("target_point"), f"{here}.target_point", 2)
        segment = _segment(now, then, here, later)
    except RecordError as error:
        faults.drop(MALFORMED, id_, str(error))
        return None
    if (fault := segment.fault) is not None:
        faults.drop(f"motion_{fault[0]}", id_, f"{here}: its motion {fault[1]}")
        return None
    return drive_question(speed, target[0], -target[1]), book.encode(segment)


def _segment(now: dict[str, Any], then: dict[str, Any], here: Path, later: Path) -> Segment:
    poses = []
    for record, place in ((now, here), (then, later)):
        x, y = numbers(record.get("pos_global"), f"{place}.pos_global", 2)
        poses.append((x, -y, -_number(record, "theta", place)))
    steer, throttle = (_number(now, name, here) for name in ("steer", "throttle"))
    brake = now.get("brake")
    pressed = float(brake) if isinstance(brake, bool | int | float) else math.nan
    return segment_between(poses[0], poses[1], -steer, throttle, pressed)


def _number(record: dict[str, Any], name: str, place: Path) -> float:
    (value,) = numbers([record.get(name)], f"{place}.{name}", 1)
    return value


def _file(image: Path, frames: int) -> Path:
    stem = image.stem
    number = f"{int(stem) + frames:0{len(stem)}d}" if stem.isdigit() else stem
    return image.parent.parent / "measurements" / f"{number}.json.gz"


def _read(file: Path) -> dict[str, Any]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as held:
            tree = json.load(held)
    except (OSError, ValueError, EOFError) as error:
        raise RecordError(f"{file} is no gzipped JSON ({error})") from None
    record: dict[str, Any] = expect(tree, dict, str(file))
    return record
