"""The colour of a task on a page, as a class of its style sheet. Pure; knows names, no run.

The papers' tasks have colours of their own; a data set's other tasks take the colours of a series in turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from data.sample import TASKS, Task, in_order

STYLES = 8
"""Colours that series take in turn."""


def tone(task: Task) -> str:
    """The class that colours a task."""
    return task if task in TASKS else f"own-{task}"


def own_tones(tasks: Iterable[Task]) -> list[tuple[str, int]]:
    """For the tasks of a page that are not the papers': class, and number of its colour from 1 on."""
    own = [task for task in in_order(tasks) if task not in TASKS]
    return [(tone(task), number % STYLES + 1) for number, task in enumerate(own)]
