"""How difficult a frame is: AutoDriveRL's D_i (Eq. 1) from judged answers, and the bands. Pure functions.

The caller gives the scores; nothing is judged here. The paper's body and its Appendix C differ: the body says that
6K samples are drawn and names Qwen2-VL, the appendix draws 1,000 frames and names Qwen2.5-VL. Here frames are drawn
and the models are named by the caller. The bands overlap (25 to 31), so what was trained on leaves the hard set.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from data.errors import DataError
from data.sample import DrivingSample, Task, in_order

K = 8
"""Answers sampled from each model for each question."""
TRAINING_BAND = (25.0, 45.0)
"""D of the frames to train on, by one model (Align-DS-V), both ends included."""
HARD_BAND = (10.0, 31.0)
"""D of DriveLM-Hard's frames, mean of three models, both ends included."""
TRAINING_FRAMES = 1000

NO_SCORE = "no_score"
FEWER_SCORES = "fewer_scores"

ScoreTable = Mapping[str, Mapping[str, Sequence[float]]]
"""Model to sample id to the scores (0-100) of its answers."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """D (0-100, low is hard) of every frame that has a question scored by all models.

    `dropped` lists the questions that count nowhere, `kept_with_fault` those used in spite of a fault, by reason.
    """

    frames: dict[str, float]
    dropped: dict[str, list[str]]
    kept_with_fault: dict[str, list[str]]
    by_model: dict[str, dict[str, float]]
    """Model to frame to what D would be by that model alone, over the same questions."""


@dataclass(frozen=True, slots=True)
class TaskDifficulty:
    """The mean score (0-100) of a task's questions: by each model, and over the models."""

    questions: int
    by_model: dict[str, float]
    mean: float


def question_score(scores: ScoreTable, models: Sequence[str], sample_id: str) -> float | None:
    """The inner two means of Eq. 1: over a model's answers, then over the models; None when a model has no score."""
    of_models = [scores[model].get(sample_id, ()) for model in models]
    return statistics.fmean(map(statistics.fmean, of_models)) if all(of_models) else None


def frame_difficulty(
    samples: Iterable[DrivingSample], scores: ScoreTable, models: Sequence[str], answers_per_model: int = K
) -> Difficulty:
    """D_i of Eq. 1: the mean over a frame's questions of the mean over models of the mean over answers.

    A question that a model has no score for is left out (`no_score`); one with fewer than `answers_per_model` scores is
    used with those it has (`fewer_scores`). A frame whose questions are all left out has no D.

    Raises:
        DataError: no model, or one without a table, is named, or a score is not a number from 0 to 100.
    """
    unknown = [model for model in models if model not in scores]
    if unknown or not models:
        raise DataError(
            f"difficulty is asked of {', '.join(unknown) or 'no model'}, but there are scores of "
            f"{', '.join(sorted(scores)) or 'none'}; name models that were scored"
        )
    dropped: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, list[str]] = defaultdict(list)
    by_frame: dict[str, list[float]] = defaultdict(list)
    of_models: dict[str, dict[str, list[float]]] = {model: defaultdict(list) for model in models}
    for sample in samples:
        _check_range(scores, models, sample.id)
        value = question_score(scores, models, sample.id)
        if value is None:
            dropped[NO_SCORE].append(sample.id)
            continue
        if any(len(scores[model][sample.id]) < answers_per_model for model in models):
            kept[FEWER_SCORES].append(sample.id)
        by_frame[sample.frame_id].append(value)
        for model in models:
            of_models[model][sample.frame_id].append(statistics.fmean(scores[model][sample.id]))
    by_model = {model: _means(values) for model, values in of_models.items()}
    return Difficulty(_means(by_frame), dict(dropped), dict(kept), by_model)


def task_difficulty(
    samples: Iterable[DrivingSample], scores: ScoreTable, models: Sequence[str]
) -> dict[Task, TaskDifficulty]:
    """How well each task's questions were answered, in task order; questions that a model has no score for count not.

    A task without a scored question is left out.
    """
    by_task: dict[Task, list[str]] = defaultdict(list)
    for sample in samples:
        if all(scores[model].get(sample.id) for model in models):
            by_task[sample.task].append(sample.id)
    found: dict[Task, TaskDifficulty] = {}
    for task in in_order(by_task):
        ids = by_task[task]
        by_model = {model: statistics.fmean(statistics.fmean(scores[model][id_]) for id_ in ids) for model in models}
        found[task] = TaskDifficulty(len(ids), by_model, statistics.fmean(by_model.values()))
    return found


def frames_within(frames: Mapping[str, float], band: tuple[float, float]) -> tuple[str, ...]:
    """The frames whose D lies in a band, both ends included, in the order of their ids.

    Raises:
        DataError: the band's ends are not in order, or lie where no D does.
    """
    low, high = band
    if not 0.0 <= low <= high <= 100.0:
        raise DataError(f"a difficulty band needs its lower end first and both from 0 to 100, got [{low:g}, {high:g}]")
    return tuple(sorted(frame for frame, value in frames.items() if low <= value <= high))


def draw_frames(frames: Collection[str], count: int, seed: int) -> tuple[str, ...]:
    """This many frames at random, in the order of their ids, or all where there are no more.

    Depends on the set of ids and the seed, not on their order.
    """
    pool = sorted(set(frames))
    return tuple(sorted(random.Random(f"frames/{seed}").sample(pool, min(count, len(pool)))))


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.fmean(of_name) for name, of_name in values.items()}


def _check_range(scores: ScoreTable, models: Sequence[str], sample_id: str) -> None:
    for model in models:
        for value in scores[model].get(sample_id, ()):
            if not (math.isfinite(value) and 0.0 <= value <= 100.0):
                raise DataError(f"{model} has the score {value} for {sample_id}; scores are numbers from 0 to 100")
