"""`evaluate.py open_loop`: displacement of planned trajectories from files, under both protocols. No torch, no ray.

The loader gives what was driven, not who else was there: collisions are not scored here, and said to be so.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.faults import Faults, first_note
from data.nuscenes import read_trajectories
from evaluation.file_scoring import add_predictions, predictions_of, print_result
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
    truths = {
        sample.frame_id: PlanningTruth(tuple((x, y) for x, y, _ in sample.trajectory.future), NOBODY)
        for sample in read_trajectories(options.answers, None, faults)
        if sample.trajectory is not None
    }
    if not truths:
        raise DataError(f"{options.answers} holds no frame with 2 s of past and 3 s of future{first_note(faults)}")
    predictions = predictions_of(options)
    result = score(predictions.texts, truths, strict=options.strict)
    both = (("UniAD", "at", result.uniad), ("VAD/ST-P3", "up to", result.vad_stp3))
    rows = []
    for name, word, of_protocol in both:
        rows += [
            (f"{name} L2 {word} {second} s (m)", fixed(value, 3))
            for second, value in enumerate(of_protocol.l2, start=1)
        ]
        rows += [(f"{name} L2 mean (m)", fixed(of_protocol.l2_mean, 3)), (f"{name} collisions", "no boxes")]
    changed = {"uniad": _displacement(result.uniad), "vad_stp3": _displacement(result.vad_stp3)}
    print_result(result, rows, predictions.faults, faults, **changed)
    return 0


def _displacement(of_protocol: ProtocolScore) -> dict[str, Any]:
    """A protocol's figures with null for what nobody's boxes can tell."""
    unknown = {"collision": None, "collision_mean": None, "excluded_steps": None}
    return asdict(of_protocol) | unknown
