"""Where the answers of a set come from: a run's rollouts, one of its evaluations, or a JSONL file; and which are drawn.

A line of the file holds `task`, `question` and `answer`, and may hold `item` (else `sample_id`), `kind`, `choices`,
`reference`, `images` (camera to a data URI, or a path where the file lies on the server's own disk) and `scores`
(judge to 0-100). The lines of a benchmark's `answers.jsonl` are taken as they are.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from data.errors import DataError
from data.sample import Kind, in_order, task_fault
from evaluation.held_out import AnswerRecord
from evaluation.run_record import SAMPLES_FOLDER, evaluation_path, read_evaluation
from serve.errors import ServiceError

REWARD = "reward"
"""What the run's own score is called among the judges."""
COLUMNS = ("request_id", "sample_id", "step", "task", "kind", "question", "choices", "images", "ground_truth",
           "response", "value", "parts", "failure")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that could be rated."""

    name: str
    task: str
    kind: Kind
    question: str
    choices: dict[str, str]
    reference: str
    answer: str
    images: dict[str, str]
    """Camera to a path, a URI or a data URI."""
    scores: dict[str, float]
    """Judge to its score, 0-100."""


_Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_Text = Annotated[str, StringConstraints(max_length=50_000)]


class _Line(BaseModel):
    """One line of a file of answers; what a benchmark's record calls otherwise has a second name here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    item: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = Field(
        None, validation_alias=AliasChoices("item", "sample_id")
    )
    task: str
    kind: Kind = "open_ended"
    question: _Text
    choices: dict[str, _Text] = {}
    reference: _Text = Field("", validation_alias=AliasChoices("reference", "ground_truth"))
    answer: _Text = Field(validation_alias=AliasChoices("answer", "response"))
    images: dict[Annotated[str, StringConstraints(max_length=100)], str] = {}
    scores: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], _Points] = {}
    value: _Points | None = None
    parts: dict[str, float] = {}
    failure: str | None = None
    setting: str = ""
    repeat: int = 0

    @field_validator("task")
    @classmethod
    def _is_a_name(cls, task: str) -> str:
        if fault := task_fault(task):
            raise ValueError(fault)
        return task


def from_lines(text: bytes, name: str) -> list[Answer]:
    """The answers of a JSONL file.

    Raises:
        ServiceError: 400, a line is none, by its number and field, or there is no line.
    """
    found: list[Answer] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _Line.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            problem = f"{field}: {first['msg']}" if field else str(first["msg"])
            raise ServiceError(400, f"{name}, line {number}: {problem[:300]}", "bad_line") from None
        if row.failure is None:
            scores = row.scores or scores_of(row.value, row.parts)
            names = [row.item or f"line-{number}", row.setting, f"repeat-{row.repeat}" if row.repeat else ""]
            found.append(
                Answer(" ".join(filter(None, names)), row.task, row.kind, row.question, dict(row.choices),
                       row.reference, row.answer, dict(row.images), dict(scores))
            )  # fmt: skip
    if not found:
        raise ServiceError(400, f"{name} holds no answer with a score: give one JSON object a line", "no_answers")
    return _with_names_of_their_own(found)


def from_run(folder: Path, evaluation: str | None) -> list[Answer]:
    """The answers of a run: of one of its evaluations by name, or, with None, all of its rollouts.

    Raises:
        ServiceError: 404, there is no such evaluation, or the run has no rollouts yet; 400, a file is damaged.
    """
    if evaluation is not None:
        try:
            path = evaluation_path(folder, evaluation)
        except ValueError:
            path = folder / "none"
        if not path.is_file():
            raise ServiceError(404, f"the run {folder.name} has no evaluation {evaluation[:100]!r}", "no_evaluation")
        try:
            records = read_evaluation(path).answers
        except DataError as error:
            raise ServiceError(400, str(error), "damaged") from None
        return _with_names_of_their_own([_of_record(one) for one in records if one.failure is None])
    found = [answer for path in sorted((folder / SAMPLES_FOLDER).glob("step_*.parquet")) for answer in _rollouts(path)]
    if not found:
        raise ServiceError(404, f"the run {folder.name} has no scored rollouts yet", "no_rollouts")
    return _with_names_of_their_own(found)


def drawn(answers: Sequence[Answer], count: int, seed: int) -> list[Answer]:
    """At most `count` answers, as evenly over the tasks as they allow; which ones depends on the seed and the answers
    alone, not on their order.
    """
    queues: dict[str, list[Answer]] = {}
    for task in in_order({answer.task for answer in answers}):
        of_task = sorted((one for one in answers if one.task == task), key=lambda one: one.name)
        random.Random(f"{seed}/{task}").shuffle(of_task)
        queues[task] = of_task
    chosen: list[Answer] = []
    while len(chosen) < count and any(queues.values()):
        chosen += [queue.pop() for queue in queues.values() if queue][: count - len(chosen)]
    return chosen


def scores_of(value: float | None, parts: Mapping[str, float]) -> dict[str, float]:
    """What judged an answer of ours: the reward, and each of its scorers by name; the details of scorers are none."""
    scorers = {
        name: points
        for name, points in parts.items()
        if "/" not in name and not name.startswith(("gate", "failed_")) and 0.0 <= points <= 100.0
    }
    return scorers if value is None else {REWARD: value, **scorers}


def _of_record(record: AnswerRecord) -> Answer:
    return Answer(record.sample_id, record.task, record.kind, record.question, record.choices, record.ground_truth,
                  record.response, record.images, scores_of(record.value, record.parts))  # fmt: skip


def _rollouts(path: Path) -> Iterable[Answer]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ServiceError(400, f"{path.name} of the run is damaged ({type(error).__name__})", "damaged") from None
    for row in rows:
        if row["failure"] is None:
            scores = scores_of(row["value"], json.loads(row["parts"]))
            yield Answer(f"{row['sample_id']} step-{row['step']}", row["task"], row["kind"], row["question"],
                         json.loads(row["choices"]), row["ground_truth"], row["response"], json.loads(row["images"]),
                         scores)  # fmt: skip


def _with_names_of_their_own(answers: Sequence[Answer]) -> list[Answer]:
    """The second answer under a name is called `NAME #2`."""
    seen = Counter[str]()
    found = []
    for answer in answers:
        seen[answer.name] += 1
        again = seen[answer.name]
        found.append(answer if again == 1 else replace(answer, name=f"{answer.name} #{again}"))
    return found
