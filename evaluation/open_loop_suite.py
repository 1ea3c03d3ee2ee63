"""`evaluate.py open_loop`: planned trajectories from files, under both protocols. No torch, no ray.

Collisions are scored where the files say who else was there; where they do not, these figures are null and the output
says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.faults import Faults, first_note
from data.nuscenes import read_trajectories
from data.nuscenes_tables import read_ego_tables
from data.road_users import read_road_users
from evaluation.file_scoring import Row, add_predictions, predictions_of, print_result
from evaluation.numbers import fixed
from evaluation.open_loop import STEPS, PlanningTruth, ProtocolScore, score

NOBODY: tuple[tuple[()], ...] = ((),) * STEPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, what="the key frame's token")
    parser.add_argument(
        "--answers", type=Path, required=True, help="folder of nuScenes' JSON tables, or a file of prepared waypoints"
    )


def run(options: argparse.Namespace) -> int:
    """Score; prints faults, a table and, last, one JSON object. The exit code.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults = Faults(options.strict)
    tables = read_ego_tables(options.answers, faults) if options.answers.is_dir() else None
    driven = {
        sample.frame_id: tuple((x, y) for x, y, _ in sample.trajectory.future)
        for sample in read_trajectories(options.answers, None, faults, tables)
        if sample.trajectory is not None
    }
    if not driven:
        raise DataError(f"{options.answers} holds no frame with 2 s of past and 3 s of future{first_note(faults)}")
    predictions = predictions_of(options)
    planned = driven.keys() & predictions.texts.keys()
    others = read_road_users(options.answers, planned, faults, tables)
    truths = {
        frame: PlanningTruth(path, others.by_frame.get(frame, NOBODY))
        for frame, path in driven.items()
        if others.unknown or frame in others.by_frame or frame not in planned
    }
    result = score(predictions.texts, truths, strict=options.strict)
    if others.unknown:
        print(f"no collisions: {others.unknown}")
    rows = [
        *_rows("UniAD", "at", result.uniad, others.unknown),
        *_rows("VAD/ST-P3", "up to", result.vad_stp3, others.unknown),
    ]
    changed: dict[str, Any] = {"collisions_unknown": others.unknown}
    if others.unknown:
        changed |= {"uniad": _displacement(result.uniad), "vad_stp3": _displacement(result.vad_stp3)}
    print_result(result, rows, predictions.faults, faults, **changed)
    return 0


def _rows(name: str, word: str, of_protocol: ProtocolScore, unknown: str | None) -> Iterator[Row]:
    for second, value in enumerate(of_protocol.l2, start=1):
        yield f"{name} L2 {word} {second} s (m)", fixed(value, 3)
    yield f"{name} L2 mean (m)", fixed(of_protocol.l2_mean, 3)
    if unknown:
        yield f"{name} collisions", "no boxes"
        return
    for second, value in enumerate(of_protocol.collision, start=1):
        yield f"{name} collisions {word} {second} s (%)", fixed(value, 3)
    yield f"{name} collisions mean (%)", fixed(of_protocol.collision_mean, 3)


def _displacement(of_protocol: ProtocolScore) -> dict[str, Any]:
    """A protocol's figures with null for what nobody's boxes can tell."""
    unknown = {"collision": None, "collision_mean": None, "excluded_steps": None}
    return asdict(of_protocol) | unknown
