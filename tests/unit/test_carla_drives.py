"""DriveLM-CARLA's frames are also asked what to do, in action tokens of what the recording's expert did."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from data.faults import Faults
from data.formats.drivelm_carla import read_drivelm_carla
from data.sample import DrivingSample
from data.tokens.codebook import Codebook
from data.tokens.segments import Segment
from data.tokens.words import Unreadable
from tests.drawn import draw, written

ROUTE = "data/Accident/Route_1"


@pytest.fixture
def book() -> Codebook:
    return Codebook.fit([Segment(0.25 * n, 0.05 * k, 0.02 * k) for n in range(20) for k in range(-6, 7)], 200)[0]


def measured(folder: Path, frame: int, **changed: Any) -> None:
    """Driving at 6 m/s in CARLA's left-handed axes, turning to the right."""
    turned = 0.04 * frame
    tree = {
        "pos_global": [100.0 + 1.5 * frame, 50.0 + 0.02 * frame**2], "theta": turned, "speed": 6.0,
        "target_point": [12.0, 3.0], "steer": 0.2, "throttle": 0.5, "brake": False,
    } | changed  # fmt: skip
    file = folder / "images" / ROUTE / "measurements" / f"{frame:04d}.json.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt") as held:
        json.dump(tree, held)


def asked(folder: Path, book: Codebook, frames: int) -> tuple[list[DrivingSample], Faults]:
    entries = []
    for frame in range(frames):
        image = f"{ROUTE}/rgb/{frame:04d}.jpg"
        draw(folder / "images" / image)
        said = {"type": "planning", "value": "Brake?"}
        turns = [{**said, "from": "human"}, {**said, "from": "gpt", "value": "No."}]
        entries.append({"image": image, "conversations": {"a": turns}})
    faults = Faults()
    file = written(folder / "a.json", entries)
    return list(read_drivelm_carla(file, folder / "images", faults, book)), faults


def test_a_frame_is_asked_what_the_expert_did_in_the_words_of_the_agent(tmp_path: Path, book: Codebook) -> None:
    for frame in range(4):
        measured(tmp_path, frame)
    samples, faults = asked(tmp_path, book, 4)
    acts = [sample for sample in samples if sample.id.endswith("_act")]
    assert [sample.frame_id for sample in acts] == [f"Accident/Route_1/{frame:04d}" for frame in (0, 1)]
    assert len(samples) == 6, "the last half second has no motion, and is no fault"
    assert faults.as_dict() == {}
    assert acts[0].question == (
        "Speed 6.0 m/s. The next point of the route is 12.0 m ahead and 3.0 m to the right. What do you do?"
    )
    motion = book.decode(acts[0].answer)
    assert not isinstance(motion, Unreadable)
    assert motion.ahead == pytest.approx(3.0, abs=0.2)
    assert motion.left < 0.0
    assert motion.turned < 0.0


def test_recordings_that_cannot_be_used_are_counted_and_the_questions_stay(tmp_path: Path, book: Codebook) -> None:
    for frame in range(12):
        measured(tmp_path, frame)
    folder = tmp_path / "images" / ROUTE / "measurements"
    measured(tmp_path, 1, speed=None)
    measured(tmp_path, 4, pos_global=[9000.0, 0.0])
    measured(tmp_path, 7, brake=math.nan)
    (folder / "0009.json.gz").write_bytes(b"no gzip")
    (folder / "0000.json.gz").unlink()
    samples, faults = asked(tmp_path, book, 12)
    counted = {reason: len(ids) for reason, ids in faults.as_dict().items()}
    assert counted.pop("malformed_entry") >= 2
    assert counted["no_measurements"] == 1
    assert counted["motion_gap"] == 2
    assert sum(not sample.id.endswith("_act") for sample in samples) == 12
