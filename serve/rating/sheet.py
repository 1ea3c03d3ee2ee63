"""The sheet an annotator fills: the rubric's criteria with their points, as the judge's; or one score from 0 to 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from data.sample import DrivingSample
from rewards.errors import RewardError
from rewards.judge import Criterion
from rewards.rubric import Rubric, load_rubric, rubric_for
from serve.errors import ServiceError
from serve.rating.answers import Answer

OF_THE_TASK, ONE_SCORE = "task", "score"
"""In place of a rubric's name: the one for each answer's task and kind, and none at all."""
SCORE_SHEET = {"text": "", "sees": ["reference"], "criteria": [asdict(Criterion("score", 100))]}


class BadPoints(ValueError):
    """A form that is no filled sheet: `field` names the criterion, the message says what it may be."""

    def __init__(self, field: str, message: str) -> None:
        """Keep the field, so that the form can point at it."""
        super().__init__(message)
        self.field = field


def sheet_for(answer: Answer, rubric: str) -> tuple[str, dict[str, Any]]:
    """The label of an answer's rubric and what is kept of it: `text`, `sees`, `criteria`.

    Raises:
        ServiceError: 400, there is no such rubric.
    """
    if rubric == ONE_SCORE:
        return ONE_SCORE, SCORE_SHEET
    sample = DrivingSample(answer.name, "", "", answer.task, answer.kind, answer.question, answer.reference, {})
    try:
        found: Rubric = load_rubric(rubric_for(sample) if rubric == OF_THE_TASK else rubric)
    except RewardError as error:
        raise ServiceError(400, str(error), "no_rubric") from None
    return found.label, {
        "text": found.text,
        "sees": list(found.sees),
        "criteria": [asdict(criterion) for criterion in found.criteria if criterion.counts],
    }


def criteria_of(sheet: Mapping[str, Any]) -> list[Criterion]:
    """The lines of a kept sheet."""
    return [Criterion(**criterion) for criterion in sheet["criteria"]]


def meanings(sheet: Mapping[str, Any]) -> dict[str, str]:
    """What earns the points of each line, where the rubric's text says so in a table: `| name | points | meaning |`."""
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in sheet["text"].splitlines()]
    return {cells[0]: cells[2] for cells in rows if len(cells) == 3}


def read_points(criteria: Sequence[Criterion], given: Mapping[str, str]) -> dict[str, int]:
    """The points of a form.

    Raises:
        BadPoints: a line is empty, no whole number, or out of its range.
    """
    points: dict[str, int] = {}
    for criterion in criteria:
        text = given.get(criterion.name, "").strip()
        title, bounds = title_of(criterion.name), f"a whole number from {criterion.lowest} to {criterion.highest}"
        if not text:
            raise BadPoints(criterion.name, f"{title} is empty: give {bounds}.")
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 6):
            raise BadPoints(criterion.name, f"{title} is {text[:20]!r}: give {bounds}.")
        if not criterion.lowest <= int(text) <= criterion.highest:
            raise BadPoints(criterion.name, f"{title} is {text} and out of range: give {bounds}.")
        points[criterion.name] = int(text)
    return points


def title_of(name: str) -> str:
    """A criterion's name in words."""
    return name.replace("_", " ").capitalize()
