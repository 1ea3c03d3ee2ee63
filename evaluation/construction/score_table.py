"""The scores that models earned on a set of samples, read from the folders that their benchmark runs left.

Plain numbers for `data.difficulty`, which may not know the judge. Nothing is sampled and nothing judged here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.admission import SeenIds
from data.difficulty import K
from data.errors import DataError
from data.sample import DrivingSample
from evaluation.held_out import AnswerRecord, failure_name
from evaluation.suites.record import SuiteRecord, read_answers, read_results

BY_RULES = "rules"
"""What scored, where no judge did."""


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What one model's answers to the samples were worth."""

    name: str
    """What it is called here."""
    model: str
    """What was measured, as its run names it: a folder, a hub name, a URL."""
    judge: str | None
    """The judge of its answers; None where rules scored them."""
    scores: dict[str, tuple[float, ...]]
    """Sample id to the scores (0-100) of its answers; a sample without one is left out."""
    answers: int
    """To the samples, with and without a score."""
    failures: dict[str, int]
    """Reason to the number of those answers that have no score."""
    of_other_samples: int
    """Answers to questions that are not among the samples."""


def read_scores(name: str, folder: Path, samples: Mapping[str, DrivingSample], repeats: int = K) -> ModelScores:
    """The scores of a model on the samples.

    Args:
        name: what the model is called in errors and tables.
        folder: where its run left `results.json` and `answers.jsonl`.
        samples: by id.
        repeats: how many answers to a question were to be sampled; a question may have lost some to failed scores.

    Raises:
        DataError: the folder cannot be read, was asked other questions, holds an answer twice or under several
            settings, has fewer repeats than wanted, or has not one score.
    """
    record = read_results(folder)
    scores: dict[str, list[float]] = defaultdict(list)
    asked: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    settings: set[str] = set()
    seen, others = SeenIds(), 0
    for answer in read_answers(folder):
        if answer.sample_id not in samples:
            others += 1
            continue
        _check_question(name, folder, answer, samples[answer.sample_id])
        settings.add(answer.setting)
        if not seen.add(f"{answer.setting}/{answer.sample_id}_{answer.repeat}"):
            raise DataError(
                f"{name}: {folder} holds repeat {answer.repeat} of {answer.sample_id} twice: give a folder of one run"
            )
        asked[answer.sample_id] += 1
        if answer.failure is None:
            scores[answer.sample_id].append(answer.value)
        else:
            failures[failure_name(answer.failure)] += 1
    found = {id_: tuple(values) for id_, values in scores.items()}
    result = ModelScores(
        name=name,
        model=record.model,
        judge=judge_of(record),
        scores=found,
        answers=asked.total(),
        failures=dict(sorted(failures.items())),
        of_other_samples=others,
    )
    _check(result, folder, max(asked.values(), default=0), repeats, settings)
    return result


def judge_of(record: SuiteRecord) -> str | None:
    """What the judge of a run is called; None where rules scored."""
    judge = record.sampling.get("judge")
    return None if judge is None else str(judge)


def scored_by(judges: Mapping[str, str | None]) -> str:
    """What scored every model: the judge's name, or `rules`.

    Args:
        judges: by the name of the model, one at least.

    Raises:
        DataError: not the same for all: a mean of such scores means nothing.
    """
    by = {name: judge or BY_RULES for name, judge in judges.items()}
    if len(set(by.values())) > 1:
        named = ", ".join(f"{name} by {judge}" for name, judge in by.items())
        raise DataError(
            f"scores of different scorers cannot be averaged ({named}): score every model by the same "
            f"reward.judge.model, or all of them by rules"
        )
    return next(iter(by.values()))


def _check_question(name: str, folder: Path, answer: AnswerRecord, sample: DrivingSample) -> None:
    """An id may mean another question in another file: DriveLM numbers them anew in each of its formats."""
    if answer.question.split() != sample.question.split():
        raise DataError(
            f"{name}: {folder} answers another question under the id {sample.id} than the samples ask: "
            f"score the very file that is built from"
        )


def _check(found: ModelScores, folder: Path, most: int, repeats: int, settings: set[str]) -> None:
    if not found.answers:
        raise DataError(
            f"{found.name}: {folder} answers {found.of_other_samples} questions, none of them among the samples: "
            f"score the very file that is built from"
        )
    if len(settings) > 1:
        raise DataError(
            f"{found.name}: {folder} asks under several settings ({', '.join(sorted(settings))}): score one"
        )
    if most < repeats:
        raise DataError(
            f"{found.name}: {folder} has {most} answers to a question where {repeats} are averaged: "
            f"sample with --repeats {repeats}, or build with --repeats {most}"
        )
    if not found.scores:
        lost = ", ".join(f"{count} {reason}" for reason, count in found.failures.items())
        raise DataError(
            f"{found.name}: {folder} has no score, all {found.answers} answers failed ({lost}): judge again"
        )
