"""What a gap between engine and learner may be: in float32 of any token, in bfloat16 of all but a few, asked twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool
from actors.supervision.supervisor import Supervised
from actors.weight_probes import ENOUGH, Probes
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import ActorLost, SyncError
from policies.batch import TrainingGroup
from recipe import Recipe

TOKENS = 64
SAMPLES = [DrivingSample(f"q{n}", f"scene{n}", "f", "behavior", "open_ended", "What?", "Go.", {}) for n in range(4)]


class Engine:
    """Answers with log-probabilities of -1; refuses some samples, or is lost over them."""

    def __init__(self, refused: Sequence[str] = (), *, lost: bool = False) -> None:
        self.refused, self.lost, self.seeds = refused, lost, list[int | None]()

    async def stream(
        self, timeout_s: float, method: str, requests: list[GenerationRequest], *, watched: bool
    ) -> AsyncIterator[Rollout | Refusal]:
        self.seeds.append(requests[0].sampling.seed)
        if self.lost:
            raise ActorLost("the engine died")
        for one in requests:
            if one.sample.id in self.refused:
                yield Refusal(one.request_id, one.sample.id, f"no image of {one.sample.id}")
                continue
            logprobs = (-1.0,) * TOKENS
            yield Rollout(one.request_id, one.sample.id, (1,), (7,) * TOKENS, logprobs, "a", "stop", 0, "e", 0.0, 1.0)


class Learners:
    """Strays by `far` on the first `strayed` tokens of everything that it is asked."""

    def __init__(self, far: float = 0.0, strayed: int = 0) -> None:
        self.far, self.strayed, self.asked = far, strayed, list[list[TrainingGroup]]()

    async def log_probs(self, groups: list[TrainingGroup], temperature: float) -> list[list[float]]:
        self.asked.append(groups)
        rows, left = [], self.strayed
        for _ in (response for group in groups for response in group.responses):
            row = [-1.0 + (self.far if token < left else 0.0) for token in range(TOKENS)]
            left = max(0, left - TOKENS)
            rows.append(row)
        return rows


def probes(learners: Learners, dtype: str) -> Probes:
    def requests(samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings) -> list[GenerationRequest]:
        return [GenerationRequest(f"r-{sample.id}", sample, sampling) for sample in samples]

    pool: Any = SimpleNamespace(requests=requests, takes_seeds=True)
    recipe = Recipe.model_validate({"run": {"name": "a"}, "policy": {"dtype": dtype}, "sync": {"max_logprob_gap": 0.1}})
    return Probes(cast(LearnerGroup, learners), cast(EnginePool, pool), recipe, SAMPLES)


def members(*engines: Engine) -> list[Supervised]:
    return cast(list[Supervised], list(engines))


async def test_in_float32_one_token_is_enough_and_is_not_asked_again() -> None:
    engine = Engine()
    with pytest.raises(SyncError, match=r"weight version 3: .*disagree .* by 0\.5 .*max_logprob_gap is 0\.1"):
        await probes(Learners(far=0.5, strayed=1), "float32").gap(members(engine), 3)
    assert engine.seeds == [0]


async def test_in_bfloat16_one_percent_of_many_tokens_may_stray() -> None:
    assert TOKENS * len(SAMPLES) >= ENOUGH
    found = await probes(Learners(far=0.5, strayed=2), "bfloat16").gap(members(Engine()), 3)
    assert found is not None
    assert (found.judged, found.largest, found.tokens) == (0.0, 0.5, TOKENS * len(SAMPLES))


async def test_in_bfloat16_what_strays_is_asked_once_more_with_other_tokens() -> None:
    engine = Engine()
    with pytest.raises(SyncError, match="disagree"):
        await probes(Learners(far=0.5, strayed=20), "bfloat16").gap(members(engine), 3)
    assert engine.seeds == [0, 1]


async def test_of_few_tokens_the_largest_counts_in_bfloat16_too() -> None:
    few = probes(Learners(far=0.5, strayed=1), "bfloat16")
    few._samples = SAMPLES[:1]
    with pytest.raises(SyncError, match="disagree"):
        await few.gap(members(Engine()), 3)


async def test_a_gap_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(SyncError, match="by nan"):
        await probes(Learners(far=float("nan"), strayed=1), "float32").gap(members(Engine()), 3)


async def test_the_engines_answers_to_a_sample_are_one_group() -> None:
    learners = Learners()
    await probes(learners, "float32").gap(members(Engine(), Engine()), 3)
    assert [len(group.responses) for group in learners.asked[0]] == [2] * len(SAMPLES)


async def test_an_engine_that_is_lost_is_left_out_and_without_any_there_is_no_gap() -> None:
    learners = Learners()
    assert await probes(learners, "float32").gap(members(Engine(), Engine(lost=True)), 3) is not None
    assert await probes(learners, "float32").gap(members(Engine(lost=True)), 3) is None


async def test_a_refused_probe_is_done_without_until_none_is_left() -> None:
    asked = probes(Learners(), "float32")
    assert (found := await asked.gap(members(Engine(["q0", "q2"])), 3)) is not None
    assert found.tokens == 2 * TOKENS
    with pytest.raises(DataError, match="no image of q3; no probe is left"):
        await asked.gap(members(Engine(["q1", "q3"])), 4)


async def test_between_full_measurements_float32_asks_about_one_sample_in_turn() -> None:
    learners = Learners()
    asked = probes(learners, "float32")
    for version in range(4):
        found = await asked.gap(members(Engine(), Engine()), version, every=False)
        assert found is not None
        assert found.tokens == 2 * TOKENS
    prompts = [group.responses for groups in learners.asked for group in groups]
    assert [len(responses) for responses in prompts] == [2] * 4
    assert asked._turn == len(SAMPLES)


async def test_one_stray_token_of_the_sample_whose_turn_it_is_stops_the_run() -> None:
    with pytest.raises(SyncError, match="disagree"):
        await probes(Learners(far=0.5, strayed=1), "float32").gap(members(Engine()), 3, every=False)


async def test_in_turn_a_refused_sample_gives_way_to_the_next() -> None:
    asked = probes(Learners(), "float32")
    assert (found := await asked.gap(members(Engine(["q1", "q2"])), 3, every=False)) is not None
    assert found.tokens == TOKENS
    assert "q1" not in {sample.id for sample in asked._samples}


async def test_bfloat16_is_always_asked_about_every_sample() -> None:
    found = await probes(Learners(), "bfloat16").gap(members(Engine()), 3, every=False)
    assert found is not None
    assert found.tokens == TOKENS * len(SAMPLES)
