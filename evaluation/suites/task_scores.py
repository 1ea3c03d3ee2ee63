"""Scores task by task: what the benchmarks of driving samples share (DriveLM-Hard, rendered scenes). No torch, no ray.

An answer is worth what the judge gives it, by the rubric for its question's task and kind; without a judge, what the
rules for its kind give it (`rewards.settings.DEFAULT_ROUTES`). The two are never mixed in one figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from data.faults import Faults
from data.sample import TASKS, DrivingSample
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.metrics.predictions import Matched, Predictions, match
from evaluation.metrics.result import SuiteResult
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out
from evaluation.suites.published import BY_RULES, OTHER_JUDGE, PublishedRow
from evaluation.suites.suite import AnswerScore, Scored, Table
from rewards.answer import answer_part
from rewards.format import is_right, valid_format
from rewards.judge import JudgeRequest
from rewards.rubric import load_rubric, rubric_for
from rewards.scorers import BUILT_IN
from rewards.settings import DEFAULT_ROUTES

CLOSED = ("multiple_choice", "yes_no")


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task's figures: `value` on 0-100, by the judge or by rule; shares of its answers in [0, 1]."""

    questions: int
    scored: int
    value: float | None
    accuracy: float | None
    """Share of multiple-choice and yes/no questions answered rightly, by rule; None where there are none."""
    valid_format: float


@dataclass(frozen=True, slots=True)
class TaskResult(SuiteResult):
    """The figures of every task there is; `mean` is their mean, each task counting once."""

    judged: bool
    tasks: dict[str, TaskScore]
    mean: float | None


def rubric_requests(samples: Mapping[str, DrivingSample], texts: Mapping[str, str]) -> dict[str, JudgeRequest]:
    """Every answer's part of a response before the judge, by the rubric for its question."""
    return {
        id_: load_rubric(rubric_for(sample)).request(sample, answer_part(texts[id_]))
        for id_, sample in samples.items()
        if id_ in texts
    }


def rule_value(sample: DrivingSample, text: str) -> float | None:
    """What a response is worth by the rules for its question's kind, 0-100; None where none applies."""
    route = next((route for route in DEFAULT_ROUTES if route.kind == sample.kind), None)
    scorers = {} if route is None else {BUILT_IN[name]: weight for name, weight in route.scorers.items()}
    applying = {scorer: weight for scorer, weight in scorers.items() if weight and scorer.applies(sample)}
    if not applying:
        return None
    worth = {scorer: scorer(sample, text) for scorer in applying}
    points = {scorer: value if isinstance(value, float) else value.value for scorer, value in worth.items()}
    return min(100.0, sum(weight * points[scorer] for scorer, weight in applying.items()) / sum(applying.values()))


def score_by_task(
    name: str,
    samples: Mapping[str, DrivingSample],
    predictions: Predictions,
    of_answers: Faults,
    judgements: Judgements | None,
    published: Sequence[PublishedRow] = (),
    *,
    strict: bool,
) -> Scored:
    """Score the responses to driving samples.

    Args:
        name: what the table is called.
        samples: by id.
        predictions: responses by the same ids.
        of_answers: what was wrong with the samples' file.
        judgements: by id; None scores by rule.
        published: rows to stand beside, of perception, prediction, planning and behavior.
        strict: an id on one side only ends the scoring.

    Raises:
        DataError: as `metrics.predictions.match`.
    """
    matched = match(predictions.texts, samples, strict=strict, left_out=left_out(of_answers))
    texts = {id_: predictions.texts[id_] for id_ in matched.ids}
    answers = {id_: _answer(samples[id_], text, judgements) for id_, text in texts.items()}
    result = _result(matched, samples, texts, answers, judged=judgements is not None)
    by = "judge" if result.judged else "rules"
    rows = [(f"{task} ({by}, {one.questions:,})", fixed(one.value, 2)) for task, one in result.tasks.items()]
    return Scored(
        result=result,
        rows=(*rows, (f"mean of the tasks ({by})", fixed(result.mean, 2))),
        reported=asdict(result),
        figures={"mean": result.mean}
        | {task: one.value for task, one in result.tasks.items()}
        | {f"accuracy/{task}": _percent(one.accuracy) for task, one in result.tasks.items()}
        | {f"valid_format/{task}": one.valid_format for task, one in result.tasks.items()},
        answers=answers,
        tables=_tables(name, by, result, published),
        faults=fault_counts(result, of_answers, predictions.faults) | failures(judgements),
        notes=fault_notes(result, of_answers, predictions.faults),
    )


def _result(
    matched: Matched,
    samples: Mapping[str, DrivingSample],
    texts: Mapping[str, str],
    answers: Mapping[str, AnswerScore],
    *,
    judged: bool,
) -> TaskResult:
    of_tasks = {task: [id_ for id_ in matched.ids if samples[id_].task == task] for task in TASKS}
    tasks: dict[str, TaskScore] = {task: _task(ids, samples, texts, answers) for task, ids in of_tasks.items() if ids}
    values = [one.value for one in tasks.values() if one.value is not None]
    return TaskResult(
        scored=len(matched.ids),
        faults=matched.faults,
        judged=judged,
        tasks=tasks,
        mean=fmean(values) if values else None,
    )


def _tables(name: str, by: str, result: TaskResult, published: Sequence[PublishedRow]) -> tuple[Table, Table]:
    """The score of each task, beside the published rows, and the accuracy of the questions that a rule decides."""
    columns = tuple(task.capitalize() for task in TASKS)
    of_tasks = [result.tasks.get(task) for task in TASKS]
    values = tuple(None if one is None else one.value for one in of_tasks)
    accuracies = tuple(None if one is None else _percent(one.accuracy) for one in of_tasks)
    note = (OTHER_JUDGE if result.judged else BY_RULES.format(OTHER_JUDGE)) if published else ""
    return (
        Table(f"{name}: score by {by}", columns, (("this run", values),), tuple(published), note),
        Table("Multiple choice and yes/no: right by rule (%)", columns, (("this run", accuracies),)),
    )


def _answer(sample: DrivingSample, text: str, judgements: Judgements | None) -> AnswerScore:
    parts = {"right": 100.0 * is_right(sample, text)} if sample.kind in CLOSED else {}
    if judgements is None:
        return AnswerScore(rule_value(sample, text), parts)
    value, failure = judged_value(judgements, sample.id)
    return AnswerScore(value, parts, failure)


def _task(
    ids: Sequence[str],
    samples: Mapping[str, DrivingSample],
    texts: Mapping[str, str],
    answers: Mapping[str, AnswerScore],
) -> TaskScore:
    values = [value for id_ in ids if (value := answers[id_].value) is not None]
    right = [answers[id_].parts["right"] / 100.0 for id_ in ids if "right" in answers[id_].parts]
    return TaskScore(
        questions=len(ids),
        scored=len(values),
        value=fmean(values) if values else None,
        accuracy=fmean(right) if right else None,
        valid_format=fmean(valid_format(samples[id_], texts[id_]) for id_ in ids),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
