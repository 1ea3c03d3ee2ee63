"""What is asked of a policy, and what it answered: the records that travel between engines, scorers and learners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.sample import DrivingSample

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
