"""Evaluations side by side: before against after, task by task, with the controls as further columns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from data.sample import Task, in_order
from evaluation.comparison.paired import pair_answers
from evaluation.held_out import AnswerRecord, EvaluationResult, TaskResult

BEFORE, AFTER = "before", "after"
TITLES = {
    BEFORE: "before",
    AFTER: "after",
    "continued_warm_start": "warm start continued",
    "swapped": "images swapped",
}
"""Column titles of the known evaluations, in the order of the columns; others follow by name."""


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between after and before; the standard error is that of the paired differences, where all pair."""

    value: float
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One task (or all tasks together), with one value per evaluation, None where there is none."""

    title: str
    task: Task | None
    """None: all together."""
    samples: int
    reward: dict[str, float | None]
    reward_change: Change | None
    choice_samples: int
    accuracy: dict[str, float | None]
    majority_accuracy: float | None
    majority_answer: str | None
    valid_format: dict[str, float | None]
    response_tokens: dict[str, float | None]
    overlong_share: dict[str, float | None]

    @property
    def accuracy_change(self) -> float | None:
        """After less before, in shares."""
        before, after = self.accuracy.get(BEFORE), self.accuracy.get(AFTER)
        return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True)
class Comparison:
    """The before/after table: `columns` are names of evaluations, `rows` the tasks and, last, their mean."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def overall(self) -> Row:
        """The row of all tasks together."""
        return self.rows[-1]

    def title(self, column: str) -> str:
        """A column's name in words."""
        return TITLES.get(column, column.replace("_", " "))


def compare(evaluations: Mapping[str, EvaluationResult]) -> Comparison | None:
    """The table of a run's evaluations; None when there are none."""
    if not evaluations:
        return None
    known = [name for name in TITLES if name in evaluations]
    columns = (*known, *sorted(set(evaluations) - set(known)))
    ordered = {name: evaluations[name] for name in columns}
    rows = [
        _task_row(task.capitalize(), {name: result.tasks.get(task) for name, result in ordered.items()}, ordered, task)
        for task in in_order(task for result in ordered.values() for task in result.tasks)
    ]
    return Comparison(columns, (*rows, _overall_row(rows, ordered)))


def paired(
    before: EvaluationResult, after: EvaluationResult, task: str | None = None
) -> list[tuple[AnswerRecord, AnswerRecord]]:
    """The answers of both evaluations to the same questions, where both have a score."""
    pairs = pair_answers(before.answers, after.answers).pairs
    return [(pair.a[0], pair.b[0]) for pair in pairs if task in (None, pair.task)]


def _task_row(
    title: str, results: Mapping[str, TaskResult | None], evaluations: Mapping[str, EvaluationResult], task: str
) -> Row:
    # The questions are the same in every column, so what describes them is read from the first that has them.
    first = next(result for result in results.values() if result is not None)
    return Row(
        title=title,
        task=task,
        samples=first.samples,
        reward={name: result.reward if result else None for name, result in results.items()},
        reward_change=_reward_change(evaluations, task),
        choice_samples=first.choice_samples,
        accuracy={name: result.accuracy if result else None for name, result in results.items()},
        majority_accuracy=first.majority_accuracy,
        majority_answer=first.majority_answer,
        valid_format={name: result.valid_format if result else None for name, result in results.items()},
        response_tokens={name: result.response_tokens if result else None for name, result in results.items()},
        overlong_share={name: result.overlong_share if result else None for name, result in results.items()},
    )


def _reward_change(evaluations: Mapping[str, EvaluationResult], task: str) -> Change | None:
    if BEFORE not in evaluations or AFTER not in evaluations:
        return None
    pairs = paired(evaluations[BEFORE], evaluations[AFTER], task)
    if not pairs:
        return None
    differences = [after.value - before.value for before, after in pairs]
    stderr = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None
    return Change(statistics.fmean(differences), stderr)


def _overall_row(rows: list[Row], evaluations: Mapping[str, EvaluationResult]) -> Row:
    """The mean over tasks: each task counts the same, however many questions it has."""
    changes = [row.reward_change for row in rows if row.reward_change is not None]
    errors = [change.stderr for change in changes if change.stderr is not None]
    change = None
    if changes:
        stderr = math.sqrt(sum(error**2 for error in errors)) / len(changes) if len(errors) == len(changes) else None
        change = Change(statistics.fmean(one.value for one in changes), stderr)
    return Row(
        title="Mean of the tasks",
        task=None,
        samples=sum(row.samples for row in rows),
        reward={name: result.reward for name, result in evaluations.items()},
        reward_change=change,
        choice_samples=sum(row.choice_samples for row in rows),
        accuracy={name: _mean([row.accuracy[name] for row in rows]) for name in evaluations},
        majority_accuracy=_mean([row.majority_accuracy for row in rows]),
        majority_answer=None,
        valid_format={name: _mean([row.valid_format[name] for row in rows]) for name in evaluations},
        response_tokens={name: _mean([row.response_tokens[name] for row in rows]) for name in evaluations},
        overlong_share={name: _mean([row.overlong_share[name] for row in rows]) for name in evaluations},
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
