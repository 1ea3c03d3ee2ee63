"""What is asked of a policy, and what it answered: the records that travel between engines, scorers and learners."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

from data.sample import DrivingSample

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How an engine draws one response. Temperature 0 is greedy."""

    temperature: float
    max_tokens: int
    seed: int | None = None
    top_p: float = 1.0
    """Sample from the likeliest tokens that hold this share alone; 1: from all."""
    top_k: int = 0
    """Sample from this many of the likeliest tokens alone; 0: from all."""

    def as_dict(self) -> dict[str, float | int | None]:
        """What is set of it, as records keep it; of cuts only those that cut."""
        cuts = {"top_p": self.top_p} if self.top_p < 1 else {}
        kept = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": self.seed}
        return {**kept, **cuts, **({"top_k": self.top_k} if self.top_k > 0 else {})}


def seed_of(run_seed: int, draw: str, sample_id: str, index: int) -> int:
    """The seed of one response, from 0 to 2^63 - 1: it depends on nothing but what was asked.

    So neither the order in which requests arrive, nor the number of engines, nor an engine that is lost over it changes
    what is drawn.

    Args:
        run_seed: the run's.
        draw: what the response is for, such as `step 3`.
        sample_id: of the question.
        index: of the response among those to that question.
    """
    named = json.dumps([run_seed, draw, sample_id, index])
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One response wanted from an engine; `request_id` is unique in the run."""

    request_id: str
    sample: DrivingSample
    sampling: SamplingSettings


class WeightSpan(NamedTuple):
    """The tokens of a response, from `start` up to `end`, that one weight version sampled."""

    version: int
    start: int
    end: int


class EngineTimes(NamedTuple):
    """Where the seconds of a response went, one after the other, from where its engine took the request up."""

    prepare_s: float
    """Until its prompt was made, images processed; requests of one prompt wait for it together."""
    queue_s: float
    """Until the engine took it in hand."""
    prefill_s: float
    """Until its first token."""
    decode_s: float
    """From there to its last."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response the policy gave.

    `logprobs` are the engine's processed log-probabilities of `token_ids` (temperature and forbidden ids applied), each
    of the weights that sampled the token; `weight_version` is the oldest version that sampled one; times are seconds of
    `time.time()`.
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
    seed: int | None = None
    """The seed that the request named; set by the pool."""
    weight_spans: tuple[WeightSpan, ...] = ()
    """Which version sampled which tokens, where weights were swapped amid the response; empty: one sampled all."""
    dropped: int = 0
    """How often it was begun before, and dropped for newer weights (`rollout.in_flight: drop`)."""
    times: EngineTimes | None = None
    """Where its seconds went; None where the engine does not say."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that an engine cannot answer, now or later: an image is missing or damaged, the prompt is too long."""

    request_id: str
    sample_id: str
    why: str
    """One sentence, for a person."""
