"""`evaluate.py drivelm_hard`: DriveLM-Hard, or any driving samples (JSONL), judged by task. No torch, no ray.

The rubrics are AutoDriveRL's; `prepare_data.py build` makes the set and reads the scores back as difficulty.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import DataError
from data.faults import Faults, first_note
from data.jsonl import read_jsonl
from data.sample import DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.suites.file_scoring import add_image_root, add_predictions, predictions_of
from evaluation.suites.published import DRIVELM_HARD
from evaluation.suites.suite import Question, Scored
from evaluation.suites.task_scores import rubric_requests, score_by_task
from rewards.judge import JudgeRequest

predictions = predictions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser)
    parser.add_argument("--answers", type=Path, required=True, help="JSONL of samples (docs/data.md)")
    add_image_root(parser, "folder of the images, where it is not the file's own")


def questions(options: argparse.Namespace, faults: Faults) -> list[Question]:
    """Every sample of the file, in its order.

    Raises:
        DataError: the file or the images cannot be used.
    """
    return [Question(sample) for sample in _samples(options, faults, to_show=True).values()]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """Every answer.

    Raises:
        DataError: as `score`.
    """
    return rubric_requests(_samples(options, Faults()), predictions_of(options).texts)


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score task by task.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults = Faults(options.strict)
    samples = _samples(options, faults)
    found = predictions_of(options)
    return score_by_task("DriveLM-Hard", samples, found, faults, judgements, DRIVELM_HARD, strict=options.strict)


def _samples(options: argparse.Namespace, faults: Faults, *, to_show: bool = False) -> dict[str, DrivingSample]:
    """The samples by id; their images need be there only to be shown."""
    read = read_jsonl(options.answers, faults, options.image_root, check_images=to_show)
    samples = {sample.id: sample for sample in read}
    if not samples:
        raise DataError(f"{options.answers} holds no usable sample{first_note(faults)}")
    return samples
