"""`evaluate.py drivelmm_o1`: accuracy on multiple choice, twelve marks on the reasoning. No torch, no ray."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.drivelmm_o1 import read_drivelmm_o1
from evaluation.metrics import drivelmm_o1
from evaluation.metrics.drivelmm_o1 import METRICS, OVERALL, ReasoningTruth, choice_verdict, reasoning_request
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import (
    add_image_root,
    add_predictions,
    fault_counts,
    fault_notes,
    left_out,
    needed_image_root,
    predictions_of,
)
from evaluation.suites.published import DRIVELMM_O1, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Question, Scored, Table
from rewards.judge import Judgement, JudgeRequest

predictions = predictions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser, id_key="idx")
    parser.add_argument("--answers", type=Path, required=True, help="DriveLMM-o1's test file")
    add_image_root(parser, "folder that holds samples/CAM_FRONT/...")


def questions(options: argparse.Namespace, faults: Faults) -> list[Question]:
    """Every question of the test file, in its order.

    Raises:
        DataError: the file or the images cannot be used.
    """
    samples = read_drivelmm_o1(options.answers, needed_image_root(options), faults)
    return [Question(sample) for sample in samples]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """Every output, for its reasoning.

    Raises:
        DataError: as `score`.
    """
    truths, texts = _truths(options, Faults()), predictions_of(options).texts
    return {id_: reasoning_request(id_, truths[id_], texts[id_]) for id_ in truths if id_ in texts}


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score multiple choice by rule, and reasoning by the judgements, where there are any.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    faults = Faults(options.strict)
    truths = _truths(options, faults)
    predictions = predictions_of(options)
    result = drivelmm_o1.score(
        predictions.texts, truths, strict=options.strict, judgements=judgements, left_out=left_out(faults)
    )
    judged = judgements is not None
    marks = [(name, fixed(result.metrics.get(name), 2) if judged else "no judge") for name in METRICS.values()]
    return Scored(
        result=result,
        rows=(
            ("multiple choice: questions", f"{result.choices:,}"),
            ("multiple choice: unreadable", f"{result.unreadable:,}"),
            ("multiple choice: accuracy", fixed(result.mcq_accuracy, 2)),
            *marks,
            ("reasoning score", fixed(result.overall_score, 2) if judged else "no judge"),
        ),
        told=asdict(result),
        figures={
            "reasoning": result.overall_score,
            "metrics_mean": result.metrics_mean,
            "mcq_accuracy": result.mcq_accuracy,
            **{f"metric/{key}": result.metrics.get(name) for key, name in METRICS.items()},
        },
        answers={
            id_: _answer_score(id_, truths[id_], predictions.texts[id_], judgements)
            for id_ in truths
            if id_ in predictions.texts
        },
        tables=(
            Table(
                "DriveLMM-o1",
                ("Reasoning score", "Multiple-choice accuracy"),
                (("this run", (result.overall_score, result.mcq_accuracy)),),
                DRIVELMM_O1,
                OTHER_JUDGE,
            ),
            Table(
                "Marks on the reasoning (1 to 10)",
                ("Mean mark",),
                tuple((name, (result.metrics.get(name),)) for name in METRICS.values()),
                note="" if judged else "Nobody judged: set reward.judge.",
            ),
        ),
        faults=fault_counts(result, faults, predictions.faults) | failures(judgements),
        notes=fault_notes(result, faults, predictions.faults),
    )


def _truths(options: argparse.Namespace, faults: Faults) -> dict[str, ReasoningTruth]:
    samples = read_drivelmm_o1(options.answers, None, faults)
    truths = {sample.id: ReasoningTruth(sample.question, sample.reasoning, sample.answer) for sample in samples}
    if not truths:
        raise DataError(f"{options.answers} holds no usable question{first_note(faults)}")
    return truths


def _answer_score(id_: str, truth: ReasoningTruth, text: str, judgements: Judgements | None) -> AnswerScore:
    """The judge's overall mark times 10 where there is one, else right or wrong."""
    found = None if judgements is None else judgements.get(id_)
    _, failure = judged_value(judgements, id_)
    parts = {key: float(points) for key, points in found.points.items()} if isinstance(found, Judgement) else {}
    if (right := choice_verdict(id_, truth, text)) is not None:
        parts["mcq"] = 100.0 * right
    value = 10.0 * parts[OVERALL] if OVERALL in parts else parts.get("mcq")
    return AnswerScore(value, parts, failure)
