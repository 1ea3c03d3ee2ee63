"""`evaluate.py drivelm`: the DriveLM challenge. No torch, no ray.

A predictions file is scored as it stands, as officially. Of what a model says here, the answer alone counts, not the
thinking before it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from data.errors import DataError
from data.faults import Faults
from data.formats.drivelm import read_drivelm
from data.sample import DrivingSample
from evaluation.metrics.drivelm import DriveLMResult, ScoredPair, score_files
from evaluation.metrics.drivelm_answers import ACCURACY, JUDGE, MATCH
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import add_image_root, add_predictions, needed_image_root, predictions_of
from evaluation.suites.suite import AnswerScore, Question, Scored, Table
from rewards.answer import answer_part
from rewards.judge import JudgeRequest
from rewards.rubric import load_rubric

predictions = predictions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    add_predictions(parser)
    parser.add_argument("--answers", type=Path, required=True, help="the challenge's answer file (test_eval.json)")
    add_image_root(parser, "folder that holds samples/CAM_FRONT/...")
    parser.add_argument("--details", type=Path, help="write every pair's scores and every fault to this JSON file")


def questions(options: argparse.Namespace, faults: Faults) -> list[Question]:
    """Every question of the answer file, in its order.

    Raises:
        DataError: the file or the images cannot be used.
    """
    samples = read_drivelm(options.answers, needed_image_root(options), faults)
    return [Question(sample) for sample in samples]


def judge_requests(options: argparse.Namespace) -> dict[str, JudgeRequest]:
    """The pairs whose agreement a judge rates: those tagged for it, and those of the match part.

    Raises:
        DataError: as `score`.
    """
    rubric, pairs = load_rubric("drivelm"), _result(options).pairs
    rated = [pair for pair in pairs if {JUDGE, MATCH}.intersection(pair.tags)]
    return {pair.id: rubric.request(_sample(pair), pair.answer) for pair in rated}


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score by the challenge's four parts.

    Raises:
        DataError: as `metrics.drivelm.score_files`; the details cannot be written.
    """
    result = _result(options, judgements)
    if options.details:
        _write_details(options.details, result)
    figures = result.figures()
    parts = ("accuracy", "judge", "language", "match", "final_score")
    headline = (*parts, "match_f1", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
    return Scored(
        result=result,
        rows=_rows(result),
        told=figures,
        figures={name: figures[name] for name in headline},
        answers={pair.id: _answer_score(pair, judgements) for pair in result.pairs},
        tables=(
            Table(
                "DriveLM challenge",
                ("Accuracy", "Judge", "Language", "Match", "Final score"),
                (("this run", tuple(figures[name] for name in parts)),),
                note="" if result.judged else "No judge: its part and its half of match count as 0, also in the final.",
                digits=4,
            ),
        ),
        faults=figures["faults"] | failures(judgements),
        notes=result.notes,
    )


def _result(options: argparse.Namespace, judgements: Judgements | None = None) -> DriveLMResult:
    read: Callable[[str], str] = answer_part if getattr(options, "model", None) else str
    judged = None if judgements is None else {key: judged_value(judgements, key)[0] for key in judgements}
    return score_files(
        options.answers,
        options.predictions,
        strict=options.strict,
        judged=judged,
        read=read,
        id_key=options.id_key,
        answer_key=options.answer_key,
    )


def _sample(pair: ScoredPair) -> DrivingSample:
    """The pair as the judge is shown it; it sees question and truth alone."""
    return DrivingSample(pair.id, "", "", "perception", "open_ended", pair.question, pair.truth, {})


def _answer_score(pair: ScoredPair, judgements: Judgements | None) -> AnswerScore:
    """Right or wrong where that is asked, else the mean of what the pair's own parts say of it."""
    judged, failure = judged_value(judgements, pair.id) if {JUDGE, MATCH}.intersection(pair.tags) else (None, None)
    parts = {"match_f1": pair.match_f1, "judge": judged}
    if ACCURACY in pair.tags:
        parts["accuracy"] = 100.0 * bool(pair.correct)
    known = {name: value for name, value in parts.items() if value is not None}
    return AnswerScore(sum(known.values()) / len(known) if known else None, known, failure)


def _write_details(path: Path, result: DriveLMResult) -> None:
    details = {"figures": result.figures(), "faults": result.faults, "pairs": [asdict(pair) for pair in result.pairs]}
    try:
        path.write_text(json.dumps(details, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"--details {path} cannot be written: {error.strerror}") from None


def _rows(result: DriveLMResult) -> tuple[tuple[str, str], ...]:
    judge = fixed(result.judge, 2) if result.judged else "0 (no judge)"
    rows = [
        ("accuracy", result.samples["accuracy"], fixed(result.accuracy, 4)),
        ("judge", result.samples["judge"], judge),
        ("language", result.samples["language"], fixed(result.language, 4)),
        ("match F1", result.samples["match"], fixed(result.match_f1, 2)),
        ("final score", result.scored, fixed(result.final_score, 4)),
    ]
    counted = tuple((f"{name} ({pairs:,})", value) for name, pairs, value in rows)
    return (("questions", f"{result.questions:,}"), *counted)
