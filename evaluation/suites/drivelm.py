"""`evaluate.py drivelm`: the DriveLM challenge. No torch, no ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from data.faults import Faults
from data.formats.drivelm import read_drivelm
from data.sample import DrivingSample
from evaluation.metrics.drivelm import DriveLMResult, ScoredPair, score_predictions
from evaluation.metrics.drivelm_answers import ACCURACY, JUDGE, MATCH
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.metrics.predictions import Predictions
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import needed_folder
from evaluation.suites.suite import AnswerScore, OptionError, Question, Scored, Suite, SuiteOptions, Table
from rewards.answer import answer_part
from rewards.judge import JudgeRequest
from rewards.rubric import load_rubric

NO_JUDGE = "No judge: its part and its half of match count as 0, also in the final."


class DriveLMOptions(SuiteOptions):
    """Its files."""

    answers: Path
    """The challenge's answer file (test_eval.json)."""
    image_root: Path | None = None
    """Folder that holds samples/CAM_FRONT/...; needed to ask a model."""
    details: Path | None = Field(None, exclude=True)
    """Write every pair's scores and every fault to this JSON file."""


@dataclass(frozen=True)
class DriveLM(Suite):
    """A predictions file is scored as it stands, as officially.

    Of what a model says here, the answer alone counts, not the thinking before it.
    """

    options: DriveLMOptions
    Options: ClassVar[type[SuiteOptions]] = DriveLMOptions
    title: ClassVar[str] = "the DriveLM challenge: accuracy, language, match and final score"
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "language", "final_score")
    judged: ClassVar[bool] = True

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Every question of the answer file, in its order."""
        images = needed_folder("image_root", self.options.image_root)
        return [Question(sample) for sample in read_drivelm(self.options.answers, images, faults)]

    def handed_in(self, predictions: Predictions, questions: Sequence[Question]) -> dict[str, Any]:
        """A submission to the challenge; who hands it in fills in the rest."""
        read = _read(predictions)
        results = [
            {"id": one.key, "question": one.sample.question, "answer": read(predictions.texts[one.key])}
            for one in questions
            if one.key in predictions.texts
        ]
        about = {"method": "", "team": "", "authors": [""], "email": "", "institution": "", "country": ""}
        return about | {"results": results}

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """The pairs whose agreement a judge rates: those tagged for it, and those of the match part."""
        rubric, pairs = load_rubric("drivelm"), self._result(predictions).pairs
        rated = [pair for pair in pairs if {JUDGE, MATCH}.intersection(pair.tags)]
        return {pair.id: rubric.request(_sample(pair), pair.answer) for pair in rated}

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score by the challenge's four parts.

        Raises:
            DataError: as `metrics.drivelm.score_predictions`; the details cannot be written.
        """
        result = self._result(predictions, judgements)
        if self.options.details:
            _write_details(self.options.details, result)
        figures = result.figures()
        parts = ("accuracy", "judge", "language", "match", "final_score")
        headline = (*parts, "match_f1", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
        return Scored(
            result=result,
            rows=_rows(result),
            reported=figures,
            figures={name: figures[name] for name in headline},
            answers={pair.id: _answer_score(pair, judgements) for pair in result.pairs},
            tables=(
                Table(
                    "DriveLM challenge",
                    ("Accuracy", "Judge", "Language", "Match", "Final score"),
                    (("this run", tuple(figures[name] for name in parts)),),
                    note="" if result.judged else NO_JUDGE,
                    digits=4,
                ),
            ),
            faults=figures["faults"] | failures(judgements),
            notes=result.notes,
        )

    def _result(self, predictions: Predictions, judgements: Judgements | None = None) -> DriveLMResult:
        judged = None if judgements is None else {key: judged_value(judgements, key)[0] for key in judgements}
        return score_predictions(
            self.options.answers, predictions, strict=self.options.strict, judged=judged, read=_read(predictions)
        )


def _read(predictions: Predictions) -> Callable[[str], str]:
    return answer_part if predictions.by_model else str


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
        raise OptionError("details", f"{path} cannot be written: {error.strerror}") from None


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
