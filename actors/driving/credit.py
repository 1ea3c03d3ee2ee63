"""What each turn of an episode is worth to the learner: episodes from one start are compared turn by turn.

Every algorithm serves: a turn of the G siblings is to it a group of G responses, and the points from that turn on,
discounted, are their rewards. With a critic the returns are what its values learn to expect of a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from data.settings import EnvironmentSettings
from policies.algorithms.algorithm import Algorithm, Scored
from rewards.episode import by_episode, discounted
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
            returns = {key: self._returns([groups[index] for index in turns]) for key, turns in episodes.items()}
            for turn in range(max(map(len, episodes.values()))):
                present = [key for key, turns in episodes.items() if turn < len(turns)]
                scored = [self._scored(groups[episodes[key][turn]], returns[key][turn]) for key in present]
                credits = self.algorithm.credits(scored)
                rewards = tuple(one.reward for one in scored)
                for key, credit in zip(present, credits, strict=True):
                    index = episodes[key][turn]
                    advantage = () if self.algorithm.over_batch else (fmean(credit) if credit else None,)
                    made[index] = replace(
                        groups[index], shaped_rewards=rewards, credits=(credit,), advantages=advantage
                    )
        return tuple(made)

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
