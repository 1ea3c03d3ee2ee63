"""What runs of several seeds reached: means with intervals. Pure numbers; reads no file, starts nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from scipy.stats import t as student

from data.sample import TASKS, in_order
from evaluation.held_out import EvaluationResult

CONFIDENCE = 0.95

Rewards = list[dict[str, float]]
"""For each seed the reward of each task, their `mean`, and `behavior_accuracy` in percent."""
Figure = dict[str, float | None]
"""`mean`, and the `half_width` of its 95 % interval over the seeds; None where there is none."""


def rewards_of(results: Sequence[EvaluationResult]) -> Rewards:
    """What the runs of a recipe reached, one row a seed."""
    rewards = []
    for result in results:
        found = {str(task): of_task.reward for task, of_task in result.tasks.items() if of_task.reward is not None}
        accuracy = {} if result.behavior_accuracy is None else {"behavior_accuracy": 100 * result.behavior_accuracy}
        rewards.append(found | ({"mean": fmean(found.values())} if found else {}) | accuracy)
    return rewards


def of_specialists(found: Mapping[str, Sequence[EvaluationResult]]) -> dict[str, Rewards]:
    """Where recipes `NAME_TASK` are there for all of the papers' tasks: `NAME`, each task by the run that learnt it."""
    names = {name.removesuffix(f"_{TASKS[0]}") for name in found if name.endswith(f"_{TASKS[0]}")}
    whole = {name for name in names if all(f"{name}_{task}" in found for task in TASKS) and name != "without"}
    specialists: dict[str, Rewards] = {}
    for name in whole:
        of_tasks = {task: rewards_of(found[f"{name}_{task}"]) for task in TASKS}
        seeds = range(min(map(len, of_tasks.values())))
        own = [{str(task): of_tasks[task][seed][task] for task in TASKS} for seed in seeds]
        accuracy = [{"behavior_accuracy": of_tasks["behavior"][seed]["behavior_accuracy"]} for seed in seeds]
        specialists[name] = [row | {"mean": fmean(row.values())} | accuracy[seed] for seed, row in enumerate(own)]
    return specialists


def columns_of(rewards: Mapping[str, Rewards]) -> list[str]:
    """The columns of a table of some recipes: their tasks, the mean, and behavior's accuracy where it was measured."""
    there = {column for rows in rewards.values() for row in rows for column in row}
    last = [column for column in ("mean", "behavior_accuracy") if column in there]
    return [*in_order(there.difference(last)), *last]


def of_recipe(rewards: Rewards, columns: Sequence[str]) -> dict[str, Figure]:
    """Mean and half width of the interval of every column."""
    return {column: interval([row[column] for row in rewards if column in row]) for column in columns}


def interval(values: Sequence[float]) -> Figure:
    """The mean of some seeds and the half width of its interval by Student's t; None where there is none."""
    if not values:
        return {"mean": None, "half_width": None}
    if len(values) == 1:
        return {"mean": values[0], "half_width": None}
    width = float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return {"mean": fmean(values), "half_width": width}
