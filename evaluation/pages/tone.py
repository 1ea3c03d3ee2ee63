"""The colour of a task on a page, as a class of its style sheet. Pure; knows names, no run.

The papers' tasks have colours of their own; a data set's other tasks take the colours of a series in turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from data.sample import TASKS, Task, in_order

COLOURS = (5, 7, 8, 2, 6, 3, 4, 1)
"""Numbers of the style sheet's series, those first that are least like the colours of the papers' tasks."""


def tone(task: Task) -> str:
    """The class that colours a task."""
    return task if task in TASKS else f"own-{task}"


def own_tones(tasks: Iterable[Task]) -> list[tuple[str, int]]:
    """For the tasks of a page that are not the papers': class, and number of its colour."""
    own = [task for task in in_order(tasks) if task not in TASKS]
    return [(tone(task), COLOURS[number % len(COLOURS)]) for number, task in enumerate(own)]
