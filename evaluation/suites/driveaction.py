"""`evaluate.py driveaction`: accuracy on every level of the tree that the files name. No torch, no ray."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.driveaction import Mode, read_driveaction
from data.sample import Task
from evaluation.metrics import driveaction
from evaluation.metrics.driveaction import MODES, ActionTruth, is_right
from evaluation.metrics.judging import Judgements
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import add_predictions, fault_counts, fault_notes, left_out, predictions_of
from evaluation.suites.published import DRIVEACTION, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Question, Scored, Table
from rewards.judge import JudgeRequest

LEVELS: dict[Task, str] = {"perception": "Vision", "planning": "Language", "behavior": "Action"}
"""The first level of the tree by the task that the loader tells, for a file whose columns do not say it."""
ACTION = "Action"

predictions = predictions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, what="slice_n")
    parser.add_argument("--answers", type=Path, required=True, help="a parquet file, or a folder of them")
    parser.add_argument("--mode", choices=MODES, help="what stands in the prompts (a model is asked in mode A)")
    parser.add_argument("--language", choices=("en", "cn"), default="en", help="the column content_en or content_cn")
    parser.add_argument("--image-root", type=Path, help="where images are unpacked (default: in the folder of --out)")


def questions(options: argparse.Namespace, faults: Faults) -> list[Question]:
    """Every question of the file; in the modes with context, the action questions with what leads to them.

    Raises:
        DataError: the file cannot be used.
    """
    root = options.image_root or options.out / "images"
    samples = read_driveaction(options.answers, root, faults, options.mode or "A", options.language)
    return [Question(sample) for sample in samples]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """Nothing: answers are read by rule."""
    return {}


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score by rule.

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
    asked: Mode | None = "A" if getattr(options, "model", None) else None  # of a file nobody knows it
    mode = options.mode or asked
    result = driveaction.score(predictions.texts, truths, strict=options.strict, mode=mode, left_out=left_out(faults))
    levels = [(f"{name} ({level.questions:,})", fixed(level.accuracy, 2)) for name, level in result.levels.items()]
    action = result.levels[ACTION].accuracy if ACTION in result.levels else None
    row = tuple(action if column == mode else None for column in MODES)
    return Scored(
        result=result,
        rows=(("accuracy", fixed(result.accuracy, 2)), ("unreadable", f"{result.unreadable:,}"), *levels),
        told=asdict(result),
        figures={"accuracy": result.accuracy}
        | {f"accuracy/{name}": level.accuracy for name, level in result.levels.items()},
        answers={
            id_: AnswerScore(100.0 * bool(is_right(text, truths[id_])))
            for id_, text in predictions.texts.items()
            if id_ in truths
        },
        tables=(Table("Accuracy on action questions (%)", MODES, (("this run", row),), DRIVEACTION, OTHER_JUDGE),),
        faults=fault_counts(result, faults, predictions.faults),
        notes=fault_notes(result, faults, predictions.faults),
    )
