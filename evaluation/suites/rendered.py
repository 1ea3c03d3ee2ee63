"""`evaluate.py rendered`: scenes drawn here, with exact ground truth, for a first look. No torch, no ray."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import DataError
from data.faults import Faults
from data.rendered.samples import FORMAT, rendered_samples
from data.sample import DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.suites.file_scoring import add_predictions, predictions_of
from evaluation.suites.suite import Question, Scored
from evaluation.suites.task_scores import rubric_requests, score_by_task
from rewards.judge import JudgeRequest

UNSEEN_SEED = 1_000_003
"""Far from any seed that a recipe draws its training scenes with."""

predictions = predictions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser)
    parser.add_argument("--scenes", type=int, default=40, help="how many scenes are drawn (default: 40)")
    parser.add_argument(
        "--scene-seed", type=int, default=UNSEEN_SEED, help="seed of the scenes (default: one that no recipe trains on)"
    )
    parser.add_argument("--cache", type=Path, help="folder the scenes are kept in (default: that of all runs)")


def questions(options: argparse.Namespace, faults: Faults) -> list[Question]:
    """Seven questions about each scene.

    Raises:
        DataError: no scene is asked for.
    """
    return [Question(sample) for sample in _samples(options).values()]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """Every answer."""
    return rubric_requests(_samples(options), predictions_of(options).texts)


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score task by task.

    Raises:
        DataError: the predictions cannot be used.
    """
    found = predictions_of(options)
    return score_by_task("Rendered scenes", _samples(options), found, Faults(), judgements, strict=options.strict)


def _samples(options: argparse.Namespace) -> dict[str, DrivingSample]:
    if options.scenes < 1:
        raise DataError(f"--scenes must be at least 1, got {options.scenes}")
    folder = (options.cache or Path("runs")) / f"rendered-{options.scenes}-{options.scene_seed}-v{FORMAT}"
    return {sample.id: sample for sample in rendered_samples(folder, options.scenes, options.scene_seed)}
