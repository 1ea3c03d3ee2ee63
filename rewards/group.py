"""A policy's answers with their scores: one rollout, and the group of one question."""

from __future__ import annotations

from dataclasses import dataclass, field

from data.rollout import Rollout
from data.sample import DrivingSample
from rewards.score import Score


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with its score and the moment its scoring began."""

    rollout: Rollout
    score: Score
    scoring_started_at: float
    scored_at: float | None = None
    """When it had that score; None where nobody kept it."""


@dataclass(frozen=True, slots=True)
class Group:
    """The G scored rollouts of one sample, complete."""

    sample: DrivingSample
    rollouts: tuple[ScoredRollout, ...]
    advantages: tuple[float | None, ...] = field(default=())
    """That of each response (None: masked); empty where advantages are formed over a whole batch, on the learners."""
    shaped_rewards: tuple[float | None, ...] = field(default=())
    """The reward that the algorithm learns from, for each response; 1.0 is full, None masked (the score failed)."""
    credits: tuple[tuple[float, ...] | None, ...] = field(default=())
    """The algorithm's credit for each token of each response; see `policies.algorithms.algorithm.Algorithm.credits`."""

    @property
    def has_equal_rewards(self) -> bool:
        """Whether all rewards are equal: then comparing the responses teaches nothing."""
        return len({reward for reward in self.shaped_rewards if reward is not None}) <= 1

    @property
    def rewards(self) -> list[float]:
        """The values of the rollouts whose score did not fail."""
        return [scored.score.value for scored in self.rollouts if scored.score.failure is None]

    @property
    def scoring_overlapped(self) -> bool:
        """Whether some rollout's scoring began before the group's last token was generated."""
        first_scoring = min(scored.scoring_started_at for scored in self.rollouts)
        return first_scoring < max(scored.rollout.finished_at for scored in self.rollouts)
