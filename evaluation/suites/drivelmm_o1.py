"""`evaluate.py drivelmm_o1`: accuracy on multiple choice, twelve marks on the reasoning. No torch, no ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.drivelmm_o1 import read_drivelmm_o1
from evaluation.metrics import drivelmm_o1
from evaluation.metrics.drivelmm_o1 import METRICS, OVERALL, ReasoningTruth, choice_verdict, reasoning_request
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.metrics.predictions import Predictions, PredictionsFile
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out, needed_folder
from evaluation.suites.published import DRIVELMM_O1, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Question, Scored, Suite, SuiteOptions, Table
from rewards.judge import Judgement, JudgeRequest


class DriveLMMo1Options(SuiteOptions):
    """Its files."""

    answers: Path
    """DriveLMM-o1's test file."""
    image_root: Path | None = None
    """Folder that holds samples/CAM_FRONT/...; needed to ask a model."""


@dataclass(frozen=True)
class DriveLMMo1(Suite):
    """Multiple choice is scored by rule, reasoning by a judge's twelve marks.

    A predictions file has a question's id under idx.
    """

    options: DriveLMMo1Options
    Options: ClassVar[type[SuiteOptions]] = DriveLMMo1Options
    title: ClassVar[str] = "DriveLMM-o1: reasoning marks, accuracy on multiple choice"
    headline: ClassVar[tuple[str, ...]] = ("reasoning", "mcq_accuracy")
    judged: ClassVar[bool] = True

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Every question of the test file, in its order."""
        images = needed_folder("image_root", self.options.image_root)
        return [Question(sample) for sample in read_drivelmm_o1(self.options.answers, images, faults)]

    def predictions(self, file: PredictionsFile) -> Predictions:
        """The usual form, with ids under `idx`."""
        return file.read(id_key="idx")

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """Every output, for its reasoning."""
        truths, texts = _truths(self.options.answers, Faults()), predictions.texts
        return {id_: reasoning_request(id_, truths[id_], texts[id_]) for id_ in truths if id_ in texts}

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score multiple choice by rule, and reasoning by the judgements, where there are any."""
        strict = self.options.strict
        faults = Faults(strict)
        truths = _truths(self.options.answers, faults)
        result = drivelmm_o1.score(
            predictions.texts, truths, strict=strict, judgements=judgements, left_out=left_out(faults)
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
            reported=asdict(result),
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


def _truths(answers: Path, faults: Faults) -> dict[str, ReasoningTruth]:
    samples = read_drivelmm_o1(answers, None, faults)
    truths = {sample.id: ReasoningTruth(sample.question, sample.reasoning, sample.answer) for sample in samples}
    if not truths:
        raise DataError(f"{answers} holds no usable question{first_note(faults)}")
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
