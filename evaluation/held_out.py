"""Held-out measurement: which questions are asked, the blind control, and what the answers add up to.

Knows data and rewards only; the caller runs the policy and gives its answers. No torch, no ray.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data.errors import DataError
from data.reading.rules import extract_yes_no
from data.sample import DrivingSample, Kind, Task, in_order
from rewards.canaries import CanaryReport
from rewards.format import is_right, valid_format
from rewards.score import Score

FULL_SCORE = 100.0


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer of a policy to a held-out question, with its score; `token_count` counts the response's tokens."""

    sample: DrivingSample
    text: str
    finish_reason: Literal["stop", "length"]
    score: Score
    token_count: int


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class AnswerRecord(_Record):
    """A judged answer as it is kept in `evaluation/<name>.json`, and in the `answers.jsonl` of a benchmark."""

    sample_id: str
    scene_id: str
    task: Task
    kind: Kind
    question: str
    choices: dict[str, str]
    images: dict[str, str]
    """Camera to path of the image that was shown."""
    ground_truth: str
    response: str
    finish_reason: Literal["stop", "length"]
    token_count: int
    value: float
    """Reward on 0-100; of no meaning when `failure` is set."""
    parts: dict[str, float]
    failure: str | None
    setting: str = ""
    """A benchmark's condition under which it was asked, such as `Fog`; empty where there is one."""
    repeat: int = 0
    """Which of a benchmark's repeats this is, from 0."""
    image_tokens: int | None = None
    """Tokens that the images took in the prompt; None where the model does not tell."""
    seconds: float | None = None
    """From the request to the last token, among all that ran at the same time."""


class TaskResult(_Record):
    """What the answers to one task's questions add up to. Shares and accuracies lie in [0, 1], rewards in [0, 100]."""

    samples: int
    """Questions asked."""
    masked: int
    """Questions whose score failed; they count in no reward and no accuracy."""
    reward: float | None
    """Mean reward; None when every score failed."""
    reward_stderr: float | None
    """Standard error of `reward`; None below two scores."""
    choice_samples: int
    """Multiple-choice and yes/no questions among the scored ones."""
    accuracy: float | None
    """Share of those with full reward; None when there are none."""
    majority_accuracy: float | None
    """Accuracy on the same questions of always giving the most frequent ground-truth answer."""
    majority_answer: str | None
    """That answer: for multiple choice a letter or an option's text, whichever is right more often."""
    valid_format: float
    """Share of answers in the format their question asks for (`rewards/format.py`)."""
    response_tokens: float
    """Mean length of a response in tokens."""
    overlong_share: float
    """Share of responses cut off at the token cap."""


class EvaluationResult(_Record):
    """One measurement of one weight version on held-out questions."""

    name: str
    """`before`, `after`, `swapped`, `continued_warm_start`, ..."""
    weight_version: int
    samples: int
    scenes: tuple[str, ...]
    """Ids of the scenes the questions are about."""
    tasks: dict[Task, TaskResult]
    """Tasks without a question are left out."""
    reward: float | None
    """Mean of the tasks' mean rewards, on 0-100."""
    behavior_accuracy: float | None
    """Accuracy of the behavior questions."""
    masked: dict[str, int]
    """Reason to number of answers without a score."""
    answers: tuple[AnswerRecord, ...]
    canaries: CanaryReport | None = None
    """What the judge paid for answers that deserve nothing; None without a judge."""

    def to_json(self) -> str:
        """The result as JSON; `from_json` reads it back unchanged."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> EvaluationResult:
        """Read a result back.

        Raises:
            pydantic.ValidationError: the text is not a result.
        """
        return cls.model_validate_json(text)


def choose(samples: Iterable[DrivingSample], per_task: int, seed: int) -> list[DrivingSample]:
    """At most `per_task` questions of each task, in task order, then by id.

    The choice depends on the ids and the seed only, not on the order in which the samples come.
    """
    by_task: dict[Task, list[DrivingSample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    chosen: list[DrivingSample] = []
    for task in in_order(by_task):
        pool = sorted(by_task[task], key=lambda sample: sample.id)
        drawn = random.Random(f"{seed}/{task}").sample(pool, min(per_task, len(pool)))
        chosen += sorted(drawn, key=lambda sample: sample.id)
    return chosen


def with_swapped_images(samples: Sequence[DrivingSample]) -> list[DrivingSample]:
    """Each question with the images of another scene of the list: what a policy still answers it did not see.

    Every scene lends its frames to exactly one other scene, in a fixed order. `id` and `frame_id` name the loan, so
    that nothing cached for the true images can answer for the swapped ones; `scene_id` stays that of the question.

    Raises:
        DataError: all samples are of one scene.
    """
    frames: dict[str, dict[str, dict[str, str]]] = {}
    for sample in samples:
        frames.setdefault(sample.scene_id, {})[sample.frame_id] = sample.images
    if len(frames) < 2:
        raise DataError(
            "evaluation.swapped_images: images cannot be swapped, because the held-out samples are of one scene: hold "
            "out more of them, or set it to false"
        )
    # Shuffled, because neighbours in the order of ids may have been recorded (or drawn) alike.
    order = sorted(frames)
    random.Random(0).shuffle(order)
    lender = dict(zip(order, order[1:] + order[:1], strict=True))
    frame_order = {scene: sorted(of_scene) for scene, of_scene in frames.items()}
    swapped: list[DrivingSample] = []
    for sample in samples:
        donor = lender[sample.scene_id]
        position = frame_order[sample.scene_id].index(sample.frame_id)
        frame_id = frame_order[donor][position % len(frame_order[donor])]
        mark = f"~images-of-{frame_id}"
        images = dict(frames[donor][frame_id])
        swapped.append(replace(sample, id=sample.id + mark, frame_id=sample.frame_id + mark, images=images))
    return swapped


def summarize(
    name: str, weight_version: int, answers: Sequence[Judged], canaries: CanaryReport | None = None
) -> EvaluationResult:
    """Add up the answers that one weight version gave. Failed scores are counted under `masked` and nowhere else."""
    present = in_order(answer.sample.task for answer in answers)
    tasks = {task: _summarize_task([one for one in answers if one.sample.task == task]) for task in present}
    rewards = [result.reward for result in tasks.values() if result.reward is not None]
    behavior = tasks.get("behavior")
    failures = Counter(failure_name(answer.score.failure) for answer in answers if answer.score.failure is not None)
    return EvaluationResult(
        name=name,
        weight_version=weight_version,
        samples=len(answers),
        scenes=tuple(sorted({answer.sample.scene_id for answer in answers})),
        tasks=tasks,
        reward=statistics.fmean(rewards) if rewards else None,
        behavior_accuracy=behavior.accuracy if behavior else None,
        masked=dict(sorted(failures.items())),
        answers=tuple(_record(answer) for answer in answers),
        canaries=canaries,
    )


def failure_name(failure: str) -> str:
    """The name under which a failed score is counted: what stands before its first colon (scorer: error: details)."""
    return failure.partition(":")[0].strip()


def _summarize_task(answers: Sequence[Judged]) -> TaskResult:
    scored = [answer for answer in answers if answer.score.failure is None]
    values = [answer.score.value for answer in scored]
    choices = [answer for answer in scored if answer.sample.kind in ("multiple_choice", "yes_no")]
    formats = [float(valid_format(answer.sample, answer.text)) for answer in answers]
    right_by_majority, majority_answer = _majority([answer.sample for answer in choices])
    return TaskResult(
        samples=len(answers),
        masked=len(answers) - len(scored),
        reward=_mean(values),
        reward_stderr=statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        choice_samples=len(choices),
        accuracy=_mean([float(is_right(answer.sample, answer.text)) for answer in choices]),
        majority_accuracy=right_by_majority / len(choices) if choices else None,
        majority_answer=majority_answer,
        valid_format=statistics.fmean(formats),
        response_tokens=statistics.fmean(float(answer.token_count) for answer in answers),
        overlong_share=statistics.fmean(float(answer.finish_reason == "length") for answer in answers),
    )


def _majority(samples: Sequence[DrivingSample]) -> tuple[int, str | None]:
    """How many questions the best constant answers get right, and the constant answer for multiple choice.

    The constant is chosen per kind. For multiple choice it is the better of the most frequent letter and the most
    frequent option text: where options are shuffled, a blind policy that learnt "Going ahead." beats any letter.
    """
    lettered = [sample for sample in samples if sample.kind == "multiple_choice"]
    letters = Counter(sample.answer for sample in lettered)
    texts = Counter(sample.choices[sample.answer] for sample in lettered if sample.answer in sample.choices)
    verdicts = (extract_yes_no(sample.answer) for sample in samples if sample.kind == "yes_no")
    closed = Counter("yes" if verdict else "no" for verdict in verdicts if verdict is not None)
    best_of_lettered = max([*_most_common(letters), *_most_common(texts)], key=lambda item: item[1], default=None)
    best_of_closed = next(iter(_most_common(closed)), None)
    best = best_of_lettered or best_of_closed
    right = sum(item[1] for item in (best_of_lettered, best_of_closed) if item is not None)
    return right, best[0] if best else None


def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent entry, the alphabetically first among equals; empty when nothing was counted."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def asked_of(sample: DrivingSample) -> dict[str, Any]:
    """The fields of an `AnswerRecord` that tell what was asked."""
    return {
        "sample_id": sample.id,
        "scene_id": sample.scene_id,
        "task": sample.task,
        "kind": sample.kind,
        "question": sample.question,
        "choices": sample.choices,
        "images": sample.images,
        "ground_truth": sample.answer,
    }


def _record(answer: Judged) -> AnswerRecord:
    return AnswerRecord(
        **asked_of(answer.sample),
        response=answer.text,
        finish_reason=answer.finish_reason,
        token_count=answer.token_count,
        value=answer.score.value,
        parts=answer.score.parts,
        failure=answer.score.failure,
    )
