"""Which engine gets which requests: groups go whole to the one with the least to do, none gets more than it can use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.rollout.engine import engine_of, in_flight_of
from actors.rollout.pool import EnginePool
from actors.rollout.shared_prompts import SharedPrompts
from actors.supervision.care import Counts
from actors.supervision.supervisor import Supervisor
from data.errors import DataError
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from data.sample import CAMERAS, DrivingSample
from extension import ExtensionError
from failures import ActorLost, RolloutExhausted
from recipe import Recipe, RecipeError, load_recipe

SAMPLING = SamplingSettings(1.0, 8)


def sample(number: int) -> DrivingSample:
    return DrivingSample(
        id=f"s{number}",
        scene_id="scene",
        frame_id="frame",
        task="planning",
        kind="open_ended",
        question="What now?",
        answer="Stop.",
        images={camera: f"/{camera}.jpg" for camera in CAMERAS},
    )


def rollout(request: GenerationRequest) -> Rollout:
    return Rollout(request.request_id, request.sample.id, (1,), (2,), (-0.1,), "a", "stop", 0, "e", 0.0, 1.0)


@dataclass
class Engine:
    """Answers `at_once` requests of a call together, and notes the calls."""

    index: int
    at_once: int = 4
    load: int = 0
    calls: list[list[str]] = field(default_factory=list)
    most: int = 0
    dies_in_call: int | None = None
    why: str = "dead"

    async def stream(self, timeout_s: float, method: str, requests: list[GenerationRequest]) -> AsyncIterator[Any]:
        self.calls.append([request.sample.id for request in requests])
        self.most = max(self.most, self.load)
        for start in range(0, len(requests), self.at_once):
            await asyncio.sleep(0)
            if self.dies_in_call == len(self.calls) and start:
                raise ActorLost(f"engine {self.index} died")
            yield [rollout(one) for one in requests[start : start + self.at_once]]


def pool(*engines: Engine, decoded_at_once: int | None = None) -> EnginePool:
    async def choose(timeout_s: float) -> Engine:
        return min(engines, key=lambda one: one.load)

    care = SimpleNamespace(start_timeout_s=60.0)
    supervisor = SimpleNamespace(
        healthy=list(engines), members=list(engines), care=care, counts=Counts(), choose=choose
    )
    return EnginePool(cast(Supervisor, supervisor), 60.0, 3, decoded_at_once=decoded_at_once)


async def answered(asked: EnginePool, groups: int, count: int) -> list[str]:
    found: list[str] = []
    requests = asked.requests([sample(number) for number in range(groups)], count, SAMPLING)
    await asked.generate(requests, lambda one: found.append(one.request_id))
    assert sorted(found) == sorted(request.request_id for request in requests)
    return found


async def test_a_sample_stays_on_one_engine_and_all_engines_get_alike() -> None:
    first, second = Engine(0), Engine(1)
    await answered(pool(first, second), 6, 4)
    (one,), (other,) = first.calls, second.calls
    assert not set(one) & set(other)
    assert len(one) == len(other) == 12


async def test_the_engine_with_less_to_do_gets_more() -> None:
    busy, idle = Engine(0, load=8), Engine(1)
    await answered(pool(busy, idle), 6, 4)
    assert (len(busy.calls[0]), len(idle.calls[0])) == (8, 16)


async def test_an_engine_gets_twice_what_it_decodes_at_once_and_the_rest_as_answers_come() -> None:
    slow, fast = Engine(0, at_once=1), Engine(1, at_once=8)
    await answered(pool(slow, fast, decoded_at_once=4), 20, 4)
    assert max(slow.most, fast.most) <= 2 * 4
    assert sum(map(len, fast.calls)) > sum(map(len, slow.calls)), "the faster one takes more of them"


async def test_what_a_lost_engine_had_not_answered_is_sent_again() -> None:
    dying, other = Engine(0, dies_in_call=1), Engine(1)
    asked = pool(dying, other)
    await answered(asked, 4, 4)
    assert asked.counts.retried == 4


async def test_a_request_that_every_engine_is_lost_over_ends_the_run_by_name() -> None:
    class Hopeless(Engine):
        async def stream(self, timeout_s: float, method: str, requests: list[GenerationRequest]) -> AsyncIterator[Any]:
            for _ in requests:
                raise ActorLost("dead")
            yield []

    with pytest.raises(RolloutExhausted, match=r"the first to sample s0, were sent to 3 engine\(s\)"):
        await answered(pool(Hopeless(0)), 1, 4)


async def test_a_groups_prompt_is_made_once_and_let_go_of() -> None:
    made: list[str] = []

    async def make(one: DrivingSample) -> str:
        made.append(one.id)
        await asyncio.sleep(0)
        return f"prompt of {one.id}"

    requests = [GenerationRequest(f"{n}-{i}", sample(n), SAMPLING) for n in range(2) for i in range(3)]
    prompts = SharedPrompts(requests, make)
    found = await asyncio.gather(*(prompts.take(request.sample) for request in requests))
    assert found == ["prompt of s0"] * 3 + ["prompt of s1"] * 3
    assert made == ["s0", "s1"]
    assert len(prompts) == 0


async def test_a_prompt_that_cannot_be_made_refuses_its_whole_group_and_no_other() -> None:
    async def make(one: DrivingSample) -> str:
        if one.id == "s0":
            raise DataError("no image")
        return one.id

    requests = [GenerationRequest(f"{n}-{i}", sample(n), SAMPLING) for n in range(2) for i in range(2)]
    prompts = SharedPrompts(requests, make)
    takes = (prompts.take(request.sample) for request in requests)
    found = await asyncio.gather(*takes, return_exceptions=True)
    assert [isinstance(one, DataError) for one in found] == [True, True, False, False]


async def test_a_request_that_is_cancelled_leaves_the_prompt_to_the_others() -> None:
    go = asyncio.Event()

    async def make(one: DrivingSample) -> str:
        await go.wait()
        return one.id

    requests = [GenerationRequest(f"{i}", sample(0), SAMPLING) for i in range(2)]
    prompts = SharedPrompts(requests, make)
    first, second = (asyncio.create_task(prompts.take(request.sample)) for request in requests)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await second == "s0"


@pytest.mark.parametrize(
    ("settings", "becomes"),
    [
        ({}, "finish"),
        ({"max_staleness": 1}, "keep"),
        ({"max_staleness": 1, "in_flight": "finish"}, "finish"),
        ({"in_flight": "drop"}, "drop"),
        ({"max_staleness": 1, "backend": "transformers"}, "finish"),
    ],
)
def test_weights_wait_for_responses_unless_staleness_and_engine_let_them_be_swapped(
    settings: dict[str, Any], becomes: str
) -> None:
    recipe = Recipe.model_validate({"run": {"name": "a"}, "rollout": settings})
    assert in_flight_of(recipe, engine_of(recipe).abilities) == becomes


@pytest.mark.parametrize(
    "settings",
    [{"backend": "transformers"}, {"adapters": "apart"}],
)
def test_a_swap_that_the_engine_cannot_do_is_refused_in_one_sentence(settings: dict[str, Any]) -> None:
    given = {"run": {"name": "a"}, "rollout": {**settings, "in_flight": "keep"}}
    lora = {"policy": {"lora": {"targets": ["attention"]}}} if "adapters" in settings else {}
    with pytest.raises(ExtensionError, match=r"in_flight=keep needs .* between tokens, and rollout\.adapters=merged"):
        engine_of(Recipe.model_validate(given | lora))


def test_staleness_that_nothing_corrects_is_refused_when_the_recipe_is_read() -> None:
    keys = ["rollout.max_staleness=1", "algorithm.options.importance=none"]
    with pytest.raises(RecipeError, match=r"max_staleness=1 .*importance=none corrects for nothing: set it to"):
        load_recipe(["recipes/tiny.yaml", *keys])
    assert load_recipe(["recipes/tiny.yaml", keys[1]]).rollout.max_staleness == 0
