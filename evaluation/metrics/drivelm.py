"""The score of the DriveLM challenge from its answer file and a predictions file. No torch, no ray.

    final = 0.4 judge/100 + 0.2 language + 0.2 match/100 + 0.2 accuracy

What the official evaluation computes, with its crashes mended: a part without samples has no value, and what cannot be
scored is left out and listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.coordinates import Pair
from data.faults import EMPTY_ANSWER, ODD_COORDINATES
from evaluation.metrics.drivelm_answers import (
    ACCURACY,
    JUDGE,
    LANGUAGE,
    MATCH,
    ChallengeAnswers,
    TaggedQuestion,
    read_answers,
)
from evaluation.metrics.language import ORDERS, LanguageScores, language_scores
from evaluation.metrics.predictions import Predictions, match, refuse, says
from evaluation.metrics.result import SuiteResult
from rewards.coordinates import drivelm_match, drivelm_numbers, drivelm_points

_EPSILON = 1e-8
"""The official F1 adds this to every denominator: a perfect match is worth 99.999999."""

Judged = Mapping[str, float | None]
"""By question id what a judge gave, 0 to 100; None where no judgement could be had, which counts in no mean."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A question that the graph let through, with its prediction; `correct` and `match_f1` (0-100) by its tags."""

    id: str
    tags: tuple[int, ...]
    question: str
    answer: str
    truth: str
    correct: bool | None
    match_f1: float | None


@dataclass(frozen=True, slots=True)
class DriveLMResult(SuiteResult):
    """The challenge's figures; a part without samples is None. `scored` counts the pairs kept, out of `questions`.

    Accuracy and language lie in [0, 1], match and judge in [0, 100]. Without a judge (`judged` is false) its scores
    count as 0: such figures compare only with others that had none. `samples` counts the pairs of each part, `match_f1`
    is the mean F1 of the points before the judge's half, `notes` has a sentence for each fault.
    """

    questions: int
    samples: dict[str, int]
    accuracy: float | None
    text: LanguageScores | None
    language: float | None
    match_f1: float | None
    match: float | None
    judge: float | None
    judged: bool
    final_score: float | None
    pairs: tuple[ScoredPair, ...]
    notes: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """The figures by the names under which they are published, and the counts, for one line of JSON."""
        bleu = self.text.bleu if self.text else (None,) * ORDERS
        return {
            "questions": self.questions,
            "kept": self.scored,
            "samples": self.samples,
            "accuracy": self.accuracy,
            **{f"bleu{order}": value for order, value in enumerate(bleu, start=1)},
            "rouge_l": self.text.rouge_l if self.text else None,
            "cider": self.text.cider if self.text else None,
            "language": self.language,
            "match_f1": self.match_f1,
            "match": self.match,
            "judge": self.judge,
            "judged": self.judged,
            "final_score": self.final_score,
            "faults": {reason: len(ids) for reason, ids in self.faults.items()},
        }


def score_predictions(
    answers: Path,
    predicted: Predictions,
    *,
    strict: bool = False,
    judged: Judged | None = None,
    read: Callable[[str], str] = str,
) -> DriveLMResult:
    """Score predictions ([{"id", "answer"}], such as output.json) by an answer file (such as test_eval.json).

    Args:
        answers: the answer file.
        predicted: what a predictions file held.
        strict: a fault ends the scoring.
        judged: what a judge gave; None without one.
        read: what of a prediction is its answer; officially all of it.

    Raises:
        DataError: the file cannot be read or is another file, no question has a prediction; with `strict` also for any
            fault.
    """
    questions = read_answers(answers)
    if strict:
        refuse(questions.faults, str(answers))
    result = score(questions, {id_: read(text) for id_, text in predicted.texts.items()}, judged)
    faults = {reason: list(ids) for reason, ids in predicted.faults.items()}
    for reason, ids in result.faults.items():
        faults[reason] = [*faults.get(reason, []), *ids]
    notes = [f"predictions: {id_} {says(reason)}" for reason, ids in predicted.faults.items() for id_ in ids]
    if strict:
        refuse(faults, "predictions")
    return replace(result, faults=faults, notes=(*notes, *result.notes))


def score(answers: ChallengeAnswers, predictions: Mapping[str, str], judged: Judged | None = None) -> DriveLMResult:
    """Score predictions, by question id, as the official evaluation does.

    The first question of a frame is always kept; another only when every point in its question is among the true points
    that the frame's first prediction hit. A question without a prediction is left out and listed; without one for the
    first question, no point was hit.

    Raises:
        DataError: no question has a prediction.
    """
    faults: defaultdict[str, list[str]] = defaultdict(list, {key: list(ids) for key, ids in answers.faults.items()})
    left_out = [id_ for ids in answers.faults.values() for id_ in ids]
    unmatched = match(predictions, answers.ids, strict=False, left_out=left_out).faults
    faults.update({reason: [*faults[reason], *ids] for reason, ids in unmatched.items()})
    notes = [*answers.notes, *(f"{id_} {says(reason)}" for reason, ids in unmatched.items() for id_ in ids)]

    def fault(reason: str, id_: str, note: str) -> None:
        faults[reason].append(id_)
        notes.append(f"{id_} {note}")

    pairs = [pair for frame in answers.frames for pair in _kept(frame, predictions, fault)]
    parts = {tag: [pair for pair in pairs if tag in pair.tags] for tag in (ACCURACY, JUDGE, LANGUAGE, MATCH)}
    text = _text_scores(parts[LANGUAGE])
    language = None if text is None else (sum(text.bleu) / ORDERS + text.rouge_l + text.cider / 10) / 3
    accuracy = _mean([float(bool(pair.correct)) for pair in parts[ACCURACY]])
    match_f1 = _mean([pair.match_f1 or 0.0 for pair in parts[MATCH]])
    judge = _judge_mean(parts[JUDGE], judged)
    match_judged = _judge_mean(parts[MATCH], judged)
    matched = None if match_f1 is None or match_judged is None else (match_f1 + match_judged) / 2
    return DriveLMResult(
        scored=len(pairs),
        faults=dict(faults),
        questions=len(answers.ids),
        samples={name: len(parts[tag]) for name, tag in _PARTS.items()},
        accuracy=accuracy,
        text=text,
        language=language,
        match_f1=match_f1,
        match=matched,
        judge=judge,
        judged=judged is not None,
        final_score=_final(judge, language, matched, accuracy),
        pairs=tuple(pairs),
        notes=tuple(notes),
    )


_PARTS = {"accuracy": ACCURACY, "judge": JUDGE, "language": LANGUAGE, "match": MATCH}

# --- one frame --------------------------------------------------------------------------------------------------------


def _kept(
    frame: Sequence[TaggedQuestion], predictions: Mapping[str, str], fault: Callable[[str, str, str], None]
) -> Iterator[ScoredPair]:
    """The pairs of a frame that the graph lets through and a score uses."""
    graph: set[Pair] = set()
    for question in frame:
        answer = predictions.get(question.id)
        if question.first and answer is not None:
            graph = set(drivelm_match(answer, question.truth).hits)
        _note_oddities(question, answer, fault)
        if answer is None or not question.tags:
            continue
        if question.first or graph.issuperset(drivelm_points(question.question)):
            yield _scored(question, answer)


def _scored(question: TaggedQuestion, answer: str) -> ScoredPair:
    return ScoredPair(
        id=question.id,
        tags=tuple(sorted(question.tags)),
        question=question.question,
        answer=answer,
        truth=question.truth,
        correct=answer == question.truth if ACCURACY in question.tags else None,
        match_f1=_match_f1(answer, question.truth) if MATCH in question.tags else None,
    )


def _match_f1(answer: str, truth: str) -> float:
    """0-100, as officially computed."""
    found = drivelm_match(answer, truth)
    hits = len(found.hits)
    precision, recall = hits / (found.predicted + _EPSILON), hits / (found.true + _EPSILON)
    return 100 * 2 * precision * recall / (precision + recall + _EPSILON)


def _note_oddities(question: TaggedQuestion, answer: str | None, fault: Callable[[str, str, str], None]) -> None:
    if answer is not None and not answer.strip():
        fault(EMPTY_ANSWER, question.id, "has an empty prediction; it is scored as it is")
    read = {} if question.first else {"question": question.question}
    if question.first or MATCH in question.tags:
        read |= {"answer in the answer file": question.truth, "prediction": answer or ""}
    for what, text in read.items():
        if len(drivelm_numbers(text)) % 2:
            fault(ODD_COORDINATES, question.id, f"has an odd number of coordinates in its {what}; the last is not used")


# --- the parts --------------------------------------------------------------------------------------------------------


def _text_scores(pairs: Sequence[ScoredPair]) -> LanguageScores | None:
    return language_scores([pair.answer for pair in pairs], [pair.truth for pair in pairs]) if pairs else None


def _judge_mean(pairs: Sequence[ScoredPair], judged: Judged | None) -> float | None:
    """The judge's mean; 0 without a judge, None without a judgement."""
    if judged is None:
        return 0.0 if pairs else None
    return _mean([value for pair in pairs if (value := judged.get(pair.id)) is not None])


def _final(judged: float | None, language: float | None, matched: float | None, accuracy: float | None) -> float | None:
    """The weighted sum; None when a part has no samples, since the published figure has all four."""
    if judged is None or language is None or matched is None or accuracy is None:
        return None
    return 0.4 * judged / 100 + 0.2 * language + 0.2 * matched / 100 + 0.2 * accuracy


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
