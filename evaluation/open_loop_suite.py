"""`evaluate.py open_loop`: displacement of planned trajectories, under both protocols. No torch, no ray.

The loader gives what was driven, not who else was there: collisions are not scored here, and said to be so.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.faults import Faults, first_note
from data.nuscenes import read_trajectories
from data.sample import DrivingSample
from evaluation import open_loop
from evaluation.file_scoring import (
    add_image_root,
    add_predictions,
    fault_counts,
    fault_notes,
    needed_image_root,
    predictions_of,
)
from evaluation.numbers import fixed
from evaluation.open_loop import STEPS, PlanningTruth, ProtocolScore
from evaluation.published import OPEN_LOOP, OTHER_JUDGE
from evaluation.suite import Judgements, Question, Scored, Table
from rewards.judge import JudgeRequest

NOBODY: tuple[tuple[()], ...] = ((),) * STEPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, what="the key frame's token")
    parser.add_argument(
        "--answers", type=Path, required=True, help="folder of nuScenes' JSON tables, or a file of prepared waypoints"
    )
    add_image_root(parser, "folder that holds samples/CAM_FRONT/...")


def questions(options: argparse.Namespace) -> list[Question]:
    """One question for each key frame with enough past and future.

    Raises:
        DataError: a file or the images cannot be used.
    """
    samples = read_trajectories(options.answers, needed_image_root(options), Faults(options.strict))
    return [Question(sample) for sample in samples]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """Nothing: trajectories are measured."""
    return {}


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Measure displacement.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults = Faults(options.strict)
    samples = list(read_trajectories(options.answers, None, faults))
    truths = _truths(samples)
    if not truths:
        raise DataError(f"{options.answers} holds no frame with 2 s of past and 3 s of future{first_note(faults)}")
    predictions = predictions_of(options)
    # A model is asked by sample, a file is written by key frame.
    frame_of = {sample.id: sample.frame_id for sample in samples}
    texts = {frame_of.get(id_, id_): text for id_, text in predictions.texts.items()}
    result = open_loop.score(texts, truths, strict=options.strict)
    both = (("UniAD", "at", result.uniad), ("VAD/ST-P3", "up to", result.vad_stp3))
    rows = []
    for name, word, of_protocol in both:
        rows += [
            (f"{name} L2 {word} {second} s (m)", fixed(value, 3))
            for second, value in enumerate(of_protocol.l2, start=1)
        ]
        rows += [(f"{name} L2 mean (m)", fixed(of_protocol.l2_mean, 3)), (f"{name} collisions", "no boxes")]
    horizons = ("L2 1 s (m)", "L2 2 s (m)", "L2 3 s (m)", "L2 mean (m)")
    return Scored(
        result=result,
        rows=tuple(rows),
        told=asdict(result) | {"uniad": _displacement(result.uniad), "vad_stp3": _displacement(result.vad_stp3)},
        figures={
            f"{key}/{name}": value
            for key, of_protocol in (("uniad", result.uniad), ("vad_stp3", result.vad_stp3))
            for name, value in zip(("l2_1s", "l2_2s", "l2_3s", "l2_mean"), _row(of_protocol), strict=True)
        },
        tables=(
            Table(
                "Displacement",
                horizons,
                tuple((f"this run, {name} ({word} the horizon)", _row(of)) for name, word, of in both),
                tuple((name, (None, None, None, figures[0])) for name, figures in OPEN_LOOP),
                f"{OTHER_JUDGE} The paper does not say under which of the two protocols its means were taken.",
            ),
        ),
        faults=fault_counts(result, faults, predictions.faults),
        notes=fault_notes(result, faults, predictions.faults),
    )


def _truths(samples: Iterable[DrivingSample]) -> dict[str, PlanningTruth]:
    """What was driven, by key frame."""
    return {
        sample.frame_id: PlanningTruth(tuple((x, y) for x, y, _ in sample.trajectory.future), NOBODY)
        for sample in samples
        if sample.trajectory is not None
    }


def _row(of_protocol: ProtocolScore) -> tuple[float, ...]:
    return (*of_protocol.l2, of_protocol.l2_mean)


def _displacement(of_protocol: ProtocolScore) -> dict[str, Any]:
    """A protocol's figures with null for what nobody's boxes can tell."""
    unknown = {"collision": None, "collision_mean": None, "excluded_steps": None}
    return asdict(of_protocol) | unknown
