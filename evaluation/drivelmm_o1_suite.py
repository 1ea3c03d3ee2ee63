"""`evaluate.py drivelmm_o1`: multiple-choice accuracy from files; the twelve marks need a judge. No torch, no ray."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.drivelmm_o1 import read_drivelmm_o1
from data.errors import DataError
from data.faults import Faults, first_note
from evaluation.drivelmm_o1 import METRICS, ReasoningTruth, score
from evaluation.file_scoring import add_predictions, predictions_of, print_result
from evaluation.numbers import fixed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, id_key="idx")
    parser.add_argument("--answers", type=Path, required=True, help="DriveLMM-o1's test file")


def run(options: argparse.Namespace) -> int:
    """Score; prints faults, a table and, last, one JSON object. The exit code.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults = Faults(options.strict)
    samples = read_drivelmm_o1(options.answers, None, faults)
    truths = {sample.id: ReasoningTruth(sample.question, sample.reasoning, sample.answer) for sample in samples}
    if not truths:
        raise DataError(f"{options.answers} holds no usable question{first_note(faults)}")
    predictions = predictions_of(options)
    result = score(predictions.texts, truths, strict=options.strict)
    rows = [
        ("multiple choice: questions", f"{result.choices:,}"),
        ("multiple choice: unreadable", f"{result.unreadable:,}"),
        ("multiple choice: accuracy", fixed(result.mcq_accuracy, 2)),
        *((name, "no judge") for name in METRICS.values()),
        ("reasoning score", "no judge"),
    ]
    print_result(result, rows, predictions.faults, faults)
    return 0
