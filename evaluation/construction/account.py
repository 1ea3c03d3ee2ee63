"""The account of a constructed set, for `construction.json` and the report: what was read, lost and kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.difficulty import task_difficulty
from data.faults import ANSWER_NOT_AN_OPTION, OUTSIDE_IMAGE, Faults
from data.filtering import (
    CONTRADICTING_ANSWERS,
    DUPLICATE_OPTIONS,
    EMPTY_TEXT,
    EXCLUSIVE_OPTION,
    REPEATED_QUESTION,
    UNKNOWN_OBJECT,
    Constructed,
    action_counts,
)
from data.frame_ids import NamedFrames
from data.sample import DrivingSample, Task, in_order
from evaluation.construction.record import (
    Construction,
    ConstructionSettings,
    Extent,
    FrameScores,
    InputFile,
    LeftOut,
    ModelSummary,
    TaskScores,
)
from evaluation.construction.score_table import ModelScores

OWN_FAULTS = (
    EMPTY_TEXT,
    ANSWER_NOT_AN_OPTION,
    DUPLICATE_OPTIONS,
    EXCLUSIVE_OPTION,
    OUTSIDE_IMAGE,
    UNKNOWN_OBJECT,
    REPEATED_QUESTION,
    CONTRADICTING_ANSWERS,
)
"""Reasons that lie in a question; the others lie in its frame, its scores or the draw."""


def account(
    settings: ConstructionSettings,
    inputs: Sequence[InputFile],
    samples: Sequence[DrivingSample],
    faults: Faults,
    made: Constructed,
    scores: Sequence[ModelScores],
    kept_out: Iterable[tuple[str, Path, NamedFrames]],
    samples_sha256: str,
) -> Construction:
    """The record of a set.

    Args:
        settings: what was asked for.
        inputs: the files it depends on.
        samples: what was read.
        faults: what was wrong with the entries that were read.
        made: the set.
        scores: the models' scores on the samples.
        kept_out: the option, the path and the frames of each file whose frames were kept out.
        samples_sha256: over the file that was written.
    """
    chosen = {sample.frame_id for sample in made.chosen}
    frames = {sample.frame_id for sample in samples}
    return Construction(
        settings=settings,
        inputs=tuple(inputs),
        source=_extent(samples),
        candidates=_extent(made.candidates),
        chosen=_extent(made.chosen),
        result=_extent(made.samples),
        repeated=made.repeated,
        unread={reason: list(ids) for reason, ids in faults.dropped.items()},
        read_with_fault=_counted(faults.kept),
        dropped=_counted(made.dropped),
        faulty={reason: ids for reason, ids in made.dropped.items() if reason in OWN_FAULTS},
        scored_with_fault=_counted(made.difficulty.kept_with_fault),
        left_out=tuple(
            LeftOut(role=role, name=path.name, frames=len(named.ids), met=len(named.ids & frames))
            for role, path, named in kept_out
        ),
        scores=tuple(map(_summary, scores)),
        task_scores=_task_scores(made.candidates, scores),
        chosen_task_scores=_task_scores(made.chosen, scores),
        frames={
            frame: FrameScores(
                difficulty=value,
                by_model={model: of_frames[frame] for model, of_frames in made.difficulty.by_model.items()},
                chosen=frame in chosen,
            )
            for frame, value in sorted(made.difficulty.frames.items())
        },
        samples_sha256=samples_sha256,
    )


def _summary(one: ModelScores) -> ModelSummary:
    return ModelSummary(
        name=one.name,
        model=one.model,
        judge=one.judge,
        answers=one.answers,
        failures=one.failures,
        of_other_samples=one.of_other_samples,
    )


def _extent(samples: Sequence[DrivingSample]) -> Extent:
    tasks = Counter(sample.task for sample in samples)
    return Extent(
        samples=len(samples),
        frames=len({sample.frame_id for sample in samples}),
        scenes=len({sample.scene_id for sample in samples}),
        tasks={task: tasks[task] for task in in_order(tasks)},
        actions=action_counts(samples),
    )


def _task_scores(samples: Sequence[DrivingSample], scores: Sequence[ModelScores]) -> dict[Task, TaskScores]:
    table = {one.name: one.scores for one in scores}
    found = task_difficulty(samples, table, list(table)) if table else {}
    return {
        task: TaskScores(questions=one.questions, by_model=one.by_model, mean=one.mean) for task, one in found.items()
    }


def _counted(listed: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {reason: len(ids) for reason, ids in listed.items()}
