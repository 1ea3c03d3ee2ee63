"""The records that travel between engines, scorers and learners: requests, rollouts and groups. No ray here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from data.sample import DrivingSample
from policies.advantages import has_zero_deviation
from rewards.score import Score

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How an engine draws one response. Temperature 0 is greedy."""

    temperature: float
    max_tokens: int
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One response wanted from an engine; `request_id` is unique in the run."""

    request_id: str
    sample: DrivingSample
    sampling: SamplingSettings


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response the policy gave.

    `logprobs` are the engine's processed log-probabilities of `token_ids` (temperature and forbidden ids applied);
    `weight_version` is the version that produced all tokens; times are seconds of `time.time()`.
    """

    request_id: str
    sample_id: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    weight_version: int
    engine: str
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with its score and the moment its scoring began."""

    rollout: Rollout
    score: Score
    scoring_started_at: float


@dataclass(frozen=True, slots=True)
class Group:
    """The G scored rollouts of one sample, complete."""

    sample: DrivingSample
    rollouts: tuple[ScoredRollout, ...]
    advantages: tuple[float | None, ...] = field(default=())
    """That of each response (None: masked); empty where advantages are formed over a whole batch, on the learners."""
    shaped_rewards: tuple[float | None, ...] = field(default=())
    """What the algorithm makes of each score, 1.0 for a full one (None: masked, the score failed)."""
    credits: tuple[tuple[float, ...] | None, ...] = field(default=())
    """What it credits each response's tokens with; see `policies.algorithms.algorithm.Algorithm.credits`."""

    @property
    def has_equal_rewards(self) -> bool:
        """Whether the responses cannot be told apart, so that nothing can be learnt from comparing them."""
        return has_zero_deviation(self.shaped_rewards)

    @property
    def rewards(self) -> list[float]:
        """The values of the rollouts whose score did not fail."""
        return [scored.score.value for scored in self.rollouts if scored.score.failure is None]

    @property
    def scoring_overlapped(self) -> bool:
        """Whether some rollout's scoring began before the group's last token was generated."""
        first_scoring = min(scored.scoring_started_at for scored in self.rollouts)
        return first_scoring < max(scored.rollout.finished_at for scored in self.rollouts)
