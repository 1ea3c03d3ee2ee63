"""`evaluate.py driveaction`: accuracy on every level of the tree that the files name. No torch, no ray."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.driveaction import read_driveaction
from data.errors import DataError
from data.faults import Faults, first_note
from data.sample import Task
from evaluation.driveaction import MODES, ActionTruth, score
from evaluation.file_scoring import add_predictions, predictions_of, print_result
from evaluation.numbers import fixed

LEVELS: dict[Task, str] = {"perception": "Vision", "planning": "Language", "behavior": "Action"}
"""The first level of the tree by the task that the loader tells, for a file whose columns do not say it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, what="slice_n")
    parser.add_argument("--answers", type=Path, required=True, help="a parquet file, or a folder of them")
    parser.add_argument("--mode", choices=MODES, help="what stood in the prompts; kept with the result")
    parser.add_argument("--language", choices=("en", "cn"), default="en", help="the column content_en or content_cn")


def run(options: argparse.Namespace) -> int:
    """Score; prints faults, a table and, last, one JSON object. The exit code.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults, paths = Faults(options.strict), dict[str, tuple[str, ...]]()
    samples = read_driveaction(options.answers, None, faults, language=options.language, paths=paths)
    truths = {
        sample.id: ActionTruth(
            sample.answer, paths[sample.id] or (LEVELS.get(sample.task, sample.task),), sample.choices
        )
        for sample in samples
    }
    if not truths:
        raise DataError(f"{options.answers} holds no usable question{first_note(faults)}")
    predictions = predictions_of(options)
    result = score(predictions.texts, truths, strict=options.strict, mode=options.mode)
    rows = [("accuracy", fixed(result.accuracy, 2)), ("unreadable", f"{result.unreadable:,}")]
    rows += [(f"{name} ({level.questions:,})", fixed(level.accuracy, 2)) for name, level in result.levels.items()]
    print_result(result, rows, predictions.faults, faults)
    return 0
