"""The sequential cascade (AutoDriveRL, G.1): each task's question comes with what was answered in the tasks before it.

In training those are the true answers of the frame; a measurement gives the model's own. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from data.sample import TASKS, DrivingSample, Task

Said = tuple[str, str]
"""A question of an earlier task, and what was answered."""

Place = tuple[str, str, Task]
"""A scene, a frame of it, and a task."""

HEADING = "Answered before about this scene:"


def in_context(sample: DrivingSample, earlier: Sequence[Said]) -> DrivingSample:
    """The sample with earlier answers written before its question; as it is where there are none."""
    if not earlier:
        return sample
    lines = [f"- {question} {answer}" for question, answer in earlier]
    return replace(sample, question="\n".join([HEADING, *lines, sample.question]))


def earlier_answers(sample: DrivingSample, said: Mapping[Place, Said]) -> list[Said]:
    """What was answered about the sample's frame in the tasks before its own; only the papers' four have an order."""
    before = TASKS[: TASKS.index(sample.task)] if sample.task in TASKS else ()
    places = [(sample.scene_id, sample.frame_id, task) for task in before]
    return [said[place] for place in places if place in said]


def first_answers(answered: Iterable[tuple[DrivingSample, str]]) -> dict[Place, Said]:
    """The first question of each task of each frame with its answer; an option letter is followed by its text."""
    said: dict[Place, Said] = {}
    for sample, answer in answered:
        option = sample.choices.get(answer.strip(" ."))
        spelled = answer if option is None else f"{answer.strip(' .')}. {option}"
        said.setdefault((sample.scene_id, sample.frame_id, sample.task), (sample.question, spelled))
    return said


def cascaded(samples: Sequence[DrivingSample]) -> tuple[DrivingSample, ...]:
    """Every sample in the context of the true answers to its frame's earlier tasks."""
    said = first_answers((sample, sample.answer) for sample in samples)
    return tuple(in_context(sample, earlier_answers(sample, said)) for sample in samples)
