"""What each turn of an episode is worth to the learner: it is compared with the siblings' turns at the same place.

Every algorithm serves: a turn and those that it is compared with are to it a group of responses, and the points from
there on, discounted, are their rewards. With a critic the returns are what its values learn to expect of a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from data.settings import EnvironmentSettings
from policies.algorithms.algorithm import Algorithm, Scored
from rewards.episode import by_episode, discounted, met, places
from rewards.group import Group

FULL = 100.0


class EpisodeCredit:
    """Values turns as one algorithm does."""

    def __init__(self, algorithm: Algorithm, settings: EnvironmentSettings, cap: int) -> None:
        """`cap`: most tokens that a response may have."""
        self.algorithm, self._settings, self._cap = algorithm, settings, cap

    def of_batch(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """The turns of a batch with what they are worth."""
        groups = list(groups)
        made = list(groups)
        for episodes in by_episode(groups).values():
            drives = [[groups[index] for index in turns] for turns in episodes.values()]
            returns, reached = [self._returns(drive) for drive in drives], [self._places(drive) for drive in drives]
            for number, turns in enumerate(episodes.values()):
                for turn, index in enumerate(turns):
                    there = met(reached, number, turn)
                    scored = [self._scored(drives[one][at], returns[one][at]) for one, at in there.items()]
                    credit = self.algorithm.credits(scored)[list(there).index(number)]
                    advantage = () if self.algorithm.over_batch else (fmean(credit) if credit else None,)
                    rewards = tuple(one.reward for one in scored)
                    made[index] = replace(
                        groups[index], shaped_rewards=rewards, credits=(credit,), advantages=advantage
                    )
        return tuple(made)

    def _places(self, turns: Sequence[Group]) -> list[float]:
        """How far the episode had come before each turn: its number, or points of progress so far."""
        if self._settings.credit != "place":
            return [float(turn) for turn in range(len(turns))]
        return places([group.rollouts[0].score.parts.get(self._settings.place, 0.0) for group in turns])

    def _returns(self, turns: Sequence[Group]) -> list[float | None]:
        """The reward of each turn, 1.0 being 100 points; None where the episode cannot be scored."""
        scores = [group.rollouts[0].score for group in turns]
        if any(score.failure is not None for score in scores):
            return [None] * len(scores)
        if self._settings.credit == "episode":
            return [score.value / FULL for score in scores]
        points = [sum(score.parts.values()) / FULL for score in scores]
        return list(discounted(points, self._settings.discount))

    def _scored(self, group: Group, value: float | None) -> Scored:
        length = len(group.rollouts[0].rollout.token_ids)
        return Scored(None if value is None else self.algorithm.reward(value, length, self._cap), length)
