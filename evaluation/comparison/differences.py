"""How two sets of answers differ: per task, per setting and overall, with paired bootstrap intervals. Pure mathematics.

A difference is B less A. The bootstrap draws scenes anew where there are enough of them, because the questions of one
scene share its images and are not independent (a cluster bootstrap); else it draws questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from data.sample import Task, in_order
from evaluation.bootstrap import Floats, draws, interval
from evaluation.comparison.paired import Pair
from evaluation.held_out import FULL_SCORE

FEWEST_SCENES = 10
"""Below this many scenes their resamples say too little of how scenes vary: questions are drawn instead."""
SAME_WITHIN = 1e-3
"""Values this close, on 0-100, are the same: a model that scores gives no two runs the same last digits."""
HALF_SCORE = FULL_SCORE / 2


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: two means on 0-100 and their difference. Over several tasks, means are means of the tasks' means."""

    questions: int
    a: float
    b: float
    difference: float
    low: float | None
    """Lower end of the 95 % interval of `difference`; None where there is one unit only."""
    high: float | None
    resampled: Literal["scenes", "questions"]
    """What the bootstrap drew."""
    units: int
    """How many of those there are. A question asked under several settings is one."""
    undefined_resamples: int
    """Resamples in which a task had no question, left out of the interval."""
    better: int
    """Questions on which B is above A."""
    worse: int
    same: int
    flips: int
    """Questions on one side of half the full score in A and on the other in B."""
    p: float | None
    """Exact McNemar test: of one task in which every value is 0 or 100 and no question stands twice, under several
    settings; None elsewhere."""


@dataclass(frozen=True, slots=True)
class Differences:
    """All rows; `settings` is empty where there is one setting."""

    tasks: dict[Task, Difference]
    settings: dict[str, Difference]
    overall: Difference


def differences(pairs: Sequence[Pair], resamples: int = 10_000, seed: int = 0) -> Differences:
    """Every row of the comparison; it depends on the pairs and the seed, not on their order.

    Args:
        pairs: at least one.
        resamples: of the bootstrap; more make the intervals steadier.
        seed: of the resampling.
    """
    present = in_order(pair.task for pair in pairs)
    tasks = {task: [pair for pair in pairs if pair.task == task] for task in present}
    settings = {
        name: [pair for pair in pairs if pair.setting == name] for name in dict.fromkeys(p.setting for p in pairs)
    }
    return Differences(
        {task: difference(of_task, resamples, seed) for task, of_task in tasks.items()},
        {name: difference(of, resamples, seed) for name, of in settings.items()} if len(settings) > 1 else {},
        difference(pairs, resamples, seed),
    )


def difference(pairs: Sequence[Pair], resamples: int, seed: int) -> Difference:
    """One row, of at least one pair."""
    tasks = sorted({pair.task for pair in pairs})
    a, b = (_mean_of_tasks(pairs, tasks, value) for value in (_value_a, _value_b))
    by_scene = len({pair.scene_id for pair in pairs}) >= FEWEST_SCENES
    units = [pair.scene_id if by_scene else pair.sample_id for pair in pairs]
    low, high, undefined = _interval(pairs, units, tasks, resamples, seed)
    changes = [pair.change for pair in pairs]
    asked_once = len({pair.sample_id for pair in pairs}) == len(pairs)
    better = sum(change > SAME_WITHIN for change in changes)
    worse = sum(change < -SAME_WITHIN for change in changes)
    return Difference(
        questions=len(pairs),
        a=a,
        b=b,
        difference=b - a,
        low=low,
        high=high,
        resampled="scenes" if by_scene else "questions",
        units=len(set(units)),
        undefined_resamples=undefined,
        better=better,
        worse=worse,
        same=len(pairs) - better - worse,
        flips=sum((pair.value_a >= HALF_SCORE) != (pair.value_b >= HALF_SCORE) for pair in pairs),
        p=mcnemar(pairs) if len(tasks) == 1 and asked_once else None,
    )


def mcnemar(pairs: Sequence[Pair]) -> float | None:
    """The exact two-sided p of McNemar's test: is a question that one run alone has right as likely B's as A's?

    None where a value is neither 0 nor 100; 1 where no question is right in one run alone.
    """
    if any(value not in (0.0, FULL_SCORE) for pair in pairs for value in (pair.value_a, pair.value_b)):
        return None
    gained = sum(pair.value_b > pair.value_a for pair in pairs)
    lost = sum(pair.value_b < pair.value_a for pair in pairs)
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _interval(
    pairs: Sequence[Pair], units: Sequence[str], tasks: Sequence[Task], resamples: int, seed: int
) -> tuple[float | None, float | None, int]:
    """The interval when units are drawn anew, all questions of a unit together; tasks keep their equal weight."""
    # In sorted order, so that the same seed draws the same units whatever order the answers come in.
    place = {unit: index for index, unit in enumerate(sorted(set(units)))}
    if len(place) < 2:
        return None, None, 0
    sums_U_T, counts_U_T = np.zeros((len(place), len(tasks))), np.zeros((len(place), len(tasks)))
    for pair, unit in zip(pairs, units, strict=True):
        at = place[unit], tasks.index(pair.task)
        sums_U_T[at] += pair.change
        counts_U_T[at] += 1
    found: list[Floats] = []
    for drawn_R_U in draws(len(place), resamples, seed):
        with np.errstate(invalid="ignore"):  # a task without a question in a resample is 0/0: NaN, left out and counted
            means_R_T = sums_U_T[drawn_R_U].sum(axis=1) / counts_U_T[drawn_R_U].sum(axis=1)
        found.append(means_R_T.mean(axis=1))
    return interval(np.concatenate(found))


def _mean_of_tasks(pairs: Sequence[Pair], tasks: Sequence[Task], value: Callable[[Pair], float]) -> float:
    return float(np.mean([np.mean([value(pair) for pair in pairs if pair.task == task]) for task in tasks]))


def _value_a(pair: Pair) -> float:
    return pair.value_a


def _value_b(pair: Pair) -> float:
    return pair.value_b
