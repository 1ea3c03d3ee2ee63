"""An episode: its turns, the points that each earned, its score; and its turns as groups, as the learner knows them.

A turn is a group of one response: a prompt of its own with its own images. Its `Score` carries the whole episode's
value and, as parts, the points of the turn alone: what is on disk says all that credit is made of. No torch, no ray.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from data.episode import Start
from data.rollout import Rollout
from data.sample import DrivingSample
from rewards.group import Group, ScoredRollout
from rewards.score import Score


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt, what was answered, and what came of it."""

    sample: DrivingSample
    rollout: Rollout
    points: Mapping[str, float]
    """Weighted measures of this turn, by name."""
    events: tuple[str, ...] = ()
    state: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Episode:
    """One drive from a start."""

    start: Start
    number: int
    """Among those from the same start."""
    turns: list[Turn] = field(default_factory=list)
    failure: str | None = None
    """Why it cannot be scored; begins with the name that it is counted under."""
    record: Mapping[str, Any] | None = None
    trace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Start and number."""
        return f"{self.start.id}#{self.number}"

    @property
    def score(self) -> float:
        """The points of all turns, kept within 0 and 100."""
        return min(100.0, max(0.0, sum(sum(turn.points.values()) for turn in self.turns)))

    def sample(self, question: str, images: Mapping[str, str]) -> DrivingSample:
        """The next turn's question."""
        turn = f"{self.key}t{len(self.turns):03d}"
        return DrivingSample(turn, self.start.id, self.key, "behavior", "open_ended", question, "", dict(images))

    @property
    def groups(self) -> list[Group]:
        """Its turns as groups of one response each."""
        made = []
        for turn in self.turns:
            value = 0.0 if self.failure else self.score
            score = Score(value, dict(turn.points), failure=self.failure)
            made.append(Group(turn.sample, (ScoredRollout(turn.rollout, score, turn.rollout.finished_at),)))
        return made


def discounted(points: Sequence[float], discount: float) -> list[float]:
    """For each turn what it and the later ones earn, a turn later being worth `discount` as much."""
    returns, after = [0.0] * len(points), 0.0
    for turn in range(len(points) - 1, -1, -1):
        after = points[turn] + discount * after
        returns[turn] = after
    return returns


def places(gained: Sequence[float]) -> list[float]:
    """How far an episode had come before each turn, of what it gained in each; falls nowhere."""
    return list(accumulate(accumulate(gained[:-1], initial=0.0), max))


def met(reached: Sequence[Sequence[float]], number: int, turn: int) -> dict[int, int]:
    """The turns that one is compared with, by number of their episode: itself, and each sibling's first at its place.

    Args:
        reached: how far each sibling had come before each of its turns (`places`); to compare turn by turn, 0, 1, ....
        number, turn: episode and turn that are compared. A sibling that never came so far is left out.
    """
    there = {other: bisect_left(theirs, reached[number][turn]) for other, theirs in enumerate(reached)}
    there[number] = turn  # which may be a later one at that place
    return {other: at for other, at in there.items() if at < len(reached[other])}


def by_episode(groups: Sequence[Group]) -> dict[str, dict[str, list[int]]]:
    """Start to episode to the indices of its turns among the groups, in the order in which they were driven."""
    found: dict[str, dict[str, list[int]]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group.sample.scene_id, {}).setdefault(group.sample.frame_id, []).append(index)
    for episodes in found.values():
        for turns in episodes.values():
            turns.sort(key=lambda index: groups[index].sample.id)
    return found
