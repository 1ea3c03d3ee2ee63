"""Which samples are trained on, which are held out, and in what order training draws them."""

from __future__ import annotations

import difflib
import math
import random
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.errors import DataError
from data.sample import ANY, TASKS, DrivingSample, in_order
from data.sample_store import StoredSamples, chosen, scenes_of, tasks_of


@dataclass(frozen=True, slots=True)
class Split:
    """Training and held-out samples; no scene, frame or image is on both sides."""

    train: Sequence[DrivingSample]
    held_out: Sequence[DrivingSample]


def split_by_scene(samples: Sequence[DrivingSample], held_out: float, seed: int) -> Split:
    """Split by scene, never by question: questions of one scene share its images and answers.

    Args:
        samples: kept in their order on each side.
        held_out: share of the scenes, rounded, but at least one scene on each side.
        seed: which scenes are held out; depends on the set of scene ids, not on the samples' order.

    Raises:
        DataError: `held_out` is not between 0 and 1, there are fewer than two scenes, or a frame or an image belongs
            to scenes on both sides.
    """
    scenes = sorted(set(scenes_of(samples)))
    if not 0 < held_out < 1:
        raise DataError(f"data.held_out must lie between 0 and 1 (both excluded), got {held_out}")
    if len(scenes) < 2:
        raise DataError(
            f"a split by scene needs at least two scenes, one to train on and one to hold out; the data hold "
            f"{len(scenes)} ({', '.join(scenes) or 'none'})"
        )
    random.Random(f"split/{seed}").shuffle(scenes)
    count = min(max(round(held_out * len(scenes)), 1), len(scenes) - 1)
    apart = set(scenes[:count])
    split = Split(
        train=chosen(samples, (index for index, scene in enumerate(scenes_of(samples)) if scene not in apart)),
        held_out=chosen(samples, (index for index, scene in enumerate(scenes_of(samples)) if scene in apart)),
    )
    check_disjoint(split)
    return split


def check_disjoint(split: Split) -> None:
    """Check that nothing held out can have been seen in training.

    Raises:
        DataError: names a scene, frame or image that is on both sides.
    """
    train, apart = split.train, split.held_out
    if isinstance(train, StoredSamples) and isinstance(apart, StoredSamples) and not train.may_share(apart):
        return  # hashes show that nothing is shared; reading all samples again takes long
    held_out, shared = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for sample in split.held_out:
        for what, names in _apart(sample):
            held_out[what].update(names)
    for sample in split.train:
        for what, names in _apart(sample):
            shared[what].update(held_out[what].intersection(names))
    for what, names in shared.items():
        if names:
            raise DataError(
                f"{len(names)} {what}(s) are in the training and in the held-out part, first {min(names)}: "
                f"ids and images must belong to one scene only"
            )


def _apart(sample: DrivingSample) -> tuple[tuple[str, Iterable[str]], ...]:
    """What of a sample may be on one side alone, by its name in messages."""
    return ("scene_id", [sample.scene_id]), ("frame_id", [sample.frame_id]), ("image", sample.images.values())


class Order(Protocol):
    """An endless draw that training takes its prompts from; its whole state is its position."""

    position: int

    def take(self, count: int) -> list[DrivingSample]:
        """The next `count` samples."""


class TaskBalancedOrder:
    """An endless, deterministic draw of training samples in which tasks keep to their shares.

    Any prefix of n draws holds each task its share of n times, give or take two draws. Inside a task, samples
    come in shuffled passes, every sample once per pass, so a task of nine questions is drawn as often as one of
    hundreds. The state is `position` alone: an order built with the same arguments and `position=p` goes on where
    another stood after p draws.
    """

    def __init__(
        self, samples: Sequence[DrivingSample], task_shares: Mapping[str, float], seed: int, position: int = 0
    ) -> None:
        """Prepare the draw.

        Raises:
            DataError: a share is negative or not finite, all are zero, or a task that is named has no sample.
        """
        self._samples = samples
        self._pools: dict[str, array[int]] = defaultdict(lambda: array("I"))
        for index, task in enumerate(tasks_of(samples)):
            self._pools[task].append(index)
        self._shares = _normalised(task_shares, in_order(self._pools))
        self._seed = seed
        self._drawn = dict.fromkeys(self._shares, 0)
        self._passes: dict[str, tuple[int, array[int]]] = {}
        self.position = 0
        for _ in range(position):
            self._advance()

    def __iter__(self) -> Iterator[DrivingSample]:
        """Draw without end."""
        while True:
            yield self.draw()

    def draw(self) -> DrivingSample:
        """The next sample."""
        task, number = self._advance()
        pool = self._pools[task]
        current, place = divmod(number, len(pool))
        if task not in self._passes or self._passes[task][0] != current:
            shuffled = pool[:]
            random.Random(f"order/{self._seed}/{task}/{current}").shuffle(shuffled)
            self._passes[task] = (current, shuffled)
        return self._samples[self._passes[task][1][place]]

    def take(self, count: int) -> list[DrivingSample]:
        """The next `count` samples."""
        return [self.draw() for _ in range(count)]

    def _advance(self) -> tuple[str, int]:
        """The task of the next draw, the one furthest behind its share, and how often it was drawn before."""
        self.position += 1
        task = max(self._shares, key=lambda name: self._shares[name] * self.position - self._drawn[name])
        number = self._drawn[task]
        self._drawn[task] += 1
        return task, number


def with_a_share(samples: Sequence[DrivingSample], task_shares: Mapping[str, float]) -> Sequence[DrivingSample]:
    """The samples of tasks that are trained on."""
    others = task_shares.get(ANY, 0.0)
    return chosen(samples, (i for i, task in enumerate(tasks_of(samples)) if task_shares.get(task, others) > 0))


def _normalised(task_shares: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """The shares above zero of the tasks that the samples have, in their order, summing to one."""
    for name, share in task_shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise DataError(f"data.task_shares.{name} must be 0 or a positive number, got {share}")
        if name not in (ANY, *tasks):
            _refuse_unknown(name, share, tasks)
    others = task_shares.get(ANY, 0.0)
    shares = {task: task_shares.get(task, others) for task in tasks}
    total = sum(shares.values())
    if total == 0:
        raise DataError(
            f"data.task_shares gives no task of the data a share above 0 (they are: {', '.join(tasks)}): set "
            f"data.task_shares.{tasks[0] if tasks else ANY}=1, or data.task_shares.{ANY}=1 for all that are not named"
        )
    return {task: share / total for task, share in shares.items() if share > 0}


def _refuse_unknown(name: str, share: float, tasks: Sequence[str]) -> None:
    """A task that is named and has no sample: a share of 0 asks for nothing, if it is not a slip of the pen."""
    close = [] if name in TASKS else difflib.get_close_matches(name, [*tasks, *TASKS], n=1)
    if share == 0 and not close:
        return
    hint = f"did you mean {close[0]}?" if close else f"tasks: {', '.join(tasks) or 'none'}"
    remedy = "" if close else f"; set data.task_shares.{name}=0 to go on without it"
    raise DataError(f"data.task_shares names {name}, but no training sample has that task ({hint}){remedy}")
